# Every target is one to three lines; what they run is plain ansible-playbook, pytest, molecule and the linters.
SHELL := /bin/bash
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
INVENTORY ?= inventories/lab
# Whose fault tests run beside each other.
FAULTS := ws12 ws13 wsl12 mig
# Which of them: core, or "core or deep" for all.
DEPTH ?= core
# All personas of the lab, or one: make site PERSONA=workstation
PERSONA ?=
LAB := ansible-playbook --inventory localhost, playbooks/lab

.PHONY: help site lab lab-down test test-full test-slow lint unit compat images test-lab test-lab-down molecule programs \
    verify bench docs role lock

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

site: lab ## Build the lab and provision it, as site.yml provisions real hosts
	@ansible-playbook site.yml

lab: .venv/installed ## Start the simulated hosts
	@$(LAB)/up.yml --extra-vars "lab_persona=$(PERSONA)"

lab-down: .venv/installed ## Remove the simulated hosts with their images, network and keys
	@$(LAB)/down.yml

test: .venv/installed ## The tests, but for deep fault tests; a line per stage, and the last line says what passed
	@python3 tests/stages.py $(FAULTS)

test-full: ## All tests, with the long fault tests that are marked deep
	@$(MAKE) --no-print-directory test DEPTH="core or deep"

test-slow: lab ## Build NVIDIA's module for a kernel of Debian's in the lab's hosts; they keep both, so run `make lab-down` after it
	@pytest -s tests/slow

lint: .venv/installed ## ansible-lint (production), yamllint, ruff, mypy
	@ruff check . && mypy && yamllint --strict . && ansible-lint --offline --strict

unit: .venv/installed ## Tests that need no host
	@pytest --numprocesses=auto --junitxml=.cache/unit.xml tests/house tests/unit

compat: .venv/installed ## Old Pythons, other releases of ansible-core, older NVML bindings: what of them is found here
	@python3 -m tests.compat

images: .venv/installed # The images of all labs, built where they are not there yet
	@$(LAB)/images.yml

test-lab: .venv/installed # The tests' own lab, bare
	@molecule destroy --all && molecule create

test-lab-down: .venv/installed
	@molecule destroy --all

molecule: .venv/installed ## All hosts of the tests' lab: check, converge, idempotence, verify, restart, verify
	@molecule test --scenario-name site --destroy never

faults-%: .venv/installed # What a lab host's fault tests break; DEPTH says which of them
	@pytest -vv --junitxml=.cache/faults-$*.xml -m "host(name='$*') and ($(DEPTH))" tests/faults

programs: .venv/installed # Real programs on the lab's simulated GPUs; with DEPTH="core or deep" a browser too
	@pytest -vv --junitxml=.cache/programs.xml -m "$(if $(findstring deep,$(DEPTH)),,not deep)" tests/programs

verify: .venv/installed ## Ask the hosts of INVENTORY whether they are what they should be
	@pytest tests/hosts --hosts=ansible://all --ansible-inventory=$(INVENTORY) --verdicts --tb=no -rN --numprocesses=4

bench: .venv/installed ## Time gpu_facts, MIG on eight GPUs, and the first and the second run of site.yml on one workstation
	@python3 tests/bench/gpu_facts.py
	@python3 tests/bench/mig.py
	@python3 tests/bench/site.py

docs: .venv/installed ## Write the generated tables and docs/reference/ again
	@python3 -m tests.tools.make_docs

role: .venv/installed ## Write the skeleton of a new role: make role NAME=x
	@python3 -m tests.tools.make_role "$(NAME)"

lock: ## Pin requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml -o requirements.lock

.venv/installed: requirements.lock
	@./tests/lab/python.sh
