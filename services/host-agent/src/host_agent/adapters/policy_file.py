"""The machine's policy, followed while the agent runs."""

import os
import stat
from pathlib import Path

from pydantic import ValidationError

from host_agent.adapters.trusted_files import writers
from host_agent.domain.policy import NOTHING, Policy
from muster_runtime import logger

_UNNAMED = "<byte string>"
"""What the YAML reader calls a file of which it is given the bytes."""
LARGEST_BYTES = 1 << 20

log = logger(__name__)


class PolicyFile:
    """A YAML file with the keys of ``Policy``. Without it all is allowed, but no script is listed.

    It is looked at before each use, by one ``stat``, and as root its directory by another. One that cannot
    be used allows nothing: a veto that cannot be read might be any veto.
    """

    def __init__(self, path: Path, *, as_root: bool | None = None) -> None:
        self._path = path
        self._strict = os.geteuid() == 0 if as_root is None else as_root
        self._stamp: tuple[int, ...] | None = None
        self._policy = NOTHING
        self.problem: str | None = None
        """Why it cannot be used, and nothing is allowed."""

    def now(self) -> Policy:
        """The policy that is in force."""
        stamp = self._look()
        if stamp != self._stamp:
            self._policy, self.problem = self._read()
            self._stamp = stamp
            if self.problem:
                log.error("refusing every order and question about packages", reason=self.problem)
        return self._policy

    def _look(self) -> tuple[int, ...]:
        around = _rights(self._path.parent) if self._strict else ()
        try:
            status = self._path.stat()
        except OSError as error:
            return (error.errno or 0, *around)
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size, status.st_mode)
        return (*stamp, *around)

    def _read(self) -> tuple[Policy, str | None]:
        try:
            self._look_around(self._path)
            return _parse(self._bytes(), str(self._path)), None
        except FileNotFoundError:
            return Policy(), None
        except OSError as error:
            reason = (error.strerror or "unreadable").lower()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            reason = f"key '{'.'.join(map(str, first['loc']))}': {first['msg']}"
        except ValueError as error:
            reason = str(error)
        return NOTHING, f"cannot use {self._path}: {reason}"

    def _bytes(self) -> bytes:
        handle = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_BYTES:
            os.close(handle)
            raise ValueError("it is no regular file of at most 1 MiB")
        with os.fdopen(handle, "rb") as file:
            if self._strict:
                _trust(status, self._path, "it")
                self._look_around(self._path.resolve())
            return file.read()

    def _look_around(self, path: Path) -> None:
        """Whoever may write to its directory can take it away, and a policy that is not there allows much."""
        if self._strict:
            _trust(path.parent.stat(), path.parent, "its directory")


def _rights(directory: Path) -> tuple[int, ...]:
    """What changes whenever others are given a directory, or it is taken from them."""
    try:
        status = directory.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (status.st_mode, status.st_uid, status.st_gid)


def _trust(status: os.stat_result, where: Path, what: str) -> None:
    """Refuse what another user of the machine could have written.

    Raises:
        ValueError: it is refused.
    """
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if not sticky and (others := writers(status)):
        who, change = others
        raise ValueError(f"{who} may write to {what}; run 'chmod {change} {where}'")
    if status.st_uid not in {0, os.geteuid()}:
        raise ValueError(f"{what} belongs to user {status.st_uid}; run 'chown root {where}'")


def _parse(raw: bytes, name: str) -> Policy:
    """What a policy says; ``name`` is what errors call its file.

    Raises:
        ValueError: it is no YAML, or does not say what it should.
    """
    import yaml  # noqa: PLC0415  (agents without a policy do without)

    from muster_runtime.yaml_loading import Loader  # noqa: PLC0415

    try:
        values = yaml.load(raw, Loader)  # noqa: S506  (a safe loader that refuses repeated keys)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split()).replace(_UNNAMED, name)) from None
    return Policy.model_validate({} if values is None else values)
