// A broker in a random storm: clients of all versions publish, acknowledge late, lose their links
// in the middle of a byte string, take each other over and come back, while a model keeps the
// books. Nothing acknowledged may be lost for a session that lasts, nothing of QoS 2 doubled,
// nothing overtaken; and when all is over the broker's memory is empty.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "mqtt.hpp"

namespace {

using mqtt::Bytes;
using mqtt::ConnectionId;
using mqtt::PacketType;
using mqtt::Qos;
using mqtt::ReasonCode;
using mqtt::Text;
using mqtt::Version;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 1) {}
  uint32_t below(uint32_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint32_t>((state_ >> 16) % limit);
  }
  bool one_in(uint32_t count) { return below(count) == 0; }

 private:
  uint64_t state_;
};

template <typename Engine>
auto check_engine(Engine& engine, int) -> decltype(engine.check_invariants(), void()) {
  engine.check_invariants();
}
template <typename Engine>
void check_engine(Engine&, long) {}

// One link: what the client has sent and the broker not read, and the other way round.
struct Wire {
  ConnectionId id;
  std::string to_broker;
  std::string to_client;
  bool open = true;
  bool blocked = false;
  uint32_t client = 0;
  bool left = false;     // its client has gone to another one
  uint32_t session = 0;  // of the client then
  uint32_t link = 0;
};

// The port: a short write is as likely as a whole one, every byte given to the broker is freed
// after the turn, and the scratch wiped after sent().
template <typename Config>
class Port {
 public:
  using Engine = mqtt::BrokerEngine<Config>;

  Port(const mqtt::BrokerLimits& limits, uint64_t seed) : random_(seed) {
    const uint64_t size = mqtt::broker_bytes<Config>(limits);
    memory_.reset(new Line[(size + sizeof(Line) - 1) / sizeof(Line)]);
    memset(static_cast<void*>(memory_.get()), 0xA7, size);
    scratch_.resize(limits.control_packet_bytes_max + 16);
    const mqtt::Error error =
        engine.start(limits, {memory_[0].bytes, size}, static_cast<uint32_t>(seed), now);
    REQUIRE(error == mqtt::Error::none);
  }

  Wire* open(uint32_t client) {
    ConnectionId id;
    if (engine.admit(id, now) != mqtt::Error::none) { return nullptr; }
    wires.push_back(std::make_unique<Wire>());
    wires.back()->id = id;
    wires.back()->client = client;
    return wires.back().get();
  }
  void cut(Wire& wire) {
    wire.open = false;
    engine.lost(wire.id, now);
    check_engine(engine, 0);
  }
  // Forgets the links that are over and whose last bytes the client has had.
  void sweep() {
    const auto over = [](const std::unique_ptr<Wire>& wire) { return !wire->open && wire->left; };
    wires.erase(std::remove_if(wires.begin(), wires.end(), over), wires.end());
  }

  // False when nothing moved.
  bool turn() {
    bool moved = false;
    std::vector<std::unique_ptr<uint8_t[]>> arena;
    for (size_t i = 0; i < wires.size(); ++i) {
      Wire& wire = *wires[i];
      if (wire.open && wire.blocked && (calm || random_.one_in(2))) {
        wire.blocked = false;
        engine.writable(wire.id);
        moved = true;
      }
      if (wire.open && !wire.to_broker.empty() && engine.wants_read(wire.id)) {
        read(wire, arena);
        moved = true;
      }
    }
    engine.tick(now);
    check_engine(engine, 0);
    moved = drain() || moved;
    engine.end_turn(now);
    check_engine(engine, 0);
    return moved;
  }

  typename Config::Policy policy;
  typename Config::Journal journal;
  Engine engine{policy, journal};
  mqtt::Millis now = 5000;
  bool calm = false;  // whole writes only
  std::vector<std::unique_ptr<Wire>> wires;

 private:
  struct alignas(16) Line {
    uint8_t bytes[16];
  };

  void read(Wire& wire, std::vector<std::unique_ptr<uint8_t[]>>& arena) {
    const uint32_t waiting = static_cast<uint32_t>(wire.to_broker.size());
    const uint32_t size = random_.one_in(3) ? 1 + random_.below(waiting) : waiting;
    uint32_t direct = 0;
    mqtt::Buffer space[1];
    if (engine.rx_space(wire.id, space) != 0) {
      direct = std::min(size, space[0].size());
      memcpy(space[0].data(), wire.to_broker.data(), direct);
      engine.rx_commit(wire.id, direct, now);
    }
    if (size != direct) {
      arena.emplace_back(new uint8_t[size - direct]);
      memcpy(arena.back().get(), wire.to_broker.data() + direct, size - direct);
      engine.receive(wire.id, mqtt::Buffer(arena.back().get(), size - direct), now);
    }
    wire.to_broker.erase(0, size);
    check_engine(engine, 0);
  }

  Wire* find(ConnectionId id) {
    for (const auto& wire : wires) {
      if (wire->id == id) { return wire.get(); }
    }
    return nullptr;
  }

  bool drain() {
    bool moved = false;
    ConnectionId id;
    while (engine.next_due(id)) {
      Wire* wire = find(id);
      REQUIRE(wire != nullptr);
      while (wire->open && write(*wire, moved)) {}
    }
    return moved;
  }
  // False when the link needs no more of it now.
  bool write(Wire& wire, bool& moved) {
    Bytes pieces[8];
    const mqtt::Buffer scratch(scratch_.data(), static_cast<uint32_t>(scratch_.size()));
    const auto output = engine.fill(wire.id, scratch, mqtt::Span<Bytes>(pieces));
    uint32_t most = output.size;
    if (!calm && random_.one_in(3)) { most = random_.below(output.size + 1); }
    uint32_t taken = 0;
    for (uint32_t i = 0; i < output.count; ++i) {
      const uint32_t part = std::min(pieces[i].size(), most - taken);
      wire.to_client.append(Text(pieces[i]).data(), part);
      taken += part;
    }
    if (output.size != 0) {
      REQUIRE(taken == most);
      engine.sent(wire.id, taken);
    }
    memset(scratch_.data(), 0xEE, scratch_.size());
    check_engine(engine, 0);
    moved = moved || taken != 0;
    if (output.hang_up) {
      wire.open = false;
      engine.lost(wire.id, now);
      return false;
    }
    wire.blocked = taken < output.size;
    return output.size != 0 && !wire.blocked;
  }

  Random random_;
  std::unique_ptr<Line[]> memory_;
  std::vector<uint8_t> scratch_;
};

// A message of the storm; its number stands at the front of its payload.
struct Message {
  uint32_t publisher = 0;
  std::string topic;
  std::string payload;
  int qos = 0;
  bool retain = false;
  bool acknowledged = false;
  bool repeated = false;  // by its publisher
};

std::string payload_of(size_t number, uint32_t size) {
  char front[12];
  snprintf(front, sizeof front, "%08x", static_cast<unsigned>(number));
  return front + std::string(size, static_cast<char>('a' + number % 26));
}

// What a publisher has under way.
struct Outgoing {
  uint16_t packet_id = 0;
  size_t message = 0;
  bool released = false;  // PUBREC came
};

constexpr size_t none_due = ~size_t{0};

// A PUBLISH with an id that came from the broker.
struct Incoming {
  std::string payload;
  bool answered = false;  // PUBACK or PUBCOMP sent
  uint32_t link = 0;      // the number of the link it came on last
};

struct Client {
  std::string name;
  Version version = Version::v5;
  bool persistent = false;
  bool publishes = false;
  std::vector<std::pair<std::string, int>> filters;
  uint16_t receive_maximum = 0;

  Wire* wire = nullptr;
  bool connected = false;  // CONNACK came
  uint32_t link = 0;       // counts links
  uint32_t subacks_due = 0;
  bool subscribed = false;     // all of them came
  bool refused = false;        // one of them said no
  size_t due_from = none_due;  // the first message it must get
  bool has_session = false;    // the broker is expected to know it
  uint32_t session = 0;        // counts sessions
  uint16_t packet_id = 0;
  std::vector<Outgoing> outgoing;
  std::map<uint16_t, Incoming> incoming;
  std::set<uint16_t> received;       // QoS 2, PUBREL awaited
  std::vector<std::string> answers;  // acknowledgements it has yet to send, in order
  std::vector<uint16_t> answer_ids;  // beside them: the id that is free then, or 0
  uint32_t cut_packets = 0;          // of which some bytes were sent before a link was cut
  uint32_t sent_on_link = 0;         // unanswered QoS > 0 of this link

  std::map<size_t, uint32_t> seen;                                  // message number: how often
  std::map<std::tuple<uint32_t, std::string, int>, size_t> newest;  // publisher, topic, both QoS
};

struct Storm {
  uint64_t seed = 1;
  mqtt::BrokerLimits limits;
  uint32_t steps = 1500;
  uint32_t payload_max = 300;
  uint32_t cut_one_in = 60;
  bool lossless = true;  // the limits are large enough
};

template <typename Config>
class Model {
 public:
  explicit Model(const Storm& storm)
      : storm_(storm), random_(storm.seed), port_(storm.limits, storm.seed + 1) {
    const Version versions[] = {Version::v5, Version::v3_1_1, Version::v3_1};
    for (uint32_t i = 0; i < 12; ++i) {
      Client client;
      client.name = "client" + std::to_string(i);
      client.version = versions[i % 3];
      client.persistent = i < 10;
      client.publishes = i >= 4;
      client.receive_maximum = static_cast<uint16_t>(1 + random_.below(8));
      if (i < 6 || i >= 10) {
        client.filters = {{"t/#", 2}, {"t/+", 1}, {"t/1", static_cast<int>(i % 3)}};
      } else {
        client.filters = {{"$share/g/s/#", static_cast<int>(1 + i % 2)}};
      }
      clients_.push_back(client);
    }
  }

  void run() {
    port_.calm = true;
    settle();
    port_.calm = false;
    for (uint32_t step = 0; step < storm_.steps; ++step) {
      CAPTURE(step);
      for (uint32_t i = 0; i < 4; ++i) {
        act(random_.below(static_cast<uint32_t>(clients_.size())));
      }
      port_.now += random_.below(100);
      port_.turn();
      digest_all();
    }
    port_.calm = true;
    settle();
    check_deliveries();
    ending_ = true;
    end_sessions();
    check_empty();
  }

 private:
  using P = Port<Config>;

  template <typename Packet>
  static std::string encoded(Version version, const Packet& packet) {
    std::string bytes(8192, '\0');
    const auto size = mqtt::encode(
        version, packet, mqtt::Buffer(reinterpret_cast<uint8_t*>(&bytes[0]), uint32_t{8192}));
    REQUIRE(size.error == mqtt::Error::none);
    bytes.resize(size.value);
    return bytes;
  }
  template <typename Packet>
  static void send(Client& client, const Packet& packet) {
    client.wire->to_broker += encoded(client.version, packet);
  }

  // ---- what clients do ----------------------------------------------------------------------

  void act(uint32_t index) {
    Client& client = clients_[index];
    if (client.wire == nullptr) {
      if (random_.one_in(3)) { connect(index, false); }
      return;
    }
    if (random_.one_in(storm_.cut_one_in)) {
      switch (random_.below(3)) {
        case 0: cut(client); break;
        case 1: connect(index, false); break;  // a takeover: the old link is still there
        default:
          if (client.connected) {
            send(client, mqtt::Disconnect());
            leave(client, true);
          }
      }
      return;
    }
    if (!client.connected || client.subacks_due != 0) { return; }
    answer_some(client);
    if (client.publishes && client.outgoing.size() < 10 && random_.one_in(2)) { publish(index); }
  }

  void connect(uint32_t index, bool last) {
    Client& client = clients_[index];
    if (client.wire != nullptr) { leave(client, false); }
    client.wire = port_.open(index);
    if (client.wire == nullptr) { return; }
    client.link += 1;
    uint8_t bytes[32];
    mqtt::PropertyWriter properties{mqtt::Buffer(bytes)};
    mqtt::Connect packet;
    packet.version = client.version;
    packet.client_id = client.name;
    packet.keep_alive_s = 0;
    packet.clean_start = !client.persistent || last;
    if (client.version == Version::v5) {
      if (!packet.clean_start) {
        properties.number(mqtt::PropertyId::session_expiry_interval, 3600);
      }
      properties.number(mqtt::PropertyId::receive_maximum, client.receive_maximum);
      if (random_.one_in(2)) { properties.number(mqtt::PropertyId::topic_alias_maximum, 4); }
      packet.properties = properties.properties();
    }
    if (random_.one_in(3) && !last) {
      packet.has_will = true;
      packet.will.topic = "w/1";
      packet.will.payload = Text("gone").bytes();
      packet.will.qos = static_cast<Qos>(random_.below(3));
    }
    if (packet.clean_start) { forget_session(client); }
    send(client, packet);
  }

  void forget_session(Client& client) {
    client.has_session = false;
    client.subscribed = false;
    client.refused = false;
    client.due_from = none_due;
    client.session += 1;
    client.outgoing.clear();
    client.incoming.clear();
    client.received.clear();
    client.cut_packets = 0;
  }

  // The client has left the link; what comes on it is lost.
  void leave(Client& client, bool politely) {
    client.wire->left = true;
    client.wire->session = client.session;
    client.wire->link = client.link;
    // a CONNECT that is read later would take over the link that follows
    if (client.wire->open && (!client.connected || (!politely && random_.one_in(2)))) {
      port_.cut(*client.wire);
    }
    client.wire = nullptr;
    client.connected = false;
    client.subacks_due = 0;
    client.sent_on_link = 0;
    client.answers.clear();
    client.answer_ids.clear();
  }
  void cut(Client& client) {
    port_.cut(*client.wire);
    leave(client, true);
  }
  // What the broker has sent to a client that did not get it: a repeat of it has DUP.
  void note_lost(Wire& wire) {
    Client& client = clients_[wire.client];
    mqtt::Frame frame;
    while (!wire.to_client.empty() && mqtt::next_frame(Text(wire.to_client).bytes(), client.version,
                                                       0x10000000, frame) == mqtt::Error::none) {
      mqtt::Publish packet;
      if (frame.type() == PacketType::publish && client.session == wire.session) {
        REQUIRE(mqtt::decode(frame, client.version, mqtt::Side::client, packet) ==
                mqtt::Error::none);
        const std::string payload(Text(packet.payload).data(), packet.payload.size());
        if (packet.qos != Qos::at_most_once) {
          client.incoming[packet.packet_id] = {payload, false, wire.link};
        }
      }
      wire.to_client.erase(0, frame.size());
    }
    if (!wire.open && !wire.to_client.empty() && client.session == wire.session) {
      client.cut_packets += 1;
      wire.to_client.clear();
    }
  }

  void answer_some(Client& client) {
    uint32_t count = random_.below(4);
    while (count != 0 && !client.answers.empty()) {
      answer_one(client);
      count -= 1;
    }
  }
  void answer_one(Client& client) {
    client.wire->to_broker += client.answers.front();
    const uint16_t id = client.answer_ids.front();
    if (id != 0) {
      client.incoming[id].answered = true;
      client.sent_on_link -= 1;
    }
    client.answers.erase(client.answers.begin());
    client.answer_ids.erase(client.answer_ids.begin());
  }

  void publish(uint32_t index) {
    Client& client = clients_[index];
    Message message;
    message.publisher = index;
    message.topic = (random_.one_in(3) ? "s/" : "t/") + std::to_string(random_.below(4));
    message.qos = static_cast<int>(random_.below(3));
    message.retain = random_.one_in(10);
    message.payload =
        payload_of(messages_.size(), random_.below(random_.one_in(8) ? storm_.payload_max : 60));
    messages_.push_back(message);
    uint16_t id = 0;
    if (message.qos != 0) {
      id = free_id(client);
      client.outgoing.push_back({id, messages_.size() - 1, false});
    }
    send_publish(client, messages_.size() - 1, id, false);
  }
  static uint16_t free_id(Client& client) {
    bool taken = true;
    while (taken) {
      client.packet_id = mqtt::next_packet_id(client.packet_id);
      taken = false;
      for (const Outgoing& other : client.outgoing) {
        taken = taken || other.packet_id == client.packet_id;
      }
    }
    return client.packet_id;
  }
  void send_publish(Client& client, size_t number, uint16_t id, bool dup) {
    Message& message = messages_[number];
    message.repeated = message.repeated || dup;
    mqtt::Publish packet;
    packet.topic = message.topic;
    packet.payload = Text(message.payload).bytes();
    packet.qos = static_cast<Qos>(message.qos);
    packet.retain = message.retain;
    packet.packet_id = id;
    packet.dup = dup;
    send(client, packet);
  }

  // ---- what clients get ---------------------------------------------------------------------

  // decode() may not be left by an exception: it keeps, take() looks.
  struct Packets {
    mqtt::Connack connack;
    mqtt::Publish publish;
    mqtt::Ack ack;
    mqtt::Suback suback;
    mqtt::Disconnect disconnect;
  };
  struct Visitor {
    Packets& packets;
    void operator()(const mqtt::Connack& packet) const { packets.connack = packet; }
    void operator()(const mqtt::Publish& packet) const { packets.publish = packet; }
    void operator()(const mqtt::Ack& packet) const { packets.ack = packet; }
    void operator()(const mqtt::Suback& packet) const { packets.suback = packet; }
    void operator()(const mqtt::Disconnect& packet) const { packets.disconnect = packet; }
    template <typename Other>
    void operator()(const Other&) const {}
  };
  void take(Client& client, PacketType type, const Packets& packets) {
    if (type == PacketType::connack) {
      on_connack(client, packets.connack);
    } else if (type == PacketType::publish) {
      on_publish(client, packets.publish);
    } else if (type == PacketType::suback) {
      client.subacks_due -= 1;
      client.subscribed = client.subacks_due == 0;
      for (const uint8_t code : packets.suback.reason_codes) {
        REQUIRE((code <= 2 || !storm_.lossless));
        client.refused = client.refused || code > 2;
      }
      if (client.subscribed && !client.refused) { client.due_from = messages_.size(); }
    } else if (type == PacketType::disconnect) {
      CAPTURE(static_cast<int>(packets.disconnect.reason_code));
      REQUIRE(!storm_.lossless);
    } else {
      REQUIRE(type >= PacketType::puback);
      REQUIRE(type <= PacketType::pubcomp);
      on_ack(client, packets.ack);
    }
  }

  void digest_all() {
    visit_left();
    for (size_t i = 0; i < port_.wires.size(); ++i) {
      if (!port_.wires[i]->left) { digest(clients_[port_.wires[i]->client]); }
    }
    visit_left();
    port_.sweep();
  }
  void visit_left() {
    for (const std::unique_ptr<Wire>& wire : port_.wires) {
      const bool stuck = wire->to_broker.empty() ? random_.one_in(4) : random_.one_in(50);
      if (wire->left && wire->open && stuck) { port_.cut(*wire); }
      if (wire->left) { note_lost(*wire); }
    }
  }

  void digest(Client& client) {
    CAPTURE(client.name);
    Wire& wire = *client.wire;
    while (!wire.to_client.empty()) {
      mqtt::Frame frame;
      const mqtt::Error framed =
          mqtt::next_frame(Text(wire.to_client).bytes(), client.version, 0x10000000, frame);
      if (framed == mqtt::Error::incomplete) { break; }
      REQUIRE(framed == mqtt::Error::none);
      if (!client.connected) {
        REQUIRE(frame.type() == PacketType::connack);  // [MQTT-3.2.0-1]
      }
      const uint32_t size = frame.size();
      Packets packets;
      const mqtt::Error error =
          mqtt::decode(frame, client.version, mqtt::Side::client, Visitor{packets});
      REQUIRE(error == mqtt::Error::none);
      take(client, frame.type(), packets);
      wire.to_client.erase(0, size);
    }
    if (!wire.open) {
      if (storm_.lossless && !ending_) { FAIL("the broker hung up on " << client.name); }
      leave(client, true);
    }
  }

  void on_connack(Client& client, const mqtt::Connack& packet) {
    aliases_[&client].assign(16, std::string());
    if (packet.reason_code != ReasonCode::success) {
      REQUIRE(!storm_.lossless);
      return;
    }
    client.connected = true;
    // 3.1 does not say
    const bool present =
        packet.session_present || (client.version == Version::v3_1 && client.has_session);
    REQUIRE(!(present && !client.persistent));  // [MQTT-3.2.2-2]
    REQUIRE((present || !client.has_session));  // a kept session does not vanish
    if (!present) { forget_session(client); }
    client.has_session = client.persistent;
    if (!client.subscribed) { subscribe(client); }
    for (Outgoing& it : client.outgoing) {  // in their order [MQTT-4.4.0-1] [MQTT-4.6.0-1]
      if (it.released) {
        send(client, ack(PacketType::pubrel, it.packet_id));
      } else {
        send_publish(client, it.message, it.packet_id, true);
      }
    }
  }
  static mqtt::Ack ack(PacketType type, uint16_t id) {
    mqtt::Ack packet;
    packet.type = type;
    packet.packet_id = id;
    return packet;
  }
  void subscribe(Client& client) {
    for (const auto& [filter, qos] : client.filters) {
      mqtt::Subscription entry;
      entry.filter = filter;
      entry.qos = static_cast<Qos>(qos);
      entry.retain_handling = mqtt::RetainHandling::send;
      mqtt::Subscribe packet;
      packet.packet_id = 65535;
      packet.filters = entry;
      send(client, packet);
      client.subacks_due += 1;
    }
  }

  void on_publish(Client& client, const mqtt::Publish& packet) {
    std::string topic(packet.topic.data(), packet.topic.size());
    const uint32_t alias = packet.properties.number(mqtt::PropertyId::topic_alias, 0);
    if (alias != 0) {
      std::string& known = aliases_[&client][alias];
      REQUIRE(!(topic.empty() && known.empty()));
      known = topic.empty() ? known : topic;
      topic = known;
    }
    const std::string payload(Text(packet.payload).data(), packet.payload.size());
    bool fresh = true;
    if (packet.qos == Qos::at_most_once) {
      REQUIRE(!packet.dup);  // [MQTT-3.3.1-2]
    } else {
      fresh = take_id(client, packet, payload);
    }
    if (payload == "gone" || !fresh) { return; }
    size_t number = 0;
    REQUIRE(payload.size() >= 8);
    number = std::stoul(payload.substr(0, 8), nullptr, 16);
    REQUIRE(number < messages_.size());
    const Message& message = messages_[number];
    REQUIRE(message.topic == topic);
    REQUIRE(message.payload == payload);
    if (!packet.retain) { count(client, number, static_cast<int>(packet.qos)); }
  }

  // Ids, DUP and the receive maximum; false for a QoS 2 message that was there before.
  bool take_id(Client& client, const mqtt::Publish& packet, const std::string& payload) {
    const uint16_t id = packet.packet_id;
    const auto old = client.incoming.find(id);
    const bool unanswered = old != client.incoming.end() && !old->second.answered;
    if (unanswered) {
      REQUIRE(old->second.link != client.link);  // nothing is repeated on a live link
      REQUIRE(old->second.payload == payload);   // ids are unique in flight [MQTT-2.2.1-4]
      REQUIRE(packet.dup);                       // [MQTT-3.3.1-1]
    } else if (packet.dup) {
      const bool answer_lost = old != client.incoming.end() && old->second.payload == payload;
      REQUIRE((answer_lost || client.cut_packets != 0));
      client.cut_packets -= answer_lost ? 0U : 1U;
    }
    client.incoming[id] = {payload, false, client.link};
    client.sent_on_link += 1;
    if (client.version == Version::v5) {
      REQUIRE(client.sent_on_link <= client.receive_maximum);  // [MQTT-3.3.4-9]
    }
    const bool once = packet.qos == Qos::exactly_once;
    const PacketType type = once ? PacketType::pubrec : PacketType::puback;
    client.answers.push_back(encoded(client.version, ack(type, id)));
    client.answer_ids.push_back(once ? uint16_t{0} : id);
    return !once || client.received.insert(id).second;
  }

  void count(Client& client, size_t number, int qos) {
    const Message& message = messages_[number];
    uint32_t& times = client.seen[number];
    times += 1;
    if (qos != 1) {
      REQUIRE(times == 1);  // QoS 2 exactly once [MQTT-4.3.3-12], QoS 0 at most once
    }
    size_t& newest = client.newest[{message.publisher, message.topic, message.qos * 4 + qos}];
    // dropped the first time, a repeat of it may come behind later ones
    const bool late = message.repeated && !storm_.lossless;
    if (times == 1 && message.topic[0] == 't' && !late) {
      REQUIRE(number + 1 > newest);  // [MQTT-4.6.0-6]
    }
    newest = std::max(newest, number + 1);
  }

  void on_ack(Client& client, const mqtt::Ack& packet) {
    if (packet.type == PacketType::pubrel) {
      const bool known = client.received.erase(packet.packet_id) != 0;
      client.answers.push_back(encoded(client.version, ack(PacketType::pubcomp, packet.packet_id)));
      const auto it = client.incoming.find(packet.packet_id);
      const bool counted = it != client.incoming.end() && it->second.link == client.link;
      client.answer_ids.push_back(known && counted ? packet.packet_id : uint16_t{0});
      if (known && !counted && it != client.incoming.end()) { it->second.answered = true; }
      return;
    }
    const auto same_id = [&](const Outgoing& it) { return it.packet_id == packet.packet_id; };
    const auto it = std::find_if(client.outgoing.begin(), client.outgoing.end(), same_id);
    if (it == client.outgoing.end()) {
      return;  // of a session the client has forgotten
    }
    Message& message = messages_[it->message];
    // 0x92: PUBCOMP was lost with the link before
    const bool completed = packet.type == PacketType::pubcomp &&
                           packet.reason_code == ReasonCode::packet_identifier_not_found;
    if (mqtt::failed(packet.reason_code) && !completed) {
      REQUIRE(!storm_.lossless);
      client.outgoing.erase(it);
      return;
    }
    REQUIRE((packet.type == PacketType::puback) == (message.qos == 1));
    if (packet.type == PacketType::pubrec) {
      it->released = true;
      client.wire->to_broker += encoded(client.version, ack(PacketType::pubrel, packet.packet_id));
      return;
    }
    message.acknowledged = true;
    client.outgoing.erase(it);
  }

  // ---- the end ------------------------------------------------------------------------------

  // Everybody is there, answers everything, and all comes to rest.
  void settle() {
    uint32_t quiet = 0;
    for (uint32_t i = 0; quiet < 20; ++i) {
      REQUIRE_MESSAGE(i < 20000, "the broker does not come to rest");
      bool moved = false;
      for (uint32_t c = 0; c < clients_.size(); ++c) {
        if (clients_[c].wire == nullptr) {
          connect(c, false);
          moved = true;
        } else if (clients_[c].connected) {
          moved = moved || !clients_[c].answers.empty();
          while (!clients_[c].answers.empty()) { answer_one(clients_[c]); }
        }
      }
      port_.now += storm_.lossless ? 10 : 300;
      moved = port_.turn() || moved;
      digest_all();
      quiet = moved ? 0 : quiet + 1;
      if (!storm_.lossless && i > 2000) {
        return;  // with hardly any memory somebody is always refused
      }
    }
  }

  static int granted(const Client& client, const std::string& topic) {
    int best = -1;
    for (const auto& [filter, qos] : client.filters) {
      if (mqtt::matches(mqtt::split_shared(filter).filter, topic)) { best = std::max(best, qos); }
    }
    return best;
  }

  void check_deliveries() {
    uint64_t dropped = 0;  // messages that somebody misses
    uint32_t checked = 0;
    for (size_t number = 0; number < messages_.size(); ++number) {
      const Message& message = messages_[number];
      if (!message.acknowledged) { continue; }
      bool missed = false;
      uint32_t holders = 0;
      uint32_t members = 0;
      for (const Client& client : clients_) {
        const bool got = client.seen.count(number) != 0;
        const bool due =
            granted(client, message.topic) >= 1 && client.persistent && number >= client.due_from;
        holders += got ? 1U : 0U;
        members += due ? 1U : 0U;
        if (message.topic[0] == 't' && due) {
          checked += 1;
          missed = missed || !got;
          CAPTURE(client.name);
          CAPTURE(number);
          REQUIRE((got || !storm_.lossless));
        }
      }
      if (message.topic[0] == 's') {  // one of the group has it
        REQUIRE((holders != 0 || !storm_.lossless));
        REQUIRE((holders <= 1 || message.qos == 1));  // who repeats may reach another one
        missed = missed || (holders == 0 && members != 0);
      }
      dropped += missed ? 1U : 0U;
    }
    const mqtt::BrokerStatistics& statistics = port_.engine.statistics();
    if (storm_.lossless) {
      CHECK(checked > storm_.steps / 4);
      CHECK(statistics.stored <= statistics.retained + clients_.size());  // and wills
    }
    CHECK(dropped <= statistics.publish_dropped);
  }

  // Ends every session, one by one, because there may be room for one only; clears what is
  // retained.
  void end_sessions() {
    for (Client& client : clients_) {
      client.persistent = false;
      client.filters.clear();
      if (client.wire != nullptr) { cut(client); }
    }
    pass(10);
    for (uint32_t round = 0; round < 3; ++round) {
      for (uint32_t i = 0; i < clients_.size(); ++i) {
        connect(i, true);
        pass(10);
        if (clients_[i].connected) { clear_retained(clients_[i]); }
        if (clients_[i].connected) {
          send(clients_[i], mqtt::Disconnect());
          pass(10);
        }
        if (clients_[i].wire != nullptr) { cut(clients_[i]); }
      }
    }
    pass(20);
  }
  void pass(uint32_t turns) {
    for (uint32_t i = 0; i < turns; ++i) {
      port_.now += 500;
      port_.turn();
      digest_all();
    }
  }
  void clear_retained(Client& client) {
    for (uint32_t i = 0; i < 8; ++i) {
      const std::string topic = (i < 4 ? "t/" : "s/") + std::to_string(i % 4);
      mqtt::Publish packet;
      packet.topic = topic;
      packet.retain = true;
      send(client, packet);
    }
    pass(5);
  }

  template <typename S>
  static auto other_pools(const S& s, int) -> decltype(s.text_blocks + s.filter_nodes) {
    return s.text_blocks + s.filter_nodes + s.retained_nodes;
  }
  template <typename S>
  static uint32_t other_pools(const S&, long) {
    return 0;
  }
  void check_empty() {
    const mqtt::BrokerStatistics& statistics = port_.engine.statistics();
    CHECK(statistics.connections == 0);
    CHECK(statistics.sessions == 0);
    CHECK(statistics.subscriptions == 0);
    CHECK(statistics.shared_subscriptions == 0);
    CHECK(statistics.retained == 0);
    CHECK(statistics.stored == 0);
    CHECK(statistics.blocks == 0);
    CHECK(statistics.large_blocks == 0);
    CHECK(other_pools(statistics, 0) == 0);
    CHECK(port_.engine.deadline() == ~mqtt::Millis{0});
  }

  Storm storm_;
  bool ending_ = false;  // the broker hangs up after DISCONNECT
  Random random_;
  P port_;
  std::vector<Client> clients_;
  std::vector<Message> messages_;
  std::map<const Client*, std::vector<std::string>> aliases_;
};

struct SmallIndex : mqtt::BrokerConfig {
  using Index = uint16_t;
};

constexpr mqtt::BrokerLimits roomy() {
  mqtt::BrokerLimits limits;
  limits.connections = 64;
  limits.sessions = 32;
  limits.subscriptions = 128;
  limits.filters = 64;
  limits.filter_nodes = 128;
  limits.retained = 16;
  limits.retained_nodes = 64;
  limits.blocks = 30000;
  limits.block_bytes = 80;
  limits.large_blocks = 1000;
  limits.large_block_bytes = 1024;
  limits.text_blocks = 500;
  limits.turn_records = 50;
  limits.packet_bytes_max = 8000;
  limits.control_packet_bytes_max = 600;
  limits.queued_max = 20000;
  limits.topic_levels_max = 8;
  return limits;
}

// As on a microcontroller: limits known at compile time, which leave code out.
constexpr mqtt::BrokerLimits chip(bool lossless) {
  mqtt::BrokerLimits limits = roomy();
  limits.turn_records = limits.large_blocks = 0;
  limits.packet_bytes_max = limits.control_packet_bytes_max = 450;
  if (!lossless) {
    limits.connections = limits.sessions = 8;
    limits.subscriptions = 16;
    limits.filters = 5;
    limits.retained = 4;
    limits.blocks = 40;
    limits.text_blocks = 30;
    limits.receive_maximum = limits.inflight_max = 4;
    limits.queued_max = 6;
    limits.pause_ms = 800;
  }
  return limits;
}
template <bool lossless>
struct Chip : SmallIndex {
  static constexpr mqtt::BrokerLimits limits = chip(lossless);
  static constexpr const mqtt::BrokerLimits* fixed_limits = &limits;
};

// So little of everything that every limit is met, again and again.
mqtt::BrokerLimits tiny(Random& random) {
  mqtt::BrokerLimits limits = roomy();
  limits.connections = 6 + random.below(8);
  limits.sessions = 6 + random.below(8);
  limits.subscriptions = 8 + random.below(16);
  limits.filters = 2 + random.below(5);
  limits.filter_nodes = 2 + random.below(8);
  limits.retained = random.below(6);
  limits.retained_nodes = 1 + random.below(10);
  limits.blocks = 8 + random.below(random.one_in(2) ? 40 : 200);
  limits.large_blocks = random.below(4);
  limits.text_blocks = 6 + random.below(40);
  limits.text_block_bytes = 16;
  limits.turn_records = 1 + random.below(6);
  limits.receive_maximum = static_cast<uint16_t>(2 + random.below(10));
  limits.inflight_max = static_cast<uint16_t>(1 + random.below(10));
  limits.queued_max = 1 + random.below(20);
  limits.pause_ms = static_cast<uint16_t>(random.below(2000));
  return limits;
}

// What differs from one storm to the next.
Storm storm_of(uint64_t seed, bool lossless) {
  Random random(seed);
  Storm storm;
  storm.seed = seed;
  storm.lossless = lossless;
  storm.limits = lossless ? roomy() : tiny(random);
  constexpr uint32_t payloads[] = {60, 300, 1500, 7000};
  storm.payload_max = payloads[random.below(4)];
  constexpr uint32_t cuts[] = {15, 60, 400};
  storm.cut_one_in = cuts[random.below(3)];
  constexpr uint32_t block_bytes[] = {80, 104, 128, 256};
  storm.limits.block_bytes = block_bytes[random.below(4)];
  storm.limits.large_blocks = random.one_in(3) ? 0 : storm.limits.large_blocks;
  storm.limits.control_packet_bytes_max = 256 + random.below(600);
  storm.limits.queue_qos_0 = random.one_in(3);
  return storm;
}

template <typename Config>
void run_storms(uint64_t first, uint64_t count, bool lossless) {
  const char* const more = getenv("MQTT_STORMS");  // hours of them, should somebody want to
  const uint64_t last = first + (more != nullptr ? strtoull(more, nullptr, 10) : count);
  for (uint64_t seed = first; seed < last; ++seed) {
    CAPTURE(seed);
    Storm storm = storm_of(seed, lossless);
    if (Config::fixed_limits != nullptr) {
      storm.limits = *Config::fixed_limits;
      storm.payload_max = std::min(storm.payload_max, 300U);
    }
    Model<Config> model(storm);
    model.run();
  }
}

}  // namespace

TEST_CASE_TEMPLATE(
    "nothing acknowledged is lost, doubled or overtaken [MQTT-4.3.2-1] "
    "[MQTT-4.3.3-12] [MQTT-4.6.0-6]",
    Config, mqtt::BrokerConfig, SmallIndex, Chip<true>) {
  run_storms<Config>(1, 6, true);
}

TEST_CASE_TEMPLATE("with hardly any memory messages are dropped and counted, and nothing breaks",
                   Config, mqtt::BrokerConfig, SmallIndex, Chip<false>) {
  run_storms<Config>(1000, 10, false);
}

namespace {

// A subscriber of QoS 1 that never acknowledges the first message, and what it was sent.
struct Forgetful {
  explicit Forgetful(Port<SmallIndex>& p) : port(p), wire(p.open(0)) {
    port.calm = true;
    mqtt::Connect connect;
    connect.version = Version::v3_1_1;
    connect.client_id = "forgetful";
    connect.clean_start = false;
    connect.keep_alive_s = 0;
    put(connect);
  }
  template <typename Packet>
  void put(const Packet& packet) {
    uint8_t bytes[64];
    const auto size = mqtt::encode(Version::v3_1_1, packet, bytes);
    REQUIRE(size.error == mqtt::Error::none);
    wire->to_broker.append(reinterpret_cast<const char*>(bytes), size.value);
  }
  void subscribe() {
    mqtt::Subscription entry;
    entry.filter = "t";
    entry.qos = Qos::at_least_once;
    mqtt::Subscribe packet;
    packet.packet_id = 1;
    packet.filters = entry;
    put(packet);
  }
  // Takes what has come; acknowledges all but the id kept.
  void digest() {
    mqtt::Frame frame;
    uint32_t at = 0;
    const Bytes bytes = Text(wire->to_client).bytes();
    while (mqtt::next_frame(bytes.skip(at), Version::v3_1_1, 1000, frame) == mqtt::Error::none) {
      at += frame.size();
      types.push_back(frame.type());
      mqtt::Publish packet;
      if (frame.type() != PacketType::publish ||
          mqtt::decode(frame, Version::v3_1_1, mqtt::Side::client, packet) != mqtt::Error::none) {
        continue;
      }
      messages += 1;
      if (kept == 0) {
        kept = packet.packet_id;
        continue;
      }
      REQUIRE(packet.packet_id != kept);
      mqtt::Ack ack;
      ack.packet_id = packet.packet_id;
      put(ack);
    }
    wire->to_client.erase(0, at);
  }
  void turn() {
    while (port.turn()) { digest(); }
  }

  Port<SmallIndex>& port;
  Wire* wire;
  uint16_t kept = 0;
  uint32_t messages = 0;
  std::vector<PacketType> types;
};

void publish_t(Port<SmallIndex>& port, uint32_t count) {
  mqtt::Publish packet;
  packet.topic = "t";
  packet.qos = Qos::at_least_once;
  for (uint32_t i = 0; i < count; ++i) {
    REQUIRE(port.engine.publish(packet, port.now) == mqtt::Error::none);
  }
}

}  // namespace

TEST_CASE("an id under way is not given to another message, however long it is [MQTT-2.2.1-4]") {
  Port<SmallIndex> port(roomy(), 5);
  Forgetful client(port);
  client.subscribe();
  client.turn();
  uint32_t blocks = 0;
  for (uint32_t i = 0; i < 7000; ++i) {
    publish_t(port, 10);
    client.turn();
    blocks = std::max(blocks, port.engine.statistics().blocks);
  }
  CHECK(client.messages == 70000);
  CHECK(blocks < 100);  // what is settled behind it does not pile up
}

TEST_CASE("CONNACK comes first, however many packets the link before had [MQTT-3.2.0-1]") {
  Port<SmallIndex> port(roomy(), 6);
  Forgetful client(port);
  client.subscribe();
  client.turn();
  publish_t(port, 1);
  client.turn();
  for (uint32_t i = 0; i < 4000; ++i) {
    publish_t(port, 10);
    client.turn();
  }
  client.wire->to_broker.clear();
  publish_t(port, 5);  // queued with an order of beyond 32,768
  port.turn();
  port.cut(*client.wire);
  Forgetful again(port);
  again.turn();
  REQUIRE(again.types.size() > 2);
  CHECK(again.types[0] == PacketType::connack);
}
