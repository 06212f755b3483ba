#!/usr/bin/env python3
"""The sketches of examples/arduino, built for this machine, against mosquitto and its clients."""

import os
import random
import subprocess
import sys
import threading
import time
import zlib

from judge import Failure, Judge, Mosquitto, Subscriber, VERSION_NAMES, expect, finish, tool

test = Judge()


class Sketch:
    """A running sketch; its time runs `speed` times as fast."""

    def __init__(self, name, port, speed=1, seconds=12):
        image = os.path.join(sys.argv[1], name, name + ".ino.elf")
        if not os.path.exists(image):
            raise Failure("%s is not built" % image)
        environment = dict(os.environ, MQTT_PORT=str(port), SKETCH_SPEED=str(speed),
                           SKETCH_MS=str(seconds * 1000))
        self.lines = []
        self.process = subprocess.Popen([image], env=environment, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def wait_for(self, text, timeout_s=8):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if any(text in line for line in self.lines):
                return
            time.sleep(0.02)
        raise Failure("the sketch never said \"%s\" but %s" % (text, self.lines))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@test("sketch temperature_sensor reports, obeys, comes back and leaves its will")
def temperature(_):
    broker = Mosquitto()
    try:
        with Sketch("temperature_sensor", broker.port, speed=20) as sketch:
            sketch.wait_for("connected")
            reports = Subscriber(broker.port, "-t", "home/room/temperature", "-C", "2", "-v")
            expect(reports.messages() == ["home/room/temperature 21.5"] * 2, "other reports")
            tool("mosquitto_pub", "-t", "home/room/lamp", "-m", "on", "-q", "1", port=broker.port)
            sketch.wait_for("lamp on")
            broker.stop()
            time.sleep(0.3)
            broker = Mosquitto(port=broker.port)
            state = Subscriber(broker.port, "-t", "home/room/state", "-C", "2")
            deadline = time.monotonic() + 8
            while sketch.lines.count("connected") < 2 and time.monotonic() < deadline:
                time.sleep(0.02)
            expect(sketch.lines.count("connected") == 2, str(sketch.lines))
            tool("mosquitto_pub", "-t", "home/room/lamp", "-m", "off", "-q", "1", port=broker.port)
            sketch.wait_for("lamp off")
        expect(state.messages() == ["online", "lost"], "other states")
    finally:
        broker.stop()


@test("sketch home_assistant announces itself, again when Home Assistant starts, and is available")
def home_assistant(_):
    with Mosquitto() as broker:
        with Sketch("home_assistant", broker.port) as sketch:
            sketch.wait_for("announced")
            found = tool("mosquitto_sub", "-t", "homeassistant/+/porch/+/config", "-C", "2", "-W",
                         "5", "-F", "%r %t %j", port=broker.port).stdout.decode()
            expect("1 homeassistant/sensor/porch/temperature/config" in found, found)
            expect("1 homeassistant/switch/porch/light/config" in found, found)
            for topic in ("sensor/porch/temperature", "switch/porch/light"):
                tool("mosquitto_pub", "-t", "homeassistant/%s/config" % topic, "-r", "-n",
                     port=broker.port)
            tool("mosquitto_pub", "-t", "homeassistant/status", "-m", "online", port=broker.port)
            again = tool("mosquitto_sub", "-t", "homeassistant/+/porch/+/config", "-C", "2", "-W",
                         "5", port=broker.port)
            expect(again.returncode == 0, str(again))
            light = Subscriber(broker.port, "-t", "porch/light", "-C", "2")
            tool("mosquitto_pub", "-t", "porch/light/set", "-m", "ON", "-q", "1", port=broker.port)
            expect(light.messages() == ["OFF", "ON"], "the light does not obey")
            state = Subscriber(broker.port, "-t", "porch/state", "-C", "2")
        expect(state.messages() == ["online", "offline"], "not available, or for ever")


@test("sketch tiny_broker serves mosquitto_pub and mosquitto_sub", (3, 4, 5))
def tiny_broker(_, v):
    port = random.randrange(20000, 32000)
    version = VERSION_NAMES[v]
    with Sketch("tiny_broker", port) as sketch:
        sketch.wait_for("listening")
        subscriber = Subscriber(port, "-V", version, "-t", "a/+", "-q", "2", "-C", "3", "-v")
        for qos in "012":
            done = tool("mosquitto_pub", "-V", version, "-t", "a/" + qos, "-m", "hello", "-q", qos,
                        "-r", port=port)
            expect(done.returncode == 0, str(done))
        expect(subscriber.messages() == ["a/%d hello" % qos for qos in range(3)], "other messages")
        late = tool("mosquitto_sub", "-V", version, "-t", "#", "-C", "3", "-W", "5", "-v", port=port)
        expect(sorted(late.stdout.decode().splitlines()) == ["a/%d hello" % q for q in range(3)],
               str(late))
        # Nine clients: eight are served, the ninth is stopped; then there is room again.
        many = [Subscriber(port, "-V", version, "-t", "b", "-C", "1") for _ in range(7)]
        last = Subscriber(port, "-V", version, "-t", "b", "-C", "1")
        ninth = tool("mosquitto_pub", "-V", version, "-t", "b", "-m", "x", port=port)
        expect(ninth.returncode != 0, "a ninth client was served")
        last.process.kill()
        last.process.wait()
        time.sleep(0.2)
        tool("mosquitto_pub", "-V", version, "-t", "b", "-m", "x", port=port)
        expect(all(each.messages() == ["x"] for each in many), "not all were served")


@test("sketch large_payload takes an image of 300,000 bytes in pieces")
def large_payload(_):
    image = bytes(random.Random(5).randrange(256) for _ in range(300000))
    path = os.path.join(sys.argv[1], "image.bin")
    with open(path, "wb") as file:
        file.write(image)
    with Mosquitto() as broker:
        with Sketch("large_payload", broker.port) as sketch:
            time.sleep(0.5)
            state = Subscriber(broker.port, "-t", "board/firmware/state", "-C", "1")
            tool("mosquitto_pub", "-t", "board/firmware", "-q", "1", "-f", path, port=broker.port)
            expect(state.messages() == ["300000 bytes, CRC %x" % zlib.crc32(image)],
                   str(sketch.lines))


finish(test.run(lambda _: None, sys.argv[2:]))
