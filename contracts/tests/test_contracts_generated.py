"""What is generated is fresh, the same each time, and says what to run when it is not."""

import json
import shutil
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, create_model

from muster_contracts.agent.v1 import Heartbeat
from muster_contracts.catalogue import contracts
from muster_contracts.generate import examples, fleet_map, schemas
from muster_contracts.generate.__main__ import everything, main
from muster_contracts.generate.command import home
from muster_contracts.generate.examples import NoExample
from muster_contracts.message import Message

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository of which only the generated files are there."""
    shutil.copy(ROOT / "README.md", tmp_path)
    for part in ("schemas", "examples", "published"):
        if (ROOT / "contracts" / part).exists():
            shutil.copytree(ROOT / "contracts" / part, tmp_path / "contracts" / part)
    for file in ("asyncapi.json", "package.schema.json"):
        shutil.copy(ROOT / "contracts" / file, tmp_path / "contracts")
    return tmp_path


def evolved() -> type[BaseModel]:
    """The heartbeat with one more optional field, under the same name."""
    return create_model(
        "Heartbeat",
        __base__=Heartbeat,
        __module__=Heartbeat.__module__,
        mood=(str | None, Field(default=None, description="How the agent feels.")),
    )


def test_the_committed_files_are_what_the_contracts_say() -> None:
    assert home() == ROOT
    assert [str(path.relative_to(ROOT)) for path in everything(ROOT).stale()] == []


def test_the_same_contracts_give_the_same_text_each_time() -> None:
    assert everything(ROOT).texts == everything(ROOT).texts


def test_a_fresh_tree_passes_the_check(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(copy), "--check"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "stale", ["contracts/schemas/agent.v1.Heartbeat.json", "contracts/asyncapi.json", "README.md"]
)
def test_a_stale_file_is_named_with_what_to_run(
    copy: Path, stale: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / stale
    path.write_text(path.read_text().replace("Heartbeat", "Pulse"))
    assert main(["--root", str(copy), "--check"]) == 1
    assert capsys.readouterr().err == f"stale: {stale}: run `just generate` and commit the result\n"
    assert main(["--root", str(copy)]) == 0
    assert capsys.readouterr().out == f"wrote {stale}\n"
    assert main(["--root", str(copy), "--check"]) == 0


def test_the_schema_of_a_contract_that_is_gone_goes_too(copy: Path) -> None:
    orphan = copy / "contracts" / "schemas" / "agent.v1.Gone.json"
    orphan.write_text("{}")
    assert main(["--root", str(copy), "--check"]) == 1
    assert main(["--root", str(copy)]) == 0
    assert not orphan.exists()


def test_a_new_shape_adds_an_example_and_leaves_the_old_ones_as_they_were(copy: Path) -> None:
    folder = copy / "contracts" / "examples" / "agent.v1.Heartbeat"
    before = {path.name: path.read_text() for path in folder.iterdir()}
    examples.plan([evolved()], copy / "contracts").carry_out()
    after = {path.name: path.read_text() for path in folder.iterdir()}
    [added] = after.keys() - before.keys()
    assert added == f"{len(before) + 1}-full.json"
    assert json.loads(after[added])["mood"] == "mood"
    assert {name: after[name] for name in before} == before
    assert examples.plan([evolved()], copy / "contracts").stale() == []


def test_a_missing_example_is_stale_and_an_edited_one_is_not_overwritten(copy: Path) -> None:
    path = copy / "contracts" / "examples" / "agent.v1.Left" / "1-minimal.json"
    edited = path.read_text().replace("web-1", "web-77")
    path.write_text(edited)
    assert main(["--root", str(copy), "--check"]) == 1
    assert main(["--root", str(copy)]) == 0
    assert path.read_text() == edited


def test_a_field_whose_example_cannot_be_guessed_asks_for_one() -> None:
    class Plate(BaseModel):
        number: str = Field(pattern="^[A-Z]{2}-[0-9]{3}$")

    with pytest.raises(NoExample, match=r"number.*examples=\["):
        examples.examples_of(Plate)


def test_a_field_may_bring_its_own_examples() -> None:
    class Plate(BaseModel):
        number: str = Field(pattern="^[A-Z]{2}-[0-9]{3}$", examples=["HH-001"])

    assert examples.examples_of(Plate) == {"minimal": {"number": "HH-001"}}


def test_the_map_names_every_contract_on_both_sides() -> None:
    table = fleet_map.table(list(contracts()))
    for kind in contracts():
        assert table.count(kind.__name__) >= len(kind.SAID_BY) + len(kind.HEARD_BY)


def test_a_readme_without_a_place_for_the_map_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Muster\n")
    with pytest.raises(ValueError, match="cannot write the map"):
        fleet_map.plan(list(contracts()), tmp_path)


@pytest.mark.parametrize("kind", contracts(), ids=lambda kind: kind.contract())
def test_a_schema_says_where_its_contract_travels(kind: type[Message]) -> None:
    address = schemas.document(kind)["x-muster"]
    assert (address["subject"], address["delivery"]) == (kind.SUBJECT, kind.DELIVERY)
