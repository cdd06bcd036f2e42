"""The parts that are written in JavaScript (`assets/parley.jsx`): Markdown, copying, the page's behaviour.

Raw HTML in Markdown stays text, pictures become links, and a link's `javascript:` is taken away.
"""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

from typing import Any

import reflex as rx

_PACKAGES = ["react-markdown@10.1.0", "remark-gfm@4.0.1", "highlight.js@11.11.1"]


class _Browser(rx.Component):
    library = "$/public/parley.jsx"
    lib_dependencies: list[str] = _PACKAGES


class Markdown(_Browser):
    """Markdown `source` as HTML. `live`: it is still being written, so code is not coloured yet."""

    tag = "Markdown"
    source: rx.Var[str]
    live: rx.Var[bool]


class CopyButton(_Browser):
    """A button that copies `text`, or the text of an answer's parts, and says so. There is none for no text."""

    tag = "CopyButton"
    text: rx.Var[Any]
    label: rx.Var[str]


class NewKey(_Browser):
    """Shows the key that the event `parley:key` of the window brings (`{key, name}`), until the next one (null: none)
    or until the page is left."""

    tag = "NewKey"


class NewFactor(_Browser):
    """Shows the secret for an authenticator app that the event `parley:factor` of the window brings (`{secret,
    picture}`), until the next one (null: none) or until the page is left."""

    tag = "NewFactor"


class RecoveryCodes(_Browser):
    """The same for recovery codes: `parley:codes`, a list of them."""

    tag = "RecoveryCodes"


class TooLong(_Browser):
    """Says that the question is too long to be sent."""

    tag = "TooLong"


class Behaviour(_Browser):
    """Mounted once on a page; see `assets/behaviour.js` for what it does to elements with which attributes."""

    tag = "Behaviour"


@rx.memo
def block(source: rx.Var[str]) -> rx.Component:
    """A finished block of an answer: rendered once."""
    return rx.el.div(Markdown.create(source=source), class_name="block", dir="auto")


@rx.memo
def tail(source: rx.Var[str]) -> rx.Component:
    """The block that is still being written."""
    return rx.el.div(Markdown.create(source=source, live=True), class_name="block tail", dir="auto")
