// ports/lwip/connection.hpp — one TCP or TLS connection over lwIP's altcp_* calls, and the clock
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_LWIP_CONNECTION_HPP
#define MQTT_PORTS_LWIP_CONNECTION_HPP

#include <lwip/altcp.h>
#include <lwip/altcp_tcp.h>
#include <lwip/ip_addr.h>
#include <lwip/pbuf.h>
#include <lwip/sys.h>
#include <lwip/tcp.h>
#include <lwip/tcpip.h>
#include <mqtt.hpp>

#if !NO_SYS && !LWIP_TCPIP_CORE_LOCKING
#error "ports/lwip calls lwIP from the broker's thread: set LWIP_TCPIP_CORE_LOCKING to 1"
#endif

namespace mqtt {
namespace lwip {

/// Holds lwIP's core lock; nothing with NO_SYS=1, where lwIP runs in the main loop.
class CoreLock {
 public:
#if NO_SYS
  CoreLock() noexcept {}
#else
  CoreLock() noexcept { LOCK_TCPIP_CORE(); }
  ~CoreLock() { UNLOCK_TCPIP_CORE(); }
#endif
  CoreLock(const CoreLock&) = delete;
  CoreLock& operator=(const CoreLock&) = delete;
};

/// The Clock hook: lwIP's 32-bit milliseconds, which wrap after 49.7 days, made 64 bits wide.
/// Call now_ms() at least once in that time.
class Clock {
 public:
  Millis now_ms() noexcept {
    const uint32_t now = sys_now();
    elapsed_ += static_cast<uint32_t>(now - last_);
    last_ = now;
    return elapsed_;
  }

 private:
  Millis elapsed_ = 0;
  uint32_t last_ = 0;
};

/// Lets the thread of a broker or client sleep until lwIP's thread has something for it. With
/// NO_SYS=1 there is no other thread and nothing to wait for.
class Wakeup {
 public:
#if NO_SYS
  bool start() noexcept { return true; }
  void signal() noexcept {}
#else
  Wakeup() noexcept = default;
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;
  ~Wakeup() {
    if (started_) { sys_sem_free(&semaphore_); }
  }
  bool start() noexcept {
    started_ = started_ || sys_sem_new(&semaphore_, 0) == ERR_OK;
    return started_;
  }
  /// Called with the core lock held.
  void signal() noexcept {
    if (started_ && !signalled_) {
      signalled_ = true;
      sys_sem_signal(&semaphore_);
    }
  }
  /// Until a signal() since the last wait(), or `ms` have passed; 0 waits for ever.
  void wait(uint32_t ms) noexcept {
    sys_arch_sem_wait(&semaphore_, ms);
    const CoreLock lock;
    signalled_ = false;
  }

 private:
  sys_sem_t semaphore_{};
  bool started_ = false;
  bool signalled_ = false;  // keeps the semaphore from counting up
#endif
};

struct Endpoint {
  ip_addr_t address{};
  uint16_t port = 0;
};

/// Whether TLS has a record that did not leave yet; lwIP sends it when there is room. Until then
/// nothing may be written, or the record would go twice.
using HoldsOutput = bool (*)(altcp_pcb*);

/// A connection in the hands of lwIP. It owns no bytes: what came in stays in lwIP's pbufs, and is
/// acknowledged (tcp_recved) only as receive() takes it, so that an engine that does not read stops
/// its peer; what goes out is copied into lwIP's send buffer as far as that has room.
///
/// Every member is called with the core lock held; lwIP calls the callbacks so. The object must
/// stay where it is while it is open.
class Connection {
 public:
  Connection() noexcept = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { hang_up(); }

  /// Takes over a pcb. `holds`: null for TCP, tls_holds_output of ports/lwip/tls.hpp for TLS.
  void adopt(altcp_pcb* pcb, HoldsOutput holds, Wakeup& wakeup) noexcept {
    pcb_ = pcb;
    wakeup_ = &wakeup;
    holds_ = holds;
    ended_ = unsent_ = connected_ = false;
    altcp_arg(pcb, this);
    altcp_recv(pcb, on_receive);
    altcp_sent(pcb, on_sent);
    altcp_err(pcb, on_error);
    altcp_nagle_disable(pcb);  // flush() sends whole turns; the peer's delayed acks would stop it
  }

  /// adopt(), and begins to connect; is_connected() tells when that is done. False: closed again.
  bool dial(altcp_pcb* pcb, HoldsOutput holds, Wakeup& wakeup, const Endpoint& peer) noexcept {
    adopt(pcb, holds, wakeup);
    if (altcp_connect(pcb, &peer.address, peer.port, on_connected) == ERR_OK) { return true; }
    hang_up();
    return false;
  }

  /// Since dial(): with TLS only after its handshake.
  bool is_connected() const noexcept { return connected_ && !ended_; }
  bool has_ended() const noexcept { return ended_; }
  altcp_pcb* pcb() const noexcept { return pcb_; }
  bool has_input() const noexcept { return rx_ != nullptr || ended_; }

  /// > 0 bytes, 0 nothing now, < 0 ended; what came before the end is delivered first.
  int32_t receive(uint8_t* target, size_t size) noexcept {
    if (rx_ == nullptr) { return ended_ ? -1 : 0; }
    const auto limit = static_cast<uint16_t>(detail::smaller<size_t>(size, 0x7FFF));
    const uint16_t count = pbuf_copy_partial(rx_, target, limit, 0);
    rx_ = pbuf_free_header(rx_, count);
    if (pcb_ != nullptr) { altcp_recved(pcb_, count); }
    return count;
  }

  /// Bytes taken, 0 later, < 0 gone. They leave at flush().
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    if (pcb_ == nullptr) { return -1; }
    if (holds_ != nullptr && holds_(pcb_)) { return 0; }
    size_t count = detail::smaller<size_t>(size, altcp_sndbuf(pcb_));
    count = detail::smaller<size_t>(count, 0x7FFF);
    while (count != 0) {
      const err_t error =
          altcp_write(pcb_, source, static_cast<uint16_t>(count), TCP_WRITE_FLAG_COPY);
      unsent_ = true;
      // A TLS record that found no room is encrypted and waits: its bytes are taken.
      const bool taken = error == ERR_MEM && holds_ != nullptr && holds_(pcb_);
      if (error == ERR_OK || taken) { return static_cast<int32_t>(count); }
      if (error != ERR_MEM) { return -1; }
      // lwIP's heap or segment pool is short for so much; a piece may still fit.
      count = count > piece_min ? count / 2 : 0;
    }
    return 0;
  }

  /// Sends what transmit() took, in as few segments as it fills.
  void flush() noexcept {
    if (unsent_ && pcb_ != nullptr) {
      unsent_ = false;
      altcp_output(pcb_);
    }
  }

  /// Closes in order: what was taken still goes out, what still comes in is thrown away.
  void hang_up() noexcept {
    altcp_pcb* const pcb = pcb_;
    const uint16_t unread = rx_ != nullptr ? rx_->tot_len : 0;
    if (rx_ != nullptr) { pbuf_free(rx_); }
    rx_ = nullptr;
    pcb_ = nullptr;
    if (pcb == nullptr) { return; }
    if (unread != 0) { altcp_recved(pcb, unread); }  // unread input would make the close a reset
    if (ended_) {
      end(pcb);
    } else {
      linger(pcb);
    }
  }

 private:
  static constexpr size_t piece_min = 32;
  static constexpr uint8_t linger_half_seconds = 10;

  static err_t on_connected(void* self, altcp_pcb*, err_t error) {
    Connection& connection = *static_cast<Connection*>(self);
    connection.connected_ = error == ERR_OK;
    connection.wakeup_->signal();
    return ERR_OK;
  }

  static err_t on_receive(void* self, altcp_pcb*, pbuf* bytes, err_t) {
    Connection& connection = *static_cast<Connection*>(self);
    if (bytes == nullptr) {
      connection.ended_ = true;
    } else if (connection.rx_ == nullptr) {
      connection.rx_ = bytes;
    } else if (uint32_t{connection.rx_->tot_len} + bytes->tot_len > 0xFFFF) {
      return ERR_MEM;  // a chain counts in 16 bits; lwIP keeps it and offers it again
    } else {
      pbuf_cat(connection.rx_, bytes);
    }
    connection.wakeup_->signal();
    return ERR_OK;
  }

  static err_t on_sent(void* self, altcp_pcb*, uint16_t) {
    static_cast<Connection*>(self)->wakeup_->signal();
    return ERR_OK;
  }

  // lwIP has freed the pcb.
  static void on_error(void* self, err_t) {
    Connection& connection = *static_cast<Connection*>(self);
    connection.pcb_ = nullptr;
    connection.ended_ = true;
    connection.wakeup_->signal();
  }

  // The peer has closed as well: only our end is missing. Returns what a callback must return.
  static err_t end(altcp_pcb* pcb) noexcept {
    altcp_arg(pcb, nullptr);
    altcp_recv(pcb, nullptr);
    altcp_sent(pcb, nullptr);
    altcp_err(pcb, nullptr);
    if (altcp_close(pcb) == ERR_OK) { return ERR_OK; }
    altcp_abort(pcb);
    return ERR_ABRT;
  }

  // Half-closes and discards until the peer closes too. A close at once would answer what the peer
  // is still sending with a reset, which may overtake our last packet. lwIP may take the pcb back
  // at any time.
  static void linger(altcp_pcb* pcb) noexcept {
    altcp_arg(pcb, nullptr);
    altcp_recv(pcb, on_linger_receive);
    altcp_sent(pcb, nullptr);
    altcp_err(pcb, nullptr);
    altcp_poll(pcb, on_linger_poll, linger_half_seconds);
    altcp_setprio(pcb, TCP_PRIO_MIN);
    altcp_output(pcb);
    if (altcp_shutdown(pcb, 0, 1) != ERR_OK) { altcp_abort(pcb); }
  }

  static err_t on_linger_receive(void*, altcp_pcb* pcb, pbuf* bytes, err_t) {
    if (bytes == nullptr) { return end(pcb); }
    altcp_recved(pcb, bytes->tot_len);
    pbuf_free(bytes);
    return ERR_OK;
  }

  // The first call may come at once, the second after the whole interval.
  static err_t on_linger_poll(void* waited, altcp_pcb* pcb) {
    if (waited == nullptr) {
      altcp_arg(pcb, pcb);
      return ERR_OK;
    }
    altcp_abort(pcb);
    return ERR_ABRT;
  }

  altcp_pcb* pcb_ = nullptr;  // null: closed, or lost
  pbuf* rx_ = nullptr;        // received and not yet taken
  Wakeup* wakeup_ = nullptr;
  HoldsOutput holds_ = nullptr;
  bool connected_ = false;
  bool ended_ = false;   // nothing more will come
  bool unsent_ = false;  // written since the last flush()
};

}  // namespace lwip
}  // namespace mqtt

#endif
