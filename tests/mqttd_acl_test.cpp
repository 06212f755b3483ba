// examples/mqttd/acl.hpp and passwords.hpp: what a file says about who may do what.
#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "../examples/mqttd/acl.hpp"
#include "../examples/mqttd/passwords.hpp"

using namespace mqttd;
using mqtt::Text;

namespace {

// A file with this text, gone at the end; `log` is what reading it said.
class File {
 public:
  explicit File(const std::string& text) {
    const int file = mkstemp(path_);
    REQUIRE(write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    close(file);
  }
  ~File() { unlink(path_); }
  const char* path() const { return path_; }

 private:
  char path_[32] = "/tmp/mqttd-acl-XXXXXX";
};

// Lines of a log, without what they would be printed with.
class Lines {
 public:
  Lines() {
    REQUIRE(log.open_file(file_.path()) == 0);
    log.targets = log_to_file;
    log.timestamp = false;
  }
  std::string text() {
    log.flush();
    std::string text;
    FILE* file = fopen(file_.path(), "r");
    char line[1000];
    while (fgets(line, sizeof line, file) != nullptr) { text += line; }
    fclose(file);
    return text;
  }
  Log log;

 private:
  File file_{""};
};

struct Rules {
  explicit Rules(const std::string& text) : file(text) { good = acl.read(file.path(), lines.log); }

  bool may(const char* user, Access access, const char* topic, const char* client = "client") {
    return acl.allows(subject(user, client), access, topic);
  }
  bool reads(const char* user, const char* topic) { return may(user, access_read, topic); }
  bool writes(const char* user, const char* topic) { return may(user, access_write, topic); }
  bool refuses(const char* user, const char* filter, const char* client = "client") {
    return acl.denies_filter(subject(user, client), filter);
  }
  static Subject subject(const char* user, const char* client) {
    Subject subject;
    subject.has_user = user != nullptr;
    if (user != nullptr) { subject.user = user; }
    subject.client_id = client;
    return subject;
  }

  File file;
  Lines lines;
  AclFile acl;
  bool good;
};

}  // namespace

TEST_CASE("a user reads and writes what the lines under the name allow, and nothing else") {
  Rules rules(
      "# a comment\n\n"
      "user admin\n"
      "topic #\n"
      "user user1\n"
      "topic write topic/temp1\n"
      "user user2\r\n"
      "  topic\tread  topic/temp2 \n");
  REQUIRE(rules.good);
  CHECK(rules.writes("admin", "topic/temp1"));
  CHECK(rules.reads("admin", "any/thing"));
  CHECK(rules.writes("user1", "topic/temp1"));
  CHECK_FALSE(rules.reads("user1", "topic/temp1"));
  CHECK_FALSE(rules.writes("user1", "topic/temp2"));
  CHECK(rules.reads("user2", "topic/temp2"));
  CHECK_FALSE(rules.writes("user2", "topic/temp2"));
  CHECK_FALSE(rules.reads("user3", "topic/temp2"));
  CHECK_FALSE(rules.reads(nullptr, "topic/temp2"));
}

TEST_CASE("lines before the first user are for clients without a name") {
  Rules rules("topic read news/#\nuser u\ntopic write news/#\n");
  REQUIRE(rules.good);
  CHECK(rules.reads(nullptr, "news/today"));
  CHECK_FALSE(rules.writes(nullptr, "news/today"));
  CHECK_FALSE(rules.reads("u", "news/today"));
  CHECK(rules.writes("u", "news/today"));
}

TEST_CASE("an empty file denies everything") {
  Rules rules("");
  REQUIRE(rules.good);
  CHECK_FALSE(rules.reads(nullptr, "a"));
  CHECK_FALSE(rules.writes("u", "a"));
  CHECK_FALSE(rules.refuses("u", "#"));
}

TEST_CASE("deny comes before what the same section allows, wherever it stands") {
  for (const char* text :
       {"user u\ntopic deny a/secret\ntopic a/#\n", "user u\ntopic a/#\ntopic deny a/secret\n",
        "user u\ntopic a/#\nuser v\nuser u\ntopic deny a/secret\n"}) {
    Rules rules(text);
    REQUIRE(rules.good);
    CHECK(rules.reads("u", "a/b"));
    CHECK_FALSE(rules.reads("u", "a/secret"));
    CHECK_FALSE(rules.writes("u", "a/secret"));
  }
}

TEST_CASE("what a user may comes before patterns, and patterns are for everybody") {
  Rules rules(
      "user u\ntopic read open/u\ntopic deny own/u/x\n"
      "pattern deny open/#\npattern readwrite own/%u/#\npattern read id/%c\n");
  REQUIRE(rules.good);
  CHECK(rules.reads("u", "open/u"));
  CHECK_FALSE(rules.reads("v", "open/u"));
  CHECK(rules.writes("u", "own/u/y"));
  CHECK(rules.reads("v", "own/v"));
  CHECK_FALSE(rules.reads("v", "own/u"));
  CHECK_FALSE(rules.reads("u", "own/u/x"));
  CHECK(rules.may("v", access_read, "id/client"));
  CHECK(rules.may(nullptr, access_read, "id/client"));
  CHECK_FALSE(rules.may(nullptr, access_read, "id/other"));
  CHECK_FALSE(rules.may(nullptr, access_read, "own/"));  // %u needs a name
}

TEST_CASE("names are put anywhere into patterns, and names with wildcards get nothing from them") {
  Rules rules("pattern read a/%u-%c/+/b\npattern write %%u\nuser +\ntopic read x\n");
  REQUIRE(rules.good);
  CHECK(rules.may("me", access_read, "a/me-id/z/b", "id"));
  CHECK_FALSE(rules.may("me", access_read, "a/me-idz/b", "id"));
  CHECK_FALSE(rules.may("+", access_read, "a/x-id/z/b", "id"));
  CHECK_FALSE(rules.may("me", access_read, "a/me-x/z/b", "#"));
  CHECK(rules.may("+", access_read, "x"));
  CHECK(rules.may("u", access_write, "%u"));
}

TEST_CASE("%u in a topic line is what it is written as") {
  Rules rules("user u\ntopic read a/%u\n");
  CHECK(rules.reads("u", "a/%u"));
  CHECK_FALSE(rules.reads("u", "a/u"));
}

TEST_CASE("topics that begin with $ are matched by filters that do [MQTT-4.7.2-1]") {
  Rules rules("user u\ntopic read #\nuser v\ntopic read $SYS/#\nuser w\ntopic +/x\n");
  CHECK_FALSE(rules.reads("u", "$SYS/broker/uptime"));
  CHECK(rules.reads("v", "$SYS/broker/uptime"));
  CHECK_FALSE(rules.reads("w", "$SYS/x"));
}

TEST_CASE("filters take in topics as subscriptions do") {
  struct Row {
    const char* filter;
    const char* topic;
  };
  const Row same[] = {{"a", "a"},    {"+", "a"},       {"#", "a/b"},         {"a/#", "a"},
                      {"a/#", "a/"}, {"a/+", "a/"},    {"a/+/c", "a/b/c"},   {"+/+", "/"},
                      {"/+", "/a"},  {"a/+/#", "a/b"}, {"+/b/#", "a/b/c/d"}, {"#", "/"}};
  for (const Row& row : same) {
    CAPTURE(row.filter);
    CHECK(takes_in(PatternReader(row.filter, nullptr), row.topic, false));
    CHECK(mqtt::matches(row.filter, row.topic));
  }
  const Row other[] = {{"a", "b"},        {"a", "a/b"},  {"a/b", "a"},   {"a/", "a"},
                       {"a", "a/"},       {"+", "a/b"},  {"+", "/a"},    {"a/+", "a"},
                       {"a/+/#", "a"},    {"a/#", "ab"}, {"a/b/#", "a"}, {"+/+", "a"},
                       {"a/+/c", "a/b/d"}};
  for (const Row& row : other) {
    CAPTURE(row.filter);
    CAPTURE(row.topic);
    CHECK_FALSE(takes_in(PatternReader(row.filter, nullptr), row.topic, false));
    CHECK_FALSE(mqtt::matches(row.filter, row.topic));
  }
}

TEST_CASE("a filter is refused when one denying rule leaves nothing of it") {
  Rules rules("user u\ntopic read #\ntopic deny a/#\ntopic deny b/+\ntopic deny $SYS/#\n");
  for (const char* filter :
       {"a", "a/#", "a/+", "a/b/c", "a/+/#", "b/+", "b/c", "$SYS/#", "$share/g/a/b"}) {
    CAPTURE(filter);
    CHECK(rules.refuses("u", mqtt::split_shared(filter).filter.data()));
  }
  for (const char* filter : {"#", "+", "+/b", "b", "b/#", "b/c/d", "ab", "c"}) {
    CAPTURE(filter);
    CHECK_FALSE(rules.refuses("u", filter));
  }
  CHECK_FALSE(rules.refuses("v", "a"));
  Rules all("user u\ntopic deny #\n");
  CHECK(all.refuses("u", "#"));
  CHECK(all.refuses("u", "+/a"));
  CHECK_FALSE(all.refuses("u", "$SYS/#"));
}

TEST_CASE("a denying pattern refuses a filter unless the user's own lines may allow part of it") {
  Rules rules("pattern deny own/%c/#\npattern read #\nuser u\ntopic read own/id/open\n");
  CHECK(rules.refuses("v", "own/id/x", "id"));
  CHECK_FALSE(rules.refuses("v", "own/id/x", "other"));
  CHECK_FALSE(rules.refuses("u", "own/id/#", "id"));
}

TEST_CASE("a wrong line is named with its file, its number and what is wrong") {
  struct Row {
    const char* text;
    const char* part;
    uint32_t line;
  };
  const Row rows[] = {{"topic a\ntopix b\n", "'topix'", 2},   {"\n\nuser\n", "user name", 3},
                      {"topic\n", "Missing topic", 1},        {"topic reed a\n", "'reed'", 1},
                      {"pattern read a/#/b\n", "'a/#/b'", 1}, {"topic read a+\n", "'a+'", 1}};
  for (const Row& row : rows) {
    CAPTURE(row.text);
    Rules rules(row.text);
    CHECK_FALSE(rules.good);
    const std::string text = rules.lines.text();
    CHECK(text.find(row.part) != std::string::npos);
    CHECK(text.find(std::string(rules.file.path()) + ":" + std::to_string(row.line)) !=
          std::string::npos);
  }
}

TEST_CASE("passwords of both hashes are read and found by name") {
  File file(
      "\xEF\xBB\xBF# users\n\n"
      "one:$6$c2FsdA==$A6Yqo1io+ha+ANUiF8e7J96JPgeEuuEwa6nYUw2F/CksLOQqGus6x5g3nhYM"
      "XMZMrqn2Fzj64qEzA5cDzlrrtA==\r\n"
      " two : $7$101$J/fN9738whE3S8s4$8b+hQ3wGNfcA2Ow542rqkxiPczYXoHqVboUrOWQ4+F8/gFUC4NSXdtC4z/"
      "CQQpkxt1Ctgqwews1WFN1QCiRXGw==\n");
  Lines lines;
  PasswordFile passwords;
  REQUIRE(passwords.read(file.path(), lines.log));
  CHECK(passwords.count() == 2);
  REQUIRE(passwords.find("one") != nullptr);
  CHECK(passwords.find("one")->hash.iterations == 0);
  CHECK(passwords.find("one")->hash.matches_at_once(Text("p").bytes()));
  CHECK_FALSE(passwords.find("one")->hash.matches_at_once(Text("q").bytes()));
  REQUIRE(passwords.find("two") != nullptr);
  CHECK(passwords.find("two")->hash.iterations == 101);
  CHECK(passwords.find("three") == nullptr);
  CHECK(passwords.find("") == nullptr);

  // As mosquitto_passwd made it for the password "p".
  uint8_t salt[PasswordHash::salt_bytes_max];
  uint8_t expected[64];
  const PasswordHash& two = passwords.find("two")->hash;
  REQUIRE(two.hash_bytes(expected));
  mqtt::crypto::Pbkdf2 derivation(Text("p").bytes(), mqtt::Bytes(salt, two.salt_bytes(salt)),
                                  two.iterations);
  CHECK(derivation.step(100));
  CHECK(mqtt::crypto::equal(derivation.key(), mqtt::Bytes(expected, sizeof expected)));
}

TEST_CASE("a wrong password line is named with its file, its number and what is wrong") {
  struct Row {
    const char* text;
    const char* part;
  };
  const Row rows[] = {{"a\n", "without user name"},
                      {":x\n", "without user name"},
                      {"a:secret\n", "not hashed"},
                      {"a:\n", "not hashed"},
                      {"a:$argon2id$v=19$m=12,t=3$c2FsdA$aGFzaA\n", "Argon2id is not supported"},
                      {"a:$7$0$c2FsdA==$aGFzaA==\n", "iterations"},
                      {"a:$7$x$c2FsdA==$aGFzaA==\n", "iterations"},
                      {"a:$7$1\n", "iterations"},
                      {"a:$7$1$c2FsdA==\n", "missing"},
                      {"a:$6$%$aGFzaA==\n", "salt is not base64"},
                      {"a:$6$c2FsdA==$aGFzaA==\n", "64 bytes"}};
  for (const Row& row : rows) {
    CAPTURE(row.text);
    File file(std::string("\n") + row.text);
    Lines lines;
    PasswordFile passwords;
    CHECK_FALSE(passwords.read(file.path(), lines.log));
    const std::string text = lines.text();
    CHECK(text.find(row.part) != std::string::npos);
    CHECK(text.find(std::string(file.path()) + ":2.") != std::string::npos);
  }
}

TEST_CASE("a file that is not there, or no text, is said to be so") {
  Lines lines;
  AclFile acl;
  CHECK_FALSE(acl.read("/nonexistent", lines.log));
  CHECK(lines.text().find("Unable to open acl file '/nonexistent'.") != std::string::npos);
  AclFile folder;
  CHECK_FALSE(folder.read("/tmp", lines.log));
  CHECK(lines.text().find("Acl file '/tmp' is a directory.") != std::string::npos);
}
