"""An event as a client sent it, read anew: its name, its arguments and its address, each within bounds."""

from collections.abc import Mapping
from typing import Any

from chat_app.ui.guard.arguments import Refused, Text
from chat_app.ui.guard.events import FROM_PAGES

ADDRESS = Text(2_000)
"""The path, and the path with its query."""
MOST_QUERY = 20


def read(data: object) -> dict[str, Any]:
    """The event, for Reflex to run. Raises `Refused`."""
    if not isinstance(data, dict):
        raise Refused
    name, payload = data.get("name"), data.get("payload")
    rule = FROM_PAGES.get(name) if isinstance(name, str) else None
    if rule is None:
        raise Refused
    payload = {} if payload is None else payload
    if not isinstance(payload, dict) or not rule.needed <= payload.keys() <= rule.arguments.keys():
        raise Refused
    return {
        "name": name,
        "payload": {argument: rule.arguments[argument].read(value) for argument, value in payload.items()},
        "router_data": router_data(data),
    }


def router_data(data: object) -> dict[str, Any]:
    """Where the page says that it is: Reflex keeps all of that in the state. Raises `Refused`."""
    sent = data.get("router_data") if isinstance(data, dict) else None
    if sent is None:
        return {}
    if not isinstance(sent, dict):
        raise Refused
    address: dict[str, Any] = {name: ADDRESS.read(sent[name]) for name in ("pathname", "asPath") if name in sent}
    query = sent.get("query")
    if query is not None:
        address["query"] = _query(query)
    return address


def _query(query: object) -> Mapping[str, str]:
    if not isinstance(query, dict) or len(query) > MOST_QUERY:
        raise Refused
    # A part of the address that the route leaves open is null.
    return {ADDRESS.read(name): ADDRESS.read(value) for name, value in query.items() if value is not None}
