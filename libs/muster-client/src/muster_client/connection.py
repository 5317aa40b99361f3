"""Where the fleet is and who we are there: from its directory, or from the environment.

In this order: a directory that was given, ``$MUSTER_DIR``, ``$MUSTER_NATS_URL`` with
``$MUSTER_SEED_FILE``, the default directory. ``muster up`` writes ``client.json`` into the directory.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from muster_bus.settings import BusSettings
from muster_client.embedded.layout import Layout
from muster_client.errors import NoFleet

IDENTITY = "operator"
"""The role that people and programs connect as."""


def connection(directory: Path | None = None, environment: Mapping[str, str] | None = None) -> BusSettings:
    """How to connect to the fleet.

    Raises:
        NoFleet: there is none, or what says where it is cannot be read.
    """
    known = os.environ if environment is None else environment
    if directory is None and not known.get("MUSTER_DIR") and known.get("MUSTER_NATS_URL"):
        return _from_environment(known)
    return _from_directory(Layout.at(directory or _directory(known)))


def _directory(known: Mapping[str, str]) -> Path | None:
    chosen = known.get("MUSTER_DIR")
    return Path(chosen) if chosen else None


def _from_environment(known: Mapping[str, str]) -> BusSettings:
    seed = known.get("MUSTER_SEED_FILE")
    servers = [url.strip() for url in known["MUSTER_NATS_URL"].split(",")]
    for url in servers:
        _check(url)
    return BusSettings(
        servers=servers,
        identity=known.get("MUSTER_IDENTITY", IDENTITY),
        seed_file=Path(seed).expanduser() if seed else None,
    )


def _check(url: str) -> None:
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        good = parts.scheme in {"nats", "tls", "ws", "wss"} and parts.hostname and (parts.port or True)
    except ValueError:
        good = False
    if not good:
        # Named without its value: a URL may hold a password.
        raise NoFleet("cannot use $MUSTER_NATS_URL: write nats://host:port, several with commas between them")


def _from_directory(layout: Layout) -> BusSettings:
    try:
        settings = BusSettings.model_validate_json(layout.client.read_bytes())
    except FileNotFoundError:
        where = f"none is set up in {layout.root}"
        raise NoFleet(f"cannot reach a fleet: {where}; start one with: muster up") from None
    except OSError as error:
        raise NoFleet(f"cannot read {layout.client}: {error.strerror}; are you its owner?") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise NoFleet(f"cannot read {layout.client}: {first}; write it anew with: muster up") from None
    if settings.seed_file is None:
        return settings
    return settings.model_copy(update={"seed_file": layout.root / settings.seed_file})
