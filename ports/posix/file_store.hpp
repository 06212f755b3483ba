// ports/posix/file_store.hpp — keeps a client's outbox in a file, so that it outlives the process
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_FILE_STORE_HPP
#define MQTT_PORTS_POSIX_FILE_STORE_HPP

#include <stdio.h>
#include <sys/uio.h>
#include <ports/posix/socket.hpp>

#include <vector>

namespace mqtt {
namespace posix {

/// The Store hook of ClientConfig: a log of what was kept and dropped. A record is its length, key,
/// packet and checksum; one without a packet of its own (length `dropped`) takes a key away. What a
/// crash cut off at the end is ignored. The file shrinks when the outbox is empty and when opened.
///
/// Memory is taken by open() alone. With `sync` a message is on the disk before publish() returns,
/// and so outlives a power cut; without, it outlives the process.
class FileStore {
 public:
  /// Reads the file, which need not exist, and gives `client` what it holds: before its start().
  /// 0 or an errno.
  template <typename Engine>
  int open(const char* path, Engine& client, bool sync) noexcept {
    sync_ = sync;
    file_.reset(::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file_) { return errno; }
    std::vector<Entry> entries;
    std::vector<uint8_t> bytes;
    kept_.assign(keys, false);
    live_ = 0;
    if (!read_all(bytes)) { return errno; }
    collect(bytes, entries);
    // The live ones go to a file of their own, which then takes the place of the old one.
    char fresh[4096];
    const int size = snprintf(fresh, sizeof fresh, "%s.new", path);
    if (size < 0 || size >= static_cast<int>(sizeof fresh)) { return ENAMETOOLONG; }
    file_.reset(::open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file_) { return errno; }
    for (const Entry& entry : entries) {
      const Bytes packet(bytes.data() + entry.at, entry.size);
      if (!client.restore(entry.key, packet) || !append(entry.key, entry.size, packet)) {
        return ENOSPC;
      }
    }
    return fsync(file_.get()) == 0 && rename(fresh, path) == 0 ? 0 : errno;
  }

  bool keep(uint32_t key, Bytes packet) noexcept {
    if (!file_) { return true; }
    return append(key, packet.size(), packet) && (!sync_ || fdatasync(file_.get()) == 0);
  }
  void drop(uint32_t key) noexcept {
    if (!file_ || !kept_[key]) { return; }
    append(key, dropped, Bytes());
    if (live_ == 0 && ftruncate(file_.get(), 0) == 0) { lseek(file_.get(), 0, SEEK_SET); }
  }

 private:
  static constexpr uint32_t dropped = 0xFFFFFFFF;
  static constexpr uint32_t head_bytes = 8;
  static constexpr uint32_t keys = 0x20000;  // packet ids, each way
  struct Entry {
    uint32_t key;
    uint32_t size;
    size_t at;
  };

  static uint32_t load(const uint8_t* at) noexcept {
    return (uint32_t{at[0]} << 24) | (uint32_t{at[1]} << 16) | (uint32_t{at[2]} << 8) | at[3];
  }
  static void store(uint8_t* at, uint32_t value) noexcept {
    for (int i = 0; i < 4; ++i) { at[i] = static_cast<uint8_t>(value >> (24 - 8 * i)); }
  }
  // FNV-1a.
  static uint32_t checksum(uint32_t sum, Bytes bytes) noexcept {
    for (const uint8_t byte : bytes) { sum = (sum ^ byte) * 16777619U; }
    return sum;
  }

  bool append(uint32_t key, uint32_t length, Bytes packet) noexcept {
    uint8_t head[head_bytes];
    uint8_t tail[4];
    store(head, length);
    store(head + 4, key);
    store(tail, checksum(checksum(2166136261U, Bytes(head)), packet));
    iovec pieces[3] = {{head, sizeof head},
                       {const_cast<uint8_t*>(packet.data()), packet.size()},
                       {tail, sizeof tail}};
    const off_t before = lseek(file_.get(), 0, SEEK_CUR);
    const ssize_t wanted = static_cast<ssize_t>(sizeof head + packet.size() + sizeof tail);
    if (writev(file_.get(), pieces, 3) == wanted) {
      const bool lives = length != dropped;
      live_ = live_ - (kept_[key] ? 1U : 0U) + (lives ? 1U : 0U);
      kept_[key] = lives;
      return true;
    }
    // A record cut off would hide all that follow.
    if (ftruncate(file_.get(), before) == 0) { lseek(file_.get(), before, SEEK_SET); }
    return false;
  }

  bool read_all(std::vector<uint8_t>& bytes) noexcept {
    uint8_t piece[65536];
    ssize_t got;
    while ((got = ::read(file_.get(), piece, sizeof piece)) > 0) {
      bytes.insert(bytes.end(), piece, piece + got);
    }
    return got == 0;
  }
  static void collect(const std::vector<uint8_t>& bytes, std::vector<Entry>& entries) noexcept {
    size_t at = 0;
    while (bytes.size() - at >= head_bytes + 4) {
      const uint32_t length = load(bytes.data() + at);
      const uint32_t size = length == dropped ? 0 : length;
      if (bytes.size() - at - head_bytes - 4 < size) { return; }
      const Bytes checked(bytes.data() + at, head_bytes + size);
      const uint32_t key = load(bytes.data() + at + 4);
      if (checksum(2166136261U, checked) != load(checked.end()) || key >= keys) { return; }
      apply({key, size, at + head_bytes}, length == dropped, entries);
      at += head_bytes + size + 4;
    }
  }
  static void apply(const Entry& entry, bool drops, std::vector<Entry>& entries) noexcept {
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].key != entry.key) { continue; }
      if (drops) {
        entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        entries[i] = entry;
      }
      return;
    }
    if (!drops) { entries.push_back(entry); }
  }

  Descriptor file_;
  std::vector<bool> kept_;
  uint32_t live_ = 0;
  bool sync_ = false;
};

}  // namespace posix
}  // namespace mqtt

#endif
