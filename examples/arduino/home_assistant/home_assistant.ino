// A sensor and a switch that Home Assistant finds by itself: retained descriptions, availability by
// the will, and everything announced again after each reconnect and when Home Assistant starts.
#include <WiFi.h>
#include <mqtt.hpp>
#include <ports/arduino/mqtt_arduino.hpp>

const char* const network_name = "my network";
const char* const network_password = "its password";
const mqtt::arduino::Server servers[] = {{"homeassistant.local", 1883}};
const uint32_t every_ms = 30000;

const char sensor_topic[] = "homeassistant/sensor/porch/temperature/config";
const char sensor_description[] =
    "{\"name\":\"Temperature\",\"unique_id\":\"porch_temperature\","
    "\"state_topic\":\"porch/temperature\",\"availability_topic\":\"porch/state\","
    "\"device_class\":\"temperature\",\"unit_of_measurement\":\"\\u00b0C\","
    "\"device\":{\"identifiers\":[\"porch\"],\"name\":\"Porch\"}}";
const char switch_topic[] = "homeassistant/switch/porch/light/config";
const char switch_description[] =
    "{\"name\":\"Light\",\"unique_id\":\"porch_light\",\"command_topic\":\"porch/light/set\","
    "\"state_topic\":\"porch/light\",\"availability_topic\":\"porch/state\","
    "\"device\":{\"identifiers\":[\"porch\"],\"name\":\"Porch\"}}";

struct Memory : mqtt::ClientConfig {
  static constexpr uint32_t tx_bytes = 2048;  // two descriptions and some reports
};

WiFiClient wifi;
mqtt::arduino::ClientTransport transport(wifi, servers);
mqtt::arduino::Clock clock_hook;
mqtt::Connect settings;
mqtt::Client<mqtt::arduino::ClientTransport, mqtt::arduino::Clock, Memory> client(
    transport, clock_hook, settings);
uint32_t last_report = 0;
bool light_on = false;
bool announcing = false;

void setup() {
  Serial.begin(115200);
  pinMode(LED_BUILTIN, OUTPUT);
  randomSeed(analogRead(A0));
  WiFi.begin(network_name, network_password);
  while (WiFi.status() != WL_CONNECTED) { delay(100); }

  settings.client_id = "porch";
  settings.keep_alive_s = 30;
  settings.has_will = true;
  settings.will.topic = "porch/state";
  settings.will.payload = mqtt::Text("offline").bytes();
  settings.will.retain = true;
  client.start();
  subscribe("homeassistant/status", on_home_assistant);
  subscribe("porch/light/set", on_switch);
}

void loop() {
  client.run_once(on_event);
  if (announcing) { announce(); }
  if (client.online() && millis() - last_report >= every_ms) { report_temperature(); }
}

void subscribe(const char* filter, void (*handler)(const mqtt::ClientEvent&)) {
  if (!client.subscribe(filter, mqtt::Qos::at_least_once, handler)) {
    Serial.println(F("no room for a subscription"));
  }
}

void on_event(const mqtt::ClientEvent& event) {
  if (event.type == mqtt::ClientEventType::connected) { announcing = true; }
  if (event.type == mqtt::ClientEventType::closed) {
    Serial.println(mqtt::text(event.error).data());
  }
}

// Home Assistant has started and forgotten what it knew.
void on_home_assistant(const mqtt::ClientEvent& event) {
  if (mqtt::Text(event.message.payload) == "online") { announcing = true; }
}

void on_switch(const mqtt::ClientEvent& event) {
  light_on = mqtt::Text(event.message.payload) == "ON";
  digitalWrite(LED_BUILTIN, light_on ? HIGH : LOW);
  announcing = true;
}

bool publish_retained(const char* topic, const char* payload) {
  return bool(client.publish(topic, payload, mqtt::Qos::at_least_once, true));
}

// When there is no room for all of it now, the next loop says it again.
void announce() {
  announcing = !(publish_retained(sensor_topic, sensor_description) &&
                 publish_retained(switch_topic, switch_description) &&
                 publish_retained("porch/light", light_on ? "ON" : "OFF") &&
                 publish_retained("porch/state", "online"));
  if (!announcing) {
    Serial.println(F("announced"));
    report_temperature();
  }
}

void report_temperature() {
  last_report = millis();
  const int tenths = 100 + analogRead(A0) % 100;  // in place of a sensor
  const String text = String(tenths / 10) + "." + String(tenths % 10);
  if (!client.publish("porch/temperature", mqtt::Text(text.c_str()))) {
    Serial.println(F("a report is lost"));
  }
}
