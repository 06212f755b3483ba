// What a policy denies, decides later or never, and what it sees.
#include <doctest/doctest.h>

#include "sim/broker_sim.hpp"

using sim::bytes;
using sim::hex;
using sim::Packet;
using sim::PacketType;
using sim::PropertyId;
using sim::Props;
using sim::Qos;
using sim::ReasonCode;
using sim::Version;
using sim::Wire;

using Broker = sim::Broker<sim::PolicyConfig>;
using Client = sim::Client<sim::PolicyConfig>;

namespace {

void connect_later(Broker& broker) {
  broker.policy.connect = [](const mqtt::Connect&, mqtt::ConnectAnswer& answer) {
    answer.later = true;
  };
}

// Publishes on "later/…" are decided later, on "deny/…" refused.
void publish_later(Broker& broker) {
  broker.policy.publish = [](const mqtt::ClientView&, const mqtt::Publish& packet,
                             mqtt::PublishAnswer& answer) {
    answer.later = sim::text(packet.topic).substr(0, 5) == "later";
    if (sim::text(packet.topic).substr(0, 4) == "deny") {
      answer.reason = ReasonCode::not_authorized;
    }
  };
}

void prefix_all(Broker& broker) {
  broker.policy.connect = [](const mqtt::Connect& connect, mqtt::ConnectAnswer& answer) {
    if (sim::text(connect.client_id)[0] == 'm') { answer.topic_prefix = "mount/"; }
  };
}

// Challenge and response: data "1" → challenge "2", data "3" → success with "4", else 0x87.
void answer_auth(mqtt::Properties properties, mqtt::ConnectAnswer& answer) {
  mqtt::Property data;
  const std::string got = properties.find(PropertyId::authentication_data, data)
                              ? sim::text(data.bytes)
                              : std::string();
  if (got == "1") {
    answer.reason = ReasonCode::continue_authentication;
    answer.authentication_data = mqtt::Text("2").bytes();
  } else if (got == "3") {
    answer.authentication_data = mqtt::Text("4").bytes();
  } else {
    answer.reason = ReasonCode::not_authorized;
  }
}
void enhance(Broker& broker) {
  broker.policy.connect = [](const mqtt::Connect& connect, mqtt::ConnectAnswer& answer) {
    if (!connect.properties.has(PropertyId::authentication_method)) { return; }
    if (sim::text(connect.properties.text(PropertyId::authentication_method)) != "M") {
      answer.reason = ReasonCode::bad_authentication_method;
      return;
    }
    answer_auth(connect.properties, answer);
  };
  broker.policy.authenticate = [](const mqtt::Auth& auth, mqtt::ConnectAnswer& answer) {
    answer_auth(auth.properties, answer);
  };
}

Client start_auth(Broker& broker, mqtt::Text method, mqtt::Text data) {
  Props list;
  list.text(PropertyId::authentication_method, method);
  list.binary(PropertyId::authentication_data, data);
  return broker.start(Version::v5, "a", [&](mqtt::Connect& c) { c.properties = list; });
}
void send_auth(const Client& client, ReasonCode reason, mqtt::Text method, mqtt::Text data) {
  Props list;
  list.text(PropertyId::authentication_method, method);
  list.binary(PropertyId::authentication_data, data);
  mqtt::Auth auth;
  auth.reason_code = reason;
  auth.properties = list;
  client.send(auth);
}
// Through the whole exchange to an open connection.
Client authenticated(Broker& broker) {
  const Client client = start_auth(broker, "M", "1");
  const Packet challenge = client.take(PacketType::auth);
  CHECK(challenge.reason == ReasonCode::continue_authentication);
  CHECK(challenge.string(PropertyId::authentication_method) == "M");
  CHECK(challenge.binary(PropertyId::authentication_data) == "2");
  send_auth(client, ReasonCode::continue_authentication, "M", "3");
  const Packet connack = client.take(PacketType::connack);
  CHECK(connack.reason == ReasonCode::success);
  CHECK(connack.string(PropertyId::authentication_method) == "M");
  CHECK(connack.binary(PropertyId::authentication_data) == "4");
  return client;
}

}  // namespace

TEST_CASE("a CONNECT denied gets CONNACK with the code and the end [MQTT-3.1.4-2, MQTT-3.2.2-8]") {
  sim::each([](Version version, Wire wire) {
    struct Row {
      ReasonCode reason;
      const char* old;
    };
    const Row rows[] = {{ReasonCode::not_authorized, "20020005"},
                        {ReasonCode::bad_user_name_or_password, "20020004"},
                        {ReasonCode::server_unavailable, "20020003"},
                        {ReasonCode::banned, "20020005"}};
    for (const Row& row : rows) {
      Broker broker(wire);
      broker.policy.connect = [&row](const mqtt::Connect&, mqtt::ConnectAnswer& answer) {
        answer.reason = row.reason;
        answer.reason_string = "because";
      };
      const Client client = broker.start(version, "a");
      CHECK(client.hung_up());
      if (version == Version::v5) {
        const Packet connack = client.take(PacketType::connack);
        CHECK(connack.reason == row.reason);
        CHECK(connack.string(PropertyId::reason_string) == "because");
      } else {
        CHECK(hex(client.link().all_in) == row.old);
      }
      CHECK(broker.statistics().sessions == 0);
      CHECK(broker.policy.connected.empty());
      CHECK(broker.policy.disconnected.empty());
    }
  });
}

TEST_CASE("the policy sees user name, password and properties of the CONNECT [MQTT-3.1.2-17]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    std::string seen;
    broker.policy.connect = [&seen](const mqtt::Connect& connect, mqtt::ConnectAnswer&) {
      seen = sim::text(connect.client_id) + "|" + sim::text(connect.user_name) + "|" +
             sim::text(connect.password);
    };
    broker.connect(version, "a", [](mqtt::Connect& c) {
      c.has_user_name = true;
      c.user_name = "user";
      c.has_password = true;
      c.password = mqtt::Text("secret").bytes();
    });
    CHECK(seen == "a|user|secret");
  });
}

TEST_CASE(
    "a CONNECT decided later: nothing is sent before, what came meanwhile is handled after "
    "[MQTT-3.2.0-1]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    connect_later(broker);
    const Client client = broker.start(version, "a");
    mqtt::Subscription entry;
    entry.filter = "t";
    mqtt::Subscribe subscribe;
    subscribe.packet_id = 1;
    subscribe.filters = entry;
    client.send(subscribe);
    client.publish("t", "early");
    CHECK(client.link().all_in.empty());
    CHECK(broker.engine().answer_connect(client.id(), mqtt::ConnectAnswer(), broker.now));
    broker.run();
    CHECK(client.take(PacketType::connack).reason == ReasonCode::success);
    client.take(PacketType::suback);
    CHECK(client.message().payload == "early");
  });
}

TEST_CASE(
    "packets in the same bytes as a CONNECT decided later are handled after it "
    "[MQTT-3.1.4-5]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    connect_later(broker);
    const Client client = broker.open(version);
    mqtt::Connect connect;
    connect.client_id = "a";
    client.put_packet(connect);
    client.raw_hex("c000c000");
    CHECK(client.link().all_in.empty());
    CHECK(broker.engine().answer_connect(client.id(), mqtt::ConnectAnswer(), broker.now));
    broker.run();
    CHECK(client.take(PacketType::connack).reason == ReasonCode::success);
    CHECK(client.count(PacketType::pingresp) == 2);
  });
}

TEST_CASE("a CONNECT denied later [MQTT-3.1.4-2, MQTT-3.1.4-6]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    connect_later(broker);
    const Client client = broker.start(version, "a");
    client.raw_hex("c000");
    mqtt::ConnectAnswer answer;
    answer.reason = ReasonCode::not_authorized;
    CHECK(broker.engine().answer_connect(client.id(), answer, broker.now));
    broker.run();
    CHECK(hex(client.link().all_in) == (version == Version::v5 ? "2003008700" : "20020005"));
    CHECK(client.hung_up());
    CHECK(broker.engine().answer_connect(client.id(), answer, broker.now));  // too late: ignored
  });
}

TEST_CASE(
    "a CONNECT that is never decided ends at the time limit, one lost meanwhile is "
    "forgotten [MQTT-3.1.4-2]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    connect_later(broker);
    const Client client = broker.start(version, "a");
    const Client lost = broker.start(version, "b");
    lost.drop();
    CHECK(broker.engine().answer_connect(lost.id(), mqtt::ConnectAnswer(), broker.now));
    broker.pass(29500);
    CHECK_FALSE(client.closed());
    broker.pass(1000);
    CHECK(client.hung_up());
    CHECK(client.count(PacketType::disconnect) == 0);
    CHECK(broker.statistics().blocks == 0);
    CHECK(broker.statistics().connections == 0);
  });
}

TEST_CASE(
    "a PUBLISH denied: PUBACK or PUBREC 0x87; before 5.0 acknowledged and discarded "
    "[MQTT-4.3.3-9] [3.1.1 MQTT-3.3.5-2]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    publish_later(broker);
    const Client other = broker.connect(version, "s");
    other.subscribe("#", 2);
    const Client client = broker.connect(version, "p");
    client.own_acks();
    client.publish("deny/t", "x", 0);
    CHECK(client.quiet());
    const ReasonCode told =
        version == Version::v5 ? ReasonCode::not_authorized : ReasonCode::success;
    client.publish("deny/t", "x", 1);
    CHECK(client.take(PacketType::puback).reason == told);
    for (int i = 0; i < 30; ++i) {  // the id is free again, also as to the Receive Maximum
      mqtt::Publish packet;
      packet.topic = "deny/t";
      packet.qos = Qos::exactly_once;
      packet.packet_id = 77;
      client.send(packet);
      CHECK(client.take(PacketType::pubrec).reason == told);
      if (version != Version::v5) {
        client.ack(PacketType::pubrel, 77);
        CHECK(client.take(PacketType::pubcomp).packet_id == 77);
      }
    }
    CHECK(other.quiet());
    CHECK_FALSE(client.closed());
    client.publish("allow", "x", 1);
    CHECK(other.message().topic == "allow");
  });
}

TEST_CASE("large PUBLISH packets are asked about too [3.1.1 MQTT-3.3.5-2]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    publish_later(broker);
    const Client other = broker.connect(version, "s");
    other.subscribe("#", 2);
    const Client client = broker.connect(version, "p");
    for (int qos = 0; qos < 3; ++qos) { client.publish("deny/t", std::string(6000, 'x'), qos); }
    CHECK(other.quiet());
    CHECK(broker.statistics().large_blocks == 0);
  });
}

TEST_CASE("the policy sees the properties of a PUBLISH whole [MQTT-3.3.2-17]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in}) {
    for (int qos = 0; qos < 3; ++qos) {
      Broker broker(wire);
      std::string seen;
      broker.policy.publish = [&seen](const mqtt::ClientView& view, const mqtt::Publish& packet,
                                      mqtt::PublishAnswer&) {
        seen = sim::text(view.client_id) + " " + sim::text(packet.topic) + " ";
        mqtt::Property property;
        for (mqtt::Properties rest = packet.properties; rest.next(property);) {
          if (property.id == PropertyId::user_property) {
            seen += sim::text(property.text) + "=" + sim::text(property.value) + ";";
          }
        }
      };
      Props list;
      list.user("a", "1").number(PropertyId::message_expiry_interval, 9).user("b", "2");
      list.number(PropertyId::topic_alias, 1);
      mqtt::Publish packet;
      packet.topic = "t";
      packet.qos = static_cast<Qos>(qos);
      packet.properties = list;
      const Client client = broker.connect(Version::v5, "p");
      client.publish(packet);
      CHECK(seen == "p t a=1;b=2;");
      packet.topic = mqtt::Text();
      client.publish(packet);
      CHECK(seen == "p t a=1;b=2;");
    }
  }
}

TEST_CASE(
    "a PUBLISH decided later holds its ack and those of QoS > 0 behind it, in order "
    "[MQTT-4.6.0-6, MQTT-4.3.2-4]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    publish_later(broker);
    const Client other = broker.connect(version, "s");
    other.subscribe("#", 2);
    const Client client = broker.connect(version, "p");
    const uint16_t first = client.publish("later/1", "1", 1);
    client.publish("now", "2", 1);
    const uint16_t third = client.publish("later/3", "3", 2);
    client.publish("deny/4", "4", 1);
    client.raw_hex("c000");
    client.take(PacketType::pingresp);
    CHECK(client.quiet());
    CHECK(other.quiet());
    broker.engine().answer_publish(client.id(), third, ReasonCode::success, broker.now);
    broker.run();
    CHECK(client.quiet());
    broker.engine().answer_publish(client.id(), first, ReasonCode::success, broker.now);
    broker.run();
    CHECK(client.take(PacketType::puback).packet_id == first);
    CHECK(client.take(PacketType::puback).packet_id == first + 1);
    CHECK(client.take(PacketType::pubrec).packet_id == third);
    CHECK(client.take(PacketType::puback).reason ==
          (version == Version::v5 ? ReasonCode::not_authorized : ReasonCode::success));
    CHECK(other.message().payload == "1");
    CHECK(other.message().payload == "2");
    CHECK(other.message().payload == "3");
    other.take(PacketType::pubrel);
    CHECK(other.quiet());
    CHECK(broker.statistics().stored == 0);
  });
}

TEST_CASE("a PUBLISH denied later is not delivered [MQTT-4.3.3-9]") {
  sim::each([](Version version, Wire wire) {
    for (int qos = 1; qos < 3; ++qos) {
      Broker broker(wire);
      publish_later(broker);
      const Client other = broker.connect(version, "s");
      other.subscribe("#", 2);
      const Client client = broker.connect(version, "p");
      const uint16_t id = client.publish("later", "x", qos);
      client.publish("later", "x", qos);
      broker.engine().answer_publish(client.id(), id, ReasonCode::not_authorized, broker.now);
      broker.run();
      const Packet ack = client.next();
      CHECK(ack.packet_id == id);
      CHECK(ack.reason ==
            (version == Version::v5 ? ReasonCode::not_authorized : ReasonCode::success));
      CHECK(other.quiet());
      client.drop();
      CHECK(broker.statistics().stored == 0);
    }
  });
}

TEST_CASE(
    "a PUBLISH never decided is answered 0x83 at the time limit, close before 5.0 "
    "[MQTT-4.8.0-2] [3.1.1 MQTT-4.8.0-2]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    publish_later(broker);
    const Client client = broker.connect(version, "p");
    const uint16_t id = client.publish("later", "x", 1);
    client.publish("behind", "x", 1);
    broker.pass(29500);
    CHECK(client.quiet());
    broker.pass(1000);
    if (version == Version::v5) {
      const Packet ack = client.take(PacketType::puback);
      CHECK(ack.packet_id == id);
      CHECK(ack.reason == ReasonCode::implementation_specific_error);
      CHECK_FALSE(mqtt::failed(client.take(PacketType::puback).reason));
    } else {
      CHECK(client.hung_up());
    }
    CHECK(broker.statistics().stored == 0);
  });
}

TEST_CASE("held messages count against the Receive Maximum [MQTT-3.3.4-7]") {
  Broker broker;
  publish_later(broker);
  const Client client = broker.connect(Version::v5, "p");
  for (int i = 0; i < 20; ++i) { client.publish("later", "x", 1); }
  CHECK_FALSE(client.closed());
  client.publish("later", "x", 1);
  CHECK(client.cut_off(ReasonCode::receive_maximum_exceeded));
}

TEST_CASE(
    "a SUBSCRIBE denied: 0x87, 0x80 in 3.1.1, granted in 3.1 but without messages "
    "[MQTT-3.8.4-7]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    broker.policy.subscribe = [](const mqtt::ClientView&, const mqtt::Subscription& entry) {
      return sim::text(entry.filter) == "no" ? ReasonCode::not_authorized : ReasonCode::success;
    };
    const Client publisher = broker.connect(version, "p");
    publisher.publish("no", "kept", 0, true);
    const Client client = broker.connect(version, "s");
    const uint8_t code = client.subscribe("no", 1);
    if (version == Version::v3_1) {
      CHECK(code <= 1);
    } else {
      CHECK(code == (version == Version::v5 ? 0x87 : 0x80));
    }
    CHECK(client.subscribe("yes", 1) == 1);
    publisher.publish("no", "x");
    publisher.publish("yes", "x");
    CHECK(client.message().topic == "yes");
    CHECK(client.quiet());
  });
}

TEST_CASE(
    "what may not be delivered is left out, live, retained and shared "
    "[MQTT-3.3.2-3]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    broker.policy.deliver = [](const mqtt::ClientView& view, mqtt::Text topic) {
      return sim::text(view.client_id) != "weak" || sim::text(topic) != "secret";
    };
    const Client publisher = broker.connect(version, "p");
    publisher.publish("secret", "1", 1, true);
    publisher.publish("open", "1", 1, true);
    const Client weak = broker.connect(version, "weak");
    const Client strong = broker.connect(version, "strong");
    weak.subscribe("+", 1);
    strong.subscribe("+", 1);
    CHECK(weak.message().topic == "open");
    CHECK(strong.count(PacketType::publish) == 2);
    strong.clear();
    publisher.publish("secret", "2", 1);
    publisher.publish("open", "2", 1);
    CHECK(weak.message().topic == "open");
    CHECK(weak.quiet());
    CHECK(strong.count(PacketType::publish) == 2);
    strong.clear();
    weak.subscribe("$share/g/secret", 1);
    strong.unsubscribe("+");
    strong.subscribe("$share/g/secret", 1);
    for (int i = 0; i < 4; ++i) { publisher.publish("secret", "3", 1); }
    CHECK(weak.quiet());
    CHECK(strong.count(PacketType::publish) == 4);  // the member that may have them
  });
}

TEST_CASE("a will is asked about like every PUBLISH [MQTT-3.1.2-8]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    publish_later(broker);
    const Client other = broker.connect(version, "s");
    other.subscribe("#");
    for (const char* topic : {"deny/will", "allow/will"}) {
      const Client client = broker.connect(version, "a", [topic](mqtt::Connect& c) {
        c.has_will = true;
        c.will.topic = topic;
      });
      client.drop();
    }
    CHECK(other.message().topic == "allow/will");
    CHECK(other.quiet());
  });
}

TEST_CASE(
    "a topic prefix is put before and taken off, for all that carries topics "
    "[MQTT-3.3.2-3]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    prefix_all(broker);
    const Client outside = broker.connect(version, "o");
    outside.subscribe("#", 2);
    const Client inside = broker.connect(version, "m1");
    for (int qos = 0; qos < 3; ++qos) {
      inside.publish("t/1", "x", qos, true);
      CHECK(outside.message().topic == "mount/t/1");
      outside.clear();
    }
    const Client second = broker.connect(version, "m2");
    second.subscribe("t/+", 1);
    CHECK(second.message().topic == "t/1");
    second.subscribe("$share/g/u", 1);
    for (int qos = 0; qos < 3; ++qos) {
      outside.publish("mount/t/2", "y", qos);
      CHECK(second.message().topic == "t/2");
      outside.publish("t/2", "no", qos);
      outside.publish("mount/u", "z", qos);
      CHECK(second.message().topic == "u");
    }
    CHECK(second.quiet());
    second.unsubscribe("t/+");
    outside.publish("mount/t/2", "y");
    CHECK(second.quiet());
    inside.publish("long", std::string(5000, 'x'), 1);
    outside.clear();
    const Client dying = broker.connect(version, "m3", [](mqtt::Connect& c) {
      c.has_will = true;
      c.will.topic = "will";
    });
    dying.drop();
    CHECK(outside.message().topic == "mount/will");
  });
}

TEST_CASE("aliases work with a topic prefix both ways [MQTT-3.3.2-7, MQTT-3.3.2-12]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    Broker broker(wire);
    prefix_all(broker);
    Props most;
    most.number(PropertyId::topic_alias_maximum, 5);
    const Client inside =
        broker.connect(Version::v5, "m1", [&](mqtt::Connect& c) { c.properties = most; });
    const Client outside = broker.connect(Version::v5, "o");
    outside.subscribe("mount/#");
    inside.subscribe("t");
    Props alias;
    alias.number(PropertyId::topic_alias, 3);
    mqtt::Publish packet;
    packet.topic = "t";
    packet.properties = alias;
    for (int i = 0; i < 3; ++i) {
      inside.publish(packet);
      packet.topic = mqtt::Text();
      CHECK(outside.message().topic == "mount/t");
      const Packet got = inside.message();
      CHECK(got.topic == "t");
      CHECK(got.topic_left_out == (i != 0));
    }
  }
}

TEST_CASE(
    "enhanced authentication goes through AUTH to CONNACK with its method and data "
    "[MQTT-4.12.0-2, MQTT-4.12.0-3, MQTT-4.12.0-5, MQTT-3.15.2-1, MQTT-3.15.2-2, "
    "MQTT-3.15.2-3]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    Broker broker(wire);
    enhance(broker);
    const Client client = authenticated(broker);
    client.subscribe("t", 1);
    client.publish("t", "x", 1);
    CHECK(client.message().payload == "x");
  }
}

TEST_CASE(
    "a method that is not known is CONNACK 0x8C, a failed exchange its code "
    "[MQTT-4.12.0-1, MQTT-4.12.0-4]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    Broker broker(wire);
    enhance(broker);
    const Client unknown = start_auth(broker, "X", "1");
    CHECK(hex(unknown.link().all_in) == "2003008c00");
    CHECK(unknown.hung_up());
    const Client client = start_auth(broker, "M", "1");
    client.take(PacketType::auth);
    send_auth(client, ReasonCode::continue_authentication, "M", "wrong");
    CHECK(client.take(PacketType::connack).reason == ReasonCode::not_authorized);
    CHECK(client.hung_up());
    CHECK(broker.statistics().sessions == 0);
  }
  sim::Broker<> plain;
  Props list;
  list.text(PropertyId::authentication_method, "M");
  const auto client = plain.start(Version::v5, "a", [&](mqtt::Connect& c) { c.properties = list; });
  CHECK(hex(client.link().all_in) == "2003008c00");
}

TEST_CASE(
    "while authentication runs only AUTH of its method may come: CONNACK 0x82 and close "
    "[MQTT-3.1.2-30, MQTT-4.12.0-5, MQTT-4.12.0-4]") {
  for (int which = 0; which < 3; ++which) {
    CAPTURE(which);
    Broker broker;
    enhance(broker);
    const Client client = start_auth(broker, "M", "1");
    client.take(PacketType::auth);
    if (which == 0) {
      client.raw_hex("c000");
    } else if (which == 1) {
      send_auth(client, ReasonCode::continue_authentication, "N", "3");
    } else {
      send_auth(client, ReasonCode::reauthenticate, "M", "3");
    }
    CHECK(client.take(PacketType::connack).reason == ReasonCode::protocol_error);
    CHECK(client.hung_up());
    CHECK(broker.statistics().sessions == 0);
  }
}

TEST_CASE(
    "DISCONNECT ends an authentication that runs; so does the time limit "
    "[MQTT-3.1.2-30]") {
  Broker broker;
  enhance(broker);
  const Client client = start_auth(broker, "M", "1");
  client.raw_hex("e000");
  CHECK(client.hung_up());
  const Client silent = start_auth(broker, "M", "1");
  broker.pass(30500);
  CHECK(silent.hung_up());
  CHECK(broker.statistics().sessions == 0);
  CHECK(broker.statistics().blocks == 0);
}

TEST_CASE(
    "re-authentication: success goes on, failure is DISCONNECT, other traffic flows "
    "meanwhile [MQTT-4.12.1-1, MQTT-4.12.1-2]") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out}) {
    Broker broker(wire);
    enhance(broker);
    const Client client = authenticated(broker);
    client.subscribe("t");
    for (int i = 0; i < 2; ++i) {
      send_auth(client, ReasonCode::reauthenticate, "M", "1");
      CHECK(client.take(PacketType::auth).reason == ReasonCode::continue_authentication);
      client.publish("t", "x");
      CHECK(client.message().payload == "x");
      send_auth(client, ReasonCode::continue_authentication, "M", "3");
      const Packet done = client.take(PacketType::auth);
      CHECK(done.reason == ReasonCode::success);
      CHECK(done.binary(PropertyId::authentication_data) == "4");
    }
    send_auth(client, ReasonCode::reauthenticate, "M", "wrong");
    CHECK(client.cut_off(ReasonCode::not_authorized));
  }
}

TEST_CASE(
    "re-authentication with another method or out of turn is a protocol error "
    "[MQTT-4.12.1-1]") {
  Broker broker;
  enhance(broker);
  const Client other = authenticated(broker);
  send_auth(other, ReasonCode::reauthenticate, "N", "1");
  CHECK(other.cut_off(ReasonCode::protocol_error));
  const Client early = authenticated(broker);
  send_auth(early, ReasonCode::continue_authentication, "M", "3");
  CHECK(early.cut_off(ReasonCode::protocol_error));
}

TEST_CASE(
    "the policy is told of connections, their ends and the ends of sessions "
    "[MQTT-4.1.0-2]") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    const Client a = broker.connect(version, "a");
    const Client b = broker.connect_resumable(version, "b");
    CHECK(broker.policy.connected == std::vector<std::string>{"a", "b"});
    a.disconnect();
    CHECK(broker.policy.disconnected.back() == "a 0 0 client");
    CHECK(broker.policy.ended == std::vector<std::string>{"a"});
    b.drop();
    CHECK(broker.policy.disconnected.back() ==
          "b 0 " + std::to_string(static_cast<int>(mqtt::Error::link_closed)));
    CHECK(broker.policy.ended.size() == 1);
    broker.connect(version, "b");
    CHECK(broker.policy.ended.size() == 2);
    CHECK(broker.policy.disconnected.size() == 2);
  });
}

TEST_CASE("a decision put off may ask for more, and more than once [MQTT-4.12.0-2]") {
  Broker broker;
  broker.policy.connect = [&](const mqtt::Connect&, mqtt::ConnectAnswer& answer) {
    answer.later = true;
  };
  int rounds = 0;
  broker.policy.authenticate = [&](const mqtt::Auth&, mqtt::ConnectAnswer& answer) {
    rounds += 1;
    answer.later = rounds == 2;
    if (rounds == 1) { answer.reason = ReasonCode::continue_authentication; }
  };
  const Client client = start_auth(broker, "M", "1");
  mqtt::ConnectAnswer more;
  more.reason = ReasonCode::continue_authentication;
  for (int i = 0; i < 2; ++i) {
    if (i == 0) { CHECK(broker.engine().answer_connect(client.id(), more, broker.now)); }
    broker.run();
    client.take(PacketType::auth);
    send_auth(client, ReasonCode::continue_authentication, "M", "2");
  }
  CHECK(client.quiet());
  CHECK(broker.engine().answer_connect(client.id(), more, broker.now));
  broker.run();
  client.take(PacketType::auth);
  send_auth(client, ReasonCode::continue_authentication, "M", "3");
  CHECK(client.take(PacketType::connack).reason == ReasonCode::success);
  CHECK(rounds == 3);
}

TEST_CASE("a session that comes back under another prefix gets nothing of the old one") {
  sim::each([](Version version, Wire wire) {
    Broker broker(wire);
    std::string prefix = "one/";
    broker.policy.connect = [&](const mqtt::Connect& connect, mqtt::ConnectAnswer& answer) {
      if (sim::text(connect.client_id)[0] == 'm') { answer.topic_prefix = mqtt::Text(prefix); }
    };
    broker.connect_resumable(version, "m").subscribe("t/#", 1);
    broker.engine();
    const Client outside = broker.connect(version, "o");
    for (const char* other : {"twice/", "two/", "", "one/"}) {
      CAPTURE(other);
      Client inside = broker.connect_resumable(version, "m");
      inside.clear();
      inside.drop();
      outside.publish("one/t/1", "secret", 1);
      prefix = other;
      inside = broker.connect_resumable(version, "m");
      if (prefix == "one/") {
        CHECK(inside.message().topic == "t/1");
      } else if (prefix.empty()) {
        CHECK(inside.message().topic == "one/t/1");  // nothing is hidden from it
      }
      CHECK(inside.quiet());
      inside.drop();
      prefix = "one/";
    }
  });
}
