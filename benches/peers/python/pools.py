"""Python's pools: Pool and ProcessPoolExecutor of the standard library, loky, mpire, suitkaise.

`pools.py w1|w2|w4|w6|w7 peer=NAME [chunk=… way=… n=… …]`. Without `chunk` the library's own default holds. What
starts the processes is left at the default too, which is fork, except for loky.
"""

import importlib
import os
import time

import contest

WARM_UP = 200


class Pool:
    """multiprocessing.Pool. `map` chunks by itself; `imap_unordered` sends single items unless told otherwise."""

    MODULE = "multiprocessing.pool"

    def __init__(self, workers):
        self.pool = self.library.Pool(workers)

    def call(self, function, argument):
        return self.pool.apply(function, (argument,))

    def map(self, function, items, chunk=None):
        return self.pool.map(function, items, chunk)

    def stream(self, function, items, chunk=None):
        return self.pool.imap_unordered(function, items, chunk or 1)

    def end(self):
        self.pool.close()
        self.pool.join()


class ProcessPoolExecutor:
    """concurrent.futures. `map` sends single items unless told otherwise."""

    MODULE = "concurrent.futures.process"

    def __init__(self, workers):
        self.pool = self.library.ProcessPoolExecutor(workers)

    def call(self, function, argument):
        return self.pool.submit(function, argument).result()

    def map(self, function, items, chunk=None):
        return list(self.pool.map(function, items, chunksize=chunk or 1))

    stream = map

    def end(self):
        self.pool.shutdown()


class Loky(ProcessPoolExecutor):
    """The same interface; its processes are started afresh, not forked."""

    MODULE = "loky"

    def __init__(self, workers):
        self.pool = self.library.get_reusable_executor(max_workers=workers)


class Mpire:
    """`map` and `imap_unordered` chunk by themselves. Without `keep_alive`, each call would start workers anew."""

    MODULE = "mpire"

    def __init__(self, workers):
        self.pool = self.library.WorkerPool(n_jobs=workers, keep_alive=True)

    def call(self, function, argument):
        return self.pool.apply(function, args=(argument,))

    def map(self, function, items, chunk=None):
        return self.pool.map(function, items, chunk_size=chunk)

    def stream(self, function, items, chunk=None):
        return self.pool.imap_unordered(function, items, chunk_size=chunk)

    def end(self):
        self.pool.stop_and_join()


class Suitkaise:
    """A layer over multiprocessing.Pool that sends single items, serialised by the library itself."""

    MODULE = "suitkaise.processing"

    def __init__(self, workers):
        self.pool = self.library.Pool(workers=workers)

    def call(self, function, argument):
        return self.pool.map(function, [argument])[0]

    def map(self, function, items, chunk=None):
        return self.pool.map(function, items)

    stream = map

    def end(self):
        self.pool.close()


PEERS = {
    "Pool": Pool,
    "ProcessPoolExecutor": ProcessPoolExecutor,
    "loky": Loky,
    "mpire": Mpire,
    "suitkaise": Suitkaise,
}


def echo(payload):
    return payload


def add_one(number):
    return number + 1


def hold(seconds):
    time.sleep(seconds)
    return os.getpid()


def w1(start_pool, n=5000, **_):
    pool = start_pool(1)
    payloads = contest.numbered(n, 64)
    for _ in range(WARM_UP):
        pool.call(echo, payloads[0])
    times, answers = [], []
    contest.start()
    begin = time.perf_counter()
    for payload in payloads:
        sent = time.perf_counter()
        answer = pool.call(echo, payload)
        times.append(time.perf_counter() - sent)
        answers.append(answer)
    seconds = time.perf_counter() - begin
    contest.check(answers == payloads, "an answer")
    contest.hand_in(n, seconds, **contest.latencies(times))
    pool.end()


def w2(start_pool, n=50_000, size=64, chunk=None, way="stream", **_):
    pool = start_pool(2)
    send = pool.map if way == "map" else pool.stream
    payloads = contest.numbered(n, size)
    list(send(echo, payloads[:WARM_UP], 1))
    contest.start()
    begin = time.perf_counter()
    answers = list(send(echo, payloads, chunk))
    seconds = time.perf_counter() - begin
    # Some come in any order.
    contest.check(sorted(answers) == payloads, "the answers")
    contest.hand_in(n, seconds, bytes=2 * n * size)
    pool.end()


def w4(start_pool, n=50, size=1 << 20, dir="oneway", **_):
    pool = start_pool(1)
    function = echo if dir == "rt" else len
    payload = os.urandom(size)
    right = payload if dir == "rt" else size
    for _ in range(2):
        pool.call(function, payload)
    contest.start()
    begin = time.perf_counter()
    for _ in range(n):
        contest.check(pool.call(function, payload) == right, "an answer")
    seconds = time.perf_counter() - begin
    contest.hand_in(n, seconds, bytes=n * size * (2 if dir == "rt" else 1))
    pool.end()


def w6(start_pool, n=100_000, rounds=1, chunk=None, **_):
    pool = start_pool(2)
    pool.map(add_one, range(WARM_UP), 1)
    right = list(range(1, n + 1))
    seconds = 0
    contest.start()
    for _ in range(rounds):
        begin = time.perf_counter()
        results = pool.map(add_one, range(n), chunk)
        seconds += time.perf_counter() - begin
        contest.check(results == right, "the results")
    contest.hand_in(n * rounds, seconds)
    pool.end()


def w7(start_pool, workers=8, hold_ms=500, **_):
    before = contest.resident_kib()
    contest.start()
    begin = time.perf_counter()
    pool = start_pool(workers)
    contest.check(pool.call(add_one, 1) == 2, "the first answer")
    first = time.perf_counter() - begin
    # Each task holds its worker until every other task has one; that each had its own is seen by the process ids.
    answered = pool.map(hold, [hold_ms / 1000] * workers, 1)
    all_answered = time.perf_counter() - begin - hold_ms / 1000
    contest.check(len(set(answered)) == workers, f"{len(set(answered))} of {workers} workers answered")
    contest.hand_in(
        workers,
        all_answered,
        first_ms=round(first * 1000, 3),
        all_ms=round(all_answered * 1000, 3),
        rss_kib_per_worker=round((contest.resident_kib() - before) / workers, 1),
    )
    pool.end()


if __name__ == "__main__":
    workload, chosen = contest.settings()
    peer = PEERS[chosen.pop("peer")]
    # Only this one: the others need not be installed.
    peer.library = importlib.import_module(peer.MODULE)
    {"w1": w1, "w2": w2, "w4": w4, "w6": w6, "w7": w7}[workload](peer, **chosen)
