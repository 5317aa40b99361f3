"""Each package.json as it could last be used, kept for the next agent: what runs may outlive its file."""

import json
from contextlib import suppress
from pathlib import Path

from host_agent.domain.package import Loaded
from host_agent.domain.specifying import Unusable, parse
from muster_agent.files import write_whole
from muster_runtime import logger

log = logger(__name__)


class GoodFiles:
    """One small file for each package, in a directory of the agent's own; readable by the agent alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> dict[Path, Loaded]:
        """What was kept, by the path it had; what cannot be read is left out."""
        found = {}
        for path in sorted(self._directory.glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError, Unusable):
                kept = json.loads(path.read_bytes())
                file = Path(kept["file"])
                found[file] = parse(kept["said"].encode(), file)
        return found

    def keep(self, package: Loaded) -> None:
        """Keep what a package.json says now; a disk that is full costs the memory, not the package."""
        said = package.spec.model_dump_json(exclude_unset=True)
        content = json.dumps({"file": str(package.file), "said": said})
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path(package), content.encode(), durable=False)
        except OSError as error:
            log.error("cannot keep package.json for the next agent", package=package.name, reason=str(error))  # noqa: TRY400

    def forget(self, package: Loaded) -> None:
        """The package is gone."""
        with suppress(OSError):
            self._path(package).unlink()

    def _path(self, package: Loaded) -> Path:
        return self._directory / f"{package.name}.json"
