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

mqtt::Subscription entry(mqtt::Text filter, int qos = 0) {
  mqtt::Subscription out;
  out.filter = filter;
  out.qos = static_cast<Qos>(qos);
  return out;
}

// Which of the topics reach a subscriber of the filter.
std::string reached(const char* filter, std::initializer_list<const char*> topics) {
  Broker<> broker;
  const auto client = broker.connect(Version::v3_1_1, "s");
  client.subscribe(filter);
  const auto publisher = broker.connect(Version::v3_1_1, "p");
  std::string out;
  for (const char* topic : topics) {
    publisher.publish(topic, "x");
    while (client.has_packet()) {
      CHECK(client.message().topic == topic);
      out += std::string(topic) + " ";
    }
  }
  return out;
}

}  // namespace

TEST_CASE(
    "SUBSCRIBE gets one SUBACK with its id and a code for each filter in order "
    "[MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-3.8.4-5, MQTT-3.8.4-6, MQTT-3.8.4-7, MQTT-2.2.1-6, "
    "MQTT-3.9.3-1, MQTT-3.9.3-2] [3.1.1 MQTT-3.8.4-4, MQTT-3.8.4-5, MQTT-3.8.4-6, "
    "MQTT-2.3.1-7]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    const mqtt::Subscription entries[] = {entry("a", 2), entry("b/#", 0), entry("+/c", 1),
                                          entry("a", 1)};
    mqtt::Subscribe packet;
    packet.packet_id = 0x1234;
    packet.filters = entries;
    client.send(packet);
    CHECK(hex(client.take(PacketType::suback).wire) ==
          (version == Version::v5 ? "900712340002000101" : "9006123402000101"));
    CHECK(client.quiet());
    CHECK(broker.statistics().subscriptions == 3);
  });
}

TEST_CASE(
    "UNSUBSCRIBE gets one UNSUBACK with its id, also when nothing matched "
    "[MQTT-3.10.4-4, MQTT-3.10.4-5, MQTT-3.10.4-6, MQTT-3.11.3-1, MQTT-3.11.3-2]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    client.subscribe("a");
    client.subscribe("b/+");
    const mqtt::Subscription entries[] = {entry("a"), entry("x"), entry("b/+"), entry("a")};
    mqtt::Unsubscribe packet;
    packet.packet_id = 0x4321;
    packet.filters = entries;
    client.send(packet);
    CHECK(hex(client.take(PacketType::unsuback).wire) ==
          (version == Version::v5 ? "b00743210000110011" : "b0024321"));
    CHECK(broker.statistics().subscriptions == 0);
  });
}

TEST_CASE(
    "after UNSUBACK no message is added, and only the filter named is removed "
    "[MQTT-3.10.4-1, MQTT-3.10.4-2]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    const auto publisher = broker.connect(version, "p");
    client.subscribe("a/b", 1);
    client.subscribe("a/+", 1);
    client.unsubscribe("a/#");
    client.unsubscribe("A/b");
    client.unsubscribe("a/b/");
    client.unsubscribe("a/b");
    publisher.publish("a/b", "1", 1);
    CHECK(client.message().payload == "1");
    client.unsubscribe("a/+");
    publisher.publish("a/b", "2", 1);
    CHECK(client.quiet());
  });
}

TEST_CASE("deliveries that have begun are finished after UNSUBSCRIBE [MQTT-3.10.4-3]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect_resumable(version, "a");
    client.own_acks();
    client.subscribe("t", 2);
    const auto publisher = broker.connect(version, "p");
    publisher.publish("t", "1", 1);
    publisher.publish("t", "2", 2);
    CHECK(client.count(PacketType::publish) == 2);
    client.clear();
    client.unsubscribe("t");
    client.drop();
    const auto again = broker.connect_resumable(version, "a");
    CHECK(again.message().payload == "1");
    CHECK(again.message().payload == "2");
    CHECK(again.take(PacketType::pubrel).packet_id == 2);
  });
}

TEST_CASE(
    "a filter subscribed again replaces the subscription without a gap "
    "[MQTT-3.8.4-3, MQTT-3.8.4-4] [3.1.1 MQTT-3.8.4-3]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto client = broker.connect(version, "a");
    const auto publisher = broker.connect(version, "p");
    client.subscribe("t/#", 2, version == Version::v5 ? 1 : 0);
    client.subscribe("t/#", 0, version == Version::v5 ? 2 : 0);
    publisher.publish("t/1", "x", 2);
    const Packet got = client.message();
    CHECK(got.qos == Qos::at_most_once);
    CHECK(got.number(PropertyId::subscription_identifier) == (version == Version::v5 ? 2U : 0U));
    CHECK(client.quiet());
    CHECK(broker.statistics().subscriptions == 1);
    publisher.publish("t/1", "kept", 1, true);
    client.clear();
    client.subscribe("t/#", 1);
    CHECK(client.message().payload == "kept");
  });
}

TEST_CASE(
    "overlapping subscriptions give one copy with the highest QoS and all identifiers "
    "[MQTT-3.3.4-2, MQTT-3.3.4-3, MQTT-3.3.4-4] [3.1.1 MQTT-3.3.5-1]") {
  sim::each([](Version version, Wire wire) {
    for (int order = 0; order < 6; ++order) {
      Broker<> broker(wire);
      const auto client = broker.connect(version, "a");
      const int granted[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
      const char* const filters[] = {"a/b", "a/+", "#"};
      for (uint32_t i = 0; i < 3; ++i) {
        client.subscribe(filters[i], granted[order][i], version == Version::v5 ? 10 + i : 0);
      }
      const auto publisher = broker.connect(version, "p");
      for (int qos = 0; qos < 3; ++qos) {
        publisher.publish("a/b", "x", qos);
        const Packet got = client.message();
        CHECK(got.qos == static_cast<Qos>(qos));
        CHECK(got.identifiers() == (version == Version::v5 ? "10 11 12" : ""));
        CHECK(client.count(PacketType::publish) == 0);
        client.clear();
      }
    }
  });
}

TEST_CASE(
    "only subscriptions with an identifier add one to the copy [MQTT-3.3.4-3, "
    "MQTT-3.3.4-4]") {
  Broker<> broker;
  const auto client = broker.connect(Version::v5, "a");
  client.subscribe("t", 1, 268435455);
  client.subscribe("+", 0);
  client.subscribe("#", 1, 127);
  broker.connect(Version::v5, "p").publish("t", "x", 1);
  CHECK(client.message().identifiers() == "127 268435455");
}

TEST_CASE("very many overlapping subscriptions still make one copy [MQTT-3.3.4-4]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_out}) {
    Broker<> broker(wire);
    const auto client = broker.connect_resumable(Version::v5, "a");
    for (uint32_t bits = 0; bits < 64; ++bits) {
      std::string filter;
      for (uint32_t i = 0; i < 6; ++i) {
        filter += (bits >> i & 1U) != 0 ? "+" : "x";
        filter += i < 5 ? "/" : "";
      }
      client.subscribe(filter, 1, bits + 1);
    }
    const auto publisher = broker.connect(Version::v5, "p");
    client.drop();
    publisher.publish("x/x/x/x/x/x", "1", 1);
    const auto again = broker.connect_resumable(Version::v5, "a");
    std::vector<uint32_t> all;
    for (uint32_t i = 1; i <= 64; ++i) { all.push_back(i); }
    CHECK(again.message().identifiers() == Packet::joined(all));
    publisher.publish("x/x/x/x/x/x", "1", 0);
    CHECK(again.message().identifiers() == Packet::joined(all));
    CHECK(again.quiet());
    CHECK(broker.statistics().stored == 0);
  }
}

TEST_CASE("no local keeps messages from their own publisher only [MQTT-3.8.3-3]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    for (int qos = 0; qos < 3; ++qos) {
      Broker<> broker(wire);
      const auto a = broker.connect(Version::v5, "a");
      const auto b = broker.connect(Version::v5, "b");
      mqtt::Subscription own = entry("t", 2);
      own.no_local = true;
      a.subscribe(own);
      b.subscribe(own);
      a.publish("t", "x", qos);
      CHECK(a.count(PacketType::publish) == 0);
      CHECK(b.message().payload == "x");
    }
  }
}

TEST_CASE("no local counts for each of overlapping subscriptions by itself [MQTT-3.8.3-3]") {
  Broker<> broker;
  const auto a = broker.connect(Version::v5, "a");
  mqtt::Subscription own = entry("t", 2);
  own.no_local = true;
  Props first;
  first.number(PropertyId::subscription_identifier, 1);
  a.subscribe(own, first);
  a.subscribe("#", 0, 2);
  a.publish("t", "x", 1);
  const Packet got = a.message();
  CHECK(got.qos == Qos::at_most_once);
  CHECK(got.identifiers() == "2");
}

TEST_CASE("retain as published forwards the flag, else it is 0 [MQTT-3.3.1-12, MQTT-3.3.1-13]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    for (int qos = 0; qos < 3; ++qos) {
      Broker<> broker(wire);
      const auto a = broker.connect(Version::v5, "a");
      const auto b = broker.connect(Version::v5, "b");
      mqtt::Subscription published = entry("t", 2);
      published.retain_as_published = true;
      a.subscribe(published);
      b.subscribe("t", 2);
      const auto publisher = broker.connect(Version::v3_1_1, "p");
      publisher.publish("t", "x", qos, true);
      publisher.publish("t", "y", qos, false);
      CHECK(a.message().retain);
      CHECK_FALSE(b.message().retain);
      while (a.count(PacketType::publish) != 0) {
        const Packet got = a.next();
        CHECK_FALSE(got.retain);
      }
    }
  }
}

TEST_CASE("wildcards match whole levels [MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.2-1]") {
  CHECK(reached("sport/tennis/player1/#",
                {"sport/tennis/player1", "sport/tennis/player1/ranking",
                 "sport/tennis/player1/score/wimbledon", "sport/tennis/player2"}) ==
        "sport/tennis/player1 sport/tennis/player1/ranking "
        "sport/tennis/player1/score/wimbledon ");
  CHECK(reached("sport/tennis/+", {"sport/tennis/player1", "sport/tennis/", "sport/tennis",
                                   "sport/tennis/player1/ranking"}) ==
        "sport/tennis/player1 sport/tennis/ ");
  CHECK(reached("sport/+", {"sport", "sport/"}) == "sport/ ");
  CHECK(reached("+/+", {"/finance", "finance", "/", "a/b"}) == "/finance / a/b ");
  CHECK(reached("/+", {"/finance", "finance"}) == "/finance ");
  CHECK(reached("+", {"/finance", "finance", "$SYS"}) == "finance ");
  CHECK(reached("#", {"a", "/", "a/b/c", "$SYS/x", "$"}) == "a / a/b/c ");
  CHECK(reached("$SYS/#", {"$SYS", "$SYS/a", "SYS/a"}) == "$SYS $SYS/a ");
  CHECK(reached("+/monitor/Clients", {"$SYS/monitor/Clients", "x/monitor/Clients"}) ==
        "x/monitor/Clients ");
  CHECK(reached("a/+/+/#", {"a/b", "a/b/c", "a/b/c/d", "a//", "a//x/y"}) ==
        "a/b/c a/b/c/d a// a//x/y ");
  CHECK(reached("a//b", {"a/b", "a//b"}) == "a//b ");
}

TEST_CASE(
    "many random filters match as the rule says, while they come and go "
    "[MQTT-4.7.1-1, MQTT-3.3.2-3]") {
  Broker<> broker;
  const auto client = broker.connect(Version::v5, "s");
  const auto publisher = broker.connect(Version::v5, "p");
  uint32_t random = 7;
  const auto next = [&random](uint32_t below) {
    random = random * 1664525U + 1013904223U;
    return (random >> 16) % below;
  };
  const auto path = [&next](bool filter) {
    std::string out;
    const uint32_t levels = 1 + next(4);
    for (uint32_t i = 0; i < levels; ++i) {
      const uint32_t pick = next(filter ? 6 : 4);
      out += i == 0 ? "" : "/";
      out += pick == 5 && i + 1 == levels ? "#" : pick >= 4 ? "+" : std::string(pick % 4, 'x');
    }
    return out.empty() ? std::string("/") : out;
  };
  std::vector<std::string> filters;
  for (int step = 0; step < 1500; ++step) {
    if (filters.size() < 100 && next(3) != 0) {
      const std::string filter = path(true);
      if (std::find(filters.begin(), filters.end(), filter) == filters.end()) {
        filters.push_back(filter);
      }
      const uint32_t at = static_cast<uint32_t>(std::find(filters.begin(), filters.end(), filter) -
                                                filters.begin());
      client.subscribe(filter, 0, at + 1);
    } else if (!filters.empty() && next(4) == 0) {
      client.unsubscribe(filters.back());
      filters.pop_back();
    }
    const std::string topic = path(false);
    std::vector<uint32_t> expected;
    for (uint32_t i = 0; i < filters.size(); ++i) {
      if (mqtt::matches(filters[i], topic)) { expected.push_back(i + 1); }
    }
    publisher.publish(topic, "x");
    CHECK((client.has_packet() ? client.message().identifiers() : "") == Packet::joined(expected));
    CHECK(client.quiet());
  }
}

TEST_CASE("subscribing at any QoS is granted at the maximum supported [MQTT-3.2.2-10]") {
  sim::each([](Version version, Wire wire) {
    mqtt::BrokerLimits limits = sim::small_limits();
    limits.maximum_qos = Qos::at_most_once;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "a");
    CHECK(client.subscribe("a", 0) == 0);
    CHECK(client.subscribe("b", 1) == 0);
    CHECK(client.subscribe("c", 2) == 0);
  });
}

TEST_CASE(
    "a SUBACK or UNSUBACK above the client's maximum packet size is not sent "
    "[MQTT-3.1.2-24, MQTT-3.9.2-1, MQTT-3.9.2-2, MQTT-3.11.2-1, MQTT-3.11.2-2]") {
  for (const bool subscribe : {true, false}) {
    Broker<> broker;
    Props list;
    list.number(PropertyId::maximum_packet_size, 20);
    const auto client =
        broker.connect(Version::v5, "a", [&](mqtt::Connect& c) { c.properties = list; });
    mqtt::Subscription entries[16];
    for (mqtt::Subscription& it : entries) { it.filter = "a"; }
    if (subscribe) {
      mqtt::Subscribe packet;
      packet.packet_id = 1;
      packet.filters = entries;
      client.send(packet);
    } else {
      mqtt::Unsubscribe packet;
      packet.packet_id = 1;
      packet.filters = entries;
      client.send(packet);
    }
    CHECK(client.count(PacketType::suback) + client.count(PacketType::unsuback) == 0);
    CHECK(client.closed());
  }
}

TEST_CASE(
    "reason strings and user properties in acks are accepted and not passed on "
    "[MQTT-3.4.2-2, MQTT-3.4.2-3, MQTT-3.5.2-2, MQTT-3.5.2-3, MQTT-3.6.2-2, MQTT-3.6.2-3, "
    "MQTT-3.7.2-2, MQTT-3.7.2-3, MQTT-3.1.2-29]") {
  Broker<> broker;
  const auto client = broker.connect(Version::v5, "a");
  client.own_acks();
  client.subscribe("t", 2);
  const auto publisher = broker.connect(Version::v5, "p");
  Props list;
  list.text(PropertyId::reason_string, "why").user("a", "b");
  const auto answer = [&](PacketType type, uint16_t id) {
    mqtt::Ack ack;
    ack.type = type;
    ack.packet_id = id;
    ack.properties = list;
    client.send(ack);
  };
  publisher.publish("t", "1", 1);
  client.message();
  answer(PacketType::puback, 1);
  publisher.publish("t", "2", 2);
  client.message();
  answer(PacketType::pubrec, 2);
  CHECK(hex(client.take(PacketType::pubrel).wire) == "62020002");
  answer(PacketType::pubcomp, 2);
  const uint16_t id = client.publish("x", "3", 2);
  CHECK(client.take(PacketType::pubrec).wire.size() == 4);
  answer(PacketType::pubrel, id);
  CHECK(client.take(PacketType::pubcomp).wire.size() == 4);
  CHECK_FALSE(client.closed());
  CHECK(broker.statistics().stored == 0);
}
