#!/usr/bin/env python3
"""The client firmware in QEMU against Debian's mosquitto and against the broker firmware.

    client_test.py CLIENT-IMAGE BROKER-IMAGE [PART OF A TEST'S NAME]...

Prints a line "ok NAME", "FAIL NAME: why" or "skip NAME: why" for each test.
"""

import sys

from guest import Guest
from judge import Judge, Mosquitto, Subscriber, VERSION_NAMES, expect, finish, tool
import wire

test = Judge()


def check_readings(port, client, v, count=30):
    """`client(port, …)` starts the guest; what it reports and answers arrives whole."""
    version = VERSION_NAMES[v]
    readings = Subscriber(port, "-V", version, "-t", "board/reading", "-q", "2", "-C", str(count))
    guest = client(port, version=v, readings=count, every=20)
    expect(guest.wait(40) == 0, "the client ended with %s: %s" % (
        guest.process.returncode, guest.lines))
    got = readings.messages()
    # mosquitto_sub prints QoS 2 only when its handshake is done: the order is each kind's own.
    for qos in range(3):
        wanted = ["reading %05d" % number for number in range(qos, count, 3)]
        expect([line for line in got if int(line[-5:]) % 3 == qos] == wanted, str(got))


@test("readings at QoS 0, 1 and 2 reach mosquitto", (3, 4, 5))
def readings_mosquitto(client, v):
    with Mosquitto() as broker:
        check_readings(broker.port, client, v)


@test("twenty QoS 2 commands are answered once and in order", (3, 4, 5))
def commands(client, v):
    with Mosquitto() as broker:
        guest = client(broker.port, version=v)
        guest.wait_for("subscribed")
        peer = wire.Client(broker.port, 4)
        peer.send(wire.connect(4, "peer"))
        peer.expect(wire.connack(4))
        peer.subscribe(("board/answer", 2))
        answers, released = [], 0
        for number in range(20):
            peer.send(wire.publish(4, "board/command", "do %d" % number, 2, 1 + number))
        open_ids = set(range(1, 21))
        while released < 20 or open_ids:
            raw = peer.packet()
            expect(raw != b"", "closed after %s" % answers)
            kind, id = raw[0] >> 4, int.from_bytes(raw[2:4], "big")
            if kind == wire.PUBREC:
                peer.send(wire.pubrel(id))
            elif kind == wire.PUBCOMP:
                open_ids.discard(id)
            elif kind == wire.PUBLISH:
                message = wire.Message(raw, 4)
                answers.append(message.payload)
                peer.send(wire.pubrec(message.id))
            elif kind == wire.PUBREL:
                peer.send(wire.pubcomp(id))
                released += 1
        expect(answers == [b"do %d" % number for number in range(20)], str(answers))
        peer.publish("board/command", "stop", 1)
        expect(guest.wait(20) == 0, str(guest.lines))


@test("a server that goes and comes back is dialed and subscribed to again", (3, 4, 5))
def reconnect(client, v):
    broker = Mosquitto()
    try:
        guest = client(broker.port, version=v)
        guest.wait_for("subscribed")
        broker.stop()
        guest.wait_for("closed")
        broker = Mosquitto(port=broker.port)
        answer = Subscriber(broker.port, "-t", "board/answer", "-C", "1")
        for _ in range(20):  # it may not have subscribed again yet
            tool("mosquitto_pub", "-t", "board/command", "-m", "stop", "-q", "1", port=broker.port)
            if guest.process.poll() is None:
                try:
                    guest.process.wait(1)
                except Exception:
                    continue
            break
        expect(guest.wait(10) == 0, str(guest.lines))
        expect(answer.messages() == ["stop"], "no answer")
    finally:
        broker.stop()


@test("its will tells when it is gone [MQTT-3.1.2-8]", (3, 4, 5))
def will(client, v):
    with Mosquitto() as broker:
        guest = client(broker.port, version=v)
        guest.wait_for("subscribed")
        states = Subscriber(broker.port, "-t", "board/state", "-C", "2", "-F", "%r %p")
        guest.kill()
        got = states.messages()
        expect(got == ["1 online", "0 lost"], str(got))


@test("it talks to the broker firmware", (3, 4, 5))
def firmware_pair(client, v):
    broker = Guest(sys.argv[2])
    broker.wait_for("listening")
    try:
        check_readings(broker.port, client, v)
        broker.check_alive()
    finally:
        broker.kill()


def main():
    guests = []

    def client(port, **arguments):
        guests.append(Guest(sys.argv[1], outgoing=True, port=port, **arguments))
        return guests[-1]

    passed = test.run(lambda _: client, sys.argv[3:])
    print("client firmware: %d bytes of stack" % max(
        (guest.stack_used() for guest in guests), default=0))
    for guest in guests:
        guest.kill()
    finish(passed)


main()
