// examples/tools/signals.hpp — INT and TERM as something to wait for
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_SIGNALS_HPP
#define MQTT_TOOLS_SIGNALS_HPP

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

namespace tools {

/// From start() on INT and TERM do not end the program: descriptor() can be read instead. One of it
/// in a program.
class Signals {
 public:
  bool start() {
    if (pipe(ends) != 0) { return false; }
    for (const int each : ends) {
      fcntl(each, F_SETFL, O_NONBLOCK);
      fcntl(each, F_SETFD, FD_CLOEXEC);
    }
    struct sigaction action {};
    action.sa_handler = [](int) {
      const int saved = errno;
      static_cast<void>(!write(ends[1], "", 1));
      errno = saved;
    };
    return sigaction(SIGINT, &action, nullptr) == 0 && sigaction(SIGTERM, &action, nullptr) == 0;
  }
  int descriptor() const { return ends[0]; }

 private:
  static inline int ends[2] = {-1, -1};  // of the pipe that the handler writes to
};

}  // namespace tools

#endif
