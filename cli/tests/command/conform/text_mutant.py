"""A small worker in text mode that keeps the rules, save for the one that MUTATION names: what a conformance kit has to find."""
import base64
import binascii
import json
import os
import re
import sys
import time

MUTATION = os.environ.get("MUTATION", "")
LIMIT = 0x00FFFFFF


def leave(code, why):
    print(why, file=sys.stderr)
    sys.exit(code)


class Pairs(list):
    """A map with all its pairs, in order."""


def refuse(name):
    raise ValueError("there is no " + name)


def number(digits):
    value = int(digits)
    if not -2**63 <= value < 2**64:
        raise BadData("an integer out of range")
    return int(float(value)) if MUTATION == "rounds_integers" else value


def real(digits):
    value = float(digits)
    if value in (float("inf"), -float("inf")):
        raise BadData("a float out of range")
    if MUTATION == "forgets_the_sign_of_zero":
        value += 0.0  # of both zeros it is 0.0
    return int(value) if MUTATION == "writes_floats_as_integers" and value.is_integer() and abs(value) < 2**63 else value


class BadData(Exception):
    """The line is a message, and its data stands for no value."""


def value_of(node, levels=64):
    """What JSON stands for: bytes, and maps without the dollar that was put before a key."""
    if isinstance(node, str) and re.search("[\ud800-\udfff]", node):
        raise BadData("half of a pair, or no UTF-8")
    if isinstance(node, Pairs):
        if len(node) == 1 and node[0][0] == "$bin":
            try:
                text = node[0][1]
                return base64.b64decode(text if "=" in text else text + "=" * (-len(text) % 4), validate=True)
            except (TypeError, binascii.Error):
                raise BadData("no base64")
        if len(node) == 1 and node[0][0].startswith("$"):
            if not node[0][0].startswith("$$"):
                raise BadData("a mark that nobody knows")
            node = Pairs([(node[0][0][1:], node[0][1])])
        if levels == 0 or len(dict(node)) < len(node):
            raise BadData("too deep, or a key twice")
        return {value_of(key): value_of(item, levels - 1) for key, item in node}
    if isinstance(node, list):
        if levels == 0:
            raise BadData("too deep")
        return [value_of(item, levels - 1) for item in node]
    return node


def json_of(value):
    if isinstance(value, bytes):
        return {"$bin": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [json_of(item) for item in value]
    if isinstance(value, dict):
        (*rest, key) = value or [""]
        if not rest and key.startswith("$") and MUTATION != "forgets_dollars":
            return {"$" + key: json_of(value[key])}
        return {key: json_of(item) for key, item in value.items() if key or MUTATION != "forgets_an_empty_key"}
    return value


def read_lines(source):
    for line in source:
        if not line.endswith(b"\n") and MUTATION != "unfinished_line_is_a_line":
            leave(3, "the input ended inside a line")
        if MUTATION == "chokes_on_cr" and line.endswith(b"\r\n"):
            leave(4, "a byte behind the array")
        line = line.rstrip(b"\r\n")
        if line.strip() or MUTATION == "chokes_on_blank_lines":
            yield line
    while MUTATION == "no_eof_exit":
        time.sleep(0.01)


class Child:
    def __init__(self, source, sink):
        self.source, self.sink = source, sink

    def send(self, id, request, data):
        if MUTATION == "wrong_id" and request == "FINISHED":
            id += 1
        prefix = "" if id is None or MUTATION == "no_id" and request == "FINISHED" else "%d " % id
        line = prefix + json.dumps([request, 0, None, data], separators=(",", ":"), allow_nan=False)
        if MUTATION == "prints_unguarded" and request == "FINISHED":
            print("working on", id, flush=True)
        if MUTATION == "pretty_prints" and request == "FINISHED":
            line = line.replace(",", ",\n ")
        self.sink.write((line + "\n").encode())
        self.sink.flush()

    def fail(self, id, code):
        self.send(id, "FAILED", {"code": code, "begun": False})

    def message(self, id, array):
        """The message of a line, or nothing if that was refused."""
        text = array.decode(errors="surrogateescape")
        try:
            message = json.loads(text, object_pairs_hook=Pairs, parse_constant=refuse, parse_int=number, parse_float=real)
            if MUTATION == "takes_any_array" and isinstance(message, list):
                message = (message + [None] * 4)[:4]
            request, sender, recipient, data = message
            is_sender = type(sender) is int and 0 <= sender < 2**53
            is_recipient = recipient is None or type(recipient) is int and (recipient == -1 or 0 < recipient < 2**53)
            if not isinstance(request, str) or not 1 <= len(request.encode()) <= 255 or not is_sender or not is_recipient:
                raise ValueError("a bad head")
        except (RecursionError, BadData):  # in a number, or by the depth of all
            return self.fail(id, "bad_data") if id else None
        except (TypeError, ValueError):
            return self.fail(id, "bad_message") if id else None
        try:
            return request, value_of(data)
        except BadData:
            return self.fail(id, "bad_data") if id and (request == "DO" or MUTATION == "decodes_first") else (request, None)

    def run(self):
        self.send(None, "HELLO", {"v": 1, "window": 4, "serial": True})
        self.send(None, "READY", None)
        for line in read_lines(self.source):
            begin = re.match(rb"(0|[1-9][0-9]*) \[", line)
            if not begin or int(begin[1]) >= 2**32:
                if MUTATION == "skips_what_is_no_line":
                    continue
                leave(4, "no line begins with %r" % line[:32])
            id = int(begin[1])
            if len(line) > LIMIT:
                if id:
                    self.fail(id, "too_large")
                continue
            message = self.message(id, line[begin.end() - 1:])
            if message is None:
                continue
            request, data = message
            if request == "DIE":
                break
            if id == 0:
                continue
            if request == "DO" or MUTATION == "answers_strays" and request in ("FINISHED", "FAILED"):
                self.send(id, "FINISHED", json_of(data))
            elif not re.fullmatch("[A-Z][A-Z0-9_]*", request):
                self.fail(id, "unknown_request")


source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
if MUTATION != "prints_unguarded":
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
Child(source, sink).run()
