// For tests: sockets of this machine behind the names of a WiFi library. Whatever a sketch connects
// to or listens on is 127.0.0.1, port MQTT_PORT.
#pragma once
#include <Arduino.h>
#include <Client.h>

constexpr int WL_CONNECTED = 3;

class HostWifi {
 public:
  void begin(const char*, const char*) {}
  int status() { return WL_CONNECTED; }
  void softAP(const char*, const char*) {}
};
extern HostWifi WiFi;

// Copies share the socket, as those of the ESP cores do; who calls stop() closes it for all.
class WiFiClient : public Client {
 public:
  WiFiClient() = default;
  explicit WiFiClient(int descriptor) : descriptor_(descriptor) {}
  int connect(IPAddress address, uint16_t port) override;
  int connect(const char* host, uint16_t port) override;
  size_t write(uint8_t byte) override { return write(&byte, 1); }
  size_t write(const uint8_t* bytes, size_t size) override;
  using Print::write;
  int available() override;
  int read() override;
  int read(uint8_t* target, size_t size) override;
  int peek() override;
  void flush() override {}
  void stop() override;
  uint8_t connected() override;
  operator bool() override { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
  bool ended_ = false;
};

class WiFiServer {
 public:
  explicit WiFiServer(uint16_t) {}
  void begin();
  WiFiClient available();

 private:
  int descriptor_ = -1;
};
