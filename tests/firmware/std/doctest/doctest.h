// The part of doctest that the section tests use, for firmware: a failed REQUIRE ends the run.
#ifndef MQTT_TESTS_FIRMWARE_DOCTEST_H
#define MQTT_TESTS_FIRMWARE_DOCTEST_H

#include "../small_std.hpp"

namespace firmware {

struct Case {
  const char* name;
  void (*run)();
  Case* next;
};
extern Case* first_case;

void passed();
void failed(const char* file, int line, const char* what);
[[noreturn]] void give_up();

inline void enlist(Case& item) {
  item.next = first_case;
  first_case = &item;
}
struct Enlist {
  Enlist(const char* name, void (*run)()) : item{name, run, nullptr} { enlist(item); }
  Case item;
};
template <template <typename> class Body, typename... Types>
struct EnlistAll {
  explicit EnlistAll(const char* name) : items{{name, Body<Types>::run, nullptr}...} {
    for (Case& item : items) { enlist(item); }
  }
  Case items[sizeof...(Types)];
};

inline bool check(bool good, const char* file, int line, const char* what) {
  if (good) {
    passed();
  } else {
    failed(file, line, what);
  }
  return good;
}
inline void require(bool good, const char* file, int line, const char* what) {
  if (!check(good, file, line, what)) { give_up(); }
}

}  // namespace firmware

#define FIRMWARE_JOIN_(a, b) a##b
#define FIRMWARE_JOIN(a, b) FIRMWARE_JOIN_(a, b)
#define FIRMWARE_CASE(function, name)                                               \
  static void function();                                                           \
  static firmware::Enlist FIRMWARE_JOIN(enlisted_, function)(name, function);       \
  static void function()
#define FIRMWARE_CASES(body, name, T, ...)                                          \
  template <typename T>                                                             \
  struct body {                                                                     \
    static void run();                                                              \
  };                                                                                \
  static firmware::EnlistAll<body, __VA_ARGS__> FIRMWARE_JOIN(enlisted_, body)(name); \
  template <typename T>                                                             \
  void body<T>::run()

#define TEST_CASE(name) FIRMWARE_CASE(FIRMWARE_JOIN(case_, __COUNTER__), name)
#define TEST_CASE_TEMPLATE(name, T, ...) \
  FIRMWARE_CASES(FIRMWARE_JOIN(Case, __COUNTER__), name, T, __VA_ARGS__)

#define TEST_SUITE_BEGIN(name) static_assert(true, name)
#define TEST_SUITE_END() static_assert(true, "")

#define CHECK(...) firmware::check(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)
#define CHECK_FALSE(...) \
  firmware::check(!static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, "not " #__VA_ARGS__)
#define CHECK_MESSAGE(condition, ...) \
  firmware::check(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define REQUIRE(...) \
  firmware::require(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)
#define REQUIRE_FALSE(...) \
  firmware::require(!static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, "not " #__VA_ARGS__)
#define REQUIRE_MESSAGE(condition, ...) \
  firmware::require(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define FAIL(...) firmware::require(false, __FILE__, __LINE__, #__VA_ARGS__)
#define FAIL_CHECK(...) firmware::check(false, __FILE__, __LINE__, #__VA_ARGS__)
#define INFO(...) static_cast<void>(0)
#define CAPTURE(...) static_cast<void>(0)
#define MESSAGE(...) static_cast<void>(0)

#endif
