"""SUBSCRIBE and UNSUBSCRIBE, matching, subscription options and ids, shared subscriptions."""

from broker import Failure, Tests
from wire import (ALL, V5, PUBLISH, Message, puback, pubcomp, publish, pubrec, pubrel, show, suback,
                  subscribe, unsuback, unsubscribe)
from wire_connect import stay

tests = Tests()
register = tests.register

NO_LOCAL, RETAIN_AS_PUBLISHED, IF_NEW, NEVER = 4, 8, 16, 32


def payloads(c):
    """Payloads of all messages that have come by now."""
    return [Message(raw, c.v).payload for raw in c.collect() if raw[0] >> 4 == PUBLISH]


# --- matching ------------------------------------------------------------------------------------

TOPICS = [
    "a",
    "a/b",
    "a/b/c",
    "a/b/c/d",
    "b",
    "b/c",
    "/",
    "/a",
    "a/",
    "a//b",
    "//",
    "A",
    "A/b",
    "ab",
    "a b",
    "$x",
    "$x/a",
    "$x/a/b",
    "sport/tennis/player1",
    "sport/tennis/player1/ranking",
    "sport",
    "sport/",
    "/finance",
    "é",
    "e\u0301",
    "\ufeffa",
    "a/$x",
    "x",
     "long/" + "l/" * 50 + "e"]

FILTERS = [
    "#",
    "+",
    "a",
    "a/#",
    "a/+",
    "a/b",
    "a/+/c",
    "a/b/#",
    "+/b",
    "+/+",
    "+/b/#",
    "/+",
    "/#",
    "/",
    "//",
    "+/",
    "a/",
    "a//b",
    "a/+/b",
    "$x",
    "$x/#",
    "$x/+",
    "$x/+/b",
    "+/a",
    "+/a/b",
    "sport/tennis/player1/#",
    "sport/#",
    "sport/+",
    "+/tennis/#",
    "A/#",
    "é",
    "e\u0301",
    "\ufeffa",
    "a/$x",
    "a/b/c/d",
    "+/+/+",
    "+/+/+/+",
    "long/#",
    "ab",
    "a b",
    "b/#",
     "x"]


def matches(pattern, topic):
    """Section 4.7, written for reading."""
    if pattern[0] in "+#" and topic[0] == "$":
        return False
    pattern, topic = pattern.split("/"), topic.split("/")
    for index, level in enumerate(pattern):
        if level == "#":
            return True
        if index >= len(topic) or level not in ("+", topic[index]):
            return False
    return len(pattern) == len(topic)


def match_one(t, pattern, v):
    t.use("max_queued_messages 1001")  # a broker without the traffic of other tests
    reader, sender = t.connect(v), t.connect(v)
    tag = t.id().encode()
    reader.subscribe((pattern, 0))
    sender.send(*[publish(v, topic, tag) for topic in TOPICS])
    sender.ping()
    got = [message.topic for message in (Message(raw, v) for raw in reader.collect())
           if message.payload == tag]
    wanted = [topic for topic in TOPICS if matches(pattern, topic)]
    if sorted(got) != sorted(wanted):
        raise Failure("got %s, expected %s" % (sorted(got), sorted(wanted)))


for position, text in enumerate(FILTERS):
    versions = ALL if position < 12 else (ALL[position % 3],)

    @tests("[MQTT-4.7.1-1] [MQTT-4.7.2-1] [MQTT-4.7.3-4] [MQTT-3.3.2-3] "
           "filter %r matches what it should"
           % text, versions)
    def _(t, v, text=text):
        match_one(t, text, v)


@tests("[MQTT-4.7.2-1] retained $ topics do not come for # and +", ALL)
def _(t, v):
    t.use("max_queued_messages 1002")
    sender = t.connect(v)
    sender.publish("$kept/a%d" % v, b"x", retain=True)
    for pattern in ("#", "+/a%d" % v, "+/#"):
        c = t.connect(v)
        c.subscribe((pattern, 0))
        if b"x" in payloads(c):
            raise Failure("came for " + pattern)
    c = t.connect(v)
    c.subscribe(("$kept/+", 0))
    if b"x" not in payloads(c):
        raise Failure("did not come for $kept/+")
    c = t.connect(v)
    c.subscribe(("$kept/a%d" % v, 0))
    c.expect(publish(v, "$kept/a%d" % v, b"x", retain=True))


# --- SUBSCRIBE -----------------------------------------------------------------------------------


@tests("[MQTT-3.8.4-1, MQTT-3.8.4-5, MQTT-3.8.4-6, MQTT-3.8.4-7, MQTT-3.9.3-1] "
       "[3.1.1 MQTT-3.8.4-1, MQTT-3.8.4-4, MQTT-3.8.4-5, MQTT-3.8.4-6, MQTT-3.9.3-2] "
       "300 filters in one SUBSCRIBE get 300 codes in order", ALL)
def _(t, v):
    c = t.connect(v)
    filters = [(t.topic("%d" % n), n % 3) for n in range(300)]
    c.subscribe(*filters)
    sender = t.connect(v)
    for n in (0, 1, 2, 150, 299):
        sender.publish(t.topic("%d" % n), b"%d" % n)
        c.expect(publish(v, t.topic("%d" % n), b"%d" % n))


@tests("[MQTT-3.8.4-3] the same filter again replaces the subscription", ALL)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)
    for qos in (2, 0, 1):
        c.subscribe((t.topic(), qos))
        sender.publish(t.topic(), b"x", qos=2)
        message = c.message()
        if message.qos != qos:
            raise Failure("QoS %d after subscribing with %d" % (message.qos, qos))
        if qos == 2:
            c.send(pubrec(message.id))
            c.expect(pubrel(message.id))
            c.send(pubcomp(message.id))
        if qos == 1:
            c.send(puback(message.id))
        c.ping()


@tests("[MQTT-3.8.4-3] the same filter twice in one SUBSCRIBE is one subscription", ALL)
def _(t, v):
    c = t.connect(v)
    c.subscribe((t.topic(), 0), (t.topic(), 1))
    t.connect(v).publish(t.topic(), b"x", qos=2)
    c.expect(publish(v, t.topic(), b"x", 1, 1))
    c.ping()


@tests("[MQTT-3.8.4-4] [3.1.1 MQTT-3.8.4-3] subscribing again resends retained messages", ALL)
def _(t, v):
    t.connect(v).publish(t.topic(), b"x", retain=True)
    c = t.connect(v)
    for _ in range(3):
        c.subscribe(t.topic())
        c.expect(publish(v, t.topic(), b"x", retain=True))


@tests("[MQTT-3.8.4-4] replacing a subscription loses no message", ALL)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)
    c.subscribe((t.topic(), 1))
    for number in range(1, 21):
        sender.publish(t.topic(), b"%d" % number, qos=1)
        c.send(subscribe(v, 7, (t.topic(), 1)))
        got = sorted([c.packet(), c.packet()])
        if got != sorted([publish(v, t.topic(), b"%d" % number, 1, number), suback(v, 7, 1)]):
            raise Failure("got %s" % [show(raw) for raw in got])
        c.send(puback(number))


@tests("[MQTT-3.3.4-2] [3.1.1 MQTT-3.3.5-1] "
       "overlapping subscriptions give one copy at the highest QoS", ALL)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)  # v5 may send more; CONVENTIONS says one
    c.subscribe((t.topic("#"), 1), (t.topic("a/+"), 2), (t.topic("a/b"), 0), (t.topic("+/b"), 1))
    sender.publish(t.topic("a/b"), b"2", qos=2)
    c.expect(publish(v, t.topic("a/b"), b"2", 2, 1))
    sender.publish(t.topic("a/b"), b"1", qos=1)
    c.expect(publish(v, t.topic("a/b"), b"1", 1, 2))
    sender.publish(t.topic("a/b"), b"0", qos=0)
    c.expect(publish(v, t.topic("a/b"), b"0"))
    c.ping()


@tests("a client receives what it publishes itself", ALL)
def _(t, v):
    c = t.connect(v)
    c.subscribe((t.topic(), 0))
    c.send(publish(v, t.topic(), b"own"))
    c.expect(publish(v, t.topic(), b"own"))


# --- UNSUBSCRIBE ---------------------------------------------------------------------------------


@tests("[MQTT-3.10.4-4] [MQTT-3.10.4-2] UNSUBSCRIBE is answered and ends the flow", ALL)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)
    c.subscribe(t.topic())
    sender.publish(t.topic(), b"before")
    c.expect(publish(v, t.topic(), b"before"))
    c.send(unsubscribe(v, 0x4321, t.topic()))
    c.expect(unsuback(v, 0x4321, 0))
    sender.publish(t.topic(), b"after", qos=1)
    c.ping()


@tests("[MQTT-3.10.4-6] [MQTT-3.11.3-1] "
       "several filters get one UNSUBACK with codes in their order", ALL)
def _(t, v):
    c = t.connect(v)
    c.subscribe((t.topic("a"), 0), (t.topic("b"), 0))
    c.send(unsubscribe(v, 2, t.topic("none"), t.topic("a"), t.topic("a"), t.topic("b")))
    c.expect(unsuback(v, 2, 0x11, 0, 0x11, 0))


@tests("[MQTT-3.10.4-1] UNSUBSCRIBE compares filters byte for byte", ALL)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)
    c.subscribe((t.topic("a/+"), 0))
    c.send(unsubscribe(v, 2, t.topic("a/b"), t.topic("a/#"), t.topic("#"), t.topic("A/+")))
    c.expect(unsuback(v, 2, 0x11, 0x11, 0x11, 0x11))
    sender.publish(t.topic("a/b"), b"still")
    c.expect(publish(v, t.topic("a/b"), b"still"))


@tests("[MQTT-3.10.4-3] deliveries that were under way are finished after UNSUBSCRIBE", ALL)
def _(t, v):
    c, sender = t.connect(v, "c", **stay(v)), t.connect(v)
    c.subscribe(t.topic())
    sender.publish(t.topic(), b"1", qos=1, id=1)
    sender.publish(t.topic(), b"2", qos=2, id=2)
    c.expect(publish(v, t.topic(), b"1", 1, 1), publish(v, t.topic(), b"2", 2, 2))
    c.send(unsubscribe(v, 2, t.topic()))
    c.expect(unsuback(v, 2, 0))
    c.cut()
    c = t.connect(v, "c", present=True, **stay(v))
    c.expect(publish(v, t.topic(), b"1", 1, 1, dup=True),
             publish(v, t.topic(), b"2", 2, 2, dup=True))
    c.send(puback(1) + pubrec(2))
    c.expect(pubrel(2))
    c.send(pubcomp(2))
    c.ping()


@tests("[MQTT-3.10.4-2] one of two overlapping subscriptions goes, the other stays", ALL)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)
    c.subscribe((t.topic("a"), 0), (t.topic("+"), 1))
    c.send(unsubscribe(v, 2, t.topic("+")))
    c.expect(unsuback(v, 2, 0))
    sender.publish(t.topic("a"), b"x", qos=1)
    c.expect(publish(v, t.topic("a"), b"x"))
    c.ping()


@tests("[MQTT-3.10.4-1] a subscription removed while connected is not there after resume", ALL)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe(t.topic("a"), t.topic("b"))
    c.send(unsubscribe(v, 2, t.topic("a")))
    c.expect(unsuback(v, 2, 0))
    c.cut()
    sender = t.connect(v)
    sender.publish(t.topic("a"), b"a", qos=1)
    sender.publish(t.topic("b"), b"b", qos=1)
    c = t.connect(v, "c", present=True, **stay(v))
    if payloads(c) != [b"b"]:
        raise Failure("other messages than b came")


# --- options and ids of v5 -----------------------------------------------------------------------


@tests("[MQTT-3.8.3-3] no local: not to the publishing client, still to others", V5)
def _(t, v):
    c, other = t.connect(v), t.connect(v)
    c.subscribe((t.topic(), 1 | NO_LOCAL))
    other.subscribe((t.topic(), 1 | NO_LOCAL))
    c.publish(t.topic(), b"own", qos=1)
    other.expect(publish(v, t.topic(), b"own", 1, 1))
    other.send(puback(1))
    other.publish(t.topic(), b"other", qos=1)
    c.expect(publish(v, t.topic(), b"other", 1, 1))
    c.ping()
    other.ping()


@tests("[MQTT-3.8.3-3] "
       "no local holds for the client id, also after a reconnect and for queued messages", V5)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe((t.topic(), 1 | NO_LOCAL))
    c.cut()
    c = t.connect(v, "c", present=True, **stay(v))
    c.publish(t.topic(), b"own", qos=1)
    c.ping()


@tests("[MQTT-3.8.3-3] no local of one subscription leaves an overlapping one alone", V5)
def _(t, v):
    c = t.connect(v)
    c.subscribe((t.topic("a"), 2 | NO_LOCAL), id=1, subscription_id=1)
    c.subscribe((t.topic("#"), 0), id=2, subscription_id=2)
    c.send(publish(v, t.topic("a"), b"x"))
    c.expect(publish(v, t.topic("a"), b"x", subscription_id=2))
    c.ping()


@tests("[MQTT-3.8.3-3] no local holds for a retained message on its own subscription", V5)
def _(t, v):
    c = t.connect(v)
    c.publish(t.topic(), b"x", retain=True)
    c.subscribe((t.topic(), NO_LOCAL))
    got = payloads(c)
    if got not in ([], [b"x"]):  # the specification leaves it open; the connection must live
        raise Failure("got %s" % got)


@tests("[MQTT-3.3.1-13] [MQTT-3.3.1-12] retain as published keeps the retain flag", V5)
def _(t, v):
    c, plain, sender = t.connect(v), t.connect(v), t.connect(v)
    c.subscribe((t.topic(), 1 | RETAIN_AS_PUBLISHED))
    plain.subscribe((t.topic(), 1))
    sender.publish(t.topic(), b"1", qos=1, retain=True)
    c.expect(publish(v, t.topic(), b"1", 1, 1, retain=True))
    plain.expect(publish(v, t.topic(), b"1", 1, 1))
    sender.publish(t.topic(), b"2", qos=1)
    c.expect(publish(v, t.topic(), b"2", 1, 2))
    sender.publish(t.topic(), b"", qos=1, retain=True)
    c.expect(publish(v, t.topic(), b"", 1, 3, retain=True))


@tests("[MQTT-3.3.1-10] retain handling 1: only for a new subscription", V5)
def _(t, v):
    t.connect(v).publish(t.topic(), b"x", retain=True)
    c = t.connect(v)
    c.subscribe((t.topic(), 0 | IF_NEW))
    c.expect(publish(v, t.topic(), b"x", retain=True))
    c.subscribe((t.topic(), 0 | IF_NEW))
    c.ping()
    c.send(unsubscribe(v, 2, t.topic()))
    c.expect(unsuback(v, 2, 0))
    c.subscribe((t.topic(), 0 | IF_NEW))
    c.expect(publish(v, t.topic(), b"x", retain=True))


@tests("[MQTT-3.3.1-10] retain handling 1: a resumed subscription is not new", V5)
def _(t, v):
    t.connect(v).publish(t.topic(), b"x", retain=True)
    c = t.connect(v, "c", **stay(v))
    c.subscribe((t.topic(), IF_NEW))
    c.expect(publish(v, t.topic(), b"x", retain=True))
    c.cut()
    c = t.connect(v, "c", present=True, **stay(v))
    c.subscribe((t.topic(), IF_NEW))
    c.ping()


@tests("[MQTT-3.3.1-11] retain handling 2: never", V5)
def _(t, v):
    t.connect(v).publish(t.topic(), b"x", retain=True)
    c = t.connect(v)
    c.subscribe((t.topic(), NEVER))
    c.ping()
    t.connect(v).publish(t.topic(), b"live", retain=True)
    c.expect(publish(v, t.topic(), b"live"))


@tests("[MQTT-3.3.1-9] retain handling 0: also for an existing subscription", V5)
def _(t, v):
    t.connect(v).publish(t.topic(), b"x", retain=True)
    c = t.connect(v)
    c.subscribe((t.topic(), NEVER))
    c.subscribe((t.topic(), 0))
    c.expect(publish(v, t.topic(), b"x", retain=True))


@tests("[MQTT-3.3.4-3] a message carries its subscription's id", V5)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)
    for id in (1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455):
        c.subscribe((t.topic("%d" % id), 0), subscription_id=id)
        sender.publish(t.topic("%d" % id), b"x")
        c.expect(publish(v, t.topic("%d" % id), b"x", subscription_id=id))


@tests("[MQTT-3.3.4-4] one copy carries the ids of all matching subscriptions", V5)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)  # Mosquitto sends one copy for each
    for id, pattern in ((5, "a/b"), (300, "a/+"), (7, "#")):
        c.subscribe((t.topic(pattern), 1), subscription_id=id)
    c.subscribe((t.topic("+/b"), 2))  # matches without an id
    c.subscribe((t.topic("a/c"), 2), subscription_id=9)  # does not match
    sender.publish(t.topic("a/b"), b"x", qos=2, content_type="t")
    message = c.message()
    if sorted(message.values("subscription_id")) != [5, 7, 300] or message.qos != 2 or \
            message.items[0] != ("content_type", "t"):
        raise Failure("got QoS %d %s" % (message.qos, message.items))
    c.send(pubrec(message.id))
    c.expect(pubrel(message.id))
    c.send(pubcomp(message.id))
    c.ping()


@tests("[MQTT-3.8.4-3] replacing a subscription replaces its id", V5)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)
    for props in ({"subscription_id": 1}, {"subscription_id": 2}, {}):
        c.subscribe((t.topic(), 0), **props)
        sender.publish(t.topic(), b"x")
        c.expect(publish(v, t.topic(), b"x", **props))


@tests("[MQTT-3.3.4-3] one id serves every filter of its SUBSCRIBE", V5)
def _(t, v):
    c, sender = t.connect(v), t.connect(v)
    c.subscribe((t.topic("a"), 0), (t.topic("b"), 0), subscription_id=4)
    for name in "ab":
        sender.publish(t.topic(name), b"x")
        c.expect(publish(v, t.topic(name), b"x", subscription_id=4))


@tests("[MQTT-3.3.4-3] ids come with queued messages after a reconnect", V5)
def _(t, v):
    c = t.connect(v, "c", **stay(v))
    c.subscribe((t.topic(), 1), subscription_id=11)
    c.cut()
    t.connect(v).publish(t.topic(), b"x", qos=1)
    t.connect(v, "c", present=True, **stay(v)).expect(publish(v,
              t.topic(), b"x", 1, 1, subscription_id=11))


@tests("[MQTT-3.3.4-3] ids come with retained messages", V5)
def _(t, v):
    t.connect(v).publish(t.topic(), b"x", retain=True)
    c = t.connect(v)
    c.subscribe((t.topic(), 0), subscription_id=12)
    c.expect(publish(v, t.topic(), b"x", retain=True, subscription_id=12))


# --- shared subscriptions ------------------------------------------------------------------------


def members(t, v, count, qos=1, group="g", **options):
    out = [t.connect(v, **options) for _ in range(count)]
    for c in out:
        c.subscribe(("$share/%s/%s" % (group, t.topic()), qos))
    return out


@tests("section 4.8.2: each message goes to one member, in turn", ALL)
def _(t, v):
    group, sender = members(t, v, 3), t.connect(v)
    for number in range(30):
        sender.publish(t.topic(), b"%d" % number)
    shares = [payloads(c) for c in group]
    if sorted(int(p) for share in shares for p in share) != list(range(30)):
        raise Failure("shares %s" % shares)
    if sorted(len(share) for share in shares) != [10, 10, 10]:
        raise Failure("shares of %s" % [len(share) for share in shares])


@tests("section 4.8.2: each group and each plain subscriber gets its own copy", ALL)
def _(t, v):
    one, two = members(t, v, 2, group="one"), members(t, v, 2, group="two")
    plain, sender = t.connect(v), t.connect(v)
    plain.subscribe((t.topic(), 0))
    for number in range(10):
        sender.publish(t.topic(), b"%d" % number)
    for group in (one, two, [plain]):
        if sorted(int(p) for c in group for p in payloads(c)) != list(range(10)):
            raise Failure("a group misses messages")


@tests("section 4.8.2: a client may hold a shared and a plain subscription to the same topic", V5)
def _(t, v):
    c = members(t, v, 1)[0]
    c.subscribe((t.topic(), 0), id=2)
    t.connect(v).publish(t.topic(), b"x")
    if payloads(c) != [b"x", b"x"]:
        raise Failure("expected two copies")


@tests("section 4.8.2: shared filters may have wildcards, $ topics and slashes", V5)
def _(t, v):
    sender = t.connect(v)
    for pattern, topic, hit in (("a/+", "a/b", True), ("a/#", "a", True),
                                ("+/b", "a/c", False), ("a", "a/b", False)):
        c = t.connect(v)
        c.subscribe(("$share/g/" + t.topic(pattern), 0))
        sender.publish(t.topic(topic), b"x")
        if payloads(c) != ([b"x"] if hit else []):
            raise Failure("%s and %s" % (pattern, topic))
        c.disconnect()
    c = t.connect(v)
    c.subscribe(("$share/g//%s" % t.topic(), 0))
    sender.publish("/" + t.topic(), b"x")
    c.expect(publish(v, "/" + t.topic(), b"x"))


@tests("[MQTT-4.8.2-3] the chosen member's granted QoS is respected", V5)
def _(t, v):
    group = [t.connect(v) for _ in range(3)]
    for qos, c in enumerate(group):
        c.subscribe(("$share/g/" + t.topic(), qos))
    sender = t.connect(v)
    for number in range(6):
        sender.publish(t.topic(), b"x", qos=2)
    for qos, c in enumerate(group):
        for raw in c.collect():
            if Message(raw, v).qos != qos:
                raise Failure("QoS %d for a grant of %d" % (Message(raw, v).qos, qos))


@tests("section 4.8.2: retained messages are not sent for a shared subscription", V5)
def _(t, v):
    t.connect(v).publish(t.topic(), b"x", retain=True)
    members(t, v, 1)[0].ping()


@tests("section 4.8.2: a message with retain reaches a member as a live one", V5)
def _(t, v):
    c = members(t, v, 1)[0]
    t.connect(v).publish(t.topic(), b"x", retain=True)
    c.expect(publish(v, t.topic(), b"x"))


@tests("section 4.8.2: a shared subscription's id comes with its messages", V5)
def _(t, v):
    c = t.connect(v)
    c.subscribe(("$share/g/" + t.topic(), 0), subscription_id=21)
    t.connect(v).publish(t.topic(), b"x")
    c.expect(publish(v, t.topic(), b"x", subscription_id=21))


@tests("section 4.8.2: a member that leaves or unsubscribes gets nothing more", ALL)
def _(t, v):
    stays, leaves, unsubscribes = members(t, v, 3)
    leaves.disconnect()
    unsubscribes.send(unsubscribe(v, 2, "$share/g/" + t.topic()))
    unsubscribes.expect(unsuback(v, 2, 0))
    sender = t.connect(v)
    for number in range(9):
        sender.publish(t.topic(), b"%d" % number)
    if payloads(stays) != [b"%d" % n for n in range(9)] or payloads(unsubscribes):
        raise Failure("messages went elsewhere")


@tests("[MQTT-3.10.4-1] UNSUBSCRIBE of another group or the plain filter leaves the share", V5)
def _(t, v):
    c = members(t, v, 1)[0]
    c.send(unsubscribe(v, 2, t.topic(), "$share/h/" + t.topic()))
    c.expect(unsuback(v, 2, 0x11, 0x11))
    t.connect(v).publish(t.topic(), b"x")
    c.expect(publish(v, t.topic(), b"x"))


@tests(
    "a shared message goes to a member that is online rather than to one that is away [DESIGN 7]",
     ALL)
def _(t, v):
    away = t.connect(v, "away", **stay(v))
    away.subscribe(("$share/g/" + t.topic(), 1))
    online = members(t, v, 1)[0]
    away.cut()
    sender = t.connect(v)
    for number in range(6):
        sender.publish(t.topic(), b"%d" % number, qos=1)
    got = payloads(online)
    if got != [b"%d" % n for n in range(6)]:
        raise Failure("the online member got %s" % got)
    if payloads(t.connect(v, "away", present=True, **stay(v))):
        raise Failure("the member that was away got some")


@tests("a shared message waits in a session when no member is online [DESIGN 7]", ALL)
def _(t, v):
    away = t.connect(v, "away", **stay(v))
    away.subscribe(("$share/g/" + t.topic(), 1))
    away.cut()
    t.connect(v).publish(t.topic(), b"x", qos=1)
    t.connect(v, "away", present=True, **stay(v)).expect(publish(v, t.topic(), b"x", 1, 1))


@tests(
    "a shared message goes to a member that can take it rather than to a full one [DESIGN 7]",
     V5)
def _(t, v):
    full = members(t, v, 1, props={"receive_maximum": 1})[0]
    free = members(t, v, 1)[0]
    sender = t.connect(v)
    for number in range(8):
        sender.publish(t.topic(), b"%d" % number, qos=1)
    taken = payloads(full)
    rest = payloads(free)
    if len(taken) != 1 or sorted(taken + rest) != [b"%d" % n for n in range(8)]:
        raise Failure("the full member has %s, the free one %s" % (taken, rest))


@tests("section 4.8.2: an unacknowledged QoS 1 message of a member that ended goes to another", V5)
def _(t, v):  # the specification says SHOULD; Mosquitto loses it
    first, second = members(t, v, 2)
    t.connect(v).publish(t.topic(), b"x", qos=1)
    got = [payloads(first), payloads(second)]
    if sorted(got) != [[], [b"x"]]:
        raise Failure("got %s" % got)
    holder, other = (first, second) if got[0] else (second, first)
    holder.cut()
    message = other.message()
    if message.payload != b"x" or message.qos != 1:
        raise Failure("got %r" % message.payload)


@tests("[MQTT-4.8.2-4] a QoS 2 message under way is finished with the member it was for", V5)
def _(t, v):
    first = t.connect(v, "first", **stay(v))
    first.subscribe(("$share/g/" + t.topic(), 2))
    t.connect(v).publish(t.topic(), b"x", qos=2)
    first.expect(publish(v, t.topic(), b"x", 2, 1))
    first.send(pubrec(1))
    first.expect(pubrel(1))
    first.cut()
    second = members(t, v, 1, qos=2)[0]
    second.ping()
    first = t.connect(v, "first", present=True, **stay(v))
    first.expect(pubrel(1))
    first.send(pubcomp(1))
    first.ping()
    second.ping()


@tests("[MQTT-4.8.2-5] a QoS 2 message whose member's session ended is given to nobody", V5)
def _(t, v):
    first, second = members(t, v, 2, qos=2)
    t.connect(v).publish(t.topic(), b"x", qos=2)
    got = [first.collect(), second.collect()]
    holder, other = (first, second) if got[0] else (second, first)
    holder.send(pubrec(1))
    holder.expect(pubrel(1))
    holder.cut()
    other.ping()


@tests("[MQTT-4.8.2-6] a message that its member refused is given to nobody", V5)
def _(t, v):
    first, second = members(t, v, 2)
    t.connect(v).publish(t.topic(), b"x", qos=1)
    got = [first.collect(), second.collect()]
    holder, other = (first, second) if got[0] else (second, first)
    holder.send(puback(1, 0x80))
    holder.ping()
    other.ping()


@tests("subscribing twice to a share does not double the client's part", V5)
def _(t, v):
    first, second = members(t, v, 2)
    first.subscribe(("$share/g/" + t.topic(), 1), id=3)
    sender = t.connect(v)
    for number in range(10):
        sender.publish(t.topic(), b"%d" % number)
    parts = sorted(len(payloads(c)) for c in (first, second))
    if parts != [5, 5]:
        raise Failure("parts %s" % parts)
