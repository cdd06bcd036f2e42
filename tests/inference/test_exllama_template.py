"""Chat templates: found where models have them, rendered in a process that bounds them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from inference.engines.exllama.template import Template, source
from inference.protocol import BadRequest, EngineDied, EngineError, Message
from tests.inference.exllama_double import TEMPLATE

HELLO = (Message("system", "Be brief."), Message("user", "Hello"))

StartTemplate = Callable[..., Awaitable[Template]]


@pytest.fixture
async def start() -> AsyncIterator[StartTemplate]:
    async with AsyncExitStack() as stack:

        async def made(text: str, limit_s: float = 1.0, **tokens: str) -> Template:
            template = Template(text, tokens, limit_s)
            stack.push_async_callback(template.close)
            await template.start()
            return template

        yield made


async def test_messages_become_a_prompt(start: StartTemplate) -> None:
    template = await start(TEMPLATE)
    assert await template.render(HELLO) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_templates_find_what_they_are_written_for(start: StartTemplate) -> None:
    text = (
        "{{ bos_token }}\n    {% for message in messages %}\n{{ message['content'] | trim | tojson }}"
        "{% if loop.first %}{% continue %}{% endif %}{{ strftime_now('%Y') | length }}\n    {% endfor %}"
    )
    template = await start(text, bos_token="<s>")
    assert await template.render((Message("user", " a "), Message("user", "ä<"))) == '<s>\n"a""ä<"4\n'


@pytest.mark.parametrize(
    "body",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set xs = range(99999) | list %}{% for a in xs %}{% for b in xs %}{{ a }}{% endfor %}{% endfor %}",
    ],
)
async def test_a_template_that_loops_is_reported_and_the_next_prompt_is_made(start: StartTemplate, body: str) -> None:
    template = await start("{% if messages | length > 1 %}" + body + "{% endif %}fine")
    began = time.monotonic()
    with pytest.raises(BadRequest, match=r"did not come to an end within 1 seconds|took too much memory"):
        await template.render(HELLO)
    assert time.monotonic() - began < 5
    assert await template.render(HELLO[:1]) == "fine"


@pytest.mark.parametrize(
    "body",
    [
        "{% set ns = namespace(text='aaaaaaaa') %}"
        "{% for i in range(60) %}{% set ns.text = ns.text ~ ns.text %}{% endfor %}",
        "{{ 'a' * 9999999999 }}",
        "{{ 'a' | center(9999999999) }}",
        "{{ 'a' * 99999999 }}",
    ],
)
async def test_a_template_that_grows_is_reported(start: StartTemplate, body: str) -> None:
    template = await start("{% if messages | length > 1 %}" + body + "{% endif %}fine", limit_s=5.0)
    with pytest.raises(BadRequest, match=r"too much memory|a prompt of \d+ characters|OverflowError|MemoryError"):
        await template.render(HELLO)
    assert await template.render(HELLO[:1]) == "fine"


async def test_a_template_reaches_nothing_outside(start: StartTemplate) -> None:
    for text in (
        "{{ messages.__class__.__mro__ }}",
        "{{ raise_exception.__globals__ }}",
        "{% set _ = messages.append(1) %}",
        "{% include '/etc/passwd' %}",
    ):
        template = await start(text)
        try:
            assert await template.render(HELLO) == ""  # What it may not see is to it as if it were not there.
        except BadRequest as error:
            assert "chat template failed" in str(error)


async def test_what_a_template_refuses_is_reported_in_its_words(start: StartTemplate) -> None:
    template = await start("{{ raise_exception('System role not supported') }}")
    with pytest.raises(BadRequest, match="refuses these messages: System role not supported"):
        await template.render(HELLO)


async def test_a_damaged_template_is_reported_when_it_is_loaded(start: StartTemplate) -> None:
    with pytest.raises(EngineError, match="damaged"):
        await start("{% for message in messages %}")


def test_it_is_found_where_models_have_it(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    with pytest.raises(EngineError, match="no chat template"):
        source(tmp_path)
    config.write_text(json.dumps({"chat_template": "one", "bos_token": {"content": "<s>"}, "eos_token": "</s>"}))
    assert source(tmp_path) == ("one", {"bos_token": "<s>", "eos_token": "</s>"})
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "two"}]
    config.write_text(json.dumps({"chat_template": several}))
    assert source(tmp_path) == ("two", {})
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "three"}))
    assert source(tmp_path)[0] == "three"
    (tmp_path / "chat_template.jinja").write_text("four")
    assert source(tmp_path)[0] == "four"
    (tmp_path / "mine.jinja").write_text("five")
    assert source(tmp_path, str(tmp_path / "mine.jinja"))[0] == "five"
    with pytest.raises(EngineError, match="cannot be read"):
        source(tmp_path, str(tmp_path / "missing.jinja"))
    config.write_text("{")
    with pytest.raises(EngineError, match="damaged"):
        source(tmp_path)


async def test_who_waits_while_the_model_is_unloaded_starts_nothing(start: StartTemplate) -> None:
    template = await start(
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", limit_s=0.3
    )
    looping = asyncio.create_task(template.render(HELLO))
    closing = asyncio.create_task(template.close())
    waiting = asyncio.create_task(template.render(HELLO))
    with pytest.raises(BadRequest, match="did not come to an end"):
        await looping
    await closing
    with pytest.raises(EngineDied, match="not loaded"):
        await waiting
    assert template._child is None
