#!/usr/bin/env python3
"""mqttd below MQTT: WebSocket and the pages beside it, PROXY headers, TLS with certificates and
keys, with raw bytes, Debian's clients, paho, npm's mqtt.js in node and in a browser.

For TLS a second mqttd is built under build/. `mqttd_layers_test.py TEXT…` runs the tests whose name
has one of the texts. See broker.py for the environment."""

import base64
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time

import layers_test
import mqttjs_test
from broker import Failure, ROOT, Skipped, Suite, Tests, free_port
from mqttd_options_test import Run, Server, config, dial, expect, folder
from mqttd_operations_test import Counting, after_next_tick, retained
from mqttd_security_test import Client, connect, hashed, publish, string, subscribe, write

HERE = os.path.dirname(os.path.abspath(__file__))
TLS_PROGRAM = os.path.join(ROOT, "build", "bin", "mqttd_tls")
tests = Tests()


# --- WebSocket ---


class WebSocket:
    """A WebSocket client; frames are written and read as they are."""

    def __init__(self, port, *fields, path="/mqtt", protocol="mqtt"):
        self.link = dial(port)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET %s HTTP/1.1" % path, "Host: 127.0.0.1:%d" % port, "Upgrade: websocket",
                 "Connection: Upgrade", "Sec-WebSocket-Key: " + key, "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Protocol: " + protocol] + list(fields)
        self.link.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.head, self.rest = read_head(self.link)
        wanted = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
                                               .encode()).digest()).decode()
        self.accepted = self.head.startswith("HTTP/1.1 101 ") and \
            "Sec-WebSocket-Accept: " + wanted in self.head

    def send(self, payload, opcode=2, final=True):
        size = len(payload)
        head = bytes([(0x80 if final else 0) | opcode])
        head += bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size) \
            if size < 65536 else b"\xff" + struct.pack(">Q", size)
        mask = os.urandom(4)
        whole = (mask * (size // 4 + 1))[:size]
        self.link.sendall(head + mask + bytes(a ^ b for a, b in zip(payload, whole)))

    def exactly(self, size):
        while len(self.rest) < size:
            part = self.link.recv(65536)
            if not part:
                raise Failure("closed after %r" % self.rest)
            self.rest += part
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def frame(self):
        """(opcode, payload) of the next frame, which is final and not masked."""
        first, size = self.exactly(2)
        expect(first & 0x70 == 0 and first & 0x80 and size < 128, "frame", hex(first), size)
        size = struct.unpack(">H", self.exactly(2))[0] if size == 126 else \
            struct.unpack(">Q", self.exactly(8))[0] if size == 127 else size
        return first & 15, self.exactly(size)


def read_head(link):
    data = b""
    while b"\r\n\r\n" not in data:
        part = link.recv(4096)
        if not part:
            break
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def get(port, path, method="GET", host="127.0.0.1"):
    """(status, fields, body) of a page."""
    with dial(port, host) as link:
        link.sendall(("%s %s HTTP/1.1\r\nHost: x\r\n\r\n" % (method, path)).encode())
        head, body = read_head(link)
        while True:
            part = link.recv(65536)
            if not part:
                break
            body += part
    lines = head.split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), fields, body


@contextlib.contextmanager
def websocket_broker(*lines, program=None):
    """(server, WebSocket port, MQTT port)."""
    web, plain = free_port(), free_port()
    with config("allow_anonymous true", "listener %d 127.0.0.1" % plain,
                "listener %d 127.0.0.1" % web, "protocol websockets", *lines) as name:
        with Server("-c", name, **({"program": program} if program else {})) as server:
            yield server, web, plain
            server.stop()


@tests("WebSocket: packets in frames of any cut reach subscribers on either listener")
def _():
    with websocket_broker() as (server, web, plain):
        client = WebSocket(web)
        expect(client.accepted, client.head)
        expect("Sec-WebSocket-Protocol: mqtt" in client.head, client.head)
        whole = connect(4, client_id=b"web") + subscribe(4, b"from/plain", qos=1)
        client.send(whole[:5])
        client.send(whole[5:9], final=False)
        client.send(b"are you there?", opcode=9)
        client.send(whole[9:], opcode=0)
        answers = b""
        while len(answers) < 9:
            opcode, payload = client.frame()
            if opcode == 10:
                expect(payload == b"are you there?", "the ping's payload")
            else:
                expect(opcode == 2, "binary, got", opcode)
                answers += payload
        expect(answers == b"\x20\2\0\0\x90\3\0\1\1", answers)
        other = Client(plain, client_id=b"plain")
        expect(other.subscribe(b"from/web") == [0], "granted")
        client.send(publish(4, b"from/web", b"1") + publish(4, b"from/web", b"2"))
        expect(other.receive()[1].endswith(b"1") and other.receive()[1].endswith(b"2"), "both")
        other.publish(b"from/plain", b"x" * 100000, 1)
        data = b""
        while len(data) < 100000:
            data += client.frame()[1]
        expect(data.count(b"x") == 100000, "100,000 bytes in", len(data))
        client.send(struct.pack(">H", 1000), opcode=8)
        expect(client.frame() == (8, struct.pack(">H", 1000)), "the close frame is answered")
        server.wait_for("New client connected from 127.0.0.1:")
        server.wait_for("Client web [127.0.0.1:")
        expect("failed" not in server.log, server.log)


@tests("WebSocket: what breaks the protocol is closed with its code and said once")
def _():
    with websocket_broker() as (server, web, _plain):
        for payload, opcode, code in ((b"text", 1, 1003), (b"", 3, 1002)):
            client = WebSocket(web, protocol="mqttv3.1")
            client.send(payload, opcode=opcode)
            expect(client.frame() == (8, struct.pack(">H", code)), "close code", code)
        client = WebSocket(web)
        client.send(connect(4, client_id=b"web"))
        expect(client.frame()[1] == b"\x20\2\0\0", "CONNACK")
        client.link.sendall(b"\x82\1x")  # not masked
        expect(client.frame() == (8, struct.pack(">H", 1002)), "close code 1002")
        server.wait_for("failed: WebSocket: ")
        for protocol, fields in (("http", ()), ("mqtt", ("Sec-WebSocket-Key: x",))):
            refused = WebSocket(web, *fields, protocol=protocol)
            expect(refused.head.startswith("HTTP/1.1 400 "), refused.head)
        server.wait_for("failed: HTTP: Bad Request")
        for _ in range(30):
            WebSocket(web, protocol="nonsense").link.close()
        time.sleep(0.2)
        expect(server.log.count("failed: HTTP") <= 10, "ten lines a minute:", server.log)


@tests("websockets_origin keeps pages of other places out")
def _():
    with websocket_broker("websockets_origin http://good.example") as (_server, web, _plain):
        expect(WebSocket(web, "Origin: http://good.example").accepted, "the good one")
        for fields in (["Origin: http://evil.example"], []):
            expect(WebSocket(web, *fields).head.startswith("HTTP/1.1 403 "), fields)


@tests("pages beside WebSocket: files of http_dir, /healthz, nothing outside")
def _():
    with folder() as path:
        pages = os.path.join(path, "pages")
        os.mkdir(pages)
        write(os.path.join(path, "secret"), "secret")
        write(os.path.join(pages, "index.html"), "<p>首页</p>")
        write(os.path.join(pages, "code.js"), "1")
        os.symlink(os.path.join(path, "secret"), os.path.join(pages, "link"))
        with websocket_broker("http_dir " + pages) as (server, web, _plain):
            status, fields, body = get(web, "/")
            expect(status == 200 and body.decode() == "<p>首页</p>", status, body)
            expect(fields["content-type"].startswith("text/html"), fields)
            expect("javascript" in get(web, "/code.js")[1]["content-type"], "JavaScript")
            status, fields, body = get(web, "/code.js", "HEAD")
            expect((status, fields["content-length"], body) == (200, "1", b""), fields, body)
            for target in ("/../secret", "/%2e%2e/secret", "/link", "/absent", "//etc/passwd"):
                expect(get(web, target)[0] in (400, 404), target)
            expect(get(web, "/", "POST")[0] == 405, "POST")
            expect(get(web, "/healthz") [0::2] == (200, b"ok\n"), "/healthz")
            expect("New connection" not in server.log and "disconnected" not in server.log,
                   "pages are no lines in the log:", server.log)
        with websocket_broker() as (_server, web, _plain):
            expect(get(web, "/")[0] == 404, "no http_dir")
            expect(get(web, "/healthz")[0] == 200, "/healthz all the same")


def metrics(port):
    """Name and value of what /metrics says."""
    status, fields, body = get(port, "/metrics")
    expect(status == 200 and fields["content-type"].startswith("text/plain; version=0.0.4"), fields)
    text = body.decode()
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.split(" ")
            found[name] = int(value)
            kind = "counter" if name.endswith("_total") else "gauge"
            expect("# TYPE %s %s" % (name, kind) in text and "# HELP %s " % name in text, name)
    return found


@tests("/metrics is Prometheus' text and counts what was sent")
def _():
    with websocket_broker() as (_server, web, plain):
        subscriber = Client(plain, client_id=b"subscriber")
        subscriber.subscribe(b"t")
        publisher = Client(plain, client_id=b"publisher")
        for _ in range(7):
            publisher.publish(b"t", b"x" * 100, 1)
        expect(len(subscriber.messages()) == 7, "seven")
        found = metrics(web)
        for name, value in (("publish_received_total", 7), ("publish_sent_total", 7),
                            ("publish_bytes_received_total", 700), ("clients_connected", 2),
                            ("publish_bytes_sent_total", 700), ("subscriptions", 1),
                            ("connects_received_total", 2), ("packets_received_total", 2 + 1 + 7 + 1),
                            ("packets_sent_total", 2 + 1 + 7 + 7 + 1), ("tls_failed_total", 0)):
            expect(found["mqttd_" + name] == value, name, found)


@tests("/metrics and $SYS agree with each other and with what was sent")
def _():
    with websocket_broker("sys_interval 1") as (_server, web, plain):
        subscriber = Counting(plain, client_id=b"subscriber")
        subscriber.send(subscribe(4, b"t/#", qos=1))
        subscriber.receive()
        publisher = Counting(plain, client_id=b"publisher")
        for number in range(60):
            publisher.send(publish(4, b"t/%d" % number, b"x" * number, number % 2, number + 1))
            if number % 2:
                publisher.receive()
        for number in range(60):
            first, body = subscriber.receive()
            if first & 6:
                size = struct.unpack(">H", body[:2])[0]
                subscriber.send(b"\x40\2" + body[2 + size:4 + size])
        payload = sum(range(60))
        wanted = {"bytes/received": ("bytes_received_total", subscriber.sent + publisher.sent),
                  "bytes/sent": ("bytes_sent_total", subscriber.received + publisher.received),
                  "messages/received": ("packets_received_total", 2 + 1 + 60 + 30),
                  "messages/sent": ("packets_sent_total", 2 + 1 + 60 + 30),
                  "publish/messages/received": ("publish_received_total", 60),
                  "publish/messages/sent": ("publish_sent_total", 60),
                  "publish/messages/dropped": ("publish_dropped_total", 0),
                  "publish/bytes/received": ("publish_bytes_received_total", payload),
                  "publish/bytes/sent": ("publish_bytes_sent_total", payload),
                  "clients/connected": ("clients_connected", 2),
                  "clients/total": ("sessions", 2), "subscriptions/count": ("subscriptions", 1)}
        time.sleep(0.3)
        after_next_tick(1)
        after_next_tick(1)
        counted = metrics(web)
        told = retained(plain, b"$SYS/broker/#")
        for topic, (name, value) in wanted.items():
            expect(counted["mqttd_" + name] == value, name, "is", counted["mqttd_" + name], value)
            expect(told["$SYS/broker/" + topic] == str(value), topic, "is",
                   told["$SYS/broker/" + topic], "not", value)


# --- PROXY ---


def proxy_v2(source, port=4711, command=1):
    body = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", port, 1883)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20 | command, 0x11]) + struct.pack(">H", len(body)) \
        + body


@tests("PROXY headers give the client's address; without one nobody comes in")
def _():
    v1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 1883\r\n"
    v2 = proxy_v2("192.0.2.8")
    for value, good, bad in (("1", [v1], [v2]), ("2", [v2], [v1]), ("true", [v1, v2], [b"GET /"])):
        port = free_port()
        with config("allow_anonymous true", "listener %d 127.0.0.1" % port,
                    "enable_proxy_protocol " + value) as name:
            with Server("-c", name) as server:
                for header in good:
                    link = dial(port)
                    link.sendall(header + connect(4, client_id=b"proxied"))
                    expect(link.recv(4) == b"\x20\2\0\0", "CONNACK")
                    address = "192.0.2.7" if header == v1 else "192.0.2.8"
                    server.wait_for("New client connected from %s:4711 as proxied" % address)
                    link.close()
                    server.wait_for("Client proxied [%s:4711] disconnected" % address)
                for header in bad + [connect(4, client_id=b"direct")]:
                    link = dial(port)
                    link.sendall(header + connect(4, client_id=b"bad"))
                    expect(link.recv(4) == b"", "closed")
                server.wait_for("failed: PROXY: ")
                expect("as bad" not in server.log and "as direct" not in server.log, server.log)
                server.stop()
    with config("listener 1883", "enable_proxy_protocol 3") as name:
        Run("-c", name, "--test-config").check(3, "enable_proxy_protocol", ":2")


@tests("guessing is slowed down by the address of the PROXY header")
def _():
    with folder() as path:
        port = free_port()
        users = write(os.path.join(path, "users"), "u:%s\n" % hashed("p", None))
        with config("listener %d 127.0.0.1" % port, "password_file " + users,
                    "enable_proxy_protocol 2") as name:
            with Server("-c", name) as server:
                def attempt(address, password):
                    with dial(port) as link:
                        link.sendall(proxy_v2(address) + connect(4, user=b"u", password=password))
                        return link.recv(4)
                for _ in range(21):
                    expect(attempt("192.0.2.9", b"wrong") == b"\x20\2\0\5", "refused")
                expect(attempt("192.0.2.9", b"p") == b"\x20\2\0\5", "waits")
                expect(attempt("192.0.2.10", b"p") == b"\x20\2\0\0", "another address")
                server.wait_for("Too many wrong passwords from 192.0.2.9")
                server.stop()


# --- TLS ---


class Built:
    """mqttd with TLS, and a folder of certificates for all tests."""

    folder = None
    error = None

    @classmethod
    def certificates(cls):
        if cls.error:
            raise cls.error
        return cls.folder

    @classmethod
    def prepare(cls, path):
        if shutil.which("openssl") is None:
            cls.error = Skipped("no openssl")
            return
        os.makedirs(os.path.dirname(TLS_PROGRAM), exist_ok=True)
        done = subprocess.run(
            os.environ.get("CXX", "g++").split() +
            ["-std=c++17", "-O1", "-DMQTT_TLS", "-DMQTTD_CHECKED", "-I" + ROOT,
             os.path.join(ROOT, "examples", "mqttd", "main.cpp"), "-o", TLS_PROGRAM, "-lssl",
             "-lcrypto"], capture_output=True, timeout=400)
        text = done.stderr.decode()
        if done.returncode != 0:
            cls.error = Skipped("no OpenSSL headers (Debian: libssl-dev)") \
                if "openssl/" in text and "No such file" in text else Failure(text[-1500:])
            return
        subprocess.run(["sh", os.path.join(HERE, "certificates.sh"), path], check=True, timeout=60)
        cls.folder = path


def certificate(name, *more):
    """The lines of a listener with the server's certificate."""
    path = Built.certificates()
    return ["certfile %s/%s.pem" % (path, name), "keyfile %s/%s.key" % (path, name)] + list(more)


@contextlib.contextmanager
def tls_broker(*lines, first=("allow_anonymous true",)):
    port = free_port()
    Built.certificates()
    with config(*first, "listener %d 127.0.0.1" % port, *lines) as name:
        with Server("-c", name, program=TLS_PROGRAM) as server:
            server.conf = name
            yield server, port
            server.stop()


def mosquitto_pub(port, *options, topic="t"):
    """Exit status of Debian's client."""
    if shutil.which("mosquitto_pub") is None:
        raise Skipped("no mosquitto_pub (Debian: mosquitto-clients)")
    return subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(port), "-t", topic, "-m",
                           "x", "-q", "1"] + list(options), capture_output=True,
                          timeout=20).returncode


def with_client(name):
    path = Built.certificates()
    return ["--cafile", path + "/ca.pem", "--cert", "%s/%s.pem" % (path, name), "--key",
            "%s/%s.key" % (path, name)]


def secure(port, name=None, host="localhost"):
    path = Built.certificates()
    context = ssl.create_default_context(cafile=path + "/ca.pem")
    if name:
        context.load_cert_chain("%s/%s.pem" % (path, name), "%s/%s.key" % (path, name))
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5),
                               server_hostname=host)


@tests("TLS: a client without trust is refused with the reason, one with it served")
def _():
    ca = "cafile %s/ca.pem" % Built.certificates()
    crl = "crlfile %s/crl.pem" % Built.certificates()
    with tls_broker(*certificate("server")) as (server, port):
        expect(mosquitto_pub(port, *with_client("client")[:2]) == 0, "served")
        server.wait_for("negotiated TLSv1.3 cipher TLS_")
        expect(mosquitto_pub(port, "--cafile", Built.folder + "/other_ca.pem") != 0, "wrong CA")
        server.wait_for("failed: TLS: the handshake failed: tlsv1 alert unknown ca")
        with dial(port) as link:
            link.sendall(connect(4))
            while link.recv(100):
                pass
        server.wait_for("failed: TLS: the handshake failed: wrong version number")
        with dial(port):
            pass
    with tls_broker(*certificate("wrong_host")) as (server, port):
        expect(mosquitto_pub(port, *with_client("client")[:2]) != 0, "another host name")
    with tls_broker(*certificate("expired_server")) as (server, port):
        expect(mosquitto_pub(port, *with_client("client")[:2]) != 0, "expired")
        server.wait_for("certificate expired")
    with tls_broker(*certificate("server", ca, crl, "require_certificate true")) as (server, port):
        expect(mosquitto_pub(port, *with_client("client")) == 0, "served")
        for name, reason in (("revoked_client", "certificate revoked"),
                             ("expired_client", "certificate has expired"),
                             ("other_client", "unable to get local issuer certificate")):
            expect(mosquitto_pub(port, *with_client(name)) != 0, name)
            server.wait_for("failed: TLS: certificate verify failed: " + reason)
        expect(mosquitto_pub(port, *with_client("client")[:2]) != 0, "no certificate")
        server.wait_for("peer did not return a certificate")


@tests("TLS: the certificate names the user, and the rules are that user's")
def _():
    path = Built.certificates()
    ca = "cafile %s/ca.pem" % path
    with folder() as own:
        for option, user in (("use_identity_as_username", "device 7"),
                             ("use_subject_as_username", "CN=device 7,O=Test")):
            acl = write(os.path.join(own, "acl"), "user %s\ntopic write own/#\n" % user)
            # Without a password file and with allow_anonymous false: the certificate is enough.
            with tls_broker(*certificate("server", ca, option + " true", "require_certificate true"),
                            first=["allow_anonymous false", "acl_file " + acl]) as (server, port):
                expect(mosquitto_pub(port, *with_client("client"), "-u", "other", "-V", "5",
                                     topic="own/1") == 0, "own")
                server.wait_for("u'%s')" % user)
                server.wait_for("%s can connect" % "whom a certificate or key names")
                link = secure(port, "client")
                link.sendall(connect(5))
                expect(link.recv(100)[3] == 0, "CONNACK")
                link.sendall(publish(5, b"other", b"x", 1))
                expect(link.recv(100) == b"\x40\3\0\1\x87", "not what is another's")
            with tls_broker(*certificate("server", ca, option + " true")) as (server, port):
                server.wait_for("add the line 'require_certificate true'")
                for version, code in ((4, 4), (5, 0x86)):
                    link = secure(port)
                    link.sendall(connect(version, user=b"device 7", password=b"x"))
                    expect(link.recv(100)[3] == code, "no certificate, no name")


@tests("TLS: a session keeps the name of its certificate while it is away")
def _():
    path = Built.certificates()
    with folder() as own:
        acl = write(os.path.join(own, "acl"), "user device 7\ntopic read a\nuser x\ntopic #\n")
        users = write(os.path.join(own, "users"), "x:%s\n" % hashed("p", None))
        plain = free_port()
        with tls_broker(*certificate("server", "cafile %s/ca.pem" % path,
                                     "require_certificate true", "use_identity_as_username true",
                                     "listener %d 127.0.0.1" % plain),
                        first=["acl_file " + acl, "password_file " + users]) as (server, port):
            link = secure(port, "client")
            link.sendall(connect(4, client_id=b"away", clean=False) + subscribe(4, b"#", qos=1))
            data = b""
            while len(data) < 9:
                data += link.recv(100)
            expect(data == b"\x20\2\0\0\x90\3\0\1\1", data)
            link.close()
            server.wait_for("Client away [")
            time.sleep(0.1)
            writer = Client(plain, user=b"x", password=b"p")
            for packet_id, topic in enumerate((b"a", b"b")):
                writer.publish(topic, b"x", 1, packet_id + 1)
            link = secure(port, "client")
            link.sendall(connect(4, client_id=b"away", clean=False) + b"\xc0\0")
            data = b""
            while len(data) < 14:
                data += link.recv(100)
            expect(data[:4] == b"\x20\2\1\0" and b"\x32\6\0\1a\0\1x" in data and
                   b"\xd0\0" in data, data)


@tests("TLS: pre-shared keys, whose identity can be the user")
def _():
    path = Built.certificates()
    key = "00112233445566778899aabbccddeeff"
    with tls_broker("psk_hint hint", "psk_file %s/psk" % path, "use_identity_as_username true",
                    first=["allow_anonymous false"]) as (server, port):
        for version in ("tlsv1.2", "tlsv1.3"):
            expect(mosquitto_pub(port, "--psk", key, "--psk-identity", "sensor", "--tls-version",
                                 version) == 0, version)
            server.wait_for("u'sensor')")
            expect(mosquitto_pub(port, "--psk", key, "--psk-identity", "lamp", "--tls-version",
                                 version) != 0, "a wrong key")


@tests("TLS: SIGHUP serves a renewed certificate and keeps clients; a broken one changes nothing")
def _():
    path = Built.certificates()
    with folder() as own:
        def put(name):
            for ending in ("pem", "key"):
                shutil.copy("%s/%s.%s" % (path, name, ending), "%s/now.%s" % (own, ending))

        def served(port):
            with secure(port) as link:
                return dict(item[0] for item in link.getpeercert()["subject"])["commonName"]

        put("server")
        with tls_broker("certfile %s/now.pem" % own, "keyfile %s/now.key" % own) as (server, port):
            client = secure(port)
            client.sendall(connect(4, client_id=b"stays"))
            expect(client.recv(4) == b"\x20\2\0\0", "CONNACK")
            expect(served(port) == "localhost", served(port))
            put("renewed")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("Config reloaded")
            expect(served(port) == "localhost renewed", served(port))
            write("%s/now.key" % own, "broken")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("the old settings stay")
            server.wait_for("Error: TLS on port %d: " % port)
            expect(served(port) == "localhost renewed", served(port))
            client.sendall(b"\xc0\0")
            expect(client.recv(2) == b"\xd0\0", "the client is still there")


@tests("TLS: options that do not fit together are errors")
def _():
    path = Built.certificates()
    for lines, part in ((certificate("server")[:1], "certfile and keyfile go together"),
                        (["cafile %s/ca.pem" % path], "neither certfile"),
                        (["require_certificate true"], "neither certfile"),
                        (certificate("server", "require_certificate true"), "no CA"),
                        (certificate("absent"), "absent.pem: No such file"),
                        (["psk_hint x"], "needs a psk_file"),
                        (certificate("server", "ciphers nonsense"), "TLS on port 1883"),
                        (certificate("server", "use_identity_as_username true",
                                     "use_subject_as_username true"), "exclude each other"),
                        (certificate("server", "tls_version tlsv1.1"), "tlsv1.1")):
        with config("listener 1883", *lines) as name:
            Run("-c", name, "--test-config", program=TLS_PROGRAM).check(3, part)
    with config("listener 1883", *certificate("server", "tls_version tlsv1.3")) as name:
        Run("-c", name, "--test-config", program=TLS_PROGRAM).check(0)


@tests("TLS: a thousand strangers who do not finish their handshakes keep nobody out")
def _():
    with tls_broker(*certificate("server")) as (server, port):
        strangers = [dial(port) for _ in range(1000)]
        for number, link in enumerate(strangers):
            link.sendall(b"\x16\3\1\2\0\1"[:number % 7])
        start = time.monotonic()
        expect(mosquitto_pub(port, *with_client("client")[:2]) == 0, "served")
        expect(time.monotonic() - start < 5, "took", time.monotonic() - start)
        for link in strangers:
            link.close()


# --- real clients ---


class Everything:
    """As layers_test expects its broker: ports by kind and certificates, here of mqttd."""

    def __init__(self, inflight):
        path = Built.certificates()
        self.inflight = inflight
        self.folder = path
        self.pages = os.path.join(path, "www")
        os.makedirs(self.pages, exist_ok=True)
        for name in ("browser.html", "browser.js"):
            shutil.copy(os.path.join(HERE, name), self.pages)
        bundle = os.path.join(mqttjs_test.PACKAGE, "dist", "mqtt.min.js")
        if os.path.exists(bundle):
            shutil.copy(bundle, self.pages)
        self.ports = {kind: free_port() for kind in ("tcp", "tls", "ws", "wss")}

    def path(self, name):
        return os.path.join(self.folder, name)

    @contextlib.contextmanager
    def run(self):
        lines = ["allow_anonymous true", "max_inflight_messages %d" % self.inflight]
        for kind, port in self.ports.items():
            lines.append("listener %d 127.0.0.1" % port)
            lines += ["protocol websockets", "http_dir " + self.pages] if "w" in kind else []
            lines += certificate("server") if kind in ("tls", "wss") else []
        with config(*lines) as name:
            with Server("-c", name, program=TLS_PROGRAM) as server:
                yield self
                server.stop()


def collecting(body, inflight=20):
    """Runs a part of layers_test, whose results are lines of its own."""
    before = dict(layers_test.results)
    with Everything(inflight).run() as broker:
        body(broker)
    expect(layers_test.results["FAIL"] == before["FAIL"], "see the lines above")


@tests("paho over ws and wss")
def _():
    for kind in ("ws", "wss"):
        collecting(lambda broker, kind=kind: layers_test.paho_over(broker, kind))


def need_npm():
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Skipped("no node and npm")
    mqttjs_test.install()


@tests("mqtt.js in node over ws, wss and TLS")
def _():
    need_npm()
    for kind in ("ws", "wss", "tls"):
        collecting(lambda broker, kind=kind: layers_test.node_over(broker, kind))


@tests("mqtt.js in a browser over ws and wss")
def _():
    need_npm()
    for scheme in ("http", "https"):
        # mqtt.js does not look at the Receive Maximum: a burst of 200 needs room for 200.
        collecting(lambda broker, scheme=scheme: layers_test.browse(broker, scheme), 200)


if __name__ == "__main__":
    suite = Suite(time_max_s=900)
    tests.register(suite)
    with folder() as certificates:
        Built.prepare(certificates)
        suite.run(workers=3)
