#ifndef MQTT_TESTS_FIRMWARE_UNISTD_H
#define MQTT_TESTS_FIRMWARE_UNISTD_H

#define _SC_PAGESIZE 0
inline long sysconf(int) { return 256; }

#endif
