// What the threads of pool.js do.
'use strict';

module.exports = {
  echo: (payload) => payload,
  addOne: (number) => number + 1,
  addOneToEach: (numbers) => numbers.map((number) => number + 1),
};
