"""Wills: when they are published, when not, with what."""

import time

from broker import Failure, Tests
from wire import ALL, V5, frame, properties, publish, string, u16, will
from wire_connect import stay

tests = Tests()
register = tests.register


def watcher(t, v, topic=None):
    c = t.connect(v)
    c.subscribe(topic or t.topic("w"))
    return c


@tests("[MQTT-3.1.2-8] [3.1.1 MQTT-3.1.2-8] a will is published when the connection is cut", ALL)
def _(t, v):
    for qos in (0, 1, 2):
        watch = watcher(t, v, t.topic("w%d" % qos))
        t.connect(v, will=will(t.topic("w%d" % qos), b"gone", qos)).cut()
        watch.expect(publish(v, t.topic("w%d" % qos), b"gone", qos, id=1))


@tests("[MQTT-3.14.4-3] [MQTT-3.1.2-10] DISCONNECT drops the will", ALL)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, will=will(t.topic("w"), b"gone")).disconnect()
    watch.ping()


@tests("[3.1.1 MQTT-3.1.2-12] no will flag, no will", ALL)
def _(t, v):
    watch = watcher(t, v, t.topic("#"))
    t.connect(v).cut()
    watch.ping()


@tests("[MQTT-3.1.2-8] DISCONNECT with another code than 0 publishes the will", V5)
def _(t, v):
    for code in (0x04, 0x80, 0x83):  # Mosquitto: only for 0x04
        watch = watcher(t, v, t.topic("w%x" % code))
        t.connect(v, will=will(t.topic("w%x" % code), b"gone")).disconnect(code)
        watch.expect(publish(v, t.topic("w%x" % code), b"gone"))


@tests("[MQTT-3.1.2-8] a protocol error publishes the will", ALL)
def _(t, v):
    watch = watcher(t, v)
    c = t.connect(v, will=will(t.topic("w"), b"gone"))
    c.send(b"\x36\x00")
    watch.expect(publish(v, t.topic("w"), b"gone"))


@tests("[MQTT-3.1.2-8] the keep-alive timeout publishes the will", ALL)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, keep_alive=1, will=will(t.topic("w"), b"gone"))
    watch.expect(publish(v, t.topic("w"), b"gone"))


@tests("[MQTT-3.1.2-10] a will is published once", ALL)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, "c", will=will(t.topic("w"), b"gone"), **stay(v)).cut()
    watch.expect(publish(v, t.topic("w"), b"gone"))
    t.connect(v, "c", present=True, **stay(v)).cut()
    watch.ping()


@tests("[MQTT-3.1.2-15] [3.1.1 MQTT-3.1.2-17] a will with retain is kept", ALL)
def _(t, v):
    live = watcher(t, v)
    t.connect(v, will=will(t.topic("w"), b"gone", 1, True)).cut()
    live.expect(publish(v, t.topic("w"), b"gone", 1, id=1))
    watcher(t, v).expect(publish(v, t.topic("w"), b"gone", 1, id=1, retain=True))


@tests("[MQTT-3.1.2-14] [3.1.1 MQTT-3.1.2-16] a will without retain is not kept", ALL)
def _(t, v):
    t.connect(v, will=will(t.topic("w"), b"gone", 1)).cut()
    watcher(t, v).ping()


@tests("[MQTT-3.3.1-6] an empty retained will removes the retained message", ALL)
def _(t, v):
    t.connect(v).publish(t.topic("w"), b"online", retain=True)
    live = watcher(t, v)
    live.expect(publish(v, t.topic("w"), b"online", retain=True))
    t.connect(v, will=will(t.topic("w"), b"", 0, True)).cut()
    live.expect(publish(v, t.topic("w"), b""))
    watcher(t, v).ping()


@tests("[MQTT-3.1.2-7] a will of 60000 bytes is published whole", ALL)
def _(t, v):
    payload = bytes(range(256)) * 234
    watch = watcher(t, v)
    t.connect(v, will=will(t.topic("w"), payload)).cut()
    watch.expect(publish(v, t.topic("w"), payload))


@tests("[MQTT-4.5.0-1] a will waits for a session that is away", ALL)
def _(t, v):
    c = t.connect(v, "watch", **stay(v))
    c.subscribe(t.topic("w"))
    c.cut()
    t.connect(v, will=will(t.topic("w"), b"gone", 1)).cut()
    t.connect(v, "watch", present=True, **stay(v)
              ).expect(publish(v, t.topic("w"), b"gone", 1, id=1))


@tests("section 3.1.4: takeover publishes the will", ALL)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, "c", will=will(t.topic("w"), b"gone"))
    t.connect(v, "c")
    watch.expect(publish(v, t.topic("w"), b"gone"))


@tests("section 3.1.4: takeover publishes the will although the session goes on, "
       "without delay", ALL)
def _(t, v):  # Mosquitto drops it
    watch = watcher(t, v)
    t.connect(v, "c", will=will(t.topic("w"), b"gone"), **stay(v))
    t.connect(v, "c", present=True, **stay(v))
    watch.expect(publish(v, t.topic("w"), b"gone"))


@tests("[MQTT-3.1.3-9] takeover drops a delayed will when the session goes on", V5)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, "c", will=will(t.topic("w"), b"gone", will_delay=1), **stay(v))
    second = t.connect(v, "c", present=True, **stay(v))
    time.sleep(2.5)
    watch.ping()
    second.ping()


@tests("[MQTT-3.1.2-8] takeover with clean start publishes a delayed will: its session ended", V5)
def _(t, v):  # Mosquitto drops it
    watch = watcher(t, v)
    t.connect(v, "c", will=will(t.topic("w"), b"gone", will_delay=300), **stay(v))
    t.connect(v, "c", clean=True)
    watch.expect(publish(v, t.topic("w"), b"gone"))


@tests("section 3.1.3.2.2: a delayed will comes after the delay, not before", V5)
def _(t, v):
    watch = watcher(t, v)
    t.connect(
    v,
    will=will(
        t.topic("w"),
        b"gone",
        will_delay=2),
        props={
            "session_expiry": 300}).cut()
    start = time.monotonic()
    watch.ping()
    watch.expect(publish(v, t.topic("w"), b"gone"))
    took = time.monotonic() - start
    if not 1.0 <= took <= 4.5:
        raise Failure("came after %.2f s" % took)


@tests("[MQTT-3.1.3-9] a new connection within the delay cancels the will", V5)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, "c", will=will(t.topic("w"), b"gone", will_delay=1), **stay(v)).cut()
    c = t.connect(v, "c", present=True, **stay(v))
    time.sleep(2.5)
    watch.ping()
    c.ping()


@tests("[MQTT-3.1.2-8] a delayed will comes when the session ends first", V5)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, "none", will=will(t.topic("w"), b"no session", will_delay=300)).cut()
    watch.expect(publish(v, t.topic("w"), b"no session"))
    t.connect(v, "one", will=will(t.topic("w"), b"one second", will_delay=300),
              props={"session_expiry": 1}).cut()
    watch.expect(publish(v, t.topic("w"), b"one second"))


@tests("[MQTT-3.1.2-8] clean start within the delay ends the session and publishes the will", V5)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, "c", will=will(t.topic("w"), b"gone", will_delay=300), **stay(v)).cut()
    watch.ping()
    t.connect(v, "c", clean=True)
    watch.expect(publish(v, t.topic("w"), b"gone"))


@tests("[MQTT-3.1.2-8] DISCONNECT 0x04 honours the delay", V5)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, will=will(t.topic("w"), b"gone", will_delay=1),
              props={"session_expiry": 300}).disconnect(4)
    watch.ping()
    watch.expect(publish(v, t.topic("w"), b"gone"))


@tests("[MQTT-3.1.3-10] will properties are published in their order, without the delay", V5)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, will=will(t.topic("w"), b"gone", payload_format=1, content_type="text/plain",
                           response_topic="answer", correlation_data=b"\0\xff")).cut()
    watch.expect(publish(v, t.topic("w"), b"gone", payload_format=1, content_type="text/plain",
                         response_topic="answer", correlation_data=b"\0\xff"))


@tests("[MQTT-3.1.3-10] a will's user properties keep their order", V5)
def _(t, v):
    watch = watcher(t, v)
    users = [("user", pair) for pair in (("z", "1"), ("a", "2"), ("z", "1"), ("", ""))]
    body = string("MQTT") + bytes([5, 6]) + u16(60) + b"\0" + string(t.id("x")) + \
        properties(users) + string(t.topic("w")) + string(b"m")
    c = t.open(v)
    c.send(frame(0x10, body))
    if c.packet()[2:4] != b"\0\0":
        raise Failure("refused")
    c.cut()
    watch.expect(publish(v, t.topic("w"), b"m", items=users))


@tests("section 3.1.3.2.4: a will's message expiry is forwarded", V5)
def _(t, v):
    watch = watcher(t, v)
    t.connect(v, will=will(t.topic("w"), b"m", message_expiry=100)).cut()
    watch.expect(publish(v, t.topic("w"), b"m", message_expiry=100))


@tests("[MQTT-3.3.4-2] a will is delivered at the lower of both QoS", ALL)
def _(t, v):
    watch = t.connect(v)
    watch.subscribe((t.topic("w"), 1))
    t.connect(v, will=will(t.topic("w"), b"m", 2)).cut()
    watch.expect(publish(v, t.topic("w"), b"m", 1, id=1))
