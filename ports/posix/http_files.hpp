// ports/posix/http_files.hpp — opens files below a folder and nothing else
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_POSIX_HTTP_FILES_HPP
#define MQTT_PORTS_POSIX_HTTP_FILES_HPP

#include <sys/stat.h>
#include <ports/posix/socket.hpp>
#include <ports/websocket/http.hpp>

namespace mqtt {
namespace posix {

/// Opens a regular file below `folder` for reading and learns its size; false: there is none.
/// `path` is what http::read_path() gave and is cut into its segments here. Every segment is opened
/// in the one before it and no symbolic link is followed, so nothing outside can be reached.
inline bool open_below(const char* folder, char* path, Descriptor& file, uint64_t& size) noexcept {
  Descriptor at(::open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  char* segment = path;
  for (char* slash = strchr(segment, '/'); slash != nullptr; slash = strchr(segment, '/')) {
    *slash = 0;
    at.reset(::openat(at.get(), segment, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    *slash = '/';
    segment = slash + 1;
    if (!at) { return false; }
  }
  // O_NONBLOCK: a named pipe must not hold us.
  file.reset(::openat(at.get(), segment, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat there {};
  if (!file || fstat(file.get(), &there) != 0 || !S_ISREG(there.st_mode)) {
    file.reset();
    return false;
  }
  size = static_cast<uint64_t>(there.st_size);
  return true;
}

}  // namespace posix
}  // namespace mqtt

#endif
