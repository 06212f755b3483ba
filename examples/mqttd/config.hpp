// examples/mqttd/config.hpp — reads a configuration file in Mosquitto's format
// SPDX-License-Identifier: MIT
#ifndef MQTTD_CONFIG_HPP
#define MQTTD_CONFIG_HPP

#include <dirent.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <mqtt.hpp>

#include "journal.hpp"
#include "options.hpp"
#include "text_file.hpp"
#include "tls.hpp"

namespace mqttd {

/// Reads files into Options; the first error ends it, is logged and leaves a useless Options.
/// The bytes of the files stay here and must outlive the Options.
class ConfigReader {
 public:
  ConfigReader(Options& options, Log& log) : options_(options), log_(log) {}

  /// False: the error is logged, and the program should end with status 3.
  bool read(const char* path) { return read_file(path, false); }

 private:
  struct Line {
    const char* file;
    uint32_t number;
    const char* name;
    char* value;  // without blanks at its ends; zero-terminated; may be empty
  };

  enum class Kind : uint8_t {
    flag,  // true or false, of Options
    number,
    text,
    listener_flag,  // of the listener above, or of those below
    listener_number,
    listener_text,
    security_text,  // of all listeners, or with per_listener_settings of the listener above
    handler,        // a function of its own
    no_effect,      // accepted with a warning
    replaced        // refused with the sentence `sentence`
  };
  // What a negative number means.
  enum class Negative : uint8_t { error, zero, no_limit };

  // A name in place: a pointer to it would be four words in the program.
  struct OptionName {
    char text[32] = {};
    constexpr OptionName(const char* name) {
      for (uint32_t i = 0; name[i] != 0; ++i) { text[i] = name[i]; }
    }
  };

  struct Row {
    OptionName name;
    union {  // by kind
      const char* sentence;
      bool Options::*flag;
      int64_t Options::*number;
      const char* Options::*text;
      bool ListenerOptions::*listener_flag;
      int64_t ListenerOptions::*listener_number;
      const char* ListenerOptions::*listener_text;
      const char* SecurityOptions::*security_text;
      bool (ConfigReader::*handler)(const Line&);
    };
    int64_t least = 0;
    int64_t most = 0;
    Kind kind;
    Negative negative = Negative::error;

    constexpr Row(const char* its_name, Kind its_kind, const char* its_sentence = nullptr)
        : name(its_name), sentence(its_sentence), kind(its_kind) {}
    constexpr Row(const char* its_name, bool Options::*member)
        : name(its_name), flag(member), kind(Kind::flag) {}
    constexpr Row(const char* its_name, const char* Options::*member)
        : name(its_name), text(member), kind(Kind::text) {}
    constexpr Row(const char* its_name, int64_t Options::*member)
        : name(its_name), number(member), kind(Kind::number) {}
    constexpr Row(const char* its_name, int64_t ListenerOptions::*member)
        : name(its_name), listener_number(member), kind(Kind::listener_number) {}
    constexpr Row(const char* its_name, const char* SecurityOptions::*member, Kind its_kind)
        : name(its_name), security_text(member), kind(its_kind) {}
    constexpr Row(const char* its_name, bool ListenerOptions::*member)
        : name(its_name), listener_flag(member), kind(Kind::listener_flag) {}
    constexpr Row(const char* its_name, const char* ListenerOptions::*member)
        : name(its_name), listener_text(member), kind(Kind::listener_text) {}
    constexpr Row(const char* its_name, bool (ConfigReader::*function)(const Line&))
        : name(its_name), handler(function), kind(Kind::handler) {}
  };

  static constexpr int64_t many = INT64_MAX;

  // `least` of -1: negative numbers mean no limit.
  static constexpr Row number(const char* name, int64_t Options::*member, int64_t least,
                              int64_t most) {
    return bounded(Row(name, member), least, most);
  }
  static constexpr Row negative_is_zero(const char* name, int64_t Options::*member, int64_t most) {
    Row row = number(name, member, 0, most);
    row.negative = Negative::zero;
    return row;
  }
  static constexpr Row of_listener(const char* name, int64_t ListenerOptions::*member,
                                   int64_t least, int64_t most) {
    return bounded(Row(name, member), least, most);
  }
  static constexpr Row bounded(Row row, int64_t least, int64_t most) {
    row.least = least;
    row.most = most;
    row.negative = least < 0 ? Negative::no_limit : Negative::error;
    return row;
  }
  static constexpr Row security(const char* name, const char* SecurityOptions::*member) {
    return Row(name, member, Kind::security_text);
  }
  struct Known;  // the table, below
  static const Row* find(const char* name);
  static bool is_unbuilt(const char* name);
  static const char* nearest_name(const char* name);

  // --- errors ---

  // After the message of an error: where it is.
  bool fail_at(const Line& line) {
    log_.line(log_error, "Error found at %s:%u.", line.file, line.number);
    return false;
  }
  bool invalid(const Line& line) {
    if (line.value[0] == 0) {
      log_.line(log_error, "Error: Empty '%s' value in configuration.", line.name);
    } else {
      log_.line(log_error, "Error: Invalid '%s' value (%s).", line.name, line.value);
    }
    return fail_at(line);
  }
  bool unknown(const Line& line) {
    log_.line(log_error, "Error: Unknown configuration variable '%s'. Did you mean '%s'?",
              line.name, nearest_name(line.name));
    return fail_at(line);
  }

  // Insertions, deletions and replacements that make one name the other (Levenshtein).
  static size_t edit_distance(const char* a, const char* b) {
    constexpr size_t columns_max = 64;
    size_t row[columns_max + 1];
    const size_t columns = strnlen(b, columns_max);
    for (size_t j = 0; j <= columns; ++j) { row[j] = j; }
    for (size_t i = 0; a[i] != 0; ++i) {
      size_t diagonal = row[0];
      row[0] = i + 1;
      for (size_t j = 0; j != columns; ++j) {
        const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
        const size_t moved = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
        diagonal = row[j + 1];
        row[j + 1] = replaced < moved ? replaced : moved;
      }
    }
    return row[columns];
  }

  // --- files ---

  bool read_file(const char* path, bool included) {
    char* rest = text_.load(path, "config file", log_);
    if (rest == nullptr) { return false; }
    Line line{path, 0, "", rest};
    if (!is_utf8(rest)) {
      log_.line(log_error, "Error: Malformed UTF-8 in configuration.");
      return fail_at(line);
    }
    included_ = included;
    FileLine each{path, 0, nullptr};
    while (next_line(rest, each)) {
      line.number = each.number;
      line.name = each.text;
      char* at = each.text + strcspn(each.text, " \t");
      line.value = skip_blanks(at);
      *at = 0;
      const Row* row = find(line.name);
      if (row == nullptr) { return is_unbuilt(line.name) ? not_built(line) : unknown(line); }
      if (!apply(*row, line) || !check_built(line)) { return false; }
    }
    return included || include_directory_ == nullptr || read_directory();
  }

  static bool is_utf8(const char* text) {
    const auto size = static_cast<uint32_t>(strlen(text));
    const auto* bytes = reinterpret_cast<const uint8_t*>(text);
    uint32_t at = 0;
    uint32_t length = 1;
    while (at < size && length != 0) {
      length = mqtt::detail::utf8_character(bytes + at, size - at);
      at += length;
    }
    return length != 0;
  }

  bool read_directory() {
    const Line line{include_file_, include_line_, "include_dir", nullptr};
    dirent** entries = nullptr;
    const int count = scandir(include_directory_, &entries, is_configuration, by_bytes);
    if (count < 0) {
      log_.line(log_error, "Error: Unable to open include_dir '%s'.", include_directory_);
      return fail_at(line);
    }
    bool good = true;
    for (int i = 0; i != count; ++i) {
      char path[4096];
      const int size = snprintf(path, sizeof path, "%s/%s", include_directory_, entries[i]->d_name);
      good = good && size < static_cast<int>(sizeof path) && read_file(text_.keep(path), true);
      free(entries[i]);
    }
    free(entries);
    return good || fail_at(line);
  }

  static int is_configuration(const dirent* entry) {
    const size_t size = strlen(entry->d_name);
    return size > 5 && entry->d_name[0] != '.' && strcmp(entry->d_name + size - 5, ".conf") == 0;
  }
  static int by_bytes(const dirent** a, const dirent** b) {
    return strcmp((*a)->d_name, (*b)->d_name);
  }

  // --- values ---

  bool apply(const Row& row, const Line& line) {
    switch (row.kind) {
      case Kind::flag: return read_into(line, options_.*row.flag);
      case Kind::number: return read_number(row, line, options_.*row.number);
      case Kind::text: return read_text(line, options_.*row.text);
      case Kind::listener_flag: return read_into(line, listener().*row.listener_flag);
      case Kind::listener_number: return read_number(row, line, listener().*row.listener_number);
      case Kind::listener_text:
        return read_text(line, listener().*row.listener_text, options_.defaults.*row.listener_text);
      case Kind::security_text:
        return read_text(line, its_security().*row.security_text,
                         options_.defaults.*row.security_text);
      case Kind::handler: return (this->*row.handler)(line);
      case Kind::no_effect:
        log_.line(log_warning, "Warning: The '%s' option has no effect.", line.name);
        return true;
      case Kind::replaced:
        log_.line(log_error, "Error: The '%s' option is not supported: %s", line.name,
                  row.sentence);
        return fail_at(line);
    }
    return false;
  }

  // What asks for TLS is an error where there is none, so that nobody believes in it.
  bool check_built(const Line& line) {
    struct Asking {
      const char* name;
      const char* harmless;
    };
    constexpr Asking asking[] = {
        {"certfile", ""},
        {"keyfile", ""},
        {"cafile", ""},
        {"capath", ""},
        {"crlfile", ""},
        {"dhparamfile", ""},
        {"ciphers", ""},
        {"ciphers_tls1.3", ""},
        {"tls_version", ""},
        {"require_certificate", "false"},
        {"use_identity_as_username", "false"},
        {"use_subject_as_username", "false"},
        {"psk_file", ""},
        {"psk_hint", ""},
    };
    for (const Asking& each : asking) {
      if (has_tls || strcmp(each.name, line.name) != 0 || strcmp(each.harmless, line.value) == 0) {
        continue;
      }
      log_.line(log_error,
                "Error: The '%s' option needs TLS, and this mqttd is built without: build it with "
                "cmake -DMQTT_TLS=ON, or with c++ -DMQTT_TLS ... -lssl -lcrypto.",
                line.name);
      return fail_at(line);
    }
    return true;
  }
  bool not_built(const Line& line) {
    log_.line(log_error, "Error: The '%s' option is not built yet.", line.name);
    return fail_at(line);
  }

  // The listener above, or what the ones below begin with.
  ListenerOptions& listener() {
    return options_.listener_count == 0 ? options_.defaults
                                        : options_.listeners[options_.listener_count - 1];
  }

  // What a security option sets: something of all listeners, or of one.
  SecurityOptions& its_security() {
    security_seen_ = true;
    if (options_.per_listener_settings) { return listener(); }
    return options_.security;
  }

  // Ends the value's first word and what follows it, unless that is a comment: false.
  static bool one_word(char* value) {
    char* end = value + strcspn(value, " \t");
    const char* rest = skip_blanks(end);
    const bool alone = *rest == 0 || *rest == '#';
    if (alone) { *end = 0; }
    return alone && *value != 0;
  }

  static bool read_flag(const Line& line, bool& value) {
    if (!one_word(line.value)) { return false; }
    value = strcmp(line.value, "true") == 0 || strcmp(line.value, "1") == 0;
    return value || strcmp(line.value, "false") == 0 || strcmp(line.value, "0") == 0;
  }

  bool read_into(const Line& line, bool& target) {
    bool value = false;
    if (!read_flag(line, value)) { return invalid(line); }
    target = value;
    return true;
  }
  bool read_choice(const Line& line, Choice& choice) {
    bool value = false;
    if (!read_flag(line, value)) { return invalid(line); }
    choice = value ? Choice::yes : Choice::no;
    return true;
  }

  bool read_number(const Row& row, const Line& line, int64_t& value) {
    if (!one_word(line.value)) { return invalid(line); }
    char* end = nullptr;
    errno = 0;
    const long long number = strtoll(line.value, &end, 0);
    if (*end != 0) {
      log_.line(log_error, "Error: '%s' value not a number.", line.name);
      return fail_at(line);
    }
    value = number;
    if (number < 0 && row.negative != Negative::error) {
      value = row.negative == Negative::zero ? 0 : -1;
    } else if (errno == ERANGE || number < row.least || number > row.most) {
      log_.line(log_error, "Error: '%s' value out of range (%lld to %lld).", line.name,
                static_cast<long long>(row.least < 0 ? 0 : row.least),
                static_cast<long long>(row.most));
      return fail_at(line);
    }
    return true;
  }

  // A listener may replace what it has inherited.
  bool read_text(const Line& line, const char*& target, const char* inherited = nullptr) {
    if (line.value[0] == 0) { return invalid(line); }
    if (target != nullptr && target != inherited) {
      log_.line(log_error, "Error: Duplicate '%s' value in configuration.", line.name);
      return fail_at(line);
    }
    target = line.value;
    return true;
  }

  // --- options with a rule of their own ---

  bool read_port(const Line& line, const char* word, uint16_t& port) {
    char* end = nullptr;
    const long number = strtol(word, &end, 0);
    if (*word == 0 || *end != 0 || number < 0 || number > 65535) {
      const bool listener = strcmp(line.name, "listener") == 0;
      log_.line(log_error, "Error: Invalid '%s' value (%s).", listener ? "listener port" : "port",
                word);
      return fail_at(line);
    }
    port = static_cast<uint16_t>(number);
    return true;
  }

  bool on_listener(const Line& line) {
    char* host = line.value + strcspn(line.value, " \t");
    host = *host == 0 ? host : host + 1;
    line.value[strcspn(line.value, " \t")] = 0;
    host = skip_blanks(host);
    if (*host == '#') { *host = 0; }
    if (char* comment = strstr(host, " #")) {
      *comment = 0;
      trim_end(host);
    }
    ListenerOptions next = options_.defaults;
    if (!read_port(line, line.value, next.port)) { return false; }
    if (next.port == 0) {
      if (*host == 0) {
        log_.line(log_error, "Error: A listener with port 0 must provide a Unix socket path.");
        return fail_at(line);
      }
      next.path = host;
    } else {
      next.host = *host == 0 ? nullptr : host;
    }
    if (options_.listener_count == listeners_max) {
      log_.line(log_error, "Error: More than %u listeners.", listeners_max);
      return fail_at(line);
    }
    options_.listeners[options_.listener_count++] = next;
    return true;
  }

  bool on_port(const Line& line) {
    uint16_t port = 0;
    if (!one_word(line.value) || !read_port(line, line.value, port) || port == 0) {
      return port == 0 ? invalid(line) : false;
    }
    options_.port = port;
    return true;
  }

  bool on_allow_anonymous(const Line& line) {
    return read_choice(line, its_security().allow_anonymous);
  }
  bool on_allow_zero_length_clientid(const Line& line) {
    return read_choice(line, its_security().allow_zero_length_clientid);
  }

  bool has_listener(const Line& line) {
    if (options_.listener_count != 0) { return true; }
    log_.line(log_error, "Error: The '%s' option requires a listener to be defined first.",
              line.name);
    return fail_at(line);
  }
  bool on_listener_allow_anonymous(const Line& line) {
    return has_listener(line) && read_choice(line, listener().allow_anonymous);
  }

  bool on_per_listener_settings(const Line& line) {
    bool value = false;
    if (!read_flag(line, value)) { return invalid(line); }
    if (value != options_.per_listener_settings && security_seen_) {
      log_.line(log_error,
                "Error: per_listener_settings must be set before any other security "
                "settings.");
      return fail_at(line);
    }
    options_.per_listener_settings = value;
    return true;
  }

  bool on_socket_domain(const Line& line) {
    if (one_word(line.value) && strcmp(line.value, "ipv4") == 0) {
      listener().domain = AF_INET;
    } else if (strcmp(line.value, "ipv6") == 0) {
      listener().domain = AF_INET6;
    } else {
      return invalid(line);
    }
    return true;
  }

  bool on_max_inflight_messages(const Line& line) {
    Row row = bounded(Row(line.name, Kind::number), 0, 65535);
    row.negative = Negative::zero;
    return read_number(row, line, options_.max_inflight_messages);
  }

  bool on_accept_protocol_versions(const Line& line) {
    uint8_t versions = 0;
    for (char* at = line.value; *at != 0;) {
      char* end = at + strcspn(at, ",");
      const size_t size = strcspn(at, ", \t");
      const bool last = *end == 0;
      if (size != 1 || *at < '3' || *at > '5' || skip_blanks(at + 1) != end) {
        return invalid(line);
      }
      versions = static_cast<uint8_t>(versions | 1U << (*at - '0'));
      at = last ? end : skip_blanks(end + 1);
    }
    listener().versions = versions;
    return versions != 0 || invalid(line);
  }

  bool on_persistent_client_expiration(const Line& line) {
    struct Unit {
      char letter;
      int64_t seconds;
    };
    constexpr Unit units[] = {{'s', 1},      {'h', 3600},    {'d', 86400},
                              {'w', 604800}, {'m', 2592000}, {'y', 31536000}};
    if (!one_word(line.value)) { return invalid(line); }
    char* end = nullptr;
    const long number = strtol(line.value, &end, 10);
    for (const Unit& unit : units) {
      if (end != line.value && number > 0 && number < INT32_MAX && end[0] == unit.letter &&
          end[1] == 0) {
        options_.persistent_client_expiration = number * unit.seconds;
        return true;
      }
    }
    return invalid(line);
  }

  bool read_id_prefix(const Line& line, const char*& target) {
    constexpr size_t size_max = 11;
    if (strlen(line.value) > size_max) {
      log_.line(log_error, "Error: '%s' length must be <= %zu.", line.name, size_max);
      return fail_at(line);
    }
    return read_text(line, target, options_.defaults.auto_id_prefix);
  }
  bool on_auto_id_prefix(const Line& line) {
    return read_id_prefix(line, its_security().auto_id_prefix);
  }
  bool on_listener_auto_id_prefix(const Line& line) {
    return has_listener(line) && read_id_prefix(line, listener().auto_id_prefix);
  }

  bool on_mount_point(const Line& line) {
    if (!mqtt::valid_topic(line.value)) {
      log_.line(log_error, "Error: Invalid mount_point '%s'. Does it contain a wildcard character?",
                line.value);
      return fail_at(line);
    }
    return read_text(line, listener().mount_point, options_.defaults.mount_point);
  }

  bool on_protocol(const Line& line) {
    const bool websockets = one_word(line.value) && strcmp(line.value, "websockets") == 0;
    if (!websockets && strcmp(line.value, "mqtt") != 0) { return invalid(line); }
    listener().protocol = websockets ? Protocol::websockets : Protocol::mqtt;
    return true;
  }

  bool on_proxy_protocol(const Line& line) {
    struct Name {
      const char* name;
      ProxyProtocol proxy;
    };
    constexpr Name names[] = {{"1", ProxyProtocol::v1},
                              {"2", ProxyProtocol::v2},
                              {"true", ProxyProtocol::any},
                              {"false", ProxyProtocol::none}};
    for (const Name& each : names) {
      if (one_word(line.value) && strcmp(each.name, line.value) == 0) {
        listener().proxy = each.proxy;
        return true;
      }
    }
    return invalid(line);
  }

  bool on_tls_version(const Line& line) {
    const bool known = one_word(line.value) &&
                       (strcmp(line.value, "tlsv1.2") == 0 || strcmp(line.value, "tlsv1.3") == 0);
    return known ? read_text(line, listener().tls_version, options_.defaults.tls_version)
                 : invalid(line);
  }

  bool on_check_retain_source(const Line& line) {
    bool value = false;
    if (!read_flag(line, value)) { return invalid(line); }
    if (value) {
      log_.line(log_warning,
                "Warning: The '%s' option has no effect: rules are checked when a message is "
                "published and when it is delivered.",
                line.name);
    }
    return true;
  }

  bool on_autosave_on_changes(const Line& line) {
    bool value = false;
    return read_into(line, value) && say_saved(line);
  }
  bool say_saved(const Line& line) {
    log_.line(log_information,
              "The '%s' option has nothing to do: with persistence every change is saved as it "
              "happens.",
              line.name);
    return true;
  }
  bool on_persistence(const Line& line) { return read_into(line, options_.persistence.on); }
  bool on_persistence_file(const Line& line) {
    if (strchr(line.value, '/') != nullptr) {
      log_.line(log_error, "Error: persistence_file must be a filename, not a full path.");
      return fail_at(line);
    }
    return read_text(line, options_.persistence.file);
  }
  bool on_persistence_location(const Line& line) {
    return read_text(line, options_.persistence.location);
  }
  bool on_persistence_sync(const Line& line) {
    SyncChoice choice;
    return read_sync(line.value, choice) ? read_text(line, options_.persistence.sync)
                                         : invalid(line);
  }
  bool on_autosave_interval(const Line& line) {
    int64_t value = 0;
    return read_number(bounded(Row(line.name, Kind::number), 0, INT32_MAX), line, value) &&
           say_saved(line);
  }

  bool on_log_type(const Line& line) {
    struct Name {
      const char* name;
      uint16_t types;
    };
    constexpr Name names[] = {{"none", 0},
                              {"all", log_all},
                              {"error", log_error},
                              {"warning", log_warning},
                              {"notice", log_notice},
                              {"information", log_information},
                              {"debug", log_debug},
                              {"subscribe", log_subscribe},
                              {"unsubscribe", log_unsubscribe},
                              {"internal", 0},
                              {"websockets", 0}};
    for (const Name& each : names) {
      if (one_word(line.value) && strcmp(each.name, line.value) == 0) {
        const bool clear = !log_type_seen_ || strcmp(each.name, "none") == 0;
        options_.log_types = static_cast<uint16_t>((clear ? 0 : options_.log_types) | each.types);
        log_type_seen_ = true;
        return true;
      }
    }
    return invalid(line);
  }

  bool on_log_dest(const Line& line) {
    uint8_t target = log_nowhere;
    if (strcmp(line.value, "stderr") == 0) {
      target = log_to_stderr;
    } else if (strcmp(line.value, "stdout") == 0) {
      target = log_to_stdout;
    } else if (strncmp(line.value, "file", 4) == 0 && is_blank(line.value[4])) {
      target = log_to_file;
      options_.log_file = skip_blanks(line.value + 4);
    } else if (strcmp(line.value, "syslog") == 0) {
      target = log_to_syslog;
    } else if (strcmp(line.value, "topic") == 0) {
      target = log_to_topic;
    } else if (strcmp(line.value, "none") != 0) {
      return invalid(line);
    }
    const bool clear = !log_dest_seen_ || target == log_nowhere;
    options_.log_targets = static_cast<uint8_t>((clear ? 0 : options_.log_targets) | target);
    log_dest_seen_ = true;
    return true;
  }

  bool on_log_timestamp_format(const Line& line) {
    return read_text(line, options_.log_timestamp_format) &&
           (strlen(line.value) < 200 || invalid(line));
  }

  bool on_include_dir(const Line& line) {
    if (included_) {
      log_.line(log_error, "Error: 'include_dir' works in the main file only.");
      return fail_at(line);
    }
    include_file_ = line.file;
    include_line_ = line.number;
    return read_text(line, include_directory_);
  }

  Options& options_;
  Log& log_;
  TextMemory text_;
  bool included_ = false;
  bool security_seen_ = false;
  bool log_type_seen_ = false;
  bool log_dest_seen_ = false;
  const char* include_directory_ = nullptr;
  const char* include_file_ = "";
  uint32_t include_line_ = 0;
};

// Every option of Mosquitto 2.1: what mqttd has, and what it knows and refuses.
struct ConfigReader::Known {
  // Of bridges and more that is not built: a text after the other, the last one empty.
  static constexpr char unbuilt[] =
      "proxy_protocol_v2_require_tls\0disable_client_cert_date_checks\0"
      "connection\0address\0addresses\0topic\0bridge_protocol_version\0cleansession\0"
      "local_cleansession\0clientid\0remote_clientid\0local_clientid\0username\0"
      "remote_username\0local_username\0password\0remote_password\0local_password\0"
      "keepalive_interval\0restart_timeout\0round_robin\0start_type\0notifications\0"
      "notifications_local_only\0notification_topic\0try_private\0idle_timeout\0threshold\0"
      "bridge_attempt_unsubscribe\0bridge_bind_address\0bridge_max_packet_size\0"
      "bridge_max_topic_alias\0bridge_outgoing_retain\0bridge_receive_maximum\0"
      "bridge_reload_type\0bridge_session_expiry_interval\0bridge_tcp_keepalive\0"
      "bridge_tcp_user_timeout\0bridge_alpn\0bridge_cafile\0bridge_capath\0bridge_certfile\0"
      "bridge_keyfile\0bridge_identity\0bridge_insecure\0bridge_psk\0bridge_require_ocsp\0"
      "bridge_tls_version\0";

  static constexpr const char* policy =
      "mqttd loads no code; write a policy class as examples/mqttd/policy.hpp does.";
  static constexpr const char* key_file = "keys are read from files; give the file to keyfile.";
  static constexpr Row rows[] = {
      {"listener", &ConfigReader::on_listener},
      {"port", &ConfigReader::on_port},
      {"bind_address", &Options::bind_address},
      {"bind_interface", &ListenerOptions::bind_interface},
      {"socket_domain", &ConfigReader::on_socket_domain},
      {"protocol", &ConfigReader::on_protocol},
      {"mount_point", &ConfigReader::on_mount_point},
      {"http_dir", &ListenerOptions::http_dir},
      {"websockets_origin", &ListenerOptions::websockets_origin},
      {"enable_proxy_protocol", &ConfigReader::on_proxy_protocol},
      {"use_username_as_clientid", &ListenerOptions::use_username_as_clientid},
      {"accept_protocol_versions", &ConfigReader::on_accept_protocol_versions},
      of_listener("max_connections", &ListenerOptions::max_connections, -1, many),
      of_listener("max_qos", &ListenerOptions::max_qos, 0, 2),
      of_listener("maximum_qos", &ListenerOptions::max_qos, 0, 2),
      of_listener("max_topic_alias", &ListenerOptions::max_topic_alias, 0, 65535),
      of_listener("max_topic_alias_broker", &ListenerOptions::max_topic_alias_broker, 0, 65535),

      {"per_listener_settings", &ConfigReader::on_per_listener_settings},
      {"allow_anonymous", &ConfigReader::on_allow_anonymous},
      {"listener_allow_anonymous", &ConfigReader::on_listener_allow_anonymous},
      security("password_file", &SecurityOptions::password_file),
      security("acl_file", &SecurityOptions::acl_file),
      security("psk_file", &SecurityOptions::psk_file),
      {"allow_zero_length_clientid", &ConfigReader::on_allow_zero_length_clientid},
      {"auto_id_prefix", &ConfigReader::on_auto_id_prefix},
      {"listener_auto_id_prefix", &ConfigReader::on_listener_auto_id_prefix},
      {"clientid_prefixes", &Options::clientid_prefixes},

      {"certfile", &ListenerOptions::certfile},
      {"keyfile", &ListenerOptions::keyfile},
      {"cafile", &ListenerOptions::cafile},
      {"capath", &ListenerOptions::capath},
      {"crlfile", &ListenerOptions::crlfile},
      {"dhparamfile", &ListenerOptions::dhparamfile},
      {"ciphers", &ListenerOptions::ciphers},
      {"ciphers_tls1.3", &ListenerOptions::ciphers_1_3},
      {"tls_version", &ConfigReader::on_tls_version},
      {"require_certificate", &ListenerOptions::require_certificate},
      {"use_identity_as_username", &ListenerOptions::use_identity_as_username},
      {"use_subject_as_username", &ListenerOptions::use_subject_as_username},
      {"psk_hint", &ListenerOptions::psk_hint},

      {"max_inflight_messages", &ConfigReader::on_max_inflight_messages},
      negative_is_zero("max_inflight_bytes", &Options::max_inflight_bytes, many),
      negative_is_zero("max_queued_messages", &Options::max_queued_messages, many),
      negative_is_zero("max_queued_bytes", &Options::max_queued_bytes, many),
      number("max_packet_size", &Options::max_packet_size, 20, 268435460),
      number("message_size_limit", &Options::message_size_limit, 0, 268435455),
      number("global_max_connections", &Options::global_max_connections, -1, many),
      number("global_max_clients", &Options::global_max_clients, -1, many),
      number("max_keepalive", &Options::max_keepalive, 0, 65535),
      number("memory_limit", &Options::memory_limit, 0, many),
      number("retain_expiry_interval", &Options::retain_expiry_interval, 0, 0xFFFFFFFF),
      number("sys_interval", &Options::sys_interval, 0, 65535),
      {"retain_available", &Options::retain_available},
      {"check_retain_source", &ConfigReader::on_check_retain_source},
      {"queue_qos0_messages", &Options::queue_qos0_messages},
      {"upgrade_outgoing_qos", &Options::upgrade_outgoing_qos},
      {"persistent_client_expiration", &ConfigReader::on_persistent_client_expiration},
      {"set_tcp_nodelay", &Options::set_tcp_nodelay},

      {"persistence", &ConfigReader::on_persistence},
      {"persistence_file", &ConfigReader::on_persistence_file},
      {"persistence_location", &ConfigReader::on_persistence_location},
      {"persistence_sync", &ConfigReader::on_persistence_sync},
      {"retained_persistence", &ConfigReader::on_persistence},
      {"autosave_interval", &ConfigReader::on_autosave_interval},
      {"autosave_on_changes", &ConfigReader::on_autosave_on_changes},

      {"log_type", &ConfigReader::on_log_type},
      {"log_dest", &ConfigReader::on_log_dest},
      number("log_facility", &Options::log_facility, 0, 7),
      {"log_timestamp", &Options::log_timestamp},
      {"log_timestamp_format", &ConfigReader::on_log_timestamp_format},
      {"connection_messages", &Options::connection_messages},
      {"pid_file", &Options::pid_file},
      {"user", &Options::user},
      {"include_dir", &ConfigReader::on_include_dir},

      {"allow_duplicate_messages", Kind::no_effect},
      {"websockets_log_level", Kind::no_effect},
      {"websockets_headers_size", Kind::no_effect},
      {"plugin", Kind::replaced, policy},
      {"plugin_load", Kind::replaced, policy},
      {"global_plugin", Kind::replaced, policy},
      {"auth_plugin", Kind::replaced, policy},
      {"tls_engine", Kind::replaced, key_file},
      {"tls_keyform", Kind::replaced, key_file},
  };
};

inline bool ConfigReader::is_unbuilt(const char* name) {
  for (const char* each = Known::unbuilt; *each != 0; each += strlen(each) + 1) {
    if (strcmp(each, name) == 0) { return true; }
  }
  return false;
}

inline const ConfigReader::Row* ConfigReader::find(const char* name) {
  for (const Row& row : Known::rows) {
    if (strcmp(row.name.text, name) == 0) { return &row; }
  }
  return nullptr;
}

inline const char* ConfigReader::nearest_name(const char* name) {
  const char* nearest = "";
  size_t least = ~size_t{0};
  const auto consider = [&](const char* known) {
    const size_t distance = edit_distance(name, known);
    if (distance < least) {
      least = distance;
      nearest = known;
    }
  };
  for (const Row& row : Known::rows) { consider(row.name.text); }
  for (const char* each = Known::unbuilt; *each != 0; each += strlen(each) + 1) { consider(each); }
  return nearest;
}

}  // namespace mqttd

#endif
