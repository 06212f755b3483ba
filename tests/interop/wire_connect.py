"""CONNECT and CONNACK, announced limits, sessions and their expiry, takeover, keep alive."""

import re
import time

from broker import Failure, Tests
from wire import (ALL, V5, V34, V45, PING, PONG, Message, connack, connect, disconnect, puback,
                  pubcomp, publish, pubrec, pubrel, read_properties, show, suback, subscribe,
                  unsuback, unsubscribe, will)
from wire_malformed import DEFAULT_CONNACK

tests = Tests()
register = tests.register


def stay(v, seconds=300):
    """CONNECT options for a session that outlives the connection."""
    options = {"clean": False}
    if v == 5:
        options["props"] = {"session_expiry": seconds}
    return options


def connack_properties(client):
    return read_properties(client.connack[5:])


# --- CONNACK -------------------------------------------------------------------------------------


@tests("[MQTT-3.1.4-5] [3.1.1 MQTT-3.1.4-4] success is answered with CONNACK 0", ALL)
def _(t, v):
    c = t.open(v)
    c.send(connect(v, t.id()))
    c.expect(DEFAULT_CONNACK if v == 5 else connack(v))
    c.ping()


@tests("[MQTT-3.2.2-1] [MQTT-3.2.2-3] [3.1.1 MQTT-3.2.2-2] "
       "session present is 1 on resume, byte for byte", ALL)
def _(t, v):
    t.connect(v, "c", **stay(v)).disconnect()
    c = t.open(v)
    c.send(connect(v, t.id("c"), **stay(v)))
    expected = DEFAULT_CONNACK if v == 5 else connack(v)
    if v != 3:  # 3.1 has no session-present bit
        expected = expected[:2] + b"\x01" + expected[3:]
    c.expect(expected)


@tests("[MQTT-3.2.2-2] [3.1.1 MQTT-3.2.2-1] clean start 1 gets session present 0", ALL)
def _(t, v):
    t.connect(v, "c", **stay(v)).disconnect()
    t.connect(v, "c", present=False, clean=True)


@tests("[MQTT-3.1.2-6] [3.1.1 MQTT-3.2.2-3] "
       "clean start 0 without a session gets session present 0", ALL)
def _(t, v):
    t.connect(v, "c", present=False, **stay(v))


@tests("[MQTT-3.2.2-16] [MQTT-3.1.3-7] an assigned client id is returned and usable", V5)
def _(t, v):
    ids = []
    for clean in (True, False, True):
        c = t.open(v)
        c.send(connect(v, "", clean=clean, props={"session_expiry": 60}))
        c.connack = c.packet()
        names = [name for name, _ in connack_properties(c)]
        if names != ["topic_alias_maximum", "assigned_id", "maximum_packet", "receive_maximum"]:
            raise Failure("CONNACK properties %s" % names)
        ids.append(dict(connack_properties(c))["assigned_id"])
        if not re.fullmatch(
            "auto-[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}", ids[-1]):
            raise Failure("assigned id %r" % ids[-1])
        c.disconnect()
    if len(set(ids)) != 3:
        raise Failure("assigned ids repeat: %s" % ids)
    again = t.open(v)
    again.send(connect(v, ids[0], clean=False))
    again.expect(DEFAULT_CONNACK[:2] + b"\x01" + DEFAULT_CONNACK[3:])


@tests("[MQTT-3.1.3-6] two clients with empty ids do not take each other over", V45)
def _(t, v):
    first, second = t.open(v), t.open(v)
    for c in (first, second):
        c.send(connect(v, ""))
        if c.packet()[2:4] != b"\0\0":
            raise Failure("refused")
    first.ping()
    second.ping()


@tests("[MQTT-3.1.2-28] without request response information none is returned", V5)
def _(t, v):
    for props in ({}, {"request_response": 0}):
        c = t.connect(v, props=props)
        if "response_information" in dict(connack_properties(c)):
            raise Failure("response information came unasked")


@tests("[MQTT-4.12.0-6] CONNACK has no authentication method when CONNECT had none", V5)
def _(t, v):
    if "auth_method" in dict(connack_properties(t.connect(v))):
        raise Failure("authentication method came unasked")


@tests("[MQTT-3.1.3-2] client ids are case-sensitive", ALL)
def _(t, v):
    first = t.connect(v, "case", **stay(v))
    second = t.connect(v, "CASE", present=False, **stay(v))
    first.ping()
    second.ping()


@tests("[MQTT-3.1.3-5] a client id of 1000 bytes and of many scripts is accepted", V45)
def _(t, v):
    for name in ("x" * 1000, "Ä水🚀 /+#"):
        c = t.connect(v, name)
        c.ping()


@tests("[MQTT-3.1.4-6, MQTT-3.2.2-7] [3.1.1 MQTT-3.1.4-5, MQTT-3.2.2-4, MQTT-3.2.2-5] "
       "nothing is processed after a refused CONNECT", ALL)
def _(t, v):
    bad = {5: connect(5, t.id(), props={"auth_method": "no such"}), 4: connect(4, "", clean=False),
           3: connect(3, "")}[v]
    c = t.open(v)
    c.send(bad + publish(v, t.topic(), b"no", retain=True))
    c.expect({5: connack(5, 0x8C), 4: connack(4, 2), 3: connack(3, 2)}[v], b"")
    reader = t.connect(v)
    reader.subscribe(t.topic())
    reader.ping()


@tests("[MQTT-3.2.0-1, MQTT-3.2.0-2] [3.1.1 MQTT-3.2.0-1] "
       "CONNECT, SUBSCRIBE, PUBLISH and PINGREQ in one write are answered in order", ALL)
def _(t, v):
    c = t.open(v)
    c.send(connect(v, t.id()) + subscribe(v, 9, (t.topic(), 0)) +
           publish(v, t.topic(), b"x") + PING)
    c.expect(
    DEFAULT_CONNACK if v == 5 else connack(v), suback(
        v, 9, 0), publish(
            v, t.topic(), b"x"), PONG)


@tests("[MQTT-4.2.0-1] the same conversation works byte by byte", ALL)
def _(t, v):
    c = t.open(v)
    c.send_slowly(connect(v, t.id(), will=will("w", b"m"), username="u", password="p") +
                  subscribe(v, 9, (t.topic(), 1)) + PING)
    c.expect(DEFAULT_CONNACK if v == 5 else connack(v), suback(v, 9, 1), PONG)
    other = t.connect(v)
    other.send_slowly(publish(v, t.topic(), b"payload", qos=1, id=5))
    other.expect(puback(5))
    c.expect(publish(v, t.topic(), b"payload", qos=1, id=1))
    c.send_slowly(puback(1) + PING)
    c.expect(PONG)


@tests("[MQTT-3.14.4-1] [3.1.1 MQTT-3.14.4-2] what follows DISCONNECT is not processed", ALL)
def _(t, v):
    c = t.connect(v)
    c.send(disconnect(v) + publish(v, t.topic(), b"late", retain=True))
    c.expect_close()
    reader = t.connect(v)
    reader.subscribe(t.topic())
    reader.ping()


@tests("a client may end its sending side after DISCONNECT; pending answers come first", ALL)
def _(t, v):
    c = t.connect(v)
    c.send(publish(v, t.topic(), b"x", qos=1, id=1, retain=True) + disconnect(v))
    c.half_close()
    got = c.packet()
    if got[:1] != b"\x40":
        raise Failure("got %s, expected PUBACK" % show(got))
    c.expect_close()


# --- limits announced in CONNACK -----------------------------------------------------------------


@tests("[MQTT-3.2.2-9] "
       "maximum QoS is announced, enforced and still lets everybody subscribe", (0, 1))
def _(t, limit):
    t.use("max_qos %d" % limit)
    c = t.connect(5)
    if dict(connack_properties(c)).get("maximum_qos") != limit:
        raise Failure("CONNACK properties %s" % connack_properties(c))
    c.send(subscribe(5, 1, (t.topic(), 2)))  # [MQTT-3.2.2-10]
    c.expect(suback(5, 1, limit))
    c.send(publish(5, t.topic(), b"x", qos=limit + 1, id=1))  # [MQTT-3.2.2-11]
    c.expect_error(0x9B)
    refused = t.open(5)  # [MQTT-3.2.2-12]
    refused.send(connect(5, t.id("w"), will=will(t.topic(), b"", qos=limit + 1)))
    got = refused.packet()
    if got[2:4] != b"\0\x9b":
        raise Failure("got %s, expected CONNACK 0x9B" % show(got))
    refused.expect_close()
    old = t.connect(4)
    old.send(subscribe(4, 1, (t.topic(), 2)))
    old.expect(suback(4, 1, limit))
    old.send(publish(4, t.topic(), b"x", qos=2, id=1))
    old.expect_close()


@tests("[MQTT-3.2.2-13] [MQTT-3.2.2-14] "
       "without retain support retained messages and wills are refused")
def _(t):
    t.use("retain_available false")
    c = t.connect(5)
    if dict(connack_properties(c)).get("retain_available") != 0:
        raise Failure("CONNACK properties %s" % connack_properties(c))
    c.send(publish(5, t.topic(), b"x", retain=True))
    c.expect_error(0x9A)
    c = t.open(5)
    c.send(connect(5, t.id("w"), will=will(t.topic(), b"", retain=True)))
    c.expect(connack(5, 0x9A), b"")


@tests("[MQTT-3.1.2-21] [MQTT-3.2.2-21] "
       "a keep alive above the limit is answered with Server Keep Alive")
def _(t):
    t.use("max_keepalive 10")
    for asked, answer in ((11, 10), (65535, 10), (0, 10), (9, None)):
        got = dict(connack_properties(t.connect(5, keep_alive=asked))).get("server_keep_alive")
        if got != answer:
            raise Failure("keep alive %d: Server Keep Alive %s, expected %s" % (asked, got, answer))


@tests("[MQTT-3.1.3-8] [3.1.1 MQTT-3.1.3-9] "
       "an empty client id is refused when the configuration says so")
def _(t):
    t.use("allow_zero_length_clientid false")
    for v, answer in ((5, connack(5, 0x85)), (4, connack(4, 2))):
        c = t.open(v)
        c.send(connect(v, ""))
        c.expect(answer, b"")  # Mosquitto answers v5 with 0x80


@tests("[MQTT-3.1.2-29, MQTT-3.4.2-2, MQTT-3.4.2-3, MQTT-3.6.2-2, MQTT-3.6.2-3, MQTT-3.7.2-2, "
       "MQTT-3.7.2-3, MQTT-3.9.2-1, MQTT-3.9.2-2, MQTT-3.11.2-1, MQTT-3.11.2-2, MQTT-3.14.2-3, "
       "MQTT-3.14.2-4] no reason string or user property where unwanted or too large", V5)
def _(t, v):
    for props in ({"request_problem": 0}, {"maximum_packet": 16}):  # CONNACK has 16 bytes
        c = t.connect(v, props=props)
        c.send(publish(v, t.topic("x"), b"x", 1, 1))
        c.expect(puback(1, 0x10))
        c.send(pubrec(7) + pubrel(8) + subscribe(v, 9, ("$share/g/" + t.topic(), 1)))
        c.expect(pubrel(7, 0x92), pubcomp(8, 0x92), suback(v, 9, 1))
        c.send(unsubscribe(v, 10, "none"))
        c.expect(unsuback(v, 10, 0x11))
        c.send(b"\x36\x00")
        c.expect_error(0x81)


@tests("[MQTT-3.2.2-19, MQTT-3.2.2-20] a refusing CONNACK fits the client's maximum", V5)
def _(t, v):
    c = t.open(v)
    c.send(connect(v, t.id(), props={"maximum_packet": 5, "auth_method": "no such"}))
    c.expect(connack(v, 0x8C), b"")


# --- sessions ------------------------------------------------------------------------------------


@tests("[MQTT-3.1.2-5] [3.1.1 MQTT-3.1.2-4, MQTT-3.1.2-5] "
       "subscriptions and QoS 1 and 2 messages wait for the session", ALL)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe((t.topic(), 2))
    c.disconnect()
    sender = t.connect(v)
    for number, qos in enumerate((1, 2, 1, 2), 1):
        sender.publish(t.topic(), b"m%d" % number, qos=qos, id=number)
    c = t.connect(v, "c", present=True, **stay(v))
    for number, qos in enumerate((1, 2, 1, 2), 1):
        c.expect(publish(v, t.topic(), b"m%d" % number, qos=qos, id=number))
    for number in (1, 3):
        c.send(puback(number))
    for number in (2, 4):
        c.send(pubrec(number))
        c.expect(pubrel(number))
        c.send(pubcomp(number))
    c.ping()
    sender.publish(t.topic(), b"live", qos=1, id=9)
    c.expect(publish(v, t.topic(), b"live", qos=1, id=5))


@tests("QoS 0 messages are not kept for a client that is away, by default", ALL)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    c.cut()
    sender = t.connect(v)
    sender.publish(t.topic(), b"zero")
    sender.publish(t.topic(), b"one", qos=1)
    c = t.connect(v, "c", present=True, **stay(v))
    c.expect(publish(v, t.topic(), b"one", qos=1, id=1))


@tests("queue_qos0_messages keeps QoS 0 messages for a client that is away", ALL)
def _(t, v):
    t.use("queue_qos0_messages true")
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    c.cut()
    t.connect(v).publish(t.topic(), b"zero")
    c = t.connect(v, "c", present=True, **stay(v))
    c.expect(publish(v, t.topic(), b"zero"))


@tests("[MQTT-3.1.2-4] [3.1.1 MQTT-3.1.2-6] clean start 1 drops subscriptions and messages", ALL)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    c.cut()
    sender = t.connect(v)
    sender.publish(t.topic(), b"lost", qos=1)
    c = t.connect(v, "c", clean=True)
    sender.publish(t.topic(), b"lost too", qos=1)
    c.ping()
    c.disconnect()
    t.connect(v, "c", present=False, **stay(v)).ping()


@tests("[3.1.1 MQTT-3.1.2-6] a clean session ends with its connection", V34)
def _(t, v):
    t.connect(v, "c", clean=True).cut()
    t.connect(v, "c", present=False, clean=False)


@tests("[MQTT-4.1.0-2] without session expiry the session ends with the connection", V5)
def _(t, v):
    for props in ({}, {"session_expiry": 0}):
        t.connect(v, "c", clean=False, props=props).cut()
    t.connect(v, "c", present=False, clean=False)


@tests("[MQTT-3.1.2-23] a session with clean start 1 and expiry outlives the connection", V5)
def _(t, v):
    c = t.connect(v, "c", clean=True, props={"session_expiry": 300})
    c.subscribe(t.topic())
    c.disconnect()
    t.connect(v).publish(t.topic(), b"x", qos=1)
    c = t.connect(v, "c", present=True, clean=False)
    c.expect(publish(v, t.topic(), b"x", qos=1, id=1))


@tests("[MQTT-4.1.0-2] a session ends when its expiry has passed", V5)
def _(t, v):
    t.connect(v, "c", props={"session_expiry": 1}).cut()
    t.connect(v, "d", props={"session_expiry": 1}).disconnect()
    t.connect(v, "e", props={"session_expiry": 0xFFFFFFFF}).disconnect()
    time.sleep(2.6)
    t.connect(v, "c", present=False, clean=False)
    t.connect(v, "d", present=False, clean=False)
    t.connect(v, "e", present=True, clean=False)


@tests("[MQTT-3.1.2-23] a session is there before its expiry has passed", V5)
def _(t, v):
    t.connect(v, "c", props={"session_expiry": 30}).cut()
    time.sleep(1.2)
    t.connect(v, "c", present=True, clean=False)


@tests("section 3.14.2.2.2: DISCONNECT can end the session at once", V5)
def _(t, v):
    t.connect(v, "c", props={"session_expiry": 300}).disconnect(session_expiry=0)
    t.connect(v, "c", present=False, clean=False)


@tests("section 3.14.2.2.2: DISCONNECT can prolong the session", V5)
def _(t, v):
    t.connect(v, "c", props={"session_expiry": 1}).disconnect(session_expiry=300)
    time.sleep(2.6)
    t.connect(v, "c", present=True, clean=False)


@tests("section 3.1.2.11.2: the expiry of the last CONNECT counts", V5)
def _(t, v):
    t.connect(v, "c", props={"session_expiry": 300}).cut()
    t.connect(v, "c", present=True, clean=False).cut()  # now 0
    t.connect(v, "c", present=False, clean=False)


@tests("a session started by one version goes on in another", V45)
def _(t, v):
    other = 9 - v
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    c.disconnect()
    t.connect(v).publish(t.topic(), b"x", qos=1)
    c = t.connect(other, "c", present=True, **stay(other))
    c.expect(publish(other, t.topic(), b"x", qos=1, id=1))


@tests("[MQTT-4.1.0-1] [3.1.1 MQTT-4.1.0-2] "
       "a session survives many reconnects and keeps counting packet ids", ALL)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    sender = t.connect(v)
    for number in range(1, 8):
        c.cut()
        sender.publish(t.topic(), b"%d" % number, qos=1, id=number)
        c = t.connect(v, "c", present=True, **stay(v))
        c.expect(publish(v, t.topic(), b"%d" % number, qos=1, id=number))
        c.send(puback(number))
        c.ping()


@tests("[MQTT-3.3.1-1] "
       "max_queued_messages keeps the oldest and drops the newest for that session", ALL)
def _(t, v):
    t.use("max_queued_messages 5")
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic())
    c.cut()
    sender = t.connect(v)
    for number in range(60):
        sender.publish(t.topic(), b"%d" % number, qos=1, id=number + 1)
    c = t.connect(v, "c", present=True, **stay(v))
    got = []
    while True:
        packets = c.collect()
        if not packets:
            break
        for raw in packets:
            message = Message(raw, v)
            got.append(int(message.payload))
            c.send(puback(message.id))
    if got != list(range(len(got))) or not 5 <= len(got) <= 30:
        raise Failure("got %s" % got)


# --- takeover ------------------------------------------------------------------------------------


@tests("[MQTT-3.1.4-3] [3.1.1 MQTT-3.1.4-2] a second connection with the id ends the first", ALL)
def _(t, v):
    first = t.connect(v, "c")
    second = t.connect(v, "c")
    first.expect_error(0x8E)
    second.ping()


@tests("[MQTT-3.1.4-3] takeover works between versions", ALL)
def _(t, v):
    for other in ALL:
        first = t.connect(v, "c%d" % other)
        second = t.connect(other, "c%d" % other)
        first.expect_error(0x8E)
        second.ping()


@tests("[MQTT-3.1.2-5] takeover with clean start 0 keeps the session", ALL)
def _(t, v):
    first = t.connect(v, "c", **stay(v))
    first.subscribe(t.topic())
    sender = t.connect(v)
    sender.publish(t.topic(), b"open", qos=1, id=1)
    first.expect(publish(v, t.topic(), b"open", qos=1, id=1))
    second = t.connect(v, "c", present=True, **stay(v))
    first.expect_error(0x8E)
    second.expect(publish(v, t.topic(), b"open", qos=1, id=1, dup=True))
    sender.publish(t.topic(), b"next", qos=1, id=2)
    second.expect(publish(v, t.topic(), b"next", qos=1, id=2))


@tests("[MQTT-3.1.4-4] [3.1.1 MQTT-3.1.4-3] takeover with clean start 1 drops the session", ALL)
def _(t, v):
    first = t.connect(v, "c", **stay(v))
    first.subscribe(t.topic())
    second = t.connect(v, "c", clean=True)
    first.expect_error(0x8E)
    t.connect(v).publish(t.topic(), b"x", qos=1)
    second.ping()


@tests("[MQTT-3.1.4-3] takeover of a v5 connection without expiry still finds its live session", V5)
def _(t, v):
    first = t.connect(v, "c")
    first.subscribe(t.topic())
    # The session is alive while its connection is; section 3.1.2.4 then asks to continue it.
    second = t.open(v)
    second.send(connect(v, t.id("c"), clean=False))
    present = second.packet()[2]
    first.expect_error(0x8E)
    t.connect(v).publish(t.topic(), b"x", qos=1)
    if present:
        second.expect(publish(v, t.topic(), b"x", qos=1, id=1))
    else:
        second.ping()


@tests("many takeovers in a row leave one connection", ALL)
def _(t, v):
    clients = [t.connect(v, "c") for _ in range(30)]
    for c in clients[:-1]:
        c.expect_error(0x8E)
    clients[-1].ping()


# --- keep alive ----------------------------------------------------------------------------------


@tests("[MQTT-3.1.2-22, MQTT-3.2.2-22] [3.1.1 MQTT-3.1.2-24] "
       "silence of 1.5 keep alives ends the connection", ALL)
def _(t, v):
    c = t.connect(v, keep_alive=1)
    start = time.monotonic()
    c.expect_error(0x8D)
    took = time.monotonic() - start
    if not 1.4 <= took <= 4.5:
        raise Failure("closed after %.2f s" % took)


@tests("[MQTT-3.1.2-22] any packet keeps the connection alive", ALL)
def _(t, v):
    ping, qos0, qos1 = (t.connect(v, keep_alive=1) for _ in range(3))
    for _ in range(7):
        time.sleep(0.5)
        ping.ping()
        qos0.send(publish(v, t.topic(), b"x"))
        qos1.publish(t.topic(), b"x", qos=1)
    qos0.ping()


@tests("[MQTT-3.1.2-22] what the broker sends does not keep the connection alive", ALL)
def _(t, v):
    c = t.connect(v, keep_alive=1)
    c.subscribe(t.topic())
    sender = t.connect(v)
    for _ in range(40):
        sender.publish(t.topic(), b"x")
        got = c.packet()
        if got == b"" or got[0] == 0xE0:
            break
        time.sleep(0.1)
    else:
        raise Failure("still connected after 4 s")
    if v == 5 and got != disconnect(5, 0x8D):
        raise Failure("got %s, expected DISCONNECT 0x8D" % show(got))


@tests("section 3.1.2.10: keep alive 0 turns the timeout off", ALL)
def _(t, v):
    c = t.connect(v, keep_alive=0)
    time.sleep(3)
    c.ping()
