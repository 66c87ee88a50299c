# Thin over pip and uv: README.md shows the same commands for people without make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# constraints.txt was made on Python 3.11; older versions resolve freely from the floors in pyproject.toml.
PINS   := $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")')
ARGS   ?=

.PHONY: fit lint test audit gpu-report setup ffcv clean

fit: setup
	$(BIN)/poolformer fit $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

audit: $(VENV)/.ready
	.ci/audit $(BIN)

# At most five minutes for each part; started again, it measures what is missing.
gpu-report: $(VENV)/.ready
	$(BIN)/poolformer bench report $(ARGS)

setup: $(VENV)/.ready ffcv

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo 'Installing PyTorch and the rest into $(VENV): 6.6 GB, a minute or two; without a GPU, UV_TORCH_BACKEND=cpu saves 4 GB'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode $(PINS) -e '.[test]'
	touch $@

# ffcv has no wheels. Where it cannot be built everything else works, so this never fails.
ffcv: $(VENV)/.ready
	@$(BIN)/python -c 'import ffcv' 2>/dev/null || .ci/install-ffcv $(BIN) $(PINS)

clean:
	rm -rf $(VENV)
