#pragma once
#define LED_BUILTIN 13
static const unsigned char A0 = 14;
#ifdef __cplusplus
// The core's HardwareSerial exists only where a UART's registers do.
class HostSerial : public Stream {
 public:
  void begin(unsigned long) {}
  int available() override { return 0; }
  int read() override { return -1; }
  int peek() override { return -1; }
  size_t write(uint8_t character) override;
  using Print::write;
};
extern HostSerial Serial;
#endif
