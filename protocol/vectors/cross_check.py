#!/usr/bin/env python3
"""Compares frames.jsonl with the `msgpack` package of PyPI and with Python's `json`, which have nothing to do with this project.

Accepted vectors: the package reads the value that the vector says, and writes the canonical ones byte by byte. Rejected
ones at the stages `head` and `data`: the package refuses the body, or the vector is marked `stricter` and a few lines of
Python here, independent of the project's code, find the broken rule. Lines of text mode: the same by `json`, without the
writing. With --text only these, for which `msgpack` is not needed. Exit 0: all agree; 1: some do not; 2: no `msgpack`.
"""

import base64
import binascii
import json
import pathlib
import re
import struct
import sys

try:
    import msgpack
except ImportError:
    msgpack = None
if msgpack is None and "--text" not in sys.argv[1:]:
    print("the package `msgpack` is missing: python3 -m venv /some/where && /some/where/bin/pip install msgpack,"
          " then run this with /some/where/bin/python", file=sys.stderr)
    sys.exit(2)

LARGEST_ADDRESS = 2**53 - 1


class Pairs(list):
    """A map as the package read it: all its pairs, in order."""


def to_bytes(notation):
    if isinstance(notation, str):
        return bytes.fromhex(notation)
    if isinstance(notation, dict):
        digits, count = notation["repeat"]
        return bytes.fromhex(digits) * count
    return b"".join(to_bytes(part) for part in notation)


def unpack(body):
    return msgpack.unpackb(body, raw=False, strict_map_key=False, object_pairs_hook=Pairs)


def comparable(value):
    """A value in which equal means the same type and the same bits."""
    if isinstance(value, float):
        return ("float", struct.pack(">d", value).hex())
    if isinstance(value, Pairs):
        return ("map", [(comparable(key), comparable(item)) for key, item in value])
    if isinstance(value, (list, tuple)):
        return ("array", [comparable(item) for item in value])
    return (type(value).__name__, value)


def expected(json_value):
    """The value that a vector's `msg` stands for."""
    if isinstance(json_value, list):
        return [expected(item) for item in json_value]
    if not isinstance(json_value, dict):
        return json_value
    ((tag, inner),) = json_value.items()
    if tag == "$int":
        return int(inner)
    if tag == "$f64":
        return struct.unpack(">d", bytes.fromhex(inner))[0]
    if tag == "$bin":
        return bytes.fromhex(inner) if isinstance(inner, str) else bytes.fromhex(inner[0]) * inner[1]
    if tag == "$str":
        return (bytes.fromhex(inner[0]) * inner[1]).decode()
    if tag == "$map":
        return Pairs((expected(key), expected(item)) for key, item in inner)
    raise ValueError(tag)


def packed(value):
    """The package's encoding; it writes maps from dicts only."""
    packer = msgpack.Packer(use_bin_type=True, strict_types=False)
    if isinstance(value, Pairs):
        return packer.pack_map_header(len(value)) + b"".join(packed(key) + packed(item) for key, item in value)
    if isinstance(value, list):
        return packer.pack_array_header(len(value)) + b"".join(packed(item) for item in value)
    return packer.pack(value)


def is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def head_is_bad(message):
    if not isinstance(message, list) or isinstance(message, Pairs) or len(message) != 4:
        return True
    request, sender, recipient, _ = message
    if not isinstance(request, str) or not 1 <= len(request.encode()) <= 255:
        return True
    if not is_integer(sender) or not 0 <= sender <= LARGEST_ADDRESS:
        return True
    return not (recipient is None or is_integer(recipient) and (recipient == -1 or 1 <= recipient <= LARGEST_ADDRESS))


def data_is_bad(value, depth=1):
    if msgpack and isinstance(value, (msgpack.ExtType, msgpack.Timestamp)):
        return True
    if not isinstance(value, list):
        return False
    if depth > 64:
        return True
    if isinstance(value, Pairs):
        keys = [key for key, _ in value]
        if not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
            return True
        return any(data_is_bad(item, depth + 1) for _, item in value)
    return any(data_is_bad(item, depth + 1) for item in value)


def frame_error(stream, max_frame):
    """The stage `frame`, by hand."""
    if len(stream) < 4:
        return "truncated"
    length = int.from_bytes(stream[:4], "big")
    if length < 5 or length >= 0x08000000:
        return "desync"
    if length > max_frame:
        return "too_large"
    return "truncated" if len(stream) < 4 + length else None


# Text mode.

class Object(list):
    """A JSON object with all its pairs, in order."""


def no_constant(name):
    raise ValueError(f"{name} is no JSON")


def line_error(stream, max_frame):
    """The stage `frame` of a stream of one line, by hand; and the line, without what is blank in front."""
    while stream and b"\n" in stream and not stream[:stream.index(b"\n")].strip(b" \t\r"):
        stream = stream[stream.index(b"\n") + 1:]
    line, end, rest = stream.partition(b"\n")
    if not end or rest:
        return "truncated", line
    line = line.removesuffix(b"\r")
    if len(line) > max_frame:
        return "too_large", line
    begin = re.match(rb"(0|[1-9][0-9]*) \[|\[", line)
    if not begin or int(begin[1] or b"0") >= 2**32:
        return "desync", line
    return None, line


def value_of_json(value, levels=64):
    """The value of the data model, or ValueError."""
    if isinstance(value, Object):
        if len(value) == 1 and value[0][0].startswith("$"):
            key, inner = value[0]
            if key == "$bin":
                if not isinstance(inner, str):
                    raise ValueError("$bin with no text")
                digits = inner.rstrip("=")
                if inner != digits and len(inner) % 4 or len(inner) - len(digits) > 2:
                    raise ValueError("padding")
                return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
            if not key.startswith("$$"):
                raise ValueError("an unknown mark")
            value = Object([(key[1:], inner)])
        if levels == 0:
            raise ValueError("too deep")
        keys = [key for key, _ in value]
        if len(set(keys)) != len(keys):
            raise ValueError("a key twice")
        return Pairs((value_of_json(key), value_of_json(item, levels - 1)) for key, item in value)
    if isinstance(value, list):
        if levels == 0:
            raise ValueError("too deep")
        return [value_of_json(item, levels - 1) for item in value]
    if isinstance(value, str):
        value.encode()  # half of a pair has no UTF-8
    if is_integer(value) and not -(2**63) <= value < 2**64:
        raise ValueError("an integer out of range")
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ValueError("a float out of range")
    return value


def judge_line(vector, max_frame):
    error, line = line_error(to_bytes(vector["bytes"]), vector.get("max_frame", max_frame))
    if vector["stage"] == "frame":
        return None if error == vector["error"] else f"{error} instead of {vector['error']}"
    if error:
        return f"not one whole line: {error}"
    id, array = (0, line) if line.startswith(b"[") else line.split(b" ", 1)
    if int(id) != vector["task"]:
        return "another id"
    text = array.decode(errors="surrogateescape")  # what is no UTF-8 becomes half of a pair
    try:
        message = json.loads(text, object_pairs_hook=Object, parse_constant=no_constant)
    except json.JSONDecodeError as refusal:
        is_told = vector["verdict"] == "reject" and vector["stage"] == "head" and not vector["stricter"]
        return None if is_told else f"json refuses it: {refusal}"
    except ValueError as refusal:  # a word that only Python takes, or more digits
        is_told = vector["verdict"] == "reject"
        return None if is_told else f"json refuses it: {refusal}"
    except RecursionError:
        return None if vector["spec"] == "T-14" else "json gives up"
    if vector["verdict"] == "reject" and not vector["stricter"]:
        return "json takes it, and it is not marked stricter"
    head = message[:3] if isinstance(message, list) else []
    try:
        bad_head = head_is_bad([value_of_json(field) for field in head] + list(message[3:]))
    except ValueError:
        bad_head = True
    if bad_head != (vector["stage"] == "head"):
        return f"the head is {'bad' if bad_head else 'good'}"
    if bad_head:
        return None
    try:
        data = value_of_json(message[3])
    except (ValueError, binascii.Error) as refusal:
        return None if vector["verdict"] == "reject" else f"no value: {refusal}"
    if vector["verdict"] == "reject":
        return "no rule of the protocol is broken"
    same = comparable([*message[:3], data]) == comparable(expected(vector["msg"]))
    return None if same else "json reads another value"


def judge(vector, max_frame):
    """None if all agree, else what does not."""
    if vector.get("carrier") == "text":
        return judge_line(vector, max_frame)
    stream = to_bytes(vector["bytes"])
    error = frame_error(stream, vector.get("max_frame", max_frame))
    if vector["stage"] == "frame":
        return None if error == vector["error"] else f"{error} instead of {vector['error']}"
    if error or len(stream) != 4 + int.from_bytes(stream[:4], "big"):
        return f"not one whole frame: {error}"
    if int.from_bytes(stream[4:8], "big") != vector["task"]:
        return "another id"
    try:
        message, refusal = unpack(stream[8:]), None
    except (ValueError, msgpack.exceptions.UnpackException) as raised:  # Any other kind is a mistake in this script.
        message, refusal = None, raised
    if vector["verdict"] != "reject":
        if refusal is not None:
            return f"msgpack refuses it: {refusal!r}"
        if comparable(message) != comparable(expected(vector["msg"])):
            return "msgpack reads another value"
        if head_is_bad(message) or data_is_bad(message[3]):
            return "a rule of the protocol is broken"
        same = packed(message) == stream[8:]
        return None if same == vector["canonical"] else "msgpack's own bytes do not bear `canonical` out"
    if not vector["stricter"]:
        return None if refusal is not None else "msgpack takes it, and it is not marked stricter"
    if refusal is not None:
        # The package has a limit of its own on nesting, far above 64.
        too_deep = vector["spec"] == "D-2" and isinstance(refusal, msgpack.exceptions.StackError)
        return None if too_deep else f"marked stricter, but msgpack refuses it: {refusal!r}"
    bad = head_is_bad(message) if vector["stage"] == "head" else not head_is_bad(message) and data_is_bad(message[3])
    return None if bad else "no rule of the protocol is broken"


def main():
    sys.setrecursionlimit(10_000)
    path = pathlib.Path(__file__).with_name("frames.jsonl")
    header, *vectors = (json.loads(line) for line in path.read_text(encoding="ascii").splitlines())
    tally, wrong = {}, []
    is_whole = header["count"] == len(vectors)
    if msgpack is None:
        vectors = [vector for vector in vectors if "carrier" in vector]
    for vector in vectors:
        problem = judge(vector, header["max_frame"])
        if problem:
            wrong.append(f"{vector['id']}: {problem} ({vector['why']})")
        kind = f"{vector['verdict']} at {vector['stage']}{' of a line' if 'carrier' in vector else ''}"
        tally[kind] = tally.get(kind, 0) + 1
    for line in wrong:
        print(line)
    by = f"msgpack {'.'.join(map(str, msgpack.version))} and json" if msgpack else "json"
    print(f"{by}: {len(vectors) - len(wrong)} of {len(vectors)} vectors agree:",
          ", ".join(f"{count} {kind}" for kind, count in sorted(tally.items())))
    return 1 if wrong or not is_whole else 0


if __name__ == "__main__":
    sys.exit(main())
