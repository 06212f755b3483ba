"""Shared by the interop tests: starts a broker, registers tests, runs them and reports.

Environment
    MQTTD        the broker to test; default build/bin/mqttd of this repository
    KEEP_GOING   0 stops at the first failure; otherwise every test runs
    WORKERS      tests that run at the same time (each on topics and client ids of its own)
    TIMEOUT_S    how long one expected answer may take
    FAILURE_LOG  file that gets every failure with the bytes sent and received

Arguments of a test program: parts of names; only the tests whose name has one of them run.
Output: one line `ok name` or `FAIL name: why` a test, then `N passed, N failed`; exit 1 on a
failure.
"""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
TIMEOUT_S = float(os.environ.get("TIMEOUT_S", "8"))
KEEP_GOING = os.environ.get("KEEP_GOING", "1") != "0"


class Failure(Exception):
    """An expectation that did not hold; its text is the reason in the report."""


class Skipped(Exception):
    """The machine lacks something this test needs; counted as a failure when CI is set."""


def free_port():
    """A port below the range that the system hands out to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Broker:
    """A running broker with a configuration file of its own, ended by its own process id."""

    def __init__(self, *lines):
        program = os.environ.get("MQTTD", os.path.join(ROOT, "build", "bin", "mqttd"))
        if shutil.which(program) is None:
            sys.exit("no broker at %s: build it, or name one with MQTTD" % program)
        self.folder = tempfile.mkdtemp(prefix="mqtt-interop-")
        self.port = free_port()
        config = os.path.join(self.folder, "broker.conf")
        with open(config, "w") as file:
            file.write("listener %d 127.0.0.1\nallow_anonymous true\n" % self.port)
            file.writelines(line + "\n" for line in lines)
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([program, "-c", config], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, cwd=self.folder)
        atexit.register(self.kill)
        self.wait_until_ready()

    def log_tail(self):
        with open(self.log_path, "rb") as log:
            return log.read()[-2000:].decode("utf-8", "replace")

    def wait_until_ready(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failure("broker exited %d at start: %s" %
                              (self.process.returncode, self.log_tail()))
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.kill()
        raise Failure("broker not ready within 10 s: " + self.log_tail())

    def stop(self):
        """TERM, at most 10 s; raises when the broker died before, hangs or exits with an error."""
        died = self.process.poll()
        try:
            if died is not None:
                raise Failure("broker died with %d: %s" % (died, self.log_tail()))
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(10)
            except subprocess.TimeoutExpired:
                raise Failure("broker did not end within 10 s of TERM")
            if code != 0:
                raise Failure("broker exited %d after TERM: %s" % (code, self.log_tail()))
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.kill)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.kill() if kind else self.stop()


class Tests:
    """The tests of one module: `@tests(name, versions)`, later added to a suite by `register`.

    With versions, the function takes one as its last argument and is one test for each."""

    def __init__(self):
        self.entries = []

    def __call__(self, name, versions=None):
        def collect(function):
            for version in versions or (None,):
                label = name if version is None else "%s v%s" % (name, version)
                self.entries.append((label, function, () if version is None else (version,)))
            return function
        return collect

    def register(self, suite):
        suite.tests += self.entries


class Suite:
    """Tests by name; `run()` runs those that the command line chose and exits."""

    def __init__(self, time_max_s=120):
        self.tests = []
        self.lock = threading.Lock()
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self.time_max_s = time_max_s
        self.brokers = {}

    def add(self, name, function, *arguments):
        self.tests.append((name, function, arguments))

    def broker(self, *lines):
        """The broker with these extra configuration lines, started when first asked for."""
        with self.lock:
            if lines not in self.brokers:
                self.brokers[lines] = Broker(*lines)
            return self.brokers[lines]

    def report(self, name, error=None, detail=""):
        with self.lock:
            if error is None:
                self.passed += 1
                print("ok " + name, flush=True)
                return
            if isinstance(error, Skipped):
                self.skipped += 1
                print("SKIPPED %s: %s" % (name, error), flush=True)
                return
            self.failed += 1
            text = str(error) if isinstance(error, Failure) else "%s: %s" % (
                type(error).__name__, error)
            print("FAIL %s: %s" % (name, text.replace("\n", "\n    ")), flush=True)
            log = os.environ.get("FAILURE_LOG")
            if log:
                with open(log, "a") as file:
                    file.write("### %s\n%s\n%s\n" % (name, text, detail))

    def run_one(self, entry, context):
        name, function, arguments = entry
        if self.failed and not KEEP_GOING:
            return
        state = context(self, name) if context else None
        try:
            function(*(((state,) if context else ()) + arguments))
            self.report(name)
        except Exception as error:  # pylint: disable=broad-except
            detail = state.transcript() if state else ""
            if not isinstance(error, (Failure, Skipped)):
                detail += traceback.format_exc()
            self.report(name, error, detail)
        finally:
            if state:
                state.close()

    def give_up(self):
        print("FAIL all: not done within %d s" % self.time_max_s, flush=True)
        for broker in self.brokers.values():
            broker.kill()
        os._exit(1)

    def run(self, context=None, workers=1):
        """Runs the chosen tests with `context(suite, name)` as first argument, then exits."""
        chosen = [entry for entry in self.tests if not sys.argv[1:] or
                  any(part in entry[0] for part in sys.argv[1:])]
        watchdog = threading.Timer(self.time_max_s, self.give_up)
        watchdog.daemon = True
        watchdog.start()
        workers = int(os.environ.get("WORKERS", workers))
        with ThreadPoolExecutor(workers) as pool:
            for entry in chosen:
                pool.submit(self.run_one, entry, context)
        for lines, broker in self.brokers.items():
            name = "[CONVENTIONS] broker ends with exit 0 on TERM" + "".join(
                " (%s)" % line for line in lines)
            try:
                broker.stop()
                self.report(name)
            except Failure as error:
                self.report(name, error)
        watchdog.cancel()
        if self.skipped and os.environ.get("CI"):
            self.failed += self.skipped
            self.skipped = 0
        print("%d passed, %d failed%s" % (self.passed, self.failed, ", %d skipped" % self.skipped
                                          if self.skipped else ""), flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)
