// subscribe_print: prints what is published under a filter, and comes back whenever it is cut off.
//
//   subscribe_print [HOST [PORT [FILTER]]]

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
  const auto print = [](const mqtt::ClientEvent& event) {
    const mqtt::Publish& message = event.message;
    if (event.offset == 0) { printf("%.*s ", int(message.topic.size()), message.topic.data()); }
    fwrite(message.payload.data(), 1, message.payload.size(), stdout);
    if (event.last()) { putchar('\n'); }
    fflush(stdout);
  };
  if (!client.subscribe(count > 3 ? arguments[3] : "#", mqtt::Qos::at_least_once, print)) {
    return 1;
  }
  while (true) { transport.wait_until(client.run_once()); }
}
