// mqtt_pub: publishes a message, or a message for each line of its input, as mosquitto_pub does.
//
//   c++ -std=c++17 -O2 -I. examples/mqtt_pub/main.cpp -o mqtt_pub

#include "../tools/usage.hpp"

namespace {

using mqtt::ClientEvent;
using mqtt::ClientEventType;
using tools::ExitCode;
using tools::MessageMode;

/// Lines of the input, without the end of line; the memory grows with the longest.
class Lines {
 public:
  enum class State : uint8_t { line, wait, end };

  /// The next line, which lasts until the call after it.
  State next(mqtt::Bytes& line) {
    begin_ = next_;
    while (true) {
      const void* const found = memchr(text_.data() + seen_, '\n', text_.size() - seen_);
      if (found != nullptr) {
        const size_t end = static_cast<size_t>(static_cast<const char*>(found) - text_.data());
        line = view(end);
        next_ = seen_ = end + 1;
        return State::line;
      }
      seen_ = text_.size();
      if (at_end_ || text_.size() - begin_ > mqtt::remaining_length_max) { return last(line); }
      pollfd wait{STDIN_FILENO, POLLIN, 0};
      if (poll(&wait, 1, 0) == 0) {
        next_ = begin_;
        return State::wait;
      }
      fill();
    }
  }

 private:
  mqtt::Bytes view(size_t end) const {
    return mqtt::Text(text_.data() + begin_, static_cast<uint32_t>(end - begin_)).bytes();
  }
  State last(mqtt::Bytes& line) {
    line = view(text_.size());
    next_ = text_.size();
    return line.empty() ? State::end : State::line;
  }
  void fill() {
    text_.erase(0, begin_);
    seen_ -= begin_;
    begin_ = 0;
    const size_t old = text_.size();
    text_.resize(old + 65536);
    const ssize_t got = read(STDIN_FILENO, &text_[old], 65536);
    text_.resize(old + (got > 0 ? static_cast<size_t>(got) : 0));
    at_end_ = got == 0 || (got < 0 && !mqtt::posix::try_later(errno));
  }

  std::string text_;
  size_t begin_ = 0;  // the line being looked for
  size_t next_ = 0;   // the line after it
  size_t seen_ = 0;   // no end of line before this
  bool at_end_ = false;
};

class Publisher {
 public:
  explicit Publisher(tools::Options& options) : options_(options), session_(options) {}

  int run() {
    if (options_.mode != MessageMode::lines && !tools::open_payload(options_, payload_)) {
      return ExitCode::failure;
    }
    if (options_.topic == nullptr || options_.mode == MessageMode::none) {
      fputs("Error: Both topic and message must be supplied.\n", stderr);
      tools::print_usage(options_);
      return ExitCode::failure;
    }
    if (!session_.prepare() || !session_.dial()) { return ExitCode::failure; }
    if (options_.mode == MessageMode::lines) { session_.keep_dialing(); }
    head_.topic = options_.topic;
    head_.qos = options_.level();
    head_.retain = options_.retain;
    if (options_.is_v5()) { head_.properties = options_.properties[tools::Place::publish].view(); }
    while (!over_) { turn(); }
    return exit_code_;
  }

 private:
  void turn() {
    ClientEvent event;
    while (!over_ && session_.next_event(event)) { handle(event); }
    if (over_) { return; }
    mqtt::Millis deadline = ~mqtt::Millis{0};
    waits_for_input_ = false;
    if (session_.engine().online() && !session_.is_ending()) { deadline = work(); }
    if (over_ || deadline == 0 || session_.transmit_now()) { return; }
    fflush(stdout);
    session_.wait(deadline, waits_for_input_ ? STDIN_FILENO : -1);
  }

  // Publishes what may be published now. When to come back; 0: at once.
  mqtt::Millis work() {
    constexpr mqtt::Millis later = ~mqtt::Millis{0};
    if (payload_.failed()) {
      tools::complain(options_, "Error: The file \"%s\" got shorter or cannot be read any more.\n",
                      options_.file);
      return stop(ExitCode::failure);
    }
    if (options_.mode == MessageMode::lines) { return publish_lines(); }
    if (!session_.engine().idle() || under_way_ != 0) { return later; }
    if (published_ == options_.repeat_count) { return finish(); }
    const mqtt::Millis now = session_.now();
    if (published_ != 0 && now < repeat_at_) { return repeat_at_; }
    return publish(payload_) ? 0 : later;
  }

  mqtt::Millis publish_lines() {
    constexpr mqtt::Millis later = ~mqtt::Millis{0};
    for (uint32_t count = 0; count != 1000; ++count) {
      if (under_way_ >= static_cast<uint32_t>(options_.inflight_max) ||
          session_.engine().streaming()) {
        return later;
      }
      if (!has_line_) {
        mqtt::Bytes line;
        const Lines::State state = lines_.next(line);
        waits_for_input_ = state == Lines::State::wait;
        if (waits_for_input_) { return later; }
        if (state == Lines::State::end) {
          return session_.engine().idle() && under_way_ == 0 ? finish() : later;
        }
        payload_.set(line);
        has_line_ = true;
      }
      if (!publish(payload_)) { return later; }
      has_line_ = false;
    }
    return 0;
  }

  // False: not now.
  bool publish(tools::Payload& payload) {
    const mqtt::Submission submission = session_.publish(head_, payload);
    if (submission.answer == mqtt::Answer::full || submission.answer == mqtt::Answer::offline) {
      return false;
    }
    if (!submission) {
      stop(tools::refuse_publish(session_, options_, submission, payload.size()));
      return false;
    }
    published_ += 1;
    if (head_.qos != mqtt::Qos::at_most_once) { under_way_ += 1; }
    repeat_at_ = session_.now() + options_.repeat_delay_ms;
    return true;
  }

  mqtt::Millis finish() {
    session_.disconnect();
    return 0;
  }
  mqtt::Millis stop(int exit_code) {
    exit_code_ = exit_code;
    return finish();
  }
  void end(int exit_code) {
    exit_code_ = exit_code;
    over_ = true;
  }

  void handle(const ClientEvent& event) {
    switch (event.type) {
      case ClientEventType::refused:
        end(session_.refusal(event));
        tools::complain(
            options_, "%s",
            options_.is_v5() ? tools::protocol_error_text : "Error: The connection was refused.\n");
        break;
      case ClientEventType::closed:
        if (session_.is_ending()) {
          over_ = true;
        } else if (options_.mode != MessageMode::lines ||
                   mqtt::kind(event.error) != mqtt::ErrorKind::link) {
          end(session_.loss(event));
        }
        break;
      case ClientEventType::published: acknowledged(event); break;
      case ClientEventType::none:
      case ClientEventType::connected:
      case ClientEventType::message:
      case ClientEventType::skipped:
      case ClientEventType::subscribed:
      case ClientEventType::unsubscribed:
      case ClientEventType::authentication: break;
    }
  }

  void acknowledged(const ClientEvent& event) {
    under_way_ -= 1;
    repeat_at_ = session_.now() + options_.repeat_delay_ms;
    if (event.answer != mqtt::Answer::queued) {
      stop(tools::refuse_publish(session_, options_, {event.answer}, payload_.size()));
      return;
    }
    if (!mqtt::failed(event.reason_code)) { return; }
    tools::complain(options_, "Warning: Publish %u failed: %s.\n", event.handle & 0xFFFF,
                    tools::detail::reason_text(event.reason_code));
    const mqtt::Text why = event.properties.text(mqtt::PropertyId::reason_string);
    if (!why.empty()) {
      tools::complain(options_, "%.*s\n", static_cast<int>(why.size()), why.data());
    }
  }

  tools::Options& options_;
  tools::Session session_;
  tools::Payload payload_;
  Lines lines_;
  mqtt::Publish head_;
  int published_ = 0;
  uint32_t under_way_ = 0;  // QoS > 0, not acknowledged
  mqtt::Millis repeat_at_ = 0;
  bool has_line_ = false;  // payload_ holds a line not yet published
  bool waits_for_input_ = false;
  bool over_ = false;
  int exit_code_ = ExitCode::success;
};

}  // namespace

int main(int count, char** arguments) {
  tools::Options options;
  options.tool = tools::pub;
  if (!tools::begin(options, count, arguments)) { return ExitCode::failure; }
  static Publisher publisher(options);
  return publisher.run();
}
