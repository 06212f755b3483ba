#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include "/usr/share/arduino/hardware/arduino/avr/cores/arduino/Stream.cpp"
