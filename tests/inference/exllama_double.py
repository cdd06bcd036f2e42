"""A double of ExLlamaV2's generator: it stands where `inference.engines.exllama.v2` would, in the same process.

Everything in front of it is real: the engine, its process, the frames, the template's process, stop strings,
cancelling, crashes and rebuilding. What it does not prove: that ExLlamaV2 does what we think it does. It has no model,
no GPU, no pages, no prefix cache, no sampling (the script says what comes, whatever the sampling), no drafts and no
adapters; its speed means nothing. Its tokens are pairs of bytes, so that characters do arrive in pieces.

The scripts are those of the scripted engine (`inference.engines.script`), counted in these tokens. `drop_at` makes the
iteration fail. Files in the model's directory make it fail elsewhere: `load-fails`, `rebuild-fails`, `rebuild-hangs`.
"""

import codecs
import json
import os
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.engines.exllama.generator import Job, Loaded, Step
from inference.engines.exllama.options import Options
from inference.engines.script import Script, script_in
from inference.engines.scripted import REFUSALS
from inference.protocol import BadRequest, Logprob, Message, Picked

GENERATOR = "tests.inference.exllama_double:ScriptedGenerator"
CONTROL = ("<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>\n|\Z)", re.DOTALL)
STEP_S = 0.001
CONTROLS = 256 + 2**16  # Below are single bytes and pairs of bytes.
BURST = 64  # Tokens of one iteration when there is no pace to keep.


def model_folder(folder: Path, template: str = TEMPLATE) -> Path:
    """A directory that looks like a model's, at `folder`. Its weights are an empty file."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "eos_token_id": 257}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "<|im_end|>"}))
    (folder / "model.safetensors").touch()
    return folder


@dataclass(slots=True)
class _Answer:
    job: Job
    script: Script
    rest: bytes
    written: int
    began: float
    at: int = 0
    sent: int = 0
    decoder: Any = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")())


class ScriptedGenerator:
    """Says what the script in the last user message says."""

    def __init__(self, options: Options) -> None:
        self._folder = Path(options.folder)
        self._slots = options.slots
        self._kv_tokens = options.kv_tokens
        self._context = min(options.context or 32_768, options.kv_tokens)
        self._answers: dict[int, _Answer] = {}
        if (self._folder / "load-fails").exists():
            raise RuntimeError("the directory says: loading fails")

    @property
    def loaded(self) -> Loaded:
        size = CONTROLS + len(CONTROL)
        return Loaded(self._context, self._slots, self._kv_tokens, size, CONTROL, ("logprobs",), ("this is a double",))

    def encode(self, text: str, control: bool) -> list[int]:
        tokens: list[int] = []
        for piece in re.split(f"({'|'.join(map(re.escape, CONTROL))})", text) if control else [text]:
            if control and piece in CONTROL:
                tokens.append(CONTROLS + CONTROL.index(piece))
            else:
                raw = piece.encode("utf-8", "replace")
                tokens += [_token(raw[at : at + 2]) for at in range(0, len(raw), 2)]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(map(_bytes, tokens)).decode("utf-8", "replace")

    def start(self, job: Job) -> None:
        assert len(self._answers) < self._slots, "the service sends no more than there are slots"
        messages = [Message(role, content) for role, content in TURN.findall(self.decode(job.prompt))]
        script = script_in(messages[:-1], 0.0)  # The last is the answer so far.
        if script.refuse:
            raise REFUSALS.get(script.refuse, REFUSALS["bad"])()
        whole, written = "".join(script.pieces).encode(), job.written.encode()
        if not whole.startswith(written):
            raise BadRequest("continue_from is not the beginning of the scripted answer")
        began = time.monotonic() + script.prefill_s
        self._answers[job.number] = _Answer(job, script, whole[len(written) :], len(written), began)

    def cancel(self, number: int) -> None:
        del self._answers[number]  # Raises for a job that is over: nobody may ask for that.

    def iterate(self) -> list[Step]:
        time.sleep(STEP_S)
        steps = [step for answer in list(self._answers.values()) for step in self._due(answer)]
        for step in steps:
            if step.finish:
                del self._answers[step.number]
        return steps

    def rebuild(self) -> None:
        self._answers.clear()
        while (self._folder / "rebuild-hangs").exists():
            time.sleep(0.01)
        if (self._folder / "rebuild-fails").exists():
            raise RuntimeError("the directory says: rebuilding fails")

    def _due(self, answer: _Answer) -> list[Step]:
        now, rate = time.monotonic(), answer.script.rate
        if now < answer.began:
            return []
        due = int((now - answer.began) * rate) + 1 if rate else answer.sent + BURST
        steps: list[Step] = []
        while answer.sent < due and not (steps and steps[-1].finish):
            at = (answer.written + answer.at) // 2
            if answer.sent or not answer.written:
                if at == answer.script.stall_at:
                    break
                if at == answer.script.die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                if at == answer.script.drop_at:
                    raise RuntimeError("the script says: drop")
            steps.append(self._token(answer))
        return steps

    def _token(self, answer: _Answer) -> Step:
        number, wanted = answer.job.number, answer.job.sampling.logprobs
        if answer.at >= len(answer.rest):
            return Step(number, finish="stop")
        token = answer.rest[answer.at : answer.at + 2]
        answer.at, answer.sent = answer.at + 2, answer.sent + 1
        step = Step(number, answer.decoder.decode(token))
        if wanted is not None:
            others = [Logprob(chr(97 + n), -4.0 - n, bytes([97 + n])) for n in range(wanted - 1)]
            chosen = Logprob(token.decode("utf-8", "replace"), -0.1, token)
            step.picked = [Picked(chosen, (chosen, *others)[:wanted])]
        if answer.sent == answer.job.sampling.max_tokens:
            step.finish = "length"
        return step


def _token(raw: bytes) -> int:
    return raw[0] if len(raw) == 1 else 256 + int.from_bytes(raw, "big")


def _bytes(token: int) -> bytes:
    if token >= CONTROLS:
        return CONTROL[token - CONTROLS].encode()
    return bytes([token]) if token < 256 else (token - 256).to_bytes(2, "big")
