"""The picture as recovery and notifications see it: see ``ports.Judged``.

One thing they see otherwise than who only asks: a package that is not there (its agent is lost, say) is
unknown, and no illness; but where others are ill for want of it, it is the critical cause of that, since an
illness that is explained by something nobody is told of would be hushed up.
"""

from collections.abc import Iterator

from health_recovery.domain.assessment import Assessment
from health_recovery.domain.keys import Key
from health_recovery.domain.picture import Picture
from health_recovery.domain.records import Package
from muster_contracts.health.v1 import Health


class PictureView:
    """A view: it shows the picture as it is when it is asked."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def ill(self) -> Iterator[Assessment]:
        """What is critical or warning, and what is not there though others need it."""
        keys = {*self._picture.ill, *self._picture.causes}
        for key in sorted(keys):
            if found := self.get(key):
                yield found

    def get(self, key: Key) -> Assessment | None:
        """One package; null if it is not known (any more)."""
        package = self._picture.get(key)
        return self._assessment(package) if package and package.verdict else None

    def _assessment(self, package: Package) -> Assessment:
        picture, verdict = self._picture, package.judged
        host, base = picture.host(package.key.agent), verdict.base
        made_ill = picture.made_ill_by(package.key)
        missed = base.health is Health.UNKNOWN and base.explains and made_ill
        health = Health.CRITICAL if missed else base.health
        return Assessment(
            key=package.key, health=health, since=verdict.since, reason=base.reason, text=base.text,
            check=base.check, live=base.live, cause=verdict.cause, flapping=verdict.flapping,
            maintenance=verdict.maintenance, state=package.state,
            restart_policy=package.description.restart_policy, policy=package.description.recovery,
            dependents=tuple(sorted(made_ill)), presence=host.presence, site=host.site,
            partitioned=picture.is_partitioned(host), groups=host.groups, labels=host.labels,
            stale=base.stale, relieved_at=verdict.relieved_at,
            needs_others=bool(package.description.depends_on or package.description.relies_on),
        )  # fmt: skip
