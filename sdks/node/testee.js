'use strict';
// Answers the requests by which an SDK is tested.

// First, so that it can guard standard output before anything else takes it.
const { serve, Failure } = require('./stokehold-worker.js');
const { spawn, spawnSync } = require('child_process');
const fs = require('fs');
const { setTimeout: pause } = require('timers/promises');

/** The map that is the input, if it has numbers under these names. */
function wanted(input, ...names) {
  if (input === null || typeof input !== 'object' || Array.isArray(input)) throw new Failure('a map is wanted', { code: 'bad_data' });
  for (const name of names) {
    if (typeof input[name] !== 'number') throw new Failure(`${name} is no number`, { code: 'bad_data' });
  }
  return input;
}

async function print(input) {
  const { text, how } = wanted(input);
  if (how === 'raw') fs.writeSync(1, text + '\n');
  else if (how === 'process') spawnSync('cat', { input: text + '\n', stdio: ['pipe', 'inherit', 'inherit'] });
  else console.log(text);
}

async function bytesOfStdin(input) {
  const { how } = wanted(input);
  if (how === 'process') return Number(spawnSync('sh', ['-c', 'wc -c >&3'], { stdio: [0, 1, 2, 'pipe'] }).output[3]);
  let bytes = 0;
  for await (const chunk of process.stdin) bytes += chunk.length;
  return bytes;
}

serve(
  {
    DO: (value) => value,
    'test.echo': (value) => value,
    'test.fail'(how) {
      const { code, message = '', retry, after_ms: afterMs, data } = wanted(how || {});
      throw new Failure(message, { code, retry, afterMs, data });
    },
    'test.raise'(text) {
      throw new Error(text);
    },
    'test.bad_result': () => () => {},
    async 'test.sleep'(input, task) {
      const { ms } = wanted(input, 'ms');
      const end = performance.now() + ms;
      for (let left = ms; left > 0; left = end - performance.now()) {
        task.throwIfCancelled();
        await pause(Math.min(left, 10));
      }
      return ms;
    },
    'test.spin'(input) {
      const { ms } = wanted(input, 'ms');
      const end = performance.now() + ms;
      while (performance.now() < end);
      return ms;
    },
    async *'test.items'(input) {
      const { n, size } = wanted(input, 'n');
      for (let i = 0; i < n; i++) yield size === undefined ? i : Buffer.alloc(size, 'a');
      return n;
    },
    'test.big': (input) => Buffer.alloc(wanted(input, 'bytes').bytes, 'a'),
    'test.print': print,
    'test.stdin': bytesOfStdin,
    'test.spawn': (input) => spawn('sleep', [String(wanted(input, 'ms').ms / 1000)], { stdio: 'ignore' }).pid,
    'test.exit': (input) => process.exit(wanted(input, 'code').code),
    'test.log'(input, task) {
      const { level, msg } = wanted(input);
      task.log(level, msg);
    },
    'test.progress'(input, task) {
      const { n } = wanted(input, 'n');
      for (let i = 1; i <= n; i++) task.progress({ done: i, total: n });
    },
    'test.meta': (_, task) => ({ attempt: task.attempt, key: task.key, deadline_ms: task.deadlineMs }),
    'test.env': () => Object.keys(process.env).filter((name) => name.startsWith('STOKEHOLD_')),
    'test.pid': () => ({ pid: process.pid }),
  },
  { window: 64, lookout: true },
);
