"""Whom TLS trusts; read once and kept, for the system's authorities take 10 ms and a MiB to load."""

import asyncio
import ssl
from collections import OrderedDict
from pathlib import Path

from host_agent.domain.look import Settled, unknown

MOST_KEPT = 32

_Key = tuple[bool, Path | None, int]
_kept: OrderedDict[_Key, ssl.SSLContext] = OrderedDict()


async def context(authority: Path | None, *, verify: bool) -> ssl.SSLContext:
    """The context for a connection; a file that was changed is read again.

    Args:
        authority: certificates in PEM; None: the system's.
        verify: whether the other side's certificate has to be trusted.

    Raises:
        Settled: the file cannot be used.
    """
    try:
        key = (verify, authority, _stamp(authority) if verify else 0)
        if key not in _kept:
            _kept[key] = await asyncio.to_thread(_make, authority, verify=verify)
    except (OSError, ssl.SSLError) as error:  # an SSLError is an OSError, and says more
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise Settled(unknown("authority", f"cannot use authority_file {authority}: {why}")) from None
    _kept.move_to_end(key)
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def _stamp(authority: Path | None) -> int:
    if authority:
        return authority.stat().st_mtime_ns
    system = ssl.get_default_verify_paths().cafile
    return Path(system).stat().st_mtime_ns if system else 0


def _make(authority: Path | None, *, verify: bool) -> ssl.SSLContext:
    if verify:
        return ssl.create_default_context(cafile=authority)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made
