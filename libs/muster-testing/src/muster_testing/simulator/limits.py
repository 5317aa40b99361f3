"""What a simulated fleet may not do: speak to another machine, or open more files than the process may."""

import ipaddress
import resource
from urllib.parse import urlsplit

_SPARE_FILES = 64
"""Descriptors for everything that is no agent: logs, the loop, an observer's own connections."""


class CannotSimulate(Exception):
    """The fleet cannot be simulated as asked; the text says why and what to do."""


def loopback(url: str) -> tuple[str, int]:
    """Host and port of ``url``, if it is this machine.

    Raises:
        CannotSimulate: it is any other; thousands of connections are an attack where nobody asked for them.
    """
    parts = urlsplit(url if "//" in url else f"//{url}")
    host = parts.hostname or ""
    if host == "localhost":
        return "127.0.0.1", parts.port or 4222
    try:
        inside = ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = False
    if not inside:
        name = repr(host or url)
        raise CannotSimulate(f"cannot simulate a fleet against {name}: only loopback addresses are allowed")
    return host, parts.port or 4222


def ensure_files(connections: int) -> None:
    """Make room for ``connections`` sockets, raising the soft limit if the hard one allows.

    Raises:
        CannotSimulate: the hard limit is too small.
    """
    need = connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if need <= soft or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and need > hard:
        raise CannotSimulate(
            f"cannot open {connections} connections: {need} files needed, this process may open {hard}; "
            f"raise the limit for simulator and broker (ulimit -n {need}), or simulate fewer agents"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
