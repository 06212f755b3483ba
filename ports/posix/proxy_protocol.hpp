// ports/posix/proxy_protocol.hpp — PROXY protocol, versions 1 and 2: who is behind the proxy
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_PROXY_PROTOCOL_HPP
#define MQTT_PORTS_POSIX_PROXY_PROTOCOL_HPP

#include <ports/posix/socket.hpp>

namespace mqtt {
namespace posix {

/// Which header a listener expects before anything else. Without one nobody is let in: a client
/// that could leave it out, or send it where none is expected, could claim any address.
enum class ProxyHeader : uint8_t { none, v1, v2, any };

/// What the first bytes of a connection are.
struct ProxyResult {
  enum class State : uint8_t { incomplete, invalid, complete };

  State state = State::incomplete;
  uint32_t size = 0;      ///< of the header in the bytes given
  uint32_t skip = 0;      ///< more bytes of it that follow and say nothing here
  SocketAddress address;  ///< of the client; size 0: the proxy speaks for itself
};

namespace detail {
inline constexpr uint8_t proxy_v2_signature[12] = {0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D,
                                                   0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A};
inline constexpr uint32_t proxy_v1_bytes_max = 107;  // with its CR LF
inline constexpr uint32_t proxy_v2_head_bytes = 16;
inline constexpr char proxy_v1_begin[] = "PROXY ";

inline bool begins_alike(Bytes bytes, const void* expected, uint32_t size) noexcept {
  return memcmp(bytes.data(), expected, bytes.size() < size ? bytes.size() : size) == 0;
}

// The next word of a line whose words are divided by one space.
inline Text next_word(Text& line) noexcept {
  uint32_t end = 0;
  while (end < line.size() && line[end] != ' ') { ++end; }
  const Text word(line.data(), end);
  line = end < line.size() ? Text(line.data() + end + 1, line.size() - end - 1) : Text();
  return word;
}

// Decimal without leading zeros; false above 65535 or if it is none.
inline bool read_port(Text word, uint16_t& port) noexcept {
  uint32_t number = 0;
  for (const char c : word) {
    if (c < '0' || c > '9' || number > 6553) { return false; }
    number = number * 10 + static_cast<uint32_t>(c - '0');
  }
  port = static_cast<uint16_t>(number);
  return !word.empty() && number <= 65535 && (word.size() == 1 || word[0] != '0');
}

inline bool read_v1_address(int family, Text host, Text port, SocketAddress& address) noexcept {
  char text[INET6_ADDRSTRLEN] = {};
  uint16_t number = 0;
  if (host.empty() || host.size() >= sizeof text || !read_port(port, number)) { return false; }
  memcpy(text, host.data(), host.size());
  return address.read(text, number) && address.any.sa_family == family;
}

inline void read_v1_line(Text line, ProxyResult& result) noexcept {
  const Text family = next_word(line);
  if (family == Text("UNKNOWN")) { return; }
  const int wanted = family == Text("TCP4") ? AF_INET : family == Text("TCP6") ? AF_INET6 : 0;
  const Text source = next_word(line);
  const Text target = next_word(line);
  const Text source_port = next_word(line);
  SocketAddress ignored;
  if (wanted == 0 || !read_v1_address(wanted, source, source_port, result.address) ||
      !read_v1_address(wanted, target, line, ignored)) {
    result.state = ProxyResult::State::invalid;
  }
}

inline ProxyResult read_proxy_v1(Bytes bytes) noexcept {
  ProxyResult result;
  const uint32_t begin = sizeof proxy_v1_begin - 1;
  uint32_t end = 0;
  while (end < bytes.size() && end < proxy_v1_bytes_max && bytes[end] != '\n') { ++end; }
  const bool has_line = end < bytes.size() && end < proxy_v1_bytes_max;
  if (!begins_alike(bytes, proxy_v1_begin, begin) || (!has_line && end == proxy_v1_bytes_max) ||
      (has_line && (end <= begin || bytes[end - 1] != '\r'))) {
    result.state = ProxyResult::State::invalid;
  } else if (has_line) {
    result.state = ProxyResult::State::complete;
    result.size = end + 1;
    const Text line(bytes);
    read_v1_line(Text(line.data() + begin, end - 1 - begin), result);
  }
  return result;
}

// The address block of version 2, as long as its family says.
inline void read_v2_block(uint8_t family, const uint8_t* block, SocketAddress& address) noexcept {
  if (family == 0x11) {
    address.v4.sin_family = AF_INET;
    memcpy(&address.v4.sin_addr, block, 4);
    memcpy(&address.v4.sin_port, block + 8, 2);
    address.size = sizeof address.v4;
  } else if (family == 0x21) {
    address.v6.sin6_family = AF_INET6;
    memcpy(&address.v6.sin6_addr, block, 16);
    memcpy(&address.v6.sin6_port, block + 32, 2);
    address.size = sizeof address.v6;
  } else if (family == 0x31) {
    address.path.sun_family = AF_UNIX;
    memcpy(address.path.sun_path, block, sizeof address.path.sun_path - 1);
    address.size = sizeof address.path;
  }
}

inline ProxyResult read_proxy_v2(Bytes bytes) noexcept {
  ProxyResult result;
  result.state = ProxyResult::State::invalid;
  if (!begins_alike(bytes, proxy_v2_signature, sizeof proxy_v2_signature)) { return result; }
  const bool local = bytes.size() > 12 && bytes[12] == 0x20;
  if (bytes.size() > 12 && !local && bytes[12] != 0x21) { return result; }
  result.state = ProxyResult::State::incomplete;
  if (bytes.size() < proxy_v2_head_bytes) { return result; }
  const uint8_t family = bytes[13];
  const uint32_t length = uint32_t{bytes[14]} << 8 | bytes[15];
  // Streams over IPv4, IPv6 and unix sockets; 0: the proxy does not know.
  const uint32_t block = local || family == 0 ? 0U
                         : family == 0x11     ? 12U
                         : family == 0x21     ? 36U
                         : family == 0x31     ? 216U
                                              : 65536U;
  if (length < block) {
    result.state = ProxyResult::State::invalid;
  } else if (bytes.size() - proxy_v2_head_bytes >= block) {
    if (block != 0) { read_v2_block(family, bytes.data() + proxy_v2_head_bytes, result.address); }
    const uint32_t whole = proxy_v2_head_bytes + length;
    result.state = ProxyResult::State::complete;
    result.size = whole < bytes.size() ? whole : bytes.size();
    result.skip = whole - result.size;
  }
  return result;
}
}  // namespace detail

/// What a header needs at most before it is complete or invalid; what more it has is skipped.
inline constexpr uint32_t proxy_header_bytes_max = detail::proxy_v2_head_bytes + 216;

/// Reads the header at the beginning of `bytes`, of which more may follow.
inline ProxyResult read_proxy_header(Bytes bytes, ProxyHeader expected) noexcept {
  ProxyResult result;
  if (bytes.empty()) { return result; }
  const bool is_v2 = bytes[0] == detail::proxy_v2_signature[0];
  if (expected == (is_v2 ? ProxyHeader::v1 : ProxyHeader::v2)) {
    result.state = ProxyResult::State::invalid;
    return result;
  }
  return is_v2 ? detail::read_proxy_v2(bytes) : detail::read_proxy_v1(bytes);
}

}  // namespace posix
}  // namespace mqtt

#endif
