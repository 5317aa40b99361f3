"""Configuration files: replaced in one step or not at all, the one before kept, secrets hidden."""

import asyncio
import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from plain_runner import PlainRunner

from host_agent.adapters.configuration_files import ConfinedConfigurationFiles
from host_agent.domain.package import Loaded
from host_agent.hiding import without_secrets
from host_agent.ports import CannotUse
from muster_contracts.package.specification import Specification
from muster_testing.wait import until

ONLY_JSON = [sys.executable, "-c", "import json, sys; json.load(open(sys.argv[1]))"]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Package:
    """A package with one configuration file, ``settings``."""

    def __init__(self, directory: Path, path: str = "settings.json", **configured: Any) -> None:
        self.directory = directory
        configuration = {"settings": {"path": path, **configured}}
        spec = Specification.model_validate({"name": "web", "command": ["x"], "configuration": configuration})
        self.loaded = Loaded(spec, directory / "package.json", "a" * 64)
        self.runner = PlainRunner()
        self.files = ConfinedConfigurationFiles(self.runner, check_seconds=5)
        self.path = directory / path

    async def apply(self, content: bytes, expected: str | None = None, name: str = "settings") -> bool:
        return (await self.files.replace(self.loaded, name, content, expected)).changed

    async def read(self, *, previous: bool = False) -> bytes:
        return await self.files.read(self.loaded, "settings", previous=previous)

    def leftovers(self) -> list[str]:
        """What is in the directory besides the file and its previous version."""
        expected = {self.path.name, f"{self.path.name}.previous"}
        return sorted(each.name for each in self.path.parent.iterdir() if each.name not in expected)


async def test_a_file_is_replaced_and_the_one_before_is_kept(tmp_path: Path) -> None:
    package = Package(tmp_path)
    assert await package.apply(b"1")
    assert await package.apply(b"2")
    assert await package.apply(b"3")
    assert (await package.read(), await package.read(previous=True)) == (b"3", b"2")
    found = await package.files.describe(package.loaded, "settings")
    assert (found.sha256, found.size_bytes, found.previous) == (digest(b"3"), 1, True)
    assert package.leftovers() == []


async def test_the_same_content_again_changes_nothing_and_keeps_the_previous(tmp_path: Path) -> None:
    package = Package(tmp_path)
    await package.apply(b"1")
    await package.apply(b"2")
    assert not await package.apply(b"2")
    assert await package.read(previous=True) == b"1"


async def test_mode_is_kept_and_a_new_file_gets_the_listed_one(tmp_path: Path) -> None:
    package = Package(tmp_path, mode="0640")
    await package.apply(b"1")
    assert stat.S_IMODE(package.path.stat().st_mode) == 0o640
    package.path.chmod(0o600)
    await package.apply(b"2")
    assert stat.S_IMODE(package.path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "settings.json.previous").stat().st_mode) == 0o600


@pytest.mark.needs("root")
async def test_the_owner_is_kept(tmp_path: Path) -> None:
    package = Package(tmp_path)
    package.path.write_bytes(b"1")
    os.chown(package.path, 1234, 4321)
    await package.apply(b"2")
    for path in (package.path, tmp_path / "settings.json.previous"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


async def test_a_file_that_is_not_the_expected_one_is_left_alone(tmp_path: Path) -> None:
    package = Package(tmp_path)
    with pytest.raises(CannotUse, match="it is not there, not") as refused:
        await package.apply(b"2", digest(b"1"))
    assert refused.value.reason == "precondition"
    package.path.write_bytes(b"1")
    assert await package.apply(b"2", digest(b"1"))
    with pytest.raises(CannotUse, match="look at it again"):
        await package.apply(b"3", digest(b"1"))
    assert package.path.read_bytes() == b"2"


async def test_a_check_sees_the_candidate_beside_the_file_before_it_is_in_place(tmp_path: Path) -> None:
    package = Package(tmp_path, check=ONLY_JSON)
    package.path.write_bytes(b"{}")
    assert await package.apply(b'{"a": 1}')
    candidate = Path(package.runner.ran[0].argv[-1])
    assert candidate.parent == tmp_path
    assert candidate.suffix == ".json"
    assert candidate.name != "settings.json"


async def test_a_check_that_quotes_a_secret_tells_nobody(tmp_path: Path) -> None:
    quoting = [sys.executable, "-c", "import sys; sys.exit('bad line: ' + open(sys.argv[1]).read())"]
    package = Package(tmp_path, check=quoting)
    with pytest.raises(CannotUse, match="its check ended with 1: bad line") as refused:
        await package.apply(b"password: hunter2")
    assert "hunter2" not in str(refused.value)


async def test_of_what_a_check_prints_the_last_line_is_told_and_no_more_than_300_characters(
    tmp_path: Path,
) -> None:
    loud = [sys.executable, "-c", "print('first'); print('x' * 400); print(); raise SystemExit(2)"]
    with pytest.raises(CannotUse) as refused:
        await Package(tmp_path, check=loud).apply(b"{}")
    assert str(refused.value).endswith(f"its check ended with 2: {'x' * 300}")


async def test_what_its_check_refuses_is_not_put_in_place(tmp_path: Path) -> None:
    package = Package(tmp_path, check=ONLY_JSON)
    package.path.write_bytes(b"{}")
    with pytest.raises(CannotUse, match=r"its check ended with 1: \S*JSONDecodeError: [^\n]*$") as refused:
        await package.apply(b"{broken")
    assert refused.value.reason == "check"
    assert package.path.read_bytes() == b"{}"
    assert package.leftovers() == []
    assert not (tmp_path / "settings.json.previous").exists()


async def test_without_a_check_the_same_content_is_put_in_place(tmp_path: Path) -> None:
    package = Package(tmp_path)
    package.path.write_bytes(b"{}")
    await package.apply(b"{broken")
    assert package.path.read_bytes() == b"{broken"


async def test_a_check_that_cannot_be_run_refuses(tmp_path: Path) -> None:
    package = Package(tmp_path, check=["/no/such/checker"])
    with pytest.raises(CannotUse, match="its check cannot be run"):
        await package.apply(b"1")
    assert package.leftovers() == []


async def test_a_check_that_does_not_end_is_ended_and_refuses(tmp_path: Path) -> None:
    package = Package(tmp_path, check=[sys.executable, "-c", "import time; time.sleep(600)"])
    package.files = ConfinedConfigurationFiles(package.runner, check_seconds=0.3)
    with pytest.raises(CannotUse, match=r"its check did not end within 0\.3 s"):
        await package.apply(b"1")
    assert package.leftovers() == []


async def test_a_cancelled_change_leaves_nothing_behind(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(600)"
    package = Package(tmp_path, check=[sys.executable, "-c", script])
    task = asyncio.create_task(package.apply(b"1"))
    await until(begun.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert package.leftovers() == ["begun"]


async def test_an_edit_by_hand_during_the_check_is_not_overwritten(tmp_path: Path) -> None:
    edit = f"import pathlib; pathlib.Path({str(tmp_path / 'settings.json')!r}).write_bytes(b'by hand')"
    package = Package(tmp_path, check=[sys.executable, "-c", edit])
    package.path.write_bytes(b"1")
    with pytest.raises(CannotUse):
        await package.apply(b"2", digest(b"1"))
    assert package.path.read_bytes() == b"by hand"


async def test_a_missing_directory_is_named_and_not_made(tmp_path: Path) -> None:
    package = Package(tmp_path, path="etc/settings.json")
    with pytest.raises(CannotUse, match=r"the directory of .*/etc/settings\.json: no such file or directory"):
        await package.apply(b"1")
    assert not (tmp_path / "etc").exists()


async def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    package = Package(tmp_path)
    contents = [bytes([65 + number]) * 20_000 for number in range(20)]
    await package.apply(contents[0])
    seen: set[bytes] = set()
    for content in contents:
        change = asyncio.create_task(package.apply(content))
        while not change.done():
            seen.add(package.path.read_bytes())
            await asyncio.sleep(0)
        await change
    assert seen <= set(contents)


@pytest.mark.parametrize(
    "text",
    [
        "password: hunter2",
        "  - db_password: 'hunter2'",
        '{"user": "ann", "password": "hunter2", "port": 1}',
        '{"token":"hunter2"}',
        "API_KEY=hunter2",
        "export API_KEY='hunter2'",
        "secret = hunter2",
        "[auth]\npassphrase=hunter2",
        "password hunter2",
        "requirepass_password hunter2",
        "<password>hunter2</password>",
        "url: postgres://ann:hunter2@db/x",
        "private_key: |\n  hunter2\n  hunter2\nport: 1",
        "private_key: >-\n  hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nhunter2",
        "'password' => 'hunter2',",
        'password = "hun\\"hunter2"',
        '"apiKey" : "hunter2"',
        "tokens:\n  - hunter2\n  - hunter2",
        '"password": [\n    "hunter2"\n  ]',
    ],
)
def test_what_a_key_calls_secret_is_hidden_in_every_format(text: str) -> None:
    assert "hunter2" not in without_secrets(text)


@pytest.mark.parametrize(
    "text", ["port: 8080", '{"a": [1, 2], "b": "c"}', "password_file: /etc/x", "# a remark", "", "a\n\n\tb\n"]
)
def test_what_is_no_secret_is_shown_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


def test_hidden_json_is_json_still() -> None:
    assert json.loads(without_secrets('{"password": "a\\"b", "port": 1}')) == {
        "password": "[redacted]",
        "port": 1,
    }
