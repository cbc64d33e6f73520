# `make demo` and `make test` do all their set-up. `make help` lists the rest.

# One target directory for all stages, outside the clone.
CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gateway-target
export CARGO_TARGET_DIR
# The set-up finds cargo even where no login shell has put it on PATH; so does everything below.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# Arguments for what is run: `make demo ARGS=--script`, `make bench ARGS=--quick`.
ARGS ?=
BINARY = $(CARGO_TARGET_DIR)/ci/gateway
VENV = $(or $(GATEWAY_VENV),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gateway-venv)
# GATEWAY_VENV is the set-up's word, and no key of the gateway's configuration.
CLEAN_ENV = env -u GATEWAY_VENV

.PHONY: help demo test lint bench docs fuzz cases prove-cases regression superset

help:
	@echo 'make demo [ARGS=--script]  the gateway in front of a private PostgreSQL and SSH host, with sample policies'
	@echo 'make test                  everything that CI runs'
	@echo 'make lint                  formatting, clippy, and cargo-deny where it is installed'
	@echo 'make cases [ARGS=...]      only the cases, through the gateway'
	@echo 'make prove-cases           the cases on the bare server: the attacks are real, the rest works'
	@echo 'make regression [ARGS=--regress DIR]  PostgreSQL'\''s own regression files, bare and through the gateway'
	@echo 'make superset [ARGS=--regress DIR]  what the analysis says is read holds what the server'\''s plans read'
	@echo 'make bench [ARGS=--quick]  direct, a plain forwarder, pgbouncer (ssh -J) and the gateway, measured in one run'
	@echo 'make docs                  the book: built where mdbook is installed, else its links are checked'
	@echo 'make fuzz [ARGS=SECONDS]   each fuzz target for a while (needs a nightly toolchain and cargo-fuzz)'

demo:
	scripts/setup.sh demo
	cargo build --profile ci --workspace
	$(CLEAN_ENV) '$(BINARY)' demo $(ARGS)

test:
	scripts/test.sh $(ARGS)

lint:
	scripts/setup.sh demo
	cargo fmt --all --check
	cargo clippy --profile ci --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; \
	else echo 'cargo-deny is not installed: licences, bans and sources were not checked'; fi

cases:
	scripts/setup.sh test
	cargo build --profile ci --workspace
	$(CLEAN_ENV) '$(VENV)/bin/python' tests/cases/postgres/rig.py --gateway '$(BINARY)' \
		--expect allow deny mask hold --refusal-is-mask $(ARGS)

prove-cases:
	scripts/setup.sh test
	'$(VENV)/bin/python' tests/cases/postgres/rig.py --direct $(ARGS)

regression:
	scripts/setup.sh test
	cargo build --profile ci --workspace
	$(CLEAN_ENV) '$(VENV)/bin/python' tests/regression/run.py --gateway '$(BINARY)' $(ARGS)

superset:
	scripts/setup.sh test
	cargo build --profile ci --workspace
	$(CLEAN_ENV) '$(VENV)/bin/python' tests/superset/run.py --analyze '$(CARGO_TARGET_DIR)/ci/analyze' $(ARGS)

bench:
	scripts/setup.sh test
	$(CLEAN_ENV) python3 bench/run.py $(ARGS)
	$(CLEAN_ENV) '$(VENV)/bin/python' bench/analysis.py --analyze '$(CARGO_TARGET_DIR)/release/analyze'
	$(CLEAN_ENV) python3 bench/held.py --gateway '$(CARGO_TARGET_DIR)/release/gateway'
	$(CLEAN_ENV) python3 bench/ssh.py --gateway '$(CARGO_TARGET_DIR)/release/gateway' $(filter --quick,$(ARGS))

docs:
	python3 scripts/check-docs.py
	@if command -v mdbook >/dev/null; then mdbook build docs -d '$(CARGO_TARGET_DIR)/book'; \
	else echo 'mdbook is not installed: the links were checked, the book was not built'; fi

fuzz:
	scripts/fuzz.sh $(ARGS)
