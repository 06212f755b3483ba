// An MQTT broker on a Cortex-M3: port 1883, all versions, all QoS, retained messages, wills and
// sessions that survive a lost link, in fixed memory.
//
// Arguments, for tests: ticks=N is what the millisecond counter starts from; speed=N lets the
// broker's time run N times as fast from fast_after=MS on, so that hours pass in seconds.
#include <mqtt.hpp>
#include <ports/lwip/broker.hpp>
#include "board.hpp"
#include "network.hpp"

namespace {

// Four clients are served; one connection more can be told that the broker is full (CONNACK 0x97,
// in 3.x 0x03), another one is reset.
constexpr mqtt::BrokerLimits small() {
  mqtt::BrokerLimits limits;
  limits.connections = 5;
  limits.sessions = 4;
  limits.subscriptions = limits.filters = 16;
  limits.filter_nodes = 32;  // levels of wildcard filters
  limits.retained = 8;
  limits.retained_nodes = 16;
  limits.blocks = 48;  // 16 messages of 256 bytes, or many more small ones
  limits.block_bytes = 104;
  limits.large_blocks = 0;
  limits.text_blocks = 24;  // 4 client ids, 16 filters
  limits.text_block_bytes = 24;
  limits.turn_records = 0;  // every message is stored at once
  limits.packet_bytes_max = limits.control_packet_bytes_max = 256;
  limits.topic_levels_max = 8;
  limits.receive_maximum = limits.inflight_max = 4;
  limits.queued_max = 8;  // a full queue holds its publisher back while there are blocks
  limits.topic_alias_max = limits.topic_alias_broker_max = 4;
  limits.session_expiry_max_s = 86400;
  return limits;
}
constexpr mqtt::BrokerLimits limits = small();

struct Config : mqtt::BrokerConfig {
  using Index = uint16_t;
};

class FastClock {
 public:
  void start(uint32_t speed, uint32_t fast_after_ms) {
    speed_ = speed;
    turn_ms_ = clock_.now_ms() + fast_after_ms;
  }
  uint64_t now_ms() {
    const uint64_t now = clock_.now_ms();
    return now < turn_ms_ ? now : turn_ms_ + (now - turn_ms_) * speed_;
  }

 private:
  mqtt::lwip::Clock clock_;
  uint32_t speed_ = 1;
  uint64_t turn_ms_ = 0;
};

using Transport = mqtt::lwip::BrokerTransport<limits.connections>;

Network network;
Transport transport;
FastClock clock;
mqtt::Broker<Transport, FastClock, Config, limits> broker(transport, clock);

void report_stack() {
  static uint32_t reported = 0;
  const uint32_t used = board::stack_used();
  if (used == reported) { return; }
  reported = used;
  board::print("stack ");
  board::print_number(used);
  board::print("\n");
}

}  // namespace

int main() {
  board::set_milliseconds(board::argument("ticks", 0));
  clock.start(board::argument("speed", 1), board::argument("fast_after", 0));
  if (!network.start()) { return 1; }
  if (transport.start(altcp_new(nullptr), 1883) != ERR_OK) { return 2; }
  const mqtt::Error error = broker.start(board::random_number());
  if (error != mqtt::Error::none) { return 3; }
  board::print("listening on port 1883\n");
  while (true) {
    network.poll();
    broker.run_once();
    transport.flush();
    if (!transport.has_input()) {
      report_stack();
      network.sleep();
    }
  }
}
