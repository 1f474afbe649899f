'use strict';
// Sends every frame of protocol/vectors/frames.jsonl to a testee in any language, and judges what it answers:
//
//   node sdks/node/vectors.js node sdks/node/testee.js
//
// Vectors of the stage `data` are put into a DO, whatever their request is, and must come back as the same value. What this
// child may accept by [D-13] is counted and no error.

const { spawn } = require('child_process');
const { createHash } = require('crypto');
const fs = require('fs');
const path = require('path');
const { decode, encode } = require('./stokehold-worker.js');

const MAX_FRAME = 0x00ffffff;
const PATIENCE_MS = 60000;

const frame = (id, body) => {
  const header = Buffer.alloc(8);
  header.writeUInt32BE(body.length + 4, 0);
  header.writeUInt32BE(id, 4);
  return Buffer.concat([header, body]);
};
const request = (id, name, data) => frame(id, Buffer.concat([Buffer.from([0x94]), encode(name), encode(0), encode(null), data]));

const joined = (parts) =>
  Buffer.concat([parts].flat().map((part) =>
    typeof part === 'string' ? Buffer.from(part, 'hex') : Buffer.alloc(part.repeat[0].length / 2 * part.repeat[1], part.repeat[0], 'hex')));

/** Where the data of a body with a good head begins. */
function dataOf(body) {
  let at = { 0x94: 1, 0xdc: 3, 0xdd: 5 }[body[0]];
  for (let field = 0; field < 3; field++) {
    const mark = body[at++];
    if (mark >= 0xa0 && mark <= 0xbf) at += mark & 31;
    else if (mark >= 0xd9 && mark <= 0xdb) {
      const width = 1 << (mark - 0xd9);
      at += width + body.readUIntBE(at, width);
    } else if (mark >= 0xcc && mark <= 0xd3) at += 1 << (mark & 3);
  }
  return body.subarray(at);
}

/** The notation of the vectors, and a decoded value, in one form that can be compared. A float that is whole is an integer. */
function formOf(json) {
  if (Array.isArray(json)) return json.map(formOf);
  if (json === null || typeof json !== 'object') return typeof json === 'number' ? String(json) : json === null ? null : `${typeof json} ${json}`;
  if ('$int' in json) return String(BigInt(json.$int));
  if ('$f64' in json) return formOfFloat(Buffer.from(json.$f64, 'hex').readDoubleBE(0));
  if ('$bin' in json) return formOfBytes(bytesOf(json.$bin));
  if ('$str' in json) return 'string ' + bytesOf(json.$str).toString();
  return { map: json.$map.map(([key, value]) => [key.$str ? formOf(key) : 'string ' + key, formOf(value)]).sort() };
}
const bytesOf = (bytes) => (typeof bytes === 'string' ? Buffer.from(bytes, 'hex') : Buffer.alloc((bytes[0].length / 2) * bytes[1], bytes[0], 'hex'));
// Some are as long as a frame may be.
const formOfBytes = (bytes) => 'bytes ' + createHash('sha256').update(bytes).digest('hex');
const formOfFloat = (value) => (Number.isSafeInteger(value) && !Object.is(value, -0) ? String(value) : 'float ' + (Object.is(value, -0) ? '-0' : value));
function formOfValue(value) {
  if (Array.isArray(value)) return value.map(formOfValue);
  if (typeof value === 'number') return formOfFloat(value);
  if (typeof value === 'bigint') return String(value);
  if (value === null) return null;
  if (value instanceof Uint8Array) return formOfBytes(value);
  if (typeof value === 'object') return { map: Object.keys(value).map((key) => ['string ' + key, formOfValue(value[key])]).sort() };
  return `${typeof value} ${value}`;
}

/** The value; an echo of what this decoder does not take is no value. */
function decoded(data) {
  try {
    return decode(data);
  } catch {
    return undefined;
  }
}

class Child {
  constructor(command) {
    this.process = spawn(command[0], command.slice(1), {
      stdio: ['pipe', 'pipe', 'ignore'],
      env: { ...process.env, STOKEHOLD_PROTO: '1', STOKEHOLD_CODEC: 'msgpack' },
    });
    this.process.stdin.on('error', () => {});
    this.frames = [];
    this.waiting = null;
    let chunks = [];
    let have = 0;
    let need = 8;
    this.process.stdout.on('data', (chunk) => {
      chunks.push(chunk);
      have += chunk.length;
      if (have < need) return;
      let input = Buffer.concat(chunks);
      while (input.length >= 8 && input.length >= (need = input.readUInt32BE(0) + 4)) {
        const body = input.subarray(8, need);
        const name = body.toString('latin1', 2, 2 + (body[1] & 31));
        this.frames.push({ id: input.readUInt32BE(4), name, data: decoded(dataOf(body)) });
        input = input.subarray(need);
        need = 8;
      }
      chunks = [input];
      have = input.length;
      if (this.waiting) this.waiting();
    });
    this.code = new Promise((resolve) => this.process.on('close', (code, signal) => resolve(code === null ? signal : code)));
    this.process.on('close', () => this.waiting && this.waiting());
  }
  /** The next answer to that id. */
  async answer(id) {
    for (;;) {
      const at = this.frames.findIndex((frame) => frame.id === id && ['FINISHED', 'FAILED'].includes(frame.name));
      if (at >= 0) return this.frames.splice(at, 1)[0];
      if (this.process.exitCode !== null || this.process.signalCode !== null) throw new Error(`it ended with ${await this.code}`);
      await new Promise((resolve) => (this.waiting = resolve));
    }
  }
  async end(bytes) {
    this.process.stdin.end(bytes);
    return this.code;
  }
}

/** What is wrong with the answer of a child to one frame that is whole. */
async function judge(child, vector) {
  const bytes = joined(vector.bytes);
  if (vector.stage === 'head') {
    child.process.stdin.write(Buffer.concat([bytes, request(5, 'DO', encode('next'))]));
    if ((await child.answer(5)).data !== 'next') return 'the next task went wrong';
    if (vector.task === 0) return '';
    const { name, data } = await child.answer(vector.task);
    return name === 'FAILED' && data.code === 'bad_message' ? '' : `${name} ${data.code}`;
  }
  child.process.stdin.write(request(9, 'DO', dataOf(bytes.subarray(8))));
  const { name, data } = await child.answer(9);
  if (vector.verdict === 'reject') {
    if (name === 'FAILED' && data.code === 'bad_data') return '';
    return ['D-4', 'D-5', 'D-6', 'D-7'].includes(vector.spec) ? 'allowed' : `${name} ${data && data.code}`;
  }
  // FINISHED is a longer word than DO, so an answer may be too large where the task was not.
  if (name === 'FAILED' && data.code === 'too_large' && bytes.length > MAX_FRAME - 16) return '';
  const same = name === 'FINISHED' && JSON.stringify(formOfValue(data)) === JSON.stringify(formOf(vector.msg[3]));
  return same ? '' : `${name}, which is another value`;
}

/** What is wrong with the end of a child that gets a stream. */
async function judgeStream(command, vector) {
  // Another limit than the testee's is not what it can show.
  if (vector.max_frame) return '';
  const child = new Child(command);
  const code = await child.end(Buffer.concat([request(3, 'DO', encode('first')), joined(vector.bytes)]));
  const [first, second] = child.frames.filter(({ name }) => ['FINISHED', 'FAILED'].includes(name));
  if (!first || first.data !== 'first') return 'the task before it went wrong';
  const expected = vector.error === 'desync' ? 4 : vector.error === 'truncated' || vector.partial ? 3 : 0;
  if (code !== expected) return `it ended with ${code}`;
  return expected !== 0 ? (second ? 'an answer' : '') : second && second.data.code === 'too_large' ? '' : 'no answer';
}

async function main(command) {
  const file = path.join(__dirname, '../../protocol/vectors/frames.jsonl');
  const [, ...lines] = fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  const vectors = lines.filter(({ carrier }) => carrier === undefined);
  let allowed = 0;
  let wrong = 0;
  const note = (vector, fault) => {
    if (fault === 'allowed') allowed++;
    else if (fault) {
      wrong++;
      console.log(`${vector.id} [${vector.spec}] ${vector.why}: ${fault}`);
    }
  };
  const child = new Child(command);
  for (const vector of vectors.filter(({ stage }) => stage !== 'frame')) note(vector, await judge(child, vector));
  if ((await child.end()) !== 0) note({ id: 'end', spec: 'L-1', why: 'the end of input' }, `it ended with ${await child.code}`);
  const streams = vectors.filter(({ stage }) => stage === 'frame');
  const worker = async () => {
    for (let vector; (vector = streams.pop()); ) note(vector, await judgeStream(command, vector));
  };
  await Promise.all([worker(), worker(), worker()]);
  console.log(`${vectors.length} vectors, ${allowed} accepted that may be, ${wrong} wrong`);
  process.exit(wrong > 0 ? 1 : 0);
}

setTimeout(() => {
  console.log('it did not answer in time');
  process.exit(1);
}, PATIENCE_MS).unref();
main(process.argv.slice(2));
