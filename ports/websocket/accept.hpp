// ports/websocket/accept.hpp — the accept key of RFC 6455 §4.2.2: SHA-1 and base64
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_WEBSOCKET_ACCEPT_HPP
#define MQTT_PORTS_WEBSOCKET_ACCEPT_HPP

#include <mqtt.hpp>

namespace mqtt {
namespace websocket {

namespace detail {
inline constexpr char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr uint32_t rotated(uint32_t word, uint32_t count) noexcept {
  return word << count | word >> (32 - count);
}

// One 64-byte block of SHA-1 (FIPS 180-4 §6.1.2). Here it only proves that the server has read
// the key; nothing rests on its strength.
inline void sha1_block(uint32_t (&state)[5], const uint8_t* block) noexcept {
  uint32_t words[80];
  for (uint32_t i = 0; i != 16; ++i) {
    const uint8_t* bytes = block + size_t{4} * i;
    words[i] = uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 |
               uint32_t{bytes[3]};
  }
  for (uint32_t i = 16; i != 80; ++i) {
    words[i] = rotated(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
  }
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
  for (uint32_t i = 0; i != 80; ++i) {
    const uint32_t choice = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                            : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                            : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                                     : (b ^ c ^ d) + 0xCA62C1D6;
    const uint32_t next = rotated(a, 5) + choice + e + words[i];
    e = d;
    d = c;
    c = rotated(b, 30);
    b = a;
    a = next;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
}

inline void base64(const uint8_t* source, uint32_t size, char* target) noexcept {
  for (uint32_t i = 0; i < size; i += 3) {
    const uint32_t left = size - i;
    const uint32_t group = uint32_t{source[i]} << 16 |
                           (left > 1 ? uint32_t{source[i + 1]} << 8 : 0U) |
                           (left > 2 ? uint32_t{source[i + 2]} : 0U);
    *target++ = base64_digits[group >> 18];
    *target++ = base64_digits[group >> 12 & 63];
    *target++ = left > 1 ? base64_digits[group >> 6 & 63] : '=';
    *target++ = left > 2 ? base64_digits[group & 63] : '=';
  }
}
}  // namespace detail

inline constexpr uint32_t key_size = 24;     ///< of Sec-WebSocket-Key: 16 bytes in base64
inline constexpr uint32_t accept_size = 28;  ///< of Sec-WebSocket-Accept: 20 bytes in base64

/// Writes the Sec-WebSocket-Accept that answers a key of `key_size` characters.
inline void websocket_accept(const char* key, char (&accept)[accept_size]) noexcept {
  constexpr char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  constexpr uint32_t size = key_size + sizeof guid - 1;
  static_assert(size < 64 && size >= 56, "two blocks");
  uint8_t blocks[128] = {};
  memcpy(blocks, key, key_size);
  memcpy(blocks + key_size, guid, sizeof guid - 1);
  blocks[size] = 0x80;
  blocks[126] = static_cast<uint8_t>(size * 8 >> 8);
  blocks[127] = static_cast<uint8_t>(size * 8);
  uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  detail::sha1_block(state, blocks);
  detail::sha1_block(state, blocks + 64);
  uint8_t digest[20];
  for (uint32_t i = 0; i != sizeof digest; ++i) {
    digest[i] = static_cast<uint8_t>(state[i / 4] >> (24 - i % 4 * 8));
  }
  detail::base64(digest, sizeof digest, accept);
}

}  // namespace websocket
}  // namespace mqtt

#endif
