"""What can go wrong with an embedded fleet, as sentences for the person at the keyboard."""


class FleetError(Exception):
    """The fleet could not do what was asked; the text starts with "cannot" and says what to do."""


class CannotStart(FleetError):
    """A part of the fleet, or all of it, could not be started."""


class PortTaken(CannotStart):
    """Somebody took a port between our choosing it and the server's binding it; another one may do."""


class AlreadyRunning(FleetError):
    """A supervisor already looks after this directory."""
