"""An agent's identity is born once, survives crashes, and says clearly what is wrong with it."""

import multiprocessing
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent import AgentIdentity, Identity, IdentityError
from muster_agent.epoch import boot_id, new_epoch
from muster_agent.files import write_whole
from muster_agent.identity import id_from
from muster_contracts.ids import EPOCH_PATTERN, boot_of, is_agent_id, start_of


def test_an_identity_is_made_once_and_found_again(tmp_path: Path) -> None:
    born = Identity.ensure(tmp_path / "state")
    found = Identity.ensure(tmp_path / "state")
    assert is_agent_id(born.agent_id)
    assert (found.agent_id, found.keypair.public) == (born.agent_id, born.keypair.public)


def test_only_the_owner_may_read_the_key_from_its_first_moment_on(tmp_path: Path) -> None:
    seed = Identity.ensure(tmp_path / "state").seed_file
    assert stat.S_IMODE(seed.stat().st_mode) == 0o600
    assert stat.S_IMODE(seed.parent.stat().st_mode) == 0o700


def _born_in(directory: Path) -> tuple[str, str]:
    identity = Identity.ensure(directory)
    return identity.agent_id, identity.keypair.public


def test_first_starts_at_the_same_time_agree_on_one_identity(tmp_path: Path) -> None:
    with multiprocessing.get_context("forkserver").Pool(4) as pool:
        assert len(set(pool.map(_born_in, [tmp_path / "state"] * 4))) == 1


def test_a_birth_cut_short_after_the_key_goes_on_with_that_key(tmp_path: Path) -> None:
    before = Identity.ensure(tmp_path)
    (tmp_path / "agent-id").unlink()
    after = Identity.ensure(tmp_path)
    assert after.keypair.public == before.keypair.public
    assert is_agent_id(after.agent_id)


def test_an_id_without_its_key_is_refused_and_not_given_a_new_one(tmp_path: Path) -> None:
    born = Identity.ensure(tmp_path)
    born.seed_file.unlink()
    assert "cannot use" in refusal(tmp_path)
    assert not born.seed_file.exists()


@pytest.mark.parametrize("damage", ["", "web.1", "*", "a" * 64, "Web", "a b", "a\nb", "\x00"])
def test_a_damaged_id_is_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    Identity.ensure(tmp_path)
    (tmp_path / "agent-id").write_text(damage)
    text = refusal(tmp_path)
    assert text.startswith(f"cannot use {tmp_path / 'agent-id'}: ")
    assert "restore it, or remove it" in text


def test_a_key_that_others_may_read_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    seed = Identity.ensure(tmp_path).seed_file
    seed.chmod(0o640)
    assert f"chmod 600 {seed}" in refusal(tmp_path)


def test_a_damaged_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    born = Identity.ensure(tmp_path)
    half = born.keypair.seed.get_secret_value()[:40]
    born.seed_file.write_text(half)
    text = refusal(tmp_path)
    assert "it holds no key" in text
    assert half not in text


def test_a_state_directory_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/muster")):
        assert refusal(place).startswith(f"cannot use the state directory {place}: ")


@given(st.text(max_size=300))
def test_any_hostname_makes_an_id_that_is_safe_in_a_subject(hostname: str) -> None:
    assert is_agent_id(id_from(hostname))


@pytest.mark.parametrize(
    ("hostname", "start"),
    [
        ("web-1", "web-1-"),
        ("Web_1.Example.org", "web-1-"),
        ("", "agent-"),
        ("-.-", "agent-"),
        ("x" * 99, "x" * 58),
    ],
)
def test_an_id_begins_like_its_hostname(hostname: str, start: str) -> None:
    assert id_from(hostname).startswith(start)


def test_an_epoch_names_the_boot_and_the_start() -> None:
    first, second = new_epoch(), new_epoch()
    assert re.match(EPOCH_PATTERN, first)
    assert boot_of(first) == boot_of(second)
    assert start_of(first) <= start_of(second)


def test_without_a_kernel_that_names_its_boot_the_boot_time_does(tmp_path: Path) -> None:
    assert boot_id(tmp_path / "none") == boot_id(tmp_path / "none")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    with pytest.raises(TypeError):
        write_whole(tmp_path / "file", "not bytes")  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def refusal(state_dir: Path) -> str:
    with pytest.raises(IdentityError) as caught:
        Identity.ensure(state_dir)
    return str(caught.value)


def test_an_identity_shows_no_secret_when_printed(tmp_path: Path) -> None:
    identity: AgentIdentity = Identity.ensure(tmp_path)
    assert identity.keypair.seed.get_secret_value() not in repr(identity)
