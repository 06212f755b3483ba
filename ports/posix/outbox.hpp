// ports/posix/outbox.hpp — a client's unacknowledged packets in a file
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_OUTBOX_HPP
#define MQTT_PORTS_POSIX_OUTBOX_HPP

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <ports/journal/outbox.hpp>
#include <ports/posix/socket.hpp>

namespace mqtt {
namespace posix {

/// The Medium of an Outbox in one file of fixed size. A file system that fails makes keep() say
/// no; nothing else stops.
class FileMedium {
 public:
  static constexpr bool rewritable = true;

  /// A packet must be smaller than an eighth of `bytes`, less 100. 0 or an errno; EWOULDBLOCK when
  /// another process uses the file.
  int open(const char* path, uint32_t bytes = 1 << 20) noexcept {
    file_.reset(::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file_ || flock(file_.get(), LOCK_EX | LOCK_NB) != 0) { return errno; }
    block_bytes_ = (bytes / block_count() + 511) / 512 * 512;
    block_bytes_ = block_bytes_ < 512 ? 512 : block_bytes_;
    return 0;
  }

  uint32_t block_bytes() const noexcept { return block_bytes_; }
  static uint32_t block_count() noexcept { return 8; }
  static uint32_t program_bytes() noexcept { return 1; }
  bool read(uint32_t address, Buffer target) noexcept {
    uint32_t at = 0;
    while (at != target.size()) {
      const ssize_t got = pread(file_.get(), target.data() + at, target.size() - at,
                                static_cast<off_t>(address + at));
      if (got < 0 && errno == EINTR) { continue; }
      if (got < 0) { return false; }
      if (got == 0) { break; }
      at += static_cast<uint32_t>(got);
    }
    memset(target.data() + at, 0xFF, target.size() - at);  // behind the end
    return true;
  }
  bool program(uint32_t address, Bytes bytes) noexcept {
    uint32_t at = 0;
    while (at != bytes.size()) {
      const ssize_t taken = pwrite(file_.get(), bytes.data() + at, bytes.size() - at,
                                   static_cast<off_t>(address + at));
      if (taken < 0 && errno == EINTR) { continue; }
      if (taken <= 0) { return false; }
      at += static_cast<uint32_t>(taken);
    }
    return true;
  }
  /// A new block's number makes what it held unreadable.
  static bool erase(uint32_t /*block*/) noexcept { return true; }
  bool sync() noexcept {
#ifdef F_FULLFSYNC
    return fcntl(file_.get(), F_FULLFSYNC) != -1;
#else
    return fdatasync(file_.get()) == 0;
#endif
  }

 private:
  Descriptor file_;
  uint32_t block_bytes_ = 0;
};

/// The Store hook of a client in a file: what publish() took outlives the process and a power cut.
/// At most `entries_max` packets at a time.
template <uint16_t entries_max = 64>
class FileOutbox : public journal::Outbox<FileMedium, entries_max> {
 public:
  /// Opens the file, which need not exist, and gives `client`, before its start(), what it holds.
  /// `scratch` must hold the largest packet. 0 or an errno; EWOULDBLOCK when another process uses
  /// the file.
  template <typename Engine>
  int open(const char* path, Engine& client, Buffer scratch) noexcept {
    const int error = this->medium().open(path);
    if (error != 0) { return error; }
    const auto restore = [&client](uint32_t key, Bytes packet) {
      return client.restore(key, packet);
    };
    return this->start() && this->load(scratch, restore) ? 0 : EIO;
  }
};

}  // namespace posix
}  // namespace mqtt

#endif
