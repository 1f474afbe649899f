'use strict';
// What becomes of values that JavaScript and MessagePack see differently: `node sdks/node/values.test.js`.

const assert = require('assert');
const { decode, encode, BadData, Float } = require('./stokehold-worker.js');

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
