"""What fuzzers send: values of any kind, and those that someone who knows Parley would try; the same each time."""

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from chat_app.ui.guard.arguments import Argument, Beginning, Form, Stored, Text, Texts

ODD = (
    *("", " ", "+", "-1", "0", "1e9", "free", "admin", "user", "upheld", "30", "None", "null"),
    *("\0", "a\0b", "\ud800", "\x1b[2K", "\u202e", "🌲" * 60, "é" * 64, "a" * 64, "a" * 65, "a" * 200, "a" * 201),
    *("../../etc/passwd", "%00", "' OR 1=1 --", "<img src=x onerror=alert(1)>", "{{7*7}}", "9" * 400),
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(ODD) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def bounded(examples: int) -> settings:
    """So many examples, chosen the same way each time: a run of CI is decided by the change that it is of."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # Made smaller, a sequence would be sent hundreds of times over.
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


def texts(*known: str) -> st.SearchStrategy[str]:
    """Texts; a third of them name something of another person."""
    return st.sampled_from(known or ODD) | st.sampled_from(ODD) | st.text(max_size=40)


def argument(kind: Argument, *known: str) -> st.SearchStrategy[Any]:
    """Values for an argument of this kind, most of them such as it takes."""
    match kind:
        case Text() | Beginning():
            fitting: st.SearchStrategy[Any] = texts(*known)
        case Form():
            fields = st.sampled_from([*kind.fields, "more"])
            as_mapping = st.dictionaries(fields, texts(*known), max_size=8)
            as_pairs = st.lists(st.tuples(fields, texts(*known)), max_size=8)
            fitting = as_mapping | as_pairs.map(lambda pairs: {"__reflex_form_data__": pairs})
        case Texts():
            fitting = st.none() | st.lists(texts(*known), max_size=5)
        case Stored():
            fitting = st.none() | st.dictionaries(st.sampled_from([*kind.names(), "more"]), texts(*known), max_size=3)
        case _:
            raise AssertionError(f"a kind of argument that no fuzzer knows: {kind}")
    return st.one_of(fitting, fitting, fitting, JSON)
