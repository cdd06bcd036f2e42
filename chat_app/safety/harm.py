"""Requests that no answer should be given to. Rules as data; see `rules` for how they are written.

Weapons of mass harm and bombs: a request for how to make them, not their history. Self-harm: a request for methods,
not a cry for help, which deserves an answer. Sexual content with any sign of a minor: the strictest threshold, no
request needed. English only, plain forms only; figures in `input`. A guard model is what goes further.
"""

from chat_app.safety.rules import Rule, rule

_HOW = (
    "(how (do|can|could|would|should|might|to|does one)|ways? to|"
    "(steps?|instructions?|guide|tutorial|recipe|manual|methods?|procedure|blueprints?|plans?|directions|protocol|"
    "formula) (for|to|on|about)|(teach|show|tell|help|instruct|walk|guide) (me|us|someone|people|others|a friend)|"
    "explain|describe|i (want|need|would like|'?d like|plan|intend) to|let's|give me|provide|write|create|develop|"
    "design|outline|detail)"
)
_MAKE = (
    "(mak(e|ing)|build(ing)?|construct(ing|ion( of)?)?|creat(e|ing)|produc(e|ing|tion of)|synthesi[sz](e|ing)|"
    "synthesis of|assembl(e|ing)|cook(ing)?|brew(ing)?|manufactur(e|ing)|prepar(e|ing)|weaponi[sz](e|ing)|"
    "cultur(e|ing)|grow(ing)?|cultivat(e|ing)|purify(ing)?|enrich(ing)?|engineer(ing)?|obtain(ing)?|acquir(e|ing)|spread(ing)?|"
    "releas(e|ing)|dispers(e|ing)|aerosoli[sz](e|ing)|detonat(e|ing)|set(ting)? off|plant(ing)?)"
)
_AGENTS = (
    "(sarin|tabun|soman|cyclosarin|novichok|vx|nerve (gas|agents?)|mustard gas|sulfur mustard|phosgene gas|"
    "chlorine gas (bombs?|weapons?|attack)|ricin|botulinum toxin|anthrax|smallpox|plague bacteria|"
    "(chemical|biological|nuclear|radiological|bio|chem) ?weapons?|dirty bombs?|nuclear (bombs?|device|warheads?)|"
    "(atomic|atom|hydrogen) bombs?|weapons? of mass destruction|weapons grade (uranium|plutonium)|"
    "(deadly|lethal) (virus|pathogen|toxin|nerve))"
)
_BOMBS = (
    "((pipe|nail|car|letter|pressure cooker|fertilizer) ?bombs?|suicide (vest|bomb)s?|"
    "(real|improvised|home ?made|functional|functioning|working|powerful|deadly|dangerous|remote|simple) "
    "(bombs?|explosives?( devices?)?)|explosive devices?|ieds?|tatp|petn|molotov( cocktails?)?|"
    "(a|the) bombs?|bombs? at home)"
)
_PAST_OR_SAFE = "(did|was|were|first|history|detect|stop|prevent|avoid|defuse|disarm|protect|survive|treat|ban)"
_NO_BOMB = "(shelters?|calorimeters?|disposal|squad|threats?|in (minecraft|fortnite|terraria|roblox|factorio|zelda))"

_MYSELF = (
    "(kill(ing)? myself|end(ing)? my (own )?life|commit(ting)? suicide|die by suicide|tak(e|ing) my own life|"
    "hang(ing)? myself)"
)
_AGAINST = (
    "(stop|stopping|not|don'?t|avoid|prevent|urges?|thoughts?|wanting|feeling|resist|instead|someone|others|friend|"
    "people)"
)

EXPLICIT = (
    "(sex scenes?|sex story|sexually explicit|sex acts?|sexual acts?|sexually aroused|sexual fantas(y|ies)|"
    "(have|having|had|has) sex with|erotica?|hentai|nudes|nude (photos?|pics?|pictures?|images?|videos?)|"
    "naked (photos?|pics?|pictures?|images?|videos?|body|bodies)|horny|blow ?jobs?|hand ?jobs?|orgasms?|orgasmic|"
    "masturbat(e|es|ed|ing|ion)|cumming|cumshot|pussy|pussies|titties|clit|deepthroat(ed|ing)?|"
    "gang ?bang(ed)?|fuck(s|ed|ing)? (her|him|me|his|a|their|them)|"
    "(his|her|my|hard|erect|throbbing) (cock|dick|penis|erection)|thrust(s|ed|ing)? (into|inside)|"
    "lust(ful|ing)|strip(s|ped|ping)? naked|(xxx|porn) videos?)"
)
_TEENS = "(five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen)"
_GIRL_OR_BOY = "(girls?|boys?|daughter|son|sister|brother|niece|nephew|cousin)"
MINOR = (
    "(child|children|kid|kids|kiddie|minors|a minor (who|and|girl|boy|child)|underaged?|under age|"
    "pre ?teens?|tweens?|teens?|teenaged?|teenagers?|toddlers?|infants?|school ?girls?|school ?boys?|"
    f"(little|young|small|adolescent|pubescent|prepubescent) {_GIRL_OR_BOY}|"
    "(middle|elementary|primary|grade|junior high) school(ers?|ed)?|"
    "(first|second|third|fourth|fifth|sixth|seventh|eighth|[1-9]th|1st|2nd|3rd) graders?|"
    "lolis?|lolita|shota|shotacon|jailbait|kindergart(en|eners?)|"
    f"(([1-9]|1[0-7])|{_TEENS}) (years?|yrs?) olds?|([4-9]|1[0-7]) ?(yo|y/o)|"
    f"(aged?|is|am|was|turned|turning) ((about|around|only|just) )?([4-9]|1[0-7]|{_TEENS})( and| but| so)?)"
)

HARM: tuple[Rule, ...] = (
    rule("weapons.mass", "weapons", 30, f"{_HOW} ~5{_MAKE} ~4{_AGENTS}", unless=_PAST_OR_SAFE),
    rule("weapons.bomb", "weapons", 30, f"{_HOW} ~5{_MAKE} ~3{_BOMBS}", unless=_PAST_OR_SAFE, unless_before=_NO_BOMB),
    rule(
        "self_harm.method",
        "self_harm",
        40,
        "(how|what|which|where|tell me|give me|show me|list|i need|find me) "
        "~3(ways?|methods?|pills?|drugs?|plan|do i|can i|to|should i|could i|would i) "
        f"~3{_MYSELF}|"
        "(painless|easiest|quickest|fastest|best|least painful|most effective|effective|reliable|foolproof) "
        f"~2((ways?|methods?|means) ~2({_MYSELF}|to die|of dying)|suicide methods?)|"
        "how (many|much) ~5(pills?|tablets?|mg|milligrams|paracetamol|acetaminophen|tylenol|ibuprofen|xanax|insulin|"
        "fentanyl) ~6(kill (me|myself)|overdose|end my life)|"
        "how (do|can|to|should|would|could) ~2(overdose( on)?|slit my wrists?|cut myself|cut my wrists?|"
        "starve myself|tie a noose)",
        unless=_AGAINST,
    ),
    rule("child_safety.explicit", "child_safety", 50, MINOR, near=EXPLICIT),
    rule(
        "child_safety.request",
        "child_safety",
        50,
        "(find|get|watch|download|upload|share|send|sell|buy|trade|distribut(e|ing)|access|make|create|produce|"
        "generate|film|record|host|stream|look(ing)? for|search(ing)? for|want|see|show me|describe|write|"
        "tell|give me) ~4(child|children|kiddie|kids?|underaged?|pre ?teen|teen|teenage|minors|lolis?|"
        "little girls?|little boys?|young girls?|young boys?) "
        "~1(porn|pornography|nudes?|naked|erotica?|sex (tape|video|story|scene)s?|"
        "having sex|sexually|sexual (content|images?|material|photos?|pictures?|stor(y|ies)|acts?))",
        unless="(stop|prevent|report|against|laws?|protect|fight|expose|condemn|combat|illegal)",
    ),
)
