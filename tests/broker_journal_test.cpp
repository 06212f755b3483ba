// Journal of the broker engine: what waits for it, and what it brings back.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "mqtt.hpp"
#include "ports/journal/state.hpp"
#include "sim/broker_sim.hpp"

namespace {

using mqtt::JournalRecord;
using mqtt::PacketType;
using mqtt::PropertyId;
using mqtt::Qos;
using mqtt::Text;
using mqtt::Version;
using Type = JournalRecord::Type;
using sim::Packet;
using sim::Props;

// A record with its bytes.
struct Kept {
  JournalRecord record;
  std::string text;
  std::string bytes;

  Kept() = default;
  explicit Kept(const JournalRecord& from)
      : record(from), text(sim::text(from.text)), bytes(sim::text(from.bytes)) {}
  JournalRecord view() const {
    JournalRecord out = record;
    out.text = Text(text);
    out.bytes = Text(bytes).bytes();
    return out;
  }
};
using Log = std::vector<Kept>;

// Everything in memory; the wall clock is a number.
struct MemoryJournal {
  static constexpr bool enabled = true;
  Log log;
  uint64_t before = 0;  // records of an earlier life, or forgotten ones
  uint32_t wall = 1700000000;
  bool full = false;
  bool on = true;

  uint64_t append(const JournalRecord& record) noexcept {
    log.emplace_back(record);
    return last();
  }
  uint32_t wall_clock_s() noexcept { return wall; }
  bool is_on() const noexcept { return on; }
  bool holds_back() const noexcept { return full; }
  uint64_t last() const { return before + log.size(); }
  size_t count(Type type) const {
    size_t found = 0;
    for (const Kept& it : log) { found += it.record.type == type ? 1U : 0U; }
    return found;
  }
};

struct Wide : mqtt::BrokerConfig {
  using Journal = MemoryJournal;
};
struct Narrow : Wide {
  using Index = uint16_t;
};

mqtt::Publish message(Text topic, Text payload, int qos = 0, bool retain = false) {
  mqtt::Publish packet;
  packet.topic = topic;
  packet.payload = payload.bytes();
  packet.qos = static_cast<Qos>(qos);
  packet.retain = retain;
  return packet;
}

// What a CONNECT says.
struct Session {
  Version version = Version::v5;
  bool clean = false;
  uint32_t expiry_s = 3600;
  const char* will = nullptr;  // topic
  uint32_t will_delay_s = 0;
  uint32_t will_expiry_s = 0;
  uint16_t receive_maximum = 0;
};

// A broker whose journal becomes safe only when the test says so.
template <typename Config>
class Bench {
 public:
  using C = sim::Client<Config>;
  sim::Broker<Config> b;

  explicit Bench(const mqtt::BrokerLimits& limits = sim::small_limits())
      : b(sim::Wire::whole, limits) {
    b.acks = false;
  }
  MemoryJournal& journal() { return b.journal; }
  mqtt::BrokerStatistics statistics() { return b.statistics(); }
  uint64_t last() { return journal().last(); }
  void durable(uint64_t sequence) {
    b.engine().durable(sequence);
    b.run();
  }
  // All is written, all is sent.
  void settle() {
    b.run();
    for (uint64_t safe = ~uint64_t{0}; safe != last();) {
      safe = last();
      durable(safe);
    }
  }
  void seconds(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      journal().wall += 1;
      b.seconds(1);
      settle();
    }
  }

  // Sends a CONNECT; CONNACK has not come yet.
  C start(Text id, const Session& session = {}) {
    const C client = b.open(session.version);
    mqtt::Connect connect;
    connect.version = session.version;
    connect.client_id = id;
    connect.clean_start = session.clean;
    connect.keep_alive_s = 0;
    Props properties;
    Props will;
    if (session.version == Version::v5) {
      properties.number(PropertyId::session_expiry_interval, session.expiry_s);
      if (session.receive_maximum != 0) {
        properties.number(PropertyId::receive_maximum, session.receive_maximum);
      }
      will.number(PropertyId::will_delay_interval, session.will_delay_s);
      if (session.will_expiry_s != 0) {
        will.number(PropertyId::message_expiry_interval, session.will_expiry_s);
      }
      connect.properties = properties;
    }
    if (session.will != nullptr) {
      connect.has_will = true;
      connect.will.topic = session.will;
      connect.will.payload = Text("gone").bytes();
      connect.will.qos = Qos::at_least_once;
      connect.will.retain = true;
      connect.will.properties = will;
    }
    client.send(connect);
    return client;
  }
  // A connected client.
  C connect(Text id, const Session& session = {}) {
    const C client = start(id, session);
    settle();
    b.last_connack = client.take(PacketType::connack);
    return client;
  }
  void put_subscribe(const C& client, const mqtt::Subscription& entry, uint32_t identifier) {
    Props properties;
    if (identifier != 0 && client.v5()) {
      properties.number(PropertyId::subscription_identifier, identifier);
    }
    mqtt::Subscribe packet;
    packet.packet_id = client.new_id();
    packet.filters = entry;
    packet.properties = properties;
    client.send(packet);
  }
  void put_subscribe(const C& client, Text filter, int qos, uint32_t identifier = 0) {
    mqtt::Subscription entry;
    entry.filter = filter;
    entry.qos = static_cast<Qos>(qos);
    put_subscribe(client, entry, identifier);
  }
  void put_unsubscribe(const C& client, Text filter) {
    mqtt::Subscription entry;
    entry.filter = filter;
    mqtt::Unsubscribe packet;
    packet.packet_id = client.new_id();
    packet.filters = entry;
    client.send(packet);
  }
  void subscribe(const C& client, Text filter, int qos, uint32_t identifier = 0) {
    put_subscribe(client, filter, qos, identifier);
    settle();
    REQUIRE(client.take(PacketType::suback).codes[0] == qos);
  }
  // Sends a PUBLISH; with QoS 2 all of the handshake.
  void publish(const C& client, const mqtt::Publish& packet) {
    const uint16_t id = client.publish(packet);
    settle();
    if (packet.qos == Qos::at_least_once) { client.take(PacketType::puback); }
    if (packet.qos == Qos::exactly_once) {
      client.take(PacketType::pubrec);
      client.ack(PacketType::pubrel, id);
      settle();
      client.take(PacketType::pubcomp);
    }
  }

  // Brings this fresh broker to what the records say; the first error ends it.
  mqtt::Error restore(const Log& records, size_t count) {
    journal().log.assign(records.begin(), records.begin() + static_cast<std::ptrdiff_t>(count));
    const Log copy = journal().log;
    using Restore = mqtt::BrokerRestore<mqtt::BrokerEngine<Config>>;
    const auto memory = std::make_unique<uint64_t[]>(
        static_cast<size_t>(Restore::memory_bytes(b.engine().limits())) / sizeof(uint64_t));
    Restore restoring(b.engine(), reinterpret_cast<uint8_t*>(memory.get()));
    mqtt::Error error = mqtt::Error::none;
    for (const Kept& it : copy) {
      error = restoring.apply(it.view(), b.now);
      if (error != mqtt::Error::none) { break; }  // what fitted is there
      CHECK(b.engine().check_invariants());
    }
    restoring.finish(b.now);
    b.engine().durable(last());
    return error;
  }
  mqtt::Error restore(const Log& records) { return restore(records, records.size()); }
};

template <typename Config>
std::unique_ptr<Bench<Config>> revived(Bench<Config>& old) {
  auto bench = std::make_unique<Bench<Config>>();
  bench->journal().wall = old.journal().wall;
  REQUIRE(bench->restore(old.journal().log) == mqtt::Error::none);
  bench->settle();
  return bench;
}

constexpr Version versions[] = {Version::v3_1, Version::v3_1_1, Version::v5};

// What the client is awaiting comes with the last record and not before.
template <typename Config>
Packet held(Bench<Config>& bench, const sim::Client<Config>& client, PacketType type,
            uint64_t before) {
  CAPTURE(static_cast<int>(type));
  const uint64_t last = bench.last();
  CHECK(last > before);
  CHECK(client.quiet());
  bench.durable(last - 1);
  CHECK(client.quiet());
  bench.durable(last);
  return client.take(type);
}

// ---- what waits
// ----------------------------------------------------------------------------------

TEST_CASE("answers of a resumable session wait until their records are safe") {
  for (const Version version : versions) {
    CAPTURE(sim::name(version));
    Bench<Wide> bench;
    Session session;
    session.version = version;
    const auto client = bench.start("client", session);
    held(bench, client, PacketType::connack, 0);
    uint64_t before = bench.last();
    bench.put_subscribe(client, "a/#", 2);
    held(bench, client, PacketType::suback, before);
    const auto other = bench.connect("other", session);
    before = bench.last();
    other.publish("keep", "one", 1, true);
    held(bench, other, PacketType::puback, before);
    before = bench.last();
    const uint16_t id = other.publish("a/2", "two", 2);
    held(bench, other, PacketType::pubrec, before);
    before = bench.last();
    other.ack(PacketType::pubrel, id);
    CHECK(client.quiet());  // QoS 2 does
    CHECK(other.quiet());
    bench.settle();
    other.take(PacketType::pubcomp);
    CHECK(client.message().qos == Qos::exactly_once);
    before = bench.last();
    bench.put_unsubscribe(client, "a/#");
    held(bench, client, PacketType::unsuback, before);
  }
}

TEST_CASE("pubcomp waits for the records of its message") {
  Bench<Wide> bench;
  const auto reader = bench.connect("reader");
  bench.subscribe(reader, "a", 1);
  reader.drop();
  const auto client = bench.connect("client");
  const uint16_t id = client.publish("a", "x", 2);
  bench.settle();
  client.take(PacketType::pubrec);
  const uint64_t before = bench.last();
  client.ack(PacketType::pubrel, id);
  held(bench, client, PacketType::pubcomp, before);
}

TEST_CASE("held answers come in the order of their packets; pingresp does not wait") {
  for (const Version version : versions) {
    CAPTURE(sim::name(version));
    Bench<Wide> bench;
    Session session;
    session.version = version;
    const auto client = bench.connect("client", session);
    bench.subscribe(client, "a", 1);
    bench.put_subscribe(client, "b", 1);
    const uint64_t first = bench.last();
    client.publish("none", "", 1);  // changes nothing, but stands behind SUBACK
    client.publish("none", "", 2);
    const uint64_t second = bench.last();
    client.raw_hex("C0 00");
    bench.put_unsubscribe(client, "b");
    client.take(PacketType::pingresp);
    CHECK(client.quiet());
    bench.durable(first);
    client.take(PacketType::suback);
    if (client.has_packet()) { client.take(PacketType::puback); }
    CHECK(client.quiet());
    bench.durable(second);
    if (client.count(PacketType::puback) != 0) { client.take(PacketType::puback); }
    client.take(PacketType::pubrec);
    CHECK(client.quiet());
    bench.durable(bench.last());
    client.take(PacketType::unsuback);
    CHECK(client.quiet());
  }
}

TEST_CASE("QoS 0 and clients without a durable session never wait") {
  for (const Version version : versions) {
    CAPTURE(sim::name(version));
    Bench<Wide> bench;
    Session passing;
    passing.version = version;
    passing.clean = true;
    passing.expiry_s = 0;
    const auto client = bench.connect("client");
    bench.subscribe(client, "zero", 0);
    bench.put_subscribe(client, "held", 1);
    const uint64_t before = bench.last();
    const auto other = bench.start("other", passing);
    other.take(PacketType::connack);
    bench.put_subscribe(other, "mine", 2);
    other.take(PacketType::suback);
    other.publish("mine", "1", 1);
    CHECK(other.message().payload == "1");
    other.take(PacketType::puback);
    const uint16_t id = other.publish("mine", "2", 2);
    other.take(PacketType::pubrec);
    other.ack(PacketType::pubrel, id);
    CHECK(other.message().qos == Qos::exactly_once);
    other.take(PacketType::pubcomp);
    other.publish("zero", "0", 0);
    CHECK(client.message().payload == "0");
    CHECK(client.quiet());
    CHECK(bench.last() == before);  // a session that dies with its link writes nothing
    other.drop();
    CHECK(bench.last() == before);
  }
}

TEST_CASE("an outgoing QoS 2 publish and its pubrel wait for their records, QoS 1 does not") {
  Bench<Wide> bench;
  const auto client = bench.connect("client");
  bench.subscribe(client, "a", 2);
  Session passing;
  passing.clean = true;
  passing.expiry_s = 0;
  const auto other = bench.connect("other", passing);
  other.publish("a", "one", 1);
  const Packet one = client.message();
  CHECK(one.qos == Qos::at_least_once);
  CHECK(other.quiet());
  bench.settle();
  other.take(PacketType::puback);
  const uint16_t id = other.publish("a", "two", 2);
  other.take(PacketType::pubrec);
  other.ack(PacketType::pubrel, id);
  CHECK(client.quiet());
  bench.durable(bench.last() - 1);
  CHECK(client.quiet());
  bench.settle();
  const Packet two = client.message();
  CHECK(two.qos == Qos::exactly_once);
  const uint64_t before = bench.last();
  client.ack(PacketType::pubrec, two.packet_id);
  CHECK(held(bench, client, PacketType::pubrel, before).packet_id == two.packet_id);
}

TEST_CASE("as many QoS 2 messages as the client takes wait for one sync") {
  Bench<Wide> bench;
  const auto client = bench.connect("client");
  bench.subscribe(client, "a", 2);
  const auto other = bench.connect("other");
  client.drop();
  for (int i = 0; i < 10; ++i) { bench.publish(other, message("a", "x", 2)); }
  const auto again = bench.start("client");
  uint32_t syncs = 0;
  while (again.count(PacketType::publish) < 10 && syncs < 20) {
    syncs += 1;
    bench.durable(bench.last());
  }
  CHECK(again.count(PacketType::publish) == 10);
  CHECK(syncs <= 2);  // one for CONNACK, one for all ids
}

TEST_CASE("nothing precedes a held connack [MQTT-3.2.0-1]") {
  for (const Version version : versions) {
    CAPTURE(sim::name(version));
    Bench<Wide> bench;
    Session session;
    session.version = version;
    const auto first = bench.connect("client", session);
    bench.subscribe(first, "a", 1);
    first.drop();
    const auto other = bench.connect("other");
    bench.publish(other, message("a", "queued", 1));
    bench.publish(other, message("r", "kept", 0, true));
    const auto client = bench.start("client", session);
    const uint64_t gate = bench.last();
    bench.put_subscribe(client, "z", 0);
    bench.put_subscribe(client, "r", 0);
    client.raw_hex("C0 00");
    other.publish("z", "zero", 0);
    other.publish("a", "one", 1);
    CHECK(client.quiet());
    bench.durable(gate - 1);
    CHECK(client.quiet());
    bench.durable(gate);
    client.take(PacketType::connack);
    bench.settle();
    CHECK(client.count(PacketType::suback) == 2);
    CHECK(client.count(PacketType::pingresp) == 1);
    CHECK(client.count(PacketType::publish) >= 2);
  }
}

TEST_CASE("a disconnect by the server does not wait and is the last packet") {
  Bench<Wide> bench;
  const auto client = bench.connect("client");
  bench.put_subscribe(client, "a", 1);
  const auto thief = bench.start("client");
  CHECK(client.count(PacketType::disconnect) == 1);
  CHECK(client.cut_off(mqtt::ReasonCode::session_taken_over));
  CHECK(thief.quiet());
  bench.settle();
  CHECK(thief.take(PacketType::connack).session_present);
  bench.put_subscribe(thief, "b", 1);
  thief.raw_hex("F0 00");  // AUTH nobody asked for
  CHECK(thief.cut_off(mqtt::ReasonCode::protocol_error));
  bench.settle();
  CHECK(thief.quiet());
}

TEST_CASE("a packet's gate is its own") {
  // a keep-alive that ends, or a client's end, says DISCONNECT whatever was written before
  Bench<Wide> bench;
  const auto client = bench.connect("client");
  Session passing;
  passing.clean = true;
  passing.expiry_s = 0;
  const auto other = bench.connect("other", passing);
  bench.put_subscribe(client, "a", 1);
  bench.b.engine().disconnect(other.id(), mqtt::ReasonCode::administrative_action, bench.b.now);
  bench.b.run();
  CHECK(other.cut_off(mqtt::ReasonCode::administrative_action));
  CHECK(client.quiet());
}

TEST_CASE("links lost while answers are held leak nothing") {
  for (const Version version : versions) {
    CAPTURE(sim::name(version));
    Bench<Wide> bench;
    Session session;
    session.version = version;
    uint32_t blocks = 0;
    for (int round = 0; round < 40; ++round) {
      const auto client = bench.start("client", session);
      if (round % 4 != 0) { bench.settle(); }
      bench.put_subscribe(client, "a", 2);
      client.publish("none", "x", 2);
      client.ack(PacketType::pubrel, client.link().next_id);
      client.raw_hex("C0 00");
      bench.put_unsubscribe(client, "a");
      client.drop();
      bench.settle();
      CHECK(client.link().open == false);
      const mqtt::BrokerStatistics now = bench.statistics();
      CHECK(now.connections == 0);
      if (round == 3) { blocks = now.blocks; }
      if (round > 3) { CHECK(now.blocks == blocks); }
    }
  }
}

TEST_CASE(
    "an answer held over more records than a 16-bit index counts is neither early nor stuck") {
  Bench<Narrow> bench;
  const auto client = bench.connect("client");
  Session passing;
  passing.clean = true;
  passing.expiry_s = 0;
  const auto other = bench.connect("other", passing);
  bench.put_subscribe(client, "a", 1);
  const uint64_t gate = bench.last();
  for (int i = 0; i < 13000; ++i) {
    mqtt::Publish packet = message("r", "x", 0, true);
    other.put_packet(packet);
    if (i % 500 == 0) { bench.b.run(); }
  }
  bench.b.run();
  REQUIRE(bench.last() > gate + 38000);
  CHECK(client.quiet());
  bench.put_subscribe(client, "b", 1);
  bench.durable(gate - 1);
  CHECK(client.quiet());
  bench.durable(gate + 35000);
  client.take(PacketType::suback);
  CHECK(client.quiet());
  bench.settle();
  client.take(PacketType::suback);
}

// ---- what is written
// -----------------------------------------------------------------------------

TEST_CASE("a message is written once however many subscribers it has") {
  Bench<Wide> bench;
  for (int i = 0; i < 5; ++i) {
    const auto client = bench.connect(Text(std::string("s") + std::to_string(i)));
    bench.subscribe(client, "a", i % 3);
    if (i % 2 == 0) { client.drop(); }
  }
  const auto other = bench.connect("other");
  const std::string payload(3000, 'p');
  for (int qos = 1; qos <= 2; ++qos) {
    const size_t before = bench.journal().log.size();
    bench.publish(other, message("a", Text(payload), qos, true));
    size_t messages = 0;
    size_t bytes = 0;
    for (size_t i = before; i < bench.journal().log.size(); ++i) {
      const Kept& it = bench.journal().log[i];
      messages += it.record.type == Type::message ? 1U : 0U;
      bytes += it.record.type == Type::payload ? it.bytes.size() : 0U;
    }
    CHECK(messages == 1);
    CHECK(bytes == payload.size());
  }
}

// ---- what comes back
// -----------------------------------------------------------------------------

// A packet as a line of text; aliases and the order of identifiers do not count.
std::string line(const Packet& packet) {
  std::string out = std::to_string(static_cast<int>(packet.type)) + " id" +
                    std::to_string(packet.packet_id) + " r" +
                    std::to_string(static_cast<int>(packet.reason)) + " p" +
                    std::to_string(packet.session_present);
  for (const uint8_t code : packet.codes) { out += " c" + std::to_string(code); }
  if (packet.type == PacketType::publish) {
    out += " q" + std::to_string(static_cast<int>(packet.qos)) + " d" + std::to_string(packet.dup) +
           " r" + std::to_string(packet.retain) + " " + packet.topic + "=" +
           (packet.payload.size() > 60 ? std::to_string(std::hash<std::string>()(packet.payload))
                                       : packet.payload) +
           " ids[" + packet.identifiers() + "] " + packet.user() + " " +
           packet.string(PropertyId::content_type) + " " +
           packet.binary(PropertyId::correlation_data) + " x" +
           std::to_string(packet.number(PropertyId::message_expiry_interval));
  }
  return out + "\n";
}

// Named clients of a bench, doing what a script says.
template <typename Config>
struct World {
  using C = sim::Client<Config>;
  std::unique_ptr<Bench<Config>> bench = std::make_unique<Bench<Config>>();
  std::map<std::string, C> clients;
  std::map<std::string, uint16_t> ids;  // of the clients' packets, over all links

  C& at(const std::string& name) { return clients.at(name); }
  void connect(const char* name, const Session& session = {}) {
    clients[name] = bench->connect(name, session);
    at(name).link().next_id = ids[name];
  }
  void drop(const char* name) {
    ids[name] = at(name).link().next_id;
    at(name).drop();
    clients.erase(name);
    bench->settle();
  }
  void publish(const char* name, const mqtt::Publish& packet) {
    at(name).publish(packet);
    bench->settle();
  }
  void ack(const char* name, PacketType type, uint16_t id) {
    at(name).ack(type, id);
    bench->settle();
  }
  // Acknowledges the oldest PUBLISH or PUBREL the client has not looked at.
  void acknowledge(const char* name) {
    C& client = at(name);
    while (client.has_packet()) {
      const Packet packet = client.next();
      if (packet.type == PacketType::pubrel) {
        return ack(name, PacketType::pubcomp, packet.packet_id);
      }
      if (packet.type == PacketType::publish && packet.qos != Qos::at_most_once) {
        const bool once = packet.qos == Qos::exactly_once;
        return ack(name, once ? PacketType::pubrec : PacketType::puback, packet.packet_id);
      }
    }
  }
  void lose_all() {
    for (auto& it : clients) {
      ids[it.first] = it.second.link().next_id;
      it.second.drop();
    }
    clients.clear();
    bench->settle();
  }
};

template <typename Config>
using Step = std::function<void(World<Config>&)>;
template <typename Config>
using Script = std::vector<Step<Config>>;

Session session_of(Version version, uint32_t expiry_s = 3600) {
  Session session;
  session.version = version;
  session.expiry_s = expiry_s;
  return session;
}
Session with_will(const char* topic, uint32_t delay_s, uint32_t expiry_s = 0) {
  Session session;
  session.will = topic;
  session.will_delay_s = delay_s;
  session.will_expiry_s = expiry_s;
  return session;
}

template <typename Config>
void add_subscriptions(Script<Config>& script) {
  using W = World<Config>;
  script.push_back([](W& w) { w.connect("a", with_will("will/a", 10, 500)); });
  script.push_back([](W& w) {
    w.bench->put_subscribe(w.at("a"), "x/#", 1, 7);
    w.bench->settle();
  });
  script.push_back([](W& w) {
    mqtt::Subscription it;
    it.filter = "x/+";
    it.qos = static_cast<Qos>(2);
    it.retain_as_published = true;
    w.bench->put_subscribe(w.at("a"), it, 9);
    w.bench->settle();
  });
  script.push_back([](W& w) {
    w.bench->put_subscribe(w.at("a"), "$share/g/s/+", 1, 300);
    w.bench->settle();
  });
  script.push_back([](W& w) {
    mqtt::Subscription it;
    it.filter = "local/#";
    it.qos = static_cast<Qos>(1);
    it.no_local = true;
    w.bench->put_subscribe(w.at("a"), it, 0);
    w.bench->settle();
  });
  script.push_back([](W& w) { w.connect("b", session_of(Version::v3_1_1)); });
  script.push_back([](W& w) {
    w.bench->put_subscribe(w.at("b"), "x/1", 1);
    w.bench->settle();
  });
  script.push_back([](W& w) {
    w.bench->put_subscribe(w.at("b"), "y/#", 2);
    w.bench->settle();
  });
  script.push_back([](W& w) { w.connect("p", with_will("will/p", 0)); });
  script.push_back([](W& w) { w.connect("zero", session_of(Version::v5, 0)); });
  script.push_back([](W& w) {
    w.bench->put_subscribe(w.at("zero"), "x/1", 2);
    w.bench->settle();
  });
}

template <typename Config>
void publish_rich(World<Config>& w, const char* name, mqtt::Publish packet, uint32_t expiry_s) {
  Props properties;
  properties.number(PropertyId::message_expiry_interval, expiry_s);
  properties.text(PropertyId::content_type, "kind");
  properties.binary(PropertyId::correlation_data, "42");
  properties.user("one", "1");
  properties.user("two", "2");
  packet.properties = properties;
  w.publish(name, packet);
}

template <typename Config>
void add_messages(Script<Config>& script) {
  using W = World<Config>;
  script.push_back([](W& w) { publish_rich(w, "p", message("r/1", "rich", 1, true), 100); });
  script.push_back([](W& w) { w.publish("p", message("r/2", "two", 0, true)); });
  script.push_back([](W& w) {
    const std::string large(5000, 'L');
    w.publish("p", message("r/3", Text(large), 1, true));
  });
  script.push_back([](W& w) { publish_rich(w, "p", message("x/1", "m1", 1), 200); });
  script.push_back([](W& w) { w.acknowledge("b"); });
  script.push_back([](W& w) { w.publish("p", message("x/2", "m2", 2, true)); });
  script.push_back([](W& w) { w.ack("p", PacketType::pubrel, w.at("p").link().next_id); });
  script.push_back([](W& w) { w.publish("p", message("x/1", "m3", 2)); });
  script.push_back([](W& w) { w.ack("p", PacketType::pubrel, w.at("p").link().next_id); });
  script.push_back([](W& w) { w.acknowledge("a"); });
  script.push_back([](W& w) { w.acknowledge("a"); });
  script.push_back([](W& w) { w.publish("p", message("r/2", "", 0, true)); });
  script.push_back([](W& w) { w.publish("p", message("s/1", "shared", 1)); });
  script.push_back([](W& w) { w.drop("b"); });
  script.push_back([](W& w) { w.publish("p", message("y/1", "y1", 2)); });
  script.push_back([](W& w) { w.ack("p", PacketType::pubrel, w.at("p").link().next_id); });
  script.push_back([](W& w) { publish_rich(w, "p", message("x/1", "m4", 1), 50); });
  script.push_back([](W& w) { w.bench->seconds(20); });
  script.push_back([](W& w) { w.acknowledge("a"); });
  script.push_back([](W& w) { w.drop("a"); });
  script.push_back([](W& w) { w.publish("p", message("x/1", "m5", 2)); });
  script.push_back([](W& w) { w.publish("p", message("x/9", "m6", 1)); });
  script.push_back([](W& w) { w.ack("p", PacketType::pubrel, w.at("p").link().next_id - 1); });
}

template <typename Config>
void add_returns(Script<Config>& script) {
  using W = World<Config>;
  script.push_back([](W& w) { w.connect("b", session_of(Version::v3_1_1)); });
  script.push_back([](W& w) { w.acknowledge("b"); });
  script.push_back([](W& w) { w.acknowledge("b"); });
  script.push_back([](W& w) { w.acknowledge("b"); });
  script.push_back([](W& w) { w.connect("a", with_will("will/a2", 3)); });
  script.push_back([](W& w) { w.acknowledge("a"); });
  script.push_back([](W& w) { w.acknowledge("a"); });
  script.push_back([](W& w) { w.acknowledge("a"); });
  script.push_back([](W& w) { w.publish("p", message("x/7", "open", 2)); });
  script.push_back([](W& w) { w.drop("p"); });
  script.push_back([](W& w) { w.connect("p", session_of(Version::v5)); });
  script.push_back([](W& w) { w.connect("c", session_of(Version::v5, 30)); });
  script.push_back([](W& w) {
    w.bench->put_subscribe(w.at("c"), "x/1", 2, 1);
    w.bench->settle();
  });
  script.push_back([](W& w) { w.drop("c"); });
  script.push_back([](W& w) { w.bench->seconds(10); });
  script.push_back([](W& w) { w.publish("p", message("x/1", "m8", 1)); });
  script.push_back([](W& w) {
    w.bench->put_unsubscribe(w.at("a"), "x/#");
    w.bench->settle();
  });
  script.push_back([](W& w) {
    Session fresh;
    fresh.clean = true;
    w.at("b").drop();
    w.connect("b", fresh);
  });
  script.push_back([](W& w) { w.publish("p", message("x/1", "m9", 1)); });
  script.push_back([](W& w) {
    Props never;
    never.number(PropertyId::session_expiry_interval, 0);
    w.at("a").disconnect(mqtt::ReasonCode::success, never);
    w.clients.erase("a");
    w.bench->settle();
  });
  script.push_back([](W& w) { w.connect("d", session_of(Version::v3_1)); });
  script.push_back([](W& w) { w.bench->seconds(25); });
}

template <typename Config>
Script<Config> whole_script() {
  Script<Config> script;
  add_subscriptions(script);
  add_messages(script);
  add_returns(script);
  return script;
}

// Everything a client can see of a broker whose links are all lost.
template <typename Config>
class Probe {
 public:
  explicit Probe(Bench<Config>& bench, std::map<std::string, uint16_t> ids)
      : bench_(bench), ids_(std::move(ids)) {}

  std::string sessions() {
    std::string out;
    for (int i = 0; i < 9; ++i) {
      const mqtt::BrokerStatistics now = bench_.statistics();
      out += std::to_string(now.sessions) + "/" + std::to_string(now.subscriptions) + "/" +
             std::to_string(now.retained) + " ";
      bench_.seconds(i < 8 ? 5 : 3600);
    }
    return out + std::to_string(bench_.statistics().sessions);
  }

  std::string messages() {
    using C = sim::Client<Config>;
    Session passing;
    passing.clean = true;
    passing.expiry_s = 0;
    const C watcher = bench_.connect("watcher", passing);
    bench_.put_subscribe(watcher, "#", 2);
    bench_.seconds(11);  // wills
    std::string out = "retained and wills:\n" + sorted(watcher);
    std::map<std::string, C> clients;
    for (const char* name : {"a", "b", "c", "d", "p"}) {
      const Version version = name[0] == 'b' || name[0] == 'd' ? Version::v3_1_1 : Version::v5;
      clients[name] = bench_.start(name, session_of(version));
      bench_.settle();
      out += std::string(name) + ":\n" + drained(clients[name]);
    }
    for (uint16_t id = 1; id <= ids_["p"] + 1; ++id) {
      clients["p"].ack(PacketType::pubrel, id);
      bench_.settle();
    }
    out += "pubrels:\n" + drained(clients["p"]);
    out += sorted(watcher);
    for (const char* topic : {"x/1", "x/2", "x/1/2", "y/1", "s/1", "local/1"}) {
      for (const char* from : {"p", "a"}) {
        clients[from].publish(message(topic, "probe", 2, true));
        bench_.settle();
        out += topic + std::string(" from ") + from + "\n" + sorted(watcher);
        for (auto& it : clients) { out += it.first + ":\n" + drained(it.second); }
      }
    }
    return out;
  }

 private:
  // The client's packets in their order, acknowledged until there are no more.
  std::string drained(const sim::Client<Config>& client) {
    std::string out;
    while (client.has_packet()) {
      const Packet packet = client.next();
      out += line(packet);
      answer(client, packet);
    }
    return out;
  }
  std::string sorted(const sim::Client<Config>& client) {
    std::vector<std::string> lines;
    while (client.has_packet()) {
      Packet packet = client.next();
      answer(client, packet);
      packet.packet_id = 0;
      lines.push_back(line(packet));
    }
    std::sort(lines.begin(), lines.end());
    std::string out;
    for (const std::string& it : lines) { out += it; }
    return out;
  }
  void answer(const sim::Client<Config>& client, const Packet& packet) {
    if (packet.type == PacketType::publish && packet.qos == Qos::at_least_once) {
      client.ack(PacketType::puback, packet.packet_id);
    } else if (packet.type == PacketType::publish && packet.qos == Qos::exactly_once) {
      client.ack(PacketType::pubrec, packet.packet_id);
    } else if (packet.type == PacketType::pubrec) {
      client.ack(PacketType::pubrel, packet.packet_id);
    } else if (packet.type == PacketType::pubrel) {
      client.ack(PacketType::pubcomp, packet.packet_id);
    }
    bench_.settle();
  }

  Bench<Config>& bench_;
  std::map<std::string, uint16_t> ids_;
};

// A broker that lost all links after `count` steps, and the log of its journal at that moment.
template <typename Config>
struct Played {
  World<Config> world;
  Log log;

  Played(const Script<Config>& script, size_t count,
         const std::function<void(Bench<Config>&)>& after_each = {}) {
    for (size_t i = 0; i < count; ++i) {
      script[i](world);
      if (after_each) { after_each(*world.bench); }
    }
    log = world.bench->journal().log;
  }
};

// The first line that differs, with its neighbours.
std::string difference(const std::string& restored, const std::string& original) {
  size_t at = 0;
  while (at < restored.size() && at < original.size() && restored[at] == original[at]) { at += 1; }
  if (at == restored.size() && at == original.size()) { return ""; }
  const size_t from = at < 300 ? 0 : at - 300;
  return "restored:\n" + restored.substr(from, 500) + "\noriginal:\n" + original.substr(from, 500);
}

// Compares the broker itself with what `log` brings back.
template <typename Config>
void compare(Played<Config>& played, const Log& log, bool ages) {
  Bench<Config> restored;
  restored.b.now = played.world.bench->b.now;
  restored.journal().wall = played.world.bench->journal().wall;
  REQUIRE(restored.restore(log) == mqtt::Error::none);
  restored.settle();
  played.world.lose_all();
  restored.seconds(1);  // wills without a delay
  played.world.bench->seconds(1);
  Probe<Config> original(*played.world.bench, played.world.ids);
  Probe<Config> copy(restored, played.world.ids);
  if (ages) {
    CHECK(difference(copy.sessions(), original.sessions()) == "");
  } else {
    CHECK(difference(copy.messages(), original.messages()) == "");
  }
}

template <typename Config>
void restore_everywhere() {
  const Script<Config> script = whole_script<Config>();
  for (size_t count = 1; count <= script.size(); ++count) {
    CAPTURE(count);
    for (const bool ages : {false, true}) {
      Played<Config> played(script, count);
      compare(played, Log(played.log), ages);
    }
  }
}

TEST_CASE("after a crash the broker is what its journal says, at every point") {
  restore_everywhere<Wide>();
}
TEST_CASE("after a crash the broker is what its journal says, with a 16-bit index") {
  restore_everywhere<Narrow>();
}

TEST_CASE("a log cut between any two records restores") {
  const Script<Wide> script = whole_script<Wide>();
  const Played<Wide> played(script, script.size());
  for (size_t count = 0; count <= played.log.size(); ++count) {
    CAPTURE(count);
    Bench<Wide> restored;
    restored.journal().wall = 1700000060;
    REQUIRE(restored.restore(played.log, count) == mqtt::Error::none);
    restored.settle();
  }
}

TEST_CASE("a log is restored again after a restart") {
  const Script<Wide> script = whole_script<Wide>();
  for (size_t count = 5; count <= script.size(); count += 3) {
    CAPTURE(count);
    Played<Wide> played(script, count);
    Bench<Wide> second;
    second.b.now = played.world.bench->b.now;
    second.journal().wall = played.world.bench->journal().wall;
    REQUIRE(second.restore(played.log) == mqtt::Error::none);
    second.settle();
    compare(played, Log(second.journal().log), false);
  }
}

// ---- snapshot
// ------------------------------------------------------------------------------------

// A snapshot begun after `begin` steps, one slice after each of them; what the journal gets from
// then on goes behind the slices that are there.
template <typename Config>
Log snapshot_log(Played<Config>*& played, const Script<Config>& script, size_t begin,
                 size_t count) {
  Log fresh;
  mqtt::BrokerSnapshot<mqtt::BrokerEngine<Config>> snapshot;
  size_t step = 0;
  size_t taken = 0;
  const auto sink = [&](const JournalRecord& record) { fresh.emplace_back(record); };
  played = new Played<Config>(script, count, [&](Bench<Config>& bench) {
    const Log& log = bench.journal().log;
    if (step >= begin) {
      if (step == begin) { taken = log.size(); }
      fresh.insert(fresh.end(), log.begin() + static_cast<std::ptrdiff_t>(taken), log.end());
      snapshot.next(bench.b.engine(), sink);
      taken = log.size();
    }
    step += 1;
  });
  while (snapshot.next(played->world.bench->b.engine(), sink)) {}
  return fresh;
}

TEST_CASE("a snapshot and what was written since its begin restore the same") {
  const Script<Wide> script = whole_script<Wide>();
  for (size_t begin = 0; begin < script.size(); begin += 1) {
    for (const size_t more : {size_t{1}, size_t{2}, size_t{3}, size_t{5}, size_t{8}, size_t{13}}) {
      if (begin + more > script.size()) { continue; }
      CAPTURE(begin);
      CAPTURE(more);
      Played<Wide>* played = nullptr;
      const Log fresh = snapshot_log(played, script, begin, begin + more);
      const std::unique_ptr<Played<Wide>> owner(played);
      compare(*played, fresh, more % 2 == 0);
    }
  }
}

TEST_CASE("the old log stays good while a snapshot is being written") {
  const Script<Wide> script = whole_script<Wide>();
  for (const size_t begin : {size_t{20}, size_t{30}, size_t{40}}) {
    CAPTURE(begin);
    Played<Wide>* played = nullptr;
    snapshot_log(played, script, begin, begin + 8);
    const std::unique_ptr<Played<Wide>> owner(played);
    compare(*played, Log(played->log), false);
  }
}

// ---- limits and time
// -----------------------------------------------------------------------------

TEST_CASE("a restore into smaller limits is an error") {
  const Script<Wide> script = whole_script<Wide>();
  const Played<Wide> played(script, 35);
  using Change = std::function<void(mqtt::BrokerLimits&)>;
  const Change changes[] = {[](mqtt::BrokerLimits& it) { it.sessions = 1; },
                            [](mqtt::BrokerLimits& it) { it.subscriptions = 2; },
                            [](mqtt::BrokerLimits& it) { it.filters = 2; },
                            [](mqtt::BrokerLimits& it) { it.filter_nodes = 2; },
                            [](mqtt::BrokerLimits& it) { it.retained = 1; },
                            [](mqtt::BrokerLimits& it) { it.retained_nodes = 2; },
                            [](mqtt::BrokerLimits& it) { it.text_blocks = 2; },
                            [](mqtt::BrokerLimits& it) {
                              it.blocks = 16;
                              it.large_blocks = 0;
                            }};
  int number = 0;
  for (const Change& change : changes) {
    CAPTURE(number);
    number += 1;
    mqtt::BrokerLimits limits = sim::small_limits();
    change(limits);
    Bench<Wide> restored(limits);
    restored.journal().wall = played.world.bench->journal().wall;
    CHECK(restored.restore(played.log) == mqtt::Error::buffer_too_small);
    restored.settle();
  }
}

TEST_CASE("a log of many more messages than the store holds restores") {
  Bench<Wide> bench;
  const auto client = bench.connect("client");
  bench.subscribe(client, "a", 2);
  client.link().acks = true;
  const auto other = bench.connect("other");
  other.link().acks = true;
  for (int i = 0; i < 6000; ++i) {
    other.publish("a", "twenty bytes or more of it", i % 3, i % 5 == 0);
    if (i % 10 == 0) {
      bench.settle();
      client.clear();
      other.clear();
    }
  }
  bench.settle();
  const auto restored = revived(bench);
  CHECK(restored->statistics().sessions == 2);
  CHECK(restored->statistics().stored == 1);
}

TEST_CASE("QoS 0 kept for a missing link comes back once") {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.queue_qos_0 = true;
  Bench<Wide> bench(limits);
  const auto first = bench.connect("client");
  bench.subscribe(first, "a", 0);
  first.drop();
  const auto other = bench.connect("other");
  bench.publish(other, message("a", "zero"));
  const auto before = revived(bench);
  const auto late = before->connect("client");
  CHECK(late.message().payload == "zero");
  const auto second = bench.connect("client");
  CHECK(second.message().payload == "zero");
  bench.settle();
  const auto after = revived(bench);
  CHECK(after->connect("client").quiet());
}

TEST_CASE("a session that was connected at a crash expires once over all restarts") {
  Bench<Wide> bench;
  bench.connect("client", session_of(Version::v5, 60));
  auto second = revived(bench);
  second->seconds(40);
  second->settle();
  const auto third = revived(*second);
  CHECK(third->statistics().sessions == 1);
  third->seconds(25);
  CHECK(third->statistics().sessions == 0);
}

TEST_CASE("what runs out while the broker is down is gone at once [MQTT-4.1.0-2] [MQTT-3.3.2-5]") {
  Bench<Wide> bench;
  const auto kept = bench.connect("kept");
  bench.subscribe(kept, "q", 1);
  kept.drop();
  bench.connect("brief", session_of(Version::v5, 2)).drop();
  const auto other = bench.connect("other");
  Props properties;
  properties.number(PropertyId::message_expiry_interval, 3);
  mqtt::Publish packet = message("q", "queued", 1);
  packet.properties = properties;
  bench.publish(other, packet);
  packet.topic = "r";
  packet.retain = true;
  bench.publish(other, packet);
  bench.settle();
  bench.journal().wall += 3;
  const auto after = revived(bench);
  after->connect("brief", session_of(Version::v5, 2));
  CHECK_FALSE(after->b.last_connack.session_present);
  const auto back = after->connect("kept");
  CHECK(after->b.last_connack.session_present);
  CHECK(back.quiet());
  after->subscribe(back, "r", 1);
  CHECK(back.quiet());
}

TEST_CASE("a message that is cut goes on while the next one waits for the journal") {
  for (const Version version : versions) {
    Bench<Wide> bench;
    const auto client = bench.connect("client", session_of(version, 60));
    bench.subscribe(client, "a", 2);
    client.set_window(0);
    const auto other = bench.connect("other");
    bench.publish(other, message("a", "first", 2));
    const uint16_t id = other.publish("a", "second", 2);
    bench.settle();
    other.ack(PacketType::pubrel, id);
    bench.b.run();
    client.set_window(6);
    bench.b.run();
    client.open_window();
    bench.settle();
    CHECK(client.message().payload == "first");
    CHECK(client.message().payload == "second");
  }
}

TEST_CASE("a will keeps its expiry interval over a crash [MQTT-3.1.3-9]") {
  Bench<Wide> bench;
  bench.connect("client", with_will("will/c", 5, 60));
  bench.seconds(100);
  const auto second = revived(bench);
  second->seconds(6);
  const auto watcher = second->connect("watcher");
  second->put_subscribe(watcher, "will/c", 1);
  const Packet will = watcher.message();
  CHECK(will.number(PropertyId::message_expiry_interval) >= 58);
}

TEST_CASE("while the journal takes no more, QoS > 0 is refused or waits, and QoS 0 flows") {
  for (const Version version : {Version::v3_1, Version::v3_1_1, Version::v5}) {
    for (const int qos : {1, 2}) {
      CAPTURE(sim::name(version));
      CAPTURE(qos);
      Bench<Wide> bench;
      const auto client = bench.b.connect(version, "p");
      const auto listener = bench.b.connect(version, "s");
      listener.subscribe("t", 0);
      bench.settle();
      bench.journal().full = true;
      client.publish("t", "refused", qos);
      client.publish("t", "flows", 0);
      bench.settle();
      const PacketType ack = qos == 1 ? PacketType::puback : PacketType::pubrec;
      if (version == Version::v5) {
        CHECK(client.take(ack).reason == mqtt::ReasonCode::quota_exceeded);
        CHECK(listener.take(PacketType::publish).payload == "flows");
      } else {
        CHECK(client.count(ack) == 0);  // and nothing behind it is read
        CHECK(listener.count(PacketType::publish) == 0);
      }
      bench.journal().full = false;
      client.publish("t", "kept", qos);
      bench.settle();
      bench.b.engine().durable(bench.journal().last());
      bench.settle();
      CHECK(client.count(ack) == (version == Version::v5 ? 1U : 2U));
    }
  }
}

TEST_CASE("a packet waits as long as the journal takes no more, and time goes on") {
  for (const Version version : versions) {
    CAPTURE(sim::name(version));
    Bench<Wide> bench;
    Session session;
    session.version = version;
    const auto client = bench.connect("p", session);
    bench.journal().full = true;
    // 5.0 is told, but of a payload in parts only once it is whole: that waits
    client.publish("t", version == Version::v5 ? std::string(70000, 'x') : std::string("x"), 1);
    bench.b.pass(60000);
    CHECK(client.count(PacketType::puback) == 0);
    CHECK_FALSE(client.closed());
    bench.journal().full = false;
    bench.b.pass(6000);
    bench.settle();
    CHECK(client.count(PacketType::puback) == 1);
  }
}

TEST_CASE("a will delay that has begun does not begin anew after a crash [MQTT-3.1.2-8]") {
  for (const uint32_t expiry_s : {3600U, 0xFFFFFFFFU}) {
    for (const bool written_anew : {false, true}) {
      CAPTURE(expiry_s);
      CAPTURE(written_anew);
      Bench<Wide> bench;
      Session session = with_will("will/c", 60, 0);
      session.expiry_s = expiry_s;
      bench.connect("client", session).drop();
      bench.seconds(40);
      if (written_anew) {
        mqtt::BrokerSnapshot<mqtt::BrokerEngine<Wide>> snapshot;
        Log anew;
        while (snapshot.next(bench.b.engine(),
                             [&](const JournalRecord& record) { anew.emplace_back(record); })) {}
        bench.journal().log = anew;
      }
      const auto second = revived(bench);
      const auto watcher = second->connect("watcher");
      second->subscribe(watcher, "will/c", 1);
      second->seconds(15);
      CHECK(watcher.quiet());
      const auto third = revived(*second);
      third->seconds(8);
      const auto late = third->connect("watcher");
      third->put_subscribe(late, "will/c", 1);
      CHECK(late.count(PacketType::publish) != 0);
    }
  }
}

TEST_CASE("a CONNACK that refuses does not wait for the journal [MQTT-3.1.4-2]") {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.blocks = 64;
  limits.large_blocks = 0;
  Bench<Wide> bench(limits);
  const std::string too_much(15000, 'w');
  const auto client = bench.b.start(Version::v5, "c", [&](mqtt::Connect& connect) {
    connect.has_will = true;
    connect.will.topic = "will";
    connect.will.payload = Text(too_much).bytes();
    static Props expiry;
    expiry.number(PropertyId::session_expiry_interval, 60);
    connect.properties = expiry;
  });
  CHECK(client.take(PacketType::connack).reason == mqtt::ReasonCode::quota_exceeded);
  CHECK(client.hung_up());
}

TEST_CASE("topics stay apart when room is made for a retained message [MQTT-3.3.1-5]") {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.retained = 1;
  Bench<Wide> bench(limits);
  const std::string old_topic = "old/" + std::string(300, 'o');
  const std::string topic = "new/" + std::string(300, 'n');
  const auto client = bench.connect("p");
  Props expiry;
  expiry.number(PropertyId::message_expiry_interval, 1);
  mqtt::Publish packet = message(Text(old_topic), "old", 1, true);
  packet.properties = expiry;
  bench.publish(client, packet);
  bench.seconds(3);
  bench.publish(client, message(Text(topic), "new", 2, true));
  const auto reader = bench.connect("reader");
  bench.put_subscribe(reader, Text(topic), 0);
  CHECK(reader.message().payload == "new");  // SUBACK waits for the journal
}

TEST_CASE("a journal that is off gets nothing and nothing waits for it") {
  Bench<Wide> bench;
  bench.journal().on = false;
  const auto listener = bench.b.connect_resumable(Version::v5, "s");
  listener.subscribe("t", 2);
  const auto publisher = bench.b.connect(Version::v5, "p");
  publisher.publish("t", "x", 2, true);
  bench.settle();
  CHECK(publisher.count(PacketType::pubrec) == 1);
  CHECK(bench.journal().log.empty());
}

TEST_CASE("sessions made after a restore get slots of their own") {
  Bench<Wide> bench;
  std::vector<sim::Client<Wide>> clients;
  for (int i = 0; i < 10; ++i) { clients.push_back(bench.connect(Text("s" + std::to_string(i)))); }
  for (size_t i = 0; i < 9; i += 2) {
    Props never;
    never.number(PropertyId::session_expiry_interval, 0);
    clients[i].disconnect(mqtt::ReasonCode::success, never);
  }
  bench.settle();
  const auto restored = revived(bench);
  CHECK(restored->statistics().sessions == 5);
  for (int i = 0; i < 14; ++i) {
    restored->connect(Text("n" + std::to_string(i))).drop();
    CHECK_FALSE(restored->b.last_connack.session_present);
  }
  for (int i = 1; i < 10; i += 2) {
    restored->connect(Text("s" + std::to_string(i))).drop();
    CHECK(restored->b.last_connack.session_present);
  }
}

// ---- crashes at random
// ---------------------------------------------------------------------------

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761U + 1) {}
  uint32_t below(uint32_t count) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return (state_ >> 3) % count;
  }

 private:
  uint32_t state_;
};

// A client with a memory that survives everything: what it has sent and not seen acknowledged,
// the QoS 2 ids it knows, and what it was given.
template <typename Config>
class Peer {
 public:
  struct Sent {
    uint16_t id;
    int qos;
    std::string topic;
    std::string payload;
    bool released;
  };
  std::string name;
  Version version = Version::v5;
  std::vector<Sent> sent;
  std::map<std::string, uint32_t> given;
  bool subscribed = false;

  bool linked() const { return linked_ && !client_.closed(); }
  bool open() const { return linked() && open_; }
  void forget_link() {
    linked_ = false;
    open_ = false;
  }
  void drop() {
    if (linked()) { client_.drop(); }
    forget_link();
  }
  void connect(Bench<Config>& bench) {
    client_ = bench.b.open(version);
    linked_ = true;
    open_ = false;
    mqtt::Connect connect;
    connect.version = version;
    connect.client_id = Text(name);
    connect.clean_start = false;
    connect.keep_alive_s = 0;
    Props properties;
    if (version == Version::v5) {
      properties.number(PropertyId::session_expiry_interval, 100000);
      properties.number(PropertyId::receive_maximum, 5);
      connect.properties = properties;
    }
    client_.put_packet(connect);
  }
  void subscribe(Text filter, int qos) {
    mqtt::Subscription entry;
    entry.filter = filter;
    entry.qos = static_cast<Qos>(qos);
    mqtt::Subscribe packet;
    packet.packet_id = new_id();
    packet.filters = entry;
    client_.put_packet(packet);
  }
  void publish(const std::string& topic, const std::string& payload, int qos) {
    sent.push_back({new_id(), qos, topic, payload, false});
    put(sent.back(), false);
  }
  // Takes up to `count` packets.
  void digest(uint32_t count) {
    while (count-- != 0 && linked() && client_.has_packet()) { take(client_.next()); }
  }

 private:
  uint16_t new_id() {
    do { last_id_ = mqtt::next_packet_id(last_id_); } while (find(last_id_) != sent.end());
    return last_id_;
  }
  typename std::vector<Sent>::iterator find(uint16_t id) {
    return std::find_if(sent.begin(), sent.end(), [id](const Sent& it) { return it.id == id; });
  }
  void put(const Sent& it, bool dup) {
    if (it.released) { return put_ack(PacketType::pubrel, it.id); }
    mqtt::Publish packet = message(Text(it.topic), Text(it.payload), it.qos);
    packet.packet_id = it.id;
    packet.dup = dup;
    client_.put_packet(packet);
  }
  void put_ack(PacketType type, uint16_t id) {
    mqtt::Ack ack;
    ack.type = type;
    ack.packet_id = id;
    client_.put_packet(ack);
  }
  void take(const Packet& packet) {
    CHECK((open_ || packet.type == PacketType::connack));
    switch (packet.type) {
      case PacketType::connack:
        CHECK((packet.session_present == known_ || version == Version::v3_1));
        known_ = true;
        open_ = true;
        for (const Sent& it : sent) { put(it, true); }
        break;
      case PacketType::suback: subscribed = true; break;
      case PacketType::publish: take_publish(packet); break;
      case PacketType::pubrel:
        known_ids_.erase(packet.packet_id);
        put_ack(PacketType::pubcomp, packet.packet_id);
        break;
      case PacketType::puback:
      case PacketType::pubcomp: settle(packet); break;
      case PacketType::pubrec: {
        const auto it = find(packet.packet_id);
        REQUIRE(it != sent.end());
        it->released = true;
        put(*it, false);
        break;
      }
      default: FAIL_CHECK("packet ", sim::hex(packet.wire));
    }
  }
  void take_publish(const Packet& packet) {
    if (packet.qos == Qos::exactly_once) {
      if (known_ids_.insert(packet.packet_id).second) { given[packet.payload] += 1; }
      put_ack(PacketType::pubrec, packet.packet_id);
    } else {
      given[packet.payload] += 1;
      put_ack(PacketType::puback, packet.packet_id);
    }
  }
  void settle(const Packet& packet) {
    const auto it = find(packet.packet_id);
    REQUIRE(it != sent.end());
    // PUBREL of what was delivered before the crash
    const bool unknown = packet.reason == mqtt::ReasonCode::packet_identifier_not_found;
    CHECK((!mqtt::failed(packet.reason) || (unknown && it->released)));
    CHECK((it->qos == 2) == (packet.type == PacketType::pubcomp));
    sent.erase(it);
  }

  sim::Client<Config> client_;
  bool linked_ = false;
  bool open_ = false;
  bool known_ = false;  // the broker has told us of a session
  uint16_t last_id_ = 0;
  std::set<uint16_t> known_ids_;
};

// Lives of one broker: work, crash, restore, and at last a quiet end.
template <typename Config>
class Storm {
 public:
  explicit Storm(uint32_t seed) : random_(seed) {
    limits_ = sim::small_limits();
    limits_.queued_max = 10000;
    bench_ = std::make_unique<Bench<Config>>(limits_);
    for (size_t i = 0; i < 4; ++i) {
      peers_[i].name = "peer" + std::to_string(i);
      peers_[i].version = versions[(seed + i) % 3];
      peers_[i].connect(*bench_);
    }
    rest();
    peers_[2].subscribe("t/#", 2);
    peers_[3].subscribe("t/1", 1);
    rest();
    REQUIRE((peers_[2].subscribed && peers_[3].subscribed));
  }

  void run() {
    for (uint32_t life = 0; life < 4; ++life) {
      const uint32_t work = 20 + random_.below(200);
      for (uint32_t i = 0; i < work; ++i) { act(); }
      crash();
    }
    for (Peer<Config>& it : peers_) { it.connect(*bench_); }
    rest();
    check();
  }

 private:
  static constexpr uint64_t never = ~uint64_t{0};

  MemoryJournal& journal() { return bench_->journal(); }
  void turn() {
    const size_t from = journal().log.size();
    bench_->b.turn();
    note(from);
  }
  // Records a turn's end, and what it wrote for the snapshot.
  void note(size_t from) {
    const Log& log = journal().log;
    if (snapshot_.begun()) {
      fresh_.insert(fresh_.end(), log.begin() + static_cast<std::ptrdiff_t>(from), log.end());
    }
    if (ends_.empty() || ends_.back() != journal().last()) { ends_.push_back(journal().last()); }
  }
  void set_durable(uint64_t sequence) {
    durable_ = std::max(durable_, sequence);
    bench_->b.engine().durable(durable_);
  }
  void act() {
    Peer<Config>& peer = peers_[random_.below(4)];
    const uint32_t dice = random_.below(100);
    if (dice < 30) {
      if (peer.open() && peer.sent.size() < 20) {
        peer.publish("t/" + std::to_string(random_.below(3)), "m" + std::to_string(number_++),
                     1 + static_cast<int>(random_.below(2)));
        qos_.push_back(peer.sent.back().qos);
        one_.push_back(peer.sent.back().topic == "t/1");
      }
    } else if (dice < 60) {
      turn();
    } else if (dice < 75) {
      peer.digest(1 + random_.below(4));
    } else if (dice < 85) {
      if (!ends_.empty()) {
        set_durable(ends_[random_.below(static_cast<uint32_t>(ends_.size()))]);
      }
    } else if (dice < 90) {
      if (!peer.linked()) { peer.connect(*bench_); }
    } else if (dice < 94) {
      const size_t from = journal().log.size();
      peer.drop();
      note(from);
    } else {
      snapshot();
    }
  }
  // A slice; when there are no more the new log takes the old one's place.
  void snapshot() {
    const auto sink = [this](const JournalRecord& record) { fresh_.emplace_back(record); };
    if (!snapshot_.begun() && random_.below(4) != 0) { return; }
    if (snapshot_.next(bench_->b.engine(), sink)) { return; }
    const uint64_t last = journal().last();
    journal().log = fresh_;
    journal().before = last - fresh_.size();
    set_durable(last);
    ends_.assign(1, last);
    snapshot_ = {};
    fresh_.clear();
  }
  void crash() {
    std::vector<uint64_t> cuts;
    for (const uint64_t end : ends_) {
      if (end >= durable_) { cuts.push_back(end); }
    }
    const uint64_t cut =
        cuts.empty() ? durable_ : cuts[random_.below(static_cast<uint32_t>(cuts.size()))];
    const MemoryJournal old = journal();
    auto next = std::make_unique<Bench<Config>>(limits_);
    next->journal().wall = old.wall + 10;
    REQUIRE(next->restore(old.log, static_cast<size_t>(cut - old.before)) == mqtt::Error::none);
    bench_ = std::move(next);
    durable_ = 0;
    ends_.clear();
    snapshot_ = {};
    fresh_.clear();
    for (Peer<Config>& it : peers_) { it.forget_link(); }
    set_durable(journal().last());
  }
  void rest() {
    for (int idle = 0; idle < 10; ++idle) {
      turn();
      set_durable(journal().last());
      for (Peer<Config>& it : peers_) { it.digest(1000); }
      idle = bench_->b.turn() || durable_ != journal().last() ? 0 : idle;
    }
  }
  void check() {
    for (const Peer<Config>& it : peers_) { CHECK(it.sent.empty()); }
    for (uint32_t i = 0; i < number_; ++i) {
      const std::string payload = "m" + std::to_string(i);
      CAPTURE(payload);
      CAPTURE(qos_[i]);
      const uint32_t all = peers_[2].given[payload];
      CHECK((qos_[i] == 2 ? all == 1 : all >= 1));
      if (one_[i]) { CHECK(peers_[3].given[payload] >= 1); }
    }
  }

  Random random_;
  mqtt::BrokerLimits limits_;
  std::unique_ptr<Bench<Config>> bench_;
  Peer<Config> peers_[4];
  std::vector<uint64_t> ends_;
  uint64_t durable_ = 0;
  mqtt::BrokerSnapshot<mqtt::BrokerEngine<Config>> snapshot_;
  Log fresh_;
  uint32_t number_ = 0;
  std::vector<int> qos_;
  std::vector<bool> one_;
};

uint32_t storms(uint32_t otherwise) {
  const char* wish = std::getenv("MQTT_STORMS");
  return wish != nullptr ? static_cast<uint32_t>(std::atoi(wish)) : otherwise;
}

TEST_CASE("crashes lose no acknowledged message and double no QoS 2 message") {
  const uint32_t count = storms(300);
  for (uint32_t seed = 1; seed <= count; ++seed) {
    CAPTURE(seed);
    if (seed % 3 == 0) {
      Storm<Narrow>(seed).run();
    } else {
      Storm<Wide>(seed).run();
    }
  }
  MESSAGE(count, " runs of 4 crashes each");
}

}  // namespace
