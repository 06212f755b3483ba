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
#include <sys/socket.h>
#include <sys/un.h>
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
enum LogTarget : uint8_t {
  log_nowhere = 0,
  log_to_stderr = 1,
  log_to_stdout = 2,
  log_to_file = 4,
  log_to_syslog = 8,
  log_to_topic = 16
};

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
    if (syslog_ >= 0) { ::close(syslog_); }
  }

  bool wants(LogType type) const { return (types & type) != 0 && targets != log_nowhere; }

  /// Opens the file of log_to_file, at its end; 0, or an errno. Opened again, it is another one
  /// when the first was moved away.
  int open_file(const char* path) {
    const int opened = ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (opened < 0) { return errno; }
    flush();
    if (file_ >= 0) { ::close(file_); }
    file_ = opened;
    return 0;
  }

  /// Opens the system's log; 0, or an errno. `facility`: 0 to 7 for local0 to local7, -1 daemon.
  int open_syslog(int facility, const char* path = "/dev/log") {
    constexpr int daemon_code = 3;
    constexpr int local_code = 16;
    facility_ = 8 * (facility < 0 ? daemon_code : local_code + facility);
    if (syslog_ >= 0) { return 0; }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    syslog_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const auto* any = reinterpret_cast<const sockaddr*>(&address);
    return syslog_ >= 0 && ::connect(syslog_, any, sizeof address) == 0 ? 0 : errno;
  }

  /// One line; at most 999 bytes. Control characters, which only strangers' names have, become
  /// question marks: no name can write a line of its own.
  __attribute__((format(printf, 3, 4))) void line(LogType type, const char* format, ...) {
    if (!wants(type)) { return; }
    char text[1000];
    const size_t begin = write_timestamp(text, sizeof text);
    size_t size = begin;
    va_list arguments;
    va_start(arguments, format);
    const int body = vsnprintf(text + size, sizeof text - size, format, arguments);
    va_end(arguments);
    if (body > 0) { size += static_cast<size_t>(body); }
    size = size < sizeof text - 1 ? size : sizeof text - 1;
    for (size_t i = begin; i != size; ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      text[i] = (byte < 0x20 && byte != '\t') || byte == 0x7F ? '?' : text[i];
    }
    text[size] = 0;
    if ((targets & log_to_syslog) != 0) { send_to_syslog(type, text + begin); }
    if ((targets & log_to_topic) != 0) { keep_for_topic(type, text, size); }
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

  /// Hands out the lines for topics that came since, as `publish(topic, text, size)`; lines that
  /// come of it wait for the next call.
  template <typename Publish>
  void give_to_topics(Publish&& publish) {
    const size_t end = topics_used_;
    for (size_t at = 0; at != end;) {
      uint16_t head[2];
      memcpy(head, topics_ + at, sizeof head);
      publish(topic(static_cast<LogType>(head[0])), topics_ + at + sizeof head, head[1]);
      at += sizeof head + head[1];
    }
    memmove(topics_, topics_ + end, topics_used_ - end);
    topics_used_ -= end;
  }

 private:
  static const char* topic(LogType type) {
    switch (type) {
      case log_error: return "$SYS/broker/log/E";
      case log_warning: return "$SYS/broker/log/W";
      case log_notice: return "$SYS/broker/log/N";
      case log_information: return "$SYS/broker/log/I";
      case log_debug: return "$SYS/broker/log/D";
      case log_subscribe: return "$SYS/broker/log/M/subscribe";
      case log_unsubscribe: return "$SYS/broker/log/M/unsubscribe";
      case log_all:
      case log_default: break;
    }
    return "$SYS/broker/log/I";
  }
  // As syslog.h counts them.
  static int severity(LogType type) {
    switch (type) {
      case log_error: return 3;
      case log_warning: return 4;
      case log_notice:
      case log_subscribe:
      case log_unsubscribe: return 5;
      case log_information: return 6;
      case log_debug:
      case log_all:
      case log_default: break;
    }
    return 7;
  }

  // Debug lines are about messages: published, each would be about itself.
  void keep_for_topic(LogType type, const char* text, size_t size) {
    const uint16_t head[2] = {type, static_cast<uint16_t>(size)};
    if (type == log_debug || topics_used_ + sizeof head + size > sizeof topics_) { return; }
    memcpy(topics_ + topics_used_, head, sizeof head);
    memcpy(topics_ + topics_used_ + sizeof head, text, size);
    topics_used_ += sizeof head + size;
  }

  void send_to_syslog(LogType type, const char* text) const {
    char datagram[1100];
    char when[32];
    const time_t now = time(nullptr);
    tm parts{};
    if (localtime_r(&now, &parts) == nullptr ||
        strftime(when, sizeof when, "%b %e %H:%M:%S", &parts) == 0) {
      return;
    }
    const int size = snprintf(datagram, sizeof datagram, "<%d>%s mqttd[%ld]: %s",
                              facility_ + severity(type), when, static_cast<long>(getpid()), text);
    (void)::send(syslog_, datagram, static_cast<size_t>(size), MSG_DONTWAIT);
  }

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
  int syslog_ = -1;
  int facility_ = 0;
  size_t used_ = 0;
  size_t topics_used_ = 0;
  char lines_[8192];
  char topics_[8192];
};

}  // namespace mqttd

#endif
