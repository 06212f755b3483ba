#!/usr/bin/env python3
"""python3-paho-mqtt 1.6 against the broker, over 3.1, 3.1.1 and 5.

See broker.py for the environment.
"""

import os
import shutil
import socket
import sys
import threading
import time

try:
    import paho.mqtt.client as paho
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.subscribeoptions import SubscribeOptions
except ImportError:
    # Debian's package belongs to Debian's interpreter, which need not be the first on the path.
    DEBIAN = "/usr/bin/python3"
    if os.path.realpath(sys.executable) == os.path.realpath(DEBIAN) or shutil.which(DEBIAN) is None:
        print("FAIL all: paho is missing; install the package python3-paho-mqtt")
        sys.exit(1)
    os.execv(DEBIAN, [DEBIAN] + sys.argv)

from broker import Failure, Suite, Tests

ALL = (3, 4, 5)
WAIT_S = 15

tests = Tests()


def property_list(kind, **values):
    out = Properties(kind)
    for name, value in values.items():
        setattr(out, name, value)
    return out


def equal(got, wanted):
    if got != wanted:
        raise Failure("got %r, expected %r" % (got, wanted))


class Client:
    """A paho client with its loop in a thread; what it receives waits in `inbox`."""

    def __init__(
    self,
    port,
    v,
    client_id,
    clean=True,
    expiry=None,
    will=None,
    keep_alive=30,
     **connect_properties):
        self.v = v
        self.news = threading.Condition()
        self.inbox, self.acked, self.granted, self.ended, self.code = [], set(), {}, None, None
        self.flags = self.properties = None
        options = {} if v == 5 else {"clean_session": clean}
        self.paho = paho.Client(client_id=client_id, protocol={3: paho.MQTTv31, 4: paho.MQTTv311,
                                                               5: paho.MQTTv5}[v], **options)
        self.paho.on_message = lambda client, data, message: self.tell(
            lambda: self.inbox.append(message))
        self.paho.on_publish = lambda client, data, mid: self.tell(lambda: self.acked.add(mid))
        self.paho.on_connect = self.on_connect
        self.paho.on_disconnect = self.on_disconnect
        self.paho.on_subscribe = lambda client, data, mid, codes, *rest: self.tell(
            lambda: self.granted.update({mid: [getattr(code, "value", code) for code in codes]}))
        self.paho.on_unsubscribe = lambda client, data, mid, *rest: self.tell(
            lambda: self.granted.update({mid: []}))
        if will:
            self.paho.will_set(*will)
        properties = None
        if v == 5:
            properties = property_list(PacketTypes.CONNECT, **connect_properties)
            if expiry is not None:
                properties.SessionExpiryInterval = expiry
            options = {"clean_start": clean, "properties": properties}
        else:
            options = {}
        self.paho.connect("127.0.0.1", port, keep_alive, **options)
        self.paho.loop_start()
        self.wait(lambda: self.code is not None, "CONNACK")
        equal(self.code, 0)

    def tell(self, change):
        with self.news:
            change()
            self.news.notify_all()

    def on_connect(self, client, data, flags, code, properties=None):
        def change():
            if self.code is None:
                self.flags, self.properties = flags, properties
                self.code = getattr(code, "value", code)
        self.tell(change)

    def on_disconnect(self, client, data, code, properties=None):
        def change():
            if self.ended is None:
                self.ended = getattr(code, "value", code)
        self.tell(change)

    def wait(self, condition, what):
        with self.news:
            if not self.news.wait_for(condition, WAIT_S):
                raise Failure("no %s within %d s" % (what, WAIT_S))

    def subscribe(self, topic, qos=2, **options):
        """Returns the granted QoS."""
        if self.v == 5:
            result, mid = self.paho.subscribe(topic, options=SubscribeOptions(qos=qos, **options))
        else:
            result, mid = self.paho.subscribe(topic, qos)
        equal(result, 0)
        self.wait(lambda: mid in self.granted, "SUBACK")
        return self.granted[mid][0]

    def unsubscribe(self, topic):
        _, mid = self.paho.unsubscribe(topic)
        self.wait(lambda: mid in self.granted, "UNSUBACK")

    def publish(self, topic, payload, qos=0, retain=False, wait=True, **properties):
        more = {
    "properties": property_list(
        PacketTypes.PUBLISH,
         **properties)} if properties else {}
        info = self.paho.publish(topic, payload, qos, retain, **more)
        if wait:
            self.wait(lambda: info.mid in self.acked, "acknowledgement")
        return info.mid

    def messages(self, count):
        self.wait(
    lambda: len(
        self.inbox) >= count,
        "message %d of %d" %
        (len(
            self.inbox) +
            1,
             count))
        with self.news:
            out, self.inbox = self.inbox[:count], self.inbox[count:]
        return out

    def cut(self):
        """The connection goes without DISCONNECT, and paho does not come back."""
        self.paho._thread_terminate = True  # pylint: disable=protected-access
        sock = self.paho.socket()
        if sock:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.paho.loop_stop()

    def end(self):
        self.paho.disconnect()
        self.paho.loop_stop()


class Context:
    count = 0

    def __init__(self, suite, name):
        Context.count += 1
        self.number = Context.count
        self.suite, self.broker, self.clients = suite, suite.broker(), []

    def topic(self, name="a"):
        return "p%d/%s" % (self.number, name)

    def connect(self, v, name=None, **options):
        name = "p%d%s" % (self.number, name or "n%d" % len(self.clients))
        client = Client(self.broker.port, v, name, **options)
        self.clients.append(client)
        return client

    def transcript(self):
        return ""

    def close(self):
        for client in self.clients:
            client.cut()


def keep(v):
    return {"clean": False, "expiry": 300 if v == 5 else None}


def texts(messages):
    return [message.payload.decode() for message in messages]


for granted in (0, 1, 2):
    @tests("QoS %d both ways" % granted, ALL)
    def _(t, v, granted=granted):
        reader, sender = t.connect(v), t.connect(v)
        equal(reader.subscribe(t.topic(), granted), granted)
        for sent in (0, 1, 2):
            sender.publish(t.topic(), "m%d" % sent, sent)
            message = reader.messages(1)[0]
            equal((message.payload, message.qos, message.retain, message.topic),
                  (b"m%d" % sent, min(sent, granted), False, t.topic()))


@tests("retained: kept, flagged, cleared", ALL)
def _(t, v):
    sender = t.connect(v)
    for text in ("first", "second"):
        sender.publish(t.topic(), text, 1, True)
    live = t.connect(v)
    live.subscribe(t.topic())
    message = live.messages(1)[0]
    equal((message.payload, message.retain, message.qos), (b"second", True, 1))
    sender.publish(t.topic(), "", 1, True)
    message = live.messages(1)[0]
    equal((message.payload, message.retain), (b"", False))
    late = t.connect(v)
    late.subscribe(t.topic())
    sender.publish(t.topic(), "plain", 1)
    equal(texts(late.messages(1)), ["plain"])


@tests("will: on a cut, not on DISCONNECT", ALL)
def _(t, v):
    watch = t.connect(v)
    watch.subscribe(t.topic("will"))
    t.connect(v, will=(t.topic("will"), "ended", 1, False)).end()
    t.connect(v, will=(t.topic("will"), "cut", 2, True)).cut()
    message = watch.messages(1)[0]
    equal((message.payload, message.qos, message.retain), (b"cut", 2, False))
    late = t.connect(v)
    late.subscribe(t.topic("will"))
    message = late.messages(1)[0]
    equal((message.payload, message.retain), (b"cut", True))


for queued in (1, 2):
    @tests("a session resumes with 100 queued QoS %d messages in order" % queued, ALL)
    def _(t, v, queued=queued):
        reader, sender = t.connect(v, "s", **keep(v)), t.connect(v)
        reader.subscribe(t.topic(), queued)
        reader.cut()
        for number in range(100):
            sender.publish(t.topic(), str(number), queued)
        reader = t.connect(v, "s", **keep(v))
        if v != 3:
            equal(reader.flags["session present"], 1)
        equal(texts(reader.messages(100)), [str(n) for n in range(100)])
        sender.publish(t.topic(), "live", queued)
        equal(texts(reader.messages(1)), ["live"])


@tests("clean start drops the session", ALL)
def _(t, v):
    reader = t.connect(v, "s", **keep(v))
    reader.subscribe(t.topic())
    reader.end()
    sender = t.connect(v)
    sender.publish(t.topic(), "lost", 1)
    reader = t.connect(v, "s")
    equal(reader.flags["session present"], 0)
    reader.subscribe(t.topic())
    sender.publish(t.topic(), "new", 1)
    equal(texts(reader.messages(1)), ["new"])


@tests("shared subscription", ALL)
def _(t, v):
    group, sender = [t.connect(v) for _ in range(3)], t.connect(v)
    for member in group:
        member.subscribe("$share/g/" + t.topic(), 1)
    for number in range(30):
        sender.publish(t.topic(), str(number), 1)
    deadline = time.monotonic() + WAIT_S
    while sum(len(member.inbox) for member in group) < 30 and time.monotonic() < deadline:
        time.sleep(0.01)
    equal(sorted(int(text) for member in group for text in texts(member.inbox)), list(range(30)))
    if min(len(member.inbox) for member in group) < 8:
        raise Failure("shares of %s" % [len(member.inbox) for member in group])


@tests("1 MB at every QoS", ALL)
def _(t, v):
    reader, sender = t.connect(v), t.connect(v)
    reader.subscribe(t.topic())
    payload = bytes(range(256)) * 4096
    for qos in (0, 1, 2):
        sender.publish(t.topic(), payload, qos)
        message = reader.messages(1)[0]
        equal((message.payload == payload, message.qos), (True, qos))


@tests("600 messages at every QoS arrive in order", ALL)
def _(t, v):
    reader, sender = t.connect(v), t.connect(v)
    reader.subscribe(t.topic("#"))
    sender.paho.max_inflight_messages_set(15)
    for qos in (0, 1, 2):
        for number in range(600):
            sender.publish(t.topic(str(qos)), str(number), qos, wait=False)
        equal(texts(reader.messages(600)), [str(n) for n in range(600)])


@tests("versions talk to each other", ALL)
def _(t, v):
    sender = t.connect(v)
    for other in ALL:
        reader = t.connect(other)
        reader.subscribe(t.topic(str(other)))
        sender.publish(t.topic(str(other)), "hello", 2)
        equal(texts(reader.messages(1)), ["hello"])


@tests("unsubscribe ends the flow", ALL)
def _(t, v):
    client = t.connect(v)
    client.subscribe(t.topic("a"), 1)
    client.subscribe(t.topic("b"), 1)
    client.unsubscribe(t.topic("a"))
    client.publish(t.topic("a"), "a", 1)
    client.publish(t.topic("b"), "b", 1)
    equal(texts(client.messages(1)), ["b"])


@tests("takeover ends the first connection", ALL)
def _(t, v):
    first = t.connect(v, "same")
    first.paho.reconnect_delay_set(60, 60)
    t.connect(v, "same")
    first.wait(lambda: first.ended is not None, "end of the first connection")
    # 7 is "connection lost": paho 1.6 does not read the code of a DISCONNECT without properties.
    if first.ended not in (7, 0x8E):
        raise Failure("ended with %s" % first.ended)


@tests("keep alive: an idle client stays", ALL)
def _(t, v):
    client = t.connect(v, keep_alive=5)
    client.subscribe(t.topic())
    time.sleep(9)
    equal(client.ended, None)
    client.publish(t.topic(), "x", 1)
    equal(texts(client.messages(1)), ["x"])


@tests("wildcards, and a topic in UTF-8", ALL)
def _(t, v):
    client = t.connect(v)
    client.subscribe(t.topic("+/温度/#"), 1)
    client.publish(t.topic("室/温度/°C"), "22", 1)
    equal([(m.topic, m.payload) for m in client.messages(1)], [(t.topic("室/温度/°C"), b"22")])


@tests("CONNACK properties", (5,))
def _(t, v):
    properties = t.connect(v).properties
    equal((properties.TopicAliasMaximum, properties.MaximumPacketSize, properties.ReceiveMaximum),
          (10, 2000000, 20))


@tests("an assigned client id is returned", (5,))
def _(t, v):
    client = Client(t.broker.port, v, "")
    t.clients.append(client)
    if not client.properties.AssignedClientIdentifier.startswith("auto-"):
        raise Failure("id %r" % client.properties.AssignedClientIdentifier)


@tests("PUBLISH properties pass unchanged", (5,))
def _(t, v):
    reader, sender = t.connect(v), t.connect(v)
    reader.subscribe(t.topic())
    for qos in (0, 1, 2):
        sender.publish(t.topic(), "x", qos, PayloadFormatIndicator=1, ContentType="text/plain",
                       ResponseTopic="answer", CorrelationData=b"\0\xff", MessageExpiryInterval=100,
                       UserProperty=[("b", "1"), ("a", "2"), ("b", "1")])
        got = reader.messages(1)[0].properties
        equal((got.PayloadFormatIndicator, got.ContentType, got.ResponseTopic, got.CorrelationData,
               got.MessageExpiryInterval, got.UserProperty),
              (1, "text/plain", "answer", b"\0\xff", 100, [("b", "1"), ("a", "2"), ("b", "1")]))


@tests("no local, retain as published, retain handling", (5,))
def _(t, v):
    client, sender = t.connect(v), t.connect(v)
    sender.publish(t.topic("kept"), "old", 1, True)
    client.subscribe(t.topic("kept"), 1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
    client.subscribe(t.topic("own"), 1, noLocal=True)
    client.subscribe(t.topic("flag"), 1, retainAsPublished=True)
    client.publish(t.topic("own"), "own", 1)
    sender.publish(t.topic("flag"), "flag", 1, True)
    message = client.messages(1)[0]
    equal((message.payload, message.retain), (b"flag", True))


@tests("topic aliases from a client", (5,))
def _(t, v):
    reader, sender = t.connect(v), t.connect(v)
    reader.subscribe(t.topic())
    sender.publish(t.topic(), "1", 1, TopicAlias=4)
    sender.publish("", "2", 1, TopicAlias=4)
    equal(texts(reader.messages(2)), ["1", "2"])


@tests("receive maximum of the client", (5,))
def _(t, v):
    reader, sender = t.connect(v, ReceiveMaximum=2), t.connect(v)
    reader.subscribe(t.topic())
    for number in range(100):
        sender.publish(t.topic(), str(number), 1)
    equal(texts(reader.messages(100)), [str(n) for n in range(100)])


@tests("request and response", (5,))
def _(t, v):
    asker, answerer = t.connect(v), t.connect(v)
    asker.subscribe(t.topic("answer"))
    answerer.subscribe(t.topic("ask"))
    asker.publish(t.topic("ask"), "?", 1, ResponseTopic=t.topic("answer"), CorrelationData=b"7")
    question = answerer.messages(1)[0]
    answerer.publish(question.properties.ResponseTopic, "!", 1,
                     CorrelationData=question.properties.CorrelationData)
    answer = asker.messages(1)[0]
    equal((answer.payload, answer.properties.CorrelationData), (b"!", b"7"))


if __name__ == "__main__":
    suite = Suite(time_max_s=120)
    tests.register(suite)
    suite.broker()
    suite.run(context=Context, workers=8)
