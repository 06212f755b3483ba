// Reports a temperature every ten seconds, switches its lamp when told to, and says when it is gone.
//
//   home/room/state         "online", or "lost" by the will; retained
//   home/room/temperature   "21.5", at QoS 1: kept while the broker cannot be reached
//   home/room/lamp          "on" or "off"
#include <WiFi.h>
#include <mqtt.hpp>
#include <ports/arduino/mqtt_arduino.hpp>

const char* const network_name = "my network";
const char* const network_password = "its password";
const mqtt::arduino::Server servers[] = {{"192.168.1.10", 1883}};
const uint32_t every_ms = 10000;

WiFiClient wifi;
mqtt::arduino::ClientTransport transport(wifi, servers);
mqtt::arduino::Clock clock_hook;
mqtt::Connect settings;
mqtt::Client<mqtt::arduino::ClientTransport, mqtt::arduino::Clock> client(transport, clock_hook,
                                                                          settings);
uint32_t last_report = 0;

void setup() {
  Serial.begin(115200);
  pinMode(LED_BUILTIN, OUTPUT);
  randomSeed(analogRead(A0));
  WiFi.begin(network_name, network_password);
  while (WiFi.status() != WL_CONNECTED) { delay(100); }

  settings.client_id = "room-sensor";
  settings.keep_alive_s = 60;
  settings.has_will = true;
  settings.will.topic = "home/room/state";
  settings.will.payload = mqtt::Text("lost").bytes();
  settings.will.retain = true;
  client.start();
  on_answer(client.subscribe("home/room/lamp", mqtt::Qos::at_least_once, switch_lamp));
}

void loop() {
  client.run_once(on_event);
  if (millis() - last_report >= every_ms) {
    last_report = millis();
    report_temperature();
  }
}

void report_temperature() {
  const int tenths = 200 + analogRead(A0) % 50;  // in place of a sensor
  const String text = String(tenths / 10) + "." + String(tenths % 10);
  on_answer(client.publish("home/room/temperature", mqtt::Text(text.c_str()),
                           mqtt::Qos::at_least_once));
}

void switch_lamp(const mqtt::ClientEvent& event) {
  const bool on = mqtt::Text(event.message.payload) == "on";
  digitalWrite(LED_BUILTIN, on ? HIGH : LOW);
  Serial.println(on ? F("lamp on") : F("lamp off"));
}

// Everything else that happens.
void on_event(const mqtt::ClientEvent& event) {
  switch (event.type) {
    case mqtt::ClientEventType::connected:
      Serial.println(F("connected"));
      on_answer(client.publish("home/room/state", "online", mqtt::Qos::at_least_once, true));
      break;
    case mqtt::ClientEventType::refused: Serial.println(F("the broker refuses us")); break;
    case mqtt::ClientEventType::closed: Serial.println(mqtt::text(event.error).data()); break;
    default: break;
  }
}

// Full, offline, too big: nothing is lost in silence.
void on_answer(mqtt::Submission submission) {
  if (!submission) { Serial.println(mqtt::text(submission.answer).data()); }
}
