"""The embedded Redis: its password and its configuration."""

import os
import re
import secrets
from collections.abc import Callable

from muster_client.embedded.files import keep, put_aside
from muster_client.embedded.layout import Layout
from muster_client.embedded.ports import LOOPBACK

_PASSWORD = re.compile(r"[A-Za-z0-9_-]{20,200}")
_DATA = ("appendonly.aof", "appendonlydir", "dump.rdb")
"""What Redis keeps, up to version 6 and from 7 on."""


def password(layout: Layout) -> str:
    """The password of this fleet's Redis; empty if there is none, or none that can be used."""
    try:
        kept = layout.redis_password.read_text().strip()
    except (OSError, ValueError):
        return ""
    # Whatever else stands there might be read as another line of the configuration.
    return kept if _PASSWORD.fullmatch(kept) else ""


def ensure_password(layout: Layout, warn: Callable[[str], None]) -> str:
    """The password of this fleet's Redis; made at the first call, and anew if it was damaged.

    Raises:
        OSError: what is damaged cannot be put aside.
        CannotStart: a new one cannot be written.
    """
    if kept := password(layout):
        return kept
    if os.path.lexists(layout.redis_password):
        aside = put_aside(layout.redis_password)
        warn(f"the password of redis was damaged and made anew; the old file is now {aside}")
    keep(layout.redis_password, secrets.token_urlsafe(32))
    return password(layout)


def put_data_aside(layout: Layout, warn: Callable[[str], None]) -> bool:
    """Have Redis start empty, since it is a cache only; False if there was nothing to put aside.

    Raises:
        OSError: something cannot be renamed.
    """
    there = [path for name in _DATA if os.path.lexists(path := layout.redis / name)]
    for path in there:
        warn(f"redis could not start with its data: starts empty; they are now {put_aside(path)}")
    return bool(there)


def config(layout: Layout, port: int) -> str:
    """On loopback, with a password; a crash may cost a second of what is a cache anyway."""
    return f"""\
# Written by Muster; a change here is lost at its next start.
bind {LOOPBACK}
port {port}
protected-mode yes
requirepass {password(layout)}
dir ./
appendonly yes
appendfsync everysec
save ""
daemonize no
databases 1
maxclients 1000
"""
