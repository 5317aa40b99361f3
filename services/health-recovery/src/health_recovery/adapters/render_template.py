"""Renders one Jinja template: JSON in on standard input, JSON out. A program of its own; see ``templates``.

It takes its own limits before it touches the template: memory, processor time, what it writes.
"""

import contextlib
import json
import resource
import sys
import traceback
from typing import Any

MEMORY_BYTES = 512 * 1024 * 1024


def render(source: str, values: dict[str, Any], most: int) -> dict[str, Any]:
    """The text, or the error and its line."""
    from jinja2 import StrictUndefined, TemplateError  # noqa: PLC0415  (only once the limits are set)
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    pieces, size = [], 0
    try:
        for piece in environment.from_string(source).generate(values):
            pieces.append(piece)
            size += len(piece.encode())
            if size > most:
                return {"error": f"it makes more than {most} bytes"}
    except TemplateError as error:
        return {
            "error": error.message or type(error).__name__,
            "line": getattr(error, "lineno", None) or _line(error),
        }
    except MemoryError:
        return {"error": "it needs too much memory"}
    except Exception as error:  # noqa: BLE001  (whatever a template does wrong is the template's)
        return {"error": f"{type(error).__name__}: {error}"[:300], "line": _line(error)}
    return {"text": "".join(pieces)}


def _line(error: Exception) -> int | None:
    """The last line of the template that was at work."""
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == "<template>"]
    return lines[-1] if lines else None


def main() -> None:
    """Entry point."""
    asked = json.load(sys.stdin)
    seconds = int(asked["seconds"]) + 1
    for limit, most in (("CPU", seconds), ("AS", MEMORY_BYTES), ("FSIZE", 0), ("CORE", 0)):
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of memory
            resource.setrlimit(getattr(resource, f"RLIMIT_{limit}"), (most, most))
    sys.stdout.write(json.dumps(render(asked["source"], asked["values"], asked["most"])))


if __name__ == "__main__":
    main()
