// What mqttd tells its operator: $SYS, metrics, the log.
#include <doctest/doctest.h>
#include <math.h>
#include <stdlib.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "../examples/mqttd/authenticator.hpp"
#include "../examples/mqttd/metrics.hpp"
#include "../examples/mqttd/sys_tree.hpp"

using namespace mqttd;

namespace {

using Topics = std::map<std::string, std::string>;

struct Collector {
  Topics& topics;
  void operator()(const char* topic, const char* text) const {
    CHECK(mqtt::valid_topic(topic));
    topics[topic] = text;
  }
};

}  // namespace

TEST_CASE("a load average is the exponential one of Mosquitto") {
  const uint32_t all[] = {1, 5, 15};
  for (const uint32_t minutes : all) {
    CAPTURE(minutes);
    LoadAverage average;
    double expected = 0;
    int64_t second = 0;
    for (const int64_t seconds : {10, 1, 7, 60, 3600, 86400, 10}) {
      const int64_t count = 37 * ++second;
      const double rate = static_cast<double>(count) * 60.0 / static_cast<double>(seconds);
      const double decay = exp(-static_cast<double>(seconds) / (60.0 * minutes));
      expected = rate + decay * (expected - rate);
      CHECK(average.update(count, seconds, minutes) == doctest::Approx(expected).epsilon(1e-9));
    }
  }
}

TEST_CASE("all of $SYS is published at the start, later only what has changed") {
  SysTree tree;
  Figures figures;
  Topics topics;
  tree.start("1.2.3", 5000, figures, Collector{topics});
  CHECK(topics["$SYS/broker/version"] == "mqttd version 1.2.3");
  CHECK(topics["$SYS/broker/uptime"] == "0 seconds");
  const char* const names[] = {"timestamp",
                               "clients/connected",
                               "clients/disconnected",
                               "clients/total",
                               "clients/maximum",
                               "clients/expired",
                               "clients/active",
                               "clients/inactive",
                               "messages/received",
                               "messages/sent",
                               "messages/stored",
                               "publish/messages/received",
                               "publish/messages/sent",
                               "publish/messages/dropped",
                               "bytes/received",
                               "bytes/sent",
                               "subscriptions/count",
                               "shared_subscriptions/count",
                               "retained messages/count",
                               "store/messages/count",
                               "heap/current",
                               "heap/maximum",
                               "load/messages/received/1min",
                               "load/messages/sent/5min",
                               "load/publish/received/15min",
                               "load/publish/sent/1min",
                               "load/publish/dropped/1min",
                               "load/bytes/received/1min",
                               "load/bytes/sent/1min",
                               "load/sockets/1min",
                               "load/connections/15min"};
  for (const char* name : names) {
    CAPTURE(name);
    CHECK(topics.count(std::string("$SYS/broker/") + name) == 1);
  }
  CHECK(topics["$SYS/brokers/mqttd/metrics/bytes/received"] == "0");
  CHECK(topics["$SYS/brokers/mqttd/metrics/bytes/sent"] == "0");
  CHECK(topics["$SYS/broker/load/bytes/sent/1min"] == "0.00");

  topics.clear();
  tree.update(15000, figures, Collector{topics});
  CHECK(topics == Topics{{"$SYS/broker/uptime", "10 seconds"}});

  topics.clear();
  figures[Figure::bytes_sent] = 600;
  figures[Figure::clients_connected] = 2;
  tree.update(25000, figures, Collector{topics});
  CHECK(topics["$SYS/broker/bytes/sent"] == "600");
  CHECK(topics["$SYS/brokers/mqttd/metrics/bytes/sent"] == "600");
  CHECK(topics["$SYS/broker/clients/connected"] == "2");
  CHECK(topics["$SYS/broker/clients/active"] == "2");
  CHECK(topics["$SYS/broker/load/bytes/sent/1min"] == "552.67");  // 3600 (1 - exp(-1/6))
  CHECK(topics["$SYS/broker/load/bytes/sent/15min"] == "39.78");
  CHECK(topics.size() == 8);

  // Twice within a second counts once.
  topics.clear();
  tree.update(25100, figures, Collector{topics});
  CHECK(topics.empty());
}

TEST_CASE("an update is due when the seconds are a multiple of the interval") {
  for (const int64_t interval : {1, 10, 3600}) {
    timespec before{};
    clock_gettime(CLOCK_REALTIME, &before);
    const int64_t wait = SysTree::wait_ms(interval);
    CHECK(wait > 0);
    CHECK(wait <= interval * 1000);
    const int64_t due = int64_t{before.tv_sec} * 1000 + before.tv_nsec / 1000000 + wait;
    CHECK(due % (interval * 1000) < 500);
  }
}

TEST_CASE("figures are taken from the engine and remember the most there was") {
  mqtt::BrokerStatistics now;
  mqtt::BrokerLimits limits;
  ProgramCounts counts;
  Figures figures;
  now.sessions = 5;
  now.blocks = 10;
  now.large_blocks = 2;
  counts.clients_connected = 3;
  collect(now, limits, counts, figures);
  CHECK(figures[Figure::clients_total] == 5);
  CHECK(figures[Figure::clients_disconnected] == 2);
  CHECK(figures[Figure::heap_current] == 10 * 128 + 2 * 4096);
  now.sessions = 1;
  now.large_blocks = 0;
  counts.clients_connected = 1;
  collect(now, limits, counts, figures);
  CHECK(figures[Figure::clients_total] == 1);
  CHECK(figures[Figure::clients_maximum] == 5);
  CHECK(figures[Figure::heap_maximum] == 10 * 128 + 2 * 4096);
}

TEST_CASE("metrics are Prometheus text, each name once, or nothing when there is no room") {
  Figures figures;
  figures[Figure::bytes_sent] = 123456789012;
  char text[metrics_bytes_max];
  const size_t size = write_metrics(figures, 42, text, sizeof text);
  REQUIRE(size != 0);
  REQUIRE(size < sizeof text);
  const std::string all(text, size);
  CHECK(all.find("# TYPE mqttd_bytes_sent_total counter\nmqttd_bytes_sent_total 123456789012\n") !=
        std::string::npos);
  CHECK(all.find("# TYPE mqttd_uptime_seconds gauge\nmqttd_uptime_seconds 42\n") !=
        std::string::npos);
  std::set<std::string> names;
  size_t lines = 0;
  for (size_t at = 0; at != all.size(); ++lines) {
    const size_t end = all.find('\n', at);
    REQUIRE(end != std::string::npos);
    const std::string line = all.substr(at, end - at);
    at = end + 1;
    if (line[0] == '#') { continue; }
    CHECK(line.compare(0, 6, "mqttd_") == 0);
    CHECK(names.insert(line.substr(0, line.find(' '))).second);
  }
  CHECK(names.size() == figure_count + 1);
  CHECK(lines == 3 * names.size());
  for (size_t room = 0; room <= size; room += 13) {
    CHECK(write_metrics(figures, 42, text, room) == 0);
  }
}

TEST_CASE("a stranger's control characters cannot write a line") {
  Log log;
  log.targets = log_to_topic;
  log.timestamp = false;
  log.line(log_notice, "Client %s\tdisconnected.", "x\n1695123456: forged\x7F\x01");
  std::vector<std::string> lines;
  log.give_to_topics([&](const char* topic, const char* text, size_t size) {
    lines.push_back(std::string(topic) + " " + std::string(text, size));
  });
  REQUIRE(lines.size() == 1);
  CHECK(lines[0] == "$SYS/broker/log/N Client x?1695123456: forged??\tdisconnected.");
}

TEST_CASE("lines for topics go out once, debug lines never, and new ones wait for the next time") {
  Log log;
  log.types = log_all;
  log.targets = log_to_topic;
  log.timestamp = false;
  log.line(log_error, "one");
  log.line(log_debug, "about a message");
  log.line(log_subscribe, "two");
  std::vector<std::string> topics;
  const auto take = [&](const char* topic, const char*, size_t) {
    topics.push_back(topic);
    log.line(log_warning, "from inside");
  };
  log.give_to_topics(take);
  CHECK(topics == std::vector<std::string>{"$SYS/broker/log/E", "$SYS/broker/log/M/subscribe"});
  topics.clear();
  log.give_to_topics(take);
  CHECK(topics == std::vector<std::string>{"$SYS/broker/log/W", "$SYS/broker/log/W"});
  for (int i = 0; i != 1000; ++i) { log.line(log_notice, "%100d", i); }  // more than there is room
  topics.clear();
  log.give_to_topics([&](const char* topic, const char*, size_t) { topics.push_back(topic); });
  CHECK(topics.size() > 50);
}

TEST_CASE("lines reach the system's log as RFC 3164 has them") {
  char folder[] = "/tmp/mqttd-syslog-XXXXXX";
  REQUIRE(mkdtemp(folder) != nullptr);
  const std::string path = std::string(folder) + "/log";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path.c_str());
  const int server = socket(AF_UNIX, SOCK_DGRAM, 0);
  REQUIRE(bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  {
    Log log;
    CHECK(log.open_syslog(-1, "/nonexistent/log") != 0);
  }
  for (const int facility : {-1, 5}) {
    Log log;
    log.targets = log_to_syslog;
    REQUIRE(log.open_syslog(facility, path.c_str()) == 0);
    log.line(log_warning, "%s", "hello");
    char text[200];
    const ssize_t size = recv(server, text, sizeof text, MSG_DONTWAIT);
    REQUIRE(size > 0);
    const std::string line(text, static_cast<size_t>(size));
    const std::string end = " mqttd[" + std::to_string(getpid()) + "]: hello";
    CHECK(line.find(facility < 0 ? "<28>" : "<172>") == 0);
    CHECK(line.size() > end.size());
    CHECK(line.substr(line.size() - end.size()) == end);
  }
  close(server);
  unlink(path.c_str());
  rmdir(folder);
}

TEST_CASE("addresses that guess wait longer and longer, and a right password forgets it") {
  AttemptLimit limit;
  REQUIRE(limit.start());
  const uint64_t key = 0x7F00000100001;
  mqtt::Millis now = 1000;
  for (uint32_t i = 1; i != AttemptLimit::free_attempts; ++i) {
    limit.failed(key, now);
    CHECK(limit.may_try(key, now));
  }
  for (const mqtt::Millis wait : {1000U, 2000U, 4000U, 8000U, 16000U, 32000U, 64000U, 64000U}) {
    CHECK(limit.may_try(key, now));
    limit.failed(key, now);
    CHECK_FALSE(limit.may_try(key, now));
    CHECK_FALSE(limit.may_try(key, now + wait - 1));
    now += wait;
  }
  CHECK(limit.may_try(key + 1, now - 1));
  limit.succeeded(key);
  limit.failed(key, now);
  CHECK(limit.may_try(key, now));
  // Ten quiet minutes forget it, too.
  for (uint32_t i = 1; i != AttemptLimit::free_attempts; ++i) { limit.failed(key, now); }
  CHECK_FALSE(limit.may_try(key, now));
  now += 700000;
  limit.failed(key, now);
  CHECK(limit.may_try(key, now));
}

TEST_CASE("what is not an internet address is never limited") {
  AttemptLimit limit;
  REQUIRE(limit.start());
  mqtt::posix::SocketAddress address;
  address.any.sa_family = AF_UNIX;
  CHECK(AttemptLimit::key(address) == 0);
  for (int i = 0; i != 100; ++i) { limit.failed(0, 1); }
  CHECK(limit.may_try(0, 1));
  REQUIRE(address.read("10.0.0.1", 1));
  const uint64_t first = AttemptLimit::key(address);
  REQUIRE(address.read("10.0.0.2", 1));
  CHECK(AttemptLimit::key(address) != first);
  REQUIRE(address.read("2001:db8::1", 1));
  const uint64_t network = AttemptLimit::key(address);
  REQUIRE(address.read("2001:db8::ffff:1", 1));
  CHECK(AttemptLimit::key(address) == network);
  REQUIRE(address.read("2001:db8:0:1::1", 1));
  CHECK(AttemptLimit::key(address) != network);
}
