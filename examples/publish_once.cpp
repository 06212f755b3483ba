// publish_once: connects, publishes one message at QoS 1, waits until the broker has it, and ends.
//
//   publish_once [HOST [PORT]]

#include <stdio.h>
#include <ports/posix/client.hpp>

int main(int count, char** arguments) {
  const mqtt::posix::Server servers[] = {
      {count > 1 ? arguments[1] : "localhost", count > 2 ? arguments[2] : "1883"}};
  mqtt::posix::ClientTransport<> transport(servers);
  mqtt::posix::ClientClock clock;
  mqtt::Connect connect;
  mqtt::Client<mqtt::posix::ClientTransport<>, mqtt::posix::ClientClock> client(transport, clock,
                                                                                connect);
  client.start();
  const mqtt::Submission sent =
      client.publish("demo/temperature", "21.5", mqtt::Qos::at_least_once);
  if (!sent) { return 1; }
  for (mqtt::ClientEvent event;;) {
    while (client.next_event(event)) {
      if (event.type == mqtt::ClientEventType::published) { return 0; }
      if (event.type == mqtt::ClientEventType::closed) {
        fprintf(stderr, "no broker: %s\n", transport.error_text());
        return 1;
      }
    }
    transport.wait_until(client.deadline());
  }
}
