// ports/posix/poller.hpp — which descriptors are ready: by epoll, or by poll where there is none
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_POLLER_HPP
#define MQTT_PORTS_POSIX_POLLER_HPP

#include <poll.h>
#include <ports/posix/socket.hpp>
#ifdef __linux__
#include <sys/epoll.h>
#endif

namespace mqtt {
namespace posix {

/// What is waited for; bits.
enum Interest : uint8_t { wait_none = 0, wait_read = 1, wait_write = 2 };

/// A descriptor that is ready, by the tag it was added with.
struct Ready {
  uint64_t tag = 0;
  bool readable = false;
  bool writable = false;
  bool broken = false;  ///< error or hang-up; reported whatever was waited for
};

// A poller is a class with these members, level-triggered:
//   static uint64_t bytes(descriptors)       memory to hand to open(), zero-filled
//   bool start(memory, descriptors)          descriptors: one above the largest that can come
//   bool add(descriptor, tag, interest)      false with errno
//   bool change(descriptor, tag, interest)
//   void remove(descriptor)                  before it is closed
//   int wait(timeout_ms)                     how many are ready; < 0 with errno
//   Ready ready(index)                       the index-th of them, valid until the next wait()

#ifdef __linux__
/// Costs nothing for idle descriptors.
class EpollPoller {
 public:
  static constexpr uint64_t bytes(uint32_t) noexcept { return 0; }

  bool start(uint8_t*, uint32_t) noexcept {
    epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
    return static_cast<bool>(epoll_);
  }
  bool add(int descriptor, uint64_t tag, uint8_t interest) noexcept {
    return control(EPOLL_CTL_ADD, descriptor, tag, interest);
  }
  bool change(int descriptor, uint64_t tag, uint8_t interest) noexcept {
    return control(EPOLL_CTL_MOD, descriptor, tag, interest);
  }
  void remove(int) noexcept {}  // closing does it

  int wait(int timeout_ms) noexcept {
    return epoll_wait(epoll_.get(), events_, events_max, timeout_ms);
  }
  Ready ready(uint32_t index) const noexcept {
    const epoll_event& event = events_[index];
    return {event.data.u64, (event.events & EPOLLIN) != 0, (event.events & EPOLLOUT) != 0,
            (event.events & (EPOLLERR | EPOLLHUP)) != 0};
  }

 private:
  static constexpr int events_max = 512;

  bool control(int operation, int descriptor, uint64_t tag, uint8_t interest) noexcept {
    epoll_event event{};
    event.events = ((interest & wait_read) != 0 ? unsigned{EPOLLIN} : 0U) |
                   ((interest & wait_write) != 0 ? unsigned{EPOLLOUT} : 0U);
    event.data.u64 = tag;
    return epoll_ctl(epoll_.get(), operation, descriptor, &event) == 0;
  }

  Descriptor epoll_;
  epoll_event events_[events_max];
};
#endif

/// Works on every POSIX system; each wait costs a step for every descriptor.
class PollPoller {
 public:
  static constexpr uint64_t bytes(uint32_t descriptors) noexcept {
    return uint64_t{descriptors} * (sizeof(uint64_t) + sizeof(pollfd));
  }

  bool start(uint8_t* memory, uint32_t descriptors) noexcept {
    tags_ = reinterpret_cast<uint64_t*>(memory);
    entries_ = reinterpret_cast<pollfd*>(tags_ + descriptors);
    descriptors_max_ = descriptors;
    return true;
  }
  bool add(int descriptor, uint64_t tag, uint8_t interest) noexcept {
    const auto index = static_cast<uint32_t>(descriptor);
    if (index >= descriptors_max_) {
      errno = EMFILE;
      return false;
    }
    for (; count_ <= index; ++count_) { entries_[count_].fd = -1; }
    entries_[index].fd = descriptor;
    return change(descriptor, tag, interest);
  }
  bool change(int descriptor, uint64_t tag, uint8_t interest) noexcept {
    const auto index = static_cast<uint32_t>(descriptor);
    tags_[index] = tag;
    entries_[index].events = static_cast<short>(((interest & wait_read) != 0 ? POLLIN : 0) |
                                                ((interest & wait_write) != 0 ? POLLOUT : 0));
    return true;
  }
  void remove(int descriptor) noexcept {
    entries_[descriptor].fd = -1;
    while (count_ != 0 && entries_[count_ - 1].fd < 0) { --count_; }
  }

  int wait(int timeout_ms) noexcept {
    const int found = poll(entries_, static_cast<nfds_t>(count_), timeout_ms);
    if (found <= 0) { return found; }
    // Begins where the last scan ended, so that with many ready all get their turn.
    ready_count_ = 0;
    for (uint32_t i = 0; i != count_ && ready_count_ != ready_max; ++i) {
      next_ = next_ + 1 < count_ ? next_ + 1 : 0;
      if (entries_[next_].fd >= 0 && entries_[next_].revents != 0) {
        ready_[ready_count_] = next_;
        ++ready_count_;
      }
    }
    return static_cast<int>(ready_count_);
  }
  Ready ready(uint32_t index) const noexcept {
    const pollfd& entry = entries_[ready_[index]];
    return {tags_[ready_[index]], (entry.revents & POLLIN) != 0, (entry.revents & POLLOUT) != 0,
            (entry.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0};
  }

 private:
  static constexpr uint32_t ready_max = 512;

  uint64_t* tags_ = nullptr;
  pollfd* entries_ = nullptr;  // by descriptor; fd < 0: free
  uint32_t descriptors_max_ = 0;
  uint32_t count_ = 0;  // one above the largest in use
  uint32_t next_ = 0;
  uint32_t ready_count_ = 0;
  uint32_t ready_[ready_max];
};

#ifdef __linux__
using DefaultPoller = EpollPoller;
#else
using DefaultPoller = PollPoller;
#endif

}  // namespace posix
}  // namespace mqtt

#endif
