// mqttd's persistence: options, log lines and exit statuses.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "examples/mqttd/journal.hpp"
#include "ports/posix/broker_loop.hpp"

namespace {

struct Config : mqtt::BrokerConfig {
  using Journal = mqtt::posix::FileJournal;
};
using Engine = mqtt::BrokerEngine<Config>;

// A directory with a journal "j" in it.
struct Place {
  char path[32] = "/tmp/mqtt_mqttd_XXXXXX";
  Place() { REQUIRE(mkdtemp(path) != nullptr); }
  ~Place() {
    for (const char* name : {"j", "j.000001", "j.000002", "j.000003", "j.bad", "j.lock", "log"}) {
      unlink(file(name).c_str());
    }
    rmdir(path);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  std::string file(const std::string& name) const { return std::string(path) + "/" + name; }
  std::string read(const std::string& name) const {
    std::ifstream in(file(name), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(file(name), std::ios::binary) << content;
  }
};

// One start of the program; `said` is its log.
struct Program {
  mqttd::Log log;
  mqttd::Persistence persistence;
  mqtt::AllowAll policy;
  std::unique_ptr<Engine> engine = std::make_unique<Engine>(policy, persistence.journal());
  mqtt::posix::Reservation memory;
  std::string said;
  int status = 0;

  explicit Program(const Place& place, uint32_t retained = 16) {
    unlink(place.file("log").c_str());
    log.targets = mqttd::log_to_file;
    REQUIRE(log.open_file(place.file("log").c_str()) == 0);
    mqttd::PersistenceOptions options;
    options.on = true;
    options.location = place.path;
    options.file = "j";
    mqtt::BrokerLimits limits;
    limits.retained = retained;
    status = persistence.open(options, mqttd::SyncChoice(), limits, log);
    if (status == 0) {
      REQUIRE(memory.reserve(mqtt::broker_bytes<Config>(limits)));
      REQUIRE(engine->start(limits, {memory.data(), memory.size()}, 1, 1000) == mqtt::Error::none);
      status = persistence.recover(*engine, 1000);
    }
    log.flush();
    said = place.read("log");
  }
  bool has(const char* part) const { return said.find(part) != std::string::npos; }
  // Retains as many messages and ends.
  void run(uint32_t count) {
    mqtt::posix::NoObserver observer;
    mqtt::posix::BrokerLoop<Engine> loop(*engine, observer);
    REQUIRE(loop.start({}) == 0);
    REQUIRE(persistence.start(*engine, loop, 7) == 0);
    for (uint32_t i = 0; i != count; ++i) {
      mqtt::Publish publish;
      const std::string topic = "t/" + std::to_string(i);
      publish.topic = mqtt::Text(topic);
      publish.payload = mqtt::Text("x").bytes();
      publish.retain = true;
      CHECK(engine->publish(publish, 1000) == mqtt::Error::none);
    }
    engine->end_turn(1000);
    persistence.on_turn(*engine);
    CHECK(persistence.stop(*engine));
  }
};

TEST_CASE("persistence_sync takes always, interval MS and never") {
  using mqtt::journal::Sync;
  mqttd::SyncChoice choice;
  CHECK(mqttd::read_sync("never", choice));
  CHECK(choice.sync == Sync::never);
  CHECK(mqttd::read_sync("always", choice));
  CHECK(choice.sync == Sync::always);
  CHECK(mqttd::read_sync("interval 250", choice));
  CHECK(choice.sync == Sync::interval);
  CHECK(choice.interval_ms == 250);
  for (const char* wrong : {"", "Always", "interval", "interval 0", "interval -1", "interval 1x",
                            "interval 3600001", "never 5"}) {
    CAPTURE(wrong);
    CHECK_FALSE(mqttd::read_sync(wrong, choice));
  }
}

TEST_CASE("without persistence nothing is opened") {
  mqttd::Log log;
  mqttd::Persistence persistence;
  CHECK(persistence.open({}, {}, mqtt::BrokerLimits(), log) == 0);
  CHECK_FALSE(persistence.is_on());
}

TEST_CASE("what was restored, dropped and left alone is in the log") {
  const Place place;
  {
    Program first(place);
    REQUIRE(first.status == 0);
    CHECK(first.said.empty());
    const Program second(place);
    CHECK(second.status == 1);
    CHECK(second.has("in use by another process"));
    first.run(5);
  }
  {
    const Program fewer(place, 3);
    CHECK(fewer.status == 1);
    CHECK(fewer.has("have no room: nothing was changed"));
  }
  std::string content = place.read("j.000001");
  place.write("j.000001", content + "torn");
  place.write("j", std::string("\0\xB5\0mosquitto db", 15));
  {
    Program torn(place);
    CHECK(torn.status == 0);
    CHECK(torn.has("is a Mosquitto database: not imported, not touched"));
    CHECK(torn.has("4 bytes at the end (1 turns, never acknowledged) dropped; kept as"));
    CHECK(torn.has("Restored 15 records"));
    CHECK(torn.engine->statistics().retained == 5);
    CHECK(place.read("j.bad") == content + "torn");
  }
  content[8] = 7;
  place.write("j.000001", content);
  const Program newer(place);
  CHECK(newer.status == 1);
  CHECK(newer.has("has format 7, this program knows 1: nothing was changed"));
  CHECK(place.read("j.000001") == content);
}

TEST_CASE("save leaves one small segment behind") {
  const Place place;
  {
    Program program(place);
    program.persistence.save();
    program.run(10);
  }
  CHECK(place.read("j.000001").empty());
  CHECK(place.read("j.000002").size() > 100);
}

}  // namespace
