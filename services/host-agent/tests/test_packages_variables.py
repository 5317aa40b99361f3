"""Files of variables and secrets: whoever a package runs as is given no file of the agent's."""

import os
from pathlib import Path
from typing import Any

import pytest

from host_agent.adapters.variables import variables
from host_agent.domain.package import Loaded
from host_agent.ports import CannotRun
from muster_contracts.package.specification import Specification


class Ground:
    """A package in a directory for the agent alone, with a directory in it to which others may write."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "web"
        self.theirs = self.home / "theirs"
        self.theirs.mkdir(parents=True)
        self.home.chmod(0o755)
        self.theirs.chmod(0o777)
        self.only_agent = self.file(directory / "shadow", "KEY=canary")

    def file(self, path: Path, content: str = "KEY=x") -> Path:
        path.write_text(content)
        path.chmod(0o600)
        return path

    def package(self, **keys: Any) -> Loaded:
        spec = Specification.model_validate({"name": "web", "command": ["run"], **keys})
        return Loaded(spec, self.home / "package.json", "")

    def secret(self, file: str, *, for_another: bool = True) -> str:
        return variables(self.package(secrets={"A": {"file": file}}), for_another=for_another)["A"]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def point(ground: Ground, way: str) -> Path:
    """The path of the package that leads to what only the agent may read."""
    path = ground.theirs / "file"
    if way == "link":
        path.symlink_to(ground.only_agent)
    elif way == "hard link":
        path.hardlink_to(ground.only_agent)
    else:
        (ground.theirs / "sub").symlink_to(ground.only_agent.parent)
        path = ground.theirs / "sub" / ground.only_agent.name
    return path


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("way", ["link", "hard link", "linked directory"])
def test_what_others_can_put_there_leads_to_no_file_of_the_agents(
    ground: Ground, way: str, absolute: bool
) -> None:
    path = point(ground, way)
    name = str(path if absolute else path.relative_to(ground.home))
    cases: list[tuple[str, dict[str, Any]]] = [
        ("no-secret", {"secrets": {"A": {"file": name}}}),
        ("no-environment", {"environment_files": [name]}),
    ]
    for reason, keys in cases:
        with pytest.raises(CannotRun, match=f"^cannot start package web: .*{path}: ") as refused:
            variables(ground.package(**keys), for_another=True)
        assert refused.value.reason == reason
        assert "canary" not in str(refused.value)
        assert "canary" in str(variables(ground.package(**keys), for_another=False))


def test_a_link_where_only_the_agent_may_write_is_followed(ground: Ground) -> None:
    data = ground.home / "..data"
    data.mkdir()
    ground.file(data / "key", "s3cret\n")
    (ground.home / "key").symlink_to("..data/key")
    assert ground.secret("key") == "s3cret"


def test_a_link_to_where_others_may_write_is_followed_no_further(ground: Ground) -> None:
    (ground.home / "key").symlink_to("theirs/file")
    point(ground, "link")
    with pytest.raises(CannotRun, match="a symbolic link where others may write is not followed"):
        ground.secret("key")


def test_a_plain_file_is_read_wherever_it_lies(ground: Ground) -> None:
    file = ground.file(ground.theirs / "key", "s3cret")
    assert ground.secret("theirs/key") == ground.secret(str(file)) == "s3cret"


def test_links_in_a_circle_and_what_is_no_file_are_refused(ground: Ground) -> None:
    (ground.home / "circle").symlink_to("circle")
    os.mkfifo(ground.home / "pipe")
    for name in ("circle", "pipe", "theirs", "none", "none/none"):
        with pytest.raises(CannotRun, match=r"^cannot start package web: secret A: "):
            ground.secret(name)
