// The journal in real files, with its thread.
#include <dirent.h>
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>

#include "ports/journal/dump.hpp"
#include "ports/posix/journal.hpp"
#include "sim/broker_sim.hpp"

namespace {

using mqtt::PacketType;
using mqtt::Version;
using mqtt::posix::JournalOptions;

struct Config : mqtt::BrokerConfig {
  using Journal = mqtt::posix::FileJournal;
};
using Client = sim::Client<Config>;

// A directory that goes with the test.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/mqtt_journal_XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Folder() {
    for (const std::string& name : files()) { unlink((path_ + "/" + name).c_str()); }
    rmdir(path_.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string path(const std::string& name = "j") const { return path_ + "/" + name; }
  std::set<std::string> files() const {
    std::set<std::string> found;
    DIR* listing = opendir(path_.c_str());
    while (const dirent* entry = readdir(listing)) {
      if (entry->d_name[0] != '.') { found.insert(entry->d_name); }
    }
    closedir(listing);
    return found;
  }
  std::string read(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(path(name), std::ios::binary) << content;
  }

 private:
  std::string path_;
};

struct CountingWaker : mqtt::posix::Waker {
  std::atomic<uint32_t> count{0};
  CountingWaker() : Waker{count_one, this} {}
  static void count_one(void* self) { static_cast<CountingWaker*>(self)->count += 1; }
};

mqtt::BrokerLimits file_limits() {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.large_blocks = 8192;
  return limits;
}

// A broker on a journal.
class Life {
 public:
  explicit Life(const Folder& folder, mqtt::journal::Sync sync = mqtt::journal::Sync::always)
      : path_(folder.path()), b(sim::Wire::whole, file_limits()) {
    options.path = path_.c_str();
    options.sync = sync;
    options.interval_ms = 20;
  }
  ~Life() {
    if (started_) { CHECK(b.journal.stop(b.engine(), 5000)); }
  }
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

 private:
  std::string path_;

 public:
  sim::Broker<Config> b;
  JournalOptions options;
  CountingWaker waker;

  const mqtt::journal::Recovered& start() {
    REQUIRE(b.journal.open(options) == 0);
    const mqtt::journal::Recovered& found = b.journal.recover(b.engine(), b.now);
    if (b.journal.is_on()) {
      REQUIRE(b.journal.start(b.engine(), waker) == 0);
      started_ = true;
      settle();
    }
    return found;
  }
  // One turn; what the thread does within `wait_ms` is collected.
  void turn(uint32_t wait_ms) {
    b.run();
    b.journal.end_turn(b.engine());
    b.journal.worker().wait_done(wait_ms);
    b.journal.collect(b.engine());
    b.run();
  }
  void settle() {
    for (int i = 0; i < 100 && (i < 2 || !b.journal.is_settled()); ++i) { turn(2000); }
    CHECK(b.journal.is_settled());
  }
  Client connect(const char* id, bool clean = false) {
    const Client client =
        b.start(Version::v3_1_1, id, [clean](mqtt::Connect& it) { it.clean_start = clean; });
    settle();
    last_connack = client.take(PacketType::connack);
    return client;
  }
  sim::Packet last_connack;

 private:
  bool started_ = false;
};

void put_subscribe(const Client& client, const char* filter, int qos) {
  mqtt::Subscription entry;
  entry.filter = filter;
  entry.qos = static_cast<mqtt::Qos>(qos);
  mqtt::Subscribe packet;
  packet.packet_id = client.new_id();
  packet.filters = entry;
  client.send(packet);
}
void subscribe(Life& life, const Client& client, const char* filter, int qos) {
  put_subscribe(client, filter, qos);
  life.settle();
  client.take(PacketType::suback);
}

TEST_CASE("sessions, queues and retained messages are there again, however much is synced") {
  using mqtt::journal::Sync;
  for (const Sync sync : {Sync::always, Sync::interval, Sync::never}) {
    const Folder folder;
    {
      Life life(folder, sync);
      life.start();
      const Client reader = life.connect("reader");
      subscribe(life, reader, "a/#", 2);
      reader.drop();
      const Client writer = life.connect("writer", true);
      writer.publish("a/1", "one", 1);
      writer.publish("a/2", "kept", 1, true);
      life.settle();
      CHECK(writer.count(PacketType::puback) == 2);
      CHECK(life.waker.count > 0);
    }
    CHECK(folder.files() == std::set<std::string>{"j.000001", "j.lock"});
    Life life(folder, sync);
    const mqtt::journal::Recovered found = life.start();
    CHECK(found.segments == 1);
    CHECK(found.tail_bytes == 0);
    CHECK(found.refused == 0);
    const Client reader = life.connect("reader");
    CHECK(life.last_connack.session_present);
    CHECK(reader.message().payload == "one");
    CHECK(reader.message().payload == "kept");
    const Client other = life.connect("other", true);
    put_subscribe(other, "#", 0);
    std::string retained;  // before SUBACK or behind it
    while (other.has_packet()) { retained += other.next().payload; }
    CHECK(retained == "kept");
    CHECK(folder.files() == std::set<std::string>{"j.000002", "j.lock"});
  }
}

TEST_CASE("a journal in use and a missing directory are said at once") {
  const Folder folder;
  Life first(folder);
  first.start();
  mqtt::posix::FileJournal second;
  CHECK(second.open(first.options) == EWOULDBLOCK);
  JournalOptions options;
  const std::string path = folder.path("missing/j");
  options.path = path.c_str();
  mqtt::posix::FileJournal third;
  CHECK(third.open(options) == ENOENT);
}

TEST_CASE("a torn tail is dropped and kept under another name") {
  const Folder folder;
  {
    Life life(folder);
    life.start();
    life.connect("client");
  }
  const std::string torn = folder.read("j.000001") + "\xF0mj\x9A and half a record";
  folder.write("j.000001", torn);
  {
    Life life(folder);
    const mqtt::journal::Recovered found = life.start();
    CHECK(found.tail_bytes == 22);
    CHECK(found.tail_units == 1);
    CHECK(found.damaged_segment == 1);
    life.connect("client");
    CHECK(life.last_connack.session_present);
  }
  CHECK(folder.files() == std::set<std::string>{"j.000002", "j.bad", "j.lock"});
  CHECK(folder.read("j.bad") == torn);
}

TEST_CASE("a newer format is not touched") {
  const Folder folder;
  {
    Life life(folder);
    life.start();
    life.connect("client");
  }
  std::string content = folder.read("j.000001");
  content[8] = 9;
  folder.write("j.000001", content);
  {
    Life life(folder);
    CHECK(life.start().newer_version == 9);
  }
  CHECK(folder.files() == std::set<std::string>{"j.000001", "j.lock"});
  CHECK(folder.read("j.000001") == content);
}

// The process may not write files beyond this size.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
};

TEST_CASE("when files may not grow nothing is acknowledged, QoS 0 flows, and it goes on after") {
  const Folder folder;
  const std::string large(500000, 'x');
  {
    Life life(folder);
    life.start();
    const Client writer = life.connect("writer", true);
    const Client reader = life.connect("reader", true);
    subscribe(life, reader, "zero", 0);
    const Client other = life.connect("other", true);
    {
      const FileSizeLimit limit(4 << 20);
      uint32_t sent = 0;
      while (!life.b.journal.worker().failing() && sent < 12) {
        writer.publish(mqtt::Text("big/" + std::to_string(sent)), mqtt::Text(large), 1, true);
        sent += 1;
        life.turn(50);
      }
      CHECK(life.b.journal.worker().error() == EFBIG);
      CHECK(life.b.journal.holds_back());
      CHECK(sent == 9);
      CHECK(writer.count(PacketType::puback) == 8);
      writer.publish("small", "x", 1, true);
      other.publish("zero", "flows", 0);
      for (int i = 0; i < 3; ++i) { life.turn(20); }
      CHECK(writer.count(PacketType::puback) == 8);
      CHECK(reader.message().payload == "flows");
    }
    for (int i = 0; i < 100 && !life.b.journal.is_settled(); ++i) { life.turn(100); }
    CHECK(writer.count(PacketType::puback) == 10);
    CHECK_FALSE(life.b.journal.holds_back());
    CHECK(life.b.journal.losses() == 0);
  }
  Life life(folder);
  CHECK(life.start().tail_bytes == 0);
  CHECK(life.b.statistics().retained == 10);
}

TEST_CASE("the dump shows units, records and damage in words") {
  const Folder folder;
  {
    Life life(folder);
    life.start();
    const Client reader = life.connect("reader");
    subscribe(life, reader, "a/\xC3\xA9/#", 1);
    reader.drop();
    const Client writer = life.connect("writer", true);
    writer.publish("a/\xC3\xA9/1", "say \"hi\"", 1);
    life.settle();
  }
  folder.write("j.000001", folder.read("j.000001") + "garbage");
  mqtt::posix::JournalFiles files;
  REQUIRE(files.open_chain(folder.path().c_str()) == 0);
  std::vector<uint8_t> window(mqtt::journal::window_bytes_min);
  mqtt::journal::SegmentReader<mqtt::posix::JournalFiles> reader(
      files, mqtt::Buffer(window.data(), static_cast<uint32_t>(window.size())));
  FILE* out = fopen(folder.path("dump").c_str(), "w");
  CHECK(mqtt::journal::print_segment(out, reader, 1));
  fclose(out);
  const std::string text = folder.read("dump");
  CAPTURE(text);
  for (const char* part :
       {"segment 1, ", "session=0", "text=\"reader\"", "text=\"a/\\xc3\\xa9/#\"", "message=1",
        "payload_bytes=8", "bytes=\"say \\\"hi\\\"\"", "complete", "  DAMAGE at ", ", 7 bytes"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

}  // namespace
