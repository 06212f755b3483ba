// ports/tls/mbedtls.hpp over pipes in memory that take and give bytes as unkindly as a link may.
// CERTIFICATES is the folder that certificates.sh has filled.
#include <doctest/doctest.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <ports/tls/mbedtls.hpp>

#include <deque>
#include <fstream>
#include <sstream>
#include <string>

namespace {

using mqtt::Bytes;

struct Pipe {
  std::deque<uint8_t> bytes;
  size_t capacity = 4096;
  bool closed = false;
};

// One end of two pipes; at most so many bytes a call.
struct End {
  Pipe& in;
  Pipe& out;
  size_t read_max = 1 << 20;
  size_t write_max = 1 << 20;
  uint32_t calls = 0;

  int32_t receive(uint8_t* target, size_t size) {
    if (in.bytes.empty()) { return in.closed ? -1 : 0; }
    calls += 1;
    if (read_max < 100 && calls % 3 == 0) { return 0; }
    size_t count = 0;
    for (; count < size && count < read_max && !in.bytes.empty(); ++count) {
      target[count] = in.bytes.front();
      in.bytes.pop_front();
    }
    return static_cast<int32_t>(count);
  }
  int32_t transmit(const uint8_t* source, size_t size) {
    if (out.closed) { return -1; }
    calls += 1;
    if (write_max < 100 && calls % 3 == 0) { return 0; }
    size_t count = 0;
    for (; count < size && count < write_max && out.bytes.size() < out.capacity; ++count) {
      out.bytes.push_back(source[count]);
    }
    return static_cast<int32_t>(count);
  }
};

std::string file(const std::string& name) {
  std::ifstream stream(std::string(CERTIFICATES "/") + name);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str() + std::string(1, '\0');  // as the PEM reader wants it
}

struct Randomness {
  Randomness() {
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&state);
    REQUIRE(mbedtls_ctr_drbg_seed(&state, mbedtls_entropy_func, &entropy, nullptr, 0) == 0);
  }
  ~Randomness() {
    mbedtls_ctr_drbg_free(&state);
    mbedtls_entropy_free(&entropy);
  }
  mbedtls_entropy_context entropy;
  mbedtls_ctr_drbg_context state;
};

struct ServerConfig {
  explicit ServerConfig(Randomness& random) {
    mbedtls_ssl_config_init(&config);
    mbedtls_x509_crt_init(&certificate);
    mbedtls_pk_init(&key);
    const std::string crt = file("broker.crt");
    const std::string pem = file("broker.key");
    const auto bytes = [](const std::string& text) {
      return reinterpret_cast<const unsigned char*>(text.data());
    };
    REQUIRE(mbedtls_x509_crt_parse(&certificate, bytes(crt), crt.size()) == 0);
    REQUIRE(mbedtls_pk_parse_key(&key, bytes(pem), pem.size(), nullptr, 0) == 0);
    REQUIRE(mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_SERVER,
                                        MBEDTLS_SSL_TRANSPORT_STREAM,
                                        MBEDTLS_SSL_PRESET_DEFAULT) == 0);
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random.state);
    REQUIRE(mbedtls_ssl_conf_own_cert(&config, &certificate, &key) == 0);
  }
  ~ServerConfig() {
    mbedtls_pk_free(&key);
    mbedtls_x509_crt_free(&certificate);
    mbedtls_ssl_config_free(&config);
  }
  mbedtls_ssl_config config;
  mbedtls_x509_crt certificate;
  mbedtls_pk_context key;
};

// A client and a server that share two pipes.
struct Pair {
  explicit Pair(const char* authority = "authority.crt") : server_config(random) {
    const std::string pem = file(authority);
    const Bytes bytes(reinterpret_cast<const uint8_t*>(pem.data()),
                      static_cast<uint32_t>(pem.size()));
    REQUIRE(client_config.start(bytes, mbedtls_ctr_drbg_random, &random.state) == 0);
  }
  void start(const char* host = "broker.test") {
    REQUIRE(client.start_client(client_config.get(), host) == 0);
    REQUIRE(server.start_server(server_config.config) == 0);
  }
  // What the client's handshake says in the end.
  int32_t shake_hands() {
    int32_t ours = 0;
    int32_t theirs = 0;
    for (uint32_t i = 0; i < 100000 && ours >= 0 && (ours == 0 || theirs == 0); ++i) {
      if (theirs == 0) { theirs = server.handshake(); }
      if (ours == 0) { ours = client.handshake(); }
    }
    return ours;
  }

  Randomness random;
  ServerConfig server_config;
  mqtt::tls::MbedtlsClientConfig client_config;
  Pipe up;
  Pipe down;
  End near{down, up};
  End far{up, down};
  mqtt::tls::MbedtlsLink<End> client{near};
  mqtt::tls::MbedtlsLink<End> server{far};
};

// Moves `size` bytes through, in writes of changing length, and compares them.
template <typename From, typename To>
void move_bytes(From& from, To& to, uint32_t size) {
  const auto byte = [](uint32_t at) { return static_cast<uint8_t>(at * 7 + (at >> 8)); };
  uint32_t sent = 0;
  uint32_t received = 0;
  for (uint32_t turn = 0; turn < 2000000 && received < size; ++turn) {
    uint8_t chunk[700];
    uint32_t count = 1 + turn * 13 % 700;
    count = count < size - sent ? count : size - sent;
    for (uint32_t i = 0; i < count; ++i) { chunk[i] = byte(sent + i); }
    const int32_t taken = from.transmit(chunk, count);
    REQUIRE(taken >= 0);
    sent += static_cast<uint32_t>(taken);
    uint8_t target[300];
    const int32_t got = to.receive(target, sizeof target);
    REQUIRE(got >= 0);
    for (int32_t i = 0; i < got; ++i) { REQUIRE(target[i] == byte(received++)); }
    if (sent == size) { REQUIRE(from.flush()); }
  }
  CHECK(received == size);
}

}  // namespace

TEST_CASE("bytes pass both ways over links of any unkindness") {
  for (const size_t piece : {size_t{1 << 20}, size_t{64}, size_t{7}, size_t{1}}) {
    for (const size_t capacity : {size_t{4096}, size_t{50}}) {
      CAPTURE(piece);
      CAPTURE(capacity);
      Pair pair;
      pair.near.read_max = pair.far.write_max = piece;
      pair.near.write_max = pair.far.read_max = piece > 2 ? piece / 2 : 1;
      pair.up.capacity = pair.down.capacity = capacity;
      pair.start();
      REQUIRE(pair.shake_hands() == 1);
      move_bytes(pair.client, pair.server, 40000);
      move_bytes(pair.server, pair.client, 40000);
    }
  }
}

TEST_CASE("a server whose certificate nobody trusted signed is refused") {
  Pair pair("stranger.crt");
  pair.start();
  CHECK(pair.shake_hands() < 0);
  CHECK(pair.client.error() == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED);
  CHECK((pair.client.verify_result() & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0);
  uint8_t byte = 0;
  CHECK(pair.client.receive(&byte, 1) < 0);
  CHECK(pair.client.transmit(&byte, 1) < 0);
}

TEST_CASE("a server with another name is refused, and a client must name one") {
  Pair pair;
  pair.start("other.test");
  CHECK(pair.shake_hands() < 0);
  CHECK(pair.client.error() == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED);
  CHECK((pair.client.verify_result() & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0);
  CHECK(pair.client.start_client(pair.client_config.get(), nullptr) != 0);
  CHECK(pair.client.handshake() < 0);
  CHECK(pair.client.start_client(pair.client_config.get(), "") != 0);
}

TEST_CASE("a link is used again after its end, whatever the end was") {
  Pair pair;
  for (uint32_t round = 0; round < 4; ++round) {
    CAPTURE(round);
    pair.up = pair.down = Pipe();
    pair.start();
    REQUIRE(pair.shake_hands() == 1);
    move_bytes(pair.client, pair.server, 3000);
    if (round % 2 == 0) {
      pair.client.end();
      uint8_t byte = 0;
      CHECK(pair.server.receive(&byte, 1) < 0);
      CHECK(pair.server.error() == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
    } else {
      pair.down.closed = true;
      uint8_t byte = 0;
      CHECK(pair.client.receive(&byte, 1) < 0);
      CHECK(pair.client.error() == mqtt::tls::MbedtlsLink<End>::link_lost);
      CHECK(pair.client.transmit(&byte, 1) < 0);
      pair.client.end();
    }
  }
}

TEST_CASE("what is no TLS ends the link, in the handshake and after it") {
  Pair pair;
  pair.start();
  for (uint32_t i = 0; i < 2000; ++i) { pair.down.bytes.push_back(static_cast<uint8_t>(i * 31)); }
  CHECK(pair.shake_hands() < 0);
  CHECK(pair.client.error() != 0);

  pair.up = pair.down = Pipe();
  pair.start();
  REQUIRE(pair.shake_hands() == 1);
  const uint8_t forged[] = {23, 3,  3,  0,  24, 1,  2,  3,  4,  5,  6,  7,  8,  9, 10,
                            11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
  for (const uint8_t byte : forged) { pair.down.bytes.push_back(byte); }
  uint8_t byte = 0;
  CHECK(pair.client.receive(&byte, 1) < 0);
  CHECK(pair.client.error() == MBEDTLS_ERR_SSL_INVALID_MAC);
}

namespace {

// An inner transport of a client: dialing takes two calls.
struct Dialer : End {
  Dialer(Pipe& a, Pipe& b) : End{a, b} {}
  int32_t dial(uint32_t) { return ++dials % 2 == 0 ? 1 : 0; }
  void hang_up() { hung_up += 1; }
  bool has_input() const { return !in.bytes.empty(); }
  uint32_t dials = 0;
  uint32_t hung_up = 0;
};

}  // namespace

TEST_CASE("as a client's transport it dials, shakes hands and hangs up") {
  Pair pair;
  Dialer dialer(pair.down, pair.up);
  const char* const hosts[] = {"broker.test", "other.test"};
  mqtt::tls::MbedtlsTransport<Dialer> transport(dialer, pair.client_config,
                                                mqtt::Span<const char* const>(hosts));
  uint8_t byte = 0;
  CHECK(transport.receive(&byte, 1) < 0);
  for (uint32_t attempt = 0; attempt < 4; ++attempt) {
    CAPTURE(attempt);
    pair.up = pair.down = Pipe();
    REQUIRE(pair.server.start_server(pair.server_config.config) == 0);
    CHECK(transport.dial(attempt) == 0);
    int32_t result = 0;
    for (uint32_t i = 0; i < 100 && result == 0; ++i) {
      result = transport.dial(attempt);
      static_cast<void>(pair.server.handshake());
    }
    CHECK(result == (attempt % 2 == 0 ? 1 : -1));
    if (result > 0) {
      CHECK(transport.transmit(&byte, 1) == 1);
      static_cast<void>(pair.server.handshake());
      CHECK(pair.server.receive(&byte, 1) == 1);
    }
    transport.hang_up();
    transport.hang_up();
    CHECK(transport.transmit(&byte, 1) < 0);
  }
  CHECK(dialer.hung_up == 8);
}
