// Runs the section tests on a board without a C++ library; what a board must offer is in
// examples/cortex_m/board.hpp. Argument skip=WORD leaves out cases with this word in their name.
#include <doctest/doctest.h>
#include <stdarg.h>

#include "board.hpp"

namespace firmware {

Case* first_case = nullptr;

static uint32_t checks_passed = 0;
static uint32_t checks_failed = 0;
const char* running = "";

void passed() { ++checks_passed; }

void failed(const char* file, int line, const char* what) {
  ++checks_failed;
  if (checks_failed > 20) { return; }
  board::print("failed: ");
  board::print(running);
  board::print("\n  ");
  board::print(file);
  board::print(":");
  board::print_number(static_cast<uint32_t>(line));
  board::print(": ");
  board::print(what);
  board::print("\n");
}

void give_up() {
  board::print("given up\n");
  board::stop(1);
}

}  // namespace firmware

namespace pool {

// Blocks of 16 << n bytes; what is given back is kept for its size.
struct Block {
  uint32_t kind;
  Block* next;
};
constexpr size_t header = 16;
constexpr uint32_t kinds = 24;
alignas(16) static uint8_t memory[POOL_BYTES];
static size_t used = 0;
static Block* free_blocks[kinds];

void* take(size_t size) {
  uint32_t kind = 0;
  while ((size_t{16} << kind) < size) { ++kind; }
  const size_t fresh = header + (size_t{16} << kind);
  Block* block = nullptr;
  // A larger block serves where nothing else is left.
  for (uint32_t larger = kind; block == nullptr && larger < kinds; ++larger) {
    block = free_blocks[larger];
    if (block == nullptr && used + fresh <= sizeof memory) {
      block = reinterpret_cast<Block*>(memory + used);
      block->kind = kind;
      used += fresh;
    } else if (block != nullptr) {
      free_blocks[larger] = block->next;
    }
  }
  if (block == nullptr) {
    board::print("the pool is empty in: ");
    board::print(firmware::running);
    board::print("\n");
    board::stop(98);
  }
  return reinterpret_cast<uint8_t*>(block) + header;
}

void give_back(void* memory_of_block) {
  if (memory_of_block == nullptr) { return; }
  auto* const block = reinterpret_cast<Block*>(static_cast<uint8_t*>(memory_of_block) - header);
  block->next = free_blocks[block->kind];
  free_blocks[block->kind] = block;
}

}  // namespace pool

void* operator new(size_t size) { return pool::take(size); }
void* operator new[](size_t size) { return pool::take(size); }
void operator delete(void* memory) noexcept { pool::give_back(memory); }
void operator delete[](void* memory) noexcept { pool::give_back(memory); }
void operator delete(void* memory, size_t) noexcept { pool::give_back(memory); }
void operator delete[](void* memory, size_t) noexcept { pool::give_back(memory); }

extern "C" void abort() { board::stop(97); }

int snprintf(char* target, size_t size, const char* format, ...) {
  size_t length = 0;
  const auto put = [&](char character) {
    if (length + 1 < size) { target[length] = character; }
    ++length;
  };
  va_list arguments;
  va_start(arguments, format);
  for (; *format != '\0'; ++format) {
    if (strncmp(format, "%02x", 4) == 0) {
      const unsigned value = va_arg(arguments, unsigned);
      put("0123456789abcdef"[value >> 4 & 15]);
      put("0123456789abcdef"[value & 15]);
      format += 3;
    } else {
      put(*format);
    }
  }
  va_end(arguments);
  target[std::min(length, size - 1)] = '\0';
  return static_cast<int>(length);
}

int main() {
  const char* const skip = board::argument("skip");
  uint32_t cases = 0;
  for (firmware::Case* item = firmware::first_case; item != nullptr; item = item->next) {
    firmware::running = item->name;
    if (skip != nullptr && strstr(item->name, skip) != nullptr) { continue; }
    item->run();
    ++cases;
  }
  board::print_number(cases);
  board::print(" test cases, ");
  board::print_number(firmware::checks_passed);
  board::print(" checks passed, ");
  board::print_number(firmware::checks_failed);
  board::print(" failed, stack ");
  board::print_number(board::stack_used());
  board::print("\n");
  return firmware::checks_failed == 0 && cases != 0 ? 0 : 1;
}
