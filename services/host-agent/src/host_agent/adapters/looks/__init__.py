"""One kind of look per file. A look is kept from one time to the next, and looks once at a time."""

from host_agent.adapters.looks.bounded import Bounded, Hopeless, Staged
from host_agent.adapters.looks.grpc import GrpcLook
from host_agent.adapters.looks.native import NativeLook
from host_agent.adapters.looks.process import ProcessLook
from host_agent.adapters.looks.script import ScriptLook
from host_agent.adapters.looks.tcp import TcpLook
from host_agent.domain.look import Settled
from host_agent.ports import Look, LookContext
from muster_contracts.package.specification import (
    Check,
    GrpcCheck,
    HttpCheck,
    NativeCheck,
    ProcessCheck,
    ScriptCheck,
    TcpCheck,
)


def make_look(check: Check, context: LookContext) -> Look:
    """The look a check asks for, bounded by its timeout; one that cannot be done says so each time."""
    try:
        return Bounded(_look(check, context), check.timeout_seconds)
    except Settled as settled:
        return Hopeless(settled.seen)


def _look(check: Check, context: LookContext) -> Staged:
    match check.check:
        case HttpCheck() as http:
            from host_agent.adapters.looks.http import HttpLook  # noqa: PLC0415  (h11 and ssl, when first used)

            return HttpLook(http, context.package)
        case TcpCheck() as tcp:
            return TcpLook(tcp)
        case ProcessCheck() as process:
            return ProcessLook(process, context)
        case ScriptCheck() as script:
            return ScriptLook(script, context)
        case GrpcCheck() as grpc:
            return GrpcLook(grpc)
        case NativeCheck():
            return NativeLook(context)
