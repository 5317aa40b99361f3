"""The chain of the audit: whatever is done to its rows shows, and where."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from muster_contracts.audit.v1 import GENESIS, Anchored, AuditEntry, BrokenChain, Chain, digest, verify

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def chained(sequence: int, previous: str, actor: str = "ann@laptop") -> AuditEntry:
    entry = AuditEntry(
        sequence=sequence, at=NOON, actor=actor, action="command.submit", decision="allowed",
        subject="8c3f", detail={"verb": "package.restart"}, previous=previous, hash=GENESIS,
    )  # fmt: skip
    return entry.model_copy(update={"hash": digest(entry)})


def audit(*actors: str) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for place, actor in enumerate(actors, 1):
        entries.append(chained(place, entries[-1].hash if entries else GENESIS, actor))
    return entries


def anchor(entry: AuditEntry) -> Anchored:
    return Anchored(occurred_at=NOON, service="state-store", sequence=entry.sequence, hash=entry.hash)


WHOLE = audit("ann", "bob", "ann", "cid")


def test_a_whole_audit_is_followed_to_its_last_entry() -> None:
    chain = verify(WHOLE, [anchor(WHOLE[1]), anchor(WHOLE[3])])
    assert (chain.length, chain.hash) == (4, WHOLE[3].hash)


def test_an_audit_that_was_sent_and_read_again_is_whole() -> None:
    verify([AuditEntry.model_validate_json(entry.model_dump_json()) for entry in WHOLE])


def test_an_empty_audit_is_whole() -> None:
    assert verify([]).hash == GENESIS


def altered(entries: list[AuditEntry]) -> list[AuditEntry]:
    return [entries[0], entries[1].model_copy(update={"actor": "nobody"}), *entries[2:]]


def rehashed(entries: list[AuditEntry]) -> list[AuditEntry]:
    return [entries[0], chained(2, entries[0].hash, "nobody"), *entries[2:]]


@pytest.mark.parametrize(
    ("harm", "sequence", "why"),
    [
        (altered, 2, "its hash is not that of its contents"),
        (rehashed, 3, "not chained to the entry before it"),
        (
            lambda all_of_it: [all_of_it[0], *all_of_it[2:]],
            2,
            "missing; the next one there is has sequence 3",
        ),
        (lambda all_of_it: [*all_of_it[:2], all_of_it[3], all_of_it[2]], 3, "missing"),
        (lambda all_of_it: all_of_it[:3], 4, "missing, as are all to 4"),
        (lambda _: audit("ann", "bob", "ann", "nobody"), 4, "another hash was anchored"),
        (lambda _: [], 1, "missing"),
    ],
)
def test_what_was_done_to_the_audit_shows_and_where(
    harm: Callable[[list[AuditEntry]], list[AuditEntry]], sequence: int, why: str
) -> None:
    with pytest.raises(BrokenChain, match=why) as broken:
        verify(harm(WHOLE), [anchor(WHOLE[3])])
    assert broken.value.sequence == sequence


@pytest.mark.parametrize("harm", [lambda: WHOLE[:3], lambda: audit("ann", "bob", "ann", "nobody")])
def test_without_an_anchor_a_cut_or_rewritten_end_is_not_seen(harm: Callable[[], list[AuditEntry]]) -> None:
    """The twin: it is the anchor that tells."""
    verify(harm())


def test_two_anchors_that_contradict_each_other_are_told() -> None:
    other = chained(1, GENESIS, "nobody")
    with pytest.raises(BrokenChain, match="another hash was anchored"):
        Chain([anchor(WHOLE[0]), anchor(other)]).add(WHOLE[0])
