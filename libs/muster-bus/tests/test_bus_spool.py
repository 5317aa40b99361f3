"""The spool: what it took survives, in order; what it has no room for is counted."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from muster_bus import FileSpool, Letter, SpoolFailed, SpoolFull

WRITER = """
import asyncio, sys
from pathlib import Path
from muster_bus.spool import FileSpool, Letter

async def main():
    spool = FileSpool(Path(sys.argv[1]))
    number = 0
    while True:
        await spool.put(Letter(f"id-{number}", "muster.agent.v1.a1.left", b"x" * 200))
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


def start_writer(path: Path) -> subprocess.Popen[bytes]:
    # Unbuffered: a buffered reader would keep lines back from the last read.
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, bufsize=0)


def letter(number: int) -> Letter:
    return Letter(f"id-{number}", "muster.agent.v1.a1.left", f"letter {number}".encode(), {"K": "v"})


async def test_letters_are_taken_in_the_order_they_were_put_until_they_are_done(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    await spool.put(letter(1), letter(2))
    await spool.put(letter(3))
    assert await spool.take(2) == [letter(1), letter(2)]
    await spool.done(["id-1", "unknown"])
    assert await spool.take(10) == [letter(2), letter(3)]
    assert await spool.size() == 2
    spool.close()


async def test_letters_of_some_subjects_are_passed_by(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    refused = [replace(letter(number), subject=f"refused.{number}") for number in range(3)]
    await spool.put(*refused, letter(3), letter(4))
    assert await spool.take(1, without={one.subject for one in refused}) == [letter(3)]
    assert await spool.take(2, without=["refused.0", "refused.2"]) == [refused[1], letter(3)]
    assert await spool.take(9, without=[f"other.{n}" for n in range(50_000)]) == await spool.take(9)
    spool.close()


async def test_a_letter_put_twice_is_kept_once(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    await spool.put(letter(1), letter(1))
    await spool.put(letter(1))
    assert await spool.size() == 1
    spool.close()


async def test_letters_wait_for_the_next_process(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    await spool.put(letter(1))
    spool.close()
    again = FileSpool(tmp_path / "spool")
    assert await again.take(10) == [letter(1)]
    again.close()


async def test_a_full_spool_drops_its_oldest_letters_and_counts_them_for_good(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool", capacity=3)
    for number in range(5):
        await spool.put(letter(number))
    assert [one.id for one in await spool.take(10)] == ["id-2", "id-3", "id-4"]
    assert spool.dropped == 2
    await spool.put(*(letter(number) for number in range(5, 9)))
    assert (await spool.size(), spool.dropped) == (3, 6)
    spool.close()
    again = FileSpool(tmp_path / "spool", capacity=3)
    assert again.dropped == 6
    again.close()


async def test_large_letters_fill_a_spool_before_many_do(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool", capacity_bytes=10_000)
    await spool.put(*(replace(letter(number), payload=b"x" * 3000) for number in range(3)))
    assert spool.dropped == 0
    await spool.put(replace(letter(3), payload=b"x" * 6000))
    assert ([one.id for one in await spool.take(10)], spool.dropped) == (["id-2", "id-3"], 2)
    await spool.done(["id-2", "id-3"])
    await spool.put(*(replace(letter(number), payload=b"x" * 3000) for number in range(3)))
    assert (await spool.size(), spool.dropped) == (3, 2)
    spool.close()


async def test_a_letter_that_no_room_would_do_for_costs_no_other(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool", capacity_bytes=1000)
    await spool.put(letter(0))
    with pytest.raises(SpoolFull):
        await spool.put(replace(letter(1), payload=b"x" * 1001))
    assert (await spool.take(10), spool.dropped) == ([letter(0)], 0)
    spool.close()


async def test_a_spool_that_refuses_keeps_what_it_has(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool", capacity=2, when_full="refuse")
    await spool.put(letter(0))
    with pytest.raises(SpoolFull, match=r"cannot keep more letters in the spool .*may hold 2 of them"):
        await spool.put(letter(1), letter(2))
    assert (await spool.take(10), spool.dropped) == ([letter(0)], 0)
    await spool.put(letter(0), letter(1))
    spool.close()
    again = FileSpool(tmp_path / "spool", capacity_bytes=100, when_full="refuse")
    with pytest.raises(SpoolFull):
        await again.put(letter(2))
    await again.done(["id-0", "id-1"])
    await again.put(letter(2))
    again.close()


async def test_a_spool_of_an_earlier_release_is_bounded_too(tmp_path: Path) -> None:
    old = FileSpool(tmp_path / "spool")
    await old.put(replace(letter(0), payload=b"x" * 900))
    old.close()
    file = sqlite3.connect(tmp_path / "spool")
    file.executescript(
        "DROP TRIGGER bytes_put; DROP TRIGGER bytes_gone; DELETE FROM counts WHERE name = 'bytes'"
    )
    file.close()
    spool = FileSpool(tmp_path / "spool", capacity_bytes=1000)
    await spool.put(letter(1))
    assert [one.id for one in await spool.take(10)] == ["id-0", "id-1"]
    await spool.put(letter(2))
    assert [one.id for one in await spool.take(10)] == ["id-1", "id-2"]
    spool.close()


async def test_every_put_that_returned_survives_a_kill(tmp_path: Path) -> None:
    for round_ in range(3):
        path = tmp_path / f"spool-{round_}"
        child = start_writer(path)
        assert child.stdout
        lines = b""
        while lines.count(b"\n") < 20:
            lines += await asyncio.to_thread(os.read, child.stdout.fileno(), 4096)
        child.send_signal(signal.SIGKILL)
        child.wait()
        lines += child.stdout.read()
        child.stdout.close()
        returned = {f"id-{number}" for number in lines.decode().splitlines()}
        spool = FileSpool(path)
        assert returned <= {one.id for one in await spool.take(100_000)}
        spool.close()


async def test_a_disk_that_fails_is_named_and_nothing_is_half_kept(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    await spool.put(letter(0))
    other = sqlite3.connect(tmp_path / "spool")
    other.execute("CREATE TRIGGER full BEFORE INSERT ON letters WHEN NEW.id = 'id-2' "
                  "BEGIN SELECT RAISE(ABORT, 'disk is full'); END")  # fmt: skip
    other.close()
    with pytest.raises(SpoolFailed, match=r"cannot use the spool .*disk is full"):
        await spool.put(letter(1), letter(2))
    assert await spool.take(10) == [letter(0)]
    spool.close()


def test_the_spool_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    FileSpool(tmp_path / "spool").close()
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
