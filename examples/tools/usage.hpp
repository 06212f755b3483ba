// examples/tools/usage.hpp — --help and --version, and how a program begins
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_USAGE_HPP
#define MQTT_TOOLS_USAGE_HPP

#include <signal.h>

#include "session.hpp"

namespace tools {

namespace detail {
inline constexpr const char* connection_help =
    "Where to\n"
    "  -h, --host HOST            default localhost\n"
    "  -p, --port PORT            default 1883, with TLS 8883\n"
    "  --unix PATH                a Unix socket instead\n"
    "  --ws                       in WebSocket, path /mqtt\n"
    "  -L, --url URL              mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC, or ws[s]://…;\n"
    "                             %XX stands for a byte\n"
    "  -A ADDRESS                 the address of this machine to connect from\n"
    "Who\n"
    "  -u, --username NAME\n"
    "  -P, --pw PASSWORD          else the first line of --password-file FILE, else, with -u,\n"
    "                             the environment's MQTT_PASSWORD\n"
    "  -i, --id ID                default: the broker chooses\n"
    "  -I, --id-prefix PREFIX     the id is the prefix and the process id\n"
    "Connection\n"
    "  -V VERSION                 31, 311 or 5; default 311 (mqtt_rr: 5)\n"
    "  -c                         keep the session (needs -i)\n"
    "  -x SECONDS                 how long the broker keeps it (5.0); -1: for ever\n"
    "  -k, --keepalive SECONDS    5 to 65535, default 60\n"
    "  -D PACKET PROPERTY VALUE   a property (5.0), such as connect receive-maximum 10,\n"
    "                             publish user-property NAME VALUE\n"
    "  --will-topic TOPIC [--will-payload TEXT] [--will-qos QOS] [--will-retain]\n"
    "TLS (programs built with -DMQTT_TLS=1)\n"
    "  --cafile FILE, --capath FOLDER, --tls-use-os-certs   whom to trust\n"
    "  --cert FILE --key FILE     of this client\n"
    "  --psk HEX --psk-identity NAME\n"
    "  --tls-version tlsv1.2|tlsv1.3, --ciphers LIST, --tls-alpn NAME, --tls-keylog FILE\n"
    "  --insecure                 do not check the host name; --no-tls: none on port 8883\n"
    "Else\n"
    "  -o FILE                    options from a file, one a line; default ~/.config/%s\n"
    "  -d, --debug                a line for each packet\n"
    "  --quiet                    no messages about errors\n"
    "  --help, --version\n";

inline constexpr const char* pub_help =
    "mqtt_pub publishes a message, or a message for each line of its input.\n\n"
    "Usage: mqtt_pub [-h HOST] [-p PORT] -t TOPIC {-m TEXT | -f FILE | -l | -s | -n} …\n\n"
    "What\n"
    "  -t, --topic TOPIC\n"
    "  -m, --message TEXT\n"
    "  -f, --file FILE            the bytes of a file; it may be larger than memory\n"
    "  -l, --stdin-line           each line of the input is a message\n"
    "  -s, --stdin-file           the whole input is one\n"
    "  -n, --null-message         an empty one\n"
    "  -q, --qos QOS              0 (default), 1 or 2\n"
    "  -r, --retain\n"
    "  -M COUNT                   unacknowledged messages of -l, default 20\n"
    "  --repeat COUNT [--repeat-delay SECONDS]\n";

inline constexpr const char* output_help =
    "  -v, --verbose              topics too\n"
    "  -F FORMAT                  %t topic, %p payload, %x %X in hexadecimal digits, %l length,\n"
    "                             %q QoS, %r retain, %m packet id, %j JSON, %J with JSON payload,\n"
    "                             %I %U time, @Y @m @d … as strftime's %, 5.0's properties:\n"
    "                             %A %C %D %E %F %P %R %S; %f %d a float, a double\n"
    "  --pretty                   JSON on several lines\n"
    "  -N                         no end of line\n"
    "  -R                         no retained messages\n"
    "  --retain-as-published, --retain-handling always|new|never   (5.0)\n"
    "  -W SECONDS                 then end with 27\n";

inline constexpr const char* sub_help =
    "mqtt_sub subscribes and prints the messages that come.\n\n"
    "Usage: mqtt_sub [-h HOST] [-p PORT] -t FILTER [-t FILTER …] …\n\n"
    "What\n"
    "  -t, --topic FILTER         may be repeated\n"
    "  -T, --filter-out FILTER    do not print these\n"
    "  -U, --unsubscribe FILTER\n"
    "  -q, --qos QOS              0 (default), 1 or 2\n"
    "  -C COUNT                   end after so many messages\n"
    "  -E                         end when the broker has confirmed\n"
    "  --retained-only            end at the first message that is not retained\n"
    "  --remove-retained          clear the retained messages that come\n"
    "  --random-filter PERCENT    print so many of them\n"
    "  -w, --watch                a line of the screen for each topic\n";

inline constexpr const char* rr_help =
    "mqtt_rr publishes a request and prints the response.\n\n"
    "Usage: mqtt_rr [-h HOST] [-p PORT] -t TOPIC -e TOPIC {-m TEXT | -f FILE | -s | -n} …\n\n"
    "What\n"
    "  -t, --topic TOPIC          of the request\n"
    "  -e TOPIC                   of the response\n"
    "  -m TEXT, -f FILE, -s, -n   as mqtt_pub\n"
    "  -q, --qos QOS              0 (default), 1 or 2\n"
    "  --latency                  print how long it took\n";
}  // namespace detail

inline void print_usage(const Options& options) {
  const Tool tool = options.tool;
  fputs(tool == pub ? detail::pub_help : tool == sub ? detail::sub_help : detail::rr_help, stdout);
  if (tool != pub) { fputs(detail::output_help, stdout); }
  const char* const help = detail::connection_help;
  const char* const name = strstr(help, "%s");
  printf("%.*s%s%s", static_cast<int>(name - help), help, options.name(), name + 2);
}

/// Reads the options; false: the program ends with ExitCode::failure, and has said why.
inline bool begin(Options& options, int count, char** arguments) {
  setvbuf(stdout, nullptr, _IOFBF, 65536);  // flushed before each wait
  signal(SIGPIPE, SIG_IGN);
  switch (parse(options, count, arguments)) {
    case Parsed::good: return true;
    case Parsed::help: print_usage(options); break;
    case Parsed::version:
      printf("%s version %d.%d.%d.\n", options.name(), MQTT_VERSION_MAJOR, MQTT_VERSION_MINOR,
             MQTT_VERSION_PATCH);
      break;
    case Parsed::wrong: fprintf(stderr, "\nUse '%s --help' to see usage.\n", options.name()); break;
  }
  return false;
}

/// Opens what -m, -f, -s or -n name; false: it has said why.
inline bool open_payload(const Options& options, Payload& payload) {
  const bool is_input = options.mode == MessageMode::input;
  if (options.mode == MessageMode::text) { payload.set(mqtt::Text(options.message).bytes()); }
  if (options.mode == MessageMode::file && payload.open_file(options.file) != 0) {
    complain(options, "Error: Unable to open file \"%s\".\n", options.file);
  } else if (is_input && payload.read_input() != 0) {
    complain(options, "Error: Unable to read the input: %s.\n", strerror(errno));
  } else if (payload.size() > mqtt::remaining_length_max) {
    complain(options, "Error: %s must be less than %u bytes.\n\n",
             is_input ? "Message length" : "File", mqtt::remaining_length_max);
  } else if (is_input && payload.size() == 0) {
    complain(options, "Error: Zero length input.\n");
  } else {
    return true;
  }
  if (is_input) {
    complain(options, "Error loading input from stdin.\n");
  } else {
    complain(options, "Error loading input file \"%s\".\n", options.file);
  }
  return false;
}

/// Why a message may not be sent, and the exit code for it.
inline int refuse_publish(Session& session, const Options& options, mqtt::Submission submission,
                          uint64_t size) {
  using mqtt::Answer;
  switch (submission.answer) {
    case Answer::too_big:
      complain(options,
               "Error: Message payload is too large: %llu bytes, and the broker's maximum packet "
               "size is %u.\n",
               static_cast<unsigned long long>(size), session.packet_bytes_max());
      return mqtt::code(mqtt::ReasonCode::packet_too_large);
    case Answer::qos_unavailable:
      complain(options, "Error: Message QoS not supported on broker, try a lower QoS.\n");
      return mqtt::code(mqtt::ReasonCode::qos_not_supported);
    case Answer::retain_unavailable:
      complain(options, "Error: Retained messages are not supported on broker.\n");
      return mqtt::code(mqtt::ReasonCode::retain_not_supported);
    default: break;
  }
  const mqtt::Text why = submission.answer == Answer::invalid ? mqtt::text(submission.error)
                                                              : mqtt::text(submission.answer);
  complain(options, "Error: %.*s.\n", static_cast<int>(why.size()), why.data());
  return ExitCode::failure;
}

}  // namespace tools

#endif
