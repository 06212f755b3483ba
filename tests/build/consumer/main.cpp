#include <mqtt.hpp>

int main() { return mqtt::failed(mqtt::ReasonCode::success) ? 1 : 0; }
