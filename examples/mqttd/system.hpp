// examples/mqttd/system.hpp — a daemon and its process: limits, user, pid, service manager
// SPDX-License-Identifier: MIT
#ifndef MQTTD_SYSTEM_HPP
#define MQTTD_SYSTEM_HPP

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <ports/posix/socket.hpp>

namespace mqttd {

/// Raises the limit of open descriptors as far as allowed and returns it.
inline uint32_t raise_descriptor_limit() {
  constexpr rlim_t most = 1 << 20;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) { return 1024; }
  rlimit raised = limit;
  raised.rlim_cur = limit.rlim_max < most ? limit.rlim_max : most;
  if (raised.rlim_cur > limit.rlim_cur && setrlimit(RLIMIT_NOFILE, &raised) == 0) {
    limit = raised;
  }
  return static_cast<uint32_t>(limit.rlim_cur < most ? limit.rlim_cur : most);
}

/// Tells a service manager about us: one datagram to $NOTIFY_SOCKET, if there is one.
inline void notify_service_manager(const char* state) {
  const char* path = getenv("NOTIFY_SOCKET");
  mqtt::posix::SocketAddress address;
  const size_t size = path == nullptr ? 0 : strlen(path);
  if (size == 0 || size >= sizeof address.path.sun_path) { return; }
  address.path.sun_family = AF_UNIX;
  memcpy(address.path.sun_path, path, size);
  if (path[0] == '@') {
    address.path.sun_path[0] = 0;  // an abstract socket
  }
  const mqtt::posix::Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM, 0));
  const auto address_size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  if (socket) {
    (void)sendto(socket.get(), state, strlen(state), mqtt::posix::send_flags, &address.any,
                 address_size);
  }
}

/// Says that a reload begins, as Type=notify-reload wants it; READY=1 says that it is over.
inline void notify_reloading() {
  char state[64];
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld",
           static_cast<long long>(now.tv_sec) * 1000000 + now.tv_nsec / 1000);
  notify_service_manager(state);
}

/// How often the service manager wants to hear from us, halved for safety; 0: never.
inline uint64_t watchdog_period_ms() {
  const char* period = getenv("WATCHDOG_USEC");
  const char* process = getenv("WATCHDOG_PID");
  const bool ours = process == nullptr || strtol(process, nullptr, 10) == long{getpid()};
  const long long microseconds = period == nullptr || !ours ? 0 : strtoll(period, nullptr, 10);
  return microseconds < 2000 ? 0 : static_cast<uint64_t>(microseconds) / 2000;
}

/// A number nobody can guess; 0 when the system has none.
inline uint32_t unpredictable_number() {
  uint32_t number = 0;
  const mqtt::posix::Descriptor file(::open("/dev/urandom", O_RDONLY | O_CLOEXEC));
  if (!file || ::read(file.get(), &number, sizeof number) != sizeof number) { return 0; }
  return number;
}

/// Gives up root's rights for those of a user; false with errno. Nothing to do unless root.
inline bool become_user(const char* name) {
  if (geteuid() != 0 || strcmp(name, "root") == 0) { return true; }
  errno = 0;
  const passwd* user = getpwnam(name);
  if (user == nullptr) {
    errno = errno == 0 ? ENOENT : errno;
    return false;
  }
  return initgroups(name, user->pw_gid) == 0 && setgid(user->pw_gid) == 0 &&
         setuid(user->pw_uid) == 0;
}

/// Writes our process id; false with errno.
inline bool write_pid_file(const char* path) {
  const mqtt::posix::Descriptor file(::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  char text[16];
  const int size = snprintf(text, sizeof text, "%ld\n", static_cast<long>(getpid()));
  return file && ::write(file.get(), text, static_cast<size_t>(size)) == size;
}

/// The daemon's two halves: the parent stays until the child serves or fails, so that the shell
/// learns which.
class Daemon {
 public:
  /// In the parent this does not return. False with errno.
  bool start() {
    int ends[2];
    if (pipe(ends) != 0) { return false; }
    mqtt::posix::Descriptor read_end(ends[0]);
    ready_.reset(ends[1]);
    const pid_t child = fork();
    if (child < 0) { return false; }
    if (child > 0) {
      ready_.reset();
      wait_for(child, read_end.get());
    }
    setsid();
    return true;
  }

  /// In the child, when it serves: lets the parent go and leaves the terminal.
  void serves() {
    if (!ready_) { return; }
    const mqtt::posix::Descriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    for (int standard = 0; null && standard <= 2; ++standard) { dup2(null.get(), standard); }
    const char yes = 'y';
    const ssize_t written = ::write(ready_.get(), &yes, 1);
    static_cast<void>(written);
    ready_.reset();
  }

 private:
  [[noreturn]] static void wait_for(pid_t child, int pipe) {
    char answer = 'n';
    ssize_t got = -1;
    do { got = ::read(pipe, &answer, 1); } while (got < 0 && errno == EINTR);
    int status = 0;
    if (got != 1) { waitpid(child, &status, 0); }
    _exit(got == 1 ? 0 : WIFEXITED(status) ? WEXITSTATUS(status) : 1);
  }

  mqtt::posix::Descriptor ready_;
};

}  // namespace mqttd

#endif
