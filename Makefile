# Everything here needs only Python 3.11+, make and a package registry; the first run sets itself up.

PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
SOURCES := core plugins connector_talroo connector_joveo connector_targetcircle connector_convertr connector_sensis
TYPED := $(wildcard $(addsuffix /src/*,$(SOURCES)))

# A registry and certificates that pip was told of are the ones uv shall use, too.
INDEX := $(shell $(PYTHON) -m pip config get global.index-url 2>/dev/null)
CERTIFICATES := $(shell $(PYTHON) -m pip config get global.cert 2>/dev/null)
export UV_PYTHON_DOWNLOADS = never
export UV_SYSTEM_CERTS = 1
export UV_NATIVE_TLS = 1
ifneq ($(INDEX),)
export UV_DEFAULT_INDEX ?= $(INDEX)
endif
ifneq ($(CERTIFICATES),)
export SSL_CERT_FILE ?= $(CERTIFICATES)
endif

# The fast tests run on each of these days, too: a leap day, the end of a year, clocks set forward and back, and the days
# on which a month is invoiced.
DATES := 2028-02-29T23:30 2026-12-31T23:55 2026-03-29T00:59 2026-10-25T00:59 2026-12-01T00:01 2026-12-08T06:00
WORKERS ?= 2

# More for uv sync, such as "--group readers": tests that need a library that is not installed are skipped.
SYNC ?=

# What make test-all installs: no test is skipped then, where Chromium, pgbouncer and Java are there.
OPTIONAL := $(foreach name,readers spark telemetry signatures engines container browser,--group $(name))

.PHONY: demo test quick test-all dates integrations lint soak docs setup wheels clean bench

demo: setup  ## every connector against its sandbox, into ./penstock-demo
	@$(BIN)/penstock demo

test: setup lint  ## lint, types and the default suite
	@echo "make test: about five minutes on two quiet cores (make quick: half a minute)"
	@$(BIN)/pytest -n $(WORKERS) $(PYTEST)

quick: setup  ## the tests without sockets and processes, for the person who edits
	@$(BIN)/pytest -n $(WORKERS) --quick

integrations: setup  ## the integrations with the real clients, each installed into an environment of its own below .integrations
	@$(BIN)/pytest -n $(WORKERS) -m integrations tests/test_integrations.py tests/test_schedulers.py $(PYTEST)

dates: setup  ## the quick tests on the days of DATES
	@for at in $(DATES); do echo "at $$at"; \
	    $(BIN)/pytest -n $(WORKERS) --quick --at $$at:00+00:00 || exit 1; done

test-all: test dates  ## all tests, the quick ones on several days, and those that need other programs
	@$(UV) sync -q --all-packages $(OPTIONAL) --python $(PYTHON)
	@$(BIN)/pytest -n $(WORKERS) -m large $(PYTEST)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(TYPED)

bench: setup  ## the tables of docs/performance.md; MEMORY=1 adds ten million records
	@UV=$(UV) benchmarks/run.sh

soak: setup  ## the long runs: kills at random moments, faults in random combinations
	@$(UV) sync -q --all-packages --group engines --python $(PYTHON)
	@$(BIN)/pytest -m soak -o addopts="--import-mode=importlib" $(PYTEST)

setup: .venv/.ready

.venv/.ready: pyproject.toml $(wildcard */pyproject.toml)
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) found; name one with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "make: $(PYTHON) is older than 3.11; name a newer one with PYTHON=..."; exit 1; }
	@test -x $(UV) || { echo "setting up (once) ..."; $(PYTHON) -m venv .tools && .tools/bin/pip install -q 'uv>=0.8,<1'; }
	@$(UV) sync -q --all-packages $(SYNC) --python $(PYTHON)
	@touch $@

docs: setup  ## the tables of the documentation, from the declarations
	@$(BIN)/python scripts/generate_docs.py

wheels: setup  ## one wheel per member, and the code-free penstock, in ./dist
	@$(UV) build -q --all-packages --wheel --out-dir dist
	@$(UV) build -q --wheel --out-dir dist .

clean:
	rm -rf .venv .tools dist penstock-demo
