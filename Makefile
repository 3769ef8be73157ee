# make setup | serve | test | lint | proto       (make help says more)
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# CPU builds of torch are a tenth of the CUDA ones: set TORCH_INDEX to the address of PyTorch's index of them.
GPU         ?= $(if $(shell command -v nvidia-smi 2>/dev/null),1,0)
TORCH_INDEX ?=
# make test ONLY=unit takes a part of the tests; PYTEST_ARGS goes to pytest as it is
ONLY        ?=
PYTEST_ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: help setup serve stop test test-k8s test-metrics test-browser image lint format proto docs pictures k8s monitoring lock

help: ## Show these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 24

setup: $(STAMP) ## Make .venv and install everything, exact versions (GPU=1 for CUDA builds)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || { \
		echo "miclip needs Python 3.11 or 3.12, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
		echo "Name another one: make setup PYTHON=python3.11"; exit 1; }
	@echo "Setting up $(VENV): about 2 GB with CPU builds, some minutes; details in $(VENV)/setup.log"
	@$(PYTHON) -m venv $(VENV)
	@GPU=$(GPU) TORCH_INDEX=$(TORCH_INDEX) ./tools/install.sh $(BIN)/python > $(VENV)/setup.log 2>&1 || { \
		grep -v '^WARNING' $(VENV)/setup.log | tail -n 20; echo "Set-up failed; all of it: $(VENV)/setup.log"; exit 1; }
	@touch $@
	@echo "Ready: $(BIN)/miclip --help"

serve: $(STAMP) ## Start the four services in the background, then take a short tour
	@$(BIN)/miclip serve --detach
	@$(BIN)/miclip tour

stop: $(STAMP) ## Stop what `make serve` started
	@$(BIN)/miclip stop

test: $(STAMP) ## Run the tests against the real system (ONLY=unit for a part)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "$(if $(ONLY),($(ONLY)) and )not k8s and not metrics and not browser" $(PYTEST_ARGS)

test-k8s: $(STAMP) ## Check the Kubernetes manifests (needs kubectl)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m k8s $(PYTEST_ARGS)

test-metrics: $(STAMP) ## Run the tests of the metrics, with a real Prometheus (Debian's package prometheus)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m metrics $(PYTEST_ARGS)

test-browser: $(STAMP) ## Open the evaluation's report in a real browser (Debian's package chromium)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m browser $(PYTEST_ARGS)

image: $(STAMP) ## Build the container image and try it (Docker, or buildah as root; VARIANT=cuda for NVIDIA GPUs)
	@PYTHON=$(BIN)/python TORCH_INDEX=$(TORCH_INDEX) ./tools/build_image.sh $(VARIANT)

lint: $(STAMP) ## Check style, types and protos
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/buf lint

format: $(STAMP) ## Format, and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

proto: $(STAMP) ## Regenerate the stubs in miclip/v1 from protos/
	@$(BIN)/python tools/generate_protos.py

k8s: $(STAMP) ## Regenerate the Serve configs of k8s/overlays from services/node/serve_config.py
	@$(BIN)/python tools/generate_k8s.py

monitoring: $(STAMP) ## Regenerate the dashboards and rules of k8s from tools/monitoring
	@$(BIN)/python tools/generate_monitoring.py

pictures: $(STAMP) ## Draw docs/pictures/*.png anew, with the commands of docs/pictures.md
	@sed -n 's/^miclip picture /picture /p' docs/pictures.md | xargs -L 1 $(BIN)/miclip

docs: $(STAMP) ## Write docs/metrics.md from services/metrics/series.py
	@$(BIN)/python tools/generate_metrics_docs.py

lock: ## Write requirements/*.txt, what the image installs, from pyproject.toml and constraints.txt (needs uv)
	@./tools/lock.sh
