"""Configuration files of packages: read and replaced only where package.json says, whatever lies there.

A package's own user may write to its directory while the agent is root. So directories below it are opened
one by one without following links, everything else is done relative to the opened one, and only plain files
are touched.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from host_agent.domain.package import Loaded
from host_agent.hiding import without_secrets_of
from host_agent.ports import CannotRun, CannotUse, Replaced, ScriptRunner, Task
from muster_contracts.package.specification import Configured
from muster_contracts.package.v1 import LONGEST_CONFIGURATION, ConfigurationFile

LARGEST_BYTES = 4 << 20
"""Of a file that can be replaced: it is read as a whole, for its digest and to be kept."""

CHECK_SECONDS = 30.0
KEPT_COMPLAINT = 4096
"""Bytes of what a check prints; the last ones say what is wrong."""
SHOWN_COMPLAINT = 300
"""Characters of its last line, which are what people are told."""

PREVIOUS = ".previous"


@dataclass(frozen=True, slots=True)
class Present:
    """A file as it was found."""

    content: bytes
    status: os.stat_result

    @property
    def sha256(self) -> str:
        """Of its content."""
        return hashlib.sha256(self.content).hexdigest()


class ConfinedConfigurationFiles:
    """The configuration files that package.json lists, and no others."""

    def __init__(self, runner: ScriptRunner, *, check_seconds: float = CHECK_SECONDS) -> None:
        self._runner = runner
        self._check_seconds = check_seconds

    async def describe(self, package: Loaded, name: str) -> ConfigurationFile:
        """How a listed file is; one that cannot be used counts as missing."""
        return await asyncio.to_thread(_describe, package, name)

    async def read(self, package: Loaded, name: str, *, previous: bool) -> bytes:
        """What is in it, or in the version before; at most 32 KiB and a byte.

        Raises:
            CannotUse: there is none, or it is no plain file inside of where it should be.
        """
        return await asyncio.to_thread(_read, package, name, previous)

    async def replace(
        self, package: Loaded, name: str, content: bytes, expected_sha256: str | None
    ) -> Replaced:
        """Put this content in its place in one step; the one before is kept beside it as NAME.previous.

        Raises:
            CannotUse: it is refused, and nothing was changed.
        """
        digest = hashlib.sha256(content).hexdigest()
        with place(package, name) as where:
            present = await asyncio.to_thread(where.compare, expected_sha256)
            if present and present.sha256 == digest:
                return Replaced(digest, changed=False)
            candidate = await asyncio.to_thread(where.write, content, present)
            try:
                await self._check(package, where, candidate, content)
                # Again: a check takes its time, and somebody may have edited the file by hand meanwhile.
                present = await asyncio.to_thread(where.compare, expected_sha256)
                await asyncio.to_thread(where.put, candidate, present)
            except BaseException:
                where.remove(candidate)
                raise
        return Replaced(digest, changed=True)

    async def _check(self, package: Loaded, where: "Place", candidate: str, content: bytes) -> None:
        if not where.configured.check:
            return
        said = bytearray()

        async def write(chunk: bytes) -> None:
            said.extend(chunk)
            del said[:-KEPT_COMPLAINT]

        argv = (*where.configured.check, str(where.directory / candidate))
        try:
            async with asyncio.timeout(self._check_seconds):
                code = await self._runner.run(Task(argv, package.directory, package.spec.user), write)
        except TimeoutError:
            raise where.refusal(f"its check did not end within {self._check_seconds:g} s", "check") from None
        except CannotRun as error:
            raise where.refusal(f"its check cannot be run: {error}", "check") from None
        if code:
            # Checks quote the line they dislike, and what is said of an end is kept by the ledger.
            text = without_secrets_of(content.decode(errors="replace"), said.decode(errors="replace").strip())
            text = _last_line(text.replace(candidate, where.name))
            raise where.refusal(f"its check ended with {code}: {text}", "check")


def _last_line(text: str) -> str:
    """What a check said last, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:SHOWN_COMPLAINT] if lines else "it did not say why"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one file belongs: an open directory, and a name in it."""

    package: Loaded
    key: str
    configured: Configured
    handle: int
    directory: Path
    name: str

    def refusal(self, reason: str, code: str = "failed") -> CannotUse:
        """An error that names file and key."""
        file = self.directory / self.name
        text = f"cannot use configuration {self.key} of package {self.package.name}: {file}: {reason}"
        return CannotUse(text, code)

    def find(self, name: str, limit: int = LARGEST_BYTES) -> Present | None:
        """A plain file in the directory, or nothing.

        Raises:
            CannotUse: there is something else, or it cannot be read.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            opened = os.open(name, flags, dir_fd=self.handle)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._trouble(error) from None
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            os.close(opened)
            raise self.refusal("it is no regular file")
        with os.fdopen(opened, "rb") as file:
            if status.st_nlink != 1:
                raise self.refusal("it has other names (hard links), so it may be somebody else's file")
            return Present(file.read(limit), status)

    def compare(self, expected_sha256: str | None) -> Present | None:
        """The present file, if it is the expected one.

        Raises:
            CannotUse: it is another one, or too large.
        """
        present = self.find(self.name)
        if present and present.status.st_size > LARGEST_BYTES:
            raise self.refusal(f"it is larger than {LARGEST_BYTES >> 20} MiB")
        if expected_sha256 and (present is None or present.sha256 != expected_sha256):
            found = present.sha256 if present else "not there"
            raise self.refusal(f"it is {found}, not {expected_sha256}; look at it again", "precondition")
        return present

    def write(self, content: bytes, like: Present | None) -> str:
        """A file beside it with this content, on the disk; its name. The ending is kept: checks go by it.

        Raises:
            CannotUse: it cannot be written.
        """
        stem, dot, suffix = self.name.rpartition(".")
        mark = uuid4().hex[:12]
        name = f".{stem}.{mark}.{suffix}" if dot and stem else f".{self.name}.{mark}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            opened = os.open(name, flags, 0o600, dir_fd=self.handle)
            try:
                with os.fdopen(opened, "wb") as file:
                    self._own(opened, like)
                    file.write(content)
                    file.flush()
                    os.fsync(opened)
            except BaseException:
                self.remove(name)
                raise
        except OSError as error:
            raise self._trouble(error) from None
        return name

    def _own(self, opened: int, like: Present | None) -> None:
        """Owner first: a change of owner drops bits of the mode."""
        user = self.package.spec.user
        if like and (like.status.st_uid, like.status.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(opened, like.status.st_uid, like.status.st_gid)
        elif like is None and user and os.geteuid() == 0:
            import pwd  # noqa: PLC0415  (not on every system)

            with contextlib.suppress(KeyError):  # no such user: the package says so when it is started
                entry = pwd.getpwnam(user)
                os.fchown(opened, entry.pw_uid, entry.pw_gid)
        os.fchmod(opened, like.status.st_mode & 0o777 if like else int(self.configured.mode, 8))

    def put(self, candidate: str, present: Present | None) -> None:
        """Keep the present file as the previous one, and give its name to the candidate.

        Raises:
            CannotUse: the disk does not do it; the present file is in its place.
        """
        kept = self.write(present.content, present) if present else None
        try:
            if kept:
                os.replace(kept, self.name + PREVIOUS, src_dir_fd=self.handle, dst_dir_fd=self.handle)
            os.replace(candidate, self.name, src_dir_fd=self.handle, dst_dir_fd=self.handle)
            os.fsync(self.handle)
        except OSError as error:
            if kept:
                self.remove(kept)
            raise self._trouble(error) from None

    def remove(self, name: str) -> None:
        """Remove a file beside it, if it is still there."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self.handle)

    def _trouble(self, error: OSError) -> CannotUse:
        if error.errno == errno.ELOOP:
            return self.refusal("it is a symbolic link, which is not followed")
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        return self.refusal((error.strerror or "failed").lower(), "not-permitted" if denied else "failed")


@contextlib.contextmanager
def place(package: Loaded, key: str) -> Iterator[Place]:
    """Open the directory of a listed file.

    Raises:
        CannotUse: it is not listed, or its directory is not where it should be.
    """
    if (configured := package.spec.configuration.get(key)) is None:
        listed = ", ".join(sorted(package.spec.configuration)) or "none"
        text = f"cannot find configuration {key!r} of package {package.name}: its package.json lists {listed}"
        raise CannotUse(text, "not-found")
    path = Path(configured.path)
    try:
        handle = _directory(package.directory, path)
    except OSError as error:
        linked = error.errno in {errno.ELOOP, errno.ENOTDIR}
        reason = "is no directory, or a symbolic link" if linked else (error.strerror or "failed").lower()
        where = f"the directory of {package.path(str(path))}"
        raise CannotUse(
            f"cannot use configuration {key} of package {package.name}: {where}: {reason}"
        ) from None
    try:
        yield Place(package, key, configured, handle, package.path(str(path.parent)), path.name)
    finally:
        os.close(handle)


def _directory(home: Path, path: Path) -> int:
    """Open the directory a path is in; one that is relative is walked without following a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if path.is_absolute():
        return os.open(path.parent, flags)
    handle = os.open(home, flags)
    for part in path.parent.parts:
        try:
            if part == "..":
                raise OSError(errno.ELOOP, "leads out of the directory of package.json")
            following = os.open(part, flags | os.O_NOFOLLOW, dir_fd=handle)
        finally:
            os.close(handle)
        handle = following
    return handle


def _describe(package: Loaded, key: str) -> ConfigurationFile:
    configured = package.spec.configuration[key]
    path = str(package.path(configured.path))
    try:
        with place(package, key) as where:
            present = where.find(where.name)
            previous = where.find(where.name + PREVIOUS, 0) is not None
    except CannotUse:
        return ConfigurationFile(name=key, path=path)
    if present is None:
        return ConfigurationFile(name=key, path=path, previous=previous)
    return ConfigurationFile(
        name=key, path=path, size_bytes=present.status.st_size, sha256=present.sha256,
        modified_at=datetime.fromtimestamp(present.status.st_mtime, UTC), previous=previous,
    )  # fmt: skip


def _read(package: Loaded, key: str, previous: bool) -> bytes:
    with place(package, key) as where:
        name = where.name + PREVIOUS if previous else where.name
        if (present := where.find(name, LONGEST_CONFIGURATION + 1)) is None:
            raise where.refusal(
                "there is no version before" if previous else "it does not exist", "not-found"
            )
        return present.content
