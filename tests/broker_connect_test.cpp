#include <doctest/doctest.h>

#include "sim/broker_sim.hpp"

using sim::Broker;
using sim::bytes;
using sim::hex;
using sim::Packet;
using sim::PacketType;
using sim::PropertyId;
using sim::Props;
using sim::ReasonCode;
using sim::Version;
using sim::Wire;

namespace {

// Sends bytes as the first of a link and returns what came back before the link was closed.
std::string answer_to(const char* packet, Version version, Wire wire = Wire::whole) {
  Broker<> broker(wire);
  const auto client = broker.open(version);
  client.raw_hex(packet);
  CHECK(client.hung_up());
  CHECK(broker.statistics().sessions == 0);
  return hex(client.link().all_in);
}

std::string connack(Version version, ReasonCode reason) {
  char text[32];
  if (version == Version::v5) {
    snprintf(text, sizeof text, "200300%02x00", mqtt::code(reason));
  } else {
    snprintf(text, sizeof text, "200200%02x", mqtt::connack_code(version, reason));
  }
  return text;
}

}  // namespace

TEST_CASE(
    "an accepted CONNECT gets CONNACK 0 first [MQTT-3.1.4-5, MQTT-3.2.0-1] "
    "[3.1.1 MQTT-3.1.4-4, MQTT-3.2.0-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    CHECK_FALSE(broker.last_connack.session_present);
    CHECK(hex(broker.last_connack.wire) ==
          (version == Version::v5 ? "200e00000b22000a27001e8480210014" : "20020000"));
    CHECK(client.quiet());
    client.raw_hex("c000");
    CHECK(hex(client.take(PacketType::pingresp).wire) == "d000");
    CHECK(client.quiet());
  });
}

TEST_CASE(
    "one CONNACK comes in a connection and its flag bits 7 to 1 are 0 "
    "[MQTT-3.2.0-2, MQTT-3.2.2-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    for (int round = 0; round < 2; ++round) {
      const auto client = broker.connect_resumable(version, "a");
      CHECK((broker.last_connack.wire[2] & 0xFE) == 0);
      client.subscribe("t", 1);
      client.raw_hex("c000");
      CHECK(client.count(PacketType::connack) == 0);
      client.disconnect();
    }
  });
}

TEST_CASE("the first packet must be CONNECT, else plain close [MQTT-3.1.0-1]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in}) {
    CHECK(answer_to("c000", Version::v3_1_1, wire).empty());
    CHECK(answer_to("3003000174", Version::v5, wire).empty());
    CHECK(answer_to("e000", Version::v5, wire).empty());
    CHECK(answer_to("f000", Version::v5, wire).empty());
    CHECK(answer_to("82060001000174 00", Version::v5, wire).empty());
  }
}

TEST_CASE("a second CONNECT is a protocol error [MQTT-3.1.0-2]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    mqtt::Connect again;
    again.client_id = "a";
    client.send(again);
    CHECK(client.cut_off(ReasonCode::protocol_error));
  });
}

TEST_CASE("an unknown protocol name is closed without an answer [MQTT-3.1.2-1]") {
  CHECK(answer_to("100d 0004 4d515455 04 02 003c 0001 61", Version::v3_1_1).empty());
  CHECK(answer_to("100d 0004 6d717474 04 02 003c 0001 61", Version::v3_1_1).empty());
  CHECK(answer_to("100e 0005 4d51545458 05 02 003c 00 0000", Version::v5).empty());
}

TEST_CASE("an unknown version gets CONNACK 0x84, or 1 before 5.0 [MQTT-3.1.2-2]") {
  CHECK(answer_to("100d 0004 4d515454 06 02 003c 0001 61", Version::v5) == "2003008400");
  CHECK(answer_to("100d 0004 4d515454 03 02 003c 0001 61", Version::v3_1_1) == "20020001");
  CHECK(answer_to("100f 0006 4d5149736470 04 02 003c 0001 61", Version::v3_1) == "20020001");
}

TEST_CASE("a version switched off gets CONNACK 0x84, or 1 before 5.0 [MQTT-3.1.2-2]") {
  sim::each([](Version version, Wire wire) {
    mqtt::BrokerLimits limits = sim::small_limits();
    limits.accept_v3_1 = version != Version::v3_1;
    limits.accept_v3_1_1 = version != Version::v3_1_1;
    limits.accept_v5 = version != Version::v5;
    Broker<> broker(wire, limits);
    const auto client = broker.start(version, "a");
    CHECK(hex(client.link().all_in) == connack(version, ReasonCode::unsupported_protocol_version));
    CHECK(client.hung_up());
  });
}

TEST_CASE("the reserved connect flag must be 0 [MQTT-3.1.2-3]") {
  CHECK(answer_to("100d 0004 4d515454 04 03 003c 0001 61", Version::v3_1_1).empty());
  CHECK(answer_to("100e 0004 4d515454 05 03 003c 00 0001 61", Version::v5) == "2003008100");
}

TEST_CASE("a malformed CONNECT is closed, from 5.0 on with CONNACK first [MQTT-3.1.4-1]") {
  // truncated client id, bytes left over, QoS 3 will
  CHECK(answer_to("100d 0004 4d515454 04 02 003c 0002 61", Version::v3_1_1).empty());
  CHECK(answer_to("100e 0004 4d515454 04 02 003c 0001 6100", Version::v3_1_1).empty());
  CHECK(answer_to("100e 0004 4d515454 05 02 003c 00 0002 61", Version::v5) == "2003008100");
  CHECK(answer_to("100f 0004 4d515454 05 02 003c 00 0001 6100", Version::v5) == "2003008100");
  CHECK(
      answer_to("1013 0004 4d515454 04 1e 003c 0001 61 0001 74 0001 70", Version::v3_1_1).empty());
  // receive maximum 0, and one given twice
  CHECK(answer_to("1011 0004 4d515454 05 02 003c 03210000 0001 61", Version::v5) == "2003008200");
  CHECK(answer_to("1014 0004 4d515454 05 02 003c 06210005210005 0001 61", Version::v5) ==
        "2003008200");
  // before the name is known nothing is answered
  CHECK(answer_to("1000", Version::v5).empty());
  CHECK(answer_to("1003 0004 4d", Version::v5).empty());
  CHECK(answer_to("1100", Version::v5).empty());
}

TEST_CASE(
    "packets behind a refused CONNECT are not looked at [MQTT-3.1.4-6] "
    "[3.1.1 MQTT-3.1.4-5]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    Broker<> broker(wire);
    const auto other = broker.connect(Version::v3_1_1, "other");
    other.subscribe("#");
    const auto client = broker.open(Version::v3_1_1);
    client.raw(bytes("100c 0004 4d515454 04 00 003c 0000") + bytes("3003 0001 74"));
    CHECK(hex(client.link().all_in) == "20020002");
    CHECK(client.hung_up());
    CHECK(other.quiet());
  }
}

TEST_CASE("packets behind an accepted CONNECT in the same bytes are handled [MQTT-3.1.4-5]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.open(version);
    mqtt::Connect connect;
    connect.version = version;
    connect.client_id = "a";
    client.put_packet(connect);
    mqtt::Subscribe subscribe;
    mqtt::Subscription entry;
    entry.filter = "t";
    subscribe.packet_id = 1;
    subscribe.filters = entry;
    client.put_packet(subscribe);
    client.publish("t", "x");
    CHECK(client.take(PacketType::connack).reason == ReasonCode::success);
    client.take(PacketType::suback);
    CHECK(client.message().payload == "x");
    CHECK(client.quiet());
  });
}

TEST_CASE(
    "an empty client id is assigned a unique one, which CONNACK tells [MQTT-3.1.3-6, "
    "MQTT-3.1.3-7, MQTT-3.2.2-16] [3.1.1 MQTT-3.1.3-6, MQTT-3.1.3-7]") {
  sim::each(Version::v3_1_1, [](Version version, Wire wire) {
    Broker<sim::PolicyConfig> broker(wire);
    std::string first;
    for (int i = 0; i < 2; ++i) {
      const auto client = broker.connect(version, "");
      const std::string id = broker.policy.connected.back();
      CHECK(id.size() == 41);
      CHECK(id.substr(0, 5) == "auto-");
      CHECK(id.find_first_not_of("0123456789ABCDEF-", 5) == std::string::npos);
      CHECK(id != first);
      first = id;
      CHECK(broker.last_connack.string(PropertyId::assigned_client_identifier) ==
            (version == Version::v5 ? id : ""));
      CHECK_FALSE(client.closed());
    }
  });
}

TEST_CASE("5.0 assigns an id also without clean start [MQTT-3.1.3-6]") {
  Broker<> broker;
  broker.connect_resumable(Version::v5, "");
  CHECK(broker.last_connack.has(PropertyId::assigned_client_identifier));
  CHECK_FALSE(broker.last_connack.session_present);
}

TEST_CASE(
    "3.1.1 refuses an empty id without clean session, 3.1 always, with code 2 "
    "[3.1.1 MQTT-3.1.3-8, MQTT-3.1.3-9, MQTT-3.2.2-4, MQTT-3.2.2-5]") {
  for (const Version version : {Version::v3_1, Version::v3_1_1}) {
    Broker<> broker;
    const auto client = broker.start(version, "a");
    CHECK(client.take(PacketType::connack).reason == ReasonCode::success);
    const auto empty = broker.open(version);
    empty.raw_hex(version == Version::v3_1 ? "100e 0006 4d5149736470 03 02 003c 0000"
                                           : "100c 0004 4d515454 04 00 003c 0000");
    CHECK(hex(empty.link().all_in) == "20020002");
    CHECK(empty.hung_up());
  }
}

TEST_CASE("empty ids switched off are refused with 0x85 and closed [MQTT-3.1.3-8]") {
  sim::each(Version::v3_1_1, [](Version version, Wire wire) {
    mqtt::BrokerLimits limits = sim::small_limits();
    limits.allow_empty_client_id = false;
    Broker<> broker(wire, limits);
    const auto client = broker.start(version, "");
    CHECK(hex(client.link().all_in) == connack(version, ReasonCode::client_identifier_not_valid));
    CHECK(client.hung_up());
  });
}

TEST_CASE(
    "ids of 1 to 23 letters and digits and longer ones are taken [MQTT-3.1.3-5, "
    "MQTT-3.1.3-4, MQTT-3.1.3-3]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    broker.connect(version, "0123456789abcdefABCDEFz");
    broker.connect(version, "0123456789abcdefABCDEF0123456789/long+#");
    CHECK(broker.statistics().sessions == 2);
  });
}

TEST_CASE("3.1 ids over 23 bytes are refused where the option says so (3.1 §3.1)") {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.client_id_23 = true;
  Broker<> broker(Wire::whole, limits);
  broker.connect(Version::v3_1, "0123456789abcdefABCDEFz");
  broker.connect(Version::v3_1_1, "0123456789abcdefABCDEFzz");
  const auto client = broker.start(Version::v3_1, "0123456789abcdefABCDEFzz");
  CHECK(hex(client.link().all_in) == "20020002");
  CHECK(client.hung_up());
}

TEST_CASE(
    "a client id connected twice ends the older link [MQTT-3.1.4-3] "
    "[3.1.1 MQTT-3.1.4-2]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto old = broker.connect(version, "a");
    const auto fresh = broker.connect(version, "a");
    CHECK(old.cut_off(ReasonCode::session_taken_over));
    fresh.raw_hex("c000");
    CHECK(fresh.take(PacketType::pingresp).type == PacketType::pingresp);
    CHECK(broker.statistics().connections == 1);
    CHECK(broker.statistics().sessions == 1);
  });
}

TEST_CASE("takeover works between versions [MQTT-3.1.4-3]") {
  sim::each_pair([](Version a, Version b) {
    Broker<> broker;
    const auto old = broker.connect_resumable(a, "a");
    old.subscribe("t", 1);
    const auto fresh = broker.connect_resumable(b, "a");
    CHECK(old.cut_off(ReasonCode::session_taken_over));
    fresh.publish("t", "x", 1);
    CHECK(fresh.message().payload == "x");
  });
}

TEST_CASE(
    "a keep alive is one and a half times what the client says "
    "[MQTT-3.1.2-22, MQTT-3.2.2-22] [3.1.1 MQTT-3.1.2-24]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a", [](mqtt::Connect& c) { c.keep_alive_s = 10; });
    for (int i = 0; i < 4; ++i) {
      broker.pass(14900);
      client.raw_hex("c000");
      CHECK(client.take(PacketType::pingresp).type == PacketType::pingresp);
    }
    broker.pass(14800);
    CHECK_FALSE(client.closed());
    broker.pass(1200);
    CHECK(client.cut_off(ReasonCode::keep_alive_timeout));
  });
}

TEST_CASE("what the broker sends does not keep a silent client alive [MQTT-3.1.2-22]") {
  Broker<> broker;
  const auto client =
      broker.connect(Version::v5, "a", [](mqtt::Connect& c) { c.keep_alive_s = 2; });
  const auto other = broker.connect(Version::v5, "b");
  client.subscribe("t");
  for (int i = 0; i < 7; ++i) {
    other.publish("t", "x");
    broker.pass(500);
  }
  CHECK(client.closed());
}

TEST_CASE("without a keep alive a silent link stays [MQTT-3.1.2-22]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    broker.seconds(1000000);
    CHECK_FALSE(client.closed());
    CHECK(broker.engine().deadline() == ~mqtt::Millis{0});
  });
}

TEST_CASE("a longer keep alive is shortened and CONNACK tells [MQTT-3.1.2-21, MQTT-3.2.2-21]") {
  for (const uint16_t asked : {uint16_t{0}, uint16_t{100}}) {
    mqtt::BrokerLimits limits = sim::small_limits();
    limits.keep_alive_max_s = 20;
    Broker<> broker(Wire::whole, limits);
    const auto client =
        broker.connect(Version::v5, "a", [&](mqtt::Connect& c) { c.keep_alive_s = asked; });
    CHECK(broker.last_connack.number(PropertyId::server_keep_alive) == 20);
    CHECK(hex(broker.last_connack.wire) == "201100000e13001422000a27001e8480210014");
    broker.pass(29900);
    CHECK_FALSE(client.closed());
    broker.pass(600);
    CHECK(client.closed());
  }
}

TEST_CASE("a refused CONNECT has session present 0 [MQTT-3.2.2-6, MQTT-3.2.2-7]") {
  sim::each([](Version version, Wire wire) {
    Broker<sim::PolicyConfig> broker(wire);
    const auto client = broker.connect_resumable(version, "a");
    client.disconnect();
    broker.policy.connect = [](const mqtt::Connect&, mqtt::ConnectAnswer& answer) {
      answer.reason = ReasonCode::not_authorized;
    };
    const auto refused =
        broker.start(version, "a", [](mqtt::Connect& c) { c.clean_start = false; });
    CHECK(hex(refused.link().all_in) == connack(version, ReasonCode::not_authorized));
    CHECK(refused.hung_up());
  });
}

TEST_CASE(
    "a CONNECT refused with a code 3.x does not list is closed without CONNACK "
    "[3.1.1 MQTT-3.2.2-6]") {
  Broker<sim::PolicyConfig> broker;
  broker.policy.connect = [](const mqtt::Connect&, mqtt::ConnectAnswer& answer) {
    answer.reason = ReasonCode::use_another_server;
    answer.server_reference = "there";
  };
  const auto old = broker.start(Version::v3_1_1, "a");
  CHECK(old.link().all_in.empty());
  CHECK(old.hung_up());
  const auto fresh = broker.start(Version::v5, "a");
  const Packet connack = fresh.take(PacketType::connack);
  CHECK(connack.reason == ReasonCode::use_another_server);
  CHECK(connack.string(PropertyId::server_reference) == "there");
}

TEST_CASE("response information comes only to those who ask [MQTT-3.1.2-28]") {
  for (const uint32_t asked : {0U, 1U, 2U}) {
    Broker<sim::PolicyConfig> broker;
    broker.policy.connect = [](const mqtt::Connect&, mqtt::ConnectAnswer& answer) {
      answer.response_information = "reply/to";
    };
    Props properties;
    if (asked != 2) { properties.number(PropertyId::request_response_information, asked); }
    broker.connect(Version::v5, "a", [&](mqtt::Connect& c) { c.properties = properties; });
    CHECK(broker.last_connack.string(PropertyId::response_information) ==
          (asked == 1 ? "reply/to" : ""));
  }
}

TEST_CASE(
    "a CONNACK above the client's maximum packet size is not sent: close "
    "[MQTT-3.1.2-24, MQTT-3.2.2-19, MQTT-3.2.2-20]") {
  Broker<sim::PolicyConfig> broker;
  broker.policy.connect = [](const mqtt::Connect&, mqtt::ConnectAnswer& answer) {
    answer.reason_string = "a long sentence that does not fit";
  };
  Props small;
  small.number(PropertyId::maximum_packet_size, 20);
  const auto client =
      broker.start(Version::v5, "a", [&](mqtt::Connect& c) { c.properties = small; });
  const Packet connack = client.take(PacketType::connack);  // without the reason string
  CHECK_FALSE(connack.has(PropertyId::reason_string));
  Props tiny;
  tiny.number(PropertyId::maximum_packet_size, 10);
  const auto other = broker.start(Version::v5, "b", [&](mqtt::Connect& c) { c.properties = tiny; });
  CHECK(other.link().all_in.empty());
  CHECK(other.hung_up());
  CHECK(broker.statistics().sessions == 1);
}

TEST_CASE("maximum QoS and retain not available stand in CONNACK [MQTT-3.2.2-9]") {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.maximum_qos = mqtt::Qos::at_least_once;
  limits.retain_available = false;
  Broker<> broker(Wire::whole, limits);
  broker.connect(Version::v5, "a");
  CHECK(hex(broker.last_connack.wire) == "201200000f22000a250027001e84802100142401");
}

TEST_CASE("an unfinished CONNECT is cut off at the deadline, silently [MQTT-3.1.4-1]") {
  for (const char* part : {"", "10", "1010 0004 4d515454 04"}) {
    Broker<> broker;
    const auto client = broker.open(Version::v3_1_1);
    client.raw_hex(part);
    broker.pass(29800);
    CHECK_FALSE(client.closed());
    broker.pass(500);
    CHECK(client.hung_up());
    CHECK(client.link().all_in.empty());
    CHECK(broker.statistics().connections == 0);
  }
}

TEST_CASE("bytes that trickle do not put off the deadline of CONNECT [MQTT-3.1.4-1]") {
  Broker<> broker;
  const auto client = broker.open(Version::v3_1_1);
  const std::string connect = bytes("100d 0004 4d515454 04 02 003c 0001 61");
  for (size_t i = 0; i + 1 < connect.size() && !client.closed(); ++i) {
    client.raw(connect.substr(i, 1));
    broker.pass(3000);
  }
  CHECK(client.hung_up());
}

TEST_CASE("shutting down tells 5.0 clients 0x8B and closes all [MQTT-4.13.1-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    const auto waiting = broker.open(version);
    broker.stop();
    CHECK(client.cut_off(ReasonCode::server_shutting_down));
    CHECK(waiting.hung_up());
    CHECK(broker.admit_one() != mqtt::Error::none);
    CHECK(broker.statistics().connections == 0);
  });
}

TEST_CASE("the owner ends a connection with any code [MQTT-3.14.2-1, MQTT-3.14.2-2]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    broker.engine().disconnect(client.id(), ReasonCode::administrative_action, broker.now);
    broker.run();
    CHECK(client.cut_off(ReasonCode::administrative_action));
  });
}

TEST_CASE("no DISCONNECT comes before CONNACK [MQTT-3.14.0-1]") {
  Broker<sim::PolicyConfig> broker;
  broker.policy.connect = [](const mqtt::Connect&, mqtt::ConnectAnswer& answer) {
    answer.later = true;
  };
  const auto client = broker.start(Version::v5, "a");
  broker.engine().disconnect(client.id(), ReasonCode::administrative_action, broker.now);
  broker.run();
  CHECK(client.count(PacketType::disconnect) == 0);
  CHECK(client.hung_up());
}

TEST_CASE("PINGREQ gets PINGRESP [MQTT-3.12.4-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    client.raw(bytes("c000c000c000"));
    CHECK(client.count(PacketType::pingresp) == 3);
  });
}

TEST_CASE(
    "DISCONNECT is followed by the end, nothing behind it counts "
    "[MQTT-3.14.4-1, MQTT-3.14.4-2, MQTT-4.13.2-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto other = broker.connect(version, "b");
    other.subscribe("t");
    const auto client = broker.connect(version, "a");
    client.raw(bytes("e000") + bytes(version == Version::v5 ? "300400017400" : "3003000174"));
    CHECK(client.hung_up());
    CHECK(client.quiet());
    CHECK(other.quiet());
  });
}
