"""`python -m chat_app`: the command line."""

from chat_app.cli.app import app

app(prog_name="python -m chat_app")
