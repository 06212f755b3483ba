// client_paho: Paho's MQTTAsync at the task of client_task.hpp. Two threads of its own do the work;
// the synchronous MQTTClient sleeps 100 ms at a time while it waits for an acknowledgement.

#include <MQTTAsync.h>

#include <condition_variable>
#include <mutex>
#include <string>

#include "client_task.hpp"

namespace {

class Client {
 public:
  explicit Client(const bench::Task& task) : task_(task) {
    const std::string server = std::string("tcp://127.0.0.1:") + task.port;
    check(MQTTAsync_create(&client_, server.c_str(), task.client_id(), MQTTCLIENT_PERSISTENCE_NONE,
                           nullptr));
    check(MQTTAsync_setCallbacks(client_, this, on_lost, on_message, nullptr));
    MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer;
    options.cleansession = 1;
    options.MQTTVersion = MQTTVERSION_3_1_1;
    options.maxInflight = static_cast<int>(task.window());
    options.context = this;
    options.onSuccess = [](void* self, MQTTAsync_successData*) { of(self).set(of(self).ready_); };
    options.onFailure = on_failure;
    check(MQTTAsync_connect(client_, &options));
    wait(ready_);
    if (!task.publishes) {
      ready_ = false;
      MQTTAsync_responseOptions response = responses();
      check(MQTTAsync_subscribe(client_, bench::topic, task.qos, &response));
      wait(ready_);
    }
  }

  void run() {
    if (task_.publishes) { publish(); }
    wait(done_);
  }

  void disconnect() {
    done_ = false;
    MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer;
    options.timeout = 1000;
    options.context = this;
    options.onSuccess = [](void* self, MQTTAsync_successData*) { of(self).set(of(self).done_); };
    check(MQTTAsync_disconnect(client_, &options));
    wait(done_);
    MQTTAsync_destroy(&client_);
  }

 private:
  static Client& of(void* self) { return *static_cast<Client*>(self); }

  static void check(int code) {
    if (code != MQTTASYNC_SUCCESS) { bench::fail("paho", static_cast<uint32_t>(-code)); }
  }
  static void on_lost(void*, char*) { bench::fail("the connection is lost"); }
  static void on_failure(void*, MQTTAsync_failureData* data) {
    bench::fail("a request failed", static_cast<uint32_t>(-data->code));
  }
  static int on_message(void* self, char* topic, int, MQTTAsync_message* message) {
    Client& client = of(self);
    client.messages_.take(message->payload, static_cast<size_t>(message->payloadlen));
    if (client.messages_.count() == client.task_.count) { client.set(client.done_); }
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
  }

  MQTTAsync_responseOptions responses() {
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    options.context = this;
    options.onSuccess = [](void* self, MQTTAsync_successData*) { of(self).on_success(); };
    options.onFailure = on_failure;
    return options;
  }

  // A SUBSCRIBE is answered, or a PUBLISH written (QoS 0) or acknowledged (QoS 1).
  void on_success() {
    if (!task_.publishes) {
      set(ready_);
    } else if (++finished_ == task_.count) {
      set(done_);
    } else {
      while (messages_.count() < task_.count && messages_.count() - finished_ < task_.window()) {
        publish();
      }
    }
  }

  // The first from main(), the others, one after another, from the thread that calls back.
  void publish() {
    MQTTAsync_responseOptions options = responses();
    char payload[bench::payload_size];
    std::memcpy(payload, messages_.peek(), sizeof payload);
    messages_.advance();
    check(MQTTAsync_send(client_, bench::topic, sizeof payload, payload, task_.qos, 0, &options));
  }

  void set(bool& flag) {
    const std::lock_guard<std::mutex> lock(mutex_);
    flag = true;
    changed_.notify_one();
  }
  void wait(const bool& flag) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return flag; });
  }

  bench::Task task_;
  bench::Messages messages_;
  MQTTAsync client_ = nullptr;
  uint32_t finished_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  bool done_ = false;
};

}  // namespace

int main(int count, char** arguments) { return bench::run_client<Client>(count, arguments); }
