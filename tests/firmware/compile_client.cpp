// A client with everything in it, for compilers that are asked only whether they can.
#include "mqtt.hpp"

struct Transport {
  int32_t dial(uint32_t attempt);
  int32_t receive(uint8_t* target, size_t size);
  int32_t transmit(const uint8_t* source, size_t size);
  void hang_up();
};
struct Clock {
  uint64_t now_ms();
  uint32_t random();
};

struct Features : mqtt::ClientFeatures {
#ifdef __AVR__
  static constexpr bool topic_aliases = false;  // clang 14 for AVR breaks on the code of these
#endif
};
struct Config : mqtt::ClientConfig {
  using Features = ::Features;
};

template class mqtt::Client<Transport, Clock, Config>;
