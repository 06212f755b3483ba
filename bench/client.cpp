// client: mqtt.hpp's Client at the task of client_task.hpp, in one thread over poll().

#include <ports/posix/client.hpp>

#include "client_task.hpp"

namespace {

struct Config : mqtt::ClientConfig {
  static constexpr uint16_t inflight_max = 16;
  static constexpr uint32_t rx_bytes = 4096, tx_bytes = 4096;
};

class Client {
 public:
  explicit Client(const bench::Task& task)
      : task_(task),
        server_{"127.0.0.1", task.port},
        transport_({&server_, 1}),
        client_(transport_, clock_, connect_) {
    connect_.version = mqtt::Version::v3_1_1;
    connect_.client_id = task.client_id();
    client_.start();
    if (!task.publishes && !client_.subscribe(bench::topic, mqtt::Qos(task.qos))) {
      bench::fail("subscribing failed");
    }
    for (mqtt::Millis until = turn(); !ready_; until = turn()) { transport_.wait_until(until); }
  }

  void run() {
    while (unfinished()) {
      const mqtt::Millis until = turn();
      if (!publish() && unfinished()) { transport_.wait_until(until); }
    }
  }

  void disconnect() {
    ending_ = client_.disconnect() == mqtt::Answer::queued;
    while (!closed_) { turn(); }
  }

 private:
  bool unfinished() { return messages_.count() < task_.count || !client_.engine().idle(); }

  // As much as the outbox takes: 4 KiB at QoS 0, inflight_max at QoS 1. Whether it took any.
  bool publish() {
    mqtt::Publish packet;
    packet.topic = bench::topic;
    packet.qos = mqtt::Qos(task_.qos);
    bool taken = false;
    while (task_.publishes && messages_.count() < task_.count) {
      packet.payload = mqtt::Text(messages_.peek(), bench::payload_size).bytes();
      if (!client_.publish(packet)) { break; }
      messages_.advance();
      taken = true;
    }
    return taken;
  }

  mqtt::Millis turn() {
    return client_.run_once([this](const mqtt::ClientEvent& event) { on_event(event); });
  }

  void on_event(const mqtt::ClientEvent& event) {
    using Type = mqtt::ClientEventType;
    if (event.type == Type::message) {
      messages_.take(event.message.payload.data(), event.message.payload.size());
    } else if (event.type == (task_.publishes ? Type::connected : Type::subscribed)) {
      ready_ = true;
    } else if (event.type == Type::closed) {
      closed_ = true;
      if (!ending_) { bench::fail(transport_.error_text()); }
    }
  }

  bench::Task task_;
  bench::Messages messages_;
  mqtt::posix::Server server_;
  mqtt::posix::ClientTransport<> transport_;
  mqtt::posix::ClientClock clock_;
  mqtt::Connect connect_;
  mqtt::Client<mqtt::posix::ClientTransport<>, mqtt::posix::ClientClock, Config> client_;
  bool ready_ = false;
  bool ending_ = false;
  bool closed_ = false;
};

}  // namespace

int main(int count, char** arguments) { return bench::run_client<Client>(count, arguments); }
