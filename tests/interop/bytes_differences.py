"""What mqttd answers otherwise than Debian's mosquitto 2.0, and why. See mosquitto_bytes_test.py.

A row is a pattern of names, a pattern of our answer, and the reason. Answers are as Exchange.text()
gives them: hexadecimal digits, '|' where the connection ends, ' / ' between steps."""

import re

CLOSED = r"(c|p):\|"
TOLD = r"(c|p|s):e0018[12]\|"
CONNACK = "200e00000b22000a27001e8480210014"

DIFFERENCES = (
    # --- CONNECT ---
    (r"CONNECT: (user with NUL|user not UTF-8) v3", r"^c:\|$",
     "text that is not UTF-8 ends the connection in every version [MQTT-1.5.4-1]"),
    (r"CONNECT: keep alive 0 v5", "^c:" + CONNACK + "d000$",
     "mosquitto 2.0 cuts every keep alive to 65,535 s; 2.1 and mqttd leave 0 as it is"),
    (r"CONNECT( bytes)?: .* v5", r"^c:20030081(00)\|$",
     "5.0 clients are told why they are refused, as by mosquitto 2.1"),
    (r"CONNECT propert(ies|y bytes): .*", r"^c:2003008[12]00\|$",
     "5.0 clients are told why they are refused, as by mosquitto 2.1"),
    (r"will properties: .*", r"c:2003008[12]00\|$",
     "the properties of a will are checked, and the client is told"),
    (r"CONNECT bytes: level (0|1|2|6|127|128|133|255) v.", r"^c:2003008400\|$",
     "a version that nobody knows is refused in the form of the newest one"),
    (r"CONNECT bytes: level 5 v4", r"^c:2003008100\|$",
     "5.0 clients are told why they are refused: this one has no properties"),
    (r"CONNECT bytes: level 131 v3|CONNECT bytes: level 132 v[45]", r"^c:20020001\|$",
     "the top bit is a private sign of mosquitto's bridges, which try again without it"),
    (r"CONNECT framing: flags . v3", r"^c:\|$", "reserved bits are 0 in 3.1 as well"),
    (r"CONNECT framing: length not shortest v.", r"^c:\|$",
     "a length must have no byte too many [MQTT-1.5.5-1]"),
    (r"(CONNECT framing: twice|packet: CONNECT again) v5", r"e00182\|$",
     "a second CONNECT is told why it ends the connection [MQTT-3.1.0-2]"),
    # --- PUBLISH ---
    (r"PUBLISH QoS [01] topic: (#|\+|a/\+/b|a/#|a\+|202 levels) v5", r"p:e00181\|$",
     "mosquitto 2.1 calls a bad topic malformed, 2.0 a protocol error"),
    (r"PUBLISH bytes: QoS 0, DUP v.", r"p:(e00181)?\|$",
     "DUP must be 0 with QoS 0 [MQTT-3.3.1-2], as with mosquitto 2.1"),
    (r"PUBLISH properties: (payload format 2|response topic with \+|empty response topic|"
     "subscription id|twice .*) v5", r"p:e00182\|$",
     "values and places of properties are checked, and the client is told"),
    (r"PUBLISH properties: topic alias 0 v5", r"p:e00194\|$",
     "alias 0 is an invalid alias, as with mosquitto 2.1 [MQTT-3.3.2-8]"),
    (r"topic aliases out v5", r"/ s:3011.*23000178 / s:30070000032300",
     "clients that take topic aliases get them, as from mosquitto 2.1"),
    (r"a packet too large for the client is left out v5", r"000100736d616c6c$",
     "a message that is not sent takes no packet id"),
    (r"receive maximum of the client is kept v5", r"/ s:3210[0-9a-f]{24}00030032 / s:3210[0-9a-f]{24}",
     "mosquitto sends two messages for one acknowledgement"),
    # --- acknowledgements ---
    (r"acknowledgement of nothing: .*(flags|DUP|long|cut|empty|with a code) v.", CLOSED + "|" + TOLD,
     "flags and lengths of acknowledgements are checked [MQTT-2.1.3-1]"),
    (r"acknowledgement of nothing: PUBRE[CL]( with a code)? v5", r"(62|70)03000992d000$",
     "5.0 has a code for an unknown packet id"),
    (r"acknowledgement of nothing: .* id 0 v5", r"c:e00182\|$",
     "packet id 0 ends the connection, and the client is told [MQTT-2.2.1-2]"),
    (r"(PUBACK|PUBREC|PUBREL): (code .*|twice|not for it|cut|behind|properties|reason string) v5",
     r"(s|p):e0018[12]\|$", "codes and properties of acknowledgements are checked"),
    (r"QoS 2 in: the same id again before and after PUBREL v5", r"p:7003000192 /.*p:7003000192$",
     "5.0 has a code for an unknown packet id"),
    (r"QoS 2 out: acknowledgements in the wrong order v5", r"s:e00182\|",
     "the client is told why the connection ends"),
    # --- SUBSCRIBE ---
    (r"(UN)?SUBSCRIBE filter: \$share.* v.", r"c:(e00182)?\|",
     "a shared subscription needs a group without wildcards, and a filter [MQTT-4.8.2-1]"),
    (r"SUBSCRIBE options: .* v5", r"p:e00182\|$",
     "QoS 3 and retain handling 3 are protocol errors (v5 section 3.8.3.1)"),
    (r"(UN)?SUBSCRIBE bytes: (flags 0|no filter) v3", r"c:\|$", "3.1 is held to its format as well"),
    (r"(UN)?SUBSCRIBE bytes: no filter v5", r"c:e00182\|$",
     "a packet without filters is a protocol error (v5 sections 3.8.3, 3.10.3)"),
    (r"SUBSCRIBE properties: id (0|twice) v5", r"c:e00182\|$",
     "both are protocol errors (v5 section 3.8.2.1.2), and the client is told"),
    (r"overlapping subscriptions v.", r"/ p:40020001 s:32[0-9a-f]+78$",
     "one copy with the highest QoS of all"),
    (r"retained: set, replaced, cleared, on wildcards v.", r"all:[0-9a-f]+ / all:90",
     "retained messages come in no order"),
    # --- the rest ---
    (r"takeover v5|a will on takeover, and one that is retained v5", r"a:e0018e\|",
     "the client is told that it was taken over [MQTT-3.1.4-3]"),
    (r"a will: on nonsense v5", r"c:e00181\|", "the client is told why the connection ends"),
    (r"packet: (PING.*|SUBACK|UNSUBACK) v.", r"c:(e0018[12])?\|$",
     "what no client may send ends the connection"),
    (r"packet: (CONNACK|type 15|length of 5 bytes) v5", r"c:e0018[12]\|$",
     "the client is told why the connection ends"),
    (r"DISCONNECT: flags v3", r"c:\|", "reserved bits are 0 in 3.1 as well"),
    (r"DISCONNECT: (flags|code 0x8e|code 1|not for it|cut) v5", r"c:e0018[12]\| s:3011",
     "a bad DISCONNECT is told, and does not take the will back"),
    (r"DISCONNECT: code 0x80 v5", r"c:\| s:3011", "only code 0 takes the will back [MQTT-3.14.4-3]"),
    (r"AUTH: .* v5", r"c:e00182\|$", "the client is told why the connection ends"),
)


def find(name, answer):
    """The row of an exchange that is known to differ in this way; None: there is none."""
    for row in DIFFERENCES:
        if re.fullmatch(row[0], name) and re.search(row[1], answer):
            return row
    return None
