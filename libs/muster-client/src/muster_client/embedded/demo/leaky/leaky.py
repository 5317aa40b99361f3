"""A service with a leak: from SIGUSR1 on it takes 4 MiB more each second, up to 256 MiB."""

import signal
import time

PIECE = 4 << 20
MOST = 256 << 20
leaking = False


def begin(*_: object) -> None:
    """Leak from now on."""
    global leaking  # noqa: PLW0603  (a sample should be short)
    leaking = True
    print("leaking from now on")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, begin)
    print("send me USR1, and I leak")
    taken: list[bytes] = []
    while True:
        time.sleep(1)
        if leaking and len(taken) * PIECE < MOST:
            taken.append(b"x" * PIECE)
