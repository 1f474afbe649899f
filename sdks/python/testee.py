#!/usr/bin/env python3
"""A worker that does everything a worker can do, for tests of this SDK. `--async`: with `async def` handlers; `--pure`:
with the codec of the SDK also where `msgpack` is installed."""
import os
import subprocess
import sys
import time

import stokehold_worker
from stokehold_worker import Failure, method


def number(asked, key):
    if not isinstance(asked, dict) or not isinstance(asked.get(key), int):
        raise Failure("bad_data", "a map with the number %r is wanted" % key)
    return asked[key]


@method("DO")
@method("test.echo")
def echo(value):
    return value


@method("test.fail")
def fail(asked):
    asked = asked or {}
    raise Failure(asked.get("code", "error"), asked.get("message", ""), retry=asked.get("retry", False),
                  after_ms=asked.get("after_ms"), data=asked.get("data"))


@method("test.raise")
def raise_(text):
    raise RuntimeError(text)


@method("test.bad_result")
def bad_result(_):
    return object()


@method("test.sleep")
def sleep(asked, task):
    end = time.monotonic() + number(asked, "ms") / 1000
    while time.monotonic() < end:
        task.check_cancelled()
        time.sleep(min(0.01, max(0, end - time.monotonic())))
    return asked["ms"]


@method("test.spin")
def spin(asked):
    end = time.monotonic() + number(asked, "ms") / 1000
    while time.monotonic() < end:
        pass
    return asked["ms"]


@method("test.items")
def items(asked):
    for place in range(number(asked, "n")):
        yield place if asked.get("size") is None else b"a" * asked["size"]
    return asked["n"]


@method("test.big")
def big(asked):
    return b"a" * number(asked, "bytes")


@method("test.print")
def print_(asked):
    if asked["how"] == "print":
        print(asked["text"])
    elif asked["how"] == "raw":
        os.write(1, (asked["text"] + "\n").encode())
    else:
        # Not as an argument: the text may have anything in it.
        subprocess.run(["cat"], input=(asked["text"] + "\n").encode(), check=True)


@method("test.stdin")
def stdin(asked):
    if asked["how"] == "read":
        return len(sys.stdin.read())
    return len(subprocess.run(["cat"], stdout=subprocess.PIPE, check=True).stdout)


@method("test.spawn")
def spawn(asked):
    return subprocess.Popen(["sleep", str(number(asked, "ms") / 1000)]).pid


@method("test.exit")
def exit_(asked):
    os._exit(number(asked, "code"))


@method("test.log")
def log(asked, task):
    task.log(asked["level"], asked["msg"])


@method("test.progress")
def progress(asked, task):
    for done in range(1, number(asked, "n") + 1):
        task.progress(done, asked["n"])


@method("test.meta")
def meta(_, task):
    left = task.time_left()
    return {"attempt": task.attempt, "key": task.key, "deadline_ms": None if left is None else round(left * 1000)}


@method("test.env")
def env(_):
    return [name for name in os.environ if name.startswith("STOKEHOLD_")]


@method("test.pid")
def pid(_):
    return {"pid": os.getpid()}


if "--async" in sys.argv:
    import asyncio

    @method("test.sleep")
    async def sleep_async(asked):
        await asyncio.sleep(number(asked, "ms") / 1000)
        return asked["ms"]

    @method("test.echo")
    async def echo_async(value):
        return value

if "--pure" in sys.argv:
    stokehold_worker.msgpack = None

stokehold_worker.serve()
