// ports/posix/clock.hpp — the clock hook: milliseconds that never go back
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_CLOCK_HPP
#define MQTT_PORTS_POSIX_CLOCK_HPP

#include <time.h>
#include <mqtt.hpp>

namespace mqtt {
namespace posix {

/// The Clock hook of Client and Broker. Counts from boot, so it survives changes of the date.
struct MonotonicClock {
  Millis now_ms() const noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<Millis>(now.tv_sec) * 1000 + static_cast<Millis>(now.tv_nsec) / 1000000;
  }
};

/// How long a call may wait for a deadline of the engine: -1 for ever, else milliseconds. A wait
/// is cut at one day, because the system calls take an int.
constexpr int wait_ms(Millis deadline, Millis now) noexcept {
  constexpr Millis day = 86400000;
  if (deadline == ~Millis{0}) { return -1; }
  if (deadline <= now) { return 0; }
  return static_cast<int>(deadline - now < day ? deadline - now : day);
}

}  // namespace posix
}  // namespace mqtt

#endif
