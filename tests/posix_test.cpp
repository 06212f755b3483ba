#include <doctest/doctest.h>
#include <stdlib.h>
#include <ports/posix/broker_loop.hpp>

#include <string>
#include <vector>

using namespace mqtt;
using namespace mqtt::posix;

namespace {

// Answers every byte with `answer` bytes, 'x' also with a hang-up; keeps the loop's contract and
// checks that the loop does.
class EchoEngine {
 public:
  struct Output {
    uint32_t count;
    uint32_t size;
    bool hang_up;
  };

  uint32_t answer = 1;
  uint32_t backlog_max = 0xFFFFFFFF;  // above: no reading
  uint32_t space = 0;                 // bytes wanted in a place of our own
  uint32_t turns = 0;
  uint32_t placed = 0;
  uint32_t fills = 0;
  Millis next_deadline = ~Millis{0};

  EchoEngine() : links_(8) {}

  Error admit(ConnectionId& id, Millis) {
    for (uint32_t slot = 0; slot != links_.size(); ++slot) {
      if (!links_[slot].used) {
        links_[slot] = Link{links_[slot].generation + 1};
        links_[slot].used = true;
        id = ConnectionId{slot, links_[slot].generation};
        return Error::none;
      }
    }
    return Error::buffer_too_small;
  }
  void receive(ConnectionId id, Buffer bytes, Millis) { take(id, bytes); }
  uint32_t rx_space(ConnectionId, Span<Buffer> pieces) {
    if (space == 0) { return 0; }
    pieces[0] = Buffer(own_, 1);
    pieces[1] = Buffer(own_ + 1, space - 1);
    return 2;
  }
  void rx_commit(ConnectionId id, uint32_t size, Millis) {
    placed += size;
    take(id, Buffer(own_, size));
  }
  bool wants_read(ConnectionId id) const { return link(id).backlog <= backlog_max; }
  void writable(ConnectionId id) {
    CHECK(link(id).blocked);
    link(id).blocked = false;
    mark(id);
  }
  void lost(ConnectionId id, Millis) {
    link(id).used = false;
    link(id).backlog = 0;
  }
  void tick(Millis now) { last_tick = now; }
  void stop(Millis) {
    for (uint32_t slot = 0; slot != links_.size(); ++slot) {
      if (links_[slot].used) {
        links_[slot].backlog += 1;
        links_[slot].leaving = true;
        mark(ConnectionId{slot, links_[slot].generation});
      }
    }
  }
  bool next_due(ConnectionId& id) {
    if (due_.empty()) { return false; }
    id = due_.back();
    due_.pop_back();
    return true;
  }
  Output fill(ConnectionId id, Buffer scratch, Span<Bytes> pieces) {
    ++fills;
    Link& l = link(id);
    if (l.blocked) { return {0, 0, false}; }
    // Many small pieces: the pattern is the number of the byte in its connection's output.
    uint32_t size = 0;
    uint32_t count = 0;
    while (count != pieces.size() && size + 64 <= scratch.size() && size != l.backlog) {
      const uint32_t piece = l.backlog - size < 64 ? l.backlog - size : 64;
      for (uint32_t i = 0; i != piece; ++i) {
        scratch[size + i] = static_cast<uint8_t>(l.written + size + i);
      }
      pieces[count++] = Bytes(scratch.data() + size, piece);
      size += piece;
    }
    offered_ = size;
    return {count, size, l.leaving && size == l.backlog};
  }
  void sent(ConnectionId id, uint32_t size) {
    Link& l = link(id);
    CHECK(size <= offered_);
    l.blocked = size < offered_;
    short_writes += l.blocked ? 1U : 0U;
    l.backlog -= size;
    l.written += size;
  }
  bool has_output(ConnectionId id) const { return link(id).backlog != 0; }
  void end_turn(Millis) { ++turns; }
  Millis deadline() const { return next_deadline; }

  uint32_t short_writes = 0;
  Millis last_tick = 0;
  std::string received;

 private:
  struct Link {
    uint32_t generation = 0;
    bool used = false;
    bool blocked = false;
    bool leaving = false;
    uint32_t backlog = 0;
    uint32_t written = 0;
  };

  const Link& link(ConnectionId id) const {
    REQUIRE(links_[id.slot].generation == id.generation);
    return links_[id.slot];
  }
  Link& link(ConnectionId id) {
    REQUIRE(links_[id.slot].generation == id.generation);
    return links_[id.slot];
  }
  void mark(ConnectionId id) { due_.push_back(id); }
  void take(ConnectionId id, Buffer bytes) {
    for (const uint8_t byte : bytes) {
      link(id).backlog += answer;
      link(id).leaving = link(id).leaving || byte == 'x';
    }
    received.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    mark(id);
  }

  std::vector<Link> links_;
  std::vector<ConnectionId> due_;
  uint32_t offered_ = 0;
  uint8_t own_[65536];
};

struct Watcher : NoObserver {
  std::vector<ConnectionId> accepted;
  std::vector<int> broken;
  uint32_t refused[3] = {};
  uint32_t closed = 0;
  std::string notices;

  void on_accepted(ConnectionId id, uint32_t, const SocketAddress&) { accepted.push_back(id); }
  void on_refused(uint32_t, const SocketAddress&, Refusal why) {
    ++refused[static_cast<uint8_t>(why)];
  }
  void on_broken(ConnectionId, int error) { broken.push_back(error); }
  void on_closed(ConnectionId) { ++closed; }
  void on_notice(uint8_t notice) { notices.push_back(static_cast<char>(notice)); }
};

SocketAddress address_of(const char* host, uint16_t port = 0) {
  SocketAddress address;
  REQUIRE(address.read(host, port));
  return address;
}

// A non-blocking client: what it is sent is read only when the test says so.
class Peer {
 public:
  explicit Peer(const SocketAddress& address)
      : socket_(::socket(address.any.sa_family, SOCK_STREAM, 0)) {
    REQUIRE(connect(socket_.get(), &address.any, address.size) == 0);
    REQUIRE(set_nonblocking(socket_.get()));
  }
  bool write(const std::string& text) {
    return ::send(socket_.get(), text.data(), text.size(), send_flags) ==
           static_cast<ssize_t>(text.size());
  }
  // What is there, at most `size` bytes; ended() afterwards tells whether more can come.
  std::string take(size_t size = 1 << 20) {
    std::string text(size, '\0');
    const ssize_t got = recv(socket_.get(), &text[0], size, 0);
    ended_ = got == 0 || (got < 0 && !try_later(errno));
    reset_ = got < 0 && errno == ECONNRESET;
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
  }
  bool ended() const { return ended_; }
  bool was_reset() const { return reset_; }
  void close() { socket_.reset(); }
  void reset_link() {
    const linger now{1, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    socket_.reset();
  }
  int descriptor() const { return socket_.get(); }

 private:
  Descriptor socket_;
  bool ended_ = false;
  bool reset_ = false;
};

template <typename Poller>
struct Server {
  EchoEngine engine;
  Watcher watcher;
  BrokerLoop<EchoEngine, Watcher, Poller> loop{engine, watcher};
  SocketAddress address;

  explicit Server(const char* host = "127.0.0.1", ListenOptions listen = {},
                  LoopOptions options = {}) {
    options.connections = 8;
    REQUIRE(loop.start(options) == 0);
    Descriptor socket;
    REQUIRE(listen_tcp(address_of(host), listen, socket) == 0);
    address = local_address(socket.get());
    REQUIRE(loop.add_listener(socket, 0, 0xFFFFFFFF) == 0);
    REQUIRE(!socket);
  }
  void turns(int count) {
    for (int i = 0; i != count; ++i) { REQUIRE(loop.turn(5) == 0); }
  }
  // Turns until the client has `size` bytes or no more can come.
  std::string answer(Peer& client, size_t size, size_t slice = 1 << 20) {
    std::string all;
    for (int i = 0; i != 20000 && all.size() < size && !client.ended(); ++i) {
      REQUIRE(loop.turn(1) == 0);
      all += client.take(slice);
    }
    return all;
  }
};

// Leaves the process `count` descriptors until the end.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t count) {
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before_) == 0);
    rlimit low = before_;
    low.rlim_cur = count;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
  }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;
  ~DescriptorLimit() { CHECK(setrlimit(RLIMIT_NOFILE, &before_) == 0); }

 private:
  rlimit before_{};
};

bool is_pattern(const std::string& text, size_t size) {
  for (size_t i = 0; i != text.size(); ++i) {
    if (text[i] != static_cast<char>(i)) { return false; }
  }
  return text.size() == size;
}

}  // namespace

#ifdef __linux__
#define POLLERS EpollPoller, PollPoller
#else
#define POLLERS PollPoller
#endif

TEST_CASE_TEMPLATE("posix: bytes go round over IPv4 and IPv6", Poller, POLLERS) {
  for (const char* host : {"127.0.0.1", "::1"}) {
    Descriptor probe;
    const int missing = listen_tcp(address_of(host), ListenOptions{}, probe);
    if (missing == EADDRNOTAVAIL || missing == EAFNOSUPPORT) {
      MESSAGE("SKIPPED: this machine has no ", host);
      continue;
    }
    Server<Poller> server(host);
    Peer client(server.address);
    CHECK(client.write("hello"));
    CHECK(is_pattern(server.answer(client, 5), 5));
    CHECK(server.engine.received == "hello");
    CHECK(server.loop.connection_count() == 1);
    client.close();
    server.turns(2);
    CHECK(server.loop.connection_count() == 0);
    REQUIRE(server.watcher.broken.size() == 1);
    CHECK(server.watcher.broken[0] == 0);
    CHECK(server.watcher.closed == 1);
  }
}

TEST_CASE_TEMPLATE("posix: a unix socket is listened on and a stale one replaced", Poller,
                   POLLERS) {
  char path[] = "/tmp/mqtt_posix_testXXXXXX";
  REQUIRE(mkdtemp(path) != nullptr);
  const std::string file = std::string(path) + "/socket";
  Server<Poller> server;
  for (int round = 0; round != 2; ++round) {
    Descriptor socket;
    REQUIRE(listen_unix(file.c_str(), ListenOptions{}, socket) == 0);
    Descriptor second;
    CHECK(listen_unix(file.c_str(), ListenOptions{}, second) == EADDRINUSE);
    const SocketAddress address = local_address(socket.get());
    if (round == 1) {
      REQUIRE(server.loop.add_listener(socket, 1, 0xFFFFFFFF) == 0);
      Peer client(address);
      CHECK(client.write("hello"));
      CHECK(is_pattern(server.answer(client, 5), 5));
      char host[INET6_ADDRSTRLEN];
      address.write_host(host);
      CHECK(std::string(host) == "unix");
    }
  }
  unlink(file.c_str());
  rmdir(path);
}

TEST_CASE_TEMPLATE("posix: a slow reader gets every byte in order after short writes", Poller,
                   POLLERS) {
  ListenOptions listen;
  listen.send_buffer = 4096;
  Server<Poller> server("127.0.0.1", listen);
  server.engine.answer = 3000000;
  Peer client(server.address);
  CHECK(client.write("b"));
  server.turns(3);
  CHECK(server.engine.short_writes == 1);
  const uint32_t fills = server.engine.fills;
  server.turns(3);
  CHECK(server.engine.fills == fills);  // nothing is tried before the socket takes bytes again
  CHECK(is_pattern(server.answer(client, 3000000, 30000), 3000000));
  CHECK(server.engine.short_writes > 10);
  // The wish to write is gone: nothing is ready and the next wait waits.
  const Millis before = MonotonicClock{}.now_ms();
  REQUIRE(server.loop.turn(50) == 0);
  CHECK(MonotonicClock{}.now_ms() - before >= 40);
}

TEST_CASE_TEMPLATE("posix: a paused connection is not read until its output is gone", Poller,
                   POLLERS) {
  ListenOptions listen;
  listen.send_buffer = 4096;
  Server<Poller> server("127.0.0.1", listen);
  server.engine.answer = 2000000;
  server.engine.backlog_max = 1000;
  Peer client(server.address);
  CHECK(client.write("b"));
  server.turns(3);
  CHECK(client.write("c"));
  server.turns(5);
  CHECK(server.engine.received == "b");
  CHECK(is_pattern(server.answer(client, 4000000, 100000), 4000000));
  CHECK(server.engine.received == "bc");
}

TEST_CASE_TEMPLATE("posix: a paused connection that breaks is closed", Poller, POLLERS) {
  ListenOptions listen;
  listen.send_buffer = 4096;
  Server<Poller> server("127.0.0.1", listen);
  server.engine.answer = 8000000;
  server.engine.backlog_max = 1000;
  Peer client(server.address);
  CHECK(client.write("b"));
  server.turns(3);
  client.reset_link();
  server.turns(3);
  CHECK(server.loop.connection_count() == 0);
  REQUIRE(server.watcher.broken.size() == 1);
  CHECK(server.watcher.broken[0] != 0);
}

TEST_CASE_TEMPLATE("posix: a hang-up sends the last bytes though input is unread", Poller,
                   POLLERS) {
  LoopOptions options;
  options.read_bytes = 4;
  options.arena_bytes = 64;
  Server<Poller> server("127.0.0.1", ListenOptions{}, options);
  Peer client(server.address);
  CHECK(client.write("abcx" + std::string(50000, 'y')));
  server.turns(3);
  CHECK(is_pattern(client.take(), 4));
  client.take();
  CHECK(client.ended());
  CHECK(!client.was_reset());
  CHECK(server.loop.connection_count() == 0);
  CHECK(server.watcher.broken.empty());
}

TEST_CASE_TEMPLATE("posix: a read fills the engine's place first, then the arena", Poller,
                   POLLERS) {
  Server<Poller> server;
  server.engine.space = 1000;
  Peer client(server.address);
  server.turns(1);
  std::string text;
  for (int i = 0; i != 5000; ++i) { text.push_back(static_cast<char>('a' + i % 20)); }
  CHECK(client.write(text));
  CHECK(is_pattern(server.answer(client, 5000), 5000));
  CHECK(server.engine.received == text);
  CHECK(server.engine.placed >= 1000);
  CHECK(server.engine.placed < 5000);
}

TEST_CASE_TEMPLATE("posix: a full arena ends the turn in the middle", Poller, POLLERS) {
  LoopOptions options;
  options.read_bytes = 1000;
  options.arena_bytes = 2000;
  Server<Poller> server("127.0.0.1", ListenOptions{}, options);
  std::vector<Peer*> clients;
  for (int i = 0; i != 5; ++i) { clients.push_back(new Peer(server.address)); }
  server.turns(2);
  for (Peer* client : clients) { CHECK(client->write(std::string(1000, 'a'))); }
  const uint32_t turns = server.engine.turns;
  REQUIRE(server.loop.turn(5) == 0);
  CHECK(server.engine.turns == turns + 3);
  for (Peer* client : clients) {
    CHECK(is_pattern(server.answer(*client, 1000), 1000));
    delete client;
  }
}

TEST_CASE_TEMPLATE("posix: connections above a limit are closed at once", Poller, POLLERS) {
  Server<Poller> server;
  Descriptor socket;
  REQUIRE(listen_tcp(address_of("127.0.0.1"), ListenOptions{}, socket) == 0);
  const SocketAddress limited = local_address(socket.get());
  REQUIRE(server.loop.add_listener(socket, 1, 1) == 0);
  Peer first(limited);
  Peer second(limited);
  server.turns(3);
  CHECK(server.watcher.refused[static_cast<uint8_t>(Refusal::listener_full)] == 1);
  CHECK(server.loop.connection_count() == 1);
  second.take();
  CHECK(second.ended());
  first.close();
  server.turns(2);
  Peer third(limited);
  server.turns(2);
  CHECK(server.loop.connection_count() == 1);
  CHECK(server.loop.group(server.watcher.accepted.back()) == 1);

  std::vector<Peer*> clients;
  for (int i = 0; i != 9; ++i) { clients.push_back(new Peer(server.address)); }
  server.turns(3);
  CHECK(server.loop.connection_count() == 8);
  CHECK(server.watcher.refused[static_cast<uint8_t>(Refusal::broker_full)] == 2);
  for (Peer* client : clients) { delete client; }
}

TEST_CASE_TEMPLATE("posix: running out of descriptors refuses and goes on", Poller, POLLERS) {
  Server<Poller> server;
  Peer established(server.address);
  server.turns(2);
  std::vector<Peer*> clients;
  for (int i = 0; i != 6; ++i) { clients.push_back(new Peer(server.address)); }
  {
    Descriptor next(dup(established.descriptor()));
    const auto used = static_cast<rlim_t>(next.get());
    next.reset();
    const DescriptorLimit limit(used);
    server.turns(2);
    CHECK(server.watcher.refused[static_cast<uint8_t>(Refusal::descriptors)] == 6);
    CHECK(established.write("still here"));
    CHECK(is_pattern(server.answer(established, 10), 10));
  }
  for (Peer* client : clients) {
    client->take();
    CHECK(client->ended());
    delete client;
  }
  Peer late(server.address);
  CHECK(late.write("late"));
  CHECK(is_pattern(server.answer(late, 4), 4));
}

#ifdef __linux__
TEST_CASE("posix: accepting pauses when not even the spare descriptor is there") {
  Server<EpollPoller> server;
  Peer first(server.address);
  const auto& refused = server.watcher.refused[static_cast<uint8_t>(Refusal::descriptors)];
  {
    const DescriptorLimit limit(0);
    REQUIRE(server.loop.turn(5) == 0);
    CHECK(refused == 1);
    const Millis start = MonotonicClock{}.now_ms();
    REQUIRE(server.loop.turn(5) == 0);  // waits: the listening socket does not wake it
    CHECK(MonotonicClock{}.now_ms() - start >= 4);
    CHECK(refused == 1);
  }
  REQUIRE(server.loop.turn(-1) == 0);  // the end of the pause is a deadline
  server.turns(2);
  CHECK(server.loop.connection_count() == 1);
}
#endif

TEST_CASE_TEMPLATE("posix: stopping says goodbye to all and closes the listeners", Poller,
                   POLLERS) {
  Server<Poller> server;
  Peer a(server.address);
  Peer b(server.address);
  server.turns(2);
  server.loop.notify('h');
  server.loop.notify(decltype(server.loop)::stop_notice);
  CHECK(server.loop.run() == 0);
  CHECK(server.watcher.notices == std::string("h\0", 2));
  CHECK(server.loop.connection_count() == 0);
  CHECK(server.watcher.closed == 2);
  for (Peer* client : {&a, &b}) {
    CHECK(client->take().size() == 1);
    client->take();
    CHECK(client->ended());
    CHECK(!client->was_reset());
  }
  Descriptor late(::socket(AF_INET, SOCK_STREAM, 0));
  CHECK(connect(late.get(), &server.address.any, server.address.size) == -1);
}

TEST_CASE_TEMPLATE("posix: a wait ends at the engine's deadline", Poller, POLLERS) {
  Server<Poller> server;
  const Millis start = MonotonicClock{}.now_ms();
  server.engine.next_deadline = start + 30;
  REQUIRE(server.loop.turn(-1) == 0);
  CHECK(server.engine.last_tick >= start + 30);
  CHECK(server.engine.last_tick < start + 1000);
}

TEST_CASE_TEMPLATE("posix: accepted sockets do not delay small packets", Poller, POLLERS) {
  Server<Poller> server;
  Peer client(server.address);
  server.turns(2);
  REQUIRE(server.watcher.accepted.size() == 1);
  int on = 0;
  socklen_t size = sizeof on;
  REQUIRE(getsockopt(server.loop.descriptor(server.watcher.accepted[0]), IPPROTO_TCP, TCP_NODELAY,
                     &on, &size) == 0);
  CHECK(on != 0);
}

TEST_CASE("posix: deadlines become waits") {
  CHECK(wait_ms(~Millis{0}, 5) == -1);
  CHECK(wait_ms(5, 5) == 0);
  CHECK(wait_ms(4, 5) == 0);
  CHECK(wait_ms(6, 5) == 1);
  CHECK(wait_ms(~Millis{0} - 1, 5) == 86400000);
}

TEST_CASE("posix: addresses are read and written") {
  char host[INET6_ADDRSTRLEN];
  for (const char* text : {"127.0.0.1", "::1", "fe80::1:2", "0.0.0.0"}) {
    address_of(text, 1883).write_host(host);
    CHECK(std::string(host) == text);
    CHECK(address_of(text, 1883).port() == 1883);
  }
  SocketAddress address;
  CHECK(!address.read("localhost", 1));
  CHECK(!address.read("1.2.3", 1));
}

TEST_CASE("posix: reserved memory reads as zero and costs nothing until it is written") {
  Reservation memory;
  REQUIRE(memory.reserve(uint64_t{1} << 34));
  CHECK(memory.size() == uint64_t{1} << 34);
  CHECK(memory.data()[12345678901] == 0);
  CHECK(!memory.reserve(1));
  memory.release();
  CHECK(memory.data() == nullptr);
  CHECK(!memory.reserve(0));
  CHECK(memory_bytes() > 1 << 20);
}

namespace {

// The real engine behind the loop, small limits, and clients that speak 3.1.1 by hand.
template <typename Poller>
struct RealServer {
  using Loop = BrokerLoop<BrokerEngine<>, NoObserver, Poller>;

  BrokerLimits limits;
  Reservation memory;
  AllowAll policy;
  NoJournal journal;
  BrokerEngine<> engine{policy, journal};
  NoObserver observer;
  Loop loop{engine, observer};
  SocketAddress address;

  explicit RealServer(int send_buffer = 0) {
    limits.connections = 16;
    REQUIRE(memory.reserve(broker_bytes(limits)));
    REQUIRE(engine.start(limits, {memory.data(), memory.size()}, 1, MonotonicClock{}.now_ms()) ==
            Error::none);
    LoopOptions options;
    options.connections = limits.connections;
    REQUIRE(loop.start(options) == 0);
    ListenOptions listen;
    listen.send_buffer = send_buffer;
    Descriptor socket;
    REQUIRE(listen_tcp(address_of("127.0.0.1"), listen, socket) == 0);
    address = local_address(socket.get());
    REQUIRE(loop.add_listener(socket, 0, 0xFFFFFFFF) == 0);
  }
  // Sends, then turns until `size` bytes have come.
  std::string exchange(Peer& client, const std::string& request, size_t size) {
    std::string rest = request;
    std::string all;
    for (int i = 0; i != 20000 && (all.size() < size || !rest.empty()) && !client.ended(); ++i) {
      const ssize_t sent = ::send(client.descriptor(), rest.data(), rest.size(), send_flags);
      rest.erase(0, sent > 0 ? static_cast<size_t>(sent) : 0);
      REQUIRE(loop.turn(1) == 0);
      all += client.take(1 << 16);
    }
    return all;
  }
  void log_in(Peer& client, const std::string& id) {
    const std::string body =
        std::string("\0\4MQTT\4\2\0\0\0", 11) + static_cast<char>(id.size()) + id;
    const std::string packet = std::string("\x10") + static_cast<char>(body.size()) + body;
    CHECK(exchange(client, packet, 4) == std::string("\x20\2\0\0", 4));
  }
};

// A PUBLISH of QoS 0 to "t" whose payload is `size` bytes that differ from place to place.
std::string large_publish(size_t size) {
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

const std::string subscribe_t("\x82\6\0\1\0\1t\0", 8);
const std::string suback_t("\x90\3\0\1\0", 5);

}  // namespace

TEST_CASE_TEMPLATE("posix: messages go from client to client through the engine", Poller, POLLERS) {
  RealServer<Poller> server;
  Peer publisher(server.address);
  Peer subscriber(server.address);
  server.log_in(publisher, "p");
  server.log_in(subscriber, "s");
  CHECK(server.exchange(subscriber, subscribe_t, 5) == suback_t);
  for (const size_t size : {size_t{0}, size_t{5}, size_t{5000}, size_t{300000}, size_t{1500000}}) {
    const std::string packet = large_publish(size);
    server.exchange(publisher, packet, 0);
    CHECK((server.exchange(subscriber, "", packet.size()) == packet));
  }
}

TEST_CASE_TEMPLATE("posix: a slow subscriber gets a large message through a small socket buffer",
                   Poller, POLLERS) {
  RealServer<Poller> server(4096);
  Peer publisher(server.address);
  Peer subscriber(server.address);
  server.log_in(publisher, "p");
  server.log_in(subscriber, "s");
  CHECK(server.exchange(subscriber, subscribe_t, 5) == suback_t);
  std::string expected;
  for (int i = 0; i != 4; ++i) {
    const std::string packet = large_publish(700000);
    server.exchange(publisher, packet, 0);
    expected += packet;
  }
  std::string got;
  while (got.size() < expected.size()) {
    const std::string more = server.exchange(subscriber, "", 1);
    REQUIRE(!more.empty());
    got += more;
  }
  CHECK((got == expected));
}

TEST_CASE_TEMPLATE("posix: stopping sends the engine's last packet", Poller, POLLERS) {
  RealServer<Poller> server;
  Peer client(server.address);
  const std::string connect("\x10\x0E\0\4MQTT\5\2\0\0\0\0\1c", 16);
  CHECK(server.exchange(client, connect, 16).size() == 16);
  server.loop.stop();
  CHECK(client.take().substr(0, 3) == "\xE0\1\x8B");
  client.take();
  CHECK(client.ended());
  CHECK(server.engine.statistics().connections == 0);
}
