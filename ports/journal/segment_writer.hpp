// ports/journal/segment_writer.hpp — puts batches of units into segment files and makes them safe
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_JOURNAL_SEGMENT_WRITER_HPP
#define MQTT_PORTS_JOURNAL_SEGMENT_WRITER_HPP

#include <ports/journal/format.hpp>

namespace mqtt {
namespace journal {

/// When units count as safe, so that what they answer may be sent.
enum class Sync : uint8_t {
  always,    ///< on the medium: a power cut loses nothing acknowledged
  interval,  ///< with the system: the end of the process loses nothing; a power cut loses at most
             ///< one interval and the time of one sync
  never      ///< with the system; a power cut loses what the system has not written back
};

/// Whole units of one segment, for the writer. Its bytes stay until the batch is done.
struct Batch {
  uint8_t* data = nullptr;
  uint32_t size = 0;
  uint32_t segment = 0;
  bool creates = false;    ///< begins with the segment's header
  bool completes = false;  ///< once safe, it replaces all segments from `oldest` on
  uint32_t oldest = 0;     ///< number of the oldest segment
  uint32_t abandoned = 0;  ///< a segment that failed, to be removed first; 0: none
};

/// What became of a batch.
enum class Outcome : uint8_t {
  safe,         ///< as Sync says
  not_written,  ///< for want of space, or an error: it may be tried again as it is
  not_synced    ///< unknown what of it, and of what was written before, is on the medium
};

/// Writes batches in their order. `Files` is what ports/posix/journal.hpp documents.
template <typename Files>
class SegmentWriter {
 public:
  void start(Files& files, Sync sync) noexcept {
    files_ = &files;
    sync_ = sync;
  }

  /// May be called again with the same batch after not_written; error() says why.
  Outcome put(const Batch& batch) noexcept {
    if (batch.abandoned != 0) { (void)files_->remove(batch.abandoned); }
    if (batch.creates && !create(batch)) { return outcome_; }
    seal(batch);
    error_ = files_->append(offset_, Bytes(batch.data, batch.size));
    if (error_ != 0) { return Outcome::not_written; }
    offset_ += batch.size;
    bytes_ += batch.size;
    unsynced_ = true;
    if ((sync_ == Sync::always || batch.completes) && !make_safe()) { return Outcome::not_synced; }
    if (batch.completes) { remove_segments(batch.oldest, batch.segment); }
    return Outcome::safe;
  }

  /// Brings everything to the medium; false: error() says why, and nobody knows what is there.
  bool make_safe() noexcept {
    if (!unsynced_) { return true; }
    error_ = files_->sync();
    if (error_ == 0 && directory_changed_) { error_ = files_->sync_directory(); }
    if (error_ != 0) { return false; }
    syncs_ += 1;
    synced_ = offset_;
    unsynced_ = false;
    directory_changed_ = false;
    return true;
  }

  bool unsynced() const noexcept { return unsynced_; }
  int error() const noexcept { return error_; }
  uint64_t bytes() const noexcept { return bytes_; }
  uint64_t syncs() const noexcept { return syncs_; }

 private:
  // The previous segment must be whole before one that follows it can count.
  bool create(const Batch& batch) noexcept {
    outcome_ = Outcome::not_synced;
    SegmentHeader header;
    (void)read_segment_header(batch.data, header);
    if (!header.stands_alone && !make_safe()) { return false; }
    outcome_ = Outcome::not_written;
    error_ = files_->create(batch.segment);
    offset_ = 0;
    synced_ = 0;
    directory_changed_ = true;
    return error_ == 0;
  }

  void seal(const Batch& batch) noexcept {
    uint32_t at = batch.creates ? segment_header_size : 0;
    while (at != batch.size) {
      FrameHeader header;
      (void)read_frame_header(batch.data + at, header);
      seal_frame(batch.data + at, FramePlace{batch.segment, offset_ + at}, synced_);
      at += frame_header_size + header.size;
    }
  }

  // In their order: of a chain, only the beginning may be missing.
  void remove_segments(uint32_t oldest, uint32_t end) noexcept {
    for (uint32_t number = oldest; number != end; ++number) { (void)files_->remove(number); }
    (void)files_->sync_directory();
  }

  Files* files_ = nullptr;
  Sync sync_ = Sync::always;
  Outcome outcome_ = Outcome::safe;
  int error_ = 0;
  uint64_t offset_ = 0;  // in the segment
  uint64_t synced_ = 0;  // up to here it is on the medium
  uint64_t bytes_ = 0;
  uint64_t syncs_ = 0;
  bool unsynced_ = false;
  bool directory_changed_ = false;
};

}  // namespace journal
}  // namespace mqtt

#endif
