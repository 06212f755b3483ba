// examples/tools/url.hpp — -L: mqtt[s]:// and ws[s]:// taken apart
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_URL_HPP
#define MQTT_TOOLS_URL_HPP

#include <stdlib.h>
#include <string.h>
#include <strings.h>

namespace tools {

/// Texts point into the memory that was parsed; nullptr: not there.
struct Url {
  const char* host = nullptr;
  const char* port = nullptr;
  const char* user_name = nullptr;
  const char* password = nullptr;
  char* topic = nullptr;
  bool is_tls = false;
  bool is_websocket = false;
};

namespace detail {
inline int hex_digit(char c) {
  if (c >= '0' && c <= '9') { return c - '0'; }
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}
}  // namespace detail

/// Replaces %41 by A, in place. What is no escape stays as it is; so does %00, which would end the
/// text.
inline void decode_percent(char* text) {
  char* target = text;
  for (const char* at = text; *at != 0; ++target) {
    const int high = at[0] == '%' ? detail::hex_digit(at[1]) : -1;
    const int low = high >= 0 ? detail::hex_digit(at[2]) : -1;
    const int byte = high * 16 + low;
    if (low >= 0 && byte != 0) {
      *target = static_cast<char>(byte);
      at += 3;
    } else {
      *target = *at++;
    }
  }
  *target = 0;
}

/// `scheme://[user[:password]@]host[:port]/topic`, cut up in `text`. An error for people, or
/// nullptr.
inline const char* parse_url(char* text, Url& url) {
  struct Scheme {
    const char* prefix;
    bool is_tls;
    bool is_websocket;
  };
  constexpr Scheme schemes[] = {{"mqtt://", false, false},
                                {"mqtts://", true, false},
                                {"ws://", false, true},
                                {"wss://", true, true}};
  char* rest = nullptr;
  for (const Scheme& scheme : schemes) {
    if (strncasecmp(text, scheme.prefix, strlen(scheme.prefix)) == 0) {
      rest = text + strlen(scheme.prefix);
      url.is_tls = scheme.is_tls;
      url.is_websocket = scheme.is_websocket;
    }
  }
  if (rest == nullptr) { return "Error: Unsupported URL scheme.\n\n"; }
  url.topic = strchr(rest, '/');
  if (url.topic == nullptr) {
    return "Error: Invalid URL for -L argument specified - topic missing.\n";
  }
  *url.topic++ = 0;
  decode_percent(url.topic);
  if (char* const at = strrchr(rest, '@')) {
    *at = 0;
    if (char* const colon = strchr(rest, ':')) {
      *colon = 0;
      decode_percent(colon + 1);
      url.password = colon + 1;
    }
    decode_percent(rest);
    url.user_name = rest;
    rest = at + 1;
  }
  // An IPv6 address stands in brackets.
  char* const bracket = rest[0] == '[' ? strchr(rest, ']') : nullptr;
  char* const colon = strchr(bracket != nullptr ? bracket : rest, ':');
  if (colon != nullptr) {
    *colon = 0;
    url.port = colon + 1;
  }
  if (bracket != nullptr) {
    *bracket = 0;
    rest += 1;
  }
  url.host = rest;
  return nullptr;
}

}  // namespace tools

#endif
