#!/usr/bin/env python3
"""A Stokehold worker in Python: `stokehold run -- python3 worker.py`. The SDK is one file, `sdks/python/stokehold_worker.py`;
copy it beside a worker of your own, and the line about `sys.path` is not needed."""
import collections
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "sdks" / "python"))

from stokehold_worker import method, serve


@method("DO")
def echo(data):
    return data


@method("word_count")
def word_count(text):
    return collections.Counter(text.split())


@method("fail")
def fail(data, task):
    raise RuntimeError("attempt %d failed, as asked: %r" % (task.attempt, data))


@method("exit")
def exit_(_):
    os.kill(os.getpid(), signal.SIGKILL)


serve()
