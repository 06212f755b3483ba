// Entries that stand for several packets: acknowledgements of ids in a row, PUBLISH packets that
// lie one behind the other in the arena.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sim/broker_sim.hpp"

using sim::Broker;
using sim::Packet;
using sim::PacketType;
using sim::PropertyId;
using sim::Props;
using sim::Qos;
using sim::ReasonCode;
using sim::Text;
using sim::Version;
using sim::Wire;

using Client = sim::Client<mqtt::BrokerConfig>;
using Limits = mqtt::BrokerLimits;

namespace {

Limits many() {
  Limits limits = sim::small_limits();
  limits.receive_maximum = limits.inflight_max = 1000;
  limits.queued_max = 0;
  limits.blocks = 20000;
  return limits;
}

mqtt::Publish publish_of(Text topic, Text payload, int qos) {
  mqtt::Publish packet;
  packet.topic = topic;
  packet.payload = payload.bytes();
  packet.qos = static_cast<Qos>(qos);
  return packet;
}
void put_publish(const Client& client, mqtt::Publish packet) {
  packet.packet_id = packet.qos == Qos::at_most_once ? uint16_t{0} : client.new_id();
  client.put_packet(packet);
}
void put_publish(const Client& client, Text topic, Text payload, int qos) {
  put_publish(client, publish_of(topic, payload, qos));
}
void put_ack(const Client& client, PacketType type, uint16_t id) {
  mqtt::Ack ack;
  ack.type = type;
  ack.packet_id = id;
  client.put_packet(ack);
}

// The client has got these acknowledgements, ids in a row, and no other packet.
void expect_acks(const Client& client, PacketType type, uint16_t first, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    const Packet ack = client.take(type);
    CHECK(ack.packet_id == static_cast<uint16_t>(first + i));
    CHECK(ack.wire.size() == 4);
  }
  CHECK(client.quiet());
}

}  // namespace

TEST_CASE("acknowledgements in a row are cut at every byte and come whole [MQTT-2.2.1-5]") {
  for (const Version version : {Version::v3_1, Version::v3_1_1, Version::v5}) {
    for (uint32_t window = 0; window < 42; ++window) {
      CAPTURE(sim::name(version));
      CAPTURE(window);
      Broker<> broker(Wire::whole, many());
      broker.connect(version, "s").subscribe("t", 2);
      const Client client = broker.connect(version, "p");
      client.own_acks();
      client.set_window(window);
      for (int i = 0; i < 7; ++i) { put_publish(client, "t", "x", 1); }
      broker.run();
      for (int i = 0; i < 3; ++i) { put_publish(client, "t", "x", 1); }  // joins what is cut
      broker.run();
      client.open_window();
      expect_acks(client, PacketType::puback, 1, 10);
      client.set_window(window);
      for (int i = 0; i < 10; ++i) { put_publish(client, "t", "x", 2); }
      broker.run();
      client.open_window();
      expect_acks(client, PacketType::pubrec, 11, 10);
      client.set_window(window);
      for (uint16_t i = 0; i < 10; ++i) {
        put_ack(client, PacketType::pubrel, static_cast<uint16_t>(11 + i));
      }
      broker.run();
      client.open_window();
      expect_acks(client, PacketType::pubcomp, 11, 10);
      CHECK(broker.statistics().packets_sent == broker.statistics().publish_sent + 3 + 30 + 10);
    }
  }
}

TEST_CASE("PUBRELs in a row are cut at every byte and come whole [MQTT-4.3.3-4]") {
  for (uint32_t window = 0; window < 24; ++window) {
    CAPTURE(window);
    Broker<> broker(Wire::whole, many());
    const Client client = broker.connect(Version::v5, "s");
    client.own_acks();
    client.subscribe("t", 2);
    const Client publisher = broker.connect(Version::v5, "p");
    for (int i = 0; i < 5; ++i) { publisher.publish("t", "x", 2); }
    for (uint16_t i = 1; i <= 5; ++i) { CHECK(client.message().packet_id == i); }
    client.set_window(window);
    for (uint16_t i = 1; i <= 5; ++i) { put_ack(client, PacketType::pubrec, i); }
    broker.run();
    client.open_window();
    expect_acks(client, PacketType::pubrel, 1, 5);
    for (uint16_t i = 1; i <= 5; ++i) { put_ack(client, PacketType::pubcomp, i); }
    broker.run();
    CHECK(broker.statistics().stored == 0);
  }
}

TEST_CASE("runs of acknowledgements end at 32, at id 65535, at other codes and types") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire, many());
    broker.connect(version, "s").subscribe("t", 1);
    const Client client = broker.connect(version, "p");
    client.own_acks();
    client.link().next_id = 65500;
    for (int i = 0; i < 90; ++i) { put_publish(client, "t", "", 1); }
    broker.run();
    uint16_t id = 65500;
    for (int i = 0; i < 90; ++i) {
      id = mqtt::next_packet_id(id);
      CHECK(client.take(PacketType::puback).packet_id == id);
    }
    for (int i = 0; i < 9; ++i) {
      put_publish(client, i % 3 == 0 ? "nobody" : "t", "", i % 5 == 4 ? 2 : 1);
      if (i % 4 == 3) { client.put(sim::bytes("c000")); }
    }
    broker.run();
    for (int i = 0; i < 9; ++i) {
      id = mqtt::next_packet_id(id);
      const Packet ack = client.take(i % 5 == 4 ? PacketType::pubrec : PacketType::puback);
      CHECK(ack.packet_id == id);
      const bool none = version == Version::v5 && i % 3 == 0 && i % 5 != 4;
      CHECK(ack.reason == (none ? ReasonCode::no_matching_subscribers : ReasonCode::success));
      if (i % 4 == 3) { client.take(PacketType::pingresp); }
    }
    CHECK(client.quiet());
  });
}

// ---- packets of the arena -------------------------------------------------------------------

namespace {

struct Sub {
  const char* filter;
  int qos;
  uint32_t identifier;
  bool as_published;
  bool no_local;
};
struct Sent {
  size_t publisher;
  std::string topic;
  std::string payload;
  int qos;
  bool retain;
};
// A subscriber and what it must get: by publisher and both QoS, in order.
struct Reader {
  Client client;
  std::vector<Sub> subs;
  size_t own = ~size_t{0};  // its number among the publishers
  uint32_t packet_bytes_max = 0;
  std::map<std::string, std::vector<std::string>> wanted;
  std::map<std::string, std::vector<std::string>> got;

  void expect(const Sent& message) {
    int qos = -1;
    bool retain = false;
    std::vector<uint32_t> identifiers;
    for (const Sub& sub : subs) {
      const bool wants = mqtt::matches(Text(sub.filter), Text(message.topic)) &&
                         !(client.v5() && sub.no_local && message.publisher == own);
      if (!wants) { continue; }
      qos = std::max(qos, std::min(sub.qos, message.qos));
      retain = retain || (client.v5() && sub.as_published && message.retain);
      if (client.v5() && sub.identifier != 0) { identifiers.push_back(sub.identifier); }
    }
    if (qos < 0 || (packet_bytes_max != 0 && message.payload.size() > 60)) { return; }
    wanted[key(message.payload, qos)].push_back(message.payload + (retain ? " R " : " - ") +
                                                Packet::joined(identifiers));
  }
  void collect() {
    while (client.has_packet()) {
      const Packet packet = client.next();
      if (packet.type != PacketType::publish) { continue; }
      got[key(packet.payload, static_cast<int>(packet.qos))].push_back(
          packet.payload + (packet.retain ? " R " : " - ") + packet.identifiers());
    }
  }
  static std::string key(const std::string& payload, int qos) {
    return payload.substr(0, 2) + std::to_string(qos);
  }
};

// One storm: bursts of several publishers of all versions in one turn, to readers of all kinds
// whose transports take what they like.
class Bursts {
 public:
  Bursts(Wire wire, uint32_t turn_records, uint32_t seed)
      : broker_(wire, with(turn_records)), state_(seed) {
    constexpr Version versions[] = {Version::v3_1, Version::v3_1_1, Version::v5};
    for (const Version version : versions) {
      add(version, {{"#", 0, 0, false, false}});
      add(version, {{"t/#", 0, 0, false, false}, {"t/a", 0, 0, false, false}});
      add(version, {{"t/+", 0, 0, false, false}, {"t/b", 1, 0, false, false}});
      add(version, {{"t/b", 2, 0, false, false}});
    }
    add(Version::v5, {{"t/#", 0, 7, false, false}, {"#", 0, 300, true, false}});
    add(Version::v5, {{"#", 0, 0, true, false}});
    add(Version::v5, {{"#", 0, 0, false, false}}, 100);
    while (publishers_.size() < 3) {
      readers_[publishers_.size() * 4].own = publishers_.size();
      publishers_.push_back(readers_[publishers_.size() * 4].client);
    }
    Reader quiet;  // a publisher that does not hear itself
    quiet.client = broker_.connect(Version::v5, "q");
    quiet.own = publishers_.size();
    quiet.subs = {{"t/#", 0, 0, false, true}};
    subscribe(quiet);
    publishers_.push_back(quiet.client);
    readers_.push_back(quiet);
  }

  void run() {
    for (int burst = 0; burst < 6; ++burst) {
      for (Reader& reader : readers_) {
        reader.client.set_window(below(3) == 0 ? below(400) : 1U << 20);
      }
      for (uint32_t i = 0; i < 30; ++i) { publish(); }
      broker_.run();
    }
    for (Reader& reader : readers_) { reader.client.open_window(); }
    for (Reader& reader : readers_) {
      CAPTURE(&reader - readers_.data());
      reader.collect();
      for (auto& pair : reader.wanted) {
        CAPTURE(pair.first);
        const std::vector<std::string>& got = reader.got[pair.first];
        REQUIRE(got.size() == pair.second.size());
        for (size_t i = 0; i < got.size(); ++i) { REQUIRE(got[i] == pair.second[i]); }
      }
      CHECK(reader.got.size() == reader.wanted.size());
    }
    CHECK(broker_.statistics().stored == broker_.statistics().retained);
  }

 private:
  static Limits with(uint32_t turn_records) {
    Limits limits = many();
    limits.connections = limits.sessions = 24;
    limits.turn_records = turn_records;
    return limits;
  }
  uint32_t below(uint32_t count) {
    state_ = state_ * 1664525U + 1013904223U;
    return (state_ >> 16) % count;
  }
  void add(Version version, std::vector<Sub> subs, uint32_t packet_bytes_max = 0) {
    Reader reader;
    Props most;
    if (packet_bytes_max != 0) { most.number(PropertyId::maximum_packet_size, packet_bytes_max); }
    const std::string id = "r" + std::to_string(readers_.size());
    reader.client = broker_.connect(version, Text(id), [&](mqtt::Connect& connect) {
      if (packet_bytes_max != 0) { connect.properties = most; }
    });
    reader.subs = std::move(subs);
    reader.packet_bytes_max = packet_bytes_max;
    subscribe(reader);
    readers_.push_back(reader);
  }
  static void subscribe(const Reader& reader) {
    for (const Sub& sub : reader.subs) {
      mqtt::Subscription entry;
      entry.filter = sub.filter;
      entry.qos = static_cast<Qos>(sub.qos);
      entry.retain_as_published = sub.as_published;
      entry.no_local = sub.no_local;
      Props properties;
      if (sub.identifier != 0) {
        properties.number(PropertyId::subscription_identifier, sub.identifier);
      }
      CHECK(reader.client.subscribe(entry, properties) == sub.qos);
    }
  }
  void publish() {
    Sent message;
    message.publisher = below(static_cast<uint32_t>(publishers_.size()));
    message.topic = below(2) == 0 ? "t/a" : below(2) == 0 ? "t/b" : "u";
    message.qos = below(4) == 0 ? static_cast<int>(below(3)) : 0;
    message.retain = below(8) == 0;
    message.payload = std::string(1, static_cast<char>('A' + message.publisher)) +
                      std::to_string(message.qos) + " " + std::to_string(count_++) +
                      std::string(below(5) == 0 ? 200 : below(20), '.');
    mqtt::Publish packet = publish_of(Text(message.topic), Text(message.payload), message.qos);
    packet.retain = message.retain;
    put_publish(publishers_[message.publisher], packet);
    for (Reader& reader : readers_) { reader.expect(message); }
  }

  Broker<> broker_;
  uint32_t state_;
  uint32_t count_ = 0;
  std::vector<Reader> readers_;
  std::vector<Client> publishers_;
};

}  // namespace

TEST_CASE(
    "bursts of several publishers reach every kind of subscriber whole, once and in order "
    "[MQTT-4.6.0-5, MQTT-3.3.1-12, MQTT-3.3.1-13, MQTT-3.3.4-2, MQTT-3.3.4-3, MQTT-3.1.2-25]") {
  constexpr std::pair<Wire, uint32_t> cases[] = {
      {Wire::whole, 0},    {Wire::whole, 1},     {Wire::whole, 5},       {Wire::whole, 1000},
      {Wire::bytes_in, 5}, {Wire::pieces, 1000}, {Wire::bytes_out, 1000}};
  for (const auto& it : cases) {
    CAPTURE(sim::name(it.first));
    CAPTURE(it.second);
    Bursts(it.first, it.second, 1 + it.second).run();
  }
}

TEST_CASE("QoS 0 of the arena goes out however small the scratch memory is") {
  for (const uint32_t most : {128U, 200U, 400U}) {
    Limits limits = sim::small_limits();
    limits.control_packet_bytes_max = most;
    Broker<> broker(Wire::whole, limits);
    const Client client = broker.connect(Version::v3_1_1, "s");
    client.subscribe("t", 0);
    const Client publisher = broker.connect(Version::v3_1_1, "p");
    for (const uint32_t size : {1U, 60U, 110U, 150U, 500U, 3000U}) {
      for (int i = 0; i < 5; ++i) { put_publish(publisher, "t", std::string(size, 'x'), 0); }
      broker.run();
      for (int i = 0; i < 5; ++i) { CHECK(client.message().payload.size() == size); }
    }
    CHECK(client.quiet());
  }
}

// ---- the number of a message ----------------------------------------------------------------

namespace {
struct Counting : mqtt::BrokerConfig {};
}  // namespace

// Not used without a journal: stands here for a door to the engine's inside.
template <>
class mqtt::BrokerSnapshot<mqtt::BrokerEngine<Counting>> {
 public:
  static void set_route(mqtt::BrokerEngine<Counting>& engine, uint32_t route) {
    engine.route_ = route;
  }
};

TEST_CASE("when 2^32 messages have been routed the next ones are as any other") {
  Broker<Counting> broker;
  const auto client = broker.connect(Version::v5, "s");
  const auto other = broker.connect(Version::v5, "o");
  client.subscribe("t/#", 0, 1);
  client.subscribe("t/a", 0, 2);
  other.subscribe("o", 0);
  const auto publisher = broker.connect(Version::v5, "p");
  publisher.publish("o", "x");
  publisher.publish("t/a", "x");
  other.clear();
  client.clear();
  mqtt::BrokerSnapshot<mqtt::BrokerEngine<Counting>>::set_route(broker.engine(), 0xFFFFFFFE);
  for (int i = 0; i < 4; ++i) {
    publisher.publish("t/a", "x");
    CHECK(client.message().identifiers() == "1 2");
    CHECK(client.quiet());
  }
  publisher.publish("o", "x");
  CHECK(other.message().payload == "x");
}
