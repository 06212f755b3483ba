// A client with any feature left out compiles, and talks what is left.
#include <doctest/doctest.h>

#include "sim/client_sim.hpp"

namespace {

// Hooks that nothing is sent through.
struct Net {
  int32_t dial(uint32_t) { return -1; }
  int32_t receive(uint8_t*, size_t) { return -1; }
  int32_t transmit(const uint8_t*, size_t) { return -1; }
  void hang_up() {}
};
struct Clock {
  uint64_t now_ms() { return 0; }
  uint32_t random() { return 0; }
};
struct NoV31 : mqtt::ClientFeatures {
  static constexpr bool v3_1 = false;
};
struct NoV311 : mqtt::ClientFeatures {
  static constexpr bool v3_1_1 = false;
};
struct NoV5 : mqtt::ClientFeatures {
  static constexpr bool v5 = false;
};
struct NoQos2 : mqtt::ClientFeatures {
  static constexpr bool qos_2 = false;
};
struct NoWills : mqtt::ClientFeatures {
  static constexpr bool wills = false;
};
struct NoStreaming : mqtt::ClientFeatures {
  static constexpr bool streaming = false;
};
struct NoAliases : mqtt::ClientFeatures {
  static constexpr bool topic_aliases = false;
};
struct NoAuth : mqtt::ClientFeatures {
  static constexpr bool enhanced_auth = false;
};
struct Least : NoV5 {
  static constexpr bool v3_1 = false;
  static constexpr bool qos_1 = false;
  static constexpr bool qos_2 = false;
  static constexpr bool wills = false;
  static constexpr bool streaming = false;
};
template <typename F>
struct With : mqtt::ClientConfig {
  using Features = F;
};

// Connects, subscribes and publishes at the highest QoS there is; the message comes back.
template <typename Features>
void talk(mqtt::Version version, int qos) {
  CAPTURE(sim::name(version));
  sim::Broker<> broker;
  sim::Joined<With<Features>> client(broker, version, {256, 512, 512});
  client.go();
  REQUIRE(client.subscribe("a", qos));
  client.settle();
  client.take(mqtt::ClientEventType::subscribed);
  REQUIRE(client.publish("a", "x", qos));
  client.settle();
  CHECK(client.count(mqtt::ClientEventType::message) == 1);
  CHECK(client.count(mqtt::ClientEventType::published) == (qos == 0 ? 0 : 1));
  CHECK(client->idle());
  CHECK(client->disconnect() == mqtt::Answer::queued);
  client.settle();
  CHECK(client.events.back().type == mqtt::ClientEventType::closed);
}

}  // namespace

template class mqtt::ClientEngine<>;
template class mqtt::Client<Net, Clock>;
template class mqtt::Client<Net, Clock, With<Least>>;

TEST_SUITE_BEGIN("client");

TEST_CASE("a client with a feature left out talks what is left") {
  for (const mqtt::Version version :
       {mqtt::Version::v3_1, mqtt::Version::v3_1_1, mqtt::Version::v5}) {
    if (version != mqtt::Version::v3_1) { talk<NoV31>(version, 2); }
    if (version != mqtt::Version::v3_1_1) { talk<NoV311>(version, 2); }
    if (version != mqtt::Version::v5) { talk<NoV5>(version, 2); }
    talk<NoQos2>(version, 1);
    talk<NoWills>(version, 2);
    talk<NoStreaming>(version, 2);
    talk<NoAliases>(version, 2);
    talk<NoAuth>(version, 2);
  }
  talk<Least>(mqtt::Version::v3_1_1, 0);
}

TEST_CASE("what is left out is refused") {
  sim::Engine<With<NoQos2>> qos(mqtt::Version::v3_1_1);
  CHECK(qos.publish("a", "", 2).error == mqtt::Error::invalid_packet);
  sim::Engine<With<NoWills>> will(mqtt::Version::v3_1_1);
  will.connect.has_will = true;
  will.connect.will.topic = "w";
  CHECK(will->start(1) == mqtt::Error::invalid_packet);
  sim::Engine<With<NoAuth>> auth(mqtt::Version::v5);
  CHECK(auth->authenticate(mqtt::ReasonCode::reauthenticate, {}) == mqtt::Answer::invalid);
  sim::Engine<> stream(mqtt::Version::v5);
  mqtt::NoSource none;
  CHECK(stream->publish(mqtt::Publish(), 1, none).answer == mqtt::Answer::invalid);
}

TEST_SUITE_END();
