"""Telling which packages a machine has and what others have to know of each, whenever that changes."""

from collections.abc import Mapping
from typing import Any

from host_agent.domain.package import Loaded
from host_agent.domain.speaker import Speaker
from host_agent.news import News
from muster_contracts.package.v1 import (
    CheckKind,
    DescribedCheck,
    PackageDescribed,
    PackagesFound,
    RecoveryPolicy,
    Reliance,
)
from muster_runtime import Clock

MOST_NAMES = 900
"""Packages in one ``PackagesFound``."""


class Introducing:
    """Remembers what this run of the agent has said of its packages, and says the difference."""

    def __init__(self, speaker: Speaker, news: News, clock: Clock) -> None:
        self._speaker, self._news, self._clock = speaker, news, clock
        self._said: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, Loaded] = {}
        self._names: list[str] | None = None

    def round(self, packages: Mapping[str, Loaded | None]) -> None:
        """Tell what is new. A package that never could be used has a name and no more."""
        for name, loaded in packages.items():
            if loaded and loaded is not self._seen.get(name):
                self._seen[name] = loaded
                self._describe(name, described(loaded))
        for gone in self._said.keys() - packages.keys():
            del self._said[gone], self._seen[gone]
        names = sorted(packages)[:MOST_NAMES]
        if names != self._names:
            self._news.tell(PackagesFound(packages=names, **self._sayer()))
            self._names = names

    def _describe(self, name: str, told: dict[str, Any]) -> None:
        if told != self._said.get(name):
            self._said[name] = told
            self._news.tell(PackageDescribed(**told, **self._sayer()))

    def _sayer(self) -> dict[str, Any]:
        return {
            "agent_id": self._speaker.agent_id,
            "epoch": self._speaker.epoch,
            "occurred_at": self._clock.now(),
        }


def described(loaded: Loaded) -> dict[str, Any]:
    """What a ``PackageDescribed`` says of a package."""
    spec = loaded.spec
    return {
        "package": spec.name,
        "version": spec.version,
        "driver": spec.driver,
        "restart_policy": spec.restart.policy,
        "depends_on": spec.depends_on,
        "relies_on": [Reliance(package=each.package, where=each.where) for each in spec.relies_on],
        "recovery": RecoveryPolicy.model_validate(spec.recovery.model_dump()),
        "checks": [
            DescribedCheck(
                name=each.name,
                kind=CheckKind(each.check.kind),
                purpose=each.purpose,
                every_seconds=each.every_seconds,
            )
            for each in spec.checks
        ],
    }
