// Start-up for a Cortex-M or rv32: memory, constructors, main(); paints the stack, so that its use
// shows.
#include <stdint.h>

using Function = void (*)();

extern "C" {
extern uint32_t data_source, data_begin, data_end, bss_begin, bss_end, stack_begin, stack_end;
extern Function init_array_begin[], init_array_end[];
int main();
uint32_t stack_used();
void print_row(const char* name, uint32_t number);
void reset();

// Semihosting: SYS_WRITE0 and SYS_EXIT_EXTENDED.
static void semihosting(uint32_t operation, const void* argument) {
#ifdef __riscv
  register uint32_t a0 asm("a0") = operation;
  register const void* a1 asm("a1") = argument;
  asm volatile(".option push\n.option norvc\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
               : "+r"(a0)
               : "r"(a1)
               : "memory");
#else
  register uint32_t r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
#endif
}

static void stop(uint32_t code) {
  const uint32_t block[2] = {0x20026, code};
  semihosting(0x20, block);
  for (;;) {}
}

constexpr uint32_t paint = 0xA5A5A5A5;

uint32_t stack_used() {
  const uint32_t* word = &stack_begin;
  while (word < &stack_end && *word == paint) { ++word; }
  return static_cast<uint32_t>((&stack_end - word) * 4);
}

void print_row(const char* name, uint32_t number) {
  char line[] = " 0000000000\n";
  for (char* digit = line + 10; number != 0; number /= 10, --digit) {
    *digit = static_cast<char>('0' + number % 10);
  }
  semihosting(0x04, name);
  semihosting(0x04, line);
}

void reset() {
  const uint32_t* source = &data_source;
  for (uint32_t* target = &data_begin; target < &data_end; ++target, ++source) {
    *target = *source;
  }
  for (uint32_t* target = &bss_begin; target < &bss_end; ++target) { *target = 0; }
  uint32_t here;
#ifdef __riscv
  asm volatile("mv %0, sp" : "=r"(here));
#else
  asm volatile("mov %0, sp" : "=r"(here));
#endif
  for (volatile uint32_t* word = &stack_begin; word < reinterpret_cast<uint32_t*>(here) - 16;
       ++word) {
    *word = paint;
  }
  for (Function* function = init_array_begin; function < init_array_end; ++function) {
    (*function)();
  }
  const int code = main();
  print_row("stack", stack_used());
  stop(static_cast<uint32_t>(code));
}

#ifdef __riscv
__attribute__((section(".vectors"), used, naked)) void start() {
  asm volatile(
      ".option push\n.option norelax\nla gp, __global_pointer$\n.option pop\n"
      "la sp, stack_end\nj reset");
}
#else
static void fault() { stop(99); }
__attribute__((section(".vectors"), used)) const Function vectors[] = {
    reinterpret_cast<Function>(&stack_end), reset, fault, fault, fault, fault, fault};
#endif
}
