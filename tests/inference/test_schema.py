"""Bounds of JSON schemas: what people write passes, what would stop the engine does not."""

import time
from functools import reduce
from typing import Any

import pytest

from inference.protocol import BadRequest
from inference.schema import MOST_LEVELS, MOST_PARTS, check_schema

TREE = {
    "$defs": {
        "node": {"type": "object", "properties": {"below": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}
    },
    "$ref": "#/$defs/node",
}


def nested(levels: int) -> dict[str, Any]:
    return reduce(lambda inner, _: {"items": inner}, range(levels), {"type": "integer"})


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": ["string", "null"], "minLength": 1, "maxLength": 100_000, "pattern": "^a+$"},
        {"type": "object", "properties": {"type": {"type": "string"}, "maxItems": {"type": "integer"}}},
        {"enum": [{"type": "nonsense", "maxItems": -1}, None]},
        {"anyOf": [{"const": {"$ref": "nowhere"}}, {"items": False}], "additionalProperties": {"type": "null"}},
        {"properties": {f"p{n}": True for n in range(MOST_PARTS - 1)}},
        {"definitions": {"a/b": {"type": "null"}}, "$ref": "#/definitions/a~1b"},
        {"properties": {"again": {"$ref": "#"}}},
        {"minimum": 1.5, "maximum": 2, "minItems": 0, "maxItems": 10_000},
        nested(MOST_LEVELS - 2),
        TREE,
    ],
)
def test_schemas_that_people_write_pass(schema: Any) -> None:
    check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (None, "object"),
        ([], "object"),
        ("{}", "object"),
        ({"type": "nonsense"}, "/type"),
        ({"type": [7]}, "/type"),
        ({"properties": {"a": 3}}, "/properties/a"),
        ({"properties": []}, "/properties"),
        ({"anyOf": {}}, "/anyOf"),
        ({"allOf": []}, "/allOf"),
        ({"items": 7}, "/items"),
        ({"maxItems": 10**9}, "10,000"),
        ({"items": {"maxLength": 10**9}}, "/items/maxLength"),
        ({"minItems": -1}, "/minItems"),
        ({"minItems": True}, "/minItems"),
        ({"minItems": "3"}, "/minItems"),
        ({"minimum": 3, "maximum": 2}, "nothing fits"),
        ({"minLength": 3, "maxLength": 2}, "nothing fits"),
        ({"pattern": "a" * 501}, "/pattern"),
        ({"pattern": 7}, "/pattern"),
        ({"anyOf": [{"pattern": f"^{n}$"} for n in range(11)]}, "patterns"),
        ({"patternProperties": {f"^{n}$": {} for n in range(11)}}, "patterns"),
        ({"patternProperties": 3}, "/patternProperties"),
        ({"enum": []}, "/enum"),
        ({"enum": ["x"] * 5_001}, "/enum"),
        ({"$ref": "http://127.0.0.1/schema.json"}, "within this schema"),
        ({"$ref": "#/$defs/gone"}, "where nothing is"),
        ({"$ref": "#"}, "within this schema"),
        (
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
            "within this schema",
        ),
        ({"$ref": 7}, "within this schema"),
        ({"title": "x" * 2**20}, "bytes"),
        ({"properties": {f"p{n}": True for n in range(MOST_PARTS)}}, "properties"),
        (nested(MOST_LEVELS), "levels"),
        (nested(900), "levels"),
    ],
)
def test_a_schema_that_is_none_or_too_much_is_refused_with_the_place(schema: Any, says: str) -> None:
    with pytest.raises(BadRequest, match="the JSON schema") as caught:
        check_schema(schema)
    assert says in str(caught.value)


def chain(links: int) -> dict[str, Any]:
    """Definitions of which each refers to the next one, and the last to nothing."""
    defs: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(links)}
    return {**defs, f"d{links}": {"type": "null"}}


def test_a_chain_of_references_is_followed_once() -> None:
    class Counted(dict[str, Any]):
        looked_up = 0

        def __getitem__(self, name: str) -> Any:
            self.looked_up += 1
            return super().__getitem__(name)

    defs = Counted(chain(300))
    check_schema({"$defs": defs, "anyOf": [{"$ref": f"#/$defs/d{n}"} for n in range(50)]})
    assert defs.looked_up <= 2 * len(defs)


def test_a_circle_is_found_from_every_place_and_behind_what_was_followed() -> None:
    defs = {**chain(3), "a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": {"$ref": "#/$defs/b"}}
    for first in ("d0", "a", "c"):
        with pytest.raises(BadRequest, match="within this schema"):
            check_schema({"$defs": defs, "anyOf": [{"$ref": f"#/$defs/{first}"}]})


def test_parts_are_counted() -> None:
    assert check_schema({}) == 1
    assert check_schema({"properties": {"a": {"anyOf": [True, {"items": {}}]}}, "$defs": {"b": {}}}) == 6


def test_the_largest_body_is_refused_quickly() -> None:
    schema = {"anyOf": [{"properties": {f"p{n}": {}}} for n in range(130_000)]}  # 4 MB
    began = time.monotonic()
    with pytest.raises(BadRequest, match="bytes"):
        check_schema(schema)
    assert time.monotonic() - began < 1
