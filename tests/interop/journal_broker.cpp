// A broker on a real journal, to be killed: journal_broker PORT PATH [always|interval|never]
// [segment bytes] [buffer bytes]
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if !defined(MQTT_ASSERT) && defined(NDEBUG)
#define MQTT_ASSERT(condition) static_cast<void>(sizeof(!(condition)))
#endif
#include <ports/posix/broker_loop.hpp>
#include <ports/posix/journal.hpp>

namespace {

constexpr uint8_t journal_notice = 1;

struct Config : mqtt::BrokerConfig {
  using Journal = mqtt::posix::FileJournal;
};
struct Plain : mqtt::BrokerConfig {};
using Engine = mqtt::BrokerEngine<Config>;

mqtt::BrokerLimits limits() {
  mqtt::BrokerLimits limits;
  limits.connections = 4096;
  limits.sessions = 8192;
  limits.blocks = 1 << 22;
  limits.large_blocks = 1 << 16;
  limits.queued_max = 2000000;
  limits.receive_maximum = 1000;
  limits.inflight_max = 1000;
  return limits;
}

struct Observer : mqtt::posix::NoObserver {
  mqtt::posix::FileJournal& journal;
  Engine& engine;
  Observer(mqtt::posix::FileJournal& j, Engine& e) noexcept : journal(j), engine(e) {}
  void on_notice(uint8_t notice) noexcept {
    if (notice == journal_notice) { journal.collect(engine); }
  }
  void on_turn() noexcept {
    const double before = cpu_ms();
    journal.end_turn(engine);
    const double spent = cpu_ms() - before;
    longest_ms = spent > longest_ms ? spent : longest_ms;
  }
  double longest_ms = 0;  // of this thread, in the journal in one turn

 private:
  static double cpu_ms() noexcept {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1000 + static_cast<double>(now.tv_nsec) / 1000000;
  }
};

template <typename Loop>
mqtt::posix::Waker waker_of(Loop& loop) {
  return {[](void* woken) { static_cast<Loop*>(woken)->notify(journal_notice); }, &loop};
}

template <typename Loop>
int serve(Loop& loop, uint16_t port) {
  mqtt::posix::LoopOptions options;
  options.connections = limits().connections;
  mqtt::posix::SocketAddress address;
  mqtt::posix::Descriptor socket;
  address.read("127.0.0.1", port);
  if (loop.start(options) != 0 || mqtt::posix::listen_tcp(address, {}, socket) != 0 ||
      loop.add_listener(socket, 0, 0xFFFFFFFF) != 0) {
    perror("listen");
    return 1;
  }
  return 0;
}

template <typename Loop>
Loop*& signalled() {
  static Loop* loop = nullptr;
  return loop;
}
template <typename Loop>
void stop_on_signal(Loop& loop) {
  signalled<Loop>() = &loop;
  signal(SIGTERM, [](int) { signalled<Loop>()->notify(Loop::stop_notice); });
  signal(SIGPIPE, SIG_IGN);
}

// The same broker without a journal, to compare.
int run_plain(uint16_t port) {
  using PlainEngine = mqtt::BrokerEngine<Plain>;
  mqtt::posix::Reservation memory;
  memory.reserve(mqtt::broker_bytes<Plain>(limits()));
  mqtt::AllowAll policy;
  mqtt::NoJournal none;
  PlainEngine engine(policy, none);
  (void)engine.start(limits(), {memory.data(), memory.size()}, 1,
                     mqtt::posix::MonotonicClock().now_ms());
  mqtt::posix::NoObserver observer;
  using Loop = mqtt::posix::BrokerLoop<PlainEngine>;
  Loop loop(engine, observer);
  if (serve(loop, port) != 0) { return 1; }
  stop_on_signal(loop);
  printf("ready\n");
  fflush(stdout);
  const int status = loop.run();
  signalled<Loop>() = nullptr;
  return status;
}

void tell(const mqtt::journal::Recovered& it) {
  printf("recovered segments=%u units=%llu records=%llu tail_bytes=%llu damages=%u refused=%llu\n",
         it.segments, static_cast<unsigned long long>(it.units),
         static_cast<unsigned long long>(it.records),
         static_cast<unsigned long long>(it.tail_bytes), it.damages,
         static_cast<unsigned long long>(it.refused));
}

int run(uint16_t port, const mqtt::posix::JournalOptions& options) {
  mqtt::posix::FileJournal journal;
  const int opened = journal.open(options);
  if (opened != 0) {
    fprintf(stderr, "%s: %s\n", options.path, strerror(opened));
    return 1;
  }
  mqtt::posix::Reservation memory;
  memory.reserve(mqtt::broker_bytes<Config>(limits()));
  mqtt::AllowAll policy;
  Engine engine(policy, journal);
  const mqtt::Millis now = mqtt::posix::MonotonicClock().now_ms();
  (void)engine.start(limits(), {memory.data(), memory.size()}, 1, now);
  const mqtt::journal::Recovered& found = journal.recover(engine, now);
  tell(found);
  if (!journal.is_on()) { return 3; }

  Observer observer(journal, engine);
  using Loop = mqtt::posix::BrokerLoop<Engine, Observer>;
  Loop loop(engine, observer);
  if (serve(loop, port) != 0) { return 1; }
  const mqtt::posix::Waker waker = waker_of(loop);
  if (journal.start(engine, waker) != 0) { return 1; }
  stop_on_signal(loop);
  printf("ready cpu=%.3f\n", static_cast<double>(clock()) / CLOCKS_PER_SEC);
  fflush(stdout);
  const int error = loop.run();
  signalled<Loop>() = nullptr;
  const bool settled = journal.stop(engine, 10000);
  printf("stopped settled=%d bytes=%llu syncs=%llu records=%llu segments=%u turn_max_ms=%.3f\n",
         settled ? 1 : 0, static_cast<unsigned long long>(journal.worker().bytes_written()),
         static_cast<unsigned long long>(journal.worker().syncs()),
         static_cast<unsigned long long>(journal.sequence()), journal.segment(),
         observer.longest_ms);
  return error;
}

mqtt::journal::Sync sync_of(const char* word) {
  if (strcmp(word, "interval") == 0) { return mqtt::journal::Sync::interval; }
  return strcmp(word, "never") == 0 ? mqtt::journal::Sync::never : mqtt::journal::Sync::always;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) { return 2; }
  const auto port = static_cast<uint16_t>(strtol(argv[1], nullptr, 10));
  if (strcmp(argv[2], "none") == 0) { return run_plain(port); }
  mqtt::posix::JournalOptions options;
  options.path = argv[2];
  if (argc > 3) { options.sync = sync_of(argv[3]); }
  if (argc > 4) { options.log.segment_bytes = strtoull(argv[4], nullptr, 10); }
  if (argc > 5) { options.buffer_bytes = strtoull(argv[5], nullptr, 10); }
  return run(port, options);
}
