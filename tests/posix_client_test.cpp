// The hooks of a Client over real sockets, and an outbox in a file when the process is killed.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ports/posix/broker_loop.hpp>
#include <ports/posix/client.hpp>
#include <ports/posix/outbox.hpp>

#include <string>
#include <vector>

using namespace mqtt;
using namespace mqtt::posix;

namespace {

// Ends a child at the latest with its parent's scope.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { end(); }
  void end() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    pid_ = -1;
  }

 private:
  pid_t pid_;
};

struct Listening {
  Listening() {
    REQUIRE(address.read("127.0.0.1", 0));
    REQUIRE(listen_tcp(address, {}, socket) == 0);
    SocketAddress bound;
    bound.size = sizeof bound.v6;
    REQUIRE(getsockname(socket.get(), &bound.any, &bound.size) == 0);
    port = std::to_string(bound.port());
  }
  SocketAddress address;
  Descriptor socket;
  std::string port;
};

[[noreturn]] void serve(Listening& listening) {
  BrokerLimits limits;
  limits.connections = limits.sessions = 8;
  Reservation memory;
  AllowAll policy;
  NoJournal journal;
  BrokerEngine<> engine(policy, journal);
  NoObserver observer;
  BrokerLoop<BrokerEngine<>> loop(engine, observer);
  LoopOptions options;
  options.connections = limits.connections;
  if (memory.reserve(broker_bytes(limits)) &&
      engine.start(limits, {memory.data(), memory.size()}, 1, MonotonicClock{}.now_ms()) ==
          Error::none &&
      loop.start(options) == 0) {
    loop.add_listener(listening.socket, 0, 0xFFFFFFFF);
    loop.run();
  }
  _exit(1);
}

struct QuickConfig : ClientConfig {
  static constexpr uint32_t retry_min_ms = 20;
};
struct FileConfig : QuickConfig {
  using Store = FileOutbox<>;
};
using Plain = Client<ClientTransport<>, ClientClock>;
using Kept = Client<ClientTransport<>, ClientClock, FileConfig>;

constexpr uint32_t messages = 400;

// Publishes numbers from shared memory on until it is killed.
[[noreturn]] void publish_until_killed(const Listening& listening, const char* path,
                                       volatile uint32_t* next) {
  const Server servers[] = {{"127.0.0.1", listening.port.c_str()}};
  ClientTransport<> transport(servers);
  ClientClock clock;
  Connect connect;
  connect.version = Version::v3_1_1;
  connect.client_id = "kept";
  connect.clean_start = false;
  static Kept client(transport, clock, connect);
  static uint8_t scratch[FileConfig::tx_bytes];
  if (client.engine().store().open(path, client.engine(), Buffer(scratch)) != 0) { _exit(1); }
  client.start();
  while (true) {
    // The number is taken once the message is in the file; killed between the two it is doubled,
    // so the subscriber looks at what comes first.
    if (*next <= messages && client.publish("n", Text(std::to_string(*next)), Qos::exactly_once)) {
      *next = *next + 1;
    }
    const Millis until = client.run_once();
    const Millis soon = clock.now_ms() + 1;
    transport.wait_until(until < soon || *next > messages ? until : soon);
  }
}

}  // namespace

TEST_SUITE_BEGIN("posix client");

TEST_CASE("a dial tries each address, and says why when none answers") {
  struct Resolver {
    int32_t resolve(const Server&, Addresses& addresses, int&) noexcept {
      calls += 1;
      if (calls == 1) { return 0; }  // not yet
      SocketAddress closed;
      closed.read("127.0.0.1", 1);
      addresses.add(&closed.path, closed.size);
      if (good != nullptr) { addresses.add(&good->path, good->size); }
      return 1;
    }
    int calls = 0;
    const SocketAddress* good = nullptr;
  };
  Listening listening;
  SocketAddress good;
  good.read("127.0.0.1", static_cast<uint16_t>(std::stoi(listening.port)));
  const Server servers[] = {{"a", "1"}};
  const MonotonicClock clock;
  for (const bool answers : {false, true}) {
    Resolver resolver;
    if (answers) { resolver.good = &good; }
    ClientTransport<Resolver> transport(servers, resolver);
    CHECK(transport.dial(0) == 0);
    int32_t result = 0;
    const Millis end = clock.now_ms() + 5000;
    while ((result = transport.dial(0)) == 0 && clock.now_ms() < end) { transport.wait_until(end); }
    CHECK(result == (answers ? 1 : -1));
    CHECK((transport.descriptor() >= 0) == answers);
    CHECK(transport.error() == ECONNREFUSED);
    transport.hang_up();
    transport.hang_up();
    CHECK(transport.descriptor() < 0);
  }
}

TEST_CASE("a name that does not exist is an error with a text") {
  const Server servers[] = {{"no.such.name.invalid", "1883"}};
  ClientTransport<> transport(servers);
  CHECK(transport.dial(0) < 0);
  CHECK(std::string(transport.error_text()) != "");
}

TEST_CASE("a client talks over a Unix socket and by name, several servers in turn") {
  char path[] = "/tmp/mqtt_client_XXXXXX";
  REQUIRE(mkdtemp(path) != nullptr);
  const std::string socket_path = std::string(path) + "/s";
  SocketAddress address;
  address.path.sun_family = AF_UNIX;
  memcpy(address.path.sun_path, socket_path.c_str(), socket_path.size());
  address.size = sizeof address.path;
  Listening listening;
  Descriptor local(socket(AF_UNIX, SOCK_STREAM, 0));
  REQUIRE(bind(local.get(), &address.any, address.size) == 0);
  REQUIRE(listen(local.get(), 4) == 0);
  REQUIRE(set_nonblocking(local.get()));
  const pid_t pid = fork();
  if (pid == 0) {
    listening.socket.reset(local.release());
    serve(listening);
  }
  const Child child(pid);
  const Server servers[] = {{"127.0.0.1", "1"}, {socket_path.c_str(), ""}};
  ClientTransport<> transport(servers);
  ClientClock clock;
  Connect connect;
  static Client<ClientTransport<>, ClientClock, QuickConfig> client(transport, clock, connect);
  client.start();
  const Millis end = clock.now_ms() + 5000;
  while (!client.online() && clock.now_ms() < end) {
    const Millis until = client.run_once();
    if (!client.online()) { transport.wait_until(until); }
  }
  CHECK(client.online());
  CHECK(client.disconnect() == Answer::queued);
  client.run_once();
  CHECK(transport.descriptor() < 0);
  unlink(socket_path.c_str());
  rmdir(path);
}

TEST_CASE("an outbox in a file outlives a killed process: nothing is lost, the order is kept") {
  char path[] = "/tmp/mqtt_outbox_XXXXXX";
  REQUIRE(mkdtemp(path) != nullptr);
  const std::string file = std::string(path) + "/outbox";
  Listening listening;
  const pid_t broker = fork();
  if (broker == 0) { serve(listening); }
  const Child broker_child(broker);
  auto* const next = static_cast<volatile uint32_t*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  *next = 1;
  const Server servers[] = {{"127.0.0.1", listening.port.c_str()}};
  ClientTransport<> transport(servers);
  ClientClock clock;
  Connect connect;
  static Plain subscriber(transport, clock, connect);
  static std::vector<uint32_t> got;
  subscriber.start();
  const Millis end = clock.now_ms() + 30000;
  static bool subscribed = false;
  const auto on_event = [](const ClientEvent& event) {
    subscribed = subscribed || event.type == ClientEventType::subscribed;
  };
  REQUIRE(subscriber.subscribe("n", Qos::exactly_once, [](const ClientEvent& event) {
    const Text payload = event.message.payload.empty() ? Text() : Text(event.message.payload);
    got.push_back(static_cast<uint32_t>(std::stoul(std::string(payload.data(), payload.size()))));
  }));
  while (!subscribed && clock.now_ms() < end) {
    const Millis until = subscriber.run_once(on_event);
    if (!subscribed) { transport.wait_until(until); }
  }
  uint32_t kills = 0;
  while ((got.empty() || got.back() != messages) && clock.now_ms() < end) {
    const pid_t pid = fork();
    if (pid == 0) { publish_until_killed(listening, file.c_str(), next); }
    Child publisher(pid);
    const uint32_t killed_at = *next + 5 + clock.random() % 40;
    while (clock.now_ms() < end &&
           (*next <= messages ? *next < killed_at : got.empty() || got.back() != messages)) {
      const Millis until = subscriber.run_once(on_event);
      const Millis soon = clock.now_ms() + 5;
      transport.wait_until(until < soon ? until : soon);
    }
    publisher.end();
    kills += 1;
  }
  uint32_t last = 0;
  for (const uint32_t number : got) {
    if (number == last) { continue; }  // published twice, see publish_until_killed()
    CHECK(number == last + 1);
    last = number;
  }
  CHECK(last == messages);
  CHECK(kills > 2);
  unlink(file.c_str());
  rmdir(path);
}

TEST_SUITE_END();
