"""Feeding the stdin of other programs: `Popen.stdin` of the standard library, and subfeed.

`feeds.py w3|w7 peer=Popen|subfeed [mode=records|lines batch=… n=… workers=…]`. `batch` is how many records make
one write or one item; putting them together is the caller's work, and done before the clock starts.
"""

import os
import selectors
import subprocess
import time

import contest

WORKERS = 2
WARM_UP = 200
COUNTER = str(contest.PROGRAMS / "count_lines")
ANSWERER = str(contest.PROGRAMS / "answer_lines")
RECORDS = {"records": b"x" * 1023 + b"\n", "lines": b"0123456789012345678\n"}
# subfeed looks for the end of its input when it has waited so long for more. Its own figure is 1 s, which would be
# added to every run.
END_LOOK_SECONDS = 0.01


def w3_popen(n, record, batch):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([COUNTER], **pipes) for _ in range(WORKERS)]
    writes = [process.stdin.write for process in processes]

    def feed(times, item):
        for i in range(times):
            writes[i % WORKERS](item)
        # The NUL asks for the count.
        for process in processes:
            process.stdin.write(b"\0")
            process.stdin.flush()
        return sum(int(process.stdout.readline()) for process in processes)

    before = feed(WARM_UP, record)
    item = record * batch
    contest.start()
    begin = time.perf_counter()
    counted = feed(n // batch, item)
    seconds = time.perf_counter() - begin
    contest.check(counted - before == n, f"the workers counted {counted} - {before} of {n}")
    contest.hand_in(n, seconds, bytes=n * len(record))
    for process in processes:
        process.stdin.close()
        process.wait()


def coordinator(program, count):
    class Pass(subfeed.Writer):
        timeout = END_LOOK_SECONDS

    subfeed.Worker.timeout = END_LOOK_SECONDS
    stdin = subfeed.WriterSpec(Pass, mode=subfeed.task.Mode())
    return subfeed.Coordinator(subfeed.TaskTemplate(args=program), count, {"stdin": stdin})


def w3_subfeed(n, record, batch):
    feeder = coordinator(COUNTER, WORKERS)
    feeder.start()
    while len(feeder.workers) < WORKERS:
        time.sleep(0.001)
    # Which worker gets an item cannot be told, and there is no word back: that both are up is all that is known here.
    for _ in range(WARM_UP):
        feeder.feed(record)
    item = record * batch
    contest.start()
    begin = time.perf_counter()
    for _ in range(n // batch):
        feeder.feed(item)
    # The workers tell their counts when their input ends, and then end themselves: the library has no other way.
    feeder.close()
    counted = sum(int(task.process.stdout.read()) for task in feeder.tasks)
    seconds = time.perf_counter() - begin
    contest.check(counted - WARM_UP == n, f"the workers counted {counted} - {WARM_UP} of {n}")
    contest.hand_in(n, seconds, bytes=n * len(record))


def w3(peer, mode="records", batch=1, n=100_000):
    contest.check(n % batch == 0, "n is no multiple of the batch")
    {"Popen": w3_popen, "subfeed": w3_subfeed}[peer](n, RECORDS[mode], batch)


def w7(peer, workers=8):
    {"Popen": w7_popen, "subfeed": w7_subfeed}[peer](workers)


def w7_popen(workers):
    before = contest.resident_kib()
    contest.start()
    begin = time.perf_counter()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes, first = [], None
    for _ in range(workers):
        process = subprocess.Popen([ANSWERER], **pipes)
        process.stdin.write(b"1\n")
        process.stdin.flush()
        processes.append(process)
    for process in processes:
        # It says that it is up, and then gives its line back.
        lines = process.stdout.readline(), process.stdout.readline()
        contest.check(lines == (b"up\n", b"1\n"), "an answer")
        first = first or time.perf_counter() - begin
    report_start(workers, first, time.perf_counter() - begin, before)
    for process in processes:
        process.stdin.close()
        process.wait()


def w7_subfeed(workers):
    before = contest.resident_kib()
    contest.start()
    begin = time.perf_counter()
    feeder = coordinator(ANSWERER, workers)
    feeder.start()
    feeder.feed(b"1\n")
    # One item, which some worker gives back, is the first result. Who gets more items cannot be told: that a worker is
    # up is known from the line that it says by itself.
    waiting, said, first = selectors.DefaultSelector(), {}, None
    while first is None or not all(said.get(i) for i in range(workers)):
        for i, task in enumerate(feeder.tasks):
            if i not in said and task.process:
                said[i] = b""
                waiting.register(task.process.stdout, selectors.EVENT_READ, i)
        for key, _ in waiting.select(timeout=0.001):
            said[key.data] += os.read(key.fileobj.fileno(), 100)
            if b"1\n" in said[key.data]:
                first = time.perf_counter() - begin
    report_start(workers, first, time.perf_counter() - begin, before)
    feeder.close()


def report_start(workers, first, all_answered, before):
    contest.hand_in(
        workers,
        all_answered,
        first_ms=round(first * 1000, 3),
        all_ms=round(all_answered * 1000, 3),
        rss_kib_per_worker=round((contest.resident_kib() - before) / workers, 1),
    )


if __name__ == "__main__":
    workload, chosen = contest.settings()
    if chosen["peer"] == "subfeed":
        # Not above: Popen must run where this is not installed.
        import subfeed
        import subfeed.task
    {"w3": w3, "w7": w7}[workload](**chosen)
