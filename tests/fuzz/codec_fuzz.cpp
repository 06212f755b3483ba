// Any bytes, decoded for both sides in all versions: what is legal is encoded again, to the same
// bytes where they were the shortest form. All inputs and outputs end at a guard page.
//
//   clang++ -std=c++17 -O1 -fsanitize=fuzzer,address,undefined -I. -Itests
//     tests/fuzz/codec_fuzz.cpp -o codec_fuzz
//   ./codec_fuzz -max_len=4096 -max_total_time=300 CORPUS
//
// With -DSTANDALONE it has a main() and needs no libFuzzer:
//
//   codec_fuzz seeds DIRECTORY   writes the packet table as a corpus
//   codec_fuzz mutate COUNT      runs COUNT changed packets of the table
#include <stdio.h>
#include <stdlib.h>

#include "guard.hpp"
#include "mqtt.hpp"
#include "packets/packets.hpp"

using mqtt::Buffer;
using mqtt::Bytes;
using mqtt::Error;
using mqtt::Frame;
using mqtt::Side;
using mqtt::Text;
using mqtt::Version;

namespace {

constexpr uint32_t input_bytes_max = 1 << 16;

void check(bool holds, const char* what) {
  if (holds) { return; }
  fprintf(stderr, "codec_fuzz: %s\n", what);
  abort();
}

struct Reading {
  Version version;
  Side receiver;
};

template <typename Handler>
Error decode(Bytes input, Reading reading, Frame& frame, Handler& handler) {
  const Error error = mqtt::next_frame(input, reading.version, input_bytes_max, frame);
  if (error != Error::none) { return error; }
  return mqtt::decode(frame, reading.version, reading.receiver, handler);
}

struct Ignore {
  template <typename Packet>
  void operator()(const Packet&) const noexcept {}
};

// Encodes a packet in both ways, into targets that fit exactly and that lack a byte.
struct Again {
  Version version;
  const Guard& guard;
  Bytes bytes;

  template <typename Packet>
  void operator()(const Packet& packet) noexcept {
    encode(version, packet);
  }
  void operator()(const mqtt::Connect& packet) noexcept {
    version = packet.version;
    encode(version, packet);
  }

  template <typename Packet>
  void encode(Version as, const Packet& packet) noexcept {
    static uint8_t first[input_bytes_max];
    const mqtt::Result<uint32_t> size = mqtt::encoded_size(as, packet);
    check(size.error == Error::none && size.value <= input_bytes_max,
          "a decoded packet has no size");
    const Buffer exact = guard.flush_end(size.value);
    check(mqtt::encode(as, packet, Buffer(first)).value == size.value, "no room in a large target");
    check(mqtt::encode(as, packet, exact).value == size.value, "no room in an exact target");
    check(memcmp(first, exact.data(), size.value) == 0, "two encodings differ");
    memset(exact.data(), 0, exact.size());
    check(mqtt::detail::encode_carefully(as, mqtt::detail::any(packet), exact).value == size.value,
          "no room when small");
    check(memcmp(first, exact.data(), size.value) == 0, "the small encoding differs");
    memset(exact.data(), 0x5A, exact.size());
    check(mqtt::encode(as, packet, exact.skip(1)).error == Error::buffer_too_small,
          "a target that is too small is taken");
    for (const uint8_t byte : exact) { check(byte == 0x5A, "a target that is too small is used"); }
    bytes = Bytes(first).first(size.value);
  }
};

void walk(mqtt::Properties list) {
  uint32_t left = list.size();
  mqtt::Property property;
  while (list.next(property)) {
    check(list.size() < left, "a walk stands still");
    left = list.size();
  }
  check(list.empty(), "a walk ends early");
}

void packet(Bytes input, Reading reading) {
  static const Guard guard(input_bytes_max);
  static const Guard guard_again(input_bytes_max);
  Frame frame;
  Again again{reading.version, guard_again, {}};
  if (decode(input, reading, frame, again) != Error::none) { return; }
  const Bytes wire = input.first(frame.size());
  check(again.bytes.size() <= wire.size(), "an encoding is longer than what was decoded");
  // 3.1 has bits that nobody reads
  const bool strict = again.version != Version::v3_1;
  check(!strict || again.bytes.size() < wire.size() ||
            memcmp(again.bytes.data(), wire.data(), wire.size()) == 0,
        "an encoding of the same size differs");
  static uint8_t kept[input_bytes_max];
  const uint32_t size = again.bytes.size();
  memcpy(kept, again.bytes.data(), size);
  Again third{reading.version, guard_again, {}};
  check(decode(guard.at_end(Bytes(kept, size)), reading, frame, third) == Error::none,
        "an encoding is not decoded");
  check(third.bytes.size() == size && memcmp(third.bytes.data(), kept, size) == 0,
        "an encoding is not canonical");
}

// The level of a topic or filter that begins at `at`.
Text level(Text text, uint32_t at) {
  uint32_t end = at;
  while (end < text.size() && text[end] != '/') { ++end; }
  return Text(text.data() + at, end - at);
}

// matches(), level by level.
bool matches_by_levels(Text filter, Text topic) {
  if (topic[0] == '$' && (filter[0] == '+' || filter[0] == '#')) { return false; }
  uint32_t f = 0;
  uint32_t t = 0;
  while (true) {
    const Text wanted = level(filter, f);
    const Text there = level(topic, t);
    if (wanted == Text("#")) { return true; }
    if (wanted != Text("+") && wanted != there) { return false; }
    f += wanted.size() + 1;
    t += there.size() + 1;
    if (f > filter.size() || t > topic.size()) {
      return f > filter.size() ? t > topic.size() : level(filter, f) == Text("#");
    }
  }
}

void topics(Bytes input) {
  const uint32_t size = input.size() / 2;
  const Text filter(input.first(size));
  const Text topic(input.skip(size));
  if (!mqtt::valid_filter(filter)) { return; }
  const mqtt::SharedFilter shared = mqtt::split_shared(filter);
  check(!shared.filter.empty(), "a shared filter is empty");
  if (mqtt::valid_topic(topic)) {
    check(mqtt::matches(shared.filter, topic) == matches_by_levels(shared.filter, topic),
          "matches() is wrong");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Guard guard(input_bytes_max);
  if (size == 0 || size > input_bytes_max) { return 0; }
  const uint8_t how = data[0];
  const Bytes input = guard.at_end(Bytes(data + 1, static_cast<uint32_t>(size - 1)));
  const Reading reading{static_cast<Version>(3 + (how >> 1) % 3),
                        (how & 1) != 0 ? Side::broker : Side::client};
  packet(input, reading);
  walk(mqtt::Properties(input));
  topics(input);
  Ignore ignore;
  Frame frame;
  const Error error = mqtt::next_frame(input, reading.version, input_bytes_max, frame);
  if (error == Error::incomplete && frame.header_size != 0) {
    frame.remaining = frame.body.size();  // a packet that ends where the bytes do
    check(mqtt::decode(frame, reading.version, reading.receiver, ignore) != Error::incomplete,
          "a whole frame is incomplete");
  }
  return 0;
}

#ifdef STANDALONE

namespace {

// A row as an input, in `target`, with room to change it.
uint32_t input_of(const packets::Row& row, uint8_t* target) {
  target[0] = static_cast<uint8_t>(((static_cast<uint8_t>(row.version) - 3) << 1) |
                                   (row.receiver == Side::broker ? 1 : 0));
  return 1 + packets::unpack(row, Buffer(target + 1, packets::packet_bytes_max));
}

uint32_t random_number() {
  static uint64_t state = 88172645463325252U;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<uint32_t>(state >> 16);
}

// Changes, takes out or puts in a byte.
uint32_t change(uint8_t* input, uint32_t size) {
  const uint32_t at = random_number() % size;
  const uint32_t how = random_number() % 4;
  if (how == 0 && size > 2) {
    memmove(input + at, input + at + 1, size - at - 1);
    return size - 1;
  }
  if (how == 1) {
    memmove(input + at + 1, input + at, size - at);
    input[at] = static_cast<uint8_t>(random_number());
    return size + 1;
  }
  input[at] = static_cast<uint8_t>(how == 2 ? random_number() : random_number() % 0x30);
  return size;
}

int seeds(const char* directory) {
  static uint8_t input[packets::packet_bytes_max + 1];
  char path[4096];
  uint32_t number = 0;
  for (const packets::Row& row : packets::rows) {
    snprintf(path, sizeof path, "%s/%05u", directory, number++);
    FILE* const file = fopen(path, "wb");
    if (file == nullptr) { return 1; }
    const uint32_t size = input_of(row, input);
    const bool written = fwrite(input, 1, size, file) == size;
    if (fclose(file) != 0 || !written) { return 1; }
  }
  return 0;
}

int mutate(uint64_t count) {
  static uint8_t input[packets::packet_bytes_max + 64];
  constexpr uint32_t row_count = sizeof packets::rows / sizeof packets::rows[0];
  for (uint64_t i = 0; i < count; ++i) {
    uint32_t size = input_of(packets::rows[random_number() % row_count], input);
    for (uint32_t changes = random_number() % 5; changes != 0; --changes) {
      size = change(input, size);
    }
    LLVMFuzzerTestOneInput(input, size);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "seeds") == 0) { return seeds(argv[2]); }
  if (argc == 3 && strcmp(argv[1], "mutate") == 0) {
    return mutate(strtoull(argv[2], nullptr, 10));
  }
  fprintf(stderr, "usage: codec_fuzz seeds DIRECTORY | mutate COUNT\n");
  return 2;
}

#endif
