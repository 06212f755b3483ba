// A broker engine over links in memory and a clock that is a number.
//
// The port of this bench is as unkind as the contract allows: input comes whole, one byte at a
// time or in pieces of any size, output is taken whole, byte by byte or not at all, the arena is
// freed after end_turn() and the scratch memory wiped after sent().
#ifndef MQTT_TESTS_SIM_BROKER_SIM_HPP
#define MQTT_TESTS_SIM_BROKER_SIM_HPP

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mqtt.hpp"

namespace sim {

using mqtt::Bytes;
using mqtt::PacketType;
using mqtt::PropertyId;
using mqtt::Qos;
using mqtt::ReasonCode;
using mqtt::Text;
using mqtt::Version;

/// How bytes pass: as they come; one byte a turn in; one byte a turn out; pieces of random size
/// both ways.
enum class Wire : uint8_t { whole, bytes_in, bytes_out, pieces };

inline std::string name(Wire wire) {
  switch (wire) {
    case Wire::whole: return "whole";
    case Wire::bytes_in: return "one byte in";
    case Wire::bytes_out: return "one byte out";
    case Wire::pieces: return "random pieces";
  }
  return "";
}
inline std::string name(Version version) {
  return version == Version::v5 ? "5.0" : version == Version::v3_1_1 ? "3.1.1" : "3.1";
}

/// A property list with its bytes.
class Props {
 public:
  Props& number(PropertyId id, uint32_t value) {
    writer_.number(id, value);
    return *this;
  }
  Props& text(PropertyId id, Text value) {
    writer_.text(id, value);
    return *this;
  }
  Props& binary(PropertyId id, Text value) {
    writer_.binary(id, value.bytes());
    return *this;
  }
  Props& user(Text name, Text value) {
    writer_.user_property(name, value);
    return *this;
  }
  operator mqtt::Properties() const {  // NOLINT: meant to convert
    CHECK_FALSE(writer_.failed());
    return writer_.properties();
  }

 private:
  uint8_t bytes_[1024];
  mqtt::PropertyWriter writer_{mqtt::Buffer(bytes_)};

 public:
  Props() = default;
  Props(const Props&) = delete;
  Props& operator=(const Props&) = delete;
};

inline std::string text(Text view) { return std::string(view.data(), view.size()); }
inline std::string text(Bytes view) { return text(Text(view)); }

inline std::string bytes(const char* hex) {
  std::string out;
  int high = -1;
  for (; *hex != 0; ++hex) {
    const char c = *hex;
    if (c == ' ') { continue; }
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<char>(high * 16 + digit));
      high = -1;
    }
  }
  return out;
}
inline std::string hex(const std::string& raw) {
  static const char digits[] = "0123456789abcdef";
  std::string out;
  for (const char c : raw) {
    out.push_back(digits[static_cast<uint8_t>(c) >> 4]);
    out.push_back(digits[static_cast<uint8_t>(c) & 15]);
  }
  return out;
}

/// A packet as a client got it, with memory of its own.
struct Packet {
  PacketType type{};
  std::string wire;
  bool dup = false;
  bool retain = false;
  bool session_present = false;
  Qos qos = Qos::at_most_once;
  uint16_t packet_id = 0;
  std::string topic;  // aliases resolved
  bool topic_left_out = false;
  std::string payload;
  ReasonCode reason = ReasonCode::success;
  std::vector<uint8_t> codes;
  std::string properties;

  mqtt::Properties list() const { return mqtt::Properties(Text(properties).bytes()); }
  bool has(PropertyId id) const {
    mqtt::Property property;
    return list().find(id, property);
  }
  uint32_t number(PropertyId id, uint32_t otherwise = 0) const {
    return list().number(id, otherwise);
  }
  std::string string(PropertyId id) const { return text(list().text(id)); }
  std::string binary(PropertyId id) const {
    mqtt::Property property;
    return list().find(id, property) ? text(property.bytes) : std::string();
  }
  /// "a=1;b=2;" for user properties in their order.
  std::string user() const {
    std::string out;
    mqtt::Property property;
    for (mqtt::Properties rest = list(); rest.next(property);) {
      if (property.id == PropertyId::user_property) {
        out += text(property.text) + "=" + text(property.value) + ";";
      }
    }
    return out;
  }
  /// The subscription identifiers in rising order: "1 2 3".
  std::string identifiers() const {
    std::vector<uint32_t> found;
    mqtt::Property property;
    for (mqtt::Properties rest = list(); rest.next(property);) {
      if (property.id == PropertyId::subscription_identifier) { found.push_back(property.number); }
    }
    return joined(found);
  }
  static std::string joined(std::vector<uint32_t> numbers) {
    std::sort(numbers.begin(), numbers.end());
    std::string out;
    for (const uint32_t number : numbers) {
      out += (out.empty() ? "" : " ") + std::to_string(number);
    }
    return out;
  }
};

/// Fills a Packet from any struct of the codec.
class Collector {
 public:
  explicit Collector(Packet& packet) : packet_(packet) {}
  void operator()(const mqtt::Connack& p) const {
    packet_.session_present = p.session_present;
    packet_.reason = p.reason_code;
    keep(p.properties);
  }
  void operator()(const mqtt::Publish& p) const {
    packet_.dup = p.dup;
    packet_.retain = p.retain;
    packet_.qos = p.qos;
    packet_.packet_id = p.packet_id;
    packet_.topic = text(p.topic);
    packet_.payload = text(p.payload);
    keep(p.properties);
  }
  void operator()(const mqtt::Ack& p) const {
    packet_.packet_id = p.packet_id;
    packet_.reason = p.reason_code;
    keep(p.properties);
  }
  void operator()(const mqtt::Suback& p) const { codes(p.packet_id, p.reason_codes, p.properties); }
  void operator()(const mqtt::Unsuback& p) const {
    codes(p.packet_id, p.reason_codes, p.properties);
  }
  void operator()(const mqtt::Disconnect& p) const {
    packet_.reason = p.reason_code;
    keep(p.properties);
  }
  void operator()(const mqtt::Auth& p) const {
    packet_.reason = p.reason_code;
    keep(p.properties);
  }
  template <typename Other>
  void operator()(const Other&) const {}

 private:
  void keep(mqtt::Properties properties) const { packet_.properties = text(properties.wire()); }
  void codes(uint16_t id, Bytes codes, mqtt::Properties properties) const {
    packet_.packet_id = id;
    packet_.codes.assign(codes.begin(), codes.end());
    keep(properties);
  }

  Packet& packet_;
};

/// The client's end of a link.
struct Link {
  mqtt::ConnectionId id;
  Version version = Version::v3_1_1;
  bool open = false;               // the transport is up
  bool hung_up = false;            // the broker closed it
  bool acks = true;                // acknowledge what comes by itself
  bool decodes = true;             // else only all_in is kept
  uint64_t window = ~uint64_t{0};  // bytes the transport takes in all
  std::string out;                 // to the broker, not yet read by it
  std::string in;                  // from the broker, not yet a packet
  std::string all_in;              // everything from the broker
  std::string all_out;             // everything to the broker, read by it or not
  std::deque<Packet> packets;
  std::map<uint32_t, std::string> aliases;
  uint16_t next_id = 0;
};

/// Small enough to be made for every case, large enough for what the case is about.
inline mqtt::BrokerLimits small_limits() {
  mqtt::BrokerLimits limits;
  limits.connections = 16;
  limits.sessions = 24;
  limits.subscriptions = 128;
  limits.filters = 128;
  limits.filter_nodes = 512;
  limits.retained = 256;
  limits.retained_nodes = 512;
  limits.blocks = 2048;
  limits.large_blocks = 64;
  limits.text_blocks = 1024;
  limits.turn_records = 256;
  limits.control_packet_bytes_max = 16384;
  return limits;
}

template <typename Engine>
auto check_engine(Engine& engine, int) -> decltype(engine.check_invariants(), void()) {
  if constexpr (std::is_same<decltype(engine.check_invariants()), bool>::value) {
    CHECK(engine.check_invariants());
  } else {
    engine.check_invariants();
  }
}
template <typename Engine>
void check_engine(Engine&, long) {}

template <typename Config = mqtt::BrokerConfig>
class Broker;

/// A client of a simulated broker; copies name the same one.
template <typename Config>
class Client {
 public:
  using B = Broker<Config>;
  Client() = default;
  Client(B* broker, Link* link) : broker_(broker), link_(link) {}

  Link& link() const { return *link_; }
  Version version() const { return link_->version; }
  bool v5() const { return link_->version == Version::v5; }
  bool closed() const { return !link_->open; }
  bool hung_up() const { return link_->hung_up; }
  void own_acks() const { link_->acks = false; }
  B& broker() const { return *broker_; }
  mqtt::ConnectionId id() const { return link_->id; }

  /// Bytes for the broker; they arrive as the wire lets them.
  void put(const std::string& raw) const {
    link_->out += raw;
    link_->all_out += raw;
  }
  void raw(const std::string& raw) const {
    put(raw);
    broker_->run();
  }
  void raw_hex(const char* hex) const { raw(bytes(hex)); }
  template <typename P>
  static std::string encoded(Version version, const P& packet) {
    const auto size = mqtt::encoded_size(version, packet);
    REQUIRE(size.error == mqtt::Error::none);
    std::string target(size.value, 0);
    const mqtt::Buffer buffer(reinterpret_cast<uint8_t*>(&target[0]), size.value);
    REQUIRE(mqtt::encode(version, packet, buffer).error == mqtt::Error::none);
    return target;
  }
  template <typename P>
  void put_packet(const P& packet) const {
    put(encoded(link_->version, packet));
  }
  template <typename P>
  void send(const P& packet) const {
    put_packet(packet);
    broker_->run();
  }

  uint16_t new_id() const {
    link_->next_id = mqtt::next_packet_id(link_->next_id);
    return link_->next_id;
  }
  /// Sends a PUBLISH with an id of its own and returns the id.
  uint16_t publish(mqtt::Publish packet) const {
    packet.packet_id = packet.qos == Qos::at_most_once ? uint16_t{0} : new_id();
    send(packet);
    return packet.packet_id;
  }
  uint16_t publish(Text topic, Text payload, int qos = 0, bool retain = false) const {
    mqtt::Publish packet;
    packet.topic = topic;
    packet.payload = payload.bytes();
    packet.qos = static_cast<Qos>(qos);
    packet.retain = retain;
    return publish(packet);
  }
  /// Sends a SUBSCRIBE and returns SUBACK's one code.
  uint8_t subscribe(const mqtt::Subscription& entry, mqtt::Properties properties = {}) const {
    mqtt::Subscribe packet;
    packet.packet_id = new_id();
    packet.filters = entry;
    packet.properties = properties;
    put_packet(packet);
    broker_->run();
    const Packet answer = take(PacketType::suback);
    CHECK(answer.packet_id == packet.packet_id);
    REQUIRE(answer.codes.size() == 1);
    return answer.codes[0];
  }
  uint8_t subscribe(Text filter, int qos = 0, uint32_t identifier = 0) const {
    mqtt::Subscription entry;
    entry.filter = filter;
    entry.qos = static_cast<Qos>(qos);
    Props properties;
    if (identifier != 0) { properties.number(PropertyId::subscription_identifier, identifier); }
    return subscribe(entry, properties);
  }
  void unsubscribe(Text filter) const {
    mqtt::Unsubscribe packet;
    packet.packet_id = new_id();
    mqtt::Subscription entry;
    entry.filter = filter;
    packet.filters = entry;
    send(packet);
    CHECK(take(PacketType::unsuback).packet_id == packet.packet_id);
  }
  void ack(PacketType type, uint16_t packet_id, ReasonCode reason = ReasonCode::success) const {
    mqtt::Ack packet;
    packet.type = type;
    packet.packet_id = packet_id;
    packet.reason_code = reason;
    send(packet);
  }
  /// Sends DISCONNECT and waits for the end.
  void disconnect(ReasonCode reason = ReasonCode::success, mqtt::Properties properties = {}) const {
    mqtt::Disconnect packet;
    packet.reason_code = reason;
    packet.properties = properties;
    send(packet);
    CHECK(closed());
  }
  /// The transport breaks.
  void drop() const { broker_->drop(*link_); }
  /// The transport takes this many bytes more and then blocks.
  void set_window(uint64_t bytes) const { link_->window = bytes; }
  void open_window() const {
    link_->window = ~uint64_t{0};
    broker_->run();
  }

  bool has_packet() const { return !link_->packets.empty(); }
  bool quiet() const {
    if (has_packet()) {
      const Packet& first = link_->packets.front();
      MESSAGE("unexpected packet of type ", static_cast<int>(first.type), ": ", hex(first.wire));
    }
    return !has_packet() && link_->in.empty();
  }
  size_t count(PacketType type) const {
    size_t found = 0;
    for (const Packet& packet : link_->packets) { found += packet.type == type ? 1U : 0U; }
    return found;
  }
  /// The next packet, whatever it is.
  Packet next() const {
    REQUIRE_MESSAGE(has_packet(), "a packet is awaited");
    Packet packet = link_->packets.front();
    link_->packets.pop_front();
    return packet;
  }
  /// The next packet, which must be of this type.
  Packet take(PacketType type) const {
    const Packet packet = next();
    REQUIRE_MESSAGE(packet.type == type, "got ", hex(packet.wire));
    return packet;
  }
  Packet message() const { return take(PacketType::publish); }
  void clear() const { link_->packets.clear(); }

  /// The broker said why (5.0) and hung up; 3.x only sees the end.
  bool cut_off(ReasonCode reason) const {
    if (v5()) {
      if (!has_packet() || link_->packets.back().type != PacketType::disconnect) {
        MESSAGE("no DISCONNECT");
        return false;
      }
      const Packet last = link_->packets.back();
      link_->packets.pop_back();
      if (last.reason != reason || !last.properties.empty()) {
        MESSAGE("DISCONNECT is ", hex(last.wire));
        return false;
      }
    }
    return hung_up() && quiet();
  }

 private:
  B* broker_ = nullptr;
  Link* link_ = nullptr;
};

template <typename Config>
class Broker {
 public:
  using Engine = mqtt::BrokerEngine<Config>;
  using C = Client<Config>;
  using Customize = std::function<void(mqtt::Connect&)>;

  typename Config::Policy policy;
  typename Config::Journal journal;

  explicit Broker(Wire wire = Wire::whole, const mqtt::BrokerLimits& limits = small_limits())
      : wire_(wire) {
    const uint64_t size = mqtt::broker_bytes<Config>(limits);
    memory_ = std::make_unique<Line[]>(static_cast<size_t>(size / sizeof(Line) + 1));
    memset(memory_.get(), 0xA7, static_cast<size_t>(size));
    scratch_.resize(limits.control_packet_bytes_max + 16);
    REQUIRE(engine_->start(limits, {memory_[0].bytes, size}, 4711, now) == mqtt::Error::none);
    check();
  }
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  mqtt::Millis now = 1000000;
  bool acks = true;  // new clients acknowledge by themselves

  Engine& engine() { return *engine_; }
  const mqtt::BrokerStatistics& statistics() { return engine_->statistics(); }
  uint32_t dropped() { return static_cast<uint32_t>(statistics().publish_dropped); }

  /// A link without a packet yet; REQUIREs that it is admitted.
  C open(Version version) {
    links_.push_back(std::make_unique<Link>());
    Link& link = *links_.back();
    link.version = version;
    link.acks = acks;
    REQUIRE(engine_->admit(link.id, now) == mqtt::Error::none);
    link.open = true;
    check();
    return C(this, &link);
  }
  mqtt::Error admit_one() {
    mqtt::ConnectionId id;
    return engine_->admit(id, now);
  }
  /// Opens a link and sends CONNECT; whatever answers is left in the client's queue.
  C start(Version version, Text client_id, const Customize& customize = {}) {
    const C client = open(version);
    mqtt::Connect connect;
    connect.version = version;
    connect.client_id = client_id;
    connect.keep_alive_s = 0;
    if (customize) { customize(connect); }
    client.send(connect);
    return client;
  }
  /// A client whose CONNECT was accepted.
  C connect(Version version, Text client_id, const Customize& customize = {}) {
    const C client = start(version, client_id, customize);
    const Packet connack = client.take(PacketType::connack);
    REQUIRE(connack.reason == ReasonCode::success);
    last_connack = connack;
    return client;
  }
  /// A client with a session that outlives its links.
  C connect_resumable(Version version, Text client_id, const Customize& customize = {}) {
    Props expiry;
    expiry.number(PropertyId::session_expiry_interval, 3600);
    return connect(version, client_id, [&](mqtt::Connect& connect) {
      connect.clean_start = false;
      if (version == Version::v5) { connect.properties = expiry; }
      if (customize) { customize(connect); }
    });
  }
  Packet last_connack;

  void drop(Link& link) {
    if (link.open) {
      link.open = false;
      engine_->lost(link.id, now);
      check();
      run();
    }
  }

  /// Turns until nothing moves any more; time stands still.
  void run() {
    for (uint32_t turns = 0; turn(); ++turns) {
      REQUIRE_MESSAGE(turns < 3000000, "the broker does not come to rest");
    }
  }
  /// Lets time pass; the broker is called when it asked to be.
  void pass(mqtt::Millis ms) {
    const mqtt::Millis end = now + ms;
    run();
    for (uint32_t calls = 0; now < end; ++calls) {
      REQUIRE_MESSAGE(calls < 100000, "deadline() does not move on");
      const mqtt::Millis due = engine_->deadline();
      now = due > end ? end : due > now ? due : now + 1;
      run();
    }
  }
  void seconds(uint32_t count) { pass(mqtt::Millis{count} * 1000); }

  void stop() {
    engine_->stop(now);
    run();
  }

  /// One turn; false when nothing moved.
  bool turn() {
    bool moved = wake_blocked();
    moved = read_all() || moved;
    engine_->tick(now);
    check();
    moved = drain() || moved;
    engine_->end_turn(now);
    check();
    std::fill(arena_.begin(), arena_.end(), uint8_t{0xDD});
    arena_.clear();
    arena_.shrink_to_fit();
    for (auto& link : links_) { moved = digest(*link) || moved; }
    return moved || engine_->deadline() <= now;
  }

 private:
  struct alignas(16) Line {
    uint8_t bytes[64];
  };

  void check() { check_engine(*engine_, 0); }

  uint32_t random() {
    random_ = random_ * 1664525U + 1013904223U;
    return random_ >> 16;
  }

  // How many of the bytes that wait are read now.
  size_t portion(size_t waiting) {
    switch (wire_) {
      case Wire::whole:
      case Wire::bytes_out: return std::min<size_t>(waiting, 65536);
      case Wire::bytes_in: return std::min<size_t>(waiting, 1);
      case Wire::pieces: return std::min<size_t>(waiting, 1 + random() % 37);
    }
    return waiting;
  }

  // The reads of a turn lie one behind the other in an arena that is gone after the turn.
  bool read_all() {
    std::vector<std::pair<Link*, size_t>> reads;
    size_t total = 0;
    for (auto& link : links_) {
      if (link->open && !link->out.empty() && engine_->wants_read(link->id)) {
        const size_t size = portion(link->out.size());
        reads.emplace_back(link.get(), size);
        total += size;
      }
    }
    arena_.resize(total);
    size_t at = 0;
    for (const auto& read : reads) { at += read_one(*read.first, read.second, at); }
    return !reads.empty();
  }
  size_t read_one(Link& link, size_t size, size_t at) {
    size_t direct = 0;
    mqtt::Buffer space[2];
    if (wire_ != Wire::bytes_in && engine_->rx_space(link.id, {space}) != 0) {
      direct = std::min<size_t>(size, space[0].size());
      memcpy(space[0].data(), link.out.data(), direct);
      engine_->rx_commit(link.id, static_cast<uint32_t>(direct), now);
      check();
    }
    const size_t rest = size - direct;
    if (rest != 0) {
      memcpy(arena_.data() + at, link.out.data() + direct, rest);
      engine_->receive(link.id, mqtt::Buffer(arena_.data() + at, static_cast<uint32_t>(rest)), now);
      check();
    }
    link.out.erase(0, size);
    return rest;
  }

  bool wake_blocked() {
    bool any = false;
    for (auto& link : links_) {
      if (link->open && blocked(*link) && link->window != 0) {
        any = true;
        blocked_.erase(std::find(blocked_.begin(), blocked_.end(), link.get()));
        engine_->writable(link->id);
        check();
      }
    }
    return any;
  }
  bool blocked(const Link& link) const {
    return std::find(blocked_.begin(), blocked_.end(), &link) != blocked_.end();
  }

  Link* find(mqtt::ConnectionId id) {
    for (auto& link : links_) {
      if (link->id == id) { return link.get(); }
    }
    return nullptr;
  }

  bool drain() {
    bool moved = false;
    mqtt::ConnectionId id;
    while (engine_->next_due(id)) {
      Link* link = find(id);
      REQUIRE(link != nullptr);
      if (!link->open) { continue; }
      while (fill_once(*link, moved)) {}
    }
    return moved;
  }
  // One fill() and one write; false when the link needs no more of them now.
  bool fill_once(Link& link, bool& moved) {
    Bytes pieces[8];
    mqtt::Buffer scratch(scratch_.data(), static_cast<uint32_t>(scratch_.size()));
    const auto output = engine_->fill(link.id, scratch, mqtt::Span<Bytes>(pieces));
    check();
    std::string offered;
    REQUIRE(output.count <= 8);
    for (uint32_t i = 0; i < output.count; ++i) {
      CHECK_FALSE(pieces[i].empty());
      offered += text(pieces[i]);
    }
    REQUIRE(offered.size() == output.size);
    const size_t taken = std::min(offered.size(), capacity(link));
    link.in.append(offered, 0, taken);
    link.all_in.append(offered, 0, taken);
    link.window -= link.window == ~uint64_t{0} ? 0 : taken;
    const bool ends = output.hang_up && taken == output.size;
    moved = moved || taken != 0 || ends;
    if (output.size != 0) {
      engine_->sent(link.id, static_cast<uint32_t>(taken));
      check();
    }
    memset(scratch_.data(), 0xEE, scratch_.size());
    if (ends) {
      link.open = false;
      link.hung_up = true;
      engine_->lost(link.id, now);
      check();
      return false;
    }
    if (taken < output.size) {
      blocked_.push_back(&link);
      return false;
    }
    return output.size != 0;
  }
  size_t capacity(const Link& link) {
    size_t most = static_cast<size_t>(std::min<uint64_t>(link.window, 1U << 30));
    if (wire_ == Wire::bytes_out) {
      most = std::min<size_t>(most, 1);
    } else if (wire_ == Wire::pieces) {
      most = std::min<size_t>(most, 1 + random() % 29);
    }
    return most;
  }

  // Packets out of the client's bytes, which are as strictly read as the broker's; automatic
  // acknowledgements.
  bool digest(Link& link) {
    bool any = false;
    if (!link.decodes) { link.in.clear(); }
    while (!link.in.empty()) {
      mqtt::Frame frame;
      const Bytes stream = Text(link.in).bytes();
      const mqtt::Error framed = mqtt::next_frame(stream, link.version, 0x10000000, frame);
      if (framed == mqtt::Error::incomplete) { break; }
      Packet packet;
      const mqtt::Error error =
          framed != mqtt::Error::none
              ? framed
              : mqtt::decode(frame, link.version, mqtt::Side::client, Collector(packet));
      if (error != mqtt::Error::none) {
        FAIL_CHECK("the broker sent ", hex(link.in).substr(0, 400), ": ", text(mqtt::text(error)));
        link.in.clear();
        break;
      }
      packet.type = frame.type();
      packet.wire = link.in.substr(0, frame.size());
      link.in.erase(0, frame.size());
      resolve_alias(link, packet);
      acknowledge(link, packet);
      link.packets.push_back(packet);
      any = true;
    }
    return any;
  }
  static void resolve_alias(Link& link, Packet& packet) {
    if (packet.type != PacketType::publish) { return; }
    const uint32_t alias = packet.number(PropertyId::topic_alias);
    packet.topic_left_out = packet.topic.empty();
    if (packet.topic.empty()) {
      CHECK_MESSAGE(!link.aliases[alias].empty(), "an alias that was set, ", alias);
      packet.topic = link.aliases[alias];
    } else if (alias != 0) {
      link.aliases[alias] = packet.topic;
    }
  }
  static void acknowledge(Link& link, const Packet& packet) {
    if (!link.acks || !link.open) { return; }
    mqtt::Ack ack;
    ack.packet_id = packet.packet_id;
    if (packet.type == PacketType::publish && packet.qos != Qos::at_most_once) {
      ack.type = packet.qos == Qos::at_least_once ? PacketType::puback : PacketType::pubrec;
    } else if (packet.type == PacketType::pubrel) {
      ack.type = PacketType::pubcomp;
    } else if (packet.type == PacketType::pubrec && !mqtt::failed(packet.reason)) {
      ack.type = PacketType::pubrel;
    } else {
      return;
    }
    const std::string raw = C::encoded(link.version, ack);
    link.out += raw;
    link.all_out += raw;
  }

  Wire wire_;
  std::unique_ptr<Line[]> memory_;
  std::unique_ptr<Engine> engine_ = std::make_unique<Engine>(policy, journal);
  std::vector<uint8_t> scratch_;
  std::vector<uint8_t> arena_;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<Link*> blocked_;
  uint32_t random_ = 1;
};

/// Runs `test(version, wire)` for each version from `first` on and each transport.
template <typename Test>
void each(Version first, Test test) {
  for (const Version version : {Version::v3_1, Version::v3_1_1, Version::v5}) {
    for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out, Wire::pieces}) {
      if (version >= first) {
        CAPTURE(name(version));
        CAPTURE(name(wire));
        test(version, wire);
      }
    }
  }
}
template <typename Test>
void each(Test test) {
  each(Version::v3_1, test);
}
/// Over all pairs of versions, the wire being whole.
template <typename Test>
void each_pair(Test test) {
  for (const Version a : {Version::v3_1, Version::v3_1_1, Version::v5}) {
    for (const Version b : {Version::v3_1, Version::v3_1_1, Version::v5}) {
      CAPTURE(name(a));
      CAPTURE(name(b));
      test(a, b);
    }
  }
}

/// A policy made of functions; what is not set allows.
struct TestPolicy {
  static constexpr bool filters_publish() noexcept { return true; }
  static constexpr bool filters_delivery() noexcept { return true; }
  static constexpr bool authenticates() noexcept { return true; }
  static constexpr bool answers_later() noexcept { return true; }
  static constexpr bool keeps_user_names() noexcept { return true; }

  std::function<void(const mqtt::Connect&, mqtt::ConnectAnswer&)> connect;
  std::function<void(const mqtt::Auth&, mqtt::ConnectAnswer&)> authenticate;
  std::function<void(const mqtt::ClientView&, const mqtt::Publish&, mqtt::PublishAnswer&)> publish;
  std::function<ReasonCode(const mqtt::ClientView&, const mqtt::Subscription&)> subscribe;
  std::function<bool(const mqtt::ClientView&, Text)> deliver;
  std::vector<std::string> connected;
  std::vector<std::string> disconnected;  // "id reason error by_client"
  std::vector<std::string> ended;

  void on_connect(mqtt::ConnectionId, const mqtt::Connect& packet,
                  mqtt::ConnectAnswer& answer) noexcept {
    if (connect) { connect(packet, answer); }
  }
  void on_authenticate(const mqtt::ClientView&, const mqtt::Auth& auth,
                       mqtt::ConnectAnswer& answer) noexcept {
    if (authenticate) { authenticate(auth, answer); }
  }
  void on_publish(const mqtt::ClientView& client, const mqtt::Publish& packet,
                  mqtt::PublishAnswer& answer) noexcept {
    if (publish) { publish(client, packet, answer); }
  }
  ReasonCode on_subscribe(const mqtt::ClientView& client,
                          const mqtt::Subscription& entry) noexcept {
    return subscribe ? subscribe(client, entry) : ReasonCode::success;
  }
  void on_unsubscribe(const mqtt::ClientView&, Text) noexcept {}
  bool on_deliver(const mqtt::ClientView& client, Text topic) noexcept {
    return deliver ? deliver(client, topic) : true;
  }
  void on_connected(const mqtt::ClientView& client, const mqtt::Connect&) noexcept {
    connected.push_back(text(client.client_id));
  }
  void on_disconnected(const mqtt::ClientView& client, const mqtt::Disconnection& why) noexcept {
    disconnected.push_back(
        text(client.client_id) + " " + std::to_string(static_cast<int>(why.reason)) + " " +
        std::to_string(static_cast<int>(why.error)) + (why.by_client ? " client" : ""));
  }
  void on_session_ended(const mqtt::ClientView& client) noexcept {
    ended.push_back(text(client.client_id));
  }
};

struct PolicyConfig : mqtt::BrokerConfig {
  using Policy = TestPolicy;
};

}  // namespace sim

#endif  // MQTT_TESTS_SIM_BROKER_SIM_HPP
