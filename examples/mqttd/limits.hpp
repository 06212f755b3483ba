// examples/mqttd/limits.hpp — from options and machine to the engine's limits
// SPDX-License-Identifier: MIT
#ifndef MQTTD_LIMITS_HPP
#define MQTTD_LIMITS_HPP

#include <mqtt.hpp>

#include "options.hpp"

namespace mqttd {

/// What the machine gives.
struct Machine {
  uint32_t descriptors = 1024;
  uint64_t memory_bytes = 256 << 20;
};

template <typename To>
constexpr To at_most(int64_t value, To limit) {
  return value > static_cast<int64_t>(limit) ? limit : static_cast<To>(value);
}

/// A number where 0 (or less) says "no limit", as the largest the engine can hold.
template <typename To>
constexpr To unlimited_at_0(int64_t value) {
  constexpr To most = static_cast<To>(~To{0});
  return value <= 0 ? most : at_most<To>(value, most);
}

/// Bytes of address space for the engine: half of what the machine has, or memory_limit.
inline uint64_t pool_bytes(const Options& options, const Machine& machine) {
  constexpr uint64_t most = sizeof(void*) == 4 ? uint64_t{512} << 20 : uint64_t{1} << 40;
  const uint64_t half = machine.memory_bytes / 2;
  const auto limit = static_cast<uint64_t>(options.memory_limit);
  const uint64_t pool = limit != 0 && limit < half ? limit : half;
  return pool < most ? pool : most;
}

/// Connections: what the descriptors allow, less some for listeners and files.
inline uint32_t connections_of(const Options& options, const Machine& machine) {
  const uint32_t reserve = 16 + 4 * options.listener_count;
  const uint32_t possible = machine.descriptors > reserve ? machine.descriptors - reserve : 1;
  return options.global_max_connections <= 0
             ? possible
             : at_most<uint32_t>(options.global_max_connections, possible);
}

/// A share of the pool as a count, within bounds.
constexpr uint32_t share(uint64_t pool, uint32_t bytes_each, uint32_t most) {
  const uint64_t count = pool / bytes_each;
  return count < 64 ? 64 : count < most ? static_cast<uint32_t>(count) : most;
}

/// How much of everything: tables by shares of the pool, blocks from what is left. Only what is
/// used becomes memory, so the shares may be generous.
template <typename Config>
bool set_sizes(const Options& options, const Machine& machine, mqtt::BrokerLimits& limits) {
  constexpr uint32_t most = 1 << 24;
  const uint64_t pool = pool_bytes(options, machine);
  const uint32_t possible = connections_of(options, machine);
  const uint32_t affordable = share(pool, 2048, most);
  limits.connections = possible < affordable ? possible : affordable;
  const uint32_t sessions = share(pool, 1024, 2 * limits.connections + 1024);
  limits.sessions = options.global_max_clients <= 0
                        ? sessions
                        : at_most<uint32_t>(options.global_max_clients, sessions);
  limits.subscriptions = share(pool, 1024, most);
  limits.filters = limits.subscriptions;
  limits.filter_nodes = 2 * limits.filters;
  limits.retained = share(pool, 1024, most);
  limits.retained_nodes = 2 * limits.retained;
  // Of a session: its client id and its user name.
  limits.text_blocks = 2 * limits.filters + 3 * limits.sessions;
  limits.turn_records = share(pool, 1024, 1 << 17);  // the smallest PUBLISHes that fill the arena
  limits.control_packet_bytes_max = share(pool, 16, 512 << 10);
  limits.blocks = 64;
  limits.large_blocks = 0;
  const uint64_t tables = mqtt::broker_bytes<Config>(limits);
  if (tables > pool) { return false; }
  const uint64_t rest = pool - tables;
  limits.blocks += static_cast<uint32_t>(rest / 2 / limits.block_bytes);
  limits.large_blocks = static_cast<uint32_t>(rest / 2 / limits.large_block_bytes);
  return true;
}

// Listeners may differ in these; the policy gives each client what its listener has.
inline void set_widest(const Options& options, mqtt::BrokerLimits& limits) {
  const auto raise = [](uint16_t& limit, int64_t value) {
    if (value > limit) { limit = static_cast<uint16_t>(value); }
  };
  unsigned versions = 0;
  limits.allow_empty_client_id = false;
  limits.topic_alias_max = 0;
  limits.topic_alias_broker_max = 0;
  for (uint32_t i = 0; i != options.listener_count; ++i) {
    const ListenerOptions& listener = options.listeners[i];
    versions |= listener.versions;
    if (listener.allow_zero_length_clientid == Choice::yes) { limits.allow_empty_client_id = true; }
    raise(limits.topic_alias_max, listener.max_topic_alias);
    raise(limits.topic_alias_broker_max, listener.max_topic_alias_broker);
  }
  limits.accept_v3_1 = (versions & 1U << 3) != 0;
  limits.accept_v3_1_1 = (versions & 1U << 4) != 0;
  limits.accept_v5 = (versions & 1U << 5) != 0;
}

/// The engine's limits for these options. False when memory_limit is too small: then they are
/// those of the smallest broker there could be.
template <typename Config>
bool set_limits(const Options& options, const Machine& machine, mqtt::BrokerLimits& limits) {
  limits.packet_bytes_max = static_cast<uint32_t>(options.max_packet_size);
  limits.message_bytes_max = static_cast<uint32_t>(options.message_size_limit);
  limits.receive_maximum = unlimited_at_0<uint16_t>(options.max_inflight_messages);
  limits.inflight_max = limits.receive_maximum;
  limits.inflight_bytes_max = at_most<uint32_t>(options.max_inflight_bytes, 0xFFFFFFFF);
  limits.queued_max = at_most<uint32_t>(options.max_queued_messages, 0xFFFFFFFF);
  limits.queued_bytes_max = at_most<uint32_t>(options.max_queued_bytes, 0xFFFFFFFF);
  limits.keep_alive_max_s = static_cast<uint16_t>(options.max_keepalive);
  limits.session_expiry_max_s = unlimited_at_0<uint32_t>(options.persistent_client_expiration);
  limits.retained_expiry_s = static_cast<uint32_t>(options.retain_expiry_interval);
  limits.retain_available = options.retain_available;
  limits.queue_qos_0 = options.queue_qos0_messages;
  limits.upgrade_outgoing_qos = options.upgrade_outgoing_qos;
  set_widest(options, limits);
  return set_sizes<Config>(options, machine, limits);
}

/// Whether limits differ that cannot change while the broker runs.
inline bool differ(const mqtt::BrokerSizes& a, const mqtt::BrokerSizes& b) {
  return a.connections != b.connections || a.sessions != b.sessions || a.blocks != b.blocks ||
         a.queued_bytes_max != b.queued_bytes_max || a.inflight_bytes_max != b.inflight_bytes_max;
}

}  // namespace mqttd

#endif
