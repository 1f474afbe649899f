"""A contestant's talk with the runner: the settings, `ready`, the start, and the report. See ../README.md."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# The Rust programs that serve as workers here.
PROGRAMS = ROOT / "target" / "peers" / "release"

UNITS = {"k": 1 << 10, "m": 1 << 20}


def settings():
    """The workload, and the `key=value` of the command line. Numbers may end in `k` or `m`."""
    workload, *words = sys.argv[1:]
    pairs = (word.split("=", 1) for word in words)
    return workload, {key: number(value) for key, value in pairs}


def number(text):
    digits, unit = (text[:-1], UNITS[text[-1]]) if text[-1:] in UNITS else (text, 1)
    return int(digits) * unit if digits.isdigit() else text


def start():
    """Says `ready` and waits for the runner's word."""
    print("ready", flush=True)
    sys.stdin.readline()


def hand_in(n, seconds, **figures):
    """Prints the report and waits until the runner has looked at our processes. After that they may end."""
    print(json.dumps({"n": n, "seconds": round(seconds, 6), **figures}), flush=True)
    sys.stdin.readline()


def latencies(seconds):
    ordered = sorted(seconds)
    at = {f"p{percent}_us": ordered[len(ordered) * percent // 100] * 1e6 for percent in (50, 99)}
    return {name: round(figure, 3) for name, figure in at.items()}


def check(right, what):
    """A wrong answer ends the contestant with status 1."""
    if not right:
        sys.exit(f"wrong: {what}")


def numbered(n, size):
    """Payloads that differ, and sort by their number."""
    rest = b"x" * (size - 8)
    return [i.to_bytes(8, "big") + rest for i in range(n)]


def resident_kib():
    """VmRSS of this process."""
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
