// Instantiates what the header offers, so that warnings and needed symbols show.
#include <mqtt.hpp>

// Decodes every packet of `input` and encodes it again into `target`; bytes of the last one.
struct Echo {
  mqtt::Version version;
  mqtt::Buffer target;
  mqtt::Result<uint32_t> size;
  template <typename Packet>
  void operator()(const Packet& packet) noexcept {
    size = mqtt::encoded_size(version, packet);
    if (size) { size = mqtt::encode(version, packet, target); }
  }
};

uint32_t codec(mqtt::Bytes input, mqtt::Version version, mqtt::Side side, mqtt::Buffer target);
uint32_t codec(mqtt::Bytes input, mqtt::Version version, mqtt::Side side, mqtt::Buffer target) {
  mqtt::Frame frame;
  Echo echo{version, target, {}};
  while (mqtt::next_frame(input, version, 1024, frame) == mqtt::Error::none &&
         mqtt::decode(frame, version, side, echo) == mqtt::Error::none) {
    input = input.skip(frame.size());
  }
  return echo.size.value;
}
