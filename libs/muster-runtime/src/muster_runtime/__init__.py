"""What every Muster process shares: settings, logs, tasks, signals, health."""

from muster_runtime.clock import Clock, SystemClock
from muster_runtime.errors import ConfigurationError
from muster_runtime.garbage import collect_garbage_seldom
from muster_runtime.health import HealthServer
from muster_runtime.logs import configure_logs, logger
from muster_runtime.metrics import Count
from muster_runtime.reload import Reloader
from muster_runtime.running import Shutdown, launch, run
from muster_runtime.settings import Settings
from muster_runtime.tasks import Tasks

__all__ = [
    "Clock",
    "ConfigurationError",
    "Count",
    "HealthServer",
    "Reloader",
    "Settings",
    "Shutdown",
    "SystemClock",
    "Tasks",
    "collect_garbage_seldom",
    "configure_logs",
    "launch",
    "logger",
    "run",
]
