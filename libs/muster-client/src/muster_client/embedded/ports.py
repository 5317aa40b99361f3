"""Free loopback ports that stay the same from one start to the next, for as long as they are free.

They lie below the ports the kernel gives to outgoing connections. Within those, a client that tries again
and again to reach a server that is down may be given the server's own port, connect to itself, and keep
the server from ever listening there again.
"""

import random
import socket
from collections.abc import Iterable, Mapping

LOOPBACK = "127.0.0.1"
SERVER_PORTS = range(15_000, 32_000)
"""Below the first outgoing port of Linux (32768) and of others (49152)."""
TRIES = 100


def choose(names: Iterable[str], before: Mapping[str, int]) -> dict[str, int]:
    """A port for each name: the one it had ``before`` if that is free, else any other free one.

    All are held open until the last is chosen, so that none is given away twice.
    """
    held: list[socket.socket] = []
    try:
        kept = {name: port for name in names if (port := _hold(before.get(name, 0), held))}
        return {name: kept.get(name) or _any(held) for name in names}
    finally:
        _release(held)


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` just now."""
    held: list[socket.socket] = []
    try:
        return _hold(port, held) == port
    finally:
        _release(held)


def _release(held: list[socket.socket]) -> None:
    for one in held:
        one.close()


def _any(held: list[socket.socket]) -> int:
    """A free port; random ones first, so that two who look at once seldom find the same."""
    for port in random.SystemRandom().sample(SERVER_PORTS, TRIES):
        if _hold(port, held):
            return port
    probe = socket.socket()
    held.append(probe)
    probe.bind((LOOPBACK, 0))
    return int(probe.getsockname()[1])


def _hold(port: int, held: list[socket.socket]) -> int:
    """Bind ``port`` and return it; 0 if it is taken or none."""
    if not 0 < port < 1 << 16:
        return 0
    probe = socket.socket()
    held.append(probe)
    # As servers do: a connection of the last run that lingers does not make the port taken.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((LOOPBACK, port))
        # Two sockets that only bind may share a port; one that listens has it to itself.
        probe.listen(1)
    except OSError:
        return 0
    return port
