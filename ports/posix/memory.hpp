// ports/posix/memory.hpp — address space reserved once, used by the page
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_MEMORY_HPP
#define MQTT_PORTS_POSIX_MEMORY_HPP

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <mqtt.hpp>

namespace mqtt {
namespace posix {

/// One block of zero-filled pages that cost nothing until they are written. Released at the end.
class Reservation {
 public:
  Reservation() noexcept = default;
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  ~Reservation() { release(); }

  /// Reserves `size` bytes; false, with nothing changed, when the system refuses or when this
  /// holds a block already.
  bool reserve(uint64_t size) noexcept {
    if (data_ != nullptr || size == 0 || size > SIZE_MAX) { return false; }
    void* block = mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) { return false; }
#ifdef MADV_NOHUGEPAGE
    // A table is touched in places; huge pages would make each place cost 2 MiB.
    (void)madvise(block, static_cast<size_t>(size), MADV_NOHUGEPAGE);
#endif
    data_ = static_cast<uint8_t*>(block);
    size_ = size;
    return true;
  }

  void release() noexcept {
    if (data_ != nullptr) {
      munmap(data_, static_cast<size_t>(size_));
      data_ = nullptr;
      size_ = 0;
    }
  }

  uint8_t* data() const noexcept { return data_; }
  uint64_t size() const noexcept { return size_; }

 private:
  uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
};

namespace detail {
/// The number in a file of one line, such as a cgroup's limit; `otherwise` when there is none.
inline uint64_t number_in_file(const char* path, uint64_t otherwise) noexcept {
  const int file = ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) { return otherwise; }
  char text[24];
  const ssize_t size = ::read(file, text, sizeof text);
  ::close(file);
  uint64_t number = 0;
  ssize_t i = 0;
  for (; i < size && text[i] >= '0' && text[i] <= '9'; ++i) {
    number = number * 10 + static_cast<uint64_t>(text[i] - '0');
  }
  return i == 0 ? otherwise : number;
}
}  // namespace detail

/// Bytes of memory this process may use: what the machine has, or its control group's limit if
/// that is less.
inline uint64_t memory_bytes() noexcept {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_size = sysconf(_SC_PAGESIZE);
  uint64_t bytes = uint64_t{256} << 20;
  if (pages > 0 && page_size > 0) {
    bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_size);
  }
  constexpr const char* limits[] = {"/sys/fs/cgroup/memory.max",
                                    "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
  for (const char* path : limits) {
    const uint64_t limit = detail::number_in_file(path, bytes);
    bytes = limit != 0 && limit < bytes ? limit : bytes;
  }
  return bytes;
}

}  // namespace posix
}  // namespace mqtt

#endif
