"""The process that holds the GPU: `python -m inference.engines.exllama.host DESCRIPTOR`.

One thread iterates the generator, which blocks it; another reads the parent's frames and answers what needs no GPU. It
knows the protocol `generator.Generator`, not what is behind it. Stop strings are cut here, right behind each step, so
that an answer's room is free at once and no token is counted that came after its end: the generator's own stop strings
miss one that ends with the last allowed token.

Frames to it: `{"options"}` first, `{"start": job}`, `{"cancel": number}`, and the questions `{"id", "encode"}`, `{"id",
"decode"}`, `{"id", "alive"}`. Frames from it: `{"ready": loaded}`, `{"fatal": [code, message]}`, `{"chunks": [...]}`
once an iteration, `{"failed": [number, code, message]}`, `{"gone": number}` for each cancel, `{"broken": message}` when
all jobs are lost; another `ready` then follows, or the end.
"""

import dataclasses
import importlib
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from inference.engines.exllama.frames import Frame, error_frame, job_from, options_from, picked_frame
from inference.engines.exllama.generator import Generator, Job, Step
from inference.engines.exllama.link import Link
from inference.protocol import EngineError, Sampling
from inference.stops import StopFilter


def main() -> None:
    link = Link(int(sys.argv[-1]))
    frames = link.frames()
    options = options_from(next(frames)["options"])
    module, _, name = options.generator.partition(":")
    orders: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    reader = _Reader(link, orders)
    # The parent may go while the model still loads.
    threading.Thread(target=reader.read, args=(frames,), daemon=True).start()
    try:
        generator: Generator = getattr(importlib.import_module(module), name)(options)
    except Exception as error:
        if not isinstance(error, EngineError):
            traceback.print_exc()
        link.send({"fatal": error_frame(error)})
        os._exit(1)
    reader.generator = generator
    link.send({"ready": dataclasses.asdict(generator.loaded)})
    Host(link, generator, orders).run()


class _Reader:
    """Answers questions at once, also in the middle of an iteration, and leaves the rest to the host."""

    def __init__(self, link: Link, orders: "queue.SimpleQueue[Frame]") -> None:
        self._link = link
        self._orders = orders
        self.generator: Generator | None = None

    def read(self, frames: Any) -> None:
        for frame in frames:
            if "encode" in frame or "decode" in frame:
                self._link.send({"id": frame["id"], **self._answer(frame)})
            else:
                self._orders.put(frame)
        os._exit(0)

    def _answer(self, frame: Frame) -> Frame:
        assert self.generator is not None, "nobody asks before it is ready"
        try:
            if "encode" in frame:
                return {"answer": self.generator.encode(frame["encode"], frame["control"])}
            return {"answer": self.generator.decode(frame["decode"])}
        except Exception as error:
            return {"error": error_frame(error)}


class _Open:
    """An answer that is being generated: what of it was not sent yet."""

    def __init__(self, sampling: Sampling) -> None:
        self.stops = StopFilter(sampling.stop)
        self.tokens = 0
        self.picked: list[Any] = []


class Host:
    """Iterates for as long as there is a job, and does what the parent orders between two iterations."""

    def __init__(self, link: Link, generator: Generator, orders: "queue.SimpleQueue[Frame]") -> None:
        self._link = link
        self._generator = generator
        self._orders = orders
        self._open: dict[int, _Open] = {}

    def run(self) -> None:
        """For ever; the process ends when its parent does, or when the generator cannot be rebuilt."""
        while True:
            if not self._open:
                self._do(self._orders.get())
            while not self._orders.empty():
                self._do(self._orders.get())
            if self._open:
                self._iterate()

    def _do(self, order: Frame) -> None:
        if "start" in order:
            self._start(job_from(order["start"]))
        elif "cancel" in order:
            number = order["cancel"]
            if self._open.pop(number, None) is not None:
                self._guarded(lambda: self._generator.cancel(number))
            self._link.send({"gone": number})
        else:
            self._link.send({"id": order["id"], "answer": True})

    def _start(self, job: Job) -> None:
        try:
            self._generator.start(job)
        except Exception as error:  # One job that cannot be must not end the others.
            self._link.send({"failed": (job.number, *error_frame(error))})
        else:
            self._open[job.number] = _Open(job.sampling)

    def _iterate(self) -> None:
        steps: list[Step] = []
        if not self._guarded(lambda: steps.extend(self._generator.iterate())):
            return
        over = {step.number for step in steps if step.finish}
        chunks = [chunk for step in steps if (chunk := self._chunk(step, over)) is not None]
        if chunks:
            self._link.send({"chunks": chunks})

    def _chunk(self, step: Step, over: set[int]) -> tuple[int, str, int, Any, str | None, int] | None:
        """Number, text, tokens, what was picked, finish and cached tokens; None while there is nothing to say.

        `over`: the jobs that ended in this iteration, maybe with a later step.
        """
        answer = self._open.get(step.number)
        if answer is None:  # It ended at a stop string; the rest of this iteration is past its end.
            return None
        text = answer.stops.feed(step.text)
        answer.tokens += step.tokens
        answer.picked += map(picked_frame, step.picked)
        finish = step.finish
        if answer.stops.hit:
            if step.number not in over:
                self._guarded(lambda: self._generator.cancel(step.number))
            finish = "stop"
        elif finish:
            text += answer.stops.end()
        if not text and not finish:
            return None
        chunk = step.number, text, answer.tokens, answer.picked, finish, step.cached
        answer.tokens, answer.picked = 0, []
        if finish:
            self._open.pop(step.number, None)
        return chunk

    def _guarded(self, work: Callable[[], object]) -> bool:
        """Whether it went well. If not, all jobs are lost and the generator is rebuilt, or the process ends."""
        try:
            work()
        except Exception as error:
            traceback.print_exc()
            self._open.clear()
            self._link.send({"broken": f"{type(error).__name__}: {error}"})
            try:
                self._generator.rebuild()
            except Exception as worse:
                traceback.print_exc()
                self._link.send({"fatal": error_frame(worse)})
                os._exit(1)
            self._link.send({"ready": dataclasses.asdict(self._generator.loaded)})
            return False
        return True


if __name__ == "__main__":
    main()
