# Needs make and Python 3.11 or later with venv. Everything else is installed below .venv, .cache and
# grafana/preview/node_modules, except a browser, npm and PostgreSQL, which .ci/tools installs in the system.
# PYTHON=python3.12 chooses the interpreter, ARGS="--poll.interval 10s" goes to late-exporter, pytest or the build.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
LATE_EXPORTER := .venv/bin/late-exporter
ARGS ?=
FUTURE_ARGS = $(ARGS)
ENGINE ?= docker
# One more than the cores of CI, because some tests wait for sockets and processes.
WORKERS ?= 3
# Some tests run make themselves, which is no part of this one.
PYTEST := env -u MAKEFLAGS $(PY) -m pytest -n $(WORKERS)

# Without bytecode each process compiles the program and each worker of pytest all tests, which doubles the time of
# make unit. An empty value turns the setting of the environment off.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/.cache/tools/pinned:$(PATH):$(CURDIR)/.cache/tools/usr/bin

.PHONY: help
help: ## Show this help.
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: venv ## Serve a demo with a simulated Zernio API on http://127.0.0.1:10077/.
	@LATE_EXPORTER_WEB__LISTEN_ADDRESS="$${LATE_EXPORTER_WEB__LISTEN_ADDRESS:-127.0.0.1:10077}" \
	  exec $(LATE_EXPORTER) demo $(ARGS)

.PHONY: run
run: venv ## Run with your own key: ZERNIO_API_KEY=zrk_... make run.
	@exec $(LATE_EXPORTER) run $(ARGS)

.PHONY: image
image: version = $(shell awk -F '"' '/^__version__/ { print $$2 }' late_exporter/__init__.py)
image: ## Build the container image; ENGINE=podman or buildah does it without docker.
	BUILDAH_FORMAT=docker $(ENGINE) build --tag late-exporter:$(version) --build-arg VERSION=$(version) \
	  --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" $(ARGS) .

.PHONY: test
test: dev ## Run make check, make test-future and all other tests.
	@$(MAKE) --jobs=2 --output-sync=recurse check tools
	@$(MAKE) --jobs=2 --output-sync=target --old-file=tools test-future test-rest FUTURE_ARGS=

.PHONY: unit
unit: dev ## Run the unit tests, with fewer Hypothesis examples than make test.
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-fast} $(PYTEST) --dist worksteal -m unit $(ARGS)

.PHONY: test-future
test-future: dev tools ## Run the unit tests with the clock 400 days ahead.
	HYPOTHESIS_PROFILE=default .ci/at +400d $(PYTEST) --dist worksteal -m unit -p no:cacheprovider $(FUTURE_ARGS)

.PHONY: thorough
thorough: PROMETHEUS_TESTS = tests/e2e/replay tests/e2e/test_replicas.py tests/e2e/test_web_config.py
thorough: dev preview ## Run what takes long: many more examples, planted bugs, the bench, all incidents, attacks, pictures.
	HYPOTHESIS_PROFILE=thorough $(PYTEST) --dist worksteal -o faulthandler_timeout=7200 tests/ingest tests/adversary tests/feeds/test_page_memory.py $(ARGS)
	$(PY) -m pytest -n 0 -s -m "thorough and not plays" tests/bench tests/dashboards tests/deploy tests/e2e
	PATH="$(CURDIR)/.cache/tools3/usr/bin:$$PATH" $(PY) -m pytest -n 0 -m "not plays" $(PROMETHEUS_TESTS)

.PHONY: plays
plays: dev tools ## Play days of customers of all volumes with all incidents, and compare who is told what.
	$(PY) -m pytest -n 2 -o faulthandler_timeout=0 -m plays tests/e2e/replay $(ARGS)

.PHONY: versions
versions: ## Run the unit tests with the lowest or newest versions of all dependencies (VERSIONS=newest).
	.ci/versions $${VERSIONS:-lowest} $(ARGS)

.PHONY: check
check: lint drift ## Check style, types, layers, and that generated files are up to date.

.PHONY: lint
lint: dev ## Check style, types and layers.
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) .ci/assignments.py
	$(PY) -m mypy
	.venv/bin/lint-imports

.PHONY: audit
audit: dev ## Check dependencies for vulnerabilities, and the program against the specification of the API.
	@.ci/venv audit
	@status=0; $(PY) .ci/audit.py || status=$$?; $(PY) -m tests.specification || status=$$?; exit $$status

.PHONY: fuzz
fuzz: dev ## Feed parsers and the whole path to the metrics with random input for FUZZ_SECONDS (default 60).
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} $(PY) -m pytest tests/fuzz $(ARGS)

.PHONY: adversary
adversary: dev ## Try to make the counts wrong by random programs for ADVERSARY_SECONDS (default 600).
	@exec $(PY) -m tests.adversary.run

.PHONY: promises
promises: dev ## Break each invariant by one bug in a copy, and see that the tests that guard it fail.
	$(PY) -m tests.promises

.PHONY: dist
dist: dev ## Build wheel and sdist into dist, as the release does.
	.ci/dist

.PHONY: sbom
sbom: dist ## Write build/sbom.cdx.json, the packages of an installation.
	.ci/sbom

.PHONY: chart
chart: ## Copy rules and dashboards into the Helm chart, as the release does.
	.ci/chart

.PHONY: bundle
bundle: dev ## Write chart, rules and dashboards of a release into build/bundle.
	.ci/bundle

.PHONY: screenshots
screenshots: dev preview ## Take screenshots of the dashboards with a simulated day.
	$(PY) -m tests.dashboards.screenshots

.PHONY: bench
bench: dev ## Print the costs of the exporter beside those of a minimal script.
	$(PY) -m tests.bench.run

.PHONY: handovers
handovers: dev tools ## Run replicas under faults for HANDOVERS seconds (default 600) and compare with Prometheus.
	HANDOVERS="$${HANDOVERS:-600}" $(PY) -m pytest -n 0 -s -o faulthandler_timeout=0 -k whatever_happens \
	  tests/e2e/test_replicas.py $(ARGS)

.PHONY: generate
generate: dev ## Update generated files: tables in docs, rules, dashboards, manifests.
	$(PY) .ci/generate.py
	$(PY) -m grafana.source
	$(PY) -m deploy.chart

.PHONY: format
format: dev ## Format the sources.
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

.PHONY: pins
pins: dev ## Pin the newest versions of all dependencies.
	.ci/pin

.PHONY: clean
clean: ## Remove everything that make creates, except the state below data/.
	rm -rf grafana/preview/node_modules grafana/preview/dist
	rm -rf .venv .cache .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find late_exporter tests -name __pycache__ -prune -exec rm -rf {} +

.PHONY: venv dev tools preview drift test-rest
venv:
	@.ci/venv run
dev:
	@.ci/venv dev
tools: venv
	@.ci/tools
	@if [ "$${CI:-}" = true ]; then .ci/machine; fi
preview: tools
	@.ci/tools preview
# The sign shows its progress while the unit tests run beside it, because many of these tests wait.
test-rest: dev tools
	+$(PYTEST) --dist loadgroup --no-loadscope-reorder -m "not unit and not thorough" $(ARGS)
drift: dev
	$(PY) .ci/generate.py --check
	$(PY) -m grafana.source --check
	$(PY) -m deploy.chart --check
