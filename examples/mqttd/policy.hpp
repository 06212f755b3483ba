// examples/mqttd/policy.hpp — who may connect, and the log lines about connections
// SPDX-License-Identifier: MIT
#ifndef MQTTD_POLICY_HPP
#define MQTTD_POLICY_HPP

#include <signal.h>
#include <mqtt.hpp>
#include <ports/posix/broker_loop.hpp>

#include "options.hpp"

namespace mqttd {

/// The engine's policy and the loop's observer in one: both speak about the same connections.
class Policy : public mqtt::AllowAll, public mqtt::posix::NoObserver {
 public:
  Policy(const Options& options, Log& log) : options_(options), log_(log) {}

  /// Reserves the tables of peers: of each connection that is used 8 bytes, over IPv6 24.
  bool start(uint32_t connections) {
    if (!memory_.reserve(uint64_t{connections} * (sizeof(Peer) + sizeof(in6_addr)))) {
      return false;
    }
    peers_ = reinterpret_cast<Peer*>(memory_.data());
    v6_addresses_ = reinterpret_cast<in6_addr*>(peers_ + connections);
    return true;
  }

  // --- the engine asks and tells ---

  /// Without a password file no name is right: a client may connect where anonymous ones may.
  void on_connect(mqtt::ConnectionId id, const mqtt::Connect& connect,
                  mqtt::ConnectAnswer& answer) noexcept {
    Peer& peer = peers_[id.slot];
    AllowAll::on_connect(id, connect, answer);
    if (options_.listeners[peer.group].allow_anonymous != Choice::yes) {
      answer.reason = mqtt::ReasonCode::not_authorized;
      peer.state = PeerState::refused;
    }
  }

  void on_connected(const mqtt::ClientView& client, const mqtt::Connect& connect) noexcept {
    peers_[client.connection.slot].state = PeerState::connected;
    if (!wants_connection_lines()) { return; }
    const PeerText text = text_of(client.connection.slot);
    const mqtt::Text id = client.client_id;
    const mqtt::Text user = connect.user_name;
    log_.line(log_notice, "New client connected from %s as %.*s (p%d, c%d, k%u%s%.*s%s).",
              text.address, shown(id), id.data(), version_number(client.version),
              connect.clean_start ? 1 : 0, connect.keep_alive_s,
              connect.has_user_name ? ", u'" : "", shown(user), user.data(),
              connect.has_user_name ? "'" : "");
  }

  void on_disconnected(const mqtt::ClientView& client, const mqtt::Disconnection& why) noexcept {
    peers_[client.connection.slot].state = PeerState::told;
    if (wants_connection_lines()) {
      const bool in_order = why.by_client && why.reason == mqtt::ReasonCode::success;
      log_end(client.connection.slot, client.client_id,
              in_order                                ? nullptr
              : why.error == mqtt::Error::link_closed ? ended_by_transport()
                                                      : sentence(why.reason));
    }
  }

  bool filters_publish() const noexcept { return log_.wants(log_debug); }
  void on_publish(const mqtt::ClientView& client, const mqtt::Publish& publish,
                  mqtt::PublishAnswer&) noexcept {
    if (log_.wants(log_debug)) {
      log_.line(
          log_debug, "Received PUBLISH from %.*s (d%d, q%u, r%d, m%u, '%.*s', ... (%u bytes))",
          shown(client.client_id), client.client_id.data(), publish.dup ? 1 : 0,
          unsigned{mqtt::level(publish.qos)}, publish.retain ? 1 : 0, unsigned{publish.packet_id},
          shown(publish.topic), publish.topic.data(), publish.payload.size());
    }
  }

  mqtt::ReasonCode on_subscribe(const mqtt::ClientView& client,
                                const mqtt::Subscription& subscription) noexcept {
    if (log_.wants(log_subscribe)) {
      log_.line(log_subscribe, "%.*s %u %.*s", shown(client.client_id), client.client_id.data(),
                unsigned{mqtt::level(subscription.qos)}, shown(subscription.filter),
                subscription.filter.data());
    }
    return mqtt::ReasonCode::success;
  }

  // --- the loop tells ---

  void on_accepted(mqtt::ConnectionId id, uint32_t group,
                   const mqtt::posix::SocketAddress& address) noexcept {
    Peer& peer = peers_[id.slot];
    peer = Peer{};
    peer.port = address.port();
    peer.group = static_cast<uint8_t>(group);
    peer.v6 = address.any.sa_family == AF_INET6;
    if (address.any.sa_family == AF_INET6) {
      v6_addresses_[id.slot] = address.v6.sin6_addr;
    } else if (address.any.sa_family == AF_INET) {
      peer.v4_address = address.v4.sin_addr;
    }
    broken_ = false;
    if (wants_connection_lines()) {
      const PeerText text = text_of(id.slot);
      log_.line(log_notice, "New connection from %s on port %u.", text.address,
                options_.listeners[group].port);
    }
  }

  /// A flood is one line a minute and kind.
  void on_refused(uint32_t, const mqtt::posix::SocketAddress& address,
                  mqtt::posix::Refusal why) noexcept {
    constexpr mqtt::Millis minute = 60000;
    Flood& flood = floods_[static_cast<uint8_t>(why)];
    ++flood.count;
    const mqtt::Millis now = mqtt::posix::MonotonicClock{}.now_ms();
    if (flood.count > 1 && now < flood.next_ms) { return; }
    flood.next_ms = now + minute;
    char host[INET6_ADDRSTRLEN];
    address.write_host(host);
    switch (why) {
      case mqtt::posix::Refusal::listener_full:
        log_.line(log_notice, "Client connection from %s denied: max_connections exceeded.", host);
        break;
      case mqtt::posix::Refusal::broker_full:
        log_.line(log_notice,
                  "Client connection from %s denied: global_max_connections, or what the limits "
                  "of memory and descriptors allow, exceeded.",
                  host);
        break;
      case mqtt::posix::Refusal::descriptors:
        log_.line(log_warning,
                  "Unable to accept new connection, system socket count has been exceeded. "
                  "Try increasing \"ulimit -n\" or equivalent.");
        break;
    }
    if (flood.count > 1) {
      log_.line(log_notice, "%u connections were denied for this reason so far.", flood.count);
    }
  }

  void on_broken(mqtt::ConnectionId, int error) noexcept {
    broken_ = true;
    transport_error_ = error;
  }

  void on_closed(mqtt::ConnectionId id) noexcept {
    const Peer& peer = peers_[id.slot];
    if (peer.state != PeerState::told && wants_connection_lines()) {
      log_end(id.slot, mqtt::Text(),
              peer.state == PeerState::refused ? "not authorised"
              : broken_                        ? ended_by_transport()
                                               : "protocol error");
    }
    broken_ = false;
  }

  void on_notice(uint8_t notice) noexcept {
    if (notice == SIGHUP) {
      log_.line(log_notice, "Nothing to reload yet: the configuration is unchanged.");
    }
  }

  void on_turn() noexcept { log_.flush(); }

 private:
  // What was said about a connection so far.
  enum class PeerState : uint8_t { accepted, refused, connected, told };

  struct Peer {
    in_addr v4_address;
    uint16_t port;
    bool v6 : 1;
    PeerState state : 7;
    uint8_t group;
  };
  static_assert(sizeof(Peer) == 8, "8 bytes a connection");

  struct PeerText {
    char address[INET6_ADDRSTRLEN + 8];

    PeerText(const Peer& peer, const in6_addr& v6_address) noexcept {
      char host[INET6_ADDRSTRLEN] = "unix";
      if (peer.v6) {
        (void)inet_ntop(AF_INET6, &v6_address, host, sizeof host);
      } else if (peer.port != 0) {
        (void)inet_ntop(AF_INET, &peer.v4_address, host, sizeof host);
      }
      snprintf(address, sizeof address, "%s:%u", host, unsigned{peer.port});
    }
  };
  PeerText text_of(uint32_t slot) const noexcept {
    return PeerText(peers_[slot], v6_addresses_[slot]);
  }

  struct Flood {
    uint32_t count = 0;
    mqtt::Millis next_ms = 0;
  };

  bool wants_connection_lines() const noexcept {
    return options_.connection_messages && log_.wants(log_notice);
  }

  // The last line about a connection; without a reason the client said goodbye.
  void log_end(uint32_t slot, mqtt::Text id, const char* reason) noexcept {
    const PeerText text = text_of(slot);
    const mqtt::Text name = id.empty() ? mqtt::Text(text.address) : id;
    log_.line(log_notice, "Client %.*s [%s] disconnected%s%s%s", shown(name), name.data(),
              text.address, reason == nullptr ? "" : ": ", reason == nullptr ? "" : reason,
              reason != nullptr && reason == broken_text_ ? "" : ".");
  }

  const char* ended_by_transport() noexcept {
    if (transport_error_ == 0) { return "connection closed by client"; }
    snprintf(broken_text_, sizeof broken_text_, "bad socket read/write: %s",
             strerror(transport_error_));
    return broken_text_;
  }

  // How much of a text a line shows.
  static int shown(mqtt::Text text) noexcept {
    return static_cast<int>(text.size() < 256 ? text.size() : 256);
  }

  // As in the lines people search for: 1 is MQTT 3.1, 2 is 3.1.1, 5 is 5.0.
  static int version_number(mqtt::Version version) noexcept {
    switch (version) {
      case mqtt::Version::v3_1: return 1;
      case mqtt::Version::v3_1_1: return 2;
      case mqtt::Version::v5: return 5;
    }
    return 0;
  }

  static const char* sentence(mqtt::ReasonCode reason) noexcept {
    using mqtt::ReasonCode;
    struct Row {
      ReasonCode reason;
      const char* text;
    };
    constexpr Row rows[] = {
        {ReasonCode::malformed_packet, "malformed packet"},
        {ReasonCode::protocol_error, "protocol error"},
        {ReasonCode::unsupported_protocol_version, "unsupported protocol version"},
        {ReasonCode::client_identifier_not_valid, "client identifier not valid"},
        {ReasonCode::bad_user_name_or_password, "bad username or password"},
        {ReasonCode::not_authorized, "not authorised"},
        {ReasonCode::server_unavailable, "server unavailable"},
        {ReasonCode::server_busy, "server busy"},
        {ReasonCode::server_shutting_down, "server shutting down"},
        {ReasonCode::banned, "client banned"},
        {ReasonCode::bad_authentication_method, "bad authentication method"},
        {ReasonCode::keep_alive_timeout, "exceeded timeout"},
        {ReasonCode::maximum_connect_time, "exceeded timeout"},
        {ReasonCode::session_taken_over, "session taken over"},
        {ReasonCode::receive_maximum_exceeded, "receive maximum exceeded"},
        {ReasonCode::topic_alias_invalid, "topic alias invalid"},
        {ReasonCode::packet_too_large, "oversize packet"},
        {ReasonCode::quota_exceeded, "quota exceeded"},
        {ReasonCode::administrative_action, "administrative action"},
        {ReasonCode::connection_rate_exceeded, "connection rate exceeded"},
        {ReasonCode::implementation_specific_error, "implementation specific error"},
        {ReasonCode::retain_not_supported,
         "used disallowed feature (QoS too high, retain not supported, or bad AUTH method)"},
        {ReasonCode::qos_not_supported,
         "used disallowed feature (QoS too high, retain not supported, or bad AUTH method)"},
        {ReasonCode::disconnect_with_will, "with will message"},
    };
    for (const Row& row : rows) {
      if (row.reason == reason) { return row.text; }
    }
    return "protocol error";
  }

  const Options& options_;
  Log& log_;
  mqtt::posix::Reservation memory_;
  Peer* peers_ = nullptr;
  in6_addr* v6_addresses_ = nullptr;
  bool broken_ = false;  // by its transport, which ended with
  int transport_error_ = 0;
  char broken_text_[80] = {};
  Flood floods_[3];
};

}  // namespace mqttd

#endif
