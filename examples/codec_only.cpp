// codec_only: a packet made and read back, no connection. Exit status 0 when it is the same.

#include <stdio.h>
#include <mqtt.hpp>

int main() {
  uint8_t list[64];
  mqtt::PropertyWriter properties{mqtt::Buffer(list)};
  properties.number(mqtt::PropertyId::message_expiry_interval, 60).user_property("unit", "celsius");

  mqtt::Publish packet;
  packet.topic = "room/1/temperature";
  packet.payload = mqtt::Text("21.5").bytes();
  packet.qos = mqtt::Qos::at_least_once;
  packet.packet_id = 7;
  packet.properties = properties.properties();

  uint8_t memory[256];
  const mqtt::Result<uint32_t> size = mqtt::encode(mqtt::Version::v5, packet, memory);
  if (!size) {
    puts(mqtt::text(size.error).data());
    return 1;
  }
  for (uint32_t i = 0; i < size.value; ++i) { printf("%02x ", memory[i]); }

  mqtt::Frame frame;
  mqtt::Publish read;
  mqtt::Error error = mqtt::next_frame(mqtt::Bytes(memory).first(size.value), mqtt::Version::v5,
                                       sizeof memory, frame);
  if (error == mqtt::Error::none) {
    error = mqtt::decode(frame, mqtt::Version::v5, mqtt::Side::client, read);
  }
  if (error != mqtt::Error::none) {
    puts(mqtt::text(error).data());
    return 1;
  }
  mqtt::Property property;
  for (mqtt::Properties rest = read.properties; rest.next(property);) {
    printf("\nproperty 0x%02x: %u %.*s", static_cast<unsigned>(property.id), property.number,
           int(property.value.size()), property.value.data());
  }
  printf("\n%.*s = %.*s\n", int(read.topic.size()), read.topic.data(), int(read.payload.size()),
         read.payload.data());
  return read.topic == packet.topic && read.packet_id == packet.packet_id ? 0 : 1;
}
