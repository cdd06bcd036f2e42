"""Logs for operators: what happened, when, to which generation. Never what was said, never a key or an address.

Every record, our own and those of libraries, passes `withhold` last before it is written. It keeps numbers and short
plain values, empties fields that hold content or credentials by their name, masks what looks like a credential or an
e-mail address anywhere, and reduces an exception to its type and its frames: messages of foreign exceptions quote
their input. One JSON object a line, or coloured text on a terminal. It does not know where the lines go.
"""

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

CONTENT_FIELDS = frozenset(
    [
        *("content", "text", "prompt", "message", "messages", "question", "answer", "title", "body", "note", "said"),
        *("query", "params", "payload", "input", "output", "form", "url", "headers", "cookie", "cookies"),
        *("email", "name", "password", "passwd", "token", "key", "api_key", "secret", "authorization"),
    ]
)
"""Fields whose value is never written, only its length."""

LONGEST_VALUE = 200
LONGEST_EVENT = 400
MOST_ITEMS = 20
_OWN = ("chat_app.", "inference.", "ops_dashboard.")

_MASKS = (
    (re.compile(r"://[^/\s:@]*:[^/\s@]*@"), "://…@"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "[address]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), r"\1 [withheld]"),
    (re.compile(r"(?i)\b(password|passwd|secret|token|api[_-]?key)(\s*[=:]\s*)\S+"), r"\1\2[withheld]"),
    (re.compile(r"\b(?:sk-|sk_|rk_|pk_|gh[pousr]_|github_pat_|xox\w-|AKIA|ASIA|AIza|eyJ|hf_)[\w./+=-]{8,}"), "[key]"),
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
"""What a terminal obeys instead of showing it, or begins a new line with: strangers' text is logged, too."""

_QUIET = (
    "alembic",
    "asyncio",
    "aiosqlite",
    "httpx",
    "httpx2",
    "httpcore",
    "watchfiles",
    "multipart",
    "hypercorn",
    "granian.access",
)


def configure(level: str = "info", *, stream: TextIO | None = None, as_json: bool | None = None) -> None:
    """Set logging up for this process. `as_json` None: JSON unless the stream is a terminal."""
    stream = stream or sys.stderr
    as_json = not stream.isatty() if as_json is None else as_json
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, withhold, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def withhold(_logger: WrappedLogger, _method: str, record: EventDict) -> EventDict:
    """The record without content, credentials and addresses. Last before rendering."""
    error = _error_of(record.pop("exc_info", None))
    record.pop("stack_info", None)
    clean: MutableMapping[str, Any] = {}
    for field, value in record.items():
        if field == "event":
            clean[field] = _masked(str(value), LONGEST_EVENT)
        else:
            clean[field] = _clean(field, value)
    if error is not None:
        clean["error_type"], clean["error_at"] = _described(error)
    return clean


def _clean(field: str, value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if field.lower() in CONTENT_FIELDS:
        return f"[withheld: {len(value)}]" if isinstance(value, str | bytes | Mapping | list | tuple) else "[withheld]"
    if isinstance(value, str):
        return _masked(value, LONGEST_VALUE)
    if isinstance(value, BaseException):
        return _described(value)[0]
    if depth > 2:
        return f"[{type(value).__name__}]"
    if isinstance(value, Mapping):
        return {str(name): _clean(str(name), each, depth + 1) for name, each in list(value.items())[:MOST_ITEMS]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(field, each, depth + 1) for each in list(value)[:MOST_ITEMS]]
    return _masked(str(value), LONGEST_VALUE)


def _masked(text: str, most: int) -> str:
    length, text = len(text), _CONTROL.sub(" ", text[: most * 4])
    for pattern, instead in _MASKS:
        text = pattern.sub(instead, text)
    return text if len(text) <= most else f"{text[:most]}… [{length} characters]"


def _error_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def _described(error: BaseException) -> tuple[str, list[str]]:
    """Type and cause of an exception, and where it was: file, line and function, the innermost last.

    Only our own exceptions and the system's keep their message: they are written for people and quote nothing.
    """
    kinds: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(kinds) < 5:
        kind = type(cause)
        words = f"{kind.__module__}.{kind.__qualname__}"
        if kind.__module__.startswith(_OWN) or isinstance(cause, OSError):
            words += f": {_masked(str(cause), LONGEST_VALUE)}"
        kinds.append(words)
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(error.__traceback__)[-12:]
    return " < ".join(kinds), [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
