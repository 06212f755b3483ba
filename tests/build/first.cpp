// Two translation units hold the header: every function is one function, every table one table.
#include <mqtt.hpp>

const void* second_table();
bool (*second_function())(mqtt::ReasonCode);

int main() {
  const bool same_table = &mqtt::detail::error_table[0] == second_table();
  const bool same_function = second_function() == &mqtt::failed;
  return same_table && same_function ? 0 : 1;
}
