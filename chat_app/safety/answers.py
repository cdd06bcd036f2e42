"""What an answer must not say. Rules as data, for text that is still growing.

A rule is a context and a trigger. Nothing is wrong until both are there, so only the trigger is kept from the reader,
and text waits only while a context stands close before it and its end may still become the trigger. Ordinary text
never has the context and never waits. The triggers are few and plain, so that an answer which refuses, explains or
consoles is not cut off. English only. It does not know what was asked.
"""

from dataclasses import dataclass

from chat_app.safety.harm import EXPLICIT, MINOR
from chat_app.safety.rules import Pattern, phrase, whole_words
from chat_app.safety.shapes import Shape, either, spoken
from chat_app.safety.verdict import Category

LONGEST_CONTEXT = 64
"""No context phrase is longer than this many characters; of a longer one the last so many count."""


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """`trigger` is wrong where a match of `context` ends at most `within` characters before it begins."""

    id: str
    category: Category
    context: Pattern
    within: int
    trigger: Shape


def _rule(id: str, category: Category, context: str, within: int, *triggers: str) -> AnswerRule:
    pattern = Pattern(whole_words(phrase(context)))
    return AnswerRule(id, category, pattern, within, either(*(spoken(trigger) for trigger in triggers)))


ANSWER_RULES: tuple[AnswerRule, ...] = (
    _rule(
        "child_safety.explicit_then_minor",
        "child_safety",
        EXPLICIT,
        200,
        *("child", "children", "kid", "kids", "underage", "preteen", "teen", "teenage", "teenager", "teenagers"),
        *("toddler", "infant", "schoolgirl", "schoolboy", "little girl", "little boy", "young girl", "young boy"),
        *("loli", "jailbait", "middle school", "elementary school"),
        *(f"{age} years old" for age in (*range(4, 18), "twelve", "thirteen", "fourteen", "fifteen", "sixteen")),
        *(f"{age} year old" for age in (*range(4, 18), "twelve", "thirteen", "fourteen", "fifteen", "sixteen")),
        *(f"{age}-year-old" for age in (*range(4, 18), "twelve", "thirteen", "fourteen", "fifteen", "sixteen")),
    ),
    _rule(
        "child_safety.minor_then_explicit",
        "child_safety",
        MINOR,
        200,
        *("sex scene", "sexually explicit", "sexually aroused", "had sex with", "having sex with", "have sex with"),
        *("nudes", "nude photos", "nude pictures", "naked body", "naked bodies", "naked photos", "horny", "blowjob"),
        *("orgasm", "orgasms", "masturbate", "masturbated", "masturbating", "cumming", "cumshot", "pussy", "tits"),
        *("his cock", "his dick", "erect penis", "hard cock", "fucked her", "fucks her", "fucking her", "fucked him"),
        *("thrust into", "thrusting into", "stripped naked"),
    ),
    _rule(
        "weapons.recipe",
        "weapons",
        "((make|making|build|building|create|creating|prepare|synthesi[sz]e|synthesis of|produce|production of|"
        "assemble) "
        "~3(sarin|tabun|soman|novichok|vx|nerve (gas|agents?)|mustard gas|ricin|anthrax|tatp|petn|pipe bombs?|"
        "nail bombs?|explosive devices?|homemade (bombs?|explosives?)|dirty bombs?|molotov( cocktails?)?|a bomb))",
        400,
        *(
            "you will need",
            "you'll need",
            "ingredients",
            "materials needed",
            "materials required",
            "step 1",
            "step one",
        ),
        *("mix the", "combine the", "heat the", "dissolve the", "fill the", "attach the", "connect the"),
    ),
    _rule(
        "self_harm.method",
        "self_harm",
        "(suicide|kill(ing)? yourself|end(ing)? your (own )?life|hang(ing)? yourself|self harm|overdose|to die)",
        300,
        *("tie the noose", "tie a noose", "tie the rope", "kick away the chair", "slit your wrists", "cut your wrists"),
        *("lethal dose is", "lethal dose of", "take the pills", "swallow the pills", "take all the pills"),
    ),
)

CONTEXT_REACH = max(rule.within for rule in ANSWER_RULES) + LONGEST_CONTEXT
"""How far back, in characters, a context can lie."""


class Trigger:
    """Finds one rule's trigger in folded lower-case text."""

    def __init__(self, rule: AnswerRule) -> None:
        self.rule = rule
        self._full = Pattern(rf"\b({rule.trigger.full})")
        self._open = Pattern(rf"\b({rule.trigger.open})\z")

    def find(self, words: bytes, start: int = 0) -> tuple[int, int] | None:
        """The first trigger from `start` on that stands in its context."""
        while (span := self._full.find(words, start)) is not None:
            if self._in_context(words, span[0]):
                return span
            start = span[0] + 1
        return None

    def begun(self, words: bytes, start: int = 0) -> int | None:
        """Where the earliest trigger begins, in context, that the end of the text leaves undecided."""
        while (span := self._open.find(words, start)) is not None:
            if self._in_context(words, span[0]):
                return span[0]
            start = span[0] + 1
        return None

    def _in_context(self, words: bytes, at: int) -> bool:
        start = max(0, at - self.rule.within - LONGEST_CONTEXT)
        while (span := self.rule.context.find(words[:at], start)) is not None:
            if at - span[1] <= self.rule.within:
                return True
            start = span[0] + 1
        return False


TRIGGERS = tuple(Trigger(rule) for rule in ANSWER_RULES)

ANY_BEGUN = Pattern(r"\b(?:" + "|".join(rf"{each.trigger.full}|{each.trigger.open}\z" for each in ANSWER_RULES) + ")")
"""Whether any trigger, in context or not, is in a text or may still become of its end: one pass for all rules."""
