// A disk in memory for the journal: what is not synced may be lost, torn or reordered by a crash,
// and every call may fail.
#ifndef MQTT_TESTS_SIM_JOURNAL_DISK_HPP
#define MQTT_TESTS_SIM_JOURNAL_DISK_HPP

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ports/journal/recovery.hpp"

namespace sim {

class Dice {
 public:
  explicit Dice(uint32_t seed) : state_(seed * 2654435761U + 1) {}
  uint32_t below(uint32_t count) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return (state_ >> 3) % count;
  }
  bool one_in(uint32_t count) { return below(count) == 0; }

 private:
  uint32_t state_;
};

/// The Files of a journal.
class Disk {
 public:
  struct File {
    std::string seen;  // by who reads it now
    std::string safe;  // after a power cut, at least
    std::vector<std::pair<uint64_t, std::string>> pending;
  };
  using Directory = std::map<uint32_t, std::shared_ptr<File>>;

  Directory seen;
  uint64_t room = ~uint64_t{0};  ///< bytes that still fit
  uint32_t calls = 0xFFFFFFFF;   ///< that change something, before the power goes
  bool syncs_fail = false;
  uint64_t readable = ~uint64_t{0};  ///< bytes of a file
  bool dead = false;
  uint32_t kept_bad = 0;  ///< the segment last kept under another name
  uint64_t written = 0;
  uint32_t syncs = 0;

  explicit Disk(uint32_t seed = 1) : dice_(seed) {}

  // --- reading ---
  uint32_t next_segment(uint32_t after) {
    const auto it = seen.upper_bound(after);
    return it == seen.end() ? 0 : it->first;
  }
  int open(uint32_t number, uint64_t& size) {
    source_ = seen.count(number) != 0 ? seen[number] : nullptr;
    if (source_ == nullptr) { return ENOENT; }
    size = source_->seen.size();
    return 0;
  }
  int read(uint64_t offset, mqtt::Buffer target) {
    if (offset + target.size() > readable) { return EIO; }
    memcpy(target.data(), source_->seen.data() + offset, target.size());
    return 0;
  }
  int keep_bad(uint32_t number) {
    kept_bad = number;
    return 0;
  }

  // --- writing ---
  int create(uint32_t number) {
    if (!alive()) { return EIO; }
    target_ = std::make_shared<File>();
    set(number, target_);
    return 0;
  }
  int append(uint64_t offset, mqtt::Bytes bytes) {
    if (!alive()) { return EIO; }
    const auto fits = static_cast<size_t>(std::min<uint64_t>(bytes.size(), room));
    const std::string piece(reinterpret_cast<const char*>(bytes.data()), fits);
    put(target_->seen, offset, piece);
    target_->pending.emplace_back(offset, piece);
    written += fits;
    room -= room == ~uint64_t{0} ? 0 : fits;
    return fits == bytes.size() ? 0 : ENOSPC;
  }
  int sync() {
    if (!alive()) { return EIO; }
    if (syncs_fail) {  // the system forgets what it could not write
      power_cut(*target_);
      target_->pending.clear();
      return EIO;
    }
    target_->safe = target_->seen;
    target_->pending.clear();
    syncs += 1;
    return 0;
  }
  int sync_directory() {
    if (!alive()) { return EIO; }
    safe_ = seen;
    changes_.clear();
    return 0;
  }
  int remove(uint32_t number) {
    if (!alive()) { return EIO; }
    if (seen.count(number) == 0) { return ENOENT; }
    if (room != ~uint64_t{0}) { room += seen[number]->seen.size(); }
    set(number, nullptr);
    return 0;
  }

  /// The process ends; with a power cut what was not synced is as it happens to be.
  void crash(bool power) {
    if (power) {
      const uint32_t count = dice_.below(static_cast<uint32_t>(changes_.size()) + 1);
      for (uint32_t i = 0; i != count; ++i) { apply(safe_, changes_[i]); }
      seen = safe_;
      for (auto& it : seen) { power_cut(*it.second); }
    }
    for (auto& it : seen) {
      it.second->safe = it.second->seen;
      it.second->pending.clear();
    }
    safe_ = seen;
    changes_.clear();
    target_ = nullptr;
    source_ = nullptr;
    dead = false;
    calls = 0xFFFFFFFF;
    room = ~uint64_t{0};
    syncs_fail = false;
  }

  uint64_t size() const {
    uint64_t total = 0;
    for (const auto& it : seen) { total += it.second->seen.size(); }
    return total;
  }

 private:
  using Change = std::pair<uint32_t, std::shared_ptr<File>>;

  bool alive() {
    if (calls != 0xFFFFFFFF && calls-- == 0) { dead = true; }
    if (dead) { calls = 0; }
    return !dead;
  }
  static void apply(Directory& directory, const Change& change) {
    if (change.second == nullptr) {
      directory.erase(change.first);
    } else {
      directory[change.first] = change.second;
    }
  }
  void set(uint32_t number, const std::shared_ptr<File>& file) {
    changes_.emplace_back(number, file);
    apply(seen, changes_.back());
  }
  static void put(std::string& content, uint64_t offset, const std::string& piece) {
    const auto at = static_cast<size_t>(offset);
    if (content.size() < at + piece.size()) { content.resize(at + piece.size()); }
    content.replace(at, piece.size(), piece);
  }
  // Writes reach the medium by the sector, in any order or not at all; a sector that did not may
  // hold anything if the file has grown over it.
  void power_cut(File& file) {
    constexpr size_t sector = 64;
    std::string content = file.safe;
    const uint32_t mood = dice_.below(4);  // all, none, each sector by chance, a torn end
    const auto torn = static_cast<uint32_t>(dice_.below(4096));
    uint64_t at = 0;
    for (const auto& write : file.pending) {
      for (size_t i = 0; i < write.second.size(); i += sector) {
        const std::string piece = write.second.substr(i, sector);
        const bool lost = mood == 1 || (mood == 2 && dice_.one_in(3)) || (mood == 3 && at > torn);
        if (!lost) { put(content, write.first + i, piece); }
        if (lost && dice_.one_in(8) && write.first + i >= file.safe.size()) {
          put(content, write.first + i, std::string(piece.size(), static_cast<char>(at)));
        }
        at += piece.size();
      }
    }
    file.seen = content;
    file.safe = content;
  }

  Dice dice_;
  Directory safe_;
  std::vector<Change> changes_;  // of the directory, not synced
  std::shared_ptr<File> source_;
  std::shared_ptr<File> target_;
};

/// The Worker of a journal::Log that works when the test says so.
class DiskWorker {
 public:
  uint32_t wall = 1700000000;

  void start(Disk& disk, mqtt::journal::Sync sync) { writer_.start(disk, sync); }
  /// One attempt at the batch, if there is one.
  void work() {
    if (!given_) { return; }
    outcome_ = writer_.put(batch_);
    failing_ = outcome_ != mqtt::journal::Outcome::safe;
    given_ = outcome_ == mqtt::journal::Outcome::not_written;
  }
  bool make_safe() { return writer_.make_safe(); }

  bool idle() const { return !outstanding_; }
  void give(const mqtt::journal::Batch& batch) {
    batch_ = batch;
    given_ = true;
    outstanding_ = true;
    batches += 1;
  }
  bool take(mqtt::journal::Outcome& outcome) {
    if (!outstanding_ || given_) { return false; }
    outcome = outcome_;
    outstanding_ = false;
    return true;
  }
  bool failing() const { return failing_; }
  uint32_t wall_clock_s() const { return wall; }

  uint64_t batches = 0;

 private:
  mqtt::journal::SegmentWriter<Disk> writer_;
  mqtt::journal::Batch batch_;
  mqtt::journal::Outcome outcome_ = mqtt::journal::Outcome::safe;
  bool given_ = false;
  bool outstanding_ = false;
  bool failing_ = false;
};

}  // namespace sim

#endif  // MQTT_TESTS_SIM_JOURNAL_DISK_HPP
