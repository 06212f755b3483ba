// mqtt.hpp — MQTT 3.1, 3.1.1 and 5.0 in one C++17 header
// SPDX-License-Identifier: MIT
//
// >> 0. manual — what it is, how it is used, what it promises
//
// A codec for all packets of all three versions, a client and a broker core, for a microcontroller
// and a server alike. It never allocates, blocks, throws or recurses, includes <stdint.h>,
// <stddef.h> and <string.h> only, and refuses every malformed byte with the reason code the
// specification names. There is no I/O in it: bytes and the time go in, bytes and decisions come
// out. Sockets are in ports/, the broker program is examples/mqttd.
//
// CONTENTS (each section uses only those above it; `grep -n '^// >>' mqtt.hpp`)
//
//   >> 0. manual — what it is, how it is used, what it promises
//   >> 1. config — language check, assertions, version
//   >> 2. vocabulary — spans, text, errors, results
//   >> 3. protocol — versions, packet types, reason codes and what differs between versions
//   >> 4. wire — UTF-8, variable byte integers, Reader and Writer
//   >> 5. properties — the table of v5 §2.2.2, a view and a writer
//   >> 6. packets — one struct per packet, for all versions
//   >> 7. codec — next_frame, decode, encode, encoded_size
//   >> 8. topics — validation, matching, shared subscriptions
//   >> 9. delivery — the QoS 1 and 2 handshakes, packet ids
//   >> 10. client engine — session, outbox, replay, keep alive, aliases, streams, authentication
//   >> 11. client — Client<Transport, Clock, Config>
//   >> 12. broker memory — limits, tables, blocks, texts, queues, timers
//   >> 13. broker index — filters, shared groups, retained messages
//   >> 14. broker engine — connections, sessions, routing, queues, wills, expiry, output
//   >> 15. broker — Broker<Transport, Clock, Config>
//
// THE CODEC
//
//     uint8_t memory[256];
//     mqtt::Publish packet;
//     packet.topic = "room/1/temperature";
//     packet.payload = mqtt::Text("21.5").bytes();
//     const mqtt::Result<uint32_t> size = mqtt::encode(mqtt::Version::v5, packet, memory);
//     if (!size) { log(mqtt::text(size.error)); }
//
//     mqtt::Frame frame;  // `input` is what has come from the stream so far
//     mqtt::Error error = mqtt::next_frame(input, version, packet_bytes_max, frame);
//     if (error == mqtt::Error::none) {
//       error = mqtt::decode(frame, version, mqtt::Side::client, [](const auto& packet) { … });
//     }                   // then go on behind frame.size() bytes
//
// What decode() gives are views of the input, checked once and valid as long as its bytes. One
// struct serves all versions; fields that a version lacks are ignored by encode() and empty after
// decode(). Reason codes are those of 5.0 everywhere; section 3 translates.
//
// A CLIENT, whole, on Linux; on a chip write the hooks as in section 11 or take ports/
//
//     #include <ports/posix/client.hpp>
//     using Net = mqtt::posix::ClientTransport<>;
//
//     int main() {
//       const mqtt::posix::Server servers[] = {{"broker.local", "1883"}};
//       Net net(servers);
//       mqtt::posix::ClientClock clock;
//       mqtt::Connect connect;  // client id, user, will, keep alive, version: as you like
//       mqtt::Client<Net, mqtt::posix::ClientClock> client(net, clock, connect);
//       client.start();
//       const auto print = [](const mqtt::ClientEvent& event) {
//         const mqtt::Publish& message = event.message;
//         printf("%.*s\n", int(message.payload.size()), message.payload.data());
//       };
//       if (!client.subscribe("room/+/temperature", mqtt::Qos::at_least_once, print) ||
//           !client.publish("room/1/hello", "there", mqtt::Qos::exactly_once)) {
//         return 1;
//       }
//       while (true) { net.wait_until(client.run_once()); }
//     }
//
// It dials again with growing waits, resumes its session, sends again what was not acknowledged
// and subscribes again when the server has forgotten. Requests answer queued, full, offline, too
// big, or which limit of the server forbids them; their end is told by an event with their handle.
// ClientConfig names its memory and hooks (ClientFeatures: what is compiled, Store: an outbox that
// outlives a restart, Source: payloads larger than memory). Without the loop: ClientEngine.
//
// A BROKER on a microcontroller: your transport and clock, memory fixed at compile time
//
//     struct Net {  // links are numbered from 0
//       bool accept_next(uint32_t& link);  // a new one, if any
//       int32_t receive(uint32_t link, uint8_t* target, size_t size);  // 0 nothing, < 0 gone
//       int32_t transmit(uint32_t link, const uint8_t* source, size_t size);  // may take fewer
//       void hang_up(uint32_t link);
//     };
//     struct Time { uint64_t now_ms(); };             // never back
//
//     constexpr mqtt::BrokerLimits small() {  // all of one: bench/footprint/broker_main.cpp
//       mqtt::BrokerLimits limits;
//       limits.connections = limits.sessions = 4;
//       limits.blocks = 32, limits.block_bytes = 104, limits.large_blocks = 0;
//       …
//       return limits;
//     }
//     static constexpr mqtt::BrokerLimits limits = small();
//     struct Config : mqtt::BrokerConfig { using Index = uint16_t; };
//     static mqtt::Broker<Net, Time, Config, limits> broker(net, time);
//
//     if (broker.start(random_number()) != mqtt::Error::none) { … }
//     while (true) { broker.run_once(); }
//
// On a server use BrokerEngine itself, with the memory and the loop of ports/posix; with a journal
// of ports/journal what it acknowledged outlives a power cut.
//
// HOOKS are types, found by name, with empty defaults: BrokerConfig::Policy (AllowAll: who may
// connect, publish, subscribe, receive; may answer a CONNECT or a QoS > 0 PUBLISH later),
// BrokerConfig::Journal (NoJournal: durable changes in order; answers wait until they are safe),
// BrokerConfig::Features (AllFeatures: what is compiled). Transport and Clock: sections 11 and 15.
//
// TIME is uint64_t milliseconds passed in; deadline() says when tick() is due. THREADS: none; one
// thread owns an engine, policy and journal hooks run in it and must not call back into it.
//
// SIZING: BrokerLimits names every limit; broker_bytes(limits) is the memory, to the byte, and only
// what is used of it is touched. With 32-bit indices (16-bit ones): 112 (88) bytes a link, 112
// (82) a session, a text block a client id, 28 (16) a subscription, 56 (34) and its text a filter,
// 28 and topic, properties and payload a stored message, in blocks of block_bytes; 16 (12) a queued
// reference to it. A client is 160 bytes and the rx and tx you give it.
//
// WHEN FULL every limit answers; nothing stalls and nothing acknowledged is lost.
//
//   limit (option of mqttd)                     default   answer
//   connections (max_connections)               1024      not admitted: the port closes it
//   sessions                                    2048      CONNACK 0x97, 3.x: 0x03
//   subscriptions, filters, filter_nodes        32768     SUBACK 0x97, 3.1.1: 0x80
//   retained, retained_nodes                    16384     PUBACK 0x97, 3.x: close; QoS 0: dropped
//   blocks, large_blocks, text_blocks (memory_limit)      PUBACK or PUBREC 0x97, 3.x: close; QoS 0:
//                                                         dropped and counted
//   packet_bytes_max (max_packet_size)          2000000   DISCONNECT 0x95, 3.x: close
//   control_packet_bytes_max                    524288    the same, for all but a payload
//   message_bytes_max (message_size_limit)      none      PUBACK 0x95; QoS 0, 3.x: discarded
//   topic_levels_max                            201       DISCONNECT 0x81, 3.x: close
//   receive_maximum (max_inflight_messages)     20        DISCONNECT 0x93; 3.x are not limited
//   inflight_max (max_inflight_messages)        20        later ones wait
//   queued_max (max_queued_messages)            1000      a QoS > 0 publisher waits up to pause_ms
//   queued_bytes_max (max_queued_bytes)         none      if one is online; then and QoS 0: dropped
//   inflight_bytes_max (max_inflight_bytes)     none      later ones wait
//   topic_alias_max (max_topic_alias)           10        DISCONNECT 0x94
//   topic_alias_broker_max                      10        later topics go without
//   keep_alive_max_s (max_keepalive)            none      Server Keep Alive
//   session_expiry_max_s (persistent_client_expiration)   shortened, and said in CONNACK
//   retained_expiry_s (retain_expiry_interval)  none      dropped
//   connect_timeout_s, packet_timeout_s         30, 60    close, DISCONNECT 0x8D for a packet
//   pause_ms                                    5000      the wait is over: see queued_max
//   policy_timeout_s                            30        0x83, 3.x: close
//   turn_records                                4096      later packets of the turn are copied
//
// ERRORS: `Error` names what went wrong; kind() tells who is at fault: *peer* (close the link with
// reason_code()), *capacity* (a limit of ours, nothing has changed), *usage* (a wrong call, nothing
// has changed), *link* (the transport is gone); text() is a sentence.
//
// VERSIONS differ in one table, `VersionRules` (section 3). 3.1: name MQIsdp, no session-present
// bit, no failure in SUBACK (a refused filter is granted and delivers nothing), DUP legal on
// PUBREL, SUBSCRIBE and UNSUBSCRIBE. 3.x have no reason codes: a PUBLISH that may not be is
// acknowledged and discarded, one there is no room for ends the connection.

// >> 1. config — language check, assertions, version

#ifndef MQTT_HPP
#define MQTT_HPP

#if __cplusplus < 201703L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 201703L)
#error "mqtt.hpp needs C++17 (add -std=gnu++17)"
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MQTT_VERSION_MAJOR 1
#define MQTT_VERSION_MINOR 0
#define MQTT_VERSION_PATCH 0

/// Checks what only a bug of ours can break, never bytes from the network. Define it before the
/// include to use another handler; with NDEBUG it is nothing.
#ifndef MQTT_ASSERT
#ifdef NDEBUG
#define MQTT_ASSERT(condition) static_cast<void>(sizeof(!(condition)))
#else
#define MQTT_ASSERT(condition) ((condition) ? static_cast<void>(0) : __builtin_trap())
#endif
#endif

namespace mqtt {

// >> 2. vocabulary — spans, text, errors, results

namespace detail {
template <typename T>
using Pointer = T*;

struct Place {};
template <typename T, typename U>
struct Same {
  static constexpr bool value = false;
};
template <typename T>
struct Same<T, T> {
  static constexpr bool value = true;
};

template <typename T>
constexpr T smaller(T a, T b) noexcept {
  return a < b ? a : b;
}
template <typename T>
constexpr T larger(T a, T b) noexcept {
  return a < b ? b : a;
}
inline void copy(uint8_t* target, const void* source, uint32_t size) noexcept {
  if (size != 0) { memcpy(target, source, size); }
}
}  // namespace detail

/// A view of `size` objects at `data`; owns nothing. A packet of 256 MB fits on an 8-bit part, too.
template <typename T>
class Span {
 public:
  constexpr Span() noexcept = default;
  constexpr Span(T* data, uint32_t size) noexcept : data_(data), size_(size) {}
  template <size_t N>
  constexpr Span(T (&array)[N]) noexcept : data_(array), size_(static_cast<uint32_t>(N)) {}
  /// A view of mutable objects is also a view of constant ones.
  template <typename U, typename = decltype(detail::Pointer<T>{static_cast<U*>(nullptr)})>
  constexpr Span(Span<U> other) noexcept : data_(other.data()), size_(other.size()) {}

  constexpr T* data() const noexcept { return data_; }
  constexpr uint32_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T* begin() const noexcept { return data_; }
  constexpr T* end() const noexcept { return data_ + size_; }
  constexpr T& operator[](uint32_t index) const noexcept { return data_[index]; }
  /// The first `count` objects; `count` must not exceed size().
  constexpr Span first(uint32_t count) const noexcept { return Span(data_, count); }
  /// All but the first `count` objects; `count` must not exceed size().
  constexpr Span skip(uint32_t count) const noexcept { return Span(data_ + count, size_ - count); }

 private:
  T* data_ = nullptr;
  uint32_t size_ = 0;
};
using Bytes = Span<const uint8_t>;
using Buffer = Span<uint8_t>;

/// A view of characters; owns nothing and need not end in a zero. Converts from a zero-terminated
/// string and from anything with data() and size(), such as std::string and std::string_view.
class Text : public Span<const char> {
 public:
  constexpr Text() noexcept : Span("", 0) {}
  constexpr Text(const char* data, uint32_t size) noexcept : Span(data, size) {}
  constexpr Text(const char* zero_terminated) noexcept
      : Span(zero_terminated, static_cast<uint32_t>(__builtin_strlen(zero_terminated))) {}
  template <typename S, typename = decltype(detail::Pointer<const char>{
                            static_cast<const S*>(nullptr)->data()})>
  constexpr Text(const S& string) noexcept
      : Span(string.data(), static_cast<uint32_t>(string.size())) {}
  explicit Text(Bytes bytes) noexcept
      : Span(reinterpret_cast<const char*>(bytes.data()), bytes.size()) {}
  Bytes bytes() const noexcept { return Bytes(reinterpret_cast<const uint8_t*>(data()), size()); }
  friend bool operator==(Text a, Text b) noexcept {
    return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size()) == 0);
  }
  friend bool operator!=(Text a, Text b) noexcept { return !(a == b); }
};

/// Milliseconds of a clock that never goes back; any origin.
using Millis = uint64_t;

/// Who is at fault, and so what to do: *none*, *incomplete* (wait for bytes), *peer* (close the
/// link), *capacity* (a limit of ours; nothing has changed), *usage* (a wrong call; nothing has
/// changed), *link* (the transport is gone).
enum class ErrorKind : uint8_t { none, incomplete, peer, capacity, usage, link };

/// What went wrong: text() is a sentence, kind() who is at fault, reason_code() for the peer.
enum class [[nodiscard]] Error : uint8_t{
    none,
    incomplete,            ///< more bytes are needed; nothing is wrong
    malformed_length,      ///< remaining length or a length inside does not fit the packet
    malformed_integer,     ///< variable byte integer of five bytes or not in its shortest form
    malformed_flags,       ///< reserved bits of the fixed header, CONNECT flags or options
    malformed_type,        ///< packet type 0, or 15 before version 5.0
    malformed_utf8,        ///< not well-formed UTF-8, or U+0000
    malformed_topic,       ///< topic name empty or with a wildcard
    malformed_filter,      ///< topic filter empty, misplaced wildcard or bad $share syntax
    malformed_packet_id,   ///< packet id 0
    malformed_property,    ///< unknown property or one this packet may not carry
    protocol_reason,       ///< a reason code this packet may not carry
    protocol_empty_list,   ///< SUBSCRIBE or UNSUBSCRIBE without a filter
    protocol_repeated,     ///< a property that may appear once appears twice
    protocol_value,        ///< a well-formed value that the specification forbids
    protocol_direction,    ///< a packet or property only the other side may send
    protocol_state,        ///< a packet at a time when it may not come
    protocol_no_local,     ///< no local on a shared subscription
    unsupported_protocol,  ///< protocol name unknown
    unsupported_version,   ///< protocol level unknown
    identifier_rejected,   ///< client id empty without clean session
    topic_alias_invalid,   ///< topic alias 0, above the maximum or unknown
    packet_too_large,      ///< above the maximum packet size
    receive_maximum,       ///< more unacknowledged PUBLISH packets than allowed
    buffer_too_small,      ///< the target cannot hold the packet (give a larger one)
    string_too_long,       ///< a string above 65,535 bytes or a packet above 268,435,455
    invalid_topic,         ///< usage: the topic name is not one
    invalid_filter,        ///< usage: the topic filter is not one
    invalid_packet,        ///< usage: the fields contradict each other or the version
    invalid_limits,        ///< usage: the broker's limits contradict each other
    link_closed,           ///< the transport reported the end of the link
    count_                 ///< not an error: how many there are
};

namespace detail {
struct ErrorRow {
  ErrorKind kind;
  uint8_t reason_code;
  const char* text;
};
inline constexpr ErrorRow error_table[] = {
    {ErrorKind::none, 0x00, "no error"},
    {ErrorKind::incomplete, 0x00, "more bytes are needed"},
    {ErrorKind::peer, 0x81, "a length does not fit the packet"},
    {ErrorKind::peer, 0x81, "a variable byte integer is too long"},
    {ErrorKind::peer, 0x81, "reserved flags are set"},
    {ErrorKind::peer, 0x82, "the packet type is reserved"},
    {ErrorKind::peer, 0x81, "a string is not well-formed UTF-8"},
    {ErrorKind::peer, 0x81, "the topic name is empty or holds a wildcard"},
    {ErrorKind::peer, 0x81, "the topic filter is not well-formed"},
    {ErrorKind::peer, 0x81, "the packet id is 0"},
    {ErrorKind::peer, 0x81, "a property is unknown or not allowed here"},
    {ErrorKind::peer, 0x82, "the reason code is not allowed here"},
    {ErrorKind::peer, 0x82, "no topic filter is given"},
    {ErrorKind::peer, 0x82, "a property appears twice"},
    {ErrorKind::peer, 0x82, "a value is forbidden"},
    {ErrorKind::peer, 0x82, "only the other side may send this"},
    {ErrorKind::peer, 0x82, "the packet may not come now"},
    {ErrorKind::peer, 0x82, "no local is set on a shared subscription"},
    {ErrorKind::peer, 0x84, "the protocol name is unknown"},
    {ErrorKind::peer, 0x84, "the protocol version is not supported"},
    {ErrorKind::peer, 0x85, "the client id is empty without clean session"},
    {ErrorKind::peer, 0x94, "the topic alias is invalid"},
    {ErrorKind::peer, 0x95, "the packet exceeds the maximum packet size"},
    {ErrorKind::peer, 0x93, "the receive maximum is exceeded"},
    {ErrorKind::capacity, 0x97, "the buffer cannot hold the packet"},
    {ErrorKind::usage, 0x83, "a string exceeds 65,535 bytes or the packet 268,435,455"},
    {ErrorKind::usage, 0x90, "the topic name is empty, too long, not UTF-8 or holds a wildcard"},
    {ErrorKind::usage, 0x8F, "the topic filter is not well-formed"},
    {ErrorKind::usage, 0x83, "the packet's fields contradict each other or the version"},
    {ErrorKind::usage, 0x83, "the broker's limits contradict each other"},
    {ErrorKind::link, 0x80, "the link is closed"},
};
inline constexpr uint8_t error_count = static_cast<uint8_t>(Error::count_);
static_assert(sizeof(error_table) / sizeof(error_table[0]) == error_count, "a row for every Error");

// The table without its sentences, which a program that prints none need not hold.
struct ErrorCodes {
  ErrorKind kinds[error_count] = {};
  uint8_t codes[error_count] = {};
  constexpr ErrorCodes() noexcept {
    for (uint8_t i = 0; i < error_count; ++i) {
      kinds[i] = error_table[i].kind;
      codes[i] = error_table[i].reason_code;
    }
  }
};
inline constexpr ErrorCodes error_codes;
}  // namespace detail

constexpr ErrorKind kind(Error error) noexcept {
  return detail::error_codes.kinds[static_cast<uint8_t>(error)];
}
/// A sentence for people, without a full stop.
constexpr Text text(Error error) noexcept {
  return detail::error_table[static_cast<uint8_t>(error)].text;
}

/// A value, or why there is none.
template <typename T>
struct [[nodiscard]] Result {
  T value{};
  Error error = Error::none;
  constexpr explicit operator bool() const noexcept { return error == Error::none; }
};

// >> 3. protocol — versions, packet types, reason codes and what differs between versions

enum class Version : uint8_t { v3_1 = 3, v3_1_1 = 4, v5 = 5 };

enum class PacketType : uint8_t {
  connect = 1,
  connack,
  publish,
  puback,
  pubrec,
  pubrel,
  pubcomp,
  subscribe,
  suback,
  unsubscribe,
  unsuback,
  pingreq,
  pingresp,
  disconnect,
  auth
};

enum class Qos : uint8_t { at_most_once = 0, at_least_once = 1, exactly_once = 2 };

/// The two ends of a link. A decoder serves one and refuses what that end may not be sent.
enum class Side : uint8_t { client, broker };

/// When retained messages are sent for a subscription (v5 §3.8.3.1).
enum class RetainHandling : uint8_t { send = 0, send_if_new = 1, never = 2 };

/// The reason codes of 5.0, for all versions; 0 is also granted QoS 0 and normal disconnection.
enum class ReasonCode : uint8_t {
  success = 0x00,
  granted_qos_1 = 0x01,
  granted_qos_2 = 0x02,
  disconnect_with_will = 0x04,
  no_matching_subscribers = 0x10,
  no_subscription_existed = 0x11,
  continue_authentication = 0x18,
  reauthenticate = 0x19,
  unspecified_error = 0x80,
  malformed_packet = 0x81,
  protocol_error = 0x82,
  implementation_specific_error = 0x83,
  unsupported_protocol_version = 0x84,
  client_identifier_not_valid = 0x85,
  bad_user_name_or_password = 0x86,
  not_authorized = 0x87,
  server_unavailable = 0x88,
  server_busy = 0x89,
  banned = 0x8A,
  server_shutting_down = 0x8B,
  bad_authentication_method = 0x8C,
  keep_alive_timeout = 0x8D,
  session_taken_over = 0x8E,
  topic_filter_invalid = 0x8F,
  topic_name_invalid = 0x90,
  packet_identifier_in_use = 0x91,
  packet_identifier_not_found = 0x92,
  receive_maximum_exceeded = 0x93,
  topic_alias_invalid = 0x94,
  packet_too_large = 0x95,
  message_rate_too_high = 0x96,
  quota_exceeded = 0x97,
  administrative_action = 0x98,
  payload_format_invalid = 0x99,
  retain_not_supported = 0x9A,
  qos_not_supported = 0x9B,
  use_another_server = 0x9C,
  server_moved = 0x9D,
  shared_subscriptions_not_supported = 0x9E,
  connection_rate_exceeded = 0x9F,
  maximum_connect_time = 0xA0,
  subscription_identifiers_not_supported = 0xA1,
  wildcard_subscriptions_not_supported = 0xA2
};

constexpr uint8_t code(ReasonCode reason) noexcept { return static_cast<uint8_t>(reason); }
/// Codes from 0x80 report failure (v5 §2.4).
constexpr bool failed(ReasonCode reason) noexcept { return code(reason) >= 0x80; }
/// The code a peer is told for an error.
constexpr ReasonCode reason_code(Error error) noexcept {
  return static_cast<ReasonCode>(detail::error_codes.codes[static_cast<uint8_t>(error)]);
}
constexpr uint8_t level(Qos qos) noexcept { return static_cast<uint8_t>(qos); }
constexpr bool supported(Version version) noexcept {
  return version == Version::v3_1 || version == Version::v3_1_1 || version == Version::v5;
}

/// All that differs on the wire between the versions; the engines ask it and compare no versions.
struct VersionRules {
  Text protocol_name;
  bool properties;         ///< property lists, AUTH, reason codes everywhere
  bool session_present;    ///< bit 0 of CONNACK's flags is used, not reserved
  bool dup_on_requests;    ///< DUP may be set on PUBREL, SUBSCRIBE, UNSUBSCRIBE (3.1 §2.1)
  bool unused_will_bits;   ///< reserved and will bits of CONNECT are ignored where 3.1 defines none
  bool lone_user_flag;     ///< the user name flag may be set without the string (3.1 §3.1)
  bool password_alone;     ///< a password may come without a user name
  bool suback_failure;     ///< SUBACK may carry 0x80
  bool assigns_client_id;  ///< an empty client id asks for one
};

namespace detail {
inline constexpr VersionRules version_rules[] = {
    {"MQIsdp", false, false, true, true, true, false, false, false},
    {"MQTT", false, true, false, false, false, false, true, true},
    {"MQTT", true, true, false, false, false, true, true, true},
};
struct ReturnCodeRow {
  uint8_t return_code;
  ReasonCode reason;
};
// CONNACK return codes of 3.1 §3.2 and 3.1.1 §3.2.2.3; the first row of a reason counts.
inline constexpr ReturnCodeRow return_code_table[] = {
    {0, ReasonCode::success},
    {1, ReasonCode::unsupported_protocol_version},
    {2, ReasonCode::client_identifier_not_valid},
    {3, ReasonCode::server_unavailable},
    {4, ReasonCode::bad_user_name_or_password},
    {5, ReasonCode::not_authorized},
    {3, ReasonCode::server_busy},
    {3, ReasonCode::server_shutting_down},
    {3, ReasonCode::quota_exceeded},
    {3, ReasonCode::connection_rate_exceeded},
    {5, ReasonCode::banned},
    {5, ReasonCode::bad_authentication_method},
};
// VersionRules::properties without the table: every packet asks.
constexpr bool has_properties(Version version) noexcept { return version >= Version::v5; }
static_assert(!version_rules[0].properties && !version_rules[1].properties, "the table decides");
static_assert(version_rules[2].properties, "the table decides");

constexpr uint16_t packet_bit(PacketType type) noexcept {
  return static_cast<uint16_t>(1U << static_cast<uint8_t>(type));
}
template <typename... Types>
constexpr uint16_t packet_bits(Types... types) noexcept {
  return static_cast<uint16_t>((0U | ... | packet_bit(types)));
}
struct ReasonRow {
  uint16_t client_sends;  // packets in which a client may send the codes
  uint16_t server_sends;
  const char* codes;  // up to 0xFF
};
inline constexpr uint16_t in_acks = packet_bits(PacketType::puback, PacketType::pubrec);
inline constexpr uint16_t in_releases = packet_bits(PacketType::pubrel, PacketType::pubcomp);
inline constexpr uint16_t in_connack = packet_bit(PacketType::connack);
inline constexpr uint16_t in_suback = packet_bit(PacketType::suback);
inline constexpr uint16_t in_unsuback = packet_bit(PacketType::unsuback);
inline constexpr uint16_t in_disconnect = packet_bit(PacketType::disconnect);
inline constexpr uint16_t in_auth = packet_bit(PacketType::auth);

// The tables of v5 §3.2.2.2, §3.4.2.1 and §3.5.2.1, §3.6.2.1 and §3.7.2.1, §3.9.3, §3.11.3,
// §3.14.2.1 and §3.15.2.1.
inline constexpr ReasonRow reason_table[] = {
    {0, in_connack,
     "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8C\x90\x95\x97\x99\x9A\x9B\x9C\x9D\x9F"
     "\xFF"},
    {in_acks, in_acks, "\x00\x10\x80\x83\x87\x90\x91\x97\x99\xFF"},
    {in_releases, in_releases, "\x00\x92\xFF"},
    {0, in_suback, "\x00\x01\x02\x80\x83\x87\x8F\x91\x97\x9E\xA1\xA2\xFF"},
    {0, in_unsuback, "\x00\x11\x80\x83\x87\x8F\x91\xFF"},
    {in_disconnect, 0, "\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99\xFF"},
    {0, in_disconnect,
     "\x00\x80\x81\x82\x83\x87\x89\x8B\x8C\x8D\x8E\x8F\x90\x93\x94\x95\x96\x97\x98\x99\x9A\x9B\x9C"
     "\x9D\x9E\x9F\xA0\xA1\xA2\xFF"},
    {in_auth, 0, "\x18\x19\xFF"},
    {0, in_auth, "\x00\x18\xFF"},
};
}  // namespace detail

constexpr const VersionRules& rules(Version version) noexcept {
  return detail::version_rules[static_cast<uint8_t>(version) - 3];
}

/// Whether `sender` may put the code in a packet of this type [MQTT-3.2.2-8] [MQTT-3.4.2-1]
/// [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1]
/// [MQTT-3.15.2-1].
constexpr bool allowed(ReasonCode reason, PacketType type, Side sender) noexcept {
  for (const detail::ReasonRow& row : detail::reason_table) {
    const uint16_t packets = sender == Side::client ? row.client_sends : row.server_sends;
    if ((packets & detail::packet_bit(type)) == 0) { continue; }
    for (const char* listed = row.codes; *listed != '\xFF'; ++listed) {
      if (static_cast<uint8_t>(*listed) == code(reason)) { return true; }
    }
  }
  return false;
}

/// CONNACK's byte for a reason code; 0xFF where 3.x lists no fitting code: then the link is
/// closed without CONNACK [MQTT-3.2.2-6].
constexpr uint8_t connack_code(Version version, ReasonCode reason) noexcept {
  if (rules(version).properties) { return code(reason); }
  for (const detail::ReturnCodeRow& row : detail::return_code_table) {
    if (row.reason == reason) { return row.return_code; }
  }
  return 0xFF;
}

/// The reason code for a byte of CONNACK; false when the version does not list the byte.
constexpr bool connack_reason(Version version, uint8_t byte, ReasonCode& reason) noexcept {
  if (rules(version).properties) {
    reason = static_cast<ReasonCode>(byte);
    return true;
  }
  reason = byte <= 5 ? detail::return_code_table[byte].reason : ReasonCode::unspecified_error;
  return byte <= 5;
}

/// SUBACK's byte: 3.1.1 knows only 0x80, 3.1 no failure at all (the filter counts as granted).
constexpr uint8_t suback_code(Version version, uint8_t reason) noexcept {
  if (rules(version).properties || reason < 0x80) { return reason; }
  return rules(version).suback_failure ? 0x80 : 0x00;
}

// >> 4. wire — UTF-8, variable byte integers, Reader and Writer

namespace detail {
// Where code may be larger to be faster.
inline constexpr bool large_machine = sizeof(void*) >= 8;

// What a string may hold. `text`: well-formed UTF-8 without U+0000. `plain`: also no control
// characters and no noncharacters, which a receiver may refuse (v5 §1.5.4) and a broker here does,
// so that no subscriber need care. `topic_name`: no wildcards. Bits, so that rules combine.
enum class TextRule : uint8_t { text = 0, plain = 1, topic_name = 2, plain_topic_name = 3 };
constexpr bool is_plain(TextRule rule) noexcept { return (static_cast<uint8_t>(rule) & 1) != 0; }
constexpr bool is_topic(TextRule rule) noexcept { return (static_cast<uint8_t>(rule) & 2) != 0; }

// The rule for strings that `receiver` is sent.
constexpr TextRule text_rule(Side receiver) noexcept {
  return receiver == Side::broker ? TextRule::plain : TextRule::text;
}
constexpr TextRule topic_rule(Side receiver) noexcept {
  return receiver == Side::broker ? TextRule::plain_topic_name : TextRule::topic_name;
}

// Bytes that a character takes; U+0000, which no string may hold, has none.
constexpr uint32_t utf8_size(uint32_t character) noexcept {
  if (character < 0x80) { return character != 0 ? 1 : 0; }
  return character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
}

// The character at `s`, of which `size` bytes are there; 0: ill-formed. Refuses overlong forms,
// surrogates, what lies above U+10FFFF, and U+0000 [MQTT-1.5.4-1] [MQTT-1.5.3-1].
[[gnu::always_inline]] constexpr uint32_t code_point(const uint8_t* s, uint32_t size) noexcept {
  const uint8_t lead = s[0];
  if (lead < 0x80) { return lead; }
  const uint32_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || length > size) { return 0; }
  uint32_t value = lead & (0x7FU >> length);
  for (uint32_t i = 1; i < length; ++i) {
    if ((s[i] & 0xC0) != 0x80) { return 0; }
    value = (value << 6) | (s[i] & 0x3FU);
  }
  const bool overlong = value >> (5 * length - 4) == 0;
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  return overlong || surrogate || value > 0x10FFFF ? 0 : value;
}
// How many bytes a well-formed character takes; 0: ill-formed.
constexpr uint32_t utf8_character(const uint8_t* s, uint32_t size) noexcept {
  return utf8_size(code_point(s, size));
}
constexpr bool control_or_noncharacter(uint32_t value) noexcept {
  return value < 0x20 || (value >= 0x7F && value < 0xA0) || (value >= 0xFDD0 && value <= 0xFDEF) ||
         (value & 0xFFFE) == 0xFFFE;
}

// Not inlined, so that scan() stays small and saves no registers.
[[gnu::noinline, gnu::cold, gnu::pure]] inline bool scan_slowly(const uint8_t* s, uint32_t size,
                                                                TextRule rule) noexcept {
  uint32_t character = 0;
  for (uint32_t at = 0; at < size; at += utf8_size(character)) {
    character = code_point(s + at, size - at);
    if (character == 0 || (is_topic(rule) && (character == '+' || character == '#')) ||
        (is_plain(rule) && control_or_noncharacter(character))) {
      return false;
    }
  }
  return true;
}

// Sixteen bytes that the machine may hold in one register.
using Block = uint8_t __attribute__((vector_size(16)));
using Words = uint64_t __attribute__((vector_size(16)));

template <typename T>
inline T load(const uint8_t* source) noexcept {
  T value;
  memcpy(&value, source, sizeof value);
  return value;
}

// All bytes of a string shorter than a block; some come twice.
inline Block load_short(const uint8_t* s, uint32_t size) noexcept {
  Words words = {};
  if (size >= 8) {
    words = Words{load<uint64_t>(s), load<uint64_t>(s + size - 8)};
  } else if (size >= 4) {
    const uint64_t word = (uint64_t{load<uint32_t>(s)} << 32) | load<uint32_t>(s + size - 4);
    words = Words{word, word};
  } else {
    const uint64_t ends = uint64_t{s[0]} | (uint64_t{s[size - 1]} << 8);
    words = Words{ends * 0x0001000100010001, uint64_t{s[size / 2]} * 0x0101010101010101};
  }
  return reinterpret_cast<Block>(words);
}

// Whether every byte is plain ASCII from `low` on.
inline bool plain_ascii(const uint8_t* s, uint32_t size, uint8_t low) noexcept {
  constexpr uint32_t step = sizeof(Block);
  Block highest;
  if (size >= step) {
    const Block first = load<Block>(s) - low;
    const Block last = load<Block>(s + size - step) - low;  // overlaps what comes before
    highest = first > last ? first : last;
    for (uint32_t at = step; at + step < size; at += step) {
      const Block next = load<Block>(s + at) - low;
      highest = next > highest ? next : highest;
    }
  } else if (size != 0) {
    highest = load_short(s, size) - low;
  } else {
    return true;
  }
  const Block limit = Block{} + static_cast<uint8_t>(0x7E - low);
  const Words good = reinterpret_cast<Words>((highest > limit ? highest : limit) == limit);
  return (good[0] & good[1]) == ~uint64_t{0};
}
// As scan() for most strings: in topics it also refuses all of " !\"#$%&'()*+".
inline bool scan_quickly(Bytes string, TextRule rule) noexcept {
  return plain_ascii(string.data(), string.size(), is_topic(rule) ? '+' + 1 : ' ');
}
// Whether the string obeys the rule.
inline bool scan(Bytes string, TextRule rule) noexcept {
  return (large_machine && scan_quickly(string, rule)) ||
         scan_slowly(string.data(), string.size(), rule);
}

// A variable byte integer and the bytes it takes: 0 when it is cut off, more than 4 when it is too
// long or not in its shortest form [MQTT-1.5.5-1].
struct VariableInteger {
  uint32_t value;
  uint32_t size;
};
constexpr VariableInteger read_variable(Bytes source) noexcept {
  uint32_t value = 0;
  for (uint32_t at = 0; at < 4 && at < source.size(); ++at) {
    const uint8_t byte = source[at];
    value |= static_cast<uint32_t>(byte & 0x7F) << (7 * at);
    if (byte < 0x80) { return {value, byte == 0 && at != 0 ? 5 : at + 1}; }
  }
  return {0, source.size() < 4 ? 0U : 5U};
}
}  // namespace detail

/// Well-formed UTF-8 without U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.3-1] [MQTT-1.5.3-2].
/// U+FEFF is a character like any other [MQTT-1.5.4-3].
inline bool valid_text(Text text) noexcept {
  return detail::scan(text.bytes(), detail::TextRule::text);
}

/// Bytes a variable byte integer takes, 1 to 4; the value must not exceed 268,435,455.
constexpr uint32_t variable_size(uint32_t value) noexcept {
  uint32_t size = 1;
  while ((value >>= 7) != 0) { ++size; }
  return size;
}
inline constexpr uint32_t remaining_length_max = 268435455;
inline constexpr uint32_t string_bytes_max = 65535;

/// Reads the wire forms of v5 §1.5 from a span. Sticky: after a read that does not fit, every
/// value is zero and failed() stays true, so one check at the end decides. Views it returns point
/// into the span.
class Reader {
 public:
  constexpr explicit Reader(Bytes source) noexcept : cursor_(source.data()), left_(source.size()) {}

  constexpr uint32_t left() const noexcept { return left_; }
  constexpr bool failed() const noexcept { return failed_; }
  constexpr const uint8_t* cursor() const noexcept { return cursor_; }
  constexpr void fail() noexcept {
    failed_ = true;
    left_ = 0;
  }

  constexpr uint8_t u8() noexcept { return has(1) ? *take(1) : uint8_t{0}; }
  constexpr uint16_t u16() noexcept {
    if (!has(2)) { return 0; }
    const uint8_t* const s = take(2);
    return static_cast<uint16_t>((s[0] << 8) | s[1]);
  }
  constexpr uint32_t u32() noexcept {
    if (!has(4)) { return 0; }
    const uint8_t* const s = take(4);
    return (uint32_t{s[0]} << 24) | (uint32_t{s[1]} << 16) | (uint32_t{s[2]} << 8) | s[3];
  }
  /// A variable byte integer in its shortest form.
  constexpr uint32_t variable() noexcept {
    const detail::VariableInteger integer = detail::read_variable(Bytes(cursor_, left_));
    if (integer.size == 0 || integer.size > 4) {
      fail();
      return 0;
    }
    take(integer.size);
    return integer.value;
  }
  constexpr Bytes bytes(uint32_t size) noexcept {
    return has(size) ? Bytes(take(size), size) : Bytes();
  }
  /// Bytes behind a two-byte length; not checked for UTF-8.
  constexpr Bytes binary() noexcept { return bytes(u16()); }
  /// As binary(), as text: the caller checks it by valid_text().
  Text text() noexcept { return Text(binary()); }
  constexpr Bytes rest() noexcept { return bytes(left_); }

 private:
  constexpr bool has(uint32_t size) noexcept {
    if (left_ >= size) { return true; }
    fail();
    return false;
  }
  constexpr const uint8_t* take(uint32_t size) noexcept {
    cursor_ += size;
    left_ -= size;
    return cursor_ - size;
  }

  const uint8_t* cursor_;
  uint32_t left_;
  bool failed_ = false;
};

/// Writes the wire forms into a span. Sticky: what does not fit is not written, failed() stays.
class Writer {
 public:
  constexpr explicit Writer(Buffer target) noexcept
      : begin_(target.data()), cursor_(target.data()), end_(target.end()) {}

  constexpr uint32_t size() const noexcept { return static_cast<uint32_t>(cursor_ - begin_); }
  constexpr uint32_t left() const noexcept { return static_cast<uint32_t>(end_ - cursor_); }
  constexpr bool failed() const noexcept { return failed_; }
  constexpr Bytes written() const noexcept { return Bytes(begin_, size()); }
  constexpr void fail() noexcept { failed_ = true; }

  constexpr void u8(uint8_t value) noexcept {
    failed_ = failed_ || cursor_ == end_;
    if (!failed_) { *cursor_++ = value; }
  }
  constexpr void u16(uint16_t value) noexcept {
    u8(static_cast<uint8_t>(value >> 8));
    u8(static_cast<uint8_t>(value));
  }
  constexpr void u32(uint32_t value) noexcept {
    u16(static_cast<uint16_t>(value >> 16));
    u16(static_cast<uint16_t>(value));
  }
  constexpr void variable(uint32_t value) noexcept {
    for (; value >= 0x80; value >>= 7) { u8(static_cast<uint8_t>(value | 0x80)); }
    u8(static_cast<uint8_t>(value));
  }
  void bytes(Bytes source) noexcept {
    failed_ = failed_ || left() < source.size();
    if (failed_) { return; }
    detail::copy(cursor_, source.data(), source.size());
    cursor_ += source.size();
  }
  /// A two-byte length and the bytes; at most 65,535.
  void binary(Bytes source) noexcept {
    failed_ = failed_ || source.size() > string_bytes_max;
    u16(static_cast<uint16_t>(source.size()));
    bytes(source);
  }
  void text(Text source) noexcept { binary(source.bytes()); }

 private:
  uint8_t* begin_;
  uint8_t* cursor_;
  uint8_t* end_;
  bool failed_ = false;
};

// >> 5. properties — the table of v5 §2.2.2, a view and a writer

enum class PropertyId : uint8_t {
  payload_format_indicator = 0x01,
  message_expiry_interval = 0x02,
  content_type = 0x03,
  response_topic = 0x08,
  correlation_data = 0x09,
  subscription_identifier = 0x0B,
  session_expiry_interval = 0x11,
  assigned_client_identifier = 0x12,
  server_keep_alive = 0x13,
  authentication_method = 0x15,
  authentication_data = 0x16,
  request_problem_information = 0x17,
  will_delay_interval = 0x18,
  request_response_information = 0x19,
  response_information = 0x1A,
  server_reference = 0x1C,
  reason_string = 0x1F,
  receive_maximum = 0x21,
  topic_alias_maximum = 0x22,
  topic_alias = 0x23,
  maximum_qos = 0x24,
  retain_available = 0x25,
  user_property = 0x26,
  maximum_packet_size = 0x27,
  wildcard_subscription_available = 0x28,
  subscription_identifier_available = 0x29,
  shared_subscription_available = 0x2A
};

namespace detail {
// The wire form of a property and the values it may take.
enum class PropertyForm : uint8_t {
  none,         // no such property
  flag,         // one byte, 0 or 1
  u16,          // two bytes
  u16_nonzero,  // two bytes, 0 is a protocol error
  alias,        // two bytes, 0 is an invalid topic alias
  u32,          // four bytes
  u32_nonzero,  // four bytes, 0 is a protocol error
  variable,     // variable byte integer, 0 is a protocol error
  binary,       // length and bytes
  text,         // UTF-8 string
  topic,        // UTF-8 string that is a topic name
  pair          // two UTF-8 strings; may be repeated
};

// Where a packet's properties stand is told by the bit of its type. PINGREQ and PINGRESP have none:
// their bits are for PUBLISH and DISCONNECT when a server sends them. Bit 0 is the will.
constexpr uint16_t place_bit(PacketType type, Side sender) noexcept {
  const bool server = sender == Side::broker;
  return packet_bit(server && type == PacketType::publish      ? PacketType::pingreq
                    : server && type == PacketType::disconnect ? PacketType::pingresp
                                                               : type);
}
inline constexpr uint16_t in_will = 1;
inline constexpr uint16_t in_connect = packet_bit(PacketType::connect);
inline constexpr uint16_t in_subscribe = packet_bit(PacketType::subscribe);
inline constexpr uint16_t in_unsubscribe = packet_bit(PacketType::unsubscribe);
inline constexpr uint16_t from_server = packet_bit(PacketType::pingreq);
inline constexpr uint16_t server_disconnect = packet_bit(PacketType::pingresp);
inline constexpr uint16_t in_publish = packet_bit(PacketType::publish) | from_server;
inline constexpr uint16_t in_message = in_will | in_publish;
inline constexpr uint16_t in_setup = in_connect | in_connack;
inline constexpr uint16_t in_answers = in_acks | in_releases | in_connack | in_suback |
                                       in_unsuback | in_disconnect | server_disconnect | in_auth;

// What v5 table 2-4 says.
struct PropertyRule {
  PropertyId id;
  PropertyForm form;
  uint16_t places;  // place_bit() of the packets that may carry it
};
inline constexpr PropertyRule property_rules[] = {
    {PropertyId::payload_format_indicator, PropertyForm::flag, in_message},
    {PropertyId::message_expiry_interval, PropertyForm::u32, in_message},
    {PropertyId::content_type, PropertyForm::text, in_message},
    {PropertyId::response_topic, PropertyForm::topic, in_message},
    {PropertyId::correlation_data, PropertyForm::binary, in_message},
    {PropertyId::subscription_identifier, PropertyForm::variable, in_subscribe | from_server},
    {PropertyId::session_expiry_interval, PropertyForm::u32, in_setup | in_disconnect},
    {PropertyId::assigned_client_identifier, PropertyForm::text, in_connack},
    {PropertyId::server_keep_alive, PropertyForm::u16, in_connack},
    {PropertyId::authentication_method, PropertyForm::text, in_setup | in_auth},
    {PropertyId::authentication_data, PropertyForm::binary, in_setup | in_auth},
    {PropertyId::request_problem_information, PropertyForm::flag, in_connect},
    {PropertyId::will_delay_interval, PropertyForm::u32, in_will},
    {PropertyId::request_response_information, PropertyForm::flag, in_connect},
    {PropertyId::response_information, PropertyForm::text, in_connack},
    {PropertyId::server_reference, PropertyForm::text, in_connack | server_disconnect},
    {PropertyId::reason_string, PropertyForm::text, in_answers},
    {PropertyId::receive_maximum, PropertyForm::u16_nonzero, in_setup},
    {PropertyId::topic_alias_maximum, PropertyForm::u16, in_setup},
    {PropertyId::topic_alias, PropertyForm::alias, in_publish},
    {PropertyId::maximum_qos, PropertyForm::flag, in_connack},
    {PropertyId::retain_available, PropertyForm::flag, in_connack},
    {PropertyId::user_property, PropertyForm::pair,
     in_message | in_connect | in_subscribe | in_unsubscribe | in_answers},
    {PropertyId::maximum_packet_size, PropertyForm::u32_nonzero, in_setup},
    {PropertyId::wildcard_subscription_available, PropertyForm::flag, in_connack},
    {PropertyId::subscription_identifier_available, PropertyForm::flag, in_connack},
    {PropertyId::shared_subscription_available, PropertyForm::flag, in_connack},
};

// The rules by property id. `bit` is one of the rules' own, so that sets of properties fit 32 bits.
inline constexpr uint8_t property_id_max = 0x2A;
struct PropertyRow {
  uint16_t places = 0;
  PropertyForm form = PropertyForm::none;
  uint8_t bit = 0;
};
struct PropertyTable {
  PropertyRow rows[property_id_max + 1];
  constexpr PropertyTable() noexcept : rows() {
    uint8_t bit = 0;
    for (const PropertyRule& rule : property_rules) {
      rows[static_cast<uint8_t>(rule.id)] = {rule.places, rule.form, bit++};
    }
  }
};
inline constexpr PropertyTable property_table;
constexpr PropertyRow property_row(PropertyId id) noexcept {
  const uint8_t index = static_cast<uint8_t>(id);
  return index <= property_id_max ? property_table.rows[index] : PropertyRow();
}
constexpr PropertyForm form_of(PropertyId id) noexcept { return property_row(id).form; }
constexpr uint32_t property_bit(PropertyId id) noexcept {
  return uint32_t{1} << property_row(id).bit;
}

// The value of a property that is a number.
constexpr uint32_t read_number(Reader& reader, PropertyForm form) noexcept {
  if (form == PropertyForm::flag) { return reader.u8(); }
  if (form <= PropertyForm::alias) { return reader.u16(); }
  return form == PropertyForm::variable ? reader.variable() : reader.u32();
}
constexpr void write_number(Writer& writer, PropertyForm form, uint32_t value) noexcept {
  if (form == PropertyForm::flag) { return writer.u8(static_cast<uint8_t>(value)); }
  if (form <= PropertyForm::alias) { return writer.u16(static_cast<uint16_t>(value)); }
  return form == PropertyForm::variable ? writer.variable(value) : writer.u32(value);
}

// Whether a property of this form may have the value.
constexpr Error check_number(PropertyForm form, uint32_t value) noexcept {
  if (form == PropertyForm::flag) { return value > 1 ? Error::protocol_value : Error::none; }
  if (value != 0 || form == PropertyForm::u16 || form == PropertyForm::u32) { return Error::none; }
  return form == PropertyForm::alias ? Error::topic_alias_invalid : Error::protocol_value;
}
// Whether the wire form holds the value.
constexpr bool holds_number(PropertyForm form, uint32_t value) noexcept {
  if (form == PropertyForm::none || form >= PropertyForm::binary) { return false; }
  if (form <= PropertyForm::alias) { return value <= 0xFFFF; }
  return form != PropertyForm::variable || value <= remaining_length_max;
}
}  // namespace detail

/// One property. `number` holds flags and integers; `bytes` binary data; `text` strings and the
/// name of a user property, `value` its value.
struct Property {
  PropertyId id{};
  uint32_t number = 0;
  Text text;
  Text value;
  Bytes bytes;
};

/// A view of an encoded property list without its length. A decoded packet's list has been
/// checked: walking it meets no errors. Valid as long as the bytes are.
///
///     Property property;
///     for (Properties p = publish.properties; p.next(property);) { … }
class Properties {
 public:
  constexpr Properties() noexcept = default;
  constexpr explicit Properties(Bytes wire, uint32_t seen = ~uint32_t{0}) noexcept
      : data_(wire.data()), size_(wire.size()), seen_(seen) {}

  constexpr Bytes wire() const noexcept { return Bytes(data_, size_); }
  constexpr uint32_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  /// May say yes for a list that was not decoded; find() knows.
  [[gnu::always_inline]] constexpr bool has(PropertyId id) const noexcept {
    return size_ != 0 && (seen_ & detail::property_bit(id)) != 0;
  }

  /// Takes the first property off the view; false at the end.
  bool next(Property& property) noexcept {
    if (size_ == 0) { return false; }
    Reader reader(wire());
    property = Property();
    property.id = static_cast<PropertyId>(reader.u8());
    const detail::PropertyForm form = detail::form_of(property.id);
    if (form == detail::PropertyForm::none) {
      reader.fail();
    } else if (form < detail::PropertyForm::binary) {
      property.number = detail::read_number(reader, form);
    } else if (form == detail::PropertyForm::binary) {
      property.bytes = reader.binary();
    } else {
      property.text = reader.text();
      if (form == detail::PropertyForm::pair) { property.value = reader.text(); }
    }
    data_ = reader.cursor();
    size_ = reader.left();
    return !reader.failed();
  }

  /// The first property with this id; false when there is none.
  bool find(PropertyId id, Property& property) const noexcept {
    if (!has(id)) { return false; }
    for (Properties rest = *this; rest.next(property);) {
      if (property.id == id) { return true; }
    }
    return false;
  }
  /// The number of the first property with this id, else `otherwise`.
  uint32_t number(PropertyId id, uint32_t otherwise) const noexcept {
    Property property;
    return find(id, property) ? property.number : otherwise;
  }
  /// The string of the first property with this id, else an empty one.
  Text text(PropertyId id) const noexcept {
    Property property;
    return find(id, property) ? property.text : Text();
  }

 private:
  const uint8_t* data_ = nullptr;
  uint32_t size_ = 0;
  uint32_t seen_ = 0;
};

/// Builds a property list in a buffer. Sticky: when the buffer is full or a call does not fit the
/// property, failed() stays true and properties() is empty.
class PropertyWriter {
 public:
  constexpr explicit PropertyWriter(Buffer target) noexcept : writer_(target) {}

  /// A flag or an integer, in the range of the property.
  PropertyWriter& number(PropertyId id, uint32_t value) noexcept {
    const detail::PropertyForm form = detail::form_of(id);
    require(detail::holds_number(form, value) && detail::check_number(form, value) == Error::none);
    writer_.u8(static_cast<uint8_t>(id));
    detail::write_number(writer_, form, value);
    return *this;
  }
  PropertyWriter& text(PropertyId id, Text value) noexcept {
    const detail::PropertyForm form = detail::form_of(id);
    require(form == detail::PropertyForm::text || form == detail::PropertyForm::topic);
    require(valid_text(value));
    return value_of(id, value.bytes());
  }
  PropertyWriter& binary(PropertyId id, Bytes value) noexcept {
    require(detail::form_of(id) == detail::PropertyForm::binary);
    return value_of(id, value);
  }
  PropertyWriter& user_property(Text name, Text value) noexcept {
    require(valid_text(name) && valid_text(value));
    value_of(PropertyId::user_property, name.bytes());
    writer_.text(value);
    return *this;
  }
  /// Properties already encoded.
  PropertyWriter& list(Properties properties) noexcept {
    writer_.bytes(properties.wire());
    return *this;
  }

  bool failed() const noexcept { return writer_.failed(); }
  Properties properties() const noexcept {
    return failed() ? Properties() : Properties(writer_.written());
  }

 private:
  void require(bool holds) noexcept {
    if (!holds) { writer_.fail(); }
  }
  PropertyWriter& value_of(PropertyId id, Bytes value) noexcept {
    writer_.u8(static_cast<uint8_t>(id));
    writer_.binary(value);
    return *this;
  }

  Writer writer_;
};

namespace detail {
// Checks the value that follows an id and steps over it.
[[gnu::always_inline]] inline Error check_property_value(Reader& reader, PropertyForm form,
                                                         TextRule rule) noexcept {
  if (form < PropertyForm::binary) {
    const uint32_t value = read_number(reader, form);
    return reader.failed() ? Error::malformed_length : check_number(form, value);
  }
  Bytes value;
  for (uint32_t strings = form == PropertyForm::pair ? 2 : 1; strings != 0; --strings) {
    value = reader.binary();
    if (reader.failed()) { return Error::malformed_length; }
    if (form == PropertyForm::binary) { return Error::none; }
    // both halves of a pair obey the string rules [MQTT-1.5.7-1]
    if (!scan(value, rule)) { return Error::malformed_utf8; }  // [MQTT-3.3.2-13]
  }
  const bool bad = form == PropertyForm::topic &&
                   (value.empty() || !scan(value, TextRule::topic_name));  // [MQTT-3.3.2-14]
  return bad ? Error::protocol_value : Error::none;
}

// How a packet came: in which version, to whom. Type 0 is the will of a CONNECT.
struct Reception {
  Version version;
  Side receiver;
  PacketType type{};
};
constexpr Side other(Side side) noexcept {
  return side == Side::client ? Side::broker : Side::client;
}

// Checks a list once: ids, places, repetition, values.
inline Error check_properties(Bytes wire, Reception reception, Properties& properties) noexcept {
  const uint16_t place = place_bit(reception.type, other(reception.receiver));
  const TextRule rule = text_rule(reception.receiver);
  Reader list(wire);
  uint32_t seen = 0;
  while (list.left() != 0) {
    const PropertyRow row = property_row(static_cast<PropertyId>(list.u8()));
    if ((row.places & place) == 0) {
      const uint16_t opposite = place_bit(reception.type, reception.receiver);
      return (row.places & opposite) != 0 ? Error::protocol_direction : Error::malformed_property;
    }
    const uint32_t bit = uint32_t{1} << row.bit;
    if ((seen & bit) != 0 && row.form != PropertyForm::pair &&
        (row.form != PropertyForm::variable || reception.receiver == Side::broker)) {
      return Error::protocol_repeated;
    }
    seen |= bit;
    const Error error = check_property_value(list, row.form, rule);
    if (error != Error::none) { return error; }
  }
  properties = Properties(wire, seen);
  return Error::none;
}
inline Error read_properties(Reader& reader, Reception reception, Properties& properties) noexcept {
  const Bytes wire = reader.bytes(reader.variable());
  if (!wire.empty()) { return check_properties(wire, reception, properties); }
  return reader.failed() ? Error::malformed_length : Error::none;
}

// Reads a length and the list behind it; before 5.0 there is none.
[[gnu::always_inline]] inline Error take_properties(Reader& reader, Reception reception,
                                                    Properties& properties) noexcept {
  if (has_properties(reception.version)) { return read_properties(reader, reception, properties); }
  return reader.failed() ? Error::malformed_length : Error::none;
}
}  // namespace detail

// >> 6. packets — one struct per packet, for all versions

/// The message a server publishes when a connection ends without DISCONNECT (v5 §3.1.2.5).
struct Will {
  Text topic;
  Bytes payload;
  Qos qos = Qos::at_most_once;
  bool retain = false;
  Properties properties;
};

/// encode() ignores fields a version lacks (properties must be empty), decode() leaves them empty.
struct Connect {
  static constexpr PacketType type = PacketType::connect;
  Version version = Version::v5;  ///< set by decode(); encode() takes its argument
  bool clean_start = true;        ///< 3.x: clean session
  bool has_will = false;
  bool has_user_name = false;
  bool has_password = false;
  uint16_t keep_alive_s = 60;  ///< 0: no keep alive
  Text client_id;              ///< empty: the server assigns one
  Will will;
  Text user_name;
  Bytes password;
  Properties properties;
};

struct Connack {
  static constexpr PacketType type = PacketType::connack;
  bool session_present = false;
  ReasonCode reason_code = ReasonCode::success;
  Properties properties;
};

struct Publish {
  static constexpr PacketType type = PacketType::publish;
  Text topic;
  Bytes payload;
  Qos qos = Qos::at_most_once;
  bool retain = false;
  bool dup = false;
  uint16_t packet_id = 0;  ///< 0 exactly at QoS 0
  Properties properties = {};
};

/// The fields that end PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT and AUTH.
struct Reason {
  ReasonCode reason_code = ReasonCode::success;
  Properties properties;
};

/// PUBACK, PUBREC, PUBREL and PUBCOMP.
struct Ack : Reason {
  PacketType type = PacketType::puback;
  uint16_t packet_id = 0;
};

/// One entry of a SUBSCRIBE; an UNSUBSCRIBE uses the filter alone.
struct Subscription {
  Text filter;
  Qos qos = Qos::at_most_once;
  bool no_local = false;                                  ///< v5
  bool retain_as_published = false;                       ///< v5
  RetainHandling retain_handling = RetainHandling::send;  ///< v5
};

/// The filters of a SUBSCRIBE or UNSUBSCRIBE: the caller's array, or a view of a decoded packet.
///
///     Subscription entry;
///     for (SubscriptionList list = subscribe.filters; list.next(entry);) { … }
class SubscriptionList {
 public:
  constexpr SubscriptionList() noexcept = default;
  constexpr SubscriptionList(Span<const Subscription> entries) noexcept
      : entries_(entries.data()), count_(entries.size()) {}
  template <size_t N>
  constexpr SubscriptionList(const Subscription (&entries)[N]) noexcept
      : entries_(entries), count_(static_cast<uint32_t>(N)) {}
  constexpr SubscriptionList(const Subscription& entry) noexcept : entries_(&entry), count_(1) {}
  /// A checked list on the wire.
  constexpr SubscriptionList(Bytes wire, uint32_t count, bool options) noexcept
      : wire_(wire), count_(count), options_(options) {}

  /// Entries not yet taken.
  constexpr uint32_t count() const noexcept { return count_; }
  constexpr bool empty() const noexcept { return count_ == 0; }
  /// Takes the first entry off; false at the end.
  bool next(Subscription& entry) noexcept {
    if (count_ == 0) { return false; }
    count_ -= 1;
    if (entries_ != nullptr) {
      entry = *entries_++;
      return true;
    }
    Reader reader(wire_);
    entry = Subscription();
    entry.filter = reader.text();
    if (options_) {
      const uint8_t options = reader.u8();
      entry.qos = static_cast<Qos>(options & 0x03);
      entry.no_local = (options & 0x04) != 0;
      entry.retain_as_published = (options & 0x08) != 0;
      entry.retain_handling = static_cast<RetainHandling>((options >> 4) & 0x03);
    }
    wire_ = Bytes(reader.cursor(), reader.left());
    return true;
  }

 private:
  const Subscription* entries_ = nullptr;
  Bytes wire_;
  uint32_t count_ = 0;
  bool options_ = false;
};

/// A packet of one type says it at compile time.
template <PacketType T>
struct Typed {
  static constexpr PacketType type = T;
};

/// The fields of SUBSCRIBE and UNSUBSCRIBE.
struct FilterRequest {
  uint16_t packet_id = 0;
  SubscriptionList filters;
  Properties properties;
};
struct Subscribe : FilterRequest, Typed<PacketType::subscribe> {};
struct Unsubscribe : FilterRequest, Typed<PacketType::unsubscribe> {};

/// The fields of SUBACK and UNSUBACK; one byte a filter, a ReasonCode. encode() translates SUBACK's
/// for 3.x, where UNSUBACK has none.
struct FilterAnswer {
  uint16_t packet_id = 0;
  Bytes reason_codes;
  Properties properties;
};
struct Suback : FilterAnswer, Typed<PacketType::suback> {};
struct Unsuback : FilterAnswer, Typed<PacketType::unsuback> {};
struct Pingreq : Typed<PacketType::pingreq> {};
struct Pingresp : Typed<PacketType::pingresp> {};

/// Clients of all versions, servers of 5.0; before 5.0 only the type is on the wire.
struct Disconnect : Reason, Typed<PacketType::disconnect> {};
/// v5 only.
struct Auth : Reason, Typed<PacketType::auth> {};

// >> 7. codec — next_frame, decode, encode, encoded_size

/// One packet as it lies in a stream.
struct Frame {
  uint8_t first = 0;         ///< type and flags
  uint32_t header_size = 0;  ///< bytes of the fixed header, 0 while it is incomplete
  uint32_t remaining = 0;    ///< bytes behind the fixed header
  Bytes body;                ///< all of them, or, with Error::incomplete, those that are there
  constexpr PacketType type() const noexcept { return static_cast<PacketType>(first >> 4); }
  constexpr uint8_t flags() const noexcept { return first & 0x0F; }
  /// Bytes of the whole packet.
  constexpr uint32_t size() const noexcept { return header_size + remaining; }
};

namespace detail {
// PUBREL, SUBSCRIBE, UNSUBSCRIBE: 0010; PUBLISH: its own; others: 0 [MQTT-2.1.3-1] [MQTT-2.2.2-1].
inline constexpr uint16_t requests =
    packet_bits(PacketType::pubrel, PacketType::subscribe, PacketType::unsubscribe);
constexpr bool flags_allowed(uint8_t first, Version version) noexcept {
  const PacketType type = static_cast<PacketType>(first >> 4);
  if (type == PacketType::publish) { return (first & 0x06) != 0x06; }  // [MQTT-3.3.1-4]
  if ((packet_bit(type) & requests) == 0) { return (first & 0x0F) == 0; }
  const uint8_t ignored = rules(version).dup_on_requests ? 0x08 : 0x00;
  return (first & 0x0F & ~ignored) == 0x02;
}

// Wildcards fill a level, '#' the last one [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.1-3].
constexpr bool wildcards_placed(Text filter) noexcept {
  for (uint32_t at = 0; at < filter.size(); ++at) {
    if (filter[at] != '+' && filter[at] != '#') { continue; }
    const bool opens = at == 0 || filter[at - 1] == '/';
    const bool last = at + 1 == filter.size();
    if (!opens || (!last && (filter[at] == '#' || filter[at + 1] != '/'))) { return false; }
  }
  return true;
}

inline constexpr uint32_t share_prefix_size = 7;  // "$share/"
// "$share/…", and "$share" alone, which is no filter either.
constexpr bool begins_share(Text filter) noexcept {
  for (uint32_t at = 0; at < share_prefix_size; ++at) {
    if (at == filter.size()) { return at == share_prefix_size - 1; }
    if (filter[at] != "$share/"[at]) { return false; }
  }
  return true;
}

// Bytes of the ShareName; 0: not $share/ShareName/filter [MQTT-4.8.2-1] [MQTT-4.8.2-2].
constexpr uint32_t share_name_size(Text filter) noexcept {
  for (uint32_t at = share_prefix_size; at < filter.size(); ++at) {
    if (filter[at] == '+' || filter[at] == '#') { return 0; }
    if (filter[at] == '/') { return at + 1 < filter.size() ? at - share_prefix_size : 0; }
  }
  return 0;
}

// Error::none, malformed_filter, or protocol_value for what is wrong with "$share" alone.
inline Error check_filter(Text filter, TextRule rule) noexcept {
  // at least one character [MQTT-4.7.3-1], UTF-8 without U+0000 [MQTT-3.8.3-1] [MQTT-4.7.3-2]
  const bool good = !filter.empty() && scan(filter.bytes(), rule) && wildcards_placed(filter);
  if (!good) { return Error::malformed_filter; }
  return begins_share(filter) && share_name_size(filter) == 0 ? Error::protocol_value : Error::none;
}
// Nothing may follow the last field.
inline Error finish(const Reader& reader) noexcept {
  return reader.failed() || reader.left() != 0 ? Error::malformed_length : Error::none;
}

[[gnu::always_inline]] inline Error take_text(Reader& reader, Side receiver, Text& text) noexcept {
  text = reader.text();
  if (reader.failed()) { return Error::malformed_length; }
  return scan(text.bytes(), text_rule(receiver)) ? Error::none : Error::malformed_utf8;
}

// The topic, packet id and properties of a PUBLISH, up to the payload. `reader` may hold less
// than the packet: then incomplete tells that the head is not whole.
[[gnu::always_inline]] inline Error take_publish_head(Reader& reader, uint8_t first,
                                                      Reception reception,
                                                      Publish& publish) noexcept {
  publish.qos = static_cast<Qos>((first >> 1) & 0x03);
  publish.dup = (first & 0x08) != 0;
  publish.retain = (first & 0x01) != 0;
  // [MQTT-3.3.1-2]
  if (publish.dup && publish.qos == Qos::at_most_once) { return Error::malformed_flags; }
  const Bytes topic = reader.binary();
  publish.topic = Text(topic);
  const bool may_be_empty = has_properties(reception.version);
  // UTF-8 without wildcards [MQTT-3.3.2-1] [MQTT-3.3.2-2]
  if (!scan(topic, topic_rule(reception.receiver)) ||
      (topic.empty() && !may_be_empty && !reader.failed())) {
    return Error::malformed_topic;
  }
  if (publish.qos != Qos::at_most_once) {
    publish.packet_id = reader.u16();
    // [MQTT-2.2.1-3] [MQTT-2.3.1-1]
    if (publish.packet_id == 0 && !reader.failed()) { return Error::protocol_value; }
  }
  if (reader.failed()) { return Error::malformed_length; }
  reception.type = PacketType::publish;
  const Error error = take_properties(reader, reception, publish.properties);
  if (error != Error::none) { return error; }
  const bool nowhere = topic.empty() && !publish.properties.has(PropertyId::topic_alias);
  return nowhere ? Error::protocol_value : Error::none;  // v5 §3.3.2.1
}

// Bytes of the topic, packet id and properties when they can be known from `body`; 0 when not.
inline uint32_t publish_head_size(uint8_t first, Bytes body, Version version) noexcept {
  Reader reader(body);
  reader.binary();
  if ((first & 0x06) != 0) { reader.u16(); }
  if (has_properties(version)) { reader.bytes(reader.variable()); }
  return reader.failed() ? 0 : static_cast<uint32_t>(reader.cursor() - body.data());
}

[[gnu::always_inline]] inline Error take_will(Reader& reader, Version version, uint8_t flags,
                                              Will& will) noexcept {
  will.qos = static_cast<Qos>((flags >> 3) & 0x03);
  will.retain = (flags & 0x20) != 0;
  const Error error = take_properties(reader, {version, Side::broker}, will.properties);
  if (error != Error::none) { return error; }
  will.topic = reader.text();
  will.payload = reader.binary();
  if (reader.failed()) { return Error::malformed_length; }
  // UTF-8 [MQTT-3.1.3-11] [MQTT-3.1.3-10]
  const bool valid = scan(will.topic.bytes(), TextRule::plain_topic_name);
  return valid && !will.topic.empty() ? Error::none : Error::malformed_topic;
}

// Four letters as one number, which is compared at once.
constexpr uint32_t letters(const char* s) noexcept {
  const auto byte = [s](uint32_t i) noexcept { return uint32_t{static_cast<uint8_t>(s[i])}; };
  return (byte(0) << 24) | (byte(1) << 16) | (byte(2) << 8) | byte(3);
}

// v5 §3.1.2.1-2: the name tells the family, the level the version.
[[gnu::always_inline]] inline Error take_version(Reader& reader, Version& version) noexcept {
  const Text name = reader.text();
  const uint8_t level = reader.u8();
  if (reader.failed()) { return Error::malformed_length; }
  const bool new_name = name.size() == 4 && letters(name.data()) == letters("MQTT");
  const bool old_name = name.size() == 6 && letters(name.data()) == letters("MQIs") &&
                        name[4] == 'd' && name[5] == 'p';
  if (!old_name && !new_name) { return Error::unsupported_protocol; }  // [MQTT-3.1.2-1]
  if (level < 3 || level > 5) {
    // Bridges of 3.x set bit 7, and try again without it once the answer is one of 3.x.
    const bool bridge = level == 0x83 || level == 0x84;
    version = bridge ? static_cast<Version>(level & 0x7F) : Version::v5;
    return Error::unsupported_version;  // [MQTT-3.1.2-2]
  }
  const bool old_level = level == static_cast<uint8_t>(Version::v3_1);
  version = old_level == old_name ? static_cast<Version>(level) : Version::v3_1_1;
  return old_level == old_name ? Error::none : Error::unsupported_version;
}

// The end of acks, DISCONNECT and AUTH of 5.0: a reason code and properties, each of which may be
// missing with all behind it.
inline Error take_reason(Reader& reader, Reception reception, Reason& reason) noexcept {
  if (reader.left() == 0) { return Error::none; }  // v5 §3.4.2.1, §3.14.2.1: success
  reason.reason_code = static_cast<ReasonCode>(reader.u8());
  if (!allowed(reason.reason_code, reception.type, other(reception.receiver))) {
    return Error::protocol_reason;  // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
  }                                 // [MQTT-3.14.2-1] [MQTT-3.15.2-1]
  if (reader.left() == 0) { return Error::none; }
  const Error error = take_properties(reader, reception, reason.properties);
  return error != Error::none ? error : finish(reader);
}

constexpr Error check_options(uint8_t options, Text filter, Version version) noexcept {
  // [MQTT-3.8.3-4]
  if (!has_properties(version)) { return options > 2 ? Error::malformed_flags : Error::none; }
  if ((options & 0xC0) != 0) { return Error::malformed_flags; }  // [MQTT-3.8.3-5]
  // v5 §3.8.3.1
  if ((options & 0x03) == 3 || (options & 0x30) == 0x30) { return Error::protocol_value; }
  // [MQTT-3.8.3-4]
  if ((options & 0x04) != 0 && begins_share(filter)) { return Error::protocol_no_local; }
  return Error::none;
}

// How SUBSCRIBE, UNSUBSCRIBE and their answers begin.
[[gnu::always_inline]] inline Error take_id(Reader& reader, Reception reception, uint16_t& id,
                                            Properties& properties) noexcept {
  id = reader.u16();
  if (id == 0) { return reader.failed() ? Error::malformed_length : Error::malformed_packet_id; }
  return take_properties(reader, reception, properties);
}

inline Error take_filters(const Frame& frame, Version version, FilterRequest& request) noexcept {
  const bool options = frame.type() == PacketType::subscribe;
  Reader reader(frame.body);
  Error error =
      take_id(reader, {version, Side::broker, frame.type()}, request.packet_id, request.properties);
  if (error != Error::none) { return error; }
  const Bytes wire(reader.cursor(), reader.left());
  uint32_t count = 0;
  for (; reader.left() != 0; ++count) {
    const Text filter = reader.text();
    const uint8_t option_bits = options ? reader.u8() : 0;
    if (reader.failed()) { return Error::malformed_length; }
    error = check_filter(filter, TextRule::plain);
    if (error == Error::none) { error = check_options(option_bits, filter, version); }
    if (error != Error::none) { return error; }
  }
  request.filters = SubscriptionList(wire, count, options);
  return count == 0 ? Error::protocol_empty_list : Error::none;  // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
}

// PINGREQ and PINGRESP have no body.
inline Error decode(const Frame& frame, Pingreq&) noexcept { return finish(Reader(frame.body)); }
inline Error decode(const Frame& frame, Pingresp&) noexcept { return finish(Reader(frame.body)); }

// Decodes one kind of packet and hands it on; `how` is what its decode() wants besides the frame.
template <typename Packet, typename Handler, typename... How>
Error decode_to(Handler& handler, const Frame& frame, How... how) noexcept {
  union Room {
    constexpr Room() noexcept : none(0) {}
    uint8_t none;
    Packet packet;  // not made twice: decode() begins by that
  } room;
  const Error error = decode(frame, how..., room.packet);
  if (error == Error::none) { handler(static_cast<const Packet&>(room.packet)); }
  return error;
}
}  // namespace detail

/// Finds the first packet in `input`. Checks type, reserved flags, length form and size as soon as
/// the bytes that decide are there. Error::incomplete: wait for more; `frame` then holds what is
/// known. `packet_bytes_max` bounds the whole packet.
inline Error next_frame(Bytes input, Version version, uint32_t packet_bytes_max,
                        Frame& frame) noexcept {
  frame = Frame();
  if (input.empty()) { return Error::incomplete; }
  frame.first = input[0];
  if (frame.first < 0x10 || (frame.first >= 0xF0 && !detail::has_properties(version))) {
    return Error::malformed_type;
  }
  if (!detail::flags_allowed(frame.first, version)) { return Error::malformed_flags; }
  const detail::VariableInteger length = detail::read_variable(input.skip(1));
  if (length.size == 0) { return Error::incomplete; }
  if (length.size > 4) { return Error::malformed_integer; }
  frame.remaining = length.value;
  frame.header_size = 1 + length.size;
  if (frame.size() > packet_bytes_max) { return Error::packet_too_large; }
  const uint32_t there = input.size() - frame.header_size;
  frame.body = Bytes(input.data() + frame.header_size, detail::smaller(there, frame.remaining));
  return there < frame.remaining ? Error::incomplete : Error::none;
}

/// Reads a CONNECT of any version and sets `connect.version`, also when it then fails (so that an
/// answer can be chosen), but for unsupported_protocol and a name that is cut off.
/// Error::identifier_rejected leaves everything filled [MQTT-3.1.3-8].
inline Error decode(const Frame& frame, Connect& connect) noexcept {
  connect = Connect();
  Reader reader(frame.body);
  Error error = detail::take_version(reader, connect.version);
  if (error != Error::none) { return error; }
  const Version version = connect.version;
  const VersionRules& rules = mqtt::rules(version);
  if (reader.left() < 3) { return Error::malformed_length; }
  const uint8_t flags = reader.u8();
  connect.keep_alive_s = reader.u16();
  connect.clean_start = (flags & 0x02) != 0;
  connect.has_will = (flags & 0x04) != 0;
  const bool will = connect.has_will;
  // [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-15]
  const bool bad = ((flags & (will ? 0x01 : 0x39)) != 0 && !rules.unused_will_bits) ||
                   (will && (flags & 0x18) == 0x18) ||  // [MQTT-3.1.2-12] [MQTT-3.1.2-14]
                   ((flags & 0xC0) == 0x40 && !rules.password_alone);  // [MQTT-3.1.2-22]
  if (bad) { return Error::malformed_flags; }
  error = detail::take_properties(reader, {version, Side::broker, PacketType::connect},
                                  connect.properties);
  if (error != Error::none) { return error; }
  error = detail::take_text(reader, Side::broker, connect.client_id);  // [MQTT-3.1.3-4]
  if (error == Error::none && connect.has_will) {
    error = detail::take_will(reader, version, flags, connect.will);
  }
  if (error != Error::none) { return error; }
  if ((flags & 0x80) != 0 && (reader.left() != 0 || !rules.lone_user_flag)) {
    connect.has_user_name = true;
    error = detail::take_text(reader, Side::broker, connect.user_name);  // [MQTT-3.1.3-12]
    if (error != Error::none) { return error; }
  }
  if ((flags & 0x40) != 0 && (reader.left() != 0 || !rules.lone_user_flag)) {
    connect.has_password = true;
    connect.password = reader.binary();
  }
  error = detail::finish(reader);
  if (error != Error::none) { return error; }
  const Properties& properties = connect.properties;
  if (properties.has(PropertyId::authentication_data) &&
      !properties.has(PropertyId::authentication_method)) {
    return Error::protocol_value;  // v5 §3.1.2.11.10
  }
  const bool anonymous_session = !connect.clean_start && !rules.properties;
  // [MQTT-3.1.3-8], 3.1 §3.1: 1 to 23 characters
  const bool must_be_named = anonymous_session || !rules.assigns_client_id;
  return connect.client_id.empty() && must_be_named ? Error::identifier_rejected : Error::none;
}

[[gnu::always_inline]] inline Error decode(const Frame& frame, Version version,
                                           Connack& connack) noexcept {
  connack = Connack();
  Reader reader(frame.body);
  const uint8_t flags = reader.u8();
  const uint8_t byte = reader.u8();
  if ((flags & 0xFE) != 0) { return Error::malformed_flags; }  // [MQTT-3.2.2-1]
  connack.session_present = flags != 0 && rules(version).session_present;
  const bool listed = connack_reason(version, byte, connack.reason_code);
  if (!listed || (detail::has_properties(version) &&
                  !allowed(connack.reason_code, PacketType::connack, Side::broker))) {
    return Error::protocol_reason;  // [MQTT-3.2.2-8]
  }
  if (connack.session_present && connack.reason_code != ReasonCode::success) {
    return Error::protocol_value;  // [MQTT-3.2.2-6] [MQTT-3.2.2-4]
  }
  const Error error = detail::take_properties(reader, {version, Side::client, PacketType::connack},
                                              connack.properties);
  return error != Error::none ? error : detail::finish(reader);
}

/// `receiver` is the end that reads: a broker refuses what only brokers send.
[[gnu::always_inline]] inline Error decode(const Frame& frame, Version version, Side receiver,
                                           Publish& publish) noexcept {
  publish = Publish();
  Reader reader(frame.body);
  const Error error = detail::take_publish_head(reader, frame.first, {version, receiver}, publish);
  publish.payload = reader.rest();
  return error;
}

[[gnu::always_inline]] inline Error decode(const Frame& frame, Version version, Side receiver,
                                           Ack& ack) noexcept {
  ack = Ack();
  ack.type = frame.type();
  Reader reader(frame.body);
  ack.packet_id = reader.u16();
  if (reader.failed()) { return Error::malformed_length; }
  if (ack.packet_id == 0) { return Error::protocol_value; }  // [MQTT-2.2.1-5] [MQTT-2.3.1-6]
  if (!detail::has_properties(version)) { return detail::finish(reader); }
  return detail::take_reason(reader, {version, receiver, ack.type}, ack);
}

/// SUBSCRIBE and UNSUBSCRIBE.
[[gnu::always_inline]] inline Error decode(const Frame& frame, Version version,
                                           FilterRequest& request) noexcept {
  request = FilterRequest();
  return detail::take_filters(frame, version, request);
}

/// SUBACK and UNSUBACK.
[[gnu::always_inline]] inline Error decode(const Frame& frame, Version version,
                                           FilterAnswer& answer) noexcept {
  answer = FilterAnswer();
  Reader reader(frame.body);
  const PacketType type = frame.type();
  const bool v5 = detail::has_properties(version);
  const Error error =
      detail::take_id(reader, {version, Side::client, type}, answer.packet_id, answer.properties);
  if (error != Error::none) { return error; }
  if (type == PacketType::unsuback && !v5) { return detail::finish(reader); }
  answer.reason_codes = reader.rest();
  for (const uint8_t byte : answer.reason_codes) {
    const bool known = v5 ? allowed(static_cast<ReasonCode>(byte), type, Side::broker)
                          : byte <= 2 || (byte == 0x80 && rules(version).suback_failure);
    if (!known) { return Error::protocol_reason; }  // [MQTT-3.9.3-2] [MQTT-3.11.3-2]
  }
  return answer.reason_codes.empty() ? Error::malformed_length : Error::none;
}

[[gnu::always_inline]] inline Error decode(const Frame& frame, Version version, Side receiver,
                                           Disconnect& disconnect) noexcept {
  disconnect = Disconnect();
  Reader reader(frame.body);
  if (!detail::has_properties(version)) {
    return receiver == Side::client ? Error::protocol_direction : detail::finish(reader);
  }
  return detail::take_reason(reader, {version, receiver, disconnect.type}, disconnect);
}

inline Error decode(const Frame& frame, Version version, Side receiver, Auth& auth) noexcept {
  auth = Auth();
  if (frame.remaining == 0) {
    // v5 §3.15.2.1: success in short form has no room for its method; a client may not send it
    return receiver == Side::broker ? Error::protocol_reason : Error::none;
  }
  Reader reader(frame.body);
  const Error error = detail::take_reason(reader, {version, receiver, auth.type}, auth);
  const bool named = auth.properties.has(PropertyId::authentication_method);
  if (error != Error::none || named) { return error; }
  // v5 §3.15.2.2.2, and a reason code must not come alone
  return frame.remaining == 1 ? Error::malformed_length : Error::protocol_value;
}

/// Decodes any packet and calls `handler(const P&)` with its struct, once, when it is valid. The
/// views inside live as long as the frame's bytes.
template <typename Handler>
Error decode(const Frame& frame, Version version, Side receiver, Handler&& handler) noexcept {
  using detail::decode_to;
  const bool broker = receiver == Side::broker;
  constexpr Error wrong = Error::protocol_direction;
  switch (frame.type()) {
    case PacketType::connect: return broker ? decode_to<Connect>(handler, frame) : wrong;
    case PacketType::connack: return broker ? wrong : decode_to<Connack>(handler, frame, version);
    case PacketType::publish: return decode_to<Publish>(handler, frame, version, receiver);
    case PacketType::puback:
    case PacketType::pubrec:
    case PacketType::pubrel:
    case PacketType::pubcomp: return decode_to<Ack>(handler, frame, version, receiver);
    case PacketType::subscribe:
      return broker ? decode_to<Subscribe>(handler, frame, version) : wrong;
    case PacketType::suback: return broker ? wrong : decode_to<Suback>(handler, frame, version);
    case PacketType::unsubscribe:
      return broker ? decode_to<Unsubscribe>(handler, frame, version) : wrong;
    case PacketType::unsuback: return broker ? wrong : decode_to<Unsuback>(handler, frame, version);
    case PacketType::pingreq: return broker ? decode_to<Pingreq>(handler, frame) : wrong;
    case PacketType::pingresp: return broker ? wrong : decode_to<Pingresp>(handler, frame);
    case PacketType::disconnect: return decode_to<Disconnect>(handler, frame, version, receiver);
    case PacketType::auth: return decode_to<Auth>(handler, frame, version, receiver);
  }
  return Error::malformed_type;
}

namespace detail {
constexpr uint8_t first_byte(PacketType type, uint8_t flags = 0) noexcept {
  return static_cast<uint8_t>((static_cast<uint8_t>(type) << 4) | flags);
}

// Copies a block of T and, overlapping it, another that ends where the string does.
template <typename T>
inline void copy_ends(uint8_t* target, const uint8_t* source, uint32_t size) noexcept {
  T head;
  T tail;
  memcpy(&head, source, sizeof head);
  memcpy(&tail, source + size - sizeof tail, sizeof tail);
  memcpy(target, &head, sizeof head);
  memcpy(target + size - sizeof tail, &tail, sizeof tail);
}

// Copies a string without a call, for most are short; on small machines a call is smaller.
inline void copy_string(uint8_t* target, const uint8_t* source, uint32_t size) noexcept {
  constexpr uint32_t step = sizeof(Block);
  if (!large_machine) {
    copy(target, source, size);
  } else if (size >= step) {
    copy_ends<Block>(target, source, size);
    for (uint32_t at = step; at + step < size; at += step) {
      memcpy(target + at, source + at, step);
    }
  } else if (size >= 8) {
    copy_ends<uint64_t>(target, source, size);
  } else if (size >= 4) {
    copy_ends<uint32_t>(target, source, size);
  } else if (size != 0) {
    target[0] = source[0];
    target[size / 2] = source[size / 2];
    target[size - 1] = source[size - 1];
  }
}

// How encode() goes over a packet: first it checks the fields and counts the bytes, with all care
// or by a quick look that doubts what is unusual; then it writes and checks nothing.
enum class Pass : uint8_t { quick, careful, writing };

// What put() hands the fields to, once in each of two passes. False: a field may not be sent.
class PacketWriter {
 public:
  constexpr PacketWriter(Version version, Pass pass, PacketType type) noexcept
      : version_(version), pass_(pass), type_(type) {}

  constexpr Version version() const noexcept { return version_; }
  constexpr PacketType type() const noexcept { return type_; }
  constexpr bool writing() const noexcept { return pass_ == Pass::writing; }
  constexpr Error error() const noexcept { return error_; }
  constexpr uint64_t size() const noexcept { return size_; }
  /// Whether all sizes counted can be told on the wire.
  constexpr bool sizes_fit() const noexcept {
    return string_sizes_ <= string_bytes_max && size_ <= remaining_length_max;
  }
  /// Ends the counting and writes the fixed header; returns the size of the packet.
  uint32_t begin(uint8_t first, uint8_t* target) noexcept {
    const uint32_t remaining = static_cast<uint32_t>(size_);
    pass_ = Pass::writing;
    cursor_ = target;
    u8(first);
    variable(remaining);
    return static_cast<uint32_t>(cursor_ - target) + remaining;
  }

  constexpr bool require(bool holds, Error error = Error::invalid_packet) noexcept {
    if (holds || writing()) { return true; }
    error_ = error;
    return false;
  }
  constexpr void u8(uint8_t value) noexcept {
    if (!writing()) {
      size_ += 1;
    } else {
      *cursor_++ = value;
    }
  }
  constexpr void u16(uint16_t value) noexcept {
    if (!writing()) {
      size_ += 2;
    } else {
      cursor_[0] = static_cast<uint8_t>(value >> 8);
      cursor_[1] = static_cast<uint8_t>(value);
      cursor_ += 2;
    }
  }
  constexpr void variable(uint32_t value) noexcept {
    if (large_machine && !writing()) {
      size_ += variable_size(value);
      return;
    }
    if (value >= 0x80) {
      u8(static_cast<uint8_t>(value | 0x80));
      for (value >>= 7; __builtin_expect(value >= 0x80, 0); value >>= 7) {
        u8(static_cast<uint8_t>(value | 0x80));
      }
    }
    u8(static_cast<uint8_t>(value));
  }
  /// Bytes that are few as a rule.
  void list(Bytes source) noexcept {
    if (!writing()) {
      size_ += source.size();
      return;
    }
    copy_string(cursor_, source.data(), source.size());
    cursor_ += source.size();
  }
  void payload(Bytes source) noexcept {
    const bool few = large_machine && source.size() <= 2 * sizeof(Block);
    if (!writing() || few) { return list(source); }
    copy(cursor_, source.data(), source.size());
    cursor_ += source.size();
  }
  void binary(Bytes source) noexcept {
    string_sizes_ |= source.size();
    u16(static_cast<uint16_t>(source.size()));
    list(source);
  }
  bool text(Text source, TextRule rule = TextRule::text,
            Error error = Error::invalid_packet) noexcept {
    const Bytes bytes = source.bytes();
    binary(bytes);
    const bool quick = pass_ == Pass::quick && large_machine;
    return writing() || require(quick ? scan_quickly(bytes, rule) : scan(bytes, rule), error);
  }
  bool topic(Text source) noexcept {
    return text(source, TextRule::topic_name, Error::invalid_topic);
  }
  bool filter(Text source) noexcept {
    binary(source.bytes());
    return writing() ||
           require(check_filter(source, TextRule::text) == Error::none, Error::invalid_filter);
  }
  constexpr bool packet_id(uint16_t id) noexcept {
    u16(id);
    return require(id != 0);
  }
  /// A list of properties; before 5.0 it must be empty and leaves no trace.
  bool properties(Properties properties) noexcept {
    if (!has_properties(version_)) { return require(properties.empty()); }
    variable(properties.size());  // [MQTT-2.2.2-1]
    list(properties.wire());
    return true;
  }
  /// A reason code and properties, each left out when it and all behind it are at their default.
  bool reason(const Reason& reason) noexcept {
    const bool bare = reason.properties.empty();
    if (!has_properties(version_) || (reason.reason_code == ReasonCode::success && bare)) {
      return require(bare);
    }
    u8(code(reason.reason_code));
    return bare || properties(reason.properties);
  }

 private:
  uint8_t* cursor_ = nullptr;
  uint64_t size_ = 0;
  uint32_t string_sizes_ = 0;  // all sizes, or-ed: above the limit when one of them is
  Version version_;
  Pass pass_;
  PacketType type_;
  Error error_ = Error::none;
};

// [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
template <typename Packet>
constexpr uint8_t first_byte(const Packet& packet) noexcept {
  return first_byte(packet.type, (packet_bit(packet.type) & requests) != 0 ? 2 : 0);
}
constexpr uint8_t first_byte(const Publish& publish) noexcept {
  return first_byte(PacketType::publish,
                    static_cast<uint8_t>((publish.dup ? 8 : 0) | (level(publish.qos) << 1) |
                                         (publish.retain ? 1 : 0)));
}

// [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19]: a flag for each
// field that follows.
constexpr uint8_t connect_flags(const Connect& connect) noexcept {
  const Will& will = connect.will;
  const int will_flags = 0x04 | (level(will.qos) << 3) | (will.retain ? 0x20 : 0);
  return static_cast<uint8_t>(
      (connect.clean_start ? 0x02 : 0) | (connect.has_will ? will_flags : 0) |
      (connect.has_password ? 0x40 : 0) | (connect.has_user_name ? 0x80 : 0));
}
inline bool put(PacketWriter& writer, const Will& will) noexcept {
  const bool good = writer.properties(will.properties) &&
                    writer.require(!will.topic.empty(), Error::invalid_topic) &&
                    writer.topic(will.topic);
  writer.binary(will.payload);
  return good;
}

inline bool put(PacketWriter& writer, const Connect& connect) noexcept {
  const VersionRules& rules = mqtt::rules(writer.version());
  if (writer.version() == Version::v3_1) {
    writer.binary(Text("MQIsdp").bytes());
  } else {
    writer.binary(Text("MQTT").bytes());
  }
  writer.u8(static_cast<uint8_t>(writer.version()));
  writer.u8(connect_flags(connect));
  writer.u16(connect.keep_alive_s);
  // an empty client id asks for one [MQTT-3.1.3-7], 3.1 §3.1
  const bool named = !connect.client_id.empty() ||
                     (rules.assigns_client_id && (connect.clean_start || rules.properties));
  // this order [MQTT-3.1.3-1]
  const bool good =
      writer.properties(connect.properties) && writer.require(named) &&
      writer.text(connect.client_id) && (!connect.has_will || put(writer, connect.will)) &&
      (!connect.has_user_name || writer.text(connect.user_name)) &&
      writer.require(!connect.has_password || connect.has_user_name || rules.password_alone);
  if (connect.has_password) { writer.binary(connect.password); }
  return good;
}

inline bool put(PacketWriter& writer, const Connack& connack) noexcept {
  const uint8_t byte = connack_code(writer.version(), connack.reason_code);
  const bool present = connack.session_present && rules(writer.version()).session_present &&
                       connack.reason_code == ReasonCode::success;  // [MQTT-3.2.2-6]
  writer.u8(present ? 1 : 0);
  writer.u8(byte);
  return writer.require(byte != 0xFF) && writer.properties(connack.properties);
}

inline bool put(PacketWriter& writer, const Publish& publish) noexcept {
  bool good =
      writer.topic(publish.topic) &&
      writer.require(!publish.topic.empty() || publish.properties.has(PropertyId::topic_alias),
                     Error::invalid_topic);
  if (publish.qos != Qos::at_most_once) {
    good = good && writer.packet_id(publish.packet_id);  // [MQTT-2.2.1-2] [MQTT-2.3.1-5]
  } else {
    good = good && writer.require(publish.packet_id == 0 && !publish.dup);  // [MQTT-3.3.1-2]
  }
  good = good && writer.properties(publish.properties);
  writer.payload(publish.payload);
  return good;
}
inline bool put(PacketWriter& writer, const Ack& ack) noexcept {
  return writer.require(ack.type >= PacketType::puback && ack.type <= PacketType::pubcomp) &&
         writer.packet_id(ack.packet_id) && writer.reason(ack);
}
constexpr uint8_t option_bits(const Subscription& entry, Version version) noexcept {
  if (!has_properties(version)) { return level(entry.qos); }
  return static_cast<uint8_t>(level(entry.qos) | (entry.no_local ? 0x04 : 0) |
                              (entry.retain_as_published ? 0x08 : 0) |
                              (static_cast<uint8_t>(entry.retain_handling) << 4));
}

inline bool put(PacketWriter& writer, const FilterRequest& request) noexcept {
  bool good = writer.require(!request.filters.empty()) && writer.packet_id(request.packet_id) &&
              writer.properties(request.properties);
  Subscription entry;
  for (SubscriptionList list = request.filters; good && list.next(entry);) {
    good = writer.filter(entry.filter);
    if (writer.type() == PacketType::subscribe) {
      writer.u8(option_bits(entry, writer.version()));
      good = good && writer.require(!entry.no_local || !begins_share(entry.filter),
                                    Error::protocol_no_local);
    }
  }
  return good;
}

inline bool put(PacketWriter& writer, const FilterAnswer& answer) noexcept {
  const bool good = writer.packet_id(answer.packet_id) && writer.properties(answer.properties);
  if (writer.type() == PacketType::unsuback && !has_properties(writer.version())) { return good; }
  for (const uint8_t reason : answer.reason_codes) {
    writer.u8(suback_code(writer.version(), reason));
  }
  return good && writer.require(!answer.reason_codes.empty());
}
inline bool put(PacketWriter&, const Pingreq&) noexcept { return true; }
inline bool put(PacketWriter&, const Pingresp&) noexcept { return true; }
inline bool put(PacketWriter& writer, const Disconnect& disconnect) noexcept {
  return writer.reason(disconnect);
}
inline bool put(PacketWriter& writer, const Auth& auth) noexcept {
  const bool method = auth.properties.has(PropertyId::authentication_method);
  return writer.require(has_properties(writer.version()) &&
                        (method || auth.reason_code == ReasonCode::success)) &&
         writer.reason(auth);
}

// A packet of any type: what is common to all is compiled once.
struct AnyPacket {
  const void* packet;
  bool (*put)(PacketWriter& writer, const void* packet);
  uint8_t first;
};
template <typename Packet>
bool put_any(PacketWriter& writer, const void* packet) noexcept {
  return put(writer, *static_cast<const Packet*>(packet));
}
template <typename Packet>
constexpr AnyPacket any(const Packet& packet) noexcept {
  return {&packet, put_any<Packet>, first_byte(packet)};
}

inline Result<uint32_t> count_carefully(PacketWriter& writer, const AnyPacket& any) noexcept {
  const bool good = any.put(writer, any.packet);
  if (!good || !writer.sizes_fit()) { return {0, good ? Error::string_too_long : writer.error()}; }
  const uint32_t remaining = static_cast<uint32_t>(writer.size());
  return {1 + variable_size(remaining) + remaining, Error::none};
}

[[gnu::noinline]] inline Result<uint32_t> encode_carefully(Version version, const AnyPacket& any,
                                                           const Buffer& target) noexcept {
  PacketWriter writer(version, Pass::careful, static_cast<PacketType>(any.first >> 4));
  const Result<uint32_t> size = count_carefully(writer, any);
  if (!size) { return size; }
  if (size.value > target.size()) { return {0, Error::buffer_too_small}; }
  writer.begin(any.first, target.data());
  any.put(writer, any.packet);
  return size;
}
}  // namespace detail

/// Bytes encode() will write for the packet, checked as encode() checks it.
template <typename Packet>
Result<uint32_t> encoded_size(Version version, const Packet& packet) noexcept {
  detail::PacketWriter counter(version, detail::Pass::careful, packet.type);
  return detail::count_carefully(counter, detail::any(packet));
}

/// Writes a packet to the front of `target` and returns its size in bytes. On an error (usage,
/// string_too_long, buffer_too_small) nothing has been written.
template <typename Packet>
[[gnu::noinline, gnu::flatten]] Result<uint32_t> encode(Version version, const Packet& packet,
                                                        Buffer target) noexcept {
  if constexpr (detail::large_machine) {
    detail::PacketWriter writer(version, detail::Pass::quick, packet.type);
    if (detail::put(writer, packet) && writer.sizes_fit() && writer.size() + 5 <= target.size()) {
      const uint32_t size = writer.begin(detail::first_byte(packet), target.data());
      detail::put(writer, packet);
      return {size, Error::none};
    }
  }
  return detail::encode_carefully(version, detail::any(packet), target);
}

// >> 8. topics — validation, matching, shared subscriptions

/// A topic name as it may be published: 1 to 65,535 bytes of UTF-8, no U+0000, no wildcards
/// [MQTT-4.7.1-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3] [MQTT-3.3.2-2].
inline bool valid_topic(Text topic) noexcept {
  return !topic.empty() && topic.size() <= string_bytes_max &&
         detail::scan(topic.bytes(), detail::TextRule::topic_name);
}

/// A topic filter as it may be subscribed to, `$share/ShareName/filter` included [MQTT-4.7.1-1]
/// [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2].
inline bool valid_filter(Text filter) noexcept {
  return filter.size() <= string_bytes_max &&
         detail::check_filter(filter, detail::TextRule::text) == Error::none;
}

/// Whether the filter (without `$share`) matches the topic, both valid, by bytes [MQTT-4.7.3-4].
inline bool matches(Text filter, Text topic) noexcept {
  if (!topic.empty() && topic[0] == '$' && !filter.empty() &&
      (filter[0] == '+' || filter[0] == '#')) {
    return false;  // [MQTT-4.7.2-1]
  }
  uint32_t at = 0;
  for (uint32_t f = 0; f < filter.size(); ++f) {
    if (filter[f] == '#') { return true; }
    if (filter[f] == '+') {
      while (at < topic.size() && topic[at] != '/') { ++at; }
      continue;
    }
    if (at == topic.size()) {
      // "a/#" also matches "a" (v5 §4.7.1.2)
      return filter[f] == '/' && f + 2 == filter.size() && filter[f + 1] == '#';
    }
    if (filter[f] != topic[at]) { return false; }
    ++at;
  }
  return at == topic.size();
}

/// `$share/ShareName/filter` taken apart; `group` is empty for an ordinary filter.
struct SharedFilter {
  Text group;
  Text filter;
};
/// `filter` must be valid.
inline SharedFilter split_shared(Text filter) noexcept {
  if (!detail::begins_share(filter)) { return {Text(), filter}; }
  const uint32_t name_size = detail::share_name_size(filter);
  const Span<const char> rest = filter.skip(detail::share_prefix_size);
  return {rest.first(name_size), rest.skip(name_size + 1)};
}

// >> 9. delivery — the QoS 1 and 2 handshakes, packet ids

/// What the sender of a message waits for.
enum class SendState : uint8_t {
  none,    ///< nothing: no message has this id
  puback,  ///< QoS 1, sent
  pubrec,  ///< QoS 2, sent
  pubcomp  ///< QoS 2, PUBREL sent: the message itself is gone [MQTT-4.3.3-6]
};

/// What the receiver of a QoS 2 message holds.
enum class ReceiveState : uint8_t {
  none,   ///< nothing: the id is free
  pubrel  ///< a message, PUBREC sent
};

/// What to do about a packet of a handshake.
enum class DeliveryAction : uint8_t {
  ignore,            ///< nothing
  complete,          ///< the message is delivered; id and quota are free
  fail,              ///< the peer refused it; id and quota are free [MQTT-4.4.0-2]
  release,           ///< drop the message, send PUBREL [MQTT-4.3.3-4]
  release_again,     ///< send PUBREL again
  release_unknown,   ///< send PUBREL with 0x92: the id is unknown
  accept,            ///< take the message, send PUBREC [MQTT-4.3.3-8]
  repeat,            ///< deliver nothing, send PUBREC again [MQTT-4.3.3-10]
  deliver,           ///< deliver the message, send PUBCOMP [MQTT-4.3.3-11]
  complete_unknown,  ///< send PUBCOMP with 0x92: the id is unknown
  violation          ///< the peer broke the protocol: close
};

template <typename State>
struct DeliveryStep {
  State next;
  DeliveryAction action;
};

namespace detail {
// The sender's half, v5 §4.3: a row for each SendState, a column for PUBACK, PUBREC and PUBCOMP.
// An unknown id is no error (§4.4: acks may come twice after a resume); PUBACK answers QoS 1 only,
// PUBREC QoS 2 only, and no PUBCOMP comes before PUBREL.
inline constexpr DeliveryAction ack_table[][3] = {
    {DeliveryAction::ignore, DeliveryAction::release_unknown, DeliveryAction::ignore},
    {DeliveryAction::complete, DeliveryAction::violation, DeliveryAction::violation},
    {DeliveryAction::violation, DeliveryAction::release, DeliveryAction::violation},
    {DeliveryAction::violation, DeliveryAction::release_again, DeliveryAction::complete},
};
}  // namespace detail

/// The sender's half: what an ack with this reason does to a message in this state.
constexpr DeliveryStep<SendState> on_ack(SendState state, PacketType ack,
                                         ReasonCode reason) noexcept {
  if (ack < PacketType::puback || ack > PacketType::pubcomp || ack == PacketType::pubrel) {
    return {state, DeliveryAction::violation};
  }
  const uint32_t column = ack == PacketType::pubcomp ? 2 : ack == PacketType::pubrec ? 1 : 0;
  DeliveryAction action = detail::ack_table[static_cast<uint8_t>(state)][column];
  if (failed(reason) && column != 2 && action != DeliveryAction::violation) {
    action = state == SendState::none ? DeliveryAction::ignore : DeliveryAction::fail;
  }
  if (action == DeliveryAction::release) { return {SendState::pubcomp, action}; }
  const bool over = action == DeliveryAction::complete || action == DeliveryAction::fail;
  return {over ? SendState::none : state, action};
}

/// The receiver's half for QoS 2 (QoS 1 has no state [MQTT-4.3.2-5]).
constexpr DeliveryStep<ReceiveState> on_publish(ReceiveState state) noexcept {
  const bool fresh = state == ReceiveState::none;
  return {ReceiveState::pubrel, fresh ? DeliveryAction::accept : DeliveryAction::repeat};
}
constexpr DeliveryStep<ReceiveState> on_pubrel(ReceiveState state) noexcept {
  const bool known = state == ReceiveState::pubrel;
  return {ReceiveState::none, known ? DeliveryAction::deliver : DeliveryAction::complete_unknown};
}

/// The state a message is in once its PUBLISH has been handed to the transport.
constexpr SendState sent_state(Qos qos) noexcept { return static_cast<SendState>(qos); }
static_assert(sent_state(Qos::exactly_once) == SendState::pubrec,
              "the first states are as the QoS");

/// Packet ids count 1 … 65,535, 1 … [MQTT-2.2.1-3] [MQTT-2.2.1-4] [MQTT-2.3.1-1].
constexpr uint16_t next_packet_id(uint16_t id) noexcept {
  return id == 65535 ? uint16_t{1} : static_cast<uint16_t>(id + 1);
}

// >> 10. client engine — session, outbox, replay, keep alive, aliases, streams, authentication

/// What a client is compiled with; derive from it and set to false what is not needed.
struct ClientFeatures {
  static constexpr bool v3_1 = true, v3_1_1 = true, v5 = true;
  static constexpr bool qos_1 = true, qos_2 = true, wills = true;
  static constexpr bool streaming = true;      ///< receive messages larger than rx, in pieces
  static constexpr bool topic_aliases = true;  ///< 5.0
  static constexpr bool enhanced_auth = true;  ///< 5.0
};

/// The hook that lets the outbox outlive a restart: what is kept at a reboot goes to restore(), in
/// the order of each key's first keep(). Bytes are valid during the call only.
struct NoStore {
  /// Adds the packet or replaces the one with this key, safely; false: no room, request refused.
  bool keep(uint32_t, Bytes) noexcept { return true; }
  /// The key may be unknown.
  void drop(uint32_t) noexcept {}
};

/// The hook that a streamed payload comes from: at least one byte from `offset` on, none when
/// there is nothing yet. At QoS 0 `offset` only grows, above it starts again after a lost link.
struct NoSource {
  Bytes piece(uint32_t) noexcept { return Bytes(); }
};

/// What became of a request.
enum class Answer : uint8_t {
  queued,                   ///< it is on its way; an event with its handle tells the end
  full,                     ///< no room now: try again after an event
  offline,                  ///< QoS 0 and AUTH need a connection
  too_big,                  ///< larger than the outbox or than the server takes
  invalid,                  ///< a wrong call, see Submission::error
  qos_unavailable,          ///< the server does not take this QoS
  retain_unavailable,       ///< the server does not retain
  wildcards_unavailable,    ///< the server has no wildcard subscriptions
  shared_unavailable,       ///< the server has no shared subscriptions
  identifiers_unavailable,  ///< the server has no subscription identifiers
  session_lost,             ///< the server forgot a QoS 2 message it had received
  not_kept                  ///< Config::Store has no room
};

/// A sentence for people, without a full stop.
constexpr Text text(Answer answer) noexcept {
  constexpr const char* sentences[] = {
      "the request is queued",
      "the outbox is full (raise tx)",
      "the client is offline",
      "the packet exceeds the outbox or the server's maximum packet size",
      "the call is wrong",
      "the server does not support this QoS",
      "the server does not support retained messages",
      "the server does not support wildcard subscriptions",
      "the server does not support shared subscriptions",
      "the server does not support subscription identifiers",
      "the server lost the session of a message it had received",
      "the store has no room"};
  return sentences[static_cast<uint8_t>(answer)];
}

/// The answer to a request. `handle` names it in later events: packet id, and above it how often
/// ids had started anew; 0 at QoS 0, which has no end to tell of.
struct [[nodiscard]] Submission {
  Answer answer = Answer::queued;
  Error error = Error::none;
  uint32_t handle = 0;
  constexpr explicit operator bool() const noexcept { return answer == Answer::queued; }
};

enum class ClientEventType : uint8_t {
  none,
  connected,     ///< session_present, properties
  refused,       ///< CONNACK says no: reason_code, properties; then the link ends
  closed,        ///< no link (any more): error (none: as asked) or the server's reason, properties
  message,       ///< message, offset, total
  skipped,       ///< a message larger than rx without Features::streaming: message, total
  published,     ///< handle, reason_code, properties; answer when it is not queued any more
  subscribed,    ///< handle, reason_codes, properties; answer
  unsubscribed,  ///< handle, reason_codes, properties; answer
  authentication,  ///< AUTH: reason_code, properties; go on by authenticate()
};

/// What happened; fields that the type does not name mean nothing. Views point into rx and are
/// valid until the next call of next_event().
struct ClientEvent {
  ClientEventType type = ClientEventType::none;
  Answer answer = Answer::queued;
  Error error = Error::none;
  ReasonCode reason_code = ReasonCode::success;
  bool session_present = false;
  uint32_t handle = 0;
  /// A message larger than rx comes in pieces: message.payload is the one at `offset` of `total`.
  /// After a lost link it starts again at offset 0.
  uint32_t offset = 0;
  uint32_t total = 0;
  Publish message;
  Bytes reason_codes;
  Properties properties;
  /// The whole message, or its last piece.
  constexpr bool last() const noexcept { return offset + message.payload.size() == total; }
};

/// Types and limits of a client; derive from it and hide what is to be different.
struct ClientConfig {
  using Features = ClientFeatures;
  using Store = NoStore;
  using Source = NoSource;
  using Handler = void (*)(const ClientEvent&);       ///< anything callable, null when made by {}
  static constexpr uint16_t inflight_max = 20;        ///< QoS > 0 under way at once
  static constexpr uint16_t receive_maximum = 20;     ///< QoS 2 being received; 2 bytes of tx each
  static constexpr uint16_t control_bytes = 64;       ///< of tx for acks, PINGREQ, DISCONNECT, AUTH
  static constexpr uint16_t topic_alias_maximum = 8;  ///< each way, with memory for aliases
  static constexpr uint32_t answer_timeout_ms = 10000;  ///< for CONNACK, PINGRESP, the last bytes
  // of Client:
  static constexpr uint32_t rx_bytes = 512, tx_bytes = 1024, alias_bytes = 0;  ///< ClientMemory
  static constexpr uint16_t subscriptions_max = 8;    ///< remembered with their handlers
  static constexpr uint32_t dial_timeout_ms = 10000;  ///< then it has failed
  static constexpr uint32_t retry_min_ms = 1000;      ///< the first wait before dialing again
  static constexpr uint32_t retry_max_ms = 60000;     ///< the longest; a link this old was good
};

/// rx holds what is received and must take any packet but the payload of a PUBLISH; CONNECT leaves
/// from it. tx is the outbox: requests wait, are sent and stay in it until acknowledged. `aliases`
/// holds twice Config::topic_alias_maximum topics in equal parts; without it there are no aliases.
/// A server that gives an alias to a longer topic ends the link with 0x97.
struct ClientMemory {
  Buffer rx;
  Buffer tx;
  Buffer aliases = {};
};

namespace detail {
// memmove() towards the front; on small machines a loop, for the library's is ten times as large.
[[gnu::noinline]] inline void move_down(uint8_t* target, const uint8_t* source,
                                        uint32_t size) noexcept {
  if constexpr (large_machine) {
    memmove(target, source, size);
  } else {
    for (; size != 0; --size) { *target++ = *source++; }
  }
}

// Writes a packet in one pass, for which there is room or not: counts on when there is none. The
// length goes in last. By encode(), which takes two passes, a client is 1,500 bytes larger.
class PacketBuilder {
 public:
  // `most` bounds the bytes behind the fixed header; far too much costs a move.
  PacketBuilder(Buffer target, uint8_t first, uint32_t most) noexcept
      : target_(target), head_size_(1 + variable_size(most)) {
    u8(first);
    size_ = head_size_;
  }

  [[gnu::noinline]] void u8(uint32_t value) noexcept {
    if (size_ < target_.size()) { target_[size_] = static_cast<uint8_t>(value); }
    size_ += 1;
  }
  [[gnu::noinline]] void u16(uint32_t value) noexcept {
    u8(value >> 8);
    u8(value);
  }
  [[gnu::noinline]] void bytes(Bytes source) noexcept {
    require(source.size() <= remaining_length_max, Error::string_too_long);
    if (error_ != Error::none) { return; }
    if (size_ + source.size() <= target_.size()) {
      copy(target_.data() + size_, source.data(), source.size());
    }
    size_ += source.size();
  }
  [[gnu::noinline]] void binary(Bytes source) noexcept {
    require(source.size() <= string_bytes_max, Error::string_too_long);
    u16(source.size());
    bytes(source);
  }
  void text(Text text, TextRule rule = TextRule::text) noexcept {
    const Bytes source = text.bytes();
    require(scan(source, rule), is_topic(rule) ? Error::invalid_topic : Error::invalid_packet);
    binary(source);
  }
  void topic(Text topic) noexcept {
    require(!topic.empty(), Error::invalid_topic);
    text(topic, TextRule::topic_name);
  }
  void variable(uint32_t value) noexcept {
    for (; value >= 0x80; value >>= 7) { u8(value | 0x80); }
    u8(value);
  }
  // `packet` is the packet's bit in property_table; `more` bytes of properties follow.
  void properties(Properties list, uint16_t packet, uint32_t more = 0) noexcept {
    variable(list.size() + more);
    bytes(list.wire());
    for (Property property; list.next(property);) {
      require((property_row(property.id).places & packet) != 0, Error::invalid_packet);
    }
  }
  void number(PropertyId id, uint16_t value) noexcept {
    u8(static_cast<uint8_t>(id));
    u16(value);
  }
  void require(bool holds, Error error) noexcept {
    if (!holds) { error_ = error; }
  }

  Error error() const noexcept { return error_; }
  // Puts the length in; `behind` bytes are not here. The size so far, even if it did not fit.
  uint32_t finish(uint32_t behind = 0) noexcept {
    const uint32_t body = size_ - head_size_;
    require(behind <= remaining_length_max && body <= remaining_length_max - behind,
            Error::string_too_long);
    const uint32_t head_size = 1 + variable_size(body + behind);
    if (error_ == Error::none && head_size + body <= target_.size()) {
      move_down(target_.data() + head_size, target_.data() + head_size_, body);
      size_ = 1;
      variable(body + behind);
    }
    return head_size + body;
  }

 private:
  Buffer target_;
  uint32_t size_ = 0;
  uint32_t head_size_;
  Error error_ = Error::none;
};

// Topics by alias, in equal slots of the caller's memory: two bytes of length and the topic.
class AliasTable {
 public:
  AliasTable() noexcept = default;
  AliasTable(Buffer memory, uint16_t count) noexcept : memory_(memory), count_(count) { clear(); }
  uint16_t count() const noexcept { return memory_.empty() ? uint16_t{0} : count_; }
  // Only the aliases up to `count`, of those there is memory for.
  void use(uint32_t count) noexcept { count_ = static_cast<uint16_t>(count); }
  void clear() noexcept {
    for (uint16_t alias = 1; alias <= count(); ++alias) { put(alias, Text()); }
  }
  // `alias` must not exceed count(); empty when it has none.
  Text topic_of(uint32_t alias) const noexcept { return Reader(slot(alias)).text(); }
  // The alias of the topic, else the first that is free, else more than count().
  uint16_t alias_of(Text topic) const noexcept {
    uint16_t alias = 1;
    while (alias <= count() && !topic_of(alias).empty() && topic_of(alias) != topic) { ++alias; }
    return alias;
  }
  // False when the slot is too small.
  bool put(uint32_t alias, Text topic) noexcept {
    Writer writer(slot(alias));
    writer.text(topic);
    return !writer.failed();
  }

 private:
  Buffer slot(uint32_t alias) const noexcept {
    const uint32_t size = memory_.size() / count_;
    return memory_.skip((alias - 1) * size).first(size);
  }
  Buffer memory_;
  uint16_t count_ = 1;
};
constexpr uint32_t u16_at(const uint8_t* at) noexcept { return (uint32_t{at[0]} << 8) | at[1]; }
}  // namespace detail

/// A client over any transport: bytes and time in, bytes and events out. The session (outbox,
/// packet ids, QoS 2 ids received) outlives its links.
///
/// *Link*: start() when the transport is up, lost() when it is gone; while it is up, bytes go
/// through rx_space/rx_commit and tx_pending/tx_commit, and wants_hang_up() tells when to end it.
/// *Requests*: publish, subscribe, unsubscribe, disconnect, authenticate; legal at any time, also
/// while an event is being handled. *Outputs*: next_event() until it is false, then deadline().
/// One event borrows rx at a time. No call blocks, none calls back but Config's hooks.
template <typename Config = ClientConfig>
class ClientEngine {
  using Features = typename Config::Features;
  using Store = typename Config::Store;
  using Source = typename Config::Source;
  static constexpr bool acknowledges = Features::qos_1 || Features::qos_2;
  static constexpr bool reviews = acknowledges || Features::v5;
  static constexpr bool streams = !detail::Same<Source, NoSource>::value;
  static constexpr bool aliases = Features::v5 && Features::topic_aliases;
  static constexpr uint32_t reserve_bytes =
      Config::control_bytes + (Features::qos_2 ? 2U * Config::receive_maximum : 0U);
  static_assert(Features::v3_1 || Features::v3_1_1 || Features::v5, "no version is left");
  static_assert(Config::control_bytes >= 32, "acks, PINGREQ and DISCONNECT need room");
  static_assert(Config::receive_maximum > 0 && Config::inflight_max > 0, "0 lets nothing pass");

 public:
  /// `connect` and what it views must live as long as the engine and may change between links, but
  /// for the version only when idle(). Receive Maximum and Topic Alias Maximum are Config's unless
  /// its properties hold lower ones.
  ClientEngine(const Connect& connect, ClientMemory memory) noexcept
      : connect_(&connect), rx_(memory.rx), tx_(memory.tx.data()) {
    MQTT_ASSERT(memory.tx.size() > reserve_bytes);
    limit_ = memory.tx.end() - reserve_bytes;
    if constexpr (aliases) {
      const uint32_t half = memory.aliases.size() / 2;
      received_aliases_ = {memory.aliases.first(half), Config::topic_alias_maximum};
      sent_aliases_ = {memory.aliases.skip(half), Config::topic_alias_maximum};
    }
  }

  // --- the link ---
  /// The transport is up: CONNECT is encoded into rx. In 5.0 a clean start is asked for once only.
  Error start(Millis now) noexcept {
    MQTT_ASSERT(link_.phase == Phase::offline);
    now_ = now;
    detail::PacketBuilder out(rx_, detail::first_byte(PacketType::connect), remaining_length_max);
    put_connect(out);
    const uint32_t size = out.finish();
    if (out.error() != Error::none) { return out.error(); }
    if (size > rx_.size()) { return Error::buffer_too_small; }
    link_.phase = Phase::greeting;
    rx_end_ = size;
    ask();
    return Error::none;
  }

  /// The transport is gone. What was sent and not acknowledged will be sent again, in its order,
  /// once a link is up; of QoS 0 nothing is kept.
  void lost() noexcept {
    if (link_.phase == Phase::offline) { return; }
    if (link_.phase != Phase::reported) {
      notify_ = true;
      notice_ = link_.phase == Phase::ending ? Error::none : Error::link_closed;
    }
    for (uint8_t* at = begin_; at != end_;) {
      const bool sent = at < next_ || (at == next_ && link_.part != 0);
      if (is_publish(*at) && qos_of(*at) == 0) {
        link_.part = at == next_ ? 0 : link_.part;
        at = remove(at);
      } else {
        if (acknowledges && sent && is_publish(*at)) { *at |= dup_flag; }  // [MQTT-3.3.1-1]
        at += stored_size(at);
      }
    }
    if constexpr (aliases) {
      received_aliases_.clear();
      sent_aliases_.clear();
    }
    next_ = begin_;
    if (reviews) { review_ = nullptr; }
    memset(&link_, 0, sizeof link_);
    rx_begin_ = rx_end_ = 0;
  }

  /// Where received bytes go; empty while an event must be taken first.
  Buffer rx_space() noexcept {
    return link_.phase == Phase::greeting ? Buffer() : rx_.skip(rx_end_);
  }
  void rx_commit(uint32_t size) noexcept {
    MQTT_ASSERT(size <= rx_.size() - rx_end_);
    rx_end_ += size;
    received_at_ = ticks();
  }

  /// What is to be sent next; tx_commit() must follow before any other call.
  Bytes tx_pending() noexcept {
    if (link_.phase == Phase::greeting) { return Bytes(rx_).first(rx_end_).skip(rx_begin_); }
    const bool going = online() && (!reviews || review_ == nullptr);
    if (control_first()) { return Bytes(control(), link_.control); }
    if (!going && link_.part == 0) { return Bytes(); }
    if constexpr (streams) {
      if (next_ == stream_ && link_.part >= stream_head_) {
        const Bytes piece = source_->piece(link_.part - stream_head_);
        return piece.first(detail::smaller(wire_size(next_) - link_.part, piece.size()));
      }
    }
    uint8_t* at = next_;
    for (uint16_t inflight = link_.inflight; at != end_ && takes_quota(*at, inflight);) {
      const bool alone = !going || (streams && at == stream_);
      at += stored_size(at);
      if (alone) { break; }
    }
    return at == next_ ? Bytes() : Bytes(next_, static_cast<uint32_t>(at - next_)).skip(link_.part);
  }

  /// The transport took this many bytes of tx_pending().
  void tx_commit(uint32_t size) noexcept {
    sent_at_ = ticks();
    if (link_.phase == Phase::greeting) {
      rx_begin_ += size;
      if (rx_begin_ == rx_end_) {
        rx_begin_ = rx_end_ = 0;
        link_.phase = Phase::waiting;
      }
      return;
    }
    if (control_first()) {
      link_.control = static_cast<uint16_t>(link_.control - size);
      detail::move_down(control(), control() + size, link_.control);
      return;
    }
    link_.part += size;
    while (link_.part != 0 && link_.part >= wire_size(next_)) {
      link_.part -= wire_size(next_);
      if (is_publish(*next_) && qos_of(*next_) == 0) {
        remove(next_);
      } else {
        takes_quota(*next_, link_.inflight);
        next_ += stored_size(next_);
      }
    }
  }

  /// Whether the transport is to be closed (and lost() called): all is sent that will be.
  bool wants_hang_up() noexcept {
    return link_.phase >= Phase::ending && (tx_pending().empty() || left_ms() == 0);
  }
  /// Between a successful CONNACK and the end of its link.
  bool online() const noexcept { return link_.phase == Phase::online; }
  /// Whether every request has come to its end.
  bool idle() const noexcept { return begin_ == end_; }
  /// When to call next_event() at the latest.
  Millis deadline() const noexcept { return left_ms() == never ? ~Millis{0} : now_ + left_ms(); }
  Store& store() noexcept { return store_; }

  // --- requests ---
  /// Queues a message; `packet_id` and `dup` are set here, Topic Alias must not be. All is copied.
  Submission publish(const Publish& packet) noexcept {
    uint16_t alias = 0;
    if constexpr (aliases) {
      // Above QoS 0 packets are whole in tx, to be sent again: aliases end with the link.
      if (packet.qos == Qos::at_most_once && link_.alias_max != 0 && !packet.topic.empty()) {
        alias = sent_aliases_.alias_of(packet.topic);
        alias = alias <= link_.alias_max ? alias : uint16_t{0};
      }
    }
    detail::PacketBuilder out = begin_publish(packet, alias);
    out.bytes(packet.payload);
    const Submission submission = submit(out, 0);
    if (aliases && submission && alias != 0) { sent_aliases_.put(alias, packet.topic); }
    return submission;
  }
  /// Queues a message of `payload_bytes`, which come from `source` as they are sent; one at a time.
  /// `source` must live while streaming(). It is not kept in Config::Store.
  Submission publish(const Publish& packet, uint32_t payload_bytes, Source& source) noexcept {
    if (!streams || streaming()) { return {streams ? Answer::full : Answer::invalid}; }
    detail::PacketBuilder out = begin_publish(packet, 0);
    uint8_t* const at = end_;
    out.require(packet.payload.empty() && payload_bytes != 0, Error::invalid_packet);
    source_ = &source;
    const Submission submission = submit(out, payload_bytes);
    if (submission) {
      stream_ = at;
      stream_head_ = static_cast<uint32_t>(end_ - at);
    }
    return submission;
  }
  /// Whether a source is still read: at QoS 0 until all is sent or the link is lost, above until
  /// the message is acknowledged.
  bool streaming() const noexcept { return stream_ != nullptr; }
  Submission subscribe(Span<const Subscription> filters, Properties properties = {}) noexcept {
    return request(PacketType::subscribe, filters, properties);
  }
  /// Uses the filters of the entries.
  Submission unsubscribe(Span<const Subscription> filters, Properties properties = {}) noexcept {
    return request(PacketType::unsubscribe, filters, properties);
  }
  /// Ends the link in order; what is queued stays. Full: Config::control_bytes are too few.
  Answer disconnect(ReasonCode reason = ReasonCode::success, Properties properties = {}) noexcept {
    if (link_.phase == Phase::offline) { return Answer::offline; }
    if (link_.phase >= Phase::ending) { return Answer::queued; }
    const Answer answer =
        online() ? put_reason(PacketType::disconnect, reason, properties) : Answer::queued;
    if (answer == Answer::queued) { end_link(Phase::ending); }
    return answer;
  }
  /// Goes on with an authentication, or begins one anew with ReasonCode::reauthenticate;
  /// `properties` holds the method of CONNECT and the data.
  Answer authenticate(ReasonCode reason, Properties properties) noexcept {
    if (!Features::enhanced_auth || !v5() || properties.empty()) { return Answer::invalid; }
    if (!online() && link_.phase != Phase::waiting) { return Answer::offline; }
    return put_reason(PacketType::auth, reason, properties);
  }
  /// The rest of the message whose piece is being handled is not wanted.
  void skip() noexcept { link_.skip = true; }

  /// Gives back what Config::Store kept, in its order, before the first start().
  bool restore(uint32_t key, Bytes packet) noexcept {
    const uint16_t id = static_cast<uint16_t>(key);
    if ((key & inbound) != 0) {
      if (!Features::qos_2 || ids_count_ == Config::receive_maximum) { return false; }
      add_received(id);
      return true;
    }
    if (packet.size() < 4 || packet.size() > room()) { return false; }
    detail::copy(end_, packet.data(), packet.size());
    if (wire_size(end_) != packet.size() || id_at(end_) != id) { return false; }
    if (is_publish(*end_)) { *end_ |= dup_flag; }
    end_ += packet.size();
    last_id_ = id;
    return true;
  }

  // --- outputs ---
  /// What happened next; false: nothing more now.
  bool next_event(Millis now, ClientEvent& event) noexcept {
    now_ = now;
    event.type = ClientEventType::none;
    event.answer = Answer::queued;
    event.error = Error::none;
    event.reason_code = ReasonCode::success;
    event.session_present = false;
    event.handle = 0;
    if constexpr (Features::v5) { event.properties = Properties(); }
    if (notify_) {
      notify_ = false;
      event.type = ClientEventType::closed;
      event.error = notice_;
      return true;
    }
    if (link_.phase == Phase::offline || link_.phase >= Phase::ending) { return false; }
    Error error = Error::none;
    if (left_ms() == 0) {
      error = link_.asked ? Error::link_closed : Error::none;
      ask();
      if (error == Error::none) { static_cast<void>(put_reason(PacketType::pingreq)); }
    }
    if (reviews && review_ != nullptr && review(event)) { return true; }
    while (error == Error::none && event.type == ClientEventType::none) {
      error = take_packet(event);
    }
    if (error > Error::incomplete) { fail(error, event); }
    return event.type != ClientEventType::none;
  }

  /// Whether what must hold holds; for tests.
  bool check_invariants() const noexcept {
    bool ok = tx_ <= begin_ && begin_ <= next_ && next_ <= end_ && end_ <= limit_;
    bool met_next = next_ == end_;
    bool met_review = review_ == nullptr || review_ == end_;
    const uint8_t* at = begin_;
    for (; ok && at < end_; at += stored_size(at)) {
      met_next = met_next || at == next_;
      met_review = met_review || at == review_;
      ok = *at >= 0x10 && (is_publish(*at) || (*at & dup_flag) == 0);
    }
    ok = ok && at == end_ && met_next && met_review && rx_begin_ <= rx_end_;
    ok = ok && rx_end_ <= rx_.size() && link_.borrowed + link_.piece <= rx_end_ - rx_begin_;
    ok = ok && ids_count_ <= Config::receive_maximum && link_.control <= Config::control_bytes;
    return ok && (link_.part == 0 || (next_ != end_ && link_.part <= wire_size(next_)));
  }

 private:
  enum class Phase : uint8_t {
    offline,   // no link
    greeting,  // CONNECT leaves from rx
    waiting,   // for CONNACK
    online,
    ending,   // the last bytes leave; closed will be told when the link is gone
    reported  // the last bytes leave; the end has been told
  };

  // What begins anew with each link, all being 0.
  struct Link {
    Phase phase;
    bool asked;           // an answer is awaited since asked_at_
    bool skip;            // no events for the rest of the message
    uint8_t refused_qos;  // what CONNACK does not allow: this QoS and above; 0 all may be
    bool no_retain, no_wildcards, no_shared, no_identifiers;
    uint16_t alias_max;         // what it takes
    uint16_t keep_alive_s;      //
    uint16_t control;           // bytes of acks, PINGREQ, … to be sent
    uint16_t window, inflight;  // QoS > 0 that may be and that are under way
    uint32_t packet_bytes_max;  // what the server takes; 0 any
    uint32_t part;              // bytes sent of the packet at next_
    uint32_t borrowed;          // bytes at the front of rx that the last event views
    uint32_t piece;             // bytes at the end of rx that it views, of a payload
    uint32_t offset;            // bytes of the payload that came before them
  };
  static constexpr uint32_t never = ~uint32_t{0};
  static constexpr uint8_t dup_flag = 0x08;
  static constexpr uint8_t highest_qos = Features::qos_2 ? 2 : Features::qos_1 ? 1 : 0;
  static constexpr uint32_t inbound = 0x10000;  // in keys of the store: a QoS 2 id received
  static constexpr bool is_publish(uint8_t first) noexcept { return (first & 0xF0) == 0x30; }
  static constexpr bool is_pubrel(uint8_t first) noexcept { return (first & 0xF0) == 0x60; }
  static constexpr bool is_subscribe(uint8_t first) noexcept { return (first & 0xF0) == 0x80; }
  static constexpr uint8_t qos_of(uint8_t first) noexcept { return (first >> 1) & 3; }

  Version version() const noexcept {
    if constexpr (!Features::v3_1 && !Features::v5) { return Version::v3_1_1; }
    if constexpr (!Features::v3_1 && !Features::v3_1_1) { return Version::v5; }
    return connect_->version;
  }
  bool v5() const noexcept { return Features::v5 && detail::has_properties(version()); }
  uint32_t ticks() const noexcept { return static_cast<uint32_t>(now_); }
  void ask() noexcept {
    link_.asked = true;
    asked_at_ = ticks();
  }
  // Until the server must have answered or PINGREQ is due.
  uint32_t left_ms() const noexcept {
    uint32_t limit = Config::answer_timeout_ms;
    uint32_t passed = ticks() - asked_at_;
    if (!link_.asked) {
      if (link_.keep_alive_s == 0) { return never; }
      // Before the interval is over [MQTT-3.1.2-20] [MQTT-3.1.2-23], and when nothing comes in.
      limit = uint32_t{link_.keep_alive_s} * 875;
      passed = detail::larger(ticks() - sent_at_, ticks() - received_at_);
    }
    return passed < limit ? limit - passed : 0;
  }

  // --- memory ---

  // tx: packets, room, QoS 2 ids received, bytes of control packets. The packets lie one behind
  // the other in the order of the requests: those before next_ are sent and wait for their answer,
  // those from next_ on wait to be sent.
  uint32_t capacity() const noexcept { return static_cast<uint32_t>(limit_ - tx_); }
  uint32_t room() const noexcept { return static_cast<uint32_t>(limit_ - end_); }
  uint8_t* control() const noexcept { return limit_ + reserve_bytes - Config::control_bytes; }

  // A packet in tx; it is whole and well-formed.
  struct Stored {
    const uint8_t* body;
    uint32_t size;  // of the whole packet
  };
  static Stored stored(const uint8_t* at) noexcept {
    uint32_t remaining = 0;
    const uint8_t* body = at + 1;
    for (uint32_t shift = 0;; shift += 7) {
      remaining |= (*body & 0x7FU) << shift;
      if (*body++ < 0x80) { return {body, static_cast<uint32_t>(body - at) + remaining}; }
    }
  }
  static uint32_t wire_size(const uint8_t* at) noexcept { return stored(at).size; }
  uint32_t stored_size(const uint8_t* at) const noexcept {
    return streams && at == stream_ ? stream_head_ : wire_size(at);
  }
  // 0 for QoS 0.
  static uint16_t id_at(const uint8_t* at) noexcept {
    const uint8_t* id = stored(at).body;
    if (is_publish(*at)) { id += 2 + detail::u16_at(id); }
    return static_cast<uint16_t>(is_publish(*at) && qos_of(*at) == 0 ? 0 : detail::u16_at(id));
  }
  static Bytes behind_id(const uint8_t* at) noexcept {
    const uint8_t* const begin = stored(at).body + 2;
    return Bytes(begin, static_cast<uint32_t>(at + wire_size(at) - begin));
  }
  // The packet with this id, the first with any for 0; nullptr when there is none.
  uint8_t* find(uint16_t id) const noexcept {
    for (uint8_t* at = begin_; at != end_; at += stored_size(at)) {
      const uint16_t found = id_at(at);
      if (found == id ? id != 0 : id == 0) { return at; }
    }
    return nullptr;
  }
  uint32_t handle_of(uint16_t id) const noexcept {
    return (uint32_t{cycle_} - (id > last_id_ ? 1 : 0)) << 16 | id;
  }

  // Takes a packet out but for its last `kept` bytes; returns where what lies behind is now.
  uint8_t* remove(uint8_t* at, uint32_t kept = 0) noexcept {
    const uint32_t size = stored_size(at) - kept;
    if (streams && at == stream_) { stream_ = nullptr; }
    if (at == begin_) {  // as a rule, and then nothing moves
      begin_ += size;
      if (next_ == at) { next_ = begin_; }
      if (reviews && review_ == at) { review_ = begin_; }
      return begin_;
    }
    detail::move_down(at, at + size, static_cast<uint32_t>(end_ - at) - size);
    move_pointers(at + 1, size);
    return at;
  }
  // What points to `from` or behind it moves down.
  void move_pointers(const uint8_t* from, uint32_t size) noexcept {
    end_ -= size;
    if (next_ >= from) { next_ -= size; }
    if (reviews && review_ >= from) { review_ -= size; }
    if (streams && stream_ >= from) { stream_ -= size; }
  }
  // Moves the packets to the front when less than `size` bytes are free behind them.
  void make_room(uint32_t size) noexcept {
    if (room() > size) { return; }
    const uint32_t gap = static_cast<uint32_t>(begin_ - tx_);
    detail::move_down(tx_, begin_, static_cast<uint32_t>(end_ - begin_));
    move_pointers(begin_, gap);
    begin_ -= gap;
  }

  // --- sending ---
  void put_connect(detail::PacketBuilder& out) noexcept {
    const Connect& connect = *connect_;
    const bool will = Features::wills && connect.has_will;
    const uint8_t flags = detail::connect_flags(connect);
    out.binary(rules(version()).protocol_name.bytes());
    out.u8(static_cast<uint8_t>(version()));
    out.u8(clean_start() ? flags | 2U : flags & ~2U);
    out.u16(connect.keep_alive_s);
    if (v5()) {
      const uint16_t count = sent_aliases_.count();
      const bool adds_window = lacks(out, PropertyId::receive_maximum, Config::receive_maximum);
      const bool adds_count = lacks(out, PropertyId::topic_alias_maximum, count) && count != 0;
      out.properties(connect.properties, detail::in_connect,
                     (adds_window ? 3U : 0U) + (adds_count ? 3U : 0U));
      if (adds_window) { out.number(PropertyId::receive_maximum, Config::receive_maximum); }
      if (adds_count) { out.number(PropertyId::topic_alias_maximum, count); }
      received_aliases_.use(connect.properties.number(PropertyId::topic_alias_maximum, count));
    }
    out.text(connect.client_id);
    if (will) {
      if (v5()) { out.properties(connect.will.properties, detail::in_will); }
      out.topic(connect.will.topic);
      out.binary(connect.will.payload);
    }
    if (connect.has_user_name) { out.text(connect.user_name); }
    if (connect.has_password) { out.binary(connect.password); }
    const bool assigned = v5() || (rules(version()).assigns_client_id && clean_start());
    out.require((will || !connect.has_will) && (assigned || !connect.client_id.empty()) &&
                    (v5() || connect.has_user_name || !connect.has_password),
                Error::invalid_packet);  // [MQTT-3.1.3-7] [MQTT-3.1.2-22]
  }
  // Whether CONNECT's properties announce no limit of their own, at most `most`.
  bool lacks(detail::PacketBuilder& out, PropertyId id, uint16_t most) const noexcept {
    const uint32_t own = connect_->properties.number(id, never);
    out.require(own == never || own <= most, Error::invalid_packet);
    return own == never;
  }
  bool clean_start() const noexcept { return connect_->clean_start && !(v5() && established_); }

  detail::PacketBuilder begin(uint8_t first, uint32_t most) noexcept {
    make_room(most);
    return detail::PacketBuilder(Buffer(end_, room()), first, most);
  }
  // `alias`, if not 0, is the topic's: where the server knows it, the topic is left out.
  detail::PacketBuilder begin_publish(const Publish& packet, uint16_t alias) noexcept {
    const uint8_t qos = level(packet.qos);
    detail::PacketBuilder out =
        begin(static_cast<uint8_t>(0x30 | qos << 1 | (packet.retain ? 1 : 0)),
              packet.topic.size() + packet.payload.size() + packet.properties.size() + 19);
    if (aliases && alias != 0 && !sent_aliases_.topic_of(alias).empty()) {
      out.u16(0);
    } else {
      out.topic(packet.topic);
    }
    if (acknowledges && qos != 0) { out.u16(next_packet_id(last_id_)); }
    out.require(qos <= highest_qos, Error::invalid_packet);
    if (v5()) {
      out.require(packet.properties.number(PropertyId::topic_alias, 0) == 0, Error::invalid_packet);
      out.properties(packet.properties, detail::packet_bit(PacketType::publish),
                     alias != 0 ? 3 : 0);
      if (alias != 0) { out.number(PropertyId::topic_alias, alias); }
    }
    return out;
  }
  Submission request(PacketType type, Span<const Subscription> filters, Properties list) noexcept {
    const bool options = type == PacketType::subscribe;
    detail::PacketBuilder out = begin(detail::first_byte(type, 2), capacity());
    out.u16(next_packet_id(last_id_));
    if (v5()) { out.properties(list, detail::packet_bit(type)); }
    out.require(!filters.empty(), Error::invalid_packet);  // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
    for (const Subscription& entry : filters) {
      const Text filter = entry.filter;
      const bool shared = Features::v5 && detail::begins_share(filter);
      out.require(!filter.empty() && detail::wildcards_placed(filter) &&
                      !(shared && (detail::share_name_size(filter) == 0 || entry.no_local)),
                  Error::invalid_filter);
      out.text(filter);
      if (options) { out.u8(detail::option_bits(entry, version())); }
    }
    return submit(out, 0);
  }

  // A request is built at end_: takes it in if it may be. `behind` bytes come from a source.
  Submission submit(detail::PacketBuilder& out, uint32_t behind) noexcept {
    const uint32_t size = out.finish(behind);
    if (out.error() != Error::none) { return {Answer::invalid, out.error()}; }
    if (size > capacity()) { return {Answer::too_big}; }
    if (size > room()) { return {Answer::full}; }
    const uint16_t id = id_at(end_);
    if (id == 0 && !online()) { return {Answer::offline}; }
    if (Features::v5 && online()) {
      const Answer answer = permitted(end_);
      if (answer != Answer::queued) { return {answer}; }
    }
    if (id == 0) {
      end_ += size;
      return {};
    }
    // Ids are not used again while the oldest is open, so a handle names one request only.
    const uint8_t* const oldest = find(0);
    if (oldest != nullptr && id_at(oldest) == id) { return {Answer::full}; }
    const bool kept = !is_publish(*end_) || behind != 0 || store_.keep(id, Bytes(end_, size));
    if (!kept) { return {Answer::not_kept}; }
    end_ += size;
    if (id < last_id_) { cycle_ = static_cast<uint16_t>(cycle_ + 1); }
    last_id_ = id;
    return {Answer::queued, Error::none, handle_of(id)};
  }

  // By the server's CONNACK [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-15], v5 §3.2.2.3.11 ff.
  Answer permitted(const uint8_t* at) const noexcept {
    const Stored packet = stored(at);
    if (packet.size - 1 > link_.packet_bytes_max - 1) { return Answer::too_big; }
    if (is_publish(*at)) {
      const bool refused = link_.refused_qos != 0 && qos_of(*at) >= link_.refused_qos;
      if (refused) { return Answer::qos_unavailable; }
      return (*at & 1) != 0 && link_.no_retain ? Answer::retain_unavailable : Answer::queued;
    }
    if (!v5() || !is_subscribe(*at)) { return Answer::queued; }
    Reader reader(behind_id(at));
    const Properties properties(reader.bytes(reader.variable()));
    const uint32_t identifier = properties.number(PropertyId::subscription_identifier, 0);
    if (link_.no_identifiers && identifier != 0) { return Answer::identifiers_unavailable; }
    while (reader.left() != 0) {
      const Text filter = reader.text();
      reader.u8();
      if (link_.no_shared && detail::begins_share(filter)) { return Answer::shared_unavailable; }
      for (const char character : filter) {
        const bool wild = character == '+' || character == '#';
        if (link_.no_wildcards && wild) { return Answer::wildcards_unavailable; }
      }
    }
    return Answer::queued;
  }

  // Control packets overtake what waits in the outbox, but not in the middle of a packet.
  bool control_first() const noexcept { return link_.control != 0 && link_.part == 0; }
  Buffer control_room() const noexcept {
    return Buffer(control(), Config::control_bytes).skip(link_.control);
  }
  // DISCONNECT and AUTH.
  Answer put_reason(PacketType type, ReasonCode reason = {}, Properties list = {}) noexcept {
    const Buffer room = control_room();
    detail::PacketBuilder out(room, detail::first_byte(type), room.size());
    if (v5() && (reason != ReasonCode::success || !list.empty())) {
      out.u8(code(reason));
      if (!list.empty()) { out.properties(list, detail::packet_bit(type)); }
    }
    const uint32_t size = out.finish();
    if (out.error() != Error::none) { return Answer::invalid; }
    if (size > room.size()) { return Answer::full; }
    link_.control = static_cast<uint16_t>(link_.control + size);
    return Answer::queued;
  }
  // PUBACK, PUBREC, PUBREL or PUBCOMP; take_packet() has seen to the room.
  void put_ack(PacketType type, uint16_t id, bool known = true) noexcept {
    const bool coded = v5() && !known;
    uint8_t* const at = control() + link_.control;
    at[0] = detail::first_byte(type, type == PacketType::pubrel ? 2 : 0);
    at[1] = coded ? 3 : 2;
    at[2] = static_cast<uint8_t>(id >> 8);
    at[3] = static_cast<uint8_t>(id);
    if (coded) { at[4] = code(ReasonCode::packet_identifier_not_found); }
    link_.control = static_cast<uint16_t>(link_.control + (coded ? 5 : 4));
  }

  // Whether the packet may be sent; takes its share of the quota [MQTT-4.9.0-2]. A PUBREL sent
  // again counts too: the server may still count its message.
  bool takes_quota(uint8_t first, uint16_t& inflight) const noexcept {
    const bool counts = (is_publish(first) && qos_of(first) != 0) || is_pubrel(first);
    if (!acknowledges || !counts) { return true; }
    if (inflight >= link_.window) { return false; }
    inflight = static_cast<uint16_t>(inflight + 1);
    return true;
  }

  // --- time and the end ---
  void end_link(Phase phase) noexcept {
    link_.phase = phase;
    ask();
  }

  void fail(Error error, ClientEvent& event) noexcept {
    event.type = ClientEventType::closed;
    event.error = error;
    if (error == Error::link_closed) {
      event.reason_code = ReasonCode::keep_alive_timeout;
    } else if (v5()) {
      event.reason_code = reason_code(error);
      if (online()) { static_cast<void>(put_reason(PacketType::disconnect, event.reason_code)); }
    }
    end_link(Phase::reported);
  }

  // What the new CONNACK does not allow of what is queued is told, one event a packet.
  bool review(ClientEvent& event) noexcept {
    while (review_ != end_) {
      Answer answer = Features::v5 ? permitted(review_) : Answer::queued;
      if (fresh_ && is_pubrel(*review_)) { answer = Answer::session_lost; }
      if (fresh_ && is_publish(*review_)) { *review_ &= static_cast<uint8_t>(~dup_flag); }
      if (answer != Answer::queued) {
        event.answer = answer;
        complete(review_, event);
        return true;
      }
      review_ += stored_size(review_);
    }
    review_ = nullptr;
    return false;
  }

  // The request at `at` has come to its end.
  void complete(uint8_t* at, ClientEvent& event) noexcept {
    const uint16_t id = id_at(at);
    event.handle = handle_of(id);
    event.type = is_subscribe(*at) ? ClientEventType::subscribed : ClientEventType::unsubscribed;
    if (*at < detail::first_byte(PacketType::subscribe)) {
      event.type = ClientEventType::published;
      store_.drop(id);
    }
    remove(at);
  }

  // --- receiving ---

  // Frees what the last event viewed.
  void release() noexcept {
    rx_begin_ += link_.borrowed;
    rx_end_ -= link_.piece;
    link_.offset += link_.piece;
    if (link_.borrowed != 0) {
      link_.offset = 0;
      link_.skip = false;
    }
    link_.borrowed = link_.piece = 0;
  }
  // Waits for more bytes behind those at the front of rx.
  Error wait_for_more() noexcept {
    detail::move_down(rx_.data(), rx_.data() + rx_begin_, rx_end_ - rx_begin_);
    rx_end_ -= rx_begin_;
    rx_begin_ = 0;
    return rx_end_ == rx_.size() ? Error::packet_too_large : Error::incomplete;
  }

  // Takes the packet at the front of rx; incomplete when it is not whole or cannot be taken yet.
  Error take_packet(ClientEvent& event) noexcept {
    release();
    const bool full = control_room().size() < control_spare;
    if (link_.phase == Phase::greeting || full) { return Error::incomplete; }
    Frame frame;
    const Error error =
        next_frame(Bytes(rx_).first(rx_end_).skip(rx_begin_), version(), ~uint32_t{0}, frame);
    if (error > Error::incomplete) { return error; }
    const PacketType type = frame.type();
    const bool publishes = type == PacketType::publish && frame.header_size != 0;
    if (publishes && online()) { return take_publish(frame, event); }
    if (error != Error::none) { return wait_for_more(); }
    link_.borrowed = frame.size();
    constexpr bool takes_auth = Features::v5 && Features::enhanced_auth;
    if (takes_auth && type == PacketType::auth) { return take_auth(frame, event); }
    if (!online()) {
      // before CONNACK nothing else may come [MQTT-3.2.0-1]
      return type == PacketType::connack ? take_connack(frame, event) : Error::protocol_state;
    }
    const bool acks = type >= PacketType::puback && type <= PacketType::pubcomp;
    if (acknowledges && acks) { return take_ack(frame, event); }
    if (type == PacketType::suback || type == PacketType::unsuback) {
      return take_codes(frame, event);
    }
    if (type == PacketType::pingresp) {
      link_.asked = false;
      return frame.remaining == 0 ? Error::none : Error::malformed_length;
    }
    return Features::v5 && type == PacketType::disconnect ? take_disconnect(frame, event)
                                                          : Error::protocol_state;
  }

  Error take_connack(const Frame& frame, ClientEvent& event) noexcept {
    Connack connack;
    const Error error = decode(frame, version(), connack);
    if (error != Error::none) { return error; }
    event.reason_code = connack.reason_code;
    event.session_present = connack.session_present;
    if constexpr (Features::v5) { event.properties = connack.properties; }
    if (failed(connack.reason_code)) {
      event.type = ClientEventType::refused;
      end_link(Phase::reported);
      return Error::none;
    }
    // [MQTT-3.2.2-1] [MQTT-3.2.2-2]
    if (clean_start() && connack.session_present) { return Error::protocol_value; }
    // 3.1 does not tell; a session asked for is taken to be there.
    const bool forgets = clean_start() || version() != Version::v3_1;
    fresh_ = reviews && forgets && !connack.session_present;
    link_.phase = Phase::online;
    link_.asked = false;
    link_.keep_alive_s = connect_->keep_alive_s;
    if (acknowledges) { link_.window = Config::inflight_max; }
    if (v5()) { take_limits(connack.properties); }
    established_ = Features::v5;
    while (Features::qos_2 && fresh_ && ids_count_ != 0) { drop_received(limit_); }
    if constexpr (reviews) { review_ = begin_; }
    event.type = ClientEventType::connected;
    return Error::none;
  }

  void take_limits(Properties properties) noexcept {
    const auto refused = [&properties](PropertyId id) noexcept {
      return properties.number(id, 1) == 0;
    };
    link_.window = static_cast<uint16_t>(detail::smaller<uint32_t>(
        properties.number(PropertyId::receive_maximum, never), Config::inflight_max));
    link_.packet_bytes_max = properties.number(PropertyId::maximum_packet_size, 0);
    link_.refused_qos = static_cast<uint8_t>(properties.number(PropertyId::maximum_qos, 2) + 1);
    link_.no_retain = refused(PropertyId::retain_available);
    link_.no_wildcards = refused(PropertyId::wildcard_subscription_available);
    link_.no_shared = refused(PropertyId::shared_subscription_available);
    link_.no_identifiers = refused(PropertyId::subscription_identifier_available);
    link_.keep_alive_s = static_cast<uint16_t>(properties.number(
        PropertyId::server_keep_alive, connect_->keep_alive_s));  // [MQTT-3.2.2-21]
    if constexpr (aliases) {
      link_.alias_max = static_cast<uint16_t>(detail::smaller<uint32_t>(
          properties.number(PropertyId::topic_alias_maximum, 0), sent_aliases_.count()));
    }
  }

  Error take_ack(const Frame& frame, ClientEvent& event) noexcept {
    Ack ack;
    const Error error = decode(frame, version(), Side::client, ack);
    if (error != Error::none) { return error; }
    const uint16_t id = ack.packet_id;
    if (ack.type == PacketType::pubrel) {
      take_pubrel(id);
      return Error::none;
    }
    uint8_t* const at = find(id);
    SendState state = SendState::none;
    // One that is just being sent waits for no answer, even if it was sent on an earlier link.
    if (at != nullptr && (at != next_ || link_.part == 0)) {
      if (is_pubrel(*at)) { state = SendState::pubcomp; }
      const bool sent = at < next_ || (*at & dup_flag) != 0;
      if (is_publish(*at) && sent) { state = sent_state(static_cast<Qos>(qos_of(*at))); }
    }
    event.reason_code = ack.reason_code;
    if constexpr (Features::v5) { event.properties = ack.properties; }
    const DeliveryAction action = on_ack(state, ack.type, ack.reason_code).action;
    if (action == DeliveryAction::violation) { return Error::protocol_state; }
    if (action == DeliveryAction::complete || action == DeliveryAction::fail) {
      link_.inflight = static_cast<uint16_t>(link_.inflight - (at < next_ ? 1 : 0));
      complete(at, event);
    } else if (action == DeliveryAction::release) {
      release_message(at, id);
    } else if (action != DeliveryAction::ignore) {
      put_ack(PacketType::pubrel, id, action == DeliveryAction::release_again);
    }
    return Error::none;
  }

  // PUBREL takes the place of the message [MQTT-4.3.3-6].
  void release_message(uint8_t* at, uint16_t id) noexcept {
    put_ack(PacketType::pubrel, id);
    uint8_t* const pubrel = at + stored_size(at) - 4;
    memcpy(pubrel, control() + link_.control - 4, 4);
    static_cast<void>(store_.keep(id, Bytes(pubrel, 4)));
    remove(at, 4);
  }

  // QoS 2 ids received lie behind limit_, in no order.
  uint8_t* received(uint32_t index) const noexcept { return limit_ + size_t{2} * index; }
  uint8_t* find_received(uint16_t id) const noexcept {
    for (uint32_t i = 0; i < ids_count_; ++i) {
      if (detail::u16_at(received(i)) == id) { return received(i); }
    }
    return nullptr;
  }
  void add_received(uint16_t id) noexcept {
    uint8_t* const at = received(ids_count_);
    at[0] = static_cast<uint8_t>(id >> 8);
    at[1] = static_cast<uint8_t>(id);
    ids_count_ = static_cast<uint16_t>(ids_count_ + 1);
  }
  void drop_received(uint8_t* at) noexcept {
    store_.drop(inbound | detail::u16_at(at));
    ids_count_ = static_cast<uint16_t>(ids_count_ - 1);
    memcpy(at, received(ids_count_), 2);
  }
  void take_pubrel(uint16_t id) noexcept {
    uint8_t* const at = find_received(id);
    const ReceiveState state = at != nullptr ? ReceiveState::pubrel : ReceiveState::none;
    const bool known = on_pubrel(state).action == DeliveryAction::deliver;
    if (known) { drop_received(at); }
    put_ack(PacketType::pubcomp, id, known);
  }

  // A PUBLISH whose fixed header is there. The message goes to the application when it is whole,
  // or, larger than rx, a piece at a time: then its head stays at the front of rx.
  Error take_publish(const Frame& frame, ClientEvent& event) noexcept {
    Publish& publish = event.message;
    Reader reader(frame.body);
    Error error =
        detail::take_publish_head(reader, frame.first, {version(), Side::client}, publish);
    const bool whole = frame.body.size() == frame.remaining;
    if (error == Error::malformed_length && !whole) { return wait_for_more(); }
    if (error != Error::none) { return error; }
    const uint32_t head = frame.body.size() - reader.left();
    const uint32_t left = frame.remaining - head - link_.offset;
    const uint32_t piece = detail::smaller(reader.left(), left);
    const bool room = frame.size() <= rx_.size() || rx_begin_ != 0 || rx_end_ < rx_.size();
    if (piece < left && room) { return wait_for_more(); }
    if (piece == 0 && left != 0) { return Error::packet_too_large; }  // the head fills rx
    publish.payload = reader.bytes(piece);
    event.offset = link_.offset;
    event.total = frame.remaining - head;
    if constexpr (aliases) { error = resolve_alias(publish); }
    if (error == Error::none && link_.offset == 0) { error = begin_message(publish); }
    if (error != Error::none) { return error; }
    if (piece == left) {
      link_.borrowed = frame.header_size + head + piece;
      finish_message(publish);
    } else {
      link_.piece = piece;
    }
    if (link_.skip) { return Error::none; }
    event.type = ClientEventType::message;
    if (!Features::streaming && piece < event.total) {
      event.type = ClientEventType::skipped;
      publish.payload = Bytes();
      link_.skip = true;
    }
    return Error::none;
  }

  Error resolve_alias(Publish& publish) noexcept {
    const uint32_t alias = publish.properties.number(PropertyId::topic_alias, 0);
    if (alias == 0) { return Error::none; }
    if (alias > received_aliases_.count()) { return Error::topic_alias_invalid; }  // [MQTT-3.3.2-9]
    if (!publish.topic.empty()) {
      return received_aliases_.put(alias, publish.topic) ? Error::none : Error::buffer_too_small;
    }
    publish.topic = received_aliases_.topic_of(alias);
    return publish.topic.empty() ? Error::topic_alias_invalid : Error::none;
  }

  // Whether the message may come now, and is new.
  Error begin_message(const Publish& publish) noexcept {
    if (level(publish.qos) > highest_qos) { return Error::protocol_value; }
    if constexpr (Features::qos_2) {
      if (publish.qos != Qos::exactly_once) { return Error::none; }
      const bool known = find_received(publish.packet_id) != nullptr;
      const ReceiveState state = known ? ReceiveState::pubrel : ReceiveState::none;
      link_.skip = on_publish(state).action == DeliveryAction::repeat;
      // [MQTT-3.3.4-9] is the server's to keep
      if (!known && ids_count_ == Config::receive_maximum) { return Error::receive_maximum; }
    }
    return Error::none;
  }
  // The answer to the last byte. A QoS 2 id is taken down before the message is seen, lest twice.
  void finish_message(const Publish& publish) noexcept {
    const uint16_t id = publish.packet_id;
    if (Features::qos_2 && publish.qos == Qos::exactly_once) {
      if (find_received(id) == nullptr) {
        add_received(id);
        static_cast<void>(store_.keep(inbound | id, Bytes()));
      }
      put_ack(PacketType::pubrec, id);
    } else if (Features::qos_1 && publish.qos == Qos::at_least_once) {
      put_ack(PacketType::puback, id);
    }
  }

  // SUBACK and UNSUBACK.
  Error take_codes(const Frame& frame, ClientEvent& event) noexcept {
    Suback answer;
    const Error error = decode(frame, version(), answer);
    if (error != Error::none) { return error; }
    uint8_t* const at = find(answer.packet_id);
    // the answer's type is the request's and 1
    const bool asked = at != nullptr && at < next_ && (*at >> 4) + 1 == frame.first >> 4;
    if (!asked) { return Error::protocol_state; }
    if (!answer.reason_codes.empty() && answer.reason_codes.size() != filters_at(at)) {
      return Error::protocol_value;  // [MQTT-3.8.4-6] [MQTT-3.8.4-5]
    }
    event.reason_codes = answer.reason_codes;
    if constexpr (Features::v5) { event.properties = answer.properties; }
    complete(at, event);
    return Error::none;
  }
  uint32_t filters_at(const uint8_t* at) const noexcept {
    Reader reader(behind_id(at));
    if (v5()) { reader.bytes(reader.variable()); }
    uint32_t count = 0;
    for (const uint8_t* filter = reader.cursor(); filter != at + wire_size(at); ++count) {
      filter += 2 + detail::u16_at(filter) + (is_subscribe(*at) ? 1 : 0);
    }
    return count;
  }

  Error take_disconnect(const Frame& frame, ClientEvent& event) noexcept {
    Disconnect packet;
    const Error error = decode(frame, version(), Side::client, packet);
    if (error != Error::none) { return error; }
    event.type = ClientEventType::closed;
    event.reason_code = packet.reason_code;
    event.properties = packet.properties;
    end_link(Phase::reported);
    return Error::none;
  }
  Error take_auth(const Frame& frame, ClientEvent& event) noexcept {
    Auth auth;
    const Error error = decode(frame, version(), Side::client, auth);
    if (error != Error::none) { return error; }
    if (connect_->properties.text(PropertyId::authentication_method).empty()) {
      return Error::protocol_state;  // [MQTT-4.12.0-6]
    }
    if (!online()) { ask(); }
    event.type = ClientEventType::authentication;
    event.reason_code = auth.reason_code;
    event.properties = auth.properties;
    return Error::none;
  }

  // Room that a packet is only taken with: for its answer, PINGREQ and DISCONNECT.
  static constexpr uint32_t control_spare = 16;

  const Connect* connect_;
  Buffer rx_;
  uint8_t* tx_;
  uint8_t* limit_;                      // of the packets in tx
  uint8_t *begin_ = tx_, *end_ = tx_;   // the packets in tx
  uint8_t* next_ = tx_;                 // the first not sent on this link
  uint8_t* review_ = nullptr;           // the first not yet held against CONNACK; nullptr: all are
  uint32_t rx_begin_ = 0, rx_end_ = 0;  // bytes received and not yet taken
  Millis now_ = 0;                      // of the last next_event() or start()
  uint32_t sent_at_ = 0, received_at_ = 0, asked_at_ = 0;  // low halves: only differences count
  uint16_t last_id_ = 0;                                   // of the requests
  uint16_t cycle_ = 0;                                     // how often ids have started anew
  uint16_t ids_count_ = 0;                                 // QoS 2 messages being received
  bool established_ = false;                               // a CONNACK has come in this session
  bool fresh_ = false;   // the server has no session from before this link
  bool notify_ = false;  // the end of a link is to be told, with
  Error notice_ = Error::none;
  Link link_ = {};
  Source* source_ = nullptr;
  uint8_t* stream_ = nullptr;  // the packet whose payload comes from source_
  uint32_t stream_head_ = 0;   // its bytes in tx
  Store store_;
  detail::AliasTable received_aliases_, sent_aliases_;
};

// >> 11. client — Client<Transport, Clock, Config>

/// Properties of a request (v5 §4.10), built in `scratch`; empty when it is too small.
inline Properties request_properties(Buffer scratch, Text answer_topic,
                                     Bytes correlation) noexcept {
  PropertyWriter writer(scratch);
  writer.text(PropertyId::response_topic, answer_topic);
  return writer.binary(PropertyId::correlation_data, correlation).properties();
}
/// What tells which request a message answers; empty when nothing does.
inline Bytes correlation_of(const Publish& message) noexcept {
  Property property;
  return message.properties.find(PropertyId::correlation_data, property) ? property.bytes : Bytes();
}
/// The answer to a request, its properties built in `scratch`; without a topic when none is wanted.
inline Publish answer_to(const Publish& request, Bytes payload, Buffer scratch) noexcept {
  Publish answer{request.properties.text(PropertyId::response_topic), payload, request.qos};
  PropertyWriter writer(scratch);
  const Bytes correlation = correlation_of(request);
  if (!correlation.empty()) { writer.binary(PropertyId::correlation_data, correlation); }
  answer.properties = writer.properties();
  return answer;
}

/// A client with its memory, which dials, keeps the link alive, dials again and subscribes again.
///
///     Transport  int32_t dial(uint32_t attempt)             > 0 up, 0 on its way: call again, < 0
///                                                           failed; never blocks. `attempt` counts
///                                                           failures and links that ended: with
///                                                           several servers attempt % servers
///                int32_t receive(uint8_t*, size_t)          > 0 bytes, 0 nothing now, < 0 gone
///                int32_t transmit(const uint8_t*, size_t)   bytes taken, 0 later, < 0 gone
///                void hang_up()                             ends the link or the dialing
///     Clock      uint64_t now_ms()                          never back
///                uint32_t random()                          lest many clients dial at once
///
/// Either call run_once() often: subscriptions' handlers get their messages, `on_event` gets all
/// else; or call next_event() until it is false. Both return to do other work and never block;
/// deadline() says when there is something to do even if nothing comes in.
template <typename Transport, typename Clock, typename Config = ClientConfig>
class Client {
 public:
  using Engine = ClientEngine<Config>;
  using Handler = typename Config::Handler;

  /// `connect`: see ClientEngine.
  Client(Transport& transport, Clock& clock, const Connect& connect) noexcept
      : transport_(transport),
        clock_(clock),
        engine_(connect, {rx_, tx_, Buffer(aliases_, Config::alias_bytes)}) {}

  /// From now on there shall be a link.
  void start() noexcept {
    started_ = true;
    attempt_ = failures_ = 0;
    retry_at_ = clock_.now_ms();
  }
  /// Ends the link in order and for good, until start().
  Answer disconnect(ReasonCode reason = ReasonCode::success, Properties properties = {}) noexcept {
    const Answer answer = engine_.disconnect(reason, properties);
    if (answer == Answer::full || answer == Answer::invalid) { return answer; }
    started_ = false;
    if (dialing_) { transport_.hang_up(); }
    dialing_ = false;
    return answer;
  }

  Submission publish(const Publish& packet) noexcept { return engine_.publish(packet); }
  Submission publish(Text topic, Text payload, Qos qos = Qos::at_most_once,
                     bool retain = false) noexcept {
    return engine_.publish({topic, payload.bytes(), qos, retain});
  }
  /// Subscribes now and whenever the server has forgotten; the filter must live on. Messages go to
  /// the handlers of all filters that match, those of other messages to the events.
  Submission subscribe(Text filter, Qos qos, Handler handler = {}) noexcept {
    Slot* slot = slot_of(filter);
    if (slot == nullptr) { slot = slot_of(Text()); }
    if (slot == nullptr) { return {Answer::full}; }
    const Subscription entry{filter, qos};
    const Submission submission = engine_.subscribe({&entry, 1});
    if (submission) { *slot = Slot{entry, handler, submission.handle}; }
    return submission;
  }
  Submission unsubscribe(Text filter) noexcept {
    const Subscription entry{filter};
    const Submission submission = engine_.unsubscribe({&entry, 1});
    Slot* const slot = slot_of(filter);
    if (submission && slot != nullptr) { *slot = Slot(); }
    return submission;
  }

  bool online() const noexcept { return engine_.online(); }
  Engine& engine() noexcept { return engine_; }
  Transport& transport() noexcept { return transport_; }

  /// What happened next, handlers not called; false: nothing more now.
  bool next_event(ClientEvent& event) noexcept {
    const Millis now = clock_.now_ms();
    if (refused(event) || (!up_ && dial_failed(now, event))) { return true; }
    while (true) {
      if (engine_.next_event(now, event)) {
        note(event);
        return true;
      }
      if (!up_) { return false; }
      const int32_t sent = transmit();
      const int32_t got = receive();
      // What came before the end is taken first: it may say why.
      if (got < 0 || (sent < 0 && got == 0) || engine_.wants_hang_up()) {
        hang_up(now);
      } else if (sent == 0 && got == 0) {
        return false;
      }
    }
  }

  /// Takes all that is ready, messages to their handlers, else to `on_event`; returns deadline().
  template <typename OnEvent>
  Millis run_once(OnEvent&& on_event) noexcept {
    ClientEvent event;
    while (next_event(event)) {
      if (event.type != ClientEventType::message || !handle(event)) { on_event(event); }
    }
    return deadline();
  }
  /// As above; messages without a handler are skipped.
  Millis run_once() noexcept {
    return run_once([this](const ClientEvent& event) noexcept {
      if (event.type == ClientEventType::message) { engine_.skip(); }
    });
  }
  Millis deadline() const noexcept {
    if (up_) { return engine_.deadline(); }
    return dialing_ ? dial_until_ : started_ ? retry_at_ : ~Millis{0};
  }

 private:
  struct Slot {
    Subscription entry;
    Handler handler{};
    uint32_t request = 0;           // the SUBSCRIBE under way
    Answer again = Answer::queued;  // full: to be subscribed again; more: why it cannot be
  };
  Slot* slot_of(Text filter) noexcept {
    for (Slot& slot : slots_) {
      if (slot.entry.filter == filter) { return &slot; }
    }
    return nullptr;
  }

  // A dial that fails is told as the end of a link.
  bool dial_failed(Millis now, ClientEvent& event) noexcept {
    if (!started_ || now < retry_at_) { return false; }
    if (!dialing_) { dial_until_ = now + Config::dial_timeout_ms; }
    dialing_ = true;
    const int32_t result = transport_.dial(attempt_);
    if (result == 0 && now < dial_until_) { return false; }
    dialing_ = false;
    event = ClientEvent();
    event.error = result > 0 ? engine_.start(now) : Error::link_closed;
    up_ = event.error == Error::none;
    up_since_ = now;
    if (up_) { return false; }
    event.type = ClientEventType::closed;
    hang_up(now);
    return true;
  }
  // The wait doubles with each failure; half of it is random. A link that did not live long is a
  // failure too: it may be refused, or taken over by a client with the same id, again and again.
  void hang_up(Millis now) noexcept {
    transport_.hang_up();
    engine_.lost();
    if (up_ && now - up_since_ >= Config::retry_max_ms) { failures_ = 0; }
    up_ = false;
    uint32_t wait = Config::retry_min_ms;
    for (uint32_t i = 0; i < failures_ && wait < Config::retry_max_ms; ++i) { wait *= 2; }
    wait = detail::smaller(wait, Config::retry_max_ms);
    retry_at_ = now + wait / 2 + clock_.random() % (wait / 2 + 1);
    failures_ += 1;
    attempt_ += 1;
  }
  // > 0 something was moved, < 0 the link is gone.
  int32_t transmit() noexcept {
    int32_t moved = 0;
    while (true) {
      const Bytes bytes = engine_.tx_pending();
      const int32_t size = bytes.empty() ? 0 : transport_.transmit(bytes.data(), bytes.size());
      if (size <= 0) { return size < 0 ? size : moved; }
      engine_.tx_commit(static_cast<uint32_t>(size));
      moved = 1;
    }
  }
  int32_t receive() noexcept {
    const Buffer space = engine_.rx_space();
    const int32_t size = space.empty() ? 0 : transport_.receive(space.data(), space.size());
    if (size > 0) { engine_.rx_commit(static_cast<uint32_t>(size)); }
    return size;
  }

  // Keeps the subscriptions as the server has them.
  void note(const ClientEvent& event) noexcept {
    const bool forgotten = event.type == ClientEventType::connected && !event.session_present;
    for (Slot& slot : slots_) {
      if (slot.entry.filter.empty()) { continue; }
      if (forgotten && slot.request == 0) { slot.again = Answer::full; }
      if (event.type == ClientEventType::subscribed && slot.request == event.handle) {
        slot.request = 0;
      }
      if (slot.again == Answer::full && engine_.online()) {
        const Submission submission = engine_.subscribe({&slot.entry, 1});
        slot.again = submission.answer;
        slot.request = submission.handle;
      }
    }
  }
  // What a new server does not allow is told, with the filter in message.topic.
  bool refused(ClientEvent& event) noexcept {
    for (Slot& slot : slots_) {
      if (slot.again <= Answer::full) { continue; }
      event = ClientEvent();
      event.type = ClientEventType::subscribed;
      event.answer = slot.again;
      event.message.topic = slot.entry.filter;
      slot.again = Answer::queued;
      return true;
    }
    return false;
  }
  // False when no filter matches.
  bool handle(const ClientEvent& event) noexcept {
    bool handled = false;
    for (Slot& slot : slots_) {
      if (slot.handler && !slot.entry.filter.empty() &&
          matches(split_shared(slot.entry.filter).filter, event.message.topic)) {
        slot.handler(event);
        handled = true;
      }
    }
    return handled;
  }

  Transport& transport_;
  Clock& clock_;
  Engine engine_;
  Millis retry_at_ = 0, dial_until_ = 0, up_since_ = 0;
  uint32_t attempt_ = 0, failures_ = 0;
  bool started_ = false, dialing_ = false, up_ = false;
  Slot slots_[Config::subscriptions_max];
  uint8_t rx_[Config::rx_bytes];
  uint8_t tx_[Config::tx_bytes];
  uint8_t aliases_[Config::alias_bytes + 1];
};

// >> 12. broker memory — limits, tables, blocks, texts, queues, timers

/// How much of everything a broker has: one block of broker_bytes(limits), carved once at start;
/// what is not used is not touched. Each limit has one answer when it is reached; the manual's
/// table lists them.
struct BrokerSizes {
  uint32_t connections = 1024;      ///< links at a time; more are not admitted
  uint32_t sessions = 2048;         ///< with and without a link; more: CONNACK 0x97
  uint32_t subscriptions = 32768;   ///< over all sessions; more: SUBACK 0x97
  uint32_t filters = 32768;         ///< distinct filters; more: SUBACK 0x97
  uint32_t filter_nodes = 65536;    ///< levels of wildcard filters and exact filters
  uint32_t retained = 16384;        ///< retained messages; more: not retained, PUBACK 0x97
  uint32_t retained_nodes = 65536;  ///< levels of their topics
  uint32_t blocks = 65536;          ///< small blocks: messages, queues, unfinished packets
  uint32_t block_bytes = 128;       ///< of one: a multiple of 8, 80 (16-bit Index: 64) to 2,048
  uint32_t large_blocks = 4096;     ///< for payloads of a kilobyte and more; 0: small ones only
  uint32_t large_block_bytes = 4096;
  uint32_t text_blocks = 65536;    ///< client ids, user names, filters, aliases
  uint32_t text_block_bytes = 32;  ///< of one, a multiple of 8, 16 to 2,048
  uint32_t turn_records = 4096;  ///< PUBLISH packets kept in the arena in a turn; 0: all are stored
  uint32_t control_packet_bytes_max = 524288;  ///< all of a packet but a PUBLISH's payload
  uint16_t topic_levels_max = 201;             ///< in topics and filters; more: 0x81
  uint32_t queued_bytes_max = 0;    ///< payload waiting for a client; more: dropped; 0: no limit
  uint32_t inflight_bytes_max = 0;  ///< payload a client has not acknowledged; more wait; 0: none
};

/// All limits; those that are not sizes may change while the broker runs.
struct BrokerLimits : BrokerSizes {
  uint32_t packet_bytes_max = 2000000;   ///< larger packets: 0x95 or close
  uint32_t message_bytes_max = 0;        ///< payload; larger: PUBACK 0x95; 0: no limit
  uint16_t receive_maximum = 20;         ///< unacknowledged QoS > 0 from one v5 client; more: 0x93
  uint16_t inflight_max = 20;            ///< unacknowledged QoS > 0 to one client; more wait
  uint32_t queued_max = 1000;            ///< waiting for one client; more: dropped; 0: no limit
  uint16_t topic_alias_max = 10;         ///< aliases a client may set; 0: none
  uint16_t topic_alias_broker_max = 10;  ///< aliases we set for a client that takes them
  uint16_t keep_alive_max_s = 0;         ///< longer ones are shortened; 0: no limit
  uint32_t session_expiry_max_s = 0xFFFFFFFF;  ///< longer ones are shortened
  uint32_t retained_expiry_s = 0;              ///< of retained messages without an own one; 0: none
  uint16_t connect_timeout_s = 30;  ///< from admission to the end of CONNECT and its decision
  uint16_t packet_timeout_s = 60;   ///< from a packet's first byte, a payload's last progress
  uint16_t pause_ms = 5000;         ///< a publisher waits for a full subscriber at most
  uint16_t policy_timeout_s = 30;   ///< a policy that answers later; then 0x83
  Qos maximum_qos = Qos::exactly_once;
  bool retain_available = true;
  bool queue_qos_0 = false;           ///< keep QoS 0 messages for sessions without a link
  bool upgrade_outgoing_qos = false;  ///< deliver with the subscription's QoS, not the lower one
  bool allow_empty_client_id = true;
  bool client_id_23 = false;               ///< refuse client ids over 23 bytes from 3.1 clients
  const char* client_id_prefix = "auto-";  ///< of ids we assign, at most 11 characters
  bool accept_v3_1 = true;
  bool accept_v3_1_1 = true;
  bool accept_v5 = true;
};

namespace detail {
// Time inside: eighths of a second since start, 17 years until it wraps.
using Tick = uint32_t;
inline constexpr Tick ticks_per_second = 8;
inline constexpr Tick never = 0xFFFFFFFF;
constexpr bool reached(Tick now, Tick due) noexcept { return due != never && now >= due; }
// `seconds` from now, not before; never when too far.
constexpr Tick after_seconds(Tick now, uint32_t seconds) noexcept {
  constexpr uint32_t horizon = 0x1FFFFFFF / ticks_per_second;
  return seconds > horizon ? never : now + seconds * ticks_per_second + 1;
}

template <typename Index>
inline constexpr Index none = static_cast<Index>(~Index{0});
// Marks a handle of a large block, or of a turn record.
template <typename Index>
inline constexpr Index top_bit = static_cast<Index>(Index{1} << (8 * sizeof(Index) - 1));

template <typename T>
constexpr void adjust(T& count, int change) noexcept {
  count = static_cast<T>(static_cast<int>(count) + change);
}
// Takes an item of a table out of the list that begins at `link`.
template <typename Items, typename Index>
void unlink(const Items& items, Index* link, Index index) noexcept {
  while (*link != index) {
    MQTT_ASSERT(*link != none<Index>);
    link = &items[*link].next;
  }
  *link = items[index].next;
}
// Hands out parts of one block of memory; without memory it only adds up what they take.
class Carver {
 public:
  constexpr explicit Carver(uint8_t* memory) noexcept : memory_(memory) {}
  template <typename T>
  __attribute__((always_inline)) constexpr T* take(uint64_t count) noexcept {
    const uint64_t at = size_;
    size_ += (count * sizeof(T) + 15) & ~uint64_t{15};
    return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + at);
  }
  constexpr uint64_t size() const noexcept { return size_; }

 private:
  uint8_t* memory_;
  uint64_t size_ = 0;
};

// Slots of T in caller's memory, addressed by index. T has a member `next`, which chains the free
// ones. Slots never used are never touched.
template <typename T, typename Index>
class Table {
 public:
  void start(T* items, uint32_t limit) noexcept {
    *this = Table();
    items_ = items;
    limit_ = static_cast<Index>(limit);
  }
  T& operator[](Index index) const noexcept {
    MQTT_ASSERT(index < used_);
    return items_[index];
  }
  Index index_of(const T& item) const noexcept { return static_cast<Index>(&item - items_); }
  Index count() const noexcept { return count_; }
  Index used() const noexcept { return used_; }
  bool full() const noexcept { return count_ == limit_; }
  Index allocate() noexcept {
    Index index = free_;
    if (index != none<Index>) {
      free_ = items_[index].next;
    } else if (used_ < limit_) {
      index = used_++;
    } else {
      return none<Index>;
    }
    ++count_;
    reset(index);
    return index;
  }
  // Takes this very slot; false when it is in use.
  bool allocate_at(Index index) noexcept {
    while (used_ <= index && used_ < limit_) {
      ++count_;
      release(used_++);
    }
    Index* link = &free_;
    while (*link != none<Index> && *link != index) { link = &items_[*link].next; }
    if (*link == none<Index>) { return false; }
    *link = items_[index].next;
    items_[index].next = none<Index>;
    ++count_;
    return true;
  }
  void release(Index index) noexcept {
    MQTT_ASSERT(count_ != 0);
    reset(index);
    items_[index].next = free_;
    free_ = index;
    --count_;
  }

 private:
  __attribute__((noinline)) void reset(Index index) noexcept { items_[index] = T(); }
  T* items_ = nullptr;
  Index limit_ = 0;
  Index used_ = 0;
  Index count_ = 0;
  Index free_ = none<Index>;
};

// Hash directory over the items of a Table (members `hash` and `next`), grown a bucket per insert
// (linear hashing), so that memory follows use and no insert stalls.
template <typename Index>
class Directory {
 public:
  void start(Index* heads, uint32_t limit) noexcept {
    *this = Directory();
    heads_ = heads;
    limit_ = limit;
    heads_[0] = none<Index>;
  }
  Index first(uint32_t hash) const noexcept { return heads_[bucket(hash)]; }
  template <typename T>
  void insert(Table<T, Index>& table, Index index) noexcept {
    if (items_ >= buckets_ && buckets_ < limit_) { split(table); }
    Index& head = heads_[bucket(table[index].hash)];
    table[index].next = head;
    head = index;
    items_ += 1;
  }
  template <typename T>
  void remove(Table<T, Index>& table, Index index) noexcept {
    unlink(table, &heads_[bucket(table[index].hash)], index);
    items_ -= 1;
  }

 private:
  uint32_t bucket(uint32_t hash) const noexcept {
    const uint32_t wide = hash & mask_;
    return wide < buckets_ ? wide : hash & (mask_ >> 1);
  }
  template <typename T>
  void split(Table<T, Index>& table) noexcept {
    const uint32_t fresh = buckets_++;
    if (fresh > mask_) { mask_ = mask_ * 2 + 1; }
    heads_[fresh] = none<Index>;
    Index* link = &heads_[fresh & (mask_ >> 1)];
    while (*link != none<Index>) {
      T& item = table[*link];
      if ((item.hash & mask_) != fresh) {
        link = &item.next;
        continue;
      }
      const Index moved = *link;
      *link = item.next;
      item.next = heads_[fresh];
      heads_[fresh] = moved;
    }
  }
  Index* heads_ = nullptr;
  uint32_t limit_ = 0;
  uint32_t buckets_ = 1;
  uint32_t mask_ = 0;
  uint32_t items_ = 0;
};

// Seeded hash of bytes, two independent halves; collisions of one cost a comparison and no more.
struct Hash {
  uint32_t low = 0;
  uint32_t high = 0;
};
inline Hash hash_bytes(Bytes bytes, uint32_t seed) noexcept {
  Hash hash{seed ^ (bytes.size() * 0x9E3779B1U), ~seed * 0x27D4EB2FU};
  while (!bytes.empty()) {
    const uint32_t size = smaller(bytes.size(), uint32_t{4});
    uint32_t word = 0;
    memcpy(&word, bytes.data(), size);
    hash.low = (hash.low ^ word) * 0x85EBCA6BU;
    hash.low ^= hash.low >> 15;
    hash.high = (hash.high + word) * 0xC2B2AE35U;
    hash.high ^= hash.high >> 13;
    bytes = bytes.skip(size);
  }
  return hash;
}

// For what a block is taken: `ordinary` leaves those that are promised and those that are kept for
// answers; `answer` only the promised ones; `promised` takes what reserve() has set aside.
enum class Claim : uint8_t { ordinary, answer, promised };

// Equal blocks with a link in front, handed out one by one.
template <typename Index>
class BlockPool {
 public:
  void start(uint8_t* memory, uint32_t count, uint32_t bytes) noexcept {
    *this = BlockPool();
    base_ = memory;
    bytes_ = bytes;
    limit_ = static_cast<Index>(count);
  }
  uint32_t room() const noexcept { return bytes_ - link_bytes; }
  uint32_t taken() const noexcept { return taken_; }
  uint32_t limit() const noexcept { return limit_; }
  // Free blocks that are neither promised nor kept.
  uint32_t available() const noexcept { return free_but(reserved_ + kept_); }
  void reserve(uint32_t count) noexcept { reserved_ += count; }
  void give_back(uint32_t count) noexcept {
    MQTT_ASSERT(reserved_ >= count);
    reserved_ -= count;
  }
  void keep(uint32_t count) noexcept { kept_ = count; }
  uint8_t* data(Index block) const noexcept { return at(block) + link_bytes; }
  template <typename T>
  T& as(Index block) const noexcept {
    return *reinterpret_cast<T*>(data(block));
  }
  Index& next(Index block) const noexcept { return *reinterpret_cast<Index*>(at(block)); }
  Index allocate(Claim claim) noexcept {
    const uint32_t promised = claim == Claim::promised ? 0 : reserved_;
    if (free_but(promised + (claim == Claim::ordinary ? kept_ : 0)) == 0) { return none<Index>; }
    Index block = free_;
    if (block != none<Index>) {
      free_ = next(block);
    } else {
      block = used_++;
    }
    taken_ += 1;
    next(block) = none<Index>;
    return block;
  }
  void release(Index block) noexcept {
    MQTT_ASSERT(block < used_ && taken_ != 0);
    next(block) = free_;
    free_ = block;
    taken_ -= 1;
  }

 private:
  static constexpr uint32_t link_bytes = 4;  // what follows is aligned for 32-bit members
  uint32_t free_but(uint32_t held) const noexcept {
    const uint32_t free = static_cast<uint32_t>(limit_) - taken_;
    return free > held ? free - held : 0;
  }
  uint8_t* at(Index block) const noexcept { return base_ + static_cast<size_t>(block) * bytes_; }
  uint8_t* base_ = nullptr;
  uint32_t bytes_ = 0;
  uint32_t taken_ = 0;
  uint32_t reserved_ = 0;
  uint32_t kept_ = 0;
  Index limit_ = 0;
  Index used_ = 0;
  Index free_ = none<Index>;
};

// A byte string in blocks. `skip` bytes at the front have been consumed; `room` are free in the
// last block.
template <typename Index>
struct Chain {
  Index first = none<Index>;
  Index last = none<Index>;
  uint32_t size = 0;
  uint16_t skip = 0;
  uint16_t room = 0;
};

template <typename Index>
struct ChainCursor {
  Index block = none<Index>;
  uint32_t at = 0;
};

// Small and, unless `large` is false, large blocks behind one kind of handle.
template <typename Index, bool large = true>
class Blocks {
 public:
  using Cursor = ChainCursor<Index>;
  using Pool = BlockPool<Index>;
  Pool little;
  Pool big;
  static constexpr uint32_t large_from = 1024;  // bytes still to come that justify a large block
  uint8_t* data(Index block) const noexcept { return pool(block).data(plain(block)); }
  uint32_t room(Index block) const noexcept { return pool(block).room(); }
  Index& next(Index block) const noexcept { return pool(block).next(plain(block)); }
  void release_chain(Index block) noexcept {
    while (block != none<Index>) {
      const Index following = next(block);
      release(block);
      block = following;
    }
  }
  void clear(Chain<Index>& chain) noexcept {
    release_chain(chain.first);
    chain = Chain<Index>();
  }

  struct Need {
    uint32_t little = 0;
    uint32_t big = 0;
  };
  // What `size` bytes behind a head of `head` bytes take at most.
  Need needed(uint32_t head, uint32_t size) const noexcept {
    const uint32_t in_first = little.room() - head;
    uint32_t rest = size > in_first ? size - in_first : 0;
    Need need;
    if (large && big.limit() != 0 && rest >= large_from) {
      need.big = (rest - large_from) / big.room() + 1;
      rest -= smaller(rest, need.big * big.room());
    }
    need.little = 1 + (rest == 0 ? 0 : (rest - 1) / little.room() + 1);
    return need;
  }
  bool available(const Need& need) const noexcept {
    return little.available() >= need.little && (!large || big.available() >= need.big);
  }
  void reserve(const Need& need) noexcept {
    little.reserve(need.little);
    big.reserve(need.big);
  }
  void give_back(Need& need) noexcept {
    little.give_back(need.little);
    big.give_back(need.big);
    need = Need();
  }
  // Adds bytes, behind which `following` more will come; false, with what fitted added, when no
  // block is left.
  bool append(Chain<Index>& chain, Bytes bytes, Claim claim, uint32_t following = 0) noexcept {
    while (!bytes.empty()) {
      if (chain.room == 0 && !extend(chain, bytes.size() + following, claim)) { return false; }
      const uint32_t part = smaller(uint32_t{chain.room}, bytes.size());
      copy(end_of(chain), bytes.data(), part);
      fill_space(chain, part);
      bytes = bytes.skip(part);
    }
    return true;
  }
  // The free rest of the last block, extended for `wanted` more bytes; empty when none is left.
  Buffer space(Chain<Index>& chain, uint32_t wanted) noexcept {
    if (chain.room == 0 && !extend(chain, wanted, Claim::ordinary)) { return Buffer(); }
    return Buffer(end_of(chain), smaller(uint32_t{chain.room}, wanted));
  }
  void fill_space(Chain<Index>& chain, uint32_t size) noexcept {
    MQTT_ASSERT(size <= chain.room);
    chain.room = static_cast<uint16_t>(chain.room - size);
    chain.size += size;
  }
  void consume(Chain<Index>& chain, uint32_t size) noexcept {
    MQTT_ASSERT(size <= chain.size);
    chain.size -= size;
    if (chain.size == 0) { return clear(chain); }
    uint32_t skip = chain.skip + size;
    while (skip >= room(chain.first)) {
      const Index gone = chain.first;
      skip -= room(gone);
      chain.first = next(gone);
      release(gone);
    }
    chain.skip = static_cast<uint16_t>(skip);
  }
  // The longest contiguous bytes at the cursor, at most `size`; moves it behind them.
  Buffer next_bytes(Cursor& cursor, uint32_t size) const noexcept {
    if (cursor.at == room(cursor.block)) { cursor = {next(cursor.block), 0}; }
    const uint32_t part = smaller(size, room(cursor.block) - cursor.at);
    const Buffer bytes(data(cursor.block) + cursor.at, part);
    cursor.at += part;
    return bytes;
  }
  void copy_out(Cursor& cursor, uint8_t* target, uint32_t size) const noexcept {
    while (size != 0) {
      const Bytes part = next_bytes(cursor, size);
      copy(target, part.data(), part.size());
      target += part.size();
      size -= part.size();
    }
  }
  void skip(Cursor& cursor, uint32_t size) const noexcept {
    while (size != 0) { size -= next_bytes(cursor, size).size(); }
  }
  bool equal(Cursor cursor, Bytes bytes) const noexcept {
    while (!bytes.empty()) {
      const Bytes part = next_bytes(cursor, bytes.size());
      if (memcmp(part.data(), bytes.data(), part.size()) != 0) { return false; }
      bytes = bytes.skip(part.size());
    }
    return true;
  }
  // The next `size` bytes, in place where they lie in one piece, else copied to `scratch`.
  Bytes view(Cursor cursor, uint32_t size, uint8_t* scratch) const noexcept {
    if (size == 0) { return Bytes(); }
    Cursor again = cursor;
    const Bytes piece = next_bytes(cursor, size);
    if (piece.size() == size) { return piece; }
    copy_out(again, scratch, size);
    return Bytes(scratch, size);
  }

 private:
  static constexpr bool is_large(Index block) noexcept { return large && block >= top_bit<Index>; }
  static constexpr Index plain(Index block) noexcept {
    return is_large(block) ? static_cast<Index>(block - top_bit<Index>) : block;
  }
  const Pool& pool(Index block) const noexcept { return is_large(block) ? big : little; }
  void release(Index block) noexcept { (is_large(block) ? big : little).release(plain(block)); }
  uint8_t* end_of(const Chain<Index>& chain) const noexcept {
    return data(chain.last) + room(chain.last) - chain.room;
  }
  bool extend(Chain<Index>& chain, uint32_t wanted, Claim claim) noexcept {
    Index block = none<Index>;
    if (large && wanted >= large_from && big.limit() != 0) {
      block = big.allocate(claim);
      if (block != none<Index>) { block = static_cast<Index>(block | top_bit<Index>); }
    }
    if (block == none<Index>) { block = little.allocate(claim); }
    if (block == none<Index>) { return false; }
    (chain.first == none<Index> ? chain.first : next(chain.last)) = block;
    chain.last = block;
    chain.room = static_cast<uint16_t>(room(block));
    return true;
  }
};

// Strings kept for long: two bytes of length and the characters, in a chain of small cells.
template <typename Index>
class Texts {
 public:
  BlockPool<Index>& cells() noexcept { return blocks_.little; }
  Index store(Text text) noexcept {
    Chain<Index> chain;
    const uint8_t size[2] = {static_cast<uint8_t>(text.size()),
                             static_cast<uint8_t>(text.size() >> 8)};
    if (!blocks_.append(chain, Bytes(size), Claim::ordinary) ||
        !blocks_.append(chain, text.bytes(), Claim::ordinary)) {
      blocks_.clear(chain);
    }
    return chain.first;
  }
  void release(Index cell) noexcept { blocks_.release_chain(cell); }
  uint32_t size(Index cell) const noexcept {
    const uint8_t* bytes = blocks_.data(cell);
    return bytes[0] | (uint32_t{bytes[1]} << 8);
  }
  bool equal(Index cell, Text text) const noexcept {
    return size(cell) == text.size() && blocks_.equal({cell, 2}, text.bytes());
  }
  // The whole string: in place when it fits a cell, else copied to `scratch`, which must hold it.
  Text view(Index cell, uint8_t* scratch) const noexcept {
    return Text(blocks_.view({cell, 2}, size(cell), scratch));
  }

 private:
  Blocks<Index, false> blocks_;
};

// Something to send, or sent and not yet acknowledged; also what else waits in a queue.
enum class EntryKind : uint8_t {
  skip,     // nothing (any more): delivered, dropped or moved
  turn,     // a PUBLISH that lies in the arena: `message` is a turn record; at QoS 0 `packet_id`
            // more that lie behind it are part of the entry
  stored,   // a PUBLISH in blocks: `message` is its first one
  encoded,  // a packet ready for the wire: `message` is a chain of `number` bytes
  puback,   // as PacketType, and so on; `number` is the reason code and, times 256, how many
  pubrec,   // more of them follow with the next ids
  pubrel,
  pubcomp,
  pingresp = 13
};

template <typename Index>
struct Entry {
  Index message = none<Index>;
  Index order = 0;      // merges the two queues of a connection; a gate while held back
  uint32_t number = 0;  // subscription id, block of them, subscription, size or reason code
  uint16_t packet_id = 0;
  EntryKind kind = EntryKind::skip;
  uint8_t qos : 2;
  uint8_t state_bits : 2;  // a SendState
  bool retain : 1;
  bool many_ids : 1;  // `number` is a block of subscription ids
  bool shared : 1;    // `number` is the shared subscription
  bool sent : 1;      // a byte of it has gone out: a repeat sets DUP
  constexpr explicit Entry(EntryKind what = EntryKind::skip, Index about = none<Index>,
                           uint32_t count = 0) noexcept
      : qos(0), state_bits(0), retain(false), many_ids(false), shared(false), sent(false) {
    message = about;
    number = count;
    kind = what;
  }
  constexpr bool is_message() const noexcept {
    return kind == EntryKind::turn || kind == EntryKind::stored;
  }
  constexpr SendState state() const noexcept { return static_cast<SendState>(state_bits); }
  constexpr void set_state(SendState to) noexcept { state_bits = static_cast<uint8_t>(to) & 3; }
  constexpr bool settled() const noexcept { return kind == EntryKind::skip && state_bits == 0; }
  // Whether a PUBLISH goes out at QoS 0 without RETAIN and identifiers.
  constexpr bool is_plain() const noexcept {
    return number == 0 && (qos | retain | many_ids | shared) == 0;
  }
};

// A place in a queue; chunk none stands for the queue's first entry.
template <typename Index>
struct QueuePlace {
  Index chunk = none<Index>;
  uint16_t at = 0;
  constexpr void step() noexcept { ++at; }
};

// A first-in first-out queue of entries in small blocks, borrowed only while it is not empty.
template <typename Index>
struct Queue {
  Index first = none<Index>;
  Index last = none<Index>;
  uint16_t first_at = 0;
  uint16_t last_at = 0;
  constexpr bool empty() const noexcept { return first == none<Index>; }
};

template <typename Index>
class Queues {
 public:
  using E = Entry<Index>;
  using Place = QueuePlace<Index>;
  void start(BlockPool<Index>& pool) noexcept {
    pool_ = &pool;
    per_chunk_ = static_cast<uint16_t>(pool.room() / sizeof(E));
  }
  // Null when no block is left.
  E* push(Queue<Index>& queue, const E& entry, Claim claim) noexcept {
    if (push_takes_block(queue)) {
      const Index chunk = pool_->allocate(claim);
      if (chunk == none<Index>) { return nullptr; }
      (queue.empty() ? queue.first : pool_->next(queue.last)) = chunk;
      queue.last = chunk;
      queue.last_at = 0;
    }
    E* target = slot(queue.last, queue.last_at);
    *target = entry;
    ++queue.last_at;
    return target;
  }
  // The entry at the place, null at the end.
  E* at(const Queue<Index>& queue, Place& place) noexcept {
    if (queue.empty()) { return nullptr; }
    if (at_front(queue, place)) { place = {queue.first, queue.first_at}; }
    if (place.at == per_chunk_ && place.chunk != queue.last) {
      place = {pool_->next(place.chunk), 0};
    }
    const bool end = place.chunk == queue.last && place.at == queue.last_at;
    return end ? nullptr : slot(place.chunk, place.at);
  }
  // Reads on from a place; nothing may be pushed or popped meanwhile.
  struct Reader {
    E* next = nullptr;
    E* end = nullptr;  // of the chunk
    Index chunk = none<Index>;
  };
  Reader from(const Queue<Index>& queue, Place place = Place()) noexcept {
    Reader reader;
    if (E* it = at(queue, place)) { reader = {it, chunk_end(queue, place.chunk), place.chunk}; }
    return reader;
  }
  // Null at the end.
  E* next(const Queue<Index>& queue, Reader& reader) noexcept {
    if (reader.next == reader.end) {
      if (reader.chunk == none<Index> || reader.chunk == queue.last) { return nullptr; }
      reader.chunk = pool_->next(reader.chunk);
      reader.next = slot(reader.chunk, 0);
      reader.end = chunk_end(queue, reader.chunk);
    }
    return reader.next++;
  }
  // Calls f(entry) from the front to the back; f may not push or pop.
  template <typename F>
  void for_each(const Queue<Index>& queue, F f) noexcept {
    for (Reader reader = from(queue); E* entry = next(queue, reader);) { f(*entry); }
  }
  E* find(const Queue<Index>& queue, uint16_t packet_id) noexcept {
    for (Place place; E* entry = at(queue, place); place.step()) {
      if (entry->packet_id == packet_id) { return entry; }
    }
    return nullptr;
  }
  E* back(const Queue<Index>& queue) noexcept {
    return slot(queue.last, static_cast<uint16_t>(queue.last_at - 1));
  }
  // Whether the next push() takes a block.
  bool push_takes_block(const Queue<Index>& queue) const noexcept {
    return queue.empty() || queue.last_at == per_chunk_;
  }
  E* front(const Queue<Index>& queue) noexcept {
    return queue.empty() ? nullptr : slot(queue.first, queue.first_at);
  }
  // Drops the first entry. A place in a block that goes away becomes that of the first entry.
  void pop(Queue<Index>& queue, Place* place = nullptr) noexcept {
    ++queue.first_at;
    const bool emptied = queue.first == queue.last && queue.first_at == queue.last_at;
    if (!emptied && queue.first_at != per_chunk_) { return; }
    const Index gone = queue.first;
    if (place != nullptr && place->chunk == gone) { *place = Place(); }
    queue.first = pool_->next(gone);
    queue.first_at = 0;
    pool_->release(gone);
    if (emptied) { queue = Queue<Index>(); }
  }
  // Whether the place is that of the queue's first entry.
  static bool at_front(const Queue<Index>& queue, const Place& place) noexcept {
    return place.chunk == none<Index> || (place.chunk == queue.first && place.at <= queue.first_at);
  }

 private:
  E* slot(Index chunk, uint16_t at) noexcept { return &pool_->template as<E>(chunk) + at; }
  E* chunk_end(const Queue<Index>& queue, Index chunk) noexcept {
    return slot(chunk, chunk == queue.last ? queue.last_at : per_chunk_);
  }
  BlockPool<Index>* pool_ = nullptr;
  uint16_t per_chunk_ = 0;
};

// Deadlines of numbered things, soonest first: a binary heap whose arrays are touched as far as
// it grows.
template <typename Index>
class Timers {
 public:
  void start(Index* heap, Index* places, Tick* ticks) noexcept {
    heap_ = heap;
    places_ = places;
    ticks_ = ticks;
    count_ = 0;
  }
  // An item that is used for the first time must be told so: its memory is untouched.
  void introduce(uint32_t item) noexcept { places_[item] = none<Index>; }
  Tick soonest() const noexcept { return count_ == 0 ? never : ticks_[heap_[0]]; }
  uint32_t first() const noexcept { return heap_[0]; }
  Tick tick(uint32_t of) const noexcept { return places_[of] == none<Index> ? never : ticks_[of]; }
  void set(uint32_t item, Tick tick) noexcept {
    if (tick == never) { return cancel(item); }
    if (places_[item] == none<Index>) { put(count_++, static_cast<Index>(item)); }
    ticks_[item] = tick;
    settle(places_[item]);
  }
  void set_sooner(uint32_t item, Tick tick) noexcept {
    if (tick < this->tick(item)) { set(item, tick); }
  }
  void cancel(uint32_t item) noexcept {
    const Index place = places_[item];
    if (place == none<Index>) { return; }
    places_[item] = none<Index>;
    const Index last = heap_[--count_];
    if (last != item) {
      put(place, last);
      settle(place);
    }
  }

 private:
  void put(uint32_t place, Index item) noexcept {
    heap_[place] = item;
    places_[item] = static_cast<Index>(place);
  }
  // Moves the item at `place` up or down to where it belongs.
  void settle(uint32_t place) noexcept {
    const Index item = heap_[place];
    while (place != 0 && ticks_[heap_[(place - 1) / 2]] > ticks_[item]) {
      put(place, heap_[(place - 1) / 2]);
      place = (place - 1) / 2;
    }
    for (uint32_t child = 2 * place + 1; child < count_; child = 2 * place + 1) {
      if (child + 1 < count_ && ticks_[heap_[child + 1]] < ticks_[heap_[child]]) { child += 1; }
      if (ticks_[heap_[child]] >= ticks_[item]) { break; }
      put(place, heap_[child]);
      place = child;
    }
    put(place, item);
  }
  Index* heap_ = nullptr;
  Index* places_ = nullptr;
  Tick* ticks_ = nullptr;
  uint32_t count_ = 0;
};

// >> 13. broker index — filters, shared groups, retained messages

inline uint32_t level_end(Text text, uint32_t at) noexcept {
  while (at < text.size() && text[at] != '/') { ++at; }
  return at;
}

constexpr uint32_t level_count(Text text) noexcept {
  uint32_t count = 1;
  for (const char c : text) { count += c == '/' ? 1U : 0U; }
  return count;
}

inline bool has_wildcards(Text filter) noexcept {
  for (const char c : filter) {
    if (c == '+' || c == '#') { return true; }
  }
  return false;
}
inline bool is_level(Text level, char c) noexcept { return level.size() == 1 && level[0] == c; }

// What the nodes of both trees have. They hold no text: what hangs on a node is verified whole, so
// that a collision costs a comparison and never a wrong delivery.
template <typename Index>
struct LevelNode {
  Index next = none<Index>;  // in the directory
  Index parent = none<Index>;
  uint32_t hash = 0;   // of parent and level
  uint32_t level = 0;  // of the level
};

// A tree of topic levels, found by hash. `Tree` derives from it and says what else a node is part
// of: added(node), removing(node), and needed(node), without which it goes.
template <typename Tree, typename Node, typename Index>
class LevelTree {
 public:
  Table<Node, Index> nodes;
  Directory<Index> directory;
  uint32_t seed = 0;

  // The node of a path, none when there is none; with `make` what is missing is made, and none
  // tells that the table is full.
  Index at_path(Text path, bool make) noexcept {
    Index node = none<Index>;
    for (uint32_t at = 0; at <= path.size();) {
      const uint32_t end = level_end(path, at);
      const Hash level = hash_of(Text(path.data() + at, end - at));
      const Index following = child(node, level, make);
      if (following == none<Index>) {
        if (make) { prune(node); }
        return none<Index>;
      }
      node = following;
      at = end + 1;
    }
    return node;
  }
  // Removes nodes that nothing needs, from `node` upwards.
  void prune(Index node) noexcept {
    while (node != none<Index> && !tree().needed(nodes[node])) {
      const Index parent = nodes[node].parent;
      tree().removing(node);
      directory.remove(nodes, node);
      nodes.release(node);
      node = parent;
    }
  }

 protected:
  Hash hash_of(Text level) const noexcept { return hash_bytes(level.bytes(), seed); }
  Index child(Index parent, Hash level, bool make = false) noexcept {
    uint32_t hash = level.high ^ (static_cast<uint32_t>(parent) * 0x85EBCA6BU);
    hash ^= hash >> 15;
    Index node = directory.first(hash);
    while (node != none<Index> && (nodes[node].hash != hash || nodes[node].level != level.low ||
                                   nodes[node].parent != parent)) {
      node = nodes[node].next;
    }
    if (node != none<Index> || !make) { return node; }
    node = nodes.allocate();
    if (node == none<Index>) { return node; }
    nodes[node].parent = parent;
    nodes[node].hash = hash;
    nodes[node].level = level.low;
    directory.insert(nodes, node);
    tree().added(node);
    return node;
  }

 private:
  Tree& tree() noexcept { return static_cast<Tree&>(*this); }
};

// A level of filters with wildcards, or a whole filter without.
template <typename Index>
struct FilterNode : LevelNode<Index> {
  Index filters = none<Index>;  // list of those that end here
  Index children = 0;
};

template <typename Index>
struct Filter {
  Index next = none<Index>;  // at the same node
  Index node = none<Index>;
  Index text = none<Index>;   // with $share/ShareName/ when shared
  Index first = none<Index>;  // subscriptions
  Index last = none<Index>;
  uint16_t prefix_size = 0;  // of $share/ShareName/, 0 when not shared
  bool wild = false;
  constexpr bool shared() const noexcept { return prefix_size != 0; }
};

template <typename Index>
struct SubscriptionSlot {
  Index next = none<Index>;  // in the filter's list
  Index previous = none<Index>;
  Index next_of_session = none<Index>;
  Index previous_of_session = none<Index>;
  Index session = none<Index>;
  Index filter = none<Index>;
  uint32_t options = 0;  // the identifier, 0 for none, and above it the options as on the wire
  constexpr uint32_t identifier() const noexcept { return options & remaining_length_max; }
  constexpr uint8_t qos() const noexcept { return (options >> 28) & 3; }
  constexpr bool no_local() const noexcept { return (options & 0x40000000) != 0; }
  constexpr bool retain_as_published() const noexcept { return (options & 0x80000000) != 0; }
};

// A node still to be visited by a walk, and the topic's level below it.
template <typename Index>
struct WalkStep {
  Index node;
  Index level;
};

// Finds the filters that match a topic: exact ones by the hash of the whole topic, wildcards by a
// walk over levels. Memory follows use; the walk is bounded by the number of levels. Without
// `tree`, for a few filters, all of them are looked at and there are no nodes.
template <typename Index, bool tree = true>
class FilterIndex : public LevelTree<FilterIndex<Index, tree>, FilterNode<Index>, Index> {
 public:
  using Base = LevelTree<FilterIndex<Index, tree>, FilterNode<Index>, Index>;
  using Base::nodes;
  Table<Filter<Index>, Index> filters;
  Texts<Index>* texts = nullptr;
  uint8_t* scratch = nullptr;        // holds any filter
  Hash* hashes = nullptr;            // levels of them
  WalkStep<Index>* stack = nullptr;  // levels + 2 of them
  uint32_t levels_max = 0;
  uint32_t wildcard_filters = 0;
  uint32_t version = 0;  // changes whenever a match may give another result

  // The filter with this text, none when there is none. `text` includes $share/ShareName/.
  Index find(Text text) noexcept {
    if constexpr (tree) {
      const Index node = node_of(split_shared(text).filter, false);
      Index filter = node == none<Index> ? node : nodes[node].filters;
      while (filter != none<Index> && !texts->equal(filters[filter].text, text)) {
        filter = filters[filter].next;
      }
      return filter;
    }
    for (Index i = 0; i < filters.used(); ++i) {
      if (filters[i].text != none<Index> && texts->equal(filters[i].text, text)) { return i; }
    }
    return none<Index>;
  }
  // none when a table is full; nothing has changed then.
  Index insert(Text text) noexcept {
    const SharedFilter parts = split_shared(text);
    const Index filter = filters.allocate();
    if (filter == none<Index>) { return filter; }
    Filter<Index>& fresh = filters[filter];
    fresh.text = texts->store(text);
    if (tree && fresh.text != none<Index>) { fresh.node = node_of(parts.filter, true); }
    if (fresh.text == none<Index> || (tree && fresh.node == none<Index>)) {
      texts->release(fresh.text);
      filters.release(filter);
      return none<Index>;
    }
    fresh.prefix_size = static_cast<uint16_t>(text.size() - parts.filter.size());
    if constexpr (tree) {
      fresh.wild = has_wildcards(parts.filter);
      fresh.next = nodes[fresh.node].filters;
      nodes[fresh.node].filters = filter;
      wildcard_filters += fresh.wild ? 1U : 0U;
    }
    version += 1;
    return filter;
  }
  void remove(Index filter) noexcept {
    const Filter<Index> gone = filters[filter];
    texts->release(gone.text);
    if constexpr (tree) {
      unlink(filters, &nodes[gone.node].filters, filter);
      wildcard_filters -= gone.wild ? 1U : 0U;
      this->prune(gone.node);
    }
    filters.release(filter);
    version += 1;
  }
  Text text(Index filter) const noexcept { return texts->view(filters[filter].text, scratch); }
  // Writes the filters that match to `found`, which holds as many as there are filters.
  uint32_t match(Text topic, Index* found) noexcept {
    uint32_t count = 0;
    if constexpr (tree) {
      collect(this->child(none<Index>, exact_hash(topic)), topic, found, count);
      if (wildcard_filters != 0) { walk(topic, found, count); }
    } else {
      for (Index i = 0; i < filters.used(); ++i) {
        if (filters[i].text != none<Index> && really_matches(i, topic)) { found[count++] = i; }
      }
    }
    return count;
  }
  void added(Index node) noexcept { count_child(node, 1); }
  void removing(Index node) noexcept { count_child(node, -1); }
  static bool needed(const FilterNode<Index>& node) noexcept {
    return node.filters != none<Index> || node.children != 0;
  }

 private:
  // Never that of a level.
  Hash exact_hash(Text whole) const noexcept {
    Hash hash = this->hash_of(whole);
    hash.low = ~hash.low;
    return hash;
  }
  Index node_of(Text filter, bool make) noexcept {
    return has_wildcards(filter) ? this->at_path(filter, make)
                                 : this->child(none<Index>, exact_hash(filter), make);
  }
  void count_child(Index node, int change) noexcept {
    const Index parent = nodes[node].parent;
    if (parent != none<Index>) { adjust(nodes[parent].children, change); }
  }
  // The filters at a node that really match: hashes may collide.
  void collect(Index node, Text topic, Index* found, uint32_t& count) const noexcept {
    if (node == none<Index>) { return; }
    for (Index i = nodes[node].filters; i != none<Index>; i = filters[i].next) {
      if (really_matches(i, topic)) { found[count++] = i; }
    }
  }
  bool really_matches(Index filter, Text topic) const noexcept {
    const Text whole = text(filter);
    const uint32_t prefix = filters[filter].prefix_size;
    return matches(Text(whole.data() + prefix, whole.size() - prefix), topic);
  }
  void walk(Text topic, Index* found, uint32_t& count) noexcept {
    uint32_t levels = 0;
    for (uint32_t at = 0; at <= topic.size() && levels < levels_max;) {
      const uint32_t end = level_end(topic, at);
      hashes[levels++] = this->hash_of(Text(topic.data() + at, end - at));
      at = end + 1;
    }
    const Hash plus = this->hash_of("+");
    const Hash hash = this->hash_of("#");
    const bool hidden = topic[0] == '$';  // root wildcards do not match [MQTT-4.7.2-1]
    stack[0] = {none<Index>, 0};
    uint32_t depth = 1;
    while (depth != 0) {
      depth -= 1;
      const Index node = stack[depth].node;
      const uint32_t at = stack[depth].level;
      const bool wild = !(hidden && at == 0);
      if (wild) { collect(this->child(node, hash), topic, found, count); }
      if (at == levels) {
        collect(node, topic, found, count);
        continue;
      }
      push(this->child(node, hashes[at]), at + 1, depth);
      if (wild) { push(this->child(node, plus), at + 1, depth); }
    }
  }
  void push(Index node, uint32_t level, uint32_t& depth) noexcept {
    if (node != none<Index>) {
      MQTT_ASSERT(depth < levels_max + 2);
      stack[depth] = {node, static_cast<Index>(level)};
      depth += 1;
    }
  }
};

template <typename Index>
struct RetainedNode : LevelNode<Index> {
  Index child = none<Index>;
  Index sibling = none<Index>;
  Index previous_sibling = none<Index>;
  Index message = none<Index>;
  uint16_t pins = 0;  // cursors that stand here
};

// Where a wildcard delivery of retained messages stands.
template <typename Index>
struct RetainedCursor {
  Index node = none<Index>;  // none: not begun, or done
  uint16_t depth = 0;        // levels above the node
};

// Retained messages by topic; what is found is verified against the message's own topic by the
// caller. Without `tree`, for a few messages, the nodes are just a list of them.
template <typename Index, bool tree = true>
class RetainedIndex : public LevelTree<RetainedIndex<Index, tree>, RetainedNode<Index>, Index> {
 public:
  using Base = LevelTree<RetainedIndex<Index, tree>, RetainedNode<Index>, Index>;
  using Base::nodes;
  using Cursor = RetainedCursor<Index>;
  Index root_child = none<Index>;

  // Moves to the next node whose path may match the filter and that ends a match, in depth-first
  // order; false at the end. The cursor keeps a pin on its node.
  bool advance(Text filter, Cursor& cursor) noexcept {
    if constexpr (tree) {
      uint32_t depth = cursor.depth;
      Index node = cursor.node == none<Index> ? first_at(none<Index>, filter, 0)
                                              : step(filter, cursor.node, depth);
      while (node != none<Index> && !ends_match(filter, node, depth)) {
        node = step(filter, node, depth);
      }
      move(cursor, node, depth);
    } else {
      do {
        ++cursor.node;  // none + 1 is the first
      } while (cursor.node < nodes.used() && nodes[cursor.node].message == none<Index>);
      if (cursor.node == nodes.used()) { cursor.node = none<Index>; }
    }
    return cursor.node != none<Index>;
  }
  void stop(Cursor& cursor) noexcept {
    if constexpr (tree) { move(cursor, none<Index>, 0); }
    cursor.node = none<Index>;
  }
  void clear(Index node) noexcept { tree ? this->prune(node) : nodes.release(node); }
  void added(Index node) noexcept {
    Index& head = first_child(nodes[node].parent);
    nodes[node].sibling = head;
    if (head != none<Index>) { nodes[head].previous_sibling = node; }
    head = node;
  }
  void removing(Index node) noexcept {
    const RetainedNode<Index>& gone = nodes[node];
    (gone.previous_sibling != none<Index> ? nodes[gone.previous_sibling].sibling
                                          : first_child(gone.parent)) = gone.sibling;
    if (gone.sibling != none<Index>) {
      nodes[gone.sibling].previous_sibling = gone.previous_sibling;
    }
  }
  static bool needed(const RetainedNode<Index>& node) noexcept {
    return node.message != none<Index> || node.child != none<Index> || node.pins != 0;
  }

 private:
  Index& first_child(Index of) noexcept { return of == none<Index> ? root_child : nodes[of].child; }
  // The filter's level at a depth, behind a '#' always that; false when the filter ends before.
  static bool level_at(Text filter, uint32_t depth, Text& level) noexcept {
    for (uint32_t at = 0; at <= filter.size(); depth -= 1) {
      const uint32_t end = level_end(filter, at);
      level = Text(filter.data() + at, end - at);
      if (depth == 0 || is_level(level, '#')) { return true; }
      at = end + 1;
    }
    return false;
  }
  static bool is_wild(Text level) noexcept { return is_level(level, '+') || is_level(level, '#'); }
  // The first child of `parent` that the filter's level at `depth` admits.
  Index first_at(Index parent, Text filter, uint32_t depth) noexcept {
    Text level;
    if (!level_at(filter, depth, level)) { return none<Index>; }
    return is_wild(level) ? first_child(parent) : this->child(parent, this->hash_of(level));
  }
  Index step(Text filter, Index node, uint32_t& depth) noexcept {
    const Index below = first_at(node, filter, depth + 1);
    if (below != none<Index>) {
      depth += 1;
      return below;
    }
    while (node != none<Index>) {
      Text level;
      level_at(filter, depth, level);
      if (is_wild(level) && nodes[node].sibling != none<Index>) { return nodes[node].sibling; }
      node = nodes[node].parent;
      depth -= node == none<Index> ? 0U : 1U;
    }
    return node;
  }
  bool ends_match(Text filter, Index node, uint32_t depth) const noexcept {
    Text level;
    return nodes[node].message != none<Index> &&
           (!level_at(filter, depth + 1, level) || is_level(level, '#'));
  }
  void move(Cursor& cursor, Index node, uint32_t depth) noexcept {
    if (node != none<Index>) { ++nodes[node].pins; }
    const Index left = cursor.node;
    cursor.node = node;
    cursor.depth = static_cast<uint16_t>(depth);
    if (left != none<Index>) {
      --nodes[left].pins;
      this->prune(left);
    }
  }
};
}  // namespace detail

// >> 14. broker engine — connections, sessions, routing, queues, wills, expiry, output

/// Names a connection for as long as it lasts; a slot used again has another generation.
struct ConnectionId {
  uint32_t slot = 0;
  uint32_t generation = 0;
  friend constexpr bool operator==(ConnectionId a, ConnectionId b) noexcept {
    return a.slot == b.slot && a.generation == b.generation;
  }
  friend constexpr bool operator!=(ConnectionId a, ConnectionId b) noexcept { return !(a == b); }
};

/// What is compiled. Derive from it and hide members with `false` to leave things out; a packet
/// that asks for what is left out is answered as the specification says.
struct AllFeatures {
  static constexpr bool v3_1 = true;
  static constexpr bool v3_1_1 = true;
  static constexpr bool v5 = true;
  static constexpr bool qos_2 = true;
  static constexpr bool retained = true;
  static constexpr bool wills = true;
  static constexpr bool shared_subscriptions = true;
  static constexpr bool topic_aliases = true;
};

/// A client as the policy sees it. Views live until the call returns.
struct ClientView {
  ConnectionId connection;  ///< generation 0: the session has no connection
  Text client_id;
  bool has_user_name = false;  ///< with Policy::keeps_user_names()
  Text user_name;
  uint8_t tag = 0;  ///< of ConnectAnswer
  Version version = Version::v5;
};

/// What a policy says to a CONNECT or AUTH. Strings are copied before the next call.
struct ConnectAnswer {
  ReasonCode reason = ReasonCode::success;  ///< continue_authentication: send AUTH and wait
  bool later = false;                       ///< answer_connect() will be called; overrides `reason`
  Text client_id;                           ///< not empty: stands for the client's own
  Text client_id_prefix;       ///< of an assigned id, at most 11 characters; empty: as limits
  bool has_user_name = false;  ///< kept with the session if Policy::keeps_user_names()
  Text user_name;
  uint8_t tag = 0;                      ///< kept with the session: a number of the policy's own
  Text topic_prefix;                    ///< put before topics of this client, hidden from it
  Text response_information;            ///< v5, when the client asked for it
  Text reason_string;                   ///< v5
  Text server_reference;                ///< v5, with use_another_server and server_moved
  Bytes authentication_data;            ///< v5, in AUTH or CONNACK
  Qos maximum_qos = Qos::exactly_once;  ///< these three: the limits' value if that is smaller
  uint16_t topic_alias_max = 65535;
  uint16_t topic_alias_broker_max = 65535;
};

/// What a policy says to a PUBLISH.
struct PublishAnswer {
  ReasonCode reason = ReasonCode::success;
  bool later = false;  ///< QoS > 0 only: answer_publish() will be called
};

/// Why a connection ended.
struct Disconnection {
  ReasonCode reason = ReasonCode::success;  ///< of the DISCONNECT sent or received
  Error error = Error::none;                ///< what a peer broke, or link_closed
  bool by_client = false;                   ///< a DISCONNECT arrived
};

/// The default policy: everybody may do everything; no enhanced authentication. Derive from it and
/// hide what is to be different.
struct AllowAll {
  /// False: on_publish(), on_deliver() are not called and cost nothing. May change at any time.
  static constexpr bool filters_publish() noexcept { return false; }
  static constexpr bool filters_delivery() noexcept { return false; }
  /// Constants. False: on_authenticate() is never called, ConnectAnswer::later and
  /// PublishAnswer::later do not count, ClientView has no user name, and none of it is compiled.
  static constexpr bool authenticates() noexcept { return false; }
  static constexpr bool answers_later() noexcept { return false; }
  static constexpr bool keeps_user_names() noexcept { return false; }
  void on_connect(ConnectionId, const Connect& connect, ConnectAnswer& answer) noexcept {
    if (connect.properties.has(PropertyId::authentication_method)) {
      answer.reason = ReasonCode::bad_authentication_method;  // [MQTT-4.12.0-1]
    }
  }
  void on_authenticate(const ClientView&, const Auth&, ConnectAnswer& answer) noexcept {
    answer.reason = ReasonCode::bad_authentication_method;
  }
  void on_publish(const ClientView&, const Publish&, PublishAnswer&) noexcept {}
  ReasonCode on_subscribe(const ClientView&, const Subscription&) noexcept {
    return ReasonCode::success;
  }
  void on_unsubscribe(const ClientView&, Text /*filter*/) noexcept {}
  /// The same answer for the same client and topic while a message is being routed.
  bool on_deliver(const ClientView&, Text /*topic*/) noexcept { return true; }
  void on_connected(const ClientView&, const Connect&) noexcept {}
  void on_disconnected(const ClientView&, const Disconnection&) noexcept {}
  void on_session_ended(const ClientView&) noexcept {}
};

/// One durable change. Which fields count depends on the type; views live until append() returns.
struct JournalRecord {
  enum class Type : uint8_t {
    session,       ///< session, text = client id, number = expiry interval, packet_id = last one
                   ///< used, bytes = user name, flags 1: there is one, message = tag
    detached,      ///< session, expires_at (wall clock, seconds), number = when its will is due
    session_end,   ///< session
    subscribe,     ///< session, text = filter, number = identifier, flags = options
    unsubscribe,   ///< session, text = filter
    message,       ///< message, text = topic, bytes = properties, number = payload size, flags,
                   ///< expires_at (0: never)
    payload,       ///< message, bytes: the next part of its payload
    message_end,   ///< message, number = bytes of all of it: nothing refers to it any more
    queue,         ///< session, message, number = identifier, flags: queued for the client
    send,          ///< session, message, packet_id: about to be sent under this id
    release,       ///< session, packet_id: PUBREC came, the message is gone
    done,          ///< session, message, packet_id: acknowledged, or dropped
    receive,       ///< session, message, packet_id: QoS 2 taken from the client
    deliver,       ///< session, packet_id: its PUBREL came
    retain,        ///< message: retained under its topic
    retain_clear,  ///< text = topic
    will,          ///< session, message, number = delay, expires_at = expiry interval
    will_clear     ///< session
  };
  Type type{};
  uint8_t flags = 0;
  uint16_t packet_id = 0;
  uint32_t session = 0;
  uint32_t number = 0;
  uint64_t message = 0;
  uint32_t expires_at = 0;
  Text text;
  Bytes bytes;
};

/// The default journal: nothing survives. Another one has `enabled = true`,
/// `uint64_t append(const JournalRecord&)`, which returns the record's sequence number (counting
/// up from 1), and `uint32_t wall_clock_s()`. What is written between two calls of end_turn() is
/// one unit: keep all of it or none, and call durable() for such ends only. The engine calls
/// append() in the order of changes; the owner calls BrokerEngine::durable() when a sequence number
/// is safe. Retained messages under $SYS/ are not written. While holds_back() says that no more can
/// be taken, a PUBLISH at QoS > 0 is refused with 0x97, or waits where 3.x cannot be told.
/// Without is_on() nothing is written, unless it was before. ports/journal restores an engine from
/// records and writes its state anew.
struct NoJournal {
  static constexpr bool enabled = false;
  static constexpr bool is_on() noexcept { return false; }
  static constexpr bool holds_back() noexcept { return false; }
  uint64_t append(const JournalRecord&) noexcept { return 0; }
  uint32_t wall_clock_s() noexcept { return 0; }
};

// In ports/journal/state.hpp, which a broker with a Journal includes.
template <typename Engine>
class BrokerRecords;
template <typename Engine>
class BrokerRestore;
template <typename Engine>
class BrokerSnapshot;

/// Types of a broker. Derive and hide to change one.
struct BrokerConfig {
  using Index = uint32_t;  ///< or uint16_t: halves the tables, at most 32,767 of anything
  using Features = AllFeatures;
  using Policy = AllowAll;
  using Journal = NoJournal;
  /// Limits known at compile time, which start() must then be given too: code for what they rule
  /// out is not compiled. Broker<> sets it.
  static constexpr const BrokerLimits* fixed_limits = nullptr;
};

/// Counters since start; they wrap.
struct BrokerStatistics {
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;
  uint64_t packets_received = 0;
  uint64_t packets_sent = 0;
  uint64_t publish_received = 0;
  uint64_t publish_sent = 0;
  uint64_t publish_dropped = 0;         ///< a queue or the store was full, or the packet too large
  uint64_t publish_bytes_received = 0;  ///< payloads
  uint64_t publish_bytes_sent = 0;
  uint64_t messages_expired = 0;
  uint64_t stored_bytes = 0;  ///< payloads in blocks now
  uint32_t connections = 0;   ///< now
  uint32_t connections_total = 0;
  uint32_t connects_received = 0;  ///< CONNECT packets
  uint32_t sessions = 0;           ///< now, with and without a link
  uint32_t sessions_expired = 0;
  uint32_t subscriptions = 0;         ///< now
  uint32_t shared_subscriptions = 0;  ///< now
  uint32_t retained = 0;              ///< now
  uint32_t stored = 0;                ///< messages in blocks now
  uint32_t blocks = 0;                ///< small blocks in use
  uint32_t large_blocks = 0;
  uint32_t text_blocks = 0;
  uint32_t filter_nodes = 0;
  uint32_t retained_nodes = 0;
};

namespace detail {
// How a message is handled.
struct MessageTraits {
  uint32_t expiry_s = 0;
  bool has_expiry = false;
  bool retain = false;
  Qos qos = Qos::at_most_once;
};
// A message as it lies in memory: its topic with the client's prefix, properties without expiry,
// alias, delay and subscription ids.
struct Message : MessageTraits {
  Text topic;
  Bytes properties;
  Bytes payload;
};

// The number of a message in the journal, 0: not there.
template <bool enabled>
struct MessageNumber {
  static constexpr uint64_t number() noexcept { return 0; }
  void set_number(uint64_t) noexcept {}
};
template <>
struct MessageNumber<true> {
  uint32_t segment = 0;  // of the journal, in which it was written last
  uint32_t low = 0;
  uint32_t high = 0;
  uint64_t number() const noexcept { return (uint64_t{high} << 32) | low; }
  void set_number(uint64_t value) noexcept {
    low = static_cast<uint32_t>(value);
    high = static_cast<uint32_t>(value >> 32);
  }
};

// Collects what one writev() sends.
struct Gather {
  Buffer scratch;
  Span<Bytes> pieces;
  uint32_t used = 0;     // of scratch
  uint32_t count = 0;    // of pieces
  uint32_t size = 0;     // bytes in all
  Bytes span = Bytes();  // of the arena, not yet a piece

  static constexpr uint32_t by_reference = 512;
  static constexpr uint32_t spare_pieces = 3;
  bool has_room(uint32_t bytes) const noexcept {
    return scratch.size() - used >= bytes && pieces.size() - count > spare_pieces;
  }
  void add(Bytes bytes) noexcept {
    if (bytes.empty()) { return; }
    size += bytes.size();
    if (count == 0 || !join(pieces[count - 1], bytes)) { pieces[count++] = bytes; }
  }
  // Makes `last` longer by what lies behind it; false when `next` does not.
  static bool join(Bytes& last, Bytes next) noexcept {
    const bool behind = last.end() == next.data();
    if (behind) { last = Bytes(last.data(), last.size() + next.size()); }
    return behind;
  }
  // A packet of the arena; neighbours become one span.
  void add_packet(Bytes packet) noexcept {
    if (!span.empty() && join(span, packet)) { return; }
    flush();
    span = packet;
  }
  void flush() noexcept {
    if (span.empty()) { return; }
    if (span.size() < by_reference && scratch.size() - used >= span.size()) {
      memcpy(target(), span.data(), span.size());
      add_scratch(span.size());
    } else {
      add(span);
    }
    span = Bytes();
  }
  uint8_t* target() const noexcept { return scratch.data() + used; }
  void add_scratch(uint32_t bytes) noexcept {
    add(Bytes(target(), bytes));
    used += bytes;
  }
};

// Limits, kept unless they are known at compile time.
template <typename Config, bool kept = Config::fixed_limits == nullptr>
struct Limits {
  BrokerLimits value;
  const BrokerLimits& get() const noexcept { return value; }
  void set(const BrokerLimits& limits) noexcept { value = limits; }
};
template <typename Config>
struct Limits<Config, false> {
  static const BrokerLimits& get() noexcept { return *Config::fixed_limits; }
  static void set(const BrokerLimits&) noexcept {}
};
}  // namespace detail

/// The memory of an engine: broker_bytes(limits) bytes, aligned to 16, which need not be zero.
struct BrokerMemory {
  uint8_t* data = nullptr;
  uint64_t size = 0;
};

/// The broker: all protocol logic, no I/O. One thread; no call blocks, allocates or calls back into
/// the engine (a policy must not either). A turn of its owner:
///
///     admit() for new connections; receive() what was read; writable(), lost()
///     tick(now)
///     while (next_due(id)) { fill(id, …); send the pieces; sent(id, taken); }
///     end_turn(now)
///
/// Set-up: start, change_limits. Inputs: admit, receive, rx_space, rx_commit, writable, lost, tick,
/// stop, answer_connect, answer_publish, durable, publish, disconnect. Outputs: next_due, fill,
/// sent, end_turn, deadline, wants_read, has_output. Bytes given to receive() must stay valid and
/// writable until end_turn(); the pieces of fill() are valid until sent().
template <typename Config = BrokerConfig>
class BrokerEngine {
 public:
  using Index = typename Config::Index;
  using Features = typename Config::Features;
  using Policy = typename Config::Policy;
  using Journal = typename Config::Journal;

  /// What fill() gives: the pieces used, their bytes in all, and whether to close the connection
  /// once the transport has taken them all; after a short write it waits for writable() as ever.
  struct Output {
    uint32_t count = 0;
    uint32_t size = 0;
    bool hang_up = false;
  };

  BrokerEngine(Policy& policy, Journal& journal) noexcept : policy_(&policy), journal_(&journal) {}

  /// `seed`: any random number; guards the hash tables. Errors: buffer_too_small, invalid_limits.
  Error start(const BrokerLimits& limits, BrokerMemory memory, uint32_t seed, Millis now) noexcept {
    if (!limits_fit(limits)) { return Error::invalid_limits; }
    if (memory.size < memory_bytes(limits)) { return Error::buffer_too_small; }
    limits_.set(limits);
    random_ = seed | 1;
    last_ms_ = now;
    const BrokerLimits& kept = limits_.get();
    carve(kept, memory.data, this);
    index_.seed = retained_.seed = seed;
    // for answers: messages may not take the last blocks
    blocks_.little.keep(detail::smaller(kept.blocks / 4, kept.connections / 8 + 2));
    return Error::none;
  }

  /// Takes over all limits but those of BrokerSizes, for CONNECTs and packets from now on.
  [[gnu::cold]] void change_limits(const BrokerLimits& limits) noexcept {
    BrokerLimits changed = limits;
    static_cast<BrokerSizes&>(changed) = this->limits();
    limits_.set(changed);
  }

  // ---- inputs -------------------------------------------------------------------------------
  /// A connection was accepted. Error: buffer_too_small when all `connections` are taken: close it.
  Error admit(ConnectionId& id, Millis now) noexcept {
    advance(now);
    const Index slot = stopping_ ? none : links_.allocate();
    if (slot == none) { return Error::buffer_too_small; }
    timers_.introduce(slot);
    Link& link = links_[slot];
    link.version = Version::v3_1_1;
    link.generation = ++generation_;
    link.since = link.last_rx = now_;
    id = id_of(link);
    statistics_.connections += 1;
    statistics_.connections_total += 1;
    arm(link);
    return Error::none;
  }

  /// Bytes came in. All are taken: parsed in place, what is unfinished kept in blocks. Larger
  /// than can be kept only while wants_read() says no.
  void receive(ConnectionId id, Buffer bytes, Millis now) noexcept {
    Link* link = find(id, now);
    if (link == nullptr || bytes.empty()) { return; }
    statistics_.bytes_received += bytes.size();
    link->last_rx = now_;
    take_bytes(*link, bytes);
  }

  /// Where the rest of a large PUBLISH wants to be read to: the number of `pieces` set, 0 when
  /// there is none. What was read there is told by rx_commit() before receive().
  uint32_t rx_space(ConnectionId id, Span<Buffer> pieces) noexcept {
    Link* link = find(id);
    if (link == nullptr || !link->large || link->rx_missing == 0 || pieces.empty()) { return 0; }
    pieces[0] = blocks_.space(link->rx, link->rx_missing);
    return pieces[0].empty() ? 0 : 1;
  }
  void rx_commit(ConnectionId id, uint32_t size, Millis now) noexcept {
    Link* link = find(id, now);
    if (link == nullptr || size == 0) { return; }
    statistics_.bytes_received += size;
    link->last_rx = link->since = now_;
    blocks_.fill_space(link->rx, size);
    link->rx_missing -= size;
    if (link->rx_missing == 0) { finish_large(*link); }
  }
  /// False: do not read this connection now; it becomes due when that changes.
  bool wants_read(ConnectionId id) const noexcept {
    const Link* link = find(id);
    return link != nullptr && !waits(*link) && link->state != LinkState::closing;
  }
  /// The transport takes bytes again.
  void writable(ConnectionId id) noexcept {
    Link* link = find(id);
    if (link != nullptr && link->blocked) {
      link->blocked = false;
      mark_due(*link);
    }
  }
  /// The transport is gone, or has been closed after Output::hang_up.
  void lost(ConnectionId id, Millis now) noexcept {
    Link* link = find(id, now);
    if (link == nullptr) { return; }
    if (link->state != LinkState::closing) {
      end_link(*link, {ReasonCode::success, Error::link_closed}, false);
    }
    free_link(*link);
  }

  /// Lets time pass: keep-alive, expiry, wills, deadlines, paused publishers.
  void tick(Millis now) noexcept {
    advance(now);
    if (wake_) { wake_paused(); }
    while (detail::reached(now_, timers_.soonest())) {
      const uint32_t item = timers_.first();
      timers_.cancel(item);
      const uint32_t links = limits().connections;
      item < links ? on_link_timer(links_[static_cast<Index>(item)])
                   : on_session_timer(sessions_[static_cast<Index>(item - links)]);
    }
  }

  /// The server shuts down: 5.0 clients get DISCONNECT 0x8B, all connections become due with
  /// hang_up. Wills are not published. Nothing is admitted any more.
  [[gnu::cold]] void stop(Millis now) noexcept {
    advance(now);
    stopping_ = true;
    for (Index slot = 0; slot < links_.used(); ++slot) {
      Link& link = links_[slot];
      if (link.generation != 0 && link.state < LinkState::closing) {
        refuse_link(link, ReasonCode::server_shutting_down);
      }
    }
  }
  /// Ends a connection with a DISCONNECT of this code (5.0) and a close.
  void disconnect(ConnectionId id, ReasonCode reason, Millis now) noexcept {
    Link* link = find(id, now);
    if (link != nullptr && link->state < LinkState::closing) { refuse_link(*link, reason); }
  }
  /// The decision a policy put off by ConnectAnswer::later. False: call again after end_turn().
  bool answer_connect(ConnectionId id, const ConnectAnswer& answer, Millis now) noexcept {
    Link* link = find(id, now);
    if (link == nullptr || link->state != LinkState::deciding) { return true; }
    return decide_connect(*link, answer);
  }
  /// The decision a policy put off by PublishAnswer::later.
  void answer_publish(ConnectionId id, uint16_t packet_id, ReasonCode reason, Millis now) noexcept {
    Link* link = find(id, now);
    if (link == nullptr || link->state != LinkState::open) { return; }
    Entry* held = find_held(*link, packet_id);
    if (held != nullptr && held->order == undecided) { held->order = code(reason); }
    release_held(*link);
  }

  /// All journal records up to this sequence number are safe: what waits for them goes out. Also to
  /// be called when Journal::holds_back() ends.
  void durable([[maybe_unused]] uint64_t sequence) noexcept {
    if constexpr (Journal::enabled) {
      const uint64_t previous = durable_;
      durable_ = detail::larger(previous, sequence);
      if (durable_ != previous) { Records(*this).release_gated(previous); }
      wake_ = wake_ || paused_ != none;
    }
  }

  /// Publishes a message of the broker's own. Errors: invalid_topic, invalid_packet,
  /// buffer_too_small.
  Error publish(const Publish& packet, Millis now) noexcept {
    advance(now);
    if (!valid_topic(packet.topic)) { return Error::invalid_topic; }
    const uint32_t size = packet.properties.size();
    if (size > scratch_bytes(limits()) || too_deep(packet.topic)) { return Error::invalid_packet; }
    detail::copy(texts_scratch_, packet.properties.wire().data(), size);
    Incoming message;
    take_properties(Properties(Bytes(texts_scratch_, size)), message);
    message.topic = packet.topic;
    message.payload = packet.payload;
    message.qos = packet.qos;
    message.retain = packet.retain;
    // one that ends a retained message frees memory
    const bool frees = packet.retain && packet.payload.empty();
    message.handle = store(message, frees ? Claim::answer : Claim::ordinary);
    if (message.handle == none) { return Error::buffer_too_small; }
    const Route result = route(message);
    unreference(message.handle);
    return result == Route::full ? Error::buffer_too_small : Error::none;
  }

  // ---- outputs ------------------------------------------------------------------------------
  /// Takes a connection off the list of those with something to send, to close, or whose
  /// wants_read() has changed.
  bool next_due(ConnectionId& id) noexcept {
    while (due_first_ != none) {
      Link& link = links_[due_first_];
      due_first_ = link.next_due;
      link.due = false;
      if (link.state != LinkState::gone) {
        id = id_of(link);
        return true;
      }
    }
    return false;
  }

  /// What to send now. `scratch` holds at least control_packet_bytes_max + 16 bytes, `pieces` at
  /// least 8. Then sent() must be told how much was taken, if `size` is not 0.
  Output fill(ConnectionId id, Buffer scratch, Span<Bytes> pieces) noexcept {
    plan_ = Plan();
    Link* link = find(id);
    if (link == nullptr || link->force) { return {0, 0, link != nullptr}; }
    Gather gather{scratch, pieces};
    settle_aliases(*link, false);
    new_aliases_ = true;
    Walk walk = begin_walk(*link);
    Entry* entry = next_entry(walk);
    for (; entry != nullptr && emit(walk, *entry, gather); entry = next_entry(walk)) {
      walk.first = false;
      (walk.from_session ? plan_.messages : plan_.answers) += 1;
    }
    new_aliases_ = false;
    gather.flush();
    plan_.size = gather.size;
    const bool all = entry == nullptr;
    const Output output{gather.count, gather.size, all && link->state == LinkState::closing};
    if (output.size == 0) {
      commit(*link, 0);  // drops what needs no sending
      go_on_retained(*link);
    }
    return output;
  }
  /// The transport took `size` of the bytes of the last fill().
  void sent(ConnectionId id, uint32_t size) noexcept {
    Link* link = find(id);
    if (link == nullptr) { return; }
    MQTT_ASSERT(size <= plan_.size);
    statistics_.bytes_sent += size;
    if (size < plan_.size) { link->blocked = true; }
    commit(*link, size);
    wake_ = wake_ || (size != 0 && paused_ != none);  // there may be room now
    go_on_retained(*link);
  }
  /// Whether fill() would give bytes.
  bool has_output(ConnectionId id) noexcept {
    Link* link = find(id);
    if (link == nullptr || link->blocked) { return false; }
    Walk walk = begin_walk(*link);
    return next_entry(walk) != nullptr;
  }

  /// After the drain: what is still needed of the arena is stored; its bytes may be reused.
  void end_turn(Millis now) noexcept {
    advance(now);
    while (turn_ != none) {
      Link& link = links_[turn_];
      turn_ = link.next_turn;
      link.in_turn = false;
      if (link.state != LinkState::gone) { promote(link); }
    }
    for (Index i = 0; i < records_used_; ++i) {
      TurnRecord& record = records_[i];
      blocks_.give_back(record.reserved);
      if (record.stored != none) { unreference(record.stored); }
    }
    records_used_ = 0;
    assembly_used_ = 0;
    release_gone();
  }

  /// When tick() must be called at the latest; the largest number when nothing is due.
  Millis deadline() const noexcept {
    const Tick soonest = timers_.soonest();
    if (wake_) { return last_ms_; }
    if (soonest == detail::never) { return ~Millis{0}; }
    const uint32_t wait = soonest > now_ ? soonest - now_ : 0;
    return last_ms_ + Millis{wait} * tick_ms;
  }
  const BrokerLimits& limits() const noexcept { return limits_.get(); }
  /// Counters; those that say "now" are brought up to date.
  const BrokerStatistics& statistics() noexcept {
    statistics_.sessions = sessions_.count();
    statistics_.subscriptions = subscriptions_.count();
    statistics_.blocks = blocks_.little.taken();
    statistics_.large_blocks = blocks_.big.taken();
    statistics_.text_blocks = texts_.cells().taken();
    statistics_.filter_nodes = index_.nodes.count();
    statistics_.retained_nodes = retained_.nodes.count();
    return statistics_;
  }
  /// The client behind a connection; empty before CONNECT was accepted.
  ClientView client(ConnectionId id) noexcept {
    Link* link = find(id);
    return link == nullptr || link->session == none ? ClientView() : view(session_of(*link));
  }
  /// What packets that came in parts are put together in: large enough for the scratch of fill(),
  /// and free for it where limits.turn_records is 0.
  Buffer assembly() noexcept { return Buffer(assembly_, assembly_bytes(limits())); }

  /// Bytes of memory start() needs for these limits.
  static constexpr uint64_t memory_bytes(const BrokerLimits& limits) noexcept {
    return carve(limits, nullptr, nullptr);
  }

 private:
  friend class BrokerRecords<BrokerEngine>;
  friend class BrokerRestore<BrokerEngine>;
  friend class BrokerSnapshot<BrokerEngine>;

  using Place = detail::QueuePlace<Index>;
  using Entry = detail::Entry<Index>;
  using EntryKind = detail::EntryKind;
  using Queue = detail::Queue<Index>;
  using Reader = typename detail::Queues<Index>::Reader;
  using Chain = detail::Chain<Index>;
  using Cursor = detail::ChainCursor<Index>;
  using Filter = detail::Filter<Index>;
  using SubscriptionSlot = detail::SubscriptionSlot<Index>;
  using Message = detail::Message;
  using MessageTraits = detail::MessageTraits;
  using Gather = detail::Gather;
  using Claim = detail::Claim;
  using Tick = detail::Tick;

  static constexpr Index none = detail::none<Index>;
  static constexpr Index top_bit = detail::top_bit<Index>;
  static constexpr const BrokerLimits* fixed = Config::fixed_limits;
  static constexpr uint32_t tick_ms = 1000 / detail::ticks_per_second;
  static constexpr uint32_t inline_payload_max = 4096;  // larger ones go by reference
  static constexpr uint32_t large_publish_min = 2048;   // smaller ones are kept raw till whole
  static constexpr uint32_t retained_slice = 64;
  static constexpr Index undecided = 0x100;  // of a held PUBLISH, else its reason code

  // What fixed limits rule out.
  static constexpr bool has_turns = fixed == nullptr || fixed->turn_records != 0;
  static constexpr bool has_large_blocks = fixed == nullptr || fixed->large_blocks != 0;
  static constexpr bool has_large_packets =
      fixed == nullptr || fixed->packet_bytes_max > fixed->control_packet_bytes_max;
  static constexpr bool has_trees = fixed == nullptr || fixed->filters > 64 || fixed->retained > 64;
  static constexpr uint32_t memo_bytes = !has_trees ? 1 : sizeof(Index) == 2 ? 32 : 256;
  using Blocks = detail::Blocks<Index, has_large_blocks>;

  enum class LinkState : uint8_t {
    opening,         // CONNECT has not come
    deciding,        // the policy answers later
    authenticating,  // AUTH is awaited
    open,
    closing,  // what is queued goes out, then the port hangs up
    gone      // the port has reported the end; the slot is freed at the end of the turn
  };

  struct LinkFlags {
    LinkState state;
    Version version;
    bool due : 1;           // on the due list
    bool in_turn : 1;       // its queues refer to the arena
    bool blocked : 1;       // the transport took less than offered
    bool paused : 1;        // a PUBLISH waits for a full subscriber
    bool head_session : 1;  // the packet cut by a short write is the session's
    bool head_known : 1;    // its alias stands for its topic
    bool large : 1;         // `rx` is a message whose payload still comes
    bool discarding : 1;    // the rest of a PUBLISH is dropped
    bool force : 1;         // hang up whatever is still queued
    bool plain : 1;         // no prefix, no aliases: packets may go out as they came
    bool reauthenticating : 1;
    bool expiry_zero : 1;   // CONNECT's session expiry was 0
    bool gated : 1;         // on the list of links with held answers
    bool answers_held : 1;  // answers wait for the journal,
    bool sends_held : 1;    // QoS 2 messages too,
    bool connack_held : 1;  // and the CONNACK, which nothing may precede
  };

  struct Link : LinkFlags {
    Index next = none;  // free, gone or paused
    Index next_due = none;
    Index next_turn = none;
    Index session = none;
    Index extra = none;                      // block of an Extra
    Index order = 0;                         // of the next entry in either queue
    Queue queue;                             // answers and QoS 0
    Chain rx;                                // an unfinished packet, packets that wait, a message
    uint32_t generation = 0;                 // 0: the slot is free
    uint32_t rx_missing = 0;                 // payload bytes of a large PUBLISH still to come
    uint32_t head_offset = 0;                // bytes of the first packet already sent
    uint32_t head_expiry_s = 0;              // the expiry interval in it
    uint32_t packet_bytes_max = 0xFFFFFFFF;  // the client's maximum packet size
    Tick last_rx = 0;
    Tick since = 0;        // begin of the state, of the unfinished packet, of a pause
    uint16_t waiting = 0;  // QoS 0 messages in blocks
    uint16_t keep_alive_s = 0;
    uint16_t send_limit = 0;    // QoS > 0 under way to the client
    uint16_t received = 0;      // QoS > 0 under way from the client
    uint16_t alias_in_max = 0;  // aliases the client may set
    uint16_t alias_max = 0;     // aliases we may set
    uint16_t head_alias = 0;    // the alias in the cut packet
    Qos maximum_qos = Qos::exactly_once;

    Link() noexcept : LinkFlags() {}
  };

  // What few links need, in a block of its own.
  struct Extra {
    Index prefix = none;       // text
    Index method = none;       // text
    Index aliases_in = none;   // blocks of text handles
    Index aliases_out = none;  // a block of OutAlias
    Index connect = none;      // blocks of the CONNECT while it is being decided
    uint32_t connect_size = 0;
    Index next_gated = none;
    Index waiting = none;                  // a large message that waits for a full subscriber
    Queue retained;                        // subscriptions whose retained messages are to be sent
    detail::RetainedCursor<Index> cursor;  // of the first of them
    Queue publishes;                       // the policy decides later, or behind one of them
    Queue answers;                         // wait for the journal
  };

  // A topic alias we have set or are about to set.
  struct OutAlias {
    uint32_t hash = 0;
    Index text = none;
    bool established = false;  // the packet that set it is out
    bool pending = false;      // a packet that sets it is in this fill()
  };

  struct SessionFlags {
    bool resumable : 1;    // survives its link
    bool routed_link : 1;  // the last route's entry is in the link's queue
    bool ids_met : 1;      // new ids have come round to those under way
    bool journaled : 1;    // the journal knows it
    bool attached : 1;     // while restoring: it had a link
  };
  struct Session : SessionFlags {
    Index next = none;  // in the directory of client ids
    Index id = none;    // text
    Index user = none;  // text
    Index link = none;
    Index subscriptions = none;  // list
    Index will = none;           // message
    Queue queue;                 // QoS > 0, and QoS 0 kept for a missing link
    Place send;                  // the next to send
    Queue received;              // QoS 2 messages from the client that PUBREL has not released
    uint32_t hash = 0;
    uint32_t queued = 0;          // not yet sent
    uint32_t queued_bytes = 0;    // their payloads, where limited
    uint32_t inflight_bytes = 0;  // payloads of those sent, where limited
    uint32_t expiry_interval_s = 0;
    uint32_t route = 0;  // the last message routed here
    Tick expires = detail::never;
    uint16_t inflight = 0;
    uint16_t packet_id = 0;  // the last one used
    uint8_t tag = 0;

    Session() noexcept : SessionFlags() {}
  };

  // A PUBLISH of this turn, as it lies in the arena.
  struct TurnRecord {
    Message message;
    Bytes packet;
    typename Blocks::Need reserved;  // held back for it
    Index stored = none;             // once it is in blocks
    bool with_properties = false;    // the packet has v5's form
    bool verbatim = false;           // the packet may go out as it came
    bool follows = false;            // and so may the one before it, behind which it lies
  };

  // In front of a message in blocks: topic, properties and payload follow.
  struct MessageHead : detail::MessageNumber<Journal::enabled>, detail::MessageTraits {
    uint32_t payload_size = 0;
    uint32_t properties_size = 0;
    Tick stored_at = 0;
    Index references = 1;
    uint16_t topic_size = 0;
    uint16_t packet_id = 0;  // of the PUBLISH, while its payload comes

    uint32_t body_size() const noexcept { return topic_size + properties_size + payload_size; }
  };

  // Where a PUBLISH to be sent takes its parts from.
  struct Source : MessageTraits {        // its expiry is what is left
    const TurnRecord* record = nullptr;  // in the arena, or
    Cursor cursor;                       // in blocks, at the topic
    uint32_t topic_size = 0;
    uint32_t properties_size = 0;
    uint32_t payload_size = 0;
    bool expired = false;
  };

  // A message on its way in, and what it will need.
  struct Incoming : Message {
    uint16_t packet_id = 0;
    Index publisher = none;  // session
    Index handle = none;     // top bit: turn record; else in blocks, one reference ours
    uint32_t queue_blocks = 0;
    bool surveyed = false;
    bool stored = false;    // it must be in blocks at once
    bool reserved = false;  // it may have to be
    bool full = false;      // an online subscriber that makes progress has no room
    bool owned = false;     // it cannot be refused: who has room gets it
    bool follows = false;   // it is plain QoS 0 and lies behind another in the arena
  };

  enum class Route : uint8_t { delivered, unmatched, full };

  // A packet cannot be finished: what to do with the rest of the bytes.
  enum class Step : uint8_t { proceed, pause, stop };

  // What one fill() gave.
  struct Plan {
    uint32_t answers = 0;   // whole packets from the link's queue
    uint32_t messages = 0;  // and from the session's
    uint32_t size = 0;
    bool partial = false;  // the last packet is not whole
  };

  // A reader of both queues of a connection, in the order of their entries.
  struct Walk {
    Link* link = nullptr;
    Session* session = nullptr;
    Reader answers;
    Reader messages;
    Entry* answer = nullptr;  // the next of each, once it has been looked at
    Entry* message = nullptr;
    uint32_t inflight = 0;
    uint32_t inflight_bytes = 0;
    bool more_messages = false;
    bool first = true;
    bool from_session = false;
  };

  // How a PUBLISH is written for one client.
  struct Shape {
    uint32_t topic_size = 0;
    uint32_t properties_size = 0;
    uint32_t remaining = 0;
    uint32_t head_size = 0;  // all but the payload
    uint16_t alias = 0;
    bool known = false;  // the client has the alias: no topic
    bool with_properties = false;
    uint32_t size() const noexcept { return 1 + variable_size(remaining) + remaining; }
  };

  static constexpr uint32_t extra_bytes = sizeof(Index) == 4 ? 80 : 64;
  static_assert(sizeof(Extra) <= extra_bytes - 4, "fits the smallest block");
  static_assert(sizeof(Index) != 4 || sizeof(Link) <= 104, "an idle connection is cheap");
  static_assert(sizeof(Index) != 4 || sizeof(Session) <= 96, "an idle session is cheap");
  static_assert(sizeof(Entry) == (sizeof(Index) == 4 ? 16 : 12), "many of them");

  // What is compiled decides where it can, so that the rest is not there.
  static constexpr bool v5(Version version) noexcept {
    constexpr bool others = Features::v3_1 || Features::v3_1_1;
    return Features::v5 && (!others || detail::has_properties(version));
  }
  static constexpr Version known(Version version) noexcept {
    const bool itself = Features::v5 || (Features::v3_1 && version == Version::v3_1);
    return v5(version) ? Version::v5 : itself ? version : Version::v3_1_1;
  }

  // ---- memory and time ----------------------------------------------------------------------
  [[gnu::cold]] static bool limits_fit(const BrokerLimits& limits) noexcept {
    const uint64_t timers = uint64_t{limits.connections} + limits.sessions;
    const uint64_t counts[] = {limits.subscriptions,  limits.filters,      limits.filter_nodes,
                               limits.retained_nodes, limits.blocks,       limits.large_blocks,
                               limits.text_blocks,    limits.turn_records, timers};
    for (const uint64_t count : counts) {
      if (count >= top_bit) { return false; }
    }
    const bool sizes = limits.block_bytes % 8 == 0 && limits.block_bytes >= extra_bytes &&
                       limits.block_bytes <= 2048 && limits.text_block_bytes % 8 == 0 &&
                       limits.text_block_bytes >= 16 && limits.text_block_bytes <= 2048 &&
                       limits.large_block_bytes % 8 == 0 && limits.large_block_bytes <= 65536 &&
                       (limits.large_blocks == 0 || limits.large_block_bytes >= 1024);
    return sizes && limits.connections != 0 && limits.sessions != 0 && limits.filters != 0 &&
           limits.filter_nodes != 0 && limits.topic_levels_max != 0 && limits.blocks >= 4 &&
           limits.control_packet_bytes_max >= 128 && limits.receive_maximum != 0 &&
           limits.inflight_max != 0;
  }
  static constexpr uint32_t scratch_bytes(const BrokerLimits& limits) noexcept {
    return detail::smaller(limits.control_packet_bytes_max, string_bytes_max);
  }
  // Holds the largest packet but PUBLISH, its fixed header included.
  static constexpr uint32_t assembly_bytes(const BrokerLimits& limits) noexcept {
    return limits.control_packet_bytes_max + 16;
  }

  // Gives every consumer its part of the memory and returns the size of all; without an engine it
  // only adds up.
  static constexpr uint64_t carve(const BrokerLimits& limits, uint8_t* memory,
                                  BrokerEngine* engine) noexcept {
    detail::Carver carver(memory);
    const uint64_t timers = uint64_t{limits.connections} + limits.sessions;
    const uint32_t filter_nodes = has_trees ? limits.filter_nodes : 0;
    const uint32_t retained_nodes = !Features::retained ? 0
                                    : has_trees         ? limits.retained_nodes
                                                        : limits.retained;
    const uint64_t levels = has_trees ? limits.topic_levels_max : 0;
    const uint64_t string_bytes = scratch_bytes(limits);
    Link* links = carver.take<Link>(limits.connections);
    Session* sessions = carver.take<Session>(limits.sessions);
    Index* clients = carver.take<Index>(limits.sessions);
    SubscriptionSlot* subscriptions = carver.take<SubscriptionSlot>(limits.subscriptions);
    Filter* filters = carver.take<Filter>(limits.filters);
    auto* nodes = carver.take<detail::FilterNode<Index>>(filter_nodes);
    Index* heads = carver.take<Index>(uint64_t{filter_nodes} + 1);
    Index* matches = carver.take<Index>(limits.filters);
    auto* hashes = carver.take<detail::Hash>(levels);
    auto* steps = carver.take<detail::WalkStep<Index>>(levels + 2);
    auto* topics = carver.take<detail::RetainedNode<Index>>(retained_nodes);
    Index* topic_heads = carver.take<Index>(uint64_t{retained_nodes} + 1);
    uint8_t* blocks = carver.take<uint8_t>(uint64_t{limits.blocks} * limits.block_bytes);
    uint8_t* large = carver.take<uint8_t>(uint64_t{limits.large_blocks} * limits.large_block_bytes);
    uint8_t* cells = carver.take<uint8_t>(uint64_t{limits.text_blocks} * limits.text_block_bytes);
    TurnRecord* records = carver.take<TurnRecord>(limits.turn_records);
    Index* timer_heap = carver.take<Index>(timers);
    Index* timer_places = carver.take<Index>(timers);
    Tick* timer_ticks = carver.take<Tick>(timers);
    uint8_t* texts = carver.take<uint8_t>(string_bytes * (Policy::keeps_user_names() ? 2 : 1));
    uint8_t* topic = carver.take<uint8_t>(string_bytes);
    uint8_t* assembly = carver.take<uint8_t>(assembly_bytes(limits));
    if (engine == nullptr) { return carver.size(); }
    BrokerEngine& it = *engine;
    it.links_.start(links, limits.connections);
    it.sessions_.start(sessions, limits.sessions);
    it.clients_.start(clients, limits.sessions);
    it.subscriptions_.start(subscriptions, limits.subscriptions);
    it.index_.filters.start(filters, limits.filters);
    it.index_.nodes.start(nodes, filter_nodes);
    it.index_.directory.start(heads, filter_nodes);
    it.index_.texts = &it.texts_;
    it.index_.scratch = texts;
    it.index_.hashes = hashes;
    it.index_.stack = steps;
    it.index_.levels_max = limits.topic_levels_max;
    it.retained_.nodes.start(topics, retained_nodes);
    it.retained_.directory.start(topic_heads, retained_nodes);
    it.blocks_.little.start(blocks, limits.blocks, limits.block_bytes);
    it.blocks_.big.start(large, limits.large_blocks, limits.large_block_bytes);
    it.texts_.cells().start(cells, limits.text_blocks, limits.text_block_bytes);
    it.queues_.start(it.blocks_.little);
    it.timers_.start(timer_heap, timer_places, timer_ticks);
    it.matches_ = matches;
    it.records_ = records;
    it.texts_scratch_ = texts;
    it.topic_scratch_ = topic;
    it.assembly_ = assembly;
    return carver.size();
  }

  void advance(Millis now) noexcept {
    while (now > last_ms_ && now - last_ms_ >= tick_ms) {
      const Millis part = detail::smaller(now - last_ms_, Millis{0x7FFFFFFF});
      const uint32_t ticks = static_cast<uint32_t>(part) / tick_ms;
      now_ += ticks;
      last_ms_ += Millis{ticks} * tick_ms;
    }
  }
  uint32_t random() noexcept {  // xorshift: for client ids only
    random_ ^= random_ << 13;
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    return random_;
  }
  uint32_t assembly_left() const noexcept { return assembly_bytes(limits()) - assembly_used_; }
  uint8_t* assemble(uint32_t size) noexcept {
    if (assembly_left() < size) { return nullptr; }
    uint8_t* memory = assembly_ + assembly_used_;
    assembly_used_ += size;
    return memory;
  }

  // ---- links --------------------------------------------------------------------------------
  ConnectionId id_of(const Link& of) const noexcept { return {links_.index_of(of), of.generation}; }
  Link* find(ConnectionId id) const noexcept {
    if (id.slot >= links_.used()) { return nullptr; }
    Link& link = links_[static_cast<Index>(id.slot)];
    const bool current = link.generation == id.generation && id.generation != 0;
    return current && link.state != LinkState::gone ? &link : nullptr;
  }
  Link* find(ConnectionId id, Millis now) noexcept {
    advance(now);
    return find(id);
  }
  Session& session_of(const Link& link) noexcept { return sessions_[link.session]; }
  bool online(const Session& session) const noexcept {
    return session.link != none && links_[session.link].state == LinkState::open;
  }
  template <typename T>
  T* in_block(Index block) const noexcept {
    return &blocks_.little.template as<T>(block);
  }
  template <typename T>
  uint32_t per_block() const noexcept {
    return blocks_.little.room() / static_cast<uint32_t>(sizeof(T));
  }
  // A new block of so many values; none when no block is left.
  template <typename T>
  Index block_of(const T& value, uint32_t count) noexcept {
    const Index block = blocks_.little.allocate(Claim::answer);
    for (uint32_t i = 0; block != none && i < count; ++i) { in_block<T>(block)[i] = value; }
    return block;
  }
  Extra* extra(const Link& link) const noexcept {
    return link.extra == none ? nullptr : in_block<Extra>(link.extra);
  }
  // Null when no block is left.
  Extra* need_extra(Link& link) noexcept {
    if (link.extra == none) { link.extra = block_of(Extra(), 1); }
    return extra(link);
  }
  void mark_due(Link& link) noexcept {
    if (!link.blocked) { push_due(link); }
  }
  void push_due(Link& link) noexcept {
    if (link.due) { return; }
    link.due = true;
    link.next_due = none;
    const Index slot = links_.index_of(link);
    (due_first_ == none ? due_first_ : links_[due_last_].next_due) = slot;
    due_last_ = slot;
  }
  [[gnu::cold]] void free_link(Link& link) noexcept {
    timers_.cancel(links_.index_of(link));
    forget_paused(link);
    release_extra(link);
    clear_queue(link.queue);
    link.waiting = 0;
    release_rx(link);
    link.state = LinkState::gone;
    link.next = gone_;
    gone_ = links_.index_of(link);
    statistics_.connections -= 1;
    if (!link.in_turn && !link.due) { release_gone(); }
  }
  // Frees the slots of links that no list holds any more.
  void release_gone() noexcept {
    for (Index* at = &gone_; *at != none;) {
      const Index slot = *at;
      const Link& link = links_[slot];
      if (link.in_turn || link.due) {
        at = &links_[slot].next;
      } else {
        *at = link.next;
        links_.release(slot);
      }
    }
  }
  void release_rx(Link& link) noexcept {
    if (has_large_packets && link.large) { forget_stored(head(link.rx.first)); }
    blocks_.clear(link.rx);
    link.large = link.discarding = false;
    link.rx_missing = 0;
  }
  [[gnu::cold]] void release_extra(Link& link) noexcept {
    Extra* more = extra(link);
    if (more == nullptr) { return; }
    texts_.release(more->prefix);
    texts_.release(more->method);
    release_aliases(*more);
    cancel_retained(link, none);
    clear_queue(more->publishes);
    clear_queue(more->answers);
    if (has_large_packets && more->waiting != none) { unreference(more->waiting); }
    blocks_.release_chain(more->connect);
    if constexpr (Journal::enabled) { Records(*this).forget_gated(link); }
    blocks_.little.release(link.extra);
    link.extra = none;
  }
  bool has_prefix(const Link& link) const noexcept {
    const Extra* more = extra(link);
    return more != nullptr && more->prefix != none;
  }
  uint32_t prefix_size(const Link& link) const noexcept {
    return link.plain || !has_prefix(link) ? 0 : texts_.size(extra(link)->prefix);
  }
  ClientView view(const Session& session) noexcept {
    ClientView client;
    client.client_id = texts_.view(session.id, texts_scratch_);
    client.tag = session.tag;
    if (Policy::keeps_user_names() && session.user != none) {
      client.has_user_name = true;
      client.user_name = texts_.view(session.user, texts_scratch_ + scratch_bytes(limits()));
    }
    if (session.link != none) {
      client.connection = id_of(links_[session.link]);
      client.version = links_[session.link].version;
    }
    return client;
  }
  void arm(Link& link) noexcept { timers_.set_sooner(links_.index_of(link), link_deadline(link)); }
  // When something about the link must be looked at.
  Tick link_deadline(const Link& link) noexcept {
    if (link.state == LinkState::closing) { return detail::after_seconds(link.since, 2); }
    if (link.state != LinkState::open) {
      return detail::after_seconds(link.since, limits().connect_timeout_s);
    }
    Tick soonest = detail::never;
    if (link.paused) {
      soonest = link.since + pause_ticks();
    } else if (link.keep_alive_s != 0) {  // one and a half times [MQTT-3.1.2-22] [MQTT-3.1.2-24]
      soonest = link.last_rx + link.keep_alive_s * (detail::ticks_per_second * 3 / 2) + 1;
    }
    if (!link.paused && (link.rx.size != 0 || link.large || link.discarding)) {
      const Tick due = detail::after_seconds(link.since, limits().packet_timeout_s);
      soonest = detail::smaller(soonest, due);
    }
    const Entry* held = first_held(link);
    return held == nullptr ? soonest : detail::smaller(soonest, held_until(*held));
  }
  Tick pause_ticks() const noexcept { return limits().pause_ms / tick_ms + 1; }
  [[gnu::cold]] void on_link_timer(Link& link) noexcept {
    const Tick deadline = link_deadline(link);
    if (!detail::reached(now_, deadline)) { return timers_.set(links_.index_of(link), deadline); }
    if (link.state == LinkState::closing) { return give_up(link); }
    if (link.paused && detail::reached(now_, link.since + pause_ticks())) {
      return retry_paused(link);
    }
    if (expire_held(link)) { return; }
    if (link.state == LinkState::deciding) {
      refuse_connect(link, ReasonCode::implementation_specific_error);
    }
    const bool was_open = link.state == LinkState::open;
    end_link(link, {was_open ? ReasonCode::keep_alive_timeout : ReasonCode::maximum_connect_time},
             was_open);
  }

  // ---- messages in blocks -------------------------------------------------------------------
  MessageHead& head(Index message) const noexcept {
    return *reinterpret_cast<MessageHead*>(blocks_.little.data(message));
  }
  static Cursor body(Index message) noexcept { return {message, sizeof(MessageHead)}; }
  // Begins a message: head, topic, properties and what is there of the payload. One reference is
  // the caller's. An empty chain: no block is left.
  Chain begin_message(const Message& message, uint32_t payload_size, Claim claim) noexcept {
    Chain chain;
    chain.first = chain.last = blocks_.little.allocate(claim);
    if (chain.first == none) { return chain; }
    chain.room = static_cast<uint16_t>(blocks_.little.room() - sizeof(MessageHead));
    const Bytes properties = message.properties;
    MessageHead& fresh = head(chain.first);
    fresh = MessageHead();
    static_cast<MessageTraits&>(fresh) = message;
    fresh.payload_size = payload_size;
    fresh.properties_size = properties.size();
    fresh.topic_size = static_cast<uint16_t>(message.topic.size());
    fresh.stored_at = now_;
    if (!blocks_.append(chain, message.topic.bytes(), claim, properties.size() + payload_size) ||
        !blocks_.append(chain, properties, claim, payload_size) ||
        !blocks_.append(chain, message.payload, claim, payload_size - message.payload.size())) {
      blocks_.clear(chain);
    } else {
      statistics_.stored += 1;
      statistics_.stored_bytes += payload_size;
    }
    return chain;
  }
  Index store(const Message& message, Claim claim) noexcept {
    return begin_message(message, message.payload.size(), claim).first;
  }
  void reference(Index message) noexcept { ++head(message).references; }
  void unreference(Index message) noexcept {
    MessageHead& it = head(message);
    MQTT_ASSERT(it.references != 0);
    --it.references;
    if (it.references == 0) {
      journal([&it](auto records) { records.message_end(it); });
      forget_stored(it);
      blocks_.release_chain(message);
    }
  }
  void forget_stored(const MessageHead& it) noexcept {
    statistics_.stored -= 1;
    statistics_.stored_bytes -= it.payload_size;
  }
  // The topic of a stored message, in topic_scratch_ when it does not lie in one piece.
  Text stored_topic(Index message) const noexcept {
    return Text(blocks_.view(body(message), head(message).topic_size, topic_scratch_));
  }
  // `topic` may lie in topic_scratch_.
  bool has_topic(Index message, Text topic) const noexcept {
    return head(message).topic_size == topic.size() && blocks_.equal(body(message), topic.bytes());
  }
  Text topic_of(Index handle) const noexcept {
    return in_arena(handle) ? record_of(handle).message.topic : stored_topic(handle);
  }
  [[gnu::noinline]] Incoming stored_message(Index handle, Index publisher = none) const noexcept {
    Incoming message;
    message.publisher = publisher;
    static_cast<MessageTraits&>(message) = head(handle);
    message.packet_id = head(handle).packet_id;
    message.handle = handle;
    message.topic = stored_topic(handle);
    return message;
  }
  TurnRecord& record_of(Index handle) const noexcept { return records_[handle - top_bit]; }
  static constexpr bool in_arena(Index handle) noexcept { return has_turns && handle >= top_bit; }
  static bool in_arena(const Entry& it) noexcept { return has_turns && it.kind == EntryKind::turn; }
  // The message's handle once it is in blocks; none when there are none.
  Index stored_handle(Index handle) noexcept {
    if (!in_arena(handle)) { return handle; }
    TurnRecord& record = record_of(handle);
    if (record.stored == none) {
      const bool reserved = record.reserved.little != 0;
      blocks_.give_back(record.reserved);
      record.stored = store(record.message, reserved ? Claim::promised : Claim::ordinary);
    }
    return record.stored;
  }
  uint32_t payload_size(const Entry& entry) const noexcept {
    return entry.kind == EntryKind::turn     ? record_of(entry.message).message.payload.size()
           : entry.kind == EntryKind::stored ? head(entry.message).payload_size
                                             : 0;
  }

  // ---- queues -------------------------------------------------------------------------------
  void release_entry(Entry& entry) noexcept {
    if (entry.many_ids) { blocks_.release_chain(static_cast<Index>(entry.number)); }
    if (entry.kind == EntryKind::stored) {
      unreference(entry.message);
    } else if (entry.kind == EntryKind::encoded) {
      blocks_.release_chain(entry.message);
    }
    entry.kind = EntryKind::skip;
    entry.message = none;
    entry.number = 0;
    entry.many_ids = entry.shared = false;
  }
  void clear_queue(Queue& queue) noexcept {
    while (!queue.empty()) {
      release_entry(*queues_.front(queue));
      queues_.pop(queue);
    }
  }
  // Queues an answer; without a block left the link is given up, so that nothing acknowledged is
  // lost for want of the acknowledgement.
  void push_answer(Link& link, Entry entry) noexcept {
    if constexpr (Journal::enabled) {
      if (Records(*this).hold_answer(link, entry)) { return; }
    }
    queue_answer(link, entry);
  }
  void queue_answer(Link& link, Entry& entry) noexcept {
    if (joins_run(link, entry)) { return; }
    entry.order = link.order++;
    if (queues_.push(link.queue, entry, Claim::answer) == nullptr) {
      release_entry(entry);
      give_up(link);
    }
    mark_due(link);
  }
  // Whether the acknowledgement has become part of the last entry, being for the next id.
  bool joins_run(Link& link, const Entry& entry) noexcept {
    if (link.queue.empty() || entry.kind < EntryKind::puback || entry.number != 0) { return false; }
    Entry& last = *queues_.back(link.queue);
    const uint32_t run = run_of(last);
    if (last.kind != entry.kind || entry.kind == EntryKind::pingresp || (last.number & 0xFF) != 0 ||
        run == ack_run_max || entry.packet_id != last.packet_id + run ||
        static_cast<Index>(last.order + 1) != link.order) {
      return false;
    }
    last.number += 0x100;
    last.order = link.order++;
    return true;
  }
  // Whether the packet of the arena has become part of the link's last entry, being the next one.
  bool joins_run(Link& link, const Incoming& message) noexcept {
    if (link.blocked || link.queue.empty() || !link.plain) { return false; }
    Entry& last = *queues_.back(link.queue);
    const TurnRecord& record = record_of(message.handle);
    if (last.kind != EntryKind::turn || !last.is_plain() || last.packet_id == 65535 ||
        message.handle != static_cast<Index>(last.message + last.packet_id + 1) ||
        static_cast<Index>(last.order + 1) != link.order ||
        record.with_properties != v5(link.version) ||
        record.packet.size() > link.packet_bytes_max ||
        record_of(last.message).packet.size() > link.packet_bytes_max) {
      return false;
    }
    ++last.packet_id;
    last.order = link.order++;
    return true;
  }
  // How many packets an acknowledgement, or a PUBLISH of the arena at QoS 0, stands for.
  static uint32_t run_of(const Entry& entry) noexcept {
    return 1 + (in_arena(entry) ? (entry.qos == 0 ? entry.packet_id : 0) : entry.number >> 8);
  }
  Step push_ack(Link& link, EntryKind kind, uint16_t packet_id,
                ReasonCode reason = ReasonCode::success) noexcept {
    Entry entry(kind, none, v5(link.version) ? code(reason) : 0);
    entry.packet_id = packet_id;
    push_answer(link, entry);
    return Step::proceed;
  }
  template <typename Packet>
  [[gnu::cold]] void push_packet(Link& link, const Packet& packet) noexcept {
    const Buffer target(topic_scratch_, scratch_bytes(limits()));
    const Result<uint32_t> size = encode(known(link.version), packet, target);
    if (!size) { return; }
    if (detail::Same<Packet, Disconnect>::value && size.value > link.packet_bytes_max) { return; }
    Chain chain;
    const bool whole = blocks_.append(chain, target.first(size.value), Claim::answer);
    push_chain(link, chain, whole);
  }
  void push_chain(Link& link, Chain& chain, bool whole) noexcept {
    if (!whole || chain.size > link.packet_bytes_max) {  // [MQTT-3.1.2-24]
      blocks_.clear(chain);
      return give_up(link);
    }
    push_answer(link, Entry(EntryKind::encoded, chain.first, chain.size));
  }
  // An entry that refers to the arena must have gone out, or be stored, when the turn ends.
  void join_turn(Link& link) noexcept {
    if (!link.in_turn) {
      link.in_turn = true;
      link.next_turn = turn_;
      turn_ = links_.index_of(link);
    }
  }
  // Makes the entry refer to blocks instead of the arena; false when there are none.
  bool keep_message(Entry& entry) noexcept {
    entry.message = stored_handle(entry.message);
    entry.kind = entry.message != none ? EntryKind::stored : EntryKind::skip;
    return entry.message != none;
  }
  // Whether as many QoS 0 messages wait for the link as may.
  bool waits_enough(const Link& link) const noexcept {
    const uint32_t most = limits().queued_max;
    return link.waiting == 65535 || (most != 0 && link.waiting >= most);
  }
  static void stop_waiting(Link& link, const Entry& entry) noexcept {
    if (entry.kind == EntryKind::stored) { --link.waiting; }
  }
  // A message for the link's queue or its session's; false when no block is left.
  bool push_message(Queue& queue, Link* link, Entry& entry, Claim claim) noexcept {
    if (link != nullptr) { entry.order = link->order; }
    if (queues_.push(queue, entry, claim) == nullptr) { return false; }
    entry.kind == EntryKind::turn ? join_turn(*link) : reference(entry.message);
    if (link != nullptr) {
      ++link->order;
      mark_due(*link);
    }
    return true;
  }
  // A QoS 0 message for a link; false when dropped.
  bool push_to_link(Link& link, Entry entry) noexcept {
    const bool dropped = link.blocked && (waits_enough(link) || !keep_message(entry));
    if (dropped || !push_message(link.queue, &link, entry, Claim::ordinary)) { return false; }
    if (entry.kind == EntryKind::stored) { ++link.waiting; }
    return true;
  }
  // A message for a session's queue; false when no block is left.
  bool push_to_session(Session& session, Entry entry, Claim claim) noexcept {
    Link* link = session.link == none ? nullptr : &links_[session.link];
    const bool goes_now =
        link != nullptr && !link->blocked && session.inflight + session.queued < link->send_limit;
    if (entry.kind == EntryKind::turn && !goes_now && !keep_message(entry)) { return false; }
    if (!push_message(session.queue, link, entry, claim)) { return false; }
    session.queued += 1;
    if (limits().queued_bytes_max != 0) { session.queued_bytes += payload_size(entry); }
    return true;
  }
  // An entry of a session's queue does not wait to be sent any more.
  void unqueue(Session& session, const Entry& entry) noexcept {
    if (entry.sent) { return; }
    session.queued -= 1;
    if (limits().queued_bytes_max != 0) { session.queued_bytes -= payload_size(entry); }
  }
  // What could stay for long may not take the last blocks: others have to pass.
  bool scarce() const noexcept { return blocks_.little.available() < limits().blocks / 8; }
  // Puts into blocks what the link's queues still refer to in the arena. QoS 0 that does not fit,
  // or exceeds what one client may have waiting, is dropped; QoS > 0 has its blocks promised.
  void promote(Link& link) noexcept {
    if (has_turns && !link.queue.empty()) { split_runs(link); }
    const bool cut = link.head_offset != 0 && !link.head_session;
    queues_.for_each(link.queue, [&](Entry& entry) {
      if (entry.kind != EntryKind::turn) { return; }
      const bool first = cut && &entry == queues_.front(link.queue);
      const bool over = !first && (scarce() || waits_enough(link));
      if (!over && keep_message(entry)) {
        reference(entry.message);
        ++link.waiting;
        return;
      }
      entry.message = none;
      entry.kind = EntryKind::skip;
      statistics_.publish_dropped += 1;
      if (first) {  // half a packet is out and the rest is lost
        link.head_offset = 0;
        give_up(link);
      }
    });
    if (link.session == none) { return; }
    Session& session = session_of(link);
    for (Place place = session.send; Entry* entry = queues_.at(session.queue, place);
         place.step()) {
      if (entry->kind == EntryKind::turn) {
        const bool kept = keep_message(*entry);
        MQTT_ASSERT(kept);
        if (kept) { reference(entry->message); }
      }
    }
  }
  // Gives every packet of the arena an entry of its own; those that have gone out go.
  void split_runs(Link& link) noexcept {
    Queue apart;
    bool whole = true;
    const bool cut = link.head_offset != 0 && !link.head_session;
    for (bool first = cut; Entry* front = queues_.front(link.queue); first = false) {
      Entry entry = *front;
      queues_.pop(link.queue);
      uint32_t more = in_arena(entry) ? run_of(entry) - 1 : 0;
      if (more != 0) { entry.packet_id = 0; }
      for (; first && more != 0; --more) {
        const uint32_t size = record_of(entry.message).packet.size();
        if (link.head_offset < size) { break; }
        link.head_offset -= size;
        count_sent(entry);
        ++entry.message;
      }
      for (uint32_t i = 0; i <= more; ++i) {
        if (queues_.push(apart, entry, Claim::answer) == nullptr) {
          stop_waiting(link, entry);
          release_entry(entry);
          whole = false;
        }
        ++entry.message;
      }
    }
    link.queue = apart;
    if (!whole) { give_up(link); }
  }
  // Ends a link that cannot go on, without a word: the port hangs up.
  [[gnu::cold]] void give_up(Link& link) noexcept {
    link.force = true;
    push_due(link);
  }

  // ---- output -------------------------------------------------------------------------------
  Walk begin_walk(Link& link) noexcept {
    Walk walk;
    walk.link = &link;
    if (link.connack_held) { return walk; }
    walk.answers = queues_.from(link.queue);
    if (link.session != none && link.state == LinkState::open) {
      Session& session = session_of(link);
      walk.session = &session;
      walk.inflight = session.inflight;
      walk.inflight_bytes = session.inflight_bytes;
      walk.more_messages = !session.queue.empty();
      if (walk.more_messages) { walk.messages = queues_.from(session.queue, session.send); }
    }
    return walk;
  }
  static bool before(Index a, Index b) noexcept { return static_cast<Index>(a - b) >= top_bit; }
  // The entry to send next, in the order of both queues; a message that may not go yet holds up
  // its own queue only [MQTT-3.3.4-10] [MQTT-4.9.0-3].
  Entry* next_entry(Walk& walk) noexcept {
    Link& link = *walk.link;
    if (walk.answer == nullptr) { walk.answer = queues_.next(link.queue, walk.answers); }
    if (walk.message == nullptr && walk.more_messages) {
      walk.message = queues_.next(walk.session->queue, walk.messages);
      walk.more_messages = walk.message != nullptr && may_send(walk, *walk.message);
      if (!walk.more_messages) { walk.message = nullptr; }
    }
    walk.from_session = walk.message != nullptr &&
                        (walk.answer == nullptr || before(walk.message->order, walk.answer->order));
    if (walk.first && link.head_offset != 0) { walk.from_session = link.head_session; }
    Entry*& chosen = walk.from_session ? walk.message : walk.answer;
    Entry* entry = chosen;
    chosen = nullptr;
    if (walk.from_session && occupies(*entry)) {
      walk.inflight += 1;
      if (limits().inflight_bytes_max != 0) { walk.inflight_bytes += payload_size(*entry); }
    }
    return entry;
  }
  // Whether sending the entry uses the client's receive maximum.
  static bool occupies(const Entry& entry) noexcept { return entry.qos != 0 && !entry.settled(); }
  bool may_send(const Walk& walk, Entry& entry) noexcept {
    const Link& link = *walk.link;
    if (walk.first && link.head_offset != 0 && link.head_session) { return true; }
    if (!occupies(entry)) { return true; }
    const uint32_t most = limits().inflight_bytes_max;
    if (walk.inflight >= link.send_limit ||
        (most != 0 && walk.inflight != 0 && walk.inflight_bytes + payload_size(entry) > most)) {
      return false;  // [MQTT-3.3.4-9] [MQTT-4.9.0-2]
    }
    if constexpr (Journal::enabled) { return Records(*this).send_is_safe(walk, entry); }
    return true;
  }
  // Adds the entry's packet to the output; false when there is no room for it.
  bool emit(Walk& walk, Entry& entry, Gather& gather) noexcept {
    const uint32_t skip = walk.first ? walk.link->head_offset : 0;
    if (entry.is_message()) { return emit_publish(walk, entry, gather, skip); }
    if (entry.kind == EntryKind::encoded) { return emit_encoded(entry, gather, skip); }
    return ack_size(entry) == 0 || emit_ack(entry, gather, skip);
  }
  static constexpr uint32_t ack_run_max = 32;
  // Behind PUBREC, which acknowledged the PUBLISH, PUBREL must be repeated [MQTT-4.4.0-1].
  static uint32_t ack_size(const Entry& entry) noexcept {
    if (entry.kind == EntryKind::skip) { return entry.state() == SendState::pubcomp ? 4 : 0; }
    if (entry.kind == EntryKind::pingresp) { return 2; }
    return (entry.number & 0xFF) != 0 ? 5 : 4 * run_of(entry);
  }
  // An acknowledgement, several of them, or PINGRESP.
  static bool emit_ack(const Entry& entry, Gather& gather, uint32_t skip) noexcept {
    gather.flush();
    if (!gather.has_room(4 * ack_run_max)) { return false; }
    const PacketType type =
        entry.kind == EntryKind::skip ? PacketType::pubrel : static_cast<PacketType>(entry.kind);
    const uint32_t size = ack_size(entry);
    uint8_t* target = gather.target();
    for (uint32_t i = 0; i < run_of(entry); ++i, target += 4) {
      const uint32_t id = entry.packet_id + i;
      target[0] = detail::first_byte(type, type == PacketType::pubrel ? 2 : 0);
      target[1] = size == 5 ? 3 : size == 2 ? 0 : 2;
      target[2] = static_cast<uint8_t>(id >> 8);
      target[3] = static_cast<uint8_t>(id);
    }
    if (size == 5) { *target = static_cast<uint8_t>(entry.number); }
    gather.used += skip;
    gather.add_scratch(size - skip);
    return true;
  }
  bool emit_encoded(const Entry& entry, Gather& gather, uint32_t skip) noexcept {
    gather.flush();
    if (!gather.has_room(0)) { return false; }
    Cursor cursor{entry.message, 0};
    blocks_.skip(cursor, skip);
    return emit_rest(cursor, entry.number - skip, gather);
  }
  // Adds `size` bytes from blocks, large ones by reference; false when pieces run out before the
  // end: then the packet is partial.
  bool emit_rest(Cursor& cursor, uint32_t size, Gather& gather) noexcept {
    if (size < inline_payload_max && gather.scratch.size() - gather.used >= size) {
      blocks_.copy_out(cursor, gather.target(), size);
      gather.add_scratch(size);
      return true;
    }
    while (size != 0 && gather.count + 1 < gather.pieces.size()) {
      const Bytes piece = blocks_.next_bytes(cursor, size);
      gather.add(piece);
      size -= piece.size();
    }
    plan_.partial = size != 0;
    return size == 0;
  }
  Source source(const Entry& entry) noexcept {
    Source from;
    if (in_arena(entry)) {
      const TurnRecord& record = record_of(entry.message);
      static_cast<MessageTraits&>(from) = record.message;
      from.record = &record;
      from.topic_size = record.message.topic.size();
      from.properties_size = record.message.properties.size();
      from.payload_size = record.message.payload.size();
      return from;
    }
    const MessageHead& stored = head(entry.message);
    static_cast<MessageTraits&>(from) = stored;
    from.cursor = body(entry.message);
    from.topic_size = stored.topic_size;
    from.properties_size = stored.properties_size;
    from.payload_size = stored.payload_size;
    if (stored.has_expiry) {
      from.expiry_s = seconds_left(stored);
      from.expired = from.expiry_s == 0 && now_ != stored.stored_at;
    }
    return from;
  }
  uint32_t seconds_left(const MessageHead& stored) const noexcept {
    const uint32_t waited_s = (now_ - stored.stored_at) / detail::ticks_per_second;
    return stored.expiry_s - detail::smaller(waited_s, stored.expiry_s);
  }
  static uint8_t publish_flags(const Entry& entry) noexcept {
    const bool repeated = entry.qos != 0 && entry.sent;  // [MQTT-3.3.1-1] [MQTT-3.3.1-2]
    return static_cast<uint8_t>((repeated ? 8 : 0) | (entry.qos << 1) | (entry.retain ? 1 : 0));
  }
  bool emit_publish(Walk& walk, Entry& entry, Gather& gather, uint32_t skip) noexcept {
    Link& link = *walk.link;
    if (goes_as_it_came(link, entry) && (skip == 0 || entry.is_plain())) {
      return emit_verbatim(walk, entry, gather, skip);
    }
    Source from = source(entry);
    if (from.expired && !entry.sent && skip == 0) {  // [MQTT-3.3.2-5] [MQTT-4.3.3-7]
      statistics_.messages_expired += 1;
      return abandon(walk, entry);
    }
    // queued under another prefix
    if (!link.plain && !under_prefix(link, entry)) { return abandon(walk, entry); }
    const Shape shape = shape_of(link, entry, from, skip != 0);
    if (shape.size() > link.packet_bytes_max ||     // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
        shape.head_size > gather.scratch.size()) {  // too many identifiers for this port
      statistics_.publish_dropped += 1;
      return abandon(walk, entry);
    }
    gather.flush();
    const bool inlined = is_inline(shape.head_size, from.payload_size, gather);
    if (!gather.has_room(shape.head_size + (inlined ? from.payload_size : 0))) { return false; }
    if (skip != 0 && from.has_expiry) { from.expiry_s = link.head_expiry_s; }  // the same again
    assign_id(walk, entry);
    write_head(Writer(Buffer(gather.target(), shape.head_size)), entry, shape, from);
    if (shape.alias != 0) { offered_alias(link, shape.alias).pending = true; }
    return emit_payload(shape.head_size, from, gather, skip);
  }
  bool under_prefix(const Link& link, const Entry& entry) noexcept {
    if (!has_prefix(link)) { return true; }
    const Text prefix = texts_.view(extra(link)->prefix, texts_scratch_);
    return topic_of(entry.message).size() > prefix.size() &&
           memcmp(topic_of(entry.message).data(), prefix.data(), prefix.size()) == 0;
  }
  static bool is_inline(uint32_t head_size, uint32_t payload_size, const Gather& gather) noexcept {
    return payload_size < inline_payload_max && head_size + payload_size <= gather.scratch.size();
  }
  // The head lies in the scratch; adds it and the payload, less `skip` bytes.
  bool emit_payload(uint32_t head_size, Source& from, Gather& gather, uint32_t skip) noexcept {
    const uint32_t head_skip = detail::smaller(skip, head_size);
    gather.used += head_skip;
    gather.add_scratch(head_size - head_skip);
    const uint32_t rest_skip = skip - head_skip;
    if (from.record == nullptr) {
      blocks_.skip(from.cursor, rest_skip);
      return emit_rest(from.cursor, from.payload_size - rest_skip, gather);
    }
    const Bytes payload = from.record->message.payload.skip(rest_skip);
    if (is_inline(head_size, from.payload_size, gather)) {
      detail::copy(gather.target(), payload.data(), payload.size());
      gather.add_scratch(payload.size());
    } else {
      gather.add(payload);
    }
    return true;
  }
  // Whether the packet of the arena, but for id, DUP and RETAIN, is what this client gets.
  bool goes_as_it_came(const Link& link, const Entry& entry) const noexcept {
    if (!in_arena(entry)) { return false; }
    const TurnRecord& record = record_of(entry.message);
    return record.verbatim && link.plain && level(record.message.qos) == entry.qos &&
           record.with_properties == v5(link.version) &&
           record.packet.size() <= link.packet_bytes_max && !entry.many_ids &&
           identifier_of(entry) == 0;
  }
  // The only subscription identifier, 0 for none.
  uint32_t identifier_of(const Entry& entry) const noexcept {
    return entry.shared ? subscription_of(entry).identifier() : entry.number;
  }
  bool emit_verbatim(Walk& walk, Entry& entry, Gather& gather, uint32_t skip) noexcept {
    if (entry.is_plain()) {
      if (!gather.has_room(0)) { return false; }
      gather.add_packet(run_bytes(entry).skip(skip));
      return true;
    }
    const TurnRecord& record = record_of(entry.message);
    const Bytes packet = record.packet;
    const Message& message = record.message;
    gather.flush();
    const uint32_t head_size = packet.size() - message.payload.size();
    const bool by_reference = !is_inline(head_size, message.payload.size(), gather);
    const uint32_t copied = by_reference ? head_size : packet.size();
    if (!gather.has_room(copied)) { return false; }
    assign_id(walk, entry);
    uint8_t* target = gather.target();
    memcpy(target, packet.data(), copied);
    target[0] = detail::first_byte(PacketType::publish, publish_flags(entry));
    if (entry.qos != 0) {
      uint8_t* id = target + (message.topic.bytes().end() - packet.data());
      id[0] = static_cast<uint8_t>(entry.packet_id >> 8);
      id[1] = static_cast<uint8_t>(entry.packet_id);
    }
    gather.add_scratch(copied);
    if (by_reference) { gather.add(message.payload); }
    return true;
  }
  // The packets of an entry that go as they came.
  Bytes run_bytes(const Entry& entry) const noexcept {
    const Bytes first = record_of(entry.message).packet;
    if (entry.qos != 0 || entry.packet_id == 0) { return first; }
    const Bytes last = record_of(static_cast<Index>(entry.message + entry.packet_id)).packet;
    return Bytes(first.data(), static_cast<uint32_t>(last.end() - first.data()));
  }
  // Ids count up; one is taken when the message is first offered to the transport
  // [MQTT-2.2.1-4] [MQTT-2.3.1-4].
  void assign_id(const Walk& walk, Entry& entry) noexcept {
    if (entry.qos == 0 || entry.packet_id != 0) { return; }
    Session& session = *walk.session;
    do {
      session.packet_id = next_packet_id(session.packet_id);
    } while (id_in_use(session, session.packet_id));
    entry.packet_id = session.packet_id;
    journal(session, [&](auto records) { records.entry(RecordType::send, session, entry); });
  }
  // Ids under way count up from the oldest one's, so only its id can be met first; from then on
  // the others are looked at too, until nothing is under way.
  bool id_in_use(Session& session, uint16_t id) noexcept {
    const Entry& oldest = *queues_.front(session.queue);
    const bool any = oldest.state() != SendState::none;
    session.ids_met = any && (session.ids_met || id == oldest.packet_id);
    bool ahead = false;
    return session.ids_met && find_sent(session, id, ahead) != nullptr;
  }
  // The entry will not be sent: the client counts as having had it.
  bool abandon(Walk& walk, Entry& entry) noexcept {
    if (walk.from_session) {
      walk.inflight -= entry.qos != 0 ? 1U : 0U;
      drop_entry(*walk.session, entry);
    } else {
      stop_waiting(*walk.link, entry);
      release_entry(entry);
    }
    return true;
  }
  // The message is nobody's any more; its entry stays till it can go.
  void drop_entry(Session& session, Entry& entry) noexcept {
    unqueue(session, entry);
    entry.set_state(SendState::none);
    journal_done(session, entry);
    release_entry(entry);
  }
  // `frozen`: some of its bytes have gone out, the rest must fit them.
  Shape shape_of(Link& link, const Entry& entry, const Source& from, bool frozen) noexcept {
    Shape shape;
    shape.topic_size = from.topic_size - prefix_size(link);
    if (v5(link.version)) {
      if constexpr (Features::topic_aliases) {
        if (frozen) {
          shape.alias = link.head_alias;
          shape.known = link.head_known;
        } else if (link.alias_max != 0) {
          shape.alias = alias_for(link, from, shape.known);
        }
        shape.topic_size = shape.known ? 0 : shape.topic_size;
      }
      shape.with_properties = true;
      shape.properties_size =
          from.properties_size + (from.has_expiry ? 5U : 0U) + (shape.alias != 0 ? 3U : 0U);
      for_each_identifier(entry, [&shape](uint32_t identifier) {
        shape.properties_size += 1 + variable_size(identifier);
      });
      shape.remaining = variable_size(shape.properties_size) + shape.properties_size;
    }
    shape.remaining += 2 + shape.topic_size + (entry.qos != 0 ? 2U : 0U);
    shape.head_size = shape.remaining;
    shape.remaining += from.payload_size;
    shape.head_size += 1 + variable_size(shape.remaining);
    return shape;
  }
  // Writes all of the packet but the payload and leaves the source at the payload.
  void write_head(Writer writer, const Entry& entry, const Shape& shape, Source& from) noexcept {
    writer.u8(detail::first_byte(PacketType::publish, publish_flags(entry)));
    writer.variable(shape.remaining);
    writer.u16(static_cast<uint16_t>(shape.topic_size));
    // the last bytes of the topic: a prefix is hidden, an alias stands for all of it
    const uint32_t hidden = from.topic_size - shape.topic_size;
    const Message* message = from.record == nullptr ? nullptr : &from.record->message;
    if (message != nullptr) { writer.bytes(message->topic.bytes().skip(hidden)); }
    put_blocks(writer, from, hidden, shape.topic_size);
    if (entry.qos != 0) { writer.u16(entry.packet_id); }
    if (!shape.with_properties) { return put_blocks(writer, from, from.properties_size, 0); }
    writer.variable(shape.properties_size);
    if (message != nullptr) { writer.bytes(message->properties); }
    put_blocks(writer, from, 0, from.properties_size);
    if (from.has_expiry) {
      writer.u8(static_cast<uint8_t>(PropertyId::message_expiry_interval));
      writer.u32(from.expiry_s);  // [MQTT-3.3.2-6]
    }
    if (shape.alias != 0) {
      writer.u8(static_cast<uint8_t>(PropertyId::topic_alias));
      writer.u16(shape.alias);
    }
    for_each_identifier(entry, [&writer](uint32_t identifier) {
      writer.u8(static_cast<uint8_t>(PropertyId::subscription_identifier));
      writer.variable(identifier);
    });
  }
  // Of a message in blocks the next `size` bytes behind `skip` others.
  void put_blocks(Writer& writer, Source& from, uint32_t skip, uint32_t size) noexcept {
    if (from.record != nullptr) { return; }
    blocks_.skip(from.cursor, skip);
    while (size != 0) {
      const Bytes part = blocks_.next_bytes(from.cursor, size);
      writer.bytes(part);
      size -= part.size();
    }
  }
  // Calls f with each subscription identifier of the entry; a block of them begins with a count.
  template <typename F>
  void for_each_identifier(const Entry& entry, F f) const noexcept {
    if (entry.many_ids) {
      for (Index block = static_cast<Index>(entry.number); block != none;
           block = blocks_.little.next(block)) {
        const uint32_t* list = in_block<uint32_t>(block);
        for (uint32_t i = 0; i < list[0]; ++i) { f(list[1 + i]); }
      }
      return;
    }
    if (identifier_of(entry) != 0) { f(identifier_of(entry)); }
  }
  // Adds an identifier to an entry; when no block is left the entry keeps those it has.
  void add_identifier(Entry& entry, uint32_t identifier) noexcept {
    if (identifier == 0) { return; }
    if (entry.number == 0 && !entry.many_ids) {
      entry.number = identifier;
      return;
    }
    const uint32_t most = per_block<uint32_t>() - 1;
    Index block = entry.many_ids ? static_cast<Index>(entry.number) : none;
    if (block == none || in_block<uint32_t>(block)[0] == most) {
      const Index fresh = blocks_.little.allocate(Claim::answer);
      if (fresh == none) { return; }
      blocks_.little.next(fresh) = block;
      in_block<uint32_t>(fresh)[0] = entry.many_ids ? 0 : 1;
      in_block<uint32_t>(fresh)[1] = entry.number;  // the only one so far
      entry.many_ids = true;
      entry.number = fresh;
      block = fresh;
    }
    uint32_t* list = in_block<uint32_t>(block);
    list[0] += 1;
    list[list[0]] = identifier;
  }
  // Bytes of the entry's packet on the wire, and the alias in it.
  uint32_t packet_size(Walk& walk, const Entry& entry, uint16_t& alias) noexcept {
    alias = 0;
    if (entry.kind == EntryKind::encoded) { return entry.number; }
    if (!entry.is_message()) { return ack_size(entry); }
    Link& link = *walk.link;
    const bool frozen = walk.first && link.head_offset != 0;
    if (goes_as_it_came(link, entry) && (!frozen || entry.is_plain())) {
      return run_bytes(entry).size();
    }
    const Shape shape = shape_of(link, entry, source(entry), frozen);
    alias = shape.alias;
    return shape.size();
  }
  // Drops from the queues what `size` bytes have carried away; a packet cut in the middle stays
  // at the head and is remembered.
  void commit(Link& link, uint32_t size) noexcept {
    const Plan plan = plan_;
    plan_ = Plan();
    if (size == plan.size && !plan.partial) {  // all: the order of the queues does not matter
      if (plan.answers + plan.messages != 0) { link.head_offset = 0; }
      for (uint32_t i = 0; i < plan.answers; ++i) { commit_answer(link); }
      for (uint32_t i = 0; i < plan.messages; ++i) { commit_message(link); }
      settle_aliases(link, true);
      return;
    }
    settle_aliases(link, false);
    for (uint32_t i = 0; i < plan.answers + plan.messages + (plan.partial ? 1 : 0); ++i) {
      Walk walk = begin_walk(link);
      Entry* entry = next_entry(walk);
      if (entry == nullptr) { break; }
      uint16_t alias = 0;
      const uint32_t left = packet_size(walk, *entry, alias) - link.head_offset;
      if (size < left) {
        cut(walk, *entry, size);
        break;
      }
      size -= left;
      if (alias != 0) { offered_alias(link, alias).established = true; }
      link.head_offset = 0;
      walk.from_session ? commit_message(link) : commit_answer(link);
    }
  }
  // `size` bytes of the packet have gone out: the rest must follow, byte for byte.
  [[gnu::cold]] void cut(const Walk& walk, Entry& entry, uint32_t size) noexcept {
    Link& link = *walk.link;
    if (size == 0) { return; }
    if (link.head_offset == 0 && entry.is_message()) {
      const Source from = source(entry);
      const Shape shape = shape_of(link, entry, from, false);
      unshare(entry);  // whatever becomes of the subscription
      link.head_expiry_s = from.expiry_s;
      link.head_alias = shape.alias;
      link.head_known = shape.known;
    }
    link.head_offset += size;
    link.head_session = walk.from_session;
  }
  void commit_answer(Link& link) noexcept {
    Entry& entry = *queues_.front(link.queue);
    if (entry.is_message()) {
      count_sent(entry);
      stop_waiting(link, entry);
    } else if (entry.kind != EntryKind::skip) {
      statistics_.packets_sent += entry.kind >= EntryKind::puback ? run_of(entry) : 1;
    }
    release_entry(entry);
    queues_.pop(link.queue);
  }
  void count_sent(const Entry& entry) noexcept {
    const uint32_t run = in_arena(entry) ? run_of(entry) : 1;
    statistics_.packets_sent += run;
    statistics_.publish_sent += run;
    statistics_.publish_bytes_sent += payload_size(entry);
    for (uint32_t i = 1; i < run; ++i) {
      const TurnRecord& record = record_of(static_cast<Index>(entry.message + i));
      statistics_.publish_bytes_sent += record.message.payload.size();
    }
  }
  // The entry of the session's queue that is the next to send has gone out.
  void commit_message(Link& link) noexcept {
    Session& session = session_of(link);
    Entry& entry = *queues_.at(session.queue, session.send);
    const bool publish = entry.kind != EntryKind::skip;
    if (publish) {
      mark_sent(session, entry);
      count_sent(entry);
    }
    const SendState state = entry.state();
    if (!publish && state == SendState::pubcomp) { statistics_.packets_sent += 1; }
    if (entry.qos != 0 && state != SendState::none) {
      ++session.inflight;
      if (limits().inflight_bytes_max != 0 && state != SendState::pubcomp) {
        session.inflight_bytes += payload_size(entry);
      }
    }
    if (publish) {
      if (entry.qos == 0) { journal_done(session, entry); }
      const bool again = session.resumable || entry.shared || limits().inflight_bytes_max != 0;
      if (!again || state == SendState::none || state == SendState::pubcomp) {
        release_entry(entry);  // not to be sent again, or acknowledged while it was
      } else if (entry.kind == EntryKind::turn && keep_message(entry)) {
        reference(entry.message);
      }
    }
    session.send.step();
    if (state == SendState::none) { drop_settled(session, entry); }
  }
  void mark_sent(Session& session, Entry& entry) noexcept {
    if (!entry.sent) {
      unqueue(session, entry);
      entry.sent = true;
      entry.set_state(sent_state(static_cast<Qos>(entry.qos)));
    }
  }
  // Takes a settled entry before `send` out of the queue: those in front of it move up, so that
  // only what is under way lies there.
  void drop_settled(Session& session, Entry& entry) noexcept {
    if (&entry != queues_.front(session.queue)) {
      Entry moving = entry;
      Reader reader = queues_.from(session.queue);
      for (Entry* at = nullptr; at != &entry;) {
        at = queues_.next(session.queue, reader);
        const Entry next = *at;
        *at = moving;
        moving = next;
      }
    }
    drop_done(session);
  }
  // Frees the front of a session's queue as far as it is settled, but nothing that fill() has still
  // to pass.
  void drop_done(Session& session) noexcept {
    while (!session.queue.empty() && queues_.front(session.queue)->settled() &&
           (session.link == none || !queues_.at_front(session.queue, session.send))) {
      queues_.pop(session.queue, &session.send);
    }
  }

  // ---- topic aliases ------------------------------------------------------------------------

  OutAlias& offered_alias(const Link& link, uint16_t alias) const noexcept {
    return in_block<OutAlias>(extra(link)->aliases_out)[alias - 1];
  }
  [[gnu::cold]] void release_aliases(Extra& more) noexcept {
    for (Index block = more.aliases_in; block != none; block = blocks_.little.next(block)) {
      for (uint32_t i = 0; i < per_block<Index>(); ++i) {
        texts_.release(in_block<Index>(block)[i]);
      }
    }
    blocks_.release_chain(more.aliases_in);
    for (uint32_t i = 0; more.aliases_out != none && i < per_block<OutAlias>(); ++i) {
      texts_.release(in_block<OutAlias>(more.aliases_out)[i].text);
    }
    blocks_.release_chain(more.aliases_out);
    more.aliases_in = more.aliases_out = none;
  }
  // The cell of an incoming alias; null when it has none and none can be made.
  Index* alias_cell(Link& link, uint32_t alias, bool make) noexcept {
    Extra* more = make ? need_extra(link) : extra(link);
    if (more == nullptr) { return nullptr; }
    Index previous = none;
    Index block = more->aliases_in;
    for (uint32_t at = alias - 1;; at -= per_block<Index>()) {
      if (block == none) {
        block = make ? block_of(none, per_block<Index>()) : none;
        if (block == none) { return nullptr; }
        (previous == none ? more->aliases_in : blocks_.little.next(previous)) = block;
      }
      if (at < per_block<Index>()) { return &in_block<Index>(block)[at]; }
      previous = block;
      block = blocks_.little.next(block);
    }
  }
  // The alias to put into a PUBLISH, 0 for none; `known`: the client has it, the topic is left
  // out. The first topics of a connection get the aliases.
  uint16_t alias_for(Link& link, const Source& from, bool& known) noexcept {
    OutAlias* table = need_out_aliases(link);
    if (table == nullptr) { return 0; }
    const Text topic =
        from.record != nullptr ? from.record->message.topic : stored_topic(from.cursor.block);
    const uint32_t hash = detail::hash_bytes(topic.bytes(), index_.seed).low;
    const uint32_t count = detail::smaller(uint32_t{link.alias_max}, per_block<OutAlias>());
    for (uint32_t i = 0; i < count; ++i) {
      OutAlias& alias = table[i];
      if (alias.text == none) {
        alias.text = new_aliases_ ? texts_.store(topic) : none;
        alias.hash = hash;
        new_aliases_ = alias.text != none;
        if (alias.text == none) { return 0; }
      } else if (alias.hash != hash || !texts_.equal(alias.text, topic)) {
        continue;
      }
      known = alias.established || alias.pending;
      return static_cast<uint16_t>(i + 1);
    }
    return 0;
  }
  OutAlias* need_out_aliases(Link& link) noexcept {
    Extra* more = new_aliases_ ? need_extra(link) : extra(link);
    if (more != nullptr && more->aliases_out == none && new_aliases_) {
      more->aliases_out = block_of(OutAlias(), per_block<OutAlias>());
    }
    const bool there = more != nullptr && more->aliases_out != none;
    new_aliases_ = new_aliases_ && there;
    return there ? in_block<OutAlias>(more->aliases_out) : nullptr;
  }
  // Aliases that a fill() offered count from the moment their packet has gone out whole.
  void settle_aliases(Link& link, bool out) noexcept {
    const Extra* more = link.alias_max != 0 ? extra(link) : nullptr;
    if (more == nullptr || more->aliases_out == none) { return; }
    for (uint32_t i = 0; i < per_block<OutAlias>(); ++i) {
      OutAlias& alias = in_block<OutAlias>(more->aliases_out)[i];
      alias.established = alias.established || (out && alias.pending);
      alias.pending = false;
    }
  }

  // ---- routing ------------------------------------------------------------------------------
  // The filters that match, in matches_; the last topic is remembered: messages come in batches.
  uint32_t find_matches(Text topic) noexcept {
    const bool same = has_trees && memo_version_ == index_.version;
    if (same && topic == Text(Bytes(memo_, memo_size_))) { return memo_count_; }
    memo_count_ = index_.match(topic, matches_);
    memo_size_ = has_trees && topic.size() <= memo_bytes ? topic.size() : 0;
    memo_version_ = index_.version;
    memcpy(memo_, topic.data(), memo_size_);
    return memo_count_;
  }
  bool has_room(const Session& session) const noexcept {
    const uint32_t most = limits().queued_max;
    const uint32_t most_bytes = limits().queued_bytes_max;
    return (most == 0 || session.queued < most) &&
           (most_bytes == 0 || session.queued_bytes < most_bytes);
  }
  // The QoS a subscription gets a message with [MQTT-3.8.4-8].
  uint8_t granted(Qos qos, const SubscriptionSlot& slot) const noexcept {
    return limits().upgrade_outgoing_qos ? slot.qos() : detail::smaller(level(qos), slot.qos());
  }
  const SubscriptionSlot& subscription_of(const Entry& shared) const noexcept {
    return subscriptions_[static_cast<Index>(shared.number)];
  }
  void unshare(Entry& entry) noexcept {
    entry.number = identifier_of(entry);
    entry.shared = false;
  }
  // The member of a shared subscription that gets a message: in turn one that can take it now, else
  // an online one with room, else one that has a session; none.
  Index pick_member(const Filter& filter, const Message& message, Index but_not) noexcept {
    Index online_one = none;
    Index stored_one = none;
    for (Index i = filter.first; i != none; i = subscriptions_[i].next) {
      const SubscriptionSlot& member = subscriptions_[i];
      const Session& session = sessions_[member.session];
      const bool acknowledged = granted(message.qos, member) != 0;
      if (member.session == but_not || (acknowledged && !has_room(session)) ||
          !may_have(session, message.topic)) {
        continue;
      }
      if (!online(session)) {
        const bool keeps = acknowledged || limits().queue_qos_0;
        stored_one = stored_one == none && keeps ? i : stored_one;
        continue;
      }
      const Link& link = links_[session.link];
      const bool idle = !acknowledged || session.inflight + session.queued < link.send_limit;
      if (idle && !link.blocked) { return i; }
      online_one = online_one == none ? i : online_one;
    }
    return online_one != none ? online_one : stored_one;
  }
  void append_to_filter(Filter& filter, Index subscription) noexcept {
    SubscriptionSlot& slot = subscriptions_[subscription];
    slot.previous = filter.last;
    slot.next = none;
    (filter.last == none ? filter.first : subscriptions_[filter.last].next) = subscription;
    filter.last = subscription;
  }
  void unlink_from_filter(Filter& filter, const SubscriptionSlot& slot) noexcept {
    (slot.previous == none ? filter.first : subscriptions_[slot.previous].next) = slot.next;
    (slot.next == none ? filter.last : subscriptions_[slot.next].previous) = slot.previous;
  }
  bool wants(const SubscriptionSlot& slot, Index publisher) const noexcept {
    return !(slot.no_local() && slot.session == publisher);  // [MQTT-3.8.3-3]
  }
  // What QoS > 0 to the matches will need, before anything is changed.
  void survey(Incoming& message, uint32_t count) noexcept {
    message.surveyed = true;
    for (uint32_t i = 0; i < count; ++i) {
      const Filter& filter = index_.filters[matches_[i]];
      if (Features::shared_subscriptions && filter.shared()) {
        const Index member = pick_member(filter, message, none);
        if (member != none) { survey_one(message, subscriptions_[member]); }
        continue;
      }
      for (Index s = filter.first; s != none; s = subscriptions_[s].next) {
        survey_one(message, subscriptions_[s]);
      }
    }
  }
  void survey_one(Incoming& message, const SubscriptionSlot& slot) noexcept {
    if (slot.qos() == 0 || !wants(slot, message.publisher)) { return; }
    const Session& session = sessions_[slot.session];
    message.queue_blocks += queues_.push_takes_block(session.queue) ? 1U : 0U;
    message.reserved = true;
    message.stored = message.stored || session.resumable;
    // one that reads nothing itself, or waits for its own acks, cannot make progress
    if (!has_room(session) && online(session) && slot.session != message.publisher &&
        !links_[session.link].paused) {
      const Tick silent = now_ - links_[session.link].last_rx;
      message.full = message.full || silent <= pause_ticks();
    }
  }
  // Makes sure that a QoS > 0 message can be kept as long as somebody needs it, before it is
  // acknowledged.
  bool secure(const Incoming& message) noexcept {
    const bool stays =
        in_arena(message.handle) && !message.stored && record_of(message.handle).stored == none;
    if (!stays) {
      return stored_handle(message.handle) != none &&
             blocks_.little.available() >= message.queue_blocks;
    }
    TurnRecord& record = record_of(message.handle);
    const uint32_t size = message.topic.size() + message.properties.size() + message.payload.size();
    typename Blocks::Need need = blocks_.needed(sizeof(MessageHead), size);
    need.little += message.queue_blocks;
    if (!blocks_.available(need)) { return false; }
    need.little -= message.queue_blocks;
    blocks_.reserve(need);
    record.reserved = need;
    return true;
  }
  // Whether the publisher must wait: a subscriber that is making progress has no room.
  bool must_wait(Incoming& message) noexcept {
    if (message.qos == Qos::at_most_once) { return false; }
    survey(message, find_matches(message.topic));
    return message.full;
  }
  // Gives the message to everybody who gets it [MQTT-4.5.0-1] [MQTT-3.3.2-3].
  Route route(Incoming& message) noexcept {
    const uint32_t count = find_matches(message.topic);
    if (message.qos != Qos::at_most_once || limits().upgrade_outgoing_qos) {
      if (!message.surveyed) { survey(message, count); }
      if (message.reserved && !secure(message) && !message.owned) { return Route::full; }
    }
    if (message.retain && !retain(message)) {
      if (message.qos == Qos::at_least_once && !message.owned) { return Route::full; }
      statistics_.publish_dropped += 1;  // delivered, but not retained
    }
    next_route();
    for (uint32_t i = 0; i < count; ++i) {
      const Filter& filter = index_.filters[matches_[i]];
      if (filter.shared()) { continue; }
      for (Index s = filter.first; s != none; s = subscriptions_[s].next) {
        deliver(message, subscriptions_[s]);
      }
    }
    if constexpr (Features::shared_subscriptions) {
      for (uint32_t i = 0; i < count; ++i) {
        Filter& filter = index_.filters[matches_[i]];
        if (filter.shared()) { deliver_shared(message, filter, none); }
      }
    }
    return count != 0 ? Route::delivered : Route::unmatched;
  }
  // Numbers the message; 0 is nobody's last one.
  void next_route() noexcept {
    route_ += 1;
    if (route_ != 0) { return; }
    route_ = 1;
    for (Index slot = 0; slot < sessions_.used(); ++slot) { sessions_[slot].route = 0; }
  }
  // The entry of a message for one subscription.
  Entry entry_for(const Incoming& message, const SubscriptionSlot& slot) const noexcept {
    Entry entry(in_arena(message.handle) ? EntryKind::turn : EntryKind::stored, message.handle,
                slot.identifier());
    entry.qos = granted(message.qos, slot) & 3;
    entry.retain = message.retain && slot.retain_as_published();
    return entry;
  }
  // Whether the policy lets the client have messages of this topic.
  bool may_have(const Session& session, Text topic) noexcept {
    return !policy_->filters_delivery() || policy_->on_deliver(view(session), topic);
  }
  // One subscription's share of a message; overlapping ones make one copy with the highest QoS
  // and all identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-4]. False when the subscription gets nothing.
  void deliver(const Incoming& message, const SubscriptionSlot& slot) noexcept {
    Session& session = sessions_[slot.session];
    if (!wants(slot, message.publisher) || !may_have(session, message.topic)) { return; }
    if (session.route == route_) {
      merge(session, entry_for(message, slot));
    } else if (message.follows && slot.identifier() == 0 && online(session) &&
               session.queued == 0 && joins_run(links_[session.link], message)) {
      session.route = route_;
      session.routed_link = true;
    } else {
      push_routed(session, entry_for(message, slot));
    }
  }
  void push_routed(Session& session, const Entry& entry) noexcept {
    const bool behind = limits().queue_qos_0 && session.queued != 0;  // in order
    const bool to_link = entry.qos == 0 && online(session) && !behind;
    if (entry.qos == 0 && !to_link && !limits().queue_qos_0) { return; }
    if (!to_link && !has_room(session)) { drop_expired(session); }
    Entry kept = entry;
    const bool pushed = to_link ? push_to_link(links_[session.link], entry)
                                : has_room(session) && (entry.qos != 0 || keep_message(kept)) &&
                                      push_to_session(session, kept, Claim::answer);
    if (!pushed) { return count_dropped(); }
    session.route = route_;
    session.routed_link = to_link;
    if (!to_link) { journal_queue(session); }
  }
  void count_dropped() noexcept { statistics_.publish_dropped += 1; }
  // Makes room in a full queue whose next messages have expired.
  [[gnu::cold]] void drop_expired(Session& session) noexcept {
    Place place = session.send;
    while (Entry* entry = queues_.at(session.queue, place)) {
      place.step();
      if (entry->kind != EntryKind::stored || entry->sent) { continue; }
      const bool begun = session.link != none && is_cut(links_[session.link], *entry);
      if (begun || entry->packet_id != 0 || !source(*entry).expired) {
        if (!has_room(session)) { return; }
        continue;
      }
      statistics_.messages_expired += 1;
      drop_entry(session, *entry);
      if (session.link == none) {  // else fill() passes it
        drop_settled(session, *entry);
        place = session.send;
      }
    }
  }
  // Adds another subscription's share to the entry this route has just queued.
  void merge(Session& session, const Entry& entry) noexcept {
    Entry* last = queues_.back(session.routed_link ? links_[session.link].queue : session.queue);
    if (session.routed_link && in_arena(*last) && last->packet_id != 0) {
      last = leave_run(links_[session.link], *last);
      if (last == nullptr) {
        session.route = 0;
        return;
      }
    }
    if (session.routed_link && entry.qos != 0) {
      Entry better = *last;  // moves to the queue of acknowledged messages
      better.qos = entry.qos;
      const bool moved = has_room(session) && push_to_session(session, better, Claim::answer);
      if (!moved) { return count_dropped(); }
      last->number = 0;  // `better` has the identifiers now
      last->many_ids = false;
      stop_waiting(links_[session.link], *last);
      release_entry(*last);
      session.routed_link = false;
      last = queues_.back(session.queue);
      journal_queue(session);
    }
    if (entry.qos > last->qos) { last->qos = entry.qos; }
    last->retain = last->retain || entry.retain;
    add_identifier(*last, entry.number);
    if (!session.routed_link) {
      Entry share = entry;  // of the entry just written
      share.message = last->message;
      share.kind = last->kind;
      journal(session, [&](auto records) { records.queue(session, share, true); });
    }
  }
  // The last packet of the last entry gets one of its own; null when there is no room.
  Entry* leave_run(Link& link, Entry& last) noexcept {
    Entry alone = last;
    --last.packet_id;
    --last.order;
    alone.message = static_cast<Index>(last.message + run_of(last));
    alone.packet_id = 0;
    Entry* entry = queues_.push(link.queue, alone, Claim::answer);
    statistics_.publish_dropped += entry == nullptr ? 1U : 0U;
    return entry;
  }
  // One member of the group gets the message [MQTT-4.8.2-3]; `but_not` has left.
  void deliver_shared(const Incoming& message, Filter& filter, Index but_not) noexcept {
    const Index member = pick_member(filter, message, but_not);
    if (member == none) { return; }
    if (filter.last != member) {  // it is the others' turn next
      unlink_from_filter(filter, subscriptions_[member]);
      append_to_filter(filter, member);
    }
    const SubscriptionSlot& slot = subscriptions_[member];
    Session& session = sessions_[slot.session];
    Entry entry = entry_for(message, slot);
    entry.number = member;
    entry.shared = true;
    const uint32_t other_route = session.route;
    push_routed(session, entry);
    session.route = other_route == route_ ? 0 : other_route;  // a copy of its own
  }
  // A member leaves: what it has not been sent, and with `session_ends` what it has not
  // acknowledged at QoS 1, goes to another one [MQTT-4.8.2-4] [MQTT-4.8.2-5].
  [[gnu::cold]] void reroute(Session& session, Index subscription, bool session_ends) noexcept {
    if constexpr (!Features::shared_subscriptions) { return; }
    for (Place place; Entry* entry = queues_.at(session.queue, place); place.step()) {
      if (!entry->shared || (subscription != none && entry->number != subscription)) { continue; }
      if (entry->is_message() && (!entry->sent || (session_ends && entry->qos == 1))) {
        hand_over(session, *entry);
      } else {
        unshare(*entry);
      }
    }
    drop_done(session);
  }
  [[gnu::cold]] void hand_over(Session& session, Entry& entry) noexcept {
    Filter& filter = index_.filters[subscription_of(entry).filter];
    Incoming message;
    message.handle = entry.message;
    message.qos = static_cast<Qos>(entry.qos);
    message.retain = entry.retain;
    message.topic = topic_of(entry.message);
    const Index index = sessions_.index_of(session);
    if (pick_member(filter, message, index) == none) { return; }
    deliver_shared(message, filter, index);
    if (entry.state() != SendState::none) { leave_flight(session, entry); }
    drop_entry(session, entry);
  }
  void leave_flight(Session& session, const Entry& entry) noexcept {
    if (session.inflight != 0) { --session.inflight; }
    leave_flight_bytes(session, entry);
  }
  void leave_flight_bytes(Session& session, const Entry& entry) noexcept {
    if (limits().inflight_bytes_max != 0) {
      session.inflight_bytes -= detail::smaller(session.inflight_bytes, payload_size(entry));
    }
  }

  // ---- retained messages --------------------------------------------------------------------
  // The node of a topic; with `make` a new one if need be.
  Index retained_node(Text topic, bool make) noexcept {
    if constexpr (has_trees) { return retained_.at_path(topic, make); }
    for (Index i = 0; i < retained_.nodes.used(); ++i) {
      const Index message = retained_.nodes[i].message;
      if (message != none && has_topic(message, topic)) { return i; }
    }
    return make ? retained_.nodes.allocate() : none;
  }
  // Keeps or clears the topic's retained message [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7];
  // false when there is no room.
  bool retain(Incoming& message) noexcept {
    if constexpr (!Features::retained) { return true; }
    const uint32_t size =
        in_arena(message.handle) ? message.payload.size() : head(message.handle).payload_size;
    if (size == 0) {
      clear_retained(message.topic);
      return true;
    }
    if (statistics_.retained >= limits().retained) { drop_expired_retained(); }
    message.topic = topic_of(message.handle);  // journaling may have used its memory
    const Index node = retained_node(message.topic, true);
    if (node == none) { return false; }
    Index& kept = retained_.nodes[node].message;
    const bool over = kept == none && statistics_.retained >= limits().retained;
    const Index stored = over ? none : stored_handle(message.handle);
    const bool grows = kept == none || size > head(kept).payload_size;
    if (stored == none || (grows && scarce() && !restoring_)) {
      if (kept == none) { retained_.clear(node); }
      return false;
    }
    reference(stored);
    statistics_.retained += kept == none ? 1U : 0U;
    if (kept != none) { unreference(kept); }
    kept = stored;
    journal([stored](auto records) { records.retain(stored); });
    return true;
  }
  void clear_retained(Text topic) noexcept {
    const Index node = retained_node(topic, false);
    if (node != none && retained_.nodes[node].message != none &&
        has_topic(retained_.nodes[node].message, topic)) {
      drop_retained(node);
    }
  }
  void drop_retained(Index node) noexcept {
    const Index message = retained_.nodes[node].message;
    journal([message](auto records) { records.retain_clear(message); });
    unreference(message);
    retained_.nodes[node].message = none;
    statistics_.retained -= 1;
    retained_.clear(node);
  }
  bool retained_expired(Index message) const noexcept {
    const MessageHead& stored = head(message);
    const uint32_t expiry_s = stored.has_expiry ? stored.expiry_s : limits().retained_expiry_s;
    const uint32_t waited_s = (now_ - stored.stored_at) / detail::ticks_per_second;
    return (stored.has_expiry || expiry_s != 0) && waited_s >= expiry_s && now_ != stored.stored_at;
  }
  // Makes room in a full table; at most once a tick.
  [[gnu::cold]] void drop_expired_retained() noexcept {
    if (swept_ == now_) { return; }
    swept_ = now_;
    for (Index node = 0; node < retained_.nodes.used(); ++node) {
      const Index message = retained_.nodes[node].message;
      if (message != none && retained_expired(message)) { drop_retained(node); }
    }
  }
  // Has the retained messages of a subscription sent once the SUBACK is; what has no room then
  // follows when there is some.
  void send_retained(Link& link, Index subscription) noexcept {
    Extra* more = need_extra(link);
    if (more != nullptr && !more->retained.empty()) {
      const Entry* last = queues_.back(more->retained);
      const bool begun = last == queues_.front(more->retained) && more->cursor.node != none;
      if (last->number == subscription && !begun) { return; }  // asked for again
    }
    const Entry task(EntryKind::stored, none, subscription);  // skip: the subscription is gone
    if (more == nullptr || queues_.push(more->retained, task, Claim::ordinary) == nullptr) {
      statistics_.publish_dropped += 1;
    }
  }
  void go_on_retained(Link& link) noexcept {
    if (link.extra != none) { run_retained(link, false); }
  }
  // Goes on with the retained deliveries of a link; `all`: as far as its session's queue takes
  // them, because the link ends.
  void run_retained(Link& link, bool all) noexcept {
    if constexpr (!Features::retained) { return; }
    Extra* more = extra(link);
    while (more != nullptr && !more->retained.empty()) {
      const Entry& task = *queues_.front(more->retained);
      const Index subscription = static_cast<Index>(task.number);
      const bool wanted = task.kind != EntryKind::skip;
      if (wanted && !give_all_retained(link, subscriptions_[subscription], all)) { return; }
      retained_.stop(more->cursor);
      queues_.pop(more->retained);
    }
  }
  // False when there is no room for the next one.
  bool give_all_retained(Link& link, const SubscriptionSlot& subscription, bool all) noexcept {
    const Session& session = sessions_[subscription.session];
    detail::RetainedCursor<Index>& cursor = extra(link)->cursor;
    for (uint32_t given = 0;;) {
      const bool busy = session.queued >= retained_slice || given >= retained_slice ||
                        link.waiting >= retained_slice || (link.blocked && waits_enough(link));
      const bool crowded = blocks_.little.available() < 2;
      if (all ? !has_room(session) || crowded : busy || crowded) { return all; }
      const Text filter = index_.text(subscription.filter);
      if (!retained_.advance(filter, cursor)) { return true; }
      const Index node = cursor.node;
      const Index message = retained_.nodes[node].message;
      const Text topic = stored_topic(message);
      if (!matches(filter, topic)) { continue; }
      if (retained_expired(message)) {
        drop_retained(node);
      } else if (may_have(session, topic)) {
        given += give_retained(link, subscription, message) ? 1U : 0U;
      }
    }
  }
  bool give_retained(Link& link, const SubscriptionSlot& subscription, Index message) noexcept {
    Session& session = sessions_[subscription.session];
    Entry entry(EntryKind::stored, message, subscription.identifier());
    entry.qos = granted(head(message).qos, subscription) & 3;
    entry.retain = true;  // [MQTT-3.3.1-8]
    if (entry.qos == 0) { return link.state == LinkState::open && push_to_link(link, entry); }
    if (!push_to_session(session, entry, Claim::ordinary)) { return false; }
    journal_queue(session);
    return true;
  }
  // `subscription` none: all of them.
  void cancel_retained(Link& link, Index subscription) noexcept {
    Extra* more = extra(link);
    if (!Features::retained || more == nullptr || more->retained.empty()) { return; }
    queues_.for_each(more->retained, [&](Entry& task) {
      if (subscription == none || task.number == subscription) { task.kind = EntryKind::skip; }
    });
    if (queues_.front(more->retained)->kind == EntryKind::skip) { retained_.stop(more->cursor); }
    while (!more->retained.empty() && queues_.front(more->retained)->kind == EntryKind::skip) {
      queues_.pop(more->retained);
    }
  }

  // ---- sessions -----------------------------------------------------------------------------
  Index find_session(Text client_id) noexcept {
    const uint32_t hash = detail::hash_bytes(client_id.bytes(), index_.seed).low;
    Index slot = clients_.first(hash);
    while (slot != none &&
           (sessions_[slot].hash != hash || !texts_.equal(sessions_[slot].id, client_id))) {
      slot = sessions_[slot].next;
    }
    return slot;
  }
  // Names a slot that has just been allocated; false when there is no room for the name.
  [[gnu::cold]] bool name_session(Index slot, Text client_id) noexcept {
    Session& session = sessions_[slot];
    session.id = texts_.store(client_id);
    if (session.id == none) {
      sessions_.release(slot);
      return false;
    }
    session.hash = detail::hash_bytes(client_id.bytes(), index_.seed).low;
    clients_.insert(sessions_, slot);
    timers_.introduce(session_timer(session));
    return true;
  }
  Index make_session(Text client_id) noexcept {
    const Index slot = sessions_.allocate();
    return slot != none && name_session(slot, client_id) ? slot : none;
  }
  [[gnu::cold]] bool name_user(Session& session, bool named, Text user_name) noexcept {
    if constexpr (!Policy::keeps_user_names()) { return true; }
    texts_.release(session.user);
    session.user = named ? texts_.store(user_name) : none;
    return !named || session.user != none;
  }
  uint32_t session_timer(const Session& session) const noexcept {
    return limits().connections + sessions_.index_of(session);
  }
  // Removes a session with everything in it [MQTT-4.1.0-2].
  [[gnu::cold]] void end_session(Session& session) noexcept {
    // the session's end is the latest moment [MQTT-3.1.2-8]
    if (session.will != none) { publish_will(session); }
    reroute(session, none, true);
    while (session.subscriptions != none) { remove_subscription(session.subscriptions); }
    clear_queue(session.queue);
    clear_queue(session.received);
    timers_.cancel(session_timer(session));
    policy_->on_session_ended(view(session));
    journal(session, [&](auto records) { records.session_end(session); });
    const Index slot = sessions_.index_of(session);
    clients_.remove(sessions_, slot);
    texts_.release(session.id);
    texts_.release(session.user);
    sessions_.release(slot);
  }
  [[gnu::cold]] void on_session_timer(Session& session) noexcept {
    if (detail::reached(now_, session.expires)) {
      statistics_.sessions_expired += 1;
      return end_session(session);
    }
    if (detail::reached(now_, will_due(session))) { publish_will(session); }
    arm_session(session);
  }
  void arm_session(const Session& session) noexcept {
    timers_.set(session_timer(session), detail::smaller(session.expires, will_due(session)));
  }
  // The QoS 2 message from the client with this id: an entry of kind stored, or skip where there is
  // nothing to deliver; null when there is none.
  Entry* find_received(const Session& session, uint16_t packet_id) noexcept {
    return queues_.find(session.received, packet_id);
  }
  // Takes one in; `message` none: it was refused. False when no block is left.
  bool add_received(Session& session, uint16_t packet_id, Index message) noexcept {
    Entry entry(message == none ? EntryKind::skip : EntryKind::stored, message);
    entry.packet_id = packet_id;
    if (queues_.push(session.received, entry, Claim::ordinary) == nullptr) { return false; }
    if (message != none) { reference(message); }
    return true;
  }
  void drop_received(Session& session, Entry& entry) noexcept {
    release_entry(entry);
    entry.packet_id = 0;
    while (!session.received.empty() && queues_.front(session.received)->packet_id == 0) {
      queues_.pop(session.received);
    }
  }

  // ---- wills --------------------------------------------------------------------------------
  // The will is published once and forgotten [MQTT-3.1.2-8] [MQTT-3.1.2-10].
  [[gnu::cold]] void publish_will(Session& session) noexcept {
    if constexpr (!Features::wills) { return; }
    const Index handle = session.will;
    session.will = none;
    journal_change(RecordType::will_clear, session);
    head(handle).stored_at = now_;
    head(handle).set_number(0);  // what the journal has of it does not know when it expires
    Incoming will = stored_message(handle, sessions_.index_of(session));
    will.owned = true;
    PublishAnswer answer;
    if (policy_->filters_publish()) {
      Publish packet;
      packet.topic = will.topic;
      packet.qos = will.qos;
      packet.retain = will.retain;
      packet.packet_id = will.qos == Qos::at_most_once ? 0 : 1;
      policy_->on_publish(view(session), packet, answer);
    }
    const bool refused = failed(answer.reason);
    statistics_.publish_dropped += refused ? 1U : 0U;
    if (!refused) { route(will); }
    unreference(handle);
  }
  // A will keeps its delay, and once its connection has ended the time when it is due, where a
  // published message keeps its own time.
  uint32_t& will_delay_s(const Session& of) const noexcept { return head(of.will).stored_at; }
  Tick will_due(const Session& session) const noexcept {
    return session.will != none && session.link == none ? will_delay_s(session) : detail::never;
  }
  void drop_will(Session& session) noexcept {
    if (session.will != none) {
      unreference(session.will);
      session.will = none;
      journal_change(RecordType::will_clear, session);
    }
  }

  // ---- subscriptions ------------------------------------------------------------------------
  // The session's subscription to a filter: the shorter of the two lists decides.
  Index find_subscription(Index session, Index filter) const noexcept {
    Index a = sessions_[session].subscriptions;
    Index b = filter == none ? none : index_.filters[filter].first;
    while (a != none && b != none) {
      if (subscriptions_[a].filter == filter) { return a; }
      if (subscriptions_[b].session == session) { return b; }
      a = subscriptions_[a].next_of_session;
      b = subscriptions_[b].next;
    }
    return none;
  }
  Index find_subscription(const Session& session, Text filter) noexcept {
    return find_subscription(sessions_.index_of(session), index_.find(filter));
  }

  struct Added {
    Index slot = none;  // none: a table is full
    bool existed = false;
  };
  // Subscribes, or replaces the options of an existing subscription [MQTT-3.8.4-3].
  Added add_subscription(Session& session, Text filter_text, uint32_t options) noexcept {
    Added added;
    Index filter = index_.find(filter_text);
    added.slot = find_subscription(sessions_.index_of(session), filter);
    added.existed = added.slot != none;
    if (!added.existed) {
      if (subscriptions_.full()) { return added; }
      filter = filter != none ? filter : index_.insert(filter_text);
      if (filter == none) { return added; }
      added.slot = subscriptions_.allocate();
      SubscriptionSlot& slot = subscriptions_[added.slot];
      slot.session = sessions_.index_of(session);
      slot.filter = filter;
      slot.next_of_session = session.subscriptions;
      if (slot.next_of_session != none) {
        subscriptions_[slot.next_of_session].previous_of_session = added.slot;
      }
      session.subscriptions = added.slot;
      append_to_filter(index_.filters[filter], added.slot);
      statistics_.shared_subscriptions += index_.filters[filter].shared() ? 1U : 0U;
    }
    subscriptions_[added.slot].options = options;
    return added;
  }
  // No more messages are added for it [MQTT-3.10.4-2]; what is under way is finished
  // [MQTT-3.10.4-3].
  void remove_subscription(Index subscription) noexcept {
    const SubscriptionSlot& slot = subscriptions_[subscription];
    const Index filter_index = slot.filter;
    Session& session = sessions_[slot.session];
    Filter& filter = index_.filters[filter_index];
    Link* link = session.link == none ? nullptr : &links_[session.link];
    if (Features::shared_subscriptions && filter.shared()) {
      reroute(session, subscription, false);
      forget_shared(session.queue, subscription);
      if (link != nullptr) { forget_shared(link->queue, subscription); }
      statistics_.shared_subscriptions -= 1;
    }
    if (link != nullptr) { cancel_retained(*link, subscription); }
    unlink_from_filter(filter, slot);
    (slot.previous_of_session == none ? session.subscriptions
                                      : subscriptions_[slot.previous_of_session].next_of_session) =
        slot.next_of_session;
    if (slot.next_of_session != none) {
      subscriptions_[slot.next_of_session].previous_of_session = slot.previous_of_session;
    }
    subscriptions_.release(subscription);
    if (filter.first == none) { index_.remove(filter_index); }
  }
  // Entries must not name a subscription that is gone; none: any subscription.
  void forget_shared(const Queue& queue, Index subscription) noexcept {
    queues_.for_each(queue, [&](Entry& entry) {
      if (entry.shared && (subscription == none || entry.number == subscription)) {
        entry.shared = false;
        entry.number = 0;
      }
    });
  }

  // ---- ends of links ------------------------------------------------------------------------
  // Ends a link from our side or the client's: what is queued for it still goes out, then a
  // DISCONNECT if asked for and possible, then the port hangs up [MQTT-4.13.2-1].
  [[gnu::cold]] Step end_link(Link& link, const Disconnection& why, bool tell) noexcept {
    const bool was_open = link.state == LinkState::open;
    if (link.session != none) {
      policy_->on_disconnected(view(session_of(link)), why);
      detach(link, why);
    }
    forget_paused(link);
    release_rx(link);
    if constexpr (Journal::enabled) {
      gate_ = 0;  // what says why does not wait
      Records(*this).forget_gated(link);
      link.answers_held = link.sends_held = false;
      if (Extra* more = extra(link)) { clear_queue(more->answers); }
    }
    if (was_open && tell && v5(link.version) && !link.force) {
      Disconnect packet;
      packet.reason_code = why.reason;
      push_packet(link, packet);
    }
    link.state = LinkState::closing;
    link.since = now_;
    timers_.set(links_.index_of(link), link_deadline(link));
    push_due(link);
    return Step::stop;
  }
  // Takes the session off its link; it goes on, waits to expire or ends.
  [[gnu::cold]] void detach(Link& link, const Disconnection& why) noexcept {
    Session& session = session_of(link);
    settle_head(link, session);
    if (session.resumable) {
      run_retained(link, true);
      promote(link);
    }
    cancel_retained(link, none);
    forget_shared(link.queue, none);  // the subscriptions may go with the session
    link.session = none;
    session.link = none;
    wake_ = wake_ || paused_ != none;  // nobody waits for it any more
    begin_sending(session);
    const bool dropped_will = why.by_client && why.reason == ReasonCode::success;
    if (dropped_will || stopping_) { drop_will(session); }  // [MQTT-3.14.4-3] [MQTT-3.1.2-10]
    if (!session.resumable) { return end_session(session); }
    if (session.will != none) {
      if (will_delay_s(session) == 0) {
        publish_will(session);
      } else {
        will_delay_s(session) = detail::after_seconds(now_, will_delay_s(session));
      }
    }
    reroute(session, none, false);
    arm_detached(session);
  }
  // What is under way is sent again on the next link.
  static void begin_sending(Session& session) noexcept {
    session.send = Place();
    session.inflight = 0;
    session.inflight_bytes = 0;
  }
  // The session waits for its client until it expires.
  void arm_detached(Session& session) noexcept {
    session.expires = detail::after_seconds(now_, session.expiry_interval_s);
    journal(session, [&](auto records) { records.detached(session); });
    arm_session(session);
  }
  // A message of which bytes have gone out counts as sent [MQTT-3.3.1-1].
  [[gnu::cold]] void settle_head(Link& link, Session& session) noexcept {
    if (link.head_offset == 0 || !link.head_session) { return; }
    Entry* entry = queues_.at(session.queue, session.send);
    if (entry != nullptr && entry->kind != EntryKind::skip) {
      mark_sent(session, *entry);
      const SendState state = entry->state();
      const bool over = state == SendState::none || state == SendState::pubcomp;
      if (entry->qos != 0 && over) { release_entry(*entry); }  // acknowledged meanwhile
    }
    // the rest of its bytes cannot follow any more, nor anything behind it
    link.force = true;
    link.head_offset = 0;
    clear_queue(link.queue);
    link.waiting = 0;
  }

  // ---- bytes in -----------------------------------------------------------------------------
  void take_bytes(Link& link, Buffer bytes) noexcept {
    // nothing after an error [MQTT-3.1.4-6] or DISCONNECT counts
    if (link.state == LinkState::closing) { return; }
    bytes = feed(link, bytes);
    if (waits(link)) { return keep(link, bytes); }
    if (link.rx.size != 0 && !link.large) { bytes = complete_kept(link, bytes); }
    if (!bytes.empty() && link.state != LinkState::closing) {
      keep(link, bytes.skip(parse(link, bytes)));
    }
  }
  static bool waits(const Link& link) noexcept {
    return link.paused || link.state == LinkState::deciding;
  }
  // Gives bytes to the payload that is being received or discarded; returns what is left of them.
  Buffer feed(Link& link, Buffer bytes) noexcept {
    if (!has_large_packets || (!link.discarding && !link.large)) { return bytes; }
    const uint32_t part = detail::smaller(link.rx_missing, bytes.size());
    if (part != 0) { link.since = now_; }
    link.rx_missing -= part;
    if (link.large &&
        !blocks_.append(link.rx, bytes.first(part), Claim::ordinary, link.rx_missing)) {
      drop_large(link);
    }
    if (link.rx_missing == 0) {
      link.discarding = false;
      if (link.large && !link.paused) { finish_large(link); }
    }
    return bytes.skip(part);
  }
  // Handles whole packets in place and returns how many bytes they were.
  uint32_t parse(Link& link, Buffer bytes) noexcept {
    uint32_t at = 0;
    while (at < bytes.size()) {
      Frame frame;
      Error error =
          next_frame(bytes.skip(at), known(link.version), limits().packet_bytes_max, frame);
      if (error == Error::incomplete) { return at + begin_large(link, frame); }
      if (error == Error::none && frame.type() != PacketType::publish &&
          frame.remaining > limits().control_packet_bytes_max) {
        error = Error::packet_too_large;
      }
      if (error != Error::none) {
        fail(link, error);
        return bytes.size();
      }
      const Step step = handle(link, frame);
      if (step == Step::pause) { return at; }
      statistics_.packets_received += 1;
      overdue_ = false;
      at += frame.size();
      if (step == Step::stop) { return bytes.size(); }
      if (link.state == LinkState::deciding) { return at; }
    }
    return at;
  }
  void keep(Link& link, Bytes bytes) noexcept {
    if (bytes.empty() || link.state == LinkState::closing) { return; }
    if (link.rx.size == 0 && !link.paused) { link.since = now_; }
    // a control packet is always kept: it may be the ack that frees memory
    const bool brief = link.rx.size + bytes.size() <= blocks_.little.room();
    if (blocks_.append(link.rx, bytes, brief ? Claim::answer : Claim::ordinary)) {
      return arm(link);
    }
    refuse_link(link);  // no memory for a part of a packet
  }
  // Completes the packet that is kept with the front of `bytes` and handles it; returns what is
  // left of them.
  Buffer complete_kept(Link& link, Buffer bytes) noexcept {
    while (link.rx.size != 0 && !bytes.empty() && !link.large && !link.discarding) {
      const uint32_t before = link.rx.size;
      const uint32_t wanted = missing(link, bytes);
      const uint32_t part = detail::smaller(wanted, bytes.size());
      const Tick since = link.since;
      keep(link, bytes.first(part));
      bytes = bytes.skip(part);
      if (link.state == LinkState::closing) { return Buffer(); }
      // looked at when whole or twice as long: not copied again for every segment
      if (part == wanted || (before ^ link.rx.size) >= before) { replay(link); }
      link.since = link.rx.size != 0 ? since : link.since;
      if (waits(link)) {
        keep(link, bytes);
        return Buffer();
      }
    }
    return feed(link, bytes);
  }
  // How many bytes the kept packet lacks: all, or one when its header is not whole.
  uint32_t missing(const Link& link, Bytes bytes) const noexcept {
    uint8_t front[5];
    const uint32_t kept = detail::smaller(link.rx.size, uint32_t{sizeof front});
    const uint32_t fresh = detail::smaller(bytes.size(), uint32_t{sizeof front} - kept);
    Cursor cursor{link.rx.first, link.rx.skip};
    blocks_.copy_out(cursor, front, kept);
    detail::copy(front + kept, bytes.data(), fresh);
    Frame frame;
    const Error error = next_frame(Bytes(front, kept + fresh), known(link.version),
                                   limits().packet_bytes_max, frame);
    const bool whole = (error == Error::none || error == Error::incomplete) &&
                       frame.header_size != 0 && frame.size() > link.rx.size;
    return whole ? frame.size() - link.rx.size : 1;
  }
  // Handles kept packets as far as it can, from a copy in one piece; returns whether there were
  // any. What cannot be handled stays kept.
  [[gnu::cold]] bool replay(Link& link) noexcept {
    Chain kept = link.rx;
    link.rx = Chain();
    bool any = false;
    while (kept.size != 0 && !waits(link) && link.state < LinkState::closing) {
      Cursor cursor{kept.first, kept.skip};
      if (link.large || link.discarding) {
        const uint32_t part = detail::smaller(kept.size, link.rx_missing);
        const Buffer piece = blocks_.next_bytes(cursor, part);
        feed(link, piece);
        blocks_.consume(kept, piece.size());
        continue;
      }
      const uint32_t part = detail::smaller(kept.size, assembly_left());
      uint8_t* memory = assemble(part);
      blocks_.copy_out(cursor, memory, part);
      const uint32_t used = parse(link, Buffer(memory, part));
      const bool crowded = part < kept.size;
      blocks_.consume(kept, used);
      any = any || used != 0;
      if (used == 0 && !link.paused) {
        if (crowded) {  // the assembly memory is full in this turn
          pause(link);
          wake_ = true;
        }
        break;  // else the rest of the packet has yet to come
      }
    }
    if (link.state == LinkState::closing) { blocks_.clear(kept); }
    if (kept.size != 0) { link.rx = kept; }
    return any;
  }

  // ---- large PUBLISH packets ----------------------------------------------------------------
  // What is wrong with the packet whose front this is; incomplete: it must be kept, none: it is a
  // large PUBLISH whose head is there.
  Error take_large_head(const Link& link, const Frame& frame, Publish& packet,
                        uint32_t& head_size) const noexcept {
    const uint32_t most = limits().control_packet_bytes_max;
    if (frame.header_size == 0) { return Error::incomplete; }
    if (frame.type() != PacketType::publish) {
      return frame.remaining > most ? Error::packet_too_large : Error::incomplete;
    }
    if (link.state != LinkState::open) { return Error::protocol_state; }  // nothing is read for it
    if (!has_large_packets) { return Error::incomplete; }
    head_size = detail::publish_head_size(frame.first, frame.body, known(link.version));
    if (head_size == 0 && frame.body.size() >= most) { return Error::packet_too_large; }
    const uint32_t least = detail::smaller(large_publish_min, most / 2);
    if (head_size == 0 || head_size > frame.remaining || frame.size() < least) {
      return Error::incomplete;
    }
    mqtt::Reader reader(frame.body.first(head_size));
    return detail::take_publish_head(reader, frame.first, {known(link.version), Side::broker},
                                     packet);
  }
  // An incomplete packet: the message of a large PUBLISH is begun and its payload goes into blocks.
  // Returns the bytes consumed, 0 when the packet must be kept.
  uint32_t begin_large(Link& link, const Frame& frame) noexcept {
    Publish packet;
    uint32_t head_size = 0;
    const Error error = take_large_head(link, frame, packet, head_size);
    if (error == Error::incomplete) { return 0; }
    if (error != Error::none || !has_large_packets) {
      fail(link, error);
      return 0;
    }
    packet.payload = frame.body.skip(head_size);
    receive_large(link, packet, frame.remaining - head_size);
    return link.state == LinkState::closing ? 0 : frame.header_size + frame.body.size();
  }
  void receive_large(Link& link, const Publish& packet, uint32_t payload_size) noexcept {
    Incoming message;
    if (accept_head(link, packet, message) == Step::stop) { return; }
    link.since = now_;
    link.rx_missing = payload_size - packet.payload.size();
    const bool repeated = packet.qos == Qos::exactly_once &&
                          find_received(session_of(link), packet.packet_id) != nullptr;
    take_properties(packet.properties, message);
    message.payload = packet.payload;
    const uint32_t size = message.topic.size() + message.properties.size() + payload_size;
    Chain chain;
    const bool too_large = exceeds(payload_size);
    if (!repeated && !too_large && blocks_.available(blocks_.needed(sizeof(MessageHead), size))) {
      chain = begin_message(message, payload_size, Claim::ordinary);
    }
    link.large = chain.first != none;
    link.discarding = !link.large;
    link.rx = chain;
    if (link.large) {
      head(chain.first).packet_id = packet.packet_id;
      return arm(link);
    }
    count_large(payload_size);
    const ReasonCode reason = too_large ? ReasonCode::packet_too_large : ReasonCode::quota_exceeded;
    repeated ? push_ack(link, EntryKind::pubrec, packet.packet_id)
             : refuse_publish(link, message, reason);
    if (link.state != LinkState::closing) { arm(link); }
  }
  bool exceeds(uint32_t payload_size) const noexcept {
    return limits().message_bytes_max != 0 && payload_size > limits().message_bytes_max;
  }
  [[gnu::cold]] void drop_large(Link& link) noexcept {
    const Incoming message = stored_message(link.rx.first);
    const MessageHead& stored = head(link.rx.first);
    forget_stored(stored);
    count_large(stored.payload_size);
    blocks_.clear(link.rx);
    link.large = false;
    link.discarding = true;
    refuse_publish(link, message);
  }
  // All of the payload is there: the message takes the way of every other.
  void finish_large(Link& link) noexcept {
    const Index handle = link.rx.first;
    link.rx = Chain();
    link.large = false;
    count_large(head(handle).payload_size);
    begin_packet();
    take_large(link, handle);
  }
  // The message is ours until it is routed; it may have to wait.
  void take_large(Link& link, Index handle) noexcept {
    Incoming message = stored_message(handle, link.session);
    const bool held_back = message.qos != Qos::at_most_once && journal_->holds_back();
    if (held_back || (message.qos == Qos::at_least_once && !overdue_ && must_wait(message))) {
      if (Extra* more = need_extra(link)) {
        more->waiting = handle;
        pause(link);
        return;
      }
    }
    MessageHead& stored = head(handle);
    stored.stored_at = now_;
    Publish packet;
    packet.qos = message.qos;
    packet.retain = message.retain;
    packet.packet_id = message.packet_id;
    Cursor cursor = body(handle);
    blocks_.skip(cursor, uint32_t{stored.topic_size} + stored.properties_size);
    if (stored.payload_size != 0) {
      packet.payload = blocks_.next_bytes(cursor, stored.payload_size);
    }
    decide_publish(link, packet, message);
    unreference(handle);
  }

  // ---- packets ------------------------------------------------------------------------------
  void begin_packet() noexcept { gate_ = 0; }
  Step handle(Link& link, const Frame& frame) noexcept {
    begin_packet();
    if (link.state == LinkState::open) { return handle_open(link, frame); }
    if (link.state == LinkState::opening) { return on_connect(link, frame); }
    if (Policy::authenticates() && link.state == LinkState::authenticating &&
        frame.type() == PacketType::auth) {
      return on_auth(link, frame);  // only AUTH or DISCONNECT [MQTT-3.1.2-30]
    }
    if (frame.type() == PacketType::disconnect) { return end_link(link, Disconnection(), false); }
    return fail(link, Error::protocol_state);
  }
  [[gnu::noinline]] Step handle_open(Link& link, const Frame& frame) noexcept {
    switch (frame.type()) {
      case PacketType::publish: return on_publish(link, frame);
      case PacketType::puback:
      case PacketType::pubrec:
      case PacketType::pubrel:
      case PacketType::pubcomp: {
        Ack ack;
        const Error error = decode(frame, known(link.version), Side::broker, ack);
        if (error != Error::none) { return fail(link, error); }
        return ack.type == PacketType::pubrel ? on_pubrel(link, ack) : on_ack(link, ack);
      }
      case PacketType::subscribe:
      case PacketType::unsubscribe: return on_filters(link, frame);
      case PacketType::pingreq:
        if (frame.remaining != 0) { return fail(link, Error::malformed_length); }
        return push_ack(link, EntryKind::pingresp, 0);  // [MQTT-3.12.4-1]
      case PacketType::disconnect: return on_disconnect(link, frame);
      case PacketType::auth:
        if constexpr (Features::v5) { return on_auth(link, frame); }
        break;
      case PacketType::connect:  // a second one [MQTT-3.1.0-2]
      case PacketType::connack:
      case PacketType::suback:
      case PacketType::unsuback:
      case PacketType::pingresp: return fail(link, Error::protocol_direction);
    }
    return fail(link, Error::malformed_type);
  }
  // The peer broke the protocol: it is told why if its version can be, and cut off
  // [MQTT-4.13.1-1] [MQTT-4.8.0-1].
  [[gnu::cold]] Step fail(Link& link, Error error) noexcept {
    const ReasonCode reason = reason_code(error);
    // before CONNACK [MQTT-4.12.0-4]
    if (link.state == LinkState::authenticating) { refuse_connect(link, reason); }
    return end_link(link, {reason, error}, link.state == LinkState::open);
  }
  // Cuts a client off for a reason of ours.
  [[gnu::cold]] Step refuse_link(Link& link,
                                 ReasonCode reason = ReasonCode::quota_exceeded) noexcept {
    return end_link(link, {reason}, true);
  }

  // ---- CONNECT ------------------------------------------------------------------------------
  bool accepts(Version version) const noexcept {
    return (Features::v3_1 && version == Version::v3_1 && limits().accept_v3_1) ||
           (Features::v3_1_1 && version == Version::v3_1_1 && limits().accept_v3_1_1) ||
           (Features::v5 && version == Version::v5 && limits().accept_v5);
  }
  [[gnu::cold, gnu::noinline]] Step on_connect(Link& link, const Frame& frame) noexcept {
    // [MQTT-3.1.0-1]
    if (frame.type() != PacketType::connect) { return fail(link, Error::protocol_state); }
    statistics_.connects_received += 1;
    Connect connect;
    Error error = decode(frame, connect);
    link.version = connect.version;
    mqtt::Reader reader(frame.body);
    reader.binary();
    reader.u8();
    // cut off before the version: no way to answer
    if (reader.failed() && error != Error::none) { error = Error::unsupported_protocol; }
    if (error != Error::unsupported_protocol && !accepts(connect.version)) {
      error = Error::unsupported_version;
    }
    if (error == Error::none) { error = check_connect(connect); }
    if (error != Error::none) { return reject_connect(link, error); }
    link.packet_bytes_max = connect.properties.number(PropertyId::maximum_packet_size, 0xFFFFFFFF);
    ConnectAnswer answer;
    policy_->on_connect(id_of(link), connect, answer);
    return apply_answer(link, frame, connect, answer);
  }
  [[gnu::cold]] Error check_connect(const Connect& connect) const noexcept {
    const bool empty = connect.client_id.empty();
    const bool long_id = connect.version == Version::v3_1 && connect.client_id.size() > 23;
    if ((empty && !limits().allow_empty_client_id) || (long_id && limits().client_id_23)) {
      return Error::identifier_rejected;
    }
    return connect.has_will && too_deep(connect.will.topic) ? Error::malformed_topic : Error::none;
  }
  // CONNACK with the code where the version has one and the specification allows it, then the end
  // [MQTT-3.1.4-1] [MQTT-3.2.2-6] [MQTT-3.2.2-7].
  [[gnu::cold]] Step reject_connect(Link& link, Error error) noexcept {
    const bool answered = error == Error::unsupported_version ||
                          error == Error::identifier_rejected ||
                          (v5(link.version) && error != Error::unsupported_protocol);
    if (answered) { refuse_connect(link, reason_code(error)); }
    return end_link(link, {reason_code(error), error}, false);
  }
  [[gnu::cold]] void refuse_connect(Link& link, ReasonCode reason, Text reason_string = Text(),
                                    Text server_reference = Text()) noexcept {
    gate_ = 0;        // does not wait for the journal
    Connack connack;  // [MQTT-3.2.2-6]: session present 0
    connack.reason_code =
        allowed(reason, PacketType::connack, Side::broker) ? reason : ReasonCode::not_authorized;
    PropertyWriter properties(answer_memory());
    if (v5(link.version)) {
      put_text(properties, PropertyId::reason_string, reason_string);
      put_text(properties, PropertyId::server_reference, server_reference);
    }
    connack.properties = properties.properties();
    const bool fits = encoded_size(known(link.version), connack).value <= link.packet_bytes_max;
    if (!fits) { connack.properties = Properties(); }  // [MQTT-3.2.2-19]
    push_packet(link, connack);
  }
  static void put_data(PropertyWriter& properties, Bytes data) noexcept {
    if (!data.empty()) { properties.binary(PropertyId::authentication_data, data); }
  }
  Step turn_away(Link& link, ReasonCode reason) noexcept {
    refuse_connect(link, reason);
    return refuse_link(link, reason);
  }
  Buffer answer_memory() const noexcept { return Buffer(texts_scratch_, scratch_bytes(limits())); }
  static void put_text(PropertyWriter& properties, PropertyId id, Text text) noexcept {
    if (!text.empty()) { properties.text(id, text); }
  }
  [[gnu::cold]] Step apply_answer(Link& link, const Frame& frame, const Connect& connect,
                                  const ConnectAnswer& answer) noexcept {
    const bool later = Policy::answers_later() && answer.later;
    const bool more =
        Policy::authenticates() && answer.reason == ReasonCode::continue_authentication;
    if (later || more) {
      if (!keep_connect(link, frame, connect)) { return refuse_link(link); }
      link.state = later ? LinkState::deciding : LinkState::authenticating;
      // [MQTT-4.12.0-2]
      if (!later) { push_auth(link, ReasonCode::continue_authentication, answer); }
      return Step::proceed;
    }
    if (failed(answer.reason)) {
      refuse_connect(link, answer.reason, answer.reason_string, answer.server_reference);
      return refuse_link(link, answer.reason);
    }
    return accept_connect(link, connect, answer);
  }
  // The CONNECT is needed again when the policy has decided.
  [[gnu::cold]] bool keep_connect(Link& link, const Frame& frame, const Connect& connect) noexcept {
    Extra* more = need_extra(link);
    if (more == nullptr) { return false; }
    if (more->connect != none) { return true; }
    Chain kept;
    const bool whole =
        keep_method(link, connect) && blocks_.append(kept, frame.body, Claim::ordinary);
    more->connect = kept.first;
    more->connect_size = kept.size;
    return whole;
  }
  // The method of enhanced authentication, if it is used; false when there is no room.
  [[gnu::cold]] bool keep_method(Link& link, const Connect& connect) noexcept {
    Property method;
    return !Policy::authenticates() ||
           !connect.properties.find(PropertyId::authentication_method, method) ||
           keep_text(link, &Extra::method, method.text);
  }
  [[gnu::cold]] bool keep_text(Link& link, Index Extra::*which, Text text) noexcept {
    Extra* more = need_extra(link);
    if (more != nullptr && more->*which == none) { more->*which = texts_.store(text); }
    return more != nullptr && more->*which != none;
  }
  [[gnu::cold]] bool decide_connect(Link& link, const ConnectAnswer& answer) noexcept {
    Extra& more = *extra(link);
    const uint32_t size = more.connect_size;
    uint8_t* memory = assemble(size);
    if (memory == nullptr) { return false; }
    Cursor cursor{more.connect, 0};
    blocks_.copy_out(cursor, memory, size);
    Frame frame;
    frame.first = detail::first_byte(PacketType::connect);
    frame.remaining = size;
    frame.body = Bytes(memory, size);
    Connect connect;
    [[maybe_unused]] const Error error = decode(frame, connect);
    MQTT_ASSERT(error == Error::none);
    begin_packet();
    link.state = LinkState::opening;
    if (apply_answer(link, frame, connect, answer) == Step::proceed &&
        link.state == LinkState::open) {
      blocks_.release_chain(more.connect);
      more.connect = none;
      if (link.rx.size != 0) {
        pause(link);  // what came meanwhile is handled by tick()
        wake_ = true;
      }
    }
    return true;
  }
  [[gnu::cold]] void push_auth(Link& link, ReasonCode reason,
                               const ConnectAnswer& answer) noexcept {
    PropertyWriter properties(answer_memory());
    properties.text(PropertyId::authentication_method,  // [MQTT-4.12.0-5]
                    texts_.view(extra(link)->method, topic_scratch_));
    put_data(properties, answer.authentication_data);
    Auth auth;
    auth.reason_code = reason;
    auth.properties = properties.properties();
    push_packet(link, auth);
  }
  // AUTH during CONNECT, and re-authentication of an open connection (v5 §4.12).
  [[gnu::cold]] Step on_auth(Link& link, const Frame& frame) noexcept {
    Auth auth;
    const Error error = decode(frame, known(link.version), Side::broker, auth);
    if (error != Error::none) { return fail(link, error); }
    const bool begins = auth.reason_code == ReasonCode::reauthenticate;
    const bool opening = link.state == LinkState::authenticating;
    const bool expected = opening ? !begins : begins != link.reauthenticating;
    const Extra* more = extra(link);
    if (!Policy::authenticates() || !expected || more == nullptr || more->method == none ||
        !texts_.equal(more->method, auth.properties.text(PropertyId::authentication_method))) {
      return fail(link, Error::protocol_state);  // [MQTT-4.12.0-6] [MQTT-4.12.1-1]
    }
    ConnectAnswer answer;
    ClientView client;
    client.connection = id_of(link);
    client.version = link.version;
    policy_->on_authenticate(opening ? client : view(session_of(link)), auth, answer);
    if (answer.later && !opening) {  // only a CONNECT can wait for its decision
      return refuse_link(link, ReasonCode::implementation_specific_error);
    }
    if (answer.reason == ReasonCode::continue_authentication) {
      link.reauthenticating = !opening;
      push_auth(link, ReasonCode::continue_authentication, answer);
      return Step::proceed;
    }
    if (opening) {
      link.state = LinkState::deciding;
      return decide_connect(link, answer) ? Step::proceed
                                          : refuse_link(link, ReasonCode::server_busy);
    }
    if (failed(answer.reason)) { return refuse_link(link, answer.reason); }  // [MQTT-4.12.1-2]
    link.reauthenticating = false;
    push_auth(link, ReasonCode::success, answer);
    return Step::proceed;
  }
  // Takes the client in: takeover, session, will, CONNACK.
  [[gnu::cold]] Step accept_connect(Link& link, const Connect& connect,
                                    const ConnectAnswer& answer) noexcept {
    char assigned[48];
    Text client_id = answer.client_id.empty() ? connect.client_id : answer.client_id;
    const bool assigns = client_id.empty();
    // [MQTT-3.1.3-6] [MQTT-3.2.2-16]
    if (assigns) { client_id = assign_client_id(assigned, answer.client_id_prefix); }
    link.maximum_qos = detail::smaller(maximum_qos(), answer.maximum_qos);
    const ReasonCode will_reason = check_will(link, connect);
    if (failed(will_reason)) { return turn_away(link, will_reason); }
    const Index old = find_session(client_id);
    const bool resumed = take_over(old, connect);
    const Index index = resumed ? old : make_session(client_id);
    const bool ready = index != none && prepare_link(link, connect, answer);
    if (!ready || !open_session(link, sessions_[index], connect, answer)) {
      if (resumed) { arm_detached(sessions_[index]); }
      if (!resumed && index != none) { end_session(sessions_[index]); }
      return turn_away(link, ReasonCode::quota_exceeded);
    }
    Session& session = sessions_[index];
    push_connack(link, {connect, answer, resumed, assigns ? client_id : Text()});
    // behind the CONNACK
    queues_.for_each(session.queue, [&link](Entry& entry) { entry.order = link.order; });
    link.session = index;
    link.state = LinkState::open;
    session.link = links_.index_of(link);
    link.since = link.last_rx = now_;
    timers_.set(session.link, link_deadline(link));
    mark_due(link);
    Connect shown = connect;
    shown.will.properties = Properties();  // they have been taken apart
    policy_->on_connected(view(session), shown);
    return Step::proceed;
  }
  [[gnu::cold]] Text assign_client_id(char* target, Text prefix) noexcept {
    constexpr char digits[] = "0123456789ABCDEF";
    constexpr uint32_t uuid_size = 36;
    if (prefix.empty()) { prefix = limits().client_id_prefix; }
    const uint32_t front = detail::smaller(prefix.size(), uint32_t{11});
    memcpy(target, prefix.data(), front);
    do {
      uint32_t word = 0;
      for (uint32_t i = 0; i < uuid_size; ++i) {
        const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        word = i % 4 == 0 ? random() : word >> 8;
        target[front + i] = dash ? '-' : digits[word & 15];
      }
      target[front + 14] = '4';
      target[front + 19] = digits[8 | (random() & 3)];
    } while (find_session(Text(target, front + uuid_size)) != none);
    return Text(target, front + uuid_size);
  }
  [[gnu::cold]] ReasonCode check_will(const Link& link, const Connect& connect) const noexcept {
    if (!connect.has_will) { return ReasonCode::success; }
    if (!Features::wills) { return ReasonCode::implementation_specific_error; }
    const Will& will = connect.will;
    if (will.qos > link.maximum_qos) { return ReasonCode::qos_not_supported; }  // [MQTT-3.2.2-12]
    // [MQTT-3.2.2-13]
    if (will.retain && !retain_available()) { return ReasonCode::retain_not_supported; }
    return exceeds(will.payload.size()) ? ReasonCode::packet_too_large : ReasonCode::success;
  }
  Qos maximum_qos() const noexcept {
    return Features::qos_2 ? limits().maximum_qos
                           : detail::smaller(limits().maximum_qos, Qos::at_least_once);
  }
  bool retain_available() const noexcept { return Features::retained && limits().retain_available; }
  // Ends an older connection of the client [MQTT-3.1.4-3] [MQTT-3.1.4-2], and its session when a
  // clean one is asked for [MQTT-3.1.2-4] [MQTT-3.1.2-6]. Returns whether the session goes on.
  [[gnu::cold]] bool take_over(Index old, const Connect& connect) noexcept {
    if (old == none) { return false; }
    Session& session = sessions_[old];
    if (session.link != none) {
      const bool resumable = session.resumable;
      const bool will_waits = session.will != none && will_delay_s(session) != 0;
      // [MQTT-3.1.3-9]
      if (will_waits && !connect.clean_start && resumable) { drop_will(session); }
      refuse_link(links_[session.link], ReasonCode::session_taken_over);
      if (!resumable) { return false; }  // it ended with its link
    }
    connect.clean_start ? end_session(session) : drop_will(session);  // the client is back in time
    return !connect.clean_start;
  }
  [[gnu::cold]] bool prepare_link(Link& link, const Connect& connect,
                                  const ConnectAnswer& answer) noexcept {
    const Properties& properties = connect.properties;
    const Text prefix = answer.topic_prefix;
    if (!prefix.empty() && !keep_text(link, &Extra::prefix, prefix)) { return false; }
    if (!keep_method(link, connect)) { return false; }
    const uint32_t receive_maximum = properties.number(PropertyId::receive_maximum, 65535);
    link.send_limit =
        static_cast<uint16_t>(detail::smaller(receive_maximum, uint32_t{limits().inflight_max}));
    if constexpr (Features::topic_aliases) {
      const uint32_t most =
          detail::smaller(limits().topic_alias_broker_max, answer.topic_alias_broker_max);
      const uint32_t wished = properties.number(PropertyId::topic_alias_maximum, 0);
      link.alias_max = static_cast<uint16_t>(detail::smaller(wished, most));
      link.alias_in_max = detail::smaller(limits().topic_alias_max, answer.topic_alias_max);
    }
    link.plain = link.alias_max == 0 && prefix.empty();
    // [MQTT-3.1.2-21]
    link.keep_alive_s =
        shortens_keep_alive(connect) ? limits().keep_alive_max_s : connect.keep_alive_s;
    return true;
  }
  bool shortens_keep_alive(const Connect& connect) const noexcept {
    const uint16_t most = limits().keep_alive_max_s;
    return most != 0 && v5(connect.version) &&
           (connect.keep_alive_s == 0 || connect.keep_alive_s > most);
  }
  [[gnu::cold]] bool open_session(Link& link, Session& session, const Connect& connect,
                                  const ConnectAnswer& answer) noexcept {
    const uint32_t wished =
        connect.properties.number(PropertyId::session_expiry_interval,
                                  v5(connect.version) || connect.clean_start ? 0 : 0xFFFFFFFF);
    session.expiry_interval_s = detail::smaller(wished, limits().session_expiry_max_s);
    session.expires = detail::never;
    session.resumable = session.expiry_interval_s != 0;  // [MQTT-3.1.2-23]
    link.expiry_zero = wished == 0;
    begin_sending(session);
    timers_.cancel(session_timer(session));
    link.received = 0;  // counts on this connection only (v5 §4.9)
    session.tag = answer.tag;
    if (!name_user(session, answer.has_user_name, answer.user_name)) { return false; }
    journal([&session](auto records) { records.session(session); });
    return keep_will(link, session, connect);
  }
  // Keeps the will with the session [MQTT-3.1.2-7].
  [[gnu::cold]] bool keep_will(Link& link, Session& session, const Connect& connect) noexcept {
    if (!Features::wills || !connect.has_will) { return true; }
    Incoming message;
    const uint32_t delay_s = connect.will.properties.number(PropertyId::will_delay_interval, 0);
    take_properties(connect.will.properties, message);
    message.topic = with_prefix(link, connect.will.topic);
    if (message.topic.empty()) { return false; }
    message.payload = connect.will.payload;
    message.qos = connect.will.qos;
    message.retain = connect.will.retain;
    session.will = store(message, Claim::ordinary);
    if (session.will == none) { return false; }
    will_delay_s(session) = delay_s;
    journal(session, [&](auto records) { records.will(session); });
    return true;
  }

  // What a CONNACK speaks of.
  struct Opened {
    const Connect& connect;
    const ConnectAnswer& answer;
    bool resumed;
    Text assigned;  // the client id, if we chose it
  };
  [[gnu::cold]] void push_connack(Link& link, const Opened& opened) noexcept {
    Connack connack;
    connack.session_present = opened.resumed;  // [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    if (v5(link.version)) {
      connack.properties = connack_properties(link, opened, false);
      if (encoded_size(Version::v5, connack).value > link.packet_bytes_max) {
        connack.properties = connack_properties(link, opened, true);
      }
    }
    push_packet(link, connack);  // the first packet of the connection [MQTT-3.2.0-1]
  }
  // In the order clients are used to; `brief`: without what may be left out [MQTT-3.2.2-19].
  [[gnu::cold]] Properties connack_properties(const Link& link, const Opened& opened,
                                              bool brief) noexcept {
    const ConnectAnswer& answer = opened.answer;
    const Properties& wishes = opened.connect.properties;
    PropertyWriter properties(answer_memory());
    const auto number = [&properties](bool wanted, PropertyId id, uint32_t value) {
      if (wanted) { properties.number(id, value); }
    };
    number(shortens_keep_alive(opened.connect), PropertyId::server_keep_alive, link.keep_alive_s);
    number(link.alias_in_max != 0, PropertyId::topic_alias_maximum, link.alias_in_max);
    // [MQTT-3.1.3-7]
    put_text(properties, PropertyId::assigned_client_identifier, opened.assigned);
    if (Policy::authenticates()) {
      put_text(properties, PropertyId::authentication_method,  // [MQTT-4.12.0-5]
               wishes.text(PropertyId::authentication_method));
      put_data(properties, answer.authentication_data);
    }
    const uint32_t expiry_max_s = limits().session_expiry_max_s;
    number(wishes.number(PropertyId::session_expiry_interval, 0) > expiry_max_s,
           PropertyId::session_expiry_interval, expiry_max_s);
    if (!brief && wishes.number(PropertyId::request_response_information, 0) != 0) {
      // [MQTT-3.1.2-28]
      put_text(properties, PropertyId::response_information, answer.response_information);
    }
    if (!brief) { put_text(properties, PropertyId::reason_string, answer.reason_string); }
    number(!retain_available(), PropertyId::retain_available, 0);
    number(true, PropertyId::maximum_packet_size, limits().packet_bytes_max);
    const uint16_t receive_maximum = limits().receive_maximum;
    number(receive_maximum != 65535, PropertyId::receive_maximum, receive_maximum);
    number(link.maximum_qos != Qos::exactly_once, PropertyId::maximum_qos,
           level(link.maximum_qos));  // [MQTT-3.2.2-9]
    number(!Features::shared_subscriptions, PropertyId::shared_subscription_available, 0);
    return properties.properties();
  }

  // ---- PUBLISH ------------------------------------------------------------------------------
  // Checks of the head that do not depend on the payload; resolves the alias and puts the prefix
  // before the topic.
  Step accept_head(Link& link, const Publish& packet, Incoming& message) noexcept {
    message.topic = packet.topic;
    message.qos = packet.qos;
    message.retain = packet.retain;
    message.packet_id = packet.packet_id;
    message.publisher = link.session;
    if (packet.qos > link.maximum_qos) { return refuse_link(link, ReasonCode::qos_not_supported); }
    if (packet.retain && !retain_available()) {
      return refuse_link(link, ReasonCode::retain_not_supported);
    }
    if (packet.properties.has(PropertyId::topic_alias) &&
        resolve_alias(link, packet, message) == Step::stop) {
      return Step::stop;
    }
    if (too_deep(message.topic)) { return fail(link, Error::malformed_topic); }
    if (packet.qos != Qos::at_most_once && v5(link.version) &&
        link.received >= limits().receive_maximum && Features::qos_2 &&
        find_received(session_of(link), packet.packet_id) == nullptr) {
      return fail(link, Error::receive_maximum);  // v5 §3.3.4
    }
    message.topic = with_prefix(link, message.topic);
    const bool fits = !message.topic.empty();  // else longer than a topic may be
    return fits ? Step::proceed : refuse_link(link, ReasonCode::topic_name_invalid);
  }
  // Sets or looks up a topic alias [MQTT-3.3.2-7] [MQTT-3.3.2-12].
  Step resolve_alias(Link& link, const Publish& packet, Incoming& message) noexcept {
    const uint32_t alias = packet.properties.number(PropertyId::topic_alias, 0);
    const bool known = packet.topic.empty();
    if (!Features::topic_aliases || alias == 0 || alias > link.alias_in_max) {
      return fail(link, Error::topic_alias_invalid);
    }
    Index* cell = alias_cell(link, alias, !known);
    if (cell != nullptr && !known) {
      texts_.release(*cell);
      *cell = texts_.store(packet.topic);
    }
    if (cell == nullptr || *cell == none) {  // known: no topic for it (v5 §3.3.2.3.4)
      return known ? fail(link, Error::protocol_value) : refuse_link(link);
    }
    if (known) { message.topic = texts_.view(*cell, topic_scratch_); }
    return Step::proceed;
  }
  // An empty text when it would be longer than a topic may be.
  Text with_prefix(const Link& link, Text topic) noexcept {
    if (link.extra == none || !has_prefix(link)) { return topic; }
    return joined(texts_.view(extra(link)->prefix, texts_scratch_), topic);
  }
  // Both in topic_scratch_, where `rest` may lie.
  Text joined(Text front, Text rest) noexcept {
    const uint32_t size = front.size() + rest.size();
    if (size > scratch_bytes(limits())) { return Text(); }
    memmove(topic_scratch_ + front.size(), rest.data(), rest.size());
    memcpy(topic_scratch_, front.data(), front.size());
    return Text(Bytes(topic_scratch_, size));
  }
  // Takes expiry, alias, delay and subscription ids out of a list, in place: it lies in the arena
  // or the assembly memory, which are ours to write.
  static void take_properties(Properties properties, Incoming& message) noexcept {
    uint8_t* const begin = const_cast<uint8_t*>(properties.wire().data());
    const uint8_t* const end = properties.wire().end();
    uint8_t* target = begin;
    const uint8_t* from = begin;
    for (Property property; properties.next(property);) {
      const uint8_t* const behind = properties.empty() ? end : properties.wire().data();
      if (property.id == PropertyId::message_expiry_interval) {
        message.has_expiry = true;
        message.expiry_s = property.number;
      } else if (property.id != PropertyId::topic_alias &&
                 property.id != PropertyId::will_delay_interval) {
        memmove(target, from, static_cast<size_t>(behind - from));
        target += behind - from;
      }
      from = behind;
    }
    message.properties = Bytes(begin, static_cast<uint32_t>(target - begin));
  }

  Step on_publish(Link& link, const Frame& frame) noexcept {
    Publish packet;
    const Error error = decode(frame, known(link.version), Side::broker, packet);
    if (error != Error::none) { return fail(link, error); }
    if (frame.remaining - packet.payload.size() > limits().control_packet_bytes_max) {
      return fail(link, Error::packet_too_large);
    }
    Incoming message;
    if (accept_head(link, packet, message) == Step::stop) { return Step::stop; }
    const bool once = Features::qos_2 && packet.qos == Qos::exactly_once;
    const bool deciding = find_held(link, packet.packet_id) != nullptr;
    const bool repeated =
        deciding || (once && find_received(session_of(link), packet.packet_id) != nullptr);
    const bool held_back = packet.qos != Qos::at_most_once && journal_->holds_back();
    if (!repeated &&
        ((held_back && !v5(link.version)) || (!once && !overdue_ && must_wait(message)))) {
      pause(link);
      return Step::pause;
    }
    count_received(packet.payload.size());
    if (deciding) { return Step::proceed; }
    // is answered and not delivered [MQTT-4.3.3-10]
    if (repeated) { return push_ack(link, EntryKind::pubrec, packet.packet_id); }
    if (held_back) { return refuse_publish(link, message); }
    if (exceeds(packet.payload.size())) {
      return refuse_publish(link, message, ReasonCode::packet_too_large);
    }
    message.payload = packet.payload;
    if (!packet.properties.empty()) { take_properties(packet.properties, message); }
    const bool untouched = message.topic.data() == packet.topic.data();
    if (untouched && !once) {
      message.handle = record_packet(link, frame, packet, message);
      message.follows = message.handle != none && record_of(message.handle).follows &&
                        packet.qos == Qos::at_most_once && !packet.retain &&
                        !limits().upgrade_outgoing_qos;
    }
    const bool in_blocks = message.handle == none;
    if (in_blocks) {
      message.handle = store(message, Claim::ordinary);
      if (message.handle == none) { return refuse_publish(link, message); }
    }
    const Step step = decide_publish(link, packet, message);
    if (in_blocks) { unreference(message.handle); }
    return step;
  }
  void count_large(uint32_t payload_size) noexcept {
    statistics_.packets_received += 1;
    count_received(payload_size);
  }
  void count_received(uint32_t payload_size) noexcept {
    statistics_.publish_received += 1;
    statistics_.publish_bytes_received += payload_size;
  }
  // The packet's turn record, none when there are no more. What the packet says of its own delivery
  // is wiped, so that it can go out as it is [MQTT-3.3.1-3] [MQTT-3.3.1-12].
  Index record_packet(const Link& link, const Frame& frame, const Publish& packet,
                      const Incoming& message) noexcept {
    if (!has_turns || records_used_ == limits().turn_records) { return none; }
    uint8_t* first = const_cast<uint8_t*>(frame.body.data()) - frame.header_size;
    *first = static_cast<uint8_t>(*first & 0xF6);
    TurnRecord& record = records_[records_used_];
    record.message = message;
    record.packet = Bytes(first, frame.size());
    record.reserved = typename Blocks::Need();
    record.stored = none;
    record.with_properties = v5(link.version);
    record.verbatim = message.properties.size() == packet.properties.size();
    const TurnRecord* before = records_used_ == 0 ? nullptr : &record - 1;
    record.follows = before != nullptr && before->verbatim && record.verbatim &&
                     before->packet.end() == first && before->message.qos == Qos::at_most_once &&
                     before->with_properties == record.with_properties;
    return static_cast<Index>(records_used_++ | top_bit);
  }
  // The policy's word, then routing and the acknowledgement.
  Step decide_publish(Link& link, Publish& packet, Incoming& message) noexcept {
    if (policy_->filters_publish()) {
      PublishAnswer answer;
      packet.topic = message.topic;
      packet.properties = Properties(message.properties);
      policy_->on_publish(view(session_of(link)), packet, answer);
      const bool acknowledged = packet.qos != Qos::at_most_once;
      if (Policy::answers_later() && acknowledged &&
          (answer.later || first_held(link) != nullptr)) {
        return hold_publish(link, message, answer);
      }
      if (failed(answer.reason)) { return refuse_publish(link, message, answer.reason); }
    }
    return take_publish(link, message);
  }
  // QoS 0 and 1: route and acknowledge; QoS 2: own and acknowledge, routed at PUBREL.
  Step take_publish(Link& link, Incoming& message) noexcept {
    if (Features::qos_2 && message.qos == Qos::exactly_once) { return own_publish(link, message); }
    const Route result = route(message);
    if (result == Route::full) { return refuse_publish(link, message); }
    if (message.qos == Qos::at_most_once) { return Step::proceed; }
    const ReasonCode reason =
        result == Route::unmatched ? ReasonCode::no_matching_subscribers : ReasonCode::success;
    return push_ack(link, EntryKind::puback, message.packet_id, reason);  // [MQTT-4.3.2-4]
  }
  Step own_publish(Link& link, const Incoming& message) noexcept {
    const uint16_t packet_id = message.packet_id;
    Session& session = session_of(link);
    const Index stored = stored_handle(message.handle);
    if (stored == none || !add_received(session, packet_id, stored)) {
      return refuse_publish(link, message);
    }
    head(stored).stored_at = now_;
    ++link.received;
    journal(session, [&](auto records) { records.receive(session, packet_id, stored); });
    return push_ack(link, EntryKind::pubrec, packet_id);  // [MQTT-4.3.3-8]
  }
  // Tells a publisher that its message is not taken. 3.x has no way to say it: what may not be is
  // acknowledged and discarded [MQTT-3.3.5-2], what cannot be ends the connection
  // [MQTT-4.8.0-2].
  Step refuse_publish(Link& link, const Incoming& message,
                      ReasonCode reason = ReasonCode::quota_exceeded) noexcept {
    statistics_.publish_dropped += 1;
    if (message.qos == Qos::at_most_once) { return Step::proceed; }
    const bool once = Features::qos_2 && message.qos == Qos::exactly_once;
    if (!v5(link.version) && (reason == ReasonCode::quota_exceeded ||
                              (once && !add_received(session_of(link), message.packet_id,
                                                     none)))) {  // PUBREL must find the id
      return refuse_link(link, reason);
    }
    if (!allowed(reason, PacketType::puback, Side::broker)) {
      reason = ReasonCode::implementation_specific_error;
    }
    return push_ack(link, once ? EntryKind::pubrec : EntryKind::puback, message.packet_id, reason);
  }
  Step on_pubrel(Link& link, const Ack& ack) noexcept {
    Session& session = session_of(link);
    Entry* entry = Features::qos_2 ? find_received(session, ack.packet_id) : nullptr;
    const ReceiveState state = entry != nullptr ? ReceiveState::pubrel : ReceiveState::none;
    if (mqtt::on_pubrel(state).action == DeliveryAction::complete_unknown) {
      return push_ack(link, EntryKind::pubcomp, ack.packet_id,
                      ReasonCode::packet_identifier_not_found);
    }
    if (entry->kind == EntryKind::stored) {
      Incoming message = stored_message(entry->message, link.session);
      message.owned = overdue_;
      if ((!overdue_ && must_wait(message)) || route(message) == Route::full) {
        pause(link);
        return Step::pause;
      }
      journal_change(RecordType::deliver, session, ack.packet_id);
      if (link.received != 0) { --link.received; }
    }
    drop_received(session, *entry);
    return push_ack(link, EntryKind::pubcomp, ack.packet_id);  // [MQTT-4.3.3-11]
  }

  // ---- acknowledgements ---------------------------------------------------------------------
  // The entry under way with this id; null when there is none. `ahead`: it was sent on an earlier
  // connection and not yet again on this one.
  Entry* find_sent(Session& session, uint16_t packet_id, bool& ahead) noexcept {
    ahead = false;
    Entry* const oldest = queues_.front(session.queue);  // acks come in order as a rule
    if (oldest != nullptr && oldest->packet_id == packet_id && oldest->state() != SendState::none &&
        !queues_.at_front(session.queue, session.send)) {
      return oldest;
    }
    static_cast<void>(queues_.at(session.queue, session.send));  // makes the place explicit
    for (Place place; Entry* entry = queues_.at(session.queue, place); place.step()) {
      ahead = ahead || (place.chunk == session.send.chunk && place.at == session.send.at);
      if (entry->packet_id == packet_id && entry->state() != SendState::none) { return entry; }
      if (ahead && !entry->sent && entry->kind != EntryKind::skip) { return nullptr; }
    }
    return nullptr;
  }
  // Whether some bytes of the message, which is being sent again, have gone out and others not.
  bool is_cut(const Link& link, const Entry& entry) noexcept {
    Session& session = session_of(link);
    return link.head_offset != 0 && link.head_session &&
           &entry == queues_.at(session.queue, session.send);
  }
  Step on_ack(Link& link, const Ack& ack) noexcept {
    Session& session = session_of(link);
    bool ahead = false;
    Entry* entry = find_sent(session, ack.packet_id, ahead);
    const SendState state = entry == nullptr ? SendState::none : entry->state();
    const DeliveryStep<SendState> step = mqtt::on_ack(state, ack.type, ack.reason_code);
    const bool cut_now = entry != nullptr && is_cut(link, *entry);
    if (step.action == DeliveryAction::violation) { return fail(link, Error::protocol_state); }
    if (step.action == DeliveryAction::release_unknown) {
      return push_ack(link, EntryKind::pubrel, ack.packet_id,
                      ReasonCode::packet_identifier_not_found);
    }
    const bool releases = step.action == DeliveryAction::release;
    if (releases || step.action == DeliveryAction::release_again) {
      entry->set_state(step.next);
      if (releases) {
        if (!cut_now) {  // the message is the client's [MQTT-4.3.3-6]
          if (!ahead) { leave_flight_bytes(session, *entry); }
          release_entry(*entry);
        }
        journal_change(RecordType::release, session, ack.packet_id);
      }
      if (!ahead || (cut_now && releases)) {
        return push_ack(link, EntryKind::pubrel, ack.packet_id);
      }
      mark_due(link);  // fill() has still to pass it, and sends PUBREL
    } else if (step.action == DeliveryAction::complete || step.action == DeliveryAction::fail) {
      entry->set_state(step.next);
      journal_done(session, *entry);
      if (cut_now) { return Step::proceed; }  // commit_message() settles it
      if (!ahead) { leave_flight(session, *entry); }
      release_entry(*entry);
      if (!ahead) { drop_settled(session, *entry); }  // else fill() passes it
      wake_ = wake_ || paused_ != none;
      go_on_retained(link);
      mark_due(link);
    }
    return Step::proceed;
  }

  // ---- SUBSCRIBE and UNSUBSCRIBE ------------------------------------------------------------
  // Both: their answer has a code for each filter, in order [MQTT-3.8.4-5].
  Step on_filters(Link& link, const Frame& frame) noexcept {
    const bool subscribes = frame.type() == PacketType::subscribe;
    const Version version = known(link.version);
    Subscribe subscribe;
    Unsubscribe unsubscribe;
    Error error =
        subscribes ? decode(frame, version, subscribe) : decode(frame, version, unsubscribe);
    const FilterRequest& packet =
        subscribes ? static_cast<const FilterRequest&>(subscribe) : unsubscribe;
    if (error == Error::none && too_deep(packet.filters)) { error = Error::malformed_filter; }
    if (error != Error::none) { return fail(link, error); }
    const uint32_t count = subscribes || v5(version) ? packet.filters.count() : 0;
    Chain answer = begin_codes(link, frame, packet.packet_id, count);
    if (answer.first == none) { return refuse_link(link); }
    Cursor codes{answer.first, 0};
    blocks_.skip(codes, answer.size - count);
    const uint32_t identifier = packet.properties.number(PropertyId::subscription_identifier, 0);
    Subscription entry;
    for (SubscriptionList list = packet.filters; list.next(entry);) {
      const uint8_t reason =
          subscribes ? subscribe_one(link, entry, identifier) : unsubscribe_one(link, entry.filter);
      if (count != 0) { *blocks_.next_bytes(codes, 1).data() = suback_code(version, reason); }
    }
    push_chain(link, answer, true);  // once the changes are in the journal [MQTT-3.10.4-4]
    go_on_retained(link);
    return Step::proceed;
  }
  bool too_deep(SubscriptionList filters) const noexcept {
    bool deep = false;
    for (Subscription entry; !deep && filters.next(entry);) { deep = too_deep(entry.filter); }
    return deep;
  }
  bool too_deep(Text topic) const noexcept {
    const uint32_t most = limits().topic_levels_max;
    return topic.size() >= most && detail::level_count(topic) > most;
  }
  // A SUBACK or UNSUBACK whose codes are still to be put. An empty chain: no block is left, or the
  // client takes no packet as large.
  Chain begin_codes(const Link& link, const Frame& frame, uint16_t packet_id,
                    uint32_t count) noexcept {
    const bool subscribes = frame.type() == PacketType::subscribe;
    const bool newest = v5(link.version);
    uint8_t front[8];
    Writer writer{Buffer(front)};
    writer.u8(detail::first_byte(subscribes ? PacketType::suback : PacketType::unsuback));
    writer.variable(2 + (newest ? 1U : 0U) + count);
    writer.u16(packet_id);  // [MQTT-2.2.1-6] [MQTT-3.8.4-2] [MQTT-3.10.4-5]
    if (newest) { writer.u8(0); }
    Chain answer;
    // the request is longer than its answer: some of it holds the codes' place
    if (writer.size() + count > link.packet_bytes_max ||
        !blocks_.append(answer, writer.written(), Claim::answer) ||
        !blocks_.append(answer, frame.body.first(count), Claim::answer)) {
      blocks_.clear(answer);
    }
    return answer;
  }
  // Returns the reason code [MQTT-3.8.4-6] [MQTT-3.8.4-7].
  uint8_t subscribe_one(Link& link, Subscription& entry, uint32_t identifier) noexcept {
    Session& session = session_of(link);
    const bool shared = !split_shared(entry.filter).group.empty();
    if (shared && !Features::shared_subscriptions) {
      return code(ReasonCode::shared_subscriptions_not_supported);
    }
    const ReasonCode verdict = policy_->on_subscribe(view(session), entry);
    if (failed(verdict)) { return code(verdict); }
    entry.qos = detail::smaller(entry.qos, link.maximum_qos);  // [MQTT-3.2.2-10]
    const Text filter = prefixed_filter(link, entry.filter);
    if (filter.empty()) { return code(ReasonCode::topic_filter_invalid); }
    const uint32_t options = identifier | (uint32_t{level(entry.qos)} << 28) |
                             (uint32_t{entry.no_local} << 30) |
                             (uint32_t{entry.retain_as_published} << 31);
    const Added added = add_subscription(session, filter, options);
    if (added.slot == none) { return code(ReasonCode::quota_exceeded); }
    journal(session, [&](auto records) { records.subscribe(session, filter, options); });
    const bool wanted = entry.retain_handling == RetainHandling::send ||
                        (entry.retain_handling == RetainHandling::send_if_new && !added.existed);
    // [MQTT-3.3.1-9] [MQTT-3.3.1-10]
    if (Features::retained && !shared && wanted) { send_retained(link, added.slot); }
    return level(entry.qos);
  }
  uint8_t unsubscribe_one(Link& link, Text wanted) noexcept {
    Session& session = session_of(link);
    policy_->on_unsubscribe(view(session), wanted);
    const Text filter = prefixed_filter(link, wanted);
    const Index subscription = find_subscription(session, filter);  // byte for byte [MQTT-3.10.4-1]
    if (subscription == none) { return code(ReasonCode::no_subscription_existed); }
    journal(session, [&](auto records) { records.unsubscribe(session, filter); });
    remove_subscription(subscription);
    return code(ReasonCode::success);
  }
  // The filter behind $share/ShareName/ gets the prefix.
  Text prefixed_filter(const Link& link, Text filter) noexcept {
    if (link.extra == none || !has_prefix(link)) { return filter; }
    const Text plain = split_shared(filter).filter;
    const Text inner = with_prefix(link, plain);
    const uint32_t front = filter.size() - plain.size();
    return front == 0 || inner.empty() ? inner : joined(Text(filter.data(), front), inner);
  }

  // ---- DISCONNECT ---------------------------------------------------------------------------
  [[gnu::cold]] Step on_disconnect(Link& link, const Frame& frame) noexcept {
    Disconnect packet;
    const Error error = decode(frame, known(link.version), Side::broker, packet);
    if (error != Error::none) { return fail(link, error); }
    Property expiry;
    if (packet.properties.find(PropertyId::session_expiry_interval, expiry)) {
      // v5 §3.14.2.2.2
      if (link.expiry_zero && expiry.number != 0) { return fail(link, Error::protocol_value); }
      Session& session = session_of(link);
      session.expiry_interval_s = detail::smaller(expiry.number, limits().session_expiry_max_s);
      if (session.expiry_interval_s == 0) { session.resumable = false; }
      journal([&session](auto records) { records.session(session); });
    }
    return end_link(link, {packet.reason_code, Error::none, true}, false);
  }

  // ---- publishers that wait -----------------------------------------------------------------
  void pause(Link& link) noexcept {
    if (link.paused) { return; }
    link.paused = true;
    link.since = now_;
    link.next = paused_;
    paused_ = links_.index_of(link);
    arm(link);
    push_due(link);
  }
  void forget_paused(Link& link) noexcept {
    if (!link.paused) { return; }
    detail::unlink(links_, &paused_, links_.index_of(link));
    link.next = none;
    link.paused = false;
    link.last_rx = now_;  // it was not read meanwhile
  }
  void wake_paused() noexcept {
    wake_ = false;
    for (Index slot = paused_; slot != none;) {
      Link& link = links_[slot];
      slot = link.next;
      retry_paused(link);
    }
  }
  // Tries the packets of a paused link again, from the blocks they are kept in. A packet that has
  // waited long enough goes through whatever it finds.
  void retry_paused(Link& link) noexcept {
    const Tick since = link.since;
    const bool overdue = detail::reached(now_, since + pause_ticks());
    overdue_ = overdue;
    forget_paused(link);
    Extra* more = extra(link);
    if (has_large_packets && more != nullptr && more->waiting != none) {
      const Index handle = more->waiting;
      more->waiting = none;
      begin_packet();
      take_large(link, handle);
      overdue_ = false;
    }
    const bool any = replay(link);
    overdue_ = false;
    if (link.state == LinkState::closing) { return; }
    const bool same_packet = link.paused && !any && !wake_ && !overdue;
    link.since = same_packet ? since : now_;
    arm(link);
    push_due(link);
  }

  // ---- publishes the policy decides later ---------------------------------------------------
  // An entry of Extra::publishes: `number` is when it came, `order` the reason code or undecided.
  Entry* first_held(const Link& link) noexcept {
    Extra* more = Policy::answers_later() ? extra(link) : nullptr;
    return more == nullptr ? nullptr : queues_.front(more->publishes);
  }
  Entry* find_held(const Link& link, uint16_t packet_id) noexcept {
    return first_held(link) == nullptr ? nullptr : queues_.find(extra(link)->publishes, packet_id);
  }
  Tick held_until(const Entry& held) const noexcept {
    return detail::after_seconds(held.number, limits().policy_timeout_s);
  }
  // Routing and acknowledgement wait; later ones of the client queue behind it.
  Step hold_publish(Link& link, const Incoming& message, const PublishAnswer& answer) noexcept {
    Extra* more = need_extra(link);
    Entry held(EntryKind::stored, more == nullptr ? none : stored_handle(message.handle), now_);
    held.packet_id = message.packet_id;
    held.order = answer.later ? undecided : code(answer.reason);
    if (held.message == none || queues_.push(more->publishes, held, Claim::answer) == nullptr) {
      return refuse_publish(link, message);
    }
    reference(held.message);
    head(held.message).retain = message.retain;
    ++link.received;
    arm(link);
    return Step::proceed;
  }
  // Goes on with those that are decided, in their order.
  void release_held(Link& link) noexcept {
    while (link.state == LinkState::open) {
      const Entry* first = first_held(link);
      if (first == nullptr || first->order == undecided) { return; }
      Entry held = *first;
      queues_.pop(extra(link)->publishes);
      --link.received;
      Incoming message = stored_message(held.message, link.session);
      message.packet_id = held.packet_id;
      begin_packet();
      const ReasonCode reason = static_cast<ReasonCode>(held.order);
      failed(reason) ? refuse_publish(link, message, reason) : take_publish(link, message);
      release_entry(held);
    }
  }
  // The policy has taken too long: 0x83, or the end of a 3.x link. False when nothing was due.
  [[gnu::cold]] bool expire_held(Link& link) noexcept {
    Entry* held = first_held(link);
    if (held == nullptr || !detail::reached(now_, held_until(*held))) { return false; }
    if (!v5(link.version)) {
      refuse_link(link, ReasonCode::implementation_specific_error);
      return true;
    }
    held->order = code(ReasonCode::implementation_specific_error);
    release_held(link);
    arm(link);
    return true;
  }

  // ---- journal ------------------------------------------------------------------------------
  using Records = BrokerRecords<BrokerEngine>;
  using RecordType = JournalRecord::Type;

  // Has a change written down by `put(records)`, which without a journal is not compiled.
  template <typename Write>
  void journal([[maybe_unused]] Write put) noexcept {
    if constexpr (Journal::enabled) {
      if (!restoring_) { put(Records(*this)); }
    }
  }
  void journal_change(RecordType type, const Session& session, uint16_t packet_id = 0) noexcept {
    journal(session, [&](auto records) { records.change(type, session, packet_id); });
  }
  void journal_done(const Session& session, const Entry& entry) noexcept {
    journal(session, [&](auto records) { records.entry(RecordType::done, session, entry); });
  }
  void journal_queue(const Session& session) noexcept {
    journal(session, [&](auto records) { records.queue(session, *queues_.back(session.queue)); });
  }
  // A change of a session, if the journal knows it.
  template <typename Write>
  void journal(const Session& session, Write put) noexcept {
    if (session.journaled) { journal(put); }
  }

  // ---- checks -------------------------------------------------------------------------------
 public:
  /// Whether counters and queues agree: for tests, after each step. Walks over everything.
  bool check_invariants() noexcept {
    bool good = blocks_.little.taken() <= limits().blocks;
    for (Index slot = 0; slot < sessions_.used(); ++slot) {
      Session& session = sessions_[slot];
      if (session.id == none) { continue; }
      uint32_t unsent = 0;
      queues_.for_each(session.queue, [&](const Entry& entry) {
        unsent += entry.is_message() && !entry.sent ? 1U : 0U;
        good = good && (entry.kind != EntryKind::stored || head(entry.message).references != 0) &&
               (entry.kind != EntryKind::turn || records_used_ != 0);
      });
      good = good && unsent == session.queued &&
             (session.link == none || links_[session.link].session == slot) &&
             find_session(texts_.view(session.id, texts_scratch_)) == slot;
    }
    for (Index slot = 0; slot < links_.used(); ++slot) {
      Link& link = links_[slot];
      uint32_t waiting = 0;
      queues_.for_each(link.queue, [&](const Entry& entry) {
        waiting += entry.kind == EntryKind::stored ? 1U : 0U;
      });
      good = good && waiting == link.waiting &&
             (link.session == none || sessions_[link.session].link == slot) &&
             (link.state != LinkState::open || link.session != none);
    }
    return good;
  }

 private:
  Policy* policy_;
  Journal* journal_;
  detail::Limits<Config> limits_;
  BrokerStatistics statistics_;

  detail::Table<Link, Index> links_;
  detail::Table<Session, Index> sessions_;
  detail::Table<SubscriptionSlot, Index> subscriptions_;
  detail::Directory<Index> clients_;  // sessions by client id
  detail::FilterIndex<Index, has_trees> index_;
  detail::RetainedIndex<Index, has_trees> retained_;
  Blocks blocks_;
  detail::Texts<Index> texts_;
  detail::Queues<Index> queues_;
  detail::Timers<Index> timers_;
  TurnRecord* records_ = nullptr;
  Index* matches_ = nullptr;
  uint8_t* texts_scratch_ = nullptr;  // filters, client ids, properties of answers
  uint8_t* topic_scratch_ = nullptr;  // topics, answers
  uint8_t* assembly_ = nullptr;       // packets that came in parts, for one turn

  Millis last_ms_ = 0;
  Tick now_ = detail::ticks_per_second;
  Tick swept_ = 0;  // when expired retained messages were last looked for
  uint32_t random_ = 1;
  uint32_t generation_ = 0;
  uint32_t route_ = 0;
  uint32_t assembly_used_ = 0;
  Index records_used_ = 0;
  Index due_first_ = none;
  Index due_last_ = none;
  Index turn_ = none;    // links whose queues refer to the arena
  Index gone_ = none;    // links to be freed
  Index paused_ = none;  // links that wait for a full subscriber
  Index gated_ = none;   // links with answers that wait for the journal
  Plan plan_;
  bool wake_ = false;         // a paused publisher may go on
  bool new_aliases_ = false;  // a fill() is going on and has not failed to make an alias
  bool overdue_ = false;      // the packet being retried has waited long enough
  bool stopping_ = false;
  bool restoring_ = false;

  uint8_t memo_[memo_bytes];  // the last topic
  uint32_t memo_size_ = 0;
  uint32_t memo_count_ = 0;  // of matches_
  uint32_t memo_version_ = 0;

  uint64_t sequence_ = 0;  // of the last journal record
  uint64_t durable_ = 0;   // up to here they are safe
  uint64_t gate_ = 0;      // the last one of the packet being handled
  uint64_t message_number_ = 0;
  uint32_t segment_ = 1;  // messages are written once per segment of the journal
};

/// Bytes of memory BrokerEngine::start() needs for these limits.
template <typename Config = BrokerConfig>
constexpr uint64_t broker_bytes(const BrokerLimits& limits) noexcept {
  return BrokerEngine<Config>::memory_bytes(limits);
}

// >> 15. broker — Broker<Transport, Clock, Config>

/// A broker with its memory, pumped over a transport and a clock of the user's. `limits` is a
/// BrokerLimits known at compile time: all memory is inside the object.
///
///     Transport  bool accept_next(uint32_t& link)  a new connection, if any
///                int32_t receive(uint32_t link, uint8_t*, size_t)
///                                                 > 0 bytes, 0 nothing now, < 0 gone
///                int32_t transmit(uint32_t link, const uint8_t*, size_t)
///                                                 bytes taken, maybe fewer; 0 later; < 0 gone
///                void hang_up(uint32_t link)
///     Clock      uint64_t now_ms()                 never back
///
/// `link` is a number below limits.connections that the transport chooses; it is free again after
/// hang_up(). poll-like: call run_once() often; it never blocks.
template <typename Transport, typename Clock, typename Config, const BrokerLimits& limits,
          uint32_t arena_bytes = 256>
class Broker {
 public:
  struct FixedConfig : Config {
    static constexpr const BrokerLimits* fixed_limits = &limits;
  };
  using Engine = BrokerEngine<FixedConfig>;

  Broker(Transport& transport, Clock& clock) noexcept
      : transport_(transport), clock_(clock), engine_(policy_, journal_) {}

  /// `seed`: any random number. See BrokerEngine::start().
  Error start(uint32_t seed) noexcept {
    return engine_.start(limits, {memory_, sizeof memory_}, seed, clock_.now_ms());
  }

  /// One turn for everything that is ready; returns when to call again at the latest (ms).
  Millis run_once() noexcept {
    const Millis now = clock_.now_ms();
    uint32_t link = 0;
    while (transport_.accept_next(link)) {
      if (engine_.admit(ids_[link], now) != Error::none) { transport_.hang_up(link); }
    }
    for (link = 0; link < limits.connections; ++link) {
      if (engine_.wants_read(ids_[link])) { read_link(link, now); }
    }
    finish_turn(now);
    return engine_.deadline();
  }
  Engine& engine() noexcept { return engine_; }
  typename Config::Policy& policy() noexcept { return policy_; }
  typename Config::Journal& journal() noexcept { return journal_; }

 private:
  static constexpr bool shares = limits.turn_records == 0;  // the engine's memory, as scratch
  static constexpr uint32_t scratch_bytes = shares ? 1 : limits.control_packet_bytes_max + 16;

  void read_link(uint32_t link, Millis now) noexcept {
    const int32_t size = transport_.receive(link, arena_, sizeof arena_);
    if (size < 0) {
      drop(link, now);
    } else if (size > 0) {
      engine_.receive(ids_[link], Buffer(arena_, static_cast<uint32_t>(size)), now);
      finish_turn(now);  // the arena is used again
    }
  }
  void finish_turn(Millis now) noexcept {
    engine_.tick(now);
    for (const ConnectionId& id : ids_) { engine_.writable(id); }
    ConnectionId id;
    while (engine_.next_due(id)) { write_link(id, now); }
    engine_.end_turn(now);
  }
  void write_link(ConnectionId id, Millis now) noexcept {
    uint32_t link = 0;
    while (link < limits.connections && ids_[link] != id) { ++link; }
    if (link == limits.connections) { return; }
    while (true) {
      Bytes pieces[8];
      const typename Engine::Output output =
          engine_.fill(id, shares ? engine_.assembly() : Buffer(scratch_), Span<Bytes>(pieces));
      uint32_t taken = 0;
      const bool lost = !offer(link, Span<Bytes>(pieces).first(output.count), taken);
      if (output.size != 0) { engine_.sent(id, taken); }
      if (lost || (output.hang_up && taken == output.size)) { return drop(link, now); }
      if (output.size == 0 || taken < output.size) { return; }
    }
  }
  // False when the link is gone.
  bool offer(uint32_t link, Span<Bytes> pieces, uint32_t& taken) noexcept {
    for (const Bytes& piece : pieces) {
      uint32_t at = 0;
      while (at < piece.size()) {
        const int32_t size = transport_.transmit(link, piece.data() + at, piece.size() - at);
        if (size <= 0) { return size == 0; }
        at += static_cast<uint32_t>(size);
        taken += static_cast<uint32_t>(size);
      }
    }
    return true;
  }
  void drop(uint32_t link, Millis now) noexcept {
    transport_.hang_up(link);
    engine_.lost(ids_[link], now);
    ids_[link] = ConnectionId();
  }
  Transport& transport_;
  Clock& clock_;
  typename Config::Policy policy_;
  typename Config::Journal journal_;
  Engine engine_;
  ConnectionId ids_[limits.connections];  // by link; generation 0: not in use
  uint8_t arena_[arena_bytes];
  uint8_t scratch_[scratch_bytes];
  alignas(16) uint8_t memory_[Engine::memory_bytes(limits)];
};

}  // namespace mqtt

#endif  // MQTT_HPP
