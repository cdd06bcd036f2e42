"""Where on the network a caller is, and whose word about it is believed. It looks nothing up and counts nothing.

Only X-Forwarded-For is read, and only from proxies that the settings name: whoever else sends it is believed nothing.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Networks = Sequence[IPv4Network | IPv6Network]
"""Of the proxies that are trusted."""

HOUSEHOLD = 64
"""Bits of an IPv6 address that limits look at: who has one address there has all of its network."""


def caller_address(peer: str, forwarded_for: Iterable[str], trusted: Networks) -> str:
    """Whose limits a request counts against: an IPv4 address, or an IPv6 network of /64.

    `peer` is the other end of the connection, `forwarded_for` the values of its X-Forwarded-For headers in their
    order. They are walked from the right, where each proxy adds whom it was asked by, for as long as the one who adds
    is trusted: what stands further left is whatever the caller wrote.
    """
    here = peer
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    while hops and is_trusted_proxy(here, trusted):
        said = _parsed(hops.pop())
        if said is None:  # Then this proxy does not know; it is all that is known.
            break
        here = str(said)
    return counted(here)


def is_trusted_proxy(host: str, trusted: Networks) -> bool:
    """Whether this end of a connection is one of the trusted proxies."""
    address = _parsed(host)
    return address is not None and any(address in network for network in trusted)


def counted(host: str) -> str:
    """The address as limits know it; what is no address stays as it is."""
    address = _parsed(host)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, HOUSEHOLD), strict=False))
    return host if address is None else str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """The address in `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]:80`; an IPv4 one that is dressed as IPv6 as itself (so
    sockets that take both kinds have it)."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
