#!/usr/bin/env python3
"""What the limits of mqttd's configuration do: per listener, by bytes and time, and after SIGHUP.

`mqttd_limits_test.py TEXT…` runs the tests whose name has one of the texts. See broker.py for the
environment."""

import os
import signal
import struct
import time

from broker import Suite, Tests, free_port
from mqttd_operations_test import after_next_tick, retained
from mqttd_options_test import Server, config, expect
from mqttd_security_test import (Client, REFUSED, VERSIONS, broker, hashed, packet, publish, string,
                                 subscribe, write)

tests = Tests()


def connack_properties(client):
    """The CONNACK behind its code, as hexadecimal digits."""
    return client.answer[1][2:].hex()


def receive_publish(client, seconds=5):
    """(QoS, topic, payload, packet id) of the next PUBLISH without properties."""
    first, body = client.receive(seconds)
    expect(first & 0xf0 == 0x30, "PUBLISH, got", hex(first))
    size = struct.unpack(">H", body[:2])[0]
    qos, at = first >> 1 & 3, 2 + size
    packet_id = struct.unpack(">H", body[at:at + 2])[0] if qos else 0
    at += (2 if qos else 0) + (1 if client.version == 5 else 0)
    return qos, body[2:2 + size], body[at:], packet_id


def reload(server, count=1):
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 5
    while server.log.count("Config reloaded from") < count:
        expect(time.monotonic() < deadline, "no reload:", server.log)
        time.sleep(0.01)


# --- of a listener ---


@tests("listeners may differ in QoS, aliases and the prefix of assigned ids")
def _():
    one, two = free_port(), free_port()
    with config("allow_anonymous true", "listener %d 127.0.0.1" % one, "max_qos 1",
                "max_topic_alias 0", "listener_auto_id_prefix one-", "listener %d 127.0.0.1" % two,
                "max_topic_alias 300", "max_topic_alias_broker 0",
                "listener_auto_id_prefix two-") as name:
        with Server("-c", name) as server:
            first, second = Client(one, 5, client_id=b""), Client(two, 5, client_id=b"")
            expect("2401" in connack_properties(first), "maximum QoS 1:", first.answer)
            expect("2401" not in connack_properties(second), "maximum QoS 2:", second.answer)
            expect(second.answer[1][3:6] == b"\x22\x01\x2c", "300 aliases:", second.answer)
            expect(first.answer[1][3] != 0x22, "no alias:", first.answer)
            expect(b"one-" in first.answer[1] and b"two-" in second.answer[1], "prefixes")
            first.link.sendall(publish(5, b"t", b"x", 2))
            expect(first.receive() == (0xe0, b"\x9b"), "QoS 2 is refused")
            second.link.sendall(publish(5, b"t", b"x", 2))
            expect(second.receive()[0] == 0x50, "QoS 2 is taken")
            expect(Client(one, 5).subscribe(b"t", qos=2) == [1], "granted QoS 1")
            server.stop()


@tests("a client may get its user name as client id", VERSIONS)
def _(version):
    users = "one:%s\ntwo:%s\n" % (hashed("p", None), hashed("p", 101))
    with broker(users, anonymous="true",
                extra=["use_username_as_clientid true"]) as (server, port, _path):
        for name in (b"one", b"two"):
            client = Client(port, version, client_id=b"other", user=name, password=b"p")
            expect(client.code == 0, "let in, got", client.code)
            again = Client(port, version, client_id=b"another", user=name, password=b"p")
            expect(again.code == 0, "let in, got", again.code)
            taken_over = (0xe0, b"\x8e") if version == 5 else None
            expect(client.receive() == taken_over, "the same client")
            server.wait_for(" as %s (" % name.decode())
        expect(Client(port, version).code == REFUSED[version], "nobody without a name")


# --- by bytes ---


@tests("max_queued_bytes bounds what waits for a session", VERSIONS)
def _(version):
    with broker(anonymous="true", extra=["max_queued_bytes 1000"]) as (_server, port, _path):
        sleeper = Client(port, version, client_id=b"sleeper", clean=False)
        expect(sleeper.subscribe(b"t", qos=1) == [1], "granted")
        sleeper.close()
        time.sleep(0.1)
        writer = Client(port, version, client_id=b"writer")
        for number in range(20):
            writer.publish(b"t", b"%02d" % number + b"x" * 98, 1, number + 1)
        sleeper = Client(port, version, client_id=b"sleeper", clean=False)
        got = [receive_publish(sleeper)[2][:2] for _ in range(10)]
        expect(got == [b"%02d" % number for number in range(10)], got)
        sleeper.link.sendall(b"\xc0\0")
        expect(sleeper.receive()[0] == 0xd0, "the rest was dropped")


@tests("max_inflight_bytes bounds what is sent before it is acknowledged", VERSIONS)
def _(version):
    with broker(anonymous="true", extra=["max_inflight_bytes 250"]) as (_server, port, _path):
        reader = Client(port, version, client_id=b"reader")
        reader.subscribe(b"t", qos=1)
        writer = Client(port, version, client_id=b"writer")
        for number in range(10):
            writer.publish(b"t", b"%d" % number + b"x" * 99, 1, number + 1)
        got = []
        while len(got) != 10:
            ids = []
            reader.link.sendall(b"\xc0\0")
            while True:
                first, body = reader.receive()
                if first == 0xd0:
                    break
                got.append(body)
                ids.append(body[3:5])
            expect(0 < len(ids) <= 3, "bytes in flight:", len(ids) * 100)
            for each in ids:
                reader.link.sendall(b"\x40\2" + each)
        expect(all(b"%dx" % number in body for number, body in enumerate(got)), "in order")


# --- by kind and time ---


@tests("upgrade_outgoing_qos delivers with the QoS of the subscription", VERSIONS)
def _(version):
    for lines, qos in ((["upgrade_outgoing_qos true"], 1), ([], 0)):
        with broker(anonymous="true", extra=lines) as (_server, port, _path):
            reader = Client(port, version, client_id=b"reader")
            reader.subscribe(b"t", qos=1)
            Client(port, version, client_id=b"writer").publish(b"t", b"x")
            got = receive_publish(reader)
            expect(got[:3] == (qos, b"t", b"x"), got)


@tests("retain_expiry_interval drops retained messages that have no time of their own")
def _():
    with broker(anonymous="true", extra=["retain_expiry_interval 2"]) as (_server, port, _path):
        writer = Client(port, 5, client_id=b"writer")
        writer.link.sendall(packet(0x31, string(b"t") + b"\0" + b"x"))
        own = b"\x05\x02" + struct.pack(">I", 60)
        writer.link.sendall(packet(0x31, string(b"own") + own + b"x"))
        expect(writer.is_open(), "taken")
        expect(set(retained(port, b"t", b"own")) == {"t", "own"}, "both are there")
        time.sleep(3.2)
        expect(set(retained(port, b"t", b"own")) == {"own"}, "one has expired")


# --- after SIGHUP ---


@tests("limits of a reloaded file count for clients that connect from then on")
def _():
    with broker(anonymous="true", extra=["max_qos 2"]) as (server, port, path):
        before = Client(port, 5, client_id=b"before")
        name = os.path.join(path, "mqttd.conf")
        head = "listener %d 127.0.0.1\nallow_anonymous true\n" % port
        write(name, head + "max_qos 1\nmax_inflight_messages 7\nmax_packet_size 1000\n"
              "max_keepalive 30\nretain_available false\nmax_topic_alias 3\nauto_id_prefix new-\n")
        reload(server)
        after = Client(port, 5, client_id=b"")
        for part in ("220003", "210007", "27000003e8", "2401", "2500", "13001e"):
            expect(part in connack_properties(after), part, "in", connack_properties(after))
        expect(b"new-" in after.answer[1], "the new prefix")
        expect(before.is_open(), "nobody is dropped")
        expect("next start" not in server.log, server.log)
        write(name, head + "memory_limit 50000000\n")
        reload(server, 2)
        expect("next start" in server.log, "sizes change with a restart only:", server.log)
        expect("24" not in connack_properties(Client(port, 5, client_id=b"2"))[2:4], "QoS 2 again")
        expect(before.is_open() and after.is_open(), "nobody is dropped")


# --- what is said about it ---


@tests("log_type unsubscribe names client and filter", VERSIONS)
def _(version):
    with broker(anonymous="true", extra=["log_type unsubscribe", "log_type notice",
                                         "log_type information"]) as (server, port, _path):
        client = Client(port, version, client_id=b"ID")
        client.subscribe(b"some/+/filter")
        body = b"\0\2" + (b"\0" if version == 5 else b"") + string(b"some/+/filter")
        client.link.sendall(packet(0xa2, body))
        expect(client.receive()[0] == 0xb0, "UNSUBACK")
        server.wait_for(": ID some/+/filter\n")


@tests("payload bytes are counted, in and out and in the store")
def _():
    with broker(anonymous="true", extra=["sys_interval 1"]) as (_server, port, _path):
        writer = Client(port, 4, client_id=b"writer")
        reader = Client(port, 4, client_id=b"reader")
        reader.link.sendall(subscribe(4, b"t"))
        reader.receive()
        for number in range(10):
            writer.link.sendall(publish(4, b"t", b"x" * 100))
            receive_publish(reader)
        writer.link.sendall(packet(0x31, string(b"kept") + b"y" * 500))
        expect(writer.is_open(), "taken")
        after_next_tick(1)
        after_next_tick(1)
        found = retained(port, b"$SYS/broker/publish/bytes/#", b"$SYS/broker/store/messages/#",
                         b"$SYS/broker/load/connections/1min")
        expect(found["$SYS/broker/publish/bytes/received"] == "1500", found)
        expect(found["$SYS/broker/publish/bytes/sent"] == "1000", found)
        expect(500 <= int(found["$SYS/broker/store/messages/bytes"]) < 5000, found)


if __name__ == "__main__":
    suite = Suite(time_max_s=300)
    tests.register(suite)
    suite.run(workers=4)
