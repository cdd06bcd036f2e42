"""What hostile clients do, part by part."""

from dataclasses import dataclass

from bench.hostile.attacks import calls, slow, sockets
from bench.hostile.crowd import Attack


@dataclass(frozen=True, slots=True)
class Part:
    """What is shown of it, and what its clients do, in turns."""

    words: str
    ways: tuple[Attack, ...]


ATTACKS = {
    "opens": Part("pages opened and left without end", (sockets.opens,)),
    "half-open": Part(
        "connections and pages half opened",
        (
            sockets.says_nothing,
            sockets.half_a_head,
            sockets.never_connects,
            sockets.half_a_frame,
            sockets.stays,
        ),
    ),
    "heads": Part("handshakes with 360 kB of headers", (sockets.long_heads,)),
    "events": Part("floods of events, of nobody and of free accounts", (sockets.nobodys_events, sockets.free_events)),
    "huge": Part("huge events", (sockets.huge_events,)),
    "unknown": Part("events that no page sends", (sockets.unknown_events,)),
    "tabs": Part("others' tabs, with forged and ended sessions", (sockets.others_tabs,)),
    "sign-in": Part(
        "floods of sign-ins and sign-ups",
        (calls.guesses_passwords, calls.guesses_passwords, calls.guesses_passwords, calls.signs_up),
    ),
    "bodies": Part("large and endless bodies", (calls.large_bodies, calls.large_forms, calls.endless_bodies)),
    "guesses": Part("keys and ids guessed, heads that lie", (calls.guesses_keys, calls.lying_heads)),
    "slow-senders": Part("a byte now and then", (slow.slow_heads, slow.slow_bodies)),
    "streams-unread": Part("streamed answers that nobody reads", (slow.unread_streams,)),
    "files-unread": Part("files that nobody reads", (slow.unread_files,)),
    "pages-unread": Part("pages that never read", (slow.unread_pages,)),
}
