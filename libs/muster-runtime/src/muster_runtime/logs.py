"""Logs: one JSON object per line for machines, coloured lines for a terminal, secrets in neither."""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TextIO, cast

from muster_runtime.metrics import LOG_LINES_MUTED
from muster_runtime.secrets import redact

# structlog imports these wherever it finds them, for things not used here: 5 MiB that an agent cannot spare.
_hidden = {"rich", "greenlet"} - sys.modules.keys() if "structlog" not in sys.modules else set()
cast("dict[str, None]", sys.modules).update(dict.fromkeys(_hidden))  # None makes an import fail
import structlog  # noqa: E402
import structlog.stdlib  # noqa: E402

for _name in _hidden:
    del sys.modules[_name]

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


class Muffler(logging.Filter):
    """Lets a warning or error through a few times, then counts it until some time has passed.

    The last line before the silence says so (``muted_seconds``), the first one after it says how many were
    not written (``muted``). At most 512 different events are remembered. It is a processor for our own lines
    and a filter for those of the libraries.
    """

    def __init__(
        self,
        repeats: int = REPEATS,
        window_seconds: float = REPEATS_WINDOW_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._repeats, self._window, self._monotonic = repeats, window_seconds, monotonic
        self._seen: OrderedDict[tuple[str, ...], _Repeats] = OrderedDict()

    def __call__(self, _: object, method: str, event: Event) -> Event:
        """Pass the event on, perhaps with a remark, or drop it."""
        if LEVELS.get(method, 40) < LEVELS["warning"]:
            return event
        key = (method, str(event.get("_logger")), str(event.get("event")), str(event.get("task")))
        remark = self._remark(key)
        if remark is None:
            raise structlog.DropEvent
        return {**event, **remark}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line of a library is written."""
        return record.levelno < logging.WARNING or (
            self._remark((record.levelname, record.name, str(record.msg))) is not None
        )

    def _remark(self, key: tuple[str, ...]) -> dict[str, float] | None:
        """What to add to the line; ``None`` if it is not to be written."""
        now = self._monotonic()
        seen = self._seen.get(key)
        if seen is None or now - seen.since >= self._window:
            self._remember(key, _Repeats(since=now))
            return {"muted": seen.muted} if seen and seen.muted else {}
        seen.written += 1
        if seen.written > self._repeats:
            seen.muted += 1
            LOG_LINES_MUTED.add()
            return None
        left = round(self._window - (now - seen.since), 1)
        return {"muted_seconds": left} if seen.written == self._repeats else {}

    def _remember(self, key: tuple[str, ...], repeats: "_Repeats") -> None:
        self._seen[key] = repeats
        self._seen.move_to_end(key)
        if len(self._seen) > 512:
            self._seen.popitem(last=False)


@dataclass(slots=True)
class _Repeats:
    """How often one event was seen in its window."""

    since: float
    written: int = 1
    muted: int = 0


def _before_rendering(service: str | None) -> list[structlog.typing.Processor]:
    def name_service(_: object, __: str, event: Event) -> Event:
        name = event.pop("_logger", None)
        names = {"service": service, "logger": name}
        return {**{key: value for key, value in names.items() if value}, **event}

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
    handler.addFilter(Muffler())
    handler.set_name("muster")
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if kept.get_name() != "muster"]
    root.addHandler(handler)
    root.setLevel(number if number <= 10 or number > 30 else logging.WARNING)


def _until_configured() -> None:
    """Until logs are configured, lines for people go to standard error: standard output is for results."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            Muffler(),
            *_before_rendering(None),
            structlog.dev.ConsoleRenderer(
                colors=False, timestamp_key="at", exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["info"]),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


if not structlog.is_configured():
    _until_configured()
