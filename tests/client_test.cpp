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

TEST_SUITE_END();
