// ports/posix/socket.hpp — descriptors and addresses
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_SOCKET_HPP
#define MQTT_PORTS_POSIX_SOCKET_HPP

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <mqtt.hpp>

namespace mqtt {
namespace posix {

#ifdef MSG_NOSIGNAL
inline constexpr int send_flags = MSG_NOSIGNAL;
#else
inline constexpr int send_flags = 0;  // the program ignores SIGPIPE
#endif

/// A descriptor that is closed at the end; -1 is none.
class Descriptor {
 public:
  Descriptor() noexcept = default;
  explicit Descriptor(int value) noexcept : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }

  int get() const noexcept { return value_; }
  explicit operator bool() const noexcept { return value_ >= 0; }
  /// Gives the descriptor away.
  int release() noexcept {
    const int value = value_;
    value_ = -1;
    return value;
  }
  void reset(int value = -1) noexcept {
    if (value_ >= 0) { ::close(value_); }
    value_ = value;
  }

 private:
  int value_ = -1;
};

inline bool set_nonblocking(int descriptor) noexcept {
  const int flags = fcntl(descriptor, F_GETFL);
  return flags >= 0 && fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0 &&
         fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0;
}

/// Whether a call that failed with `error` may be tried again later on the same descriptor.
constexpr bool try_later(int error) noexcept {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/// The address of a peer or of a listening socket.
struct SocketAddress {
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
    sockaddr_un path;
  };
  socklen_t size = 0;

  SocketAddress() noexcept { memset(&path, 0, sizeof path); }

  uint16_t port() const noexcept {
    if (any.sa_family == AF_INET) { return ntohs(v4.sin_port); }
    return any.sa_family == AF_INET6 ? ntohs(v6.sin6_port) : uint16_t{0};
  }
  /// Writes "127.0.0.1", "::1" or "unix" into `target`, zero-terminated.
  void write_host(char (&target)[INET6_ADDRSTRLEN]) const noexcept {
    const void* source = any.sa_family == AF_INET ? static_cast<const void*>(&v4.sin_addr)
                                                  : static_cast<const void*>(&v6.sin6_addr);
    const bool internet = any.sa_family == AF_INET || any.sa_family == AF_INET6;
    if (!internet || inet_ntop(any.sa_family, source, target, INET6_ADDRSTRLEN) == nullptr) {
      memcpy(target, "unix", 5);
    }
  }
  /// Reads a numeric IPv4 or IPv6 address; false when `host` is none.
  bool read(const char* host, uint16_t port) noexcept {
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
      v4.sin_family = AF_INET;
      v4.sin_port = htons(port);
      size = sizeof v4;
      return true;
    }
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(port);
      size = sizeof v6;
      return true;
    }
    return false;
  }
};

}  // namespace posix
}  // namespace mqtt

#endif
