// Measures the codec through its public API, all checks on.
//
//   codec                       Google Benchmark: time
//   codec --instructions COUNT  runs each row COUNT times for callgrind (see bench/run.sh): one
//                               function `row_NAME` a row, `row_empty` is the loop alone
//
// Topic of 20 bytes; PUBLISH at QoS 1; decode includes next_frame. The four properties are payload
// format, message expiry, content type and a user property.
#include <benchmark/benchmark.h>
#include <stdio.h>
#include <stdlib.h>

#include "mqtt.hpp"

namespace {

constexpr char topic[] = "device/a/temperature";
static_assert(sizeof topic - 1 == 20, "a topic of 20 bytes");
constexpr uint32_t size_max = 8192;

// The version is the connection's, so the compiler may not know it.
volatile mqtt::Version version_3 = mqtt::Version::v3_1_1;
volatile mqtt::Version version_5 = mqtt::Version::v5;

uint8_t payload[size_max];
uint8_t target[size_max];
uint8_t property_bytes[256];

// A packet in a buffer, as it came from a link.
struct Wire {
  uint8_t bytes[size_max];
  uint32_t size = 0;
};
Wire publish_wire;
Wire publish_v5_wire;
Wire publish_properties_wire;
Wire connect_wire;

mqtt::Publish publish_of(uint32_t size) {
  mqtt::Publish publish;
  publish.topic = topic;
  publish.payload = mqtt::Bytes(payload, size);
  publish.qos = mqtt::Qos::at_least_once;
  publish.packet_id = 10;
  return publish;
}

mqtt::Connect connect_of_all_fields() {
  mqtt::Connect connect;
  connect.client_id = "air-purifier-00017";
  connect.keep_alive_s = 60;
  connect.has_will = true;
  connect.will.topic = "device/00017/offline";
  connect.will.payload = mqtt::Bytes(payload, 7);
  connect.will.qos = mqtt::Qos::at_least_once;
  connect.has_user_name = true;
  connect.user_name = "purifier";
  connect.has_password = true;
  connect.password = mqtt::Bytes(payload, 8);
  return connect;
}

template <typename Packet>
void fill(Wire& wire, mqtt::Version version, const Packet& packet) {
  const auto size = mqtt::encode(version, packet, wire.bytes);
  if (!size) {
    fprintf(stderr, "codec: %s\n", mqtt::text(size.error).data());
    exit(1);
  }
  wire.size = size.value;
}

// What the compiler may not look through.
template <typename T>
void hide(T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

// One operation: true when it did what it should.
bool encode_publish(mqtt::Publish& publish) {
  hide(publish);
  return static_cast<bool>(mqtt::encode(version_3, publish, target));
}

bool encode_connect(mqtt::Connect& connect) {
  hide(connect);
  return static_cast<bool>(mqtt::encode(version_3, connect, target));
}

bool decode_publish(Wire& wire, mqtt::Version version) {
  hide(wire);
  mqtt::Frame frame;
  const mqtt::Bytes input(wire.bytes, wire.size);
  if (mqtt::next_frame(input, version, size_max, frame) != mqtt::Error::none) { return false; }
  static mqtt::Publish publish;
  const mqtt::Error error = mqtt::decode(frame, version, mqtt::Side::broker, publish);
  hide(publish);
  return error == mqtt::Error::none;
}

bool decode_connect(Wire& wire) {
  hide(wire);
  mqtt::Frame frame;
  const mqtt::Bytes input(wire.bytes, wire.size);
  if (mqtt::next_frame(input, mqtt::Version::v3_1_1, size_max, frame) != mqtt::Error::none) {
    return false;
  }
  static mqtt::Connect connect;
  const mqtt::Error error = mqtt::decode(frame, connect);
  hide(connect);
  return error == mqtt::Error::none;
}

bool copy_payload(uint32_t& opaque_size) {
  hide(opaque_size);
  memcpy(target, payload, opaque_size);
  hide(target);
  return true;
}

void prepare() {
  memset(payload, 'x', sizeof payload);
  fill(publish_wire, mqtt::Version::v3_1_1, publish_of(256));
  fill(publish_v5_wire, mqtt::Version::v5, publish_of(256));
  mqtt::PropertyWriter writer(property_bytes);
  writer.number(mqtt::PropertyId::payload_format_indicator, 1)
      .number(mqtt::PropertyId::message_expiry_interval, 3600)
      .text(mqtt::PropertyId::content_type, "application/json")
      .user_property("location", "kitchen");
  mqtt::Publish publish = publish_of(256);
  publish.properties = writer.properties();
  fill(publish_properties_wire, mqtt::Version::v5, publish);
  fill(connect_wire, mqtt::Version::v3_1_1, connect_of_all_fields());
}

bool failed = false;

}  // namespace

// A row: an input that is made once and the operation on it.
#define CODEC_ROW(name, input, operation)                      \
  extern "C" __attribute__((noinline)) void row_##name(int n); \
  extern "C" void row_##name(int n) {                          \
    asm volatile("# " #name); /* or equal rows are merged */   \
    auto&& in = input;                                         \
    bool good = true;                                          \
    for (; n != 0; --n) { good &= operation; }                 \
    failed = failed || !good;                                  \
  }                                                            \
  static void time_##name(benchmark::State& state) {           \
    auto&& in = input;                                         \
    bool good = true;                                          \
    for (auto _ : state) { good &= operation; }                \
    failed = failed || !good;                                  \
  }                                                            \
  BENCHMARK(time_##name)->Name(#name)

static bool nothing(int& value) {
  hide(value);
  return true;
}

CODEC_ROW(empty, 0, nothing(in));
CODEC_ROW(publish_encode_16, publish_of(16), encode_publish(in));
CODEC_ROW(publish_encode_256, publish_of(256), encode_publish(in));
CODEC_ROW(publish_encode_4096, publish_of(4096), encode_publish(in));
CODEC_ROW(publish_decode_256, publish_wire, decode_publish(in, version_3));
CODEC_ROW(publish_v5_decode_256, publish_v5_wire, decode_publish(in, version_5));
CODEC_ROW(publish_v5_decode_4_properties, publish_properties_wire, decode_publish(in, version_5));
CODEC_ROW(connect_encode, connect_of_all_fields(), encode_connect(in));
CODEC_ROW(connect_decode, connect_wire, decode_connect(in));
CODEC_ROW(memcpy_16, 16U, copy_payload(in));
CODEC_ROW(memcpy_256, 256U, copy_payload(in));
CODEC_ROW(memcpy_4096, 4096U, copy_payload(in));

int main(int argc, char** argv) {
  prepare();
  if (argc == 3 && strcmp(argv[1], "--instructions") == 0) {
    const int count = atoi(argv[2]);
    void (*const rows[])(int) = {row_empty,
                                 row_publish_encode_16,
                                 row_publish_encode_256,
                                 row_publish_encode_4096,
                                 row_publish_decode_256,
                                 row_publish_v5_decode_256,
                                 row_publish_v5_decode_4_properties,
                                 row_connect_encode,
                                 row_connect_decode,
                                 row_memcpy_16,
                                 row_memcpy_256,
                                 row_memcpy_4096};
    for (const auto row : rows) { row(count); }
  } else {
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
  }
  if (failed) { fprintf(stderr, "codec: an operation failed\n"); }
  return failed ? 1 : 0;
}
