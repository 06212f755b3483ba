// examples/mqttd/policy.hpp — who may connect, and the log lines about connections
// SPDX-License-Identifier: MIT
#ifndef MQTTD_POLICY_HPP
#define MQTTD_POLICY_HPP

#include <signal.h>
#include <mqtt.hpp>
#include <ports/posix/broker_loop.hpp>

#include "access_files.hpp"
#include "authenticator.hpp"
#include "figures.hpp"
#include "options.hpp"
#include "tls.hpp"

namespace mqttd {

/// The engine's policy and the loop's observer in one: both speak about the same connections.
class Policy : public mqtt::AllowAll, public mqtt::posix::NoObserver {
 public:
  explicit Policy(Log& log) : log_(log) {}

  static constexpr bool answers_later() noexcept { return true; }
  static constexpr bool keeps_user_names() noexcept { return true; }

  /// Reserves the tables of peers: of each connection that is used 8 bytes, over IPv6 24; with a
  /// name by certificate 512 more.
  bool start(uint32_t connections) {
    if (!memory_.reserve(uint64_t{connections} * (sizeof(Peer) + sizeof(in6_addr))) ||
        (has_tls && !names_.reserve(uint64_t{connections} * sizeof(PeerName))) ||
        !scratch_.reserve(scratch_bytes) || !authenticator_.start() || !attempts_.start()) {
      return false;
    }
    v6_addresses_ = reinterpret_cast<in6_addr*>(memory_.data());
    peers_ = reinterpret_cast<Peer*>(v6_addresses_ + connections);
    return true;
  }

  /// The rules from now on; both must outlive the policy or the next call.
  void use(const Options& options, const AccessFiles& files) {
    options_ = &options;
    files_ = &files;
    any_acl_ = files.any_acl();
    authenticator_.change_files(
        [this](mqtt::ConnectionId id) { return files_->passwords(peers_[id.slot].group); });
  }

  const ProgramCounts& counts() const { return counts_; }

  // --- passwords being checked ---

  bool checks_passwords() const { return authenticator_.busy(); }

  /// A slice of the passwords being checked. `answer(connection, answer)` hands a verdict to the
  /// engine and says whether it took it.
  template <typename Answer>
  void check_passwords(Answer&& answer) {
    authenticator_.work([&](mqtt::ConnectionId id, mqtt::Text user, bool right) {
      mqtt::ConnectAnswer verdict;
      take_in(id, true, user, verdict);
      settle(id, right, verdict);
      return answer(id, verdict);
    });
  }

  /// What was dropped is said once a minute, never message by message.
  void say_dropped(uint64_t dropped) noexcept {
    if (dropped == dropped_ || now_ms() < flood_of_drops_.next_ms) { return; }
    (void)starts_line(flood_of_drops_);
    log_.line(log_notice,
              "%llu messages were dropped, %llu since the start: a queue or the memory was full, "
              "they were too large, or not allowed.",
              static_cast<unsigned long long>(dropped - dropped_),
              static_cast<unsigned long long>(dropped));
    dropped_ = dropped;
  }

  // --- the engine asks and tells ---

  void on_connect(mqtt::ConnectionId id, const mqtt::Connect& connect,
                  mqtt::ConnectAnswer& answer) noexcept {
    Peer& peer = peers_[id.slot];
    const ListenerOptions& listener = options_->listeners[peer.group];
    AllowAll::on_connect(id, connect, answer);
    const bool named_below = has_tls && listener.names_users();
    const mqtt::Text user = named_below ? name_of(id.slot) : connect.user_name;
    take_in(id, named_below ? !user.empty() : connect.has_user_name, user, answer);
    if (answer.reason == mqtt::ReasonCode::success) {
      answer.reason = check_identity(listener, connect, user);
    }
    const bool good = answer.reason == mqtt::ReasonCode::success;
    if (good && !named_below) { check_credentials(id, connect, answer); }
    if (good && named_below && user.empty()) {
      answer.reason = mqtt::ReasonCode::bad_user_name_or_password;
    }
    if (answer.reason == mqtt::ReasonCode::not_authorized) { peer.state = PeerState::refused; }
  }

  void on_connected(const mqtt::ClientView& client, const mqtt::Connect& connect) noexcept {
    peers_[client.connection.slot].state = PeerState::connected;
    ++counts_.clients_connected;
    if (wants_connection_lines()) { say_connected(client, connect); }
    if (log_.wants(log_debug)) { say_will(connect); }
  }

  void on_disconnected(const mqtt::ClientView& client, const mqtt::Disconnection& why) noexcept {
    Peer& peer = peers_[client.connection.slot];
    const bool failed_below = peer.state == PeerState::failed;
    peer.state = PeerState::told;
    --counts_.clients_connected;
    if (why.by_client && log_.wants(log_debug)) {
      log_.line(log_debug, "Received DISCONNECT from %.*s", shown(client.client_id),
                client.client_id.data());
    }
    if (wants_connection_lines()) {
      const bool in_order = why.by_client && why.reason == mqtt::ReasonCode::success;
      log_end(client.connection.slot, client.client_id,
              in_order                                ? nullptr
              : failed_below                          ? "protocol error"
              : why.error == mqtt::Error::link_closed ? ended_by_transport()
                                                      : sentence(why.reason));
    }
  }

  static constexpr bool filters_publish() noexcept { return true; }
  void on_publish(const mqtt::ClientView& client, const mqtt::Publish& publish,
                  mqtt::PublishAnswer& answer) noexcept {
    const bool allowed = !is_the_brokers(publish.topic) && may(client, access_write, publish.topic);
    if (!allowed) { answer.reason = mqtt::ReasonCode::not_authorized; }
    if (log_.wants(log_debug)) {
      log_.line(log_debug, "%s PUBLISH from %.*s (d%d, q%u, r%d, m%u, '%.*s', ... (%u bytes))",
                allowed ? "Received" : "Denied", shown(client.client_id), client.client_id.data(),
                publish.dup ? 1 : 0, unsigned{mqtt::level(publish.qos)}, publish.retain ? 1 : 0,
                unsigned{publish.packet_id}, shown(publish.topic), publish.topic.data(),
                publish.payload.size());
    }
  }

  /// A filter that one denying rule covers whole is refused; of others the client gets what it may
  /// read.
  mqtt::ReasonCode on_subscribe(const mqtt::ClientView& client,
                                const mqtt::Subscription& subscription) noexcept {
    if (any_acl_ && denies_filter(client, subscription.filter)) {
      return mqtt::ReasonCode::not_authorized;
    }
    if (log_.wants(log_subscribe)) {
      log_.line(log_subscribe, "%.*s %u %.*s", shown(client.client_id), client.client_id.data(),
                unsigned{mqtt::level(subscription.qos)}, shown(subscription.filter),
                subscription.filter.data());
    }
    return mqtt::ReasonCode::success;
  }

  void on_unsubscribe(const mqtt::ClientView& client, mqtt::Text filter) noexcept {
    if (log_.wants(log_unsubscribe)) {
      log_.line(log_unsubscribe, "%.*s %.*s", shown(client.client_id), client.client_id.data(),
                shown(filter), filter.data());
    }
  }

  bool filters_delivery() const noexcept { return any_acl_; }
  bool on_deliver(const mqtt::ClientView& client, mqtt::Text topic) noexcept {
    return may(client, access_read, topic);
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
    const ListenerOptions& listener = options_->listeners[group];
    if (has_tls && listener.names_users()) { peer_name(id.slot).size = 0; }
    if (wants_connection_lines() && listener.protocol == Protocol::mqtt) {
      const PeerText text = text_of(id.slot);
      log_.line(log_notice, "New connection from %s on port %u.", text.address, listener.port);
    }
  }

  template <typename Link>
  void on_secured(mqtt::ConnectionId id, const Link& link) noexcept {
    if constexpr (has_tls) {
      const ListenerOptions& listener = options_->listeners[peers_[id.slot].group];
      if (listener.names_users()) {
        PeerName& name = peer_name(id.slot);
        const mqtt::Span<char> target(name.text);
        const mqtt::Text key = link.psk_identity();
        mqtt::Text found =
            listener.use_subject_as_username ? link.subject(target) : link.common_name(target);
        if (found.empty() && listener.use_identity_as_username && key.size() <= target.size()) {
          memcpy(name.text, key.data(), key.size());
          found = key;
        }
        name.size = static_cast<uint16_t>(found.size());
      }
      if (wants_connection_lines()) {
        log_.line(log_notice, "Client connection from %s negotiated %s cipher %s.",
                  text_of(id.slot).address, link.version(), link.cipher());
      }
    } else {
      static_cast<void>(id);
      static_cast<void>(link);
    }
  }

  /// Strangers may fail as often as they like: ten lines a minute and kind.
  void on_layer_failed(mqtt::ConnectionId id, mqtt::posix::Layer layer,
                       const char* reason) noexcept {
    constexpr const char* names[] = {"PROXY", "TLS", "HTTP", "WebSocket"};
    constexpr uint32_t lines_a_minute = 10;
    const auto index = static_cast<uint8_t>(layer);
    Peer& peer = peers_[id.slot];
    peer.state = peer.state == PeerState::connected ? PeerState::failed : PeerState::told;
    ++counts_.layer_failures[index];
    if (starts_line(floods_of_layers_[index], lines_a_minute) && wants_connection_lines()) {
      log_.line(log_notice, "Client connection from %s failed: %s: %s (%llu so far).",
                text_of(id.slot).address, names[index], reason,
                static_cast<unsigned long long>(counts_.layer_failures[index]));
    }
  }

  /// A flood is one line a minute and kind.
  void on_refused(uint32_t, const mqtt::posix::SocketAddress& address,
                  mqtt::posix::Refusal why) noexcept {
    Flood& flood = floods_[static_cast<uint8_t>(why)];
    if (!starts_line(flood)) { return; }
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
    if (authenticator_.busy()) { authenticator_.cancel(id); }
    const Peer& peer = peers_[id.slot];
    const bool only_http = peer.state == PeerState::accepted && transport_error_ == 0 &&
                           options_->listeners[peer.group].protocol == Protocol::websockets;
    if (peer.state != PeerState::told && !only_http && wants_connection_lines()) {
      log_end(id.slot, mqtt::Text(),
              peer.state == PeerState::refused ? "not authorised"
              : broken_                        ? ended_by_transport()
                                               : "protocol error");
    }
    broken_ = false;
  }

  void on_notice(uint8_t notice) noexcept {
    if (notice == SIGHUP) { reload_asked_ = true; }
    if (notice == SIGUSR1) { save_asked_ = true; }
  }
  /// Whether a signal has asked for it since the last call.
  bool take_reload() noexcept { return take(reload_asked_); }
  bool take_save() noexcept { return take(save_asked_); }

  void on_turn() noexcept { log_.flush(); }

 private:
  // What was said about a connection so far.
  enum class PeerState : uint8_t { accepted, refused, connected, failed, told };

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
  // The user by certificate or key.
  struct PeerName {
    uint16_t size;
    char text[510];
  };
  PeerName& peer_name(uint32_t slot) const noexcept {
    return reinterpret_cast<PeerName*>(names_.data())[slot];
  }
  mqtt::Text name_of(uint32_t slot) const noexcept {
    return mqtt::Text(peer_name(slot).text, peer_name(slot).size);
  }

  PeerText text_of(uint32_t slot) const noexcept {
    return PeerText(peers_[slot], v6_addresses_[slot]);
  }

  // --- who may come in ---

  static mqtt::Text prefix_of(const ListenerOptions& listener) noexcept {
    return listener.mount_point == nullptr ? mqtt::Text() : mqtt::Text(listener.mount_point);
  }

  // What a listener gives its clients, under the name they come in with.
  void take_in(mqtt::ConnectionId id, bool named, mqtt::Text user,
               mqtt::ConnectAnswer& answer) const noexcept {
    const ListenerOptions& listener = options_->listeners[peers_[id.slot].group];
    answer.has_user_name = named;
    answer.user_name = user;
    answer.topic_prefix = prefix_of(listener);
    answer.tag = peers_[id.slot].group;  // with per_listener_settings its rules count
    if (listener.auto_id_prefix != nullptr) { answer.client_id_prefix = listener.auto_id_prefix; }
    if (listener.use_username_as_clientid) { answer.client_id = user; }
    answer.maximum_qos = static_cast<mqtt::Qos>(listener.max_qos);
    answer.topic_alias_max = static_cast<uint16_t>(listener.max_topic_alias);
    answer.topic_alias_broker_max = static_cast<uint16_t>(listener.max_topic_alias_broker);
  }

  // What the listener asks of version and client id, whoever it is.
  mqtt::ReasonCode check_identity(const ListenerOptions& listener, const mqtt::Connect& connect,
                                  mqtt::Text user) const noexcept {
    const mqtt::Text id = connect.client_id;
    if ((listener.versions & version_bit(connect.version)) == 0) {
      return mqtt::ReasonCode::unsupported_protocol_version;
    }
    if (id.empty() && listener.allow_zero_length_clientid == Choice::no) {
      return mqtt::ReasonCode::client_identifier_not_valid;
    }
    if (listener.use_username_as_clientid && user.empty()) {
      return mqtt::ReasonCode::not_authorized;
    }
    if (options_->clientid_prefixes != nullptr) {
      const mqtt::Text prefix = options_->clientid_prefixes;
      if (id.size() < prefix.size() || memcmp(id.data(), prefix.data(), prefix.size()) != 0) {
        return mqtt::ReasonCode::not_authorized;
      }
    }
    return mqtt::ReasonCode::success;
  }
  static unsigned version_bit(mqtt::Version version) noexcept {
    switch (version) {
      case mqtt::Version::v3_1: return 1U << 3;
      case mqtt::Version::v3_1_1: return 1U << 4;
      case mqtt::Version::v5: return 1U << 5;
    }
    return 0;
  }

  // Without a password file no name is right: then a client may connect where anonymous ones may.
  void check_credentials(mqtt::ConnectionId id, const mqtt::Connect& connect,
                         mqtt::ConnectAnswer& answer) noexcept {
    const uint8_t group = peers_[id.slot].group;
    const PasswordFile* passwords = files_->passwords(group);
    if (!connect.has_user_name || passwords == nullptr) {
      const bool anonymous = options_->listeners[group].allow_anonymous == Choice::yes;
      answer.reason = anonymous ? mqtt::ReasonCode::success : mqtt::ReasonCode::not_authorized;
      return;
    }
    if (!attempts_.may_try(attempt_key(id.slot), now_ms())) {
      say_limited(id.slot);
      answer.reason = mqtt::ReasonCode::not_authorized;
      return;
    }
    Authenticator::Attempt attempt;
    attempt.connection = id;
    attempt.user = connect.user_name;
    attempt.has_password = connect.has_password;
    attempt.password = connect.password;
    switch (authenticator_.begin(*passwords, attempt)) {
      case Authenticator::Verdict::right: settle(id, true, answer); break;
      case Authenticator::Verdict::wrong: settle(id, false, answer); break;
      case Authenticator::Verdict::later: answer.later = true; break;
      case Authenticator::Verdict::busy: answer.reason = mqtt::ReasonCode::server_busy; break;
    }
  }

  // The verdict about a password.
  void settle(mqtt::ConnectionId id, bool right, mqtt::ConnectAnswer& answer) noexcept {
    Peer& peer = peers_[id.slot];
    const uint64_t key = attempt_key(id.slot);
    if (right) {
      attempts_.succeeded(key);
      return;
    }
    attempts_.failed(key, now_ms());
    answer.reason = mqtt::ReasonCode::not_authorized;
    peer.state = PeerState::refused;
  }

  uint64_t attempt_key(uint32_t slot) const noexcept {
    mqtt::posix::SocketAddress address;
    const Peer& peer = peers_[slot];
    if (peer.v6) {
      address.any.sa_family = AF_INET6;
      address.v6.sin6_addr = v6_addresses_[slot];
    } else if (peer.port != 0) {
      address.any.sa_family = AF_INET;
      address.v4.sin_addr = peer.v4_address;
    }
    return AttemptLimit::key(address);
  }

  void say_limited(uint32_t slot) noexcept {
    if (!starts_line(flood_of_attempts_)) { return; }
    log_.line(log_warning,
              "Warning: Too many wrong passwords from %s: its attempts are refused for a while "
              "(%u so far).",
              text_of(slot).address, flood_of_attempts_.count);
  }

  static mqtt::Millis now_ms() noexcept { return mqtt::posix::MonotonicClock{}.now_ms(); }

  // --- who may do what ---

  // No client tells others what the broker counts, or writes where only filters begin.
  static bool is_the_brokers(mqtt::Text topic) noexcept {
    if (topic.empty() || topic[0] != '$') { return false; }
    const auto begins = [topic](mqtt::Text front) {
      return topic.size() >= front.size() && memcmp(topic.data(), front.data(), front.size()) == 0;
    };
    return begins("$SYS") || begins("$share");
  }

  static Subject subject_of(const mqtt::ClientView& client) noexcept {
    Subject subject;
    subject.has_user = client.has_user_name;
    subject.user = client.user_name;
    subject.client_id = client.client_id;
    return subject;
  }

  bool may(const mqtt::ClientView& client, Access access, mqtt::Text topic) const noexcept {
    if (!any_acl_) { return true; }
    // A session of an earlier run may be of a listener that is no more.
    if (client.tag >= options_->listener_count) { return false; }
    const AclFile* acl = files_->acl(client.tag);
    return acl == nullptr || acl->allows(subject_of(client), access, topic);
  }

  // With the mount point in front, as messages have it.
  bool denies_filter(const mqtt::ClientView& client, mqtt::Text filter) noexcept {
    const AclFile* acl = files_->acl(client.tag);
    if (acl == nullptr) { return false; }
    const mqtt::Text prefix = prefix_of(options_->listeners[client.tag]);
    filter = mqtt::split_shared(filter).filter;
    if (prefix.size() + filter.size() > scratch_bytes) { return true; }
    char* whole = reinterpret_cast<char*>(scratch_.data());
    memcpy(whole, prefix.data(), prefix.size());
    memcpy(whole + prefix.size(), filter.data(), filter.size());
    return acl->denies_filter(subject_of(client), mqtt::Text(whole, prefix.size() + filter.size()));
  }

  static bool take(bool& asked) noexcept {
    const bool was = asked;
    asked = false;
    return was;
  }

  struct Flood {
    uint32_t count = 0;
    uint32_t lines = 0;  // since a minute
    mqtt::Millis next_ms = 0;
  };

  // Counts it; true when there were not too many lines about it in the last minute.
  static bool starts_line(Flood& flood, uint32_t lines_a_minute = 1) noexcept {
    constexpr mqtt::Millis minute = 60000;
    const mqtt::Millis now = now_ms();
    ++flood.count;
    if (now >= flood.next_ms) {
      flood.next_ms = now + minute;
      flood.lines = 0;
    }
    return flood.lines++ < lines_a_minute;
  }

  bool wants_connection_lines() const noexcept {
    return options_->connection_messages && log_.wants(log_notice);
  }

  void say_connected(const mqtt::ClientView& client, const mqtt::Connect& connect) noexcept {
    const PeerText text = text_of(client.connection.slot);
    const mqtt::Text id = client.client_id;
    const mqtt::Text user = client.user_name;
    log_.line(log_notice, "New client connected from %s as %.*s (p%d, c%d, k%u%s%.*s%s).",
              text.address, shown(id), id.data(), version_number(client.version),
              connect.clean_start ? 1 : 0, connect.keep_alive_s, client.has_user_name ? ", u'" : "",
              shown(user), user.data(), client.has_user_name ? "'" : "");
  }

  void say_will(const mqtt::Connect& connect) noexcept {
    if (!connect.has_will) {
      log_.line(log_debug, "No will message specified.");
      return;
    }
    log_.line(log_debug, "Will message specified (%u bytes) (r%d, q%u).",
              connect.will.payload.size(), connect.will.retain ? 1 : 0,
              unsigned{mqtt::level(connect.will.qos)});
    log_.line(log_debug, "\t%.*s", shown(connect.will.topic), connect.will.topic.data());
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

  static constexpr uint32_t scratch_bytes = 2 * 65536;

  const Options* options_ = nullptr;
  const AccessFiles* files_ = nullptr;
  Log& log_;
  mqtt::posix::Reservation memory_;
  mqtt::posix::Reservation scratch_;
  mqtt::posix::Reservation names_;
  Authenticator authenticator_;
  AttemptLimit attempts_;
  ProgramCounts counts_;
  bool any_acl_ = false;  // of files_
  bool reload_asked_ = false;
  bool save_asked_ = false;
  Peer* peers_ = nullptr;
  in6_addr* v6_addresses_ = nullptr;
  bool broken_ = false;  // by its transport, which ended with
  int transport_error_ = 0;
  char broken_text_[80] = {};
  Flood floods_[3];
  Flood floods_of_layers_[4];
  Flood flood_of_attempts_;
  Flood flood_of_drops_;
  uint64_t dropped_ = 0;
};

}  // namespace mqttd

#endif
