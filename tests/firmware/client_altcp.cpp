// The client of examples/cortex_m over TLS of lwIP itself (altcp_tls), by ports/lwip/tls.hpp.
#include <mbedtls/ssl.h>
#include <ports/lwip/tls.hpp>
#include "client_program.hpp"

namespace {

constexpr uint8_t authority[] = {
#include "authority.inc"
};

using Transport = mqtt::lwip::ClientTransport<mqtt::lwip::TlsPcb>;

// The name that the server must prove to have is lwIP's name of it; its address is fixed here.
Network network;
mqtt::lwip::Server server;

}  // namespace

extern "C" int mbedtls_hardware_poll(void*, unsigned char* target, size_t size, size_t* taken) {
  for (size_t i = 0; i < size; ++i) { target[i] = static_cast<uint8_t>(board::random_number()); }
  *taken = size;
  return 0;
}

int main() {
  if (!network.start()) { return 1; }
  altcp_tls_config* const config = altcp_tls_create_config_client(authority, sizeof authority);
  if (config == nullptr) { return 2; }
  server = server_of_arguments(8883);
  server.host = text_argument("host", "broker.test");
  ip_addr_t address;
  IP4_ADDR(&address, 10, 0, 2, 2);
  dns_local_addhost("broker.test", &address);
  dns_local_addhost("other.test", &address);
  static Transport transport(mqtt::Span<const mqtt::lwip::Server>(&server, 1),
                             mqtt::lwip::TlsPcb(config));
  static ClientProgram<Transport> program(network, transport);
  return program.run([] { return transport.has_input(); });
}
