"""Addresses of the machine's interfaces, asked of the kernel by netlink.

psutil would tell them too, for 0.9 MiB of memory; this is one question and one loop.
"""

import socket
import struct
from collections import defaultdict
from collections.abc import Iterator

RTM_NEWADDR, RTM_GETADDR, NLMSG_ERROR, NLMSG_DONE = 20, 22, 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
IFA_ADDRESS, IFA_LOCAL = 1, 2
HEADER, ADDRESS, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("=HH")
FAMILIES = (socket.AF_INET, socket.AF_INET6)


def addresses() -> dict[int, list[str]]:
    """IPv4 and IPv6 addresses by interface index, without prefix lengths; empty where we may not ask."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    try:
        for index, address in _ask():
            if address not in found[index]:
                found[index].append(address)
    except OSError:
        return {}
    return dict(found)


def _ask() -> Iterator[tuple[int, str]]:
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as link:
        link.settimeout(1)
        link.send(
            HEADER.pack(HEADER.size + ADDRESS.size, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
            + ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        )
        done = False
        while not done:
            answer = link.recv(1 << 16)
            for kind, body in messages(answer):
                done = done or kind in {NLMSG_DONE, NLMSG_ERROR}
                if kind == RTM_NEWADDR and (address := address_in(body)):
                    yield address


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages in one datagram: kind and body of each."""
    while len(data) >= HEADER.size:
        length, kind, _, _, _ = HEADER.unpack_from(data)
        yield kind, data[HEADER.size : length]
        data = data[_aligned(max(length, HEADER.size)) :]


def address_in(body: bytes) -> tuple[int, str] | None:
    """Interface index and address of one RTM_NEWADDR; on point-to-point links the local end."""
    family, _, _, _, index = ADDRESS.unpack_from(body)
    if family not in FAMILIES:
        return None
    attributes = dict(_attributes(body[ADDRESS.size :]))
    raw = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
    return (index, socket.inet_ntop(family, raw)) if raw else None


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        yield kind, data[ATTRIBUTE.size : length]
        data = data[_aligned(max(length, ATTRIBUTE.size)) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
