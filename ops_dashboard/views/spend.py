"""Usage and cost: tokens and money by plan and model, and who uses most."""

import streamlit as st

from ops_dashboard import controls
from ops_dashboard.drawing import Card, cards, change, money, number, over_time, share, table

turns, turns_before = controls.turns()
now, before, bucket = turns.totals(), turns_before.totals(), turns.filters.bucket

st.title("Usage and cost")
if not now["turns"]:
    st.info("No turn matches these filters. Widen the period or take a filter away.", icon=":material/filter_alt:")
    st.stop()

tokens = (now["prompt_tokens"] or 0) + (now["completion_tokens"] or 0)
tokens_before = (before["prompt_tokens"] or 0) + (before["completion_tokens"] or 0)
cards(
    Card(
        "Tokens",
        number(tokens),
        "Prompts and answers together, as the engine counted them. The change is against as many days before.",
        change(tokens, tokens_before),
    ),
    Card("Prompts", share(now["prompt_tokens"], tokens), "Share of all tokens that were read, not written."),
    Card(
        "From the cache",
        share(now["cached_tokens"], now["prompt_tokens"]),
        "Share of prompt tokens that the engine did not have to compute again.",
    ),
    Card(
        "Cost",
        money(now["cost"]),
        "At the prices that were set for the models, in their currency. Without prices it is 0.",
        change(now["cost"], before["cost"]),
    ),
    Card("Cost of a turn", money((now["cost"] or 0) / now["turns"]), "Average over all turns of this period."),
)

left, right = st.columns(2)
with left.container(border=True):
    st.markdown("#### Tokens by plan")
    over_time(turns.tokens("plan"), "tokens", "plan", "tokens", bucket=bucket)
with right.container(border=True):
    st.markdown("#### Tokens by model")
    by_model = turns.tokens("model")
    over_time(by_model, "tokens", "model", "tokens", bucket=bucket)

with st.container(border=True):
    st.markdown("#### Cost by model")
    if now["cost"]:
        over_time(by_model, "cost", "model", "cost", bucket=bucket, form=",.4f")
    else:
        st.caption("No model has a price, so nothing cost anything.")

column = st.column_config.NumberColumn
with st.container(border=True):
    st.markdown("#### By plan and model")
    table(
        turns.spend(),
        "spend",
        {
            "plan": "Plan",
            "model": "Model",
            "turns": "Turns",
            "people": "People",
            "prompt_tokens": column("Prompt tokens", format="localized"),
            "completion_tokens": column("Answer tokens", format="localized"),
            "cached_share": column("From the cache", format="percent"),
            "cost": column("Cost", format="%.4f"),
        },
    )

with st.container(border=True):
    st.markdown("#### Who uses most")
    st.caption("People appear as the beginning of a keyed hash; their names are nowhere in these files.")
    table(
        turns.heaviest(),
        "heaviest",
        {
            "person": "Person",
            "plan": "Plan",
            "turns": "Turns",
            "tokens": column("Tokens", format="localized"),
            "share": st.column_config.ProgressColumn("Share of all tokens", format="percent", min_value=0, max_value=1),
            "cost": column("Cost", format="%.4f"),
        },
    )
