// ports/websocket/accept.hpp — the key of an upgrade and its answer (RFC 6455 §4.2.2)
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_WEBSOCKET_ACCEPT_HPP
#define MQTT_PORTS_WEBSOCKET_ACCEPT_HPP

#include <ports/crypto/hashes.hpp>

namespace mqtt {
namespace websocket {

inline constexpr uint32_t key_size = 24;     ///< of Sec-WebSocket-Key: 16 bytes in base64
inline constexpr uint32_t accept_size = 28;  ///< of Sec-WebSocket-Accept: 20 bytes in base64

/// Whether a text is the base64 of 16 bytes.
inline bool is_key(Text key) noexcept {
  uint8_t bytes[16];
  return key.size() == key_size && crypto::from_base64(key, Buffer(bytes)) == sizeof bytes;
}

/// Writes the Sec-WebSocket-Accept that answers a key of `key_size` characters.
inline void websocket_accept(const char* key, char (&accept)[accept_size]) noexcept {
  crypto::Sha1 hash;
  uint8_t digest[20];
  hash.update(Text(key, key_size).bytes());
  hash.update(Text("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").bytes());
  hash.finish(digest);
  static_assert(crypto::base64_size(sizeof digest) == accept_size, "28 characters");
  crypto::to_base64(Bytes(digest), accept);
}

}  // namespace websocket
}  // namespace mqtt

#endif
