#include <doctest/doctest.h>

#include "mqtt.hpp"

using mqtt::Error;
using mqtt::Frame;
using mqtt::Qos;
using mqtt::Subscription;
using mqtt::SubscriptionList;
using mqtt::Version;

TEST_CASE("a list of filters is walked alike from an array and from the wire") {
  Subscription entries[3];
  entries[0].filter = "a";
  entries[1].filter = "b/#";
  entries[1].qos = Qos::exactly_once;
  entries[1].no_local = true;
  entries[2].filter = "+";
  entries[2].retain_as_published = true;
  entries[2].retain_handling = mqtt::RetainHandling::never;
  mqtt::Subscribe sent;
  sent.packet_id = 9;
  sent.filters = entries;
  uint8_t wire[64];
  const auto size = mqtt::encode(Version::v5, sent, wire);
  REQUIRE(size.error == Error::none);
  Frame frame;
  REQUIRE(mqtt::next_frame(mqtt::Bytes(wire, size.value), Version::v5, 64, frame) == Error::none);
  mqtt::Subscribe got;
  REQUIRE(mqtt::decode(frame, Version::v5, got) == Error::none);
  CHECK(got.packet_id == 9);
  CHECK(got.filters.count() == 3);
  Subscription entry;
  uint32_t count = 0;
  for (SubscriptionList list = got.filters; list.next(entry); ++count) {
    CHECK(entry.filter == entries[count].filter);
    CHECK(entry.qos == entries[count].qos);
    CHECK(entry.no_local == entries[count].no_local);
    CHECK(entry.retain_as_published == entries[count].retain_as_published);
    CHECK(entry.retain_handling == entries[count].retain_handling);
  }
  CHECK(count == 3);
}

TEST_CASE("options that a version lacks are not sent") {
  Subscription entry;
  entry.filter = "a";
  entry.no_local = true;
  entry.qos = Qos::at_least_once;
  mqtt::Subscribe sent;
  sent.packet_id = 1;
  sent.filters = entry;
  uint8_t wire[16];
  REQUIRE(mqtt::encode(Version::v3_1_1, sent, wire).value == 8);
  CHECK(wire[7] == 1);
}

TEST_CASE("a packet struct is small") {
  CHECK(sizeof(mqtt::Publish) <= 80);
  CHECK(sizeof(mqtt::Ack) <= 40);
  CHECK(sizeof(Frame) <= 32);
}
