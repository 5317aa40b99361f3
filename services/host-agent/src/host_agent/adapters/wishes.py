"""What commands have said of packages, kept in one small file."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from host_agent.ports import Wish
from muster_agent.files import write_whole
from muster_runtime import logger

log = logger(__name__)


class FileWishes:
    """Wishes in ``packages.json`` of the state directory; written whole and fsynced at each change."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "packages.json"
        self._wishes = _load(self._path)
        self._lock = asyncio.Lock()

    def of(self, name: str) -> Wish:
        """What is remembered of a package."""
        return self._wishes.get(name, Wish())

    async def remember(self, changes: Mapping[str, Wish | None]) -> None:
        """Keep these, or forget them; on the disk when this returns.

        Raises:
            OSError: it cannot be kept, and is not.
        """
        async with self._lock:
            wishes = {name: wish for name, wish in self._wishes.items() if name not in changes}
            wishes |= {name: wish for name, wish in changes.items() if wish and wish != Wish()}
            if wishes == self._wishes:
                return
            content = json.dumps({name: asdict(wish) for name, wish in sorted(wishes.items())}, indent=1)
            await asyncio.to_thread(write_whole, self._path, content.encode())
            self._wishes = wishes


def _load(path: Path) -> dict[str, Wish]:
    """What is in the file; one that is damaged is set aside and said, for nobody can repair it meanwhile."""
    try:
        found = json.loads(path.read_bytes())
        return {str(name): Wish(wish["wanted"], str(wish["done_in"])) for name, wish in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        log.exception("cannot read what packages should do: going by package.json", file=str(path))
        return {}
