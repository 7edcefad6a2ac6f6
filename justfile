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

# Advisories, licenses, sources and forbidden crates, as CI judges them: with cargo-deny, which is built when it is missing.
deny:
    .ci/deny

# The figures of the README: a table and JSON.
bench *ARGS:
    cargo build --release -p muster -p musterctl
    cargo run --release -p muster-tests --bin bench -- {{ARGS}}

# The long forms of the tests for so many minutes, and one table (docs/soak.md); needs root.
soak MINUTES="60" *ARGS:
    cargo build --release -p muster -p musterctl -p muster-fullstack
    cargo run --release -p muster-tests --bin soak -- {{MINUTES}} {{ARGS}}

# The core simulation for so many minutes, on all processors: counts, and every seed in which something went wrong.
survey MINUTES="60":
    cargo run --release -p muster-tests --bin sim -- survey {{MINUTES}}

# One seed of the core simulation, line by line: of the sound protocol, or of a mutant of docs/proof.md.
replay SEED MUTANT="sound":
    cargo run --quiet -p muster-tests --bin sim -- replay {{SEED}} {{MUTANT}}

# The models of the lease protocol, the large ones too.
models:
    MUSTER_MODEL_LONG=1 cargo test --release -p muster-tests --test lease_model -- --nocapture

# libFuzzer on one target for so many seconds (docs/decisions/0018); finds go to target/fuzz/found/TARGET.
fuzz TARGET SECONDS="300":
    command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
    mkdir -p target/fuzz/corpus/{{TARGET}} target/fuzz/found/{{TARGET}}
    cd tests/fuzz && CARGO_TARGET_DIR=../../target/fuzz cargo fuzz run --fuzz-dir . -s none --no-cfg-fuzzing {{TARGET}} \
        ../../target/fuzz/corpus/{{TARGET}} corpus/{{TARGET}} -- -max_total_time={{SECONDS}} -rss_limit_mb=2048 \
        -timeout=10 -max_len=8192 -artifact_prefix=../../target/fuzz/found/{{TARGET}}/

# All targets, one after the other, so many seconds each.
fuzz-all SECONDS="300":
    for target in tests/fuzz/fuzz_targets/*.rs; do just fuzz $(basename $target .rs) {{SECONDS}} || exit 1; done

# Writes the generated tables of docs/proof.md.
proof-tables:
    MUSTER_WRITE_DOCS=1 cargo test -p muster-tests --test lease_model --test lease_sim -- every_mutant sound_rules

# One run of the simulated stack, with its story.
story SEED *ARGS:
    cargo test -q -p muster-fullstack --test fullstack -- --seed {{SEED}} {{ARGS}}

# The long form of the simulated stack.
soak-fullstack SEEDS="20000":
    MUSTER_FULLSTACK_SEEDS={{SEEDS}} cargo test --release -p muster-fullstack --test fullstack
