// ports/journal/dump.hpp — a segment as text for people
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_JOURNAL_DUMP_HPP
#define MQTT_PORTS_JOURNAL_DUMP_HPP

#include <stdio.h>
#include <ports/journal/recovery.hpp>

namespace mqtt {
namespace journal {

namespace detail {
// Quoted; what is not printable ASCII as \xNN; of long ones the beginning.
inline void print_quoted(FILE* out, Bytes bytes) noexcept {
  constexpr uint32_t shown_max = 256;
  fputc('"', out);
  for (uint32_t i = 0; i != bytes.size() && i != shown_max; ++i) {
    const uint8_t byte = bytes[i];
    if (byte == '"' || byte == '\\') {
      fprintf(out, "\\%c", byte);
    } else if (byte >= 0x20 && byte < 0x7F) {
      fputc(byte, out);
    } else {
      fprintf(out, "\\x%02x", byte);
    }
  }
  fputc('"', out);
  if (bytes.size() > shown_max) { fprintf(out, "... (%u bytes)", bytes.size()); }
}

inline const char* name_of(JournalRecord::Type type) noexcept {
  switch (type) {
    case JournalRecord::Type::session: return "session";
    case JournalRecord::Type::detached: return "detached";
    case JournalRecord::Type::session_end: return "session_end";
    case JournalRecord::Type::subscribe: return "subscribe";
    case JournalRecord::Type::unsubscribe: return "unsubscribe";
    case JournalRecord::Type::message: return "message";
    case JournalRecord::Type::payload: return "payload";
    case JournalRecord::Type::message_end: return "message_end";
    case JournalRecord::Type::queue: return "queue";
    case JournalRecord::Type::send: return "send";
    case JournalRecord::Type::release: return "release";
    case JournalRecord::Type::done: return "done";
    case JournalRecord::Type::receive: return "receive";
    case JournalRecord::Type::deliver: return "deliver";
    case JournalRecord::Type::retain: return "retain";
    case JournalRecord::Type::retain_clear: return "retain_clear";
    case JournalRecord::Type::will: return "will";
    case JournalRecord::Type::will_clear: return "will_clear";
  }
  return static_cast<uint8_t>(type) == type_complete ? "complete" : "unknown";
}

// The word for `number`, which depends on the type.
inline const char* number_name(JournalRecord::Type type) noexcept {
  switch (type) {
    case JournalRecord::Type::session: return "expiry_interval";
    case JournalRecord::Type::subscribe:
    case JournalRecord::Type::queue: return "identifier";
    case JournalRecord::Type::message: return "payload_bytes";
    case JournalRecord::Type::message_end: return "bytes";
    case JournalRecord::Type::will: return "delay";
    case JournalRecord::Type::detached:
    case JournalRecord::Type::session_end:
    case JournalRecord::Type::unsubscribe:
    case JournalRecord::Type::payload:
    case JournalRecord::Type::send:
    case JournalRecord::Type::release:
    case JournalRecord::Type::done:
    case JournalRecord::Type::receive:
    case JournalRecord::Type::deliver:
    case JournalRecord::Type::retain:
    case JournalRecord::Type::retain_clear:
    case JournalRecord::Type::will_clear: break;
  }
  return "number";
}

inline bool is_of_session(JournalRecord::Type type) noexcept {
  using Type = JournalRecord::Type;
  return type != Type::message && type != Type::payload && type != Type::message_end &&
         type != Type::retain && type != Type::retain_clear &&
         static_cast<uint8_t>(type) != type_complete;
}
}  // namespace detail

/// One record on a line of its own.
inline void print_record(FILE* out, const JournalRecord& record) noexcept {
  fprintf(out, "    %s", detail::name_of(record.type));
  if (detail::is_of_session(record.type)) { fprintf(out, " session=%u", record.session); }
  if (record.message != 0) {
    fprintf(out, " message=%llu", static_cast<unsigned long long>(record.message));
  }
  if (record.packet_id != 0) { fprintf(out, " packet_id=%u", record.packet_id); }
  if (record.number != 0) {
    fprintf(out, " %s=%u", detail::number_name(record.type), record.number);
  }
  if (record.flags != 0) { fprintf(out, " flags=0x%02x", record.flags); }
  if (record.expires_at != 0) { fprintf(out, " expires_at=%u", record.expires_at); }
  if (!record.text.empty()) {
    fputs(" text=", out);
    detail::print_quoted(out, record.text.bytes());
  }
  if (!record.bytes.empty()) {
    fputs(" bytes=", out);
    detail::print_quoted(out, record.bytes);
  }
  fputc('\n', out);
}

/// Prints a segment with the places of its units and of what is no unit. False when it cannot be
/// read or its format is newer than this program.
template <typename Files>
bool print_segment(FILE* out, SegmentReader<Files>& reader, uint32_t number) noexcept {
  const int error = reader.open(number);
  SegmentHeader header;
  const HeaderState state = error == 0 ? reader.header(header) : HeaderState::bad;
  fprintf(out, "segment %u, %llu bytes", number, static_cast<unsigned long long>(reader.size()));
  if (error != 0 || state == HeaderState::newer_version) {
    fprintf(out, error != 0 ? ": cannot be read\n" : ": format %u, newer than this program\n",
            header.version);
    return false;
  }
  if (state == HeaderState::good) {
    fprintf(out, ", created_at=%u", header.created_s);
    if (header.stands_alone) { fputs(", stands alone", out); }
    if (header.previous != 0) {
      fprintf(out, ", continues segment %u at %llu", header.previous,
              static_cast<unsigned long long>(header.previous_end));
    }
  }
  fputs(state == HeaderState::good ? "\n" : ", header damaged\n", out);
  uint64_t offset = segment_header_size;
  while (offset < reader.size()) {
    const uint64_t end = reader.unit_end(offset, reader.size());
    const uint64_t next = end != 0 ? end : reader.find_unit(offset + 1, reader.size());
    fprintf(out, "  %s at %llu, %llu bytes\n", end != 0 ? "unit" : "DAMAGE",
            static_cast<unsigned long long>(offset),
            static_cast<unsigned long long>(next - offset));
    if (end != 0) {
      reader.records(offset, end, [out](const JournalRecord& it) { print_record(out, it); });
    }
    offset = next;
  }
  return true;
}

}  // namespace journal
}  // namespace mqtt

#endif
