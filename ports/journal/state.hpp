// ports/journal/state.hpp — a broker's state as journal records, and back
// SPDX-License-Identifier: MIT
//
// An engine whose Config has a Journal needs this file: by BrokerRecords it writes down its
// changes and holds back what depends on them. BrokerRestore applies records of an earlier life to
// an engine that has just been started; BrokerSnapshot gives those that make up the present state,
// so that the older ones can be dropped. Nothing here does I/O, allocates or blocks.
#ifndef MQTT_PORTS_JOURNAL_STATE_HPP
#define MQTT_PORTS_JOURNAL_STATE_HPP

#include <mqtt.hpp>

namespace mqtt {

/// What an engine writes into its journal: the records of its changes, and which answers wait until
/// they are safe. The engine makes one where it needs it.
template <typename Engine>
class BrokerRecords {
 public:
  using Index = typename Engine::Index;
  using Link = typename Engine::Link;
  using Session = typename Engine::Session;
  using Entry = typename Engine::Entry;
  using MessageHead = typename Engine::MessageHead;
  using Walk = typename Engine::Walk;
  using Type = JournalRecord::Type;
  static constexpr Index none = Engine::none;

  explicit BrokerRecords(Engine& engine) noexcept : engine_(engine) {}

  // ---- what is written ----------------------------------------------------------------------

  /// A change that needs no more words.
  void change(Type type, const Session& session, uint16_t packet_id) noexcept {
    log(record_for(type, session, packet_id));
  }
  void session(Session& session) noexcept {
    if (!session.resumable) {
      if (session.journaled) { session_end(session); }
    } else if (engine_.journal_->is_on()) {
      session.journaled = true;
      log(session_record(session));
    }
  }
  void session_end(Session& session) noexcept {
    log(record_for(Type::session_end, session));
    session.journaled = false;
  }
  void detached(const Session& session) noexcept { log(detached_record(session)); }
  void subscribe(const Session& session, Text filter, uint32_t options) noexcept {
    log(subscribe_record(session, filter, options));
  }
  void unsubscribe(const Session& session, Text filter) noexcept {
    JournalRecord record = record_for(Type::unsubscribe, session);
    record.text = filter;
    log(record);
  }
  void receive(const Session& session, uint16_t packet_id, Index message) noexcept {
    log(receive_record(session, packet_id, message, live()));
  }
  void will(const Session& session) noexcept {
    log(will_record(session, engine_.will_delay_s(session), live()));
  }
  /// `merged`: the message has been queued, this is another subscription's share.
  void queue(const Session& session, const Entry& entry, bool merged = false) noexcept {
    const Index stored = engine_.stored_handle(entry.message);
    if (stored == none) { return; }
    JournalRecord record = record_for(Type::queue, session);
    record.message = write_message(stored, live());
    record.flags = static_cast<uint8_t>(queue_flags(entry) | (merged ? merged_flag : 0));
    record.number = entry.shared ? engine_.subscription_of(entry).identifier() : entry.number;
    log(record);
  }
  void entry(Type type, const Session& session, const Entry& entry) noexcept {
    JournalRecord record = record_for(type, session, entry.packet_id);
    if (entry.is_message()) {
      record.message = engine_.head(engine_.stored_handle(entry.message)).number();
    }
    log(record);
  }
  void retain(Index stored) noexcept {
    if (!retains(stored)) { return; }
    JournalRecord record = record_for(Type::retain);
    record.message = write_message(stored, live());
    log(record);
  }
  void retain_clear(Index stored) noexcept {
    if (!retains(stored)) { return; }
    JournalRecord record = record_for(Type::retain_clear);
    record.text = engine_.stored_topic(stored);
    log(record);
  }
  /// Lets the restored store forget the message; no answer depends on it.
  void message_end(const MessageHead& stored) noexcept {
    if (stored.number() == 0) { return; }
    JournalRecord record = record_for(Type::message_end);
    record.message = stored.number();
    record.number = stored.body_size();
    engine_.sequence_ = engine_.journal_->append(record);
  }

  // ---- what waits ---------------------------------------------------------------------------

  /// An answer that depends on records not yet safe waits, and what answers come after it; QoS 0
  /// and PINGRESP do not. True when it has been taken.
  bool hold_answer(Link& link, Entry entry) noexcept {
    const uint64_t gate = engine_.gate_;
    if (entry.kind == detail::EntryKind::pingresp ||
        (gate <= engine_.durable_ && !link.answers_held)) {
      return false;
    }
    // further behind an Index cannot say for what an answer waits
    const bool countable = engine_.sequence_ - engine_.durable_ <= static_cast<Index>(~Index{0});
    // the CONNACK goes to the front of the queue at once and is let out later
    const bool connack = countable && link.state != Engine::LinkState::open;
    if (connack) {
      link.connack_held = true;
      entry = Entry();
    }
    entry.order = static_cast<Index>(gate > engine_.durable_ ? gate : engine_.sequence_);
    if (!countable || !hold(link, entry)) {
      engine_.release_entry(entry);
      engine_.give_up(link);
    }
    return !connack;
  }
  /// QoS 2 goes out once its id is safe: after a restart it must be the same message.
  bool send_is_safe(const Walk& walk, const Entry& entry) noexcept {
    if (entry.qos != 2 || entry.sent || entry.kind == detail::EntryKind::skip ||
        !walk.session->journaled) {
      return true;
    }
    Link& link = *walk.link;
    // not behind messages of this fill(), which sent() has still to find
    if (entry.packet_id == 0 && !link.sends_held && engine_.plan_.messages == 0) {
      Entry gate;  // stands among the answers for all of them
      gate.packet_id = 1;
      assign_ids(walk);
      gate.order = static_cast<Index>(engine_.sequence_);
      link.sends_held = hold(link, gate);
      if (!link.sends_held) { engine_.give_up(link); }
    }
    return !link.sends_held && entry.packet_id != 0;
  }
  /// More has become safe than the records up to `previous`.
  void release_gated(uint64_t previous) noexcept {
    Index slot = engine_.gated_;
    engine_.gated_ = none;
    while (slot != none) {
      Link& link = engine_.links_[slot];
      slot = engine_.extra(link)->next_gated;
      link.gated = false;
      release_answers(link, previous);
      engine_.mark_due(link);
    }
  }
  void forget_gated(Link& link) noexcept {
    if (link.gated) {
      Index* at = &engine_.gated_;
      while (&engine_.links_[*at] != &link) {
        at = &engine_.extra(engine_.links_[*at])->next_gated;
      }
      *at = engine_.extra(link)->next_gated;
      link.gated = false;
    }
  }

 private:
  friend class BrokerRestore<Engine>;
  friend class BrokerSnapshot<Engine>;

  static constexpr uint8_t merged_flag = 0x08;

  void log(const JournalRecord& record) noexcept {
    engine_.sequence_ = engine_.journal_->append(record);
    engine_.gate_ = engine_.sequence_;
  }
  // Where records go that are not a snapshot's.
  auto live() noexcept {
    return [this](const JournalRecord& record) { log(record); };
  }
  static JournalRecord record_for(Type type) noexcept {
    JournalRecord record;
    record.type = type;
    return record;
  }
  JournalRecord record_for(Type type, const Session& session,
                           uint16_t packet_id = 0) const noexcept {
    JournalRecord record = record_for(type);
    record.session = engine_.sessions_.index_of(session);
    record.packet_id = packet_id;
    return record;
  }

  // The message's number; it is written with its payload once per segment of the journal.
  template <typename Sink>
  uint64_t write_message(Index handle, Sink&& sink) noexcept {
    MessageHead& stored = engine_.head(handle);
    const bool fresh = stored.number() == 0;
    if (fresh) { stored.set_number(++engine_.message_number_); }
    if (fresh || stored.segment != engine_.segment_) {
      stored.segment = engine_.segment_;
      write_parts(handle, sink);
    }
    return stored.number();
  }
  template <typename Sink>
  void write_parts(Index handle, Sink&& sink) noexcept {
    const MessageHead& stored = engine_.head(handle);
    JournalRecord record = record_for(Type::message);
    record.message = stored.number();
    record.flags = static_cast<uint8_t>(level(stored.qos) | (stored.retain ? 4 : 0));
    record.number = stored.payload_size;
    record.text = engine_.stored_topic(handle);
    auto cursor = engine_.body(handle);
    engine_.blocks_.skip(cursor, stored.topic_size);
    record.bytes = engine_.blocks_.view(cursor, stored.properties_size, engine_.texts_scratch_);
    if (stored.has_expiry) {
      record.expires_at = detail::larger(wall_clock_in(engine_.seconds_left(stored)), uint32_t{1});
    }
    sink(record);
    engine_.blocks_.skip(cursor, stored.properties_size);
    for (uint32_t left = stored.payload_size; left != 0;) {
      JournalRecord part = record_for(Type::payload);
      part.message = stored.number();
      part.bytes = engine_.blocks_.next_bytes(cursor, left);
      left -= part.bytes.size();
      sink(part);
    }
  }
  // The wall clock in so many seconds; what is too far away is for ever.
  uint32_t wall_clock_in(uint32_t seconds) noexcept {
    const uint32_t wall = engine_.journal_->wall_clock_s();
    return seconds > 0xFFFFFFFFU - wall ? 0xFFFFFFFFU : wall + seconds;
  }

  JournalRecord session_record(const Session& session) noexcept {
    const ClientView client = engine_.view(session);
    JournalRecord record = record_for(Type::session, session, session.packet_id);
    record.text = client.client_id;
    record.bytes = client.user_name.bytes();
    record.flags = client.has_user_name ? 1 : 0;
    record.message = session.tag;
    record.number = session.expiry_interval_s;
    return record;
  }
  JournalRecord detached_record(const Session& session) noexcept {
    JournalRecord record = record_for(Type::detached, session);
    const bool never = session.expires == detail::never;
    record.expires_at = wall_clock_in(
        never ? 0xFFFFFFFFU : (session.expires - engine_.now_) / detail::ticks_per_second);
    if (session.will != none) { record.number = wall_clock_in(will_waits(session)); }
    return record;
  }
  uint32_t will_waits(const Session& session) const noexcept {
    const detail::Tick due = engine_.will_delay_s(session);
    return due == detail::never ? 0xFFFFFFFF
           : due > engine_.now_ ? (due - engine_.now_) / detail::ticks_per_second
                                : 0;
  }
  JournalRecord subscribe_record(const Session& session, Text filter,
                                 uint32_t options) const noexcept {
    JournalRecord record = record_for(Type::subscribe, session);
    record.text = filter;
    record.number = options & remaining_length_max;
    record.flags = static_cast<uint8_t>(options >> 28);
    return record;
  }
  template <typename Sink>
  JournalRecord receive_record(const Session& session, uint16_t packet_id, Index message,
                               Sink&& sink) noexcept {
    JournalRecord record = record_for(Type::receive, session, packet_id);
    record.message = write_message(message, sink);
    return record;
  }
  template <typename Sink>
  JournalRecord will_record(const Session& session, uint32_t delay_s, Sink&& sink) noexcept {
    JournalRecord record = record_for(Type::will, session);
    record.message = write_message(session.will, sink);
    record.number = delay_s;
    record.expires_at = engine_.head(session.will).expiry_s;
    return record;
  }
  static uint8_t queue_flags(const Entry& entry) noexcept {
    return static_cast<uint8_t>(entry.qos | (entry.retain ? 4 : 0));
  }
  // Whether a retained message is to survive: not what the broker says of itself.
  bool retains(Index stored) const noexcept {
    const Text topic = engine_.stored_topic(stored);
    return engine_.journal_->is_on() && (topic.size() < 5 || memcmp(topic.data(), "$SYS/", 5) != 0);
  }

  // Of a gate that was not safe when `previous` was the last safe record.
  bool is_durable(Index gate, uint64_t previous) const noexcept {
    return static_cast<Index>(gate - static_cast<Index>(previous)) <= engine_.durable_ - previous;
  }
  // Queues what waits for the journal; false when no block is left.
  bool hold(Link& link, const Entry& entry) noexcept {
    auto* more = engine_.need_extra(link);
    if (more == nullptr ||
        engine_.queues_.push(more->answers, entry, detail::Claim::answer) == nullptr) {
      return false;
    }
    link.answers_held = true;
    join_gated(link);
    return true;
  }
  void join_gated(Link& link) noexcept {
    if (!link.gated) {
      link.gated = true;
      engine_.extra(link)->next_gated = engine_.gated_;
      engine_.gated_ = engine_.links_.index_of(link);
    }
  }
  void release_answers(Link& link, uint64_t previous) noexcept {
    auto& answers = engine_.extra(link)->answers;
    while (!answers.empty() && is_durable(engine_.queues_.front(answers)->order, previous)) {
      Entry entry = *engine_.queues_.front(answers);
      engine_.queues_.pop(answers);
      if (entry.kind != detail::EntryKind::skip) {
        engine_.queue_answer(link, entry);
      } else if (entry.packet_id == 0) {
        link.connack_held = false;
      } else {
        link.sends_held = false;
      }
    }
    link.answers_held = !answers.empty();
    if (link.answers_held) { join_gated(link); }
  }
  // Ids for all that the client may be sent now: they become safe together.
  void assign_ids(const Walk& walk) noexcept {
    auto reader = engine_.queues_.from(walk.session->queue, walk.session->send);
    for (uint32_t room = walk.link->send_limit - walk.session->inflight; room != 0;) {
      Entry* entry = engine_.queues_.next(walk.session->queue, reader);
      if (entry == nullptr) { break; }
      if (!Engine::occupies(*entry)) { continue; }
      if (entry->kind != detail::EntryKind::skip) { engine_.assign_id(walk, *entry); }
      room -= 1;
    }
  }

  Engine& engine_;
};

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
        if (handle == none) { return Error::none; }
        auto message = engine_.stored_message(handle);
        return or_full(engine_.retain(message));
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
      if (session.attached) {
        session.attached = false;
        if (session.will != none) {
          Tick& delay = engine_.will_delay_s(session);
          delay = detail::after_seconds(engine_.now_, delay);
        }
        engine_.arm_detached(session);  // written, so that another restart does not begin anew
      }
    }
    for (Index slot = 0; slot < engine_.sessions_.used(); ++slot) {
      Session& session = engine_.sessions_[slot];
      // what is over meanwhile ends before anybody connects
      if (session.id != none) { engine_.on_session_timer(session); }
    }
  }

 private:
  using Index = typename Engine::Index;
  using Session = typename Engine::Session;
  using Entry = typename Engine::Entry;
  using Place = typename Engine::Place;
  using Chain = typename Engine::Chain;
  using MessageHead = typename Engine::MessageHead;
  using Records = BrokerRecords<Engine>;
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

  uint32_t seconds_until(uint32_t wall_clock) noexcept {
    const uint32_t wall = engine_.journal_->wall_clock_s();
    return wall_clock > wall ? wall_clock - wall : 0;
  }
  Tick due(uint32_t wall_clock) noexcept {
    const uint32_t wait_s = seconds_until(wall_clock);
    if (wall_clock == 0xFFFFFFFF) { return detail::never; }
    return wait_s == 0 ? engine_.now_ : detail::after_seconds(engine_.now_, wait_s);
  }
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
    session.tag = static_cast<uint8_t>(record.message);
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
    message.expiry_s = seconds_until(record.expires_at);
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
    if (message.has_expiry && message.expiry_s == 0) { head.stored_at -= 1; }  // it is over already
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
        session.expires = due(record.expires_at);
        if (session.will != none) {
          engine_.will_delay_s(session) =
              detail::after_seconds(engine_.now_, seconds_until(record.number));
        }
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
    if ((record.flags & Records::merged_flag) == 0) {
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

  /// Calls `sink(const JournalRecord&)` for a few more records: messages until they have
  /// `bytes_max` bytes or more, or all that is small of a session; false when there was nothing
  /// left. Every call walks the session's queue, so a long one wants many bytes.
  template <typename Sink>
  bool next(Engine& engine, Sink&& sink, uint32_t bytes_max = 1) noexcept {
    if (phase_ == Phase::begin) {
      engine.segment_ += 1;  // messages are written again
      phase_ = Phase::sessions;
    }
    for (; phase_ == Phase::sessions && slot_ < engine.sessions_.used(); ++slot_, looked_at_ = 0) {
      Session& session = engine.sessions_[slot_];
      if (session.id == none || !session.journaled) { continue; }
      if (!write_messages(engine, session, sink, bytes_max)) {
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
      if (message != none && Records(engine).retains(message)) {
        JournalRecord record = Records::record_for(Type::retain);
        record.message = Records(engine).write_message(message, sink);
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
  using Records = BrokerRecords<Engine>;
  using Type = JournalRecord::Type;
  static constexpr Index none = Engine::none;
  enum class Phase : uint8_t { begin, sessions, retained };

  // Writes messages the session refers to and that have not been written; false when all are.
  template <typename Sink>
  bool write_messages(Engine& engine, const Session& session, Sink& sink,
                      uint32_t bytes_max) noexcept {
    constexpr uint32_t walk_max = 16384;  // entries looked at in one call
    const uint32_t end = looked_at_ + walk_max;
    uint32_t seen = 0;
    uint64_t written = 0;
    const auto look = [&](const Entry& entry) {
      seen += 1;
      if (seen <= looked_at_ || seen > end || written >= bytes_max) { return; }
      looked_at_ = seen;
      const Index handle = entry.is_message() ? engine.stored_handle(entry.message) : none;
      if (handle == none || engine.head(handle).segment == engine.segment_) { return; }
      const auto& head = engine.head(handle);
      written += uint64_t{head.topic_size} + head.properties_size + head.payload_size + 1;
      Records(engine).write_message(handle, sink);
    };
    engine.queues_.for_each(session.received, look);
    engine.queues_.for_each(session.queue, look);
    return written != 0 || looked_at_ < seen;
  }

  template <typename Sink>
  void write_session(Engine& engine, Session& session, Sink& sink) noexcept {
    sink(Records(engine).record_for(Type::session_end,
                                    session));  // what was written since the beginning
    sink(Records(engine).session_record(session));
    for (Index s = session.subscriptions; s != none; s = engine.subscriptions_[s].next_of_session) {
      const auto& it = engine.subscriptions_[s];
      sink(Records(engine).subscribe_record(session, engine.index_.text(it.filter), it.options));
    }
    engine.queues_.for_each(session.received, [&](const Entry& entry) {
      if (entry.is_message()) {
        sink(Records(engine).receive_record(session, entry.packet_id, entry.message, sink));
      }
    });
    engine.queues_.for_each(session.queue,
                            [&](const Entry& entry) { write_entry(engine, session, entry, sink); });
    if (session.will != none) {
      sink(Records(engine).will_record(session, engine.will_delay_s(session), sink));
    }
    if (session.link == none) { sink(Records(engine).detached_record(session)); }
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
    JournalRecord record = Records(engine).record_for(Type::queue, session);
    record.message = Records(engine).write_message(handle, sink);
    record.flags = Records::queue_flags(entry);
    bool first = true;
    engine.for_each_identifier(entry, [&](uint32_t identifier) {
      record.number = identifier;
      sink(record);
      first = false;
      record.flags = static_cast<uint8_t>(record.flags | Records::merged_flag);
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
