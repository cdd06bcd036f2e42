"""The dashboard's frame: who may look, which turns, which page. Run it with `python -m ops_dashboard`."""

import streamlit as st

from chat_app.settings import settings
from ops_dashboard import controls, door
from ops_dashboard.queries import Files

# Not in a folder named "pages": Streamlit would offer what lies there by itself, past this file and its door.
PAGES = [
    st.Page("views/traffic.py", title="Traffic and latency", icon=":material/timeline:", default=True),
    st.Page("views/spend.py", title="Usage and cost", icon=":material/payments:"),
]

st.set_page_config(page_title="Parley · operations", page_icon=":material/monitoring:", layout="wide")

visit = door.visit()
# Outside the door the pages are named too, but hidden: a link to one of them leads to the door.
page = st.navigation(PAGES, position="top" if visit.is_open else "hidden")
if not visit.is_open:
    door.draw(visit)
    st.stop()

files = Files(settings().exports)
with st.sidebar:
    st.markdown("### :material/monitoring: Parley operations")
    controls.freshness(files)
    filters = controls.filters(files)
    door.signed_in_as(visit)

if filters is None:
    st.title(page.title)
    st.info(
        "No chats have been exported yet. Chat, then run `python -m chat_app export`, or wait for the schedule "
        f"(every {settings().export_minutes} minutes while Parley runs).",
        icon=":material/hourglass_empty:",
    )
    st.caption(f"Looked in `{files.directory.resolve()}`.")
    st.stop()

with controls.handed_over(files, filters):
    page.run()
