// Every malformed packet behind CONNECT ends its link with the code the specification names, and
// no other.
#include <doctest/doctest.h>

#include "packets/packets.hpp"
#include "sim/broker_sim.hpp"

using sim::Broker;
using sim::bytes;
using sim::hex;
using sim::Packet;
using sim::PacketType;
using sim::PropertyId;
using sim::ReasonCode;
using sim::Version;
using sim::Wire;

using Client = sim::Client<mqtt::BrokerConfig>;

namespace {

// A broker with an innocent bystander whose traffic must go on.
struct Scene {
  explicit Scene(Wire wire, Version version)
      : broker(wire, limits()), bystander(broker.connect(Version::v3_1_1, "bystander")) {
    bystander.subscribe("bystander", 1);
    client = broker.connect(version, "client");
  }
  static mqtt::BrokerLimits limits() {
    mqtt::BrokerLimits limits = sim::small_limits();
    limits.packet_bytes_max = packets::packet_bytes_max;
    return limits;
  }
  void check_bystander() const {
    bystander.publish("bystander", "alive", 1);
    CHECK(bystander.count(PacketType::publish) == 1);
    CHECK_FALSE(bystander.closed());
  }

  Broker<> broker;
  Client bystander;
  Client client;
};

bool is_connect(const packets::Row& row) {
  return row.hex[0] == '1' && row.receiver == mqtt::Side::broker;
}

void check_row(const packets::Row& row, Wire wire) {
  CAPTURE(std::string(row.name));
  CAPTURE(std::string(row.hex));
  CAPTURE(sim::name(row.version));
  CAPTURE(sim::name(wire));
  Scene scene(wire, row.version);
  const std::string raw = bytes(row.hex);
  scene.client.raw(raw);
  if (row.version == Version::v5) {
    CHECK(scene.client.cut_off(mqtt::reason_code(row.error)));
  } else {
    CHECK(scene.client.hung_up());
    CHECK(scene.client.quiet());
  }
  scene.check_bystander();
}

void expect(Version version, const char* packet, ReasonCode reason) {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    CAPTURE(std::string(packet));
    CAPTURE(sim::name(wire));
    Scene scene(wire, version);
    scene.client.raw_hex(packet);
    CHECK(scene.client.cut_off(reason));
    scene.check_bystander();
  }
}
void expect_v5(const char* packet, ReasonCode reason) { expect(Version::v5, packet, reason); }
void expect_3(const char* packet) { expect(Version::v3_1_1, packet, ReasonCode::success); }

constexpr ReasonCode malformed = ReasonCode::malformed_packet;
constexpr ReasonCode protocol = ReasonCode::protocol_error;

}  // namespace

TEST_CASE(
    "each malformed packet of the table ends its own link with its code, no other "
    "[MQTT-4.13.1-1, MQTT-4.13.2-1, MQTT-4.8.0-1] [3.1.1 MQTT-4.8.0-1]") {
  uint32_t count = 0;
  for (const packets::Row& row : packets::rows) {
    if (row.receiver != mqtt::Side::broker || row.error == mqtt::Error::none ||
        row.error == mqtt::Error::incomplete || is_connect(row)) {
      continue;
    }
    const Wire wires[] = {Wire::whole, Wire::bytes_in, Wire::bytes_out};
    check_row(row, wires[count % 3]);
    count += 1;
  }
  CHECK(count > 100);
}

TEST_CASE(
    "each malformed CONNECT of the table is closed, with CONNACK in 5.0, and opens no "
    "session [MQTT-3.1.4-1]") {
  for (const packets::Row& row : packets::rows) {
    if (!is_connect(row) || row.error == mqtt::Error::none ||
        row.error == mqtt::Error::incomplete) {
      continue;
    }
    CAPTURE(std::string(row.name));
    CAPTURE(std::string(row.hex));
    Broker<> broker;
    const Client client = broker.open(row.version);
    client.link().decodes = false;
    client.raw_hex(row.hex);
    CHECK(client.hung_up());
    CHECK(broker.statistics().sessions == 0);
    const std::string answer = hex(client.link().all_in);
    if (answer.size() == 10) {  // CONNACK of 5.0
      CHECK(answer.substr(0, 6) == "200300");
      CHECK(mqtt::failed(static_cast<ReasonCode>(bytes(answer.c_str())[3])));
    } else if (!answer.empty()) {
      CHECK((answer == "20020001" || answer == "20020002"));
    }
  }
}

TEST_CASE(
    "each legal packet of the table leaves the broker sound, whatever it answers "
    "[MQTT-4.8.0-1]") {
  for (const packets::Row& row : packets::rows) {
    if (row.receiver != mqtt::Side::broker || row.error != mqtt::Error::none) { continue; }
    CAPTURE(std::string(row.name));
    CAPTURE(std::string(row.hex));
    Scene scene(Wire::whole, row.version);
    scene.client.raw_hex(row.hex);
    scene.check_bystander();
  }
}

TEST_CASE("a packet cut at any byte waits for the rest and is then understood [MQTT-4.2.0-1]") {
  const char* const packet = "82 12 0007 02 0b05 0003 612f62 01 0004 78792f2b 02";
  const std::string raw = bytes(packet);
  for (size_t cut = 0; cut < raw.size(); ++cut) {
    Scene scene(Wire::whole, Version::v5);
    scene.client.raw(raw.substr(0, cut));
    CHECK(scene.client.quiet());
    scene.client.raw(raw.substr(cut));
    CHECK(hex(scene.client.take(PacketType::suback).wire) == "90050007000102");
  }
}

TEST_CASE("random bytes end a link and nothing else [MQTT-4.8.0-1]") {
  uint32_t random = 99;
  for (int round = 0; round < 400; ++round) {
    Scene scene(round % 2 == 0 ? Wire::whole : Wire::pieces, round % 3 == 0   ? Version::v5
                                                             : round % 3 == 1 ? Version::v3_1_1
                                                                              : Version::v3_1);
    std::string raw;
    for (int i = 0; i < 60; ++i) {
      random = random * 1664525U + 1013904223U;
      raw.push_back(static_cast<char>(random >> 24));
    }
    scene.client.raw(raw);
    scene.check_bystander();
  }
}

TEST_CASE("legal packets with one byte changed never harm others [MQTT-4.8.0-1]") {
  const char* const legal[] = {"3210 0003 612f62 0001 06 0800 0372 2f73 78",
                               "8209 0001 00 0003 612f62 01",
                               "a208 0001 00 0003 612f62",
                               "4004 0001 0000",
                               "e002 0000",
                               "3416 0003 612f62 0002 0b 23 0001 26 0001 61 0002 6262 7878"};
  uint32_t random = 5;
  for (const char* packet : legal) {
    const std::string raw = bytes(packet);
    for (size_t at = 0; at < raw.size(); ++at) {
      for (int change = 0; change < 12; ++change) {
        random = random * 1664525U + 1013904223U;
        std::string changed = raw;
        changed[at] = static_cast<char>(random >> 24);
        Scene scene(Wire::whole, Version::v5);
        scene.client.raw(changed);
        scene.check_bystander();
      }
    }
  }
}

TEST_CASE(
    "reserved flags are malformed [MQTT-2.1.3-1, MQTT-3.6.1-1, MQTT-3.8.1-1, "
    "MQTT-3.10.1-1, MQTT-3.14.1-1, MQTT-3.15.1-1] [3.1.1 MQTT-2.2.2-2, MQTT-3.14.1-1]") {
  for (const char* packet : {"c100", "6002 0001", "8006 0001 0001 61 00",
                             "a005 0001 "
                             "0001 61",
                             "e100", "4102 0001", "5202 0001", "7102 0001"}) {
    expect_v5(packet, malformed);
    expect_3(packet);
  }
  expect_v5("f100", malformed);
  expect_3("f000");
}

TEST_CASE(
    "QoS 3 and DUP at QoS 0 are malformed, packet id 0 is a protocol error [MQTT-3.3.1-4, "
    "MQTT-3.3.1-2] "
    "[3.1.1 MQTT-3.3.1-4]") {
  expect_v5("3607 0001 74 0001 00 78", malformed);
  expect_v5("3207 0001 74 0000 00 78", protocol);
  expect_v5("3805 0001 74 00 78", malformed);
  expect_3("3606 0001 74 0001 78");
  expect_3("3206 0001 74 0000 78");
  expect_3("3804 0001 74 78");
}

TEST_CASE("wrong topics are malformed [MQTT-3.3.2-2, MQTT-4.7.1-1, MQTT-4.7.3-1, MQTT-4.7.3-2]") {
  expect_v5("3005 0001 2b 00 78", malformed);
  expect_v5("3006 0002 6123 00 78", malformed);
  expect_v5("3005 0001 00 00 78", malformed);
  expect_3("3004 0001 23 78");
  expect_3("3003 0000 78");
  expect_3("3004 0001 00 78");
}

TEST_CASE("an empty topic without alias is a protocol error [MQTT-3.3.2-1]") {
  Scene scene(Wire::whole, Version::v5);
  scene.client.raw_hex("3004 0000 00 78");
  CHECK(scene.client.closed());
}

TEST_CASE("strings that are not UTF-8 are malformed [MQTT-1.5.4-1, MQTT-1.5.4-2]") {
  expect_v5("3006 0002 c080 00 78", malformed);
  expect_v5("3007 0003 eda080 00 78", malformed);
  expect_v5("820a 0001 00 0004 61ff6262 00", malformed);
  expect_3("3005 0002 c080 78");
}

TEST_CASE(
    "SUBSCRIBE without filters, with bad options or filters [MQTT-3.8.3-2, MQTT-3.8.3-5, "
    "MQTT-3.8.3-4, MQTT-4.7.1-2, MQTT-4.8.2-1, MQTT-4.8.2-2] [3.1.1 MQTT-3.8.3-3, "
    "MQTT-3.8.3-4]") {
  expect_v5("8203 0001 00", protocol);
  expect_v5("8207 0001 00 0001 61 03", protocol);
  expect_v5("8207 0001 00 0001 61 30", protocol);  // retain handling 3
  expect_v5("8207 0001 00 0001 61 40", malformed);
  expect_v5("8207 0000 00 0001 61 00", malformed);
  expect_v5("8206 0001 00 0000 00", malformed);
  expect_v5("8208 0001 00 0002 2361 00", malformed);
  expect_v5("820a 0001 00 0004 612f622b 00", malformed);
  expect_v5("8210 0001 00 000a 24736861 72652f67 2f74 04", protocol);  // no local
  expect_v5("820d 0001 00 0007 24736861 72652f 00", protocol);
  expect_v5("820f 0001 00 0009 24736861 72652f2f74 00", protocol);
  expect_v5("8210 0001 00 000a 24736861 72652f2b 2f74 00", protocol);
  expect_3("8202 0001");
  expect_3("8206 0001 0001 61 03");
  expect_3("8206 0001 0001 61 04");
}

TEST_CASE("UNSUBSCRIBE without filters or with a bad one [MQTT-3.10.3-2]") {
  expect_v5("a203 0001 00", protocol);
  expect_v5("a206 0000 00 0001 61", malformed);
  expect_v5("a205 0001 00 0000", malformed);
  expect_3("a202 0001");
  expect_3("a205 0000 0001 61");
}

TEST_CASE("packets only a server sends are protocol errors [MQTT-4.13.1-1]") {
  for (const char* packet : {"2003 00 00 00", "9004 0001 00 00", "b004 0001 00 00", "d000"}) {
    expect_v5(packet, protocol);
  }
  for (const char* packet : {"2002 00 00", "9003 0001 00", "b002 0001", "d000"}) {
    expect_3(packet);
  }
}

TEST_CASE("properties out of place, unknown, repeated or of a forbidden value [MQTT-2.2.2-1]") {
  expect_v5("3007 0001 74 05 0100 78", malformed);      // longer than the packet
  expect_v5("3007 0001 74 02 0b01 78", protocol);       // subscription id from a client
  expect_v5("3007 0001 74 02 0401 78", malformed);      // unknown
  expect_v5("3009 0001 74 04 01000100 78", protocol);   // twice
  expect_v5("3007 0001 74 02 0102 78", protocol);       // neither 0 nor 1
  expect_v5("3009 0001 74 04 080001 23 78", protocol);  // wildcard in response topic
  expect_v5("8209 0001 02 0b00 0001 61 00", protocol);  // identifier 0
  expect_v5("820b 0001 04 0b010b02 0001 61 00", protocol);
}

TEST_CASE("remaining lengths must be short and not run away [MQTT-1.5.5-1]") {
  expect_v5("c08000", malformed);
  expect_v5("30ffffffff", malformed);
  expect_3("c08000");
  expect_3("30ffffffff7f");
}

TEST_CASE(
    "reason codes a client may not send are protocol errors [MQTT-3.4.2-1, MQTT-3.5.2-1, "
    "MQTT-3.6.2-1, MQTT-3.7.2-1, MQTT-3.14.2-1, MQTT-3.15.2-1]") {
  expect_v5("4003 0001 01", protocol);
  expect_v5("5003 0001 92", protocol);
  expect_v5("6203 0001 80", protocol);
  expect_v5("7003 0001 10", protocol);
  expect_v5("e001 8b", protocol);
  expect_v5("f001 00", protocol);
}

TEST_CASE("AUTH without a method in CONNECT is a protocol error [MQTT-4.12.0-6, MQTT-4.12.1-1]") {
  expect_v5("f006 19 04 15 0001 78", protocol);
  expect_v5("f006 18 04 15 0001 78", protocol);
  expect_v5("f000", protocol);
}

TEST_CASE("a PINGREQ with a body is malformed [MQTT-3.12.4-1]") {
  expect_v5("c001 00", malformed);
  expect_3("c001 00");
}
