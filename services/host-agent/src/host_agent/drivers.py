"""The drivers of this agent, by kind."""

from collections.abc import Callable, Mapping

from host_agent.domain.package import Loaded
from host_agent.ports import CannotRun, Driver


class Drivers:
    """Drivers by kind, each made when first needed: an agent without containers does not load docker."""

    def __init__(self, makers: Mapping[str, Callable[[], Driver]]) -> None:
        self._makers = makers
        self._made: dict[str, Driver] = {}

    def __call__(self, package: Loaded) -> Driver:
        """The driver of a package.

        Raises:
            CannotRun: this agent has none of this kind.
        """
        kind = package.spec.driver.value
        if kind not in self._made:
            if kind not in self._makers:
                text = f"cannot start package {package.name}: this agent has no driver {kind}"
                raise CannotRun(text, "no-driver")
            self._made[kind] = self._makers[kind]()
        return self._made[kind]
