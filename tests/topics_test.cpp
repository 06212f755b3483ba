#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "mqtt.hpp"

using mqtt::Text;

namespace {

std::vector<std::string> levels(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == '/') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// matches() by the definition of v5 §4.7, level by level.
bool reference(const std::string& filter, const std::string& topic) {
  if (topic[0] == '$' && (filter[0] == '+' || filter[0] == '#')) { return false; }
  const std::vector<std::string> wanted = levels(filter);
  const std::vector<std::string> given = levels(topic);
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] == "#") { return true; }
    if (i >= given.size() || (wanted[i] != "+" && wanted[i] != given[i])) { return false; }
    if (i + 2 == wanted.size() && wanted[i + 1] == "#" && i + 1 == given.size()) { return true; }
  }
  return wanted.size() == given.size();
}

}  // namespace

TEST_CASE("the specification's examples match as it says [MQTT-4.7.1-1, MQTT-4.7.1-2]") {
  const struct {
    const char* filter;
    const char* topic;
    bool matches;
  } rows[] = {
      {"sport/tennis/player1/#", "sport/tennis/player1", true},
      {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
      {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
      {"sport/#", "sport", true},
      {"sport/tennis/+", "sport/tennis/player1", true},
      {"sport/tennis/+", "sport/tennis/player1/ranking", false},
      {"sport/+", "sport", false},
      {"sport/+", "sport/", true},
      {"+/+", "/finance", true},
      {"/+", "/finance", true},
      {"+", "/finance", false},
      {"#", "$SYS/x", false},  // [MQTT-4.7.2-1]
      {"+/monitor/Clients", "$SYS/monitor/Clients", false},
      {"$SYS/#", "$SYS/x", true},
      {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
      {"ACCOUNTS", "Accounts", false},
      {"/finance", "finance", false},
      {"\xC3\xA9", "e\xCC\x81", false},  // no normalisation [MQTT-4.7.3-4]
  };
  for (const auto& row : rows) {
    INFO(row.filter, " ", row.topic);
    CHECK(mqtt::matches(row.filter, row.topic) == row.matches);
  }
}

TEST_CASE("matches agrees with a match level by level") {
  const char alphabet[] = "a/+#$";
  std::vector<std::string> filters;
  std::vector<std::string> topics;
  for (uint32_t number = 0; number < 5 * 5 * 5 * 5 * 5 * 5; ++number) {
    std::string text;
    for (uint32_t rest = number; rest != 0; rest /= 5) { text += alphabet[rest % 5]; }
    if (mqtt::valid_filter(text)) { filters.push_back(text); }
    if (mqtt::valid_topic(text)) { topics.push_back(text); }
  }
  CHECK(filters.size() > 100);
  CHECK(topics.size() > 100);
  uint32_t wrong = 0;
  for (const std::string& filter : filters) {
    for (const std::string& topic : topics) {
      wrong += mqtt::matches(filter, topic) != reference(filter, topic) ? 1U : 0U;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("topics and filters have 1 to 65,535 bytes [MQTT-4.7.3-1, MQTT-4.7.3-3]") {
  CHECK_FALSE(mqtt::valid_topic(""));
  CHECK_FALSE(mqtt::valid_filter(""));
  CHECK(mqtt::valid_topic(std::string(65535, 'a')));
  CHECK(mqtt::valid_filter(std::string(65535, 'a')));
  CHECK_FALSE(mqtt::valid_topic(std::string(65536, 'a')));
  CHECK_FALSE(mqtt::valid_filter(std::string(65536, 'a')));
}

TEST_CASE("a topic name has no wildcards, a filter has them alone in their level [MQTT-4.7.1-3]") {
  for (const char* text : {"a/+", "a/#", "+", "#", "a+b"}) { CHECK_FALSE(mqtt::valid_topic(text)); }
  for (const char* text : {"a/+", "a/#", "+", "#", "+/+/#", "/", "$share", "a b"}) {
    INFO(text);
    CHECK(mqtt::valid_filter(text) == (std::string(text) != "$share"));
  }
  for (const char* text : {"a+", "+a", "#/a", "a#", "a/#/b", "##", "a/+b/c"}) {
    CHECK_FALSE(mqtt::valid_filter(text));
  }
}

TEST_CASE("U+0000 and ill-formed text are in no topic and no filter [MQTT-4.7.3-2]") {
  const std::string zero("a\0b", 3);
  CHECK_FALSE(mqtt::valid_topic(zero));
  CHECK_FALSE(mqtt::valid_filter(zero));
  CHECK_FALSE(mqtt::valid_topic("\xED\xA0\x80"));
  CHECK_FALSE(mqtt::valid_filter("\xC0\xAF"));
  CHECK(mqtt::valid_topic("\x01"));
}

TEST_CASE("a shared filter is taken apart [MQTT-4.8.2-1, MQTT-4.8.2-2]") {
  const mqtt::SharedFilter shared = mqtt::split_shared("$share/group/a/#");
  CHECK(shared.group == Text("group"));
  CHECK(shared.filter == Text("a/#"));
  const mqtt::SharedFilter root = mqtt::split_shared("$share/g//");
  CHECK(root.filter == Text("/"));
  for (const char* text : {"a/#", "$shared/g/a", "$SYS/#"}) {
    CHECK(mqtt::split_shared(text).group.empty());
    CHECK(mqtt::split_shared(text).filter == Text(text));
  }
}

TEST_CASE("a shared filter without a proper name or filter is none [MQTT-4.8.2-1]") {
  for (const char* text : {"$share", "$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a",
                           "$share/#/a", "$share/g+/a", "$share/g#/a"}) {
    INFO(text);
    CHECK_FALSE(mqtt::valid_filter(text));
  }
  CHECK(mqtt::valid_filter("$share/g/a"));
}
