"""What the page shows of a stored answer: why it is not a whole one."""

from typing import Any

import pytest

from chat_app.sessions.threads import MessageView
from chat_app.ui import words
from chat_app.ui.state.entry import entry


def answer(status: str = "done", error: str = "", content: str = "Half of", **receipt: Any) -> MessageView:
    return MessageView("m", None, "assistant", content, status, "g", error, receipt, 1, 0, len(content))


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (answer(finish="stop"), ""),
        (answer(finish="length"), words.CUT_OFF),
        (answer("failed", "The model is gone.", finish="failed"), "The model is gone."),
        (answer(), ""),
    ],
)
def test_an_answer_that_was_cut_off_says_so(view: MessageView, why: str) -> None:
    assert entry(view, {}).error == why
