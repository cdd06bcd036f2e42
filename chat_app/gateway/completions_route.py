"""`/v1/chat/completions` as a route of its own, in front of the app that has all the others.

Plain ASGI in the request's one task: no middleware wraps what an answer sends, since that is paid with every token.
What the other routes have from middleware (an id, a bounded body, security headers, figures, errors) it does itself.
"""

import time
from contextlib import suppress
from functools import partial

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from chat_app.accounts.grant import Grant
from chat_app.gateway.caller import GetParley, by_authorization
from chat_app.gateway.completion_body import SMALL, Bodies, expected
from chat_app.gateway.completion_request import CompletionRequest, read_completion
from chat_app.gateway.completions import Completion
from chat_app.gateway.connection import Connection, HungUp, Pairs
from chat_app.gateway.edge import TooLarge, declared, most_bytes, request_id_of
from chat_app.gateway.errors import not_allowed, reported
from chat_app.gateway.headers import headers_for
from chat_app.telemetry.measured_http import RouteFigures
from chat_app.turn import Ask
from chat_app.turn.program import asked

PATH = "/v1/chat/completions"
SCOPE = "chat"
MOMENT_S = 1.0
"""A body that took longer has its key looked at again."""
HUNG_UP = 499
"""What is counted where a program was gone before it got a status; the number is nginx's."""


class CompletionsRoute:
    """The app of this one address, wherever it stands `before` others. `get_parley` as for `api`."""

    def __init__(self, get_parley: GetParley) -> None:
        self._get_parley = get_parley
        self._figures = RouteFigures(PATH)
        self._most = most_bytes(PATH)
        self._bodies = Bodies(self._most)

    def before(self, rest: ASGIApp) -> ASGIApp:
        """This for its own address, `rest` for every other one."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            mine = scope["type"] == "http" and scope["path"] == PATH
            await (self if mine else rest)(scope, receive, send)

        return serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = dict(reversed(list(scope["headers"])))  # Of several with one name the first.
        request_id = request_id_of(headers)
        always = (*headers_for(scope, self._get_parley().settings), (b"x-request-id", request_id))
        connection = Connection(receive, send, lambda: self._figures.responding(time.perf_counter() - began))
        with bound_contextvars(request_id=request_id.decode()):
            try:
                await self._complete(scope["method"], headers, always, connection)
            except HungUp:
                pass
            except Exception as error:
                await _refuse(error, always, connection, expected(headers))
            finally:
                self._figures.over(scope["method"], connection.status or HUNG_UP)

    async def _complete(self, method: str, headers: dict[bytes, bytes], always: Pairs, connection: Connection) -> None:
        if method != "POST":
            raise not_allowed(method, PATH, ["POST"])
        if declared(headers) > self._most:
            raise TooLarge
        parley = self._get_parley()
        key = headers.get(b"authorization", b"").decode("latin-1")
        grant = await by_authorization(parley, key, SCOPE)
        since = time.monotonic()
        # Nothing of the body is looked at before whoever sends it is within their limits.
        async with await parley.turns.admit(grant) as place:
            detached = headers.get(b"x-parley-detach", b"").lower() == b"true"
            understand = partial(_understood, grant, parley.settings.max_input_chars, detached)
            wanted, ask = await self._bodies.read(connection, expected(headers), grant.identity.user_id, understand)
            if time.monotonic() - since > MOMENT_S:  # It may have been revoked by now.
                await by_authorization(parley, key, SCOPE)
            await Completion(parley, grant, place, wanted, ask, connection).run(always)


def _understood(grant: Grant, most: int, detached: bool, raw: bytes) -> tuple[CompletionRequest, Ask]:
    wanted = read_completion(raw)
    ask = asked(
        grant.identity,
        wanted.messages,
        wanted.model,
        wanted.sampling,
        most=most,
        tools=wanted.tools.functions,
        tool_choice=wanted.tools.choice,
        built_in=wanted.tools.built_in,
        detached=detached,
        models=grant.rights.models,
    )
    return wanted, ask


async def _refuse(error: Exception, always: Pairs, connection: Connection, length: int | None) -> None:
    """Send the error, unless an answer has begun: then only a broken connection can still say it.

    `length` is that of the body. If that stays unread, the connection cannot be used again, and the program is told.
    """
    problem = reported(error)
    if connection.status:
        raise error
    with suppress(HungUp):
        if not await connection.emptied(length if length is not None and length <= SMALL else None):
            problem.headers["Connection"] = "close"
        await connection.respond(problem.status, orjson.dumps(problem.body()), (*problem.pairs, *always))
