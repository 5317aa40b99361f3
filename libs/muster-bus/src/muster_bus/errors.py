"""What can go wrong on the bus, each as one sentence that starts with "cannot"."""

from muster_contracts.message import Problem


class MusterError(Exception):
    """The base of every error Muster raises on purpose; its text is for people."""


class Retry(MusterError):
    """A handler cannot take the message now: bring it again ``after`` seconds (default: growing waits)."""

    def __init__(self, text: str = "cannot take the message now", *, after: float | None = None) -> None:
        super().__init__(text)
        self.after = after


class Reject(MusterError):
    """A handler can never take the message: keep it as a dead letter and go on."""


class AskError(MusterError):
    """A handler of an ask answers with a problem instead: a stable ``code`` and a text for people."""

    def __init__(self, code: str, text: str, **details: object) -> None:
        super().__init__(text)
        self.problem = Problem(code=code, text=text, details=dict(details))


class AskFailed(MusterError):
    """The ask was heard and answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem

    @property
    def code(self) -> str:
        """The problem's stable code: not-found, invalid, conflict, unavailable, internal."""
        return self.problem.code


class NoAnswer(MusterError):
    """Cannot tell what became of the ask: no answer came in time. Asking again is safe."""


class NobodyAnswers(NoAnswer):
    """Cannot ask: nobody listens for the question just now."""


class NotPermitted(MusterError):
    """Cannot use a subject: the broker's permissions of this identity do not allow it."""


class TooLarge(MusterError):
    """Cannot say a message larger than its contract allows."""


class CannotConnect(MusterError):
    """Cannot reach the broker within the time given for the first try."""


class SpoolFailed(MusterError):
    """Cannot keep a durable message: the spool's disk is full or broken."""


class SpoolFull(SpoolFailed):
    """Cannot keep a durable message: the spool has no room for it and drops nothing for it."""
