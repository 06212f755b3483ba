// Bytes that end, or begin, at a page nobody may touch: reading past them is a fault.
#ifndef MQTT_TESTS_GUARD_HPP
#define MQTT_TESTS_GUARD_HPP

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "mqtt.hpp"

class Guard {
 public:
  explicit Guard(uint32_t size_max) noexcept {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    usable_ = (size_max + page - 1) / page * page;
    mapped_ = usable_ + 2 * page;
    void* const memory = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) { abort(); }
    base_ = static_cast<uint8_t*>(memory);
    begin_ = base_ + page;
    if (mprotect(begin_, usable_, PROT_READ | PROT_WRITE) != 0) { abort(); }
  }
  ~Guard() { munmap(base_, mapped_); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  /// `size` writable bytes, the guard page right behind them.
  mqtt::Buffer flush_end(uint32_t size) const noexcept {
    return mqtt::Buffer(begin_ + (usable_ - size), size);
  }
  /// A copy of the bytes, the guard page right behind it.
  mqtt::Bytes at_end(mqtt::Bytes bytes) const noexcept {
    const mqtt::Buffer target = flush_end(bytes.size());
    mqtt::detail::copy(target.data(), bytes.data(), bytes.size());
    return target;
  }

 private:
  uint8_t* base_ = nullptr;
  uint8_t* begin_ = nullptr;
  size_t usable_ = 0;
  size_t mapped_ = 0;
};

#endif  // MQTT_TESTS_GUARD_HPP
