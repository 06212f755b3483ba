// ports/websocket/transport.hpp — a client's transport hook: WebSocket around another transport
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_WEBSOCKET_TRANSPORT_HPP
#define MQTT_PORTS_WEBSOCKET_TRANSPORT_HPP

#include <ports/websocket/websocket.hpp>

namespace mqtt {
namespace websocket {

/// The Transport hook of a client over `Inner`, which is one too (TCP, or TLS for wss). The upgrade
/// happens inside receive() and transmit(), which say "nothing now" until it is done.
///
///     Random  void fill(uint8_t* target, uint32_t size)   unpredictable bytes, for keys and masks
///
/// `buffer_bytes`: what is encoded and not sent yet; also the largest head of the server's answer.
template <typename Inner, typename Random, uint32_t buffer_bytes = 4096>
class WebSocketTransport {
  static_assert(buffer_bytes >= 512, "holds the request and the head of the answer");

 public:
  WebSocketTransport(Inner& inner, Random& random) noexcept : inner_(inner), random_(random) {}

  /// What dial() asks for; the texts must last.
  void set_request(const ClientRequest& request) noexcept { request_ = request; }

  /// > 0: open, 0: on its way, call again, < 0: failed. Dials the inner transport first.
  int32_t dial(uint32_t attempt) noexcept {
    if (state_ == State::gone) {
      const int32_t dialed = inner_.dial(attempt);
      if (dialed <= 0) { return dialed; }
      if (!start(request_)) { return fail("the request is too long, or holds what it may not"); }
    }
    return make_open() ? 1 : state_ == State::gone ? -1 : 0;
  }

  /// Without dial(): begins over an inner transport that is open or opening. False: the request
  /// does not fit into the buffer, or a field of it holds what it may not. Its texts must last.
  bool start(const ClientRequest& request) noexcept {
    if (!is_line(request.host) || !is_line(request.path) || request.path.empty() ||
        request.path[0] != '/') {
      return false;
    }
    request_ = request;
    reader_ = FrameReader(Side::client);
    error_ = nullptr;
    sent_ = 0;
    left_from_ = 0;
    left_to_ = 0;
    state_ = State::asking;
    uint8_t bytes[16];
    random_.fill(bytes, sizeof bytes);
    crypto::to_base64(Bytes(bytes), key_);
    used_ = write_request(request, Text(key_, key_size), Buffer(buffer_));
    return used_ != 0;
  }

  /// > 0 bytes, 0 nothing now, < 0 gone.
  int32_t receive(uint8_t* target, size_t size) noexcept {
    if (!make_open()) { return state_ == State::gone ? -1 : 0; }
    while (true) {
      if (reader_.ended()) { return end(); }
      const int32_t got = take(target, size);
      if (got <= 0) { return got < 0 ? fail("the connection is closed") : 0; }
      const uint32_t payload = reader_.decode(Buffer(target, static_cast<uint32_t>(got)));
      if (!flush()) { return -1; }
      if (payload != 0) { return static_cast<int32_t>(payload); }
    }
  }

  /// Bytes taken, may be fewer than offered; 0 later; < 0 gone. What was taken and is not sent yet
  /// goes with the next call of either function, or flush().
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    if (!make_open()) { return state_ == State::gone ? -1 : 0; }
    if (!flush()) { return -1; }
    if (!is_buffer_free() || size == 0) { return 0; }
    constexpr uint32_t room = buffer_bytes - header_bytes_max;
    const uint32_t count = size < room ? static_cast<uint32_t>(size) : room;
    write_frame(Opcode::binary, Bytes(source, count));
    return flush() ? static_cast<int32_t>(count) : -1;
  }

  /// Sends what is encoded and not sent, as far as possible; false: the link is gone.
  bool flush() noexcept {
    if (state_ == State::gone) { return false; }
    if (state_ == State::answering) { return true; }
    if (!push()) { return false; }
    Bytes ping;
    if (state_ == State::open && is_buffer_free() && reader_.take_ping(ping)) {
      write_frame(Opcode::pong, ping);
      return push();
    }
    return true;
  }

  /// Says goodbye as far as the inner transport takes it now, and closes that.
  void hang_up() noexcept {
    if (state_ == State::open) {
      (void)flush();
      send_close(CloseCode::normal);
    }
    state_ = State::gone;
    inner_.hang_up();
  }

  bool is_open() const noexcept { return state_ == State::open; }
  /// Whether bytes wait for the inner transport to take more.
  bool wants_transmit() const noexcept { return used_ != 0 && state_ != State::answering; }
  /// Whether receive() has bytes that no wait on the descriptor announces.
  bool has_input() const noexcept { return left_from_ != left_to_; }
  /// Why the connection is gone, or nullptr.
  const char* error() const noexcept { return error_; }

 private:
  enum class State : uint8_t { gone, asking, answering, open };

  static bool is_line(Text text) noexcept {
    for (const char c : text) {
      if (static_cast<uint8_t>(c) <= ' ' || c == 0x7F) { return false; }
    }
    return true;
  }

  bool is_buffer_free() const noexcept { return used_ == 0 && left_from_ == left_to_; }

  int32_t fail(const char* error) noexcept {
    if (error_ == nullptr) { error_ = error; }
    state_ = State::gone;
    return -1;
  }

  // Whether payload may flow; goes on with the upgrade otherwise.
  bool make_open() noexcept {
    if (state_ == State::asking) {
      if (!push() || used_ != 0) { return false; }
      state_ = State::answering;
    }
    if (state_ == State::answering) { read_answer(); }
    return state_ == State::open;
  }

  void read_answer() noexcept {
    while (state_ == State::answering) {
      const int32_t got = inner_.receive(buffer_ + used_, buffer_bytes - used_);
      if (got == 0) { return; }
      if (got < 0) {
        fail("the connection is closed during the WebSocket upgrade");
        return;
      }
      const uint32_t seen = used_;
      used_ += static_cast<uint32_t>(got);
      const uint32_t head = http::head_size(Bytes(buffer_, used_), seen);
      if (head != 0) {
        const char* error = check_accept(Bytes(buffer_, head), request_, Text(key_, key_size));
        left_from_ = head;
        left_to_ = used_;
        used_ = 0;
        state_ = State::open;
        if (error != nullptr) { fail(error); }
      } else if (used_ == buffer_bytes) {
        fail("the server's WebSocket answer is too long");
      }
    }
  }

  // Bytes that came behind the answer's head, then those of the inner transport.
  int32_t take(uint8_t* target, size_t size) noexcept {
    if (left_from_ == left_to_) {
      return inner_.receive(target, size < INT32_MAX ? size : INT32_MAX);
    }
    const uint32_t left = left_to_ - left_from_;
    const uint32_t count = size < left ? static_cast<uint32_t>(size) : left;
    memcpy(target, buffer_ + left_from_, count);
    left_from_ += count;
    return static_cast<int32_t>(count);
  }

  // The last of a connection: answers the peer's close, or says what is wrong.
  int32_t end() noexcept {
    send_close(reader_.close_code());
    return fail(reader_.error() != nullptr ? reader_.error() : "the server closes the WebSocket");
  }

  void send_close(CloseCode code) noexcept {
    if (used_ != 0) { return; }
    const uint8_t payload[] = {static_cast<uint8_t>(static_cast<uint16_t>(code) >> 8),
                               static_cast<uint8_t>(code)};
    write_frame(Opcode::close, Bytes(payload));
    (void)push();
  }

  void write_frame(Opcode opcode, Bytes payload) noexcept {
    uint8_t mask[4];
    random_.fill(mask, sizeof mask);
    uint8_t header[header_bytes_max];
    const uint32_t size = write_header(header, opcode, payload.size(), mask);
    memcpy(buffer_, header, size);
    apply_mask(buffer_ + size, payload, mask, 0);
    used_ = size + payload.size();
    sent_ = 0;
  }

  bool push() noexcept {
    while (sent_ != used_) {
      const int32_t taken = inner_.transmit(buffer_ + sent_, used_ - sent_);
      if (taken < 0) {
        fail("the connection is closed");
        return false;
      }
      if (taken == 0) { return true; }
      sent_ += static_cast<uint32_t>(taken);
    }
    used_ = 0;
    sent_ = 0;
    return true;
  }

  Inner& inner_;
  Random& random_;
  ClientRequest request_;
  FrameReader reader_{Side::client};
  const char* error_ = nullptr;
  State state_ = State::gone;
  uint32_t used_ = 0;       // of the buffer
  uint32_t sent_ = 0;       // of those
  uint32_t left_from_ = 0;  // input that came with the answer's head
  uint32_t left_to_ = 0;
  char key_[key_size];
  uint8_t buffer_[buffer_bytes];
};

}  // namespace websocket
}  // namespace mqtt

#endif
