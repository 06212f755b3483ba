#include <doctest/doctest.h>
#include <ports/websocket/transport.hpp>

#include <string>
#include <vector>

#include "guard.hpp"

using namespace mqtt;
using namespace mqtt::websocket;

namespace {

std::string hex(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size();) {
    if (text[i] == ' ') {
      ++i;
      continue;
    }
    bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
    i += 2;
  }
  return bytes;
}

// A frame of a client: masked with a key that differs in every byte.
std::string frame(uint8_t first, const std::string& payload, bool masked = true) {
  const uint8_t mask[4] = {0x37, 0xFA, 0x21, 0x3D};
  std::string text(1, static_cast<char>(first));
  const auto bit = static_cast<uint8_t>(masked ? 0x80 : 0);
  if (payload.size() < 126) {
    text.push_back(static_cast<char>(bit | payload.size()));
  } else if (payload.size() < 65536) {
    text.push_back(static_cast<char>(bit | 126));
    text.push_back(static_cast<char>(payload.size() >> 8));
    text.push_back(static_cast<char>(payload.size()));
  } else {
    text.push_back(static_cast<char>(bit | 127));
    for (int shift = 56; shift >= 0; shift -= 8) {
      text.push_back(static_cast<char>(uint64_t{payload.size()} >> shift));
    }
  }
  if (!masked) { return text + payload; }
  text.append(reinterpret_cast<const char*>(mask), 4);
  for (size_t i = 0; i < payload.size(); ++i) {
    text.push_back(static_cast<char>(payload[i] ^ mask[i % 4]));
  }
  return text;
}

struct Outcome {
  std::string payload;
  std::vector<std::string> pings;
  CloseCode code = CloseCode::none;
  std::string error;
};

// Decodes a stream cut into pieces of `size` bytes, each flush against a guard page.
Outcome decode(const std::string& stream, size_t size, Side side = Side::broker) {
  FrameReader reader(side);
  Outcome outcome;
  const Guard guard(static_cast<uint32_t>(size < stream.size() ? size : stream.size()) + 1);
  for (size_t at = 0; at < stream.size(); at += size) {
    const std::string piece = stream.substr(at, size);
    const Buffer bytes = guard.flush_end(static_cast<uint32_t>(piece.size()));
    memcpy(bytes.data(), piece.data(), piece.size());
    const uint32_t got = reader.decode(bytes);
    outcome.payload.append(reinterpret_cast<const char*>(bytes.data()), got);
    Bytes ping;
    if (reader.take_ping(ping)) {
      outcome.pings.emplace_back(reinterpret_cast<const char*>(ping.data()), ping.size());
    }
  }
  outcome.code = reader.close_code();
  outcome.error = reader.error() == nullptr ? "" : reader.error();
  return outcome;
}

// The same whether it comes whole or byte by byte.
Outcome decode_both(const std::string& stream, Side side = Side::broker) {
  const Outcome whole = decode(stream, stream.size(), side);
  const Outcome bytes = decode(stream, 1, side);
  CHECK((whole.payload == bytes.payload));
  CHECK(whole.code == bytes.code);
  CHECK(whole.error == bytes.error);
  return whole;
}

void check_refused(const std::string& stream, CloseCode code, const char* error,
                   Side side = Side::broker) {
  const Outcome outcome = decode_both(stream, side);
  CHECK(outcome.code == code);
  CHECK(outcome.error == error);
}

std::string pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) { text[i] = static_cast<char>(i * 7 ^ i >> 8); }
  return text;
}

const char* const upgrade_lines =
    "Host: localhost:9001\r\n"
    "Upgrade: websocket\r\n"
    "Connection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: mqtt\r\n";

Bytes bytes_of(const std::string& text) {
  return Bytes(reinterpret_cast<const uint8_t*>(text.data()), static_cast<uint32_t>(text.size()));
}

// What a request is answered with; none: it asks for no upgrade.
http::Status status_of(const std::string& head) {
  http::Request request;
  const Guard guard(static_cast<uint32_t>(head.size()));
  const Buffer bytes = guard.flush_end(static_cast<uint32_t>(head.size()));
  memcpy(bytes.data(), head.data(), head.size());
  if (http::head_size(bytes, 0) != head.size()) { return http::Status::ok; }
  const http::Status status = http::read_request(bytes, request);
  Upgrade upgrade;
  return status != http::Status::none ? status : read_upgrade(request, upgrade);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

// ---- the upgrade --------------------------------------------------------------------------

TEST_CASE("websocket: the accept key is that of RFC 6455 section 1.3") {
  char accept[accept_size];
  websocket_accept("dGhlIHNhbXBsZSBub25jZQ==", accept);
  CHECK(std::string(accept, accept_size) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  websocket_accept("x3JJHMbDL1EzLkh9GBhXDw==", accept);
  CHECK(std::string(accept, accept_size) == "HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
}

TEST_CASE("websocket: an upgrade is answered with the subprotocol offered [MQTT-6.0.0-4]") {
  for (const char* offered : {"mqtt", "mqttv3.1", "mqtt, mqttv3.1", "mqttv3.1,mqtt", "x, mqtt"}) {
    const std::string head =
        "GET /mqtt HTTP/1.1\r\n" +
        replaced(upgrade_lines, "Protocol: mqtt", std::string("Protocol: ") + offered) + "\r\n";
    http::Request request;
    REQUIRE(http::read_request(bytes_of(head), request) == http::Status::none);
    Upgrade upgrade;
    REQUIRE(read_upgrade(request, upgrade) == http::Status::switching_protocols);
    uint8_t target[256];
    const uint32_t size = write_accept(upgrade, Buffer(target));
    const std::string expected = std::string(offered).find("mqttv3.1") == 0 ? "mqttv3.1" : "mqtt";
    CHECK(std::string(reinterpret_cast<const char*>(target), size) ==
          "HTTP/1.1 101 Switching Protocols\r\n"
          "Upgrade: websocket\r\n"
          "Connection: Upgrade\r\n"
          "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
          "Sec-WebSocket-Protocol: " +
              expected + "\r\n\r\n");
    CHECK(write_accept(upgrade, Buffer(target).first(size - 1)) == 0);
  }
}

TEST_CASE("websocket: an upgrade that is not one in every point is refused [MQTT-6.0.0-3]") {
  using http::Status;
  const std::string line = "GET /mqtt HTTP/1.1\r\n";
  const std::string good = line + upgrade_lines + "\r\n";
  CHECK(status_of(good) == Status::switching_protocols);
  CHECK(status_of(replaced(good, "/mqtt", "/any/path?x=1")) == Status::switching_protocols);
  CHECK(status_of(replaced(good, "websocket\r", "WebSocket\r")) == Status::switching_protocols);
  struct Row {
    const char* from;
    const char* to;
    Status status;
  };
  const Row rows[] = {
      {"GET", "POST", Status::method_not_allowed},
      {"GET", "get", Status::method_not_allowed},
      {"HTTP/1.1", "HTTP/1.0", Status::bad_request},
      {"HTTP/1.1", "HTTP/2.0", Status::version_not_supported},
      {"HTTP/1.1", "HTTP/1.1 ", Status::bad_request},
      {"Host: localhost:9001\r\n", "", Status::bad_request},
      {"Host:", "Host: a\r\nHost:", Status::bad_request},
      {"Upgrade: websocket", "Upgrade: h2c", Status::bad_request},
      {"Upgrade: websocket\r\n", "", Status::bad_request},
      {", Upgrade", "", Status::bad_request},
      {"keep-alive, Upgrade", "Upgraded", Status::bad_request},
      {"Version: 13", "Version: 8", Status::upgrade_required},
      {"Sec-WebSocket-Version: 13\r\n", "", Status::upgrade_required},
      {"Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", Status::upgrade_required},
      {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", Status::bad_request},
      {"ZQ==", "ZQ=", Status::bad_request},
      {"ZQ==", "ZR==", Status::bad_request},  // bits beyond the 16 bytes
      {"ZQ==", "ZQ=a", Status::bad_request},
      {"dGhl", "dG*l", Status::bad_request},
      {"dGhl", "dGhldGhl", Status::bad_request},
      {"Sec-WebSocket-Key:", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key:",
       Status::bad_request},
      {"Sec-WebSocket-Protocol: mqtt\r\n", "", Status::bad_request},
      {"Protocol: mqtt", "Protocol: chat", Status::bad_request},
      {"Protocol: mqtt", "Protocol: MQTT", Status::bad_request},
  };
  for (const Row& row : rows) {
    CAPTURE(row.to);
    CHECK(status_of(replaced(good, row.from, row.to)) == row.status);
  }
}

TEST_CASE("websocket: browsers may be let in from one origin alone") {
  const std::string good = std::string("GET / HTTP/1.1\r\n") + upgrade_lines;
  const auto status = [&](const std::string& fields, Text origin) {
    const std::string head = good + fields + "\r\n";
    http::Request request;
    REQUIRE(http::read_request(bytes_of(head), request) == http::Status::none);
    Upgrade upgrade;
    return read_upgrade(request, upgrade, origin);
  };
  const Text here = "https://example.org";
  CHECK(status("Origin: https://example.org\r\n", here) == http::Status::switching_protocols);
  CHECK(status("Origin: https://example.org\r\n", Text()) == http::Status::switching_protocols);
  CHECK(status("Origin: https://example.org.evil\r\n", here) == http::Status::forbidden);
  CHECK(status("Origin: null\r\n", here) == http::Status::forbidden);
  CHECK(status("", here) == http::Status::forbidden);
}

TEST_CASE("http: a head whose syntax is broken is refused") {
  using http::Status;
  const char* const broken[] = {
      "GET / HTTP/1.1\r\nHost : a\r\n\r\n",        // space before the colon
      "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",   // folded
      "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",   // bare LF
      "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",   // bare CR
      "GET / HTTP/1.1\r\nHost: a\x01\r\n\r\n",     // control character
      "GET / HTTP/1.1\r\nHost\r\n\r\n",            // no colon
      "GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n",  // no name
      "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",        // two spaces
      "GET / \r\nHost: a\r\n\r\n",                 // no version
      "GET /\r\nHost: a\r\n\r\n",                  // HTTP/0.9
      " GET / HTTP/1.1\r\nHost: a\r\n\r\n",        // no method
      "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",         // no token
      "\r\n\r\n",
      "GET / FTP/1.1\r\nHost: a\r\n\r\n",
  };
  for (const char* head : broken) {
    CAPTURE(head);
    CHECK(status_of(head) == Status::bad_request);
  }
  CHECK(status_of("GET / HTTP/1.1\r\nHost: a\r\n\r\n") == Status::none);
  CHECK(status_of("GET / HTTP/1.1\r\nhOST:\t a \r\nX:\r\n\r\n") == Status::none);
  CHECK(status_of("GET / HTTP/1.0\r\n\r\n") == Status::none);
  const std::string longest(http::target_bytes_max, '/');
  CHECK(status_of("GET " + longest + " HTTP/1.1\r\nHost: a\r\n\r\n") == Status::none);
  CHECK(status_of("GET /" + longest + " HTTP/1.1\r\nHost: a\r\n\r\n") == Status::uri_too_long);
}

TEST_CASE("http: the end of a head is found however it is cut") {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string stream = head + "rest";
  for (uint32_t cut = 0; cut < stream.size(); ++cut) {
    const uint32_t first = http::head_size(bytes_of(stream).first(cut), 0);
    CHECK(first == (cut < head.size() ? 0 : head.size()));
    if (first == 0) { CHECK(http::head_size(bytes_of(stream), cut) == head.size()); }
  }
}

TEST_CASE("http: a path leads to nothing hidden and nothing above") {
  struct Row {
    const char* target;
    http::Status status;
    const char* path;
  };
  using http::Status;
  const Row rows[] = {
      {"/", Status::none, "index.html"},       {"/?a=/../b", Status::none, "index.html"},
      {"/a/", Status::none, "a/index.html"},   {"/a/b.js?v=1#x", Status::none, "a/b.js"},
      {"/a%20b.txt", Status::none, "a b.txt"}, {"/a..b/c.", Status::none, "a..b/c."},
      {"/..", Status::not_found, ""},          {"/../etc/passwd", Status::not_found, ""},
      {"/a/../../b", Status::not_found, ""},   {"/%2e%2e/b", Status::not_found, ""},
      {"/.%2e/b", Status::not_found, ""},      {"/a%2fb", Status::not_found, ""},
      {"/a%5c..%5cb", Status::not_found, ""},  {"/a\\b", Status::not_found, ""},
      {"/.git/config", Status::not_found, ""}, {"/a/.hidden", Status::not_found, ""},
      {"//etc/passwd", Status::not_found, ""}, {"/a//b", Status::not_found, ""},
      {"/a%00.html", Status::not_found, ""},   {"/a%0d%0ab", Status::not_found, ""},
      {"/a%", Status::bad_request, ""},        {"/a%4", Status::bad_request, ""},
      {"/a%zz", Status::bad_request, ""},      {"a", Status::bad_request, ""},
      {"*", Status::bad_request, ""},          {"http://host/a", Status::bad_request, ""},
      {"", Status::bad_request, ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.target);
    char path[http::target_bytes_max + 16];
    CHECK(http::read_path(row.target, path) == row.status);
    if (row.status == Status::none) { CHECK(std::string(path) == row.path); }
  }
  char path[http::target_bytes_max + 16];
  std::string longest = "/";
  while (longest.size() + 2 <= http::target_bytes_max) { longest += "a/"; }
  CHECK(http::read_path(longest, path) == Status::none);
  CHECK(http::content_type("a.b/c.HTML") == Text("text/html; charset=utf-8"));
  CHECK(http::content_type("a.js/c") == Text("application/octet-stream"));
  CHECK(http::content_type("mqtt.min.js") == Text("text/javascript; charset=utf-8"));
}

// ---- frames -------------------------------------------------------------------------------

TEST_CASE("websocket: the frames of RFC 6455 section 5.7") {
  // "Hello" in a masked frame; there it is text, here it must be binary.
  const Outcome hello = decode_both(hex("82 85 37 fa 21 3d 7f 9f 4d 51 58"));
  CHECK(hello.payload == "Hello");
  CHECK(hello.code == CloseCode::none);
  const Outcome fragments = decode_both(hex("02 03 48 65 6c 80 02 6c 6f"), Side::client);
  CHECK(fragments.payload == "Hello");
  const Outcome ping = decode_both(hex("89 05 48 65 6c 6c 6f"), Side::client);
  REQUIRE(ping.pings.size() == 1);
  CHECK(ping.pings[0] == "Hello");
  CHECK(decode_both(hex("8a 85 37 fa 21 3d 7f 9f 4d 51 58")).pings.empty());
}

TEST_CASE("websocket: payload is one stream whatever the frames [MQTT-6.0.0-2]") {
  for (const size_t size : {0U, 1U, 7U, 8U, 125U, 126U, 127U, 65535U, 65536U, 200001U}) {
    const std::string text = pattern(size);
    const std::string stream = frame(0x82, text) + frame(0x02, text) + frame(0x89, "between") +
                               frame(0x00, "") + frame(0x80, text) + frame(0x82, "end");
    for (const size_t cut : {size_t{1}, size_t{3}, size_t{4096}, stream.size()}) {
      const Outcome outcome = decode(stream, cut);
      CHECK((outcome.payload == text + text + text + "end"));
      CHECK(outcome.code == CloseCode::none);
      REQUIRE(outcome.pings.size() == 1);
      CHECK(outcome.pings[0] == "between");
    }
  }
}

TEST_CASE("websocket: only binary frames [MQTT-6.0.0-1]") {
  check_refused(frame(0x81, "text"), CloseCode::unsupported_data, "text frame");
  check_refused(frame(0x01, "te"), CloseCode::unsupported_data, "text frame");
  const Outcome outcome = decode_both(frame(0x82, "before") + frame(0x81, "x") + frame(0x82, "y"));
  CHECK(outcome.payload == "before");
}

TEST_CASE("websocket: what RFC 6455 forbids ends with 1002") {
  const CloseCode wrong = CloseCode::protocol_error;
  for (const int bit : {0x40, 0x20, 0x10}) {
    check_refused(frame(static_cast<uint8_t>(0x82 | bit), "x"), wrong, "reserved bit set");
    check_refused(frame(static_cast<uint8_t>(0x89 | bit), "x"), wrong, "reserved bit set");
  }
  for (const int opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
    check_refused(frame(static_cast<uint8_t>(0x80 | opcode), "x"), wrong, "reserved opcode");
  }
  check_refused(frame(0x82, "x", false), wrong, "unmasked frame from a client");
  check_refused(frame(0x82, "x"), wrong, "masked frame from a server", Side::client);
  check_refused(frame(0x80, "x"), wrong, "continuation of nothing");
  check_refused(frame(0x82, "x") + frame(0x80, "x"), wrong, "continuation of nothing");
  check_refused(frame(0x02, "x") + frame(0x82, "x"), wrong, "message begins within another");
  check_refused(frame(0x02, "x") + frame(0x81, "x"), wrong, "message begins within another");
  check_refused(frame(0x09, "x"), wrong, "fragmented control frame");
  check_refused(frame(0x08, ""), wrong, "fragmented control frame");
  check_refused(frame(0x89, std::string(126, 'x')), wrong, "control frame too long");
  CHECK(decode_both(frame(0x89, std::string(125, 'x'))).pings.size() == 1);
  check_refused(hex("82 fe 00 7d 00 00 00 00"), wrong, "frame length not minimal");
  check_refused(hex("82 ff 00 00 00 00 00 00 ff ff 00 00 00 00"), wrong,
                "frame length not minimal");
  check_refused(hex("82 ff 80 00 00 00 00 00 00 00 00 00 00 00"), wrong,
                "frame length above 63 bits");
}

TEST_CASE("websocket: changed streams mean the same however they are cut") {
  uint32_t random = 12345;
  const auto next = [&random](uint32_t below) {
    random = random * 1664525 + 1013904223;
    return (random >> 8) % below;
  };
  const std::string good = frame(0x02, pattern(40)) + frame(0x89, "ping") + frame(0x00, "") +
                           frame(0x80, pattern(130)) + frame(0x82, "x") +
                           frame(0x88, "\x03\xE8 bye");
  uint32_t failures = 0;
  for (int round = 0; round != 3000; ++round) {
    std::string stream = good;
    for (uint32_t change = next(3) + 1; change != 0; --change) {
      const uint32_t at = next(static_cast<uint32_t>(stream.size()));
      switch (next(3)) {
        case 0: stream[at] = static_cast<char>(next(256)); break;
        case 1: stream.erase(at, next(4) + 1); break;
        default: stream.insert(at, 1, static_cast<char>(next(256))); break;
      }
    }
    const Outcome whole = decode(stream, stream.size());
    const Outcome cut = decode(stream, next(20) + 1);
    REQUIRE((whole.payload == cut.payload));
    REQUIRE(whole.code == cut.code);
    REQUIRE(whole.error == cut.error);
    failures += whole.error.empty() ? 0U : 1U;
  }
  CHECK(failures > 500);
  CHECK(failures < 2900);
}

TEST_CASE("websocket: a frame of the largest size is streamed") {
  const std::string begin = hex("82 ff 7f ff ff ff ff ff ff ff 00 00 00 00") + pattern(100000);
  const Outcome outcome = decode_both(begin);
  CHECK((outcome.payload == pattern(100000)));
  CHECK(outcome.code == CloseCode::none);
}

TEST_CASE("websocket: close frames and their codes") {
  const auto close_with = [](uint16_t code, const std::string& reason) {
    const std::string payload = {static_cast<char>(code >> 8), static_cast<char>(code)};
    return decode_both(frame(0x82, "last") + frame(0x88, payload + reason) + frame(0x82, "late"));
  };
  for (const int code : {1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999}) {
    const Outcome outcome = close_with(static_cast<uint16_t>(code), "bye");
    CHECK(outcome.code == static_cast<CloseCode>(code));
    CHECK(outcome.error == "");
    CHECK(outcome.payload == "last");
  }
  for (const int code : {0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535}) {
    CHECK(close_with(static_cast<uint16_t>(code), "").code == CloseCode::protocol_error);
    CHECK(close_with(static_cast<uint16_t>(code), "").error == "close code undefined");
  }
  CHECK(decode_both(frame(0x88, "")).code == CloseCode::normal);
  check_refused(frame(0x88, "x"), CloseCode::protocol_error, "close frame of one byte");
  CHECK(close_with(1000, std::string("a\0b \xC3\xA4 \xF0\x9F\x8C\x8D", 11)).error == "");
  CHECK(close_with(1000, "\xC3").code == CloseCode::invalid_payload);
  CHECK(close_with(1000, "\xED\xA0\x80").code == CloseCode::invalid_payload);
}

TEST_CASE("websocket: written headers are the shortest and read back") {
  for (const uint32_t size : {0U, 1U, 125U, 126U, 65535U, 65536U, 70000U}) {
    const std::string text = pattern(size);
    uint8_t header[header_bytes_max];
    const uint32_t plain = write_header(header, Opcode::binary, size, nullptr);
    CHECK(plain == (size < 126 ? 2 : size < 65536 ? 4 : 10));
    const std::string server(reinterpret_cast<const char*>(header), plain);
    CHECK((server + text == frame(0x82, text, false)));
    CHECK((decode(server + text, 1000, Side::client).payload == text));
    const uint8_t mask[4] = {0x37, 0xFA, 0x21, 0x3D};
    const uint32_t masked = write_header(header, Opcode::binary, size, mask);
    CHECK(masked == plain + 4);
    CHECK(std::string(reinterpret_cast<const char*>(header), masked) ==
          frame(0x82, text).substr(0, masked));
  }
}

TEST_CASE("websocket: masking a word at a time equals masking byte by byte") {
  const uint8_t mask[4] = {1, 2, 4, 8};
  const std::string text = pattern(64);
  for (uint32_t phase = 0; phase != 4; ++phase) {
    for (uint32_t size = 0; size != 40; ++size) {
      for (uint32_t shift = 0; shift != 15; ++shift) {  // to a place before the source
        uint8_t bytes[64];
        memcpy(bytes, text.data(), sizeof bytes);
        apply_mask(bytes, Bytes(bytes + shift, size), mask, phase);
        bool same = true;
        for (uint32_t i = 0; i != size; ++i) {
          const auto expected = static_cast<uint8_t>(text[shift + i] ^ mask[(phase + i) % 4]);
          same = same && bytes[i] == expected;
        }
        CHECK(same);
      }
    }
  }
}

// ---- the client's transport ---------------------------------------------------------------

namespace {

// A transport in memory that takes and gives a few bytes at a time.
struct Pipe {
  std::string to_server;
  std::string to_client;
  size_t take_max = 1 << 20;  // in one call
  size_t room = 1 << 20;      // in all, until the test gives more
  size_t give_max = 1 << 20;
  bool gone = false;
  bool hung_up = false;
  int32_t dialed = 0;

  int32_t dial(uint32_t) { return dialed; }

  int32_t receive(uint8_t* target, size_t size) {
    if (to_client.empty()) { return gone ? -1 : 0; }
    size_t count = size < give_max ? size : give_max;
    count = count < to_client.size() ? count : to_client.size();
    memcpy(target, to_client.data(), count);
    to_client.erase(0, count);
    return static_cast<int32_t>(count);
  }
  int32_t transmit(const uint8_t* source, size_t size) {
    if (gone) { return -1; }
    size_t count = size < take_max ? size : take_max;
    count = count < room ? count : room;
    to_server.append(reinterpret_cast<const char*>(source), count);
    room -= count;
    return static_cast<int32_t>(count);
  }
  void hang_up() { hung_up = true; }
};

struct Counter {
  uint8_t next = 0;
  void fill(uint8_t* target, uint32_t size) {
    for (uint32_t i = 0; i != size; ++i) { target[i] = next++; }
  }
};

// A client's transport over a pipe, and what a server makes of it.
struct Pair {
  Pipe pipe;
  Counter random;
  WebSocketTransport<Pipe, Counter, 512> transport{pipe, random};
  FrameReader server;
  std::string received;

  Pair() {
    ClientRequest request;
    request.host = "broker:8080";
    REQUIRE(transport.start(request));
  }
  std::string answer_of_server() {
    Upgrade upgrade;
    http::Request request;
    REQUIRE(http::head_size(bytes_of(pipe.to_server), 0) == pipe.to_server.size());
    REQUIRE(http::read_request(bytes_of(pipe.to_server), request) == http::Status::none);
    REQUIRE(request.target == Text("/mqtt"));
    REQUIRE(read_upgrade(request, upgrade) == http::Status::switching_protocols);
    uint8_t target[256];
    const uint32_t size = write_accept(upgrade, Buffer(target));
    pipe.to_server.clear();
    return std::string(reinterpret_cast<const char*>(target), size);
  }
  // Lets the request out and answers it.
  void upgrade(const std::string& behind = "") {
    uint8_t byte = 0;
    while (pipe.to_server.find("\r\n\r\n") == std::string::npos) {
      CHECK(transport.receive(&byte, 1) == 0);
    }
    CHECK(!transport.is_open());
    pipe.to_client = answer_of_server() + behind;
  }
  void serve() {
    std::string bytes = pipe.to_server;
    pipe.to_server.clear();
    const uint32_t size = server.decode(
        Buffer(reinterpret_cast<uint8_t*>(&bytes[0]), static_cast<uint32_t>(bytes.size())));
    received += bytes.substr(0, size);
  }
  int32_t transmit(const std::string& text) {
    return transport.transmit(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  }
  std::string receive(size_t size = 1000) {
    std::string text(size, '\0');
    const int32_t got = transport.receive(reinterpret_cast<uint8_t*>(&text[0]), size);
    return got < 0 ? "gone" : text.substr(0, static_cast<size_t>(got));
  }
};

}  // namespace

TEST_CASE("websocket: a client's transport carries bytes both ways") {
  for (const size_t step : {size_t{1}, size_t{3}, size_t{1} << 20}) {
    Pair pair;
    pair.pipe.take_max = step;
    pair.pipe.give_max = step;
    CHECK(pair.transmit("too early") == 0);
    pair.upgrade();
    while (!pair.transport.is_open()) { CHECK(pair.receive() == ""); }
    const std::string text = pattern(3000);
    for (size_t at = 0; at < text.size();) {
      const int32_t taken = pair.transmit(text.substr(at));
      REQUIRE(taken >= 0);
      at += static_cast<size_t>(taken);
      pair.serve();
    }
    pair.serve();
    CHECK((pair.received == text));
    CHECK(!pair.transport.wants_transmit());
    pair.pipe.to_client = frame(0x82, text, false) + frame(0x82, "", false);
    std::string got;
    for (int i = 0; i != 10000 && got.size() < text.size(); ++i) { got += pair.receive(100); }
    CHECK((got == text));
  }
}

TEST_CASE("websocket: a client keeps what the transport below does not take") {
  Pair pair;
  pair.upgrade();
  CHECK(pair.receive() == "");
  pair.pipe.room = 5;
  CHECK(pair.transmit(pattern(100)) == 100);  // all of it is encoded
  CHECK(pair.transport.wants_transmit());
  CHECK(pair.transmit("more") == 0);
  pair.pipe.room = 1000;
  CHECK(pair.receive() == "");  // which flushes nothing without input
  CHECK(pair.transport.flush());
  CHECK(!pair.transport.wants_transmit());
  pair.serve();
  CHECK((pair.received == pattern(100)));
}

TEST_CASE("websocket: bytes that follow the server's answer at once are not lost") {
  Pair pair;
  pair.upgrade(frame(0x89, "a", false) + frame(0x82, "hello", false) + frame(0x82, "!", false));
  std::string got = pair.receive(3);
  CHECK(pair.transport.has_input());
  CHECK(pair.transmit("x") == 0);  // the buffer is in use
  for (int i = 0; i != 30; ++i) { got += pair.receive(3); }
  CHECK(got == "hello!");
  CHECK(pair.transport.flush());
  CHECK(pair.transmit("x") == 1);
  pair.serve();
  CHECK(pair.received == "x");
}

TEST_CASE("websocket: a client answers pings and the close") {
  Pair pair;
  pair.upgrade();
  CHECK(pair.receive() == "");
  pair.pipe.to_client = frame(0x89, "are you there", false) + frame(0x82, "data", false);
  CHECK(pair.receive() == "data");
  CHECK(static_cast<uint8_t>(pair.pipe.to_server[0]) == 0x8A);
  CHECK(pair.pipe.to_server.size() == 6 + 13);
  pair.pipe.to_server.clear();
  pair.pipe.to_client = frame(0x82, "last", false) + frame(0x88, "\x03\xE9", false);
  CHECK(pair.receive() == "last");
  CHECK(pair.receive() == "gone");
  CHECK(std::string(pair.transport.error()) == "the server closes the WebSocket");
  pair.serve();
  CHECK(pair.server.close_code() == CloseCode::going_away);
  CHECK(pair.transmit("x") == -1);
}

TEST_CASE("websocket: a client says goodbye") {
  Pair pair;
  pair.upgrade();
  CHECK(pair.receive() == "");
  pair.transport.hang_up();
  CHECK(pair.pipe.hung_up);
  pair.serve();
  CHECK(pair.server.close_code() == CloseCode::normal);
}

TEST_CASE("websocket: a client dials until the upgrade is done, and again") {
  Pair pair;
  pair.transport.hang_up();
  CHECK(pair.transport.dial(0) == 0);  // the inner transport is on its way
  pair.pipe.dialed = 1;
  for (uint32_t round = 0; round != 2; ++round) {
    pair.pipe.to_server.clear();
    CHECK(pair.transport.dial(round) == 0);
    pair.pipe.to_client = pair.answer_of_server();
    CHECK(pair.transport.dial(round) == 1);
    CHECK(pair.transmit("x") == 1);
    pair.transport.hang_up();
    pair.transport.hang_up();
  }
  pair.pipe.to_server.clear();
  CHECK(pair.transport.dial(2) == 0);
  pair.pipe.to_client = "HTTP/1.1 404 Not Found\r\n\r\n";
  CHECK(pair.transport.dial(2) == -1);
  pair.pipe.dialed = -1;
  CHECK(pair.transport.dial(3) == -1);
}

TEST_CASE("websocket: a client refuses a wrong answer and says why") {
  struct Row {
    const char* from;
    const char* to;
    const char* error;
  };
  const Row rows[] = {
      {"HTTP/1.1 101", "HTTP/1.1 404", "the server refuses the WebSocket upgrade"},
      {"HTTP/1.1", "SSH-2.0-x", "the server does not speak HTTP/1.1"},
      {"Accept: ", "Accept: x", "the server's WebSocket answer is wrong"},
      {"Upgrade: websocket\r\n", "", "the server's WebSocket answer is wrong"},
      {"Protocol: mqtt", "Protocol: chat", "the server does not speak MQTT over WebSocket"},
      {"Sec-WebSocket-Protocol: mqtt\r\n", "", "the server does not speak MQTT over WebSocket"},
      {"Connection:", "Sec-WebSocket-Extensions: x\r\nConnection:",
       "the server wants an extension that was not offered"},
      {"Connection:", "X:\r\n folded\r\nConnection:", "the server does not speak HTTP/1.1"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.to);
    Pair pair;
    pair.upgrade();
    pair.pipe.to_client = replaced(pair.pipe.to_client, row.from, row.to);
    CHECK(pair.receive() == "gone");
    CHECK(std::string(pair.transport.error()) == row.error);
  }
  Pair pair;
  pair.upgrade();
  pair.pipe.to_client = std::string(600, 'x');
  CHECK(pair.receive() == "gone");
  CHECK(std::string(pair.transport.error()) == "the server's WebSocket answer is too long");
}

TEST_CASE("websocket: a client sends no request that would hold a foreign line") {
  Pipe pipe;
  Counter random;
  WebSocketTransport<Pipe, Counter, 512> transport(pipe, random);
  for (const char* path : {"", "mqtt", "/a b", "/a\r\nX: y"}) {
    ClientRequest request;
    request.host = "h";
    request.path = path;
    CHECK(!transport.start(request));
  }
  ClientRequest request;
  request.host = "h\r\nX: y";
  CHECK(!transport.start(request));
  const std::string longest(600, 'a');
  request.host = longest;
  CHECK(!transport.start(request));
}
