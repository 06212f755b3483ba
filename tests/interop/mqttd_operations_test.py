#!/usr/bin/env python3
"""Running mqttd: $SYS and what it counts, the service manager, log targets, listeners, idleness.

`mqttd_operations_test.py TEXT…` runs the tests whose name has one of the texts. See broker.py for
the environment."""

import os
import re
import signal
import socket
import struct
import time

from broker import Skipped, Suite, Tests, free_port
from mqttd_options_test import Run, Server, config, connected, dial, expect, folder
from mqttd_security_test import Client, broker, connect, hashed, packet, publish, string, write

tests = Tests()


class Counting(Client):
    """A client that counts its bytes both ways."""

    sent = 0
    received = 0

    def __init__(self, port, version=4, **options):
        self.sent = len(connect(version, **options))
        super().__init__(port, version, **options)

    def exactly(self, size):
        data = super().exactly(size)
        self.received += len(data)
        return data

    def send(self, data):
        self.link.sendall(data)
        self.sent += len(data)


def retained(port, *filters):
    """Topic and text of what is retained there."""
    client = Client(port, client_id=b"reader")
    codes = client.subscribe(*filters)
    expect(set(codes) <= {0, 1, 2}, codes)
    found = {}
    client.link.sendall(b"\xc0\0")
    while True:
        first, body = client.receive()
        if first == 0xd0:
            client.close()
            return found
        expect(first & 1 == 1, "retained:", body)
        size = struct.unpack(">H", body[:2])[0]
        found[body[2:2 + size].decode()] = body[2 + size:].decode()


def after_next_tick(interval):
    """Waits until mqttd has published once more."""
    time.sleep(interval - time.time() % interval + 0.3)


@tests("all of $SYS is there from the start, for those who ask for it by name")
def _():
    with broker(anonymous="true") as (_server, port, _path):
        found = retained(port, b"$SYS/#")
        expect(found["$SYS/broker/version"].startswith("mqttd version "), found)
        expect(re.fullmatch(r"\d+ seconds", found["$SYS/broker/uptime"]), found)
        for name in """timestamp clients/connected clients/disconnected clients/total clients/maximum
                       clients/expired clients/active clients/inactive messages/received
                       messages/sent messages/stored publish/messages/received
                       publish/messages/sent publish/messages/dropped bytes/received bytes/sent
                       subscriptions/count shared_subscriptions/count store/messages/count
                       store/messages/bytes publish/bytes/received publish/bytes/sent
                       heap/current heap/maximum""".split():
            expect("$SYS/broker/" + name in found, name)
        expect("$SYS/broker/retained messages/count" in found, "retained messages/count")
        for load in ("messages/received", "messages/sent", "publish/received", "publish/sent",
                     "publish/dropped", "bytes/received", "bytes/sent", "sockets", "connections"):
            for minutes in (1, 5, 15):
                topic = "$SYS/broker/load/%s/%dmin" % (load, minutes)
                expect(re.fullmatch(r"\d+\.\d\d", found.get(topic, "")), topic)
        for way in ("received", "sent"):
            expect("$SYS/brokers/mqttd/metrics/bytes/" + way in found, "MQTTX's", way)
        expect(retained(port, b"#") == {}, "# does not match them")
    with broker(anonymous="true", extra=["sys_interval 0"]) as (_server, port, _path):
        expect(retained(port, b"$SYS/#") == {}, "none with sys_interval 0")


@tests("$SYS agrees with what was sent and received")
def _():
    interval = 2
    with broker(anonymous="true", extra=["sys_interval %d" % interval]) as (_s, port, _p):
        # A server is asked whether it is ready by a connection that says nothing.
        subscriber = Counting(port, client_id=b"subscriber")
        subscriber.send(packet(0x82, b"\0\1" + string(b"t/#") + b"\1"))
        subscriber.receive()
        publisher = Counting(port, client_id=b"publisher")
        persistent = Counting(port, client_id=b"persistent", clean=False)
        persistent.send(packet(0x82, b"\0\1" + string(b"u") + b"\1"))
        persistent.receive()
        persistent.close()
        time.sleep(0.1)
        for number in range(50):
            publisher.send(publish(4, b"t/%d" % number, b"x" * number, number % 2, number + 1))
            if number % 2:
                publisher.receive()
        for number in range(50):
            first, body = subscriber.receive()
            if first & 6:
                size = struct.unpack(">H", body[:2])[0]
                subscriber.send(b"\x40\2" + body[2 + size:4 + size])
        publisher.send(publish(4, b"u", b"kept", 1, 99))
        publisher.receive()
        clients = (subscriber, publisher, persistent)
        sent, received = sum(c.sent for c in clients), sum(c.received for c in clients)
        packets_in = 3 + 2 + 51 + 25  # CONNECT, SUBSCRIBE, PUBLISH, PUBACK
        packets_out = 3 + 2 + 50 + 26
        deadline = time.monotonic() + 20
        while True:
            after_next_tick(interval)
            found = retained(port, b"$SYS/#")
            numbers = {topic[len("$SYS/broker/"):]: text for topic, text in found.items()}
            if numbers["clients/connected"] == "2":
                break  # no reader was counted
            expect(time.monotonic() < deadline, "no update without a reader:", numbers)
        for name, wanted in (("bytes/received", sent), ("bytes/sent", received),
                             ("messages/received", packets_in), ("messages/sent", packets_out),
                             ("publish/messages/received", 51), ("publish/messages/sent", 50),
                             ("publish/messages/dropped", 0), ("clients/total", 3),
                             ("clients/disconnected", 1), ("clients/active", 2),
                             ("clients/inactive", 1), ("clients/maximum", 3),
                             ("subscriptions/count", 2)):
            expect(numbers[name] == str(wanted), name, "is", numbers[name], "not", wanted)
        expect(found["$SYS/brokers/mqttd/metrics/bytes/sent"] == str(received), "MQTTX's")
        expect(float(numbers["load/publish/received/1min"]) > 20, "a load:", numbers)


@tests("what changes in $SYS is published, what does not is not")
def _():
    with broker(anonymous="true", extra=["sys_interval 1"]) as (_server, port, _path):
        client = Client(port, client_id=b"watcher")
        client.subscribe(b"$SYS/broker/uptime", b"$SYS/broker/clients/expired",
                         b"$SYS/broker/version")
        client.messages()
        time.sleep(2.5)
        topics = client.messages()
        expect(2 <= topics.count("$SYS/broker/uptime") <= 3, topics)
        expect(set(topics) == {"$SYS/broker/uptime"}, topics)


@tests("log_dest topic publishes the lines")
def _():
    with broker(anonymous="true", extra=["log_dest topic", "log_dest stderr", "log_type all"]) as (
            _server, port, _path):
        client = Client(port, client_id=b"watcher")
        client.subscribe(b"$SYS/broker/log/#")
        other = Client(port, client_id=b"other")
        other.subscribe(b"x")
        time.sleep(0.2)
        client.link.sendall(b"\xc0\0")
        lines = []
        while True:
            first, body = client.receive()
            if first == 0xd0:
                break
            expect(first & 1 == 0, "not retained")
            lines.append(body[2:].decode())
        text = "\n".join(lines)
        expect(re.search(r"^\$SYS/broker/log/N\d+: New client connected from .* as other ", text,
                         re.M), text)
        expect(re.search(r"^\$SYS/broker/log/M/subscribe\d+: other 0 x$", text, re.M), text)


# --- the service manager ---


class Manager:
    """Stands in for systemd."""

    def __init__(self, path):
        self.name = os.path.join(path, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.name)
        self.socket.settimeout(5)

    def environment(self, **more):
        return dict(more, NOTIFY_SOCKET=self.name)

    def next(self):
        return self.socket.recv(200).decode()


@tests("the watchdog is fed, and only when it is there")
def _():
    with folder() as path:
        manager = Manager(path)
        with Server("-p", str(free_port()),
                    environment=manager.environment(WATCHDOG_USEC="400000")) as server:
            expect(manager.next() == "READY=1", "READY")
            times = []
            for _ in range(5):
                expect(manager.next() == "WATCHDOG=1", "WATCHDOG")
                times.append(time.monotonic())
            gaps = [b - a for a, b in zip(times, times[1:])]
            expect(max(gaps) < 0.4 and min(gaps) > 0.1, gaps)
            server.stop()
        while manager.next() != "STOPPING=1":
            pass
        with Server("-p", str(free_port()), environment=manager.environment(
                WATCHDOG_USEC="100000", WATCHDOG_PID="1")) as server:
            expect(manager.next() == "READY=1", "READY")
            time.sleep(0.3)
            server.stop()
            expect(manager.next() == "STOPPING=1", "not our watchdog")


@tests("the service manager hears that a reload begins and ends, good or not")
def _():
    with folder() as path:
        manager = Manager(path)
        name = write(os.path.join(path, "conf"), "listener %d 127.0.0.1\n" % free_port())
        with Server("-c", name, environment=manager.environment()) as server:
            expect(manager.next() == "READY=1", "READY")
            for text in ("", "max_qos 7\n"):
                with open(name, "a") as file:
                    file.write(text)
                server.process.send_signal(signal.SIGHUP)
                expect(re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", manager.next()), "RELOADING")
                expect(manager.next() == "READY=1", "READY")
            server.stop()


# --- listeners ---


@tests("an address the machine does not have yet is waited for")
def _():
    port = free_port()
    with config("listener %d 192.0.2.1" % port, "listener %d 127.0.0.1" % port,
                "allow_anonymous true") as name:
        with Server("-c", name) as server:
            expect("does not have the address 192.0.2.1 yet" in server.log, server.log)
            expect(connected(port)[1] == b"\x20\2\0\0", "the other serves")
            server.stop()


@tests("bind_interface takes what comes in there alone")
def _():
    port = free_port()
    with config("listener %d" % port, "bind_interface lo", "socket_domain ipv4",
                "allow_anonymous true") as name:
        with Server("-c", name) as server:
            expect(connected(port)[1] == b"\x20\2\0\0", "over lo")
            server.stop()
    with config("listener %d" % port, "bind_interface nothere0") as name:
        Run("-c", name).check(1, "There is no interface nothere0.")


@tests("clients of one mount point do not see those of another")
def _():
    ports = [free_port() for _ in range(3)]
    with config("listener %d 127.0.0.1" % ports[0], "mount_point a/", "listener %d 127.0.0.1" %
                ports[1], "mount_point b/", "listener %d 127.0.0.1" % ports[2],
                "allow_anonymous true") as name:
        with Server("-c", name) as server:
            a, b, all_of_it = (Client(port, 5, client_id=b"c%d" % port) for port in ports)
            for client in (a, b, all_of_it):
                client.subscribe(b"#")
            a.publish(b"x")
            b.publish(b"y")
            expect(a.messages() == ["x"] and b.messages() == ["y"], "their own")
            expect(sorted(all_of_it.messages()) == ["a/x", "b/y"], "both")
            server.stop()


@tests("listeners may take different versions and ids")
def _():
    ports = [free_port() for _ in range(2)]
    with config("per_listener_settings true", "listener %d 127.0.0.1" % ports[0],
                "allow_anonymous true", "accept_protocol_versions 5",
                "allow_zero_length_clientid false", "listener %d 127.0.0.1" % ports[1],
                "allow_anonymous true", "accept_protocol_versions 3,4") as name:
        with Server("-c", name) as server:
            expect(Client(ports[0], 4).code == 1, "3.1.1 refused at the first")
            expect(Client(ports[0], 5).code == 0, "5 accepted there")
            expect(Client(ports[0], 5, client_id=b"").code == 0x85, "no id refused there")
            expect(Client(ports[1], 5).code == 0x84, "5 refused at the second")
            expect(Client(ports[1], 3).code == 0 and Client(ports[1], 4).code == 0, "others not")
            expect(Client(ports[1], 4, client_id=b"").code == 0, "no id accepted")
            server.stop()


# --- messages to a person ---


@tests("the start says who can connect")
def _():
    with folder() as path:
        users = write(os.path.join(path, "users"), "a:%s\nb:%s\n" % (hashed("p"), hashed("p")))
        acl = write(os.path.join(path, "acl"), "user a\n")
        port = free_port()
        unix = os.path.join(path, "socket")
        for lines, sentence in (
                (["password_file " + users],
                 "Port %d of 127.0.0.1: the 2 users of %s can connect." % (port, users)),
                (["password_file " + users, "allow_anonymous true", "acl_file " + acl],
                 "Port %d of 127.0.0.1: everybody without a user name and the 2 users of %s can "
                 "connect, with the rights of %s." % (port, users, acl)),
                (["allow_anonymous true", "listener 0 " + unix],
                 "Unix socket %s: everybody without a user name can connect." % unix)):
            with config("listener %d 127.0.0.1" % port, *lines) as name:
                with Server("-c", name) as server:
                    expect(sentence in server.log, sentence, "expected in", server.log)
                    server.stop()


@tests("a file that the user of the program cannot read again is named")
def _():
    if os.geteuid() != 0:
        raise Skipped("needs root")
    with folder() as path:
        os.chmod(path, 0o755)
        users = write(os.path.join(path, "users"), "a:%s\n" % hashed("p"))
        os.chmod(users, 0o600)
        name = write(os.path.join(path, "conf"), "listener %d 127.0.0.1\npassword_file %s\nuser "
                     "nobody\n" % (free_port(), users))
        with Server("-c", name) as server:
            expect("%s cannot be read by this user (Permission denied)" % users in server.log,
                   server.log)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("Unable to open password file '%s'." % users)
            server.wait_for("the old settings stay")
            server.stop()


@tests("dropped messages are one line a minute")
def _():
    with broker(anonymous="true", extra=["max_queued_messages 1"]) as (server, port, _path):
        away = Client(port, client_id=b"away", clean=False)
        away.subscribe(b"t", qos=1)
        away.close()
        server.wait_for("away [")
        client = Client(port, client_id=b"client")
        for number in range(5):
            client.publish(b"t", qos=1, packet_id=number + 1)
        server.wait_for("1 messages were dropped, 1 since the start")
        client.publish(b"t", qos=1, packet_id=9)
        expect(client.is_open(), "open")
        expect(server.log.count("were dropped") == 1, server.log)


@tests("an idle broker sleeps")
def _():
    with broker(anonymous="true", extra=["sys_interval 0"]) as (server, port, _path):
        clients = [dial(port) for _ in range(5)]
        for number, link in enumerate(clients):
            body = string(b"MQTT") + b"\4\2\0\0" + string(b"c%d" % number)
            link.sendall(packet(0x10, body))
            link.recv(4)

        def switches():
            with open("/proc/%d/status" % server.process.pid) as status:
                return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read(),
                                     re.M).group(1))
        time.sleep(0.5)
        before = switches()
        time.sleep(2)
        expect(switches() == before, "woken", switches() - before, "times")


if __name__ == "__main__":
    suite = Suite(time_max_s=300)
    tests.register(suite)
    suite.run(workers=4)
