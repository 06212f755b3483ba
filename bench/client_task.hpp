// client_task.hpp: what the measured clients share: the messages and their check, the partner, the
// report. Each of client.cpp, client_mosquitto.cpp and client_paho.cpp is a program
//
//   CLIENT publish|receive QOS COUNT PORT [PARTNER]
//
// that publishes or receives COUNT messages of 64 bytes at QoS 0 or 1 over MQTT 3.1.1. PARTNER is
// the shell command of the program at the other end, started once this one is connected (and
// subscribed). Every program says "ready" when it is, and "cpu MICROSECONDS" at the end: of all its
// threads, user and system, from there on. Exit: 0 when all messages arrived in order and, at
// QoS 1, were acknowledged, and the partner says the same of its end; else 1.
#ifndef BENCH_CLIENT_TASK_HPP
#define BENCH_CLIENT_TASK_HPP

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

constexpr char topic[] = "bench/client";
constexpr uint32_t payload_size = 64;
constexpr uint32_t stall_s = 100;  // no run may take longer

[[noreturn]] inline void fail(const char* what, uint32_t detail = 0) {
  std::fprintf(stderr, "%s (%u)\n", what, detail);
  std::exit(1);
}

struct Task {
  bool publishes = false;
  int qos = 0;
  uint32_t count = 0;
  const char* port = "";
  const char* partner = nullptr;

  const char* client_id() const { return publishes ? "publisher" : "receiver"; }
  // Messages of a publisher that may be under way: at QoS 0 not yet written, at QoS 1 not
  // acknowledged.
  uint32_t window() const { return qos == 0 ? 64 : 16; }
};

// The payloads in their order: a sequence number, then bytes that depend on it.
class Messages {
 public:
  Messages() { fill(0); }

  uint32_t count() const { return count_; }

  // The payload to be sent next; valid until advance().
  const char* peek() const { return payload_; }
  void advance() { fill(++count_); }

  // What arrived must be the next one.
  void take(const void* payload, size_t size) {
    if (size != payload_size || std::memcmp(payload, payload_, payload_size) != 0) {
      fail("lost, doubled, out of order or changed: what arrived is not message", count_);
    }
    advance();
  }

 private:
  void fill(uint32_t sequence) {
    std::memset(payload_, static_cast<int>('a' + sequence % 26), payload_size);
    std::memcpy(payload_, &sequence, sizeof sequence);
  }

  char payload_[payload_size];
  uint32_t count_ = 0;
};

// The program at the other end.
class Partner {
 public:
  explicit Partner(const char* command) {
    if (command == nullptr) { return; }
    pipe_ = popen(command, "r");
    char line[16];
    if (pipe_ == nullptr || std::fgets(line, sizeof line, pipe_) == nullptr ||
        std::strcmp(line, "ready\n") != 0) {
      fail("the partner did not get ready");
    }
  }

  void wait() {
    if (pipe_ == nullptr) { return; }
    while (std::fgetc(pipe_) != EOF) {}  // it can still write
    if (pclose(pipe_) != 0) { fail("the partner failed"); }
  }

 private:
  FILE* pipe_ = nullptr;
};

inline double cpu_us() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto microseconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
  };
  return microseconds(usage.ru_utime) + microseconds(usage.ru_stime);
}

inline Task read_task(int count, char** arguments) {
  Task task;
  if (count < 5) { fail("CLIENT publish|receive QOS COUNT PORT [PARTNER]"); }
  task.publishes = std::strcmp(arguments[1], "publish") == 0;
  task.qos = std::atoi(arguments[2]);
  task.count = static_cast<uint32_t>(std::strtoul(arguments[3], nullptr, 10));
  task.port = arguments[4];
  task.partner = count > 5 ? arguments[5] : nullptr;
  return task;
}

// `Client(const Task&)` connects and, to receive, subscribes; `run()` moves all messages;
// `disconnect()` ends the connection in order.
template <typename Client>
int run_client(int count, char** arguments) {
  const Task task = read_task(count, arguments);
  std::signal(SIGALRM, [](int) {
    static constexpr char text[] = "stall: messages or acknowledgements are missing\n";
    _exit(write(STDERR_FILENO, text, sizeof text - 1) < 0 ? 2 : 1);
  });
  alarm(stall_s);
  static Client client(task);
  Partner partner(task.partner);
  std::puts("ready");
  std::fflush(stdout);
  const double before = cpu_us();
  client.run();
  std::printf("cpu %.0f us\n", cpu_us() - before);
  client.disconnect();
  partner.wait();
  return 0;
}

}  // namespace bench

#endif
