"""What host-agent does because time has passed: sample, look whether the machine changed."""

from collections.abc import Callable, Mapping

from host_agent.domain.machine import Machine, describe
from host_agent.domain.speaker import Speaker
from host_agent.domain.vitals import CpuMeter, vitals
from host_agent.ports import Kernel, Voice
from muster_contracts.host.v1 import Vitals
from muster_runtime import Clock, Count

SAMPLES = Count("muster_host_agent_samples_total", "Samples of the vitals taken.")
DESCRIPTIONS = Count("muster_host_agent_descriptions_total", "Descriptions of the machine said.")


class Sampling:
    """Takes samples of the vitals; implements the port ``Pulse``."""

    def __init__(self, kernel: Kernel, speaker: Speaker, voice: Voice, clock: Clock) -> None:
        self._kernel = kernel
        self._speaker = speaker
        self._voice = voice
        self._clock = clock
        self._meter = CpuMeter()
        self._meter.percent(kernel.cpu(), clock.monotonic())
        self.last: Vitals | None = None
        self._taken_at = 0.0

    async def round(self) -> None:
        """Take a sample and say it."""
        await self._voice.say(self._sample())

    async def vitals(self, not_older_than_seconds: float) -> Vitals:
        """The last sample if it is young enough, else a fresh one."""
        if self.last and self._clock.monotonic() - self._taken_at <= not_older_than_seconds:
            return self.last
        return self._sample()

    def _sample(self) -> Vitals:
        reading, now = self._kernel.read(), self._clock.monotonic()
        self.last = vitals(reading, self._meter.percent(reading.cpu, now), self._speaker, self._clock.now())
        self._taken_at = now
        SAMPLES.add()
        return self.last


class Describing:
    """Says what the machine is, once at first and then whenever it or its labels have changed."""

    def __init__(
        self,
        kernel: Kernel,
        speaker: Speaker,
        voice: Voice,
        clock: Clock,
        labels: Callable[[], Mapping[str, str]],
    ) -> None:
        self._kernel = kernel
        self._speaker = speaker
        self._voice = voice
        self._clock = clock
        self._labels = labels
        self._said: tuple[Machine, dict[str, str]] | None = None

    async def round(self) -> None:
        """Say what the machine is, unless it is what was said last."""
        machine, labels = self._kernel.describe(), dict(self._labels())
        if (machine, labels) == self._said:
            return
        await self._voice.say(describe(machine, self._speaker, labels, self._clock.now()))
        self._said = machine, labels
        DESCRIPTIONS.add()
