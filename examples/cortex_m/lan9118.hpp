// The LAN9118 Ethernet controller of the mps2 boards as a netif of lwIP, polled.
#ifndef EXAMPLES_CORTEX_M_LAN9118_HPP
#define EXAMPLES_CORTEX_M_LAN9118_HPP

#include <lwip/etharp.h>
#include <lwip/netif.h>
#include <netif/ethernet.h>
#include <stdint.h>
#include <string.h>

class Lan9118 {
 public:
  /// Adds the controller to lwIP with a fixed address; false when it does not answer.
  bool start(const ip4_addr_t& address, const ip4_addr_t& mask, const ip4_addr_t& gateway) {
    if (netif_add(&netif_, &address, &mask, &gateway, this, initialise, ethernet_input) ==
        nullptr) {
      return false;
    }
    netif_set_default(&netif_);
    netif_set_up(&netif_);
    return true;
  }

  /// Hands every frame that has come to lwIP.
  void poll() {
    while (frames_waiting() != 0) { receive_frame(); }
  }

  /// Until a frame comes or the next tick of the clock.
  void sleep() {
    asm volatile("cpsid i" ::: "memory");  // a pending interrupt still ends the wait
    at(interrupt_status) = interrupt_frame;
    at(interrupt_enable) = interrupt_frame;
    if (frames_waiting() == 0) { asm volatile("dsb\n wfi" ::: "memory"); }
    at(interrupt_enable) = 0;
    asm volatile("cpsie i" ::: "memory");
  }

 private:
  enum Register : uint32_t {  // offsets from the controller's base
    rx_data = 0x00,
    tx_data = 0x20,
    rx_status = 0x40,
    tx_status = 0x48,
    id_revision = 0x50,
    interrupt_config = 0x54,
    interrupt_status = 0x58,
    interrupt_enable = 0x5C,
    fifo_interrupts = 0x68,
    rx_config = 0x6C,
    tx_config = 0x70,
    hardware_config = 0x74,
    rx_fifo_info = 0x7C,
    tx_fifo_info = 0x80,
    mac_command = 0xA4,
    mac_data = 0xA8
  };
  enum MacRegister : uint32_t { mac_control = 1, mac_address_high = 2, mac_address_low = 3 };

  static constexpr uint32_t base = 0x40200000;
  static constexpr uint32_t interrupt_frame = 1U << 3;
  static constexpr uint32_t interrupt_set_enable = 0xE000E100;
  static constexpr uint32_t interrupt_number = 13;
  static constexpr uint32_t check_bytes = 4;  // of a frame, at its end

  static volatile uint32_t& at(uint32_t offset) {
    return *reinterpret_cast<volatile uint32_t*>(base + offset);
  }
  static uint32_t frames_waiting() { return at(rx_fifo_info) >> 16 & 0xFF; }

  static void write_mac(MacRegister index, uint32_t value) {
    constexpr uint32_t busy = 1U << 31;
    at(mac_data) = value;
    at(mac_command) = busy | index;
    while ((at(mac_command) & busy) != 0) {}
  }

  static err_t initialise(netif* netif) {
    static constexpr uint8_t address[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    netif->name[0] = 'e';
    netif->name[1] = 'n';
    netif->mtu = 1500;
    netif->hwaddr_len = sizeof address;
    memcpy(netif->hwaddr, address, sizeof address);
    netif->flags =
        NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    netif->output = etharp_output;
    netif->linkoutput = send_frame;
    return start_controller(address) ? ERR_OK : ERR_IF;
  }

  static bool start_controller(const uint8_t* address) {
    constexpr uint32_t soft_reset = 1;
    if (at(id_revision) >> 16 != 0x0118) { return false; }
    at(hardware_config) = soft_reset;
    while ((at(hardware_config) & soft_reset) != 0) {}
    at(hardware_config) = 5U << 16;  // 5 KB of the memory for sending
    at(interrupt_enable) = 0;
    at(interrupt_status) = 0xFFFFFFFF;
    at(fifo_interrupts) = 0;       // from the first frame on
    at(interrupt_config) = 0x111;  // enabled, push-pull, active high
    *reinterpret_cast<volatile uint32_t*>(interrupt_set_enable) = 1U << interrupt_number;
    write_mac(mac_address_low, static_cast<uint32_t>(address[0] | address[1] << 8 |
                                                     address[2] << 16 | address[3] << 24));
    write_mac(mac_address_high, static_cast<uint32_t>(address[4] | address[5] << 8));
    at(rx_config) = 0;
    at(tx_config) = 2;                                     // on
    write_mac(mac_control, 1U << 20 | 1U << 3 | 1U << 2);  // full duplex, both directions
    return true;
  }

  // The FIFO takes whole words, the pbufs of a frame may end at any byte.
  static err_t send_frame(netif*, pbuf* frame) {
    constexpr uint32_t whole_frame = 1U << 13 | 1U << 12;
    const uint32_t size = frame->tot_len;
    if ((at(tx_fifo_info) & 0xFFFF) < size + 16) { return ERR_MEM; }
    at(tx_data) = whole_frame | size;
    at(tx_data) = size;
    uint32_t word = 0;
    uint32_t filled = 0;
    for (const pbuf* piece = frame; piece != nullptr; piece = piece->next) {
      const auto* bytes = static_cast<const uint8_t*>(piece->payload);
      for (uint32_t i = 0; i < piece->len; ++i) {
        word |= uint32_t{bytes[i]} << (8 * filled);
        if (++filled == 4) {
          at(tx_data) = word;
          word = filled = 0;
        }
      }
    }
    if (filled != 0) { at(tx_data) = word; }
    while ((at(tx_fifo_info) >> 16 & 0xFF) != 0) {
      const uint32_t status = at(tx_status);  // a read takes it off the FIFO
      static_cast<void>(status);
    }
    return ERR_OK;
  }

  void receive_frame() {
    const uint32_t status = at(rx_status);
    const uint32_t size = status >> 16 & 0x3FFF;
    const bool bad = (status & 0x8000) != 0 || size <= check_bytes + 14;
    pbuf* const frame =
        bad ? nullptr : pbuf_alloc(PBUF_RAW, static_cast<uint16_t>(size - check_bytes), PBUF_POOL);
    pbuf* piece = frame;
    uint32_t at_byte = 0;
    for (uint32_t words = (size + 3) / 4; words != 0; --words) {
      uint32_t word = at(rx_data);
      for (uint32_t i = 0; i < 4 && piece != nullptr; ++i, word >>= 8) {
        static_cast<uint8_t*>(piece->payload)[at_byte] = static_cast<uint8_t>(word);
        if (++at_byte == piece->len) {
          piece = piece->next;
          at_byte = 0;
        }
      }
    }
    if (frame != nullptr && netif_.input(frame, &netif_) != ERR_OK) { pbuf_free(frame); }
  }

  netif netif_{};
};

#endif
