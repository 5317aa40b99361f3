"""What an act is ordered as, and what its end means for the ladder."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from health_recovery.domain.assessment import Assessment
from health_recovery.domain.keys import Key
from muster_contracts.command.v1 import CommandState, Precondition, Submit
from muster_contracts.health.v1 import HEALTH, LONGEST_TEXT, RecoveryAct, Step
from muster_contracts.package.v1 import RestartPackage, RunScript


@dataclass(frozen=True, slots=True)
class Terms:
    """How long an order may take."""

    begin_seconds: float = 60.0
    """An agent that gets it later does not begin: what was decided then may not be true any more."""
    start_seconds: float = 60.0
    run_seconds: float = 300.0

    @property
    def longest(self) -> timedelta:
        """After this every order has ended in the ledger."""
        return timedelta(seconds=self.begin_seconds + self.start_seconds + self.run_seconds)


@dataclass(frozen=True, slots=True)
class Ordered:
    """An act and the order it goes out as: the very same one, however often it is sent."""

    act: RecoveryAct
    submit: Submit

    @property
    def key(self) -> Key:
        """Whom it is about."""
        return Key(self.act.agent, self.act.package)


def act_of(name: UUID, seen: Assessment, step: Step, attempt: int, at: datetime) -> RecoveryAct:
    """What is done now, and why, for people."""
    why = f"{seen.reason}: {seen.text}" if seen.text else seen.reason
    return RecoveryAct(
        id=name, agent=seen.key.agent, package=seen.key.package, step=step, attempt=attempt, decided_at=at,
        why=why[:LONGEST_TEXT],
    )  # fmt: skip


def order_of(act: RecoveryAct, seen: Assessment, terms: Terms) -> Submit:
    """The order: it names what the act was decided upon, so that an agent that sees otherwise refuses."""
    return Submit(
        occurred_at=act.decided_at,
        command_id=act.id,
        idempotency_key=str(act.id),
        issuer=HEALTH,
        selector=f"id={act.agent}",
        body=_body(act, seen),
        not_after=act.decided_at + timedelta(seconds=terms.begin_seconds),
        start_seconds=terms.start_seconds,
        run_seconds=terms.run_seconds,
        precondition=Precondition(package_states=[seen.state] if seen.state else []),
    )


def _body(act: RecoveryAct, seen: Assessment) -> RestartPackage | RunScript:
    if act.step is Step.SCRIPT:
        assert seen.policy.script
        return RunScript(script=seen.policy.script, arguments=[act.package])
    return RestartPackage(package=act.package, with_dependents=act.step is Step.RESTART_WITH_DEPENDENTS)


def did_something(state: CommandState | None, reason: str | None) -> bool:
    """Whether an act that ended so counts as a rung: not if the package was not as it was thought to be.

    A machine whose policy forbids it counts: asking again would not help.
    """
    if state is None or state is CommandState.EXPIRED:
        return False
    return not (state is CommandState.REJECTED and reason == "precondition")
