// An MQTT client on a Cortex-M over plain TCP. What it does: client_program.hpp.
#include "client_program.hpp"

namespace {
Network network;
mqtt::lwip::Server server;
}  // namespace

int main() {
  if (!network.start()) { return 1; }
  server = server_of_arguments(1883);
  static mqtt::lwip::ClientTransport<> transport(mqtt::Span<const mqtt::lwip::Server>(&server, 1));
  static ClientProgram<mqtt::lwip::ClientTransport<>> program(network, transport);
  return program.run([] { return transport.has_input(); });
}
