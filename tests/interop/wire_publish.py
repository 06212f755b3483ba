"""PUBLISH in and out: QoS handshakes and resumption, retained, properties, aliases, expiry."""

import time

from broker import Failure, Tests
from wire import (ALL, V5, V34, PING, PONG, PUBLISH, Message, puback, pubcomp, publish, pubrec,
                  pubrel, show)
from wire_connect import stay

tests = Tests()
register = tests.register


def subscriber(t, v, topic=None, qos=2, **options):
    c = t.connect(v, **options)
    c.subscribe((topic or t.topic(), qos))
    return c


def finish(c, qos, id):
    """The receiver's side of a handshake whose PUBLISH was just read."""
    if qos == 1:
        c.send(puback(id))
    if qos == 2:
        c.send(pubrec(id))
        c.expect(pubrel(id))
        c.send(pubcomp(id))


# --- every QoS to every QoS ----------------------------------------------------------------------


def qos_matrix(t, sender_version, v):
    sender, reader = t.connect(sender_version), t.connect(v)
    count = 0
    for granted in (0, 1, 2):
        topic = t.topic("%d" % granted)
        reader.subscribe((topic, granted))
        for sent in (0, 1, 2):
            qos = min(sent, granted)
            count += 1 if qos else 0
            sender.publish(topic, b"m%d" % sent, qos=sent, id=sent + 1)
            reader.expect(publish(v, topic, b"m%d" % sent, qos, count))
            finish(reader, qos, count)
    reader.ping()
    sender.ping()


for from_version in ALL:
    @tests("[MQTT-3.8.4-8, MQTT-4.3.1-1, MQTT-4.3.3-1, MQTT-4.3.3-2] [3.1.1 MQTT-4.3.2-1] "
           "delivered QoS is the lower one, ids count from 1, from v%d to"
           % from_version, ALL)
    def _(t, v, from_version=from_version):
        qos_matrix(t, from_version, v)


# --- answers to a publisher ----------------------------------------------------------------------


@tests("[MQTT-4.3.2-4] [3.1.1 MQTT-4.3.2-2] PUBACK is short with a subscriber", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    c.send(publish(v, t.topic(), b"x", 1, 0x1234))
    c.expect(puback(0x1234))
    reader.message()


@tests("[MQTT-3.4.2-1] PUBACK says 0x10 without a subscriber", V5)
def _(t, v):
    c = t.connect(v)
    c.send(
    publish(
        v,
        t.topic(),
        b"x",
        1,
        0x1234) +
        publish(
            v,
            t.topic(),
            b"x",
            1,
            0x1235,
             retain=True))
    c.expect(puback(0x1234, 0x10), puback(0x1235, 0x10))


@tests("[MQTT-4.3.2-2] PUBACK is plain without a subscriber", V34)
def _(t, v):
    c = t.connect(v)
    c.send(publish(v, t.topic(), b"x", 1, 0x1234))
    c.expect(puback(0x1234))


@tests("[MQTT-4.3.3-8] [MQTT-4.3.3-11] PUBREC and PUBCOMP are short on success", ALL)
def _(t, v):
    c = t.connect(v)
    c.send(publish(v, t.topic(), b"x", 2, 0xFFFF))
    c.expect(pubrec(0xFFFF))
    c.send(pubrel(0xFFFF))
    c.expect(pubcomp(0xFFFF))


@tests("[MQTT-3.3.4-1] QoS 0 is not answered", ALL)
def _(t, v):
    c = t.connect(v)
    c.send(publish(v, t.topic(), b"x") + PING)
    c.expect(PONG)


@tests("[MQTT-4.3.2-5] after PUBACK the same id is a new message", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    for number in (1, 2, 3):
        c.publish(t.topic(), b"%d" % number, qos=1, id=7)
        reader.expect(publish(v, t.topic(), b"%d" % number, 1, number))


@tests("[MQTT-3.3.1-3] DUP of an incoming PUBLISH is not passed on", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    c.publish(t.topic(), b"1", qos=1, id=1, dup=True)
    reader.expect(publish(v, t.topic(), b"1", 1, 1))
    c.publish(t.topic(), b"2", qos=2, id=2, dup=True)
    reader.expect(publish(v, t.topic(), b"2", 2, 2))


@tests("[MQTT-4.3.3-10] a repeated QoS 2 PUBLISH gets PUBREC and is delivered once", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    for dup in (False, True):
        c.send(publish(v, t.topic(), b"x", 2, 3, dup=dup))
        c.expect(pubrec(3))
    c.send(pubrel(3))
    c.expect(pubcomp(3))
    reader.expect(publish(v, t.topic(), b"x", 2, 1))
    reader.ping()


@tests("[MQTT-4.3.3-12] after PUBCOMP the same id is a new message", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    for number in (1, 2, 3):
        c.publish(t.topic(), b"%d" % number, qos=2, id=3)
        reader.expect(publish(v, t.topic(), b"%d" % number, 2, number))


@tests("[MQTT-4.3.3-11] PUBREL twice gets PUBCOMP twice", ALL)
def _(t, v):
    c = t.connect(v)
    c.publish(t.topic(), b"x", qos=2, id=3)
    c.send(pubrel(3))
    c.expect(pubcomp(3, 0x92 if v == 5 else 0))


@tests("[MQTT-4.3.3-10] QoS 2 handshakes interleave", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v)
    for id in (5, 6, 7):
        c.send(publish(v, t.topic(), b"%d" % id, 2, id))
        c.expect(pubrec(id))
    for id in (5, 6, 7):
        c.send(pubrel(id))
        c.expect(pubcomp(id))
    for number, id in enumerate((5, 6, 7), 1):
        reader.expect(publish(v, t.topic(), b"%d" % id, 2, number))


@tests("[MQTT-4.3.3-10] [3.1.1 MQTT-4.3.3-2] a QoS 2 publisher resumes with PUBREL", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v, "c", **stay(v))
    c.send(publish(v, t.topic(), b"x", 2, 3))
    c.expect(pubrec(3))
    c.cut()
    c = t.connect(v, "c", present=True, **stay(v))
    c.send(pubrel(3))
    c.expect(pubcomp(3))
    reader.expect(publish(v, t.topic(), b"x", 2, 1))
    reader.ping()


@tests("[MQTT-4.3.3-10] [MQTT-4.4.0-1] a QoS 2 publisher resumes with PUBLISH, delivered once", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v, "c", **stay(v))
    c.send(publish(v, t.topic(), b"x", 2, 3))
    c.expect(pubrec(3))
    c.cut()
    c = t.connect(v, "c", present=True, **stay(v))
    c.send(publish(v, t.topic(), b"x", 2, 3, dup=True))
    c.expect(pubrec(3))
    c.send(pubrel(3))
    c.expect(pubcomp(3))
    reader.expect(publish(v, t.topic(), b"x", 2, 1))
    reader.ping()


@tests("[MQTT-3.1.2-4] [3.1.1 MQTT-3.1.2-6] clean start forgets half-done QoS 2 messages", ALL)
def _(t, v):
    reader, c = subscriber(t, v), t.connect(v, "c", **stay(v))
    c.send(publish(v, t.topic(), b"old", 2, 3))
    c.expect(pubrec(3))
    c.cut()
    c = t.connect(v, "c", clean=True)
    c.publish(t.topic(), b"new", qos=2, id=3)
    got = [Message(raw, v).payload for raw in reader.collect()]
    if got not in ([b"new"], [b"old", b"new"]):  # routed at PUBLISH or at PUBREL
        raise Failure("got %s" % got)


@tests("[MQTT-4.5.0-1] acknowledged QoS 1 and 2 messages reach every matching session", ALL)
def _(t, v):
    readers = [subscriber(t, v) for _ in range(20)]
    c = t.connect(v)
    c.publish(t.topic(), b"one", qos=1, id=1)
    c.publish(t.topic(), b"two", qos=2, id=2)
    for reader in readers:
        reader.expect(publish(v, t.topic(), b"one", 1, 1), publish(v, t.topic(), b"two", 2, 2))


# --- resuming deliveries -------------------------------------------------------------------------


@tests("[MQTT-4.4.0-1] [MQTT-3.3.1-1] "
       "an open QoS 1 PUBLISH comes again with DUP after reconnect, only then", ALL)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    t.connect(v).publish(t.topic(), b"x", qos=1)
    c.expect(publish(v, t.topic(), b"x", 1, 1))
    c.ping()
    for _ in range(2):
        c.cut()
        c = t.connect(v, "c", present=True, **stay(v))
        c.expect(publish(v, t.topic(), b"x", 1, 1, dup=True))
        c.ping()
    c.send(puback(1))
    c.ping()
    c.cut()
    t.connect(v, "c", present=True, **stay(v)).ping()


@tests("[MQTT-4.4.0-1] "
       "an open QoS 2 PUBLISH comes again, after PUBREC only PUBREL [MQTT-4.3.3-6]", ALL)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    t.connect(v).publish(t.topic(), b"x", qos=2)
    c.expect(publish(v, t.topic(), b"x", 2, 1))
    c.cut()
    c = t.connect(v, "c", present=True, **stay(v))
    c.expect(publish(v, t.topic(), b"x", 2, 1, dup=True))
    c.send(pubrec(1))
    c.expect(pubrel(1))
    c.send(pubrec(1))  # a second PUBREC before PUBCOMP
    c.expect(pubrel(1))
    for _ in range(2):
        c.cut()
        c = t.connect(v, "c", present=True, **stay(v))
        c.expect(pubrel(1))
        c.ping()
    c.send(pubcomp(1))
    c.ping()
    c.cut()
    t.connect(v, "c", present=True, **stay(v)).ping()


@tests("[MQTT-4.4.0-1] [MQTT-4.6.0-5] "
       "open handshakes and queued messages resume in their order", ALL)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    sender = t.connect(v)
    for id, qos in ((1, 1), (2, 2), (3, 1), (4, 2)):
        sender.publish(t.topic(), b"%d" % id, qos=qos, id=id)
        c.expect(publish(v, t.topic(), b"%d" % id, qos, id))
    c.send(pubrec(2))
    c.expect(pubrel(2))
    c.cut()
    for id, qos in ((5, 1), (6, 2)):
        sender.publish(t.topic(), b"%d" % id, qos=qos, id=id)
    c = t.connect(v, "c", present=True, **stay(v))
    got = c.collect()
    publishes = [raw for raw in got if raw[0] >> 4 == PUBLISH]
    expected = [publish(v, t.topic(), b"%d" % id, qos, id, dup=id < 5)
                for id, qos in ((1, 1), (3, 1), (4, 2), (5, 1), (6, 2))]
    if publishes != expected or [raw for raw in got if raw[0] >> 4 != PUBLISH] != [pubrel(2)]:
        raise Failure("got %s" % [show(raw) for raw in got])


@tests("[MQTT-4.4.0-2] a negative PUBACK or PUBREC ends the message", V5)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    sender = t.connect(v)
    sender.publish(t.topic(), b"1", qos=1)
    sender.publish(t.topic(), b"2", qos=2)
    c.expect(publish(v, t.topic(), b"1", 1, 1), publish(v, t.topic(), b"2", 2, 2))
    c.send(puback(1, 0x80) + pubrec(2, 0x97))
    c.ping()
    c.cut()
    t.connect(v, "c", present=True, **stay(v)).ping()


@tests("[MQTT-4.3.3-4] PUBREC 0x10 counts as success", V5)
def _(t, v):
    c = subscriber(t, v)
    t.connect(v).publish(t.topic(), b"1", qos=2)
    c.expect(publish(v, t.topic(), b"1", 2, 1))
    c.send(pubrec(1, 0x10))
    c.expect(pubrel(1))


@tests("[MQTT-2.2.1-5] an acknowledgement of the wrong kind is a protocol error", ALL)
def _(t, v):
    sender = t.connect(v)
    for qos, wrong in ((1, pubrec), (1, pubcomp), (2, puback), (2, pubcomp)):
        c = t.connect(v)
        c.subscribe(t.topic())
        sender.publish(t.topic(), b"x", qos=qos)
        c.expect(publish(v, t.topic(), b"x", qos, 1))
        c.send(wrong(1))
        c.expect_error(0x82)


@tests("[MQTT-4.3.2-1, MQTT-2.2.1-4] [3.1.1 MQTT-2.3.1-4] "
       "packet ids count on over every QoS and are never 0", ALL)
def _(t, v):
    c, sender = subscriber(t, v), t.connect(v)
    for number in range(1, 260):
        qos = 1 + number % 2
        sender.publish(t.topic(), b"x", qos=qos, id=1)
        c.expect(publish(v, t.topic(), b"x", qos, number))
        finish(c, qos, number)


@tests("[MQTT-2.2.1-4] packet ids wrap from 65535 to 1 and skip those in use", V5)
def _(t, v):
    c, sender = subscriber(t, v, qos=1), t.connect(v)
    body = publish(v, t.topic(), b"", 1, 1)
    sender.send(body)
    sender.expect(puback(1))
    c.expect(publish(v, t.topic(), b"", 1, 1))  # id 1 stays open
    seen, rounds = 1, 15  # below max_inflight_messages
    while seen <= 65600:
        sender.send(body * rounds)
        answers = []
        for _ in range(rounds):
            raw = c.packet()
            seen += 1
            if raw != publish(v, t.topic(), b"", 1, seen if seen < 65536 else seen - 65536 + 2):
                raise Failure("message %d is %s" % (seen, show(raw)))
            answers.append(puback(int.from_bytes(raw[-3:-1], "big")))
        c.send(*answers)
        for _ in range(rounds):
            sender.expect(puback(1))
        c.log, sender.log = c.log[-10:], sender.log[-10:]


# --- retained ------------------------------------------------------------------------------------


@tests("[MQTT-3.3.1-5] [3.1.1 MQTT-3.3.1-6] [3.1.1 MQTT-3.3.1-8] "
       "a new subscription gets the last retained", ALL)
def _(t, v):
    sender = t.connect(v)
    for payload in (b"first", b"second"):
        sender.publish(t.topic(), payload, qos=1, retain=True)
    c = t.connect(v)
    c.subscribe(t.topic())
    c.expect(publish(v, t.topic(), b"second", 1, 1, retain=True))
    c.ping()


@tests("[MQTT-3.3.1-12] [3.1.1 MQTT-3.3.1-9] "
       "an established subscription gets it with retain 0", ALL)
def _(t, v):
    c = subscriber(t, v)
    t.connect(v).publish(t.topic(), b"x", retain=True)
    c.expect(publish(v, t.topic(), b"x"))


@tests("[MQTT-3.3.1-6] [3.1.1 MQTT-3.3.1-10] "
       "an empty retained payload is forwarded and removes the message", ALL)
def _(t, v):
    live, sender = subscriber(t, v), t.connect(v)
    sender.publish(t.topic(), b"x", retain=True)
    sender.publish(t.topic(), b"", qos=1, retain=True)
    live.expect(publish(v, t.topic(), b"x"), publish(v, t.topic(), b"", 1, 1))
    subscriber(t, v).ping()


@tests("[MQTT-3.3.1-7] [3.1.1 MQTT-3.3.1-11] an empty payload is never stored", ALL)
def _(t, v):
    t.connect(v).publish(t.topic(), b"", retain=True)
    subscriber(t, v).ping()


@tests("[MQTT-3.3.1-8] [3.1.1 MQTT-3.3.1-12] "
       "retain 0 neither stores nor touches the stored message", ALL)
def _(t, v):
    sender = t.connect(v)
    sender.publish(t.topic(), b"kept", retain=True)
    sender.publish(t.topic(), b"plain")
    sender.publish(t.topic(), b"")
    sender.publish(t.topic("never"), b"plain", qos=1)
    c = subscriber(t, v, t.topic("#"))
    c.expect(publish(v, t.topic(), b"kept", retain=True))
    c.ping()


@tests("[3.1.1 MQTT-3.3.1-7] a retained QoS 0 message replaces a QoS 2 one", ALL)
def _(t, v):
    sender = t.connect(v)
    sender.publish(t.topic(), b"two", qos=2, retain=True)
    sender.publish(t.topic(), b"zero", qos=0, retain=True)
    subscriber(t, v).expect(publish(v, t.topic(), b"zero", retain=True))


@tests("[MQTT-3.8.4-8] retained messages come at the lower QoS", ALL)
def _(t, v):
    t.connect(v).publish(t.topic(), b"x", qos=2, retain=True)
    for qos in (0, 1, 2):
        subscriber(t, v, qos=qos).expect(publish(v, t.topic(), b"x", qos, 1, retain=True))


@tests("[3.1.1 MQTT-3.1.2-7] retained messages outlive the publisher's session", ALL)
def _(t, v):
    c = t.connect(v)
    c.publish(t.topic(), b"x", retain=True)
    c.cut()
    subscriber(t, v).expect(publish(v, t.topic(), b"x", retain=True))


@tests("[MQTT-3.3.1-9] wildcards find every retained message they match and no other", ALL)
def _(t, v):
    sender = t.connect(v)
    names = ["a", "a/b", "a/c", "a/b/c", "b/c", "", "/", "a//", "a/b/"]
    for name in names:
        sender.publish(t.topic(name), name.encode() + b"!", retain=True)
    for pattern, wanted in (
            ("#", names), ("+", ["a", ""]), ("+/c", ["a/c", "b/c"]), ("a/+", ["a/b", "a/c"]),
            ("a/#", ["a", "a/b", "a/c", "a/b/c", "a//", "a/b/"]),
            ("+/+", ["a/b", "a/c", "b/c", "/"]), ("a/+/+", ["a/b/c", "a//", "a/b/"]),
            ("a/b/", ["a/b/"]), ("a/b/#", ["a/b", "a/b/c", "a/b/"])):
        c = subscriber(t, v, t.topic(pattern))
        got = [Message(raw, v) for raw in c.collect()]
        if sorted(m.topic for m in got) != sorted(t.topic(name) for name in wanted) or \
                not all(m.retain and m.payload for m in got):
            raise Failure("%s: got %s, expected %s" %
     (pattern, sorted(m.topic for m in got), sorted(wanted)))
        c.disconnect()


@tests("1000 retained messages come through one wildcard subscription", ALL)
def _(t, v):
    sender = t.connect(v)
    sender.send(*[publish(v, t.topic("%d/x" % n), b"%d" % n, retain=True) for n in range(1000)])
    sender.ping()
    c = t.connect(v)
    c.subscribe((t.topic("+/x"), 0))
    got = sorted(int(Message(raw, v).payload) for raw in c.collect())
    if got != list(range(1000)):
        raise Failure("%d came" % len(got))
    sender.send(*[publish(v, t.topic("%d/x" % n), b"", retain=True) for n in range(1000)])
    sender.ping()
    subscriber(t, v, t.topic("#")).ping()


@tests("retained messages pass between versions", ALL)
def _(t, v):
    t.connect(v).publish(t.topic(), b"x", qos=1, retain=True)
    for other in ALL:
        subscriber(t, other).expect(publish(other, t.topic(), b"x", 1, 1, retain=True))


@tests("[MQTT-3.3.2-18] a retained message keeps its properties", V5)
def _(t, v):
    items = [("content_type", "a/b"), ("user", ("k", "1")), ("user", ("k", "2"))]
    t.connect(v).publish(t.topic(), b"x", retain=True, items=items)
    c = t.connect(v)
    c.subscribe(t.topic(), subscription_id=9)
    c.expect(publish(v, t.topic(), b"x", retain=True, items=items + [("subscription_id", 9)]))


@tests("section 3.3.2.3.3: a retained message expires", V5)
def _(t, v):
    sender = t.connect(v)
    sender.publish(t.topic("short"), b"x", retain=True, message_expiry=1)
    sender.publish(t.topic("long"), b"x", retain=True, message_expiry=100)
    time.sleep(2.3)
    c = subscriber(t, v, t.topic("#"))
    message = c.message()
    if message.topic != t.topic("long") or message.value("message_expiry") not in (96, 97, 98):
        raise Failure("got %s %s" % (message.topic, message.items))
    c.ping()


# --- properties ----------------------------------------------------------------------------------


@tests("[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-20] "
       "properties are forwarded unchanged", V5)
def _(t, v):
    c, sender = subscriber(t, v), t.connect(v)
    for name, value in (("payload_format", 0), ("payload_format", 1), ("content_type", "text/ü"),
                        ("content_type", ""), ("response_topic", "answer/here"),
                        ("correlation_data", b"\0\1\xff"), ("correlation_data", b""),
                        ("user", ("k", "v")), ("user", ("", ""))):
        sender.publish(t.topic(), b"x", items=[(name, value)])
        c.expect(publish(v, t.topic(), b"x", items=[(name, value)]))


@tests("[MQTT-3.3.2-17] [MQTT-3.3.2-18] user properties and the rest keep the order received", V5)
def _(t, v):
    c, sender = subscriber(t, v), t.connect(v)
    items = [("user", ("b", "1")), ("content_type", "x"), ("user", ("a", "2")),
             ("correlation_data", b"id"), ("user", ("b", "1")), ("response_topic", "r"),
             ("payload_format", 1), ("user", ("b", "3"))]
    for qos in (0, 1, 2):
        sender.publish(t.topic(), b"x", qos=qos, items=items)
        c.expect(publish(v, t.topic(), b"x", qos, qos, items=items))


@tests("[MQTT-3.3.2-15] request and response find each other", V5)
def _(t, v):
    asker, answerer = subscriber(t, v, t.topic("answer")), subscriber(t, v, t.topic("ask"))
    asker.publish(
    t.topic("ask"),
    b"?",
    qos=1,
    response_topic=t.topic("answer"),
     correlation_data=b"\x01\x02")
    question = answerer.message()
    answerer.publish(question.value("response_topic"), b"!", qos=1,
                     correlation_data=question.value("correlation_data"))
    asker.expect(publish(v, t.topic("answer"), b"!", 1, 1, correlation_data=b"\x01\x02"))


@tests("properties do not reach older versions, and those send none", V34)
def _(t, v):
    old, new = subscriber(t, v), subscriber(t, 5)
    t.connect(5).publish(t.topic(), b"x", qos=1, content_type="a", items=[("user", ("k", "v"))])
    old.expect(publish(v, t.topic(), b"x", 1, 1))
    new.message()
    t.connect(v).publish(t.topic(), b"y", qos=1)
    new.expect(publish(5, t.topic(), b"y", 1, 2))


@tests("100 user properties of 1 KB pass", V5)
def _(t, v):
    items = [("user", ("k%d" % n, "v" * 1000)) for n in range(100)]
    c = subscriber(t, v)
    t.connect(v).publish(t.topic(), b"x", qos=1, items=items)
    c.expect(publish(v, t.topic(), b"x", 1, 1, items=items))


@tests("[MQTT-3.3.2-6] "
       "message expiry is forwarded at once unchanged, later less the time waited", V5)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    sender = t.connect(v)
    items = [("user", ("k", "v")), ("content_type", "x")]
    sender.publish(t.topic(), b"now", qos=1, message_expiry=100, items=items[:1])
    # Mosquitto's order: what was received, then the expiry
    c.expect(publish(v, t.topic(), b"now", 1, 1, items=items[:1] + [("message_expiry", 100)]))
    c.send(puback(1))
    c.ping()
    c.cut()
    sender.publish(t.topic(), b"later", qos=1, message_expiry=100)
    time.sleep(2.2)
    c = t.connect(v, "c", present=True, **stay(v))
    left = c.message().value("message_expiry")
    if left not in (96, 97, 98):
        raise Failure("expiry %s after 2.2 s" % left)


@tests("[MQTT-3.3.2-5] an expired message is not delivered", V5)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    c.cut()
    sender = t.connect(v)
    sender.publish(t.topic(), b"short", qos=1, message_expiry=1)
    sender.publish(t.topic(), b"short", qos=2, message_expiry=1)
    sender.publish(t.topic(), b"long", qos=1)
    time.sleep(2.4)
    c = t.connect(v, "c", present=True, **stay(v))
    message = c.message()
    if message.payload != b"long":
        raise Failure("got %r" % message.payload)
    c.ping()


@tests("[MQTT-4.3.3-7] [MQTT-4.3.3-13] expiry does not stop a handshake that has started", V5)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    t.connect(v).publish(t.topic(), b"x", qos=2, message_expiry=1)
    c.expect(publish(v, t.topic(), b"x", 2, 1, message_expiry=1))
    time.sleep(2.3)
    c.send(pubrec(1))
    c.expect(pubrel(1))
    c.send(pubcomp(1))
    c.ping()


# --- topic aliases -------------------------------------------------------------------------------


@tests("[MQTT-3.3.2-12] every alias 1 to 10 is accepted, used and redefined", V5)
def _(t, v):
    c, sender = subscriber(t, v, t.topic("#")), t.connect(v)
    for alias in range(1, 11):
        sender.send(publish(v, t.topic("%d" % alias), b"set", topic_alias=alias))
        c.expect(publish(v, t.topic("%d" % alias), b"set"))
    for alias in range(1, 11):
        sender.send(publish(v, "", b"use", topic_alias=alias))
        c.expect(publish(v, t.topic("%d" % alias), b"use"))
    sender.send(
    publish(
        v,
        t.topic("new"),
        b"reset",
        topic_alias=1) +
        publish(
            v,
            "",
            b"again",
             topic_alias=1))
    c.expect(publish(v, t.topic("new"), b"reset"), publish(v, t.topic("new"), b"again"))


@tests("[MQTT-3.3.2-12] aliases work at QoS 1 and 2 and with retain", V5)
def _(t, v):
    c, sender = subscriber(t, v), t.connect(v)
    sender.publish(t.topic(), b"1", qos=1, topic_alias=3)
    sender.publish("", b"2", qos=2, topic_alias=3, retain=True)
    c.expect(publish(v, t.topic(), b"1", 1, 1), publish(v, t.topic(), b"2", 2, 2))
    subscriber(t, v).expect(publish(v, t.topic(), b"2", 2, 1, retain=True))


@tests("[MQTT-3.3.2-7] aliases end with the connection, also when the session goes on", V5)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.publish(t.topic(), b"x", topic_alias=1)
    c.cut()
    c = t.connect(v, "c", present=True, **stay(v))
    c.send(publish(v, "", b"x", topic_alias=1))
    c.expect_error(0x82)


@tests("[MQTT-3.3.2-7] aliases of one connection mean nothing on another", V5)
def _(t, v):
    watch, one, two = subscriber(t, v, t.topic("#")), t.connect(v), t.connect(v)
    one.publish(t.topic("one"), b"", topic_alias=1)
    two.publish(t.topic("two"), b"", topic_alias=1)
    one.publish("", b"1", topic_alias=1)
    two.publish("", b"2", topic_alias=1)
    watch.expect(
    publish(
        v, t.topic("one")), publish(
            v, t.topic("two")), publish(
                v, t.topic("one"), b"1"), publish(
                    v, t.topic("two"), b"2"))


@tests("[MQTT-3.1.2-26] [MQTT-3.3.2-11] "
       "aliases to a client stay within its maximum and resolve", V5)
def _(t, v):
    c = t.connect(v, props={"topic_alias_maximum": 2})
    c.subscribe((t.topic("#"), 0))
    sender = t.connect(v)
    topics = [t.topic(name) for name in "ababcdcabd" * 3]
    aliases, used = {}, 0
    for topic in topics:
        sender.send(publish(v, topic, b"x"))
        message = c.message()
        alias = message.value("topic_alias")
        if alias is not None:
            if not 1 <= alias <= 2:
                raise Failure("alias %d" % alias)
            used += 1
            if message.topic:
                aliases[alias] = message.topic
        resolved = message.topic or aliases.get(alias)
        if resolved != topic:
            raise Failure("got topic %r alias %s for %s" % (message.topic, alias, topic))
    if used == 0:
        raise Failure("no alias was used")


@tests("aliases are given to the first topics in order, as Mosquitto does [CONVENTIONS]", V5)
def _(t, v):
    c = t.connect(v, props={"topic_alias_maximum": 2})
    c.subscribe((t.topic("#"), 0), subscription_id=7)
    sender = t.connect(v)
    for topic, sent, alias in (("a", "a", 1), ("a", "", 1), ("b", "b", 2),
                               ("c", "c", None), ("b", "", 2)):
        sender.send(
    publish(
        v, t.topic(topic), b"x", message_expiry=50, items=[
            ("user", ("k", "v"))]))
        items = [("user", ("k", "v")), ("message_expiry", 50)]
        items += [("topic_alias", alias)] if alias else []
        c.expect(publish(v, t.topic(sent) if sent else "",
                 b"x", items=items + [("subscription_id", 7)]))


@tests("[MQTT-3.1.2-27] without a maximum a client gets no aliases", V5)
def _(t, v):
    for props in ({}, {"topic_alias_maximum": 0}):
        c = t.connect(v, props=props)
        c.subscribe((t.topic(), 0))
        t.connect(v).publish(t.topic(), b"x")
        c.expect(publish(v, t.topic(), b"x"))


@tests("[MQTT-3.3.2-7] a resent message carries its whole topic", V5)
def _(t, v):
    options = {"clean": False, "props": {"topic_alias_maximum": 5, "session_expiry": 300}}
    c = t.connect(v, "c", **options)
    c.subscribe((t.topic(), 1))
    sender = t.connect(v)
    for number in (1, 2):
        sender.publish(t.topic(), b"%d" % number, qos=1)
        c.message()
    c.cut()
    c = t.connect(v, "c", present=True, **options)
    first, second = c.message(), c.message()
    if not (first.dup and second.dup and first.topic == t.topic()):
        raise Failure("first %r, second %r" % (first.topic, second.topic))
    if second.topic != t.topic() and second.value("topic_alias") != first.value("topic_alias"):
        raise Failure("second message has no topic")
