#include <doctest/doctest.h>

#include "sim/client_sim.hpp"

using mqtt::Answer;
using mqtt::ClientEventType;
using mqtt::Error;
using sim::Happening;

TEST_SUITE_BEGIN("client");

TEST_CASE("a client connects, subscribes, publishes at every QoS, receives and disconnects") {
  sim::each([](mqtt::Version version, sim::Wire wire) {
    sim::Broker<> broker(wire);
    sim::Joined<> client(broker, version, {}, wire);
    CHECK(client.publish("t", "x").answer == Answer::offline);
    client.go();
    CHECK(client->online());
    const mqtt::Submission subscription = client.subscribe("a/+", 2);
    client.settle();
    const Happening subscribed = client.take(ClientEventType::subscribed);
    CHECK(subscribed.handle == subscription.handle);
    CHECK(subscribed.codes == std::vector<uint8_t>{2});
    for (int qos = 0; qos < 3; ++qos) {
      const mqtt::Submission sent = client.publish("a/b", "hello", qos);
      REQUIRE(sent);
      CHECK((sent.handle != 0) == (qos != 0));
      client.settle();
      bool published = qos == 0;
      bool received = false;
      while (!client.events.empty()) {
        const Happening event = client.next();
        if (event.type == ClientEventType::published) {
          CHECK(event.handle == sent.handle);
          CHECK(event.answer == Answer::queued);
          CHECK_FALSE(mqtt::failed(event.reason));
          published = true;
        } else {
          REQUIRE(event.type == ClientEventType::message);
          CHECK(event.topic == "a/b");
          CHECK(event.payload == "hello");
          CHECK(event.qos == static_cast<mqtt::Qos>(qos));
          received = true;
        }
      }
      CHECK(published);
      CHECK(received);
      CHECK(client->idle());
    }
    REQUIRE(client.unsubscribe("a/+"));
    client.settle();
    client.take(ClientEventType::unsubscribed);
    CHECK(client->disconnect() == Answer::queued);
    client.settle();
    CHECK(client.take(ClientEventType::closed).error == Error::none);
    CHECK_FALSE(client.is_up());
  });
}

namespace {

// A transport over a simulated broker's link.
struct Wires {
  explicit Wires(sim::Broker<>& b, mqtt::Version v) : broker(b), version(v) {}

  int32_t dial(uint32_t attempt) {
    dials.push_back(broker.now);
    if (attempt < refusals) { return -1; }
    link = &broker.open(version).link();
    link->decodes = false;
    seen = 0;
    return 1;
  }
  int32_t receive(uint8_t* target, size_t size) {
    broker.run();
    const size_t count = std::min(size, link->all_in.size() - seen);
    memcpy(target, link->all_in.data() + seen, count);
    seen += count;
    return count == 0 && !link->open ? -1 : static_cast<int32_t>(count);
  }
  int32_t transmit(const uint8_t* source, size_t size) {
    link->out.append(reinterpret_cast<const char*>(source), size);
    return static_cast<int32_t>(size);
  }
  void hang_up() {
    if (link != nullptr) { broker.drop(*link); }
    link = nullptr;
  }

  sim::Broker<>& broker;
  mqtt::Version version;
  uint32_t refusals = 0;
  std::vector<mqtt::Millis> dials;
  sim::Link* link = nullptr;
  size_t seen = 0;
};
struct Time {
  explicit Time(sim::Broker<>& b) : broker(b) {}
  uint64_t now_ms() const { return broker.now; }
  uint32_t random() { return seed = seed * 1664525U + 1013904223U; }
  sim::Broker<>& broker;
  uint32_t seed = 1;
};
using TestClient = mqtt::Client<Wires, Time>;

std::string heard;

}  // namespace

TEST_CASE("Client calls the handlers of matching filters, and subscribes again when forgotten") {
  for (const mqtt::Version version :
       {mqtt::Version::v3_1, mqtt::Version::v3_1_1, mqtt::Version::v5}) {
    sim::Broker<> broker;
    Wires wires(broker, version);
    Time time(broker);
    mqtt::Connect connect;
    connect.version = version;
    connect.client_id = "c";
    TestClient client(wires, time, connect);
    client.start();
    heard.clear();
    CHECK(client.subscribe("a/#", mqtt::Qos::at_least_once, [](const mqtt::ClientEvent& event) {
      heard += sim::text(event.message.payload);
    }));
    client.run_once();
    CHECK(client.online());
    CHECK(client.publish("a/b", "1", mqtt::Qos::at_least_once));
    client.run_once();
    CHECK(heard == "1");
    broker.drop(*wires.link);
    client.run_once();
    CHECK_FALSE(client.online());
    CHECK(client.publish("a/b", "2", mqtt::Qos::at_least_once));
    broker.now = client.deadline();
    client.run_once();
    CHECK(client.online());
    client.run_once();
    CHECK(client.publish("a/b", "3", mqtt::Qos::at_least_once));
    client.run_once();
    CHECK(heard.back() == '3');
    CHECK(wires.dials.size() == 2);
    CHECK(client.disconnect() == Answer::queued);
    client.run_once();
    CHECK(wires.link == nullptr);
    CHECK(client.deadline() == ~mqtt::Millis{0});
  }
}

TEST_CASE(
    "Client waits longer and longer between dials, at random, and begins anew after a good link") {
  sim::Broker<> broker;
  Wires wires(broker, mqtt::Version::v3_1_1);
  wires.refusals = 9;
  Time time(broker);
  mqtt::Connect connect;
  connect.client_id = "c";
  TestClient client(wires, time, connect);
  CHECK(client.deadline() == ~mqtt::Millis{0});
  client.start();
  uint32_t failures = 0;
  for (mqtt::Millis wait = 1000; failures < 9; wait = std::min<mqtt::Millis>(wait * 2, 60000)) {
    mqtt::ClientEvent event;
    REQUIRE(client.next_event(event));
    CHECK(event.type == ClientEventType::closed);
    CHECK(event.error == Error::link_closed);
    CHECK_FALSE(client.next_event(event));
    CHECK(client.deadline() >= broker.now + wait / 2);
    CHECK(client.deadline() <= broker.now + wait);
    CHECK(wires.dials.size() == ++failures);
    broker.now = client.deadline();
  }
  client.run_once();
  CHECK(client.online());
  broker.pass(59000);
  broker.drop(*wires.link);  // kicked soon after: a failure like any other
  client.run_once();
  CHECK(client.deadline() >= broker.now + 30000);
  broker.now = client.deadline();
  client.run_once();
  CHECK(client.online());
  broker.pass(60000);
  broker.drop(*wires.link);
  client.run_once();
  CHECK(client.deadline() <= broker.now + 1000);
}

TEST_CASE("Client subscribes again exactly when the server has no session") {
  for (const bool clean : {false, true}) {
    sim::Broker<> broker;
    Wires wires(broker, mqtt::Version::v3_1_1);
    Time time(broker);
    mqtt::Connect connect;
    connect.version = mqtt::Version::v3_1_1;
    connect.client_id = "c";
    connect.clean_start = clean;
    TestClient client(wires, time, connect);
    uint32_t subscribed = 0;
    const auto count = [&subscribed](const mqtt::ClientEvent& event) {
      subscribed += event.type == ClientEventType::subscribed ? 1 : 0;
    };
    CHECK(client.subscribe("a", mqtt::Qos::at_most_once));
    CHECK(client.subscribe("b", mqtt::Qos::at_most_once));
    CHECK(client.unsubscribe("b"));
    client.start();
    client.run_once(count);
    client.run_once(count);
    CHECK(subscribed == 2);
    broker.drop(*wires.link);
    client.run_once(count);
    broker.now = client.deadline();
    client.run_once(count);
    client.run_once(count);
    CHECK(client.online());
    CHECK(subscribed == (clean ? 3 : 2));
    for (uint32_t i = 1; i < 8; ++i) {
      static std::string filters[8];
      filters[i] = "f" + std::to_string(i);
      CHECK(client.subscribe(filters[i], mqtt::Qos::at_most_once));
    }
    CHECK(client.subscribe("too many", mqtt::Qos::at_most_once).answer == Answer::full);
  }
}

TEST_CASE("Client tells a subscription that a new server does not allow") {
  struct Canned {  // CONNACK, SUBACK; then a server without wildcards
    int32_t dial(uint32_t) { return 1; }
    int32_t receive(uint8_t* target, size_t size) {
      const size_t count = std::min(size, in.size());
      memcpy(target, in.data(), count);
      in.erase(0, count);
      return gone ? -1 : static_cast<int32_t>(count);
    }
    int32_t transmit(const uint8_t* source, size_t size) {
      if (*source == 0x82) { in += sim::bytes("90 04 00 01 00 00"); }
      return static_cast<int32_t>(size);
    }
    void hang_up() { gone = false; }
    std::string in = sim::bytes("20 03 00 00 00");
    bool gone = false;
  };
  sim::Broker<> broker;
  Time time(broker);
  Canned server;
  mqtt::Connect connect;
  mqtt::Client<Canned, Time> client(server, time, connect);
  std::vector<Answer> answers;
  const auto note = [&answers](const mqtt::ClientEvent& event) {
    if (event.type != ClientEventType::subscribed) { return; }
    answers.push_back(event.answer);
    CHECK((event.answer == Answer::queued || sim::text(event.message.topic) == "a/#"));
  };
  CHECK(client.subscribe("a/#", mqtt::Qos::at_most_once));
  client.start();
  client.run_once(note);
  server.gone = true;
  client.run_once(note);
  server.in = sim::bytes("20 05 00 00 02 28 00");
  broker.now = client.deadline();
  client.run_once(note);
  client.run_once(note);
  CHECK(answers == std::vector<Answer>{Answer::queued, Answer::wildcards_unavailable});
}

TEST_CASE("Client gives up a dial that takes too long, and one that is not wanted any more") {
  struct Slow {
    int32_t dial(uint32_t) { return 0; }
    int32_t receive(uint8_t*, size_t) { return -1; }
    int32_t transmit(const uint8_t*, size_t) { return -1; }
    void hang_up() { hung_up += 1; }
    uint32_t hung_up = 0;
  };
  sim::Broker<> broker;
  Time time(broker);
  Slow slow;
  mqtt::Connect connect;
  mqtt::Client<Slow, Time> client(slow, time, connect);
  client.start();
  mqtt::ClientEvent event;
  CHECK_FALSE(client.next_event(event));
  CHECK(client.deadline() == broker.now + 10000);
  broker.now += 10000;
  CHECK(client.next_event(event));
  CHECK(slow.hung_up == 1);
  broker.now = client.deadline();
  CHECK_FALSE(client.next_event(event));
  CHECK(client.disconnect() == Answer::offline);
  CHECK(slow.hung_up == 2);
  CHECK(client.deadline() == ~mqtt::Millis{0});
}

TEST_CASE("Client tells a CONNECT that cannot be") {
  sim::Broker<> broker;
  Wires wires(broker, mqtt::Version::v3_1_1);
  Time time(broker);
  mqtt::Connect connect;
  connect.version = mqtt::Version::v3_1;  // which has no empty client id
  TestClient client(wires, time, connect);
  client.start();
  mqtt::ClientEvent event;
  REQUIRE(client.next_event(event));
  CHECK(event.type == ClientEventType::closed);
  CHECK(event.error == Error::invalid_packet);
}

TEST_CASE("a request is answered by its correlation data") {
  uint8_t scratch[64];
  mqtt::Publish request;
  request.topic = "sum";
  request.properties = mqtt::request_properties(scratch, "answers", mqtt::Text("7").bytes());
  uint8_t other[64];
  const mqtt::Publish answer = mqtt::answer_to(request, mqtt::Text("4").bytes(), other);
  CHECK(sim::text(answer.topic) == "answers");
  CHECK(sim::text(mqtt::correlation_of(answer)) == "7");
  uint8_t small[4];
  CHECK(mqtt::request_properties(small, "answers", mqtt::Bytes()).empty());
  CHECK(mqtt::answer_to(mqtt::Publish(), mqtt::Bytes(), other).topic.empty());
}

TEST_SUITE_END();
