"""Counts every process keeps, without importing prometheus_client until somebody scrapes.

A process that is never scraped (most agents) pays nothing: the exposition library costs about 3 MiB.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import CollectorRegistry


class Count:
    """A monotone count with labels, process-wide, safe from any thread.

    Args:
        name: as Prometheus shows it, ending in ``_total``.
        help: one sentence.
        labels: names of the labels; every ``add`` gives one value for each. Values must be few.
    """

    all: "list[Count]" = []  # noqa: RUF012  (the register of this process)

    def __init__(self, name: str, help: str, labels: tuple[str, ...] = ()) -> None:  # noqa: A002
        self.name, self.help, self.labels = name, help, labels
        self.values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        self._lock = threading.Lock()
        Count.all.append(self)

    def add(self, *values: str, by: float = 1) -> None:
        """Count ``by`` more under these label values."""
        with self._lock:
            self.values[values] = self.values.get(values, 0.0) + by

    def get(self, *values: str) -> float:
        """What was counted so far under these label values."""
        return self.values.get(values, 0.0)


class Gauge:
    """Figures read when somebody scrapes, from any thread; a second one of a name replaces the first.

    Args:
        name: as Prometheus shows it.
        help: one sentence.
        read: the figures now, each under its label values; ``()`` where there are no labels.
            One that raises is left out of that scrape and counted.
        labels: names of the labels.
        monotone: whether the figures only grow, so that they are shown as counters.
    """

    all: "dict[str, Gauge]" = {}  # noqa: RUF012  (the register of this process)

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002
        read: Callable[[], Mapping[tuple[str, ...], float]],
        labels: tuple[str, ...] = (),
        *,
        monotone: bool = False,
    ) -> None:
        self.name, self.help, self.read, self.labels, self.monotone = name, help, read, labels, monotone
        Gauge.all[name] = self


TASK_CRASHES = Count("muster_task_crashes_total", "Background tasks that ended with an error.", ("task",))
LOOP_STALLS = Count("muster_loop_stalls_total", "Times the event loop did not turn for over a second.")
SETTINGS_REFUSED = Count("muster_settings_refused_total", "Changed settings files that could not be used.")
LOG_LINES_MUTED = Count("muster_log_lines_muted_total", "Repeated warnings and errors that were not written.")
GAUGES_UNREADABLE = Count(
    "muster_gauges_unreadable_total", "Figures that failed while being read.", ("gauge",)
)


class _Collector:
    def describe(self) -> "Iterable[CounterMetricFamily]":
        return []  # else registering would read every gauge

    def collect(self) -> "Iterable[CounterMetricFamily | GaugeMetricFamily]":
        from prometheus_client import core  # noqa: PLC0415  (only when scraped)

        for count in list(Count.all):
            family = core.CounterMetricFamily(count.name, count.help, labels=count.labels)
            for values, number in list(count.values.items()):
                family.add_metric(list(values), number)
            yield family
        for gauge in list(Gauge.all.values()):
            kind = core.CounterMetricFamily if gauge.monotone else core.GaugeMetricFamily
            shown = kind(gauge.name, gauge.help, labels=gauge.labels)
            for values, number in _figures(gauge):
                shown.add_metric(list(values), number)
            yield shown


def _figures(gauge: Gauge) -> list[tuple[tuple[str, ...], float]]:
    """What the gauge reads now; nothing if it fails, so that the other figures are still seen."""
    try:
        return list(gauge.read().items())
    except Exception:  # noqa: BLE001  (a scrape shows what it can)
        GAUGES_UNREADABLE.add(gauge.name)
        return []


_exposed: "WeakSet[CollectorRegistry]" = WeakSet()
_exposing = threading.Lock()


def expose(registry: "CollectorRegistry | None" = None) -> "CollectorRegistry":
    """Show the counts in ``registry`` (the default one if none is given), once however often it is called."""
    from prometheus_client import REGISTRY  # noqa: PLC0415  (only when scraped)

    registry = registry or REGISTRY
    with _exposing:
        if registry not in _exposed:
            _exposed.add(registry)
            registry.register(_Collector())
    return registry
