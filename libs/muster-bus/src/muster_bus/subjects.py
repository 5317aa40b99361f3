"""Where a contract is heard, and in which group."""

from muster_contracts.message import Delivery, Message, Subject


def wildcard(subject: Subject) -> str:
    """The subject in any version, for example ``muster.agent.*.{agent_id}.heartbeat``."""
    muster, area, _, rest = subject.split(".", 3)
    return f"{muster}.{area}.*.{rest}"


def subject_to_hear(contract: type[Message], bound_to: str | None) -> str:
    """Facts and orders in any version, so that an unknown one is noticed; an unknown ask has no listener."""
    subject = contract.SUBJECT if contract.DELIVERY is Delivery.ASK else Subject(wildcard(contract.SUBJECT))
    return subject.pattern if bound_to is None else subject.bound(bound_to)


def group_of(service: str, contract: type[Message]) -> str:
    """The queue group in which the replicas of a service share a contract.

    By contract: two versions share one wildcard subject, and the group of each has to get every message.
    """
    return f"{service}:{contract.contract()}"
