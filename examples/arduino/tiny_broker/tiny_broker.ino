// An access point that is its own MQTT broker: no router, no server, no cloud. Boards that join the
// network "tiny broker" talk to each other through 192.168.4.1, port 1883: all versions, all QoS,
// retained messages, wills and sessions, for eight clients in about 20 KB.
#include <WiFi.h>
#include <mqtt.hpp>
#include <ports/arduino/mqtt_arduino.hpp>

constexpr mqtt::BrokerLimits small() {
  mqtt::BrokerLimits limits;
  limits.connections = limits.sessions = 8;
  limits.subscriptions = limits.filters = 32;
  limits.filter_nodes = 64;
  limits.retained = 16;
  limits.retained_nodes = 32;
  limits.blocks = 96;
  limits.block_bytes = 104;
  limits.large_blocks = 0;
  limits.text_blocks = 48;
  limits.text_block_bytes = 24;
  limits.turn_records = 0;  // every message is stored at once
  limits.packet_bytes_max = limits.control_packet_bytes_max = 512;
  limits.topic_levels_max = 8;
  limits.receive_maximum = limits.inflight_max = 8;
  limits.queued_max = 16;
  limits.session_expiry_max_s = 86400;
  return limits;
}
constexpr mqtt::BrokerLimits limits = small();

struct Config : mqtt::BrokerConfig {
  using Index = uint16_t;
};

using Transport = mqtt::arduino::BrokerTransport<WiFiServer, WiFiClient, limits.connections>;

WiFiServer server(1883);
Transport transport(server);
mqtt::arduino::Clock clock_hook;
mqtt::Broker<Transport, mqtt::arduino::Clock, Config, limits> broker(transport, clock_hook);
uint32_t last_report = 0;

void setup() {
  Serial.begin(115200);
  randomSeed(analogRead(A0));
  WiFi.softAP("tiny broker", "a password");
  server.begin();
  const mqtt::Error error = broker.start(clock_hook.random());
  if (error != mqtt::Error::none) {
    Serial.println(mqtt::text(error).data());
    while (true) { delay(1000); }
  }
  Serial.println(F("listening on port 1883"));
}

void loop() {
  broker.run_once();
  if (millis() - last_report >= 10000) {
    last_report = millis();
    Serial.print(broker.engine().statistics().connections);
    Serial.println(F(" clients"));
  }
  delay(1);
}
