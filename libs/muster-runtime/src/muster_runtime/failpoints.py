"""Places where a test has a process killed: at exactly this point, as chance would hit it once in a year.

``MUSTER_FAILPOINT="intent-logged:kill9:3"`` ends the process with SIGKILL when it passes that point for the
third time. Without the variable a point costs a look at one name.
"""

import os
import signal
from dataclasses import dataclass

VARIABLE = "MUSTER_FAILPOINT"
OF_A_COMMAND = (
    "received",
    "intent-logged",
    "before-exec",
    "after-exec",
    "result-outboxed",
    "published",
    "acked",
    "floor",
)
"""Along the life of a command: it came, was written down, began, ended; its end was in the spool, its stream
had it, the courier knew that, the spool had forgotten it."""
OF_A_RECOVERY = ("recovery-decided", "recovery-ordered")
"""An act was written down, and its order was taken, which is not yet."""
NAMES = (*OF_A_COMMAND, *OF_A_RECOVERY)


@dataclass(slots=True)
class Failpoint:
    """Where the process is to be killed, and how often it may pass there before."""

    name: str
    left: int

    @classmethod
    def parse(cls, text: str) -> "Failpoint":
        """Read ``name:kill9[:nth]``.

        Raises:
            ValueError: it is not of this form, or there is no such point.
        """
        name, _, how = text.partition(":")
        what, _, nth = how.partition(":")
        if name not in NAMES or what != "kill9" or not (nth or "1").isdecimal():
            raise ValueError(
                f"cannot use {VARIABLE}={text!r}: give name:kill9 or name:kill9:nth, name one of "
                + ", ".join(NAMES)
            )
        return cls(name, int(nth or "1"))

    def passed(self, name: str) -> None:
        """Kill this process if it is time."""
        if name != self.name:
            return
        self.left -= 1
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


_armed = Failpoint.parse(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def reached(name: str) -> None:
    """The process is at the point ``name``."""
    if _armed is not None:
        _armed.passed(name)
