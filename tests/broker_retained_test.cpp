#include <doctest/doctest.h>

#include "sim/broker_sim.hpp"

using sim::Broker;
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

mqtt::Subscription entry(mqtt::Text filter, mqtt::RetainHandling handling) {
  mqtt::Subscription out;
  out.filter = filter;
  out.qos = Qos::at_least_once;
  out.retain_handling = handling;
  return out;
}

}  // namespace

TEST_CASE(
    "the last retained message of a topic is kept and comes with retain 1 to new "
    "subscriptions, with 0 to established ones [MQTT-3.3.1-5, MQTT-3.3.1-9] "
    "[3.1.1 MQTT-3.3.1-5, MQTT-3.3.1-6, MQTT-3.3.1-7, MQTT-3.3.1-8, MQTT-3.3.1-9]") {
  sim::each([](Version version, Wire wire) {
    for (int qos = 0; qos < 3; ++qos) {
      Broker<> broker(wire);
      const auto early = broker.connect(version, "early");
      early.subscribe("a/#", 2);
      const auto publisher = broker.connect(version, "p");
      publisher.publish("a/b", "1", qos, true);
      publisher.publish("a/b", "2", qos, true);
      publisher.publish("a/c", "3", qos, true);
      for (int i = 0; i < 3; ++i) {
        Packet got = early.next();
        while (got.type != PacketType::publish) { got = early.next(); }
        CHECK_FALSE(got.retain);
      }
      const auto late = broker.connect(version, "late");
      late.subscribe("a/b", 1);
      const Packet got = late.message();
      CHECK(got.payload == "2");
      CHECK(got.retain);
      CHECK(got.qos == static_cast<Qos>(std::min(qos, 1)));
      CHECK(late.quiet());
      late.subscribe("a/+", 0);
      CHECK(late.count(PacketType::publish) == 2);
      late.clear();
      late.subscribe("x/+", 0);
      CHECK(late.quiet());
      CHECK(broker.statistics().retained == 2);
    }
  });
}

TEST_CASE(
    "an empty retained payload is forwarded, removes the message and is not kept "
    "[MQTT-3.3.1-6, MQTT-3.3.1-7] [3.1.1 MQTT-3.3.1-10, MQTT-3.3.1-11]") {
  sim::each([](Version version, Wire wire) {
    for (int qos = 0; qos < 3; ++qos) {
      Broker<> broker(wire);
      const auto publisher = broker.connect(version, "p");
      const auto early = broker.connect(version, "early");
      publisher.publish("t/1", "x", qos, true);
      early.subscribe("t/#", 0);
      CHECK(early.message().payload == "x");
      publisher.publish("t/1", "", qos, true);
      publisher.publish("t/2", "", qos, true);
      CHECK(early.message().payload.empty());
      CHECK(early.message().topic == "t/2");
      CHECK(broker.statistics().retained == 0);
      CHECK(broker.statistics().stored == 0);
      const auto late = broker.connect(version, "late");
      late.subscribe("#", 0);
      CHECK(late.quiet());
    }
  });
}

TEST_CASE(
    "a message without the retain flag leaves the retained one alone "
    "[MQTT-3.3.1-8] [3.1.1 MQTT-3.3.1-12]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto publisher = broker.connect(version, "p");
    publisher.publish("t", "kept", 1, true);
    publisher.publish("t", "passing", 1, false);
    publisher.publish("t", "", 1, false);
    const auto client = broker.connect(version, "s");
    client.subscribe("t");
    CHECK(client.message().payload == "kept");
    CHECK(client.quiet());
  });
}

TEST_CASE(
    "retain handling decides whether retained messages are sent [MQTT-3.3.1-9, "
    "MQTT-3.3.1-10, MQTT-3.3.1-11]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    Broker<> broker(wire);
    broker.connect(Version::v5, "p").publish("t", "x", 1, true);
    const auto client = broker.connect(Version::v5, "s");
    client.subscribe(entry("t", mqtt::RetainHandling::never));
    CHECK(client.quiet());
    client.subscribe(entry("t", mqtt::RetainHandling::send_if_new));
    CHECK(client.quiet());
    client.subscribe(entry("#", mqtt::RetainHandling::send_if_new));
    CHECK(client.message().retain);
    client.subscribe(entry("#", mqtt::RetainHandling::send));
    CHECK(client.message().retain);
    client.unsubscribe("t");
    client.subscribe(entry("t", mqtt::RetainHandling::send_if_new));
    CHECK(client.message().retain);
    CHECK(client.quiet());
  }
}

TEST_CASE(
    "retain handling 1 counts a subscription of the resumed session as existing "
    "[MQTT-3.3.1-10]") {
  Broker<> broker;
  broker.connect(Version::v5, "p").publish("t", "x", 1, true);
  auto client = broker.connect_resumable(Version::v5, "s");
  client.subscribe(entry("t", mqtt::RetainHandling::send_if_new));
  CHECK(client.message().payload == "x");
  client.drop();
  client = broker.connect_resumable(Version::v5, "s");
  client.subscribe(entry("t", mqtt::RetainHandling::send_if_new));
  CHECK(client.quiet());
}

TEST_CASE(
    "before 5.0 every SUBSCRIBE brings the retained messages again "
    "[MQTT-3.8.4-4] [3.1.1 MQTT-3.8.4-3, MQTT-3.3.1-6]") {
  for (const Version version : {Version::v3_1, Version::v3_1_1}) {
    Broker<> broker;
    broker.connect(version, "p").publish("t", "x", 1, true);
    const auto client = broker.connect(version, "s");
    for (int i = 0; i < 3; ++i) {
      client.subscribe("t", i);
      const Packet got = client.message();
      CHECK(got.retain);
      CHECK(got.qos == static_cast<Qos>(std::min(i, 1)));
    }
  }
}

TEST_CASE("SUBACK comes before retained messages, filter by filter [MQTT-3.8.4-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto publisher = broker.connect(version, "p");
    publisher.publish("a", "1", 1, true);
    publisher.publish("b", "2", 0, true);
    const auto client = broker.connect(version, "s");
    mqtt::Subscription entries[2];
    entries[0].filter = "b";
    entries[1].filter = "a";
    entries[1].qos = Qos::at_least_once;
    mqtt::Subscribe packet;
    packet.packet_id = 1;
    packet.filters = entries;
    client.send(packet);
    client.take(PacketType::suback);
    CHECK(client.message().topic == "b");
    CHECK(client.message().topic == "a");
  });
}

TEST_CASE(
    "retained messages carry properties and the identifier of the subscription "
    "[MQTT-3.3.4-3, MQTT-3.3.2-17]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    Broker<> broker(wire);
    Props list;
    list.user("k", "v").number(PropertyId::message_expiry_interval, 100);
    mqtt::Publish packet;
    packet.topic = "t";
    packet.payload = mqtt::Text("x").bytes();
    packet.retain = true;
    packet.qos = Qos::at_least_once;
    packet.properties = list;
    broker.connect(Version::v5, "p").publish(packet);
    broker.seconds(30);
    const auto client = broker.connect(Version::v5, "s");
    client.subscribe("t", 1, 9);
    const Packet got = client.message();
    CHECK(got.user() == "k=v;");
    CHECK(got.identifiers() == "9");
    CHECK(got.number(PropertyId::message_expiry_interval) == 70);
    const auto old = broker.connect(Version::v3_1_1, "o");
    old.subscribe("t", 1);
    CHECK(old.message().retain);
  }
}

TEST_CASE("an expired retained message is not sent and makes room [MQTT-3.3.2-5]") {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.retained = 1;
  Broker<> broker(Wire::whole, limits);
  Props list;
  list.number(PropertyId::message_expiry_interval, 5);
  mqtt::Publish packet;
  packet.topic = "t";
  packet.payload = mqtt::Text("x").bytes();
  packet.retain = true;
  packet.properties = list;
  const auto publisher = broker.connect(Version::v5, "p");
  publisher.publish(packet);
  broker.pass(5500);
  const auto client = broker.connect(Version::v5, "s");
  client.subscribe("#");
  CHECK(client.quiet());
  publisher.publish("other", "y", 1, true);
  CHECK(publisher.take(PacketType::puback).reason == ReasonCode::success);
}

TEST_CASE("root wildcards do not bring retained $ topics [MQTT-4.7.2-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto publisher = broker.connect(version, "p");
    publisher.publish("$x/a", "1", 0, true);
    publisher.publish("x/a", "2", 0, true);
    const auto client = broker.connect(version, "s");
    client.subscribe("#");
    CHECK(client.message().topic == "x/a");
    client.subscribe("+/a");
    CHECK(client.message().topic == "x/a");
    CHECK(client.quiet());
    client.subscribe("$x/#");
    CHECK(client.message().topic == "$x/a");
  });
}

TEST_CASE("wildcards bring exactly the retained messages that match [MQTT-3.3.1-9]") {
  const char* const topics[] = {"a", "a/b", "a/b/c", "a//c", "/", "/a", "b/b/c", "a/b/", "a/"};
  const char* const filters[] = {"#",  "+",     "a/#", "+/b/#", "+/+/c", "a/+/+", "/+",
                                 "+/", "a/b/c", "a/",  "a/b/#", "+/+",   "/#",    "a/+"};
  for (const char* filter : filters) {
    CAPTURE(filter);
    Broker<> broker;
    const auto publisher = broker.connect(Version::v3_1_1, "p");
    size_t expected = 0;
    for (const char* topic : topics) {
      publisher.publish(topic, "x", 0, true);
      expected += mqtt::matches(filter, topic) ? 1U : 0U;
    }
    const auto client = broker.connect(Version::v3_1_1, "s");
    client.subscribe(filter);
    CHECK(client.count(PacketType::publish) == expected);
    while (client.has_packet()) {
      const Packet got = client.message();
      CHECK(mqtt::matches(filter, got.topic));
    }
  }
}

TEST_CASE(
    "many retained messages come in slices, complete and once, through a slow transport "
    "[MQTT-3.3.1-9]") {
  sim::each([](Version version, Wire wire) {
    for (int qos = 0; qos < 3; ++qos) {
      Broker<> broker(wire);
      const auto publisher = broker.connect(version, "p");
      for (int i = 0; i < 150; ++i) { publisher.publish("t/" + std::to_string(i), "x", 1, true); }
      const auto client = broker.connect(version, "s");
      client.subscribe("t/+", qos);
      std::vector<bool> seen(150);
      size_t count = 0;
      while (client.has_packet()) {
        const Packet got = client.next();
        if (got.type == PacketType::publish) {
          const size_t at = static_cast<size_t>(std::stoi(got.topic.substr(2)));
          CHECK_FALSE(seen[at]);
          seen[at] = true;
          count += 1;
        }
      }
      CHECK(count == 150);
    }
  });
}

TEST_CASE(
    "retained messages that change while they are being sent do no harm "
    "[MQTT-3.3.1-5, MQTT-3.3.1-6]") {
  for (int qos = 0; qos < 2; ++qos) {
    Broker<> broker;
    const auto publisher = broker.connect(Version::v5, "p");
    for (int i = 0; i < 200; ++i) { publisher.publish("t/" + std::to_string(i), "x", 0, true); }
    const auto client = broker.connect(Version::v5, "s");
    client.set_window(200);
    mqtt::Subscribe packet;
    mqtt::Subscription all;
    all.filter = "t/#";
    all.qos = static_cast<Qos>(qos);
    packet.packet_id = 1;
    packet.filters = all;
    client.send(packet);
    for (int i = 0; i < 200; i += 2) { publisher.publish("t/" + std::to_string(i), "", 0, true); }
    CHECK(broker.statistics().retained == 100);
    client.open_window();
    CHECK(client.count(PacketType::publish) >= 100);
    CHECK_FALSE(client.closed());
    const auto other = broker.connect(Version::v5, "o");
    other.subscribe("#");
    CHECK(other.count(PacketType::publish) == 100);
    for (int i = 1; i < 200; i += 2) { publisher.publish("t/" + std::to_string(i), "", 0, true); }
    CHECK(broker.statistics().retained == 0);
    CHECK(broker.statistics().stored == 0);
  }
}

TEST_CASE(
    "a link lost while retained messages are being sent: QoS 1 ones follow later "
    "[MQTT-4.5.0-1]") {
  Broker<> broker;
  const auto publisher = broker.connect(Version::v5, "p");
  for (int i = 0; i < 150; ++i) { publisher.publish("t/" + std::to_string(i), "x", 1, true); }
  const auto client = broker.connect_resumable(Version::v5, "s");
  client.own_acks();
  client.set_window(100);
  mqtt::Subscribe packet;
  mqtt::Subscription all;
  all.filter = "t/#";
  all.qos = Qos::at_least_once;
  packet.packet_id = 1;
  packet.filters = all;
  client.send(packet);
  client.drop();
  const auto again = broker.connect_resumable(Version::v5, "s");
  CHECK(again.count(PacketType::publish) == 150);
}

TEST_CASE(
    "a link lost with QoS 0 retained messages to come leaves nothing behind "
    "[MQTT-4.3.1-1]") {
  for (const bool resumable : {false, true}) {
    Broker<> broker;
    const auto publisher = broker.connect(Version::v5, "p");
    for (int i = 0; i < 200; ++i) { publisher.publish("t/" + std::to_string(i), "x", 0, true); }
    const uint32_t blocks = broker.statistics().blocks;
    const auto client =
        resumable ? broker.connect_resumable(Version::v5, "s") : broker.connect(Version::v5, "s");
    client.set_window(100);
    mqtt::Subscribe packet;
    mqtt::Subscription all;
    all.filter = "t/#";
    packet.packet_id = 1;
    packet.filters = all;
    client.send(packet);
    client.drop();
    CHECK(broker.statistics().blocks == blocks);
  }
}

TEST_CASE(
    "retained off: DISCONNECT 0x9A for a retained PUBLISH, close before 5.0 "
    "[MQTT-3.2.2-14]") {
  sim::each([](Version version, Wire wire) {
    mqtt::BrokerLimits limits = sim::small_limits();
    limits.retain_available = false;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "a");
    client.publish("t", "x", 1, true);
    CHECK(client.cut_off(ReasonCode::retain_not_supported));
  });
}
