// examples/mqttd/tls.hpp — the certificates and keys of the listeners, if TLS is built in
// SPDX-License-Identifier: MIT
#ifndef MQTTD_TLS_HPP
#define MQTTD_TLS_HPP

#include <ports/posix/layers.hpp>
#if defined(MQTT_TLS)
#include <ports/tls/openssl.hpp>
#endif

#include "options.hpp"

namespace mqttd {

#if defined(MQTT_TLS)
constexpr bool has_tls = true;
using Tls = mqtt::tls::OpenSsl;

/// What the listeners' files say, by listener.
class TlsContexts {
 public:
  TlsContexts() {
    for (uint32_t i = 0; i != listeners_max; ++i) { of_[i] = &contexts_[i]; }
  }

  /// False: the error is logged.
  bool read(const Options& options, Log& log) {
    for (uint32_t i = 0; i != options.listener_count; ++i) {
      const ListenerOptions& listener = options.listeners[i];
      if (!is_whole(listener, log)) { return false; }
      if (!listener.uses_tls() || of_[i]->load(server_options(listener))) { continue; }
      log.line(log_error, "Error: TLS on port %u: %s.", listener.port, of_[i]->failure());
      say_files(listener, log);
      return false;
    }
    return true;
  }

  Tls::Context& of(uint32_t listener) { return *of_[listener]; }

  /// After two listeners have changed places.
  void swap_listeners(uint32_t a, uint32_t b) {
    mqtt::tls::ServerContext* const kept = of_[a];
    of_[a] = of_[b];
    of_[b] = kept;
  }

 private:
  // A listener that would speak without TLS although it has options for it is an error.
  static bool is_whole(const ListenerOptions& listener, Log& log) {
    const char* problem = nullptr;
    if ((listener.certfile == nullptr) != (listener.keyfile == nullptr)) {
      problem = "certfile and keyfile go together: one of them is missing";
    } else if (!listener.uses_tls() && listener.asks_for_tls()) {
      problem = "it has options for TLS, but neither certfile and keyfile nor psk_hint";
    } else if (listener.psk_hint != nullptr && listener.psk_file == nullptr) {
      problem = "psk_hint needs a psk_file with the keys";
    } else if (listener.use_identity_as_username && listener.use_subject_as_username) {
      problem = "use_identity_as_username and use_subject_as_username exclude each other";
    }
    if (problem != nullptr) {
      log.line(log_error, "Error: TLS on port %u: %s.", listener.port, problem);
    } else if (listener.names_users() && !listener.require_certificate &&
               listener.psk_hint == nullptr) {
      log.line(log_warning,
               "Warning: TLS on port %u: users are named by certificates, but no client is asked "
               "for one: add the line 'require_certificate true'.",
               listener.port);
    }
    return problem == nullptr;
  }

  static mqtt::tls::ServerOptions server_options(const ListenerOptions& listener) {
    mqtt::tls::ServerOptions options;
    options.certificate_file = listener.certfile;
    options.key_file = listener.keyfile;
    options.ca_file = listener.cafile;
    options.ca_folder = listener.capath;
    options.crl_file = listener.crlfile;
    options.require_certificate = listener.require_certificate;
    options.lowest_version = listener.tls_version;
    options.ciphers = listener.ciphers;
    options.ciphers_1_3 = listener.ciphers_1_3;
    options.dh_file = listener.dhparamfile;
    options.psk_hint = listener.psk_hint;
    if (listener.psk_hint != nullptr) { options.psk_file = listener.psk_file; }
    options.websocket = listener.protocol == Protocol::websockets;
    return options;
  }

  // Which of the files it is, the library rarely says.
  static void say_files(const ListenerOptions& listener, Log& log) {
    const auto check = [&log](const char* name, const char* path) {
      if (path != nullptr && access(path, R_OK) != 0) {
        log.line(log_error, "Error: %s %s: %s.", name, path, strerror(errno));
      }
    };
    check("certfile", listener.certfile);
    check("keyfile", listener.keyfile);
    check("cafile", listener.cafile);
    check("capath", listener.capath);
    check("crlfile", listener.crlfile);
    check("dhparamfile", listener.dhparamfile);
    check("psk_file", listener.psk_file);
  }

  mqtt::tls::ServerContext contexts_[listeners_max];
  mqtt::tls::ServerContext* of_[listeners_max];
};

#else
constexpr bool has_tls = false;
using Tls = mqtt::posix::NoTls;

/// Without TLS no listener asks for it: ConfigReader refuses the options.
class TlsContexts {
 public:
  static bool read(const Options&, Log&) { return true; }
  Tls::Context& of(uint32_t) { return none_; }
  static void swap_listeners(uint32_t, uint32_t) {}

 private:
  Tls::Context none_;
};
#endif

}  // namespace mqttd

#endif
