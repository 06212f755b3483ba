// The client of client.cpp over TLS: the server must prove, by a certificate of the authority that
// is built in, that it is the host named by host=NAME (broker.test). Built with AUTHORITY=FILE.crt.
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/memory_buffer_alloc.h>
#include <ports/tls/mbedtls.hpp>
#include "client_program.hpp"

namespace {

constexpr uint8_t authority[] = {
#include "authority.inc"
};

using Tcp = mqtt::lwip::ClientTransport<>;
using Tls = mqtt::tls::MbedtlsTransport<Tcp>;

Network network;
mqtt::lwip::Server server;
const char* host;
uint8_t memory[40000];  // of mbedTLS, all it ever takes
mbedtls_entropy_context entropy;
mbedtls_ctr_drbg_context random_state;

// Why there is no connection, once for each reason.
void report(const Tls& tls) {
  static int reported = 0;
  const int error = tls.link().error();
  if (error == reported || error == 0) { return; }
  reported = error;
  board::print(error == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED ? "certificate refused "
                                                            : "TLS ended ");
  board::print_number(static_cast<uint32_t>(-error));
  board::print("\n");
}

}  // namespace

// The emulator has no source of true random numbers; a board must have one.
extern "C" int mbedtls_hardware_poll(void*, unsigned char* target, size_t size, size_t* taken) {
  for (size_t i = 0; i < size; ++i) { target[i] = static_cast<uint8_t>(board::random_number()); }
  *taken = size;
  return 0;
}

int main() {
  if (!network.start()) { return 1; }
  mbedtls_memory_buffer_alloc_init(memory, sizeof memory);
  mbedtls_entropy_init(&entropy);
  mbedtls_ctr_drbg_init(&random_state);
  static mqtt::tls::MbedtlsClientConfig config;
  if (mbedtls_ctr_drbg_seed(&random_state, mbedtls_entropy_func, &entropy, nullptr, 0) != 0 ||
      config.start(authority, mbedtls_ctr_drbg_random, &random_state) != 0) {
    return 2;
  }
  server = server_of_arguments(8883);
  host = text_argument("host", "broker.test");
  static Tcp tcp(mqtt::Span<const mqtt::lwip::Server>(&server, 1));
  static Tls tls(tcp, config, mqtt::Span<const char* const>(&host, 1));
  static ClientProgram<Tls> program(network, tls);
  return program.run([] {
    report(tls);
    return tls.has_input();
  });
}
