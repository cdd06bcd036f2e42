"""Engines: what really makes tokens. All look like `base.Engine`; only `python -m inference` chooses one."""
