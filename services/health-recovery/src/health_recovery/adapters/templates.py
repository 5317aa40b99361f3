"""Templates of channels, rendered in a process of their own, so that nothing in one can harm the service.

A template may loop for ever, ask for all memory, or write for ever: the process that renders it has little
time, little memory and little to say, no environment and no secret, and is killed when its time is over.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RENDERER = Path(__file__).with_name("render_template.py")
RENDER_SECONDS = 5.0
MOST_BYTES = 128 * 1024
"""Of what a template makes."""


class TemplateFailed(Exception):
    """The template cannot be rendered; the text says why, and in which line if that is known."""


@dataclass(frozen=True, slots=True)
class Template:
    """The source of a template, and what it is called in errors."""

    name: str
    source: str

    async def render(self, values: Mapping[str, Any], seconds: float | None = None) -> str:
        """What the template makes of ``values``.

        Raises:
            TemplateFailed: it is wrong, took too long, too much memory, or made too much.
        """
        seconds = seconds or RENDER_SECONDS
        asked = json.dumps({"source": self.source, "values": values, "seconds": seconds, "most": MOST_BYTES})
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(RENDERER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
        try:
            async with asyncio.timeout(seconds):
                said, _ = await process.communicate(asked.encode())
        except TimeoutError:
            raise TemplateFailed(f"cannot render {self.name}: it took longer than {seconds:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return self._answer(said)

    def _answer(self, said: bytes) -> str:
        try:
            answer = json.loads(said)
        except ValueError:
            text = f"cannot render {self.name}: its process ended; it needs too much memory or time"
            raise TemplateFailed(text) from None
        if "error" in answer:
            line = f", line {answer['line']}" if answer.get("line") else ""
            raise TemplateFailed(f"cannot render {self.name}{line}: {answer['error']}")
        return str(answer["text"])
