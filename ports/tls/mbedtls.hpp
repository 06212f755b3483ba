// ports/tls/mbedtls.hpp — TLS by mbedTLS 2.28 or 3 over any transport, on a server or a chip
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_TLS_MBEDTLS_HPP
#define MQTT_PORTS_TLS_MBEDTLS_HPP

#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <mqtt.hpp>

namespace mqtt {
namespace tls {

/// What the connections of a client share: whom to trust. A server must prove by a certificate of
/// such an authority that it is the host it is called by; there is no way to do without here.
///
/// mbedTLS takes its memory where it is configured to; on a chip from a fixed block
/// (MBEDTLS_MEMORY_BUFFER_ALLOC_C).
class MbedtlsClientConfig {
 public:
  using Random = int (*)(void* state, unsigned char* target, size_t size);

  MbedtlsClientConfig() noexcept {
    mbedtls_ssl_config_init(&config_);
    mbedtls_x509_crt_init(&authorities_);
  }
  MbedtlsClientConfig(const MbedtlsClientConfig&) = delete;
  MbedtlsClientConfig& operator=(const MbedtlsClientConfig&) = delete;
  ~MbedtlsClientConfig() {
    mbedtls_ssl_config_free(&config_);
    mbedtls_x509_crt_free(&authorities_);
  }

  /// `authorities`: certificates as DER, or as PEM with its final zero. `random`: a generator of
  /// random numbers fit for keys, as mbedtls_ctr_drbg_random. 0, or an error of mbedTLS.
  int start(Bytes authorities, Random random, void* random_state) noexcept {
    int error = mbedtls_x509_crt_parse(&authorities_, authorities.data(), authorities.size());
    if (error != 0) { return error; }
    error = mbedtls_ssl_config_defaults(&config_, MBEDTLS_SSL_IS_CLIENT,
                                        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (error != 0) { return error; }
    mbedtls_ssl_conf_authmode(&config_, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&config_, &authorities_, nullptr);
    mbedtls_ssl_conf_rng(&config_, random, random_state);
    return 0;
  }

  /// For what else is to be set: a client certificate, protocol versions.
  mbedtls_ssl_config& get() noexcept { return config_; }

 private:
  mbedtls_ssl_config config_;
  mbedtls_x509_crt authorities_;
};

/// One end of a TLS connection over the bytes of `Inner`, which has receive() and transmit().
///
/// A record that Inner took in part stays in mbedTLS: its bytes count as taken, and leave with the
/// next call of any function here.
template <typename Inner>
class MbedtlsLink {
 public:
  /// error() when Inner has ended without a goodbye: MBEDTLS_ERR_NET_CONN_RESET.
  static constexpr int link_lost = -0x0050;

  explicit MbedtlsLink(Inner& inner) noexcept : inner_(inner) { mbedtls_ssl_init(&context_); }
  MbedtlsLink(const MbedtlsLink&) = delete;
  MbedtlsLink& operator=(const MbedtlsLink&) = delete;
  ~MbedtlsLink() { mbedtls_ssl_free(&context_); }

  /// Begins as a client: the server must be `host`. 0, or an error of mbedTLS. `config` must live
  /// as long as the link and stay the same.
  int start_client(const mbedtls_ssl_config& config, const char* host) noexcept {
    if (host == nullptr || *host == '\0') {
      begun_ = open_ = false;
      return error_ = MBEDTLS_ERR_SSL_BAD_INPUT_DATA;
    }
    if (begin(config) == 0) { error_ = mbedtls_ssl_set_hostname(&context_, host); }
    begun_ = error_ == 0;
    return error_;
  }
  /// Begins as a server, by a configuration for servers.
  int start_server(const mbedtls_ssl_config& config) noexcept { return begin(config); }

  /// > 0 the connection is there and checked, 0 call again, < 0 it failed, see error().
  int32_t handshake() noexcept {
    if (!begun_ || error_ != 0) { return -1; }
    const int result = mbedtls_ssl_handshake(&context_);
    open_ = result == 0;
    return open_ ? 1 : outcome(result);
  }

  /// > 0 bytes, 0 nothing now, < 0 ended.
  int32_t receive(uint8_t* target, size_t size) noexcept {
    if (!open_ || !flush()) { return -1; }
    const int result = mbedtls_ssl_read(&context_, target, size);
    if (result > 0) { return result; }
    return outcome(result == 0 ? MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY : result);
  }

  /// Bytes taken, 0 later, < 0 ended.
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    if (!open_ || !flush()) { return -1; }
    const int payload_max = mbedtls_ssl_get_max_out_record_payload(&context_);
    if (unsent_ != 0 || size == 0) { return 0; }
    if (payload_max <= 0) { return outcome(payload_max); }
    const size_t count = detail::smaller(size, static_cast<size_t>(payload_max));
    const int result = mbedtls_ssl_write(&context_, source, count);
    if (result >= 0) { return result; }
    const bool taken = result == MBEDTLS_ERR_SSL_WANT_WRITE && unsent_ != 0;
    return taken ? static_cast<int32_t>(count) : outcome(result);
  }

  /// Sends what was taken and has not left, as far as it goes; false: the connection is gone.
  bool flush() noexcept {
    if (!open_) { return false; }
    if (unsent_ == 0) { return true; }
    // With a record on its way mbedTLS sends the rest of it, and encrypts nothing of this.
    const uint8_t nothing = 0;
    const int result = mbedtls_ssl_write(&context_, &nothing, 1);
    return result >= 0 || outcome(result) == 0;
  }

  /// Says goodbye as far as Inner takes it now. Then the link can be started again.
  void end() noexcept {
    if (open_) { mbedtls_ssl_close_notify(&context_); }
    open_ = begun_ = false;
  }

  /// Whether receive() has bytes that Inner does not.
  bool has_input() const noexcept { return open_ && mbedtls_ssl_get_bytes_avail(&context_) != 0; }
  /// Why it failed or ended, as mbedTLS numbers it; 0 while it has not.
  int error() const noexcept { return error_; }
  /// Why the peer's certificate was not accepted, as mbedtls_x509_crt_verify_info() explains it.
  uint32_t verify_result() const noexcept { return mbedtls_ssl_get_verify_result(&context_); }

 private:
  int begin(const mbedtls_ssl_config& config) noexcept {
    error_ = used_ ? mbedtls_ssl_session_reset(&context_) : mbedtls_ssl_setup(&context_, &config);
    used_ = used_ || error_ == 0;
    begun_ = error_ == 0;
    unsent_ = 0;
    open_ = false;
    mbedtls_ssl_set_bio(&context_, this, put, get, nullptr);
    return error_;
  }

  // 0 when it is only not yet; else the end.
  int32_t outcome(int result) noexcept {
    if (result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE) { return 0; }
#ifdef MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
    if (result == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) { return 0; }
#endif
    error_ = result;
    open_ = begun_ = false;
    return -1;
  }

  static int put(void* self, const unsigned char* bytes, size_t size) {
    MbedtlsLink& link = *static_cast<MbedtlsLink*>(self);
    const int32_t taken = link.inner_.transmit(bytes, size);
    link.unsent_ = size - static_cast<size_t>(taken > 0 ? taken : 0);
    if (taken < 0) { return link_lost; }
    return taken == 0 ? MBEDTLS_ERR_SSL_WANT_WRITE : taken;
  }
  static int get(void* self, unsigned char* target, size_t size) {
    const int32_t count = static_cast<MbedtlsLink*>(self)->inner_.receive(target, size);
    if (count < 0) { return link_lost; }
    return count == 0 ? MBEDTLS_ERR_SSL_WANT_READ : count;
  }

  Inner& inner_;
  mbedtls_ssl_context context_;
  size_t unsent_ = 0;  // bytes of the record on its way
  int error_ = 0;
  bool used_ = false;   // the context has its memory
  bool begun_ = false;  // and has not ended
  bool open_ = false;   // the handshake is done
};

/// The Transport hook of a Client over `Inner`, which is one too. `hosts` has the name that each of
/// Inner's servers must prove to have, in Inner's order.
template <typename Inner>
class MbedtlsTransport {
 public:
  MbedtlsTransport(Inner& inner, MbedtlsClientConfig& config,
                   Span<const char* const> hosts) noexcept
      : inner_(inner), config_(config), hosts_(hosts), link_(inner) {}

  int32_t dial(uint32_t attempt) noexcept {
    if (!begun_) {
      const int32_t result = inner_.dial(attempt);
      if (result <= 0) { return result; }
      begun_ = true;
      const char* const host = hosts_.empty() ? nullptr : hosts_[attempt % hosts_.size()];
      if (link_.start_client(config_.get(), host) != 0) { return -1; }
    }
    return link_.handshake();
  }
  int32_t receive(uint8_t* target, size_t size) noexcept { return link_.receive(target, size); }
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    return link_.transmit(source, size);
  }
  void hang_up() noexcept {
    if (begun_) { link_.end(); }
    begun_ = false;
    inner_.hang_up();
  }

  /// Whether there is something to read: then do not sleep.
  bool has_input() const noexcept { return inner_.has_input() || link_.has_input(); }
  const MbedtlsLink<Inner>& link() const noexcept { return link_; }

 private:
  Inner& inner_;
  MbedtlsClientConfig& config_;
  Span<const char* const> hosts_;
  MbedtlsLink<Inner> link_;
  bool begun_ = false;
};

}  // namespace tls
}  // namespace mqtt

#endif
