"""What the processes of a fleet on one machine are told."""

from pathlib import Path

from muster_client.embedded import plan
from muster_client.embedded.layout import Layout

PORTS = {name: 20_000 + place for place, name in enumerate(plan.PORTS)}


def test_settings_of_health_recovery_are_read_from_the_fleets_directory_if_a_person_wrote_them(
    tmp_path: Path,
) -> None:
    layout = Layout.at(tmp_path)
    assert "--config" not in plan.health(layout, PORTS).command
    layout.health_settings.write_text("notifications: {}\n")
    assert plan.health(layout, PORTS).command[-2:] == ["--config", str(tmp_path / "health-recovery.yaml")]


def test_health_recovery_has_a_key_a_database_and_a_port_of_its_own(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    told = plan.health(layout, PORTS).env
    assert told["HEALTH_RECOVERY_SEED_FILE"] == str(layout.seed("health-recovery"))
    assert str(layout.health) in told["HEALTH_RECOVERY_DATABASE_URL"]
    assert told["HEALTH_RECOVERY_HEALTH_PORT"] == str(PORTS[plan.HEALTH])
    assert layout.health in layout.parts
