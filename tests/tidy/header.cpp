// A translation unit for clang-tidy that holds nothing but the header.
#include <mqtt.hpp>
