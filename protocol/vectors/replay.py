#!/usr/bin/env python3
"""Replays `frames.jsonl` and `sessions/*.jsonl` (README.md says what is in them) against a child that answers the requests
`test.*` and DO by an echo: the program that an SDK has for its tests.

    replay.py [--frames] [--sessions] [--only WORD] [--but NAME] [--level L2|L3] [--loose-floats] [--raw-data] [--jobs N]
              -- COMMAND...

Without --frames and --sessions it does both. --but leaves out a session, say one whose strength is `should` and that the child has
a reason to fail; --level L2 leaves out the sessions of L3; --loose-floats takes 1 for 1.0, which is what some languages write; --raw-data is for a child that does not decode data ([D-14]):
the same bytes may come back instead of FAILED `bad_data`. Exit 0: all is as it must be, or was skipped with a reason; 1: something
is not. Python 3.8, the standard library only; it shares no code with any SDK.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import queue
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time

ME = 1234                  # the parent's address
LIMIT_S = 8.0              # for one expectation that names none
HERE = pathlib.Path(__file__).resolve().parent
ASIDES = ("CREDIT", "LOG", "PROGRESS")  # a child may say these at any time
LEVELS = 64 + 2            # no value is deeper ([D-2]), but for those around it in the answer of a BATCH
LOOSE_FLOATS = False
RAW_DATA = False


class Wrong(Exception):
    """What the child did, or what it did not."""


class Over(Exception):
    """The script ends here, and all is well."""


class Skip(Exception):
    """Why this says nothing about the child."""


# Values. A map is a `Map`, so that its order and a key that is there twice can be seen.

class Map(list):
    def get(self, key, default=None):
        return next((value for name, value in self if name == key), default)


class Unread:
    """Data that is no value, from a child that does not look at it."""

    def __repr__(self):
        return "(no value)"


class Message(list):
    """Request, sender, recipient and data; and the bytes of the data."""

    raw = b""


NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i",
           0xD3: ">q"}
SIZED = {0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4), 0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4),
         0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2), 0xDF: ("map", 4)}


ARRAYS_OF_FOUR = {0x94: b"\x94", 0xDC: b"\xdc\0\4", 0xDD: b"\xdd\0\0\0\4"}


def decode(body, at=0, level=1):
    """The value at that place, which has so many levels with those around it, and where it ends."""
    mark = body[at]
    at += 1
    if mark < 0x80 or mark >= 0xE0:
        return (mark if mark < 0x80 else mark - 256), at
    if mark in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[mark], at
    if mark in NUMBERS:
        size = struct.calcsize(NUMBERS[mark])
        return struct.unpack(NUMBERS[mark], body[at:at + size])[0], at + size
    if mark < 0xC0:
        kind, size = ("str", mark & 31) if mark >= 0xA0 else ("array" if mark >= 0x90 else "map", mark & 15)
    elif mark in SIZED:
        kind, width = SIZED[mark]
        size, at = int.from_bytes(body[at:at + width], "big"), at + width
    else:
        raise Wrong("a value begins with 0x%02x" % mark)
    if kind in ("str", "bin"):
        if at + size > len(body):
            raise Wrong("a body ends inside a value")
        content = body[at:at + size]
        return (content.decode() if kind == "str" else content), at + size
    if level > LEVELS:
        raise Wrong("a value of more than %d levels" % LEVELS)
    values = Map() if kind == "map" else []
    for _ in range(size):
        value, at = decode(body, at, level + 1)
        if kind == "map":
            item, at = decode(body, at, level + 1)
            value = (value, item)
        values.append(value)
    return values, at


def read_message(body):
    """The message that is all of a body. Its data may be none if the child need not look at it."""
    if body[0] not in ARRAYS_OF_FOUR or not body.startswith(ARRAYS_OF_FOUR[body[0]]):
        raise Wrong("no array of four")
    message, at = Message(), len(ARRAYS_OF_FOUR[body[0]])
    for _ in range(3):
        field, at = decode(body, at)
        message.append(field)
    if not isinstance(message[0], str):
        raise Wrong("the request is no text")
    message.raw = body[at:]
    try:
        data, end = decode(body, at)
        if end != len(body):
            raise Wrong("bytes behind the message")
    except (Wrong, ValueError, IndexError, struct.error):
        if not RAW_DATA or message[0] != "FINISHED":
            raise
        data = Unread()
    message.append(data)
    return message


def encode(value):
    if value is None or value is True or value is False:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        if -32 <= value < 128:
            return struct.pack("B", value & 255)
        for mark in range(0xCC, 0xD4):
            try:
                return bytes([mark]) + struct.pack(NUMBERS[mark], value)
            except struct.error:
                pass
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        return mark_of("str", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return mark_of("bin", len(value)) + value
    if isinstance(value, Map):
        return mark_of("map", len(value)) + b"".join(encode(key) + encode(item) for key, item in value)
    return mark_of("array", len(value)) + b"".join(map(encode, value))


def mark_of(kind, size):
    short, limit = {"str": (0xA0, 32), "bin": (0, 0), "array": (0x90, 16), "map": (0x80, 16)}[kind]
    if size < limit:
        return bytes([short | size])
    mark, width = next((mark, width) for mark, (of, width) in SIZED.items() if of == kind and size < 256**width)
    return bytes([mark]) + size.to_bytes(width, "big")


def to_bytes(notation):
    if isinstance(notation, str):
        return bytes.fromhex(notation)
    if isinstance(notation, dict):
        return bytes.fromhex(notation["repeat"][0]) * notation["repeat"][1]
    return b"".join(map(to_bytes, notation))


def value_of(notation, names):
    """The value that a notation stands for; `names` are the texts with a meaning."""
    if isinstance(notation, str):
        return names.get(notation, notation)
    if isinstance(notation, list):
        return [value_of(item, names) for item in notation]
    if not isinstance(notation, dict):
        return notation
    tag, inner = next(iter(notation.items()), ("", None))
    if tag == "$int":
        return int(inner)
    if tag == "$f64":
        return struct.unpack(">d", bytes.fromhex(inner))[0]
    if tag == "$bin":
        return bytes.fromhex(inner) if isinstance(inner, str) else bytes.fromhex(inner[0]) * inner[1]
    if tag == "$str":
        return (bytes.fromhex(inner[0]) * inner[1]).decode()
    if tag == "$map":
        return Map((value_of(key, names), value_of(item, names)) for key, item in inner)
    if tag == "$nest":  # a value inside so many arrays
        value = value_of(inner[1], names)
        for _ in range(inner[0]):
            value = [value]
        return value
    return Map((key, value_of(item, names)) for key, item in notation.items())


def same(found, wanted):
    """Whether two values are the same: kind, bits, and for maps the pairs in any order."""
    if isinstance(wanted, Map) or isinstance(found, Map):
        if not isinstance(wanted, Map) or not isinstance(found, Map) or len(found) != len(wanted):
            return False
        if not all(isinstance(key, str) for key, _ in found):
            return False
        rest = dict(found)
        return len(rest) == len(found) and all(key in rest and same(rest[key], value) for key, value in wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, float) and isinstance(found, float):
        return struct.pack(">d", found) == struct.pack(">d", wanted) or found != found and wanted != wanted
    if LOOSE_FLOATS and isinstance(wanted, float) and type(found) is int:
        return found == wanted
    return type(found) is type(wanted) and found == wanted


def fits(found, wanted, child):
    """Whether a value is one that a script expects: wildcards, alternatives, maps with at least the pairs that are named."""
    if isinstance(wanted, str):
        if wanted == "$any":
            return True
        if wanted == "$uint":
            return type(found) is int and found >= 0
        if wanted == "$text":
            return isinstance(found, str)
        if wanted == "$pid":
            return type(found) is int and found in (0, child.address)
        if wanted == "$me":
            return found is None or found == ME
    if isinstance(wanted, dict):
        tag, inner = next(iter(wanted.items()), ("", None))
        if tag == "$has":
            return isinstance(found, str) and inner in found
        if tag == "$one_of":
            return any(fits(found, one, child) for one in inner)
        if not tag.startswith("$"):
            return isinstance(found, Map) and all(
                fits(found.get(key, "$absent"), value, child) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and not isinstance(found, Map) and len(found) == len(wanted) and all(
            fits(one, other, child) for one, other in zip(found, wanted))
    return same(found, value_of(wanted, {}))


# A child

class Child:
    """A started child, its frames in a queue as `(id, message)`, `Wrong`, or None at the end of its output."""

    def __init__(self, command, env=None, io="stdio"):
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STOKEHOLD_")}
        environ.update(STOKEHOLD_IO="stdio", STOKEHOLD_PROTO="1", STOKEHOLD_CODEC="msgpack", STOKEHOLD_WORKER="0",
                       STOKEHOLD_PARENT=str(os.getpid()), STOKEHOLD_RUN="00000000-0000-4000-8000-000000000000")
        stdin = stdout = subprocess.PIPE
        passed = ()
        if io == "fd":
            theirs_in, ours_out = os.pipe()
            ours_in, theirs_out = os.pipe()
            environ["STOKEHOLD_IO"] = "fd:%d,%d" % (theirs_in, theirs_out)
            stdin, stdout, passed = subprocess.DEVNULL, subprocess.PIPE, (theirs_in, theirs_out)
        environ.update(env or {})
        environ = {name: value for name, value in environ.items() if value is not None}
        self.process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=environ,
                                        pass_fds=passed, start_new_session=True)
        if io == "fd":
            os.close(theirs_in)
            os.close(theirs_out)
        else:
            ours_out, ours_in = os.dup(self.process.stdin.fileno()), os.dup(self.process.stdout.fileno())
            self.process.stdin.close()
        self.out, self.source, self.stop = ours_out, ours_in, os.pipe()
        self.frames, self.stderr, self.text = queue.Queue(), [], []
        self.address, self.hello, self.listed = self.process.pid, Map(), ()
        readers = [(self.read, ()), (self.read_text, (self.process.stderr, self.stderr))]
        if io == "fd":
            readers.append((self.read_text, (self.process.stdout, self.text)))
        else:
            self.process.stdout.close()
        self.readers = [threading.Thread(target=target, args=arguments, daemon=True) for target, arguments in readers]
        for reader in self.readers:
            reader.start()

    def read_text(self, stream, into):
        for line in stream:
            into.append(line.decode("utf-8", "replace"))

    def read(self):
        buffer = bytearray()
        while True:
            ready = select.select([self.source, self.stop[0]], [], [])[0]
            if self.stop[0] in ready:
                os.close(self.source)
                return
            piece = os.read(self.source, 1 << 20)
            if not piece:
                self.frames.put(Wrong("its output ends inside a frame") if buffer else None)
                return
            buffer += piece
            while len(buffer) >= 4:
                length = int.from_bytes(buffer[:4], "big")
                if not 5 <= length < 0x08000000:
                    return self.frames.put(Wrong("no frame begins with %r" % bytes(buffer[:32])))
                if len(buffer) < length + 4:
                    break
                id, body = int.from_bytes(buffer[4:8], "big"), bytes(buffer[8:length + 4])
                del buffer[:length + 4]
                try:
                    self.frames.put((id, read_message(body)))
                except (Wrong, ValueError, IndexError, struct.error) as error:
                    self.frames.put(Wrong("a message that cannot be read: %s: %r" % (error, body[:40])))

    def write(self, data, each=None):
        each = each or max(1, len(data))
        end = time.monotonic() + LIMIT_S
        os.set_blocking(self.out, False)
        view = memoryview(data)
        while view:
            if not select.select([], [self.out], [], max(0, end - time.monotonic()))[1]:
                raise Wrong("it does not read")
            try:
                view = view[os.write(self.out, view[:each]):]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # what it wrote, and how it ended, is judged later

    def close_in(self):
        if self.out is not None:
            os.close(self.out)
            self.out = None

    def close_out(self):
        os.write(self.stop[1], b"x")

    def next(self, seconds):
        try:
            frame = self.frames.get(timeout=max(0.001, seconds))
        except queue.Empty:
            raise Wrong("nothing came in %.1f s" % seconds) from None
        if isinstance(frame, Wrong):
            raise frame
        if frame is None:
            self.frames.put(None)  # the end stays
        return frame

    def open(self, overlay=None):
        """The handshake."""
        frame = self.next(LIMIT_S)
        if frame is None or frame[0] != 0 or frame[1][0] != "HELLO" or not isinstance(frame[1][3], Map):
            raise Wrong("%s instead of HELLO" % shown(frame))
        self.hello = frame[1][3]
        self.check_hello()
        hello = {"v": 1, "pid": self.address, "parent": ME, "caps": [], "max_frame": 0x07FFFFFF}
        hello.update(overlay or {})
        self.listed = hello["caps"]
        self.send(0, ["HELLO", ME, self.address, Map(hello.items())])
        while self.hello.get("ready") is not True:
            frame = self.next(LIMIT_S)
            if frame is not None and frame[1][0] == "READY":
                return
            if frame is None or frame[1][0] not in ASIDES:
                raise Wrong("%s instead of READY" % shown(frame))

    def check_hello(self):
        kinds = {"v": int, "window": int, "window_bytes": int, "caps": list, "max_frame": int, "serial": bool, "sdk": str,
                 "methods": list, "ready": bool}
        for key, value in self.hello:
            if key in kinds and type(value) is not kinds[key] or kinds.get(key) is list and not all(
                    isinstance(one, str) for one in value):
                raise Wrong("%s of HELLO is %r" % (key, value))
        if self.hello.get("v") != 1 or self.hello.get("window", 1) < 1:
            raise Wrong("HELLO has version %r and window %r" % (self.hello.get("v"), self.hello.get("window")))
        if not 65536 <= self.hello.get("max_frame", 65536) < 0x08000000:
            raise Wrong("max_frame of HELLO is %d" % self.hello.get("max_frame"))

    def send(self, id, message):
        self.write(frame_of(id, message))

    def expect(self, wanted, seconds=LIMIT_S):
        """The next frame is one of `wanted`, each `[id, message]`. Gives which."""
        end = time.monotonic() + seconds
        while True:
            frame = self.next(end - time.monotonic())
            for index, one in enumerate(wanted):
                if frame is not None and frame[0] == one[0] and fits(frame[1], one[1], self):
                    return index
            if frame is None:
                raise Wrong("the end of its output instead of %s" % " or ".join(map(json.dumps, wanted)))
            is_aside = frame[1][0] in ASIDES or frame[1][0] == "STARTED" and "started" in self.listed
            if frame[1][0] == "FAILED" and isinstance(frame[1][3], Map) and "unknown_request" == frame[1][3].get("code"):
                if self.needs and self.hello.get("methods") is None:  # a language may lack what a request of the testee is about, but no test may need DO only
                    raise Skip("it has no handler: %s" % frame[1][3].get("message"))
            if not is_aside:
                raise Wrong("%s instead of %s" % (shown(frame), " or ".join(map(json.dumps, wanted))))

    def wait(self, seconds, may=()):
        """Its exit code; everything it still writes must be BYE, an aside, or one of `may`."""
        end = time.monotonic() + seconds
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Wrong("it runs on after %.1f s" % seconds) from None
        while True:
            try:
                frame = self.frames.get(timeout=max(0.001, end - time.monotonic()) if not self.closed_out else 0.001)
            except queue.Empty:
                if not self.closed_out:
                    raise Wrong("it has ended, but something it started holds its output open") from None
                return code
            if frame is None:
                return code
            if isinstance(frame, Wrong):
                raise frame
            is_allowed = any(frame[0] == id and fits(frame[1], message, self) for id, message in may)
            if frame[1][0] not in ASIDES + ("BYE", "STARTED") and not is_allowed:
                raise Wrong("%s, which nobody asked for" % shown(frame))

    closed_out, needs = False, ()

    def end(self):
        self.close_in()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass
        self.process.wait()
        self.close_out()
        for reader in self.readers:
            reader.join(1)
        self.process.stderr.close()
        for number in self.stop:
            os.close(number)

    def said(self):
        end = time.monotonic() + 1
        self.readers[1].join(max(0, end - time.monotonic()))
        return "".join(self.stderr)


def frame_of(id, message):
    body = b"\x94" + b"".join(map(encode, message))
    return struct.pack(">II", len(body) + 4, id) + body


def shown(frame):
    return "the end of its output" if frame is None else "%d %.300r" % frame


# Scripts

def play(path, options):
    header, *steps = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    if header.get("version") != 1 or header["schema"] != "stokehold-session":
        raise Wrong("a script of another kind")
    if header["level"] > options.level:
        raise Skip("level %s" % header["level"])
    if path.stem in options.but:
        raise Skip("left out by --but")
    child = Child(options.command, header.get("env"), header.get("io", "stdio"))
    child.needs = header.get("needs", ())
    try:
        for number, step in enumerate(steps, 2):
            try:
                play_step(child, header, step)
            except Over:
                return
            except Wrong as wrong:
                said = child.said() if child.process.poll() is not None else "".join(child.stderr)
                raise Wrong("line %d: %s%s" % (number, wrong, said and "; on stderr: %s" % said[-600:])) from None
    finally:
        child.end()


def play_step(child, header, step):
    seconds = step.get("within_ms", LIMIT_S * 1000) / 1000
    names = {"$pid": child.address, "$me": ME}
    if "open" in step:
        child.open(step["open"])
        caps, methods = child.hello.get("caps", []), child.hello.get("methods")
        for name in header.get("caps", ()):
            if name not in caps:
                raise Skip("it does not list the capability %s" % name)
        if child.hello.get("window", 1) < header.get("window", 1):
            raise Skip("its window is %d" % child.hello.get("window", 1))
        if child.hello.get("max_frame", 0x00FFFFFF) != header.get("max_frame", child.hello.get("max_frame", 0x00FFFFFF)):
            raise Skip("its max_frame is %d" % child.hello.get("max_frame"))
        for name in header.get("needs", ()):
            if methods is not None and name not in methods:
                raise Skip("it has no handler for %s" % name)
    elif "send" in step or "send_all" in step:
        frames = step["send_all"] if "send_all" in step else [step["send"]]
        child.write(b"".join(frame_of(id, value_of(message, names)) for id, message in frames))
    elif "raw" in step:
        child.write(to_bytes(step["raw"]), step.get("each"))
    elif "expect" in step:
        child.expect([step["expect"]], seconds)
    elif "expect_any_of" in step:
        child.expect(step["expect_any_of"], seconds)
    elif "expect_or_exit" in step:
        try:
            child.expect([step["expect_or_exit"]], seconds)
        except Wrong:
            if child.process.poll() is None or child.wait(seconds) <= 0:
                raise
            raise Over from None
    elif "expect_all" in step:
        rest = list(step["expect_all"])
        while rest:
            del rest[child.expect(rest, seconds)]
    elif "close" in step:
        if step["close"] == "in":
            child.close_in()
        else:
            child.closed_out = True
            child.close_out()
    elif "signal" in step:
        os.kill(child.process.pid, getattr(signal, "SIG" + step["signal"]))
    elif "wait_ms" in step:
        time.sleep(step["wait_ms"] / 1000)
    elif "exit" in step:
        code, wanted = child.wait(seconds, step.get("may", ())), step["exit"]
        if wanted != "any" and (code <= 0 if wanted == "error" else code != wanted):
            raise Wrong("exit code %s instead of %s" % (code, wanted))
    elif "stderr" in step:
        if not fits(child.said(), step["stderr"], child):
            raise Wrong("its stderr has no %s" % json.dumps(step["stderr"]))
    else:
        raise Wrong("a step that this replayer does not know")


# Vectors

class Vectors:
    """All vectors of `frames.jsonl`, as many as can be over one session."""

    def __init__(self, options):
        self.options, self.child, self.sentinel = options, None, 0x7F000000

    def run(self, max_frame, vectors):
        results = []
        for vector in vectors:
            try:
                self.judge(vector, to_bytes(vector["bytes"]), max_frame)
                problem = None
            except (Wrong, Skip) as found:
                problem = found
                self.drop()
            results.append(("%s (%s)" % (vector["id"], vector["why"]), problem))
        self.drop()
        return results

    def ready(self):
        if self.child is None:
            self.child = Child(self.options.command)
            self.child.open()
        return self.child

    def drop(self):
        if self.child is not None:
            self.child.end()
        self.child = None

    def judge(self, vector, stream, max_frame):
        if vector["verdict"] == "reject":
            if vector.get("max_frame", max_frame) != max_frame:
                raise Skip("for a reader with another max_frame")
            getattr(self, "judge_" + vector["error"])(vector, stream)
            return
        request, _, _, value = vector["msg"]
        task, wanted = vector["task"], value_of(value, {})
        if request == "DIE":
            self.drop()
            self.ready().write(stream)
            self.exits((0,))
        elif request not in ("HELLO", "META", "BATCH", "PING"):
            child = self.ready()
            child.write(stream)
            answers = []
            if task and request == "DO":
                answers = [[task, "FINISHED", wanted]]
            elif task and not re.fullmatch("[A-Z][A-Z0-9_]*", request):
                answers = [[task, "FAILED", Map([("code", "unknown_request")])]]
            self.answered(answers)
        # The data of every other request, and of this one, is a value like any other.
        at = decode_head(stream[8:])
        data = stream[8 + at:]
        body = b"\x94\xa2DO\x01\xc0" + data
        self.ready().write(struct.pack(">II", len(body) + 4, 5) + body)
        self.answered([[5, "FINISHED", wanted]])

    def judge_desync(self, _, stream):
        self.drop()
        self.ready().write(stream)
        self.exits(range(1, 126))

    def judge_truncated(self, _, stream):
        self.drop()
        child = self.ready()
        child.write(stream)
        child.close_in()
        self.exits(range(1, 126))

    def judge_too_large(self, vector, stream):
        self.drop()
        child = self.ready()
        if child.hello.get("max_frame", 0x00FFFFFF) != 0x00FFFFFF:
            raise Skip("it has another max_frame")
        child.write(stream)
        if vector.get("partial"):
            child.close_in()
            return self.exits(range(1, 126), [vector["task"], "FAILED", Map([("code", "too_large")])])
        self.failed_or_gone(vector["task"], "too_large")

    def judge_bad_message(self, vector, stream):
        self.ready().write(stream)
        self.failed_or_gone(vector["task"], "bad_message")

    def judge_bad_data(self, vector, stream):
        self.ready().write(stream)
        body = stream[8:]
        request = decode(body, len(ARRAYS_OF_FOUR[body[0]]))[0]
        answers = [[vector["task"], "FAILED", Map([("code", "bad_data")])]] if request == "DO" and vector["task"] else []
        if vector["spec"] in ("D-4", "D-5", "D-6", "D-7") and answers:
            answers.append([vector["task"], "FINISHED", None])
        self.answered(answers, body[decode_head(body):] if RAW_DATA and answers else None)

    def answered(self, answers, raw=None):
        """The next frame is one of `answers`, or the first task FINISHED with these bytes, and nothing is behind it."""
        child = self.child
        self.sentinel += 1
        child.send(self.sentinel, ["DO", ME, None, self.sentinel])
        found = []
        while True:
            frame = self.next_answer()
            if frame is None:
                raise Wrong("the end of its output; on stderr: %s" % child.said()[-300:])
            if frame[0] == self.sentinel:
                break
            found.append(frame)
        if not answers and not found:
            return
        if len(found) != 1:
            raise Wrong("answers: %s" % ", ".join(map(shown, found)))
        if raw is not None and found[0][0] == answers[0][0] and found[0][1][0] == "FINISHED" and found[0][1].raw == raw:
            return
        for id, request, data in answers:
            if found[0][0] == id and found[0][1][0] == request:
                if request == "FAILED":
                    got = found[0][1][3]
                    if isinstance(got, Map) and got.get("code") == data.get("code"):
                        return
                elif len(answers) > 1 or same(found[0][1][3], data):
                    return
        raise Wrong("%s instead of %.300r" % (shown(found[0]), answers))

    def next_answer(self):
        while True:
            frame = self.child.next(LIMIT_S)
            if frame is None or frame[1][0] not in ASIDES:
                return frame

    def failed_or_gone(self, task, code):
        child = self.child
        self.sentinel += 1
        child.send(self.sentinel, ["DO", ME, None, self.sentinel])
        frame = self.next_answer()
        if frame is None:
            self.exits(range(1, 126))
            return
        if task:
            data = frame[1][3]
            if frame[0] != task or frame[1][0] != "FAILED" or not isinstance(data, Map) or data.get("code") != code:
                raise Wrong("%s instead of FAILED %s" % (shown(frame), code))
            frame = self.next_answer()
        if frame is None or frame[0] != self.sentinel:
            raise Wrong("%s instead of an echo" % shown(frame))

    def exits(self, codes, may_answer=None):
        child, self.child = self.child, None
        try:
            if may_answer is not None:
                frame = child.next(LIMIT_S)
                if frame is not None and (frame[0] != may_answer[0] or frame[1][0] != may_answer[1]):
                    raise Wrong("%s, which nobody asked for" % shown(frame))
            code = child.wait(LIMIT_S)
            if code not in codes:
                raise Wrong("exit code %d" % code)
        finally:
            child.end()


def decode_head(body):
    at = len(ARRAYS_OF_FOUR[body[0]])
    for _ in range(3):
        at = decode(body, at)[1]
    return at


def main():
    global LOOSE_FLOATS, RAW_DATA
    parser = argparse.ArgumentParser(description="Replays frames.jsonl and sessions/*.jsonl against a child.")
    parser.add_argument("--frames", action="store_true")
    parser.add_argument("--sessions", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--but", action="append", default=[])
    parser.add_argument("--level", default="L3", choices=["L2", "L3"])
    parser.add_argument("--loose-floats", action="store_true")
    parser.add_argument("--raw-data", action="store_true",
                        help="the child does not decode data: the same bytes may come back instead of FAILED bad_data (D-14)")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--list", action="store_true", help="also what passed and what was skipped")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    sys.setrecursionlimit(10000)  # for what the scripts send: what comes has LEVELS
    LOOSE_FLOATS, RAW_DATA = options.loose_floats, options.raw_data
    both = not options.frames and not options.sessions
    results = []
    if options.sessions or both:
        paths = [path for path in sorted((HERE / "sessions").glob("*.jsonl")) if options.only in path.stem]

        def one(path):
            try:
                play(path, options)
                return path.stem, None
            except (Wrong, Skip) as problem:
                return path.stem, problem
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            results += pool.map(one, paths)
    if options.frames or both:
        header, *vectors = map(json.loads, (HERE / "frames.jsonl").read_text(encoding="ascii").splitlines())
        # Lines of text mode are for children that are asked to speak it, which this replayer does not do.
        vectors = [vector for vector in vectors if options.only in vector["id"] and "carrier" not in vector]
        # Those that end a child are dealt out evenly.
        vectors.sort(key=lambda vector: vector["verdict"] == "reject" and vector["stage"] == "frame")
        hands = [vectors[hand::options.jobs] for hand in range(options.jobs)]
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for found in pool.map(lambda hand: Vectors(options).run(header["max_frame"], hand), hands):
                results += found
    wrong = [result for result in results if isinstance(result[1], Wrong)]
    skipped = [result for result in results if isinstance(result[1], Skip)]
    for name, problem in results if options.list else wrong:
        verdict = "pass" if problem is None else "skip" if isinstance(problem, Skip) else "FAIL"
        print("%s %s%s" % (verdict, name, ": %s" % problem if problem else ""))
    print("%d passed, %d failed, %d skipped" % (len(results) - len(wrong) - len(skipped), len(wrong), len(skipped)))
    return 1 if wrong or not results else 0


if __name__ == "__main__":
    sys.exit(main())
