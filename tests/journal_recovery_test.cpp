// The journal's log and its recovery, without a broker.
#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sim/journal_disk.hpp"

namespace {

using mqtt::Bytes;
using mqtt::JournalRecord;
using mqtt::Text;
using mqtt::journal::LogOptions;
using mqtt::journal::Recovered;
using mqtt::journal::segment_header_size;
using sim::Disk;
using Type = JournalRecord::Type;

// Stands for a broker: keeps a list of texts, which its snapshot gives one by one.
struct Owner {
  std::vector<std::string> alive;
  uint64_t safe = 0;

  void durable(uint64_t sequence) { safe = std::max(safe, sequence); }
};

}  // namespace

namespace mqtt {
template <>
class BrokerSnapshot<Owner> {
 public:
  template <typename Sink>
  bool next(Owner& owner, Sink&& sink, uint32_t /*bytes_max*/) {
    if (next_ >= owner.alive.size()) { return false; }
    JournalRecord record;
    record.type = JournalRecord::Type::subscribe;
    record.text = Text(owner.alive[next_++]);
    sink(record);
    return true;
  }

 private:
  size_t next_ = 0;
};
}  // namespace mqtt

namespace {

using Texts = std::vector<std::string>;

class Bench {
 public:
  std::unique_ptr<mqtt::journal::Log<sim::DiskWorker>> log;
  Owner owner;
  Recovered found;
  Texts texts;  // as recovered

  explicit Bench(Disk& disk, LogOptions options = {}, uint32_t buffer_bytes = 1 << 20)
      : log(std::make_unique<mqtt::journal::Log<sim::DiskWorker>>()), buffer_(buffer_bytes) {
    log->worker().start(disk, mqtt::journal::Sync::always);
    found = recover(disk, texts);
    log->start(mqtt::Buffer(buffer_.data(), buffer_bytes), options, found.chain);
  }
  static Recovered recover(Disk& disk, Texts& texts) {
    std::vector<uint8_t> window(mqtt::journal::window_bytes_min);
    mqtt::journal::Recovery<Disk> recovery(
        disk, mqtt::Buffer(window.data(), static_cast<uint32_t>(window.size())));
    texts.clear();
    return recovery.run([&texts](const JournalRecord& record) {
      std::string text(record.text.data(), record.text.size());
      text.append(reinterpret_cast<const char*>(record.bytes.data()), record.bytes.size());
      texts.push_back(text);
      return mqtt::Error::none;
    });
  }
  void say(const std::string& text) {
    JournalRecord record;
    record.type = Type::subscribe;
    record.text = Text(text);
    log->append(record);
  }
  void turn() { log->end_turn(owner); }
  void work() { log->worker().work(); }
  // Everything is safe.
  void settle() {
    for (int i = 0; i < 1000 && (i == 0 || !log->is_settled()); ++i) {
      turn();
      work();
      log->collect(owner);
    }
    CHECK(log->is_settled());
  }

 private:
  std::vector<uint8_t> buffer_;
};

// A segment of `count` units "unit 0", "unit 1", each synced by itself.
void fill(Disk& disk, int count, bool last_synced = true) {
  Bench bench(disk);
  bench.settle();
  for (int i = 0; i < count; ++i) {
    bench.say("unit " + std::to_string(i));
    bench.turn();
    if (last_synced || i + 1 != count) { bench.settle(); }
  }
}

TEST_CASE("a log cut anywhere gives its whole units and says what it dropped") {
  Disk disk;
  fill(disk, 5);
  std::string& content = disk.seen[1]->seen;
  const std::string whole = content;
  size_t units_before = 0;
  for (size_t cut = segment_header_size; cut <= whole.size(); ++cut) {
    CAPTURE(cut);
    content = whole.substr(0, cut);
    Texts texts;
    const Recovered found = Bench::recover(disk, texts);
    CHECK(found.units >= units_before);
    CHECK(found.units <= units_before + 1);
    units_before = static_cast<size_t>(found.units);
    CHECK(found.tail_bytes == cut - segment_header_size - found.bytes);
    CHECK(found.tail_units == (found.tail_bytes != 0 ? 1U : 0U));
    CHECK(disk.kept_bad == (found.tail_bytes != 0 ? 1U : disk.kept_bad));
    CHECK(found.damages == 0);
    for (size_t i = 0; i < texts.size(); ++i) { CHECK(texts[i] == "unit " + std::to_string(i)); }
  }
  CHECK(units_before == 6);  // and the one that says it is complete
}

TEST_CASE("damage in the middle costs the unit it hits and no other") {
  Disk disk;
  fill(disk, 8);
  std::string& content = disk.seen[1]->seen;
  const std::string whole = content;
  Texts texts;
  const uint64_t all = Bench::recover(disk, texts).units;
  const size_t last = whole.size() - (mqtt::journal::frame_header_size + 9);
  for (size_t at = segment_header_size; at < last; ++at) {
    CAPTURE(at);
    content[at] = static_cast<char>(content[at] ^ 0x40);
    const Recovered found = Bench::recover(disk, texts);
    CHECK(found.damages == 1);
    CHECK(found.units == all - 1);
    CHECK(found.damaged_bytes + found.bytes == whole.size() - segment_header_size);
    CHECK(found.tail_bytes == 0);
    CHECK(found.damaged_segment == 1);
    content[at] = whole[at];
  }
}

TEST_CASE("units behind a hole that was never synced are dropped") {
  Disk disk;
  {
    Bench bench(disk);
    bench.settle();
    bench.say("kept");
    bench.settle();
    for (int i = 0; i < 5; ++i) {
      bench.say("lost " + std::to_string(i));
      bench.turn();
    }
    bench.settle();  // one batch: the first unit alone, then four more
  }
  Texts texts;
  std::string& content = disk.seen[1]->seen;
  const size_t hole = content.find("lost 1");
  memset(&content[hole - 19], 0, 25);
  const Recovered found = Bench::recover(disk, texts);
  CHECK(texts == Texts{"kept", "lost 0"});
  CHECK(found.damages == 0);
  CHECK(found.tail_units == 4);
}

TEST_CASE("what was dropped stays dropped at the next start") {
  Disk disk;
  fill(disk, 3);
  disk.seen[1]->seen.resize(disk.seen[1]->seen.size() - 3);
  {
    LogOptions options;
    options.slice_bytes = 1;
    Bench bench(disk, options);  // its segment follows, is written and never completed
    CHECK(bench.found.tail_units == 1);
    bench.owner.alive = {"more", "and more", "and more"};
    bench.turn();
    bench.say("later");
    bench.turn();
    bench.work();
  }
  disk.seen[1]->seen += "\xF0mj\x9A something that came back";
  Texts texts;
  const Recovered found = Bench::recover(disk, texts);
  CHECK(found.damages == 0);
  CHECK(found.tail_bytes == 0);
  CHECK(texts[0] == "unit 0");
  CHECK(texts[1] == "unit 1");
  CHECK(texts[2] != "unit 2");
}

TEST_CASE("what cannot be read is an error, not a tail to be dropped") {
  Disk disk;
  {
    Bench bench(disk, LogOptions{}, 8 << 20);
    bench.settle();
    for (int i = 0; i < 8; ++i) {
      bench.say(std::string(60000, 'x'));
      bench.settle();
    }
  }
  disk.readable = 300000;
  Texts texts;
  const Recovered found = Bench::recover(disk, texts);
  CHECK(found.error == EIO);
  CHECK(disk.kept_bad == 0);
}

TEST_CASE("a newer format is refused and nothing is touched") {
  Disk disk;
  fill(disk, 2);
  disk.seen[1]->seen[8] = 2;
  const std::string before = disk.seen[1]->seen;
  Texts texts;
  const Recovered found = Bench::recover(disk, texts);
  CHECK(found.newer_version == 2);
  CHECK(texts.empty());
  CHECK(disk.kept_bad == 0);
  CHECK(disk.seen[1]->seen == before);
}

TEST_CASE("a segment whose header is damaged is read all the same") {
  Disk disk;
  fill(disk, 2);
  disk.seen[1]->seen[13] = 9;
  Texts texts;
  CHECK(Bench::recover(disk, texts).units == 3);
  disk.seen[2] = std::make_shared<Disk::File>();  // created and then the power went
  CHECK(Bench::recover(disk, texts).units == 3);
}

TEST_CASE("a segment that never came to be is passed over by the ones that follow") {
  Disk disk;
  fill(disk, 2);
  disk.seen[2] = std::make_shared<Disk::File>();
  disk.seen[2]->seen = std::string(100, '\0');
  {
    LogOptions options;
    options.slice_bytes = 1;
    Bench bench(disk, options);
    bench.owner.alive = {"more", "and more", "and more"};
    bench.say("later");
    bench.turn();
    bench.work();
  }
  CHECK(disk.seen.size() == 3);
  Texts texts;
  CHECK(Bench::recover(disk, texts).segments == 2);
  CHECK(texts == Texts{"unit 0", "unit 1", "later", "more"});
}

TEST_CASE("a segment that is complete only behind a hole does not replace the one before") {
  Disk disk;
  fill(disk, 2);
  const Disk::Directory before = disk.seen;
  {
    Bench bench(disk);
    bench.owner.alive = {"unit 0", "unit 1"};
    bench.say("a unit of its own");
    bench.settle();
  }
  CHECK(disk.seen.size() == 1);
  disk.seen[1] = before.at(1);
  disk.seen[2]->seen[segment_header_size + 20] ^= 1;
  Texts texts;
  CHECK(Bench::recover(disk, texts).chain.previous_end == segment_header_size);
  CHECK(texts == Texts{"unit 0", "unit 1"});
}

TEST_CASE("the only segment counts although damage hides that it is complete") {
  Disk disk;
  fill(disk, 3);
  std::string& content = disk.seen[1]->seen;
  content[segment_header_size + 16] ^= 1;  // the unit that says so
  Texts texts;
  const Recovered found = Bench::recover(disk, texts);
  CHECK(texts == Texts{"unit 0", "unit 1", "unit 2"});
  CHECK(found.damages == 1);
}

TEST_CASE("a unit of many frames is applied whole or not at all") {
  Disk disk;
  const std::string large(200000, 'L');
  {
    Bench bench(disk, LogOptions{}, 8 << 20);
    bench.settle();
    JournalRecord record;
    record.type = Type::payload;
    record.message = 1;
    record.bytes = Text(large).bytes();
    for (int i = 0; i < 3; ++i) { bench.log->append(record); }
    bench.settle();
  }
  Texts texts;
  CHECK(Bench::recover(disk, texts).units == 2);
  std::string all;
  for (const std::string& it : texts) { all += it; }
  CHECK(all == large + large + large);
  std::string& content = disk.seen[1]->seen;
  content[content.size() - 5] ^= 1;  // in the last frame
  const Recovered found = Bench::recover(disk, texts);
  CHECK(texts.empty());
  CHECK(found.units == 1);
  CHECK(found.tail_bytes > 600000);
}

TEST_CASE("what many turns change while the disk is busy shares one sync") {
  Disk disk;
  Bench bench(disk);
  bench.settle();
  const uint32_t before = disk.syncs;
  for (int i = 0; i < 100; ++i) {
    bench.say("turn " + std::to_string(i));
    bench.turn();
    CHECK(bench.owner.safe < bench.log->sequence());
  }
  bench.settle();
  CHECK(bench.owner.safe == bench.log->sequence());
  CHECK(disk.syncs - before == 2);
  CHECK_FALSE(bench.log->holds_back());
}

TEST_CASE("on a full disk nothing is safe until there is room, then everything is") {
  Disk disk;
  Bench bench(disk);
  bench.settle();
  disk.room = 10;
  bench.say("one");
  bench.turn();
  for (int i = 0; i < 5; ++i) {
    bench.work();
    bench.log->collect(bench.owner);
    bench.say("and " + std::to_string(i));
    bench.turn();
    CHECK(bench.owner.safe == 0);
    CHECK(bench.log->holds_back());
  }
  disk.room = ~uint64_t{0};
  bench.settle();
  CHECK(bench.owner.safe == 6);
  CHECK_FALSE(bench.log->holds_back());
  CHECK(bench.log->losses() == 0);
  disk.crash(true);
  Texts texts;
  CHECK(Bench::recover(disk, texts).tail_bytes == 0);
  CHECK(texts.size() == 6);
}

TEST_CASE("after a failed sync only a new and complete segment makes anything safe") {
  Disk disk;
  Bench bench(disk);
  bench.owner.alive = {"old"};
  bench.settle();
  bench.say("new");
  bench.owner.alive.push_back("new");
  disk.syncs_fail = true;
  bench.turn();
  bench.work();
  for (int i = 0; i < 6; ++i) {
    bench.turn();
    bench.work();
    CHECK(bench.log->holds_back());
    CHECK(bench.owner.safe == 0);
  }
  disk.syncs_fail = false;
  bench.settle();
  CHECK(bench.owner.safe == 1);
  CHECK(disk.seen.size() == 1);  // those that failed are gone
  disk.crash(true);
  Texts texts;
  Bench::recover(disk, texts);
  CHECK(texts == Texts{"old", "new"});
}

TEST_CASE("a segment that stands alone and was not completed does not count") {
  Disk disk;
  {
    Bench bench(disk);
    bench.settle();
    bench.say("first");
    bench.settle();
    disk.syncs_fail = true;
    bench.say("second");
    bench.turn();
    bench.work();
    bench.log->collect(bench.owner);
    disk.syncs_fail = false;
    bench.owner.alive.assign(2000, std::string(1000, 'x'));  // more than one turn's slices
    bench.turn();
    bench.work();
    bench.turn();
    bench.work();
  }
  CHECK(disk.seen.size() == 2);
  Texts texts;
  Bench::recover(disk, texts);
  CHECK(texts.size() <= 2);
  CHECK(texts[0] == "first");
}

TEST_CASE("more in one turn than the buffer takes is written as a snapshot") {
  Disk disk;
  Bench bench(disk, LogOptions{}, 64 << 10);
  bench.settle();
  for (int i = 0; i < 100; ++i) {
    bench.owner.alive.push_back(std::to_string(i) + std::string(400, '.'));
    bench.say(bench.owner.alive.back());
  }
  CHECK(bench.log->holds_back());
  bench.settle();
  CHECK(bench.log->losses() == 1);
  CHECK(bench.owner.safe == bench.log->sequence());
  Texts texts;
  Bench::recover(disk, texts);
  CHECK(texts == bench.owner.alive);
}

TEST_CASE("segments never hold more than twice what is alive and one segment") {
  Disk disk;
  LogOptions options;
  options.segment_bytes = 20000;
  options.slice_bytes = 1000;
  Bench bench(disk, options, 256 << 10);
  bench.owner.alive.assign(100, std::string(300, 'a'));
  bench.settle();
  const uint64_t live = bench.log->live_bytes();
  CHECK(live > 30000);
  uint64_t most = 0;
  for (int i = 0; i < 5000; ++i) {
    bench.say("change " + std::to_string(i) + std::string(100, 'c'));
    bench.turn();
    bench.work();
    bench.log->collect(bench.owner);
    most = std::max(most, disk.size());
  }
  bench.settle();
  CHECK(bench.log->segment() >= 5);
  CHECK(disk.seen.size() == 1);
  CHECK(most <= 2 * live + (live + live / 2));  // the new segment: all alive, what came meanwhile
}

TEST_CASE("a log of messages that have ended is compacted although it was all alive once") {
  Disk disk;
  LogOptions options;
  options.segment_bytes = 24000;
  Bench bench(disk, options);
  bench.settle();
  JournalRecord message;
  message.type = Type::message;
  const std::string topic(100, 't');
  message.text = Text(topic);
  const auto queue_and_end = [&](bool ends) {
    for (uint64_t i = 0; i < 100; ++i) {
      message.type = ends ? Type::message_end : Type::message;
      message.message = i + 1;
      message.number = ends ? message.text.size() : 0;
      bench.log->append(message);
      bench.turn();
      bench.work();
      bench.log->collect(bench.owner);
    }
  };
  const std::string all(100, 'q');
  bench.owner.alive.assign(100, all);
  bench.log->compact();
  bench.settle();
  CHECK(bench.log->live_bytes() > 10000);
  queue_and_end(false);
  message.type = Type::message_end;
  message.number = 1;
  bench.log->append(message);  // from now on sizes are known
  CHECK(bench.log->live_bytes() > 20000);
  bench.owner.alive.clear();
  queue_and_end(true);
  bench.settle();
  CHECK(bench.log->segment() == 3);
  CHECK(bench.log->live_bytes() < 100);
  CHECK(disk.size() < 6000);  // of about 25,000
}

TEST_CASE("a compaction that stops half way leaves the old segments and what came since") {
  Disk disk;
  LogOptions options;
  options.slice_bytes = 100;
  {
    Bench bench(disk, options);
    bench.settle();
    for (int i = 0; i < 3; ++i) {
      bench.say("before " + std::to_string(i));
      bench.settle();
    }
    bench.owner.alive.assign(50, std::string(90, 's'));
    bench.log->compact();
    for (int i = 0; i < 4; ++i) {
      bench.say("during " + std::to_string(i));
      bench.turn();
      bench.work();
      bench.log->collect(bench.owner);
    }
    CHECK(bench.log->compacting());
    CHECK(bench.owner.safe >= 6);
  }
  disk.crash(true);
  Texts texts;
  const Recovered found = Bench::recover(disk, texts);
  CHECK(found.segments == 2);
  CHECK(texts[0] == "before 0");
  CHECK(texts[2] == "before 2");
  size_t during = 0;
  for (const std::string& it : texts) { during += it.compare(0, 6, "during") == 0 ? 1U : 0U; }
  CHECK(during >= 3);
}

}  // namespace
