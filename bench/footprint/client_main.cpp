// A client that connects, subscribes, publishes, receives into a callback, keeps alive and
// disconnects, over hooks that do nothing. QOS_0, V311 or V5 says how much of it is compiled.
#include "mqtt.hpp"

namespace {

#ifdef QOS_0
struct Features : mqtt::ClientFeatures {
  static constexpr bool v3_1 = false;
  static constexpr bool v5 = false;
  static constexpr bool qos_1 = false;
  static constexpr bool qos_2 = false;
  static constexpr bool streaming = false;
};
constexpr mqtt::Qos qos = mqtt::Qos::at_most_once;
#elif defined(V311)
struct Features : mqtt::ClientFeatures {
  static constexpr bool v3_1 = false;
  static constexpr bool v5 = false;
};
constexpr mqtt::Qos qos = mqtt::Qos::at_least_once;
#else
struct Features : mqtt::ClientFeatures {
  static constexpr bool v3_1 = false;
};
constexpr mqtt::Qos qos = mqtt::Qos::at_least_once;
#endif

struct Config : mqtt::ClientConfig {
  using Features = ::Features;
  static constexpr uint16_t inflight_max = 4;
};

volatile uint8_t input;
volatile uint8_t output;

int32_t receive(uint8_t* target, uint32_t) {
  *target = input;
  return input;
}
int32_t transmit(const uint8_t* bytes, uint32_t) {
  output = *bytes;
  return input;
}

uint8_t rx[256];
uint8_t tx[512];
mqtt::Connect connect;
mqtt::ClientEngine<Config> client(connect, {rx, tx});
uint64_t now_ms;

void on_message(const mqtt::Publish& message) {
  output = static_cast<uint8_t>(message.payload.size());
}

}  // namespace

int main() {
  connect.client_id = "sensor";
#ifdef V5
  connect.version = static_cast<mqtt::Version>(input);
#endif
  if (client.start(now_ms) != mqtt::Error::none) { return 1; }
  mqtt::Subscription entry;
  entry.filter = "room/command";
  entry.qos = qos;
  if (!client.subscribe(entry)) { return 1; }
  while (!client.wants_hang_up()) {
    const mqtt::Bytes bytes = client.tx_pending();
    if (!bytes.empty()) {
      client.tx_commit(static_cast<uint32_t>(transmit(bytes.data(), bytes.size())));
    }
    const mqtt::Buffer space = client.rx_space();
    client.rx_commit(static_cast<uint32_t>(receive(space.data(), space.size())));
    mqtt::ClientEvent event;
    while (client.next_event(now_ms += 10, event)) {
      if (event.type == mqtt::ClientEventType::message) { on_message(event.message); }
    }
    if (input == 1) {
      mqtt::Publish packet;
      packet.topic = "room/temperature";
      packet.payload = mqtt::Text("21.5").bytes();
      packet.qos = qos;
      if (!client.publish(packet)) { return 1; }
    }
    if (input == 2) { static_cast<void>(client.disconnect()); }
  }
  client.lost();
  return 0;
}
