// Client and broker engines joined by links that break: what is acknowledged is never lost, QoS 2
// is never doubled, order is kept.
#include <doctest/doctest.h>

#include <map>
#include <set>

#include "sim/client_sim.hpp"

using mqtt::Answer;
using mqtt::ClientEventType;
using mqtt::Error;
using mqtt::Qos;
using mqtt::Version;
using sim::Happening;

namespace {

struct SmallConfig : mqtt::ClientConfig {
  static constexpr uint16_t inflight_max = 4;
};

uint32_t number_in(const std::string& payload) {
  return static_cast<uint32_t>(std::stoul(payload.substr(1)));
}

using Node = sim::Joined<SmallConfig>;

void make_resumable(Node& client, const sim::Props& expiry, const char* name) {
  client.connect.client_id = name;
  client.connect.clean_start = false;
  if (client.connect.version == Version::v5) { client.connect.properties = expiry; }
}

// A publisher and a subscriber of numbered messages whose links break at random bytes.
class Torn {
 public:
  Torn(Version version, int qos, uint32_t seed)
      : qos_(qos),
        random_(seed),
        broker_(sim::Wire::pieces),
        source_(broker_, version, {128, 400}, sim::Wire::pieces),
        target_(broker_, version, {128, 400}, sim::Wire::pieces) {
    expiry_.number(mqtt::PropertyId::session_expiry_interval, 3600);
    make_resumable(source_, expiry_, "source");
    make_resumable(target_, expiry_, "target");
    target_.go();
    REQUIRE(target_.subscribe("n/#", 2));
    target_.settle();
    target_.take(ClientEventType::subscribed);
  }

  // Returns how often links were cut.
  uint32_t run(uint32_t messages) {
    uint32_t next = 1;
    uint32_t cuts = 0;
    for (uint32_t turns = 0; !done(next, messages); ++turns) {
      REQUIRE_MESSAGE(turns < 4000000, "stuck at ", next, ", received ", received_.size());
      if (next <= messages && publish(next)) { next += 1; }
      for (Node* node : {&source_, &target_}) {
        if (!node->is_up()) { node->up(); }
        node->step();
        if (node->is_up() && random() % 16 == 0) {
          cuts += 1;
          node->cut();
        }
      }
      take_events();
    }
    return cuts;
  }

  void judge(uint32_t messages) {
    REQUIRE(published_.size() == messages);
    std::set<uint32_t> seen;
    uint32_t last = 0;
    for (const uint32_t number : received_) {
      const bool first_time = seen.insert(number).second;
      CHECK_MESSAGE((first_time || qos_ == 1), "doubled: ", number);
      if (first_time) {
        CHECK_MESSAGE(number == last + 1, "order: ", number, " after ", last);
        last = number;
      }
    }
    CHECK(seen.size() == messages);
  }

 private:
  uint32_t random() {
    random_ = random_ * 1664525U + 1013904223U;
    return random_ >> 16;
  }
  bool done(uint32_t next, uint32_t messages) {
    return next > messages && published_.size() == messages && !received_.empty() &&
           received_.back() == messages && target_->idle();
  }
  bool publish(uint32_t number) {
    const std::string payload = "#" + std::to_string(number) + std::string(random() % 40, '.');
    const mqtt::Submission submission = source_.publish("n/x", payload, qos_);
    if (!submission) {
      CHECK(submission.answer == Answer::full);
      return false;
    }
    CHECK(open_.emplace(submission.handle, number).second);
    return true;
  }
  void take_events() {
    for (; !source_.events.empty(); source_.events.pop_front()) {
      const Happening& event = source_.events.front();
      if (event.type == ClientEventType::published) {
        CHECK(event.answer == Answer::queued);
        REQUIRE(open_.count(event.handle) == 1);
        CHECK(published_.insert(open_[event.handle]).second);
        open_.erase(event.handle);
      } else if (event.type == ClientEventType::closed) {
        CHECK(event.error == Error::link_closed);
      } else {
        CHECK(event.type == ClientEventType::connected);
      }
    }
    for (; !target_.events.empty(); target_.events.pop_front()) {
      const Happening& event = target_.events.front();
      if (event.type == ClientEventType::message) { received_.push_back(number_in(event.payload)); }
      if (event.type == ClientEventType::closed) { CHECK(event.error == Error::link_closed); }
    }
  }

  int qos_;
  uint32_t random_;
  sim::Props expiry_;
  sim::Broker<> broker_;
  Node source_;
  Node target_;
  std::map<uint32_t, uint32_t> open_;
  std::set<uint32_t> published_;
  std::vector<uint32_t> received_;
};

}  // namespace

TEST_SUITE_BEGIN("client session");

TEST_CASE(
    "numbered messages pass a link cut thousands of times: none lost, none doubled at QoS 2, in "
    "order [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.4.0-1] [MQTT-4.6.0-1]") {
  uint32_t seed = 1;
  uint32_t cuts = 0;
  for (const Version version : {Version::v3_1, Version::v3_1_1, Version::v5}) {
    for (const int qos : {1, 2}) {
      for (int round = 0; round < 4; ++round) {
        CAPTURE(sim::name(version));
        CAPTURE(qos);
        CAPTURE(seed);
        Torn torn(version, qos, seed++);
        cuts += torn.run(300);
        torn.judge(300);
      }
    }
  }
  CHECK(cuts > 2000);
}

TEST_SUITE_END();
