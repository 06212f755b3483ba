// ports/lwip in a system with threads: Debian's liblwip, whose raw calls abort when the core lock
// is not held. Broker and client have a thread each and sleep in wait().
#include <doctest/doctest.h>

// Debian's options declare functions without saying that they are C.
extern "C" {
#include <lwip/opt.h>
}

#include <lwip/netif.h>
#include <lwip/tcpip.h>
#include <ports/lwip/broker.hpp>
#include <ports/lwip/client.hpp>

#include <semaphore.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <thread>

namespace {

// A netif that hands lwIP's thread its own packets back.
err_t put(netif* netif, pbuf* bytes, const ip4_addr_t*) {
  pbuf* const copy = pbuf_clone(PBUF_RAW, PBUF_RAM, bytes);
  if (copy == nullptr) { return ERR_MEM; }
  if (tcpip_input(copy, netif) != ERR_OK) { pbuf_free(copy); }
  return ERR_OK;
}
err_t initialise(netif* netif) {
  netif->name[0] = netif->name[1] = 'w';
  netif->mtu = 1500;
  netif->output = put;
  netif->flags |= NETIF_FLAG_LINK_UP;
  return ERR_OK;
}

void start_lwip() {
  static sem_t ready;
  static netif interface;
  sem_init(&ready, 0, 0);
  tcpip_init([](void*) { sem_post(&ready); }, nullptr);
  sem_wait(&ready);
  const mqtt::lwip::CoreLock lock;
  ip4_addr_t address;
  ip4_addr_t mask;
  ip4_addr_t gateway;
  IP4_ADDR(&address, 10, 0, 0, 1);
  IP4_ADDR(&mask, 255, 255, 255, 0);
  ip4_addr_set_zero(&gateway);
  netif_add(&interface, &address, &mask, &gateway, nullptr, initialise, tcpip_input);
  netif_set_default(&interface);
  netif_set_up(&interface);
}

constexpr mqtt::BrokerLimits small() {
  mqtt::BrokerLimits limits;
  limits.connections = limits.sessions = 3;
  limits.subscriptions = limits.filters = limits.filter_nodes = 16;
  limits.retained = limits.retained_nodes = 8;
  limits.blocks = 256;
  limits.large_blocks = 0;
  limits.text_blocks = 32;
  limits.turn_records = 4;
  limits.packet_bytes_max = limits.control_packet_bytes_max = 512;
  return limits;
}
constexpr mqtt::BrokerLimits limits = small();

struct Config : mqtt::BrokerConfig {
  using Index = uint16_t;
};
struct Clock : mqtt::lwip::Clock {
  uint32_t random() noexcept { return 1; }
};

using BrokerTransport = mqtt::lwip::BrokerTransport<limits.connections>;
using ClientTransport = mqtt::lwip::ClientTransport<>;

void serve(const std::atomic<bool>& stopping, std::atomic<bool>& serving) {
  BrokerTransport transport;
  Clock clock;
  mqtt::Broker<BrokerTransport, Clock, Config, limits> broker(transport, clock);
  altcp_pcb* pcb = nullptr;
  {
    const mqtt::lwip::CoreLock lock;
    pcb = altcp_new(nullptr);
  }
  REQUIRE(transport.start(pcb, 1883) == ERR_OK);
  REQUIRE(broker.start(4711) == mqtt::Error::none);
  serving = true;
  while (!stopping) {
    const mqtt::Millis due = broker.run_once();
    const mqtt::Millis soon = clock.now_ms() + 50;
    transport.wait(due < soon ? due : soon, clock);
  }
}

}  // namespace

TEST_CASE("broker and client with threads of their own hold lwIP's core lock wherever they must") {
  start_lwip();
  std::atomic<bool> stopping{false};
  std::atomic<bool> serving{false};
  std::thread server([&] { serve(stopping, serving); });
  while (!serving) { std::this_thread::yield(); }

  static const mqtt::lwip::Server here[] = {{"10.0.0.1", 1883}};
  static ClientTransport transport{mqtt::Span<const mqtt::lwip::Server>(here)};
  Clock clock;
  mqtt::Connect connect;
  connect.client_id = "threads";
  mqtt::Client<ClientTransport, Clock> client(transport, clock, connect);
  uint32_t received = 0;
  uint32_t sent = 0;
  bool subscribed = false;
  constexpr uint32_t count = 500;
  client.start();
  static_cast<void>(client.subscribe("t/#", mqtt::Qos::exactly_once));
  const mqtt::Millis give_up = clock.now_ms() + 30000;
  while (received < count && clock.now_ms() < give_up) {
    const mqtt::Millis due = client.run_once([&](const mqtt::ClientEvent& event) {
      received += event.type == mqtt::ClientEventType::message ? 1U : 0U;
      subscribed = subscribed || event.type == mqtt::ClientEventType::subscribed;
    });
    bool queued = false;
    while (subscribed && sent < count && client.publish("t/a", "x", mqtt::Qos(sent % 3))) {
      sent += 1;
      queued = true;
    }
    if (!queued) { transport.wait(due, clock); }
  }
  CHECK(received == count);
  static_cast<void>(client.disconnect());
  while (client.online()) { static_cast<void>(client.run_once()); }
  transport.hang_up();
  stopping = true;
  server.join();
}

TEST_CASE("the library of this test does stop a raw call without the lock") {
  // In a process of its own: what is expected is its end.
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    static_cast<void>(freopen("/dev/null", "w", stderr));
    static_cast<void>(freopen("/dev/null", "w", stdout));
    signal(SIGABRT, SIG_DFL);
    start_lwip();
    static_cast<void>(altcp_new(nullptr));
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
}
