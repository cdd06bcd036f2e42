"""What a rule is, and how its pattern is written. The rules are data in `harm`, `injection`, `secrets` and `answers`.

Phrases are written in plain lower case and compiled to RE2, which takes linear time whatever the text is:

- a space is a gap: blanks, quotes, dashes, commas and the like, in any number, but no end of a sentence;
- `~3` stands for up to three arbitrary words, with the gaps around them;
- a letter also matches what leetspeak writes for it (`1gn0re`);
- `( | ) ?` mean what they always mean; `[...]`, `\\x` and `{m,n}` are passed on as they stand.

A phrase begins and ends at a word boundary. It does not know where the text comes from, nor what a match leads to.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import re2

from chat_app.safety.verdict import Category

_LEET = {
    "a": "[a4@]",
    "b": "[b8]",
    "e": "[e3]",
    "g": "[g9]",
    "i": "[i1!|]",
    "l": "[l1|]",
    "o": "[o0]",
    "s": "[s5$]",
    "t": "[t7+]",
}
_GAP = r"[\s*_\"'`,;:()\-]"
_WORD = r"[a-z0-9@$']"
_TOKEN = re.compile(r"~(?P<words>\d)|(?P<verbatim>\[[^\]]*\]|\\.|\{[\d,]+\})|(?P<char>.)", re.DOTALL)

_OPTIONS = re2.Options()
_OPTIONS.encoding = re2.Options.Encoding.LATIN1
_OPTIONS.log_errors = False


class Pattern:
    """A compiled byte pattern. Offsets are those of the text, which has one byte per character."""

    def __init__(self, source: str) -> None:
        self.source = source
        compiled = re2.compile(source.encode(), _OPTIONS)  # type: ignore[no-untyped-call]
        self._search = compiled.search
        self._group = min(compiled.groups, 1)

    def find(self, text: bytes, start: int = 0) -> tuple[int, int] | None:
        """The leftmost match from `start` on. What lies before `start` still counts for word boundaries.

        If the pattern has a group, the group's span is the answer.
        """
        match = self._search(text, start)
        if match is None:
            return None
        span: tuple[int, int] = match.span(self._group)
        return span


def any_of(patterns: Iterable[Pattern]) -> Pattern:
    """A pattern that occurs in a text if one of these does: asked first, it costs a tenth of asking each."""
    return Pattern("|".join(f"(?:{pattern.source})" for pattern in patterns))


def phrase(written: str) -> str:
    """The RE2 pattern of a phrase written as the module's docstring says. For folded lower-case text."""
    parts = []
    for token in _TOKEN.finditer(written):
        char = token["char"]
        if token["words"]:
            parts.append(f"(?:{_GAP}*{_WORD}+){{0,{token['words']}}}{_GAP}*")
        elif token["verbatim"]:
            parts.append(token["verbatim"])
        elif char == " ":
            parts.append(f"(?:{_GAP}+)")
        elif char == "(":
            parts.append("(?:")
        else:
            parts.append(_LEET.get(char, char))
    return "".join(parts)


def whole_words(pattern: str) -> str:
    """`pattern` between word boundaries, as the group that `Pattern.find` returns.

    The boundary is "no letter or digit" and not `\\b`: a leetspeak word may begin or end with a sign.
    """
    return rf"(?:\A|[^a-z0-9])({pattern})(?:[^a-z0-9]|\z)"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule about what a person sends.

    `pattern` has to occur; with `near`, that has to occur as well, at most `within` characters before or after it.
    A match does not count if `unless` occurs in it, if `unless_after` occurs in the few words before it or
    `unless_before` in those behind it, or, with `mention`, if it is quoted in a text that talks about such phrases.
    The gravest `severity` names the refusal.
    """

    id: str
    category: Category
    severity: int
    pattern: Pattern
    near: Pattern | None = None
    within: int = 200
    unless: Pattern | None = None
    unless_after: Pattern | None = None
    unless_before: Pattern | None = None
    mention: bool = False


def rule(
    id: str,
    category: Category,
    severity: int,
    written: str,
    *,
    near: str = "",
    within: int = 200,
    unless: str = "",
    unless_after: str = "",
    unless_before: str = "",
    mention: bool = False,
) -> Rule:
    """A rule from written phrases."""
    return Rule(
        id,
        category,
        severity,
        _words(written),
        _words(near) if near else None,
        within,
        _words(unless) if unless else None,
        _words(unless_after) if unless_after else None,
        _words(unless_before) if unless_before else None,
        mention,
    )


def _words(written: str) -> Pattern:
    return Pattern(whole_words(phrase(written)))


def holds(rule: Rule, words: bytes) -> tuple[int, int] | None:
    """The first span of folded lower-case text that breaks the rule.

    It leaps from one candidate to the next, so its cost does not grow with the product of pattern and `near`.
    """
    start, beside = 0, None
    while (span := rule.pattern.find(words, start)) is not None:
        # Boundaries are shared: the character that ends one word may begin the next.
        start = max(span[1] - 1, span[0] + 1)
        if rule.near is not None:
            least = max(span[0] - rule.within, 0)
            if beside is None or beside[0] < least:
                beside = rule.near.find(words, least)
            if beside is None:
                return None
            if beside[0] > span[1] + rule.within:
                start = max(start, beside[0] - rule.within - _LONGEST_MATCH)
                continue
        if not _excused(rule, words, span):
            return span
    return None


_LONGEST_MATCH = 400
_FEW_WORDS = 24
_AROUND = 300
_CLAUSE_END = re.compile(rb"[.!?,;:\n]")
_QUOTES = b"\"'`?"
"""Typographic quotation marks have no ASCII spelling and appear as `?`."""


def _excused(rule: Rule, words: bytes, span: tuple[int, int]) -> bool:
    start, end = span
    if rule.unless is not None and rule.unless.find(words[start:end]) is not None:
        return True
    if rule.unless_after is not None:
        clause = _CLAUSE_END.split(words[max(0, start - _FEW_WORDS) : start])[-1]
        if rule.unless_after.find(clause) is not None:
            return True
    if rule.unless_before is not None and rule.unless_before.find(words[end - 1 : end + _FEW_WORDS]) is not None:
        return True
    if not (rule.mention and _quoted(words, span)):
        return False
    around = words[max(0, start - _AROUND) : start] + b"\n" + words[end : end + _AROUND]
    return MENTIONS.find(around) is not None


def _quoted(words: bytes, span: tuple[int, int]) -> bool:
    before, after = words[max(0, span[0] - 40) : span[0]], words[span[1] : span[1] + 80]
    return any(mark in before for mark in _QUOTES) and any(mark in after for mark in _QUOTES)


MENTIONS = _words(
    "prompt injections?|jail ?breaks?|jailbreaking|attack(s|ers?|ing)?|phrases?|what does|meaning|means|mean|"
    "detect(s|ion|ing)?|prevent(s|ion|ing)?|defend(s|ing)?|protect(s|ion|ing)?|classif(y|ier|ication)|filter(s|ing)?|"
    "users? (from |who |that )?(say|typ|writ|send|ask)(e|es|s|ing)?|why (is|does|do|would)|what makes|what happens|"
    "examples? of|security|red team(ing)?|blog|article|paper|essay"
)
"""Signs that a text talks *about* attacks."""
