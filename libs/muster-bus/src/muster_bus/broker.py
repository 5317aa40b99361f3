"""The configuration of one embedded nats-server, generated: accounts, users, permissions, limits."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from muster_bus.permissions import Permissions, Special, permissions
from muster_contracts.ids import AGENT_ID_PATTERN, is_agent_id
from muster_contracts.message import Role

ACCOUNT = "MUSTER"
SYSTEM_ACCOUNT = "SYS"


@dataclass(frozen=True)
class Identity:
    """Who may connect: a role, the name it speaks under, and the public half of its key."""

    role: Role | Special
    name: str
    public_key: str


def render(
    identities: Iterable[Identity],
    *,
    port: int,
    store_dir: Path,
    monitor_port: int | None = None,
    host: str = "127.0.0.1",
    sync_always: bool = True,
    server_name: str = "muster",
    max_store_bytes: int = 8 << 30,
    extra: str = "",
) -> str:
    """The text of a nats.conf in which each identity may do exactly what the catalogue says.

    ``sync_always`` keeps every acknowledged message through a power cut and costs a factor of four.
    The greatest payload stays the server's 1 MiB.
    """
    people = list(identities)
    muster = [_user(one) for one in people if one.role is not Special.SYSTEM]
    system = [_user(one) for one in people if one.role is Special.SYSTEM]
    return f"""\
# Written by Muster; a change here is lost at its next start.
server_name: {json.dumps(server_name)}
listen: {json.dumps(f"{host}:{port}")}
{f'http: "{host}:{monitor_port}"' if monitor_port is not None else "# no monitoring port"}
jetstream {{
  store_dir: {json.dumps(str(store_dir), ensure_ascii=False)}
  sync_interval: {"always" if sync_always else "2m"}
  max_file_store: {max_store_bytes}
  max_memory_store: {512 << 20}
}}
ping_interval: "20s"
ping_max: 2
write_deadline: "5s"
max_pending: 16777216
max_connections: 20000
authorization {{ timeout: 2 }}
accounts {{
  {ACCOUNT} {{
    jetstream: enabled
    users: [
{"".join(muster)}    ]
  }}
  {SYSTEM_ACCOUNT} {{
    users: [
{"".join(system)}    ]
  }}
}}
system_account: {SYSTEM_ACCOUNT}
{extra}"""


def _user(identity: Identity) -> str:
    _refuse_borrowed_names(identity)
    allowed = permissions(identity.role, identity.name)
    return f"""\
      {{ # {identity.name}
        nkey: {identity.public_key}
        permissions: {{
          publish: {_allow(allowed.publish)}
          subscribe: {_allow(allowed.subscribe)}
{_responses(allowed)}        }}
      }}
"""


def _refuse_borrowed_names(identity: Identity) -> None:
    # An agent called like a service would share its inbox, and hear its answers.
    reserved = {*Role, *Special} - {Role.AGENT, Role.HOST_AGENT}
    if identity.role in {Role.AGENT, Role.HOST_AGENT} and identity.name in reserved:
        raise ValueError(f"cannot let the agent {identity.name!r} in: the name is a service's; rename it")
    if not is_agent_id(identity.name):
        raise ValueError(f"cannot let {identity.name!r} in: a name is {AGENT_ID_PATTERN}")


def _allow(subjects: list[str]) -> str:
    # An empty allow list would allow everything; nothing at all is said by denying all.
    return f"{{ allow: {json.dumps(subjects)} }}" if subjects else '{ deny: ">" }'


def _responses(allowed: Permissions) -> str:
    # More than one: where two subscriptions of one connection overlap, the server counts the answer twice.
    return '          allow_responses: { max: 8, expires: "1m" }\n' if allowed.allow_responses else ""
