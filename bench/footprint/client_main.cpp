// A client that connects, subscribes, publishes, receives into a callback, keeps alive and
// disconnects, over hooks that do nothing; QOS_0, V311 or V5 says what of it is compiled. With
// -DCONVERSATION the hooks are a server that passes through all of it, so that its stack shows.
#include "mqtt.hpp"

namespace {

#ifdef QOS_0
struct Features : mqtt::ClientFeatures {
  static constexpr bool v3_1 = false;
  static constexpr bool v5 = false;
  static constexpr bool qos_1 = false;
  static constexpr bool qos_2 = false;
  static constexpr bool wills = false;
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
  static constexpr bool enhanced_auth = false;
};
constexpr mqtt::Qos qos = mqtt::Qos::at_least_once;
#endif

struct Config : mqtt::ClientConfig {
  using Features = ::Features;
  static constexpr uint16_t inflight_max = 4;
};

// What the application does next: nothing, publish, disconnect.
#ifdef CONVERSATION
constexpr uint8_t script[] = {
#ifdef V5
    0x20, 9,  0, 0, 6,    0x22, 0, 4,    0x21, 0, 4,           // CONNACK: aliases, Receive Maximum
    0x90, 4,  0, 1, 0,    1,                                   // SUBACK
    0x32, 11, 0, 1, 'a',  0,    1, 5,    1,    1, 0x23, 0, 1,  // PUBLISH QoS 1, with an alias
    0x34, 8,  0, 0, 0,    2,    3, 0x23, 0,    1, 0x62, 2, 0, 2,  // by the alias at QoS 2, PUBREL
    0x40, 2,  0, 2, 0x40, 2,    0, 3,                             // PUBACK
#else
    0x20, 2, 0,    0,                                          // CONNACK
    0x90, 3, 0,    1, qos == mqtt::Qos::at_most_once ? 0 : 1,  // SUBACK
    0x30, 4, 0,    1, 'a',
    'x',  // PUBLISH
#ifndef QOS_0
    0x32, 6, 0,    1, 'a',
    0,    1, 'x',  // at QoS 1
    0x34, 5, 0,    1, 'a',
    0,    2, 0x62, 2, 0,
    2,  // at QoS 2, PUBREL
    0x40, 2, 0,    2, 0x40,
    2,    0, 3,  // PUBACK
#endif
#endif
    0xD0, 0};
uint32_t at = 0;
uint32_t turns = 0;

uint32_t receive(uint8_t* target, uint32_t size) {
  turns += 1;
  if (turns < 4 || at == sizeof script || size == 0) { return 0; }
  *target = script[at++];
  return 1;
}
uint32_t transmit(const uint8_t*, uint32_t size) { return size; }
uint8_t next_deed() {
  return turns == 20 || turns == 21 ? 1 : at == sizeof script && turns > 400 ? 2 : 0;
}
#else
// The compiler knows nothing about what comes and when.
volatile uint8_t input;

uint32_t receive(uint8_t* target, uint32_t) {
  *target = input;
  return input;
}
uint32_t transmit(const uint8_t*, uint32_t) { return input; }
uint8_t next_deed() { return input; }
#endif

volatile uint8_t output;
uint8_t rx[256];
uint8_t tx[512];
uint64_t now_ms = 1;
mqtt::Connect connect;
#ifdef V5
uint8_t aliases[256];
mqtt::ClientEngine<Config> client(connect, {rx, tx, aliases});
#else
mqtt::ClientEngine<Config> client(connect, {rx, tx});
#endif

void on_message(const mqtt::Publish& message) { output = message.payload.data()[0]; }

// False when the link is to end.
bool run_once() {
  const mqtt::Bytes bytes = client.tx_pending();
  if (!bytes.empty()) { client.tx_commit(transmit(bytes.data(), bytes.size())); }
  const mqtt::Buffer space = client.rx_space();
  client.rx_commit(receive(space.data(), space.size()));
  mqtt::ClientEvent event;
  while (client.next_event(now_ms += 10, event)) {
    if (event.type == mqtt::ClientEventType::message) { on_message(event.message); }
  }
  return !client.wants_hang_up();
}

bool subscribe() {
  mqtt::Subscription entry;
  entry.filter = "room/command";
  entry.qos = qos;
  return bool(client.subscribe({&entry, 1}));
}

bool publish() {
  mqtt::Publish packet;
  packet.topic = "room/temperature";
  packet.payload = mqtt::Text("21.5").bytes();
  packet.qos = qos;
  return bool(client.publish(packet));
}

}  // namespace

int main() {
  connect.client_id = "sensor";
#ifndef CONVERSATION
  connect.version = static_cast<mqtt::Version>(input);
#endif
  if (client.start(now_ms) != mqtt::Error::none || !subscribe()) { return 1; }
  while (run_once()) {
    const uint8_t deed = next_deed();
    if (deed == 1 && !publish()) { return 2; }
    if (deed == 2) { static_cast<void>(client.disconnect()); }
  }
  client.lost();
#ifdef CONVERSATION
  return at == sizeof script ? 0 : 3;
#else
  return 0;
#endif
}
