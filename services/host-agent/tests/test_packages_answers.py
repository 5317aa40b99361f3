"""What a machine answers about its packages, and what its own files keep over restarts."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from packages_ground import Machine
from plain_runner import PlainRunner

from host_agent import handlers
from host_agent.adapters.configuration_files import ConfinedConfigurationFiles
from host_agent.adapters.probing import SystemProbe
from host_agent.adapters.wishes import FileWishes
from host_agent.domain.policy import Policy
from host_agent.ports import Wish
from muster_bus.bus import Bus
from muster_bus.errors import AskError
from muster_contracts.package.v1 import GetConfiguration, GetPackage, ListPackages, PackageState, ReadLog
from muster_testing.loop_time import NOON
from muster_testing.servers import free_port
from muster_testing.wait import until

Handler = Callable[[Any], Awaitable[Any]]


class Desk:
    """Asks a machine's handlers without a broker; implements as much of a bus and a policy as they need."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.policy = Policy()
        self.problem: str | None = None
        self.handlers: dict[type, Handler] = {}

    def now(self) -> Policy:
        return self.policy

    async def answer(self, kind: type, handler: Handler, *, bound_to: str) -> None:
        assert bound_to == "m1"
        self.handlers[kind] = handler

    async def open(self) -> None:
        files = ConfinedConfigurationFiles(PlainRunner())
        await handlers.listen_packages(cast("Bus", self), "m1", self.machine.packages, files, self)

    async def ask(self, kind: type, **fields: Any) -> Any:
        return await self.handlers[kind](kind(agent_id="m1", occurred_at=NOON, **fields))

    async def problem_of(self, kind: type, **fields: Any) -> tuple[str, str]:
        with pytest.raises(AskError) as refused:
            await self.ask(kind, **fields)
        return refused.value.problem.code, refused.value.problem.text


async def test_a_machine_tells_of_its_packages(tmp_path: Path) -> None:
    desk = Desk()
    path = tmp_path / "settings.yaml"
    path.write_text("port: 1\npassword: hunter2\n")
    desk.machine.files.put("web", environment={"A": "hunter2"}, configuration={"s": {"path": str(path)}})
    desk.machine.files.put("api", depends_on=["web"])
    async with desk.machine.agent():
        await desk.open()
        await until(lambda: desk.machine.state("api") is PackageState.RUNNING)
        listed = await desk.ask(ListPackages)
        assert [each.name for each in listed.packages] == ["api", "web"]
        assert listed.next is None
        detail = await desk.ask(GetPackage, package="web")
        assert (detail.command, detail.environment, detail.dependents) == (["run"], ["A"], ["api"])
        assert detail.configuration[0].size_bytes == path.stat().st_size
        assert "hunter2" not in detail.model_dump_json()
        found = await desk.ask(GetConfiguration, package="web", file="s")
        assert found.content == "port: 1\npassword: [redacted]\n"
        log = await desk.ask(ReadLog, package="web")
        assert (log.lines, log.end_offset) == (["web says hello"], 11)


async def test_what_is_not_there_is_not_found() -> None:
    desk = Desk()
    desk.machine.files.put("web")
    async with desk.machine.agent():
        await desk.open()
        for kind in (GetPackage, ReadLog):
            code, text = await desk.problem_of(kind, package="db")
            assert (code, text[:24]) == ("not-found", "cannot find package db: ")
        code, text = await desk.problem_of(GetConfiguration, package="web", file="../x")
        assert code == "not-found"
        assert "its package.json lists none" in text


async def test_a_package_that_cannot_be_used_is_told_of_all_the_same() -> None:
    desk = Desk()
    desk.machine.files.spoil("web", "cannot use /x/web/package.json: no")
    async with desk.machine.agent():
        await desk.open()
        detail = await desk.ask(GetPackage, package="web")
        assert detail.package.problem == "cannot use /x/web/package.json: no"
        assert (await desk.problem_of(ReadLog, package="web"))[0] == "invalid"


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        (ListPackages, "package.list"),
        (GetPackage, "package.get"),
        (GetConfiguration, "package.get-configuration"),
        (ReadLog, "package.read-log"),
    ],
)
async def test_the_policy_is_a_veto_over_each_question(kind: type, query: str) -> None:
    desk = Desk()
    desk.machine.files.put("web")
    asked = {"package": "web"} if kind is not ListPackages else {}
    if kind is GetConfiguration:
        asked["file"] = "a"
    async with desk.machine.agent():
        await desk.open()
        desk.policy = Policy(deny=[query])
        code, text = await desk.problem_of(kind, **asked)
        assert (code, text) == (
            "refused",
            f"cannot answer {query}: this machine's policy does not allow {query}",
        )
        desk.policy, desk.problem = Policy(allow=[]), "cannot use /etc/muster/policy.yaml: no"
        assert (await desk.problem_of(kind, **asked))[1].endswith(desk.problem)


async def test_wishes_outlive_the_agent(tmp_path: Path) -> None:
    wishes = FileWishes(tmp_path)
    assert wishes.of("web") == Wish()
    await wishes.remember({"web": Wish(wanted=False), "job": Wish(done_in="0123456789ab")})
    await wishes.remember({"db": Wish(wanted=True)})
    await wishes.remember({"job": None})
    again = FileWishes(tmp_path)
    assert [again.of(name) for name in ("web", "db", "job")] == [
        Wish(wanted=False),
        Wish(wanted=True),
        Wish(),
    ]


@pytest.mark.parametrize("damage", ["", "[]", '{"web": {}}', '{"web": 1}', "\xff"])
async def test_damaged_wishes_hold_nobody_up(tmp_path: Path, damage: str) -> None:
    (tmp_path / "packages.json").write_text(damage, encoding="latin-1")
    wishes = FileWishes(tmp_path)
    assert wishes.of("web") == Wish()
    await wishes.remember({"web": Wish(wanted=False)})
    assert FileWishes(tmp_path).of("web") == Wish(wanted=False)


async def test_what_cannot_be_kept_is_not_believed_either(tmp_path: Path) -> None:
    wishes = FileWishes(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file"):
        await wishes.remember({"web": Wish(wanted=False)})
    assert wishes.of("web") == Wish()


async def test_a_port_accepts_while_somebody_listens(tmp_path: Path) -> None:
    import asyncio

    probe, port = SystemProbe(), free_port()
    assert not await probe.accepts(port)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port):
        assert await probe.accepts(port)


def test_a_sign_from_before_the_start_is_none(tmp_path: Path) -> None:
    sign = tmp_path / "up"
    probe = SystemProbe()
    assert not probe.made_since(sign, 0)
    sign.touch()
    at = sign.stat().st_mtime
    assert probe.made_since(sign, at)
    assert not probe.made_since(sign, at + 1)
