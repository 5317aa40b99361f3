"""Where notices may go: which hosts, at which addresses."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Forbidden(Exception):
    """The settings do not let notices go there."""


@dataclass(frozen=True, slots=True)
class Egress:
    """Hosts by name, addresses by network.

    Without ``networks`` every public address is allowed, and none that is private, loopback, link-local or
    otherwise special: there the machine's own secrets live (169.254.169.254). With them only theirs are.
    """

    hosts: tuple[str, ...] = ()
    """Names, or patterns such as ``*.example.com``; empty: every name."""
    networks: tuple[Network, ...] = ()

    def name(self, host: str) -> None:
        """Return if a host of this name may be asked at all.

        Raises:
            Forbidden: it may not.
        """
        plain = host.rstrip(".").lower()
        if self.hosts and not any(fnmatchcase(plain, pattern.lower()) for pattern in self.hosts):
            raise Forbidden(f"host {host} is not among egress.hosts")

    def allowed(self, host: str, addresses: Iterable[str]) -> list[str]:
        """Those of the addresses of a host that may be connected to, in their order.

        Raises:
            Forbidden: none may.
        """
        given = list(addresses)
        found = [text for text in given if self._allows(text)]
        if not found:
            listed = ", ".join(given[:3]) or "none"
            where = (
                "are outside of egress.networks" if self.networks else "are not public; name egress.networks"
            )
            raise Forbidden(f"the addresses of {host} ({listed}) {where}")
        return found

    def _allows(self, text: str) -> bool:
        try:
            address = _real(ipaddress.ip_address(text.partition("%")[0]))
        except ValueError:
            return False
        if self.networks:
            return any(address in network for network in self.networks)
        local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local  # deprecated, and routed
        return address.is_global and not (local or address.is_multicast or address.is_reserved)


def _real(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
