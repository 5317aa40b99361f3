"""Putting the parts together that look after packages, for main."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from host_agent.adapters.configuration_files import ConfinedConfigurationFiles
from host_agent.adapters.good_files import GoodFiles
from host_agent.adapters.package_files import WatchedPackageFiles
from host_agent.adapters.policy_file import PolicyFile
from host_agent.adapters.probing import SystemProbe
from host_agent.adapters.wishes import FileWishes
from host_agent.checking import Checking, Limits, MakeLookAt
from host_agent.domain.attention import Sight
from host_agent.domain.speaker import Speaker
from host_agent.drivers import Drivers
from host_agent.packages import Packages
from host_agent.ports import ConfigurationFiles, Driver, Look, LookContext, ScriptRunner, Voice
from host_agent.settings import HostAgentSettings
from host_agent.verbs import Verbs
from muster_contracts.package.specification import Check
from muster_runtime import Clock


@dataclass(frozen=True, slots=True)
class Packaging:
    """Everything about packages: enter ``packages``, then ``checking``; give ``verbs`` to the obedience."""

    checking: Checking
    packages: Packages
    configurations: ConfigurationFiles
    rules: PolicyFile
    verbs: Verbs


def build(  # noqa: PLR0917  (told about everything here, once)
    settings: HostAgentSettings,
    speaker: Speaker,
    voice: Voice,
    clock: Clock,
    drivers: Mapping[str, Callable[[], Driver]],
    runner: ScriptRunner,
) -> Packaging:
    """Packages as the settings say; nothing is looked at or started before ``packages`` is entered.

    ``drivers`` are made at the first package that needs one. A package left running by an agent before is
    found by its driver.
    """
    files = WatchedPackageFiles(settings.package_dirs, GoodFiles(settings.state_dir / "packages"))
    packages = Packages(
        Drivers(drivers), files, FileWishes(settings.state_dir), SystemProbe(), speaker, voice, clock
    )
    checking = Checking(
        packages.sight, _looks(packages, runner), speaker, voice, packages.news, clock,
        Limits(settings.looks_at_once, settings.scripts_at_once, settings.most_checks),
    )  # fmt: skip
    packages.watch(checking.package_changed)
    configurations = ConfinedConfigurationFiles(runner)
    rules = PolicyFile(settings.policy_file)
    verbs = Verbs(packages, configurations, runner, rules, speaker.epoch)
    return Packaging(checking, packages, configurations, rules, verbs)


def _looks(packages: Packages, runner: ScriptRunner) -> MakeLookAt:
    def make(check: Check, sight: Sight) -> Look:
        from host_agent.adapters.looks import make_look  # noqa: PLC0415  (a machine without checks does without)

        return make_look(
            check, LookContext(sight.loaded, packages.driver(sight.loaded), lambda: sight.run, runner)
        )

    return make
