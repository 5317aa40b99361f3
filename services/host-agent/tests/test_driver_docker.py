"""What only containers do, and how the engine's refusals are told."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driver_grounds import DockerGround

from host_agent.adapters.docker_driver import DockerDriver
from host_agent.domain.package import Loaded
from host_agent.ports import CannotRun
from muster_testing import images
from muster_testing.servers import free_port
from muster_testing.wait import until

FOREVER = "while :; do sleep 0.1; done"


@pytest.fixture
async def ground(docker_host: str, tmp_path: Path) -> AsyncGenerator[DockerGround]:
    made = DockerGround(tmp_path, docker_host, images.busybox(docker_host))
    yield made
    await made.clean_up()


def inspected(ground: DockerGround, package: Loaded) -> dict[str, Any]:
    [container] = json.loads(ground.docker("inspect", f"muster-{package.name}"))
    return dict(container)


def test_an_agent_without_containers_does_not_load_the_library() -> None:
    code = "import sys, host_agent.adapters.docker_driver; sys.exit('docker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_an_engine_that_is_not_there_is_told(tmp_path: Path) -> None:
    ground = DockerGround(tmp_path, f"unix://{tmp_path}/docker.sock", "any")
    with pytest.raises(CannotRun, match="start it") as told:
        await ground.driver().start(ground.package("exit 0"))
    assert told.value.reason == "no-driver"


async def test_an_agent_without_the_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{tmp_path}/docker.sock")
        door.listen()
        ground = DockerGround(tmp_path, f"unix://{tmp_path}/docker.sock", "any")
        with pytest.raises(CannotRun, match=r"install host-agent\[docker\]") as told:
            await ground.driver().start(ground.package("exit 0"))
    assert told.value.reason == "no-driver"


@pytest.mark.needs("docker", "busybox")
async def test_an_engine_that_goes_and_comes_back_is_waited_for(
    ground: DockerGround, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host_agent.adapters.docker_driver.ENGINE_AWAY_SECONDS", 0.02)
    door = tmp_path / "docker.sock"
    door.symlink_to(ground.host.removeprefix("unix://"))
    driver = DockerDriver(f"unix://{door}")
    package = ground.package(FOREVER)
    end = asyncio.create_task(driver.wait(package, await driver.start(package)))
    door.unlink()
    with pytest.raises(CannotRun, match="no engine answers"):
        await driver.find(package)

    ground.docker("kill", f"muster-{package.name}")
    assert not end.done()
    door.symlink_to(ground.host.removeprefix("unix://"))
    assert (await end).code == -9
    driver.close()


@pytest.mark.needs("ordinary-user")
async def test_an_engine_one_may_not_use_is_told(tmp_path: Path) -> None:
    (tmp_path / "docker.sock").touch(mode=0o000)
    ground = DockerGround(tmp_path, f"unix://{tmp_path}/docker.sock", "any")
    with pytest.raises(CannotRun, match="group docker") as told:
        await ground.driver().start(ground.package("exit 0"))
    assert told.value.reason == "not-permitted"


@pytest.mark.needs("docker", "busybox")
async def test_what_was_made_of_something_else_is_adopted_and_only_a_start_replaces_it(
    ground: DockerGround,
) -> None:
    package, driver = ground.package(FOREVER, stop={"timeout_seconds": 0.2}), ground.driver()
    run = await driver.start(package)
    changed = replace(package, digest="b" * 64)

    found = await driver.find(changed)
    assert found
    assert (found.id, found.digest) == (run.id, package.digest)

    started = await driver.start(changed)
    assert (started.id != run.id, started.digest, started.adopted) == (True, changed.digest, False)


@pytest.mark.needs("docker", "busybox")
async def test_the_engine_restarts_nothing_and_opens_ports_on_loopback_only(ground: DockerGround) -> None:
    port = free_port()
    package = ground.package(FOREVER, ports={"80/tcp": port}, log={"max_bytes": 8192, "keep_files": 2})
    await ground.driver().start(package)
    made = inspected(ground, package)["HostConfig"]
    assert made["RestartPolicy"]["Name"] == "no"
    assert made["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    assert made["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "8192", "max-file": "3"}}


@pytest.mark.needs("docker", "busybox")
async def test_its_labels_say_whose_it_is(ground: DockerGround) -> None:
    package = ground.package(FOREVER)
    run = await ground.driver().start(package)
    labels = inspected(ground, package)["Config"]["Labels"]
    assert labels == {
        "muster.package": package.name,
        "muster.run": run.id,
        "muster.digest": package.digest,
    }


@pytest.mark.needs("docker", "busybox")
async def test_secrets_and_files_are_read_anew_at_each_start(ground: DockerGround, tmp_path: Path) -> None:
    secret, file = tmp_path / "secret", tmp_path / "variables"
    package = ground.package(
        "echo $KEY $ONE $TWO",
        environment={"TWO": "own"},
        environment_files=[str(file)],
        secrets={"KEY": {"file": str(secret)}},
    )
    driver = ground.driver()
    for value in ("first", "second"):
        secret.write_text(f"{value}\n")
        file.write_text("# a comment\nONE=file\nTWO=file\n")
        await driver.wait(package, await driver.start(package))

    async def both() -> bool:
        return (await driver.read_log(package, 9, None))[0] == ["first file own", "second file own"]

    await until(both)


@pytest.mark.needs("docker", "busybox")
async def test_a_secret_that_cannot_be_read_is_named_and_the_run_before_stays(
    ground: DockerGround, tmp_path: Path
) -> None:
    package = ground.package("exit 0", secrets={"KEY": {"file": str(tmp_path / "none")}})
    with pytest.raises(CannotRun, match=r"secret KEY.*none") as told:
        await ground.driver().start(package)
    assert told.value.reason == "no-secret"
    assert ground.traces(package) == ""


@pytest.mark.needs("docker", "busybox")
async def test_a_directory_of_the_machine_is_seen_inside_and_may_be_read_only(
    ground: DockerGround, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/word").write_text("hello\n")
    package = ground.package(
        "cat /in/word; (echo x > /in/other) 2>/dev/null || echo refused",
        volumes={f"{tmp_path}/shared": "/in:ro"},
    )
    driver = ground.driver()
    await driver.wait(package, await driver.start(package))

    async def both() -> bool:
        return (await driver.read_log(package, 9, None))[0] == ["hello", "refused"]

    await until(both)


@pytest.mark.needs("docker", "busybox")
async def test_a_directory_that_is_missing_is_told_and_not_made(ground: DockerGround, tmp_path: Path) -> None:
    package = ground.package("exit 0", volumes={f"{tmp_path}/none": "/in"})
    with pytest.raises(CannotRun, match="none") as told:
        await ground.driver().start(package)
    assert told.value.reason == "no-directory"
    assert ground.traces(package) == ""
    assert "none" not in os.listdir(tmp_path)  # noqa: PTH208  (asked once, in a test)


@pytest.mark.needs("docker", "busybox")
async def test_by_a_volume_the_engine_would_make_the_directory(ground: DockerGround, tmp_path: Path) -> None:
    ground.docker("run", "--rm", f"--volume={tmp_path}/none:/in", ground.image, "true")
    assert "none" in os.listdir(tmp_path)  # noqa: PTH208  (asked once, in a test)


@pytest.mark.needs("docker", "busybox")
async def test_what_ended_stays_ended_until_the_agent_starts_it(ground: DockerGround) -> None:
    package, driver = ground.package("exit 3"), ground.driver()
    await driver.wait(package, await driver.start(package))
    made = inspected(ground, package)
    assert (made["State"]["Status"], made["RestartCount"]) == ("exited", 0)


@pytest.mark.needs("docker", "busybox")
async def test_by_a_policy_of_its_own_the_engine_would_start_it_again(ground: DockerGround) -> None:
    package = ground.package("exit 3")
    name = f"muster-{package.name}"
    ground.docker("run", "--detach", "--restart=always", f"--name={name}", ground.image, "sh", "-c", "exit 3")
    await until(lambda: inspected(ground, package)["RestartCount"] > 1)


@pytest.mark.needs("docker", "busybox")
async def test_a_user_the_image_does_not_know_is_told(ground: DockerGround) -> None:
    package = ground.package("exit 0", user="nobody-at-all")
    with pytest.raises(CannotRun, match="nobody-at-all") as told:
        await ground.driver().start(package)
    assert told.value.reason == "no-user"


@pytest.mark.needs("docker", "busybox")
async def test_a_missing_image_is_not_pulled_and_the_way_to_get_it_is_told(ground: DockerGround) -> None:
    with pytest.raises(CannotRun, match=r"muster-test-no-such-image.*docker pull"):
        await ground.driver().start(ground.absent())


@pytest.mark.needs("docker", "busybox")
async def test_of_ended_containers_one_is_kept_however_often_it_starts(ground: DockerGround) -> None:
    package, driver = ground.package("exit 3"), ground.driver()
    for _ in range(4):
        await driver.wait(package, await driver.start(package))
    assert len(ground.traces(package).split()) == 2


@pytest.mark.needs("docker", "busybox")
async def test_a_container_somebody_removed_has_ended_and_nobody_knows_how(ground: DockerGround) -> None:
    package, driver = ground.package(FOREVER), ground.driver()
    run = await driver.start(package)
    ground.docker("rm", "--force", f"muster-{package.name}")
    assert (await driver.wait(package, run)).code is None
    assert (await driver.stop(package, run)).code is None


@pytest.mark.needs("docker", "busybox")
async def test_its_end_is_noticed_by_polling_where_its_process_cannot_be_watched(
    ground: DockerGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host_agent.adapters.cgroup_processes.is_in", lambda *_: False)
    package, driver = ground.package("sleep 0.4; exit 3"), ground.driver()
    assert (await driver.wait(package, await driver.start(package))).code == 3
