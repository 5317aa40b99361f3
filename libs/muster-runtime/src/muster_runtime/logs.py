"""Logs: one JSON object per line for machines, coloured lines for a terminal, secrets in neither."""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

from muster_runtime.metrics import LOG_LINES_MUTED
from muster_runtime.secrets import redact

# structlog imports rich wherever it finds it, only for pretty tracebacks: 5 MiB that an agent cannot spare.
_hide_rich = "structlog" not in sys.modules and "rich" not in sys.modules
if _hide_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402
import structlog.stdlib  # noqa: E402

if _hide_rich:
    del sys.modules["rich"]

Event = MutableMapping[str, Any]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
REPEATS = 5
REPEATS_WINDOW_SECONDS = 10.0


def logger(name: str, **values: Any) -> structlog.stdlib.BoundLogger:
    """A logger that carries ``name`` and these values on each line."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(_logger=name, **values))


def configure_logs(
    service: str, *, level: str = "info", json: bool | None = None, stream: TextIO | None = None
) -> None:
    """Send every log line of this process, also those of the libraries, to ``stream`` (standard error).

    Args:
        service: on each line, so that lines of many processes can be told apart.
        level: debug, info, warning, error or critical; libraries are heard from warning on, unless debug.
        json: JSON lines, or lines for people; by default people are assumed where the stream is a terminal.
        stream: where to; standard error unless given.

    Raises:
        ValueError: the level is none of these.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"cannot log at level {level!r}: give one of {', '.join(LEVELS)}")
    number = LEVELS[level.lower()]
    out = stream or sys.stderr
    as_json = not out.isatty() if json is None else json
    shared = _before_rendering(service)
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, Muffler(), *shared, _renderer(as_json=as_json, out=out)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _adopt_libraries(number, shared, as_json=as_json, out=out)


class Muffler:
    """Lets a warning or error through a few times, then counts it until some time has passed.

    The last line before the silence says so (``muted_seconds``), the first one after it says how many were
    not written (``muted``). At most 512 different events are remembered.
    """

    def __init__(self, repeats: int = REPEATS, window_seconds: float = REPEATS_WINDOW_SECONDS) -> None:
        self._repeats = repeats
        self._window = window_seconds
        self._seen: OrderedDict[tuple[str, str, str], list[float]] = OrderedDict()  # started, written, muted

    def __call__(self, _: object, method: str, event: Event) -> Event:
        """Pass the event on, or drop it."""
        if LEVELS.get(method, 40) < LEVELS["warning"]:
            return event
        key = (method, str(event.get("_logger")), f"{event.get('event')}{event.get('task', '')}")
        now = time.monotonic()
        seen = self._seen.get(key)
        if seen is None or now - seen[0] >= self._window:
            muted = int(seen[2]) if seen else 0
            self._remember(key, [now, 1, 0])
            return {**event, "muted": muted} if muted else event
        seen[1] += 1
        if seen[1] > self._repeats:
            seen[2] += 1
            LOG_LINES_MUTED.add()
            raise structlog.DropEvent
        if seen[1] == self._repeats:
            return {**event, "muted_seconds": round(self._window - (now - seen[0]), 1)}
        return event

    def _remember(self, key: tuple[str, str, str], value: list[float]) -> None:
        self._seen[key] = value
        self._seen.move_to_end(key)
        if len(self._seen) > 512:
            self._seen.popitem(last=False)


def _before_rendering(service: str) -> list[structlog.typing.Processor]:
    def name_service(_: object, __: str, event: Event) -> Event:
        name = event.pop("_logger", None)
        return {"service": service, **({"logger": name} if name else {}), **event}

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        name_service,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact_event,
    ]


def _redact_event(_: object, __: str, event: Event) -> Event:
    return cast("Event", redact(event))


def _renderer(*, as_json: bool, out: TextIO) -> structlog.typing.Processor:
    if as_json:
        return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=out.isatty(), timestamp_key="at", exception_formatter=structlog.dev.plain_traceback
    )


def _adopt_libraries(
    number: int, shared: list[structlog.typing.Processor], *, as_json: bool, out: TextIO
) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(as_json=as_json, out=out),
            ],
        )
    )
    handler.set_name("muster")
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if kept.get_name() != "muster"]
    root.addHandler(handler)
    root.setLevel(number if number <= 10 or number > 30 else logging.WARNING)
