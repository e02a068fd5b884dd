# One word each. Everything missing is installed into .cache and .venv; `make clean` forgets it all.

JOBS ?= $(shell nproc 2>/dev/null || echo 2)
NAME ?=
UV := $(shell command -v uv || echo .cache/uv/bin/uv)
BIN := .venv/bin
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

# uv reads neither pip's settings nor pip's variables; a machine set up for pip alone shall do.
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
export SSL_CERT_FILE ?= $(PIP_CERT)
ifeq ($(UV_DEFAULT_INDEX),)
unexport UV_DEFAULT_INDEX
endif
ifeq ($(SSL_CERT_FILE),)
unexport SSL_CERT_FILE
endif

# A machine may be set up not to keep what Python compiled. Then each process of a test run would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo dev test check lint format bench chaos fuzz examples clients schema lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

demo: .venv/synced  ## everything up, the main job run, the stack left running (stop it: .venv/bin/throughline down)
	$(BIN)/throughline demo

dev: .venv/synced  ## Postgres, Temporal with its UI, api and worker, until Ctrl-C
	$(BIN)/throughline dev

test: .venv/synced  ## every test but the chaos ones, on real servers
	$(BIN)/python -m stack.prepare
	$(BIN)/pytest -n $(JOBS)

check: lint  ## lint, then: models match migrations both ways, recorded histories replay
	$(BIN)/python -m stack.schema_check
	$(BIN)/pytest -q tests/workflows/test_replay.py

lint: .venv/synced  ## style, types and import arrows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/synced  ## let ruff fix what it can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: .venv/synced  ## measure; NAME=journey for one, SCALE=full by hand
	$(BIN)/python -m bench $(NAME)

chaos: .venv/synced  ## kill real processes in the middle of their work
	$(BIN)/python -m stack.prepare
	$(BIN)/pytest tests/chaos -m chaos

fuzz: .venv/synced  ## call every route of the OpenAPI document with all sorts of input; FUZZ_EXAMPLES=50 by hand
	$(BIN)/python -m stack.prepare
	LOG_LEVEL=WARNING $(BIN)/pytest -s tests/fuzz -m fuzz

schema: .venv/synced  ## write docs/schema.graphql anew
	$(BIN)/python -m api.graphql > docs/schema.graphql

clients: .venv/synced  ## typed clients for Python and TypeScript, packed in .cache/clients
	$(BIN)/python -m stack.clients
	$(UV) build --quiet --wheel --build-constraints requirements/build.txt --out-dir .cache/clients .cache/clients/python
	@ls .cache/clients/*.whl .cache/clients/*.tgz

examples: .venv/synced  ## record examples for the OpenAPI document where one is missing or does not fit any more
	$(BIN)/pytest tests/api/test_examples.py -m examples

lock: $(UV)  ## pin every dependency with its hashes
	$(LOCK) pyproject.toml -o requirements/base.txt
	$(LOCK) pyproject.toml --group dev -o requirements/dev.txt
	$(LOCK) --group tool -o requirements/tool.txt
	$(LOCK) --group build -o requirements/build.txt
	$(LOCK) --group go -o requirements/go.txt

clean:  ## stop the stack and forget what was installed and stored
	-[ ! -x $(BIN)/throughline ] || $(BIN)/throughline down
	rm -rf .cache .venv

.cache/uv/bin/uv: requirements/tool.txt
	@echo "No uv on PATH: installing it into .cache/uv ..."
	python3 -m venv .cache/uv || { echo "python3 cannot make a virtual environment (Debian: apt-get install python3-venv)"; exit 1; }
	.cache/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tool.txt
	@touch $@

.venv/synced: $(UV) requirements/dev.txt requirements/build.txt pyproject.toml
	$(UV) venv --quiet --allow-existing --python '>=3.11' .venv
	$(UV) pip sync --quiet --require-hashes requirements/dev.txt
	$(UV) pip install --quiet --no-deps --build-constraints requirements/build.txt --editable .
	@touch $@
