"""Every error that leaves the gateway, in OpenAI's shape and with the status that its clients expect.

It knows the errors of the turn and of the rooms, and no request.
"""

from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from chat_app.accounts.identity import AccountError
from chat_app.billing.plans import PlanError
from chat_app.data.db.base import DatabaseUnavailable
from chat_app.data.leases.base import LeasesUnavailable
from chat_app.data.limits.base import LimitsUnavailable
from chat_app.data.log.base import LogUnavailable
from chat_app.safety.review import ReviewError
from chat_app.sessions.generations import NotFound
from chat_app.sessions.viewer import BadOffset, Gone
from chat_app.turn import TurnError
from inference.protocol import EngineError

logger = structlog.get_logger(__name__)

STORAGE = (DatabaseUnavailable, LogUnavailable, LimitsUnavailable, LeasesUnavailable)

UNFORESEEN = "internal_error"

# The codes that OpenAI's own clients and the tools built on them look for.
_OPENAI_CODES = {
    "context_too_long": "context_length_exceeded",
    "quota_exceeded": "insufficient_quota",
    "rate_limited": "rate_limit_exceeded",
    "model_unknown": "model_not_found",
}
_STATUS = {"not_found": 404, "too_many_attempts": 429, "email_taken": 409, "last_admin": 409, "decided": 409}
_STATUS_WORDS = {
    404: "There is nothing at this address.",
    405: "This address does not take this method.",
    408: "The request came too slowly, or in too many parts.",
    413: "The request is too large.",
}


class ApiError(Exception):
    """An error as its response has it: `code` for programs, `message` in plain words, `param` the field that is
    wrong."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, -int(-retry_after // 1)))

    @property
    def type(self) -> str:
        """OpenAI's kind of error, after the status."""
        if self.status in (401, 403):
            return "authentication_error" if self.status == 401 else "permission_error"
        if self.status == 429:
            return "insufficient_quota" if self.code == "insufficient_quota" else "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, Any]:
        """`{"error": {...}}`, the same in a JSON response and in an event of a stream."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    @property
    def pairs(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers of its response as ASGI has them."""
        named = {"content-type": "application/json", **self.headers}
        return tuple((name.lower().encode(), value.encode()) for name, value in named.items())

    def response(self) -> Response:
        """The whole response."""
        return Response(orjson.dumps(self.body()), self.status, self.headers, "application/json")


def api_error(error: Exception) -> ApiError:
    """The error as a program gets it. One that nobody foresaw comes without its details."""
    match error:
        case ApiError():
            return error
        case TurnError():
            code = _OPENAI_CODES.get(error.code, error.code)
            # OpenAI's clients would try again by themselves: it is no use until the month is over, or could cost twice.
            headers = {"x-should-retry": "false"} if code in ("insufficient_quota", "storage_unknown") else {}
            return ApiError(error.status, code, error.message, retry_after=error.retry_after, headers=headers)
        case AccountError():
            status = _STATUS.get(error.code, 400)
            return ApiError(status, error.code, error.message, retry_after=error.retry_after)
        case ReviewError():
            return ApiError(_STATUS.get(error.code, 400), error.code, error.message)
        case PlanError():
            return ApiError(400, "bad_plan", error.message)
        case NotFound():
            return ApiError(404, "not_found", "There is no such thing, or it is not yours.")
        case Gone():
            return ApiError(410, "text_gone", str(error))
        case BadOffset():
            return wrong("offset", str(error))
        case EngineError():
            message = "The model is not available right now. Try again in a moment."
            return ApiError(503, "engine_unavailable", message, retry_after=5)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            message = _STATUS_WORDS.get(error.status_code, str(error.detail))
            return ApiError(error.status_code, f"http_{error.status_code}", message, headers=error.headers)
        case _ if isinstance(error, STORAGE):
            message = "Parley cannot reach its storage right now. Try again in a moment."
            return ApiError(503, "storage_unavailable", message, retry_after=5)
        case _:
            return ApiError(500, UNFORESEEN, "Something went wrong on our side.")


def wrong(param: str, words: str, code: str = "bad_input") -> ApiError:
    """A field of the request is wrong (400): `param` names it, `words` say how, without a full stop."""
    return ApiError(400, code, f"{param}: {words}.", param=param)


def not_allowed(method: str, path: str, allowed: list[str]) -> ApiError:
    """The address is there, but not for this method (405)."""
    use = ", ".join(allowed)
    return ApiError(405, "method_not_allowed", f"{method} {path}: use {use}.", headers={"Allow": use})


def reported(error: Exception) -> ApiError:
    """`api_error`, and in the log what an operator has to know of it: of an `ApiError` nothing more."""
    made = api_error(error)
    if isinstance(error, STORAGE):
        logger.warning("storage unavailable", error=str(error))
    elif made.code == UNFORESEEN and made is not error:
        logger.error("unforeseen error", exc_info=error)
    return made


def install(app: FastAPI) -> None:
    """Have `app` return every error in this shape; a 404 outside /v1 stays the framework's own."""

    async def response(request: Request, error: Exception) -> Response:
        return reported(error).response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if request.url.path.startswith("/v1/"):
            return api_error(error).response()
        return await http_exception_handler(request, error)

    rooms = (AccountError, PlanError, ReviewError, NotFound, Gone, BadOffset)
    for kind in (ApiError, TurnError, *rooms, EngineError, *STORAGE):
        app.add_exception_handler(kind, response)
    app.add_exception_handler(RequestValidationError, response)
    app.add_exception_handler(HTTPException, http)


def _invalid(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return ApiError(400, "invalid_json", "The body is not valid JSON.")
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    return ApiError(400, "bad_input", f"{param}: {first['msg']}" if param else first["msg"], param=param)
