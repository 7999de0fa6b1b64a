SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: setup demo test check bench crash giant help

help: ## list these commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 8

setup: ## install what is missing (Debian): PostgreSQL server, openssl, a C compiler, a user for servers
	@deploy/setup-debian.sh

demo: setup ## the whole story on this machine, in about a minute once built
	@[ -x target/release/tidegate ] || echo "building tidegate: the first time takes a few minutes"
	@cargo build --release --locked -p tidegate
	@target/release/tidegate demo

# The engine is built first: tests start it as a program of its own.
test: setup ## every test, with real servers (under a quarter of an hour once built)
	@cargo build --locked -p tidegate
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

crash: setup ## kill the engine 50 times and each server 5 times under pgbench, then compare (TIDEGATE_SEED repeats a run)
	cargo build --release --locked -p tidegate
	cargo run --release --locked -p tidegate-testkit --bin crash

giant: setup ## a delete of 2 million rows and an insert of 2 GB, each one transaction, in bounded memory (says how much disk)
	cargo build --release --locked -p tidegate
	cargo run --release --locked -p tidegate-testkit --bin giant
