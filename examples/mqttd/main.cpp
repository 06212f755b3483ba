// examples/mqttd/main.cpp — mqttd, an MQTT broker that speaks Mosquitto's configuration
// SPDX-License-Identifier: MIT
//
//   c++ -std=c++17 -O2 -I. examples/mqttd/main.cpp -o mqttd

// Nothing here throws. Without this g++ links libstdc++ for exceptions that never come, and the
// idle program is resident with 3.0 instead of 1.6 MiB.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-exceptions")
#endif

// The engine's checks of itself cost a tenth of its instructions: only builds for tests have them.
#if !defined(MQTT_ASSERT) && !defined(MQTTD_CHECKED)
#define MQTT_ASSERT(condition) static_cast<void>(sizeof(!(condition)))
#endif
#include <mqtt.hpp>

#include "config.hpp"
#include "limits.hpp"
#include "log.hpp"
#include "options.hpp"
#include "policy.hpp"
#include "system.hpp"

namespace mqttd {
namespace {

constexpr int exit_failed = 1;  // a port, memory or a file was not to be had
constexpr int exit_configuration = 3;

#define MQTTD_TEXT_OF(number) #number
#define MQTTD_TEXT(number) MQTTD_TEXT_OF(number)
constexpr char version[] = MQTTD_TEXT(MQTT_VERSION_MAJOR) "." MQTTD_TEXT(
    MQTT_VERSION_MINOR) "." MQTTD_TEXT(MQTT_VERSION_PATCH);

constexpr char usage[] =
    "mqttd is an MQTT 5.0, 3.1.1 and 3.1 broker.\n"
    "\n"
    "Usage: mqttd [-c FILE] [-p PORT] [-d] [-v] [-q] [--test-config] [-h] [--version]\n"
    "\n"
    " -c, --config-file FILE  read a configuration file in Mosquitto's format\n"
    " -p, --port PORT         listen on 127.0.0.1 and ::1, port PORT; may be given again;\n"
    "                         nothing is added where the file already listens on PORT\n"
    " -d, --daemon            run in the background\n"
    " -v, --verbose           log everything; overrides the file\n"
    " -q, --quiet             log nothing; overrides the file and -v\n"
    "     --test-config       check the file given by -c and exit\n"
    " -h, --help              this text\n"
    "     --version           name and version\n"
    "\n"
    "Without -c and -p: port 1883, this machine only, anonymous clients allowed.\n"
    "Exit status: 0 ended by SIGTERM or SIGINT, 1 cannot listen or no memory, 3 wrong\n"
    "option or configuration.\n";

struct Config : mqtt::BrokerConfig {
  using Policy = mqttd::Policy;
};
using Engine = mqtt::BrokerEngine<Config>;
using Loop = mqtt::posix::BrokerLoop<Engine, Policy>;

// --- command line ---

bool is_either(const char* argument, const char* letter, const char* word) {
  return strcmp(argument, letter) == 0 || strcmp(argument, word) == 0;
}

int wrong_arguments(const char* format, const char* argument) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  fprintf(stderr, format, argument);
#pragma GCC diagnostic pop
  fputs(usage, stdout);
  return exit_configuration;
}

int add_port(CommandLine& command_line, const char* text) {
  char* end = nullptr;
  const long port = strtol(text, &end, 10);
  if (*text == 0 || *end != 0 || port < 1 || port > 65535) {
    return wrong_arguments("Error: Invalid port specified (%s).\n", text);
  }
  if (command_line.port_count == ports_max) {
    return wrong_arguments("Error: Only 10 ports can be specified.%s\n", "");
  }
  command_line.ports[command_line.port_count++] = static_cast<uint16_t>(port);
  return -1;
}

// The exit status, or -1 to go on.
int parse(int argc, char** argv, CommandLine& command_line) {
  for (int i = 1; i < argc; ++i) {
    const char* argument = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (is_either(argument, "-c", "--config-file")) {
      if (value == nullptr) {
        return wrong_arguments("Error: %s argument given, but no config file specified.\n",
                               argument);
      }
      command_line.config_file = value;
      ++i;
    } else if (is_either(argument, "-p", "--port")) {
      if (value == nullptr) {
        return wrong_arguments("Error: %s argument given, but no port specified.\n", argument);
      }
      const int status = add_port(command_line, value);
      if (status >= 0) { return status; }
      ++i;
    } else if (is_either(argument, "-d", "--daemon")) {
      command_line.daemon = true;
    } else if (is_either(argument, "-v", "--verbose")) {
      command_line.verbose = true;
    } else if (is_either(argument, "-q", "--quiet")) {
      command_line.quiet = true;
    } else if (strcmp(argument, "--test-config") == 0) {
      command_line.test_config = true;
    } else if (is_either(argument, "-h", "--help")) {
      fputs(usage, stdout);
      return 0;
    } else if (strcmp(argument, "--version") == 0) {
      printf("mqttd version %s\n", version);
      return 0;
    } else {
      return wrong_arguments("Error: Unknown option '%s'.\n", argument);
    }
  }
  if (command_line.test_config && command_line.config_file == nullptr) {
    fputs("Please provide a configuration file to test.\n", stderr);
    return exit_configuration;
  }
  return -1;
}

// --- the program ---

Loop* signalled_loop = nullptr;

void on_signal(int signal) {
  const bool stop = signal == SIGTERM || signal == SIGINT;
  signalled_loop->notify(stop ? Loop::stop_notice : static_cast<uint8_t>(signal));
}

void take_signals(Loop& loop) {
  signalled_loop = &loop;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  constexpr int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
  for (const int signal : signals) { sigaction(signal, &action, nullptr); }
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

class Program {
 public:
  Program(const CommandLine& command_line, Options& options, Log& log)
      : command_line_(command_line), options_(options), log_(log) {}

  int run() {
    if (!set_log()) { return exit_failed; }
    if (command_line_.daemon) {
      log_.flush();
      if (!daemon_.start()) { return failed("fork"); }
    }
    log_.line(log_information, "mqttd version %s starting", version);
    if (command_line_.config_file != nullptr) {
      log_.line(log_information, "Config loaded from %s.", command_line_.config_file);
    } else {
      log_.line(log_information, "Using default config.");
    }
    say_who_can_connect();
    if (!start_engine() || !listen_everywhere() || !settle()) { return exit_failed; }
    log_.line(log_information, "mqttd version %s running", version);
    log_.flush();
    daemon_.serves();
    notify_service_manager("READY=1");
    const int error = loop_.run();
    log_.line(log_information, "mqttd version %s terminating", version);
    clean_up();
    if (error != 0) {
      errno = error;
      return failed("waiting for sockets");
    }
    return 0;
  }

 private:
  int failed(const char* what) {
    log_.line(log_error, "Error: %s: %s", what, strerror(errno));
    return exit_failed;
  }

  bool set_log() {
    log_.types = options_.log_types;
    log_.targets = options_.log_targets;
    log_.timestamp = options_.log_timestamp;
    log_.timestamp_format = options_.log_timestamp_format;
    tzset();  // reads its file now and not with the first line
    if (command_line_.verbose) { log_.types = log_all; }
    if (command_line_.quiet) { log_.types = 0; }
    if ((log_.targets & log_to_file) == 0) { return true; }
    const int error = log_.open_file(options_.log_file);
    if (error != 0) {
      log_.targets = log_to_stderr;
      log_.line(log_error, "Error: Unable to open log file %s for writing: %s", options_.log_file,
                strerror(error));
    }
    return error == 0;
  }

  void say_who_can_connect() {
    bool local_only = true;
    bool anonymous = false;
    for (uint32_t i = 0; i != options_.listener_count; ++i) {
      local_only = local_only && options_.listeners[i].loopback;
      anonymous = anonymous || options_.listeners[i].allow_anonymous == Choice::yes;
    }
    if (local_only && anonymous) {
      log_.line(log_warning,
                "Starting in local only mode. Connections will only be possible from clients "
                "running on this machine.");
      log_.line(log_warning,
                "Every client on this machine can connect, without user name and password.");
      log_.line(log_warning,
                "To let clients of other machines connect, start mqttd -c FILE with the lines "
                "'listener %u' and 'allow_anonymous true' in FILE.",
                options_.listeners[0].port);
    }
    if (!anonymous) {
      log_.line(log_warning,
                "No client can connect: allow_anonymous is false, and password files are not "
                "built yet. To let every client connect, add the line 'allow_anonymous true'.");
    }
  }

  bool start_engine() {
    Machine machine;
    machine.descriptors = raise_descriptor_limit();
    machine.memory_bytes = mqtt::posix::memory_bytes();
    mqtt::BrokerLimits limits;
    if (!set_limits<Config>(options_, machine, limits)) {
      log_.line(log_error,
                "Error: Not enough memory: %u connections need %llu bytes. Raise memory_limit or "
                "lower global_max_connections.",
                limits.connections,
                static_cast<unsigned long long>(mqtt::broker_bytes<Config>(limits)));
      return false;
    }
    const uint64_t bytes = mqtt::broker_bytes<Config>(limits);
    mqtt::posix::LoopOptions loop_options;
    loop_options.connections = limits.connections;
    loop_options.scratch_bytes = limits.control_packet_bytes_max + 4096;
    if (!pool_.reserve(bytes) || !policy_.start(limits.connections) ||
        loop_.start(loop_options) != 0) {
      log_.line(log_error, "Error: Out of memory.");
      return false;
    }
    const mqtt::Error error =
        engine_.start(limits, {pool_.data(), bytes}, unpredictable_number(), clock_.now_ms());
    if (error != mqtt::Error::none) {
      log_.line(log_error, "Error: The limits are not possible: %s.", mqtt::text(error).data());
      return false;
    }
    log_.line(log_debug, "%u connections at most, %llu MiB of memory reserved.", limits.connections,
              static_cast<unsigned long long>(bytes >> 20));
    return true;
  }

  // --- listeners ---

  bool listen_everywhere() {
    for (uint32_t i = 0; i != options_.listener_count; ++i) {
      const ListenerOptions& listener = options_.listeners[i];
      const bool good = listener.path != nullptr ? listen_on_path(i)
                        : listener.loopback || is_localhost(listener.host)
                            ? listen_on_both(i, "127.0.0.1", "::1")
                        : listener.host == nullptr ? listen_on_both(i, "0.0.0.0", "::")
                                                   : listen_on_host(i);
      if (!good) { return false; }
    }
    return true;
  }

  static bool is_localhost(const char* host) {
    return host != nullptr && strcmp(host, "localhost") == 0;
  }

  bool report(int error) {
    log_.line(log_error, "Error: %s", strerror(error));
    return false;
  }

  bool give_to_loop(mqtt::posix::Descriptor& socket, uint32_t index) {
    const int64_t most = options_.listeners[index].max_connections;
    const uint32_t limit = most < 0 ? 0xFFFFFFFF : at_most<uint32_t>(most, 0xFFFFFFFE);
    // Mosquitto's 0 is no limit too.
    const int error = loop_.add_listener(socket, index, limit == 0 ? 0xFFFFFFFF : limit);
    return error == 0 || report(error);
  }

  bool listen_on_path(uint32_t index) {
    const char* path = options_.listeners[index].path;
    log_.line(log_information, "Opening unix listen socket on path %s.", path);
    mqtt::posix::Descriptor socket;
    const int error = mqtt::posix::listen_unix(path, mqtt::posix::ListenOptions{}, socket);
    return error == 0 ? give_to_loop(socket, index) : report(error);
  }

  // An errno, 0 when it listens.
  int listen_on(uint32_t index, const mqtt::posix::SocketAddress& address,
                mqtt::posix::Descriptor& socket) {
    const bool v6 = address.any.sa_family == AF_INET6;
    log_.line(log_information, "Opening %s listen socket on port %u.", v6 ? "ipv6" : "ipv4",
              options_.listeners[index].port);
    mqtt::posix::ListenOptions listen;
    listen.nodelay = options_.set_tcp_nodelay;
    return mqtt::posix::listen_tcp(address, listen, socket);
  }

  // One of the two families may be missing on this machine.
  bool listen_on_both(uint32_t index, const char* v4, const char* v6) {
    const ListenerOptions& listener = options_.listeners[index];
    int missing = 0;
    uint32_t opened = 0;
    const char* const hosts[] = {v4, v6};
    for (const char* host : hosts) {
      mqtt::posix::SocketAddress address;
      (void)address.read(host, listener.port);
      if (listener.domain != 0 && listener.domain != address.any.sa_family) { continue; }
      mqtt::posix::Descriptor socket;
      const int error = listen_on(index, address, socket);
      if (error == EAFNOSUPPORT || error == EADDRNOTAVAIL) {
        missing = error;
      } else if (error != 0) {
        return report(error);
      } else if (!give_to_loop(socket, index)) {
        return false;
      } else {
        ++opened;
      }
    }
    return opened != 0 || report(missing);
  }

  bool listen_on_host(uint32_t index) {
    const ListenerOptions& listener = options_.listeners[index];
    mqtt::posix::SocketAddress address;
    mqtt::posix::Descriptor socket;
    if (address.read(listener.host, listener.port)) {
      const int error = listen_on(index, address, socket);
      return error == 0 ? give_to_loop(socket, index) : report(error);
    }
    addrinfo hints{};
    hints.ai_family = listener.domain;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    char port[8];
    snprintf(port, sizeof port, "%u", listener.port);
    const int problem = getaddrinfo(listener.host, port, &hints, &found);
    if (problem != 0) {
      log_.line(log_error, "Error: Unable to resolve '%s': %s", listener.host,
                gai_strerror(problem));
      return false;
    }
    bool good = true;
    for (const addrinfo* each = found; each != nullptr && good; each = each->ai_next) {
      memcpy(&address.any, each->ai_addr, each->ai_addrlen);
      address.size = each->ai_addrlen;
      const int error = listen_on(index, address, socket);
      good = error == 0 ? give_to_loop(socket, index) : report(error);
    }
    freeaddrinfo(found);
    return good;
  }

  // --- the rest of starting and ending ---

  bool settle() {
    take_signals(loop_);
    if (options_.pid_file != nullptr && !write_pid_file(options_.pid_file)) {
      log_.line(log_error, "Error: Unable to write pid file %s: %s", options_.pid_file,
                strerror(errno));
      return false;
    }
    if (options_.user != nullptr) {
      if (!become_user(options_.user)) {
        log_.line(log_error, "Error: Unable to run as user '%s': %s", options_.user,
                  strerror(errno));
        clean_up();
        return false;
      }
      log_.line(log_information, "Info: running mqttd as user: %s.", options_.user);
    }
    if (geteuid() == 0) {
      log_.line(log_warning, "Warning: mqttd should not be run as root/administrator.");
    }
    return true;
  }

  void clean_up() {
    notify_service_manager("STOPPING=1");
    if (options_.pid_file != nullptr) { unlink(options_.pid_file); }
    for (uint32_t i = 0; i != options_.listener_count; ++i) {
      if (options_.listeners[i].path != nullptr) { unlink(options_.listeners[i].path); }
    }
  }

  const CommandLine& command_line_;
  Options& options_;
  Log& log_;
  Daemon daemon_;
  mqtt::posix::MonotonicClock clock_;
  mqtt::posix::Reservation pool_;
  Policy policy_{options_, log_};
  Config::Journal journal_;
  Engine engine_{policy_, journal_};
  Loop loop_{engine_, policy_};
};

int run(int argc, char** argv) {
  Log log;
  Options options;
  CommandLine command_line;
  const int status = parse(argc, argv, command_line);
  if (status >= 0) { return status; }
  ConfigReader config(options, log);
  if (command_line.config_file != nullptr && !config.read(command_line.config_file)) {
    return exit_configuration;
  }
  if (!complete_listeners(options, command_line)) {
    log.line(log_error, "Error: More than %u listeners.", listeners_max);
    return exit_configuration;
  }
  if (command_line.test_config) {
    puts("Configuration file is OK.");
    return 0;
  }
  Program program(command_line, options, log);
  return program.run();
}

}  // namespace
}  // namespace mqttd

int main(int argc, char** argv) { return mqttd::run(argc, argv); }
