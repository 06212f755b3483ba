// ports/websocket/http.hpp — heads of HTTP/1.1: read strictly, written into a buffer; paths
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_WEBSOCKET_HTTP_HPP
#define MQTT_PORTS_WEBSOCKET_HTTP_HPP

#include <mqtt.hpp>

namespace mqtt {
namespace http {

inline constexpr uint32_t head_bytes_max = 8192;    ///< of a request or response; above: 431
inline constexpr uint32_t target_bytes_max = 2048;  ///< of a request's target; above: 414

/// The status codes in use here.
enum class Status : uint16_t {
  none = 0,
  switching_protocols = 101,
  ok = 200,
  bad_request = 400,
  forbidden = 403,
  not_found = 404,
  method_not_allowed = 405,
  uri_too_long = 414,
  upgrade_required = 426,
  head_too_large = 431,
  version_not_supported = 505
};

namespace detail {
struct Phrase {
  Status status;
  char text[32];
};
inline constexpr Phrase phrases[] = {
    {Status::switching_protocols, "Switching Protocols"},
    {Status::ok, "OK"},
    {Status::bad_request, "Bad Request"},
    {Status::forbidden, "Forbidden"},
    {Status::not_found, "Not Found"},
    {Status::method_not_allowed, "Method Not Allowed"},
    {Status::uri_too_long, "URI Too Long"},
    {Status::upgrade_required, "Upgrade Required"},
    {Status::head_too_large, "Request Header Fields Too Large"},
    {Status::version_not_supported, "HTTP Version Not Supported"},
};
}  // namespace detail

/// The words behind a status code; they end in a zero.
inline Text phrase(Status status) noexcept {
  for (const detail::Phrase& each : detail::phrases) {
    if (each.status == status) { return each.text; }
  }
  return "";
}

// ---- words --------------------------------------------------------------------------------

namespace detail {
constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}
// RFC 9110 §5.6.2
constexpr bool is_token_character(char c) noexcept {
  const bool letter = lower(c) >= 'a' && lower(c) <= 'z';
  const bool digit = c >= '0' && c <= '9';
  if (letter || digit) { return true; }
  for (const char* each = "!#$%&'*+-.^_`|~"; *each != 0; ++each) {
    if (c == *each) { return true; }
  }
  return false;
}
// RFC 9110 §5.5: visible, space, tab, and bytes above 127
constexpr bool is_value_character(char c) noexcept {
  const auto byte = static_cast<uint8_t>(c);
  return (byte >= 0x20 && byte != 0x7F) || byte == '\t';
}
constexpr Text part(Text text, uint32_t from, uint32_t to) noexcept {
  return Text(text.data() + from, to - from);
}
constexpr Text trimmed(Text text) noexcept {
  uint32_t from = 0;
  uint32_t to = text.size();
  while (from < to && (text[from] == ' ' || text[from] == '\t')) { ++from; }
  while (to > from && (text[to - 1] == ' ' || text[to - 1] == '\t')) { --to; }
  return part(text, from, to);
}
constexpr uint32_t find(Text text, char wanted) noexcept {
  uint32_t at = 0;
  while (at < text.size() && text[at] != wanted) { ++at; }
  return at;
}
}  // namespace detail

/// Equal but for the case of ASCII letters.
constexpr bool same_word(Text a, Text b) noexcept {
  if (a.size() != b.size()) { return false; }
  for (uint32_t i = 0; i < a.size(); ++i) {
    if (detail::lower(a[i]) != detail::lower(b[i])) { return false; }
  }
  return true;
}

/// Takes the first element off a comma-separated list, trimmed; false when none is left.
constexpr bool next_element(Text& list, Text& element) noexcept {
  while (!list.empty()) {
    const uint32_t comma = detail::find(list, ',');
    element = detail::trimmed(detail::part(list, 0, comma));
    list = detail::part(list, comma < list.size() ? comma + 1 : comma, list.size());
    if (!element.empty()) { return true; }
  }
  return false;
}

constexpr bool has_element(Text list, Text wanted) noexcept {
  Text element;
  while (next_element(list, element)) {
    if (same_word(element, wanted)) { return true; }
  }
  return false;
}

// ---- reading a head -----------------------------------------------------------------------

/// Bytes up to and including the empty line that ends a head; 0: it is not there yet. `seen` of
/// them were searched before.
inline uint32_t head_size(Bytes bytes, uint32_t seen) noexcept {
  uint32_t at = seen > 3 ? seen - 3 : 0;
  for (; at + 4 <= bytes.size(); ++at) {
    if (memcmp(bytes.data() + at, "\r\n\r\n", 4) == 0) { return at + 4; }
  }
  return 0;
}

/// A head's first line in its three words, and its fields as they stand. Views of the head.
struct Head {
  Text first;   ///< method; of a response the version
  Text second;  ///< target; of a response the status code
  Text third;   ///< version; of a response the phrase
  Text fields;  ///< lines "name: value", each with its line end
};

struct Field {
  Text name;
  Text value;
};

/// Takes one field off `fields`; false at the end.
constexpr bool next_field(Text& fields, Field& field) noexcept {
  if (fields.empty()) { return false; }
  const uint32_t colon = detail::find(fields, ':');
  const uint32_t end = detail::find(fields, '\r');
  field.name = detail::part(fields, 0, colon);
  field.value = detail::trimmed(detail::part(fields, colon + 1, end));
  fields = detail::part(fields, end + 2, fields.size());
  return true;
}

/// The value of a field that may appear once; `count` says how often it did.
constexpr Text field_value(Text fields, Text name, uint32_t& count) noexcept {
  Text value;
  Field field;
  count = 0;
  while (next_field(fields, field)) {
    if (same_word(field.name, name)) {
      value = field.value;
      ++count;
    }
  }
  return value;
}

/// Whether any field of this name has this element in its list.
constexpr bool field_has(Text fields, Text name, Text element) noexcept {
  Field field;
  while (next_field(fields, field)) {
    if (same_word(field.name, name) && has_element(field.value, element)) { return true; }
  }
  return false;
}

/// Splits a complete head and checks its syntax: line ends are CR LF, names are tokens right
/// before their colon, nothing is folded, no control character. False: it is none.
inline bool split_head(Bytes bytes, Head& head) noexcept {
  const Text text(bytes);
  const uint32_t line = detail::find(text, '\r');
  const uint32_t space = detail::find(text, ' ');
  if (space >= line || line + 2 > text.size()) { return false; }
  head.first = detail::part(text, 0, space);
  const Text rest = detail::part(text, space + 1, line);
  const uint32_t second = detail::find(rest, ' ');
  head.second = detail::part(rest, 0, second);
  head.third = detail::part(rest, second < rest.size() ? second + 1 : second, rest.size());
  for (uint32_t i = 0; i < line; ++i) {
    if (!detail::is_value_character(text[i])) { return false; }
  }
  uint32_t at = line;
  while (true) {
    if (at + 1 >= text.size() || text[at] != '\r' || text[at + 1] != '\n') { return false; }
    at += 2;
    if (at + 2 == text.size()) { break; }
    const uint32_t name = at;
    while (at < text.size() && detail::is_token_character(text[at])) { ++at; }
    if (at == name || at == text.size() || text[at] != ':') { return false; }
    ++at;
    while (at < text.size() && detail::is_value_character(text[at])) { ++at; }
  }
  head.fields = detail::part(text, line + 2, at);
  return true;
}

/// A request that may be answered. Views of its head.
struct Request {
  Text method;
  Text target;
  Text fields;
  bool http_1_0 = false;
};

/// Reads a complete head as a request; Status::none, or the status that refuses it.
inline Status read_request(Bytes bytes, Request& request) noexcept {
  Head head;
  if (!split_head(bytes, head)) { return Status::bad_request; }
  request.method = head.first;
  request.target = head.second;
  request.fields = head.fields;
  request.http_1_0 = head.third == Text("HTTP/1.0");
  if (head.first.empty() || head.second.empty()) { return Status::bad_request; }
  for (const char c : head.first) {
    if (!detail::is_token_character(c)) { return Status::bad_request; }
  }
  if (head.second.size() > target_bytes_max) { return Status::uri_too_long; }
  if (head.third != Text("HTTP/1.1") && !request.http_1_0) {
    const bool is_http = head.third.size() == 8 && memcmp(head.third.data(), "HTTP/", 5) == 0;
    return is_http ? Status::version_not_supported : Status::bad_request;
  }
  uint32_t hosts = 0;
  (void)field_value(head.fields, "Host", hosts);
  // RFC 9112 §3.2: exactly one, but for HTTP/1.0
  return hosts == 1 || (hosts == 0 && request.http_1_0) ? Status::none : Status::bad_request;
}

// ---- writing a head -----------------------------------------------------------------------

/// Appends text to a buffer; what does not fit makes it fail as a whole.
class HeadWriter {
 public:
  explicit HeadWriter(Buffer target) noexcept : target_(target) {}

  HeadWriter& add(Text text) noexcept {
    if (text.size() > target_.size() - used_) {
      failed_ = true;
      return *this;
    }
    if (!text.empty()) { memcpy(target_.data() + used_, text.data(), text.size()); }
    used_ += text.size();
    return *this;
  }
  HeadWriter& add(uint64_t number) noexcept {
    char digits[20];
    uint32_t at = sizeof digits;
    do {
      digits[--at] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    return add(Text(digits + at, static_cast<uint32_t>(sizeof digits) - at));
  }
  /// Begins a response: status line only.
  HeadWriter& status(Status status) noexcept {
    return add("HTTP/1.1 ")
        .add(uint64_t{static_cast<uint16_t>(status)})
        .add(" ")
        .add(phrase(status))
        .add("\r\n");
  }
  HeadWriter& field(Text name, Text value) noexcept {
    return add(name).add(": ").add(value).add("\r\n");
  }
  HeadWriter& end() noexcept { return add("\r\n"); }

  /// Bytes written; 0 when something did not fit.
  uint32_t size() const noexcept { return failed_ ? 0 : used_; }

 private:
  Buffer target_;
  uint32_t used_ = 0;
  bool failed_ = false;
};

// ---- paths --------------------------------------------------------------------------------

namespace detail {
constexpr int32_t hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') { return c - '0'; }
  const char letter = lower(c);
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}
// A byte no path of ours may hold: a control character, or what some system takes for a separator.
constexpr bool is_foreign(uint8_t byte) noexcept {
  return byte < 0x20 || byte == 0x7F || byte == '\\';
}
}  // namespace detail

/// The path of a request's target, percent-decoded into `path`, zero-terminated, without its
/// leading '/'. A directory ("" or "a/") becomes its index.html. Status::none, or the answer:
/// bad_request for a target that is none, not_found for one that nothing may be served for: a
/// segment that is empty or begins with a dot (so no "..", no hidden file), a control character.
inline Status read_path(Text target, char (&path)[target_bytes_max + 16]) noexcept {
  if (target.empty() || target[0] != '/') { return Status::bad_request; }
  uint32_t used = 0;
  bool segment_begins = true;
  for (uint32_t i = 1; i < target.size() && target[i] != '?' && target[i] != '#'; ++i) {
    auto byte = static_cast<uint8_t>(target[i]);
    const bool encoded = byte == '%';
    if (encoded) {
      const int32_t high = i + 2 < target.size() ? detail::hex_digit(target[i + 1]) : -1;
      const int32_t low = i + 2 < target.size() ? detail::hex_digit(target[i + 2]) : -1;
      if (high < 0 || low < 0) { return Status::bad_request; }
      byte = static_cast<uint8_t>(high * 16 + low);
      i += 2;
    }
    // An encoded slash would be one more than the client's own parser sees.
    if (detail::is_foreign(byte) || (encoded && byte == '/')) { return Status::not_found; }
    if (segment_begins && (byte == '.' || byte == '/')) { return Status::not_found; }
    segment_begins = byte == '/';
    path[used++] = static_cast<char>(byte);
  }
  if (segment_begins) {
    memcpy(path + used, "index.html", 10);
    used += 10;
  }
  path[used] = 0;
  return Status::none;
}

namespace detail {
// The end of a name, then its media type, and so on.
inline constexpr char media_types[] =
    "html\0text/html; charset=utf-8\0"
    "htm\0text/html; charset=utf-8\0"
    "js\0text/javascript; charset=utf-8\0"
    "mjs\0text/javascript; charset=utf-8\0"
    "css\0text/css; charset=utf-8\0"
    "txt\0text/plain; charset=utf-8\0"
    "md\0text/plain; charset=utf-8\0"
    "json\0application/json\0"
    "map\0application/json\0"
    "webmanifest\0application/manifest+json\0"
    "xml\0application/xml\0"
    "svg\0image/svg+xml\0"
    "png\0image/png\0"
    "jpg\0image/jpeg\0"
    "jpeg\0image/jpeg\0"
    "gif\0image/gif\0"
    "webp\0image/webp\0"
    "ico\0image/x-icon\0"
    "wasm\0application/wasm\0"
    "woff\0font/woff\0"
    "woff2\0font/woff2\0"
    "pdf\0application/pdf\0";
}  // namespace detail

/// The media type of a file, by the end of its name.
inline Text content_type(Text path) noexcept {
  uint32_t dot = path.size();
  for (uint32_t i = 0; i < path.size(); ++i) {
    if (path[i] == '.') { dot = i; }
    if (path[i] == '/') { dot = path.size(); }
  }
  if (dot < path.size()) {
    const Text wanted = detail::part(path, dot + 1, path.size());
    for (const char* row = detail::media_types; *row != 0;) {
      const Text suffix = row;
      const Text type = row + suffix.size() + 1;
      if (same_word(suffix, wanted)) { return type; }
      row = type.end() + 1;
    }
  }
  return "application/octet-stream";
}

}  // namespace http
}  // namespace mqtt

#endif
