// ports/crypto/hashes.hpp against published vectors.
#include <doctest/doctest.h>
#include <ports/crypto/hashes.hpp>

#include <string>

using namespace mqtt;
using namespace mqtt::crypto;

namespace {

std::string hex(const uint8_t* bytes, size_t size) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i != size; ++i) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}

Bytes bytes_of(const std::string& text) { return Text(text).bytes(); }

template <typename Hash>
std::string hash(const std::string& text, uint32_t piece = 0xFFFFFFFF) {
  Hash hash;
  for (size_t at = 0; at < text.size(); at += piece) {
    hash.update(bytes_of(text.substr(at, piece)));
  }
  uint8_t digest[Hash::digest_size];
  hash.finish(digest);
  return hex(digest, sizeof digest);
}

template <typename Hash>
std::string hmac(const std::string& key, const std::string& text) {
  Hmac<Hash> mac(bytes_of(key));
  mac.update(bytes_of(text));
  uint8_t digest[Hash::digest_size];
  mac.finish(digest);
  return hex(digest, sizeof digest);
}

std::string encoded(const std::string& text) {
  std::string result(base64_size(static_cast<uint32_t>(text.size())), '?');
  to_base64(bytes_of(text), &result[0]);
  return result;
}

std::string decoded(const std::string& text, uint32_t room = 100) {
  uint8_t target[100];
  const uint32_t size = from_base64(Text(text), Buffer(target, room));
  return std::string(reinterpret_cast<const char*>(target), size);
}

}  // namespace

TEST_CASE("SHA-1 gives the digests of FIPS 180-4 and RFC 3174") {
  CHECK(hash<Sha1>("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(hash<Sha1>("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(hash<Sha1>("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  CHECK(hash<Sha1>(std::string(1000000, 'a')) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  // RFC 6455 §1.3
  CHECK(hash<Sha1>("dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11") ==
        "b37a4f2cc0624f1690f64606cf385945b2bec4ea");
}

TEST_CASE("SHA-512 gives the digests of FIPS 180-4") {
  CHECK(hash<Sha512>("abc") ==
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
  CHECK(hash<Sha512>("") ==
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
        "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e");
  CHECK(hash<Sha512>("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                     "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu") ==
        "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
        "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909");
  CHECK(hash<Sha512>(std::string(1000000, 'a')) ==
        "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb"
        "de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b");
}

TEST_CASE("a digest does not depend on the pieces the text comes in") {
  const std::string text(300, 'x');
  for (size_t size = 100; size != 300; ++size) {
    const std::string part = text.substr(0, size);
    for (const uint32_t piece : {1U, 63U, 64U, 65U, 127U, 128U}) {
      CHECK(hash<Sha512>(part, piece) == hash<Sha512>(part));
      CHECK(hash<Sha1>(part, piece) == hash<Sha1>(part));
    }
  }
}

TEST_CASE("HMAC gives the codes of RFC 2202 and RFC 4231") {
  CHECK(hmac<Sha1>("Jefe", "what do ya want for nothing?") ==
        "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
  CHECK(hmac<Sha1>(std::string(80, '\xAA'),
                   "Test Using Larger Than Block-Size Key - Hash Key First") ==
        "aa4ae5e15272d00e95705637ce8a3b55ed402112");
  CHECK(hmac<Sha512>(std::string(20, '\x0B'), "Hi There") ==
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
        "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854");
  CHECK(hmac<Sha512>("Jefe", "what do ya want for nothing?") ==
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737");
  CHECK(hmac<Sha512>(std::string(131, '\xAA'),
                     "Test Using Larger Than Block-Size Key - Hash Key First") ==
        "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
        "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598");
}

TEST_CASE("PBKDF2-HMAC-SHA512 gives the known keys, whole and in slices") {
  struct Row {
    const char* password;
    const char* salt;
    uint32_t iterations;
    const char* key;
  };
  const Row rows[] = {
      {"password", "salt", 1,
       "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252"
       "c02d470a285a0501bad999bfe943c08f050235d7d68b1da55e63f73b60a57fce"},
      {"password", "salt", 2,
       "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e9f0040713f18aefdb866d53c"
       "f76cab2868a39b9f7840edce4fef5a82be67335c77a6068e04112754f27ccf4e"},
      {"password", "salt", 4096,
       "d197b1b33db0143e018b12f3d1d1479e6cdebdcc97c5c0f87f6902e072f457b5"
       "143f30602641b3d55cd335988cb36b84376060ecd532e039b742a239434af2d5"},
      {"passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096,
       "8c0511f4c6e597c6ac6315d8f0362e225f3c501495ba23b868c005174dc4ee71"
       "115b59f9e60cd9532fa33e0f75aefe30225c583a186cd82bd4daea9724a3d3b8"},
  };
  for (const Row& row : rows) {
    for (const uint32_t slice : {1000000U, 1U, 7U, 1024U}) {
      Pbkdf2 derivation(Text(row.password).bytes(), Text(row.salt).bytes(), row.iterations);
      uint32_t slices = 0;
      while (!derivation.step(slice)) { ++slices; }
      CHECK(slices <= row.iterations / slice);
      CHECK(hex(derivation.key().data(), derivation.key().size()) == row.key);
    }
  }
}

TEST_CASE("base64 gives the texts of RFC 4648, both ways") {
  const char* const rows[][2] = {
      {"f", "Zg=="},         {"fo", "Zm8="},         {"foo", "Zm9v"},         {"foob", "Zm9vYg=="},
      {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xFB\xFF\xBE", "+/++"}};
  CHECK(encoded("").empty());
  for (const auto& row : rows) {
    CHECK(encoded(row[0]) == row[1]);
    CHECK(decoded(row[1]) == row[0]);
  }
}

TEST_CASE("what is no base64, or too long, decodes to nothing") {
  for (const char* text : {"", "Z", "Zg", "Zg=", "Zg===", "====", "Zm=v", "Z===", "Zm9\n", "Zm9-",
                           "Zh==", "Zm9=", "Zg==Zg=="}) {
    CAPTURE(text);
    CHECK(decoded(text).empty());
  }
  CHECK(decoded("Zm9vYmFy", 5).empty());
  CHECK(decoded("Zm9vYmE=", 5) == "fooba");
}

TEST_CASE("byte strings are equal when size and every byte are") {
  CHECK(equal(Bytes(), Bytes()));
  CHECK(equal(Text("abc").bytes(), Text("abc").bytes()));
  CHECK_FALSE(equal(Text("abc").bytes(), Text("abd").bytes()));
  CHECK_FALSE(equal(Text("abc").bytes(), Text("ab").bytes()));
  uint8_t secret[] = {1, 2, 3};
  wipe(secret, sizeof secret);
  CHECK((secret[0] | secret[1] | secret[2]) == 0);
}
