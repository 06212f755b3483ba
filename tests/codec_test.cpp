// The codec against the packet table: whole, cut at every byte, flush against a guard page, and
// back again.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "guard.hpp"
#include "mqtt.hpp"
#include "packets/packets.hpp"

using mqtt::Buffer;
using mqtt::Bytes;
using mqtt::Error;
using mqtt::Frame;
using mqtt::Properties;
using mqtt::PropertyId;
using mqtt::Qos;
using mqtt::ReasonCode;
using mqtt::Side;
using mqtt::Version;
using packets::Row;

namespace {

constexpr Version versions[] = {Version::v3_1, Version::v3_1_1, Version::v5};

struct Ignore {
  template <typename Packet>
  void operator()(const Packet&) const noexcept {}
};

// Encodes what it is given.
struct Encode {
  Version version;
  Buffer target;
  mqtt::Result<uint32_t> size{};
  mqtt::Result<uint32_t> promised{};
  bool small_agrees = true;

  template <typename Packet>
  void encode_as(Version as, const Packet& packet) noexcept {
    promised = mqtt::encoded_size(as, packet);
    size = mqtt::encode(as, packet, target);
    // what small machines run gives the same bytes
    static uint8_t other[packets::packet_bytes_max];
    const Buffer small(other, target.size());
    const auto small_size = mqtt::detail::encode_carefully(as, mqtt::detail::any(packet), small);
    small_agrees = small_size.value == size.value && small_size.error == size.error &&
                   mqtt::Text(small.first(size.value)) == mqtt::Text(target.first(size.value));
  }
  template <typename Packet>
  void operator()(const Packet& packet) noexcept {
    encode_as(version, packet);
  }
  void operator()(const mqtt::Connect& packet) noexcept { encode_as(packet.version, packet); }
};

template <typename Handler>
Error decode(Bytes input, const Row& row, Handler& handler) {
  Frame frame;
  const Error error = mqtt::next_frame(input, row.version, packets::packet_bytes_max, frame);
  if (error != Error::none) { return error; }
  return mqtt::decode(frame, row.version, row.receiver, handler);
}

Error decode(Bytes input, const Row& row) {
  Ignore ignore;
  return decode(input, row, ignore);
}

std::string hex(Bytes bytes) {
  std::string text;
  for (const uint8_t byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

// A legal packet whose bytes are not what encode() writes: 5.0 lets what is at its default be
// written in full, and 3.1 has flags that nobody reads.
bool canonical(Bytes wire, const Row& row) {
  const uint8_t type = wire[0] >> 4;
  const bool properties = row.version == Version::v5;
  if (type >= 4 && type <= 7) {
    if (type != 7 && type != 5 && type != 4 && (wire[0] & 8) != 0) { return false; }
    return !properties || wire[1] == 2 || (wire[1] == 3 && wire[4] != 0) || wire[1] > 4;
  }
  if (type == 14) {
    return !properties || wire[1] == 0 || (wire[1] == 1 && wire[2] != 0) || wire[1] > 2;
  }
  if (type == 8 || type == 10) { return (wire[0] & 8) == 0; }
  return !(type == 1 && row.version == Version::v3_1);
}

Bytes bytes_of(const std::string& text) {
  return Bytes(reinterpret_cast<const uint8_t*>(text.data()), static_cast<uint32_t>(text.size()));
}

}  // namespace

TEST_CASE("the table's packets are decoded as the table says") {
  static uint8_t memory[packets::packet_bytes_max];
  for (const Row& row : packets::rows) {
    const Bytes wire(memory, packets::unpack(row, memory));
    const Error error = decode(wire, row);
    INFO(row.name, " ", row.clause, " ", row.hex, " version ", static_cast<int>(row.version));
    CHECK_MESSAGE(error == row.error, mqtt::text(error).data(), ", not ",
                  mqtt::text(row.error).data());
  }
}

TEST_CASE("the table's packets are decoded flush against a guard page") {
  static uint8_t memory[packets::packet_bytes_max];
  const Guard guard(packets::packet_bytes_max);
  for (const Row& row : packets::rows) {
    const Bytes wire = guard.at_end(Bytes(memory, packets::unpack(row, memory)));
    INFO(row.name, " ", row.clause);
    CHECK(decode(wire, row) == row.error);
  }
}

TEST_CASE("a packet cut at any byte is incomplete or already refused") {
  static uint8_t memory[packets::packet_bytes_max];
  const Guard guard(packets::packet_bytes_max);
  for (const Row& row : packets::rows) {
    const Bytes wire(memory, packets::unpack(row, memory));
    Frame whole;
    const Error framed = mqtt::next_frame(wire, row.version, packets::packet_bytes_max, whole);
    for (uint32_t size = 0; size < wire.size(); ++size) {
      const Bytes part = guard.at_end(wire.first(size));
      Frame frame;
      const Error error = mqtt::next_frame(part, row.version, packets::packet_bytes_max, frame);
      INFO(row.name, " cut at ", size);
      const bool early = framed != Error::none && error == framed;
      CHECK((error == Error::incomplete || early));
      if (frame.header_size != 0 && framed == Error::none) {
        CHECK(frame.size() == whole.size());
        CHECK(frame.body.size() == size - frame.header_size);
      }
    }
  }
}

TEST_CASE("a body cut at any byte is decoded without touching what lies behind") {
  static uint8_t memory[packets::packet_bytes_max];
  const Guard guard(packets::packet_bytes_max);
  Ignore ignore;
  for (const Row& row : packets::rows) {
    const Bytes wire(memory, packets::unpack(row, memory));
    Frame whole;
    if (mqtt::next_frame(wire, row.version, packets::packet_bytes_max, whole) != Error::none) {
      continue;
    }
    for (uint32_t size = 0; size < whole.remaining; ++size) {
      Frame frame = whole;
      frame.remaining = size;
      frame.body = guard.at_end(whole.body.first(size));
      const Error error = mqtt::decode(frame, row.version, row.receiver, ignore);
      CHECK(error != Error::incomplete);
    }
  }
}

TEST_CASE("a legal packet is encoded to the bytes it was decoded from") {
  static uint8_t memory[packets::packet_bytes_max];
  static uint8_t target[packets::packet_bytes_max];
  uint32_t canonical_count = 0;
  for (const Row& row : packets::rows) {
    if (row.error != Error::none) { continue; }
    const Bytes wire(memory, packets::unpack(row, memory));
    Encode encode{row.version, target};
    INFO(row.name, " ", row.hex, " version ", static_cast<int>(row.version));
    CHECK(decode(wire, row, encode) == Error::none);
    REQUIRE_MESSAGE(encode.size.error == Error::none, mqtt::text(encode.size.error).data());
    CHECK(encode.promised.value == encode.size.value);
    CHECK(encode.small_agrees);
    const Bytes written = Bytes(target).first(encode.size.value);
    CHECK(decode(written, row) == Error::none);
    if (canonical(wire, row)) {
      canonical_count += 1;
      CHECK(hex(written) == hex(wire));
    }
  }
  CHECK(canonical_count > 500);
}

TEST_CASE("a target one byte too small gets nothing") {
  static uint8_t memory[packets::packet_bytes_max];
  const Guard guard(packets::packet_bytes_max);
  for (const Row& row : packets::rows) {
    if (row.error != Error::none) { continue; }
    const Bytes wire(memory, packets::unpack(row, memory));
    Encode counted{row.version, Buffer()};
    CHECK(decode(wire, row, counted) == Error::none);
    REQUIRE(counted.promised.error == Error::none);
    const Buffer small = guard.flush_end(counted.promised.value - 1);
    memset(small.data(), 0x5A, small.size());
    Encode encode{row.version, small};
    CHECK(decode(wire, row, encode) == Error::none);
    CHECK(encode.size.error == Error::buffer_too_small);
    CHECK(encode.small_agrees);
    for (const uint8_t byte : small) { CHECK(byte == 0x5A); }
    Encode exact{row.version, guard.flush_end(counted.promised.value)};
    CHECK(decode(wire, row, exact) == Error::none);
    CHECK(exact.size.error == Error::none);
  }
}

TEST_CASE("random bytes are decoded without harm, and what is legal survives a round trip") {
  static uint8_t memory[packets::packet_bytes_max];
  static uint8_t target[packets::packet_bytes_max];
  const Guard guard(packets::packet_bytes_max);
  uint32_t random = 1;
  for (uint32_t round = 0; round < 40; ++round) {
    for (const Row& row : packets::rows) {
      const uint32_t size = packets::unpack(row, memory);
      for (uint32_t change = 0; change < 1 + round % 3; ++change) {
        random = random * 1664525 + 1013904223;
        memory[(random >> 8) % size] = static_cast<uint8_t>(random >> 24);
      }
      const Bytes wire = guard.at_end(Bytes(memory, size));
      Encode encode{row.version, target};
      if (decode(wire, row, encode) == Error::none) {
        INFO(hex(wire), " version ", static_cast<int>(row.version));
        REQUIRE(encode.size.error == Error::none);
        CHECK(decode(Bytes(target).first(encode.size.value), row) == Error::none);
      }
    }
  }
}

TEST_CASE("next_frame knows the size from the fixed header on") {
  static const uint8_t wire[] = {0x30, 0x85, 0x01, 0x00, 0x01, 'a'};
  Frame frame;
  CHECK(mqtt::next_frame(Bytes(wire, 0), Version::v5, 4096, frame) == Error::incomplete);
  CHECK(frame.header_size == 0);
  CHECK(mqtt::next_frame(Bytes(wire, 2), Version::v5, 4096, frame) == Error::incomplete);
  CHECK(frame.header_size == 0);
  CHECK(mqtt::next_frame(wire, Version::v5, 4096, frame) == Error::incomplete);
  CHECK(frame.header_size == 3);
  CHECK(frame.remaining == 133);
  CHECK(frame.size() == 136);
  CHECK(frame.body.size() == 3);
}

TEST_CASE("the packet size limit counts the whole packet [MQTT-3.1.2-24 v5]") {
  static const uint8_t wire[] = {0xC0, 0x00};
  Frame frame;
  CHECK(mqtt::next_frame(wire, Version::v5, 2, frame) == Error::none);
  CHECK(mqtt::next_frame(wire, Version::v5, 1, frame) == Error::packet_too_large);
}

TEST_CASE("a CONNECT of a bridge with bit 7 is answered in its own version") {
  static const uint8_t wire[] = {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 0x84, 2, 0, 60, 0, 1, 'b'};
  Frame frame;
  REQUIRE(mqtt::next_frame(wire, Version::v3_1_1, 100, frame) == Error::none);
  mqtt::Connect connect;
  CHECK(mqtt::decode(frame, connect) == Error::unsupported_version);
  CHECK(connect.version == Version::v3_1_1);
}

TEST_CASE("a decoded CONNECT holds every field [MQTT-3.1.3-1]") {
  mqtt::Connect sent;
  uint8_t property_bytes[16];
  mqtt::PropertyWriter writer(property_bytes);
  sent.properties = writer.number(PropertyId::receive_maximum, 7).properties();
  uint8_t will_bytes[16];
  mqtt::PropertyWriter will_writer(will_bytes);
  sent.will.properties = will_writer.number(PropertyId::will_delay_interval, 9).properties();
  const std::string payload = "gone";
  const std::string password("\0p", 2);
  sent.client_id = "id";
  sent.keep_alive_s = 0x1234;
  sent.clean_start = false;
  sent.has_will = true;
  sent.will.topic = "will/topic";
  sent.will.payload = bytes_of(payload);
  sent.will.qos = Qos::exactly_once;
  sent.will.retain = true;
  sent.has_user_name = true;
  sent.user_name = "user";
  sent.has_password = true;
  sent.password = bytes_of(password);
  const Properties properties = sent.properties;
  const Properties will_properties = sent.will.properties;
  for (const Version version : versions) {
    sent.properties = version == Version::v5 ? properties : Properties();
    sent.will.properties = version == Version::v5 ? will_properties : Properties();
    uint8_t wire[128];
    const auto size = mqtt::encode(version, sent, wire);
    REQUIRE(size.error == Error::none);
    Frame frame;
    REQUIRE(mqtt::next_frame(Bytes(wire, size.value), version, 128, frame) == Error::none);
    mqtt::Connect got;
    REQUIRE(mqtt::decode(frame, got) == Error::none);
    CHECK(got.version == version);
    CHECK(got.client_id == sent.client_id);
    CHECK(got.keep_alive_s == sent.keep_alive_s);
    CHECK_FALSE(got.clean_start);
    CHECK(got.has_will);
    CHECK(got.will.topic == sent.will.topic);
    CHECK(mqtt::Text(got.will.payload) == mqtt::Text(sent.will.payload));
    CHECK(got.will.qos == Qos::exactly_once);
    CHECK(got.will.retain);
    CHECK(got.user_name == sent.user_name);
    CHECK(mqtt::Text(got.password) == mqtt::Text(sent.password));
    if (version == Version::v5) {
      CHECK(got.properties.number(PropertyId::receive_maximum, 0) == 7);
      CHECK(got.will.properties.number(PropertyId::will_delay_interval, 0) == 9);
    }
  }
}

TEST_CASE("a decoded PUBLISH holds every field, at every header size") {
  static uint8_t wire[300000];
  for (const uint32_t payload_size : {0U, 1U, 100U, 120U, 128U, 16300U, 16384U, 299900U}) {
    const std::vector<uint8_t> payload(payload_size, 'p');
    mqtt::Publish sent;
    sent.topic = "a/topic";
    sent.payload = Bytes(payload.data(), payload_size);
    sent.qos = Qos::exactly_once;
    sent.retain = true;
    sent.dup = true;
    sent.packet_id = 0xABCD;
    for (const Version version : versions) {
      const auto size = mqtt::encode(version, sent, wire);
      REQUIRE(size.error == Error::none);
      Frame frame;
      const Bytes input(wire, size.value);
      REQUIRE(mqtt::next_frame(input, version, sizeof wire, frame) == Error::none);
      mqtt::Publish got;
      REQUIRE(mqtt::decode(frame, version, Side::broker, got) == Error::none);
      CHECK(got.topic == sent.topic);
      CHECK(got.payload.size() == payload_size);
      CHECK(mqtt::Text(got.payload) == mqtt::Text(sent.payload));
      CHECK(got.qos == sent.qos);
      CHECK(got.retain);
      CHECK(got.dup);
      CHECK(got.packet_id == 0xABCD);
    }
  }
}

TEST_CASE("strings of every size come back, flush against a guard page") {
  const Guard guard(1 << 16);
  static uint8_t wire[1 << 16];
  for (uint32_t size = 1; size < 300; ++size) {
    const std::string topic(size, 't');
    mqtt::Publish sent;
    sent.topic = mqtt::Text(guard.at_end(bytes_of(topic)));
    const auto needed = mqtt::encode(Version::v3_1_1, sent, wire);
    REQUIRE(needed.error == Error::none);
    const Bytes input(wire, needed.value);
    const Buffer exact = guard.flush_end(needed.value);
    sent.topic = topic;
    REQUIRE(mqtt::encode(Version::v3_1_1, sent, exact).error == Error::none);
    CHECK(hex(exact) == hex(input));
    Frame frame;
    REQUIRE(mqtt::next_frame(exact, Version::v3_1_1, sizeof wire, frame) == Error::none);
    mqtt::Publish got;
    REQUIRE(mqtt::decode(frame, Version::v3_1_1, Side::broker, got) == Error::none);
    CHECK(got.topic == mqtt::Text(topic));
  }
}

TEST_CASE("encode refuses a PUBLISH whose fields contradict each other") {
  uint8_t target[64];
  const auto error = [&](Version version, const mqtt::Publish& publish) {
    CHECK(mqtt::encoded_size(version, publish).error ==
          mqtt::encode(version, publish, target).error);
    return mqtt::encode(version, publish, target).error;
  };
  uint8_t property_bytes[8];
  mqtt::PropertyWriter writer(property_bytes);
  const Properties alias = writer.number(PropertyId::topic_alias, 1).properties();
  for (const Version version : versions) {
    mqtt::Publish publish;
    publish.topic = "t";
    CHECK(error(version, publish) == Error::none);
    publish.packet_id = 1;  // [MQTT-2.2.1-2] [MQTT-2.3.1-5]
    CHECK(error(version, publish) == Error::invalid_packet);
    publish.qos = Qos::at_least_once;
    CHECK(error(version, publish) == Error::none);
    publish.packet_id = 0;  // [MQTT-2.2.1-3] [MQTT-2.3.1-1]
    CHECK(error(version, publish) == Error::invalid_packet);
    publish.qos = Qos::at_most_once;
    publish.dup = true;  // [MQTT-3.3.1-2]
    CHECK(error(version, publish) == Error::invalid_packet);
    publish.dup = false;
    publish.topic = "";  // [MQTT-4.7.3-1]
    CHECK(error(version, publish) == Error::invalid_topic);
    publish.properties = alias;
    CHECK((error(version, publish) == Error::none) == (version == Version::v5));
    publish.topic = "t";
    CHECK((error(version, publish) == Error::none) == (version == Version::v5));
    publish.properties = Properties();
    for (const char* topic : {"a/+", "#", "\xFF", "\xED\xA0\x80", "0123456789abcdefg/#"}) {
      publish.topic = topic;  // [MQTT-3.3.2-2]
      CHECK(error(version, publish) == Error::invalid_topic);
    }
  }
}

TEST_CASE("encode refuses a CONNECT whose fields contradict each other") {
  uint8_t target[128];
  const auto legal = [&](Version version, const mqtt::Connect& connect) {
    CHECK(mqtt::encoded_size(version, connect).error ==
          mqtt::encode(version, connect, target).error);
    return mqtt::encode(version, connect, target).error == Error::none;
  };
  for (const Version version : versions) {
    mqtt::Connect connect;
    connect.client_id = "c";
    CHECK(legal(version, connect));
    connect.has_password = true;  // [MQTT-3.1.2-22 v3.1.1]
    CHECK(legal(version, connect) == (version == Version::v5));
    connect.has_user_name = true;
    CHECK(legal(version, connect));
    connect.user_name = "\xC0\x80";  // [MQTT-3.1.3-12]
    CHECK_FALSE(legal(version, connect));
    connect.user_name = "";
    connect.has_will = true;
    CHECK_FALSE(legal(version, connect));
    connect.will.topic = "w/#";
    CHECK_FALSE(legal(version, connect));
    connect.will.topic = "w";
    CHECK(legal(version, connect));
    connect.client_id = "";  // [MQTT-3.1.3-7 v3.1.1]
    CHECK(legal(version, connect) == (version != Version::v3_1));
    connect.clean_start = false;
    CHECK(legal(version, connect) == (version == Version::v5));
  }
}

TEST_CASE("encode refuses strings and packets that are too long") {
  static uint8_t big[70000];
  memset(big, 'a', sizeof big);
  mqtt::Publish publish;
  publish.topic = mqtt::Text(Bytes(big, 65535));  // [MQTT-4.7.3-3]
  CHECK(mqtt::encoded_size(Version::v5, publish).error == Error::none);
  publish.topic = mqtt::Text(Bytes(big, 65536));
  CHECK(mqtt::encoded_size(Version::v5, publish).error == Error::string_too_long);
  publish.topic = "t";
  publish.payload = Bytes(big, 0xFFFFFFFF);  // sizes alone are looked at
  CHECK(mqtt::encoded_size(Version::v5, publish).error == Error::string_too_long);
  publish.payload = Bytes(big, mqtt::remaining_length_max - 4);
  CHECK(mqtt::encoded_size(Version::v5, publish).value == mqtt::remaining_length_max + 5);
  publish.payload = Bytes(big, mqtt::remaining_length_max - 3);
  CHECK(mqtt::encoded_size(Version::v5, publish).error == Error::string_too_long);
}

TEST_CASE("a failing CONNACK never says that a session is present [MQTT-3.2.2-6 v5]") {
  mqtt::Connack connack;
  connack.session_present = true;
  connack.reason_code = ReasonCode::not_authorized;
  uint8_t target[8];
  REQUIRE(mqtt::encode(Version::v3_1_1, connack, target).value == 4);
  CHECK(hex(Bytes(target, 4)) == "20020005");
  REQUIRE(mqtt::encode(Version::v5, connack, target).value == 5);
  CHECK(hex(Bytes(target, 5)) == "2003008700");
}

TEST_CASE("a CONNACK that 3.x cannot say is not written [MQTT-3.2.2-6 v3.1.1]") {
  mqtt::Connack connack;
  connack.reason_code = ReasonCode::packet_too_large;
  uint8_t target[8];
  CHECK(mqtt::encode(Version::v3_1_1, connack, target).error == Error::invalid_packet);
  CHECK(mqtt::encode(Version::v5, connack, target).error == Error::none);
}

TEST_CASE("acks and DISCONNECT take their shortest form") {
  uint8_t target[16];
  mqtt::Ack ack;
  ack.packet_id = 10;
  for (const Version version : versions) {
    REQUIRE(mqtt::encode(version, ack, target).value == 4);
    CHECK(hex(Bytes(target, 4)) == "4002000a");
    REQUIRE(mqtt::encode(version, mqtt::Disconnect(), target).value == 2);
    CHECK(hex(Bytes(target, 2)) == "e000");
  }
  ack.reason_code = ReasonCode::no_matching_subscribers;
  REQUIRE(mqtt::encode(Version::v5, ack, target).value == 5);
  CHECK(hex(Bytes(target, 5)) == "4003000a10");
  REQUIRE(mqtt::encode(Version::v3_1_1, ack, target).value == 4);
}

TEST_CASE("encode refuses packet id 0 and empty lists") {
  uint8_t target[16];
  CHECK(mqtt::encode(Version::v5, mqtt::Ack(), target).error == Error::invalid_packet);
  mqtt::Subscription entry;
  entry.filter = "a";
  mqtt::Subscribe subscribe;
  subscribe.filters = entry;
  CHECK(mqtt::encode(Version::v5, subscribe, target).error == Error::invalid_packet);
  subscribe.packet_id = 1;
  CHECK(mqtt::encode(Version::v5, subscribe, target).error == Error::none);
  subscribe.filters = mqtt::SubscriptionList();  // [MQTT-3.8.3-2 v5]
  CHECK(mqtt::encode(Version::v5, subscribe, target).error == Error::invalid_packet);
  entry.filter = "a#";
  subscribe.filters = entry;
  CHECK(mqtt::encode(Version::v5, subscribe, target).error == Error::invalid_filter);
  entry.filter = "$share/g/a";
  entry.no_local = true;  // [MQTT-3.8.3-4 v5]
  subscribe.filters = entry;
  CHECK(mqtt::encode(Version::v5, subscribe, target).error == Error::protocol_no_local);
  mqtt::Suback suback;
  suback.packet_id = 1;
  CHECK(mqtt::encode(Version::v5, suback, target).error == Error::invalid_packet);
}
