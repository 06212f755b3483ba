// ports/lwip/tls.hpp — TLS of lwIP's altcp_tls over mbedTLS, made to check whom it talks to
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_LWIP_TLS_HPP
#define MQTT_PORTS_LWIP_TLS_HPP

#include <lwip/altcp_tls.h>
#include <mbedtls/ssl.h>
#include <ports/lwip/client.hpp>

#ifndef MBEDTLS_PRIVATE
#define MBEDTLS_PRIVATE(member) member
#endif

namespace mqtt {
namespace lwip {

inline mbedtls_ssl_context* tls_context(altcp_pcb* pcb) noexcept {
  return static_cast<mbedtls_ssl_context*>(altcp_tls_context(pcb));
}

/// See HoldsOutput.
inline bool tls_holds_output(altcp_pcb* pcb) noexcept {
  const mbedtls_ssl_context* const context = tls_context(pcb);
  return context != nullptr && context->MBEDTLS_PRIVATE(out_left) != 0;
}

/// TLS connections for ClientTransport<TlsPcb>. lwIP alone asks for no host name and accepts a
/// certificate that nobody signed; here the server must prove that it is `host`.
class TlsPcb {
 public:
  static constexpr HoldsOutput holds_output = tls_holds_output;

  /// `config`: of altcp_tls_create_config_client() with the CA's certificate.
  explicit TlsPcb(altcp_tls_config* config) noexcept : config_(config) {}

  altcp_pcb* make(const char* host) noexcept {
    altcp_pcb* const pcb = altcp_tls_new(config_, TcpPcb::ip_type);
    if (pcb == nullptr) { return nullptr; }
    mbedtls_ssl_context* const context = tls_context(pcb);
    auto* const shared = const_cast<mbedtls_ssl_config*>(context->MBEDTLS_PRIVATE(conf));
    mbedtls_ssl_conf_authmode(shared, MBEDTLS_SSL_VERIFY_REQUIRED);
    if (mbedtls_ssl_set_hostname(context, host) == 0) { return pcb; }
    altcp_abort(pcb);
    return nullptr;
  }

 private:
  altcp_tls_config* config_;
};

}  // namespace lwip
}  // namespace mqtt

#endif
