#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "mqtt.hpp"

using mqtt::Error;
using mqtt::ErrorKind;
using mqtt::Text;

TEST_CASE("a span views its objects") {
  uint8_t bytes[] = {1, 2, 3, 4};
  const mqtt::Buffer buffer = bytes;
  CHECK(buffer.size() == 4);
  CHECK(buffer.first(3).skip(1).size() == 2);
  CHECK(buffer.first(3).skip(1)[0] == 2);
  const mqtt::Bytes view = buffer;
  uint32_t sum = 0;
  for (const uint8_t byte : view) { sum += byte; }
  CHECK(sum == 10);
  CHECK(mqtt::Bytes().empty());
  CHECK(view.end() - view.begin() == 4);
}

TEST_CASE("a text is made from anything with data and size, and from a literal") {
  const std::string string = "abc";
  const std::string_view view = "abc";
  const Text literal = "abc";
  CHECK(Text(string) == literal);
  CHECK(Text(view) == literal);
  CHECK(Text(literal.bytes()) == literal);
  CHECK(literal != Text("abd"));
  CHECK(literal != Text("ab"));
  CHECK(Text() == Text(""));
  CHECK(literal[2] == 'c');
  static_assert(Text("four").size() == 4, "literals have a size at compile time");
}

TEST_CASE("every error has a kind, a sentence and a code") {
  for (uint8_t i = 0; i < static_cast<uint8_t>(Error::count_); ++i) {
    const Error error = static_cast<Error>(i);
    CHECK_FALSE(text(error).empty());
    CHECK(text(error)[text(error).size() - 1] != '.');
    if (kind(error) == ErrorKind::peer) { CHECK(failed(reason_code(error))); }
  }
  CHECK(kind(Error::none) == ErrorKind::none);
  CHECK(kind(Error::incomplete) == ErrorKind::incomplete);
  CHECK(kind(Error::buffer_too_small) == ErrorKind::capacity);
  CHECK(kind(Error::invalid_topic) == ErrorKind::usage);
  CHECK(kind(Error::link_closed) == ErrorKind::link);
}

TEST_CASE("a result is true exactly without an error") {
  CHECK(static_cast<bool>(mqtt::Result<int>{7, Error::none}));
  CHECK_FALSE(static_cast<bool>(mqtt::Result<int>{7, Error::incomplete}));
}
