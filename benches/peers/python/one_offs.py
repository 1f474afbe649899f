"""inparallel: a process is forked for every single task, and a thread looks for results every millisecond.

`one_offs.py w1|w2|w6 [n=… size=…]`
"""

import collections
import collections.abc
import time

import contest

# The library is of 2016; Python has moved this name since.
collections.MutableSequence = collections.abc.MutableSequence

from inparallel import task, waitfor  # noqa: E402

AT_ONCE = 2
WARM_UP = 10


@task
def echo(payload):
    return payload


@task
def add_one(number):
    return number + 1


def w1(n=300):
    payloads = contest.numbered(n, 64)
    for _ in range(WARM_UP):
        echo(payloads[0]).result()
    times, answers = [], []
    contest.start()
    begin = time.perf_counter()
    for payload in payloads:
        sent = time.perf_counter()
        answers.append(echo(payload).result())
        times.append(time.perf_counter() - sent)
    seconds = time.perf_counter() - begin
    contest.check(answers == payloads, "an answer")
    contest.hand_in(n, seconds, **contest.latencies(times))


def w2(n=300, size=64):
    payloads = contest.numbered(n, size)
    do_all(echo, payloads[:WARM_UP])
    contest.start()
    begin = time.perf_counter()
    answers = do_all(echo, payloads)
    seconds = time.perf_counter() - begin
    contest.check(answers == payloads, "the answers")
    contest.hand_in(n, seconds, bytes=2 * n * size)


def w6(n=300):
    do_all(add_one, range(WARM_UP))
    contest.start()
    begin = time.perf_counter()
    results = do_all(add_one, range(n))
    seconds = time.perf_counter() - begin
    contest.check(results == list(range(1, n + 1)), "the results")
    contest.hand_in(n, seconds)


def do_all(function, items):
    """The library's own loop: it yields a future that is done, or None when there is room for one more."""
    left, running, futures = iter(items), [], []
    for done in waitfor(running, concurrency_factor=AT_ONCE):
        if done is None:
            for item in left:
                futures.append(function(item))
                running.append(futures[-1])
                break
    return [future.result() for future in futures]


if __name__ == "__main__":
    workload, chosen = contest.settings()
    {"w1": w1, "w2": w2, "w6": w6}[workload](**chosen)
