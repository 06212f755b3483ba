// ports/arduino/mqtt_arduino.hpp — client and broker over the network classes of Arduino cores
// SPDX-License-Identifier: MIT
//
// Include <mqtt.hpp> before this: it makes the Arduino builder find the library.
#ifndef MQTT_PORTS_ARDUINO_HPP
#define MQTT_PORTS_ARDUINO_HPP

#include <Arduino.h>
#include <Client.h>
#include <mqtt.hpp>

namespace mqtt {
namespace arduino {

/// The Clock hook: millis(), which wraps after 49.7 days, made 64 bits wide. Call now_ms() at least
/// once in that time.
class Clock {
 public:
  Millis now_ms() noexcept {
    const auto now = static_cast<uint32_t>(millis());
    elapsed_ += static_cast<uint32_t>(now - last_);
    last_ = now;
    return elapsed_;
  }
  /// Arduino's random numbers: call randomSeed() first, or all boards dial at the same time.
  uint32_t random() noexcept { return static_cast<uint32_t>(::random(0x7FFFFFFF)); }

 private:
  Millis elapsed_ = 0;
  uint32_t last_ = 0;
};

/// A name or an address in numbers. The text must live as long as the transport.
struct Server {
  const char* host = "";
  uint16_t port = 1883;
};

/// The Transport hook of a Client over any Client& of Arduino: WiFiClient, EthernetClient,
/// WiFiClientSecure, a GSM modem. Each attempt takes the next server.
///
/// Arduino's connect() waits until there is a connection or none: dial() blocks so long. With
/// WiFiClientSecure set its certificate authority before; setInsecure() lets anybody read along.
class ClientTransport {
 public:
  ClientTransport(::Client& client, Span<const Server> servers) noexcept
      : client_(client), servers_(servers) {}

  int32_t dial(uint32_t attempt) noexcept {
    if (servers_.empty()) { return -1; }
    const Server& server = servers_[attempt % servers_.size()];
    return client_.connect(server.host, server.port) == 1 ? 1 : -1;
  }
  int32_t receive(uint8_t* target, size_t size) noexcept { return receive(client_, target, size); }
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    return transmit(client_, source, size);
  }
  void hang_up() noexcept { client_.stop(); }

  /// > 0 bytes, 0 nothing now, < 0 gone; what came before the end is read first.
  static int32_t receive(::Client& client, uint8_t* target, size_t size) noexcept {
    const int waiting = client.available();
    if (waiting > 0) {
      const int count = client.read(target, detail::smaller(size, static_cast<size_t>(waiting)));
      if (count > 0) { return count; }
    }
    return client.connected() ? 0 : -1;
  }
  /// Bytes taken, 0 later, < 0 gone.
  static int32_t transmit(::Client& client, const uint8_t* source, size_t size) noexcept {
    const size_t taken = client.write(source, detail::smaller<size_t>(size, chunk_max));
    if (taken != 0) { return static_cast<int32_t>(taken); }
    return client.connected() ? 0 : -1;
  }

 private:
  // Some cores count in 16 bits or copy what they are given.
  static constexpr size_t chunk_max = 1460;

  ::Client& client_;
  Span<const Server> servers_;
};

/// The Transport hook of a Broker over `Listener`, a class as WiFiServer or EthernetServer, whose
/// connections are `Connection`s, as WiFiClient. `links` is the limits.connections of the broker. A
/// connection for which there is no link is stopped.
///
/// The server's accept() is used, or available() where there is no accept() (which must give a new
/// connection only, as that of the ESP cores does). Begin the server before.
template <typename Listener, typename Connection, uint32_t links>
class BrokerTransport {
 public:
  explicit BrokerTransport(Listener& listener) noexcept : listener_(listener) {}

  bool accept_next(uint32_t& link) noexcept {
    Connection connection = accept_from(listener_, 0);
    if (!connection) { return false; }
    for (link = 0; link < links; ++link) {
      if (!taken_[link]) {
        taken_[link] = true;
        connections_[link] = connection;
        return true;
      }
    }
    connection.stop();
    return false;
  }
  int32_t receive(uint32_t link, uint8_t* target, size_t size) noexcept {
    return ClientTransport::receive(connections_[link], target, size);
  }
  int32_t transmit(uint32_t link, const uint8_t* source, size_t size) noexcept {
    return ClientTransport::transmit(connections_[link], source, size);
  }
  void hang_up(uint32_t link) noexcept {
    connections_[link].stop();
    connections_[link] = Connection();
    taken_[link] = false;
  }

 private:
  template <typename L>
  static auto accept_from(L& listener, int) noexcept -> decltype(listener.accept()) {
    return listener.accept();
  }
  template <typename L>
  static auto accept_from(L& listener, long) noexcept -> decltype(listener.available()) {
    return listener.available();
  }

  Listener& listener_;
  Connection connections_[links];
  bool taken_[links] = {};
};

}  // namespace arduino
}  // namespace mqtt

#endif
