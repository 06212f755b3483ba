// The truth table of the QoS 1 and 2 handshakes, held at compile time.
#include <doctest/doctest.h>

#include "mqtt.hpp"

using mqtt::DeliveryAction;
using mqtt::PacketType;
using mqtt::Qos;
using mqtt::ReasonCode;
using mqtt::ReceiveState;
using mqtt::SendState;

namespace {

struct Row {
  SendState state;
  PacketType ack;
  ReasonCode reason;
  SendState next;
  DeliveryAction action;
};

constexpr ReasonCode good = ReasonCode::success;
constexpr ReasonCode quiet = ReasonCode::no_matching_subscribers;
constexpr ReasonCode bad = ReasonCode::quota_exceeded;

constexpr Row table[] = {
    // nothing has this id: no error, for acks may come twice after a resume
    {SendState::none, PacketType::puback, good, SendState::none, DeliveryAction::ignore},
    {SendState::none, PacketType::puback, bad, SendState::none, DeliveryAction::ignore},
    {SendState::none, PacketType::pubrec, good, SendState::none, DeliveryAction::release_unknown},
    {SendState::none, PacketType::pubrec, bad, SendState::none, DeliveryAction::ignore},
    {SendState::none, PacketType::pubcomp, good, SendState::none, DeliveryAction::ignore},
    {SendState::none, PacketType::pubcomp, bad, SendState::none, DeliveryAction::ignore},
    // QoS 1 [MQTT-4.3.2-3] [MQTT-4.4.0-2]
    {SendState::puback, PacketType::puback, good, SendState::none, DeliveryAction::complete},
    {SendState::puback, PacketType::puback, quiet, SendState::none, DeliveryAction::complete},
    {SendState::puback, PacketType::puback, bad, SendState::none, DeliveryAction::fail},
    {SendState::puback, PacketType::pubrec, good, SendState::puback, DeliveryAction::violation},
    {SendState::puback, PacketType::pubrec, bad, SendState::puback, DeliveryAction::violation},
    {SendState::puback, PacketType::pubcomp, good, SendState::puback, DeliveryAction::violation},
    // QoS 2, PUBLISH sent [MQTT-4.3.3-3] [MQTT-4.3.3-4]
    {SendState::pubrec, PacketType::pubrec, good, SendState::pubcomp, DeliveryAction::release},
    {SendState::pubrec, PacketType::pubrec, quiet, SendState::pubcomp, DeliveryAction::release},
    {SendState::pubrec, PacketType::pubrec, bad, SendState::none, DeliveryAction::fail},
    {SendState::pubrec, PacketType::puback, good, SendState::pubrec, DeliveryAction::violation},
    {SendState::pubrec, PacketType::pubcomp, good, SendState::pubrec, DeliveryAction::violation},
    // QoS 2, PUBREL sent [MQTT-4.3.3-5] [MQTT-4.3.3-6]
    {SendState::pubcomp, PacketType::pubcomp, good, SendState::none, DeliveryAction::complete},
    {SendState::pubcomp, PacketType::pubcomp, ReasonCode::packet_identifier_not_found,
     SendState::none, DeliveryAction::complete},
    {SendState::pubcomp, PacketType::pubrec, good, SendState::pubcomp,
     DeliveryAction::release_again},
    {SendState::pubcomp, PacketType::pubrec, bad, SendState::none, DeliveryAction::fail},
    {SendState::pubcomp, PacketType::puback, good, SendState::pubcomp, DeliveryAction::violation},
    // what is no ack
    {SendState::none, PacketType::publish, good, SendState::none, DeliveryAction::violation},
    {SendState::pubrec, PacketType::pubrel, good, SendState::pubrec, DeliveryAction::violation},
};

constexpr bool holds(const Row& row) {
  const auto step = mqtt::on_ack(row.state, row.ack, row.reason);
  return step.next == row.next && step.action == row.action;
}

constexpr bool table_holds() {
  for (const Row& row : table) {
    if (!holds(row)) { return false; }
  }
  return true;
}
static_assert(table_holds(), "the sender's truth table");

static_assert(mqtt::on_publish(ReceiveState::none).next == ReceiveState::pubrel, "");
static_assert(mqtt::on_publish(ReceiveState::none).action == DeliveryAction::accept, "");
static_assert(mqtt::on_publish(ReceiveState::pubrel).next == ReceiveState::pubrel, "");
static_assert(mqtt::on_publish(ReceiveState::pubrel).action == DeliveryAction::repeat, "");
static_assert(mqtt::on_pubrel(ReceiveState::pubrel).next == ReceiveState::none, "");
static_assert(mqtt::on_pubrel(ReceiveState::pubrel).action == DeliveryAction::deliver, "");
static_assert(mqtt::on_pubrel(ReceiveState::none).next == ReceiveState::none, "");
static_assert(mqtt::on_pubrel(ReceiveState::none).action == DeliveryAction::complete_unknown, "");

static_assert(mqtt::sent_state(Qos::at_most_once) == SendState::none, "");
static_assert(mqtt::sent_state(Qos::at_least_once) == SendState::puback, "");
static_assert(mqtt::sent_state(Qos::exactly_once) == SendState::pubrec, "");

static_assert(mqtt::next_packet_id(1) == 2, "");
static_assert(mqtt::next_packet_id(65534) == 65535, "");
static_assert(mqtt::next_packet_id(65535) == 1, "");
static_assert(mqtt::next_packet_id(0) == 1, "");

}  // namespace

TEST_CASE("each ack moves a message as the truth table says [MQTT-4.3.2-3, MQTT-4.3.3-3]") {
  for (const Row& row : table) {
    INFO(static_cast<int>(row.state), " ", static_cast<int>(row.ack), " ",
         static_cast<int>(row.reason));
    CHECK(holds(row));
  }
}

TEST_CASE("a repeated QoS 2 PUBLISH is delivered once [MQTT-4.3.3-10]") {
  ReceiveState state = ReceiveState::none;
  uint32_t delivered = 0;
  for (int round = 0; round < 3; ++round) {
    const auto step = mqtt::on_publish(state);
    CHECK(step.action == (round == 0 ? DeliveryAction::accept : DeliveryAction::repeat));
    state = step.next;
  }
  for (int round = 0; round < 2; ++round) {
    const auto step = mqtt::on_pubrel(state);
    delivered += step.action == DeliveryAction::deliver ? 1U : 0U;
    state = step.next;
  }
  CHECK(delivered == 1);
}

TEST_CASE("packet ids run through 1 to 65,535 and never are 0 [MQTT-2.2.1-4]") {
  uint16_t id = 0;
  for (uint32_t i = 1; i <= 65535; ++i) {
    id = mqtt::next_packet_id(id);
    CHECK(id == i);
  }
  CHECK(mqtt::next_packet_id(id) == 1);
}
