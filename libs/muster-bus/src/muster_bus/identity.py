"""Who speaks: an Ed25519 nkey, born on the machine that uses it and never leaving it."""

import os
import stat
from pathlib import Path
from typing import Self

import nkeys
from pydantic import SecretStr

from muster_bus.errors import MusterError


class BadSeed(MusterError):
    """Cannot use a seed file: it is missing, others may read it, or it holds no user seed (SU…)."""


class Keypair:
    """The key of one agent, service or person. Only ``public`` may be shown."""

    def __init__(self, seed: SecretStr) -> None:
        self.seed = seed
        keys = nkeys.from_seed(bytearray(seed.get_secret_value().encode()))
        self.public: str = keys.public_key.decode()
        keys.wipe()

    def __repr__(self) -> str:
        return f"Keypair({self.public})"

    @classmethod
    def generate(cls) -> Self:
        """A new key from the operating system's randomness."""
        return cls(SecretStr(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The key kept in ``path``.

        Raises:
            BadSeed: there is none, it cannot be read, or others may read it; the text never quotes the file.
        """
        try:
            with path.open() as file:
                _refuse_shared(path, os.fstat(file.fileno()))
                return cls(SecretStr(file.read().strip()))
        except (OSError, ValueError, nkeys.NkeysError) as error:
            raise BadSeed(
                f"cannot use the key in {path}: {type(error).__name__}; it should hold one seed"
            ) from None

    def save(self, path: Path) -> None:
        """Write the seed to ``path``, readable by its owner alone from the first moment, and fsync it.

        Written beside the place and renamed, so that a crash leaves the old key or the new one, never half.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self.seed.get_secret_value() + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)


def _refuse_shared(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise BadSeed(
            f"cannot use the key in {path}: its mode is {mode:04o}, others may use it: chmod 600 {path}"
        )
