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

# Write the chapters anew that are generated from the code
bless:
    BLESS=1 cargo nextest run --locked --test it -E 'test(/^reference::|the_reference_lists_every_metric/)'

# Every set of features, and the oldest Rust
features:
    scripts/check-features

# The documents as a book, in target/book
book:
    scripts/book

# Format the code
fmt:
    cargo fmt

# Simulate whole clusters, one history for each seed: `just sim --seeds 100000 --from 2000`, `just sim --seed 7`
sim *arguments:
    scripts/sim {{arguments}}

# Every small world up to a depth: `just explore --depth 5 --nodes 2`
explore *arguments:
    scripts/explore {{arguments}}

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
binary:
    scripts/build-release
    ls -lh target/release/muster

# Write build/layout.ld anew: which functions lie side by side
layout:
    scripts/layout

# The Debian package, in target/package
package: binary
    scripts/package-deb

# Everything that is published, in target/dist: archive, package, image, chart, bill of materials, licences, checksums
release: binary
    scripts/release

# Build twice in different directories, and compare
reproduce:
    scripts/check-reproducible

# Install, run, upgrade and remove the package in a bootstrapped root; run the image; render the chart
check-packages binary="target/release/muster":
    scripts/check-image {{binary}}
    scripts/check-chart {{binary}}
    scripts/check-package {{binary}}

# Roll a cluster from one binary to another and back, under load
upgrade old new="target/release/muster":
    scripts/check-upgrade {{old}} {{new}}

# Fuzz one target for some seconds; needs cargo-fuzz and a nightly toolchain
fuzz target seconds="600":
    cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}
