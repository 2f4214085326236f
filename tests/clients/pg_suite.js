// What applications do with node-postgres: `node pg_suite.js CONNECTION_URI`.
//
// Each entry of `checks` is one check with assertions; prints the name of each that passed.

const assert = require("node:assert/strict");
const path = require("node:path");
const { createRequire } = require("node:module");

// The driver is installed in the cache, not beside this file.
const cached = createRequire(path.join(__dirname, "../.cache/node/package.json"));
const { Client, Pool } = cached("pg");
const Cursor = cached("pg-cursor");

const connectionString = process.argv[2];

async function withClient(action, options = {}) {
  const client = new Client({ connectionString, ...options });
  await client.connect();
  try {
    return await action(client);
  } finally {
    await client.end();
  }
}

async function rejects(promise, code) {
  await assert.rejects(promise, (error) => error.code === code);
}

const checks = {
  async values() {
    await withClient(async (client) => {
      const { rows } = await client.query("select $1::int a, $2::text b, $3::jsonb c, $4::bytea d", [
        1, "zwei ü", { three: [3] }, Buffer.from([0, 255]),
      ]);
      assert.deepEqual(rows[0], { a: 1, b: "zwei ü", c: { three: [3] }, d: Buffer.from([0, 255]) });
      const results = await client.query("select 1 as x; select 2 as y");
      assert.deepEqual(results.map((result) => result.rows), [[{ x: 1 }], [{ y: 2 }]]);
    });
  },

  async prepared() {
    await withClient(async (client) => {
      for (let i = 0; i < 20; i += 1) {
        const named = { name: "sum", text: "select $1::int + 1 as v", values: [i] };
        assert.equal((await client.query(named)).rows[0].v, i + 1);
      }
      await rejects(client.query({ name: "bad", text: "selec" }), "42601");
      assert.equal((await client.query("select 1 as v")).rows[0].v, 1);
    });
  },

  async transactions() {
    await withClient(async (client) => {
      await client.query("create temp table t (v int)");
      await client.query("begin");
      await client.query("insert into t values ($1)", [1]);
      await rejects(client.query("select 1/0"), "22012");
      await rejects(client.query("select 1"), "25P02");
      await client.query("rollback");
      await client.query("begin");
      await client.query("insert into t values ($1)", [2]);
      await client.query("commit");
      assert.deepEqual((await client.query("select v from t")).rows, [{ v: 2 }]);
    });
  },

  async queued() {
    await withClient(async (client) => {
      const all = Array.from({ length: 100 }, (_, i) => client.query("select $1::int as v", [i]));
      const values = (await Promise.all(all)).map((result) => result.rows[0].v);
      assert.deepEqual(values, Array.from({ length: 100 }, (_, i) => i));
    });
  },

  // The cursor sends Flush and no Sync between its reads.
  async cursors() {
    await withClient(async (client) => {
      const cursor = client.query(new Cursor("select i from generate_series(1, 25) i where i > $1", [5]));
      assert.equal((await cursor.read(10)).length, 10);
      assert.equal((await cursor.read(100)).length, 10);
      assert.equal((await cursor.read(1)).length, 0);
      await cursor.close();
      const early = client.query(new Cursor("select i from generate_series(1, 100000) i"));
      assert.equal((await early.read(3))[2].i, 3);
      await early.close();
      assert.equal((await client.query("select 1 as v")).rows[0].v, 1);
    });
  },

  async errors() {
    await withClient(async (client) => {
      await client.query("create temp table u (id int constraint only_one unique)");
      await client.query("insert into u values (1)");
      const failed = client.query("insert into u values ($1)", [1]);
      await assert.rejects(failed, (error) => error.code === "23505" && error.constraint === "only_one");
      const heard = [];
      client.on("notice", (notice) => heard.push(notice.message));
      await client.query("do $$ begin raise notice 'hear me'; end $$");
      assert.deepEqual(heard, ["hear me"]);
    });
  },

  async cancel() {
    await withClient(async (client) => {
      const { pid } = (await client.query("select pg_backend_pid() as pid")).rows[0];
      const sleeping = client.query("select pg_sleep(20)");
      sleeping.catch(() => {});
      await withClient(async (other) => {
        for (let i = 0; i < 100; i += 1) {
          const { rows } = await other.query("select pg_cancel_backend($1) as hit from pg_stat_activity " +
            "where pid = $1 and state = 'active'", [pid]);
          if (rows.length > 0) break;
        }
      });
      await rejects(sleeping, "57014");
      assert.equal((await client.query("select 1 as v")).rows[0].v, 1);
    });
  },

  async settings() {
    const options = { options: "-c datestyle=german", application_name: "suite" };
    await withClient(async (client) => {
      assert.equal((await client.query("show datestyle")).rows[0].DateStyle, "German, DMY");
      assert.equal((await client.query("show application_name")).rows[0].application_name, "suite");
    }, options);
    await withClient(async (client) => {
      await client.query("set statement_timeout = 150");
      await rejects(client.query("select pg_sleep(20)"), "57014");
    });
  },

  async notifications() {
    await withClient((listener) => withClient(async (sender) => {
      const heard = new Promise((resolve) => { listener.once("notification", resolve); });
      await listener.query("listen suite");
      await sender.query("notify suite, 'hello'");
      const { channel, payload } = await heard;
      assert.deepEqual([channel, payload], ["suite", "hello"]);
    }));
  },

  async pool() {
    const pool = new Pool({ connectionString, max: 20 });
    await Promise.all(Array.from({ length: 200 }, async (_, number) => {
      const client = await pool.connect();
      try {
        await client.query(`set app.owner = 'owner${number}'`);
        const { rows } = await client.query("select current_setting('app.owner') as v, $1::int as n", [number]);
        assert.deepEqual(rows[0], { v: `owner${number}`, n: number });
        await client.query("discard all");
      } finally {
        client.release();
      }
    }));
    const { rows } = await pool.query("select current_setting('app.owner', true) as v");
    assert.ok(!rows[0].v);
    await pool.end();
  },
};

async function main() {
  for (const [name, check] of Object.entries(checks)) {
    await check();
    console.log(name);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
