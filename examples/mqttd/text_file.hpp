// examples/mqttd/text_file.hpp — reads the files that people write: whole, line by line
// SPDX-License-Identifier: MIT
#ifndef MQTTD_TEXT_FILE_HPP
#define MQTTD_TEXT_FILE_HPP

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <mqtt.hpp>
#include <ports/posix/memory.hpp>
#include <ports/posix/socket.hpp>

#include "log.hpp"

namespace mqttd {

inline bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

inline char* skip_blanks(char* at) {
  while (is_blank(*at)) { ++at; }
  return at;
}

inline void trim_end(char* text) {
  size_t size = strlen(text);
  while (size != 0 && is_blank(text[size - 1])) { --size; }
  text[size] = 0;
}

/// The first word of a text, ended by a zero, and where the rest begins.
inline char* take_word(char*& text) {
  char* word = skip_blanks(text);
  char* end = word + strcspn(word, " \t\r");
  text = skip_blanks(end);
  *end = 0;
  return word;
}

/// A line of a file, without blanks at its ends.
struct FileLine {
  const char* file = "";
  uint32_t number = 0;
  char* text = nullptr;
};

/// Memory for the bytes of files; they stay where they are as long as it lives.
class TextMemory {
 public:
  static constexpr uint64_t bytes_max = 16 << 20;

  /// Reads a whole file, ended by a zero. None on error, which is logged: `what` names the kind.
  char* load(const char* path, const char* what, Log& log) {
    if (memory_.data() == nullptr && !memory_.reserve(bytes_max)) {
      log.line(log_error, "Error: Out of memory.");
      return nullptr;
    }
    const mqtt::posix::Descriptor file(::open(path, O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!file || fstat(file.get(), &status) != 0) {
      const int error = errno;
      log.line(log_error, "Error: Unable to open %s '%s'.", what, path);
      if (error != ENOENT) { log.line(log_error, "Error: %s.", strerror(error)); }
      return nullptr;
    }
    char* begin = reinterpret_cast<char*>(memory_.data()) + used_;
    const char* problem = S_ISDIR(status.st_mode) ? "is a directory" : nullptr;
    ssize_t got = 1;
    while (problem == nullptr && got > 0) {
      const uint64_t space = bytes_max - used_ - 1;
      got = ::read(file.get(), memory_.data() + used_, static_cast<size_t>(space));
      used_ += got > 0 ? static_cast<uint64_t>(got) : 0;
      problem = got < 0 ? "cannot be read" : space == 0 ? "is too large" : nullptr;
    }
    const char* end = reinterpret_cast<const char*>(memory_.data()) + used_;
    if (problem == nullptr && memchr(begin, 0, static_cast<size_t>(end - begin)) != nullptr) {
      problem = "has a zero byte";
    }
    if (problem != nullptr) {
      char name[80];
      snprintf(name, sizeof name, "%s", what);
      name[0] = static_cast<char>(name[0] & ~0x20);
      log.line(log_error, "Error: %s '%s' %s.", name, path, problem);
      return nullptr;
    }
    memory_.data()[used_] = 0;
    ++used_;
    return begin;
  }

  /// A copy that lives as long as the rest.
  const char* keep(const char* text) {
    const size_t size = strlen(text) + 1;
    if (used_ + size > bytes_max) { return ""; }
    char* copy = reinterpret_cast<char*>(memory_.data()) + used_;
    memcpy(copy, text, size);
    used_ += size;
    return copy;
  }

 private:
  mqtt::posix::Reservation memory_;
  uint64_t used_ = 0;
};

/// The next line of `rest` that is neither empty nor a comment; false at the end.
inline bool next_line(char*& rest, FileLine& line) {
  if (line.number == 0 && strncmp(rest, "\xEF\xBB\xBF", 3) == 0) { rest += 3; }
  while (*rest != 0) {
    char* text = rest;
    rest += strcspn(rest, "\n");
    if (*rest != 0) { *rest++ = 0; }
    ++line.number;
    line.text = skip_blanks(text);
    trim_end(line.text);
    if (*line.text != 0 && *line.text != '#') { return true; }
  }
  return false;
}

/// How many lines a text may have, for the size of tables.
inline uint32_t count_lines(const char* text) {
  uint32_t count = 1;
  for (; *text != 0; ++text) { count += *text == '\n' ? 1U : 0U; }
  return count;
}

/// Logs what is wrong with a line, and where it is.
__attribute__((format(printf, 3, 4))) inline bool fail_at_line(Log& log, const FileLine& line,
                                                               const char* format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  log.line(log_error, "Error: %s", text);
  log.line(log_error, "Error found at %s:%u.", line.file, line.number);
  return false;
}

/// A hash for tables of names that only the administrator writes (FNV-1a).
inline uint32_t hash_of(mqtt::Text name) {
  uint32_t hash = 0x811C9DC5;
  for (uint32_t i = 0; i != name.size(); ++i) {
    hash = (hash ^ static_cast<uint8_t>(name[i])) * 0x01000193;
  }
  return hash;
}

}  // namespace mqttd

#endif
