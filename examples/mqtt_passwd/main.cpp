// examples/mqtt_passwd/main.cpp — manages password files of mqttd and Mosquitto
// SPDX-License-Identifier: MIT
//
//   c++ -std=c++17 -O2 -I. examples/mqtt_passwd/main.cpp -o mqtt_passwd

// Nothing here throws; without this g++ links libstdc++ for exceptions that never come.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-exceptions")
#endif

#include <ctype.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>

#include <ports/crypto/hashes.hpp>
#include "../mqttd/text_file.hpp"

namespace {

constexpr int exit_failed = 1;
constexpr int exit_mismatch = 2;  // the two passwords typed
constexpr uint32_t text_max = 65535;
constexpr uint32_t salt_bytes = 12;  // what Mosquitto 2.0 insists on

constexpr char usage[] =
    "mqtt_passwd manages password files for mqttd and Mosquitto.\n"
    "\n"
    "Usage: mqtt_passwd [-H sha512 | -H sha512-pbkdf2] [-I iterations] [-c | -D] FILE USER\n"
    "       mqtt_passwd [-H sha512 | -H sha512-pbkdf2] [-I iterations] [-c] -b FILE USER PASSWORD\n"
    "       mqtt_passwd [-H ...] [-I iterations] -U FILE\n"
    "\n"
    " -b : take the password from the command line, where other users of the machine see it\n"
    " -c : make a new file, in place of one that may be there; FILE \"-\" is the output\n"
    " -D : delete the user\n"
    " -H : how passwords are hashed; sha512-pbkdf2 unless told otherwise\n"
    " -I : iterations of sha512-pbkdf2; 1000 unless told otherwise\n"
    " -U : hash the passwords of a file that has them in plain text\n"
    "\n"
    "Exit status: 0 done, 1 wrong arguments or a file that cannot be used, 2 the passwords typed\n"
    "do not match.\n";

struct Arguments {
  bool batch = false;
  bool create = false;
  bool remove = false;
  bool upgrade = false;
  bool sliced = true;  // sha512-pbkdf2
  long iterations = 1000;
  const char* file = "";
  const char* user = nullptr;
  const char* password = nullptr;
};

__attribute__((format(printf, 1, 2))) int fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("Error: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return exit_failed;
}

// --- arguments ---

// -H and -I. The exit status, or -1 to go on.
int read_option(const char* option, const char* value, Arguments& arguments) {
  if (value == nullptr) {
    return fail("%s argument given but not enough other arguments.", option);
  }
  if (strcmp(option, "-H") == 0) {
    arguments.sliced = strcmp(value, "sha512-pbkdf2") == 0;
    if (strcmp(value, "argon2id") == 0) {
      return fail("argon2id is not supported; sha512-pbkdf2 is.");
    }
    if (!arguments.sliced && strcmp(value, "sha512") != 0) {
      return fail("Unknown hash type '%s'", value);
    }
  } else {
    char* end = nullptr;
    arguments.iterations = strtol(value, &end, 10);
    if (*end != 0 || arguments.iterations < 1) { return fail("Number of iterations must be > 0."); }
    if (arguments.iterations > 100000000) { return fail("Number of iterations is too large."); }
  }
  return -1;
}

int check_together(const Arguments& arguments) {
  if (arguments.create && arguments.remove) { return fail("-c and -D cannot be used together."); }
  if (arguments.create && arguments.upgrade) { return fail("-c and -U cannot be used together."); }
  if (arguments.remove && arguments.upgrade) { return fail("-D and -U cannot be used together."); }
  if (arguments.batch && arguments.remove) { return fail("-b and -D cannot be used together."); }
  return -1;
}

// What the words behind the options are.
int read_words(int count, char** words, Arguments& arguments) {
  const int wanted = arguments.upgrade ? 1 : arguments.batch ? 3 : 2;
  if (count != wanted) {
    if (arguments.create && count < wanted) {
      return fail("-c argument given but password file%s missing.",
                  arguments.batch ? ", username, or password" : " or username");
    }
    if (arguments.remove) {
      return fail("-D argument given but password file or username missing.");
    }
    if (arguments.upgrade) { return fail("-U argument given but password file missing."); }
    fputs(usage, stdout);
    return exit_failed;
  }
  arguments.file = words[0];
  arguments.user = wanted > 1 ? words[1] : nullptr;
  arguments.password = wanted > 2 ? words[2] : nullptr;
  if (arguments.password != nullptr && strlen(arguments.password) > text_max) {
    return fail("Password must be less than 65536 characters long.");
  }
  return -1;
}

int check_user(const char* user) {
  if (user == nullptr) { return -1; }
  if (strlen(user) > text_max) { return fail("Username must be less than 65536 characters long."); }
  for (const char* each = user; *each != 0; ++each) {
    if (iscntrl(static_cast<unsigned char>(*each)) != 0) {
      return fail("Username must not contain control characters.");
    }
  }
  if (strchr(user, ':') != nullptr) { return fail("Username must not contain the ':' character."); }
  const bool blank =
      *user == 0 || mqttd::is_blank(user[0]) || mqttd::is_blank(user[strlen(user) - 1]);
  if (blank || *user == '#') {
    return fail("Username must not be empty, begin with '#', or begin or end with a blank.");
  }
  return -1;
}

int read_arguments(int argc, char** argv, Arguments& arguments) {
  int i = 1;
  for (; i < argc; ++i) {
    const char* option = argv[i];
    if (strcmp(option, "-b") == 0) {
      arguments.batch = true;
    } else if (strcmp(option, "-c") == 0) {
      arguments.create = true;
    } else if (strcmp(option, "-D") == 0) {
      arguments.remove = true;
    } else if (strcmp(option, "-U") == 0) {
      arguments.upgrade = true;
    } else if (strcmp(option, "-H") == 0 || strcmp(option, "-I") == 0) {
      const int status = read_option(option, i + 1 < argc ? argv[i + 1] : nullptr, arguments);
      if (status >= 0) { return status; }
      ++i;
    } else if (strcmp(option, "-h") == 0 || strcmp(option, "--help") == 0) {
      fputs(usage, stdout);
      return 0;
    } else {
      break;
    }
  }
  if (argc == 1) {
    fputs(usage, stdout);
    return exit_failed;
  }
  int status = check_together(arguments);
  if (status < 0) { status = read_words(argc - i, argv + i, arguments); }
  return status < 0 ? check_user(arguments.user) : status;
}

// --- typing a password ---

termios terminal;  // as it was

void restore_terminal(int) {
  tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal);
  _exit(exit_failed);
}

// Reads a line without showing it; false when it is empty or too long.
bool read_hidden(const char* prompt, char (&target)[text_max + 2]) {
  fputs(prompt, stdout);
  fflush(stdout);
  const bool is_terminal = tcgetattr(STDIN_FILENO, &terminal) == 0;
  if (is_terminal) {
    signal(SIGINT, restore_terminal);
    signal(SIGTERM, restore_terminal);
    termios hidden = terminal;
    hidden.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
  }
  const char* line = fgets(target, sizeof target, stdin);
  if (is_terminal) {
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
  }
  fputc('\n', stdout);
  const size_t size = line == nullptr ? 0 : strcspn(target, "\r\n");
  target[size] = 0;
  if (size == 0) { fail("Empty password."); }
  if (size > text_max) { fail("Password must be less than 65536 characters long."); }
  return size != 0 && size <= text_max;
}

int type_password(char (&target)[text_max + 2]) {
  static char again[text_max + 2];
  if (!read_hidden("Password: ", target) || !read_hidden("Reenter password: ", again)) {
    return exit_failed;
  }
  const bool same = strcmp(target, again) == 0;
  mqtt::crypto::wipe(again, sizeof again);
  if (!same) {
    fail("Passwords do not match.");
    return exit_mismatch;
  }
  return 0;
}

// --- files ---

// Writes `user:hash`; false when there is no randomness.
bool write_user(FILE* target, const Arguments& arguments, const char* user, const char* password) {
  uint8_t salt[salt_bytes];
  const mqtt::posix::Descriptor random(::open("/dev/urandom", O_RDONLY | O_CLOEXEC));
  if (!random || ::read(random.get(), salt, sizeof salt) != ssize_t{sizeof salt}) {
    fail("Unable to read /dev/urandom. %s.", strerror(errno));
    return false;
  }
  uint8_t digest[mqtt::crypto::Sha512::digest_size];
  const mqtt::Bytes secret = mqtt::Text(password).bytes();
  if (arguments.sliced) {
    mqtt::crypto::Pbkdf2 derivation(secret, salt, static_cast<uint32_t>(arguments.iterations));
    (void)derivation.step(~uint32_t{0});
    memcpy(digest, derivation.key().data(), sizeof digest);
  } else {
    mqtt::crypto::Sha512 hash;
    hash.update(secret);
    hash.update(salt);
    hash.finish(digest);
  }
  char salt64[mqtt::crypto::base64_size(sizeof salt) + 1] = {};
  char digest64[mqtt::crypto::base64_size(sizeof digest) + 1] = {};
  mqtt::crypto::to_base64(salt, salt64);
  mqtt::crypto::to_base64(digest, digest64);
  if (arguments.sliced) {
    fprintf(target, "%s:$7$%ld$%s$%s\n", user, arguments.iterations, salt64, digest64);
  } else {
    fprintf(target, "%s:$6$%s$%s\n", user, salt64, digest64);
  }
  return true;
}

// A file that takes the place of another one in one step, with its mode and owner.
class Replacement {
 public:
  Replacement() = default;
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;
  ~Replacement() {
    if (file_ != nullptr) {
      fclose(file_);
      unlink(name_);
    }
  }

  // None on error, which is said.
  FILE* open(const char* path) {
    const char* real = realpath(path, real_);
    if (real == nullptr) { snprintf(real_, sizeof real_, "%s", path); }
    const int size = snprintf(name_, sizeof name_, "%s.XXXXXX", real_);
    int descriptor = -1;
    if (size < static_cast<int>(sizeof name_)) {
      descriptor = mkstemp(name_);
    } else {
      errno = ENAMETOOLONG;
    }
    struct stat status {};
    if (descriptor >= 0 && real != nullptr && stat(real_, &status) == 0) {
      const bool kept = fchown(descriptor, status.st_uid, status.st_gid) == 0 &&
                        fchmod(descriptor, status.st_mode & 07777) == 0;
      if (!kept) {
        const int error = errno;
        close(descriptor);
        unlink(name_);
        descriptor = -1;
        errno = error;
      }
    }
    file_ = descriptor < 0 ? nullptr : fdopen(descriptor, "w");
    if (file_ == nullptr) {
      fail("Unable to open file %s for writing. %s.", path, strerror(errno));
    }
    return file_;
  }

  // False on error, which is said; then the other file is as it was.
  bool commit(const char* path) {
    bool good = fflush(file_) == 0 && ferror(file_) == 0 && fsync(fileno(file_)) == 0;
    good = fclose(file_) == 0 && good;
    file_ = nullptr;
    good = good && rename(name_, real_) == 0;
    if (!good) {
      fail("Unable to write %s. %s.", path, strerror(errno));
      unlink(name_);
    }
    return good;
  }

 private:
  FILE* file_ = nullptr;
  char real_[PATH_MAX];
  char name_[PATH_MAX + 8];
};

int create_file(const Arguments& arguments) {
  if (strcmp(arguments.file, "-") == 0) {
    return write_user(stdout, arguments, arguments.user, arguments.password) ? 0 : exit_failed;
  }
  Replacement replacement;
  FILE* target = replacement.open(arguments.file);
  if (target == nullptr) { return exit_failed; }
  printf("Adding password for user %s\n", arguments.user);
  const bool good = write_user(target, arguments, arguments.user, arguments.password) &&
                    replacement.commit(arguments.file);
  return good ? 0 : exit_failed;
}

// Copies a line, or what becomes of it. False on an error, which is said.
bool change_line(FILE* target, const Arguments& arguments, char* line, bool& found) {
  char* text = mqttd::skip_blanks(line);
  char* colon = strchr(text, ':');
  if (*text == 0 || *text == '#') {
    fprintf(target, "%s\n", line);
    return true;
  }
  if (colon == nullptr || colon == text) { return false; }
  *colon = 0;
  char user[text_max + 1];
  snprintf(user, sizeof user, "%s", text);
  mqttd::trim_end(user);
  char* password = mqttd::skip_blanks(colon + 1);
  mqttd::trim_end(password);
  if (*password == 0) { return false; }
  if (arguments.upgrade) {
    const bool is_hashed = strncmp(password, "$6$", 3) == 0 || strncmp(password, "$7$", 3) == 0 ||
                           strncmp(password, "$argon2id$", 10) == 0;
    if (!is_hashed) { return write_user(target, arguments, user, password); }
  } else if (arguments.user != nullptr && strcmp(user, arguments.user) == 0) {
    const bool first = !found;
    found = true;
    if (arguments.remove || !first) { return true; }
    return write_user(target, arguments, user, arguments.password);
  }
  fprintf(target, "%s:%s\n", user, password);
  return true;
}

int change_file(const Arguments& arguments) {
  mqttd::Log log;
  log.types = 0;
  mqttd::TextMemory memory;
  char* rest = memory.load(arguments.file, "password file", log);
  if (rest == nullptr) {
    return fail("Unable to open password file %s. %s.", arguments.file, strerror(errno));
  }
  Replacement replacement;
  FILE* target = replacement.open(arguments.file);
  if (target == nullptr) { return exit_failed; }
  bool found = false;
  for (uint32_t number = 1; *rest != 0; ++number) {
    char* line = rest;
    rest += strcspn(rest, "\n");
    if (*rest != 0) { *rest++ = 0; }
    if (!change_line(target, arguments, line, found)) {
      return fail("Corrupt password file at line %u.", number);
    }
  }
  if (arguments.remove && !found) {
    fprintf(stderr, "Warning: User %s not found in password file.\n", arguments.user);
    return exit_failed;
  }
  if (!arguments.remove && !arguments.upgrade) {
    printf("%s password for user %s\n", found ? "Updating" : "Adding", arguments.user);
    if (!found && !write_user(target, arguments, arguments.user, arguments.password)) {
      return exit_failed;
    }
  }
  return replacement.commit(arguments.file) ? 0 : exit_failed;
}

int run(int argc, char** argv) {
  Arguments arguments;
  int status = read_arguments(argc, argv, arguments);
  if (status >= 0) { return status; }
  const bool change = !arguments.create;
  if (change && access(arguments.file, R_OK) != 0) {
    return fail("Unable to open password file %s. %s.", arguments.file, strerror(errno));
  }
  static char typed[text_max + 2];
  if (!arguments.batch && !arguments.remove && !arguments.upgrade) {
    status = type_password(typed);
    if (status != 0) { return status; }
    arguments.password = typed;
  }
  return change ? change_file(arguments) : create_file(arguments);
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv); }
