"""Runs a firmware image in QEMU; the tests of this folder talk to it through the host's loopback."""

import atexit
import os
import random
import subprocess
import sys
import threading
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tests", "interop"))

from broker import Failure  # noqa: E402


class Guest:
    """An image on the board with NAME=value arguments. `port`: the host's end of its port 1883;
    with `outgoing` it may open connections itself, else it is cut off from all but that port."""

    def __init__(self, image, outgoing=False, machine="mps2-an385", **arguments):
        self.image = os.path.basename(image)
        self.lines = []
        self.changed = threading.Condition()
        words = [self.image] + ["%s=%s" % item for item in arguments.items()]
        for _ in range(10):
            # Below 32768, where no outgoing connection's socket can be in TIME-WAIT.
            self.port = random.randrange(20000, 32000)
            if self.start(image, outgoing, machine, words):
                break
        else:
            raise Failure("QEMU finds no free port")
        atexit.register(self.kill)

    def start(self, image, outgoing, machine, words):
        network = "user,id=net,restrict=%s,hostfwd=tcp:127.0.0.1:%d-:1883" % (
            "off" if outgoing else "on", self.port)
        self.process = subprocess.Popen(
            ["qemu-system-arm", "-M", machine, "-display", "none", "-monitor", "none",
             "-serial", "none", "-netdev", network, "-net", "nic,model=lan9118,netdev=net",
             "-semihosting-config",
             "enable=on,target=native," + ",".join("arg=" + word for word in words),
             "-kernel", image],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.read_lines, args=(self.process.stdout,), daemon=True).start()
        with self.changed:
            self.changed.wait_for(lambda: self.lines or self.process.poll() is not None, 10)
            taken = any("Could not set up host forwarding" in line for line in self.lines)
        if taken:
            self.process.wait()
            self.lines = []
        return not taken

    def read_lines(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line.decode("utf-8", "replace").rstrip())
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def wait_for(self, start, timeout_s=20):
        """The first line that begins so."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while True:
                for line in self.lines:
                    if line.startswith(start):
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise Failure("%s never said \"%s\" but %s" % (self.image, start, self.lines))
                self.changed.wait(min(left, 0.1))

    def wait(self, timeout_s=60):
        """Until it ends by itself; its exit status."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure("%s did not end within %d s: %s" % (self.image, timeout_s, self.lines))

    def check_alive(self):
        if self.process.poll() is not None:
            raise Failure("%s ended with %d: %s" % (
                self.image, self.process.returncode, self.lines))

    def stack_used(self):
        used = [int(line.split()[1]) for line in self.lines if line.startswith("stack ")]
        return max(used, default=0)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        atexit.unregister(self.kill)
