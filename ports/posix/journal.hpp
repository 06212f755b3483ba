// ports/posix/journal.hpp — the broker's journal in files, synced by a thread of its own
// SPDX-License-Identifier: MIT
//
//     struct Config : mqtt::BrokerConfig { using Journal = mqtt::posix::FileJournal; };
//
//     FileJournal journal;
//     journal.open(options);               0, or an errno: the lock, the directory, memory
//     engine.start(...);
//     journal.recover(engine, now);        what was found; end unless is_on()
//     journal.start(engine, waker);        the thread: after the program became a daemon
//     ...
//     in on_notice(the waker's byte)       journal.collect(engine)
//     in on_turn()                         journal.end_turn(engine)
//     ...
//     journal.stop(engine, 10000)          after the loop's stop()
//
// Before glibc 2.34 programs are linked with -pthread.
#ifndef MQTT_PORTS_POSIX_JOURNAL_HPP
#define MQTT_PORTS_POSIX_JOURNAL_HPP

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <ports/journal/recovery.hpp>
#include <ports/posix/clock.hpp>
#include <ports/posix/memory.hpp>
#include <ports/posix/socket.hpp>

namespace mqtt {
namespace posix {

/// The files of a journal: PATH.000001 and so on, PATH.lock, PATH.bad. What a journal asks of
/// any file system; all return 0 or an errno.
///
///     next_segment(after)         the lowest number above, 0 when there is none
///     open(number, size)          for reading; read(offset, target) fills the whole target
///     keep_bad(number)            the segment stays under another name, even when it is removed
///     create(number)              for writing, empty; append(offset, bytes) all or an error, and
///                                 may be repeated; sync() makes what was appended safe
///     remove(number), sync_directory()
class JournalFiles {
 public:
  JournalFiles() noexcept = default;

  /// Opens the directory.
  int open_chain(const char* path) noexcept {
    const char* slash = strrchr(path, '/');
    const char* name = slash == nullptr ? path : slash + 1;
    const auto length = static_cast<size_t>(name - path);
    if (length >= sizeof name_ || strlen(name) + 12 > sizeof name_ || *name == 0) {
      return ENAMETOOLONG;
    }
    char directory[PATH_MAX] = ".";
    if (length != 0) {
      memcpy(directory, path, length);
      directory[length] = 0;
    }
    memcpy(name_, name, strlen(name) + 1);
    directory_.reset(::open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return directory_ ? 0 : errno;
  }
  /// EWOULDBLOCK when another process has the lock.
  int lock() noexcept {
    lock_.reset(::openat(directory_.get(), with(".lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock_ || flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) { return errno; }
    return 0;
  }

  uint32_t next_segment(uint32_t after) noexcept {
    uint32_t best = 0;
    const int copy = ::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* listing = copy < 0 ? nullptr : fdopendir(copy);
    if (listing == nullptr) {
      if (copy >= 0) { ::close(copy); }
      return 0;
    }
    const size_t length = strlen(name_);
    while (const dirent* entry = readdir(listing)) {
      const char* digits = entry->d_name + length + 1;
      if (strncmp(entry->d_name, name_, length) != 0 || entry->d_name[length] != '.' ||
          *digits < '0' || *digits > '9') {
        continue;
      }
      char* end = nullptr;
      const unsigned long number = strtoul(digits, &end, 10);
      if (*end != 0 || number == 0 || number > 0xFFFFFFFE) { continue; }
      const auto found = static_cast<uint32_t>(number);
      if (found > after && (best == 0 || found < best)) { best = found; }
    }
    closedir(listing);
    return best;
  }
  int open(uint32_t number, uint64_t& size) noexcept {
    source_.reset(::openat(directory_.get(), with(number), O_RDONLY | O_CLOEXEC));
    struct stat state {};
    if (!source_ || fstat(source_.get(), &state) != 0) { return errno; }
    size = static_cast<uint64_t>(state.st_size);
    return 0;
  }
  int read(uint64_t offset, Buffer target) noexcept {
    uint32_t at = 0;
    while (at != target.size()) {
      const ssize_t got = pread(source_.get(), target.data() + at, target.size() - at,
                                static_cast<off_t>(offset + at));
      if (got < 0 && errno == EINTR) { continue; }
      if (got <= 0) { return got == 0 ? EIO : errno; }
      at += static_cast<uint32_t>(got);
    }
    return 0;
  }
  void close_source() noexcept { source_.reset(); }

  /// A second link, or a copy where there are none. Segments are never written again.
  int keep_bad(uint32_t number) noexcept {
    char bad[sizeof path_];
    memcpy(bad, with(".bad"), sizeof bad);
    (void)unlinkat(directory_.get(), bad, 0);
    if (linkat(directory_.get(), with(number), directory_.get(), bad, 0) == 0) { return 0; }
    Descriptor target(
        ::openat(directory_.get(), bad, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    Descriptor source(::openat(directory_.get(), with(number), O_RDONLY | O_CLOEXEC));
    uint8_t piece[16384];
    ssize_t got = 0;
    while ((got = ::read(source.get(), piece, sizeof piece)) > 0) {
      if (::write(target.get(), piece, static_cast<size_t>(got)) != got) { return errno; }
    }
    return got == 0 ? 0 : errno;
  }

  int create(uint32_t number) noexcept {
    target_.reset(
        ::openat(directory_.get(), with(number), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    return target_ ? 0 : errno;
  }
  int append(uint64_t offset, Bytes bytes) noexcept {
    uint32_t at = 0;
    while (at != bytes.size()) {
      const ssize_t taken = pwrite(target_.get(), bytes.data() + at, bytes.size() - at,
                                   static_cast<off_t>(offset + at));
      if (taken < 0 && errno == EINTR) { continue; }
      if (taken <= 0) { return taken == 0 ? ENOSPC : errno; }
      at += static_cast<uint32_t>(taken);
    }
    return 0;
  }
  int sync() noexcept {
#ifdef F_FULLFSYNC
    return fcntl(target_.get(), F_FULLFSYNC) == -1 ? errno : 0;
#else
    return fdatasync(target_.get()) == 0 ? 0 : errno;
#endif
  }
  int sync_directory() noexcept { return fsync(directory_.get()) == 0 ? 0 : errno; }
  int remove(uint32_t number) noexcept {
    return unlinkat(directory_.get(), with(number), 0) == 0 ? 0 : errno;
  }

 private:
  const char* with(const char* ending) noexcept {
    snprintf(path_, sizeof path_, "%s%s", name_, ending);
    return path_;
  }
  const char* with(uint32_t number) noexcept {
    snprintf(path_, sizeof path_, "%s.%06u", name_, number);
    return path_;
  }

  Descriptor directory_;
  Descriptor lock_;
  Descriptor source_;
  Descriptor target_;
  char name_[NAME_MAX] = {};
  char path_[NAME_MAX + 16] = {};
};

/// Wakes the loop from the journal's thread, so that it calls collect().
struct Waker {
  void (*function)(void* argument) = nullptr;
  void* argument = nullptr;

  void wake() const noexcept { function(argument); }
};

/// The Worker of a journal::Log on a thread of its own. A write that fails is tried again, after
/// 0.1 s at first, after 5 s later; what was not synced is not.
class SyncThread {
 public:
  SyncThread() noexcept = default;
  SyncThread(const SyncThread&) = delete;
  SyncThread& operator=(const SyncThread&) = delete;
  ~SyncThread() { stop(); }

  /// 0, or an errno.
  int start(JournalFiles& files, journal::Sync sync, uint32_t interval_ms,
            const Waker& waker) noexcept {
    writer_.start(files, sync);
    interval_ms_ = sync == journal::Sync::interval ? interval_ms : 0;
    waker_ = waker;
    stopping_ = false;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&changed_, &attributes);
    pthread_condattr_destroy(&attributes);
    // Signals are the loop's.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&thread_, nullptr, run_thread, this);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    running_ = error == 0;
    return error;
  }
  /// Ends the thread; a batch that cannot be written stays unwritten.
  void stop() noexcept {
    if (!running_) { return; }
    pthread_mutex_lock(&mutex_);
    stopping_ = true;
    pthread_cond_broadcast(&changed_);
    pthread_mutex_unlock(&mutex_);
    pthread_join(thread_, nullptr);
    pthread_cond_destroy(&changed_);
    running_ = false;
  }
  /// Waits until the batch is done; false: not within `wait_ms`.
  bool wait_done(uint32_t wait_ms) noexcept {
    const timespec end = after_ms(wait_ms);
    pthread_mutex_lock(&mutex_);
    int error = 0;
    while (given_ && error == 0) { error = wait_until(end); }
    const bool done = !given_;
    pthread_mutex_unlock(&mutex_);
    return done;
  }

  bool idle() const noexcept { return !outstanding_; }
  void give(const journal::Batch& batch) noexcept {
    pthread_mutex_lock(&mutex_);
    batch_ = batch;
    given_ = true;
    outstanding_ = true;
    pthread_cond_broadcast(&changed_);
    pthread_mutex_unlock(&mutex_);
  }
  bool take(journal::Outcome& outcome) noexcept {
    if (!outstanding_) { return false; }
    pthread_mutex_lock(&mutex_);
    const bool done = !given_;
    outcome = outcome_;
    figures_ = written_;
    pthread_mutex_unlock(&mutex_);
    outstanding_ = !done;
    return done;
  }
  bool failing() const noexcept { return __atomic_load_n(&error_, __ATOMIC_RELAXED) != 0; }
  /// The errno of the last attempt, 0 when it went well.
  int error() const noexcept { return __atomic_load_n(&error_, __ATOMIC_RELAXED); }
  static uint32_t wall_clock_s() noexcept {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<uint32_t>(now.tv_sec);
  }

  /// As of the last batch taken.
  uint64_t bytes_written() const noexcept { return figures_.bytes; }
  uint64_t syncs() const noexcept { return figures_.syncs; }

 private:
  static constexpr uint32_t retry_first_ms = 100;
  static constexpr uint32_t retry_last_ms = 5000;

  struct Figures {
    uint64_t bytes = 0;
    uint64_t syncs = 0;
  };

  static void* run_thread(void* self) {
    static_cast<SyncThread*>(self)->run();
    return nullptr;
  }

  void run() noexcept {
    pthread_mutex_lock(&mutex_);
    while (!stopping_ || given_) {
      if (given_) {
        const journal::Batch batch = batch_;
        pthread_mutex_unlock(&mutex_);
        const journal::Outcome outcome = put(batch);
        give_back_pages(batch);
        pthread_mutex_lock(&mutex_);
        outcome_ = outcome;
        written_ = Figures{writer_.bytes(), writer_.syncs()};
        given_ = false;
        pthread_cond_broadcast(&changed_);
        pthread_mutex_unlock(&mutex_);
        waker_.wake();
        pthread_mutex_lock(&mutex_);
      } else {
        rest();
      }
    }
    pthread_mutex_unlock(&mutex_);
    interval_failed_ = !writer_.make_safe();
  }

  // Until there is something to do; syncs when the interval has passed.
  void rest() noexcept {
    if (interval_ms_ == 0 || !writer_.unsynced() || interval_failed_) {
      pthread_cond_wait(&changed_, &mutex_);
      return;
    }
    if (!due_known_) { due_ = after_ms(interval_ms_); }
    due_known_ = true;
    if (wait_until(due_) == 0) { return; }
    pthread_mutex_unlock(&mutex_);
    sync_interval();
    pthread_mutex_lock(&mutex_);
  }
  void sync_interval() noexcept {
    due_known_ = false;
    interval_failed_ = !writer_.make_safe();
    if (interval_failed_) { note(writer_.error()); }
  }

  journal::Outcome put(const journal::Batch& batch) noexcept {
    if (interval_failed_) {
      interval_failed_ = false;
      return journal::Outcome::not_synced;
    }
    if (unsynced_before_) { pause(); }  // the disk has failed: not at once again
    journal::Outcome outcome = writer_.put(batch);
    while (outcome == journal::Outcome::not_written && !is_stopping()) {
      note(writer_.error());
      waker_.wake();
      pause();
      outcome = writer_.put(batch);
    }
    note(outcome == journal::Outcome::safe ? 0 : writer_.error());
    unsynced_before_ = outcome != journal::Outcome::safe;
    if (outcome == journal::Outcome::safe) { retry_ms_ = retry_first_ms; }
    if (due_known_ && is_past(due_)) { sync_interval(); }
    return outcome;
  }
  // After a burst the buffer is not to stay resident.
  static void give_back_pages(const journal::Batch& batch) noexcept {
    constexpr uint32_t kept_bytes = 4 << 20;
    if (batch.size <= kept_bytes) { return; }
    const auto page = static_cast<uint32_t>(sysconf(_SC_PAGESIZE));
    const auto into = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(batch.data) % page);
    const uint32_t first = kept_bytes + page - into;
    const uint32_t whole = batch.size > first ? (batch.size - first) / page * page : 0;
    (void)madvise(batch.data + first, whole, MADV_DONTNEED);
  }
  void note(int error) noexcept { __atomic_store_n(&error_, error, __ATOMIC_RELAXED); }
  bool is_stopping() noexcept {
    pthread_mutex_lock(&mutex_);
    const bool stopping = stopping_;
    pthread_mutex_unlock(&mutex_);
    return stopping;
  }
  void pause() noexcept {
    const timespec end = after_ms(retry_ms_);
    retry_ms_ = retry_ms_ * 2 < retry_last_ms ? retry_ms_ * 2 : retry_last_ms;
    pthread_mutex_lock(&mutex_);
    int error = 0;
    while (!stopping_ && error == 0) { error = wait_until(end); }
    pthread_mutex_unlock(&mutex_);
  }

  static clockid_t wait_clock() noexcept {
#ifdef __APPLE__
    return CLOCK_REALTIME;
#else
    return CLOCK_MONOTONIC;
#endif
  }
  static timespec after_ms(uint32_t wait_ms) noexcept {
    timespec end{};
    clock_gettime(wait_clock(), &end);
    end.tv_sec += static_cast<time_t>(wait_ms / 1000);
    end.tv_nsec += static_cast<long>(wait_ms % 1000) * 1000000;
    if (end.tv_nsec >= 1000000000) {
      end.tv_nsec -= 1000000000;
      end.tv_sec += 1;
    }
    return end;
  }
  static bool is_past(const timespec& end) noexcept {
    const timespec now = after_ms(0);
    return now.tv_sec != end.tv_sec ? now.tv_sec > end.tv_sec : now.tv_nsec >= end.tv_nsec;
  }
  // The mutex is ours. 0 when something may have changed.
  int wait_until(const timespec& end) noexcept {
    return pthread_cond_timedwait(&changed_, &mutex_, &end);
  }

  pthread_t thread_{};
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed_{};
  Waker waker_;
  bool running_ = false;
  bool outstanding_ = false;  // the loop's: a batch whose outcome it has not taken
  Figures figures_;           // the loop's

  // Both threads', under the mutex.
  journal::Batch batch_;
  journal::Outcome outcome_ = journal::Outcome::safe;
  Figures written_;
  bool given_ = false;
  bool stopping_ = false;
  int error_ = 0;  // without it

  // The thread's.
  journal::SegmentWriter<JournalFiles> writer_;
  uint32_t interval_ms_ = 0;
  uint32_t retry_ms_ = retry_first_ms;
  bool unsynced_before_ = false;
  bool interval_failed_ = false;
  bool due_known_ = false;
  timespec due_{};
};

struct JournalOptions {
  const char* path = "mqttd.journal";  ///< segments are PATH.000001 and so on
  journal::Sync sync = journal::Sync::always;
  uint32_t interval_ms = 1000;        ///< for Sync::interval
  uint64_t buffer_bytes = 128 << 20;  ///< both halves; reserved, pages come when they are used
  bool forget_refused = false;        ///< go on although limits are lower than they were
  journal::LogOptions log;
};

/// The Journal of a broker in files. One thread owns it, the engine's; it has another of its own.
class FileJournal : public journal::Log<SyncThread> {
 public:
  /// 0, or an errno: EWOULDBLOCK when another process uses this path.
  int open(const JournalOptions& options) noexcept {
    options_ = options;
    if (options.buffer_bytes / 2 < journal::window_bytes_min || options.buffer_bytes > 0xFFFFFFFF) {
      return EINVAL;
    }
    if (!memory_.reserve(options.buffer_bytes)) { return ENOMEM; }
    const int error = files_.open_chain(options.path);
    return error != 0 ? error : files_.lock();
  }

  /// Restores a freshly started engine and is on from then on. Not when there is a `newer_version`
  /// or an `error`, nor after `refused` unless options.forget_refused says so: then no file has
  /// changed, but for PATH.bad, and the program should end.
  template <typename Engine>
  const journal::Recovered& recover(Engine& engine, Millis now) noexcept {
    using Restore = BrokerRestore<Engine>;
    Reservation memory;  // goes at the end
    recovered_ = journal::Recovered();
    if (!memory.reserve(Restore::memory_bytes(engine.limits()))) {
      recovered_.error = ENOMEM;
      return recovered_;
    }
    const auto window =
        static_cast<uint32_t>(memory_.size() < window_bytes ? memory_.size() : window_bytes);
    Restore restore(engine, memory.data());
    journal::Recovery<JournalFiles> recovery(files_, Buffer(memory_.data(), window));
    recovered_ = recovery.run(
        [&restore, now](const JournalRecord& record) { return restore.apply(record, now); });
    files_.close_source();
    if (recovered_.newer_version == 0 && recovered_.error == 0 &&
        (recovered_.refused == 0 || options_.forget_refused)) {
      Log::start(Buffer(memory_.data(), static_cast<uint32_t>(memory_.size())), options_.log,
                 recovered_.chain);
    }
    restore.finish(now);
    return recovered_;
  }

  /// Begins a segment and starts the thread. 0, or an errno.
  template <typename Engine>
  int start(Engine& engine, const Waker& waker) noexcept {
    const int error = worker().start(files_, options_.sync, options_.interval_ms, waker);
    if (error == 0) { end_turn(engine); }
    return error;
  }

  /// Waits until everything is safe, then ends the thread; false: it was not within `wait_ms`.
  template <typename Engine>
  bool stop(Engine& engine, uint32_t wait_ms) noexcept {
    const Millis end = MonotonicClock().now_ms() + wait_ms;
    end_turn(engine);
    while (!is_settled() && !worker().failing()) {
      const Millis now = MonotonicClock().now_ms();
      if (now >= end || !worker().wait_done(static_cast<uint32_t>(end - now))) { break; }
      end_turn(engine);
    }
    const bool settled = is_settled();
    worker().stop();
    return settled;
  }

  JournalFiles& files() noexcept { return files_; }
  const journal::Recovered& recovered() const noexcept { return recovered_; }

 private:
  static constexpr uint32_t window_bytes = 1 << 20;

  JournalOptions options_;
  Reservation memory_;
  JournalFiles files_;
  journal::Recovered recovered_;
};

}  // namespace posix
}  // namespace mqtt

#endif
