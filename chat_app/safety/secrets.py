"""Keys and passwords that machines issue: what they look like. Rules as data, for input and output alike.

A key begins with an opening that everybody knows (`AKIA`); the secret is the body after it. Only the body is kept
back, and only once an opening stands before it, so ordinary text never waits. Bodies are of the length that the
issuer uses or, where that varies, of its least length. A body that is plainly a stand-in (`EXAMPLE`, `xxxx…`) is no
secret: manuals and models are full of them. It does not know whether a key is real or still works.
"""

from dataclasses import dataclass

from chat_app.safety.rules import Pattern
from chat_app.safety.shapes import Shape, run, sequence, word

_WORD = "[A-Za-z0-9]"
_DASHED = "[A-Za-z0-9_-]"
_BASE64 = "[A-Za-z0-9+/=]"
_BREAK = r"(?:\s|\\[rn])"
"""An escaped line break is how a key looks inside JSON."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One kind of key. `opening` is an RE2 pattern that ends where the `body` begins; `what` names it to a person.
    `rest` is a pattern of Python's for what may follow the body, which need be no longer than it takes to be sure."""

    id: str
    what: str
    opening: str
    body: Shape
    rest: str = r"[A-Za-z0-9_+/=-]*(?:\.[A-Za-z0-9_-]{8,})*"


def _exactly(chars: str, length: int) -> Shape:
    return run(chars, length, length)


SECRETS = (
    Secret("aws_access_key", "AWS", r"\b(?:AKIA|ASIA|ABIA|ACCA)", _exactly("[A-Z0-9]", 16)),
    Secret(
        "aws_secret_key",
        "AWS",
        r"(?i:\baws_?secret_?access_?key)[\"' ]{0,2}[=:][\"' ]{0,2}",
        _exactly("[A-Za-z0-9+/]", 40),
    ),
    Secret("github_token", "GitHub", r"\bgh[pousr]_", _exactly(_WORD, 36)),
    Secret("github_fine_token", "GitHub", r"\bgithub_pat_", _exactly("[A-Za-z0-9_]", 60)),
    Secret("gitlab_token", "GitLab", r"\bglpat-", _exactly(_DASHED, 20)),
    Secret("parley_key", "Parley", r"\bsk-parley-", _exactly(_DASHED, 43)),
    Secret("anthropic_key", "Anthropic", r"\bsk-ant-", _exactly(_DASHED, 32)),
    Secret("openai_project_key", "OpenAI", r"\bsk-(?:proj|svcacct|admin|None)-", _exactly(_DASHED, 32)),
    Secret("openai_key", "OpenAI", r"\bsk-", sequence(_exactly(_WORD, 20), word("T3BlbkFJ"), _exactly(_WORD, 20))),
    Secret("openrouter_key", "OpenRouter", r"\bsk-or-v1-", _exactly("[0-9a-f]", 48)),
    Secret("huggingface_token", "Hugging Face", r"\bhf_", _exactly(_WORD, 34)),
    Secret("slack_token", "Slack", r"\bxox[abeoprs]-", sequence(_exactly("[0-9]", 8), _exactly("[A-Za-z0-9-]", 16))),
    Secret(
        "slack_app_token", "Slack", r"\bxapp-", sequence(_exactly("[0-9]", 1), word("-"), _exactly("[A-Za-z0-9-]", 32))
    ),
    Secret("slack_webhook", "Slack", r"\bhooks\.slack\.com/services/", _exactly("[A-Za-z0-9/]", 40)),
    Secret("stripe_key", "Stripe", r"\b(?:sk|rk)_live_", _exactly(_WORD, 24)),
    Secret("stripe_webhook_secret", "Stripe", r"\bwhsec_", _exactly("[A-Za-z0-9+/]", 32)),
    Secret("google_api_key", "Google", r"\bAIza", _exactly(_DASHED, 35)),
    Secret("google_client_secret", "Google", r"\bGOCSPX-", _exactly(_DASHED, 28)),
    Secret("google_refresh_token", "Google", r"\b1//0", _exactly(_DASHED, 40)),
    Secret("sendgrid_key", "SendGrid", r"\bSG\.", sequence(_exactly(_DASHED, 22), word("."), _exactly(_DASHED, 40))),
    Secret("npm_token", "npm", r"\bnpm_", _exactly(_WORD, 36)),
    Secret("pypi_token", "PyPI", r"\bpypi-AgEIcHlwaS5vcmc", _exactly(_DASHED, 50)),
    Secret("digitalocean_token", "DigitalOcean", r"\bdop_v1_", _exactly("[0-9a-f]", 64)),
    Secret(
        "private_key",
        "private key",
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----",
        sequence(run(r"[\s\\rn]", 1, 8), _exactly(_BASE64, 40)),
        rf"(?:{_BASE64}|{_BREAK})*-----END [A-Z0-9 ]{{0,40}}PRIVATE KEY(?: BLOCK)?-----"
        rf"|{_BASE64}*(?:{_BREAK}+{_BASE64}{{40,}})*(?:{_BREAK}+{_BASE64}+)?",
    ),
    Secret(
        "jwt",
        "signed token",
        r"\beyJ",
        sequence(run(_DASHED, 14), word(".eyJ"), run(_DASHED, 8), word("."), _exactly(_DASHED, 32)),
    ),
)

LONGEST_OPENING = 80
"""No opening of a secret is longer than this many characters; a test holds it."""

_STAND_INS = (
    b"example",
    b"xxxx",
    b"****",
    b"....",
    b"your",
    b"dummy",
    b"fake",
    b"redacted",
    b"placeholder",
    b"test-key",
)
_FEW = 5
_SAMPLE_TOKENS = (b"eyJzdWIiOiIxMjM0NTY3ODkw",)
"""What stands in every introduction to signed tokens."""


def is_stand_in(body: bytes) -> bool:
    """Whether this body is a placeholder: it says so, repeats very few characters, or counts up."""
    lower = body.lower()
    return (
        len(set(lower)) < _FEW
        or any(sign in lower for sign in _STAND_INS)
        or b"0123456789" in body
        or b"1234567890" in body
        or b"abcdefgh" in lower
        or any(sample in body for sample in _SAMPLE_TOKENS)
    )


LONGEST_BODY = 4_096
"""A body that has not ended after this many characters is no key; else text could be held for ever."""


class Finder:
    """Finds one kind of key in folded text."""

    def __init__(self, secret: Secret) -> None:
        self.secret = secret
        self._full = Pattern(f"{secret.opening}({secret.body.full})")
        self._open = Pattern(rf"{secret.opening}({secret.body.open})\z")

    def find(self, text: bytes, start: int = 0) -> tuple[int, int] | None:
        """Span of the first body whose opening begins at `start` or later."""
        while (span := self._full.find(text, start)) is not None:
            too_long = span[1] - span[0] > LONGEST_BODY
            if not too_long and not is_stand_in(text[span[0] : span[1]]):
                return span
            # A shorter body may begin inside one that is too long; its opening may lie just before the bound.
            start = max(span[0], span[1] - LONGEST_BODY - LONGEST_OPENING)
        return None

    def begun(self, text: bytes, start: int = 0) -> int | None:
        """Where the earliest body begins that the end of the text leaves undecided."""
        start = max(start, len(text) - LONGEST_BODY - LONGEST_OPENING)
        while (span := self._open.find(text, start)) is not None:
            if len(text) - span[0] < LONGEST_BODY:
                return span[0]
            start = span[0]
        return None


FINDERS = tuple(Finder(secret) for secret in SECRETS)

ANY_FULL = Pattern("|".join(f"{secret.opening}{secret.body.full}" for secret in SECRETS))
"""Whether a text may hold a key at all: one pass instead of one for each kind."""

ANY_BEGUN = Pattern("|".join(rf"{each.opening}(?:{each.body.full}|{each.body.open}\z)" for each in SECRETS))
"""The same, or whether its end may still become one."""


def find_secret(text: bytes) -> tuple[Secret, tuple[int, int]] | None:
    """The first kind of key, in the order of the list, that folded text contains, with the span of its body."""
    if ANY_FULL.find(text) is None:
        return None
    for finder in FINDERS:
        span = finder.find(text)
        if span is not None:
            return finder.secret, span
    return None
