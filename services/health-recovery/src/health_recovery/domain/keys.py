"""What is judged: one package on one machine."""

from dataclasses import dataclass
from typing import Self

from muster_contracts.health.v1 import PackageRef


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names one package; keys sort by agent, then by package."""

    agent: str
    package: str

    def __str__(self) -> str:
        """``web@web-1``."""
        return f"{self.package}@{self.agent}"

    @property
    def ref(self) -> PackageRef:
        """The same as messages name it."""
        return PackageRef(agent=self.agent, package=self.package)

    @classmethod
    def of(cls, ref: PackageRef) -> Self:
        """What a message names."""
        return cls(ref.agent, ref.package)
