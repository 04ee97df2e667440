# Three commands do everything on a fresh machine, after one another or alone:
#   make demo   make material, train a tiny model on it, listen to it: ends with outputs/demo/index.html;
#               make demo FOLDER=~/my-sounds learns from audio of your own
#   make test   run the tests
#   make bench  measure this machine: from a shell prompt to sound, and how large models are (about 20 minutes)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test bench lint format install clean

install: $(INSTALLED)

$(INSTALLED): setup.py requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: micro-musicgen needs Python 3.11 or later; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "error: no virtual environment could be made; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into $(VENV) (the first time this fetches PyTorch: a few minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python scripts/demo.py $(if $(FOLDER),--folder "$(FOLDER)")

test: $(INSTALLED)
	@$(BIN)/python -m pytest -n 2

bench: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[text,onnx]'
	@$(BIN)/python scripts/bench.py
	@$(BIN)/python scripts/size.py

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(INSTALLED)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
