#!/usr/bin/env python3
"""WebSocket, TLS, HTTP and PROXY below MQTT, with the npm package `mqtt` in node and in a browser,
with Debian's clients, and with the openssl command.

Builds tests/interop/layered_broker.cpp under build/. Skips loudly what the machine lacks.
"""

import http.server
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import mqttjs_test
from broker import ROOT, Failure, Skipped, free_port

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(ROOT, "build", "bin", "layered_broker")
KINDS = ("tcp", "tls", "ws", "wss", "proxy", "mutual", "psk")
results = {"ok": 0, "FAIL": 0, "SKIPPED": 0}


def say(word, name, why=""):
    results[word] += 1
    print(word + " " + name + (": " + str(why).replace("\n", " ") if why else ""), flush=True)


def build():
    os.makedirs(os.path.dirname(PROGRAM), exist_ok=True)
    command = os.environ.get("CXX", "g++").split() + [
        "-std=c++17", "-O1", "-DMQTT_TLS", "-I" + ROOT,
        os.path.join(HERE, "layered_broker.cpp"), "-o", PROGRAM, "-lssl", "-lcrypto"]
    done = subprocess.run(command, capture_output=True, timeout=300)
    if done.returncode != 0:
        text = done.stderr.decode()
        if "openssl/" in text and "No such file" in text:
            raise Skipped("no OpenSSL headers (Debian: libssl-dev)")
        raise Failure(text[-1500:])


class Server:
    """The layered broker with certificates and a folder of pages of its own."""

    def __init__(self, *settings):
        self.folder = tempfile.mkdtemp(prefix="mqtt-layers-")
        subprocess.run(["sh", os.path.join(HERE, "certificates.sh"), self.folder], check=True,
                       timeout=60)
        pages = os.path.join(self.folder, "www")
        os.mkdir(pages)
        for name in ("browser.html", "browser.js"):
            shutil.copy(os.path.join(HERE, name), pages)
        bundle = os.path.join(mqttjs_test.PACKAGE, "dist", "mqtt.min.js")
        if os.path.exists(bundle):
            shutil.copy(bundle, pages)
        self.ports = {kind: free_port() for kind in KINDS}
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [PROGRAM, self.folder] + ["%s:%d" % pair for pair in self.ports.items()] +
                list(settings),
                stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.ports["tcp"]), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Failure("broker not ready: " + self.log())

    def path(self, name):
        return os.path.join(self.folder, name)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def wait_for(self, text, since=0):
        """Waits until the log has `text` behind its first `since` characters."""
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            if text in self.log()[since:]:
                return
            time.sleep(0.02)
        raise Failure("no %r in the broker's log: %s" % (text, self.log()[since:][-500:]))

    def close(self):
        code = self.process.poll()
        if code is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                code = "no end in 10 s"
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


# --- node -----------------------------------------------------------------------------------------

def node_over(server, kind):
    """The whole suite of mqttjs.js over another transport."""
    host = "localhost" if kind == "wss" else "127.0.0.1"
    url = "%s://%s:%d/mqtt" % ({"tls": "mqtts"}.get(kind, kind), host if kind != "tls" else
                               "localhost", server.ports[kind])
    environment = dict(os.environ, NODE_EXTRA_CA_CERTS=server.path("ca.pem"))
    done = subprocess.run(["node", os.path.join(HERE, "mqttjs.js"), mqttjs_test.PACKAGE, url],
                          capture_output=True, timeout=150, env=environment)
    lines = done.stdout.decode().splitlines()
    for line in lines:
        word, _, name = line.partition(" ")
        if word in ("ok", "FAIL"):
            say(word, "mqtt.js over %s: %s" % (kind, name))
    if not any(line.startswith("ok ") for line in lines):
        raise Failure(done.stderr.decode()[-500:])


# --- paho -----------------------------------------------------------------------------------------

def paho_over(server, kind):
    """Packets of many sizes there and back, through paho's own WebSocket and Python's TLS."""
    try:
        import paho.mqtt.client as paho  # pylint: disable=import-outside-toplevel
    except ImportError:
        raise Skipped("no paho (Debian: python3-paho-mqtt)") from None
    for version in (paho.MQTTv311, paho.MQTTv5):
        arguments = {"protocol": version, "transport": "websockets"}
        if hasattr(paho, "CallbackAPIVersion"):
            arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        client = paho.Client(**arguments)
        if kind == "wss":
            client.tls_set(server.path("ca.pem"))
        got = []
        ready = threading.Event()
        client.on_connect = lambda *_: client.subscribe("paho", 2)
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = lambda _, __, message: got.append(message.payload)
        client.connect("localhost", server.ports[kind])
        client.loop_start()
        try:
            if not ready.wait(8):
                raise Failure("no SUBACK")
            sent = [random.Random(size).randbytes(size) for size in (0, 1, 120, 130, 70000, 500000)]
            for payload in sent:
                client.publish("paho", payload, 2).wait_for_publish(8)
            deadline = time.monotonic() + 8
            while len(got) < len(sent) and time.monotonic() < deadline:
                time.sleep(0.02)
            if got != sent:
                raise Failure("%d of %d messages, or they differ" % (len(got), len(sent)))
        finally:
            client.disconnect()
            client.loop_stop()


# --- a browser ------------------------------------------------------------------------------------

class Reports(http.server.ThreadingHTTPServer):
    """Collects what the page says."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ReportHandler)
        self.lines = []
        self.done = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class ReportHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        line = urllib.parse.unquote(self.path[1:])
        self.server.lines.append(line)
        self.send_response(204)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        if line == "done":
            self.server.done.set()

    def log_message(self, *arguments):
        pass


def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return shutil.which(name)
    raise Skipped("no chromium (Debian: chromium)")


def browse(server, scheme):
    program = browser()
    reports = Reports()
    page = "%s://localhost:%d/browser.html?report=http://127.0.0.1:%d" % (
        scheme, server.ports["wss" if scheme == "https" else "ws"], reports.server_port)
    profile = tempfile.mkdtemp(prefix="mqtt-browser-")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
               "--no-first-run", "--disable-background-networking", "--disable-component-update",
               "--disable-sync", "--disable-dev-shm-usage", "--ignore-certificate-errors",
               "--user-data-dir=" + profile, "--remote-debugging-port=0", page]
    with open(os.path.join(profile, "log"), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        finished = reports.done.wait(180)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # a group of its own, with its helpers
        process.wait()
        with open(os.path.join(profile, "log"), "rb") as log:
            tail = log.read()[-800:].decode("utf-8", "replace")
        shutil.rmtree(profile, ignore_errors=True)
        reports.shutdown()
    for line in reports.lines:
        word, _, name = line.partition(" ")
        if word in ("ok", "FAIL"):
            say(word, "browser over %s: %s" % (scheme, name))
    if not finished:
        raise Failure("the page did not finish: " + tail)


# --- TLS ------------------------------------------------------------------------------------------

def publish(server, kind, *options):
    """mosquitto_pub of one message; its exit status and standard error."""
    if shutil.which("mosquitto_pub") is None:
        raise Skipped("no mosquitto_pub (Debian: mosquitto-clients)")
    done = subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(server.ports[kind]), "-t",
                           "t", "-m", "x", "-q", "1"] + list(options),
                          capture_output=True, timeout=20)
    return done.returncode, done.stderr.decode()


def check_publish(server, kind, name, expected, *options):
    """`expected`: "" for success, else what the broker's log must say."""
    since = len(server.log())
    code, text = publish(server, kind, *options)
    if not expected:
        if code != 0:
            raise Failure("%s: exit %d: %s" % (name, code, text))
        return
    if code == 0:
        raise Failure(name + ": accepted")
    server.wait_for("tls: " + expected, since)


def tls_certificates(server):
    ca = ("--cafile", server.path("ca.pem"))

    def certificate(name):
        return ca + ("--cert", server.path(name + ".pem"), "--key", server.path(name + ".key"))

    check_publish(server, "tls", "good", "", *ca)
    check_publish(server, "tls", "wrong CA", "the handshake failed: tlsv1 alert unknown ca",
                  "--cafile", server.path("other_ca.pem"))
    check_publish(server, "mutual", "good client", "", *certificate("client"))
    server.wait_for("name 'device 7' subject 'CN=device 7,O=Test'")
    check_publish(server, "mutual", "no certificate",
                  "the handshake failed: peer did not return a certificate", *ca)
    for name, reason in (("revoked_client", "certificate revoked"),
                         ("expired_client", "certificate has expired"),
                         ("other_client", "unable to get local issuer certificate")):
        check_publish(server, "mutual", name, "certificate verify failed: " + reason,
                      *certificate(name))


def tls_psk(server):
    key = "00112233445566778899aabbccddeeff"
    for version in ("tlsv1.2", "tlsv1.3"):
        check_publish(server, "psk", "good key", "", "--psk-identity", "sensor", "--psk", key,
                      "--tls-version", version)
        server.wait_for("identity 'sensor'")
        code, _ = publish(server, "psk", "--psk-identity", "lamp", "--psk", key, "--tls-version",
                          version)
        if code == 0:
            raise Failure("a wrong key is accepted")


def tls_reload(server):
    """A renewed certificate is served after SIGHUP while clients stay."""
    def served():
        context = ssl.create_default_context(cafile=server.path("ca.pem"))
        raw = socket.create_connection(("127.0.0.1", server.ports["tls"]), 5)
        return context.wrap_socket(raw, server_hostname="localhost")

    def name_of(link):
        return dict(item[0] for item in link.getpeercert()["subject"])["commonName"]

    old = served()
    old.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01o")
    if old.recv(4) != b"\x20\x02\x00\x00" or name_of(old) != "localhost":
        raise Failure("before the reload: " + name_of(old))
    for ending in (".pem", ".key"):
        shutil.copy(server.path("server" + ending), server.path("before" + ending))
        shutil.copy(server.path("renewed" + ending), server.path("server" + ending))
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("reloaded")
    new = served()
    if name_of(new) != "localhost renewed":
        raise Failure("after the reload: " + name_of(new))
    old.sendall(b"\xc0\x00")
    if old.recv(2) != b"\xd0\x00":
        raise Failure("the old connection is gone")
    with open(server.path("server.key"), "w", encoding="ascii") as file:
        file.write("broken")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("kept")
    if name_of(served()) != "localhost renewed":
        raise Failure("a broken key is in use")
    for ending in (".pem", ".key"):
        shutil.copy(server.path("before" + ending), server.path("server" + ending))
    server.process.send_signal(signal.SIGHUP)


def tls_versions(server):
    """s_client with each version; older ones are refused."""
    if shutil.which("openssl") is None:
        raise Skipped("no openssl")
    for version, good in (("tls1_3", True), ("tls1_2", True), ("tls1_1", False), ("tls1", False)):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", "localhost:%d" % server.ports["tls"], "-" + version,
             "-CAfile", server.path("ca.pem"), "-verify_return_error", "-alpn", "mqtt",
             "-cipher", "DEFAULT@SECLEVEL=0"],
            input=b"", capture_output=True, timeout=20)
        text = done.stdout.decode("utf-8", "replace")
        if (done.returncode == 0 and "Verify return code: 0" in text) != good:
            raise Failure("%s: exit %d" % (version, done.returncode))
        if good and "ALPN protocol: mqtt" not in text:
            raise Failure(version + ": no ALPN")


def silent_strangers(server):
    """Connections that send nothing, or nonsense, do not keep others from connecting."""
    links = []
    for kind in ("tls", "ws", "wss", "proxy", "mutual"):
        for _ in range(20):
            link = socket.create_connection(("127.0.0.1", server.ports[kind]), 5)
            link.sendall(random.Random(len(links)).randbytes(len(links) % 7))
            links.append(link)
    check_publish(server, "tls", "beside strangers", "", "--cafile", server.path("ca.pem"))
    for link in links:
        link.close()


def run(name, body, has_npm):
    """One test with a broker of its own. Those with npm's package say themselves what passed."""
    needs_npm = name.startswith(("mqtt.js", "browser"))
    try:
        if needs_npm and not has_npm:
            raise Skipped("no node and npm")
        # mqtt.js does not look at the Receive Maximum: a burst of 200 needs room for 200.
        server = Server(*["inflight:200"] if name.startswith("browser") else [])
        try:
            body(server)
        finally:
            code = server.close()
        if code != 0:
            raise Failure("the broker ends with %s on TERM" % code)
        if not needs_npm:
            say("ok", name)
    except Skipped as why:
        say("SKIPPED", name, why)
    except Exception as error:  # pylint: disable=broad-except
        say("FAIL", name, "%s: %s" % (type(error).__name__, error))


def main():
    try:
        build()
    except Skipped as why:
        say("SKIPPED", "layers", why)
        return 77
    has_npm = shutil.which("node") is not None and shutil.which("npm") is not None
    if has_npm:
        mqttjs_test.install()
    tests = [("certificates refused with their reason", tls_certificates),
             ("pre-shared keys", tls_psk),
             ("TLS versions", tls_versions),
             ("a renewed certificate after SIGHUP", tls_reload),
             ("silent strangers", silent_strangers)]
    for kind in ("ws", "wss"):
        tests.append(("paho over " + kind, lambda server, kind=kind: paho_over(server, kind)))
    for kind in ("ws", "wss", "tls"):
        tests.append(("mqtt.js over " + kind, lambda server, kind=kind: node_over(server, kind)))
    for scheme in ("http", "https"):
        tests.append(("browser over " + scheme,
                      lambda server, scheme=scheme: browse(server, scheme)))
    for name, body in tests:
        if not sys.argv[1:] or any(part in name for part in sys.argv[1:]):
            run(name, body, has_npm)
    print("%d passed, %d failed, %d skipped" % (results["ok"], results["FAIL"], results["SKIPPED"]))
    return 1 if results["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
