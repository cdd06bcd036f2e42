"""The real package exllamav2 on a machine without a GPU: its names, its settings, its tokenizer, its bookkeeping.

Its compiled extension is a stub that raises on any call (`exllama_stub`). Some tests go further and let the package's
own generator run over a forward pass and a sampler of ours (`exllama_forward`): they show that we read its results
rightly, its pages and its cache of prompts included, and nothing about a model. `make exllama-check` brings all of it.
"""

import importlib.util
import inspect
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.engines.exllama import v2
from inference.engines.exllama.generator import Job, Step
from inference.engines.exllama.options import Options
from inference.engines.exllama.settings import sampler_settings
from inference.engines.exllama.v2_vocabulary import Vocabulary
from inference.protocol import BadRequest, EngineError, Sampling
from tests.inference.exllama_forward import Alphabet
from tests.inference.exllama_tiny import CONTEXT, END, SIZE, tiny_model

for package in ("torch", "tokenizers", "safetensors", "exllamav2"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed (`make exllama-check` brings it)", allow_module_level=True)

torch: Any = importlib.import_module("torch")

STUB = str(Path(__file__).with_name("exllama_stub"))


@pytest.fixture(scope="session")
def exl2() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(STUB)
        import exllamav2
        import exllamav2.generator

        return exllamav2


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("exllama") / "tiny")


Make = Callable[..., v2.ExLlamaV2Generator]


@pytest.fixture
def make(exl2: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes our generator on the real package, all but the weights on a GPU and the first run of the model."""

    def made(paged: bool = True, **options: Any) -> v2.ExLlamaV2Generator:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(exl2.attn, "has_flash_attn_with_paged", paged)
        monkeypatch.setattr(exl2.ExLlamaV2, "load_autosplit", lambda self, cache: None)
        for kind in (exl2.ExLlamaV2Cache, exl2.cache.ExLlamaV2Cache_Q):
            monkeypatch.setattr(kind, "all_tensors", lambda self: [])
        monkeypatch.setattr(exl2.generator.ExLlamaV2DynamicGenerator, "warmup", lambda self: None)
        return v2.ExLlamaV2Generator(Options(str(model), **options))

    return made


def answer(generator: v2.ExLlamaV2Generator, number: int) -> list[Step]:
    steps: list[Step] = []
    while not (steps and steps[-1].finish):
        steps += [step for step in generator.iterate() if step.number == number]
        assert len(steps) < 1_000
    return steps


def job(generator: v2.ExLlamaV2Generator, text: str, number: int = 1, written: str = "", **sampling: Any) -> Job:
    chosen = Sampling(**{"max_tokens": 20, "temperature": 0.0, **sampling})
    return Job(number, tuple(generator.encode(text, control=True)), chosen, written)


@pytest.fixture
def forward(exl2: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets the package's generator run (`exllama_forward`). Gives how many tokens each call of the model read."""
    tokenizer = exl2.ExLlamaV2Tokenizer(exl2.ExLlamaV2Config(str(model)))
    alphabet = Alphabet(torch, Vocabulary(tokenizer, model))
    alphabet.install(exl2, monkeypatch)
    return alphabet.read


def text_of(steps: list[Step]) -> str:
    return "".join(step.text for step in steps)


def taken_by(function: Any) -> set[str]:
    """The names that it takes. `**kwargs`, which its classes have, would swallow a wrong one without a word."""
    return set(inspect.signature(function).parameters) - {"self", "args", "kwargs"}


def test_every_name_that_we_pass_is_one_that_it_takes(exl2: Any, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: dict[str, set[str]] = {}

    def watched(cls: Any) -> None:
        original = cls.__init__

        def init(self: Any, *args: Any, **named: Any) -> None:
            passed[cls.__name__] = set(named)
            original(self, *args, **named)

        monkeypatch.setattr(cls, "__init__", init)

    classes = (
        exl2.generator.ExLlamaV2DynamicGenerator,
        exl2.generator.ExLlamaV2DynamicJob,
        exl2.ExLlamaV2Cache_Q6,
    )
    names = {cls.__name__: taken_by(cls.__init__) for cls in classes}
    for cls in classes:
        watched(cls)
    generator = make(cache="q6")
    generator.start(job(generator, "Hi"))
    assert set(passed) == set(names)
    for name, given in passed.items():
        assert given <= names[name], given - names[name]
    assert "gpu_split" in taken_by(exl2.ExLlamaV2.load)
    assert taken_by(exl2.ExLlamaV2Lora.from_directory) == {"model", "directory", "lora_scaling"}
    assert taken_by(exl2.generator.ExLlamaV2DynamicGenerator.set_loras) == {"loras"}


def test_sampling_becomes_its_settings(exl2: Any) -> None:
    settings = exl2.generator.ExLlamaV2Sampler.Settings
    greedy = settings(**sampler_settings(Sampling(8, temperature=0.0, top_k=40)))
    assert (greedy.top_k, greedy.temperature, greedy.top_p) == (1, 1.0, 0.0)
    assert vars(greedy) == vars(settings.greedy(min_p=0.0, typical=0.0))
    chosen = Sampling(8, 0.7, 0.9, None, (), 0.5, 0.25, top_k=40, min_p=0.05, typical_p=0.95, repetition_penalty=1.1)
    made = settings(**sampler_settings(chosen))
    assert (made.temperature, made.top_p, made.top_k, made.min_p, made.typical) == (0.7, 0.9, 40, 0.05, 0.95)
    assert (made.token_presence_penalty, made.token_frequency_penalty) == (0.5, 0.25)
    assert made.token_repetition_penalty == 1.1
    neutral = settings(**sampler_settings(Sampling(8, temperature=1.0, top_p=1.0)))
    assert (neutral.token_repetition_penalty, neutral.top_k, neutral.top_p, neutral.typical) == (1.0, 0, 0.0, 0.0)


@pytest.mark.parametrize("cache", ["fp16", "q8", "q6", "q4"])
def test_each_kind_of_cache_is_one_of_its_own(exl2: Any, make: Make, cache: str) -> None:
    made = make(cache=cache, slots=4, kv_tokens=1000)._kv
    assert type(made).__name__ == v2.CACHES[cache]
    assert made.max_seq_len % 256 == 0
    assert made.max_seq_len >= 1000 + 4 * 256


def test_what_was_loaded_is_reported(make: Make) -> None:
    loaded = make(slots=8, kv_tokens=4096).loaded
    assert (loaded.context, loaded.slots, loaded.kv_tokens, loaded.vocabulary) == (4096, 8, 4096, SIZE)
    assert set(loaded.control) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    assert "logprobs" in loaded.abilities
    assert loaded.notes == ()
    assert make(kv_tokens=3 * CONTEXT).loaded.context == CONTEXT
    assert make(kv_tokens=4096, ngram=True).loaded.context == 4096 - v2.DRAFTED


def test_a_draft_shares_the_window_and_the_cache_and_ends_no_answer_early(
    make: Make, forward: list[int], exl2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = tiny_model(tmp_path / "draft")
    config = json.loads((draft / "config.json").read_text())
    (draft / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    generator = make(draft=str(draft))
    assert generator.loaded.context == 2048 - v2.DRAFTED
    assert generator._draft_cache.max_seq_len == generator._kv.max_seq_len
    guessed = exl2.generator.ExLlamaV2DynamicGenerator
    monkeypatch.setattr(
        guessed, "iterate_draftmodel_gen", guessed.iterate_ngram_gen
    )  # What it guesses is not the point.
    generator.start(job(generator, "abcabcabc", max_tokens=7))
    assert text_of(answer(generator, 1)) == "defghij"


def test_a_small_window_is_still_read_in_whole_pages(make: Make) -> None:
    assert make(context=1000)._generator.max_chunk_size % 256 == 0


def test_without_flash_attention_it_does_one_at_a_time_and_says_so(make: Make) -> None:
    loaded = make(paged=False, slots=8).loaded
    assert loaded.slots == 1
    assert "one request at a time" in loaded.notes[0]


def test_control_tokens_are_such_only_where_they_may(make: Make) -> None:
    generator = make()
    assert generator.encode("a<|im_end|>", control=True)[-1] == END
    plain = generator.encode("a<|im_end|>", control=False)
    assert len(plain) == len("a<|im_end|>")
    assert END not in plain
    text = "The café 🌲 <|im_start|>"
    assert generator.decode(generator.encode(text, control=True)) == text
    assert generator.decode(generator.encode(text, control=False)) == text


def test_without_a_gpu_the_stub_raises_and_says_so(make: Make) -> None:
    generator = make()
    generator.start(job(generator, "Hello"))
    with pytest.raises(Exception):  # noqa: B017 (whatever the package runs into first)
        generator.iterate()


def test_what_is_missing_is_reported(exl2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        EngineError, match=r"needs an NVIDIA GPU and `pip install parley\[gpu\]`: torch .* finds no GPU"
    ):
        v2.packages()


def test_its_own_generator_runs_to_a_stop_token(make: Make, forward: list[int]) -> None:
    generator = make()
    generator.start(job(generator, "uvw"))
    steps = answer(generator, 1)
    assert text_of(steps) == "xyz"
    assert steps[-1].finish == "stop"
    assert sum(step.tokens for step in steps) == 4  # The token that ends it is one that was generated.


def test_the_limit_is_exact_with_drafts_and_without(make: Make, forward: list[int]) -> None:
    for ngram in (False, True):
        generator = make(ngram=ngram)
        generator.start(job(generator, "abcabcabc", max_tokens=7))
        steps = answer(generator, 1)
        assert text_of(steps) == "defghij"
        assert (sum(step.tokens for step in steps), steps[-1].finish) == (7, "length")


def test_a_character_of_several_tokens_arrives_whole_or_not_at_all(make: Make, forward: list[int]) -> None:
    generator = make()
    generator.start(job(generator, "a tree!", max_tokens=6))
    assert [step.text for step in answer(generator, 1)] == ["", "", "", "🌲", ".", "."]
    generator.start(job(generator, "a tree!", number=2, max_tokens=3))
    assert text_of(answer(generator, 2)) == ""


def test_many_run_together_and_one_is_cancelled(make: Make, forward: list[int]) -> None:
    generator = make(slots=8)
    letters = "abcdefgh"
    for number, letter in enumerate(letters):
        generator.start(job(generator, f"This is {letter}", number=number, max_tokens=5))
    texts = dict.fromkeys(range(8), "")
    for step in generator.iterate():
        texts[step.number] += step.text
    generator.cancel(3)
    generator.cancel(3)
    while generator._running:
        for step in generator.iterate():
            texts[step.number] += step.text
    assert max(forward) >= 8
    assert texts[3] == "e"
    assert texts[0] == "bcdef"
    assert texts[7] == "ijklm"


def test_a_prompt_that_begins_like_an_older_one_is_cached_by_pages(make: Make, forward: list[int]) -> None:
    generator = make()
    prompt = "word " * 150
    generator.start(job(generator, prompt + "a", max_tokens=3))
    assert answer(generator, 1)[-1].cached == 0
    read = len(forward)
    generator.start(job(generator, prompt + "b", number=2, max_tokens=3))
    last = answer(generator, 2)[-1]
    assert 512 <= last.cached <= 750
    assert sum(forward[read:]) < 260


def test_a_failed_iteration_leaves_a_generator_that_can_be_rebuilt(
    make: Make, forward: list[int], exl2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make()
    generator.start(job(generator, "abc"))
    with monkeypatch.context() as broken:
        broken.setattr(exl2.ExLlamaV2, "forward_chunk", lambda *args, **named: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generator.iterate()
    generator.rebuild()
    generator.start(job(generator, "xy", number=2))
    assert text_of(answer(generator, 2)) == "z"


def test_log_probabilities_are_the_models_own(make: Make, forward: list[int]) -> None:
    generator = make()
    generator.start(job(generator, "abc", max_tokens=3, logprobs=2))
    picked = [one for step in answer(generator, 1) for one in step.picked]
    assert [one.chosen.token for one in picked] == ["d", "e", "f"]
    for one in picked:
        assert one.chosen.logprob == pytest.approx(0.0, abs=1e-4)
        assert one.top[0] == one.chosen
        assert one.top[1].logprob == pytest.approx(-20.0, abs=1e-3)


def test_the_bytes_of_tokens_make_the_text(make: Make, forward: list[int]) -> None:
    generator = make()
    generator.start(job(generator, "a tree!", max_tokens=6, logprobs=0))
    steps = answer(generator, 1)
    picked = [one for step in steps for one in step.picked]
    assert b"".join(one.chosen.raw for one in picked).decode() == text_of(steps) == "🌲.."
    assert not any(one.top for one in picked)


def test_a_prompt_without_tokens_is_refused(make: Make) -> None:
    generator = make()
    with pytest.raises(BadRequest, match="no tokens"):
        generator.start(Job(1, (), Sampling(4)))


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


@pytest.mark.parametrize("written", ["", '{"name": "Ada'])
def test_whatever_is_picked_the_answer_fits_the_schema(make: Make, written: str) -> None:
    pytest.importorskip("lmformatenforcer")
    generator = make()
    chosen = random.Random(7)
    for _ in range(10):
        filter_ = generator._schemas.filter(json.dumps(SCHEMA), written)
        tokens: list[int] = []
        while len(tokens) < 400:
            allowed, _ = filter_.get_next()
            if END in allowed and (len(allowed) <= 2 or chosen.random() < 0.5):
                break
            tokens.append(chosen.choice([token for token in allowed if token != END and token != 256]))
            filter_.feed(torch.tensor([[tokens[-1]]]))
        else:
            continue  # White space and digits may go on for long; the limit of tokens ends that.
        made = json.loads(written + generator.decode(tokens))
        assert isinstance(made["name"], str)
        assert isinstance(made["age"], int | float)  # It takes 12e-1 for an integer.


def test_its_own_generator_works_with_our_filter(make: Make, forward: list[int]) -> None:
    pytest.importorskip("lmformatenforcer")
    generator = make()
    generator.start(job(generator, "n", json_schema=json.dumps({"enum": ["no"]})))
    assert text_of(answer(generator, 1)).strip() == '"no"'


def test_a_filter_that_fails_ends_only_its_own_answer(make: Make, forward: list[int]) -> None:
    pytest.importorskip("lmformatenforcer")
    generator = make()
    generator.start(job(generator, "n", json_schema="{}"))
    generator.start(job(generator, "abc", number=2, max_tokens=5))
    generator._running[1].job.filters[0]._enforcer = None
    steps: list[Step] = []
    while generator._running:
        steps += generator.iterate()
    assert text_of([step for step in steps if step.number == 2]) == "defgh"
    assert [step.finish for step in steps if step.number == 1] == ["stop"]


def test_without_pages_it_answers_one_after_the_other(make: Make, forward: list[int]) -> None:
    generator = make(paged=False)
    generator.start(job(generator, "This is abc", max_tokens=3))
    assert text_of(answer(generator, 1)) == "def"
    generator.start(job(generator, "This is abcdefg", number=2, max_tokens=9))
    generator.iterate()
    generator.cancel(2)
    generator.start(job(generator, "This is ab", number=3, max_tokens=3))
    last = answer(generator, 3)
    assert text_of(last) == "cde"
    assert last[-1].cached > 0


def test_a_schema_that_makes_no_sense_is_refused(make: Make) -> None:
    pytest.importorskip("lmformatenforcer")
    generator = make()
    for schema in ("{", '{"type": "no-such-type"}'):
        with pytest.raises(BadRequest, match="schema cannot be used"):
            generator.start(job(generator, "Hi", json_schema=schema))
