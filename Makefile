# Two commands on a fresh Debian 12 or 13 (root, Rust toolchain; Debian mirrors, crate registry, for tests PyPI):
#   make demo   the whole way on real images, left running for a look (make demo-down ends it)
#   make test   lint, licences, every suite of cargo test, the isolated machine (Debian 13)
#               not in it: make test-delta (version 1 to 2 by a delta bundle), make test-debian-12, make soak
# Slow things (images, packages, VM disks) are kept in ${LOCKGATE_CACHE:-~/.cache/lockgate}.
SHELL := /bin/bash
CARGO ?= cargo
export CARGO_TERM_COLOR ?= never

.PHONY: help build demo demo-down test test-unit test-vm test-debian-12 test-delta soak fuzz lint deny bench packages clean

help:
	@sed -n '1,5s/^# \?//p' Makefile

packages:
	@tests/setup/packages.sh

build: packages
	$(CARGO) build --release --locked --bins

demo: build
	@tests/demo/demo.sh up

demo-down:
	@tests/demo/demo.sh down

lint: packages
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	shellcheck -x -P SCRIPTDIR tests/setup/*.sh tests/demo/*.sh tests/vm/*.sh appliance/images/build.sh appliance/runtime/*.sh docs/isso/*.sh tests/*.sh tests/fuzz/*.sh benches/*.sh benches/images/*.sh .ci/run

deny:
	@tests/setup/deny.sh

# In the machines the development build that the other suites use: a release build of its own takes as
# long as a suite. `make test-vm` takes the release build there.
test: lint deny test-unit
	LOCKGATE_PROFILE=debug tests/vm/isolated.sh --then-cut
	@echo "make test: all passed (not in it: test-delta, test-debian-12, soak)"

# The binaries first: the end-to-end tests run them as a person would.
test-unit: packages
	$(CARGO) build --workspace --locked --bins
	tests/setup/fixtures.sh
	tests/setup/tuf.sh >/dev/null
	tests/setup/kryoptic.sh >/dev/null
	tests/suites.sh

# The isolated machine, discs with bad sectors, and 30 power cuts in the middle of updates.
test-vm: build
	tests/vm/isolated.sh --then-cut

# The isolated machine as a Debian 12: an engine older than Quadlet, so plain units.
test-debian-12: build
	LOCKGATE_GUEST_SUITE=bookworm tests/vm/isolated.sh

# Version 1 to version 2 of the reference platform by a delta bundle, on this machine's engine.
test-delta: build
	tests/demo/delta.sh

# More of what chance finds, a few hours: every cut point of the installer, and 200 power cuts.
soak: build
	$(CARGO) build --workspace --locked --bins
	tests/setup/fixtures.sh
	LOCKGATE_CUTS_EVERY=1 $(CARGO) test --workspace --locked --test cuts -- --nocapture
	LOCKGATE_CUTS=200 tests/vm/isolated.sh --then-cut

# Each fuzz target for 60 seconds (LOCKGATE_FUZZ_SECONDS), so many at once (LOCKGATE_FUZZ_JOBS); what was found before is replayed by test-unit.
fuzz: packages
	tests/fuzz/run.sh

bench: build
	tests/setup/packages.sh bench
	benches/bench.sh
	benches/link.sh
	benches/parity.sh
	benches/proof.sh
	benches/confine.sh
	benches/update.sh
	benches/size.sh
	LOCKGATE_BENCH_ROUNDS=0 LOCKGATE_BENCH_EFFORTS=default benches/size.sh --suite bookworm

clean:
	$(CARGO) clean
