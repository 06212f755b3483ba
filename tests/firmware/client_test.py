#!/usr/bin/env python3
"""The client firmware in QEMU against Debian's mosquitto and against the broker firmware.

    client_test.py FOLDER CERTIFICATES [PART OF A TEST'S NAME]...

FOLDER has the images, CERTIFICATES what certificates.sh has made.

Prints a line "ok NAME", "FAIL NAME: why" or "skip NAME: why" for each test.
"""

import os
import sys
import time

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
    broker = Guest(os.path.join(sys.argv[1], "broker-cortex-m3.elf"))
    broker.wait_for("listening")
    try:
        check_readings(broker.port, client, v)
        broker.check_alive()
    finally:
        broker.kill()


# --- TLS: mbedTLS by ports/tls over TCP, and lwIP's own by ports/lwip/tls.hpp ----------------------

KINDS = ("client_tls", "client_altcp")


def tls_server(certificate):
    folder = os.path.abspath(sys.argv[2])
    return Mosquitto(*["%s %s/%s" % (option, folder, certificate + end)
                       for option, end in (("certfile", ".crt"), ("keyfile", ".key"))])


def check_tls(client, kind, v):
    with tls_server("broker") as broker:
        guest = client(broker.port, image=kind, version=v, readings=9, every=20)
        expect(guest.wait(40) == 0, str(guest.lines))
        expect("connected" in guest.lines, str(guest.lines))


@test("over TLS by ports/tls readings are acknowledged", (3, 4, 5))
def tls(client, v):
    check_tls(client, "client_tls", v)


@test("over TLS by lwIP readings are acknowledged", (3, 4, 5))
def tls_lwip(client, v):
    check_tls(client, "client_altcp", v)


def check_refused(client, certificate, **arguments):
    """Neither client goes on with such a server; the same image does with the right one."""
    for kind in KINDS:
        with tls_server(certificate) as broker:
            guest = client(broker.port, image=kind, **arguments)
            if kind == "client_tls":
                guest.wait_for("certificate refused")
            time.sleep(2.5)  # it dials again, too
            expect("connected" not in guest.lines, str(guest.lines))
            guest.check_alive()
            guest.kill()


@test("over TLS a server whose certificate nobody trusted signed is refused")
def tls_stranger(client):
    check_refused(client, "impostor")


@test("over TLS a server with another name is refused")
def tls_name(client):
    check_refused(client, "broker", host="other.test")


def main():
    guests = []

    def client(port, image="client", **arguments):
        path = os.path.join(sys.argv[1], image + "-cortex-m3.elf")
        guests.append(Guest(path, outgoing=True, port=port, **arguments))
        return guests[-1]

    passed = test.run(lambda _: client, sys.argv[3:])
    for kind in ("client",) + KINDS:
        used = max((g.stack_used() for g in guests if g.image.startswith(kind + "-")), default=0)
        print("%s: %d bytes of stack" % (kind, used))
    for guest in guests:
        guest.kill()
    finish(passed)


main()
