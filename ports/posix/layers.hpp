// ports/posix/layers.hpp — between socket and engine: PROXY, TLS, HTTP, WebSocket
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_LAYERS_HPP
#define MQTT_PORTS_POSIX_LAYERS_HPP

#include <ports/posix/http_files.hpp>
#include <ports/posix/memory.hpp>
#include <ports/posix/proxy_protocol.hpp>
#include <ports/websocket/websocket.hpp>

namespace mqtt {
namespace posix {

/// A layer, from the socket up.
enum class Layer : uint8_t { proxy, tls, http, websocket };

/// An answer to an HTTP request that the program gives itself.
struct HttpAnswer {
  Buffer body;        ///< where to write it
  uint32_t size = 0;  ///< of what was written
  Text type = "text/plain; charset=utf-8";
};

/// What a TLS handshake needs next.
enum class Handshake : uint8_t { done, reading, writing, failed };

/// No TLS is compiled in: what Layers asks of a TLS port, doing nothing.
struct NoTls {
  struct Context {};

  class Link {
   public:
    bool start(Context&, int) noexcept { return false; }
    bool is_started() const noexcept { return false; }
    Handshake handshake() noexcept { return Handshake::failed; }
    int32_t receive(Buffer) noexcept { return -1; }
    bool has_input() const noexcept { return false; }
    int32_t transmit(Bytes) noexcept { return -1; }
    bool flush() noexcept { return true; }
    bool holds() const noexcept { return false; }
    const char* failure() const noexcept { return ""; }
    void say_goodbye() noexcept {}
    void release() noexcept {}
    const char* version() const noexcept { return ""; }
    const char* cipher() const noexcept { return ""; }
    Text psk_identity() const noexcept { return {}; }
    Text common_name(Span<char>) const noexcept { return {}; }
    Text subject(Span<char>) const noexcept { return {}; }
  };
};

/// The layers of a group of listening sockets.
template <typename Tls = NoTls>
struct LayerOptions {
  ProxyHeader proxy = ProxyHeader::none;
  typename Tls::Context* tls = nullptr;  ///< must outlive the loop
  bool websocket = false;                ///< HTTP/1.1 that can be upgraded, and nothing else
  const char* origin = nullptr;          ///< from where browsers may upgrade; nullptr: anywhere
  const char* http_folder = nullptr;     ///< files served where no upgrade is asked for
};

/// What came of a call to the layers. After `gone` or `finished` the connection is to be closed:
/// nothing else will come of it.
struct LayerResult {
  uint32_t size = 0;              ///< bytes for the engine, at the front of the target
  bool has_address = false;       ///< the PROXY header has been read: Layers::address()
  bool secured = false;           ///< the TLS handshake is done
  bool gone = false;              ///< the transport has ended, with
  int error = 0;                  ///< an errno, 0: the peer closed in order
  bool finished = false;          ///< everything is said; with
  const char* failure = nullptr;  ///< what is wrong with the peer's bytes, nullptr: nothing
  Layer layer = Layer::proxy;     ///< which found that

  bool is_over() const noexcept { return gone || finished; }
  bool is_known() const noexcept { return has_address || secured; }
};

/// The layers of a loop whose listeners have none: constants, so that nothing is left of them.
struct NoLayers {
  static constexpr bool exist = false;
  template <typename Observer>
  explicit NoLayers(Observer&) noexcept {}

  static constexpr bool start(uint32_t) noexcept { return true; }
  static constexpr bool has_any(uint32_t) noexcept { return false; }
  static constexpr void begin_turn() noexcept {}
  static constexpr void open(ConnectionId, int, uint32_t) noexcept {}
  static constexpr bool introduce(uint32_t) noexcept { return false; }
  static constexpr bool has_address(uint32_t) noexcept { return true; }
  static constexpr bool is_bare(uint32_t) noexcept { return true; }
  static constexpr LayerResult receive(uint32_t, Buffer) noexcept { return {}; }
  static constexpr int64_t transmit(uint32_t, Span<const Bytes>) noexcept { return 0; }
  static constexpr LayerResult flush(uint32_t) noexcept { return {}; }
  static constexpr LayerResult hang_up(uint32_t) noexcept { return {}; }
  static constexpr void close(uint32_t) noexcept {}
  static constexpr bool is_blocked(uint32_t) noexcept { return false; }
  static constexpr bool wants_read(uint32_t, bool engine_wants) noexcept { return engine_wants; }
  static SocketAddress address() noexcept { return {}; }
  static NoTls::Link tls(uint32_t) noexcept { return {}; }
  static constexpr void list_if_more(uint32_t) noexcept {}
  static constexpr bool has_listed() noexcept { return false; }
  static constexpr uint32_t take_list() noexcept { return 0; }
  static constexpr bool next_listed(uint32_t&, ConnectionId&) noexcept { return false; }
};

/// The layers of the connections of a BrokerLoop, by their slots. A connection without layers
/// touches nothing here. One with layers costs its state, and up to 16 KiB more only while
/// something is unfinished: the head of a request, or an encoded tail that the socket did not take.
///
/// Pieces of the engine are gathered into one buffer of all connections and framed there. Of a
/// frame that the socket took in part the rest is kept here, and the engine told that it is sent:
/// peers hand on whole frames only, so none may wait for what the engine has to send some time.
///
/// Deadlines are the engine's: it ends connections whose CONNECT does not come in time.
template <typename Observer, typename Tls = NoTls>
class Layers {
 public:
  static constexpr bool exist = true;
  using Options = LayerOptions<Tls>;
  using Link = typename Tls::Link;

  explicit Layers(Observer& observer) noexcept : observer_(observer) {}
  Layers(const Layers&) = delete;
  Layers& operator=(const Layers&) = delete;

  /// Reserves the tables, if a group has layers; false when the system refuses.
  bool start(uint32_t connections) noexcept {
    if (groups_ == 0) { return true; }
    const uint64_t slots = (uint64_t{connections} * sizeof(Slot) + 4095) / 4096 * 4096;
    const uint64_t buffers = uint64_t{connections} * buffer_bytes;
    if (!memory_.reserve(slots + buffers + gather_bytes)) { return false; }
    slots_ = reinterpret_cast<Slot*>(memory_.data());
    buffers_ = memory_.data() + slots;
    gather_ = buffers_ + buffers;
    return true;
  }

  /// Gives a group its layers: before start(), and again for what is accepted from then on; but a
  /// group that had none keeps none.
  void set(uint32_t group, const Options& options) noexcept {
    options_[group] = options;
    const bool any =
        options.proxy != ProxyHeader::none || options.tls != nullptr || options.websocket;
    groups_ = (groups_ & ~(uint64_t{1} << group)) | uint64_t{any} << group;
  }
  bool has_any(uint32_t group) const noexcept { return (groups_ >> group & 1) != 0; }
  /// A new turn begins: handshakes may be computed again.
  void begin_turn() noexcept { handshakes_left_ = handshakes_max; }

  // ---- a connection of a group that has_any() -----------------------------------------------

  /// It was accepted.
  void open(ConnectionId id, int descriptor, uint32_t group) noexcept {
    Slot& slot = slots_[id.slot];
    const bool listed = slot.listed;
    const uint32_t next = slot.next_listed;
    slot = Slot();
    slot.listed = listed;
    slot.next_listed = next;
    slot.id = id;
    slot.descriptor = descriptor;
    slot.group = static_cast<uint8_t>(group);
    slot.stage = Stage::proxy;
    slot.has_address = options_[group].proxy == ProxyHeader::none;
    if (slot.has_address) { leave_proxy(slot); }
  }

  /// Whether the observer does not know of the connection yet; it will now.
  bool introduce(uint32_t index) noexcept {
    const bool known = slots_[index].introduced;
    slots_[index].introduced = true;
    return !known;
  }
  /// Whether the client's address is known: it came from the socket, or has been read.
  bool has_address(uint32_t index) const noexcept { return slots_[index].has_address; }
  /// Whether nothing lies between socket and engine any more.
  bool is_bare(uint32_t index) const noexcept {
    return slots_[index].stage == Stage::stream && !slots_[index].tls.is_started();
  }

  /// Reads once; what came for the engine goes to the front of `target`.
  LayerResult receive(uint32_t index, Buffer target) noexcept {
    Slot& slot = slots_[index];
    LayerResult result;
    if (slot.stage == Stage::proxy) { read_proxy(slot, result); }
    if (slot.stage == Stage::tls && !result.is_over()) { shake_hands(slot, result); }
    if (slot.stage > Stage::tls && !result.is_over()) { read_payload(slot, target, result); }
    return result;
  }

  /// Sends pieces of the engine: bytes taken, fewer when the socket is full; -1 with errno.
  int64_t transmit(uint32_t index, Span<const Bytes> pieces) noexcept {
    Slot& slot = slots_[index];
    Source source(pieces);
    const uint32_t offered = source.left();
    // Nothing of the engine's is for a peer that is not there yet, or not any more.
    if (slot.stage != Stage::stream && slot.stage != Stage::websocket) { return offered; }
    if (!send_held(slot)) { return -1; }
    uint32_t taken = 0;
    while (source.left() != 0 && !holds(slot)) {
      const uint32_t size = gather(slot, source);
      const int32_t sent = push(slot, Bytes(gather_, size));
      if (sent < 0) { return -1; }
      taken += keep(slot, size, static_cast<uint32_t>(sent));
      if (static_cast<uint32_t>(sent) != size) { break; }
    }
    return taken;
  }

  /// The socket takes bytes again.
  LayerResult flush(uint32_t index) noexcept {
    Slot& slot = slots_[index];
    LayerResult result;
    slot.wants_write = false;
    if (slot.stage == Stage::tls) {
      shake_hands(slot, result);
    } else if (!send_held(slot)) {
      end(result, -1);
    } else if (!holds(slot)) {
      answer_ping(slot);
      if (slot.stage == Stage::answering) { go_on_answering(slot, result); }
      result.finished = result.finished || slot.stage == Stage::closing;
    }
    return result;
  }

  /// The engine ends the connection. Unless the result is over, flush() or receive() says when
  /// it may be closed, or the engine says so once more.
  LayerResult hang_up(uint32_t index) noexcept {
    Slot& slot = slots_[index];
    LayerResult result;
    switch (slot.stage) {
      case Stage::proxy: fail(result, Layer::proxy, "no header in time"); break;
      case Stage::tls: fail(result, Layer::tls, "no handshake in time"); break;
      case Stage::http: fail(result, Layer::http, "no request in time"); break;
      case Stage::websocket:
        // The peer's close frame is awaited before the socket is closed (RFC 6455 §7.1.1).
        send_close(slot, websocket::CloseCode::normal);
        slot.stage = Stage::goodbye;
        break;
      case Stage::stream:
        slot.stage = Stage::closing;
        result.finished = !holds(slot);
        break;
      case Stage::answering:
      case Stage::closing:
      case Stage::goodbye:
      case Stage::none: result.finished = true; break;
    }
    return result;
  }

  /// The socket is about to be closed.
  void close(uint32_t index) noexcept {
    Slot& slot = slots_[index];
    if (slot.tls.is_started()) {
      slot.tls.say_goodbye();
      slot.tls.release();
    }
    if (slot.file >= 0) { ::close(slot.file); }
    empty_buffer(slot);
    slot.stage = Stage::none;
  }

  /// Whether the socket must take bytes before anything goes on.
  bool is_blocked(uint32_t index) const noexcept {
    const Slot& slot = slots_[index];
    return holds(slot) || slot.wants_write || slot.stage == Stage::answering;
  }
  /// Whether the connection is to be read, `engine_wants` being what the engine says.
  bool wants_read(uint32_t index, bool engine_wants) const noexcept {
    switch (slots_[index].stage) {
      case Stage::proxy:
      case Stage::tls:
      case Stage::http:
      case Stage::stream:
      case Stage::websocket: return engine_wants;
      case Stage::goodbye: return true;
      case Stage::answering:
      case Stage::closing:
      case Stage::none: break;
    }
    return false;
  }

  /// What the PROXY header said last; size 0: nothing, the socket's own peer is the client.
  const SocketAddress& address() const noexcept { return address_; }
  /// The TLS session of a connection, for its certificate and ciphers.
  const Link& tls(uint32_t index) const noexcept { return slots_[index].tls; }

  // ---- connections with input that no wait announces, since TLS has read it already ----------

  void list_if_more(uint32_t index) noexcept {
    Slot& slot = slots_[index];
    if (!slot.more || slot.listed) { return; }
    slot.listed = true;
    slot.next_listed = listed_;
    listed_ = index + 1;
  }
  bool has_listed() const noexcept { return listed_ != 0; }
  /// Takes the whole list; next_listed() gives one after the other.
  uint32_t take_list() noexcept {
    const uint32_t first = listed_;
    listed_ = 0;
    return first;
  }
  bool next_listed(uint32_t& list, ConnectionId& id) noexcept {
    if (list == 0) { return false; }
    Slot& slot = slots_[list - 1];
    id = slot.id;
    list = slot.next_listed;
    slot.listed = false;
    return true;
  }

 private:
  static constexpr uint32_t groups_max = 64;
  static constexpr uint32_t buffer_bytes = 16384;
  static constexpr uint32_t frame_bytes = 16384;  // with its header: one TLS record
  static constexpr uint32_t gather_bytes = 4 * frame_bytes;
  static constexpr uint32_t body_bytes_max = buffer_bytes - 512;  // of an HttpAnswer
  static constexpr uint32_t slices_max = 4;                       // of a file in one turn
  // A handshake costs about a millisecond: by so many one turn may delay the other clients.
  static constexpr uint32_t handshakes_max = 8;

  // How far a connection has come, from the socket up; then the ways in which it ends.
  enum class Stage : uint8_t {
    none,
    proxy,
    tls,
    http,
    stream,     // MQTT
    websocket,  // MQTT in frames
    answering,  // an HTTP answer is being sent; its end is the connection's
    closing,    // what is held is being sent, then it ends
    goodbye     // our close frame is sent, the peer's is awaited
  };

  struct Slot {
    ConnectionId id;
    int descriptor = -1;
    int file = -1;           // what the answer's body comes from
    uint64_t file_at = 0;    // its next byte
    uint64_t file_left = 0;  // bytes to go
    Link tls;
    uint32_t next_listed = 0;  // index + 1
    // In the buffer: unsent bytes, or before anything was sent the beginning of a header.
    uint32_t held_from = 0;
    uint32_t held_to = 0;
    uint32_t skip = 0;  // bytes of the PROXY header that follow and say nothing
    uint8_t group = 0;
    Stage stage = Stage::none;
    bool has_address = false;  // the PROXY header has been read, or none comes
    bool introduced = false;   // the observer knows of the connection
    bool wants_write = false;  // the TLS handshake does
    bool more = false;         // TLS has input that was not taken
    bool listed = false;
    websocket::FrameReader frames;
  };
  static_assert(sizeof(Slot) <= 424, "the cost of a layered connection");

  // The bytes of the engine's pieces that were not taken yet.
  class Source {
   public:
    explicit Source(Span<const Bytes> pieces) noexcept : pieces_(pieces) {
      for (const Bytes& piece : pieces) { left_ += piece.size(); }
    }
    uint32_t left() const noexcept { return left_; }
    void take(uint8_t* target, uint32_t size) noexcept {
      left_ -= size;
      while (size != 0) {
        const Bytes piece = pieces_[0].skip(at_);
        const uint32_t count = size < piece.size() ? size : piece.size();
        memcpy(target, piece.data(), count);
        target += count;
        size -= count;
        at_ += count;
        if (at_ == pieces_[0].size()) {
          pieces_ = pieces_.skip(1);
          at_ = 0;
        }
      }
    }

   private:
    Span<const Bytes> pieces_;
    uint32_t at_ = 0;  // in the first of them
    uint32_t left_ = 0;
  };

  uint8_t* buffer(const Slot& slot) const noexcept {
    return buffers_ + uint64_t{slot.id.slot} * buffer_bytes;
  }
  static bool holds(const Slot& slot) noexcept {
    return slot.tls.holds() || (slot.held_from != slot.held_to && slot.stage > Stage::http);
  }
  // Forgets what is in the buffer and gives its pages back to the system.
  void empty_buffer(Slot& slot) noexcept {
    if (slot.held_to == 0) { return; }
    slot.held_from = 0;
    slot.held_to = 0;
#ifdef MADV_DONTNEED
    (void)madvise(buffer(slot), buffer_bytes, MADV_DONTNEED);
#endif
  }

  static void fail(LayerResult& result, Layer layer, const char* why) noexcept {
    result.gone = false;
    result.finished = true;
    result.failure = why;
    result.layer = layer;
  }
  // A system call gave `got`, which is no number of bytes; errno says why.
  static void end(LayerResult& result, ssize_t got) noexcept {
    if (got < 0 && try_later(errno)) { return; }
    result.gone = true;
    result.error = got == 0 ? 0 : errno;
  }

  // ---- in -----------------------------------------------------------------------------------

  void read_proxy(Slot& slot, LayerResult& result) noexcept {
    if (!slot.has_address) { read_proxy_header_of(slot, result); }
    while (slot.has_address && slot.skip != 0) {
      const uint32_t size = slot.skip < gather_bytes ? slot.skip : gather_bytes;
      const ssize_t got = recv(slot.descriptor, gather_, size, 0);
      if (got <= 0) { return end(result, got); }
      slot.skip -= static_cast<uint32_t>(got);
    }
    if (slot.has_address) { leave_proxy(slot); }
  }

  // Takes the header off the socket and nothing that follows, which is for the layer above. While
  // the header is not complete all that is there is taken, or the wait would return for it again.
  void read_proxy_header_of(Slot& slot, LayerResult& result) noexcept {
    uint8_t bytes[proxy_header_bytes_max];
    const uint32_t known = slot.held_to;
    memcpy(bytes, buffer(slot), known);
    const ssize_t got = recv(slot.descriptor, bytes + known, sizeof bytes - known, MSG_PEEK);
    if (got <= 0) { return end(result, got); }
    const uint32_t size = known + static_cast<uint32_t>(got);
    const ProxyResult header = read_proxy_header(Bytes(bytes, size), options_[slot.group].proxy);
    switch (header.state) {
      case ProxyResult::State::invalid:
        return fail(result, Layer::proxy, "not the PROXY header that is expected");
      case ProxyResult::State::incomplete:
        memcpy(buffer(slot) + known, bytes + known, size - known);
        slot.held_to = size;
        break;
      case ProxyResult::State::complete:
        empty_buffer(slot);
        slot.skip = header.skip;
        slot.has_address = true;
        address_ = header.address;
        result.has_address = true;
        break;
    }
    const uint32_t whole = result.has_address ? header.size : size;
    const ssize_t taken = recv(slot.descriptor, bytes, whole - known, 0);
    static_cast<void>(taken);  // these bytes are there
  }

  void leave_proxy(Slot& slot) noexcept {
    const Options& options = options_[slot.group];
    slot.stage = options.tls != nullptr ? Stage::tls : above_tls(slot);
  }
  Stage above_tls(const Slot& slot) const noexcept {
    return options_[slot.group].websocket ? Stage::http : Stage::stream;
  }

  void shake_hands(Slot& slot, LayerResult& result) noexcept {
    if (handshakes_left_ == 0) {
      slot.more = true;  // in the next turn
      return;
    }
    --handshakes_left_;
    slot.more = false;
    if (!slot.tls.is_started() && !slot.tls.start(*options_[slot.group].tls, slot.descriptor)) {
      return fail(result, Layer::tls, "out of memory");
    }
    switch (slot.tls.handshake()) {
      case Handshake::reading: return;
      case Handshake::writing: slot.wants_write = true; return;
      case Handshake::failed: return fail(result, Layer::tls, slot.tls.failure());
      case Handshake::done: break;
    }
    slot.stage = above_tls(slot);
    slot.more = true;  // what came with the last bytes of the handshake
    result.secured = true;
  }

  void read_payload(Slot& slot, Buffer target, LayerResult& result) noexcept {
    const ssize_t got = read_below(slot, target);
    if (got <= 0) {
      end(result, got);
      if (result.error == EPROTO) { fail(result, Layer::tls, slot.tls.failure()); }
      return;
    }
    const Buffer bytes = target.first(static_cast<uint32_t>(got));
    switch (slot.stage) {
      case Stage::http: read_request(slot, bytes, result); return;
      case Stage::stream: result.size = bytes.size(); return;
      case Stage::websocket:
      case Stage::goodbye: read_frames(slot, bytes, result); return;
      case Stage::answering:
      case Stage::closing:
      case Stage::proxy:
      case Stage::tls:
      case Stage::none: return;
    }
  }

  // As recv().
  ssize_t read_below(Slot& slot, Buffer target) noexcept {
    if (!slot.tls.is_started()) { return recv(slot.descriptor, target.data(), target.size(), 0); }
    const int32_t got = slot.tls.receive(target);
    slot.more = slot.tls.has_input();
    return got;
  }

  void read_frames(Slot& slot, Buffer bytes, LayerResult& result) noexcept {
    const uint32_t size = slot.frames.decode(bytes);
    if (slot.stage == Stage::goodbye) {
      result.finished = slot.frames.ended();
      return;
    }
    result.size = size;
    if (!slot.frames.ended()) { return answer_ping(slot); }
    if (slot.frames.error() != nullptr) { fail(result, Layer::websocket, slot.frames.error()); }
    send_close(slot, slot.frames.close_code());
    result.finished = true;
  }

  // ---- HTTP ---------------------------------------------------------------------------------

  // Collects the head of a request; what follows an upgrade goes to the front of `bytes`.
  void read_request(Slot& slot, Buffer bytes, LayerResult& result) noexcept {
    const uint32_t known = slot.held_to;
    const uint32_t room = http::head_bytes_max - known;
    const uint32_t looked = bytes.size() < room ? bytes.size() : room;
    Bytes head = bytes.first(looked);
    if (known != 0) {
      memcpy(buffer(slot) + known, bytes.data(), looked);
      head = Bytes(buffer(slot), known + looked);
    }
    const uint32_t size = http::head_size(head, known);
    if (size == 0 && looked == room) {
      return answer_with(slot, http::Status::head_too_large, result);
    }
    if (size == 0) {
      if (known == 0) { memcpy(buffer(slot), bytes.data(), looked); }
      slot.held_to = known + looked;
      return;
    }
    answer_request(slot, head.first(size), result);
    if (slot.stage == Stage::websocket) {
      const Buffer rest = bytes.skip(size - known);
      memmove(bytes.data(), rest.data(), rest.size());
      read_frames(slot, bytes.first(rest.size()), result);
    }
  }

  // `head` may lie in the buffer of the slot.
  void answer_request(Slot& slot, Bytes head, LayerResult& result) noexcept {
    http::Request request;
    http::Status status = http::read_request(head, request);
    websocket::Upgrade upgrade;
    const char* const origin = options_[slot.group].origin;
    if (status == http::Status::none) {
      status = websocket::read_upgrade(request, upgrade, origin == nullptr ? Text() : Text(origin));
    }
    if (status == http::Status::switching_protocols) {
      const uint32_t size = websocket::write_accept(upgrade, Buffer(gather_, gather_bytes));
      empty_buffer(slot);
      slot.stage = Stage::websocket;
      send(slot, size);
    } else if (status != http::Status::none) {
      answer_with(slot, status, result);
    } else {
      serve(slot, request, result);
    }
  }

  // What is asked for without an upgrade: the program's own pages, then files.
  void serve(Slot& slot, const http::Request& request, LayerResult& result) noexcept {
    const bool only_head = request.method == Text("HEAD");
    if (!only_head && request.method != Text("GET")) {
      return answer_with(slot, http::Status::method_not_allowed, result);
    }
    char path[http::target_bytes_max + 16];
    const http::Status status = http::read_path(request.target, path);
    if (status != http::Status::none) { return answer_with(slot, status, result); }
    HttpAnswer answer;
    answer.body = Buffer(gather_ + answer_head_bytes, body_bytes_max);
    if (observer_.on_http(uint32_t{slot.group}, Text(path), answer)) {
      const uint32_t written = answer.size < body_bytes_max ? answer.size : body_bytes_max;
      const uint32_t head = write_answer(http::Status::ok, answer.type, written);
      const uint32_t body = only_head ? 0 : written;
      memmove(gather_ + head, answer.body.data(), body);
      return send_answer(slot, head + body, result);
    }
    Descriptor file;
    uint64_t size = 0;
    const char* const folder = options_[slot.group].http_folder;
    if (folder == nullptr || !open_below(folder, path, file, size)) {
      return answer_with(slot, http::Status::not_found, result);
    }
    slot.file_left = only_head ? 0 : size;
    slot.file = file.release();
    send_answer(slot, write_answer(http::Status::ok, http::content_type(Text(path)), size), result);
  }

  void answer_with(Slot& slot, http::Status status, LayerResult& result) noexcept {
    const Text text = http::phrase(status);
    const uint32_t head = write_answer(status, "text/plain; charset=utf-8", text.size() + 1U);
    memcpy(gather_ + head, text.data(), text.size());
    gather_[head + text.size()] = '\n';
    if (status != http::Status::not_found && status != http::Status::method_not_allowed) {
      fail(result, Layer::http, text.data());
      result.finished = false;  // when the answer is sent
    }
    send_answer(slot, head + text.size() + 1, result);
  }

  static constexpr uint32_t answer_head_bytes = 512;

  // The head of an answer, at the front of the gathering buffer; its size.
  uint32_t write_answer(http::Status status, Text type, uint64_t body_size) noexcept {
    http::HeadWriter writer(Buffer(gather_, answer_head_bytes));
    writer.status(status);
    if (status == http::Status::method_not_allowed) { writer.field("Allow", "GET, HEAD"); }
    if (status == http::Status::upgrade_required) {
      writer.field("Sec-WebSocket-Version", "13").field("Upgrade", "websocket");
    }
    writer.field("Content-Type", type).add("Content-Length: ").add(body_size).add("\r\n");
    writer.field("X-Content-Type-Options", "nosniff").field("Cache-Control", "no-cache");
    writer.field("Connection", "close").end();
    return writer.size();
  }

  // Every answer is the last of its connection.
  void send_answer(Slot& slot, uint32_t size, LayerResult& result) noexcept {
    empty_buffer(slot);
    slot.stage = Stage::answering;
    send(slot, size);
    if (!holds(slot)) { go_on_answering(slot, result); }
  }

  void go_on_answering(Slot& slot, LayerResult& result) noexcept {
    for (uint32_t i = 0; i != slices_max && slot.file_left != 0; ++i) {
      const uint64_t wanted = slot.file_left < gather_bytes ? slot.file_left : gather_bytes;
      const ssize_t size = ::pread(slot.file, gather_, static_cast<size_t>(wanted),
                                   static_cast<off_t>(slot.file_at));
      if (size <= 0) { return end(result, 0); }  // the file has shrunk: only a cut says so
      const int32_t sent = push(slot, Bytes(gather_, static_cast<uint32_t>(size)));
      if (sent < 0) { return end(result, -1); }
      slot.file_at += static_cast<uint32_t>(sent);
      slot.file_left -= static_cast<uint32_t>(sent);
      if (sent != size || holds(slot)) { return; }
    }
    result.finished = slot.file_left == 0;
  }

  // ---- out ----------------------------------------------------------------------------------

  // Fills the gathering buffer, with frames where there are any; its bytes. All frames but the
  // last are full.
  uint32_t gather(const Slot& slot, Source& source) noexcept {
    if (slot.stage == Stage::stream) {
      const uint32_t size = source.left() < gather_bytes ? source.left() : gather_bytes;
      source.take(gather_, size);
      return size;
    }
    uint32_t used = 0;
    while (source.left() != 0 && used != gather_bytes) {
      constexpr uint32_t room = frame_bytes - 4;
      const uint32_t size = source.left() < room ? source.left() : room;
      uint8_t header[websocket::header_bytes_max];
      const uint32_t header_size =
          websocket::write_header(header, websocket::Opcode::binary, size, nullptr);
      memcpy(gather_ + used, header, header_size);
      source.take(gather_ + used + header_size, size);
      used += header_size + size;
    }
    return used;
  }

  // Of `size` gathered bytes `sent` were sent. Keeps the rest of a frame that was begun; the bytes
  // of the engine that are taken care of.
  uint32_t keep(Slot& slot, uint32_t size, uint32_t sent) noexcept {
    if (slot.stage == Stage::stream) { return sent; }
    const uint32_t frames = (sent + frame_bytes - 1) / frame_bytes;
    const uint32_t end = frames * frame_bytes < size ? frames * frame_bytes : size;
    hold(slot, Bytes(gather_ + sent, end - sent));
    if (frames == 0) { return 0; }
    const uint32_t last = end - (frames - 1) * frame_bytes;
    return end - (frames - 1) * 4 - (last < 128 ? 2 : 4);
  }

  // Sends the first bytes of the gathering buffer and keeps what is not taken.
  void send(Slot& slot, uint32_t size) noexcept {
    const int32_t sent = push(slot, Bytes(gather_, size));
    if (sent >= 0) {
      const auto from = static_cast<uint32_t>(sent);
      hold(slot, Bytes(gather_ + from, size - from));
    }  // else the next read says so
  }
  void hold(Slot& slot, Bytes bytes) noexcept {
    if (bytes.empty()) { return; }
    memcpy(buffer(slot) + slot.held_to, bytes.data(), bytes.size());
    slot.held_to += bytes.size();
  }

  // Sends what is held, as far as it goes; false with errno: the link is broken.
  bool send_held(Slot& slot) noexcept {
    if (slot.tls.is_started() && !slot.tls.flush()) { return false; }
    while (slot.held_from != slot.held_to && slot.stage > Stage::http && !slot.tls.holds()) {
      const int32_t sent =
          push(slot, Bytes(buffer(slot) + slot.held_from, slot.held_to - slot.held_from));
      if (sent < 0) { return false; }
      if (sent == 0) { return true; }
      slot.held_from += static_cast<uint32_t>(sent);
    }
    if (slot.held_from == slot.held_to) { empty_buffer(slot); }
    return true;
  }

  // Gives bytes to TLS or the socket: how many were taken, 0 later; -1 with errno.
  int32_t push(Slot& slot, Bytes bytes) noexcept {
    if (slot.tls.is_started()) { return slot.tls.transmit(bytes); }
    const ssize_t sent = ::send(slot.descriptor, bytes.data(), bytes.size(), send_flags);
    return sent >= 0 ? static_cast<int32_t>(sent) : try_later(errno) ? 0 : -1;
  }

  // A control frame goes between frames; while one is held a ping waits, and a close is not said.
  void answer_ping(Slot& slot) noexcept {
    Bytes payload;
    if (slot.stage != Stage::websocket || holds(slot) || !slot.frames.take_ping(payload)) {
      return;
    }
    send(slot,
         websocket::write_control(websocket::Opcode::pong, payload, Buffer(gather_, gather_bytes)));
  }
  void send_close(Slot& slot, websocket::CloseCode code) noexcept {
    if (buffer_bytes - slot.held_to < 4) { return; }
    uint8_t frame[4];
    const uint32_t size = websocket::write_close(code, Buffer(frame));
    hold(slot, Bytes(frame, size));
    (void)send_held(slot);
  }

  Observer& observer_;
  Reservation memory_;
  Slot* slots_ = nullptr;
  uint8_t* buffers_ = nullptr;
  uint8_t* gather_ = nullptr;
  uint64_t groups_ = 0;  // those that have layers, a bit each
  uint32_t listed_ = 0;  // index + 1
  uint32_t handshakes_left_ = handshakes_max;
  SocketAddress address_;
  Options options_[groups_max];
};

}  // namespace posix
}  // namespace mqtt

#endif
