// examples/mqttd/journal.hpp — persistence: the journal as the configuration asks for it, its log
// lines, and --dump-journal
// SPDX-License-Identifier: MIT
#ifndef MQTTD_JOURNAL_HPP
#define MQTTD_JOURNAL_HPP

#include <ports/journal/dump.hpp>
#include <ports/posix/journal.hpp>

#include "log.hpp"
#include "options.hpp"

namespace mqttd {

/// `persistence_sync always | interval MS | never`: what an acknowledgement promises.
struct SyncChoice {
  mqtt::journal::Sync sync = mqtt::journal::Sync::always;
  uint32_t interval_ms = 0;
};

/// Reads the value of persistence_sync; false: it is none.
inline bool read_sync(const char* value, SyncChoice& choice) {
  if (strcmp(value, "always") == 0 || strcmp(value, "never") == 0) {
    const bool always = value[0] == 'a';
    choice = {always ? mqtt::journal::Sync::always : mqtt::journal::Sync::never, 0};
    return true;
  }
  constexpr char word[] = "interval ";
  if (strncmp(value, word, sizeof word - 1) != 0) { return false; }
  const char* digits = value + strspn(value + sizeof word - 1, " \t") + sizeof word - 1;
  char* end = nullptr;
  const unsigned long number = strtoul(digits, &end, 10);
  if (*digits < '0' || *digits > '9' || *end != 0 || number == 0 || number > 3600000) {
    return false;
  }
  choice = {mqtt::journal::Sync::interval, static_cast<uint32_t>(number)};
  return true;
}

/// The broker's journal. Every change is written as it happens, so autosave_interval and
/// autosave_on_changes have nothing left to do; save() makes the files as small as they can be.
///
/// open(), recover() with the engine, then start() once the program is in the background; of the
/// loop on_notice() and on_turn(); stop() at the end. Without `persistence` all of them do nothing.
class Persistence {
 public:
  mqtt::posix::FileJournal& journal() { return journal_; }
  bool is_on() const { return journal_.is_on(); }

  /// 0, or the program's exit status.
  int open(const PersistenceOptions& options, SyncChoice sync, const mqtt::BrokerLimits& limits,
           Log& log) {
    log_ = &log;
    if (!options.on) { return 0; }
    const char* location = options.location == nullptr ? "" : options.location;
    const size_t length = strlen(location);
    const bool slash = length != 0 && location[length - 1] != '/';
    const int size = snprintf(path_, sizeof path_, "%s%s%s", location, slash ? "/" : "",
                              options.file == nullptr ? "mosquitto.db" : options.file);
    if (size < 0 || static_cast<size_t>(size) >= sizeof path_) { return fail(ENAMETOOLONG); }
    if (is_mosquitto_database()) {
      log.line(log_warning, "Warning: %s is a Mosquitto database: not imported, not touched.",
               path_);
    }
    mqtt::posix::JournalOptions journal;
    journal.path = path_;
    journal.sync = sync.sync;
    journal.interval_ms = sync.interval_ms;
    // A half takes what one turn can change and the largest message twice.
    const uint64_t half = (uint64_t{32} << 20) + 2 * uint64_t{limits.packet_bytes_max};
    journal.buffer_bytes = 2 * half < 0xFFFF0000 ? 2 * half : 0xFFFF0000;
    const int error = journal_.open(journal);
    opened_ = error == 0;
    return opened_ ? 0 : fail(error);
  }

  /// Brings the engine to where it was: after its start(). 0, or the exit status.
  template <typename Engine>
  int recover(Engine& engine, mqtt::Millis now) {
    if (!opened_) { return 0; }
    const mqtt::journal::Recovered& found = journal_.recover(engine, now);
    if (found.newer_version != 0) {
      log_->line(log_error,
                 "Error: journal %s has format %u, this program knows %u: nothing was changed.",
                 path_, found.newer_version, mqtt::journal::format_version);
    } else if (found.error != 0) {
      return fail(found.error);
    } else if (found.refused != 0) {
      log_->line(log_error,
                 "Error: %llu records of journal %s have no room: nothing was changed. Raise "
                 "memory_limit, max_queued_messages or what else was lowered.",
                 number(found.refused), path_);
    }
    if (!journal_.is_on()) { return 1; }
    tell_losses(found);
    if (found.records != 0) {
      log_->line(log_notice, "Restored %llu records from journal %s (%u segments).",
                 number(found.records), path_, found.segments);
    }
    return 0;
  }

  /// Starts the journal's thread. `loop` outlives this. 0, or the exit status.
  template <typename Engine, typename Loop>
  int start(Engine& engine, Loop& loop, uint8_t notice) {
    if (!is_on()) { return 0; }
    static uint8_t with = 0;
    with = notice;
    const mqtt::posix::Waker waker{[](void* woken) { static_cast<Loop*>(woken)->notify(with); },
                                   &loop};
    const int error = journal_.start(engine, waker);
    return error == 0 ? 0 : fail(error);
  }

  /// The notice came: answers that waited may go out in this turn.
  template <typename Engine>
  void on_notice(Engine& engine) {
    journal_.collect(engine);
    const int error = journal_.worker().error();
    if (error == told_) { return; }
    if (error != 0) {
      log_->line(log_error,
                 "Error: journal %s: %s. QoS 1 and 2 messages are not taken until it works again.",
                 path_, strerror(error));
    } else {
      log_->line(log_notice, "Journal %s is being written again.", path_);
    }
    told_ = error;
  }
  template <typename Engine>
  void on_turn(Engine& engine) {
    journal_.end_turn(engine);
  }

  /// SIGUSR1: leaves out of the files what is no longer needed, in the background.
  void save() { journal_.compact(); }

  /// After the loop's stop(); false when something could not be written in time.
  template <typename Engine>
  bool stop(Engine& engine) {
    constexpr uint32_t wait_ms = 8000;  // of the ten seconds a program has to end
    if (!is_on() || journal_.stop(engine, wait_ms)) { return true; }
    log_->line(log_error, "Error: journal %s: the last changes could not be written: %s.", path_,
               strerror(journal_.worker().error()));
    return false;
  }

 private:
  static unsigned long long number(uint64_t value) { return value; }

  int fail(int error) {
    log_->line(log_error, "Error: journal %s: %s.", path_,
               error == EWOULDBLOCK ? "in use by another process" : strerror(error));
    return 1;
  }
  void tell_losses(const mqtt::journal::Recovered& found) {
    if (found.damages != 0) {
      log_->line(log_error,
                 "Error: journal %s: %u damaged places, %llu bytes skipped; kept as %s.bad.", path_,
                 found.damages, number(found.damaged_bytes), path_);
    }
    if (found.tail_bytes != 0) {
      log_->line(log_warning,
                 "Warning: journal %s: %llu bytes at the end (%llu turns, never acknowledged) "
                 "dropped; kept as %s.bad.",
                 path_, number(found.tail_bytes), number(found.tail_units), path_);
    }
  }
  bool is_mosquitto_database() const {
    uint8_t begin[15] = {};
    const mqtt::posix::Descriptor file(::open(path_, O_RDONLY | O_CLOEXEC));
    return file && ::read(file.get(), begin, sizeof begin) == sizeof begin &&
           memcmp(begin + 3, "mosquitto db", 12) == 0;
  }

  mqtt::posix::FileJournal journal_;
  Log* log_ = nullptr;
  int told_ = 0;  // the last error that was logged
  bool opened_ = false;
  char path_[PATH_MAX] = {};
};

namespace detail {
// The Files of one file, whatever its name: a segment, or PATH.bad.
class OneFile {
 public:
  explicit OneFile(const char* path) : file_(::open(path, O_RDONLY | O_CLOEXEC)) {}

  int open(uint32_t /*number*/, uint64_t& size) noexcept {
    struct stat state {};
    if (!file_ || fstat(file_.get(), &state) != 0) { return errno; }
    size = static_cast<uint64_t>(state.st_size);
    return S_ISREG(state.st_mode) ? 0 : EINVAL;
  }
  int read(uint64_t offset, mqtt::Buffer target) noexcept {
    const ssize_t got =
        pread(file_.get(), target.data(), target.size(), static_cast<off_t>(offset));
    return got == static_cast<ssize_t>(target.size()) ? 0 : EIO;
  }
  // As the header says, else as the name ends.
  uint32_t number(const char* path) noexcept {
    uint8_t bytes[mqtt::journal::segment_header_size];
    mqtt::journal::SegmentHeader header;
    const bool good =
        read(0, mqtt::Buffer(bytes)) == 0 &&
        mqtt::journal::read_segment_header(bytes, header) == mqtt::journal::HeaderState::good;
    const char* dot = strrchr(path, '.');
    return good ? header.number
                : static_cast<uint32_t>(dot == nullptr ? 0 : strtoul(dot + 1, nullptr, 10));
  }

 private:
  mqtt::posix::Descriptor file_;
};

template <typename Files>
bool dump_segment(Files& files, uint32_t number, mqtt::Buffer window) {
  mqtt::journal::SegmentReader<Files> reader(files, window);
  return mqtt::journal::print_segment(stdout, reader, number);
}
}  // namespace detail

/// `mqttd --dump-journal FILE`: one segment, or all of the journal that FILE.000001 and so on are.
/// Reads only, also while a broker writes. Returns the exit status.
inline int dump_journal(const char* path) {
  mqtt::posix::Reservation memory;
  constexpr uint32_t window_bytes = 1 << 20;
  if (!memory.reserve(window_bytes)) { return 1; }
  const mqtt::Buffer window(memory.data(), window_bytes);
  struct stat state {};
  if (stat(path, &state) == 0 && S_ISREG(state.st_mode)) {
    detail::OneFile file(path);
    return detail::dump_segment(file, file.number(path), window) ? 0 : 1;
  }
  mqtt::posix::JournalFiles files;
  uint32_t number = files.open_chain(path) == 0 ? files.next_segment(0) : 0;
  if (number == 0) {
    fprintf(stderr, "Error: there is no journal %s.\n", path);
    return 1;
  }
  bool good = true;
  for (; number != 0; number = files.next_segment(number)) {
    good = detail::dump_segment(files, number, window) && good;
  }
  return good ? 0 : 1;
}

}  // namespace mqttd

#endif
