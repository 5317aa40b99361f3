"""One trace through many processes: W3C ``traceparent``, carried from what is heard to what is said.

Durable facts and asks carry it; live facts do not, for their sayers' and hearers' speed.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from secrets import token_hex

TRACEPARENT_HEADER = "traceparent"

_FORM = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
_current: ContextVar[tuple[str, str] | None] = ContextVar("muster_trace", default=None)


def trace_id() -> str | None:
    """The trace this task works within, for logs; None outside of any."""
    trace = _current.get()
    return trace[0] if trace else None


def traceparent() -> str:
    """The header for what is said now: a new span of this task's trace, or of a new trace."""
    trace, flags = _current.get() or (token_hex(16), "01")
    return f"00-{trace}-{token_hex(8)}-{flags}"


@contextlib.contextmanager
def continued(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Within this, what is said belongs to the trace that ``headers`` name, or to a new one."""
    found = _FORM.fullmatch((headers or {}).get(TRACEPARENT_HEADER, ""))
    token = _current.set((found[1], found[2]) if found else (token_hex(16), "01"))
    try:
        yield
    finally:
        _current.reset(token)
