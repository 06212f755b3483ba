#!/usr/bin/env python3
"""What mqttd keeps over a restart, an orderly one and a kill, and what it says about it.

`mqttd_persistence_test.py TEXT…` runs the tests whose name has one of the texts. See broker.py for
the environment."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import struct
import time

from broker import Skipped, Suite, Tests, free_port
from mqttd_limits_test import receive_publish
from mqttd_options_test import Run, Server, check_config, expect, folder
from mqttd_security_test import Client, VERSIONS, hashed, packet, publish, string, write

tests = Tests()


class Place:
    """A folder for a journal, a configuration that uses it, and the broker on it."""

    def __init__(self, path, *lines):
        self.path = path
        self.port = free_port()
        self.conf = write(os.path.join(path, "mqttd.conf"), "\n".join(
            ["listener %d 127.0.0.1" % self.port, "persistence true", "persistence_location " + path,
             "max_inflight_messages 0"] + list(lines)) + "\n")

    def server(self):
        return Server("-c", self.conf)

    def file(self, name):
        return os.path.join(self.path, name)

    def segments(self):
        return sorted(name for name in os.listdir(self.path) if name.startswith("mosquitto.db.0"))


@contextlib.contextmanager
def place(*lines, anonymous=True):
    with folder() as path:
        yield Place(path, *(["allow_anonymous true"] if anonymous else []), *lines)


def end(server, how):
    """TERM and a clean end, or KILL."""
    if how == "TERM":
        server.stop()
    else:
        server.process.kill()
        server.process.wait()


@tests("a restart keeps retained messages, sessions, subscriptions and what waits for them", VERSIONS)
def _(version):
    for how in ("TERM", "KILL"):
        with place() as at:
            with at.server() as server:
                away = Client(at.port, version, client_id=b"away", clean=False)
                expect(away.subscribe(b"one", b"two", qos=2) == [2, 2], "granted")
                away.close()
                server.wait_for("Client away [")
                time.sleep(0.1)
                writer = Client(at.port, version, client_id=b"writer")
                for number in range(20):
                    writer.publish(b"one", b"%d" % number, 1, number + 1)
                retained = string(b"kept") + b"\0\x63" + (b"\0" if version == 5 else b"") + b"value"
                writer.link.sendall(packet(0x33, retained))
                expect(writer.receive()[0] == 0x40, "PUBACK")
                end(server, how)
            with at.server() as server:
                expect("Restored" in server.log, server.log)
                reader = Client(at.port, version, client_id=b"reader")
                reader.subscribe(b"kept")
                expect(receive_publish(reader)[1:3] == (b"kept", b"value"), "the retained message")
                away = Client(at.port, version, client_id=b"away", clean=False)
                present = away.answer[1][0]
                expect(present == (0 if version == 3 else 1), "session present:", present)
                for number in range(20):
                    qos, topic, payload, packet_id = receive_publish(away)
                    expect((qos, topic, payload) == (1, b"one", b"%d" % number), number, payload)
                    away.link.sendall(b"\x40\2" + struct.pack(">H", packet_id))
                Client(at.port, version, client_id=b"late").publish(b"two", b"x", 1)
                expect(receive_publish(away)[1] == b"two", "the subscription")
                server.stop()


@tests("QoS 2 goes on after a kill: nothing twice, nothing lost", VERSIONS)
def _(version):
    with place() as at:
        properties = b"\0" if version == 5 else b""
        with at.server() as server:
            reader = Client(at.port, version, client_id=b"reader", clean=False)
            reader.subscribe(b"t", qos=2)
            writer = Client(at.port, version, client_id=b"writer", clean=False)
            writer.link.sendall(publish(version, b"t", b"once", 2, 7))
            expect(writer.receive() == (0x50, b"\0\7"), "PUBREC")
            end(server, "KILL")
        with at.server() as server:
            writer = Client(at.port, version, client_id=b"writer", clean=False)
            again = publish(version, b"t", b"once", 2, 7)
            writer.link.sendall(bytes([again[0] | 8]) + again[1:])
            expect(writer.receive() == (0x50, b"\0\7"), "PUBREC again")
            writer.link.sendall(b"\x62\2\0\7")
            expect(writer.receive() == (0x70, b"\0\7"), "PUBCOMP")
            reader = Client(at.port, version, client_id=b"reader", clean=False)
            first, body = reader.receive()
            expect(first & 0xf6 == 0x34 and body[5:] == properties + b"once", first, body)
            end(server, "KILL")
        with at.server() as server:
            reader = Client(at.port, version, client_id=b"reader", clean=False)
            repeated, same = reader.receive()
            expect(repeated == 0x3c and same == body, "the same again, DUP:", repeated, same)
            reader.link.sendall(b"\x50\2" + body[3:5])
            expect(reader.receive() == (0x62, body[3:5]), "PUBREL")
            reader.link.sendall(b"\x70\2" + body[3:5])
            reader.link.sendall(b"\xc0\0")
            expect(reader.receive()[0] == 0xd0, "no copy")
            server.stop()


@tests("an acknowledgement given before a kill is kept, at each of many kills")
def _():
    with place("max_queued_messages 0") as at:
        with at.server() as server:
            reader = Client(at.port, 4, client_id=b"reader", clean=False)
            reader.subscribe(b"t", qos=1)
            reader.close()
            server.stop()
        sent = acknowledged = 0
        for _ in range(10):
            with at.server() as server:
                writer = Client(at.port, 4, client_id=b"writer")
                writer.link.settimeout(0.5)
                try:
                    for turn in range(40):
                        writer.link.sendall(b"".join(
                            publish(4, b"t", b"%d" % (sent + i), 1, i + 1) for i in range(5)))
                        sent += 5
                        if turn == 30:
                            server.process.kill()
                        for _ in range(5):
                            if writer.receive(0.5)[0] == 0x40:
                                acknowledged += 1
                except (OSError, TypeError, IndexError):
                    pass
                server.process.kill()
                server.process.wait()
        with at.server() as server:
            reader = Client(at.port, 4, client_id=b"reader", clean=False)
            found = set()
            reader.link.sendall(b"\xc0\0")
            idle = False
            while not idle:
                try:
                    first, body = reader.receive(1)
                except socket.timeout:
                    idle = True
                    continue
                if first & 0xf0 == 0x30:
                    found.add(int(body[5:]))
                    reader.link.sendall(b"\x40\2" + body[3:5])
            expect(acknowledged >= 10 * 150, "acknowledged:", acknowledged)
            expect(acknowledged <= len(found) <= sent, acknowledged, "<=", len(found), "<=", sent)
            server.stop()


@tests("rules count for a session of an earlier run, by its user and its listener")
def _():
    with folder() as path:
        second = free_port()
        users = write(os.path.join(path, "users"), "".join(
            "%s:%s\n" % (name, hashed("p", 101)) for name in ("reader", "writer")))
        one = write(os.path.join(path, "one"), "user reader\ntopic read a\nuser writer\ntopic #\n")
        two = write(os.path.join(path, "two"), "user reader\ntopic read b\n")
        at = Place(path, "password_file " + users, "acl_file " + one,
                   "listener %d 127.0.0.1" % second, "password_file " + users, "acl_file " + two)
        with open(at.conf) as file:
            text = file.read()
        write(at.conf, "per_listener_settings true\n" + text)
        ports = (at.port, second)
        with at.server() as server:
            for port in ports:
                away = Client(port, user=b"reader", password=b"p", clean=False,
                              client_id=b"at %d" % port)
                expect(away.subscribe(b"#", qos=1) == [1], "granted")
            end(server, "KILL")
        with at.server() as server:
            writer = Client(at.port, user=b"writer", password=b"p")
            for packet_id, topic in enumerate((b"a", b"b", b"c")):
                writer.publish(topic, b"x", 1, packet_id + 1)
            for port, topic in zip(ports, ("a", "b")):
                back = Client(port, user=b"reader", password=b"p", clean=False,
                              client_id=b"at %d" % port)
                expect(back.messages() == [topic], topic)
            server.stop()


@tests("without persistence nothing is written, and QoS 2 reaches sessions")
def _():
    with folder() as path:
        at = Place(path, "allow_anonymous true", "persistence_file other.db")
        with open(at.conf) as file:
            text = file.read()
        write(at.conf, text.replace("persistence true\n", ""))
        with at.server() as server:
            reader = Client(at.port, 5, client_id=b"reader", clean=False)
            reader.subscribe(b"t", qos=2)
            writer = Client(at.port, 5, client_id=b"writer")
            writer.link.sendall(publish(5, b"t", b"x", 2, 1) + b"\x62\2\0\1")
            expect(receive_publish(reader)[:3] == (2, b"t", b"x"), "delivered")
            server.process.send_signal(signal.SIGUSR1)
            server.wait_for("There is nothing to save.")
            server.stop()
        expect(os.listdir(path) == ["mqttd.conf"], os.listdir(path))


@tests("persistence options: values, names of old, and what they say")
def _():
    for good in ("persistence_sync always", "persistence_sync never",
                 "persistence_sync interval 500", "retained_persistence true",
                 "persistence_file a.db"):
        check_config([good], 0)
    for name in ("autosave_interval 60", "autosave_on_changes true"):
        check_config([name], 0, "every change is saved as it happens")
    for bad in ("persistence_sync", "persistence_sync sometimes", "persistence_sync interval",
                "persistence_sync interval 0", "persistence_file a/b", "autosave_interval x",
                "persistence maybe"):
        check_config([bad], 3, "FILE:1")
    for sync in ("always", "never", "interval 50"):
        with place("persistence_sync " + sync) as at:
            for start in range(2):
                with at.server() as server:
                    client = Client(at.port, 5, client_id=b"c")
                    client.link.sendall(packet(0x33, string(b"t") + b"\0\1\0x"))
                    expect(client.receive()[0] == 0x40, "PUBACK")
                    expect(start == 0 or "Restored" in server.log, server.log)
                    server.stop()


@tests("a database of Mosquitto is left alone and said")
def _():
    with place() as at:
        old = b"\0\xb5\0mosquitto db" + bytes(100)
        with open(at.file("mosquitto.db"), "wb") as file:
            file.write(old)
        with at.server() as server:
            expect("is a Mosquitto database: not imported, not touched" in server.log, server.log)
            server.stop()
        with open(at.file("mosquitto.db"), "rb") as file:
            expect(file.read() == old, "not touched")


@tests("a journal is one broker's, and a place where none can be written ends the start")
def _():
    with place() as at:
        with at.server() as server:
            other = Place(at.path, "allow_anonymous true")
            Run("-c", other.conf).check(1, "in use by another process")
            server.stop()
    with place() as at:
        write(at.conf, "listener %d 127.0.0.1\npersistence true\n"
              "persistence_location /nonexistent/\n" % at.port)
        Run("-c", at.conf).check(1, "/nonexistent/mosquitto.db", "No such file")


@tests("a torn end is dropped and kept aside, damage is skipped and said; the broker starts")
def _():
    with place() as at:
        with at.server() as server:
            client = Client(at.port, 4, client_id=b"c")
            for number in range(50):
                topic = b"t/%d" % number
                client.link.sendall(packet(0x33, string(topic) + b"\0\1" + b"x" * 50))
                client.receive()
            end(server, "KILL")
        last = at.file(at.segments()[-1])
        with open(last, "r+b") as file:
            size = os.path.getsize(last)
            file.truncate(size - 3)
        with at.server() as server:
            expect("dropped; kept as" in server.log, server.log)
            expect(os.path.exists(at.file("mosquitto.db.bad")), os.listdir(at.path))
            reader = Client(at.port, 4, client_id=b"r")
            reader.subscribe(b"t/#")
            expect(len(reader.messages()) == 49, "all but the last")
            server.stop()


@tests("SIGUSR1 leaves out what is no longer needed")
def _():
    with place() as at:
        with at.server() as server:
            client = Client(at.port, 4, client_id=b"c")
            for number in range(300):
                client.link.sendall(packet(0x33, string(b"t") + b"\0\1" + b"x" * 1000))
                client.receive()
            before = sum(os.path.getsize(at.file(name)) for name in at.segments())
            server.process.send_signal(signal.SIGUSR1)
            server.wait_for("Writing the journal anew.")
            deadline = time.monotonic() + 10
            while True:
                client.link.sendall(b"\xc0\0")
                client.receive()
                after = sum(os.path.getsize(at.file(name)) for name in at.segments())
                if after < before / 10:
                    break
                expect(time.monotonic() < deadline, before, "bytes became", after)
                time.sleep(0.05)
            server.stop()
        with at.server() as server:
            reader = Client(at.port, 4, client_id=b"r")
            reader.subscribe(b"t")
            expect(reader.messages() == ["t"], "the last one is there")
            server.stop()


@tests("--dump-journal prints what is in a journal")
def _():
    with place() as at:
        with at.server() as server:
            client = Client(at.port, 4, client_id=b"a client", clean=False)
            client.subscribe(b"some/filter", qos=1)
            client.link.sendall(packet(0x33, string(b"a/topic") + b"\0\1" + b"a payload"))
            client.receive()
            server.stop()
        for file in (at.file("mosquitto.db"), at.file(at.segments()[-1])):
            Run("--dump-journal", file).check(0, "segment ", 'text="a client"',
                                              'text="some/filter"', 'text="a/topic"',
                                              'bytes="a payload"')
        Run("--dump-journal", at.file("absent")).check(1, "there is no journal")
        Run("--dump-journal").check(3, "--dump-journal wants a FILE")


@tests("the files are those of the user that root becomes")
def _():
    if os.geteuid() != 0:
        raise Skipped("needs root")
    with place("user nobody") as at:
        nobody = pwd.getpwnam("nobody")
        for path in (at.path, at.conf):
            shutil.chown(path, nobody.pw_uid, nobody.pw_gid)
        with at.server() as server:
            client = Client(at.port, 4, client_id=b"c")
            client.link.sendall(packet(0x33, string(b"t") + b"\0\1x"))
            client.receive()
            server.stop()
        for name in os.listdir(at.path):
            expect(os.stat(at.file(name)).st_uid == nobody.pw_uid, name)


if __name__ == "__main__":
    suite = Suite(time_max_s=300)
    tests.register(suite)
    suite.run(workers=4)
