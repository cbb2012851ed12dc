# SPDX-License-Identifier: Apache-2.0
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JAZZY := .venv-jazzy
METAWORLD := .venv-metaworld
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
JAZZY_PIP := $(JAZZY)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(JAZZY)/constraints
METAWORLD_PIP := $(METAWORLD)/bin/python -m pip install --quiet --disable-pip-version-check \
  --constraint $(METAWORLD)/constraints

# Stamps are written after the work they stand for, so that work cut short is done again. The first carries the Python
# version: another PYTHON makes a new environment.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CREATED := $(VENV)/created-$(VERSION)
DECLARED := setup.py setup.cfg pyproject.toml requirements.lock

# A sourced ROS installation must not mix with the environment's own packages.
unexport PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH
# Libraries that the ROS wheels of another environment had put there, with the mark that says so.
ifdef _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
endif

# Only what pip installed: the ROS wheels bring records of their own for what lies inside them.
define LIST_INSTALLED
from importlib.metadata import distributions
own = {"pip", "tigr-ros"}
found = {d.name.lower().replace("_", "-"): d.version.split("+")[0] for d in distributions() if d.read_text("INSTALLER")}
print(*(f"{name}=={found[name]}" for name in sorted(found) if name not in own), sep="\n")
endef

.PHONY: help train demo test test-jazzy test-metaworld bench eight results lock clean
.DELETE_ON_ERROR:

help:
	@echo 'make train   install what training needs, train on the half-cheetah, write a report'
	@echo 'make demo    install what ROS needs, show simulator and policy over DDS; BUNDLE=... names another policy'
	@echo 'make test    install everything, check style and types, run all tests'
	@echo 'make test-jazzy   run the tests of the nodes with ROS 2 Jazzy, in an environment of its own'
	@echo 'make test-metaworld   run the tests of the environments with Meta-World, in an environment of its own'
	@echo 'make bench   measure the parts of an epoch against the ceilings of the machine'
	@echo 'make eight   train the policy of the eight base tasks: specialists (with -j8 all at once), then one for all; hours'
	@echo 'make results  write docs/results.md again from the numbers in benchmarks/results'
	@echo 'make lock    renew requirements.lock with the newest versions'
	@echo 'make clean   remove the environment and the caches; keep output/'
	@echo 'PYTHON=python3.x chooses the Python (3.11 to 3.13) of the environment'

train: $(VENV)/train
	$(BIN)/tigr train quick

demo: $(VENV)/demo
	$(BIN)/tigr-demo $(BUNDLE)

test: $(VENV)/test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest

test-jazzy: $(JAZZY)/test
	$(JAZZY)/bin/python -m pytest test/test_ros_*.py

test-metaworld: $(METAWORLD)/test
	$(METAWORLD)/bin/python -m pytest test/test_meta_world.py test/test_envs_*.py

bench: $(VENV)/train
	$(BIN)/python benchmarks/throughput.py --json output/throughput.json

SPECIALISTS := $(patsubst %,output/specialists/%.tigr,velocity_forward velocity_backward goal_forward goal_backward \
                 flip_forward stand_front stand_back jump)

# $(call train,ARGUMENTS,FOLDER) goes on with the run in a folder of its own where one was interrupted, else begins it.
define train
	checkpoint=$$(ls -t $(2)/*/*/checkpoint.pt 2>/dev/null | head -1); \
	if [ -n "$$checkpoint" ]; then $(BIN)/tigr train --resume "$$(dirname "$$checkpoint")"; \
	else $(BIN)/tigr train $(1) --output $(2); fi
endef

eight: $(VENV)/train $(SPECIALISTS)
	$(call train,half_cheetah_eight_taught,output/eight)

# One core each: a second one would gain a fifth, another specialist at the same time gains all of it.
output/specialists/%.tigr: export OMP_NUM_THREADS := 1
output/specialists/%.tigr: | $(VENV)/train
	$(call train,half_cheetah_specialist --set env.base_tasks=[$*],output/specialists/$*)
	report=$$(ls -t output/specialists/$*/*/*/report.html | head -1) && cp "$$(dirname "$$report")/best.tigr" $@

results: $(VENV)/train
	$(BIN)/python benchmarks/results.py page

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo \
	  'found Python $(VERSION), expected 3.11 to 3.13, for which requirements.lock was made; fix: make PYTHON=python3.11 ...' \
	  >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) setuptools
	@touch $@

# Without build isolation: the build uses the locked setuptools too.
$(VENV)/train: $(CREATED) $(DECLARED)
	@echo 'installing what training needs: a minute or two the first time'
	$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/demo: $(CREATED) $(DECLARED)
	@echo 'installing what the demonstration needs: a minute or two the first time'
	$(PIP) --no-build-isolation --editable '.[ros]'
	@touch $@

$(VENV)/test: $(CREATED) $(DECLARED)
	@echo 'installing everything, for training and tests: two minutes or more the first time'
	$(PIP) --no-build-isolation --editable '.[ray,ros,record,video,test]'
	@touch $@

$(JAZZY)/test: $(DECLARED) requirements-jazzy.txt
	@echo 'installing what the ROS tests need, with ROS 2 Jazzy: a minute or two the first time'
	$(PYTHON) -m venv --clear $(JAZZY)
	grep -v '^ros-' requirements.lock | cat - requirements-jazzy.txt > $(JAZZY)/constraints
	$(JAZZY_PIP) setuptools
	$(JAZZY_PIP) --no-build-isolation --editable '.[ros]' pytest pytest-timeout
	@touch $@

$(METAWORLD)/test: $(DECLARED) requirements-metaworld.txt
	@echo 'installing what training needs, with Meta-World and its MuJoCo: a minute or two the first time'
	$(PYTHON) -m venv --clear $(METAWORLD)
	grep -v '^mujoco' requirements.lock | cat - requirements-metaworld.txt > $(METAWORLD)/constraints
	$(METAWORLD_PIP) setuptools
	$(METAWORLD_PIP) --no-build-isolation --editable '.[metaworld]' pytest pytest-timeout
	@touch $@

# torch and the ROS distribution stay as they are: change their lines by hand.
lock: export LIST := $(LIST_INSTALLED)
lock:
	@mkdir -p build
	grep -E '^(torch|ros-[a-z-]+)==' requirements.lock > build/kept
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --constraint build/kept --editable '.[ray,ros,record,video,test]'
	{ grep '^#' requirements.lock; build/lock/bin/python -c "$$LIST"; } > build/requirements.lock
	mv build/requirements.lock requirements.lock
	rm -rf build/lock build/kept

clean:
	rm -rf $(VENV) $(JAZZY) $(METAWORLD) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
