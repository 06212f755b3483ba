// Instructions that encoding and decoding a PUBLISH cost on a Cortex-M3. QEMU with -icount shift=5
// takes 32 ns for one, and the tick counter 40 ns for a tick: it counts them exactly. Prints
// "NAME instructions" a line.
#include "mqtt.hpp"

extern "C" void print_row(const char* name, uint32_t number);  // of startup.cpp

namespace {

constexpr uint32_t rounds = 500;
uint8_t wire[320];
uint8_t payload[256];
volatile uint8_t level = 4;  // the compiler must not know the version
volatile uint32_t sum;

volatile uint32_t& hardware_register(uint32_t address) {
  return *reinterpret_cast<volatile uint32_t*>(address);
}

template <typename Operation>
uint32_t instructions(Operation operation) {
  constexpr uint32_t counter_max = 0xFFFFFF;
  hardware_register(0xE000E014) = counter_max;
  hardware_register(0xE000E018) = 0;
  hardware_register(0xE000E010) = 5;  // the core's clock, no interrupt
  for (uint32_t round = 0; round < rounds; ++round) { operation(); }
  const uint32_t ticks = counter_max - hardware_register(0xE000E018);
  return ticks * 5 / 4 / rounds;
}

uint32_t encode(uint32_t payload_bytes) {
  mqtt::Publish packet;
  packet.topic = "room/1/temperature/t";
  packet.payload = mqtt::Bytes(payload, payload_bytes);
  packet.qos = mqtt::Qos::at_least_once;
  packet.packet_id = 7;
  return mqtt::encode(static_cast<mqtt::Version>(level), packet, wire).value;
}

struct TakePayload {
  void operator()(const mqtt::Publish& packet) const noexcept { sum = sum + packet.payload.size(); }
  template <typename Other>
  void operator()(const Other&) const noexcept {}
};

void decode(uint32_t size) {
  const auto version = static_cast<mqtt::Version>(level);
  mqtt::Frame frame;
  mqtt::Error error = mqtt::next_frame(mqtt::Bytes(wire, size), version, sizeof wire, frame);
  if (error == mqtt::Error::none) {
    error = mqtt::decode(frame, version, mqtt::Side::broker, TakePayload());
  }
  if (error != mqtt::Error::none) { sum = 0; }
}

}  // namespace

int main() {
  struct Row {
    uint32_t payload_bytes;
    const char* encode_name;
    const char* decode_name;
  };
  constexpr Row rows[] = {{16, "m3_publish_encode_16", "m3_publish_decode_16"},
                          {256, "m3_publish_encode_256", "m3_publish_decode_256"}};
  const uint32_t loop = instructions([] { sum = sum + 1; });
  for (const Row& row : rows) {
    const uint32_t size = encode(row.payload_bytes);
    if (size == 0) { return 1; }
    print_row(row.encode_name, instructions([&row] { encode(row.payload_bytes); }) - loop);
    sum = 1;
    print_row(row.decode_name, instructions([size] { decode(size); }) - loop);
    if (sum <= row.payload_bytes * rounds) { return 2; }  // every one was decoded
  }
  return 0;
}
