# The environment lives in .venv inside the clone; nothing but packages is fetched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROMPT ?= In the beginning God created

.PHONY: help demo test test-slow lint clean

help:
	@echo "make demo   compile the demo checkpoint and let it answer a prompt"
	@echo "make test   the test suite, as CI runs it"
	@echo "make lint   ruff and mypy"
	@echo "make test-slow   the tests that take minutes or gigabytes"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[compile,dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/tvmc compile --target "tvm_vacc -mcpu=native" configs/demo.yaml
	$(BIN)/tvmc generate workspace/demo-bf16 --prompt "$(PROMPT)" --max-tokens 96 --temperature 0.7 --top-p 0.9 --seed 1

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) workspace build *.egg-info
