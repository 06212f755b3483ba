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

namespace {

struct Will {
  int qos = 0;
  bool retain = false;
  bool clean = true;
  uint32_t delay = 0;
  uint32_t expiry = 0;  // of the session
};

// Connects "a" with a will on "will/a" (v5: also delay, expiry and a user property).
template <typename B>
auto connect_will(B& broker, Version version, const Will& wanted) {
  Props properties;
  Props list;
  if (version == Version::v5) {
    properties.user("z", "1").number(PropertyId::will_delay_interval, wanted.delay);
    properties.text(PropertyId::content_type, "text").user("a", "2");
    list.number(PropertyId::session_expiry_interval, wanted.expiry);
  }
  return broker.connect(version, "a", [&](mqtt::Connect& connect) {
    connect.clean_start = wanted.clean;
    connect.has_will = true;
    connect.will.topic = "will/a";
    connect.will.payload = mqtt::Text("gone").bytes();
    connect.will.qos = static_cast<Qos>(wanted.qos);
    connect.will.retain = wanted.retain;
    connect.will.properties = properties;
    connect.properties = list;
    connect.keep_alive_s = 10;
  });
}

}  // namespace

TEST_CASE(
    "a will is published when the link ends without DISCONNECT 0 "
    "[MQTT-3.1.2-7, MQTT-3.1.2-8, MQTT-3.1.2-14] [3.1.1 MQTT-3.1.2-8]") {
  sim::each([](Version version, Wire wire) {
    for (int qos = 0; qos < 3; ++qos) {
      for (int how = 0; how < 4; ++how) {
        CAPTURE(how);
        Broker<> broker(wire);
        const auto other = broker.connect(version, "s");
        other.subscribe("will/#", 2);
        Will wanted;
        wanted.qos = qos;
        const auto client = connect_will(broker, version, wanted);
        if (how == 0) {
          client.drop();
        } else if (how == 1) {
          broker.seconds(16);  // keep alive
        } else if (how == 2) {
          client.raw_hex("0000");
        } else {
          broker.connect(version, "a");  // takeover
        }
        const Packet got = other.message();
        CHECK(got.topic == "will/a");
        CHECK(got.payload == "gone");
        CHECK(got.qos == static_cast<Qos>(qos));
        CHECK_FALSE(got.retain);
        other.clear();
        broker.seconds(20);
        CHECK(other.quiet());
        broker.connect(version, "a").drop();
        CHECK(other.quiet());
        CHECK(broker.statistics().stored == 0);
      }
    }
  });
}

TEST_CASE(
    "DISCONNECT 0 drops the will [MQTT-3.14.4-3, MQTT-3.1.2-10] "
    "[3.1.1 MQTT-3.14.4-3, MQTT-3.1.2-10]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto other = broker.connect(version, "s");
    other.subscribe("will/#", 2);
    connect_will(broker, version, Will()).disconnect();
    broker.seconds(100);
    CHECK(other.quiet());
    CHECK(broker.statistics().stored == 0);
  });
}

TEST_CASE("DISCONNECT 0x04 and higher codes publish the will [MQTT-3.1.2-8]") {
  for (const ReasonCode code : {ReasonCode::disconnect_with_will, ReasonCode::unspecified_error}) {
    Broker<> broker;
    const auto other = broker.connect(Version::v5, "s");
    other.subscribe("will/#", 2);
    connect_will(broker, Version::v5, Will()).disconnect(code);
    CHECK(other.message().payload == "gone");
  }
}

TEST_CASE("a will with retain 1 is kept as a retained message [MQTT-3.1.2-15]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    Will wanted;
    wanted.retain = true;
    wanted.qos = 1;
    connect_will(broker, version, wanted).drop();
    const auto late = broker.connect(version, "s");
    late.subscribe("will/a", 2);
    const Packet got = late.message();
    CHECK(got.retain);
    CHECK(got.payload == "gone");
  });
}

TEST_CASE("will properties are published in order, without the delay [MQTT-3.1.3-10]") {
  Broker<> broker;
  const auto other = broker.connect(Version::v5, "s");
  other.subscribe("will/#", 2);
  connect_will(broker, Version::v5, Will()).drop();
  const Packet got = other.message();
  CHECK(got.user() == "z=1;a=2;");
  CHECK(got.string(PropertyId::content_type) == "text");
  CHECK_FALSE(got.has(PropertyId::will_delay_interval));
}

TEST_CASE("a will waits for its delay [MQTT-3.1.2-8]") {
  Broker<> broker;
  const auto other = broker.connect(Version::v5, "s");
  other.subscribe("will/#", 2);
  Will wanted;
  wanted.delay = 5;
  wanted.expiry = 100;
  connect_will(broker, Version::v5, wanted).drop();
  broker.pass(4900);
  CHECK(other.quiet());
  broker.pass(400);
  CHECK(other.message().payload == "gone");
  broker.seconds(200);
  CHECK(other.quiet());
  CHECK(broker.statistics().sessions == 1);
}

TEST_CASE("a will whose delay outlasts the session is published at its end [MQTT-3.1.2-8]") {
  Broker<> broker;
  const auto other = broker.connect(Version::v5, "s");
  other.subscribe("will/#", 2);
  Will wanted;
  wanted.delay = 1000;
  wanted.expiry = 5;
  connect_will(broker, Version::v5, wanted).drop();
  broker.pass(5500);
  CHECK(other.message().payload == "gone");
  wanted.expiry = 0;
  connect_will(broker, Version::v5, wanted).drop();
  CHECK(other.message().payload == "gone");
  wanted.expiry = 100;
  connect_will(broker, Version::v5, wanted).drop();
  CHECK(other.quiet());
  broker.connect(Version::v5, "a");  // clean start ends the session
  CHECK(other.message().payload == "gone");
}

TEST_CASE("a client that comes back within the delay takes its will back [MQTT-3.1.3-9]") {
  Broker<> broker;
  const auto other = broker.connect(Version::v5, "s");
  other.subscribe("will/#", 2);
  Will wanted;
  wanted.delay = 5;
  wanted.expiry = 100;
  connect_will(broker, Version::v5, wanted).drop();
  broker.seconds(2);
  const auto again = broker.connect_resumable(Version::v5, "a");
  CHECK(broker.last_connack.session_present);
  broker.seconds(20);
  again.drop();
  broker.seconds(20);
  CHECK(other.quiet());
  CHECK(broker.statistics().stored == 0);
}

TEST_CASE(
    "takeover of a session that goes on keeps a delayed will back, not one without delay "
    "[MQTT-3.1.3-9, MQTT-3.1.2-8]") {
  Broker<> broker;
  const auto other = broker.connect(Version::v5, "s");
  other.subscribe("will/#", 2);
  Will wanted;
  wanted.clean = false;
  wanted.expiry = 100;
  connect_will(broker, Version::v5, wanted);
  wanted.delay = 5;
  connect_will(broker, Version::v5, wanted);
  CHECK(other.message().payload == "gone");
  connect_will(broker, Version::v5, wanted);
  broker.seconds(8);
  CHECK(other.quiet());
  wanted.clean = true;
  connect_will(broker, Version::v5, wanted);
  CHECK(other.message().payload == "gone");
}

TEST_CASE("the newest CONNECT's will counts [MQTT-3.1.2-7]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto other = broker.connect(version, "s");
    other.subscribe("#", 0);
    Will wanted;
    wanted.clean = false;
    wanted.expiry = 100;
    connect_will(broker, version, wanted).disconnect();
    const auto client = broker.connect_resumable(version, "a", [](mqtt::Connect& c) {
      c.has_will = true;
      c.will.topic = "other";
    });
    client.drop();
    CHECK(other.message().topic == "other");
    CHECK(other.quiet());
  });
}

TEST_CASE("message expiry of a will counts from its publication [MQTT-3.3.2-6]") {
  Broker<> broker;
  const auto other = broker.connect(Version::v5, "s");
  other.subscribe("will/#", 2);
  Props list;
  list.number(PropertyId::message_expiry_interval, 7);
  const auto client = broker.connect(Version::v5, "a", [&](mqtt::Connect& c) {
    c.has_will = true;
    c.will.topic = "will/x";
    c.will.properties = list;
  });
  broker.seconds(60);
  client.drop();
  CHECK(other.message().number(PropertyId::message_expiry_interval) == 7);
}

TEST_CASE("wills are not published when the server shuts down [MQTT-3.1.2-8]") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    const auto other = broker.connect(version, "s");
    other.subscribe("will/#", 2);
    connect_will(broker, version, Will());
    broker.stop();
    CHECK(other.count(PacketType::publish) == 0);
  });
}

TEST_CASE(
    "a will above the QoS or without the retain support of the server refuses the CONNECT "
    "[MQTT-3.2.2-12, MQTT-3.2.2-13]") {
  sim::each([](Version version, Wire wire) {
    mqtt::BrokerLimits limits = sim::small_limits();
    limits.maximum_qos = Qos::at_least_once;
    limits.retain_available = false;
    Broker<> broker(wire, limits);
    const auto loud = broker.start(version, "a", [](mqtt::Connect& c) {
      c.has_will = true;
      c.will.topic = "t";
      c.will.qos = Qos::exactly_once;
    });
    const auto kept = broker.start(version, "b", [](mqtt::Connect& c) {
      c.has_will = true;
      c.will.topic = "t";
      c.will.retain = true;
    });
    if (version == Version::v5) {
      CHECK(loud.take(PacketType::connack).reason == ReasonCode::qos_not_supported);
      CHECK(kept.take(PacketType::connack).reason == ReasonCode::retain_not_supported);
    } else {
      CHECK(loud.link().all_in.empty());
      CHECK(kept.link().all_in.empty());
    }
    CHECK(loud.hung_up());
    CHECK(kept.hung_up());
    CHECK(broker.statistics().sessions == 0);
  });
}

TEST_CASE("a will reaches a client that is away, and a large one comes whole [MQTT-4.5.0-1]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    Broker<> broker(wire);
    const auto other = broker.connect_resumable(Version::v5, "s");
    other.subscribe("will/#", 1);
    other.drop();
    const std::string payload(7000, 'w');
    const auto client = broker.connect(Version::v3_1_1, "a", [&](mqtt::Connect& c) {
      c.has_will = true;
      c.will.topic = "will/large";
      c.will.payload = mqtt::Text(payload).bytes();
      c.will.qos = Qos::at_least_once;
    });
    client.drop();
    const auto again = broker.connect_resumable(Version::v5, "s");
    CHECK((again.message().payload == payload));
  }
}
