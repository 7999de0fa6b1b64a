SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: setup demo test check bench crash crash-cockroach giant both turns verify-load fuzz help

help: ## list these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 17

setup: ## install what is missing (Debian): PostgreSQL server, openssl, C and C++ compilers, a user for servers
	@deploy/setup-debian.sh

demo: setup ## the whole story on this machine, there and back, in about two minutes once built
	@[ -x target/release/tidegate ] || echo "building tidegate: the first time takes a few minutes"
	@cargo build --release --locked -p tidegate -p tidegate-standin
	@target/release/tidegate demo

# The engine and the stand-in are built first: tests start them as programs of their own.
test: setup ## every test, with real servers (under a quarter of an hour once built)
	@cargo build --locked -p tidegate -p tidegate-standin
	@mkdir -p target; status=0; \
	cargo test --workspace --locked --no-fail-fast 2>&1 | tee target/test.log || status=$$?; \
	awk '/^test result:/ { passed += $$4; failed += $$6 } END { printf "%d passed, %d failed\n", passed, failed }' target/test.log; \
	exit $$status

check: setup ## format, lints and documentation, with every warning an error
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items

bench: setup ## decoding and folding, without a database
	cargo bench --locked -p tidegate-benches

# Scenarios start the engine and the stand-in as programs of their own.
SCENARIO = cargo build --release --locked -p tidegate -p tidegate-standin && \
	cargo run --release --locked -p tidegate-testkit --bin

crash: setup ## kill the engine 50 times and each server 5 times under pgbench, then compare (TIDEGATE_SEED repeats a run)
	$(SCENARIO) crash

DIRECTION ?= postgres-cockroach cockroach-postgres
crash-cockroach: setup ## the same to CockroachDB and from it, with faults of its own; DIRECTION=cockroach-postgres for one
	$(SCENARIO) crash -- $(DIRECTION)

giant: setup ## one transaction of 1 million rows in parts, a delete of 2 million and an insert of 2 GB, in bounded memory
	$(SCENARIO) giant

MINUTES ?= 3
both: setup ## both directions at once with writers on both sides for MINUTES=3, the engine restarted twice; no echo
	$(SCENARIO) both -- $(MINUTES)

turns: setup ## cutover and failback under load, then with the engine and the servers killed at every step (under half an hour)
	$(SCENARIO) turns

verify-load: MINUTES = 10
ROWS ?= 5000000
verify-load: setup ## 200 fences under load, then comparing ROWS=5000000 for MINUTES=10 in each direction while they are written
	$(SCENARIO) verify-load -- $(MINUTES) $(ROWS)

CARGO_FUZZ = 0.13.2
FUZZ_TOOLS = $(CURDIR)/target/tools/cargo-fuzz-$(CARGO_FUZZ)
FUZZ_TARGETS = message value position
# What is found lies in fuzz/artifacts, what was learnt in target/fuzz/corpus.
fuzz: MINUTES = 10
fuzz: setup ## look for inputs that break the decoders of CockroachDB's messages and positions, MINUTES=10 in all
	@command -v c++ >/dev/null || { echo "fuzz: this needs a C++ compiler (Debian: g++)" >&2; exit 1; }
	@[ -x $(FUZZ_TOOLS)/bin/cargo-fuzz ] || cargo install --locked --root $(FUZZ_TOOLS) cargo-fuzz@$(CARGO_FUZZ)
	@export PATH="$(FUZZ_TOOLS)/bin:$$PATH"; \
	seconds=$$(($(MINUTES) * 60 / $(words $(FUZZ_TARGETS)))); \
	for target in $(FUZZ_TARGETS); do \
		mkdir -p target/fuzz/corpus/$$target; \
		cargo fuzz build --sanitizer none --fuzz-dir fuzz --target-dir target/fuzz $$target; \
	done; \
	for target in $(FUZZ_TARGETS); do \
		echo "fuzz: $$target for $$seconds s"; \
		cargo fuzz run --sanitizer none --fuzz-dir fuzz --target-dir target/fuzz $$target \
			target/fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$$seconds -dict=fuzz/json.dict -print_final_stats=1 -print_funcs=0 -verbosity=0; \
	done
