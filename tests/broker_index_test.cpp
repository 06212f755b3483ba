// The broker's indexes against `matches`: random filters and topics, also where hashes collide.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "mqtt.hpp"

namespace {

using mqtt::Text;
using mqtt::detail::FilterIndex;
using mqtt::detail::FilterNode;
using mqtt::detail::hash_bytes;
using mqtt::detail::none;
using mqtt::detail::RetainedCursor;
using mqtt::detail::RetainedIndex;
using mqtt::detail::RetainedNode;
using mqtt::detail::Texts;

constexpr uint32_t seed_of_all = 2026;

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

// Levels of which two and two have the same hash: a birthday attack with the seed known.
const std::vector<std::string>& colliding_levels() {
  static const std::vector<std::string> levels = [] {
    std::vector<std::string> found;
    std::map<uint32_t, std::string> seen;
    Random random(1);
    while (found.size() < 6) {
      const std::string level =
          "c" + std::to_string(random.below(1000000)) + std::to_string(random.below(1000000));
      const Text text = level;
      const uint32_t hash = hash_bytes(text.bytes(), seed_of_all).low;
      const auto [it, fresh] = seen.emplace(hash, level);
      if (!fresh && it->second != level) {
        found.push_back(it->second);
        found.push_back(level);
      }
    }
    return found;
  }();
  return levels;
}

// Few different levels, so that filters and topics meet; empty ones and '$' among them.
std::string random_level(Random& random) {
  static const char* const levels[] = {"", "a", "b", "c", "ab", "$a", "$SYS", "longer level", "d"};
  if (random.one_in(8)) {
    return colliding_levels()[random.below(static_cast<uint32_t>(colliding_levels().size()))];
  }
  return levels[random.below(sizeof levels / sizeof levels[0])];
}

std::string random_topic(Random& random) {
  std::string topic;
  do {
    topic.clear();
    const uint32_t count = 1 + random.below(random.one_in(10) ? 8 : 4);
    for (uint32_t i = 0; i < count; ++i) { topic += (i != 0 ? "/" : "") + random_level(random); }
  } while (topic.empty());
  return topic;
}

std::string random_filter(Random& random, bool may_share) {
  std::string filter;
  do {
    filter.clear();
    const uint32_t count = 1 + random.below(random.one_in(10) ? 8 : 4);
    for (uint32_t i = 0; i < count; ++i) {
      filter += i != 0 ? "/" : "";
      if (i + 1 == count && random.one_in(4)) {
        filter += "#";
      } else {
        filter += random.one_in(4) ? "+" : random_level(random);
      }
    }
  } while (filter.empty());
  if (may_share && random.one_in(5)) {
    return "$share/" + std::string(1, static_cast<char>('g' + random.below(3))) + "/" + filter;
  }
  return filter;
}

bool matches_whole(const std::string& filter, const std::string& topic) {
  return mqtt::matches(mqtt::split_shared(filter).filter, topic);
}

template <typename Index>
class FiltersUnderTest {
 public:
  FiltersUnderTest(uint32_t filters, uint32_t nodes, uint32_t levels, uint32_t cells = 4000)
      : filters_(new mqtt::detail::Filter<Index>[filters]),
        nodes_(new FilterNode<Index>[nodes]),
        heads_(new Index[nodes]),
        cells_(new uint8_t[cells * 32]),
        hashes_(new mqtt::detail::Hash[levels]),
        stack_(new mqtt::detail::WalkStep<Index>[levels + 2]),
        found_(new Index[filters]) {
    index.filters.start(filters_.get(), filters);
    index.nodes.start(nodes_.get(), nodes);
    index.directory.start(heads_.get(), nodes);
    texts.cells().start(cells_.get(), cells, 32);
    index.texts = &texts;
    index.scratch = scratch_;
    index.hashes = hashes_.get();
    index.stack = stack_.get();
    index.levels_max = levels;
    index.seed = seed_of_all;
  }
  // What match() finds, sorted.
  std::vector<std::string> match(const std::string& topic) {
    const uint32_t count = index.match(topic, found_.get());
    std::vector<std::string> texts_found;
    for (uint32_t i = 0; i < count; ++i) {
      const Text text = index.text(found_[i]);
      texts_found.emplace_back(text.data(), text.size());
    }
    std::sort(texts_found.begin(), texts_found.end());
    return texts_found;
  }

  FilterIndex<Index> index;
  Texts<Index> texts;

 private:
  std::unique_ptr<mqtt::detail::Filter<Index>[]> filters_;
  std::unique_ptr<FilterNode<Index>[]> nodes_;
  std::unique_ptr<Index[]> heads_;
  std::unique_ptr<uint8_t[]> cells_;
  std::unique_ptr<mqtt::detail::Hash[]> hashes_;
  std::unique_ptr<mqtt::detail::WalkStep<Index>[]> stack_;
  std::unique_ptr<Index[]> found_;
  uint8_t scratch_[1000];
};

std::vector<std::string> expected_of(const std::map<std::string, uint32_t>& filters,
                                     const std::string& topic) {
  std::vector<std::string> expected;
  for (const auto& [filter, handle] : filters) {
    if (matches_whole(filter, topic)) { expected.push_back(filter); }
  }
  return expected;
}

}  // namespace

TEST_CASE("two levels with one hash can be found, so that the tests below meet them") {
  REQUIRE(colliding_levels().size() >= 4);
}

TEST_CASE_TEMPLATE("the filter index finds what `matches` says, no more and no less", Index,
                   uint16_t, uint32_t) {
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    FiltersUnderTest<Index> test(400, 1600, 12);
    std::map<std::string, uint32_t> filters;
    for (uint32_t step = 0; step < 1500; ++step) {
      const std::string filter = random_filter(random, true);
      const auto it = filters.find(filter);
      const Index known = test.index.find(filter);
      REQUIRE((known != none<Index>) == (it != filters.end()));
      const bool grow = random.below(100) < (step < 900 ? 80U : 20U);
      const uint32_t version = test.index.version;
      if (it == filters.end() && grow && filters.size() < 300) {
        const Index fresh = test.index.insert(filter);
        REQUIRE(fresh != none<Index>);
        REQUIRE(test.index.text(fresh) == Text(filter));
        REQUIRE(test.index.version != version);
        filters[filter] = fresh;
      } else if (it != filters.end()) {
        REQUIRE(known == it->second);
        test.index.remove(known);
        REQUIRE(test.index.version != version);
        filters.erase(it);
      }
      const std::string topic = random_topic(random);
      CAPTURE(topic);
      REQUIRE(test.match(topic) == expected_of(filters, topic));
    }
    for (const auto& [filter, handle] : filters) { test.index.remove(static_cast<Index>(handle)); }
    CHECK(test.index.nodes.count() == 0);
    CHECK(test.index.filters.count() == 0);
    CHECK(test.index.wildcard_filters == 0);
    CHECK(test.texts.cells().taken() == 0);
  }
}

TEST_CASE("a filter for which there is no room changes nothing") {
  Random random(77);
  for (uint32_t round = 0; round < 40; ++round) {
    // each table in turn is the one that is too small
    FiltersUnderTest<uint16_t> test(round % 3 == 0 ? 10 : 200, round % 3 == 1 ? 20 : 900, 12,
                                    round % 3 == 2 ? 30 : 2000);
    std::map<std::string, uint32_t> filters;
    uint32_t refused = 0;
    for (uint32_t step = 0; step < 200; ++step) {
      const std::string filter = random_filter(random, true);
      if (filters.count(filter) != 0) {
        if (random.one_in(3)) {
          test.index.remove(static_cast<uint16_t>(filters[filter]));
          filters.erase(filter);
        }
        continue;
      }
      const uint32_t nodes = test.index.nodes.count();
      const uint32_t cells = test.texts.cells().taken();
      const uint16_t fresh = test.index.insert(filter);
      if (fresh == none<uint16_t>) {
        refused += 1;
        REQUIRE(test.index.nodes.count() == nodes);
        REQUIRE(test.texts.cells().taken() == cells);
      } else {
        filters[filter] = fresh;
      }
      const std::string topic = random_topic(random);
      REQUIRE(test.match(topic) == expected_of(filters, topic));
    }
    CHECK(refused != 0);
    for (const auto& [filter, handle] : filters) {
      test.index.remove(static_cast<uint16_t>(handle));
    }
    CHECK(test.index.nodes.count() == 0);
    CHECK(test.texts.cells().taken() == 0);
  }
}

TEST_CASE("topics deeper than any filter are walked no further than filters go") {
  FiltersUnderTest<uint32_t> test(8, 64, 4);
  for (const char* const filter : {"a/#", "+/+/+/+", "a/b/c/#", "#"}) {
    REQUIRE(test.index.insert(filter) != none<uint32_t>);
  }
  std::string topic = "a/b/c/d";
  CHECK(test.match(topic).size() == 4);
  for (uint32_t i = 0; i < 500; ++i) {
    topic += "/x";
    REQUIRE(test.match(topic).size() == 3);
  }
}

TEST_CASE("root wildcards do not match $-topics, whatever stands below [MQTT-4.7.2-1]") {
  FiltersUnderTest<uint32_t> test(16, 64, 8);
  for (const char* const filter :
       {"#", "+/#", "+/a", "$SYS/#", "$SYS/+", "$share/g/#", "$share/g/$SYS/#"}) {
    REQUIRE(test.index.insert(filter) != none<uint32_t>);
  }
  const std::vector<std::string> expected = {"$SYS/#", "$SYS/+", "$share/g/$SYS/#"};
  CHECK(test.match("$SYS/a") == expected);
}

namespace {

// The index with, as message, the number of the topic.
template <typename Index>
class RetainedUnderTest {
 public:
  explicit RetainedUnderTest(uint32_t nodes)
      : nodes_(new RetainedNode<Index>[nodes]), heads_(new Index[nodes]) {
    index.nodes.start(nodes_.get(), nodes);
    index.directory.start(heads_.get(), nodes);
    index.seed = seed_of_all;
  }
  // False when the table is full.
  bool retain(const std::string& topic) {
    const Index node = index.at_path(topic, true);
    if (node == none<Index>) { return false; }
    if (index.nodes[node].message == none<Index>) {
      index.nodes[node].message = static_cast<Index>(topics.size());
      topics.push_back(topic);
      return true;
    }
    REQUIRE(topics[index.nodes[node].message] == topic);
    return true;
  }
  void clear(const std::string& topic) {
    const Index node = index.at_path(topic, false);
    REQUIRE(node != none<Index>);
    REQUIRE(topics[index.nodes[node].message] == topic);
    index.nodes[node].message = none<Index>;
    index.prune(node);
  }
  // The next topic that matches, as the engine does it; empty at the end.
  std::string next(const std::string& filter, RetainedCursor<Index>& cursor) {
    while (index.advance(filter, cursor)) {
      const std::string& topic = topics[index.nodes[cursor.node].message];
      if (mqtt::matches(filter, topic)) { return topic; }
    }
    return std::string();
  }
  std::multiset<std::string> walk(const std::string& filter) {
    RetainedCursor<Index> cursor;
    std::multiset<std::string> found;
    for (std::string topic = next(filter, cursor); !topic.empty(); topic = next(filter, cursor)) {
      found.insert(topic);
    }
    REQUIRE(cursor.node == none<Index>);
    return found;
  }

  RetainedIndex<Index> index;
  std::vector<std::string> topics;  // by message

 private:
  std::unique_ptr<RetainedNode<Index>[]> nodes_;
  std::unique_ptr<Index[]> heads_;
};

// Without colliding levels when those are another test's.
std::string plain_topic(Random& random) {
  std::string topic;
  do { topic = random_topic(random); } while (topic.find('c') != std::string::npos);
  return topic;
}

std::multiset<std::string> expected_topics(const std::set<std::string>& topics,
                                           const std::string& filter) {
  std::multiset<std::string> expected;
  for (const std::string& topic : topics) {
    if (mqtt::matches(filter, topic)) { expected.insert(topic); }
  }
  return expected;
}

}  // namespace

TEST_CASE_TEMPLATE("a walk over retained topics visits what `matches` says, each once", Index,
                   uint16_t, uint32_t) {
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    RetainedUnderTest<Index> test(1500);
    std::set<std::string> topics;
    for (uint32_t step = 0; step < 1200; ++step) {
      const std::string topic = plain_topic(random);
      if (random.below(100) < (step < 800 ? 75U : 25U)) {
        REQUIRE(test.retain(topic));
        topics.insert(topic);
      } else if (topics.count(topic) != 0) {
        test.clear(topic);
        topics.erase(topic);
      }
      if (step % 4 == 0) {
        const std::string filter = random_filter(random, false);
        CAPTURE(filter);
        REQUIRE(test.walk(filter) == expected_topics(topics, filter));
      }
    }
    for (const std::string& topic : topics) { test.clear(topic); }
    CHECK(test.index.nodes.count() == 0);
    CHECK(test.index.root_child == none<Index>);
  }
}

TEST_CASE("retained topics whose levels have one hash are kept apart") {
  const std::vector<std::string>& levels = colliding_levels();
  RetainedUnderTest<uint32_t> test(100);
  std::set<std::string> topics;
  for (size_t i = 0; i + 1 < levels.size(); i += 2) {
    for (const std::string& level : {levels[i], levels[i + 1]}) {
      for (const std::string& topic : {level, "a/" + level, level + "/b"}) {
        REQUIRE(test.retain(topic));
        topics.insert(topic);
      }
    }
  }
  for (const std::string filter : {"#", "+", "a/#", "+/b", "+/+"}) {
    CAPTURE(filter);
    CHECK(test.walk(filter) == expected_topics(topics, filter));
  }
  for (const std::string& topic : topics) {
    CAPTURE(topic);
    CHECK(test.walk(topic) == expected_topics(topics, topic));
    test.clear(topic);
  }
  CHECK(test.index.nodes.count() == 0);
}

TEST_CASE("a topic for which there is no room leaves no node behind") {
  RetainedUnderTest<uint16_t> test(10);
  Random random(3);
  uint32_t refused = 0;
  for (uint32_t step = 0; step < 500; ++step) {
    const uint32_t nodes = test.index.nodes.count();
    const std::string topic = plain_topic(random);
    if (!test.retain(topic)) {
      refused += 1;
      REQUIRE(test.index.nodes.count() == nodes);
    } else if (random.one_in(3)) {
      test.clear(topic);
    }
  }
  CHECK(refused != 0);
}

TEST_CASE_TEMPLATE("cursors survive that nodes go and come while they stand there", Index, uint16_t,
                   uint32_t) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    RetainedUnderTest<Index> test(1500);
    std::set<std::string> topics;
    std::set<std::string> always;
    for (uint32_t i = 0; i < 150; ++i) {
      const std::string topic = plain_topic(random);
      REQUIRE(test.retain(topic));
      topics.insert(topic);
      if (i % 3 == 0) { always.insert(topic); }
    }
    constexpr uint32_t cursor_count = 4;
    RetainedCursor<Index> cursors[cursor_count];
    std::string filters[cursor_count];
    std::multiset<std::string> found[cursor_count];
    for (uint32_t i = 0; i < cursor_count; ++i) {
      filters[i] = random.one_in(2) ? "#" : random_filter(random, false);
    }
    bool running[cursor_count] = {true, true, true, true};
    for (uint32_t step = 0; step < 2000; ++step) {
      const uint32_t i = random.below(cursor_count);
      if (random.one_in(2) && running[i]) {
        const std::string topic = test.next(filters[i], cursors[i]);
        running[i] = !topic.empty();
        if (running[i]) {
          REQUIRE(topics.count(topic) == 1);
          found[i].insert(topic);
        }
        continue;
      }
      const std::string topic = plain_topic(random);
      if (topics.count(topic) != 0 && always.count(topic) == 0) {
        test.clear(topic);
        topics.erase(topic);
      } else if (random.one_in(4)) {
        REQUIRE(test.retain(topic));
        topics.insert(topic);
      }
    }
    for (uint32_t i = 0; i < cursor_count; ++i) {
      test.index.stop(cursors[i]);
      for (const std::string& topic : always) {
        CAPTURE(filters[i]);
        CAPTURE(topic);
        const bool due = !running[i] && mqtt::matches(filters[i], topic);
        REQUIRE(found[i].count(topic) <= 1);
        REQUIRE(found[i].count(topic) >= (due ? 1U : 0U));
      }
    }
    for (const std::string& topic : topics) { test.clear(topic); }
    CHECK(test.index.nodes.count() == 0);
  }
}
