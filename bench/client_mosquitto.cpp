// client_mosquitto: libmosquitto at the task of client_task.hpp, in one thread by mosquitto_loop().

#include <mosquitto.h>

#include "client_task.hpp"

namespace {

class Client {
 public:
  explicit Client(const bench::Task& task) : task_(task) {
    mosquitto_lib_init();
    client_ = mosquitto_new(task.client_id(), true, this);
    if (client_ == nullptr) { bench::fail("mosquitto_new"); }
    mosquitto_int_option(client_, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_max_inflight_messages_set(client_, task.window());
    mosquitto_connect_callback_set(
        client_, [](mosquitto*, void* self, int code) { of(self).on_connect(code); });
    mosquitto_subscribe_callback_set(
        client_, [](mosquitto*, void* self, int, int, const int*) { of(self).ready_ = true; });
    mosquitto_publish_callback_set(client_,
                                   [](mosquitto*, void* self, int) { of(self).finished_ += 1; });
    mosquitto_message_callback_set(
        client_, [](mosquitto*, void* self, const mosquitto_message* message) {
          of(self).messages_.take(message->payload, static_cast<size_t>(message->payloadlen));
        });
    check(mosquitto_connect(client_, "127.0.0.1", std::atoi(task.port), 60));
    while (!ready_) { turn(); }
  }

  void run() {
    while (messages_.count() < task_.count || (task_.publishes && finished_ < task_.count)) {
      if (task_.publishes) { publish(); }
      turn();
    }
    while (mosquitto_want_write(client_)) { turn(); }
  }

  void disconnect() {
    check(mosquitto_disconnect(client_));
    mosquitto_destroy(client_);
    mosquitto_lib_cleanup();
  }

 private:
  static Client& of(void* self) { return *static_cast<Client*>(self); }

  static void check(int code) {
    if (code != MOSQ_ERR_SUCCESS) { bench::fail(mosquitto_strerror(code)); }
  }

  void on_connect(int code) {
    if (code != 0) { bench::fail("refused"); }
    if (task_.publishes) {
      ready_ = true;
    } else {
      check(mosquitto_subscribe(client_, nullptr, bench::topic, task_.qos));
    }
  }

  void publish() {
    while (messages_.count() < task_.count && messages_.count() - finished_ < task_.window()) {
      check(mosquitto_publish(client_, nullptr, bench::topic, bench::payload_size, messages_.peek(),
                              task_.qos, false));
      messages_.advance();
    }
  }

  void turn() { check(mosquitto_loop(client_, 1000, 1)); }

  bench::Task task_;
  bench::Messages messages_;
  mosquitto* client_ = nullptr;
  uint32_t finished_ = 0;  // written at QoS 0, acknowledged at QoS 1
  bool ready_ = false;
};

}  // namespace

int main(int count, char** arguments) { return bench::run_client<Client>(count, arguments); }
