"""Where a caller is: whose word is believed, and what counts as one address."""

import pytest

from chat_app.accounts.addresses import caller_address, counted
from chat_app.setting_values import networks_of
from chat_app.settings import Settings

PROXIES = networks_of("10.0.0.0/24, 192.0.2.7, 2001:db8:aaaa::/48")


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("93.184.216.34", [], "93.184.216.34"),
        ("93.184.216.34", ["1.2.3.4"], "93.184.216.34"),  # Nobody's proxy.
        ("10.0.1.9", ["1.2.3.4"], "10.0.1.9"),  # A neighbour on the local network is not one either.
        ("127.0.0.1", ["1.2.3.4"], "127.0.0.1"),
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.2", [""], "10.0.0.2"),
        ("10.0.0.2", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.2", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),  # The left one is the caller's own invention.
        ("10.0.0.2", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),  # Two headers are one list.
        ("10.0.0.2", ["6.6.6.6, 1.2.3.4, 192.0.2.7"], "1.2.3.4"),  # Through two of ours.
        ("10.0.0.2", ["10.0.0.3, 192.0.2.7"], "10.0.0.3"),  # From one of ours.
        ("10.0.0.2", ["1.2.3.4, unknown"], "10.0.0.2"),
        ("10.0.0.2", ["1.2.3.4:5678"], "1.2.3.4"),
        ("::ffff:10.0.0.2", ["1.2.3.4"], "1.2.3.4"),  # A socket of both kinds.
        ("2001:db8:aaaa::1", ["[2a00:1:2:3::4]:443"], "2a00:1:2:3::/64"),
        ("", ["1.2.3.4"], ""),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, said: list[str], address: str) -> None:
    assert caller_address(peer, said, PROXIES) == address


def test_a_household_of_ipv6_is_one_caller() -> None:
    assert counted("2a00:1:2:3::4") == counted("2a00:1:2:3:ffff:ffff:ffff:ffff") == "2a00:1:2:3::/64"
    assert counted("2a00:1:2:4::4") != counted("2a00:1:2:3::4")
    assert counted("::ffff:1.2.3.4") == counted("1.2.3.4") == "1.2.3.4"
    assert counted("fe80::1%eth0") == "fe80::/64"


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.300", "10.0.0.5/24", "10.0.0.1;10.0.0.2"])
def test_a_proxy_that_is_no_address_is_said(value: str) -> None:
    with pytest.raises(ValueError, match="neither an address nor a network"):
        Settings(trusted_proxies=value)


def test_there_are_no_trusted_proxies_by_default() -> None:
    assert networks_of(Settings().trusted_proxies) == ()
