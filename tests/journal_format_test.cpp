// The bytes of a journal.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "guard.hpp"
#include "ports/journal/format.hpp"
#include "sim/journal_disk.hpp"

namespace {

namespace journal = mqtt::journal;
using mqtt::Bytes;
using mqtt::JournalRecord;
using mqtt::Text;

bool same(const JournalRecord& a, const JournalRecord& b) {
  return a.type == b.type && a.flags == b.flags && a.packet_id == b.packet_id &&
         a.session == b.session && a.number == b.number && a.message == b.message &&
         a.expires_at == b.expires_at && a.text == b.text && Text(a.bytes) == Text(b.bytes);
}

// Each of the eight fields is there when its bit is.
JournalRecord with_fields(uint32_t fields, uint32_t value) {
  JournalRecord record;
  record.type = JournalRecord::Type::queue;
  if ((fields & 1) != 0) { record.flags = static_cast<uint8_t>(value | 1); }
  if ((fields & 2) != 0) { record.packet_id = static_cast<uint16_t>(value | 1); }
  if ((fields & 4) != 0) { record.session = value | 1; }
  if ((fields & 8) != 0) { record.number = value | 1; }
  if ((fields & 16) != 0) { record.message = uint64_t{value} << 32 | 1; }
  if ((fields & 32) != 0) { record.expires_at = value | 1; }
  if ((fields & 64) != 0) { record.text = "a/topic"; }
  if ((fields & 128) != 0) { record.bytes = Text("payload").bytes(); }
  return record;
}

TEST_CASE("CRC-32C gives the standard's values, by eight bytes and by half bytes") {
  const Text digits = "123456789";
  CHECK(journal::crc_32c(0, digits.bytes()) == 0xE3069283);
  CHECK(journal::crc_32c_small(0, digits.bytes()) == 0xE3069283);
  const std::string zeros(32, '\0');
  CHECK(journal::crc_32c(0, Text(zeros).bytes()) == 0x8A9136AA);  // RFC 3720 B.4
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    CHECK(journal::crc_32c(0, Text(bytes).bytes()) ==
          journal::crc_32c_small(0, Text(bytes).bytes()));
    const Bytes all = Text(bytes).bytes();
    const uint32_t half = all.size() / 2;
    CHECK(journal::crc_32c(journal::crc_32c(0, all.first(half)), all.skip(half)) ==
          journal::crc_32c(0, all));
    bytes.push_back(static_cast<char>(i * 7));
  }
}

TEST_CASE("a record comes back with every combination of fields and from no shorter bytes") {
  const Guard guard(4096);
  for (const uint32_t value : {0U, 127U, 128U, 65535U, 0xFFFFFFFFU}) {
    for (uint32_t fields = 0; fields < 256; ++fields) {
      CAPTURE(fields);
      const JournalRecord record = with_fields(fields, value);
      std::vector<uint8_t> memory(journal::record_size_max(record));
      const uint8_t* end = journal::put_record(memory.data(), record);
      const auto size = static_cast<uint32_t>(end - memory.data());
      CHECK(size <= memory.size());
      journal::RecordReader reader(Bytes(memory.data(), size));
      JournalRecord found;
      REQUIRE(reader.next(found));
      CHECK(same(found, record));
      CHECK_FALSE(reader.next(found));
      CHECK_FALSE(reader.failed());
      for (uint32_t cut = 1; cut < size; ++cut) {
        journal::RecordReader shorter(guard.at_end(Bytes(memory.data(), cut)));
        CHECK_FALSE(shorter.next(found));
        CHECK(shorter.failed());
      }
    }
  }
}

TEST_CASE("any bytes are read as records without leaving them") {
  const Guard guard(4096);
  sim::Dice dice(3);
  for (int round = 0; round < 20000; ++round) {
    uint8_t bytes[24];
    const uint32_t size = 1 + dice.below(sizeof bytes);
    for (uint32_t i = 0; i < size; ++i) { bytes[i] = static_cast<uint8_t>(dice.below(256)); }
    journal::RecordReader reader(guard.at_end(Bytes(bytes, size)));
    JournalRecord record;
    uint32_t count = 0;
    while (reader.next(record)) { count += 1; }
    CHECK(count <= size / 2);
  }
}

TEST_CASE("a frame is refused with any bit changed, in another segment and at another place") {
  uint8_t frame[64] = {};
  journal::begin_frame(frame);
  memcpy(frame + journal::frame_header_size, "something to keep", 17);
  journal::end_frame(frame, 17, true, false);
  journal::seal_frame(frame, journal::FramePlace{7, 4096}, 4000);
  journal::FrameHeader header;
  REQUIRE(journal::read_frame_header(frame, header));
  CHECK(header.size == 17);
  CHECK(header.begins);
  CHECK_FALSE(header.ends);
  CHECK(header.back == 96);
  CHECK(header.crc == journal::frame_crc(frame, 17, journal::FramePlace{7, 4096}));
  CHECK(header.crc != journal::frame_crc(frame, 17, journal::FramePlace{8, 4096}));
  CHECK(header.crc != journal::frame_crc(frame, 17, journal::FramePlace{7, 4097}));
  for (uint32_t bit = 0; bit < 8 * (journal::frame_header_size + 17); ++bit) {
    CAPTURE(bit);
    frame[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    journal::FrameHeader changed;
    const bool readable = journal::read_frame_header(frame, changed) && changed.size <= 48;
    CHECK_FALSE((readable && changed.crc == journal::frame_crc(frame, changed.size,
                                                               journal::FramePlace{7, 4096})));
    frame[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
  }
}

TEST_CASE("a frame that is further than 4 GiB behind the last sync says it does not know") {
  uint8_t frame[32] = {};
  journal::begin_frame(frame);
  journal::end_frame(frame, 8, true, true);
  journal::seal_frame(frame, journal::FramePlace{1, uint64_t{1} << 33}, 40);
  journal::FrameHeader header;
  REQUIRE(journal::read_frame_header(frame, header));
  CHECK(header.back == journal::back_unknown);
}

TEST_CASE("a segment's header comes back; a newer version is told from damage") {
  journal::SegmentHeader header;
  header.stands_alone = true;
  header.number = 17;
  header.previous = 15;
  header.previous_end = uint64_t{5} << 32;
  header.created_s = 1700000000;
  uint8_t bytes[journal::segment_header_size];
  journal::put_segment_header(bytes, header);
  journal::SegmentHeader found;
  REQUIRE(journal::read_segment_header(bytes, found) == journal::HeaderState::good);
  CHECK(found.stands_alone);
  CHECK(found.number == 17);
  CHECK(found.previous == 15);
  CHECK(found.previous_end == header.previous_end);
  CHECK(found.created_s == 1700000000);
  for (uint32_t i = 0; i < journal::segment_header_size; ++i) {
    bytes[i] ^= 0x10;
    CHECK(journal::read_segment_header(bytes, found) != journal::HeaderState::good);
    bytes[i] ^= 0x10;
  }
  header.version = journal::format_version + 1;
  journal::put_segment_header(bytes, header);
  CHECK(journal::read_segment_header(bytes, found) == journal::HeaderState::newer_version);
  CHECK(found.version == journal::format_version + 1);
}

}  // namespace
