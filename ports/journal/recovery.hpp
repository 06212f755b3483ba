// ports/journal/recovery.hpp — reads a chain of segments back, whatever a crash has left of it
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_JOURNAL_RECOVERY_HPP
#define MQTT_PORTS_JOURNAL_RECOVERY_HPP

#include <ports/journal/log.hpp>

namespace mqtt {
namespace journal {

inline constexpr uint32_t window_bytes_min = frame_header_size + frame_body_max;

/// What was found and what was not.
struct Recovered {
  int error = 0;               ///< errno of a read that failed
  uint16_t newer_version = 0;  ///< not 0: the format is newer than ours, nothing was read
  uint32_t segments = 0;       ///< that count
  uint64_t units = 0;
  uint64_t records = 0;
  uint64_t bytes = 0;
  uint64_t tail_bytes = 0;       ///< dropped: a write that was cut short
  uint64_t tail_units = 0;       ///< whole ones among them, and the one that is cut
  uint64_t damaged_bytes = 0;    ///< skipped: damage in the middle
  uint32_t damages = 0;          ///< places of damage
  uint32_t damaged_segment = 0;  ///< the first with bytes dropped or skipped; 0: none
  uint64_t refused = 0;          ///< records the engine had no room for
  Error refusal = Error::none;   ///< of the first of them
  ChainEnd chain;
};

/// One segment, read through a window of window_bytes_min bytes or more.
template <typename Files>
class SegmentReader {
 public:
  SegmentReader(Files& files, Buffer window) noexcept : files_(files), window_(window) {}

  /// 0 or an errno. Units begin at segment_header_size.
  int open(uint32_t number) noexcept {
    number_ = number;
    loaded_size_ = 0;
    size_ = 0;
    error_ = files_.open(number, size_);
    return error_;
  }
  uint64_t size() const noexcept { return size_; }
  int error() const noexcept { return error_; }

  HeaderState header(SegmentHeader& header) noexcept {
    const uint8_t* source = view(0, segment_header_size);
    if (source == nullptr) { return HeaderState::bad; }
    const HeaderState state = read_segment_header(source, header);
    return state == HeaderState::good && header.number != number_ ? HeaderState::bad : state;
  }

  /// The frame at `offset`; its body is valid until the next call. False: there is none.
  bool frame(uint64_t offset, FrameHeader& header, Bytes& body) noexcept {
    return unchecked(offset, header, body) &&
           frame_crc(body.data() - frame_header_size, header.size, FramePlace{number_, offset}) ==
               header.crc;
  }

  /// Behind the whole unit that begins at `offset` and ends at `limit` at most; 0: there is none.
  uint64_t unit_end(uint64_t offset, uint64_t limit) noexcept {
    FrameHeader header;
    Bytes body;
    for (bool first = true; offset < limit && frame(offset, header, body); first = false) {
      offset += frame_header_size + header.size;
      if (header.begins != first || offset > limit) { return 0; }
      if (header.ends) { return offset; }
    }
    return 0;
  }
  /// The next place from `offset` on where a whole unit begins, or `limit`.
  uint64_t find_unit(uint64_t offset, uint64_t limit) noexcept {
    while (offset < limit) {
      const uint8_t* byte = view(offset, 1);
      if (byte == nullptr) { return limit; }
      const auto span = static_cast<size_t>(loaded_ + loaded_size_ - offset);
      const void* found = memchr(byte, detail::marker[0], span);
      if (found == nullptr) {
        offset += span;
        continue;
      }
      offset += static_cast<uint64_t>(static_cast<const uint8_t*>(found) - byte);
      if (unit_end(offset, limit) != 0) { return offset; }
      offset += 1;
    }
    return limit;
  }

  /// Calls `sink(const JournalRecord&)` for each record of a whole unit.
  template <typename Sink>
  void records(uint64_t offset, uint64_t end, Sink&& sink) noexcept {
    FrameHeader header;
    Bytes body;
    while (offset < end && unchecked(offset, header, body)) {
      RecordReader reader(body);
      JournalRecord record;
      while (reader.next(record)) { sink(record); }
      offset += frame_header_size + header.size;
    }
  }

 private:
  bool unchecked(uint64_t offset, FrameHeader& header, Bytes& body) noexcept {
    const uint8_t* source = view(offset, frame_header_size);
    if (source == nullptr || !read_frame_header(source, header)) { return false; }
    source = view(offset, frame_header_size + header.size);
    if (source == nullptr) { return false; }
    body = Bytes(source + frame_header_size, header.size);
    return true;
  }

  // `size` bytes at `offset`; null when they are not there.
  const uint8_t* view(uint64_t offset, uint32_t size) noexcept {
    if (offset + size > size_ || size > window_.size()) { return nullptr; }
    if (offset < loaded_ || offset + size > loaded_ + loaded_size_) {
      const uint64_t left = size_ - offset;
      const Buffer target(window_.data(),
                          left < window_.size() ? static_cast<uint32_t>(left) : window_.size());
      loaded_ = offset;
      loaded_size_ = 0;
      const int error = files_.read(offset, target);
      if (error != 0) {
        error_ = error;
        return nullptr;
      }
      loaded_size_ = target.size();
    }
    return window_.data() + (offset - loaded_);
  }

  Files& files_;
  Buffer window_;
  uint32_t number_ = 0;
  uint64_t size_ = 0;
  uint64_t loaded_ = 0;  // what the window shows
  uint32_t loaded_size_ = 0;
  int error_ = 0;
};

/// Applies the units of a chain in their order. Nothing on the medium is changed, but for a
/// second name given to a segment of which something is dropped (Files::keep_bad).
template <typename Files>
class Recovery {
 public:
  Recovery(Files& files, Buffer window) noexcept : files_(files), reader_(files, window) {}

  /// `sink` takes `const JournalRecord&` and returns an Error.
  template <typename Sink>
  const Recovered& run(Sink&& sink) noexcept {
    uint32_t number = find_base();
    while (number != 0 && result_.newer_version == 0 && result_.error == 0) {
      const Successor next = successor(number);
      read_segment(number, next, sink);
      number = next.number;
      note_error();
    }
    return result_;
  }

 private:
  struct Successor {
    uint32_t number = 0;  // 0: none
    bool bounds = false;  // `previous_end` is known
    uint64_t previous_end = 0;
  };

  // The newest segment that is complete by itself, else the oldest: what was before it is gone
  // because it was complete.
  uint32_t find_base() noexcept {
    uint32_t base = 0;
    const uint32_t oldest = files_.next_segment(0);
    result_.chain.oldest = oldest;
    for (uint32_t number = oldest; number != 0; number = files_.next_segment(number)) {
      result_.chain.newest = number;
      SegmentHeader header;
      (void)reader_.open(number);
      const HeaderState state = reader_.header(header);
      if (state == HeaderState::newer_version) {
        result_.newer_version = header.version;
        return 0;
      }
      if (number == oldest || is_complete()) { base = number; }
      note_error();
    }
    return base;
  }
  // Units behind a gap do not count: they may never have been synced.
  bool is_complete() noexcept {
    bool complete = false;
    uint64_t offset = segment_header_size;
    while (offset != 0 && !complete) {
      const uint64_t end = reader_.unit_end(offset, reader_.size());
      reader_.records(offset, end, [&complete](const JournalRecord& record) {
        complete = complete || static_cast<uint8_t>(record.type) == type_complete;
      });
      offset = end;
    }
    return complete;
  }

  // The segment that says it goes on where this one was left, else the next whose header is bad.
  Successor successor(uint32_t number) noexcept {
    Successor next;
    for (uint32_t other = files_.next_segment(number); other != 0;
         other = files_.next_segment(other)) {
      SegmentHeader header;
      (void)reader_.open(other);
      if (reader_.header(header) != HeaderState::good) {
        next.number = next.number == 0 ? other : next.number;
      } else if (!header.stands_alone && header.previous == number) {
        return Successor{other, true, header.previous_end};
      }
    }
    return next;
  }

  template <typename Sink>
  void read_segment(uint32_t number, const Successor& next, Sink& sink) noexcept {
    (void)reader_.open(number);
    SegmentHeader header;
    const bool good = reader_.header(header) == HeaderState::good;
    const uint64_t limit =
        next.bounds && next.previous_end < reader_.size() ? next.previous_end : reader_.size();
    const uint64_t units = result_.units;
    uint64_t offset = limit < segment_header_size ? limit : segment_header_size;
    uint64_t end_of_good = offset;
    while (offset < limit) {
      const uint64_t end = reader_.unit_end(offset, limit);
      if (end != 0) {
        apply(offset, end, sink);
        offset = end;
        end_of_good = end;
        continue;
      }
      const uint64_t gap = offset;
      offset = reader_.find_unit(gap + 1, limit);
      note_dropped(number);
      if (offset == limit || !(next.bounds || was_synced(gap, offset, limit))) {
        drop_tail(gap, limit);
        break;
      }
      result_.damages += 1;
      result_.damaged_bytes += offset - gap;
    }
    if (!good && result_.units == units) { return; }  // never came to be
    result_.segments += 1;
    result_.chain.previous = number;
    result_.chain.previous_end = end_of_good;
  }

  template <typename Sink>
  void apply(uint64_t offset, uint64_t end, Sink& sink) noexcept {
    result_.units += 1;
    result_.bytes += end - offset;
    reader_.records(offset, end, [this, &sink](const JournalRecord& record) {
      if (static_cast<uint8_t>(record.type) == type_complete) { return; }
      result_.records += 1;
      const Error error = sink(record);
      if (error != Error::none) {
        result_.refused += 1;
        if (result_.refused == 1) { result_.refusal = error; }
      }
    });
  }

  // Whether a later frame says that the place of the gap was on the medium once.
  bool was_synced(uint64_t gap, uint64_t offset, uint64_t limit) noexcept {
    while (offset < limit) {
      FrameHeader header;
      Bytes body;
      (void)reader_.frame(offset, header, body);
      if (header.back != back_unknown && offset - header.back > gap) { return true; }
      offset = reader_.find_unit(reader_.unit_end(offset, limit), limit);
    }
    return false;
  }
  void drop_tail(uint64_t gap, uint64_t limit) noexcept {
    result_.tail_bytes += limit - gap;
    result_.tail_units += 1;
    for (uint64_t offset = reader_.find_unit(gap + 1, limit); offset < limit;
         offset = reader_.find_unit(reader_.unit_end(offset, limit), limit)) {
      result_.tail_units += 1;
    }
  }
  // What cannot be read is not lost: nobody may go on without it.
  void note_error() noexcept {
    if (result_.error == 0) { result_.error = reader_.error(); }
  }
  void note_dropped(uint32_t number) noexcept {
    if (reader_.error() != 0) { return; }
    if (result_.damaged_segment == 0) { result_.damaged_segment = number; }
    (void)files_.keep_bad(number);
  }

  Files& files_;
  SegmentReader<Files> reader_;
  Recovered result_;
};

}  // namespace journal
}  // namespace mqtt

#endif
