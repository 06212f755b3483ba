// examples/tools/options.hpp — what the command line, the options file and the environment say
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_OPTIONS_HPP
#define MQTT_TOOLS_OPTIONS_HPP

#include <stdarg.h>
#include <unistd.h>
#include <utility>

#include "format.hpp"
#include "properties.hpp"
#include "url.hpp"

namespace tools {

/// Bits, so that a flag can name those that have it.
enum Tool : uint8_t { pub = 1, sub = 2, rr = 4 };

enum class MessageMode : uint8_t { none, text, file, lines, input, empty };

struct TlsOptions {
  const char* cafile = nullptr;
  const char* capath = nullptr;
  const char* certfile = nullptr;
  const char* keyfile = nullptr;
  const char* ciphers = nullptr;
  const char* version = nullptr;
  const char* alpn = nullptr;
  const char* keylog = nullptr;
  const char* psk = nullptr;
  const char* psk_identity = nullptr;
  bool insecure = false;
  bool use_os_certs = false;
  bool off = false;
};

/// Where to connect to, and as whom.
struct ConnectionOptions {
  const char* host = "localhost";
  const char* unix_path = nullptr;
  const char* bind_address = nullptr;
  const char* client_id = nullptr;
  const char* id_prefix = nullptr;
  const char* user_name = nullptr;
  const char* password = nullptr;
  const char* password_file = nullptr;
  const char* will_topic = nullptr;
  const char* will_payload = nullptr;
  int64_t session_expiry_s = -1;  ///< -1: not given
  int port = -1;                  ///< -1: not given
  int keep_alive_s = 60;
  int will_qos = 0;
  mqtt::Version version = mqtt::Version::v3_1_1;
  bool will_retain = false;
  bool clean_session = true;
  bool websocket = false;
};

/// What to publish.
struct MessageOptions {
  const char* topic = nullptr;
  const char* response_topic = nullptr;
  const char* message = nullptr;
  const char* file = nullptr;
  int qos = 0;  ///< of subscriptions too
  int inflight_max = 20;
  int repeat_count = 1;
  uint32_t repeat_delay_ms = 0;
  MessageMode mode = MessageMode::none;
  bool retain = false;
  bool measure_latency = false;
};

/// What to subscribe to, and when to end.
struct SubscriptionOptions {
  std::vector<const char*> topics;
  std::vector<const char*> filters_out;
  std::vector<const char*> unsubscribes;
  int message_count = 0;  ///< 0: no end
  int timeout_s = 0;      ///< 0: none
  mqtt::RetainHandling retain_handling = mqtt::RetainHandling::send;
  bool retain_as_published = false;
  bool no_retain = false;
  bool retained_only = false;
  bool remove_retained = false;
  bool exit_after_subscribe = false;
};

/// Texts point into the command line, which lasts, or into texts that are kept here.
struct Options : ConnectionOptions, MessageOptions, SubscriptionOptions {
  TlsOptions tls;
  OutputOptions output;
  PropertyLists properties;
  std::vector<std::vector<char>> texts;
  Tool tool = pub;
  bool debug = false;
  bool quiet = false;

  char* keep(std::vector<char> text) {
    texts.push_back(std::move(text));
    return texts.back().data();
  }
  mqtt::Qos level() const { return static_cast<mqtt::Qos>(qos); }
  bool is_v5() const { return version == mqtt::Version::v5; }
  const char* name() const {
    return tool == pub ? "mqtt_pub" : tool == sub ? "mqtt_sub" : "mqtt_rr";
  }
  bool uses_tls() const {
    const bool asked = tls.cafile != nullptr || tls.capath != nullptr || tls.psk != nullptr ||
                       tls.use_os_certs || (port == 8883 && unix_path == nullptr);
    return asked && !tls.off;
  }
  int port_number() const { return port >= 0 ? port : uses_tls() ? 8883 : 1883; }
};

/// A message that --quiet suppresses.
__attribute__((format(printf, 2, 3))) inline void complain(const Options& options,
                                                           const char* format, ...) {
  if (options.quiet) { return; }
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
}

enum class Parsed : uint8_t { good, wrong, help, version };

namespace detail {
__attribute__((format(printf, 1, 2))) inline bool refuse(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  return false;
}

// As atoi(): what is no number is 0.
inline int number(const char* text) {
  const long value = strtol(text, nullptr, 10);
  return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : static_cast<int>(value);
}

inline bool set_number(int& target, const char* text, int least, int most) {
  target = number(text);
  return target >= least && target <= most;
}

inline bool check_text(const char* text, const char* flag) {
  return mqtt::valid_text(text) || refuse("Error: Malformed UTF-8 in %s argument.\n\n", flag);
}

inline bool check_topic(const char* topic, const char* flag, const char* kind) {
  if (!check_text(topic, flag)) { return false; }
  return mqtt::valid_topic(topic) ||
         refuse("Error: Invalid %s topic '%s', does it contain '+' or '#'?\n", kind, topic);
}

inline bool check_filter(const char* filter, const char* flag, const char* kind) {
  if (!check_text(filter, flag)) { return false; }
  return mqtt::valid_filter(filter) ||
         refuse("Error: Invalid %s topic '%s', are all '+' and '#' wildcards correct?\n", kind,
                filter);
}

inline bool add_topic(Options& options, const char* topic, const char* flag) {
  if (options.tool == sub) {
    options.topics.push_back(topic);
    return check_filter(topic, flag, "subscription");
  }
  options.topic = topic;
  return check_topic(topic, flag, "publish");
}

inline bool set_mode(Options& options, MessageMode mode) {
  if (options.mode != MessageMode::none) {
    return refuse("Error: Only one type of message can be sent at once.\n\n");
  }
  options.mode = mode;
  return true;
}

inline bool set_message(Options& options, const char* text) {
  options.message = text;
  if (strlen(text) > mqtt::remaining_length_max) {
    return refuse("Error: Message length must be less than %u bytes.\n\n",
                  mqtt::remaining_length_max);
  }
  return set_mode(options, MessageMode::text);
}

inline bool set_url(Options& options, const char* text) {
  Url url;
  char* const copy = options.keep(std::vector<char>(text, text + strlen(text) + 1));
  if (const char* const error = parse_url(copy, url)) { return refuse("%s", error); }
  if (!add_topic(options, url.topic, "-L topic")) { return false; }
  options.host = url.host;
  options.unix_path = nullptr;
  options.port = url.port != nullptr ? number(url.port) : url.is_tls ? 8883 : 1883;
  if (options.port < 0 || options.port > 65535) {
    return refuse("Error: Invalid port given: %d\n", options.port);
  }
  if (url.user_name != nullptr) { options.user_name = url.user_name; }
  if (url.password != nullptr) { options.password = url.password; }
  options.tls.use_os_certs = options.tls.use_os_certs || url.is_tls;
  options.websocket = options.websocket || url.is_websocket;
  return true;
}

inline bool set_version(Options& options, const char* text) {
  struct Name {
    const char* name;
    mqtt::Version version;
  };
  constexpr Name names[] = {{"mqttv31", mqtt::Version::v3_1},    {"31", mqtt::Version::v3_1},
                            {"mqttv311", mqtt::Version::v3_1_1}, {"311", mqtt::Version::v3_1_1},
                            {"mqttv5", mqtt::Version::v5},       {"5", mqtt::Version::v5}};
  for (const Name& each : names) {
    if (strcmp(each.name, text) == 0) {
      options.version = each.version;
      return true;
    }
  }
  return refuse("Error: Invalid protocol version argument given.\n\n");
}

inline bool set_session_expiry(Options& options, const char* text) {
  constexpr int64_t for_ever = 0xFFFFFFFF;
  options.version = mqtt::Version::v5;
  options.session_expiry_s = for_ever;
  if (strcmp(text, "∞") == 0) { return true; }
  char* end = nullptr;
  const long long value = strtoll(text, &end, 0);
  if (end == text || *end != 0) {
    return refuse("Error: session-expiry-interval not a number.\n\n");
  }
  if (value > for_ever || value < -1) {
    return refuse("Error: session-expiry-interval out of range.\n\n");
  }
  if (value >= 0) { options.session_expiry_s = value; }
  return true;
}

inline bool set_retain_handling(Options& options, const char* text) {
  constexpr const char* names[] = {"always", "new", "never"};
  for (uint8_t i = 0; i != 3; ++i) {
    if (strcmp(names[i], text) == 0) {
      options.retain_handling = static_cast<mqtt::RetainHandling>(i);
      return true;
    }
  }
  return refuse("Error: Unknown value '%s' for --retain-handling.\n\n", text);
}

inline bool set_repeat_delay(Options& options, const char* text) {
  const double seconds = strtod(text, nullptr);
  if (!(seconds >= 0)) { return refuse("Error: --repeat-delay argument must be >=0.0.\n\n"); }
  const double most = 1e9;  // 11 days
  options.repeat_delay_ms = static_cast<uint32_t>(seconds * 1000 < most ? seconds * 1000 : most);
  return true;
}

inline bool set_random_filter(Options& options, const char* text) {
  const double percent = strtod(text, nullptr);
  options.output.random_filter = static_cast<uint32_t>(percent > 0 ? percent * 100 : 0);
  return (percent >= 0.1 && percent <= 100) ||
         refuse("Error: --random-filter chance must be between 0.1-100.0\n\n");
}

/// One flag. Of the last three fields one is set: where a text goes, what becomes true, or what
/// else is to be done.
struct Flag {
  const char* name;  // as messages show it
  const char* other_name;
  uint8_t tools;
  const char* missing;  // what is not there when the value is not; nullptr: takes none
  const char* Options::*text = nullptr;
  bool Options::*truth = nullptr;
  bool (*apply)(Options&, const char*) = nullptr;
};
constexpr uint8_t all = pub | sub | rr;

constexpr Flag with_text(Flag flag, const char* Options::*target) {
  flag.text = target;
  return flag;
}
constexpr Flag with_truth(Flag flag, bool Options::*target) {
  flag.truth = target;
  return flag;
}
constexpr Flag with(Flag flag, bool (*apply)(Options&, const char*)) {
  flag.apply = apply;
  return flag;
}
constexpr Flag with_tls(const char* name, const char* missing,
                        bool (*apply)(Options&, const char*)) {
  return with({name, nullptr, all, missing}, apply);
}

inline const Flag connection_flags[] = {
    with_text({"-A", nullptr, all, "no address"}, &Options::bind_address),
    with({"-h", "--host", all, "no host"},
         [](Options& o, const char* v) {
           o.host = v;
           o.unix_path = nullptr;
           return true;
         }),
    with({"-L", "--url", all, "no URL"}, set_url),
    with({"-p", "--port", all, "no port"},
         [](Options& o, const char* v) {
           return set_number(o.port, v, 0, 65535) ||
                  refuse("Error: Invalid port given: %d\n", o.port);
         }),
    with_text({"--unix", nullptr, all, "no socket path"}, &Options::unix_path),
    with_truth({"--ws", nullptr, all, nullptr}, &Options::websocket),
    // Nagle's algorithm is off in any case, and no system here has Multipath TCP.
    with({"--nodelay", nullptr, all, nullptr}, [](Options&, const char*) { return true; }),
    with({"--mptcp", nullptr, all, nullptr}, [](Options&, const char*) { return true; }),
    with({"--proxy", nullptr, all, "no proxy url"},
         [](Options&, const char*) {
           return refuse(
               "Error: --proxy is not supported: connect through a tunnel instead, such "
               "as ssh -L.\n\n");
         }),
    with_text({"-u", "--username", all, "no username"}, &Options::user_name),
    with_text({"-P", "--pw", all, "no password"}, &Options::password),
    with_text({"--password-file", nullptr, all, "no file"}, &Options::password_file),
    with({"-i", "--id", all, "no id"},
         [](Options& o, const char* v) {
           o.client_id = v;
           return o.id_prefix == nullptr ||
                  refuse("Error: -i and -I argument cannot be used together.\n\n");
         }),
    with({"-I", "--id-prefix", all, "no id prefix"},
         [](Options& o, const char* v) {
           o.id_prefix = v;
           return o.client_id == nullptr ||
                  refuse("Error: -i and -I argument cannot be used together.\n\n");
         }),
    with({"-k", "--keepalive", all, "no keepalive"},
         [](Options& o, const char* v) {
           return set_number(o.keep_alive_s, v, 5, 65535) ||
                  refuse(
                      "Error: Invalid keepalive given, it must be between 5 and 65535 "
                      "inclusive.\n\n");
         }),
    with({"-c", "--disable-clean-session", all, nullptr},
         [](Options& o, const char*) {
           o.clean_session = false;
           return true;
         }),
    with({"-x", nullptr, all, "no session expiry interval"}, set_session_expiry),
    with({"--protocol-version", "-V", all, "no version"}, set_version),
    with({"--will-topic", nullptr, all, "no will topic"},
         [](Options& o, const char* v) {
           o.will_topic = v;
           return check_topic(v, "--will-topic", "will");
         }),
    with_text({"--will-payload", nullptr, all, "no will payload"}, &Options::will_payload),
    with({"--will-qos", nullptr, all, "no will QoS"},
         [](Options& o, const char* v) {
           return set_number(o.will_qos, v, 0, 2) ||
                  refuse("Error: Invalid will QoS %d.\n\n", o.will_qos);
         }),
    with_truth({"--will-retain", nullptr, all, nullptr}, &Options::will_retain),
    with_truth({"-d", "--debug", all, nullptr}, &Options::debug),
    with_truth({"--quiet", nullptr, all, nullptr}, &Options::quiet),
};

inline const Flag message_flags[] = {
    with({"-t", "--topic", all, "no topic"},
         [](Options& o, const char* v) { return add_topic(o, v, "-t"); }),
    with({"-q", "--qos", all, "no QoS"},
         [](Options& o, const char* v) {
           return set_number(o.qos, v, 0, 2) || refuse("Error: Invalid QoS given: %d\n", o.qos);
         }),
    with({"-f", "--file", pub | rr, "no file"},
         [](Options& o, const char* v) {
           o.file = v;
           return set_mode(o, MessageMode::file);
         }),
    with({"-l", "--stdin-line", pub, nullptr},
         [](Options& o, const char*) { return set_mode(o, MessageMode::lines); }),
    with({"-m", "--message", pub | rr, "no message"}, set_message),
    with({"-n", "--null-message", pub | rr, nullptr},
         [](Options& o, const char*) { return set_mode(o, MessageMode::empty); }),
    with({"-s", "--stdin-file", pub | rr, nullptr},
         [](Options& o, const char*) { return set_mode(o, MessageMode::input); }),
    with({"-M", nullptr, all, "max_inflight not"},
         [](Options& o, const char* v) {
           return set_number(o.inflight_max, v, 1, INT32_MAX) ||
                  refuse("Error: Maximum inflight messages must be greater than 0.\n\n");
         }),
    with_truth({"-r", "--retain", pub, nullptr}, &Options::retain),
    with({"--repeat", nullptr, pub, "no count"},
         [](Options& o, const char* v) {
           return set_number(o.repeat_count, v, 1, INT32_MAX) ||
                  refuse("Error: --repeat argument must be >0.\n\n");
         }),
    with({"--repeat-delay", nullptr, pub, "no time"}, set_repeat_delay),
    with({"-e", nullptr, rr, "no response topic"},
         [](Options& o, const char* v) {
           o.response_topic = v;
           return check_topic(v, "-e", "response");
         }),
    with_truth({"--latency", nullptr, rr, nullptr}, &Options::measure_latency),
};

inline const Flag receiving_flags[] = {
    with({"-C", nullptr, sub, "no count"},
         [](Options& o, const char* v) {
           return set_number(o.message_count, v, 1, INT32_MAX) ||
                  refuse("Error: Invalid message count \"%d\".\n\n", o.message_count);
         }),
    with_truth({"-E", nullptr, sub, nullptr}, &Options::exit_after_subscribe),
    with({"-F", nullptr, sub | rr, "no format"},
         [](Options& o, const char* v) {
           o.output.format = v;
           return check_format(v);
         }),
    with({"-N", nullptr, sub | rr, nullptr},
         [](Options& o, const char*) {
           o.output.end_of_line = false;
           return true;
         }),
    with({"--pretty", nullptr, sub | rr, nullptr},
         [](Options& o, const char*) {
           o.output.pretty = true;
           return true;
         }),
    with({"-v", "--verbose", sub | rr, nullptr},
         [](Options& o, const char*) {
           o.output.verbose = true;
           return true;
         }),
    with({"-w", "--watch", sub, nullptr},
         [](Options& o, const char*) {
           o.output.watch = true;
           return true;
         }),
    with({"--random-filter", nullptr, sub, "no chance"}, set_random_filter),
    with({"-R", nullptr, sub | rr, nullptr},
         [](Options& o, const char*) {
           o.no_retain = true;
           o.retain_handling = mqtt::RetainHandling::never;
           return true;
         }),
    with_truth({"--remove-retained", nullptr, sub, nullptr}, &Options::remove_retained),
    with_truth({"--retained-only", nullptr, sub, nullptr}, &Options::retained_only),
    with_truth({"--retain-as-published", nullptr, sub | rr, nullptr},
               &Options::retain_as_published),
    with({"--retain-handling", nullptr, sub | rr, "no option"}, set_retain_handling),
    with({"-T", "--filter-out", sub, "no topic filter"},
         [](Options& o, const char* v) {
           o.filters_out.push_back(v);
           return check_filter(v, "-T", "filter");
         }),
    with({"-U", "--unsubscribe", sub, "no unsubscribe topic"},
         [](Options& o, const char* v) {
           o.unsubscribes.push_back(v);
           return check_filter(v, "-U", "unsubscribe");
         }),
    with({"-W", nullptr, sub | rr, "no timeout"},
         [](Options& o, const char* v) {
           return set_number(o.timeout_s, v, 1, INT32_MAX) ||
                  refuse("Error: Invalid timeout \"%d\".\n\n", o.timeout_s);
         }),
};

inline bool refuse_engine(Options&, const char*) {
  return refuse("Error: OpenSSL engines are not supported: give the key as a file with --key.\n\n");
}
inline const Flag tls_flags[] = {
    with_tls("--cafile", "no file",
             [](Options& o, const char* v) { return (o.tls.cafile = v) != nullptr; }),
    with_tls("--capath", "no directory",
             [](Options& o, const char* v) { return (o.tls.capath = v) != nullptr; }),
    with_tls("--cert", "no file",
             [](Options& o, const char* v) { return (o.tls.certfile = v) != nullptr; }),
    with_tls("--key", "no file",
             [](Options& o, const char* v) { return (o.tls.keyfile = v) != nullptr; }),
    with_tls("--ciphers", "no ciphers",
             [](Options& o, const char* v) { return (o.tls.ciphers = v) != nullptr; }),
    with_tls("--psk", "no key",
             [](Options& o, const char* v) { return (o.tls.psk = v) != nullptr; }),
    with_tls("--psk-identity", "no identity",
             [](Options& o, const char* v) { return (o.tls.psk_identity = v) != nullptr; }),
    with_tls("--tls-alpn", "no protocol",
             [](Options& o, const char* v) { return (o.tls.alpn = v) != nullptr; }),
    with_tls("--tls-version", "no version",
             [](Options& o, const char* v) { return (o.tls.version = v) != nullptr; }),
    with_tls("--tls-keylog", "no file",
             [](Options& o, const char* v) { return (o.tls.keylog = v) != nullptr; }),
    with_tls("--insecure", nullptr, [](Options& o, const char*) { return o.tls.insecure = true; }),
    with_tls("--tls-use-os-certs", nullptr,
             [](Options& o, const char*) { return o.tls.use_os_certs = true; }),
    with_tls("--keyform", "no keyform", refuse_engine),
    with_tls("--tls-engine", "no engine_id", refuse_engine),
    with_tls("--tls-engine-kpass-sha1", "no kpass sha1", refuse_engine),
};

template <size_t N>
const Flag* find_flag(const Flag (&flags)[N], const char* name) {
  for (const Flag& flag : flags) {
    if (strcmp(flag.name, name) == 0 ||
        (flag.other_name != nullptr && strcmp(flag.other_name, name) == 0)) {
      return &flag;
    }
  }
  return nullptr;
}

inline bool refuse_tls(const char* what) {
  return refuse(
      "Error: %s needs TLS, which this program was built without: add -DMQTT_TLS=1 and "
      "-lssl -lcrypto to the compile line, or -DMQTT_TLS=ON to cmake.\n",
      what);
}

inline const Flag* flag_named(const char* name, bool& is_tls) {
  const Flag* flag = find_flag(connection_flags, name);
  if (flag == nullptr) { flag = find_flag(message_flags, name); }
  if (flag == nullptr) { flag = find_flag(receiving_flags, name); }
  is_tls = flag == nullptr;
  return is_tls ? find_flag(tls_flags, name) : flag;
}

inline bool apply(Options& options, const Flag& flag, const char* value) {
  if (flag.text != nullptr) {
    options.*flag.text = value;
  } else if (flag.truth != nullptr) {
    options.*flag.truth = true;
  } else {
    return flag.apply(options, value);
  }
  return true;
}

// Words of a command line, or of a line of the options file.
inline Parsed parse_words(Options& options, char** words, int count) {
  for (int i = 0; i < count; ++i) {
    const char* const word = words[i];
    if (strcmp(word, "--help") == 0) { return Parsed::help; }
    if (strcmp(word, "--version") == 0) { return Parsed::version; }
    if (strcmp(word, "--no-tls") == 0) {
      options.tls.off = true;
      continue;
    }
    if (strcmp(word, "-o") == 0) {  // is read already
      i += 1;
      continue;
    }
    if (strcmp(word, "-D") == 0 || strcmp(word, "--property") == 0) {
      const int used = add_property(options.properties, words + i + 1, count - i - 1);
      if (used == 0) { return Parsed::wrong; }
      options.version = mqtt::Version::v5;
      i += used;
      continue;
    }
    bool is_tls = false;
    const Flag* const flag = flag_named(word, is_tls);
    if (flag == nullptr || (flag->tools & options.tool) == 0) {
      refuse("Error: Unknown option '%s'.\n", word);
      return Parsed::wrong;
    }
#ifndef MQTT_TLS
    if (is_tls) {
      refuse_tls(word);
      return Parsed::wrong;
    }
#endif
    if (flag->missing != nullptr && i + 1 == count) {
      refuse("Error: %s argument given but %s specified.\n\n", flag->name, flag->missing);
      return Parsed::wrong;
    }
    if (flag->missing != nullptr) { i += 1; }
    if (!apply(options, *flag, words[i])) { return Parsed::wrong; }
  }
  return Parsed::good;
}

// A whole file as a text, kept with the options; nullptr when it cannot be read.
inline char* load_text(Options& options, const char* path) {
  FILE* const file = fopen(path, "rb");
  if (file == nullptr) { return nullptr; }
  std::vector<char> text;
  char piece[4096];
  for (size_t got = 1; got != 0;) {
    got = fread(piece, 1, sizeof piece, file);
    text.insert(text.end(), piece, piece + got);
  }
  fclose(file);
  text.push_back(0);
  return options.keep(std::move(text));
}

// The words of a line: the flag and all behind it, but for -D, whose values are words too.
inline int split_line(char* line, char* (&words)[5]) {
  int count = 0;
  char* rest = line + strspn(line, " ");
  int words_max = 2;
  while (*rest != 0 && count < words_max) {
    words[count++] = rest;
    if (count == 1 && (strncmp(rest, "-D ", 3) == 0 || strncmp(rest, "--property ", 11) == 0)) {
      words_max = 4;
    }
    if (count == 3 && strncasecmp(rest, "user-property ", 14) == 0) { words_max = 5; }
    if (count == words_max) { break; }
    rest += strcspn(rest, " ");
    if (*rest != 0) { *rest++ = 0; }
    rest += strspn(rest, " ");
  }
  return count;
}

inline Parsed parse_file(Options& options, char* text) {
  for (char* line = text; *line != 0;) {
    char* const end = line + strcspn(line, "\r\n");
    char* const next = end + strspn(end, "\r\n");
    *end = 0;
    char* words[5];
    const int count = line[0] == '#' ? 0 : split_line(line, words);
    const Parsed parsed = parse_words(options, words, count);
    if (parsed != Parsed::good) { return parsed; }
    line = next;
  }
  return Parsed::good;
}

// The options file: the one that -o names, else the user's own, which need not be there.
inline Parsed parse_options_file(Options& options, char** words, int count) {
  const char* path = nullptr;
  for (int i = 0; i != count; ++i) {
    if (strcmp(words[i], "-o") != 0) { continue; }
    if (path != nullptr) {
      refuse("Error: Duplicate -o argument given.\n\n");
      return Parsed::wrong;
    }
    if (i + 1 == count) {
      refuse("Error: -o argument given but no options file specified.\n\n");
      return Parsed::wrong;
    }
    path = words[i + 1];
  }
  const bool is_named = path != nullptr;
  char own[4096];
  if (!is_named) {
    const char* const folder = getenv("XDG_CONFIG_HOME");
    const char* const home = getenv("HOME");
    if (folder == nullptr && home == nullptr) { return Parsed::good; }
    const int size = snprintf(own, sizeof own, "%s%s/%s", folder != nullptr ? folder : home,
                              folder != nullptr ? "" : "/.config", options.name());
    if (size < 0 || static_cast<size_t>(size) >= sizeof own) { return Parsed::good; }
    path = own;
  }
  char* const text = load_text(options, path);
  if (text != nullptr) { return parse_file(options, text); }
  if (!is_named) { return Parsed::good; }
  refuse("Error: Unable to open options file \"%s\".\n", path);
  return Parsed::wrong;
}

inline bool check_will_and_tls(const Options& options) {
  if (options.will_payload != nullptr && options.will_topic == nullptr) {
    return refuse("Error: Will payload given, but no will topic given.\n");
  }
  if (options.will_retain && options.will_topic == nullptr) {
    return refuse("Error: Will retain given, but no will topic given.\n");
  }
  const TlsOptions& tls = options.tls;
  if ((tls.certfile == nullptr) != (tls.keyfile == nullptr)) {
    return refuse("Error: Both certfile and keyfile must be provided if one of them is set.\n");
  }
  if ((tls.cafile != nullptr || tls.capath != nullptr) && tls.psk != nullptr) {
    return refuse("Error: Only one of --psk or --cafile/--capath may be used at once.\n");
  }
  if (tls.psk != nullptr && tls.psk_identity == nullptr) {
    return refuse("Error: --psk-identity required if --psk used.\n");
  }
#ifndef MQTT_TLS
  if (options.uses_tls()) {
    return refuse_tls(options.port == 8883 ? "port 8883 (without --no-tls)" : "mqtts:// or wss://");
  }
#endif
  return true;
}

inline bool check_session(Options& options) {
  const bool has_id = options.client_id != nullptr && options.id_prefix == nullptr;
  if (!options.is_v5()) {
    return options.clean_session || has_id ||
           refuse("Error: You must provide a client id if you are using the -c option.\n");
  }
  constexpr int64_t for_ever = 0xFFFFFFFF;
  if (!options.clean_session && options.session_expiry_s == -1) {
    options.session_expiry_s = for_ever;
  }
  if (options.session_expiry_s <= 0) { return true; }
  if (options.session_expiry_s == for_ever && !has_id) {
    return refuse(
        "Error: You must provide a client id if you are using an infinite session expiry "
        "interval.\n");
  }
  const uint32_t seconds = static_cast<uint32_t>(options.session_expiry_s);
  return options.properties[Place::connect].add(0, [&](mqtt::PropertyWriter& writer) {
    writer.number(mqtt::PropertyId::session_expiry_interval, seconds);
  });
}

inline bool check_properties(const Options& options) {
  struct Name {
    Place place;
    const char* name;
  };
  constexpr Name names[] = {{Place::connect, "CONNECT"},       {Place::publish, "PUBLISH"},
                            {Place::subscribe, "SUBSCRIBE"},   {Place::unsubscribe, "UNSUBSCRIBE"},
                            {Place::disconnect, "DISCONNECT"}, {Place::will, "Will"}};
  for (const Name& each : names) {
    if (options.properties[each.place].has_duplicates()) {
      complain(options, "Error in %s properties: Duplicate property in property list\n", each.name);
      return false;
    }
  }
  return true;
}

// -P, else the first line of --password-file, else, with a user name, $MQTT_PASSWORD.
inline bool find_password(Options& options) {
  if (options.password == nullptr && options.password_file != nullptr) {
    char* const text = load_text(options, options.password_file);
    if (text == nullptr) {
      return refuse("Error: Unable to open password file \"%s\".\n", options.password_file);
    }
    text[strcspn(text, "\r\n")] = 0;
    options.password = text;
  }
  if (options.password == nullptr && options.user_name != nullptr) {
    options.password = getenv("MQTT_PASSWORD");
  }
  return true;
}

// What the flags say together.
inline bool complete(Options& options) {
  if (!check_will_and_tls(options) || !find_password(options) || !check_session(options)) {
    return false;
  }
  if (options.tool == sub && options.topics.empty() && options.unsubscribes.empty()) {
    return refuse(
        "Error: You must specify a topic to subscribe to (-t) or unsubscribe from "
        "(-U).\n");
  }
  return check_properties(options);
}
}  // namespace detail

/// Reads the options file and the command line. When it is not good, it has said why.
inline Parsed parse(Options& options, int count, char** arguments) {
  Parsed parsed = detail::parse_options_file(options, arguments + 1, count - 1);
  if (parsed == Parsed::good) { parsed = detail::parse_words(options, arguments + 1, count - 1); }
  if (parsed != Parsed::good) { return parsed; }
  return detail::complete(options) ? Parsed::good : Parsed::wrong;
}

}  // namespace tools

#endif
