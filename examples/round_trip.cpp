// round_trip: connects to a broker on this machine, subscribes, publishes at QoS 1 and prints what
// comes back. The codec on plain sockets, without an engine. Exit status 0 when the message came.
//
//   round_trip [-p PORT]

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <mqtt.hpp>

namespace {

constexpr mqtt::Version version = mqtt::Version::v5;
constexpr uint32_t packet_bytes_max = 1024;
constexpr const char* topic = "demo/round_trip";
constexpr const char* greeting = "hello, MQTT";

/// A blocking TCP connection that carries whole packets.
class Link {
 public:
  Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() { hang_up(); }

  /// Tries for two seconds, as long as a broker may take to start.
  bool dial(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int attempt = 0; attempt < 20; ++attempt) {
      socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
      if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
        const timeval patience{5, 0};
        return ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0;
      }
      hang_up();
      ::usleep(100000);
    }
    perror("connect");
    return false;
  }

  template <typename Packet>
  bool transmit(const Packet& packet) {
    uint8_t memory[packet_bytes_max];
    const mqtt::Result<uint32_t> size = mqtt::encode(version, packet, memory);
    if (!size) { return complain("encode", size.error); }
    const ssize_t sent = ::send(socket_, memory, size.value, MSG_NOSIGNAL);
    return sent == static_cast<ssize_t>(size.value) || complain("send", mqtt::Error::link_closed);
  }

  /// Calls `handler` with the next packet.
  template <typename Handler>
  bool receive(Handler& handler) {
    mqtt::Frame frame;
    mqtt::Error error = mqtt::Error::incomplete;
    for (;;) {
      error = mqtt::next_frame(mqtt::Bytes(rx_, rx_size_), version, packet_bytes_max, frame);
      if (error != mqtt::Error::incomplete) { break; }
      const ssize_t got = ::recv(socket_, rx_ + rx_size_, sizeof rx_ - rx_size_, 0);
      if (got <= 0) { return complain("receive", mqtt::Error::link_closed); }
      rx_size_ += static_cast<uint32_t>(got);
    }
    if (error == mqtt::Error::none) {
      error = mqtt::decode(frame, version, mqtt::Side::client, handler);
    }
    if (error != mqtt::Error::none) { return complain("receive", error); }
    rx_size_ -= frame.size();
    memmove(rx_, rx_ + frame.size(), rx_size_);
    return true;
  }

 private:
  static bool complain(const char* what, mqtt::Error error) {
    const mqtt::Text why = mqtt::text(error);
    fprintf(stderr, "%s: %.*s\n", what, static_cast<int>(why.size()), why.data());
    return false;
  }

  void hang_up() {
    if (socket_ >= 0) {
      ::close(socket_);
      socket_ = -1;
    }
  }

  int socket_ = -1;
  uint32_t rx_size_ = 0;
  uint8_t rx_[packet_bytes_max];
};

/// What the broker has said so far; one overload for each packet that is expected.
struct Heard {
  bool connected = false;
  bool subscribed = false;
  bool acknowledged = false;
  bool message = false;
  uint16_t message_id = 0;

  void operator()(const mqtt::Connack& connack) { connected = !mqtt::failed(connack.reason_code); }
  void operator()(const mqtt::Suback& suback) {
    subscribed = !suback.reason_codes.empty() && suback.reason_codes[0] < 0x80;
  }
  void operator()(const mqtt::Ack& ack) { acknowledged = !mqtt::failed(ack.reason_code); }
  void operator()(const mqtt::Publish& publish) {
    message = true;
    message_id = publish.packet_id;
    printf("received  %.*s: %.*s\n", static_cast<int>(publish.topic.size()), publish.topic.data(),
           static_cast<int>(publish.payload.size()),
           reinterpret_cast<const char*>(publish.payload.data()));
  }
  template <typename Packet>
  void operator()(const Packet&) {
    fprintf(stderr, "an unexpected packet\n");
  }
};

bool round_trip(Link& link) {
  Heard heard;
  mqtt::Connect connect;
  connect.client_id = "round_trip";
  if (!link.transmit(connect) || !link.receive(heard) || !heard.connected) { return false; }
  printf("connected\n");

  mqtt::Subscription filter;
  filter.filter = topic;
  filter.qos = mqtt::Qos::at_least_once;
  mqtt::Subscribe subscribe;
  subscribe.packet_id = 1;
  subscribe.filters = filter;
  if (!link.transmit(subscribe) || !link.receive(heard) || !heard.subscribed) { return false; }
  printf("subscribed %s\n", topic);

  mqtt::Publish publish;
  publish.topic = topic;
  publish.payload = mqtt::Text(greeting).bytes();
  publish.qos = mqtt::Qos::at_least_once;
  publish.packet_id = 2;
  if (!link.transmit(publish)) { return false; }
  printf("published %s: %s\n", topic, greeting);

  // The message and the broker's PUBACK come in any order.
  if (!link.receive(heard) || !link.receive(heard) || !heard.acknowledged || !heard.message) {
    return false;
  }
  mqtt::Ack ack;
  ack.packet_id = heard.message_id;
  return link.transmit(ack) && link.transmit(mqtt::Disconnect());
}

}  // namespace

int main(int argc, char** argv) {
  long port = 1883;
  for (int option; (option = getopt(argc, argv, "p:")) != -1;) {
    port = option == 'p' ? strtol(optarg, nullptr, 10) : 0;
  }
  if (optind != argc || port < 1 || port > 65535) {
    fprintf(stderr, "usage: round_trip [-p PORT]\n");
    return 2;
  }
  Link link;
  if (!link.dial(static_cast<uint16_t>(port)) || !round_trip(link)) {
    fprintf(stderr, "the round trip failed\n");
    return 1;
  }
  printf("the message went round\n");
  return 0;
}
