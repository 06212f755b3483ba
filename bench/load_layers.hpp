// load_layers.hpp: what may lie between a connection of broker_load and MQTT: TLS and WebSocket.
//
// TLS is OpenSSL's and only there with -DBENCH_TLS (and -lssl -lcrypto). WebSocket is as little of
// RFC 6455 as a load generator needs, written apart from ports/websocket.
#ifndef BENCH_LOAD_LAYERS_HPP
#define BENCH_LOAD_LAYERS_HPP

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef BENCH_TLS
#include <openssl/ssl.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

#ifdef BENCH_TLS
constexpr bool tls_available = true;

// The client's end of a TLS connection. Whom it talks to it does not ask.
class Tls {
 public:
  // Blocks until the handshake is done.
  explicit Tls(int fd) : ssl_(SSL_new(context())) {
    if (ssl_ == nullptr || SSL_set_fd(ssl_, fd) != 1 || SSL_connect(ssl_) != 1) {
      throw std::runtime_error("the TLS handshake failed");
    }
  }
  ~Tls() { SSL_free(ssl_); }
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  // As recv() and send(): 0 the end, -1 and EAGAIN later.
  ssize_t receive(uint8_t* target, size_t size) { return done(SSL_read(ssl_, target, int(size))); }
  ssize_t transmit(const uint8_t* source, size_t size) {
    return done(SSL_write(ssl_, source, int(size)));
  }

 private:
  static SSL_CTX* context() {
    static SSL_CTX* const context = [] {
      SSL_CTX* const made = SSL_CTX_new(TLS_client_method());
      SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
      return made;
    }();
    return context;
  }

  ssize_t done(int result) {
    if (result > 0) { return result; }
    const int error = SSL_get_error(ssl_, result);
    if (error == SSL_ERROR_ZERO_RETURN) { return 0; }
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
  }

  SSL* ssl_;
};
#else
constexpr bool tls_available = false;

class Tls {
 public:
  explicit Tls(int) { throw std::runtime_error("built without BENCH_TLS"); }
  static ssize_t receive(uint8_t*, size_t) { return -1; }
  static ssize_t transmit(const uint8_t*, size_t) { return -1; }
};
#endif

// The framing of one WebSocket connection.
class WebSocket {
 public:
  // With the key of RFC 6455's own example the answer is known without SHA-1.
  static constexpr char request[] =
      "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Protocol: mqtt\r\n\r\n";

  static void check_answer(const std::string& answer) {
    if (answer.compare(0, 12, "HTTP/1.1 101") != 0 ||
        answer.find("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") == std::string::npos) {
      throw std::runtime_error("the WebSocket handshake failed: " + answer);
    }
  }

  // Appends the bytes as one masked binary frame.
  void frame(std::vector<uint8_t>& out, const uint8_t* data, size_t size) {
    out.push_back(0x82);
    const int length_size = size < 126 ? 0 : size < 65536 ? 2 : 8;
    const size_t mark = length_size == 0 ? size : length_size == 2 ? 126 : 127;
    out.push_back(static_cast<uint8_t>(0x80 | mark));
    for (int shift = 8 * (length_size - 1); shift >= 0; shift -= 8) {
      out.push_back(static_cast<uint8_t>(uint64_t{size} >> shift));
    }
    key_ = key_ * 1664525 + 1013904223;
    uint8_t key[4];
    std::memcpy(key, &key_, sizeof key);
    out.insert(out.end(), key, key + 4);
    for (size_t at = 0; at < size; ++at) {
      out.push_back(static_cast<uint8_t>(data[at] ^ key[at % 4]));
    }
  }

  // Takes the frames' headers out of what was received, in place. Returns the bytes that are left.
  size_t unframe(uint8_t* data, size_t size) {
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
      if (left_ == 0) {
        take_header(data[at++]);
        continue;
      }
      const auto part = static_cast<size_t>(std::min<uint64_t>(left_, size - at));
      std::memmove(data + kept, data + at, part);
      kept += part;
      at += part;
      left_ -= part;
    }
    return kept;
  }

 private:
  // Whole binary frames without a mask, nothing else.
  void take_header(uint8_t byte) {
    header_[header_size_++] = byte;
    if (header_size_ == 1 && byte != 0x82) {
      throw std::runtime_error("WebSocket frame of kind " + std::to_string(byte));
    }
    if (header_size_ < 2) { return; }
    const size_t length_size = header_[1] < 126 ? 0 : header_[1] == 126 ? 2 : 8;
    if (header_size_ < 2 + length_size) { return; }
    left_ = length_size == 0 ? header_[1] : 0;
    for (size_t at = 2; at < 2 + length_size; ++at) { left_ = left_ << 8 | header_[at]; }
    header_size_ = 0;
  }

  uint32_t key_ = 1;
  uint64_t left_ = 0;  // bytes of the frame that are still to come
  uint8_t header_[10] = {};
  size_t header_size_ = 0;
};

}  // namespace bench

#endif
