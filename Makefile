# The few verbs. `make sim` and `make test` are all that a newcomer needs; `make help` lists the rest.

SEEDS  ?= 0..100
BUDGET ?= 120s
JOBS   ?= $(shell nproc)

# Something outside that exports RUSTFLAGS would replace `--cfg madsim` without a word.
unexport RUSTFLAGS RUSTDOCFLAGS

.PHONY: help sim test fuzz verify verify-lints fix cluster bench bugs mutants guard tools

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

sim: tools ## build the simulator, sweep seeds over all scenarios, print the table
	cargo sim-build
	cargo sim sweep --seeds $(SEEDS) --jobs $(JOBS) --budget $(BUDGET)

test: tools ## all tests, in the plain and in the simulated build
	cargo test
	cargo sim-test

fuzz: tools ## feed the server's readers with a fuzzer's inputs, FUZZ_S seconds each
	@scripts/tools fuzz
	scripts/fuzz

verify: tools verify-lints test ## everything CI checks except the sweep; never writes to the tree

verify-lints:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --all-targets -- -D warnings
	cargo sim-clippy
	cargo sim-doc

fix: ## format and apply what clippy can mend by itself
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml
	cargo clippy --fix --all-targets --allow-dirty --allow-staged

cluster: tools ## three members on loopback; prints the etcdctl line; Ctrl-C stops them
	scripts/cluster

bench: tools ## the cost model: idling, an operation, a seed, faults, size, a check; then the server beside a real etcd
	cargo sim-build
	cargo sim bench
	cargo bench --bench versus

bugs: tools ## plant each known bug and measure how many seeds the sweep needs to find it
	cargo sim bugs

mutants: bugs ## the same as `bugs`

guard: tools
	scripts/guard

tools:
	@scripts/tools
