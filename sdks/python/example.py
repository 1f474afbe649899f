#!/usr/bin/env python3
"""A worker: `printf 'a b a\\n' | stokehold run --request word_count -- python3 example.py`."""
import collections

from stokehold_worker import method, serve


@method("word_count")
def word_count(text):
    return collections.Counter(text.split())


serve()
