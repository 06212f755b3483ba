// What the client firmwares do, whatever their transport: report a reading every second, answer
// each command, say when they are gone. Arguments: server=ADDRESS port=N version=3|4|5
// name=CLIENT-ID readings=N (then the program ends; without, it goes on) every=MS.
#ifndef EXAMPLES_CORTEX_M_CLIENT_PROGRAM_HPP
#define EXAMPLES_CORTEX_M_CLIENT_PROGRAM_HPP

#include <ports/lwip/client.hpp>
#include "board.hpp"
#include "network.hpp"

struct BoardClock : mqtt::lwip::Clock {
  uint32_t random() noexcept { return board::random_number(); }
};

inline const char* text_argument(const char* name, const char* otherwise) {
  const char* const value = board::argument(name);
  return value != nullptr ? value : otherwise;
}

/// The server that the arguments name; 10.0.2.2 is the machine that runs the emulator.
inline mqtt::lwip::Server server_of_arguments(uint32_t port) {
  mqtt::lwip::Server server;
  server.host = text_argument("server", "10.0.2.2");
  server.port = static_cast<uint16_t>(board::argument("port", port));
  return server;
}

struct ClientMemory : mqtt::ClientConfig {
  static constexpr uint32_t rx_bytes = 512;
  static constexpr uint32_t tx_bytes = 1024;
};

template <typename Transport>
class ClientProgram {
 public:
  ClientProgram(Network& network, Transport& transport)
      : network_(network), client_(transport, clock_, connect_) {
    connect_.version = static_cast<mqtt::Version>(board::argument("version", 5));
    connect_.client_id = text_argument("name", "board");
    connect_.keep_alive_s = 30;
    connect_.clean_start = true;
    connect_.will.topic = "board/state";
    connect_.will.payload = mqtt::Text("lost").bytes();
    connect_.will.qos = mqtt::Qos::at_least_once;
    connect_.will.retain = true;
    connect_.has_will = true;
    readings_ = board::argument("readings", 0);
    every_ms_ = board::argument("every", 1000);
  }

  /// Until all readings are acknowledged, or for ever; the exit status.
  template <typename HasInput>
  int run(HasInput has_input) {
    client_.start();
    static_cast<void>(client_.subscribe("board/command", mqtt::Qos::exactly_once));
    while (!finished_) {
      network_.poll();
      client_.run_once([this](const mqtt::ClientEvent& event) { on_event(event); });
      report();
      if (!has_input()) { network_.sleep(); }
    }
    for (uint32_t turn = 0; turn < 100; ++turn) {  // the last packets leave
      network_.poll();
      network_.sleep();
    }
    board::print("stack ");
    board::print_number(board::stack_used());
    board::print("\n");
    return status_;
  }

 private:
  void on_event(const mqtt::ClientEvent& event) {
    using Type = mqtt::ClientEventType;
    switch (event.type) {
      case Type::connected:
        board::print("connected\n");
        static_cast<void>(client_.publish("board/state", "online", mqtt::Qos::at_least_once, true));
        break;
      case Type::refused: say("refused", mqtt::code(event.reason_code)); break;
      case Type::closed: closed(event); break;
      case Type::message: answer(event.message); break;
      case Type::published: acknowledged_ += 1; break;
      case Type::subscribed: board::print("subscribed\n"); break;
      case Type::none:
      case Type::skipped:
      case Type::unsubscribed:
      case Type::authentication: break;
    }
  }

  void closed(const mqtt::ClientEvent& event) {
    board::print("closed: ");
    board::print(mqtt::text(event.error).data());
    board::print("\n");
    finished_ = leaving_;
  }

  // A command goes back as it came; "stop" ends the program.
  void answer(const mqtt::Publish& command) {
    if (mqtt::Text(command.payload) == "stop") { readings_ = sent_ > 0 ? sent_ : 1; }
    mqtt::Publish echo;
    echo.topic = "board/answer";
    echo.payload = command.payload;
    echo.qos = mqtt::Qos::exactly_once;
    if (!client_.publish(echo)) { say("no room for an answer", 0); }
  }

  void report() {
    if (leaving_) { return; }
    if (readings_ != 0 && sent_ >= readings_) {
      if (client_.engine().idle()) { leave(); }
      return;
    }
    const mqtt::Millis now = clock_.now_ms();
    if (!client_.online() || now < next_) { return; }
    char text[16] = "reading ";
    uint32_t size = 8;
    for (uint32_t digit = 10000; digit != 0; digit /= 10) {
      text[size++] = static_cast<char>('0' + sent_ / digit % 10);
    }
    const auto qos = static_cast<mqtt::Qos>(sent_ % 3);
    if (client_.publish("board/reading", mqtt::Text(text, size), qos)) {
      sent_ += 1;
      next_ = now + every_ms_;
    }
  }

  void leave() {
    leaving_ = true;
    status_ = 0;
    static_cast<void>(client_.disconnect());
  }

  static void say(const char* what, uint32_t number) {
    board::print(what);
    board::print(" ");
    board::print_number(number);
    board::print("\n");
  }

  Network& network_;
  BoardClock clock_;
  mqtt::Connect connect_;
  mqtt::Client<Transport, BoardClock, ClientMemory> client_;
  uint32_t readings_ = 0;
  uint32_t every_ms_ = 1000;
  uint32_t sent_ = 0;
  uint32_t acknowledged_ = 0;
  mqtt::Millis next_ = 0;
  bool leaving_ = false;
  bool finished_ = false;
  int status_ = 4;
};

#endif
