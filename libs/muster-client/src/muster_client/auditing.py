"""Whether the audit is whole: its chain recomputed, and held against what was anchored in the stream."""

from datetime import timedelta

from muster_client.decode import judge
from muster_client.orders import Orders
from muster_client.outputs import AuditVerdict
from muster_contracts.audit.v1 import Anchored, BrokenChain, Chain

KEPT = timedelta(days=366)
"""Anchors are not kept for longer."""


async def verify_audit(fleet: Orders) -> AuditVerdict:
    """Read every anchor, then every entry, which are at least as many; the first that is wrong is named."""
    anchors = await anchored(fleet)
    chain, read = Chain(anchors), 0
    try:
        async for entry in fleet.audit():
            read += 1
            chain.add(entry)
        chain.close()
    except BrokenChain as broken:
        return _verdict(chain, anchors, read, broken)
    return _verdict(chain, anchors, read)


async def anchored(fleet: Orders) -> list[Anchored]:
    """What the stream AUDIT vouches for, oldest first."""
    told = [judge(heard)[1] async for heard in fleet.recall(Anchored, KEPT)]
    return [one for one in told if isinstance(one, Anchored)]


def _verdict(
    chain: Chain, anchors: list[Anchored], read: int, broken: BrokenChain | None = None
) -> AuditVerdict:
    last = anchors[-1] if anchors else None
    return AuditVerdict(
        intact=broken is None,
        entries=read,
        last_hash=chain.hash if chain.length else None,
        anchored_sequence=last.sequence if last else None,
        anchored_at=last.occurred_at if last else None,
        bad_sequence=broken.sequence if broken else None,
        problem=broken.problem if broken else None,
    )
