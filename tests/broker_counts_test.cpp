// The counters of the broker against what has really gone over the wire.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "sim/broker_sim.hpp"

using sim::Broker;
using sim::PacketType;
using sim::PropertyId;
using sim::Props;
using sim::Qos;
using sim::Text;
using sim::Version;
using sim::Wire;

using Client = sim::Client<mqtt::BrokerConfig>;
using Limits = mqtt::BrokerLimits;

namespace {

struct Counts {
  uint64_t bytes = 0;
  uint64_t packets = 0;
  uint64_t publishes = 0;
  uint64_t payloads = 0;
  uint64_t connects = 0;

  // Adds the whole packets at the front of what one side has sent.
  void add(const std::string& stream, Version version, mqtt::Side receiver) {
    bytes += stream.size();
    uint32_t at = 0;
    mqtt::Frame frame;
    while (mqtt::next_frame(Text(stream).bytes().skip(at), version, 0x10000000, frame) ==
           mqtt::Error::none) {
      at += frame.size();
      packets += 1;
      connects += frame.type() == PacketType::connect ? 1U : 0U;
      mqtt::Publish publish;
      if (frame.type() == PacketType::publish &&
          mqtt::decode(frame, version, receiver, publish) == mqtt::Error::none) {
        publishes += 1;
        payloads += publish.payload.size();
      }
    }
  }
};

// Clients of all versions that publish, stall, lose their links and come back.
class Storm {
 public:
  Storm(Wire wire, const Limits& limits, uint32_t seed) : broker_(wire, limits), state_(seed) {}

  void run() {
    for (uint32_t i = 0; i < 5; ++i) { connect(i); }
    for (uint32_t step = 0; step < 120; ++step) {
      const uint32_t i = below(5);
      const Client it = links_[current_[i]];
      switch (below(8)) {
        case 0:
          drop(it);
          connect(i);
          break;
        case 1: it.set_window(below(300)); break;
        case 2: it.set_window(1U << 28); break;
        default: publish(it); break;
      }
      broker_.pass(below(3) == 0 ? 100 : 0);
      if (step % 20 == 0) { compare(); }
    }
    for (const Client& it : links_) { it.set_window(1U << 28); }
    broker_.pass(20000);
    compare();
  }

 private:
  uint32_t below(uint32_t count) {
    state_ = state_ * 1664525U + 1013904223U;
    return (state_ >> 16) % count;
  }
  // All packets a client sends pass here: its own acknowledgements too.
  void compare() {
    broker_.run();
    Counts in;
    Counts out;
    for (const Client& it : links_) {
      const sim::Link& link = it.link();
      in.add(link.all_out.substr(0, link.all_out.size() - link.out.size()), link.version,
             mqtt::Side::broker);
      out.add(link.all_in, link.version, mqtt::Side::client);
    }
    const mqtt::BrokerStatistics& now = broker_.statistics();
    CHECK(now.bytes_received == in.bytes);
    CHECK(now.bytes_sent == out.bytes);
    CHECK(now.packets_sent == out.packets);
    CHECK(now.publish_sent == out.publishes);
    CHECK(now.publish_bytes_sent == out.payloads);
    CHECK(now.connects_received == in.connects);
    // what waits for a full subscriber is counted when it is taken
    const uint64_t waiting = paused();
    CHECK(now.packets_received <= in.packets);
    if (waiting == 0 && lost_ == 0) {
      CHECK(now.packets_received == in.packets);
      CHECK(now.publish_received == in.publishes);
      CHECK(now.publish_bytes_received == in.payloads);
    }
  }
  uint64_t paused() {
    uint64_t count = 0;
    for (const Client& it : links_) {
      const bool open = it.link().open;
      count += open && !broker_.engine().wants_read(it.id()) ? 1U : 0U;
    }
    return count;
  }
  void connect(uint32_t i) {
    constexpr Version versions[] = {Version::v3_1, Version::v3_1_1, Version::v5, Version::v5,
                                    Version::v3_1_1};
    const std::string id = "c" + std::to_string(i);
    const Client it = broker_.connect_resumable(versions[i], Text(id));
    it.clear();
    if (current_.size() <= i) { current_.resize(i + 1); }
    current_[i] = links_.size();
    mqtt::Subscription entry;
    entry.filter = i % 2 == 0 ? "t/#" : "t/a";
    entry.qos = static_cast<Qos>(i % 3);
    mqtt::Subscribe packet;
    packet.packet_id = 1;
    packet.filters = entry;
    it.send(packet);
    links_.push_back(it);
  }
  void drop(const Client& it) {
    if (!broker_.engine().wants_read(it.id())) { lost_ += 1; }
    it.drop();
  }
  void publish(const Client& it) {
    mqtt::Publish packet;
    const std::string payload(below(6) == 0 ? 2500 : below(40), 'x');
    packet.topic = below(2) == 0 ? "t/a" : "t/b";
    packet.payload = Text(payload).bytes();
    packet.qos = static_cast<Qos>(below(3));
    packet.packet_id = packet.qos == Qos::at_most_once ? uint16_t{0} : it.new_id();
    it.put_packet(packet);
    if (packet.qos == Qos::exactly_once && below(4) == 0) {
      packet.dup = true;
      it.put_packet(packet);
    }
  }

  Broker<> broker_;
  uint32_t state_;
  uint32_t lost_ = 0;  // links that went while packets of them waited
  std::vector<Client> links_;
  std::vector<size_t> current_;  // by client
};

}  // namespace

TEST_CASE("the counters are what went over the wire, whatever is cut, dropped or sent again") {
  for (const Wire wire : {Wire::whole, Wire::bytes_in, Wire::bytes_out, Wire::pieces}) {
    for (const bool narrow : {false, true}) {
      CAPTURE(sim::name(wire));
      CAPTURE(narrow);
      Limits limits = sim::small_limits();
      limits.receive_maximum = 1000;
      limits.connections = 200;
      limits.pause_ms = 400;
      limits.queued_max = narrow ? 3 : 0;
      limits.turn_records = narrow ? 3 : 256;
      Storm(wire, limits, narrow ? 7 : 8).run();
    }
  }
}

TEST_CASE("a packet that waits for a full subscriber is counted once") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.queued_max = limits.inflight_max = 1;
    Broker<> broker(wire, limits);
    const Client client = broker.connect(version, "s");
    client.own_acks();
    client.subscribe("t", 1);
    const Client publisher = broker.connect(version, "p");
    for (int i = 0; i < 3; ++i) { publisher.publish("t", "four", 1); }
    CHECK_FALSE(broker.engine().wants_read(publisher.id()));
    const uint64_t before = broker.statistics().packets_received;
    broker.pass(1000);
    client.ack(PacketType::puback, 1);
    broker.pass(1000);
    CHECK(broker.statistics().packets_received == before + 2);  // PUBACK, and the third PUBLISH
    CHECK(broker.statistics().publish_received == 3);
    CHECK(broker.statistics().publish_bytes_received == 12);
  });
}

TEST_CASE("PUBLISH packets that are refused, discarded or repeated count too") {
  sim::each([](Version version, Wire wire) {
    Limits limits = sim::small_limits();
    limits.message_bytes_max = 10000;
    Broker<> broker(wire, limits);
    const Client publisher = broker.connect(version, "p");
    publisher.own_acks();
    publisher.publish("t", std::string(70000, 'x'), 1);
    publisher.publish("t", std::string(10001, 'x'), 2);
    mqtt::Publish packet;
    packet.topic = "t";
    packet.qos = Qos::exactly_once;
    packet.packet_id = 9;
    for (int i = 0; i < 3; ++i) { publisher.send(packet); }
    CHECK(broker.statistics().publish_received == 5);
    CHECK(broker.statistics().publish_bytes_received == 80001);
    CHECK(broker.statistics().packets_received == 6);
  });
}

TEST_CASE("stored_bytes are the payloads in blocks") {
  sim::each([](Version version, Wire wire) {
    Broker<> broker(wire);
    auto client = broker.connect_resumable(version, "s");
    client.subscribe("t", 1);
    client.drop();
    const Client publisher = broker.connect(version, "p");
    publisher.publish("t", std::string(1000, 'x'), 1);
    publisher.publish("r", std::string(5000, 'x'), 0, true);
    CHECK(broker.statistics().stored_bytes == 6000);
    CHECK(broker.statistics().stored == 2);
    publisher.publish("r", "", 0, true);
    CHECK(broker.statistics().stored_bytes == 1000);
    client = broker.connect_resumable(version, "s");
    CHECK(client.message().payload.size() == 1000);
    CHECK(broker.statistics().stored_bytes == 0);
  });
}

TEST_CASE("every CONNECT is counted, taken or not") {
  Broker<> broker;
  broker.connect(Version::v5, "a");
  broker.connect(Version::v3_1, "a");
  const Client wrong = broker.open(Version::v5);
  wrong.raw_hex("10 0d 00 04 4d515454 09 02 003c 00 00 00");
  CHECK(wrong.hung_up());
  broker.open(Version::v5).raw_hex("c000");
  CHECK(broker.statistics().connects_received == 3);
  CHECK(broker.statistics().connections_total == 4);
}
