# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
#
# make demo          from nothing to a policy on the simulated arm (QUICK=1: the same, small)
# make test          all tests and linters (ARGS='-k contract' chooses)
# make lint          the linters alone
# make test-faults   kills the recorder at 50 random moments, and what else takes minutes
# make test-soak     half an hour of inference and policy with flat memory
# make test-parity   every loss against the implementations of others
# make test-conformance  datasets of ours in the real lerobot, which is installed beside (2 GB)
# make bench         what the nodes cost beside the networks (BUNDLE=models/NAME)
# make bench-record  what recording three cameras costs and loses
# make bench-build   how fast a session becomes a dataset, beside lerobot's own writer
# make bench-train   steps beside the reference implementations, memory, augmentation, processes
# make bench-objectives  every objective on the simulated arm's data, three seeds (hours)
# make bench-infer   latency, deadlines and load of the inference node, beside a plain node
# make bench-load    how fast clips are read, beside lerobot's loader and plain numpy
# make install       .venv with the pinned packages; the targets above do this themselves
# make clean         removes build products and caches; keeps .venv and out/
# make help          these lines

VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin
QUICK ?=
ARGS ?=
BUNDLE ?=
# The Python that makes .venv; left empty, the first of these that fits.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3)

# .venv holds its own ROS: a ROS that this shell has sourced must not be mixed with it. (With a
# ROS installation of your own, build with colcon and use ros2 launch instead.)
unexport PYTHONPATH PYTHONHOME LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE ROS_DISTRO
unexport COLCON_PREFIX_PATH CMAKE_PREFIX_PATH RMW_IMPLEMENTATION MAKEFLAGS MAKELEVEL
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)

.DEFAULT_GOAL := help
.PHONY: demo test test-soak test-faults test-conformance test-parity lint bench bench-record bench-build bench-load
.PHONY: bench-train bench-objectives bench-infer
.PHONY: install install-lerobot clean help

demo: $(STAMP)
	@$(BIN)/ssl_vla demo $(if $(filter-out 0,$(QUICK)),--quick) $(ARGS)

# First what needs no ROS, then the nodes, two files at a time; at the end what wants the machine
# for itself. Status 5 (nothing chosen) counts only if all of them say it.
test: $(STAMP)
	@export OMP_NUM_THREADS=1; chosen=5; \
	run() { "$(BIN)/python" -m pytest "$$@"; status=$$?; \
	  test $$status -eq 0 && chosen=0; test $$status -eq 0 -o $$status -eq 5 || exit $$status; }; \
	run -n 2 --dist loadfile -m 'not ros' $(ARGS); \
	run -n 2 --dist loadfile -m 'ros and not alone' $(ARGS); \
	run -m alone $(ARGS); \
	exit $$chosen

lint: $(STAMP)
	@$(BIN)/python -m pytest test/test_lint.py $(ARGS)

bench: $(STAMP)
	@test -n "$(BUNDLE)" || { echo 'make: which model? make bench BUNDLE=models/NAME' >&2; exit 2; }
	@FASTRTPS_DEFAULT_PROFILES_FILE=config/fastdds_large_image.xml \
	  ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST \
	  $(BIN)/python bench/bench_nodes.py --bundle "$(BUNDLE)" $(ARGS)

bench-record: $(STAMP)
	@$(BIN)/python bench/bench_record.py $(ARGS)

# Half an hour with flat memory; `make test` has two minutes of it.
test-soak: $(STAMP)
	@SOAK_S=$${SOAK_S:-1800} $(BIN)/python -m pytest -s test/test_soak.py $(ARGS)

bench-infer: $(STAMP)
	@$(BIN)/python bench/bench_infer.py $(ARGS)

bench-build: $(STAMP) install-lerobot
	@$(BIN)/python bench/bench_build.py $(ARGS)

bench-load: $(STAMP) install-lerobot
	@$(BIN)/python bench/bench_load.py $(ARGS)

bench-train: $(STAMP)
	@$(BIN)/python bench/bench_train.py $(ARGS)

bench-objectives: $(STAMP)
	@$(BIN)/python bench/bench_objectives.py $(ARGS)

# SIGKILL at 50 random moments, the other faults with as many seeds, one after the other.
test-faults: $(STAMP)
	@OMP_NUM_THREADS=1 FAULT_SEEDS=50 $(BIN)/python -m pytest test/test_faults_recorder.py \
	  test/test_faults_recorder_messages.py $(ARGS)

# Every loss against others' implementations, with the mistakes that a comparison must see.
test-parity: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest test/test_losses_parity.py \
	  test/test_losses_gather.py test/test_objectives_parity.py $(ARGS)

# The real lerobot lies in a virtual environment of its own; without it these tests skip.
test-conformance: $(STAMP)
	@$(MAKE) --no-print-directory install-lerobot || echo 'lerobot is not there: what follows skips'
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest test/test_conformance_lerobot.py $(ARGS)

install-lerobot: $(STAMP)
	@$(BIN)/python requirements/lerobot/install.py

install: $(STAMP)

# Which Python fits is asked only when something is to be installed.
$(STAMP): $(wildcard requirements/*) setup.py
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	      2>/dev/null; then exec "$$python" requirements/install.py; fi; done; \
	echo 'make: no Python 3.11 or 3.12 among "$(PYTHONS)": install one (on Debian and Ubuntu:' \
	  'sudo apt install python3 python3-venv) or name it with PYTHON=/path/to/python' >&2; exit 1

clean:
	rm -rf build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find bench launch requirements ssl_vla_ros test -name __pycache__ -prune -exec rm -rf {} +

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
