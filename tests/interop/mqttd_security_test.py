#!/usr/bin/env python3
"""Who may connect to mqttd and what each may do: passwords, access control, the seed scenario with
Debian's clients, reload.

`mqttd_security_test.py TEXT…` runs the tests whose name has one of the texts. See broker.py for the
environment."""

import base64
import contextlib
import hashlib
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from broker import Failure, Skipped, Suite, Tests, free_port
from mqttd_options_test import Run, Server, config, dial, expect, folder, wait_until_open

tests = Tests()
VERSIONS = (3, 4, 5)


def hashed(password, iterations=101, salt=b"0123456789ab"):
    """What follows the user's name in a password file; without iterations the old hash."""
    if iterations is None:
        digest = hashlib.sha512(password.encode() + salt).digest()
        head = "$6$"
    else:
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
        head = "$7$%d$" % iterations
    return head + base64.b64encode(salt).decode() + "$" + base64.b64encode(digest).decode()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def string(value):
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    size, head = len(body), bytes([first])
    while size >= 128:
        head += bytes([size & 127 | 128])
        size >>= 7
    return head + bytes([size]) + body


def connect(version, client_id=b"id", user=None, password=None, clean=True):
    flags = (2 if clean else 0) | (0x80 if user is not None else 0)
    flags |= 0x40 if password is not None else 0
    body = (string(b"MQIsdp") if version == 3 else string(b"MQTT")) + bytes([version, flags, 0, 60])
    body += b"\x05\x11\0\0\xff\xff" if version == 5 and not clean else b"\0" if version == 5 else b""
    body += string(client_id)
    body += string(user) if user is not None else b""
    body += string(password) if password is not None else b""
    return packet(0x10, body)


def publish(version, topic, payload, qos=0, packet_id=1):
    body = string(topic) + (struct.pack(">H", packet_id) if qos else b"")
    body += b"\0" if version == 5 else b""
    return packet(0x30 | qos << 1, body + payload)


def subscribe(version, *filters, qos=0):
    body = b"\0\1" + (b"\0" if version == 5 else b"")
    for each in filters:
        body += string(each) + bytes([qos])
    return packet(0x82, body)


class Client:
    """A connection that speaks in whole packets."""

    def __init__(self, port, version=4, **options):
        self.version = version
        self.link = dial(port)
        self.link.sendall(connect(version, **options))
        self.answer = self.receive()
        self.code = self.answer[1][1] if self.answer else None

    def receive(self, seconds=5):
        """(first byte, body) of the next packet; None when the broker has closed."""
        self.link.settimeout(seconds)
        first = self.exactly(1)
        if not first:
            return None
        size, shift = 0, 0
        while True:
            byte = self.exactly(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first[0], self.exactly(size)

    def exactly(self, size):
        data = b""
        while len(data) != size:
            part = self.link.recv(size - len(data))
            if not part:
                return data
            data += part
        return data

    def subscribe(self, *filters, qos=0):
        """The codes of the SUBACK."""
        self.link.sendall(subscribe(self.version, *filters, qos=qos))
        first, body = self.receive()
        expect(first == 0x90, "SUBACK, got", hex(first))
        return list(body[3 if self.version == 5 else 2:])

    def publish(self, topic, payload=b"x", qos=0, packet_id=1):
        """The code of the PUBACK with QoS 1; 0 where there is none."""
        self.link.sendall(publish(self.version, topic, payload, qos, packet_id))
        if qos == 1:
            first, body = self.receive()
            expect(first == 0x40, "PUBACK, got", hex(first))
            return body[2] if len(body) > 2 else 0
        return 0

    def messages(self):
        """Topics that have come before the answer to a PINGREQ."""
        topics = []
        self.link.sendall(b"\xc0\0")
        while True:
            first, body = self.receive()
            if first == 0xd0:
                return topics
            expect(first & 0xf0 == 0x30, "PUBLISH, got", hex(first))
            topics.append(body[2:2 + struct.unpack(">H", body[:2])[0]].decode())

    def is_open(self):
        self.link.sendall(b"\xc0\0")
        return self.receive() == (0xd0, b"")

    def close(self):
        self.link.close()


@contextlib.contextmanager
def broker(passwords="", acl=None, extra=(), anonymous=None):
    """(server, port, folder) of an mqttd with these files; without passwords there is no file."""
    with folder() as path:
        port = free_port()
        lines = ["listener %d 127.0.0.1" % port] + list(extra)
        if anonymous is not None:
            lines.append("allow_anonymous " + anonymous)
        if passwords:
            lines.append("password_file " + write(os.path.join(path, "passwords"), passwords))
        if acl is not None:
            lines.append("acl_file " + write(os.path.join(path, "acl"), acl))
        name = write(os.path.join(path, "mqttd.conf"), "\n".join(lines) + "\n")
        with Server("-c", name) as server:
            yield server, port, path
            server.stop()


REFUSED = {3: 5, 4: 5, 5: 0x87}


# --- passwords ---


@tests("a right password lets in; a wrong one, no one and an unknown user are refused alike",
       VERSIONS)
def _(version):
    users = "new:%s\nold:%s\nslow:%s\n" % (hashed("secret"), hashed("secret", None),
                                          hashed("secret", 5000))
    with broker(users) as (server, port, _path):
        for user in (b"new", b"old", b"slow"):
            client = Client(port, version, user=user, password=b"secret")
            expect(client.code == 0, user, "accepted, got", client.code)
            expect(client.is_open(), "open")
            client.close()
            for password in (b"secreT", b"", b"secret2", b"x" * 300):
                client = Client(port, version, user=user, password=password)
                expect(client.code == REFUSED[version], user, password, "refused", client.answer)
                expect(client.receive() is None, "closed")
        answers = set()
        for options in ({"user": b"new", "password": b"no"}, {"user": b"none", "password": b"no"},
                        {"user": b"", "password": b"secret"}, {}):
            answers.add(Client(port, version, **options).answer)
        expect(len(answers) == 1, "all refusals are the same:", answers)
        if version != 3:
            client = Client(port, version, user=b"new")
            expect(client.code == REFUSED[version], "without password refused", client.answer)
        expect("secret" not in server.log, "no password in the log")


@tests("anonymous clients may be let in beside users with passwords", VERSIONS)
def _(version):
    with broker("u:%s\n" % hashed("p"), anonymous="true") as (_server, port, _path):
        expect(Client(port, version).code == 0, "anonymous")
        expect(Client(port, version, user=b"u", password=b"p").code == 0, "right")
        expect(Client(port, version, user=b"u", password=b"q").code == REFUSED[version], "wrong")
        expect(Client(port, version, user=b"v", password=b"q").code == REFUSED[version], "unknown")


@tests("hashing a password does not stall other clients")
def _():
    slow = 600000  # more than half a second
    with broker("slow:%s\nfast:%s\n" % (hashed("p", slow), hashed("p", None))) as (_s, port, _p):
        other = Client(port, user=b"fast", password=b"p", client_id=b"other")
        start = time.monotonic()
        link = dial(port)
        link.sendall(connect(4, b"slow", b"slow", b"p") + b"\xc0\0")
        worst, count = 0, 0
        link.setblocking(False)
        while True:
            before = time.monotonic()
            expect(other.is_open(), "PINGRESP")
            worst = max(worst, time.monotonic() - before)
            count += 1
            with contextlib.suppress(BlockingIOError):
                answer = link.recv(4)
                break
            expect(before - start < 30, "no answer")
        took = time.monotonic() - start
        expect(answer == b"\x20\2\0\0", "CONNACK, got", answer)
        expect(count > 50 and worst < took / 4, "%d answers, the slowest after %.3f of %.3f s" %
               (count, worst, took))
        link.settimeout(5)
        expect(link.recv(2) == b"\xd0\0", "what came meanwhile is answered")


@tests("a client that leaves while its password is checked leaves nothing behind")
def _():
    with broker("u:%s\nfast:%s\n" % (hashed("p", 300000), hashed("p", 1))) as (server, port, _p):
        for _ in range(50):
            with dial(port) as link:
                link.sendall(connect(4, b"x", b"u", b"p"))
        expect(Client(port, user=b"fast", password=b"p").code == 0, "accepted")
        server.wait_for("New client connected")


@tests("many clients with passwords at once are all let in")
def _():
    with broker("u:%s\n" % hashed("p", 1000)) as (_server, port, _path):
        links = [dial(port) for _ in range(300)]
        for number, link in enumerate(links):
            link.sendall(connect(5, b"client%d" % number, b"u", b"p"))
        for link in links:
            expect(link.recv(4)[2:] == b"\0\0", "accepted")
            link.close()


@tests("guessing is slowed down by address, and says so once")
def _():
    with broker("u:%s\n" % hashed("p", 10)) as (server, port, _path):
        for _ in range(20):
            expect(Client(port, user=b"u", password=b"no").code == 5, "refused")
        expect(Client(port, user=b"u", password=b"p").code == 5, "refused although right")
        expect(server.log.count("Too many wrong passwords from 127.0.0.1") == 1, server.log)
        deadline = time.monotonic() + 5
        while Client(port, user=b"u", password=b"p").code != 0:
            expect(time.monotonic() < deadline, "let in again after a second")
            time.sleep(0.1)
        expect(Client(port, user=b"u", password=b"no").code == 5, "refused")
        expect(Client(port, user=b"u", password=b"p").code == 0, "counted from the start again")


@tests("a broken password or acl file exits 3 with file and line")
def _():
    with folder() as path:
        passwords, acl = os.path.join(path, "passwords"), os.path.join(path, "acl")
        for option, name, text, part in (
                ("password_file", passwords, "a:%s\nb:clear\n" % hashed("x"), "not hashed"),
                ("password_file", passwords, "\na:$argon2id$v=19$x\n", "Argon2id"),
                ("acl_file", acl, "user u\ntopic reed a\n", "'reed'")):
            write(name, text)
            with config("listener 1883", option + " " + name) as file:
                for arguments in (["--test-config"], []):
                    Run("-c", file, *arguments).check(3, "Error: ", part, "%s:2." % name)
        for option in ("password_file", "acl_file"):
            with config(option + " /nonexistent") as file:
                Run("-c", file).check(3, "Unable to open", "'/nonexistent'")


# --- access control ---


ACL = """# 匿名
topic read public/#
user reader
topic read #
topic deny secret/#
user writer
topic write data/+
topic readwrite own
pattern write id/%c/out
pattern read name/%u/in
"""
USERS = "".join("%s:%s\n" % (name, hashed("p", None)) for name in ("reader", "writer", "other"))


def user(port, version, name, **options):
    return Client(port, version, user=name, password=b"p", client_id=name + b"-id", **options)


@tests("a publish that may not be is refused where the client can see it", VERSIONS)
def _(version):
    with broker(USERS, ACL, anonymous="true") as (_server, port, _path):
        watcher = user(port, version, b"reader")
        expect(watcher.subscribe(b"#") == [0], "SUBACK")
        writer = user(port, version, b"writer")
        denied = 0x87 if version == 5 else 0
        for topic, code in ((b"data/1", 0), (b"data/1/2", denied), (b"own", 0),
                            (b"public/x", denied), (b"id/writer-id/out", 0),
                            (b"id/other/out", denied), (b"name/writer/in", denied)):
            expect(writer.publish(topic, qos=1) == code, topic)
            writer.publish(topic)
        writer.link.sendall(publish(version, b"data/no/no", b"x", 2, 9))
        first, body = writer.receive()
        expect(first == 0x50 and body[2:] == (b"\x87" if version == 5 else b""), "PUBREC", body)
        expect(writer.is_open(), "the connection goes on")
        got = watcher.messages()
        expect(got == ["data/1", "data/1", "own", "own", "id/writer-id/out", "id/writer-id/out"],
               got)


@tests("no client publishes under $SYS or $share, whatever the rules", VERSIONS)
def _(version):
    for acl in (None, "topic #\ntopic $SYS/#\n"):
        with broker(acl=acl, anonymous="true") as (_server, port, _path):
            watcher = Client(port, version, client_id=b"watcher")
            watcher.subscribe(b"$SYS/broker/fake", b"$other/x")
            writer = Client(port, version, client_id=b"writer")
            for topic in (b"$SYS/broker/fake", b"$share/g/t", b"$SYS"):
                code = writer.publish(topic, b"x", 1, 1)
                expect(code == (0x87 if version == 5 else 0), topic, "answered with", code)
            if acl is None:
                writer.publish(b"$other/x", b"x", 1, 2)
                expect(watcher.messages() == ["$other/x"], "what is not the broker's")


@tests("a filter that one denying rule covers is refused, others are filtered at delivery",
       VERSIONS)
def _(version):
    with broker(USERS, ACL + "user admin\ntopic #\n", anonymous="true") as (_s, port, _path):
        reader = user(port, version, b"reader")
        refused = {3: 0, 4: 0x80, 5: 0x87}[version]
        codes = reader.subscribe(b"secret/#", b"secret/a", b"secret", b"+/a", b"$share/g/secret/+")
        expect(codes == [refused, refused, refused, 0, refused], codes)
        anonymous = Client(port, version, client_id=b"anonymous")
        expect(anonymous.subscribe(b"#", b"$SYS/#") == [0, 0], "granted")
        writer = user(port, version, b"writer")
        expect(writer.subscribe(b"own", b"name/writer/in") == [0, 0], "granted")
        writer.publish(b"own")
        expect(writer.messages() == ["own"], "own")
        expect(anonymous.messages() == [], "nothing of own, nothing of $SYS")
        expect(reader.messages() == [], "+/a has nothing")


@tests("retained messages are filtered as well", VERSIONS)
def _(version):
    acl = "topic write #\nuser reader\ntopic read open\n"
    with broker(USERS, acl, anonymous="true") as (_server, port, _path):
        writer = Client(port, version, client_id=b"w")
        for topic in (b"open", b"closed"):
            body = string(topic) + (b"\0" if version == 5 else b"") + b"x"
            writer.link.sendall(packet(0x31, body))
        expect(writer.is_open(), "taken")
        reader = user(port, version, b"reader")
        expect(reader.subscribe(b"#") == [0], "granted")
        expect(reader.messages() == ["open"], "the readable one")


@tests("a will that may not be published is not")
def _():
    with broker(USERS, ACL, anonymous="true") as (_server, port, _path):
        watcher = user(port, 4, b"reader")
        watcher.subscribe(b"#")
        for topic, count in ((b"own", 1), (b"public/x", 0)):
            link = dial(port)
            body = string(b"MQTT") + bytes([4, 0xc6, 0, 60]) + string(b"w") + string(topic)
            body += string(b"gone") + string(b"writer") + string(b"p")
            link.sendall(packet(0x10, body))
            expect(link.recv(4) == b"\x20\2\0\0", "CONNACK")
            link.close()
            time.sleep(0.2)
            expect(len(watcher.messages()) == count, topic)


def connect_with_will(version, client_id, name, topic, delay_s):
    """A CONNECT of a session that stays, with a QoS 1 will; 5.0 alone knows of a delay."""
    five = version == 5
    body = (string(b"MQIsdp") if version == 3 else string(b"MQTT")) + bytes([version, 0xcc, 0, 60])
    body += b"\x05\x11\0\0\xff\xff" if five else b""
    body += string(client_id)
    body += b"\x05\x18" + struct.pack(">I", delay_s) if five else b""
    return packet(0x10, body + string(topic) + string(b"gone") + string(name) + string(b"p"))


@tests("the rules count for a delayed will, whose client is gone for long")
def _():
    with broker(USERS, ACL) as (_server, port, _path):
        watcher = user(port, 4, b"reader")
        watcher.subscribe(b"#")
        for topic, count in ((b"own", 1), (b"public/x", 0)):
            link = dial(port)
            link.sendall(connect_with_will(5, b"w" + topic, b"writer", topic, 1))
            expect(link.recv(100)[3:4] == b"\0", "CONNACK")
            link.close()
            time.sleep(0.3)
            expect(watcher.messages() == [], "not yet")
            other = user(port, 4, b"writer")  # the slot is another's now
            time.sleep(1.5)
            expect(len(watcher.messages()) == count, topic)
            other.close()


@tests("what waits for a client that is away is filtered by its rules", VERSIONS)
def _(version):
    acl = "user writer\ntopic #\nuser reader\ntopic read open\n"
    with broker(USERS, acl) as (server, port, path):
        away = user(port, version, b"reader", clean=False)
        expect(away.subscribe(b"#", qos=1) == [1], "granted")
        away.close()
        server.wait_for("disconnected")
        writer = user(port, version, b"writer")
        for packet_id, topic in enumerate((b"open", b"closed", b"open")):
            writer.publish(topic, b"x", 1, packet_id + 1)
        # Rules that are new while the client is away count as well.
        write(os.path.join(path, "acl"), "user writer\ntopic #\nuser reader\ntopic read late\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Config reloaded from")
        for packet_id, topic in enumerate((b"open", b"late")):
            writer.publish(topic, b"x", 1, packet_id + 11)
        away = user(port, version, b"reader", clean=False)
        topics = away.messages()
        expect(topics[-1] == "late" and "closed" not in topics, topics)
        expect(topics.count("open") in (0, 2), "allowed when it was published:", topics)


@tests("a password being checked while the file changes: who is gone is not let in")
def _():
    slow = 100000
    with broker("stays:%s\ngoes:%s\n" % (hashed("p", slow), hashed("p", slow))) as (server, port,
                                                                                 path):
        links = []
        for name in (b"stays", b"goes"):
            links.append(dial(port))
            links[-1].sendall(connect(4, client_id=name, user=name, password=b"p"))
        time.sleep(0.05)
        for count in (1, 2):  # after the second nothing of the first file is left
            write(os.path.join(path, "passwords"), "stays:%s\n" % hashed("p", slow))
            server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 5
            while server.log.count("Config reloaded from") != count:
                expect(time.monotonic() < deadline, server.log)
                time.sleep(0.01)
        expect(links[0].recv(4) == b"\x20\2\0\0", "let in")
        expect(links[1].recv(4) == b"\x20\2\0\5", "refused")
        server.wait_for("u'stays'")


@tests("a mount point is in front of what the rules of its listener see")
def _():
    acl = "user writer\ntopic write house/data\nuser reader\ntopic read house/#\n" \
          "topic deny house/secret/#\n"
    with broker(USERS, acl, extra=["mount_point house/"]) as (_server, port, _path):
        reader = user(port, 5, b"reader")
        expect(reader.subscribe(b"#", b"secret/#") == [0, 0x87], "granted and refused")
        writer = user(port, 5, b"writer")
        expect(writer.publish(b"data", qos=1) == 0, "written")
        expect(writer.publish(b"house/data", qos=1) == 0x87, "refused")
        expect(reader.messages() == ["data"], "the prefix is hidden")


@tests("--test-acl says what a client may and which line says so")
def _():
    with folder() as path:
        acl = write(os.path.join(path, "acl"), ACL)
        file = write(os.path.join(path, "conf"), "listener 1883\nacl_file %s\n" % acl)
        for words, code, part in (
                (["writer", "c", "write", "data/1"], 0, "allowed: %s:7: topic data/+" % acl),
                (["writer", "c", "read", "data/1"], 1, "denied: no rule of %s" % acl),
                (["reader", "c", "read", "secret/x"], 1, "denied: %s:5: topic secret/#" % acl),
                (["", "c", "read", "public/x"], 0, "allowed: %s:2: topic public/#" % acl),
                (["x", "c1", "write", "id/c1/out"], 0, "allowed: %s:9: pattern id/%%c/out" % acl),
                (["x", "c1", "write", "id/+"], 3, "not a valid topic")):
            Run("-c", file, "--test-acl", *words).check(code, part)
        Run("--test-acl", "u", "c", "read", "t").check(3, "configuration file")
        Run("-c", file, "--test-acl", "u", "c", "look", "t").check(3, "read|write")
        with config("listener 1883") as name:
            Run("-c", name, "--test-acl", "u", "c", "read", "t").check(0, "no acl_file")


@tests("listeners can have files of their own")
def _():
    with folder() as path:
        first, second = free_port(), free_port()
        a = write(os.path.join(path, "a"), "a:%s\n" % hashed("p", None))
        b = write(os.path.join(path, "b"), "b:%s\n" % hashed("p", 100))
        acl = write(os.path.join(path, "acl"), "user b\ntopic read #\n")
        with config("per_listener_settings true", "listener %d 127.0.0.1" % first,
                    "password_file " + a, "listener %d 127.0.0.1" % second, "password_file " + b,
                    "acl_file " + acl, "allow_anonymous true") as name:
            with Server("-c", name) as server:
                expect(Client(first, user=b"a", password=b"p").code == 0, "a at the first")
                expect(Client(first, user=b"b", password=b"p").code == 5, "b not there")
                expect(Client(first).code == 5, "nobody else")
                expect(Client(second, user=b"b", password=b"p").code == 0, "b at the second")
                expect(Client(second).code == 0, "anonymous there")
                expect(Client(first, 5, user=b"a", password=b"p").publish(b"x", qos=1) == 0x10,
                       "no rules at the first")
                expect(Client(second, 5, user=b"b", password=b"p").publish(b"x", qos=1) == 0x87,
                       "rules at the second")
                server.stop()


@tests("what waits for a client that is away is filtered by the rules of its listener")
def _():
    with folder() as path:
        first, second = free_port(), free_port()
        users = write(os.path.join(path, "users"), USERS)
        one = write(os.path.join(path, "one"), "user reader\ntopic read a\nuser writer\ntopic #\n")
        two = write(os.path.join(path, "two"), "user reader\ntopic read b\n")
        with config("per_listener_settings true",
                    "listener %d 127.0.0.1" % first, "password_file " + users, "acl_file " + one,
                    "listener %d 127.0.0.1" % second, "password_file " + users,
                    "acl_file " + two) as name:
            with Server("-c", name) as server:
                for port in (first, second):
                    away = Client(port, user=b"reader", password=b"p", clean=False,
                                  client_id=b"at %d" % port)
                    expect(away.subscribe(b"#", qos=1) == [1], "granted")
                    away.close()
                server.wait_for("Client at %d [" % second)
                time.sleep(0.1)
                writer = user(first, 4, b"writer")
                for packet_id, topic in enumerate((b"a", b"b", b"c")):
                    writer.publish(topic, b"x", 1, packet_id + 1)
                for port, topic in ((first, "a"), (second, "b")):
                    back = Client(port, user=b"reader", password=b"p", clean=False,
                                  client_id=b"at %d" % port)
                    expect(back.messages() == [topic], topic)
                server.stop()


@tests("client ids can be asked for a prefix")
def _():
    with broker(anonymous="true", extra=["clientid_prefixes dev-"]) as (_server, port, _path):
        expect(Client(port, client_id=b"dev-1").code == 0, "accepted")
        expect(Client(port, client_id=b"dev").code == 5, "refused")
        expect(Client(port, 5, client_id=b"x").code == 0x87, "refused")


# --- the seed scenario ---

SEED = """# 监听端口
listener %d
# 不允许匿名访问
allow_anonymous false
# 用户名密码
password_file %s
# 权限
acl_file %s
# TLS 加密（可选）
#listener 8883
#cafile /etc/mosquitto/certs/ca.crt
#certfile /etc/mosquitto/certs/server.crt
#keyfile /etc/mosquitto/certs/server.key
"""
SEED_ACL = """user admin
topic #

user user1
topic write topic/temp1

user user2
topic read topic/temp2
"""


def debian(name):
    if shutil.which(name) is None:
        raise Skipped("needs %s (Debian: mosquitto-clients)" % name)
    return name


class Subscriber:
    """Debian's mosquitto_sub on everything; `lines()` are what it has printed."""

    def __init__(self, port, name):
        self.process = subprocess.Popen(
            [debian("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(port), "-u", name, "-P", name,
             "-i", name, "-t", "#", "-F", "%t %p", "-q", "1"], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, bufsize=0)
        self.text = b""
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while True:
            data = os.read(self.process.stdout.fileno(), 4096)
            if not data:
                return
            self.text += data

    def lines(self):
        return self.text.decode().splitlines()

    def wait_for(self, text):
        deadline = time.monotonic() + 5
        while text not in self.text.decode():
            expect(time.monotonic() < deadline, "no", text, "in", self.text)
            time.sleep(0.01)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.thread.join(5)
        self.process.stdout.close()


@tests("the seed scenario: its files start unchanged and its table holds, with Debian's clients")
def _():
    with folder() as path:
        port = free_port()
        passwords = write(os.path.join(path, "passwd"), "".join(
            "%s:%s\n" % (name, hashed(name)) for name in ("admin", "user1", "user2")))
        acl = write(os.path.join(path, "acl"), SEED_ACL)
        name = write(os.path.join(path, "mosquitto.conf"), SEED % (port, passwords, acl))
        with Server("-c", name, "-v") as server:
            sees = {each: Subscriber(port, each) for each in ("admin", "user2")}
            try:
                for each in sees:
                    server.wait_for("%s 1 #" % each)  # subscribed
                rows = (("user1", "topic/temp1", True, False),
                        ("user1", "topic/temp2", False, False),
                        ("user2", "topic/temp2", False, False),
                        ("admin", "topic/temp2", True, True),
                        ("admin", "topic/temp1", True, False))
                for number, (who, topic, admin, user2) in enumerate(rows):
                    text = "message%d" % number
                    done = subprocess.run(
                        [debian("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(port), "-u", who,
                         "-P", who, "-t", topic, "-m", text, "-q", "1"], timeout=10, check=False)
                    expect(done.returncode == 0, who, topic, "exit", done.returncode)
                    # What admin writes to a topic for both comes behind it.
                    mark = "mark%d" % number
                    subprocess.run(
                        ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-u", "admin", "-P",
                         "admin", "-t", "topic/temp2", "-m", mark, "-q", "1"], timeout=10,
                        check=True)
                    for each, wanted in (("admin", admin), ("user2", user2)):
                        sees[each].wait_for("topic/temp2 " + mark)
                        got = "%s %s" % (topic, text) in sees[each].lines()
                        expect(got == wanted, each, "sees" if got else "does not see", who, topic)
                done = subprocess.run(
                    ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", "topic/temp1",
                     "-m", "x"], timeout=10, check=False, stderr=subprocess.PIPE)
                expect(done.returncode == 5, "anonymous: exit 5, got", done.returncode, done.stderr)
            finally:
                for each in sees.values():
                    each.close()
            server.stop()


@tests("an air purifier writes its own status and reads its own command")
def _():
    acl = "user backend\ntopic readwrite device/airpurifier/#\n" \
          "pattern write device/airpurifier/%u/status\npattern read device/airpurifier/%u/command\n"
    users = "".join("%s:%s\n" % (each, hashed(each, None)) for each in ("sn1", "sn2", "backend"))
    with broker(users, acl) as (_server, port, _path):
        clients = {name: Client(port, 5, user=name, password=name, client_id=name)
                   for name in (b"sn1", b"sn2", b"backend")}
        for client in clients.values():
            expect(client.subscribe(b"device/airpurifier/#", qos=2) == [2], "granted")
        expect(clients[b"sn1"].publish(b"device/airpurifier/sn1/status", qos=1) == 0, "own status")
        expect(clients[b"sn1"].publish(b"device/airpurifier/sn2/status", qos=1) == 0x87, "other's")
        expect(clients[b"sn1"].publish(b"device/airpurifier/sn1/command", qos=1) == 0x87, "command")
        clients[b"backend"].publish(b"device/airpurifier/sn1/command")
        expect(clients[b"backend"].messages() == ["device/airpurifier/sn1/status",
                                                  "device/airpurifier/sn1/command"], "all of it")
        expect(clients[b"sn1"].messages() == ["device/airpurifier/sn1/command"], "its command")
        expect(clients[b"sn2"].messages() == [], "nothing")


# --- reload ---


@tests("SIGHUP puts new passwords and rules in force and drops nobody")
def _():
    with broker("a:%s\nb:%s\n" % (hashed("p", None), hashed("p")),
                "user a\ntopic #\nuser b\ntopic read x\n") as (server, port, path):
        a = Client(port, 5, user=b"a", password=b"p", client_id=b"a")
        b = Client(port, 5, user=b"b", password=b"p", client_id=b"b")
        expect(b.subscribe(b"#") == [0], "granted")
        a.publish(b"x", qos=1)
        a.publish(b"y", qos=1)
        expect(b.messages() == ["x"], "the old rule")
        write(os.path.join(path, "acl"), "user a\ntopic #\nuser b\ntopic read y\n")
        write(os.path.join(path, "passwords"), "a:%s\n" % hashed("new"))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Config reloaded from")
        a.publish(b"x", qos=1)
        a.publish(b"y", qos=1)
        expect(b.messages() == ["y"], "the new rule")
        expect(a.is_open() and b.is_open(), "nobody is dropped")
        expect(Client(port, user=b"a", password=b"p").code == 5, "the old password")
        expect(Client(port, user=b"a", password=b"new").code == 0, "the new one")
        expect(Client(port, user=b"b", password=b"p").code == 5, "gone")


@tests("a reload of broken files leaves the old settings and says why")
def _():
    with broker("a:%s\n" % hashed("p"), "user a\ntopic x\n") as (server, port, path):
        a = Client(port, 5, user=b"a", password=b"p", client_id=b"a")
        conf = os.path.join(path, "mqttd.conf")
        with open(conf) as file:
            good = file.read()
        count = 0
        for name, text, part in (("acl", "user a\ntopix\n", "'topix'"),
                                 ("passwords", "a:clear\n", "not hashed"),
                                 ("mqttd.conf", good + "max_quos 1\n", "'max_quos'"),
                                 ("mqttd.conf", good.replace("listener %d" % port, "listener 1"),
                                  "The listener on port %d is gone" % port)):
            target = os.path.join(path, name)
            with open(target) as file:
                before = file.read()
            write(target, text)
            server.process.send_signal(signal.SIGHUP)
            count += 1
            deadline = time.monotonic() + 5
            while server.log.count("the old settings stay") != count:
                expect(time.monotonic() < deadline, "no word in", server.log)
                time.sleep(0.01)
            expect(part in server.log, part, "in", server.log)
            expect(a.publish(b"x", qos=1) == 0x10 and a.publish(b"y", qos=1) == 0x87, "old rules")
            expect(Client(port, user=b"a", password=b"p").code == 0, "old password")
            write(target, before)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Config reloaded from")
        expect(a.is_open(), "nobody is dropped")


@tests("a reload changes the log, who may connect without a name, and moves to a new log file")
def _():
    with folder() as path:
        port = free_port()
        log = os.path.join(path, "log")
        head = "listener %d 127.0.0.1\nlog_dest file %s\n" % (port, log)
        name = write(os.path.join(path, "conf"), head + "allow_anonymous false\n")
        with Server("-c", name, ready=False) as server:
            wait_until_open(port)
            expect(Client(port).code == 5, "refused")
            os.rename(log, log + ".1")
            write(name, head + "allow_anonymous true\nlog_type error\n")
            server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 5
            while not os.path.exists(log):
                expect(time.monotonic() < deadline, "no new log file")
                time.sleep(0.01)
            expect(Client(port).code == 0, "let in")
            server.stop()
            with open(log) as file:
                expect(file.read() == "", "errors only")
            with open(log + ".1") as file:
                expect("not authorised" in file.read(), "the first log")


@tests("SIGHUP while 1,000 clients publish drops nobody, loses nothing and puts new rules in force")
def _():
    count, turns = 1000, 12
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * count:
        raise Skipped("needs %d descriptors" % (2 * count))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count), hard))
    users = "u:%s\nspy:%s\n" % (hashed("p", None), hashed("p", None))
    rules = "user u\ntopic #\nuser spy\ntopic read %s\n"
    with broker(users, rules % "load/#", extra=["max_queued_messages 0"]) as (server, port, path):
        sink = Client(port, 4, user=b"u", password=b"p", client_id=b"sink")
        expect(sink.subscribe(b"load/#", qos=1) == [1], "granted")
        spy = Client(port, 4, user=b"spy", password=b"p", client_id=b"spy")
        expect(spy.subscribe(b"#") == [0], "granted")
        clients = [Client(port, 4, user=b"u", password=b"p", client_id=b"c%d" % i)
                   for i in range(count)]
        got, seen = [], []

        def drain():
            while len(got) != count * turns:
                first, body = sink.receive(30)
                size = struct.unpack(">H", body[:2])[0]
                got.append((body[2:2 + size], body[4 + size:]))
                sink.link.sendall(b"\x40\2" + body[2 + size:4 + size])

        def watch():
            while not seen or seen[-1] != "end":
                body = spy.receive(60)[1]
                seen.append(body[2:2 + struct.unpack(">H", body[:2])[0]].decode())

        threads = [threading.Thread(target=drain), threading.Thread(target=watch)]
        for thread in threads:
            thread.start()
        reloads = 0
        for turn in range(turns):
            for number, client in enumerate(clients):
                client.link.sendall(publish(4, b"load/%d" % number, b"%d" % turn, 1, turn + 1))
            if turn % 3 == 1:
                # From the middle on the spy may read nothing of it.
                write(os.path.join(path, "acl"), rules % ("load/#" if turn < turns // 2 else "end"))
                server.process.send_signal(signal.SIGHUP)
                reloads += 1
                while server.log.count("Config reloaded from") < reloads:
                    time.sleep(0.01)
        for client in clients:
            for turn in range(turns):
                first, body = client.receive(30)
                expect(first == 0x40 and body == struct.pack(">H", turn + 1), "PUBACK", body)
            expect(client.is_open(), "open")
        threads[0].join(60)
        expect(len(set(got)) == count * turns, len(set(got)), "of", count * turns, "messages")
        clients[0].publish(b"load/late")
        clients[0].publish(b"end", b"x", 1, 99)
        threads[1].join(60)
        expect(seen[-1] == "end" and seen[-2] != "load/late", "the new rules:", seen[-3:])
        expect(count * (turns // 2 - 1) <= len(seen) <= count * (turns // 2 + 2) + 1,
               "the old rules until then:", len(seen))
        expect("Error" not in server.log, server.log[-500:])


if __name__ == "__main__":
    suite = Suite(time_max_s=300)
    tests.register(suite)
    suite.run(workers=4)
