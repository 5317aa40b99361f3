"""A corpus of ways out: none leads out of a package's directory, into a shell or to another unit (S4)."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from plain_runner import PlainRunner
from pydantic import ValidationError

from host_agent.adapters.configuration_files import ConfinedConfigurationFiles
from host_agent.domain.package import Loaded
from host_agent.domain.specifying import Unusable, parse
from host_agent.ports import CannotUse, Task
from muster_contracts.package import v1
from muster_contracts.package.specification import Specification

WAYS_OUT = [
    "../canary", "../../canary", "a/../../canary", "./../canary", "a/b/../../../canary", "..", "../",
    "../../../../../../../../etc/passwd", "..//canary", "a/..", "./..", "a/./../../canary", ".//..//canary",
    "../canary\x00.json", "ok\x00../canary", "a\n../canary", "\x00", "", "../web/../canary", "x/../../web2/y",
    "\t/canary", "\x1b[2J", "a\rb", "..\x00", "../../root/.ssh/authorized_keys",
]  # fmt: skip
INJECTIONS = [
    "$(touch pwned)", "`touch pwned`", "; touch pwned", "| touch pwned", "& touch pwned", "&& touch pwned",
    "|| touch pwned", "\ntouch pwned", "\r\ntouch pwned", "> pwned", ">> pwned", "< /etc/passwd", "$IFS",
    "${HOME}", "~root", "*", "?", "{a,b}", "'", '"', "\\", "' ; touch pwned ; '", '" ; touch pwned ; "',
    "$((1+1))", "!!", "#", "-rf", "--help", "-", "--", "%n%s", "\x1b]0;x\x07", "a b", "\t", "\u202e", "é",
    "http://x/?a=1&b=2", "@pwned", "=cmd|' /C calc'!A0", "; $(sh -c 'touch pwned')",
]  # fmt: skip
NO_NAMES = [
    "", ".", "..", "../web", "/etc/passwd", "web/../db", "web\n", "web\x00", "Web", "-web", "web.service",
    "*", ">", "web.>", "$(id)", "web web", "web;id", "w" * 64, "\u212aelvin", "web/", "%2e%2e", "..%2f",
    "wéb", "\\web", "web\r", " web", "web ", "~",
]  # fmt: skip
NO_UNITS = [
    "", "web", "web.socket", "web.service\n", "web.service;id", "../web.service", "/etc/web.service",
    "web.service web2.service", "--force.service", "-H.service", "*.service/..", "a b.service",
    "$(id).service",
    "web.service\x00", "web\n.service", "`id`.service", "web.service --now", "x" * 300 + ".service",
    "wéb.service", "web.service/../../x", "%n.service", "web|x.service", "web.service\r", "'web'.service",
    '"web".service',
]  # fmt: skip
NO_FILES = [
    "settings.json", "../settings", "/etc/passwd", "settings/../x", "settings\x00", "Settings", "settings ",
    "", ".", "..", "*", "$(id)", "settings;id", "package.json", "settings\n", "%2e%2e", "settings.previous",
    ".settings", "../package.json", "\\settings",
]  # fmt: skip

CANARY = b"untouched"


class Ground:
    """A package's directory with a canary beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "web"
        self.directory.mkdir()
        self.canary = root / "canary"
        self.canary.write_bytes(CANARY)
        self.runner = PlainRunner()
        self.files = ConfinedConfigurationFiles(self.runner)

    def loaded(self, path: str) -> Loaded:
        configuration = {"settings": {"path": path}}
        spec = Specification.model_validate({"name": "web", "command": ["x"], "configuration": configuration})
        return Loaded(spec, self.directory / "package.json", "a" * 64)

    def parsed(self, **keys: Any) -> Loaded:
        raw = json.dumps({"name": "web", "command": ["x"], **keys}).encode()
        return parse(raw, self.directory / "package.json")

    def assert_unharmed(self) -> None:
        assert self.canary.read_bytes() == CANARY
        assert not list(self.root.rglob("pwned*"))
        assert not Path("pwned").exists()


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


PLACES: dict[str, Any] = {
    "configuration": lambda way: {"configuration": {"a": {"path": way}}},
    "directory": lambda way: {"directory": way},
    "environment file": lambda way: {"environment_files": [way]},
    "secret": lambda way: {"secrets": {"A": {"file": way}}},
    "sign of readiness": lambda way: {"ready": {"file": way}},
}


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("place", PLACES)
def test_no_path_of_a_package_leads_out_of_its_directory(ground: Ground, place: str, way: str) -> None:
    with pytest.raises(Unusable):
        ground.parsed(**PLACES[place](way))


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_name_is_a_path_a_wildcard_or_an_option(ground: Ground, name: str) -> None:
    with pytest.raises(Unusable):
        ground.parsed(name=name)
    with pytest.raises(Unusable):
        ground.parsed(depends_on=[name])
    with pytest.raises(ValidationError):
        v1.StopPackage(package=name)


@pytest.mark.parametrize("unit", NO_UNITS)
def test_no_unit_is_an_option_a_path_or_two(ground: Ground, unit: str) -> None:
    with pytest.raises(Unusable):
        ground.parsed(driver="systemd", unit=unit)


@pytest.mark.parametrize(
    "image", ["", "-v", "--privileged", "a b", "a;id", "$(id)", "a\n", "../x", "/x", "a\x00"]
)
def test_no_image_is_an_option_or_a_path(ground: Ground, image: str) -> None:
    with pytest.raises(Unusable):
        ground.parsed(driver="docker", image=image)


@pytest.mark.parametrize("name", NO_FILES)
async def test_no_file_is_read_or_replaced_that_is_not_listed(ground: Ground, name: str) -> None:
    loaded = ground.loaded("settings.json")
    (ground.directory / "settings.json").write_bytes(b"1")
    (ground.directory / "package.json").write_bytes(b"2")
    with pytest.raises(CannotUse) as refused:
        await ground.files.read(loaded, name, previous=False)
    assert refused.value.reason == "not-found"
    with pytest.raises(CannotUse):
        await ground.files.replace(loaded, name, b"harm", None)
    assert (ground.directory / "settings.json").read_bytes() == b"1"
    assert (ground.directory / "package.json").read_bytes() == b"2"
    ground.assert_unharmed()


def _link(ground: Ground) -> None:
    (ground.directory / "settings.json").symlink_to(ground.canary)


def _relative_link(ground: Ground) -> None:
    (ground.directory / "settings.json").symlink_to("../canary")


def _link_to_nothing(ground: Ground) -> None:
    (ground.directory / "settings.json").symlink_to(ground.root / "pwned")


def _hard_link(ground: Ground) -> None:
    os.link(ground.canary, ground.directory / "settings.json")


def _pipe(ground: Ground) -> None:
    os.mkfifo(ground.directory / "settings.json")


def _directory(ground: Ground) -> None:
    (ground.directory / "settings.json").mkdir()


def _device(ground: Ground) -> None:
    (ground.directory / "settings.json").symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "lay", [_link, _relative_link, _link_to_nothing, _hard_link, _pipe, _directory, _device]
)
async def test_a_trap_in_place_of_the_file_is_not_stepped_into(ground: Ground, lay: Any) -> None:
    lay(ground)
    loaded = ground.loaded("settings.json")
    with pytest.raises(CannotUse):
        await ground.files.read(loaded, "settings", previous=False)
    with pytest.raises(CannotUse):
        await ground.files.replace(loaded, "settings", b"harm", None)
    assert (await ground.files.describe(loaded, "settings")).sha256 is None
    ground.assert_unharmed()


@pytest.mark.parametrize("way", ["etc/canary", "a/etc/canary", "etc/a/canary"])
async def test_a_link_on_the_way_is_not_followed(ground: Ground, way: str) -> None:
    (ground.root / "a").mkdir()
    (ground.directory / "a").mkdir()
    for place in (ground.directory, ground.directory / "a"):
        (place / "etc").symlink_to(ground.root)
    loaded = ground.loaded(way)
    with pytest.raises(CannotUse, match="symbolic link"):
        await ground.files.read(loaded, "settings", previous=False)
    with pytest.raises(CannotUse, match="symbolic link"):
        await ground.files.replace(loaded, "settings", b"harm", None)
    ground.assert_unharmed()


async def test_followed_the_same_link_would_have_done_harm(ground: Ground) -> None:
    """The twin: what an agent that opens by path would have done."""
    (ground.directory / "etc").symlink_to(ground.root)
    (ground.directory / "etc" / "canary").write_bytes(b"harm")
    assert ground.canary.read_bytes() == b"harm"


async def test_a_link_in_place_of_the_previous_version_is_replaced_and_not_followed(ground: Ground) -> None:
    loaded = ground.loaded("settings.json")
    (ground.directory / "settings.json").write_bytes(b"1")
    (ground.directory / "settings.json.previous").symlink_to(ground.canary)
    with pytest.raises(CannotUse):
        await ground.files.read(loaded, "settings", previous=True)
    await ground.files.replace(loaded, "settings", b"2", None)
    assert (ground.directory / "settings.json.previous").read_bytes() == b"1"
    ground.assert_unharmed()


async def test_a_directory_swapped_for_a_link_meanwhile_gets_nothing(ground: Ground) -> None:
    """The race: the check swaps the directory for a link to another one."""
    inside, elsewhere = ground.directory / "etc", ground.root / "elsewhere"
    inside.mkdir()
    elsewhere.mkdir()
    (inside / "settings.json").write_bytes(b"1")
    (elsewhere / "settings.json").write_bytes(CANARY)
    swap = (
        f"import os; os.rename({str(inside)!r}, {str(inside) + '2'!r}); "
        f"os.symlink({str(elsewhere)!r}, {str(inside)!r})"
    )
    configuration = {"settings": {"path": "etc/settings.json", "check": [sys.executable, "-c", swap]}}
    loaded = ground.parsed(configuration=configuration)
    await ground.files.replace(loaded, "settings", b"2", None)
    assert (elsewhere / "settings.json").read_bytes() == CANARY
    assert sorted(each.name for each in elsewhere.iterdir()) == ["settings.json"]
    assert (ground.directory / "etc2" / "settings.json").read_bytes() == b"2"


@pytest.mark.parametrize("injection", INJECTIONS)
async def test_an_argument_arrives_as_it_was_given_and_no_shell_reads_it(
    ground: Ground, injection: str
) -> None:
    argv = (sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", injection)
    said = bytearray()

    async def write(chunk: bytes) -> None:
        said.extend(chunk)

    body = v1.RunScript(script="echo", arguments=[injection])
    assert await ground.runner.run(Task((*argv[:-1], *body.arguments), ground.directory), write) == 0
    assert json.loads(said) == [injection]
    ground.assert_unharmed()


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_script_is_named_by_a_path(name: str) -> None:
    with pytest.raises(ValidationError):
        v1.RunScript(script=name)


def test_the_corpus_is_large_enough() -> None:
    cases = len(WAYS_OUT) * len(PLACES) + 2 * len(NO_NAMES) + len(NO_UNITS) + len(NO_FILES) + len(INJECTIONS)
    assert cases >= 200


def test_nothing_in_the_agent_knows_a_shell() -> None:
    import host_agent

    shell = re.compile(
        r"shell=True|create_subprocess_shell|os\.system|os\.popen|getoutput|[\"']/bin/sh|[\"']sh[\"']"
    )
    sources = Path(host_agent.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if shell.search(path.read_text())] == []
