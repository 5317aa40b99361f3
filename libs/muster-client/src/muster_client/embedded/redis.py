"""The embedded Redis: its password and its configuration."""

import secrets

from muster_client.embedded.files import keep
from muster_client.embedded.layout import Layout
from muster_client.embedded.ports import LOOPBACK


def password(layout: Layout) -> str:
    """The password of this fleet's Redis; made once."""
    if not layout.redis_password.exists():
        keep(layout.redis_password, secrets.token_urlsafe(32))
    return layout.redis_password.read_text().strip()


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
