// ports/websocket/websocket.hpp — WebSocket (RFC 6455) for MQTT: upgrade and frames, both sides
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_WEBSOCKET_WEBSOCKET_HPP
#define MQTT_PORTS_WEBSOCKET_WEBSOCKET_HPP

#include <ports/websocket/accept.hpp>
#include <ports/websocket/http.hpp>

namespace mqtt {
namespace websocket {

// ---- the upgrade --------------------------------------------------------------------------

/// The subprotocols of MQTT, in which a server answers [MQTT-6.0.0-4]. The second is what clients
/// of 3.1 ask for; the packets are the same.
inline constexpr Text subprotocols[] = {"mqtt", "mqttv3.1"};

/// What a server must echo of a request it upgrades. Views of the request.
struct Upgrade {
  Text key;
  Text subprotocol;
};

namespace detail {
// The first that the client names and we speak; it says what it prefers.
constexpr Text choose_subprotocol(Text fields) noexcept {
  http::Field field;
  while (http::next_field(fields, field)) {
    if (!http::same_word(field.name, "Sec-WebSocket-Protocol")) { continue; }
    Text offered;
    while (http::next_element(field.value, offered)) {
      for (const Text known : subprotocols) {
        if (known == offered) { return known; }
      }
    }
  }
  return Text();
}
}  // namespace detail

/// Whether a request asks for MQTT over WebSocket (RFC 6455 §4.2.1). Status::none: it asks for
/// something else; switching_protocols: answer with write_accept(); otherwise what refuses it.
/// A client that offers no subprotocol of MQTT is refused [MQTT-6.0.0-3]. Any path will do. With an
/// `origin` browsers may come from there only; what is no browser can say what it likes.
inline http::Status read_upgrade(const http::Request& request, Upgrade& upgrade,
                                 Text origin = Text()) noexcept {
  uint32_t count = 0;
  uint32_t keys = 0;
  (void)http::field_value(request.fields, "Upgrade", count);
  upgrade.key = http::field_value(request.fields, "Sec-WebSocket-Key", keys);
  if (count == 0 && keys == 0) { return http::Status::none; }
  if (request.method != Text("GET")) { return http::Status::method_not_allowed; }
  if (request.http_1_0 || !http::field_has(request.fields, "Upgrade", "websocket") ||
      !http::field_has(request.fields, "Connection", "upgrade")) {
    return http::Status::bad_request;
  }
  const Text version = http::field_value(request.fields, "Sec-WebSocket-Version", count);
  if (count != 1 || version != Text("13")) { return http::Status::upgrade_required; }
  const Text from = http::field_value(request.fields, "Origin", count);
  if (!origin.empty() && (count != 1 || from != origin)) { return http::Status::forbidden; }
  upgrade.subprotocol = detail::choose_subprotocol(request.fields);
  return keys == 1 && is_key(upgrade.key) && !upgrade.subprotocol.empty()
             ? http::Status::switching_protocols
             : http::Status::bad_request;
}

/// Writes the answer that opens the connection; its size, 0 when it does not fit (256 bytes do).
inline uint32_t write_accept(const Upgrade& upgrade, Buffer target) noexcept {
  char accept[accept_size];
  websocket_accept(upgrade.key.data(), accept);
  http::HeadWriter writer(target);
  writer.status(http::Status::switching_protocols)
      .field("Upgrade", "websocket")
      .field("Connection", "Upgrade")
      .field("Sec-WebSocket-Accept", Text(accept, accept_size))
      .field("Sec-WebSocket-Protocol", upgrade.subprotocol)
      .end();
  return writer.size();
}

/// What a client asks a server for.
struct ClientRequest {
  Text host;                  ///< with the port where it is not the usual one
  Text path = "/mqtt";        ///< begins with '/'
  Text subprotocol = "mqtt";  ///< [MQTT-6.0.0-3]
};

/// Writes the request; `key` is base64 of 16 random bytes. 0 when it does not fit.
inline uint32_t write_request(const ClientRequest& request, Text key, Buffer target) noexcept {
  http::HeadWriter writer(target);
  writer.add("GET ")
      .add(request.path)
      .add(" HTTP/1.1\r\n")
      .field("Host", request.host)
      .field("Upgrade", "websocket")
      .field("Connection", "Upgrade")
      .field("Sec-WebSocket-Key", key)
      .field("Sec-WebSocket-Protocol", request.subprotocol)
      .field("Sec-WebSocket-Version", "13")
      .end();
  return writer.size();
}

/// Checks a server's answer (RFC 6455 §4.1); nullptr when the connection is open, or why not.
inline const char* check_accept(Bytes bytes, const ClientRequest& request, Text key) noexcept {
  http::Head head;
  if (!http::split_head(bytes, head) || head.first != Text("HTTP/1.1")) {
    return "the server does not speak HTTP/1.1";
  }
  if (head.second != Text("101")) { return "the server refuses the WebSocket upgrade"; }
  char accept[accept_size];
  websocket_accept(key.data(), accept);
  uint32_t count = 0;
  const Text answer = http::field_value(head.fields, "Sec-WebSocket-Accept", count);
  if (count != 1 || answer != Text(accept, accept_size) ||
      !http::field_has(head.fields, "Upgrade", "websocket") ||
      !http::field_has(head.fields, "Connection", "upgrade")) {
    return "the server's WebSocket answer is wrong";
  }
  const Text subprotocol = http::field_value(head.fields, "Sec-WebSocket-Protocol", count);
  if (count != 1 || subprotocol != request.subprotocol) {
    return "the server does not speak MQTT over WebSocket";
  }
  (void)http::field_value(head.fields, "Sec-WebSocket-Extensions", count);
  return count == 0 ? nullptr : "the server wants an extension that was not offered";
}

// ---- frames -------------------------------------------------------------------------------

enum class Opcode : uint8_t {
  continuation = 0,
  text = 1,
  binary = 2,
  close = 8,
  ping = 9,
  pong = 10
};

/// Why a connection ends (RFC 6455 §7.4.1); `none` is not sent.
enum class CloseCode : uint16_t {
  none = 0,
  normal = 1000,
  going_away = 1001,
  protocol_error = 1002,
  unsupported_data = 1003,
  invalid_payload = 1007
};

inline constexpr uint32_t header_bytes_max = 14;
inline constexpr uint32_t control_bytes_max = 125;  ///< payload of a close, ping or pong

/// Writes the header of an unfragmented frame in its shortest form; its size. `mask`: the four
/// bytes a client has chosen, nullptr for a server.
inline uint32_t write_header(uint8_t (&target)[header_bytes_max], Opcode opcode, uint32_t size,
                             const uint8_t* mask) noexcept {
  const auto masked = static_cast<uint8_t>(mask != nullptr ? 0x80 : 0);
  uint32_t used = 2;
  target[0] = static_cast<uint8_t>(0x80 | static_cast<uint8_t>(opcode));
  if (size < 126) {
    target[1] = static_cast<uint8_t>(masked | size);
  } else if (size < 65536) {
    target[1] = static_cast<uint8_t>(masked | 126);
    target[used++] = static_cast<uint8_t>(size >> 8);
    target[used++] = static_cast<uint8_t>(size);
  } else {
    target[1] = static_cast<uint8_t>(masked | 127);
    memset(target + used, 0, 4);
    used += 4;
    for (uint32_t shift = 32; shift != 0; shift -= 8) {
      target[used++] = static_cast<uint8_t>(size >> (shift - 8));
    }
  }
  if (mask != nullptr) {
    memcpy(target + used, mask, 4);
    used += 4;
  }
  return used;
}

/// target[i] = source[i] xor mask[(phase + i) % 4], a word at a time. `target` may be `source` or
/// lie before it.
inline void apply_mask(uint8_t* target, Bytes source, const uint8_t (&mask)[4],
                       uint32_t phase) noexcept {
  uint8_t turned[8];
  for (uint32_t i = 0; i != sizeof turned; ++i) { turned[i] = mask[(phase + i) % 4]; }
  uint64_t key;
  memcpy(&key, turned, sizeof key);
  uint32_t at = 0;
  for (; source.size() - at >= sizeof key; at += static_cast<uint32_t>(sizeof key)) {
    uint64_t word;
    memcpy(&word, source.data() + at, sizeof word);
    word ^= key;
    memcpy(target + at, &word, sizeof word);
  }
  for (; at < source.size(); ++at) {
    target[at] = static_cast<uint8_t>(source[at] ^ turned[at % 4]);
  }
}

/// Reads the frames of a peer out of a stream that may be cut anywhere. Input: decode(). Outputs:
/// ended(), close_code(), error(), take_ping(). Holds no data but that of control frames, so frames
/// of any size pass through.
class FrameReader {
 public:
  /// `side`: who reads. A broker's peer masks every frame, a client's none (RFC 6455 §5.1).
  explicit FrameReader(Side side = Side::broker) noexcept : side_(side) {}

  /// Moves the payload of data frames together to the front of `bytes`, unmasked; its size. Of
  /// what follows a close frame or an error nothing is read. Only binary frames may come, their
  /// payload is one stream whatever their borders [MQTT-6.0.0-1] [MQTT-6.0.0-2].
  uint32_t decode(Buffer bytes) noexcept {
    uint32_t at = 0;
    uint32_t used = 0;
    while (at < bytes.size() && !ended()) {
      if (!in_frame_) {
        take_header_byte(bytes[at++]);
        continue;
      }
      const uint32_t here = bytes.size() - at;
      const uint32_t size = remaining_ < here ? static_cast<uint32_t>(remaining_) : here;
      const Bytes source(bytes.data() + at, size);
      uint8_t* const target = is_control() ? control_ + control_size_ : bytes.data() + used;
      apply_mask(target, source, mask_, phase_);
      if (is_control()) {
        control_size_ = static_cast<uint8_t>(control_size_ + size);
      } else {
        used += size;
      }
      phase_ = static_cast<uint8_t>((phase_ + size) % 4);
      at += size;
      remaining_ -= size;
      if (remaining_ == 0) { end_frame(); }
    }
    return used;
  }

  /// Whether the peer has closed, or has broken the protocol: nothing more is read.
  bool ended() const noexcept { return code_ != CloseCode::none; }
  /// What to put in our close frame, once ended().
  CloseCode close_code() const noexcept { return code_; }
  /// What the peer did wrong; nullptr when it closed in order.
  const char* error() const noexcept { return error_; }

  /// The payload of the last ping that is not answered yet, valid until decode(); false: there is
  /// none. Earlier ones need no answer (RFC 6455 §5.5.3).
  bool take_ping(Bytes& payload) noexcept {
    if (!has_ping_) { return false; }
    has_ping_ = false;
    payload = Bytes(ping_, ping_size_);
    return true;
  }

 private:
  bool is_control() const noexcept { return opcode_ >= Opcode::close; }

  void fail(CloseCode code, const char* error) noexcept {
    code_ = code;
    error_ = error;
  }
  void fail(const char* error) noexcept { fail(CloseCode::protocol_error, error); }

  void take_header_byte(uint8_t byte) noexcept {
    header_[header_size_++] = byte;
    if (header_size_ == 1) {
      check_first(byte);
    } else if (header_size_ == 2) {
      check_second(byte);
    }
    if (header_size_ < 2 || ended()) { return; }
    const uint8_t length = header_[1] & 0x7F;
    const uint32_t extended = length == 126 ? 2 : length == 127 ? 8 : 0;
    const uint32_t mask_at = 2 + extended;
    if (header_size_ < mask_at + (side_ == Side::broker ? 4U : 0U)) { return; }
    remaining_ = length;
    if (extended != 0) {
      remaining_ = 0;
      for (uint32_t i = 2; i != mask_at; ++i) { remaining_ = remaining_ << 8 | header_[i]; }
      if (remaining_ < (extended == 2 ? 126U : 65536U)) { return fail("frame length not minimal"); }
      if (remaining_ >> 63 != 0) { return fail("frame length above 63 bits"); }
    }
    memset(mask_, 0, sizeof mask_);
    if (side_ == Side::broker) { memcpy(mask_, header_ + mask_at, sizeof mask_); }
    phase_ = 0;
    header_size_ = 0;
    in_frame_ = true;
    if (is_control()) { control_size_ = 0; }
    if (remaining_ == 0) { end_frame(); }
  }

  void check_first(uint8_t byte) noexcept {
    final_ = (byte & 0x80) != 0;
    opcode_ = static_cast<Opcode>(byte & 0x0F);
    if ((byte & 0x70) != 0) { return fail("reserved bit set"); }
    switch (opcode_) {
      case Opcode::continuation:
        if (!in_message_) { fail("continuation of nothing"); }
        return;
      case Opcode::text:
      case Opcode::binary:
        if (in_message_) { return fail("message begins within another"); }
        if (opcode_ == Opcode::text) {
          fail(CloseCode::unsupported_data, "text frame");  // [MQTT-6.0.0-1]
        }
        return;
      case Opcode::close:
      case Opcode::ping:
      case Opcode::pong:
        if (!final_) { fail("fragmented control frame"); }
        return;
    }
    fail("reserved opcode");
  }

  void check_second(uint8_t byte) noexcept {
    const bool masked = (byte & 0x80) != 0;
    if (masked != (side_ == Side::broker)) {
      return fail(masked ? "masked frame from a server" : "unmasked frame from a client");
    }
    if (is_control() && (byte & 0x7F) > control_bytes_max) { fail("control frame too long"); }
  }

  void end_frame() noexcept {
    in_frame_ = false;
    switch (opcode_) {
      case Opcode::continuation:
      case Opcode::text:
      case Opcode::binary: in_message_ = !final_; return;
      case Opcode::close: return end_by_close();
      case Opcode::ping:
        memcpy(ping_, control_, control_size_);
        ping_size_ = control_size_;
        has_ping_ = true;
        return;
      case Opcode::pong: return;
    }
  }

  void end_by_close() noexcept {
    if (control_size_ == 0) {
      code_ = CloseCode::normal;
      return;
    }
    if (control_size_ == 1) { return fail("close frame of one byte"); }
    const auto code = static_cast<uint16_t>(control_[0] << 8 | control_[1]);
    const bool defined =
        (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
        (code >= 3000 && code <= 4999);
    if (!defined) { return fail("close code undefined"); }
    if (!is_utf8(Bytes(control_ + 2, control_size_ - 2U))) {
      return fail(CloseCode::invalid_payload, "close reason not UTF-8");
    }
    code_ = static_cast<CloseCode>(code);
  }

  // As RFC 3629 has it: U+0000 is a character too.
  static bool is_utf8(Bytes text) noexcept {
    uint32_t at = 0;
    while (at < text.size()) {
      const uint32_t size =
          text[at] == 0 ? 1 : mqtt::detail::utf8_character(text.data() + at, text.size() - at);
      if (size == 0) { return false; }
      at += size;
    }
    return true;
  }

  uint64_t remaining_ = 0;  // of the frame's payload
  const char* error_ = nullptr;
  CloseCode code_ = CloseCode::none;
  Side side_;
  Opcode opcode_ = Opcode::continuation;
  bool final_ = false;
  bool in_frame_ = false;    // behind a complete header
  bool in_message_ = false;  // the next data frame continues one
  bool has_ping_ = false;
  uint8_t phase_ = 0;  // of the mask
  uint8_t header_size_ = 0;
  uint8_t control_size_ = 0;
  uint8_t ping_size_ = 0;
  uint8_t mask_[4] = {};
  uint8_t header_[header_bytes_max] = {};
  uint8_t control_[control_bytes_max] = {};
  uint8_t ping_[control_bytes_max] = {};
};

/// Writes a whole control frame of a server; its size. The payload is cut at control_bytes_max.
inline uint32_t write_control(Opcode opcode, Bytes payload, Buffer target) noexcept {
  const uint32_t size = payload.size() < control_bytes_max ? payload.size() : control_bytes_max;
  if (target.size() < size + 2) { return 0; }
  target[0] = static_cast<uint8_t>(0x80 | static_cast<uint8_t>(opcode));
  target[1] = static_cast<uint8_t>(size);
  mqtt::detail::copy(target.data() + 2, payload.data(), size);
  return size + 2;
}

/// A close frame of a server: 4 bytes.
inline uint32_t write_close(CloseCode code, Buffer target) noexcept {
  const uint8_t payload[] = {static_cast<uint8_t>(static_cast<uint16_t>(code) >> 8),
                             static_cast<uint8_t>(code)};
  return write_control(Opcode::close, Bytes(payload), target);
}

}  // namespace websocket
}  // namespace mqtt

#endif
