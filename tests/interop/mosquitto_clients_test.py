#!/usr/bin/env python3
"""Debian's mosquitto_pub and mosquitto_sub against the broker, over 3.1, 3.1.1 and 5.

See broker.py for the environment.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from broker import Failure, Suite, Tests

VERSIONS = ("31", "311", "5")
WAIT_S = 20

tests = Tests()


class Context:
    """Runs the two programs for one test, on topics and ids of its own."""

    count = 0

    def __init__(self, suite, name):
        Context.count += 1
        self.number = Context.count
        self.suite = suite
        self.broker = suite.broker()
        self.processes = []
        self.listeners = 0
        self.log = []

    def topic(self, name="a"):
        return "m%d/%s" % (self.number, name)

    def id(self, name):
        return "m%d%s" % (self.number, name)

    def command(self, program, version, arguments):
        return [program, "-h", "127.0.0.1", "-p",
            str(self.broker.port), "-V", version] + list(arguments)

    def run(self, program, version, *arguments, stdin=b"", code=0):
        """Runs to the end; returns what it printed."""
        command = self.command(program, version, arguments)
        self.log.append(" ".join(command))
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            raise Failure("%s did not end" % " ".join(command))
        if done.returncode != code:
            raise Failure("%s exited %d, expected %d: %s" %
     (" ".join(command), done.returncode, code, done.stderr.decode()[-300:]))
        return done.stdout

    def publish(self, version, *arguments, **more):
        return self.run("mosquitto_pub", version, *arguments, **more)

    def subscribe(self, version, *arguments, **more):
        return self.run("mosquitto_sub", version, *arguments, **more)

    def listen(self, version, *arguments):
        """mosquitto_sub in the background; returns once its subscription stands."""
        self.listeners += 1
        ready = "ready/%d/%d" % (self.number, self.listeners)
        self.publish("311", "-t", ready, "-m", "ready", "-r")
        limit = [] if "-W" in arguments else ["-W", str(WAIT_S)]
        command = self.command("mosquitto_sub", version, ["-t", ready] + limit + list(arguments))
        self.log.append(" ".join(command))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.processes.append(process)
        line = process.stdout.readline()
        if b"ready" not in line:
            raise Failure("mosquitto_sub said %r first" % line)
        return process

    def output(self, process, code=0):
        """What a listener printed by its end."""
        try:
            out, errors = process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            raise Failure("mosquitto_sub did not end")
        if process.returncode != code:
            raise Failure("mosquitto_sub exited %d, expected %d: %s" % (
                process.returncode, code, errors.decode()[-300:]))
        return out

    def transcript(self):
        return "\n".join(self.log) + "\n"

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def equal(got, wanted):
    if got != wanted:
        raise Failure("got %r, expected %r" % (got[:300], wanted[:300]))


def lines(*texts):
    return "".join(text + "\n" for text in texts).encode()


for qos in ("0", "1", "2"):
    @tests("QoS %s round trip" % qos, VERSIONS)
    def _(t, version, qos=qos):
        sub = t.listen(version, "-t", t.topic(), "-q", qos, "-C", "3", "-F", "%t %q %r %p")
        t.publish(version, "-t", t.topic(), "-q", qos, "-m", "one")
        t.publish(version, "-t", t.topic(), "-q", "2", "-m", "two")
        t.publish(version, "-t", t.topic(), "-q", "0", "-n")
        # -C counts the ready message too, so it ends one earlier
        equal(
    t.output(sub), lines(
        "%s %s 0 one" %
        (t.topic(), qos), "%s %s 0 two" %
         (t.topic(), qos)))


@tests("messages cross versions", VERSIONS)
def _(t, version):
    for other in VERSIONS:
        sub = t.listen(other, "-t", t.topic(other), "-q", "2", "-C", "2", "-F", "%t %q %p")
        t.publish(version, "-t", t.topic(other), "-q", "2", "-m", "from " + version)
        equal(t.output(sub), lines("%s 2 from %s" % (t.topic(other), version)))


@tests("a retained message is kept, replaced and cleared", VERSIONS)
def _(t, version):
    for payload in ("first", "second"):
        t.publish(version, "-t", t.topic(), "-q", "1", "-r", "-m", payload)
    equal(
    t.subscribe(
        version,
        "-t",
        t.topic(),
        "-q",
        "1",
        "-C",
        "1",
        "-F",
        "%r %q %p"),
         b"1 1 second\n")
    equal(
    t.subscribe(
        version,
        "-t",
        t.topic("+"),
        "-W",
        "5",
        "-C",
        "1",
        "--retained-only"),
         b"second\n")
    t.publish(version, "-t", t.topic(), "-r", "-n")
    equal(t.subscribe(version, "-t", t.topic(), "-W", "1", code=27), b"")


@tests("--remove-retained clears a tree", VERSIONS)
def _(t, version):
    for name in ("a", "b", "c/d"):
        t.publish(version, "-t", t.topic(name), "-r", "-m", name)
    t.subscribe(version, "-t", t.topic("#"), "--remove-retained", "-W", "1", code=27)
    equal(t.subscribe(version, "-t", t.topic("#"), "-W", "1", code=27), b"")


@tests("a will comes when the client is killed, not when it ends", VERSIONS)
def _(t, version):
    watch = t.listen(version, "-t", t.topic("will"), "-q", "1", "-C", "2", "-F", "%q %r %p")
    will = ["--will-topic", t.topic("will"), "--will-qos", "1", "--will-payload"]
    t.publish(version, "-t", t.topic("x"), "-m", "x", *(will + ["not this"]))
    victim = t.listen(version, "-t", t.topic("y"), *(will + ["gone"]))
    victim.send_signal(signal.SIGKILL)
    equal(t.output(watch), b"1 0 gone\n")


@tests("a retained will is kept", VERSIONS)
def _(t, version):
    victim = t.listen(
    version,
    "-t",
    t.topic("y"),
    "--will-topic",
    t.topic("will"),
    "--will-payload",
    "gone",
     "--will-retain")
    victim.send_signal(signal.SIGKILL)
    equal(
    t.subscribe(
        version,
        "-t",
        t.topic("will"),
        "-C",
        "1",
        "-F",
        "%r %p",
        "-W",
        "10"),
         b"1 gone\n")


@tests("a session resumes with what came meanwhile, in order", VERSIONS)
def _(t, version):
    for qos in ("1", "2"):
        keep = ["-c", "-i", t.id("s" + qos), "-q", qos] + (["-x", "300"] if version == "5" else [])
        t.subscribe(version, "-t", t.topic(), "-E", *keep)
        t.publish(version, "-t", t.topic(), "-q", "2", "-l", stdin=lines(*map(str, range(15))))
        equal(t.subscribe(version, "-t", t.topic(), "-C", "15", *keep), lines(*map(str, range(15))))


@tests("a session ends with clean start", VERSIONS)
def _(t, version):
    keep = ["-c", "-i", t.id("s"), "-q", "1"] + (["-x", "300"] if version == "5" else [])
    t.subscribe(version, "-t", t.topic(), "-E", *keep)
    t.subscribe(version, "-t", t.topic("other"), "-E", "-i", t.id("s"))
    t.publish(version, "-t", t.topic(), "-q", "1", "-m", "lost")
    equal(t.subscribe(version, "-t", t.topic(), "-W", "1", *keep, code=27), b"")


@tests("a shared subscription splits the messages", VERSIONS)
def _(t, version):
    group = [
    t.listen(
        version,
        "-t",
        "$share/group/" +
        t.topic(),
        "-q",
        "1",
        "-W",
         "4") for _ in range(2)]
    t.publish(version, "-t", t.topic(), "-q", "1", "-l", stdin=lines(*map(str, range(20))))
    shares = [t.output(member, code=27).split() for member in group]
    equal(sorted(int(n) for share in shares for n in share), list(range(20)))
    if min(len(share) for share in shares) < 5:
        raise Failure("shares of %s" % [len(share) for share in shares])


@tests("1 MB passes unchanged", VERSIONS)
def _(t, version):
    payload = os.urandom(1 << 20)
    with tempfile.NamedTemporaryFile() as file:
        file.write(payload)
        file.flush()
        for qos in ("0", "1", "2"):
            sub = t.listen(version, "-t", t.topic(qos), "-q", qos, "-C", "2")
            t.publish(version, "-t", t.topic(qos), "-q", qos, "-f", file.name)
            got = t.output(sub)[:-1]
            equal(hashlib.sha256(got).hexdigest(), hashlib.sha256(payload).hexdigest())


@tests("1 MB waits as retained message", VERSIONS)
def _(t, version):
    payload = os.urandom(1 << 20)
    t.publish(version, "-t", t.topic(), "-s", "-r", "-q", "1", stdin=payload)
    got = t.subscribe(version, "-t", t.topic(), "-C", "1", "-N", "-W", "10")
    equal(hashlib.sha256(got).hexdigest(), hashlib.sha256(payload).hexdigest())


@tests("-l sends 900 lines, all arrive in order", VERSIONS)
def _(t, version):  # fewer than max_queued_messages: none may be dropped
    sub = t.listen(version, "-t", t.topic(), "-q", "1", "-C", "901")
    text = lines(*["line %d" % n for n in range(900)])
    t.publish(version, "-t", t.topic(), "-q", "1", "-l", stdin=text)
    equal(t.output(sub), text)


@tests("--repeat sends as often as asked at QoS 2", VERSIONS)
def _(t, version):
    sub = t.listen(version, "-t", t.topic(), "-q", "2", "-C", "51")
    t.publish(
    version,
    "-t",
    t.topic(),
    "-q",
    "2",
    "-m",
    "again",
    "--repeat",
    "50",
    "--repeat-delay",
     "0")
    equal(t.output(sub), b"again\n" * 50)


@tests("wildcards, several filters and -T", VERSIONS)
def _(t, version):
    sub = t.listen(
    version,
    "-t",
    t.topic("+/x"),
    "-t",
    t.topic("b/#"),
    "-T",
    t.topic("a/x"),
    "-C",
    "3",
    "-F",
     "%t")
    for name in ("a/x", "c/x", "c/y", "b"):
        t.publish(version, "-t", t.topic(name), "-m", "m")
    equal(t.output(sub), lines(t.topic("c/x"), t.topic("b")))


@tests("-U removes a subscription of the session", VERSIONS)
def _(t, version):
    keep = ["-c", "-i", t.id("s"), "-q", "1"] + (["-x", "300"] if version == "5" else [])
    t.subscribe(version, "-t", t.topic("a"), "-t", t.topic("b"), "-E", *keep)
    t.subscribe(version, "-t", t.topic("c"), "-U", t.topic("a"), "-E", *keep)
    for name in ("a", "b", "c"):
        t.publish(version, "-t", t.topic(name), "-q", "1", "-m", name)
    equal(t.subscribe(version, "-t", t.topic("c"), "-C", "2", *keep), lines("b", "c"))


@tests("a second client with the id replaces the first", VERSIONS)
def _(t, version):
    first = t.listen(version, "-t", t.topic(), "-i", t.id("same"), "-C", "2")
    t.publish(version, "-t", t.topic("other"), "-m", "x", "-i", t.id("same"))
    # Before v5 the first comes back by itself, subscribes again, and a second "ready" ends it.
    equal(t.output(first), b"" if version == "5" else b"ready\n")


@tests("a user name and password are accepted although nobody asks", VERSIONS)
def _(t, version):
    t.publish(version, "-t", t.topic(), "-m", "x", "-u", "user", "-P", "password")


@tests("exit codes: 0 on success, 27 when -W runs out, 1 when nobody listens", VERSIONS)
def _(t, version):
    t.publish(version, "-t", t.topic(), "-q", "2", "-m", "x")
    t.subscribe(version, "-t", t.topic(), "-W", "1", code=27)
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", "1", "-V", version, "-t", "a", "-m", "x"]
    done = subprocess.run(command, capture_output=True, timeout=WAIT_S)
    equal(done.returncode, 1)


@tests("exit code of a refused connection is the v5 reason code")
def _(t):
    t.publish(
    "5",
    "-D",
    "connect",
    "authentication-method",
    "none",
    "-t",
    t.topic(),
    "-m",
    "x",
     code=0x8C)


@tests("exit code of a refused connection before v5 is 1")
def _(t):
    t.broker = t.suite.broker("allow_zero_length_clientid false")
    t.publish("31", "-i", "", "-t", t.topic(), "-m", "x", code=1)


@tests("v5 properties arrive")
def _(t):
    sub = t.listen("5", "-t", t.topic(), "-C", "2", "-F", "%A %C %D %F %P %R %p")
    t.publish(
    "5",
    "-t",
    t.topic(),
    "-m",
    "x",
    "-D",
    "publish",
    "content-type",
    "text/plain",
    "-D",
    "publish",
    "correlation-data",
    "id7",
    "-D",
    "publish",
    "payload-format-indicator",
    "1",
    "-D",
    "publish",
    "response-topic",
    "answer",
    "-D",
    "publish",
    "user-property",
    "k",
    "v",
    "-D",
    "publish",
    "user-property",
    "k",
     "w")
    equal(re.sub(rb" +", b" ", t.output(sub)), b" text/plain id7 1 k:v k:w answer x\n")


@tests("v5 message expiry counts down in the queue")
def _(t):
    keep = ["-c", "-i", t.id("s"), "-q", "1", "-x", "300"]
    t.subscribe("5", "-t", t.topic(), "-E", *keep)
    t.publish(
    "5",
    "-t",
    t.topic(),
    "-q",
    "1",
    "-m",
    "gone",
    "-D",
    "publish",
    "message-expiry-interval",
     "1")
    t.publish(
    "5",
    "-t",
    t.topic(),
    "-q",
    "1",
    "-m",
    "kept",
    "-D",
    "publish",
    "message-expiry-interval",
     "60")
    time.sleep(2.3)
    out = t.subscribe("5", "-t", t.topic(), "-C", "1", "-F", "%E %p", *keep).split()
    if out[1] != b"kept" or int(out[0]) not in (56, 57, 58):
        raise Failure("got %s" % out)


@tests("v5 topic alias from a client")
def _(t):
    sub = t.listen("5", "-t", t.topic(), "-C", "4")
    t.publish("5", "-t", t.topic(), "-l", "-D", "publish", "topic-alias", "3", stdin=b"a\nb\nc\n")
    equal(t.output(sub), b"a\nb\nc\n")


@tests("v5 subscription identifier and retain as published")
def _(t):
    sub = t.listen("5", "-t", t.topic(), "-C", "2", "-F", "%r %p", "--retain-as-published",
                   "-D", "subscribe", "subscription-identifier", "42")
    t.publish("5", "-t", t.topic(), "-r", "-m", "live")
    equal(t.output(sub), b"1 live\n")


@tests("v5 will delay and session expiry")
def _(t):
    watch = t.listen("5", "-t", t.topic("will"), "-C", "2")
    victim = t.listen(
    "5",
    "-t",
    t.topic("y"),
    "-i",
    t.id("v"),
    "-c",
    "-x",
    "300",
    "--will-topic",
    t.topic("will"),
    "--will-payload",
    "gone",
    "-D",
    "will",
    "will-delay-interval",
     "1")
    victim.send_signal(signal.SIGKILL)
    equal(t.output(watch), b"gone\n")


if __name__ == "__main__":
    for program in ("mosquitto_pub", "mosquitto_sub"):
        if shutil.which(program) is None:
            print("FAIL all: %s is missing; install the package mosquitto-clients" % program)
            sys.exit(1)
    suite = Suite(time_max_s=170)
    tests.register(suite)
    suite.broker()
    suite.run(context=Context, workers=8)
