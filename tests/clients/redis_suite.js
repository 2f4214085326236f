// What applications do with ioredis: `redis_suite.js PORT PREFIX`.
//
// Each function is one check with assertions; prints the name of each that passed. All keys begin
// with the prefix, so that several copies can run at once.

'use strict';

const assert = require('assert');
const path = require('path');
const cache = path.join(__dirname, '..', '.cache', 'node', 'node_modules');
const Redis = require(path.join(cache, 'ioredis'));

const [port, prefix] = [Number(process.argv[2]), process.argv[3]];
const connect = (options) => new Redis({ port, keyPrefix: `${prefix}:`, ...options });

const checks = {
  async values(client) {
    assert.strictEqual(await client.set('a', 'zwei ü'), 'OK');
    assert.strictEqual(await client.get('a'), 'zwei ü');
    assert.strictEqual(await client.get('none'), null);
    await client.hset('h', { f: 1, g: 'x' });
    assert.deepStrictEqual(await client.hgetall('h'), { f: '1', g: 'x' });
    const big = Buffer.alloc(3000000, 7);
    await client.set('big', big);
    assert.ok(big.equals(await client.getBuffer('big')));
  },

  async manyAtOnce(client) {
    await client.del('n');
    const counts = Array.from({ length: 1000 }, () => client.incr('n'));
    assert.deepStrictEqual(await Promise.all(counts), counts.map((_, at) => at + 1));
  },

  async pipelines(client) {
    await client.set('t', 'text');
    const results = await client.pipeline().set('p', 1).incr('p').lpush('t', 1).get('p').exec();
    assert.deepStrictEqual(results.map(([error]) => Boolean(error)), [false, false, true, false]);
    assert.strictEqual(results[3][1], '2');
  },

  async transactions(client) {
    const results = await client.multi().set('m', 1).incr('m').exec();
    assert.deepStrictEqual(results, [[null, 'OK'], [null, 2]]);
    await client.multi({ pipeline: false });
    assert.strictEqual(await client.incr('m'), 'QUEUED');
    assert.deepStrictEqual(await client.exec(), [[null, 3]]);
    await client.watch('m');
    const other = connect();
    await other.incr('m');
    assert.strictEqual(await client.multi().incr('m').exec(), null);
    assert.strictEqual(await client.get('m'), '4');
    other.disconnect();
  },

  async scripts(client) {
    client.defineCommand('add', { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
    await client.del('n');
    assert.strictEqual(await client.add('n', 5), 5);
    assert.strictEqual(await client.add('n', 5), 10);
  },

  async blocking(client) {
    assert.strictEqual(await client.blpop('none', 0.05), null);
    const workers = Array.from({ length: 4 }, () => connect());
    const taken = [];
    const work = async (worker) => {
      for (;;) {
        const [, element] = await worker.blpop('queue', 10);
        if (element === 'stop') return;
        taken.push(Number(element));
      }
    };
    const working = workers.map(work);
    for (let number = 0; number < 100; number++) await client.rpush('queue', number);
    await client.rpush('queue', 'stop', 'stop', 'stop', 'stop');
    await Promise.all(working);
    assert.deepStrictEqual(taken.sort((one, other) => one - other), [...Array(100).keys()]);
    workers.forEach((worker) => worker.disconnect());
  },

  async iterations(client) {
    const sets = client.pipeline();
    for (let number = 0; number < 500; number++) sets.set(`scan:${number}`, number);
    await sets.exec();
    const found = new Set();
    for await (const keys of client.scanStream({ match: `${prefix}:scan:*`, count: 50 })) {
      keys.forEach((key) => found.add(key));
    }
    assert.strictEqual(found.size, 500);
  },

  async databases() {
    const clients = [0, 1, 2, 3].map((db) => connect({ db }));
    await Promise.all(clients.map((client, db) => client.set('db', db)));
    assert.deepStrictEqual(await Promise.all(clients.map((it) => it.get('db'))), ['0', '1', '2', '3']);
    await Promise.all(clients.map((it) => it.quit()));
  },
};

(async () => {
  const client = connect();
  for (const [name, check] of Object.entries(checks)) {
    await check(client);
    console.log(name);
  }
  assert.strictEqual(await client.quit(), 'OK');
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
