"""What each identity may publish and subscribe, generated from the catalogue, one subject at a time.

An agent may say only what its role says and only under its own id, hear only its own orders and its own
inbox, and reaches nothing of ``$JS.API``: to say a durable fact takes the fact's subject and the inbox.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from muster_bus.roles import SERVICES
from muster_bus.streams import CONSUMERS, LEASES, STREAMS, Consumer, lease_subject, stream_of
from muster_bus.subjects import subject_to_hear, wildcard
from muster_contracts import catalogue
from muster_contracts.message import Delivery, Message, Role, Subject

__all__ = ["Permissions", "Special", "permissions", "wildcard"]

_AGENTS = (Role.AGENT, Role.HOST_AGENT)
_V2_ACK = "$JS.ACK.*.*"
"""nats-server may name acks with domain and account before the stream (feature flag of 2.15): allow both."""


class Special(StrEnum):
    """Identities the catalogue does not know: they look after the broker itself."""

    PROVISIONER = "provisioner"
    """Makes the streams and consumers; the only one that reaches JetStream's administration."""
    SYSTEM = "system"
    """Hears the broker's own advisories, in the account SYS."""


@dataclass(frozen=True)
class Permissions:
    """Subjects an identity may use; ``allow_responses`` lets it answer whoever asked it."""

    publish: list[str] = field(default_factory=list)
    subscribe: list[str] = field(default_factory=list)
    allow_responses: bool = False


def permissions(role: Role | Special, identity: str) -> Permissions:
    """What ``identity`` may do in ``role``; ``identity`` is an agent's id or a service's name."""
    inbox = f"_INBOX.{identity}.>"
    if role is Special.PROVISIONER:
        return Permissions(publish=["$JS.API.>"], subscribe=[inbox])
    if role is Special.SYSTEM:
        return Permissions(publish=["$SYS.REQ.>"], subscribe=["$SYS.>", inbox])
    assert isinstance(role, Role)
    heard = catalogue.heard_by(role)
    return Permissions(
        publish=_unique(_says(role, identity) + _consumes(role) + _recalls(role, heard) + _leads(role)),
        subscribe=_unique([*_hears(role, identity, heard), *_overhears(role), inbox]),
        allow_responses=any(contract.DELIVERY is Delivery.ASK for contract in heard),
    )


def _says(role: Role, identity: str) -> list[str]:
    return [_said_subject(role, identity, contract) for contract in catalogue.said_by(role)]


def _said_subject(role: Role, identity: str, contract: type[Message]) -> str:
    # Whose name stands in the subject: the sayer's own for an agent and for {service}; a service, though,
    # speaks of any agent, orders name any addressee, and a question to an agent names whom it asks.
    if role in _AGENTS or contract.SUBJECT.who == "{service}":
        return contract.SUBJECT.bound(identity)
    return contract.SUBJECT.pattern


def _hears(role: Role, identity: str, heard: list[type[Message]]) -> list[str]:
    # A service takes its durable contracts through its consumers, which deliver to its inbox.
    live = [one for one in heard if not (one.DELIVERY is Delivery.DURABLE and role in SERVICES)]
    return [subject_to_hear(one, identity if role in _AGENTS else None) for one in live]


def _overhears(role: Role) -> list[str]:
    """People may watch everything go by, in any version (``muster watch``); answers go to inboxes, unseen."""
    if role is not Role.OPERATOR:
        return []
    return [Subject(wildcard(contract.SUBJECT)).pattern for contract in catalogue.contracts()]


def _consumes(role: Role) -> list[str]:
    return [
        subject
        for consumer in CONSUMERS
        if consumer.service == role
        for subject in _consumer_subjects(consumer)
    ]


def _consumer_subjects(consumer: Consumer) -> list[str]:
    where = f"{consumer.stream}.{consumer.name}"
    return [
        f"$JS.API.CONSUMER.MSG.NEXT.{where}",
        f"$JS.API.CONSUMER.INFO.{where}",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{where}",
        f"$JS.API.STREAM.INFO.{consumer.stream}",
        f"$JS.ACK.{where}.>",
        f"{_V2_ACK}.{where}.>",
    ]


def _recalls(role: Role, heard: list[type[Message]]) -> list[str]:
    """Reading back what a stream keeps: the last of a subject, or a whole stream for who hears all of it."""
    if role in _AGENTS:
        return []
    kept = [contract for contract in heard if contract.DELIVERY is Delivery.DURABLE]
    lasts = [f"$JS.API.DIRECT.GET.{stream_of(one)}.{one.SUBJECT.pattern}" for one in kept]
    patterns = {one.SUBJECT.pattern for one in kept}
    whole = [
        f"$JS.API.DIRECT.GET.{name}" for name, subjects in STREAMS.items() if patterns.issuperset(subjects)
    ]
    return lasts + whole


def _leads(role: Role) -> list[str]:
    """A service writes and reads its own lease, and no other."""
    if role not in SERVICES:
        return []
    return [lease_subject(role), f"$JS.API.DIRECT.GET.{LEASES}.{lease_subject(role)}"]


def _unique(subjects: list[str]) -> list[str]:
    return list(dict.fromkeys(subjects))
