// ports/lwip with lwIP itself on a wire that the test rules: delay, loss, no memory, a clock that
// is a number. Client and broker are the real ones.
#include <doctest/doctest.h>

#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/timeouts.h>
#include <lwip/udp.h>
#include <ports/lwip/broker.hpp>
#include <ports/lwip/client.hpp>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

namespace {

uint32_t now = 0xFFFFFFFF - 40000;  // milliseconds as lwIP's; they wrap in the first case
uint32_t allocations_to_pass;       // then every one fails, while `starving`
bool starving;

}  // namespace

extern "C" {
void lwip_failed(const char* why) {
  fprintf(stderr, "lwIP: %s\n", why);
  abort();
}
uint32_t lwip_random(void) {
  static uint32_t state = 7;
  state = state * 1664525 + 1013904223;
  return state >> 8;
}
void* lwip_allocate(size_t size) {
  // lwIP's own timers come from a pool that is large enough for them, and it insists on them.
  if (!starving || size <= sizeof(sys_timeo)) { return malloc(size); }
  if (allocations_to_pass == 0) { return nullptr; }
  allocations_to_pass -= 1;
  return malloc(size);
}
uint32_t sys_now(void) { return now; }
}

namespace {

using mqtt::ClientEvent;
using mqtt::ClientEventType;
using mqtt::Qos;
using mqtt::Text;
using mqtt::Version;

constexpr Version versions[] = {Version::v3_1, Version::v3_1_1, Version::v5};

// A netif whose packets come back to it after a delay, or not at all.
class Wire {
 public:
  uint32_t delay_ms = 5;
  uint32_t lose_every = 0;  // every so many-th packet; 1 loses all
  uint32_t lost = 0;

  static Wire& get() {
    static Wire wire;
    return wire;
  }

  void deliver() {
    while (!packets_.empty() && static_cast<int32_t>(now - packets_.front().due) >= 0) {
      pbuf* const packet = packets_.front().bytes;
      packets_.pop_front();
      if (netif_.input(packet, &netif_) != ERR_OK) { pbuf_free(packet); }
    }
  }

 private:
  struct Packet {
    pbuf* bytes;
    uint32_t due;
  };

  Wire() {
    lwip_init();
    ip4_addr_t address;
    ip4_addr_t mask;
    ip4_addr_t gateway;
    IP4_ADDR(&address, 10, 0, 0, 1);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    ip4_addr_set_zero(&gateway);
    netif_add(&netif_, &address, &mask, &gateway, this, initialise, ip_input);
    netif_set_default(&netif_);
    netif_set_up(&netif_);
  }

  static err_t initialise(netif* netif) {
    netif->name[0] = netif->name[1] = 'w';
    netif->mtu = 1500;
    netif->output = put;
    netif->flags |= NETIF_FLAG_LINK_UP;
    return ERR_OK;
  }

  static err_t put(netif* netif, pbuf* bytes, const ip4_addr_t*) {
    Wire& wire = *static_cast<Wire*>(netif->state);
    wire.count_ += 1;
    if (wire.lose_every != 0 && wire.count_ % wire.lose_every == 0) {
      wire.lost += 1;
      return ERR_OK;
    }
    const bool hungry = starving;
    starving = false;  // the wire is not lwIP's memory
    pbuf* const copy = pbuf_clone(PBUF_RAW, PBUF_RAM, bytes);
    starving = hungry;
    wire.packets_.push_back({copy, now + wire.delay_ms});
    return ERR_OK;
  }

  netif netif_{};
  std::deque<Packet> packets_;
  uint32_t count_ = 0;
};

constexpr mqtt::BrokerLimits small() {
  mqtt::BrokerLimits limits;
  limits.connections = limits.sessions = 3;
  limits.subscriptions = limits.filters = limits.filter_nodes = 16;
  limits.retained = limits.retained_nodes = 8;
  limits.blocks = 1024;
  limits.block_bytes = 128;
  limits.large_blocks = 0;
  limits.text_blocks = 32;
  limits.turn_records = 4;
  limits.packet_bytes_max = limits.control_packet_bytes_max = 512;
  limits.queued_max = 250;
  limits.pause_ms = 65535;  // longer than a wire stands still here
  return limits;
}
constexpr mqtt::BrokerLimits limits = small();

struct Config : mqtt::BrokerConfig {
  using Index = uint16_t;
};
struct ClientSetting : mqtt::ClientConfig {
  static constexpr uint32_t tx_bytes = 2048;
};
struct Clock : mqtt::lwip::Clock {
  uint32_t random() noexcept { return lwip_random(); }
};
using BrokerTransport = mqtt::lwip::BrokerTransport<limits.connections>;
using ClientTransport = mqtt::lwip::ClientTransport<>;

constexpr uint16_t port = 1883;
const mqtt::lwip::Server here[] = {{"10.0.0.1", port}};

struct Server {
  Server() : broker(transport, clock) {
    REQUIRE(transport.start(altcp_new(nullptr), port) == ERR_OK);
    REQUIRE(broker.start(4711) == mqtt::Error::none);
  }
  void turn() {
    broker.run_once();
    transport.flush();
  }

  BrokerTransport transport;
  Clock clock;
  mqtt::Broker<BrokerTransport, Clock, Config, limits> broker;
};

// A client that notes what happens to it.
struct Peer {
  explicit Peer(
      Version version, const char* id,
      mqtt::Span<const mqtt::lwip::Server> servers = mqtt::Span<const mqtt::lwip::Server>(here))
      : transport(servers), client(transport, clock, connect) {
    connect.version = version;
    connect.client_id = id;
    connect.clean_start = false;
    connect.keep_alive_s = 20;
    writer.number(mqtt::PropertyId::session_expiry_interval, 3600);
    if (version == Version::v5) { connect.properties = writer.properties(); }
    client.start();
  }
  void turn() {
    client.run_once([this](const ClientEvent& event) {
      switch (event.type) {
        case ClientEventType::connected: connected += 1; break;
        case ClientEventType::closed: closed += 1; break;
        case ClientEventType::subscribed: subscribed += 1; break;
        case ClientEventType::published: published += 1; break;
        case ClientEventType::message: messages.emplace_back(text(event)); break;
        case ClientEventType::none:
        case ClientEventType::refused:
        case ClientEventType::skipped:
        case ClientEventType::unsubscribed:
        case ClientEventType::authentication: break;
      }
    });
    client.engine().check_invariants();
  }
  static std::string text(const ClientEvent& event) {
    const Text payload(event.message.payload);
    return std::string(payload.data(), payload.size());
  }

  uint8_t property_bytes[8];
  mqtt::PropertyWriter writer{mqtt::Buffer(property_bytes)};
  mqtt::Connect connect;
  ClientTransport transport;
  Clock clock;
  mqtt::Client<ClientTransport, Clock, ClientSetting> client;
  uint32_t connected = 0, closed = 0, subscribed = 0, published = 0;
  std::vector<std::string> messages;
};

// A millisecond passes.
template <typename... Machines>
void step(Machines&... machines) {
  now += 1;
  Wire::get().deliver();
  sys_check_timeouts();
  (machines.turn(), ...);
}

template <typename Condition, typename... Machines>
bool steps_until(Condition condition, uint32_t ms_max, Machines&... machines) {
  for (uint32_t ms = 0; ms < ms_max && !condition(); ++ms) { step(machines...); }
  return condition();
}

// All connections end, with what they had in lwIP.
void settle() {
  Wire::get().lose_every = Wire::get().lost = 0;
  starving = false;
  CHECK(steps_until([] { return tcp_active_pcbs == nullptr && tcp_tw_pcbs == nullptr; }, 400000));
}

// `count` messages of the kind that `number` says, as fast as the outbox takes them.
struct Flood {
  Peer& peer;
  Qos qos;
  uint32_t count;
  uint32_t sent = 0;

  void turn() {
    while (sent < count) {
      const std::string payload = std::to_string(sent) + std::string(60, '.');
      if (!peer.client.publish("t/x", payload, qos)) { return; }
      sent += 1;
    }
  }
};

uint32_t number(const std::string& message) {
  return static_cast<uint32_t>(strtoul(message.c_str(), nullptr, 10));
}

// In order without gaps; at QoS 1 a message may come again after a lost link, at QoS 0 some may be
// missing where a queue was full.
void check_all_came(const std::vector<std::string>& messages, Qos qos, uint32_t count) {
  uint32_t next = 0;
  for (const std::string& message : messages) {
    if (number(message) == next || (qos == Qos::at_most_once && number(message) > next)) {
      next = number(message) + 1;
    } else {
      CHECK(qos == Qos::at_least_once);
      CHECK(number(message) < next);
    }
  }
  CHECK(next == count);
}

struct Loss {
  uint32_t every;
  uint32_t ms_max;
};

}  // namespace

TEST_CASE("clock and connections go on where lwIP's milliseconds wrap") {
  {
    Server server;
    Peer peer(Version::v5, "peer");
    const uint32_t before = now;
    const mqtt::Millis then = peer.clock.now_ms();
    for (uint32_t ms = 0; ms < 120000; ++ms) { step(server, peer); }
    CHECK(now < before);
    CHECK(peer.clock.now_ms() == then + 120000);
    CHECK(peer.connected == 1);
    CHECK(peer.closed == 0);
  }
  settle();
}

TEST_CASE("messages of every QoS arrive in order over a wire that loses packets") {
  for (const Version version : versions) {
    for (const Loss loss : {Loss{0, 20000}, Loss{13, 400000}, Loss{7, 900000}}) {
      for (const Qos qos : {Qos::at_most_once, Qos::at_least_once, Qos::exactly_once}) {
        CAPTURE(static_cast<int>(version));
        CAPTURE(loss.every);
        CAPTURE(static_cast<int>(qos));
        {
          Wire::get().lose_every = loss.every;
          Server server;
          Peer sender(version, "sender");
          Peer receiver(version, "receiver");
          static_cast<void>(receiver.client.subscribe("t/#", Qos::exactly_once));
          REQUIRE(steps_until([&] { return sender.connected != 0 && receiver.subscribed != 0; },
                              200000, server, sender, receiver));
          Flood flood{sender, qos, 120};
          steps_until([&] { return receiver.messages.size() >= 120; }, loss.ms_max, server, sender,
                      receiver, flood);
          const bool may_lose = qos == Qos::at_most_once && loss.every != 0;
          check_all_came(receiver.messages, qos,
                         may_lose ? number(receiver.messages.back()) + 1 : 120);
          CHECK((loss.every == 0) == (Wire::get().lost == 0));
        }
        settle();
      }
    }
  }
}

TEST_CASE("a wire that is cut ends the connection inside lwIP; both sides go on when it is back") {
  for (const Version version : versions) {
    for (const Qos qos : {Qos::at_least_once, Qos::exactly_once}) {
      CAPTURE(static_cast<int>(version));
      {
        Server server;
        Peer sender(version, "sender");
        Peer receiver(version, "receiver");
        static_cast<void>(receiver.client.subscribe("t/#", Qos::exactly_once));
        REQUIRE(steps_until([&] { return sender.connected != 0 && receiver.subscribed != 0; }, 1000,
                            server, sender, receiver));
        Flood flood{sender, qos, 200};
        REQUIRE(steps_until([&] { return receiver.messages.size() >= 50; }, 5000, server, sender,
                            receiver, flood));
        Wire::get().lose_every = 1;
        REQUIRE(steps_until([&] { return sender.closed != 0 && receiver.closed != 0; }, 200000,
                            server, sender, receiver, flood));
        Wire::get().lose_every = 0;
        REQUIRE(steps_until([&] { return sender.published == 200; }, 400000, server, sender,
                            receiver, flood));
        steps_until([&] { return number(receiver.messages.back()) == 199; }, 20000, server, sender,
                    receiver);
        check_all_came(receiver.messages, qos, 200);
        CHECK(receiver.connected >= 2);
      }
      settle();
    }
  }
}

TEST_CASE("an engine that does not read closes the window of its peer, and nothing is lost") {
  {
    Server server;
    Peer sender(Version::v3_1_1, "sender");
    Peer receiver(Version::v3_1_1, "receiver");
    static_cast<void>(receiver.client.subscribe("t/#", Qos::at_least_once));
    REQUIRE(steps_until([&] { return sender.connected != 0 && receiver.subscribed != 0; }, 1000,
                        server, sender, receiver));
    Flood flood{sender, Qos::at_most_once, 1000};
    // The broker stands still: what one window, one send buffer and the outbox hold has gone.
    for (uint32_t ms = 0; ms < 3000; ++ms) { step(sender, receiver, flood); }
    const uint32_t stuck = flood.sent;
    CHECK(stuck > 0);
    CHECK(stuck * 70 < TCP_WND + TCP_SND_BUF + ClientSetting::tx_bytes + 140);
    for (uint32_t ms = 0; ms < 3000; ++ms) { step(sender, receiver, flood); }
    CHECK(flood.sent == stuck);
    CHECK(steps_until([&] { return flood.sent == 1000; }, 60000, server, sender, receiver, flood));
  }
  settle();
}

TEST_CASE("a subscriber that does not read holds back its publisher, and nothing is lost") {
  {
    Server server;
    Peer sender(Version::v3_1_1, "sender");
    Peer receiver(Version::v3_1_1, "receiver");
    static_cast<void>(receiver.client.subscribe("t/#", Qos::at_least_once));
    REQUIRE(steps_until([&] { return sender.connected != 0 && receiver.subscribed != 0; }, 1000,
                        server, sender, receiver));
    Flood flood{sender, Qos::at_least_once, 1000};
    for (uint32_t ms = 0; ms < 3000; ++ms) { step(server, sender, flood); }
    CHECK(flood.sent < 400);
    CHECK(steps_until([&] { return receiver.messages.size() == 1000; }, 60000, server, sender,
                      receiver, flood));
    check_all_came(receiver.messages, Qos::exactly_once, 1000);
  }
  settle();
}

TEST_CASE("without memory for it lwIP takes nothing, later everything") {
  for (uint32_t pass = 0; pass < 60; pass += 3) {
    CAPTURE(pass);
    {
      Server server;
      Peer sender(Version::v5, "sender");
      Peer receiver(Version::v5, "receiver");
      static_cast<void>(receiver.client.subscribe("t/#", Qos::exactly_once));
      REQUIRE(steps_until([&] { return sender.connected != 0 && receiver.subscribed != 0; }, 1000,
                          server, sender, receiver));
      Flood flood{sender, Qos::exactly_once, 60};
      for (uint32_t round = 0; round < 40; ++round) {
        starving = true;
        allocations_to_pass = pass + round;
        for (uint32_t ms = 0; ms < 20; ++ms) { step(server, sender, receiver, flood); }
        starving = false;
        for (uint32_t ms = 0; ms < 5; ++ms) { step(server, sender, receiver, flood); }
      }
      CHECK(steps_until([&] { return receiver.messages.size() >= 60; }, 200000, server, sender,
                        receiver, flood));
      check_all_came(receiver.messages, Qos::exactly_once, 60);
    }
    settle();
  }
}

TEST_CASE(
    "one connection more than there are links is reset, and a link that is free serves again") {
  {
    Server server;
    Peer a(Version::v5, "a");
    Peer b(Version::v5, "b");
    Peer c(Version::v5, "c");
    REQUIRE(steps_until([&] { return a.connected + b.connected + c.connected == 3; }, 1000, server,
                        a, b, c));
    Peer d(Version::v5, "a2");
    for (uint32_t ms = 0; ms < 500; ++ms) { step(server, a, b, c, d); }
    CHECK(d.connected == 0);
    static_cast<void>(a.client.disconnect());
    CHECK(steps_until([&] { return a.closed == 1; }, 1000, server, a, b, c, d));
    CHECK(b.closed + c.closed == 0);
  }
  settle();
}

namespace {

// A connection by lwIP's raw calls alone, to see what the peer of a transport sees.
struct Raw {
  explicit Raw(uint32_t receive_window_kept = 0) : kept(receive_window_kept) {
    pcb = altcp_new(nullptr);
    altcp_arg(pcb, this);
    altcp_err(pcb, [](void* self, err_t) {
      static_cast<Raw*>(self)->pcb = nullptr;
      static_cast<Raw*>(self)->reset = true;
    });
    altcp_recv(pcb, [](void* self, altcp_pcb* from, pbuf* bytes, err_t) -> err_t {
      Raw& raw = *static_cast<Raw*>(self);
      if (bytes == nullptr) {
        raw.ended = true;
        return ERR_OK;
      }
      for (pbuf* piece = bytes; piece != nullptr; piece = piece->next) {
        raw.received.append(static_cast<const char*>(piece->payload), piece->len);
      }
      altcp_recved(from, bytes->tot_len);
      pbuf_free(bytes);
      return ERR_OK;
    });
    ip_addr_t address;
    IP4_ADDR(ip_2_ip4(&address), 10, 0, 0, 1);
    altcp_connect(pcb, &address, port, [](void*, altcp_pcb*, err_t) -> err_t { return ERR_OK; });
  }
  ~Raw() {
    if (pcb != nullptr) { altcp_abort(pcb); }
  }
  bool send(const std::string& bytes) {
    return pcb != nullptr && altcp_sndbuf(pcb) >= bytes.size() &&
           altcp_write(pcb, bytes.data(), static_cast<uint16_t>(bytes.size()),
                       TCP_WRITE_FLAG_COPY) == ERR_OK &&
           altcp_output(pcb) == ERR_OK;
  }
  void turn() {}

  altcp_pcb* pcb = nullptr;
  uint32_t kept;
  bool reset = false;
  bool ended = false;
  std::string received;
};

const std::string connect_v5("\x10\x0E\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x01r", 16);

}  // namespace

TEST_CASE("the last DISCONNECT reaches a peer that goes on sending, then the connection ends") {
  {
    Server server;
    Raw raw;
    for (uint32_t ms = 0; ms < 50; ++ms) { step(server); }
    REQUIRE(raw.send(connect_v5));
    for (uint32_t ms = 0; ms < 50; ++ms) { step(server); }
    REQUIRE(raw.received.size() > 4);
    REQUIRE(static_cast<uint8_t>(raw.received[0]) == 0x20);
    raw.received.clear();
    REQUIRE(raw.send(std::string("\xF3\x00", 2)));  // malformed
    for (uint32_t ms = 0; ms < 60 && !raw.ended; ++ms) {
      step(server);
      static_cast<void>(raw.send(std::string(100, '\0')));
    }
    CHECK(raw.received == std::string("\xE0\x01\x81", 3));
    CHECK(raw.ended);
    CHECK_FALSE(raw.reset);
    // It never closes its half: the broker's side does not wait for ever.
    for (uint32_t ms = 0; ms < 15000; ++ms) { step(server); }
    CHECK(raw.reset);
  }
  settle();
}

TEST_CASE("a peer that resets with bytes on their way leaves a free link and no memory") {
  {
    Server server;
    for (uint32_t round = 0; round < 30; ++round) {
      Raw raw;
      for (uint32_t ms = 0; ms < 30; ++ms) { step(server); }
      static_cast<void>(raw.send(round % 2 == 0 ? connect_v5 : connect_v5.substr(0, 5)));
      for (uint32_t ms = 0; ms < round; ++ms) { step(server); }
    }
    for (uint32_t ms = 0; ms < 50; ++ms) { step(server); }
    CHECK(server.broker.engine().statistics().connections == 0);
    Peer last(Version::v3_1_1, "last");
    CHECK(steps_until([&] { return last.connected == 1; }, 3000, server, last));
  }
  settle();
}

TEST_CASE("a transport that goes away with open connections leaves nothing behind") {
  {
    Peer peer(Version::v5, "peer");
    {
      Server server;
      REQUIRE(steps_until([&] { return peer.connected == 1; }, 1000, server, peer));
    }
    CHECK(steps_until([&] { return peer.closed == 1; }, 1000, peer));
  }
  settle();
}

TEST_CASE("dialing fails at once where nobody listens, and after a while where nobody is") {
  {
    Peer peer(Version::v5, "peer");
    const uint32_t start = now;
    CHECK(steps_until([&] { return peer.client.deadline() > peer.clock.now_ms() + 100; }, 3000,
                      peer));
    CHECK(now - start < 100);
    Wire::get().lose_every = 1;
    Peer lonely(Version::v5, "lonely");
    for (uint32_t ms = 0; ms < ClientSetting::dial_timeout_ms - 100; ++ms) { step(lonely); }
    CHECK(lonely.closed == 0);
    for (uint32_t ms = 0; ms < 200; ++ms) { step(lonely); }
    CHECK(lonely.closed == 1);
    CHECK(lonely.client.deadline() > lonely.clock.now_ms());
    CHECK(lonely.connected == 0);
  }
  settle();
}

TEST_CASE("the next attempt takes the next server") {
  {
    const mqtt::lwip::Server servers[] = {
        {"10.0.0.1", 1}, {"not an address", 1}, {"10.0.0.1", port}};
    Server server;
    Peer peer(Version::v3_1_1, "peer", mqtt::Span<const mqtt::lwip::Server>(servers));
    CHECK(steps_until([&] { return peer.connected == 1; }, 120000, server, peer));
  }
  settle();
}

namespace {

// Answers every query with 10.0.0.1, or with "no such name".
class NameServer {
 public:
  bool knows = true;
  NameServer() {
    pcb_ = udp_new();
    udp_bind(pcb_, IP_ANY_TYPE, 53);
    udp_recv(
        pcb_,
        [](void* self, udp_pcb* pcb, pbuf* query, const ip_addr_t* from, u16_t from_port) {
          const Peer peer{pcb, from, from_port};
          static_cast<NameServer*>(self)->answer(query, peer);
        },
        this);
    ip_addr_t address;
    IP4_ADDR(ip_2_ip4(&address), 10, 0, 0, 1);
    dns_setserver(0, &address);
  }
  ~NameServer() { udp_remove(pcb_); }

 private:
  struct Peer {
    udp_pcb* pcb;
    const ip_addr_t* address;
    u16_t port;
  };

  void answer(pbuf* query, const Peer& peer) const {
    std::string answer(query->tot_len, '\0');
    pbuf_copy_partial(query, &answer[0], query->tot_len, 0);
    pbuf_free(query);
    answer[2] = static_cast<char>(0x81);
    answer[3] = static_cast<char>(knows ? 0x80 : 0x83);
    if (knows) {
      answer[7] = 1;
      answer += std::string("\xC0\x0C\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0A\x00\x00\x01", 16);
    }
    pbuf* const reply = pbuf_alloc(PBUF_TRANSPORT, static_cast<uint16_t>(answer.size()), PBUF_RAM);
    pbuf_take(reply, answer.data(), static_cast<uint16_t>(answer.size()));
    udp_sendto(peer.pcb, reply, peer.address, peer.port);
    pbuf_free(reply);
  }

  udp_pcb* pcb_;
};

}  // namespace

TEST_CASE("a server is found by its name; an unknown name is a failed attempt") {
  const mqtt::lwip::Server named[] = {{"broker.example", port}};
  {
    NameServer names;
    Server server;
    names.knows = false;
    static Peer peer(Version::v5, "peer", mqtt::Span<const mqtt::lwip::Server>(named));
    for (uint32_t ms = 0; ms < 500; ++ms) { step(server, peer); }
    CHECK(peer.connected == 0);
    names.knows = true;
    CHECK(steps_until([&] { return peer.connected == 1; }, 60000, server, peer));
    static_cast<void>(peer.client.disconnect());
    CHECK(steps_until([&] { return peer.closed == 1; }, 1000, server, peer));
  }
  settle();
}
