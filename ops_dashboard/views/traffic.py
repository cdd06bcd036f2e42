"""Traffic and latency: how many turns, when, how they ended, and how fast answers come."""

import streamlit as st

from ops_dashboard import controls
from ops_dashboard.drawing import STATUS_COLORS, Card, cards, change, number, over_time, seconds, share, table, week

turns, turns_before = controls.turns()
now, before, bucket = turns.totals(), turns_before.totals(), turns.filters.bucket

st.title("Traffic and latency")
if not now["turns"]:
    st.info("No turn matches these filters. Widen the period or take a filter away.", icon=":material/filter_alt:")
    st.stop()

cards(
    Card(
        "Turns",
        number(now["turns"]),
        "Questions that were answered, refused, stopped or failed. The change is against as many days before.",
        change(now["turns"], before["turns"]),
        "up",
    ),
    Card(
        "People",
        number(now["people"]),
        "Different accounts, told apart by a keyed hash.",
        change(now["people"], before["people"]),
        "up",
    ),
    Card(
        "First token",
        seconds(now["ttft_p50"]),
        "From the request to the first token, median: half of all turns are faster.",
        change(now["ttft_p50"], before["ttft_p50"]),
        "down",
    ),
    Card(
        "Slowest 5 %",
        seconds(now["ttft_p95"]),
        "Time to the first token that 95 of 100 turns stay below.",
        change(now["ttft_p95"], before["ttft_p95"]),
        "down",
    ),
    Card(
        "Tokens/s",
        "–" if now["speed_p50"] is None else f"{now['speed_p50']:.3g}",
        "Speed of one answer once it flows, median.",
        change(now["speed_p50"], before["speed_p50"]),
        "up",
    ),
    Card(
        "Failed",
        share(now["failed"], now["turns"]),
        "Turns that ended in an error. What people stop and what the checks refuse is not counted.",
    ),
)

left, right = st.columns(2)
with left.container(border=True):
    st.markdown("#### Turns, by how they ended")
    over_time(turns.by_status(), "turns", "status", "turns", bucket=bucket, colors=STATUS_COLORS)
with right.container(border=True):
    st.markdown("#### Time to first token")
    latency = turns.latency()
    if latency.is_empty():
        st.caption("No turn in this period came as far as a first token.")
    else:
        over_time(latency, "seconds", "measure", "seconds", bucket=bucket, lines=True, form=".3f")

left, right = st.columns(2)
with left.container(border=True):
    st.markdown("#### When people come")
    week(turns.week())
with right.container(border=True):
    st.markdown("#### What the checks refused")
    refusals = turns.refusals()
    if refusals.is_empty():
        st.caption("Nothing was refused in this period.")
    else:
        table(refusals, "refusals", {"stage": "Check", "category": "Category", "rule": "Rule", "turns": "Turns"})

column = st.column_config.NumberColumn
with st.container(border=True):
    st.markdown("#### Models")
    table(
        turns.models(),
        "models",
        {
            "model": "Model",
            "turns": "Turns",
            "people": "People",
            "ttft_p50": column("First token, median", format="%d ms"),
            "ttft_p95": column("First token, 95 of 100", format="%d ms"),
            "total_p95": column("Whole answer, 95 of 100", format="%d ms"),
            "speed_p50": column("Tokens/s, median", format="%.1f"),
            "failed_share": column("Failed", format="percent"),
        },
    )
