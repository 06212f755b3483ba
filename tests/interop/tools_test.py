#!/usr/bin/env python3
"""mqtt_pub, mqtt_sub and mqtt_rr side by side with Debian's mosquitto_pub, mosquitto_sub and
mosquitto_rr: the same command lines against Mosquitto and against mqttd must print the same, exit
with the same status and publish the same.

The reference is Mosquitto 2.1.2; where Debian's 2.0.11 differs from it, `as_reference` says how.
See broker.py for the environment; also TOOLS, the folder of the three programs (build/bin), and
TOOLS_TLS, one with programs built with -DMQTT_TLS=1 (none: they are built).
"""

import os
import queue
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from broker import ROOT, Broker, Failure, Skipped, Suite, Tests, free_port

TOOLS = os.environ.get("TOOLS", os.path.join(ROOT, "build", "bin"))
WAIT_S = 20
BINARY = bytes(range(256))
CONTROL = b'a"b\\c\td\x01\x7f\xc3\xa9/'
DOCUMENT = (b'\xef\xbb\xbf {"a":1.0,"b":[1,2,{"c":null}],"e":{},"f":[],"g":1e3,"h":0.1,'
            b'"u":"\\u00e9\\/\\n\\u0001\\ud83d\\ude00","k":123456789012345678,"n":-0.0,'
            b'"z":3.14159265358979312,"t":true, "l":[[],[[false]]],"d":-1.5E-7} ')
PROPERTIES = ("-V 5 -D publish user-property a b -D publish user-property c 'd\"e' "
              "-D publish content-type text/plain -D publish correlation-data cd "
              "-D publish response-topic r/t -D publish payload-format-indicator 1")

# Each row: name, tool, arguments, and what else. {t} is a topic of the run's own, {d} a folder,
# {p} the broker's port, {s} the Unix socket. "retained": what is there before, as topic, payload
# and options of mosquitto_pub. "pub" rows are recorded: what a subscriber of {t}/# gets must be
# equal too. "unstable" names streams that are not compared.
CASES = []


def case(name, tool, arguments, **more):
    CASES.append((name, tool, arguments, more))


def retained_case(name, arguments, payload, options="", **more):
    case(name, "sub", "-t {t}/r -C 1 " + arguments, retained=[("r", payload, options)], **more)


# --- what is published --------------------------------------------------------------------------

for version in ("31", "311", "5"):
    for qos in ("0", "1", "2"):
        case("pub v%s QoS %s" % (version, qos), "pub",
             "-V %s -q %s -t {t}/a -m hello -i {i}" % (version, qos))
case("pub long names", "pub", "--host 127.0.0.1 --port {p} --topic {t}/a --message x --qos 1 "
     "--id {i} --keepalive 10 --retain --protocol-version mqttv311 --disable-clean-session")
case("pub -n", "pub", "-t {t}/a -n -q 1")
case("pub -m empty", "pub", "-t {t}/a -m '' -q 1")
case("pub -s", "pub", "-t {t}/a -s -q 1", stdin=BINARY)
case("pub -f", "pub", "-t {t}/a -f {d}/binary -q 2")
case("pub -f empty", "pub", "-t {t}/a -f /dev/null -q 1")
case("pub -f large", "pub", "-t {t}/a -f {d}/large -q 1")
case("pub -l", "pub", "-t {t}/a -l -q 1", stdin=b"one\n\nthree\r\nno end")
case("pub -l empty", "pub", "-t {t}/a -l", stdin=b"")
case("pub -l QoS 0", "pub", "-t {t}/a -l", stdin=b"".join(b"%d\n" % i for i in range(500)))
case("pub -l QoS 2 -M 1", "pub", "-t {t}/a -l -q 2 -M 1", stdin=b"1\n2\n3\n4\n")
case("pub -l a long line", "pub", "-t {t}/a -l -q 1", stdin=b"x" * 200000 + b"\nshort\n")
case("pub --repeat", "pub", "-t {t}/a -m x -q 1 --repeat 3")
case("pub --repeat-delay", "pub", "-t {t}/a -m x --repeat 2 --repeat-delay 0.1")
case("pub -L", "pub", "-L mqtt://127.0.0.1:{p}/{t}/a -m x -q 1")
case("pub -L with a user", "pub", "-L MQTT://u:p@127.0.0.1:{p}/{t}/a -m x -q 1")
case("pub -u -P", "pub", "-t {t}/a -m x -u user -P word -q 1")
case("pub v5 -P alone", "pub", "-t {t}/a -m x -P word -q 1 -V 5")
case("pub -I", "pub", "-t {t}/a -m x -I prefix -q 1")
case("pub -A", "pub", "-t {t}/a -m x -A 127.0.0.1 -q 1")
case("pub --nodelay", "pub", "-t {t}/a -m x --nodelay -q 1")
case("pub --unix", "pub", "--unix {s} -t {t}/a -m x -q 1", brokers=("mosquitto",))
case("pub -x", "pub", "-t {t}/a -m x -x 10 -i {i} -q 1")
case("pub -x for ever", "pub", "-t {t}/a -m x -x ∞ -i {i} -q 1")
case("pub properties", "pub", "-t {t}/a -m x -q 1 " + PROPERTIES)
case("pub topic alias", "pub", "-t {t}/a -m x -q 1 -V 5 -D publish topic-alias 3 --repeat 3")
case("pub connect properties", "pub", "-t {t}/a -m x -q 1 -D connect session-expiry-interval 0x10 "
     "-D CONNECT user-property a b -D disconnect session-expiry-interval 5 "
     "-D connect receive-maximum 3 -D connect maximum-packet-size 1000 "
     "-D connect topic-alias-maximum 4")
case("pub will", "pub", "-t {t}/a -m x -q 1 --will-topic {t}/w --will-payload gone --will-qos 1 "
     "--will-retain")
case("pub will properties", "pub", "-V 5 -t {t}/a -m x -q 1 --will-topic {t}/w "
     "-D will will-delay-interval 1 -D will content-type a")
case("pub XDG_CONFIG_HOME", "pub", "-m x", environment={"XDG_CONFIG_HOME": "{d}/config"})
case("pub HOME", "pub", "-m x", environment={"HOME": "{d}/home", "XDG_CONFIG_HOME": None})
case("pub UTF-8", "pub", "-t {t}/ä/日本 -m 'Grüße' -q 1")
for version in ("311", "5"):
    for qos in ("0", "1", "2"):
        case("pub -d v%s QoS %s" % (version, qos), "pub",
             "-d -V %s -q %s -t {t}/a -m hello -i {i} --repeat 2" % (version, qos))
case("pub -d without an id", "pub", "-d -V 5 -q 1 -t {t}/a -m hello")
case("pub -d -l", "pub", "-d -t {t}/a -l", stdin=b"a\nb\n", order=False)

# --- what is printed ----------------------------------------------------------------------------

for qos in ("0", "1", "2"):
    for version in ("31", "311", "5"):
        retained_case("sub v%s QoS %s" % (version, qos), "-V %s -q %s -i {i}" % (version, qos),
                      b"payload", "-q " + qos)
retained_case("sub -v", "-v", b"payload")
retained_case("sub -N", "-N", b"payload")
retained_case("sub -v -N", "-v -N", b"payload")
retained_case("sub binary", "", BINARY)
retained_case("sub --quiet", "--quiet", b"payload")
retained_case("sub large", "", BINARY * 4000)
retained_case("sub two topics", "-t {t}/other", b"payload")
retained_case("sub -x", "-x 0 -V 5", b"x")
retained_case("sub -c", "-c -i {i} -q 1", b"x")
retained_case("sub -L", "-L mqtt://127.0.0.1:{p}/{t}/r", b"x")
retained_case("sub subscription identifier", "-D subscribe subscription-identifier 42 -F '%S|%5S'",
              b"x")
retained_case("sub retain-as-published", "-V 5 --retain-as-published -F %r", b"x")
FORMATS = ["%%", "@@", "a%tb", "[%20t]", "[%-20t]", "[%.9t]", "[%12.4t]", "[%020t]", "%p", "[%5p]",
           "[%-5p]", "[%30p]", "[%-30p]", "[%030p]", "[%.3p]", "%x", "%X", "%l", "[%8l]", "[%-8l]",
           "[%08l]", "%m", "[%4m]", "%q%r", "[%08q]", "[%3%]", "%P", "%D", "%C", "[%14C]",
           "[%-14C]", "%R", "[%8R]", "%F", "[%3F]", "%A", "[%5A]", "[%05S]", "%E", r"\\|\t|\e|\a|\v|\r",
           r"x\0y", r"\n", "", "plain text"]
for text in FORMATS:
    retained_case("sub -F '%s'" % text, "-V 5 -q 1 -F " + shlex.quote(text), b"payload {}",
                  "-q 1 " + PROPERTIES)
    if text.startswith("["):
        retained_case("sub -F '%s' of little" % text, "-F " + shlex.quote(text), b"x")
for text in ("%I", "[%30I]", "%U", "@Y-@m-@d @H:@M:@S", "@s", "@Z", "@j", "@N", "@%"):
    retained_case("sub -F '%s'" % text, "-F " + shlex.quote(text), b"x", times=True)
for text in ("%j", "%J", "%J %t", "[%5j]"):
    for label, payload in (("document", DOCUMENT), ("text", CONTROL), ("nothing there", b"{"),
                           ("number", b"17"), ("word", b"nullx"), ("string", b' "a\\u0041" '),
                           ("leading zeros", b"[01, 2.]"), ("comma", b"[1,]"),
                           ("deep", b"[" * 999 + b"]" * 999), ("too deep", b"[" * 1001 + b"]" * 1001),
                           ("bad escape", b'["\\x"]'), ("half a pair", b'["\\ud800"]'),
                           ("trailing", b"{} x"), ("same key", b'{"a":1,"a":2}')):
        for pretty in ("", " --pretty"):
            if payload is not DOCUMENT and (pretty or text != "%J"):
                continue
            retained_case("sub -F '%s'%s %s" % (text, pretty, label),
                          "-V 5 -q 1 -F " + shlex.quote(text) + pretty, payload,
                          "-q 1 " + PROPERTIES if payload is DOCUMENT else "", times=True)
retained_case("sub -F %J of v3.1.1", "-F %J", b"[1, 2]", times=True)
case("sub -v without a payload", "sub", "-v -t {t}/a -W 2", live=[("a", b"")])
case("sub without a payload", "sub", "-t {t}/a -W 2", live=[("a", b"")])
case("sub -F %j without a payload", "sub", "-F '%j|%J|%p' -t {t}/a -W 2", live=[("a", b"")],
     times=True)
case("sub -R", "sub", "-R -v -t {t}/# -C 1", retained=[("r", b"old", "")], live=[("a", b"new")])
case("sub -T", "sub", "-v -t {t}/# -T {t}/+/x -C 2 -W 5", retained=[
    ("a/x", b"1", ""), ("a/y", b"2", ""), ("b/x", b"3", ""), ("b/y", b"4", "")], order=False)
case("sub --retained-only", "sub", "--retained-only -v -t {t}/#", retained=[
    ("a", b"1", ""), ("b", b"2", "")], live=[("c", b"new")], order=False)
case("sub -C of more", "sub", "-t {t}/# -C 2 -q 1", retained=[
    ("a", b"1", ""), ("b", b"1", ""), ("c", b"1", "")])
case("sub -E", "sub", "-E -t {t}/a -d")
case("sub -E with -U", "sub", "-E -t {t}/a -U {t}/b -d")
case("sub -W", "sub", "-W 1 -t {t}/a")
case("sub -W -d", "sub", "-W 1 -t {t}/a -t {t}/b -q 2 -d -i {i}")
for version in ("31", "311", "5"):
    for qos in ("0", "1"):
        retained_case("sub -d v%s QoS %s" % (version, qos), "-d -V %s -q %s -i {i}" % (version, qos),
                      b"x", "-q " + qos)
case("sub $share", "sub", "-t '$share/g/{t}/a' -V 5 -E")
case("sub INT", "sub", "-t {t}/a -d -i {i}", interrupt=signal.SIGINT)
case("sub TERM", "sub", "-V 5 -t {t}/a -d -i {i}", interrupt=signal.SIGTERM)

# --- request and response -----------------------------------------------------------------------

for version in ("", "-V 311", "-V 31 -i {i}"):
    case("rr %s" % version, "rr", "-t {t}/q -e {t}/r -m x %s" % version,
         retained=[("r", b"the answer", "")], recorded=True)
case("rr -n -v", "rr", "-v -t {t}/q -e {t}/r -n", retained=[("r", b"a", "")], recorded=True)
case("rr -F", "rr", "-F '%t %p %q %r %C' -q 1 -t {t}/q -e {t}/r -n",
     retained=[("r", b"a", "-q 1 " + PROPERTIES)], recorded=True)
case("rr correlation", "rr", "-t {t}/q -e {t}/r -n -D publish correlation-data 17",
     retained=[("r", b"a", "")], recorded=True)
case("rr -W", "rr", "-t {t}/q -e {t}/r -m x -W 1", recorded=True)
case("rr -L", "rr", "-L mqtt://127.0.0.1:{p}/{t}/q -e {t}/r -m x", retained=[("r", b"a", "")],
     recorded=True)

# --- what is refused ----------------------------------------------------------------------------

for tool, arguments in (
        ("pub", "-t {t}"), ("pub", "-m x"), ("pub", ""), ("rr", "-t {t} -m x"),
        ("rr", "-t {t} -e {t}"), ("rr", "-e {t} -m x"),
        ("pub", "-t {t} -m a -m b"), ("pub", "-t {t} -m a -n"), ("pub", "-t {t} -l -s"),
        ("pub", "-t a/+ -m x"), ("pub", "-t a/# -m x"), ("pub", "-t '\udcff' -m x"),
        ("sub", "-t a/#/b"), ("sub", "-t a+"), ("sub", "-t '\udcff'"), ("sub", "-t a -T a/#/b"),
        ("sub", "-t a -U b/#/c"), ("sub", "-t a -U '\udcff'"), ("rr", "-t a -e b/# -m x"),
        ("rr", "-t a/+ -e b -m x"), ("sub", "-t a -R --retained-only"),
        ("pub", "-t a -m x -q 3"), ("pub", "-t a -m x -q -1"), ("sub", "-t a -q 7"),
        ("pub", "-t a -m x -k 4"), ("pub", "-t a -m x -k 65536"), ("sub", "-t a -k abc"),
        ("pub", "-t a -m x -p 65536"), ("pub", "-t a -m x -p -1"), ("sub", "-t a -C 0"),
        ("sub", "-t a -C x"), ("sub", "-t a -W 0"), ("rr", "-t a -e b -m x -W -3"),
        ("pub", "-t a -m x -M 0"), ("pub", "-t a -m x --repeat 0"),
        ("pub", "-t a -m x --repeat-delay -1"), ("pub", "-t a -m x -V 4"),
        ("pub", "-t a -m x -V mqttv4"), ("pub", "-t a -m x -c"), ("sub", "-t a -c"),
        ("sub", "-t a -c -V 5"), ("sub", "-t a -x -1 -V 5"), ("sub", "-t a -x abc -i i"),
        ("sub", "-t a -x 4294967296 -i i"), ("sub", "-t a -x 10z -i i"),
        ("sub", "-t a -c -I prefix"), ("pub", "-t a -m x -i a -I b"),
        ("pub", "-t a -m x -I a -i b"), ("pub", "-t a -m x -i ''"), ("sub", "-t a -i ''"),
        ("pub", "-t a -m x -P word"), ("pub", "-t a -m x --will-payload x"),
        ("pub", "-t a -m x --will-retain"), ("pub", "-t a -m x --will-topic a --will-qos 3"),
        ("pub", "-t a -m x --will-topic a/#"), ("pub", "-t a -m x --will-topic '\udcff'"),
        ("pub", "-L mqtt://127.0.0.1 -m x"),
        ("pub", "-L mqtt://127.0.0.1/a/+ -m x"), ("pub", "-t a -f /no/such/file"),
        ("pub", "-t a -s"),
        ("pub", "-C 1 -t a -m x"), ("sub", "-t a -m x"), ("sub", "-t a -r"), ("sub", "-t a -e b"),
        ("rr", "-t a -e b -l"), ("rr", "-C 1"), ("pub", "-F %p"), ("pub", "-v"), ("pub", "-N"),
        ("pub", "-W 1"), ("sub", "-t a --repeat 1"), ("sub", "-t a -z"), ("pub", "--nonsense"),
        ("pub", "stray"), ("sub", "-t a --random-filter 0"), ("sub", "-t a -F %"), ("sub", "-t a -F 'a%z'"),
        ("sub", "-t a -F 'a%5'"), ("sub", "-t a -F 'a%5.'"), ("sub", "-t a -F 'a%-'"),
        ("sub", "-t a -F 'a@'"), ("sub", r"-t a -F 'a\'"), ("sub", r"-t a -F '\q'"),
        ("rr", "-t a -e b -n -F %k"), ("pub", "-D"), ("pub", "-D publish topic-alias"), ("pub", "-D publish user-property a"),
        ("pub", "-D connect topic-alias 1"),
        ("pub", "-D publish topic-alias 65536"), ("pub", "-D publish topic-alias -1"),
        ("pub", "-D publish payload-format-indicator 256"),
        ("pub", "-D publish message-expiry-interval 4294967296"),
        ("pub", "-D publish subscription-identifier 1"), ("pub", "-D puback reason-string x"),
        ("pub", "-D auth authentication-method x"),
        ("pub", "-t a -m x -D publish content-type a -D publish content-type b"),
        ("pub", "-t a -m x -D connect receive-maximum 1 -D connect receive-maximum 2"),
        ("sub", "-t a -D subscribe subscription-identifier 1 -D subscribe "
         "subscription-identifier 2"),
        ("rr", "-t a -e b -m x -D publish response-topic c"),
        ("pub", "--unix /no/such/socket -t a -m x"), ("sub", "--unix /no/such/socket -t a"),
        ("pub", "-p {free} -t a -m x"), ("sub", "-p {free} -t a"), ("rr", "-p {free} -t a -e b -n"),
        ("pub", "-p {free} -t a -m x --quiet"), ("pub", "-A 1.2.3.4 -t a -m x"),
        ("pub", "-h no.such.host.invalid -t a -m x")):
    case("%s refuses %s" % (tool, arguments.encode("utf-8", "replace").decode()), tool, arguments,
         brokers=("mosquitto",))
for flag in ("-A -h -i -I -k -L -p -P -q -t -u -x -V -M --unix --will-topic --will-payload "
             "--will-qos").split():
    case("pub %s without a value" % flag, "pub", flag, brokers=("mosquitto",))
for flag in "-C -F -T -U -W --random-filter".split():
    case("sub %s without a value" % flag, "sub", flag, brokers=("mosquitto",))
for flag in "-f -m --repeat --repeat-delay".split():
    case("pub %s without a value" % flag, "pub", flag, brokers=("mosquitto",))
case("rr -e without a value", "rr", "-e", brokers=("mosquitto",))

# --- what the broker refuses --------------------------------------------------------------------

for tool, arguments in (("pub", "-t a -m x"), ("sub", "-t a"), ("rr", "-t a -e b -m x")):
    for version in ("31 -i {i}", "311", "5"):
        for user in ("", " -u user -P wrong"):
            case("%s -V %s%s is not let in" % (tool, version, user), tool,
                 "%s -V %s%s" % (arguments, version, user), locked=True,
                 unstable=("stderr",) if tool == "rr" else ())
    case("%s is let in" % tool, tool, arguments + " -u user -P word" +
         {"pub": "", "sub": " -E", "rr": " -W 1"}[tool], locked=True)


def as_reference(text):
    """What Debian's programs print, as those of 2.1.2 would."""
    text = re.sub(rb"mosquitto_(pub|sub|rr)", rb"mqtt_\1", text)
    text = text.replace(b"Client (null) ", b"Client null ")
    text = re.sub(rb"\bauto-[0-9A-F-]{36}", b"auto-ID", text)
    return text


def as_written_by_2_1(text):
    """JSON of 2.0.11 as 2.1.2 writes it: retain is a truth, user properties are an array."""
    text = re.sub(rb'("retain":\t?)1\b', rb"\1true", text)
    text = re.sub(rb'("retain":\t?)0\b', rb"\1false", text)
    text = text.replace(b'"user-properties":{"a":"b","c":"d\\"e"}',
                        b'"user-properties":[{"a":"b"},{"c":"d\\"e"}]')
    pair = b"{\n\t\t\t\t%s\n\t\t\t}"
    return text.replace(
        b'"user-properties":\t{\n\t\t\t"a":\t"b",\n\t\t\t"c":\t"d\\"e"\n\t\t}',
        b'"user-properties":\t[' + (pair % b'"a":\t"b"').replace(b"}", b"}, ") +
        pair % b'"c":\t"d\\"e"' + b"]")


def without_times(text):
    text = re.sub(rb"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d{6}Z?)?", rb"DATE", text)
    text = re.sub(rb"\b\d{10}\.\d{9}\b|^\d{9,10}$", b"TIME", text, flags=re.M)
    return as_written_by_2_1(text)


class Recorder:
    """A subscriber that runs all the time and gives what came since the last question."""

    def __init__(self, port):
        self.port = port
        self.count = 0
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-V", "5", "-q", "2", "-t",
             "recorded/#", "-F", "%t|%q|%l|%x|%C|%R|%D|%P|%F"], stdout=subprocess.PIPE)
        threading.Thread(target=self.read, daemon=True).start()
        for _ in range(50):
            self.mark()
            try:
                self.lines.get(timeout=0.2)
                break
            except queue.Empty:
                pass
        time.sleep(0.3)
        while not self.lines.empty():
            self.lines.get()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def mark(self):
        self.count += 1
        subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "2", "-t",
                        "recorded/mark", "-m", str(self.count)], check=True, timeout=WAIT_S)

    def take(self):
        self.mark()
        taken = []
        while True:
            try:
                line = self.lines.get(timeout=WAIT_S)
            except queue.Empty:
                raise Failure("the recorder hears nothing")
            if line.startswith(b"recorded/mark|"):
                number = bytes.fromhex(line.split(b"|")[3].decode())
                if number == str(self.count).encode():
                    return taken
            else:
                taken.append(line)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Mosquitto:
    """Debian's broker, with a listener for everyone and, with `locked`, one with a password."""

    def __init__(self, locked=False):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="mqtt-tools-")
        os.chmod(self.folder, 0o777)  # Mosquitto gives up root's rights before it makes the socket
        self.socket = os.path.join(self.folder, "socket")
        lines = ["per_listener_settings true", "listener %d 127.0.0.1" % self.port]
        if locked:
            lines += password_lines(self.folder)
        else:
            lines += ["allow_anonymous true", "listener 0 %s" % self.socket, "allow_anonymous true"]
        config = os.path.join(self.folder, "conf")
        with open(config, "w") as file:
            file.write("\n".join(lines) + "\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.process = subprocess.Popen([program, "-c", config], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_for_port(self.port)

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def password_lines(folder):
    path = os.path.join(folder, "passwords")
    if not os.path.exists(path):
        subprocess.run(["mosquitto_passwd", "-c", "-b", path, "user", "word"], check=True,
                       capture_output=True)
        os.chmod(path, 0o644)
    return ["allow_anonymous false", "password_file " + path]


def wait_for_port(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Failure("no broker on port %d" % port)


class Side:
    """One broker with its recorder."""

    def __init__(self, name):
        self.name = name
        self.folder = tempfile.mkdtemp(prefix="mqtt-tools-")
        os.chmod(self.folder, 0o755)
        if name == "mosquitto":
            self.broker = Mosquitto()
            self.locked = Mosquitto(locked=True)
        else:
            self.broker = Broker("max_packet_size 200000000")
            # The later line counts.
            self.locked = Broker(*password_lines(self.folder))
        self.recorder = Recorder(self.broker.port)
        self.lock = threading.Lock()  # one row at a time: the recorder tells what that published

    def stop(self):
        self.recorder.stop()
        self.broker.stop()
        self.locked.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def files_for(folder, tool, topic, port):
    """The files that a row may name."""
    os.makedirs(os.path.join(folder, "config"), exist_ok=True)
    os.makedirs(os.path.join(folder, "home", ".config"), exist_ok=True)
    with open(os.path.join(folder, "binary"), "wb") as file:
        file.write(BINARY)
    with open(os.path.join(folder, "large"), "wb") as file:
        file.write(BINARY * 8192)
    text = "# a comment\n\n-t %s/a\n--port %d\n-q 1\n" % (topic, port)
    for path in ("options", "config/" + tool, "home/.config/" + tool):
        with open(os.path.join(folder, path), "w") as file:
            file.write(text)


class Run:
    """One program of one row on one side."""

    count = 0
    lock = threading.Lock()

    def __init__(self, side, row, program):
        self.side = side
        self.row = row
        self.name, self.tool, self.arguments, self.more = row
        self.program = program
        with Run.lock:
            Run.count += 1
            self.topic = "recorded/%06d" % Run.count
        self.broker = side.locked if self.more.get("locked") else side.broker

    def publish(self, topic, payload, options="", retain=True):
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.side.broker.port), "-t",
                   self.topic + "/" + topic] + shlex.split(options)
        command += ["-r"] if retain else []
        command += ["-s"] if payload else ["-n"]
        subprocess.run(command, input=payload, check=True, timeout=WAIT_S)

    def command(self, folder):
        fields = {"t": self.topic, "d": folder, "p": str(self.broker.port), "i": "id%06d" % 7,
                  "s": getattr(self.broker, "socket", ""), "free": str(free_port())}
        text = self.arguments
        for name, value in fields.items():
            text = text.replace("{%s}" % name, value)
        words = [word.encode("utf-8", "surrogateescape") for word in shlex.split(text)]
        named = any(word in text.split() for word in ("-p", "--port", "-L", "-o", "--unix", "-h"))
        if not named and "environment" not in self.more:
            words = [b"-p", fields["p"].encode()] + words
        if not any(word in text.split() for word in ("-h", "--host", "-L", "--unix")):
            words = [b"-h", b"127.0.0.1"] + words
        return [self.program.encode()] + words

    def environment(self, folder):
        environment = dict(os.environ, XDG_CONFIG_HOME=os.path.join(folder, "none"), TZ="UTC")
        for name, value in self.more.get("environment", {}).items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value.replace("{d}", folder)
        return environment

    def act(self, process):
        """What happens while the program runs."""
        if "live" not in self.more and "interrupt" not in self.more:
            return
        time.sleep(0.8)
        for topic, payload in self.more.get("live", []):
            self.publish(topic, payload, retain=False)
        if "interrupt" in self.more:
            process.send_signal(self.more["interrupt"])

    def go(self):
        with tempfile.TemporaryDirectory(prefix="mqtt-tools-") as folder:
            files_for(folder, os.path.basename(self.program), self.topic, self.broker.port)
            for topic, payload, options in self.more.get("retained", []):
                self.publish(topic, payload, options)
            recorded = (self.tool == "pub" or self.more.get("recorded")) and (
                "refuses" not in self.name and "without a value" not in self.name)
            if recorded:
                self.side.recorder.take()
            process = subprocess.Popen(
                self.command(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, env=self.environment(folder))
            acting = threading.Thread(target=self.act, args=(process,))
            acting.start()
            try:
                out, err = process.communicate(self.more.get("stdin", b""), timeout=WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise Failure("%s does not end: %r %r" % (self.command(folder), out, err))
            finally:
                acting.join()
            published = self.side.recorder.take() if recorded else []
            remains = self.what_remains() if "remains" in self.more else None
            for topic, _, _ in self.more.get("retained", []):
                self.publish(topic, b"")
            return self.cleaned(process.returncode, out, err, published) + (remains,)

    def what_remains(self):
        done = subprocess.run(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.side.broker.port), "-t",
             self.topic + "/#", "--retained-only", "-W", "1", "-F", "%t"], capture_output=True,
            timeout=WAIT_S)
        return sorted(line[len(self.topic) + 1:] for line in done.stdout.decode().split())

    def cleaned(self, code, out, err, published):
        topic = self.topic.encode()
        out, err = (as_reference(text).replace(topic, b"TOPIC") for text in (out, err))
        out = re.sub(rb"Usage: .*\Z|^mqtt_(pub|sub|rr) is .*\Z|^mqtt_pub publishes.*\Z", b"USAGE",
                     out, flags=re.S)
        if self.more.get("times"):
            out = without_times(out)
        if self.more.get("order") is False:
            lines = out.split(b"\n")
            out = sorted(lines)
        published = [line.replace(topic, b"TOPIC") for line in published]
        unstable = self.more.get("unstable", ())
        return (code, "" if "stdout" in unstable else out, "" if "stderr" in unstable else err,
                published)


FIELDS = ("exit status", "standard output", "standard error", "messages", "what remains")

def expected_message(debian, ours):
    """Whether the two say the same; 2.1.2 names the property that 2.0.11 only complains about."""
    if debian == ours:
        return True
    shorter = [re.sub(r" (\S+) given in --property", " given in --property", text.decode(
        "utf-8", "replace")) for text in (debian, ours)]
    return shorter[0] == shorter[1]


tests = Tests()
sides = {}


def compare(side_name, row):
    side = sides[side_name]
    tool = row[1]
    with side.lock:
        debian = Run(side, row, shutil.which("mosquitto_" + tool)).go()
        ours = Run(side, row, os.path.join(TOOLS, "mqtt_" + tool)).go()
    for field, a, b in zip(FIELDS, debian, ours):
        if a != b and not (field == "standard error" and a and b and expected_message(a, b)):
            raise Failure("%s: mosquitto_%s %r, mqtt_%s %r" % (
                field, tool, shorten(a), tool, shorten(b)))
    if row[3].get("remains") is not None and ours[4] != row[3]["remains"]:
        raise Failure("retained afterwards: %s" % ours[4])


def shorten(value):
    text = repr(value)
    return text if len(text) < 1500 else text[:1500] + "…"


def run_tool(tool, *arguments, code=0, stdin=b"", environment=None, folder=TOOLS):
    done = subprocess.run([os.path.join(folder, "mqtt_" + tool)] + list(arguments), input=stdin,
                          capture_output=True, timeout=60, env=environment)
    if done.returncode != code:
        raise Failure("mqtt_%s %s exits %d, not %d: %s" % (
            tool, " ".join(arguments), done.returncode, code, done.stderr.decode()[-300:]))
    return done


def listening(tool, *arguments, folder=TOOLS):
    process = subprocess.Popen([os.path.join(folder, "mqtt_" + tool)] + list(arguments),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    return process


# --- against a scripted server: both programs -----------------------------------------------------


def serve(listener, script, log, connections):
    """Each word of the script is a step: r reads, w… writes these bytes, s… sleeps, c closes."""
    for _ in range(connections):
        try:
            client, _ = listener.accept()
        except OSError:
            return
        client.settimeout(3)
        try:
            for step in script.split():
                if step[0] == "r":
                    log.append(client.recv(65536))
                elif step[0] == "w":
                    client.sendall(bytes.fromhex(step[1:]))
                else:
                    time.sleep(float(step[1:]))
        except OSError:
            pass
        client.close()


def scripted(program, script, arguments, connections=1):
    """Exit status, standard output and error, and the packets that the server read."""
    log = []
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", free_port()))
        listener.listen(5)
        listener.settimeout(5)
        server = threading.Thread(target=serve, args=(listener, script, log, connections))
        server.start()
        port = str(listener.getsockname()[1])
        done = subprocess.run([program, "-h", "127.0.0.1", "-p", port] + shlex.split(arguments),
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT_S)
        listener.close()
        server.join()
    return done.returncode, as_reference(done.stdout), as_reference(done.stderr), log


SCRIPTED = [
    ("nothing after CONNECT", "r", "pub -t a -m x"),
    ("rr: nothing after CONNECT", "r", "rr -t a -m x -e b"),
    ("closed after CONNACK", "r w20020000", "pub -t a -m x -q 1"),
    ("closed without PUBACK", "r w20020000 r", "pub -t a -m x -q 1 -d"),
    ("DISCONNECT of 3.1.1", "r w20020000 r wE000", "pub -t a -m x -q 1"),
    ("AUTH of 3.1.1", "r w20020000 r wF000", "pub -t a -m x -q 1"),
    ("DISCONNECT of 5.0", "r w2003000000 r wE0028700", "pub -t a -m x -q 1 -V 5 -d"),
    ("sub: DISCONNECT of 5.0", "r w2003000000 r wE0028B00", "sub -t a -V 5 -d -W 3"),
    ("a failing PUBACK", "r w2003000000 r w400400018700 r", "pub -t a -m x -q 1 -V 5 -d"),
    ("a reason string", "r w2003000000 r w400A00018706" "1F0003" "776879 r",
     "pub -t a -m x -q 1 -V 5"),
    ("a failing PUBREC", "r w2003000000 r w500400018700 r", "pub -t a -m x -q 2 -V 5"),
    ("all refused", "r w20020000 r w9003000180 r", "sub -t a -d -W 3"),
    ("one of two refused", "r w20020000 r w900400018000 r", "sub -t a -t b -E -d -W 3"),
    ("all refused by 5.0", "r w2003000000 r w90040001008F r", "sub -t a -V 5 -d -W 3"),
    ("rr: refused", "r w2003000000 r w90040001008F r", "rr -t a -e b -m x -d -W 3"),
    ("rr: closed", "r w20020000 r w9003000100 r", "rr -t a -e b -V 311 -m x -d -W 3"),
] + [("CONNACK %d" % code, "r w200200%02x" % code, "%s -t a %s" % (tool, rest))
     for code in range(1, 6) for tool, rest in (("pub", "-m x"), ("sub", "-W 3"))
] + [("CONNACK 0x%x" % code, "r w200300%02x00" % code, "%s -t a %s" % (tool, rest))
     for code in (0x80, 0x84, 0x85, 0x86, 0x87, 0x88, 0x8a, 0x97, 0x9f)
     for tool, rest in (("pub", "-m x -V 5"), ("sub", "-V 5 -W 3"), ("rr", "-e b -m x -W 3"))
     if (tool, code) != ("rr", 0x84)]


def compare_scripted(script, arguments):
    tool, _, rest = arguments.partition(" ")
    debian = scripted(shutil.which("mosquitto_" + tool), script, rest)
    ours = scripted(os.path.join(TOOLS, "mqtt_" + tool), script, rest)
    for field, a, b in zip(FIELDS[:3], debian, ours):
        if a != b:
            raise Failure("%s: mosquitto_%s %r, mqtt_%s %r" % (field, tool, a, tool, b))


# --- ours alone -----------------------------------------------------------------------------------


@tests("CONNECT is byte for byte Mosquitto's")
def connect_bytes():
    for arguments in ("pub -t a -m x", "pub -t a -m x -V 31 -i abc", "sub -t a -V 5",
                      "sub -t a -V 5 -C 3", "sub -t a -V 5 -C 100", "rr -t a -e b -m x",
                      "pub -t a -m x -V 5 -u u -P p -i i -k 10 --will-topic w --will-payload p "
                      "--will-qos 2 --will-retain -D will content-type c",
                      "sub -t a -V 5 -c -i i", "sub -t a -c -i i", "sub -t a -x 17 -i i -V 5"):
        tool, _, rest = arguments.partition(" ")
        debian = scripted(shutil.which("mosquitto_" + tool), "r", rest + " -W 1" * (tool == "sub"))
        ours = scripted(os.path.join(TOOLS, "mqtt_" + tool), "r",
                        rest + " -W 1" * (tool == "sub"))
        if debian[3] != ours[3]:
            raise Failure("%s: Mosquitto %r, ours %r" % (arguments, debian[3], ours[3]))


@tests("what CONNACK does not allow is said, with the code of 5.0")
def not_allowed():
    for script, arguments, code in (
            ("r w20080000052700000014 r", "pub -t a -m %s -V 5" % ("x" * 30), 0x95),
            ("r w20050000022400 r", "pub -t a -m x -q 1 -V 5", 0x9B),
            ("r w20050000022500 r", "pub -t a -m x -r -V 5", 0x9A)):
        tool, _, rest = arguments.partition(" ")
        status, _, err, log = scripted(os.path.join(TOOLS, "mqtt_" + tool), script, rest)
        sent = b"".join(log[1:])
        if status != code or not err.startswith(b"Error: ") or sent[:1] == b"\x30":
            raise Failure("%s: exit %d, %r, sent %r" % (arguments, status, err, sent))


def with_peak(arguments, stdin=None):
    """Runs to the end; the status and the most memory it was seen to use, in KiB."""
    process = subprocess.Popen(arguments, stdin=stdin, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            with open("/proc/%d/status" % process.pid) as file:
                text = file.read()
            if os.path.basename(arguments[0]) in text.split("\n")[0]:
                peak = max(peak, int(re.search(r"VmHWM:\s+(\d+)", text).group(1)))
        except (OSError, AttributeError):
            pass
        time.sleep(0.005)
    return process.returncode, peak


@tests("-l sends 200,000 lines in order and in little memory")
def many_lines():
    port = str(sides["mqttd"].broker.port)  # Mosquitto drops what it has no room to queue
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "lines")
        with open(path, "w") as file:
            file.writelines("%d\n" % i for i in range(200000))
        for qos in ("0", "1", "2"):
            heard = os.path.join(folder, "heard")
            with open(heard, "wb") as target:
                hearing = subprocess.Popen(
                    [os.path.join(TOOLS, "mqtt_sub"), "-p", port, "-t", "many/" + qos, "-q", qos,
                     "-C", "200000", "-W", "60"], stdout=target)
            time.sleep(0.5)
            with open(path) as lines:
                code, peak = with_peak([os.path.join(TOOLS, "mqtt_pub"), "-p", port, "-t",
                                        "many/" + qos, "-q", qos, "-l"], lines)
            if qos != "0":  # which may be dropped when a subscriber is slow
                hearing.wait(60)
                if subprocess.run(["cmp", path, heard], check=False).returncode != 0:
                    raise Failure("QoS %s: not the same lines" % qos)
            hearing.kill()
            hearing.wait()
            if code != 0 or peak > 20000:
                raise Failure("QoS %s: exit %d, %d KiB" % (qos, code, peak))


@tests("-f sends 100 MB in little memory, and says before when it is too much")
def large_file():
    port = str(sides["mosquitto"].broker.port)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "large")
        with open(path, "wb") as file:
            file.write(os.urandom(1000000) * 100)
        received = os.path.join(folder, "received")
        with open(received, "wb") as target:
            hearing = subprocess.Popen(
                [os.path.join(TOOLS, "mqtt_sub"), "-p", port, "-t", "large", "-q", "1", "-C", "1",
                 "-N", "-W", "60"], stdout=target)
            time.sleep(0.5)
            code, peak = with_peak([os.path.join(TOOLS, "mqtt_pub"), "-p", port, "-t", "large",
                                    "-q", "1", "-V", "5", "-f", path])
            hearing.wait(60)
        if code != 0 or peak > 20000:
            raise Failure("exit %d, %d KiB" % (code, peak))
        if subprocess.run(["cmp", path, received], check=False).returncode != 0:
            raise Failure("not the same bytes")
        with Broker() as small:
            done = run_tool("pub", "-p", str(small.port), "-t", "large", "-f", path, "-V", "5",
                            code=0x95)
            if b"maximum packet size is 2000000" not in done.stderr:
                raise Failure(repr(done.stderr))


@tests("a subscriber comes back when the broker does, and a publisher of lines goes on")
def comes_back():
    broker = Mosquitto()
    port = broker.port
    hearing = listening("sub", "-p", str(port), "-t", "back/#", "-q", "1", "-C", "2", "-W", "20")
    talking = subprocess.Popen([os.path.join(TOOLS, "mqtt_pub"), "-p", str(port), "-t", "back/l",
                                "-q", "1", "-l"], stdin=subprocess.PIPE)
    talking.stdin.write(b"before\n")
    talking.stdin.flush()
    time.sleep(0.5)
    broker.process.kill()
    broker.process.wait()
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    broker.process = subprocess.Popen([program, "-c", os.path.join(broker.folder, "conf")],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_port(port)
    time.sleep(2.5)
    talking.communicate(b"after\n", timeout=WAIT_S)
    heard = hearing.communicate(timeout=WAIT_S)[0]
    broker.stop()
    if heard != b"before\nafter\n" or talking.returncode != 0 or hearing.returncode != 0:
        raise Failure("heard %r, exits %d and %d" % (heard, talking.returncode, hearing.returncode))


@tests("a subscriber whose reader goes ends with 0")
def reader_goes():
    port = str(sides["mqttd"].broker.port)
    hearing = listening("sub", "-p", port, "-t", "pipe")
    for number in range(2):
        run_tool("pub", "-p", port, "-t", "pipe", "-m", str(number))
        if number == 0:
            if hearing.stdout.readline() != b"0\n":
                raise Failure("a line does not come at once")
            hearing.stdout.close()
    if hearing.wait(WAIT_S) != 0:
        raise Failure("exit %d" % hearing.returncode)


@tests("a will is published when INT ends a subscriber of 5.0, not when it ends by itself")
def will_on_interrupt():
    port = str(sides["mqttd"].broker.port)
    for version, interrupted in (("5", True), ("5", False)):
        hearing = listening("sub", "-p", port, "-t", "will/" + version, "-C", "1", "-W", "2")
        dying = listening("sub", "-p", port, "-t", "other", "-V", version, "--will-topic",
                          "will/" + version, "--will-payload", "gone", "-C", "1")
        if interrupted:
            dying.send_signal(signal.SIGINT)
        else:
            run_tool("pub", "-p", port, "-t", "other", "-m", "x")
        dying.communicate(timeout=WAIT_S)
        heard = hearing.communicate(timeout=WAIT_S)[0]
        if (heard == b"gone\n") != interrupted or dying.returncode != 0:
            raise Failure("interrupted %s: heard %r, exit %d" % (interrupted, heard,
                                                                 dying.returncode))


@tests("passwords from a file and from the environment")
def passwords():
    port = str(sides["mosquitto"].locked.port)
    with tempfile.NamedTemporaryFile("w", suffix=".password") as file:
        file.write("word\nmore\n")
        file.flush()
        run_tool("pub", "-p", port, "-t", "a", "-m", "x", "-u", "user", "--password-file", file.name)
    environment = dict(os.environ, MQTT_PASSWORD="word")
    run_tool("pub", "-p", port, "-t", "a", "-m", "x", "-u", "user", environment=environment)
    run_tool("pub", "-p", port, "-t", "a", "-m", "x", "-u", "user", "-P", "wrong", code=5,
             environment=environment)


@tests("a URL is percent-decoded")
def url():
    port = sides["mosquitto"].locked.port
    done = run_tool("sub", "-L", "mqtt://us%%65r:w%%6Frd@127.0.0.1:%d/a%%2Fb%%20c" % port, "-E", "-d")
    if b"Topic: a/b c, " not in done.stdout:
        raise Failure(repr(done.stdout))


@tests("retained messages are removed, but for those filtered out")
def remove_retained():
    port = str(sides["mqttd"].broker.port)
    for topic in "abc":
        run_tool("pub", "-p", port, "-t", "remove/" + topic, "-m", topic, "-r", "-q", "1")
    for end in (["-C", "2"], ["-W", "1"]):
        done = run_tool("sub", "-p", port, "-t", "remove/#", "--remove-retained", "-T", "remove/b",
                        *end, code=27 if end[0] == "-W" else 0)
        if sorted(done.stdout.split()) != ([b"a", b"c"] if end[0] == "-C" else []):
            raise Failure(repr(done.stdout))
    done = run_tool("sub", "-p", port, "-t", "remove/#", "-W", "1", code=27)
    if done.stdout != b"b\n":
        raise Failure(repr(done.stdout))


@tests("options files, retain handling and what else 2.0.11 does not know")
def newer_options():
    port = str(sides["mqttd"].broker.port)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "options")
        with open(path, "w") as file:
            file.write("# who\r\n-p %s\n-t newer\n\n--retain\n"
                       "-D publish user-property name two words\n-D publish content-type a b\n"
                       "-m it is a text" % port)
        run_tool("pub", "-o", path, "-q", "1")
        done = run_tool("sub", "-p", port, "-V", "5", "-t", "newer", "-C", "1", "-F", "%P|%C|%p",
                        "--retain-handling", "always")
        if done.stdout != b"name:two words|a b|it is a text\n":
            raise Failure(repr(done.stdout))
        for handling in ("never",):
            run_tool("sub", "-p", port, "-V", "5", "-t", "newer", "-C", "1", "-W", "1",
                     "--retain-handling", handling, code=27)
    for tool, words, message in (
            ("pub", ["-o", "/no/such"], b'Error: Unable to open options file "/no/such".'),
            ("pub", ["-o"], b"Error: -o argument given but no options file specified."),
            ("pub", ["-o", "a", "-o", "b"], b"Error: Duplicate -o argument given."),
            ("pub", ["-L", "http://a/b"], b"Error: Unsupported URL scheme."),
            ("pub", ["-D", "nonsense", "topic-alias", "1"],
             b"Error: Invalid command nonsense given in --property argument."),
            ("pub", ["-D", "publish", "message-expiry-interval", "x"],
             b"Error: Property value 'x' not a number."),
            ("pub", ["--proxy", "socks5h://a"], b"Error: --proxy is not supported"),
            ("pub", ["--tls-engine", "a"], b"Error: "),
            ("sub", ["--retain-handling", "sometimes"],
             b"Error: Unknown value 'sometimes' for --retain-handling."),
            ("sub", [], b"Error: You must specify a topic to subscribe to (-t) or unsubscribe from "
             b"(-U)."),
            ("rr", ["-t", "a", "-e", "b", "-f", "/no/such"],
             b'Error: Unable to open file "/no/such".'),
            ("rr", ["-t", "a", "-e", "b", "-s"], b"Error: Zero length input.")):
        done = run_tool(tool, *words, code=1)
        if not done.stderr.startswith(message):
            raise Failure("%s %s: %r" % (tool, words, done.stderr))


@tests("a request from a file or the input, and -R")
def request_payloads():
    port = str(sides["mqttd"].broker.port)
    run_tool("pub", "-p", port, "-t", "req/r", "-m", "answer", "-r", "-q", "1")
    large = BINARY * 1000
    with tempfile.NamedTemporaryFile() as file:
        file.write(large)
        file.flush()
        for words, qos in ((["-f", file.name], "0"), (["-f", file.name], "1"), (["-s"], "2")):
            hearing = listening("sub", "-p", port, "-t", "req/q", "-q", qos, "-C", "1", "-N")
            done = run_tool("rr", "-p", port, "-t", "req/q", "-e", "req/r", "-q", qos, *words,
                            stdin=large)
            heard = hearing.communicate(timeout=WAIT_S)[0]
            if done.stdout != b"answer\n" or heard != large:
                raise Failure("%s: %r, %d bytes" % (words, done.stdout, len(heard)))
    done = run_tool("rr", "-p", port, "-t", "req/q", "-e", "req/r", "-n", "-R", "-W", "1", code=27)
    if done.stdout:
        raise Failure(repr(done.stdout))


@tests("the lines of -d at QoS 2")
def debug_qos_2():
    port = str(sides["mqttd"].broker.port)
    run_tool("pub", "-p", port, "-t", "debug", "-m", "x", "-r", "-q", "2")
    done = run_tool("sub", "-p", port, "-t", "debug", "-q", "2", "-d", "-i", "me", "-W", "1",
                    code=27)
    expected = """Client me sending CONNECT
Client me received CONNACK (0)
Client me sending SUBSCRIBE (Mid: 1, Topic: debug, QoS: 2, Options: 0x00)
Client me received SUBACK
Subscribed (mid: 1): 2
Client me received PUBLISH (d0, q2, r1, m1, 'debug', ... (1 bytes))
Client me sending PUBREC (m1, rc0)
x
Client me received PUBREL (Mid: 1)
Client me sending PUBCOMP (m1)
Client me sending DISCONNECT
"""
    if done.stdout.decode() != expected:
        raise Failure(done.stdout.decode())


@tests("hexadecimal digits as 2.1.2 writes them")
def hexadecimal():
    port = str(sides["mqttd"].broker.port)
    run_tool("pub", "-p", port, "-t", "hex", "-m", "abcdef", "-r", "-q", "1")
    for text, expected in (("%x", b"616263646566"), ("%.2:x", b"61:62:63:64:65:66"),
                           ("%.4 X", b"6162 6364 6566"), ("[%3x]", b"[616263]"),
                           ("[%16x]", b"[    616263646566]"), ("[%-14x]", b"[616263646566  ]"),
                           ("[%06X]", b"[616263646566]")):
        done = run_tool("sub", "-p", port, "-t", "hex", "-C", "1", "-F", text)
        if done.stdout != expected + b"\n":
            raise Failure("%s: %r" % (text, done.stdout))


@tests("numbers of four and eight bytes")
def floats():
    port = str(sides["mqttd"].broker.port)
    run_tool("pub", "-p", port, "-t", "f", "-s", "-r", "-q", "1", stdin=b"\x00\x00\xc0\x3f")
    run_tool("pub", "-p", port, "-t", "d", "-s", "-r", "-q", "1",
             stdin=b"\x00\x00\x00\x00\x00\x00\x04\xc0")
    for topic, text, expected in (("f", "%f", b"1.500000\n"), ("f", "%.2f", b"1.50\n"),
                                  ("d", "[%8.1d]", b"[    -2.5]\n"), ("d", "%f", b"\n")):
        done = run_tool("sub", "-p", port, "-t", topic, "-C", "1", "-F", text)
        if done.stdout != expected:
            raise Failure("%s: %r" % (text, done.stdout))


@tests("all messages are printed with --random-filter 100, about half with 50")
def random_filter():
    port = str(sides["mqttd"].broker.port)
    for percent, least, most in (("100", 1000, 1000), ("50", 300, 700)):
        hearing = listening("sub", "-p", port, "-t", "random", "-q", "1", "-C", "1000",
                            "--random-filter", percent)
        run_tool("pub", "-p", port, "-t", "random", "-l", "-q", "1", stdin=b"x\n" * 1000)
        count = hearing.communicate(timeout=WAIT_S)[0].count(b"x")
        if not least <= count <= most:
            raise Failure("%s %%: %d" % (percent, count))


@tests("--watch gives each topic a line")
def watch():
    port = str(sides["mqttd"].broker.port)
    hearing = listening("sub", "-h", "127.0.0.1", "-p", port, "-t", "watch/#", "-v", "-C", "3", "-w")
    for topic, text in (("a", "1"), ("b", "2"), ("a", "3")):
        run_tool("pub", "-p", port, "-t", "watch/" + topic, "-m", text)
    heard = hearing.communicate(timeout=WAIT_S)[0]
    expected = (b"\x1b[2J\x1b[1;1HBroker: 127.0.0.1\n\x1b[2;1Hwatch/a 1\n\x1b[2;1H\n"
                b"\x1b[3;1Hwatch/b 2\n\x1b[3;1H\n\x1b[2;1Hwatch/a 3\n\x1b[3;1H\n")
    if heard != expected:
        raise Failure(repr(heard))


@tests("request and response, with the time it took")
def latency():
    port = str(sides["mqttd"].broker.port)
    answering = subprocess.Popen(
        "%s/mqtt_sub -p %s -t lat/q -C 1 -V 5 -F %%R | xargs -I{} %s/mqtt_pub -p %s -t {} -m yes"
        % (TOOLS, port, TOOLS, port), shell=True)
    time.sleep(0.5)
    done = run_tool("rr", "-p", port, "-t", "lat/q", "-e", "lat/r", "-m", "x", "-W", "5",
                    "--latency")
    answering.wait(WAIT_S)
    if not re.fullmatch(r"yes\nLatency: [0-9.]+(ns|µs|ms|)\n", done.stdout.decode()):
        raise Failure(repr(done.stdout))


@tests("WebSocket, by --ws and by a URL")
def websocket():
    with Broker("listener %d 127.0.0.1" % free_port(), "protocol websockets") as broker:
        with open(os.path.join(broker.folder, "broker.conf")) as file:
            port = re.findall(r"listener (\d+)", file.read())[1]
        hearing = listening("sub", "-L", "ws://127.0.0.1:%s/web" % port, "-q", "2", "-C", "2", "-N")
        large = os.urandom(300000)
        run_tool("pub", "--ws", "-p", port, "-t", "web", "-q", "2", "-s", "-d", stdin=large)
        run_tool("pub", "--ws", "-p", port, "-t", "web", "-q", "0", "-m", "small")
        heard = hearing.communicate(timeout=WAIT_S)[0]
        if heard != large + b"small":
            raise Failure("%d bytes" % len(heard))
        done = run_tool("pub", "--ws", "-p", str(broker.port), "-t", "a", "-m", "x", code=1)
        if not done.stderr.startswith(b"Unable to connect ("):
            raise Failure(repr(done.stderr))


@tests("without TLS its flags say how to build it")
def no_tls():
    for arguments in (["--cafile", "x"], ["--insecure"], ["--tls-use-os-certs"], ["-p", "8883"],
                      ["-L", "mqtts://localhost/a"], ["-L", "wss://localhost/a"], ["--psk", "1"]):
        done = run_tool("pub", "-t", "a", "-m", "x", *arguments, code=1)
        if b"-DMQTT_TLS=1" not in done.stderr:
            raise Failure("%s: %r" % (arguments, done.stderr))


def tls_tools():
    folder = os.environ.get("TOOLS_TLS")
    if folder:
        return folder
    probe = subprocess.run(["c++", "-E", "-x", "c++", "-"], input=b"#include <openssl/ssl.h>\n",
                           capture_output=True, check=False)
    if probe.returncode != 0:
        raise Skipped("no OpenSSL to build with (Debian: libssl-dev)")
    folder = os.path.join(ROOT, "build", "tls", "bin")
    os.makedirs(folder, exist_ok=True)
    for tool in ("pub", "sub"):
        subprocess.run(["c++", "-std=c++17", "-O1", "-DMQTT_TLS=1", "-I.",
                        "examples/mqtt_%s/main.cpp" % tool, "-o",
                        os.path.join(folder, "mqtt_" + tool), "-lssl", "-lcrypto"], cwd=ROOT,
                       check=True, timeout=300)
    return folder


@tests("TLS with certificates and with a key shared before, against Mosquitto")
def tls():
    folder = tls_tools()
    with tempfile.TemporaryDirectory() as keys:
        subprocess.run(["sh", os.path.join(ROOT, "tests/interop/certificates.sh"), keys],
                       capture_output=True, check=True, timeout=60)
        os.chmod(keys, 0o755)
        for name in os.listdir(keys):
            if os.path.isfile(os.path.join(keys, name)):
                os.chmod(os.path.join(keys, name), 0o644)
        path = {name: os.path.join(keys, name) for name in (
            "ca.pem", "other_ca.pem", "server.pem", "server.key", "client.pem", "client.key")}
        port, psk_port = free_port(), free_port()
        with open(os.path.join(keys, "shared"), "w") as file:
            file.write("someone:0123456789abcdef\n")
        os.chmod(os.path.join(keys, "shared"), 0o644)
        config = os.path.join(keys, "conf")
        with open(config, "w") as file:
            file.write("per_listener_settings true\nlistener %d 127.0.0.1\nallow_anonymous true\n"
                       "cafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\n"
                       "listener %d 127.0.0.1\nallow_anonymous true\npsk_file %s\npsk_hint h\n" % (
                           port, path["ca.pem"], path["server.pem"], path["server.key"], psk_port,
                           os.path.join(keys, "shared")))
        broker = subprocess.Popen([shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", config],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_port(port)
            trusted = ["-h", "localhost", "-p", str(port), "--cafile", path["ca.pem"]]
            named = ["--cert", path["client.pem"], "--key", path["client.key"]]
            hearing = listening("sub", *trusted, *named, "-t", "tls", "-q", "1", "-C", "1", "-N",
                                "-W", "10", folder=folder)
            large = os.urandom(300000)
            run_tool("pub", *trusted, *named, "-t", "tls", "-q", "1", "-s", stdin=large,
                     folder=folder)
            if hearing.communicate(timeout=WAIT_S)[0] != large:
                raise Failure("not the same bytes")
            wrong = ["-h", "localhost", "-p", str(port), "--cafile", path["other_ca.pem"]]
            done = run_tool("pub", *wrong, *named, "-t", "tls", "-m", "x", code=1, folder=folder)
            if b"TLS" not in done.stderr:
                raise Failure(repr(done.stderr))
            done = run_tool("pub", *trusted, "--cert", path["client.pem"], "-t", "a", "-m", "x",
                            code=1, folder=folder)
            run_tool("pub", "-p", str(psk_port), "--psk", "0123456789abcdef", "--psk-identity",
                     "someone", "-t", "a", "-m", "x", "-q", "1", folder=folder)
        finally:
            broker.terminate()
            broker.wait()


def main():
    for program in ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr"):
        if shutil.which(program) is None:
            print("skip tools_test: no %s (Debian: mosquitto-clients)" % program)
            sys.exit(77)
    if shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") is None:
        print("skip tools_test: no mosquitto")
        sys.exit(77)
    os.environ["PATH"] += ":/usr/sbin"
    suite = Suite(time_max_s=500)
    for name in ("mosquitto", "mqttd"):
        sides[name] = Side(name)
    for row in CASES:
        for side in row[3].get("brokers", ("mosquitto", "mqttd")):
            suite.add("%s [%s]" % (row[0], side), compare, side, row)
    for name, script, arguments in SCRIPTED:
        suite.add("scripted: %s, %s" % (name, arguments), compare_scripted, script, arguments)
    tests.register(suite)
    try:
        suite.run(workers=2)
    finally:
        for side in sides.values():
            side.stop()


if __name__ == "__main__":
    main()
