// DISCARD is empty, which must not compile, or a cast to void.
#include <mqtt.hpp>

mqtt::Error fails();
mqtt::Result<int> has_no_value();

void ignore() {
  DISCARD(fails());
  DISCARD(has_no_value());
}
