// ports/crypto/hashes.hpp — SHA-1, SHA-512, HMAC, PBKDF2, base64: what passwords and WebSocket need
// SPDX-License-Identifier: MIT
#ifndef MQTT_PORTS_CRYPTO_HASHES_HPP
#define MQTT_PORTS_CRYPTO_HASHES_HPP

#include <mqtt.hpp>

namespace mqtt {
namespace crypto {

/// Whether two byte strings are equal; the time it takes depends on their sizes alone.
inline bool equal(Bytes a, Bytes b) noexcept {
  if (a.size() != b.size()) { return false; }
  unsigned difference = 0;
  for (uint32_t i = 0; i != a.size(); ++i) {
    difference |= static_cast<unsigned>(a.data()[i] ^ b.data()[i]);
  }
  return difference == 0;
}

/// Writes zeros that the compiler may not leave out.
inline void wipe(void* target, size_t size) noexcept {
  auto* at = static_cast<volatile uint8_t*>(target);
  for (size_t i = 0; i != size; ++i) { at[i] = 0; }
}

namespace detail {
template <typename Word>
constexpr Word rotated_left(Word value, unsigned count) noexcept {
  return static_cast<Word>(value << count | value >> (8 * sizeof(Word) - count));
}
template <typename Word>
constexpr Word rotated_right(Word value, unsigned count) noexcept {
  return rotated_left(value, static_cast<unsigned>(8 * sizeof(Word)) - count);
}

template <typename Word>
Word load_big_endian(const uint8_t* source) noexcept {
  Word word = 0;
  for (size_t i = 0; i != sizeof(Word); ++i) { word = static_cast<Word>(word << 8 | source[i]); }
  return word;
}
template <typename Word>
void store_big_endian(Word word, uint8_t* target) noexcept {
  for (size_t i = 0; i != sizeof(Word); ++i) {
    target[i] = static_cast<uint8_t>(word >> (8 * (sizeof(Word) - 1 - i)));
  }
}

// What the hashes of FIPS 180-4 share: blocks, padding and the length at the end. A Function has
// Word, word_count, block_size, initial[] and mix(state, block).
template <typename Function>
class MerkleDamgard {
 public:
  using Word = typename Function::Word;
  static constexpr uint32_t block_size = Function::block_size;
  static constexpr uint32_t digest_size = Function::word_count * sizeof(Word);

  void update(Bytes bytes) noexcept {
    const uint8_t* at = bytes.data();
    uint32_t left = bytes.size();
    size_ += left;
    while (left != 0) {
      const uint32_t room = block_size - used_;
      const uint32_t part = left < room ? left : room;
      memcpy(block_ + used_, at, part);
      used_ += part;
      at += part;
      left -= part;
      if (used_ == block_size) {
        Function::mix(state_, block_);
        used_ = 0;
      }
    }
  }

  /// Writes the digest; afterwards only assignment makes the object good again.
  void finish(uint8_t (&digest)[digest_size]) noexcept {
    constexpr uint32_t length_size = 2 * sizeof(Word);
    block_[used_] = 0x80;
    ++used_;
    if (used_ > block_size - length_size) {
      memset(block_ + used_, 0, block_size - used_);
      Function::mix(state_, block_);
      used_ = 0;
    }
    memset(block_ + used_, 0, block_size - used_);
    store_big_endian(uint64_t{size_ * 8}, block_ + block_size - sizeof(uint64_t));
    Function::mix(state_, block_);
    for (uint32_t i = 0; i != Function::word_count; ++i) {
      store_big_endian(state_[i], digest + i * sizeof(Word));
    }
  }

  MerkleDamgard() noexcept { memcpy(state_, Function::initial, sizeof state_); }

 private:
  Word state_[Function::word_count];
  uint64_t size_ = 0;
  uint32_t used_ = 0;
  uint8_t block_[block_size];
};

struct Sha1Function {
  using Word = uint32_t;
  static constexpr uint32_t word_count = 5;
  static constexpr uint32_t block_size = 64;
  static constexpr Word initial[] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};

  static Word choose(unsigned round, const Word (&v)[word_count]) noexcept {
    switch (round / 20) {
      case 0: return ((v[1] & v[2]) | (~v[1] & v[3])) + 0x5A827999;
      case 1: return (v[1] ^ v[2] ^ v[3]) + 0x6ED9EBA1;
      case 2: return ((v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3])) + 0x8F1BBCDC;
      default: return (v[1] ^ v[2] ^ v[3]) + 0xCA62C1D6;
    }
  }
  static void mix(Word (&state)[word_count], const uint8_t* block) noexcept {
    Word schedule[80];
    for (unsigned i = 0; i != 16; ++i) {
      schedule[i] = load_big_endian<Word>(block + size_t{4} * i);
    }
    for (unsigned i = 16; i != 80; ++i) {
      schedule[i] =
          rotated_left(schedule[i - 3] ^ schedule[i - 8] ^ schedule[i - 14] ^ schedule[i - 16], 1);
    }
    Word v[word_count];
    memcpy(v, state, sizeof v);
    for (unsigned i = 0; i != 80; ++i) {
      const Word next = rotated_left(v[0], 5) + choose(i, v) + v[4] + schedule[i];
      v[4] = v[3];
      v[3] = v[2];
      v[2] = rotated_left(v[1], 30);
      v[1] = v[0];
      v[0] = next;
    }
    for (unsigned i = 0; i != word_count; ++i) { state[i] += v[i]; }
  }
};

struct Sha512Function {
  using Word = uint64_t;
  static constexpr uint32_t word_count = 8;
  static constexpr uint32_t block_size = 128;
  static constexpr Word initial[] = {0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B,
                                     0xA54FF53A5F1D36F1, 0x510E527FADE682D1, 0x9B05688C2B3E6C1F,
                                     0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179};
  static constexpr Word constants[] = {
      0x428A2F98D728AE22, 0x7137449123EF65CD, 0xB5C0FBCFEC4D3B2F, 0xE9B5DBA58189DBBC,
      0x3956C25BF348B538, 0x59F111F1B605D019, 0x923F82A4AF194F9B, 0xAB1C5ED5DA6D8118,
      0xD807AA98A3030242, 0x12835B0145706FBE, 0x243185BE4EE4B28C, 0x550C7DC3D5FFB4E2,
      0x72BE5D74F27B896F, 0x80DEB1FE3B1696B1, 0x9BDC06A725C71235, 0xC19BF174CF692694,
      0xE49B69C19EF14AD2, 0xEFBE4786384F25E3, 0x0FC19DC68B8CD5B5, 0x240CA1CC77AC9C65,
      0x2DE92C6F592B0275, 0x4A7484AA6EA6E483, 0x5CB0A9DCBD41FBD4, 0x76F988DA831153B5,
      0x983E5152EE66DFAB, 0xA831C66D2DB43210, 0xB00327C898FB213F, 0xBF597FC7BEEF0EE4,
      0xC6E00BF33DA88FC2, 0xD5A79147930AA725, 0x06CA6351E003826F, 0x142929670A0E6E70,
      0x27B70A8546D22FFC, 0x2E1B21385C26C926, 0x4D2C6DFC5AC42AED, 0x53380D139D95B3DF,
      0x650A73548BAF63DE, 0x766A0ABB3C77B2A8, 0x81C2C92E47EDAEE6, 0x92722C851482353B,
      0xA2BFE8A14CF10364, 0xA81A664BBC423001, 0xC24B8B70D0F89791, 0xC76C51A30654BE30,
      0xD192E819D6EF5218, 0xD69906245565A910, 0xF40E35855771202A, 0x106AA07032BBD1B8,
      0x19A4C116B8D2D0C8, 0x1E376C085141AB53, 0x2748774CDF8EEB99, 0x34B0BCB5E19B48A8,
      0x391C0CB3C5C95A63, 0x4ED8AA4AE3418ACB, 0x5B9CCA4F7763E373, 0x682E6FF3D6B2B8A3,
      0x748F82EE5DEFB2FC, 0x78A5636F43172F60, 0x84C87814A1F0AB72, 0x8CC702081A6439EC,
      0x90BEFFFA23631E28, 0xA4506CEBDE82BDE9, 0xBEF9A3F7B2C67915, 0xC67178F2E372532B,
      0xCA273ECEEA26619C, 0xD186B8C721C0C207, 0xEADA7DD6CDE0EB1E, 0xF57D4F7FEE6ED178,
      0x06F067AA72176FBA, 0x0A637DC5A2C898A6, 0x113F9804BEF90DAE, 0x1B710B35131C471B,
      0x28DB77F523047D84, 0x32CAAB7B40C72493, 0x3C9EBE0A15C9BEBC, 0x431D67C49C100D4C,
      0x4CC5D4BECB3E42B6, 0x597F299CFC657E2A, 0x5FCB6FAB3AD6FAEC, 0x6C44198C4A475817};

  static void mix(Word (&state)[word_count], const uint8_t* block) noexcept {
    Word schedule[80];
    for (unsigned i = 0; i != 16; ++i) {
      schedule[i] = load_big_endian<Word>(block + size_t{8} * i);
    }
    for (unsigned i = 16; i != 80; ++i) {
      const Word a = schedule[i - 15];
      const Word b = schedule[i - 2];
      schedule[i] = schedule[i - 16] + schedule[i - 7] +
                    (rotated_right(a, 1) ^ rotated_right(a, 8) ^ a >> 7) +
                    (rotated_right(b, 19) ^ rotated_right(b, 61) ^ b >> 6);
    }
    Word v[word_count];
    memcpy(v, state, sizeof v);
    for (unsigned i = 0; i != 80; ++i) {
      const Word one =
          v[7] + constants[i] + schedule[i] + ((v[4] & v[5]) ^ (~v[4] & v[6])) +
          (rotated_right(v[4], 14) ^ rotated_right(v[4], 18) ^ rotated_right(v[4], 41));
      const Word two =
          ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2])) +
          (rotated_right(v[0], 28) ^ rotated_right(v[0], 34) ^ rotated_right(v[0], 39));
      for (unsigned j = word_count - 1; j != 0; --j) { v[j] = v[j - 1]; }
      v[4] += one;
      v[0] = one + two;
    }
    for (unsigned i = 0; i != word_count; ++i) { state[i] += v[i]; }
  }
};
}  // namespace detail

/// FIPS 180-4. For the WebSocket handshake only; it protects nothing.
using Sha1 = detail::MerkleDamgard<detail::Sha1Function>;
/// FIPS 180-4.
using Sha512 = detail::MerkleDamgard<detail::Sha512Function>;

/// RFC 2104 over one of the hashes. What the key costs is paid once: copies of an object that has
/// only its key authenticate one message each.
template <typename Hash>
class Hmac {
 public:
  static constexpr uint32_t digest_size = Hash::digest_size;

  explicit Hmac(Bytes key) noexcept {
    uint8_t pad[Hash::block_size] = {};
    if (key.size() > Hash::block_size) {
      uint8_t digest[digest_size];
      Hash hash;
      hash.update(key);
      hash.finish(digest);
      memcpy(pad, digest, digest_size);
      wipe(digest, sizeof digest);
    } else if (!key.empty()) {
      memcpy(pad, key.data(), key.size());
    }
    for (uint8_t& each : pad) { each = static_cast<uint8_t>(each ^ 0x36); }
    inner_.update(Bytes(pad, sizeof pad));
    for (uint8_t& each : pad) { each = static_cast<uint8_t>(each ^ 0x36 ^ 0x5C); }
    outer_.update(Bytes(pad, sizeof pad));
    wipe(pad, sizeof pad);
  }

  void update(Bytes message) noexcept { inner_.update(message); }
  void finish(uint8_t (&digest)[digest_size]) noexcept {
    inner_.finish(digest);
    outer_.update(Bytes(digest, digest_size));
    outer_.finish(digest);
  }

 private:
  Hash inner_;
  Hash outer_;
};

/// PBKDF2-HMAC-SHA512 (RFC 8018 §5.2) of one block, 64 bytes, in slices: step() until it says that
/// it is done. The password is not kept.
class Pbkdf2 {
 public:
  static constexpr uint32_t key_size = Sha512::digest_size;

  Pbkdf2(Bytes password, Bytes salt, uint32_t iterations) noexcept
      : hmac_(password), left_(iterations) {
    constexpr uint8_t block_number[] = {0, 0, 0, 1};
    Hmac<Sha512> first = hmac_;
    first.update(salt);
    first.update(Bytes(block_number, sizeof block_number));
    first.finish(last_);
    memcpy(key_, last_, sizeof key_);
    left_ -= iterations == 0 ? 0 : 1;
  }

  /// At most `iterations` of those left, 2 blocks of SHA-512 each; true when none is left.
  bool step(uint32_t iterations) noexcept {
    for (; iterations != 0 && left_ != 0; --iterations, --left_) {
      Hmac<Sha512> next = hmac_;
      next.update(Bytes(last_, sizeof last_));
      next.finish(last_);
      for (uint32_t i = 0; i != key_size; ++i) {
        key_[i] = static_cast<uint8_t>(key_[i] ^ last_[i]);
      }
    }
    return left_ == 0;
  }
  uint32_t iterations_left() const noexcept { return left_; }
  /// The derived key, once step() has said so.
  Bytes key() const noexcept { return Bytes(key_, key_size); }

 private:
  Hmac<Sha512> hmac_;
  uint8_t last_[key_size];
  uint8_t key_[key_size];
  uint32_t left_;
};

// ---- base64 (RFC 4648 §4) --------------------------------------------------------------------

/// Characters of the base64 of `size` bytes.
constexpr uint32_t base64_size(uint32_t size) noexcept { return (size + 2) / 3 * 4; }

/// Writes base64_size(bytes.size()) characters, without a zero at their end.
inline void to_base64(Bytes bytes, char* target) noexcept {
  constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (uint32_t i = 0; i < bytes.size(); i += 3) {
    const uint32_t left = bytes.size() - i;
    const uint32_t group = uint32_t{bytes.data()[i]} << 16 |
                           (left > 1 ? uint32_t{bytes.data()[i + 1]} << 8 : 0) |
                           (left > 2 ? uint32_t{bytes.data()[i + 2]} : 0);
    *target++ = digits[group >> 18];
    *target++ = digits[group >> 12 & 63];
    *target++ = left > 1 ? digits[group >> 6 & 63] : '=';
    *target++ = left > 2 ? digits[group & 63] : '=';
  }
}

/// The bytes written to `target`; 0 when the text is empty, no base64 with its padding, or longer
/// than the target takes.
inline uint32_t from_base64(Text text, Buffer target) noexcept {
  const auto value = [](char c) noexcept -> uint32_t {
    return c >= 'A' && c <= 'Z'   ? static_cast<uint32_t>(c - 'A')
           : c >= 'a' && c <= 'z' ? static_cast<uint32_t>(c - 'a' + 26)
           : c >= '0' && c <= '9' ? static_cast<uint32_t>(c - '0' + 52)
           : c == '+'             ? 62U
           : c == '/'             ? 63U
                                  : 64U;
  };
  if (text.empty() || text.size() % 4 != 0) { return 0; }
  const uint32_t padding = text[text.size() - 1] != '='   ? 0U
                           : text[text.size() - 2] != '=' ? 1U
                                                          : 2U;
  const uint32_t size = text.size() / 4 * 3 - padding;
  if (size > target.size()) { return 0; }
  uint32_t written = 0;
  for (uint32_t i = 0; i != text.size(); i += 4) {
    uint32_t group = 0;
    for (uint32_t j = 0; j != 4; ++j) {
      const bool padded = i + j >= text.size() - padding;
      const uint32_t six = padded ? 0 : value(text[i + j]);
      if (six == 64) { return 0; }
      group = group << 6 | six;
    }
    for (uint32_t j = 0; j != 3; ++j, group <<= 8) {
      const auto byte = static_cast<uint8_t>(group >> 16);
      if (written != size) {
        target.data()[written++] = byte;
      } else if (byte != 0) {
        return 0;  // bits behind the end: there is one way to write a text
      }
    }
  }
  return size;
}

}  // namespace crypto
}  // namespace mqtt

#endif
