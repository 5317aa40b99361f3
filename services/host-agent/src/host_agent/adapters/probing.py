"""Signs that a package is ready."""

import asyncio
from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1")

CONNECT_SECONDS = 1.0

COARSE_SECONDS = 0.02
"""File systems stamp files by a clock that lags behind by up to a tick of the kernel's."""


class SystemProbe:
    """Tries for itself."""

    async def accepts(self, port: int) -> bool:
        """Whether somebody accepts connections on this port of loopback."""
        for host in LOOPBACK:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, writer = await asyncio.open_connection(host, port)
            except OSError:  # TimeoutError is one
                continue
            writer.transport.abort()
            return True
        return False

    def made_since(self, file: Path, at: float) -> bool:
        """Whether a file exists and is not older than ``at`` (seconds since 1970)."""
        try:
            return file.stat().st_mtime >= at - COARSE_SECONDS
        except OSError:
            return False
