"""The reloader: a changed file is news only if it can be used and means something else."""

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import ClassVar

import pytest

from muster_runtime import ConfigurationError, Reloader, Settings, Tasks
from muster_runtime.metrics import SETTINGS_REFUSED
from muster_testing.wait import until


class Lamp(Settings):
    ENV_PREFIX: ClassVar[str] = "TEST_LAMP_"

    watts: int = 5
    colour: str = "white"


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def swap_links(link: Path, to: str) -> None:
    """Point ``link`` elsewhere in one step, as Kubernetes does with mounted settings."""
    (link.parent / "fresh").symlink_to(to)
    (link.parent / "fresh").replace(link)


Told = list[tuple[int, int, frozenset[str]]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lamp.yaml"
    write(path, "watts: 7\n")
    return path


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def reloader(file: Path, told: Told) -> Reloader[Lamp]:
    reloader = Reloader(Lamp.load(file), file, every_seconds=0.01)
    reloader.on_change(lambda old, new, keys: told.append((old.watts, new.watts, keys)))
    return reloader


async def test_a_changed_value_is_told_once_with_before_after_and_keys(
    file: Path, reloader: Reloader[Lamp], told: Told
) -> None:
    assert not await reloader.look()
    write(file, "watts: 9\n")
    assert await reloader.look()
    assert not await reloader.look()
    assert told == [(7, 9, frozenset({"watts"}))]
    assert reloader.current.watts == 9


async def test_a_file_rewritten_with_the_same_meaning_is_no_news(
    file: Path, reloader: Reloader[Lamp], told: Told
) -> None:
    write(file, "# brighter some day\nwatts: 7\n")
    assert not await reloader.look()
    assert told == []


async def test_an_unusable_file_keeps_the_old_settings_and_says_why(
    file: Path, reloader: Reloader[Lamp], told: Told
) -> None:
    before = SETTINGS_REFUSED.get()
    write(file, "watts: bright\n")
    assert not await reloader.look()
    assert reloader.current.watts == 7
    assert "key 'watts': 'bright' cannot be taken" in str(reloader.error)
    assert SETTINGS_REFUSED.get() == before + 1

    write(file, "watts: 8\n")
    assert await reloader.look()
    assert not reloader.error
    assert told == [(7, 8, frozenset({"watts"}))]


async def test_a_file_that_vanishes_changes_nothing_until_it_is_back(
    file: Path, reloader: Reloader[Lamp], told: Told
) -> None:
    assert not await reloader.look()
    remove(file)
    assert not await reloader.look()
    assert reloader.error
    assert reloader.current.watts == 7
    write(file, "watts: 8\n")
    assert await reloader.look()
    assert told == [(7, 8, frozenset({"watts"}))]


async def test_a_file_that_appears_later_is_read(tmp_path: Path) -> None:
    path = tmp_path / "later.yaml"
    reloader = Reloader(Lamp(), path)
    assert not await reloader.look()
    assert reloader.error is None
    write(path, "watts: 6\n")
    assert await reloader.look()
    assert reloader.current.watts == 6


async def test_a_swapped_symlink_is_seen(tmp_path: Path) -> None:
    for name, watts in (("one", 1), ("two", 2)):
        write(tmp_path / name, f"watts: {watts}\n")
        os.utime(tmp_path / name, (1_000_000_000, 1_000_000_000))  # of equal size and age
    link = tmp_path / "config.yaml"
    swap_links(link, "one")
    reloader = Reloader(Lamp.load(link), link)
    assert not await reloader.look()
    swap_links(link, "two")
    assert await reloader.look()
    assert reloader.current.watts == 2


async def test_a_change_between_the_start_and_the_first_look_is_not_missed(file: Path) -> None:
    loaded = Lamp.load(file)
    write(file, "watts: 8\n")
    assert await Reloader(loaded, file).look()


async def test_one_failing_listener_does_not_keep_the_news_from_the_others(file: Path, told: Told) -> None:
    reloader = Reloader(Lamp.load(file), file)

    async def fail(*_: object) -> None:
        raise RuntimeError("no bulb")

    reloader.on_change(fail)
    reloader.on_change(lambda old, new, keys: told.append((old.watts, new.watts, keys)))
    write(file, "watts: 8\n")
    assert await reloader.look()
    assert told == [(7, 8, frozenset({"watts"}))]


async def test_the_watch_runs_as_a_task(file: Path, reloader: Reloader[Lamp], told: Told) -> None:
    async with Tasks() as tasks:
        tasks.spawn("settings", reloader.run)
        write(file, "watts: 8\ncolour: red\n")
        await until(lambda: told)
    assert told == [(7, 8, frozenset({"watts", "colour"}))]


async def test_a_forced_look_reads_the_environment_again(
    file: Path, reloader: Reloader[Lamp], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not await reloader.look()
    monkeypatch.setenv("TEST_LAMP_COLOUR", "blue")
    assert not await reloader.look()
    reloader.force()
    assert await reloader.look()
    assert reloader.current.colour == "blue"


async def test_a_hangup_signal_forces_a_look(file: Path) -> None:
    program = textwrap.dedent(f"""
        import asyncio, sys
        from pathlib import Path
        from typing import ClassVar
        from muster_runtime import Reloader, Settings
        class Lamp(Settings):
            ENV_PREFIX: ClassVar[str] = "TEST_LAMP_"
            watts: int = 5
        path = Path({str(file)!r})
        reloader = Reloader(Lamp.load(path), path, every_seconds=3600)
        reloader.on_change(lambda old, new, keys: print(new.watts, flush=True))
        async def main():
            task = asyncio.create_task(reloader.run())
            await asyncio.sleep(0)
            print("ready", flush=True)
            await task
        asyncio.run(main())
    """)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout
        assert await child.stdout.readline() == b"ready\n"
        write(file, "watts: 60\n")
        child.send_signal(signal.SIGHUP)
        assert await asyncio.wait_for(child.stdout.readline(), 20) == b"60\n"
    finally:
        child.kill()
        await child.communicate()


def test_settings_that_never_were_usable_are_an_error_at_the_start(file: Path) -> None:
    write(file, "wats: 1\n")
    with pytest.raises(ConfigurationError, match="give 'watts'"):
        Lamp.load(file, {})
