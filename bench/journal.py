#!/usr/bin/env python3
"""What the journal costs: restart, compaction, bytes and syncs.

    bench/journal.py [restart] [bytes] [compaction] [instructions]

restart     1,000,000 messages of 64 bytes queued for 1,000 sessions: CPU seconds and resident
            memory of a broker that starts on them
bytes       bytes written for each byte of payload, large and small, and messages for each sync
compaction  under load: the longest time of the loop's thread in the journal in one turn
instructions  of both threads for a QoS 1 message from a publisher to a subscriber with a
            persistent session, with the journal and without, under callgrind

Prints "NAME VALUE UNIT" lines; measures what build/journal_broker is, made with -O2 for this.
"""

import os
import resource
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.join(ROOT, "tests", "interop"))
from broker import free_port  # noqa: E402
from wire import frame, string, u16  # noqa: E402


def build():
    program = os.path.join(ROOT, "build", "bench", "journal_broker")
    os.makedirs(os.path.dirname(program), exist_ok=True)
    subprocess.run([os.environ.get("CXX", "c++"), "-std=c++17", "-O2", "-DNDEBUG", "-I" + ROOT,
                    "-pthread", os.path.join(ROOT, "tests", "interop", "journal_broker.cpp"),
                    "-o", program], check=True)
    return program


class Broker:
    def __init__(self, program, path, *options):
        self.port = free_port()
        self.process = subprocess.Popen([program, str(self.port), path] + list(options),
                                        stdout=subprocess.PIPE, text=True)
        self.found = self.process.stdout.readline() if path != "none" else ""
        self.ready = self.process.stdout.readline()

    def status(self, name):
        with open("/proc/%d/status" % self.process.pid) as lines:
            for line in lines:
                if line.startswith(name):
                    return int(line.split()[1])
        return 0

    def stop(self):
        self.process.terminate()
        last = self.process.stdout.read()
        self.process.wait(30)
        return dict(pair.split("=") for pair in last.split() if "=" in pair)


class Client:
    """Blocking; counts acknowledgements without reading what they say."""

    def __init__(self, port, name, clean=True):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(frame(0x10, string("MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + string(name)))
        self.receive(4)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                sys.exit("FAIL the broker hung up")
            data += piece
        return data

    def subscribe(self, topic):
        self.send(frame(0x82, u16(1) + string(topic) + b"\x01"))
        self.receive(5)

    def publish(self, topic, payload, count, window=500):
        """QoS 1, `window` at a time."""
        packet = [frame(0x32, string(topic) + u16(i + 1) + payload) for i in range(window)]
        for at in range(0, count, window):
            some = min(window, count - at)
            self.send(b"".join(packet[:some]))
            self.receive(4 * some)

    def close(self):
        self.socket.close()


def say(name, value, unit):
    print("%s %.4g %s" % (name, value, unit), flush=True)


def restart(program):
    """A million messages, each for one session of its own topic."""
    sessions, each = 1000, 1000
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "journal")
        broker = Broker(program, path, "never")
        publisher = Client(broker.port, "publisher")
        for i in range(sessions):
            client = Client(broker.port, "s%d" % i, clean=False)
            client.subscribe("q/%d" % i)
            client.close()
            publisher.publish("q/%d" % i, b"x" * 64, each)
        publisher.close()
        full = broker.status("VmRSS")
        broker.stop()
        size = sum(os.path.getsize(os.path.join(directory, name)) for name in os.listdir(directory))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        again = Broker(program, path, "never")
        ready = float(again.ready.split("=")[1])
        peak = again.status("VmHWM")
        one = Client(again.port, "s7", clean=False)
        one.receive(60000)
        one.close()
        again.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        say("restart_1m_ready", ready, "s_cpu")
        say("restart_1m_with_compaction",
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "s_cpu")
        say("restart_1m_file", size / 1e6, "MB")
        say("restart_1m_resident_before", full / 1024, "MiB")
        say("restart_1m_resident_peak", peak / 1024, "MiB")


def deliver(port, count):
    """QoS 1 messages of 64 bytes through the broker to a subscriber that acknowledges."""
    reader = Client(port, "reader", clean=False)
    reader.subscribe("t/1")
    publisher = Client(port, "publisher")
    window, size = 100, 2 + 2 + 3 + 2 + 64
    packets = b"".join(frame(0x32, string("t/1") + u16(i + 1) + b"x" * 64) for i in range(window))
    for _ in range(0, count, window):
        publisher.send(packets)
        data = reader.receive(window * size)
        reader.send(b"".join(b"\x40\x02" + data[i * size + 7:i * size + 9]
                             for i in range(window)))
        publisher.receive(4 * window)
    publisher.close()
    reader.close()


def written(program, payload, count, mode="always"):
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(program, os.path.join(directory, "journal"), mode, "100000000000")
        reader = Client(broker.port, "reader", clean=False)
        reader.subscribe("t")
        reader.close()
        publisher = Client(broker.port, "publisher")
        publisher.publish("t", b"x" * payload, count, window=min(500, 4000000 // payload))
        publisher.close()
        result = broker.stop()
    return int(result["bytes"]), int(result["syncs"])


def delivered(program, count):
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(program, os.path.join(directory, "journal"), "always", "100000000000")
        deliver(broker.port, count)
        return int(broker.stop()["bytes"])


def cost_in_bytes(program):
    say("bytes_delivered_message_64", (delivered(program, 20000) - delivered(program, 10000)) / 1e4,
        "bytes")
    for payload, count in ((64, 20000), (1024, 10000), (65536, 200), (1000000, 20)):
        size, syncs = written(program, payload, count)
        say("bytes_per_payload_byte_%d" % payload, size / (payload * count), "bytes")
        say("overhead_per_message_%d" % payload, size / count - payload, "bytes")
        say("messages_per_sync_%d" % payload, count / syncs, "messages")


def compaction(program):
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(program, os.path.join(directory, "journal"), "always", "4000000")
        for i in range(100):
            reader = Client(broker.port, "r%d" % i, clean=False)
            reader.subscribe("t/%d" % i)
            reader.close()
        publisher = Client(broker.port, "publisher")
        for i in range(600):
            publisher.publish("t/%d" % (i % 100), b"x" * 500, 200, window=200)
        publisher.close()
        result = broker.stop()
    say("compaction_segments", float(result["segments"]), "segments")
    say("compaction_turn_max", float(result["turn_max_ms"]), "ms_cpu")


def count_instructions(program, path, count):
    with tempfile.TemporaryDirectory() as directory:
        out = os.path.join(directory, "out")
        port = free_port()
        process = subprocess.Popen(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, program, str(port),
             os.path.join(directory, path) if path != "none" else path],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        while not process.stdout.readline().startswith("ready"):
            pass
        deliver(port, count)
        process.terminate()
        process.stdout.read()
        process.wait(60)
        with open(out) as lines:
            return next(int(line.split()[1]) for line in lines
                        if line.startswith(("summary:", "totals:")))


def instructions(program):
    each = {}
    for name, path in (("off", "none"), ("on", "journal")):
        few, many = (count_instructions(program, path, count) for count in (2000, 12000))
        each[name] = (many - few) / 10000
        say("instructions_qos1_journal_" + name, each[name], "per_message")
    say("instructions_qos1_ratio", each["on"] / each["off"], "times")


def main():
    wanted = sys.argv[1:] or ["restart", "bytes", "compaction", "instructions"]
    program = build()
    if "restart" in wanted:
        restart(program)
    if "bytes" in wanted:
        cost_in_bytes(program)
    if "compaction" in wanted:
        compaction(program)
    if "instructions" in wanted:
        instructions(program)


main()
