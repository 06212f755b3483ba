// A broker with tiny limits, driven by bytes: links that open, send packets and rubbish in any
// split, take their output in any split and break; time, a policy that answers later, a journal
// that becomes safe late, holds back, is written anew and brings a broker back after a crash.
//
//   clang++ -std=c++17 -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
//     -I. -Itests tests/fuzz/broker_fuzz.cpp -o broker_fuzz
//   ./broker_fuzz -max_len=2048 -max_total_time=1200 CORPUS
//
// check_invariants() holds after each step, what the broker sends is well-formed, ids and
// payloads are right, and when all links and sessions have ended nothing is left.
//
// With -DSTANDALONE it has a main() and needs no libFuzzer: broker_fuzz COUNT runs random inputs,
// broker_fuzz FILE... runs those files.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mqtt.hpp"
#include "ports/journal/state.hpp"

using mqtt::Buffer;
using mqtt::Bytes;
using mqtt::ConnectionId;
using mqtt::PacketType;
using mqtt::PropertyId;
using mqtt::Qos;
using mqtt::ReasonCode;
using mqtt::Text;
using mqtt::Version;

namespace {

void check(bool holds, const char* what) {
  if (holds) { return; }
  fprintf(stderr, "broker_fuzz: %s\n", what);
  abort();
}

std::string text(Text view) { return std::string(view.data(), view.size()); }

// The input, byte by byte; zeros when it has ended.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool ended() const { return at_ == size_; }
  uint32_t below(uint32_t limit) {
    const uint32_t byte = at_ < size_ ? data_[at_++] : 0U;
    return byte % limit;
  }
  bool flag() { return below(2) != 0; }
  template <typename T, size_t count>
  T one_of(const T (&list)[count]) {
    return list[below(count)];
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

// ---- hooks --------------------------------------------------------------------------------------

constexpr uint8_t own_tag = 77;

// Decides by the first letter of a client id or topic.
struct FuzzPolicy {
  static constexpr bool filters_publish() noexcept { return true; }
  static constexpr bool filters_delivery() noexcept { return true; }
  static constexpr bool authenticates() noexcept { return true; }
  static constexpr bool answers_later() noexcept { return true; }
  static constexpr bool keeps_user_names() noexcept { return true; }

  struct Asked {
    ConnectionId id;
    uint16_t packet_id = 0;  // 0: a CONNECT
    bool has_method = false;
  };
  std::deque<Asked> asked;
  std::set<std::string> retained;  // topics that may be
  std::string name;                // of the last CONNECT

  void decide(mqtt::ConnectAnswer& answer, const std::string& client_id) {
    name = "user-" + client_id;
    answer.has_user_name = true;
    answer.user_name = Text(name.data(), static_cast<uint32_t>(name.size()));
    answer.tag = own_tag;
    const char first = client_id.empty() ? 'e' : client_id[0];
    if (first == 'P') { answer.topic_prefix = "p/"; }
    if (first == 'Q') { answer.maximum_qos = Qos::at_least_once; }
    if (first == 'D') { answer.reason = ReasonCode::not_authorized; }
  }
  void on_connect(ConnectionId id, const mqtt::Connect& connect,
                  mqtt::ConnectAnswer& answer) noexcept {
    decide(answer, text(connect.client_id));
    const bool has_method = connect.properties.has(PropertyId::authentication_method);
    if (has_method) { answer.reason = ReasonCode::continue_authentication; }
    if (!connect.client_id.empty() && connect.client_id[0] == 'L') {
      answer.later = true;
      asked.push_back({id, 0, has_method});
    }
  }
  void on_authenticate(const mqtt::ClientView& client, const mqtt::Auth& auth,
                       mqtt::ConnectAnswer& answer) noexcept {
    mqtt::Property data;
    const bool some = auth.properties.find(PropertyId::authentication_data, data);
    const uint8_t word = some && !data.bytes.empty() ? data.bytes[0] : 0;
    decide(answer, "a");
    if (word % 4 == 1) { answer.reason = ReasonCode::continue_authentication; }
    if (word % 4 == 2) { answer.reason = ReasonCode::not_authorized; }
    if (word % 4 == 3) {
      answer.later = true;
      if (client.client_id.empty()) { asked.push_back({client.connection, 0, true}); }
    }
  }
  void look_at(const mqtt::ClientView& client) {
    check(client.has_user_name && client.tag == own_tag, "a client has its name and tag");
    const std::string user = text(client.user_name);
    check(user.compare(0, 5, "user-") == 0, "a client has its own name");
  }
  void on_publish(const mqtt::ClientView& client, const mqtt::Publish& packet,
                  mqtt::PublishAnswer& answer) noexcept {
    look_at(client);
    if (packet.retain) { retained.insert(text(packet.topic)); }
    if (packet.topic[0] == 'D') { answer.reason = ReasonCode::not_authorized; }
    if (packet.topic[0] == 'L') {
      answer.later = true;
      if (packet.qos != Qos::at_most_once && client.connection.generation != 0) {
        asked.push_back({client.connection, packet.packet_id, false});
      }
    }
  }
  ReasonCode on_subscribe(const mqtt::ClientView& client,
                          const mqtt::Subscription& entry) noexcept {
    look_at(client);
    return entry.filter[0] == 'D' ? ReasonCode::not_authorized : ReasonCode::success;
  }
  void on_unsubscribe(const mqtt::ClientView& client, Text filter) noexcept {
    look_at(client);
    check(!filter.empty(), "a filter is not empty");
  }
  bool on_deliver(const mqtt::ClientView& client, Text topic) noexcept {
    look_at(client);
    return client.client_id[0] != 'X' || topic.size() != 1;
  }
  void on_connected(const mqtt::ClientView& client, const mqtt::Connect&) noexcept {
    look_at(client);
  }
  void on_disconnected(const mqtt::ClientView& client, const mqtt::Disconnection&) noexcept {
    look_at(client);
  }
  void on_session_ended(const mqtt::ClientView& client) noexcept {
    check(client.client_id.size() != 0, "a session has an id");
  }
};

struct Kept {
  mqtt::JournalRecord record;
  std::string text;
  std::string bytes;
  explicit Kept(const mqtt::JournalRecord& from)
      : record(from), text(::text(from.text)), bytes(::text(Text(from.bytes))) {}
  mqtt::JournalRecord view() const {
    mqtt::JournalRecord out = record;
    out.text = Text(text.data(), static_cast<uint32_t>(text.size()));
    out.bytes = Text(bytes.data(), static_cast<uint32_t>(bytes.size())).bytes();
    return out;
  }
};

struct FuzzJournal {
  static constexpr bool enabled = true;
  std::vector<Kept> log;
  uint64_t before = 0;
  uint32_t wall = 1700000000;
  bool on = true;
  bool full = false;

  bool is_on() const noexcept { return on; }
  bool holds_back() const noexcept { return full; }
  uint64_t append(const mqtt::JournalRecord& record) noexcept {
    log.emplace_back(record);
    return last();
  }
  uint64_t last() const { return before + log.size(); }
  uint32_t wall_clock_s() noexcept { return wall; }
};

// ---- configurations -----------------------------------------------------------------------------

constexpr mqtt::BrokerLimits tiny() {
  mqtt::BrokerLimits limits;
  limits.connections = 6;
  limits.sessions = 7;
  limits.subscriptions = 16;
  limits.filters = 12;
  limits.filter_nodes = 24;
  limits.retained = 5;
  limits.retained_nodes = 14;
  limits.blocks = 72;
  limits.block_bytes = 80;
  limits.large_blocks = 2;
  limits.large_block_bytes = 1024;
  limits.text_blocks = 64;
  limits.text_block_bytes = 16;
  limits.turn_records = 6;
  limits.control_packet_bytes_max = 512;
  limits.topic_levels_max = 5;
  limits.packet_bytes_max = 6000;
  limits.message_bytes_max = 4000;
  limits.receive_maximum = 4;
  limits.inflight_max = 3;
  limits.queued_max = 5;
  limits.topic_alias_max = 3;
  limits.topic_alias_broker_max = 3;
  limits.session_expiry_max_s = 1000;
  limits.pause_ms = 500;
  return limits;
}
constexpr mqtt::BrokerLimits tinier() {
  mqtt::BrokerLimits limits = tiny();
  limits.turn_records = limits.large_blocks = 0;
  limits.control_packet_bytes_max = 200;
  limits.packet_bytes_max = 200;
  limits.blocks = 48;
  return limits;
}
constexpr mqtt::BrokerLimits tinier_limits = tinier();

struct Wide : mqtt::BrokerConfig {
  using Policy = FuzzPolicy;
  using Journal = FuzzJournal;
};
struct Narrow : Wide {
  using Index = uint16_t;
};
struct Plain : mqtt::BrokerConfig {
  using Policy = FuzzPolicy;
};
struct Fixed : Plain {
  using Index = uint16_t;
  static constexpr const mqtt::BrokerLimits* fixed_limits = &tinier_limits;
};

// ---- clients ------------------------------------------------------------------------------------

struct Link {
  ConnectionId id;
  Version version = Version::v3_1_1;
  bool open = false;
  bool accepted = false;
  bool blocked = false;
  bool reacts = true;
  std::string out;         // to the broker
  std::string in;          // from the broker
  uint32_t window = 0;     // bytes a write takes
  uint32_t most = 65535;   // its Receive Maximum
  uint32_t largest = ~0U;  // its Maximum Packet Size
  std::set<uint16_t> under_way;
  std::string aliases[4];
};

constexpr const char* client_ids[] = {
    "", "a", "b", "Later", "Deny", "Prefixed", "Q1", "X", "a-client-id-of-more-than-one-block"};
constexpr const char* topics[] = {
    "t/a", "t/b",    "t",
    "L/a", "D/a",    "t/a/b",
    "x",   "$SYS/a", "t/a-topic-that-needs-more-than-one-block-of-eighty-bytes-and-some-more/b"};
constexpr const char* filters[] = {"t/#",          "+/a",          "#",   "t/a",   "x",
                                   "$share/g/t/#", "$share/g/t/a", "D/a", "t/+/b", "$SYS/#"};
constexpr uint32_t sizes[] = {0, 1, 10, 60, 300, 900, 1500, 3500};

template <typename Config>
class Fuzz {
 public:
  explicit Fuzz(Input& input) : in_(input) {
    limits_ = Config::fixed_limits != nullptr ? *Config::fixed_limits : tiny();
    if constexpr (Config::fixed_limits == nullptr) {
      const uint32_t bits = in_.below(256);
      if ((bits & 1) != 0) { limits_.queue_qos_0 = true; }
      if ((bits & 2) != 0) { limits_.upgrade_outgoing_qos = true; }
      if ((bits & 4) != 0) { limits_.queued_bytes_max = 1000; }
      if ((bits & 8) != 0) { limits_.inflight_bytes_max = 500; }
      if ((bits & 16) != 0) { limits_.retained_expiry_s = 20; }
      if ((bits & 32) != 0) { limits_.turn_records = 0; }
      if ((bits & 64) != 0) { limits_.blocks = 30; }
      if ((bits & 128) != 0) { limits_.large_blocks = 0; }
    }
    start();
  }

  void run() {
    while (!in_.ended()) {
      step();
      verify();
    }
    end();
  }

 private:
  using Engine = mqtt::BrokerEngine<Config>;
  static constexpr bool journaled = Config::Journal::enabled;
  struct alignas(16) Line {
    uint8_t bytes[16];
  };

  void start() {
    const uint64_t size = mqtt::broker_bytes<Config>(limits_);
    memory_.reset(new Line[static_cast<size_t>((size + 15) / 16)]);
    memset(static_cast<void*>(memory_.get()), 0xA7, static_cast<size_t>(size));
    engine_ = std::make_unique<Engine>(policy_, journal_);
    check(engine_->start(limits_, {memory_[0].bytes, size}, 4711, now_) == mqtt::Error::none,
          "limits that fit");
  }
  void verify() { check(engine_->check_invariants(), "invariants"); }

  Link* link() {
    Link& it = links_[in_.below(link_count)];
    return it.open ? &it : nullptr;
  }

  void step() {
    switch (in_.below(16)) {
      case 0:
      case 1: open(); break;
      case 2:
      case 3:
      case 4: put_packet(); break;
      case 5: put_rubbish(); break;
      case 6:
      case 7: deliver(); break;
      case 8:
      case 9: turn(); break;
      case 10: window(); break;
      case 11: lose(); break;
      case 12: pass(); break;
      case 13: answer(); break;
      case 14: own(); break;
      default: journal(); break;
    }
  }

  void open() {
    Link& it = links_[in_.below(link_count)];
    if (it.open) { return; }
    it = Link();
    it.version = in_.one_of({Version::v3_1, Version::v3_1_1, Version::v5, Version::v5});
    it.window = in_.flag() ? 1U << 20 : in_.below(64);
    it.reacts = in_.below(4) != 0;
    it.open = engine_->admit(it.id, now_) == mqtt::Error::none;
    if (it.open) { put_connect(it); }
  }

  template <typename P>
  void put(Link& it, const P& packet) {
    uint8_t target[8192];
    const auto size = mqtt::encode(it.version, packet, Buffer(target));
    if (size) { it.out.append(reinterpret_cast<const char*>(target), size.value); }
  }
  static Bytes payload(uint8_t* target, uint32_t size, uint8_t tag) {
    for (uint32_t i = 0; i < size; ++i) { target[i] = static_cast<uint8_t>(tag + i); }
    return Bytes(target, size);
  }

  void put_connect(Link& it) {
    uint8_t memory[256];
    uint8_t will_memory[64];
    uint8_t will_payload[2000];
    mqtt::PropertyWriter properties{Buffer(memory)};
    mqtt::PropertyWriter will{Buffer(will_memory)};
    mqtt::Connect packet;
    packet.version = it.version;
    packet.client_id = in_.one_of(client_ids);
    const uint32_t bits = in_.below(256);
    packet.clean_start = (bits & 1) != 0;
    packet.keep_alive_s = (bits & 2) != 0 ? 10 : 0;
    if ((bits & 4) != 0) {
      packet.has_will = true;
      packet.will.topic = in_.one_of(topics);
      packet.will.payload = payload(will_payload, in_.one_of({1U, 60U, 1500U}), 3);
      packet.will.qos = static_cast<Qos>(in_.below(3));
      packet.will.retain = in_.flag();
      if (it.version == Version::v5) {
        will.number(PropertyId::will_delay_interval, in_.one_of({0U, 5U, 2000U}));
        if (in_.flag()) { will.number(PropertyId::message_expiry_interval, 30); }
        packet.will.properties = will.properties();
      }
    }
    if (it.version == Version::v5) {
      if ((bits & 8) != 0) {
        properties.number(PropertyId::session_expiry_interval, in_.one_of({0U, 7U, 0xFFFFFFFFU}));
      }
      if ((bits & 16) != 0) {
        it.most = 1 + in_.below(3);
        properties.number(PropertyId::receive_maximum, it.most);
      }
      if ((bits & 32) != 0) {
        it.largest = 40 + 4 * in_.below(256);
        properties.number(PropertyId::maximum_packet_size, it.largest);
      }
      if ((bits & 64) != 0) { properties.number(PropertyId::topic_alias_maximum, 2); }
      if ((bits & 128) != 0) { properties.text(PropertyId::authentication_method, "m"); }
      packet.properties = properties.properties();
    }
    put(it, packet);
  }

  void put_packet() {
    Link* it = link();
    if (it == nullptr) { return; }
    switch (in_.below(10)) {
      case 0:
      case 1:
      case 2:
      case 3: put_publish(*it); break;
      case 4:
      case 5: put_subscribe(*it); break;
      case 6: put_ack(*it); break;
      case 7: put(*it, mqtt::Pingreq()); break;
      case 8: put_disconnect(*it); break;
      default: put_auth(*it); break;
    }
  }
  void put_publish(Link& it) {
    uint8_t memory[64];
    uint8_t bytes[4000];
    mqtt::PropertyWriter properties{Buffer(memory)};
    mqtt::Publish packet;
    const uint32_t bits = in_.below(256);
    packet.topic = in_.one_of(topics);
    packet.qos = static_cast<Qos>((bits & 3) % 3);
    packet.retain = (bits & 4) != 0;
    packet.dup = (bits & 8) != 0 && packet.qos != Qos::at_most_once;
    if (packet.qos != Qos::at_most_once) {
      packet.packet_id = static_cast<uint16_t>(1 + in_.below(12));
    }
    packet.payload = payload(bytes, in_.one_of(sizes), static_cast<uint8_t>(in_.below(256)));
    if (it.version == Version::v5) {
      if ((bits & 16) != 0) {
        properties.number(PropertyId::message_expiry_interval, in_.one_of({0U, 2U, 100U}));
      }
      if ((bits & 32) != 0) {
        properties.number(PropertyId::topic_alias, 1 + in_.below(4));
        if (in_.flag()) { packet.topic = Text(); }
      }
      if ((bits & 64) != 0) { properties.user_property("name", "value"); }
      packet.properties = properties.properties();
    }
    put(it, packet);
  }
  void put_subscribe(Link& it) {
    uint8_t memory[16];
    mqtt::PropertyWriter properties{Buffer(memory)};
    mqtt::Subscription list[2];
    const uint32_t count = 1 + in_.below(2);
    const bool subscribes = in_.below(4) != 0;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t bits = in_.below(256);
      list[i].filter = in_.one_of(filters);
      list[i].qos = static_cast<Qos>((bits & 3) % 3);
      if (it.version == Version::v5) {
        list[i].no_local = (bits & 4) != 0 && list[i].filter[1] != 's';
        list[i].retain_as_published = (bits & 8) != 0;
        list[i].retain_handling = static_cast<mqtt::RetainHandling>((bits >> 4) % 3);
      }
    }
    if (!subscribes) {
      mqtt::Unsubscribe packet;
      packet.packet_id = 5;
      packet.filters = mqtt::Span<const mqtt::Subscription>(list, count);
      put(it, packet);
      return;
    }
    mqtt::Subscribe packet;
    packet.packet_id = 6;
    packet.filters = mqtt::Span<const mqtt::Subscription>(list, count);
    if (it.version == Version::v5 && in_.flag()) {
      properties.number(PropertyId::subscription_identifier, 1 + in_.below(200));
      packet.properties = properties.properties();
    }
    put(it, packet);
  }
  void put_ack(Link& it) {
    mqtt::Ack packet;
    packet.type = in_.one_of(
        {PacketType::puback, PacketType::pubrec, PacketType::pubrel, PacketType::pubcomp});
    packet.packet_id = static_cast<uint16_t>(1 + in_.below(12));
    if (it.version == Version::v5 && in_.below(4) == 0 && packet.type < PacketType::pubrel) {
      packet.reason_code = ReasonCode::quota_exceeded;
    }
    put(it, packet);
  }
  void put_disconnect(Link& it) {
    uint8_t memory[16];
    mqtt::PropertyWriter properties{Buffer(memory)};
    mqtt::Disconnect packet;
    const uint32_t bits = in_.below(8);
    if (it.version == Version::v5 && (bits & 1) != 0) {
      packet.reason_code = ReasonCode::disconnect_with_will;
    }
    if (it.version == Version::v5 && (bits & 2) != 0) {
      properties.number(PropertyId::session_expiry_interval, (bits & 4) != 0 ? 20 : 0);
      packet.properties = properties.properties();
    }
    put(it, packet);
  }
  void put_auth(Link& it) {
    if (it.version != Version::v5) { return; }
    uint8_t memory[32];
    mqtt::PropertyWriter properties{Buffer(memory)};
    const uint8_t word = static_cast<uint8_t>(in_.below(4));
    properties.text(PropertyId::authentication_method, "m");
    properties.binary(PropertyId::authentication_data, Bytes(&word, 1));
    mqtt::Auth packet;
    packet.reason_code =
        it.accepted ? ReasonCode::reauthenticate : ReasonCode::continue_authentication;
    packet.properties = properties.properties();
    put(it, packet);
  }
  void put_rubbish() {
    Link* it = link();
    rubbish_ = true;
    for (uint32_t left = in_.below(24); left != 0; --left) {
      const char byte = static_cast<char>(in_.below(256));
      if (it != nullptr) { it->out.push_back(byte); }
    }
  }

  // Some of what a client has sent reaches the broker.
  void deliver() {
    Link* it = link();
    const uint32_t wanted = in_.flag() ? 4096U : in_.below(128);
    const bool direct = in_.flag();
    if (it != nullptr) { deliver(*it, wanted, direct); }
  }
  void deliver(Link& it, uint32_t wanted, bool direct) {
    if (!engine_->wants_read(it.id)) { return; }
    uint32_t size = mqtt::detail::smaller(wanted, static_cast<uint32_t>(it.out.size()));
    if (size > arena_bytes - arena_used_) { turn(); }
    if (!it.open || !engine_->wants_read(it.id)) { return; }
    size = mqtt::detail::smaller(size, arena_bytes);
    if (direct) {
      Buffer space;
      if (engine_->rx_space(it.id, mqtt::Span<Buffer>(&space, 1)) != 0) {
        const uint32_t part = mqtt::detail::smaller(size, space.size());
        memcpy(space.data(), it.out.data(), part);
        engine_->rx_commit(it.id, part, now_);
        it.out.erase(0, part);
        return;
      }
    }
    if (arena_ == nullptr) { arena_.reset(new uint8_t[arena_bytes]); }
    memcpy(arena_.get() + arena_used_, it.out.data(), size);
    engine_->receive(it.id, Buffer(arena_.get() + arena_used_, size), now_);
    arena_used_ += size;
    it.out.erase(0, size);
  }

  void turn() {
    engine_->tick(now_);
    verify();
    ConnectionId id;
    for (uint32_t rounds = 0; engine_->next_due(id); ++rounds) {
      check(rounds < 10000, "next_due() comes to an end");
      for (Link& it : links_) {
        if (it.open && it.id == id) { write(it); }
      }
    }
    engine_->end_turn(now_);
    arena_.reset();
    arena_used_ = 0;
    if constexpr (journaled) { whole_ = journal_.last(); }
    for (Link& it : links_) { digest(it); }
    if (engine_->deadline() <= now_) { engine_->tick(now_); }
    verify();
  }
  void write(Link& it) {
    std::unique_ptr<uint8_t[]> scratch(new uint8_t[limits_.control_packet_bytes_max + 16]);
    for (uint32_t fills = 0; it.open; ++fills) {
      check(fills < 10000, "fill() comes to an end");
      Bytes pieces[8];
      const auto output =
          engine_->fill(it.id, Buffer(scratch.get(), limits_.control_packet_bytes_max + 16),
                        mqtt::Span<Bytes>(pieces));
      verify();
      uint32_t left = it.window;
      uint32_t size = 0;
      for (uint32_t i = 0; i < output.count; ++i) {
        const uint32_t part = mqtt::detail::smaller(left, pieces[i].size());
        it.in.append(reinterpret_cast<const char*>(pieces[i].data()), part);
        left -= part;
        size += pieces[i].size();
      }
      check(size == output.size, "the pieces are the output");
      const uint32_t taken = mqtt::detail::smaller(size, it.window);
      if (size != 0) { engine_->sent(it.id, taken); }
      verify();
      it.blocked = taken < size;
      if (output.hang_up && !it.blocked) { close(it); }
      if (size == 0 || it.blocked) { return; }
    }
  }
  void close(Link& it) {
    it.open = false;
    engine_->lost(it.id, now_);
  }

  // What the client got; it answers if it does.
  void digest(Link& it) {
    while (!it.in.empty()) {
      mqtt::Frame frame;
      const Bytes stream(reinterpret_cast<const uint8_t*>(it.in.data()),
                         static_cast<uint32_t>(it.in.size()));
      const mqtt::Error error = mqtt::next_frame(stream, it.version, 1U << 28, frame);
      if (error == mqtt::Error::incomplete) { return; }
      check(error == mqtt::Error::none, "what the broker sends is framed");
      check(frame.size() <= it.largest, "no packet is larger than the client takes");
      const mqtt::Error decoded =
          mqtt::decode(frame, it.version, mqtt::Side::client,
                       [this, &it](const auto& packet) { take(it, packet); });
      check(decoded == mqtt::Error::none, "what the broker sends is well-formed");
      it.in.erase(0, frame.size());
    }
  }
  template <typename P>
  void take(Link& it, const P&) {
    check(it.accepted || std::is_same<P, mqtt::Auth>::value, "CONNACK comes first");
  }
  void take(Link& it, const mqtt::Connack& packet) {
    check(!it.accepted, "there is one CONNACK");
    it.accepted = packet.reason_code == ReasonCode::success;
  }
  void take(Link& it, const mqtt::Publish& packet) {
    check(it.accepted, "CONNACK comes before PUBLISH");
    const uint32_t alias = packet.properties.number(PropertyId::topic_alias, 0);
    check(alias <= 2, "the alias is one that the client takes");
    if (alias != 0 && !packet.topic.empty()) { it.aliases[alias] = text(packet.topic); }
    check(!packet.topic.empty() || !it.aliases[alias].empty(), "the alias is known");
    for (uint32_t i = 1; i < packet.payload.size() && !rubbish_; ++i) {
      check(packet.payload[i] == static_cast<uint8_t>(packet.payload[0] + i),
            "the payload is whole");
    }
    if (packet.qos == Qos::at_most_once) { return; }
    const bool fresh = it.under_way.insert(packet.packet_id).second;
    check(fresh || packet.dup || rubbish_, "an id under way is not used again");
    check(it.under_way.size() <= it.most || rubbish_ || wild_acks_, "the Receive Maximum holds");
    if (!it.reacts) { return; }
    mqtt::Ack ack;
    ack.type = packet.qos == Qos::at_least_once ? PacketType::puback : PacketType::pubrec;
    ack.packet_id = packet.packet_id;
    put(it, ack);
    if (packet.qos == Qos::at_least_once) { it.under_way.erase(packet.packet_id); }
  }
  void take(Link& it, const mqtt::Ack& packet) {
    check(it.accepted, "CONNACK comes before acknowledgements");
    mqtt::Ack ack;
    ack.packet_id = packet.packet_id;
    if (packet.type == PacketType::pubrel) { it.under_way.erase(packet.packet_id); }
    if (!it.reacts || packet.type == PacketType::puback || packet.type == PacketType::pubcomp ||
        mqtt::failed(packet.reason_code)) {
      return;
    }
    ack.type = packet.type == PacketType::pubrec ? PacketType::pubrel : PacketType::pubcomp;
    put(it, ack);
  }

  void window() {
    Link* it = link();
    const uint32_t size = in_.flag() ? 1U << 20 : in_.below(128);
    if (it == nullptr) { return; }
    it->window = size;
    if (it->blocked && size != 0) {
      it->blocked = false;
      engine_->writable(it->id);
    }
  }
  void lose() {
    if (Link* it = link()) { close(*it); }
  }
  void pass() {
    const uint64_t ms = in_.one_of({1U, 130U, 1100U, 6000U, 31000U});
    now_ += ms;
    if constexpr (journaled) {
      part_ms_ += ms;
      journal_.wall += static_cast<uint32_t>(part_ms_ / 1000);
      part_ms_ %= 1000;
    }
    engine_->tick(now_);
  }
  void answer() {
    if (policy_.asked.empty()) { return; }
    const FuzzPolicy::Asked asked = policy_.asked.front();
    policy_.asked.pop_front();
    const uint32_t word = in_.below(4);
    if (asked.packet_id != 0) {
      engine_->answer_publish(asked.id, asked.packet_id,
                              word == 0 ? ReasonCode::not_authorized : ReasonCode::success, now_);
      return;
    }
    mqtt::ConnectAnswer answer;
    policy_.decide(answer, "Later");
    if (word == 0) { answer.reason = ReasonCode::banned; }
    if (word == 1 && asked.has_method) { answer.reason = ReasonCode::continue_authentication; }
    answer.later = word == 2;
    if (answer.later || !engine_->answer_connect(asked.id, answer, now_)) {
      policy_.asked.push_back(asked);
    }
  }

  // What the owner does.
  void own() {
    uint8_t bytes[4000];
    switch (in_.below(5)) {
      case 0:
        if (Link* it = link()) {
          engine_->disconnect(it->id, ReasonCode::administrative_action, now_);
        }
        break;
      case 1:
        limits_.inflight_max = static_cast<uint16_t>(1 + in_.below(4));
        limits_.queued_max = in_.below(6);
        limits_.message_bytes_max = in_.flag() ? 1000 : 0;
        limits_.topic_alias_broker_max = static_cast<uint16_t>(in_.below(4));
        engine_->change_limits(limits_);
        break;
      default: {
        mqtt::Publish packet;
        packet.topic = in_.one_of(topics);
        packet.qos = static_cast<Qos>(in_.below(3));
        packet.packet_id = packet.qos == Qos::at_most_once ? uint16_t{0} : uint16_t{1};
        packet.retain = in_.flag();
        packet.payload = payload(bytes, in_.one_of(sizes), 9);
        if (packet.retain) { policy_.retained.insert(text(packet.topic)); }
        static_cast<void>(engine_->publish(packet, now_));
        break;
      }
    }
  }

  void journal() {
    if constexpr (journaled) {
      switch (in_.below(8)) {
        case 0: journal_.full = !journal_.full; break;
        case 1: crash(); break;
        case 2:
        case 3: snapshot(); break;
        default:
          engine_->durable(whole_);
          safe_ = whole_;
          break;
      }
    }
  }
  void snapshot() {
    if constexpr (journaled) {
      turn();  // a snapshot is written between turns
      if (snapshot_ == nullptr) {
        snapshot_ = std::make_unique<mqtt::BrokerSnapshot<Engine>>();
        snapshot_begin_ = journal_.last();
      }
      const bool more = snapshot_->next(
          *engine_, [this](const mqtt::JournalRecord& record) { journal_.append(record); });
      whole_ = journal_.last();
      if (more) { return; }
      snapshot_.reset();  // what came before is not needed any more
      const auto old = static_cast<std::ptrdiff_t>(snapshot_begin_ - journal_.before);
      journal_.log.erase(journal_.log.begin(), journal_.log.begin() + old);
      journal_.before = snapshot_begin_;
      safe_ = whole_;
      engine_->durable(whole_);
    }
  }
  // The broker is gone, and another one begins with what was safe.
  void crash() {
    if constexpr (journaled) {
      using Restore = mqtt::BrokerRestore<Engine>;
      const bool all = in_.flag();
      const uint64_t kept = all || safe_ < journal_.before ? whole_ : safe_;
      journal_.log.erase(journal_.log.begin() + static_cast<std::ptrdiff_t>(kept - journal_.before),
                         journal_.log.end());
      for (Link& it : links_) { it = Link(); }
      policy_.asked.clear();
      arena_.reset();
      arena_used_ = 0;
      snapshot_.reset();
      start();
      const std::vector<Kept> log = journal_.log;
      const uint64_t size = Restore::memory_bytes(limits_);
      const std::unique_ptr<Line[]> memory(new Line[static_cast<size_t>((size + 15) / 16)]);
      Restore restore(*engine_, memory[0].bytes);
      for (const Kept& it : log) {
        const mqtt::Error error = restore.apply(it.view(), now_);
        verify();
        if (error != mqtt::Error::none) { break; }
      }
      restore.finish(now_);
      turn();
      engine_->durable(whole_);
      safe_ = whole_;
    }
  }

  // All ends: nothing may be left.
  void end() {
    turn();
    for (Link& it : links_) {
      if (it.open) { close(it); }
    }
    turn();
    for (uint32_t i = 0; i < 4; ++i) {
      now_ += 1100000;
      turn();
    }
    for (const std::string& topic : policy_.retained) {
      mqtt::Publish packet;
      packet.topic = Text(topic.data(), static_cast<uint32_t>(topic.size()));
      packet.retain = true;
      check(engine_->publish(packet, now_) == mqtt::Error::none, "an empty message has room");
    }
    turn();
    const mqtt::BrokerStatistics& now = engine_->statistics();
    check(now.connections == 0 && now.sessions == 0 && now.subscriptions == 0 &&
              now.shared_subscriptions == 0,
          "links, sessions and subscriptions have ended");
    check(now.retained == 0 && now.retained_nodes == 0, "no retained message is left");
    check(now.stored == 0 && now.stored_bytes == 0, "no message is left");
    check(now.blocks == 0 && now.large_blocks == 0, "no block is left");
    check(now.text_blocks == 0 && now.filter_nodes == 0, "no text is left");
    fill_store();
  }
  // No block is still promised to anybody: one message may have all but those kept for answers.
  void fill_store() {
    const uint32_t kept = limits_.blocks / 4 + 1;
    const uint32_t room = limits_.block_bytes - 4;
    std::vector<uint8_t> bytes((limits_.blocks - kept - 3) * room);
    mqtt::Publish packet;
    packet.topic = "t";
    packet.payload = Bytes(bytes.data(), static_cast<uint32_t>(bytes.size()));
    check(engine_->publish(packet, now_) == mqtt::Error::none, "all blocks are free");
  }

  static constexpr uint32_t link_count = 6;
  static constexpr uint32_t arena_bytes = 2048;

  Input& in_;
  mqtt::BrokerLimits limits_;
  FuzzPolicy policy_;
  typename Config::Journal journal_;
  std::unique_ptr<Line[]> memory_;
  std::unique_ptr<Engine> engine_;
  typename std::conditional<journaled, std::unique_ptr<mqtt::BrokerSnapshot<Engine>>, int>::type
      snapshot_{};
  std::unique_ptr<uint8_t[]> arena_;
  uint32_t arena_used_ = 0;
  Link links_[link_count];
  mqtt::Millis now_ = 1000000;
  uint64_t part_ms_ = 0;
  uint64_t whole_ = 0;  // the last record of a turn
  uint64_t safe_ = 0;   // and of what durable() was told
  uint64_t snapshot_begin_ = 0;
  bool rubbish_ = false;
  bool wild_acks_ = false;
};

template <typename Config>
void run(Input& input) {
  Fuzz<Config>(input).run();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  switch (input.below(4)) {
    case 0: run<Wide>(input); break;
    case 1: run<Narrow>(input); break;
    case 2: run<Plain>(input); break;
    default: run<Fixed>(input); break;
  }
  return 0;
}

#ifdef STANDALONE
namespace {
void run_file(const char* path) {
  FILE* file = fopen(path, "rb");
  check(file != nullptr, path);
  std::vector<uint8_t> bytes(1 << 20);
  bytes.resize(fread(bytes.data(), 1, bytes.size(), file));
  fclose(file);
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}
}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && strspn(arguments[1], "0123456789") == strlen(arguments[1])) {
    uint32_t state = 1;
    for (long runs = atol(arguments[1]); runs > 0; --runs) {
      std::vector<uint8_t> bytes(1 + static_cast<size_t>(runs) % 900);
      for (uint8_t& byte : bytes) {
        state = state * 1664525U + 1013904223U;
        byte = static_cast<uint8_t>(state >> 24);
      }
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    return 0;
  }
  for (int i = 1; i < count; ++i) { run_file(arguments[i]); }
  return 0;
}
#endif
