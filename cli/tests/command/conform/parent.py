"""A small parent that keeps the rules, save for the one that FAULT names: what a conformance kit has to find.

It does a task for each line of its input in one child at a time, whose command is its arguments (`sdks/TESTEE.md`)."""
import collections
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time

FAULT = os.environ.get("FAULT", "")
HELLO_WITHIN, READY_WITHIN, TASK_WITHIN, GRACE = 3, 2, 4, 0.4
ATTEMPTS, STARTS_IN_VAIN = 2, 5
LONGEST, MAX_FRAME = 0x07FFFFFF, 0x00FFFFFF
CODES = ("error unknown_request bad_data bad_message too_large cancelled overloaded unavailable version codec").split()
CHILDS = ("HELLO READY ITEM FINISHED FAILED PROGRESS LOG STARTED PONG CREDIT BYE").split()
PARENTS = ("META CANCEL PING DIE BATCH").split()


class Broken(Exception):
    """The child broke a rule: the connection ends."""


class BadData(Exception):
    """Bytes that are no value."""


# MessagePack, as much of it as the protocol has.

def pack(value):
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        for low, high, form in ((0, 127, ">B"), (-32, -1, ">b")):
            if low <= value <= high:
                return struct.pack(form, value)
        for mark, form in ((0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q"),
                           (0xD0, ">b"), (0xD1, ">h"), (0xD2, ">i"), (0xD3, ">q")):
            try:
                return bytes([mark]) + struct.pack(form, value)
            except struct.error:
                pass
        raise BadData("an integer that is too large")
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        text = value.encode()
        return length(len(text), (0xA0, 32), (0xD9, 0xDA, 0xDB)) + text
    if isinstance(value, list):
        return length(len(value), (0x90, 16), (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
    pairs = (pack(part) for pair in value.items() for part in pair)
    return length(len(value), (0x80, 16), (None, 0xDE, 0xDF)) + b"".join(pairs)


def length(count, small, marks):
    if count < small[1]:
        return bytes([small[0] | count])
    for mark, form, limit in zip(marks, (">BB", ">BH", ">BI"), (1 << 8, 1 << 16, 1 << 32)):
        if mark and count < limit:
            return struct.pack(form, mark, count)
    raise BadData("too long")


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        piece = self.data[self.at:self.at + count]
        if len(piece) < count:
            raise BadData("it ends too early")
        self.at += count
        return piece

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self, depth=0):
        mark = self.number(">B")
        if mark <= 0x7F:
            return mark
        if mark >= 0xE0:
            return mark - 256
        if mark <= 0x8F:
            return self.map(mark & 15, depth)
        if mark <= 0x9F:
            return self.array(mark & 15, depth)
        if mark <= 0xBF:
            return self.text(mark & 31)
        if 0xCC <= mark <= 0xD3:
            return self.number((">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q")[mark - 0xCC])
        if mark in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[mark]
        if mark in (0xCA, 0xCB):
            return self.number({0xCA: ">f", 0xCB: ">d"}[mark])
        if mark in (0xC4, 0xC5, 0xC6):
            return {"$bin": self.take(self.number((">B", ">H", ">I")[mark - 0xC4])).hex()}
        if mark in (0xD9, 0xDA, 0xDB):
            return self.text(self.number((">B", ">H", ">I")[mark - 0xD9]))
        if mark in (0xDC, 0xDD):
            return self.array(self.number({0xDC: ">H", 0xDD: ">I"}[mark]), depth)
        if mark in (0xDE, 0xDF):
            return self.map(self.number({0xDE: ">H", 0xDF: ">I"}[mark]), depth)
        raise BadData("no value begins with 0x%02x" % mark)

    def text(self, count):
        try:
            return self.take(count).decode()
        except UnicodeDecodeError:
            raise BadData("a text that is no UTF-8")

    def array(self, count, depth):
        if depth == 64:
            raise BadData("nested too deep")
        out = []
        for _ in range(count):  # ends with what has arrived, however many are announced
            out.append(self.value(depth + 1))
        return out

    def map(self, count, depth):
        if depth == 64:
            raise BadData("nested too deep")
        out = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in out:
                raise BadData("a key that is no text, or there twice")
            out[key] = self.value(depth + 1)
        return out


def unpack(data):
    reader = Reader(data)
    value = reader.value()
    if reader.at != len(data):
        raise BadData("something is behind it")
    return value


def head(body):
    """Request and data, or nothing if the head is bad."""
    reader = Reader(body)
    try:
        mark = reader.number(">B")
        count = mark & 15 if mark >> 4 == 9 else reader.number({0xDC: ">H", 0xDD: ">I"}[mark])
        request, sender, recipient = reader.value(63), reader.value(63), reader.value(63)
    except (BadData, KeyError):
        return None
    is_int = lambda value: isinstance(value, int) and not isinstance(value, bool)
    good = (count == 4 and isinstance(request, str) and 1 <= len(request.encode()) <= 255
            and is_int(sender) and 0 <= sender < 1 << 53
            and (recipient is None or is_int(recipient) and (recipient == -1 or 0 < recipient < 1 << 53)))
    return (request, body[reader.at:]) if good and reader.at < len(body) else None


class Child:
    def __init__(self, words):
        environment = dict(os.environ, STOKEHOLD_IO="stdio", STOKEHOLD_PROTO="1", STOKEHOLD_CODEC="msgpack",
                           STOKEHOLD_PARENT=str(os.getpid()))
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=environment, process_group=0)
        self.input, self.output, self.stderr = (
            pipe.fileno() for pipe in (self.process.stdin, self.process.stdout, self.process.stderr))
        for end in (self.input, self.output, self.stderr):
            os.set_blocking(end, False)
        self.state, self.since, self.window, self.max_frame = "new", time.monotonic(), 1, MAX_FRAME
        self.arrived, self.skip, self.unsent, self.said = bytearray(), 0, b"", b""
        self.caps, self.tasks, self.last, self.over, self.answered, self.doomed = [], {}, 0, False, 0, set()
        if FAULT == "speaks_first":
            self.greet()

    def greet(self):
        pid = self.process.pid
        self.send(0, "HELLO", {"v": 1, "pid": pid, "parent": os.getpid(), "caps": [], "max_frame": MAX_FRAME})

    def send(self, id, request, data):
        self.send_packed(id, request, pack(data))

    def send_packed(self, id, request, data):
        body = b"\x94" + pack(request) + pack(os.getpid()) + b"\xc0" + data
        self.unsent += struct.pack(">II", len(body) + 4, id) + body

    def fits(self, data):
        return len(data) + 32 <= self.max_frame or FAULT == "ignores_max_frame"

    def give(self, task):
        self.last = 1 if FAULT == "reuses_ids" else self.last + 1
        self.tasks[self.last] = task
        task.since = time.monotonic()
        if task.attempts and "meta" in self.caps:
            self.send(self.last, "META", {"attempt": task.attempts + 1})
        self.send_packed(self.last, "DO", task.data)

    def is_free(self):
        most = {"ignores_window": 3, "ignores_credit": max(self.window, 1)}.get(FAULT, min(self.window, 1))
        early = FAULT == "sends_early" and self.state == "greeted"
        return not self.over and (self.state == "ready" or early) and len(self.tasks) < most

    def turn(self, wait):
        """Waits for one thing to happen, and deals with it. True for outcomes: (task, outcome)."""
        reads = [end for end in (self.output, self.stderr) if end is not None]
        if FAULT == "leaves_stderr" and self.stderr is not None:
            reads.remove(self.stderr)
        writes = [self.input] if self.unsent and self.input is not None else []
        if FAULT == "blocks_on_write" and writes:
            os.set_blocking(self.input, True)
            reads = []
        if FAULT == "spins":
            wait = 0
        reads, writes, _ = select.select(reads, writes, [], wait)
        if writes:
            try:
                self.unsent = self.unsent[os.write(self.input, self.unsent):]
            except BlockingIOError:
                pass
            except OSError:
                self.close_input()
        if self.stderr in reads:
            piece = os.read(self.stderr, 65536)
            self.said = (self.said + piece)[-4096:]
            if not piece:
                self.stderr = None
        return self.read() if self.output in reads else []

    def is_readable(self):
        return self.output is not None and bool(select.select([self.output], [], [], 0)[0])

    def close_input(self):
        if self.input is not None:
            self.unsent, self.input = b"", None
            self.process.stdin.close()

    def read(self):
        piece = os.read(self.output, 65536)
        if not piece:
            self.output = None
            if FAULT == "takes_half_answers" and len(self.arrived) > 8 and self.tasks:
                id, task = self.tasks.popitem()
                return [(task, {"ok": True, "data": "half"})]
            raise Broken("it closed its output")
        self.arrived += piece
        outcomes = []
        while True:
            skipped = self.arrived[:self.skip]
            del self.arrived[:self.skip]
            self.skip -= len(skipped)
            if self.skip or len(self.arrived) < 4:
                return outcomes
            size = int.from_bytes(self.arrived[:4], "big")
            if not 5 <= size <= LONGEST and FAULT != "no_length_check":
                raise Broken("no frame begins with %r" % bytes(self.arrived[:32]))
            if len(self.arrived) < 8 + 283 and len(self.arrived) < size + 4:
                return outcomes
            id = int.from_bytes(self.arrived[4:8], "big")
            if size > MAX_FRAME and FAULT != "no_length_check":
                outcomes += self.too_large(id, bytes(self.arrived[8:8 + 283]))
                self.skip = size + 4
                continue
            if len(self.arrived) < size + 4:
                return outcomes
            body = bytes(self.arrived[8:size + 4])
            del self.arrived[:size + 4]
            try:
                outcomes += self.take(id, body)
            except Broken as broken:
                broken.outcomes = outcomes
                raise

    def too_large(self, id, body):
        message = head(body)
        if message is None or self.state == "new":
            raise Broken("a frame that is too large, with a bad head")
        if message[0] in ("FINISHED", "FAILED"):
            return [(self.close(id), failure("too_large", "the answer is larger than a frame may be"))]
        if message[0] == "ITEM":
            self.doomed.add(id)
        return []

    def close(self, id):
        if id not in self.tasks:
            raise Broken("an answer to %d, which no task has" % id)
        self.answered += 1
        return self.tasks.pop(id)

    def take(self, id, body):
        message = head(body)
        if self.state == "bye" and FAULT != "reads_behind_bye":
            return []
        if message is None:
            if FAULT == "forgives_bad_heads":
                return []
            raise Broken("a bad head")
        request, data = message
        if self.state == "new":
            return self.first(id, request, data)
        if request in PARENTS:
            raise Broken("%s is not a child's to send" % request)
        if request in ("READY", "CREDIT", "BYE", "PONG", "HELLO") and id or request in ("ITEM", "STARTED") and not id:
            raise Broken("%s has an id it must not have" % request)
        if request in ("READY", "CREDIT"):
            self.credit(request, data)
        elif request == "BYE":
            self.state = "bye"
            self.since = time.monotonic()
        elif request == "FAILED" and not id:
            raise Broken("the child gave up: %s" % data)
        elif request in ("FINISHED", "FAILED"):
            return self.final(id, request, data)
        elif request not in CHILDS and id and not re.fullmatch("[A-Z][A-Z0-9_]*", request) and FAULT != "refuses_nothing":
            self.send(id, "FAILED", {"code": "unavailable", "message": "this parent takes no requests"})
        elif request == "PROGRESS" and self.state == "greeted" and time.monotonic() - self.greeted < READY_WITHIN:
            self.since = time.monotonic()  # but not for ever
        return []

    def first(self, id, request, data):
        if request == "FAILED" and not id:
            raise Broken("the child refused: %s" % data)
        if request != "HELLO" or id:
            raise Broken("the first frame is %s" % request)
        try:
            hello = unpack(data)
            kinds = {"v": int, "window": int, "window_bytes": int, "caps": list, "max_frame": int, "serial": bool,
                     "sdk": str, "methods": list, "ready": bool}
            good = all(isinstance(hello[key], kind) for key, kind in kinds.items() if key in hello)
            if hello["v"] != 1 or not good:
                raise Broken("a HELLO that is none: %s" % hello)
        except (BadData, KeyError, TypeError) as error:
            raise Broken("a HELLO that cannot be read: %s" % error)
        self.caps = hello.get("caps", [])
        window = hello.get("window", 1)
        self.window = window if FAULT == "takes_no_window_for_none" else max(window, 1)
        self.max_frame = min(max(hello.get("max_frame", MAX_FRAME), 65536), LONGEST)
        self.state, self.since = "ready" if hello.get("ready") else "greeted", time.monotonic()
        self.greeted = self.since
        if FAULT != "speaks_first":
            self.greet()
        return []

    def credit(self, request, data):
        try:
            value = unpack(data)
            window = value.get("window", self.window) if value is not None else self.window
        except (BadData, AttributeError):
            raise Broken("a %s that cannot be read" % request)
        if not isinstance(window, int):
            raise Broken("a window that is no number")
        self.window, self.state = window, "ready"

    def final(self, id, request, data):
        if FAULT == "counts_second_answers" and id not in self.tasks:
            return []
        task = self.close(id)
        if id in self.doomed:
            return [(task, failure("too_large", "a result was larger than a frame may be"))]
        if request == "FINISHED":
            try:
                return [(task, {"ok": True, "data": unpack(data)})]
            except BadData as error:
                again = FAULT == "retries_bad_data"
                return [(task, failure("bad_data", "the result is no value: %s" % error, again))]
        try:
            value = unpack(data)
        except BadData:
            value = None
        if not isinstance(value, dict):
            return [(task, failure("error", str(value)))]
        code = value.get("code", "error")
        if FAULT != "trusts_codes" and (not isinstance(code, str) or code not in CODES and "." not in code):
            code = "error"
        retry = code == "overloaded" if FAULT == "retries_by_code" else value.get("retry") is True
        return [(task, failure(code, str(value.get("message", ""))[:60000], retry))]

    def late(self):
        """Why the child has taken too long, if it has."""
        waited = time.monotonic() - self.since
        if self.state == "new" and waited > HELLO_WITHIN and FAULT != "waits_for_hello":
            return "no HELLO in time"
        if self.state == "greeted" and waited > READY_WITHIN:
            return "no READY in time"
        if self.state == "bye" and waited > GRACE:
            return "it said BYE and lives on"
        if any(time.monotonic() - task.since > TASK_WITHIN for task in self.tasks.values()):
            return "timeout"
        return None

    def end(self, kindly=False):
        """Ends it, by and by harder. Outcomes that it had written are given."""
        outcomes = []
        if kindly:
            self.send(0, "DIE", None)
            outcomes += self.wait(GRACE, closes=True)
        elif self.process.poll() is None:
            self.kill(signal.SIGTERM)
            outcomes += self.wait(GRACE)
        if FAULT != "leaves_children":
            self.kill(signal.SIGKILL)
            self.process.wait()
        # What it had written is in the pipe.
        if FAULT != "drops_last_words":
            outcomes += self.wait(0)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except OSError:
                pass
        return outcomes

    def wait(self, limit, closes=False):
        """Reads on until the process has ended, or for so long; with no limit, what is there."""
        until, outcomes = time.monotonic() + limit, []
        while self.output is not None and (not limit or self.process.poll() is None):
            if closes and not self.unsent:
                self.close_input()
            left = until - time.monotonic()
            if limit and left <= 0:
                break
            if not limit and not select.select([self.output], [], [], 0)[0]:
                break
            if self.over:
                if limit:
                    time.sleep(0.01)
                    continue
                break
            try:
                outcomes += self.turn(min(left, 0.02) if limit else 0)
            except Broken as broken:
                outcomes += getattr(broken, "outcomes", [])
                self.over = True
        if limit and self.process.poll() is None and self.output is None:
            try:
                self.process.wait(max(until - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                pass
        return outcomes

    def kill(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


def failure(code, message, retry=False):
    return {"ok": False, "error": {"code": code, "message": message}, "retry": retry}


class Task:
    def __init__(self, seq, data):
        self.seq, self.data, self.attempts, self.since = seq, data, 0, 0


class Parent:
    def __init__(self, words):
        self.words, self.queue, self.child, self.failed, self.why = words, collections.deque(), None, False, ""
        self.in_vain, self.started = 0, False

    def tell(self, task, outcome):
        if outcome.pop("retry", False) and task.attempts + 1 < ATTEMPTS:
            task.attempts += 1
            self.queue.appendleft(task)
            return
        self.failed |= not outcome["ok"]
        print(json.dumps({"seq": task.seq, **outcome}), flush=True)

    def tell_all(self, outcomes):
        for task, outcome in outcomes:
            self.tell(task, outcome)

    def run(self, lines):
        for seq, line in enumerate(lines, 1):
            task = Task(seq, b"")
            try:
                task.data = pack(json.loads(line))
                self.queue.append(task)
            except (BadData, ValueError) as error:
                self.tell(task, failure("bad_input", str(error)))
        while self.queue or self.child and self.child.tasks:
            if self.child is None:
                if self.in_vain == STARTS_IN_VAIN:
                    sys.exit("giving up: " + self.why)
                self.in_vain += 1
                self.child = Child(self.words)
                self.child.is_first, self.started = not self.started, True
            self.step()
        if self.child:
            if FAULT == "works_after_death":
                self.child.send(0, "DIE", None)
                self.child.send(self.child.last + 1, "DO", None)
            self.child.end(kindly=True)
        return 1 if self.failed else 0

    def step(self):
        child = self.child
        while self.queue and child.is_free():
            task = self.queue.popleft()
            if child.fits(task.data):
                child.give(task)
            else:
                self.tell(task, failure("too_large", "the task is larger than the child reads"))
        if not self.queue and not child.tasks:
            return
        if FAULT == "drops_last_words" and child.is_first and select.select([child.output], [], [], 0.2)[0]:
            try:  # slow to read, and quick to judge
                child.process.wait(0.5)
                child.output = None
            except subprocess.TimeoutExpired:
                pass
        try:
            outcomes = child.turn(0.02)
            why = child.late()
            if child.process.poll() is not None and not outcomes and not child.is_readable():
                why = why or "it ended with %s" % child.process.returncode
            if why:
                raise Broken(why)
        except Broken as broken:
            self.tell_all(getattr(broken, "outcomes", []))
            self.bury(str(broken))
            return
        if outcomes:
            self.in_vain = 0
        self.tell_all(outcomes)

    def bury(self, why):
        """The child is no more: its tasks are run again, or end."""
        child, self.child = self.child, None
        said_bye = child.state == "bye"
        if why == "timeout" and FAULT == "two_attempts":
            outcomes = []
        else:
            # Whatever broke a rule is not read on; what merely ended is.
            child.over |= why.split()[0] not in ("it", "timeout")
            outcomes = child.end()
        self.why = why
        sys.stderr.write("a child ended: %s %s\n" % (why, child.said.decode(errors="replace")))
        self.tell_all(outcomes)
        if child.answered or said_bye:
            self.in_vain = 0
        for task in reversed(child.tasks.values()):
            task.attempts += not said_bye
            if FAULT == "loses_the_dead":
                continue
            if task.attempts < ATTEMPTS:
                self.queue.appendleft(task)
            else:
                self.tell(task, failure("timeout" if why == "timeout" else "crashed", why))


# Not to die with a child that does not read.
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
sys.exit(Parent(sys.argv[1:]).run(sys.stdin))
