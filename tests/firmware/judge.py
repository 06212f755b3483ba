"""What the firmware tests share: a list of tests, their report, and Mosquitto as a peer."""

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from guest import Failure

VERSION_NAMES = {3: "31", 4: "311", 5: "5"}


class Skip(Exception):
    """The machine lacks something this test needs."""


def expect(condition, text):
    if not condition:
        raise Failure(text)


class Judge:
    """Tests by name; `@judge(name, versions)`, then `run()`."""

    def __init__(self):
        self.tests = []

    def __call__(self, name, versions=(None,)):
        def collect(function):
            self.tests.extend((name if v is None else "%s v%s" % (name, v), function,
                               () if v is None else (v,)) for v in versions)
            return function
        return collect

    def run(self, context, chosen):
        """Each test gets context(function) first; True when none failed."""
        passed = True
        for name, function, arguments in self.tests:
            if not chosen or any(part in name for part in chosen):
                passed &= self.run_one(name, function, (context(function),) + arguments)
        return passed

    @staticmethod
    def run_one(name, function, arguments):
        try:
            function(*arguments)
            print("ok " + name, flush=True)
        except Skip as reason:
            print("skip %s: %s" % (name, reason), flush=True)
        except Exception as error:  # whatever a test runs into is its failure
            print("FAIL %s: %s: %s" % (name, type(error).__name__, error), flush=True)
            return False
        return True


def tool(*arguments, port, timeout_s=20):
    """A run of mosquitto_pub or mosquitto_sub."""
    if shutil.which(arguments[0]) is None:
        raise Skip("no %s (Debian: mosquitto-clients)" % arguments[0])
    return subprocess.run([arguments[0], "-p", str(port)] + list(arguments[1:]),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s,
                          check=False)


class Subscriber:
    """mosquitto_sub in the background, from its SUBACK on."""

    def __init__(self, port, *arguments, wait_s=20):
        if shutil.which("mosquitto_sub") is None:
            raise Skip("no mosquitto_sub (Debian: mosquitto-clients)")
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", "-p", str(port), "-d", "-W", str(wait_s)] +
            list(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in self.process.stdout:
            if line.startswith("Subscribed"):
                return
        raise Failure("mosquitto_sub was not granted its subscription")

    def messages(self, timeout_s=30):
        """What it printed until it ended; lines about packets are not messages."""
        lines = self.process.communicate(timeout=timeout_s)[0].splitlines()
        expect(self.process.returncode == 0, "mosquitto_sub ended with %d after %s" % (
            self.process.returncode, lines))
        return [line for line in lines if not line.startswith(("Client ", "Subscribed"))]


class Mosquitto:
    """Debian's broker on a port of its own, ended by its own process id."""

    program = "/usr/sbin/mosquitto"

    def __init__(self, *lines, port=None):
        if not os.path.exists(self.program):
            raise Skip("no mosquitto (Debian: mosquitto)")
        self.folder = tempfile.mkdtemp(prefix="mqtt-firmware-")
        self.port = port or random.randrange(20000, 32000)
        config = os.path.join(self.folder, "broker.conf")
        with open(config, "w") as file:
            file.write("listener %d 127.0.0.1\nallow_anonymous true\n" % self.port)
            if os.geteuid() == 0:
                file.write("user root\n")  # or it could not read the keys
            file.writelines(line + "\n" for line in lines)
        self.process = subprocess.Popen([self.program, "-c", config], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                time.sleep(0.05)
                if self.process.poll() is None:
                    return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise Failure("mosquitto does not start")
                time.sleep(0.02)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def finish(passed):
    sys.exit(0 if passed else 1)
