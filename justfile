# Commands for working on Stokehold; `just --list` shows them.

# Format, lints and documentation, with warnings denied.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

# Every test: the README's command.
test:
    cargo test --workspace

# Every test, faster and with a limit for each, where cargo-nextest is installed. It does not run doctests.
nextest:
    cargo nextest run --workspace
    cargo test --workspace --doc

# The random walks again, from a seed of their own: `just seed 42`.
seed n:
    STOKEHOLD_SEED={{n}} cargo test -p stokehold --lib core

# One fuzz target for so many seconds: `just fuzz sessions 300`. Needs cargo-fuzz; new inputs stay in target/fuzz. No
# sanitizer, because there is no unsafe code to look into, and the stable toolchain has none.
fuzz target seconds="60":
    mkdir -p target/fuzz/{{target}}
    cargo fuzz run --fuzz-dir protocol/fuzz --sanitizer none {{target}} \
        target/fuzz/{{target}} protocol/fuzz/corpus/{{target}} -- \
        -max_total_time={{seconds}} -timeout=5 -rss_limit_mb=1024 -dict=protocol/fuzz/words.dict

# The main job, on the files around you.
demo *args:
    cargo run --release -- demo {{args}}

# One example: `just example hello`.
example name *args:
    cargo run --example {{name}} -- {{args}}

# Stokehold against the limits of this machine, in less than 5 minutes: goals, ratios, figures. `just bench W1 W6` is a part.
bench *args:
    cargo build --release -p stokehold-cli
    cargo run --release -p stokehold-benches -- {{args}}

# The same with the peers, which it installs into target/peers: some 20 minutes. `--save FILE.md` keeps it, with plots.
bench-peers *args:
    benches/peers/install.sh
    cargo build --release -p stokehold-cli
    cargo run --release -p stokehold-benches -- --peers benches/peers/peers.tsv {{args}}

# Instructions a task, against tests/instructions/counts.txt; `just instructions --write` writes that anew. Needs valgrind.
instructions *args:
    cargo run --release -p stokehold-tests --bin instructions -- {{args}}

# A storm of `kill -9` over Stokehold and the pools of Python, as a table; needs python3 and, once, the network.
kill-storm *args:
    sh benches/kill_storm/run.sh {{args}}

# Mixed work while workers are killed at random; fails if anything grows or a task is lost. `just soak 2` is a short one.
soak minutes='60' *args:
    cargo run --release -p stokehold-benches -- soak --minutes {{minutes}} {{args}}

# The vectors against another implementation; needs Python and its package `msgpack`.
vectors:
    python3 protocol/vectors/cross_check.py

# Every vector and session against a child in any language: `just replay python3 sdks/python/testee.py`.
replay *command:
    python3 protocol/vectors/replay.py -- {{command}}

# Every SDK before the conformance kit, as one table; docs/conformance.md has it.
conform:
    sdks/matrix.sh

# Licences, advisories, sources; needs cargo-deny and the network.
deny:
    cargo deny check

# What has to pass.
ci:
    .ci/run
