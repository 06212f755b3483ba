// A client engine against scripted servers: every packet in every state, limits, time.
#include <doctest/doctest.h>

#include "sim/client_sim.hpp"

using mqtt::Answer;
using mqtt::ClientEventType;
using mqtt::Error;
using mqtt::PropertyId;
using mqtt::Qos;
using mqtt::ReasonCode;
using mqtt::Version;
using sim::Happening;
using sim::Wire;

namespace {

// Answers by hand: packets and bytes to the client, and what the client sent as hex.
template <typename Config = mqtt::ClientConfig>
class Script : public sim::Engine<Config> {
 public:
  using sim::Engine<Config>::Engine;

  template <typename Packet>
  void answer(const Packet& packet) {
    this->in += sim::Client<mqtt::BrokerConfig>::encoded(this->connect.version, packet);
    this->run();
  }
  void answer_hex(const char* hex) {
    this->in += sim::bytes(hex);
    this->run();
  }
  std::string sent() {
    this->run();
    const std::string hex = sim::hex(this->out);
    this->out.clear();
    return hex;
  }
  /// A link whose CONNACK carries these properties; the event is taken.
  Happening go(mqtt::Properties properties = {}, bool session_present = false) {
    this->up();
    this->run();
    this->out.clear();
    mqtt::Connack connack;
    connack.session_present = session_present;
    connack.properties = properties;
    answer(connack);
    return this->take(ClientEventType::connected);
  }
  /// The transport breaks; the event is taken.
  void drop() {
    this->down();
    this->run();
    this->take(ClientEventType::closed);
  }
  bool v5() const { return this->connect.version == Version::v5; }
  void ack(mqtt::PacketType type, uint16_t id, ReasonCode reason = ReasonCode::success) {
    mqtt::Ack packet;
    packet.type = type;
    packet.packet_id = id;
    packet.reason_code = reason;
    answer(packet);
  }
  void wait(mqtt::Millis ms) {
    this->now += ms;
    this->run();
  }
};

const Version versions[] = {Version::v3_1, Version::v3_1_1, Version::v5};
template <typename Test>
void each_version(Test test) {
  for (const Version version : versions) {
    CAPTURE(sim::name(version));
    test(version);
  }
}

enum Where : uint8_t { greeting = 1, online = 2, both = 3 };
struct Refused {
  const char* hex;
  Where where;
  Error error;
};

// In every version.
const Refused refused_by_all[] = {
    {"00 00", both, Error::malformed_type},
    {"10 00", both, Error::protocol_state},
    {"11 00", both, Error::malformed_flags},
    {"20 80 80 80 80 01", both, Error::malformed_integer},
    {"20 82 00 00 00", both, Error::malformed_integer},
    {"20 01 00", greeting, Error::malformed_length},
    {"36 05 00 01 74 00 01", both, Error::malformed_flags},
    {"30 03 00 01 74", greeting, Error::protocol_state},
    {"38 03 00 01 74", online, Error::malformed_flags},
    {"30 03 00 01 23", online, Error::malformed_topic},
    {"30 03 00 01 ff", online, Error::malformed_topic},
    {"32 05 00 01 74 00 00", online, Error::protocol_value},
    {"40 02 00 01", greeting, Error::protocol_state},
    {"40 02 00 00", online, Error::protocol_value},
    {"40 01 00", online, Error::malformed_length},
    {"41 02 00 01", both, Error::malformed_flags},
    {"60 02 00 01", both, Error::malformed_flags},
    {"82 00", both, Error::protocol_state},
    {"90 03 00 01 00", greeting, Error::protocol_state},
    {"90 04 00 01 00 00", online, Error::protocol_state},
    {"90 04 00 00 00 00", online, Error::malformed_packet_id},
    {"a2 00", both, Error::protocol_state},
    {"c0 00", both, Error::protocol_state},
    {"d0 00", greeting, Error::protocol_state},
    {"d0 01 00", online, Error::malformed_length},
};
const Refused refused_by_3[] = {
    {"20 02 00 06", greeting, Error::protocol_reason},
    {"20 02 02 00", greeting, Error::malformed_flags},
    {"20 03 00 00 00", greeting, Error::malformed_length},
    {"20 02 00 00", online, Error::protocol_state},
    {"30 02 00 00", online, Error::malformed_topic},
    {"40 03 00 01 00", online, Error::malformed_length},
    {"e0 00", greeting, Error::protocol_state},
    {"e0 00", online, Error::protocol_direction},
    {"f0 00", both, Error::malformed_type},
    {"b0 02 00 01", online, Error::protocol_state},
};
const Refused refused_by_5[] = {
    {"20 03 00 04 00", greeting, Error::protocol_reason},
    {"20 03 01 80 00", greeting, Error::protocol_value},
    {"20 03 01 00 00", greeting, Error::protocol_value},
    {"20 06 00 00 03 21 00 00", greeting, Error::protocol_value},
    {"20 03 00 00 00", online, Error::protocol_state},
    {"30 03 00 00 00", online, Error::protocol_value},
    {"30 07 00 01 74 03 23 00 00", online, Error::topic_alias_invalid},
    {"30 07 00 01 74 03 23 00 01", online, Error::topic_alias_invalid},
    {"30 06 00 01 74 02 01 02", online, Error::protocol_value},
    {"40 03 00 01 01", online, Error::protocol_reason},
    {"e0 01 04", online, Error::protocol_reason},
    {"f0 00", both, Error::protocol_state},
    {"f0 02 18 00", both, Error::protocol_value},
    {"f0 07 18 05 15 00 02 61 62", both, Error::protocol_state},
    {"b0 04 00 01 00 00", online, Error::protocol_state},
};

void refuse(Version version, const Refused& row, Wire wire) {
  for (const Where where : {greeting, online}) {
    if ((row.where & where) == 0) { continue; }
    CAPTURE(std::string(row.hex));
    CAPTURE(static_cast<int>(where));
    Script<> client(version, {}, wire);
    if (where == online) {
      client.go();
    } else {
      client.up();
      client.sent();
    }
    client.answer_hex(row.hex);
    const Happening event = client.take(ClientEventType::closed);
    CHECK_MESSAGE(event.error == row.error, sim::text(mqtt::text(event.error)));
    CHECK(event.reason == (client.v5() ? mqtt::reason_code(row.error) : ReasonCode::success));
    const bool told = version == Version::v5 && where == online;
    const uint8_t code = mqtt::code(event.reason);
    CHECK(client.sent() ==
          (told ? "e001" + sim::hex(std::string(1, static_cast<char>(code))) : ""));
    CHECK(client->wants_hang_up());
    client.down();
    client.run();
    CHECK(client.events.empty());  // the end is told once
  }
}

}  // namespace

TEST_SUITE_BEGIN("client");

TEST_CASE(
    "what a server may not send ends the link, and 5.0 tells it why [MQTT-4.8.0-1] "
    "[MQTT-4.13.1-1]") {
  each_version([](Version version) {
    for (const Wire wire : {Wire::whole, Wire::bytes_in}) {
      for (const Refused& row : refused_by_all) { refuse(version, row, wire); }
      if (version == Version::v5) {
        for (const Refused& row : refused_by_5) { refuse(version, row, wire); }
      } else {
        for (const Refused& row : refused_by_3) { refuse(version, row, wire); }
      }
    }
  });
}

TEST_CASE("acks with unknown ids are answered or ignored [MQTT-4.3.2-1] [MQTT-4.3.3-1]") {
  each_version([](Version version) {
    Script<> client(version);
    client.go();
    client.answer_hex("40 02 00 07");
    client.answer_hex("70 02 00 07");
    CHECK(client.sent() == "");
    client.answer_hex("50 02 00 07");
    CHECK(client.sent() == (client.v5() ? "6203000792" : "62020007"));
    client.answer_hex("62 02 00 07");
    CHECK(client.sent() == (client.v5() ? "7003000792" : "70020007"));
    CHECK(client.events.empty());
  });
}

TEST_CASE("acks of the wrong handshake end the link [MQTT-4.3.2-1] [MQTT-4.3.3-1]") {
  each_version([](Version version) {
    const struct {
      int qos;
      const char* first;
      const char* second;
    } rows[] = {{1, "50 02 00 01", ""},
                {1, "70 02 00 01", ""},
                {2, "40 02 00 01", ""},
                {2, "70 02 00 01", ""},
                {2, "50 02 00 01", "40 02 00 01"}};
    for (const auto& row : rows) {
      CAPTURE(std::string(row.first));
      Script<> client(version);
      client.go();
      CHECK(client.publish("t", "x", row.qos));
      client.sent();
      client.answer_hex(row.first);
      client.answer_hex(row.second);
      CHECK(client.take(ClientEventType::closed).error == Error::protocol_state);
    }
  });
}

TEST_CASE(
    "the QoS 2 handshake: PUBREL answers each PUBREC, and comes again after a reconnect "
    "[MQTT-4.3.3-4] [MQTT-4.3.3-6] [MQTT-4.4.0-1]") {
  each_version([](Version version) {
    Script<> client(version);
    client.connect.clean_start = false;
    client.go();
    const mqtt::Submission sent = client.publish("t", "x", 2);
    CHECK(client.sent() == (client.v5() ? "340700017400010078"
                                        : "34060001"
                                          "74000178"));
    client.ack(mqtt::PacketType::pubrec, 1);
    client.ack(mqtt::PacketType::pubrec, 1);
    CHECK(client.sent() == "6202000162020001");
    client.drop();
    client.go({}, version != Version::v3_1);
    CHECK(client.sent() == "62020001");
    client.ack(mqtt::PacketType::pubcomp, 1);
    CHECK(client.take(ClientEventType::published).handle == sent.handle);
    CHECK(client->idle());
  });
}

TEST_CASE("a refused message is told with the server's reason [MQTT-4.4.0-2]") {
  Script<> client(Version::v5);
  client.go();
  const mqtt::Submission one = client.publish("t", "x", 1);
  const mqtt::Submission two = client.publish("t", "x", 2);
  client.sent();
  client.ack(mqtt::PacketType::puback, 1, ReasonCode::quota_exceeded);
  client.ack(mqtt::PacketType::pubrec, 2, ReasonCode::not_authorized);
  const Happening first = client.take(ClientEventType::published);
  CHECK(first.handle == one.handle);
  CHECK(first.reason == ReasonCode::quota_exceeded);
  const Happening second = client.take(ClientEventType::published);
  CHECK(second.handle == two.handle);
  CHECK(second.reason == ReasonCode::not_authorized);
  CHECK(client->idle());
}

TEST_CASE(
    "DUP is set only after a reconnect, on what was sent [MQTT-3.3.1-1] [MQTT-4.4.0-1] "
    "[3.1.1 MQTT-2.3.1-3]") {
  each_version([](Version version) {
    Script<> client(version);
    client.connect.clean_start = false;
    client.go();
    CHECK(client.publish("a", "", 1));
    client.run();
    client.out.clear();
    client.window = 3;  // of the second, three bytes leave
    CHECK(client.publish("b", "", 1));
    client.run();
    CHECK(client.publish("c", "", 1));
    client.window = ~uint64_t{0};
    client.drop();
    client.go({}, version != Version::v3_1);
    const std::string tail = client.v5() ? "00" : "";
    const std::string size = client.v5() ? "06" : "05";
    CHECK(client.sent() == "3a" + size + "0001610001" + tail + "3a" + size + "0001620002" + tail +
                               "32" + size + "0001630003" + tail);
  });
}

TEST_CASE(
    "acks go out in the order of what they answer, PUBRELs in that of the PUBRECs "
    "[MQTT-4.6.0-2, MQTT-4.6.0-3, MQTT-4.6.0-4] "
    "[3.1.1 MQTT-4.6.0-2, MQTT-4.6.0-3, MQTT-4.6.0-4]") {
  each_version([](Version version) {
    Script<> client(version);
    client.go();
    const std::string tail = client.v5() ? "00" : "";
    const std::string size = client.v5() ? "06" : "05";
    std::string in;
    for (const char* id : {"05", "03", "04"}) {
      in += "32" + size + "00017400" + id + tail + "34" + size + "00017401" + id + tail;
    }
    client.answer_hex(in.c_str());
    CHECK(client.sent() == "400200055002010540020003500201034002000450020104");
    for (int i = 0; i < 3; ++i) { CHECK(client.publish("t", "", 2)); }
    client.sent();
    client.answer_hex("50 02 00 03 50 02 00 01 50 02 00 02");
    CHECK(client.sent() == "620200036202000162020002");
  });
}

TEST_CASE("a message repeated at QoS 2 is delivered once and acknowledged again [MQTT-4.3.3-10]") {
  each_version([](Version version) {
    Script<> client(version);
    client.connect.clean_start = false;
    client.go();
    const char* const message = client.v5() ? "34 06 00 01 74 00 09 00" : "34 05 00 01 74 00 09";
    client.answer_hex(message);
    CHECK(client.take(ClientEventType::message).qos == Qos::exactly_once);
    client.answer_hex(client.v5() ? "3c 06 00 01 74 00 09 00" : "3c 05 00 01 74 00 09");
    CHECK(client.sent() == "5002000950020009");
    client.drop();
    client.go({}, version != Version::v3_1);
    client.answer_hex(client.v5() ? "3c 06 00 01 74 00 09 00" : "3c 05 00 01 74 00 09");
    client.answer_hex("62 02 00 09");
    CHECK(client.sent() == "5002000970020009");
    CHECK(client.events.empty());
    client.answer_hex(message);  // the id is free: a new message
    client.take(ClientEventType::message);
  });
}

TEST_CASE("a fresh session sends again as new, and tells what it cannot [MQTT-3.2.2-5]") {
  Script<> client(Version::v5);
  client.go();
  const mqtt::Submission released = client.publish("a", "", 2);
  CHECK(client.publish("b", "", 1));
  client.sent();
  client.ack(mqtt::PacketType::pubrec, 1);
  client.answer_hex("34 06 00 01 74 00 09 00");
  client.take(ClientEventType::message);
  client.drop();
  client.go({}, false);
  const Happening lost = client.take(ClientEventType::published);
  CHECK(lost.handle == released.handle);
  CHECK(lost.answer == Answer::session_lost);
  CHECK(client.sent() ==
        "320600016200"
        "0200");  // DUP is not set
  client.answer_hex("34 06 00 01 74 00 09 00");
  client.take(ClientEventType::message);  // the id of the old session is forgotten
}

TEST_CASE("a session must not be present after a clean start [MQTT-3.2.2-2]") {
  Script<> client(Version::v3_1_1);
  client.up();
  client.sent();
  client.answer_hex("20 02 01 00");
  CHECK(client.take(ClientEventType::closed).error == Error::protocol_value);
}

TEST_CASE("a refusal is told with its reason and ends the link [MQTT-3.2.2-6]") {
  each_version([](Version version) {
    Script<> client(version);
    client.up();
    client.sent();
    client.answer_hex(client.v5() ? "20 03 00 87 00" : "20 02 00 05");
    CHECK(client.take(ClientEventType::refused).reason == ReasonCode::not_authorized);
    CHECK(client->wants_hang_up());
    client.down();
    client.run();
    CHECK(client.events.empty());
  });
}

TEST_CASE("SUBACK must answer every filter [MQTT-3.8.4-6] [MQTT-3.8.4-5]") {
  each_version([](Version version) {
    Script<> client(version);
    client.go();
    mqtt::Subscription entries[2];
    entries[0].filter = "a";
    entries[1].filter = "b/#";
    CHECK(client->subscribe(entries));
    CHECK(client->unsubscribe(entries));
    client.sent();
    client.answer_hex(client.v5() ? "90 05 00 01 00 00 01" : "90 04 00 01 00 01");
    const Happening event = client.take(ClientEventType::subscribed);
    CHECK(event.codes == std::vector<uint8_t>{0, 1});
    client.answer_hex(client.v5() ? "b0 05 00 02 00 00 11" : "b0 02 00 02");
    CHECK(client.take(ClientEventType::unsubscribed).codes.size() == (client.v5() ? 2 : 0));
    CHECK(client->subscribe(entries));
    client.sent();
    client.answer_hex(client.v5() ? "90 04 00 03 00 00" : "90 03 00 03 00");
    CHECK(client.take(ClientEventType::closed).error == Error::protocol_value);
  });
}

TEST_CASE("wrong requests change nothing and say why") {
  each_version([](Version version) {
    Script<> client(version);
    client.go();
    CHECK(client.publish("", "x", 1).error == Error::invalid_topic);
    CHECK(client.publish("a/#", "x", 1).error == Error::invalid_topic);
    CHECK(client.publish("a\xFF", "x", 1).error == Error::invalid_topic);
    CHECK(client.publish("a", "x", 3).answer == Answer::invalid);
    CHECK(client.subscribe("").error == Error::invalid_filter);
    CHECK(client.subscribe("a#").error == Error::invalid_filter);
    CHECK(client.subscribe("a/#/b").error == Error::invalid_filter);
    CHECK(client->subscribe({}).answer == Answer::invalid);
    const std::string large(2000, 'x');
    CHECK(client.publish("a", large, 1).answer == Answer::too_big);
    const std::string half(700, 'x');
    CHECK(client.publish("a", half, 1));
    CHECK(client.publish("a", half, 1).answer == Answer::full);
    CHECK(client->idle() == false);
  });
  Script<> client(Version::v5);
  client.go();
  mqtt::Publish packet;
  packet.topic = "t";
  sim::Props alias;
  alias.number(PropertyId::topic_alias, 1);
  packet.properties = alias;
  CHECK(client->publish(packet).answer == Answer::invalid);
  sim::Props identifier;
  identifier.number(PropertyId::subscription_identifier, 1);
  packet.properties = identifier;
  CHECK(client->publish(packet).answer == Answer::invalid);  // [MQTT-3.3.4-6]
  CHECK(client.subscribe("$share/g").error == Error::invalid_filter);
  CHECK(client.sent() == "");
}

TEST_CASE(
    "a CONNECT that cannot be is refused before anything is sent [MQTT-3.1.3-8] "
    "[3.1.1 MQTT-3.1.2-20]") {
  const auto try_it = [](Version version, const std::function<void(mqtt::Connect&)>& change) {
    Script<> client(version);
    change(client.connect);
    return client->start(1);
  };
  CHECK(try_it(Version::v3_1, [](mqtt::Connect& c) { c.client_id = ""; }) == Error::invalid_packet);
  CHECK(try_it(Version::v3_1_1, [](mqtt::Connect& c) {
          c.client_id = "";
          c.clean_start = false;
        }) == Error::invalid_packet);
  CHECK(try_it(Version::v3_1_1, [](mqtt::Connect& c) { c.client_id = ""; }) == Error::none);
  CHECK(try_it(Version::v3_1_1, [](mqtt::Connect& c) { c.has_password = true; }) ==
        Error::invalid_packet);
  CHECK(try_it(Version::v5, [](mqtt::Connect& c) { c.has_password = true; }) == Error::none);
  CHECK(try_it(Version::v5, [](mqtt::Connect& c) { c.has_will = true; }) == Error::invalid_topic);
  const std::string long_id(600, 'x');
  CHECK(try_it(Version::v5, [&](mqtt::Connect& c) { c.client_id = long_id; }) ==
        Error::buffer_too_small);
}

TEST_CASE("CONNECT carries everything it is given [MQTT-3.1.3-1]") {
  Script<> client(Version::v5);
  sim::Props properties;
  properties.number(PropertyId::session_expiry_interval, 5);
  sim::Props will;
  will.number(PropertyId::will_delay_interval, 2);
  client.connect.properties = properties;
  client.connect.keep_alive_s = 10;
  client.connect.has_will = true;
  client.connect.will.topic = "w";
  client.connect.will.payload = mqtt::Text("gone").bytes();
  client.connect.will.qos = Qos::at_least_once;
  client.connect.will.retain = true;
  client.connect.will.properties = will;
  client.connect.has_user_name = client.connect.has_password = true;
  client.connect.user_name = "u";
  client.connect.password = mqtt::Text("p").bytes();
  client.up();
  CHECK(client.sent() ==
        "103000044d51545405ee000a08110000000521001400"
        "06636c69656e74051800000002000177000467"
        "6f6e65000175000170");
}

TEST_CASE(
    "PINGREQ keeps a quiet link alive, and no answer ends it [MQTT-3.1.2-20] [3.1.1 MQTT-3.1.2-23] "
    "[MQTT-3.12.4-1]") {
  each_version([](Version version) {
    Script<> client(version);
    client.connect.keep_alive_s = 100;
    client.now = (uint64_t{1} << 32) - 30000;  // low halves wrap within the test
    client.go();
    CHECK(client->deadline() == client.now + 87500);
    client.wait(87499);
    CHECK(client.sent() == "");
    client.wait(1);
    CHECK(client.sent() == "c000");
    client.answer_hex("d0 00");
    CHECK(client->deadline() == client.now + 87500);
    client.wait(80000);
    CHECK(client.publish("t", "x"));
    client.sent();
    client.wait(7500);
    CHECK(client.sent() == "c000");  // nothing has come in for so long
    client.wait(9999);
    CHECK(client.events.empty());
    client.wait(1);
    const Happening event = client.take(ClientEventType::closed);
    CHECK(event.error == Error::link_closed);
    CHECK(event.reason == ReasonCode::keep_alive_timeout);
    CHECK(client->wants_hang_up());
  });
}

TEST_CASE("the clock may pass 49.7 days and more at once") {
  Script<> client(Version::v3_1_1);
  client.connect.keep_alive_s = 60;
  client.go();
  client.wait((uint64_t{1} << 32) + 52500);
  CHECK(client.sent() == "c000");
  client.answer_hex("d0 00");
  client.wait((uint64_t{3} << 32) + 52500);
  CHECK(client.sent() == "c000");
}

TEST_CASE("a server that does not answer CONNECT is given up") {
  each_version([](Version version) {
    Script<> client(version);
    client.up();
    client.sent();
    CHECK(client->deadline() == client.now + 10000);
    client.wait(10000);
    CHECK(client.take(ClientEventType::closed).error == Error::link_closed);
    CHECK(client->wants_hang_up());
  });
}

TEST_CASE("the server's keep alive is obeyed [MQTT-3.1.2-21] [MQTT-3.2.2-21]") {
  Script<> client(Version::v5);
  client.connect.keep_alive_s = 100;
  sim::Props properties;
  properties.number(PropertyId::server_keep_alive, 8);
  client.go(properties);
  CHECK(client->deadline() == client.now + 7000);
}

TEST_CASE(
    "what CONNACK does not allow is refused with its name [MQTT-3.2.2-11] [MQTT-3.2.2-14] "
    "[MQTT-3.2.2-15]") {
  Script<> client(Version::v5);
  sim::Props limits;
  limits.number(PropertyId::maximum_qos, 1)
      .number(PropertyId::retain_available, 0)
      .number(PropertyId::maximum_packet_size, 40)
      .number(PropertyId::wildcard_subscription_available, 0)
      .number(PropertyId::subscription_identifier_available, 0)
      .number(PropertyId::shared_subscription_available, 0);
  sim::Props identifier;
  identifier.number(PropertyId::subscription_identifier, 7);
  // Queued before the limits are known: told when they are, one by one, the rest goes out.
  const mqtt::Submission two = client.publish("t", "2", 2);
  const mqtt::Submission kept = client.publish("t", "k", 1, true);
  const mqtt::Submission wild = client.subscribe("a/+");
  const mqtt::Submission good = client.publish("t", "g", 1);
  client.go(limits);
  Happening event = client.take(ClientEventType::published);
  CHECK(event.handle == two.handle);
  CHECK(event.answer == Answer::qos_unavailable);
  event = client.take(ClientEventType::published);
  CHECK(event.handle == kept.handle);
  CHECK(event.answer == Answer::retain_unavailable);
  event = client.take(ClientEventType::subscribed);
  CHECK(event.handle == wild.handle);
  CHECK(event.answer == Answer::wildcards_unavailable);
  CHECK(client.events.empty());
  CHECK(client.sent() ==
        "32070001740004"
        "0067");
  CHECK(good.handle == 4);

  CHECK(client.publish("t", "x", 2).answer == Answer::qos_unavailable);
  CHECK(client.publish("t", "x", 0, true).answer == Answer::retain_unavailable);
  CHECK(client.publish("t", std::string(36, 'x')).answer == Answer::too_big);
  CHECK(client.publish("t", std::string(34, 'x')));
  CHECK(client.subscribe("a/#").answer == Answer::wildcards_unavailable);
  CHECK(client.subscribe("$share/g/a").answer == Answer::shared_unavailable);
  CHECK(client.subscribe("a", 0, identifier).answer == Answer::identifiers_unavailable);
  CHECK(client.subscribe("a"));
}

TEST_CASE(
    "no more than Receive Maximum is under way; acks pass what waits [MQTT-4.9.0-2] "
    "[MQTT-3.3.4-7]") {
  Script<> client(Version::v5);
  sim::Props limits;
  limits.number(PropertyId::receive_maximum, 1);
  client.go(limits);
  CHECK(client.publish("a", "", 1));
  CHECK(client.publish("b", "", 2));
  CHECK(client.publish("c", "", 1));
  CHECK(client.sent() ==
        "320600016100"
        "0100");
  client.answer_hex("32 06 00 01 74 00 09 00");
  CHECK(client.sent() == "40020009");
  client.ack(mqtt::PacketType::puback, 1);
  CHECK(client.sent() ==
        "340600016200"
        "0200");
  client.ack(mqtt::PacketType::pubrec, 2);
  CHECK(client.sent() == "62020002");
  client.ack(mqtt::PacketType::pubcomp, 2);
  CHECK(client.sent() ==
        "320600016300"
        "0300");
}

TEST_CASE("a server that exceeds our Receive Maximum is cut off [MQTT-3.3.4-9]") {
  Script<> client(Version::v5);
  client.go();
  for (int id = 1; id <= 20; ++id) {
    client.answer_hex(
        ("34 06 00 01 74 00 " + sim::hex(std::string(1, static_cast<char>(id))) + "00").c_str());
    client.take(ClientEventType::message);
  }
  client.sent();
  client.answer_hex("34 06 00 01 74 00 15 00");
  CHECK(client.take(ClientEventType::closed).error == Error::receive_maximum);
  CHECK(client.sent() == "e00193");
}

TEST_CASE("a server's DISCONNECT is told with its reason and reference") {
  Script<> client(Version::v5);
  client.go();
  mqtt::Disconnect packet;
  packet.reason_code = ReasonCode::use_another_server;
  sim::Props reference;
  reference.text(PropertyId::server_reference, "other:1883");
  packet.properties = reference;
  client.answer(packet);
  const Happening event = client.take(ClientEventType::closed);
  CHECK(event.error == Error::none);
  CHECK(event.reason == ReasonCode::use_another_server);
  CHECK(sim::text(event.list().text(PropertyId::server_reference)) == "other:1883");
  CHECK(client->wants_hang_up());
}

TEST_CASE(
    "authentication goes on until CONNACK, and can begin anew [MQTT-4.12.0-2] "
    "[MQTT-4.12.0-3] [MQTT-4.12.1-1]") {
  Script<> client(Version::v5);
  sim::Props method;
  method.text(PropertyId::authentication_method, "m");
  client.connect.properties = method;
  client.up();
  client.sent();
  sim::Props data;
  data.text(PropertyId::authentication_method, "m").binary(PropertyId::authentication_data, "1");
  CHECK(client->authenticate(ReasonCode::reauthenticate, data) == Answer::queued);
  mqtt::Auth auth;
  auth.reason_code = ReasonCode::continue_authentication;
  auth.properties = data;
  client.sent();
  client.answer(auth);
  CHECK(client.take(ClientEventType::authentication).reason == ReasonCode::continue_authentication);
  CHECK(client->authenticate(ReasonCode::continue_authentication, data) == Answer::queued);
  CHECK(client.sent() == "f00a18081500016d16000131");
  mqtt::Connack connack;
  client.answer(connack);
  client.take(ClientEventType::connected);
  CHECK(client->authenticate(ReasonCode::reauthenticate, data) == Answer::queued);
  CHECK(client.sent() == "f00a19081500016d16000131");
  auth.reason_code = ReasonCode::success;
  client.answer(auth);
  CHECK(client.take(ClientEventType::authentication).reason == ReasonCode::success);
}

TEST_CASE(
    "DISCONNECT leaves before the link ends, and what is queued stays [MQTT-3.14.4-1] "
    "[3.1.1 MQTT-3.14.4-1]") {
  each_version([](Version version) {
    Script<> client(version);
    client.go();
    client.window = 0;
    CHECK(client.publish("t", "x", 1));
    CHECK(client->disconnect() == Answer::queued);
    client.run();
    CHECK_FALSE(client->wants_hang_up());
    client.window = ~uint64_t{0};
    CHECK(client.sent() == "e000");
    CHECK(client->wants_hang_up());
    client.down();
    client.run();
    const Happening event = client.take(ClientEventType::closed);
    CHECK(event.error == Error::none);
    CHECK(event.reason == ReasonCode::success);
    CHECK_FALSE(client->idle());
  });
  Script<> client(Version::v5);
  client.go();
  sim::Props expiry;
  expiry.number(PropertyId::session_expiry_interval, 0);
  CHECK(client->disconnect(ReasonCode::disconnect_with_will, expiry) == Answer::queued);
  CHECK(client.sent() ==
        "e007040511000000"
        "00");
}

TEST_CASE("requests from inside a handler do not touch what is being handled") {
  each_version([](Version version) {
    Script<> client(version, {64, 1024});
    client.go();
    client.handler = [&](const mqtt::ClientEvent& event) {
      if (event.type != ClientEventType::message) { return; }
      const std::string before = sim::text(event.message.payload);
      CHECK(client->publish(event.message));
      mqtt::Subscription entry;
      entry.filter = "b";
      CHECK(client->subscribe({&entry, 1}));
      if (before == "end") { CHECK(client->disconnect() == Answer::queued); }
      CHECK(sim::text(event.message.payload) == before);
    };
    mqtt::Publish packet;
    packet.topic = "a";
    packet.payload = mqtt::Text("one").bytes();
    client.answer(packet);
    client.take(ClientEventType::message);
    packet.payload = mqtt::Text("end").bytes();
    client.answer(packet);
    client.take(ClientEventType::message);
    const std::string sent = client.sent();
    CHECK(sent.substr(sent.size() - 4) == "e000");
    CHECK(client->wants_hang_up());
  });
}

TEST_CASE(
    "packet ids come round and skip what is open; handles do not repeat [MQTT-2.2.1-3] "
    "[3.1.1 MQTT-2.3.1-2]") {
  Script<> client(Version::v3_1_1, {256, 4096});
  client.go();
  const mqtt::Submission first = client.publish("t", "", 1);
  for (uint32_t i = 2; i <= 65535; ++i) {
    const mqtt::Submission sent = client.publish("t", "", 1);
    REQUIRE(sent.handle == i);
    client.run();
    client.out.clear();
    mqtt::Ack ack;
    ack.packet_id = static_cast<uint16_t>(i);
    client.answer(ack);
    REQUIRE(client.take(ClientEventType::published).handle == i);
  }
  CHECK(client.publish("t", "", 1).answer == Answer::full);  // id 1 is still open
  client.ack(mqtt::PacketType::puback, 1);
  CHECK(client.take(ClientEventType::published).handle == first.handle);
  CHECK(client.publish("t", "", 1).handle == 0x10001);
  client.run();
  client.ack(mqtt::PacketType::puback, 1);
  CHECK(client.take(ClientEventType::published).handle == 0x10001);
}

TEST_SUITE_END();
