#!/bin/sh
# The kill storm: makes a Python environment below cargo's target directory, builds our program, and compares the pools.
# Arguments go to compare.py; `--help` shows them. Needs python3 (3.9 to 3.13), its venv module, and the network once.
set -eu
cd "$(dirname "$0")/../.."
target="${CARGO_TARGET_DIR:-target}"
place="$target/kill-storm"
python="$place/venv/bin/python"
[ -x "$python" ] || python3 -m venv "$place/venv"
"$python" -m pip install --quiet --disable-pip-version-check -r benches/kill_storm/requirements.txt
cargo build --release -p stokehold-benches
# No compiled files into the source tree.
export PYTHONDONTWRITEBYTECODE=1
exec "$python" benches/kill_storm/compare.py --ours "$target/release/stokehold-benches" --logs "$place/logs" "$@"
