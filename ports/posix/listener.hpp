// ports/posix/listener.hpp — listening sockets over IPv4, IPv6 and unix paths
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_LISTENER_HPP
#define MQTT_PORTS_POSIX_LISTENER_HPP

#include <netinet/tcp.h>
#include <sys/stat.h>
#include <ports/posix/socket.hpp>

namespace mqtt {
namespace posix {

struct ListenOptions {
  int backlog = 4096;           ///< the system cuts it to its own limit
  bool nodelay = true;          ///< TCP_NODELAY, which accepted sockets inherit
  int send_buffer = 0;          ///< SO_SNDBUF in bytes, inherited too; 0 leaves it to the system
  bool absent_address = false;  ///< listen on an address the machine may get later
  const char* bind_interface = nullptr;  ///< take what comes in by this interface alone
};

namespace detail {
inline bool set_option(int descriptor, int level, int name, int value) noexcept {
  return setsockopt(descriptor, level, name, &value, sizeof value) == 0;
}

inline bool bind_to_interface(int descriptor, const char* name) noexcept {
#ifdef SO_BINDTODEVICE
  return setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, name,
                    static_cast<socklen_t>(strlen(name) + 1)) == 0;
#else
  static_cast<void>(descriptor);
  static_cast<void>(name);
  errno = ENOSYS;
  return false;
#endif
}

inline bool allow_absent_address(int descriptor, int family) noexcept {
#if defined(IP_FREEBIND) && defined(IPV6_FREEBIND)
  return family == AF_INET6 ? set_option(descriptor, IPPROTO_IPV6, IPV6_FREEBIND, 1)
                            : set_option(descriptor, IPPROTO_IP, IP_FREEBIND, 1);
#else
  static_cast<void>(descriptor);
  static_cast<void>(family);
  errno = EADDRNOTAVAIL;
  return false;
#endif
}

inline bool prepare_tcp(int descriptor, int family, const ListenOptions& options) noexcept {
  if (!set_option(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)) { return false; }
  if (options.absent_address && !allow_absent_address(descriptor, family)) { return false; }
  if (options.bind_interface != nullptr && !bind_to_interface(descriptor, options.bind_interface)) {
    return false;
  }
  // So that the IPv4 socket of the same port can stand beside it.
  if (family == AF_INET6 && !set_option(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1)) { return false; }
  if (options.nodelay && !set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1)) { return false; }
  return options.send_buffer == 0 ||
         set_option(descriptor, SOL_SOCKET, SO_SNDBUF, options.send_buffer);
}
}  // namespace detail

/// Opens a non-blocking listening socket on a TCP address into `target`; 0, or an errno.
inline int listen_tcp(const SocketAddress& address, const ListenOptions& options,
                      Descriptor& target) noexcept {
  Descriptor opened(socket(address.any.sa_family, SOCK_STREAM, 0));
  if (!opened || !set_nonblocking(opened.get()) ||
      !detail::prepare_tcp(opened.get(), address.any.sa_family, options) ||
      bind(opened.get(), &address.any, address.size) != 0 ||
      listen(opened.get(), options.backlog) != 0) {
    return errno;
  }
  target.reset(opened.release());
  return 0;
}

/// As listen_tcp, on a path of the file system. A socket that a program left behind at the path
/// is replaced; anything else there is EADDRINUSE.
inline int listen_unix(const char* path, const ListenOptions& options,
                       Descriptor& target) noexcept {
  SocketAddress address;
  const size_t size = strlen(path);
  if (size >= sizeof address.path.sun_path) { return ENAMETOOLONG; }
  address.path.sun_family = AF_UNIX;
  memcpy(address.path.sun_path, path, size + 1);
  struct stat there {};
  if (lstat(path, &there) == 0 && S_ISSOCK(there.st_mode)) {
    Descriptor probe(socket(AF_UNIX, SOCK_STREAM, 0));
    if (probe && connect(probe.get(), &address.any, sizeof address.path) == 0) {
      return EADDRINUSE;
    }
    unlink(path);
  }
  Descriptor opened(socket(AF_UNIX, SOCK_STREAM, 0));
  if (!opened || !set_nonblocking(opened.get()) ||
      bind(opened.get(), &address.any, sizeof address.path) != 0 ||
      listen(opened.get(), options.backlog) != 0) {
    return errno;
  }
  target.reset(opened.release());
  return 0;
}

/// The address a socket is bound to: how to learn the port after asking for port 0.
inline SocketAddress local_address(int descriptor) noexcept {
  SocketAddress address;
  address.size = sizeof address.path;
  if (getsockname(descriptor, &address.any, &address.size) != 0) { address.size = 0; }
  return address;
}

/// The address of the other end; size 0 when there is none.
inline SocketAddress remote_address(int descriptor) noexcept {
  SocketAddress address;
  address.size = sizeof address.path;
  if (getpeername(descriptor, &address.any, &address.size) != 0) { address.size = 0; }
  return address;
}

/// Accepts one connection, non-blocking; -1 with errno.
inline int accept_one(int listener, SocketAddress& peer) noexcept {
  peer.size = sizeof peer.path;
#ifdef __linux__
  return accept4(listener, &peer.any, &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
  Descriptor accepted(accept(listener, &peer.any, &peer.size));
  if (!accepted || !set_nonblocking(accepted.get())) { return -1; }
#ifdef SO_NOSIGPIPE
  (void)detail::set_option(accepted.get(), SOL_SOCKET, SO_NOSIGPIPE, 1);
#endif
  return accepted.release();
#endif
}

}  // namespace posix
}  // namespace mqtt

#endif
