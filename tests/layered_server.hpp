// A loop with layers around a real engine, and a client that speaks raw bytes to it.
#ifndef MQTT_TESTS_LAYERED_SERVER_HPP
#define MQTT_TESTS_LAYERED_SERVER_HPP

#include <doctest/doctest.h>
#include <stdlib.h>
#include <ports/posix/broker_loop.hpp>

#include <string>
#include <vector>

namespace layered {

using namespace mqtt::posix;
using mqtt::Bytes;
using mqtt::ConnectionId;
using mqtt::Text;

inline std::string text_of(Text text) { return std::string(text.data(), text.size()); }

// What the loop told, in words.
struct Watcher : NoObserver {
  std::vector<ConnectionId> accepted;
  std::vector<std::string> addresses;
  std::vector<std::string> failures;
  std::vector<int> broken;
  std::vector<std::string> steps;  // of all connections, in their order
  uint32_t secured = 0;
  uint32_t closed = 0;
  std::string page = "connections 1\n";

  void on_accepted(ConnectionId id, uint32_t, const SocketAddress& address) {
    char host[INET6_ADDRSTRLEN];
    address.write_host(host);
    accepted.push_back(id);
    steps.push_back("accepted");
    addresses.push_back(std::string(host) + " " + std::to_string(address.port()));
  }
  template <typename Link>
  void on_secured(ConnectionId, const Link&) {
    ++secured;
    steps.push_back("secured");
  }
  void on_layer_failed(ConnectionId, Layer layer, const char* reason) {
    const char* const names[] = {"proxy: ", "tls: ", "http: ", "websocket: "};
    failures.push_back(names[static_cast<uint8_t>(layer)] + std::string(reason));
  }
  void on_broken(ConnectionId, int error) { broken.push_back(error); }
  void on_closed(ConnectionId) { ++closed; }
  bool on_http(uint32_t, Text path, HttpAnswer& answer) {
    if (path != Text("metrics")) { return false; }
    REQUIRE(answer.body.size() >= page.size());
    memcpy(answer.body.data(), page.data(), page.size());
    answer.size = static_cast<uint32_t>(page.size());
    return true;
  }
};

// A non-blocking client.
class Client {
 public:
  explicit Client(const SocketAddress& address)
      : socket_(::socket(address.any.sa_family, SOCK_STREAM, 0)) {
    REQUIRE(connect(socket_.get(), &address.any, address.size) == 0);
    REQUIRE(set_nonblocking(socket_.get()));
    const int on = 1;
    (void)setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  // As the Transport hook.
  int32_t receive(uint8_t* target, size_t size) noexcept {
    const ssize_t got = recv(socket_.get(), target, size, 0);
    if (got < 0) { return try_later(errno) ? 0 : -1; }
    return got == 0 && size != 0 ? -1 : static_cast<int32_t>(got);
  }
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    const ssize_t sent = send(socket_.get(), source, size, send_flags);
    return sent >= 0 ? static_cast<int32_t>(sent) : try_later(errno) ? 0 : -1;
  }
  void hang_up() noexcept { socket_.reset(); }

  int descriptor() const { return socket_.get(); }

 private:
  Descriptor socket_;
};

// The engine's policy writes into the same list.
struct Recorder : mqtt::AllowAll {
  std::vector<std::string>* steps = nullptr;
  void on_connect(ConnectionId id, const mqtt::Connect& connect, mqtt::ConnectAnswer& answer) {
    steps->push_back("connect");
    AllowAll::on_connect(id, connect, answer);
  }
};
struct EngineConfig : mqtt::BrokerConfig {
  using Policy = Recorder;
};

struct Setup {
  int send_buffer = 0;
  uint16_t connect_timeout_s = 30;
  uint32_t read_bytes = 256 << 10;
};

template <typename Tls = NoTls, typename Poller = DefaultPoller>
struct Server {
  using LayersType = Layers<Watcher, Tls>;
  using Engine = mqtt::BrokerEngine<EngineConfig>;
  using Loop = BrokerLoop<Engine, Watcher, Poller, LayersType>;

  mqtt::BrokerLimits limits;
  Reservation memory;
  Recorder policy;
  mqtt::NoJournal journal;
  Engine engine{policy, journal};
  Watcher watcher;
  Loop loop{engine, watcher};
  SocketAddress address;

  explicit Server(const LayerOptions<Tls>& options, const Setup& setup = {}) {
    limits.connections = 64;
    limits.connect_timeout_s = setup.connect_timeout_s;
    policy.steps = &watcher.steps;
    REQUIRE(memory.reserve(mqtt::broker_bytes<EngineConfig>(limits)));
    REQUIRE(engine.start(limits, {memory.data(), memory.size()}, 1, MonotonicClock{}.now_ms()) ==
            mqtt::Error::none);
    LoopOptions loop_options;
    loop_options.connections = limits.connections;
    loop_options.read_bytes = setup.read_bytes;
    loop_options.arena_bytes = 4 * setup.read_bytes;
    loop.layers().set(0, options);
    REQUIRE(loop.start(loop_options) == 0);
    address = add(0, options, setup.send_buffer);
  }
  SocketAddress add(uint32_t group, const LayerOptions<Tls>& options, int send_buffer = 0) {
    ListenOptions listen;
    listen.send_buffer = send_buffer;
    Descriptor socket;
    SocketAddress any;
    REQUIRE(any.read("127.0.0.1", 0));
    REQUIRE(listen_tcp(any, listen, socket) == 0);
    const SocketAddress bound = local_address(socket.get());
    loop.layers().set(group, options);
    REQUIRE(loop.add_listener(socket, group, 0xFFFFFFFF) == 0);
    return bound;
  }
  void turns(int count) {
    for (int i = 0; i != count; ++i) { REQUIRE(loop.turn(1) == 0); }
  }
  // Sends all of `request` and turns until `done(received)` or the link ends.
  template <typename Transport, typename Done>
  std::string exchange_until(Transport& client, const std::string& request, Done done) {
    std::string received;
    size_t sent = 0;
    bool ended = false;
    for (int i = 0; i != 20000 && !ended && (sent < request.size() || !done(received)); ++i) {
      const int32_t taken = client.transmit(reinterpret_cast<const uint8_t*>(request.data()) + sent,
                                            request.size() - sent);
      sent += taken > 0 ? static_cast<size_t>(taken) : 0;
      REQUIRE(loop.turn(sent < request.size() ? 0 : 1) == 0);
      uint8_t bytes[65536];
      int32_t got = 0;
      while ((got = client.receive(bytes, sizeof bytes)) > 0) {
        received.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(got));
      }
      ended = got < 0;
    }
    link_ended = ended;
    return received;
  }
  template <typename Transport>
  std::string exchange(Transport& client, const std::string& request, size_t size) {
    return exchange_until(client, request,
                          [size](const std::string& received) { return received.size() >= size; });
  }
  // Until the server closes.
  template <typename Transport>
  std::string last_words(Transport& client, const std::string& request) {
    const std::string received =
        exchange_until(client, request, [](const std::string&) { return false; });
    CHECK(link_ended);
    return received;
  }
  bool link_ended = false;  // after an exchange
};

inline std::string connect_packet(const std::string& id) {
  const std::string body =
      std::string("\0\4MQTT\4\2\0\0\0", 11) + static_cast<char>(id.size()) + id;
  return std::string("\x10") + static_cast<char>(body.size()) + body;
}
const std::string connack("\x20\2\0\0", 4);
const std::string subscribe_t("\x82\6\0\1\0\1t\0", 8);
const std::string suback_t("\x90\3\0\1\0", 5);

// A PUBLISH of QoS 0 to "t" whose payload differs from place to place.
inline std::string publish_packet(size_t size) {
  std::string packet = "\x30";
  size_t remaining = size + 3;
  do {
    const size_t digit = remaining % 128;
    remaining /= 128;
    packet.push_back(static_cast<char>(digit | (remaining != 0 ? 128U : 0U)));
  } while (remaining != 0);
  packet += std::string("\0\1t", 3);
  for (size_t i = 0; i != size; ++i) { packet.push_back(static_cast<char>(i * 31 ^ i >> 8)); }
  return packet;
}

}  // namespace layered

#endif
