#!/bin/sh
# Every SDK before the conformance kit, and the children in text mode that the specification prints, as one table
# (docs/conformance.md has it). Fails if one breaks a MUST, as far as its language is here; those whose language is missing are left
# out, which is said.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
cargo build --release --quiet -p stokehold-cli
cargo build --release --quiet -p stokehold-child --example testee
made="$target/sdks"
mkdir -p "$made"

set -- --child "Rust=$target/release/examples/testee"
add() {
    if command -v "$1" >/dev/null; then return 0; fi
    echo "left out, because there is no $1: $2" >&2
    return 1
}
if add python3 Python; then set -- "$@" --child "Python=python3 sdks/python/testee.py"; fi
if add node Node; then set -- "$@" --child "Node=node sdks/node/testee.js"; fi
if add cc C; then
    cc -O2 -o "$made/testee" sdks/c/testee.c -lpthread
    set -- "$@" --child "C=$made/testee"
fi
if add javac Java; then
    javac --release 11 -d "$made" sdks/java/StokeholdWorker.java sdks/java/Testee.java
    set -- "$@" --child "Java=java -cp $made Testee"
fi
if add go Go; then
    # Nothing is fetched, and nothing outside of the target folder is written.
    (mkdir -p "$made/go-cache" && made=$(cd "$made" && pwd) && cd sdks/go && GOCACHE="$made/go-cache" GOFLAGS=-buildvcs=false \
        GOWORK=off GOTOOLCHAIN=local go build -o "$made/testee-go" ./testee)
    set -- "$@" --child "Go=$made/testee-go"
fi
if add perl Perl; then set -- "$@" --child "Perl=perl sdks/perl/testee.pl"; fi
set -- "$@" --child "Rust, text@L1=$target/release/examples/testee"

# Writes the block of code behind the mark `<!-- child.NAME -->` of the specification.
printed() {
    awk -v mark="<!-- child.$1 -->" '$0 == mark { found = 1; next }
        found && /^```/ { if (open) exit; open = 1; next }
        open { print }' protocol/SPEC.md >"$made/child.$1"
    test -s "$made/child.$1"
}
if add bash bash; then
    printed bash
    set -- "$@" --plain-child "bash=bash $made/child.bash"
fi
if add gawk awk; then
    printed awk
    set -- "$@" --plain-child "awk=gawk -f $made/child.awk"
fi
if add jq jq; then
    printed jq
    set -- "$@" --plain-child "jq=jq --unbuffered -nRr -f $made/child.jq"
fi
if add tclsh Tcl; then
    printed tcl
    set -- "$@" --plain-child "Tcl=tclsh $made/child.tcl"
fi
exec "$target/release/stokehold" conform matrix --testee "$@"
