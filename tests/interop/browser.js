// Checks of layers_test.py that run in a browser, on a page that the broker serves itself:
// browser.html?report=URL. Every result is fetched from URL/ok/NAME or URL/FAIL/NAME, at the end
// URL/done. With ?will=VERSION the page is only a client with a will, for a frame to be reloaded.
'use strict';

const query = new URLSearchParams(location.search);
const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/mqtt`;
const WAIT_MS = 15000;
let count = 0;

function within(promise, what) {
  return Promise.race([promise, new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`no ${what} in time`)), WAIT_MS);
  })]);
}

function check(condition, what) {
  if (!condition) { throw new Error(what); }
}

// A connected client; what it receives waits in `inbox`.
async function connect(version, options = {}) {
  const client = mqtt.connect(url, { protocolVersion: version, reconnectPeriod: 0, ...options });
  client.inbox = [];
  client.on('message', (topic, payload) => client.inbox.push({ topic, payload }));
  await within(new Promise((resolve, reject) => {
    client.on('connect', resolve);
    client.on('error', reject);
    client.on('close', () => reject(new Error('closed')));
  }), 'CONNACK');
  client.on('error', () => {});
  return client;
}

async function messages(client, wanted) {
  await within((async () => {
    while (client.inbox.length < wanted) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })(), `message ${wanted}`);
  return client.inbox.splice(0, wanted);
}

function equal(a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function pattern(size) {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) { bytes[i] = (i * 31) ^ (i >> 8); }
  return bytes;
}

const tests = [];
const test = (name, body) => {
  for (const version of [4, 5]) { tests.push([`${name} v${version}`, body, version]); }
};

test('the server echoes the subprotocol and the bytes are binary', async () => {
  const socket = new WebSocket(url, ['mqtt']);
  socket.binaryType = 'arraybuffer';
  await within(new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error('refused'));
  }), 'open');
  check(socket.protocol === 'mqtt', 'subprotocol ' + socket.protocol);
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  const message = new Promise((resolve) => { socket.onmessage = resolve; });
  // CONNECT cut into two messages [MQTT-6.0.0-2], then DISCONNECT.
  socket.send(new Uint8Array([0x10, 13, 0, 4]));
  socket.send(new Uint8Array([...'MQTT'].map((c) => c.charCodeAt(0)).concat([4, 2, 0, 0, 0, 1, 97])));
  const answer = new Uint8Array((await within(message, 'CONNACK')).data);
  check(equal(answer, new Uint8Array([0x20, 2, 0, 0])), 'CONNACK ' + answer);
  socket.send(new Uint8Array([0xE0, 0]));
  const event = await within(closed, 'close');
  check(event.wasClean && event.code === 1000, `close ${event.code} clean ${event.wasClean}`);
});

test('a text message is refused with 1003', async () => {
  const socket = new WebSocket(url, ['mqtt']);
  socket.onopen = () => socket.send('text');
  const event = await within(new Promise((resolve) => { socket.onclose = resolve; }), 'close');
  check(event.wasClean && event.code === 1003, `close ${event.code} clean ${event.wasClean}`);
});

test('a connection without the subprotocol is refused', async () => {
  const socket = new WebSocket(url);
  const opened = await within(new Promise((resolve) => {
    socket.onopen = () => resolve(true);
    socket.onclose = () => resolve(false);
  }), 'close');
  check(!opened, 'opened');
});

for (const qos of [0, 1, 2]) {
  test(`binary payloads at QoS ${qos}`, async (t) => {
    const reader = await t.connect();
    await within(reader.subscribeAsync(t.topic, { qos }), 'SUBACK');
    const sender = await t.connect();
    for (const size of [0, 1, 125, 126, 256, 65535, 65536]) {
      sender.publish(t.topic, mqtt.Buffer ? mqtt.Buffer.from(pattern(size)) : pattern(size), { qos });
      const [got] = await messages(reader, 1);
      check(equal(got.payload, pattern(size)), `${size} bytes differ`);
    }
  });

  test(`1 MB at QoS ${qos}`, async (t) => {
    const reader = await t.connect();
    await within(reader.subscribeAsync(t.topic, { qos }), 'SUBACK');
    const sender = await t.connect();
    await within(sender.publishAsync(t.topic, pattern(1 << 20), { qos }), 'acknowledgement');
    const [got] = await messages(reader, 1);
    check(equal(got.payload, pattern(1 << 20)), 'bytes differ');
  });

  test(`200 publishes in one burst at QoS ${qos}`, async (t) => {
    const reader = await t.connect();
    await within(reader.subscribeAsync(t.topic, { qos }), 'SUBACK');
    const sender = await t.connect();
    const done = [];
    for (let i = 0; i < 200; i++) { done.push(sender.publishAsync(t.topic, String(i), { qos })); }
    await within(Promise.all(done), 'acknowledgements');
    const got = await messages(reader, 200);
    check(got.every(({ payload }, i) => payload.toString() === String(i)), 'order');
  });
}

test('a reloaded page leaves its will', async (t) => {
  const reader = await t.connect();
  await within(reader.subscribeAsync('will/' + t.version, { qos: 1 }), 'SUBACK');
  const ready = new Promise((resolve) => {
    window.onmessage = ({ data }) => { if (data === 'ready') { resolve(); } };
  });
  const frame = document.createElement('iframe');
  frame.src = `browser.html?will=${t.version}`;
  document.body.append(frame);
  await within(ready, 'page with a will');
  frame.contentWindow.location.reload();
  const [got] = await messages(reader, 1);
  check(got.payload.toString() === 'page gone', 'will ' + got.payload);
  frame.remove();
});

async function report(words) {
  await fetch(query.get('report') + '/' + encodeURIComponent(words), { mode: 'no-cors' });
}

async function run() {
  for (const [name, body, version] of tests) {
    const clients = [];
    const t = {
      version,
      topic: `browser/${++count}`,
      connect: async (options) => {
        const client = await connect(version, options);
        clients.push(client);
        return client;
      },
    };
    try {
      await within(body(t), 'end of the test');
      await report('ok ' + name);
    } catch (error) {
      await report(`FAIL ${name}: ${error.message}`);
    }
    clients.forEach((client) => client.end(true));
  }
  await report('done');
}

window.onload = async () => {
  if (query.get('will')) {
    const version = Number(query.get('will'));
    await connect(version, {
      keepalive: 600,
      will: { topic: 'will/' + version, payload: 'page gone', qos: 1, retain: false },
    });
    parent.postMessage('ready', '*');
  } else {
    run();
  }
};
