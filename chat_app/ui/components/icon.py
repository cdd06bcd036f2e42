"""Line icons, drawn on a 24 × 24 grid in the colour of the text around them."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

_PATHS = {
    "menu": "M4 7h16M4 12h16M4 17h10",
    "panel": "M4.5 6.5a2 2 0 0 1 2-2h11a2 2 0 0 1 2 2v11a2 2 0 0 1-2 2h-11a2 2 0 0 1-2-2zM9.5 4.5v15",
    "new": (
        "M12.5 5H7a2.5 2.5 0 0 0-2.5 2.5v9.5A2.5 2.5 0 0 0 7 19.5h9.5A2.5 2.5 0 0 0 19 17v-5.5"
        "M18.3 4.3a1.7 1.7 0 0 1 2.4 2.4L13 14.4l-3.2.8.8-3.2z"
    ),
    "send": "M12 19V5.5M6 11.2 12 5l6 6.2",
    "more": "M6 12h.01M12 12h.01M18 12h.01",
    "pencil": "M16.5 4.7a2 2 0 0 1 2.8 2.8L8.5 18.3l-4 1.2 1.2-4zM14.5 6.7l2.8 2.8",
    "bin": (
        "M5 7h14M10 7V5.2c0-.7.5-1.2 1.2-1.2h1.6c.7 0 1.2.5 1.2 1.2V7"
        "M7 7l.8 11.3c.1 1 .9 1.7 1.9 1.7h4.6c1 0 1.8-.7 1.9-1.7L17 7M10.5 11v5M13.5 11v5"
    ),
    "again": "M19.5 12a7.5 7.5 0 1 1-2.3-5.4M19.5 3.8v3.7h-3.7",
    "receipt": "M6.5 4v16l2-1.4 1.8 1.4 1.7-1.4 1.7 1.4 1.8-1.4 2 1.4V4zM9.5 8.5h5M9.5 12h5",
    "sun": (
        "M12 8.2a3.8 3.8 0 1 1 0 7.6 3.8 3.8 0 0 1 0-7.6M12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21"
        "M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1M18.4 5.6l-1.1 1.1M6.7 17.3l-1.1 1.1"
    ),
    "moon": "M19.5 14.2A8 8 0 0 1 9.8 4.5a8 8 0 1 0 9.7 9.7",
    "down": "M12 5v13.5M6 12.8l6 6.2 6-6.2",
    "close": "M6.5 6.5l11 11M17.5 6.5l-11 11",
    "person": "M12 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M5 19.5c.6-3.3 3.4-5 7-5s6.4 1.7 7 5",
    "plans": "M4.5 8.5 12 4.5l7.5 4L12 12.5zM4.5 12.5l7.5 4 7.5-4M4.5 16.3l7.5 4 7.5-4",
    "shield": "M12 4l6.5 2.3v5c0 4-2.7 6.9-6.5 8.7-3.8-1.8-6.5-4.7-6.5-8.7v-5zM9.3 11.8l2 2 3.5-3.7",
    "leave": "M10 4.5H7a2 2 0 0 0-2 2v11a2 2 0 0 0 2 2h3M14.5 8l4 4-4 4M18.5 12H10",
    "thought": (
        "M9.2 17.5h5.6M10.2 20.3h3.6M12 3.5a6 6 0 0 0-3.6 10.8c.7.5 1.1 1.3 1.1 2.2v1h5v-1"
        "c0-.9.4-1.7 1.1-2.2A6 6 0 0 0 12 3.5z"
    ),
    "tool": (
        "M14.6 6.4a3.9 3.9 0 0 1 5-.4l-2.7 2.7.6 1.9 1.9.6 2.5-2.5a4.4 4.4 0 0 1-5.9 5.2l-7 7a1.9 1.9 0 0 1-2.7-2.7l7-7"
        "a4.4 4.4 0 0 1 1.3-4.8z"
    ),
    "fold": "M9 6l6 6-6 6",
    "key": "M14.8 4.5a4.7 4.7 0 1 1-3.3 8L5 19v.5h2.5v-2h2v-2h2M15.8 8.2h.01",
}


def icon(name: str) -> rx.Component:
    """An icon without a name of its own: the button around it has the label."""
    return rx.el.svg(
        rx.el.svg.path(d=_PATHS[name]),
        view_box="0 0 24 24",
        class_name="icon",
        custom_attrs={"aria-hidden": "true"},
    )


def logo() -> rx.Component:
    """Two people's words, side by side."""
    return rx.el.svg(
        rx.el.svg.path(
            d="M7 5h10a4 4 0 0 1 4 4v3a4 4 0 0 1-4 4h-5l-4.5 4v-4H7a4 4 0 0 1-4-4V9a4 4 0 0 1 4-4z",
            class_name="logo-body",
        ),
        rx.el.svg.path(d="M8.5 10.5h.01M12 10.5h.01M15.5 10.5h.01", class_name="logo-dots"),
        view_box="0 0 24 24",
        class_name="logo",
        custom_attrs={"aria-hidden": "true"},
    )
