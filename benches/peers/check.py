#!/usr/bin/env python3
"""Runs the lines of peers.tsv once, as the runner would but without measuring, and prints what each reports.

`check.py [WORD …]`: only lines that have every word, as `check.py W1 loky`. Ends with status 1 when a line did not
work.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMIT_SECONDS = 120


class Failure(Exception):
    pass


def contestants(words):
    for line in (HERE / "peers.tsv").read_text().splitlines():
        if line and not line.startswith("#") and all(word in line for word in words):
            yield line.split("\t")


def run(command):
    """One handshake; the report."""
    environment = {**os.environ, "PEERS": str(ROOT / "target" / "peers")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # A session of its own, so that whatever it leaves behind can be found and ended.
    process = subprocess.Popen(
        ["sh", "-c", command], cwd=ROOT, env=environment, start_new_session=True, bufsize=0, **pipes
    )
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        if next_line(process, deadline) != b"ready\n":
            raise Failure("did not get ready")
        process.stdin.write(b"start\n")
        report = json.loads(next_line(process, deadline) or "null")
        if not report or report["n"] <= 0 or report["seconds"] <= 0:
            raise Failure("no report")
        process.stdin.close()
        status = process.wait(max(0, deadline - time.monotonic()))
        if status != 0:
            raise Failure(f"status {status}")
        if left_behind(process.pid):
            raise Failure("left processes behind")
        return report
    except subprocess.TimeoutExpired:
        raise Failure("did not end in time")
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def next_line(process, deadline):
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            raise Failure("timed out")
        piece = process.stdout.read(4096)
        if not piece:
            break
        line += piece
    return line


def left_behind(group):
    """Some end a moment after their parent."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    return True


def figure(workload, report):
    if workload == "W1":
        return f"p50 {report['p50_us']:.1f} µs, p99 {report['p99_us']:.1f} µs"
    if workload.startswith("W7"):
        memory = report.get("rss_kib_per_worker")
        rest = "" if memory is None else f", {memory:.0f} KiB a worker"
        return f"first {report['first_ms']:.1f} ms, all {report['all_ms']:.1f} ms{rest}"
    if workload.startswith("W4"):
        return f"{report['bytes'] / report['seconds'] / 1e9:.2f} GB/s"
    return f"{report['n'] / report['seconds']:,.0f} /s"


def main():
    failed = 0
    for workload, peer, variant, command in contestants(sys.argv[1:]):
        try:
            report = run(command)
            text = f"{figure(workload, report)} in {report['seconds']:.2f} s"
        except Failure as failure:
            failed += 1
            text = f"FAILED: {failure}: {command}"
        print(f"{workload:14} {peer:20} {variant:34} {text}", flush=True)
    if failed:
        sys.exit(f"{failed} did not work")


if __name__ == "__main__":
    main()
