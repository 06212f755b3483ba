// A client whose outbox outlives it: what it had not seen acknowledged goes out after a reboot.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "mqtt.hpp"
#include "ports/journal/outbox.hpp"

namespace {

using mqtt::Buffer;
using mqtt::Bytes;
using mqtt::Text;

// What survives: 4 blocks of 1 KiB.
struct Memory {
  static constexpr bool rewritable = true;
  std::vector<uint8_t>* content = nullptr;
  static uint32_t block_bytes() { return 1024; }
  static uint32_t block_count() { return 4; }
  static uint32_t program_bytes() { return 4; }
  bool read(uint32_t address, Buffer target) const {
    memcpy(target.data(), content->data() + address, target.size());
    return true;
  }
  bool program(uint32_t address, Bytes bytes) const {
    memcpy(content->data() + address, bytes.data(), bytes.size());
    return true;
  }
  bool erase(uint32_t block) const {
    memset(content->data() + 1024 * block, 0xFF, 1024);
    return true;
  }
  static bool sync() { return true; }
};

struct Config : mqtt::ClientConfig {
  using Store = mqtt::journal::Outbox<Memory, 16>;
};

// One life of a device.
struct Device {
  uint8_t rx[512];
  uint8_t tx[1024];
  mqtt::Connect connect;
  std::unique_ptr<mqtt::ClientEngine<Config>> engine;

  explicit Device(std::vector<uint8_t>& flash) {
    connect.version = mqtt::Version::v3_1_1;
    connect.client_id = "device";
    connect.clean_start = false;
    engine = std::make_unique<mqtt::ClientEngine<Config>>(
        connect, mqtt::ClientMemory{Buffer(rx), Buffer(tx)});
    Config::Store& store = engine->store();
    store.medium().content = &flash;
    REQUIRE(store.start());
    uint8_t scratch[512];
    CHECK(store.load(Buffer(scratch),
                     [this](uint32_t key, Bytes packet) { return engine->restore(key, packet); }));
  }
  bool publish(const char* payload, int qos) const {
    mqtt::Publish packet;
    packet.topic = "t";
    packet.payload = Text(payload).bytes();
    packet.qos = static_cast<mqtt::Qos>(qos);
    return static_cast<bool>(engine->publish(packet));
  }
  // The link is up and the server has the session; returns what is sent behind CONNECT.
  std::string go_online() const {
    REQUIRE(engine->start(1000) == mqtt::Error::none);
    engine->tx_commit(engine->tx_pending().size());
    receive(std::string("\x20\x02\x01\x00", 4));
    return sent();
  }
  void receive(const std::string& bytes) const {
    const Buffer space = engine->rx_space();
    REQUIRE(space.size() >= bytes.size());
    memcpy(space.data(), bytes.data(), bytes.size());
    engine->rx_commit(static_cast<uint32_t>(bytes.size()));
    mqtt::ClientEvent event;
    while (engine->next_event(1000, event)) {}
    CHECK(engine->check_invariants());
  }
  std::string sent() const {
    std::string all;
    while (!engine->tx_pending().empty()) {
      const Bytes some = engine->tx_pending();
      all.append(reinterpret_cast<const char*>(some.data()), some.size());
      engine->tx_commit(some.size());
    }
    return all;
  }
};

TEST_CASE("messages kept before a reboot go out in their order, and are forgotten when acked") {
  std::vector<uint8_t> flash(4096, 0xFF);
  {
    const Device device(flash);
    CHECK(device.publish("one", 1));
    CHECK(device.publish("two", 2));
    CHECK(device.engine->store().count() == 2);
  }
  {
    const Device device(flash);
    const std::string sent = device.go_online();
    CHECK(sent == std::string("\x3A\x08\x00\x01t\x00\x01one\x3C\x08\x00\x01t\x00\x02two", 20));
    device.receive(std::string("\x40\x02\x00\x01\x50\x02\x00\x02", 8));  // PUBACK 1, PUBREC 2
    CHECK(device.sent() == std::string("\x62\x02\x00\x02", 4));
    CHECK(device.engine->store().count() == 1);
  }
  {
    const Device device(flash);
    CHECK(device.go_online() == std::string("\x62\x02\x00\x02", 4));  // PUBREL, not the message
    device.receive(std::string("\x70\x02\x00\x02", 4));
    CHECK(device.engine->store().count() == 0);
    CHECK(device.engine->idle());
  }
  const Device device(flash);
  CHECK(device.go_online().empty());
}

TEST_CASE("a QoS 2 message taken before a reboot is not taken twice [MQTT-4.3.3-10]") {
  std::vector<uint8_t> flash(4096, 0xFF);
  const std::string message("\x34\x06\x00\x01t\x00\x07x", 8);
  {
    const Device device(flash);
    CHECK(device.go_online().empty());
    device.receive(message);
    CHECK(device.engine->store().count() == 1);
  }
  const Device device(flash);
  CHECK(device.go_online().empty());
  const Buffer space = device.engine->rx_space();
  memcpy(space.data(), message.data(), message.size());
  device.engine->rx_commit(static_cast<uint32_t>(message.size()));
  mqtt::ClientEvent event;
  while (device.engine->next_event(1000, event)) {
    CHECK(event.type != mqtt::ClientEventType::message);
  }
  CHECK(device.sent() == std::string("\x50\x02\x00\x07", 4));
  device.receive(std::string("\x62\x02\x00\x07", 4));
  CHECK(device.engine->store().count() == 0);
}

TEST_CASE("an outbox without room refuses the publish and nothing changes") {
  std::vector<uint8_t> flash(4096, 0xFF);
  const Device device(flash);
  int kept = 0;
  while (device.publish("some", 1)) { kept += 1; }
  CHECK(kept == 16);
  CHECK(device.engine->store().count() == 16);
  CHECK(device.engine->check_invariants());
}

}  // namespace
