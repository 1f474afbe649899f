"""The shell's peers: GNU parallel, xargs, split. They start their processes themselves, and so inside the clock.

`pipelines.py w3|w6|w7 peer=parallel|xargs|split [mode=records|lines way=pipe|roundrobin chunk=… n=… workers=…]`
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "python"))
import contest  # noqa: E402

WARM_UP = 200
COUNTER = str(contest.PROGRAMS / "count_lines")
ADDER = str(contest.PROGRAMS / "add_one")
SIZES = {"records": 1024, "lines": 20}
# Lines that are made at once.
BLOCK = 10_000


def parallel(*arguments):
    return ["parallel", "--will-cite", *arguments]


def input_file(lines, size=0):
    """A file without a name, in memory where that is possible, with numbers padded to `size` bytes a line."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    file = tempfile.TemporaryFile(dir=memory)
    for begin in range(0, lines, BLOCK):
        numbers = range(begin, min(begin + BLOCK, lines))
        file.write(b"".join(b"%0*d\n" % (max(size - 1, 1), number) for number in numbers))
    file.flush()
    return file


def output(command, file):
    file.seek(0)
    done = subprocess.run(command, stdin=file, stdout=subprocess.PIPE)
    contest.check(done.returncode == 0, f"{command[0]} ended with status {done.returncode}")
    return done.stdout.split()


def w3(peer, mode="records", way="roundrobin", n=1_000_000):
    command = {
        ("parallel", "roundrobin"): parallel("-j2", "--pipe", "--roundrobin", COUNTER),
        # A process for every block of input.
        ("parallel", "pipe"): parallel("-j2", "--pipe", COUNTER),
        ("split", "roundrobin"): ["split", "-n", "r/2", f"--filter={COUNTER}"],
    }[peer, way]
    size = SIZES[mode]
    output(command, input_file(WARM_UP, size))
    file = input_file(n, size)
    contest.start()
    begin = time.perf_counter()
    counted = sum(map(int, output(command, file)))
    seconds = time.perf_counter() - begin
    contest.check(counted == n, f"the workers counted {counted} of {n}")
    contest.hand_in(n, seconds, bytes=n * size)


def w6(peer, chunk=1, n=1000):
    command = {
        "xargs": ["xargs", "-P2", f"-n{chunk}", ADDER],
        "parallel": parallel("-j2", f"-N{chunk}", ADDER),
    }[peer]
    output(command, input_file(2))
    file = input_file(n)
    contest.start()
    begin = time.perf_counter()
    results = [int(line) for line in output(command, file)]
    seconds = time.perf_counter() - begin
    # They come in any order.
    contest.check(sorted(results) == list(range(1, n + 1)), "the results")
    contest.hand_in(n, seconds)


def w7(peer, workers=8):
    """As many items as processes at once: each item is a process's first and last."""
    command = {
        "xargs": ["xargs", f"-P{workers}", "-n1", ADDER],
        # Ungrouped, so that the first result is seen when it is there.
        "parallel": parallel("-u", f"-j{workers}", ADDER),
    }[peer]
    output(command, input_file(1))
    file = input_file(workers)
    file.seek(0)
    contest.start()
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE)
    results = [process.stdout.readline()]
    first = time.perf_counter() - begin
    results += process.stdout.readlines()
    all_answered = time.perf_counter() - begin
    process.wait()
    contest.check(sorted(map(int, results)) == list(range(1, workers + 1)), "the results")
    contest.hand_in(
        workers, all_answered, first_ms=round(first * 1000, 3), all_ms=round(all_answered * 1000, 3)
    )


if __name__ == "__main__":
    workload, chosen = contest.settings()
    # Where GNU parallel keeps notes of its own.
    with tempfile.TemporaryDirectory() as notes:
        os.environ["PARALLEL_HOME"] = notes
        {"w3": w3, "w6": w6, "w7": w7}[workload](**chosen)
