"""What packages and scripts can be told to do by command; implements ``muster_agent.obedience.Obedient``."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from host_agent.domain.policy import Script
from host_agent.packages import Packages
from host_agent.ports import CannotRun, CannotUse, ConfigurationFiles, Rules, ScriptRunner, Task
from host_agent.troubles import Failed
from host_agent.troubles import Refused as PackageRefused
from muster_agent.obedience import Admitted, Refused, Result, Work
from muster_contracts.command.v1 import CommandState, Precondition, Terms
from muster_contracts.package import v1

BODIES: Mapping[str, type[BaseModel]] = {
    "package.start": v1.StartPackage,
    "package.stop": v1.StopPackage,
    "package.restart": v1.RestartPackage,
    "package.pause": v1.PausePackage,
    "package.resume": v1.ResumePackage,
    "package.signal": v1.SignalPackage,
    "package.apply-configuration": v1.ApplyConfiguration,
    "script.run": v1.RunScript,
}
"""Every verb there is, closed: what is not here is rejected."""

NOTHING_DONE = frozenset({"not-found", "invalid", "dependents", "state", "precondition", "policy"})
"""Reasons for which a command is rejected rather than failed: nothing was done."""


class Verbs:
    """Obeys commands about packages and scripts, as far as the machine's policy lets it."""

    def __init__(
        self,
        packages: Packages,
        configurations: ConfigurationFiles,
        runner: ScriptRunner,
        rules: Rules,
        epoch: str,
    ) -> None:
        self._packages = packages
        self._configurations = configurations
        self._runner = runner
        self._rules = rules
        self._epoch = epoch

    # Obedient -------------------------------------------------------------------------------------------

    def admit(self, terms: Terms) -> Admitted:
        """Whether a command may be obeyed at all, and in which lane.

        Raises:
            Refused: the verb is unknown, its body is malformed, or the policy does not allow it.
        """
        body = _parse(terms)
        self._veto(terms.verb)
        if isinstance(body, v1.RunScript):
            self._script(body)
            return Admitted(lane=body.lane, about=body.about)
        assert isinstance(body, v1.OnPackage)
        return Admitted(lane=body.lane, about=body.about)

    async def check(self, terms: Terms) -> None:
        """Whether it may begin now: its preconditions hold, and the policy still allows it.

        Raises:
            Refused: it may not.
        """
        body = _parse(terms)
        self._veto(terms.verb)
        wanted = terms.precondition
        if wanted.epoch and wanted.epoch != self._epoch:
            text = f"cannot begin: this is run {self._epoch} of the agent, not {wanted.epoch}"
            raise Refused(text, "precondition")
        if isinstance(body, v1.OnPackage):
            self._check_package(body.package, wanted)

    async def perform(self, work: Work) -> Result:
        """Do it; the result has the package's pid and state afterwards."""
        body = _parse(work.terms)
        try:
            if isinstance(body, v1.RunScript):
                return await self._run_script(body, work)
            assert isinstance(body, v1.OnPackage)
            more = await self._do(body, work)
        except (PackageRefused, CannotRun, CannotUse) as error:
            state = CommandState.REJECTED if error.reason in NOTHING_DONE else CommandState.FAILED
            return self._result(body, state, error.reason, str(error))
        except Failed as error:
            return self._result(
                body, CommandState.FAILED, error.reason, str(error), exit_code=error.exit_code
            )
        return self._result(body, CommandState.SUCCEEDED, "done", more=more)

    # Policy and preconditions -----------------------------------------------------------------------------

    def _veto(self, verb: str) -> None:
        if not self._rules.now().allows(verb):
            why = self._rules.problem or f"this machine's policy does not allow {verb}"
            raise Refused(f"cannot do {verb}: {why}", "policy")

    def _script(self, body: v1.RunScript) -> Script:
        script = self._rules.now().scripts.get(body.script)
        if script is None:
            raise Refused(
                f"cannot run script {body.script}: this machine's policy does not list it", "policy"
            )
        if body.arguments and not script.arguments:
            why = f"this machine's policy lets script {body.script} take no arguments; set arguments: true"
            raise Refused(f"cannot run script {body.script} with arguments: {why}", "policy")
        if any("\x00" in argument for argument in body.arguments):
            raise Refused(f"cannot run script {body.script}: an argument holds a NUL", "invalid")
        return script

    def _check_package(self, name: str, wanted: Precondition) -> None:
        try:
            state, _, version = self._packages.state(name)
        except PackageRefused as error:
            raise Refused(str(error), error.reason) from None
        if wanted.package_version is not None and wanted.package_version != version:
            text = (
                f"cannot begin: package {name} has version {version or 'none'}, not {wanted.package_version}"
            )
            raise Refused(text, "precondition")
        if wanted.package_states and state not in wanted.package_states:
            text = f"cannot begin: package {name} is {state}, not {' or '.join(wanted.package_states)}"
            raise Refused(text, "precondition")

    # Doing ------------------------------------------------------------------------------------------------

    async def _do(self, body: v1.OnPackage, work: Work) -> dict[str, Any]:
        packages = self._packages
        match body:
            case v1.StartPackage():
                await packages.start(body.package)
            case v1.StopPackage():
                await packages.stop(body.package, cascade=body.cascade)
            case v1.RestartPackage():
                await packages.restart(body.package, with_dependents=body.with_dependents)
            case v1.PausePackage():
                await packages.pause(body.package)
            case v1.ResumePackage():
                await packages.resume(body.package)
            case v1.SignalPackage():
                await packages.signal(body.package, body.signal)
            case v1.ApplyConfiguration():
                return await self._apply(body, work)
        return {}

    async def _apply(self, body: v1.ApplyConfiguration, work: Work) -> dict[str, Any]:
        """Put the file in its place, then tell the package: never before all of it is on the disk."""
        package = self._packages.loaded(body.package)
        replaced = await self._configurations.replace(
            package, body.file, body.content.encode(), body.expected_sha256
        )
        if self._packages.runs(body.package):
            if body.then == "reload":
                await self._packages.signal(body.package, package.spec.reload_signal)
            elif body.then == "restart":
                work.progress(f"restarting {body.package}")
                await self._packages.restart(body.package)
        return {"sha256": replaced.sha256, "changed": replaced.changed}

    async def _run_script(self, body: v1.RunScript, work: Work) -> Result:
        script = self._script(body)
        task = Task(
            (*script.command, *body.arguments), Path(script.directory), script.user, script.environment
        )
        limit = asyncio.timeout(script.run_seconds)
        try:
            async with limit:
                code = await self._runner.run(task, work.write)
        except TimeoutError:
            if not limit.expired():
                raise
            text = f"cannot let script {body.script} run on: its policy gives it {script.run_seconds:g} s"
            return Result(CommandState.TIMED_OUT, "run-time", text)
        if code:
            text = f"cannot call it done: script {body.script} ended with exit code {code}"
            return Result(CommandState.FAILED, "exit", text, exit_code=code)
        return Result(CommandState.SUCCEEDED, "done", exit_code=0)

    def _result(
        self,
        body: BaseModel,
        state: CommandState,
        reason: str,
        text: str = "",
        *,
        exit_code: int | None = None,
        more: dict[str, Any] | None = None,
    ) -> Result:
        result = dict(more or {})
        if isinstance(body, v1.OnPackage):
            try:
                now, pid, _ = self._packages.state(body.package)
                result |= {"pid": pid, "state": now.value}
            except PackageRefused:
                pass  # it is gone, and the text says so
        return Result(state, reason, text, exit_code=exit_code, result=result or None)


def _parse(terms: Terms) -> BaseModel:
    """The body of a command.

    Raises:
        Refused: there is no such verb, or the body is not one of its bodies.
    """
    if (kind := BODIES.get(terms.verb)) is None:
        raise Refused(f"cannot do {terms.verb!r}: this agent does not know how", "unknown-verb")
    try:
        return kind.model_validate(terms.body)
    except ValidationError as error:
        # Without the values: a configuration's content may hold secrets.
        problems = error.errors(include_url=False, include_input=False)
        where = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems[:5])
        raise Refused(f"cannot do {terms.verb}: {where}", "invalid") from None
