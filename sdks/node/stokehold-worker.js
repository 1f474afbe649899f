'use strict';
// The Stokehold SDK for workers in Node 18 or later: this file, no dependencies. The protocol is described in protocol/SPEC.md;
// ids such as [W-9] are statements of it.
//
//   const { serve } = require('./stokehold-worker.js');
//   serve({ square: (n) => n * n });

const EventEmitter = require('events');
const fs = require('fs');
const net = require('net');
const { isMainThread, parentPort, Worker, workerData } = require('worker_threads');

const SDK = 'node/0.1.0';
const FRAME_LEN_MIN = 5;
const FRAME_LEN_CEILING = 0x07ffffff;
const MAX_FRAME_DEFAULT = 0x00ffffff;
const MAX_FRAME_FLOOR = 65536;
const DEPTH_MAX = 64;
const WINDOW_MAX = 65536;
// Tasks and one-way requests that may wait, whatever the parent does; then no more is read for a while.
const QUEUE_MAX = 2 * WINDOW_MAX;
// Bytes that wait to be written before somebody has to wait for the parent.
const WAITING_BYTES_MAX = 1 << 20;
// How long tasks may run one after the other before input is looked at again: CANCEL and PING are among it.
const TURN_MS = 5;
// PROGRESS and LOG in a second; more are dropped, because a parent may end a child that floods it.
const NEWS_MAX = 10000;

// ---- Failures ----------------------------------------------------------------------------------------------------------

const CODES = ['error', 'unknown_request', 'bad_data', 'bad_message', 'too_large', 'cancelled', 'overloaded', 'unavailable'];

/** An error that says more to the parent than words. Any other error fails its task with the code `error`, without a retry. */
class Failure extends Error {
  /** @param {string} message @param {{code?: string, retry?: boolean, afterMs?: number, data?: any, cause?: any}} [more] */
  constructor(message, more = {}) {
    super(message, 'cause' in more ? { cause: more.cause } : undefined);
    this.name = 'Failure';
    // A code without a dot that is not the protocol's would be taken for `error` by the parent [E-3].
    const code = textOf(more.code);
    this.code = CODES.includes(code) || code.includes('.') ? code : 'error';
    this.afterMs = typeof more.afterMs === 'number' && more.afterMs > 0 ? more.afterMs : 0;
    this.retry = Boolean(more.retry) || this.afterMs > 0;
    this.data = more.data;
  }
}

class BadData extends Error {}

/** Whether it is an error of this file. What is thrown may be anything, also what throws when it is looked at. */
function isOwn(error) {
  try {
    return error instanceof BadData || error instanceof Failure;
  } catch {
    return false;
  }
}

function isAbort(error) {
  try {
    return error instanceof Error && error.name === 'AbortError';
  } catch {
    return false;
  }
}

function textOf(value) {
  try {
    return String(value);
  } catch {
    return 'an error that cannot be shown';
  }
}

/** The text, well-formed and of at most so many bytes. */
function cut(text, bytes) {
  let buffer = Buffer.from(text);
  if (buffer.length <= bytes) return buffer.toString();
  while (bytes > 0 && (buffer[bytes] & 0xc0) === 0x80) bytes--;
  return buffer.toString('utf8', 0, bytes);
}

/** The data of FAILED for what a handler threw. The texts together are far below the smallest `max_frame` [E-10]. */
function failureOf(error, begun = true) {
  try {
    return describe(error, begun);
  } catch {
    // Its properties may do anything.
    return { code: 'error', message: 'an error that cannot be shown' };
  }
}

function describe(error, begun) {
  const own = error instanceof Failure;
  const isError = error instanceof Error;
  const message = own || (isError && error.name === 'Error') ? error.message : textOf(error);
  const data = { code: 'error', message: cut(textOf(message), 16384) };
  if (own) data.code = cut(error.code, 512);
  if (error instanceof BadData) data.code = 'bad_data';
  if (own && error.retry) data.retry = true;
  if (own && error.afterMs > 0) data.after_ms = Math.min(Math.ceil(error.afterMs), Number.MAX_SAFE_INTEGER);
  if (!begun) data.begun = false;
  if (begun && isError && typeof error.stack === 'string') data.trace = cut(error.stack, 24576);
  const chain = [];
  for (let next = isError ? error.cause : undefined; next !== undefined && next !== null && chain.length < 16; ) {
    chain.push(cut(textOf(next instanceof Error ? next.message : next), 512));
    next = next instanceof Error ? next.cause : undefined;
  }
  if (chain.length > 0) data.chain = chain;
  if (own && error.data !== undefined) data.data = error.data;
  return data;
}

const refusal = (code, message) => ({ code, message, begun: false });

// ---- MessagePack -------------------------------------------------------------------------------------------------------

/** A number to be written as a float even if it is whole: `new Float(1)`. */
class Float {
  constructor(value) {
    this.value = Number(value);
  }
  valueOf() {
    return this.value;
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
// Byte strings from this size on are not copied out of their frame.
const SHARE_BYTES = 4096;

class Reader {
  constructor(buffer, at, end) {
    this.buffer = buffer;
    this.at = at;
    this.end = end;
  }

  /** Moves over so many bytes; gives where they begin. What has not arrived is never waited or paid for [D-9]. */
  take(bytes) {
    const at = this.at;
    if (bytes > this.end - at) throw new BadData('the data ends too early');
    this.at = at + bytes;
    return at;
  }

  size(width) {
    const at = this.take(width);
    return width === 1 ? this.buffer[at] : width === 2 ? this.buffer.readUInt16BE(at) : this.buffer.readUInt32BE(at);
  }

  text(bytes) {
    const buffer = this.buffer;
    const at = this.take(bytes);
    if (bytes <= 24) {
      let text = '';
      let i = at;
      for (const end = at + bytes; i < end && buffer[i] < 128; i++) text += String.fromCharCode(buffer[i]);
      if (i === at + bytes) return text;
    }
    try {
      return utf8.decode(buffer.subarray(at, at + bytes));
    } catch {
      throw new BadData('a text is not valid UTF-8');
    }
  }

  bytes(length) {
    const at = this.take(length);
    const part = this.buffer.subarray(at, at + length);
    return length < SHARE_BYTES ? Buffer.from(part) : part;
  }

  array(length, depth) {
    if (depth >= DEPTH_MAX) throw new BadData('the data is nested too deep');
    const array = [];
    for (let i = 0; i < length; i++) array.push(this.value(depth + 1));
    return array;
  }

  map(length, depth) {
    if (depth >= DEPTH_MAX) throw new BadData('the data is nested too deep');
    const map = {};
    for (let i = 0; i < length; i++) {
      const mark = this.buffer[this.take(1)];
      let key;
      if ((mark & 0xe0) === 0xa0) key = this.text(mark & 31);
      else if (mark >= 0xd9 && mark <= 0xdb) key = this.text(this.size(1 << (mark - 0xd9)));
      else throw new BadData('a key of a map is no text');
      if (Object.prototype.hasOwnProperty.call(map, key)) throw new BadData('a map has the same key twice');
      const value = this.value(depth + 1);
      // An assignment would set the prototype.
      if (key === '__proto__') Object.defineProperty(map, key, { value, writable: true, enumerable: true, configurable: true });
      else map[key] = value;
    }
    return map;
  }

  value(depth) {
    const mark = this.buffer[this.take(1)];
    if (mark < 0x80) return mark;
    if (mark >= 0xe0) return mark - 256;
    if (mark < 0x90) return this.map(mark & 15, depth);
    if (mark < 0xa0) return this.array(mark & 15, depth);
    if (mark < 0xc0) return this.text(mark & 31);
    const buffer = this.buffer;
    switch (mark) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.bytes(this.size(1));
      case 0xc5: return this.bytes(this.size(2));
      case 0xc6: return this.bytes(this.size(4));
      case 0xca: return buffer.readFloatBE(this.take(4));
      case 0xcb: return buffer.readDoubleBE(this.take(8));
      case 0xcc: return this.size(1);
      case 0xcd: return this.size(2);
      case 0xce: return this.size(4);
      case 0xcf: return whole(buffer.readBigUInt64BE(this.take(8)));
      case 0xd0: return buffer.readInt8(this.take(1));
      case 0xd1: return buffer.readInt16BE(this.take(2));
      case 0xd2: return buffer.readInt32BE(this.take(4));
      case 0xd3: return whole(buffer.readBigInt64BE(this.take(8)));
      case 0xd9: return this.text(this.size(1));
      case 0xda: return this.text(this.size(2));
      case 0xdb: return this.text(this.size(4));
      case 0xdc: return this.array(this.size(2), depth);
      case 0xdd: return this.array(this.size(4), depth);
      case 0xde: return this.map(this.size(2), depth);
      case 0xdf: return this.map(this.size(4), depth);
      default: throw new BadData('the byte 0x' + mark.toString(16) + ' begins no value');
    }
  }
}

/** A number where it is exact, else a BigInt [D-12]. */
function whole(big) {
  return big >= Number.MIN_SAFE_INTEGER && big <= Number.MAX_SAFE_INTEGER ? Number(big) : big;
}

/** The one value that the bytes are, all of them. */
function decode(buffer, at = 0, end = buffer.length) {
  const reader = new Reader(buffer, at, end);
  const value = reader.value(0);
  if (reader.at !== end) throw new BadData('there is something behind the data');
  return value;
}

const lengthOfBytes = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), 'length').get;

/** Collects what is written, up to a limit. Values may run code of the user, which can do anything but write here. */
class Writer {
  constructor(bytes, limit = Infinity) {
    this.buffer = Buffer.allocUnsafeSlow(bytes);
    this.at = 0;
    this.limit = limit;
  }

  /** Fails if so many bytes are too many. */
  fits(bytes) {
    if (bytes > this.limit - this.at) throw new Failure('the data is longer than the parent takes', { code: 'too_large' });
  }

  /** Makes room for so many bytes; gives where they go. */
  room(bytes) {
    const at = this.at;
    const need = at + bytes;
    if (need > this.buffer.length || need > this.limit) {
      this.fits(bytes);
      const larger = Buffer.allocUnsafeSlow(Math.max(need, this.buffer.length * 2));
      this.buffer.copy(larger, 0, 0, at);
      this.buffer = larger;
    }
    this.at = need;
    return at;
  }

  byte(byte) {
    const at = this.room(1);
    this.buffer[at] = byte;
  }

  /** A mark and a length behind it, in the shortest of the three widths; `fix` is what is below `limit`, if anything is. */
  head(length, limit, fix, mark8, mark16, mark32) {
    if (length < limit) this.byte(fix | length);
    else if (length < 256 && mark8) {
      const at = this.room(2);
      this.buffer[at] = mark8;
      this.buffer[at + 1] = length;
    } else if (length < 65536) {
      const at = this.room(3);
      this.buffer[at] = mark16;
      this.buffer.writeUInt16BE(length, at + 1);
    } else if (length <= 0xffffffff) {
      const at = this.room(5);
      this.buffer[at] = mark32;
      this.buffer.writeUInt32BE(length, at + 1);
    } else throw new BadData('a value is too long');
  }

  text(text) {
    const length = text.length;
    if (length < 32) {
      // The names of most maps: a loop is faster than a call into the engine.
      const start = this.at;
      const at = this.room(length + 1);
      const buffer = this.buffer;
      let i = 0;
      for (; i < length; i++) {
        const unit = text.charCodeAt(i);
        if (unit >= 128) break;
        buffer[at + 1 + i] = unit;
      }
      if (i === length) {
        buffer[at] = 0xa0 | length;
        return;
      }
      this.at = start;
    }
    this.fits(length);
    // The engine would write another character for half of a pair.
    if (/\p{Surrogate}/u.test(text)) throw new BadData('a text has half of a surrogate pair');
    const bytes = Buffer.byteLength(text);
    this.head(bytes, 32, 0xa0, 0xd9, 0xda, 0xdb);
    const at = this.room(bytes);
    this.buffer.write(text, at, 'utf8');
  }

  bytes(bytes) {
    // A class of the user may say another one.
    const length = lengthOfBytes.call(bytes);
    this.head(length, 0, 0, 0xc4, 0xc5, 0xc6);
    const at = this.room(length);
    this.buffer.set(bytes, at);
  }

  number(value) {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) return this.float(value);
    if (value >= 0) {
      if (value < 128) return this.byte(value);
      if (value <= 0xffffffff) return this.head(value, 0, 0, 0xcc, 0xcd, 0xce);
    } else {
      if (value >= -32) return this.byte(value & 0xff);
      if (value >= -0x80000000) {
        const width = value >= -0x80 ? 1 : value >= -0x8000 ? 2 : 4;
        const at = this.room(1 + width);
        this.buffer[at] = width === 1 ? 0xd0 : width === 2 ? 0xd1 : 0xd2;
        this.buffer.writeIntBE(value, at + 1, width);
        return;
      }
    }
    this.big(BigInt(value));
  }

  big(value) {
    if (value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER) {
      const number = Number(value);
      if (number >= -0x80000000 && number <= 0xffffffff) return this.number(number);
    }
    if (value < -(2n ** 63n) || value >= 2n ** 64n) throw new BadData('an integer has more than 64 bits');
    const at = this.room(9);
    this.buffer[at] = value < 0n ? 0xd3 : 0xcf;
    if (value < 0n) this.buffer.writeBigInt64BE(value, at + 1);
    else this.buffer.writeBigUInt64BE(value, at + 1);
  }

  float(value) {
    const at = this.room(9);
    this.buffer[at] = 0xcb;
    this.buffer.writeDoubleBE(value, at + 1);
  }

  value(value, depth) {
    switch (typeof value) {
      case 'number': return this.number(value);
      case 'string': return this.text(value);
      case 'boolean': return this.byte(value ? 0xc3 : 0xc2);
      case 'undefined': return this.byte(0xc0);
      case 'bigint': return this.big(value);
      case 'object': return value === null ? this.byte(0xc0) : this.object(value, depth);
      default: throw new BadData(`a ${typeof value} is no value that can be sent`);
    }
  }

  object(value, depth) {
    if (value instanceof Uint8Array) return this.bytes(value);
    if (value instanceof Float) return this.float(value.value);
    if (value instanceof ArrayBuffer) return this.bytes(new Uint8Array(value));
    // Also what ends a value that contains itself.
    if (depth >= DEPTH_MAX) throw new BadData('the data is nested too deep');
    if (Array.isArray(value)) {
      const { length } = value;
      if (!Number.isSafeInteger(length) || length < 0) throw new BadData('an array without a length');
      this.fits(length);
      this.head(length, 16, 0x90, 0, 0xdc, 0xdd);
      for (let i = 0; i < length; i++) this.value(value[i], depth + 1);
    } else if (value instanceof Map) {
      // As it is now: what is in it may change it.
      const entries = [...Map.prototype.entries.call(value)];
      this.head(entries.length, 16, 0x80, 0, 0xde, 0xdf);
      for (const [key, entry] of entries) {
        if (typeof key !== 'string') throw new BadData('a key of a map is no text');
        this.text(key);
        this.value(entry, depth + 1);
      }
    } else {
      const prototype = Object.getPrototypeOf(value);
      if (prototype !== Object.prototype && prototype !== null) {
        const name = prototype.constructor && prototype.constructor.name;
        throw new BadData(`an object of the class ${name || 'without a name'} is no value that can be sent`);
      }
      // As in JSON, a property that is undefined is not there.
      const keys = [];
      const entries = [];
      for (const key of Object.keys(value)) {
        const entry = value[key];
        if (entry === undefined) continue;
        keys.push(key);
        entries.push(entry);
      }
      this.head(keys.length, 16, 0x80, 0, 0xde, 0xdf);
      for (let i = 0; i < keys.length; i++) {
        this.text(keys[i]);
        this.value(entries[i], depth + 1);
      }
    }
  }
}

/** The value in MessagePack; a Failure `too_large` if no frame holds it. */
function encode(value) {
  const writer = new Writer(256, FRAME_LEN_CEILING);
  writer.value(value, 0);
  return writer.buffer.subarray(0, writer.at);
}

// ---- The guard: where the protocol is, and what else may be there -------------------------------------------------------

/** A line for people; nobody may be there to read it. */
function say(line) {
  try {
    fs.writeSync(2, `stokehold: ${line}\n`);
  } catch {
    // There is no other place to say so.
  }
}

function leave(code, line) {
  if (line) say(line);
  process.exit(code);
}

/** Opens again what a descriptor is: Node has no dup. It works for pipes and files, and nowhere for sockets. */
function reopen(fd, flags) {
  for (const folder of ['/proc/self/fd/', '/dev/fd/']) {
    try {
      return fs.openSync(folder + fd, flags);
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
    }
  }
  throw new Error('there is no folder of descriptors');
}

/** Moves the protocol away from 0 and 1, so that nothing that prints or reads can meet it. */
function moveAway() {
  const { O_RDONLY, O_WRONLY, O_NONBLOCK } = fs.constants;
  // With a named pipe an open could wait for the other end, which may be gone.
  const input = reopen(0, O_RDONLY | O_NONBLOCK);
  // Answers are written at once or waited for, hence without O_NONBLOCK.
  const output = reopen(1, O_WRONLY);
  // The lowest free number is given, so these become 0 and 1.
  fs.closeSync(0);
  fs.openSync('/dev/null', 'r');
  fs.closeSync(1);
  try {
    reopen(2, O_WRONLY);
  } catch {
    fs.openSync('/dev/null', 'w');
  }
  return { input, output };
}

/** Where descriptors cannot be moved: keeps Node's own ways away from 0 and 1. What writes to 1 directly still hits it. */
function redirect() {
  const { Readable } = require('stream');
  const child = require('child_process');
  const empty = Readable.from([]);
  Object.defineProperty(process, 'stdout', { configurable: true, get: () => process.stderr });
  Object.defineProperty(process, 'stdin', { configurable: true, get: () => empty });
  const safe = (stdio) => {
    const list = typeof stdio === 'string' ? [stdio, stdio, stdio] : stdio;
    if (!Array.isArray(list)) return stdio;
    return list.map((entry, fd) => {
      if (entry === 0 || entry === process.stdin || (entry === 'inherit' && fd === 0)) return 'ignore';
      return entry === 1 || (entry === 'inherit' && fd === 1) ? 2 : entry;
    });
  };
  const start = child.ChildProcess.prototype.spawn;
  child.ChildProcess.prototype.spawn = function spawn(options) {
    return start.call(this, options && options.stdio ? { ...options, stdio: safe(options.stdio) } : options);
  };
  const { spawnSync } = child;
  child.spawnSync = (file, args, options) => {
    if (!Array.isArray(args)) [args, options] = [[], args];
    return spawnSync(file, args, options && options.stdio ? { ...options, stdio: safe(options.stdio) } : options);
  };
}

let surroundings;

/** Takes the environment and the descriptors, once: where the protocol is, and what is on offer. */
function settle() {
  if (surroundings) return surroundings;
  const env = {};
  for (const name of Object.keys(process.env)) {
    if (name.startsWith('STOKEHOLD_')) {
      env[name.slice('STOKEHOLD_'.length)] = process.env[name];
      delete process.env[name];
    }
  }
  const io = env.IO === undefined ? 'stdio' : env.IO;
  const own = /^fd:(\d+),(\d+)$/.exec(io);
  if (!own && io !== 'stdio') leave(2, `STOKEHOLD_IO is ${JSON.stringify(io)}, which is neither stdio nor fd:R,W`);
  let [input, output] = own ? [Number(own[1]), Number(own[2])] : [0, 1];
  for (const fd of [input, output]) {
    let stat;
    try {
      stat = fs.fstatSync(fd);
    } catch {
      leave(2, `descriptor ${fd} is not open`);
    }
    // Node's own queues of events are of no such kind.
    if (!(stat.isFIFO() || stat.isSocket() || stat.isFile() || stat.isCharacterDevice())) leave(2, `descriptor ${fd} is no pipe`);
  }
  if (env.IO === undefined && require('tty').isatty(0)) {
    leave(2, 'this is a worker: a parent starts it, for instance `stokehold run -- node worker.js`');
  }
  if (!own) {
    try {
      ({ input, output } = moveAway());
    } catch {
      redirect();
    }
  }
  // The parent decides when this process ends; ^C in its terminal is for the parent.
  if (Object.keys(env).length > 0) process.on('SIGINT', () => {});
  surroundings = { input, output, env };
  return surroundings;
}

/** Waits without the event loop. */
function sleep(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

// ---- A task ------------------------------------------------------------------------------------------------------------

/** What a handler gets beside its input. */
class Task {
  #session;
  #controller;
  constructor(session, id, request, meta) {
    this.#session = session;
    /** Names the task on this connection; 0 for a one-way request, which is not answered. */
    this.id = id;
    /** The name of the request: `DO`, or what the handler is called. */
    this.request = request;
    /** From 1. Above 1 the task was begun before, here or elsewhere, by an attempt that gave no answer. */
    this.attempt = meta && Number.isSafeInteger(meta.attempt) && meta.attempt > 0 ? meta.attempt : 1;
    /** The same for every attempt of the task and for no other task; null if the parent gives none. */
    this.key = meta && typeof meta.key === 'string' ? meta.key : null;
    /** Milliseconds that the parent lets the handler run; null if there is no limit. */
    this.deadlineMs = meta && Number.isSafeInteger(meta.deadline_ms) ? meta.deadline_ms : null;
    /** Whether the parent wants it no more. */
    this.cancelled = false;
    this.answered = false;
  }

  /** An AbortSignal for `fetch`, timers and the like. */
  get signal() {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.cancelled) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  /** Ends the handler here if the task is cancelled. */
  throwIfCancelled() {
    if (this.cancelled) throw new Failure('cancelled', { code: 'cancelled' });
  }

  cancel() {
    this.cancelled = true;
    if (this.#controller) this.#controller.abort();
  }

  /** Gives one result of many. */
  item(value) {
    if (this.answered) throw new Error('the task is answered, and has no results any more');
    this.#session.item(this, value);
  }

  /** Tells how far it is: a number, or `{done, total, note}`. */
  progress(progress) {
    if (!this.answered && this.id !== 0) this.#session.news('PROGRESS', this.id, progress);
  }

  /** A line for the parent's log; the level is `trace`, `debug`, `info`, `warn` or `error`. */
  log(level, message, more = {}) {
    const line = { level: textOf(level), msg: cut(textOf(message), 32768), ...more };
    this.#session.news('LOG', this.answered ? 0 : this.id, line);
  }
}

// ---- A session ---------------------------------------------------------------------------------------------------------

class Session {
  constructor(handlers, options, { input, output, env }) {
    this.handlers = handlers;
    this.window = Math.min(Math.max(Math.trunc(options.window) || 16, 1), WINDOW_MAX);
    this.maxFrame = Math.min(Math.max(Math.trunc(options.maxFrame) || MAX_FRAME_DEFAULT, MAX_FRAME_FLOOR), FRAME_LEN_CEILING);
    this.hasLookout = Boolean(options.lookout);
    this.caps = ['cancel', 'meta', 'started'];
    if (this.hasLookout || options.ping) this.caps.push('ping');
    this.writing = new Int32Array(new SharedArrayBuffer(4));
    this.input = input;
    this.output = output;
    this.env = env;
    this.out = new Writer(WAITING_BYTES_MAX / 16);
    this.begun = -1; // where the frame is that is being written
    this.maxAnswer = MAX_FRAME_DEFAULT;
    this.saysStarted = false;
    this.greeted = false;
    this.ready = false;
    this.setAddresses(process.pid, null);

    this.open = new Map(); // of the tasks that are not answered, by id
    this.queue = []; // of {task, buffer, at, end}
    this.next = 0; // in the queue
    this.running = 0; // handlers that wait for something
    this.turn = false; // one is due
    this.flushDue = false;
    this.meta = null;
    this.done = 0;
    this.failed = 0;
    this.ending = null; // the exit code, once nothing more is read
    this.leaving = false;
    this.second = 0;
    this.newsOfSecond = 0;

    this.partial = null; // a frame that has come in part
    this.have = 0;
    this.skip = 0;
    this.skipped = 0;
  }

  // -- Out

  setAddresses(sender, recipient) {
    this.heads = new Map();
    this.sender = sender;
    this.recipient = recipient;
  }

  head(request) {
    let head = this.heads.get(request);
    if (!head) {
      const writer = new Writer(64);
      writer.byte(0x94);
      for (const field of [request, this.sender, this.recipient]) writer.value(field, 0);
      head = writer.buffer.subarray(0, writer.at);
      this.heads.set(request, head);
    }
    return head;
  }

  /** Puts a frame behind the others; throws, and puts nothing there, if the data cannot be sent. */
  frame(request, id, data) {
    // A getter of the data may say something, too.
    if (this.begun >= 0) throw new BadData('nothing can be sent while a value is written');
    const head = this.head(request);
    const out = this.out;
    const start = out.room(8 + head.length);
    out.buffer.set(head, start + 8);
    out.limit = start + 4 + this.maxAnswer;
    this.begun = start;
    try {
      out.value(data, 0);
      out.buffer.writeUInt32BE(out.at - start - 4, start);
      out.buffer.writeUInt32BE(id, start + 4);
    } catch (error) {
      out.at = start;
      // Also what a getter throws, or a value that is too long for this machine.
      throw isOwn(error) ? error : new BadData(textOf(error));
    } finally {
      out.limit = Infinity;
      this.begun = -1;
    }
  }

  /** Writes everything. Waits while the parent does not read, which it always does but when it has too many results. */
  flush() {
    const out = this.out;
    // A getter that ends the process.
    if (this.begun >= 0) out.at = this.begun;
    if (out.at === 0) return;
    let at = 0;
    // A frame must not be written into another one of the other thread.
    while (Atomics.compareExchange(this.writing, 0, 0, 1) !== 0) Atomics.wait(this.writing, 0, 1, 10);
    while (at < out.at) {
      try {
        at += fs.writeSync(this.output, out.buffer, at, out.at - at);
      } catch (error) {
        if (error.code === 'EAGAIN') {
          sleep(0.2);
          continue;
        }
        // Nobody reads: there is nothing left to do, and nobody to tell.
        out.at = at = 0;
        Atomics.store(this.writing, 0, 0);
        process.exit(1);
      }
    }
    out.at = 0;
    Atomics.store(this.writing, 0, 0);
    if (this.hasLookout) Atomics.notify(this.writing, 0);
    if (out.buffer.length > WAITING_BYTES_MAX) out.buffer = Buffer.allocUnsafeSlow(WAITING_BYTES_MAX / 16);
  }

  /** Lets answers of one turn of the event loop be written together. */
  flushSoon() {
    if (this.out.at > WAITING_BYTES_MAX / 2) this.flush();
    if (this.flushDue) return;
    this.flushDue = true;
    setImmediate(() => {
      this.flushDue = false;
      this.flush();
    });
  }

  item(task, value) {
    if (task.id === 0) return;
    this.frame('ITEM', task.id, value);
    // The handler may take long for the next one.
    this.flush();
  }

  news(request, id, data) {
    const second = Math.trunc(performance.now() / 1000);
    if (second !== this.second) [this.second, this.newsOfSecond] = [second, 0];
    if (++this.newsOfSecond > NEWS_MAX) return;
    try {
      this.frame(request, id, data);
      this.flush();
    } catch {
      // What is for people only is no reason to fail.
    }
  }

  // -- In

  feed(chunk) {
    let at = 0;
    while (at < chunk.length && this.ending === null) {
      const left = chunk.length - at;
      if (this.skip > 0) {
        const part = Math.min(left, this.skip);
        at += part;
        this.skip -= part;
        if (this.skip === 0 && this.skipped > 0) {
          this.refuse(this.skipped, refusal('too_large', `a frame above ${this.maxFrame} bytes`));
        }
        continue;
      }
      if (this.have === 0 && left >= 8) {
        const length = chunk.readUInt32BE(at);
        if (length >= FRAME_LEN_MIN && length <= this.maxFrame && left >= length + 4) {
          this.message(chunk, at, at + 4 + length);
          at += 4 + length;
          continue;
        }
      }
      at += this.collect(chunk, at);
    }
  }

  /** Takes what is needed next of a frame that has not come whole; gives how many bytes it took. */
  collect(chunk, at) {
    const have = this.have;
    const length = have >= 4 ? this.partial.readUInt32BE(0) : 0;
    const need = have < 4 ? 4 : have < 8 ? 8 : length + 4;
    const part = Math.min(need - have, chunk.length - at);
    if (!this.partial || this.partial.length < have + part) {
      // Memory for what has come, not for what was announced [F-11].
      const grown = Buffer.allocUnsafeSlow(Math.min(Math.max(need, 64), Math.max(64, 2 * (have + part))));
      if (have > 0) this.partial.copy(grown, 0, 0, have);
      this.partial = grown;
    }
    chunk.copy(this.partial, have, at, at + part);
    this.have = have + part;
    if (this.have < need) return part;
    if (need === 4) {
      const announced = this.partial.readUInt32BE(0);
      if (announced < FRAME_LEN_MIN || announced > FRAME_LEN_CEILING) {
        const quote = Buffer.concat([this.partial.subarray(0, 4), chunk.subarray(at + part, at + part + 28)]);
        this.end(4, `the parent broke the protocol: no frame begins with ${JSON.stringify(quote.toString('latin1'))}`);
      }
    } else if (need === 8) {
      if (length > this.maxFrame) {
        this.skip = length - 4;
        this.skipped = this.partial.readUInt32BE(4);
        this.meta = null;
        this.have = 0;
      }
    } else {
      const whole = this.partial;
      // Byte strings may be shared with it from now on.
      this.partial = null;
      this.have = 0;
      this.message(whole, 0, need);
    }
    return part;
  }

  /** A whole frame. */
  message(buffer, start, end) {
    const id = buffer.readUInt32BE(start + 4);
    const reader = new Reader(buffer, start + 8, end);
    const meta = this.meta;
    this.meta = null;
    let request;
    try {
      request = readHead(reader);
    } catch (error) {
      if (id !== 0) this.refuse(id, refusal('bad_message', textOf(error.message)));
      return;
    }
    if (request !== 'DO' && /^[A-Z][A-Z0-9_]*$/.test(request)) {
      this.protocol(request, id, buffer, reader.at, end);
      return;
    }
    if (this.open.has(id)) return;
    const handler = this.handlers.get(request);
    if (!handler) {
      if (id !== 0) this.refuse(id, refusal('unknown_request', `there is no handler for ${JSON.stringify(cut(request, 255))}`));
      return;
    }
    const task = new Task(this, id, request, meta && meta.id === id ? meta.data : null);
    if (id !== 0) this.open.set(id, task);
    this.queue.push({ task, handler, buffer, at: reader.at, end });
    // A parent within its window never comes here.
    if (this.queue.length - this.next > QUEUE_MAX) this.source.pause();
  }

  protocol(request, id, buffer, at, end) {
    if (!['HELLO', 'DIE', 'CANCEL', 'META', 'PING'].includes(request)) return;
    let data;
    try {
      data = decode(buffer, at, end);
    } catch {
      // DIE is DIE whatever is behind it; the rest may be ignored [D-18].
      if (request !== 'DIE') return;
    }
    const map = data !== null && typeof data === 'object' && !Array.isArray(data) ? data : {};
    if (request === 'CANCEL') {
      const task = this.open.get(id);
      if (task) task.cancel();
    } else if (request === 'META') {
      if (id !== 0) this.meta = { id, data: map };
    } else if (id !== 0) {
      return;
    } else if (request === 'PING') {
      if (this.caps.includes('ping') && !this.hasLookout && end - at <= 64) {
        this.frame('PONG', 0, data);
        this.flush();
      }
    } else if (request === 'HELLO') {
      if (!this.greeted) this.hello(map);
    } else if (map.now === true) {
      // Nothing more is answered.
      this.out.at = 0;
      process.exit(0);
    } else {
      this.end(0);
    }
  }

  hello(map) {
    this.greeted = true;
    const isAddress = (value) => Number.isSafeInteger(value) && value > 0;
    this.setAddresses(isAddress(map.pid) ? map.pid : process.pid, isAddress(map.parent) ? map.parent : null);
    if (Number.isSafeInteger(map.max_frame)) {
      this.maxAnswer = Math.min(Math.max(map.max_frame, MAX_FRAME_FLOOR), FRAME_LEN_CEILING);
    }
    this.saysStarted = Array.isArray(map.caps) && map.caps.includes('started');
  }

  // -- Work

  /** Begins what is in the queue, for a few milliseconds, then lets input be read. */
  work() {
    this.turn = false;
    const until = performance.now() + TURN_MS;
    while (this.canBegin()) {
      const entry = this.queue[this.next];
      this.queue[this.next++] = undefined;
      this.begin(entry);
      if (performance.now() > until) break;
    }
    if (this.next === this.queue.length) this.queue.length = this.next = 0;
    if (this.ending === null && this.source.isPaused()) this.source.resume();
    if (this.canBegin()) this.workSoon();
    this.flush();
    this.endIfDone();
  }

  canBegin() {
    return this.ready && this.next < this.queue.length && this.running < this.window;
  }

  workSoon() {
    if (this.turn) return;
    this.turn = true;
    setImmediate(() => this.work());
  }

  begin({ task, handler, buffer, at, end }) {
    if (task.cancelled) {
      this.fail(task, refusal('cancelled', 'cancelled before it began'));
      return;
    }
    let input;
    try {
      input = decode(buffer, at, end);
    } catch (error) {
      this.fail(task, failureOf(error, false));
      return;
    }
    if (task.id !== 0 && this.saysStarted) this.frame('STARTED', task.id, null);
    // The handler may take long: what is finished must not wait for it [W-9], and the parent must know what runs.
    this.flush();
    let result;
    let isLong;
    try {
      result = handler(input, task);
      // A property of the user's object may throw.
      isLong = result !== null && typeof result === 'object' && (typeof result.then === 'function' || hasSteps(result));
    } catch (error) {
      this.failWith(task, error);
      return;
    }
    if (isLong) this.follow(task, result);
    else this.finish(task, result);
  }

  /** Waits for a promise, or sends what a generator yields. */
  async follow(task, result) {
    // A one-way request has no place in `open`, and must be finished all the same.
    const place = task.id === 0 ? Symbol('one-way') : task.id;
    this.open.set(place, task);
    this.running++;
    try {
      let value = await result;
      if (hasSteps(value)) {
        const steps = value[Symbol.asyncIterator] ? value[Symbol.asyncIterator]() : value;
        value = await this.stream(task, steps);
      }
      this.finish(task, value);
    } catch (error) {
      this.failWith(task, error);
    }
    this.open.delete(place);
    this.running--;
    if (this.canBegin()) this.workSoon();
    this.flushSoon();
    // Behind the flush.
    if (this.ending !== null) setImmediate(() => this.endIfDone());
  }

  async stream(task, steps) {
    let until = performance.now() + TURN_MS;
    for (;;) {
      if (task.cancelled) {
        if (steps.return) await steps.return();
        task.throwIfCancelled();
      }
      const { done, value } = await steps.next();
      if (done) return value;
      try {
        task.item(await value);
      } catch (error) {
        if (steps.return) await steps.return();
        throw error;
      }
      if (performance.now() > until) {
        // A generator that never waits would keep CANCEL out.
        await new Promise(setImmediate);
        until = performance.now() + TURN_MS;
      }
    }
  }

  finish(task, value) {
    if (task.id === 0) return;
    try {
      this.frame('FINISHED', task.id, value);
    } catch (error) {
      this.fail(task, failureOf(error));
      return;
    }
    task.answered = true;
    this.open.delete(task.id);
    this.done++;
    if (this.out.at > WAITING_BYTES_MAX / 2) this.flush();
  }

  failWith(task, error) {
    const data = failureOf(error);
    if (task.cancelled && isAbort(error)) data.code = 'cancelled';
    if (task.id === 0) say(`the one-way request ${task.request} failed: ${data.message}`);
    this.fail(task, data);
  }

  fail(task, data) {
    task.answered = true;
    if (task.id === 0) return;
    this.refuse(task.id, data);
    this.open.delete(task.id);
  }

  refuse(id, data) {
    try {
      this.frame('FAILED', id, data);
    } catch {
      // Only the user's own data can be at fault; the rest is short.
      this.frame('FAILED', id, { ...data, data: undefined });
    }
    this.failed++;
    this.flushSoon();
  }

  // -- Beginning and end

  start(init) {
    const offers = (list, own) => list === undefined || list.split(',').some((name) => name.trim() === own);
    for (const [list, own, supported, code] of [
      [this.env.PROTO, '1', 1, 'version'],
      [this.env.CODEC, 'msgpack', 'msgpack', 'codec'],
    ]) {
      if (offers(list, own)) continue;
      this.frame('FAILED', 0, { code, message: `${SDK} speaks ${own}, not ${list}`, data: { supported: [supported] } });
      this.flush();
      leave(5);
    }
    process.on('exit', () => this.flush());
    const names = [...this.handlers.keys()];
    const listed = names.reduce((bytes, name) => bytes + Buffer.byteLength(name) + 3, 0) <= 60000;
    this.frame('HELLO', 0, {
      v: 1,
      window: this.window,
      caps: this.caps,
      max_frame: this.maxFrame,
      sdk: SDK,
      methods: listed ? names : undefined,
    });
    this.listen();
    if (init) {
      this.flush();
      this.prepare(init);
    } else {
      this.becomeReady();
    }
  }

  async prepare(init) {
    try {
      await init({
        worker: this.env.WORKER === undefined ? null : Number(this.env.WORKER),
        run: this.env.RUN === undefined ? null : this.env.RUN,
        progress: (note) => this.news('PROGRESS', 0, { note: cut(textOf(note), 32768) }),
      });
    } catch (error) {
      // 125 tells the parent that starting it again makes no sense.
      leave(error && error.permanent === true ? 125 : 1, `the worker could not start: ${error instanceof Error ? error.stack : textOf(error)}`);
    }
    this.becomeReady();
  }

  becomeReady() {
    this.ready = true;
    this.frame('READY', 0, null);
    this.flush();
    this.workSoon();
  }

  listen() {
    this.source = this.hasLookout ? new Lookout(this) : sourceOf(this.input);
    this.source.on('data', (chunk) => {
      this.feed(chunk);
      if (this.next < this.queue.length && !this.turn) this.work();
      else this.endIfDone();
    });
    const ended = () => {
      if (this.have > 0 || this.skip > 0) this.end(3, 'the input ended inside a frame');
      else this.end(0);
    };
    this.source.on('end', ended);
    this.source.on('error', ended);
  }

  /** Reads no more. What was received is finished; then the process ends. */
  end(code, line) {
    if (this.ending !== null) return;
    this.ending = code;
    if (line) say(line);
    this.source.pause();
    setImmediate(() => this.endIfDone());
  }

  endIfDone() {
    if (this.leaving || this.ending === null || this.next < this.queue.length || this.open.size > 0) return;
    if (this.ending === 0) this.frame('BYE', 0, { done: this.done, failed: this.failed });
    this.flush();
    // What the program printed may wait for its reader; for a moment that is worth waiting for.
    const printed = printing();
    if (printed.length === 0) process.exit(this.ending);
    this.leaving = true;
    let left = printed.length;
    for (const stream of printed) stream.write('', () => --left === 0 && process.exit(this.ending));
    setTimeout(() => process.exit(this.ending), 2000);
  }
}

function sourceOf(fd) {
  const stat = fs.fstatSync(fd);
  if (stat.isFIFO() || stat.isSocket()) return new net.Socket({ fd, readable: true, writable: false });
  return fs.createReadStream('', { fd, autoClose: false });
}

/** The input, read by a thread of its own, which answers PING there whatever the handlers do. */
class Lookout extends EventEmitter {
  constructor({ input, output, maxFrame, writing }) {
    super();
    this.paused = false;
    this.thread = new Worker(__filename, { workerData: { stokeholdLookout: { input, output, maxFrame, writing } }, trackUnmanagedFds: false, stdout: true, stderr: true });
    this.thread.on('message', (chunk) => {
      if (chunk === null) this.emit('end');
      else this.emit('data', Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    });
    this.thread.on('error', (error) => this.emit('error', error));
  }
  isPaused() {
    return this.paused;
  }
  pause() {
    this.paused = true;
    this.thread.postMessage('pause');
  }
  resume() {
    this.paused = false;
    this.thread.postMessage('resume');
  }
}

/** What that thread runs: a session that knows PING, and HELLO for the addresses, and passes everything on. */
class Watch extends Session {
  message(buffer, start, end) {
    const reader = new Reader(buffer, start + 8, end);
    let request;
    try {
      request = readHead(reader);
    } catch {
      return;
    }
    if (request === 'PING' || request === 'HELLO') {
      this.protocol(request, buffer.readUInt32BE(start + 4), buffer, reader.at, end);
    }
  }
  refuse() {}
  // The other thread reads the same, and says why.
  end(code) {
    this.ending = code;
  }
}

function look({ input, output, maxFrame, writing }) {
  const watch = new Watch(new Map(), { maxFrame, ping: true }, { input, output, env: {} });
  watch.writing = writing;
  const source = sourceOf(input);
  const ended = () => {
    parentPort.postMessage(null);
    parentPort.close();
  };
  source.on('data', (chunk) => {
    watch.feed(chunk);
    const copy = new Uint8Array(chunk);
    parentPort.postMessage(copy, [copy.buffer]);
  });
  source.on('end', ended);
  source.on('error', ended);
  parentPort.on('message', (what) => source[what]());
}

/** The streams that have not written everything. */
function printing() {
  try {
    return [process.stdout, process.stderr].filter((stream, at, all) => stream.writableLength > 0 && all.indexOf(stream) === at);
  } catch {
    return [];
  }
}

/** Whether it gives results one by one: a generator, or anything else for `for await`. */
function hasSteps(value) {
  if (value === null || typeof value !== 'object') return false;
  if (typeof value[Symbol.asyncIterator] === 'function') return true;
  return typeof value.next === 'function' && typeof value[Symbol.iterator] === 'function';
}

/** The request of a message, with the reader behind it at the data; throws if the head is bad. */
function readHead(reader) {
  const mark = reader.size(1);
  const fields = mark === 0x94 ? 4 : mark === 0xdc ? reader.size(2) : mark === 0xdd ? reader.size(4) : 0;
  if (fields !== 4) throw new BadData('a message is an array of four');
  // A text in place of a value would be decoded before it is seen to be none; here only a text will do.
  const kind = reader.buffer[reader.at];
  if ((kind & 0xe0) !== 0xa0 && !(kind >= 0xd9 && kind <= 0xdb)) throw new BadData('the request is no text');
  const begin = reader.at + ((kind & 0xe0) === 0xa0 ? 1 : 1 + (1 << (kind - 0xd9)));
  const request = reader.value(0);
  const bytes = reader.at - begin;
  if (bytes < 1 || bytes > 255) throw new BadData('the request is no text of 1 to 255 bytes');
  if (!isInteger(reader, 0)) throw new BadData('the sender is no address');
  if (reader.buffer[reader.at] === 0xc0 && reader.at < reader.end) reader.at++;
  else if (!isInteger(reader, -1)) throw new BadData('the recipient is no address');
  if (reader.at >= reader.end) throw new BadData('a message is an array of four');
  return request;
}

/** Whether an integer from `least` to 2^53 - 1 follows, besides 0 if that is not the least; moves behind it. */
function isInteger(reader, least) {
  const mark = reader.buffer[reader.at];
  if (reader.at >= reader.end || !(mark < 0x80 || mark >= 0xe0 || (mark >= 0xcc && mark <= 0xd3))) return false;
  const value = reader.value(0);
  return typeof value === 'number' && value >= least && !(least < 0 && value === 0);
}

/**
 * Serves until the parent ends this process. `handlers` is a function, for `DO`, or an object (or Map) of functions by the
 * names of their requests. A handler gets the input and the task. What it returns, or what its promise resolves to, is the
 * result; a generator's values are sent one by one, and what it returns is the result behind them.
 *
 * Options: `window` (16), how many tasks it takes at a time, which is how many async handlers run at once; `maxFrame`
 * (16 MiB), the largest frame it takes; `init`, a function that runs before the first task; `ping` (false), whether it
 * promises to answer PING while a task runs, which a handler that computes without a pause cannot keep; `lookout` (false),
 * whether a thread of its own reads the input, which can.
 */
function serve(handlers, options = {}) {
  const named = typeof handlers === 'function' ? [['DO', handlers]] : handlers instanceof Map ? [...handlers] : Object.entries(handlers);
  if (named.length === 0) throw new TypeError('a worker needs at least one handler');
  for (const [name, handler] of named) {
    const isProtocol = /^[A-Z][A-Z0-9_]*$/.test(name) && name !== 'DO';
    if (typeof handler !== 'function') throw new TypeError(`the handler of ${name} is no function`);
    if (name === '' || Buffer.byteLength(name) > 255 || isProtocol) throw new TypeError(`${name} cannot be the name of a request`);
  }
  new Session(new Map(named), options, settle()).start(options.init);
}

if (!isMainThread && workerData && workerData.stokeholdLookout) look(workerData.stokeholdLookout);

// Before anything else that the program loads can print.
if (isMainThread && Object.keys(process.env).some((name) => name.startsWith('STOKEHOLD_'))) settle();

module.exports = { serve, Failure, Float, BadData, encode, decode };
