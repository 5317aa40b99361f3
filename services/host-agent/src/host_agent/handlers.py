"""What host-agent does when it is asked."""

from collections.abc import Awaitable
from typing import TypeVar

from host_agent.checking import Checking
from host_agent.domain.speaker import Speaker
from host_agent.hiding import without_secrets
from host_agent.packages import Packages
from host_agent.ports import CannotRun, CannotUse, ConfigurationFiles, Pulse, Rules
from host_agent.troubles import Refused
from muster_bus.bus import Bus
from muster_bus.errors import AskError
from muster_contracts.health.v1 import CheckList, ListChecks
from muster_contracts.host.v1 import ReadVitals, Vitals
from muster_contracts.package.v1 import (
    LONGEST_CONFIGURATION,
    Configuration,
    GetConfiguration,
    GetPackage,
    ListPackages,
    LogLines,
    PackageDetail,
    PackageList,
    ReadLog,
)

FRESH_SECONDS = 1.0

T = TypeVar("T")


async def listen(bus: Bus, agent_id: str, pulse: Pulse) -> None:
    """Answer what is asked of this machine."""

    async def on_read_vitals(_: ReadVitals) -> Vitals:
        """The vitals of this machine, not older than a second."""
        return await pulse.vitals(FRESH_SECONDS)

    await bus.answer(ReadVitals, on_read_vitals, bound_to=agent_id)


async def listen_packages(
    bus: Bus, agent_id: str, packages: Packages, configurations: ConfigurationFiles, rules: Rules
) -> None:
    """Answer what is asked of this machine's packages, as far as its policy lets it."""

    def veto(query: str) -> None:
        _veto(rules, query)

    async def on_list_packages(question: ListPackages) -> PackageList:
        """Every package and how it is; policy name ``package.list``."""
        veto("package.list")
        shown, following = await packages.page(question.after)
        return PackageList(agent_id=agent_id, packages=shown, next=following)

    async def on_get_package(question: GetPackage) -> PackageDetail:
        """All that is known of one package; policy name ``package.get``."""
        veto("package.get")
        detail = await _said(packages.detail(question.package))
        files = []
        if detail.package.driver:
            loaded = packages.loaded(question.package)
            files = [
                await configurations.describe(loaded, name) for name in sorted(loaded.spec.configuration)
            ]
        return detail.model_copy(update={"configuration": files})

    async def on_get_configuration(question: GetConfiguration) -> Configuration:
        """What is in a configuration file, secrets hidden; policy name ``package.get-configuration``."""
        veto("package.get-configuration")
        return await _said(_configuration(packages, configurations, question))

    async def on_read_log(question: ReadLog) -> LogLines:
        """What a package printed; policy name ``package.read-log``."""
        veto("package.read-log")
        lines, end, more = await _said(
            packages.read_log(question.package, question.lines, question.from_offset)
        )
        return LogLines(
            agent_id=agent_id, package=question.package, lines=lines, end_offset=end, truncated=more
        )

    await bus.answer(ListPackages, on_list_packages, bound_to=agent_id)
    await bus.answer(GetPackage, on_get_package, bound_to=agent_id)
    await bus.answer(GetConfiguration, on_get_configuration, bound_to=agent_id)
    await bus.answer(ReadLog, on_read_log, bound_to=agent_id)


async def listen_checks(bus: Bus, speaker: Speaker, checking: Checking, rules: Rules) -> None:
    """Answer what is asked of this machine's health checks, as far as its policy lets it."""

    async def on_list_checks(question: ListChecks) -> CheckList:
        """Every check and what it holds; policy name ``check.list``."""
        _veto(rules, "check.list")
        shown, following = checking.page(question.package, question.after)
        return CheckList(agent_id=speaker.agent_id, epoch=speaker.epoch, checks=shown, next=following)

    await bus.answer(ListChecks, on_list_checks, bound_to=speaker.agent_id)


def _veto(rules: Rules, query: str) -> None:
    if not rules.now().allows(query):
        why = rules.problem or f"this machine's policy does not allow {query}"
        raise AskError("refused", f"cannot answer {query}: {why}")


async def _configuration(
    packages: Packages, configurations: ConfigurationFiles, question: GetConfiguration
) -> Configuration:
    package = packages.loaded(question.package)
    raw = await configurations.read(package, question.file, previous=question.previous)
    # Hidden before it is cut: a cut could part a value from the key that tells it is secret.
    content = without_secrets(raw[:LONGEST_CONFIGURATION].decode(errors="replace"))
    return Configuration(
        agent_id=question.agent_id,
        file=await configurations.describe(package, question.file),
        content=content[:LONGEST_CONFIGURATION],
        truncated=len(raw) > LONGEST_CONFIGURATION or len(content) > LONGEST_CONFIGURATION,
    )


async def _said(answer: Awaitable[T]) -> T:
    """The answer, or the problem in the words of the bus."""
    try:
        return await answer
    except (Refused, CannotRun, CannotUse) as error:
        known = error.reason in {"not-found", "invalid"}
        raise AskError(error.reason if known else "unavailable", str(error), reason=error.reason) from None
