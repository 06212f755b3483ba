// ports/posix/broker_loop.hpp — sockets for a BrokerEngine: one wait, one read each, one drain
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_BROKER_LOOP_HPP
#define MQTT_PORTS_POSIX_BROKER_LOOP_HPP

#include <sys/resource.h>
#include <sys/uio.h>
#include <ports/posix/clock.hpp>
#include <ports/posix/layers.hpp>
#include <ports/posix/listener.hpp>
#include <ports/posix/memory.hpp>
#include <ports/posix/poller.hpp>

namespace mqtt {
namespace posix {

struct LoopOptions {
  uint32_t connections = 20000;        ///< as BrokerLimits::connections
  uint32_t descriptors = 0;            ///< one above the largest that can come; 0: RLIMIT_NOFILE
  uint32_t read_bytes = 256 << 10;     ///< taken from a connection at once
  uint32_t arena_bytes = 1 << 20;      ///< for the reads of one turn; at least read_bytes
  uint32_t scratch_bytes = 516 << 10;  ///< above BrokerLimits::control_packet_bytes_max
};

/// Why a connection was closed as soon as it was accepted.
enum class Refusal : uint8_t { listener_full, broker_full, descriptors };

/// What a loop tells its program; derive from it and hide what is wanted.
struct NoObserver {
  /// The address is the client's: behind a proxy this comes when its PROXY header is read, or
  /// refused, and then with the address of the proxy.
  void on_accepted(ConnectionId, uint32_t /*group*/, const SocketAddress&) noexcept {}
  /// The address has size 0 when it is not known.
  void on_refused(uint32_t /*group*/, const SocketAddress&, Refusal) noexcept {}
  /// The transport ended by itself: `error` is its errno, 0 when the peer closed it in order.
  /// Comes before the engine's on_disconnected.
  void on_broken(ConnectionId, int /*error*/) noexcept {}
  /// The TLS handshake is done; the link knows its version, and the peer's certificate or key.
  template <typename Link>
  void on_secured(ConnectionId, const Link&) noexcept {}
  /// A layer below MQTT refuses what the peer sends; the connection ends. The reason is a sentence
  /// without a full stop, valid until this returns.
  void on_layer_failed(ConnectionId, Layer, const char* /*reason*/) noexcept {}
  /// GET or HEAD of a path (without its leading '/') on a listener for WebSocket. True: it is
  /// answered; false: a file may be.
  bool on_http(uint32_t /*group*/, Text /*path*/, HttpAnswer&) noexcept { return false; }
  void on_closed(ConnectionId) noexcept {}  ///< last word about this connection
  void on_notice(uint8_t) noexcept {}       ///< what notify() was given
  void on_turn() noexcept {}                ///< the turn is over; before waiting again
};

constexpr uint32_t listeners_max = 64;  ///< groups of listening sockets
constexpr uint32_t sockets_max = 128;   ///< listening sockets

/// Connects sockets to a BrokerEngine. One thread; level-triggered; no system call per message
/// and no memory after start(). Every connection costs 8 bytes here.
///
/// `Layers` is NoLayers, or the class of that name when some listeners take TLS, WebSocket or
/// PROXY headers: layers().set() says which. A connection of the others takes the same path as
/// without.
///
/// Set-up: layers().set(), start(), add_listener(). Then turn() for ever, or run() until
/// notify(stop_notice). A turn waits, reads once from every ready connection into one arena,
/// accepts, lets the engine tick, and writes what is due.
template <typename Engine, typename Observer = NoObserver, typename Poller = DefaultPoller,
          typename Layers = NoLayers>
class BrokerLoop {
 public:
  static constexpr uint8_t stop_notice = 0;

  BrokerLoop(Engine& engine, Observer& observer) noexcept
      : engine_(engine), observer_(observer), layers_(observer) {}
  BrokerLoop(const BrokerLoop&) = delete;
  BrokerLoop& operator=(const BrokerLoop&) = delete;
  ~BrokerLoop() { close_all(); }

  /// Reserves all memory; 0, or an errno. The engine is started by the caller.
  int start(const LoopOptions& options) noexcept {
    options_ = options;
    if (options_.descriptors == 0) {
      rlimit limit{};
      (void)getrlimit(RLIMIT_NOFILE, &limit);
      options_.descriptors =
          static_cast<uint32_t>(limit.rlim_cur < descriptor_max ? limit.rlim_cur : descriptor_max);
    }
    if (options_.arena_bytes < options_.read_bytes) { return EINVAL; }
    const uint64_t table = uint64_t{options_.connections} * sizeof(Entry);
    const uint64_t poller = (Poller::bytes(options_.descriptors) + 15) / 16 * 16;
    if (!memory_.reserve(table + poller + options_.scratch_bytes + options_.arena_bytes)) {
      return ENOMEM;
    }
    if (!layers_.start(options_.connections)) { return ENOMEM; }
    entries_ = reinterpret_cast<Entry*>(memory_.data());
    scratch_ = memory_.data() + table + poller;
    arena_ = scratch_ + options_.scratch_bytes;
    if (!poller_.start(memory_.data() + table, options_.descriptors) || !open_notices()) {
      return errno;
    }
    reopen_spare();
    return 0;
  }

  /// Takes over a listening socket. Sockets of one `group` share the limit `connections_max`, of
  /// which the last given counts; 0xFFFFFFFF is none. 0, or an errno.
  int add_listener(Descriptor& socket, uint32_t group, uint32_t connections_max) noexcept {
    if (socket_count_ == sockets_max || group >= listeners_max) { return ENFILE; }
    if (!poller_.add(socket.get(), socket_tag(socket_count_), wait_read)) { return errno; }
    groups_[group].connections_max = connections_max;
    sockets_[socket_count_].descriptor = socket.release();
    sockets_[socket_count_].group = group;
    ++socket_count_;
    return 0;
  }

  /// Turns until notify(stop_notice), then stops. 0, or the errno that ended it.
  int run() noexcept {
    int error = 0;
    while (!stopping_ && error == 0) { error = turn(-1); }
    stop();
    return error;
  }

  /// One turn, waiting at most `timeout_ms` (-1: for the next deadline). 0, or an errno.
  int turn(int timeout_ms) noexcept {
    const Millis start = clock_.now_ms();
    const Millis due = engine_.deadline();
    const int wait = layers_.has_listed() ? 0 : wait_ms(due < resume_ms_ ? due : resume_ms_, start);
    const bool shorter = timeout_ms >= 0 && (wait < 0 || timeout_ms < wait);
    const int count = poller_.wait(shorter ? timeout_ms : wait);
    now_ = clock_.now_ms();
    if (count < 0 && errno != EINTR) { return errno; }
    layers_.begin_turn();
    const uint32_t listed = layers_.take_list();  // before others are listed in this turn
    for (int i = 0; i < count; ++i) { on_ready(poller_.ready(static_cast<uint32_t>(i))); }
    read_listed(listed);
    // After the connections, so that no event of this wait meets a slot that was given anew.
    resume_accepting();
    for (uint32_t i = 0; i != socket_count_; ++i) {
      if (sockets_[i].ready) {
        sockets_[i].ready = false;
        accept_burst(sockets_[i]);
      }
    }
    finish_turn();
    observer_.on_turn();
    return 0;
  }

  /// Wakes the loop and hands the byte to the observer; stop_notice ends run(). May be called
  /// from a signal handler and from other threads.
  void notify(uint8_t notice) noexcept {
    const int error = errno;
    // A full pipe wakes the loop as well.
    const ssize_t written = ::write(notices_write_.get(), &notice, 1);
    static_cast<void>(written);
    errno = error;
  }

  /// Closes the listeners, lets the engine say goodbye and closes every connection.
  void stop() noexcept {
    close_listeners();
    now_ = clock_.now_ms();
    engine_.stop(now_);
    finish_turn();
    close_all();
    observer_.on_turn();
  }

  /// The layers of the listeners; only if there are any.
  Layers& layers() noexcept { return layers_; }
  bool stopping() const noexcept { return stopping_; }
  uint32_t connection_count() const noexcept { return connection_count_; }
  /// The group of the listener that accepted a connection which is open.
  uint32_t group(ConnectionId id) const noexcept { return entries_[id.slot].group(); }
  /// The descriptor of a connection; -1 when it is closed.
  int descriptor(ConnectionId id) const noexcept {
    return is_open(id) ? entries_[id.slot].descriptor() : -1;
  }

 private:
  static constexpr uint32_t special_tags = 0xFFFFFF00;  // above every slot
  static constexpr uint32_t notice_tag = 0xFFFFFFFF;
  static constexpr uint32_t accepts_max = 256;  // of one listening socket in a turn
  static constexpr Millis accept_pause_ms = 100;
  static constexpr uint32_t descriptor_max = (1U << 22) - 2;
  static constexpr uint32_t rx_pieces_max = 64;
  static constexpr uint32_t tx_pieces_max = 256;

  // What the loop knows of a connection. All zero: free.
  struct Entry {
    uint32_t generation;
    uint32_t bits;  // descriptor + 1: 22 bits, group: 6, layered, blocked, wait_write, wait_read

    static constexpr uint32_t blocked_bit = 4;
    static constexpr uint32_t layered_bit = 8;
    void open(int descriptor, uint32_t group) noexcept {
      bits = (static_cast<uint32_t>(descriptor) + 1) << 10 | group << 4 | wait_read;
    }
    int descriptor() const noexcept { return static_cast<int>(bits >> 10) - 1; }
    uint32_t group() const noexcept { return bits >> 4 & 63; }
    uint8_t interest() const noexcept { return static_cast<uint8_t>(bits & 3); }
    bool blocked() const noexcept { return (bits & blocked_bit) != 0; }
    bool layered() const noexcept { return (bits & layered_bit) != 0; }
    void set_interest(uint8_t interest) noexcept { bits = (bits & ~3U) | interest; }
    void set_blocked(bool on) noexcept { bits = (bits & ~blocked_bit) | (on ? blocked_bit : 0); }
    void set_layered(bool on) noexcept { bits = (bits & ~layered_bit) | (on ? layered_bit : 0); }
  };
  static_assert(sizeof(Entry) == 8, "8 bytes a connection");

  struct ListeningSocket {
    int descriptor = -1;
    uint32_t group = 0;
    bool ready = false;
  };
  struct Group {
    uint32_t connections = 0;
    uint32_t connections_max = 0xFFFFFFFF;
  };

  static uint64_t tag(ConnectionId id) noexcept { return uint64_t{id.generation} << 32 | id.slot; }
  static uint64_t socket_tag(uint32_t index) noexcept { return special_tags + index; }

  bool is_open(ConnectionId id) const noexcept {
    return id.slot < options_.connections && entries_[id.slot].bits != 0 &&
           entries_[id.slot].generation == id.generation;
  }

  bool open_notices() noexcept {
    int ends[2];
    if (pipe(ends) != 0) { return false; }
    notices_read_.reset(ends[0]);
    notices_write_.reset(ends[1]);
    return set_nonblocking(ends[0]) && set_nonblocking(ends[1]) &&
           poller_.add(ends[0], notice_tag, wait_read);
  }

  void on_ready(const Ready& ready) noexcept {
    const auto slot = static_cast<uint32_t>(ready.tag);
    if (slot == notice_tag) {
      read_notices();
    } else if (slot >= special_tags) {
      sockets_[slot - special_tags].ready = true;
    } else {
      on_connection(ConnectionId{slot, static_cast<uint32_t>(ready.tag >> 32)}, ready);
    }
  }

  void read_notices() noexcept {
    uint8_t notices[64];
    const ssize_t count = ::read(notices_read_.get(), notices, sizeof notices);
    for (ssize_t i = 0; i < count; ++i) {
      stopping_ = stopping_ || notices[i] == stop_notice;
      observer_.on_notice(notices[i]);
    }
  }

  void on_connection(ConnectionId id, const Ready& ready) noexcept {
    if (is_open(id) && ready.writable && entries_[id.slot].blocked()) {
      entries_[id.slot].set_blocked(false);
      if (!is_layered(id) || flush_layers(id)) { engine_.writable(id); }
    }
    if (!ready.readable && !ready.broken) { return; }
    make_room();
    if (!is_open(id)) { return; }
    if ((entries_[id.slot].interest() & wait_read) != 0) {
      read_once(id);
    } else if (ready.broken) {
      lose(id, socket_error(entries_[id.slot].descriptor()));
    }
  }

  // A read needs its share of the arena; when that is used up, the turn ends in the middle.
  void make_room() noexcept {
    if (options_.arena_bytes - arena_used_ < options_.read_bytes) { finish_turn(); }
  }

  // One system call: first what the engine wants in its own place, then the arena.
  void read_once(ConnectionId id) noexcept {
    if (is_layered(id)) { return read_layered(id); }
    Buffer places[rx_pieces_max];
    const uint32_t count = engine_.rx_space(id, Span<Buffer>(places));
    iovec vectors[rx_pieces_max + 1];
    uint32_t placed = 0;
    for (uint32_t i = 0; i != count; ++i) {
      vectors[i] = {places[i].data(), places[i].size()};
      placed += places[i].size();
    }
    uint8_t* target = arena_ + arena_used_;
    vectors[count] = {target, options_.read_bytes};
    const int descriptor = entries_[id.slot].descriptor();
    const ssize_t got = count == 0 ? recv(descriptor, target, options_.read_bytes, 0)
                                   : readv(descriptor, vectors, static_cast<int>(count + 1));
    if (got <= 0) {
      if (got == 0 || !try_later(errno)) { lose(id, got == 0 ? 0 : errno); }
      return;
    }
    const auto size = static_cast<uint32_t>(got);
    const uint32_t committed = size < placed ? size : placed;
    if (committed != 0) { engine_.rx_commit(id, committed, now_); }
    if (size > committed) { hand_on(id, size - committed); }
  }

  // Gives the engine what was read into the arena.
  void hand_on(ConnectionId id, uint32_t size) noexcept {
    const Buffer bytes(arena_ + arena_used_, size);
    arena_used_ += size;
    engine_.receive(id, bytes, now_);
  }

  static int socket_error(int descriptor) noexcept {
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
  }

  void finish_turn() noexcept {
    engine_.tick(now_);
    ConnectionId id{};
    while (engine_.next_due(id)) {
      if (is_open(id)) { drain(id); }
    }
    engine_.end_turn(now_);
    arena_used_ = 0;
  }

  // Sends until nothing is left or the socket is full.
  void drain(ConnectionId id) noexcept {
    Entry& entry = entries_[id.slot];
    bool more = true;
    while (more) {
      const auto output =
          engine_.fill(id, Buffer(scratch_, options_.scratch_bytes), Span<Bytes>(pieces_));
      int64_t taken = 0;
      if (output.size != 0) {
        taken = transmit(id, output.count);
        if (taken < 0) {
          lose(id, errno);
          return;
        }
        engine_.sent(id, static_cast<uint32_t>(taken));
      }
      if (output.hang_up && taken == int64_t{output.size}) {
        hang_up(id);
        return;
      }
      if (taken < output.size || is_held(id)) { entry.set_blocked(true); }
      more = output.size != 0 && taken == output.size && engine_.has_output(id);
    }
    update_interest(id);
  }

  // Bytes taken; -1 with errno when the link is broken.
  int64_t transmit(ConnectionId id, uint32_t count) noexcept {
    if (is_layered(id)) {
      return layers_.transmit(id.slot, Span<const Bytes>(pieces_).first(count));
    }
    const int descriptor = entries_[id.slot].descriptor();
    iovec vectors[tx_pieces_max];
    for (uint32_t i = 0; i != count; ++i) {
      vectors[i] = {const_cast<uint8_t*>(pieces_[i].data()), pieces_[i].size()};
    }
    msghdr message{};
    message.msg_iov = vectors;
    message.msg_iovlen = count;
    const ssize_t taken =
        count == 1 ? send(descriptor, vectors[0].iov_base, vectors[0].iov_len, send_flags)
                   : sendmsg(descriptor, &message, send_flags);
    if (taken >= 0) { return taken; }
    return try_later(errno) ? 0 : -1;
  }

  // The only place that changes what is waited for: after a short write, and for a pause.
  void update_interest(ConnectionId id) noexcept {
    Entry& entry = entries_[id.slot];
    const auto interest = static_cast<uint8_t>((wants_read(id) ? wait_read : wait_none) |
                                               (entry.blocked() ? wait_write : wait_none));
    if (interest == entry.interest()) { return; }
    if (poller_.change(entry.descriptor(), tag(id), interest)) {
      entry.set_interest(interest);
    } else {
      lose(id, errno);
    }
  }

  void lose(ConnectionId id, int error) noexcept {
    observer_.on_broken(id, error);
    close_connection(id);
  }

  void hang_up(ConnectionId id) noexcept {
    if (is_layered(id) && !end_layers(id)) { return; }
    finish(id);
  }

  void finish(ConnectionId id) noexcept {
    const int descriptor = entries_[id.slot].descriptor();
    ::shutdown(descriptor, SHUT_WR);
    // Closing with unread input resets the link, and the peer may lose our last packet.
    for (int i = 0; i != 16; ++i) {
      if (recv(descriptor, scratch_, options_.scratch_bytes, MSG_DONTWAIT) <= 0) { break; }
    }
    close_connection(id);
  }

  void close_connection(ConnectionId id) noexcept {
    Entry& entry = entries_[id.slot];
    close_layers(id);
    poller_.remove(entry.descriptor());
    ::close(entry.descriptor());
    --groups_[entry.group()].connections;
    --connection_count_;
    engine_.lost(id, now_);
    entry.bits = 0;
    observer_.on_closed(id);
  }

  void accept_burst(ListeningSocket& socket) noexcept {
    for (uint32_t i = 0; i != accepts_max; ++i) {
      SocketAddress peer;
      Descriptor accepted(accept_one(socket.descriptor, peer));
      if (accepted) {
        admit(accepted, socket.group, peer);
      } else if (errno == EMFILE || errno == ENFILE) {
        if (!refuse_one(socket)) { return; }
      } else if (errno == ENOBUFS || errno == ENOMEM) {
        pause_accepting();
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return;
      }
      if (resume_ms_ != ~Millis{0}) { return; }
    }
  }

  void admit(Descriptor& accepted, uint32_t group, const SocketAddress& peer) noexcept {
    if (groups_[group].connections >= groups_[group].connections_max) {
      observer_.on_refused(group, peer, Refusal::listener_full);
      return;
    }
    ConnectionId id{};
    if (static_cast<uint32_t>(accepted.get()) > descriptor_max ||
        engine_.admit(id, now_) != Error::none) {
      observer_.on_refused(group, peer, Refusal::broker_full);
      return;
    }
    if (id.slot >= options_.connections || !poller_.add(accepted.get(), tag(id), wait_read)) {
      engine_.lost(id, now_);
      observer_.on_refused(group, peer, Refusal::descriptors);
      return;
    }
    entries_[id.slot].generation = id.generation;
    entries_[id.slot].open(accepted.release(), group);
    ++groups_[group].connections;
    ++connection_count_;
    if (layers_.has_any(group)) {
      entries_[id.slot].set_layered(true);
      layers_.open(id, entries_[id.slot].descriptor(), group);
      if (!layers_.has_address(id.slot)) { return; }
      (void)layers_.introduce(id.slot);
    }
    observer_.on_accepted(id, group, peer);
  }

  // ---- connections with layers --------------------------------------------------------------

  // Of a connection that is open.
  bool is_layered(ConnectionId id) const noexcept {
    return Layers::exist && entries_[id.slot].layered();
  }
  // Whether the layers have taken bytes that the socket has not.
  bool is_held(ConnectionId id) const noexcept {
    return is_layered(id) && layers_.is_blocked(id.slot);
  }
  bool wants_read(ConnectionId id) noexcept {
    const bool wanted = engine_.wants_read(id);
    if (!is_layered(id)) { return wanted; }
    const bool wants = layers_.wants_read(id.slot, wanted);
    if (wants) { layers_.list_if_more(id.slot); }
    return wants;
  }

  void read_layered(ConnectionId id) noexcept {
    const Buffer target(arena_ + arena_used_, options_.read_bytes);
    const LayerResult result = layers_.receive(id.slot, target);
    if (result.is_known()) { tell_who(id, result); }
    if (result.size != 0) { hand_on(id, result.size); }
    (void)settle(id, result);
  }

  // Those whose bytes TLS has already: no wait tells of them.
  void read_listed(uint32_t list) noexcept {
    ConnectionId id{};
    while (layers_.next_listed(list, id)) {
      make_room();
      if (is_open(id) && (entries_[id.slot].interest() & wait_read) != 0) { read_once(id); }
    }
  }

  // Who it is must be known before what it says: this comes before the engine gets the bytes.
  __attribute__((cold)) void tell_who(ConnectionId id, const LayerResult& result) noexcept {
    introduce(id);
    if (result.secured) { observer_.on_secured(id, layers_.tls(id.slot)); }
  }

  // Does what a call to the layers asks for; false: the connection is closed.
  bool settle(ConnectionId id, const LayerResult& result) noexcept {
    if (result.failure != nullptr || result.is_over()) {
      if (!tell_end(id, result)) { return false; }
    }
    if (is_held(id)) { entries_[id.slot].set_blocked(true); }
    entries_[id.slot].set_layered(!layers_.is_bare(id.slot));
    update_interest(id);
    return is_open(id);
  }

  // False: the layers have ended the connection.
  __attribute__((cold)) bool tell_end(ConnectionId id, const LayerResult& result) noexcept {
    introduce(id);
    if (result.failure != nullptr) { observer_.on_layer_failed(id, result.layer, result.failure); }
    if (result.gone) {
      lose(id, result.error);
    } else if (result.finished) {
      if (result.failure == nullptr) { observer_.on_broken(id, 0); }
      finish(id);
    }
    return !result.is_over();
  }

  // The socket takes bytes again. True: the layers have none, it is the engine's turn.
  bool flush_layers(ConnectionId id) noexcept {
    const LayerResult result = layers_.flush(id.slot);
    if (result.is_known()) { tell_who(id, result); }
    return settle(id, result) && !entries_[id.slot].blocked();
  }

  // True: the layers have nothing left to say.
  __attribute__((cold)) bool end_layers(ConnectionId id) noexcept {
    const LayerResult result = layers_.hang_up(id.slot);
    introduce(id);
    if (result.failure != nullptr) { observer_.on_layer_failed(id, result.layer, result.failure); }
    if (result.finished) { return true; }
    if (is_held(id)) { entries_[id.slot].set_blocked(true); }
    update_interest(id);
    return false;
  }

  void close_layers(ConnectionId id) noexcept {
    if (!layers_.has_any(entries_[id.slot].group())) { return; }
    introduce(id);
    layers_.close(id.slot);
  }

  // Tells the observer of a connection whose address was not known when it was accepted.
  __attribute__((cold)) void introduce(ConnectionId id) noexcept {
    if (!layers_.introduce(id.slot)) { return; }
    SocketAddress peer;
    if (layers_.has_address(id.slot)) { peer = layers_.address(); }
    if (peer.size == 0) { peer = remote_address(entries_[id.slot].descriptor()); }
    observer_.on_accepted(id, entries_[id.slot].group(), peer);
  }

  // No descriptor is free: without one to spare the connection would stay in the queue and wake
  // us for ever. The spare one takes it, and it is told no by being closed. False: none waits,
  // or none can be taken.
  bool refuse_one(ListeningSocket& socket) noexcept {
    spare_.reset();
    SocketAddress peer;
    Descriptor accepted(accept_one(socket.descriptor, peer));
    const bool stuck = !accepted && !try_later(errno);
    if (accepted || stuck) {
      peer.size = accepted ? peer.size : 0;
      observer_.on_refused(socket.group, peer, Refusal::descriptors);
    }
    const bool taken = static_cast<bool>(accepted);
    accepted.reset();
    reopen_spare();
    if (stuck || !spare_) { pause_accepting(); }
    return taken;
  }

  void reopen_spare() noexcept { spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

  void pause_accepting() noexcept {
    set_accepting(false);
    resume_ms_ = now_ + accept_pause_ms;
  }

  void resume_accepting() noexcept {
    if (now_ >= resume_ms_) {
      set_accepting(true);
      resume_ms_ = ~Millis{0};
      if (!spare_) { reopen_spare(); }
    }
  }

  void set_accepting(bool on) noexcept {
    for (uint32_t i = 0; i != socket_count_; ++i) {
      (void)poller_.change(sockets_[i].descriptor, socket_tag(i), on ? wait_read : wait_none);
    }
  }

  void close_listeners() noexcept {
    for (uint32_t i = 0; i != socket_count_; ++i) {
      poller_.remove(sockets_[i].descriptor);
      ::close(sockets_[i].descriptor);
    }
    socket_count_ = 0;
  }

  // After the engine's goodbye this finds none; it is for a loop that ends without one.
  void close_all() noexcept {
    close_listeners();
    for (uint32_t slot = 0; connection_count_ != 0 && slot != options_.connections; ++slot) {
      if (entries_[slot].bits != 0) {
        close_connection(ConnectionId{slot, entries_[slot].generation});
      }
    }
  }

  Engine& engine_;
  Observer& observer_;
  Layers layers_;
  Poller poller_;
  MonotonicClock clock_;
  LoopOptions options_;
  Reservation memory_;
  Entry* entries_ = nullptr;
  uint8_t* scratch_ = nullptr;
  uint8_t* arena_ = nullptr;
  uint32_t arena_used_ = 0;
  uint32_t connection_count_ = 0;
  Millis now_ = 0;
  Millis resume_ms_ = ~Millis{0};  // when accepting goes on; the largest: it is not paused
  bool stopping_ = false;
  Descriptor spare_;
  Descriptor notices_read_;
  Descriptor notices_write_;
  uint32_t socket_count_ = 0;
  ListeningSocket sockets_[sockets_max];
  Group groups_[listeners_max];
  Bytes pieces_[tx_pieces_max];
};

}  // namespace posix
}  // namespace mqtt

#endif
