// examples/tools/format.hpp — how a message is printed: plain, with its topic, or as -F says
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_FORMAT_HPP
#define MQTT_TOOLS_FORMAT_HPP

#include <stdio.h>
#include <time.h>

#include "json.hpp"
#include "properties.hpp"

namespace tools {

struct OutputOptions {
  const char* format = nullptr;
  bool verbose = false;
  bool end_of_line = true;
  bool pretty = false;
  bool watch = false;
  uint32_t random_filter = 10000;  ///< of 10000 messages so many are printed
};

namespace detail {
/// What may stand between % and its letter: [-][0][width][.precision][separator of hex digits].
struct Field {
  bool left = false;
  bool zeros = false;
  int width = 0;
  int precision = -1;
  char separator = 0;
  char letter = 0;  // 0: the format ends too early
};

inline int take_digits(const char*& at) {
  int number = 0;
  for (; *at >= '0' && *at <= '9'; ++at) {
    number = number < 100000000 ? number * 10 + (*at - '0') : number;
  }
  return number;
}

// Reads the field behind a %.
inline Field take_field(const char*& at) {
  Field field;
  if (*at == '-') {
    field.left = true;
    ++at;
  }
  if (*at == '0') {
    field.zeros = true;
    ++at;
  }
  field.width = take_digits(at);
  if (*at == '.') {
    ++at;
    field.precision = take_digits(at);
  }
  if (*at != 0 && strchr("!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~ ", *at) != nullptr) {
    field.separator = *at++;
  }
  field.letter = *at;
  if (*at != 0) { ++at; }
  return field;
}

inline constexpr char escape_letters[] = "\\0aenrtv";
inline constexpr char escape_bytes[] = "\\\0\a\033\n\r\t\v";

/// The seconds and the nanoseconds of now.
struct Moment {
  timespec time{};
  tm local{};
  Moment() {
    clock_gettime(CLOCK_REALTIME, &time);
    localtime_r(&time.tv_sec, &local);
  }
  // Of strftime(); nothing when it gives nothing.
  std::string text(const char* format) const {
    char buffer[128];
    return std::string(buffer, strftime(buffer, sizeof buffer, format, &local));
  }
  // 2020-05-06T21:48:00.000000+0000
  std::string iso_8601() const {
    char fraction[24];
    snprintf(fraction, sizeof fraction, ".%06ld", time.tv_nsec / 1000);
    return text("%Y-%m-%dT%H:%M:%S") + fraction + text("%z");
  }
};
}  // namespace detail

/// Whether -F's format is one; says what is wrong with it.
inline bool check_format(const char* format) {
  for (const char* at = format; *at != 0;) {
    const char c = *at++;
    if (c == '%') {
      const char letter = detail::take_field(at).letter;
      if (letter == 0) {
        fputs("Error: Incomplete format specifier.\n", stderr);
        return false;
      }
      if (strchr("%ACDEFIJPRSUXdfjlmpqrtx", letter) == nullptr) {
        fprintf(stderr, "Error: Invalid format specifier '%c'.\n", letter);
        return false;
      }
    } else if (c == '@' || c == '\\') {
      if (*at == 0) {
        fprintf(stderr, "Error: Incomplete %s specifier.\n", c == '@' ? "format" : "escape");
        return false;
      }
      if (c == '\\' && strchr(detail::escape_letters, *at) == nullptr) {
        fprintf(stderr, "Error: Invalid escape specifier '%c'.\n", *at);
        return false;
      }
      ++at;
    }
  }
  return true;
}

/// Prints messages to a stream, and what is wrong with one to `errors` (nullptr: not at all).
class Printer {
 public:
  Printer(const OutputOptions& options, FILE* target, FILE* errors)
      : options_(options), out_(target), errors_(errors) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    random_ = static_cast<uint32_t>(now.tv_nsec) | 1;
  }

  void begin(const char* host) {
    if (options_.watch) { fprintf(out_, "\033[2J\033[1;1HBroker: %s\n", host); }
  }

  void print(const mqtt::Publish& message) {
    if (options_.watch) { fprintf(out_, "\033[%u;1H", line_of(message.topic)); }
    if (options_.random_filter < 10000 && random() % 10000 >= options_.random_filter) { return; }
    if (options_.format != nullptr) {
      formatted(message);
    } else {
      plain(message);
    }
    if (options_.watch) { fprintf(out_, "\033[%zu;1H\n", watched_.size() + 1); }
  }

 private:
  void raw(mqtt::Bytes bytes) {
    if (!bytes.empty()) { fwrite(bytes.data(), 1, bytes.size(), out_); }
  }
  void raw(mqtt::Text text) { raw(text.bytes()); }

  void plain(const mqtt::Publish& message) {
    if (options_.verbose) {
      if (message.payload.empty() && !options_.end_of_line) { return; }
      raw(message.topic);
      fputs(message.payload.empty() ? " (null)" : " ", out_);
    } else if (message.payload.empty()) {
      return;
    }
    raw(message.payload);
    if (options_.end_of_line) { fputc('\n', out_); }
  }

  void formatted(const mqtt::Publish& message) {
    const detail::Moment now;
    for (const char* at = options_.format; *at != 0;) {
      const char c = *at++;
      if (c == '%') {
        const detail::Field field = detail::take_field(at);
        if (!property(message.properties, field) && !time(now, field)) {
          part(message, field, now);
        }
      } else if (c == '@') {
        date(now, *at++);
      } else if (c == '\\') {
        const char* const letter = strchr(detail::escape_letters, *at++);
        fputc(detail::escape_bytes[letter - detail::escape_letters], out_);
      } else {
        fputc(c, out_);
      }
    }
    if (options_.end_of_line) { fputc('\n', out_); }
  }

  void date(const detail::Moment& now, char letter) {
    if (letter == '@') {
      fputc('@', out_);
    } else if (letter == 'N') {
      fprintf(out_, "%09ld", now.time.tv_nsec);
    } else {
      const char format[] = {'%', letter, 0};
      raw(now.text(format));
    }
  }

  bool time(const detail::Moment& now, const detail::Field& field) {
    if (field.letter == 'I') {
      text(now.text("%FT%T%z"), field);
    } else if (field.letter == 'U') {
      fprintf(out_, "%lld.%09ld", static_cast<long long>(now.time.tv_sec), now.time.tv_nsec);
    } else {
      return false;
    }
    return true;
  }

  void part(const mqtt::Publish& message, const detail::Field& field, const detail::Moment& now) {
    switch (field.letter) {
      case 'J':
      case 'j': json(message, field.letter == 'J', now); break;
      case 'd': real<double>(message.payload, field, "double"); break;
      case 'f': real<float>(message.payload, field, "float"); break;
      case 'l': number(message.payload.size(), field); break;
      case 'm': number(message.packet_id, field); break;
      case 'p': payload(message.payload, field); break;
      case 'q': fputc('0' + mqtt::level(message.qos), out_); break;
      case 'r': fputc(message.retain ? '1' : '0', out_); break;
      case 't': text(message.topic, field); break;
      case 'X':
      case 'x': hex(message.payload, field); break;
      default: fputc('%', out_); break;
    }
  }

  // The letters that stand for properties.
  bool property(mqtt::Properties properties, const detail::Field& field) {
    using Id = mqtt::PropertyId;
    switch (field.letter) {
      case 'A': numeric(properties, Id::topic_alias, field); return true;
      case 'E': numeric(properties, Id::message_expiry_interval, field); return true;
      case 'F': numeric(properties, Id::payload_format_indicator, field); return true;
      case 'S': numeric(properties, Id::subscription_identifier, field); return true;
      case 'C': textual(properties, Id::content_type, field); return true;
      case 'R': textual(properties, Id::response_topic, field); return true;
      case 'D': {
        mqtt::Property found;
        if (properties.find(Id::correlation_data, found)) { raw(found.bytes); }
        return true;
      }
      case 'P': user_properties(properties); return true;
      default: return false;
    }
  }
  void numeric(mqtt::Properties properties, mqtt::PropertyId id, const detail::Field& field) {
    mqtt::Property found;
    if (properties.find(id, found)) {
      number(found.number, field);
    } else {
      blank(field.width, field);
    }
  }
  void textual(mqtt::Properties properties, mqtt::PropertyId id, const detail::Field& field) {
    mqtt::Property found;
    if (properties.find(id, found)) {
      text(found.text, field);
    } else if (id == mqtt::PropertyId::content_type) {
      blank(field.width, field);
    }
  }
  void user_properties(mqtt::Properties properties) {
    mqtt::Property each;
    for (bool first = true; properties.next(each);) {
      if (each.id != mqtt::PropertyId::user_property) { continue; }
      if (!first) { fputc(' ', out_); }
      first = false;
      raw(each.text);
      fputc(':', out_);
      raw(each.value);
    }
  }

  void blank(int count, const detail::Field& field) {
    for (int i = 0; i < count; ++i) { fputc(field.zeros ? '0' : ' ', out_); }
  }
  void text(mqtt::Text value, const detail::Field& field) {
    const int size = static_cast<int>(value.size());
    const int shown = field.precision >= 0 && field.precision < size ? field.precision : size;
    fprintf(out_, field.left ? "%-*.*s" : "%*.*s", field.width, shown, value.data());
  }
  void number(uint32_t value, const detail::Field& field) {
    const char* const format = field.left ? "%-*d" : field.zeros ? "%0*d" : "%*d";
    fprintf(out_, format, field.width, static_cast<int>(value));
  }
  template <typename Real>
  void real(mqtt::Bytes payload, const detail::Field& field, const char* name) {
    Real value{};
    if (payload.size() != sizeof value) {
      if (errors_ != nullptr) {
        fprintf(errors_, "requested %s printing, but non-%s data received", name, name);
      }
      return;
    }
    memcpy(&value, payload.data(), sizeof value);
    const char* const format = field.left ? "%-*.*f" : field.zeros ? "%0*.*f" : "%*.*f";
    fprintf(out_, format, field.width, field.precision, static_cast<double>(value));
  }
  // A width is how much of the payload is shown, filled up.
  void payload(mqtt::Bytes bytes, const detail::Field& field) {
    const uint32_t width = static_cast<uint32_t>(field.width);
    const mqtt::Bytes shown = width != 0 && bytes.size() > width ? bytes.first(width) : bytes;
    const int room = field.width - static_cast<int>(shown.size());
    if (!field.left) { blank(room, field); }
    raw(shown);
    if (field.left) { blank(room, detail::Field()); }
  }
  void hex(mqtt::Bytes bytes, const detail::Field& field) {
    const uint32_t width = static_cast<uint32_t>(field.width);
    const mqtt::Bytes shown = width != 0 && bytes.size() > width ? bytes.first(width) : bytes;
    const int room = field.width - 2 * static_cast<int>(shown.size());
    const char* const digits = field.letter == 'x' ? "0123456789abcdef" : "0123456789ABCDEF";
    int place = 0;
    const auto put = [&](char c, bool last) {
      fputc(c, out_);
      const bool full = field.precision > 0 && place % field.precision == field.precision - 1;
      if (full && !last) { fputc(field.separator != 0 ? field.separator : ' ', out_); }
      place += 1;
    };
    for (int i = 0; !field.left && i < room; ++i) { put(field.zeros ? '0' : ' ', false); }
    for (uint32_t i = 0; i != shown.size(); ++i) {
      put(digits[shown[i] >> 4], false);
      put(digits[shown[i] & 0x0F], i + 1 == shown.size());
    }
    if (field.left) { blank(room, detail::Field()); }
  }

  void json(const mqtt::Publish& message, bool is_json, const detail::Moment& now) {
    JsonWriter writer(options_.pretty);
    writer.begin('{');
    writer.key("tst");
    writer.string(now.iso_8601());
    writer.key("topic");
    writer.string(message.topic);
    writer.key("qos");
    writer.number(mqtt::level(message.qos));
    writer.key("retain");
    writer.word(message.retain ? "true" : "false");
    writer.key("payloadlen");
    writer.number(message.payload.size());
    if (message.qos != mqtt::Qos::at_most_once) {
      writer.key("mid");
      writer.number(message.packet_id);
    }
    if (!message.properties.empty()) { json_properties(message.properties, writer); }
    writer.key("payload");
    if (message.payload.empty()) {
      writer.word("null");
    } else if (!is_json) {
      writer.string(mqtt::Text(message.payload));
    } else if (!JsonCopier(mqtt::Text(message.payload), writer).copy()) {
      if (errors_ != nullptr) {
        fprintf(errors_, "Error: Message payload is not valid JSON on topic %.*s.\n",
                static_cast<int>(message.topic.size()), message.topic.data());
      }
      return;
    }
    writer.end();
    raw(writer.text());
  }

  // The user properties are one array, at the place of the first.
  static void json_properties(mqtt::Properties properties, JsonWriter& writer) {
    writer.key("properties");
    writer.begin('{');
    mqtt::Property each;
    bool has_pairs = false;
    for (mqtt::Properties rest = properties; rest.next(each);) {
      if (each.id == mqtt::PropertyId::user_property) {
        if (!has_pairs) { json_pairs(properties, writer); }
        has_pairs = true;
        continue;
      }
      writer.key(name_of(each.id));
      if (each.id == mqtt::PropertyId::correlation_data) {
        writer.string(mqtt::Text(each.bytes));
      } else if (each.id == mqtt::PropertyId::content_type ||
                 each.id == mqtt::PropertyId::response_topic) {
        writer.string(each.text);
      } else {
        writer.number(each.number);
      }
    }
    writer.end();
  }
  static void json_pairs(mqtt::Properties properties, JsonWriter& writer) {
    writer.key("user-properties");
    writer.begin('[');
    mqtt::Property each;
    while (properties.next(each)) {
      if (each.id != mqtt::PropertyId::user_property) { continue; }
      writer.begin('{');
      writer.key(each.text);
      writer.string(each.value);
      writer.end();
    }
    writer.end();
  }

  // With --watch every topic has its line.
  uint32_t line_of(mqtt::Text topic) {
    uint32_t line = 2;
    for (const std::string& each : watched_) {
      if (mqtt::Text(each) == topic) { return line; }
      line += 1;
    }
    watched_.emplace_back(topic.data(), topic.size());
    return line;
  }
  uint32_t random() {  // xorshift
    random_ ^= random_ << 13;
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    return random_;
  }

  const OutputOptions& options_;
  FILE* out_;
  FILE* errors_;
  uint32_t random_;
  std::vector<std::string> watched_;
};

}  // namespace tools

#endif
