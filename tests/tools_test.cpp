// What mqtt_pub, mqtt_sub and mqtt_rr make of their words, and how they print (examples/tools).
#include <doctest/doctest.h>

#include "../examples/tools/options.hpp"
#include "../examples/tools/trace.hpp"

namespace {

/// Takes what is written to a stream of the program, until it is asked for.
class Captured {
 public:
  explicit Captured(FILE* stream) : stream_(stream), file_(tmpfile()) {
    fflush(stream_);
    saved_ = dup(fileno(stream_));
    REQUIRE(dup2(fileno(file_), fileno(stream_)) >= 0);
  }
  ~Captured() { static_cast<void>(text()); }
  std::string text() {
    if (file_ == nullptr) { return std::string(); }
    fflush(stream_);
    dup2(saved_, fileno(stream_));
    close(saved_);
    std::string all;
    rewind(file_);
    for (int c = fgetc(file_); c != EOF; c = fgetc(file_)) { all += static_cast<char>(c); }
    fclose(file_);
    file_ = nullptr;
    return all;
  }

 private:
  FILE* stream_;
  FILE* file_;
  int saved_ = -1;
};

/// A command line that can be changed, as main() gets it.
struct Words {
  std::vector<std::string> texts;
  std::vector<char*> pointers;
  Words(const char* tool, std::initializer_list<const char*> words) : texts{tool} {
    texts.insert(texts.end(), words.begin(), words.end());
    for (std::string& text : texts) { pointers.push_back(&text[0]); }
  }
  int count() const { return static_cast<int>(pointers.size()); }
};

struct Parsing {
  Words words;
  tools::Options options;
  tools::Parsed parsed;
  std::string said;
  Parsing(tools::Tool tool, std::initializer_list<const char*> list) : words("mqtt", list) {
    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    options.tool = tool;
    Captured captured(stderr);
    parsed = tools::parse(options, words.count(), words.pointers.data());
    said = captured.text();
  }
  bool is_good() const { return parsed == tools::Parsed::good; }
};

std::string printed(const mqtt::Publish& message, const tools::OutputOptions& options,
                    std::string* said = nullptr) {
  FILE* const target = tmpfile();
  FILE* const errors = tmpfile();
  tools::Printer(options, target, errors).print(message);
  std::string texts[2];
  int i = 0;
  for (FILE* const file : {target, errors}) {
    rewind(file);
    for (int c = fgetc(file); c != EOF; c = fgetc(file)) { texts[i] += static_cast<char>(c); }
    fclose(file);
    i += 1;
  }
  if (said != nullptr) { *said = texts[1]; }
  return texts[0];
}

std::string formatted(const char* format, const mqtt::Publish& message) {
  tools::OutputOptions options;
  options.format = format;
  options.end_of_line = false;
  return printed(message, options);
}

std::string copied(mqtt::Text json, bool pretty = false) {
  tools::JsonWriter writer(pretty);
  return tools::JsonCopier(json, writer).copy() ? writer.text() : "no JSON";
}

struct Message {
  mqtt::Publish publish;
  uint8_t memory[256];
  explicit Message(mqtt::Text payload) {
    mqtt::PropertyWriter writer((mqtt::Buffer(memory)));
    writer.text(mqtt::PropertyId::content_type, "ct")
        .user_property("a", "b")
        .number(mqtt::PropertyId::subscription_identifier, 42)
        .user_property("c", "d\"e")
        .binary(mqtt::PropertyId::correlation_data, mqtt::Text("17").bytes());
    publish.topic = "room/1";
    publish.payload = payload.bytes();
    publish.qos = mqtt::Qos::at_least_once;
    publish.packet_id = 9;
    publish.retain = true;
    publish.properties = writer.properties();
  }
};

}  // namespace

TEST_CASE("a format is checked before it is used") {
  const auto complaint = [](const char* format) {
    Captured captured(stderr);
    const bool is_good = tools::check_format(format);
    const std::string said = captured.text();
    CHECK(is_good == said.empty());
    return said;
  };
  for (const char* format : {"", "text", "%t %p", "%-5p", "%05l", "%5.3t", "%.2:x", "@Y-@m", "@@",
                             "%%", "\\n\\t\\\\\\0\\a\\e\\r\\v", "%f%d%J%j"}) {
    CHECK(complaint(format).empty());
  }
  for (const char* format : {"%", "%5", "%-", "%05", "%5.", "%.3", "a@"}) {
    CHECK(complaint(format) == "Error: Incomplete format specifier.\n");
  }
  CHECK(complaint("%z") == "Error: Invalid format specifier 'z'.\n");
  CHECK(complaint("a\\") == "Error: Incomplete escape specifier.\n");
  CHECK(complaint("\\q") == "Error: Invalid escape specifier 'q'.\n");
}

TEST_CASE("fields of a format have widths, precisions and signs of their own") {
  const Message message("payload");
  const mqtt::Publish& p = message.publish;
  CHECK(formatted("%t %p %l %q %r %m %%", p) == "room/1 payload 7 1 1 9 %");
  CHECK(formatted("[%9t][%-9t][%.4t][%6.2t]", p) == "[   room/1][room/1   ][room][    ro]");
  CHECK(formatted("[%3p][%9p][%-9p][%09p]", p) == "[pay][  payload][payload  ][00payload]");
  CHECK(formatted("[%3l][%03l][%-3l]", p) == "[  7][007][7  ]");
  CHECK(formatted("%x %X", p) == "7061796c6f6164 7061796C6F6164");
  CHECK(formatted("[%2x][%18x]", p) == "[7061][    7061796c6f6164]");
  CHECK(formatted("%.2:x %.4 x", p) == "70:61:79:6c:6f:61:64 7061 796c 6f61 64");
  CHECK(formatted("%P|%C|%5S|%D|%A|[%3A]|%R", p) == "a:b c:d\"e|ct|   42|17||[   ]|");
  CHECK(formatted("a\\tb\\n@@", p) == "a\tb\n@");
}

TEST_CASE("without a format the payload is printed, with -v the topic too") {
  Message message("payload");
  tools::OutputOptions options;
  CHECK(printed(message.publish, options) == "payload\n");
  options.verbose = true;
  CHECK(printed(message.publish, options) == "room/1 payload\n");
  options.end_of_line = false;
  CHECK(printed(message.publish, options) == "room/1 payload");
  message.publish.payload = mqtt::Bytes();
  CHECK(printed(message.publish, options).empty());
  options.end_of_line = true;
  CHECK(printed(message.publish, options) == "room/1 (null)\n");
  options.verbose = false;
  CHECK(printed(message.publish, options).empty());
}

TEST_CASE("a message is one JSON object") {
  const Message message("{\"x\": 1.0}");
  const std::string head =
      "\"topic\":\"room/1\",\"qos\":1,\"retain\":true,\"payloadlen\":10,\"mid\":9,"
      "\"properties\":{\"content-type\":\"ct\",\"user-properties\":[{\"a\":\"b\"},"
      "{\"c\":\"d\\\"e\"}],\"subscription-identifier\":42,\"correlation-data\":\"17\"},";
  const auto behind_time = [](const std::string& text) { return text.substr(text.find(',') + 1); };
  CHECK(behind_time(formatted("%j", message.publish)) ==
        head + "\"payload\":\"{\\\"x\\\": 1.0}\"}");
  CHECK(behind_time(formatted("%J", message.publish)) == head + "\"payload\":{\"x\":1}}");
  const Message text("x");
  std::string said;
  tools::OutputOptions options;
  options.format = "<%J>";
  CHECK(printed(text.publish, options, &said) == "<>\n");
  CHECK(said == "Error: Message payload is not valid JSON on topic room/1.\n");
}

TEST_CASE("JSON is copied in the form that cJSON prints") {
  CHECK(copied(" { \"a\" : [ 1 , 2.50 , -0 ] } ") == "{\"a\":[1,2.5,-0]}");
  CHECK(copied("[1e3,123456789012345678,0.1,3.14159265358979312,1e-7]") ==
        "[1000,1.2345678901234568e+17,0.1,3.1415926535897931,1e-07]");
  CHECK(copied("\"\\u00e9\\/\\ud83d\\ude00\\u0001\\t\"") == "\"é/\U0001F600\\u0001\\t\"");
  CHECK(copied("[[],{},[{}],null,true,false]") == "[[],{},[{}],null,true,false]");
  CHECK(copied("{\"a\":1,\"a\":2}") == "{\"a\":1,\"a\":2}");
  CHECK(copied("\xEF\xBB\xBF 1") == "1");
  for (const char* text :
       {"",           " ",         "[",           "]",           "{",
        "[1",         "[1,]",      "[,1]",        "{\"a\"}",     "{\"a\":}",
        "{\"a\":1,}", "{1:2}",     "[1 2]",       "nul",         "\"a",
        "\"\\x\"",    "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"",
        "1 2",        "+1",        ".5",          "{} x",        "[}",
        "{]"}) {
    CHECK_MESSAGE(copied(text) == "no JSON", text);
  }
}

TEST_CASE("JSON for people has members on lines of their own") {
  CHECK(copied("{\"a\":1,\"b\":[1,{\"c\":null},[]],\"d\":{}}", true) ==
        "{\n\t\"a\":\t1,\n\t\"b\":\t[1, {\n\t\t\t\"c\":\tnull\n\t\t}, []],\n\t\"d\":\t{\n\t}\n}");
}

TEST_CASE("JSON may be a thousand brackets deep and no deeper") {
  const std::string deep(1000, '[');
  const std::string end(1000, ']');
  CHECK(copied(deep + end) == deep + end);
  CHECK(copied("[" + deep + end + "]") == "no JSON");
}

TEST_CASE("a URL is taken apart and percent-decoded") {
  const auto parse = [](const char* text, tools::Url& url, std::string& memory) {
    memory = text;
    return tools::parse_url(&memory[0], url);
  };
  std::string memory;
  tools::Url url;
  REQUIRE(parse("MQTTS://us%65r:p%3Aw@host:1/a/b%20c", url, memory) == nullptr);
  CHECK(url.host == mqtt::Text("host"));
  CHECK(url.port == mqtt::Text("1"));
  CHECK(url.user_name == mqtt::Text("user"));
  CHECK(url.password == mqtt::Text("p:w"));
  CHECK(url.topic == mqtt::Text("a/b c"));
  CHECK(url.is_tls);
  CHECK_FALSE(url.is_websocket);
  url = tools::Url();
  REQUIRE(parse("ws://[::1]:99/#", url, memory) == nullptr);
  CHECK(url.host == mqtt::Text("::1"));
  CHECK(url.port == mqtt::Text("99"));
  CHECK(url.user_name == nullptr);
  CHECK(url.is_websocket);
  url = tools::Url();
  REQUIRE(parse("wss://a@b@[fe80::1]/100%/%zz%00", url, memory) == nullptr);
  CHECK(url.host == mqtt::Text("fe80::1"));
  CHECK(url.port == nullptr);
  CHECK(url.user_name == mqtt::Text("a@b"));
  CHECK(url.topic == mqtt::Text("100%/%zz%00"));
  CHECK(parse("http://a/b", url, memory) == mqtt::Text("Error: Unsupported URL scheme.\n\n"));
  CHECK(parse("mqtt://a", url, memory) != nullptr);
}

TEST_CASE("flags are read as Mosquitto's") {
  const Parsing p(tools::pub, {"-h",       "host",       "--port",
                               "17",       "-t",         "a/b",
                               "-m",       "text",       "-q",
                               "2",        "-r",         "-i",
                               "id",       "-k",         "10",
                               "-u",       "name",       "-P",
                               "word",     "-c",         "--will-topic",
                               "w",        "--will-qos", "1",
                               "--repeat", "3",          "--repeat-delay",
                               "0.25",     "-M",         "5",
                               "-V",       "mqttv31",    "-d"});
  REQUIRE(p.is_good());
  const tools::Options& o = p.options;
  CHECK(o.host == mqtt::Text("host"));
  CHECK(o.port_number() == 17);
  CHECK(o.topic == mqtt::Text("a/b"));
  CHECK(o.message == mqtt::Text("text"));
  CHECK(o.mode == tools::MessageMode::text);
  CHECK(o.level() == mqtt::Qos::exactly_once);
  CHECK(o.retain);
  CHECK(o.keep_alive_s == 10);
  CHECK_FALSE(o.clean_session);
  CHECK(o.will_qos == 1);
  CHECK(o.repeat_count == 3);
  CHECK(o.repeat_delay_ms == 250);
  CHECK(o.inflight_max == 5);
  CHECK(o.version == mqtt::Version::v3_1);
  CHECK(o.debug);
}

TEST_CASE("what is wrong with a command line is said") {
  struct Row {
    tools::Tool tool;
    std::initializer_list<const char*> words;
    const char* said;
  };
  const Row rows[] = {
      {tools::pub, {"-q", "3"}, "Error: Invalid QoS given: 3\n"},
      {tools::pub, {"-h"}, "Error: -h argument given but no host specified.\n\n"},
      {tools::pub, {"--host"}, "Error: -h argument given but no host specified.\n\n"},
      {tools::pub,
       {"-V"},
       "Error: --protocol-version argument given but no version specified.\n\n"},
      {tools::pub, {"-C", "1"}, "Error: Unknown option '-C'.\n"},
      {tools::sub, {"-m", "x"}, "Error: Unknown option '-m'.\n"},
      {tools::sub, {"-l"}, "Error: Unknown option '-l'.\n"},
      {tools::pub, {"-m", "a", "-n"}, "Error: Only one type of message can be sent at once.\n\n"},
      {tools::pub,
       {"-t", "a/#"},
       "Error: Invalid publish topic 'a/#', does it contain '+' or '#'?\n"},
      {tools::sub,
       {"-t", "a#"},
       "Error: Invalid subscription topic 'a#', are all '+' and '#' wildcards correct?\n"},
      {tools::sub, {"-t", "\xff"}, "Error: Malformed UTF-8 in -t argument.\n\n"},
      {tools::pub,
       {"-i", "a", "-I", "b"},
       "Error: -i and -I argument cannot be used together.\n\n"},
      {tools::pub, {"-c"}, "Error: You must provide a client id if you are using the -c option.\n"},
      {tools::pub, {"-x", "9z"}, "Error: session-expiry-interval not a number.\n\n"},
      {tools::pub, {"-x", "-2"}, "Error: session-expiry-interval out of range.\n\n"},
      {tools::pub,
       {"--will-payload", "x"},
       "Error: Will payload given, but no will topic given.\n"},
      {tools::sub,
       {"-t", "a", "--random-filter", "101"},
       "Error: --random-filter chance must be between 0.1-100.0\n\n"},
      {tools::pub,
       {"-D", "publish", "topic-alias", "0"},
       "Error: Property value (0) out of range for property topic-alias.\n\n"},
      {tools::pub,
       {"-D", "connect", "content-type", "x"},
       "Error: content-type property not allowed for connect in --property argument.\n\n"},
  };
  for (const Row& row : rows) {
    const Parsing p(row.tool, row.words);
    CHECK(p.parsed == tools::Parsed::wrong);
    CHECK(p.said == row.said);
  }
  CHECK(Parsing(tools::pub, {"--help"}).parsed == tools::Parsed::help);
  CHECK(Parsing(tools::pub, {"--version"}).parsed == tools::Parsed::version);
}

TEST_CASE("a session that is kept needs an expiry and a name in 5.0 [MQTT-3.1.2-23]") {
  const Parsing kept(tools::sub, {"-t", "a", "-V", "5", "-c", "-i", "me"});
  REQUIRE(kept.is_good());
  const mqtt::Properties properties = kept.options.properties[tools::Place::connect].view();
  CHECK(properties.number(mqtt::PropertyId::session_expiry_interval, 0) == 0xFFFFFFFF);
  CHECK_FALSE(Parsing(tools::sub, {"-t", "a", "-V", "5", "-c"}).is_good());
  const Parsing brief(tools::sub, {"-t", "a", "-x", "0x10"});
  REQUIRE(brief.is_good());
  CHECK(brief.options.is_v5());
  CHECK(brief.options.properties[tools::Place::connect].view().number(
            mqtt::PropertyId::session_expiry_interval, 0) == 16);
  CHECK(Parsing(tools::sub, {"-t", "a", "-x", "0"})
            .options.properties[tools::Place::connect]
            .view()
            .empty());
}

TEST_CASE("properties are given as words") {
  const Parsing p(tools::pub, {"-D", "publish", "user-property", "name", "value", "-D", "PUBLISH",
                               "Content-Type", "text", "-D", "will", "will-delay-interval", "5",
                               "-D", "publish", "topic-alias", "7"});
  REQUIRE(p.is_good());
  CHECK(p.options.is_v5());
  tools::PropertyList list = p.options.properties[tools::Place::publish];
  CHECK(list.view().text(mqtt::PropertyId::content_type) == mqtt::Text("text"));
  CHECK(list.take_number(mqtt::PropertyId::topic_alias, 0) == 7);
  CHECK_FALSE(list.has(mqtt::PropertyId::topic_alias));
  mqtt::Property pair;
  REQUIRE(list.view().find(mqtt::PropertyId::user_property, pair));
  CHECK(pair.text == mqtt::Text("name"));
  CHECK(pair.value == mqtt::Text("value"));
  const Parsing twice(tools::pub,
                      {"-D", "publish", "content-type", "a", "-D", "publish", "content-type", "b"});
  CHECK(twice.said == "Error in PUBLISH properties: Duplicate property in property list\n");
}

TEST_CASE("an options file has an option a line") {
  char path[] = "/tmp/mqtt_tools_XXXXXX";
  const int file = mkstemp(path);
  REQUIRE(file >= 0);
  const char text[] =
      "# -h nobody\n-h  somebody\r\n\n-t a b\n-D publish user-property k two words\n"
      "--retain\n-m last";
  REQUIRE(write(file, text, sizeof text - 1) == static_cast<ssize_t>(sizeof text - 1));
  close(file);
  const Parsing p(tools::pub, {"-o", path, "-h", "other"});
  unlink(path);
  REQUIRE(p.is_good());
  CHECK(p.options.host == mqtt::Text("other"));
  CHECK(p.options.topic == mqtt::Text("a b"));
  CHECK(p.options.retain);
  CHECK(p.options.message == mqtt::Text("last"));
  mqtt::Property pair;
  REQUIRE(p.options.properties[tools::Place::publish].view().find(mqtt::PropertyId::user_property,
                                                                  pair));
  CHECK(pair.value == mqtt::Text("two words"));
  CHECK_FALSE(Parsing(tools::pub, {"-o", "/no/such/file"}).is_good());
}

#ifndef MQTT_TLS
TEST_CASE("a program without TLS says how to build it with") {
  for (const auto& words : {std::initializer_list<const char*>{"--cafile", "x"},
                            {"--insecure"},
                            {"-p", "8883"},
                            {"-L", "wss://host/a"}}) {
    const Parsing p(tools::pub, words);
    CHECK_FALSE(p.is_good());
    CHECK(p.said.find("-DMQTT_TLS=1") != std::string::npos);
  }
  CHECK(Parsing(tools::pub, {"-p", "8883", "--no-tls"}).is_good());
}
#endif

TEST_CASE("the lines of -d do not depend on how the bytes are cut") {
  uint8_t bytes[1024];
  mqtt::Publish publish;
  publish.topic = "a/b";
  publish.payload = mqtt::Bytes(bytes, 300);
  publish.qos = mqtt::Qos::at_least_once;
  publish.packet_id = 258;
  memset(bytes, 'x', sizeof bytes);
  uint32_t size = 0;
  const auto add = [&](const auto& packet) {
    const mqtt::Result<uint32_t> result =
        mqtt::encode(mqtt::Version::v5, packet, mqtt::Buffer(bytes + 300 + size, 700 - size));
    REQUIRE(result);
    size += result.value;
  };
  add(publish);
  mqtt::Subscription entries[2];
  entries[0].filter = "x/#";
  entries[0].qos = mqtt::Qos::exactly_once;
  entries[1].filter = "y";
  entries[1].no_local = true;
  mqtt::Subscribe subscribe;
  subscribe.packet_id = 259;
  subscribe.filters = entries;
  add(subscribe);
  mqtt::Ack ack;
  ack.packet_id = 7;
  ack.reason_code = mqtt::ReasonCode::not_authorized;
  add(ack);
  add(mqtt::Pingreq());
  add(mqtt::Disconnect());
  const char* const expected =
      "Client me sending PUBLISH (d0, q1, r0, m258, 'a/b', ... (300 bytes))\n"
      "Client me sending SUBSCRIBE (Mid: 259, Topic: x/#, QoS: 2, Options: 0x00)\n"
      "Client me sending SUBSCRIBE (Mid: 259, Topic: y, QoS: 0, Options: 0x04)\n"
      "Client me sending PUBACK (m7, rc135)\n"
      "Client me sending PINGREQ\n"
      "Client me sending DISCONNECT\n";
  for (const uint32_t step : {1U, 2U, 3U, 7U, 100U, 1000U}) {
    FILE* const file = tmpfile();
    tools::Trace trace(mqtt::Version::v5, "me", file);
    for (uint32_t at = 0; at < size; at += step) {
      trace.on_sent(bytes + 300 + at, size - at < step ? size - at : step);
    }
    rewind(file);
    char text[1024] = {};
    REQUIRE(fread(text, 1, sizeof text - 1, file) != 0);
    fclose(file);
    CHECK(text == std::string(expected));
  }
}
