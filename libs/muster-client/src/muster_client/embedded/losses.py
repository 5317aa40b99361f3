"""Streams that were here once and are gone: never made anew without a word, since what they kept is lost."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from muster_bus.streams import STREAMS
from muster_client.embedded.files import keep
from muster_client.embedded.layout import Layout


async def note(layout: Layout, js: JetStreamContext) -> None:
    """Write down which of the streams once made here are gone, before anybody makes them anew.

    Raises:
        CannotStart: it cannot be written down.
    """
    gone = [name for name in remembered(layout) if not await _is_there(js, name)]
    if gone:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        keep(layout.streams_lost, "\n".join([*_lines(layout), f"{', '.join(gone)} found missing at {at}"]))


def remember(layout: Layout) -> None:
    """Write down that every stream is there.

    Raises:
        CannotStart: it cannot be written down.
    """
    if remembered(layout) != set(STREAMS):
        keep(layout.streams_made, json.dumps(sorted(STREAMS)))


def remembered(layout: Layout) -> set[str]:
    """The streams once made here, as far as they are still wanted; all if that was written and is damaged."""
    try:
        known = json.loads(layout.streams_made.read_bytes())
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, RecursionError):
        return set(STREAMS)
    return {*STREAMS} & {*known} if _are_names(known) else set(STREAMS)


def complaint(layout: Layout) -> str:
    """Which streams were lost and when; nothing if none was, or once a person has accepted it."""
    lost = "; ".join(_lines(layout))
    return f"streams lost what they kept and were made anew: {lost}" if lost else ""


def advice(layout: Layout) -> str:
    """What to do about a loss."""
    return (
        f"muster down, restore {layout.broker} from a backup, muster up; "
        f"then, or to accept the loss, remove {layout.streams_lost}"
    )


def _lines(layout: Layout) -> Iterable[str]:
    try:
        return layout.streams_lost.read_text(errors="replace").split("\n")[:-1] or ["when is not known"]
    except FileNotFoundError:
        return []
    except OSError as error:
        return [str(error)]


def _are_names(known: object) -> bool:
    return isinstance(known, list) and all(isinstance(name, str) for name in known)


async def _is_there(js: JetStreamContext, name: str) -> bool:
    try:
        await js.stream_info(name)
    except NotFoundError:
        return False
    return True
