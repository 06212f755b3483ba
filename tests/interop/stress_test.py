#!/usr/bin/env python3
"""Numbered messages between about 50 clients whose connections are cut at random bytes.

They are also taken over and resumed. At the end nothing acknowledged is lost, no QoS 2 message came
twice and order per topic and QoS was kept.

SEED=N repeats the choices of a run (not its timing); STRESS_S is how long publishers go on. See
broker.py for the rest.
"""

import asyncio
import os
import random
import sys
import time

from broker import Broker, Failure, Suite
from wire import (
    CONNACK,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    Message,
    connect,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    read_variable,
    show,
     subscribe)

PUBLISHERS, SUBSCRIBERS, GROUPS = 20, 28, 10
MESSAGES = 250  # of each QoS and publisher, at most
WINDOW = 8  # open messages of a publisher, below the broker's Receive Maximum
SENDING_S = float(os.environ.get("STRESS_S", "9"))
TOTAL_S = SENDING_S + 10
SEED = int(os.environ.get("SEED", str(random.randrange(1 << 30))))


class Link:
    """One TCP connection that writes and reads whole packets, until it is cut."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.rest = reader, writer, b""

    @classmethod
    async def open(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, raw):
        self.writer.write(raw)

    def cut(self):
        self.writer.transport.abort()

    async def packet(self, timeout_s=5):
        """The next packet, b"" when the connection is gone, None when nothing came in time."""
        while True:
            length = read_variable(self.rest[1:5]) if len(self.rest) > 1 else None
            if length and len(self.rest) >= 1 + length[0] + length[1]:
                size = 1 + length[0] + length[1]
                raw, self.rest = self.rest[:size], self.rest[size:]
                return raw
            try:
                chunk = await asyncio.wait_for(self.reader.read(65536), timeout_s)
            except asyncio.TimeoutError:
                return None
            except OSError:
                return b""
            if not chunk:
                return b""
            self.rest += chunk


class Peer:
    """What publishers and subscribers share: a session, and a link that is renewed when it goes."""

    def __init__(self, run, name, v):
        self.run, self.name, self.v = run, name, v
        self.random = random.Random("%d %s" % (SEED, name))
        self.link, self.known, self.connections = None, False, 0

    def wrong(self, kind, text):
        self.run.wrong(kind, "%s (v%d): %s" % (self.name, self.v, text))

    def properties(self):
        return {"session_expiry": 300} if self.v == 5 else None

    async def renew(self):
        """A new connection; the session must still be there. An old one may be open: takeover."""
        old = self.link
        while not self.run.over():
            try:
                self.link = await Link.open(self.run.port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            self.link.send(connect(self.v, self.name, clean=False, props=self.properties()))
            raw = await self.link.packet()
            if raw and raw[0] >> 4 == CONNACK and raw[3] == 0:
                break
            if raw:
                self.wrong("connect", "CONNACK " + show(raw))
            self.link.cut()
            await asyncio.sleep(0.02)
        else:
            raise asyncio.CancelledError()
        if old:
            old.cut()
        self.connections += 1
        if self.v != 3 and bool(raw[2] & 1) != self.known:
            self.wrong(
    "session", "session present is %d on connection %d" %
     (raw[2] & 1, self.connections))
        self.known = True

    async def trouble(self, last):
        """Now and then ends the connection; `last` is to be sent next, and may go in part."""
        if self.run.calm or self.random.random() > 0.02:
            self.link.send(last)
            return False
        choice = self.random.random()
        if choice < 0.5:
            self.link.send(last[:self.random.randrange(len(last) + 1)])
            if choice < 0.25:
                await asyncio.sleep(0)
            self.link.cut()
        elif choice < 0.8:
            self.link.send(last)  # and the new connection takes this one over
        else:
            self.link.cut()
            await asyncio.sleep(self.random.random() * 0.3)
        await self.renew()
        return True


class Publisher(Peer):
    def __init__(self, run, index):
        super().__init__(run, "pub%d" % index, (5, 4, 5, 3)[index % 4])
        self.topic = "stress/%d/%d" % (index % GROUPS, index)
        self.next = {1: 0, 2: 0}
        self.open = {}  # id: [qos, number, PUBREC has come], in the order of sending
        self.acknowledged = {1: set(), 2: set()}
        self.id = 0

    def payload(self, qos, number):
        return b"%d %d %s" % (qos, number, b"." * (number * 7919 %
                              (3000 if number % 50 == 0 else 60)))

    def message(self, id, dup):
        qos, number, _ = self.open[id]
        return publish(self.v, self.topic, self.payload(qos, number), qos, id, dup=dup)

    async def resume(self):
        while True:
            await_again = False
            for id, (qos, _, received) in list(self.open.items()):
                raw = pubrel(id) if received else self.message(id, True)
                if await self.trouble(raw):
                    await_again = True
                    break
            if not await_again:
                return

    async def work(self):
        await self.renew()
        while not self.run.over():
            more = not self.run.calm and min(self.next.values()) < MESSAGES
            if not more and not self.open:
                return
            while more and len(self.open) < WINDOW:
                qos = self.random.choice((1, 2))
                self.id = self.id % 65535 + 1
                while self.id in self.open:
                    self.id = self.id % 65535 + 1
                self.open[self.id] = [qos, self.next[qos], False]
                self.next[qos] += 1
                if await self.trouble(self.message(self.id, False)):
                    await self.resume()
            raw = await self.link.packet(2)
            if raw:
                await self.take(raw)
            else:
                if raw is None and self.open:
                    self.wrong(
    "answer",
    "no answer within 2 s, open %s" %
    dict(
        list(
            self.open.items())[
                :3]))
                await self.renew()
                await self.resume()
            if self.random.random() < 0.1:
                await asyncio.sleep(0.02)
        if self.open:
            self.wrong("answer", "%d messages never completed" % len(self.open))

    async def take(self, raw):
        kind, id = raw[0] >> 4, int.from_bytes(raw[2:4], "big")
        code = raw[4] if self.v == 5 and raw[1] > 2 else 0
        if kind == PUBREC and id in self.open and self.open[id][0] == 2 and code < 0x80:
            self.open[id][2] = True
            if await self.trouble(pubrel(id)):
                await self.resume()
        elif self.open.get(id, [0])[0] == {PUBACK: 1, PUBCOMP: 2}.get(kind):
            if code >= 0x80 and not (kind == PUBCOMP and code == 0x92):
                self.wrong("answer", "refused: " + show(raw))
            qos, number, _ = self.open.pop(id)
            self.acknowledged[qos].add(number)
        elif kind not in (PUBACK, PUBREC, PUBCOMP):
            self.wrong("answer", "got " + show(raw))


class Subscriber(Peer):
    def __init__(self, run, index):
        super().__init__(run, "sub%d" % index, (4, 5, 5, 3, 5)[index % 5])
        self.group = index % GROUPS
        self.quota = self.random.choice((1, 3, 20, 65535)) if self.v == 5 else 65535
        self.seen = {}  # (topic, qos): numbers in the order of their first arrival
        self.have = set()
        self.received = {}  # QoS 2 ids between PUBLISH and PUBREL, with their payload
        self.pending = set()  # ids that count against the quota of this connection
        self.subscribed = False

    def properties(self):
        if self.v != 5:
            return None
        return {"session_expiry": 300, "receive_maximum": self.quota}

    async def work(self):
        await self.renew()
        while not self.subscribed and not self.run.over():
            self.link.send(subscribe(self.v, 1, ("stress/%d/+" % self.group, 2)))
            raw = await self.link.packet()
            self.subscribed = bool(raw) and raw[0] >> 4 == SUBACK
            if not self.subscribed:
                await self.renew()
        self.run.ready.append(self)
        while not self.run.over():
            raw = await self.link.packet(0.2)
            if raw is None:
                if self.run.done(self):
                    return
                continue
            if raw == b"":
                await self.renew()
                self.pending.clear()
                continue
            await self.take(raw)

    async def answer(self, raw):
        if await self.trouble(raw):
            self.pending.clear()

    async def take(self, raw):
        kind, id = raw[0] >> 4, int.from_bytes(raw[2:4], "big")
        if kind == PUBLISH:
            message = Message(raw, self.v)
            self.pending.add(message.id)
            if len(self.pending) > self.quota:
                self.wrong("quota", "%d open, receive maximum %d" % (len(self.pending), self.quota))
            if message.qos == 1:
                self.record(message)
                self.pending.discard(message.id)
                return await self.answer(puback(message.id))
            if message.id not in self.received:
                self.received[message.id] = message.payload
                self.record(message)
            elif self.received[message.id] != message.payload:
                self.wrong("doubled", "id %d used for another message before its end" % message.id)
            return await self.answer(pubrec(message.id))
        if kind == PUBREL:
            self.received.pop(id, None)
            self.pending.discard(id)
            return await self.answer(pubcomp(id))
        return self.wrong("answer", "got " + show(raw))

    def record(self, message):
        qos, number, _ = message.payload.split(b" ", 2)
        qos, number = int(qos), int(number)
        key = (message.topic, qos, number)
        if message.qos != qos:
            self.wrong("quality", "%s %d came at QoS %d" % (message.topic, number, message.qos))
        if message.payload != self.run.publishers[message.topic].payload(qos, number):
            self.wrong("payload", "%s %d differs" % (message.topic, number))
        if key in self.have:
            if qos == 2:
                self.wrong("doubled", "QoS 2 %s %d came again, id %d dup %d" % (
                    message.topic, number, message.id, message.dup))
            return
        self.have.add(key)
        numbers = self.seen.setdefault((message.topic, qos), [-1])
        if number < numbers[-1]:
            self.wrong("order", "QoS %d %s: %d after %d" %
                       (qos, message.topic, number, numbers[-1]))
        numbers.append(number)


class Run:
    KINDS = (("session", "[MQTT-3.1.2-5] sessions are there on every reconnect"),
             ("connect", "[MQTT-3.1.4-5] every CONNECT is accepted"),
             ("answer", "[MQTT-4.3.2-4] [MQTT-4.3.3-11] every message is answered in the end"),
             ("lost", "[MQTT-4.5.0-1] nothing acknowledged is lost"),
             ("doubled", "[MQTT-4.3.3-10] no QoS 2 message comes twice"),
             ("order", "[MQTT-4.6.0-5] order per topic and QoS is kept"),
             ("quota", "[MQTT-3.3.4-9] the client's Receive Maximum is kept"),
             ("quality", "[MQTT-3.8.4-8] QoS is kept"),
             ("payload", "payloads are unchanged"))

    def __init__(self, port):
        self.port = port
        self.problems = {}
        self.ready = []
        self.calm = False  # publishers start nothing new and nobody cuts
        self.end = time.monotonic() + TOTAL_S
        self.publishers = {}
        for index in range(PUBLISHERS):
            publisher = Publisher(self, index)
            self.publishers[publisher.topic] = publisher
        self.subscribers = [Subscriber(self, index) for index in range(SUBSCRIBERS)]

    def wrong(self, kind, text):
        self.problems.setdefault(kind, []).append(text)

    def over(self):
        return time.monotonic() >= self.end

    def missing(self, subscriber):
        out = []
        for topic, publisher in self.publishers.items():
            if topic.split("/")[1] == str(subscriber.group):
                out += [(topic, qos, number) for qos in (1, 2) 
                        for number in publisher.acknowledged[qos]
                        if (topic, qos, number) not in subscriber.have]
        return out

    def done(self, subscriber):
        return self.calm and not self.sending and not subscriber.received and not self.missing(
            subscriber)

    async def noise(self, number):
        """Connections that break off inside CONNECT or send rubbish."""
        chance = random.Random("%d noise %d" % (SEED, number))
        while not self.calm:
            try:
                link = await Link.open(self.port)
            except OSError:
                continue
            raw = connect(4, "noise%d" % number) + publish(4, "noise/x", b"x" * 100, 1, 1)
            link.send(raw[:chance.randrange(len(raw))] if chance.random() < 0.7 else
                      bytes(chance.randrange(256) for _ in range(40)))
            await asyncio.sleep(0.02)
            link.cut()

    async def main(self):
        subscribers = [asyncio.ensure_future(s.work()) for s in self.subscribers]
        while len(self.ready) < SUBSCRIBERS and not self.over():
            await asyncio.sleep(0.02)
        self.sending = True
        publishers = [asyncio.ensure_future(p.work()) for p in self.publishers.values()]
        noise = [asyncio.ensure_future(self.noise(n)) for n in range(2)]
        await asyncio.wait(publishers, timeout=SENDING_S)
        self.calm = True
        for task in publishers + noise:
            try:
                await task
            except asyncio.CancelledError:
                pass
            except Exception as error:  # pylint: disable=broad-except
                self.wrong("answer", "%s: %s" % (type(error).__name__, error))
        self.sending = False
        for task in subscribers:
            try:
                await task
            except asyncio.CancelledError:
                pass
            except Exception as error:  # pylint: disable=broad-except
                self.wrong("answer", "%s: %s" % (type(error).__name__, error))
        for subscriber in self.subscribers:
            missing = self.missing(subscriber)
            if missing:
                self.wrong("lost", "%s (v%d, quota %d) misses %d, first %s" % (
                    subscriber.name, subscriber.v, subscriber.quota, len(missing), missing[0]))


def main():
    print("seed %d" % SEED)
    suite = Suite()
    broker = Broker("max_queued_messages 100000")
    run = Run(broker.port)
    asyncio.run(run.main())
    for kind, name in Run.KINDS:
        problems = run.problems.get(kind)
        suite.report(name, Failure("%d times: %s" %
     (len(problems), "; ".join(problems[:5]))) if problems else None)
    acknowledged = sum(len(numbers) for p in run.publishers.values()
                       for numbers in p.acknowledged.values())
    cuts = sum(peer.connections - 1 for peer in list(run.publishers.values()) + run.subscribers)
    try:
        if acknowledged < 500 or cuts < 50:
            raise Failure(
    "%d messages and %d reconnects are too few to say anything" %
     (acknowledged, cuts))
        suite.report("%d messages were acknowledged, %d delivered, over %d reconnects" % (
            acknowledged, sum(len(s.have) for s in run.subscribers), cuts))
    except Failure as error:
        suite.report("there was stress", error)
    try:
        broker.stop()
        suite.report("the broker ends with exit 0 on TERM")
    except Failure as error:
        suite.report("the broker ends with exit 0 on TERM", error)
    print("%d passed, %d failed" % (suite.passed, suite.failed))
    sys.exit(1 if suite.failed else 0)


if __name__ == "__main__":
    main()
