"""What follows an event that failed: the page is told once, also if telling it fails in its turn."""

from collections.abc import Iterator
from typing import Any

import pytest
from reflex_base.event.context import EventContext

from chat_app.chat_app import unexpected
from chat_app.data.db.base import DatabaseUnavailable


@pytest.fixture
def failed() -> Iterator[EventContext]:
    """The context of an event that has failed."""
    unused: Any = None
    context = EventContext(token="tab", state_manager=unused, enqueue_impl=unused)
    before = EventContext.set(context)
    yield context
    EventContext.reset(before)


@pytest.mark.parametrize("error", [RuntimeError("broken"), DatabaseUnavailable("away")])
def test_what_fails_while_a_page_is_told_of_a_failure_is_not_told_again(error: Exception, failed: EventContext) -> None:
    assert len(unexpected(error)) == 2
    # Reflex runs what is returned in forks. Without the store of states these fail as well: over and over, if each of
    # them was told of again, 150 times a second for every page.
    EventContext.set(failed.fork())
    assert unexpected(error) == []


def test_another_event_that_fails_is_told_of(failed: EventContext) -> None:
    assert len(unexpected(RuntimeError("broken"))) == 2
    EventContext.set(EventContext(token="tab", state_manager=failed.state_manager, enqueue_impl=failed.enqueue_impl))
    assert len(unexpected(RuntimeError("broken"))) == 2
