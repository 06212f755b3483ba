// A client's outbox on flash that tears what the power interrupts, and in a file.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "ports/journal/outbox.hpp"
#include "ports/posix/outbox.hpp"
#include "sim/journal_disk.hpp"

namespace {

using mqtt::Buffer;
using mqtt::Bytes;
using mqtt::Text;
using sim::Dice;

// NOR flash: erased by blocks to ones, written once by units; the power may go in any call.
class Flash {
 public:
  void make(uint32_t block_bytes, uint32_t blocks, uint32_t unit, uint32_t seed) {
    block_bytes_ = block_bytes;
    unit_ = unit;
    content_.assign(block_bytes * blocks, '\0');  // as it came: not even blank
    written_.assign(block_bytes * blocks / unit, true);
    erases_.assign(blocks, 0);
    dice_ = Dice(seed);
  }
  uint32_t block_bytes() const { return block_bytes_; }
  uint32_t block_count() const { return static_cast<uint32_t>(erases_.size()); }
  uint32_t program_bytes() const { return unit_; }

  bool read(uint32_t address, Buffer target) {
    REQUIRE(address + target.size() <= content_.size());
    memcpy(target.data(), &content_[address], target.size());
    return true;
  }
  bool program(uint32_t address, Bytes bytes) {
    REQUIRE(address % unit_ == 0);
    REQUIRE(bytes.size() % unit_ == 0);
    REQUIRE(address / block_bytes_ == (address + bytes.size() - 1) / block_bytes_);
    if (dead_) { return false; }
    uint32_t size = bytes.size();
    if (!alive()) { size = dice_.below(size + 1) / unit_ * unit_; }
    for (uint32_t at = 0; at < size; at += unit_) {
      REQUIRE_FALSE(written_[(address + at) / unit_]);
      written_[(address + at) / unit_] = true;
      memcpy(&content_[address + at], bytes.data() + at, unit_);
    }
    if (dead_ && size < bytes.size() && dice_.one_in(2)) {  // a unit half written
      written_[(address + size) / unit_] = true;
      for (uint32_t i = 0; i != unit_; ++i) {
        content_[address + size + i] =
            static_cast<char>(bytes[size + i] | static_cast<uint8_t>(dice_.below(256)));
      }
    }
    programmed += size;
    return !dead_;
  }
  bool erase(uint32_t block) {
    if (dead_) { return false; }
    const bool whole = alive();
    for (uint32_t at = 0; at < block_bytes_; at += unit_) {
      const uint32_t address = block * block_bytes_ + at;
      if (!whole && dice_.one_in(2)) { continue; }
      std::fill_n(content_.begin() + address, unit_, static_cast<char>(0xFF));
      written_[address / unit_] = !whole;  // of an interrupted erase nothing can be relied on
    }
    erases_[block] += 1;
    return whole;
  }
  bool sync() { return !dead_; }

  uint32_t calls = 0xFFFFFFFF;  // before the power goes
  uint64_t programmed = 0;
  bool dead() const { return dead_; }
  void power_on() {
    dead_ = false;
    calls = 0xFFFFFFFF;
  }
  uint32_t erases_max() const { return *std::max_element(erases_.begin(), erases_.end()); }
  uint32_t erases_min() const { return *std::min_element(erases_.begin(), erases_.end()); }

 private:
  bool alive() {
    if (calls != 0xFFFFFFFF && calls-- == 0) { dead_ = true; }
    return !dead_;
  }

  uint32_t block_bytes_ = 0;
  uint32_t unit_ = 1;
  std::string content_;
  std::vector<bool> written_;
  std::vector<uint32_t> erases_;
  Dice dice_{1};
  bool dead_ = false;
};

// The Medium of an Outbox that names a Flash, which outlives it.
struct Chip {
  static constexpr bool rewritable = false;
  Flash* flash = nullptr;
  uint32_t block_bytes() const { return flash->block_bytes(); }
  uint32_t block_count() const { return flash->block_count(); }
  uint32_t program_bytes() const { return flash->program_bytes(); }
  bool read(uint32_t address, Buffer target) { return flash->read(address, target); }
  bool program(uint32_t address, Bytes bytes) { return flash->program(address, bytes); }
  bool erase(uint32_t block) { return flash->erase(block); }
  bool sync() { return flash->sync(); }
};

// Keys with their packets in the order of their first keep().
using Model = std::vector<std::pair<uint32_t, std::string>>;

Model::iterator find(Model& model, uint32_t key) {
  return std::find_if(model.begin(), model.end(),
                      [key](const Model::value_type& it) { return it.first == key; });
}
void keep(Model& model, uint32_t key, const std::string& packet) {
  const auto it = find(model, key);
  if (it == model.end()) {
    model.emplace_back(key, packet);
  } else {
    it->second = packet;
  }
}
void drop(Model& model, uint32_t key) {
  const auto it = find(model, key);
  if (it != model.end()) { model.erase(it); }
}

template <typename Store>
Model load(Store& store) {
  Model found;
  uint8_t scratch[8192];
  const bool good = store.load(Buffer(scratch), [&found](uint32_t key, Bytes packet) {
    const Text text(packet);
    found.emplace_back(key, std::string(text.data(), text.size()));
    return true;
  });
  CHECK(good);
  return found;
}

using Store = mqtt::journal::Outbox<Chip, 24>;

std::string packet_of(Dice& dice, uint32_t size_max) {
  std::string packet(dice.below(size_max), '\0');
  for (char& byte : packet) { byte = static_cast<char>(dice.below(256)); }
  return packet;
}

struct Totals {
  uint64_t cuts = 0;
  uint64_t operations = 0;
};

// Keeps and drops with power cuts; after each what is there is the state before or after the
// operation that was cut.
void storm(uint32_t seed, Totals& totals) {
  Dice dice(seed);
  constexpr uint32_t units[] = {1, 4, 8, 16, 64};
  Flash flash;
  const uint32_t block_bytes = 512U << dice.below(3);
  const uint32_t blocks = 3 + dice.below(4);
  flash.make(block_bytes, blocks, units[dice.below(5)], seed);
  Model model;
  for (int life = 0; life < 12; ++life) {
    Store store;
    store.medium().flash = &flash;
    if (dice.one_in(4)) { flash.calls = dice.below(12); }  // within the recovery itself
    const bool started = store.start();
    if (!started) {
      CHECK(flash.dead());
      flash.power_on();
      totals.cuts += 1;
      continue;
    }
    if (!flash.dead()) { CHECK(load(store) == model); }
    flash.calls = dice.one_in(8) ? 0xFFFFFFFF : dice.below(200);
    for (int i = 0; i < 300 && !flash.dead(); ++i) {
      const uint32_t key = 1 + dice.below(40) + (dice.one_in(4) ? 0x10000 : 0);
      const Model before = model;
      if (dice.below(5) < 2) {
        store.drop(key);
        drop(model, key);
      } else {
        const std::string packet = packet_of(dice, 100);
        const bool kept = store.keep(key, packet.empty() ? Bytes() : Text(packet).bytes());
        if (kept || flash.dead()) { keep(model, key, packet); }
      }
      totals.operations += 1;
      if (flash.dead()) {
        flash.power_on();
        totals.cuts += 1;
        Store again;
        again.medium().flash = &flash;
        REQUIRE(again.start());
        const Model found = load(again);
        CHECK((found == model || found == before));
        model = found;
        break;
      }
      CHECK(store.count() == model.size());
    }
    flash.power_on();
  }
  CHECK(flash.erases_max() - flash.erases_min() <= 14);  // one a cut erase, at most
}

TEST_CASE("flash that tears every write it is cut in keeps what the outbox kept") {
  const char* wish = std::getenv("MQTT_OUTBOX_STORMS");
  const uint32_t count = wish != nullptr ? static_cast<uint32_t>(std::atoi(wish)) : 300;
  Totals totals;
  for (uint32_t seed = 1; seed <= count; ++seed) {
    CAPTURE(seed);
    storm(seed, totals);
  }
  MESSAGE(count, " chips, ", totals.cuts, " power cuts, ", totals.operations, " operations");
}

TEST_CASE("an outbox says no when it is full and has room again after a drop") {
  Flash flash;
  flash.make(1024, 4, 4, 1);
  Store store;
  store.medium().flash = &flash;
  REQUIRE(store.start());
  const std::string packet(100, 'p');
  uint32_t key = 1;
  while (store.keep(key, Text(packet).bytes())) { key += 1; }
  CHECK(key > 8);
  CHECK(key - 1 == store.count());
  for (int round = 0; round < 200; ++round) {
    CHECK_FALSE(store.keep(1000, Text(packet).bytes()));
    store.drop(1 + static_cast<uint32_t>(round) % (key - 1));
    CHECK(store.keep(1 + static_cast<uint32_t>(round) % (key - 1), Text(packet).bytes()));
  }
  const std::string large(1024, 'l');
  CHECK_FALSE(store.keep(1, Text(large).bytes()));
  CHECK(load(store).size() == key - 1);
}

TEST_CASE("more keys than entries are refused") {
  Flash flash;
  flash.make(4096, 4, 4, 1);
  Store store;
  store.medium().flash = &flash;
  REQUIRE(store.start());
  for (uint32_t key = 1; key <= 24; ++key) { CHECK(store.keep(key, Text("x").bytes())); }
  CHECK_FALSE(store.keep(25, Text("x").bytes()));
  CHECK(store.keep(24, Text("y").bytes()));
  store.drop(3);
  CHECK(store.keep(25, Text("x").bytes()));
}

TEST_CASE("all blocks wear alike, and a message costs what the file says") {
  Flash flash;
  flash.make(4096, 8, 1, 1);
  Store store;
  store.medium().flash = &flash;
  REQUIRE(store.start());
  const std::string packet(100, 'p');
  constexpr uint32_t count = 20000;
  for (uint32_t i = 0; i < count; ++i) {
    REQUIRE(store.keep(1 + i % 65535, Text(packet).bytes()));
    store.drop(1 + i % 65535);
  }
  CHECK(flash.erases_max() - flash.erases_min() <= 1);
  const double bytes = static_cast<double>(flash.programmed) / count;
  MESSAGE(bytes, " bytes programmed a message of 100, ", store.erases(), " erases of 8 blocks");
  CHECK(bytes < 156);
}

TEST_CASE("an outbox in a file survives being closed anywhere and cut anywhere") {
  char path[] = "/tmp/mqtt_outbox_XXXXXX";
  const int made = mkstemp(path);
  REQUIRE(made >= 0);
  ::close(made);
  Model model;
  Dice dice(5);
  for (int life = 0; life < 20; ++life) {
    mqtt::posix::FileOutbox<> store;
    REQUIRE(store.medium().open(path, 64 << 10) == 0);
    mqtt::posix::FileOutbox<> second;
    CHECK(second.medium().open(path) == EWOULDBLOCK);
    REQUIRE(store.start());
    CHECK(load(store) == model);
    for (int i = 0; i < 60; ++i) {
      const uint32_t key = 1 + dice.below(30);
      if (dice.one_in(3)) {
        store.drop(key);
        drop(model, key);
      } else {
        const std::string packet = packet_of(dice, 900) + "!";
        if (store.keep(key, Text(packet).bytes())) { keep(model, key, packet); }
      }
    }
  }
  CHECK_FALSE(model.empty());
  unlink(path);
}

}  // namespace
