"""The operators' dashboard: Streamlit over the exported Parquet files, for staff only.

Knows the files, their schema (`chat_app.telemetry.events`) and where they lie (`chat_app.settings`). Does not know the
database: who may look is asked of the running app, as any client would ask it. Its own tables: none.
"""
