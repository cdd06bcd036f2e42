"""`python -m ops_dashboard`: serves the dashboard on this machine, port 8501. Further flags are Streamlit's own."""

import os
import sys
from pathlib import Path

APP = Path(__file__).with_name("app.py")
FLAGS = (
    *("--server.address", "127.0.0.1"),
    *("--server.port", "8501"),
    *("--server.headless", "true"),
    *("--server.fileWatcherType", "none"),
    *("--browser.gatherUsageStats", "false"),
    *("--client.toolbarMode", "minimal"),
    *("--client.showErrorDetails", "none"),
    *("--theme.light.primaryColor", "#0f766e"),
    *("--theme.dark.primaryColor", "#2dd4bf"),
)


def main(arguments: list[str]) -> None:
    """Become Streamlit; later flags win, so any of ours can be overridden."""
    command = [sys.executable, "-m", "streamlit", "run", str(APP), *FLAGS, *arguments]
    os.execv(sys.executable, command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
