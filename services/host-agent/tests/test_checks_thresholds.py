"""What a check holds: thresholds, start period, looks that cannot tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.domain.thresholds import Standing, after
from muster_contracts.health.v1 import Health
from muster_contracts.package.specification import Check

OK, WARNING, CRITICAL, UNKNOWN = Health.OK, Health.WARNING, Health.CRITICAL, Health.UNKNOWN
LETTERS = {"o": OK, "w": WARNING, "c": CRITICAL, "u": UNKNOWN, ".": None}


def check(failures: int = 3, successes: int = 1) -> Check:
    return Check.model_validate(
        {
            "name": "port",
            "check": {"kind": "tcp", "port": 1},
            "failures": failures,
            "successes": successes,
        }
    )


def held(looks: str, check: Check, held: Health | None = None) -> str:
    """What is held after each look, a letter each; a dot: nothing yet."""
    names = {health: letter for letter, health in LETTERS.items()}
    standing, shown = Standing(held), ""
    for look in looks:
        seen = LETTERS[look.lower()]
        assert seen
        standing = after(standing, seen, check, starting=look.isupper())
        shown += names[standing.health]
    return shown


@pytest.mark.parametrize(
    ("failures", "successes", "looks", "then"),
    [
        # The first look of a check that is well counts at once, one that is ill as often as any.
        (3, 1, "o", "o"),
        (3, 1, "ccc", "..c"),
        (1, 1, "c", "c"),
        (3, 2, "oo", ".o"),
        # So many in a row have to be worse.
        (3, 1, "occoccc", "ooooooc"),
        (2, 1, "ocwc", "ooww"),
        # The mildest of those in a row is what holds: all of them are that bad.
        (3, 1, "owcw", "ooow"),
        (3, 1, "owccc", "ooowc"),
        # So many in a row have to be better, and the worst of them holds.
        (1, 3, "cooo", "ccco"),
        (1, 3, "coowo", "cccww"),
        (1, 2, "cwwoo", "ccwwo"),
        (1, 1, "cwo", "cwo"),
        # Looks that cannot tell neither count nor end a row, until there are as many as failures.
        (3, 1, "ouu", "ooo"),
        (3, 1, "ouuu", "ooou"),
        (3, 1, "ocucuc", "oooooc"),
        (1, 1, "ou", "ou"),
        (3, 1, "uuu", "..u"),
        # After that all begins anew, as at the first look.
        (3, 1, "occuuuc", "ooooouu"),
        (3, 1, "ouuuo", "ooouo"),
        (3, 1, "ouuuccc", "ooouuuc"),
        (1, 2, "uoo", "uuo"),
        # In the start period (capitals) only what is well counts.
        (1, 1, "CCC", "..."),
        (1, 1, "OCC", "ooo"),
        (2, 1, "CCc", "..."),
        (2, 1, "CCcc", "...c"),
        (2, 1, "UUu", "..."),
        (1, 2, "OCO", "..o"),
    ],
)
def test_what_is_held_after_these_looks(failures: int, successes: int, looks: str, then: str) -> None:
    assert held(looks, check(failures, successes)) == then


def test_what_was_reset_begins_as_if_nothing_was_held() -> None:
    assert held("cco", check(3, 1), held=UNKNOWN) == "uuo"
    assert held("ccc", check(3, 1), held=UNKNOWN) == "uuc"


def test_looks_that_saw_the_same_are_counted() -> None:
    standing = Standing()
    for seen, alike in ((OK, 1), (OK, 2), (CRITICAL, 1), (UNKNOWN, 1), (UNKNOWN, 2), (OK, 1)):
        standing = after(standing, seen, check())
        assert (standing.seen, standing.alike) == (seen, alike)


thresholds = st.builds(check, st.integers(1, 5), st.integers(1, 5))
seen = st.lists(st.tuples(st.sampled_from(Health), st.booleans()), max_size=60)


@given(thresholds, seen)
def test_whatever_is_held_is_what_enough_looks_in_a_row_saw_at_least_or_at_most(
    check: Check, looks: list[tuple[Health, bool]]
) -> None:
    standing = Standing()
    counted: list[Health] = []
    for look, starting in looks:
        before, standing = standing, after(standing, look, check, starting=starting)
        if not starting or look is OK:
            counted.append(look)
        if standing.health is before.health:
            continue
        assert look is OK or not starting
        told = [each for each in counted if each is not UNKNOWN]
        if standing.health is UNKNOWN:
            assert counted[-check.failures :] == [UNKNOWN] * check.failures
        elif standing.health is OK:
            assert told[-check.successes :] == [OK] * check.successes
        elif standing.health is CRITICAL:
            assert told[-check.failures :] == [CRITICAL] * check.failures
        else:
            worse, better = told[-check.failures :], told[-check.successes :]
            assert (OK not in worse and len(worse) == check.failures) or CRITICAL not in better


@given(thresholds, seen, st.sampled_from(Health))
def test_enough_looks_that_see_the_same_are_always_believed(
    check: Check, before: list[tuple[Health, bool]], last: Health
) -> None:
    standing = Standing()
    for look, starting in before:
        standing = after(standing, look, check, starting=starting)
    for _ in range(max(check.failures, check.successes)):
        standing = after(standing, last, check)
    assert standing.health is last


@given(st.lists(st.sampled_from(Health), min_size=1, max_size=30))
def test_with_thresholds_of_one_the_last_look_is_what_is_held(looks: list[Health]) -> None:
    standing = Standing()
    for look in looks:
        standing = after(standing, look, check(1, 1))
        assert standing.health is look


@given(thresholds, seen)
def test_the_row_never_grows_beyond_what_the_thresholds_ask_for(
    check: Check, looks: list[tuple[Health, bool]]
) -> None:
    standing = Standing()
    for look, starting in looks:
        standing = after(standing, look, check, starting=starting)
    assert len(standing.row) <= max(check.failures, check.successes)
