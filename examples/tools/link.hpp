// examples/tools/link.hpp — the way to the broker: TCP or a Unix socket, in TLS, in WebSocket
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_LINK_HPP
#define MQTT_TOOLS_LINK_HPP

#include <ports/posix/client.hpp>
#include <ports/posix/entropy.hpp>
#include <ports/websocket/transport.hpp>
#ifdef MQTT_TLS
#include <ports/tls/openssl.hpp>
#endif

#include "options.hpp"
#include "trace.hpp"

namespace tools {

/// The lower layers: the socket, and TLS around it when that is wanted.
class SecureSocket {
 public:
  explicit SecureSocket(mqtt::Span<const mqtt::posix::Server> servers) : socket_(servers) {}

#ifdef MQTT_TLS
  /// False: it has said why.
  bool use_tls(const Options& options) {
    if (!context_.load(tls_options(options.tls, options.websocket))) {
      complain(options, "Error: Problem setting TLS options: %s.\n", context_.failure());
      return false;
    }
    if (options.tls.keylog != nullptr) {
      keylog_path() = options.tls.keylog;
      SSL_CTX_set_keylog_callback(context_.get(), write_keys);
    }
    tls_.set_server(context_, options.host);
    uses_tls_ = true;
    return true;
  }
  /// Why TLS failed; nullptr when it did not.
  const char* tls_error() const { return uses_tls_ ? tls_.error() : nullptr; }

  int32_t dial(uint32_t attempt) noexcept {
    return uses_tls_ ? tls_.dial(attempt) : socket_.dial(attempt);
  }
  int32_t receive(uint8_t* target, size_t size) noexcept {
    return uses_tls_ ? tls_.receive(target, size) : socket_.receive(target, size);
  }
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    return uses_tls_ ? tls_.transmit(source, size) : socket_.transmit(source, size);
  }
  void hang_up() noexcept { uses_tls_ ? tls_.hang_up() : socket_.hang_up(); }
  /// Sends what TLS still holds; true when it holds nothing.
  bool flush() noexcept { return !uses_tls_ || !tls_.flush() || !tls_.wants_transmit(); }
#else
  static const char* tls_error() { return nullptr; }
  int32_t dial(uint32_t attempt) noexcept { return socket_.dial(attempt); }
  int32_t receive(uint8_t* target, size_t size) noexcept { return socket_.receive(target, size); }
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    return socket_.transmit(source, size);
  }
  void hang_up() noexcept { socket_.hang_up(); }
  static bool flush() noexcept { return true; }
#endif
  mqtt::posix::ClientTransport<>& socket() { return socket_; }

 private:
  mqtt::posix::ClientTransport<> socket_;
#ifdef MQTT_TLS
  static mqtt::tls::ClientOptions tls_options(const TlsOptions& given, bool is_websocket) {
    mqtt::tls::ClientOptions options;
    options.ca_file = given.cafile;
    options.ca_folder = given.capath;
    options.certificate_file = given.certfile;
    options.key_file = given.keyfile;
    options.lowest_version = given.version;
    options.ciphers = given.ciphers;
    options.alpn = given.alpn != nullptr ? given.alpn : is_websocket ? "http/1.1" : nullptr;
    options.psk_identity = given.psk_identity;
    options.psk = given.psk;
    options.insecure = given.insecure;
    return options;
  }
  static const char*& keylog_path() {
    static const char* path = nullptr;
    return path;
  }
  static void write_keys(const SSL*, const char* line) {
    FILE* const file = fopen(keylog_path(), "a");
    if (file == nullptr) { return; }
    fprintf(file, "%s\n", line);
    fclose(file);
  }

  mqtt::tls::ClientContext context_;
  mqtt::tls::TlsTransport<mqtt::posix::ClientTransport<>> tls_{socket_};
  bool uses_tls_ = false;
#endif
};

/// The Transport of a tool.
class Link {
 public:
  explicit Link(const Options& options)
      : options_(options),
        server_{options.host, port_, options.bind_address},
        socket_({&server_, 1}),
        websocket_(socket_, entropy_) {
    if (options.unix_path != nullptr) {
      server_.host = options.unix_path[0] == '/' ? options.unix_path : absolute(options.unix_path);
    }
    snprintf(port_, sizeof port_, "%d", options.port_number());
    const bool is_v6 = strchr(options.host, ':') != nullptr;
    snprintf(host_, sizeof host_, is_v6 ? "[%s]:%s" : "%s:%s", options.host, port_);
    mqtt::websocket::ClientRequest request;
    request.host = host_;
    websocket_.set_request(request);
  }

  /// False: it has said why.
  bool prepare() {
#ifdef MQTT_TLS
    return !options_.uses_tls() || socket_.use_tls(options_);
#else
    return true;
#endif
  }
  void set_trace(Trace* trace) { trace_ = trace; }

  int32_t dial(uint32_t attempt) noexcept {
    const int32_t result = options_.websocket ? websocket_.dial(attempt) : socket_.dial(attempt);
    if (result > 0 && trace_ != nullptr) { trace_->restart(); }
    return result;
  }
  int32_t receive(uint8_t* target, size_t size) noexcept {
    const size_t most = trace_ != nullptr ? trace_->receivable() : 65536;
    if (size > most) { size = most; }
    const int32_t got =
        options_.websocket ? websocket_.receive(target, size) : socket_.receive(target, size);
    if (got > 0 && trace_ != nullptr) { trace_->on_received(target, static_cast<uint32_t>(got)); }
    return got;
  }
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    const int32_t taken =
        options_.websocket ? websocket_.transmit(source, size) : socket_.transmit(source, size);
    if (taken > 0 && trace_ != nullptr) { trace_->on_sent(source, static_cast<uint32_t>(taken)); }
    return taken;
  }
  void hang_up() noexcept { options_.websocket ? websocket_.hang_up() : socket_.hang_up(); }

  /// After DISCONNECT: sends what the layers hold and waits for the broker to close, so that the
  /// kernel does not drop what is under way. Two seconds at most.
  void finish() noexcept {
    const mqtt::posix::MonotonicClock clock;
    const mqtt::Millis until = clock.now_ms() + 2000;
    uint8_t unread[4096];
    bool open = true;
    while (open && clock.now_ms() < until) {
      const bool sent = flush();
      int32_t got = 1;
      while (got > 0) { got = socket_.socket().receive(unread, sizeof unread); }
      open = got == 0;
      if (open) { wait(sent ? until : clock.now_ms() + 10, -1); }
    }
    hang_up();
  }

  /// See ClientTransport.
  bool wait(mqtt::Millis deadline, int other) noexcept {
    return socket_.socket().wait_until(deadline, other);
  }

  /// Why it is not there.
  void say_why() {
    const mqtt::posix::ClientTransport<>& socket = socket_.socket();
    if (socket_.tls_error() != nullptr) {
      complain(options_, "Unable to connect (A TLS error occurred: %s).\n", socket_.tls_error());
    } else if (socket.lookup_failed()) {
      complain(options_, "Unable to connect (Lookup error.).\n");
    } else if (options_.websocket && websocket_.error() != nullptr) {
      complain(options_, "Unable to connect (%s).\n", websocket_.error());
    } else {
      complain(options_, "Error: %s\n", socket.error_text());
    }
  }

 private:
  // A transport knows a path by its first character.
  const char* absolute(const char* path) {
    char folder[sizeof path_];
    const char* const here = getcwd(folder, sizeof folder);
    snprintf(path_, sizeof path_, "%s/%s", here != nullptr ? here : "", path);
    return path_;
  }
  bool flush() noexcept {
    const bool is_empty =
        !options_.websocket || !websocket_.flush() || !websocket_.wants_transmit();
    return socket_.flush() && is_empty;
  }

  const Options& options_;
  char port_[12];
  char host_[300];
  char path_[4096];
  mqtt::posix::Server server_;
  SecureSocket socket_;
  mqtt::posix::Entropy entropy_;
  mqtt::websocket::WebSocketTransport<SecureSocket, mqtt::posix::Entropy, 65536> websocket_;
  Trace* trace_ = nullptr;
};

}  // namespace tools

#endif
