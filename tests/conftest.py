"""Fixtures that every room's tests may use: real servers, and Parley itself in this process."""

pytest_plugins = ["tests.servers", "tests.parley", "tests.oidc.provider"]
