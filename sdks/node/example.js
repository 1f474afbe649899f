'use strict';
// A worker: `printf 'a b a\n' | stokehold run --request words -- node example.js`
const { serve, Failure } = require('./stokehold-worker.js');

serve({
  words: (text) => text.split(/\s+/).filter(Boolean).length,
  async fetch(url, task) {
    const response = await fetch(url, { signal: task.signal });
    if (!response.ok) throw new Failure(`it said ${response.status}`, { code: 'acme.refused', retry: response.status >= 500 });
    return response.text();
  },
});
