// A small broker whose listeners have layers, for layers_test.py.
//
//   layered_broker FOLDER LISTENER...
//
// LISTENER: tcp:PORT, tls:PORT, ws:PORT, wss:PORT, proxy:PORT, mutual:PORT (TLS with client
// certificates and crl.pem), psk:PORT; inflight:NUMBER sets the Receive Maximum. FOLDER:
// certificates as certificates.sh makes them, and www/, which ws and wss serve. SIGHUP reads the
// certificates again; SIGTERM ends it. Events go to standard output, a line each.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ports/posix/broker_loop.hpp>
#include <ports/tls/openssl.hpp>

namespace {

using namespace mqtt::posix;
using mqtt::ConnectionId;
using mqtt::tls::OpenSsl;
using mqtt::tls::ServerContext;
using mqtt::tls::ServerOptions;

constexpr uint32_t listeners_most = 16;

struct Watcher;
using Engine = mqtt::BrokerEngine<>;
using LayersType = Layers<Watcher, OpenSsl>;
using Loop = BrokerLoop<Engine, Watcher, DefaultPoller, LayersType>;

struct Listener {
  ServerOptions options;
  ServerContext context;
};
Listener listeners[listeners_most];
Descriptor sockets[listeners_most];
uint32_t listener_count = 0;
Loop* the_loop = nullptr;

bool reload() {
  for (uint32_t i = 0; i != listener_count; ++i) {
    if (listeners[i].options.certificate_file == nullptr &&
        listeners[i].options.psk_file == nullptr) {
      continue;
    }
    if (!listeners[i].context.load(listeners[i].options)) {
      printf("not loaded: %s\n", listeners[i].context.failure());
      return false;
    }
  }
  return true;
}

struct Watcher : NoObserver {
  void on_accepted(ConnectionId id, uint32_t group, const SocketAddress& address) noexcept {
    char host[INET6_ADDRSTRLEN];
    address.write_host(host);
    printf("accepted %u on %u from %s\n", id.slot, group, host);
  }
  void on_secured(ConnectionId id, const OpenSsl::Link& link) noexcept {
    char name[256];
    char subject[256];
    const mqtt::Text common = link.common_name(mqtt::Span<char>(name));
    const mqtt::Text whole = link.subject(mqtt::Span<char>(subject));
    const mqtt::Text identity = link.psk_identity();
    printf("secured %u %s %s%s name '%.*s' subject '%.*s' identity '%.*s'\n", id.slot,
           link.version(), link.cipher(), link.is_resumed() ? " resumed" : "",
           static_cast<int>(common.size()), common.data(), static_cast<int>(whole.size()),
           whole.data(), static_cast<int>(identity.size()), identity.data());
  }
  void on_layer_failed(ConnectionId id, Layer layer, const char* reason) noexcept {
    constexpr const char* names[] = {"proxy", "tls", "http", "websocket"};
    printf("failed %u %s: %s\n", id.slot, names[static_cast<uint8_t>(layer)], reason);
  }
  bool on_http(uint32_t, mqtt::Text path, HttpAnswer& answer) noexcept {
    if (path != mqtt::Text("healthz")) { return false; }
    memcpy(answer.body.data(), "ok\n", 3);
    answer.size = 3;
    return true;
  }
  void on_notice(uint8_t notice) noexcept {
    if (notice == SIGHUP) { printf("%s\n", reload() ? "reloaded" : "kept"); }
  }
  void on_turn() noexcept { (void)fflush(stdout); }
};

char* path_in(const char* folder, const char* name) {
  const size_t size = strlen(folder) + strlen(name) + 2;
  char* path = static_cast<char*>(malloc(size));
  (void)snprintf(path, size, "%s/%s", folder, name);
  return path;
}

bool add_listener(Loop& loop, const char* folder, const char* text) {
  Listener& listener = listeners[listener_count];
  const char* const colon = strchr(text, ':');
  const mqtt::Text kind(text, static_cast<uint32_t>(colon == nullptr ? 0 : colon - text));
  LayerOptions<OpenSsl> layers;
  layers.websocket = kind == mqtt::Text("ws") || kind == mqtt::Text("wss");
  if (layers.websocket) { layers.http_folder = path_in(folder, "www"); }
  if (kind == mqtt::Text("proxy")) { layers.proxy = ProxyHeader::any; }
  const bool mutual = kind == mqtt::Text("mutual");
  if (mutual || kind == mqtt::Text("tls") || kind == mqtt::Text("wss")) {
    listener.options.certificate_file = path_in(folder, "server.pem");
    listener.options.key_file = path_in(folder, "server.key");
    listener.options.websocket = layers.websocket;
    layers.tls = &listener.context;
  }
  if (mutual) {
    listener.options.ca_file = path_in(folder, "ca.pem");
    listener.options.crl_file = path_in(folder, "crl.pem");
    listener.options.require_certificate = true;
  }
  if (kind == mqtt::Text("psk")) {
    listener.options.psk_file = path_in(folder, "psk");
    layers.tls = &listener.context;
  }
  SocketAddress address;
  Descriptor socket;
  if (colon == nullptr ||
      !address.read("127.0.0.1", static_cast<uint16_t>(strtoul(colon + 1, nullptr, 10))) ||
      listen_tcp(address, ListenOptions{}, socket) != 0) {
    return false;
  }
  loop.layers().set(listener_count, layers);
  sockets[listener_count].reset(socket.release());
  ++listener_count;
  return true;
}

bool give_sockets(Loop& loop) {
  for (uint32_t i = 0; i != listener_count; ++i) {
    if (loop.add_listener(sockets[i], i, 0xFFFFFFFF) != 0) { return false; }
  }
  return true;
}

void on_signal(int signal) {
  the_loop->notify(signal == SIGTERM ? Loop::stop_notice : static_cast<uint8_t>(signal));
}

}  // namespace

int main(int argc, char** argv) {
  static mqtt::AllowAll policy;
  static mqtt::NoJournal journal;
  static Engine engine(policy, journal);
  static Watcher watcher;
  static Loop loop(engine, watcher);
  static Reservation memory;
  mqtt::BrokerLimits limits;
  for (int i = 2; i < argc; ++i) {
    if (strncmp(argv[i], "inflight:", 9) == 0) {
      limits.receive_maximum = static_cast<uint16_t>(strtoul(argv[i] + 9, nullptr, 10));
    }
  }
  the_loop = &loop;
  LoopOptions options;
  options.connections = limits.connections;
  if (argc < 3 || argc - 2 > static_cast<int>(listeners_most) ||
      !memory.reserve(mqtt::broker_bytes(limits)) ||
      engine.start(limits, {memory.data(), memory.size()}, 1, MonotonicClock{}.now_ms()) !=
          mqtt::Error::none) {
    return 1;
  }
  for (int i = 2; i < argc; ++i) {
    if (strncmp(argv[i], "inflight:", 9) != 0 && !add_listener(loop, argv[1], argv[i])) {
      (void)fprintf(stderr, "cannot listen on %s\n", argv[i]);
      return 1;
    }
  }
  if (loop.start(options) != 0 || !give_sockets(loop) || !reload()) { return 1; }
  signal(SIGTERM, on_signal);
  signal(SIGHUP, on_signal);
  return loop.run();
}
