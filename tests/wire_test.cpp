#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "guard.hpp"
#include "mqtt.hpp"

using mqtt::Bytes;
using mqtt::Text;
using mqtt::detail::TextRule;

namespace {

// Decodes one character the long way: its code point, or -1. `at` moves behind it.
int64_t code_point(const std::string& text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  const size_t length = lead < 0x80             ? 1
                        : (lead & 0xE0) == 0xC0 ? 2
                        : (lead & 0xF0) == 0xE0 ? 3
                        : (lead & 0xF8) == 0xF0 ? 4
                                                : 0;
  if (length == 0 || at + length > text.size()) { return -1; }
  uint32_t value = length == 1 ? lead : lead & (0xFFU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) { return -1; }
    value = (value << 6) | (byte(at + i) & 0x3FU);
  }
  const uint32_t least = length == 1 ? 0 : length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  at += length;
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  return value < least || value > 0x10FFFF || surrogate ? -1 : static_cast<int64_t>(value);
}

// What scan() is to say, by the definition.
bool reference(const std::string& text, TextRule rule) {
  const bool plain = rule == TextRule::plain || rule == TextRule::plain_topic_name;
  const bool topic = rule == TextRule::topic_name || rule == TextRule::plain_topic_name;
  for (size_t at = 0; at < text.size();) {
    const int64_t value = code_point(text, at);
    if (value <= 0 || (topic && (value == '+' || value == '#'))) { return false; }
    const bool control = value < 0x20 || (value >= 0x7F && value < 0xA0);
    const bool noncharacter = (value >= 0xFDD0 && value <= 0xFDEF) || (value & 0xFFFE) == 0xFFFE;
    if (plain && (control || noncharacter)) { return false; }
  }
  return true;
}

constexpr TextRule rules[] = {TextRule::text, TextRule::plain, TextRule::topic_name,
                              TextRule::plain_topic_name};

bool agrees(const Guard& guard, const std::string& text) {
  const Bytes bytes(reinterpret_cast<const uint8_t*>(text.data()),
                    static_cast<uint32_t>(text.size()));
  const Bytes guarded = guard.at_end(bytes);
  for (const TextRule rule : rules) {
    if (mqtt::detail::scan(guarded, rule) != reference(text, rule)) { return false; }
  }
  return true;
}

std::string utf8(uint32_t value) {
  const auto part = [&](uint32_t shift) {
    return static_cast<char>(0x80 | ((value >> shift) & 0x3F));
  };
  if (value < 0x80) { return std::string(1, static_cast<char>(value)); }
  if (value < 0x800) { return {static_cast<char>(0xC0 | (value >> 6)), part(0)}; }
  if (value < 0x10000) { return {static_cast<char>(0xE0 | (value >> 12)), part(6), part(0)}; }
  return {static_cast<char>(0xF0 | (value >> 18)), part(12), part(6), part(0)};
}

}  // namespace

TEST_CASE("every code point is scanned as the definition says [MQTT-1.5.4-1, MQTT-1.5.4-2]") {
  const Guard guard(64);
  uint32_t wrong = 0;
  for (uint32_t value = 0; value < 0x120000; ++value) {
    const std::string character = utf8(value);
    wrong += agrees(guard, character) ? 0U : 1U;
    wrong += agrees(guard, "0123456789abcdefg" + character) ? 0U : 1U;
  }
  CHECK(wrong == 0);
}

TEST_CASE("every string of two bytes is scanned as the definition says") {
  const Guard guard(64);
  uint32_t wrong = 0;
  for (uint32_t value = 0; value < 0x10000; ++value) {
    const std::string pair = {static_cast<char>(value >> 8), static_cast<char>(value)};
    wrong += agrees(guard, pair) ? 0U : 1U;
    wrong += agrees(guard, "/" + pair + "/ab") ? 0U : 1U;
    wrong += agrees(guard, pair + "/abcdef") ? 0U : 1U;
  }
  CHECK(wrong == 0);
}

TEST_CASE("every byte at every place of strings up to 70 bytes is scanned as defined") {
  const Guard guard(128);
  uint32_t wrong = 0;
  for (uint32_t size = 0; size <= 70; ++size) {
    std::string text(size, 'a');
    wrong += agrees(guard, text) ? 0U : 1U;
    for (uint32_t place = 0; place < size; ++place) {
      for (uint32_t byte = 0; byte < 256; ++byte) {
        text[place] = static_cast<char>(byte);
        wrong += agrees(guard, text) ? 0U : 1U;
      }
      text[place] = 'a';
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("random bytes are scanned as defined") {
  const Guard guard(128);
  uint32_t random = 7;
  uint32_t wrong = 0;
  const auto next = [&] {
    random = random * 1664525 + 1013904223;
    return random >> 8;
  };
  for (uint32_t round = 0; round < 300000; ++round) {
    std::string text;
    for (uint32_t count = next() % 12; count > 0; --count) {
      const uint32_t kind = next() % 16;
      text += kind == 0 ? std::string(1, static_cast<char>(next()))
                        : utf8(next() % (kind < 8    ? 0x80
                                         : kind < 12 ? 0x3000
                                                     : 0x11FFFF));
    }
    wrong += agrees(guard, text) ? 0U : 1U;
  }
  CHECK(wrong == 0);
}

TEST_CASE("U+FEFF is a character like any other [MQTT-1.5.4-3, MQTT-1.5.3-3]") {
  CHECK(mqtt::valid_text("\xEF\xBB\xBF"));
  CHECK(mqtt::valid_topic("\xEF\xBB\xBF"));
}

TEST_CASE("a variable byte integer takes its fewest bytes [MQTT-1.5.5-1]") {
  const struct {
    uint32_t value;
    uint32_t size;
  } rows[] = {{0, 1},     {1, 1},       {127, 1},     {128, 2},      {16383, 2},
              {16384, 3}, {2097151, 3}, {2097152, 4}, {268435455, 4}};
  for (const auto& row : rows) {
    uint8_t wire[8] = {};
    mqtt::Writer writer(wire);
    writer.variable(row.value);
    CHECK(writer.size() == row.size);
    CHECK(mqtt::variable_size(row.value) == row.size);
    mqtt::Reader reader(writer.written());
    CHECK(reader.variable() == row.value);
    CHECK_FALSE(reader.failed());
    CHECK(reader.left() == 0);
    for (uint32_t cut = 0; cut < row.size; ++cut) {
      mqtt::Reader short_reader(writer.written().first(cut));
      CHECK(short_reader.variable() == 0);
      CHECK(short_reader.failed());
    }
  }
}

TEST_CASE("a variable byte integer in more bytes than needed is refused [MQTT-1.5.5-1]") {
  for (const std::vector<uint8_t>& wire :
       {std::vector<uint8_t>{0x80, 0x00}, std::vector<uint8_t>{0xFF, 0x00},
        std::vector<uint8_t>{0x80, 0x80, 0x00}, std::vector<uint8_t>{0x80, 0x80, 0x80, 0x00},
        std::vector<uint8_t>{0x80, 0x80, 0x80, 0x80, 0x01}}) {
    mqtt::Reader reader(Bytes(wire.data(), static_cast<uint32_t>(wire.size())));
    CHECK(reader.variable() == 0);
    CHECK(reader.failed());
  }
}

TEST_CASE("after a read that does not fit every value is zero") {
  const uint8_t wire[] = {1, 2, 3};
  mqtt::Reader reader(wire);
  CHECK(reader.u32() == 0);
  CHECK(reader.failed());
  CHECK(reader.u8() == 0);
  CHECK(reader.u16() == 0);
  CHECK(reader.variable() == 0);
  CHECK(reader.binary().empty());
  CHECK(reader.rest().empty());
  CHECK(reader.left() == 0);
}

TEST_CASE("what is written is read back") {
  uint8_t wire[64];
  mqtt::Writer writer(wire);
  writer.u8(0x12);
  writer.u16(0x3456);
  writer.u32(0x789ABCDE);
  writer.text("text");
  writer.binary(Bytes());
  CHECK_FALSE(writer.failed());
  mqtt::Reader reader(writer.written());
  CHECK(reader.u8() == 0x12);
  CHECK(reader.u16() == 0x3456);
  CHECK(reader.u32() == 0x789ABCDE);
  CHECK(reader.text() == Text("text"));
  CHECK(reader.binary().empty());
  CHECK(reader.left() == 0);
  CHECK_FALSE(reader.failed());
}

TEST_CASE("a full writer writes nothing more and says so") {
  const Guard guard(8);
  for (uint32_t size = 0; size < 8; ++size) {
    mqtt::Writer writer(guard.flush_end(size));
    writer.text("123456");
    CHECK(writer.failed());
    writer.u8(1);
    CHECK(writer.failed());
    CHECK(writer.size() <= size);
  }
}
