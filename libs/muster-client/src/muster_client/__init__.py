"""The SDK for controllers and consumers, and the muster command.

``from muster_client import Fleet``; the command is in ``muster_client.cli``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muster_client.fleet import Fleet

__all__ = ["Fleet"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: `muster status` needs no connection and should not wait for one's modules.
    if name == "Fleet":
        from muster_client.fleet import Fleet  # noqa: PLC0415

        return Fleet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
