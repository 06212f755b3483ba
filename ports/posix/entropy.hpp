// ports/posix/entropy.hpp — unpredictable bytes: the Random hook of WebSocketTransport
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_ENTROPY_HPP
#define MQTT_PORTS_POSIX_ENTROPY_HPP

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

#include <stdint.h>

namespace mqtt {
namespace posix {

/// Asks the system for 256 bytes at a time: a mask of four bytes need not cost a system call.
class Entropy {
 public:
  void fill(uint8_t* target, uint32_t size) noexcept {
    while (size != 0) {
      if (used_ == sizeof pool_) { refill(); }
      const auto left = static_cast<uint32_t>(sizeof pool_ - used_);
      const uint32_t count = size < left ? size : left;
      memcpy(target, pool_ + used_, count);
      used_ += count;
      target += count;
      size -= count;
    }
  }

 private:
  // Systems that have no random bytes to give are not run on.
  void refill() noexcept {
    if (getentropy(pool_, sizeof pool_) != 0) { abort(); }
    used_ = 0;
  }

  uint8_t pool_[256];
  uint32_t used_ = sizeof pool_;
};

}  // namespace posix
}  // namespace mqtt

#endif
