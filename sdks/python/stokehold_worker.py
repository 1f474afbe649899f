"""A Stokehold worker in one file: Python 3.8 or newer on Linux or macOS, the standard library and nothing else.

Copy this file beside your program. A function becomes a worker by

    import stokehold_worker

    stokehold_worker.serve(lambda text: text.upper())

and several become one by `@method("name")`, or by a dict of them:

    @stokehold_worker.method("thumbnail")
    def thumbnail(path, task):
        for page in range(100):
            task.check_cancelled()              # raises Cancelled when nobody wants the answer any more
            task.progress(page, 100)
            yield render(path, page)            # each `yield` is sent as an item, `return` is the answer

    stokehold_worker.serve()

A handler takes its input, and the `Task` as well if it has a second parameter. Input and results are None, bool, int (64
bits), float, str, bytes, list, and dict with str keys. What a handler raises fails its task and nothing else; `Failure` does
so on purpose. What it prints goes to standard error. Tasks run one at a time in their order, on the thread that called
`serve`; with an `async def` among the handlers up to `window` of them run at once, in an asyncio loop on that thread.

The package `msgpack` is used when it is there, and is faster; the codec in here does the same without it.
Names in brackets are the statements of protocol/SPEC.md that a line keeps.
"""
import inspect
import itertools
import os
import queue
import re
import select
import signal
import struct
import sys
import threading
import time
import traceback
import types

try:
    import msgpack
except ImportError:
    msgpack = None

__all__ = ["serve", "method", "guard", "Task", "Failure", "Cancelled", "Permanent"]
__version__ = "1"

MAX_FRAME, MAX_FRAME_FLOOR, FRAME_CEILING = 0x00FFFFFF, 0x00010000, 0x07FFFFFF
HELLO_MAX, ADDRESS_MAX, DEPTH_MAX, BATCH_MAX = 65536, 2**53 - 1, 64, 65535
CHILD_CODES = frozenset("error unknown_request bad_data bad_message too_large cancelled overloaded unavailable".split())
PROTOCOL_NAME = re.compile("[A-Z][A-Z0-9_]*")

TICK_MS = 10               # how long a held answer may wait for a handler that turns out to be long
HELD_BYTES_MAX = 1 << 15   # what is held at most
TINY_S, LONG_S = 1e-4, 1e-3
PROOF_TASKS = 128          # so many tiny handlers in a row before answers wait for each other
BATCH_ITEM_BYTES = 1 << 16
BACKLOG_MAX = 1 << 26      # bytes of tasks that wait here before the reader pauses
PROGRESS_S = 0.05          # one report in so much time
LOGS_A_SECOND = 10000
LAST_S = 1.0               # how long a handler gets to notice DIE with `now`, and an exit to end


# What handlers use

class Failure(Exception):
    """Fails the task on purpose. `code` is one of your own with a dot in it, such as "acme.no_such_image", or one of the
    protocol's for a child; `retry` says whether another attempt may help, `after_ms` not before when; `data` is for programs.
    """

    def __init__(self, code="error", message="", retry=False, after_ms=None, data=None):
        super().__init__(message or code)
        self.code, self.message, self.retry, self.after_ms, self.data = code, message, retry, after_ms, data


class Cancelled(Exception):
    """The task was cancelled; raise it, or let `Task.check_cancelled` do so, to end the handler."""


class Permanent(Exception):
    """Raised by `init`: this worker will never work here, do not start it again. The process exits with code 125."""


class Task:
    """The task that a handler runs. Its methods may be called from other threads; after the answer they do nothing.

    `id` (0: a one-way request, nothing is answered), `request`, `attempt` (from 1), `key` (a text that is the same for every
    attempt of the task and of no other, or None), `deadline` (on the clock of `time.monotonic`, or None).
    """

    __slots__ = ("id", "request", "attempt", "key", "deadline", "_worker", "_handler", "_body", "_at", "_deadline_ms",
                 "_refusal", "_cancelled", "_open", "_mute", "_job", "_held_progress", "_progress_at")

    def __init__(self, worker, id, request, handler, body, at, meta, refusal=None):
        self.id, self.request, self.attempt, self.key, self.deadline = id, request, 1, None, None
        self._worker, self._handler, self._body, self._at, self._refusal = worker, handler, body, at, refusal
        self._deadline_ms, self._cancelled, self._open, self._mute, self._job = None, False, True, not id, None
        self._held_progress, self._progress_at = None, 0.0
        if meta is not None:
            attempt, key, deadline = meta.get("attempt"), meta.get("key"), meta.get("deadline_ms")
            self.attempt = attempt if type(attempt) is int and attempt > 0 else 1
            self.key = key if type(key) is str else None
            self._deadline_ms = deadline if type(deadline) is int and deadline >= 0 else None

    def cancelled(self):
        """Whether nobody wants the answer any more. Nothing stops by itself (but for `async def`): ask, and return early."""
        return self._cancelled

    def check_cancelled(self):
        """Raises `Cancelled` if the task was cancelled."""
        if self._cancelled:
            raise Cancelled("cancelled")

    def time_left(self):
        """Seconds until `deadline`, 0 when it has passed, None when there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def item(self, value):
        """Sends one of several results at once. Raises `Failure` if the value cannot be sent."""
        if not self._mute:
            worker = self._worker
            worker.say(self, worker.frame(self.id, "ITEM", worker.encode(value)), flush=True)

    def progress(self, done=None, total=None, note=None):
        """Tells how far the task is. Call it as often as you like: one report in 50 ms is sent, and the last one."""
        if not self.id:
            return
        report = {"done": done, "total": total, "note": None if note is None else cut(note, 32768)}
        data = self._worker.encode({key: value for key, value in report.items() if value is not None})
        frame, now = self._worker.frame(self.id, "PROGRESS", data), time.monotonic()
        if now - self._progress_at < PROGRESS_S:
            self._held_progress = frame
            return
        self._progress_at, self._held_progress = now, None
        self._worker.say(self, frame, flush=True)

    def log(self, level, message, **fields):
        """Sends a line for the parent's log: `level` is trace, debug, info, warn or error; `fields` are for programs."""
        worker = self._worker
        dropped = worker.admit_log()
        if dropped is not None:
            if dropped:
                worker.say_log(self, "warn", "%d lines for the log were dropped: too many in a second" % dropped, {})
            worker.say_log(self, level, message, fields)


HANDLERS = {}


def method(name):
    """Registers the function below it as the handler of the request `name`."""
    def register(function):
        HANDLERS[name] = function
        return function
    return register


def serve(handlers=None, window=64, init=None, max_frame=MAX_FRAME):
    """Serves until the parent ends it, then exits the process: it raises SystemExit and does not return.

    `handlers`: a function for the request DO, a dict of functions by request, or nothing for those of `@method`.
    `window`: how many unanswered tasks the parent may send; with `async def`, also how many run at once.
    `init`: a function without arguments that loads what the handlers need, before the worker says that it is ready.
    """
    entries = dict(HANDLERS) if handlers is None else handlers if isinstance(handlers, dict) else {"DO": handlers}
    if not entries:
        raise ValueError("a worker needs a handler")
    for name in entries:
        is_protocols = PROTOCOL_NAME.fullmatch(name) and name != "DO"
        if is_protocols or not 1 <= len(name.encode()) <= 255:
            raise ValueError("%r cannot be the name of a handler" % name)
    source, sink, has_parent = guard()
    worker = Worker(source, sink, entries, window, max(MAX_FRAME_FLOOR, min(max_frame, FRAME_CEILING)))
    if has_parent:
        try:
            signal.signal(signal.SIGINT, lambda *_: None)  # the parent decides; programs started here keep theirs
        except ValueError:
            pass  # not on the main thread
    try:
        code = worker.serve(init)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    end_soon(code)
    sys.exit(code)


def end_soon(code):
    """Whatever is left, a thread of a handler for instance, does not keep the process for long."""
    last = threading.Timer(LAST_S, os._exit, (code,))
    last.daemon = True
    last.start()


CONNECTION = None


def guard():
    """Moves the protocol away from descriptors 0 and 1, so that nothing that prints can damage it [X-4]. `serve` does so
    first; call it yourself above imports that print. Gives where to read, where to write, and whether a parent is there.
    """
    global CONNECTION
    if CONNECTION is not None:
        return CONNECTION
    given = os.environ.get("STOKEHOLD_IO")
    if given is None and os.isatty(0):
        leave(2, "this is a worker, run it with: stokehold run -- python3 %s" % " ".join(sys.argv))
    offer = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("STOKEHOLD_")}
    try:
        source, sink = take_descriptors("stdio" if given is None else given)
    except (OSError, OverflowError) as error:
        leave(2, "cannot use STOKEHOLD_IO=%s: %s" % (given, error))
    for code, variable, ours in ("version", "STOKEHOLD_PROTO", 1), ("codec", "STOKEHOLD_CODEC", "msgpack"):
        if str(ours) not in [entry.strip() for entry in offer.get(variable, str(ours)).split(",")]:
            why = "the parent offers %s %r, this worker has %s" % (variable, offer[variable], ours)
            refusal = pack({"code": code, "message": cut(why, 4096), "data": {"supported": [ours]}})
            body = b"\x94" + pack("FAILED") + pack(os.getpid()) + b"\xc0" + refusal
            write_all(sink, struct.pack(">II", len(body) + 4, 0) + body)
            leave(5, why)  # [V-3]
    CONNECTION = source, sink, given is not None
    return CONNECTION


def take_descriptors(io):
    import fcntl
    numbers = re.fullmatch("fd:([0-9]{1,9}),([0-9]{1,9})", io)
    if io != "stdio" and not numbers:
        raise OSError("it is neither stdio nor fd:R,W")
    given = (0, 1) if io == "stdio" else (int(numbers.group(1)), int(numbers.group(2)))
    # Above 2, and closed when a program is started.
    source, sink = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3) for number in given)
    for number in set(given) - {0, 1, 2}:
        os.close(number)
    if hasattr(os, "register_at_fork"):  # a copy of this process is no worker
        os.register_at_fork(after_in_child=lambda: [os.close(number) for number in (source, sink)])
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.fstat(2)
    except OSError:
        os.dup2(null, 2)
    if 0 in given:
        os.dup2(null, 0)
    if 1 in given:
        os.dup2(2, 1)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(line_buffering=True)  # only now: it writes what was printed before
    if null > 2:
        os.close(null)
    return source, sink


def leave(code, why):
    print("stokehold_worker: " + why, file=sys.stderr)
    sys.exit(code)


def write_all(sink, data):
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sink, view):]
        except BlockingIOError:
            select.select([], [sink], [])
        except OSError:
            os._exit(1)  # nobody reads any more [L-5]


# Values: MessagePack within the limits of [D-1] to [D-10]

NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i",
           0xD3: ">q"}
READ_NUMBER = {mark: (struct.Struct(form).unpack_from, struct.calcsize(form)) for mark, form in NUMBERS.items()}
TEXT, BYTES, ARRAY, MAP = range(4)
LONG = {0xC4: (BYTES, 1), 0xC5: (BYTES, 2), 0xC6: (BYTES, 4), 0xD9: (TEXT, 1), 0xDA: (TEXT, 2), 0xDB: (TEXT, 4),
        0xDC: (ARRAY, 2), 0xDD: (ARRAY, 4), 0xDE: (MAP, 2), 0xDF: (MAP, 4)}
PLAIN = frozenset((type(None), bool, int, float, str, bytes))


def decode_at(body, at, room):
    """The value at `at` and where it ends; ValueError, IndexError or struct.error if there is none. No size is believed
    before its bytes came [D-9]. `room`: how many levels may be nested here [D-2]."""
    mark = body[at]
    at += 1
    if mark < 0x80:
        return mark, at
    if mark >= 0xE0:
        return mark - 0x100, at
    if mark < 0xC0:
        kind, size = (TEXT, mark & 31) if mark >= 0xA0 else (ARRAY if mark >= 0x90 else MAP, mark & 15)
    elif mark in LONG:
        kind, width = LONG[mark]
        if at + width > len(body):
            raise ValueError("the bytes end before the value does")
        size = int.from_bytes(body[at:at + width], "big")
        at += width
    elif mark in READ_NUMBER:
        read, width = READ_NUMBER[mark]
        return read(body, at)[0], at + width
    elif mark == 0xC0:
        return None, at
    elif mark == 0xC2 or mark == 0xC3:
        return mark == 0xC3, at
    else:
        raise ValueError("no value begins with the byte 0x%02x" % mark)  # [D-6] [D-7]
    if kind <= BYTES:
        end = at + size
        if end > len(body):
            raise ValueError("the bytes end before the value does")
        return (str(body[at:end], "utf-8") if kind == TEXT else body[at:end]), end  # bad UTF-8 is a ValueError [D-3]
    if room <= 0:
        raise ValueError("nested deeper than %d levels" % DEPTH_MAX)
    room -= 1
    if kind == ARRAY:
        values = []
        for _ in range(size):
            value, at = decode_at(body, at, room)
            values.append(value)
        return values, at
    pairs = {}
    for _ in range(size):
        key, at = decode_at(body, at, 0)
        if type(key) is not str or key in pairs:
            raise ValueError("a map has a key that is no text, or one twice")  # [D-4] [D-5]
        pairs[key], at = decode_at(body, at, room)
    return pairs, at


def unpack(body, at=0, room=DEPTH_MAX):
    """The one value from `at` to the end of `body`. ValueError if that is not what is there."""
    if msgpack is not None and at < len(body) and (0x80 <= body[at] < 0xA0 or 0xDC <= body[at] < 0xE0):
        return unpack_with_package(body, at, room)  # it is slower for a single text or number
    try:
        value, end = decode_at(body, at, room)
    except RecursionError:
        raise ValueError("nested too deep for this handler's stack") from None
    except (IndexError, struct.error):
        raise ValueError("the bytes end before the value does") from None
    if end != len(body):
        raise ValueError("bytes follow the value")  # [D-1]
    return value


PACKERS = threading.local()


def to_dict(pairs):
    found = dict(pairs)
    if len(found) != len(pairs) or not all(type(key) is str for key in found):
        raise ValueError("a map has a key that is no text, or one twice")
    return found


def unpack_with_package(body, at, room):
    try:
        # Without limits of its own: a size is not believed there either, and the frame has a limit. Keys are judged above.
        value = msgpack.unpackb(memoryview(body)[at:], raw=False, unicode_errors="strict", strict_map_key=False,
                                object_pairs_hook=to_dict, max_str_len=len(body), max_bin_len=len(body),
                                max_array_len=len(body), max_map_len=len(body), max_ext_len=0)
    except ValueError:
        raise
    except Exception as error:  # the package's own kinds, RecursionError, TypeError for a key that is a list
        raise ValueError("%s: %s" % (type(error).__name__, error)) from None
    check(value, room)
    return value


def check(value, room):
    """Refuses what the package reads and this protocol does not have."""
    kind = type(value)
    if kind in PLAIN:
        return
    if isinstance(value, (dict, list, tuple)) and not isinstance(value, msgpack.ExtType):
        if room <= 0:
            raise ValueError("nested deeper than %d levels" % DEPTH_MAX)
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("a dict has a key that is no str")
            value = value.values()
        for item in value:
            if type(item) not in PLAIN:
                check(item, room - 1)
    elif not isinstance(value, (int, float, str, bytes, bytearray, memoryview)):
        raise ValueError("a %s cannot be sent" % kind.__name__)


NO_SIZE = 1 << 62


def least_size(value, room, limit, known):
    """How many bytes a list or dict takes at least; NO_SIZE if the package would not write it as this protocol has it.
    `known`: the sizes of those seen before, by `id` and `room`; one that is there often is a large value in little memory."""
    if room <= 0:
        return NO_SIZE
    size = known.get((id(value), room))
    if size is not None:
        return size
    whole, size = value, len(value)
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                return NO_SIZE
            size += len(key)
        value = list(value.values())
    for item in value:
        kind = type(item)
        if kind is str or kind is bytes:
            size += len(item)
        elif kind is dict or kind is list or kind is tuple:
            size += least_size(item, room - 1, limit - size, known)
        elif kind not in PLAIN:
            return NO_SIZE
        if size > limit:
            break
    known[id(whole), room] = size
    return size


class Packed(bytes):
    """A value that is MessagePack already."""


def pack(value, room=DEPTH_MAX, limit=FRAME_CEILING):
    """`value` as MessagePack in its shortest form [D-8]. ValueError if it cannot be sent, Failure if it is above `limit`."""
    size = least_size(value, room, limit, {}) if type(value) in (dict, list, tuple) else NO_SIZE
    if limit < size < NO_SIZE:
        raise too_large(limit)
    if msgpack is not None and size <= limit:
        try:
            if not hasattr(PACKERS, "mine"):
                PACKERS.mine = msgpack.Packer(use_bin_type=True)  # a new one each time would be slow
            return PACKERS.mine.pack(value)
        except Exception as error:  # integers beyond 64 bits, lone surrogates
            raise ValueError(str(error)) from None
    out = bytearray()
    encode_into(out, value, room, limit)
    return bytes(out)


def encode_into(out, value, room, limit):
    """Methods of subclasses may say anything: what is written is what was found once."""
    if isinstance(value, str):
        text = str.encode(value)  # a lone surrogate is a ValueError
        size = len(text)
        out += bytes((0xA0 | size,)) if size < 32 else size_mark(0xD9, size)
        out += text
    elif value is None:
        out.append(0xC0)
    elif isinstance(value, bool):
        out.append(0xC3 if value else 0xC2)
    elif isinstance(value, int):
        out += encode_int(int.__int__(value))
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xCB, value)
    elif isinstance(value, Packed):
        out += value
    elif isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
        out += size_mark(0xC4, len(value))
        out += value
    elif isinstance(value, (dict, list, tuple)) and not (msgpack is not None and isinstance(value, msgpack.ExtType)):
        if room <= 0:
            raise ValueError("nested deeper than %d levels" % DEPTH_MAX)
        is_map, left = isinstance(value, dict), max(0, limit - len(out))
        found = tuple(itertools.islice(value.items() if is_map else value, left + 1))
        if len(found) > left:
            raise too_large(limit)
        first, mark = (0xDD, 0x80) if is_map else (0xDB, 0x90)
        out += bytes((mark | len(found),)) if len(found) < 16 else size_mark(first, len(found))
        if is_map:
            check_keys([key for key, _ in found])
        for item in found:
            if is_map:
                key, item = item
                encode_into(out, key, 0, limit)
            encode_into(out, item, room - 1, limit)
            if len(out) > limit:
                raise too_large(limit)
    else:
        raise ValueError("a %s cannot be sent" % type(value).__name__)


def check_keys(keys):
    """Keys are texts, and none is there twice [D-4] [D-5]."""
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("a dict has a key that is no str")
    if len({key if type(key) is str else str.encode(key).decode() for key in keys}) != len(keys):
        raise ValueError("a dict has the same key twice")


def too_large(limit):
    return Failure("too_large", "the value has more bytes than the %d that the parent takes" % limit)


def size_mark(first, size):
    """The mark of a long size: `first` has a size of one byte, the next two of two and four. Arrays and maps have none of
    one byte; their `first` is that of another kind then, which a size from 16 to 255 steps over."""
    if size < 256 and first in (0xC4, 0xD9):
        return bytes((first, size))
    if size < 1 << 16:
        return struct.pack(">BH", first + 1, size)
    if size < 1 << 32:
        return struct.pack(">BI", first + 2, size)
    raise ValueError("it is too large")


def encode_int(value):
    if 0 <= value < 128 or -32 <= value < 0:
        return struct.pack("B", value & 0xFF)
    for mark, low, high in ((0xCC, 0, 8), (0xCD, 0, 16), (0xCE, 0, 32), (0xCF, 0, 64), (0xD0, 7, 0), (0xD1, 15, 0),
                            (0xD2, 31, 0), (0xD3, 63, 0)):
        if (0 <= value < 1 << high) if value >= 0 else (low and -(1 << low) <= value):
            return bytes((mark,)) + struct.pack(NUMBERS[mark], value)
    raise ValueError("an integer has more than 64 bits")


def read_head(body):
    """The request, and where the data begins; ValueError if the head is bad [M-1] to [M-6]."""
    at = {0x94: 1, 0xDC: 3, 0xDD: 5}.get(body[0])
    if at is None or int.from_bytes(body[1:at], "big") != (4 if at > 1 else 0):
        raise ValueError("the message is no array of four")
    try:
        request, at = decode_at(body, at, 0)
        sender, at = decode_at(body, at, 0)
        recipient, at = decode_at(body, at, 0)
    except (IndexError, struct.error):
        raise ValueError("the body ends inside the head") from None
    if type(request) is not str or not 1 <= len(request.encode()) <= 255:
        raise ValueError("the request is no text of 1 to 255 bytes")
    if type(sender) is not int or not 0 <= sender <= ADDRESS_MAX:
        raise ValueError("the sender is no address")
    if recipient is not None and (type(recipient) is not int or recipient == 0 or not -1 <= recipient <= ADDRESS_MAX):
        raise ValueError("the recipient is no address")
    return request, at


def cut(text, size, tail=False):
    """`text` as something that can be sent, of at most so many bytes."""
    data = str(text).encode("utf-8", "backslashreplace")
    return (data[-size:] if tail else data[:size]).decode("utf-8", "ignore")


# The connection

class Worker:
    """One session over two descriptors. A second thread reads, so that CANCEL and PING arrive while a handler runs."""

    def __init__(self, source, sink, handlers, window, max_frame):
        self.source, self.sink, self.max_frame, self.peer_max_frame = source, sink, max_frame, MAX_FRAME
        self.window = max(1, min(window, 65536))
        self.handlers = {name: (function, wants_task(function)) for name, function in handlers.items()}
        self.concurrent = any(is_async(function) for function in handlers.values())
        self.serial = not self.concurrent or self.window == 1
        self.lock = threading.RLock()       # guards what is written: `out`, `open`, and who may still speak
        self.out, self.open, self.flushed_at = bytearray(), {}, 0.0
        self.queue, self.backlog, self.room = queue.SimpleQueue(), 0, threading.Event()
        self.trust, self.announced, self.greeted, self.says_started, self.dropping = 0, False, False, False, False
        self.heads, self.addresses = {}, pack(os.getpid()) + b"\xc0"
        self.known_head, self.known_request, self.meta = b"\xc1", "", None
        self.batch, self.loop, self.code, self.second, self.logs, self.logs_lost = None, None, 0, 0, 0, 0

    def serve(self, init):
        """The whole session. Gives the exit code."""
        caps = ["cancel", "meta", "ping", "started"] + ([] if self.concurrent else ["batch"])
        hello = {"v": 1, "window": self.window, "caps": caps, "max_frame": self.max_frame, "serial": self.serial,
                 "sdk": "python/" + __version__, "methods": list(self.handlers)}
        if len(pack(hello)) > HELLO_MAX - 300:  # [F-3]
            del hello["methods"]
        self.say(None, self.frame(0, "HELLO", pack(hello)), flush=True)
        try:
            if self.concurrent:
                import asyncio
                asyncio.run(self.serve_concurrently(init))
            else:
                threading.Thread(target=self.read, daemon=True).start()
                if init is not None:
                    try:
                        init()
                    except Exception as error:
                        raise InitError(error)
                self.say(None, self.frame(0, "READY", b"\xc0"), flush=True)
                self.serve_in_order()
                self.say_bye()
        except SystemExit:
            self.flush()  # what was answered counts; the handler wants the process to end
            raise
        except InitError as error:
            traceback.print_exception(type(error.cause), error.cause, error.cause.__traceback__)
            return 125 if isinstance(error.cause, Permanent) else 1
        return self.code

    def say_bye(self):
        if self.code == 0 and not self.dropping:
            self.say(None, self.frame(0, "BYE", b"\xc0"))  # [S-7]
        self.flush()
        end_soon(self.code)

    def serve_in_order(self):
        while True:
            try:
                entry = self.queue.get_nowait()
            except queue.Empty:
                self.flush()  # before anything that may wait [W-9]
                entry = self.queue.get()
            if entry is None:
                return
            tasks, size, is_watched = entry
            for task in tasks:
                if self.dropping:
                    return
                if self.is_runnable(task):
                    (self.run_batch if task.request == "BATCH" else self.run)(task, is_watched)
            self.give_back(size)

    def give_back(self, size):
        with self.lock:
            self.backlog -= size
        self.room.set()

    def is_runnable(self, task):
        """Whether the handler is to begin; else the task is answered here."""
        if task._refusal is not None:
            self.answer(task, "FAILED", failure_map(*task._refusal, begun=False))
        elif task._cancelled:
            self.answer(task, "FAILED", failure_map("cancelled", "cancelled before it began", begun=False))
        else:
            return True
        return False

    def begin(self, task):
        """The decoded input; None, and an answer, if it cannot be read [D-13]."""
        try:
            data = unpack(task._body, task._at)
        except ValueError as error:
            self.answer(task, "FAILED", failure_map("bad_data", str(error), begun=False))
            return None
        task._body = None
        if self.says_started and task.id:
            self.say(task, self.frame(task.id, "STARTED", b"\xc0"), flush=True)
        if task._deadline_ms is not None:
            task.deadline = time.monotonic() + task._deadline_ms / 1000.0  # [L-14]
        return (data, task) if task._handler[1] else (data,)

    def run(self, task, is_watched):
        arguments = self.begin(task)
        if arguments is None:
            return
        if self.out or self.announced:
            self.before_handler(is_watched)
        start = time.perf_counter()
        try:
            result = task._handler[0](*arguments)
            if type(result) is types.GeneratorType:
                result = self.drain(task, result)
            data, request = self.encode(result), "FINISHED"
        except SystemExit:
            raise
        except BaseException as error:
            data, request = self.failed(error), "FAILED"
        self.judge(1, time.perf_counter() - start)
        self.answer(task, request, data)

    def judge(self, count, took):
        if took < TINY_S * count:
            self.trust = min(self.trust + count, 2 * PROOF_TASKS)
        else:
            self.trust = 0 if took >= LONG_S else max(0, self.trust - PROOF_TASKS // 8)

    def before_handler(self, is_watched):
        """Writes the answers that wait, so that no crash is blamed on a task that was done [L-13]; unless handlers have
        proven to be tiny, somebody watches over the exception, and the parent was told [W-10]."""
        if is_watched and self.trust >= PROOF_TASKS and not self.says_started and self.window > 1:
            if not self.announced:
                self.announced = True
                self.say(None, self.frame(0, "CREDIT", b"\x81\xa6serial\xc2"), flush=True)
            elif len(self.out) > HELD_BYTES_MAX or time.perf_counter() - self.flushed_at > LONG_S:
                self.flush()
            return
        if self.announced:
            self.announced = False
            self.say(None, self.frame(0, "CREDIT", b"\x81\xa6serial\xc3"))
        self.flush()

    def drain(self, task, generator):
        """Sends what a generator yields; gives what it returns."""
        try:
            while True:
                task.check_cancelled()
                task.item(next(generator))
        except StopIteration as end:
            return end.value
        finally:
            generator.close()

    def run_batch(self, task, _):
        """Many inputs of one request in one frame [B-2]."""
        try:
            message = unpack(task._body, task._at, DEPTH_MAX + 2)  # the map and the array are no levels [B-1]
            name, items = message["req"], message["items"]
            if type(name) is not str or type(items) is not list or not 1 <= len(items) <= BATCH_MAX:
                raise ValueError("a BATCH without request or inputs")
        except (ValueError, TypeError, KeyError) as error:
            return self.answer(task, "FAILED", failure_map("bad_data", "the BATCH: %s" % error, begun=False))
        if name not in self.handlers:
            return self.answer(task, "FAILED", failure_map("unknown_request", self.unknown(name), begun=False))  # [B-5]
        if self.says_started:
            self.say(task, self.frame(task.id, "STARTED", b"\xc0"), flush=True)
        self.before_handler(False)
        function, takes_task = self.handlers[name]
        task.request, task._mute, self.batch = name, True, (task, [], 0)  # [B-10]
        room = self.peer_max_frame - 400
        start, total = time.perf_counter(), len(items)
        for index, data in enumerate(items):
            if self.dropping:
                return
            if task._cancelled:
                result = b"\x92\xc2" + failure_map("cancelled", "cancelled before it began", begun=False)  # [B-11]
            else:
                result = self.result(function, (data, task) if takes_task else (data,), task, room)
            with self.lock:
                if self.batch[2] + len(result) > BATCH_ITEM_BYTES:
                    self.give_results()
                _, results, size = self.batch
                results.append(result)
                self.batch = task, results, size + len(result)
        self.judge(total, time.perf_counter() - start)
        with self.lock:
            results, self.batch = self.batch[1], None
            self.answer(task, "FINISHED", size_of_array(len(results)) + b"".join(results))

    def result(self, function, arguments, task, room):
        """The result of one input of a BATCH."""
        try:
            value = function(*arguments)
            if type(value) is types.GeneratorType:
                value = self.drain(task, value)
            data = b"\x92\xc3" + self.encode(value)
            if len(data) <= room:
                return data
            return b"\x92\xc2" + failure_map("too_large", "the result has %d bytes" % len(data))
        except SystemExit:
            raise
        except BaseException as error:
            return b"\x92\xc2" + self.failed(error)

    def failed(self, error):
        """The data of FAILED for what a handler raised; without the author's own `data` if that is too large."""
        try:
            return failure_of(error, self.peer_max_frame - 65536 if self.peer_max_frame > 131072 else 4096)
        except BaseException:  # of a method of the author's
            return failure_map("error", type(error).__name__)

    def give_results(self):
        """Writes the results of a BATCH that wait [B-3]. Under the lock."""
        task, results, _ = self.batch
        if results:
            self.batch = task, [], 0
            self.say(task, self.frame(task.id, "ITEM", size_of_array(len(results)) + b"".join(results)), flush=True)

    # Many at a time

    async def serve_concurrently(self, init):
        import asyncio
        self.loop, self.over, self.waiting, self.running, self.ended = asyncio.get_running_loop(), asyncio.Event(), [], 0, False
        self.is_flush_due = False
        threading.Thread(target=self.read, daemon=True).start()
        if init is not None:
            try:
                started = init()
                if inspect.isawaitable(started):
                    await started
            except Exception as error:
                raise InitError(error)
        self.say(None, self.frame(0, "READY", b"\xc0"), flush=True)
        await self.over.wait()
        self.say_bye()  # now: the end of a loop waits for threads

    def accept(self, tasks):
        """In the loop: begins tasks, as many as the window has, and learns of the end."""
        if tasks is None:
            self.ended = True
        else:
            self.waiting.extend(tasks)
        begun = 0
        while begun < len(self.waiting) and self.running < self.window:
            task = self.waiting[begun]
            begun += 1
            if self.is_runnable(task):
                self.running += 1
                task._job = self.loop.create_task(self.run_async(task))
                if task._cancelled:  # meanwhile, on the other thread
                    task._job.cancel()
            else:
                if task._refusal is None:
                    self.give_back(len(task._body))
                self.flush_soon()
        del self.waiting[:begun]
        if self.dropping or self.ended and not self.running and not self.waiting:
            self.over.set()

    async def run_async(self, task):
        import asyncio
        size = len(task._body)
        try:
            arguments = self.begin(task)
            if arguments is not None:
                if not is_async(task._handler[0]):
                    self.flush()  # it may hold up the loop
                try:
                    result = task._handler[0](*arguments)
                    if inspect.isawaitable(result):
                        result = await result
                    if hasattr(result, "__aiter__"):
                        async for item in result:
                            task.item(item)
                        result = None
                    elif type(result) is types.GeneratorType:
                        result = self.drain(task, result)
                    data, request = self.encode(result), "FINISHED"
                except SystemExit:
                    raise
                except asyncio.CancelledError as error:
                    data, request = self.failed(Cancelled("cancelled") if task._cancelled else error), "FAILED"
                except BaseException as error:
                    data, request = self.failed(error), "FAILED"
                self.answer(task, request, data)
        except asyncio.CancelledError:
            self.answer(task, "FAILED", failure_map("cancelled", "cancelled before it began", begun=False))
        finally:
            self.give_back(size)
            self.running -= 1
            self.flush_soon()
            self.accept(())

    def flush_soon(self):
        """Writes when the loop has nothing more at hand: answers of one round are one write."""
        if not self.is_flush_due:
            self.is_flush_due = True
            self.loop.call_soon(self.flush_now)

    def flush_now(self):
        self.is_flush_due = False
        self.flush()

    # Writing

    def encode(self, value):
        try:
            return pack(value, limit=self.peer_max_frame)
        except ValueError as error:
            raise Failure("bad_data", "the value cannot be sent: %s" % error) from None
        except RecursionError:
            raise Failure("bad_data", "the value cannot be sent: it is nested too deep") from None

    def frame(self, id, request, data):
        head = self.heads.get(request)
        if head is None:
            head = self.heads[request] = b"\x94" + bytes((0xA0 | len(request),)) + request.encode() + self.addresses
        size = len(head) + len(data) + 4
        if size > self.peer_max_frame:
            raise Failure("too_large", "the frame would have %d bytes, the parent takes %d" % (size, self.peer_max_frame))
        return struct.pack(">II", size, id) + head + data

    def say(self, task, frame, flush=False):
        """Puts a frame behind what waits; nothing about a task that is answered [R-24] [R-34]."""
        with self.lock:
            if (task is None or task._open) and not self.dropping:
                self.out += frame
                if flush:
                    self.flush()

    def answer(self, task, request, data):
        """The final answer of a task. Only then its id is free, and before it is written."""
        if task.id:
            try:
                frame = self.frame(task.id, request, data)
            except Failure as failure:  # FAILED itself is too large only by its `data`
                frame = self.frame(task.id, "FAILED", failure_map(failure.code, failure.message))
        elif request == "FAILED":
            print("stokehold_worker: a one-way %s failed: %s" % (task.request, unpack(data)["message"]), file=sys.stderr)
        with self.lock:
            if task.id and not self.dropping:
                self.out += (task._held_progress or b"") + frame
            task._open, task._mute = False, True
            if self.open.get(task.id) is task:
                del self.open[task.id]

    def flush(self):
        with self.lock:
            if self.out:
                out, self.out = self.out, bytearray()
                write_all(self.sink, out)
                self.flushed_at = time.perf_counter()

    def admit_log(self):
        """How many lines were dropped before this one; None if it is dropped itself [R-46]."""
        with self.lock:
            second = int(time.monotonic())
            if second != self.second:
                self.second, self.logs = second, 0
            self.logs += 1
            if self.logs > LOGS_A_SECOND:
                self.logs_lost += 1
                return None
            lost, self.logs_lost = self.logs_lost, 0
            return lost

    def say_log(self, task, level, message, fields):
        line = dict(fields, level=str(level), msg=cut(message, 32768))
        self.say(task, self.frame(task.id, "LOG", self.encode(line)), flush=True)

    def unknown(self, name):
        return "%r is none of %s" % (name, ", ".join(self.handlers))

    # Reading, on a thread of its own

    def read(self):
        try:
            poll = select.poll()
            poll.register(self.source, select.POLLIN)
            poll.register(self.sink, 0)  # told of its end only
            self.code = self.read_frames(poll)
            self.deliver(None, 0)
            poll.unregister(self.source)
            while True:
                self.wait(poll, True)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def wait(self, poll, is_watching):
        """Until there is something to read. Meanwhile no answer is held for long, and nobody works for nobody."""
        while True:
            with self.lock:
                is_watching = is_watching and bool(self.open or self.out)
            events = poll.poll(TICK_MS if is_watching else None)
            for descriptor, event in events:
                if descriptor == self.sink and event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                    os._exit(1)  # nobody reads any more [L-5]
                if descriptor == self.source:
                    return
            if not events:
                with self.lock:
                    if self.batch is not None:
                        self.give_results()  # [B-4]
                    if self.loop is None:
                        self.flush()

    def read_frames(self, poll):
        """Reads until the end. Gives the exit code for what the end was."""
        pieces, have, need, skipped, is_watched = [], 0, 8, None, False
        while True:
            self.wait(poll, is_watched)
            try:
                piece = os.read(self.source, 1 << 16 if need <= 1 << 16 else 1 << 20)
            except BlockingIOError:
                continue
            if not piece:
                if have or skipped is not None:
                    print("stokehold_worker: the input ended inside a frame", file=sys.stderr)
                    return 3  # [L-4]
                return 0
            pieces.append(piece)
            have += len(piece)
            if have < need:
                if skipped is not None:
                    pieces, have, need = [], 0, need - have  # [F-11]
                elif have < 4:
                    continue
                elif need > 8:
                    continue
            buffer = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            at, end, tasks, size, has_batch = 0, len(buffer), [], 0, False
            while True:
                if skipped is not None:
                    if end - at < need:
                        need -= end - at
                        at = end
                        break
                    at, need = at + need, 8
                    self.take_refused(tasks, skipped, "too_large", "the frame is above max_frame")  # [F-10]
                    skipped = None
                if end - at < 4:
                    need = 8
                    break
                length = int.from_bytes(buffer[at:at + 4], "big")
                if not 5 <= length <= FRAME_CEILING:
                    self.deliver(tasks, size)
                    print("stokehold_worker: no frame begins with %r" % buffer[at:at + 32], file=sys.stderr)
                    return 4  # [F-5] [F-7]
                if end - at < 8:
                    need = 8
                    break
                id = int.from_bytes(buffer[at + 4:at + 8], "big")
                if length > self.max_frame:
                    skipped, need, at = id, length - 4, at + 8
                    continue
                if end - at < length + 4:
                    need = length + 4
                    break
                body = buffer[at + 8:at + 4 + length]
                at += length + 4
                size += len(body)
                taken = self.take(tasks, id, body)
                if taken is not None:
                    has_batch = has_batch or taken == "BATCH"
                    if taken == "DIE":
                        self.deliver(tasks, size)
                        return 0
            pieces, have = ([buffer[at:]], end - at) if at < end else ([], 0)
            if tasks:
                is_watched = has_batch or self.trust >= PROOF_TASKS or (is_watched and bool(self.open))
                self.deliver(tasks, size, is_watched)

    def deliver(self, tasks, size, is_watched=False):
        if self.loop is not None:
            if tasks is not None:
                with self.lock:
                    self.backlog += sum(len(task._body) for task in tasks if task._refusal is None)
            try:
                self.loop.call_soon_threadsafe(self.accept, tasks)
            except RuntimeError:
                return  # the loop has ended
        else:
            with self.lock:
                self.backlog += size
            self.queue.put(None if tasks is None else (tasks, size, is_watched))
        while self.backlog > BACKLOG_MAX:
            self.room.clear()
            if self.backlog > BACKLOG_MAX:
                self.room.wait()

    def take(self, tasks, id, body):
        """One frame. Gives the request if it is BATCH or DIE, else None."""
        meta, self.meta = self.meta, None  # META counts for the next frame only
        if body.startswith(self.known_head) and len(body) > len(self.known_head):
            request, at = self.known_request, len(self.known_head)  # mostly they are all the same
        else:
            try:
                request, at = read_head(body)
                if at >= len(body):
                    raise ValueError("there is no data")  # [M-6]
            except ValueError as error:
                return self.take_refused(tasks, id, "bad_message", str(error))  # [M-13]
            self.known_head, self.known_request = body[:at], request
        handler = self.handlers.get(request)
        if handler is not None:
            if id not in self.open:
                task = Task(self, id, request, handler, body, at, meta[1] if meta is not None and meta[0] == id else None)
                if id:
                    self.open[id] = task
                tasks.append(task)
        elif request == "DO" or not PROTOCOL_NAME.fullmatch(request):
            self.take_refused(tasks, id, "unknown_request", self.unknown(request))
        elif request == "BATCH":
            if id and not self.concurrent and id not in self.open:
                self.open[id] = task = Task(self, id, request, None, body, at, None)
                tasks.append(task)
                return request
        else:
            try:
                data = unpack(body, at)
            except ValueError:
                if request != "DIE":
                    return None  # [D-18]
                data = None
            return self.take_protocol(id, request, data, body[at:])
        return None

    def take_refused(self, tasks, id, code, why):
        """What is answered without a handler, in its turn; never with id 0 [R-21]."""
        if id and id not in self.open:
            self.open[id] = task = Task(self, id, "", None, None, 0, None, refusal=(code, why))
            tasks.append(task)

    def take_protocol(self, id, request, data, encoded):
        """HELLO, META, CANCEL, PING and DIE; every other name in capitals is ignored [R-7] [R-9]."""
        keys = data if isinstance(data, dict) else {}
        if request == "META":
            if id:
                self.meta = id, keys
        elif request == "CANCEL":
            task = self.open.get(id)
            if task is not None:
                self.cancel(task)
        elif id:
            return None
        elif request == "PING" and len(encoded) <= 64:
            self.say(None, self.frame(0, "PONG", encoded), flush=True)
        elif request == "HELLO":
            if not self.greeted:
                self.take_hello(keys)
        elif request == "DIE":
            if keys.get("now") is True:
                self.die_now()
            return request
        return None

    def cancel(self, task):
        task._cancelled = True
        if task._job is not None:
            self.loop.call_soon_threadsafe(task._job.cancel)

    def take_hello(self, hello):
        self.greeted = True
        pid, parent, max_frame, caps = (hello.get(key) for key in ("pid", "parent", "max_frame", "caps"))
        if type(max_frame) is int:
            self.peer_max_frame = max(MAX_FRAME_FLOOR, min(max_frame, FRAME_CEILING))  # [F-14]
        self.says_started = isinstance(caps, list) and "started" in caps
        is_address = [type(address) is int and 1 <= address <= ADDRESS_MAX for address in (pid, parent)]
        self.addresses = pack(pid if is_address[0] else os.getpid()) + pack(parent if is_address[1] else None)
        self.heads = {}

    def die_now(self):
        """Drops everything, tells the handlers, and does not wait long for them [L-3]."""
        with self.lock:
            self.dropping, self.out = True, bytearray()
            running = list(self.open.values())
        for task in running:
            self.cancel(task)
        end_soon(0)


class InitError(Exception):
    def __init__(self, cause):
        super().__init__(words_of(cause))
        self.cause = cause


def wants_task(function):
    """Whether a handler has a second parameter."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False  # some builtins do not say
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    required = [one for one in positional if one.default is one.empty]
    return len(required) >= 2 or len(positional) >= 2 and positional[1].name == "task"


def is_async(function):
    kinds = inspect.iscoroutinefunction, inspect.isasyncgenfunction
    return any(kind(function) or kind(getattr(function, "__call__", None)) for kind in kinds)


def size_of_array(size):
    return bytes((0x90 | size,)) if size < 16 else size_mark(0xDB, size)


def failure_map(code, message, begun=None, **more):
    """The data of FAILED. Its texts are cut so that it fits the smallest frame a parent may announce [E-10]."""
    code = code if isinstance(code, str) and (code in CHILD_CODES or "." in code) else "error"  # [E-2]
    found = dict(code=cut(code, 1024), message=cut(message, 16384), **more)
    if begun is not None:
        found["begun"] = begun  # [E-9]
    return pack(found)


def failure_of(error, data_max):
    """The data of FAILED for what a handler raised: message, causes, where it was raised."""
    if isinstance(error, Cancelled):
        return failure_map("cancelled", words_of(error))
    more, chain, seen, behind = {}, [], {id(error)}, error
    while len(chain) < 16:
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
        if behind is None or id(behind) in seen:
            break
        seen.add(id(behind))
        chain.append(cut(words_of(behind), 512))
    if chain:
        more["chain"] = chain
    if not isinstance(error, Failure):
        shown = traceback.format_exception(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
        return failure_map("error", words_of(error), trace=cut("".join(shown), 32000, tail=True), **more)
    if error.retry:
        more["retry"] = True
    if type(error.after_ms) in (int, float) and 0 <= error.after_ms < 2**53:
        more["after_ms"] = int(error.after_ms)
    if error.data is not None:
        try:
            more["data"] = Packed(pack(error.data, DEPTH_MAX - 1, data_max))
        except BaseException as why:
            print("stokehold_worker: the data of a Failure cannot be sent: %s" % words_of(why), file=sys.stderr)
    return failure_map(error.code, error.message or error.code, **more)


def words_of(error):
    try:
        words = str(error)
    except BaseException:  # its method may raise anything
        words = ""
    return "%s: %s" % (type(error).__name__, words) if isinstance(error, KeyError) or not words else words
