"""One row a packet: what the broker answers to every kind of broken, misplaced or borderline bytes.

A line with the fact and its clause, then a row for each way to see it:
          versions | bytes sent | answer
Bytes:    hex, "text" with its length in front, 'text' without, ( … ) with its length as a
          variable byte integer in front, NN*count, % = property length 0 in v5, nothing before.
Answer: !81      v5: DISCONNECT with that code (or one of several), then close; before v5: close
        close    close, nothing sent
        = bytes  these bytes and the connection lives on (a ping is answered next)
        / bytes  these bytes, then close; ` or ` separates allowed answers
Every row is sent whole, and again byte by byte on another connection.
"""

from wire import PING, PONG, connect, parse_notation, connack, show, Failure

# After CONNACK, on a connection with clean start and no further properties.
CONNECTED = r"""
# --- fixed header ---
[MQTT-2.1.3-1] [3.1.1 MQTT-2.2.2-2] packet type 0 is refused
  345 | 00 00 | !81,82
[MQTT-2.1.3-1] [3.1.1 MQTT-2.2.2-2] packet type 0 with flags is refused
  345 | 0f 00 | !81,82
[3.1.1 MQTT-2.2.2-2] packet type 15 does not exist before v5
  34 | f0 00 | close
[MQTT-1.5.5-1] [3.1.1 section 2.2.3] remaining length of five bytes is malformed
  345 | c0 80808080 01 | !81
[MQTT-1.5.5-1] remaining length of five bytes is malformed in PUBLISH
  345 | 30 ffffffff 7f | !81,95
[MQTT-1.5.5-1] fourth length byte with a continuation bit is malformed
  345 | 30 ffffffff | !81,95
[MQTT-1.5.5-1] non-canonical remaining length 0 is malformed
  5 | c0 80 00 | !81
[MQTT-1.5.5-1] non-canonical two-byte remaining length is malformed
  5 | 30 86 00 "ab" 00 'x' | !81
[MQTT-1.5.5-1] non-canonical three-byte remaining length is malformed
  5 | 30 86 80 00 "ab" 00 'x' | !81
[MQTT-1.5.5-1] non-canonical four-byte remaining length is malformed
  5 | 30 86 80 80 00 "ab" 00 'x' | !81
# --- packets that only a server sends, and a second CONNECT ---
[section 3.2] CONNACK from a client is a protocol error
  345 | 20 02 00 00 | !82
[section 3.2] v5 CONNACK from a client is a protocol error
  345 | 20 03 00 00 00 | !81,82
[section 3.9] SUBACK from a client is a protocol error
  345 | 90 ( 0001 % 00 ) | !82
[section 3.11] UNSUBACK from a client is a protocol error
  345 | b0 ( 0001 % ) | !81,82
[section 3.13] PINGRESP from a client is a protocol error
  345 | d0 00 | !82
[MQTT-3.1.0-2] a second CONNECT is a protocol error
  5 | 10 ( "MQTT" 05 02 003c % "second" ) | !82
[3.1.1 MQTT-3.1.0-2] a second CONNECT ends the connection
  4 | 10 ( "MQTT" 04 02 003c "second" ) | close
[3.1 section 3.1] a second CONNECT ends the connection
  3 | 10 ( "MQIsdp" 03 02 003c "second" ) | close
[3.1.1 MQTT-3.1.0-2] a second CONNECT of another version ends the connection
  4 | 10 ( "MQTT" 05 02 003c 00 "second" ) | close
[MQTT-4.12.0-7] AUTH without a method in CONNECT is a protocol error
  5 | f0 00 | !82
[MQTT-4.12.0-7] re-authentication without a method in CONNECT is a protocol error
  5 | f0 ( 19 ( 15 "m" ) ) | !82
[MQTT-4.12.0-7] AUTH 0x18 without a method in CONNECT is a protocol error
  5 | f0 ( 18 ( 15 "m" ) ) | !82
[MQTT-3.15.1-1] AUTH with reserved flags is malformed
  5 | f1 00 | !81
# --- PINGREQ, DISCONNECT ---
[MQTT-3.12.4-1] [3.1.1 MQTT-2.2.2-1] PINGREQ is answered
  345 | c0 00 | = d0 00
[MQTT-3.12.4-1] each PINGREQ is answered
  345 | c0 00 c0 00 c0 00 | = d0 00 d0 00 d0 00
[MQTT-2.1.3-1] [3.1.1 MQTT-2.2.2-2] PINGREQ with flag 1 is malformed
  345 | c1 00 | !81
[MQTT-2.1.3-1] [3.1.1 MQTT-2.2.2-2] PINGREQ with flag 8 is malformed
  345 | c8 00 | !81
[section 3.12] PINGREQ with a body is malformed
  345 | c0 01 00 | !81
[MQTT-3.14.4-2] DISCONNECT ends the connection
  345 | e0 00 | close
[MQTT-3.14.1-1] DISCONNECT with flag 1 is malformed
  345 | e1 00 | !81
[MQTT-3.14.1-1] DISCONNECT with flag 2 is malformed
  345 | e2 00 | !81
[section 3.14] DISCONNECT with a body ends the connection
  34 | e0 01 00 | close
[section 3.14.2.1] DISCONNECT with reason 0 in full ends the connection
  5 | e0 01 00 | close
[section 3.14.2.1] DISCONNECT with reason 0x04 ends the connection
  5 | e0 01 04 | close
[section 3.14.2.2] DISCONNECT with reason and no properties ends the connection
  5 | e0 02 00 00 | close
[section 3.14.2.2] DISCONNECT with reason string and user properties ends the connection
  5 | e0 ( 80 ( 1f "bye" 26 "k" "v" 26 "k" "v" ) ) | close
[MQTT-3.14.2-1] DISCONNECT with a code that is not listed is refused
  5 | e0 01 03 | !82
[MQTT-3.14.2-1] DISCONNECT with granted QoS 1 as its code is refused
  5 | e0 01 01 | !82
[section 3.14.2.2.2] session expiry may not become non-zero in DISCONNECT
  5 | e0 ( 00 ( 11 00000001 ) ) | !82
[section 3.14.2.2.2] session expiry 0 in DISCONNECT after 0 is legal
  5 | e0 ( 00 ( 11 00000000 ) ) | close
[section 3.14.2.2.2] session expiry twice in DISCONNECT is a protocol error
  5 | e0 ( 00 ( 11 00000000 11 00000000 ) ) | !82
[section 3.14.2.2.3] reason string twice in DISCONNECT is a protocol error
  5 | e0 ( 00 ( 1f "a" 1f "b" ) ) | !82
[section 2.2.2.2] property of another packet in DISCONNECT is malformed
  5 | e0 ( 00 ( 21 0001 ) ) | !81
[section 2.2.2] short reason string in DISCONNECT is malformed
  5 | e0 ( 00 ( 1f 0005 'abc' ) ) | !81
[section 2.2.2.1] property length past the end of DISCONNECT is malformed
  5 | e0 ( 00 05 ) | !81
[section 3.14] bytes after the properties of DISCONNECT are malformed
  5 | e0 ( 00 00 00 ) | !81
[MQTT-1.5.5-1] non-canonical property length in DISCONNECT is malformed
  5 | e0 ( 00 80 00 ) | !81
# --- PUBLISH: fixed header and lengths ---
[MQTT-3.3.1-4, MQTT-4.13.1-1, MQTT-4.13.2-1] [3.1.1 MQTT-4.8.0-1] PUBLISH with QoS 3 is malformed
  345 | 36 ( "a/b" 0001 % 'x' ) | !81
[MQTT-3.3.1-4] retained PUBLISH with QoS 3 is malformed
  345 | 37 ( "a/b" 0001 % 'x' ) | !81
[MQTT-3.3.1-4] repeated PUBLISH with QoS 3 is malformed
  345 | 3e ( "a/b" 0001 % 'x' ) | !81
[MQTT-3.3.1-2] PUBLISH with QoS 0 and DUP is malformed
  45 | 38 ( "a/b" % 'x' ) | !81
[MQTT-3.3.1-2] retained PUBLISH with QoS 0 and DUP is malformed
  45 | 39 ( "a/b" % 'x' ) | !81
[section 3.3.2] PUBLISH without a body is malformed
  345 | 30 00 | !81
[section 3.3.2] PUBLISH cut inside the topic length is malformed
  345 | 30 01 00 | !81
[section 3.3.2] PUBLISH with a topic past its end is malformed
  345 | 30 02 0001 | !81
[section 3.3.2] PUBLISH with a topic one byte past its end is malformed
  345 | 30 05 0004 'abc' | !81
[section 3.3.2] PUBLISH with a topic of 65535 bytes in a packet of 5 is malformed
  345 | 30 05 ffff 'abc' | !81
[MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1] QoS 1 PUBLISH without packet id is malformed
  345 | 32 05 "abc" | !81
[MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1] QoS 1 PUBLISH with half a packet id is malformed
  345 | 32 06 "abc" 00 | !81
[MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1] QoS 2 PUBLISH without packet id is malformed
  345 | 34 05 "abc" | !81
[MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1] QoS 1 PUBLISH with packet id 0 is a protocol error
  345 | 32 ( "a/b" 0000 % 'x' ) | !82
[MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1] QoS 2 PUBLISH with packet id 0 is a protocol error
  345 | 34 ( "a/b" 0000 % 'x' ) | !82
[MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1] repeated PUBLISH with packet id 0 is a protocol error
  345 | 3a ( "a/b" 0000 % 'x' ) | !82
[MQTT-2.2.2-1] v5 PUBLISH without a property length is malformed
  5 | 30 05 "abc" | !81
[MQTT-2.2.2-1] v5 QoS 1 PUBLISH without a property length is malformed
  5 | 32 07 "abc" 0001 | !81
[section 3.3.3] PUBLISH without payload is legal
  34 | 30 ( "malformed/no/payload" ) | =
  5 | 30 ( "malformed/no/payload" 00 ) | =
# --- PUBLISH: topic ---
[section 3.3.2.1] empty topic without alias is a protocol error
  5 | 30 ( 0000 00 'x' ) | !81,82
[3.1.1 MQTT-4.7.3-1] empty topic ends the connection
  34 | 30 ( 0000 'x' ) | close
[MQTT-3.3.2-2] + in a topic name is refused
  345 | 30 ( "a/+" % 'x' ) | !81
[MQTT-3.3.2-2] + alone as topic name is refused
  345 | 30 ( "+" % 'x' ) | !81
[MQTT-3.3.2-2] # in a topic name is refused
  345 | 30 ( "a/#" % 'x' ) | !81
[MQTT-4.7.0-1] [3.1.1 MQTT-4.7.1-1] # inside a level of a topic name is refused
  345 | 30 ( "a#b" % 'x' ) | !81
[MQTT-4.7.0-1] [3.1.1 MQTT-4.7.1-1] + inside a level of a topic name is refused
  345 | 30 ( "a+b" % 'x' ) | !81
[MQTT-3.3.2-2] # in the topic of a QoS 1 PUBLISH is refused, not acknowledged
  345 | 32 ( "a/#" 0001 % 'x' ) | !81
[MQTT-3.3.2-2] + in the topic of a QoS 2 PUBLISH is refused, not acknowledged
  345 | 34 ( "+/a" 0001 % 'x' ) | !81
[MQTT-4.7.3-2] [MQTT-1.5.4-2] [3.1.1 MQTT-1.5.3-2] U+0000 in a topic is malformed
  45 | 30 ( 0003 610062 % 'x' ) | !81
[MQTT-3.3.2-1] [MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] bad continuation byte in a topic is malformed
  45 | 30 ( 0002 c328 % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] lone continuation byte in a topic is malformed
  45 | 30 ( 0001 80 % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] character cut at the end of a topic is malformed
  45 | 30 ( 0001 c3 % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] overlong U+0000 in a topic is malformed
  45 | 30 ( 0002 c080 % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] overlong two-byte character in a topic is malformed
  45 | 30 ( 0002 c1bf % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] overlong three-byte character in a topic is malformed
  45 | 30 ( 0003 e08080 % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] highest overlong three-byte character is malformed
  45 | 30 ( 0003 e09fbf % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] overlong four-byte character in a topic is malformed
  45 | 30 ( 0004 f08fbfbf % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] first surrogate U+D800 in a topic is malformed
  45 | 30 ( 0003 eda080 % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] last surrogate U+DFFF in a topic is malformed
  45 | 30 ( 0003 edbfbf % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] surrogate pair in a topic is malformed
  45 | 30 ( 0006 eda080edb080 % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] U+110000 in a topic is malformed
  45 | 30 ( 0004 f4908080 % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] byte F5 in a topic is malformed
  45 | 30 ( 0004 f5808080 % 'x' ) | !81
[MQTT-1.5.4-1] [3.1.1 MQTT-1.5.3-1] byte FF in a topic is malformed
  45 | 30 ( 0001 ff % 'x' ) | !81
[MQTT-1.5.4-3] [3.1.1 MQTT-1.5.3-3] U+FEFF alone is a legal topic
  45 | 30 ( 0003 efbbbf % 'x' ) | =
[MQTT-1.5.4-1] U+D7FF is a legal topic
  45 | 30 ( 0003 ed9fbf % 'x' ) | =
[MQTT-1.5.4-1] U+E000 is a legal topic
  45 | 30 ( 0003 ee8080 % 'x' ) | =
[MQTT-1.5.4-1] U+10000 is a legal topic
  45 | 30 ( 0004 f0908080 % 'x' ) | =
[MQTT-1.5.4-1] U+10FFFD is a legal topic
  45 | 30 ( 0004 f48fbfbd % 'x' ) | =
[section 4.7.3] a topic of one slash is legal
  345 | 30 ( "/" % 'x' ) | =
[section 4.7.3] a topic of empty levels is legal
  345 | 30 ( "//" % 'x' ) | =
[section 4.7.3] a topic of one space is legal
  345 | 30 ( " " % 'x' ) | =
# --- PUBLISH: properties ---
[section 2.2.2.1] property length past the end of PUBLISH is malformed
  5 | 30 ( "a/b" 05 'x' ) | !81
[MQTT-1.5.5-1] non-canonical property length is malformed
  5 | 30 ( "a/b" 80 00 'x' ) | !81
[MQTT-1.5.5-1] property length of five bytes is malformed
  5 | 30 ( "a/b" 80808080 00 'x' ) | !81
[section 2.2.2.1] property length cut by the end of the packet is malformed
  5 | 30 ( "a/b" 80 ) | !81
[section 2.2.2.2] property 0x00 is malformed
  5 | 30 ( "a/b" ( 00 ) 'x' ) | !81
[section 2.2.2.2] property 0x04 is malformed
  5 | 30 ( "a/b" ( 04 00 ) 'x' ) | !81
[section 2.2.2.2] property 0x2B is malformed
  5 | 30 ( "a/b" ( 2b 00 ) 'x' ) | !81
[section 2.2.2.2] property 0x7F is malformed
  5 | 30 ( "a/b" ( 7f 00 ) 'x' ) | !81
[section 2.2.2.2] property 0x80 is malformed
  5 | 30 ( "a/b" ( 8001 ) 'x' ) | !81
[MQTT-1.5.5-1] non-canonical property identifier is malformed
  5 | 30 ( "a/b" ( 8100 01 ) 'x' ) | !81
[section 2.2.2.2] session expiry in PUBLISH is malformed
  5 | 30 ( "a/b" ( 11 00000001 ) 'x' ) | !81
[section 2.2.2.2] assigned client id in PUBLISH is malformed
  5 | 30 ( "a/b" ( 12 "i" ) 'x' ) | !81
[section 2.2.2.2] server keep alive in PUBLISH is malformed
  5 | 30 ( "a/b" ( 13 0001 ) 'x' ) | !81
[section 2.2.2.2] authentication method in PUBLISH is malformed
  5 | 30 ( "a/b" ( 15 "m" ) 'x' ) | !81
[section 2.2.2.2] request problem information in PUBLISH is malformed
  5 | 30 ( "a/b" ( 17 01 ) 'x' ) | !81
[section 2.2.2.2] will delay in PUBLISH is malformed
  5 | 30 ( "a/b" ( 18 00000001 ) 'x' ) | !81
[section 2.2.2.2] reason string in PUBLISH is malformed
  5 | 30 ( "a/b" ( 1f "r" ) 'x' ) | !81
[section 2.2.2.2] receive maximum in PUBLISH is malformed
  5 | 30 ( "a/b" ( 21 0001 ) 'x' ) | !81
[section 2.2.2.2] maximum packet size in PUBLISH is malformed
  5 | 30 ( "a/b" ( 27 00000001 ) 'x' ) | !81
[section 2.2.2] payload format indicator without value is malformed
  5 | 30 ( "a/b" ( 01 ) ) | !81
[section 2.2.2] message expiry of three bytes is malformed
  5 | 30 ( "a/b" ( 02 000000 ) ) | !81
[section 2.2.2] content type past the end of the properties is malformed
  5 | 30 ( "a/b" ( 03 0004 'abc' ) ) | !81
[section 2.2.2] correlation data past the end of the properties is malformed
  5 | 30 ( "a/b" ( 09 0004 'abc' ) 'defg' ) | !81
[section 2.2.2] topic alias of one byte is malformed
  5 | 30 ( "a/b" ( 23 00 ) ) | !81
[MQTT-1.5.7-1] user property without value is malformed
  5 | 30 ( "a/b" ( 26 "k" ) ) | !81
[section 3.3.2.3.2] payload format indicator 2 is refused
  5 | 30 ( "a/b" ( 01 02 ) 'x' ) | !81,82
[section 3.3.2.3.2] payload format indicator twice is a protocol error
  5 | 30 ( "a/b" ( 01 00 01 00 ) 'x' ) | !82
[section 3.3.2.3.3] message expiry twice is a protocol error
  5 | 30 ( "a/b" ( 02 00000001 02 00000001 ) ) | !82
[section 3.3.2.3.9] content type twice is a protocol error
  5 | 30 ( "a/b" ( 03 "a" 03 "a" ) ) | !82
[section 3.3.2.3.5] response topic twice is a protocol error
  5 | 30 ( "a/b" ( 08 "a" 08 "a" ) ) | !82
[section 3.3.2.3.6] correlation data twice is a protocol error
  5 | 30 ( "a/b" ( 09 "a" 09 "a" ) ) | !82
[section 3.3.2.3.4] topic alias twice is a protocol error
  5 | 30 ( "a/b" ( 23 0001 23 0001 ) ) | !82
[section 3.3.2.3.4] two different topic aliases are a protocol error
  5 | 30 ( "a/b" ( 23 0001 23 0002 ) ) | !82
[MQTT-3.3.4-6] subscription id from a client is a protocol error
  5 | 30 ( "a/b" ( 0b 01 ) 'x' ) | !82
[MQTT-3.3.4-6] subscription id 0 from a client is refused
  5 | 30 ( "a/b" ( 0b 00 ) 'x' ) | !81,82
[MQTT-3.3.2-8] topic alias 0 is refused
  5 | 30 ( "a/b" ( 23 0000 ) 'x' ) | !82,94
[MQTT-3.3.2-9] topic alias above the maximum is refused
  5 | 30 ( "a/b" ( 23 000b ) 'x' ) | !94
[MQTT-3.2.2-17] topic alias 65535 is refused
  5 | 30 ( "a/b" ( 23 ffff ) 'x' ) | !94
[section 3.3.2.3.4] alias without a mapping and an empty topic is a protocol error
  5 | 30 ( 0000 ( 23 0001 ) 'x' ) | !82
[MQTT-3.3.2-12] topic alias 10 is accepted
  5 | 30 ( "a/b" ( 23 000a ) 'x' ) | =
[MQTT-3.3.2-14] response topic with # is refused
  5 | 30 ( "a/b" ( 08 "a/#" ) ) | !81,82
[MQTT-3.3.2-14] response topic with + is refused
  5 | 30 ( "a/b" ( 08 "+" ) ) | !81,82
[MQTT-3.3.2-13] response topic that is not UTF-8 is malformed
  5 | 30 ( "a/b" ( 08 0001 ff ) ) | !81
[MQTT-1.5.4-2] response topic with U+0000 is malformed
  5 | 30 ( "a/b" ( 08 0001 00 ) ) | !81
[MQTT-3.3.2-19] content type that is not UTF-8 is malformed
  5 | 30 ( "a/b" ( 03 0001 ff ) ) | !81
[MQTT-1.5.7-1] user property name that is not UTF-8 is malformed
  5 | 30 ( "a/b" ( 26 0001 ff "v" ) ) | !81
[MQTT-1.5.7-1] user property value that is not UTF-8 is malformed
  5 | 30 ( "a/b" ( 26 "k" 0001 ff ) ) | !81
[MQTT-1.5.7-1] user property value with a surrogate is malformed
  5 | 30 ( "a/b" ( 26 "k" 0003 eda080 ) ) | !81
[MQTT-1.5.7-1] user property name with U+0000 is malformed
  5 | 30 ( "a/b" ( 26 0001 00 "v" ) ) | !81
[section 3.3.2.3.7] empty user properties may repeat
  5 | 30 ( "a/b" ( 26 "" "" 26 "" "" ) ) | =
[section 3.3.2.3.6] empty correlation data is legal
  5 | 30 ( "a/b" ( 09 "" ) ) | =
[section 3.3.2.3.6] correlation data is binary
  5 | 30 ( "a/b" ( 09 0003 ff00fe ) ) | =
[section 3.3.2.3.2] payload format indicator 1 is legal
  5 | 30 ( "a/b" ( 01 01 ) 'text' ) | =
# --- acknowledgements ---
[section 3.4.2] PUBACK without a packet id is malformed
  345 | 40 00 | !81
[section 3.4.2] PUBACK with half a packet id is malformed
  345 | 40 01 00 | !81
[section 3.5.2] PUBREC without a packet id is malformed
  345 | 50 00 | !81
[section 3.5.2] PUBREC with half a packet id is malformed
  345 | 50 01 00 | !81
[section 3.6.2] PUBREL without a packet id is malformed
  345 | 62 00 | !81
[section 3.6.2] PUBREL with half a packet id is malformed
  345 | 62 01 00 | !81
[section 3.7.2] PUBCOMP without a packet id is malformed
  345 | 70 00 | !81
[section 3.7.2] PUBCOMP with half a packet id is malformed
  345 | 70 01 00 | !81
[MQTT-2.2.1-5] [3.1.1 MQTT-2.3.1-6] PUBACK with packet id 0 is a protocol error
  345 | 40 02 0000 | !82
[MQTT-2.2.1-5] [3.1.1 MQTT-2.3.1-6] PUBREC with packet id 0 is a protocol error
  345 | 50 02 0000 | !82
[MQTT-2.2.1-5] [3.1.1 MQTT-2.3.1-6] PUBREL with packet id 0 is a protocol error
  345 | 62 02 0000 | !82
[MQTT-2.2.1-5] [3.1.1 MQTT-2.3.1-6] PUBCOMP with packet id 0 is a protocol error
  345 | 70 02 0000 | !82
[MQTT-2.1.3-1] [3.1.1 MQTT-2.2.2-2] PUBACK with reserved flags is malformed
  45 | 41 02 0001 | !81
[MQTT-2.1.3-1] [3.1.1 MQTT-2.2.2-2] PUBREC with reserved flags is malformed
  45 | 52 02 0001 | !81
[MQTT-3.6.1-1] PUBREL with flags 0000 is malformed
  45 | 60 02 0001 | !81
[MQTT-3.6.1-1] PUBREL with flags 0011 is malformed
  45 | 63 02 0001 | !81
[MQTT-3.6.1-1] PUBREL with flags 1010 is malformed
  45 | 6a 02 0001 | !81
[3.1 section 3.6] DUP is legal on PUBREL in 3.1
  3 | 6a 02 0001 | = 70 02 0001
[MQTT-2.1.3-1] [3.1.1 MQTT-2.2.2-2] PUBCOMP with reserved flags is malformed
  45 | 74 02 0001 | !81
[section 3.4.1] PUBACK with a reason code ends the connection before v5
  34 | 40 03 0001 00 | close
[section 3.5.1] PUBREC with a reason code ends the connection before v5
  34 | 50 03 0001 00 | close
[section 3.6.1] PUBREL with a reason code ends the connection before v5
  34 | 62 03 0001 00 | close
[section 3.7.1] PUBCOMP with a reason code ends the connection before v5
  34 | 70 03 0001 00 | close
[MQTT-4.3.2-3] PUBACK with an unknown id is ignored
  345 | 40 02 0001 | =
[MQTT-4.3.3-5] PUBCOMP with an unknown id is ignored
  345 | 70 02 0001 | =
[3.1.1 MQTT-4.3.3-2] PUBREL with an unknown id is completed
  34 | 62 02 0001 | = 70 02 0001
[MQTT-3.7.2-1] PUBREL with an unknown id is completed with 0x92
  5 | 62 02 0001 | = 70 03 0001 92
[3.1.1 MQTT-4.3.3-1] PUBREC with an unknown id gets PUBREL
  34 | 50 02 0001 | = 62 02 0001
[MQTT-3.6.2-1] PUBREC with an unknown id gets PUBREL 0x92
  5 | 50 02 0001 | = 62 03 0001 92
[MQTT-4.3.3-4] failing PUBREC with an unknown id is ignored
  5 | 50 03 0001 80 | =
[section 3.4.2.1] PUBACK with reason 0 in full is legal
  5 | 40 03 0001 00 | =
[MQTT-3.4.2-1] PUBACK 0x10 is legal
  5 | 40 03 0001 10 | =
[section 3.4.2.2] PUBACK with an empty property block is legal
  5 | 40 04 0001 00 00 | =
[section 3.4.2.2] PUBACK with reason string and user properties is legal
  5 | 40 ( 0001 00 ( 1f "why" 26 "k" "v" 26 "k" "v" ) ) | =
[MQTT-3.4.2-1] PUBACK with a code that is not listed is refused
  5 | 40 03 0001 01 | !82
[MQTT-3.4.2-1] PUBACK 0x92 is refused
  5 | 40 03 0001 92 | !82
[MQTT-3.5.2-1] PUBREC with a code that is not listed is refused
  5 | 50 03 0001 01 | !82
[MQTT-3.5.2-1] PUBREC 0x92 is refused
  5 | 50 03 0001 92 | !82
[MQTT-3.6.2-1] PUBREL with a code that is not listed is refused
  5 | 62 03 0001 10 | !82
[MQTT-3.6.2-1] PUBREL 0x80 is refused
  5 | 62 03 0001 80 | !82
[MQTT-3.7.2-1] PUBCOMP with a code that is not listed is refused
  5 | 70 03 0001 10 | !82
[MQTT-3.7.2-1] PUBCOMP 0x80 is refused
  5 | 70 03 0001 80 | !82
[section 3.4.2.2.2] reason string twice in PUBACK is a protocol error
  5 | 40 ( 0001 00 ( 1f "a" 1f "b" ) ) | !82
[section 3.5.2.2.2] reason string twice in PUBREC is a protocol error
  5 | 50 ( 0001 00 ( 1f "a" 1f "b" ) ) | !82
[section 3.6.2.2.2] reason string twice in PUBREL is a protocol error
  5 | 62 ( 0001 00 ( 1f "a" 1f "b" ) ) | !82
[section 3.7.2.2.2] reason string twice in PUBCOMP is a protocol error
  5 | 70 ( 0001 00 ( 1f "a" 1f "b" ) ) | !82
[section 2.2.2.2] property of another packet in PUBACK is malformed
  5 | 40 ( 0001 00 ( 23 0001 ) ) | !81
[section 2.2.2.2] property of another packet in PUBREC is malformed
  5 | 50 ( 0001 00 ( 23 0001 ) ) | !81
[section 2.2.2.2] property of another packet in PUBREL is malformed
  5 | 62 ( 0001 00 ( 23 0001 ) ) | !81
[section 2.2.2.2] property of another packet in PUBCOMP is malformed
  5 | 70 ( 0001 00 ( 23 0001 ) ) | !81
[MQTT-1.5.4-1] reason string that is not UTF-8 in PUBACK is malformed
  5 | 40 ( 0001 00 ( 1f 0001 ff ) ) | !81
[section 2.2.2] short reason string in PUBACK is malformed
  5 | 40 ( 0001 00 ( 1f 0005 'abc' ) ) | !81
[section 2.2.2.1] property length past the end of PUBACK is malformed
  5 | 40 ( 0001 00 02 ) | !81
[section 3.4.2] bytes after the properties of PUBACK are malformed
  5 | 40 ( 0001 00 00 00 ) | !81
[section 3.7.2] bytes after the properties of PUBCOMP are malformed
  5 | 70 ( 0001 00 00 00 ) | !81
# --- SUBSCRIBE ---
[MQTT-3.8.1-1] SUBSCRIBE with flags 0000 is malformed
  45 | 80 ( 0001 % "a/b" 00 ) | !81
[MQTT-3.8.1-1] SUBSCRIBE with flags 0001 is malformed
  45 | 81 ( 0001 % "a/b" 00 ) | !81
[MQTT-3.8.1-1] SUBSCRIBE with flags 0011 is malformed
  45 | 83 ( 0001 % "a/b" 00 ) | !81
[MQTT-3.8.1-1] SUBSCRIBE with flags 1010 is malformed
  45 | 8a ( 0001 % "a/b" 00 ) | !81
[3.1 section 3.8] DUP is legal on SUBSCRIBE in 3.1
  3 | 8a ( 0001 "malformed/dup" 00 ) | = 90 ( 0001 00 )
[section 3.8.2] SUBSCRIBE without a body is malformed
  345 | 82 00 | !81
[section 3.8.2] SUBSCRIBE with half a packet id is malformed
  345 | 82 01 00 | !81
[MQTT-2.2.2-1] SUBSCRIBE without a property length is malformed
  5 | 82 02 0001 | !81
[MQTT-3.8.3-2] SUBSCRIBE without filters is a protocol error
  5 | 82 ( 0001 00 ) | !81,82
[3.1.1 MQTT-3.8.3-3] SUBSCRIBE without filters ends the connection
  4 | 82 ( 0001 ) | close
[MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1] SUBSCRIBE with packet id 0 is refused
  345 | 82 ( 0000 % "a/b" 00 ) | !81,82
[section 3.8.3] filter without options is malformed
  345 | 82 ( 0001 % "a/b" ) | !81
[section 3.8.3] second filter without options is malformed
  345 | 82 ( 0001 % "a/b" 00 "c" ) | !81
[section 3.8.3] filter past the end of SUBSCRIBE is malformed
  345 | 82 ( 0001 % 0005 'abc' ) | !81
[section 3.8.3] half a filter length is malformed
  345 | 82 ( 0001 % 00 ) | !81
[section 3.8.3.1] requested QoS 3 is refused
  5 | 82 ( 0001 00 "a/b" 03 ) | !81,82
[3.1.1 MQTT-3.8.3-4] requested QoS 3 ends the connection
  4 | 82 ( 0001 "a/b" 03 ) | close
[3.1 section 3.8] requested QoS 3 ends the connection
  3 | 82 ( 0001 "a/b" 03 ) | close
[3.1.1 MQTT-3.8.3-4] option bit 2 ends the connection
  4 | 82 ( 0001 "a/b" 04 ) | close
[3.1.1 MQTT-3.8.3-4] option bit 7 ends the connection
  4 | 82 ( 0001 "a/b" 80 ) | close
[3.1.1 MQTT-3.8.3-4] option bit 6 of a second filter ends the connection
  4 | 82 ( 0001 "a/b" 01 "c" 41 ) | close
[MQTT-3.8.3-5] option bit 6 is malformed
  5 | 82 ( 0001 00 "a/b" 40 ) | !81
[MQTT-3.8.3-5] option bit 7 is malformed
  5 | 82 ( 0001 00 "a/b" 80 ) | !81
[MQTT-3.8.3-5] option bits of a second filter are malformed
  5 | 82 ( 0001 00 "a/b" 01 "c" c1 ) | !81
[section 3.8.3.1] retain handling 3 is refused
  5 | 82 ( 0001 00 "a/b" 30 ) | !81,82
[MQTT-3.8.3-4] no local on a shared subscription is a protocol error
  5 | 82 ( 0001 00 "$share/g/a" 04 ) | !82
[MQTT-4.7.3-1] an empty filter is refused
  345 | 82 ( 0001 % 0000 00 ) | !81
[MQTT-4.7.1-1] [3.1.1 MQTT-4.7.1-2] a# is not a filter
  345 | 82 ( 0001 % "a#" 00 ) | !81
[MQTT-4.7.1-1] [3.1.1 MQTT-4.7.1-2] a/#/b is not a filter
  345 | 82 ( 0001 % "a/#/b" 00 ) | !81
[MQTT-4.7.1-1] [3.1.1 MQTT-4.7.1-2] #/ is not a filter
  345 | 82 ( 0001 % "#/" 00 ) | !81
[MQTT-4.7.1-1] [3.1.1 MQTT-4.7.1-2] ## is not a filter
  345 | 82 ( 0001 % "##" 00 ) | !81
[MQTT-4.7.1-1] [3.1.1 MQTT-4.7.1-2] #a is not a filter
  345 | 82 ( 0001 % "#a" 00 ) | !81
[MQTT-4.7.1-1] [3.1.1 MQTT-4.7.1-2] a/b# is not a filter
  345 | 82 ( 0001 % "a/b#" 00 ) | !81
[MQTT-4.7.1-2] [3.1.1 MQTT-4.7.1-3] a+ is not a filter
  345 | 82 ( 0001 % "a+" 00 ) | !81
[MQTT-4.7.1-2] [3.1.1 MQTT-4.7.1-3] +a is not a filter
  345 | 82 ( 0001 % "+a" 00 ) | !81
[MQTT-4.7.1-2] [3.1.1 MQTT-4.7.1-3] a/+b/c is not a filter
  345 | 82 ( 0001 % "a/+b/c" 00 ) | !81
[MQTT-4.7.1-2] [3.1.1 MQTT-4.7.1-3] ++ is not a filter
  345 | 82 ( 0001 % "++" 00 ) | !81
[MQTT-4.7.1-1] one bad filter among good ones is refused
  345 | 82 ( 0001 % "ok" 00 "a#" 00 ) | !81
[MQTT-3.8.3-1] a filter that is not UTF-8 is malformed
  45 | 82 ( 0001 % 0001 ff 00 ) | !81
[MQTT-3.8.3-1] a surrogate in a filter is malformed
  45 | 82 ( 0001 % 0003 eda080 00 ) | !81
[MQTT-4.7.3-2] U+0000 in a filter is malformed
  45 | 82 ( 0001 % 0003 610062 00 ) | !81
[MQTT-4.8.2-1] an empty share name is refused
  5 | 82 ( 0001 00 "$share//a" 00 ) | !81,82,8f or 90 ( 0001 00 8f )
[MQTT-4.8.2-2] a shared filter without a filter is refused
  5 | 82 ( 0001 00 "$share/g" 00 ) | !81,82,8f or 90 ( 0001 00 8f )
[MQTT-4.8.2-2] a shared filter with an empty filter is refused
  5 | 82 ( 0001 00 "$share/g/" 00 ) | !81,82,8f or 90 ( 0001 00 8f )
[MQTT-4.8.2-2] + in a share name is refused
  5 | 82 ( 0001 00 "$share/g+/a" 00 ) | !81,82,8f or 90 ( 0001 00 8f )
[MQTT-4.8.2-2] + as share name is refused
  5 | 82 ( 0001 00 "$share/+/a" 00 ) | !81,82,8f or 90 ( 0001 00 8f )
[MQTT-4.8.2-2] # as share name is refused
  5 | 82 ( 0001 00 "$share/#" 00 ) | !81,82,8f or 90 ( 0001 00 8f )
[MQTT-4.7.1-1] a shared filter with a bad wildcard is refused
  5 | 82 ( 0001 00 "$share/g/a#" 00 ) | !81,82,8f or 90 ( 0001 00 8f )
[section 3.8.2.1.2] subscription id 0 is a protocol error
  5 | 82 ( 0001 ( 0b 00 ) "a/b" 00 ) | !81,82
[section 3.8.2.1.2] two subscription ids are a protocol error
  5 | 82 ( 0001 ( 0b 01 0b 02 ) "a/b" 00 ) | !82
[MQTT-1.5.5-1] non-canonical subscription id is malformed
  5 | 82 ( 0001 ( 0b 8100 ) "a/b" 00 ) | !81
[MQTT-1.5.5-1] subscription id of five bytes is malformed
  5 | 82 ( 0001 ( 0b 80808080 01 ) "a/b" 00 ) | !81
[section 3.8.2.1.2] subscription id 268435455 is legal
  5 | 82 ( 0001 ( 0b ffffff7f ) "malformed/sid" 00 ) | = 90 ( 0001 00 00 )
[section 2.2.2.2] property of another packet in SUBSCRIBE is malformed
  5 | 82 ( 0001 ( 01 01 ) "a/b" 00 ) | !81
[section 2.2.2.2] topic alias in SUBSCRIBE is malformed
  5 | 82 ( 0001 ( 23 0001 ) "a/b" 00 ) | !81
[section 3.8.2.1.3] user properties in SUBSCRIBE are legal
  5 | 82 ( 0001 ( 26 "k" "v" 26 "k" "v" ) "malformed/user" 00 ) | = 90 ( 0001 00 00 )
[section 2.2.2.1] property length past the end of SUBSCRIBE is malformed
  5 | 82 ( 0001 20 "a/b" 00 ) | !81
[MQTT-1.5.5-1] non-canonical property length in SUBSCRIBE is malformed
  5 | 82 ( 0001 8000 "a/b" 00 ) | !81
[MQTT-3.8.4-2] packet id 65535 is legal
  345 | 82 ( ffff % "malformed/id" 02 ) | = 90 ( ffff % 02 )
[MQTT-3.9.3-1] [MQTT-3.8.4-6] one code per filter in their order
  345 | 82 ( 0001 % "malf/+/#" 00 "malf/#" 01 "+/malf/+" 02 ) | = 90 ( 0001 % 00 01 02 )
# --- UNSUBSCRIBE ---
[MQTT-3.10.1-1] UNSUBSCRIBE with flags 0000 is malformed
  45 | a0 ( 0001 % "a/b" ) | !81
[MQTT-3.10.1-1] UNSUBSCRIBE with flags 0011 is malformed
  45 | a3 ( 0001 % "a/b" ) | !81
[MQTT-3.10.1-1] UNSUBSCRIBE with flags 1010 is malformed
  45 | aa ( 0001 % "a/b" ) | !81
[3.1 section 3.10] DUP is legal on UNSUBSCRIBE in 3.1
  3 | aa ( 0001 "a/b" ) | = b0 02 0001
[section 3.10.2] UNSUBSCRIBE without a body is malformed
  345 | a2 00 | !81
[section 3.10.2] UNSUBSCRIBE with half a packet id is malformed
  345 | a2 01 00 | !81
[MQTT-2.2.2-1] UNSUBSCRIBE without a property length is malformed
  5 | a2 02 0001 | !81
[MQTT-3.10.3-2] UNSUBSCRIBE without filters is a protocol error
  5 | a2 ( 0001 00 ) | !81,82
[3.1.1 MQTT-3.10.3-2] UNSUBSCRIBE without filters ends the connection
  4 | a2 ( 0001 ) | close
[MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1] UNSUBSCRIBE with packet id 0 is refused
  345 | a2 ( 0000 % "a/b" ) | !81,82
[section 3.10.3] filter past the end of UNSUBSCRIBE is malformed
  345 | a2 ( 0001 % 0005 'abc' ) | !81
[section 3.10.3] half a filter length in UNSUBSCRIBE is malformed
  345 | a2 ( 0001 % "a" 00 ) | !81
[MQTT-4.7.3-1] an empty filter in UNSUBSCRIBE is refused
  345 | a2 ( 0001 % 0000 ) | !81
[MQTT-4.7.1-1] a# in UNSUBSCRIBE is refused
  345 | a2 ( 0001 % "a#" ) | !81
[MQTT-4.7.1-2] +a in UNSUBSCRIBE is refused
  345 | a2 ( 0001 % "+a" ) | !81
[MQTT-3.10.3-1] a filter that is not UTF-8 in UNSUBSCRIBE is malformed
  45 | a2 ( 0001 % 0001 ff ) | !81
[section 2.2.2.2] subscription id in UNSUBSCRIBE is malformed
  5 | a2 ( 0001 ( 0b 01 ) "a/b" ) | !81
[section 3.10.2.1.2] user property in UNSUBSCRIBE is legal
  5 | a2 ( 0001 ( 26 "k" "v" ) "a/b" ) | = b0 ( 0001 00 11 )
[MQTT-3.10.4-5] UNSUBACK comes although nothing matched
  345 | a2 ( ffff % "a/b" ) | = b0 ( ffff % 11? )
"""

# The first bytes of a connection.
FIRST = r"""
# --- not a CONNECT ---
[MQTT-3.1.0-1] PINGREQ as first packet ends the connection
  345 | c0 00 | close
[MQTT-3.1.0-1] DISCONNECT as first packet ends the connection
  345 | e0 00 | close
[MQTT-3.1.0-1, MQTT-3.14.0-1] PUBLISH as first packet ends the connection
  345 | 30 ( "a/b" % 'x' ) | close
[MQTT-3.1.0-1] SUBSCRIBE as first packet ends the connection
  345 | 82 ( 0001 % "a/b" 00 ) | close
[MQTT-3.1.0-1] CONNACK as first packet ends the connection
  345 | 20 02 00 00 | close
[MQTT-3.1.0-1] AUTH as first packet ends the connection
  5 | f0 00 | close
[3.1.1 MQTT-3.1.0-1] packet type 0 as first packet ends the connection
  4 | 00 00 | close
[3.1.1 MQTT-3.1.0-1] HTTP on the MQTT port ends the connection
  4 | 'GET / HTTP/1.1' 0d0a0d0a | close
[3.1.1 MQTT-3.1.0-1] TLS on the plain port ends the connection
  4 | 16030100 c8 010000c4 0303 00*64 | close
# --- protocol name and version ---
[MQTT-3.1.2-1] another protocol name ends the connection
  5 | 10 ( "MQTX" 05 02 003c 00 "c" ) | close or 20 03 00 84 00
  4 | 10 ( "MQTX" 04 02 003c "c" ) | close or 20 02 00 01
[3.1.1 MQTT-3.1.2-1] the protocol name is case-sensitive
  4 | 10 ( "mqtt" 04 02 003c "c" ) | close or 20 02 00 01
[3.1.1 MQTT-3.1.2-1] an empty protocol name ends the connection
  4 | 10 ( "" 04 02 003c "c" ) | close or 20 02 00 01
[3.1.1 MQTT-3.1.2-1] a longer protocol name ends the connection
  4 | 10 ( "MQTTMQTT" 04 02 003c "c" ) | close or 20 02 00 01
[3.1.1 MQTT-3.1.2-1] another six-letter protocol name ends the connection
  3 | 10 ( "MQIsdx" 03 02 003c "c" ) | close or 20 02 00 01
[3.1.1 MQTT-3.1.2-2] level 6 is refused
  4 | 10 ( "MQTT" 06 02 003c "c" ) | / 20 03 00 84 00 or 20 02 00 01
[MQTT-3.1.2-2] version 6 is refused
  5 | 10 ( "MQTT" 06 02 003c 00 "c" ) | / 20 03 00 84 00 or 20 02 00 01
[3.1.1 MQTT-3.1.2-2] level 0 is refused
  4 | 10 ( "MQTT" 00 02 003c "c" ) | / 20 03 00 84 00 or 20 02 00 01
[3.1.1 MQTT-3.1.2-2] level 255 is refused
  4 | 10 ( "MQTT" ff 02 003c "c" ) | / 20 03 00 84 00 or 20 02 00 01 or close
[3.1.1 MQTT-3.1.2-2] level 3 under the name MQTT is refused
  4 | 10 ( "MQTT" 03 02 003c "c" ) | / 20 02 00 01 or 20 03 00 84 00
[3.1.1 MQTT-3.1.2-2] level 4 under the name MQIsdp is refused
  3 | 10 ( "MQIsdp" 04 02 003c "c" ) | / 20 02 00 01 or 20 03 00 84 00
[MQTT-3.1.2-2] level 5 under the name MQIsdp is refused
  5 | 10 ( "MQIsdp" 05 02 003c 00 "c" ) | / 20 02 00 01 or 20 03 00 84 00
# --- fixed header, flags and lengths ---
[3.1.1 MQTT-2.2.2-2] CONNECT with reserved fixed header flags ends the connection
  4 | 11 ( "MQTT" 04 02 003c "c" ) | close
[MQTT-2.1.3-1] CONNECT with reserved fixed header flags is malformed
  5 | 11 ( "MQTT" 05 02 003c 00 "c" ) | close or 20 03 00 81 00
[3.1.1 MQTT-3.1.2-3] the reserved connect flag ends the connection
  4 | 10 ( "MQTT" 04 03 003c "c" ) | close
[MQTT-3.1.2-3] the reserved connect flag is malformed
  5 | 10 ( "MQTT" 05 03 003c 00 "c" ) | / 20 03 00 81 00
[3.1.1 MQTT-3.1.2-13] will QoS 1 without a will ends the connection
  4 | 10 ( "MQTT" 04 0a 003c "c" ) | close
[MQTT-3.1.2-11] will QoS 1 without a will is refused
  5 | 10 ( "MQTT" 05 0a 003c 00 "c" ) | / 20 03 00 81 00 or 20 03 00 82 00
[3.1.1 MQTT-3.1.2-15] will retain without a will ends the connection
  4 | 10 ( "MQTT" 04 22 003c "c" ) | close
[MQTT-3.1.2-13] will retain without a will is refused
  5 | 10 ( "MQTT" 05 22 003c 00 "c" ) | / 20 03 00 81 00 or 20 03 00 82 00
[3.1.1 MQTT-3.1.2-14] will QoS 3 ends the connection
  4 | 10 ( "MQTT" 04 1e 003c "c" "w" "m" ) | close
[MQTT-3.1.2-12] will QoS 3 is malformed
  5 | 10 ( "MQTT" 05 1e 003c 00 "c" 00 "w" "m" ) | / 20 03 00 81 00
[3.1.1 MQTT-3.1.2-22] a password without a user name ends the connection
  4 | 10 ( "MQTT" 04 42 003c "c" "pw" ) | close
[3.1.1 MQTT-3.1.4-1] an empty CONNECT ends the connection
  4 | 10 00 | close
[MQTT-3.1.4-1] CONNECT cut inside the protocol name ends the connection
  5 | 10 02 0004 | close
[3.1.1 MQTT-3.1.4-1] CONNECT cut after the protocol name ends the connection
  4 | 10 ( "MQTT" ) | close
[3.1.1 MQTT-3.1.4-1] CONNECT cut after the level ends the connection
  4 | 10 ( "MQTT" 04 ) | close
[3.1.1 MQTT-3.1.4-1] CONNECT cut inside the keep alive ends the connection
  4 | 10 ( "MQTT" 04 02 00 ) | close
[3.1.1 MQTT-3.1.3-3] CONNECT without client id ends the connection
  4 | 10 ( "MQTT" 04 02 003c ) | close
[3.1.1 MQTT-3.1.4-1] CONNECT with a client id past its end ends the connection
  4 | 10 ( "MQTT" 04 02 003c 0005 'abc' ) | close
[MQTT-3.1.4-1] CONNECT cut after the version is malformed
  5 | 10 ( "MQTT" 05 ) | / 20 03 00 81 00 or close
[MQTT-3.1.4-1] CONNECT without property length is malformed
  5 | 10 ( "MQTT" 05 02 003c ) | / 20 03 00 81 00
[MQTT-3.1.3-3] CONNECT without client id is malformed
  5 | 10 ( "MQTT" 05 02 003c 00 ) | / 20 03 00 81 00
[MQTT-3.1.4-1] CONNECT with a client id past its end is malformed
  5 | 10 ( "MQTT" 05 02 003c 00 0005 'abc' ) | / 20 03 00 81 00
[3.1.1 MQTT-3.1.4-1] bytes after the payload of CONNECT end the connection
  4 | 10 ( "MQTT" 04 02 003c "c" 00 ) | close
[MQTT-3.1.4-1] bytes after the payload of CONNECT are malformed
  5 | 10 ( "MQTT" 05 02 003c 00 "c" 00 ) | / 20 03 00 81 00
[3.1.1 MQTT-3.1.2-18] a user name without its flag ends the connection
  4 | 10 ( "MQTT" 04 02 003c "c" "user" ) | close
[3.1.1 MQTT-3.1.2-19] a user name flag without the name ends the connection
  4 | 10 ( "MQTT" 04 82 003c "c" ) | close
[MQTT-3.1.2-17] a user name flag without the name is malformed
  5 | 10 ( "MQTT" 05 82 003c 00 "c" ) | / 20 03 00 81 00
[3.1 section 3.1] a user name flag without the name is legal in 3.1
  3 | 10 ( "MQIsdp" 03 82 003c "malformed31" ) | = 20 02 00 00
[3.1.1 MQTT-3.1.2-21] a password flag without the password ends the connection
  4 | 10 ( "MQTT" 04 c2 003c "c" "user" ) | close
[MQTT-3.1.2-19] a password flag without the password is malformed
  5 | 10 ( "MQTT" 05 c2 003c 00 "c" "user" ) | / 20 03 00 81 00
[3.1.1 MQTT-3.1.2-9] a will flag without a will ends the connection
  4 | 10 ( "MQTT" 04 06 003c "c" ) | close
[MQTT-3.1.2-9] a will flag without a will is malformed
  5 | 10 ( "MQTT" 05 06 003c 00 "c" ) | / 20 03 00 81 00
[3.1.1 MQTT-3.1.2-9] a will without payload field ends the connection
  4 | 10 ( "MQTT" 04 06 003c "c" "w" ) | close
[MQTT-3.1.2-9] a will without payload field is malformed
  5 | 10 ( "MQTT" 05 06 003c 00 "c" 00 "w" ) | / 20 03 00 81 00
[3.1.1 MQTT-3.1.4-1] a will payload past the end ends the connection
  4 | 10 ( "MQTT" 04 06 003c "c" "w" 0005 'abc' ) | close
# --- strings ---
[MQTT-3.1.3-4] a client id that is not UTF-8 is refused
  4 | 10 ( "MQTT" 04 02 003c 0001 ff ) | close or 20 02 00 02
  5 | 10 ( "MQTT" 05 02 003c 00 0001 ff ) | / 20 03 00 81 00 or 20 03 00 85 00
[3.1.1 MQTT-1.5.3-2] a client id with U+0000 is refused
  4 | 10 ( "MQTT" 04 02 003c 0003 610062 ) | close or 20 02 00 02
[MQTT-1.5.4-1] a client id with a surrogate is refused
  5 | 10 ( "MQTT" 05 02 003c 00 0003 eda080 ) | / 20 03 00 81 00 or 20 03 00 85 00
[3.1.1 MQTT-3.1.3-11] a user name that is not UTF-8 ends the connection
  4 | 10 ( "MQTT" 04 82 003c "c" 0001 ff ) | close
[MQTT-3.1.3-12] a user name that is not UTF-8 is malformed
  5 | 10 ( "MQTT" 05 82 003c 00 "c" 0001 ff ) | / 20 03 00 81 00
[3.1.1 MQTT-3.1.3-10] a will topic that is not UTF-8 ends the connection
  4 | 10 ( "MQTT" 04 06 003c "c" 0001 ff "m" ) | close
[MQTT-3.1.3-11] a will topic that is not UTF-8 is malformed
  5 | 10 ( "MQTT" 05 06 003c 00 "c" 00 0001 ff "m" ) | / 20 03 00 81 00
[MQTT-4.7.3-1] an empty will topic is refused
  345 | <will> "" "m" | / 20 03 00 81 00 or 20 03 00 82 00 or 20 03 00 90 00 or v34 close
[MQTT-4.7.0-1] [3.1.1 MQTT-4.7.1-1] a will topic with + is refused
  345 | <will> "a/+" "m" | / 20 03 00 81 00 or 20 03 00 82 00 or 20 03 00 90 00 or v34 close
[MQTT-4.7.0-1] [3.1.1 MQTT-4.7.1-1] a will topic with # is refused
  345 | <will> "#" "m" | / 20 03 00 81 00 or 20 03 00 82 00 or 20 03 00 90 00 or v34 close
# --- client id ---
[3.1 section 3.1] an empty client id is refused in 3.1
  3 | 10 ( "MQIsdp" 03 02 003c 0000 ) | / 20 02 00 02
[3.1 section 3.1] an empty client id without clean session is refused in 3.1
  3 | 10 ( "MQIsdp" 03 00 003c 0000 ) | / 20 02 00 02
[3.1.1 MQTT-3.1.3-8] an empty client id without clean session is refused
  4 | 10 ( "MQTT" 04 00 003c 0000 ) | / 20 02 00 02
[3.1.1 MQTT-3.1.3-6] an empty client id with clean session is accepted
  4 | 10 ( "MQTT" 04 02 003c 0000 ) | = 20 02 00 00
[3.1.1 MQTT-3.1.3-5] a client id of 23 letters and digits is accepted
  4 | 10 ( "MQTT" 04 02 003c "0123456789ABCDEFGHIJKLM" ) | = 20 02 00 00
[CONVENTIONS] a client id over 23 bytes is accepted in 3.1 too
  3 | 10 ( "MQIsdp" 03 02 003c "0123456789abcdefghijklmnopqrs" ) | = 20 02 00 00
[section 3.1.2.10] keep alive 0 is legal
  4 | 10 ( "MQTT" 04 02 0000 "malformedka0" ) | = 20 02 00 00
[3.1.1 MQTT-3.1.4-4] user name and password are legal although anonymous is allowed
  4 | 10 ( "MQTT" 04 c2 003c "malformedpw" "user" "password" ) | = 20 02 00 00
[section 3.1.2.8] a user name without password is legal
  4 | 10 ( "MQTT" 04 82 003c "malformedun" "user" ) | = 20 02 00 00
[section 3.1.2.8] empty user name and password are legal
  4 | 10 ( "MQTT" 04 c2 003c "malformedep" "" "" ) | = 20 02 00 00
[section 3.1.2.9] a password without user name is legal in v5
  5 | 10 ( "MQTT" 05 42 003c 00 "malformedp5" "pw" ) | = <connack>
[section 3.1.3.3] an empty will payload is legal
  4 | 10 ( "MQTT" 04 06 003c "malformedwe" "malformed/will" "" ) | = 20 02 00 00
# --- CONNECT properties ---
[section 3.1.2.11.2] session expiry twice is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 11 00000001 11 00000001 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.3] receive maximum twice is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 21 0001 21 0001 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.3] receive maximum 0 is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 21 0000 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.4] maximum packet size 0 is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 27 00000000 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.4] maximum packet size twice is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 27 00000100 27 00000100 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.5] topic alias maximum twice is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 22 0001 22 0001 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.6] request response information 2 is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 19 02 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.6] request response information twice is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 19 01 19 01 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.7] request problem information 2 is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 17 02 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.7] request problem information twice is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 17 01 17 01 ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.9] authentication method twice is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 15 "m" 15 "m" ) "c" ) | / 20 03 00 82 00
[section 3.1.2.11.10] authentication data without a method is a protocol error
  5 | 10 ( "MQTT" 05 02 003c ( 16 "d" ) "c" ) | / 20 03 00 82 00
[MQTT-4.12.0-1, MQTT-3.1.4-2] an unsupported authentication method is refused
  5 | 10 ( "MQTT" 05 02 003c ( 15 "unknown" ) "c" ) | / 20 03 00 8c 00
[MQTT-4.12.0-1] an unsupported authentication method with data is refused
  5 | 10 ( "MQTT" 05 02 003c ( 15 "unknown" 16 "d" ) "c" ) | / 20 03 00 8c 00
[section 2.2.2.2] payload format indicator in CONNECT is malformed
  5 | 10 ( "MQTT" 05 02 003c ( 01 01 ) "c" ) | / 20 03 00 81 00
[section 2.2.2.2] will delay among the CONNECT properties is malformed
  5 | 10 ( "MQTT" 05 02 003c ( 18 00000001 ) "c" ) | / 20 03 00 81 00
[section 2.2.2.2] assigned client id in CONNECT is malformed
  5 | 10 ( "MQTT" 05 02 003c ( 12 "i" ) "c" ) | / 20 03 00 81 00
[section 2.2.2.2] maximum QoS in CONNECT is malformed
  5 | 10 ( "MQTT" 05 02 003c ( 24 01 ) "c" ) | / 20 03 00 81 00
[section 2.2.2.2] an unknown property in CONNECT is malformed
  5 | 10 ( "MQTT" 05 02 003c ( 7f 01 ) "c" ) | / 20 03 00 81 00
[section 2.2.2] a short session expiry is malformed
  5 | 10 ( "MQTT" 05 02 003c ( 11 0000 ) "c" ) | / 20 03 00 81 00
[section 2.2.2.1] CONNECT property length past the end is malformed
  5 | 10 ( "MQTT" 05 02 003c 40 "c" ) | / 20 03 00 81 00
[MQTT-1.5.5-1] non-canonical CONNECT property length is malformed
  5 | 10 ( "MQTT" 05 02 003c 8000 "c" ) | / 20 03 00 81 00
[MQTT-1.5.7-1] a CONNECT user property that is not UTF-8 is malformed
  5 | 10 ( "MQTT" 05 02 003c ( 26 "k" 0001 ff ) "c" ) | / 20 03 00 81 00
[section 3.1.3.2.2] will delay twice is a protocol error
  5 | 10 ( "MQTT" 05 06 003c 00 "c" ( 18 00000001 18 00000001 ) "w" "m" ) | / 20 03 00 82 00
[section 3.1.3.2.3] will payload format 2 is refused
  5 | 10 ( "MQTT" 05 06 003c 00 "c" ( 01 02 ) "w" "m" ) | / 20 03 00 82 00 or 20 03 00 81 00
[section 2.2.2.2] topic alias in a will is malformed
  5 | 10 ( "MQTT" 05 06 003c 00 "c" ( 23 0001 ) "w" "m" ) | / 20 03 00 81 00
[section 2.2.2.2] subscription id in a will is malformed
  5 | 10 ( "MQTT" 05 06 003c 00 "c" ( 0b 01 ) "w" "m" ) | / 20 03 00 81 00
[section 2.2.2.2] session expiry in a will is malformed
  5 | 10 ( "MQTT" 05 06 003c 00 "c" ( 11 00000001 ) "w" "m" ) | / 20 03 00 81 00
[MQTT-3.3.2-14] a will's response topic with a wildcard is refused
  5 | 10 ( "MQTT" 05 06 003c 00 "c" ( 08 "a/#" ) "w" "m" ) | / 20 03 00 82 00 or 20 03 00 81 00
[section 2.2.2.1] will property length past the end is malformed
  5 | 10 ( "MQTT" 05 06 003c 00 "c" 20 "w" "m" ) | / 20 03 00 81 00
[section 3.1.2.11.8] user properties may repeat in CONNECT
  5 | 10 ( "MQTT" 05 02 003c ( 26 "k" "v" 26 "k" "v" ) "malformedup" ) | = <connack>
[section 3.1.2.11] every number of CONNECT may be at its edge
  5 | 10 ( "MQTT" 05 02 003c ( 1100000000 21ffff 27ffffffff 22ffff 1900 1701 ) "m" ) | = <connack>
[CONVENTIONS] CONNACK properties come in the documented order
  5 | 10 ( "MQTT" 05 02 003c 00 "malformedcc" ) | = <connack>
"""

DEFAULT_CONNACK = connack(5, props=(("topic_alias_maximum", 10), ("maximum_packet", 2000000),
                                    ("receive_maximum", 20)))


def rows(table):
    name = None
    for line in table.splitlines():
        if line.startswith("  "):
            versions, sent, answer = (part.strip() for part in line.split("|"))
            for version in versions:
                yield int(version), sent, answer, name
        elif not line.startswith("#"):
            name = line


def translate(version, notation):
    """Bytes of a row for one version."""
    notation = notation.replace("11?", "11" if version == 5 else "")
    if notation.startswith("<will>"):
        head = {3: '"MQIsdp" 03 06 003c "w"', 4: '"MQTT" 04 06 003c "w"',
                5: '"MQTT" 05 06 003c 00 "w" 00'}[version]
        notation = "10 ( %s %s )" % (head, notation[6:])
    if notation.startswith("<connack>"):
        return DEFAULT_CONNACK
    return parse_notation(notation.replace("%", "00" if version == 5 else ""))


def allowed_endings(version, answer):
    """The packet sequences, close last, that an error answer allows."""
    out = []
    for choice in answer.lstrip("/ ").split(" or "):
        choice = choice.strip()
        if choice.startswith("v34 "):
            if version == 5:
                continue
            choice = choice[4:]
        if choice == "close":
            out.append([b""])
        elif choice.startswith("!"):
            for code in choice[1:].split(","):
                out.append([bytes([0xE0, 1, int(code, 16)]), b""] if version == 5 else [b""])
        else:
            out.append([translate(version, choice), b""])
    return [row for index, row in enumerate(out) if row not in out[:index]]


def answer_holds(client, version, answer):
    if answer.startswith("="):
        wanted = translate(version, answer[1:].strip())
        got = b""
        while len(got) < len(wanted):
            packet = client.packet()
            got += packet
            if packet == b"" or not wanted.startswith(got):
                raise Failure("got %s, expected %s" % (show(got or packet), show(wanted)))
        client.send(PING)
        client.expect(PONG)
        return
    endings = allowed_endings(version, answer)
    got = []
    try:
        got.append(client.packet())
        # An answer may be a refusing SUBACK after which the connection stays.
        if answer.startswith("!") and got[0][:1] == b"\x90" and [got[0], b""] in endings:
            return client.ping()
        while got[-1] != b"":
            got.append(client.packet())
    except Failure as error:
        raise Failure("%s after %s, expected %s" % (
            error, [show(p) for p in got], [show(p) for p in endings[0]]))
    if got not in endings:
        raise Failure("got %s, expected %s" % ([show(p) for p in got], " or ".join(
            str([show(p) for p in row]) for row in endings)))


def check(context, version, sent, answer, connected):
    raw = translate(version, sent)
    for slowly in (False, True):
        client = context.open(version)
        if connected:
            client.send(connect(version, context.id("slow" if slowly else "whole")))
            if client.packet()[2:4] != bytes(2):
                raise Failure("no CONNACK with code 0")
        try:
            if slowly:
                client.send_slowly(raw)
            else:
                client.send(raw)
            answer_holds(client, version, answer)
        except Failure as error:
            raise Failure("%s%s" % ("byte by byte: " if slowly else "", error))
        client.close()


def register(suite):
    for version, sent, answer, name in rows(CONNECTED):
        suite.add("%s v%d" % (name, version), check, version, sent, answer, True)
    for version, sent, answer, name in rows(FIRST):
        suite.add("first packet: %s v%d" % (name, version), check, version, sent, answer, False)
