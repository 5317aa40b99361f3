"""The package.json files of this machine, found by looking at directories again and again (decision 6)."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from host_agent.adapters.good_files import GoodFiles
from host_agent.adapters.trusted_files import writers
from host_agent.domain.dependencies import cycles
from host_agent.domain.package import Loaded
from host_agent.domain.specifying import Unusable, name_for, parse
from host_agent.ports import Described
from muster_contracts.package.specification import HttpCheck
from muster_runtime import logger

FILE = "package.json"
LARGEST_BYTES = 256 * 1024

log = logger(__name__)

Signature = tuple[int, ...]
"""Changes whenever a file does."""


class WatchedPackageFiles:
    """Looks for ``DIRECTORY/package.json`` and ``DIRECTORY/*/package.json``; hidden directories are skipped.

    A look costs two ``stat`` for each package; a file is read only when its signature has changed. A
    directory that cannot be listed leaves all that was seen in it as it was: an unmounted disk is no order to
    stop.
    """

    def __init__(
        self, directories: Sequence[Path], memory: GoodFiles | None = None, *, as_root: bool | None = None
    ) -> None:
        self._directories = [os.path.abspath(each) for each in directories]  # noqa: PTH100  (links stay)
        self._strict = os.geteuid() == 0 if as_root is None else as_root
        self._seen: dict[str, dict[str, Signature]] = {}
        self._signatures: dict[str, Signature] = {}
        self._read: dict[Path, Loaded | str] = {}
        self._memory = memory
        self._good: dict[Path, Loaded] = memory.load() if memory else {}
        self._owners: dict[str, Path] = {}
        self._complaints: dict[str, str] = {}
        self._first = True

    def look(self) -> Mapping[str, Described] | None:
        """All that are there, by name; null if nothing has changed since the look before."""
        signatures: dict[str, Signature] = {}
        for directory in self._directories:
            signatures |= self._look_into(directory)
        if signatures == self._signatures and not self._first:
            return None
        first, self._first = self._first, False
        for file in map(Path, self._signatures.keys() - signatures.keys()):
            self._forget(file)
        for name, signature in signatures.items():
            if signature != self._signatures.get(name):
                self._take(Path(name))
        self._signatures = signatures
        return self._with_the_gone() if first else self._described()

    # Finding ------------------------------------------------------------------------------------------

    def _look_into(self, directory: str) -> dict[str, Signature]:
        """What is in a directory now; what was in it before, if it cannot be told."""
        try:
            self._seen[directory] = _signatures(directory, with_directories=self._strict)
            self._complaints.pop(directory, None)
        except OSError as error:
            self._complain(directory, error)
        return self._seen.get(directory, {})

    def _complain(self, directory: str, error: OSError) -> None:
        """Say once why a directory cannot be listed; one that was never there is none of our business."""
        text = error.strerror or "unreadable"
        if self._complaints.get(directory) == text:
            return
        self._complaints[directory] = text
        if self._seen.get(directory) or not isinstance(error, FileNotFoundError):
            log.error("cannot look for packages: keeping what is known", directory=directory, reason=text)

    def _with_the_gone(self) -> dict[str, Described]:
        """With what was removed while no agent looked: it may run, and has to be found to be stopped."""
        found = self._described()
        for file, good in list(self._good.items()):
            if str(file) in self._signatures:
                continue
            if good.name not in found:
                found[good.name] = Described(good.name, file, good, f"cannot use {file}: it is gone")
                self._first = True  # the next look tells that it is not there
            self._forget(file)
        return found

    def _forget(self, file: Path) -> None:
        self._read.pop(file, None)
        good = self._good.pop(file, None)
        named_elsewhere = good and any(other.name == good.name for other in self._good.values())
        if good and self._memory and not named_elsewhere:
            self._memory.forget(good)

    # Reading ------------------------------------------------------------------------------------------

    def _take(self, file: Path) -> None:
        try:
            loaded = parse(self._bytes(file), file)
            _search_by(loaded)
        except Unusable as error:
            self._read[file] = str(error)
        except OSError as error:
            self._read[file] = f"cannot use {file}: {(error.strerror or 'unreadable').lower()}"
        else:
            if self._memory and self._good.get(file) != loaded:
                self._memory.keep(loaded)
            self._read[file] = self._good[file] = loaded

    def _bytes(self, file: Path) -> bytes:
        """What is in a file, if it is one to trust.

        Raises:
            OSError: it cannot be read.
            Unusable: it is not to be trusted, or no plain file.
        """
        # Without O_NONBLOCK a named pipe of this name would hold up the agent for ever.
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise Unusable(f"cannot use {file}: it is no regular file")
        with os.fdopen(handle, "rb") as opened:
            if status.st_size > LARGEST_BYTES:
                raise Unusable(f"cannot use {file}: it is larger than {LARGEST_BYTES >> 10} KiB")
            if self._strict:
                _trust(file, status)
            return opened.read(LARGEST_BYTES)

    # Naming -------------------------------------------------------------------------------------------

    def _described(self) -> dict[str, Described]:
        """Each file by the name of its package; whoever had a name before keeps it."""
        found: dict[str, Described] = {}
        owners = set(self._owners.values())
        files = map(Path, self._signatures)
        for file in sorted(files, key=lambda each: (each not in owners, str(each))):
            read = self._read[file]
            if isinstance(read, str):
                self._unusable(found, file, read)
            elif other := found.get(read.name):
                text = f"cannot use {file}: key 'name': {read.name} is the name of {other.file}, too"
                self._unusable(found, file, text, known=False)
            else:
                found[read.name] = Described(read.name, file, read)
        self._owners = {name: each.file for name, each in found.items() if each.loaded}
        return _without_cycles(found)

    def _unusable(self, found: dict[str, Described], file: Path, problem: str, *, known: bool = True) -> None:
        good = self._good.get(file) if known else None
        if good and good.name not in found:
            found[good.name] = Described(good.name, file, good, problem)
            return
        name = _free(name_for(file.parent.name), found.keys() | {each.name for each in self._good.values()})
        found[name] = Described(name, file, None, problem)


def _search_by(loaded: Loaded) -> None:
    """Refuse patterns that no look could search by.

    Raises:
        Unusable: one of them is none.
    """
    for number, each in enumerate(loaded.spec.checks):
        if isinstance(each.check, HttpCheck) and each.check.body_matches is not None:
            from host_agent.adapters.looks.patterns import problem_of  # noqa: PLC0415  (2 MiB)

            if problem := problem_of(each.check.body_matches):
                key = f"checks.{number}.check.http.body_matches"
                raise Unusable(f"cannot use {loaded.file}: key '{key}': {problem}")


def _signatures(directory: str, *, with_directories: bool) -> dict[str, Signature]:
    """Each package.json and what changes whenever it does. No path objects: this is done twice a second.

    Raises:
        OSError: the directory cannot be listed.
    """
    found = {}
    for name in os.listdir(directory):  # noqa: PTH208
        if name.startswith("."):
            continue
        file = f"{directory}/{name}" if name == FILE else f"{directory}/{name}/{FILE}"
        if signature := _signature(file):
            found[file] = signature
            if with_directories:
                status = os.stat(os.path.dirname(file))  # noqa: PTH116, PTH120
                found[file] += (status.st_mode, status.st_uid, status.st_gid)
    return found


def _signature(file: str) -> Signature | None:
    try:
        status = os.stat(file)  # noqa: PTH116
    except OSError as error:
        # A link that leads nowhere is a mistake, not an absence.
        return (error.errno or 0,) if os.path.lexists(file) else None
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size, status.st_mode)


def _trust(file: Path, status: os.stat_result) -> None:
    """Refuse what another user of the machine could have written: root would run it."""
    _owned(file, file, status)
    if others := writers(status):
        who, change = others
        raise Unusable(f"cannot use {file}: {who} may write to it; run 'chmod {change} {file}'")
    for directory in {file.parent, file.resolve().parent, file.parent.parent}:
        found = directory.stat()
        if directory != file.parent.parent:
            _owned(file, directory, found)
        sticky = found.st_mode & stat.S_ISVTX and directory == file.parent.parent
        if not sticky and (others := writers(found)):
            who, change = others
            text = f"cannot use {file}: {who} may write to its directory {directory}"
            raise Unusable(f"{text}; run 'chmod {change} {directory}'")


def _owned(file: Path, where: Path, status: os.stat_result) -> None:
    if status.st_uid not in {0, os.geteuid()}:
        text = f"cannot use {file}: {where} belongs to user {status.st_uid}, who could have root run anything"
        raise Unusable(f"{text}; run 'chown root {where}'")


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number if it is taken."""
    names = (name if number == 1 else f"{name[:58]}-{number}" for number in range(1, len(taken) + 3))
    return next(each for each in names if each not in taken)


def _without_cycles(found: dict[str, Described]) -> dict[str, Described]:
    """Whoever would wait for itself for ever is refused, by the name of the whole round."""
    graph = {name: each.loaded.spec.depends_on for name, each in found.items() if each.loaded}
    for name, cycle in cycles(graph).items():
        each = found[name]
        problem = each.problem or f"cannot use {each.file}: key 'depends_on': {cycle} goes round in a circle"
        found[name] = replace(each, problem=problem)
    return found
