// A client engine joined to a simulated broker by a link that splits, stalls and breaks.
#ifndef MQTT_TESTS_SIM_CLIENT_SIM_HPP
#define MQTT_TESTS_SIM_CLIENT_SIM_HPP

#include "broker_sim.hpp"

namespace sim {

using mqtt::Answer;
using mqtt::ClientEventType;

/// An event with memory of its own.
struct Happening {
  ClientEventType type{};
  Answer answer{};
  mqtt::Error error{};
  ReasonCode reason{};
  bool session_present = false;
  uint32_t handle = 0;
  uint32_t offset = 0;
  uint32_t total = 0;
  Qos qos{};
  bool retain = false;
  bool dup = false;
  std::string topic;
  std::string payload;
  std::vector<uint8_t> codes;
  std::string properties;

  mqtt::Properties list() const { return mqtt::Properties(Text(properties).bytes()); }

  static Happening of(const mqtt::ClientEvent& event) {
    Happening out;
    out.type = event.type;
    out.answer = event.answer;
    out.error = event.error;
    out.reason = event.reason_code;
    out.session_present = event.session_present;
    out.handle = event.handle;
    out.offset = event.offset;
    out.total = event.total;
    out.qos = event.message.qos;
    out.retain = event.message.retain;
    out.dup = event.message.dup;
    out.topic = text(event.message.topic);
    out.payload = text(event.message.payload);
    out.codes.assign(event.reason_codes.begin(), event.reason_codes.end());
    const bool message = event.type == ClientEventType::message;
    out.properties = text(message ? event.message.properties.wire() : event.properties.wire());
    return out;
  }
};

/// Memory that ends where its bytes end, so that a tool sees what is touched beyond.
class Memory {
 public:
  explicit Memory(uint32_t size) : bytes_(new uint8_t[size == 0 ? 1 : size]), size_(size) {
    memset(bytes_.get(), 0xA7, size);
  }
  mqtt::Buffer buffer() const { return mqtt::Buffer(bytes_.get(), size_); }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  uint32_t size_;
};

struct Sizes {
  uint32_t rx = 512;
  uint32_t tx = 1024;
  uint32_t aliases = 0;
};

/// The client's side: an engine, its memory, what happened, and bytes both ways. What is on the
/// other side reads `out` and appends to `in`.
template <typename Config = mqtt::ClientConfig>
class Engine {
 public:
  using E = mqtt::ClientEngine<Config>;

  explicit Engine(Version version, Sizes sizes = {}, Wire wire = Wire::whole)
      : wire_(wire),
        rx_(sizes.rx),
        tx_(sizes.tx),
        aliases_(sizes.aliases),
        engine_(new E(connect, {rx_.buffer(), tx_.buffer(), aliases_.buffer()})) {
    connect.version = version;
    connect.client_id = "client";
    connect.keep_alive_s = 0;
  }

  mqtt::Connect connect;
  mqtt::Millis now = 1000000;
  std::string out;
  std::string in;
  uint64_t window = ~uint64_t{0};  // bytes the transport takes in all
  std::deque<Happening> events;
  std::function<void(const mqtt::ClientEvent&)> handler;  // called while the event lives

  E& engine() { return *engine_; }
  E* operator->() { return engine_.get(); }

  void up() {
    out.clear();
    in.clear();
    REQUIRE(engine_->start(now) == mqtt::Error::none);
    check();
  }
  void down() {
    engine_->lost();
    check();
    out.clear();
    in.clear();
  }

  /// Moves what can be moved; false when nothing was.
  bool turn() {
    bool moved = transmit();
    moved = receive() || moved;
    mqtt::ClientEvent event;
    while (engine_->next_event(now, event)) {
      check();
      events.push_back(Happening::of(event));
      if (handler) { handler(event); }
      check();
      moved = true;
    }
    check();
    return transmit() || moved;
  }
  void run() {
    for (uint32_t turns = 0; turn(); ++turns) { REQUIRE(turns < 1000000); }
  }

  Happening next() {
    REQUIRE_MESSAGE(!events.empty(), "an event is awaited");
    const Happening event = events.front();
    events.pop_front();
    return event;
  }
  Happening take(ClientEventType type) {
    const Happening event = next();
    REQUIRE_MESSAGE(event.type == type, "got type ", static_cast<int>(event.type), ", ",
                    text(mqtt::text(event.error)), ", ", static_cast<int>(event.reason));
    return event;
  }
  size_t count(ClientEventType type) const {
    return static_cast<size_t>(std::count_if(
        events.begin(), events.end(), [type](const Happening& e) { return e.type == type; }));
  }

  mqtt::Submission publish(Text topic, Text payload, int qos = 0, bool retain = false) {
    mqtt::Publish packet;
    packet.topic = topic;
    packet.payload = payload.bytes();
    packet.qos = static_cast<Qos>(qos);
    packet.retain = retain;
    const mqtt::Submission submission = engine_->publish(packet);
    check();
    return submission;
  }
  mqtt::Submission subscribe(Text filter, int qos = 0, mqtt::Properties properties = {}) {
    mqtt::Subscription entry;
    entry.filter = filter;
    entry.qos = static_cast<Qos>(qos);
    const mqtt::Submission submission = engine_->subscribe({&entry, 1}, properties);
    check();
    return submission;
  }
  mqtt::Submission unsubscribe(Text filter) {
    mqtt::Subscription entry;
    entry.filter = filter;
    const mqtt::Submission submission = engine_->unsubscribe({&entry, 1});
    check();
    return submission;
  }
  void check() { CHECK(engine_->check_invariants()); }

 private:
  uint32_t random() {
    random_ = random_ * 1664525U + 1013904223U;
    return random_ >> 16;
  }
  bool transmit() {
    bool moved = false;
    while (true) {
      const Bytes bytes = engine_->tx_pending();
      size_t taken = std::min<size_t>(bytes.size(), static_cast<size_t>(window));
      if (wire_ == Wire::bytes_out) { taken = std::min<size_t>(taken, 1); }
      if (wire_ == Wire::pieces) { taken = std::min<size_t>(taken, 1 + random() % 29); }
      if (taken == 0) { return moved; }
      out.append(reinterpret_cast<const char*>(bytes.data()), taken);
      window -= window == ~uint64_t{0} ? 0 : taken;
      engine_->tx_commit(static_cast<uint32_t>(taken));
      check();
      moved = true;
      if (wire_ == Wire::bytes_out || wire_ == Wire::pieces) { return true; }
    }
  }
  bool receive() {
    const mqtt::Buffer space = engine_->rx_space();
    size_t size = std::min<size_t>(space.size(), in.size());
    if (wire_ == Wire::bytes_in) { size = std::min<size_t>(size, 1); }
    if (wire_ == Wire::pieces) { size = std::min<size_t>(size, 1 + random() % 37); }
    if (size == 0) { return false; }
    memcpy(space.data(), in.data(), size);
    in.erase(0, size);
    engine_->rx_commit(static_cast<uint32_t>(size));
    check();
    return true;
  }

  Wire wire_;
  Memory rx_;
  Memory tx_;
  Memory aliases_;
  std::unique_ptr<E> engine_;
  uint32_t random_ = 1;
};

/// An engine on a link to a simulated broker.
template <typename Config = mqtt::ClientConfig, typename BrokerConfig = mqtt::BrokerConfig>
class Joined : public Engine<Config> {
 public:
  using Base = Engine<Config>;

  Joined(Broker<BrokerConfig>& broker, Version version, Sizes sizes = {}, Wire wire = Wire::whole)
      : Base(version, sizes, wire), broker_(broker) {}

  bool is_up() const { return link_ != nullptr; }
  Link& link() { return *link_; }

  void up() {
    this->now = broker_.now;
    link_ = &broker_.open(this->connect.version).link();
    link_->decodes = false;
    read_ = 0;
    Base::up();
  }
  /// The transport breaks.
  void cut() {
    Link* const link = link_;
    link_ = nullptr;
    Base::down();
    broker_.drop(*link);
  }
  /// Turns until nothing moves any more; time stands still.
  void settle() {
    for (uint32_t turns = 0; step(); ++turns) { REQUIRE(turns < 3000000); }
  }
  /// Connects and takes the event.
  Happening go() {
    up();
    settle();
    return this->take(ClientEventType::connected);
  }
  bool step() {
    this->now = broker_.now;
    bool moved = this->turn();
    if (link_ != nullptr) {
      moved = moved || !this->out.empty();
      link_->out += this->out;
      this->out.clear();
    }
    moved = broker_.turn() || moved;
    if (link_ != nullptr) {
      moved = moved || link_->all_in.size() != read_;
      this->in += link_->all_in.substr(read_);
      read_ = link_->all_in.size();
      const bool over = !link_->open && this->in.empty();
      if (over || this->engine().wants_hang_up()) {
        cut();
        moved = true;
      }
    }
    return moved;
  }

 private:
  Broker<BrokerConfig>& broker_;
  Link* link_ = nullptr;
  size_t read_ = 0;
};

}  // namespace sim

#endif  // MQTT_TESTS_SIM_CLIENT_SIM_HPP
