# Needs make and Python 3.11 or later with venv; all else is set up below .venv, .cache and, to draw the dashboards,
# grafana/preview/node_modules. Only for that a browser and npm are installed where they are missing: see .ci/tools.
# PYTHON=python3.12 chooses the interpreter, ARGS="--poll.interval 10s" goes to late-exporter or pytest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
LATE_EXPORTER := .venv/bin/late-exporter
ARGS ?=

export PATH := $(PATH):$(CURDIR)/.cache/tools/usr/bin

.PHONY: help
help: ## Show this.
	@awk -F ': .*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: venv ## Serve a demo with a simulated Late API on http://127.0.0.1:10077/.
	@LATE_EXPORTER_WEB__LISTEN_ADDRESS="$${LATE_EXPORTER_WEB__LISTEN_ADDRESS:-127.0.0.1:10077}" \
	  exec $(LATE_EXPORTER) demo $(ARGS)

.PHONY: run
run: venv ## Run with your own key: LATE_API_KEY=sk_... make run.
	@exec $(LATE_EXPORTER) run $(ARGS)

.PHONY: test
test: check tools ## Run make check and every test.
	$(PY) -m pytest $(ARGS)

.PHONY: check
check: lint drift ## Check style, types, layers, and that what is generated is up to date.

.PHONY: lint
lint: dev ## Check style, types and layers.
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports

.PHONY: screenshots
screenshots: dev tools ## Draw the pictures of the dashboards over a simulated week.
	$(PY) -m tests.dashboards.screenshots

.PHONY: bench
bench: dev ## Measure how fast it is.
	$(PY) tests/bench/run.py $(ARGS)

.PHONY: generate
generate: dev ## Write what is generated anew: the tables of README.md, rules, dashboards.
	$(PY) .ci/generate.py
	$(PY) deploy/prometheus/generate.py
	$(PY) -m grafana.source

.PHONY: format
format: dev ## Format the sources.
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

.PHONY: pins
pins: dev ## Pin the newest versions of all dependencies.
	.ci/pin

.PHONY: clean
clean: ## Remove all that make has made, but not the state below data/.
	rm -rf grafana/preview/node_modules grafana/preview/dist
	rm -rf .venv .cache .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find late_exporter tests -name __pycache__ -prune -exec rm -rf {} +

.PHONY: venv dev tools drift
venv:
	@.ci/venv run
dev:
	@.ci/venv dev
tools:
	@.ci/tools
drift: dev
	$(PY) .ci/generate.py --check
	$(PY) deploy/prometheus/generate.py --check
	$(PY) -m grafana.source --check
