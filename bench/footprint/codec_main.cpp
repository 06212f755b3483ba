// Every packet of every version, decoded and encoded, and nothing else: the codec's footprint.
#include "mqtt.hpp"

namespace {

uint8_t input[64] = {0x30, 5, 0, 1, 't', 'h', 'i'};
uint8_t output[64];

struct Encode {
  mqtt::Version version;
  template <typename Packet>
  void operator()(const Packet& packet) const noexcept {
    size = mqtt::encode(version, packet, output).value;
  }
  static uint32_t size;
};
uint32_t Encode::size = 0;

}  // namespace

int main() {
  // What a link would bring; the compiler may assume nothing about it.
  volatile uint8_t level = 4;
  volatile bool broker = true;
  volatile uint8_t* const bytes = input;
  bytes[6] = 'o';
  const mqtt::Version version = static_cast<mqtt::Version>(level);
  const mqtt::Side side = broker ? mqtt::Side::broker : mqtt::Side::client;
  mqtt::Frame frame;
  mqtt::Error error = mqtt::next_frame(input, version, sizeof input, frame);
  if (error == mqtt::Error::none) { error = mqtt::decode(frame, version, side, Encode{version}); }
  return error == mqtt::Error::none && Encode::size == 7 ? 0 : 1;
}
