"""Identifiers that are safe as one NATS subject token."""

import re
from typing import Annotated

from pydantic import Field, StringConstraints

AGENT_ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
"""An agent id is one subject token: never a wildcard, a dot or a space (architecture, section 7)."""

AgentId = Annotated[
    str,
    StringConstraints(pattern=AGENT_ID_PATTERN),
    Field(description="The name one agent speaks and is spoken to under; at most 63 characters."),
]
ServiceName = Annotated[
    str,
    StringConstraints(pattern=AGENT_ID_PATTERN),
    Field(description="The name a service speaks under when it speaks for no agent, such as fleet-registry."),
]
GroupName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"),
    Field(description="The name of a group of agents; at most 63 characters."),
]

PackageName = Annotated[
    str,
    StringConstraints(pattern=AGENT_ID_PATTERN),
    Field(description="The name of a package on its machine; at most 63 characters.", examples=["web"]),
]
Sha256 = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
    Field(description="A SHA-256 digest in hex.", examples=["0" * 64]),
]

EPOCH_PATTERN = r"^[0-9a-f]{12}-[0-9a-f]{12}$"

Epoch = Annotated[
    str,
    StringConstraints(pattern=EPOCH_PATTERN),
    Field(
        description="One run of one agent: 12 hex digits of the machine's boot id, "
        "then its start in ms since 1970, in hex."
    ),
]
"""The first half tells two machines with one id apart; the second orders the runs on one machine."""

LABEL_KEY_PATTERN = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?$"

LabelKey = Annotated[
    str,
    StringConstraints(pattern=LABEL_KEY_PATTERN),
    Field(description="The name of a label, by the rules of Kubernetes; may have a prefix and a slash."),
]
LabelValue = Annotated[
    str,
    StringConstraints(pattern=r"^([a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?)?$"),
    Field(description="The value of a label, by the rules of Kubernetes; may be empty."),
]
"""Label keys and values follow the Kubernetes rules, so that labels carry over unchanged."""


def is_agent_id(text: str) -> bool:
    """Whether ``text`` may be an agent id; ids outside the pattern could be wildcards."""
    return re.fullmatch(AGENT_ID_PATTERN.strip("^$"), text) is not None


def make_epoch(boot_id: str, started_at_ms: int) -> str:
    """The epoch of an agent started at ``started_at_ms`` on the boot ``boot_id`` (a UUID, dashes allowed)."""
    return f"{boot_id.replace('-', '').lower()[:12]:0>12}-{started_at_ms:012x}"


def boot_of(epoch: str) -> str:
    """The machine's half of an epoch: equal for every run of an agent since the machine booted."""
    return epoch.partition("-")[0]


def start_of(epoch: str) -> int:
    """When the run that ``epoch`` names began, in milliseconds since 1970 by its own machine's clock."""
    return int(epoch.partition("-")[2], 16)
