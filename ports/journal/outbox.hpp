// ports/journal/outbox.hpp — a client's unacknowledged packets, on flash pages or in a file
// SPDX-License-Identifier: MIT
//
// The Store hook of a client: what is kept at a reboot goes to ClientEngine::restore(), in the
// order of each key's first keep().
//
//     struct Config : mqtt::ClientConfig { using Store = mqtt::journal::Outbox<MyFlash>; };
//     store.medium()...;  store.start();
//     store.load(scratch, [&](uint32_t key, Bytes it) { return engine.restore(key, it); });
//
// A Medium is erase blocks in a row:
//
//     static constexpr bool rewritable;   bytes may be written again without an erase (a file)
//     uint32_t block_bytes()              multiple of program_bytes(), at least 128
//     uint32_t block_count()              at least 3
//     uint32_t program_bytes()            1 to 64, written at once, and once after an erase
//     bool read(uint32_t address, Buffer)
//     bool program(uint32_t address, Bytes)      in order; true: it is there or will be with sync()
//     bool erase(uint32_t block)                 to 0xFF
//     bool sync()
//
// Records are frames of the journal's format. The blocks are a ring; one of them is free. When the
// newest is full, the free one is erased and begun, what is alive in the oldest is copied into it,
// and a record says that this is done: from then on the oldest is the free one. A block without
// that record holds copies only and does not count. A write that the power cuts short is told by
// its CRC. On flash nothing is written behind what a start() found: the first packet begins a
// block.
//
// Wear: the ring erases every block as often as any other; a restart costs one erase. A message
// costs its packet and 45 bytes for its record and its end, and a copy each time it survives a
// round. Messages of 100 bytes that are acknowledged soon: 8 blocks of 4 KiB that bear 10,000
// erases take two million of them.
#ifndef MQTT_PORTS_JOURNAL_OUTBOX_HPP
#define MQTT_PORTS_JOURNAL_OUTBOX_HPP

#include <ports/journal/format.hpp>

namespace mqtt {
namespace journal {

namespace detail {
constexpr uint8_t block_magic[8] = {'m', 'q', 'o', 'b', 1, 0, 0, 0};  // and the version
}  // namespace detail

/// At most `entries_max` keys at a time; 20 bytes of memory for each. Nothing is allocated.
template <typename Medium, uint16_t entries_max = 64>
class Outbox {
 public:
  Medium& medium() noexcept { return medium_; }

  /// Reads what is there; once, before anything else. False when the medium fails.
  bool start() noexcept {
    newest_ = medium_.block_count() - 1;
    sequence_ = 0;
    next_order_ = 1;
    for (uint32_t block = 0; block != medium_.block_count(); ++block) {
      uint32_t sequence = 0;
      if (read_header(block, sequence) && sequence > sequence_) {
        sequence_ = sequence;
        newest_ = block;
      }
    }
    scan();
    if (!complete_ && sequence_ != 0) { step_back(); }
    return sequence_ != 0 || rotate();
  }

  /// Calls `sink(uint32_t key, Bytes packet)` in order. False when a packet is larger than
  /// `scratch`, cannot be read or the sink says false.
  template <typename Sink>
  bool load(Buffer scratch, Sink&& sink) noexcept {
    uint32_t last = 0;
    for (uint16_t done = 0; done != count_; ++done) {
      const Entry* best = nullptr;
      for (uint16_t i = 0; i != count_; ++i) {
        const Entry& it = entries_[i];
        if (it.order > last && (best == nullptr || it.order < best->order)) { best = &it; }
      }
      if (best == nullptr) { return false; }  // never: orders differ
      last = best->order;
      const uint32_t size = best->packet_size;
      if (size > scratch.size() || !medium_.read(best->packet, scratch.first(size)) ||
          !sink(best->key, Bytes(scratch.data(), size))) {
        return false;
      }
    }
    return true;
  }

  /// Adds the packet or replaces the one with this key. True: it survives; false: there is no
  /// room, or the medium fails, and nothing has changed (after a failed sync it may come back).
  bool keep(uint32_t key, Bytes packet) noexcept {
    Entry* known = find(key);
    if (known == nullptr && count_ == entries_max) { return false; }
    const uint32_t size = room_for(packet.size());
    const uint32_t replaced = known == nullptr ? 0 : room_for(known->packet_size);
    if (size > payload_bytes() - room_for(0) || live_bytes_ - replaced + size > capacity_bytes()) {
      return false;
    }
    Entry entry;
    entry.key = key;
    entry.order = known == nullptr ? next_order_++ : known->order;
    entry.packet_size = packet.size();
    if (!append(JournalRecord::Type::queue, entry, packet.data()) || !medium_.sync()) {
      return false;
    }
    put_entry(entry);
    return true;
  }

  /// Forgets a key; unknown ones are ignored. A received id (key above 65535) is forgotten before
  /// this returns; that of a request may come back after a power cut and is sent once more.
  void drop(uint32_t key) noexcept {
    Entry* known = find(key);
    if (known == nullptr) { return; }
    remove_entry(*known);
    Entry entry;
    entry.key = key;
    if (append(JournalRecord::Type::done, entry, nullptr) && key > 0xFFFF) {
      static_cast<void>(medium_.sync());
    }
  }

  uint16_t count() const noexcept { return count_; }
  /// Erases since the medium was new, of all blocks together.
  uint32_t erases() const noexcept { return sequence_; }
  /// Bytes that may be kept, records and all.
  uint32_t capacity_bytes() const noexcept {
    return (medium_.block_count() - 2) * (payload_bytes() - payload_bytes() / 4);
  }

 private:
  struct Entry {
    uint32_t key = 0;
    uint32_t order = 0;
    uint32_t packet = 0;  // address
    uint32_t packet_size = 0;
  };
  // Where the bytes of a record to be written come from.
  struct Source {
    const uint8_t* data;  // or null:
    uint32_t address;
  };
  static constexpr uint32_t line_bytes = 64;
  static constexpr uint32_t head_bytes_max = 32;  // of a record without text and bytes
  static constexpr uint32_t header_bytes = 16;    // of a block

  uint32_t rounded(uint32_t size) const noexcept {
    const uint32_t unit = medium_.program_bytes();
    return (size + unit - 1) / unit * unit;
  }
  uint32_t payload_bytes() const noexcept { return medium_.block_bytes() - rounded(header_bytes); }
  uint32_t room_for(uint32_t packet_size) const noexcept {
    return rounded(frame_header_size + head_bytes_max + packet_size);
  }
  uint32_t after(uint32_t block) const noexcept { return (block + 1) % medium_.block_count(); }
  uint32_t address_of(uint32_t block) const noexcept { return block * medium_.block_bytes(); }

  // --- entries ---

  Entry* find(uint32_t key) noexcept {
    for (uint16_t i = 0; i != count_; ++i) {
      if (entries_[i].key == key) { return &entries_[i]; }
    }
    return nullptr;
  }
  void put_entry(const Entry& entry) noexcept {
    Entry* known = find(entry.key);
    if (known == nullptr && count_ == entries_max) { return; }
    live_bytes_ +=
        room_for(entry.packet_size) - (known == nullptr ? 0 : room_for(known->packet_size));
    if (known == nullptr) { known = &entries_[count_++]; }
    *known = entry;
  }
  void remove_entry(Entry& entry) noexcept {
    live_bytes_ -= room_for(entry.packet_size);
    count_ -= 1;
    entry = entries_[count_];
  }

  // --- reading ---

  bool read_header(uint32_t block, uint32_t& sequence) noexcept {
    uint8_t header[header_bytes];
    if (!medium_.read(address_of(block), Buffer(header))) { return false; }
    sequence = get_32(header + 8);
    return memcmp(header, detail::block_magic, 8) == 0 &&
           get_32(header + 12) == crc_32c_small(0, Bytes(header, 12));
  }

  // All blocks but the free one, the oldest first.
  void scan() noexcept {
    count_ = 0;
    live_bytes_ = 0;
    offset_ = medium_.block_bytes();
    const uint32_t blocks = medium_.block_count();
    for (uint32_t age = blocks - 1; age-- != 0;) {
      const uint32_t block = (newest_ + blocks - age) % blocks;
      uint32_t found = 0;
      complete_ = false;
      if (age < sequence_ && read_header(block, found) && found == sequence_ - age) {
        offset_ = scan_block(block, found);
      }
    }
    // a unit that a power cut has half written may read as erased, and bears no other write
    if (!Medium::rewritable) { offset_ = medium_.block_bytes(); }
  }
  // The newest block was begun, and not everything has been copied into it.
  void step_back() noexcept {
    newest_ = (newest_ + medium_.block_count() - 1) % medium_.block_count();
    sequence_ -= 1;
    scan();
  }
  // Returns behind the last good record.
  uint32_t scan_block(uint32_t block, uint32_t sequence) noexcept {
    uint32_t offset = rounded(header_bytes);
    uint32_t size = 0;
    while ((size = scan_record(block, sequence, offset)) != 0) { offset += rounded(size); }
    return offset;
  }
  // The record's size; 0 when there is none.
  uint32_t scan_record(uint32_t block, uint32_t sequence, uint32_t offset) noexcept {
    if (medium_.block_bytes() - offset < frame_header_size + 2) { return 0; }
    uint8_t line[line_bytes];
    const uint32_t first =
        medium_.block_bytes() - offset < line_bytes ? medium_.block_bytes() - offset : line_bytes;
    FrameHeader header;
    if (!medium_.read(address_of(block) + offset, Buffer(line, first)) ||
        !read_frame_header(line, header) ||
        header.size > medium_.block_bytes() - offset - frame_header_size) {
      return 0;
    }
    const uint32_t body = address_of(block) + offset + frame_header_size;
    uint32_t crc = begin_crc(line, FramePlace{sequence, offset});
    for (uint32_t at = 0; at != header.size;) {
      uint8_t piece[line_bytes];
      const uint32_t some = header.size - at < line_bytes ? header.size - at : line_bytes;
      if (!medium_.read(body + at, Buffer(piece, some))) { return 0; }
      crc = crc_32c_small(crc, Bytes(piece, some));
      at += some;
    }
    if (crc != header.crc) { return 0; }
    const uint32_t in_line = first - frame_header_size;
    apply(Bytes(line + frame_header_size, header.size < in_line ? header.size : in_line), body);
    return frame_header_size + header.size;
  }
  void apply(Bytes head, uint32_t body) noexcept {
    RecordReader reader(head);
    JournalRecord record;
    uint64_t size = 0;
    if (!reader.next_head(record, size)) { return; }
    Entry entry;
    entry.key = static_cast<uint32_t>(record.message);
    if (record.type == JournalRecord::Type::queue) {
      entry.order = record.number;
      entry.packet = body + static_cast<uint32_t>(reader.at() - head.data());
      entry.packet_size = static_cast<uint32_t>(size);
      put_entry(entry);
      if (next_order_ <= entry.order) { next_order_ = entry.order + 1; }
    } else if (static_cast<uint8_t>(record.type) == type_complete) {
      complete_ = true;
    } else if (Entry* known = find(entry.key)) {
      remove_entry(*known);
    }
  }

  // --- writing ---

  static uint32_t begin_crc(const uint8_t* frame, FramePlace place) noexcept {
    uint8_t seed[20];
    put_frame_seed(seed, frame, place);
    return crc_32c_small(0, Bytes(seed));
  }

  // Writes a record behind the others, in a new block if it must be; `entry.packet` is where its
  // bytes lie then.
  bool append(JournalRecord::Type type, Entry& entry, const uint8_t* packet) noexcept {
    const uint32_t size = room_for(entry.packet_size);
    for (uint32_t tries = 0; medium_.block_bytes() - offset_ < size; ++tries) {
      if (tries == medium_.block_count() || !rotate()) { return false; }
    }
    return put_record_at(type, entry, Source{packet, 0});
  }

  bool put_record_at(JournalRecord::Type type, Entry& entry, const Source& source) noexcept {
    JournalRecord record;
    record.type = type;
    record.message = entry.key;
    record.number = entry.order;
    record.bytes = Bytes(source.data, entry.packet_size);  // its size only
    uint8_t line[line_bytes];
    const uint8_t* end = put_record_head(line + frame_header_size, record);
    const auto head = static_cast<uint32_t>(end - line);
    const uint32_t body_size = head - frame_header_size + entry.packet_size;
    begin_frame(line);
    end_frame(line, body_size, true, true);
    put_32(line + 8, back_unknown);
    uint32_t crc = begin_crc(line, FramePlace{sequence_, offset_});
    crc = crc_32c_small(crc, Bytes(line + frame_header_size, head - frame_header_size));
    uint8_t piece[line_bytes];
    for (uint32_t at = 0; at != entry.packet_size;) {
      const uint32_t some = fetch(source, at, entry.packet_size - at, piece);
      if (some == 0) { return false; }
      crc = crc_32c_small(crc, Bytes(piece, some));
      at += some;
    }
    put_32(line + 12, crc);
    return program(line, head, entry, source);
  }

  // Up to a line of the packet from `at` on; 0 when it cannot be read.
  uint32_t fetch(const Source& source, uint32_t at, uint32_t left, uint8_t* target) noexcept {
    const uint32_t some = left < line_bytes ? left : line_bytes;
    if (source.data == nullptr) {
      return medium_.read(source.address + at, Buffer(target, some)) ? some : 0;
    }
    memcpy(target, source.data + at, some);
    return some;
  }

  // Head and packet, by whole program units; the last is filled with ones. After a failure the
  // rest of the block is not used.
  bool program(uint8_t* line, uint32_t used, Entry& entry, const Source& source) noexcept {
    uint32_t address = address_of(newest_) + offset_;
    const uint32_t head = used;
    uint32_t at = 0;
    const uint32_t start = offset_;
    offset_ = medium_.block_bytes();
    for (bool last = false; !last;) {
      const uint32_t left = entry.packet_size - at;
      uint32_t some = line_bytes - used < left ? line_bytes - used : left;
      uint8_t piece[line_bytes];
      if (some != 0 && fetch(source, at, some, piece) == 0) { return false; }
      memcpy(line + used, piece, some);
      at += some;
      used += some;
      last = at == entry.packet_size;
      const uint32_t unit = medium_.program_bytes();
      const uint32_t whole = last ? rounded(used) : used / unit * unit;
      memset(line + used, 0xFF, whole > used ? whole - used : 0);
      if (!medium_.program(address, Bytes(line, whole))) { return false; }
      address += whole;
      used -= last ? used : whole;
      memmove(line, line + whole, used);
    }
    entry.packet = address_of(newest_) + start + head;
    offset_ = address - address_of(newest_);
    return true;
  }

  // Begins the free block and empties the oldest, which is the next free one.
  bool rotate() noexcept {
    const uint32_t block = after(newest_);
    uint8_t header[line_bytes];
    memset(header, 0xFF, sizeof header);
    memcpy(header, detail::block_magic, 8);
    put_32(header + 8, sequence_ + 1);
    put_32(header + 12, crc_32c_small(0, Bytes(header, 12)));
    if (!medium_.sync() || !medium_.erase(block) ||
        !medium_.program(address_of(block), Bytes(header, rounded(header_bytes)))) {
      return false;
    }
    newest_ = block;
    sequence_ += 1;
    offset_ = rounded(header_bytes);
    const bool copied = copy_alive(after(block)) && put_complete() && medium_.sync();
    if (!copied) { step_back(); }
    return copied;
  }
  bool copy_alive(uint32_t oldest) noexcept {
    for (uint16_t i = 0; i != count_; ++i) {
      Entry& it = entries_[i];
      if (it.packet / medium_.block_bytes() == oldest &&
          !put_record_at(JournalRecord::Type::queue, it, Source{nullptr, it.packet})) {
        return false;
      }
    }
    return true;
  }
  bool put_complete() noexcept {
    Entry none;
    const auto type = static_cast<JournalRecord::Type>(type_complete);
    return put_record_at(type, none, Source{nullptr, 0});
  }

  Medium medium_;
  Entry entries_[entries_max];
  uint16_t count_ = 0;
  uint32_t live_bytes_ = 0;
  uint32_t next_order_ = 1;
  uint32_t newest_ = 0;    // block
  uint32_t sequence_ = 0;  // of the newest block
  uint32_t offset_ = 0;    // behind its last record
  bool complete_ = false;  // while scanning: the block has everything it should
};

}  // namespace journal
}  // namespace mqtt

#endif
