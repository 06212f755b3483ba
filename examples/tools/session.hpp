// examples/tools/session.hpp — one client of a broker: connects, moves bytes, gives events
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_SESSION_HPP
#define MQTT_TOOLS_SESSION_HPP

#include <algorithm>
#include <optional>
#include <ports/posix/memory.hpp>

#include "link.hpp"
#include "payload.hpp"

namespace tools {

/// What a tool exits with when it is not a reason code; the numbers of Mosquitto's library.
struct ExitCode {
  static constexpr int success = 0;
  static constexpr int failure = 1;
  static constexpr int protocol_error = 2;
  static constexpr int kicked = 4;
  static constexpr int refused = 5;
  static constexpr int connection_lost = 7;
  static constexpr int timed_out = 27;
};

namespace detail {
/// The names of v5 §2.4.
inline const char* reason_text(mqtt::ReasonCode reason) {
  struct Name {
    uint8_t code;
    const char* text;
  };
  constexpr Name names[] = {{0x00, "Success"},
                            {0x01, "Granted QoS 1"},
                            {0x02, "Granted QoS 2"},
                            {0x04, "Disconnect with Will Message"},
                            {0x10, "No matching subscribers"},
                            {0x11, "No subscription existed"},
                            {0x18, "Continue authentication"},
                            {0x19, "Re-authenticate"},
                            {0x80, "Unspecified error"},
                            {0x81, "Malformed Packet"},
                            {0x82, "Protocol Error"},
                            {0x83, "Implementation specific error"},
                            {0x84, "Unsupported Protocol Version"},
                            {0x85, "Client Identifier not valid"},
                            {0x86, "Bad User Name or Password"},
                            {0x87, "Not authorized"},
                            {0x88, "Server unavailable"},
                            {0x89, "Server busy"},
                            {0x8A, "Banned"},
                            {0x8B, "Server shutting down"},
                            {0x8C, "Bad authentication method"},
                            {0x8D, "Keep Alive timeout"},
                            {0x8E, "Session taken over"},
                            {0x8F, "Topic Filter invalid"},
                            {0x90, "Topic Name invalid"},
                            {0x91, "Packet Identifier in use"},
                            {0x92, "Packet Identifier not found"},
                            {0x93, "Receive Maximum exceeded"},
                            {0x94, "Topic Alias invalid"},
                            {0x95, "Packet too large"},
                            {0x96, "Message rate too high"},
                            {0x97, "Quota exceeded"},
                            {0x98, "Administrative action"},
                            {0x99, "Payload format invalid"},
                            {0x9A, "Retain not supported"},
                            {0x9B, "QoS not supported"},
                            {0x9C, "Use another server"},
                            {0x9D, "Server moved"},
                            {0x9E, "Shared Subscriptions not supported"},
                            {0x9F, "Connection rate exceeded"},
                            {0xA0, "Maximum connect time"},
                            {0xA1, "Subscription identifiers not supported"},
                            {0xA2, "Wildcard Subscriptions not supported"}};
  for (const Name& name : names) {
    if (name.code == mqtt::code(reason)) { return name.text; }
  }
  return "Unknown reason";
}

inline const char* return_code_text(uint8_t code) {
  constexpr const char* texts[] = {"Connection Accepted.",
                                   "Connection Refused: unacceptable protocol version.",
                                   "Connection Refused: identifier rejected.",
                                   "Connection Refused: broker unavailable.",
                                   "Connection Refused: bad user name or password.",
                                   "Connection Refused: not authorised."};
  return code < 6 ? texts[code] : "Connection Refused: unknown reason.";
}
}  // namespace detail

inline constexpr const char* lost_text = "Error: The connection was lost.\n";
inline constexpr const char* protocol_error_text =
    "Error: A network protocol error occurred when communicating with the broker.\n";

/// See ClientConfig. How many messages are under way is the tools' own to limit (-M), and the
/// Receive Maximum that the broker is told is less than what there is memory for: before 5.0 a
/// broker is not told, and may send more.
struct EngineConfig : mqtt::ClientConfig {
  using Source = Payload;
  static constexpr uint16_t inflight_max = 65535;
  static constexpr uint16_t receive_maximum = 65535;
  static constexpr uint16_t control_bytes = 32768;
  static constexpr uint16_t topic_alias_maximum = 10;
  static constexpr uint32_t answer_timeout_ms = 30000;
};

class Session {
 public:
  using Engine = mqtt::ClientEngine<EngineConfig>;
  /// Larger payloads are sent from where they are, one at a time.
  static constexpr uint32_t copied_bytes_max = 32768;

  explicit Session(Options& options)
      : options_(options), link_(options), trace_(options.version, options.client_id, stdout) {}

  /// False: it has said why.
  bool prepare() {
    if (options_.debug) { link_.set_trace(&trace_); }
    return name_client() && fill_connect() && reserve_memory() && link_.prepare();
  }
  /// After a lost link dials again, a second later and then every second.
  void keep_dialing() { keeps_dialing_ = true; }

  /// Dials once and waits for the outcome. False: it has said why.
  bool dial() {
    const mqtt::Millis until = clock_.now_ms() + dial_timeout_ms;
    int32_t result = 0;
    while (result == 0 && clock_.now_ms() < until) {
      result = link_.dial(0);
      if (result == 0) { link_.wait(until, -1); }
    }
    if (result > 0 && begin()) { return true; }
    if (result <= 0) { link_.say_why(); }
    link_.hang_up();
    return false;
  }

  /// What happened next; false: nothing more now.
  bool next_event(mqtt::ClientEvent& event) {
    while (true) {
      const mqtt::Millis now = clock_.now_ms();
      if (engine_->next_event(now, event)) {
        note(event);
        return true;
      }
      if (!is_up_ && !dial_again(now)) { return false; }
      const int32_t sent = transmit();
      if (engine_->wants_hang_up()) {
        link_.finish();
        drop();
        continue;
      }
      const int32_t got = receive();
      if (got < 0 || (sent < 0 && got == 0)) {
        link_.hang_up();
        drop();
      } else if (sent == 0 && got == 0) {
        return false;
      }
    }
  }
  /// Sends what is due, answers too; whether that was anything. Does not disturb the event that is
  /// being handled. To be called before wait() when something was published.
  bool transmit_now() { return transmit() > 0; }

  /// Waits for something to do until `deadline`; whether `other` can be read.
  bool wait(mqtt::Millis deadline, int other = -1) {
    mqtt::Millis mine = is_up_           ? engine_->deadline()
                        : keeps_dialing_ ? retry_at_
                                         : ~mqtt::Millis{0};
    if (is_dialing_) { mine = dial_until_; }
    return link_.wait(mine < deadline ? mine : deadline, other);
  }

  mqtt::Submission publish(const mqtt::Publish& head, Payload& payload) {
    if (payload.size() > mqtt::remaining_length_max) {
      return {mqtt::Answer::invalid, mqtt::Error::string_too_long};
    }
    const uint32_t size = static_cast<uint32_t>(payload.size());
    if (size > copied_bytes_max) { return engine_->publish(head, size, payload); }
    mqtt::Publish whole = head;
    whole.payload = size != 0 ? payload.piece(0) : mqtt::Bytes();
    if (whole.payload.size() > size) { whole.payload = whole.payload.first(size); }
    return engine_->publish(whole);
  }

  /// DISCONNECT, with the properties of -D.
  void disconnect(mqtt::ReasonCode reason = mqtt::ReasonCode::success) {
    keeps_dialing_ = false;
    is_ending_ = true;
    const bool v5 = options_.is_v5();
    const mqtt::Answer answer = engine_->disconnect(
        v5 ? reason : mqtt::ReasonCode::success,
        v5 ? options_.properties[Place::disconnect].view() : mqtt::Properties());
    if (answer != mqtt::Answer::queued) { static_cast<void>(engine_->disconnect()); }
  }

  bool is_up() const { return is_up_; }
  bool is_ending() const { return is_ending_; }
  Engine& engine() { return *engine_; }
  /// What the broker takes at most; 0: it did not say.
  uint32_t packet_bytes_max() const { return packet_bytes_max_; }
  mqtt::Millis now() const { return clock_.now_ms(); }

  /// Says why CONNACK refused, and gives the exit code: what the byte is.
  int refusal(const mqtt::ClientEvent& event) {
    const uint8_t code = mqtt::connack_code(options_.version, event.reason_code);
    const bool is_version = options_.is_v5() && options_.tool != rr &&
                            event.reason_code == mqtt::ReasonCode::unsupported_protocol_version;
    complain(
        options_, "Connection error: %s%s\n",
        options_.is_v5() ? detail::reason_text(event.reason_code) : detail::return_code_text(code),
        is_version ? ". Try connecting to an MQTT v5 broker, or use MQTT v3.x mode." : "");
    return code;
  }
  /// Says how the link ended, and gives the exit code.
  int loss(const mqtt::ClientEvent& event) {
    const mqtt::ErrorKind kind = mqtt::kind(event.error);
    if (event.error == mqtt::Error::none) {
      complain(options_, "Error: The client is not currently connected.\n");
      return ExitCode::kicked;
    }
    const bool is_lost = kind == mqtt::ErrorKind::link;
    complain(options_, "%s", is_lost ? lost_text : protocol_error_text);
    return is_lost ? ExitCode::connection_lost : ExitCode::protocol_error;
  }

 private:
  static constexpr mqtt::Millis dial_timeout_ms = 30000;
  static constexpr uint32_t retry_ms = 1000;
  static constexpr uint32_t outbox_bytes = 262144;

  bool name_client() {
    if (options_.id_prefix != nullptr) {
      snprintf(id_, sizeof id_, "%s%d", options_.id_prefix, static_cast<int>(getpid()));
      options_.client_id = id_;
    } else if (options_.client_id != nullptr && *options_.client_id == 0) {
      complain(options_, options_.tool == pub ? "Error: Invalid id.\n"
                                              : "Error: Invalid id and/or clean_session.\n");
      return false;
    } else if (options_.client_id == nullptr && options_.version == mqtt::Version::v3_1) {
      // 3.1 knows no client without a name.
      snprintf(id_, sizeof id_, "mqtt-%08x%08x", clock_.random(), clock_.random());
      options_.client_id = id_;
    }
    trace_ = Trace(options_.version, options_.client_id, stdout);
    return true;
  }

  bool fill_connect() {
    const bool v5 = options_.is_v5();
    if (options_.password != nullptr && options_.user_name == nullptr && !v5) {
      complain(options_, "Error: Problem setting username and/or password.\n");
      return false;
    }
    PropertyList& properties = options_.properties[Place::connect];
    const int count = options_.tool == rr ? 1 : options_.message_count;
    const uint32_t usual = count > 0 && count < 20 ? static_cast<uint32_t>(count) : 20;
    announce(properties, mqtt::PropertyId::receive_maximum, usual);
    // An alias is the engine's to choose; that one is wanted is what -D says.
    const uint32_t alias_maximum = properties.take_number(mqtt::PropertyId::topic_alias_maximum, 0);
    uses_aliases_ =
        options_.properties[Place::publish].take_number(mqtt::PropertyId::topic_alias, 0) != 0 ||
        alias_maximum != 0;
    if (uses_aliases_) {
      announce(properties, mqtt::PropertyId::topic_alias_maximum,
               std::min<uint32_t>(alias_maximum, EngineConfig::topic_alias_maximum));
    }
    connect_.version = options_.version;
    connect_.clean_start = options_.clean_session;
    connect_.keep_alive_s = static_cast<uint16_t>(options_.keep_alive_s);
    if (options_.client_id != nullptr) { connect_.client_id = options_.client_id; }
    connect_.has_user_name = options_.user_name != nullptr;
    if (connect_.has_user_name) { connect_.user_name = options_.user_name; }
    connect_.has_password = options_.password != nullptr;
    if (connect_.has_password) { connect_.password = mqtt::Text(options_.password).bytes(); }
    connect_.has_will = options_.will_topic != nullptr;
    if (connect_.has_will) {
      connect_.will.topic = options_.will_topic;
      if (options_.will_payload != nullptr) {
        connect_.will.payload = mqtt::Text(options_.will_payload).bytes();
      }
      connect_.will.qos = static_cast<mqtt::Qos>(options_.will_qos);
      connect_.will.retain = options_.will_retain;
      if (v5) { connect_.will.properties = options_.properties[Place::will].view(); }
    }
    if (v5) { connect_.properties = properties.view(); }
    return true;
  }

  // Puts a limit of ours at the end of CONNECT's properties; the engine then announces no other.
  static void announce(PropertyList& properties, mqtt::PropertyId id, uint32_t usual) {
    const uint32_t value = properties.take_number(id, usual);
    properties.add(2, [=](mqtt::PropertyWriter& writer) { writer.number(id, value); });
  }

  // A message is received whole, however large; memory is used only as far as there are bytes.
  bool reserve_memory() {
    constexpr uint64_t packet_bytes = uint64_t{mqtt::remaining_length_max} + 5;
    const uint64_t reserved =
        2 * uint64_t{EngineConfig::receive_maximum} + EngineConfig::control_bytes;
    const uint64_t outbox = options_.remove_retained ? packet_bytes : outbox_bytes;
    constexpr uint64_t alias_bytes = uint64_t{2} * 65540 * EngineConfig::topic_alias_maximum;
    if (!rx_.reserve(packet_bytes) || !tx_.reserve(outbox + reserved) ||
        (uses_aliases_ && !aliases_.reserve(alias_bytes))) {
      complain(options_, "Error: Out of memory.\n");
      return false;
    }
    engine_.emplace(connect_, mqtt::ClientMemory{view(rx_), view(tx_), view(aliases_)});
    return true;
  }
  static mqtt::Buffer view(const mqtt::posix::Reservation& memory) {
    return mqtt::Buffer(memory.data(), static_cast<uint32_t>(memory.size()));
  }

  // The link is up: CONNECT.
  bool begin() {
    const mqtt::Error error = engine_->start(clock_.now_ms());
    if (error != mqtt::Error::none) {
      const mqtt::Text why = mqtt::text(error);
      complain(options_, "Error: %.*s.\n", static_cast<int>(why.size()), why.data());
      return false;
    }
    is_up_ = true;
    is_dialing_ = false;
    return true;
  }

  void note(const mqtt::ClientEvent& event) {
    if (event.type == mqtt::ClientEventType::connected) {
      packet_bytes_max_ = event.properties.number(mqtt::PropertyId::maximum_packet_size, 0);
    }
  }
  void drop() {
    engine_->lost();
    is_up_ = false;
    retry_at_ = clock_.now_ms() + retry_ms;
  }
  // Whether there is a link again.
  bool dial_again(mqtt::Millis now) {
    if (!keeps_dialing_ || now < retry_at_) { return false; }
    if (!is_dialing_) { dial_until_ = now + dial_timeout_ms; }
    is_dialing_ = true;
    const int32_t result = link_.dial(0);
    if (result == 0 && now < dial_until_) { return false; }
    if (result > 0 && begin()) { return true; }
    link_.hang_up();
    is_dialing_ = false;
    retry_at_ = now + retry_ms;
    return false;
  }

  // > 0 something was moved, < 0 the link is gone.
  int32_t transmit() {
    int32_t moved = 0;
    while (is_up_) {
      const mqtt::Bytes bytes = engine_->tx_pending();
      const int32_t size = bytes.empty() ? 0 : link_.transmit(bytes.data(), bytes.size());
      if (size <= 0) { return size < 0 ? size : moved; }
      engine_->tx_commit(static_cast<uint32_t>(size));
      moved = 1;
    }
    return moved;
  }
  int32_t receive() {
    uint8_t unread[4096];  // behind our DISCONNECT nothing counts
    const mqtt::Buffer space = is_ending_ ? mqtt::Buffer(unread) : engine_->rx_space();
    const int32_t size = space.empty() ? 0 : link_.receive(space.data(), space.size());
    if (size > 0 && !is_ending_) { engine_->rx_commit(static_cast<uint32_t>(size)); }
    return size;
  }

  Options& options_;
  Link link_;
  Trace trace_;
  mqtt::posix::ClientClock clock_;
  mqtt::Connect connect_;
  char id_[512] = {};
  mqtt::posix::Reservation rx_;
  mqtt::posix::Reservation tx_;
  mqtt::posix::Reservation aliases_;
  std::optional<Engine> engine_;
  bool uses_aliases_ = false;
  bool is_up_ = false;
  bool is_ending_ = false;
  bool keeps_dialing_ = false;
  bool is_dialing_ = false;
  mqtt::Millis retry_at_ = 0;
  mqtt::Millis dial_until_ = 0;
  uint32_t packet_bytes_max_ = 0;
};

}  // namespace tools

#endif
