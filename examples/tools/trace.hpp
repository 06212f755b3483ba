// examples/tools/trace.hpp — -d: a line for each packet that goes by
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_TRACE_HPP
#define MQTT_TOOLS_TRACE_HPP

#include <stdio.h>
#include <mqtt.hpp>
#include <string>
#include <vector>

namespace tools {

/// Cuts a stream of bytes into packets and keeps the front of each: enough to name it.
class PacketCutter {
 public:
  static constexpr uint32_t front_max = 131072;  // a topic and what stands before it

  void restart() {
    is_whole_ = true;
    left_ = 0;
  }
  /// How many bytes belong to the packet under way, as far as is known.
  uint32_t wanted() const { return left_ != 0 ? left_ : 1; }
  /// Takes bytes, no more than wanted(); true when a packet is whole.
  bool take(const uint8_t* source, uint32_t size) {
    if (is_whole_) { front_.clear(); }
    is_whole_ = false;
    const uint32_t room = front_max - static_cast<uint32_t>(front_.size());
    front_.insert(front_.end(), source, source + (size < room ? size : room));
    if (left_ != 0) {
      left_ -= size;
    } else if (!take_header()) {
      return false;
    }
    is_whole_ = left_ == 0;
    return is_whole_;
  }

  uint8_t first() const { return front_[0]; }
  /// Bytes behind the fixed header: how many, and those that were kept.
  uint32_t remaining() const { return remaining_; }
  mqtt::Bytes body() const {
    return mqtt::Bytes(front_.data(), static_cast<uint32_t>(front_.size())).skip(header_);
  }

 private:
  // Whether the length is known.
  bool take_header() {
    const size_t size = front_.size();
    if (size == 1) {
      remaining_ = 0;
      return false;
    }
    remaining_ |= static_cast<uint32_t>(front_.back() & 0x7F) << (7 * (size - 2));
    if (front_.back() >= 0x80 && size < 5) { return false; }
    left_ = remaining_;
    header_ = static_cast<uint32_t>(size);
    return true;
  }

  std::vector<uint8_t> front_;
  uint32_t header_ = 0;
  uint32_t remaining_ = 0;
  uint32_t left_ = 0;  // 0: what comes is the header
  bool is_whole_ = true;
};

/// Writes the lines of mosquitto_pub -d and mosquitto_sub -d.
class Trace {
 public:
  Trace(mqtt::Version version, const char* client_id, FILE* target)
      : is_v5_(version == mqtt::Version::v5),
        id_(client_id != nullptr && *client_id != 0 ? client_id : "null"),
        out_(target) {}

  void restart() {
    sent_.restart();
    received_.restart();
  }
  void on_sent(const uint8_t* source, uint32_t size) {
    while (size != 0) {
      const uint32_t count = size < sent_.wanted() ? size : sent_.wanted();
      if (sent_.take(source, count)) { sending(sent_); }
      source += count;
      size -= count;
    }
  }
  /// How many bytes may be received at most, so that a line comes before what the packet causes.
  uint32_t receivable() const { return received_.wanted(); }
  void on_received(const uint8_t* source, uint32_t size) {
    if (received_.take(source, size)) { received(received_); }
  }

 private:
  static mqtt::PacketType type_of(const PacketCutter& packet) {
    return static_cast<mqtt::PacketType>(packet.first() >> 4);
  }
  void line(const char* what) { fprintf(out_, "Client %s %s\n", id_.c_str(), what); }

  void sending(const PacketCutter& packet) {
    using mqtt::PacketType;
    mqtt::Reader reader(packet.body());
    switch (type_of(packet)) {
      case PacketType::connect: line("sending CONNECT"); break;
      case PacketType::publish: publish("sending", packet); break;
      case PacketType::puback: ack("sending PUBACK (m%u, rc%u)", packet); break;
      case PacketType::pubrec: ack("sending PUBREC (m%u, rc%u)", packet); break;
      case PacketType::pubrel: ack("sending PUBREL (m%u)", packet); break;
      case PacketType::pubcomp: ack("sending PUBCOMP (m%u)", packet); break;
      case PacketType::subscribe:
      case PacketType::unsubscribe: filters(packet); break;
      case PacketType::pingreq: line("sending PINGREQ"); break;
      case PacketType::disconnect: line("sending DISCONNECT"); break;
      case PacketType::auth: line("sending AUTH"); break;
      case PacketType::connack:
      case PacketType::suback:
      case PacketType::unsuback:
      case PacketType::pingresp: break;  // a client sends none
    }
  }

  void received(const PacketCutter& packet) {
    using mqtt::PacketType;
    switch (type_of(packet)) {
      case PacketType::connack: connack(packet); break;
      case PacketType::publish: publish("received", packet); break;
      case PacketType::puback: ack("received PUBACK (Mid: %u, RC:%u)", packet); break;
      case PacketType::pubrec: ack("received PUBREC (Mid: %u)", packet); break;
      case PacketType::pubrel: ack("received PUBREL (Mid: %u)", packet); break;
      case PacketType::pubcomp: ack("received PUBCOMP (Mid: %u, RC:%u)", packet); break;
      case PacketType::suback: line("received SUBACK"); break;
      case PacketType::unsuback: line("received UNSUBACK"); break;
      case PacketType::pingresp: line("received PINGRESP"); break;
      case PacketType::disconnect:
        fprintf(out_, "Received DISCONNECT (%u)\n",
                packet.body().empty() ? 0U : unsigned{packet.body()[0]});
        break;
      case PacketType::auth: line("received AUTH"); break;
      case PacketType::connect:
      case PacketType::subscribe:
      case PacketType::unsubscribe:
      case PacketType::pingreq: break;  // a server sends none
    }
  }

  // A server that gives the client a name says so here.
  void connack(const PacketCutter& packet) {
    mqtt::Reader reader(packet.body());
    reader.u8();
    const unsigned code = reader.u8();
    if (is_v5_ && reader.left() != 0) {
      const mqtt::Properties properties(reader.bytes(reader.variable()));
      const mqtt::Text assigned = properties.text(mqtt::PropertyId::assigned_client_identifier);
      if (!assigned.empty()) { id_.assign(assigned.data(), assigned.size()); }
    }
    fprintf(out_, "Client %s received CONNACK (%u)\n", id_.c_str(), code);
  }

  // At QoS 0 nothing has a number on the wire; the lines count on.
  void publish(const char* verb, const PacketCutter& packet) {
    mqtt::Reader reader(packet.body());
    const unsigned flags = packet.first() & 0x0F;
    const unsigned qos = flags >> 1 & 3;
    const bool is_sent = *verb == 's';
    const mqtt::Text topic = reader.text();
    unsigned id = 0;
    if (qos != 0) { id = reader.u16(); }
    if (is_sent) { last_id_ = qos != 0 ? id : last_id_ + 1; }
    if (is_v5_) { reader.bytes(reader.variable()); }
    const uint32_t head = packet.body().size() - reader.left();
    fprintf(out_, "Client %s %s PUBLISH (d%u, q%u, r%u, m%u, '%.*s', ... (%u bytes))\n",
            id_.c_str(), verb, flags >> 3, qos, flags & 1, is_sent ? last_id_ : id,
            static_cast<int>(topic.size()), topic.data(), packet.remaining() - head);
  }

  void ack(const char* format, const PacketCutter& packet) {
    mqtt::Reader reader(packet.body());
    const unsigned id = reader.u16();
    const unsigned code = reader.left() != 0 ? reader.u8() : 0;
    char text[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, format, id, code);
#pragma GCC diagnostic pop
    line(text);
  }

  void filters(const PacketCutter& packet) {
    const bool subscribes = type_of(packet) == mqtt::PacketType::subscribe;
    mqtt::Reader reader(packet.body());
    last_id_ = reader.u16();
    if (is_v5_) { reader.bytes(reader.variable()); }
    while (reader.left() != 0) {
      const mqtt::Text filter = reader.text();
      const unsigned options = subscribes ? reader.u8() : 0;
      if (reader.failed()) { break; }
      fprintf(out_, "Client %s sending %s (Mid: %u, Topic: %.*s", id_.c_str(),
              subscribes ? "SUBSCRIBE" : "UNSUBSCRIBE", last_id_, static_cast<int>(filter.size()),
              filter.data());
      if (subscribes) { fprintf(out_, ", QoS: %u, Options: 0x%02x", options & 3, options & ~3U); }
      fputs(")\n", out_);
    }
  }

  bool is_v5_;
  std::string id_;
  FILE* out_;
  unsigned last_id_ = 0;
  PacketCutter sent_;
  PacketCutter received_;
};

}  // namespace tools

#endif
