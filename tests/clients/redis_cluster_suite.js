// What applications do with ioredis's cluster client: `redis_cluster_suite.js PORT PREFIX`.
//
// Each function is one check with assertions; prints the name of each that passed. All keys begin
// with the prefix, so that several copies can run at once.

'use strict';

const assert = require('assert');
const path = require('path');
const cache = path.join(__dirname, '..', '.cache', 'node', 'node_modules');
const Redis = require(path.join(cache, 'ioredis'));

const [port, prefix] = [Number(process.argv[2]), process.argv[3]];
const connect = () => new Redis.Cluster([{ host: '127.0.0.1', port }]);
const key = (name) => `${prefix}:${name}`;

const checks = {
  async nodes(client) {
    await client.ping();
    const nodes = client.nodes('all').map((node) => node.options.port);
    assert.deepStrictEqual(nodes, [port]);
  },

  async values(client) {
    const all = Array.from({ length: 200 }, (_, n) => n);
    await Promise.all(all.map((n) => client.set(key(n), n)));
    const values = await Promise.all(all.map((n) => client.get(key(n))));
    assert.deepStrictEqual(values, all.map(String));
    assert.strictEqual(await client.incr(key(7)), 8);
  },

  async transactions(client) {
    const results = await client.multi().set(key('{t}a'), 1).incr(key('{t}a')).exec();
    assert.deepStrictEqual(results, [[null, 'OK'], [null, 2]]);
  },

  async scripts(client) {
    client.defineCommand('add', { numberOfKeys: 1, lua: "return redis.call('incrby', KEYS[1], ARGV[1])" });
    for (let n = 1; n < 10; n += 1) {
      await client.del(key(`s${n}`));
      assert.strictEqual(await client.add(key(`s${n}`), n), n);
    }
  },

  async blocking(client) {
    const other = connect();
    await client.del(key('queue'));
    setTimeout(() => other.rpush(key('queue'), 'job'), 200);
    assert.deepStrictEqual(await client.blpop(key('queue'), 20), [key('queue'), 'job']);
    other.disconnect();
  },

  async messages(client) {
    const listener = connect();
    const heard = new Promise((resolve) => { listener.on('message', (_, text) => resolve(text)); });
    await listener.subscribe(key('news'));
    await client.publish(key('news'), 'hello');
    assert.strictEqual(await heard, 'hello');
    listener.disconnect();
  },

  async plain() {
    const client = new Redis({ port });
    const names = Array.from({ length: 50 }, (_, n) => key(`plain${n}`));
    await client.mset(new Map(names.map((name, n) => [name, n])));
    assert.deepStrictEqual(await client.mget(names), names.map((_, n) => String(n)));
    const results = await client.pipeline(names.map((name) => ['incr', name])).exec();
    assert.deepStrictEqual(results, names.map((_, n) => [null, n + 1]));
    assert.strictEqual(await client.del(names), 50);
    client.disconnect();
  },
};

(async () => {
  const client = connect();
  for (const [name, check] of Object.entries(checks)) {
    await check(client);
    console.log(name);
  }
  client.disconnect();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
