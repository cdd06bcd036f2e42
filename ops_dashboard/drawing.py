"""How the pages' figures look: cards, charts, tables and their downloads. It knows no SQL and no file."""

from dataclasses import dataclass
from typing import Literal

import altair as alt
import polars as pl
import streamlit as st

STATUS_COLORS = {"done": "#0f766e", "stopped": "#94a3b8", "refused": "#d97706", "failed": "#dc2626"}
PALETTE = ["#0f766e", "#6366f1", "#d97706", "#0ea5e9", "#be185d", "#65a30d", "#7c3aed", "#78716c"]
_HEIGHT = 260


def number(value: float | None) -> str:
    """A count in few characters: 950, 12.3 k, 4.5 M."""
    if value is None:
        return "–"
    for least, size, unit in ((999.5e6, 1e9, "G"), (999.5e3, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{_three_digits(value / size)} {unit}"
    return f"{value:,.0f}"


def seconds(milliseconds: float | None) -> str:
    """A duration as a person would say it."""
    if milliseconds is None:
        return "–"
    return f"{milliseconds:.0f} ms" if milliseconds < 1_000 else f"{_three_digits(milliseconds / 1_000)} s"


def _three_digits(value: float) -> str:
    """At least three digits, and never an exponent."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def money(value: float | None) -> str:
    """An amount in the currency of the prices."""
    return "–" if value is None else f"{value:,.2f}" if value >= 1 or not value else f"{value:.3g}"


def share(part: float | None, whole: float | None) -> str:
    """A part in per cent."""
    return "–" if not whole or part is None else f"{100 * part / whole:.3g} %"


def change(now: float | None, before: float | None) -> str | None:
    """How much more or less than in the period before; None where that says nothing."""
    if not now or not before or round(100 * (now / before - 1)) == 0:
        return None
    return f"{100 * (now / before - 1):+.0f} %"


@dataclass(frozen=True, slots=True)
class Card:
    """One figure. `good` says which direction is: `up`, `down`, or neither."""

    label: str
    value: str
    meaning: str
    change: str | None = None
    good: Literal["up", "down", ""] = ""


def cards(*figures: Card) -> None:
    """A row of figures, several rows where there is no room."""
    colors: dict[str, Literal["normal", "inverse", "off"]] = {"up": "normal", "down": "inverse", "": "off"}
    with st.container(horizontal=True):
        for card in figures:
            st.metric(
                card.label,
                card.value,
                card.change,
                border=True,
                help=card.meaning,
                delta_color=colors[card.good],
                height="stretch",
            )


def over_time(
    rows: pl.DataFrame,
    value: str,
    by: str,
    title: str,
    *,
    bucket: str,
    lines: bool = False,
    colors: dict[str, str] | None = None,
    form: str = ",.0f",
) -> None:
    """Bars stacked over time, one for each hour or day (`bucket`), or lines. Times are drawn as they are, in UTC."""
    unit, named = ("utcyearmonthdatehours", "%d %b %H:00") if bucket == "hour" else ("utcyearmonthdate", "%a %d %b")
    axis = alt.Axis(format="%H:00" if bucket == "hour" else "%d %b", labelOverlap=True)
    scale = alt.Scale(domain=list(colors), range=list(colors.values())) if colors else alt.Scale(range=PALETTE)
    chart = alt.Chart(rows.with_columns(pl.col("moment").dt.replace_time_zone("UTC")))
    drawn = chart.mark_line(point=True, strokeWidth=2.5) if lines else chart.mark_bar()
    encoded = drawn.encode(
        x=alt.X(f"{unit}(moment):T", title=None, scale=alt.Scale(type="utc"), axis=axis),
        y=alt.Y(f"{value}:Q", title=title, stack=None if lines else "zero"),
        color=alt.Color(f"{by}:N", title=None, scale=scale, legend=alt.Legend(orient="top", labelLimit=260)),
        tooltip=[
            alt.Tooltip(f"{unit}(moment):T", title="UTC", format=named),
            alt.Tooltip(f"{by}:N"),
            alt.Tooltip(f"{value}:Q", title=title, format=form),
        ],
    )
    st.altair_chart(encoded.properties(height=_HEIGHT), alt=f"{title} over time by {by}")


def week(table: pl.DataFrame) -> None:
    """A map of the week: darker where more turns begin."""
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    named = table.with_columns(day=pl.col("weekday").replace_strict(dict(enumerate(days, 1)), return_dtype=pl.String))
    chart = (
        alt.Chart(named)
        .mark_rect(cornerRadius=3)
        .encode(
            x=alt.X("hour:O", title="hour (UTC)", scale=alt.Scale(domain=list(range(24))), axis=alt.Axis(labelAngle=0)),
            y=alt.Y("day:N", title=None, sort=days, scale=alt.Scale(domain=days)),
            color=alt.Color("turns:Q", title=None, scale=alt.Scale(scheme="teals"), legend=None),
            tooltip=["day:N", "hour:O", "turns:Q"],
        )
    )
    st.altair_chart(chart.properties(height=_HEIGHT), alt="Turns by weekday and hour")


def table(rows: pl.DataFrame, name: str, config: dict[str, object]) -> None:
    """A table with its download; columns without an entry in `config` are left out of the view, not of the file."""
    st.dataframe(rows, hide_index=True, column_order=list(config), column_config=config)  # type: ignore[arg-type]
    download(rows, name)


def download(rows: pl.DataFrame, name: str) -> None:
    st.download_button(
        "Download CSV",
        rows.write_csv(),
        f"parley-{name}.csv",
        "text/csv",
        key=f"csv-{name}",
        icon=":material/download:",
        on_click="ignore",
    )
