// relay: the limit that a broker is measured against.
//
//   relay --port N [--per-turn] [--read BYTES]
//
// It answers CONNECT and SUBSCRIBE and from then on never looks at a byte: what a publisher sends
// goes to every subscriber of its group, one write per read (64 KiB). What the first subscriber of
// a group sends (its acknowledgements) goes back to all publishers of the group, so that the QoS 1
// and 2 handshakes run between the two ends. The group comes from the client identifier:
// "pub-GROUP-..." or "sub-GROUP-...", as broker_load names its clients.
//
// With --per-turn one write per target and epoll turn instead of one per read: with many publishers
// and one subscriber that is the lower bound.
//
// It runs until SIGTERM or SIGINT.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace relay {

using Buffer = std::vector<uint8_t>;

volatile std::sig_atomic_t stopping = 0;

struct Group;

struct Connection {
  int fd = -1;
  Group* group = nullptr;  // set by CONNECT
  bool publishes = false;
  bool forwards = false;  // the handshake is over
  bool v5 = false;
  bool write_armed = false;
  bool dirty = false;
  Buffer rx;  // only during the handshake
  Buffer tx;
};

struct Group {
  std::vector<Connection*> publishers;
  std::vector<Connection*> subscribers;
};

struct Options {
  int port = 0;
  bool per_turn = false;
  size_t read_size = size_t{64} * 1024;
};

class Relay {
 public:
  explicit Relay(const Options& options) : options_(options), read_(options.read_size) {}

  ~Relay() {
    for (const auto& connection : connections_) {
      if (connection) { close(connection->fd); }
    }
    close(listener_);
    close(epoll_);
  }

  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // False, with errno set, when it cannot listen.
  bool listen() {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(options_.port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 1024) != 0) {
      return false;
    }
    watch(listener_, EPOLL_CTL_ADD, EPOLLIN);
    return true;
  }

  void run() {
    epoll_event events[256];
    while (stopping == 0) {
      const int count = epoll_wait(epoll_, events, 256, -1);
      for (int index = 0; index < count; ++index) {
        const int fd = events[index].data.fd;
        if (fd == listener_) {
          accept_all();
          continue;
        }
        Connection& connection = *connections_[static_cast<size_t>(fd)];
        if ((events[index].events & EPOLLOUT) != 0) { flush(connection); }
        if ((events[index].events & ~EPOLLOUT) != 0 && !receive(connection)) { drop(connection); }
      }
      flush_dirty();
    }
  }

 private:
  void watch(int fd, int operation, uint32_t interest) {
    epoll_event event{};
    event.events = interest;
    event.data.fd = fd;
    epoll_ctl(epoll_, operation, fd, &event);
  }

  void accept_all() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) { return; }
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      if (connections_.size() <= static_cast<size_t>(fd)) {
        connections_.resize(static_cast<size_t>(fd) + 1);
      }
      connections_[static_cast<size_t>(fd)] = std::make_unique<Connection>();
      connections_[static_cast<size_t>(fd)]->fd = fd;
      watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
  }

  // False when the connection is gone.
  bool receive(Connection& connection) {
    const ssize_t got = recv(connection.fd, read_.data(), read_.size(), 0);
    if (got <= 0) { return got < 0 && (errno == EAGAIN || errno == EINTR); }
    const auto size = static_cast<size_t>(got);
    if (!connection.forwards) {
      connection.rx.insert(connection.rx.end(), read_.data(), read_.data() + size);
      return shake_hands(connection);
    }
    Group& group = *connection.group;
    if (connection.publishes) {
      forward(group.subscribers, size);
    } else if (!group.subscribers.empty() && group.subscribers.front() == &connection) {
      forward(group.publishers, size);
    }
    return true;
  }

  void forward(const std::vector<Connection*>& targets, size_t size) {
    for (Connection* target : targets) {
      size_t taken = 0;
      if (!options_.per_turn && target->tx.empty()) {
        taken = transmit(*target, read_.data(), size);
      }
      if (taken < size) {
        target->tx.insert(target->tx.end(), read_.data() + taken, read_.data() + size);
        mark(*target);
      }
    }
  }

  void mark(Connection& connection) {
    if (!connection.dirty && !connection.write_armed) {
      connection.dirty = true;
      dirty_.push_back(&connection);
    }
  }

  void flush_dirty() {
    for (Connection* connection : dirty_) {
      connection->dirty = false;
      flush(*connection);
    }
    dirty_.clear();
  }

  void flush(Connection& connection) {
    const size_t taken = transmit(connection, connection.tx.data(), connection.tx.size());
    connection.tx.erase(connection.tx.begin(),
                        connection.tx.begin() + static_cast<ptrdiff_t>(taken));
    const bool wanted = !connection.tx.empty();
    if (wanted != connection.write_armed) {
      connection.write_armed = wanted;
      watch(connection.fd, EPOLL_CTL_MOD, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
  }

  // A peer that is gone takes everything: its own read finds out.
  static size_t transmit(Connection& connection, const uint8_t* data, size_t size) {
    const ssize_t taken = send(connection.fd, data, size, MSG_NOSIGNAL);
    if (taken >= 0) { return static_cast<size_t>(taken); }
    return errno == EAGAIN || errno == EINTR ? 0 : size;
  }

  void answer(Connection& connection, const Buffer& packet) {
    connection.tx.insert(connection.tx.end(), packet.begin(), packet.end());
    mark(connection);
  }

  // Takes whole packets off connection.rx until the handshake is over. False on nonsense.
  bool shake_hands(Connection& connection) {
    Buffer& rx = connection.rx;
    while (!connection.forwards && rx.size() >= 2) {
      size_t header_size = 1;
      size_t body_size = 0;
      for (;; ++header_size) {
        if (header_size > 4) { return false; }
        if (header_size == rx.size()) { return true; }
        body_size |= size_t{rx[header_size] & 127u} << (7 * (header_size - 1));
        if (rx[header_size] < 128) {
          ++header_size;
          break;
        }
      }
      if (rx.size() < header_size + body_size) { return true; }
      const std::string_view body(reinterpret_cast<const char*>(rx.data()) + header_size,
                                  body_size);
      const bool valid = connection.group == nullptr ? on_connect(connection, rx[0], body)
                                                     : on_subscribe(connection, rx[0], body);
      if (!valid) { return false; }
      rx.erase(rx.begin(), rx.begin() + static_cast<ptrdiff_t>(header_size + body_size));
    }
    return true;
  }

  static size_t u16_at(std::string_view bytes, size_t at) {
    return size_t{static_cast<uint8_t>(bytes[at])} << 8 | static_cast<uint8_t>(bytes[at + 1]);
  }

  // "\0\4MQTT", level, flags, keep alive; v5: properties, here none; client identifier.
  bool on_connect(Connection& connection, uint8_t first, std::string_view body) {
    if (first != 0x10 || body.size() < 12) { return false; }
    connection.v5 = body[6] == 5;
    const size_t id_at = connection.v5 ? 11 : 10;
    if (body.size() < id_at + 2 || body.size() < id_at + 2 + u16_at(body, id_at)) { return false; }
    const std::string id(body.substr(id_at + 2, u16_at(body, id_at)));
    connection.publishes = id.compare(0, 4, "pub-") == 0;
    if (!connection.publishes && id.compare(0, 4, "sub-") != 0) { return false; }
    Group& group = groups_[id.substr(4, id.find('-', 4) - 4)];
    connection.group = &group;
    if (connection.publishes) {
      group.publishers.push_back(&connection);
      connection.forwards = true;
    }
    answer(connection, connection.v5 ? Buffer{0x20, 3, 0, 0, 0} : Buffer{0x20, 2, 0, 0});
    return true;
  }

  // Exactly one filter; what it says does not matter.
  bool on_subscribe(Connection& connection, uint8_t first, std::string_view body) {
    const size_t filter_at = connection.v5 ? 3 : 2;
    if (first != 0x82 || body.size() < filter_at + 3 ||
        body.size() != filter_at + 3 + u16_at(body, filter_at)) {
      return false;
    }
    const auto id_high = static_cast<uint8_t>(body[0]);
    const auto id_low = static_cast<uint8_t>(body[1]);
    const auto qos = static_cast<uint8_t>(body.back() & 3);
    answer(connection, connection.v5 ? Buffer{0x90, 4, id_high, id_low, 0, qos}
                                     : Buffer{0x90, 3, id_high, id_low, qos});
    connection.group->subscribers.push_back(&connection);
    connection.forwards = true;
    return true;
  }

  void drop(Connection& connection) {
    const auto forget = [&](std::vector<Connection*>& list) {
      list.erase(std::remove(list.begin(), list.end(), &connection), list.end());
    };
    if (connection.group != nullptr) {
      forget(connection.group->publishers);
      forget(connection.group->subscribers);
    }
    forget(dirty_);
    close(connection.fd);
    connections_[static_cast<size_t>(connection.fd)].reset();
  }

  Options options_;
  int epoll_ = -1;
  int listener_ = -1;
  Buffer read_;
  std::vector<std::unique_ptr<Connection>> connections_;  // by descriptor
  std::map<std::string, Group> groups_;
  std::vector<Connection*> dirty_;
};

bool parse_options(int count, char** arguments, Options& options) {
  size_t port = 0;
  for (int index = 1; index < count; ++index) {
    const std::string name = arguments[index];
    if (name == "--per-turn") {
      options.per_turn = true;
      continue;
    }
    if (++index == count || (name != "--port" && name != "--read")) { return false; }
    (name == "--port" ? port : options.read_size) = std::strtoull(arguments[index], nullptr, 10);
  }
  options.port = static_cast<int>(port);
  return port > 0 && port < 65536 && options.read_size >= 16;
}

void stop(int) { stopping = 1; }

}  // namespace relay

int main(int argument_count, char** arguments) {
  relay::Options options;
  if (!relay::parse_options(argument_count, arguments, options)) {
    std::fputs("relay --port N [--per-turn] [--read BYTES]\n", stderr);
    return 2;
  }
  struct sigaction action {};
  action.sa_handler = relay::stop;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  relay::Relay relay(options);
  if (!relay.listen()) {
    std::fprintf(stderr, "relay: port %d: %s\n", options.port, std::strerror(errno));
    return 1;
  }
  relay.run();
  return 0;
}
