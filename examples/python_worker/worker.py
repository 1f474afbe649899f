#!/usr/bin/env python3
"""A Stokehold worker in one file: Python 3.8 or newer, the standard library and nothing else.

Copy it, put your functions into HANDLERS, and start it with `stokehold run -- python3 worker.py`. A handler gets its
input and the number of the attempt, and returns its result: None, bool, int, float, str, bytes, list, or dict with str
keys. What it raises becomes the error of its task, and the worker lives on. What it prints goes to standard error.
A task gets one answer, and no results before it; a handler is not told that its task was cancelled, so that the parent
ends the worker for it. An SDK for Python, which can do both, comes later.
Names in brackets are the statements of protocol/SPEC.md that a line keeps.
"""
import collections
import contextlib
import os
import re
import signal
import struct
import sys
import traceback


def word_count(text, attempt):
    return collections.Counter(text.split())


def fail(data, attempt):
    raise RuntimeError("attempt %d failed, as asked: %r" % (attempt, data))


HANDLERS = {
    "DO": lambda data, attempt: data,
    "word_count": word_count,
    "fail": fail,
    "exit": lambda data, attempt: os.kill(os.getpid(), signal.SIGKILL),
}
MAX_FRAME, DEPTH_MAX = 0x00FFFFFF, 64
NUMBERS = dict(zip(range(0xCA, 0xD4), (">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q")))
SHORT = {str: (0xA0, 32), list: (0x90, 16), dict: (0x80, 16), bytes: (0, 0)}  # kind: mark of size 0, number of sizes
LONG = {0xC4: (bytes, 1), 0xC5: (bytes, 2), 0xC6: (bytes, 4), 0xD9: (str, 1), 0xDA: (str, 2), 0xDB: (str, 4),
        0xDC: (list, 2), 0xDD: (list, 4), 0xDE: (dict, 2), 0xDF: (dict, 4)}  # mark: kind, width of the size


def encode(value, depth=1):
    """`value` as MessagePack, every number in its shortest form [D-8]. An exception if it cannot be sent."""
    if value is None or isinstance(value, bool):
        return b"\xc0" if value is None else b"\xc3" if value else b"\xc2"
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, int):
        if -32 <= value < 128:
            return struct.pack("b", value)
        for mark in range(0xCC, 0xD4):  # unsigned widths, then signed ones
            with contextlib.suppress(struct.error):
                return bytes([mark]) + struct.pack(NUMBERS[mark], value)
        raise ValueError("an integer has more than 64 bits")
    if isinstance(value, str):
        text = value.encode()  # raises on a lone surrogate
        return encode_size(str, len(text)) + text
    if isinstance(value, (bytes, bytearray)):
        return encode_size(bytes, len(value)) + value
    if not isinstance(value, (list, tuple, dict)) or depth > DEPTH_MAX:
        raise ValueError("a %s, or one so deep inside others, cannot be sent" % type(value).__name__)
    if not isinstance(value, dict):
        return encode_size(list, len(value)) + b"".join(encode(item, depth + 1) for item in value)
    if not all(isinstance(key, str) for key in value):
        raise ValueError("a dict has a key that is no str")
    return encode_size(dict, len(value)) + b"".join(encode(k) + encode(v, depth + 1) for k, v in value.items())


def encode_size(kind, size):
    mark, limit = SHORT[kind]
    if size < limit:
        return bytes([mark | size])
    mark, width = next((mark, width) for mark, (of, width) in LONG.items() if of is kind and size < 256**width)
    return bytes([mark]) + size.to_bytes(width, "big")


def decode(body, at, depth=1):
    """The value at `at`, and where it ends; else ValueError. No size is believed before its bytes came [D-9]."""
    (mark,), at = take(body, at, 1)
    if mark < 0x80 or mark >= 0xE0:
        return mark if mark < 0x80 else mark - 0x100, at
    if mark in (0xC0, 0xC2, 0xC3):
        return None if mark == 0xC0 else mark == 0xC3, at
    if mark in NUMBERS:
        number, at = take(body, at, struct.calcsize(NUMBERS[mark]))
        return struct.unpack(NUMBERS[mark], number)[0], at
    if mark < 0xC0:
        kind, size = (str, mark & 31) if mark >= 0xA0 else (list if mark >= 0x90 else dict, mark & 15)
    elif mark in LONG:
        kind, width = LONG[mark]
        size, at = take(body, at, width)
        size = int.from_bytes(size, "big")
    else:
        raise ValueError("no value begins with the byte 0x%02x" % mark)  # [D-6] [D-7]
    if kind in (str, bytes):
        content, at = take(body, at, size)
        return content.decode() if kind is str else content, at  # bad UTF-8 raises a ValueError [D-3]
    if depth > DEPTH_MAX:
        raise ValueError("nested deeper than %d levels" % DEPTH_MAX)  # [D-2]
    values = kind()
    for _ in range(size):
        item, at = decode(body, at, depth + 1)
        if kind is list:
            values.append(item)
        elif isinstance(item, str) and item not in values:
            values[item], at = decode(body, at, depth + 1)
        else:
            raise ValueError("a map key is no text, or is there twice")  # [D-4] [D-5]
    return values, at


def take(body, at, size):
    if at + size > len(body):
        raise ValueError("the bytes end before the value does")
    return body[at:at + size], at + size


def decode_head(body):
    """The request, and where the data begins. ValueError on a bad head [M-1] to [M-6]."""
    at = {0x94: 1, 0xDC: 3, 0xDD: 5}.get(body[0])
    if at is None or at > 1 and int.from_bytes(body[1:at], "big") != 4:
        raise ValueError("the message is no array of 4")
    request, at = decode(body, at)
    sender, at = decode(body, at)
    recipient, at = decode(body, at)
    if not isinstance(request, str) or not 1 <= len(request.encode()) <= 255:
        raise ValueError("the request is no text of 1 to 255 bytes")
    if type(sender) is not int or not 0 <= sender < 2**53:
        raise ValueError("the sender is no address")
    if recipient is not None and (type(recipient) is not int or recipient == 0 or not -1 <= recipient < 2**53):
        raise ValueError("the recipient is no address")
    take(body, at, 1)  # the data begins
    return request, at


class Worker:
    """One session over two descriptors: one task at a time, in order [R-23] [L-12]."""

    def __init__(self, source, sink):
        self.source, self.sink, self.arrived, self.unsent = source, sink, bytearray(), bytearray()
        self.peer_max_frame, self.meta = MAX_FRAME, (0, 1)  # the id and the attempt of a META just read

    def run(self):
        self.send(0, "HELLO", {"v": 1, "window": 2, "serial": True, "caps": ["meta"], "methods": list(HANDLERS)})
        self.send(0, "READY", None)
        frame = self.next_frame()
        while frame and self.handle(*frame):
            frame = self.next_frame()
        self.send(0, "BYE", None)
        self.flush()

    def next_frame(self):
        """The next id and body, or None at the end of input [L-1]."""
        while True:
            size = int.from_bytes(self.arrived[:4], "big")
            if 5 <= size <= MAX_FRAME and len(self.arrived) >= size + 4:
                id, body = int.from_bytes(self.arrived[4:8], "big"), bytes(self.arrived[8:size + 4])
                del self.arrived[:size + 4]
                return id, body
            self.flush()  # the read may wait [W-9]
            if len(self.arrived) >= 4 and not 5 <= size <= MAX_FRAME:
                leave(4, "no frame for this worker begins with %r" % bytes(self.arrived[:32]))  # [F-7] [F-10]
            more = os.read(self.source, 1 << 16)
            if not more:
                return leave(3, "the input ended inside a frame") if self.arrived else None  # [L-4]
            self.arrived += more

    def handle(self, id, body):
        """Takes one frame; False when it was DIE [L-2]. `code` is what an error at this point means, None: nothing."""
        (about, attempt), self.meta = self.meta, (0, 1)  # META counts for the next frame only
        code, begun = "bad_message", False
        try:
            request, at = decode_head(body)
            ours = request == "DO" or not re.fullmatch("[A-Z][A-Z0-9_]*", request)
            if ours and request not in HANDLERS:
                code = "unknown_request"
                raise ValueError("%r is none of %s" % (request, list(HANDLERS)))
            code = "bad_data" if ours else None  # [D-13] [D-18]
            data, end = decode(body, at)
            if end < len(body):
                raise ValueError("bytes follow the value")  # [D-1]
            if not ours:
                return self.handle_protocol(id, request, data)
            self.flush()  # the handler may be slow, or the end of this worker [W-9] [L-13]
            code, begun = "error", True
            result = HANDLERS[request](data, attempt if about == id else 1)
            code = "bad_data"  # of the result
            return not id or self.send(id, "FINISHED", result)  # id 0 is never answered
        except Exception as error:
            return not code or self.fail(id, code, error, begun)

    def handle_protocol(self, id, request, data):
        """HELLO, META and DIE; everything else in capitals is ignored [R-7]."""
        keys = data if isinstance(data, dict) else {}
        if request == "HELLO" and type(keys.get("max_frame")) is int:
            self.peer_max_frame = min(max(keys["max_frame"], 65_536), 0x07FFFFFF)  # [F-14]
        elif request == "META" and type(keys.get("attempt")) is int:
            self.meta = (id, keys["attempt"])
        elif request == "DIE" and keys.get("now") is True:
            sys.exit(0)  # [L-3]
        return request != "DIE"

    def fail(self, id, code, error, begun):
        texts = {"message": (str(error) or type(error).__name__)[:4000]}  # cut, so that it always fits [E-10]
        if code == "error":
            texts["trace"] = traceback.format_exc()[-4000:]
        texts = {key: text.encode("utf-8", "replace").decode() for key, text in texts.items()}
        return not id or self.send(id, "FAILED", {"code": code, "begun": begun, **texts})

    def send(self, id, request, data):
        body = encode([request, 0, None, data], depth=0)  # the message is no level of its data
        if len(body) + 4 > self.peer_max_frame:
            return self.fail(id, "too_large", "the answer's frame has %d bytes" % len(body), True)
        self.unsent += struct.pack(">II", len(body) + 4, id) + body
        return True

    def flush(self):
        while self.unsent:
            try:
                del self.unsent[:os.write(self.sink, self.unsent)]
            except OSError:
                os._exit(1)  # nobody reads any more [L-5]


def protocol_descriptors(io):
    """Where to read and where to write, with 0 and 1 out of the way of whatever prints or reads [X-4] [X-5]."""
    if io == "stdio":
        source, sink = os.dup(0), os.dup(1)  # not inheritable, as always with dup in Python
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        return source, sink
    numbers = re.fullmatch(r"fd:(\d{1,9}),(\d{1,9})", io)
    if not numbers:
        raise OSError("it is neither stdio nor fd:R,W")
    source, sink = int(numbers[1]), int(numbers[2])
    os.set_inheritable(source, False)
    os.set_inheritable(sink, False)
    return source, sink


def leave(code, why):
    print("worker.py: " + why, file=sys.stderr)
    sys.exit(code)


def main():
    if "STOKEHOLD_IO" not in os.environ and os.isatty(0):
        leave(2, "this is a worker, run it with: stokehold run -- python3 worker.py")
    offer = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("STOKEHOLD_")}
    try:
        worker = Worker(*protocol_descriptors(offer.get("STOKEHOLD_IO", "stdio")))
    except OSError as error:
        leave(2, "cannot use STOKEHOLD_IO: %s" % error)
    signal.signal(signal.SIGINT, lambda *_: None)  # the parent decides
    for code, variable, ours in ("version", "STOKEHOLD_PROTO", 1), ("codec", "STOKEHOLD_CODEC", "msgpack"):
        if str(ours) not in offer.get(variable, str(ours)).split(","):
            why = "%s does not offer %s" % (variable, ours)
            worker.send(0, "FAILED", {"code": code, "message": why, "data": {"supported": [ours]}})
            worker.flush()
            leave(5, why)  # [V-3]
    worker.run()


if __name__ == "__main__":
    main()
