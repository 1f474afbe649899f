"""A small worker that keeps the rules, save for the one that MUTATION names: what a conformance kit has to find."""
import array
import fcntl
import os
import re
import select
import struct
import sys
import termios
import time

MUTATION = os.environ.get("MUTATION", "")
NIL = b"\xc0"
MINUS_ZERO, PLUS_ZERO = b"\xcb\x80" + bytes(7), b"\xcb" + bytes(8)


def text(value):
    return bytes([0xA0 | len(value)]) + value


def leave(code, why):
    print(why, file=sys.stderr)
    sys.exit(code)


def field(body, at):
    """The text, integer or nil at `at`, and where it ends."""
    mark = body[at] if at < len(body) else 0
    at, size = at + 1, 0
    if 0xA0 <= mark <= 0xBF:
        size = mark & 31
    elif 0xD9 <= mark <= 0xDB:
        width = 1 << (mark - 0xD9)
        size, at = int.from_bytes(body[at:at + width], "big"), at + width
    elif 0xCC <= mark <= 0xD3:
        size = 1 << (mark & 3)
    return body[at:at + size], at + size


class Child:
    def __init__(self, source, sink):
        self.source, self.sink, self.held = source, sink, b""
        self.count, self.pair = 0, []

    def send(self, id, request, data):
        body = b"\x94" + text(request) + b"\x00" + NIL + data
        frame = struct.pack(">II", len(body) + 4, id) + body
        if MUTATION == "holds_back_answers" and request == b"FINISHED":
            self.held += frame  # and waits for the next one to go with it
            return
        if MUTATION == "trailing_byte" and request == b"FINISHED":
            frame = struct.pack(">II", len(body) + 5, id) + body + b"\xc0"
        os.write(self.sink, self.held)
        self.held = b""
        while frame:
            frame = frame[os.write(self.sink, frame):]

    def read(self, size):
        data = b""
        while len(data) < size:
            more = os.read(self.source, size - len(data))
            if MUTATION == "short_reads" and more:
                return more.ljust(size, b"\0")  # takes one read for a whole frame
            if not more:
                break
            data += more
        return data

    def next_frame(self):
        header = self.read(8)
        while not header and MUTATION == "no_eof_exit":
            if "SAW_THE_END" in os.environ:
                open(os.environ["SAW_THE_END"], "w").close()
            time.sleep(0.01)
            header = self.read(8)
        if not header:
            return None
        length = int.from_bytes(header[:4], "big")
        if len(header) >= 4 and not 5 <= length <= 0x00FFFFFF and MUTATION != "no_length_check":
            leave(4, "no frame begins with %r" % header)
        if MUTATION == "reads_past_a_frame":
            length += 1
        if MUTATION == "no_length_check":
            length = min(max(length, 5), 1 << 20)
        body = self.read(length - 4) if len(header) == 8 else b""
        if len(body) != length - 4 and MUTATION != "half_frame_is_the_end":
            leave(3, "the input ended inside a frame")
        if len(body) != length - 4:
            return None
        return int.from_bytes(header[4:], "big"), body

    def answer(self, id, request, data):
        if MUTATION == "prints_unguarded":
            print("working on", id, flush=True)
        if MUTATION == "wrong_id":
            id += 1
        self.count += 1
        if MUTATION == "forgets_the_300th" and self.count == 300:
            return
        if MUTATION == "dies_after_200" and self.count == 200:
            leave(9, "enough")
        if MUTATION == "forgets_an_empty_key" and data.startswith(b"\x81\xa0"):
            data = b"\x80"
        if MUTATION == "forgets_the_sign_of_zero" and data == MINUS_ZERO:
            data = PLUS_ZERO
        if MUTATION == "swaps_two":
            return self.swap(id, request, data)
        self.send(id, request, data)
        if MUTATION == "answers_twice" or MUTATION == "answers_the_200th_twice" and self.count == 200:
            self.send(id, request, data)

    def swap(self, id, request, data):
        """Answers two tasks at once if two are there, each with the result of the other."""
        self.pair.append((id, data))
        if len(self.pair) == 1 and select.select([self.source], [], [], 0.05)[0]:
            return
        ids, data = zip(*self.pair)
        self.pair = []
        for id, data in zip(ids, reversed(data)):
            self.send(id, request, data)

    def run(self):
        if MUTATION == "ready_before_hello":
            self.send(0, b"READY", NIL)
        hello = text(b"v") + (b"\x02" if MUTATION == "wrong_version" else b"\x01")
        if MUTATION == "claims_a_request":
            hello += text(b"methods") + b"\x92" + text(b"DO") + text(b"test.big")
        if MUTATION == "swaps_two":
            hello += text(b"window") + b"\x02"
        if MUTATION == "claims_without_testee":
            hello += text(b"caps") + b"\x93" + text(b"cancel") + text(b"ping") + text(b"meta")
        more = MUTATION in ("claims_a_request", "swaps_two", "claims_without_testee")
        self.send(0, b"HELLO", bytes([0x80 | 1 + more]) + hello)
        self.send(0, b"READY", NIL)
        for id, body in iter(self.next_frame, None):
            heads = [head for head in (b"\x94", b"\xdc\0\4", b"\xdd\0\0\0\4") if body.startswith(head)]
            request, at = field(body, len(heads[0])) if heads else (b"", 0)
            data = body[field(body, field(body, at)[1])[1]:]
            if not request or not data:
                leave(4, "this is no message")
            if request == b"DO" and (id or MUTATION == "answers_one_way"
                                     or MUTATION == "answers_large_one_way" and len(data) > 100000):
                if MUTATION == "drops_the_last_answer" and self.at_the_end():
                    break
                self.answer(id, b"FINISHED", data)
            elif request == b"PING" and MUTATION == "claims_without_testee":
                self.send(0, b"PONG", data)
            elif request == b"DIE" and MUTATION != "ignores_die":
                break
            elif request == b"HELLO" and MUTATION == "refuses_unknown_keys" and b"x-new" in data:
                leave(4, "an unknown key")
            elif id and (MUTATION == "answers_strays" and request in (b"FINISHED", b"FAILED")
                         or MUTATION == "answers_unknown_words" and request.startswith((b"FUTURE", b"TELEPORT"))
                         or not re.fullmatch(rb"[A-Z][A-Z0-9_]*", request)):
                if MUTATION == "silent_about_long_names" and len(request) > 200:
                    continue
                if MUTATION == "exits_at_long_names" and len(request) > 200:
                    leave(7, "what a name")
                code = b"error" if MUTATION == "wrong_code" else b"unknown_request"
                if MUTATION == "decodes_first" and (data[0] == 0xc1 or field(data, 0)[1] > len(data)):
                    code = b"bad_data"
                self.send(id, b"FAILED", b"\x81" + text(b"code") + text(code))
        sys.exit(1 if MUTATION == "fails_at_the_end" else 0)

    def at_the_end(self):
        """Whether nothing follows: a child that stops at once then forgets what it has in hand."""
        time.sleep(0.05)
        waiting = array.array("i", [0])
        fcntl.ioctl(self.source, termios.FIONREAD, waiting)
        return bool(select.select([self.source], [], [], 0)[0]) and not waiting[0]


if os.isatty(0) and "STOKEHOLD_IO" not in os.environ:
    leave(2, "a worker is run by its parent")
source, sink = os.dup(0), os.dup(1)
if MUTATION != "prints_unguarded":
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
Child(source, sink).run()
