"""A systemd unit, as ``systemctl show`` tells of it."""

from dataclasses import dataclass
from typing import Self

from host_agent.domain.look import Seen, critical, ok, warning
from host_agent.domain.package import Exit

SHOWN = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "ExecMainCode",
    "ExecMainStatus",
    "ExecMainStartTimestampMonotonic",
    "InvocationID",
    "ControlGroup",
    "MemoryCurrent",
    "CPUUsageNSec",
)
"""The properties that are asked for."""

CLD_EXITED = 1
"""``ExecMainCode`` of a process that ended by itself (waitid(2)); anything above it was a signal."""

COULD_NOT_BEGIN = {
    200: ("no-directory", "its WorkingDirectory= cannot be entered"),
    203: ("no-executable", "its ExecStart= cannot be executed"),
    216: ("no-user", "its Group= is not known"),
    217: ("no-user", "its User= is not known"),
}
"""Exit statuses systemd gives in place of a process that never came to be (systemd.exec(5))."""

LIVE = {"active", "activating", "reloading"}


@dataclass(frozen=True, slots=True)
class Unit:
    """What matters of one unit at one moment."""

    load: str
    """``loaded``, ``not-found``, ``masked``, ``bad-setting``, …"""
    active: str
    sub: str
    result: str
    main_pid: int
    """In the eyes of its systemd; 0 if there is none."""
    main_code: int
    main_status: int
    started_us: int
    """Microseconds since boot."""
    invocation: str
    """Drawn by systemd at each start; empty once a stopped unit is forgotten."""
    control_group: str
    memory_bytes: int | None
    cpu_seconds: float | None

    @classmethod
    def parse(cls, shown: str) -> Self:
        """From lines ``Name=value``; what systemd does not tell is zero, empty or None."""
        of = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        cpu = _count(of.get("CPUUsageNSec"))
        return cls(
            load=of.get("LoadState", ""),
            active=of.get("ActiveState", ""),
            sub=of.get("SubState", ""),
            result=of.get("Result", ""),
            main_pid=_count(of.get("MainPID")) or 0,
            main_code=_count(of.get("ExecMainCode")) or 0,
            main_status=_count(of.get("ExecMainStatus")) or 0,
            started_us=_count(of.get("ExecMainStartTimestampMonotonic")) or 0,
            invocation=of.get("InvocationID", ""),
            control_group=of.get("ControlGroup", ""),
            memory_bytes=_count(of.get("MemoryCurrent")),
            cpu_seconds=None if cpu is None else cpu / 1e9,
        )

    @property
    def goes_on(self) -> bool:
        """Whether a life of it is going on: not while systemd waits to start it again."""
        return bool(self.main_pid) or (self.active in LIVE and self.sub != "auto-restart")

    @property
    def at_rest(self) -> bool:
        """Whether nothing of it runs and nothing is about to."""
        return self.active in {"inactive", "failed"}

    @property
    def exit(self) -> Exit:
        """How its last life ended.

        systemd forgets the code of a unit that ended well, or by a signal it takes for a good end: that is 0.
        """
        if self.main_code == 0:
            return Exit(0 if self.result == "success" else None)
        return Exit(self.main_status if self.main_code == CLD_EXITED else -self.main_status)

    @property
    def health(self) -> Seen:
        """How systemd would call it."""
        state = f"{self.active} ({self.sub})"
        if self.load != "loaded":
            return critical(self.load or "not-found", f"the unit file is {self.load or 'not-found'}")
        if self.active == "failed":
            return critical("failed", f"{state}: {self.result}, {self._ending}")
        if self.sub == "auto-restart":
            return critical("auto-restart", f"{state}: it ended ({self.result}, {self._ending})")
        if self.active in {"active", "reloading"}:
            return ok(state)
        if self.active in {"activating", "deactivating"}:
            return warning(self.active, state)
        return critical(self.active or "not-found", state)

    @property
    def _ending(self) -> str:
        code = self.exit.code
        if code is None:
            return "exit code not known"
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    @property
    def could_not_begin(self) -> tuple[str, str] | None:
        """Why there was never a process of it: a reason for programs, and a text."""
        if not self.main_pid and self.main_code == CLD_EXITED:
            return COULD_NOT_BEGIN.get(self.main_status)
        return None


def _count(text: str | None) -> int | None:
    """A number; ``[not set]`` and 2^64-1 are systemd's ways to say that there is none."""
    return int(text) if text and text.isdecimal() and int(text) != (1 << 64) - 1 else None
