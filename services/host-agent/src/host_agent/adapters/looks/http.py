"""A look by HTTP: one request on a connection of its own; no more is read of the answer than is asked for."""

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import SplitResult, urlsplit

import h11

from host_agent.adapters.looks import trust
from host_agent.adapters.looks.connecting import Connecting
from host_agent.adapters.looks.http_exchange import Exchange, by_name
from host_agent.adapters.looks.patterns import Pattern
from host_agent.adapters.variables import is_for_another, read_secret
from host_agent.domain.certificate import ends_at
from host_agent.domain.http_answer import Answer, judge
from host_agent.domain.look import Seen, Settled, unknown
from host_agent.domain.package import Loaded
from host_agent.ports import CannotRun
from muster_contracts.package.specification import HttpCheck

PORTS = {"http": 80, "https": 443}


class HttpLook:
    """Implements ``host_agent.ports.Look``.

    Raises:
        Settled: the check can never be done.
    """

    def __init__(self, check: HttpCheck, package: Loaded) -> None:
        self._check = check
        self._package = package
        self._url = _split(check.url)
        self._request(check.headers)
        self._pattern = Pattern(check.body_matches) if check.body_matches is not None else None
        self._reads_body = self._pattern is not None or check.body_contains is not None
        self._asks_expiry = check.expiry_warning_days is not None or check.expiry_critical_days is not None
        self._connecting = Connecting(str(self._url.hostname), _port(self._url))
        self._exchange: Exchange | None = None

    @property
    def stage(self) -> str:
        """What it waits for."""
        return (self._exchange or self._connecting).stage

    async def look(self) -> Seen:
        """Ask, and judge the answer."""
        self._exchange = None
        try:
            request = self._request(self._check.headers | await self._secrets())
            answer = await self._ask(request, await self._context())
            matches = self._pattern is None or await self._pattern.is_in(answer.body)
        except Settled as settled:
            return settled.seen
        return judge(self._check, answer, matches=matches)

    async def _ask(self, request: h11.Request, context: ssl.SSLContext | None) -> Answer:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self._connecting.opened(context) as (reader, writer):
            where = f"{self._connecting.host} port {self._connecting.port}"
            self._exchange = Exchange(where, reader, writer)
            head = await self._exchange.head(request)
            body = await self._exchange.body() if self._reads_body else b""
            seconds = loop.time() - began
            lasting = _lasting(writer) if self._asks_expiry else None
            return Answer(head.status_code, by_name(head.headers), body, seconds, lasting)

    def _request(self, headers: Mapping[str, str]) -> h11.Request:
        """The request with these headers beside the usual ones.

        Raises:
            Settled: HTTP does not allow one of them.
        """
        usual = {
            "Host": self._url.netloc,
            "User-Agent": "muster-host-agent",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if self._check.method == "POST":
            usual["Content-Length"] = "0"
        given = {name.lower() for name in headers}
        all_of_them = {name: value for name, value in usual.items() if name.lower() not in given} | dict(
            headers
        )
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        try:
            encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in all_of_them.items()]
            return h11.Request(method=self._check.method, target=target, headers=encoded)
        except (h11.LocalProtocolError, UnicodeError):  # which tell the value
            names = ", ".join(headers) or "none"
            text = f"cannot send the request: HTTP does not allow the url or a header (they are: {names})"
            raise Settled(unknown("request", text)) from None

    async def _secrets(self) -> dict[str, str]:
        if not self._check.secret_headers:
            return {}
        try:
            return await asyncio.to_thread(self._read_secrets)
        except CannotRun as error:
            raise Settled(unknown("no-secret", str(error))) from None

    def _read_secrets(self) -> dict[str, str]:
        another = is_for_another(self._package)
        return {
            name: read_secret(self._package, file, f"header {name}", for_another=another, doing="check")
            for name, file in self._check.secret_headers.items()
        }

    async def _context(self) -> ssl.SSLContext | None:
        if self._url.scheme != "https":
            return None
        authority = self._check.authority_file
        path = self._package.path(authority) if authority else None
        return await trust.context(path, verify=self._check.verify)


def _split(url: str) -> SplitResult:
    """The parts of a URL.

    Raises:
        Settled: it cannot be used.
    """
    problem = None
    try:
        parts = urlsplit(url)
        if not parts.hostname or not _port(parts):
            problem = "it names no host or no port"
        elif parts.username is not None:
            problem = "it holds a user; give a secret header Authorization"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise Settled(unknown("url", f"cannot use the url: {problem}"))
    return parts


def _port(url: SplitResult) -> int:
    return PORTS[url.scheme] if url.port is None else url.port


def _lasting(writer: asyncio.StreamWriter) -> float | None:
    """Seconds until the other side's certificate ends; its issuers' are not looked at."""
    if (tls := writer.get_extra_info("ssl_object")) is None:
        return None
    try:
        return (ends_at(tls.getpeercert(binary_form=True)) - datetime.now(UTC)).total_seconds()
    except ValueError as error:
        raise Settled(unknown("tls-expiry", str(error))) from None
