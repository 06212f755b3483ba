// Receives a firmware image of any size in 512 bytes of memory: it comes in pieces, each with its
// place and the size of the whole. Publish it with
//
//   mosquitto_pub -h BROKER -t board/firmware -q 1 -f image.bin
//
// board/firmware/state tells what came: the bytes and their checksum.
#include <WiFi.h>
#include <mqtt.hpp>
#include <ports/arduino/mqtt_arduino.hpp>

const char* const network_name = "my network";
const char* const network_password = "its password";
const mqtt::arduino::Server servers[] = {{"192.168.1.10", 1883}};

WiFiClient wifi;
mqtt::arduino::ClientTransport transport(wifi, servers);
mqtt::arduino::Clock clock_hook;
mqtt::Connect settings;
mqtt::Client<mqtt::arduino::ClientTransport, mqtt::arduino::Clock> client(transport, clock_hook,
                                                                          settings);
uint32_t checksum = 0;

void setup() {
  Serial.begin(115200);
  randomSeed(analogRead(A0));
  WiFi.begin(network_name, network_password);
  while (WiFi.status() != WL_CONNECTED) { delay(100); }
  settings.client_id = "board";
  client.start();
  if (!client.subscribe("board/firmware", mqtt::Qos::at_least_once, take_piece)) {
    Serial.println(F("no room for a subscription"));
  }
}

void loop() { client.run_once(); }

// A piece at event.offset of event.total bytes. After a lost link it begins again at 0.
void take_piece(const mqtt::ClientEvent& event) {
  if (event.offset == 0) {
    checksum = 0xFFFFFFFF;
    Serial.print(F("an image of "));
    Serial.println(event.total);
  }
  for (const uint8_t byte : event.message.payload) { checksum = crc32(checksum, byte); }
  // Here the piece would be written to flash, at event.offset.
  if (event.last()) { report(event.total, ~checksum); }
}

uint32_t crc32(uint32_t crc, uint8_t byte) {
  crc ^= byte;
  for (uint8_t bit_index = 0; bit_index < 8; ++bit_index) {
    crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
  }
  return crc;
}

void report(uint32_t size, uint32_t crc) {
  const String text = String(size) + " bytes, CRC " + String(crc, HEX);
  Serial.println(text);
  if (!client.publish("board/firmware/state", mqtt::Text(text.c_str()),
                      mqtt::Qos::at_least_once, true)) {
    Serial.println(F("no room for the report"));
  }
}
