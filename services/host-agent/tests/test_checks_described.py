"""What a machine tells of its packages to those who judge them: which there are, and what they say."""

import pytest
from checks_ground import tcp
from packages_ground import Machine, settle

from muster_contracts.message import DurableFact
from muster_contracts.package.v1 import CheckKind, PackageDescribed, PackagesFound, Purpose

pytestmark = pytest.mark.looptime


def told(machine: Machine) -> list[str]:
    """What was told since the last time, in short."""
    facts, machine.facts = machine.facts, []
    return [_short(fact) for fact in facts if isinstance(fact, DurableFact)]


def _short(fact: DurableFact) -> str:
    if isinstance(fact, PackagesFound):
        return f"found {' '.join(fact.packages)}".rstrip()
    return f"described {fact.package}" if isinstance(fact, PackageDescribed) else "changed"


def names(told: list[str]) -> list[str]:
    """But for changes of states."""
    return [each for each in told if each != "changed"]


async def test_at_the_start_each_package_is_described_and_all_are_named() -> None:
    machine = Machine()
    machine.files.put("web")
    machine.files.put("db")
    async with machine.agent():
        await settle()
        assert names(told(machine)) == ["described db", "described web", "found db web"]
    async with machine.agent():
        await settle()
        assert names(told(machine)) == ["described db", "described web", "found db web"]


async def test_a_machine_without_packages_says_so() -> None:
    machine = Machine()
    async with machine.agent():
        await settle()
        assert told(machine) == ["found"]


async def test_everything_that_others_have_to_know_is_in_it() -> None:
    machine = Machine()
    machine.files.put(
        "web",
        version="7",
        depends_on=["db"],
        relies_on=[{"package": "store", "where": "role=db"}],
        recovery={"restarts": 5, "script": "mend"},
        restart={"policy": "on-failure"},
        checks=[tcp(purpose="readiness")],
    )
    async with machine.agent():
        await settle()
    said = next(fact for fact in machine.facts if isinstance(fact, PackageDescribed))
    assert (said.package, said.version, said.driver, said.restart_policy) == (
        "web",
        "7",
        "process",
        "on-failure",
    )
    assert said.depends_on == ["db"]
    assert [(each.package, each.where) for each in said.relies_on] == [("store", "role=db")]
    assert (said.recovery.restarts, said.recovery.script, said.recovery.enabled) == (5, "mend", True)
    check = said.checks[0]
    assert (check.name, check.kind, check.purpose) == ("port", CheckKind.TCP, Purpose.READINESS)
    assert check.every_seconds == 10


async def test_only_what_others_have_to_know_is_news() -> None:
    machine = Machine()
    machine.files.put("web")
    machine.files.put("db")
    async with machine.agent():
        await settle()
        told(machine)
        machine.files.put("web", description="new")
        await settle()
        assert told(machine) == []
        machine.files.put("web", recovery={"enabled": False})
        await settle()
        assert told(machine) == ["described web"]


async def test_packages_that_come_and_go_are_told() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent():
        await settle()
        told(machine)
        machine.files.put("db")
        await settle()
        assert names(told(machine)) == ["described db", "found db web"]
        machine.files.remove("web")
        await settle()
        assert names(told(machine)) == ["found db"]
        machine.files.put("web")
        await settle()
        assert names(told(machine)) == ["described web", "found db web"]


async def test_a_package_that_never_could_be_used_is_named_and_not_described() -> None:
    machine = Machine()
    machine.files.spoil("web")
    async with machine.agent():
        await settle()
        assert names(told(machine)) == ["found web"]
