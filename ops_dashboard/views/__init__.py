"""The dashboard's pages. Streamlit runs each from top to bottom, once the door is open and the filters stand."""
