"""The kill storm: the same workload on several pools while a random worker is killed with SIGKILL every 50 ms.

Each pool runs in a program of its own (contestant.py, or ours) under a watchdog. The killer is here, the same for all.
Prints a Markdown table of what became of the tasks, and then how soon our pool notices a death. `run.sh` starts it.
"""

import argparse
import collections
import os
import pathlib
import platform
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from importlib import metadata

from contestant import POOLS, TASKS

HERE = pathlib.Path(__file__).resolve().parent
OURS = "Stokehold"
KILL_EVERY_SECONDS = 0.050
PATIENCE_SECONDS = 60
# For closing a pool after the last outcome. What is not gone by then hangs.
CLOSE_SECONDS = 10
# For workers to notice that their parent is gone.
LEAVE_SECONDS = 2
DONE_GOAL = 396
MARK = "KILL_STORM_ROUND"
PACKAGES = {"loky": "loky", "mpire": "mpire", "Pebble": "Pebble", "billiard": "billiard"}

Round = collections.namedtuple("Round", "done failed lost seconds left hung kills why")


def main():
    options = parse()
    rounds = collections.defaultdict(list)
    names = [OURS, *POOLS] if not options.only else options.only
    machine = describe_machine()
    for seed in range(options.seed, options.seed + options.rounds):
        for name in names:
            result = storm(name, seed, options)
            print(f"seed {seed}, {name}: {result}", file=sys.stderr, flush=True)
            rounds[name].append(result)
    text = report(machine, rounds, options)
    kept = all(is_as_promised(result) for result in rounds[OURS])
    if OURS in names and not options.storm_only:
        for program in ("detection", "cycles"):
            ran = subprocess.run([options.ours, program], stdout=subprocess.PIPE, text=True)
            text += "\n" + ran.stdout
            kept = kept and ran.returncode == 0
    print(text, end="")
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(text)
    return 0 if kept else 1


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=pathlib.Path, required=True, help="the program stokehold-benches")
    parser.add_argument("--logs", type=pathlib.Path, required=True, help="where the programs' stderr goes")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each with a seed of its own (default 5)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first round (default 1)")
    parser.add_argument("--save", type=pathlib.Path, help="write the report there as well")
    parser.add_argument("--only", action="append", choices=[OURS, *POOLS], help="only this pool; may be repeated")
    parser.add_argument("--storm-only", action="store_true", help="without detection times and start/stop cycles")
    options = parser.parse_args()
    if not (3, 9) <= sys.version_info[:2] <= (3, 13):
        # Pidfds come with 3.9; from 3.14 on pools start workers in a way in which the killer would not find them.
        parser.error("the storm needs Python 3.9 to 3.13")
    options.logs.mkdir(parents=True, exist_ok=True)
    return options


def storm(name, seed, options):
    """One round: a program, its killer, its watchdog."""
    mark = f"{os.getpid()}-{seed}-{name}"
    command = [options.ours, "storm"] if name == OURS else [sys.executable, HERE / "contestant.py", name]
    with open(options.logs / f"{name}-{seed}.log", "wb") as log:
        program = subprocess.Popen(
            command,
            env={**os.environ, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    account = Account(program.stdout)
    kills = kill_at_random(program, account, random.Random(seed))
    hung = False
    try:
        program.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        hung = True
        program.kill()
        program.wait()
    left = processes_left(mark)
    for pid in left:
        send_kill(pid, lambda pid: is_marked(pid, mark))
    account.close()
    return account.round(left=len(left), hung=hung, kills=kills)


class Account:
    """What a program has said of its tasks, read by a thread because a program may hang at any time."""

    def __init__(self, pipe):
        self.started = None
        self.last = None
        self.outcomes = {}
        self.over = threading.Event()
        self.began = threading.Event()
        self.reader = threading.Thread(target=self.read, args=(pipe,), daemon=True)
        self.reader.start()

    def read(self, pipe):
        for line in pipe:
            words = line.decode(errors="replace").split(maxsplit=2)
            if words == ["start"]:
                self.started = time.monotonic()
                self.began.set()
            elif len(words) >= 2 and words[0].isdigit():
                # The first outcome of a task counts.
                self.outcomes.setdefault(int(words[0]), " ".join(words[1:]))
                self.last = time.monotonic()
                if len(self.outcomes) == TASKS:
                    self.over.set()
            elif words == ["end"]:
                self.over.set()
        self.began.set()
        self.over.set()

    def close(self):
        self.reader.join(LEAVE_SECONDS)

    def round(self, **rest):
        done = sum(outcome == "done" for outcome in self.outcomes.values())
        failed = len(self.outcomes) - done
        lost = TASKS - len(self.outcomes)
        why = collections.Counter(text.split()[1] for text in self.outcomes.values() if text != "done")
        seconds = PATIENCE_SECONDS if lost or not self.last else self.last - self.started
        return Round(done=done, failed=failed, lost=lost, seconds=seconds, why=why, **rest)


def kill_at_random(program, account, dice):
    """Kills a random living worker every 50 ms until all tasks have ended, at most 60 s. Returns how many."""
    account.began.wait(PATIENCE_SECONDS)
    start = time.monotonic()
    kills = ticks = 0
    while ticks * KILL_EVERY_SECONDS < PATIENCE_SECONDS:
        ticks += 1
        if account.over.wait(max(0, start + ticks * KILL_EVERY_SECONDS - time.monotonic())):
            break
        workers = sorted(living_workers(program.pid))
        if workers:
            kills += send_kill(dice.choice(workers), lambda pid: is_worker(pid, program.pid))
    return kills


def living_workers(parent):
    return [pid for pid in all_pids() if is_worker(pid, parent)]


def is_worker(pid, parent):
    """Whether it is a living child that runs tasks: a fork of its parent, or by its arguments one of loky's or of ours."""
    state, its_parent = state_and_parent(pid)
    if its_parent != parent or state in "ZX":
        return False
    arguments = command_line(pid)
    if b"contestant.py" in b"".join(command_line(parent)):
        return arguments == command_line(parent) or any(b"LokyProcess" in word for word in arguments)
    return b"worker" in arguments


def send_kill(pid, is_right):
    """SIGKILL to a process that is still the right one. A pidfd cannot come to mean another."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not is_right(pid):
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def processes_left(mark):
    """Living processes of a round after its program is gone, with a moment to leave by themselves."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while True:
        left = [pid for pid in all_pids() if is_marked(pid, mark)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def is_marked(pid, mark):
    return f"{MARK}={mark}".encode() in read(pid, "environ").split(b"\0") and state_and_parent(pid)[0] not in "ZX"


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command_line(pid):
    return read(pid, "cmdline").split(b"\0")


def state_and_parent(pid):
    """X and 0 of a process that is gone."""
    # The name, field 2, may contain anything.
    fields = read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[1])) if len(fields) > 1 else ("X", 0)


def read(pid, file):
    try:
        with open(f"/proc/{pid}/{file}", "rb") as opened:
            return opened.read()
    except OSError:
        return b""


def is_as_promised(result):
    """Ours: at least 396 done, the others dead after exactly three lives, nothing lost, nothing left."""
    others = sum(count for why, count in result.why.items() if why != "Dead/3")
    return result.done >= DONE_GOAL and not (others or result.lost or result.left or result.hung)


def report(machine, rounds, options):
    lines = [
        machine,
        "",
        f"{TASKS} tasks of 10 ms, 2 workers, `kill -9` of a random living worker every {KILL_EVERY_SECONDS * 1000:.0f} ms until"
        f" the last task has ended or {PATIENCE_SECONDS} s have passed; all warmed up with 8 tasks; settings as documented; seeds"
        f" {options.seed} to {options.seed + options.rounds - 1}, one a round. Medians, minimum and maximum in brackets."
        f" Closing hung: the program had to be killed {CLOSE_SECONDS} s later. Processes left: {LEAVE_SECONDS} s after the"
        " program was gone.",
        "",
        "| pool | done | failed with an error | lost: neither | seconds | closing hung | processes left |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, results in rounds.items():
        fields = ("done", "failed", "lost", "seconds")
        cells = [spread([getattr(result, field) for result in results]) for field in fields]
        hung = f"{sum(result.hung for result in results)} of {len(results)} rounds"
        lines.append(f"| {name} | {' | '.join(cells)} | {hung} | {spread([result.left for result in results])} |")
    lines += ["", "What the errors were, over all rounds, and how many workers were killed:", ""]
    for name, results in rounds.items():
        why = sum((result.why for result in results), collections.Counter())
        shown = ", ".join(f"{count} × {kind}" for kind, count in why.most_common()) or "none"
        lines.append(f"- {name}: {shown}; {sum(result.kills for result in results)} kills")
    if OURS in rounds:
        met = sum(is_as_promised(result) for result in rounds[OURS])
        lines += [
            "",
            f"Promised for {OURS}: at least {DONE_GOAL} done, the others dead after exactly three lives, nothing lost,"
            f" nothing left. Kept in {met} of {len(rounds[OURS])} rounds.",
        ]
    return "\n".join(lines) + "\n"


def spread(values):
    def show(value):
        return str(value) if isinstance(value, int) else f"{value:.1f}"

    middle = statistics.median_low(values)
    low, high = min(values), max(values)
    return show(middle) if show(low) == show(high) else f"{show(middle)} ({show(low)}–{show(high)})"


def describe_machine():
    cpus = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ", 1)[1] for line in cpus if line.startswith("model name")), "unknown processor")
    versions = ", ".join(f"{name} {metadata.version(package)}" for name, package in PACKAGES.items())
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()
    return (
        f"{model} · {os.cpu_count()} cores · Linux {platform.release()} · Python {platform.python_version()}"
        f" · {versions} · {rustc} · load before the run {os.getloadavg()[0]:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
