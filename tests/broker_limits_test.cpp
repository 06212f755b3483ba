// Every limit of BrokerLimits is reached and gives its one documented answer.
#include <doctest/doctest.h>

#include "sim/broker_sim.hpp"

using sim::Broker;
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

using Client = sim::Client<mqtt::BrokerConfig>;
using Limits = mqtt::BrokerLimits;

namespace {

// SUBACK's byte for a filter that has no room.
uint8_t no_room(Version version) {
  return mqtt::suback_code(version, mqtt::code(ReasonCode::quota_exceeded));
}

std::string numbered(const char* text, int i) { return text + std::to_string(i); }

}  // namespace

TEST_CASE("connections: no more are admitted, and again when one has gone") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.connections = 3;
    Broker<> broker(wire, limits);
    const auto a = broker.connect(version, "a");
    broker.connect(version, "b");
    broker.open(version);
    CHECK(broker.admit_one() == mqtt::Error::buffer_too_small);
    CHECK(mqtt::kind(broker.admit_one()) == mqtt::ErrorKind::capacity);
    a.drop();
    broker.connect(version, "a");
    CHECK(broker.statistics().connections == 3);
  });
}

TEST_CASE("sessions: CONNACK 0x97, or 3 before 5.0, and close [MQTT-3.1.4-2]") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.sessions = 2;
    Broker<> broker(wire, limits);
    broker.connect_resumable(version, "a").drop();
    broker.connect(version, "b");
    const auto c = broker.start(version, "c");
    CHECK(hex(c.link().all_in) == (version == Version::v5 ? "2003009700" : "20020003"));
    CHECK(c.hung_up());
    broker.connect_resumable(version, "a");  // an existing one goes on
    CHECK(broker.last_connack.session_present == (version != Version::v3_1));
  });
}

TEST_CASE("subscriptions, filters, filter nodes: SUBACK 0x97, 0x80 in 3.1.1") {
  for (int which = 0; which < 3; ++which) {
    sim::each([which](Version version, Wire wire) {
      Limits limits = sim::small_limits();
      limits.subscriptions = which == 0 ? 4 : 100;
      limits.filters = which == 1 ? 4 : 100;
      limits.filter_nodes = which == 2 ? 8 : 100;
      Broker<> broker(wire, limits);
      const auto client = broker.connect(version, "a");
      const auto publisher = broker.connect(version, "p");
      for (int i = 0; i < 4; ++i) {
        CHECK(client.subscribe(numbered("+/", i), 1) == (which == 2 && i > 3 ? 0x97 : 1));
      }
      uint8_t code = 1;
      int more = 4;
      for (; more < 40 && code == 1; ++more) { code = client.subscribe(numbered("x/+/", more), 1); }
      CHECK(code == no_room(version));
      publisher.publish("x/y/39", "x");
      client.subscribe("+/0", 1);  // replacing needs no room
      publisher.publish("y/3", "x");
      CHECK(client.message().topic == "y/3");
      CHECK(client.quiet());
      client.unsubscribe("+/1");
      client.unsubscribe("+/2");
      CHECK(client.subscribe("new", 1) == 1);
      publisher.publish("new", "x");
      CHECK(client.message().topic == "new");
    });
  }
}

TEST_CASE("retained messages and their nodes: PUBACK 0x97, close before 5.0") {
  for (int which = 0; which < 2; ++which) {
    sim::each([which](Version version, Wire wire) {
      Limits limits = sim::small_limits();
      limits.retained = which == 0 ? 3 : 100;
      limits.retained_nodes = which == 1 ? 4 : 100;
      Broker<> broker(wire, limits);
      const auto client = broker.connect(version, "a");
      for (int i = 0; i < 3; ++i) {
        client.publish(numbered("t/", i), "x", 1, true);
        CHECK_FALSE(mqtt::failed(client.take(PacketType::puback).reason));
      }
      client.publish("t/1", "again", 1, true);
      CHECK_FALSE(mqtt::failed(client.take(PacketType::puback).reason));
      client.publish("t/9", "x", 1, true);
      if (version == Version::v5) {
        CHECK(client.take(PacketType::puback).reason == ReasonCode::quota_exceeded);
      } else {
        CHECK(client.cut_off(ReasonCode::quota_exceeded));
      }
      const auto late = broker.connect(version, "s");
      late.subscribe("#");
      CHECK(late.count(PacketType::publish) == 3);
    });
  }
}

TEST_CASE("a QoS 0 message that cannot be retained is still delivered, and counted") {
  Limits limits = sim::small_limits();
  limits.retained = 1;
  Broker<> broker(Wire::whole, limits);
  const auto client = broker.connect(Version::v5, "a");
  client.subscribe("#");
  client.publish("1", "x", 0, true);
  client.publish("2", "x", 0, true);
  CHECK(client.count(PacketType::publish) == 2);
  CHECK(broker.dropped() == 1);
  CHECK(broker.statistics().retained == 1);
}

TEST_CASE("a QoS 2 message that cannot be retained is delivered once and its handshake ends") {
  Limits limits = sim::small_limits();
  limits.retained = 1;
  Broker<> broker(Wire::whole, limits);
  const auto other = broker.connect(Version::v5, "s");
  other.subscribe("#");
  const auto client = broker.connect(Version::v5, "a");
  client.publish("1", "x", 2, true);
  client.publish("2", "x", 2, true);
  broker.seconds(10);
  CHECK(other.count(PacketType::publish) == 2);
  CHECK(client.count(PacketType::pubcomp) == 2);
}

TEST_CASE("queued: the newest are dropped for that client and counted, the oldest kept") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.queued_max = 5;
    Broker<> broker(wire, limits);
    const auto other = broker.connect(version, "other");
    other.subscribe("t", 1);
    const auto client = broker.connect_resumable(version, "a");
    client.subscribe("t", 1);
    client.drop();
    const auto publisher = broker.connect(version, "p");
    for (int i = 0; i < 8; ++i) {
      publisher.publish("t", numbered("", i), 1);
      CHECK_FALSE(mqtt::failed(publisher.take(PacketType::puback).reason));
    }
    CHECK(other.count(PacketType::publish) == 8);
    CHECK(broker.dropped() == 3);
    const auto again = broker.connect_resumable(version, "a");
    for (int i = 0; i < 5; ++i) { CHECK(again.message().payload == numbered("", i)); }
    CHECK(again.quiet());
  });
}

TEST_CASE("queued at QoS 0: what a blocked client has waiting is bounded") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.queued_max = 5;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "a");
    client.subscribe("t");
    client.set_window(0);
    const auto publisher = broker.connect(version, "p");
    for (int i = 0; i < 20; ++i) { publisher.publish("t", numbered("", i)); }
    CHECK(broker.statistics().stored <= 6);
    client.open_window();
    CHECK(client.count(PacketType::publish) >= 5);
    CHECK(client.count(PacketType::publish) <= 6);
    CHECK(client.count(PacketType::publish) + broker.dropped() == 20);
    CHECK(client.message().payload == "0");
  });
}

TEST_CASE("a full online subscriber that makes progress pauses the publisher, pause_ms at most") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.queued_max = 3;
    limits.inflight_max = 2;
    limits.pause_ms = 2000;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "s");
    client.own_acks();
    client.subscribe("t", 1);
    const auto publisher = broker.connect(version, "p");
    for (int i = 0; i < 9; ++i) { publisher.publish("t", numbered("", i), 1); }
    CHECK(publisher.count(PacketType::puback) == 5);
    CHECK_FALSE(broker.engine().wants_read(publisher.id()));
    uint16_t id = 1;
    for (int i = 0; i < 4; ++i) {
      client.ack(PacketType::puback, id++);
      broker.pass(200);
      CHECK(publisher.count(PacketType::puback) == static_cast<size_t>(6 + i));
    }
    CHECK(broker.engine().wants_read(publisher.id()));
    CHECK(broker.dropped() == 0);
    for (int i = 9; i < 11; ++i) { publisher.publish("t", numbered("", i), 1); }
    CHECK(publisher.count(PacketType::puback) == 9);
    broker.pass(1500);
    CHECK(publisher.count(PacketType::puback) == 9);
    broker.pass(4000);
    CHECK(publisher.count(PacketType::puback) == 11);
    CHECK(broker.dropped() == 2);
    CHECK_FALSE(client.closed());
    CHECK_FALSE(publisher.closed());
  });
}

TEST_CASE(
    "a paused publisher is not cut off by its keep alive: it is us who do not read "
    "[MQTT-3.1.2-22]") {
  Limits limits = sim::small_limits();
  limits.queued_max = 1;
  limits.inflight_max = 1;
  Broker<> broker(Wire::whole, limits);
  const auto client = broker.connect(Version::v5, "s");
  client.own_acks();
  client.subscribe("t", 1);
  const auto publisher =
      broker.connect(Version::v5, "p", [](mqtt::Connect& c) { c.keep_alive_s = 1; });
  for (int i = 0; i < 3; ++i) { publisher.publish("t", "x", 1); }
  CHECK_FALSE(broker.engine().wants_read(publisher.id()));
  publisher.put(bytes("c000"));
  broker.pass(4000);
  CHECK_FALSE(publisher.closed());
  broker.pass(1500);
  CHECK(publisher.count(PacketType::pingresp) == 1);
}

TEST_CASE("inflight: so many QoS > 0 go out and the rest wait [MQTT-3.3.4-9]") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.inflight_max = 3;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "s");
    client.own_acks();
    client.subscribe("t", 2);
    const auto publisher = broker.connect(version, "p");
    for (int i = 0; i < 6; ++i) { publisher.publish("t", "x", 1 + i % 2); }
    CHECK(client.count(PacketType::publish) == 3);
  });
}

TEST_CASE("packet size: DISCONNECT 0x95, close before 5.0; a whole one of the size is taken") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.packet_bytes_max = 3000;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "a");
    client.subscribe("t");
    const size_t head = 1 + 2 + 2 + 1 + (version == Version::v5 ? 1 : 0);
    client.publish("t", std::string(3000 - head, 'x'));
    CHECK(client.message().payload.size() == 3000 - head);
    client.publish("t", std::string(3001 - head, 'x'));
    CHECK(client.cut_off(ReasonCode::packet_too_large));
  });
}

TEST_CASE("control packets: 0x95, close before 5.0, whether whole or in parts") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.control_packet_bytes_max = 1024;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "a");
    mqtt::Subscription entries[64];
    const std::string filter(20, 'f');
    for (mqtt::Subscription& it : entries) { it.filter = filter; }
    mqtt::Subscribe packet;
    packet.packet_id = 1;
    packet.filters = entries;
    client.send(packet);
    CHECK(client.cut_off(ReasonCode::packet_too_large));
    // the head of a PUBLISH: topic and properties
    const auto other = broker.connect(version, "b");
    const std::string topic(2000, 't');
    other.publish(topic, std::string(3000, 'x'));
    CHECK(other.closed());
  });
}

TEST_CASE("message size: PUBACK and PUBREC 0x95; before 5.0 acknowledged and discarded") {
  sim::each([](Version version, Wire wire) {
    for (const size_t size : {size_t{101}, size_t{5000}}) {
      Limits limits = sim::small_limits();
      limits.message_bytes_max = 100;
      Broker<> broker(wire, limits);
      const auto other = broker.connect(version, "s");
      other.subscribe("#");
      const auto client = broker.connect(version, "a");
      const std::string payload(size, 'x');
      client.publish("t", payload, 0);
      client.publish("t", payload, 1);
      const ReasonCode told =
          version == Version::v5 ? ReasonCode::implementation_specific_error : ReasonCode::success;
      const Packet ack = client.take(PacketType::puback);
      CHECK((ack.reason == ReasonCode::packet_too_large || ack.reason == told ||
             ack.reason == ReasonCode::quota_exceeded));
      client.publish("t", payload, 2);
      client.take(PacketType::pubrec);
      CHECK(client.count(PacketType::pubcomp) == (version == Version::v5 ? 0U : 1U));
      CHECK(other.quiet());
      client.clear();
      client.publish("t", std::string(100, 'x'), 2);
      CHECK(other.message().payload.size() == 100);
      CHECK(broker.dropped() == 3);
    }
  });
}

TEST_CASE("a will above the message size refuses the CONNECT") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.message_bytes_max = 10;
    Broker<> broker(wire, limits);
    const auto client = broker.start(version, "a", [](mqtt::Connect& c) {
      c.has_will = true;
      c.will.topic = "t";
      c.will.payload = mqtt::Text("01234567890").bytes();
    });
    CHECK(client.hung_up());
    if (version == Version::v5) {
      CHECK(client.take(PacketType::connack).reason == ReasonCode::packet_too_large);
    }
  });
}

TEST_CASE("topic levels: 0x81 in PUBLISH, SUBSCRIBE and UNSUBSCRIBE, close before 5.0") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.topic_levels_max = 4;
    Broker<> broker(wire, limits);
    for (int which = 0; which < 6; ++which) {
      const auto client = broker.connect(version, "a");
      CHECK(client.subscribe("+/+/+/+") == 0);
      CHECK(client.subscribe("///") == 0);
      client.publish("a/b/c/d", "x");
      CHECK(client.message().topic == "a/b/c/d");
      client.unsubscribe("a/b/c/d");
      const char* const deep = which % 2 == 0 ? "////" : "long/b/c/d/e";
      mqtt::Subscription entry;
      entry.filter = deep;
      mqtt::Subscribe subscribe;
      subscribe.packet_id = 1;
      subscribe.filters = entry;
      mqtt::Unsubscribe unsubscribe;
      unsubscribe.packet_id = 1;
      unsubscribe.filters = entry;
      if (which < 2) {
        client.publish(deep, "x");
      } else if (which < 4) {
        client.send(subscribe);
      } else {
        client.send(unsubscribe);
      }
      CHECK(client.cut_off(ReasonCode::malformed_packet));
    }
  });
}

TEST_CASE(
    "topic alias: above the maximum or 0 is 0x94, so is any when there are none "
    "[MQTT-3.3.2-8]") {
  for (const uint16_t most : {uint16_t{0}, uint16_t{3}}) {
    for (const char* packet : {"30080001740323000478", "30080001740323000078"}) {
      Limits limits = sim::small_limits();
      limits.topic_alias_max = most;
      Broker<> broker(Wire::whole, limits);
      const auto client = broker.connect(Version::v5, "a");
      CHECK(broker.last_connack.number(PropertyId::topic_alias_maximum) == most);
      client.raw_hex(packet);
      CHECK(client.cut_off(ReasonCode::topic_alias_invalid));
    }
  }
}

TEST_CASE("topic alias maximum of the broker bounds the aliases it sets [MQTT-3.1.2-26]") {
  for (const uint16_t most : {uint16_t{0}, uint16_t{2}}) {
    Limits limits = sim::small_limits();
    limits.topic_alias_broker_max = most;
    Broker<> broker(Wire::whole, limits);
    Props list;
    list.number(PropertyId::topic_alias_maximum, 100);
    const auto client =
        broker.connect(Version::v5, "s", [&](mqtt::Connect& c) { c.properties = list; });
    client.subscribe("#");
    for (int i = 0; i < 5; ++i) {
      client.publish(numbered("t", i), "x");
      CHECK(client.message().number(PropertyId::topic_alias) <= most);
    }
  }
}

TEST_CASE("maximum QoS: DISCONNECT 0x9B, close before 5.0 [MQTT-3.2.2-11]") {
  sim::each([](Version version, Wire wire) {
    for (int most = 0; most < 2; ++most) {
      Limits limits = sim::small_limits();
      limits.maximum_qos = static_cast<Qos>(most);
      Broker<> broker(wire, limits);
      const auto client = broker.connect(version, "a");
      client.publish("t", "x", most + 1);
      CHECK(client.cut_off(ReasonCode::qos_not_supported));
    }
  });
}

TEST_CASE("an unfinished packet is cut off after packet_timeout_s") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.packet_timeout_s = 10;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "a");
    client.raw_hex("8210 0001");
    broker.pass(9900);
    CHECK_FALSE(client.closed());
    broker.pass(600);
    CHECK(client.hung_up());
  });
}

TEST_CASE("trickling bytes do not put off the deadline of a packet, a payload's do") {
  Limits limits = sim::small_limits();
  limits.packet_timeout_s = 10;
  Broker<> broker(Wire::whole, limits);
  const auto client = broker.connect(Version::v5, "a");
  client.raw_hex("8210 0001");
  for (int i = 0; i < 3 && !client.closed(); ++i) {
    broker.pass(4000);
    client.raw_hex("00");
  }
  CHECK(client.hung_up());
  const auto other = broker.connect(Version::v5, "b");
  other.subscribe("t");
  const std::string head = bytes("30 e807 0001 74 00");   // 1,000 bytes
  const std::string large = bytes("30 8827 0001 74 00");  // 5,000 bytes: streamed
  other.raw(large + std::string(96, 'x'));
  for (int i = 0; i < 49; ++i) {
    broker.pass(4000);
    other.raw(std::string(100, 'x'));
  }
  CHECK(other.message().payload.size() == 4996);
}

TEST_CASE("turn records: more PUBLISH packets in a turn than records are all delivered") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.turn_records = 4;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "s");
    client.subscribe("t", 1);
    const auto publisher = broker.connect(version, "p");
    for (int i = 0; i < 40; ++i) {
      mqtt::Publish packet;
      packet.topic = "t";
      packet.qos = static_cast<Qos>(i % 2);
      packet.packet_id = i % 2 == 0 ? uint16_t{0} : publisher.new_id();
      publisher.put_packet(packet);
    }
    broker.run();
    CHECK(client.count(PacketType::publish) == 40);
  });
}

TEST_CASE(
    "blocks: QoS 0 is dropped and counted, QoS > 0 refused with 0x97 or close, and memory "
    "comes back") {
  sim::each([](Version version, Wire wire) {
    for (int qos = 0; qos < 3; ++qos) {
      Limits limits = sim::small_limits();
      limits.blocks = 100;
      limits.large_blocks = 0;
      Broker<> broker(wire, limits);
      const auto away = broker.connect_resumable(version, "away");
      away.subscribe("t", 2);
      qos == 0 ? away.set_window(0) : away.drop();
      const auto publisher = broker.connect(version, "p");
      int taken = 0;
      bool refused = false;
      for (int i = 0; i < 200 && !refused; ++i) {
        publisher.clear();
        publisher.publish("t", std::string(300, 'x'), qos);
        if (publisher.closed()) {  // 3.x, or a packet cut by a read cannot be kept
          CHECK((version != Version::v5 || wire == Wire::bytes_in || wire == Wire::pieces));
          refused = true;
        } else if (qos != 0) {
          REQUIRE(publisher.has_packet());
          refused = mqtt::failed(publisher.next().reason);
        }
        taken += refused ? 0 : 1;
      }
      CHECK((refused || qos == 0));
      if (qos == 0 && !refused) {
        CHECK(broker.dropped() > 100);
      } else if (qos != 0) {
        CHECK(taken > 5);
        const auto again = broker.connect_resumable(version, "away");
        CHECK(again.count(PacketType::publish) == static_cast<size_t>(taken));
        CHECK(broker.statistics().stored == 0);
      }
    }
  });
}

TEST_CASE("blocks: a large payload without room is refused and the link goes on in 5.0") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::pieces}) {
    for (int qos = 0; qos < 3; ++qos) {
      Limits limits = sim::small_limits();
      limits.blocks = 100;
      limits.large_blocks = 1;
      limits.large_block_bytes = 1024;
      Broker<> broker(wire, limits);
      const auto client = broker.connect(Version::v5, "a");
      client.subscribe("t", 2);
      client.publish("t", std::string(20000, 'x'), qos);
      if (qos != 0) {
        CHECK(client.next().reason == ReasonCode::quota_exceeded);
      } else if (wire == Wire::whole) {
        CHECK(client.message().payload.size() == 20000);  // from the arena: needs no block
      }
      CHECK(client.quiet());
      client.publish("t", "small", qos);
      while (client.has_packet() && client.link().packets.front().type != PacketType::publish) {
        client.next();
      }
      CHECK(client.message().payload == "small");
    }
  }
}

TEST_CASE("blocks: with nothing left the broker still takes acks, which free memory") {
  Limits limits = sim::small_limits();
  limits.blocks = 64;
  limits.large_blocks = 0;
  limits.inflight_max = 5;
  Broker<> broker(Wire::bytes_in, limits);
  const auto client = broker.connect_resumable(Version::v5, "s");
  client.own_acks();
  client.subscribe("t", 1);
  const auto publisher = broker.connect(Version::v5, "p");
  int taken = 0;
  while (true) {
    publisher.publish("t", std::string(200, 'x'), 1);
    if (mqtt::failed(publisher.take(PacketType::puback).reason)) { break; }
    taken += 1;
  }
  CHECK(taken > 5);
  for (int i = 0; i < taken; ++i) {
    const Packet got = client.message();
    client.ack(PacketType::puback, got.packet_id);
  }
  CHECK(client.quiet());
  CHECK_FALSE(client.closed());
  CHECK(broker.statistics().stored == 0);
}

TEST_CASE("text blocks: no room for a client id is 0x97, for a filter SUBACK 0x97") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.text_blocks = 4;
    Broker<> broker(wire, limits);
    const auto client = broker.connect(version, "a");
    CHECK(client.subscribe("f", 1) == 1);
    CHECK(client.subscribe(std::string(100, 'f'), 1) == no_room(version));
    CHECK(client.subscribe("g", 1) == 1);
    const auto other = broker.start(version, std::string(60, 'c'));
    CHECK(hex(other.link().all_in) == (version == Version::v5 ? "2003009700" : "20020003"));
    CHECK(broker.statistics().sessions == 1);
  });
}

TEST_CASE("limits that contradict each other are refused at start") {
  sim::TestPolicy policy;
  mqtt::NoJournal journal;
  const auto start = [&](void (*change)(Limits&)) {
    Limits limits = sim::small_limits();
    change(limits);
    auto engine = std::make_unique<mqtt::BrokerEngine<sim::PolicyConfig>>(policy, journal);
    std::vector<uint64_t> memory(1 << 20);
    return engine->start(limits, {reinterpret_cast<uint8_t*>(memory.data()), memory.size() * 8}, 1,
                         0);
  };
  CHECK(start([](Limits&) {}) == mqtt::Error::none);
  CHECK(start([](Limits& l) { l.connections = 0; }) == mqtt::Error::invalid_limits);
  CHECK(start([](Limits& l) { l.sessions = 0; }) == mqtt::Error::invalid_limits);
  CHECK(start([](Limits& l) { l.block_bytes = 72; }) == mqtt::Error::invalid_limits);
  CHECK(start([](Limits& l) { l.block_bytes = 63; }) == mqtt::Error::invalid_limits);
  CHECK(start([](Limits& l) { l.text_block_bytes = 8; }) == mqtt::Error::invalid_limits);
  CHECK(start([](Limits& l) { l.receive_maximum = 0; }) == mqtt::Error::invalid_limits);
  CHECK(start([](Limits& l) { l.inflight_max = 0; }) == mqtt::Error::invalid_limits);
}

TEST_CASE("too little memory is an error of start") {
  mqtt::AllowAll policy;
  mqtt::NoJournal journal;
  const Limits limits = sim::small_limits();
  auto engine = std::make_unique<mqtt::BrokerEngine<>>(policy, journal);
  uint64_t memory[2];
  const uint64_t size = mqtt::broker_bytes(limits) - 1;
  CHECK(engine->start(limits, {reinterpret_cast<uint8_t*>(memory), size}, 1, 0) ==
        mqtt::Error::buffer_too_small);
}

TEST_CASE("the QoS of the subscription counts with upgrade_outgoing_qos, for retained ones too") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.upgrade_outgoing_qos = true;
    Broker<> broker(wire, limits);
    const auto publisher = broker.connect(version, "p");
    const auto client = broker.connect(version, "s");
    publisher.publish("r", "retained", 0, true);
    for (int qos = 0; qos < 3; ++qos) {
      client.subscribe("r", qos);
      CHECK(client.message().qos == static_cast<Qos>(qos));
      client.clear();
      publisher.publish("r", "now", 0);
      CHECK(client.message().qos == static_cast<Qos>(qos));
      client.clear();
    }
  });
}

TEST_CASE("retained messages leave blocks for others, and can be cleared") {
  sim::each([](Version version, Wire wire) {
    for (const uint32_t turn_records : {0U, 64U}) {
      Limits limits = sim::small_limits();
      limits.turn_records = turn_records;
      limits.large_blocks = 0;
      limits.blocks = 128;
      Broker<> broker(wire, limits);
      const auto client = broker.connect(version, "s");
      client.subscribe("t", 0);
      const auto publisher = broker.connect(version, "p");
      for (int i = 0; i < 20; ++i) {
        publisher.publish(numbered("r/", i), std::string(1000, 'x'), 0, true);
      }
      CHECK(broker.dropped() != 0);
      publisher.publish("t", "flows");
      CHECK(client.message().payload == "flows");
      for (int i = 0; i < 20; ++i) { publisher.publish(numbered("r/", i), "", 0, true); }
      CHECK(broker.statistics().retained == 0);
      CHECK(broker.statistics().stored == 0);
    }
  });
}

TEST_CASE("a will goes to all who have room [MQTT-3.1.2-8]") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.blocks = 64;
    limits.large_blocks = 0;
    limits.retained = 1;
    Broker<> broker(wire, limits);
    const auto watcher = broker.connect(version, "w");
    watcher.subscribe("will", 1);
    const auto dying = broker.connect(version, "d", [](mqtt::Connect& c) {
      c.has_will = true;
      c.will.topic = "will";
      c.will.payload = mqtt::Text("gone").bytes();
      c.will.qos = Qos::at_least_once;
      c.will.retain = true;
    });
    const auto away = broker.connect_resumable(version, "away");
    away.subscribe("fill", 1);
    away.drop();
    watcher.publish("other", "the only retained one", 0, true);
    for (int i = 0; i < 100; ++i) {
      mqtt::Publish packet;
      packet.topic = "fill";
      packet.payload = mqtt::Text("x").bytes();
      packet.qos = Qos::at_least_once;
      static_cast<void>(broker.engine().publish(packet, broker.now));
    }
    const uint32_t before = broker.dropped();
    dying.drop();
    CHECK(watcher.message().topic == "will");
    CHECK(broker.dropped() > before);  // it is not retained
  });
}

TEST_CASE("inflight_bytes: one is always sent, then as many as fit, whatever comes between") {
  Limits limits = sim::small_limits();
  limits.inflight_bytes_max = 250;
  Broker<> broker(Wire::whole, limits);
  auto client = broker.connect_resumable(Version::v3_1_1, "s");
  client.own_acks();
  client.subscribe("t", 2);
  const auto publisher = broker.connect(Version::v3_1_1, "p");
  for (int i = 0; i < 4; ++i) { publisher.publish("t", std::string(100, 'x'), 2); }
  CHECK(client.count(PacketType::publish) == 2);
  // the first one is being sent again, cut in the middle, when its PUBREC comes
  client.drop();
  broker.acks = false;
  client = broker.open(Version::v3_1_1);
  client.set_window(4 + 50);
  mqtt::Connect connect;
  connect.version = Version::v3_1_1;
  connect.client_id = "s";
  connect.clean_start = false;
  client.send(connect);
  client.ack(PacketType::pubrec, 1);
  client.open_window();
  client.take(PacketType::connack);
  CHECK(client.count(PacketType::publish) == 3);  // the payload of the first is the client's
  client.ack(PacketType::pubcomp, 1);
  CHECK(client.count(PacketType::publish) == 3);
  client.ack(PacketType::pubrec, 2);
  CHECK(client.count(PacketType::publish) == 4);
}
