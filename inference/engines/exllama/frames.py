"""What our words look like in the frames between the engine and its children: errors, jobs, log probabilities."""

from typing import Any

from inference.engines.exllama.generator import Job
from inference.engines.exllama.options import Options
from inference.protocol import BadRequest, ContextTooLong, EngineDied, EngineError, Logprob, Picked, Sampling

Frame = dict[str, Any]

KINDS: dict[str, type[EngineError]] = {kind.code: kind for kind in (BadRequest, ContextTooLong, EngineDied)}


def error_frame(error: Exception) -> tuple[str, str]:
    """Code and message. An error that is not ours is the engine's death."""
    code = error.code if isinstance(error, EngineError) else EngineDied.code
    return code, str(error) or type(error).__name__


def error_from(frame: tuple[str, str]) -> EngineError:
    code, message = frame
    return KINDS.get(code, EngineError)(message)


def options_from(frame: Frame) -> Options:
    """`dataclasses.asdict` turned round."""
    return Options(**{**frame, "gpu_split": tuple(frame["gpu_split"]), "loras": tuple(frame["loras"])})


def job_from(frame: Frame) -> Job:
    """`dataclasses.asdict` turned round."""
    sampling = Sampling(**{**frame["sampling"], "stop": tuple(frame["sampling"]["stop"])})
    return Job(frame["number"], tuple(frame["prompt"]), sampling, frame["written"])


def picked_frame(picked: Picked) -> list[Any]:
    chosen, *others = ((one.token, one.logprob, one.raw.hex()) for one in (picked.chosen, *picked.top))
    return [chosen, others]


def picked_from(frame: list[Any]) -> Picked:
    chosen, others = frame
    return Picked(_logprob(*chosen), tuple(_logprob(*other) for other in others))


def _logprob(token: str, value: float, raw: str) -> Logprob:
    return Logprob(token, value, bytes.fromhex(raw))
