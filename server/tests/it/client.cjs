// Calls of the client library `prometheus-query` (npm) against a running server:
// node client.cjs ENDPOINT BASE_URL NOW_MS
const assert = require('node:assert');
const { inspect } = require('node:util');
const { PrometheusDriver } = require('prometheus-query');

const [endpoint, baseURL, now] = process.argv.slice(2);
const end = new Date(Number(now));
const start = new Date(Number(now) - 120_000);
let calls = 0;
const done = (value) => (calls++, value);

async function run(client) {
  const instant = done(await client.instantQuery('up', end));
  assert.strictEqual(instant.resultType, 'vector');
  assert.strictEqual(instant.result[0].metric.name, 'up');
  assert.strictEqual(instant.result[0].metric.labels.job, 'node');
  assert.strictEqual(instant.result[0].value.value, 1);
  const range = done(await client.rangeQuery('sum by (job) (up)', start, end, 15));
  assert.strictEqual(range.resultType, 'matrix');
  assert.ok(range.result[0].values.length >= 8);
  assert.deepStrictEqual(done(await client.series('up', start, end)).map((s) => s.name), ['up']);
  assert.ok(done(await client.labelNames()).includes('http.status'));
  assert.deepStrictEqual(done(await client.labelValues('job')), ['node']);
  assert.deepStrictEqual(done(await client.targets()).activeTargets, []);
  assert.deepStrictEqual(done(await client.rules()), []);
  assert.deepStrictEqual(done(await client.alerts()), []);
  assert.deepStrictEqual(done(await client.alertmanagers()).activeAlertmanagers, []);
}

async function main() {
  const client = new PrometheusDriver({ endpoint, baseURL });
  await run(client);
  assert.strictEqual(done(await client.metadata('up')).up[0].type, 'gauge');
  assert.ok(done(await client.statusFlags())['query.lookback-delta']);
  assert.ok(done(await client.statusRuntimeInfo()).startTime);
  assert.ok(done(await client.statusBuildinfo()).version);
  assert.strictEqual(done(await client.statusTSDB()).headStats.numSeries, 1);
  await assert.rejects(client.instantQuery('up('), (error) => /parse error/.test(inspect(error, { depth: 9 })));
  done();
  const posting = new PrometheusDriver({ endpoint, baseURL, preferPost: true });
  done(await posting.instantQuery('1+1', 4000));
  done(await posting.rangeQuery('up', start, end, 15));
  assert.strictEqual(done(await posting.series(['up', '{job="node"}'], start, end)).length, 1);
}

main().then(
  () => console.log(`${calls} calls`),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
