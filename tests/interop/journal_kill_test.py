#!/usr/bin/env python3
"""Does a broker killed with SIGKILL under load keep everything it acknowledged?

Publishers send QoS 1 and 2 without a pause, subscribers with persistent sessions read; the broker
is killed at random moments and started again on the same journal. After each start every message
acknowledged so far arrives (QoS 1 at least once, QoS 2 exactly once) and the retained values are
the acknowledged ones or newer.

KILLS       how often (10)
SYNC        always, interval or never (always): all of them survive the end of the process
SEED        of the random moments
"""

import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time

from broker import ROOT, free_port
from wire import frame, string, u16

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK = range(1, 10)
KILLS = int(os.environ.get("KILLS", "10"))
SYNC = os.environ.get("SYNC", "always")
SEED = int(os.environ.get("SEED", "1"))
WINDOW = 50  # unacknowledged messages of a publisher
PATIENCE_S = 20


def build():
    program = os.path.join(ROOT, "build", "journal_broker")
    source = os.path.join(ROOT, "tests", "interop", "journal_broker.cpp")
    inputs = [source, os.path.join(ROOT, "mqtt.hpp")]
    for folder in ("ports/journal", "ports/posix"):
        directory = os.path.join(ROOT, folder)
        inputs += [os.path.join(directory, name) for name in os.listdir(directory)]
    if not os.path.exists(program) or any(
            os.path.getmtime(path) > os.path.getmtime(program) for path in inputs):
        os.makedirs(os.path.dirname(program), exist_ok=True)
        subprocess.run([os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-I" + ROOT, "-pthread",
                        source, "-o", program], check=True)
    return program


class Broker:
    def __init__(self, program, path):
        self.program, self.path, self.port = program, path, free_port()
        self.process = None

    def start(self):
        # Small segments: compactions are under way when the kill comes.
        self.process = subprocess.Popen(
            [self.program, str(self.port), self.path, SYNC, "300000"], stdout=subprocess.PIPE,
            text=True)
        self.found = self.process.stdout.readline().strip()
        if not self.process.stdout.readline().startswith("ready"):
            sys.exit("FAIL the broker does not start: " + self.found)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.terminate()
        if self.process.wait(15) != 0:
            sys.exit("FAIL exit status %d" % self.process.returncode)
        self.process.stdout.close()


class Client:
    """A 3.1.1 client that keeps its session over every link it loses."""

    def __init__(self, name):
        self.name, self.socket, self.open = name, None, False
        self.received, self.to_send, self.known = b"", b"", False

    def connect(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.received, self.to_send, self.open = b"", b"", False
        self.put(frame(0x10, string("MQTT") + b"\x04\x00\x00\x00" + string(self.name)))

    def lose(self):
        if self.socket:
            self.socket.close()
        self.socket, self.open = None, False

    def put(self, packet):
        self.to_send += packet

    def write(self):
        if self.to_send and self.socket:
            try:
                self.to_send = self.to_send[self.socket.send(self.to_send):]
            except BlockingIOError:
                pass

    def read(self):
        """False when the link has ended."""
        try:
            piece = self.socket.recv(1 << 18)
        except BlockingIOError:
            return True
        self.received += piece
        at, data = 0, self.received
        while len(data) - at >= 2:
            size, place, shift = 0, at + 1, 0
            while place < len(data):
                size |= (data[place] & 127) << shift
                place, shift = place + 1, shift + 7
                if data[place - 1] < 128:
                    break
            else:
                break
            if place + size > len(data):
                break
            self.take(data[at], data[place:place + size])
            at = place + size
        self.received = data[at:]
        return bool(piece)

    def take(self, first, body):
        kind = first >> 4
        if kind == CONNACK:
            if body[1] != 0 or bool(body[0]) != self.known:
                sys.exit("FAIL %s: CONNACK %s, session known: %s" %
                         (self.name, body.hex(), self.known))
            self.known, self.open = True, True
            self.resume()
        elif kind == PUBLISH:
            self.take_publish((first >> 1) & 3, body)
        else:
            self.take_ack(kind, int.from_bytes(body[:2], "big"))

    def resume(self):
        pass


class Publisher(Client):
    def __init__(self, name, qos):
        super().__init__(name)
        self.qos, self.pending, self.number, self.id = qos, {}, 0, 0
        self.acknowledged, self.stopped = set(), False
        self.retained_sent, self.retained_acknowledged = 0, 0

    def publish(self):
        while self.open and not self.stopped and len(self.pending) < WINDOW:
            self.id = self.id % 60000 + 1
            self.number += 1
            retain = self.number % 20 == 0
            size = 2000 if self.number % 50 == 0 else 20
            payload = ("%s:%d:" % (self.name, self.number)).encode() + b"." * size
            topic = ("r/" if retain else "t/") + self.name
            body = string(topic) + u16(self.id)
            self.pending[self.id] = [self.number, body + payload, False, retain]
            if retain:
                self.retained_sent = self.number
            self.put(frame(0x30 | self.qos << 1 | retain, body + payload))

    def resume(self):
        for packet_id, (_, body, released, retain) in self.pending.items():
            if released:
                self.put(frame(0x62, u16(packet_id)))
            else:
                self.put(frame(0x38 | self.qos << 1 | retain, body))

    def take_ack(self, kind, packet_id):
        if kind == PUBREC:
            self.pending[packet_id][2] = True
            self.put(frame(0x62, u16(packet_id)))
            return
        number, _, _, retain = self.pending.pop(packet_id)
        if retain:
            self.retained_acknowledged = number
        self.acknowledged.add((self.name, number))


class Subscriber(Client):
    def __init__(self, name, qos):
        super().__init__(name)
        self.qos, self.counts, self.ids, self.subscribed = qos, {}, set(), False

    def resume(self):
        if not self.subscribed:
            self.put(frame(0x82, u16(1) + string("t/#") + bytes([self.qos]) +
                           string("r/#") + bytes([self.qos])))

    def take_publish(self, qos, body):
        end = 2 + int.from_bytes(body[:2], "big")
        packet_id = int.from_bytes(body[end:end + 2], "big")
        name, number, _ = body[end + 2:].split(b":")
        if qos == 2:
            if packet_id not in self.ids:
                self.ids.add(packet_id)
                self.count(name, number)
            self.put(frame(0x50, u16(packet_id)))
        else:
            self.count(name, number)
            self.put(frame(0x40, u16(packet_id)))

    def count(self, name, number):
        key = (name.decode(), int(number))
        self.counts[key] = self.counts.get(key, 0) + 1

    def take_ack(self, kind, packet_id):
        if kind == PUBREL:
            self.ids.discard(packet_id)
            self.put(frame(0x70, u16(packet_id)))
        elif kind == SUBACK:
            self.subscribed = True


class Probe(Client):
    """Reads the retained messages with a clean session."""

    def __init__(self):
        super().__init__("probe")
        self.found, self.done = {}, False

    def connect(self, port):
        super().connect(port)
        self.to_send = frame(0x10, string("MQTT") + b"\x04\x02\x00\x00" + string(self.name))

    def resume(self):
        self.known = False
        self.put(frame(0x82, u16(1) + string("r/#") + b"\x00"))

    def take_publish(self, _, body):
        end = 2 + int.from_bytes(body[:2], "big")
        name, number, _ = body[end:].split(b":")
        self.found[name.decode()] = int(number)

    def take_ack(self, kind, _):
        self.done = self.done or kind == SUBACK


class Run:
    def __init__(self, broker):
        self.broker = broker
        self.publishers = [Publisher("p%d" % i, 1 + i % 2) for i in range(4)]
        self.subscribers = [Subscriber("s1", 1), Subscriber("s2", 2)]
        self.clients = self.publishers + self.subscribers
        self.again = 0

    def turn(self, publish):
        """One round of reading and writing; links that ended are made again."""
        selector = selectors.DefaultSelector()
        for client in self.clients:
            if client.socket is None:
                client.connect(self.broker.port)
            if publish and isinstance(client, Publisher):
                client.publish()
            client.write()
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.to_send else 0)
            selector.register(client.socket, events, client)
        for key, mask in selector.select(0.02):
            client = key.data
            if mask & selectors.EVENT_READ:
                try:
                    if not client.read():
                        client.lose()
                except ConnectionError:
                    client.lose()
        selector.close()

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            self.turn(False)
            if time.monotonic() > end:
                sys.exit("FAIL not within %d s: %s" % (PATIENCE_S, what))

    def load(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn(True)

    def acknowledged(self):
        return set().union(*(p.acknowledged for p in self.publishers))

    def kill(self):
        self.broker.kill()
        for client in self.clients:
            client.lose()
        acknowledged = self.acknowledged()
        retained = {p.name: p.retained_acknowledged for p in self.publishers}
        self.broker.start()
        self.check_retained(retained)
        for subscriber in self.subscribers:
            self.until(lambda s=subscriber: acknowledged <= s.counts.keys(),
                       "%s lacks acknowledged messages" % subscriber.name)

    def check_retained(self, acknowledged):
        probe = Probe()
        probe.connect(self.broker.port)
        self.clients.append(probe)
        # Unacknowledged ones come again meanwhile: those are newer, never older.
        self.until(lambda: probe.done, "retained messages")
        self.clients.remove(probe)
        probe.lose()
        for publisher in self.publishers:
            found = probe.found.get(publisher.name, 0)
            if not acknowledged[publisher.name] <= found <= publisher.retained_sent:
                sys.exit("FAIL retained of %s is %d, acknowledged was %d" % (
                    publisher.name, found, acknowledged[publisher.name]))

    def finish(self):
        self.until(lambda: not any(p.pending for p in self.publishers), "acknowledgements")
        everything = self.acknowledged()
        for subscriber in self.subscribers:
            self.until(lambda s=subscriber: everything <= s.counts.keys(), "deliveries")
        for _ in range(10):
            self.turn(False)
        doubled = [key for key, count in self.subscribers[1].counts.items()
                   if count != 1 and int(key[0][1:]) % 2 == 1]
        if doubled:
            sys.exit("FAIL QoS 2 messages doubled: %s" % doubled[:5])
        return len(everything)


def main():
    random.seed(SEED)
    program = build()
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(program, os.path.join(directory, "journal"))
        broker.start()
        run = Run(broker)
        run.until(lambda: all(s.subscribed for s in run.subscribers), "SUBACK")
        for number in range(KILLS):
            run.load(random.uniform(0.0, 0.25))
            run.kill()
            if number % 50 == 49:
                print("%d kills, %s" % (number + 1, broker.found), flush=True)
        count = run.finish()
        repeated = sum(c - 1 for s in run.subscribers for c in s.counts.values())
        broker.stop()
    print("%d kills, %d messages acknowledged, none lost, no QoS 2 doubled, %d QoS 1 repeated" % (
        KILLS, count, repeated))
    print("ok a broker killed %d times keeps what it acknowledged (%s)" % (KILLS, SYNC))


if __name__ == "__main__":
    main()
