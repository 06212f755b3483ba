"""MQTT packets as bytes: builders, a reader, and a client that compares packet by packet.

Versions are 3 (3.1, "MQIsdp"), 4 (3.1.1) and 5. Nothing here validates: builders make whatever
they are asked for, and the tests compare whole packets byte for byte.
"""

import re
import select
import socket
import threading
import time

from broker import Failure, TIMEOUT_S

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, \
    UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(1, 16)

V5 = (5,)
V4 = (4,)
V3 = (3,)
V45 = (4, 5)
V34 = (3, 4)
ALL = (3, 4, 5)

# --- primitives ----------------------------------------------------------------------------------


def data(value):
    return value if isinstance(value, bytes) else value.encode("utf-8")


def u16(value):
    return value.to_bytes(2, "big")


def u32(value):
    return value.to_bytes(4, "big")


def string(value):
    value = data(value)
    return u16(len(value)) + value


def variable(value):
    out = bytearray()
    while True:
        value, digit = value >> 7, value & 127
        out.append(digit | (128 if value else 0))
        if not value:
            return bytes(out)


def frame(first, body=b""):
    return bytes([first]) + variable(len(body)) + body


PROPERTIES = {  # name: (identifier, type)
    "payload_format": (0x01, "u8"), "message_expiry": (0x02, "u32"), "content_type": (0x03, "str"),
    "response_topic": (0x08, "str"), "correlation_data": (0x09, "bin"),
    "subscription_id": (0x0B, "var"), "session_expiry": (0x11, "u32"),
    "assigned_id": (0x12, "str"), "server_keep_alive": (0x13, "u16"), "auth_method": (0x15, "str"),
    "auth_data": (0x16, "bin"), "request_problem": (0x17, "u8"), "will_delay": (0x18, "u32"),
    "request_response": (0x19, "u8"), "response_information": (0x1A, "str"),
    "server_reference": (0x1C, "str"), "reason_string": (0x1F, "str"),
    "receive_maximum": (0x21, "u16"), "topic_alias_maximum": (0x22, "u16"),
    "topic_alias": (0x23, "u16"), "maximum_qos": (0x24, "u8"), "retain_available": (0x25, "u8"),
    "user": (0x26, "pair"), "maximum_packet": (0x27, "u32"), "wildcard_available": (0x28, "u8"),
    "subscription_id_available": (0x29, "u8"), "shared_available": (0x2A, "u8"),
}
NAMES = {identifier: (name, kind) for name, (identifier, kind) in PROPERTIES.items()}


def one_property(name, value):
    identifier, kind = PROPERTIES[name]
    encode = {"u8": lambda v: bytes([v]), "u16": u16, "u32": u32, "var": variable, "str": string,
              "bin": string, "pair": lambda v: string(v[0]) + string(v[1])}[kind]
    return bytes([identifier]) + encode(value)


def properties(items=(), **named):
    """Length and properties: pairs (name, value) first, then named ones, in the order given."""
    body = b"".join(one_property(name, value)
                    for name, value in list(items) + list(named.items()))
    return variable(len(body)) + body


def read_properties(raw):
    """(name, value) pairs of a property block without its length."""
    out, at = [], 0

    def take(count):
        nonlocal at
        if at + count > len(raw):
            raise Failure("short property block " + raw.hex())
        at += count
        return raw[at - count:at]

    def text():
        return take(int.from_bytes(take(2), "big"))

    while at < len(raw):
        identifier = take(1)[0]
        if identifier not in NAMES:
            raise Failure("unknown property 0x%02x" % identifier)
        name, kind = NAMES[identifier]
        if kind in ("u8", "u16", "u32"):
            value = int.from_bytes(take({"u8": 1, "u16": 2, "u32": 4}[kind]), "big")
        elif kind == "var":
            value, size = read_variable(raw[at:])
            take(size)
        elif kind == "str":
            value = text().decode("utf-8")
        elif kind == "bin":
            value = text()
        else:
            value = (text().decode("utf-8"), text().decode("utf-8"))
        out.append((name, value))
    return out


def read_variable(raw):
    """(value, bytes used), or None when it is not complete."""
    value = 0
    for index in range(min(4, len(raw))):
        value |= (raw[index] & 127) << (7 * index)
        if not raw[index] & 128:
            return value, index + 1
    if len(raw) >= 4:
        raise Failure("bad variable byte integer " + raw[:4].hex())
    return None


def parse_notation(text):
    """Bytes of the table notation: hex, "text" (length-prefixed), 'text' (raw), ( … ) (with its
    length as a variable byte integer in front), NN*count (one byte repeated)."""
    stack = [bytearray()]
    for token in re.findall(r'"[^"]*"|\'[^\']*\'|\(|\)|[0-9a-fA-F]{2}\*\d+|[0-9a-fA-F]+', text):
        if token == "(":
            stack.append(bytearray())
        elif token == ")":
            body = stack.pop()
            stack[-1] += variable(len(body)) + body
        elif token[0] == '"':
            stack[-1] += string(token[1:-1])
        elif token[0] == "'":
            stack[-1] += data(token[1:-1])
        elif "*" in token:
            stack[-1] += bytes.fromhex(token[:2]) * int(token[3:])
        else:
            stack[-1] += bytes.fromhex(token)
    assert len(stack) == 1, text
    return bytes(stack[0])


# --- packets -------------------------------------------------------------------------------------


def will(topic, payload=b"", qos=0, retain=False, **props):
    return {"topic": topic, "payload": payload, "qos": qos, "retain": retain, "props": props}


def connect(v, client_id="", clean=True, keep_alive=60, will=None, username=None, password=None,
            props=None):
    name = string("MQIsdp" if v == 3 else "MQTT")
    flags = 2 if clean else 0
    payload = string(client_id)
    if will:
        flags |= 4 | will["qos"] << 3 | (32 if will["retain"] else 0)
        if v == 5:
            payload += properties(**will["props"])
        payload += string(will["topic"]) + string(will["payload"])
    if username is not None:
        flags |= 128
        payload += string(username)
    if password is not None:
        flags |= 64
        payload += string(password)
    body = name + bytes([v, flags]) + u16(keep_alive)
    if v == 5:
        body += properties(**(props or {}))
    return frame(0x10, body + payload)


def connack(v, code=0, present=False, props=None):
    body = bytes([1 if present else 0, code])
    if v == 5:
        body += properties(props or ())
    return frame(0x20, body)


def publish(v, topic, payload=b"", qos=0, id=None, retain=False, dup=False, items=(), **props):
    body = string(topic)
    if qos:
        body += u16(id)
    if v == 5:
        body += properties(items, **props)
    return frame(0x30 | (8 if dup else 0) | qos << 1 | (1 if retain else 0), body + data(payload))


def ack(kind, id, code=0):
    """PUBACK … PUBCOMP in the short form that their code allows."""
    return frame(kind << 4 | (2 if kind == PUBREL else 0),
                 u16(id) + (bytes([code]) if code else b""))


def puback(id, code=0):
    return ack(PUBACK, id, code)


def pubrec(id, code=0):
    return ack(PUBREC, id, code)


def pubrel(id, code=0):
    return ack(PUBREL, id, code)


def pubcomp(id, code=0):
    return ack(PUBCOMP, id, code)


def subscribe(v, id, *filters, **props):
    """Each filter is (filter, options)."""
    body = u16(id) + (properties(**props) if v == 5 else b"")
    return frame(0x82, body + b"".join(string(f) + bytes([o]) for f, o in filters))


def suback(v, id, *codes):
    return frame(0x90, u16(id) + (b"\0" if v == 5 else b"") + bytes(codes))


def unsubscribe(v, id, *filters, **props):
    body = u16(id) + (properties(**props) if v == 5 else b"")
    return frame(0xA2, body + b"".join(string(f) for f in filters))


def unsuback(v, id, *codes):
    """The codes are v5's; before it UNSUBACK has none."""
    return frame(0xB0, u16(id) + (b"\0" + bytes(codes) if v == 5 else b""))


PING = frame(0xC0)
PONG = frame(0xD0)


def disconnect(v=4, code=0, **props):
    if v != 5 or (code == 0 and not props):
        return frame(0xE0)
    return frame(0xE0, bytes([code]) + (properties(**props) if props else b""))


class Message:
    """A PUBLISH taken apart."""

    def __init__(self, raw, v):
        _, size = read_variable(raw[1:5])
        body = raw[1 + size:]
        self.dup, self.qos, self.retain = bool(raw[0] & 8), raw[0] >> 1 & 3, bool(raw[0] & 1)
        end = 2 + int.from_bytes(body[:2], "big")
        self.topic = body[2:end].decode("utf-8")
        self.id = None
        if self.qos:
            self.id = int.from_bytes(body[end:end + 2], "big")
            end += 2
        self.items = []
        if v == 5:
            length, size = read_variable(body[end:end + 4])
            self.items = read_properties(body[end + size:end + size + length])
            end += size + length
        self.payload = body[end:]

    def value(self, name):
        return dict(self.items).get(name)

    def values(self, name):
        return [value for key, value in self.items if key == name]


def show(raw):
    """Packet bytes for a person: hex, long ones cut."""
    if raw == b"":
        return "close"
    text = raw.hex(" ") if len(raw) <= 64 else "%s … (%d bytes)" % (raw[:48].hex(" "), len(raw))
    return text


# --- a client ------------------------------------------------------------------------------------


class Client:
    """A socket that sends bytes and hands out what comes back packet by packet."""

    def __init__(self, port, v, receive_buffer=None):
        self.v = v
        self.log = []
        self.rest = b""
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connack = b""

    # sending

    def send(self, *packets):
        """One write for all packets; a peer that already closed is not an error here."""
        raw = b"".join(packets)
        self.log.append("> " + show(raw))
        try:
            self.sock.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            self.log.append("! peer has closed")

    def send_slowly(self, raw, step=1):
        self.log.append("> (%d at a time) %s" % (step, show(raw)))
        try:
            for at in range(0, len(raw), step):
                self.sock.sendall(raw[at:at + step])
                if at < 64:
                    time.sleep(0.0005)
        except (BrokenPipeError, ConnectionResetError):
            self.log.append("! peer has closed")

    # receiving

    def complete(self):
        """Size of the packet at the front of what was received, 0 if it is not whole."""
        if len(self.rest) < 2:
            return 0
        length = read_variable(self.rest[1:5])
        if length is None or len(self.rest) < 1 + length[1] + length[0]:
            return 0
        return 1 + length[1] + length[0]

    def packet(self, timeout_s=None):
        """The next whole packet; b"" when the peer closed."""
        deadline = time.monotonic() + (TIMEOUT_S if timeout_s is None else timeout_s)
        chunks = None
        while not self.complete():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                self.log.append("! nothing came")
                raise Failure("no packet within %.1f s" % (timeout_s or TIMEOUT_S))
            try:
                chunk = self.sock.recv(262144)
            except (ConnectionResetError, BrokenPipeError):
                chunk = b""
            if not chunk:
                self.log.append("< close" + (" inside " + show(self.rest) if self.rest else ""))
                if self.rest:
                    raise Failure("closed inside a packet: " + show(self.rest))
                return b""
            self.rest = self.rest + chunk
        size = self.complete()
        raw, self.rest = self.rest[:size], self.rest[size:]
        self.log.append("< " + show(raw))
        return raw

    def expect(self, *packets, timeout_s=None):
        """These packets next, byte for byte; b"" stands for a close."""
        for wanted in packets:
            try:
                got = self.packet(timeout_s)
            except Failure as error:
                raise Failure("%s, expected %s" % (error, show(wanted)))
            if got != wanted:
                raise Failure("got %s, expected %s" % (show(got), show(wanted)))

    def expect_close(self, timeout_s=None):
        self.expect(b"", timeout_s=timeout_s)

    def expect_error(self, *codes):
        """v5: DISCONNECT with one of the codes, then close. Before: close and nothing else."""
        if self.v != 5:
            return self.expect_close()
        got = self.packet()
        if got not in [disconnect(5, code) for code in codes]:
            raise Failure("got %s, expected DISCONNECT %s" % (
                show(got), " or ".join("0x%02x" % code for code in codes)))
        return self.expect_close()

    def message(self, timeout_s=None):
        raw = self.packet(timeout_s)
        if raw[:1] == b"" or raw[0] >> 4 != PUBLISH:
            raise Failure("got %s, expected a PUBLISH" % show(raw))
        return Message(raw, self.v)

    def ping(self):
        """The broker answers PINGREQ with the very next packet: nothing else was waiting."""
        self.send(PING)
        self.expect(PONG)

    def collect(self):
        """All packets up to a PINGRESP asked for now."""
        self.send(PING)
        out = []
        while True:
            raw = self.packet()
            if raw == PONG:
                return out
            if raw == b"":
                raise Failure("closed while collecting, after %s" % [show(r) for r in out])
            out.append(raw)

    # exchanges

    def subscribe(self, *filters, id=1, codes=None, **props):
        """Filters are texts (QoS 2 is asked for) or (filter, options); checks SUBACK."""
        pairs = [f if isinstance(f, tuple) else (f, 2) for f in filters]
        self.send(subscribe(self.v, id, *pairs, **props))
        self.expect(suback(self.v, id, *(codes or [options & 3 for _, options in pairs])))

    def publish(self, topic, payload=b"", qos=0, id=1, **more):
        """Sends and completes the handshake; with QoS 0 a ping makes sure that it was taken."""
        self.send(publish(self.v, topic, payload, qos, id, **more))
        if qos == 0:
            return self.ping()
        raw = self.packet()
        want = PUBACK if qos == 1 else PUBREC
        if raw[:1] == b"" or raw[0] >> 4 != want or raw[2:4] != u16(id):
            raise Failure("got %s, expected %s" % (show(raw), show(ack(want, id))))
        if qos == 2:
            self.send(pubrel(id))
            self.expect(pubcomp(id))
        return raw

    def disconnect(self, code=0, **props):
        self.send(disconnect(self.v, code, **props))
        self.expect_close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def cut(self):
        """Ends the connection without DISCONNECT and waits until the broker has noticed."""
        self.log.append("! cut")
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(65536):
                pass
        except OSError:
            pass
        self.sock.close()

    def close(self):
        self.sock.close()


class Context:
    """What one test gets: clients on the broker, and names that no other test uses."""

    count = 0
    lock = threading.Lock()

    def __init__(self, suite, name):
        with Context.lock:
            Context.count += 1
            self.number = Context.count
        self.suite = suite
        self.name = name
        self.broker = suite.broker()
        self.clients = []

    def use(self, *lines):
        """The rest of the test talks to a broker with these configuration lines."""
        self.broker = self.suite.broker(*lines)

    def topic(self, name="a"):
        return "t%d/%s" % (self.number, name)

    def id(self, name="c"):
        return "id%d%s" % (self.number, name)

    def open(self, v, receive_buffer=None):
        client = Client(self.broker.port, v, receive_buffer)
        self.clients.append(client)
        return client

    def connect(self, v, name=None, present=False, receive_buffer=None, **options):
        """Connected: CONNACK came with code 0 and the session-present bit expected."""
        client = self.open(v, receive_buffer)
        self.count_names = getattr(self, "count_names", 0) + 1
        client.id = self.id(name if name is not None else "n%d" % self.count_names)
        client.send(connect(v, client.id, **options))
        client.connack = client.packet()
        start = bytes([1 if present and v != 3 else 0, 0])
        if client.connack[:1] != b"\x20" or client.connack[2:4] != start:
            raise Failure("got %s, expected CONNACK … %s" % (
                show(client.connack), start.hex(" ")))
        return client

    def transcript(self):
        return "".join("client %d (v%d)\n  %s\n" % (index, client.v, "\n  ".join(client.log[-40:]))
                       for index, client in enumerate(self.clients))

    def close(self):
        for client in self.clients:
            client.close()
