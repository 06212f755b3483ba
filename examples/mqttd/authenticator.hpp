// examples/mqttd/authenticator.hpp — checks passwords in slices and slows those who guess
// SPDX-License-Identifier: MIT
#ifndef MQTTD_AUTHENTICATOR_HPP
#define MQTTD_AUTHENTICATOR_HPP

#include <ports/posix/socket.hpp>

#include "passwords.hpp"

namespace mqttd {

/// Counts wrong passwords by address. From the 20th in a row on, an address waits: one second,
/// then twice as long each time, up to a minute. A right password in between forgets them.
class AttemptLimit {
 public:
  static constexpr uint32_t free_attempts = 20;

  bool start() {
    if (!memory_.reserve(count * sizeof(Entry))) { return false; }
    entries_ = reinterpret_cast<Entry*>(memory_.data());
    return true;
  }

  /// What stands for an address: all of IPv4, the network of 64 bits of IPv6; 0 is never limited.
  static uint64_t key(const mqtt::posix::SocketAddress& address) {
    uint64_t key = 0;
    if (address.any.sa_family == AF_INET6) {
      memcpy(&key, &address.v6.sin6_addr, sizeof key);
    } else if (address.any.sa_family == AF_INET) {
      key = uint64_t{address.v4.sin_addr.s_addr} << 16 | 1;
    }
    return key;
  }

  bool may_try(uint64_t key, mqtt::Millis now) const {
    const Entry& entry = entries_[place(key)];
    return key == 0 || entry.key != key || now >= entry.until_ms;
  }

  void failed(uint64_t key, mqtt::Millis now) {
    constexpr mqtt::Millis second = 1000;
    constexpr uint32_t doublings_max = 6;
    Entry& entry = entries_[place(key)];
    if (entry.key != key || now > entry.until_ms + memory_ms) { entry = Entry{key, 0, 0}; }
    ++entry.failures;
    const uint32_t over = entry.failures < free_attempts ? 0 : entry.failures - free_attempts;
    const uint32_t doublings = over < doublings_max ? over : doublings_max;
    entry.until_ms = entry.failures < free_attempts ? now : now + (second << doublings);
  }

  void succeeded(uint64_t key) {
    Entry& entry = entries_[place(key)];
    if (entry.key == key) { entry = Entry{0, 0, 0}; }
  }

 private:
  static constexpr uint32_t count = 1024;
  static constexpr mqtt::Millis memory_ms = 600000;

  struct Entry {
    uint64_t key;
    mqtt::Millis until_ms;
    uint32_t failures;
  };

  static uint32_t place(uint64_t key) {
    return static_cast<uint32_t>(key * 0x9E3779B97F4A7C15 >> 32) % count;
  }

  mqtt::posix::Reservation memory_;
  Entry* entries_ = nullptr;  // by key
};

/// Passwords being checked. A hash with iterations takes its time, and so does that of a user who
/// does not exist; work() takes a slice of it between two turns of the loop.
class Authenticator {
 public:
  enum class Verdict : uint8_t { right, wrong, later, busy };

  struct Attempt {
    mqtt::ConnectionId connection;
    mqtt::Text user;
    bool has_password = false;
    mqtt::Bytes password;
  };

  bool start() {
    if (!memory_.reserve(uint64_t{jobs_max} * sizeof(Job))) { return false; }
    jobs_ = reinterpret_cast<Job*>(memory_.data());
    return true;
  }

  Verdict begin(const PasswordFile& file, const Attempt& attempt) {
    const PasswordFile::User* user = file.find(attempt.user);
    const bool known = user != nullptr && attempt.has_password;
    const PasswordHash* hash = user != nullptr ? &user->hash : file.any();
    if (hash == nullptr) { return Verdict::wrong; }
    if (hash->iterations == 0) {
      return hash->matches_at_once(attempt.password) && known ? Verdict::right : Verdict::wrong;
    }
    if (count_ == jobs_max) { return Verdict::busy; }
    Job& job = jobs_[(first_ + count_) % jobs_max];
    ++count_;
    uint8_t salt[PasswordHash::salt_bytes_max];
    const uint32_t salt_size = hash->salt_bytes(salt);
    job.connection = attempt.connection;
    job.user = known ? user->name : mqtt::Text();
    job.derivation =
        mqtt::crypto::Pbkdf2(attempt.password, mqtt::Bytes(salt, salt_size), hash->iterations);
    job.known = hash->hash_bytes(job.expected) && known;
    job.cancelled = false;
    return Verdict::later;
  }

  /// The connection is gone.
  void cancel(mqtt::ConnectionId connection) {
    for (uint32_t i = 0; i != count_; ++i) {
      Job& job = jobs_[(first_ + i) % jobs_max];
      if (job.connection == connection) { job.cancelled = true; }
    }
  }

  bool busy() const { return count_ != 0; }

  /// The files that begin() was given will go away: `file_of(connection)` gives what follows, or
  /// none. Who is not in it any more has the wrong password.
  template <typename FileOf>
  void change_files(FileOf&& file_of) {
    for (uint32_t i = 0; i != count_; ++i) {
      Job& job = jobs_[(first_ + i) % jobs_max];
      if (job.cancelled || !job.known) { continue; }
      const PasswordFile* file = file_of(job.connection);
      const PasswordFile::User* user = file == nullptr ? nullptr : file->find(job.user);
      job.known = user != nullptr;
      job.user = user != nullptr ? user->name : mqtt::Text();
    }
  }

  /// Works for about a millisecond; `done(connection, user, right)` says whether it took the
  /// verdict. The name of the user is known only if the password is right.
  template <typename Done>
  void work(Done&& done) {
    uint32_t budget = slice;
    while (count_ != 0) {
      Job& job = jobs_[first_];
      const uint32_t before = job.derivation.iterations_left();
      if (!job.cancelled && !job.derivation.step(budget)) { return; }
      budget -= before < budget ? before : budget;
      const bool right = job.known & mqtt::crypto::equal(job.derivation.key(),
                                                         mqtt::Bytes(job.expected, key_size));
      if (!job.cancelled && !done(job.connection, job.user, right)) { return; }
      mqtt::crypto::wipe(&job, sizeof job);
      first_ = (first_ + 1) % jobs_max;
      --count_;
      if (budget == 0) { return; }
    }
  }

 private:
  static constexpr uint32_t jobs_max = 4096;
  static constexpr uint32_t slice = 512;  // iterations, 2 blocks of SHA-512 each
  static constexpr uint32_t key_size = mqtt::crypto::Pbkdf2::key_size;

  struct Job {
    mqtt::ConnectionId connection;
    mqtt::Text user;  // of the file
    mqtt::crypto::Pbkdf2 derivation;
    uint8_t expected[key_size];
    bool known;
    bool cancelled;
  };

  mqtt::posix::Reservation memory_;
  Job* jobs_ = nullptr;  // a ring
  uint32_t first_ = 0;
  uint32_t count_ = 0;
};

}  // namespace mqttd

#endif
