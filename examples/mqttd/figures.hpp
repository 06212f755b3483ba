// examples/mqttd/figures.hpp — what the broker counts, for $SYS and for /metrics alike
// SPDX-License-Identifier: MIT
#ifndef MQTTD_FIGURES_HPP
#define MQTTD_FIGURES_HPP

#include <mqtt.hpp>

namespace mqttd {

enum class Figure : uint8_t {
  clients_total,
  clients_maximum,
  clients_connected,
  clients_disconnected,
  clients_expired,
  messages_stored,
  bytes_stored,
  subscriptions,
  shared_subscriptions,
  retained_messages,
  heap_current,
  heap_maximum,
  messages_received,
  messages_sent,
  bytes_received,
  bytes_sent,
  sockets,
  connections,
  publish_dropped,
  publish_received,
  publish_sent,
  publish_bytes_received,
  publish_bytes_sent,
  proxy_failed,
  tls_failed,
  http_failed,
  websocket_failed,
  count_
};

constexpr uint32_t figure_count = static_cast<uint32_t>(Figure::count_);

/// How a figure is called: below `$SYS/broker/`, there once more, and in Prometheus' format below
/// `mqttd_`. Those that only grow are counters.
/// Texts in place: a pointer would be four words in the program.
struct FigureName {
  char topic[27];
  char second_topic[21];  ///< may be empty, as topic
  char metric[30];
  char help[44];
  bool counter;
};

constexpr FigureName figure_names[] = {
    {"clients/total", "", "sessions", "Sessions, with and without a connection.", false},
    {"clients/maximum", "", "sessions_maximum", "The most sessions there were.", false},
    {"clients/connected", "clients/active", "clients_connected", "Clients connected now.", false},
    {"clients/disconnected", "clients/inactive", "clients_disconnected",
     "Sessions whose client is not connected.", false},
    {"clients/expired", "", "sessions_expired_total", "Sessions that have expired.", true},
    {"messages/stored", "store/messages/count", "messages_stored", "Messages in the store.", false},
    {"store/messages/bytes", "", "stored_bytes", "Payload bytes in the store.", false},
    {"subscriptions/count", "", "subscriptions", "Subscriptions.", false},
    {"shared_subscriptions/count", "", "shared_subscriptions", "Shared subscriptions.", false},
    {"retained messages/count", "", "retained_messages", "Retained messages.", false},
    {"heap/current", "", "memory_bytes", "Memory in use for messages and names.", false},
    {"heap/maximum", "", "memory_maximum_bytes", "The most memory that was in use.", false},
    {"messages/received", "", "packets_received_total", "MQTT packets received.", true},
    {"messages/sent", "", "packets_sent_total", "MQTT packets sent.", true},
    {"bytes/received", "", "bytes_received_total", "Bytes received.", true},
    {"bytes/sent", "", "bytes_sent_total", "Bytes sent.", true},
    {"connections/socket/count", "", "sockets_accepted_total", "Connections accepted.", true},
    {"", "", "connects_received_total", "CONNECT packets received.", true},
    {"publish/messages/dropped", "", "publish_dropped_total", "Messages dropped.", true},
    {"publish/messages/received", "", "publish_received_total", "PUBLISH packets received.", true},
    {"publish/messages/sent", "", "publish_sent_total", "PUBLISH packets sent.", true},
    {"publish/bytes/received", "", "publish_bytes_received_total",
     "Payload bytes of PUBLISH packets received.", true},
    {"publish/bytes/sent", "", "publish_bytes_sent_total", "Payload bytes of PUBLISH packets sent.",
     true},
    {"", "", "proxy_failed_total", "Connections with a bad PROXY header.", true},
    {"", "", "tls_failed_total", "Connections whose TLS failed.", true},
    {"", "", "http_failed_total", "Connections with a bad HTTP request.", true},
    {"", "", "websocket_failed_total", "Connections whose WebSocket failed.", true},
};
static_assert(sizeof figure_names / sizeof figure_names[0] == figure_count, "one row each");

struct Figures {
  int64_t values[figure_count] = {};

  int64_t& operator[](Figure figure) { return values[static_cast<uint32_t>(figure)]; }
  int64_t operator[](Figure figure) const { return values[static_cast<uint32_t>(figure)]; }
};

/// What the program counts itself.
struct ProgramCounts {
  uint32_t clients_connected = 0;
  uint64_t layer_failures[4] = {};  ///< PROXY, TLS, HTTP, WebSocket
};

/// Brings the figures up to date.
inline void collect(const mqtt::BrokerStatistics& now, const mqtt::BrokerLimits& limits,
                    const ProgramCounts& counts, Figures& figures) {
  const auto keep_largest = [&figures](Figure largest, Figure current) {
    if (figures[current] > figures[largest]) { figures[largest] = figures[current]; }
  };
  const auto set = [&figures](Figure figure, uint64_t value) {
    figures[figure] = static_cast<int64_t>(value);
  };
  set(Figure::clients_total, now.sessions);
  set(Figure::clients_connected, counts.clients_connected);
  set(Figure::clients_disconnected, now.sessions - counts.clients_connected);
  set(Figure::clients_expired, now.sessions_expired);
  set(Figure::messages_stored, now.stored);
  set(Figure::bytes_stored, now.stored_bytes);
  set(Figure::subscriptions, now.subscriptions);
  set(Figure::shared_subscriptions, now.shared_subscriptions);
  set(Figure::retained_messages, now.retained);
  set(Figure::heap_current, uint64_t{now.blocks} * limits.block_bytes +
                                uint64_t{now.large_blocks} * limits.large_block_bytes +
                                uint64_t{now.text_blocks} * limits.text_block_bytes);
  set(Figure::messages_received, now.packets_received);
  set(Figure::messages_sent, now.packets_sent);
  set(Figure::bytes_received, now.bytes_received);
  set(Figure::bytes_sent, now.bytes_sent);
  set(Figure::sockets, now.connections_total);
  set(Figure::connections, now.connects_received);
  set(Figure::publish_dropped, now.publish_dropped);
  set(Figure::publish_received, now.publish_received);
  set(Figure::publish_sent, now.publish_sent);
  set(Figure::publish_bytes_received, now.publish_bytes_received);
  set(Figure::publish_bytes_sent, now.publish_bytes_sent);
  set(Figure::proxy_failed, counts.layer_failures[0]);
  set(Figure::tls_failed, counts.layer_failures[1]);
  set(Figure::http_failed, counts.layer_failures[2]);
  set(Figure::websocket_failed, counts.layer_failures[3]);
  keep_largest(Figure::clients_maximum, Figure::clients_total);
  keep_largest(Figure::heap_maximum, Figure::heap_current);
}

}  // namespace mqttd

#endif
