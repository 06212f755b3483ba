// ports/lwip/client.hpp — the transport of a Client on lwIP: names, connections, several servers
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_LWIP_CLIENT_HPP
#define MQTT_PORTS_LWIP_CLIENT_HPP

#include <lwip/dns.h>
#include <ports/lwip/connection.hpp>

namespace mqtt {
namespace lwip {

/// A name, or an address in numbers. The text must live as long as the transport.
struct Server {
  const char* host = "";
  uint16_t port = 1883;
};

/// Where connections come from: plain TCP. For TLS see TlsPcb in ports/lwip/tls.hpp.
struct TcpPcb {
  static constexpr HoldsOutput holds_output = nullptr;
  altcp_pcb* make(const char* /*host*/) noexcept { return altcp_new_ip_type(nullptr, ip_type); }
#if LWIP_IPV4 && LWIP_IPV6
  static constexpr uint8_t ip_type = IPADDR_TYPE_ANY;
#elif LWIP_IPV6
  static constexpr uint8_t ip_type = IPADDR_TYPE_V6;
#else
  static constexpr uint8_t ip_type = IPADDR_TYPE_V4;
#endif
};

/// The Transport hook of Client<Transport, Clock, Config>. Each attempt takes the next server.
/// Names need LWIP_DNS. The client ends an attempt that takes too long (dial_timeout_ms).
///
/// NO_SYS=1: called from the main loop. NO_SYS=0: from one thread of the client's own, which sleeps
/// in wait(). The transport must outlive lwIP's name queries: make it static.
template <typename Pcb = TcpPcb>
class ClientTransport {
 public:
  ClientTransport(Span<const Server> servers, Pcb pcb = {}) noexcept
      : servers_(servers), source_(pcb) {}
  ClientTransport(const ClientTransport&) = delete;
  ClientTransport& operator=(const ClientTransport&) = delete;
  ~ClientTransport() { hang_up(); }

  // ---- the hook -----------------------------------------------------------------------------

  int32_t dial(uint32_t attempt) noexcept {
    const CoreLock lock;
    if (state_ == State::idle) {
      if (servers_.empty() || !wakeup_.start()) { return -1; }
      server_ = attempt % servers_.size();
      resolve();
    }
    if (state_ == State::resolved) { open(); }
    switch (state_) {
      case State::resolving: return 0;
      case State::connecting: break;
      case State::idle:
      case State::resolved:
      case State::failed: return -1;
    }
    if (connection_.is_connected()) { return 1; }
    return connection_.has_ended() ? -1 : 0;
  }
  int32_t receive(uint8_t* target, size_t size) noexcept {
    const CoreLock lock;
    return connection_.receive(target, size);
  }
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    const CoreLock lock;
    const int32_t taken = connection_.transmit(source, size);
    connection_.flush();
    return taken;
  }
  void hang_up() noexcept {
    const CoreLock lock;
    connection_.hang_up();
    state_ = State::idle;
  }

  // ---- for the loop -------------------------------------------------------------------------

  /// Whether there is something to read: then do not sleep.
  bool has_input() const noexcept {
    const CoreLock lock;
    return state_ == State::connecting && connection_.has_input();
  }

#if !NO_SYS
  /// Sleeps until something comes or can be sent, at most until `deadline`.
  template <typename AnyClock>
  void wait(Millis deadline, AnyClock& clock) noexcept {
    constexpr Millis longest = 60000;
    const Millis now = clock.now_ms();
    if (deadline <= now || has_input() || !wakeup_.start()) { return; }
    wakeup_.wait(static_cast<uint32_t>(detail::smaller(deadline - now, longest)));
  }
#endif

 private:
  enum class State : uint8_t { idle, resolving, resolved, connecting, failed };

  void resolve() noexcept {
    const char* const host = servers_[server_].host;
    if (ipaddr_aton(host, &address_) != 0) {
      state_ = State::resolved;
      return;
    }
    state_ = State::failed;
#if LWIP_DNS
    state_ = State::resolving;
    const err_t error = dns_gethostbyname(host, &address_, on_resolved, this);
    if (error == ERR_OK) {
      state_ = State::resolved;
    } else if (error != ERR_INPROGRESS) {
      state_ = State::failed;
    }
#endif
  }

#if LWIP_DNS
  // May be the answer to an earlier attempt: it counts only for the same name.
  static void on_resolved(const char* name, const ip_addr_t* address, void* self) {
    ClientTransport& transport = *static_cast<ClientTransport*>(self);
    if (transport.state_ != State::resolving ||
        Text(name) != Text(transport.servers_[transport.server_].host)) {
      return;
    }
    transport.state_ = address != nullptr ? State::resolved : State::failed;
    if (address != nullptr) { transport.address_ = *address; }
    transport.wakeup_.signal();
  }
#endif

  void open() noexcept {
    state_ = State::failed;
    altcp_pcb* const pcb = source_.make(servers_[server_].host);
    if (pcb == nullptr) { return; }
    const Endpoint peer{address_, servers_[server_].port};
    if (connection_.dial(pcb, Pcb::holds_output, wakeup_, peer)) { state_ = State::connecting; }
  }

  Span<const Server> servers_;
  Pcb source_;
  Wakeup wakeup_;
  Connection connection_;
  ip_addr_t address_{};
  uint32_t server_ = 0;
  State state_ = State::idle;
};

}  // namespace lwip
}  // namespace mqtt

#endif
