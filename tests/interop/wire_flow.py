"""Flow: receive maximum, packet sizes, packets in pieces and in heaps, order, slow readers."""

import threading
import time

from broker import Failure, Tests
from wire import (ALL, V5, V34, V45, PING, PONG, Message, connect, frame, puback, pubcomp, publish,
                  pubrec, pubrel, show, variable)
from wire_connect import stay
from wire_publish import finish, subscriber

tests = Tests()
register = tests.register


# --- receive maximum -----------------------------------------------------------------------------


@tests("[MQTT-3.3.4-9] [MQTT-3.3.4-10] "
       "at most Receive Maximum deliveries are open; QoS 0 goes on", V5)
def _(t, v):
    for limit in (1, 2, 7):
        c = t.connect(v, props={"receive_maximum": limit})
        topic = t.topic("%d" % limit)
        c.subscribe(topic)
        sender = t.connect(v)
        for number in range(1, 11):
            sender.publish(topic, b"%d" % number, qos=1, id=number)
        for number in range(1, limit + 1):
            c.expect(publish(v, topic, b"%d" % number, 1, number))
        c.ping()
        for number in range(limit + 1, 11):
            c.send(puback(number - limit))
            c.expect(publish(v, topic, b"%d" % number, 1, number))
            c.ping()


@tests("[MQTT-4.9.0-3] [MQTT-4.9.0-2] a full quota holds back QoS 1 and 2 but nothing else", V5)
def _(t, v):
    c = t.connect(v, props={"receive_maximum": 1})
    c.subscribe(t.topic("one"))
    c.subscribe((t.topic("zero"), 0), id=2)
    sender = t.connect(v)
    sender.publish(t.topic("one"), b"1", qos=1, id=1)
    sender.publish(t.topic("one"), b"2", qos=2, id=2)
    sender.publish(t.topic("zero"), b"0", qos=0)
    c.expect(publish(v, t.topic("one"), b"1", 1, 1), publish(v, t.topic("zero"), b"0"))
    c.publish(t.topic("own"), b"x", qos=2, id=1)
    c.send(puback(1))
    c.expect(publish(v, t.topic("one"), b"2", 2, 2))


@tests("[MQTT-4.9.0-1] a QoS 2 delivery holds its place until PUBCOMP", V5)
def _(t, v):
    c = t.connect(v, props={"receive_maximum": 1})
    c.subscribe(t.topic())
    sender = t.connect(v)
    for number in (1, 2, 3):
        sender.publish(t.topic(), b"%d" % number, qos=2, id=number)
    c.expect(publish(v, t.topic(), b"1", 2, 1))
    c.ping()
    c.send(pubrec(1))
    c.expect(pubrel(1))
    c.ping()
    c.send(pubcomp(1))
    c.expect(publish(v, t.topic(), b"2", 2, 2))
    c.send(pubrec(2, 0x80))  # Mosquitto never gives this place back
    c.expect(publish(v, t.topic(), b"3", 2, 3))


@tests("max_inflight_messages bounds open deliveries to older clients", V34)
def _(t, v):
    t.use("max_inflight_messages 3")
    c, sender = subscriber(t, v), t.connect(v)
    for number in range(1, 6):
        sender.publish(t.topic(), b"%d" % number, qos=1, id=number)
    for number in (1, 2, 3):
        c.expect(publish(v, t.topic(), b"%d" % number, 1, number))
    c.ping()
    c.send(puback(1))
    c.expect(publish(v, t.topic(), b"4", 1, 4))
    c.ping()


@tests("[MQTT-3.3.4-7] more than 20 open QoS 2 messages are refused with 0x93", V5)
def _(t, v):
    c = t.connect(v)
    c.send(*[publish(v, t.topic(), b"x", 2, id) for id in range(1, 21)])
    for id in range(1, 21):
        c.expect(pubrec(id))
    c.send(publish(v, t.topic(), b"x", 2, 21))
    c.expect_error(0x93)


@tests("[MQTT-3.3.4-7] 20 open QoS 2 messages are accepted, and more after PUBCOMP", ALL)
def _(t, v):
    c = t.connect(v)
    for base in (0, 20, 40):
        for id in range(base + 1, base + 21):
            c.send(publish(v, t.topic(), b"x", 2, id))
            c.expect(pubrec(id))
        for id in range(base + 1, base + 21):
            c.send(pubrel(id))
            c.expect(pubcomp(id))


@tests("[MQTT-3.3.4-7] a repeated QoS 2 PUBLISH takes no second place", V5)
def _(t, v):
    c = t.connect(v)
    for id in range(1, 21):
        c.send(publish(v, t.topic(), b"x", 2, id))
        c.expect(pubrec(id))
    c.send(publish(v, t.topic(), b"x", 2, 7, dup=True))
    c.expect(pubrec(7))
    c.send(pubrel(7))
    c.expect(pubcomp(7))


@tests("[MQTT-3.3.4-7] "
       "max_inflight_messages is the Receive Maximum that is announced and enforced", V5)
def _(t, v):
    t.use("max_inflight_messages 3")
    c = t.connect(v)
    if c.connack[-3:] != b"\x21\x00\x03":
        raise Failure("CONNACK %s" % show(c.connack))
    for id in (1, 2, 3):
        c.send(publish(v, t.topic(), b"x", 2, id))
        c.expect(pubrec(id))
    c.send(publish(v, t.topic(), b"x", 2, 4))
    c.expect_error(0x93)


@tests("[MQTT-4.3.2-4] 500 QoS 1 messages in one write are all acknowledged in order", ALL)
def _(t, v):
    c = t.connect(v)
    c.subscribe((t.topic("other"), 0))
    c.send(*[publish(v, t.topic(), b"x", 1, id) for id in range(1, 501)])
    for id in range(1, 501):
        c.expect(puback(id, 0x10 if v == 5 else 0))


# --- packet sizes --------------------------------------------------------------------------------


@tests("[MQTT-3.1.2-24] [MQTT-3.1.2-25] "
       "what exceeds the client's maximum is dropped as if delivered", V5)
def _(t, v):
    limit = 100
    c = t.connect(v, props={"maximum_packet": limit, "receive_maximum": 1})
    c.subscribe(t.topic(), codes=[2])
    sender = t.connect(v)
    exact = limit - len(publish(v, t.topic(), b"", 1, 1))
    sender.publish(t.topic(), b"a" * (exact + 1), qos=1, id=1)
    sender.publish(t.topic(), b"b" * 1000, qos=2, id=2)
    sender.publish(t.topic(), b"c" * 1000, qos=0)
    sender.publish(t.topic(), b"d" * exact, qos=1, id=3)
    message = c.message()
    if message.payload != b"d" * exact:
        raise Failure("got %r" % message.payload)
    c.send(puback(message.id))
    c.ping()


@tests("[MQTT-3.1.2-24] the client's maximum also bounds retained and queued messages", V5)
def _(t, v):
    options = {"clean": False, "props": {"maximum_packet": 60, "session_expiry": 300}}
    c = t.connect(v, "c", **options)
    c.subscribe(t.topic("q"))
    c.cut()
    sender = t.connect(v)
    sender.publish(t.topic("q"), b"b" * 1000, qos=1)
    sender.publish(t.topic("q"), b"small", qos=1)
    sender.publish(t.topic("r/big"), b"b" * 1000, qos=1, retain=True)
    sender.publish(t.topic("r/small"), b"small", qos=1, retain=True)
    c = t.connect(v, "c", present=True, **options)
    message = c.message()
    if message.payload != b"small":
        raise Failure("got %r" % message.payload)
    c.send(puback(message.id))
    c.subscribe(t.topic("r/+"))
    if c.message().topic != t.topic("r/small"):
        raise Failure("another retained message")
    c.ping()


@tests("[MQTT-3.2.2-15] a packet above max_packet_size is refused with 0x95 at its header", ALL)
def _(t, v):
    t.use("max_packet_size 1000")
    c = t.connect(v)
    if v == 5 and b"\x27\x00\x00\x03\xe8" not in c.connack:
        raise Failure("CONNACK %s" % show(c.connack))
    room = 1000 - len(publish(v, t.topic(), b"", 1, 1)) - 1  # the length grows by a byte
    raw = publish(v, t.topic(), b"x" * room, 1, 1)
    assert len(raw) == 1000
    c.send(raw)
    c.expect(puback(1, 0x10 if v == 5 else 0))
    raw = publish(v, t.topic(), b"x" * (room + 1), 1, 2)
    c.send(raw[:3])
    c.expect_error(0x95)


@tests("[MQTT-3.2.2-15] a packet above the default of 2000000 bytes is refused with 0x95", ALL)
def _(t, v):
    c = t.connect(v)
    c.send(b"\x30" + variable(2000000))
    c.expect_error(0x95)


@tests("a packet of exactly 2000000 bytes passes", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    head = len(publish(v, t.topic(), b"", 1, 1)) + 3 - 1
    head = len(publish(v, t.topic(), b"x" * (2000000 - head), 1, 1)) - 2000000 + head
    raw = publish(v, t.topic(), b"x" * (2000000 - head), 1, 1)
    assert len(raw) == 2000000, len(raw)
    c.send(raw)
    c.expect(puback(1))
    reader.expect(raw)


@tests("payloads at every length boundary pass unchanged", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    head = len(publish(v, t.topic(), b"", 1, 1)) - 2
    for size in [length - head + delta for length in (127,
    128,
    16383,
    16384) for delta in (-1,
    0,
    1)] + [0,
    1,
    255,
    256,
    4095,
    4096,
    4097,
    65535,
    65536,
     65537]:
        payload = bytes(range(256)) * (size // 256) + b"e" * (size % 256)
        c.publish(t.topic(), payload, qos=1)
        message = reader.message()
        if message.payload != payload:
            raise Failure("%d bytes came as %d" % (size, len(message.payload)))
        reader.send(puback(message.id))


@tests("a payload of 2097152 bytes passes when the configuration allows it", V45)
def _(t, v):
    t.use("max_packet_size 3000000")
    reader, c = subscriber(t, v), t.connect(v)
    payload = bytes(range(256)) * 8192
    c.publish(t.topic(), payload, qos=1)
    reader.expect(publish(v, t.topic(), payload, 1, 1))


@tests("1 MB passes at every QoS and to several readers", ALL)
def _(t, v):
    readers, c = [subscriber(t, v) for _ in range(3)], t.connect(v)
    for qos in (0, 1, 2):
        payload = bytes([qos]) + bytes(range(256)) * 4096
        c.publish(t.topic(), payload, qos=qos)
        for reader in readers:
            reader.expect(publish(v, t.topic(), payload, qos, qos))
            finish(reader, qos, qos)


@tests("1 MB waits for a session that is away, and stays as retained message", ALL)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    c.cut()
    payload = bytes(range(256)) * 4096
    t.connect(v).publish(t.topic(), payload, qos=1, retain=True)
    t.connect(v, "c", present=True, **stay(v)).expect(publish(v, t.topic(), payload, 1, 1))
    subscriber(t, v).expect(publish(v, t.topic(), payload, 1, 1, retain=True))


@tests("[MQTT-4.7.3-3] a topic of 65535 bytes passes", ALL)
def _(t, v):
    topic = t.topic("x")
    topic += "y" * (65535 - len(topic))
    reader, c = subscriber(t, v, topic), t.connect(v)
    c.publish(topic, b"x", qos=1)
    reader.expect(publish(v, topic, b"x", 1, 1))


# --- bytes in pieces, bytes in heaps -------------------------------------------------------------


@tests("[MQTT-4.2.0-1] packets cut at every byte arrive whole", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    raw = publish(v, t.topic(), b"payload", 1, 1)
    for cut in range(1, len(raw)):
        c.send(raw[:cut])
        if cut % 5 == 0:
            time.sleep(0.001)
        c.send(raw[cut:])
        c.expect(puback(1))
        reader.expect(publish(v, t.topic(), b"payload", 1, cut))
        reader.send(puback(cut))


@tests("[MQTT-4.2.0-1] a large packet in pieces of every size arrives whole", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    payload = bytes(range(256)) * 300
    for number, step in enumerate((997, 4096, 16385, 65536), 1):
        c.send_slowly(publish(v, t.topic(), payload, 1, 1), step)
        c.expect(puback(1))
        reader.expect(publish(v, t.topic(), payload, 1, number))


@tests("[MQTT-4.2.0-1] two connections sending pieces in turn do not mix", ALL)
def _(t, v):
    reader = subscriber(t, v, t.topic("#"))
    one, two = t.connect(v), t.connect(v)
    first, second = publish(v, t.topic("one"), b"1" * 50), publish(v, t.topic("two"), b"2" * 50)
    for at in range(max(len(first), len(second))):
        one.send(first[at:at + 1])
        two.send(second[at:at + 1])
    if sorted([reader.packet(), reader.packet()]) != sorted([first, second]):
        raise Failure("other bytes came")


@tests("[MQTT-4.6.0-5] 2000 messages in one write arrive in order at QoS 0", ALL)
def _(t, v):
    reader, c = subscriber(t, v, qos=0), t.connect(v)
    c.send(*[publish(v, t.topic(), b"%d" % n) for n in range(2000)])
    for n in range(2000):
        reader.expect(publish(v, t.topic(), b"%d" % n))


@tests("a cut inside a packet drops the packet and nothing else", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    c.send(publish(v, t.topic(), b"whole") + publish(v, t.topic(), b"half" * 100)[:50])
    c.cut()
    reader.expect(publish(v, t.topic(), b"whole"))
    reader.ping()


# --- order ---------------------------------------------------------------------------------------


@tests("[MQTT-4.6.0-5, MQTT-4.6.0-6] [3.1.1 MQTT-4.6.0-5, MQTT-4.6.0-6] "
       "order is kept per topic and QoS", ALL)
def _(t, v):
    reader, c = subscriber(t, v, t.topic("#")), t.connect(v)
    count = 60
    for n in range(count):
        for qos in (0, 1, 2):
            c.send(
    publish(
        v,
        t.topic(
            "%d" %
            (n %
            3)),
            b"%d" %
            n,
            qos,
            1 +
            n %
            15 if qos == 1 else 20 +
            n %
             15))
            if qos == 1:
                c.expect(puback(1 + n % 15))
            if qos == 2:
                c.expect(pubrec(20 + n % 15))
                c.send(pubrel(20 + n % 15))
                c.expect(pubcomp(20 + n % 15))
    got, left = {}, count * 4  # a PUBLISH for each, and a PUBREL for those of QoS 2
    while left:
        raw = reader.packet()
        left -= 1
        if raw[0] == 0x62:
            reader.send(frame(0x70, raw[2:4]))
            continue
        message = Message(raw, v)
        got.setdefault((message.topic, message.qos), []).append(int(message.payload))
        if message.qos:
            reader.send(puback(message.id) if message.qos == 1 else pubrec(message.id))
    for key, numbers in got.items():
        if numbers != sorted(numbers) or len(set(numbers)) != count // 3:
            raise Failure("%s: %s" % (key, numbers))


# --- slow readers --------------------------------------------------------------------------------


@tests("a reader that stops does not hold up another; what it gets later is in order "
       "and whole", ALL)
def _(t, v):
    slow = t.connect(v, receive_buffer=4096)
    fast, sender = t.connect(v), t.connect(v)
    for c in (slow, fast):
        c.subscribe((t.topic(), 0))
    count, payload = 4000, b"x" * 4000  # 16 MB: more than the buffers of two sockets

    def send():
        for n in range(count):
            sender.send(publish(v, t.topic(), b"%06d" % n + payload))
            sender.log.clear()

    thread = threading.Thread(target=send)
    thread.start()
    for n in range(count):
        if fast.message(20).payload[:6] != b"%06d" % n:
            raise Failure("the fast reader misses %d" % n)
        fast.log.clear()
    thread.join()
    sender.ping()
    slow.send(PING)
    last = -1
    while True:
        raw = slow.packet(20)
        slow.log.clear()
        if raw == PONG:  # Mosquitto drops it among the messages it drops
            break
        if raw == b"":
            break  # a broker may hang up on a reader that stopped
        message = Message(raw, v)
        number = int(message.payload[:6])
        if number <= last or message.payload[6:] != payload:
            raise Failure("%d after %d, %d bytes" % (number, last, len(message.payload)))
        last = number


@tests("a reader that stops loses no QoS 1 message within the queue's limit", ALL)
def _(t, v):
    slow = t.connect(v, receive_buffer=4096)
    sender = t.connect(v)
    slow.subscribe((t.topic(), 1))
    count, payload = 600, b"x" * 20000
    for n in range(count):
        sender.publish(t.topic(), b"%06d" % n + payload, qos=1)
        sender.log.clear()
    for n in range(count):
        message = slow.message(20)
        slow.log.clear()
        if message.payload[:6] != b"%06d" % n or len(message.payload) != 20006 or message.dup:
            raise Failure("got %r, expected %d" % (message.payload[:6], n))
        slow.send(puback(message.id))


@tests("a slow reader's partial write is finished byte for byte", ALL)
def _(t, v):
    slow = t.connect(v, receive_buffer=2048)
    sender = t.connect(v)
    slow.subscribe((t.topic(), 1))
    payload = bytes(range(256)) * 4096
    for n in range(5):
        sender.publish(t.topic(), payload, qos=1)
    for n in range(1, 6):
        slow.expect(publish(v, t.topic(), payload, 1, n), timeout_s=20)
    slow.ping()


@tests("a publisher that never reads its answers is not served for ever, others are", ALL)
def _(t, v):
    flood, other = t.open(v, receive_buffer=2048), t.connect(v)
    flood.send(connect(v, t.id("flood")))
    flood.sock.settimeout(0.5)
    chunk = PING * 20000
    sent = 0
    try:
        while sent < 400:
            flood.sock.sendall(chunk)
            sent += 1
            if sent % 20 == 0:
                other.ping()
    except OSError:
        pass  # the broker stopped reading or hung up: both are bounded
    other.ping()
