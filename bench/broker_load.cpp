// broker_load: a closed-loop MQTT load generator that verifies every message.
//
//   broker_load --port N [--pid N] [--v5] [--ws] [--tls] [--seconds S] [--messages N] [--stall S]
//               [--beside LOAD] SCENARIO...
//
// One thread, one epoll. It has packet code of its own, written from the specification and not
// from mqtt.hpp, so that a mistake in the header cannot hide by being made on both sides.
// Every payload carries {publisher, sequence, pattern}: a message lost, doubled, out of order or
// changed makes the exit status 1. Results are lines `name value unit`; CPU time and memory are
// those of process --pid, summed over its threads. Every wait has an end: --stall seconds without
// progress are a failure.
//
// --ws speaks WebSocket, each MQTT packet in a frame of its own, as common clients do; --tls speaks
// TLS, when built with -DBENCH_TLS … -lssl -lcrypto; both together are wss.
//
// --messages makes a run so long instead of --seconds: to count instructions or system calls.
//
// --beside LOAD first loads the broker with what the scenario's messages do not touch, and leaves
// it there: idle10k connections, retained10k messages, sessions10k of clients that are away.
//
// `window` is how many messages of one publisher may be under way (not yet received by each
// subscriber, or not yet acknowledged), `batch` how many go into one write.
//
// Exit: 0 clean, 1 a violation or a broken connection, 2 wrong arguments. A line that ends in
// `broken` counts what was seen until the connection or the progress ended.

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <fstream>
#include <functional>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "load_layers.hpp"

namespace bench {

using Buffer = std::vector<uint8_t>;

struct Options {
  int port = 0;
  int pid = 0;
  bool v5 = false;
  bool clean = true;  // the broker forgets the client when it goes
  bool ws = false;
  bool tls = false;
  std::string beside;
  double seconds = 1.0;
  uint64_t messages = 0;  // deliveries of a traffic scenario; 0: go by --seconds
  double stall_s = 10;
};

// ---- measuring ---------------------------------------------------------------------------------

int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

struct CpuTime {
  int64_t total_ns = 0;
  int64_t user_ns = 0;
};

struct Memory {
  int64_t rss_bytes = 0;
  int64_t private_bytes = 0;
};

// The process under test. With pid 0 nothing is known of it and no CPU or memory line is printed.
class Process {
 public:
  explicit Process(int pid) : root_("/proc/" + std::to_string(pid)), known_(pid > 0) {}

  bool known() const { return known_; }

  // The scheduler counts nanoseconds, but brings a running task up to date only when it stops or a
  // tick passes: exact only while the process waits. So the callers drain before they ask.
  CpuTime cpu() const {
    CpuTime cpu;
    if (!known_) { return cpu; }
    const std::string tasks = root_ + "/task";
    DIR* directory = opendir(tasks.c_str());
    if (directory == nullptr) { throw std::runtime_error("the broker process is gone"); }
    while (const dirent* entry = readdir(directory)) {
      if (entry->d_name[0] != '.') {
        int64_t ns = 0;
        std::ifstream(tasks + "/" + entry->d_name + "/schedstat") >> ns;
        cpu.total_ns += ns;
      }
    }
    closedir(directory);
    cpu.user_ns = user_ns();
    return cpu;
  }

  Memory memory() const {
    Memory memory;
    std::ifstream file(root_ + "/smaps_rollup");
    std::string line;
    while (known_ && std::getline(file, line)) {
      const size_t colon = line.find(':');
      if (colon == std::string::npos) { continue; }
      const std::string key = line.substr(0, colon);
      const int64_t bytes = std::strtoll(line.c_str() + colon + 1, nullptr, 10) * 1024;
      if (key == "Rss") {
        memory.rss_bytes = bytes;
      } else if (key == "Private_Clean" || key == "Private_Dirty") {
        memory.private_bytes += bytes;
      }
    }
    return memory;
  }

 private:
  // The name of the program is in parentheses and may hold blanks: count from the last one.
  int64_t user_ns() const {
    std::ifstream file(root_ + "/stat");
    std::string line;
    std::getline(file, line);
    const size_t end = line.rfind(')');
    if (end == std::string::npos) { return 0; }
    const char* at = line.c_str() + end + 1;
    for (int field = 0; field < 11; ++field) {
      at = std::strchr(at + 1, ' ');
      if (at == nullptr) { return 0; }
    }
    return std::strtoll(at, nullptr, 10) * (1'000'000'000 / sysconf(_SC_CLK_TCK));
  }

  std::string root_;
  bool known_;
};

[[gnu::format(printf, 1, 2)]] void report(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::fflush(stdout);
}

// What went wrong in one scenario. The first few are described, all are counted.
class Tally {
 public:
  uint64_t lost = 0;
  uint64_t duplicate = 0;
  uint64_t reordered = 0;
  uint64_t corrupt = 0;

  bool clean() const { return lost == 0 && duplicate == 0 && reordered == 0 && corrupt == 0; }

  [[gnu::format(printf, 2, 3)]] void describe(const char* format, ...) {
    if (++described_ > 10) { return; }
    va_list arguments;
    va_start(arguments, format);
    std::fputs("  violation: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputc('\n', stderr);
    va_end(arguments);
  }

 private:
  int described_ = 0;
};

// ---- packets -----------------------------------------------------------------------------------

enum class PacketType : uint8_t {
  connack = 2,
  publish = 3,
  puback = 4,
  pubrec = 5,
  pubrel = 6,
  pubcomp = 7,
  suback = 9,
  pingresp = 13,
};

struct Packet {
  uint8_t first = 0;
  const uint8_t* body = nullptr;
  size_t body_size = 0;
  size_t size = 0;

  PacketType type() const { return static_cast<PacketType>(first >> 4); }
  uint8_t flags() const { return first & 15; }
};

struct Publish {
  std::string_view topic;
  uint8_t qos = 0;
  bool duplicate = false;
  bool retain = false;
  uint16_t id = 0;
  const uint8_t* payload = nullptr;
  size_t payload_size = 0;
};

uint16_t get_u16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

uint32_t get_u32(const uint8_t* at) { return uint32_t{get_u16(at)} << 16 | get_u16(at + 2); }

void put_u16(Buffer& out, size_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}

void put_text(Buffer& out, std::string_view text) {
  put_u16(out, text.size());
  out.insert(out.end(), text.begin(), text.end());
}

void put_header(Buffer& out, uint8_t first, size_t body_size) {
  out.push_back(first);
  while (body_size >= 128) {
    out.push_back(static_cast<uint8_t>(body_size | 128));
    body_size >>= 7;
  }
  out.push_back(static_cast<uint8_t>(body_size));
}

void put_packet(Buffer& out, uint8_t first, const Buffer& body) {
  put_header(out, first, body.size());
  out.insert(out.end(), body.begin(), body.end());
}

void put_connect(Buffer& out, const Options& options, std::string_view client_id) {
  Buffer body;
  put_text(body, "MQTT");
  body.push_back(options.v5 ? 5 : 4);
  body.push_back(options.clean ? 2 : 0);
  put_u16(body, 0);  // no keep alive: an idle connection stays silent
  if (options.v5 && options.clean) {
    body.push_back(0);
  } else if (options.v5) {
    body.insert(body.end(), {5, 0x11, 0, 0, 255, 255});  // the session expires in 18 hours
  }
  put_text(body, client_id);
  put_packet(out, 0x10, body);
}

void put_ack(Buffer& out, uint8_t first, uint16_t id) {
  out.push_back(first);
  out.push_back(2);
  put_u16(out, id);
}

// Header and topic of a PUBLISH; the caller appends payload_size bytes.
void put_publish(Buffer& out, bool v5, const Publish& publish) {
  const size_t id_size = publish.qos > 0 ? 2 : 0;
  const size_t property_size = v5 ? 1 : 0;
  const unsigned flags = (publish.qos * 2u) | (publish.retain ? 1u : 0u);
  put_header(out, static_cast<uint8_t>(0x30 | flags),
             2 + publish.topic.size() + id_size + property_size + publish.payload_size);
  put_text(out, publish.topic);
  if (publish.qos > 0) { put_u16(out, publish.id); }
  if (v5) { out.push_back(0); }
}

// Reads a variable byte integer, its shortest form only [MQTT-1.5.5-1]. Returns the bytes taken,
// 0 when more are needed, -1 when it is malformed.
int get_length(const uint8_t* at, size_t size, size_t& value) {
  value = 0;
  for (size_t index = 0; index < 4; ++index) {
    if (index == size) { return 0; }
    value |= size_t{at[index] & 127u} << (7 * index);
    if (at[index] < 128) { return index > 0 && at[index] == 0 ? -1 : static_cast<int>(index) + 1; }
  }
  return -1;
}

// False when the bytes do not hold a whole packet yet.
bool next_packet(const uint8_t* at, size_t size, Packet& packet) {
  if (size < 2) { return false; }
  size_t body_size = 0;
  const int length_size = get_length(at + 1, size - 1, body_size);
  if (length_size < 0) { throw std::runtime_error("malformed remaining length from the broker"); }
  const size_t header_size = 1 + static_cast<size_t>(length_size);
  if (length_size == 0 || size - header_size < body_size) { return false; }
  packet = Packet{at[0], at + header_size, body_size, header_size + body_size};
  return true;
}

// False when malformed. Properties are refused as corrupt: no message here is sent with any.
bool parse_publish(const Packet& packet, bool v5, Publish& publish) {
  publish.qos = (packet.first >> 1) & 3;
  publish.duplicate = (packet.first & 8) != 0;
  publish.retain = (packet.first & 1) != 0;
  if (packet.body_size < 2 || publish.qos == 3) { return false; }
  size_t at = 2 + size_t{get_u16(packet.body)};
  const size_t fixed = at + (publish.qos > 0 ? 2 : 0) + (v5 ? 1 : 0);
  if (packet.body_size < fixed) { return false; }
  publish.topic = {reinterpret_cast<const char*>(packet.body) + 2, at - 2};
  if (publish.qos > 0) {
    publish.id = get_u16(packet.body + at);
    at += 2;
    if (publish.id == 0) { return false; }
  }
  if (v5 && packet.body[at++] != 0) { return false; }
  publish.payload = packet.body + at;
  publish.payload_size = packet.body_size - at;
  return true;
}

// PUBACK, PUBREC, PUBREL and PUBCOMP, whose reason, if there is one, must be a success. Returns the
// packet identifier, 0 when the packet is wrong. 0x10 (no matching subscribers) is a success.
uint16_t parse_ack(const Packet& packet, bool v5) {
  const uint8_t flags = packet.type() == PacketType::pubrel ? 2 : 0;
  const bool size_valid = packet.body_size == 2 || (v5 && packet.body_size > 2);
  if (packet.flags() != flags || !size_valid) { return 0; }
  if (packet.body_size > 2 && packet.body[2] >= 0x80) { return 0; }
  return get_u16(packet.body);
}

// ---- payloads ----------------------------------------------------------------------------------

// {publisher u32, sequence u64} and then a piece of one long random pattern whose start depends on
// both, so that bytes moved, swapped between messages or cut do not go unseen.
class Payloads {
 public:
  static constexpr size_t header_size = 12;

  explicit Payloads(size_t size_max) : pattern_(size_max + shift_max) {
    uint32_t random = 12345;
    for (uint8_t& byte : pattern_) {
      random = random * 1664525 + 1013904223;
      byte = static_cast<uint8_t>(random >> 24);
    }
  }

  void put(Buffer& out, uint32_t publisher, uint64_t sequence, size_t size) const {
    put_u16(out, publisher >> 16);
    put_u16(out, publisher & 0xffff);
    for (int shift = 48; shift >= 0; shift -= 16) { put_u16(out, (sequence >> shift) & 0xffff); }
    const uint8_t* from = piece(publisher, sequence);
    out.insert(out.end(), from, from + (size - header_size));
  }

  bool get(const Publish& publish, size_t size, uint32_t& publisher, uint64_t& sequence) const {
    if (publish.payload_size != size) { return false; }
    publisher = get_u32(publish.payload);
    sequence = uint64_t{get_u32(publish.payload + 4)} << 32 | get_u32(publish.payload + 8);
    return std::memcmp(publish.payload + header_size, piece(publisher, sequence),
                       size - header_size) == 0;
  }

 private:
  static constexpr size_t shift_max = 1021;

  const uint8_t* piece(uint32_t publisher, uint64_t sequence) const {
    return pattern_.data() + (sequence * 13 + uint64_t{publisher} * 101) % shift_max;
  }

  Buffer pattern_;
};

// The next sequence number expected on one path from a publisher to a subscriber.
class Expected {
 public:
  uint64_t next() const { return next_; }

  // A hole counts as a loss until something fills it; then it is a reordering.
  void receive(uint64_t sequence, Tally& tally) {
    if (sequence >= next_) {
      if (sequence > next_) {
        tally.describe("%" PRIu64 " messages missing before %" PRIu64, sequence - next_, sequence);
        tally.lost += sequence - next_;
      }
      for (; next_ < sequence; ++next_) { missing_.insert(next_); }
      ++next_;
    } else if (missing_.erase(sequence) == 1) {
      --tally.lost;
      ++tally.reordered;
      tally.describe("%" PRIu64 " came after %" PRIu64, sequence, next_ - 1);
    } else {
      ++tally.duplicate;
      tally.describe("%" PRIu64 " came again", sequence);
    }
  }

 private:
  uint64_t next_ = 0;
  std::set<uint64_t> missing_;
};

// ---- connections -------------------------------------------------------------------------------

struct Client {
  int fd = -1;
  uint32_t index = 0;       // of the connection
  uint32_t role_index = 0;  // of the publisher or subscriber that the scenario keeps for it
  bool publishes = false;
  bool connected = false;
  bool write_armed = false;
  uint32_t subacks_due = 0;
  uint32_t pongs_due = 0;
  uint16_t receive_maximum = 65535;
  uint16_t subscribe_id = 0;
  Buffer tx;       // what the socket did not take
  Buffer partial;  // the packet whose end has not come
  std::unique_ptr<Tls> tls;
  WebSocket web_socket;
};

class Handler {
 public:
  virtual ~Handler() = default;
  virtual void on_packet(Client& client, const Packet& packet) = 0;
};

// All connections of one scenario. Does the handshakes itself and gives the rest to the handler.
class Engine {
 public:
  explicit Engine(const Options& options) : options_(options), rx_(read_size * 2) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) { throw std::runtime_error("epoll_create1 failed"); }
  }

  ~Engine() {
    for (const auto& client : clients_) { close(client->fd); }
    close(epoll_);
  }

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Options& options() const { return options_; }
  bool v5() const { return options_.v5; }
  size_t client_count() const { return clients_.size(); }
  Client& client(size_t index) { return *clients_[index]; }

  // Connects and sends CONNECT; wait_connected() collects the answers. The source addresses differ
  // so that tens of thousands of connections, run after run, do not use up the local ports.
  Client& open(const std::string& client_id) {
    auto client = std::make_unique<Client>();
    client->index = static_cast<uint32_t>(clients_.size());
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0) {
      throw std::runtime_error(std::string("socket: ") + std::strerror(errno));
    }
    const int on = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    sockaddr_in source{};
    source.sin_family = AF_INET;
    source.sin_addr.s_addr =
        htonl(0x7f000001u | (1u + static_cast<uint32_t>(getpid()) % 250) << 16 |
              client->index / 1000 << 8);
    sockaddr_in target{};
    target.sin_family = AF_INET;
    target.sin_port = htons(static_cast<uint16_t>(options_.port));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(client->fd, reinterpret_cast<sockaddr*>(&source), sizeof source) != 0 ||
        connect(client->fd, reinterpret_cast<sockaddr*>(&target), sizeof target) != 0) {
      close(client->fd);
      throw std::runtime_error(std::string("connect: ") + std::strerror(errno));
    }
    add_layers(*client);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = client->index;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, client->fd, &event);
    clients_.push_back(std::move(client));
    ++answers_due_;
    Buffer packet;
    put_connect(packet, options_, client_id);
    send(*clients_.back(), packet);
    return *clients_.back();
  }

  // One SUBSCRIBE. Every filter must be granted exactly `qos`.
  void subscribe(Client& client, const std::vector<std::string>& filters, uint8_t qos) {
    Buffer body;
    put_u16(body, ++client.subscribe_id);
    if (v5()) { body.push_back(0); }
    for (const std::string& filter : filters) {
      put_text(body, filter);
      body.push_back(qos);
    }
    granted_qos_ = qos;
    Buffer packet;
    put_packet(packet, 0x82, body);
    ++client.subacks_due;
    ++answers_due_;
    send(client, packet);
  }

  void ping(Client& client) {
    ++client.pongs_due;
    ++answers_due_;
    send(client, Buffer{0xc0, 0});
  }

  // Whole packets.
  void send(Client& client, const Buffer& packets) {
    const Buffer& bytes = options_.ws ? frame_each(client, packets) : packets;
    size_t taken = 0;
    if (client.tx.empty()) { taken = transmit(client, bytes.data(), bytes.size()); }
    client.tx.insert(client.tx.end(), bytes.begin() + static_cast<ptrdiff_t>(taken), bytes.end());
    arm(client);
  }

  void turn(int timeout_ms, Handler& handler) {
    epoll_event events[256];
    const int count = epoll_wait(epoll_, events, 256, timeout_ms);
    for (int index = 0; index < count; ++index) {
      Client& client = *clients_[events[index].data.u32];
      if ((events[index].events & EPOLLOUT) != 0) {
        const size_t taken = transmit(client, client.tx.data(), client.tx.size());
        client.tx.erase(client.tx.begin(), client.tx.begin() + static_cast<ptrdiff_t>(taken));
        arm(client);
      }
      if ((events[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        receive(client, handler);
      }
    }
  }

  // Turns until done() holds. `progress` is any number that changes as long as things move on.
  void run_until(Handler& handler, const std::function<bool()>& done,
                 const std::function<uint64_t()>& progress) {
    uint64_t last = progress();
    int64_t deadline_ns = now_ns() + stall_ns();
    while (!done()) {
      turn(100, handler);
      const uint64_t current = progress();
      if (current != last) {
        last = current;
        deadline_ns = now_ns() + stall_ns();
      } else if (now_ns() > deadline_ns) {
        throw std::runtime_error("stall: nothing moved for " + std::to_string(options_.stall_s) +
                                 " s");
      }
    }
  }

  // Waits for every CONNACK, SUBACK and PINGRESP that is due.
  void settle(Handler& handler) {
    run_until(
        handler, [this] { return answers_due_ == 0; }, [this] { return answers_due_; });
  }

  // Lets the broker finish what no answer tells of, and lets a message too many arrive.
  void linger(Handler& handler, int milliseconds) {
    const int64_t end_ns = now_ns() + int64_t{milliseconds} * 1'000'000;
    while (now_ns() < end_ns) { turn(5, handler); }
  }

  void disconnect_all() {
    for (const auto& client : clients_) { send(*client, Buffer{0xe0, 0}); }
  }

  // Answers to what is being read; sent in one write when the read is done.
  Buffer& acks() { return acks_; }

  int64_t stall_ns() const { return static_cast<int64_t>(options_.stall_s * 1e9); }

 private:
  static constexpr size_t read_size = size_t{256} * 1024;

  // Handshakes block, for so long as a stall lasts at most; then nothing does.
  void add_layers(Client& client) const {
    const timeval limit{static_cast<time_t>(options_.stall_s) + 1, 0};
    setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (options_.tls) { client.tls = std::make_unique<Tls>(client.fd); }
    if (options_.ws) {
      const size_t size = sizeof WebSocket::request - 1;
      std::string answer;
      uint8_t byte = 0;
      if (transmit(client, reinterpret_cast<const uint8_t*>(WebSocket::request), size) == size) {
        while (answer.find("\r\n\r\n") == std::string::npos && read(client, &byte, 1, 0) == 1) {
          answer.push_back(static_cast<char>(byte));
        }
      }
      WebSocket::check_answer(answer);
    }
    fcntl(client.fd, F_SETFL, fcntl(client.fd, F_GETFL) | O_NONBLOCK);
  }

  const Buffer& frame_each(Client& client, const Buffer& packets) {
    framed_.clear();
    Packet packet;
    for (size_t at = 0; next_packet(packets.data() + at, packets.size() - at, packet);
         at += packet.size) {
      client.web_socket.frame(framed_, packets.data() + at, packet.size);
    }
    return framed_;
  }

  static ssize_t read(Client& client, uint8_t* target, size_t size, int flags) {
    return client.tls ? client.tls->receive(target, size) : recv(client.fd, target, size, flags);
  }

  static size_t transmit(Client& client, const uint8_t* data, size_t size) {
    const ssize_t taken = client.tls ? client.tls->transmit(data, size)
                                     : ::send(client.fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken >= 0) { return static_cast<size_t>(taken); }
    if (errno != EAGAIN && errno != EINTR) {
      throw std::runtime_error(std::string("send: ") + std::strerror(errno));
    }
    return 0;
  }

  void arm(Client& client) {
    const bool wanted = !client.tx.empty();
    if (wanted == client.write_armed) { return; }
    client.write_armed = wanted;
    epoll_event event{};
    event.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.u32 = client.index;
    epoll_ctl(epoll_, EPOLL_CTL_MOD, client.fd, &event);
  }

  // The unfinished packet of last time goes in front of what is read now.
  void receive(Client& client, Handler& handler) {
    size_t size = client.partial.size();
    if (rx_.size() < size + read_size) { rx_.resize(size + read_size); }
    std::copy(client.partial.begin(), client.partial.end(), rx_.begin());
    const ssize_t got = read(client, rx_.data() + size, read_size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) { return; }
    if (got <= 0) {
      throw std::runtime_error("the broker closed connection " + std::to_string(client.index));
    }
    const auto count = static_cast<size_t>(got);
    size += options_.ws ? client.web_socket.unframe(rx_.data() + size, count) : count;
    size_t at = 0;
    Packet packet;
    while (next_packet(rx_.data() + at, size - at, packet)) {
      at += packet.size;
      on_packet(client, packet, handler);
    }
    client.partial.assign(rx_.begin() + static_cast<ptrdiff_t>(at),
                          rx_.begin() + static_cast<ptrdiff_t>(size));
    if (!acks_.empty()) {
      send(client, acks_);
      acks_.clear();
    }
  }

  void on_packet(Client& client, const Packet& packet, Handler& handler) {
    if (!client.connected) {
      on_connack(client, packet);
    } else if (packet.type() == PacketType::suback) {
      on_suback(client, packet);
    } else if (packet.type() == PacketType::pingresp) {
      if (packet.first != 0xd0 || packet.body_size != 0 || client.pongs_due == 0) {
        throw std::runtime_error("unexpected PINGRESP");
      }
      --client.pongs_due;
      --answers_due_;
    } else {
      handler.on_packet(client, packet);
    }
  }

  void on_connack(Client& client, const Packet& packet) {
    const bool valid = packet.first == 0x20 && packet.body_size >= 2 && packet.body[0] == 0 &&
                       packet.body[1] == 0 && (v5() || packet.body_size == 2);
    if (!valid) { throw std::runtime_error("CONNACK refused or malformed"); }
    client.connected = true;
    --answers_due_;
    if (v5()) { read_limits(client, packet); }
  }

  // Finds Receive Maximum among the properties of a CONNACK.
  static void read_limits(Client& client, const Packet& packet) {
    size_t length = 0;
    const int length_size = get_length(packet.body + 2, packet.body_size - 2, length);
    if (length_size <= 0 || 2 + static_cast<size_t>(length_size) + length != packet.body_size) {
      throw std::runtime_error("CONNACK: wrong property length");
    }
    const uint8_t* at = packet.body + 2 + length_size;
    const uint8_t* const end = at + length;
    while (at < end) {
      const uint8_t property = *at;
      size_t size = 0;
      if (property == 0x24 || property == 0x25 || (property >= 0x28 && property <= 0x2a)) {
        size = 1;
      } else if (property == 0x21 || property == 0x22 || property == 0x13) {
        size = 2;
      } else if (property == 0x11 || property == 0x27) {
        size = 4;
      } else if (end - at >= 3) {
        size = 2 + size_t{get_u16(at + 1)};
      }
      if (size == 0 || static_cast<size_t>(end - at) < 1 + size) {
        throw std::runtime_error("CONNACK: malformed properties");
      }
      if (property == 0x21) { client.receive_maximum = get_u16(at + 1); }
      at += 1 + size;
    }
  }

  void on_suback(Client& client, const Packet& packet) {
    const size_t codes_at = v5() ? 3 : 2;
    if (packet.first != 0x90 || packet.body_size <= codes_at || client.subacks_due == 0 ||
        (v5() && packet.body[2] != 0)) {
      throw std::runtime_error("SUBACK unexpected or malformed");
    }
    for (size_t at = codes_at; at < packet.body_size; ++at) {
      if (packet.body[at] != granted_qos_) {
        throw std::runtime_error("subscription refused with code " +
                                 std::to_string(packet.body[at]));
      }
    }
    --client.subacks_due;
    --answers_due_;
  }

  Options options_;
  int epoll_ = -1;
  uint8_t granted_qos_ = 0;
  uint64_t answers_due_ = 0;
  std::vector<std::unique_ptr<Client>> clients_;
  Buffer rx_;
  Buffer acks_;
  Buffer framed_;
};

// A scenario in which nothing may arrive.
class Silence : public Handler {
 public:
  explicit Silence(Tally& tally) : tally_(tally) {}
  void on_packet(Client&, const Packet& packet) override {
    ++tally_.corrupt;
    tally_.describe("unexpected packet, first byte %u", packet.first);
  }

 private:
  Tally& tally_;
};

// CPU time between two moments at which the broker had nothing left to do.
class Meter {
 public:
  explicit Meter(const Process& process)
      : process_(process), cpu_(process.cpu()), start_ns_(now_ns()) {}

  double elapsed_s() const { return static_cast<double>(now_ns() - start_ns_) / 1e9; }

  void report_per(const char* name, uint64_t count, const char* unit) const {
    if (!process_.known() || count == 0) { return; }
    const CpuTime cpu = process_.cpu();
    const double scale = 1e-3 / static_cast<double>(count);
    report("%s_cpu %.4f us/%s\n", name, static_cast<double>(cpu.total_ns - cpu_.total_ns) * scale,
           unit);
    report("%s_user %.4f us/%s\n", name, static_cast<double>(cpu.user_ns - cpu_.user_ns) * scale,
           unit);
  }

 private:
  const Process& process_;
  CpuTime cpu_;
  int64_t start_ns_;
};

void report_memory(const char* name, const Process& process, const Memory& before, uint64_t count) {
  if (!process.known() || count == 0) { return; }
  const Memory after = process.memory();
  report(
      "%s_private %.1f B\n", name,
      static_cast<double>(after.private_bytes - before.private_bytes) / static_cast<double>(count));
  report("%s_rss %.1f B\n", name,
         static_cast<double>(after.rss_bytes - before.rss_bytes) / static_cast<double>(count));
}

// ---- pairs, fan-in, fan-out, latency -----------------------------------------------------------

struct TrafficSpec {
  const char* name;
  uint32_t groups;
  uint32_t publishers;   // of each group
  uint32_t subscribers;  // of each group; each gets everything published in its group
  uint8_t qos;
  uint32_t payload_size;
  uint32_t window;
  uint32_t batch;
  uint32_t rate;  // messages a second; 0: as fast as the window lets
};

constexpr TrafficSpec traffic_specs[] = {
    {"pairs0", 10, 1, 1, 0, 64, 64, 32, 0},     {"pairs1", 10, 1, 1, 1, 64, 16, 8, 0},
    {"pairs2", 10, 1, 1, 2, 64, 16, 8, 0},      {"pairs0w1", 10, 1, 1, 0, 64, 1, 1, 0},
    {"pairs0k4", 10, 1, 1, 0, 4096, 32, 16, 0}, {"pairs0k64", 10, 1, 1, 0, 65000, 4, 1, 0},
    {"fanin0", 1, 50, 1, 0, 64, 16, 16, 0},     {"fanout0", 1, 1, 100, 0, 64, 16, 16, 0},
    {"fanout1", 1, 1, 100, 1, 64, 16, 16, 0},   {"fanout2", 1, 1, 100, 2, 64, 16, 16, 0},
    {"lat0", 1, 1, 1, 0, 64, 4096, 1, 5000},
};

struct Publisher {
  Client* client = nullptr;
  std::string topic;
  uint32_t group = 0;
  uint32_t window = 0;
  uint32_t batch = 0;
  uint64_t sent = 0;
  uint64_t recorded = 0;      // PUBRECs seen
  uint64_t acknowledged = 0;  // PUBACKs or PUBCOMPs seen
  bool moved = true;          // something came that may open its window
};

struct Subscriber {
  Client* client = nullptr;
  uint32_t group = 0;
  std::vector<Expected> expected;  // by publisher of the group
  std::vector<bool> unreleased;    // QoS 2 packet identifiers between PUBLISH and PUBREL
  uint64_t unreleased_count = 0;
};

class Traffic : public Handler {
 public:
  Traffic(Engine& engine, const TrafficSpec& spec, Tally& tally)
      : engine_(engine), spec_(spec), tally_(tally), payloads_(spec.payload_size) {}

  uint64_t delivered() const { return delivered_; }
  const std::vector<int64_t>& latencies_ns() const { return latencies_ns_; }

  // Subscribers first: the relay forwards only to those it knows.
  void set_up() {
    for (uint32_t group = 0; group < spec_.groups; ++group) {
      for (uint32_t index = 0; index < spec_.subscribers; ++index) { add_subscriber(group); }
    }
    engine_.settle(*this);
    for (Subscriber& subscriber : subscribers_) {
      engine_.subscribe(*subscriber.client, {filter(subscriber.group)}, spec_.qos);
    }
    engine_.settle(*this);
    for (uint32_t group = 0; group < spec_.groups; ++group) {
      for (uint32_t index = 0; index < spec_.publishers; ++index) { add_publisher(group); }
    }
    engine_.settle(*this);
    for (Publisher& publisher : publishers_) { limit_window(publisher); }
  }

  // Publishes for so long, or until that many deliveries are on their way, then waits for all.
  void run(double seconds, uint64_t deliveries) {
    const int64_t start_ns = now_ns();
    const int64_t end_ns = start_ns + static_cast<int64_t>(seconds * 1e9);
    const uint64_t fan_out = spec_.subscribers;
    quota_ =
        deliveries == 0 ? UINT64_MAX : published_ + std::max<uint64_t>(1, deliveries / fan_out);
    for (Publisher& publisher : publishers_) { publisher.moved = true; }
    uint64_t last = 0;
    int64_t stall_at_ns = start_ns + engine_.stall_ns();
    for (;;) {
      const int64_t now = now_ns();
      if (deliveries == 0 ? now >= end_ns : published_ >= quota_) { break; }
      if (delivered_ != last) {
        last = delivered_;
        stall_at_ns = now + engine_.stall_ns();
      } else if (now > stall_at_ns) {
        break;  // drain() finds the same and says what is missing
      }
      if (spec_.rate == 0) {
        publish_all();
        engine_.turn(10, *this);
      } else {
        publish_at_rate(now - start_ns);
        engine_.turn(0, *this);
      }
    }
    paced_ = 0;
    drain();
  }

  void on_packet(Client& client, const Packet& packet) override {
    if (client.publishes) {
      on_publisher_packet(publishers_[client.role_index], packet);
    } else if (packet.type() == PacketType::publish) {
      on_publish(subscribers_[client.role_index], packet);
    } else if (packet.type() == PacketType::pubrel && spec_.qos == 2) {
      on_pubrel(subscribers_[client.role_index], packet);
    } else {
      corrupt("unexpected packet at a subscriber", packet.first);
    }
  }

 private:
  std::string filter(uint32_t group) const {
    const std::string base = std::string("bench/") + spec_.name + "/" + std::to_string(group);
    return base + (spec_.publishers > 1 ? "/+" : "/0");
  }

  // The relay reads the route from the client identifier: role, group, number.
  std::string client_id(const char* role, uint32_t group) const {
    return std::string(role) + "-" + std::to_string(group) + "-" +
           std::to_string(engine_.client_count()) + "-" + spec_.name;
  }

  void add_subscriber(uint32_t group) {
    Subscriber subscriber;
    subscriber.client = &engine_.open(client_id("sub", group));
    subscriber.client->role_index = static_cast<uint32_t>(subscribers_.size());
    subscriber.group = group;
    subscriber.expected.resize(spec_.publishers);
    subscriber.unreleased.resize(65536);
    subscribers_.push_back(std::move(subscriber));
  }

  void add_publisher(uint32_t group) {
    Publisher publisher;
    publisher.client = &engine_.open(client_id("pub", group));
    publisher.client->publishes = true;
    publisher.client->role_index = static_cast<uint32_t>(publishers_.size());
    publisher.group = group;
    publisher.topic = std::string("bench/") + spec_.name + "/" + std::to_string(group) + "/" +
                      std::to_string(publishers_.size() % spec_.publishers);
    publishers_.push_back(std::move(publisher));
  }

  // A v5 broker may allow fewer QoS 1 and 2 messages under way than the scenario wants.
  void limit_window(Publisher& publisher) const {
    publisher.window = spec_.window;
    publisher.batch = spec_.batch;
    if (spec_.qos > 0) {
      publisher.window = std::min<uint32_t>(spec_.window, publisher.client->receive_maximum);
      publisher.batch = std::min(spec_.batch, publisher.window);
    }
  }

  // Messages of the publisher that have arrived everywhere and are acknowledged.
  uint64_t finished(const Publisher& publisher) const {
    const size_t index = publisher.client->role_index;
    uint64_t least = spec_.qos > 0 ? publisher.acknowledged : publisher.sent;
    const size_t first = size_t{publisher.group} * spec_.subscribers;
    for (size_t at = first; at < first + spec_.subscribers; ++at) {
      least = std::min(least, subscribers_[at].expected[index % spec_.publishers].next());
    }
    return least;
  }

  void publish_all() {
    for (Publisher& publisher : publishers_) {
      if (!publisher.moved) { continue; }
      publisher.moved = false;
      const uint64_t limit = finished(publisher) + publisher.window;
      while (publisher.sent + publisher.batch <= limit && published_ < quota_) {
        publish_batch(publisher);
      }
    }
  }

  void publish_at_rate(int64_t elapsed_ns) {
    const auto due = static_cast<uint64_t>(elapsed_ns) * spec_.rate / 1'000'000'000;
    Publisher& publisher = publishers_[0];
    while (paced_ < due && publisher.sent - finished(publisher) < publisher.window) {
      ++paced_;
      sent_at_ns_.push_back(now_ns());
      publish_batch(publisher);
    }
  }

  void publish_batch(Publisher& publisher) {
    out_.clear();
    Publish publish;
    publish.topic = publisher.topic;
    publish.qos = spec_.qos;
    publish.payload_size = spec_.payload_size;
    for (uint32_t count = 0; count < publisher.batch; ++count) {
      publish.id = packet_id(publisher.sent);
      put_publish(out_, engine_.v5(), publish);
      payloads_.put(out_, publisher.client->role_index, publisher.sent, spec_.payload_size);
      ++publisher.sent;
    }
    published_ += publisher.batch;
    engine_.send(*publisher.client, out_);
  }

  static uint16_t packet_id(uint64_t sequence) {
    return static_cast<uint16_t>(sequence % 65535 + 1);
  }

  void drain() {
    const auto unfinished = [this] {
      uint64_t count = 0;
      for (const Publisher& publisher : publishers_) {
        count += publisher.sent - finished(publisher);
      }
      for (const Subscriber& subscriber : subscribers_) { count += subscriber.unreleased_count; }
      return count;
    };
    const auto progress = [this] { return delivered_ + handshakes_; };
    try {
      engine_.run_until(
          *this, [&] { return unfinished() == 0; }, progress);
    } catch (const std::runtime_error&) {
      count_missing();
      throw;
    }
  }

  void count_missing() {
    for (const Subscriber& subscriber : subscribers_) {
      for (uint32_t index = 0; index < spec_.publishers; ++index) {
        const size_t publisher = size_t{subscriber.group} * spec_.publishers + index;
        const uint64_t missing = publishers_[publisher].sent - subscriber.expected[index].next();
        tally_.lost += missing;
        if (missing > 0) {
          tally_.describe("subscriber %u got %" PRIu64 " of %" PRIu64 " of publisher %zu",
                          subscriber.client->role_index, subscriber.expected[index].next(),
                          publishers_[publisher].sent, publisher);
        }
      }
    }
    for (const Publisher& publisher : publishers_) {
      if (spec_.qos > 0 && publisher.acknowledged < publisher.sent) {
        tally_.describe("publisher %u: %" PRIu64 " of %" PRIu64 " acknowledged",
                        publisher.client->role_index, publisher.acknowledged, publisher.sent);
      }
    }
  }

  void on_publish(Subscriber& subscriber, const Packet& packet) {
    Publish publish;
    uint32_t source = 0;
    uint64_t sequence = 0;
    if (!parse_publish(packet, engine_.v5(), publish) || publish.qos != spec_.qos ||
        publish.duplicate || publish.retain ||
        !payloads_.get(publish, spec_.payload_size, source, sequence)) {
      corrupt("wrong PUBLISH, first byte", packet.first);
      return;
    }
    if (source >= publishers_.size() || publishers_[source].group != subscriber.group ||
        publishers_[source].topic != publish.topic || sequence >= publishers_[source].sent) {
      corrupt("message of another topic, publisher", source);
      return;
    }
    if (publish.qos > 0) { acknowledge(subscriber, publish); }
    subscriber.expected[source % spec_.publishers].receive(sequence, tally_);
    publishers_[source].moved = true;
    ++delivered_;
    if (spec_.rate != 0 && sequence < sent_at_ns_.size()) {
      latencies_ns_.push_back(now_ns() - sent_at_ns_[sequence]);
    }
  }

  void acknowledge(Subscriber& subscriber, const Publish& publish) {
    put_ack(engine_.acks(), publish.qos == 1 ? 0x40 : 0x50, publish.id);
    if (publish.qos == 2) {
      if (subscriber.unreleased[publish.id]) {
        corrupt("packet identifier used again before PUBREL", publish.id);
        return;
      }
      subscriber.unreleased[publish.id] = true;
      ++subscriber.unreleased_count;
    }
  }

  void on_pubrel(Subscriber& subscriber, const Packet& packet) {
    const uint16_t id = parse_ack(packet, engine_.v5());
    if (id == 0 || !subscriber.unreleased[id]) {
      corrupt("PUBREL wrong or without its PUBLISH, identifier", id);
      return;
    }
    subscriber.unreleased[id] = false;
    --subscriber.unreleased_count;
    ++handshakes_;
    put_ack(engine_.acks(), 0x70, id);
  }

  // Acknowledgements come in the order of the messages [MQTT-4.6.0-2, -3, -4].
  void on_publisher_packet(Publisher& publisher, const Packet& packet) {
    const uint16_t id = parse_ack(packet, engine_.v5());
    const PacketType last = spec_.qos == 2 ? PacketType::pubcomp : PacketType::puback;
    const bool record = spec_.qos == 2 && packet.type() == PacketType::pubrec;
    const bool expected = record || (spec_.qos > 0 && packet.type() == last);
    uint64_t& count = record ? publisher.recorded : publisher.acknowledged;
    const uint64_t limit = !record && spec_.qos == 2 ? publisher.recorded : publisher.sent;
    if (!expected || id == 0 || count >= limit) {
      corrupt("unexpected packet at a publisher, first byte", packet.first);
      return;
    }
    if (id != packet_id(count)) {
      ++tally_.reordered;
      tally_.describe("acknowledgement %u of %u instead of %u", packet.first, id, packet_id(count));
    }
    ++count;
    ++handshakes_;
    publisher.moved = true;
    if (record) { put_ack(engine_.acks(), 0x62, id); }
  }

  void corrupt(const char* what, unsigned detail) {
    ++tally_.corrupt;
    tally_.describe("%s %u", what, detail);
  }

  Engine& engine_;
  const TrafficSpec& spec_;
  Tally& tally_;
  Payloads payloads_;
  std::vector<Publisher> publishers_;
  std::vector<Subscriber> subscribers_;
  std::vector<int64_t> sent_at_ns_;
  std::vector<int64_t> latencies_ns_;
  Buffer out_;
  uint64_t published_ = 0;
  uint64_t quota_ = 0;
  uint64_t paced_ = 0;
  uint64_t delivered_ = 0;
  uint64_t handshakes_ = 0;
};

void report_latency(const char* name, std::vector<int64_t> latencies_ns) {
  if (latencies_ns.empty()) { return; }
  std::sort(latencies_ns.begin(), latencies_ns.end());
  const auto at = [&](double share) {
    const auto index = static_cast<size_t>(share * static_cast<double>(latencies_ns.size() - 1));
    return static_cast<double>(latencies_ns[index]) / 1e3;
  };
  report("%s_p50 %.1f us\n%s_p99 %.1f us\n", name, at(0.5), name, at(0.99));
}

void run_traffic(const Options& options, const TrafficSpec& spec, Tally& tally) {
  const Process process(options.pid);
  Engine engine(options);
  Traffic traffic(engine, spec, tally);
  traffic.set_up();
  // With --messages whoever counts instructions or calls wants no traffic but this.
  if (options.messages == 0 && spec.rate == 0) {
    traffic.run(options.seconds / 10, 0);
    engine.linger(traffic, 20);
  }
  const uint64_t before = traffic.delivered();
  const Meter meter(process);
  traffic.run(options.seconds, options.messages);
  const double elapsed_s = meter.elapsed_s();
  engine.linger(traffic, 20);
  const uint64_t count = traffic.delivered() - before;
  meter.report_per(spec.name, count, "msg");
  report("%s_rate %.0f msg/s\n", spec.name, static_cast<double>(count) / elapsed_s);
  report("%s_delivered %" PRIu64 " msg\n", spec.name, count);
  report_latency(spec.name, traffic.latencies_ns());
  engine.linger(traffic, 50);
  engine.disconnect_all();
}

// ---- many subscriptions ------------------------------------------------------------------------

// Subscription i belongs to client i % clients. Every SUBSCRIBE carries up to 100 filters.
void subscribe_many(Engine& engine, Handler& handler, uint64_t count,
                    const std::function<std::string(uint64_t)>& filter) {
  const uint64_t clients = engine.client_count();
  for (uint64_t first = 0; first < count; first += 100 * clients) {
    for (uint64_t owner = 0; owner < clients; ++owner) {
      std::vector<std::string> filters;
      for (uint64_t row = 0; row < 100; ++row) {
        const uint64_t index = first + row * clients + owner;
        if (index < count) { filters.push_back(filter(index)); }
      }
      if (!filters.empty()) { engine.subscribe(engine.client(owner), filters, 0); }
    }
    engine.settle(handler);
  }
}

void open_many(Engine& engine, Handler& handler, uint64_t count, const char* role) {
  for (uint64_t index = 0; index < count; ++index) {
    engine.open(std::string(role) + "-" + std::to_string(index));
    if (index % 50 == 49) {
      engine.settle(handler);  // no more at once than a short listen queue holds
    }
  }
  engine.settle(handler);
}

// N wildcard filters over 100 clients. One publisher; every second message matches exactly one
// filter, chosen at random, the others none.
class Wildcards : public Handler {
 public:
  Wildcards(Engine& engine, uint64_t filter_count, Tally& tally)
      : engine_(engine),
        filter_count_(filter_count),
        tally_(tally),
        payloads_(payload_size),
        expected_(client_count) {}

  static constexpr uint64_t client_count = 100;

  void set_up(const char* name) {
    const Process process(engine_.options().pid);
    open_many(engine_, *this, client_count, "sub-0");
    const Memory memory = process.memory();
    const Meter meter(process);
    subscribe_many(engine_, *this, filter_count_, filter);
    meter.report_per((std::string(name) + "_subscribe").c_str(), filter_count_, "sub");
    report_memory((std::string(name) + "_sub").c_str(), process, memory, filter_count_);
    publisher_ = &engine_.open("pub-0");
    publisher_->publishes = true;
    engine_.settle(*this);
  }

  // For so long, or so many messages. Returns the number of messages published.
  uint64_t run(double seconds, uint64_t messages) {
    const uint64_t before = sent_;
    const int64_t end_ns = now_ns() + static_cast<int64_t>(seconds * 1e9);
    const auto progress = [this] { return received_; };
    while (messages == 0 ? now_ns() < end_ns : sent_ - before < messages) {
      publish_batch();
      engine_.run_until(
          *this, [this] { return hits_ - received_ <= batch / 2; }, progress);
    }
    engine_.ping(*publisher_);
    engine_.settle(*this);
    engine_.run_until(
        *this, [this] { return hits_ == received_; }, progress);
    engine_.linger(*this, 20);
    return sent_ - before;
  }

  void on_packet(Client& client, const Packet& packet) override {
    Publish publish;
    uint32_t source = 0;
    uint64_t sequence = 0;
    if (client.publishes || packet.type() != PacketType::publish ||
        !parse_publish(packet, engine_.v5(), publish) || (packet.first & 15) != 0 ||
        !payloads_.get(publish, payload_size, source, sequence)) {
      ++tally_.corrupt;
      tally_.describe("wrong packet, first byte %u", packet.first);
      return;
    }
    std::deque<uint64_t>& expected = expected_[client.index];
    const auto found = std::find(expected.begin(), expected.end(), sequence);
    if (found == expected.end() || topic(sequence) != publish.topic) {
      ++tally_.duplicate;
      tally_.describe("message %" PRIu64 " not due at client %u", sequence, client.index);
      return;
    }
    if (found != expected.begin()) {
      ++tally_.reordered;
      tally_.describe("message %" PRIu64 " before %" PRIu64, sequence, expected.front());
    }
    expected.erase(found);
    ++received_;
  }

  void count_missing() { tally_.lost += hits_ - received_; }

 private:
  static constexpr uint32_t payload_size = 64;
  static constexpr uint32_t batch = 32;

  // Half with '+', half with '#': both kinds of step in the index.
  static std::string filter(uint64_t index) {
    const std::string area = "w/" + std::to_string(index / 1000);
    const std::string device = "d" + std::to_string(index % 1000);
    return index % 2 == 0 ? area + "/+/" + device : area + "/r/" + device + "/#";
  }

  uint64_t target(uint64_t sequence) const {
    return ((sequence + 1) * 0x9e3779b97f4a7c15u >> 20) % filter_count_;
  }

  std::string topic(uint64_t sequence) const {
    const uint64_t index = target(sequence);
    return "w/" + std::to_string(index / 1000) + (sequence % 2 == 0 ? "/r/d" : "/r/x") +
           std::to_string(index % 1000);
  }

  void publish_batch() {
    Buffer out;
    for (uint32_t count = 0; count < batch; ++count, ++sent_) {
      const std::string name = topic(sent_);
      Publish publish;
      publish.topic = name;
      publish.payload_size = payload_size;
      put_publish(out, engine_.v5(), publish);
      payloads_.put(out, 0, sent_, payload_size);
      if (sent_ % 2 == 0) {
        expected_[target(sent_) % client_count].push_back(sent_);
        ++hits_;
      }
    }
    engine_.send(*publisher_, out);
  }

  Engine& engine_;
  uint64_t filter_count_;
  Tally& tally_;
  Payloads payloads_;
  std::vector<std::deque<uint64_t>> expected_;
  Client* publisher_ = nullptr;
  uint64_t sent_ = 0;
  uint64_t hits_ = 0;
  uint64_t received_ = 0;
};

void run_wildcards(const Options& options, const char* name, uint64_t count, Tally& tally) {
  const Process process(options.pid);
  Engine engine(options);
  Wildcards wildcards(engine, count, tally);
  wildcards.set_up(name);
  try {
    if (options.messages == 0) { wildcards.run(options.seconds / 10, 0); }
    const Meter meter(process);
    const uint64_t published = wildcards.run(options.seconds, options.messages);
    meter.report_per(name, published, "pub");
    report("%s_delivered %" PRIu64 " msg\n", name, published);
  } catch (const std::runtime_error&) {
    wildcards.count_missing();
    throw;
  }
  engine.disconnect_all();
}

// Bytes of a subscription as users have them: a thousand clients, 60 % of the filters exact.
void run_subscriptions(const Options& options, const char* name, uint64_t count, Tally& tally) {
  const Process process(options.pid);
  Engine engine(options);
  Silence silence(tally);
  open_many(engine, silence, 1000, "sub-0");
  const Memory memory = process.memory();
  const Meter meter(process);
  subscribe_many(engine, silence, count, [](uint64_t index) {
    const std::string site = "site/" + std::to_string(index / 1000) + "/";
    const std::string device = std::to_string(index % 1000);
    if (index % 5 < 3) { return site + "device" + device + "/status"; }
    return index % 5 == 3 ? site + "+/" + device : site + device + "/#";
  });
  meter.report_per(name, count, "sub");
  report_memory(name, process, memory, count);
  engine.disconnect_all();
}

// ---- retained messages -------------------------------------------------------------------------

class Retained : public Handler {
 public:
  Retained(Engine& engine, uint64_t count, Tally& tally)
      : engine_(engine), count_(count), tally_(tally), payloads_(payload_size), seen_(count) {}

  uint64_t received() const { return received_; }

  // With payloads stores all, without removes all. PINGRESP tells that the broker is that far.
  void store(Client& publisher, size_t size) {
    Buffer out;
    for (uint64_t index = 0; index < count_; ++index) {
      const std::string name = topic(index);
      Publish publish;
      publish.topic = name;
      publish.retain = true;
      publish.payload_size = size;
      put_publish(out, engine_.v5(), publish);
      if (size > 0) { payloads_.put(out, 0, index, size); }
      if (index % 32 == 31 || index + 1 == count_) {
        engine_.send(publisher, out);
        out.clear();
      }
      if (index % 1024 == 1023 || index + 1 == count_) {
        engine_.ping(publisher);
        engine_.settle(*this);
      }
    }
  }

  void deliver(Client& subscriber) {
    seen_.assign(count_, false);
    received_ = 0;
    engine_.subscribe(subscriber, {"retained/#"}, 0);
    try {
      engine_.run_until(
          *this, [this] { return received_ == count_; }, [this] { return received_; });
    } catch (const std::runtime_error&) {
      tally_.lost += count_ - received_;
      throw;
    }
    engine_.settle(*this);
  }

  // Which order retained messages of different topics come in is the broker's choice.
  void on_packet(Client&, const Packet& packet) override {
    Publish publish;
    uint32_t source = 0;
    uint64_t index = 0;
    if (packet.type() != PacketType::publish || !parse_publish(packet, engine_.v5(), publish) ||
        packet.flags() != 1 || !payloads_.get(publish, payload_size, source, index) ||
        index >= count_ || topic(index) != publish.topic) {
      ++tally_.corrupt;
      tally_.describe("wrong packet, first byte %u", packet.first);
      return;
    }
    if (seen_[index]) {
      ++tally_.duplicate;
      tally_.describe("retained message %" PRIu64 " came again", index);
      return;
    }
    seen_[index] = true;
    ++received_;
  }

  static constexpr uint32_t payload_size = 32;

 private:
  static std::string topic(uint64_t index) {
    return "retained/" + std::to_string(index / 1000) + "/device" + std::to_string(index % 1000) +
           "/status";
  }

  Engine& engine_;
  uint64_t count_;
  Tally& tally_;
  Payloads payloads_;
  std::vector<bool> seen_;
  uint64_t received_ = 0;
};

void run_retained(const Options& options, const char* name, uint64_t count, Tally& tally) {
  const Process process(options.pid);
  Engine engine(options);
  Retained retained(engine, count, tally);
  Client& publisher = engine.open("pub-0");
  engine.settle(retained);
  const Memory memory = process.memory();
  {
    const Meter meter(process);
    retained.store(publisher, Retained::payload_size);
    meter.report_per((std::string(name) + "_store").c_str(), count, "msg");
  }
  report_memory(name, process, memory, count);
  constexpr uint64_t rounds = 3;
  open_many(engine, retained, rounds, "sub-0");
  {
    const Meter meter(process);
    for (uint64_t round = 1; round <= rounds; ++round) { retained.deliver(engine.client(round)); }
    engine.linger(retained, 20);
    meter.report_per((std::string(name) + "_deliver").c_str(), count * rounds, "msg");
  }
  // Their subscriptions end here, so that only the last subscriber tells of what is left.
  Engine rest(options);
  engine.disconnect_all();
  Client& cleaner = rest.open("pub-1");
  Silence silence(tally);
  rest.settle(silence);
  Retained removal(rest, count, tally);
  removal.store(cleaner, 0);
  Client& last = rest.open("sub-0-last");
  rest.settle(silence);
  rest.subscribe(last, {"retained/#"}, 0);
  rest.settle(silence);
  rest.linger(silence, 50);
  rest.disconnect_all();
}

// ---- idle connections --------------------------------------------------------------------------

void run_idle(const Options& options, const char* name, uint64_t count, Tally& tally) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (count + 100 > limit.rlim_cur) {
    count = limit.rlim_cur - 100;
    std::fprintf(stderr, "%s: descriptor limit, only %" PRIu64 " connections\n", name, count);
  }
  const Process process(options.pid);
  Engine engine(options);
  Silence silence(tally);
  const Memory start = process.memory();
  report("%s_start_rss %" PRId64 " B\n", name, start.rss_bytes);
  // The first connections touch what is shared by all.
  open_many(engine, silence, 64, "warm");
  const Memory memory = process.memory();
  {
    const Meter meter(process);
    open_many(engine, silence, count - 64, "idle");
    meter.report_per((std::string(name) + "_connect").c_str(), count - 64, "conn");
  }
  report("%s_connections %" PRIu64 " conn\n", name, count);
  report_memory(name, process, memory, count - 64);
  {
    const Meter meter(process);
    engine.linger(silence, 2000);
    meter.report_per((std::string(name) + "_second").c_str(), 2, "s");
  }
  for (uint64_t index = 0; index < count; index += 997) { engine.ping(engine.client(index)); }
  engine.settle(silence);
  engine.disconnect_all();
}

// ---- program -----------------------------------------------------------------------------------

// "wild100k" with prefix "wild" is 100,000; 0 when the name is not of that kind.
uint64_t count_after(const std::string& name, const char* prefix) {
  const size_t size = std::strlen(prefix);
  if (name.compare(0, size, prefix) != 0) { return 0; }
  char* end = nullptr;
  uint64_t count = std::strtoull(name.c_str() + size, &end, 10);
  if (*end == 'k') {
    count *= 1000;
    ++end;
  } else if (*end == 'm') {
    count *= 1'000'000;
    ++end;
  }
  return *end == '\0' ? count : 0;
}

using CountedRun = void (*)(const Options&, const char*, uint64_t, Tally&);

struct CountedScenario {
  const char* prefix;
  CountedRun run;
};

constexpr CountedScenario counted_scenarios[] = {
    {"wild", run_wildcards},
    {"subs", run_subscriptions},
    {"retained", run_retained},
    {"idle", run_idle},
};

// Durable sessions with a subscription each, whose clients have gone.
void leave_sessions(Options options, uint64_t count, Tally& tally) {
  options.clean = false;
  Silence silence(tally);
  for (uint64_t first = 0; first < count; first += 1000) {
    Engine engine(options);
    const uint64_t end = std::min<uint64_t>(count, first + 1000);
    for (uint64_t index = first; index < end; ++index) {
      Client& client = engine.open("away-" + std::to_string(index));
      engine.subscribe(client, {"away/" + std::to_string(index)}, 1);
      if (index % 50 == 49) { engine.settle(silence); }
    }
    engine.settle(silence);
    engine.disconnect_all();
  }
}

// What --beside names; `engine` keeps the connections. False when there is no such load.
bool load_beside(Engine& engine, Tally& tally) {
  const Options& options = engine.options();
  Silence silence(tally);
  if (const uint64_t idle = count_after(options.beside, "idle")) {
    open_many(engine, silence, idle, "beside");
  } else if (const uint64_t stored = count_after(options.beside, "retained")) {
    Client& publisher = engine.open("pub-0");
    engine.settle(silence);
    Retained(engine, stored, tally).store(publisher, Retained::payload_size);
  } else if (const uint64_t sessions = count_after(options.beside, "sessions")) {
    leave_sessions(options, sessions, tally);
  } else {
    return options.beside.empty();
  }
  return true;
}

// False when there is no such scenario.
bool dispatch(const Options& options, const std::string& name, Tally& tally) {
  for (const TrafficSpec& spec : traffic_specs) {
    if (name == spec.name) {
      run_traffic(options, spec, tally);
      return true;
    }
  }
  for (const CountedScenario& scenario : counted_scenarios) {
    const uint64_t count = count_after(name, scenario.prefix);
    if (count >= 100) {
      scenario.run(options, name.c_str(), count, tally);
      return true;
    }
  }
  return false;
}

// Returns the exit status.
int run_scenario(const Options& options, const std::string& name) {
  Tally tally;
  bool broken = false;
  try {
    Engine beside(options);
    if (!load_beside(beside, tally) || !dispatch(options, name, tally)) {
      std::fprintf(stderr, "no scenario %s beside '%s'\n", name.c_str(), options.beside.c_str());
      return 2;
    }
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
    broken = true;
  }
  report("%s lost=%" PRIu64 " dup=%" PRIu64 " reorder=%" PRIu64 " corrupt=%" PRIu64 "%s\n",
         name.c_str(), tally.lost, tally.duplicate, tally.reordered, tally.corrupt,
         broken ? " broken" : "");
  return tally.clean() && !broken ? 0 : 1;
}

void print_usage() {
  std::fputs(
      "broker_load --port N [--pid N] [--v5] [--ws] [--tls] [--seconds S] [--messages N] "
      "[--stall S]\n  [--beside LOAD] SCENARIO...\nscenarios:",
      stderr);
  for (const TrafficSpec& spec : traffic_specs) { std::fprintf(stderr, " %s", spec.name); }
  std::fputs("\n  with a count of at least 100 (1000, 100k, 1m):", stderr);
  for (const CountedScenario& scenario : counted_scenarios) {
    std::fprintf(stderr, " %sN", scenario.prefix);
  }
  std::fputc('\n', stderr);
}

// A number above 0 and nothing after it; else 0.
double positive(const char* text) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  return *end == '\0' && value > 0 && value < 1e15 ? value : 0;
}

// False for an unknown name or a value that is not positive.
bool set_option(Options& options, const std::string& name, const char* text) {
  if (name == "--beside") {
    options.beside = text;
    return true;
  }
  const double value = positive(text);
  if (name == "--port" && value < 65536) {
    options.port = static_cast<int>(value);
  } else if (name == "--pid") {
    options.pid = static_cast<int>(value);
    return value > 0 || std::strcmp(text, "0") == 0;
  } else if (name == "--seconds") {
    options.seconds = value;
  } else if (name == "--messages") {
    options.messages = static_cast<uint64_t>(value);
  } else if (name == "--stall") {
    options.stall_s = value;
  } else {
    return false;
  }
  return value > 0;
}

bool parse_options(int count, char** arguments, Options& options,
                   std::vector<std::string>& scenarios) {
  for (int index = 1; index < count; ++index) {
    const std::string name = arguments[index];
    if (name == "--v5") {
      options.v5 = true;
    } else if (name == "--ws") {
      options.ws = true;
    } else if (name == "--tls" && tls_available) {
      options.tls = true;
    } else if (name.compare(0, 2, "--") != 0) {
      scenarios.push_back(name);
    } else if (++index == count || !set_option(options, name, arguments[index])) {
      return false;
    }
  }
  return options.port > 0 && !scenarios.empty();
}

}  // namespace bench

int main(int argument_count, char** arguments) {
  bench::Options options;
  std::vector<std::string> scenarios;
  if (!bench::parse_options(argument_count, arguments, options, scenarios)) {
    bench::print_usage();
    return 2;
  }
  int status = 0;
  for (const std::string& name : scenarios) {
    status = std::max(status, bench::run_scenario(options, name));
  }
  return status;
}
