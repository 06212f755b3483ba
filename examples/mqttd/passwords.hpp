// examples/mqttd/passwords.hpp — a password file in Mosquitto's format
// SPDX-License-Identifier: MIT
#ifndef MQTTD_PASSWORDS_HPP
#define MQTTD_PASSWORDS_HPP

#include <stdlib.h>
#include <ports/crypto/hashes.hpp>

#include "text_file.hpp"

namespace mqttd {

/// How a password is kept: `$7$iterations$salt$hash` is PBKDF2-HMAC-SHA512, `$6$salt$hash` the
/// SHA-512 of password and salt; salt and hash are base64.
struct PasswordHash {
  static constexpr uint32_t salt_bytes_max = 64;
  static constexpr uint32_t iterations_max = 100000000;

  uint32_t iterations = 0;  ///< 0: a single SHA-512
  mqtt::Text salt;          ///< base64
  mqtt::Text hash;          ///< base64

  uint32_t salt_bytes(uint8_t (&target)[salt_bytes_max]) const {
    return mqtt::crypto::from_base64(salt, target);
  }
  bool hash_bytes(uint8_t (&target)[mqtt::crypto::Sha512::digest_size]) const {
    return mqtt::crypto::from_base64(hash, target) == sizeof target;
  }

  /// Reads what follows the user's name. What is wrong with it, or none.
  const char* read(char* text) {
    if (strncmp(text, "$argon2id$", 10) == 0) {
      return "Argon2id is not supported; set the password again with mqtt_passwd, which makes "
             "sha512-pbkdf2 hashes";
    }
    const bool sliced = strncmp(text, "$7$", 3) == 0;
    if (!sliced && strncmp(text, "$6$", 3) != 0) {
      return "the password is not hashed; use mqtt_passwd -U on the file";
    }
    char* at = text + 3;
    if (sliced) {
      char* end = nullptr;
      const long number = strtol(at, &end, 10);
      if (*at < '0' || *at > '9' || *end != '$' || number < 1 || number > long{iterations_max}) {
        return "the number of iterations is wrong";
      }
      iterations = static_cast<uint32_t>(number);
      at = end + 1;
    }
    char* separator = strchr(at, '$');
    if (separator == nullptr) { return "salt or hash is missing"; }
    salt = mqtt::Text(at, static_cast<uint32_t>(separator - at));
    hash = mqtt::Text(separator + 1, static_cast<uint32_t>(strlen(separator + 1)));
    uint8_t salt_target[salt_bytes_max];
    uint8_t hash_target[mqtt::crypto::Sha512::digest_size];
    if (salt_bytes(salt_target) == 0) { return "the salt is not base64"; }
    return hash_bytes(hash_target) ? nullptr : "the hash is not base64 of 64 bytes";
  }

  /// Whether the password is right; not for hashes with iterations, which take their time.
  bool matches_at_once(mqtt::Bytes password) const {
    uint8_t salt_target[salt_bytes_max];
    uint8_t expected[mqtt::crypto::Sha512::digest_size];
    uint8_t found[mqtt::crypto::Sha512::digest_size];
    mqtt::crypto::Sha512 sha;
    sha.update(password);
    sha.update(mqtt::Bytes(salt_target, salt_bytes(salt_target)));
    sha.finish(found);
    return hash_bytes(expected) && mqtt::crypto::equal(mqtt::Bytes(expected, sizeof expected),
                                                       mqtt::Bytes(found, sizeof found));
  }
};

/// The users of a password file by name.
class PasswordFile {
 public:
  struct User {
    mqtt::Text name;
    PasswordHash hash;
    uint32_t next;  // in its bucket, counted from 1
  };

  /// False: the error is logged.
  bool read(const char* path, Log& log) {
    char* text = text_.load(path, "password file", log);
    if (text == nullptr) { return false; }
    const uint32_t lines = count_lines(text);
    if (!tables_.reserve(lines * uint64_t{sizeof(User) + sizeof(uint32_t)})) {
      log.line(log_error, "Error: Out of memory.");
      return false;
    }
    users_ = reinterpret_cast<User*>(tables_.data());
    heads_ = reinterpret_cast<uint32_t*>(users_ + lines);
    head_count_ = lines;
    FileLine line{path, 0, nullptr};
    while (next_line(text, line)) {
      if (!read_line(line, log)) { return false; }
    }
    return true;
  }

  /// None when there is no such user.
  const User* find(mqtt::Text name) const {
    for (uint32_t i = heads_[hash_of(name) % head_count_]; i != 0; i = users_[i - 1].next) {
      if (users_[i - 1].name == name) { return &users_[i - 1]; }
    }
    return nullptr;
  }

  /// A hash to spend time on for users that do not exist; none when there are no users.
  const PasswordHash* any() const { return count_ == 0 ? nullptr : &users_[0].hash; }
  uint32_t count() const { return count_; }

 private:
  bool read_line(const FileLine& line, Log& log) {
    char* colon = strchr(line.text, ':');
    if (colon == nullptr || colon == line.text) {
      return fail_at_line(log, line, "Password file line without user name and ':'.");
    }
    *colon = 0;
    trim_end(line.text);
    const mqtt::Text name(line.text, static_cast<uint32_t>(strlen(line.text)));
    if (name.size() > 65535) { return fail_at_line(log, line, "User name is too long."); }
    PasswordHash hash;
    if (const char* problem = hash.read(skip_blanks(colon + 1))) {
      return fail_at_line(log, line, "Password of user '%s': %s.", line.text, problem);
    }
    if (find(name) != nullptr) {
      log.line(log_warning, "Warning: Duplicate user '%s' at %s:%u, ignoring the second.",
               line.text, line.file, line.number);
      return true;
    }
    uint32_t& head = heads_[hash_of(name) % head_count_];
    users_[count_] = User{name, hash, head};
    head = ++count_;
    return true;
  }

  TextMemory text_;
  mqtt::posix::Reservation tables_;
  User* users_ = nullptr;
  uint32_t* heads_ = nullptr;  // counted from 1; 0: empty
  uint32_t head_count_ = 1;
  uint32_t count_ = 0;
};

}  // namespace mqttd

#endif
