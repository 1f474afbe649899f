#!/usr/bin/env python3
"""Tests of the Python SDK that need no parent: its codec, with `msgpack` too where that is installed, and small workers whose
handlers do what the testee has no request for. The rest is `protocol/vectors/replay.py` with `testee.py`."""
import ast
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "protocol" / "vectors")]

import replay
import stokehold_worker as sdk

CODECS = [None] + ([sdk.msgpack] if sdk.msgpack is not None else [])


class Codec(unittest.TestCase):
    def each(self, test):
        for codec in CODECS:
            with self.subTest(codec="msgpack" if codec else "own"):
                kept, sdk.msgpack = sdk.msgpack, codec
                try:
                    test()
                finally:
                    sdk.msgpack = kept

    def test_every_width_there_and_back(self):
        values = [None, True, False, 0.0, -0.0, 1.5, "", "ä", b"", b"\xff", [], {}, {"a": [{"b": None}]}]
        values += [sign * (1 << bits) + more for bits in (0, 5, 7, 8, 15, 16, 31, 32, 63) for sign in (1, -1) for more in (-1, 0)]
        values += [2**64 - 1, -2**63] + [kind * size for size in (15, 16, 31, 32, 255, 256, 65535, 65536) for kind in ("x", b"x", [1])]
        values += [{str(number): number for number in range(size)} for size in (15, 16, 65535, 65536)]

        def test():
            for value in values:
                if isinstance(value, int) and not -2**63 <= value < 2**64:
                    continue
                packed = sdk.pack(value)
                self.assertEqual(packed, replay.encode(notation(value)), value)
                found = sdk.unpack(packed)
                self.assertEqual((type(found), repr(found)), (type(value), repr(value)))
        self.each(test)

    def test_what_cannot_be_sent(self):
        deep, shared = [], []
        for _ in range(64):
            deep = [deep]
        shared += [shared, shared]  # without an end
        bad = [object(), {1: 2}, {b"a": 1}, 2**64, -2**63 - 1, "\ud800", {"\ud800": 1}, deep, shared, {1, 2}, 1j, print]
        bad += [[one] for one in bad[:6]]

        def test():
            for value in bad + ([sdk.msgpack.ExtType(1, b""), [sdk.msgpack.Timestamp(1)]] if sdk.msgpack else []):
                with self.assertRaises(ValueError):
                    sdk.pack(value)
        self.each(test)

    def test_every_vector(self):
        lines = (pathlib.Path(replay.__file__).parent / "frames.jsonl").read_text(encoding="ascii").splitlines()[1:]
        vectors = [json.loads(line) for line in lines]
        vectors = [one for one in vectors if one.get("carrier", "frames") == "frames" and one["stage"] != "frame"]
        self.assertGreater(len(vectors), 200)

        def test():
            for vector in vectors:
                body, verdict = replay.to_bytes(vector["bytes"])[8:], vector["verdict"]
                try:
                    value = sdk.unpack(body, sdk.read_head(body)[1])
                except ValueError:
                    self.assertNotEqual(verdict, "accept", vector["id"])
                    continue
                # [D-13] lets a child accept what only these forbid.
                if vector["spec"] not in ("D-4", "D-5", "D-6", "D-7") or verdict != "reject":
                    self.assertNotEqual(verdict, "reject", vector["id"])
                    self.assertEqual(sdk.pack(value), replay.encode(replay.value_of(vector["msg"][3], {})), vector["id"])
        self.each(test)

    def test_what_is_no_value(self):
        bad = ["c1", "a1", "a1ff", "91", "0101", "810101", "81c40161c0", "82a16101a16102", "d40000", "c70000", "d6ff00000000",
               "c7ff00", "91d40000", "81a161c1", "ddffffffff", "dfffffffff", "c6ffffffff", "dbffffffff", "dd00ffffff" * 50,
               "91" * 65 + "c0", "81a161" * 65 + "c0", "91" * 100000, "cf00", "cb"]

        def test():
            for digits in bad:
                with self.assertRaises(ValueError, msg=digits[:40]):
                    sdk.unpack(bytes.fromhex(digits))
            sdk.unpack(bytes.fromhex("91" * 64 + "c0"))
        self.each(test)

    def test_subclasses_travel_as_what_they_are(self):
        import collections
        import enum
        kind = enum.IntEnum("kind", "one two")
        point = collections.namedtuple("point", "x y")
        self.each(lambda: self.assertEqual(
            sdk.unpack(sdk.pack([collections.OrderedDict(a=1), kind.two, point(1, 2), (3,), bytearray(b"x")])),
            [{"a": 1}, 2, [1, 2], [3], b"x"]))

    def test_what_is_larger_than_any_frame_is_given_up_early(self):
        shared, long = [1], b"x" * 1000000
        for _ in range(40):
            shared = [shared, shared]
        keyed = {"x": 1}
        for _ in range(40):
            keyed = {"a": keyed, "b": keyed}

        class Endless(list):
            def __iter__(self):
                while True:
                    yield 1

        def test():
            for value in (shared, keyed, [long] * 1000000, {"a": ["x" * 1000000] * 1000000}, Endless()):
                with self.assertRaises(sdk.Failure) as raised:
                    sdk.pack(value, limit=2000000)
                self.assertEqual(raised.exception.code, "too_large")
        self.each(test)

    def test_the_count_is_that_of_what_is_written(self):
        class Liar(list):
            def __len__(self):
                return 20

        class LiarMap(dict):
            def __len__(self):
                return 20

        class Twice(dict):
            def items(self):
                return [("a", 1), ("a", 2)]

        class Key(str):
            __eq__ = object.__eq__
            __hash__ = object.__hash__

        def test():
            self.assertEqual(sdk.unpack(sdk.pack([Liar([1, 2])])), [[1, 2]])
            self.assertEqual(sdk.unpack(sdk.pack([LiarMap(a=1)])), [{"a": 1}])
            for value in (Twice(a=1), {Key("a"): 1, Key("a"): 2}, {Key("a"): 1, "a": 2}):
                with self.assertRaises(ValueError):
                    sdk.pack([value])
            self.assertEqual(sdk.unpack(sdk.pack({"": {"": -0.0}, "k": Key("b")})), {"": {"": 0.0}, "k": "b"})
        self.each(test)

    def test_the_syntax_is_that_of_python_3_8(self):
        for name in ("stokehold_worker.py", "testee.py", "example.py"):
            ast.parse((HERE / name).read_text(encoding="utf-8"), feature_version=(3, 8))


def notation(value):
    """A value as `replay` has it."""
    if isinstance(value, dict):
        return replay.Map((key, notation(item)) for key, item in value.items())
    return [notation(item) for item in value] if isinstance(value, list) else value


class Workers(unittest.TestCase):
    def start(self, code, **env):
        script = "import sys; sys.path.insert(0, %r); import stokehold_worker as sdk\n%s" % (str(HERE), textwrap.dedent(code))
        child = replay.Child([sys.executable, "-c", script], env)
        self.addCleanup(child.end)
        return child

    def ask(self, child, id, request, data):
        child.send(id, [request, 1234, None, notation(data)])

    def end(self, child, code=0):
        child.close_in()
        self.assertEqual(child.wait(8), code, child.said())

    def test_generators_send_items_and_return_the_answer(self):
        child = self.start("""
            def count(n):
                for number in range(n):
                    yield {"number": number}
                return "done"
            def fails(_):
                yield 1
                raise ValueError("after one")
            sdk.serve({"count": count, "fails": fails})""")
        child.open()
        self.ask(child, 1, "count", 2)
        for number in range(2):
            child.expect([[1, ["ITEM", "$pid", "$me", {"number": number}]]])
        child.expect([[1, ["FINISHED", "$pid", "$me", "done"]]])
        self.ask(child, 2, "fails", None)
        child.expect([[2, ["ITEM", "$pid", "$me", 1]]])
        child.expect([[2, ["FAILED", "$pid", "$me", {"message": "after one"}]]])
        self.end(child)

    def test_async_handlers_run_at_once_and_are_cancelled_where_they_wait(self):
        child = self.start("""
            import asyncio
            async def load():
                global gate
                gate = asyncio.Event()
            async def wait(_):
                await gate.wait()
                return "waited"
            async def open_(_):
                gate.set()
            async def items(n):
                for number in range(n):
                    await asyncio.sleep(0)
                    yield number
            async def for_ever(_):
                await asyncio.sleep(3600)
            sdk.serve({"wait": wait, "open": open_, "items": items, "for_ever": for_ever}, init=load)""")
        child.open()
        self.ask(child, 1, "wait", None)
        self.ask(child, 2, "for_ever", None)
        self.ask(child, 3, "items", 2)
        for number in range(2):
            child.expect([[3, ["ITEM", "$pid", "$me", number]]])
        child.expect([[3, ["FINISHED", "$pid", "$me", None]]])
        child.send(2, ["CANCEL", 1234, None, None])
        child.expect([[2, ["FAILED", "$pid", "$me", {"code": "cancelled"}]]])
        self.ask(child, 4, "open", None)
        both = [[1, ["FINISHED", "$pid", "$me", "waited"]], [4, ["FINISHED", "$pid", "$me", None]]]
        del both[child.expect(both)]
        child.expect(both)
        self.end(child)

    def test_a_thread_that_an_async_handler_left_behind_does_no_harm(self):
        child = self.start("""
            import asyncio, time
            async def leave(_):
                asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
            sdk.serve(leave)""")
        child.open()
        self.ask(child, 1, "DO", None)
        child.expect([[1, ["FINISHED", "$pid", "$me", None]]])
        self.end(child)

    def test_causes_and_the_trace_are_told(self):
        child = self.start("""
            def fail(_):
                try:
                    try:
                        {}["x"]
                    except KeyError as error:
                        raise OSError("no such file") from error
                except OSError as error:
                    raise RuntimeError("cannot read a.png") from error
            sdk.serve(fail)""")
        child.open()
        self.ask(child, 1, "DO", None)
        child.expect([[1, ["FAILED", "$pid", "$me", {
            "code": "error", "message": "cannot read a.png", "chain": ["no such file", "KeyError: 'x'"],
            "trace": {"$has": "in fail"}}]]])
        self.end(child)

    def test_exceptions_that_cannot_be_shown_fail_their_own_task_only(self):
        child = self.start("""
            kinds = {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit, "ValueError": ValueError}
            def fail(kind):
                class Odd(Exception):
                    def __str__(self):
                        raise kinds[kind]("no")
                raise Odd() from Odd()
            def data(kind):
                class Odd(list):
                    def __iter__(self):
                        raise kinds[kind]("no")
                raise sdk.Failure("acme.odd", "odd", data=Odd([1]))
            def cancelled(kind):
                class Odd(sdk.Cancelled):
                    def __str__(self):
                        raise kinds[kind]("no")
                raise Odd()
            def message(kind):
                class Odd:
                    def __str__(self):
                        raise kinds[kind]("no")
                failure = sdk.Failure()
                failure.message = Odd()
                raise failure
            sdk.serve({"fail": fail, "data": data, "cancelled": cancelled, "message": message})""")
        child.open()
        id = 0
        for kind in ("KeyboardInterrupt", "SystemExit", "ValueError"):
            for request, code in (("fail", "error"), ("data", "acme.odd"), ("cancelled", "cancelled"), ("message", "error")):
                id += 1
                self.ask(child, id, request, kind)
                child.expect([[id, ["FAILED", "$pid", "$me", {"code": code}]]])
        self.end(child)

    def test_results_items_and_data_that_are_too_large_are_given_up(self):
        child = self.start("""
            shared = [1]
            for _ in range(40):
                shared = [shared, shared]
            def data(_):
                raise sdk.Failure("acme.much", data=shared)
            def item(_):
                yield shared
            sdk.serve({"result": lambda _: shared, "item": item, "data": data, "echo": lambda value: value})""")
        child.open()
        for id, request, code in (1, "result", "too_large"), (2, "item", "too_large"), (3, "data", "acme.much"):
            self.ask(child, id, request, None)
            child.expect([[id, ["FAILED", "$pid", "$me", {"code": code}]]], seconds=30)
        child.send(4, ["BATCH", 1234, None, notation({"req": "result", "items": [0]})])
        child.expect([[4, ["FINISHED", "$pid", "$me", [[False, {"code": "too_large"}]]]]], seconds=30)
        self.ask(child, 5, "echo", {"": -0.0})
        child.expect([[5, ["FINISHED", "$pid", "$me", {"": -0.0}]]])
        self.end(child)

    def test_init_runs_before_ready_and_its_failures_have_exit_codes(self):
        for kind, code in (("ValueError", 1), ("sdk.Permanent", 125), ("SystemExit", 1)):
            child = self.start("""
                def load():
                    print("loading")
                    raise %s("no model")
                sdk.serve(print, init=load)""" % kind)
            child.expect([[0, ["HELLO", "$uint", "$any", {"v": 1}]]])
            self.assertEqual(child.wait(8), code)
            self.assertIn("loading", child.said())

    def test_what_was_printed_before_and_a_thread_left_behind_do_no_harm(self):
        child = self.start("""
            sdk.guard()
            print("early")
            import threading, time
            threading.Thread(target=time.sleep, args=(60,)).start()
            sdk.serve(lambda data: data)""")
        child.open()
        self.ask(child, 1, "DO", 1)
        child.expect([[1, ["FINISHED", "$pid", "$me", 1]]])
        self.end(child)
        self.assertIn("early", child.said())

    def test_tiny_tasks_share_writes_and_a_long_one_does_not_hold_their_answers(self):
        child = self.start("""
            import time
            sdk.serve(lambda data: time.sleep(data))""")
        child.open()
        self.assertEqual((child.hello.get("window"), child.hello.get("serial")), (64, True))
        for turn in range(40):
            child.write(b"".join(replay.frame_of(id, ["DO", 1234, None, 0]) for id in range(1, 33)))
            for id in range(1, 33):
                child.expect([[id, ["FINISHED", "$pid", "$me", None]]])
        child.write(b"".join(replay.frame_of(id, ["DO", 1234, None, 0 if id < 32 else 1.5]) for id in range(1, 33)))
        for id in range(1, 32):
            child.expect([[id, ["FINISHED", "$pid", "$me", None]]], seconds=1.2)
        child.expect([[32, ["FINISHED", "$pid", "$me", None]]])
        self.end(child)

    def test_results_of_a_batch_do_not_wait_for_a_long_input(self):
        child = self.start("""
            import time
            sdk.serve(lambda data: time.sleep(data))""")
        child.open()
        # The last takes longer than anything is waited for here.
        child.send(1, ["BATCH", 1234, None, notation({"req": "DO", "items": [0, 0, 60]})])
        given = 0
        while given < 2:
            wanted = [[[True, None]] * count for count in (1, 2)]
            given += 1 + child.expect([[1, ["ITEM", "$pid", "$me", results]] for results in wanted])

    def test_a_forked_copy_is_no_worker(self):
        child = self.start("""
            import os, time
            def fork(_):
                pid = os.fork()
                if pid == 0:
                    time.sleep(20)
                    os._exit(0)
                return pid
            sdk.serve(fork)""")
        child.open()
        self.ask(child, 1, "DO", None)
        child.expect([[1, ["FINISHED", "$pid", "$me", "$uint"]]])
        self.end(child)

    def test_nobody_reads_while_a_handler_runs(self):
        child = self.start("""
            import time
            sdk.serve(lambda data: time.sleep(60))""")
        child.open()
        self.ask(child, 1, "DO", None)
        child.closed_out = True
        child.close_out()
        self.assertEqual(child.wait(5), 1)
        self.assertEqual(child.said(), "")

    def test_it_says_how_to_run_it_on_a_terminal(self):
        master, slave = os.openpty()
        self.addCleanup(os.close, master)
        env = {name: value for name, value in os.environ.items() if not name.startswith("STOKEHOLD_")}
        ended = subprocess.run([sys.executable, str(HERE / "example.py")], stdin=slave, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=env, timeout=20)
        os.close(slave)
        self.assertEqual((ended.returncode, ended.stdout), (2, b""))
        self.assertIn(b"stokehold run", ended.stderr)


if __name__ == "__main__":
    unittest.main()
