"""Temperatures, from the kernel's hwmon tree or, where that is empty, its thermal zones."""

from contextlib import suppress
from dataclasses import dataclass

from host_agent.adapters.files import names_in, read, read_or_nothing
from muster_contracts.host.v1 import Temperature

MOST_SENSORS = 64
PLAUSIBLE = range(-100_000, 300_000)
"""Thousandths of a degree; an unconnected probe says nonsense beyond."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One file that holds a temperature, in thousandths of a degree."""

    name: str
    path: str
    high: float | None

    def read(self) -> Temperature | None:
        """What it says now; None where it is asleep or broken."""
        with suppress(OSError, ValueError):
            thousandths = int(read(self.path, 64))
            if thousandths in PLAUSIBLE:
                return Temperature(sensor=self.name, celsius=thousandths / 1000, high_celsius=self.high)
        return None


def find(sys: str = "/sys") -> list[Sensor]:
    """The sensors of this machine; looked for seldom, read often."""
    return (_of_hwmon(f"{sys}/class/hwmon") or _of_zones(f"{sys}/class/thermal"))[:MOST_SENSORS]


def _of_hwmon(tree: str) -> list[Sensor]:
    found = []
    for chip in names_in(tree):
        directory = f"{tree}/{chip}"
        name = _text(f"{directory}/name") or chip
        for file in names_in(directory):
            if file.startswith("temp") and file.endswith("_input"):
                stem = f"{directory}/{file.removesuffix('_input')}"
                label = _text(f"{stem}_label") or file.removesuffix("_input")
                found.append(Sensor(f"{name}/{label}", f"{directory}/{file}", _high(stem)))
    return found


def _of_zones(tree: str) -> list[Sensor]:
    zones = [f"{tree}/{zone}" for zone in names_in(tree) if zone.startswith("thermal_zone")]
    return [Sensor(_text(f"{zone}/type") or "zone", f"{zone}/temp", None) for zone in zones]


def _high(stem: str) -> float | None:
    text = _text(f"{stem}_max") or _text(f"{stem}_crit")
    with suppress(ValueError):
        thousandths = int(text)
        return thousandths / 1000 if thousandths in PLAUSIBLE and thousandths > 0 else None
    return None


def _text(path: str) -> str:
    return read_or_nothing(path, 256).strip()
