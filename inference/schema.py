"""JSON schemas: where a request has one, and bounds that are checked before an engine sees it. Pure; compiles nothing.

A schema comes from anybody who may ask, and the engine that compiles it serves everybody: a single `maxItems` of 10^9
takes llama.cpp all of the machine's memory. What lies within these bounds took it a second at worst.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from inference.protocol import BadRequest

MOST_BYTES = 65_536
MOST_LEVELS = 64
MOST_PARTS = 400  # Properties and choices together: where 500 are possible at one place, llama.cpp gives up.
MOST_VALUES = 5_000  # Of one `enum`.
MOST_PATTERN = 500
MOST_PATTERNS = 10  # In all: twenty that must hold at once take llama.cpp seconds, in which nobody else is served.
ANY_OBJECT = '{"type":"object"}'
COUNTS = {
    **dict.fromkeys(("minItems", "maxItems"), 10_000),
    **dict.fromkeys(("minLength", "maxLength"), 100_000),
    **dict.fromkeys(("minProperties", "maxProperties"), 1_000),
}
TYPES = frozenset(("object", "array", "string", "number", "integer", "boolean", "null"))
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
SINGLE = ("items", "additionalProperties", "additionalItems", "contains", "propertyNames", "not", "if", "then", "else")


def schema_in(response_format: Any) -> str:
    """The JSON text of the schema that OpenAI's field `response_format` asks for, "" for none. Raises `BadRequest`."""
    if response_format is None:
        return ""
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise BadRequest('response_format.type must be "text", "json_object" or "json_schema"')
    described = response_format.get("json_schema")
    if (kind == "json_schema") != isinstance(described, dict):
        raise BadRequest('response_format.json_schema and the type "json_schema" belong together')
    if kind != "json_schema":
        return ANY_OBJECT if kind == "json_object" else ""
    # Its `name` is for readers, and `strict` changes nothing: an answer always fits.
    schema = described.get("schema")
    check_schema(schema)
    return orjson.dumps(schema).decode()


def check_schema(schema: Any) -> int:
    """How many parts it has: itself, and its properties, choices and definitions at every level.

    Raises `BadRequest`, which says where, for what is no schema, or one that is too large or leads nowhere.
    """
    if not isinstance(schema, dict):
        raise _bad("", "must be an object")
    try:
        size = len(orjson.dumps(schema))
    except orjson.JSONEncodeError:  # Hundreds of levels.
        size = 0
    if size > MOST_BYTES:
        raise _bad("", f"has more than {MOST_BYTES:,} bytes")
    if not size or not _is_shallow(schema):
        raise _bad("", f"is nested more than {MOST_LEVELS} levels deep")
    waiting, parts, patterns, followed = [("", schema)], 0, 0, set[str]()
    while waiting:
        where, part = waiting.pop()
        if (parts := parts + 1) > MOST_PARTS:
            raise _bad("", f"has more than {MOST_PARTS} properties, choices and definitions")
        if isinstance(part, dict):
            _check_part(where, part)
            if "$ref" in part:
                _follow(schema, where, part, followed)
            waiting += _below(where, part)
            patterns += ("pattern" in part) + len(part.get("patternProperties", ()))
            if patterns > MOST_PATTERNS:
                raise _bad("", f"has more than {MOST_PATTERNS} patterns")
        elif not isinstance(part, bool):
            raise _bad(where, "must be an object")
    return parts


def _check_part(where: str, part: dict[str, Any]) -> None:
    kinds = part.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in TYPES:
            raise _bad(f"{where}/type", f"must be of {', '.join(sorted(TYPES))}")
    for word, most in COUNTS.items():
        if word in part and not (type(part[word]) is int and 0 <= part[word] <= most):
            raise _bad(f"{where}/{word}", f"must be a whole number from 0 to {most:,}")
    for least, most_word in (("minItems", "maxItems"), ("minLength", "maxLength"), ("minimum", "maximum")):
        if least in part and most_word in part and _number(part[least]) > _number(part[most_word]):
            raise _bad(where, f"has a {least} above its {most_word}: nothing fits it")
    if "pattern" in part and not (isinstance(part["pattern"], str) and len(part["pattern"]) <= MOST_PATTERN):
        raise _bad(f"{where}/pattern", f"must be a text of at most {MOST_PATTERN} characters")
    if "enum" in part and not (isinstance(part["enum"], list) and 1 <= len(part["enum"]) <= MOST_VALUES):
        raise _bad(f"{where}/enum", f"must be a list of 1 to {MOST_VALUES:,} values")


def _below(where: str, part: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas right under this one, each with its place."""
    for word in NAMED:
        if word in part:
            named = part[word]
            if not isinstance(named, dict):
                raise _bad(f"{where}/{word}", "must be an object")
            yield from ((f"{where}/{word}/{name}", each) for name, each in named.items())
    for word in LISTED:
        if isinstance(listed := part.get(word), list):
            if not listed:
                raise _bad(f"{where}/{word}", "must not be empty")
            yield from ((f"{where}/{word}/{at}", each) for at, each in enumerate(listed))
        elif word in part and word not in SINGLE:
            raise _bad(f"{where}/{word}", "must be a list")
    yield from ((f"{where}/{word}", part[word]) for word in SINGLE if word in part and not isinstance(part[word], list))


def _follow(schema: dict[str, Any], where: str, part: dict[str, Any], followed: set[str]) -> None:
    """Raises `BadRequest` unless a reference leads, over others if need be, to something that is none.

    `followed` are references that do, from other places; this one's are added to them.
    """
    seen: set[str] = set()
    found: Any = part
    while isinstance(found, dict) and "$ref" in found:
        ref = found["$ref"]
        if not isinstance(ref, str) or not ref.startswith("#") or ref in seen:
            raise _bad(f"{where}/$ref", "must lead to a place within this schema")
        if ref in followed:
            break
        seen.add(ref)
        found = schema
        for step in ref[1:].strip("/").split("/") if ref != "#" else ():
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise _bad(f"{where}/$ref", f"leads to {ref}, where nothing is")
            found = found[name]
    followed |= seen


def _is_shallow(schema: Any) -> bool:
    level = [schema]
    for _ in range(MOST_LEVELS):
        level = [each for part in level for each in _values(part)]
        if not level:
            return True
    return False


def _values(part: Any) -> list[Any]:
    return list(part.values()) if isinstance(part, dict) else part if isinstance(part, list) else []


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


def _bad(where: str, why: str) -> BadRequest:
    return BadRequest(f"the JSON schema{' at ' + where if where else ''} {why}")
