"""One kind of look per file; what none of them needs at a start is loaded when first used."""

from host_agent.adapters.looks.bounded import Bounded
from host_agent.ports import Look, LookContext
from muster_contracts.package.specification import Check


def make_look(check: Check, context: LookContext) -> Look:
    """The look a check asks for, bounded by the check's timeout."""
    return Bounded(_look(check, context), check.timeout_seconds)


def _look(check: Check, context: LookContext) -> Look:
    raise NotImplementedError
