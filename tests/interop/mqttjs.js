// Checks of mqttjs_test.py and layers_test.py: node mqttjs.js PACKAGE PORT|URL [TEXT…]
// runs the tests whose name has one of the texts.

'use strict';

const assert = require('assert');
const mqtt = require(process.argv[2]);
const url = process.argv[3].includes(':') ? process.argv[3] : 'mqtt://127.0.0.1:' + process.argv[3];
const chosen = process.argv.slice(4);
const WAIT_MS = 15000;

const tests = [];
const test = (name, body, versions = [4, 5]) => {
  for (const version of versions) {
    tests.push([`${name} v${version}`, body, version]);
  }
};

let count = 0;

function within(promise, what) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no ' + what + ' in time')), WAIT_MS);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

// One test's topics, ids and clients.
class Context {
  constructor(version) {
    this.version = version;
    this.number = ++count;
    this.clients = [];
  }
  topic(name = 'a') {
    return `j${this.number}/${name}`;
  }
  // A connected client; what it receives waits in `inbox`.
  async connect(options = {}) {
    const { properties, ...rest } = options;
    const client = mqtt.connect(url, {
      protocolVersion: this.version, reconnectPeriod: 0, connectTimeout: WAIT_MS,
      ...(this.version === 5 && properties ? { properties } : {}), ...rest,
    });
    this.clients.push(client);
    client.inbox = [];
    client.wake = () => {};
    client.failure = new Promise((resolve) => client.on('error', resolve));
    client.on('message', (topic, payload, packet) => {
      client.inbox.push(packet);
      client.wake();
    });
    const connack = await within(Promise.race([
      new Promise((resolve) => client.on('connect', resolve)),
      client.failure.then((error) => { throw error; })]), 'CONNACK');
    client.connack = connack;
    return client;
  }
  keep(id, seconds = 300) {
    return {
      clientId: `j${this.number}${id}`, clean: false,
      properties: { sessionExpiryInterval: seconds },
    };
  }
  async messages(client, wanted) {
    await within((async () => {
      while (client.inbox.length < wanted) {
        await new Promise((resolve) => { client.wake = resolve; });
      }
    })(), `message ${client.inbox.length + 1} of ${wanted}`);
    return client.inbox.splice(0, wanted);
  }
  close() {
    this.clients.forEach((client) => client.end(true));
  }
}

const cut = (client) => new Promise((resolve) => {
  client.stream.on('close', resolve);
  client.stream.destroy();
});

for (const qos of [0, 1, 2]) {
  test(`QoS ${qos} both ways`, async (t) => {
    const reader = await t.connect();
    const granted = await reader.subscribeAsync(t.topic(), { qos });
    assert.strictEqual(granted[0].qos, qos);
    const sender = await t.connect();
    for (const sent of [0, 1, 2]) {
      await within(sender.publishAsync(t.topic(), 'm' + sent, { qos: sent }), 'acknowledgement');
    }
    const got = await t.messages(reader, 3);
    // The handshake of QoS 2 is longer, so only order per QoS is promised.
    assert.deepStrictEqual(got.map((p) => `${p.payload} ${p.qos}`).sort(),
      [0, 1, 2].map((sent) => `m${sent} ${Math.min(sent, qos)}`));
  });
}

test('retained: kept, flagged, cleared', async (t) => {
  const sender = await t.connect();
  await sender.publishAsync(t.topic(), 'old', { qos: 1, retain: true });
  const live = await t.connect();
  await live.subscribeAsync(t.topic(), { qos: 1 });
  let [packet] = await t.messages(live, 1);
  assert.strictEqual(String(packet.payload), 'old');
  assert.strictEqual(packet.retain, true);
  await sender.publishAsync(t.topic(), '', { qos: 1, retain: true });
  [packet] = await t.messages(live, 1);
  assert.strictEqual(packet.retain, false);
  assert.strictEqual(packet.payload.length, 0);
  const late = await t.connect();
  await late.subscribeAsync(t.topic(), { qos: 1 });
  await sender.publishAsync(t.topic(), 'new', { qos: 1 });
  [packet] = await t.messages(late, 1);
  assert.strictEqual(String(packet.payload), 'new');
});

test('will: on a cut, not on an end', async (t) => {
  const watch = await t.connect();
  await watch.subscribeAsync(t.topic('will'), { qos: 1 });
  const will = (payload) => ({
    will: { topic: t.topic('will'), payload: Buffer.from(payload), qos: 1, retain: false },
  });
  await (await t.connect(will('ended'))).endAsync();
  await cut(await t.connect(will('cut')));
  const [packet] = await t.messages(watch, 1);
  assert.strictEqual(String(packet.payload), 'cut');
});

for (const qos of [1, 2]) {
  test(`a session resumes with queued QoS ${qos} messages in order`, async (t) => {
    let reader = await t.connect(t.keep('s'));
    assert.strictEqual(reader.connack.sessionPresent, false);
    await reader.subscribeAsync(t.topic(), { qos });
    await cut(reader);
    const sender = await t.connect();
    for (let n = 0; n < 50; n++) {
      await within(sender.publishAsync(t.topic(), String(n), { qos }), 'acknowledgement');
    }
    reader = await t.connect(t.keep('s'));
    assert.strictEqual(reader.connack.sessionPresent, true);
    const got = await t.messages(reader, 50);
    assert.deepStrictEqual(got.map((p) => Number(p.payload)), [...Array(50).keys()]);
    await reader.endAsync();
    reader = await t.connect(t.keep('s'));
    await sender.publishAsync(t.topic(), 'last', { qos });
    assert.strictEqual(String((await t.messages(reader, 1))[0].payload), 'last');
  });
}

test('shared subscription', async (t) => {
  const group = [await t.connect(), await t.connect(), await t.connect()];
  for (const member of group) {
    await member.subscribeAsync('$share/g/' + t.topic(), { qos: 1 });
  }
  const sender = await t.connect();
  for (let n = 0; n < 30; n++) {
    await sender.publishAsync(t.topic(), String(n), { qos: 1 });
  }
  await within((async () => {
    while (group.reduce((sum, member) => sum + member.inbox.length, 0) < 30) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })(), 'all messages');
  const all = group.flatMap((member) => member.inbox.map((p) => Number(p.payload)));
  all.sort((a, b) => a - b);
  assert.deepStrictEqual(all, [...Array(30).keys()]);
  assert(Math.min(...group.map((member) => member.inbox.length)) >= 8);
});

test('1 MB at every QoS', async (t) => {
  const reader = await t.connect();
  await reader.subscribeAsync(t.topic(), { qos: 2 });
  const sender = await t.connect();
  const payload = Buffer.alloc(1 << 20, 'mqtt and some more ');
  for (const qos of [0, 1, 2]) {
    await within(sender.publishAsync(t.topic(), payload, { qos }), 'acknowledgement');
    const [packet] = await t.messages(reader, 1);
    assert.strictEqual(Buffer.compare(packet.payload, payload), 0);
  }
});

// At most `window` messages are open: mqtt.js itself does not keep to the broker's Receive Maximum.
async function publishMany(sender, topic, count, qos, window) {
  const open = new Set();
  for (let n = 0; n < count; n++) {
    const done = sender.publishAsync(topic, String(n), { qos }).finally(() => open.delete(done));
    open.add(done);
    if (open.size >= window) {
      await within(Promise.race(open), 'acknowledgement');
    }
  }
  await within(Promise.all(open), 'acknowledgement');
}

test('600 messages at every QoS arrive in order', async (t) => {
  const reader = await t.connect();
  await reader.subscribeAsync(t.topic('#'), { qos: 2 });
  const sender = await t.connect();
  for (const qos of [0, 1, 2]) {
    await publishMany(sender, t.topic(qos), 600, qos, 15);
    const got = await t.messages(reader, 600);
    assert.deepStrictEqual(got.map((p) => Number(p.payload)), [...Array(600).keys()]);
  }
});

test('unsubscribe ends the flow', async (t) => {
  const client = await t.connect();
  await client.subscribeAsync([t.topic('a'), t.topic('b')], { qos: 1 });
  await within(client.unsubscribeAsync(t.topic('a')), 'UNSUBACK');
  await client.publishAsync(t.topic('a'), 'a', { qos: 1 });
  await client.publishAsync(t.topic('b'), 'b', { qos: 1 });
  assert.strictEqual(String((await t.messages(client, 1))[0].payload), 'b');
});

test('takeover closes the first connection', async (t) => {
  const first = await t.connect({ clientId: t.topic('same') });
  const closed = new Promise((resolve) => first.on('close', resolve));
  const reason = new Promise((resolve) => {
    first.on('disconnect', (packet) => resolve(packet.reasonCode));
  });
  await t.connect({ clientId: t.topic('same') });
  if (t.version === 5) {
    assert.strictEqual(await within(reason, 'DISCONNECT'), 0x8e);
  }
  await within(closed, 'close');
});

test('keep alive: the connection lives while the client pings', async (t) => {
  const client = await t.connect({ keepalive: 1 });
  await new Promise((resolve) => setTimeout(resolve, 3500));
  assert.strictEqual(client.connected, true);
  await within(client.publishAsync(t.topic(), 'x', { qos: 1 }), 'acknowledgement');
});

test('CONNACK announces the limits', async (t) => {
  const { properties } = (await t.connect()).connack;
  assert.strictEqual(properties.topicAliasMaximum, 10);
  assert.strictEqual(properties.maximumPacketSize, 2000000);
  assert.strictEqual(properties.receiveMaximum, 20);
}, [5]);

test('properties pass unchanged', async (t) => {
  const reader = await t.connect();
  await reader.subscribeAsync(t.topic(), { qos: 1, properties: { subscriptionIdentifier: 77 } });
  const properties = {
    payloadFormatIndicator: true, contentType: 'text/plain', responseTopic: 'answer',
    correlationData: Buffer.from([0, 1, 255]), messageExpiryInterval: 100,
    userProperties: { k: ['v', 'w'], a: 'b' },
  };
  const sender = await t.connect();
  await sender.publishAsync(t.topic(), 'x', { qos: 1, properties });
  const [packet] = await t.messages(reader, 1);
  const { subscriptionIdentifier, userProperties, ...rest } = packet.properties;
  assert.strictEqual([subscriptionIdentifier].flat()[0], 77);
  assert.deepStrictEqual({ ...userProperties }, properties.userProperties);
  const { userProperties: _, ...wanted } = properties;
  assert.deepStrictEqual({ ...rest }, wanted);
}, [5]);

test('topic aliases both ways', async (t) => {
  const reader = await t.connect({ properties: { topicAliasMaximum: 10 } });
  await reader.subscribeAsync(t.topic('#'), { qos: 1 });
  const sender = await t.connect({ autoUseTopicAlias: true, autoAssignTopicAlias: true });
  const names = [...'abcabcddaabbccdd'];
  for (const name of names) {
    await sender.publishAsync(t.topic(name), name, { qos: 1 });
  }
  const got = await t.messages(reader, names.length);
  assert.deepStrictEqual(got.map((p) => String(p.payload)), names);
}, [5]);

test('receive maximum of the client is kept', async (t) => {
  const reader = await t.connect({ properties: { receiveMaximum: 2 } });
  await reader.subscribeAsync(t.topic(), { qos: 2 });
  const sender = await t.connect();
  await publishMany(sender, t.topic(), 100, 2, 10);
  const got = await t.messages(reader, 100);
  assert.deepStrictEqual(got.map((p) => Number(p.payload)), [...Array(100).keys()]);
}, [5]);

test('an assigned client id is returned', async (t) => {
  const client = await t.connect({ clientId: '' });
  assert.match(client.connack.properties.assignedClientIdentifier, /^auto-/);
}, [5]);

test('no local and retain as published', async (t) => {
  const client = await t.connect();
  await client.subscribeAsync(t.topic('own'), { qos: 1, nl: true });
  await client.subscribeAsync(t.topic('flag'), { qos: 1, rap: true });
  await client.publishAsync(t.topic('own'), 'x', { qos: 1 });
  await client.publishAsync(t.topic('flag'), 'y', { qos: 1, retain: true });
  const [packet] = await t.messages(client, 1);
  assert.strictEqual(String(packet.payload), 'y');
  assert.strictEqual(packet.retain, true);
}, [5]);

test('a delayed will is cancelled by coming back, published otherwise', async (t) => {
  const watch = await t.connect();
  await watch.subscribeAsync(t.topic('will/#'), { qos: 1 });
  const will = (name) => ({
    will: {
      topic: t.topic('will/' + name), payload: Buffer.from(name), qos: 1,
      properties: { willDelayInterval: 1 },
    },
  });
  await cut(await t.connect({ ...t.keep('back'), ...will('back') }));
  await t.connect(t.keep('back'));
  await cut(await t.connect({ ...t.keep('gone'), ...will('gone') }));
  const [packet] = await t.messages(watch, 1);
  assert.strictEqual(String(packet.payload), 'gone');
}, [5]);

(async () => {
  let passed = 0;
  let failed = 0;
  const one = async ([name, body, version]) => {
    const t = new Context(version);
    try {
      await within(body(t), 'end of the test');
      passed++;
      console.log('ok ' + name);
    } catch (error) {
      failed++;
      console.log(`FAIL ${name}: ${String(error.message).split('\n').join(' ')}`);
    }
    t.close();
  };
  const queue = tests.filter(([name]) => !chosen.length ||
    chosen.some((text) => name.includes(text)));
  const worker = async () => {
    while (queue.length) {
      await one(queue.shift());
    }
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed || !passed ? 1 : 0);
})();
