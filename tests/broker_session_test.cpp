#include <doctest/doctest.h>

#include "sim/broker_sim.hpp"

using sim::Broker;
using sim::bytes;
using sim::hex;
using sim::Packet;
using sim::PacketType;
using sim::PropertyId;
using sim::Props;
using sim::Qos;
using sim::ReasonCode;
using sim::Version;
using sim::Wire;

namespace {

struct NarrowConfig : mqtt::BrokerConfig {
  using Index = uint16_t;
};

// CONNECT of 5.0 with an expiry interval.
template <typename B>
auto connect_expiring(B& broker, bool clean, uint32_t seconds) {
  Props list;
  list.number(PropertyId::session_expiry_interval, seconds);
  return broker.connect(Version::v5, "a", [&](mqtt::Connect& c) {
    c.clean_start = clean;
    c.properties = list;
  });
}

}  // namespace

TEST_CASE(
    "clean start drops the session, without it the session goes on "
    "[MQTT-3.1.2-4, MQTT-3.1.2-5, MQTT-3.1.2-6, MQTT-3.1.4-4, MQTT-3.2.2-2, MQTT-3.2.2-3, "
    "MQTT-3.1.3-2] [3.1.1 MQTT-3.1.2-4, MQTT-3.1.2-5, MQTT-3.1.2-6, MQTT-3.1.3-2, "
    "MQTT-3.1.4-3, MQTT-3.2.2-1, MQTT-3.2.2-2, MQTT-3.2.2-3]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto publisher = broker.connect(version, "p");
    const auto first = broker.connect_resumable(version, "a");
    CHECK_FALSE(broker.last_connack.session_present);
    first.subscribe("t", 1);
    first.disconnect();
    publisher.publish("t", "kept", 1);
    const auto second = broker.connect_resumable(version, "a");
    CHECK(broker.last_connack.session_present == (version != Version::v3_1));
    CHECK(second.message().payload == "kept");
    second.disconnect();
    publisher.publish("t", "lost", 1);
    const auto third = broker.connect(version, "a");
    CHECK_FALSE(broker.last_connack.session_present);
    CHECK(third.quiet());
    publisher.publish("t", "lost", 1);
    CHECK(third.quiet());
    third.disconnect();
    CHECK(broker.statistics().sessions == 1);
    CHECK(broker.statistics().stored == 0);
    CHECK(broker.statistics().subscriptions == 0);
  });
}

TEST_CASE("a session keeps subscriptions with their options and identifiers [MQTT-4.1.0-1]") {
  Broker<> broker;
  const auto first = broker.connect_resumable(Version::v5, "a");
  mqtt::Subscription entry;
  entry.filter = "t/#";
  entry.qos = Qos::at_least_once;
  entry.no_local = true;
  entry.retain_as_published = true;
  Props list;
  list.number(PropertyId::subscription_identifier, 42);
  first.subscribe(entry, list);
  first.drop();
  const auto again = broker.connect_resumable(Version::v5, "a");
  again.publish("t/1", "own");
  broker.connect(Version::v5, "p").publish("t/1", "x", 2, true);
  const Packet got = again.message();
  CHECK(got.payload == "x");
  CHECK(got.qos == Qos::at_least_once);
  CHECK(got.retain);
  CHECK(got.identifiers() == "42");
}

TEST_CASE("a lost link keeps the session until it expires [MQTT-3.1.2-23, MQTT-4.1.0-2]") {
  for (const bool polite : {true, false}) {
    Broker<> broker;
    auto client = connect_expiring(broker, false, 10);
    client.subscribe("t", 1);
    polite ? client.disconnect() : client.drop();
    broker.pass(9000);
    CHECK(broker.statistics().sessions == 1);
    client = connect_expiring(broker, false, 10);
    CHECK(broker.last_connack.session_present);
    broker.seconds(100);
    CHECK(broker.statistics().sessions == 1);
    client.drop();
    broker.pass(10500);
    CHECK(broker.statistics().sessions == 0);
    CHECK(broker.statistics().subscriptions == 0);
    CHECK(broker.statistics().sessions_expired == 1);
    connect_expiring(broker, false, 10);
    CHECK_FALSE(broker.last_connack.session_present);
  }
}

TEST_CASE(
    "expiry 0 or none ends the session with its link, 0xFFFFFFFF never "
    "[MQTT-3.1.2-23, MQTT-4.1.0-2]") {
  Broker<> broker;
  auto client = connect_expiring(broker, false, 0);
  client.drop();
  CHECK(broker.statistics().sessions == 0);
  client = broker.connect(Version::v5, "a", [](mqtt::Connect& c) { c.clean_start = false; });
  client.drop();
  CHECK(broker.statistics().sessions == 0);
  client = connect_expiring(broker, false, 0xFFFFFFFF);
  client.drop();
  broker.seconds(500000000);
  CHECK(broker.statistics().sessions == 1);
}

TEST_CASE(
    "before 5.0 clean session 0 keeps the session for good and 1 until the link ends "
    "[3.1.1 MQTT-4.1.0-1, MQTT-4.1.0-2]") {
  for (const Version version : {Version::v3_1, Version::v3_1_1}) {
    Broker<> broker;
    broker.connect(version, "a").drop();
    CHECK(broker.statistics().sessions == 0);
    broker.connect_resumable(version, "a").drop();
    broker.seconds(100000000);
    CHECK(broker.statistics().sessions == 1);
  }
}

TEST_CASE("DISCONNECT changes the expiry interval, but not from 0 [MQTT-3.1.2-23]") {
  Broker<> broker;
  Props two;
  two.number(PropertyId::session_expiry_interval, 2);
  auto client = connect_expiring(broker, false, 100);
  client.disconnect(ReasonCode::success, two);
  broker.pass(1900);
  CHECK(broker.statistics().sessions == 1);
  broker.pass(700);
  CHECK(broker.statistics().sessions == 0);
  Props zero;
  zero.number(PropertyId::session_expiry_interval, 0);
  client = connect_expiring(broker, false, 100);
  client.disconnect(ReasonCode::success, zero);
  CHECK(broker.statistics().sessions == 0);
  client = connect_expiring(broker, true, 0);
  mqtt::Disconnect packet;
  packet.properties = two;
  client.send(packet);
  CHECK(client.cut_off(ReasonCode::protocol_error));
  CHECK(broker.statistics().sessions == 0);
  client = connect_expiring(broker, true, 0);
  client.disconnect(ReasonCode::success, zero);
}

TEST_CASE("a longer session expiry is shortened and CONNACK tells [MQTT-3.1.2-23]") {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.session_expiry_max_s = 5;
  Broker<> broker(Wire::whole, limits);
  const auto client = connect_expiring(broker, false, 100);
  CHECK(broker.last_connack.number(PropertyId::session_expiry_interval) == 5);
  client.drop();
  broker.pass(5500);
  CHECK(broker.statistics().sessions == 0);
  const auto old = broker.connect_resumable(Version::v3_1_1, "b");
  old.drop();
  broker.pass(5500);
  CHECK(broker.statistics().sessions == 0);
}

TEST_CASE(
    "open PUBLISH and PUBREL come again with their ids and DUP in the first order "
    "[MQTT-4.4.0-1, MQTT-4.4.0-2, MQTT-3.3.1-1, MQTT-4.3.3-6, MQTT-4.6.0-1] "
    "[3.1.1 MQTT-4.4.0-1, MQTT-3.3.1-1, MQTT-4.6.0-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto publisher = broker.connect(version, "p");
    broker.acks = false;
    auto client = broker.connect_resumable(version, "a");
    client.subscribe("t", 2);
    for (int i = 0; i < 5; ++i) { publisher.publish("t", std::to_string(i), i % 2 == 0 ? 2 : 1); }
    client.clear();
    client.ack(PacketType::pubrec, 3);
    for (int round = 0; round < 3; ++round) {
      client.drop();
      client = broker.connect_resumable(version, "a");
      for (uint16_t id = 1; id <= 5; ++id) {
        const Packet got = client.next();
        CHECK(got.packet_id == id);
        if (id == 3) {
          CHECK(got.type == PacketType::pubrel);
        } else {
          CHECK(got.type == PacketType::publish);
          CHECK(got.dup);
          CHECK(got.payload == std::to_string(id - 1));
        }
      }
      CHECK(client.quiet());
    }
    publisher.publish("t", "new", 1);
    CHECK(client.message().packet_id == 6);
    client.ack(PacketType::pubcomp, 3);
    client.ack(PacketType::puback, 4);
    client.ack(PacketType::puback, 2);
    client.drop();
    broker.acks = true;
    client = broker.connect_resumable(version, "a");
    CHECK(client.count(PacketType::publish) == 3);
    CHECK(broker.statistics().stored == 0);
  });
}

TEST_CASE("a message of which no byte went out is sent without DUP [MQTT-4.3.2-2, MQTT-3.3.1-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    auto client = broker.connect_resumable(version, "a");
    client.own_acks();
    client.subscribe("t", 1);
    const auto publisher = broker.connect(version, "p");
    client.set_window(3);
    publisher.publish("t", "begun", 1);
    publisher.publish("t", "not begun", 1);
    client.drop();
    client = broker.connect_resumable(version, "a");
    CHECK(client.message().dup);
    CHECK_FALSE(client.message().dup);
  });
}

TEST_CASE("nothing is sent again while the link lasts [MQTT-4.4.0-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect_resumable(version, "a");
    client.own_acks();
    client.subscribe("t", 2);
    broker.connect(version, "p").publish("t", "x", 2);
    CHECK(client.count(PacketType::publish) == 1);
    broker.seconds(100000);
    CHECK(client.count(PacketType::publish) == 1);
    client.clear();
    client.ack(PacketType::pubrec, 1);
    CHECK(client.count(PacketType::pubrel) == 1);
    broker.seconds(100000);
    CHECK(client.count(PacketType::pubrel) == 1);
  });
}

TEST_CASE(
    "QoS 2 messages from a client survive its reconnect and are delivered once "
    "[MQTT-4.3.3-10, MQTT-4.1.0-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto other = broker.connect(version, "s");
    other.subscribe("t", 0);
    auto client = broker.connect_resumable(version, "a");
    client.own_acks();
    mqtt::Publish packet;
    packet.topic = "t";
    packet.qos = Qos::exactly_once;
    packet.packet_id = 5;
    for (int i = 0; i < 3; ++i) {
      client.send(packet);
      CHECK(client.take(PacketType::pubrec).packet_id == 5);
      packet.dup = true;
      client.drop();
      client = broker.connect_resumable(version, "a");
      client.own_acks();
    }
    CHECK(other.quiet());
    client.ack(PacketType::pubrel, 5);
    CHECK(client.take(PacketType::pubcomp).reason == ReasonCode::success);
    CHECK(other.count(PacketType::publish) == 1);
    client.ack(PacketType::pubrel, 5);
    CHECK(client.take(PacketType::pubcomp).packet_id == 5);
    CHECK(other.count(PacketType::publish) == 1);
  });
}

TEST_CASE("QoS 2 messages not released are forgotten with a clean session [MQTT-3.1.2-4]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto other = broker.connect(version, "s");
    other.subscribe("t", 0);
    auto client = broker.connect_resumable(version, "a");
    client.own_acks();
    client.publish("t", "x", 2);
    client.drop();
    client = broker.connect(version, "a");
    client.own_acks();
    CHECK(broker.statistics().stored == 0);
    client.ack(PacketType::pubrel, 1);
    CHECK(client.take(PacketType::pubcomp).packet_id == 1);
    CHECK(other.quiet());
  });
}

TEST_CASE(
    "messages for a client that is away wait, QoS 0 ones only if told so "
    "[MQTT-4.5.0-1]") {
  for (const bool keep : {false, true}) {
    sim::each([keep](Version version, Wire wire) {
      mqtt::BrokerLimits limits = sim::small_limits();
      limits.queue_qos_0 = keep;
      Broker<> broker(wire, limits);
      auto client = broker.connect_resumable(version, "a");
      client.subscribe("t", 2);
      client.drop();
      const auto publisher = broker.connect(version, "p");
      for (int i = 0; i < 6; ++i) { publisher.publish("t", std::to_string(i), i % 3); }
      client = broker.connect_resumable(version, "a");
      for (int i = 0; i < 6; ++i) {
        if (i % 3 == 0 && !keep) { continue; }
        Packet got = client.next();
        while (got.type != PacketType::publish) { got = client.next(); }
        CHECK(got.payload == std::to_string(i));
        CHECK(got.qos == static_cast<Qos>(i % 3));
      }
      CHECK(client.count(PacketType::publish) == 0);
      CHECK(broker.statistics().stored == 0);
    });
  }
}

TEST_CASE("CONNACK precedes everything that waited, in the same bytes too [MQTT-3.2.0-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto publisher = broker.connect(version, "p");
    broker.acks = false;
    auto client = broker.connect_resumable(version, "a");
    client.subscribe("t", 1);
    for (int i = 0; i < 50; ++i) { client.raw_hex("c000"); }
    for (int i = 0; i < 40; ++i) { publisher.publish("t", "x", 1); }
    for (int round = 0; round < 3; ++round) {
      client.drop();
      client = broker.connect_resumable(version, "a");  // REQUIREs CONNACK first
      CHECK(client.count(PacketType::publish) == 20);
    }
  });
}

TEST_CASE(
    "CONNACK precedes what waited also after 40,000 packets with 16-bit indices "
    "[MQTT-3.2.0-1]") {
  Broker<NarrowConfig> broker;
  auto client = broker.connect_resumable(Version::v3_1_1, "a");
  client.own_acks();
  client.subscribe("t", 1);
  std::string pings;
  for (int i = 0; i < 500; ++i) { pings += bytes("c000"); }
  for (int i = 0; i < 80; ++i) { client.raw(pings); }
  CHECK(client.count(PacketType::pingresp) == 40000);
  const auto publisher = broker.connect(Version::v3_1_1, "p");
  for (int i = 0; i < 30; ++i) { publisher.publish("t", "x", 1); }
  client.drop();
  client = broker.connect_resumable(Version::v3_1_1, "a");
  CHECK(client.count(PacketType::publish) == 30);
}

TEST_CASE("a takeover resumes what the old link had open [MQTT-3.1.4-3, MQTT-4.4.0-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto old = broker.connect_resumable(version, "a");
    old.own_acks();
    old.subscribe("t", 1);
    const auto publisher = broker.connect(version, "p");
    publisher.publish("t", "1", 1);
    CHECK(old.message().payload == "1");
    old.set_window(0);
    publisher.publish("t", "2", 1);
    const auto fresh = broker.connect_resumable(version, "a");
    Packet got = fresh.message();
    CHECK(got.payload == "1");
    CHECK(got.dup);
    got = fresh.message();
    CHECK(got.payload == "2");
    CHECK_FALSE(got.dup);
    broker.seconds(3);
    CHECK(old.closed());
  });
}

TEST_CASE("an ack that was lost is made good after the reconnect [MQTT-4.4.0-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto other = broker.connect(version, "s");
    other.subscribe("t", 2);
    auto client = broker.connect_resumable(version, "a");
    client.own_acks();
    client.set_window(0);
    mqtt::Publish packet;
    packet.topic = "t";
    packet.qos = Qos::exactly_once;
    packet.packet_id = 1;
    client.send(packet);
    client.drop();
    client = broker.connect_resumable(version, "a");
    client.own_acks();
    packet.dup = true;
    client.send(packet);
    CHECK(client.take(PacketType::pubrec).packet_id == 1);
    client.ack(PacketType::pubrel, 1);
    CHECK(client.take(PacketType::pubcomp).packet_id == 1);
    CHECK(other.message().payload.empty());
    other.take(PacketType::pubrel);
    CHECK(other.quiet());
  });
}

TEST_CASE("a session of one version is resumed by another [MQTT-4.1.0-1]") {
  sim::each_pair([](Version a, Version b) {
    Broker<> broker;
    auto client = broker.connect_resumable(a, "a");
    client.own_acks();
    client.subscribe("t", 2);
    Props list;
    list.user("k", "v");
    mqtt::Publish packet;
    packet.topic = "t";
    packet.qos = Qos::at_least_once;
    packet.properties = list;
    broker.connect(Version::v5, "p").publish(packet);
    client.drop();
    client = broker.connect_resumable(b, "a");
    const Packet got = client.message();
    CHECK(got.dup);
    CHECK(got.user() == (b == Version::v5 ? "k=v;" : ""));
  });
}

TEST_CASE("sessions, links and memory come and go without a leak [MQTT-4.1.0-2]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    uint32_t blocks = 0;
    for (int round = 0; round < 60; ++round) {
      const std::string id = "client" + std::to_string(round % 7);
      const auto client =
          round % 3 == 0 ? broker.connect_resumable(version, id) : broker.connect(version, id);
      client.subscribe("t/#", round % 3);
      client.publish("t/1", "x", round % 3);
      if (round % 2 == 0) {
        client.own_acks();
        client.publish("t/2", "y", 2);
      }
      round % 5 == 0 ? client.disconnect() : client.drop();
    }
    for (int i = 0; i < 7; ++i) {
      broker.connect(version, "client" + std::to_string(i)).disconnect();
    }
    blocks = broker.statistics().blocks;
    CHECK(blocks == 0);
    CHECK(broker.statistics().sessions == 0);
    CHECK(broker.statistics().connections == 0);
    CHECK(broker.statistics().subscriptions == 0);
    CHECK(broker.statistics().stored == 0);
  });
}
