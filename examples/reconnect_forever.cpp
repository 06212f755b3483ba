// reconnect_forever: a device that measures every second, on two brokers in turn, through every
// fault. A will tells when it is gone; what it could not send waits in the outbox and in a file.
//
//   reconnect_forever [PORT [OTHER_PORT]]

#include <stdio.h>
#include <string.h>
#include <ports/posix/client.hpp>
#include <ports/posix/outbox.hpp>

namespace {

struct Config : mqtt::ClientConfig {
  using Store = mqtt::posix::FileOutbox<>;
  static constexpr uint32_t tx_bytes = 16384;
};
using Client = mqtt::Client<mqtt::posix::ClientTransport<>, mqtt::posix::ClientClock, Config>;

void report(const mqtt::ClientEvent& event) {
  if (event.type == mqtt::ClientEventType::connected) {
    printf("online, session %s\n", event.session_present ? "resumed" : "new");
  } else if (event.type == mqtt::ClientEventType::refused) {
    printf("refused: 0x%02x\n", mqtt::code(event.reason_code));
  } else if (event.type == mqtt::ClientEventType::closed) {
    printf("offline: %s, 0x%02x\n", mqtt::text(event.error).data(), mqtt::code(event.reason_code));
  }
  fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  const mqtt::posix::Server servers[] = {{"localhost", count > 1 ? arguments[1] : "1883"},
                                         {"localhost", count > 2 ? arguments[2] : "1884"}};
  mqtt::posix::ClientTransport<> transport(servers);
  mqtt::posix::ClientClock clock;
  mqtt::Connect connect;
  connect.version = mqtt::Version::v3_1_1;
  connect.client_id = "reconnect-forever";
  connect.clean_start = false;
  connect.keep_alive_s = 30;
  connect.has_will = true;
  connect.will.topic = "demo/device/online";
  connect.will.payload = mqtt::Text("no").bytes();
  connect.will.retain = true;
  static Client client(transport, clock, connect);
  static uint8_t scratch[Config::tx_bytes];
  const int error = client.engine().store().open("reconnect_forever.outbox", client.engine(),
                                                 mqtt::Buffer(scratch));
  if (error != 0) {
    fprintf(stderr, "reconnect_forever.outbox: %s\n", strerror(error));
    return 1;
  }
  client.start();
  mqtt::Millis due = 0;
  for (uint32_t number = 0; true;) {
    if (clock.now_ms() >= due) {
      char text[16];
      snprintf(text, sizeof text, "%u", ++number);
      const mqtt::Submission sent =
          client.publish("demo/device/count", mqtt::Text(text), mqtt::Qos::at_least_once);
      if (!sent) { printf("%s: %s\n", text, mqtt::text(sent.answer).data()); }
      due = clock.now_ms() + 1000;
    }
    const mqtt::Millis until = client.run_once(report);
    transport.wait_until(until < due ? until : due);
  }
}
