'use strict';
// Answers the requests by which an SDK is tested.

// First, so that it can guard standard output before anything else takes it.
const { serve, Failure } = require('./stokehold-worker.js');
const { spawn, spawnSync } = require('child_process');
const fs = require('fs');
const { setTimeout: pause } = require('timers/promises');

async function print({ text, how }) {
  if (how === 'raw') fs.writeSync(1, text + '\n');
  else if (how === 'process') spawnSync('cat', { input: text + '\n', stdio: ['pipe', 'inherit', 'inherit'] });
  else console.log(text);
}

async function bytesOfStdin({ how }) {
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
      const { code, message = '', retry, after_ms: afterMs, data } = how || {};
      throw new Failure(message, { code, retry, afterMs, data });
    },
    'test.raise'(text) {
      throw new Error(text);
    },
    'test.bad_result': () => () => {},
    async 'test.sleep'({ ms }, task) {
      const end = performance.now() + ms;
      for (let left = ms; left > 0; left = end - performance.now()) {
        task.throwIfCancelled();
        await pause(Math.min(left, 10));
      }
      return ms;
    },
    'test.spin'({ ms }) {
      const end = performance.now() + ms;
      while (performance.now() < end);
      return ms;
    },
    async *'test.items'({ n, size }) {
      for (let i = 0; i < n; i++) yield size === undefined ? i : Buffer.alloc(size, 'a');
      return n;
    },
    'test.big': ({ bytes }) => Buffer.alloc(bytes, 'a'),
    'test.print': print,
    'test.stdin': bytesOfStdin,
    'test.spawn': ({ ms }) => spawn('sleep', [String(ms / 1000)], { stdio: 'ignore' }).pid,
    'test.exit': ({ code }) => process.exit(code),
    'test.log'({ level, msg }, task) {
      task.log(level, msg);
    },
    'test.progress'({ n }, task) {
      for (let i = 1; i <= n; i++) task.progress({ done: i, total: n });
    },
    'test.meta': (_, task) => ({ attempt: task.attempt, key: task.key, deadline_ms: task.deadlineMs }),
    'test.env': () => Object.keys(process.env).filter((name) => name.startsWith('STOKEHOLD_')),
    'test.pid': () => ({ pid: process.pid }),
  },
  { window: 64 },
);
