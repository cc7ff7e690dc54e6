# `make run` and `make test` do everything on a fresh Debian-like machine with a Rust toolchain.
.PHONY: run build test check fmt e2e bench load install clean

run: build
	exec target/release/tidegate demo

build:
	@.ci/setup build
	cargo build --release --locked --package tidegate

# Everything that CI runs, in the order in which it fails fastest.
test:
	@.ci/setup test
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	cargo test --workspace --locked
	@.ci/contract
	@.ci/deny

# The quick half of `test`, for between two edits.
check:
	cargo fmt
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	cargo test --workspace --locked --exclude tidegate-e2e

bench:
	cargo bench --package tidegate-benches

load:
	@.ci/setup load
	cargo build --release --locked --package tidegate --package tidegate-e2e
	loadtest/run

install: build
	install -m 0755 target/release/tidegate /usr/local/bin/tidegate

clean:
	cargo clean
