// The journal under a broker: whatever fails and whenever it stops, what was acknowledged is kept.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "mqtt.hpp"
#include "sim/broker_sim.hpp"
#include "sim/journal_disk.hpp"

namespace {

using mqtt::PacketType;
using mqtt::Qos;
using mqtt::Text;
using mqtt::Version;
using sim::Dice;
using sim::Disk;
using sim::Packet;

using DiskLog = mqtt::journal::Log<sim::DiskWorker>;

struct Wide : mqtt::BrokerConfig {
  using Journal = DiskLog;
};
struct Narrow : Wide {
  using Index = uint16_t;
};

constexpr Version versions[] = {Version::v3_1, Version::v3_1_1, Version::v5};

mqtt::BrokerLimits storm_limits() {
  mqtt::BrokerLimits limits = sim::small_limits();
  limits.queued_max = 10000;
  limits.receive_maximum = 60;
  return limits;
}

struct Setting {
  mqtt::journal::LogOptions log;
  mqtt::journal::Sync sync = mqtt::journal::Sync::always;
  uint32_t buffer_bytes = 0;
  uint32_t wall = 1700000000;
};

// One run of the broker on a disk.
template <typename Config>
class Life {
 public:
  sim::Broker<Config> b;
  mqtt::journal::Recovered found;

  Life(Disk& disk, const Setting& setting)
      : b(sim::Wire::whole, storm_limits()), buffer_(setting.buffer_bytes) {
    b.acks = false;
    worker().wall = setting.wall;
    worker().start(disk, setting.sync);
    std::vector<uint8_t> window(mqtt::journal::window_bytes_min);
    mqtt::journal::Recovery<Disk> recovery(
        disk, mqtt::Buffer(window.data(), static_cast<uint32_t>(window.size())));
    using Restore = mqtt::BrokerRestore<mqtt::BrokerEngine<Config>>;
    std::vector<uint64_t> memory(static_cast<size_t>(Restore::memory_bytes(b.engine().limits())) /
                                 sizeof(uint64_t));
    Restore restore(b.engine(), reinterpret_cast<uint8_t*>(memory.data()));
    found = recovery.run(
        [&](const mqtt::JournalRecord& record) { return restore.apply(record, b.now); });
    REQUIRE(found.refused == 0);
    REQUIRE(found.error == 0);
    log().start(mqtt::Buffer(buffer_.data(), setting.buffer_bytes), setting.log, found.chain);
    restore.finish(b.now);
    log().end_turn(b.engine());
  }
  DiskLog& log() { return b.journal; }
  sim::DiskWorker& worker() { return b.journal.worker(); }
  bool turn() {
    log().collect(b.engine());
    const bool moved = b.turn();
    log().end_turn(b.engine());
    return moved;
  }
  // Until nothing moves and everything is safe.
  void rest() {
    for (int idle = 0; idle < 3; ++idle) {
      worker().work();
      if (turn() || !log().is_settled()) { idle = -1; }
    }
  }

 private:
  std::vector<uint8_t> buffer_;
};

// A client that forgets nothing but its links.
template <typename Config>
class Peer {
 public:
  struct Sent {
    uint16_t id;
    int qos;  // -1: SUBSCRIBE, -2: UNSUBSCRIBE
    std::string topic;
    std::string payload;
    size_t value;  // of a retained message: which of its topic's, from 1; else 0
    bool released;
  };
  std::string name;
  Version version = Version::v5;
  std::vector<Sent> sent;
  std::map<std::string, uint32_t> given;
  std::map<std::string, bool> subscribed;  // as last asked for
  std::map<std::string, size_t> kept;      // retained: the last value acknowledged
  std::set<std::string> refused;           // 0x97: the payloads
  uint32_t acknowledged = 0;

  bool linked() const { return linked_ && !client_.closed(); }
  bool open() const { return linked() && open_; }
  void forget_link() {
    linked_ = false;
    open_ = false;
  }
  void drop() {
    if (linked()) { client_.drop(); }
    forget_link();
  }
  void connect(Life<Config>& life) {
    client_ = life.b.open(version);
    linked_ = true;
    open_ = false;
    mqtt::Connect connect;
    connect.version = version;
    connect.client_id = Text(name);
    connect.clean_start = false;
    connect.keep_alive_s = 0;
    sim::Props properties;
    if (version == Version::v5) {
      properties.number(mqtt::PropertyId::session_expiry_interval, 1000000);
      properties.number(mqtt::PropertyId::receive_maximum, 5);
      connect.properties = properties;
    }
    client_.put_packet(connect);
  }
  void publish(const std::string& topic, const std::string& payload, int qos, size_t value) {
    sent.push_back({new_id(), qos, topic, payload, value, false});
    put(sent.back(), false);
  }
  void subscribe(const std::string& filter, bool on, int qos) {
    subscribed[filter] = on;
    sent.push_back({new_id(), on ? -1 : -2, filter, std::to_string(qos), 0, false});
    put(sent.back(), false);
  }
  void digest(uint32_t count) {
    while (count-- != 0 && linked() && client_.has_packet()) { take(client_.next()); }
  }

 private:
  using Place = typename std::vector<Sent>::iterator;

  uint16_t new_id() {
    do { last_id_ = mqtt::next_packet_id(last_id_); } while (find(last_id_) != sent.end());
    return last_id_;
  }
  Place find(uint16_t id) {
    return std::find_if(sent.begin(), sent.end(), [id](const Sent& it) { return it.id == id; });
  }
  void put(const Sent& it, bool dup) {
    mqtt::Subscription entry;
    entry.filter = Text(it.topic);
    entry.qos = static_cast<Qos>(it.qos < 0 ? std::atoi(it.payload.c_str()) : 0);
    if (it.released) { return put_ack(PacketType::pubrel, it.id); }
    if (it.qos == -1) {
      mqtt::Subscribe packet;
      packet.packet_id = it.id;
      packet.filters = entry;
      return client_.put_packet(packet);
    }
    if (it.qos == -2) {
      mqtt::Unsubscribe packet;
      packet.packet_id = it.id;
      packet.filters = entry;
      return client_.put_packet(packet);
    }
    mqtt::Publish packet;
    packet.topic = Text(it.topic);
    packet.payload = Text(it.payload).bytes();
    packet.qos = static_cast<Qos>(it.qos);
    packet.retain = it.value != 0;
    packet.packet_id = it.id;
    packet.dup = dup;
    client_.put_packet(packet);
  }
  void put_ack(PacketType type, uint16_t id) {
    mqtt::Ack ack;
    ack.type = type;
    ack.packet_id = id;
    client_.put_packet(ack);
  }
  void take(const Packet& packet) {
    CHECK((open_ || packet.type == PacketType::connack));
    switch (packet.type) {
      case PacketType::connack:
        CHECK(packet.reason == mqtt::ReasonCode::success);
        CHECK((packet.session_present == known_ || version == Version::v3_1));
        known_ = true;
        open_ = true;
        for (const Sent& it : sent) { put(it, true); }
        break;
      case PacketType::publish: take_publish(packet); break;
      case PacketType::pubrel:
        known_ids_.erase(packet.packet_id);
        put_ack(PacketType::pubcomp, packet.packet_id);
        break;
      case PacketType::suback:
      case PacketType::unsuback:
      case PacketType::puback:
      case PacketType::pubcomp: settle(packet); break;
      case PacketType::pubrec: {
        const auto it = find(packet.packet_id);
        REQUIRE(it != sent.end());
        if (mqtt::failed(packet.reason)) { return settle(packet); }
        it->released = true;
        put(*it, false);
        break;
      }
      default: FAIL_CHECK("packet ", sim::hex(packet.wire));
    }
  }
  void take_publish(const Packet& packet) {
    if (packet.qos == Qos::exactly_once) {
      if (known_ids_.insert(packet.packet_id).second) { given[packet.payload] += 1; }
      put_ack(PacketType::pubrec, packet.packet_id);
    } else {
      given[packet.payload] += 1;
      if (packet.qos != Qos::at_most_once) { put_ack(PacketType::puback, packet.packet_id); }
    }
  }
  void settle(const Packet& packet) {
    const auto it = find(packet.packet_id);
    REQUIRE(it != sent.end());
    if (packet.reason == mqtt::ReasonCode::quota_exceeded) {
      CHECK(version == Version::v5);
      CHECK_FALSE(it->released);
      refused.insert(it->payload);
    } else {
      // PUBREL of what was delivered before the crash
      const bool unknown = packet.reason == mqtt::ReasonCode::packet_identifier_not_found;
      CHECK((!mqtt::failed(packet.reason) || (unknown && it->released)));
      CHECK((it->qos != 2) == (packet.type != PacketType::pubcomp));
      if (it->value != 0) { kept[it->topic] = it->value; }
      acknowledged += 1;
    }
    sent.erase(it);
  }

  sim::Client<Config> client_;
  bool linked_ = false;
  bool open_ = false;
  bool known_ = false;  // the broker has told us of a session
  uint16_t last_id_ = 0;
  std::set<uint16_t> known_ids_;
};

struct Totals {
  uint64_t crashes = 0;
  uint64_t power_cuts = 0;
  uint64_t mid_write = 0;  // the power went within a batch
  uint64_t messages = 0;
  uint64_t acknowledged = 0;
  uint64_t full = 0;  // times the disk was full or failed
  uint64_t refused = 0;
  uint64_t losses = 0;
  uint64_t segments = 0;
  uint64_t tails = 0;
};

// Lives of one broker: work, faults, crash, recovery, and at last a quiet end.
template <typename Config>
class Storm {
 public:
  Storm(uint32_t seed, Totals& totals) : dice_(seed), disk_(seed), totals_(totals) {
    setting_.log.segment_bytes = 1500 + dice_.below(10000);
    setting_.log.slice_bytes = 1 + dice_.below(2000);
    setting_.buffer_bytes = 2 * (16000 + dice_.below(40000));
    if (seed % 4 == 0) { setting_.sync = mqtt::journal::Sync::never; }
    revive();
    for (size_t i = 0; i < 4; ++i) {
      peers_[i].name = "peer" + std::to_string(i);
      peers_[i].version = versions[(seed + i) % 3];
      peers_[i].connect(*life_);
    }
    rest();
    peers_[2].subscribe("t/#", true, 2);
    peers_[3].subscribe("t/1", true, 1);
    rest();
  }

  void run() {
    for (uint32_t life = 0; life < 4; ++life) {
      const uint32_t work = 20 + dice_.below(250);
      for (uint32_t i = 0; i < work && !disk_.dead; ++i) { act(); }
      crash();
      check_retained();
    }
    for (Peer<Config>& it : peers_) { it.connect(*life_); }
    rest();
    toggle_test();
    check();
    check_retained();
  }

 private:
  void act() {
    Peer<Config>& peer = peers_[dice_.below(4)];
    const uint32_t roll = dice_.below(100);
    if (roll < 30) {
      say(peer);
    } else if (roll < 55) {
      life_->turn();
    } else if (roll < 70) {
      peer.digest(1 + dice_.below(4));
    } else if (roll < 84) {
      life_->worker().work();
    } else if (roll < 88) {
      if (!peer.linked()) { peer.connect(*life_); }
    } else if (roll < 91) {
      peer.drop();
    } else if (roll < 93) {
      life_->log().compact();
    } else if (roll < 96) {
      toggle(peers_[3]);
    } else {
      fault();
    }
  }
  void say(Peer<Config>& peer) {
    if (!peer.open() || peer.sent.size() >= 20) { return; }
    const int qos = 1 + static_cast<int>(dice_.below(2));
    if (&peer == &peers_[0] && dice_.one_in(3)) {
      const uint32_t which = dice_.below(3);  // one QoS, or the order would be open
      std::vector<std::string>& values = written_["r/" + std::to_string(which)];
      values.push_back(dice_.one_in(5) ? "" : std::to_string(number_) + std::string(40, '.'));
      peer.publish("r/" + std::to_string(which), values.back(), which == 0 ? 2 : 1, values.size());
      return;
    }
    std::string payload = "m" + std::to_string(number_++) + ":";
    if (dice_.one_in(10)) { payload.append(dice_.below(3000), 'x'); }
    peer.publish("t/" + std::to_string(dice_.below(3)), payload, qos, 0);
    sender_.push_back(&peer);
    payloads_.push_back(payload);
    qos_.push_back(qos);
    one_.push_back(peer.sent.back().topic == "t/1");
  }
  void toggle(Peer<Config>& peer) {
    if (!peer.open() || peer.sent.size() >= 20) { return; }
    for (const auto& it : peer.sent) {
      if (it.qos < 0) { return; }
    }
    peer.subscribe("s/x", !peer.subscribed["s/x"], 1);
  }
  // The disk fails in one way or recovers.
  void fault() {
    switch (dice_.below(6)) {
      case 0: disk_.room = dice_.below(3000); break;
      case 1:  // what was not synced may be gone then, as after a power cut
        disk_.syncs_fail = setting_.sync == mqtt::journal::Sync::always;
        break;
      case 2: disk_.calls = dice_.below(8); break;
      default:
        disk_.room = ~uint64_t{0};
        disk_.syncs_fail = false;
        return;
    }
    totals_.full += 1;
  }
  void crash() {
    const bool synced = setting_.sync == mqtt::journal::Sync::always;
    const bool power = synced && (disk_.dead || !dice_.one_in(3));
    totals_.crashes += 1;
    totals_.power_cuts += power ? 1U : 0U;
    totals_.mid_write += disk_.dead ? 1U : 0U;
    totals_.losses += life_->log().losses();
    totals_.segments += life_->log().segment();
    for (Peer<Config>& it : peers_) { it.forget_link(); }
    setting_.wall += 10;
    life_.reset();
    disk_.crash(power);
    revive();
    totals_.tails += life_->found.tail_bytes != 0 ? 1U : 0U;
    CHECK(life_->found.damages == 0);
  }
  void revive() { life_ = std::make_unique<Life<Config>>(disk_, setting_); }
  void rest() {
    for (int idle = 0; idle < 3; ++idle) {
      life_->rest();
      for (Peer<Config>& it : peers_) { it.digest(1000); }
      if (life_->turn()) { idle = -1; }
    }
  }
  // Retained are values last acknowledged, or sent since.
  void check_retained() {
    const auto probe = life_->b.connect(Version::v3_1_1, "probe");
    mqtt::Subscription entry;
    entry.filter = "r/#";
    mqtt::Subscribe subscribe;
    subscribe.packet_id = probe.new_id();
    subscribe.filters = entry;
    probe.send(subscribe);
    std::map<std::string, std::string> found;
    while (probe.has_packet()) {
      const Packet packet = probe.next();
      if (packet.type == PacketType::publish) { found[packet.topic] = packet.payload; }
    }
    probe.disconnect();
    life_->rest();
    for (const auto& it : written_) {
      CAPTURE(it.first);
      const std::vector<std::string>& values = it.second;
      const size_t kept = peers_[0].kept[it.first];
      const std::string value = found[it.first];
      bool good = kept == 0 && value.empty();
      for (size_t i = kept == 0 ? 0 : kept - 1; i < values.size(); ++i) {
        good = good || values[i] == value;
      }
      CHECK(good);
    }
  }
  void toggle_test() {
    peers_[1].publish("s/x", "probe", 1, 0);
    rest();
    CHECK((peers_[3].given["probe"] != 0) == peers_[3].subscribed["s/x"]);
  }
  void check() {
    for (const Peer<Config>& it : peers_) {
      CHECK(it.sent.empty());
      totals_.acknowledged += it.acknowledged;
    }
    totals_.messages += number_;
    for (uint32_t i = 0; i < number_; ++i) {
      const std::string& payload = payloads_[i];
      CAPTURE(i);
      CAPTURE(qos_[i]);
      const uint32_t all = peers_[2].given[payload];
      if (sender_[i]->refused.count(payload) != 0) {  // it may have been taken before a crash
        totals_.refused += 1;
        if (qos_[i] == 2) { CHECK(all <= 1); }
        continue;
      }
      CHECK((qos_[i] == 2 ? all == 1 : all >= 1));
      if (one_[i]) { CHECK(peers_[3].given[payload] >= 1); }
    }
  }

  Dice dice_;
  Disk disk_;
  Totals& totals_;
  Setting setting_;
  std::unique_ptr<Life<Config>> life_;
  Peer<Config> peers_[4];
  uint32_t number_ = 0;
  std::vector<std::string> payloads_;
  std::vector<Peer<Config>*> sender_;
  std::vector<int> qos_;
  std::vector<bool> one_;
  std::map<std::string, std::vector<std::string>> written_;
};

uint32_t crash_points(uint32_t otherwise) {
  const char* wish = std::getenv("MQTT_CRASH_POINTS");
  return wish != nullptr ? static_cast<uint32_t>(std::atoi(wish)) : otherwise;
}
uint32_t first_seed() {
  const char* wish = std::getenv("MQTT_CRASH_SEED");
  return wish != nullptr ? static_cast<uint32_t>(std::atoi(wish)) : 1;
}

TEST_CASE("no crash and no failing disk loses what was acknowledged or doubles QoS 2") {
  Totals totals;
  const uint32_t points = crash_points(1000);
  for (uint32_t seed = first_seed(); totals.crashes < points; ++seed) {
    CAPTURE(seed);
    if (seed % 3 == 0) {
      Storm<Narrow>(seed, totals).run();
    } else {
      Storm<Wide>(seed, totals).run();
    }
  }
  MESSAGE(totals.crashes, " crash points (", totals.power_cuts, " power cuts, ", totals.mid_write,
          " within a write), ", totals.messages, " messages, ", totals.acknowledged,
          " acknowledgements, ", totals.refused, " refused, ", totals.full, " disk faults, ",
          totals.losses, " chains begun anew, ", totals.segments, " segments, ", totals.tails,
          " torn tails");
}

}  // namespace
