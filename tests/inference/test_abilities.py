"""What engines can do beside answering, the second half of the conformance suite: every engine passes, or skips with
the reason shown and then refuses in so many words."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from inference.client import InferenceClient
from inference.engines.base import Ability, Engine
from inference.engines.llama_cpp import LlamaCppEngine
from inference.engines.remote import RemoteEngine
from inference.engines.scripted import ScriptedEngine
from inference.protocol import BadRequest, Chunk, ContextTooLong, Picked
from tests.inference.conftest import KEY, Foreign, Live, collect, remote_flags, request, script, spawn, text_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "inference.md"

# By the engine and by whose answers it gives.
CANNOT: dict[tuple[str, str], dict[Ability, str]] = {
    ("scripted", "scripted"): {
        "json_schema": "a made-up object that fits would prove nothing",
        "grammar": "a made-up text that fits would prove nothing",
    },
    ("remote", "scripted"): {
        "json_schema": "the scripted engine behind it fits no schema",
        "grammar": "the scripted engine behind it fits no grammar",
    },
    ("exllama", "scripted"): {
        "json_schema": "the double in place of the GPU fits no schema; the real filter is tested by itself",
        "grammar": "ExLlamaV2 has no GBNF",
        "embeddings": "ExLlamaV2's generator makes none",
    },
    ("llama_cpp", "llama_cpp"): {"grammar": "only with --trust-grammars: see `LlamaCppEngine`"},
    ("remote", "llama_cpp"): {"embeddings": "this llama-server was not started with --embeddings"},
}

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "likes": {"type": "array", "items": {"enum": ["sea", "wood"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}


@contextmanager
def able(live: Live, ability: Ability) -> Iterator[None]:
    """Skips what this subject cannot do, once it has been seen to refuse it."""
    reason = CANNOT.get((live.engine, live.kind), {}).get(ability)
    if not reason:
        yield
        return
    with pytest.raises(BadRequest):
        yield
    pytest.skip(f"{live.engine}: {reason}")


def picks(chunks: list[Chunk]) -> list[Picked]:
    return [picked for chunk in chunks for picked in chunk.logprobs]


def raw(picked: list[Picked]) -> bytes:
    return b"".join(one.chosen.raw for one in picked)


async def test_every_token_has_its_log_probability(live: Live, client: InferenceClient) -> None:
    asked = request("Write one sentence about the sea and a ship.", live.model, logprobs=3, max_tokens=16)
    for gather_ms in (0, 100):
        chunks = await collect(client, replace(asked, gather_ms=gather_ms))
        usage, picked = chunks[-1].usage, picks(chunks)
        assert usage is not None
        assert len(picked) == usage.completion_tokens == sum(chunk.tokens for chunk in chunks)
        assert [len(chunk.logprobs) for chunk in chunks] == [chunk.tokens for chunk in chunks]
        assert raw(picked) == text_of(chunks).encode()
        for one in picked:
            assert one.chosen == one.top[0]  # The likeliest, at temperature 0.
            assert len(one.top) == 3
            assert all(better.logprob >= worse.logprob for better, worse in pairwise(one.top))
            assert 0 < sum(math.exp(other.logprob) for other in one.top) <= 1.001


async def test_log_probabilities_without_alternatives(live: Live, client: InferenceClient) -> None:
    picked = picks(await collect(client, request("Name a colour.", live.model, logprobs=0, max_tokens=5)))
    assert picked
    assert all(one.top == () and one.chosen.logprob <= 0 for one in picked)
    assert not picks(await collect(client, request("Name a colour.", live.model, max_tokens=5)))


async def test_the_tokens_of_a_stop_string_are_reported_too(live: Live, client: InferenceClient) -> None:
    asked = request("Write one sentence about the wood.", live.model, logprobs=0, max_tokens=16)
    whole = await collect(client, asked)
    stop = text_of(whole)[9:15]
    chunks = await collect(client, replace(asked, sampling=replace(asked.sampling, stop=(stop,))))
    usage = chunks[-1].usage
    assert usage is not None
    assert raw(picks(chunks)).startswith((text_of(chunks) + stop).encode())
    assert len(picks(chunks)) == usage.completion_tokens


async def test_bytes_join_to_the_text_where_characters_have_several_tokens(live: Live, client: InferenceClient) -> None:
    if live.kind == "scripted":
        asked = request(script(text="naïve 🌲 und 星, 👩‍👩‍👧 end"), live.model, logprobs=1)
    else:
        signs = "😀 😃 😄 😁 😆 😀 😃 😄 😁"
        asked = request("Go on with these signs.", live.model, max_tokens=24, continue_from=signs, logprobs=1)
    chunks = await collect(client, asked)
    assert any(ord(character) > 0xFFFF for character in text_of(chunks))
    assert raw(picks(chunks)) == text_of(chunks).encode()
    assert len(picks(chunks)) <= sum(chunk.tokens for chunk in chunks)  # llama.cpp tells only of the last of such.


async def test_the_further_sampling_words_are_followed(live: Live, client: InferenceClient) -> None:
    question = "Write one sentence about the number seventeen and the moon."
    await collect(client, request(question, live.model, max_tokens=1))  # Greedy answers are compared once it is cached.
    greedy = text_of(await collect(client, request(question, live.model, max_tokens=12)))
    for narrow in ({"top_k": 1}, {"min_p": 1.0}):
        asked = request(question, live.model, max_tokens=12, temperature=1.5, **narrow)
        assert text_of(await collect(client, asked)) == greedy
    words: dict[str, Any] = {"top_k": 50, "min_p": 0.02, "typical_p": 0.9, "repetition_penalty": 1.3}
    asked = request(question, live.model, max_tokens=12, temperature=0.8, seed=5, **words)
    assert text_of(await collect(client, asked)) == text_of(await collect(client, asked))


@pytest.mark.model
async def test_a_repetition_penalty_changes_an_answer_that_repeats(llama: Live) -> None:
    client = llama.client()
    asked = request("Say: la la la la la la la la la la la la la la", llama.model, continue_from="la la la la la la la")
    plain = text_of(await collect(client, asked))
    fined = replace(asked, sampling=replace(asked.sampling, repetition_penalty=2.0))
    assert plain.count("la") > text_of(await collect(client, fined)).count("la")
    await client.close()


async def test_an_answer_fits_its_schema(live: Live, client: InferenceClient) -> None:
    asked = request("Describe a sailor.", live.model, json_schema=json.dumps(PERSON), max_tokens=200)
    with able(live, "json_schema"):
        chunks = await collect(client, asked)
    assert chunks[-1].finish == "stop"
    person = json.loads(text_of(chunks))
    assert list(person) == ["name", "age", "likes"]
    assert isinstance(person["name"], str)
    assert len(person["name"]) <= 12
    assert type(person["age"]) is int
    assert 0 <= person["age"] <= 120
    assert 1 <= len(person["likes"]) <= 2
    assert set(person["likes"]) <= {"sea", "wood"}


async def test_a_schema_may_be_asked_with_log_probabilities(live: Live, client: InferenceClient) -> None:
    schema = json.dumps({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2})
    with able(live, "json_schema"):
        chunks = await collect(client, request("Two numbers.", live.model, json_schema=schema, logprobs=2))
    assert len(json.loads(text_of(chunks))) == 2
    if live.engine != "remote":  # llama-server's chat tells only of some tokens of such an answer.
        assert len(picks(chunks)) == sum(chunk.tokens for chunk in chunks)
        assert raw(picks(chunks)) == text_of(chunks).encode()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"type": "array", "maxItems": 10**9},
        {"type": "string", "minLength": 3, "maxLength": 2},
    ],
)
async def test_a_schema_that_leads_nowhere_is_refused(live: Live, client: InferenceClient, schema: object) -> None:
    with pytest.raises(BadRequest, match="schema"):
        await collect(client, request("Hi", live.model, json_schema=json.dumps(schema)))
    assert await client.health()


@pytest.mark.model
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(a$"},
        {"oneOf": [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}]},
        {"type": "object", "uniqueItems": True, "not": {"type": "array"}},
        {"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {"type": "null"}}} for j in range(4)]} for i in range(12)]},
    ],
)
async def test_a_schema_that_llama_cpp_drops_without_a_word_is_refused(llama: Live, schema: object) -> None:
    client = llama.client()
    with pytest.raises(BadRequest, match="cannot compile"):
        await collect(client, request("Hi", llama.model, json_schema=json.dumps(schema)))
    assert (await collect(client, request("Hi", llama.model, max_tokens=2)))[-1].finish == "length"
    await client.close()


@pytest.mark.model
async def test_an_answer_to_a_schema_is_not_continued(llama: Live) -> None:
    client = llama.client()
    with pytest.raises(BadRequest, match="continued"):
        await collect(client, request("Hi", llama.model, json_schema='{"type":"object"}', continue_from='{"a'))
    await client.close()


async def test_an_answer_fits_its_grammar(live: Live, client: InferenceClient) -> None:
    asked = request("Yes or no?", live.model, grammar='root ::= ("yes" | "no") "."')
    with able(live, "grammar"):
        chunks = await collect(client, asked)
    assert text_of(chunks) in ("yes.", "no.")


@pytest.mark.model
async def test_where_everybody_is_trusted_llama_cpp_takes_grammars(tmp_path: Path) -> None:
    process, url = spawn(tmp_path, "--trust-grammars", "--slots", "2", "--kv-tokens", "2048")
    client = InferenceClient(url, KEY)
    asked = request("Yes or no?", "smollm2-135m-instruct", grammar='root ::= ("yes" | "no") "."', temperature=1.5)
    assert text_of(await collect(client, asked)) in ("yes.", "no.")
    for wrong in ("root ::= (", "root ::= nobody", "rule ::= [a-z]", "root ::= root [a-z]"):
        with pytest.raises(BadRequest, match="grammar"):
            await collect(client, replace(asked, sampling=replace(asked.sampling, grammar=wrong)))
    assert text_of(await collect(client, asked)) in ("yes.", "no.")
    await client.close()
    process.kill()
    process.wait()


async def test_texts_have_vectors(live: Live, client: InferenceClient) -> None:
    texts = ["The cat sleeps on the sofa.", "A kitten is napping on the couch.", "Parliament has changed the tax law."]
    with able(live, "embeddings"):
        made = await client.embed(live.model, texts)
    cat, kitten, law = made.vectors
    assert made.tokens >= 3 * 5
    assert len(cat) == len(kitten) == len(law) > 8
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-3) for vector in made.vectors)
    assert (await client.embed(live.model, texts[:1])).vectors[0] == pytest.approx(cat, abs=1e-4)
    if live.kind != "scripted":
        assert math.dist(cat, kitten) < math.dist(cat, law)
    long = (await client.embed(live.model, ["The cat sleeps on the sofa. " * 40])).vectors[0]
    assert math.isclose(math.hypot(*long), 1, abs_tol=1e-3)


@pytest.mark.model
async def test_vectors_are_made_while_an_answer_runs_and_too_long_texts_refused(llama: Live) -> None:
    client = llama.client()
    stream = client.stream(request(llama.long, llama.model, max_tokens=400))
    await anext(stream)
    await client.embed(llama.model, ["one"])
    assert (await anext(stream)).finish is None
    await stream.aclose()
    with pytest.raises(ContextTooLong):
        await client.embed(llama.model, ["word " * 9_000])
    await client.close()


@pytest.fixture(
    params=["scripted", pytest.param("llama", marks=pytest.mark.model), pytest.param("remote", marks=pytest.mark.model)]
)
def narrow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Each engine with its window; the real model with a small one, since it reads some 300 tokens a second."""
    if request.param == "scripted":
        yield request.getfixturevalue("scripted")
        return
    folder = tmp_path_factory.mktemp("narrow")
    flags = ["--context", "512"]
    if request.param == "remote":
        there: Foreign = request.getfixturevalue("llama_server")
        flags += remote_flags(folder, there)
    process, url = spawn(folder, *flags)
    yield Live(url, "smollm2-135m-instruct", "llama_cpp", "", "remote" if request.param == "remote" else "llama_cpp")
    process.kill()
    process.wait()


async def test_a_prompt_that_nearly_fills_the_window_is_answered_as_far_as_there_is_room(narrow: Live) -> None:
    client = InferenceClient(narrow.url, KEY)
    context = 512 if narrow.kind == "llama_cpp" else (await client.models())[0].context
    short = await client.count(narrow.model, request("word", narrow.model).messages)
    chunks = await collect(client, request("word" + " word" * (context - short - 10), narrow.model, max_tokens=500))
    usage = chunks[-1].usage
    assert usage is not None
    assert context - 15 <= usage.prompt_tokens <= context - 5
    assert usage.completion_tokens <= context - usage.prompt_tokens
    with pytest.raises(ContextTooLong, match="window"):
        await collect(client, request("word" + " word" * context, narrow.model, max_tokens=5))
    await client.close()


def test_the_documentation_says_what_each_engine_can_do(tmp_path: Path) -> None:
    engines: list[Engine] = [
        LlamaCppEngine("m", tmp_path / "m.gguf", 1024, 1, 1024),
        RemoteEngine("http://127.0.0.1:9"),
        ScriptedEngine(),
    ]
    lines = [line.strip("|\n ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    head = next(line for line in lines if line[0] == "engine")
    abilities = [name.strip("`") for name in head[1:]]
    assert set(abilities) == set(get_args(Ability))
    for engine in engines:
        able = engine.capabilities
        said = next(line for line in lines if line[0] == able.engine)
        assert [word == "yes" for word in said[1:]] == [ability in able.abilities for ability in abilities]
