// examples/mqttd/listeners.hpp — opens the sockets of a configuration
// SPDX-License-Identifier: MIT
#ifndef MQTTD_LISTENERS_HPP
#define MQTTD_LISTENERS_HPP

#include <netdb.h>
#include <ports/posix/listener.hpp>

#include "limits.hpp"
#include "options.hpp"
#include "tls.hpp"

namespace mqttd {

/// Hands sockets to a loop, which keeps them; a listener's index is its group there.
template <typename Loop>
class Listeners {
 public:
  Listeners(const Options& options, Loop& loop, Log& log)
      : options_(options), loop_(loop), log_(log) {}

  /// Says what lies below MQTT on each listener: before the loop's start(), and again when the
  /// settings are new ones, both of which must outlive the loop's next connection.
  static void set_layers(const Options& options, TlsContexts& tls, Loop& loop) {
    for (uint32_t i = 0; i != options.listener_count; ++i) {
      const ListenerOptions& listener = options.listeners[i];
      mqtt::posix::LayerOptions<Tls> layers;
      layers.proxy = header(listener.proxy);
      layers.tls = listener.uses_tls() ? &tls.of(i) : nullptr;
      layers.websocket = listener.protocol == Protocol::websockets;
      layers.origin = listener.websockets_origin;
      layers.http_folder = listener.http_dir;
      loop.layers().set(i, layers);
    }
  }

  /// False: the error is logged.
  bool open() {
    for (uint32_t i = 0; i != options_.listener_count; ++i) {
      const ListenerOptions& listener = options_.listeners[i];
      const bool good = listener.path != nullptr ? open_path(i)
                        : listener.loopback || is_localhost(listener.host)
                            ? open_both(i, "127.0.0.1", "::1")
                        : listener.host == nullptr ? open_both(i, "0.0.0.0", "::")
                                                   : open_host(i);
      if (!good) { return false; }
    }
    return true;
  }

 private:
  static mqtt::posix::ProxyHeader header(ProxyProtocol proxy) {
    switch (proxy) {
      case ProxyProtocol::none: break;
      case ProxyProtocol::v1: return mqtt::posix::ProxyHeader::v1;
      case ProxyProtocol::v2: return mqtt::posix::ProxyHeader::v2;
      case ProxyProtocol::any: return mqtt::posix::ProxyHeader::any;
    }
    return mqtt::posix::ProxyHeader::none;
  }

  static bool is_localhost(const char* host) {
    return host != nullptr && strcmp(host, "localhost") == 0;
  }

  bool report(uint32_t index, int error) {
    const ListenerOptions& listener = options_.listeners[index];
    log_.line(log_error, "Error: %s", strerror(error));
    if (error == EACCES && listener.path == nullptr) {
      log_.line(
          log_error,
          "Error: Port %u is below 1024: start mqttd as root with 'user NAME' in the file, or "
          "give it the right to: setcap cap_net_bind_service=+ep mqttd",
          listener.port);
    } else if (error == EPERM && listener.bind_interface != nullptr) {
      log_.line(log_error, "Error: bind_interface %s needs the right cap_net_raw.",
                listener.bind_interface);
    } else if (error == ENODEV && listener.bind_interface != nullptr) {
      log_.line(log_error, "Error: There is no interface %s.", listener.bind_interface);
    }
    return false;
  }

  bool give_to_loop(mqtt::posix::Descriptor& socket, uint32_t index) {
    const int64_t most = options_.listeners[index].max_connections;
    const uint32_t limit = most <= 0 ? 0xFFFFFFFF : at_most<uint32_t>(most, 0xFFFFFFFE);
    const int error = loop_.add_listener(socket, index, limit);
    return error == 0 || report(index, error);
  }

  bool open_path(uint32_t index) {
    const char* path = options_.listeners[index].path;
    log_.line(log_information, "Opening unix listen socket on path %s.", path);
    mqtt::posix::Descriptor socket;
    const int error = mqtt::posix::listen_unix(path, mqtt::posix::ListenOptions{}, socket);
    return error == 0 ? give_to_loop(socket, index) : report(index, error);
  }

  // An errno, 0 when it listens.
  int open_address(uint32_t index, const mqtt::posix::SocketAddress& address,
                   mqtt::posix::Descriptor& socket) {
    const bool v6 = address.any.sa_family == AF_INET6;
    const bool websockets = options_.listeners[index].protocol == Protocol::websockets;
    log_.line(log_information, "Opening %s %slisten socket on port %u.", v6 ? "ipv6" : "ipv4",
              websockets ? "websockets " : "", options_.listeners[index].port);
    mqtt::posix::ListenOptions listen;
    listen.nodelay = options_.set_tcp_nodelay;
    listen.bind_interface = options_.listeners[index].bind_interface;
    const int error = mqtt::posix::listen_tcp(address, listen, socket);
    const bool named = options_.listeners[index].host != nullptr;
    if (error != EADDRNOTAVAIL || !named || is_localhost(options_.listeners[index].host)) {
      return error;
    }
    // At boot the network may come later than we do.
    log_.line(log_warning,
              "Warning: This machine does not have the address %s yet; clients can connect as soon "
              "as it does.",
              options_.listeners[index].host);
    listen.absent_address = true;
    return mqtt::posix::listen_tcp(address, listen, socket);
  }

  // One of the two families may be missing on this machine.
  bool open_both(uint32_t index, const char* v4, const char* v6) {
    const ListenerOptions& listener = options_.listeners[index];
    int missing = 0;
    uint32_t opened = 0;
    const char* const hosts[] = {v4, v6};
    for (const char* host : hosts) {
      mqtt::posix::SocketAddress address;
      (void)address.read(host, listener.port);
      if (listener.domain != 0 && listener.domain != address.any.sa_family) { continue; }
      mqtt::posix::Descriptor socket;
      const int error = open_address(index, address, socket);
      if (error == EAFNOSUPPORT || error == EADDRNOTAVAIL) {
        missing = error;
      } else if (error != 0) {
        return report(index, error);
      } else if (!give_to_loop(socket, index)) {
        return false;
      } else {
        ++opened;
      }
    }
    return opened != 0 || report(index, missing);
  }

  bool open_host(uint32_t index) {
    const ListenerOptions& listener = options_.listeners[index];
    mqtt::posix::SocketAddress address;
    mqtt::posix::Descriptor socket;
    if (address.read(listener.host, listener.port)) {
      const int error = open_address(index, address, socket);
      return error == 0 ? give_to_loop(socket, index) : report(index, error);
    }
    addrinfo hints{};
    hints.ai_family = listener.domain;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    char port[8];
    snprintf(port, sizeof port, "%u", listener.port);
    const int problem = getaddrinfo(listener.host, port, &hints, &found);
    if (problem != 0) {
      log_.line(log_error, "Error: Unable to resolve '%s': %s", listener.host,
                gai_strerror(problem));
      return false;
    }
    bool good = true;
    for (const addrinfo* each = found; each != nullptr && good; each = each->ai_next) {
      memcpy(&address.any, each->ai_addr, each->ai_addrlen);
      address.size = each->ai_addrlen;
      const int error = open_address(index, address, socket);
      good = error == 0 ? give_to_loop(socket, index) : report(index, error);
    }
    freeaddrinfo(found);
    return good;
  }

  const Options& options_;
  Loop& loop_;
  Log& log_;
};

}  // namespace mqttd

#endif
