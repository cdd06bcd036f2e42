"""Models that call no tools: what needs them is refused with a status, and costs nothing. Who does not say is asked."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from inference import catalog
from tests.gateway.served import Served, served_by
from tests.inference.stranger import Stranger
from tests.parley import EngineProcess, StartParley, fleet_settings

BUNDLED = "smollm2-135m-instruct"
HELLO = {"role": "user", "content": "Hello"}
WEATHER = {"type": "function", "function": {"name": "weather"}}
CALLED = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
HISTORY = [
    HELLO,
    {"role": "assistant", "content": None, "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "c", "content": "rain"},
]


@pytest.fixture(scope="module")
def bundled_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("bundled")
    _, file = catalog.find(BUNDLED, home)
    (home / "models.toml").write_text(f'[[model]]\nid = "another"\nfile = "{file}"\nkv_tokens = 4096\n')
    engine = EngineProcess(home, "llama_cpp", ("--model", BUNDLED, "--home", str(home)), patience=120)
    yield engine.start()
    engine.kill()


@pytest.fixture(params=["embedded", "fleet"])
async def bundled(
    request: pytest.FixtureRequest, start_parley: StartParley, bundled_engine: str
) -> AsyncIterator[Served]:
    settings = fleet_settings(request) if request.param == "fleet" else {}
    async with served_by(await start_parley(inference_url=bundled_engine, default_model=BUNDLED, **settings)) as served:
        yield served


@pytest.mark.model
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "fields",
    [{"tools": [{"type": "calculator"}]}, {"tools": [WEATHER]}, {"messages": HISTORY}],
    ids=["calculator", "function", "history"],
)
async def test_tools_are_refused_with_a_status(bundled: Served, stream: bool, fields: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        await bundled.client().chat.completions.create(
            **{"model": BUNDLED, "messages": [HELLO], "stream": stream, **fields}
        )
    assert error.value.code == "bad_input"
    assert f"The model {BUNDLED} cannot call tools" in error.value.message
    assert await bundled.parley.db.query("SELECT id FROM generation") == []
    month = await bundled.parley.ledger.allowance(bundled.who.user_id, None)
    assert (month.used, month.held) == (0, 0)


@pytest.mark.model
async def test_a_model_that_was_never_loaded_is_asked_before_anything_is_held(bundled: Served) -> None:
    with pytest.raises(openai.BadRequestError, match=r"has no tools|cannot call tools") as error:
        await bundled.client().chat.completions.create(
            model="another",
            messages=[HELLO],  # type: ignore[list-item]
            tools=[WEATHER],  # type: ignore[list-item]
            stream=True,
        )
    assert error.value.code == "bad_input"
    assert await bundled.parley.db.query("SELECT id FROM generation") == []


@pytest.mark.model
async def test_without_tools_it_answers_and_its_abilities_are_listed(bundled: Served) -> None:
    client = bundled.client()
    answer = await client.chat.completions.create(model=BUNDLED, messages=[HELLO], max_tokens=4)  # type: ignore[list-item]
    assert answer.choices[0].message.content
    model = await client.models.retrieve(BUNDLED)
    assert "json_schema" in model.abilities and "tools" not in model.abilities  # type: ignore[attr-defined]


async def test_a_server_that_does_not_say_what_it_can_is_asked(start_parley: StartParley) -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", Stranger(words="It rains.").serve)
    async with (
        TestServer(app) as server,
        served_by(await start_parley(inference_url=str(server.make_url("")).rstrip("/"))) as served,
    ):
        answer = await served.client().chat.completions.create(
            model="scripted",
            messages=HISTORY,  # type: ignore[arg-type]
            tools=[WEATHER],  # type: ignore[list-item]
        )
        assert answer.choices[0].message.content == "It rains."
        [model] = (await served.client().models.list()).data
        assert model.abilities == []  # type: ignore[attr-defined]
