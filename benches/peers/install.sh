#!/bin/sh
# Installs the peers below target/peers: what Debian has, a Python environment, a Node module, and the Rust programs in
# release. Quick when all is there. What only some peers need may fail: that is said, and the rest goes on.
set -eu
cd "$(dirname "$0")/../.."
here=benches/peers
place="$PWD/target/peers"
mkdir -p "$place"

say() {
    printf 'peers: %s\n' "$*" >&2
}

# For ZeroMQ's crate, for the bindings that iceoryx2 makes while it is built, and the peer of the shell.
packages=
python3 -c 'import ensurepip' 2>/dev/null || packages="$packages python3-venv"
pkg-config --exists libzmq 2>/dev/null || packages="$packages pkg-config libzmq3-dev"
[ -n "${LIBCLANG_PATH:-}" ] || ls /usr/lib/llvm-*/lib/libclang.so >/dev/null 2>&1 || packages="$packages libclang-dev"
command -v parallel >/dev/null || packages="$packages parallel"
if [ -n "$packages" ]; then
    say "installing$packages"
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root=sudo
    $as_root apt-get update -qq >&2
    # shellcheck disable=SC2086
    $as_root apt-get install -y -qq --no-install-recommends $packages >&2
fi

python="$place/venv/bin/python"
[ -x "$python" ] || python3 -m venv "$place/venv"
pip_install() {
    "$python" -m pip install --quiet --disable-pip-version-check "$@" >&2
}
pip_install -r "$here/python/requirements.txt"
for peer in inparallel suitkaise; do
    pip_install -r "$here/python/optional-$peer.txt" || say "left out: $peer could not be installed"
done

# Not in the source tree, so that no node_modules is left there.
if command -v npm >/dev/null; then
    mkdir -p "$place/node"
    if ! cmp -s "$here/node/package.json" "$place/node/package.json" || [ ! -d "$place/node/node_modules" ]; then
        cp "$here/node/package.json" "$place/node/package.json"
        if ! (cd "$place/node" && npm install --silent --no-audit --no-fund --no-package-lock >&2); then
            rm "$place/node/package.json"
            say "left out: piscina could not be installed"
        fi
    fi
else
    say "left out: piscina, for want of npm"
fi

CARGO_TARGET_DIR="$place" cargo build --release --quiet --locked --manifest-path "$here/rust/Cargo.toml"
say "ready in target/peers"
