// ports/posix/client.hpp — the hooks of a Client over TCP and Unix sockets: dialing, waiting, time
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_CLIENT_HPP
#define MQTT_PORTS_POSIX_CLIENT_HPP

#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <ports/posix/clock.hpp>
#include <ports/posix/socket.hpp>

namespace mqtt {
namespace posix {

/// The Clock hook of Client.
class ClientClock : public MonotonicClock {
 public:
  ClientClock() noexcept
      : state_((static_cast<uint32_t>(now_ms()) ^ (static_cast<uint32_t>(getpid()) << 16)) | 1) {}
  /// xorshift: good enough to keep clients from dialing at once.
  uint32_t random() noexcept {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }

 private:
  uint32_t state_;
};

/// A name or an address, and a port by number or name; or the path of a Unix socket, which begins
/// with '/'. The texts must live as long as the transport.
struct Server {
  const char* host = "localhost";
  const char* port = "1883";
  const char* source = nullptr;  ///< the address in numbers to dial from; none: the system chooses
};

/// The addresses of a server in the order in which they are tried.
struct Addresses {
  static constexpr uint32_t most = 16;
  SocketAddress list[most];
  uint32_t count = 0;

  bool add(const void* address, socklen_t size) noexcept {
    if (count == most || size > sizeof(sockaddr_un)) { return false; }
    memcpy(&list[count].path, address, size);
    list[count].size = size;
    count += 1;
    return true;
  }
};

/// Asks the system's resolver, the one thing in this file that may block. The way round it: give
/// addresses in numbers, or another Resolver whose resolve() answers 0 until it is done.
struct SystemResolver {
  /// Fills `addresses`: > 0 done, 0 later, < 0 failed; `error` is then one of getaddrinfo().
  static int32_t resolve(const Server& server, Addresses& addresses, int& error) noexcept {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    error = getaddrinfo(server.host, server.port, &hints, &found);
    if (error != 0) { return -1; }
    interleave(found, addresses);
    freeaddrinfo(found);
    return 1;
  }

 private:
  // The families take turns, beginning with the one that the system prefers (RFC 8305 §4).
  static void interleave(const addrinfo* found, Addresses& addresses) noexcept {
    const int preferred = found->ai_family;
    const addrinfo* first = found;
    const addrinfo* second = found;
    while (first != nullptr || second != nullptr) {
      while (first != nullptr && first->ai_family != preferred) { first = first->ai_next; }
      while (second != nullptr && second->ai_family == preferred) { second = second->ai_next; }
      if (first != nullptr) {
        addresses.add(first->ai_addr, first->ai_addrlen);
        first = first->ai_next;
      }
      if (second != nullptr) {
        addresses.add(second->ai_addr, second->ai_addrlen);
        second = second->ai_next;
      }
    }
  }
};

/// The Transport hook of Client over TCP and Unix sockets. Each attempt takes the next server; its
/// addresses are tried a quarter of a second apart, and the first that answers wins (RFC 8305).
/// The client gives an attempt up after Config::dial_timeout_ms.
template <typename Resolver = SystemResolver>
class ClientTransport {
 public:
  explicit ClientTransport(Span<const Server> servers, Resolver resolver = Resolver()) noexcept
      : servers_(servers), resolver_(resolver) {}

  // --- the hook ---

  int32_t dial(uint32_t attempt) noexcept {
    if (!resolved_) {
      server_ = &servers_[attempt % servers_.size()];
      const int32_t done = resolve(*server_);
      if (done <= 0) { return done; }
    }
    if (take_winner()) { return 1; }
    const Millis now = clock_.now_ms();
    while (next_ < addresses_.count && (pending() == 0 || now >= next_at_)) {
      if (begin(next_)) { next_at_ = now + step_ms; }
      next_ += 1;
    }
    if (take_winner()) { return 1; }
    return pending() == 0 && next_ == addresses_.count ? -1 : 0;
  }
  int32_t receive(uint8_t* target, size_t size) noexcept {
    const ssize_t got = recv(socket_.get(), target, size < INT32_MAX ? size : INT32_MAX, 0);
    if (got < 0) { return try_later(errno) ? 0 : fail(errno); }
    return got == 0 && size != 0 ? fail(ECONNRESET) : static_cast<int32_t>(got);
  }
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    const ssize_t taken =
        send(socket_.get(), source, size < INT32_MAX ? size : INT32_MAX, send_flags);
    blocked_ = taken < static_cast<ssize_t>(size);
    if (taken < 0) { return try_later(errno) ? 0 : fail(errno); }
    return static_cast<int32_t>(taken);
  }
  void hang_up() noexcept {
    for (Descriptor& each : trying_) { each.reset(); }
    socket_.reset();
    resolved_ = blocked_ = false;
  }

  // --- waiting ---

  /// Sleeps until there is something to read, room to write again, a dial has got on, `other` can
  /// be read, or `deadline` (of Client::deadline()); a signal ends it too. Whether `other` can be.
  bool wait_until(Millis deadline, int other = -1) noexcept {
    pollfd waits[Addresses::most + 2];
    nfds_t count = 0;
    if (other >= 0) { waits[count++] = {other, POLLIN, 0}; }
    if (socket_) {
      waits[count++] = {socket_.get(), static_cast<short>(POLLIN | (blocked_ ? POLLOUT : 0)), 0};
    }
    for (const Descriptor& each : trying_) {
      if (each) { waits[count++] = {each.get(), POLLOUT, 0}; }
    }
    if (!socket_ && resolved_ && next_ < addresses_.count && next_at_ < deadline) {
      deadline = next_at_;
    }
    poll(waits, count, wait_ms(deadline, clock_.now_ms()));
    return other >= 0 && waits[0].revents != 0;
  }
  /// Of the link, to wait on with others; -1 when there is none.
  int descriptor() const noexcept { return socket_.get(); }

  /// Why the last dial or link failed: an errno, and what getaddrinfo() said when it failed.
  int error() const noexcept { return error_; }
  /// Whether the name was not found, so that there was nothing to dial.
  bool lookup_failed() const noexcept { return resolver_error_ != 0; }
  const char* error_text() const noexcept {
    return resolver_error_ != 0 ? gai_strerror(resolver_error_) : strerror(error_);
  }

 private:
  static constexpr Millis step_ms = 250;

  int32_t fail(int error) noexcept {
    error_ = error;
    return -1;
  }

  int32_t resolve(const Server& server) noexcept {
    addresses_.count = next_ = 0;
    resolver_error_ = 0;
    if (server.host[0] == '/') {
      sockaddr_un path{};
      path.sun_family = AF_UNIX;
      const size_t size = strlen(server.host);
      if (size >= sizeof path.sun_path) { return fail(ENAMETOOLONG); }
      memcpy(path.sun_path, server.host, size);
      addresses_.add(&path, sizeof path);
      resolved_ = true;
      return 1;
    }
    const int32_t done = resolver_.resolve(server, addresses_, resolver_error_);
    if (done < 0) { return fail(EHOSTUNREACH); }
    resolved_ = done > 0;
    return done;
  }

  uint32_t pending() const noexcept {
    uint32_t count = 0;
    for (const Descriptor& each : trying_) { count += each ? 1U : 0U; }
    return count;
  }
  bool begin(uint32_t index) noexcept {
    const SocketAddress& address = addresses_.list[index];
    Descriptor& socket = trying_[index];
    socket.reset(::socket(address.any.sa_family, SOCK_STREAM, 0));
    const int on = 1;
    if (!socket || !set_nonblocking(socket.get())) { return abandon(socket, errno); }
    if (address.any.sa_family != AF_UNIX) {
      setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      SocketAddress source;
      if (server_->source != nullptr &&
          (!source.read(server_->source, 0) || bind(socket.get(), &source.any, source.size) != 0)) {
        return abandon(socket, source.size == 0 ? EINVAL : errno);
      }
    }
    if (connect(socket.get(), &address.any, address.size) == 0 || errno == EINPROGRESS) {
      return true;
    }
    return abandon(socket, errno);
  }
  bool abandon(Descriptor& socket, int error) noexcept {
    socket.reset();
    error_ = error;
    return false;
  }
  // Whether one is connected: then it is the link, and the others are given up.
  bool take_winner() noexcept {
    for (Descriptor& each : trying_) {
      pollfd wait{each.get(), POLLOUT, 0};
      if (!each || poll(&wait, 1, 0) != 1) { continue; }
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(each.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) {
        abandon(each, error);
        next_at_ = 0;  // the next need not wait
        continue;
      }
      const int winner = each.release();
      for (Descriptor& other : trying_) { other.reset(); }
      socket_.reset(winner);
      blocked_ = false;
      return true;
    }
    return false;
  }

  Span<const Server> servers_;
  const Server* server_ = nullptr;  // the one being dialed
  Resolver resolver_;
  MonotonicClock clock_;
  Addresses addresses_;
  uint32_t next_ = 0;  // the first address not tried
  Millis next_at_ = 0;
  Descriptor trying_[Addresses::most];
  Descriptor socket_;
  bool resolved_ = false;
  bool blocked_ = false;  // the last transmit() was short
  int error_ = 0;
  int resolver_error_ = 0;
};

}  // namespace posix
}  // namespace mqtt

#endif
