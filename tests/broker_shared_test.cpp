#include <doctest/doctest.h>

#include "sim/broker_sim.hpp"

using sim::Broker;
using sim::hex;
using sim::Packet;
using sim::PacketType;
using sim::PropertyId;
using sim::Props;
using sim::Qos;
using sim::ReasonCode;
using sim::Version;
using sim::Wire;

using Client = sim::Client<mqtt::BrokerConfig>;

namespace {

size_t messages(const Client& client) {
  const size_t count = client.count(PacketType::publish);
  client.clear();
  return count;
}

}  // namespace

TEST_CASE("one member of a group gets each message, in turn [MQTT-4.8.2-3]") {
  sim::each([](Version version, Wire wire) {
    for (int qos = 0; qos < 3; ++qos) {
      Broker<> broker(wire);
      const Client members[] = {broker.connect(version, "a"), broker.connect(version, "b"),
                                broker.connect(version, "c")};
      for (const Client& member : members) { CHECK(member.subscribe("$share/group/t/+", 2) == 2); }
      const auto plain = broker.connect(version, "plain");
      plain.subscribe("t/+", 2);
      const auto publisher = broker.connect(version, "p");
      for (int i = 0; i < 12; ++i) { publisher.publish("t/1", "x", qos); }
      for (const Client& member : members) { CHECK(messages(member) == 4); }
      CHECK(messages(plain) == 12);
      CHECK(broker.statistics().shared_subscriptions == 3);
    }
  });
}

TEST_CASE(
    "groups of other names and filters are groups of their own [MQTT-4.8.2-1, "
    "MQTT-4.8.2-2]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto a = broker.connect(version, "a");
    const auto b = broker.connect(version, "b");
    a.subscribe("$share/one/t", 1);
    b.subscribe("$share/two/t", 1);
    b.subscribe("$share/one/#", 1);
    const auto publisher = broker.connect(version, "p");
    publisher.publish("t", "x", 1);
    CHECK(messages(a) == 1);
    CHECK(messages(b) == 2);
  });
}

TEST_CASE("shared and other subscriptions of one client both deliver [MQTT-4.8.2-3]") {
  Broker<> broker;
  const auto a = broker.connect(Version::v5, "a");
  a.subscribe("$share/one/t", 1, 1);
  a.subscribe("t", 2, 2);
  a.subscribe("#", 0, 3);
  broker.connect(Version::v5, "p").publish("t", "x", 1);
  CHECK(a.count(PacketType::publish) == 2);
  CHECK(a.message().identifiers() == "2 3");
  CHECK(a.message().identifiers() == "1");
}

TEST_CASE("a shared subscription's identifier comes with its messages [MQTT-3.3.4-3]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    for (int qos = 0; qos < 3; ++qos) {
      Broker<> broker(wire);
      const auto a = broker.connect(Version::v5, "a");
      a.subscribe("$share/one/t", 2, 7);
      broker.connect(Version::v5, "p").publish("t", "x", qos);
      CHECK(a.message().identifiers() == "7");
    }
  }
}

TEST_CASE("no retained message comes for a shared subscription [MQTT-4.8.2-3]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    broker.connect(version, "p").publish("t", "x", 1, true);
    const auto a = broker.connect(version, "a");
    a.subscribe("$share/one/t", 1);
    CHECK(a.quiet());
  });
}

TEST_CASE("leaving a group by UNSUBSCRIBE leaves the messages to the others [MQTT-3.10.4-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto a = broker.connect(version, "a");
    const auto b = broker.connect(version, "b");
    a.subscribe("$share/g/t", 1);
    b.subscribe("$share/g/t", 1);
    a.unsubscribe("$share/g/t");
    const auto publisher = broker.connect(version, "p");
    for (int i = 0; i < 4; ++i) { publisher.publish("t", "x", 1); }
    CHECK(messages(a) == 0);
    CHECK(messages(b) == 4);
  });
}

TEST_CASE("what a member has not been sent goes to another when it leaves [MQTT-4.8.2-4]") {
  sim::each([](Version version, Wire wire) {
    for (const bool resumable : {false, true}) {
      Broker<> broker(wire);
      const auto a =
          resumable ? broker.connect_resumable(version, "a") : broker.connect(version, "a");
      a.own_acks();
      a.subscribe("$share/g/t", 2);
      const auto publisher = broker.connect(version, "p");
      for (int i = 0; i < 30; ++i) { publisher.publish("t", std::to_string(i), 2); }
      CHECK(a.count(PacketType::publish) == 20);
      const auto b = broker.connect(version, "b");
      b.subscribe("$share/g/t", 2);
      a.drop();
      // ten were not sent; the twenty at QoS 2 wait for their own client, if it can come back
      CHECK(messages(b) == 10);
      const auto again =
          resumable ? broker.connect_resumable(version, "a") : broker.connect(version, "a");
      CHECK(messages(again) == (resumable ? 20U : 0U));
    }
  });
}

TEST_CASE(
    "QoS 1 messages not acknowledged go to another member when the session ends "
    "[MQTT-4.8.2-5]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto a = broker.connect(version, "a");
    a.own_acks();
    a.subscribe("$share/g/t", 1);
    const auto publisher = broker.connect(version, "p");
    publisher.publish("t", "1", 1);
    publisher.publish("t", "2", 1);
    CHECK(a.count(PacketType::publish) == 2);
    a.ack(PacketType::puback, 1);
    const auto b = broker.connect(version, "b");
    b.subscribe("$share/g/t", 1);
    a.drop();
    CHECK(messages(b) <= 1);  // a session that cannot be resumed need not keep what it has sent
  });
}

TEST_CASE(
    "a member whose quota is used up is passed over while another can take it "
    "[MQTT-4.8.2-3]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto busy = broker.connect(version, "busy");
    const auto free = broker.connect(version, "free");
    busy.own_acks();
    busy.subscribe("$share/g/t", 1);
    const auto publisher = broker.connect(version, "p");
    for (int i = 0; i < 20; ++i) { publisher.publish("t", "x", 1); }
    CHECK(messages(busy) == 20);
    free.subscribe("$share/g/t", 1);
    for (int i = 0; i < 20; ++i) { publisher.publish("t", "x", 1); }
    CHECK(messages(free) == 20);
    CHECK(messages(busy) == 0);
  });
}

TEST_CASE("a member whose transport is blocked is passed over [MQTT-4.8.2-3]") {
  Broker<> broker;
  const auto slow = broker.connect(Version::v5, "slow");
  const auto fast = broker.connect(Version::v5, "fast");
  slow.subscribe("$share/g/t", 0);
  slow.subscribe("noise", 0);
  fast.subscribe("$share/g/t", 0);
  const auto publisher = broker.connect(Version::v5, "p");
  slow.set_window(1);
  publisher.publish("noise", "x");
  for (int i = 0; i < 10; ++i) { publisher.publish("t", "x"); }
  CHECK(messages(fast) == 10);
}

TEST_CASE(
    "with no member online a session keeps the messages; online ones come first "
    "[MQTT-4.8.2-3, MQTT-4.5.0-1]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto a = broker.connect_resumable(version, "a");
    const auto b = broker.connect_resumable(version, "b");
    a.subscribe("$share/g/t", 1);
    b.subscribe("$share/g/t", 1);
    a.drop();
    const auto publisher = broker.connect(version, "p");
    for (int i = 0; i < 4; ++i) { publisher.publish("t", "x", 1); }
    CHECK(messages(b) == 4);
    b.drop();
    for (int i = 0; i < 4; ++i) { publisher.publish("t", "x", 1); }
    const auto c = broker.connect_resumable(version, "a");
    const auto d = broker.connect_resumable(version, "b");
    CHECK(messages(c) + messages(d) == 4);
  });
}

TEST_CASE(
    "a message lies in one queue: the member that keeps it gets it, nobody twice "
    "[MQTT-4.8.2-3]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto publisher = broker.connect(version, "p");
    size_t total = 0;
    for (int round = 0; round < 6; ++round) {
      const auto a = broker.connect_resumable(version, "a");
      total += messages(a);
      a.subscribe("$share/g/t", 1);
      const auto b = broker.connect_resumable(version, "b");
      total += messages(b);
      b.subscribe("$share/g/t", 1);
      for (int i = 0; i < 5; ++i) { publisher.publish("t", "x", 1); }
      round % 2 == 0 ? a.drop() : a.disconnect();
      total += messages(a);
      for (int i = 0; i < 5; ++i) { publisher.publish("t", "x", 1); }
      b.drop();
      total += messages(b);
      for (int i = 0; i < 5; ++i) { publisher.publish("t", "x", 1); }
    }
    const auto a = broker.connect_resumable(version, "a");
    const auto b = broker.connect_resumable(version, "b");
    total += messages(a) + messages(b);
    CHECK(total == 90);
    CHECK(broker.statistics().stored == 0);
  });
}

TEST_CASE("retain as published counts for the member that gets the message [MQTT-3.3.1-13]") {
  Broker<> broker;
  const auto a = broker.connect(Version::v5, "a");
  mqtt::Subscription entry;
  entry.filter = "$share/g/t";
  entry.qos = Qos::at_least_once;
  entry.retain_as_published = true;
  a.subscribe(entry);
  broker.connect(Version::v5, "p").publish("t", "x", 1, true);
  CHECK(a.message().retain);
}
