# Two commands do all set-up: `make demo` and `make test`. `make install` does the set-up alone.
#
#     make check          under a minute: format, lint, types, fast tests
#     make test           minutes: format, lint, types, all tests
#     make coverage       all tests with the coverage of lines and branches, and its floor
#     make dist           wheel and sdist in dist/
#     make test-dist      the wheel in a new environment: ask, eval, report, train sft
#     make test-lowest    fast tests with the lowest versions of the dependencies
#     make test-python    fast tests with another Python: make test-python PYTHON=python3.13
#     make adapters       tests of the adapters for other harnesses, an environment each
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo docs docs-serve lint check test browser coverage dist test-dist test-lowest test-python adapters attack format \
	tiny benchmarks clean

install: $(STAMP)

# The constraints file is the lock: exact versions of everything, for Python 3.11 on Linux.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; run make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,train,labeller,remote,released,serve,workflows,dev]'
	touch $@

demo: install
	$(BIN)/pixel-reasoner demo --out runs/demo
	@echo "Ask about your own pictures in Studio, a web page on this computer: $(BIN)/pixel-reasoner serve --open"

# The docs site in site/. It works from the folder, and loads nothing from a network.
DOCS := .venv/.docs-installed
$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(DOCS)
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --strict

docs-serve: $(DOCS)
	$(BIN)/zensical serve

# Pages are tested in Chromium. Where it is missing and cannot be installed, those tests are skipped.
HAS_BROWSER := $(BIN)/python -c 'from attacks.browser import chromium; raise SystemExit(chromium() is None)'

browser: install
	@$(HAS_BROWSER) || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null \
		&& apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium > /dev/null; } \
		|| echo "No Chromium: tests of pages are skipped. Install it with: apt-get install chromium"

SOURCES := src tests benchmarks attacks
# Files are the unit of distribution: a module's fixtures are made once.
PARALLEL := -q -n 2 --dist loadfile --no-loadscope-reorder
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)

lint: install
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

check: lint
	$(PYTEST) --fast

test: lint browser $(DOCS)
	$(PYTEST)

coverage: install browser $(DOCS)
	$(PYTEST) --cov --cov-report=term:skip-covered

dist: install
	rm -rf dist
	$(BIN)/python -m build --no-isolation

test-dist: dist
	PYTHON=$(PYTHON) bash dev/test_dist.sh dist/*.whl

test-lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[labeller,remote,serve,released]'
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints.txt pytest pytest-xdist hypothesis pyarrow
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest $(PARALLEL) -p no:anyio --fast

test-python:
	test -x .venv-$(notdir $(PYTHON))/bin/python || $(PYTHON) -m venv .venv-$(notdir $(PYTHON))
	.venv-$(notdir $(PYTHON))/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[labeller,remote,released,serve]' \
		pytest pytest-xdist hypothesis pyarrow
	OMP_NUM_THREADS=1 .venv-$(notdir $(PYTHON))/bin/python -m pytest $(PARALLEL) --fast

# The harnesses of others need other versions of packages, and Ray is large: an environment each.
adapters:
	test -x .venv-inspect/bin/python || $(PYTHON) -m venv .venv-inspect
	.venv-inspect/bin/python -m pip install --quiet --editable '.[inspect]' pytest hypothesis pyarrow
	.venv-inspect/bin/python -m pytest -q tests/test_inspect.py
	test -x .venv-lmms/bin/python || $(PYTHON) -m venv .venv-lmms
	.venv-lmms/bin/python -m pip install --quiet --editable '.[lmms,local]' pytest hypothesis
	.venv-lmms/bin/python -m pytest -q tests/test_lmms.py
	test -x .venv-ray/bin/python || $(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[ray,local,remote]' pytest hypothesis
	.venv-ray/bin/python -m pytest -q tests/test_ray.py

# Hours on two cores: every attack in full, one line of results each. The test suite has short forms.
ATTACKS := replies rows media servers folders full_disk kills scripts extensions api
attack: install browser
	@failed=0; for one in $(ATTACKS); do \
		echo "== attacks.$$one"; $(BIN)/python -m attacks.$$one || failed=1; \
	done; exit $$failed

format: install
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# Hours on two cores; see runs/tiny.sh.
tiny: install
	bash runs/tiny.sh

benchmarks: install
	$(BIN)/python benchmarks/zoom.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/synth.py
	$(BIN)/python benchmarks/sft.py
	$(BIN)/python benchmarks/rl.py
	$(BIN)/python benchmarks/turns.py
	$(BIN)/python benchmarks/client.py
	$(BIN)/python benchmarks/large.py
	$(BIN)/python benchmarks/serve.py

clean:
	rm -rf .venv dist runs/demo site .cache
