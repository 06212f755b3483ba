// ports/lwip/broker.hpp — the transport of a Broker on lwIP: a listener and its connections
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_LWIP_BROKER_HPP
#define MQTT_PORTS_LWIP_BROKER_HPP

#include <ports/lwip/connection.hpp>

namespace mqtt {
namespace lwip {

/// The Transport hook of Broker<Transport, Clock, Config, limits>; `links` is its
/// limits.connections. One more connection than that is reset as soon as it is there.
///
/// NO_SYS=1: everything is called from the main loop, with lwIP's own work:
///
///     while (true) { …driver…; sys_check_timeouts(); broker.run_once(); transport.flush(); }
///
/// NO_SYS=0: from one thread of the broker's own, which sleeps in wait():
///
///     while (true) { const mqtt::Millis due = broker.run_once(); transport.wait(due, clock); }
///
/// What a turn writes to a connection leaves at flush(), which wait() does as well.
template <uint32_t links>
class BrokerTransport {
 public:
  BrokerTransport() noexcept = default;
  BrokerTransport(const BrokerTransport&) = delete;
  BrokerTransport& operator=(const BrokerTransport&) = delete;
  ~BrokerTransport() { stop(); }

  /// Listens on `port` of all addresses with a new pcb: altcp_new(nullptr) for TCP, or one of
  /// altcp_tls_new() with tls_holds_output (ports/lwip/tls.hpp). The pcb is the transport's from
  /// now on, also on error.
  err_t start(altcp_pcb* pcb, uint16_t port, HoldsOutput holds = nullptr) noexcept {
    const CoreLock lock;
    if (pcb == nullptr || !wakeup_.start()) { return ERR_MEM; }
    holds_ = holds;
    const err_t error = altcp_bind(pcb, IP_ANY_TYPE, port);
    if (error != ERR_OK) {
      altcp_close(pcb);
      return error;
    }
    altcp_pcb* const listener = altcp_listen_with_backlog(pcb, static_cast<uint8_t>(links));
    if (listener == nullptr) {
      altcp_close(pcb);
      return ERR_MEM;
    }
    altcp_arg(listener, this);
    altcp_accept(listener, on_accept);
    listener_ = listener;
    return ERR_OK;
  }

  /// Closes the listener and every connection. The destructor does so too.
  void stop() noexcept {
    const CoreLock lock;
    if (listener_ != nullptr) { altcp_close(listener_); }
    listener_ = nullptr;
    for (uint32_t link = 0; link < links; ++link) { close_slot(slots_[link]); }
  }

  // ---- the hook -----------------------------------------------------------------------------

  bool accept_next(uint32_t& link) noexcept {
    const CoreLock lock;
    for (link = 0; link < links; ++link) {
      if (slots_[link].use == Use::fresh) {
        slots_[link].use = Use::taken;
        return true;
      }
    }
    return false;
  }
  int32_t receive(uint32_t link, uint8_t* target, size_t size) noexcept {
    const CoreLock lock;
    return slots_[link].connection.receive(target, size);
  }
  int32_t transmit(uint32_t link, const uint8_t* source, size_t size) noexcept {
    const CoreLock lock;
    return slots_[link].connection.transmit(source, size);
  }
  void hang_up(uint32_t link) noexcept {
    const CoreLock lock;
    close_slot(slots_[link]);
  }

  // ---- for the loop -------------------------------------------------------------------------

  void flush() noexcept {
    const CoreLock lock;
    for (Slot& slot : slots_) { slot.connection.flush(); }
  }

  /// Whether a turn would find something to read: then do not sleep.
  bool has_input() const noexcept {
    const CoreLock lock;
    for (const Slot& slot : slots_) {
      if (slot.use == Use::fresh || slot.connection.has_input()) { return true; }
    }
    return false;
  }

#if !NO_SYS
  /// Flushes, then sleeps until something comes or can be sent, at most until `deadline`.
  template <typename AnyClock>
  void wait(Millis deadline, AnyClock& clock) noexcept {
    constexpr Millis longest = 60000;
    flush();
    const Millis now = clock.now_ms();
    if (deadline <= now || has_input()) { return; }
    wakeup_.wait(static_cast<uint32_t>(detail::smaller(deadline - now, longest)));
  }
#endif

 private:
  enum class Use : uint8_t { free, fresh, taken };
  struct Slot {
    Connection connection;
    Use use = Use::free;
  };

  static err_t on_accept(void* self, altcp_pcb* pcb, err_t error) {
    BrokerTransport& transport = *static_cast<BrokerTransport*>(self);
    if (pcb == nullptr || error != ERR_OK) { return ERR_VAL; }
    for (Slot& slot : transport.slots_) {
      if (slot.use == Use::free) {
        slot.use = Use::fresh;
        slot.connection.adopt(pcb, transport.holds_, transport.wakeup_);
        transport.wakeup_.signal();
        return ERR_OK;
      }
    }
    altcp_abort(pcb);
    return ERR_ABRT;
  }

  static void close_slot(Slot& slot) noexcept {
    slot.connection.hang_up();
    slot.use = Use::free;
  }

  altcp_pcb* listener_ = nullptr;
  Wakeup wakeup_;
  HoldsOutput holds_ = nullptr;
  Slot slots_[links];
};

}  // namespace lwip
}  // namespace mqtt

#endif
