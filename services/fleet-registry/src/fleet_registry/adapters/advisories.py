"""The broker's own word on connections: who has one, from where, and whose has just ended.

Heard through a connection of its own, as the identity ``system``. The advisories tell host and key but
no port, and nothing of what was there before; both come from CONNZ, by pages. What CONNZ lacks is never
taken for a loss: after an outage the agents are only on their way back.
"""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from fleet_registry.adapters.identities import Identities
from muster_bus import Bus
from muster_bus.broker import ACCOUNT
from muster_runtime import logger

PAGE = 1024
FEW = 16
"""Up to this many new connections are asked for one by one, more by reading all pages."""

ConnectionId = tuple[str, int]

log = logger(__name__)


class Connections:
    """The agents' open connections, as one broker (or cluster) tells them; see ``ports.Addresses``."""

    def __init__(self, bus: Bus, identities: Identities) -> None:
        self.on_dropped: Callable[[str, datetime], None] = lambda *_: None
        """An agent's last connection ended."""
        self.on_connected: Callable[[str], None] = lambda _: None
        self.on_addresses: Callable[[dict[str, str]], None] = lambda _: None
        """Addresses with their ports are known now, by agent."""
        self.on_outage: Callable[[], None] = lambda: None
        """The broker is away: what it said of connections means nothing any more."""
        self._bus, self._identities = bus, identities
        self._open: dict[str, dict[ConnectionId, str]] = defaultdict(dict)
        self._portless: dict[ConnectionId, str] = {}
        self._closed: set[ConnectionId] | None = None
        """What ended while the pages were being read."""
        self.complete = False
        self._asking = asyncio.Event()

    def address(self, agent_id: str) -> str | None:
        """``host:port`` of an agent's newest connection; the host alone while the port is not known."""
        addresses = self._open.get(agent_id)
        return next(reversed(addresses.values())) if addresses else None

    def is_connected(self, agent_id: str) -> bool:
        """Whether an agent has a connection, as far as is known."""
        return bool(self._open.get(agent_id))

    @property
    def hearing(self) -> bool:
        """Whether the broker's advisories reach this process."""
        return self._bus.connected

    async def start(self) -> None:
        """Listen, now or as soon as the broker can be reached, and load what is connected already."""
        self._bus.on_disconnect(self._forget)
        self._bus.on_reconnect(self._asking.set)
        await self._bus.once_connected(self._listen)

    async def keep_complete(self) -> None:
        """For ever: fetch what the advisories do not tell, whenever something is missing."""
        while True:
            await self._asking.wait()
            self._asking.clear()
            try:
                await self._fetch()
            except (NatsError, TimeoutError, KeyError, ValueError) as error:
                log.warning("cannot list the broker's connections", why=str(error) or type(error).__name__)
                await asyncio.sleep(1.0)
                self._asking.set()

    async def _listen(self) -> None:
        for what, take in (("CONNECT", self._on_connect), ("DISCONNECT", self._on_disconnect)):
            await self._bus.client.subscribe(f"$SYS.ACCOUNT.{ACCOUNT}.{what}", cb=take)
        self._asking.set()

    async def _on_connect(self, message: Msg) -> None:
        with _tolerant():
            told = json.loads(message.data)
            client, connection = told["client"], (told["server"]["id"], told["client"]["id"])
            if agent_id := self._identities.agent_of(client.get("user", "")):
                self._open[agent_id][connection] = client.get("host", "")
                self._portless[connection] = agent_id
                self._asking.set()
                self.on_connected(agent_id)

    async def _on_disconnect(self, message: Msg) -> None:
        with _tolerant():
            told = json.loads(message.data)
            client, connection = told["client"], (told["server"]["id"], told["client"]["id"])
            if self._closed is not None:
                self._closed.add(connection)
            self._portless.pop(connection, None)
            agent_id = self._identities.agent_of(client.get("user", ""))
            if agent_id is None:
                return
            self._open[agent_id].pop(connection, None)
            # A broker that stops ends its connections itself: that is no word on the agents.
            if not self._open[agent_id] and told.get("reason") != "Server Shutdown":
                self.on_dropped(agent_id, _moment(client.get("stop")))

    def _forget(self) -> None:
        """The broker is away, and with it every connection there was."""
        self._open.clear()
        self._portless.clear()
        self.complete = False
        self.on_outage()

    async def _fetch(self) -> None:
        """Fetch what is missing; after a failure all pages are read again, whatever was fetched by then."""
        portless, self._portless = self._portless, {}
        try:
            if self.complete and len(portless) <= FEW:
                for server, cid in portless:
                    self._learn(*await self._page(server, {"cid": cid}))
            else:
                await self._fetch_all()
        except BaseException:
            # Not one by one once more: the server that had them may be gone, and would be asked for ever.
            self.complete = False
            self._asking.set()
            raise

    async def _fetch_all(self) -> None:
        self._closed = set()
        try:
            for server in await self._servers():
                offset, total = 0, 1
                while offset < total:
                    server_id, data = await self._page(server, {"offset": offset})
                    self._learn(server_id, data)
                    offset, total = offset + PAGE, int(data["total"])
        finally:
            self._closed = None
        self.complete = True

    def _learn(self, server: str, data: dict[str, Any]) -> None:
        learned: dict[str, str] = {}
        for one in data.get("connections") or ():
            connection, ip = (server, one["cid"]), one["ip"]
            agent_id = self._identities.agent_of(one.get("authorized_user", ""))
            if agent_id and self._may_be_open(agent_id, connection):
                host = f"[{ip}]" if ":" in ip else ip
                learned[agent_id] = self._open[agent_id][connection] = f"{host}:{one['port']}"
        if learned:
            self.on_addresses(learned)

    def _may_be_open(self, agent_id: str, connection: ConnectionId) -> bool:
        """A connection may have ended between its listing and now."""
        return connection in self._open[agent_id] or (
            self._closed is not None and connection not in self._closed
        )

    async def _servers(self) -> list[str]:
        """The ids of every server of the cluster: each answers, so answers are awaited for a moment."""
        found: list[str] = []
        inbox = self._bus.client.new_inbox()
        subscription = await self._bus.client.subscribe(inbox)
        try:
            await self._bus.client.publish("$SYS.REQ.SERVER.PING.IDZ", b"", reply=inbox)
            with contextlib.suppress(TimeoutError, NatsError):
                while True:
                    answer = await subscription.next_msg(timeout=0.25 if found else 2.0)
                    found.append(json.loads(answer.data)["id"])
        finally:
            await subscription.unsubscribe()
        return found

    async def _page(self, server: str, query: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        asked = {"auth": True, "acc": ACCOUNT, "limit": PAGE, **query}
        answer = await self._bus.client.request(
            f"$SYS.REQ.SERVER.{server}.CONNZ", json.dumps(asked).encode(), timeout=2
        )
        told = json.loads(answer.data)
        return told["server"]["id"], told.get("data") or {"total": 0}


@contextlib.contextmanager
def _tolerant() -> Any:
    """An advisory of a form this version does not know is skipped, not fatal: silence judges in its place."""
    try:
        yield
    except (KeyError, ValueError, TypeError) as error:
        log.warning("cannot read an advisory of the broker", why=repr(error))


def _moment(text: str | None) -> datetime:
    try:
        return datetime.fromisoformat(text or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)
