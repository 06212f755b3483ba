// lwIP on the board: the controller with QEMU's addresses.
#ifndef EXAMPLES_CORTEX_M_NETWORK_HPP
#define EXAMPLES_CORTEX_M_NETWORK_HPP

#include <lwip/init.h>
#include <lwip/timeouts.h>
#include "lan9118.hpp"

/// The board's only network, 10.0.2.15; QEMU's host is 10.0.2.2.
class Network {
 public:
  bool start() {
    lwip_init();
    ip4_addr_t address;
    ip4_addr_t mask;
    ip4_addr_t gateway;
    IP4_ADDR(&address, 10, 0, 2, 15);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&gateway, 10, 0, 2, 2);
    return controller_.start(address, mask, gateway);
  }

  /// Everything lwIP has to do now: frames that came, its timers.
  void poll() {
    controller_.poll();
    sys_check_timeouts();
  }

  void sleep() { controller_.sleep(); }

 private:
  Lan9118 controller_;
};

#endif
