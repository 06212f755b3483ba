// ports/journal/format.hpp — the bytes of a journal: segments, frames, units, records
// SPDX-License-Identifier: MIT
//
// A journal is a chain of segments (files). All numbers are little-endian.
//
//   segment   header of 40 bytes, then frames
//   header    "mqttjrnl", version (2), flags (2), number (4), previous (4), created_s (4),
//             previous_end (8), 0 (4), CRC (4)
//   frame     0xF0 'm' 'j' 0x9A (4), size of the body | begin << 31 | end << 30 (4),
//             back (4), CRC (4), body
//   body      records: type (1), which fields follow (1), those fields
//
// A unit is what one turn of the broker changed: the frames from one marked `begin` to one marked
// `end`. Recovery applies whole units only. A frame's CRC-32C begins with the segment's number and
// the frame's place, so neither another file's bytes nor bytes at a wrong place pass for a frame.
// `back` says how far before the frame everything had been synced when it was written: damage
// there is damage, damage after it is a write that the power cut short.
#ifndef MQTT_PORTS_JOURNAL_FORMAT_HPP
#define MQTT_PORTS_JOURNAL_FORMAT_HPP

#include <mqtt.hpp>

namespace mqtt {
namespace journal {

inline constexpr uint16_t format_version = 1;
inline constexpr uint32_t segment_header_size = 40;
inline constexpr uint32_t frame_header_size = 16;
inline constexpr uint32_t frame_body_max = 256 << 10;    ///< larger units take several frames
inline constexpr uint32_t payload_piece_max = 64 << 10;  ///< of one record
inline constexpr uint32_t record_fields_max = 32;        ///< of a record but text and bytes
inline constexpr uint8_t type_complete = 0x7F;  ///< the segment holds everything that is alive
inline constexpr uint32_t back_unknown = 0xFFFFFFFF;

// --- numbers ---

inline void put_16(uint8_t* target, uint16_t value) noexcept {
  target[0] = static_cast<uint8_t>(value);
  target[1] = static_cast<uint8_t>(value >> 8);
}
inline void put_32(uint8_t* target, uint32_t value) noexcept {
  put_16(target, static_cast<uint16_t>(value));
  put_16(target + 2, static_cast<uint16_t>(value >> 16));
}
inline void put_64(uint8_t* target, uint64_t value) noexcept {
  put_32(target, static_cast<uint32_t>(value));
  put_32(target + 4, static_cast<uint32_t>(value >> 32));
}
inline uint16_t get_16(const uint8_t* source) noexcept {
  return static_cast<uint16_t>(source[0] | source[1] << 8);
}
inline uint32_t get_32(const uint8_t* source) noexcept {
  return get_16(source) | static_cast<uint32_t>(get_16(source + 2)) << 16;
}
inline uint64_t get_64(const uint8_t* source) noexcept {
  return get_32(source) | static_cast<uint64_t>(get_32(source + 4)) << 32;
}

/// Seven bits a byte, the lowest first; at most 10 bytes. Returns behind the last.
inline uint8_t* put_number(uint8_t* target, uint64_t value) noexcept {
  while (value > 0x7F) {
    *target++ = static_cast<uint8_t>(value | 0x80);
    value >>= 7;
  }
  *target++ = static_cast<uint8_t>(value);
  return target;
}

// --- CRC-32C ---

namespace detail {
struct CrcTables {
  uint32_t of[4][256];
};
constexpr CrcTables make_crc_tables() noexcept {
  CrcTables tables{};
  for (uint32_t i = 0; i != 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit != 8; ++bit) { crc = crc >> 1 ^ (0x82F63B78 & (0U - (crc & 1))); }
    tables.of[0][i] = crc;
  }
  for (uint32_t i = 0; i != 256; ++i) {
    for (int table = 1; table != 4; ++table) {
      const uint32_t before = tables.of[table - 1][i];
      tables.of[table][i] = before >> 8 ^ tables.of[0][before & 0xFF];
    }
  }
  return tables;
}
inline constexpr CrcTables crc_tables = make_crc_tables();
inline constexpr uint32_t crc_nibbles[16] = {
    0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
    0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75};
}  // namespace detail

/// CRC-32C of `bytes` behind those that gave `crc` (0 at first). Four bytes a step.
inline uint32_t crc_32c(uint32_t crc, Bytes bytes) noexcept {
  const auto& of = detail::crc_tables.of;
  const uint8_t* at = bytes.data();
  uint32_t left = bytes.size();
  crc = ~crc;
  for (; left >= 4; left -= 4, at += 4) {
    crc ^= get_32(at);
    crc = of[3][crc & 0xFF] ^ of[2][crc >> 8 & 0xFF] ^ of[1][crc >> 16 & 0xFF] ^ of[0][crc >> 24];
  }
  for (; left != 0; --left) { crc = crc >> 8 ^ of[0][(crc ^ *at++) & 0xFF]; }
  return ~crc;
}

/// The same with a table of 64 bytes, for devices.
inline uint32_t crc_32c_small(uint32_t crc, Bytes bytes) noexcept {
  crc = ~crc;
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    crc = crc >> 4 ^ detail::crc_nibbles[crc & 15];
    crc = crc >> 4 ^ detail::crc_nibbles[crc & 15];
  }
  return ~crc;
}

// --- records ---

namespace detail {
inline constexpr uint8_t has_flags = 0x01;
inline constexpr uint8_t has_packet_id = 0x02;
inline constexpr uint8_t has_session = 0x04;
inline constexpr uint8_t has_number = 0x08;
inline constexpr uint8_t has_message = 0x10;
inline constexpr uint8_t has_expires_at = 0x20;
inline constexpr uint8_t has_text = 0x40;
inline constexpr uint8_t has_bytes = 0x80;

inline uint8_t* put_span(uint8_t* target, Bytes bytes) noexcept {
  target = put_number(target, bytes.size());
  memcpy(target, bytes.data(), bytes.size());
  return target + bytes.size();
}
}  // namespace detail

/// Room that a record may need.
inline uint32_t record_size_max(const JournalRecord& record) noexcept {
  return record_fields_max + 10 + record.text.size() + record.bytes.size();
}

/// Writes every field of a record that is not 0, of `bytes` the size only. Returns behind the last
/// byte; record_fields_max + 10 bytes and the text must have room.
inline uint8_t* put_record_head(uint8_t* target, const JournalRecord& record) noexcept {
  uint8_t* fields = target + 1;
  uint8_t has = 0;
  *target = static_cast<uint8_t>(record.type);
  target += 2;
  if (record.flags != 0) {
    has = detail::has_flags;
    *target++ = record.flags;
  }
  if (record.packet_id != 0) {
    has |= detail::has_packet_id;
    put_16(target, record.packet_id);
    target += 2;
  }
  if (record.session != 0) {
    has |= detail::has_session;
    target = put_number(target, record.session);
  }
  if (record.number != 0) {
    has |= detail::has_number;
    target = put_number(target, record.number);
  }
  if (record.message != 0) {
    has |= detail::has_message;
    target = put_number(target, record.message);
  }
  if (record.expires_at != 0) {
    has |= detail::has_expires_at;
    put_32(target, record.expires_at);
    target += 4;
  }
  if (!record.text.empty()) {
    has |= detail::has_text;
    target = detail::put_span(target, record.text.bytes());
  }
  if (!record.bytes.empty()) {
    has |= detail::has_bytes;
    target = put_number(target, record.bytes.size());
  }
  *fields = has;
  return target;
}
/// Writes a record; record_size_max() bytes must be there. Returns behind its last byte.
inline uint8_t* put_record(uint8_t* target, const JournalRecord& record) noexcept {
  target = put_record_head(target, record);
  if (!record.bytes.empty()) { memcpy(target, record.bytes.data(), record.bytes.size()); }
  return target + record.bytes.size();
}

/// Reads the records of a frame's body one after the other; their views point into it.
class RecordReader {
 public:
  explicit RecordReader(Bytes body) noexcept : at_(body.data()), end_(body.end()) {}

  /// False at the end, and when what follows is no record: then failed().
  bool next(JournalRecord& record) noexcept {
    uint64_t size = 0;
    if (!next_head(record, size)) { return false; }
    record.bytes = span(size);
    return !failed_;
  }
  /// All of the next record but its bytes, whose size it tells; at() is where they begin.
  bool next_head(JournalRecord& record, uint64_t& bytes_size) noexcept {
    if (at_ == end_ || failed_) { return false; }
    record = JournalRecord();
    record.type = static_cast<JournalRecord::Type>(fixed(1));
    const uint32_t has = fixed(1);
    if ((has & detail::has_flags) != 0) { record.flags = static_cast<uint8_t>(fixed(1)); }
    if ((has & detail::has_packet_id) != 0) { record.packet_id = static_cast<uint16_t>(fixed(2)); }
    if ((has & detail::has_session) != 0) { record.session = static_cast<uint32_t>(number()); }
    if ((has & detail::has_number) != 0) { record.number = static_cast<uint32_t>(number()); }
    if ((has & detail::has_message) != 0) { record.message = number(); }
    if ((has & detail::has_expires_at) != 0) { record.expires_at = fixed(4); }
    if ((has & detail::has_text) != 0) { record.text = Text(span(number())); }
    bytes_size = (has & detail::has_bytes) != 0 ? number() : 0;
    return !failed_;
  }
  const uint8_t* at() const noexcept { return at_; }
  bool failed() const noexcept { return failed_; }

 private:
  uint32_t left() const noexcept { return static_cast<uint32_t>(end_ - at_); }
  uint32_t fixed(uint32_t size) noexcept {
    if (left() < size) {
      failed_ = true;
      return 0;
    }
    uint32_t value = 0;
    for (uint32_t i = 0; i != size; ++i) { value |= uint32_t{at_[i]} << (8 * i); }
    at_ += size;
    return value;
  }
  uint64_t number() noexcept {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
      const uint32_t byte = fixed(1);
      value |= uint64_t{byte & 0x7F} << shift;
      if (byte < 0x80) { return value; }
    }
    failed_ = true;
    return 0;
  }
  Bytes span(uint64_t size) noexcept {
    if (size > left()) {
      failed_ = true;
      return Bytes();
    }
    const Bytes bytes(at_, static_cast<uint32_t>(size));
    at_ += size;
    return bytes;
  }

  const uint8_t* at_;
  const uint8_t* end_;
  bool failed_ = false;
};

// --- frames ---

/// The first 16 bytes of a frame.
struct FrameHeader {
  uint32_t size = 0;  ///< of the body
  bool begins = false;
  bool ends = false;
  uint32_t back = back_unknown;
  uint32_t crc = 0;
};

namespace detail {
inline constexpr uint8_t marker[4] = {0xF0, 'm', 'j', 0x9A};
inline constexpr uint32_t begin_bit = 0x80000000;
inline constexpr uint32_t end_bit = 0x40000000;
}  // namespace detail

/// Where a frame lies; goes into its CRC.
struct FramePlace {
  uint32_t segment = 0;
  uint64_t offset = 0;
};

/// What a frame's CRC begins with, 20 bytes.
inline void put_frame_seed(uint8_t* seed, const uint8_t* frame, FramePlace place) noexcept {
  put_32(seed, place.segment);
  put_64(seed + 4, place.offset);
  memcpy(seed + 12, frame + 4, 8);
}
inline uint32_t frame_crc(const uint8_t* frame, uint32_t body_size, FramePlace place) noexcept {
  uint8_t seed[20];
  put_frame_seed(seed, frame, place);
  return crc_32c(crc_32c(0, Bytes(seed, sizeof seed)), Bytes(frame + frame_header_size, body_size));
}

/// Opens a frame whose body will follow; `back` and CRC come with seal_frame().
inline void begin_frame(uint8_t* frame) noexcept {
  memcpy(frame, detail::marker, sizeof detail::marker);
}
inline void end_frame(uint8_t* frame, uint32_t body_size, bool begins, bool ends) noexcept {
  put_32(frame + 4, body_size | (begins ? detail::begin_bit : 0) | (ends ? detail::end_bit : 0));
}
inline void seal_frame(uint8_t* frame, FramePlace place, uint64_t synced) noexcept {
  const uint64_t back = place.offset - synced;
  put_32(frame + 8, back < back_unknown ? static_cast<uint32_t>(back) : back_unknown);
  const uint32_t size = get_32(frame + 4) & ~(detail::begin_bit | detail::end_bit);
  put_32(frame + 12, frame_crc(frame, size, place));
}
/// False when no frame can begin with these 16 bytes.
inline bool read_frame_header(const uint8_t* frame, FrameHeader& header) noexcept {
  const uint32_t word = get_32(frame + 4);
  header.size = word & ~(detail::begin_bit | detail::end_bit);
  header.begins = (word & detail::begin_bit) != 0;
  header.ends = (word & detail::end_bit) != 0;
  header.back = get_32(frame + 8);
  header.crc = get_32(frame + 12);
  return memcmp(frame, detail::marker, sizeof detail::marker) == 0 && header.size != 0 &&
         header.size <= frame_body_max;
}

// --- segments ---

/// The beginning of a segment. Numbers count up.
struct SegmentHeader {
  uint16_t version = format_version;
  bool stands_alone = false;  ///< counts only once it is complete; else continues `previous`
  uint32_t number = 0;
  uint32_t previous = 0;      ///< 0: none
  uint32_t created_s = 0;     ///< wall clock
  uint64_t previous_end = 0;  ///< up to here the previous segment counts
};

enum class HeaderState : uint8_t { good, newer_version, bad };

namespace detail {
inline constexpr uint8_t segment_magic[8] = {'m', 'q', 't', 't', 'j', 'r', 'n', 'l'};
}  // namespace detail

inline void put_segment_header(uint8_t* target, const SegmentHeader& header) noexcept {
  memcpy(target, detail::segment_magic, sizeof detail::segment_magic);
  put_16(target + 8, header.version);
  put_16(target + 10, header.stands_alone ? 1 : 0);
  put_32(target + 12, header.number);
  put_32(target + 16, header.previous);
  put_32(target + 20, header.created_s);
  put_64(target + 24, header.previous_end);
  put_32(target + 32, 0);
  put_32(target + 36, crc_32c(0, Bytes(target, 36)));
}
/// Reads 40 bytes; of a newer version only `version` is known.
inline HeaderState read_segment_header(const uint8_t* source, SegmentHeader& header) noexcept {
  header.version = get_16(source + 8);
  if (memcmp(source, detail::segment_magic, sizeof detail::segment_magic) != 0) {
    return HeaderState::bad;
  }
  if (header.version > format_version) { return HeaderState::newer_version; }
  header.stands_alone = (get_16(source + 10) & 1) != 0;
  header.number = get_32(source + 12);
  header.previous = get_32(source + 16);
  header.created_s = get_32(source + 20);
  header.previous_end = get_64(source + 24);
  return get_32(source + 36) == crc_32c(0, Bytes(source, 36)) ? HeaderState::good
                                                              : HeaderState::bad;
}

}  // namespace journal
}  // namespace mqtt

#endif
