# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test check format lint types docs bench clean

# torch is pinned in constraints.txt; pip chooses the build for this machine.
.venv/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || python3 -m venv .venv
	@echo "Installing everlearn and what it needs into .venv (about a minute) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: .venv/installed
	$(BIN)/everlearn run digits --runs runs/demo

test: .venv/installed
	$(BIN)/python -m pytest -n auto --dist loadgroup

# Types and documents take a core each for half a minute.
check: .venv/installed
	@$(MAKE) --no-print-directory -j2 lint types docs
	$(BIN)/python -m pytest -n auto --dist loadgroup --ignore tests/test_docs.py

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed
	$(BIN)/pyright

# Every link of the documentation leads somewhere, and every method has its page.
docs: .venv/installed
	$(BIN)/python -m pytest tests/test_docs.py

bench: .venv/installed
	$(BIN)/python benchmarks/step.py

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache
