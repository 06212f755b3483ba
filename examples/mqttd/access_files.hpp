// examples/mqttd/access_files.hpp — the password and access control files of a configuration
// SPDX-License-Identifier: MIT
#ifndef MQTTD_ACCESS_FILES_HPP
#define MQTTD_ACCESS_FILES_HPP

#include "acl.hpp"
#include "options.hpp"
#include "passwords.hpp"

namespace mqttd {

/// The password and access control files of all listeners; each file is read once.
class AccessFiles {
 public:
  /// False: the error is logged.
  bool read(const Options& options, Log& log) {
    for (uint32_t i = 0; i != options.listener_count; ++i) {
      const ListenerOptions& listener = options.listeners[i];
      if (!read_one(options, i, &SecurityOptions::password_file, passwords_, log) ||
          !read_one(options, i, &SecurityOptions::acl_file, acls_, log)) {
        return false;
      }
      any_acl_ = any_acl_ || listener.acl_file != nullptr;
    }
    return true;
  }

  /// None: the listener has no such file.
  const PasswordFile* passwords(uint32_t listener) const { return passwords_.of[listener]; }
  const AclFile* acl(uint32_t listener) const { return acls_.of[listener]; }
  bool any_acl() const { return any_acl_; }

  /// After two listeners have changed places.
  void swap_listeners(uint32_t a, uint32_t b) {
    swap(passwords_.of[a], passwords_.of[b]);
    swap(acls_.of[a], acls_.of[b]);
  }

 private:
  template <typename T>
  static void swap(T& a, T& b) {
    const T kept = a;
    a = b;
    b = kept;
  }

  template <typename File>
  struct Files {
    File files[listeners_max];
    const File* of[listeners_max] = {};
  };

  template <typename File>
  static bool read_one(const Options& options, uint32_t index, const char* SecurityOptions::*path,
                       Files<File>& files, Log& log) {
    const char* wanted = options.listeners[index].*path;
    if (wanted == nullptr) { return true; }
    for (uint32_t i = 0; i != index; ++i) {
      const char* other = options.listeners[i].*path;
      if (other != nullptr && strcmp(other, wanted) == 0) {
        files.of[index] = files.of[i];
        return true;
      }
    }
    files.of[index] = &files.files[index];
    return files.files[index].read(wanted, log);
  }

  Files<PasswordFile> passwords_;
  Files<AclFile> acls_;
  bool any_acl_ = false;
};

}  // namespace mqttd

#endif
