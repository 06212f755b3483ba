// examples/tools/payload.hpp — what is published: a text, a file read as it is sent, or input
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_PAYLOAD_HPP
#define MQTT_TOOLS_PAYLOAD_HPP

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <mqtt.hpp>
#include <vector>

namespace tools {

/// A payload of known size that can be read from any place: the Source of a ClientEngine. A file
/// stays where it is, so its size is no matter; what cannot be read twice is kept in memory.
class Payload {
 public:
  Payload() = default;
  Payload(const Payload&) = delete;
  Payload& operator=(const Payload&) = delete;
  ~Payload() {
    if (file_ > STDIN_FILENO) { close(file_); }
  }

  uint64_t size() const { return size_; }
  /// The file got shorter while it was sent, or cannot be read any more.
  bool failed() const { return failed_; }

  /// The bytes must last.
  void set(mqtt::Bytes bytes) {
    memory_ = bytes;
    size_ = bytes.size();
  }
  /// 0, or an errno.
  int open_file(const char* path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    return file < 0 ? errno : take(file);
  }
  int read_input() { return take(STDIN_FILENO); }

  mqtt::Bytes piece(uint32_t offset) noexcept {
    if (file_ < 0) { return memory_.skip(offset); }
    const ssize_t got = pread(file_, buffer_, sizeof buffer_, begin_ + static_cast<off_t>(offset));
    if (got <= 0) { failed_ = true; }
    return mqtt::Bytes(buffer_, got > 0 ? static_cast<uint32_t>(got) : 0);
  }

 private:
  int take(int file) {
    struct stat status {};
    if (fstat(file, &status) != 0) { return errno; }
    const off_t begin = S_ISREG(status.st_mode) ? lseek(file, 0, SEEK_CUR) : -1;
    if (begin >= 0) {
      file_ = file;
      begin_ = begin;
      size_ = status.st_size > begin ? static_cast<uint64_t>(status.st_size - begin) : 0;
      return 0;
    }
    const int error = read_all(file);
    if (file != STDIN_FILENO) { close(file); }
    return error;
  }
  int read_all(int file) {
    while (kept_.size() <= mqtt::remaining_length_max) {
      const ssize_t got = read(file, buffer_, sizeof buffer_);
      if (got < 0 && errno == EINTR) { continue; }
      if (got < 0) { return errno; }
      if (got == 0) { break; }
      kept_.insert(kept_.end(), buffer_, buffer_ + got);
    }
    set(mqtt::Bytes(kept_.data(), static_cast<uint32_t>(kept_.size())));
    return 0;
  }

  mqtt::Bytes memory_;
  std::vector<uint8_t> kept_;
  uint64_t size_ = 0;
  int file_ = -1;
  off_t begin_ = 0;
  bool failed_ = false;
  uint8_t buffer_[65536];
};

}  // namespace tools

#endif
