// large_payload: sends a payload of many megabytes from a source and receives it in pieces, with 4
// KB of memory for MQTT. Exit status 0 when every byte came back.
//
//   large_payload [HOST [PORT [MEGABYTES]]]

#include <stdio.h>
#include <stdlib.h>
#include <ports/posix/client.hpp>

namespace {

uint8_t byte_at(uint32_t offset) { return static_cast<uint8_t>(offset ^ (offset >> 9)); }

/// The payload, made as it is needed; a file would be read the same way.
struct Pattern {
  mqtt::Bytes piece(uint32_t offset) noexcept {
    for (uint32_t i = 0; i < sizeof bytes; ++i) { bytes[i] = byte_at(offset + i); }
    return mqtt::Bytes(bytes, sizeof bytes);
  }
  uint8_t bytes[1024];
};

struct Config : mqtt::ClientConfig {
  using Source = Pattern;
  static constexpr uint32_t rx_bytes = 2048;
  static constexpr uint32_t tx_bytes = 1024;  // and 1024 in the source
};
using Client = mqtt::Client<mqtt::posix::ClientTransport<>, mqtt::posix::ClientClock, Config>;

uint32_t received = 0;
uint32_t wrong = 0;
bool done = false;

void on_piece(const mqtt::ClientEvent& event) {
  if (event.offset == 0) { received = wrong = 0; }  // anew after a lost link
  for (const uint8_t byte : event.message.payload) {
    wrong += byte == byte_at(received) ? 0U : 1U;
    received += 1;
  }
  done = event.last();
}

}  // namespace

int main(int count, char** arguments) {
  const mqtt::posix::Server servers[] = {
      {count > 1 ? arguments[1] : "localhost", count > 2 ? arguments[2] : "1883"}};
  const uint32_t size = static_cast<uint32_t>(count > 3 ? strtoul(arguments[3], nullptr, 10) : 1)
                        << 20;
  mqtt::posix::ClientTransport<> transport(servers);
  mqtt::posix::ClientClock clock;
  mqtt::Connect connect;
  static Client client(transport, clock, connect);
  Pattern pattern;
  mqtt::Publish head;
  head.topic = "demo/large";
  head.qos = mqtt::Qos::at_least_once;
  mqtt::Answer refused = mqtt::Answer::queued;
  if (!client.subscribe("demo/large", mqtt::Qos::at_least_once, on_piece) ||
      !client.engine().publish(head, size, pattern)) {
    return 1;
  }
  client.start();
  const mqtt::Millis end = clock.now_ms() + 60000;
  while (!done && refused == mqtt::Answer::queued && clock.now_ms() < end) {
    const mqtt::Millis until = client.run_once([&](const mqtt::ClientEvent& event) {
      if (event.type == mqtt::ClientEventType::published) { refused = event.answer; }
    });
    if (!done) { transport.wait_until(until < end ? until : end); }
  }
  if (refused != mqtt::Answer::queued) { puts(mqtt::text(refused).data()); }
  printf("%u bytes, %u wrong\n", received, wrong);
  return done && received == size && wrong == 0 ? 0 : 1;
}
