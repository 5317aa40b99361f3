"""Looks by what systemd and Docker say."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from driver_grounds import DockerGround, SystemdGround
from looks_ground import check, context, loaded
from memory_driver import MemoryDriver

from host_agent.adapters.looks import make_look
from host_agent.domain.look import Seen, critical
from host_agent.domain.package import Loaded, Run
from host_agent.domain.unit import Unit
from host_agent.ports import CannotRun, Driver
from muster_contracts.health.v1 import Health
from muster_testing import images
from muster_testing.systemd_machine import SystemdMachine
from muster_testing.wait import until

SECRET = "correct-horse"


async def looked(package: Loaded, driver: Driver, run: Run | None) -> Seen:
    return await make_look(check("native"), context(package, driver, run)).look()


@pytest.mark.parametrize(
    ("shown", "health", "reason"),
    [
        ("loaded active running success", Health.OK, "ok"),
        ("loaded active exited success", Health.OK, "ok"),
        ("loaded reloading reload success", Health.OK, "ok"),
        ("loaded activating start success", Health.WARNING, "activating"),
        ("loaded deactivating stop-sigterm success", Health.WARNING, "deactivating"),
        ("loaded activating auto-restart exit-code", Health.CRITICAL, "auto-restart"),
        ("loaded failed failed watchdog", Health.CRITICAL, "failed"),
        ("loaded inactive dead success", Health.CRITICAL, "inactive"),
        ("not-found inactive dead success", Health.CRITICAL, "not-found"),
    ],
)
def test_each_state_of_a_unit_has_a_health(shown: str, health: Health, reason: str) -> None:
    names = ("LoadState", "ActiveState", "SubState", "Result")
    text = "\n".join(f"{name}={value}" for name, value in zip(names, shown.split(), strict=True))
    found = Unit.parse(text).health
    assert (found.health, found.reason) == (health, reason)


async def test_a_driver_that_nobody_answers_is_unknown(tmp_path: Path) -> None:
    class Away(MemoryDriver):
        async def native_health(self, package: Loaded, run: Run) -> Seen:
            raise CannotRun("cannot ask: the engine is away", "no-driver")

    driver, package = Away(), loaded(tmp_path)
    found = await looked(package, driver, driver.start_by_hand(package))
    assert (found.health, found.reason) == (Health.UNKNOWN, "no-driver")
    assert (await looked(package, driver, None)).reason == "gone"


async def test_a_secret_in_what_a_containers_check_says_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(SECRET)
    driver, package = MemoryDriver(), loaded(tmp_path, secrets={"PASSWORD": {"file": "password"}})
    driver.healths["web"] = critical("unhealthy", f"unhealthy: bad password {SECRET}")
    found = await looked(package, driver, driver.start_by_hand(package))
    assert found.text == "unhealthy: bad password [redacted]"


@pytest.mark.needs("systemd-machine")
async def test_systemd_is_asked_how_a_unit_is(machine: SystemdMachine, tmp_path: Path) -> None:
    ground = SystemdGround(tmp_path, machine, user=False)
    package, driver = ground.package("sleep 600"), ground.driver()
    run = await driver.start(package)
    assert (await looked(package, driver, run)).text == "active (running)"
    machine.run("systemctl", "kill", "--signal=KILL", package.spec.unit or "")
    found = await until(lambda: _critical(package, driver, run))
    assert found
    assert (found.reason, found.text) == ("failed", "failed (failed): signal, signal 9")


@pytest.fixture
async def docker(docker_host: str, tmp_path: Path) -> AsyncGenerator[DockerGround]:
    made = DockerGround(tmp_path, docker_host, images.busybox(docker_host))
    yield made
    await made.clean_up()


@pytest.mark.needs("docker", "busybox")
async def test_docker_is_asked_what_the_images_own_check_found(docker: DockerGround) -> None:
    driver, plain = docker.driver(), docker.package("while :; do sleep 0.1; done")
    assert (await looked(plain, driver, await driver.start(plain))).reason == "no-native-health"
    change = 'HEALTHCHECK --interval=200ms --retries=1 CMD ["sh", "-c", "cat /well || { echo alas; false; }"]'
    docker.docker("commit", f"--change={change}", f"muster-{plain.name}", f"muster-test-{plain.name}")
    try:
        image = {"image": f"muster-test-{plain.name}"}
        package = docker.package("while :; do sleep 0.1; done", **image)
        run = await driver.start(package)
        found = await until(lambda: _critical(package, driver, run))
        assert found
        assert found.reason == "unhealthy"
        assert "alas" in found.text
        docker.docker("exec", f"muster-{package.name}", "sh", "-c", "echo fine > /well")
        found = await until(lambda: _well(package, driver, run))
        assert found
        assert found.text == "healthy: fine"
    finally:
        docker.docker("rm", "--force", f"muster-{package.name}", f"muster-{plain.name}")
        docker.docker("rmi", "--force", f"muster-test-{plain.name}")


async def _critical(package: Loaded, driver: Driver, run: Run) -> Seen | None:
    found = await looked(package, driver, run)
    return found if found.health is Health.CRITICAL else None


async def _well(package: Loaded, driver: Driver, run: Run) -> Seen | None:
    found = await looked(package, driver, run)
    return found if found.health is Health.OK else None
