# The two commands of the house: `make up` runs it, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
SUITE := $(PYTHON) scripts/run_tests.py
ARGS ?=

.PHONY: help setup setup-run up test fmt check proto pins build unit cluster faults replicated proofs integration node chart \
        images compose-test conformance bench bench-check soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

setup: ## .venv and every tool the other targets need
	@scripts/setup.sh test

setup-run:
	@scripts/setup.sh run

up: setup-run ## a Kubernetes control plane on brain behind the gateway, from nothing (ARGS="--detach --dir D")
	@exec .venv/bin/wharf up $(ARGS)

test: setup ## every check and every suite CI runs, with one summary
	@$(SUITE) all $(ARGS)

# The targets below expect `make setup` to have run once.

fmt: ## format the sources
	@.venv/bin/ruff check --quiet --fix-only . ; .venv/bin/ruff format .

check: ## lint, types, import contracts, generated files
	@$(SUITE) check $(ARGS)

proto: ## generate the committed protobuf modules from proto/
	@$(PYTHON) scripts/generate_proto.py

pins: ## resolve requirements/*.in anew (ARGS=--upgrade takes newer releases)
	@scripts/pin.sh $(ARGS)

# ARGS are for the target that was named, and this one is named seldom.
build: ## compiled modules, in place, only what changed
	@$(PYTHON) scripts/build_extensions.py $(if $(filter build,$(MAKECMDGOALS)),$(ARGS))

unit: build ## fast tests, with coverage
	@$(SUITE) unit $(ARGS)

proofs: build ## brain against a reference model and real etcd, durability, bad input
	@$(SUITE) proofs $(ARGS)

integration: build ## parts together, and strangers' conformance tools
	@$(SUITE) integration $(ARGS)

faults: build ## kills, full disks, slow peers: the short ones
	@$(SUITE) faults $(ARGS)

replicated: build ## three nodes on PostgreSQL, Redis and NATS through kills, freezes and partitions
	@$(SUITE) replicated $(ARGS)

cluster: build ## a real control plane on brain
	@$(SUITE) cluster $(ARGS)

node: build ## a real node with pods joins the control plane on brain (needs root)
	@$(SUITE) node $(ARGS)

chart: ## lint and render the Helm chart, with its must-pass and must-fail cases
	@$(SUITE) chart $(ARGS)

images: ## container images: wharf-brain, wharf-gateway, wharf-backing, wharf-kube (needs docker)
	@scripts/images.sh

compose-test: ## build the images and bring docker-compose.yml up (needs root; minutes)
	@$(SUITE) compose $(ARGS)

SIG ?= sig-cli,sig-api-machinery
THROUGH ?= both
conformance: build ## Kubernetes' own tests, directly and through the gateway (SIG=sig-cli THROUGH=direct|gateway|both; root)
	@PYTHONPATH=tests $(PYTHON) -m conformance.run --sig "$(SIG)" --through $(THROUGH) $(ARGS)

soak: build ## the long fault suites (hours; SOAK_MINUTES=10 shortens)
	@$(SUITE) soak $(ARGS)

bench: build ## side-by-side tables beside the peers of the same run
	@$(PYTHON) -m benchmarks $(ARGS)

bench-check: build ## fail if an operation costs more than its budget
	@$(PYTHON) -m benchmarks --check $(ARGS)

clean: ## remove what was built (not .venv)
	@rm -rf build libs/*/build services/*/build
	@find libs services \( -name '*.so' -o -name '*.c' \) -delete
