// ports/journal/state.hpp — a broker's state as journal records, and back
// SPDX-License-Identifier: MIT
//
// What a journal keeps is the records a BrokerEngine gave it, in their order. BrokerRestore applies
// them to an engine that has just been started; BrokerSnapshot gives those that make up the present
// state, so that the older ones can be dropped. Neither does I/O, allocates or blocks.
#ifndef MQTT_PORTS_JOURNAL_STATE_HPP
#define MQTT_PORTS_JOURNAL_STATE_HPP

#include <mqtt.hpp>

namespace mqtt {

/// Applies the records of an earlier life, in their order, before anything is admitted; then
/// finish(). Its memory, memory_bytes(limits) of it aligned to 16, may go when it does; only what
/// is used of it is touched. Records may be repeated from any point where the journal was whole.
///
///     BrokerRestore<Engine> restore(engine, memory);
///     for each record: restore.apply(record, now);
///     restore.finish(now);
template <typename Engine>
class BrokerRestore {
 public:
  static_assert(Engine::Journal::enabled, "a broker without a journal has nothing to restore");

  static constexpr uint64_t memory_bytes(const BrokerLimits& limits) noexcept {
    detail::Carver carver(nullptr);
    carver.take<Message>(limits.blocks);
    carver.take<Index>(limits.blocks);
    return carver.size();
  }

  BrokerRestore(Engine& engine, uint8_t* memory) noexcept : engine_(engine) {
    detail::Carver carver(memory);
    const uint32_t count = engine.limits().blocks;
    Message* const messages = carver.template take<Message>(count);
    messages_.start(messages, count);
    heads_.start(carver.template take<Index>(count), count);
    engine_.restoring_ = true;
  }
  BrokerRestore(const BrokerRestore&) = delete;
  BrokerRestore& operator=(const BrokerRestore&) = delete;

  /// Errors: buffer_too_small when a limit is lower than it was.
  Error apply(const JournalRecord& record, Millis now) noexcept {
    engine_.advance(now);
    switch (record.type) {
      case Type::session: return apply_session(record);
      case Type::message: return apply_message(record);
      case Type::payload: return apply_payload(record);
      case Type::message_end: forget(record.message); break;
      case Type::retain: {
        const Index handle = handle_of(record.message);
        return or_full(handle == none || engine_.retain(engine_.stored_message(handle)));
      }
      case Type::retain_clear: engine_.clear_retained(record.text); break;
      case Type::detached:
      case Type::session_end:
      case Type::subscribe:
      case Type::unsubscribe:
      case Type::queue:
      case Type::send:
      case Type::release:
      case Type::done:
      case Type::receive:
      case Type::deliver:
      case Type::will:
      case Type::will_clear: {
        Session* session = find(record.session);
        // if there is none, its own record comes later, with all of it
        return session == nullptr ? Error::none : apply_to(*session, record);
      }
    }
    return Error::none;
  }

  /// All records have been applied. Sessions that had a link count as having lost it now.
  void finish(Millis now) noexcept {
    engine_.advance(now);
    engine_.restoring_ = false;
    for (Index i = 0; i < messages_.used(); ++i) {
      if (messages_[i].chain.first != none) { forget(messages_[i].number()); }
    }
    for (Index slot = 0; slot < engine_.sessions_.used(); ++slot) {
      Session& session = engine_.sessions_[slot];
      if (session.id == none) { continue; }
      engine_.begin_sending(session);
      if (session.will != none) {
        Tick& delay = engine_.will_delay_s(session);
        delay = detail::after_seconds(engine_.now_, delay);
      }
      if (session.attached) {
        session.attached = false;
        engine_.arm_detached(session);  // written, so that another restart does not begin anew
      }
      engine_.arm_session(session);
    }
  }

 private:
  using Index = typename Engine::Index;
  using Session = typename Engine::Session;
  using Entry = typename Engine::Entry;
  using Place = typename Engine::Place;
  using Chain = typename Engine::Chain;
  using MessageHead = typename Engine::MessageHead;
  using Claim = detail::Claim;
  using Tick = detail::Tick;
  using Type = JournalRecord::Type;
  static constexpr Index none = Engine::none;

  // A message whose records have come, by its number.
  struct Message {
    Index next = none;
    uint32_t hash = 0;  // the lower half of the number
    uint32_t high = 0;
    Chain chain;
    uint64_t number() const noexcept { return (uint64_t{high} << 32) | hash; }
  };

  static constexpr Error or_full(bool done) noexcept {
    return done ? Error::none : Error::buffer_too_small;
  }

  Session* find(uint32_t slot) noexcept {
    if (slot >= engine_.sessions_.used()) { return nullptr; }
    Session& session = engine_.sessions_[static_cast<Index>(slot)];
    return session.id == none ? nullptr : &session;
  }
  Message* find_message(uint64_t number) noexcept {
    Index slot = heads_.first(static_cast<uint32_t>(number));
    while (slot != none && messages_[slot].number() != number) { slot = messages_[slot].next; }
    return slot == none ? nullptr : &messages_[slot];
  }
  Index handle_of(uint64_t number) noexcept {
    const Message* it = find_message(number);
    return it == nullptr ? none : it->chain.first;
  }
  void forget(uint64_t number) noexcept {
    if (Message* it = find_message(number)) {
      const Index slot = messages_.index_of(*it);
      heads_.remove(messages_, slot);
      engine_.unreference(it->chain.first);
      messages_.release(slot);
    }
  }

  Error apply_session(const JournalRecord& record) noexcept {
    if (find(record.session) == nullptr) {
      const Index slot = static_cast<Index>(record.session);
      if (record.session >= engine_.limits().sessions || !engine_.sessions_.allocate_at(slot) ||
          !engine_.name_session(slot, record.text)) {
        return Error::buffer_too_small;
      }
    }
    Session& session = engine_.sessions_[static_cast<Index>(record.session)];
    session.resumable = session.journaled = session.attached = true;
    session.expiry_interval_s = record.number;
    session.packet_id = record.packet_id;
    session.expires = detail::after_seconds(engine_.now_, record.number);
    return or_full(engine_.name_user(session, (record.flags & 1) != 0, Text(record.bytes)));
  }

  Error apply_message(const JournalRecord& record) noexcept {
    if (find_message(record.message) != nullptr) { return Error::none; }
    detail::Message message;
    message.topic = record.text;
    message.properties = record.bytes;
    message.qos = static_cast<Qos>(record.flags & 3);
    message.retain = (record.flags & 4) != 0;
    message.has_expiry = record.expires_at != 0;
    message.expiry_s = engine_.seconds_until(record.expires_at);
    const Index slot = messages_.allocate();
    if (slot == none) { return Error::buffer_too_small; }
    Message& it = messages_[slot];
    it.chain = engine_.begin_message(message, record.number, Claim::ordinary);
    if (it.chain.first == none) {
      messages_.release(slot);
      return Error::buffer_too_small;
    }
    it.hash = static_cast<uint32_t>(record.message);
    it.high = static_cast<uint32_t>(record.message >> 32);
    heads_.insert(messages_, slot);
    MessageHead& head = engine_.head(it.chain.first);
    head.set_number(record.message);
    head.segment = engine_.segment_;
    engine_.message_number_ = detail::larger(engine_.message_number_, record.message);
    return Error::none;
  }
  Error apply_payload(const JournalRecord& record) noexcept {
    Message* it = find_message(record.message);
    if (it == nullptr) { return Error::none; }
    const bool repeated = it->chain.size >= engine_.head(it->chain.first).body_size();
    return or_full(repeated || engine_.blocks_.append(it->chain, record.bytes, Claim::ordinary));
  }

  Error apply_to(Session& session, const JournalRecord& record) noexcept {
    switch (record.type) {
      case Type::detached:
        session.attached = false;
        session.expires =
            record.expires_at == 0xFFFFFFFF
                ? detail::never
                : detail::after_seconds(engine_.now_, engine_.seconds_until(record.expires_at));
        break;
      case Type::session_end:
        engine_.drop_will(session);
        engine_.end_session(session);
        break;
      case Type::subscribe: {
        const uint32_t options = record.number | (uint32_t{record.flags} << 28);
        return or_full(engine_.add_subscription(session, record.text, options).slot != none);
      }
      case Type::unsubscribe: {
        const Index gone = engine_.find_subscription(session, record.text);
        if (gone != none) { engine_.remove_subscription(gone); }
        break;
      }
      case Type::queue: return apply_queue(session, record);
      case Type::send:
      case Type::release:
      case Type::done: apply_delivery(session, record); break;
      case Type::receive: {
        const Index handle = handle_of(record.message);
        const bool known = engine_.find_received(session, record.packet_id) != nullptr;
        return or_full(handle == none || known ||
                       engine_.add_received(session, record.packet_id, handle));
      }
      case Type::deliver:
        if (Entry* it = engine_.find_received(session, record.packet_id)) {
          engine_.drop_received(session, *it);
        }
        break;
      case Type::will:
      case Type::will_clear: apply_will(session, record); break;
      case Type::session:
      case Type::message:
      case Type::payload:
      case Type::message_end:
      case Type::retain:
      case Type::retain_clear: break;
    }
    return Error::none;
  }

  Error apply_queue(Session& session, const JournalRecord& record) noexcept {
    Entry entry;
    entry.kind = detail::EntryKind::stored;
    entry.message = handle_of(record.message);
    entry.number = record.number;
    entry.qos = record.flags & 3;
    entry.retain = (record.flags & 4) != 0;
    if (entry.message == none) { return Error::none; }  // written again when its message is
    if ((record.flags & Engine::journal_merged) == 0) {
      return or_full(engine_.push_to_session(session, entry, Claim::ordinary));
    }
    Entry* last = session.queue.empty() ? nullptr : engine_.queues_.back(session.queue);
    if (last != nullptr && last->message == entry.message) {
      if (entry.qos > last->qos) { last->qos = entry.qos; }
      last->retain = last->retain || entry.retain;
      engine_.add_identifier(*last, entry.number);
    }
    return Error::none;
  }

  // The entry with this id, else the first unsent one of this message.
  Entry* find_entry(const Session& session, const JournalRecord& record, bool by_id) noexcept {
    const Index handle = handle_of(record.message);
    for (Place place; Entry* entry = engine_.queues_.at(session.queue, place); place.step()) {
      const bool same_id = by_id && record.packet_id != 0 && entry->packet_id == record.packet_id;
      if (!entry->settled() && (same_id || (handle != none && entry->message == handle &&
                                            (entry->packet_id == 0 || !by_id)))) {
        return entry;
      }
    }
    return nullptr;
  }
  void apply_delivery(Session& session, const JournalRecord& record) noexcept {
    const bool sends = record.type == Type::send;
    Entry* entry = find_entry(session, record, !sends);
    if (entry == nullptr) { return; }
    if (sends) {
      entry->packet_id = record.packet_id;
      session.packet_id = record.packet_id;
      engine_.mark_sent(session, *entry);
    } else if (record.type == Type::release) {
      entry->set_state(SendState::pubcomp);
      engine_.release_entry(*entry);
    } else {
      engine_.drop_entry(session, *entry);
      engine_.drop_done(session);
    }
  }

  void apply_will(Session& session, const JournalRecord& record) noexcept {
    engine_.drop_will(session);
    session.will = record.type == Type::will ? handle_of(record.message) : none;
    if (session.will != none) {
      engine_.reference(session.will);
      engine_.will_delay_s(session) = record.number;
      engine_.head(session.will).expiry_s = record.expires_at;
    }
  }

  Engine& engine_;
  detail::Table<Message, Index> messages_;
  detail::Directory<Index> heads_;
};

/// Gives the records that make up the state of an engine. Between calls of next() the engine goes
/// on: what changes meanwhile is written to the journal as always, and both together restore the
/// state.
template <typename Engine>
class BrokerSnapshot {
 public:
  static_assert(Engine::Journal::enabled, "a broker without a journal is not written down");

  bool begun() const noexcept { return phase_ != Phase::begin; }

  /// Calls `sink(const JournalRecord&)` for a few more records: a message, or all that is small of
  /// a session; false when there was nothing left.
  template <typename Sink>
  bool next(Engine& engine, Sink&& sink) noexcept {
    if (phase_ == Phase::begin) {
      engine.segment_ += 1;  // messages are written again
      phase_ = Phase::sessions;
    }
    for (; phase_ == Phase::sessions && slot_ < engine.sessions_.used(); ++slot_, looked_at_ = 0) {
      Session& session = engine.sessions_[slot_];
      if (session.id == none || !engine.journaled(session)) { continue; }
      if (!write_message(engine, session, sink)) {
        write_session(engine, session, sink);
        ++slot_;
        looked_at_ = 0;
      }
      return true;
    }
    if (phase_ == Phase::sessions) {
      phase_ = Phase::retained;
      slot_ = 0;
    }
    while (Engine::Features::retained && slot_ < engine.retained_.nodes.used()) {
      const Index message = engine.retained_.nodes[slot_++].message;
      if (message != none && engine.retains_durably(message)) {
        JournalRecord record = Engine::record_for(Type::retain);
        record.message = engine.write_message(message, sink);
        sink(record);
        return true;
      }
    }
    return false;
  }

 private:
  using Index = typename Engine::Index;
  using Session = typename Engine::Session;
  using Entry = typename Engine::Entry;
  using Type = JournalRecord::Type;
  static constexpr Index none = Engine::none;
  enum class Phase : uint8_t { begin, sessions, retained };

  // Writes a message the session refers to, if one has not been written; false when all are.
  template <typename Sink>
  bool write_message(Engine& engine, const Session& session, Sink& sink) noexcept {
    constexpr uint32_t walk_max = 1024;  // entries looked at in one call
    bool wrote = false;
    uint32_t seen = 0;
    const auto look = [&](const Entry& entry) {
      seen += 1;
      if (wrote || seen <= looked_at_ || seen > looked_at_ + walk_max) { return; }
      const Index handle = entry.is_message() ? engine.stored_handle(entry.message) : none;
      if (handle != none && engine.head(handle).segment != engine.segment_) {
        engine.write_message(handle, sink);
        wrote = true;
        looked_at_ = seen;
      }
    };
    engine.queues_.for_each(session.received, look);
    engine.queues_.for_each(session.queue, look);
    if (wrote || seen <= looked_at_ + walk_max) { return wrote; }
    looked_at_ += walk_max;
    return true;
  }

  template <typename Sink>
  void write_session(Engine& engine, Session& session, Sink& sink) noexcept {
    sink(engine.record_for(Type::session_end, session));  // what was written since the beginning
    sink(engine.session_record(session));
    if (session.link == none) { sink(engine.detached_record(session)); }
    for (Index s = session.subscriptions; s != none; s = engine.subscriptions_[s].next_of_session) {
      const auto& it = engine.subscriptions_[s];
      sink(engine.subscribe_record(session, engine.index_.text(it.filter), it.options));
    }
    engine.queues_.for_each(session.received, [&](const Entry& entry) {
      if (entry.is_message()) {
        sink(engine.receive_record(session, entry.packet_id, entry.message, sink));
      }
    });
    engine.queues_.for_each(session.queue,
                            [&](const Entry& entry) { write_entry(engine, session, entry, sink); });
    if (session.will != none) {
      const detail::Tick delay = engine.will_delay_s(session);
      const detail::Tick left = delay > engine.now_ ? delay - engine.now_ : 0;
      const bool waits = session.link == none;
      sink(engine.will_record(session, waits ? left / detail::ticks_per_second : delay, sink));
    }
  }
  // An entry whose message the client has taken over stands on an empty one.
  template <typename Sink>
  void write_entry(Engine& engine, const Session& session, const Entry& entry,
                   Sink& sink) noexcept {
    const bool released = entry.state() == SendState::pubcomp;
    if (entry.settled()) { return; }
    detail::Message empty;
    empty.qos = Qos::exactly_once;
    const Index handle =
        released ? engine.store(empty, detail::Claim::answer) : engine.stored_handle(entry.message);
    if (handle == none) { return; }
    JournalRecord record = engine.record_for(Type::queue, session);
    record.message = engine.write_message(handle, sink);
    record.flags = Engine::queue_flags(entry);
    bool first = true;
    engine.for_each_identifier(entry, [&](uint32_t identifier) {
      record.number = identifier;
      sink(record);
      first = false;
      record.flags = static_cast<uint8_t>(record.flags | Engine::journal_merged);
    });
    if (first) { sink(record); }
    if (entry.sent || entry.packet_id != 0) {
      record.type = Type::send;
      record.packet_id = entry.packet_id;
      sink(record);
    }
    if (released) {
      record.type = Type::release;
      sink(record);
      engine.unreference(handle);
    }
  }

  Phase phase_ = Phase::begin;
  Index slot_ = 0;          // the next session, or node of the retained messages
  uint32_t looked_at_ = 0;  // entries of the session
};

}  // namespace mqtt

#endif  // MQTT_PORTS_JOURNAL_STATE_HPP
