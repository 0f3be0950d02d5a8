# Two commands do everything on a fresh machine with Rust and Python 3:
#   make demo   builds the command, gets an encoder, indexes the READMEs of the crates it was built
#               from, and answers three questions on it
#   make test   runs every test

.PHONY: demo test test-gpu fmt lint docs deny fuzz-smoke sanitize valgrind

demo:
	@sh examples/demo.sh

# One feature set for all tests, so that dependencies are built once.
test:
	cargo test --workspace --features cli,guest/encoder
	cargo test -p guest

# The GPU kernels' source on CubeCL's CPU runtime, what they become on a GPU, and the engine with them. Needs
# LLVM, which the script sees to, and some minutes from cold. One feature set, so that CubeCL is built once.
gpu = -p stratal -p stratal-kernels --no-default-features --features cube-cpu
test-gpu:
	sh kernels/llvm-stand-in.sh
	cargo test $(gpu) --test cube --test driver --test device
	cargo test $(gpu) --lib cube
	cargo test $(gpu) --bench gpu --no-run

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --features cli,guest/encoder -- -D warnings
	cargo clippy --workspace --lib --no-default-features -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --features cli

deny:
	cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny@0.20.2
	cargo deny check bans licenses sources
	@if cargo deny fetch db >/dev/null 2>&1; then cargo deny check advisories; \
	else echo "advisories: their database cannot be reached from here; not checked"; fi

# Each target for a few seconds. libFuzzer needs unstable compiler flags, hence RUSTC_BOOTSTRAP.
fuzz-smoke:
	cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz@0.13.2
	@for target in $$(cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz list); do \
		echo "fuzz $$target"; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=10 -rss_limit_mb=2048 || exit 1; \
	done

# The kernels' tests under address sanitizer (all instruction sets; unstable compiler flags, hence RUSTC_BOOTSTRAP), and
# under valgrind, which knows no AVX-512 and so sees the other paths. Minutes each; not part of CI, which fuzzes instead.
sanitize:
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test -p stratal-kernels --lib --tests \
		--target $$(rustc -vV | sed -n 's/host: //p')

valgrind:
	valgrind --version || apt-get install -y valgrind
	cargo test --release -p stratal-kernels --lib --tests \
		--config "target.'cfg(all())'.runner='valgrind --quiet --error-exitcode=9'"
