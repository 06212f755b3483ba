// examples/mqttd/main.cpp — mqttd, an MQTT broker that speaks Mosquitto's configuration
// SPDX-License-Identifier: MIT
//
//   c++ -std=c++17 -O2 -I. examples/mqttd/main.cpp -o mqttd
//   c++ -std=c++17 -O2 -I. -DMQTT_TLS examples/mqttd/main.cpp -o mqttd -lssl -lcrypto
//
// C libraries before glibc 2.34 want -pthread as well.

// Nothing here throws. Without this g++ links libstdc++ for exceptions that never come, and the
// idle program is resident with 3.0 instead of 1.6 MiB. Code that begins at any byte is 8 KB less.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-exceptions", "align-functions=1", "align-loops=1", "align-jumps=1")
#endif

// Nothing is unwound but by a debugger: the tables go where strip takes them. They are a tenth of
// the program.
#if defined(__GNUC__) && defined(__ELF__)
asm(".cfi_sections .debug_frame");
#endif

// The engine's checks of itself cost a tenth of its instructions: only builds for tests have them.
#if !defined(MQTT_ASSERT) && !defined(MQTTD_CHECKED)
#define MQTT_ASSERT(condition) static_cast<void>(sizeof(!(condition)))
#endif
#include <mqtt.hpp>

#include <ports/crypto/hashes.hpp>

// What runs once a connection, or when files are read, is better small than fast, and so are
// layers, which most connections do not have.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("Os")
#include <ports/posix/layers.hpp>
#pragma GCC pop_options
#endif
#include <ports/posix/broker_loop.hpp>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("Os")
#endif
#include "listeners.hpp"
#include "metrics.hpp"
#include "policy.hpp"
#include "settings.hpp"
#include "sys_tree.hpp"
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
    "       mqttd -c FILE --test-acl USER CLIENT read|write TOPIC\n"
    "       mqttd --dump-journal FILE\n"
    "\n"
    " -c, --config-file FILE  read a configuration file in Mosquitto's format\n"
    " -p, --port PORT         listen on 127.0.0.1 and ::1, port PORT; may be given again;\n"
    "                         nothing is added where the file already listens on PORT\n"
    " -d, --daemon            run in the background\n"
    " -v, --verbose           log everything; overrides the file\n"
    " -q, --quiet             log nothing; overrides the file and -v\n"
    "     --test-config       check the file given by -c and those it names, and exit\n"
    "     --test-acl ...      say whether USER (\"\": anonymous), connected as CLIENT, may read\n"
    "                         or write TOPIC, and which rule decides: exit 0 yes, 1 no\n"
    "     --dump-journal FILE print a journal, or one of its segments, as text\n"
    " -h, --help              this text\n"
    "     --version           name and version\n"
    "\n"
    "Without -c and -p: port 1883, this machine only, anonymous clients allowed.\n"
    "Exit status: 0 ended by SIGTERM or SIGINT, 1 cannot listen or no memory, 3 wrong\n"
    "option or configuration.\n";

struct Config : mqtt::BrokerConfig {
  using Policy = mqttd::Policy;
  using Journal = mqtt::posix::FileJournal;
};
using Engine = mqtt::BrokerEngine<Config>;

constexpr uint8_t journal_notice = 100;  // no signal

/// The policy, and what else the loop tells and asks: the pages beside WebSocket, the journal.
class Observer final : public Policy {
 public:
  explicit Observer(Log& log) : Policy(log) {}

  Persistence& persistence() { return persistence_; }

  void serves(Engine& engine, mqtt::Millis now) {
    engine_ = &engine;
    started_ms_ = now;
  }

  /// As they are now.
  const Figures& figures() {
    collect(engine_->statistics(), engine_->limits(), counts(), figures_);
    return figures_;
  }

  void on_notice(uint8_t notice) noexcept {
    if (notice == journal_notice) {
      persistence_.on_notice(*engine_);
    } else {
      Policy::on_notice(notice);
    }
  }
  void on_turn() noexcept {
    persistence_.on_turn(*engine_);
    Policy::on_turn();
  }

  bool on_http(uint32_t, mqtt::Text path, mqtt::posix::HttpAnswer& answer) noexcept {
    if (path == mqtt::Text("healthz")) {
      memcpy(answer.body.data(), "ok\n", 3);
      answer.size = 3;
    } else if (path == mqtt::Text("metrics")) {
      const uint64_t uptime_s = (mqtt::posix::MonotonicClock{}.now_ms() - started_ms_) / 1000;
      answer.size = static_cast<uint32_t>(write_metrics(
          figures(), uptime_s, reinterpret_cast<char*>(answer.body.data()), answer.body.size()));
      answer.type = "text/plain; version=0.0.4; charset=utf-8";
    }
    return answer.size != 0;
  }

 private:
  Persistence persistence_;
  Engine* engine_ = nullptr;
  mqtt::Millis started_ms_ = 0;
  Figures figures_;
};

using Layers = mqtt::posix::Layers<Observer, Tls>;
using Loop = mqtt::posix::BrokerLoop<Engine, Observer, mqtt::posix::DefaultPoller, Layers>;

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
    } else if (strcmp(argument, "--dump-journal") == 0) {
      if (value == nullptr) { return wrong_arguments("Error: %s wants a FILE.\n", argument); }
      command_line.dump_journal = value;
      ++i;
    } else if (strcmp(argument, "--test-acl") == 0) {
      const bool good =
          i + 4 < argc && (strcmp(argv[i + 3], "read") == 0 || strcmp(argv[i + 3], "write") == 0);
      if (!good) {
        return wrong_arguments("Error: %s wants USER CLIENT read|write TOPIC.\n", argument);
      }
      command_line.test_acl = argv + i + 1;
      i += 4;
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
  const bool tests = command_line.test_config || command_line.test_acl != nullptr;
  if (tests && command_line.config_file == nullptr) {
    fputs("Please provide a configuration file to test.\n", stderr);
    return exit_configuration;
  }
  return -1;
}

// What --test-acl says: the verdict and the line that gives it, by the rules of the first listener
// that has any.
int test_acl(const Settings& settings, const char* const* words) {
  const AclFile* acl = nullptr;
  for (uint32_t i = 0; i != settings.options.listener_count && acl == nullptr; ++i) {
    acl = settings.files.acl(i);
  }
  if (acl == nullptr) {
    puts("allowed: there is no acl_file");
    return 0;
  }
  if (!mqtt::valid_topic(words[3])) {
    fprintf(stderr, "Error: '%s' is not a valid topic.\n", words[3]);
    return exit_configuration;
  }
  Subject subject;
  subject.has_user = *words[0] != 0;
  subject.user = words[0];
  subject.client_id = words[1];
  const Access access = strcmp(words[2], "read") == 0 ? access_read : access_write;
  const AclFile::Rule* rule = acl->find(subject, access, words[3]);
  if (rule == nullptr) {
    printf("denied: no rule of %s allows it\n", acl->path());
    return exit_failed;
  }
  const bool allowed = rule->access != access_denied;
  printf("%s: %s:%u: %s %.*s\n", allowed ? "allowed" : "denied", acl->path(), rule->line,
         rule->pattern ? "pattern" : "topic", static_cast<int>(rule->filter.size()),
         rule->filter.data());
  return allowed ? 0 : exit_failed;
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
  Program(const CommandLine& command_line, SettingsPair& settings, Log& log)
      : command_line_(command_line), settings_(settings), log_(log), policy_(log) {}

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
    Listeners<Loop> listeners(options(), loop_, log_);
    if (!start_engine() || !listeners.open() || !settle()) { return exit_failed; }
    if (!restore()) {
      clean_up();
      return exit_failed;
    }
    log_.line(log_information, "mqttd version %s running", version);
    log_.flush();
    daemon_.serves();
    notify_service_manager("READY=1");
    const int error = serve();
    const bool saved = policy_.persistence().stop(engine_);
    log_.line(log_information, "mqttd version %s terminating", version);
    clean_up();
    if (error != 0) {
      errno = error;
      return failed("waiting for sockets");
    }
    return saved ? 0 : exit_failed;
  }

 private:
  const Options& options() const { return settings_.current().options; }

  int failed(const char* what) {
    log_.line(log_error, "Error: %s: %s", what, strerror(errno));
    return exit_failed;
  }

  bool set_log() {
    const Options& wanted = options();
    tzset();  // reads its file now and not with the first line
    int error = 0;
    if ((wanted.log_targets & log_to_file) != 0) { error = log_.open_file(wanted.log_file); }
    if (error != 0) {
      log_.line(log_error, "Error: Unable to open log file %s for writing: %s", wanted.log_file,
                strerror(error));
      return false;
    }
    if ((wanted.log_targets & log_to_syslog) != 0) {
      error = log_.open_syslog(static_cast<int>(wanted.log_facility));
    }
    if (error != 0) {
      log_.line(log_warning, "Warning: Unable to reach the system's log at /dev/log: %s",
                strerror(error));
    }
    log_.types = command_line_.quiet     ? uint16_t{0}
                 : command_line_.verbose ? uint16_t{log_all}
                                         : wanted.log_types;
    log_.targets = wanted.log_targets;
    log_.timestamp = wanted.log_timestamp;
    log_.timestamp_format = wanted.log_timestamp_format;
    return true;
  }

  void say_who_can_connect() {
    bool local_only = true;
    bool anonymous = false;
    bool named = false;
    for (uint32_t i = 0; i != options().listener_count; ++i) {
      const ListenerOptions& listener = options().listeners[i];
      local_only = local_only && listener.loopback;
      anonymous = anonymous || listener.allow_anonymous == Choice::yes;
      named = named || listener.password_file != nullptr || listener.names_users();
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
                options().listeners[0].port);
    }
    if (!anonymous && !named) {
      log_.line(log_warning,
                "No client can connect: allow_anonymous is false and there is no password_file. "
                "To let every client connect, add the line 'allow_anonymous true'; to let those "
                "with a password, 'password_file FILE' with a FILE made by mqtt_passwd.");
      return;
    }
    for (uint32_t i = 0; i != options().listener_count && !local_only; ++i) { say_about(i); }
  }

  void say_about(uint32_t index) {
    const ListenerOptions& listener = options().listeners[index];
    const PasswordFile* passwords = settings_.current().files.passwords(index);
    const bool by_certificate = listener.names_users();
    const bool anonymous = listener.allow_anonymous == Choice::yes && !by_certificate;
    char place[300];
    if (listener.path != nullptr) {
      snprintf(place, sizeof place, "Unix socket %s", listener.path);
    } else {
      snprintf(place, sizeof place, "Port %u of %s", listener.port,
               listener.loopback          ? "this machine"
               : listener.host == nullptr ? "every address"
                                          : listener.host);
    }
    char users[300] = "";
    if (by_certificate) {
      snprintf(users, sizeof users, "whom a certificate or key names");
    } else if (passwords != nullptr) {
      snprintf(users, sizeof users, "%s%u users of %s", anonymous ? " and the " : "the ",
               passwords->count(), listener.password_file);
    }
    log_.line(log_information, "%s: %s%s can connect%s%s.", place,
              anonymous        ? "everybody without a user name"
              : *users == '\0' ? "nobody"
                               : "",
              users, listener.acl_file == nullptr ? "" : ", with the rights of ",
              listener.acl_file == nullptr ? "" : listener.acl_file);
  }

  bool start_engine() {
    machine_.descriptors = raise_descriptor_limit();
    machine_.memory_bytes = mqtt::posix::memory_bytes();
    mqtt::BrokerLimits limits;
    if (!set_limits<Config>(options(), machine_, limits)) {
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
    Listeners<Loop>::set_layers(options(), settings_.current().tls, loop_);
    if (!pool_.reserve(bytes) || !policy_.start(limits.connections) ||
        loop_.start(loop_options) != 0) {
      log_.line(log_error, "Error: Out of memory.");
      return false;
    }
    policy_.use(options(), settings_.current().files);
    policy_.serves(engine_, clock_.now_ms());
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

  // --- serving ---

  // An errno, 0 when a signal ended it.
  int serve() {
    watchdog_ms_ = watchdog_period_ms();
    sys_due_ms_ = watchdog_due_ms_ = clock_.now_ms();
    int error = 0;
    bool published = between_turns();
    while (!loop_.stopping() && error == 0) {
      // What was decided or published between turns is due at once.
      error = loop_.turn(published || policy_.checks_passwords() ? 0 : wait_ms());
      published = between_turns();
    }
    loop_.stop();
    return error;
  }

  // -1: nothing of ours is due.
  int wait_ms() const {
    mqtt::Millis due = ~mqtt::Millis{0};
    if (options().sys_interval != 0) { due = sys_due_ms_; }
    if (watchdog_ms_ != 0 && watchdog_due_ms_ < due) { due = watchdog_due_ms_; }
    return mqtt::posix::wait_ms(due, clock_.now_ms());
  }

  // What has no place in a turn, because it calls the engine. True when the engine has output.
  bool between_turns() {
    const mqtt::Millis now = clock_.now_ms();
    output_ = false;
    if (policy_.checks_passwords()) {
      policy_.check_passwords([&](mqtt::ConnectionId id, const mqtt::ConnectAnswer& answer) {
        output_ = true;
        return engine_.answer_connect(id, answer, now);
      });
    }
    if (policy_.take_reload()) { reload(); }
    if (policy_.take_save()) { save(); }
    if (options().sys_interval != 0 && now >= sys_due_ms_) { publish_figures(now); }
    policy_.say_dropped(engine_.statistics().publish_dropped);
    if (watchdog_ms_ != 0 && now >= watchdog_due_ms_) {
      notify_service_manager("WATCHDOG=1");
      watchdog_due_ms_ = now + watchdog_ms_;
    }
    if ((log_.targets & log_to_topic) != 0) {
      log_.give_to_topics([&](const char* topic, const char* text, size_t size) {
        publish(topic, mqtt::Text(text, static_cast<uint32_t>(size)), false);
      });
    }
    log_.flush();
    return output_;
  }

  void save() {
    const bool on = policy_.persistence().is_on();
    if (on) { policy_.persistence().save(); }
    log_.line(log_notice, on ? "Writing the journal anew." : "There is nothing to save.");
  }

  void publish(const char* topic, mqtt::Text text, bool retain) {
    mqtt::Publish packet;
    packet.topic = topic;
    packet.payload = text.bytes();
    packet.qos = mqtt::Qos::exactly_once;
    packet.retain = retain;
    (void)engine_.publish(packet, clock_.now_ms());
    output_ = true;
  }

  void publish_figures(mqtt::Millis now) {
    const auto retain = [this](const char* topic, const char* text) { publish(topic, text, true); };
    if (sys_started_) {
      sys_tree_.update(now, policy_.figures(), retain);
    } else {
      sys_tree_.start(version, now, policy_.figures(), retain);
      sys_started_ = true;
    }
    sys_due_ms_ = now + static_cast<mqtt::Millis>(SysTree::wait_ms(options().sys_interval));
  }

  // Reads everything anew; only when all of it is good does it count. Nobody is dropped.
  void reload() {
    if (command_line_.config_file == nullptr) {
      log_.line(log_notice, "Reloading config: there is no file; everything is unchanged.");
      return;
    }
    notify_reloading();
    log_.line(log_information, "Reloading config.");
    mqtt::BrokerLimits limits;
    if (!settings_.read_next(command_line_, log_) || !settings_.next_fits(log_)) {
      log_.line(log_error, "Error: The configuration is not used; the old settings stay.");
    } else {
      settings_.take_next();
      policy_.use(options(), settings_.current().files);
      Listeners<Loop>::set_layers(options(), settings_.current().tls, loop_);
      sys_due_ms_ = clock_.now_ms();
      if (!set_log()) { log_.line(log_error, "Error: The old log stays."); }
      if (!set_limits<Config>(options(), machine_, limits) || differ(limits, engine_.limits())) {
        log_.line(log_warning,
                  "Warning: memory_limit, max_queued_bytes, max_inflight_bytes or the limits of "
                  "connections and clients have changed; they count from the next start.");
      }
      engine_.change_limits(limits);
      log_.line(log_information, "Config reloaded from %s.", command_line_.config_file);
    }
    notify_service_manager("READY=1");
  }

  // --- the rest of starting and ending ---

  bool settle() {
    take_signals(loop_);
    if (options().pid_file != nullptr && !write_pid_file(options().pid_file)) {
      log_.line(log_error, "Error: Unable to write pid file %s: %s", options().pid_file,
                strerror(errno));
      return false;
    }
    if (options().user != nullptr) {
      if (!become_user(options().user)) {
        log_.line(log_error, "Error: Unable to run as user '%s': %s", options().user,
                  strerror(errno));
        clean_up();
        return false;
      }
      log_.line(log_information, "Info: running mqttd as user: %s.", options().user);
      settings_.current().warn_if_unreadable(command_line_.config_file, log_);
    }
    if (geteuid() == 0) {
      log_.line(
          log_warning,
          "Warning: mqttd should not be run as root/administrator; add the line 'user NAME'.");
    }
    return true;
  }

  // As the user we have become, so that all files are that user's. Clients that connect meanwhile
  // wait.
  bool restore() {
    Persistence& persistence = policy_.persistence();
    const PersistenceOptions& wanted = options().persistence;
    SyncChoice sync;
    if (wanted.sync != nullptr) { (void)read_sync(wanted.sync, sync); }
    return persistence.open(wanted, sync, engine_.limits(), log_) == 0 &&
           persistence.recover(engine_, clock_.now_ms()) == 0 &&
           persistence.start(engine_, loop_, journal_notice) == 0;
  }

  void clean_up() {
    notify_service_manager("STOPPING=1");
    if (options().pid_file != nullptr) { unlink(options().pid_file); }
    for (uint32_t i = 0; i != options().listener_count; ++i) {
      if (options().listeners[i].path != nullptr) { unlink(options().listeners[i].path); }
    }
  }

  const CommandLine& command_line_;
  SettingsPair& settings_;
  Log& log_;
  Machine machine_;
  Daemon daemon_;
  mqtt::posix::MonotonicClock clock_;
  mqtt::posix::Reservation pool_;
  Observer policy_;
  Engine engine_{policy_, policy_.persistence().journal()};
  Loop loop_{engine_, policy_};
  SysTree sys_tree_;
  mqtt::Millis sys_due_ms_ = 0;
  mqtt::Millis watchdog_ms_ = 0;
  mqtt::Millis watchdog_due_ms_ = 0;
  bool sys_started_ = false;
  bool output_ = false;  // the engine has something to send
};

int run(int argc, char** argv) {
  Log log;
  CommandLine command_line;
  const int status = parse(argc, argv, command_line);
  if (status >= 0) { return status; }
  if (command_line.dump_journal != nullptr) { return dump_journal(command_line.dump_journal); }
  SettingsPair settings;
  if (!settings.read_next(command_line, log)) { return exit_configuration; }
  settings.take_next();
  if (command_line.test_acl != nullptr) {
    return test_acl(settings.current(), command_line.test_acl);
  }
  if (command_line.test_config) {
    puts("Configuration file is OK.");
    return 0;
  }
  Program program(command_line, settings, log);
  return program.run();
}

}  // namespace
}  // namespace mqttd

int main(int argc, char** argv) { return mqttd::run(argc, argv); }
