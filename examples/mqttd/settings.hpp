// examples/mqttd/settings.hpp — a configuration with all its files, and the one that replaces it
// SPDX-License-Identifier: MIT
#ifndef MQTTD_SETTINGS_HPP
#define MQTTD_SETTINGS_HPP

#include <new>

#include "access_files.hpp"
#include "config.hpp"
#include "limits.hpp"
#include "options.hpp"
#include "tls.hpp"

namespace mqttd {

/// What the files say.
struct Settings {
  explicit Settings(Log& log) : reader(options, log) {}

  Options options;
  AccessFiles files;
  TlsContexts tls;
  ConfigReader reader;

  /// False: the error is logged.
  bool read(const CommandLine& command_line, Log& log) {
    if (command_line.config_file != nullptr && !reader.read(command_line.config_file)) {
      return false;
    }
    if (!complete_listeners(options, command_line)) {
      log.line(log_error, "Error: More than %u listeners.", listeners_max);
      return false;
    }
    return files.read(options, log) && tls.read(options, log);
  }

  /// Says which files the user we have become cannot read again on SIGHUP.
  void warn_if_unreadable(const char* config_file, Log& log) const {
    const auto check = [&log](const char* path) {
      if (path != nullptr && access(path, R_OK) != 0) {
        log.line(log_warning,
                 "Warning: %s cannot be read by this user (%s): a reload will fail. Give it to the "
                 "user, or make it readable.",
                 path, strerror(errno));
      }
    };
    check(config_file);
    for (uint32_t i = 0; i != options.listener_count; ++i) {
      check(options.listeners[i].password_file);
      check(options.listeners[i].acl_file);
      check(options.listeners[i].certfile);
      check(options.listeners[i].keyfile);
    }
  }
};

/// The settings in force, and room for those that are read to follow them.
class SettingsPair {
 public:
  SettingsPair() = default;
  SettingsPair(const SettingsPair&) = delete;
  SettingsPair& operator=(const SettingsPair&) = delete;
  ~SettingsPair() {
    drop(0);
    drop(1);
  }

  Settings& current() { return *settings_[current_]; }
  const Settings& current() const { return *settings_[current_]; }

  /// False: the error is logged, and the current ones are as they were.
  bool read_next(const CommandLine& command_line, Log& log) {
    const uint32_t next = 1 - current_;
    drop(next);
    settings_[next] = new (memory_[next].bytes) Settings(log);
    if (settings_[next]->read(command_line, log)) { return true; }
    drop(next);
    return false;
  }

  /// Whether the next settings have all listeners that are open, whose sockets stay as they are;
  /// brings them into their order. False, which is logged: they do not.
  bool next_fits(Log& log) {
    Options& next = settings_[1 - current_]->options;
    const Options& now = current().options;
    for (uint32_t i = 0; i != now.listener_count; ++i) {
      const ListenerOptions& wanted = now.listeners[i];
      uint32_t at = i;
      while (at != next.listener_count && !same_socket(wanted, next.listeners[at])) { ++at; }
      if (at == next.listener_count) {
        log.line(log_error,
                 "Error: The listener on %s%u is gone or another one; listeners change with a "
                 "restart only.",
                 wanted.path != nullptr ? "unix socket path and port " : "port ", wanted.port);
        return false;
      }
      if (at != i) {
        settings_[1 - current_]->files.swap_listeners(at, i);
        settings_[1 - current_]->tls.swap_listeners(at, i);
      }
      const ListenerOptions moved = next.listeners[at];
      next.listeners[at] = next.listeners[i];
      next.listeners[i] = moved;
    }
    if (next.listener_count > now.listener_count) {
      log.line(log_warning, "Warning: New listeners are opened with the next start only.");
    }
    next.listener_count = now.listener_count;
    return true;
  }

  void take_next() { current_ = 1 - current_; }

 private:
  struct alignas(Settings) Memory {
    unsigned char bytes[sizeof(Settings)];
  };

  static bool same_text(const char* a, const char* b) {
    return a == b || (a != nullptr && b != nullptr && strcmp(a, b) == 0);
  }
  static bool same_socket(const ListenerOptions& a, const ListenerOptions& b) {
    return a.port == b.port && same_text(a.host, b.host) && same_text(a.path, b.path) &&
           same_text(a.bind_interface, b.bind_interface) && a.protocol == b.protocol &&
           a.domain == b.domain && a.loopback == b.loopback && a.proxy == b.proxy &&
           a.uses_tls() == b.uses_tls();
  }

  void drop(uint32_t index) {
    if (settings_[index] == nullptr) { return; }
    settings_[index]->~Settings();
    settings_[index] = nullptr;
  }

  Settings* settings_[2] = {};
  uint32_t current_ = 1;
  Memory memory_[2];
};

}  // namespace mqttd

#endif
