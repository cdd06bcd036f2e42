"""What `bench.gateway` says of a stream: in how many pieces it came, and how late its tokens were."""

import orjson
import pytest

from bench import loads
from bench.arrivals import Arrivals, flow
from bench.foreign import CALL_TOKENS, RATE, ROUNDS, TOKENS, text
from bench.loads import WHOLE_TOKENS, WrongAnswer
from bench.sides import Side

COUNT, BEGUN = 10, 100.0
DUE = [BEGUN + (at + 1) / RATE for at in range(COUNT)]
SIDE = Side("side", 1, "none", (), 2)


def event(said: str) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"delta": {"content": said}}]}) + b"\n\n"


def test_every_token_by_itself_a_moment_later() -> None:
    arrivals = Arrivals([event(token) for token in TOKENS[:COUNT]], [due + 0.004 for due in DUE])
    found = flow([(arrivals, BEGUN)], COUNT)
    assert found.pieces == COUNT
    assert found.delays == pytest.approx([0.004] * COUNT)


def test_all_at_the_end_is_late_although_the_text_is_right() -> None:
    arrivals = Arrivals([event(text(COUNT)) + b"data: [DONE]\n\n"], [DUE[-1]])
    found = flow([(arrivals, BEGUN)], COUNT)
    assert found.pieces == 1
    assert found.delays == pytest.approx([DUE[-1] - due for due in DUE])


def test_a_token_has_come_with_its_last_character_and_an_event_with_its_last_byte() -> None:
    first, second = event(TOKENS[0] + TOKENS[1][:2]), event(TOKENS[1][2:])
    arrivals = Arrivals([first[:9], first[9:], second], [DUE[0], DUE[0] + 0.1, DUE[1] + 0.2])
    assert flow([(arrivals, BEGUN)], 2).delays == pytest.approx([0.1, 0.2])


def test_pieces_are_those_of_a_stream() -> None:
    one = Arrivals([event(text(COUNT))], [DUE[-1]])
    each = Arrivals([event(token) for token in TOKENS[:COUNT]], DUE)
    assert flow([(one, BEGUN), (each, BEGUN)], COUNT).pieces == (1 + COUNT) / 2


def test_a_turn_whose_steps_did_not_run_is_found() -> None:
    def answer(tokens: int) -> bytes:
        message = {"content": text(WHOLE_TOKENS)}
        return orjson.dumps({"choices": [{"message": message}], "usage": {"completion_tokens": tokens}})

    whole = WHOLE_TOKENS + ROUNDS * CALL_TOKENS
    loads._check_whole(SIDE, [answer(whole)], whole)
    with pytest.raises(WrongAnswer, match="should have 68 tokens"):
        loads._check_whole(SIDE, [answer(WHOLE_TOKENS)], whole)
