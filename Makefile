# Two commands for a newcomer: make quickstart, make test. Each target makes .venv itself when there is none.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test test-slow coverage lint format benchmark clean

quickstart: .venv/installed
	$(BIN)/medgan quickstart --out quickstart $(if $(DATA),--data $(DATA))

test: .venv/installed
	$(BIN)/pytest

test-slow: .venv/installed
	$(BIN)/pytest -m "slow and not gpu"

coverage: .venv/installed
	$(BIN)/pytest --cov --cov-report=term:skip-covered

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy medgan workflows

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: .venv/installed
	for file in $(filter-out %/super_resolution.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done
	$(BIN)/python benchmarks/super_resolution.py --quick

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[demo,test]"
	touch $@

clean:
	rm -rf quickstart build *.egg-info .pytest_cache .mypy_cache .ruff_cache
