"""6. A tool step: one call that a model made, and what it is given back.

Every call of a round that does not go out to the caller gets a result here, if only the reason why it was not made.
"""

import asyncio

import structlog

from chat_app.data.log.entries import clean
from chat_app.prompts.prompt import UnknownPart
from chat_app.tools import BUILT_IN, ToolError
from chat_app.turn.job import Job
from inference.protocol import ToolCall

logger = structlog.get_logger(__name__)

TOOL_S = 30.0
"""Seconds that a built-in tool may take."""
LONGEST_RESULT = 50_000
"""Characters of a tool's result."""
NOT_TOGETHER = "was not called, because others of the same round do not run where it does. Call it again without them."
"""Of a caller's own tool: the caller would never see what the others gave, and the model needs all of it at once."""


async def result_of(call: ToolCall, job: Job, key: str) -> tuple[str, str]:
    """What the tool returns, or why it cannot, for the model to read; and the step's status, done or failed.

    Raises `UnknownPart` for a tool of a newer release, which alone can run it.
    """
    if call.name in job.own_tools:
        return f"Error: {call.name} {NOT_TOGETHER}", "failed"
    if call.name not in job.built_in:
        offered = ", ".join(tool.name for tool in job.prompt.tools)
        return f"Error: there is no such tool. There are: {offered or 'none at all'}.", "failed"
    tool = BUILT_IN.get(call.name)
    if tool is None:
        raise UnknownPart(f"the tool {call.name}")
    try:
        async with asyncio.timeout(TOOL_S):
            return clean(await tool.run(call.arguments, key))[:LONGEST_RESULT], "done"
    except ToolError as error:
        return f"Error: {error}", "failed"
    except TimeoutError:
        return f"Error: {call.name} took longer than {TOOL_S:.0f} s", "failed"
    except Exception:  # A defect of the tool ends neither the turn nor, tried again and again, the others' patience.
        logger.exception("tool failed", tool=call.name, generation=job.row.id)
        return f"Error: {call.name} failed", "failed"
