"""What the leader does because time has passed: one function per round."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from health_recovery.domain.hearing import Touched, forget_retired, see_agents
from health_recovery.domain.picture import Picture
from health_recovery.intake import Intake
from health_recovery.ports import Away, Fenced, Fleet, Store, Unavailable
from muster_contracts.fleet.v1 import AgentRow
from muster_runtime import Clock, Tasks, logger

HOUR_SECONDS = 3600.0
TICK_SECONDS = 0.5
AGENTS_AT_ONCE = 500

log = logger(__name__)


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Everything that is done again and again while this replica leads."""

    intake: Intake
    store: Store
    fleet: Fleet
    clock: Clock
    refresh_seconds: float
    history_days: float
    away_since: datetime | None = None
    """Since when the registry does not answer; null while it does."""

    def start(self, tasks: Tasks) -> None:
        """Begin every round."""
        tasks.every("judge what is due", TICK_SECONDS, self.tick)
        tasks.every("look who is in the fleet", self.refresh_seconds, self.refresh)
        tasks.every("look again for the registry", TICK_SECONDS, self.look_again)
        tasks.every("forget old history", HOUR_SECONDS, self.forget, first_after=60.0)

    async def tick(self) -> None:
        """Judge again what time has made due."""
        try:
            await self.intake.tick()
        except (Unavailable, Fenced) as error:
            log.warning("cannot keep what time has changed; it is tried again", why=str(error))

    async def refresh(self) -> None:
        """Take over labels, groups and presence as the registry has them; without it, what is known holds."""
        try:
            rows = await self.fleet.agents()
        except Away as error:
            if self.away_since is None:
                self.away_since = self.clock.now()
                log.warning("goes on with the agents it knows", why=str(error))
            return
        self.away_since = None
        for start in range(0, len(rows), AGENTS_AT_ONCE):
            await self._see(rows[start : start + AGENTS_AT_ONCE])

    async def look_again(self) -> None:
        """While the registry is away, ask it soon: one that starts beside this one is there in a moment."""
        if self.away_since:
            await self.refresh()

    async def _see(self, rows: list[AgentRow]) -> None:
        def see(picture: Picture, touched: Touched, now: datetime) -> None:
            see_agents(picture, rows, touched, now)

        try:
            await self.intake.do(see)
        except (Unavailable, Fenced) as error:
            log.warning("cannot keep who is in the fleet; the next round does", why=str(error))

    async def forget(self) -> None:
        """Delete what is older than history is kept; what lasts stays, however old it is."""
        before = self.clock.now() - timedelta(days=self.history_days)

        def forget_old(picture: Picture, touched: Touched, now: datetime) -> None:
            forget_retired(picture, before, touched, now)
            picture.set_windows(
                {name: one for name, one in picture.windows.items() if one.told.until > before}
            )

        try:
            while await self.store.forget(before):
                pass
            await self.intake.do(forget_old)
        except (Unavailable, Fenced) as error:
            log.warning("cannot forget old history now", why=str(error))

    def complaints(self) -> list[str]:
        """What is wrong now, for people; empty when all is well."""
        if self.away_since is None:
            return []
        return [f"fleet-registry has not answered since {self.away_since:%H:%M:%S}"]
