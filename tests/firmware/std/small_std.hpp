// The part of the C++ library that the section tests use, for compilers that ship none: correct,
// small and slow. Memory comes from a fixed pool; there is no heap in the images.
#ifndef MQTT_TESTS_FIRMWARE_SMALL_STD_HPP
#define MQTT_TESTS_FIRMWARE_SMALL_STD_HPP

#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace pool {

void* take(size_t size);
void give_back(void* memory);

}  // namespace pool

inline void* operator new(size_t, void* place) noexcept { return place; }

// Of sections_main.cpp, from the pool.
void* operator new(size_t size);
void* operator new[](size_t size);
void operator delete(void* memory) noexcept;
void operator delete[](void* memory) noexcept;

/// Knows "%02x" only; the C library's would need a heap.
int snprintf(char* target, size_t size, const char* format, ...);

namespace std {

using ::memcmp;
using ::memcpy;
using ::memset;
using ::ptrdiff_t;
using ::size_t;
using nullptr_t = decltype(nullptr);

// ---- utility ------------------------------------------------------------------------------------

template <typename T>
struct remove_reference {
  using type = T;
};
template <typename T>
struct remove_reference<T&> {
  using type = T;
};
template <typename T>
struct remove_reference<T&&> {
  using type = T;
};
template <typename T, typename U>
struct is_same {
  static constexpr bool value = false;
};
template <typename T>
struct is_same<T, T> {
  static constexpr bool value = true;
};
template <typename T, typename U>
inline constexpr bool is_same_v = is_same<T, U>::value;
template <typename T, typename U>
struct different {
  using type = void;
};
template <typename T>
struct different<T, T> {};

template <typename T>
constexpr typename remove_reference<T>::type&& move(T&& value) noexcept {
  return static_cast<typename remove_reference<T>::type&&>(value);
}
template <typename T>
constexpr T&& forward(typename remove_reference<T>::type& value) noexcept {
  return static_cast<T&&>(value);
}
template <typename T>
void swap(T& a, T& b) {
  T kept = move(a);
  a = move(b);
  b = move(kept);
}

template <typename A, typename B>
struct pair {
  A first{};
  B second{};
};
template <typename A, typename B>
bool operator==(const pair<A, B>& a, const pair<A, B>& b) {
  return a.first == b.first && a.second == b.second;
}
template <typename A, typename B>
bool operator<(const pair<A, B>& a, const pair<A, B>& b) {
  return a.first < b.first || (!(b.first < a.first) && a.second < b.second);
}

template <typename T>
class initializer_list {  // the compiler makes these: a pointer, then a count
 public:
  constexpr initializer_list() noexcept = default;
  constexpr size_t size() const noexcept { return count_; }
  constexpr const T* begin() const noexcept { return items_; }
  constexpr const T* end() const noexcept { return items_ + count_; }

 private:
  const T* items_ = nullptr;
  size_t count_ = 0;
};

// ---- algorithm ----------------------------------------------------------------------------------

template <typename T>
constexpr const T& min(const T& a, const T& b) {
  return b < a ? b : a;
}
// For two types of one width: which they are differs by machine.
constexpr uint64_t min(uint64_t a, uint64_t b) { return b < a ? b : a; }
template <typename T>
constexpr const T& max(const T& a, const T& b) {
  return a < b ? b : a;
}
template <typename Iterator, typename T>
void fill(Iterator first, Iterator last, const T& value) {
  for (; first != last; ++first) { *first = value; }
}
template <typename Iterator, typename T>
Iterator find(Iterator first, Iterator last, const T& value) {
  while (first != last && !(*first == value)) { ++first; }
  return first;
}
template <typename Iterator, typename Predicate>
Iterator find_if(Iterator first, Iterator last, Predicate predicate) {
  while (first != last && !predicate(*first)) { ++first; }
  return first;
}
template <typename Iterator, typename Predicate>
ptrdiff_t count_if(Iterator first, Iterator last, Predicate predicate) {
  ptrdiff_t count = 0;
  for (; first != last; ++first) { count += predicate(*first) ? 1 : 0; }
  return count;
}
template <typename Iterator, typename Less>
void sort(Iterator first, Iterator last, Less less) {
  for (Iterator at = first; at != last; ++at) {
    for (Iterator place = at; place != first && less(*place, *(place - 1)); --place) {
      swap(*place, *(place - 1));
    }
  }
}
template <typename Iterator>
void sort(Iterator first, Iterator last) {
  sort(first, last, [](const auto& a, const auto& b) { return a < b; });
}

// ---- vector, deque ------------------------------------------------------------------------------

template <typename T>
class vector {
 public:
  using value_type = T;
  using iterator = T*;
  using const_iterator = const T*;

  vector() = default;
  explicit vector(size_t count) { resize(count); }
  vector(size_t count, const T& value) { resize(count, value); }
  vector(initializer_list<T> items) { insert(end(), items.begin(), items.end()); }
  template <typename Iterator, typename = decltype(*Iterator())>
  vector(Iterator first, Iterator last) {
    insert(end(), first, last);
  }
  vector(const vector& other) { insert(end(), other.begin(), other.end()); }
  vector(vector&& other) noexcept { exchange(other); }
  vector& operator=(vector other) noexcept {
    exchange(other);
    return *this;
  }
  ~vector() {
    clear();
    pool::give_back(items_);
  }

  size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  T* data() { return items_; }
  const T* data() const { return items_; }
  T* begin() { return items_; }
  T* end() { return items_ + count_; }
  const T* begin() const { return items_; }
  const T* end() const { return items_ + count_; }
  T& operator[](size_t index) { return items_[index]; }
  const T& operator[](size_t index) const { return items_[index]; }
  T& at(size_t index) { return items_[index]; }
  const T& at(size_t index) const { return items_[index]; }
  T& front() { return items_[0]; }
  const T& front() const { return items_[0]; }
  T& back() { return items_[count_ - 1]; }
  const T& back() const { return items_[count_ - 1]; }

  void reserve(size_t count) {
    if (count <= room_) { return; }
    T* const items = static_cast<T*>(pool::take(count * sizeof(T)));
    for (size_t i = 0; i < count_; ++i) {
      new (items + i) T(move(items_[i]));
      items_[i].~T();
    }
    pool::give_back(items_);
    items_ = items;
    room_ = count;
  }
  void shrink_to_fit() {}
  template <typename Iterator, typename = decltype(*Iterator())>
  void assign(Iterator first, Iterator last) {
    clear();
    insert(end(), first, last);
  }
  void resize(size_t count, const T& value = T()) {
    reserve(count);
    while (count_ < count) { new (items_ + count_++) T(value); }
    while (count_ > count) { items_[--count_].~T(); }
  }
  void assign(size_t count, const T& value) {
    clear();
    resize(count, value);
  }
  void clear() {
    while (count_ > 0) { items_[--count_].~T(); }
  }
  template <typename... Arguments>
  T& emplace_back(Arguments&&... arguments) {
    T value{forward<Arguments>(arguments)...};  // may be one of ours: first of all
    if (count_ == room_) { reserve(count_ < 4 ? 8 : count_ * 2); }
    return *new (items_ + count_++) T(move(value));
  }
  void push_back(T value) {
    if (count_ == room_) { reserve(count_ < 4 ? 8 : count_ * 2); }
    new (items_ + count_++) T(move(value));
  }
  void pop_back() { items_[--count_].~T(); }
  void pop_front() { erase(begin()); }
  T* erase(const T* at) { return erase(at, at + 1); }
  T* erase(const T* first, const T* last) {
    T* const target = items_ + (first - items_);
    const size_t gone = static_cast<size_t>(last - first);
    for (T* item = target; item + gone != end(); ++item) { *item = move(item[gone]); }
    for (size_t i = 0; i < gone; ++i) { pop_back(); }
    return target;
  }
  T* insert(const T* at, T value) { return insert(at, &value, &value + 1); }
  template <typename Iterator>
  T* insert(const T* at, Iterator first, Iterator last) {
    const size_t place = static_cast<size_t>(at - items_);
    const size_t before = count_;
    for (; first != last; ++first) { push_back(T(*first)); }
    rotate_to(place, before);
    return items_ + place;
  }

 private:
  // What was appended behind `before` comes to `place`.
  void rotate_to(size_t place, size_t before) {
    for (size_t i = before; i < count_; ++i) {
      for (size_t at = i; at > place + (i - before); --at) { swap(items_[at], items_[at - 1]); }
    }
  }
  void exchange(vector& other) noexcept {
    swap(items_, other.items_);
    swap(count_, other.count_);
    swap(room_, other.room_);
  }
  template <typename U>
  static void swap(U& a, U& b) {
    std::swap(a, b);
  }

  T* items_ = nullptr;
  size_t count_ = 0;
  size_t room_ = 0;
};
template <typename T>
bool operator==(const vector<T>& a, const vector<T>& b) {
  if (a.size() != b.size()) { return false; }
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(a[i] == b[i])) { return false; }
  }
  return true;
}
template <typename T>
bool operator!=(const vector<T>& a, const vector<T>& b) {
  return !(a == b);
}
template <typename T>
using deque = vector<T>;

// ---- string -------------------------------------------------------------------------------------

class string {
 public:
  static constexpr size_t npos = ~size_t{0};

  string() = default;
  string(const char* text) { append(text, strlen(text)); }
  string(const char* text, size_t size) { append(text, size); }
  string(size_t count, char character) : bytes_(count, character) {}
  string(initializer_list<char> characters) : bytes_(characters) {}
  template <typename Iterator, typename = decltype(*Iterator())>
  string(Iterator first, Iterator last) {
    for (; first != last; ++first) { push_back(static_cast<char>(*first)); }
  }

  size_t size() const { return bytes_.size(); }
  size_t length() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  char* data() { return bytes_.data(); }
  const char* data() const { return bytes_.empty() ? "" : bytes_.data(); }
  char* begin() { return bytes_.begin(); }
  char* end() { return bytes_.end(); }
  const char* begin() const { return bytes_.begin(); }
  const char* end() const { return bytes_.end(); }
  char& operator[](size_t index) { return bytes_[index]; }
  const char& operator[](size_t index) const { return bytes_[index]; }
  char& back() { return bytes_.back(); }
  const char& back() const { return bytes_.back(); }
  char& front() { return bytes_.front(); }
  const char& front() const { return bytes_.front(); }

  void clear() { bytes_.clear(); }
  void reserve(size_t size) { bytes_.reserve(size); }
  void resize(size_t size, char character = '\0') { bytes_.resize(size, character); }
  void push_back(char character) { bytes_.push_back(character); }
  void pop_back() { bytes_.pop_back(); }
  string& append(const char* text, size_t size) {
    bytes_.reserve(bytes_.size() + size);
    bytes_.insert(bytes_.end(), text, text + size);
    return *this;
  }
  string& append(const string& other) { return append(string(other).data(), other.size()); }
  string& append(size_t count, char character) {
    bytes_.resize(bytes_.size() + count, character);
    return *this;
  }
  string& append(const string& other, size_t at, size_t count) {
    return append(other.substr(at, count));
  }
  template <typename Iterator, typename = decltype(*Iterator())>
  string& append(Iterator first, Iterator last) {
    for (; first != last; ++first) { push_back(static_cast<char>(*first)); }
    return *this;
  }
  string& assign(const char* text, size_t size) {
    clear();
    return append(text, size);
  }
  string& operator+=(const string& other) { return append(other); }
  string& operator+=(const char* text) { return append(text, strlen(text)); }
  string& operator+=(char character) {
    push_back(character);
    return *this;
  }
  string& insert(size_t at, const string& text) {
    bytes_.insert(bytes_.begin() + at, text.begin(), text.end());
    return *this;
  }
  string& erase(size_t at = 0, size_t count = npos) {
    count = min(count, size() - at);
    bytes_.erase(bytes_.begin() + at, bytes_.begin() + at + count);
    return *this;
  }
  string substr(size_t at, size_t count = npos) const {
    return string(data() + at, min(count, size() - at));
  }
  const char* c_str() const {
    string& self = const_cast<string&>(*this);
    self.push_back('\0');
    self.pop_back();
    return bytes_.data();
  }
  size_t find_first_not_of(const char* characters, size_t from = 0) const {
    for (size_t at = from; at < size(); ++at) {
      if (strchr(characters, bytes_[at]) == nullptr) { return at; }
    }
    return npos;
  }
  size_t find(char character, size_t from = 0) const {
    for (size_t at = from; at < size(); ++at) {
      if (bytes_[at] == character) { return at; }
    }
    return npos;
  }
  size_t find(const string& text, size_t from = 0) const {
    for (size_t at = from; at + text.size() <= size(); ++at) {
      if (memcmp(data() + at, text.data(), text.size()) == 0) { return at; }
    }
    return npos;
  }
  size_t rfind(const string& text, size_t from) const {
    const bool there =
        from == 0 && text.size() <= size() && memcmp(data(), text.data(), text.size()) == 0;
    return there ? 0 : npos;
  }
  int compare(const string& other) const {
    const int order = memcmp(data(), other.data(), min(size(), other.size()));
    return order != 0 ? order : static_cast<int>(size()) - static_cast<int>(other.size());
  }

 private:
  vector<char> bytes_;
};
inline bool operator==(const string& a, const string& b) { return a.compare(b) == 0; }
inline bool operator!=(const string& a, const string& b) { return a.compare(b) != 0; }
inline bool operator<(const string& a, const string& b) { return a.compare(b) < 0; }
inline string operator+(string a, const string& b) { return a += b; }
inline string operator+(string a, const char* b) { return a += b; }
inline string operator+(string a, char b) { return a += b; }
inline string operator+(const char* a, const string& b) { return string(a) += b; }
inline string operator+(char a, const string& b) { return string(1, a) += b; }

inline string to_string(uint64_t number) {
  char digits[20];
  char* digit = digits + sizeof digits;
  do {
    *--digit = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  return string(digit, static_cast<size_t>(digits + sizeof digits - digit));
}
inline string to_string(unsigned long number) { return to_string(uint64_t{number}); }
inline string to_string(unsigned number) { return to_string(uint64_t{number}); }
inline string to_string(long number) {
  return number < 0 ? "-" + to_string(static_cast<uint64_t>(-(number + 1)) + 1)
                    : to_string(static_cast<uint64_t>(number));
}
inline string to_string(int number) { return to_string(static_cast<long>(number)); }
inline int stoi(const string& text, size_t* = nullptr, int base = 10) {
  int number = 0;
  for (const char digit : text) {
    number = number * base + (digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
  }
  return number;
}

inline unsigned long stoul(const string& text) { return static_cast<unsigned long>(stoi(text)); }

class string_view {
 public:
  string_view(const char* text) : text_(text) {}
  const char* data() const { return text_; }
  size_t size() const { return strlen(text_); }

 private:
  const char* text_;
};

// ---- map, memory, functional --------------------------------------------------------------------

template <typename Key, typename Value>
class map {
 public:
  using value_type = pair<Key, Value>;
  using iterator = value_type*;
  using const_iterator = const value_type*;

  map() = default;
  map(initializer_list<value_type> items) {
    for (const value_type& item : items) { (*this)[item.first] = item.second; }
  }

  size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  void clear() { items_.clear(); }
  iterator begin() { return items_.begin(); }
  iterator end() { return items_.end(); }
  const_iterator begin() const { return items_.begin(); }
  const_iterator end() const { return items_.end(); }
  Value& operator[](const Key& key) {
    iterator at = begin();
    while (at != end() && at->first < key) { ++at; }
    if (at == end() || key < at->first) { at = items_.insert(at, value_type{key, Value()}); }
    return at->second;
  }
  pair<iterator, bool> emplace(const Key& key, const Value& value) {
    const bool fresh = count(key) == 0;
    if (fresh) { (*this)[key] = value; }
    return {find(key), fresh};
  }
  Value& at(const Key& key) { return find(key)->second; }
  const Value& at(const Key& key) const { return find(key)->second; }
  iterator find(const Key& key) {
    return find_if(begin(), end(), [&](const value_type& item) { return item.first == key; });
  }
  const_iterator find(const Key& key) const {
    return find_if(begin(), end(), [&](const value_type& item) { return item.first == key; });
  }
  size_t count(const Key& key) const { return find(key) == end() ? 0 : 1; }
  size_t erase(const Key& key) {
    const iterator at = find(key);
    if (at == end()) { return 0; }
    items_.erase(at);
    return 1;
  }
  iterator erase(iterator at) { return items_.erase(at); }

 private:
  template <typename Iterator, typename Predicate>
  static Iterator find_if(Iterator first, Iterator last, Predicate predicate) {
    return std::find_if(first, last, predicate);
  }

  vector<value_type> items_;
};

template <typename Key>
class set {
 public:
  using const_iterator = const Key*;

  size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  void clear() { items_.clear(); }
  const_iterator begin() const { return items_.begin(); }
  const_iterator end() const { return items_.end(); }
  pair<const_iterator, bool> insert(const Key& key) {
    Key* at = items_.begin();
    while (at != items_.end() && *at < key) { ++at; }
    const bool fresh = at == items_.end() || key < *at;
    if (fresh) { at = items_.insert(at, key); }
    return {at, fresh};
  }
  const_iterator find(const Key& key) const { return std::find(begin(), end(), key); }
  size_t count(const Key& key) const { return find(key) == end() ? 0 : 1; }
  size_t erase(const Key& key) {
    const const_iterator at = find(key);
    if (at == end()) { return 0; }
    items_.erase(at);
    return 1;
  }

 private:
  vector<Key> items_;
};

template <typename T>
class unique_ptr {
 public:
  unique_ptr() = default;
  unique_ptr(nullptr_t) {}
  explicit unique_ptr(T* object) : object_(object) {}
  unique_ptr(unique_ptr&& other) noexcept : object_(other.release()) {}
  unique_ptr& operator=(unique_ptr&& other) noexcept {
    reset(other.release());
    return *this;
  }
  unique_ptr(const unique_ptr&) = delete;
  unique_ptr& operator=(const unique_ptr&) = delete;
  ~unique_ptr() { reset(); }

  T* get() const { return object_; }
  T& operator*() const { return *object_; }
  T* operator->() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  T* release() {
    T* const object = object_;
    object_ = nullptr;
    return object;
  }
  void reset(T* object = nullptr) {
    T* const old = object_;
    object_ = object;
    if (old == nullptr) { return; }
    old->~T();
    pool::give_back(old);
  }

 private:
  T* object_ = nullptr;
};

template <typename T>
class unique_ptr<T[]> {
  static_assert(__has_trivial_destructor(T), "the count is not kept");

 public:
  unique_ptr() = default;
  explicit unique_ptr(T* items) : items_(items) {}
  unique_ptr(unique_ptr&& other) noexcept : items_(other.items_) { other.items_ = nullptr; }
  unique_ptr& operator=(unique_ptr&& other) noexcept {
    std::swap(items_, other.items_);
    return *this;
  }
  ~unique_ptr() { pool::give_back(items_); }
  T* get() const { return items_; }
  T& operator[](size_t index) const { return items_[index]; }

 private:
  T* items_ = nullptr;
};

template <typename T>
struct Made {
  using type = unique_ptr<T>;
  template <typename... Arguments>
  static type make(Arguments&&... arguments) {
    return type(new (pool::take(sizeof(T))) T(forward<Arguments>(arguments)...));
  }
};
template <typename T>
struct Made<T[]> {
  using type = unique_ptr<T[]>;
  static type make(size_t count) {
    T* const items = static_cast<T*>(pool::take(count * sizeof(T)));
    for (size_t i = 0; i < count; ++i) { new (items + i) T(); }
    return type(items);
  }
};
template <typename T, typename... Arguments>
typename Made<T>::type make_unique(Arguments&&... arguments) {
  return Made<T>::make(forward<Arguments>(arguments)...);
}

template <typename Signature>
class function;
template <typename Answer, typename... Arguments>
class function<Answer(Arguments...)> {
 public:
  function() = default;
  function(nullptr_t) {}
  template <typename Callable, typename = typename different<Callable, function>::type>
  function(Callable callable) {
    object_ = new (pool::take(sizeof(Callable))) Callable(move(callable));
    call_ = [](void* object, Arguments... arguments) -> Answer {
      return (*static_cast<Callable*>(object))(forward<Arguments>(arguments)...);
    };
    copy_ = [](const void* object) -> void* {
      return new (pool::take(sizeof(Callable))) Callable(*static_cast<const Callable*>(object));
    };
    destroy_ = [](void* object) { static_cast<Callable*>(object)->~Callable(); };
  }
  function(const function& other)
      : object_(other.object_ == nullptr ? nullptr : other.copy_(other.object_)),
        call_(other.call_),
        copy_(other.copy_),
        destroy_(other.destroy_) {}
  function(function&& other) noexcept { exchange(other); }
  function& operator=(function other) noexcept {
    exchange(other);
    return *this;
  }
  ~function() {
    if (object_ == nullptr) { return; }
    destroy_(object_);
    pool::give_back(object_);
  }

  explicit operator bool() const { return object_ != nullptr; }
  Answer operator()(Arguments... arguments) const {
    return call_(object_, forward<Arguments>(arguments)...);
  }

 private:
  void exchange(function& other) noexcept {
    swap(object_, other.object_);
    swap(call_, other.call_);
    swap(copy_, other.copy_);
    swap(destroy_, other.destroy_);
  }

  void* object_ = nullptr;
  Answer (*call_)(void*, Arguments...) = nullptr;
  void* (*copy_)(const void*) = nullptr;
  void (*destroy_)(void*) = nullptr;
};

}  // namespace std

#endif
