// mqtt_rr: publishes a request and prints the response, as mosquitto_rr does.
//
//   c++ -std=c++17 -O2 -I. examples/mqtt_rr/main.cpp -o mqtt_rr

#include "../tools/usage.hpp"

namespace {

using mqtt::ClientEvent;
using mqtt::ClientEventType;
using tools::ExitCode;

/// Nanoseconds of a clock that never goes back.
uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

class Requester {
 public:
  explicit Requester(tools::Options& options)
      : options_(options),
        session_(options),
        printer_(options.output, stdout, options.quiet ? nullptr : stderr) {}

  int run() {
    if (!tools::open_payload(options_, payload_)) { return ExitCode::failure; }
    if (options_.topic == nullptr || options_.response_topic == nullptr ||
        options_.mode == tools::MessageMode::none) {
      fputs("Error: All of topic, message, and response topic must be supplied.\n", stderr);
      fputs("\nUse 'mqtt_rr --help' to see usage.\n", stderr);
      return ExitCode::failure;
    }
    if (!add_response_topic() || !session_.prepare() || !session_.dial()) {
      return ExitCode::failure;
    }
    if (options_.timeout_s != 0) {
      timeout_at_ = session_.now() + static_cast<mqtt::Millis>(options_.timeout_s) * 1000;
    }
    while (!over_) { turn(); }
    report_latency();
    fflush(stdout);
    return exit_code_;
  }

 private:
  bool add_response_topic() {
    tools::PropertyList& properties = options_.properties[tools::Place::publish];
    const mqtt::Text topic = options_.response_topic;
    if (properties.has(mqtt::PropertyId::response_topic)) {
      tools::complain(options_, "Error in PUBLISH properties: Duplicate response topic.\n");
      return false;
    }
    return properties.add(topic.size(), [topic](mqtt::PropertyWriter& writer) {
      writer.text(mqtt::PropertyId::response_topic, topic);
    });
  }

  void turn() {
    ClientEvent event;
    while (!over_ && session_.next_event(event)) { handle(event); }
    if (over_) { return; }
    if (wants_publish_) { publish(); }
    if (payload_.failed()) {
      tools::complain(options_, "Error: The file \"%s\" got shorter or cannot be read any more.\n",
                      options_.file);
      stop(ExitCode::failure);
    }
    if (session_.transmit_now()) { return; }
    if (has_response_ && !session_.is_ending() && session_.engine().idle()) {
      stop(ExitCode::success);
      return;
    }
    fflush(stdout);
    session_.wait(timeout_at_);
    if (session_.now() >= timeout_at_ && !session_.is_ending()) {
      timeout_at_ = ~mqtt::Millis{0};
      tools::complain(options_, "Timed out\n");
      exit_code_ = ExitCode::timed_out;
      session_.disconnect(mqtt::ReasonCode::disconnect_with_will);
    }
  }

  void handle(const ClientEvent& event) {
    switch (event.type) {
      case ClientEventType::connected: subscribe(); break;
      case ClientEventType::refused:
        exit_code_ = session_.refusal(event);
        over_ = true;
        break;
      case ClientEventType::closed:
        if (!session_.is_ending()) { exit_code_ = session_.loss(event); }
        over_ = true;
        break;
      case ClientEventType::message: message(event.message); break;
      case ClientEventType::subscribed: subscribed(event); break;
      case ClientEventType::published:
      case ClientEventType::none:
      case ClientEventType::skipped:
      case ClientEventType::unsubscribed:
      case ClientEventType::authentication: break;
    }
  }

  void subscribe() {
    mqtt::Subscription entry;
    entry.filter = options_.response_topic;
    entry.qos = options_.level();
    entry.retain_as_published = options_.retain_as_published;
    entry.retain_handling = options_.retain_handling;
    const mqtt::Submission submission = session_.engine().subscribe(
        {&entry, 1}, options_.is_v5() ? options_.properties[tools::Place::subscribe].view()
                                      : mqtt::Properties());
    if (!submission) { stop(tools::refuse_publish(session_, options_, submission, 0)); }
  }

  void subscribed(const ClientEvent& event) {
    const bool is_allowed = !event.reason_codes.empty() && event.reason_codes[0] < 0x80;
    if (is_allowed) {
      publish();
      return;
    }
    if (!event.reason_codes.empty()) {
      tools::complain(
          options_, "%s\n",
          tools::detail::reason_text(static_cast<mqtt::ReasonCode>(event.reason_codes[0])));
    }
    stop(ExitCode::success);
  }

  void publish() {
    mqtt::Publish head;
    head.topic = options_.topic;
    head.qos = options_.level();
    if (options_.is_v5()) { head.properties = options_.properties[tools::Place::publish].view(); }
    sent_at_ = now_ns();
    const mqtt::Submission submission = session_.publish(head, payload_);
    wants_publish_ = submission.answer == mqtt::Answer::full;
    session_.transmit_now();
    if (!submission && !wants_publish_) {
      stop(tools::refuse_publish(session_, options_, submission, payload_.size()));
    }
  }

  void message(const mqtt::Publish& message) {
    const bool is_stale = message.retain && options_.no_retain;
    if (session_.is_ending() || has_response_ || is_stale) { return; }
    has_response_ = true;  // the link ends when the request, too, has come to its end
    received_at_ = now_ns();
    if (options_.debug) { session_.transmit_now(); }
    printer_.print(message);
  }

  void stop(int exit_code) {
    exit_code_ = exit_code;
    session_.disconnect();
  }

  void report_latency() const {
    if (!options_.measure_latency || received_at_ == 0) { return; }
    const uint64_t ns = received_at_ - sent_at_;
    if (ns >= 1000000000) {
      printf("Latency: %llu.%09llu\n", static_cast<unsigned long long>(ns / 1000000000),
             static_cast<unsigned long long>(ns % 1000000000));
    } else if (ns < 1000) {
      printf("Latency: %lluns\n", static_cast<unsigned long long>(ns));
    } else if (ns < 1000000) {
      printf("Latency: %fµs\n", static_cast<double>(ns) / 1e3);
    } else {
      printf("Latency: %fms\n", static_cast<double>(ns) / 1e6);
    }
  }

  tools::Options& options_;
  tools::Session session_;
  tools::Printer printer_;
  tools::Payload payload_;
  mqtt::Millis timeout_at_ = ~mqtt::Millis{0};
  uint64_t sent_at_ = 0;
  uint64_t received_at_ = 0;
  bool wants_publish_ = false;
  bool has_response_ = false;
  bool over_ = false;
  int exit_code_ = ExitCode::success;
};

}  // namespace

int main(int count, char** arguments) {
  tools::Options options;
  options.tool = tools::rr;
  options.version = mqtt::Version::v5;
  if (!tools::begin(options, count, arguments)) { return ExitCode::failure; }
  static Requester requester(options);
  return requester.run();
}
