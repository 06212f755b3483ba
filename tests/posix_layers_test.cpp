#include <algorithm>

#include "layered_server.hpp"

using namespace layered;

namespace {

LayerOptions<> websocket_options(const char* folder = nullptr) {
  LayerOptions<> options;
  options.websocket = true;
  options.http_folder = folder;
  return options;
}
LayerOptions<> proxy_options(ProxyHeader expected) {
  LayerOptions<> options;
  options.proxy = expected;
  return options;
}

const std::string upgrade_request =
    "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: mqtt\r\n\r\n";

// A masked frame.
std::string frame(uint8_t first, const std::string& payload) {
  const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
  uint8_t header[mqtt::websocket::header_bytes_max];
  const uint32_t size = mqtt::websocket::write_header(header, mqtt::websocket::Opcode::binary,
                                                      static_cast<uint32_t>(payload.size()), mask);
  header[0] = first;
  std::string text(reinterpret_cast<const char*>(header), size);
  for (size_t i = 0; i != payload.size(); ++i) {
    text.push_back(static_cast<char>(payload[i] ^ mask[i % 4]));
  }
  return text;
}
std::string binary(const std::string& payload) { return frame(0x82, payload); }

// Whole frames of a server: their payloads, and what else came.
struct Frames {
  std::vector<std::string> messages;
  std::string stream;
  std::string pong;
  int close_code = 0;
  bool whole = true;

  explicit Frames(const std::string& text) {
    size_t at = 0;
    while (at + 2 <= text.size()) {
      const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
      const uint8_t opcode = byte(0);
      size_t size = byte(1);
      size_t header = 2;
      REQUIRE(size < 127);  // unmasked, and no frame is so large
      if (size == 126) {
        size = static_cast<size_t>(byte(2)) << 8 | byte(3);
        header = 4;
      }
      if (text.size() - at < header + size) { break; }
      const std::string payload = text.substr(at + header, size);
      if (opcode == 0x82) {
        messages.push_back(payload);
        stream += payload;
      } else if (opcode == 0x8A) {
        pong = payload;
      } else {
        REQUIRE(opcode == 0x88);
        REQUIRE(size == 2);
        close_code = static_cast<uint8_t>(payload[0]) << 8 | static_cast<uint8_t>(payload[1]);
      }
      at += header + size;
    }
    whole = at == text.size();
  }
};

using WebServer = Server<>;
const Setup small_buffer = {4096, 30, 256 << 10};
const Setup one_second = {0, 1, 256 << 10};

// A client over WebSocket that has logged in.
void log_in(WebServer& server, Client& client, const std::string& id) {
  const std::string answer = server.exchange_until(
      client, upgrade_request,
      [](const std::string& text) { return text.find("\r\n\r\n") != std::string::npos; });
  REQUIRE(answer.find("HTTP/1.1 101 ") == 0);
  REQUIRE(Frames(server.exchange(client, binary(connect_packet(id)), 6)).stream == connack);
}

// Turns until the client's frames hold `size` bytes of payload.
Frames receive(WebServer& server, Client& client, const std::string& request, size_t size) {
  return Frames(server.exchange_until(client, request, [size](const std::string& text) {
    return Frames(text).stream.size() >= size;
  }));
}

}  // namespace

// ---- WebSocket ----------------------------------------------------------------------------

TEST_CASE("layers: MQTT flows over WebSocket [MQTT-6.0.0-2]") {
  WebServer server(websocket_options());
  Client publisher(server.address);
  Client subscriber(server.address);
  log_in(server, publisher, "p");
  log_in(server, subscriber, "s");
  CHECK(receive(server, subscriber, binary(subscribe_t), 5).stream == suback_t);
  for (const size_t size : {size_t{0}, size_t{5}, size_t{5000}, size_t{16380}, size_t{1048576}}) {
    CAPTURE(size);
    const std::string packet = publish_packet(size);
    server.exchange(publisher, binary(packet), 0);
    const Frames got = receive(server, subscriber, "", packet.size());
    CHECK((got.stream == packet));
    CHECK(got.whole);
  }
  // A packet across frames, then several in one, which arrive in one.
  const std::string packet = publish_packet(300);
  server.exchange(publisher, frame(0x02, packet.substr(0, 10)), 0);
  server.exchange(publisher, frame(0x89, "x") + frame(0x80, packet.substr(10) + packet), 3);
  const Frames two = receive(server, subscriber, "", 2 * packet.size());
  CHECK(two.stream == packet + packet);
  CHECK(two.messages.size() == 1);
  CHECK(server.watcher.failures.empty());
}

TEST_CASE("layers: an upgrade may come byte by byte and with frames behind it") {
  WebServer server(websocket_options());
  Client slow(server.address);
  for (const char c : upgrade_request) { server.exchange(slow, std::string(1, c), 0); }
  CHECK(Frames(server.exchange(slow, binary(connect_packet("a")), 4)).whole);
  Client fast(server.address);
  const std::string all = server.exchange_until(
      fast, upgrade_request + binary(connect_packet("b")),
      [](const std::string& text) { return text.find(connack) < text.size(); });
  CHECK(Frames(all.substr(all.find("\r\n\r\n") + 4)).stream == connack);
  // The first part of the head waits in the buffer, the end comes with a frame behind it.
  Client both(server.address);
  server.exchange(both, upgrade_request.substr(0, 40), 0);
  server.turns(2);
  const std::string rest = server.exchange_until(
      both, upgrade_request.substr(40) + binary(connect_packet("c")),
      [](const std::string& text) { return text.find(connack) < text.size(); });
  CHECK(Frames(rest.substr(rest.find("\r\n\r\n") + 4)).stream == connack);
}

TEST_CASE("layers: a slow reader over WebSocket gets whole frames, every byte in order") {
  WebServer server(websocket_options(), small_buffer);
  Client publisher(server.address);
  Client subscriber(server.address);
  log_in(server, publisher, "p");
  log_in(server, subscriber, "s");
  CHECK(receive(server, subscriber, binary(subscribe_t), 5).stream == suback_t);
  std::string expected;
  for (int i = 0; i != 4; ++i) {
    const std::string packet = publish_packet(700000);
    expected += packet;
    server.exchange(publisher, binary(packet), 0);
  }
  server.exchange(publisher, "", 0);
  server.turns(5);
  std::string wire;
  size_t payload = 0;
  for (int i = 0; i != 100000 && payload < expected.size(); ++i) {
    uint8_t bytes[3000];
    const int32_t got = subscriber.receive(bytes, sizeof bytes);
    REQUIRE(got >= 0);
    wire.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(got));
    if (i % 20 == 0) { server.turns(1); }
    if (i % 500 == 0) { payload = Frames(wire).stream.size(); }
  }
  const Frames frames(wire);
  CHECK((frames.stream == expected));
  CHECK(frames.whole);
  // Nothing is left to send: the wait waits.
  const mqtt::Millis before = MonotonicClock{}.now_ms();
  REQUIRE(server.loop.turn(50) == 0);
  CHECK(MonotonicClock{}.now_ms() - before >= 40);
}

TEST_CASE("layers: pings are answered, between frames") {
  WebServer server(websocket_options());
  Client client(server.address);
  log_in(server, client, "c");
  CHECK(Frames(server.exchange(client, frame(0x89, "hello"), 7)).pong == "hello");
  CHECK(Frames(server.exchange(client, frame(0x89, "a") + frame(0x89, "b"), 3)).pong == "b");
  CHECK(server.exchange(client, frame(0x8A, "unasked"), 0).empty());
}

TEST_CASE("layers: frames that may not be end the connection with a code and a reason") {
  struct Row {
    std::string frame;
    int code;
    const char* reason;
  };
  const std::string unmasked("\x82\1x", 3);
  const Row rows[] = {
      {frame(0x81, "text"), 1003, "websocket: text frame"},
      {unmasked, 1002, "websocket: unmasked frame from a client"},
      {frame(0xC2, "x"), 1002, "websocket: reserved bit set"},
      {frame(0x80, "x"), 1002, "websocket: continuation of nothing"},
      {frame(0x88, "\x03\xEC"), 1002, "websocket: close code undefined"},
      {frame(0x88, "\x03\xE8\xFF"), 1007, "websocket: close reason not UTF-8"},
  };
  for (const Row& row : rows) {
    WebServer server(websocket_options());
    Client client(server.address);
    log_in(server, client, "c");
    CHECK(Frames(server.last_words(client, row.frame)).close_code == row.code);
    REQUIRE(server.watcher.failures.size() == 1);
    CHECK(server.watcher.failures[0] == row.reason);
    CHECK(server.watcher.closed == 1);
    CHECK(server.loop.connection_count() == 0);
  }
}

TEST_CASE("layers: the close handshake, begun by either side") {
  WebServer server(websocket_options());
  Client leaving(server.address);
  log_in(server, leaving, "a");
  CHECK(Frames(server.last_words(leaving, frame(0x88, "\x03\xE9"))).close_code == 1001);
  REQUIRE(server.watcher.broken.size() == 1);
  CHECK(server.watcher.broken[0] == 0);

  // After DISCONNECT we begin it, and close when the peer has answered.
  Client polite(server.address);
  log_in(server, polite, "b");
  CHECK(Frames(server.exchange(polite, binary(std::string("\xE0\0", 2)), 4)).close_code == 1000);
  CHECK(!server.link_ended);
  CHECK(server.loop.connection_count() == 1);
  CHECK(server.last_words(polite, frame(0x88, "\x03\xE8")).empty());
  CHECK(server.loop.connection_count() == 0);

  // A peer that closes at once without an answer.
  Client rude(server.address);
  log_in(server, rude, "c");
  server.exchange(rude, binary(std::string("\xE0\0", 2)), 4);
  rude.hang_up();
  server.turns(3);
  CHECK(server.loop.connection_count() == 0);
  CHECK(server.watcher.failures.empty());
}

TEST_CASE("layers: stopping says goodbye over WebSocket") {
  WebServer server(websocket_options());
  Client client(server.address);
  log_in(server, client, "c");
  server.loop.stop();
  CHECK(Frames(server.exchange(client, "", 4)).close_code == 1000);
  CHECK(server.loop.connection_count() == 0);
}

TEST_CASE("layers: plain connections of a loop with layers are as ever") {
  WebServer server(websocket_options());
  const SocketAddress plain = server.add(1, LayerOptions<>());
  Client publisher(plain);
  Client subscriber(server.address);
  CHECK(server.exchange(publisher, connect_packet("p"), 4) == connack);
  log_in(server, subscriber, "s");
  CHECK(receive(server, subscriber, binary(subscribe_t), 5).stream == suback_t);
  const std::string packet = publish_packet(500000);
  server.exchange(publisher, packet, 0);
  CHECK((receive(server, subscriber, "", packet.size()).stream == packet));
}

TEST_CASE("layers: the same with poll instead of epoll") {
  Server<NoTls, PollPoller> server(websocket_options(), small_buffer);
  Client client(server.address);
  server.exchange(client, upgrade_request, 129);
  const std::string packet = publish_packet(300000);
  const std::string stream = binary(connect_packet("c")) + binary(subscribe_t) + binary(packet);
  const std::string all = server.exchange_until(client, stream, [&](const std::string& text) {
    return Frames(text).stream.size() >= 9 + packet.size();
  });
  CHECK((Frames(all).stream == connack + suback_t + packet));
  CHECK(Frames(server.last_words(client, frame(0x81, "x"))).close_code == 1003);
  CHECK(server.loop.connection_count() == 0);
}

TEST_CASE("layers: a loop without layers reserves nothing for them") {
  Server<> server{LayerOptions<>()};
  Client client(server.address);
  CHECK(server.exchange(client, connect_packet("c"), 4) == connack);
}

TEST_CASE("layers: nobody stays who says nothing") {
  WebServer server(websocket_options(), one_second);
  LayerOptions<> both = websocket_options();
  both.proxy = ProxyHeader::any;
  const SocketAddress proxied = server.add(1, both);
  Client silent(server.address);
  Client half(server.address);
  Client upgraded(server.address);
  Client behind(proxied);
  server.exchange(half, "GET / HT", 0);
  server.exchange(behind, "PROXY TCP4 ", 0);
  server.exchange(upgraded, upgrade_request, 100);
  CHECK(server.watcher.addresses.size() == 3);
  // The engine's own deadline, on the real clock.
  for (int i = 0; i != 4000 && server.loop.connection_count() > 1; ++i) { server.turns(1); }
  CHECK(server.watcher.addresses.size() == 4);
  std::vector<std::string> failures = server.watcher.failures;
  std::sort(failures.begin(), failures.end());
  CHECK(failures == std::vector<std::string>{"http: no request in time", "http: no request in time",
                                             "proxy: no header in time"});
  CHECK(Frames(server.exchange(upgraded, "", 4)).close_code == 1000);
}

// ---- HTTP ---------------------------------------------------------------------------------

namespace {

// A folder with a page, a large file, a hidden one and a link that leads out.
struct Folder {
  std::string path;
  std::string large;

  Folder() {
    char name[] = "/tmp/mqtt_layers_testXXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    path = name;
    REQUIRE(mkdir((path + "/sub").c_str(), 0700) == 0);
    for (size_t i = 0; i != 1500000; ++i) { large.push_back(static_cast<char>(i * 31 ^ i >> 8)); }
    write("index.html", "<p>hello");
    write("sub/index.html", "<p>sub");
    write("sub/large.bin", large);
    write("empty.txt", "");
    write(".secret", "x");
    REQUIRE(symlink("/etc/passwd", (path + "/link").c_str()) == 0);
    REQUIRE(symlink("/etc", (path + "/folder").c_str()) == 0);
    REQUIRE(mkfifo((path + "/pipe").c_str(), 0600) == 0);
  }
  ~Folder() {
    for (const char* file : {"index.html", "sub/index.html", "sub/large.bin", "empty.txt",
                             ".secret", "link", "folder", "pipe"}) {
      unlink((path + "/" + file).c_str());
    }
    rmdir((path + "/sub").c_str());
    rmdir(path.c_str());
  }
  void write(const char* name, const std::string& text) const {
    Descriptor file(::open((path + "/" + name).c_str(), O_WRONLY | O_CREAT, 0600));
    REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
};

std::string ask(WebServer& server, const std::string& line, const std::string& fields = "") {
  Client client(server.address);
  const std::string answer =
      server.last_words(client, line + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n");
  CHECK(server.loop.connection_count() == 0);
  return answer;
}
std::string status_of(const std::string& answer) { return answer.substr(9, 3); }
std::string body_of(const std::string& answer) {
  return answer.substr(answer.find("\r\n\r\n") + 4);
}
bool has(const std::string& answer, const std::string& line) {
  return answer.find("\r\n" + line + "\r\n") != std::string::npos;
}

}  // namespace

TEST_CASE("layers: files are served on a listener for WebSocket") {
  const Folder folder;
  WebServer server(websocket_options(folder.path.c_str()));
  const std::string index = ask(server, "GET /");
  CHECK(index.find("HTTP/1.1 200 OK\r\n") == 0);
  CHECK(has(index, "Content-Type: text/html; charset=utf-8"));
  CHECK(has(index, "Content-Length: 8"));
  CHECK(has(index, "Connection: close"));
  CHECK(body_of(index) == "<p>hello");
  CHECK(ask(server, "GET /index.html?x=1") == index);
  const std::string head = ask(server, "HEAD /");
  CHECK(head == index.substr(0, index.size() - 8));
  CHECK(body_of(ask(server, "GET /sub/")) == "<p>sub");
  CHECK(has(ask(server, "GET /empty.txt"), "Content-Length: 0"));
  CHECK((body_of(ask(server, "GET /sub/large.bin")) == folder.large));
  CHECK(server.watcher.failures.empty());
}

TEST_CASE("layers: a large file passes a small socket buffer") {
  const Folder folder;
  WebServer server(websocket_options(folder.path.c_str()), small_buffer);
  CHECK((body_of(ask(server, "GET /sub/large.bin")) == folder.large));
}

TEST_CASE("layers: nothing else is served") {
  const Folder folder;
  WebServer server(websocket_options(folder.path.c_str()));
  for (const char* path : {"/missing", "/sub", "/.secret", "/link", "/folder/passwd", "/pipe",
                           "/../etc/passwd", "/sub/../../etc/passwd", "/%2e%2e/etc/passwd",
                           "//etc/passwd", "/index.html/", "/index.html%00.png"}) {
    CAPTURE(path);
    CHECK(status_of(ask(server, std::string("GET ") + path)) == "404");
  }
  CHECK(server.watcher.failures.empty());
  WebServer without(websocket_options());
  CHECK(status_of(ask(without, "GET /index.html")) == "404");
}

TEST_CASE("layers: wrong requests are answered, closed and told") {
  const Folder folder;
  WebServer server(websocket_options(folder.path.c_str()));
  CHECK(has(ask(server, "POST /"), "Allow: GET, HEAD"));
  CHECK(status_of(ask(server, "DELETE /index.html")) == "405");
  CHECK(server.watcher.failures.empty());
  CHECK(status_of(ask(server, "GET *")) == "400");
  CHECK(status_of(ask(server, "GET /", "Host: b\r\n")) == "400");
  CHECK(status_of(ask(server, "GET /" + std::string(3000, 'a'))) == "414");
  CHECK(status_of(ask(server, "GET /", "X: " + std::string(9000, 'a') + "\r\n")) == "431");
  const std::string old = ask(server, "GET /mqtt",
                              "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                              "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Protocol: mqtt\r\n");
  CHECK(status_of(old) == "426");
  CHECK(has(old, "Sec-WebSocket-Version: 13"));
  CHECK(server.watcher.failures ==
        std::vector<std::string>{"http: Bad Request", "http: Bad Request", "http: URI Too Long",
                                 "http: Request Header Fields Too Large",
                                 "http: Upgrade Required"});
  // MQTT on the wrong port: no head ever ends, so the deadline does; or the bytes are no request.
  Client lost(server.address);
  CHECK(status_of(server.last_words(lost, connect_packet("lost") + "\r\n\r\n")) == "400");
}

TEST_CASE("layers: the program's own pages come before files") {
  const Folder folder;
  folder.write("metrics", "file");
  WebServer server(websocket_options(folder.path.c_str()));
  const std::string answer = ask(server, "GET /metrics");
  CHECK(body_of(answer) == server.watcher.page);
  CHECK(has(answer, "Content-Type: text/plain; charset=utf-8"));
  CHECK(body_of(ask(server, "HEAD /metrics")).empty());
  server.watcher.page = std::string(15000, 'm');
  CHECK((body_of(ask(server, "GET /metrics")) == server.watcher.page));
  unlink((folder.path + "/metrics").c_str());
}

// ---- PROXY --------------------------------------------------------------------------------

namespace {

const std::string v2_signature("\r\n\r\n\0\r\nQUIT\n", 12);

std::string v2(uint8_t command, uint8_t family, const std::string& block) {
  std::string text = v2_signature;
  text.push_back(static_cast<char>(command));
  text.push_back(static_cast<char>(family));
  text.push_back(static_cast<char>(block.size() >> 8));
  text.push_back(static_cast<char>(block.size()));
  return text + block;
}

const std::string v4_block("\xC0\0\2\1\xC0\0\2\2\x30\x39\7\x5B", 12);
const std::string v6_block = "\x20\1\r\xB8" + std::string(11, '\0') + "\1" +
                             std::string(16, '\xFF') + std::string("\x30\x39\7\x5B", 4);

}  // namespace

TEST_CASE("layers: a PROXY header says who the client is") {
  struct Row {
    std::string header;
    const char* address;
  };
  const std::string unix_block =
      "/run/a" + std::string(102, '\0') + "/run/b" + std::string(102, '\0');
  const Row rows[] = {
      {"PROXY TCP4 192.0.2.1 192.0.2.2 12345 1883\r\n", "192.0.2.1 12345"},
      {"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n", "2001:db8::1 0"},
      {"PROXY UNKNOWN\r\n", "127.0.0.1 own"},
      {"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1 own"},
      {v2(0x21, 0x11, v4_block), "192.0.2.1 12345"},
      {v2(0x21, 0x21, v6_block), "2001:db8::1 12345"},
      {v2(0x21, 0x31, unix_block), "unix 0"},
      {v2(0x20, 0x00, ""), "127.0.0.1 own"},
      {v2(0x20, 0x11, v4_block), "127.0.0.1 own"},
      {v2(0x21, 0x00, "whatever"), "127.0.0.1 own"},
      {v2(0x21, 0x11, v4_block + std::string("\3\0\4abcd", 7)), "192.0.2.1 12345"},
      {v2(0x21, 0x21, v6_block + std::string(60000, 'T')), "2001:db8::1 12345"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.address);
    for (const bool slowly : {false, true}) {
      Server<> server(proxy_options(ProxyHeader::any));
      Client client(server.address);
      const std::string stream = row.header + connect_packet("c");
      std::string answer;
      if (slowly) {
        for (size_t i = 0; i < stream.size(); i += i < 300 ? 1 : 5000) {
          answer += server.exchange(client, stream.substr(i, i < 300 ? 1 : 5000), 0);
        }
        if (answer.size() < 4) { answer += server.exchange(client, "", 4 - answer.size()); }
      } else {
        server.turns(2);
        CHECK(server.watcher.addresses.empty());
        answer = server.exchange(client, stream, 4);
      }
      CHECK(answer == connack);
      CHECK(server.watcher.steps == std::vector<std::string>{"accepted", "connect"});
      REQUIRE(server.watcher.addresses.size() == 1);
      const std::string own = " " + std::to_string(local_address(client.descriptor()).port());
      const std::string wanted = row.address;
      CHECK(server.watcher.addresses[0] ==
            (wanted == "127.0.0.1 own" ? "127.0.0.1" + own : wanted));
      CHECK(server.watcher.failures.empty());
    }
  }
}

TEST_CASE("layers: behind a PROXY header a connection is a plain one") {
  Server<> server(proxy_options(ProxyHeader::v1));
  Client publisher(server.address);
  Client subscriber(server.address);
  const std::string header = "PROXY TCP4 192.0.2.1 192.0.2.2 12345 1883\r\n";
  CHECK(server.exchange(publisher, header + connect_packet("p"), 4) == connack);
  CHECK(server.exchange(subscriber, header + connect_packet("s") + subscribe_t, 9) ==
        connack + suback_t);
  const std::string packet = publish_packet(1500000);
  server.exchange(publisher, packet, 0);
  CHECK((server.exchange(subscriber, "", packet.size()) == packet));
  publisher.hang_up();
  server.turns(2);
  CHECK(server.loop.connection_count() == 1);
}

TEST_CASE("layers: what is no PROXY header of the expected version is refused") {
  struct Row {
    std::string header;
    ProxyHeader expected;
  };
  const ProxyHeader any = ProxyHeader::any;
  const Row rows[] = {
      {connect_packet("c"), any},
      {"GET / HTTP/1.1\r\n\r\n", any},
      {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", any},
      {"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", any},
      {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", any},
      {"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", any},
      {"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", any},
      {"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", any},
      {"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", any},
      {"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", any},
      {"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", any},
      {"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", any},
      {"PROXY \r\n", any},
      {"proxy unknown\r\n", any},
      {"PROXY UNKNOWN " + std::string(100, 'a'), any},
      {v2(0x11, 0x11, v4_block), any},
      {v2(0x22, 0x11, v4_block), any},
      {v2(0x21, 0x12, v4_block), any},
      {v2(0x21, 0x41, v4_block), any},
      {v2(0x21, 0x11, v4_block.substr(1)), any},
      {v2(0x21, 0x21, v4_block), any},
      {v2(0x21, 0x31, v6_block), any},
      {"\r\n\r\nX", any},
      {v2(0x21, 0x11, v4_block), ProxyHeader::v1},
      {"PROXY UNKNOWN\r\n", ProxyHeader::v2},
  };
  for (const Row& row : rows) {
    CAPTURE(row.header);
    Server<> server(proxy_options(row.expected));
    Client client(server.address);
    CHECK(server.last_words(client, row.header).empty());
    CHECK(server.watcher.failures ==
          std::vector<std::string>{"proxy: not the PROXY header that is expected"});
    CHECK(server.watcher.addresses.size() == 1);
    CHECK(server.watcher.closed == 1);
  }
}

TEST_CASE("layers: WebSocket behind a PROXY header") {
  LayerOptions<> options = websocket_options();
  options.proxy = ProxyHeader::v2;
  WebServer server(options);
  Client client(server.address);
  const std::string all = server.exchange_until(
      client, v2(0x21, 0x11, v4_block) + upgrade_request + binary(connect_packet("c")),
      [](const std::string& text) { return text.find(connack) < text.size(); });
  CHECK(Frames(all.substr(all.find("\r\n\r\n") + 4)).stream == connack);
  CHECK(server.watcher.addresses == std::vector<std::string>{"192.0.2.1 12345"});
}
