#!/usr/bin/env python3
"""The broker firmware in QEMU, judged by mosquitto_pub and mosquitto_sub, by paho and byte by byte.

    broker_test.py IMAGE [PART OF A TEST'S NAME]...

Prints a line "ok NAME", "FAIL NAME: why" or "skip NAME: why" for each test.
"""

import os
import sys
import threading
import time

from guest import Guest
from judge import Failure, Judge, Skip, Subscriber, VERSION_NAMES, expect, finish, tool
import wire

os.environ.setdefault("TIMEOUT_S", "8")
test = Judge()


def open_client(broker, v, name, code=0, **options):
    """A client with its CONNACK checked to carry this code."""
    client = wire.Client(broker.port, v)
    client.send(wire.connect(v, name, **options))
    raw = client.packet()
    client.connack = raw
    expect(raw[:1] == b"\x20" and raw[3] == code,
           "CONNACK %s, expected code 0x%02x" % (wire.show(raw), code))
    return client


def mosquitto(broker, *arguments):
    return tool(*arguments, port=broker.port)


# --- people's clients ----------------------------------------------------------------------------


@test("mosquitto_pub reaches mosquitto_sub at QoS 0, 1 and 2", (3, 4, 5))
def pub_sub(broker, v):
    version = VERSION_NAMES[v]
    subscriber = Subscriber(broker.port, "-V", version, "-t", "lamp/+", "-q", "2", "-C", "3", "-v")
    for qos in "012":
        done = mosquitto(broker, "mosquitto_pub", "-V", version, "-t", "lamp/" + qos, "-m",
                         "on " + qos, "-q", qos)
        expect(done.returncode == 0, "mosquitto_pub: %d %s" % (done.returncode, done.stdout))
    got = subscriber.messages()
    expect(got == ["lamp/0 on 0", "lamp/1 on 1", "lamp/2 on 2"], str(got))


@test("a retained message waits for mosquitto_sub and can be cleared", (3, 4, 5))
def retained(broker, v):
    version = VERSION_NAMES[v]
    mosquitto(broker, "mosquitto_pub", "-V", version, "-t", "room/door", "-m", "open", "-q", "1",
              "-r")
    got = mosquitto(broker, "mosquitto_sub", "-V", version, "-t", "room/#", "-C", "1", "-W", "5",
                    "-F", "%t %r %p")
    expect(got.stdout == b"room/door 1 open\n", str(got))
    mosquitto(broker, "mosquitto_pub", "-V", version, "-t", "room/door", "-n", "-r", "-q", "1")
    got = mosquitto(broker, "mosquitto_sub", "-V", version, "-t", "room/#", "-C", "1", "-W", "1")
    expect(got.returncode == 27 and b"open" not in got.stdout, str(got))


@test("mosquitto_sub finds its session with all that came meanwhile", (3, 4, 5))
def session(broker, v):
    version = VERSION_NAMES[v]
    own = ["-V", version, "-i", "keeper%d" % v, "-c", "-t", "mail/#", "-q", "2"]
    own += ["-x", "600"] if v == 5 else []
    mosquitto(broker, "mosquitto_sub", *own, "-E", "-W", "5")
    for number in range(6):
        mosquitto(broker, "mosquitto_pub", "-V", version, "-t", "mail/in", "-m", "letter %d" %
                  number, "-q", str(1 + number % 2))
    got = mosquitto(broker, "mosquitto_sub", *own, "-C", "6", "-W", "8").stdout.decode().split()
    got = [int(number) for number in got[1::2]]
    # QoS 2 is printed when its handshake is complete: the order is that of its own kind.
    expect(got[:3] == [0, 2, 4] and got[3:] == [1, 3, 5], str(got))
    forget = open_client(broker, v, "keeper%d" % v)
    forget.disconnect()


@test("four paho clients at once exchange QoS 2 messages: each once and in order", (4, 5))
def four_clients(broker, v):
    try:
        import paho.mqtt.client as paho
    except ImportError:
        raise Skip("no paho (Debian: python3-paho-mqtt)")
    count = 40
    received = [[] for _ in range(4)]
    ready = [threading.Event() for _ in range(4)]
    clients = []
    for index in range(4):
        client = paho.Client("paho%d" % index,
                             protocol=paho.MQTTv5 if v == 5 else paho.MQTTv311)
        client.on_message = lambda _, own, message: received[own].append(message.payload)
        client.on_subscribe = lambda _, own, *__: ready[own].set()
        client.user_data_set(index)
        client.connect("127.0.0.1", broker.port, 60)
        client.loop_start()
        client.subscribe("ring/%d" % index, 2)
        clients.append(client)
    try:
        expect(all(event.wait(10) for event in ready), "no SUBACK")
        # One at a time from each: paho counts what it receives against what it may send.
        for number in range(count):
            sent = [client.publish("ring/%d" % ((index + 1) % 4), b"%d" % number, 2)
                    for index, client in enumerate(clients)]
            for message in sent:
                message.wait_for_publish(10)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(len(r) < count for r in received):
            time.sleep(0.02)
        time.sleep(0.2)  # a second copy would come now
        for index in range(4):
            expect(received[index] == [b"%d" % number for number in range(count)],
                   "client %d got %s" % (index, received[index]))
    finally:
        for client in clients:
            client.disconnect()
            client.loop_stop()


# --- byte by byte --------------------------------------------------------------------------------


@test("a fifth client is told that the broker is full, a sixth connection is closed", (3, 4, 5))
def full(broker, v):
    clients = [open_client(broker, v, "full%d" % n) for n in range(4)]
    fifth = open_client(broker, v, "full4", code=0x97 if v == 5 else 3)
    fifth.expect_close()
    fifth = wire.Client(broker.port, v)  # holds the last link without a CONNECT
    time.sleep(0.2)
    sixth = wire.Client(broker.port, v)
    sixth.send(wire.connect(v, "full5"))
    sixth.expect_close()
    for client in clients:
        client.ping()
        client.disconnect()
    fifth.close()


@test("the will of a lost client is published, that of a leaving one is not [MQTT-3.1.2-8]",
      (3, 4, 5))
def will(broker, v):
    watcher = open_client(broker, v, "watcher")
    watcher.subscribe("gone/#")
    leaver = open_client(broker, v, "leaver", will=wire.will("gone/leaver", "x", 1))
    leaver.disconnect()
    loser = open_client(broker, v, "loser", will=wire.will("gone/loser", "lost", 1))
    loser.cut()
    message = watcher.message()
    expect((message.topic, message.payload, message.qos) == ("gone/loser", b"lost", 1),
           "%s %s" % (message.topic, message.payload))
    watcher.send(wire.puback(message.id))
    watcher.ping()
    watcher.disconnect()


@test("a QoS 2 exchange cut after PUBREC is completed once on the next link [MQTT-4.4.0-1]",
      (3, 4, 5))
def resume(broker, v):
    keep = {"clean": False, "props": {"session_expiry": 600}} if v == 5 else {"clean": False}
    receiver = open_client(broker, v, "receiver")
    receiver.subscribe("pay/#")
    sender = open_client(broker, v, "sender", **keep)
    sender.send(wire.publish(v, "pay/once", "1", 2, 7))
    sender.expect(wire.pubrec(7))
    sender.cut()
    sender = open_client(broker, v, "sender", **keep)
    expect(v == 3 or sender.connack[2] == 1, "no session present")
    sender.send(wire.publish(v, "pay/once", "1", 2, 7, dup=True))
    sender.expect(wire.pubrec(7))
    sender.send(wire.pubrel(7))
    sender.expect(wire.pubcomp(7))
    message = receiver.message()
    receiver.send(wire.pubrec(message.id))
    receiver.expect(wire.pubrel(message.id))
    receiver.send(wire.pubcomp(message.id))
    receiver.ping()  # and no second copy
    receiver.disconnect()
    sender.disconnect()
    open_client(broker, v, "sender").disconnect()


@test("a packet of one byte a segment is understood, a larger one than allowed refused", (3, 4, 5))
def sizes(broker, v):
    client = open_client(broker, v, "sizes")
    client.subscribe("size")
    client.send_slowly(wire.publish(v, "size", b"x" * 200))
    expect(client.message().payload == b"x" * 200, "another payload")
    client.send(wire.publish(v, "size", b"x" * 300))
    client.expect_error(0x95)


@test("four thousand QoS 0 messages written at once all arrive, in order")
def burst(broker):
    count = 4000
    client = open_client(broker, 4, "burst")
    client.subscribe(("burst", 0))
    thread = threading.Thread(target=client.send, daemon=True, args=[
        wire.publish(4, "burst", b"%05d" % number + b"." * 150) for number in range(count)])
    thread.start()
    for number in range(count):
        payload = client.message().payload
        expect(payload == b"%05d" % number + b"." * 150, "message %d is %s" % (number, payload[:5]))
    client.ping()
    client.disconnect()


@test("a subscriber that does not acknowledge stops its publisher and nobody else; nothing is lost")
def back_pressure(broker):
    v, count = 4, 1000
    slow = open_client(broker, v, "slow")
    slow.subscribe(("flood", 1))
    other = open_client(broker, v, "other")
    publisher = open_client(broker, v, "flooder")
    failures = []

    def flood():
        try:
            for number in range(count):
                publisher.publish("flood", b"%05d" % number + b"." * 195, 1, id=1 + number)
        except Failure as failure:
            failures.append(failure)

    thread = threading.Thread(target=flood)
    thread.start()
    thread.join(1.5)
    expect(thread.is_alive(), "nothing stopped the publisher")
    other.ping()
    for number in range(count):
        message = slow.message()
        slow.send(wire.puback(message.id))
        expect(message.payload[:5] == b"%05d" % number, "message %d is %s" % (
            number, message.payload[:5]))
    thread.join(20)
    expect(not thread.is_alive() and not failures, "the publisher was not served: %s" % failures)
    for client in (slow, other, publisher):
        client.ping()
        client.disconnect()


@test("three hundred connections that end badly leave no slot behind")
def churn(broker):
    for number in range(300):
        client = wire.Client(broker.port, 4)
        if number % 3 == 0:
            client.send(wire.connect(4, "churn"))
            client.packet()
            client.sock.setsockopt(wire.socket.SOL_SOCKET, wire.socket.SO_LINGER,
                                   b"\1\0\0\0\0\0\0\0")
        elif number % 3 == 1:
            client.send(wire.connect(4, "churn")[:7])
        else:
            client.send(b"\xff\xff\xff\xff\xff")
            client.expect_close()
        client.close()
    time.sleep(0.3)
    clients = [open_client(broker, 4, "after%d" % n) for n in range(4)]
    for client in clients:
        client.ping()
        client.disconnect()


@test("eight hours of keep-alive: who pings stays, who is silent goes after one and a half periods "
      "[MQTT-3.1.2-22], while the millisecond counter wraps", (3, 4, 5))
def hours(image, v):
    # From 2 s after the start on, an hour passes in each second, later ones where the machine is
    # busy; the counter wraps at 4 s.
    broker = Guest(image, ticks=0xFFFFFFFF - 4000, speed=3600, fast_after=2000)
    started = time.monotonic()
    broker.wait_for("listening")
    watcher = open_client(broker, v, "watcher", keep_alive=7200)
    watcher.subscribe("gone/#")
    periods = {"3": 7200, "8": 19200}  # hours until it is over: seconds of keep-alive
    silent = [open_client(broker, v, "silent" + hours, keep_alive=period,
                          will=wire.will("gone/" + hours)) for hours, period in periods.items()]
    lost = []
    while len(lost) < 2 and time.monotonic() - started < 60:
        watcher.send(wire.PING)
        raw = watcher.packet()
        while raw != wire.PONG:
            lost.append((wire.Message(raw, v).topic, time.monotonic() - started - 2))
            raw = watcher.packet()
        time.sleep(0.05)
    expect([topic for topic, _ in lost] == ["gone/3", "gone/8"], "cut off: %s" % lost)
    for topic, hours_silent in lost:  # the guest's time is never ahead
        expect(hours_silent > int(topic[-1]) - 0.2, "cut off too early: %s" % lost)
    for client in silent:
        if v == 5:
            client.expect(wire.disconnect(5, 0x8D))
        client.expect_close()
    watcher.ping()
    broker.check_alive()
    broker.kill()


class Context:
    """The guest that the tests share; a new one when it has ended."""

    def __init__(self, image):
        self.image = image
        self.broker = None
        self.stack = 0

    def __call__(self, function):
        if function is hours:
            return self.image
        if self.broker is None or self.broker.process.poll() is not None:
            self.broker = Guest(self.image)
            self.broker.wait_for("listening")
        return self.broker


def main():
    context = Context(sys.argv[1])
    passed = test.run(context, sys.argv[2:])
    if context.broker is not None:
        alive = context.broker.process.poll() is None
        print("%s the broker is alive after all of it; %d bytes of stack" % (
            "ok" if alive else "FAIL", context.broker.stack_used()))
        context.broker.kill()
        passed &= alive
    finish(passed)


main()
