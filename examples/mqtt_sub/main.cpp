// mqtt_sub: subscribes and prints the messages that come, as mosquitto_sub does.
//
//   c++ -std=c++17 -O2 -I. examples/mqtt_sub/main.cpp -o mqtt_sub

#include "../tools/signals.hpp"
#include "../tools/usage.hpp"

namespace {

using mqtt::ClientEvent;
using mqtt::ClientEventType;
using tools::ExitCode;

class Subscriber {
 public:
  explicit Subscriber(tools::Options& options)
      : options_(options),
        session_(options),
        printer_(options.output, stdout, options.quiet ? nullptr : stderr) {}

  int run() {
    if (options_.no_retain && options_.retained_only) {
      fputs("\nError: Combining '-R' and '--retained-only' makes no sense.\n", stderr);
      return ExitCode::failure;
    }
    if (!session_.prepare() || !session_.dial() || !signals_.start()) { return ExitCode::failure; }
    session_.keep_dialing();
    printer_.begin(options_.host);
    if (options_.timeout_s != 0) {
      timeout_at_ = session_.now() + static_cast<mqtt::Millis>(options_.timeout_s) * 1000;
    }
    while (!over_) { turn(); }
    fflush(stdout);
    return exit_code_;
  }

 private:
  void turn() {
    ClientEvent event;
    while (!over_ && session_.next_event(event)) { handle(event); }
    if (over_) { return; }
    if (!takes_messages_ && !session_.is_ending() && session_.engine().idle()) { end_link(); }
    if (fflush(stdout) != 0 || ferror(stdout) != 0) { end_link(); }  // nobody reads any more
    if (session_.is_ending() && !session_.is_up()) { over_ = true; }
    if (over_ || session_.transmit_now()) { return; }
    const bool is_signal = session_.wait(timeout_at_, signals_.descriptor());
    if (!session_.is_ending() && (is_signal || session_.now() >= timeout_at_)) {
      interrupt(is_signal);
    }
  }

  // INT, TERM or -W: the link ends with the will.
  void interrupt(bool is_signal) {
    if (!is_signal) {
      tools::complain(options_, "Timed out\n");
      exit_code_ = ExitCode::timed_out;
    } else if (!was_connected_) {
      exit_code_ = 255;
    }
    takes_messages_ = false;
    timeout_at_ = ~mqtt::Millis{0};
    session_.disconnect(mqtt::ReasonCode::disconnect_with_will);
    over_ = !session_.is_up();
  }
  void end_link() {
    takes_messages_ = false;
    if (session_.is_ending()) { return; }
    session_.disconnect();
  }

  void handle(const ClientEvent& event) {
    switch (event.type) {
      case ClientEventType::connected:
        was_connected_ = true;
        if (requests_ == 0) { subscribe(); }  // else the engine asks again
        break;
      case ClientEventType::refused:
        exit_code_ = session_.refusal(event);
        over_ = true;
        break;
      case ClientEventType::closed: closed(event); break;
      case ClientEventType::message: message(event.message); break;
      case ClientEventType::subscribed: subscribed(event); break;
      case ClientEventType::unsubscribed: requests_ -= 1; break;
      case ClientEventType::published:
      case ClientEventType::none:
      case ClientEventType::skipped:
      case ClientEventType::authentication: break;
    }
  }

  // A lost link is dialed again; a broker that says why it ends one is obeyed.
  void closed(const ClientEvent& event) {
    const bool is_kicked = event.error == mqtt::Error::none;
    over_ = session_.is_ending() || is_kicked || mqtt::kind(event.error) != mqtt::ErrorKind::link;
    if (!session_.is_ending() && !is_kicked && over_) { exit_code_ = session_.loss(event); }
  }

  void subscribe() {
    std::vector<mqtt::Subscription> entries;
    for (const char* const topic : options_.topics) {
      mqtt::Subscription entry;
      entry.filter = topic;
      entry.qos = options_.level();
      entry.retain_as_published = options_.retain_as_published;
      entry.retain_handling = options_.retain_handling;
      entries.push_back(entry);
    }
    const auto properties = [this](tools::Place place) {
      return options_.is_v5() ? options_.properties[place].view() : mqtt::Properties();
    };
    mqtt::Submission submission;
    if (!entries.empty()) {
      submission =
          session_.engine().subscribe({entries.data(), static_cast<uint32_t>(entries.size())},
                                      properties(tools::Place::subscribe));
      requests_ += submission ? 1 : 0;
    }
    for (const char* const topic : options_.unsubscribes) {
      mqtt::Subscription entry;
      entry.filter = topic;
      if (!submission) { break; }
      submission =
          session_.engine().unsubscribe({&entry, 1}, properties(tools::Place::unsubscribe));
      requests_ += submission ? 1 : 0;
    }
    if (!submission) { refuse(submission.answer, submission.error); }
  }
  void refuse(mqtt::Answer answer, mqtt::Error error) {
    const mqtt::Text why = answer == mqtt::Answer::invalid ? mqtt::text(error) : mqtt::text(answer);
    tools::complain(options_, "Error: %.*s.\n", static_cast<int>(why.size()), why.data());
    exit_code_ = ExitCode::failure;
    end_link();
  }

  void subscribed(const ClientEvent& event) {
    requests_ -= 1;
    if (event.answer != mqtt::Answer::queued) {
      refuse(event.answer, event.error);
      return;
    }
    bool is_allowed = false;
    const bool prints = options_.debug && !options_.quiet;
    if (prints) { printf("Subscribed (mid: %u)", event.handle & 0xFFFF); }
    const char* separator = ": ";
    for (const uint8_t code : event.reason_codes) {
      if (prints) { printf("%s%u", separator, code); }
      separator = ", ";
      is_allowed = is_allowed || code < 0x80;
    }
    if (prints) { putchar('\n'); }
    if (!is_allowed) {
      end_link();
      tools::complain(options_, "All subscription requests were denied.\n");
    }
    if (options_.exit_after_subscribe) { end_link(); }
  }

  bool is_filtered(mqtt::Text topic) const {
    for (const char* const filter : options_.filters_out) {
      if (mqtt::matches(filter, topic)) { return true; }
    }
    return false;
  }

  void message(const mqtt::Publish& message) {
    if (!takes_messages_) { return; }
    if (options_.retained_only && !message.retain) {
      takes_messages_ = false;
      return;
    }
    if ((message.retain && options_.no_retain) || is_filtered(message.topic)) { return; }
    if (options_.remove_retained && message.retain) { remove(message.topic); }
    if (options_.debug) { session_.transmit_now(); }  // the lines stand in the order of Mosquitto's
    printer_.print(message);
    if (ferror(stdout) != 0) { end_link(); }
    if (options_.message_count == 0) { return; }
    message_count_ += 1;
    if (message_count_ == options_.message_count) {
      takes_messages_ = false;
      if (session_.engine().idle()) { end_link(); }
    }
  }
  // An empty message takes a retained one away.
  void remove(mqtt::Text topic) {
    mqtt::Publish empty;
    empty.topic = topic;
    empty.qos = mqtt::Qos::at_least_once;
    empty.retain = true;
    const mqtt::Submission submission = session_.engine().publish(empty);
    if (submission) { return; }
    const mqtt::Text why = mqtt::text(submission.answer);
    tools::complain(options_, "Error: %.*s is not removed: %.*s.\n", static_cast<int>(topic.size()),
                    topic.data(), static_cast<int>(why.size()), why.data());
  }

  tools::Options& options_;
  tools::Session session_;
  tools::Printer printer_;
  tools::Signals signals_;
  mqtt::Millis timeout_at_ = ~mqtt::Millis{0};
  int message_count_ = 0;
  int requests_ = 0;  // SUBSCRIBE and UNSUBSCRIBE under way
  bool takes_messages_ = true;
  bool was_connected_ = false;
  bool over_ = false;
  int exit_code_ = ExitCode::success;
};

}  // namespace

int main(int count, char** arguments) {
  tools::Options options;
  options.tool = tools::sub;
  if (!tools::begin(options, count, arguments)) { return ExitCode::failure; }
  static Subscriber subscriber(options);
  return subscriber.run();
}
