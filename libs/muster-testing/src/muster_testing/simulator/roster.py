"""Who the simulated agents are: names and keys derived from one secret, so that any process can make them."""

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from nacl.signing import SigningKey

from muster_bus.broker import Identity
from muster_contracts.agent.v1 import AdoptInterval, Heartbeat, Hello, Introduce, Left
from muster_contracts.message import Role

_USER = 20 << 3
"""The nkey prefix byte of a user; makes the public key start with ``U``."""


@dataclass(frozen=True)
class Member:
    """One simulated agent's name and Ed25519 key."""

    agent_id: str
    seed: bytes = field(repr=False)

    @cached_property
    def _key(self) -> SigningKey:
        return SigningKey(self.seed)

    @cached_property
    def public_key(self) -> str:
        """The key's public half as an nkey (``U…``), as the broker's configuration wants it."""
        body = bytes([_USER]) + bytes(self._key.verify_key)
        # An nkey ends in the CRC-16/XMODEM of what precedes it, low byte first.
        return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode()

    def sign(self, nonce: str) -> str:
        """The signature over the broker's nonce, as CONNECT carries it."""
        signature = self._key.sign(nonce.encode()).signature
        return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


class Roster:
    """``count`` agents called ``<prefix>-00000`` and so on, with keys derived from ``secret``."""

    def __init__(self, count: int, secret: bytes, prefix: str = "sim") -> None:
        self.prefix = prefix
        self._secret = secret
        self.members = [self._member(f"{prefix}-{number:05d}") for number in range(count)]

    @classmethod
    def fresh(cls, count: int, prefix: str = "sim") -> Self:
        """A roster with a secret of its own, for one run."""
        return cls(count, secrets.token_bytes(32), prefix)

    @classmethod
    def kept(cls, path: Path, count: int, prefix: str = "sim") -> Self:
        """A roster whose secret lives in ``path``; a missing file is made, readable by its owner only."""
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
        return cls(count, bytes.fromhex(path.read_text().strip()), prefix)

    @property
    def carrier(self) -> Member:
        """The identity under which agents share connections; the broker must let it speak for all."""
        return self._member(f"{self.prefix}-carrier")

    @property
    def public_keys(self) -> dict[str, str]:
        """Every agent's public key by its id, for the broker's configuration."""
        return {member.agent_id: member.public_key for member in self.members}

    @property
    def identities(self) -> list[Identity]:
        """Every agent as the broker's configuration is made of."""
        return [Identity(Role.AGENT, name, key) for name, key in self.public_keys.items()]

    def let_carrier_in(self, config: str) -> str:
        """The broker's configuration with the carrier added: one key that may say what any agent says.

        ``muster_bus.broker`` refuses such an identity, and rightly; only a simulated fleet may have it.
        """
        allowed = {
            "publish": [said.SUBJECT.pattern for said in (Heartbeat, Hello, Left)],
            "subscribe": ["_INBOX.*.>", AdoptInterval.SUBJECT.pattern, Introduce.SUBJECT.pattern],
        }
        user = f"{{ nkey: {self.carrier.public_key}, permissions: {json.dumps(allowed)} }}\n"
        head, users, tail = config.partition("users: [\n")
        return head + users + user + tail

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def _member(self, agent_id: str) -> Member:
        return Member(agent_id, hashlib.sha256(self._secret + agent_id.encode()).digest())
