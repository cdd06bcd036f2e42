"""What every page shares: the filters, how old the figures are, and the loaded turns. It draws no figures.

Turns reach a page only through `handed_over`, from the frame that has opened the door: a page that is run without it,
however that came about, has nothing to show.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import NoReturn

import streamlit as st

from ops_dashboard.queries import Files, Filters, Turns, UnreadableFiles, choices

_HANDED = "handed_over"
_BEAT = "last_beat"
BEAT_S = 30

PERIODS = {"1 d": 1, "7 d": 7, "30 d": 30}
CUSTOM = "Other"


def today() -> date:
    return datetime.now(UTC).date()


def filters(files: Files) -> Filters | None:
    """The filter bar; None if there are no files at all."""
    days = files.days()
    if not days:
        return None
    period = st.segmented_control("Period", [*PERIODS, CUSTOM], default="7 d", required=True, key="period")
    until = max(today(), days[-1])
    since = until - timedelta(days=PERIODS.get(str(period), 7) - 1)
    if period == CUSTOM:
        picked = st.date_input("From and to (UTC)", (max(days[0], since), until), min_value=days[0], max_value=until)
        since, until = _both(picked, since, until)
    try:
        known = _choices(files, since, until, files.stamp())
    except UnreadableFiles as error:
        _unreadable(error)
    plans = st.multiselect("Plan", known["plan"], placeholder="All", key="plans")
    models = st.multiselect("Model", known["model"], placeholder="All", key="models")
    sources = st.multiselect("Source", known["source"], placeholder="All", key="sources")
    return Filters(since, until, tuple(plans), tuple(models), tuple(sources))


@contextmanager
def handed_over(files: Files, wanted: Filters) -> Iterator[None]:
    """Let a page have the turns of the filters, and of the period before, while it runs."""
    try:
        stamp = files.stamp()
        st.session_state[_HANDED] = _turns(files, wanted, stamp), _turns(files, wanted.before, stamp)
    except UnreadableFiles as error:
        _unreadable(error)
    try:
        yield
    finally:
        st.session_state.pop(_HANDED, None)


def turns() -> tuple[Turns, Turns]:
    """For a page: the chosen turns, and those of the period before. Ends the page if there is nothing to show."""
    if _HANDED not in st.session_state:
        st.info("Open the dashboard at its first page.")
        st.stop()
    now, before = st.session_state[_HANDED]
    return now, before


def freshness(files: Files) -> None:
    """How old the figures are, a button to look again, and a switch to do so by itself."""
    exported = files.exported_at()
    age = "nothing exported yet" if exported is None else f"exported {ago(exported)}"
    st.caption(f":material/schedule: Figures {age}; times are UTC")
    left, right = st.columns(2, vertical_alignment="center")
    left.button("Refresh", width="stretch")
    if right.toggle(f"every {BEAT_S} s", key="auto_refresh"):
        st.session_state[_BEAT] = time.monotonic()
        _beat()


def ago(moment: datetime) -> str:
    """A moment in plain words, as seen from now."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


@st.fragment(run_every=BEAT_S)
def _beat() -> None:
    """Draws nothing; when its time has come it has the whole page drawn anew, door and all."""
    if time.monotonic() - float(st.session_state.get(_BEAT, 0)) >= BEAT_S * 0.9:
        st.rerun()


@st.cache_resource(max_entries=4, show_spinner="Reading the exported files …")
def _turns(_files: Files, wanted: Filters, stamp: tuple[int, int]) -> Turns:
    return Turns(_files, wanted)


@st.cache_data(max_entries=16, show_spinner=False)
def _choices(_files: Files, since: date, until: date, stamp: tuple[int, int]) -> dict[str, list[str]]:
    return {name: list(values) for name, values in choices(_files, since, until).items()}


def _both(picked: object, since: date, until: date) -> tuple[date, date]:
    """While a person has picked only the first day, the range is that day."""
    if not isinstance(picked, tuple) or not picked:
        return since, until
    return picked[0], picked[-1]


def _unreadable(error: UnreadableFiles) -> NoReturn:
    st.error(
        f"A file of the export cannot be read: {error}. Restore it from a backup, or move it away: its "
        "turns are then missing here.",
        icon=":material/broken_image:",
    )
    st.stop()
