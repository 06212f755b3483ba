// examples/mqttd/options.hpp — what the configuration file and the command line can set
// SPDX-License-Identifier: MIT
#ifndef MQTTD_OPTIONS_HPP
#define MQTTD_OPTIONS_HPP

#include <stdint.h>
#include <string.h>

#include "log.hpp"

namespace mqttd {

constexpr uint32_t listeners_max = 32;
constexpr uint32_t ports_max = 10;  // -p on the command line

enum class Choice : uint8_t { unset, yes, no };
enum class Protocol : uint8_t { mqtt, websockets };
enum class ProxyProtocol : uint8_t { none, v1, v2, any };

/// Who may come in and under which id: of a listener, or of all of them.
struct SecurityOptions {
  Choice allow_anonymous = Choice::unset;
  Choice allow_zero_length_clientid = Choice::unset;
  const char* auto_id_prefix = nullptr;
  const char* password_file = nullptr;
  const char* acl_file = nullptr;
  const char* psk_file = nullptr;
};

/// Certificates of a listener; with a certfile or a psk_hint it speaks TLS.
struct TlsOptions {
  const char* cafile = nullptr;
  const char* capath = nullptr;
  const char* certfile = nullptr;
  const char* keyfile = nullptr;
  const char* crlfile = nullptr;
  const char* dhparamfile = nullptr;
  const char* ciphers = nullptr;
  const char* ciphers_1_3 = nullptr;
  const char* tls_version = nullptr;  ///< "tlsv1.2" or "tlsv1.3": the oldest accepted
  const char* psk_hint = nullptr;
  bool require_certificate = false;
  bool use_identity_as_username = false;
  bool use_subject_as_username = false;

  bool uses_tls() const { return certfile != nullptr || psk_hint != nullptr; }
  bool asks_for_tls() const {
    return cafile != nullptr || capath != nullptr || crlfile != nullptr || dhparamfile != nullptr ||
           ciphers != nullptr || ciphers_1_3 != nullptr || tls_version != nullptr ||
           require_certificate || names_users();
  }
  /// Whether users are called as their certificates say, and asked for no password.
  bool names_users() const { return use_identity_as_username || use_subject_as_username; }
};

struct ListenerOptions : SecurityOptions, TlsOptions {
  uint16_t port = 0;
  const char* host = nullptr;            ///< none: every address of this machine
  const char* path = nullptr;            ///< of a unix socket, with port 0
  const char* bind_interface = nullptr;  ///< such as eth0
  int domain = 0;                        ///< AF_INET or AF_INET6 alone; 0: both
  const char* mount_point = nullptr;     ///< put before every topic of its clients
  const char* http_dir = nullptr;
  const char* websockets_origin = nullptr;  ///< as Origin must be; none: any
  Protocol protocol = Protocol::mqtt;
  ProxyProtocol proxy = ProxyProtocol::none;
  bool use_username_as_clientid = false;
  int64_t max_connections = -1;  ///< 0 and negative: no limit
  int64_t max_qos = 2;
  int64_t max_topic_alias = 10;
  int64_t max_topic_alias_broker = 10;
  uint8_t versions = 0x38;  ///< bit 3: MQTT 3.1, bit 4: 3.1.1, bit 5: 5.0
  bool loopback = false;    ///< nobody asked for it: 127.0.0.1 and ::1
};

struct PersistenceOptions {
  bool on = false;
  const char* file = nullptr;      ///< none: mosquitto.db
  const char* location = nullptr;  ///< none: the working directory
  const char* sync = nullptr;      ///< as read_sync() takes it; none: always
};

/// Texts are views of the configuration's bytes, which live as long as the settings. Numbers are
/// as written: what 0 and -1 mean is said beside each.
struct Options {
  ListenerOptions defaults;  ///< what a listener begins with
  ListenerOptions listeners[listeners_max];
  uint32_t listener_count = 0;

  bool per_listener_settings = false;
  SecurityOptions security;  ///< of every listener that has none of its own
  const char* bind_address = nullptr;
  int64_t port = 0;  ///< the old way to name one listener; 0: not given
  const char* clientid_prefixes = nullptr;

  int64_t max_inflight_messages = 20;        ///< 0 and 65535: no limit
  int64_t max_inflight_bytes = 0;            ///< 0: no limit
  int64_t max_queued_messages = 1000;        ///< 0: no limit
  int64_t max_queued_bytes = 0;              ///< 0: no limit
  int64_t max_packet_size = 2000000;         ///< at least 20
  int64_t message_size_limit = 0;            ///< 0: no limit
  int64_t global_max_connections = -1;       ///< negative: no limit
  int64_t global_max_clients = -1;           ///< sessions; negative: no limit
  int64_t max_keepalive = 0;                 ///< 0: no limit
  int64_t memory_limit = 0;                  ///< bytes; 0: no limit
  int64_t persistent_client_expiration = 0;  ///< seconds; 0: never
  int64_t retain_expiry_interval = 0;        ///< seconds; 0: never
  int64_t sys_interval = 10;                 ///< seconds; 0: no $SYS
  bool retain_available = true;
  bool queue_qos0_messages = false;
  bool upgrade_outgoing_qos = false;
  bool set_tcp_nodelay = true;

  PersistenceOptions persistence;

  uint16_t log_types = log_default;
  uint8_t log_targets = log_to_stderr;
  int64_t log_facility = -1;  ///< of syslog: 0 to 7 for local0 to local7; -1: daemon
  const char* log_file = nullptr;
  bool log_timestamp = true;
  const char* log_timestamp_format = nullptr;
  bool connection_messages = true;

  const char* pid_file = nullptr;
  const char* user = nullptr;
};

/// What was typed.
struct CommandLine {
  const char* config_file = nullptr;
  uint16_t ports[ports_max] = {};
  uint32_t port_count = 0;
  bool daemon = false;
  bool verbose = false;
  bool quiet = false;
  bool test_config = false;
  const char* dump_journal = nullptr;
  const char* const* test_acl = nullptr;  ///< user, client id, "read" or "write", topic
};

namespace detail {
inline bool listens_on(const Options& options, uint16_t port) {
  for (uint32_t i = 0; i != options.listener_count; ++i) {
    if (options.listeners[i].port == port) { return true; }
  }
  return false;
}

inline bool add_listener(Options& options, uint16_t port, bool loopback) {
  if (options.listener_count == listeners_max) { return false; }
  ListenerOptions& listener = options.listeners[options.listener_count++];
  listener = options.defaults;
  listener.port = port;
  listener.host = loopback ? nullptr : options.bind_address;
  listener.loopback = loopback;
  return true;
}

// What a listener does not say itself is as all listeners have it; with per_listener_settings
// each has its own or none.
inline void complete_security(const Options& options, bool configured, SecurityOptions& security) {
  const SecurityOptions& common = options.security;
  const auto take = [](Choice& choice, Choice other) {
    choice = choice == Choice::unset ? other : choice;
  };
  if (!options.per_listener_settings) {
    security.password_file = common.password_file;
    security.acl_file = common.acl_file;
    security.psk_file = common.psk_file;
    if (security.auto_id_prefix == nullptr) { security.auto_id_prefix = common.auto_id_prefix; }
    take(security.allow_zero_length_clientid, common.allow_zero_length_clientid);
    take(security.allow_anonymous, common.allow_anonymous);
  }
  take(security.allow_zero_length_clientid, Choice::yes);
  take(security.allow_anonymous, configured ? Choice::no : Choice::yes);
}
}  // namespace detail

/// Completes the listeners: `port`, then -p, then the default on the loopback; and for each who
/// may connect without a name. False when there are too many.
inline bool complete_listeners(Options& options, const CommandLine& command_line) {
  const bool configured = options.listener_count != 0 || options.port != 0;
  if (options.port != 0 &&
      !detail::add_listener(options, static_cast<uint16_t>(options.port), false)) {
    return false;
  }
  for (uint32_t i = 0; i != command_line.port_count; ++i) {
    const uint16_t port = command_line.ports[i];
    if (!detail::listens_on(options, port) && !detail::add_listener(options, port, true)) {
      return false;
    }
  }
  if (options.listener_count == 0 && !detail::add_listener(options, 1883, true)) { return false; }
  for (uint32_t i = 0; i != options.listener_count; ++i) {
    detail::complete_security(options, configured, options.listeners[i]);
  }
  return true;
}

}  // namespace mqttd

#endif
