// The broker's containers against the plainest thing that does the same, with random operations.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "mqtt.hpp"

namespace {

using mqtt::Bytes;
using mqtt::Text;
using mqtt::detail::after_seconds;
using mqtt::detail::BlockPool;
using mqtt::detail::Blocks;
using mqtt::detail::Chain;
using mqtt::detail::ChainCursor;
using mqtt::detail::Claim;
using mqtt::detail::copy;
using mqtt::detail::Directory;
using mqtt::detail::Entry;
using mqtt::detail::hash_bytes;
using mqtt::detail::never;
using mqtt::detail::none;
using mqtt::detail::Queue;
using mqtt::detail::QueuePlace;
using mqtt::detail::Queues;
using mqtt::detail::reached;
using mqtt::detail::Table;
using mqtt::detail::Texts;
using mqtt::detail::Tick;
using mqtt::detail::ticks_per_second;
using mqtt::detail::Timers;

// Deterministic, and the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 1) {}
  uint32_t below(uint32_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint32_t>((state_ >> 16) % limit);
  }
  bool one_in(uint32_t count) { return below(count) == 0; }

 private:
  uint64_t state_;
};

// Memory of exactly the size, so that a sanitizer sees a byte too many; filled with rubbish,
// because what is carved need not be zero.
struct Memory {
  explicit Memory(size_t size) : bytes(new uint8_t[size]) { memset(bytes.get(), 0xA7, size); }
  uint8_t* get() { return bytes.get(); }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(bytes.get());
  }
  std::unique_ptr<uint8_t[]> bytes;
};

std::string random_bytes(Random& random, uint32_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes) { c = static_cast<char>(random.below(256)); }
  return bytes;
}

Bytes view(const std::string& bytes) { return Text(bytes).bytes(); }

template <typename Index>
struct Item {
  Index next = none<Index>;
  uint32_t hash = 0;
  uint32_t value = 0;
};

}  // namespace

TEST_CASE_TEMPLATE("a table hands out every slot once and takes it back", Index, uint16_t,
                   uint32_t) {
  constexpr uint32_t limit = 50;
  Memory memory(limit * sizeof(Item<Index>));
  Table<Item<Index>, Index> table;
  table.start(memory.as<Item<Index>>(), limit);
  std::map<Index, uint32_t> taken;
  Random random(1);
  for (uint32_t step = 0; step < 20000; ++step) {
    if (random.one_in(2)) {
      const Index index = table.allocate();
      REQUIRE((index == none<Index>) == (taken.size() == limit));
      if (index != none<Index>) {
        REQUIRE(index < limit);
        REQUIRE(taken.count(index) == 0);
        REQUIRE(table[index].value == 0);
        table[index].value = step + 1;
        taken[index] = step + 1;
      }
    } else if (!taken.empty()) {
      const auto it = std::next(taken.begin(), random.below(static_cast<uint32_t>(taken.size())));
      REQUIRE(table[it->first].value == it->second);
      table.release(it->first);
      taken.erase(it);
    }
    REQUIRE(table.count() == taken.size());
    REQUIRE(table.full() == (taken.size() == limit));
  }
}

TEST_CASE("a table touches no slot before it is needed") {
  constexpr uint32_t limit = 100;
  Memory memory(limit * sizeof(Item<uint32_t>));
  Table<Item<uint32_t>, uint32_t> table;
  table.start(memory.as<Item<uint32_t>>(), limit);
  for (uint32_t round = 0; round < 10; ++round) {
    const uint32_t a = table.allocate();
    const uint32_t b = table.allocate();
    table.release(a);
    table.release(b);
  }
  CHECK(table.used() == 2);
  CHECK(memory.get()[2 * sizeof(Item<uint32_t>)] == 0xA7);
}

TEST_CASE_TEMPLATE("a directory finds what was inserted while it grows by linear hashing", Index,
                   uint16_t, uint32_t) {
  constexpr uint32_t limit = 300;
  for (const uint32_t hash_values : {0xFFFFFFFFU, 1000U, 7U, 1U}) {  // the last: all collide
    CAPTURE(hash_values);
    Memory items(limit * sizeof(Item<Index>));
    Memory heads(limit * sizeof(Index));
    Table<Item<Index>, Index> table;
    Directory<Index> directory;
    table.start(items.as<Item<Index>>(), limit);
    directory.start(heads.as<Index>(), limit);
    std::map<Index, uint32_t> reference;
    Random random(hash_values);
    for (uint32_t step = 0; step < 4000; ++step) {
      const bool grow = random.below(100) < (step < 2500 ? 60U : 35U);
      if (grow && !table.full()) {
        const Index index = table.allocate();
        table[index].hash = random.below(hash_values) * 0x9E3779B1U;
        directory.insert(table, index);
        reference[index] = table[index].hash;
      } else if (!reference.empty()) {
        const auto it =
            std::next(reference.begin(), random.below(static_cast<uint32_t>(reference.size())));
        directory.remove(table, it->first);
        table.release(it->first);
        reference.erase(it);
      }
      if (step % 64 != 0) { continue; }
      for (const auto& [wanted, hash] : reference) {
        Index index = directory.first(hash);
        uint32_t found = 0;
        while (index != none<Index>) {
          REQUIRE(reference.count(index) == 1);
          found += index == wanted ? 1U : 0U;
          index = table[index].next;
        }
        REQUIRE(found == 1);
      }
    }
  }
}

TEST_CASE("a directory's chains stay short when the hashes are good") {
  constexpr uint32_t limit = 4096;
  Memory items(limit * sizeof(Item<uint32_t>));
  Memory heads(limit * sizeof(uint32_t));
  Table<Item<uint32_t>, uint32_t> table;
  Directory<uint32_t> directory;
  table.start(items.as<Item<uint32_t>>(), limit);
  directory.start(heads.as<uint32_t>(), limit);
  uint32_t visited = 0;
  for (uint32_t i = 0; i < limit; ++i) {
    const uint32_t index = table.allocate();
    char text[16];
    snprintf(text, sizeof text, "sensor/%u", i);
    table[index].hash = hash_bytes(Text(text).bytes(), 12345).low;
    directory.insert(table, index);
  }
  for (uint32_t i = 0; i < limit; ++i) {
    for (uint32_t at = directory.first(table[i].hash); at != i; at = table[at].next) {
      visited += 1;
    }
  }
  CHECK(visited < limit);  // with a load of one: half an item before the one wanted
}

namespace {

// Blocks that are taken, and what they are filled with.
template <typename Index>
struct PoolUnderTest {
  PoolUnderTest() : memory(limit * bytes) {
    pool.start(memory.get(), limit, bytes);
    pool.keep(kept);
  }
  void allocate(Claim claim, uint8_t fill) {
    const uint32_t free = limit - static_cast<uint32_t>(taken.size());
    const uint32_t held = claim == Claim::promised ? 0
                          : claim == Claim::answer ? promised
                                                   : promised + kept;
    const Index block = pool.allocate(claim);
    REQUIRE((block != none<Index>) == (free > held));
    if (block != none<Index>) {
      REQUIRE(taken.count(block) == 0);
      REQUIRE(pool.next(block) == none<Index>);
      taken[block] = fill;
      memset(pool.data(block), fill, pool.room());
    }
  }
  void release_one(Random& random) {
    if (taken.empty()) { return; }
    const auto it = std::next(taken.begin(), random.below(static_cast<uint32_t>(taken.size())));
    for (uint32_t i = 0; i < pool.room(); ++i) { REQUIRE(pool.data(it->first)[i] == it->second); }
    pool.release(it->first);
    taken.erase(it);
  }

  static constexpr uint32_t limit = 40;
  static constexpr uint32_t bytes = 64;
  static constexpr uint32_t kept = 5;
  uint32_t promised = 0;
  Memory memory;
  BlockPool<Index> pool;
  std::map<Index, uint8_t> taken;
};

Claim some_claim(Random& random) {
  constexpr Claim claims[] = {Claim::ordinary, Claim::answer, Claim::promised};
  return claims[random.below(3)];
}

}  // namespace

TEST_CASE_TEMPLATE("a block pool holds back what is promised and what is kept, and loses none",
                   Index, uint16_t, uint32_t) {
  PoolUnderTest<Index> test;
  CHECK(test.pool.room() == test.bytes - 4);
  Random random(3);
  for (uint32_t step = 0; step < 20000; ++step) {
    const uint32_t kind = random.below(10);
    if (kind == 0 && test.promised < 10) {
      test.pool.reserve(1);
      test.promised += 1;
    } else if (kind == 1 && test.promised != 0) {
      test.pool.give_back(1);
      test.promised -= 1;
    } else if (kind < 5) {
      test.release_one(random);
    } else {
      test.allocate(some_claim(random), static_cast<uint8_t>(step));
    }
    const uint32_t free = test.limit - static_cast<uint32_t>(test.taken.size());
    const uint32_t held = test.promised + test.kept;
    REQUIRE(test.pool.taken() == test.taken.size());
    REQUIRE(test.pool.available() == (free > held ? free - held : 0));
  }
}

namespace {

constexpr uint32_t small_bytes = 64;
constexpr uint32_t large_bytes = 512;

template <typename Index>
struct BlocksUnderTest {
  explicit BlocksUnderTest(uint32_t small_count, uint32_t large_count)
      : small(small_count * small_bytes), large(large_count * large_bytes) {
    blocks.little.start(small.get(), small_count, small_bytes);
    blocks.big.start(large.get(), large_count, large_bytes);
  }
  uint32_t taken() const { return blocks.little.taken() + blocks.big.taken(); }

  std::string all(const Chain<Index>& chain) const {
    ChainCursor<Index> cursor{chain.first, chain.skip};
    std::string text(chain.size, '\0');
    blocks.copy_out(cursor, reinterpret_cast<uint8_t*>(&text[0]), chain.size);
    return text;
  }
  // The same by next_bytes(), in pieces.
  std::string pieces(const Chain<Index>& chain, Random& random) const {
    ChainCursor<Index> cursor{chain.first, chain.skip};
    std::string text;
    while (text.size() < chain.size) {
      const uint32_t left = chain.size - static_cast<uint32_t>(text.size());
      const uint32_t wanted = std::min(left, 1 + random.below(700));
      const Bytes piece = blocks.next_bytes(cursor, wanted);
      REQUIRE(!piece.empty());
      REQUIRE(piece.size() <= wanted);
      text.append(Text(piece).data(), piece.size());
    }
    return text;
  }

  Memory small;
  Memory large;
  Blocks<Index> blocks;
};

// One step of a chain's life; the reference does the same.
template <typename Index>
void change_chain(BlocksUnderTest<Index>& test, Chain<Index>& chain, std::string& reference,
                  Random& random) {
  switch (random.below(4)) {
    case 0: {
      const std::string more = random_bytes(random, random.below(random.one_in(3) ? 3000 : 100));
      const uint32_t before = chain.size;
      const bool whole =
          test.blocks.append(chain, view(more), random.one_in(2) ? Claim::answer : Claim::ordinary);
      const uint32_t added = chain.size - before;
      REQUIRE(added <= more.size());
      REQUIRE(whole == (added == more.size()));
      reference.append(more, 0, added);
      break;
    }
    case 1: {  // as a read from a socket does
      const mqtt::Buffer space = test.blocks.space(chain, 1 + random.below(2000));
      const uint32_t size = space.empty() ? 0 : random.below(space.size() + 1);
      const std::string more = random_bytes(random, size);
      copy(space.data(), more.data(), size);
      if (!space.empty()) { test.blocks.fill_space(chain, size); }
      reference += more;
      break;
    }
    case 2: {
      const uint32_t size = random.below(chain.size + 1);
      test.blocks.consume(chain, size);
      reference.erase(0, size);
      break;
    }
    default:
      if (random.one_in(10)) {
        test.blocks.clear(chain);
        reference.clear();
      }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("chains give back what was appended, over small and large blocks", Index,
                   uint16_t, uint32_t) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    BlocksUnderTest<Index> test(60 + random.below(60), random.one_in(3) ? 0 : random.below(12));
    constexpr uint32_t chain_count = 4;
    Chain<Index> chains[chain_count];
    std::string references[chain_count];
    for (uint32_t step = 0; step < 500; ++step) {
      const uint32_t i = random.below(chain_count);
      change_chain(test, chains[i], references[i], random);
      REQUIRE(chains[i].size == references[i].size());
      if (chains[i].size != 0) {
        REQUIRE(test.all(chains[i]) == references[i]);
        REQUIRE(test.pieces(chains[i], random) == references[i]);
        const uint32_t at = random.below(chains[i].size);
        ChainCursor<Index> cursor{chains[i].first, chains[i].skip};
        test.blocks.skip(cursor, at);
        REQUIRE(Text(test.blocks.next_bytes(cursor, 1))[0] == references[i][at]);
      }
    }
    for (Chain<Index>& chain : chains) { test.blocks.clear(chain); }
    CHECK(test.taken() == 0);
  }
}

TEST_CASE("what Blocks::needed() promises is enough for a head and three parts") {
  Random random(9);
  for (uint32_t round = 0; round < 3000; ++round) {
    BlocksUnderTest<uint32_t> test(200, random.one_in(4) ? 0 : 30);
    constexpr uint32_t head = 28;
    std::string parts[3];
    uint32_t size = 0;
    for (std::string& part : parts) {
      part.assign(random.below(random.one_in(2) ? 3000 : 200), 'x');
      size += static_cast<uint32_t>(part.size());
    }
    const Blocks<uint32_t>::Need need = test.blocks.needed(head, size);
    Chain<uint32_t> chain;
    chain.first = chain.last = test.blocks.little.allocate(Claim::promised);
    chain.room = static_cast<uint16_t>(test.blocks.little.room() - head);
    uint32_t following = size;
    for (const std::string& part : parts) {
      following -= static_cast<uint32_t>(part.size());
      REQUIRE(test.blocks.append(chain, view(part), Claim::promised, following));
    }
    INFO(parts[0].size() << " + " << parts[1].size() << " + " << parts[2].size());
    REQUIRE(test.blocks.little.taken() <= need.little);
    REQUIRE(test.blocks.big.taken() <= need.big);
  }
}

TEST_CASE("payloads of a kilobyte and more lie in large blocks while there are any") {
  BlocksUnderTest<uint32_t> test(200, 3);
  const std::string payload(4000, 'p');
  Chain<uint32_t> chain;
  CHECK(test.blocks.append(chain, view(payload), Claim::ordinary));
  CHECK(test.blocks.big.taken() == 3);
  CHECK(test.blocks.little.taken() == (4000 - 3 * 508 + 59) / 60);
  CHECK(test.all(chain) == payload);
  test.blocks.clear(chain);
  CHECK(test.taken() == 0);
}

TEST_CASE_TEMPLATE("texts are stored, compared and viewed whole; what does not fit leaves nothing",
                   Index, uint16_t, uint32_t) {
  constexpr uint32_t limit = 60;
  constexpr uint32_t bytes = 16;
  Memory memory(limit * bytes);
  Texts<Index> texts;
  texts.cells().start(memory.get(), limit, bytes);
  std::map<Index, std::string> stored;
  uint8_t scratch[400];
  Random random(4);
  for (uint32_t step = 0; step < 20000; ++step) {
    if (random.one_in(2)) {
      const std::string text = random_bytes(random, random.below(random.one_in(4) ? 300 : 20));
      const uint32_t needed = (2 + static_cast<uint32_t>(text.size()) + 11) / 12;
      const uint32_t before = texts.cells().taken();
      const Index cell = texts.store(text);
      REQUIRE((cell != none<Index>) == (needed <= limit - before));
      REQUIRE(texts.cells().taken() == (cell != none<Index> ? before + needed : before));
      if (cell != none<Index>) { stored[cell] = text; }
    } else if (!stored.empty()) {
      const auto it = std::next(stored.begin(), random.below(static_cast<uint32_t>(stored.size())));
      const std::string& text = it->second;
      REQUIRE(texts.size(it->first) == text.size());
      REQUIRE(texts.equal(it->first, text));
      REQUIRE(texts.view(it->first, scratch) == Text(text));
      REQUIRE(!texts.equal(it->first, text + "x"));
      if (!text.empty()) {
        std::string other = text;
        other[random.below(static_cast<uint32_t>(text.size()))] ^= 1;
        REQUIRE(!texts.equal(it->first, other));
      }
      texts.release(it->first);
      stored.erase(it);
    }
  }
  for (const auto& [cell, text] : stored) { texts.release(cell); }
  CHECK(texts.cells().taken() == 0);
}

namespace {

// A queue with a cursor beside a deque with a position.
template <typename Index>
struct QueueUnderTest {
  explicit QueueUnderTest(uint32_t blocks) : memory(blocks * small_bytes) {
    pool.start(memory.get(), blocks, small_bytes);
    queues.start(pool);
  }
  void push(uint32_t value) {
    Entry<Index> entry;
    entry.number = value;
    const bool takes_block = queues.push_takes_block(queue);
    const bool some = !takes_block || pool.available() != 0;
    const uint32_t before = pool.taken();
    Entry<Index>* pushed = queues.push(queue, entry, Claim::ordinary);
    REQUIRE((pushed != nullptr) == some);
    if (some) {
      REQUIRE(pool.taken() == before + (takes_block ? 1 : 0));
      REQUIRE(queues.back(queue) == pushed);
      reference.push_back(value);
    }
  }
  void pop() {
    if (!reference.empty()) {
      REQUIRE(queues.front(queue)->number == reference.front());
      queues.pop(queue, &cursor);
      reference.pop_front();
      position -= position != 0 ? 1 : 0;
    }
  }
  // Reads an entry and steps behind it, as next_entry() does.
  void step() {
    Entry<Index>* entry = queues.at(queue, cursor);
    REQUIRE((entry != nullptr) == (position < reference.size()));
    if (entry != nullptr) {
      REQUIRE(entry->number == reference[position]);
      cursor.step();
      position += 1;
    }
  }
  void check_all() {
    size_t at = 0;
    queues.for_each(queue, [&](const Entry<Index>& entry) {
      REQUIRE(at < reference.size());
      REQUIRE(entry.number == reference[at++]);
    });
    REQUIRE(at == reference.size());
    REQUIRE(queue.empty() == reference.empty());
    REQUIRE((pool.taken() == 0) == reference.empty());
  }

  Memory memory;
  BlockPool<Index> pool;
  Queues<Index> queues;
  Queue<Index> queue;
  QueuePlace<Index> cursor;
  std::deque<uint32_t> reference;
  size_t position = 0;
};

}  // namespace

TEST_CASE_TEMPLATE("queues keep their order, and a cursor its place while the front is popped",
                   Index, uint16_t, uint32_t) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    QueueUnderTest<Index> test(2 + random.below(8));
    for (uint32_t step = 0; step < 1500; ++step) {
      const uint32_t phase = step / 250 % 3;  // filling, mixed, draining
      const uint32_t kind = random.below(10);
      if (kind < (phase == 0 ? 6U : phase == 1 ? 4U : 2U)) {
        test.push(step);
      } else if (kind < (phase == 0 ? 7U : 8U)) {
        test.pop();
      } else {
        test.step();
      }
      if (step % 8 == 0) { test.check_all(); }
    }
    while (!test.reference.empty()) { test.pop(); }
    test.check_all();
  }
}

TEST_CASE_TEMPLATE("timers give the soonest first, whatever is set, moved and cancelled", Index,
                   uint16_t, uint32_t) {
  constexpr uint32_t limit = 40;
  Memory heap(limit * sizeof(Index));
  Memory places(limit * sizeof(Index));
  Memory ticks(limit * sizeof(Tick));
  Timers<Index> timers;
  timers.start(heap.as<Index>(), places.as<Index>(), ticks.as<Tick>());
  std::map<uint32_t, Tick> reference;
  std::set<uint32_t> known;
  Random random(5);
  CHECK(timers.soonest() == never);
  for (uint32_t step = 0; step < 30000; ++step) {
    const uint32_t item = random.below(limit);
    if (known.insert(item).second) { timers.introduce(item); }
    const Tick tick = random.one_in(20) ? never : 1 + random.below(1000);
    const Tick old = reference.count(item) != 0 ? reference[item] : never;
    REQUIRE(timers.tick(item) == old);
    switch (random.below(3)) {
      case 0:
        timers.set(item, tick);
        reference[item] = tick;
        break;
      case 1:
        timers.set_sooner(item, tick);
        reference[item] = std::min(old, tick);
        break;
      default: timers.cancel(item); reference.erase(item);
    }
    if (reference.count(item) != 0 && reference[item] == never) { reference.erase(item); }
    Tick soonest = never;
    for (const auto& [other, at] : reference) { soonest = std::min(soonest, at); }
    REQUIRE(timers.soonest() == soonest);
    if (soonest != never) { REQUIRE(reference[timers.first()] == soonest); }
  }
}

TEST_CASE("a deadline too far away is none, and none is never reached") {
  CHECK(after_seconds(100, 1) == 100 + ticks_per_second + 1);
  CHECK(after_seconds(100, 0xFFFFFFFF) == never);
  CHECK(after_seconds(100, 0x1FFFFFFF / ticks_per_second + 1) == never);
  CHECK(!reached(never, never));
  CHECK(reached(5, 5));
  CHECK(!reached(4, 5));
}
