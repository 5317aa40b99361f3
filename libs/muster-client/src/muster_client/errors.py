"""What can go wrong between a program and the fleet; every text is one sentence for a person."""

from muster_bus.errors import MusterError


class ClientError(MusterError):
    """The base of what this package raises."""


class NoFleet(ClientError):
    """Cannot reach a fleet: none is set up where it was looked for."""


class Silent(ClientError):
    """Cannot get an answer: the service that should give it does not."""


class NotFound(ClientError):
    """Cannot find what was asked for."""


class Usage(ClientError):
    """Cannot understand what was asked for."""


class Damaged(ClientError):
    """Cannot read a stream: what is kept of it is not what its digests say."""


class Incomplete(ClientError):
    """Cannot read all of a stream: the rest of it does not come."""
