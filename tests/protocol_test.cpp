#include <doctest/doctest.h>

#include <initializer_list>

#include "mqtt.hpp"

using mqtt::Error;
using mqtt::PacketType;
using mqtt::ReasonCode;
using mqtt::Side;
using mqtt::Version;

TEST_CASE("the versions are those three") {
  for (int level = 0; level < 256; ++level) {
    CHECK(supported(static_cast<Version>(level)) == (level >= 3 && level <= 5));
  }
  CHECK(rules(Version::v3_1).protocol_name == mqtt::Text("MQIsdp"));
  CHECK(rules(Version::v3_1_1).protocol_name == mqtt::Text("MQTT"));
  CHECK(rules(Version::v5).protocol_name == mqtt::Text("MQTT"));
}

TEST_CASE("return codes of CONNACK before 5.0 go both ways [MQTT-3.2.2-6 v3.1.1]") {
  for (const Version version : {Version::v3_1, Version::v3_1_1}) {
    for (int byte = 0; byte < 256; ++byte) {
      ReasonCode reason = ReasonCode::success;
      const bool listed = connack_reason(version, static_cast<uint8_t>(byte), reason);
      CHECK(listed == (byte <= 5));
      if (listed) { CHECK(connack_code(version, reason) == byte); }
    }
    CHECK(connack_code(version, ReasonCode::server_busy) == 3);
    CHECK(connack_code(version, ReasonCode::banned) == 5);
    CHECK(connack_code(version, ReasonCode::packet_too_large) == 0xFF);
  }
  CHECK(connack_code(Version::v5, ReasonCode::packet_too_large) == 0x95);
}

TEST_CASE("SUBACK says failure as the version can") {
  CHECK(suback_code(Version::v5, 0x87) == 0x87);
  CHECK(suback_code(Version::v3_1_1, 0x87) == 0x80);  // [MQTT-3.9.3-2]
  CHECK(suback_code(Version::v3_1, 0x87) == 0x00);
  for (const Version version : {Version::v3_1, Version::v3_1_1, Version::v5}) {
    CHECK(suback_code(version, 2) == 2);
  }
}

TEST_CASE("codes from 0x80 are failures") {
  for (int byte = 0; byte < 256; ++byte) {
    CHECK(failed(static_cast<ReasonCode>(byte)) == (byte >= 0x80));
  }
}

TEST_CASE("a code that is not listed is allowed nowhere") {
  for (int type = 1; type < 16; ++type) {
    for (const Side side : {Side::client, Side::broker}) {
      CHECK_FALSE(allowed(static_cast<ReasonCode>(0x05), static_cast<PacketType>(type), side));
      CHECK_FALSE(allowed(static_cast<ReasonCode>(0xFF), static_cast<PacketType>(type), side));
    }
  }
}

TEST_CASE("the peer is told what the specification names") {
  CHECK(reason_code(Error::malformed_length) == ReasonCode::malformed_packet);
  CHECK(reason_code(Error::protocol_repeated) == ReasonCode::protocol_error);
  CHECK(reason_code(Error::topic_alias_invalid) == ReasonCode::topic_alias_invalid);
  CHECK(reason_code(Error::packet_too_large) == ReasonCode::packet_too_large);
  CHECK(reason_code(Error::receive_maximum) == ReasonCode::receive_maximum_exceeded);
  CHECK(reason_code(Error::unsupported_version) == ReasonCode::unsupported_protocol_version);
  CHECK(reason_code(Error::identifier_rejected) == ReasonCode::client_identifier_not_valid);
}
