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
      if (!passwords_.read(options, i, log) || !acls_.read(options, i, log)) { return false; }
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

  // The files of one option, by listener.
  template <typename File>
  struct Files {
    const char* SecurityOptions::*path;
    File files[listeners_max];
    const File* of[listeners_max] = {};

    bool read(const Options& options, uint32_t index, Log& log) {
      const char* wanted = options.listeners[index].*path;
      if (wanted == nullptr) { return true; }
      for (uint32_t i = 0; i != index; ++i) {
        const char* other = options.listeners[i].*path;
        if (other != nullptr && strcmp(other, wanted) == 0) {
          of[index] = of[i];
          return true;
        }
      }
      of[index] = &files[index];
      return files[index].read(wanted, log);
    }
  };

  Files<PasswordFile> passwords_{&SecurityOptions::password_file, {}, {}};
  Files<AclFile> acls_{&SecurityOptions::acl_file, {}, {}};
  bool any_acl_ = false;
};

}  // namespace mqttd

#endif
