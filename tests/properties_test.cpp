// Which property may stand where, how often and with what value is in packets/packets.hpp.
#include <doctest/doctest.h>

#include "guard.hpp"
#include "mqtt.hpp"

using mqtt::Bytes;
using mqtt::Properties;
using mqtt::Property;
using mqtt::PropertyId;
using mqtt::PropertyWriter;
using mqtt::Text;

TEST_CASE("a property list is walked in its order [MQTT-3.3.2-18]") {
  uint8_t memory[128];
  const uint8_t data[] = {0, 255};
  PropertyWriter writer(memory);
  writer.user_property("a", "1")
      .number(PropertyId::payload_format_indicator, 1)
      .number(PropertyId::topic_alias, 0x1234)
      .number(PropertyId::message_expiry_interval, 0x12345678)
      .number(PropertyId::subscription_identifier, 268435455)
      .text(PropertyId::content_type, "type")
      .binary(PropertyId::correlation_data, data)
      .user_property("a", "");
  REQUIRE_FALSE(writer.failed());
  Properties list = writer.properties();
  Property property;
  REQUIRE(list.next(property));
  CHECK(property.id == PropertyId::user_property);
  CHECK(property.text == Text("a"));
  CHECK(property.value == Text("1"));
  REQUIRE(list.next(property));
  CHECK(property.number == 1);
  CHECK(property.text.empty());
  REQUIRE(list.next(property));
  CHECK(property.number == 0x1234);
  REQUIRE(list.next(property));
  CHECK(property.number == 0x12345678);
  REQUIRE(list.next(property));
  CHECK(property.number == 268435455);
  REQUIRE(list.next(property));
  CHECK(property.text == Text("type"));
  REQUIRE(list.next(property));
  CHECK(Text(property.bytes) == Text(Bytes(data)));
  REQUIRE(list.next(property));
  CHECK(property.value.empty());
  CHECK_FALSE(list.next(property));
  CHECK(list.empty());
}

TEST_CASE("a property is found by its id, the first one counts") {
  uint8_t memory[64];
  PropertyWriter writer(memory);
  const Properties list = writer.number(PropertyId::subscription_identifier, 5)
                              .number(PropertyId::subscription_identifier, 6)
                              .text(PropertyId::reason_string, "why")
                              .properties();
  CHECK(list.number(PropertyId::subscription_identifier, 0) == 5);
  CHECK(list.number(PropertyId::topic_alias, 77) == 77);
  CHECK(list.text(PropertyId::reason_string) == Text("why"));
  CHECK(list.text(PropertyId::content_type).empty());
  Property property;
  CHECK_FALSE(list.find(PropertyId::topic_alias, property));
  CHECK_FALSE(Properties().find(PropertyId::topic_alias, property));
}

TEST_CASE("a writer that is full or misused gives no list") {
  const Guard guard(16);
  for (uint32_t size = 0; size < 8; ++size) {
    PropertyWriter writer(guard.flush_end(size));
    writer.text(PropertyId::reason_string, "12345");
    CHECK(writer.failed() == (size < 8));
    CHECK(writer.properties().empty());
  }
  uint8_t memory[64];
  CHECK(PropertyWriter(memory).number(PropertyId::reason_string, 1).failed());
  CHECK(PropertyWriter(memory).text(PropertyId::topic_alias, "x").failed());
  CHECK(PropertyWriter(memory).binary(PropertyId::content_type, Bytes()).failed());
  CHECK(PropertyWriter(memory).number(static_cast<PropertyId>(0x7F), 1).failed());
}

TEST_CASE("a writer takes no value that a reader would refuse") {
  uint8_t memory[64];
  const auto fails = [&](PropertyId id, uint32_t value) {
    return PropertyWriter(memory).number(id, value).failed();
  };
  CHECK(fails(PropertyId::payload_format_indicator, 2));
  CHECK(fails(PropertyId::topic_alias, 0));  // [MQTT-3.3.2-8]
  CHECK(fails(PropertyId::topic_alias, 65536));
  CHECK(fails(PropertyId::receive_maximum, 0));
  CHECK(fails(PropertyId::maximum_packet_size, 0));
  CHECK(fails(PropertyId::subscription_identifier, 0));
  CHECK(fails(PropertyId::subscription_identifier, 268435456));
  CHECK_FALSE(fails(PropertyId::topic_alias_maximum, 0));
  CHECK_FALSE(fails(PropertyId::message_expiry_interval, 0xFFFFFFFF));
  CHECK(PropertyWriter(memory).text(PropertyId::reason_string, "\xFF").failed());
  CHECK(PropertyWriter(memory).user_property("k", "\xED\xA0\x80").failed());  // [MQTT-1.5.7-1]
}

TEST_CASE("lists are joined") {
  uint8_t first[16];
  uint8_t second[32];
  const Properties part = PropertyWriter(first).user_property("k", "v").properties();
  const Properties all =
      PropertyWriter(second).list(part).number(PropertyId::topic_alias, 1).properties();
  CHECK(all.size() == part.size() + 3);
  CHECK(all.number(PropertyId::topic_alias, 0) == 1);
}

TEST_CASE("walking a broken list ends without touching what lies behind") {
  const Guard guard(16);
  const uint8_t broken[] = {0x26, 0, 1, 'k', 0, 9, 'v'};
  for (uint32_t size = 0; size <= sizeof broken; ++size) {
    Properties list(guard.at_end(Bytes(broken, size)));
    Property property;
    CHECK_FALSE(list.next(property));
    CHECK(list.empty());
  }
}
