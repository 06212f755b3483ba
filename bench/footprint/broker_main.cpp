// A broker for 4 connections with everything compiled in, over hooks that do nothing: its code and
// its RAM. With -DCONVERSATION the hooks bring a conversation that passes through all of it, so
// that its stack shows. Each switch below leaves one feature out:
//
// switch v3_1
// switch v3_1_1
// switch v5
// switch qos_2
// switch retained
// switch wills
// switch shared_subscriptions
// switch topic_aliases
#include "mqtt.hpp"

namespace {

struct Features : mqtt::AllFeatures {
#ifdef WITHOUT_V3_1
  static constexpr bool v3_1 = false;
#endif
#ifdef WITHOUT_V3_1_1
  static constexpr bool v3_1_1 = false;
#endif
#ifdef WITHOUT_V5
  static constexpr bool v5 = false;
#endif
#ifdef WITHOUT_QOS_2
  static constexpr bool qos_2 = false;
#endif
#ifdef WITHOUT_RETAINED
  static constexpr bool retained = false;
#endif
#ifdef WITHOUT_WILLS
  static constexpr bool wills = false;
#endif
#ifdef WITHOUT_SHARED_SUBSCRIPTIONS
  static constexpr bool shared_subscriptions = false;
#endif
#ifdef WITHOUT_TOPIC_ALIASES
  static constexpr bool topic_aliases = false;
#endif
};

struct Config : mqtt::BrokerConfig {
  using Index = uint16_t;
  using Features = ::Features;
};

constexpr mqtt::BrokerLimits chip() {
  mqtt::BrokerLimits limits;
  limits.connections = 4;
  limits.sessions = 4;
  limits.subscriptions = 16;
  limits.filters = 16;
  limits.filter_nodes = 32;  // 16 filters of which some are wildcards of a few levels
  limits.retained = 8;
  limits.retained_nodes = 16;
  limits.blocks = 32;  // 16 queued and 8 retained messages of 70 bytes, or 10 of 256, and queues
  limits.block_bytes = 104;
  limits.large_blocks = 0;
  limits.text_blocks = 24;  // 4 client ids, 16 filters
  limits.text_block_bytes = 24;
  limits.turn_records = 0;  // every message is stored at once
  limits.packet_bytes_max = 256;
  limits.control_packet_bytes_max = 256;
  limits.topic_levels_max = 8;
  limits.receive_maximum = 4;
  limits.inflight_max = 4;
  limits.queued_max = 16;
  limits.topic_alias_max = 4;
  limits.topic_alias_broker_max = 4;
  return limits;
}
constexpr mqtt::BrokerLimits limits = chip();

#ifdef CONVERSATION

// What the links bring, one packet a read: link, size, bytes. All three versions, all QoS, a
// will, a retained message, a shared subscription and aliases.
constexpr uint8_t script[] = {
    // 0: v5 CONNECT "a", topic aliases taken, will "w" after 1 s
    0, 31, 0x10, 29, 0, 4, 'M', 'Q', 'T', 'T', 5, 0x06, 0, 60, 3, 0x22, 0, 4, 0, 1, 'a', 5, 0x18, 0,
    0, 0, 1, 0, 1, 'w', 0, 1, 'x',
    // 1: 3.1.1 CONNECT "b", session kept
    1, 15, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x00, 0, 60, 0, 1, 'b',
    // 2: 3.1 CONNECT "c"
    2, 17, 0x10, 15, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 0x02, 0, 60, 0, 1, 'c',
    // 0: SUBSCRIBE "t/+" QoS 2 with identifier 7
    0, 13, 0x82, 11, 0, 1, 2, 0x0B, 7, 0, 3, 't', '/', '+', 2,
    // 0: SUBSCRIBE "t/#" QoS 1 with identifier 8
    0, 13, 0x82, 11, 0, 2, 2, 0x0B, 8, 0, 3, 't', '/', '#', 1,
    // 1: SUBSCRIBE "$share/g/t/#" QoS 1
    1, 19, 0x82, 17, 0, 1, 0, 12, '$', 's', 'h', 'a', 'r', 'e', '/', 'g', '/', 't', '/', '#', 1,
    // 2: PUBLISH "t/a" QoS 2, retained; PUBREL
    2, 12, 0x35, 10, 0, 3, 't', '/', 'a', 0, 1, 'y', 'e', 's', 2, 4, 0x62, 2, 0, 1,
    // 0: PUBREC, PUBCOMP; 1: PUBACK
    0, 4, 0x50, 2, 0, 1, 0, 4, 0x70, 2, 0, 1, 1, 4, 0x40, 2, 0, 1,
    // 1: SUBSCRIBE "+/a" QoS 2: the retained one
    1, 10, 0x82, 8, 0, 2, 0, 3, '+', '/', 'a', 2,
    // 0: PUBLISH "t/b" QoS 1 with alias 1, then by the alias
    0, 14, 0x32, 12, 0, 3, 't', '/', 'b', 0, 3, 3, 0x23, 0, 1, '1', 0, 11, 0x32, 9, 0, 0, 0, 4, 3,
    0x23, 0, 1, '2',
    // 1: a packet in two parts; UNSUBSCRIBE; PINGREQ
    1, 6, 0xA2, 7, 0, 3, 0, 3, 1, 3, '+', '/', 'a', 1, 2, 0xC0, 0,
    // 0: a malformed packet: the will
    0, 2, 0xF3, 0,
    // 1: a takeover by link 3
    3, 15, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x00, 0, 60, 0, 1, 'b'};

class Transport {
 public:
  bool accept_next(uint32_t& link) {
    link = accepted_;
    if (accepted_ == limits.connections) { return false; }
    accepted_ += 1;
    return true;
  }
  int32_t receive(uint32_t link, uint8_t* target, size_t size) {
    if (at_ == sizeof script || script[at_] != link || script[at_ + 1] > size) { return 0; }
    const uint8_t count = script[at_ + 1];
    memcpy(target, script + at_ + 2, count);
    at_ += 2U + count;
    return count;
  }
  int32_t transmit(uint32_t, const uint8_t*, size_t size) {
    sent_ += size;
    return static_cast<int32_t>(size);
  }
  void hang_up(uint32_t) { hung_up_ += 1; }
  bool done() const { return at_ == sizeof script; }
  size_t sent() const { return sent_; }
  uint32_t hung_up() const { return hung_up_; }

 private:
  uint32_t accepted_ = 0;
  uint32_t at_ = 0;
  size_t sent_ = 0;
  uint32_t hung_up_ = 0;
};

#else

// The compiler knows nothing about what comes and when.
volatile uint8_t input;
volatile uint8_t output;

class Transport {
 public:
  bool accept_next(uint32_t& link) {
    link = input;
    return link < limits.connections;
  }
  int32_t receive(uint32_t, uint8_t* target, size_t) {
    *target = input;
    return input;
  }
  int32_t transmit(uint32_t, const uint8_t* bytes, size_t) {
    output = *bytes;
    return input;
  }
  void hang_up(uint32_t link) { output = static_cast<uint8_t>(link); }
};

#endif

struct Clock {
  uint64_t now_ms() { return time_ms += 10; }
  uint64_t time_ms = 0;
};

Transport transport;
Clock clock;
mqtt::Broker<Transport, Clock, Config, limits> broker(transport, clock);

}  // namespace

int main() {
  if (broker.start(4711) != mqtt::Error::none) { return 1; }
#ifdef CONVERSATION
  for (uint32_t turn = 0; turn < 200; ++turn) { broker.run_once(); }
  clock.time_ms += 100000;  // keep-alives and the will's delay end
  for (uint32_t turn = 0; turn < 200; ++turn) { broker.run_once(); }
  return transport.done() && transport.sent() > 200 && transport.hung_up() == 4 ? 0 : 2;
#else
  while (true) { broker.run_once(); }
#endif
}
