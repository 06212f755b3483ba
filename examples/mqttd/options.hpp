// examples/mqttd/options.hpp — what the configuration file and the command line can set
// SPDX-License-Identifier: MIT
#ifndef MQTTD_OPTIONS_HPP
#define MQTTD_OPTIONS_HPP

#include <stdint.h>

#include "log.hpp"

namespace mqttd {

constexpr uint32_t listeners_max = 32;
constexpr uint32_t ports_max = 10;  // -p on the command line

enum class Choice : uint8_t { unset, yes, no };

struct ListenerOptions {
  uint16_t port = 0;
  const char* host = nullptr;  ///< none: every address of this machine
  const char* path = nullptr;  ///< of a unix socket, with port 0
  int domain = 0;              ///< AF_INET or AF_INET6 alone; 0: both
  Choice allow_anonymous = Choice::unset;
  int64_t max_connections = -1;  ///< negative: no limit
  int64_t max_qos = 2;
  int64_t max_topic_alias = 10;
  int64_t max_topic_alias_broker = 10;
  bool loopback = false;  ///< nobody asked for it: 127.0.0.1 and ::1
};

/// Texts are views of the configuration's bytes, which live as long as the program. Numbers are
/// as written: what 0 and -1 mean is said beside each.
struct Options {
  ListenerOptions defaults;  ///< what a listener begins with
  ListenerOptions listeners[listeners_max];
  uint32_t listener_count = 0;

  bool per_listener_settings = false;
  Choice allow_anonymous = Choice::unset;  ///< unset: only when no listener is configured
  const char* bind_address = nullptr;
  int64_t port = 0;  ///< the old way to name one listener; 0: not given

  int64_t max_inflight_messages = 20;  ///< 0 and 65535: no limit
  int64_t max_queued_messages = 1000;  ///< 0: no limit
  int64_t max_packet_size = 2000000;
  int64_t message_size_limit = 0;            ///< 0: no limit
  int64_t global_max_connections = -1;       ///< negative: no limit
  int64_t global_max_clients = -1;           ///< sessions; negative: no limit
  int64_t max_keepalive = 0;                 ///< 0: no limit
  int64_t memory_limit = 0;                  ///< bytes; 0: no limit
  int64_t persistent_client_expiration = 0;  ///< seconds; 0: never
  uint8_t versions = 0x38;                   ///< bit 3: MQTT 3.1, bit 4: 3.1.1, bit 5: 5.0
  bool retain_available = true;
  bool queue_qos0_messages = false;
  bool allow_zero_length_clientid = true;
  bool set_tcp_nodelay = true;
  const char* auto_id_prefix = nullptr;

  uint16_t log_types = log_default;
  uint8_t log_targets = log_to_stderr;
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
};

/// Completes the listeners: `port`, then -p, then the default on the loopback; and for each who
/// may connect without a name. False when there are too many.
inline bool complete_listeners(Options& options, const CommandLine& command_line) {
  const bool configured = options.listener_count != 0 || options.port != 0;
  const auto listens_on = [&options](uint16_t port) {
    for (uint32_t i = 0; i != options.listener_count; ++i) {
      if (options.listeners[i].port == port) { return true; }
    }
    return false;
  };
  const auto add = [&options](uint16_t port, bool loopback) {
    if (options.listener_count == listeners_max) { return false; }
    ListenerOptions& listener = options.listeners[options.listener_count++];
    listener = options.defaults;
    listener.port = port;
    listener.host = loopback ? nullptr : options.bind_address;
    listener.loopback = loopback;
    return true;
  };
  if (options.port != 0 && !add(static_cast<uint16_t>(options.port), false)) { return false; }
  for (uint32_t i = 0; i != command_line.port_count; ++i) {
    const uint16_t port = command_line.ports[i];
    if (!listens_on(port) && !add(port, true)) { return false; }
  }
  if (options.listener_count == 0 && !add(1883, true)) { return false; }
  for (uint32_t i = 0; i != options.listener_count; ++i) {
    Choice& choice = options.listeners[i].allow_anonymous;
    if (choice == Choice::unset) { choice = options.allow_anonymous; }
    if (choice == Choice::unset) { choice = configured ? Choice::no : Choice::yes; }
  }
  return true;
}

}  // namespace mqttd

#endif
