# make install: the environment .venv | make demo: the main job on embedded data | make test: all tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DETECTRON2_HOME ?= $(HOME)/detectron2
HAS_DETECTRON2 := $(wildcard $(DETECTRON2_HOME)/detectron2/__init__.py)
# nproc heeds OMP_NUM_THREADS, which is of threads and not of processes.
WORKERS ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)

ifneq ($(HAS_DETECTRON2),)
export PYTHONPATH := $(DETECTRON2_HOME)$(if $(PYTHONPATH),:$(PYTHONPATH))
EXTRAS := dev,jpeg,picai,dicom-out,slurm,node,serve,detectron2
REQUIRED_ENGINES := detectron2,torchvision
else
EXTRAS := dev,jpeg,picai,dicom-out,slurm,node,serve
REQUIRED_ENGINES := torchvision
endif
# Of the extras, also of dev: without them tests are skipped, which must not happen unseen.
REQUIRED_PACKAGES := build,openjpeg,libjpeg,highdicom,submitit,picai_eval,openpyxl,markdown_it,twine,mkdocs,material,mkdocstrings

# Tests and commands that share the cores as several processes are fastest with one thread each. The
# demo is one training, with nothing beside it: on two cores two threads take two thirds of the time.
ifeq ($(origin OMP_NUM_THREADS),undefined)
demo: OMP_NUM_THREADS := $(shell [ $(WORKERS) -lt 4 ] && echo $(WORKERS) || echo 4)
endif
export OMP_NUM_THREADS ?= 1

.PHONY: install install-services demo docs dist test quick coverage lint types audit clean

install: $(VENV)/installed-$(EXTRAS)

$(VENV)/installed-$(EXTRAS): setup.py
	@start=$$(date +%s); \
	echo "installing into $(VENV): several gigabytes with PyTorch, so this can take minutes"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")' && \
	{ [ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV); } && \
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools && \
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRAS)]' && \
	touch $@ && \
	echo "environment ready: downloads and installation took $$(( $$(date +%s) - start )) s"

# Validators of DICOM results and an archive to send them to, Debian's packages. Their tests are skipped
# where they are missing. The test of a real Slurm (slurm-wlm, munge) runs where these are, too; they are
# not installed from here, because they start daemons.
SERVICES := dcmtk dicom3tools pixelmed-apps orthanc orthanc-dicomweb

install-services:
	@root=$$([ "$$(id -u)" -eq 0 ] || echo "sudo -n"); \
	$$root apt-get update -qq && $$root apt-get install -y -qq $(SERVICES)

demo: install
	$(BIN)/python tools/train_net.py --config-file configs/demo/second_look.yaml --resume

# The documentation as a site, in output/site: strict (no link leads to nothing) and without the net.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "the site is output/site/index.html; its search needs a server: python3 -m http.server --directory output/site"

# The packages of a release, in dist: built, read by twine as an index would, and their contents checked.
dist: install
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tools/check_packages.py dist

test: install lint types
	SIMFRCNN_REQUIRE_ENGINES=$(REQUIRED_ENGINES) SIMFRCNN_REQUIRE_PACKAGES=$(REQUIRED_PACKAGES) \
		$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

quick: install
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

coverage: install
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report term:skip-covered

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# Known weaknesses of the packages that are installed; not part of `make test`, for it needs a service.
audit: install
	$(BIN)/python -m pip install --quiet "pip-audit>=2.7"
	$(BIN)/python tools/audit.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
