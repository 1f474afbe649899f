#!/usr/bin/env python3
"""Writes frames.jsonl, the test vectors for frames and for lines of text mode. Python's standard library only; the same output
every time.

It has an encoder of its own, so that the vectors do not depend on the library they test. See README.md for the format.
"""

import json
import pathlib
import struct

MAX_FRAME = 0x00FFFFFF
CEILING = 0x07FFFFFF
LARGEST_ADDRESS = 2**53 - 1


# --- MessagePack, the shortest form of every value -----------------------------------------------------------------------

def shortest_int(n):
    if n >= 0:
        for limit, mark, form in ((0x7F, None, ">B"), (0xFF, 0xCC, ">B"), (0xFFFF, 0xCD, ">H"), (0xFFFFFFFF, 0xCE, ">I")):
            if n <= limit:
                return (b"" if mark is None else bytes([mark])) + struct.pack(form, n)
        return b"\xcf" + struct.pack(">Q", n)
    for limit, mark, form in ((-32, None, ">b"), (-(2**7), 0xD0, ">b"), (-(2**15), 0xD1, ">h"), (-(2**31), 0xD2, ">i")):
        if n >= limit:
            return (b"" if mark is None else bytes([mark])) + struct.pack(form, n)
    return b"\xd3" + struct.pack(">q", n)


def counted(n, fix, fix_limit, marks):
    """The mark of something with a length: fix form up to fix_limit, then 8, 16 or 32 bits as far as marks go."""
    if fix is not None and n <= fix_limit:
        return bytes([fix | n])
    for width, form, limit in ((8, ">B", 0xFF), (16, ">H", 0xFFFF), (32, ">I", 0xFFFFFFFF)):
        if width in marks and n <= limit:
            return bytes([marks[width]]) + struct.pack(form, n)
    raise ValueError(n)


STR_MARKS = {8: 0xD9, 16: 0xDA, 32: 0xDB}
BIN_MARKS = {8: 0xC4, 16: 0xC5, 32: 0xC6}
ARRAY_MARKS = {16: 0xDC, 32: 0xDD}
MAP_MARKS = {16: 0xDE, 32: 0xDF}


class F64:
    """A float by its bits, because NaN and -0.0 are more than one value."""

    def __init__(self, bits):
        self.bits = bits


class Run:
    """A long text or byte string: `unit`, `count` times."""

    def __init__(self, unit, count):
        self.unit, self.count = unit, count

    def __len__(self):
        return len(self.unit if isinstance(self.unit, bytes) else self.unit.encode()) * self.count


class Pairs:
    """A map by its pairs, because JSON has no order and no two equal keys."""

    def __init__(self, *pairs):
        self.pairs = pairs


def pack(value):
    """The shortest form, as a list of byte strings and Runs."""
    if value is None:
        return [b"\xc0"]
    if value is True or value is False:
        return [b"\xc3" if value else b"\xc2"]
    if isinstance(value, int):
        return [shortest_int(value)]
    if isinstance(value, F64):
        return [b"\xcb" + struct.pack(">Q", value.bits)]
    if isinstance(value, str):
        text = value.encode()
        return [counted(len(text), 0xA0, 31, STR_MARKS) + text]
    if isinstance(value, bytes):
        return [counted(len(value), None, 0, BIN_MARKS) + value]
    if isinstance(value, Run):
        if isinstance(value.unit, bytes):
            return [counted(len(value), None, 0, BIN_MARKS), value]
        return [counted(len(value), 0xA0, 31, STR_MARKS), value]
    if isinstance(value, list):
        return [counted(len(value), 0x90, 15, ARRAY_MARKS)] + [part for item in value for part in pack(item)]
    if isinstance(value, Pairs):
        parts = [counted(len(value.pairs), 0x80, 15, MAP_MARKS)]
        return parts + [part for key, item in value.pairs for part in pack(key) + pack(item)]
    raise TypeError(value)


# --- Values as JSON ------------------------------------------------------------------------------------------------------

def as_json(value):
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST_ADDRESS else {"$int": str(value)}
    if isinstance(value, F64):
        return {"$f64": f"{value.bits:016x}"}
    if isinstance(value, bytes):
        return {"$bin": value.hex()}
    if isinstance(value, Run):
        if isinstance(value.unit, bytes):
            return {"$bin": [value.unit.hex(), value.count]}
        return {"$str": [value.unit.encode().hex(), value.count]}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    if isinstance(value, Pairs):
        return {"$map": [[as_json(key), as_json(item)] for key, item in value.pairs]}
    return value


def merged(parts):
    """Neighbouring byte strings in one."""
    out = []
    for part in parts:
        if isinstance(part, (bytes, bytearray)) and out and isinstance(out[-1], bytes):
            out[-1] += bytes(part)
        elif len(part):
            out.append(part)
    return out


def bytes_json(parts):
    def one(part):
        if isinstance(part, Run):
            unit = part.unit if isinstance(part.unit, bytes) else part.unit.encode()
            return {"repeat": [unit.hex(), part.count]}
        return part.hex()

    parts = [one(part) for part in merged(parts)]
    if not parts:
        return ""
    return parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts


# --- The vectors ---------------------------------------------------------------------------------------------------------

vectors = []
numbers = {}


def add(case, verdict, stage, parts, why, spec, **more):
    numbers[case] = numbers.get(case, 0) + 1
    vector = {"id": f"{case}.{numbers[case]}", "verdict": verdict, "stage": stage, "bytes": bytes_json(parts)}
    vector.update(more)
    vector["why"] = why
    vector["spec"] = spec
    vectors.append(vector)


def frame(parts, task=7):
    return [struct.pack(">II", 4 + sum(len(part) for part in parts), task)] + parts


def accept(case, msg, why, spec, task=7, parts=None, verdict="accept", **more):
    """A good frame of `msg`; `parts` is its body when it is not the shortest form."""
    shortest = merged(pack(msg))
    body = shortest if parts is None else merged(parts)
    same = bytes_json(shortest) == bytes_json(body)
    add(case, verdict, "data", frame(body, task), why, spec, task=task, msg=as_json(msg), canonical=same, **more)


def data_in(case, value, why, spec, raw=None):
    """A good frame whose data is `value`, encoded as `raw` when that is not the shortest form."""
    head = [b"\x94", *pack("DO"), *pack(1), *pack(None)]
    accept(case, ["DO", 1, None, value], why, spec, parts=None if raw is None else head + [raw])


def bad_head(case, body, why, spec, stricter, task=7):
    add(case, "reject", "head", frame([body], task), why, spec, task=task, error="bad_message", stricter=stricter)


def bad_data(case, data, why, spec, stricter, runs=()):
    head = b"\x94\xa2DO\x01\xc0"
    add(case, "reject", "data", frame([head + data, *runs]), why, spec, task=7, error="bad_data", stricter=stricter)


def bad_frame(case, parts, error, why, spec, **more):
    add(case, "reject", "frame", parts, why, spec, error=error, **more)


def session_messages():
    accept("F1", ["DO", 1234, 12345, Pairs(("value", 20))], "the example of the specification", "M-1")
    accept("F1", ["FINISHED", 12345, 1234, Pairs(("value", 6765))], "an answer", "M-1")
    hello = Pairs(("v", 1), ("window", 2), ("caps", ["meta"]), ("max_frame", MAX_FRAME), ("serial", True),
                  ("sdk", "python/1"), ("ready", False))
    accept("H1", ["HELLO", 12345, None, hello], "a child's HELLO", "F-3", task=0)
    accept("H1", ["HELLO", 0, None, Pairs(("v", 1))], "the smallest HELLO", "M-9", task=0)
    parent = Pairs(("v", 1), ("pid", 12345), ("parent", 1234), ("caps", []), ("max_frame", MAX_FRAME))
    accept("H6", ["HELLO", 1234, 12345, parent], "a parent's HELLO", "F-13", task=0)
    accept("H6", ["HELLO", 1234, 12345, Pairs(("v", 1), ("x-new", [Pairs(("a", None))]), ("caps", ["teleport"]))],
           "unknown keys and capabilities", "D-17", task=0)
    accept("H2", ["READY", 12345, None, None], "READY", "M-1", task=0)
    accept("L3", ["DIE", 1234, 12345, None], "DIE", "M-1", task=0)
    accept("L3", ["BYE", 12345, 1234, Pairs(("done", 3), ("failed", 0))], "BYE", "M-1", task=0)
    failure = Pairs(("code", "error"), ("message", "cannot read a.png"), ("retry", True), ("chain", ["no such file"]))
    accept("E1", ["FAILED", 12345, 1234, failure], "FAILED", "E-1")
    accept("E1", ["FAILED", 12345, 1234, "just words"], "FAILED with data that is no map", "E-5")
    accept("W6", ["ITEM", 12345, 1234, [1, 2, 3]], "ITEM", "R-24")
    accept("B1", ["BATCH", 1234, 12345, Pairs(("req", "half"), ("items", [20, 22, "x"]))], "a BATCH of three", "B-2")
    accept("B1", ["BATCH", 1234, 12345, Pairs(("items", [None]), ("x-new", []), ("req", "DO"))],
           "a BATCH of one, its keys in another order and one of a later version", "D-17")
    accept("B1", ["BATCH", 1234, 12345, Pairs(("req", "DO"), ("items", list(range(16))))], "a BATCH of 16", "B-2")
    accept("B2", ["ITEM", 12345, 1234, [[True, 10], [True, 11]]], "the first results of a BATCH", "B-3")
    accept("B2", ["FINISHED", 12345, 1234, [[False, Pairs(("code", "bad_data"))]]], "its last one, which failed", "B-2")
    accept("B2", ["FINISHED", 12345, 1234, []], "a BATCH all of whose results came before", "B-3")
    accept("X6", ["FUTURE_REQUEST_2", 1234, 12345, None], "an ALL-CAPS name of a later version", "R-9")
    accept("X1", ["acme.score", 1234, 12345, "x"], "a user request with a dot", "R-12")
    accept("X1", ["größe ändern", 1234, 12345, "x"], "a user request that is not ASCII", "M-3")
    accept("X1", ["\0", 1234, 12345, None], "a request of one NUL byte: odd, and UTF-8", "M-3")


def ids_and_addresses():
    for task in (0, 1, 2**31 - 1, 2**31, 2**32 - 1):
        accept("F8", ["DO", 1, None, None], f"id {task}", "R-2", task=task)
    for address in (1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, LARGEST_ADDRESS):
        accept("F9", ["DO", address, address, None], f"sender and recipient {address}, shortest width", "M-8")
    accept("F9", ["DO", 0, None, None], "sender 0: not given", "M-9")
    accept("F10", ["DO", 1, None, 5], "recipient nil", "M-5")
    accept("F10", ["note", 1, -1, 5], "recipient -1 with id 0", "M-12", task=0)
    accept("F10", ["DO", 1, -1, 5], "recipient -1 with an id: forbidden to write, no reader has to notice", "M-12",
           verdict="either")


UNSIGNED = (("positive fixint", b"\x05"), ("uint 8", b"\xcc\x05"), ("uint 16", b"\xcd\x00\x05"),
            ("uint 32", b"\xce\x00\x00\x00\x05"), ("uint 64", b"\xcf" + bytes(7) + b"\x05"),
            ("int 8", b"\xd0\x05"), ("int 16", b"\xd1\x00\x05"), ("int 32", b"\xd2\x00\x00\x00\x05"),
            ("int 64", b"\xd3" + bytes(7) + b"\x05"))
MINUS_ONE = (("negative fixint", b"\xff"), ("int 8", b"\xd0\xff"), ("int 16", b"\xd1\xff\xff"),
             ("int 32", b"\xd2" + b"\xff" * 4), ("int 64", b"\xd3" + b"\xff" * 8))


def head_widths():
    for name, mark in (("array 16", b"\xdc\x00\x04"), ("array 32", b"\xdd\x00\x00\x00\x04")):
        accept("F9", ["DO", 1, None, None], f"the message as {name}", "M-7", parts=[mark, b"\xa2DO\x01\xc0\xc0"])
    for name, mark in (("str 8", b"\xd9\x02"), ("str 16", b"\xda\x00\x02"), ("str 32", b"\xdb\x00\x00\x00\x02")):
        accept("F9", ["DO", 1, None, None], f"the request as {name}", "M-7", parts=[b"\x94", mark, b"DO\x01\xc0\xc0"])
    for name, mark in UNSIGNED[1:]:
        accept("F9", ["DO", 5, None, None], f"the sender as {name}", "M-7", parts=[b"\x94\xa2DO", mark, b"\xc0\xc0"])
        accept("F9", ["DO", 1, 5, None], f"the recipient as {name}", "M-7", parts=[b"\x94\xa2DO\x01", mark, b"\xc0"])
    for name, mark in MINUS_ONE[1:]:
        accept("F9", ["note", 1, -1, None], f"recipient -1 as {name}", "M-7", task=0,
               parts=[b"\x94\xa4note\x01", mark, b"\xc0"])
    widest = b"\xdd\x00\x00\x00\x04\xdb\x00\x00\x00\xff" + b"x" * 255 + UNSIGNED[4][1] + UNSIGNED[8][1]
    accept("F9", ["x" * 255, 5, 5, None], "everything as wide as it can be", "M-7", parts=[widest, b"\xc0"])
    for length in (1, 31, 32, 255):
        accept("X8", ["r" * length, 1, None, None], f"a request of {length} bytes", "M-3")


def bad_heads():
    bad_head("X9", b"\x94\xa0\x01\xc0\xc0", "an empty request", "M-3", True)
    bad_head("X8", b"\x94\xda\x01\x00" + b"r" * 256 + b"\x01\xc0\xc0", "a request of 256 bytes", "M-3", True)
    for data, name in ((b"\x01", "an integer"), (b"\xc0", "nil"), (b"\xc4\x02DO", "a byte string"), (b"\x90", "an array"),
                       (b"\xc3", "true")):
        bad_head("F13", b"\x94" + data + b"\x01\xc0\xc0", f"the request is {name}", "M-3", True)
    bad_head("F22", b"\x94\xa2\xff\xfe\x01\xc0\xc0", "the request is not UTF-8", "M-3", False)
    bad_head("F22", b"\x94\xa3\xed\xa0\x80\x01\xc0\xc0", "the request holds a surrogate", "M-3", False)
    for data, name in ((b"\xff", "-1"), (b"\xc0", "nil"), (b"\xa11", "a text"), (b"\xc3", "true"),
                       (b"\xcb" + struct.pack(">d", 1.0), "a float"), (b"\xcf" + struct.pack(">Q", 2**53), "2^53"),
                       (b"\xd3" + struct.pack(">q", -(2**63)), "-2^63"), (b"\xcf" + b"\xff" * 8, "2^64 - 1")):
        bad_head("F9", b"\x94\xa2DO" + data + b"\xc0\xc0", f"the sender is {name}", "M-4", True)
    for data, name in ((b"\x00", "0"), (b"\xd0\x00", "0 as int 8"), (b"\xfe", "-2"), (b"\xd1\xff\x00", "-256"),
                       (b"\xcf" + struct.pack(">Q", 2**53), "2^53"), (b"\xcb" + struct.pack(">d", -1.0), "the float -1.0"),
                       (b"\xc2", "false"), (b"\xa0", "a text"), (b"\x93\x01\x02\x03", "an array [node, pid, generation]"),
                       (b"\x80", "a map")):
        bad_head("F10", b"\x94\xa2DO\x01" + data + b"\xc0", f"the recipient is {name}", "M-5", True)
    bad_head("F13", b"\x93\xa2DO\x01\xc0", "three fields", "M-2", True)
    bad_head("F13", b"\xdc\x00\x03\xa2DO\x01\xc0", "three fields as array 16", "M-2", True)
    bad_head("F13", b"\x90", "no field", "M-2", True)
    bad_head("F14", b"\x95\xa2DO\x01\xc0\xc0\xc0", "five fields", "M-2", True)
    bad_head("F14", b"\xdd\xff\xff\xff\xff\xa2DO\x01\xc0\xc0", "four billion fields", "M-2", False)
    for body, name in ((b"\xc0", "nil"), (b"\x84\xa1a\x01\xa1b\x01\xa1c\x01\xa1d\x01", "a map of four"), (b"\xa2DO", "a text"),
                       (b"\x07", "an integer"), (b"\xc4\x01a", "a byte string")):
        bad_head("F13", body, f"the body is {name}", "M-2", True)
    bad_head("F13", b"{", "the body is the integer 123, or a curly bracket", "M-2", True)
    bad_head("F16", b"\xc1", "the body is the byte c1", "M-2", False)
    bad_head("F16", b"\x94\xc1\x01\xc0\xc0", "the request is the byte c1", "M-3", False)
    bad_head("F24", b"\xd4\x05\x00", "the body is an extension type", "M-2", True)
    bad_head("F24", b"\x94\xd4\x05\x00\x01\xc0\xc0", "the request is an extension type", "M-3", True)
    bad_head("F24", b"\x94\xa2DO\xd4\x05\x00\xc0\xc0", "the sender is an extension type", "M-4", True)
    bad_head("F19", b"\x94\xdb\xff\xff\xff\xffDO\x01\xc0\xc0", "a request that says it has 4 GiB", "M-6", False)
    head = b"\x94\xa2DO\xcd\x04\xd2\xcd\x30\x39"
    for cut in range(1, len(head) + 1):
        bad_head("F17", head[:cut], f"the body ends after {cut} bytes, before its data", "M-6", False)
    bad_head("F13", b"\xc0", "a bad body with id 0", "M-13", True, task=0)


def lengths():
    for length in range(5):
        why = f"len {length}: no frame is that short"
        bad_frame("F11", [struct.pack(">II", length, 7) + b"\xc0" * length], "desync", why, "F-5")
    bad_head("F11", b"\x80", "len 5, the shortest frame there is: a frame, and no message", "M-2", True)
    for length in (CEILING + 1, 0x0FFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        bad_frame("F12", [struct.pack(">II", length, 7)], "desync", f"len {length:#010x}", "F-5")
    for text in (b"Hello, world\n", b"Traceback (most recent call last):\n", b'{"id": 7}\n', b"\n\n\n\n",
                 b"\x1b[31mred\x1b[0m", b"\xef\xbb\xbfHELLO", "日本語\n".encode(), b"[INFO] ready\n", b"0 [\"HELLO\",1,null,{}]\n"):
        bad_frame("S6", [text], "desync", f"text: {text.decode(errors='replace')!r}", "F-5")
    bad_frame("S6", [b"\x1f\x8b\x08\x00\x00\x00\x00\x00"], "desync", "the beginning of a gzip file", "F-5")
    bad_frame("S6", [b"\x7fELF\x02\x01\x01\x00"], "desync", "the beginning of a program", "F-5")

    def bin_of(length_field):
        """The parts of a body of exactly that len: a byte string fills it."""
        head = b"\x94\xa2DO\x01\xc0"
        size = length_field - 4 - len(head) - 5
        return [head + b"\xc6" + struct.pack(">I", size), Run(b"\x2a", size)], size

    for limit, spec in ((MAX_FRAME, "F-1"), (65536, "F-12")):
        _, size = bin_of(limit)
        more = {} if limit == MAX_FRAME else {"max_frame": limit}
        value = Run(b"\x2a", size)
        if size > 0xFFFF:
            accept("F6", ["DO", 1, None, value], f"len {limit}, exactly max_frame", spec, **more)
        else:
            accept("F6", ["DO", 1, None, value], f"len {limit}, exactly max_frame", spec, parts=bin_of(limit)[0], **more)
        parts, _ = bin_of(limit + 1)
        bad_frame("F6", frame(parts), "too_large", f"len {limit + 1}, one more than max_frame", "F-8", task=7, **more)
    parts, _ = bin_of(CEILING)
    header = struct.pack(">II", CEILING, 7)
    bad_frame("F12", [header, parts[0], Run(b"\x2a", 1000)], "too_large",
              "len 0x07ffffff, the largest there may be; the rest has not come", "F-8", task=7, partial=True)


def truncations():
    whole = b"".join(frame(pack(["DO", 1234, 12345, Pairs(("value", 20))])))
    for cut in range(1, len(whole)):
        bad_frame("F4", [whole[:cut]], "truncated", f"the stream ends after {cut} of {len(whole)} bytes", "F-4")
    bad_frame("F17", [struct.pack(">II", MAX_FRAME, 7) + b"\x94\xa2DO"], "truncated",
              "a header of 16 MiB, then 4 bytes and the end: no memory for what has not come", "F-11")


def data_rules():
    for depth in (2, 63, 64):
        value = []
        for level in range(depth - 1):
            value = [value] if level % 8 else Pairs(("k", value))
        data_in("F18", value, f"arrays and maps {depth} deep", "D-2")
    data_in("F18", [[] for _ in range(70)], "70 arrays side by side are 2 deep", "D-2")
    bad_data("F18", b"\x91" * 64 + b"\x90", "arrays 65 deep", "D-2", True)
    bad_data("F18", b"\x81\xa1k" * 64 + b"\x80", "maps 65 deep", "D-2", True)
    bad_data("F18", b"", "arrays 100,000 deep", "D-2", True, runs=[Run(b"\x91", 100_000), b"\xc0"])
    bad_data("F18", b"", "maps 100,000 deep", "D-2", True, runs=[Run(b"\x81\xa0", 100_000), b"\xc0"])
    for rest, name in ((b"\xc0\xc0", "nil, then nil"), (b"\x01\xc1", "an integer, then c1"), (b"\x90\xa0", "an array, then a text"),
                       (b"\x81\xa1a\x01\x00", "a map, then 0"), (b"\xa1a\n", "a text, then a line end")):
        bad_data("F15", rest, f"data is {name}", "D-1", False)
    for data, name in ((b"\xc1", "the byte c1"), (b"\x92\x01\xc1", "an array with c1"), (b"\x81\xa1a\xc1", "a map with c1")):
        bad_data("F16", data, name, "D-7", False)
    for data, name in ((b"\x82\xa1a\x01\xa1b", "map"), (b"\x93\x01\x02", "array"), (b"\xa3ab", "text"), (b"\xc4\x03ab", "byte string"),
                       (b"\xcb\x00\x00", "float"), (b"\xce\x00", "integer"), (b"\xda\x00", "length of a text"),
                       (b"\x81\xa1a", "map after its key"), (b"\xdf\x00\x00", "count of a map")):
        bad_data("F17", data, f"the data ends inside a {name}", "D-1", False)
    for mark, name in ((b"\xdd", "array"), (b"\xdf", "map"), (b"\xdb", "text"), (b"\xc6", "byte string")):
        bad_data("F19", mark + b"\xff\xff\xff\xff", f"four billion of {name}, and nothing", "D-9", False)
        bad_data("F19", b"\x91" + mark + b"\x7f\xff\xff\xff\xa1a\x01", f"two billion of {name} inside an array", "D-9", False)
    for text, name in ((b"\xa1\xff", "ff"), (b"\xa1\x80", "a lone continuation byte"), (b"\xa2\xc0\x80", "NUL in two bytes"),
                       (b"\xa3\xed\xa0\x80", "a surrogate"), (b"\xa2\xc3\x28", "a broken sequence"), (b"\xa1\xc3", "half a character"),
                       (b"\xa4\xf4\x90\x80\x80", "a number above U+10FFFF"), (b"\x81\xa1\xff\x01", "a key that is ff")):
        bad_data("F22", text, f"a text with {name}", "D-3", False)
    bad_data("F23", b"\x82\xa1a\x01\xa1a\x02", "a key twice", "D-5", True)
    bad_data("F23", b"\x82\xa1a\x01\xd9\x01a\x02", "a key twice, in two widths", "D-5", True)
    bad_data("F23", b"\x91\x83\xa1a\x01\xa1b\x81\xa1a\x02\xa1a\x03", "a key twice, around a map", "D-5", True)
    for key, name in ((b"\x01", "an integer"), (b"\xff", "-1"), (b"\xc0", "nil"), (b"\xc3", "true"), (b"\xc4\x01a", "a byte string"),
                      (b"\xcb" + struct.pack(">d", 1.5), "a float")):
        bad_data("F23", b"\x81" + key + b"\x01", f"a map key is {name}", "D-4", True)
    bad_data("F23", b"\x81\x91\x01\x01", "a map key is an array", "D-4", True)
    for size, mark in ((1, b"\xd4"), (2, b"\xd5"), (4, b"\xd6"), (8, b"\xd7"), (16, b"\xd8")):
        bad_data("F24", mark + b"\x05" + bytes(size), f"fixext {size}", "D-6", True)
    for mark, length in ((b"\xc7", b"\x01"), (b"\xc8", b"\x00\x01"), (b"\xc9", b"\x00\x00\x00\x01")):
        bad_data("F24", mark + length + b"\x05\x00", f"ext {8 * len(length)}", "D-6", True)
    bad_data("F24", b"\xd6\xff\x00\x00\x00\x01", "the time stamp extension", "D-6", True)


def scalars():
    for value in (None, True, False):
        data_in("F20", value, repr(value), "D-1")
    for value in (0, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1,
                  2**63, 2**64 - 1, -1, -32, -33, -128, -129, -(2**15), -(2**15) - 1, -(2**31), -(2**31) - 1, -(2**53) - 1,
                  -(2**63)):
        data_in("F20", value, f"integer {value}", "D-8")
    for value, raw in ((1, UNSIGNED[4][1][:8] + b"\x01"), (1, b"\xd3" + bytes(7) + b"\x01"), (-1, MINUS_ONE[4][1]),
                       (-1, MINUS_ONE[1][1]), (127, b"\xcc\x7f"), (200, b"\xd1\x00\xc8")):
        data_in("F20", value, f"integer {value} in a wide form", "D-8", raw=raw)
    for bits, name in ((0x3FF0000000000000, "1.0 stays a float"), (0x3FB999999999999A, "0.1"), (0x0000000000000001, "the smallest"),
                       (0x7FEFFFFFFFFFFFFF, "the largest"), (0x0000000000000000, "0.0")):
        data_in("F21", F64(bits), f"float: {name}", "D-8")
    for bits, name in ((0x7FF8000000000000, "NaN"), (0xFFF8000000000001, "another NaN"), (0x7FF0000000000000, "infinity"),
                       (0xFFF0000000000000, "-infinity"), (0x8000000000000000, "-0.0")):
        data_in("F25", F64(bits), f"float: {name}", "D-10")
    data_in("F25", F64(0x3FF8000000000000), "1.5 in 32 bits", "D-8", raw=b"\xca" + struct.pack(">f", 1.5))
    data_in("F25", F64(0x7FF0000000000000), "infinity in 32 bits", "D-10", raw=b"\xca\x7f\x80\x00\x00")
    data_in("F25", F64(0x8000000000000000), "-0.0 in 32 bits", "D-10", raw=b"\xca\x80\x00\x00\x00")
    for text in ("", "a", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "nul \0 inside", "emoji 🦀", "\ufeff", "\uffff"):
        data_in("F20", text, f"text of {len(text.encode())} bytes", "D-3")
    for value in (b"", b"\x00", b"\xc1\xff", b"x" * 255, b"x" * 256):
        data_in("F20", value, f"byte string of {len(value)} bytes", "D-8")
    data_in("F20", Run("x", 65535), "text of 65,535 bytes", "D-8")
    data_in("F20", Run("ä", 32768), "text of 65,536 bytes", "D-8")
    data_in("F5", Run(b"\x00", 65536), "byte string of 64 KiB", "D-8")
    data_in("F5", Run(b"\xff", 2**20), "byte string of 1 MiB", "D-8")
    data_in("F20", "a", "a text as str 32", "D-8", raw=b"\xdb\x00\x00\x00\x01a")
    data_in("F20", b"a", "a byte string as bin 32", "D-8", raw=b"\xc6\x00\x00\x00\x01a")
    for value in ([], [1, "a", None], list(range(15)), list(range(16))):
        data_in("F20", value, f"array of {len(value)}", "D-8")
    data_in("F20", [1], "an array of one as array 32", "D-8", raw=b"\xdd\x00\x00\x00\x01\x01")
    data_in("F20", Pairs(("a", 1)), "a map of one as map 32", "D-8", raw=b"\xdf\x00\x00\x00\x01\xa1a\x01")
    data_in("F20", Pairs(("b", 1), ("a", 2), ("", 3)), "map keys in no order, one empty", "D-4")
    data_in("F20", Pairs(*((f"k{n}", n) for n in range(16))), "a map of 16", "D-8")
    data_in("F20", Pairs(("", 1)), "a map whose only key is empty", "D-4")
    data_in("F23", Pairs(("a", Pairs(("a", 1))), ("b", Pairs(("a", 2)))), "equal keys in different maps", "D-5")
    data_in("F23", Pairs(("ä", 1), ("a\u0308", 2)), "two keys that look alike and are not equal", "D-5")
    data_in("F23", Pairs(("$int", "5")), "a map that looks like a tag of this file", "D-4")


# --- Text mode: lines as they stand, written by hand ---------------------------------------------------------------------

def line(case, verdict, stage, text, why, spec, end="\n", **more):
    """A line: a text, or a list of texts, byte strings and Runs."""
    parts = [part.encode() if isinstance(part, str) else part for part in ([text] if isinstance(text, str) else text)]
    add(case, verdict, stage, [*parts, end.encode()], why, spec, carrier="text", **more)


def good_line(case, text, msg, why, spec, task=7, canonical=True, verdict="accept", **more):
    line(case, verdict, "data", text, why, spec, task=task, msg=as_json(msg), canonical=canonical, **more)


DO = '7 ["DO",1234,12345,'


def data_line(case, text, value, why, spec, **more):
    """A good line whose fourth field is `text`, which means `value`."""
    parts = [text] if isinstance(text, str) else text
    good_line(case, [DO, *parts, "]"], ["DO", 1234, 12345, value], why, spec, **more)


def bad_line(case, text, why, spec, stricter, task=7, **more):
    line(case, "reject", "head", text, why, spec, task=task, error="bad_message", stricter=stricter, **more)


def bad_data_line(case, text, why, spec, **more):
    line(case, "reject", "data", [DO, *([text] if isinstance(text, str) else text), "]"], why, spec, task=7, error="bad_data",
         stricter=True, **more)


def text_messages():
    hello = ["HELLO", 0, None, Pairs(("v", 1))]
    # Only a child may leave out the id, and only a parent must read what children cut off at.
    child = {"reader": "parent", "canonical": False, "task": 0}
    good_line("T1", '0 ["HELLO",0,null,{"v":1}]', hello, "the smallest HELLO", "T-1", task=0)
    good_line("T1", '["HELLO",0,null,{"v":1}]', hello, "HELLO without an id", "T-3", **child)
    for spaces in (" ", " " * 64, "\t "):
        good_line("T1", f'[{spaces}"HELLO",0,null,{{"v":1}}]', hello, f"HELLO behind {len(spaces)} spaces or tabs", "T-8", **child)
    good_line("T1", '0 [ "HELLO" , 0 , null , { "v" : 1 } ]', hello, "HELLO with an id and white space", "T-8", **child)
    good_line("T1", '["READY",0,null,null]', ["READY", 0, None, None], "READY without an id", "T-3", **child)
    good_line("T1", '["BYE",0,null,null]', ["BYE", 0, None, None], "BYE without an id", "T-3", **child)
    good_line("T1", '["LOG",0,null,{"level":"info","msg":"up"}]', ["LOG", 0, None, Pairs(("level", "info"), ("msg", "up"))],
              "LOG about no task", "T-3", **child)
    good_line("T1", '["FAILED",0,null,{"code":"version","data":{"supported":[1]}}]',
              ["FAILED", 0, None, Pairs(("code", "version"), ("data", Pairs(("supported", [1]))))], "a refusal", "T-8", **child)
    good_line("T1", '0 ["HELLO",1234,12345,{"v":1,"pid":12345,"parent":1234,"caps":[],"max_frame":16777215}]',
              ["HELLO", 1234, 12345, Pairs(("v", 1), ("pid", 12345), ("parent", 1234), ("caps", []), ("max_frame", MAX_FRAME))],
              "a parent's HELLO", "T-9", task=0)
    good_line("T1", '0 ["DIE",1234,12345,null]', ["DIE", 1234, 12345, None], "DIE", "T-2", task=0)
    data_line("T2", '{"value":20}', Pairs(("value", 20)), "the example of the specification", "T-1")
    good_line("T2", '1 ["FINISHED",0,null,281]', ["FINISHED", 0, None, 281], "an answer", "T-3", task=1)
    good_line("T2", '3 ["FAILED",0,null,{"code":"unknown_request"}]', ["FAILED", 0, None, Pairs(("code", "unknown_request"))],
              "a failure", "T-3", task=3)
    good_line("T2", '2 ["sum",1234,12345,[1,-20,300]]', ["sum", 1234, 12345, [1, -20, 300]], "a request of the user's", "T-2", task=2)
    good_line("T2", '2 ["größe ändern",1234,12345,"x"]', ["größe ändern", 1234, 12345, "x"], "one that is not ASCII", "M-3", task=2)
    good_line("T2", '0 ["note",1234,-1,null]', ["note", 1234, -1, None], "one for everyone", "M-12", task=0)
    good_line("T2", f'7 ["{"r" * 255}",0,{LARGEST_ADDRESS},null]', ["r" * 255, 0, LARGEST_ADDRESS, None],
              "the longest name and the largest address", "M-3")


def line_ends():
    line("T4", "accept", "data", DO + "1]", "the line ends with CR LF", "T-1", end="\r\n", task=7,
         msg=["DO", 1234, 12345, 1], canonical=False)
    line("T1", "accept", "data", "0 [\"DIE\",1234,12345,null]", "DIE ends with CR LF", "T-1", end="\r\n", task=0,
         msg=["DIE", 1234, 12345, None], canonical=False)
    whole = DO + '{"value":20}]'
    for cut in (1, 2, 3, 8, len(whole) - 1, len(whole)):
        line("T5", "reject", "frame", whole[:cut], f"the stream ends after {cut} of {len(whole)} bytes, before LF", "T-5", end="",
             error="truncated")
    line("T5", "reject", "frame", whole + "\r", "the stream ends behind CR", "T-5", end="", error="truncated")
    line("T5", "reject", "frame", "Hello", "the stream ends inside what would be no line", "T-5", end="", error="truncated")
    for blank, name in (("\n", "an empty line"), ("\r\n", "CR LF"), (" \t \n", "spaces and a tab"), ("\n" * 50, "50 empty lines")):
        data_line_behind = blank + DO + "1]"
        good_line("T9", data_line_behind, ["DO", 1234, 12345, 1], f"{name} in front", "T-1", canonical=False)
    good_line("T13", DO + ' { "value"\t: [ 1 ,2 ] }]', ["DO", 1234, 12345, Pairs(("value", [1, 2]))], "white space in the data",
              "T-1", canonical=False)
    for text, name in (('7 [ "DO" , 1234 , 12345 , 1 ]', "spaces"), ('7 ["DO",\t1234,\r12345,1\t]', "tabs and CR"),
                       ('7 ["DO",1234,12345,1]  ', "spaces behind the array")):
        good_line("T13", text, ["DO", 1234, 12345, 1], f"{name} between the parts", "T-1", canonical=False, reader="parent")
    good_line("T13", '7 ["\\u0044O",1234,12345,1]', ["DO", 1234, 12345, 1], "a name with an escape", "T-1", canonical=False,
              reader="parent")


def text_values():
    for text, value, name in (("null", None, "nil"), ("true", True, "true"), ("false", False, "false"), ("[]", [], "an empty array"),
                              ("{}", Pairs(), "an empty map"), ('""', "", "an empty text"),
                              ('[1,"a",[null],{"b":2}]', [1, "a", [None], Pairs(("b", 2))], "one in the other"),
                              ('{"z":1,"a":2,"":3}', Pairs(("z", 1), ("a", 2), ("", 3)), "keys in no order, one empty")):
        data_line("T2", text, value, name, "T-1")
    ship = "\U0001f6a2"
    for text, value, name, canonical in (
            ('"é"', "é", "a character of two bytes", True), (f'"{ship}"', ship, "one of four bytes", True),
            ('"\\u00e9"', "é", "an escape", False), ('"\\u00E9"', "é", "an escape in capitals", False),
            ('"\\ud83d\\udea2"', ship, "a pair of surrogates", False), ('"\\uD83D\\uDea2"', ship, "a pair in capitals", False),
            ('"x\\ud83d\\udea2\\u00e9y"', f"x{ship}éy", "a pair between others", False),
            ('"\\"\\\\"', '"\\', "quote and backslash", True), ('"\\/"', "/", "an escaped slash", False),
            ('"\\n\\r\\t"', "\n\r\t", "the short escapes that are written", True),
            ('"\\b\\f"', "\b\f", "the short escapes that are not", False),
            ('"\\u0000\\u001f"', "\0\x1f", "control characters", True), ('"\\u000a"', "\n", "LF by its number", False),
            ('"\x7f\u2028\u2029\ufeff"', "\x7f\u2028\u2029\ufeff", "characters that need no escape", True),
            ('"\\u2028"', "\u2028", "one that is escaped nevertheless", False),
            ('"],[\\",{}:,"', '],[",{}:,', "punctuation inside a text", True),
            ('{"\\u0061":1}', Pairs(("a", 1)), "an escape in a key", False)):
        data_line("T6", text, value, name, "T-1", canonical=canonical)
    for text, value, name, spec, canonical in (
            ('{"$bin":"Zm8="}', b"fo", "two bytes", "T-12", True), ('{"$bin":"Zm8"}', b"fo", "without padding", "T-12", False),
            ('{"$bin":"Zg"}', b"f", "one byte without padding", "T-12", False), ('{"$bin":""}', b"", "no byte", "T-12", True),
            ('{"$bin":"+/8="}', b"\xfb\xff", "the two digits that are neither letters nor numbers", "T-12", True),
            ('{ "\\u0024bin" : "Z\\u0067==" }', b"f", "escapes and white space", "T-13", False),
            ('[{"$bin":"AA=="},{"$bin":"AQ=="}]', [b"\0", b"\1"], "two in an array", "T-12", True),
            ('{"$$bin":"Zm8="}', Pairs(("$bin", "Zm8=")), "a map that looks like bytes", "T-13", True),
            ('{"$$":1}', Pairs(("$", 1)), "a key that is a dollar", "T-13", True),
            ('{"$$$bin":{"$$$":{"$bin":"AA=="}}}', Pairs(("$$bin", Pairs(("$$", b"\0")))), "keys that begin with two", "T-13", True),
            ('{"$bin":"Zm8=","a":1}', Pairs(("$bin", "Zm8="), ("a", 1)), "a map of two keys is none", "T-13", True),
            ('{"$$bin":1,"$":2}', Pairs(("$$bin", 1), ("$", 2)), "a map of two keys has nothing taken away", "T-13", True),
            ('{"a$":1}', Pairs(("a$", 1)), "a dollar that is not first", "T-13", True),
            ('{"":1}', Pairs(("", 1)), "a map whose only key is empty", "T-13", True)):
        data_line("T7", text, value, name, spec, canonical=canonical)
    data_line("T7", ['{"$bin":"', Run("AAAA", 1000), '"}'], Run(b"\0", 3000), "3,000 bytes", "T-12")
    data_line("T8", ['"', Run("x", 2**20), '"'], Run("x", 2**20), "a text of 1 MiB", "T-4")
    data_line("T8", ['"', Run("é", 2**19), '"'], Run("é", 2**19), "a text of 1 MiB that is not ASCII", "T-4")
    data_line("T8", ['{"$bin":"', Run("AAAA", 2**18), '"}'], Run(b"\0", 3 * 2**18), "1 MiB of base64", "T-4")
    for value in (0, 1, -1, 127, 128, -32, -33, 65536, 2**32, 2**53 - 1, -(2**53) + 1):
        data_line("T16", str(value), value, f"integer {value}", "T-11")
    for value in (2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)):
        data_line("T16", str(value), value, f"integer {value}, exactly", "T-17")
    data_line("T16", "-0", 0, "minus zero without a fraction is the integer 0", "T-11", canonical=False)
    for text, bits, canonical in (
            ("1.0", 0x3FF0000000000000, True), ("0.1", 0x3FB999999999999A, True), ("-2.5", 0xC004000000000000, True),
            ("1e300", 0x7E37E43C8800759C, True), ("1.7976931348623157e308", 0x7FEFFFFFFFFFFFFF, True),
            ("5e-324", 0x0000000000000001, True), ("-0.0", 0x8000000000000000, True), ("1E0", 0x3FF0000000000000, False),
            ("1e+0", 0x3FF0000000000000, False), ("10e-1", 0x3FF0000000000000, False), ("1.000", 0x3FF0000000000000, False),
            ("1e-999", 0x0000000000000000, False), ("9007199254740993.0", 0x4340000000000000, False)):
        data_line("T19", text, F64(bits), f"float {text}", "T-11", canonical=canonical)
    for task in (1, 2**31 - 1, 2**31, 2**32 - 1):
        good_line("T17", f'{task} ["DO",1234,12345,null]', ["DO", 1234, 12345, None], f"id {task}", "T-1", task=task)


def text_depth():
    def nested(depth, inner):
        return ["[" * depth, inner, "]" * depth]

    value = None
    for _ in range(64):
        value = [] if value is None else [value]
    data_line("T15", nested(64, ""), value, "arrays 64 deep", "T-14")
    value = b"\0"
    for _ in range(64):
        value = [value]
    data_line("T15", nested(64, '{"$bin":"AA=="}'), value, "bytes inside 64 arrays", "T-14")
    bad_data_line("T15", nested(65, ""), "arrays 65 deep", "T-14")
    bad_data_line("T15", ['{"a":' * 65, "1", "}" * 65], "maps 65 deep", "T-14")
    bad_data_line("T15", nested(65, '{"$bin":"AA=="}'), "bytes inside 65 arrays", "T-14")
    bad_data_line("T15", [Run("[", 100_000), Run("]", 100_000)], "arrays 100,000 deep", "T-14")


def text_bad_data():
    for text, name, spec in (
            ('{"a":1,"a":2}', "a key twice", "D-5"), ('{"a":1,"\\u0061":2}', "a key twice, once with an escape", "D-5"),
            ('[{"a":{"a":1},"b":2,"a":3}]', "a key twice, around a map", "D-5"),
            ('"\\ud83d"', "half of a pair", "T-14"), ('"\\udea2"', "the other half", "T-14"),
            ('"\\udea2\\ud83d"', "a pair the wrong way round", "T-14"), ('"\\ud83dx"', "half of a pair and a letter", "T-14"),
            ('"\\ud83d\\u0041"', "half of a pair and an escape", "T-14"), ('{"\\ud83d":1}', "half of a pair in a key", "T-14"),
            ("18446744073709551616", "2^64", "T-14"), ("-9223372036854775809", "-2^63 - 1", "T-14"),
            ("9" * 400, "an integer of 400 digits", "T-14"), ("1e309", "a float above the largest", "T-14"),
            ("[-1e999]", "a float below the smallest", "T-14"), ('{"$bin":1}', "$bin with a number", "T-13"),
            ('{"$bin":null}', "$bin with nil", "T-13"), ('{"$bin":"?"}', "$bin with what is no digit", "T-13"),
            ('{"$bin":"A"}', "$bin with one digit", "T-13"), ('{"$bin":"Zm8=="}', "$bin with too much padding", "T-13"),
            ('{"$bin":"Zm8=Zm8="}', "$bin with padding inside", "T-13"), ('{"$bin":"Zm-_"}', "$bin in another alphabet", "T-12"),
            ('{"$bin":{"$bin":""}}', "$bin with bytes", "T-13"), ('{"$":1}', "a key that is one dollar", "T-13"),
            ('[{"$date":"2026-11-29"}]', "a mark that nobody knows", "T-13"), ('{"$Bin":""}', "$Bin is not $bin", "T-13")):
        bad_data_line("T15", text, name, spec)
    for raw, name in ((b'"\xff"', "ff"), (b'"\xc3"', "half a character"), (b'"\xed\xa0\x80"', "a surrogate"),
                      (b'"\xc0\x80"', "NUL in two bytes"), (b'{"\xfe":1}', "fe in a key")):
        bad_data_line("T15", [raw], f"a text with {name} is not UTF-8", "T-14")


def text_bad_heads():
    for text, name in (
            ("1", "a closing bracket is missing"), ('{"a":}]', "a value is missing"), ("]", "the data is missing"),
            ("1,]", "a comma behind the last"), ("[1 2]]", "a comma is missing"), ('{"a"}]', "a key without a value"),
            ('{"a":1,}]', "a comma behind the last pair"), ("{1:1}]", "a key that is a number"), ("[1}]", "the wrong bracket"),
            ("nul]", "half a word"), ("NULL]", "a word in capitals"), ("01]", "a leading zero"), ("1.]", "no digit behind the point"),
            (".5]", "none before it"), ("1e]", "an exponent without digits"), ("+1]", "a plus"), ("0x1f]", "a number in hexadecimal"),
            ("NaN]", "NaN"), ("-Infinity]", "infinity"), ("'a']", "another quote"), ('"a]', "a text without an end"),
            ('"a\tb"]', "a tab inside a text"), ('"\\x41"]', "an escape that there is not"), ('"\\u12g4"]', "an escape with a letter"),
            ("1]]", "one bracket too many"), ("1] x", "something behind the array"), ("1] // x", "a comment")):
        bad_line("T10", DO + text, f"no JSON: {name}", "T-7", False)
    bad_line("T10", '7 ["DO",0,null,{"a":1,"a":1}', "no JSON, whatever else is wrong", "T-7", False)
    bad_line("T10", "[INFO] ready", "what was printed begins like an array", "T-7", False, task=0)
    for text, name in (("[]", "nothing"), ('["DO"]', "one"), ('["DO",1234,12345]', "three"), ('["DO",1234,12345,1,2]', "five")):
        bad_line("T11", f"7 {text}", f"an array of {name}", "T-7", True)
    for text, name, spec in (
            ("1", "an integer", "M-3"), ("null", "nil", "M-3"), ('["DO"]', "an array", "M-3"), ('""', "empty", "M-3"),
            (f'"{"r" * 256}"', "256 bytes long", "M-3"), ('"\\ud83d"', "half of a pair", "M-3"), ('{"$bin":"RE8="}', "bytes", "M-3")):
        bad_line("T11", f"7 [{text},1234,12345,null]", f"the request is {name}", spec, True)
    bad_line("T11", ["7 [\"", b"\xff", "\",1234,12345,null]"], "the request is not UTF-8", "M-3", True)
    for text in ("-1", "1.0", str(2**53), '"1"', "null", "true"):
        bad_line("T11", f'7 ["DO",{text},12345,null]', f"the sender is {text}", "M-4", True)
    for text in ("0", "-2", "1.5", str(2**53), '"x"', "false", "[]"):
        bad_line("T11", f'7 ["DO",1234,{text},null]', f"the recipient is {text}", "M-5", True)


def text_desync():
    for text in ("Hello, world", "Traceback (most recent call last):", '{"id":7}', "2026-11-29 12:00:00 up", "READY", "\ufeff[1]"):
        line("T12", "reject", "frame", text, f"text: {text!r}", "T-6", error="desync")
    for text, name in (("7", "an id alone"), ("7 ", "an id and a space"), ("7 {}", "an id and a map"), ('7["DO",0,null,1]', "no space"),
                       ('7  ["DO",0,null,1]', "two spaces"), ('07 ["DO",0,null,1]', "a leading zero"),
                       ('+7 ["DO",0,null,1]', "a sign"), ('-1 ["DO",0,null,1]', "a negative id"),
                       ('7.0 ["DO",0,null,1]', "a fraction"), ('4294967296 ["DO",0,null,1]', "an id of 2^32"),
                       (' 7 ["DO",0,null,1]', "a space before the id"), (' ["DO",0,null,1]', "a space before the array")):
        line("T12", "reject", "frame", text, f"{name} before the array", "T-6", error="desync")
    line("T12", "reject", "frame", [b"\x00\x00\x00\x0b\x00\x00\x00\x07\x94\xa2DO\x01\xc0\xc0"], "a frame", "T-6", error="desync")


def long_lines():
    for limit, more in ((MAX_FRAME, {}), (65536, {"max_frame": 65536})):
        size = limit - len(DO) - 3
        text = [DO, '"', Run("x", size), '"]']
        good_line("T14", text, ["DO", 1234, 12345, Run("x", size)], f"a line of {limit} bytes, exactly max_frame", "T-4", **more)
        line("T14", "reject", "frame", [DO, '"', Run("x", size + 1), '"]'], f"a line of {limit + 1} bytes, one more", "T-4",
             error="too_large", task=7, **more)
    size = 65536 - len(DO) - 3
    line("T14", "accept", "data", [DO, '"', Run("x", size), '"]'], "CR LF does not count", "T-4", end="\r\n", max_frame=65536,
         task=7, msg=["DO", 1234, 12345, as_json(Run("x", size))], canonical=False)


session_messages()
ids_and_addresses()
head_widths()
bad_heads()
lengths()
truncations()
data_rules()
scalars()
text_messages()
line_ends()
text_values()
text_depth()
text_bad_data()
text_bad_heads()
text_desync()
long_lines()

header = {"schema": "stokehold-frames", "version": 1, "count": len(vectors), "max_frame": MAX_FRAME}
lines = [json.dumps(line, ensure_ascii=True, separators=(",", ":")) for line in [header, *vectors]]
path = pathlib.Path(__file__).with_name("frames.jsonl")
path.write_text("\n".join(lines) + "\n")
tally = {verdict: sum(vector["verdict"] == verdict for vector in vectors) for verdict in ("accept", "either", "reject")}
print(f"{len(vectors)} vectors: {tally}, {path.stat().st_size} bytes")
