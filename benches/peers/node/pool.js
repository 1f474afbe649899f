// piscina: a pool of threads, not of processes, in Node. `pool.js w1|w2|w6 [n=… size=… chunk=… rounds=…]`
'use strict';

const path = require('path');
const readline = require('readline');
const { Piscina } = require('piscina');

const WARM_UP = 200;
// Tasks on their way. More of them were not faster.
const WINDOW = 400;

const [workload, ...words] = process.argv.slice(2);
const settings = Object.fromEntries(words.map((word) => word.split('=')));
const setting = (key, otherwise) => (key in settings ? number(settings[key]) : otherwise);
const number = (text) => (text.endsWith('k') ? parseInt(text) * 1024 : parseInt(text));

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const seconds = () => Number(process.hrtime.bigint()) / 1e9;

async function start() {
  console.log('ready');
  await lines.next();
}

async function handIn(n, time, figures) {
  console.log(JSON.stringify({ n, seconds: time, ...figures }));
  await lines.next();
}

function check(right, what) {
  if (!right) {
    console.error(`wrong: ${what}`);
    process.exit(1);
  }
}

function startPool(workers) {
  return new Piscina({ filename: path.join(__dirname, 'tasks.js'), minThreads: workers, maxThreads: workers });
}

function numbered(n, size) {
  return Array.from({ length: n }, (_, i) => {
    const payload = Buffer.alloc(size, 'x');
    payload.writeUInt32LE(i);
    return payload;
  });
}

// Results in the order of the items, with so many of them on their way at once.
async function doAll(pool, name, items) {
  const results = new Array(items.length);
  let next = 0;
  const feed = async () => {
    while (next < items.length) {
      const i = next++;
      results[i] = await pool.run(items[i], { name });
    }
  };
  await Promise.all(Array.from({ length: WINDOW }, feed));
  return results;
}

async function w1(n) {
  const pool = startPool(1);
  const payloads = numbered(n, 64);
  await doAll(pool, 'echo', payloads.slice(0, WARM_UP));
  const times = [];
  await start();
  const begin = seconds();
  for (const payload of payloads) {
    const sent = seconds();
    const answer = await pool.run(payload, { name: 'echo' });
    times.push(seconds() - sent);
    check(payload.equals(answer), 'an answer');
  }
  const time = seconds() - begin;
  times.sort((a, b) => a - b);
  const at = (percent) => times[Math.floor((n * percent) / 100)] * 1e6;
  await handIn(n, time, { p50_us: at(50), p99_us: at(99) });
  await pool.close();
}

async function w2(n, size) {
  const pool = startPool(2);
  const payloads = numbered(n, size);
  await doAll(pool, 'echo', payloads.slice(0, WARM_UP));
  await start();
  const begin = seconds();
  const answers = await doAll(pool, 'echo', payloads);
  const time = seconds() - begin;
  check(payloads.every((payload, i) => payload.equals(answers[i])), 'the answers');
  await handIn(n, time, { bytes: 2 * n * size });
  await pool.close();
}

async function w6(n, rounds, chunk) {
  const pool = startPool(2);
  const numbers = Array.from({ length: n }, (_, i) => i);
  const map = async (items) => {
    if (chunk === 1) {
      return doAll(pool, 'addOne', items);
    }
    const parts = [];
    for (let i = 0; i < items.length; i += chunk) {
      parts.push(items.slice(i, i + chunk));
    }
    return (await doAll(pool, 'addOneToEach', parts)).flat();
  };
  await map(numbers.slice(0, WARM_UP));
  let time = 0;
  await start();
  for (let round = 0; round < rounds; round++) {
    const begin = seconds();
    const results = await map(numbers);
    time += seconds() - begin;
    check(results.length === n && results.every((result, i) => result === i + 1), 'the results');
  }
  await handIn(n * rounds, time, {});
  await pool.close();
}

async function main() {
  switch (workload) {
    case 'w1':
      await w1(setting('n', 5000));
      break;
    case 'w2':
      await w2(setting('n', 50000), setting('size', 64));
      break;
    case 'w6':
      await w6(setting('n', 100000), setting('rounds', 1), setting('chunk', 1));
      break;
    default:
      check(false, `piscina does not do ${workload}`);
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
