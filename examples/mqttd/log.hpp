// examples/mqttd/log.hpp — log lines as Mosquitto writes them
// SPDX-License-Identifier: MIT
#ifndef MQTTD_LOG_HPP
#define MQTTD_LOG_HPP

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

namespace mqttd {

/// Kinds of lines; bits of Log::types.
enum LogType : uint16_t {
  log_error = 1,
  log_warning = 2,
  log_notice = 4,
  log_information = 8,
  log_debug = 16,
  log_subscribe = 32,
  log_unsubscribe = 64,
  log_all = 0xFFFF,
  log_default = log_error | log_warning | log_notice | log_information
};

/// Where lines go; bits of Log::targets.
enum LogTarget : uint8_t { log_nowhere = 0, log_to_stderr = 1, log_to_stdout = 2, log_to_file = 4 };

/// Collects the lines of a turn and writes them with one system call. Allocates nothing.
class Log {
 public:
  uint16_t types = log_default;
  uint8_t targets = log_to_stderr;
  bool timestamp = true;
  const char* timestamp_format = nullptr;  ///< of strftime; none: seconds since 1970

  Log() = default;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  ~Log() {
    flush();
    if (file_ >= 0) { ::close(file_); }
  }

  bool wants(LogType type) const { return (types & type) != 0 && targets != log_nowhere; }

  /// Opens the file of log_to_file, at its end; 0, or an errno.
  int open_file(const char* path) {
    file_ = ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    return file_ < 0 ? errno : 0;
  }

  /// One line; without type it is always written. At most 999 bytes.
  __attribute__((format(printf, 3, 4))) void line(LogType type, const char* format, ...) {
    if (!wants(type)) { return; }
    char text[1000];
    size_t size = write_timestamp(text, sizeof text);
    va_list arguments;
    va_start(arguments, format);
    const int body = vsnprintf(text + size, sizeof text - size, format, arguments);
    va_end(arguments);
    if (body > 0) { size += static_cast<size_t>(body); }
    size = size < sizeof text - 1 ? size : sizeof text - 1;
    text[size] = '\n';
    if (used_ + size + 1 > sizeof lines_) { flush(); }
    memcpy(lines_ + used_, text, size + 1);
    used_ += size + 1;
  }

  /// Writes what was collected. A target that takes no bytes loses them.
  void flush() {
    if (used_ == 0) { return; }
    write_to((targets & log_to_stderr) != 0 ? STDERR_FILENO : -1);
    write_to((targets & log_to_stdout) != 0 ? STDOUT_FILENO : -1);
    write_to((targets & log_to_file) != 0 ? file_ : -1);
    used_ = 0;
  }

 private:
  size_t write_timestamp(char* target, size_t size) const {
    if (!timestamp) { return 0; }
    const time_t now = time(nullptr);
    tm parts{};
    size_t written = 0;
    if (timestamp_format != nullptr && localtime_r(&now, &parts) != nullptr) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
      written = strftime(target, size / 2, timestamp_format, &parts);
#pragma GCC diagnostic pop
    } else {
      const int digits = snprintf(target, size, "%lld", static_cast<long long>(now));
      written = static_cast<size_t>(digits);
    }
    target[written] = ':';
    target[written + 1] = ' ';
    return written + 2;
  }

  void write_to(int descriptor) const {
    size_t done = 0;
    while (descriptor >= 0 && done < used_) {
      const ssize_t written = ::write(descriptor, lines_ + done, used_ - done);
      if (written < 0 && errno != EINTR) { return; }
      done += written > 0 ? static_cast<size_t>(written) : 0;
    }
  }

  int file_ = -1;
  size_t used_ = 0;
  char lines_[8192];
};

}  // namespace mqttd

#endif
