"""What a check says, in the words that a person reads. It does not know how the check came to it."""

from dataclasses import dataclass
from typing import Literal

Stage = Literal["input", "output"]
Category = Literal["injection", "weapons", "child_safety", "self_harm", "secret"]

_INPUT: dict[Category, str] = {
    "injection": (
        "This looks like an attempt to change the rules that the assistant works under, so it was not sent. "
        "If you meant something else, please put it another way."
    ),
    "weapons": "Parley does not help with weapons that are made to hurt many people. Nothing was sent to the model.",
    "child_safety": "Parley refuses sexual content that involves anyone who is or may be under age. Nothing was sent.",
    "self_harm": (
        "I am sorry that things are this hard. I can't help with ways to hurt yourself, but you don't have to go "
        "through this alone: please talk to someone you trust, or to a crisis line now. In the US and Canada call or "
        "text 988; elsewhere findahelpline.com lists one near you. If you are in danger, call your emergency number."
    ),
    "secret": (
        "Your message looks like it contains a key ({what}). Take it out and send it again. "
        "If the key is real, replace it: it has been typed into a chat."
    ),
}

_OUTPUT: dict[Category, str] = {
    "injection": "The answer was stopped because it broke the rules that the assistant works under.",
    "weapons": "The answer was stopped: it began to explain a weapon that is made to hurt many people.",
    "child_safety": "The answer was stopped: sexual content with any sign of a minor is never shown.",
    "self_harm": (
        "The answer was stopped because it began to describe ways to get hurt. If you are struggling, please talk to "
        "someone you trust, or to a crisis line: 988 in the US and Canada, findahelpline.com elsewhere."
    ),
    "secret": "The answer was stopped: what came next looks like a key ({what}).",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a check lets a text not pass. `category` and `rule` are for records; `message` is for the person."""

    stage: str
    category: str
    rule: str
    message: str


def refused(stage: Stage, category: Category, rule: str, what: str = "") -> Verdict:
    """The verdict that holds text back. `what` names the kind of key, for the category `secret`."""
    message = (_INPUT if stage == "input" else _OUTPUT)[category]
    return Verdict(stage, category, rule, message.replace("{what}", what or "an access key"))
