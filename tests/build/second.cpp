#include <mqtt.hpp>

const void* second_table();
bool (*second_function())(mqtt::ReasonCode);

const void* second_table() { return &mqtt::detail::error_table[0]; }

bool (*second_function())(mqtt::ReasonCode) { return &mqtt::failed; }
