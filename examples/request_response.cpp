// request_response: asks for a sum over MQTT 5.0 and answers itself: response topic and correlation
// data in both roles. Exit status 0 when the answer is right.
//
//   request_response [HOST [PORT]]

#include <stdio.h>
#include <ports/posix/client.hpp>

namespace {

using Client = mqtt::Client<mqtt::posix::ClientTransport<>, mqtt::posix::ClientClock>;
Client* client;
bool answered = false;
bool right = false;

void on_request(const mqtt::ClientEvent& event) {
  uint8_t scratch[256];
  const mqtt::Publish answer =
      mqtt::answer_to(event.message, mqtt::Text("4").bytes(), mqtt::Buffer(scratch));
  if (!client->publish(answer)) { puts("the answer is not sent"); }
}

void on_answer(const mqtt::ClientEvent& event) {
  if (mqtt::Text(mqtt::correlation_of(event.message)) != "request 1") { return; }
  answered = true;
  right = mqtt::Text(event.message.payload) == "4";
  printf("2 + 2 = %.*s\n", int(event.message.payload.size()), event.message.payload.data());
}

}  // namespace

int main(int count, char** arguments) {
  const mqtt::posix::Server servers[] = {
      {count > 1 ? arguments[1] : "localhost", count > 2 ? arguments[2] : "1883"}};
  mqtt::posix::ClientTransport<> transport(servers);
  mqtt::posix::ClientClock clock;
  mqtt::Connect connect;
  static Client made(transport, clock, connect);
  client = &made;
  uint8_t scratch[256];
  mqtt::Publish request;
  request.topic = "demo/sum";
  request.payload = mqtt::Text("2 + 2").bytes();
  request.qos = mqtt::Qos::at_least_once;
  request.properties = mqtt::request_properties(mqtt::Buffer(scratch), "demo/sum/answers",
                                                mqtt::Text("request 1").bytes());
  // The outbox keeps the order: both subscriptions stand when the request is sent.
  if (!client->subscribe("demo/sum", mqtt::Qos::at_least_once, on_request) ||
      !client->subscribe("demo/sum/answers", mqtt::Qos::at_least_once, on_answer) ||
      !client->publish(request)) {
    return 1;
  }
  client->start();
  const mqtt::Millis end = clock.now_ms() + 10000;
  while (!answered && clock.now_ms() < end) {
    const mqtt::Millis until = client->run_once();
    if (!answered) { transport.wait_until(until < end ? until : end); }
  }
  return right ? 0 : 1;
}
