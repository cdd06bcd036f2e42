"""What the text of a setting means: names, pairs, networks, addresses. It reads no environment."""

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

import idna


@lru_cache(maxsize=8)
def networks_of(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks that `PARLEY_TRUSTED_PROXIES` names; an address is a network of one. Raises `ValueError`."""
    made = []
    for name in names_in(value):
        try:
            made.append(ip_network(name))
        except ValueError as error:
            raise ValueError(f"{name!r} is neither an address nor a network: write 10.0.0.5 or 10.0.0.0/24") from error
    return tuple(made)


def origin_of(address: str) -> str:
    """Scheme, name and port of a web address as browsers write them: lower case, other scripts as IDNA, and no port
    where it is the scheme's own. Raises `ValueError` if it is no address, or has more in it than that."""
    wrong = ValueError(f"{address!r} is no address: write https://chat.example.org")
    try:
        parts = urlsplit(address.strip())
        name, port = _ascii(parts.hostname or ""), parts.port
    except ValueError as error:  # Not a port, half an IPv6 address, or a name that cannot be.
        raise wrong from error
    if parts.scheme not in _PORTS or port == 0 or parts.netloc.endswith(":") or "%" in name:
        raise wrong
    origin = f"{parts.scheme}://{name}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")
    if "@" in parts.netloc:  # What stands in front of it may be a password, and is not repeated.
        raise ValueError(f"an address without user and password is wanted: write {origin}")
    if parts.path not in ("", "/") or set("?#") & set(address):
        raise ValueError(
            f"{address!r} goes on behind the name, and Parley is served at the root of one: write {origin}"
        )
    return origin


_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def _ascii(name: str) -> str:
    """A host's name or address in lower case, as it stands in a URL. Raises `ValueError`."""
    if ":" in name:
        return f"[{IPv6Address(name)}]"
    name = name.rstrip(".")
    name = name if name.isascii() else idna.encode(name, uts46=True).decode()
    if not _NAME.fullmatch(name):
        raise ValueError(name)
    return name


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine and no other can reach it under it."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def names_in(value: str) -> tuple[str, ...]:
    """The names that stand in it, separated by commas."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


def pairs_in(value: str) -> dict[str, str]:
    """What `a=b, c=d` gives to each name, in that order. Raises `ValueError`."""
    made = {}
    for pair in names_in(value):
        # From the right: names of groups may be addresses with a query of their own.
        group, equals, given = (part.strip() for part in pair.rpartition("="))
        if not (group and equals and given):
            raise ValueError(f"{pair!r} is no pair: write group=name")
        made[group] = given
    return made


def is_address(url: str) -> bool:
    """Whether it is the address of a web server."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        plain = not set(" ?#") & set(url)
        return parts.scheme in ("http", "https") and bool(host) and parts.port != 0 and plain
    except ValueError:  # Not a port, half an IPv6 address, or a name that cannot be.
        return False
