// examples/mqttd/acl.hpp — an access control file in Mosquitto's format
// SPDX-License-Identifier: MIT
#ifndef MQTTD_ACL_HPP
#define MQTTD_ACL_HPP

#include "text_file.hpp"

namespace mqttd {

/// Bits of a rule; a rule without them denies.
enum Access : uint8_t { access_denied = 0, access_read = 1, access_write = 2 };

/// Who asks. Without a user name the rules before the first `user` line count.
struct Subject {
  mqtt::Text user;
  bool has_user = false;
  mqtt::Text client_id;
};

/// A filter with %u and %c in it, read as if they were replaced.
class PatternReader {
 public:
  /// Without a subject %u and %c are letters.
  PatternReader(mqtt::Text pattern, const Subject* subject) : rest_(pattern), subject_(subject) {
    expand();
  }
  /// The character at hand; 0 at the end.
  char peek() const { return !inner_.empty() ? inner_[0] : rest_.empty() ? '\0' : rest_[0]; }
  /// Whether that is a wildcard of the pattern and not of a name.
  bool wildcard(char which) const { return inner_.empty() && !rest_.empty() && rest_[0] == which; }
  void advance() {
    if (!inner_.empty()) {
      inner_ = tail(inner_, 1);
    } else {
      rest_ = tail(rest_, 1);
    }
    expand();
  }

 private:
  static mqtt::Text tail(mqtt::Text text, uint32_t count) {
    return mqtt::Text(text.data() + count, text.size() - count);
  }
  void expand() {
    while (subject_ != nullptr && inner_.empty() && rest_.size() >= 2 && rest_[0] == '%' &&
           (rest_[1] == 'u' || rest_[1] == 'c')) {
      inner_ = rest_[1] == 'u' ? subject_->user : subject_->client_id;
      rest_ = tail(rest_, 2);
    }
  }

  mqtt::Text rest_;
  mqtt::Text inner_;  // of a name being read
  const Subject* subject_;
};

/// Whether a filter takes a topic in; with `topic_is_filter`, whether it takes in every topic that
/// the other filter does. Wildcards in the first level do not match '$' [MQTT-4.7.2-1].
inline bool takes_in(PatternReader filter, mqtt::Text topic, bool topic_is_filter) {
  const uint32_t size = topic.size();
  const bool special = size != 0 && topic[0] == '$';
  uint32_t at = 0;
  while (true) {
    if (filter.wildcard('#')) { return at != 0 || !special; }
    if (filter.wildcard('+')) {
      const bool all = topic_is_filter && at < size && topic[at] == '#';
      if (all || (at == 0 && special)) { return false; }
      while (at != size && topic[at] != '/') { ++at; }
      filter.advance();
    }
    for (; filter.peek() != 0 && filter.peek() != '/'; ++at, filter.advance()) {
      if (at == size || topic[at] != filter.peek()) { return false; }
    }
    if (filter.peek() == 0) { return at == size; }
    filter.advance();
    if (at == size) { return filter.wildcard('#'); }  // a/# takes in a
    if (topic[at] != '/') { return false; }
    ++at;
  }
}

/// The rules of an access control file. A denying rule of the user comes before what the user may,
/// both before patterns; what no rule allows is denied.
class AclFile {
 public:
  struct Rule {
    mqtt::Text filter;
    uint32_t line;
    uint32_t next;  // counted from 1
    uint8_t access;
    bool of_user;    // has %u
    bool of_client;  // has %c
    bool pattern;
  };

  /// False: the error is logged.
  bool read(const char* path, Log& log) {
    char* text = text_.load(path, "acl file", log);
    if (text == nullptr) { return false; }
    const uint32_t lines = count_lines(text) + 1;
    if (!tables_.reserve(lines * uint64_t{sizeof(Rule) + sizeof(User) + sizeof(uint32_t)})) {
      log.line(log_error, "Error: Out of memory.");
      return false;
    }
    rules_ = reinterpret_cast<Rule*>(tables_.data());
    users_ = reinterpret_cast<User*>(rules_ + lines);
    heads_ = reinterpret_cast<uint32_t*>(users_ + lines);
    head_count_ = lines;
    path_ = path;
    User* user = &anonymous_;
    FileLine line{path, 0, nullptr};
    while (next_line(text, line)) {
      if (!read_line(line, user, log)) { return false; }
    }
    return true;
  }

  /// The rule that decides; none when no rule does, which denies.
  const Rule* find(const Subject& subject, Access access, mqtt::Text topic) const {
    const User* user = subject.has_user ? find_user(subject.user) : &anonymous_;
    if (user != nullptr) {
      const Rule* rule = find_in(user->rules, subject, access, topic);
      if (rule != nullptr) { return rule; }
    }
    if (patterns_.count == 0 || has_wildcard(subject.user) || has_wildcard(subject.client_id)) {
      return nullptr;
    }
    return find_in(patterns_, subject, access, topic);
  }
  bool allows(const Subject& subject, Access access, mqtt::Text topic) const {
    const Rule* rule = find(subject, access, topic);
    return rule != nullptr && rule->access != access_denied;
  }

  /// Whether one denying rule leaves nothing of a filter.
  bool denies_filter(const Subject& subject, mqtt::Text filter) const {
    const User* user = subject.has_user ? find_user(subject.user) : &anonymous_;
    if (user != nullptr) {
      if (has_denying(user->rules, subject, filter)) { return true; }
      if (user->rules.count != user->rules.denying) { return false; }  // may come before patterns
    }
    return has_denying(patterns_, subject, filter);
  }

  const char* path() const { return path_; }

 private:
  struct List {
    uint32_t first = 0;
    uint32_t last = 0;
    uint32_t count = 0;
    uint32_t denying = 0;
  };
  struct User {
    mqtt::Text name;
    List rules;
    uint32_t next = 0;
  };

  // --- reading ---

  bool read_line(const FileLine& line, User*& user, Log& log) {
    char* rest = line.text;
    const char* word = take_word(rest);
    if (strcmp(word, "user") == 0) {
      if (*rest == 0) { return fail_at_line(log, line, "Missing user name after 'user'."); }
      user = need_user(mqtt::Text(rest, static_cast<uint32_t>(strlen(rest))));
      return true;
    }
    const bool pattern = strcmp(word, "pattern") == 0;
    if (!pattern && strcmp(word, "topic") != 0) {
      return fail_at_line(log, line, "Unknown word '%s' in an acl file.", word);
    }
    Rule rule{};
    rule.line = line.number;
    rule.pattern = pattern;
    return read_rule(line, rest, rule, log) && add(rule, pattern ? patterns_ : user->rules);
  }

  static bool read_rule(const FileLine& line, char* rest, Rule& rule, Log& log) {
    struct Name {
      const char* name;
      uint8_t access;
    };
    constexpr uint8_t both = access_read | access_write;
    constexpr Name names[] = {{"read", access_read},
                              {"write", access_write},
                              {"readwrite", both},
                              {"deny", access_denied}};
    if (*rest == 0) { return fail_at_line(log, line, "Missing topic."); }
    char* filter = rest;
    const char* word = take_word(rest);
    rule.access = both;
    if (*rest != 0) {
      bool known = false;
      for (const Name& each : names) {
        if (strcmp(each.name, word) == 0) {
          rule.access = each.access;
          known = true;
        }
      }
      if (!known) {
        return fail_at_line(log, line, "Unknown access '%s': read, write, readwrite or deny.",
                            word);
      }
      filter = rest;
    }
    rule.filter = mqtt::Text(filter, static_cast<uint32_t>(strlen(filter)));
    rule.of_user = rule.pattern && strstr(filter, "%u") != nullptr;
    rule.of_client = rule.pattern && strstr(filter, "%c") != nullptr;
    return mqtt::valid_filter(rule.filter) ||
           fail_at_line(log, line, "'%s' is not a valid topic filter.", filter);
  }

  bool add(const Rule& rule, List& list) {
    rules_[rule_count_] = rule;
    ++rule_count_;
    (list.last == 0 ? list.first : rules_[list.last - 1].next) = rule_count_;
    list.last = rule_count_;
    ++list.count;
    list.denying += rule.access == access_denied ? 1U : 0U;
    return true;
  }

  User* need_user(mqtt::Text name) {
    const uint32_t bucket = hash_of(name) % head_count_;
    for (uint32_t i = heads_[bucket]; i != 0; i = users_[i - 1].next) {
      if (users_[i - 1].name == name) { return &users_[i - 1]; }
    }
    users_[user_count_] = User{name, List(), heads_[bucket]};
    heads_[bucket] = ++user_count_;
    return &users_[user_count_ - 1];
  }

  // --- asking ---

  const User* find_user(mqtt::Text name) const {
    for (uint32_t i = heads_[hash_of(name) % head_count_]; i != 0; i = users_[i - 1].next) {
      if (users_[i - 1].name == name) { return &users_[i - 1]; }
    }
    return nullptr;
  }

  // A name that could widen a pattern gets nothing from patterns.
  static bool has_wildcard(mqtt::Text name) {
    for (uint32_t i = 0; i != name.size(); ++i) {
      if (name[i] == '+' || name[i] == '#') { return true; }
    }
    return false;
  }

  static bool applies(const Rule& rule, const Subject& subject, mqtt::Text topic, bool is_filter) {
    if (rule.of_user && !subject.has_user) { return false; }
    return takes_in(PatternReader(rule.filter, rule.pattern ? &subject : nullptr), topic,
                    is_filter);
  }

  const Rule* find_in(const List& list, const Subject& subject, Access access,
                      mqtt::Text topic) const {
    const Rule* allowing = nullptr;
    for (uint32_t i = list.first; i != 0; i = rules_[i - 1].next) {
      const Rule& rule = rules_[i - 1];
      const bool counts =
          rule.access == access_denied || (allowing == nullptr && (rule.access & access) != 0);
      if (!counts || !applies(rule, subject, topic, false)) { continue; }
      if (rule.access == access_denied) { return &rule; }
      allowing = &rule;
      if (list.denying == 0) { break; }
    }
    return allowing;
  }

  bool has_denying(const List& list, const Subject& subject, mqtt::Text filter) const {
    for (uint32_t i = list.denying == 0 ? 0 : list.first; i != 0; i = rules_[i - 1].next) {
      const Rule& rule = rules_[i - 1];
      if (rule.access == access_denied && applies(rule, subject, filter, true)) { return true; }
    }
    return false;
  }

  TextMemory text_;
  mqtt::posix::Reservation tables_;
  Rule* rules_ = nullptr;
  User* users_ = nullptr;
  uint32_t* heads_ = nullptr;
  uint32_t head_count_ = 1;
  uint32_t rule_count_ = 0;
  uint32_t user_count_ = 0;
  User anonymous_;
  List patterns_;
  const char* path_ = "";
};

}  // namespace mqttd

#endif
