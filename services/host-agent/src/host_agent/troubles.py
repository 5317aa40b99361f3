"""What can go wrong with what is asked of packages."""

from muster_bus.errors import MusterError


class Refused(MusterError):
    """Cannot do this to a package as things are; nothing was done. ``reason`` is stable, for programs.

    Reasons: not-found, invalid, dependents, state.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class Failed(MusterError):
    """It was tried, and the package is not as it should be. ``reason`` is its state, or the driver's."""

    def __init__(self, text: str, reason: str, exit_code: int | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.exit_code = exit_code
