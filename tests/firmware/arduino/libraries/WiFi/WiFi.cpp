#include "WiFi.h"
#undef abs
#undef max
#undef min
#undef round

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

HostWifi WiFi;

namespace {

sockaddr_in test_address() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(atoi(getenv("MQTT_PORT"))));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void make_nonblocking(int descriptor) {
  const int on = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
}

}  // namespace

int WiFiClient::connect(IPAddress, uint16_t port) { return connect("", port); }

int WiFiClient::connect(const char*, uint16_t) {
  stop();
  const sockaddr_in address = test_address();
  descriptor_ = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    stop();
    return 0;
  }
  make_nonblocking(descriptor_);
  ended_ = false;
  return 1;
}

size_t WiFiClient::write(const uint8_t* bytes, size_t size) {
  const ssize_t taken = ::send(descriptor_, bytes, size, MSG_NOSIGNAL);
  if (taken < 0 && errno != EAGAIN) { ended_ = true; }
  return taken < 0 ? 0 : static_cast<size_t>(taken);
}

int WiFiClient::available() {
  int count = 0;
  if (descriptor_ >= 0) { ioctl(descriptor_, FIONREAD, &count); }
  return count;
}

int WiFiClient::read(uint8_t* target, size_t size) {
  const ssize_t count = ::recv(descriptor_, target, size, 0);
  return count > 0 ? static_cast<int>(count) : -1;
}

int WiFiClient::read() {
  uint8_t byte;
  return read(&byte, 1) == 1 ? byte : -1;
}

int WiFiClient::peek() {
  uint8_t byte;
  return ::recv(descriptor_, &byte, 1, MSG_PEEK) == 1 ? byte : -1;
}

void WiFiClient::stop() {
  if (descriptor_ >= 0) { ::close(descriptor_); }
  descriptor_ = -1;
}

uint8_t WiFiClient::connected() {
  if (descriptor_ < 0) { return 0; }
  uint8_t byte;
  const ssize_t count = ::recv(descriptor_, &byte, 1, MSG_PEEK);
  return !ended_ && (count > 0 || (count < 0 && errno == EAGAIN)) ? 1 : 0;
}

void WiFiServer::begin() {
  const sockaddr_in address = test_address();
  const int on = 1;
  descriptor_ = ::socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(descriptor_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(descriptor_, 8) != 0) {
    perror("listen");
    exit(1);
  }
  fcntl(descriptor_, F_SETFL, fcntl(descriptor_, F_GETFL) | O_NONBLOCK);
}

WiFiClient WiFiServer::available() {
  const int descriptor = ::accept(descriptor_, nullptr, nullptr);
  if (descriptor >= 0) { make_nonblocking(descriptor); }
  return WiFiClient(descriptor);
}
