"""The samples of ``muster up --demo``: what their package.json say, and how they are laid again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from muster_client.embedded import demo
from muster_client.embedded.layout import Layout
from muster_contracts.package.specification import Specification
from muster_contracts.package.v1 import Purpose

SAMPLES = {"database", "web", "worker", "leaky", "flaky"}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout.at(tmp_path / "fleet")
    made.create()
    return made


def told(layout: Layout, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((layout.packages / name / "package.json").read_text())
    return found


def test_each_sample_is_a_package_with_its_program_beside_it(layout: Layout) -> None:
    assert set(demo.lay(layout)) == SAMPLES
    for name in SAMPLES:
        specification = Specification.model_validate(told(layout, name))
        assert specification.name == name
        assert (layout.packages / name / specification.command[-1]).is_file()


def test_every_sample_but_the_one_that_fails_by_itself_is_checked_for_a_hang(layout: Layout) -> None:
    demo.lay(layout)
    for name in SAMPLES - {"flaky"}:
        checks = Specification.model_validate(told(layout, name)).checks
        [process] = [one for one in checks if one.check.kind == "process"]
        assert process.purpose is Purpose.LIVENESS


def test_what_is_laid_anew_finds_the_ports_of_what_is_there(layout: Layout) -> None:
    demo.lay(layout)
    before = told(layout, "web")["environment"]
    for name in ("database", "worker"):
        shutil.rmtree(layout.packages / name)
    assert set(demo.lay(layout)) == {"database", "worker"}
    assert told(layout, "database")["ready"]["tcp_port"] == int(before["DATABASE_PORT"])
    assert told(layout, "worker")["environment"] == before
    assert demo.lay(layout) == []


def test_packages_of_others_do_not_stand_in_the_way(layout: Layout) -> None:
    for place, text in enumerate(("", "{}", "[1]", '{"environment": {"WEB_PORT": "x"}}')):
        (layout.packages / f"own-{place}").mkdir()
        (layout.packages / f"own-{place}" / "package.json").write_text(text)
    assert set(demo.lay(layout)) == SAMPLES
