// examples/tools/json.hpp — writes JSON, and copies JSON in one form: as cJSON prints it
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_JSON_HPP
#define MQTT_TOOLS_JSON_HPP

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <mqtt.hpp>
#include <string>

namespace tools {

/// Writes one JSON value, small or, with `pretty`, for people: members of objects on lines of their
/// own, indented by tabs, elements of arrays on one.
class JsonWriter {
 public:
  explicit JsonWriter(bool pretty) : pretty_(pretty) {}

  const std::string& text() const { return text_; }

  void begin(char bracket) {
    separate();
    text_ += bracket;
    open_ += bracket;
    if (pretty_ && bracket == '{') { text_ += '\n'; }
    first_ = true;
  }
  void end() {
    const char bracket = open_.back();
    if (pretty_ && bracket == '{') {
      if (!first_) { text_ += '\n'; }
      text_.append(open_.size() - 1, '\t');
    }
    text_ += bracket == '{' ? '}' : ']';
    open_.pop_back();
    first_ = false;
  }
  /// Whether what is open is an object; nothing is open at the beginning.
  bool in_object() const { return !open_.empty() && open_.back() == '{'; }
  size_t depth() const { return open_.size(); }

  void key(mqtt::Text name) {
    comma();
    if (pretty_) { text_.append(open_.size(), '\t'); }
    quote(name);
    text_ += pretty_ ? ":\t" : ":";
    named_ = true;
  }
  void string(mqtt::Text value) {
    separate();
    quote(value);
  }
  /// As it is.
  void word(const char* value) {
    separate();
    text_ += value;
  }
  /// With the 15 digits that people expect, or the 17 that tell it from its neighbours.
  void number(double value) {
    char digits[32];
    snprintf(digits, sizeof digits, "%1.15g", value);
    const double again = strtod(digits, nullptr);
    const double larger = fabs(again) > fabs(value) ? fabs(again) : fabs(value);
    if (fabs(again - value) > larger * DBL_EPSILON) {
      snprintf(digits, sizeof digits, "%1.17g", value);
    }
    word(isfinite(value) ? digits : "null");
  }

 private:
  void comma() {
    if (!first_) { text_ += pretty_ ? (in_object() ? ",\n" : ", ") : ","; }
    first_ = false;
  }
  // Before a value: a comma in an array; a member's is written with its key.
  void separate() {
    if (!named_ && !open_.empty()) { comma(); }
    named_ = false;
  }
  void quote(mqtt::Text value) {
    text_ += '"';
    for (const char c : value) {
      static constexpr char plain[] = "\"\\\b\f\n\r\t";
      static constexpr char letters[] = "\"\\bfnrt";
      const char* const found = c == 0 ? nullptr : strchr(plain, c);
      if (found != nullptr) {
        text_ += '\\';
        text_ += letters[found - plain];
      } else if (static_cast<uint8_t>(c) < 0x20) {
        char escape[8];
        snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
        text_ += escape;
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }

  std::string text_;
  std::string open_;  // the brackets
  bool pretty_;
  bool first_ = true;   // in what is open
  bool named_ = false;  // a key has been written, its value has not
};

/// Copies one JSON value to a writer: spaces go, numbers and escapes get their usual form. It takes
/// what cJSON takes: any number strtod() reads that begins with a digit or '-'.
class JsonCopier {
 public:
  static constexpr size_t depth_max = 1000;

  JsonCopier(mqtt::Text source, JsonWriter& writer)
      : at_(source.begin()), end_(source.end()), writer_(writer), base_(writer.depth()) {}

  /// False: it is not JSON; what is written then is of no use.
  bool copy() {
    if (end_ - at_ >= 3 && memcmp(at_, "\xEF\xBB\xBF", 3) == 0) { at_ += 3; }
    bool ok = true;
    do { ok = step(); } while (ok && writer_.depth() != base_);
    skip_blanks();
    return ok && at_ == end_;
  }

 private:
  void skip_blanks() {
    while (at_ != end_ && static_cast<uint8_t>(*at_) <= ' ') { ++at_; }
  }
  bool take(char c) {
    skip_blanks();
    if (at_ == end_ || *at_ != c) { return false; }
    ++at_;
    return true;
  }

  // One value that is not an object or an array, or one bracket, with what must stand before it.
  bool step() {
    const bool inside = writer_.depth() != base_;
    const bool in_object = inside && writer_.in_object();
    if (inside && take(in_object ? '}' : ']')) {
      if (after_comma_) { return false; }
      writer_.end();
      is_first_ = false;
      return true;
    }
    if (inside && !is_first_ && !after_comma_) {
      if (!take(',')) { return false; }
      after_comma_ = true;
      return true;
    }
    after_comma_ = false;
    if (in_object) {
      if (!take('"') || !read_string()) { return false; }
      writer_.key(string_);
      if (!take(':')) { return false; }
    }
    return value();
  }

  bool value() {
    skip_blanks();
    if (at_ == end_) { return false; }
    is_first_ = *at_ == '{' || *at_ == '[';
    if (is_first_) {
      if (writer_.depth() - base_ == depth_max) { return false; }
      writer_.begin(*at_++);
      return true;
    }
    if (*at_ == '"') {
      ++at_;
      if (!read_string()) { return false; }
      writer_.string(string_);
      return true;
    }
    for (const char* word : {"null", "false", "true"}) {
      const size_t size = strlen(word);
      if (static_cast<size_t>(end_ - at_) >= size && memcmp(at_, word, size) == 0) {
        at_ += size;
        writer_.word(word);
        return true;
      }
    }
    return read_number();
  }

  bool read_number() {
    if (*at_ != '-' && (*at_ < '0' || *at_ > '9')) { return false; }
    char digits[64];
    size_t size = 0;
    while (size < sizeof digits - 1 && at_ + size != end_ &&
           strchr("0123456789+-eE.", at_[size]) != nullptr && at_[size] != 0) {
      digits[size] = at_[size];
      size += 1;
    }
    digits[size] = 0;
    char* last = nullptr;
    const double number = strtod(digits, &last);
    if (last == digits) { return false; }
    at_ += last - digits;
    writer_.number(number);
    return true;
  }

  // The rest of a string behind its first quotation mark, into string_.
  bool read_string() {
    string_.clear();
    while (at_ != end_ && *at_ != '"') {
      if (*at_ != '\\') {
        string_ += *at_++;
        continue;
      }
      if (++at_ == end_) { return false; }
      static constexpr char letters[] = "bfnrt\"\\/";
      static constexpr char meanings[] = "\b\f\n\r\t\"\\/";
      const char letter = *at_++;
      const char* const found = letter == 0 ? nullptr : strchr(letters, letter);
      if (found != nullptr) {
        string_ += meanings[found - letters];
      } else if (letter != 'u' || !read_escape()) {
        return false;
      }
    }
    if (at_ == end_) { return false; }
    ++at_;
    return true;
  }

  bool read_hex(uint32_t& value) {
    if (end_ - at_ < 4) { return false; }
    value = 0;
    for (int i = 0; i != 4; ++i) {
      const char c = *at_++;
      const char lower = static_cast<char>(c | 0x20);
      const bool is_digit = c >= '0' && c <= '9';
      if (!is_digit && (lower < 'a' || lower > 'f')) { return false; }
      value = value * 16 + static_cast<uint32_t>(is_digit ? c - '0' : lower - 'a' + 10);
    }
    return true;
  }

  // The digits of \uXXXX, or of two that make one character.
  bool read_escape() {
    uint32_t point = 0;
    if (!read_hex(point) || (point >= 0xDC00 && point <= 0xDFFF)) { return false; }
    if (point >= 0xD800 && point <= 0xDBFF) {
      uint32_t low = 0;
      if (end_ - at_ < 6 || at_[0] != '\\' || at_[1] != 'u') { return false; }
      at_ += 2;
      if (!read_hex(low) || low < 0xDC00 || low > 0xDFFF) { return false; }
      point = 0x10000 + ((point & 0x3FF) << 10 | (low & 0x3FF));
    }
    const auto add = [this](uint32_t byte) { string_ += static_cast<char>(byte); };
    if (point < 0x80) {
      add(point);
    } else if (point < 0x800) {
      add(0xC0 | point >> 6);
      add(0x80 | (point & 0x3F));
    } else if (point < 0x10000) {
      add(0xE0 | point >> 12);
      add(0x80 | (point >> 6 & 0x3F));
      add(0x80 | (point & 0x3F));
    } else {
      add(0xF0 | point >> 18);
      add(0x80 | (point >> 12 & 0x3F));
      add(0x80 | (point >> 6 & 0x3F));
      add(0x80 | (point & 0x3F));
    }
    return true;
  }

  const char* at_;
  const char* end_;
  JsonWriter& writer_;
  size_t base_;
  std::string string_;
  bool is_first_ = true;  // nothing stands yet in what is open
  bool after_comma_ = false;
};

}  // namespace tools

#endif
