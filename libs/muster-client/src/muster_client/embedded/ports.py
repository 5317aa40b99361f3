"""Free loopback ports that stay the same from one start to the next, for as long as they are free."""

import socket
from collections.abc import Iterable, Mapping

LOOPBACK = "127.0.0.1"


def choose(names: Iterable[str], before: Mapping[str, int]) -> dict[str, int]:
    """A port for each name: the one it had ``before`` if that is free, else any other free one.

    All are held open until the last is chosen, so that none is given away twice.
    """
    held: list[socket.socket] = []
    try:
        kept = {name: port for name in names if (port := _hold(before.get(name, 0), held))}
        return {name: kept.get(name) or _hold(0, held, insist=True) for name in names}
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


def _hold(port: int, held: list[socket.socket], *, insist: bool = False) -> int:
    """Bind ``port`` (0: any, only when asked to insist) and return it; 0 if it is taken."""
    if port == 0 and not insist:
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
        if insist:
            raise
        return 0
    return int(probe.getsockname()[1])
