# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo serve test drill conformance check fix bench docs env clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo ## Run the whole loop on real flight data (ARGS=--exit ends instead of serving)
	$(BIN)/everline demo $(ARGS)

serve: $(VENV)/.demo ## Run the control plane with its console on http://127.0.0.1:4680
	$(BIN)/everline server $(ARGS)

test: $(VENV)/.dev ## Run the whole suite on SQLite, PostgreSQL and Chromium
	$(BIN)/python scripts/prepare_tests.py
	# Four workers on two cores: most of them wait for server processes most of the time.
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder -m "not drill" $(ARGS)

drill: $(VENV)/.dev ## Run what takes longer than the suite may: rebuilds of whole environments, ten minutes of load under changes
	$(BIN)/python scripts/prepare_tests.py
	$(BIN)/python -m pytest -n 2 --dist loadfile -m drill $(ARGS)

conformance: $(VENV)/.dev .peers/mlflow/bin/mlflow ## Hold every answer against MLflow's own server, which it installs
	$(BIN)/python scripts/prepare_tests.py
	$(BIN)/python -m pytest tests/conformance tests/conformance/differential $(ARGS)

check: $(VENV)/.dev ## What must hold before a commit: format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.dev ## Format, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure (ARGS names a benchmark in benchmarks/)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.dev ## Build the documentation into site/
	$(BIN)/zensical build --clean

env: $(VENV)/.dev ## Build .venv with everything that a developer needs

clean: ## Remove what was built; .everline stays
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis

.peers/mlflow/bin/mlflow:
	$(PYTHON) scripts/make_peers.py .peers/mlflow

$(VENV)/.created:
	$(PYTHON) scripts/make_env.py $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.created pyproject.toml hatch_build.py frontend/package-lock.json
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable '.[demo,polars]' --group test --group dev
	@touch $@
