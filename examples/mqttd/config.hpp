// examples/mqttd/config.hpp — reads a configuration file in Mosquitto's format
// SPDX-License-Identifier: MIT
#ifndef MQTTD_CONFIG_HPP
#define MQTTD_CONFIG_HPP

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <mqtt.hpp>
#include <ports/posix/memory.hpp>

#include "options.hpp"

namespace mqttd {

/// Reads files into Options; the first error ends it, is logged and leaves a useless Options.
/// The bytes of the files stay here and must outlive the Options.
class ConfigReader {
 public:
  ConfigReader(Options& options, Log& log) : options_(options), log_(log) {}

  /// False: the error is logged, and the program should end with status 3.
  bool read(const char* path) {
    if (!text_.reserve(text_bytes_max)) { return fail("Error: Out of memory."); }
    return read_file(path, false) && check_whole();
  }

 private:
  struct Line {
    const char* file;
    uint32_t number;
    const char* name;
    char* value;  // without blanks at its ends; zero-terminated; may be empty
  };

  enum class Kind : uint8_t {
    flag,             // true or false
    number,           // a number of Options
    listener_number,  // a number of the listener above, or of those below
    handler,          // a function of its own
    not_built,        // known; refused, but for the value `text` that asks for nothing
    no_effect,        // accepted with a warning
    replaced          // refused with the sentence `text`
  };
  // What a negative number means.
  enum class Negative : uint8_t { error, zero, no_limit };

  struct Row {
    const char* name;
    const char* text = nullptr;
    bool Options::*flag = nullptr;
    int64_t Options::*number = nullptr;
    int64_t ListenerOptions::*listener_number = nullptr;
    bool (ConfigReader::*handler)(const Line&) = nullptr;
    int64_t least = 0;
    int64_t most = 0;
    Kind kind = Kind::not_built;
    Negative negative = Negative::error;
  };

  static constexpr uint64_t text_bytes_max = 16 << 20;
  static constexpr int64_t many = INT64_MAX;

  static constexpr Row with_text(const char* name, Kind kind, const char* text) {
    Row row{name};
    row.kind = kind;
    row.text = text;
    return row;
  }
  static constexpr Row flag(const char* name, bool Options::*member) {
    Row row = with_text(name, Kind::flag, nullptr);
    row.flag = member;
    return row;
  }
  // `least` of -1: negative numbers mean no limit.
  static constexpr Row number(const char* name, int64_t Options::*member, int64_t least,
                              int64_t most) {
    Row row = with_text(name, Kind::number, nullptr);
    row.number = member;
    row.least = least;
    row.most = most;
    row.negative = least < 0 ? Negative::no_limit : Negative::error;
    return row;
  }
  static constexpr Row negative_is_zero(const char* name, int64_t Options::*member, int64_t most) {
    Row row = number(name, member, 0, most);
    row.negative = Negative::zero;
    return row;
  }
  static constexpr Row of_listener(const char* name, int64_t ListenerOptions::*member,
                                   int64_t least, int64_t most) {
    Row row = with_text(name, Kind::listener_number, nullptr);
    row.listener_number = member;
    row.least = least;
    row.most = most;
    row.negative = least < 0 ? Negative::no_limit : Negative::error;
    return row;
  }
  static constexpr Row handled(const char* name, bool (ConfigReader::*handler)(const Line&)) {
    Row row = with_text(name, Kind::handler, nullptr);
    row.handler = handler;
    return row;
  }
  static constexpr Row not_built(const char* name, const char* harmless = nullptr) {
    return with_text(name, Kind::not_built, harmless);
  }
  static constexpr Row no_effect(const char* name) {
    return with_text(name, Kind::no_effect, nullptr);
  }
  static constexpr Row replaced(const char* name, const char* sentence) {
    return with_text(name, Kind::replaced, sentence);
  }

  struct Known;  // the table, below
  static const Row* find(const char* name);
  static const char* nearest_name(const char* name);

  // --- errors ---

  bool fail(const char* message) {
    log_.line(log_error, "%s", message);
    return false;
  }
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

  // Reads a whole file behind what was read before, zero-terminated; none on error.
  char* load(const char* path) {
    const int file = ::open(path, O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (file < 0 || fstat(file, &status) != 0) {
      log_.line(log_error, "Error: Unable to open config file '%s'.", path);
      if (file >= 0) { ::close(file); }
      return nullptr;
    }
    char* begin = reinterpret_cast<char*>(text_.data()) + text_used_;
    const char* problem = S_ISDIR(status.st_mode) ? "is a directory" : nullptr;
    ssize_t got = 1;
    while (problem == nullptr && got > 0) {
      const uint64_t space = text_bytes_max - text_used_ - 1;
      got = ::read(file, text_.data() + text_used_, static_cast<size_t>(space));
      text_used_ += got > 0 ? static_cast<uint64_t>(got) : 0;
      problem = got < 0 ? "cannot be read" : space == 0 ? "is too large" : nullptr;
    }
    ::close(file);
    if (problem != nullptr) {
      log_.line(log_error, "Error: Config file '%s' %s.", path, problem);
      return nullptr;
    }
    text_.data()[text_used_] = 0;
    ++text_used_;
    return begin;
  }

  // A copy that lives as long as the text of the files.
  const char* keep(const char* text) {
    const size_t size = strlen(text) + 1;
    if (text_used_ + size > text_bytes_max) { return ""; }
    char* copy = reinterpret_cast<char*>(text_.data()) + text_used_;
    memcpy(copy, text, size);
    text_used_ += size;
    return copy;
  }

  bool read_file(const char* path, bool included) {
    const uint64_t before = text_used_;
    char* at = load(path);
    if (at == nullptr) { return false; }
    const uint64_t size = text_used_ - before - 1;
    Line line{path, 0, "", at};
    if (!is_utf8(at, static_cast<uint32_t>(size))) {
      log_.line(log_error, "Error: Malformed UTF-8 in configuration.");
      return fail_at(line);
    }
    at += strncmp(at, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    included_ = included;
    while (*at != 0) {
      char* end = at + strcspn(at, "\n");
      char* next = *end == 0 ? end : end + 1;
      *end = 0;
      ++line.number;
      if (!read_line(line, at)) { return false; }
      at = next;
    }
    return included || include_directory_ == nullptr || read_directory();
  }

  static bool is_utf8(const char* text, uint32_t size) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(text);
    uint32_t at = 0;
    uint32_t length = 1;
    while (at < size && length != 0) {
      length = mqtt::detail::utf8_character(bytes + at, size - at);
      at += length;
    }
    return length != 0;
  }

  static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

  static char* skip_blanks(char* at) {
    while (is_blank(*at)) { ++at; }
    return at;
  }

  static void trim_end(char* text) {
    size_t size = strlen(text);
    while (size != 0 && is_blank(text[size - 1])) { --size; }
    text[size] = 0;
  }

  bool read_line(Line& line, char* at) {
    at = skip_blanks(at);
    if (*at == 0 || *at == '#') { return true; }
    trim_end(at);
    line.name = at;
    at += strcspn(at, " \t");
    line.value = skip_blanks(at);
    *at = 0;
    const Row* row = find(line.name);
    return row == nullptr ? unknown(line) : apply(*row, line);
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
      good = good && size < static_cast<int>(sizeof path) && read_file(keep(path), true);
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
      case Kind::flag: {
        bool value = false;
        if (!read_flag(line, value)) { return invalid(line); }
        options_.*row.flag = value;
        return true;
      }
      case Kind::number: return read_number(row, line, options_.*row.number);
      case Kind::listener_number: return read_number(row, line, listener().*row.listener_number);
      case Kind::handler: return (this->*row.handler)(line);
      case Kind::not_built:
        if (row.text != nullptr && strcmp(line.value, row.text) == 0) { return true; }
        log_.line(log_error, "Error: The '%s' option is not built yet.", line.name);
        return fail_at(line);
      case Kind::no_effect:
        log_.line(log_warning, "Warning: The '%s' option has no effect.", line.name);
        return true;
      case Kind::replaced:
        log_.line(log_error, "Error: The '%s' option is not supported: %s", line.name, row.text);
        return fail_at(line);
    }
    return false;
  }

  // The listener above, or what the ones below begin with.
  ListenerOptions& listener() {
    return options_.listener_count == 0 ? options_.defaults
                                        : options_.listeners[options_.listener_count - 1];
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

  bool read_text(const Line& line, const char*& target) {
    if (line.value[0] == 0) { return invalid(line); }
    if (target != nullptr) {
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
    next.allow_anonymous = options_.defaults.allow_anonymous;
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

  bool on_bind_address(const Line& line) { return read_text(line, options_.bind_address); }

  bool on_allow_anonymous(const Line& line) {
    security_seen_ = true;
    return read_choice(line, options_.per_listener_settings ? listener().allow_anonymous
                                                            : options_.allow_anonymous);
  }

  bool on_listener_allow_anonymous(const Line& line) {
    if (options_.listener_count == 0) {
      log_.line(log_error, "Error: The '%s' option requires a listener to be defined first.",
                line.name);
      return fail_at(line);
    }
    return read_choice(line, listener().allow_anonymous);
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
    const Row row = negative_is_zero(line.name, nullptr, 65535);
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
    options_.versions = versions;
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

  bool on_auto_id_prefix(const Line& line) {
    constexpr size_t size_max = 11;
    if (strlen(line.value) > size_max) {
      log_.line(log_error, "Error: 'auto_id_prefix' length must be <= %zu.", size_max);
      return fail_at(line);
    }
    return read_text(line, options_.auto_id_prefix);
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
      char* path = skip_blanks(line.value + 4);
      options_.log_file = path;
    } else if (strcmp(line.value, "none") != 0) {
      constexpr const char* known[] = {"syslog", "topic", "dlt", "android"};
      for (const char* name : known) {
        if (strncmp(line.value, name, strlen(name)) == 0) {
          log_.line(log_error, "Error: The 'log_dest' value '%s' is not built yet.", line.value);
          return fail_at(line);
        }
      }
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

  bool on_pid_file(const Line& line) { return read_text(line, options_.pid_file); }
  bool on_user(const Line& line) { return read_text(line, options_.user); }

  bool on_include_dir(const Line& line) {
    if (included_) {
      log_.line(log_error, "Error: 'include_dir' works in the main file only.");
      return fail_at(line);
    }
    include_file_ = line.file;
    include_line_ = line.number;
    return read_text(line, include_directory_);
  }

  // --- the whole ---

  // What no single line shows.
  bool check_whole() {
    const ListenerOptions& first =
        options_.listener_count == 0 ? options_.defaults : options_.listeners[0];
    for (uint32_t i = 0; i != options_.listener_count; ++i) {
      const ListenerOptions& each = options_.listeners[i];
      if (each.max_qos != first.max_qos || each.max_topic_alias != first.max_topic_alias ||
          each.max_topic_alias_broker != first.max_topic_alias_broker) {
        return fail(
            "Error: max_qos, max_topic_alias and max_topic_alias_broker that differ "
            "between listeners are not built yet.");
      }
    }
    options_.defaults.max_qos = first.max_qos;
    options_.defaults.max_topic_alias = first.max_topic_alias;
    options_.defaults.max_topic_alias_broker = first.max_topic_alias_broker;
    return true;
  }

  Options& options_;
  Log& log_;
  mqtt::posix::Reservation text_;
  uint64_t text_used_ = 0;
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
  static constexpr const char* policy =
      "mqttd loads no code; write a policy class as examples/mqttd/policy.hpp does.";
  static constexpr const char* key_file = "keys are read from files; give the file to keyfile.";
  static constexpr Row rows[] = {
      handled("listener", &ConfigReader::on_listener),
      handled("port", &ConfigReader::on_port),
      handled("bind_address", &ConfigReader::on_bind_address),
      handled("socket_domain", &ConfigReader::on_socket_domain),
      handled("allow_anonymous", &ConfigReader::on_allow_anonymous),
      handled("listener_allow_anonymous", &ConfigReader::on_listener_allow_anonymous),
      handled("per_listener_settings", &ConfigReader::on_per_listener_settings),
      of_listener("max_connections", &ListenerOptions::max_connections, -1, many),
      of_listener("max_qos", &ListenerOptions::max_qos, 0, 2),
      of_listener("maximum_qos", &ListenerOptions::max_qos, 0, 2),
      of_listener("max_topic_alias", &ListenerOptions::max_topic_alias, 0, 65535),
      of_listener("max_topic_alias_broker", &ListenerOptions::max_topic_alias_broker, 0, 65535),
      handled("max_inflight_messages", &ConfigReader::on_max_inflight_messages),
      negative_is_zero("max_queued_messages", &Options::max_queued_messages, many),
      number("max_packet_size", &Options::max_packet_size, 20, 268435460),
      number("message_size_limit", &Options::message_size_limit, 0, 268435455),
      number("global_max_connections", &Options::global_max_connections, -1, many),
      number("global_max_clients", &Options::global_max_clients, -1, many),
      number("max_keepalive", &Options::max_keepalive, 0, 65535),
      number("memory_limit", &Options::memory_limit, 0, many),
      flag("retain_available", &Options::retain_available),
      flag("queue_qos0_messages", &Options::queue_qos0_messages),
      flag("allow_zero_length_clientid", &Options::allow_zero_length_clientid),
      handled("auto_id_prefix", &ConfigReader::on_auto_id_prefix),
      handled("accept_protocol_versions", &ConfigReader::on_accept_protocol_versions),
      handled("persistent_client_expiration", &ConfigReader::on_persistent_client_expiration),
      flag("set_tcp_nodelay", &Options::set_tcp_nodelay),
      handled("log_type", &ConfigReader::on_log_type),
      handled("log_dest", &ConfigReader::on_log_dest),
      flag("log_timestamp", &Options::log_timestamp),
      handled("log_timestamp_format", &ConfigReader::on_log_timestamp_format),
      flag("connection_messages", &Options::connection_messages),
      handled("pid_file", &ConfigReader::on_pid_file),
      handled("user", &ConfigReader::on_user),
      handled("include_dir", &ConfigReader::on_include_dir),

      not_built("max_inflight_bytes", "0"),
      not_built("max_queued_bytes", "0"),
      not_built("upgrade_outgoing_qos", "false"),
      not_built("protocol", "mqtt"),
      not_built("bind_interface"),
      not_built("mount_point"),
      not_built("http_dir"),
      not_built("enable_proxy_protocol", "false"),
      not_built("websockets_origin"),
      not_built("sys_interval", "0"),
      not_built("check_retain_source"),
      not_built("retain_expiry_interval"),
      not_built("listener_auto_id_prefix"),
      not_built("clientid_prefixes"),
      not_built("use_username_as_clientid", "false"),
      not_built("log_facility"),
      not_built("acl_file"),
      not_built("password_file"),
      not_built("psk_file"),
      not_built("psk_hint"),
      not_built("certfile"),
      not_built("keyfile"),
      not_built("cafile"),
      not_built("capath"),
      not_built("crlfile"),
      not_built("dhparamfile"),
      not_built("ciphers"),
      not_built("ciphers_tls1.3"),
      not_built("tls_version"),
      not_built("require_certificate", "false"),
      not_built("use_identity_as_username", "false"),
      not_built("use_subject_as_username", "false"),
      not_built("persistence", "false"),
      not_built("persistence_file"),
      not_built("persistence_location"),
      not_built("retained_persistence"),
      not_built("autosave_interval"),
      not_built("autosave_on_changes"),

      not_built("connection"),
      not_built("address"),
      not_built("addresses"),
      not_built("topic"),
      not_built("bridge_protocol_version"),
      not_built("cleansession"),
      not_built("local_cleansession"),
      not_built("clientid"),
      not_built("remote_clientid"),
      not_built("local_clientid"),
      not_built("username"),
      not_built("remote_username"),
      not_built("local_username"),
      not_built("password"),
      not_built("remote_password"),
      not_built("local_password"),
      not_built("keepalive_interval"),
      not_built("restart_timeout"),
      not_built("round_robin"),
      not_built("start_type"),
      not_built("notifications"),
      not_built("notifications_local_only"),
      not_built("notification_topic"),
      not_built("try_private"),
      not_built("idle_timeout"),
      not_built("threshold"),
      not_built("bridge_attempt_unsubscribe"),
      not_built("bridge_bind_address"),
      not_built("bridge_max_packet_size"),
      not_built("bridge_max_topic_alias"),
      not_built("bridge_outgoing_retain"),
      not_built("bridge_receive_maximum"),
      not_built("bridge_reload_type"),
      not_built("bridge_session_expiry_interval"),
      not_built("bridge_tcp_keepalive"),
      not_built("bridge_tcp_user_timeout"),
      not_built("bridge_alpn"),
      not_built("bridge_cafile"),
      not_built("bridge_capath"),
      not_built("bridge_certfile"),
      not_built("bridge_keyfile"),
      not_built("bridge_identity"),
      not_built("bridge_insecure"),
      not_built("bridge_psk"),
      not_built("bridge_require_ocsp"),
      not_built("bridge_tls_version"),

      no_effect("allow_duplicate_messages"),
      no_effect("websockets_log_level"),
      no_effect("websockets_headers_size"),
      replaced("plugin", policy),
      replaced("plugin_load", policy),
      replaced("global_plugin", policy),
      replaced("auth_plugin", policy),
      replaced("tls_engine", key_file),
      replaced("tls_keyform", key_file),
  };
};

inline const ConfigReader::Row* ConfigReader::find(const char* name) {
  for (const Row& row : Known::rows) {
    if (strcmp(row.name, name) == 0) { return &row; }
  }
  return nullptr;
}

inline const char* ConfigReader::nearest_name(const char* name) {
  const char* nearest = "";
  size_t least = ~size_t{0};
  for (const Row& row : Known::rows) {
    const size_t distance = edit_distance(name, row.name);
    if (distance < least) {
      least = distance;
      nearest = row.name;
    }
  }
  return nearest;
}

}  // namespace mqttd

#endif
