#!/usr/bin/env python3
"""Raw-socket conformance suite: what MQTT 3.1, 3.1.1 and 5.0 let anybody observe of a broker.

    wire_malformed.py   tables: bytes in, answer out
    wire_connect.py     CONNECT, CONNACK, sessions, takeover, keep alive
    wire_will.py        wills
    wire_publish.py     PUBLISH, QoS handshakes, retained, properties, aliases, expiry
    wire_flow.py        receive maximum, packet sizes, pieces, order, slow readers
    wire_subscribe.py   SUBSCRIBE, UNSUBSCRIBE, matching, options, shared subscriptions

`wire_test.py TEXT…` runs the tests whose name has one of the texts. See broker.py for the
environment.
"""

import wire_connect
import wire_flow
import wire_malformed
import wire_publish
import wire_subscribe
import wire_will
from broker import Suite
from wire import Context

# The tests that wait come first, so that the others run meanwhile.
MODULES = [wire_will, wire_connect, wire_flow, wire_publish, wire_subscribe, wire_malformed]

if __name__ == "__main__":
    suite = Suite(time_max_s=110)
    for module in MODULES:
        module.register(suite)
    suite.broker()
    suite.run(context=Context, workers=16)
