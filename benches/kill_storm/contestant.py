"""One Python pool under the storm: 400 tasks of 10 ms on 2 workers, settings as documented, one line for each outcome.

`contestant.py NAME`. Warms up, says `start` and submits, then `I done` or `I failed WHY` for task I, then `end`
when the pool is closed. Retries nothing, kills nothing, and gives up waiting after 60 s; compare.py
does the rest.
"""

import os
import sys
import time

TASKS = 400
WORKERS = 2
TASK_SECONDS = 0.010
# Before the storm, so that slow starters meet it with all their workers.
WARM_UP_TASKS = 8
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.005


def nap(number):
    time.sleep(TASK_SECONDS)
    return number


def multiprocessing_pool():
    from multiprocessing import Pool

    return Pool(WORKERS), lambda pool, i: pool.apply_async(nap, (i,)), async_result


def process_pool_executor():
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(WORKERS), lambda pool, i: pool.submit(nap, i), future


def loky():
    from loky import get_reusable_executor

    return get_reusable_executor(max_workers=WORKERS), lambda pool, i: pool.submit(nap, i), future


def mpire():
    from mpire import WorkerPool

    return WorkerPool(n_jobs=WORKERS), lambda pool, i: pool.apply_async(nap, (i,)), async_result


def pebble():
    from pebble import ProcessPool

    return ProcessPool(max_workers=WORKERS), lambda pool, i: pool.schedule(nap, args=(i,)), future


def billiard():
    from billiard import Pool

    return Pool(WORKERS), lambda pool, i: pool.apply_async(nap, (i,)), async_result


POOLS = {
    "multiprocessing.Pool": multiprocessing_pool,
    "ProcessPoolExecutor": process_pool_executor,
    "loky": loky,
    "mpire": mpire,
    "Pebble": pebble,
    "billiard": billiard,
}


def async_result(handle):
    return (lambda: handle.get(timeout=1)) if handle.ready() else None


def future(handle):
    return (lambda: handle.result(timeout=1)) if handle.done() else None


def tell(text):
    # Past Python's buffers, which a forked worker would inherit.
    os.write(1, (text + "\n").encode())


def outcome(number, result):
    """The line for a task that has ended; a submit that failed counts as one."""
    try:
        return f"{number} done" if result() == number else f"{number} failed WrongResult"
    except BaseException as error:  # whatever a pool may raise is an outcome
        return f"{number} failed {type(error).__name__}"


def warm_up(pool, submit, ended):
    handles = {number: submit(pool, number) for number in range(WARM_UP_TASKS)}
    wait_for_all(handles, ended, tell=lambda text: None)


def submit_all(pool, submit):
    handles = {}
    for number in range(TASKS):
        try:
            handles[number] = submit(pool, number)
        except Exception as error:
            tell(f"{number} failed {type(error).__name__}")
    return handles


def wait_for_all(handles, ended, tell=tell):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while handles and time.monotonic() < deadline:
        for number, handle in list(handles.items()):
            result = ended(handle)
            if result:
                tell(outcome(number, result))
                del handles[number]
        time.sleep(LOOK_SECONDS)


def main():
    pool, submit, ended = POOLS[sys.argv[1]]()
    with pool:
        warm_up(pool, submit, ended)
        tell("start")
        wait_for_all(submit_all(pool, submit), ended)
    tell("end")


if __name__ == "__main__":
    main()
