'use strict';
// What becomes of values that JavaScript and MessagePack see differently: `node sdks/node/values.test.js`.

const { serve, decode, encode, BadData, Failure, Float } = require('./stokehold-worker.js');
const assert = require('assert');
const { spawnSync } = require('child_process');

/** An object whose property throws. */
const throwing = (name) => Object.defineProperty({}, name, { enumerable: true, get: () => { throw new Error(`no ${name}`); } });

/** A value that can be looked at no more. */
function revoked(target) {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

/** Throws whatever is done with it. */
const hostile = new Proxy({}, new Proxy({}, { get: () => () => { throw new Error('a trap'); } }));

/** A list whose first value takes the others away. */
function shrinking() {
  const list = [1, 2, 3];
  Object.defineProperty(list, 0, { get: () => ((list.length = 1), 7), configurable: false });
  return list;
}

/** 2^40 values in little memory. */
function shared() {
  let list = [1];
  for (let level = 0; level < 40; level++) list = [list, list];
  return list;
}

/** Gives these values and throws these errors, and tells while it is written. */
const oddities = {
  then: () => throwing('then'),
  revoked: () => revoked({}),
  hostile: () => hostile,
  property: () => throwing('x'),
  iterator: () => throwing(Symbol.asyncIterator),
  later: async () => [hostile],
  shared,
  long: () => new Array(2 ** 32 - 1),
  throws_revoked: () => { throw revoked(new Error('x')); },
  throws_hostile: () => { throw hostile; },
  throws_data: () => { throw new Failure('m', { code: 'a.b', data: shared() }); },
  *item() { yield shared(); },
  tells: (_, task) => ({ get x() { task.log('info', 'now'); task.progress(1); return 1; } }),
  items: (_, task) => ({ get x() { task.item(1); return 1; } }),
};
const codes = {
  then: 'error', revoked: 'error', hostile: 'error', property: 'bad_data', iterator: 'error', later: 'bad_data',
  shared: 'too_large', long: 'too_large', throws_revoked: 'error', throws_hostile: 'error', throws_data: 'a.b',
  item: 'too_large', tells: 'FINISHED', items: 'bad_data',
};

if (process.argv[2] === 'worker') {
  serve({ ...oddities, exits: () => ({ get x() { process.exit(9); } }), echo: (value) => value });
  return;
}

const hex = (value) => encode(value).toString('hex');
const back = (value) => decode(encode(value));
const refused = (value) => assert.throws(() => encode(value), BadData);

// Integers are exact, in the shortest form, and are never rounded.
for (const [value, bytes] of [
  [0, '00'], [127, '7f'], [128, 'cc80'], [256, 'cd0100'], [65536, 'ce00010000'], [2 ** 32, 'cf0000000100000000'],
  [-1, 'ff'], [-32, 'e0'], [-33, 'd0df'], [-129, 'd1ff7f'], [-32769, 'd2ffff7fff'], [-(2 ** 31) - 1, 'd3ffffffff7fffffff'],
  [5n, '05'], [2n ** 64n - 1n, 'cfffffffffffffffff'], [-(2n ** 63n), 'd38000000000000000'],
]) {
  assert.strictEqual(hex(value), bytes);
  assert.strictEqual(BigInt(back(value)), BigInt(value));
}
assert.strictEqual(back(2n ** 53n), 2n ** 53n);
assert.strictEqual(back(2 ** 53 - 1), 2 ** 53 - 1);
refused(2n ** 64n);
refused(-(2n ** 63n) - 1n);

// Floats.
assert.strictEqual(hex(1), '01');
assert.strictEqual(hex(new Float(1)), 'cb3ff0000000000000');
assert.ok(Object.is(back(-0), -0));
for (const value of [1.5, NaN, Infinity, -Infinity, 2 ** 53, 1e300]) assert.ok(Object.is(back(value), value));

// Maps are plain objects, whatever their keys are.
const odd = new Map([['__proto__', { polluted: 1 }], ['constructor', 2], ['1', 3]]);
const object = back(odd);
assert.deepStrictEqual(Object.keys(object).sort(), ['1', '__proto__', 'constructor']);
assert.strictEqual(Object.getPrototypeOf(object), Object.prototype);
assert.strictEqual(object.polluted, undefined);
assert.strictEqual(hex(object), hex(new Map(Object.entries(object))));
assert.deepStrictEqual(back({ a: undefined, b: null }), { b: null });
assert.strictEqual(hex(Object.create(null)), '80');
refused(new Map([[1, 2]]));

// Texts and bytes.
for (const text of ['', 'ä', '\ufeffbom', '😀'.repeat(20), 'x'.repeat(70000)]) assert.strictEqual(back(text), text);
refused('\ud800');
refused({ '\udc00': 1 });
assert.ok(back(Buffer.from([1, 2])).equals(Buffer.from([1, 2])));
assert.ok(back(new Uint8Array(5000).buffer).equals(Buffer.alloc(5000)));

// What is no value.
const circle = [];
circle.push(circle);
for (const value of [() => 1, Symbol('x'), new Date(), new (class Job {})(), [Symbol('x')], circle]) refused(value);
let nested = 1;
for (let level = 0; level < 64; level++) nested = [nested];
assert.deepStrictEqual(back(nested), nested);
refused([nested]);

// What changes while it is written, or lies about its length: what is announced is what is written.
assert.deepStrictEqual(back(shrinking()), [7, null, null]);
const map = new Map();
map.set('a', { get x() { map.set('b', 2); return 1; } });
assert.deepStrictEqual(back(map), { a: { x: 1 } });
let reads = 0;
assert.deepStrictEqual(back({ get x() { return reads++ === 0 ? 1 : undefined; } }), { x: 1 });
for (const length of [-1, 1.5, 'x', NaN]) refused(new Proxy([1], { get: (list, key) => (key === 'length' ? length : list[key]) }));
class Liar extends Uint8Array {
  get length() {
    return 5;
  }
}
assert.ok(back(new Liar(2)).equals(Buffer.alloc(2)));
assert.throws(() => encode(Object.create(Uint8Array.prototype)));

// What is larger than any frame is given up early.
for (const value of [new Array(2 ** 32 - 1), new Uint8Array(2 ** 28), 'x'.repeat(2 ** 28), { a: [new Array(2 ** 31)] }]) {
  assert.throws(() => encode(value), (error) => error instanceof Failure && error.code === 'too_large');
}

// An empty key comes back.
assert.deepStrictEqual(back({ '': 1 }), { '': 1 });

// In a worker they fail their own task and nothing else.
const request = (id, name, value) => {
  const body = Buffer.concat([Buffer.from([0x94]), encode(name), encode(1), encode(null), encode(value)]);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(body.length + 4, 0);
  head.writeUInt32BE(id, 4);
  return Buffer.concat([head, body]);
};
/** Sends one task for each name; gives the exit code, and the answers by name: FINISHED or the code, and the data. */
function answersOf(inputs) {
  const names = Object.keys(inputs);
  const ended = spawnSync(process.execPath, [__filename, 'worker'], {
    input: Buffer.concat(names.map((name, index) => request(index + 1, name, inputs[name]))),
    env: { ...process.env, STOKEHOLD_PROTO: '1' },
    timeout: 60000,
    maxBuffer: 2 ** 28,
  });
  const answers = {};
  for (let at = 0; at < ended.stdout.length; ) {
    const end = at + 4 + ended.stdout.readUInt32BE(at);
    assert.ok(end <= ended.stdout.length, 'a frame is cut');
    const [answer, , , data] = decode(ended.stdout, at + 8, end);
    const code = answer === 'FAILED' ? data.code : answer;
    if (['FINISHED', 'FAILED'].includes(answer)) answers[names[ended.stdout.readUInt32BE(at + 4) - 1]] = [code, data];
    at = end;
  }
  return { code: ended.status, answers };
}

const { code, answers } = answersOf({ ...Object.fromEntries(Object.keys(oddities).map((name) => [name, null])), echo: { '': -0 } });
assert.deepStrictEqual(Object.fromEntries(Object.keys(oddities).map((name) => [name, answers[name] && answers[name][0]])), codes);
assert.ok(Object.is(answers.echo[1][''], -0));
assert.strictEqual(code, 0);

// One that ends the process while it is written leaves whole frames behind.
const last = answersOf({ echo: 1, exits: null });
assert.deepStrictEqual([last.code, last.answers], [9, { echo: ['FINISHED', 1] }]);
