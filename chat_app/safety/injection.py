"""Attempts to change the rules that the assistant works under. Rules as data; see `rules` for how they are written.

Three families: orders to drop the earlier instructions, orders to show the system prompt, orders to become somebody
without rules. They catch the plain forms of an attack and leave everything else alone, on purpose: a person who
writes about prompt injection, or plays a role, is no attacker. English only. Figures: `input`.
"""

from chat_app.safety.rules import Rule, rule

_IGNORE = (
    "(ignore|disregard|forget|dismiss|pay no attention to|do not (follow|obey)|don'?t (follow|obey)|"
    "stop (following|obeying))"
)
_BREAK = (
    f"({_IGNORE}|override|overrule|bypass|abandon|circumvent|get around|evade|suspend|lift|remove|disable|"
    "deactivate|turn off|switch off|shut off)"
)
_EARLIER = "(previous|prior|preceding|earlier|above|foregoing|initial|original|former)"
_ORDERS = "(instructions?|directions|directives?|orders|prompts?|guidelines|guidance|commands|messages)"
_RULES = (
    "(instructions|directives?|programming|guidelines|restrictions|safeguards?|guardrails?|limitations|censorship|"
    "(safety|content|ethical|ethics|moderation|operational|operating) ~1(measures?|mechanisms?|filters?|polic(y|ies)|"
    "protocols?|rules|constraints?|guidelines|restrictions|standards|parameters|procedures)|constraints|ethics)"
)
_SHOW = (
    "(show|reveal|print|display|output|repeat|tell|give|share|expose|disclose|leak|dump|recite|return|write out|"
    "spell out|type out|copy|paste|send|provide|quote|echo|divulge)"
)
_HIDDEN = (
    "(system|initial|original|hidden|secret|internal|full|exact|complete|entire|developer|pre ?set|underlying|core)"
)
_UNBOUND = (
    "(restrictions|limitations|limits|filters|censorship|rules|guidelines|constraints|ethics|morals|boundaries|"
    "guardrails)"
)
_FREE = (
    "(unrestricted|unfiltered|uncensored|jailbroken|(no|without|free (of|from)|not bound by) "
    f"((any|all|your|its|the) )?((ethical|moral|content|safety) )?{_UNBOUND})"
)
_NEVER = "(not|never|don'?t|can'?t|cannot|without|why|if|when)"
"""Just before the match these turn an order into its opposite, or into talk about it."""


def _attack(id: str, written: str, near: str = "", *, unless_after: str = "") -> Rule:
    return rule(id, "injection", 20, written, near=near, unless_after=unless_after, mention=True)


INJECTION: tuple[Rule, ...] = (
    _attack(
        "override.earlier",
        f"{_IGNORE} ((all|any|every) )?(of )?((the|your|my|these|those|its) )?{_EARLIER} ~2{_ORDERS}",
        unless_after=_NEVER,
    ),
    _attack(
        "override.all",
        f"{_IGNORE} (all|any|every) (of )?((the|your|my|these|those) )?{_ORDERS}",
        unless_after=_NEVER,
    ),
    _attack("override.yours", f"{_BREAK} ((all|any|every) )?(of )?(your|ur) ~1{_RULES}", unless_after=_NEVER),
    _attack(
        "override.before",
        f"{_IGNORE} ((all|any) )?(of )?((the|your|those) )?(text|{_ORDERS}|everything|whatever|anything) ~1"
        "(you (were|have been|are|'ve been) (given|told|taught|instructed|programmed)|i (said|told you)|given to you)",
        unless_after=_NEVER,
    ),
    _attack(
        "prompt.yours",
        f"{_SHOW} ((me|us|back|out|verbatim|exactly) )?((all|exactly) )?(of )?(your|ur) ~1"
        f"{_HIDDEN} ~1(prompts?|instructions?|messages?|directives?|configuration|guidelines|rules)",
        unless_after=_NEVER,
    ),
    _attack(
        "prompt.bare",
        "(reveal|print|display|output|expose|disclose|leak|dump|divulge) ((me|us) )?((all|of) )?your "
        "(prompt|instructions|guidelines|configuration|directives)|show me your (prompt|instructions)",
        unless_after=_NEVER,
    ),
    _attack(
        "prompt.given",
        f"{_SHOW} ~3(prompt|instructions) (that )?(you (were|have been)|was|were) (given|told|provided)( to you)?",
        near="(you|your|system|initial|exact)",
        unless_after=_NEVER,
    ),
    _attack(
        "prompt.ask",
        "what (is|are|was|were|does|do|'s) (in )?your ~1(system|initial|hidden|secret|internal|underlying) ~1"
        "(prompts?|instructions?|messages?|directives?)",
    ),
    _attack(
        "prompt.above",
        f"{_SHOW} ((me|us) )?(everything|all|the (text|words|content|instructions|prompt|messages?|conversation)|"
        "what (is|was)) ~3above (this|verbatim|starting|beginning|word for word)",
    ),
    _attack(
        "prompt.starting",
        "(starting|beginning|begin|start) with (the (words|phrase) )?you are "
        "(chatgpt|gpt|claude|parley|an? (ai|assistant|helpful))",
        near=_SHOW,
    ),
    _attack(
        "role.free",
        "(you are( now)?|you're now|act as|acting as|pretend (to be|that you are|you are|you're)|become|"
        "behave (like|as)|simulate|role ?play as|imagine you are|from now on you (are|will be|must|will)|respond as) "
        f"~5{_FREE}",
    ),
    _attack(
        "role.answer_free",
        f"(answer|respond|reply|help me|operate|function) ~3((with|in) ~1)?(unrestricted|unfiltered|uncensored|without "
        f"((any|all|your) )?((ethical|moral|content|safety) )?{_UNBOUND})",
        near="(you|your|ai|assistant)",
    ),
    _attack(
        "role.nothing_forbidden",
        "(pretend|act|respond|answer|reply|behave|operate|continue|imagine|role ?play) ~4(as if|as though|like|that) "
        f"(you|there) ~2((have|had|are|were) )?(no|without|not bound by) ~2{_UNBOUND}",
    ),
    _attack(
        "role.mode",
        "do anything now|(you are|act as|become|be|being|as) (now )?(dan|stan|aim|evil ?bot) "
        "(mode|now|who|which|stands|has|from)|"
        "(with|now in|are in) ~1(developer|dev|god|sudo|dan|jailbreak|jailbroken|unrestricted) mode"
        "( (enabled|activated))?",
    ),
    _attack(
        "role.mode_order",
        "(enter|enable|activate|switch to|switching to|turn on|unlock|engage) ~1(developer|god|sudo|dan|jailbreak|"
        "jailbroken|unrestricted) mode",
        near="(you|your|respond|answer|restrictions|rules|prompt|instructions|safety)",
    ),
    rule(
        "role.template",
        "injection",
        20,
        r"<[|]im_start[|]>\s*system|\[system\]\([#]|<[|]system[|]>|<<sys>>",
    ),
)
