# What a developer runs. `just verify` never writes, `just fix` does.

default:
    @just --list

# Format, lints and tests, as CI does.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace

# Formats, and applies what clippy can mend by itself.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# The main job on this machine, measured.
tour:
    cargo run --release -p muster -- dev --tour

# Licences, sources, duplicate and forbidden crates (installs cargo-deny when it is missing).
deny:
    command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
    cargo deny check bans licenses sources

# The figures of the README: a table and JSON.
bench *ARGS:
    cargo build --release -p muster -p musterctl
    cargo run --release -p muster-tests --bin bench -- {{ARGS}}

# The long forms of the tests for so many minutes, and one table (docs/soak.md); needs root.
soak MINUTES="60" *ARGS:
    cargo build --release -p muster -p musterctl
    cargo run --release -p muster-tests --bin soak -- {{MINUTES}} {{ARGS}}
