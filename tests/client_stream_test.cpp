// Payloads larger than memory, topic aliases, the outbox over a restart, dialing.
#include <doctest/doctest.h>

#include <map>

#include "sim/client_sim.hpp"

using mqtt::Answer;
using mqtt::Bytes;
using mqtt::ClientEventType;
using mqtt::Error;
using mqtt::PropertyId;
using mqtt::Qos;
using mqtt::Version;
using sim::Happening;
using sim::Wire;

namespace {

uint8_t byte_at(uint32_t offset) { return static_cast<uint8_t>(offset * 31 + (offset >> 8)); }

// Gives a payload in pieces of what fits its own small buffer.
struct Source {
  Bytes piece(uint32_t offset) noexcept {
    asked += 1;
    if (asked % 3 == 0) { return Bytes(); }  // nothing yet
    const uint32_t count = 1 + offset % 200;
    for (uint32_t i = 0; i < count; ++i) { buffer[i] = byte_at(offset + i); }
    highest = std::max(highest, offset);
    restarts += offset == 0 ? 1 : 0;
    return Bytes(buffer, count);
  }
  uint8_t buffer[200];
  uint32_t asked = 0;
  uint32_t highest = 0;
  uint32_t restarts = 0;
};

struct StreamConfig : mqtt::ClientConfig {
  using Source = ::Source;
};

struct NoStreamConfig : mqtt::ClientConfig {
  struct Features : mqtt::ClientFeatures {
    static constexpr bool streaming = false;
  };
};

// Puts pieces together and checks offsets and bytes.
class Assembler {
 public:
  void take(const mqtt::ClientEvent& event) {
    if (event.type != ClientEventType::message || event.message.topic != "big") { return; }
    if (event.offset == 0) { at_ = 0; }
    CHECK(event.offset == at_);
    bool right = true;
    for (const uint8_t byte : event.message.payload) { right = right && byte == byte_at(at_++); }
    CHECK(right);
    pieces += 1;
    if (event.last()) {
      CHECK(at_ == event.total);
      wholes += 1;
    }
  }
  uint32_t pieces = 0;
  uint32_t wholes = 0;

 private:
  uint32_t at_ = 0;
};

mqtt::BrokerLimits large_limits() {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.blocks = 1024;
  limits.large_blocks = 4096;
  return limits;
}

mqtt::Publish big(int qos) {
  mqtt::Publish packet;
  packet.topic = "big";
  packet.qos = static_cast<Qos>(qos);
  return packet;
}

std::string big_packet(Version version, uint32_t payload, int qos, uint16_t id) {
  std::string bytes(payload, 0);
  for (uint32_t i = 0; i < payload; ++i) { bytes[i] = static_cast<char>(byte_at(i)); }
  mqtt::Publish packet = big(qos);
  packet.packet_id = id;
  packet.payload = mqtt::Text(bytes).bytes();
  return sim::Client<mqtt::BrokerConfig>::encoded(version, packet);
}

void connected(sim::Engine<>& client) {
  client.up();
  client.run();
  client.out.clear();
  client.in += sim::Client<mqtt::BrokerConfig>::encoded(client.connect.version, mqtt::Connack());
  client.run();
  client.take(ClientEventType::connected);
}

}  // namespace

TEST_SUITE_BEGIN("client streams");

TEST_CASE("a payload larger than all memory goes out from a source and comes in by pieces") {
  for (const Version version : {Version::v3_1, Version::v3_1_1, Version::v5}) {
    for (const int qos : {0, 1, 2}) {
      CAPTURE(sim::name(version));
      CAPTURE(qos);
      sim::Broker<> broker(Wire::whole, large_limits());
      sim::Joined<StreamConfig> client(broker, version, {256, 512}, Wire::pieces);
      sim::Joined<> other(broker, version, {256, 512}, Wire::whole);
      client.go();
      other.connect.client_id = "other";
      other.go();
      REQUIRE(other.subscribe("#", qos));
      other.settle();
      other.take(ClientEventType::subscribed);
      Assembler assembler;
      other.handler = [&](const mqtt::ClientEvent& event) { assembler.take(event); };
      Source source;
      REQUIRE(client->publish(big(qos), 150000, source));
      CHECK(client->publish(big(qos), 1, source).answer == Answer::full);
      REQUIRE(client.publish("after", "x", qos));
      for (int i = 0; i < 200000 && client->streaming(); ++i) { client.step(); }
      CHECK_FALSE(client->streaming());
      client.settle();
      other.settle();
      client.settle();
      CHECK(client.count(ClientEventType::published) == (qos == 0 ? 0 : 2));
      CHECK(client->idle());
      CHECK(assembler.wholes >= 1);
      CHECK(other.events.back().topic == "after");
      CHECK(other.events.size() > 100);
    }
  }
}

TEST_CASE("a stream at QoS 1 and 2 starts again after a lost link, one at QoS 0 ends") {
  for (const int qos : {0, 1, 2}) {
    CAPTURE(qos);
    sim::Broker<> broker(Wire::whole, large_limits());
    sim::Joined<StreamConfig> client(broker, Version::v5, {256, 512}, Wire::pieces);
    sim::Props expiry;
    expiry.number(PropertyId::session_expiry_interval, 60);
    client.connect.properties = expiry;
    client.go();
    Source source;
    REQUIRE(client->publish(big(qos), 20000, source));
    while (source.highest < 10000) { client.step(); }
    client.cut();
    CHECK(client->streaming() == (qos != 0));
    client.up();
    for (int i = 0; i < 100000 && client->streaming(); ++i) { client.step(); }
    client.settle();
    CHECK(client.count(ClientEventType::published) == (qos == 0 ? 0 : 1));
    CHECK(client->idle());
    CHECK(source.restarts >= (qos == 0 ? 1U : 2U));
  }
}

TEST_CASE(
    "64 MB come in by pieces with 4 KB of memory, are acknowledged once, or skipped "
    "[MQTT-4.5.0-2] [3.1.1 MQTT-4.5.0-2]") {
  for (const bool skip : {false, true}) {
    sim::Engine<> client(Version::v3_1_1, {2048, 2048});
    connected(client);
    uint32_t pieces = 0;
    uint32_t at = 0;
    client.handler = [&](const mqtt::ClientEvent& event) {
      CHECK(event.offset == at);
      CHECK(event.total == 64U << 20);
      at += event.message.payload.size();
      pieces += 1;
      if (skip) { client->skip(); }
    };
    mqtt::Publish head = big(1);
    head.packet_id = 5;
    std::string packet = sim::Client<mqtt::BrokerConfig>::encoded(Version::v3_1_1, head);
    const uint32_t remaining = (64U << 20) + 7;
    packet.erase(0, 2);
    std::string fixed(1, '\x32');
    for (uint32_t left = remaining; left != 0; left >>= 7) {
      fixed.push_back(static_cast<char>((left & 0x7F) | (left >= 0x80 ? 0x80 : 0)));
    }
    client.in = fixed + packet;
    const std::string chunk(8192, 'x');
    for (uint32_t sent = 0; sent < 64U << 20; sent += 8192) {
      client.in += chunk;
      while (!client.in.empty()) { client.turn(); }
      client.events.clear();
    }
    client.in += std::string("\xD0\x00", 2);  // what follows is a packet again
    client.run();
    CHECK(client->online());
    CHECK(sim::hex(client.out) == "40020005");
    CHECK(at == (skip ? 2048 - 12 : 64U << 20));
    CHECK((skip ? pieces == 1 : pieces > 30000));
  }
}

TEST_CASE("a message larger than rx is skipped and acknowledged when pieces are not compiled") {
  for (const int qos : {0, 1, 2}) {
    sim::Engine<NoStreamConfig> client(Version::v3_1_1, {64, 512}, Wire::pieces);
    client.up();
    client.run();
    client.in = sim::bytes("20 02 00 00");
    client.run();
    client.take(ClientEventType::connected);
    client.run();
    client.out.clear();
    client.in = big_packet(Version::v3_1_1, 1000, qos, qos == 0 ? 0 : 3) +
                big_packet(Version::v3_1_1, 10, 0, 0);
    client.run();
    const Happening event = client.take(ClientEventType::skipped);
    CHECK(event.topic == "big");
    CHECK(event.total == 1000);
    CHECK(client.take(ClientEventType::message).total == 10);
    CHECK(sim::hex(client.out) == (qos == 0 ? "" : qos == 1 ? "40020003" : "50020003"));
  }
}

TEST_CASE("a head that does not fit rx ends the link") {
  sim::Engine<> client(Version::v5, {64, 512});
  connected(client);
  mqtt::Publish packet = big(0);
  const std::string topic(62, 't');
  packet.topic = topic;
  packet.payload = mqtt::Text("x").bytes();
  client.in = sim::Client<mqtt::BrokerConfig>::encoded(Version::v5, packet);
  client.run();
  CHECK(client.take(ClientEventType::closed).error == Error::packet_too_large);
  CHECK(sim::hex(client.out) == "e00195");
}

TEST_CASE("limits of CONNECT's own go before Config's, up to what there is memory for") {
  const auto connects = [](uint32_t window, uint32_t aliases) {
    sim::Engine<> client(Version::v5, {256, 512, 512});
    sim::Props limits;
    limits.number(PropertyId::receive_maximum, window);
    limits.number(PropertyId::topic_alias_maximum, aliases);
    client.connect.properties = limits;
    if (client->start(0) != Error::none) { return std::string(); }
    const mqtt::Bytes packet = client->tx_pending();
    return sim::hex(std::string(packet.begin(), packet.end()));
  };
  CHECK(connects(20, 8).find("06210014220008") != std::string::npos);
  CHECK(connects(1, 0).find("06210001220000") != std::string::npos);
  CHECK(connects(21, 8) == "");
  CHECK(connects(20, 9) == "");

  sim::Engine<> client(Version::v5, {256, 512, 512});
  sim::Props limits;
  limits.number(PropertyId::topic_alias_maximum, 2);
  client.connect.properties = limits;
  client.up();
  client.run();
  CHECK(sim::hex(client.out).find("06220002210014") != std::string::npos);
  client.in += sim::Client<mqtt::BrokerConfig>::encoded(Version::v5, mqtt::Connack());
  client.run();
  client.take(ClientEventType::connected);
  client.in += std::string("\x30\x07\x00\x01t\x03\x23\x00\x02", 9);
  client.run();
  client.take(ClientEventType::message);
  client.in += std::string("\x30\x07\x00\x01t\x03\x23\x00\x03", 9);
  client.run();
  CHECK(client.take(ClientEventType::closed).error == Error::topic_alias_invalid);
}

TEST_CASE(
    "topic aliases shorten what is sent, end with the link, and are not in what is kept "
    "[MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.3.2-12]") {
  sim::Engine<> client(Version::v5, {256, 512, 512});
  client.connect.clean_start = false;
  const auto go = [&client](bool present) {
    client.up();
    client.run();
    CHECK(sim::hex(client.out).find("210014220008") != std::string::npos);
    client.out.clear();
    sim::Props limits;
    limits.number(PropertyId::topic_alias_maximum, 2);
    mqtt::Connack connack;
    connack.session_present = present;
    connack.properties = limits;
    client.in += sim::Client<mqtt::BrokerConfig>::encoded(Version::v5, connack);
    client.run();
    client.take(ClientEventType::connected);
  };
  go(false);
  const auto sent = [&client] {
    client.run();
    const std::string hex = sim::hex(client.out);
    client.out.clear();
    return hex;
  };
  CHECK(client.publish("ab", "1"));
  CHECK(sent() ==
        "300900026162"
        "03230001"
        "31");
  CHECK(client.publish("ab", "2"));
  CHECK(sent() ==
        "30070000"
        "03230001"
        "32");
  CHECK(client.publish("ab", "2", 1));  // may be sent again on another link: whole
  CHECK(sent() ==
        "320800026162"
        "0001"
        "00"
        "32");
  CHECK(client.publish("cd", "3"));
  CHECK(client.publish("cd", ""));
  CHECK(sent() ==
        "300900026364"
        "03230002"
        "33"
        "30060000"
        "03230002");
  CHECK(client.publish("ef", "4"));  // no alias is left
  CHECK(sent() ==
        "300600026566"
        "00"
        "34");
  client.window = 0;
  CHECK(client.publish("ab", "lost"));  // of QoS 0 nothing outlives its link
  client.down();
  client.window = ~uint64_t{0};
  client.run();
  client.take(ClientEventType::closed);
  go(true);
  CHECK(sent() ==
        "3a0800026162"
        "0001"
        "00"
        "32");
  CHECK(client.publish("ab", "1"));
  CHECK(sent() ==
        "300900026162"
        "03230001"
        "31");
}

TEST_CASE("topic aliases of a server are resolved [MQTT-3.3.2-7] [MQTT-3.3.2-9]") {
  sim::Engine<> client(Version::v5, {256, 512, 16 * 2 * 10});
  connected(client);
  client.in = sim::bytes("30 08 00 01 61 03 23 00 03 31 30 07 00 00 03 23 00 03 32");
  client.run();
  CHECK(client.take(ClientEventType::message).topic == "a");
  const Happening second = client.take(ClientEventType::message);
  CHECK(second.topic == "a");
  CHECK(second.payload == "2");
  client.in = sim::bytes("30 08 00 01 62 03 23 00 03 31 30 07 00 00 03 23 00 03 32");
  client.run();
  client.take(ClientEventType::message);
  CHECK(client.take(ClientEventType::message).topic == "b");
  client.in = sim::bytes("30 07 00 00 03 23 00 09 32");
  client.run();
  CHECK(client.take(ClientEventType::closed).error == Error::topic_alias_invalid);
}

namespace {

// Keeps what a flash page or a file would.
struct Shelf {
  std::vector<std::pair<uint32_t, std::string>> kept;
  size_t room = 1000;
};
Shelf shelf;
struct ShelfStore {
  bool keep(uint32_t key, Bytes packet) noexcept {
    for (auto& entry : shelf.kept) {
      if (entry.first == key) {
        entry.second = sim::text(packet);
        return true;
      }
    }
    if (shelf.kept.size() == shelf.room) { return false; }
    shelf.kept.emplace_back(key, sim::text(packet));
    return true;
  }
  void drop(uint32_t key) noexcept {
    for (size_t i = 0; i < shelf.kept.size(); ++i) {
      if (shelf.kept[i].first == key) {
        shelf.kept.erase(shelf.kept.begin() + static_cast<std::ptrdiff_t>(i));
        return;
      }
    }
  }
};
struct StoreConfig : mqtt::ClientConfig {
  using Store = ShelfStore;
};

}  // namespace

TEST_CASE(
    "the outbox outlives restarts at any time: none lost, none doubled at QoS 2 "
    "[MQTT-4.1.0-1] [MQTT-4.1.0-2]") {
  for (const Version version : {Version::v3_1, Version::v3_1_1, Version::v5}) {
    CAPTURE(sim::name(version));
    sim::Broker<> broker(Wire::pieces);
    sim::Props expiry;
    expiry.number(PropertyId::session_expiry_interval, 60);
    shelf = Shelf();
    sim::Joined<> other(broker, version, {256, 1024});
    other.connect.client_id = "other";
    other.go();
    REQUIRE(other.subscribe("#", 2));
    other.settle();
    other.take(ClientEventType::subscribed);
    uint32_t next = 1;
    uint32_t random = 1;
    while (next <= 120 || !shelf.kept.empty()) {
      sim::Joined<StoreConfig> client(broker, version, {256, 1024}, Wire::pieces);
      client.connect.clean_start = false;
      if (version == Version::v5) { client.connect.properties = expiry; }
      for (const auto& entry : shelf.kept) {
        REQUIRE(client->restore(entry.first, mqtt::Text(entry.second).bytes()));
      }
      client.check();
      client.up();
      random = random * 1664525U + 1013904223U;
      for (uint32_t steps = (random >> 16) % 40; steps != 0; --steps) {
        if (next <= 120 && client.publish("n", std::to_string(next), 2)) { next += 1; }
        client.step();
      }
      broker.drop(client.link());  // the power is gone
      other.settle();
    }
    other.settle();
    std::vector<std::string> expected;
    std::vector<std::string> got;
    for (uint32_t i = 1; i <= 120; ++i) { expected.push_back(std::to_string(i)); }
    for (const Happening& event : other.events) { got.push_back(event.payload); }
    CHECK(got == expected);
  }
}

TEST_CASE("a store without room refuses the message") {
  shelf = Shelf();
  shelf.room = 1;
  sim::Engine<StoreConfig> client(Version::v3_1_1);
  CHECK(client.publish("t", "x", 1));
  CHECK(client.publish("t", "x", 1).answer == Answer::not_kept);
  CHECK(client.subscribe("t"));  // subscriptions are not kept
  CHECK(shelf.kept.size() == 1);
  CHECK_FALSE(client->restore(1, mqtt::Text("\x32\x7F").bytes()));
  CHECK_FALSE(client->restore(1, Bytes()));
}

TEST_CASE("a server that sends anything at all breaks nothing") {
  uint32_t random = 7;
  const auto below = [&random](uint32_t limit) {
    random = random * 1664525U + 1013904223U;
    return (random >> 8) % limit;
  };
  const char* const packets[] = {"30 08 00 01 61 03 23 00 03 31",
                                 "32 08 00 01 61 00 01 00 31 32",
                                 "34 07 00 01 61 00 02 00 31",
                                 "62 02 00 02",
                                 "40 02 00 01",
                                 "50 02 00 02",
                                 "70 02 00 02",
                                 "90 04 00 03 00 01",
                                 "b0 04 00 04 00 00",
                                 "d0 00",
                                 "e0 01 8b",
                                 "f0 07 18 05 15 00 02 61 62",
                                 "20 03 00 00 00"};
  uint32_t closed = 0;
  for (uint32_t round = 0; round < 3000; ++round) {
    const Version version = static_cast<Version>(3 + below(3));
    sim::Engine<StreamConfig> client(version, {40 + below(64), 256, 64 + below(256)}, Wire::pieces);
    Source source;
    client.up();
    client.run();
    client.in = sim::bytes(version == Version::v5 ? "20 06 00 00 03 22 00 02" : "20 02 00 00");
    for (uint32_t i = 0; i < 12; ++i) {
      static_cast<void>(client.publish("ab", "1", static_cast<int>(below(3))));
      if (below(4) == 0) { static_cast<void>(client.subscribe("a/+", 1)); }
      if (below(8) == 0) { static_cast<void>(client->publish(big(1), 300, source)); }
      std::string packet = sim::bytes(packets[below(13)]);
      if (below(3) == 0) {
        packet[below(static_cast<uint32_t>(packet.size()))] = static_cast<char>(below(256));
      }
      if (below(9) == 0) { packet.insert(2, below(90), 'x'); }
      client.in += packet;
      client.now += below(20000);
      for (uint32_t turn = below(40); turn != 0; --turn) { client.turn(); }
      if (client->wants_hang_up() || below(30) == 0) {
        closed += 1;
        client.down();
        client.up();
      }
    }
  }
  CHECK(closed > 1000);
}

TEST_SUITE_END();
