// examples/tools/properties.hpp — -D PACKET PROPERTY VALUE: properties of MQTT 5.0 as words
// SPDX-License-Identifier: MIT
#ifndef MQTT_TOOLS_PROPERTIES_HPP
#define MQTT_TOOLS_PROPERTIES_HPP

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <mqtt.hpp>
#include <vector>

namespace tools {

/// The packets that -D can name, and the will.
enum class Place : uint8_t {
  connect,
  connack,
  publish,
  puback,
  pubrec,
  pubrel,
  pubcomp,
  subscribe,
  suback,
  unsubscribe,
  unsuback,
  disconnect,
  auth,
  will,
  count_
};

namespace detail {
inline constexpr const char* place_names[] = {
    "connect",   "connack", "publish",     "puback",   "pubrec",     "pubrel", "pubcomp",
    "subscribe", "suback",  "unsubscribe", "unsuback", "disconnect", "auth",   "will"};
static_assert(sizeof(place_names) / sizeof(place_names[0]) == static_cast<size_t>(Place::count_),
              "one name for every place");

template <typename... Places>
constexpr uint16_t places(Places... list) {
  return static_cast<uint16_t>((0U | ... | (1U << static_cast<uint8_t>(list))));
}
inline constexpr uint16_t in_message = places(Place::publish, Place::will);
inline constexpr uint16_t in_setup = places(Place::connect, Place::connack);
inline constexpr uint16_t in_answers =
    places(Place::connack, Place::puback, Place::pubrec, Place::pubrel, Place::pubcomp,
           Place::suback, Place::unsuback, Place::disconnect, Place::auth);
inline constexpr uint16_t in_all = places(Place::count_) - 1;
// Where a client may put a property at all.
inline constexpr uint16_t in_requests = places(Place::connect, Place::publish, Place::subscribe,
                                               Place::unsubscribe, Place::disconnect, Place::will);

enum class ValueForm : uint8_t { u8, u16, u32, variable, text, binary, pair };

struct PropertyName {
  const char* name;
  mqtt::PropertyId id;
  ValueForm form;
  uint16_t places;
};
using Id = mqtt::PropertyId;
inline constexpr PropertyName property_names[] = {
    {"payload-format-indicator", Id::payload_format_indicator, ValueForm::u8, in_message},
    {"message-expiry-interval", Id::message_expiry_interval, ValueForm::u32, in_message},
    {"content-type", Id::content_type, ValueForm::text, in_message},
    {"response-topic", Id::response_topic, ValueForm::text, in_message},
    {"correlation-data", Id::correlation_data, ValueForm::binary, in_message},
    {"subscription-identifier", Id::subscription_identifier, ValueForm::variable,
     places(Place::publish, Place::subscribe)},
    {"session-expiry-interval", Id::session_expiry_interval, ValueForm::u32,
     in_setup | places(Place::disconnect)},
    {"assigned-client-identifier", Id::assigned_client_identifier, ValueForm::text,
     places(Place::connack)},
    {"server-keep-alive", Id::server_keep_alive, ValueForm::u16, places(Place::connack)},
    {"authentication-method", Id::authentication_method, ValueForm::text,
     in_setup | places(Place::auth)},
    {"authentication-data", Id::authentication_data, ValueForm::binary,
     in_setup | places(Place::auth)},
    {"request-problem-information", Id::request_problem_information, ValueForm::u8,
     places(Place::connect)},
    {"will-delay-interval", Id::will_delay_interval, ValueForm::u32, places(Place::will)},
    {"request-response-information", Id::request_response_information, ValueForm::u8,
     places(Place::connect)},
    {"response-information", Id::response_information, ValueForm::text, places(Place::connack)},
    {"server-reference", Id::server_reference, ValueForm::text,
     places(Place::connack, Place::disconnect)},
    {"reason-string", Id::reason_string, ValueForm::text, in_answers},
    {"receive-maximum", Id::receive_maximum, ValueForm::u16, in_setup},
    {"topic-alias-maximum", Id::topic_alias_maximum, ValueForm::u16, in_setup},
    {"topic-alias", Id::topic_alias, ValueForm::u16, places(Place::publish)},
    {"maximum-qos", Id::maximum_qos, ValueForm::u8, places(Place::connack)},
    {"retain-available", Id::retain_available, ValueForm::u8, places(Place::connack)},
    {"user-property", Id::user_property, ValueForm::pair, in_all},
    {"maximum-packet-size", Id::maximum_packet_size, ValueForm::u32, in_setup},
    {"wildcard-subscription-available", Id::wildcard_subscription_available, ValueForm::u8,
     places(Place::connack)},
    {"subscription-identifier-available", Id::subscription_identifier_available, ValueForm::u8,
     places(Place::connack)},
    {"shared-subscription-available", Id::shared_subscription_available, ValueForm::u8,
     places(Place::connack)},
};
}  // namespace detail

/// The word for a property; nullptr for an unknown one.
inline const char* name_of(mqtt::PropertyId id) {
  for (const detail::PropertyName& row : detail::property_names) {
    if (row.id == id) { return row.name; }
  }
  return nullptr;
}

/// The properties of one kind of packet, encoded.
class PropertyList {
 public:
  mqtt::Properties view() const {
    return mqtt::Properties(mqtt::Bytes(bytes_.data(), static_cast<uint32_t>(bytes_.size())));
  }
  bool has(mqtt::PropertyId id) const {
    mqtt::Property property;
    return view().find(id, property);
  }
  /// False: the value is not one that the property may have.
  template <typename Write>
  bool add(size_t value_bytes, Write write) {
    const size_t old = bytes_.size();
    bytes_.resize(old + value_bytes + 16);
    mqtt::PropertyWriter writer(
        mqtt::Buffer(bytes_.data() + old, static_cast<uint32_t>(bytes_.size() - old)));
    write(writer);
    bytes_.resize(old + writer.properties().size());
    return !writer.failed();
  }
  /// Takes a property out and gives its number, else `otherwise`.
  uint32_t take_number(mqtt::PropertyId id, uint32_t otherwise) {
    const std::vector<uint8_t> all = bytes_;
    bytes_.clear();
    mqtt::Property property;
    for (mqtt::Properties rest(mqtt::Bytes(all.data(), static_cast<uint32_t>(all.size())));;) {
      const uint8_t* const from = rest.wire().data();
      if (!rest.next(property)) { return otherwise; }
      if (property.id == id) {
        otherwise = property.number;
      } else {
        bytes_.insert(bytes_.end(), from, rest.wire().data());
      }
    }
  }
  /// Whether a property that may be there once is there twice.
  bool has_duplicates() const {
    uint64_t seen = 0;
    mqtt::Property property;
    for (mqtt::Properties rest = view(); rest.next(property);) {
      const uint64_t bit = uint64_t{1} << static_cast<uint8_t>(property.id);
      if ((seen & bit) != 0 && property.id != mqtt::PropertyId::user_property) { return true; }
      seen |= bit;
    }
    return false;
  }

 private:
  std::vector<uint8_t> bytes_;
};

struct PropertyLists {
  PropertyList lists[static_cast<size_t>(Place::count_)];
  PropertyList& operator[](Place place) { return lists[static_cast<size_t>(place)]; }
  const PropertyList& operator[](Place place) const { return lists[static_cast<size_t>(place)]; }
};

namespace detail {
// The value of -D in the property's form; says what is wrong with it.
inline bool add_number(PropertyList& list, const PropertyName& row, const char* value) {
  char* end = nullptr;
  const bool is_wide = row.form == ValueForm::u32 || row.form == ValueForm::variable;
  errno = 0;
  const long long number = strtoll(value, &end, is_wide ? 0 : 10);
  if (is_wide && (end == value || *end != 0)) {
    fprintf(stderr, "Error: Property value '%s' not a number.\n\n", value);
    return false;
  }
  const long long most = row.form == ValueForm::u8 ? 0xFF : is_wide ? 0xFFFFFFFF : 0xFFFF;
  if (errno != 0 || number < 0 || number > most) {
    fprintf(stderr, "Error: Property value (%lld) out of range for property %s.\n\n", number,
            row.name);
    return false;
  }
  const auto write = [&](mqtt::PropertyWriter& writer) {
    writer.number(row.id, static_cast<uint32_t>(number));
  };
  if (list.add(0, write)) { return true; }
  fprintf(stderr, "Error: Property value (%lld) out of range for property %s.\n\n", number,
          row.name);
  return false;
}

inline bool add_text(PropertyList& list, const PropertyName& row, char** words) {
  const size_t size = strlen(words[0]) + (row.form == ValueForm::pair ? strlen(words[1]) : 0);
  if (strlen(words[0]) > 0xFFFF) {
    fprintf(stderr, "Error: Property value too long for property %s.\n\n", row.name);
    return false;
  }
  const auto write = [&](mqtt::PropertyWriter& writer) {
    if (row.form == ValueForm::pair) {
      writer.user_property(words[0], words[1]);
    } else if (row.form == ValueForm::binary) {
      writer.binary(row.id, mqtt::Text(words[0]).bytes());
    } else {
      writer.text(row.id, words[0]);
    }
  };
  if (list.add(size, write)) { return true; }
  fprintf(stderr, "Error adding property %s\n", row.name);
  return false;
}
}  // namespace detail

/// Reads -D's words from `count` of them. How many were used; 0: wrong, and said so.
inline int add_property(PropertyLists& lists, char** words, int count) {
  using detail::ValueForm;
  constexpr const char* too_few =
      "Error: --property argument given but not enough arguments specified.\n\n";
  if (count < 3) {
    fputs(too_few, stderr);
    return 0;
  }
  size_t place = 0;
  while (place < static_cast<size_t>(Place::count_) &&
         strcasecmp(detail::place_names[place], words[0]) != 0) {
    ++place;
  }
  if (place == static_cast<size_t>(Place::count_)) {
    fprintf(stderr, "Error: Invalid command %s given in --property argument.\n\n", words[0]);
    return 0;
  }
  const detail::PropertyName* row = nullptr;
  for (const detail::PropertyName& each : detail::property_names) {
    if (strcasecmp(each.name, words[1]) == 0) { row = &each; }
  }
  if (row == nullptr) {
    fprintf(stderr, "Error: Invalid property name %s given in --property argument.\n\n", words[1]);
    return 0;
  }
  const uint16_t bit = static_cast<uint16_t>(1U << place);
  if ((row->places & bit) == 0) {
    fprintf(stderr, "Error: %s property not allowed for %s in --property argument.\n\n", words[1],
            words[0]);
    return 0;
  }
  if (row->form == ValueForm::pair && count < 4) {
    fputs(too_few, stderr);
    return 0;
  }
  const bool from_server = row->id == mqtt::PropertyId::subscription_identifier &&
                           static_cast<Place>(place) == Place::publish;
  if ((detail::in_requests & bit) == 0 || from_server) {
    fprintf(stderr, "Error: %s property not supported for %s in --property argument.\n\n", words[1],
            words[0]);
    return 0;
  }
  PropertyList& list = lists.lists[place];
  const bool added = row->form < ValueForm::text ? detail::add_number(list, *row, words[2])
                                                 : detail::add_text(list, *row, words + 2);
  return !added ? 0 : row->form == ValueForm::pair ? 4 : 3;
}

}  // namespace tools

#endif
