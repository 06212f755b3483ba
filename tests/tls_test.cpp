// Compiled by the CMake option MQTT_TLS; needs the openssl command for its certificates.
#ifdef MQTT_TLS

#include <ports/tls/openssl.hpp>
#include <ports/websocket/transport.hpp>

#include <list>

#include "layered_server.hpp"

using namespace layered;
using mqtt::Span;
using mqtt::tls::ClientContext;
using mqtt::tls::ClientOptions;
using mqtt::tls::OpenSsl;
using mqtt::tls::ServerContext;
using mqtt::tls::ServerOptions;

namespace {

// The folder with the certificates, made once and removed at the end.
const std::string& certificates() {
  static const struct Folder {
    std::string path;
    Folder() {
      char name[] = "/tmp/mqtt_tls_testXXXXXX";
      REQUIRE(mkdtemp(name) != nullptr);
      path = name;
      REQUIRE(system(("sh tests/interop/certificates.sh " + path).c_str()) == 0);
    }
    ~Folder() { (void)!system(("rm -r " + path).c_str()); }
  } folder;
  return folder.path;
}

// A file of that folder, for options that hold pointers.
const char* file(const std::string& name) {
  static std::list<std::string> names;
  names.push_back(certificates() + "/" + name);
  return names.back().c_str();
}

ServerOptions server_options(const std::string& name = "server") {
  ServerOptions options;
  options.certificate_file = file(name + ".pem");
  options.key_file = file(name + ".key");
  return options;
}
ServerOptions with_client_certificates(const char* crl = nullptr) {
  ServerOptions options = server_options();
  options.ca_file = file("ca.pem");
  options.require_certificate = true;
  options.crl_file = crl == nullptr ? nullptr : file(crl);
  return options;
}
ClientOptions client_options(const char* authority = "ca.pem") {
  ClientOptions options;
  options.ca_file = file(authority);
  return options;
}
ClientOptions with_certificate(const std::string& name) {
  ClientOptions options = client_options();
  options.certificate_file = file(name + ".pem");
  options.key_file = file(name + ".key");
  return options;
}

// A server with TLS.
struct TlsServer {
  ServerContext context;
  Server<OpenSsl> server;

  explicit TlsServer(const ServerOptions& options, bool websocket = false, const Setup& setup = {})
      : server(layers(options, websocket), setup) {}

 private:
  LayerOptions<OpenSsl> layers(const ServerOptions& options, bool websocket) {
    const bool loaded = context.load(options);
    INFO(context.failure());
    REQUIRE(loaded);
    LayerOptions<OpenSsl> layers;
    layers.tls = &context;
    layers.websocket = websocket;
    return layers;
  }
};

// A client with TLS over a socket of its own.
struct TlsClient {
  using Transport = mqtt::tls::TlsTransport<Client>;

  ClientContext context;
  Client client;
  Transport transport{client};

  TlsClient(const SocketAddress& address, const ClientOptions& options,
            const char* host = "localhost")
      : client(address) {
    const bool loaded = context.load(options);
    INFO(context.failure());
    REQUIRE(loaded);
    REQUIRE(transport.start(context, host));
  }
};

// Connects, and what the client and the server say about it: "ok", or the reason.
struct Verdict {
  std::string client;
  std::string server;
};

Verdict connect_to(TlsServer& server, TlsClient& client) {
  Verdict verdict{"ok", "ok"};
  static int count = 0;
  const std::string id = "c" + std::to_string(++count);
  const std::string answer = server.server.exchange(client.transport, connect_packet(id), 4);
  server.server.turns(5);
  if (client.transport.error() != nullptr) { verdict.client = client.transport.error(); }
  if (!server.server.watcher.failures.empty()) {
    verdict.server = server.server.watcher.failures.back();
  } else {
    CHECK(answer == connack);
  }
  return verdict;
}

}  // namespace

TEST_CASE("tls: MQTT flows over TLS 1.2 and 1.3") {
  for (const char* version : {"TLSv1.2", "TLSv1.3"}) {
    CAPTURE(version);
    ServerOptions options = server_options();
    const bool new_one = strcmp(version, "TLSv1.3") == 0;
    options.lowest_version = new_one ? "tlsv1.3" : "tlsv1.2";
    TlsServer server(options);
    ClientOptions publishing = client_options();
    TlsClient publisher(server.server.address, publishing);
    TlsClient subscriber(server.server.address, publishing, "127.0.0.1");
    if (!new_one) {
      SSL_set_max_proto_version(publisher.transport.link().get(), TLS1_2_VERSION);
      SSL_set_max_proto_version(subscriber.transport.link().get(), TLS1_2_VERSION);
    }
    CHECK(server.server.exchange(publisher.transport, connect_packet("p"), 4) == connack);
    CHECK(server.server.exchange(subscriber.transport, connect_packet("s") + subscribe_t, 9) ==
          connack + suback_t);
    CHECK(std::string(publisher.transport.link().version()) == version);
    CHECK(std::string(server.server.loop.layers().tls(0).version()) == version);
    CHECK(server.server.watcher.secured == 2);
    for (const size_t size : {size_t{0}, size_t{5}, size_t{16000}, size_t{1500000}}) {
      const std::string packet = publish_packet(size);
      server.server.exchange(publisher.transport, packet, 0);
      CHECK((server.server.exchange(subscriber.transport, "", packet.size()) == packet));
    }
    publisher.transport.hang_up();
    server.server.turns(3);
    CHECK(server.server.loop.connection_count() == 1);
    REQUIRE(server.server.watcher.broken.size() == 1);
    CHECK(server.server.watcher.broken[0] == 0);
    CHECK(server.server.watcher.failures.empty());
  }
}

TEST_CASE("tls: a client that speaks only older versions is refused") {
  ServerOptions options = server_options();
  options.lowest_version = "tlsv1.3";
  TlsServer server(options);
  TlsClient client(server.server.address, client_options());
  SSL_set_max_proto_version(client.transport.link().get(), TLS1_2_VERSION);
  const Verdict verdict = connect_to(server, client);
  CHECK(verdict.server == "tls: the handshake failed: unsupported protocol");
  CHECK(verdict.client == "the handshake failed: tlsv1 alert protocol version");
}

TEST_CASE("tls: a slow reader gets every byte through a small socket buffer") {
  TlsServer server(server_options(), false, Setup{4096, 30, 256 << 10});
  TlsClient publisher(server.server.address, client_options());
  TlsClient subscriber(server.server.address, client_options());
  server.server.exchange(publisher.transport, connect_packet("p"), 4);
  server.server.exchange(subscriber.transport, connect_packet("s") + subscribe_t, 9);
  std::string expected;
  for (int i = 0; i != 3; ++i) {
    expected += publish_packet(700000);
    server.server.exchange(publisher.transport, publish_packet(700000), 0);
  }
  server.server.turns(10);
  std::string got;
  for (int i = 0; i != 100000 && got.size() < expected.size(); ++i) {
    uint8_t bytes[3000];
    const int32_t size = subscriber.transport.receive(bytes, sizeof bytes);
    REQUIRE(size >= 0);
    got.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
    if (i % 10 == 0) { server.server.turns(1); }
  }
  CHECK((got == expected));
  // Nothing is left: the wait waits.
  const mqtt::Millis before = MonotonicClock{}.now_ms();
  REQUIRE(server.server.loop.turn(50) == 0);
  CHECK(MonotonicClock{}.now_ms() - before >= 40);
}

TEST_CASE("tls: input that OpenSSL has read and the loop has no room for is not forgotten") {
  TlsServer server(server_options(), false, Setup{0, 30, 1000});
  TlsClient publisher(server.server.address, client_options());
  TlsClient subscriber(server.server.address, client_options());
  server.server.exchange(publisher.transport, connect_packet("p"), 4);
  server.server.exchange(subscriber.transport, connect_packet("s") + subscribe_t, 9);
  const std::string packet = publish_packet(16000);
  CHECK((server.server.exchange(subscriber.transport, "", 0).empty()));
  server.server.exchange(publisher.transport, packet, 0);
  CHECK((server.server.exchange(subscriber.transport, "", packet.size()) == packet));
}

TEST_CASE("tls: smaller records that a client asks for") {
  TlsServer server(server_options(), false, Setup{4096, 30, 256 << 10});
  TlsClient publisher(server.server.address, client_options());
  TlsClient subscriber(server.server.address, client_options());
  REQUIRE(SSL_set_tlsext_max_fragment_length(subscriber.transport.link().get(),
                                             TLSEXT_max_fragment_length_512) == 1);
  server.server.exchange(publisher.transport, connect_packet("p"), 4);
  server.server.exchange(subscriber.transport, connect_packet("s") + subscribe_t, 9);
  const std::string packet = publish_packet(1000000);
  server.server.exchange(publisher.transport, packet, 0);
  server.server.turns(5);
  CHECK((server.server.exchange(subscriber.transport, "", packet.size()) == packet));
}

TEST_CASE("tls: a client refuses a wrong certificate and says why") {
  struct Row {
    const char* server;
    const char* authority;
    const char* host;
    const char* client_says;
    const char* server_says;
  };
  const Row rows[] = {
      {"server", "ca.pem", "localhost", "ok", "ok"},
      {"server", "ca.pem", "127.0.0.1", "ok", "ok"},
      {"server", "other_ca.pem", "localhost",
       "certificate verify failed: unable to get local issuer certificate",
       "tls: the handshake failed: tlsv1 alert unknown ca"},
      {"other_server", "ca.pem", "localhost",
       "certificate verify failed: unable to get local issuer certificate",
       "tls: the handshake failed: tlsv1 alert unknown ca"},
      {"wrong_host", "ca.pem", "localhost", "certificate verify failed: hostname mismatch",
       "tls: the handshake failed: sslv3 alert bad certificate"},
      {"server", "ca.pem", "127.0.0.2", "certificate verify failed: IP address mismatch",
       "tls: the handshake failed: sslv3 alert bad certificate"},
      {"expired_server", "ca.pem", "localhost",
       "certificate verify failed: certificate has expired",
       "tls: the handshake failed: sslv3 alert certificate expired"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.server);
    TlsServer server(server_options(row.server));
    TlsClient client(server.server.address, client_options(row.authority), row.host);
    const Verdict verdict = connect_to(server, client);
    CHECK(verdict.client == row.client_says);
    CHECK(verdict.server == row.server_says);
  }
  // Without the check of the host name; the chain is still checked.
  TlsServer server(server_options("wrong_host"));
  ClientOptions options = client_options();
  options.insecure = true;
  TlsClient careless(server.server.address, options);
  CHECK(connect_to(server, careless).client == "ok");
  options.ca_file = file("other_ca.pem");
  TlsClient stranger(server.server.address, options);
  CHECK(connect_to(server, stranger).client ==
        "certificate verify failed: unable to get local issuer certificate");
}

TEST_CASE("tls: what the system trusts does not include a test's authority") {
  TlsServer server(server_options());
  TlsClient client(server.server.address, ClientOptions());
  CHECK(connect_to(server, client).client.find("certificate verify failed: ") == 0);
}

TEST_CASE("tls: a server refuses a wrong client certificate and says why") {
  struct Row {
    const char* client;
    const char* crl;
    const char* server_says;
  };
  const Row rows[] = {
      {"client", nullptr, "ok"},
      {"client", "crl.pem", "ok"},
      {"revoked_client", nullptr, "ok"},
      {"", nullptr, "tls: the handshake failed: peer did not return a certificate"},
      {"revoked_client", "crl.pem", "tls: certificate verify failed: certificate revoked"},
      {"expired_client", nullptr, "tls: certificate verify failed: certificate has expired"},
      {"other_client", nullptr,
       "tls: certificate verify failed: unable to get local issuer certificate"},
      {"server", nullptr, "tls: certificate verify failed: unsuitable certificate purpose"},
  };
  for (const Row& row : rows) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      CAPTURE(row.client);
      CAPTURE(row.crl);
      TlsServer server(with_client_certificates(row.crl));
      TlsClient client(server.server.address,
                       *row.client == 0 ? client_options() : with_certificate(row.client));
      SSL_set_max_proto_version(client.transport.link().get(), version);
      const Verdict verdict = connect_to(server, client);
      CHECK(verdict.server == row.server_says);
      CHECK((verdict.client == "ok") == (verdict.server == "ok"));
    }
  }
}

TEST_CASE("tls: the client's certificate names it") {
  TlsServer server(with_client_certificates());
  TlsClient client(server.server.address, with_certificate("client"));
  REQUIRE(connect_to(server, client).server == "ok");
  const auto& link = server.server.loop.layers().tls(server.server.watcher.accepted[0].slot);
  char text[64];
  CHECK(text_of(link.common_name(Span<char>(text))) == "device 7");
  CHECK(text_of(link.subject(Span<char>(text))) == "CN=device 7,O=Test");
  CHECK(link.common_name(Span<char>(text).first(7)).empty());
  CHECK(link.psk_identity().empty());
  TlsServer open(server_options());
  TlsClient anonymous(open.server.address, client_options());
  REQUIRE(connect_to(open, anonymous).server == "ok");
  CHECK(open.server.loop.layers().tls(0).common_name(Span<char>(text)).empty());
  CHECK(open.server.loop.layers().tls(0).subject(Span<char>(text)).empty());
}

TEST_CASE("tls: a renewed certificate is served while old connections stay") {
  TlsServer server(server_options());
  TlsClient before(server.server.address, client_options());
  REQUIRE(connect_to(server, before).server == "ok");
  const auto name_of = [](const TlsClient& client) {
    char text[64];
    return text_of(client.transport.link().common_name(Span<char>(text)));
  };
  CHECK(name_of(before) == "localhost");
  REQUIRE(server.context.load(server_options("renewed")));
  TlsClient after(server.server.address, client_options());
  REQUIRE(connect_to(server, after).server == "ok");
  CHECK(name_of(after) == "localhost renewed");
  CHECK(server.server.exchange(before.transport, subscribe_t, 5) == suback_t);
  // What cannot be loaded changes nothing.
  ServerOptions wrong = server_options("renewed");
  wrong.key_file = file("server.key");
  CHECK(!server.context.load(wrong));
  ServerContext other;
  REQUIRE(other.load(server_options("renewed")));
  server.context.adopt(other);
  CHECK(other.get() == nullptr);
  TlsClient still(server.server.address, client_options());
  REQUIRE(connect_to(server, still).server == "ok");
  CHECK(name_of(still) == "localhost renewed");
}

TEST_CASE("tls: sessions are resumed, but not across a reload") {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsServer server(with_client_certificates("empty_crl.pem"));
    Client first(server.server.address);
    Client second(server.server.address);
    Client third(server.server.address);
    Client* clients[] = {&first, &second, &third};
    ClientContext context;
    REQUIRE(context.load(with_certificate("revoked_client")));
    struct Switch {  // one transport over one socket after the other
      Client* client = nullptr;
      int32_t receive(uint8_t* target, size_t size) { return client->receive(target, size); }
      int32_t transmit(const uint8_t* source, size_t size) {
        return client->transmit(source, size);
      }
      void hang_up() { client->hang_up(); }
    } inner;
    mqtt::tls::TlsTransport<Switch> transport(inner);
    for (int i = 0; i != 3; ++i) {
      inner.client = clients[i];
      REQUIRE(transport.start(context, "localhost"));
      SSL_set_max_proto_version(transport.link().get(), version);
      if (i == 2) {
        REQUIRE(server.context.load(with_client_certificates("crl.pem")));
        server.server.last_words(transport, connect_packet("c"));
        CHECK(server.server.watcher.failures ==
              std::vector<std::string>{"tls: certificate verify failed: certificate revoked"});
        break;
      }
      CHECK(server.server.exchange(transport, connect_packet("c"), 4) == connack);
      CHECK(transport.link().is_resumed() == (i == 1));
      char text[64];
      const auto& link = server.server.loop.layers().tls(
          server.server.watcher.accepted[static_cast<size_t>(i)].slot);
      CHECK(text_of(link.common_name(Span<char>(text))) == "device 9");
      transport.hang_up();
      server.server.turns(3);
    }
  }
}

TEST_CASE("tls: ALPN names what is spoken") {
  const auto chosen = [](bool websocket, const char* offered) {
    ServerOptions options = server_options();
    options.websocket = websocket;
    TlsServer server(options);
    ClientOptions asking = client_options();
    asking.alpn = offered;
    TlsClient client(server.server.address, asking);
    CHECK(connect_to(server, client).server == "ok");
    const unsigned char* name = nullptr;
    unsigned int size = 0;
    SSL_get0_alpn_selected(client.transport.link().get(), &name, &size);
    return std::string(reinterpret_cast<const char*>(name), size);
  };
  CHECK(chosen(false, "mqtt") == "mqtt");
  CHECK(chosen(false, "x-amzn-mqtt-ca") == "");
  CHECK(chosen(true, "http/1.1") == "http/1.1");
  CHECK(chosen(true, "mqtt") == "");
}

TEST_CASE("tls: pre-shared keys") {
  ServerOptions options;
  options.psk_file = file("psk");
  options.psk_hint = "hint";
  struct Row {
    const char* identity;
    const char* key;
    bool good;
  };
  const Row rows[] = {
      {"sensor", "00112233445566778899aabbccddeeff", true},
      {"lamp", "FFEEDDCCBBAA99887766554433221100", true},
      {"lamp", "00112233445566778899aabbccddeeff", false},
      {"nobody", "00112233445566778899aabbccddeeff", false},
      {"# identities", "00", false},
  };
  for (const Row& row : rows) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      CAPTURE(row.identity);
      CAPTURE(version);
      TlsServer server(options);
      ClientOptions asking;
      asking.psk_identity = row.identity;
      asking.psk = row.key;
      TlsClient client(server.server.address, asking);
      SSL_set_max_proto_version(client.transport.link().get(), version);
      const Verdict verdict = connect_to(server, client);
      CHECK((verdict.server == "ok") == row.good);
      CHECK((verdict.client == "ok") == row.good);
      if (row.good) {
        const uint32_t slot = server.server.watcher.accepted[0].slot;
        CHECK(text_of(server.server.loop.layers().tls(slot).psk_identity()) == row.identity);
      }
    }
  }
}

TEST_CASE("tls: a resumed session keeps the identity of its pre-shared key") {
  ServerOptions options;
  options.psk_file = file("psk");
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsServer server(options);
    ClientOptions asking;
    asking.psk_identity = "sensor";
    asking.psk = "00112233445566778899aabbccddeeff";
    TlsClient first(server.server.address, asking);
    SSL_set_max_proto_version(first.transport.link().get(), version);
    REQUIRE(connect_to(server, first).server == "ok");
    SSL_SESSION* session = SSL_get1_session(first.transport.link().get());
    TlsClient second(server.server.address, asking);
    SSL_set_max_proto_version(second.transport.link().get(), version);
    REQUIRE(SSL_set_session(second.transport.link().get(), session) == 1);
    SSL_SESSION_free(session);
    REQUIRE(connect_to(server, second).server == "ok");
    CHECK(second.transport.link().is_resumed());
    const uint32_t slot = server.server.watcher.accepted[1].slot;
    CHECK(server.server.loop.layers().tls(slot).is_resumed());
    CHECK(text_of(server.server.loop.layers().tls(slot).psk_identity()) == "sensor");
  }
}

TEST_CASE("tls: options that cannot be are refused with a sentence") {
  const auto refusal = [](const ServerOptions& options) {
    ServerContext context;
    CHECK(!context.load(options));
    return std::string(context.failure());
  };
  CHECK(refusal(ServerOptions()) == "neither a certificate nor a PSK file is given");
  ServerOptions options = server_options();
  options.certificate_file = file("missing.pem");
  CHECK(refusal(options) == "the certificate cannot be loaded: No such file or directory");
  options = server_options();
  options.key_file = nullptr;
  CHECK(refusal(options) == "the key cannot be loaded");
  options.key_file = file("client.key");
  CHECK(refusal(options).find("the key cannot be loaded: ") == 0);
  options = server_options();
  options.lowest_version = "tlsv1";
  CHECK(refusal(options) == "the TLS version must be tlsv1.2 or tlsv1.3: tlsv1");
  options = server_options();
  options.ciphers = "nonsense";
  CHECK(refusal(options) == "the list of ciphers is not possible: no cipher match");
  options = server_options();
  options.ciphers_1_3 = "nonsense";
  CHECK(refusal(options) == "the list of TLS 1.3 ciphers is not possible: no cipher match");
  options = server_options();
  options.ca_file = file("server.key");
  CHECK(refusal(options).find("the CA file cannot be loaded: ") == 0);
  options = server_options();
  options.require_certificate = true;
  CHECK(refusal(options) ==
        "client certificates are required, but no CA is given to check them by");
  options = with_client_certificates("ca.key");
  CHECK(refusal(options).find("the CRL cannot be loaded") == 0);
  options = server_options();
  options.dh_file = file("server.pem");
  CHECK(refusal(options).find("the DH parameters cannot be loaded") == 0);
  options = ServerOptions();
  options.psk_file = file("missing");
  CHECK(refusal(options) == "the PSK file cannot be loaded: No such file or directory");
}

TEST_CASE("tls: WebSocket over TLS, through both client transports") {
  struct Counter {
    uint8_t next = 0;
    void fill(uint8_t* target, uint32_t size) {
      for (uint32_t i = 0; i != size; ++i) { target[i] = next++; }
    }
  } random;
  TlsServer server(server_options(), true, Setup{8192, 30, 256 << 10});
  using Secure = TlsClient::Transport;
  using Web = mqtt::websocket::WebSocketTransport<Secure, Counter>;
  TlsClient publisher(server.server.address, client_options());
  TlsClient subscriber(server.server.address, client_options());
  Web publishing(publisher.transport, random);
  Web subscribing(subscriber.transport, random);
  mqtt::websocket::ClientRequest request;
  request.host = "localhost";
  REQUIRE(publishing.start(request));
  REQUIRE(subscribing.start(request));
  CHECK(server.server.exchange(publishing, connect_packet("p"), 4) == connack);
  CHECK(server.server.exchange(subscribing, connect_packet("s") + subscribe_t, 9) ==
        connack + suback_t);
  for (const size_t size : {size_t{5}, size_t{16380}, size_t{1048576}}) {
    const std::string packet = publish_packet(size);
    server.server.exchange(publishing, packet, 0);
    CHECK((server.server.exchange(subscribing, "", packet.size()) == packet));
  }
  publishing.hang_up();
  server.server.turns(3);
  CHECK(server.server.loop.connection_count() == 1);
  CHECK(server.server.watcher.failures.empty());
}

TEST_CASE("tls: behind a PROXY header") {
  ServerContext context;
  REQUIRE(context.load(server_options()));
  LayerOptions<OpenSsl> layers;
  layers.tls = &context;
  layers.proxy = ProxyHeader::v1;
  Server<OpenSsl> server(layers);
  TlsClient client(server.address, client_options());
  const std::string header = "PROXY TCP4 192.0.2.1 192.0.2.2 12345 8883\r\n";
  REQUIRE(client.client.transmit(reinterpret_cast<const uint8_t*>(header.data()), header.size()) ==
          static_cast<int32_t>(header.size()));
  CHECK(server.exchange(client.transport, connect_packet("c"), 4) == connack);
  CHECK(server.watcher.addresses == std::vector<std::string>{"192.0.2.1 12345"});
  // Who it is was told before it was let in, although its CONNECT came with its last flight.
  CHECK(server.watcher.steps == std::vector<std::string>{"accepted", "secured", "connect"});
}

TEST_CASE("tls: bytes that are no TLS, and silence, end the connection") {
  TlsServer server(server_options(), false, Setup{0, 1, 256 << 10});
  Client plain(server.server.address);
  server.server.last_words(plain, connect_packet("c"));
  Client web(server.server.address);
  server.server.last_words(web, "GET / HTTP/1.1\r\n\r\n");
  Client leaving(server.server.address);
  server.server.exchange(leaving, std::string("\x16\3\1", 3), 0);
  leaving.hang_up();
  server.server.turns(3);
  CHECK(server.server.watcher.failures ==
        std::vector<std::string>{"tls: the handshake failed: wrong version number",
                                 "tls: the handshake failed: http request",
                                 "tls: the peer closed during the handshake"});
  Client silent(server.server.address);
  for (int i = 0; i != 4000 && server.server.watcher.failures.size() < 4; ++i) {
    server.server.turns(1);
  }
  CHECK(server.server.watcher.failures.back() == "tls: no handshake in time");
  CHECK(server.server.loop.connection_count() == 0);
}

TEST_CASE("tls: bytes that are forged in a connection end it") {
  TlsServer server(server_options());
  TlsClient client(server.server.address, client_options());
  REQUIRE(connect_to(server, client).server == "ok");
  server.server.last_words(client.client, std::string("\x17\3\3\0\x20", 5) + std::string(32, 'x'));
  REQUIRE(server.server.watcher.failures.size() == 1);
  CHECK(server.server.watcher.failures[0].find("tls: TLS is broken: ") == 0);
}

TEST_CASE("tls: many handshakes at once all come through") {
  TlsServer server(server_options());
  std::vector<TlsClient*> clients;
  for (int i = 0; i != 40; ++i) {
    clients.push_back(new TlsClient(server.server.address, client_options()));
  }
  for (int i = 0; i != 200 && server.server.watcher.secured < 40; ++i) {
    for (TlsClient* client : clients) {
      uint8_t byte = 0;
      CHECK(client->transport.receive(&byte, 1) == 0);
    }
    const uint32_t before = server.server.watcher.secured;
    REQUIRE(server.server.loop.turn(1) == 0);
    CHECK(server.server.watcher.secured - before <= 8);  // in one turn
  }
  CHECK(server.server.watcher.secured == 40);
  for (TlsClient* client : clients) {
    CHECK(server.server.exchange(client->transport, connect_packet("c"), 4) == connack);
    delete client;
  }
}

#endif
