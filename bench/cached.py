"""What the prefix cache saves: time to the first token at turn 10 of a conversation, known to the server or new to it.

The new conversation is as long, word for word the same but for its very first word; the server's own count says whether
it was really new. Conversations come one after the other, on a server that does nothing else.
"""

from bench.bounds import INFERENCE
from bench.load import Messages, Target, client, stream
from bench.report import Row, p50

CONVERSATIONS = 3
TURNS = 10
ANSWER = 32
QUESTION = (
    "Question {turn}: we have spoken about the harbour, its boats, the people who mend the nets there and the weather "
    "of the last week. Now tell me a little more about it, and say which of those things you would look at first, "
    "and why, if you had only one hour to spend there before the last train leaves."
)


async def measure(service: Target) -> tuple[list[Row], dict[str, float]]:
    known, new = [], []
    async with client() as session:
        for number in range(CONVERSATIONS):
            messages: Messages = [{"role": "system", "content": f"Old {number}: you are a patient guide."}]
            for turn in range(TURNS):
                messages.append({"role": "user", "content": QUESTION.format(turn=turn)})
                last = await stream(session, service, messages, ANSWER)
                if turn < TURNS - 1:
                    messages.append({"role": "assistant", "content": last.text})
            strange: Messages = [
                {"role": "system", "content": f"New {number}: you are a patient guide."},
                *messages[1:],
            ]
            fresh = await stream(session, service, strange, ANSWER)
            if last.cached_tokens < 0.5 * last.prompt_tokens or fresh.cached_tokens > 0.05 * fresh.prompt_tokens:
                raise RuntimeError(f"the cache did not do what is measured here: {last} {fresh}")
            if abs(last.prompt_tokens - fresh.prompt_tokens) > 2:
                raise RuntimeError(f"the conversations are not equally long: {last} {fresh}")
            known.append(last.ttft)
            new.append(fresh.ttft)
    ratio = p50(known) / p50(new)
    shown = f"{ratio:.3f} ({p50(known) * 1000:.0f} / {p50(new) * 1000:.0f} ms, {last.prompt_tokens} tokens)"
    limit = str(INFERENCE["cached_ttft_ratio"])
    return [(f"time to first token at turn {TURNS}, cached / new", shown, limit)], {"cached_ttft_ratio": ratio}
