// ports/journal/log.hpp — the Journal hook: turns into units, units into batches, and compaction
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_JOURNAL_LOG_HPP
#define MQTT_PORTS_JOURNAL_LOG_HPP

#include <ports/journal/segment_writer.hpp>
#include <ports/journal/state.hpp>

namespace mqtt {
namespace journal {

struct LogOptions {
  uint64_t segment_bytes = 64 << 20;  ///< a segment is compacted when it is this large at least
  uint32_t slice_bytes = 256 << 10;   ///< of a snapshot, at most, in one turn
};

/// Where the chain of segments stands before start(): what recovery found.
struct ChainEnd {
  uint32_t oldest = 0;  ///< segments; 0: there are none
  uint32_t newest = 0;
  uint32_t previous = 0;  ///< the last one that counts
  uint64_t previous_end = 0;
};

/// The Journal of a BrokerEngine without threads and files; they are the Worker's, which has
///
///     bool idle()                 nothing is given, or its outcome has been taken
///     void give(const Batch&)     when idle; the bytes stay untouched until it is idle again
///     bool take(Outcome&)         true once for each batch, when it is done
///     bool failing()              the last attempt to write failed
///     uint32_t wall_clock_s()
///
/// The loop fills one half of a buffer while the worker writes the other: what many turns changed
/// while it was busy shares one sync. Nothing is allocated, nothing waits.
///
/// When a half is full, or a sync has failed, records are missing: the log calls nothing safe any
/// more, begins a segment that stands alone and fills it with a snapshot of the engine; once that
/// is safe everything is. Meanwhile holds_back() is true.
///
/// Hook: append, wall_clock_s, is_on, holds_back. Owner: start; then collect() and end_turn().
template <typename Worker>
class Log {
 public:
  static constexpr bool enabled = true;

  Log() noexcept = default;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// Begins a segment behind the chain. `memory` is both halves; one must take what a turn can
  /// change and the largest message twice over.
  void start(Buffer memory, const LogOptions& options, const ChainEnd& chain) noexcept {
    options_ = options;
    half_ = memory.size() / 2;
    base_ = memory.data();
    other_ = base_ + half_;
    at_ = base_;
    oldest_ = chain.oldest;
    segment_ = chain.newest;
    previous_ = chain.previous;
    previous_end_ = chain.previous_end;
    begin_segment(false);
  }

  // --- hook ---

  uint64_t append(const JournalRecord& record) noexcept {
    if (!is_on()) { return 0; }
    sequence_ += 1;
    count_alive(record);
    if (record.bytes.size() > payload_piece_max && record.type == JournalRecord::Type::payload) {
      put_pieces(record);
    } else {
      put(record);
    }
    return sequence_;
  }
  uint32_t wall_clock_s() noexcept { return worker_.wall_clock_s(); }
  /// Between start() and the end; else nothing is kept and nothing has to wait.
  bool is_on() const noexcept { return base_ != nullptr; }
  /// True while QoS > 0 should not be taken from publishers: the disk is full or fails, or is so
  /// slow that half of the memory waits for it.
  bool holds_back() const noexcept {
    return is_on() && (lost_ || stands_alone_ || worker_.failing() || used() > half_ / 2);
  }

  // --- owner ---

  /// Tells the engine what has become safe. Call it when the worker has woken the loop, before
  /// the output of the turn is drained.
  template <typename Engine>
  void collect(Engine& engine) noexcept {
    Outcome outcome{};
    if (!worker_.take(outcome)) { return; }
    if (outcome != Outcome::safe) {
      forget_chain();
      return;
    }
    if (given_.completes) {
      oldest_ = given_.segment;
      abandoned_ = abandoned_ == given_.segment ? 0 : abandoned_;
      stands_alone_ = stands_alone_ && given_.segment != segment_;
    }
    if (given_.completes || !given_alone_) { engine.durable(given_sequence_); }
  }

  /// Ends the unit. Call it after the engine's end_turn(), before the loop waits.
  template <typename Engine>
  void end_turn(Engine& engine) noexcept {
    if (!is_on()) { return; }
    collect(engine);
    end_unit();
    if (lost_ || is_due()) {
      hand_over();
      if (used() == 0) { begin_segment(lost_); }
    }
    if (snapshotting_) { take_slices(engine); }
    hand_over();
  }

  /// The next end_turn() begins a compaction.
  void compact() noexcept { requested_ = true; }

  // --- getters ---

  Worker& worker() noexcept { return worker_; }
  bool compacting() const noexcept { return snapshotting_; }
  /// Nothing waits to be safe.
  bool is_settled() const noexcept { return used() == 0 && worker_.idle() && !snapshotting_; }
  uint64_t sequence() const noexcept { return sequence_; }
  uint64_t segment_bytes() const noexcept { return segment_size_ + used(); }
  /// About what a snapshot would need now.
  uint64_t live_bytes() const noexcept {
    const int64_t bytes = snapshot_size_ + (sizes_known_ ? grown_ : 0);
    return bytes > 0 ? static_cast<uint64_t>(bytes) : 0;
  }
  uint32_t segment() const noexcept { return segment_; }
  uint64_t losses() const noexcept { return losses_; }

 private:
  uint32_t used() const noexcept { return static_cast<uint32_t>(at_ - base_); }

  // Messages come with their bytes and end with as many.
  void count_alive(const JournalRecord& record) noexcept {
    using Type = JournalRecord::Type;
    if (record.type == Type::message_end) {
      sizes_known_ = sizes_known_ || record.number != 0;
      grown_ -= record.number;
    } else if (record.type == Type::message || record.type == Type::payload) {
      grown_ += int64_t{record.text.size()} + record.bytes.size();
    }
  }

  // --- units ---

  void put(const JournalRecord& record) noexcept {
    const uint32_t size = record_size_max(record);
    if (lost_ || (size > room_ && !make_room(size))) { return; }
    uint8_t* const end = put_record(at_, record);
    room_ -= static_cast<uint32_t>(end - at_);
    at_ = end;
  }
  void put_pieces(JournalRecord record) noexcept {
    const Bytes all = record.bytes;
    for (uint32_t at = 0; at < all.size(); at += payload_piece_max) {
      const uint32_t left = all.size() - at;
      record.bytes = Bytes(all.data() + at, left < payload_piece_max ? left : payload_piece_max);
      put(record);
    }
  }
  // Opens a frame in which `size` bytes have room.
  bool make_room(uint32_t size) noexcept {
    if (frame_ != nullptr) { close_frame(false); }
    if (size > frame_body_max || half_ - used() < frame_header_size + size) {
      lose();
      return false;
    }
    frame_ = at_;
    begin_frame(frame_);
    at_ += frame_header_size;
    const uint32_t left = half_ - used();
    room_ = left < frame_body_max ? left : frame_body_max;
    return true;
  }
  void close_frame(bool ends) noexcept {
    const auto body = static_cast<uint32_t>(at_ - frame_) - frame_header_size;
    end_frame(frame_, body, frame_ == unit_, ends);
    frame_ = nullptr;
    room_ = 0;
  }
  void end_unit() noexcept {
    if (frame_ != nullptr) { close_frame(true); }
    unit_ = at_;
    if (!lost_) { unit_sequence_ = sequence_; }
  }

  // --- batches ---

  void hand_over() noexcept {
    if (used() == 0 || !worker_.idle()) { return; }
    given_ = Batch();
    given_.data = base_;
    given_.size = used();
    given_.segment = segment_;
    given_.creates = creates_;
    given_.completes = completes_;
    given_.oldest = oldest_ != 0 ? oldest_ : segment_;
    given_.abandoned = creates_ ? abandoned_ : 0;
    given_sequence_ = unit_sequence_;
    given_alone_ = stands_alone_;
    segment_size_ += used();
    creates_ = false;
    completes_ = false;
    worker_.give(given_);
    uint8_t* const filled = base_;
    base_ = other_;
    other_ = filled;
    clear();
  }
  void clear() noexcept {
    at_ = base_;
    unit_ = base_;
    frame_ = nullptr;
    room_ = 0;
  }

  // --- segments ---

  bool is_due() const noexcept {
    if (snapshotting_ || stands_alone_) { return false; }
    const uint64_t doubled = 2 * live_bytes();
    return requested_ ||
           segment_size_ >= (doubled > options_.segment_bytes ? doubled : options_.segment_bytes);
  }

  // In an empty half.
  void begin_segment(bool alone) noexcept {
    if (!alone && segment_size_ != 0) {
      previous_ = segment_;
      previous_end_ = segment_size_;
    }
    abandoned_ = alone && stands_alone_ ? segment_ : 0;
    segment_ += 1;
    SegmentHeader header;
    header.stands_alone = alone;
    header.number = segment_;
    header.previous = alone ? 0 : previous_;
    header.previous_end = alone ? 0 : previous_end_;
    header.created_s = worker_.wall_clock_s();
    clear();
    put_segment_header(at_, header);
    at_ += segment_header_size;
    unit_ = at_;
    segment_size_ = 0;
    slices_size_ = 0;
    grown_ = 0;
    creates_ = true;
    completes_ = false;
    requested_ = false;
    lost_ = false;
    stands_alone_ = alone;
    snapshotting_ = true;
    snapshot_begun_ = false;
  }

  // What does not fit is not kept: units before it are whole.
  void lose() noexcept {
    at_ = unit_;
    frame_ = nullptr;
    room_ = 0;
    lost_ = true;
    losses_ += 1;
    snapshotting_ = false;
    if (stands_alone_ || (creates_ && used() == segment_header_size)) { drop_filling(); }
  }
  void drop_filling() noexcept {
    clear();
    creates_ = false;
    completes_ = false;
  }
  // Nobody knows what of the newest segment is on the medium.
  void forget_chain() noexcept {
    losses_ += lost_ ? 0U : 1U;
    drop_filling();
    lost_ = true;
    snapshotting_ = false;
  }

  // As much of the snapshot as fits in a turn and leaves room for the next.
  template <typename Engine>
  void take_slices(Engine& engine) noexcept {
    BrokerSnapshot<Engine> snapshot;
    static_assert(sizeof snapshot <= sizeof snapshot_, "the place of a snapshot");
    if (snapshot_begun_) { memcpy(static_cast<void*>(&snapshot), snapshot_, sizeof snapshot); }
    snapshot_begun_ = true;
    const uint32_t start = used();
    const auto sink = [this](const JournalRecord& record) { put(record); };
    const uint32_t room = half_ / 4 < used() ? 0 : half_ / 4 - used();
    const uint32_t end = start + (room < options_.slice_bytes ? room : options_.slice_bytes);
    while (!lost_ && used() < end) {
      if (!snapshot.next(engine, sink, end - used())) {
        finish_snapshot(start);
        break;
      }
    }
    if (!lost_) {
      slices_size_ += used() - start;
      end_unit();
    }
    memcpy(snapshot_, static_cast<const void*>(&snapshot), sizeof snapshot);
  }
  void finish_snapshot(uint32_t start) noexcept {
    JournalRecord complete;
    complete.type = static_cast<JournalRecord::Type>(type_complete);
    put(complete);
    if (lost_) { return; }
    snapshotting_ = false;
    completes_ = true;
    snapshot_size_ = static_cast<int64_t>(slices_size_ + used() - start);
  }

  Worker worker_;
  LogOptions options_;
  uint32_t half_ = 0;        // bytes of each half
  uint8_t* base_ = nullptr;  // of the half being filled; null: off
  uint8_t* other_ = nullptr;
  uint8_t* at_ = nullptr;
  uint8_t* unit_ = nullptr;   // where the unit begins
  uint8_t* frame_ = nullptr;  // the open frame
  uint32_t room_ = 0;         // in it
  uint64_t sequence_ = 0;
  uint64_t unit_sequence_ = 0;  // of the last whole unit

  Batch given_;
  uint64_t given_sequence_ = 0;
  bool given_alone_ = false;  // its segment does not count yet

  uint32_t oldest_ = 0;
  uint32_t segment_ = 0;
  uint32_t previous_ = 0;
  uint64_t previous_end_ = 0;
  uint64_t segment_size_ = 0;  // given to the worker
  uint64_t slices_size_ = 0;   // of its snapshot
  int64_t snapshot_size_ = 0;  // the last one's
  int64_t grown_ = 0;          // bytes of messages since, less those that ended
  uint64_t losses_ = 0;
  uint32_t abandoned_ = 0;
  bool creates_ = false;
  bool completes_ = false;
  bool lost_ = false;          // records are missing: a segment that stands alone must follow
  bool stands_alone_ = false;  // the segment counts only once it is complete
  bool snapshotting_ = false;
  bool requested_ = false;
  bool sizes_known_ = false;  // the engine says how large a message was that ends
  bool snapshot_begun_ = false;
  alignas(8) uint8_t snapshot_[64] = {};  // BrokerSnapshot of the engine, whose type is known later
};

}  // namespace journal
}  // namespace mqtt

#endif
