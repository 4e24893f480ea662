# The verbs of this repository; `just --list` shows them.

# What CI runs
verify:
    bash .ci/run

# All tests, or those whose names contain a text
test *filter:
    scripts/test {{filter}}

# Format and lint
lint:
    cargo fmt --check
    scripts/check-purity
    scripts/deny
    cargo clippy --locked --all-targets -- -D warnings

# The architecture and everything else, in a browser
doc:
    cargo doc --locked --no-deps --document-private-items --open

# Format the code
fmt:
    cargo fmt

# Simulate whole clusters, one history for each seed: `just sim --seeds 100000 --from 2000`, `just sim --seed 7`
sim *arguments:
    scripts/sim {{arguments}}

# Repeat the suites of real clusters until one fails, `rounds` times at most
soak rounds="10":
    scripts/soak {{rounds}}

# Measure clusters of real processes, beside serf and Erlang where installed
bench *arguments:
    cargo bench --locked --bench cluster -- {{arguments}}

# Simulate clusters of up to 5,000 members, beside plain SWIM
scale *arguments:
    cargo bench --locked --profile sim --bench scale -- {{arguments}}

# The stripped binary, at target/release/muster
release:
    MUSTER_REVISION="$(git rev-parse --short HEAD)" cargo build --locked --release
    ls -lh target/release/muster

# The Debian package of the release binary, in target/package
package: release
    scripts/package-deb

# Install, run, upgrade and remove the package in a bootstrapped root; run what the image holds; render the chart
check-packages binary="target/release/muster":
    scripts/check-image {{binary}}
    scripts/check-chart {{binary}}
    scripts/check-package {{binary}}

# Fuzz one target for some seconds; needs cargo-fuzz and a nightly toolchain
fuzz target seconds="600":
    cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}
