// ports/tls/openssl.hpp — TLS 1.2 and 1.3 by OpenSSL 3, for the broker's loop and for clients
// SPDX-License-Identifier: MIT
//
// Link with -lssl -lcrypto. The CMake option MQTT_TLS defines MQTT_TLS and links them.
#ifndef MQTT_PORTS_TLS_OPENSSL_HPP
#define MQTT_PORTS_TLS_OPENSSL_HPP

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <ports/posix/layers.hpp>

namespace mqtt {
namespace tls {

// ---- what both sides share ----------------------------------------------------------------

/// A sentence about what went wrong last: a context that was not loaded, a handshake that failed.
class Failure {
 public:
  const char* text() const noexcept { return text_; }
  void clear() noexcept { text_[0] = 0; }
  void set(const char* what, const char* detail = nullptr) noexcept {
    (void)snprintf(text_, sizeof text_, detail == nullptr ? "%s" : "%s: %s", what, detail);
  }
  /// Takes the first entry of OpenSSL's list of errors, which is nearest to the cause, and empties
  /// it.
  void set_from_library(const char* what) noexcept {
    const unsigned long error = ERR_peek_error();
    const char* reason = error == 0                ? nullptr
                         : ERR_SYSTEM_ERROR(error) ? strerror(ERR_GET_REASON(error))
                                                   : ERR_reason_error_string(error);
    ERR_clear_error();
    set(what, reason);
  }

 private:
  char text_[256] = {};
};

namespace detail {
inline constexpr uint32_t record_bytes_max = 16384;

// OpenSSL reads and writes through one of these; a BIO carries what to read from and write to.
template <typename Endpoint>
class Method {
 public:
  // nullptr: out of memory.
  static BIO* make(void* data) noexcept {
    static BIO_METHOD* const method = make_method();
    BIO* bio = method == nullptr ? nullptr : BIO_new(method);
    if (bio != nullptr) {
      BIO_set_data(bio, data);
      BIO_set_init(bio, 1);
    }
    return bio;
  }

 private:
  static BIO_METHOD* make_method() noexcept {
    BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "mqtt");
    if (method != nullptr) {
      BIO_meth_set_read(method, read);
      BIO_meth_set_write(method, write);
      BIO_meth_set_ctrl(method, control);
    }
    return method;
  }
  static int read(BIO* bio, char* target, int size) {
    BIO_clear_retry_flags(bio);
    const int got = Endpoint::receive(BIO_get_data(bio), target, size);
    if (got == 0) { BIO_set_retry_read(bio); }
    return got > 0 ? got : got == 0 ? -1 : 0;
  }
  static int write(BIO* bio, const char* source, int size) {
    BIO_clear_retry_flags(bio);
    const int taken = Endpoint::transmit(BIO_get_data(bio), source, size);
    if (taken == 0) { BIO_set_retry_write(bio); }
    return taken > 0 ? taken : -1;
  }
  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
};

// A non-blocking socket, whose number is the data itself.
struct SocketEndpoint {
  static void* data(int descriptor) noexcept {
    void* data = nullptr;
    memcpy(&data, &descriptor, sizeof descriptor);
    return data;
  }
  static int descriptor(void* data) noexcept {
    int descriptor = 0;
    memcpy(&descriptor, &data, sizeof descriptor);
    return descriptor;
  }
  static int receive(void* data, char* target, int size) noexcept {
    const ssize_t got = recv(descriptor(data), target, static_cast<size_t>(size), 0);
    if (got < 0) { return posix::try_later(errno) ? 0 : -1; }
    if (got == 0) { errno = 0; }
    return got == 0 ? -1 : static_cast<int>(got);
  }
  static int transmit(void* data, const char* source, int size) noexcept {
    const ssize_t taken =
        send(descriptor(data), source, static_cast<size_t>(size), posix::send_flags);
    if (taken < 0) { return posix::try_later(errno) ? 0 : -1; }
    return static_cast<int>(taken);
  }
};

// A client's Transport hook.
template <typename Transport>
struct TransportEndpoint {
  // A transport that is gone leaves no errno.
  static int said(int count) noexcept {
    if (count < 0) { errno = 0; }
    return count;
  }
  static int receive(void* data, char* target, int size) noexcept {
    return said(static_cast<Transport*>(data)->receive(reinterpret_cast<uint8_t*>(target),
                                                       static_cast<size_t>(size)));
  }
  static int transmit(void* data, const char* source, int size) noexcept {
    return said(static_cast<Transport*>(data)->transmit(reinterpret_cast<const uint8_t*>(source),
                                                        static_cast<size_t>(size)));
  }
};
}  // namespace detail

/// One TLS connection; free to copy until start(), released by its owner. A record that the
/// transport took in part stays in OpenSSL's buffer: its bytes count as taken, and holds() says so.
class Link {
 public:
  /// For the loop: a server on a non-blocking socket. False: out of memory.
  template <typename Context>
  bool start(Context& context, int descriptor) noexcept {
    using Method = detail::Method<detail::SocketEndpoint>;
    return start(context.get(), Method::make(detail::SocketEndpoint::data(descriptor)), true);
  }
  /// Takes the BIO; false: out of memory.
  bool start(SSL_CTX* context, BIO* bio, bool is_server) noexcept {
    ssl_ = bio == nullptr || context == nullptr ? nullptr : SSL_new(context);
    if (ssl_ == nullptr) {
      BIO_free(bio);
      return false;
    }
    SSL_set_bio(ssl_, bio, bio);
    if (is_server) {
      SSL_set_accept_state(ssl_);
    } else {
      SSL_set_connect_state(ssl_);
    }
    held_ = 0;
    more_ = false;
    usable_ = true;
    return true;
  }
  bool is_started() const noexcept { return ssl_ != nullptr; }
  SSL* get() const noexcept { return ssl_; }

  posix::Handshake handshake() noexcept {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_);
    if (result == 1) {
      // A client may ask for smaller records (RFC 6066 §4), which OpenSSL then makes of ours.
      const uint8_t mode = SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl_));
      record_bytes_ = mode == 0 ? detail::record_bytes_max : 256U << mode;
      return posix::Handshake::done;
    }
    switch (SSL_get_error(ssl_, result)) {
      case SSL_ERROR_WANT_READ: return posix::Handshake::reading;
      case SSL_ERROR_WANT_WRITE: return posix::Handshake::writing;
      default: break;
    }
    usable_ = false;
    explain("the handshake failed");
    return posix::Handshake::failed;
  }

  /// As recv(). EPROTO: the peer's bytes are no TLS, see failure().
  int32_t receive(Buffer target) noexcept {
    ERR_clear_error();
    uint32_t size = 0;
    more_ = false;
    while (size != target.size()) {
      size_t got = 0;
      const int result = SSL_read_ex(ssl_, target.data() + size, target.size() - size, &got);
      if (result != 1) {
        const int32_t ended = end_of_read(result, size != 0);
        return size != 0 ? static_cast<int32_t>(size) : ended;
      }
      size += static_cast<uint32_t>(got);
      // What is still in the socket the next wait tells of.
      if (SSL_has_pending(ssl_) == 0) { return static_cast<int32_t>(size); }
    }
    more_ = true;
    return static_cast<int32_t>(size);
  }
  /// Whether OpenSSL may have input that receive() did not give, for want of room.
  bool has_input() const noexcept { return more_; }

  /// Bytes taken, 0 later; -1 with errno.
  int32_t transmit(Bytes source) noexcept {
    if (!flush()) { return -1; }
    uint32_t taken = 0;
    while (held_ == 0 && taken != source.size()) {
      const uint32_t left = source.size() - taken;
      const uint32_t size = left < record_bytes_ ? left : record_bytes_;
      size_t written = 0;
      ERR_clear_error();
      const int result = SSL_write_ex(ssl_, source.data() + taken, size, &written);
      if (result != 1 && !is_write_later(result)) { return -1; }
      held_ = result == 1 ? 0 : size;
      taken += result == 1 ? static_cast<uint32_t>(written) : size;
    }
    return static_cast<int32_t>(taken);
  }
  /// Sends what is held, as far as it goes; false with errno: the link is broken.
  bool flush() noexcept {
    if (held_ == 0) { return true; }
    // The record is encrypted already; of the arguments only the size counts.
    static constexpr uint8_t anything[detail::record_bytes_max] = {};
    size_t written = 0;
    ERR_clear_error();
    const int result = SSL_write_ex(ssl_, anything, held_, &written);
    if (result == 1) { held_ = 0; }
    return result == 1 || is_write_later(result);
  }
  bool holds() const noexcept { return held_ != 0; }
  /// Whether the handshake is done and nothing fatal has come since.
  bool is_usable() const noexcept { return usable_ && SSL_is_init_finished(ssl_) != 0; }

  /// Tells the peer that nothing more comes, as far as the transport takes it now.
  void say_goodbye() noexcept {
    if (is_usable() && held_ == 0) { (void)SSL_shutdown(ssl_); }
    usable_ = false;
    ERR_clear_error();
  }
  void release() noexcept {
    SSL_free(ssl_);
    ssl_ = nullptr;
  }

  /// Why the handshake failed or what else was wrong with the peer's bytes; valid until the next
  /// failure of any link.
  static const char* failure() noexcept { return last_failure().text(); }

  // ---- about a handshake that is done -------------------------------------------------------

  const char* version() const noexcept { return SSL_get_version(ssl_); }
  const char* cipher() const noexcept { return SSL_get_cipher_name(ssl_); }
  bool is_resumed() const noexcept { return SSL_session_reused(ssl_) != 0; }
  /// The identity of a pre-shared key; empty without one.
  Text psk_identity() const noexcept {
    const char* identity = SSL_get_psk_identity(ssl_);
    if (identity != nullptr) { return Text(identity); }
    void* data = nullptr;
    size_t size = 0;
    (void)SSL_SESSION_get0_ticket_appdata(SSL_get_session(ssl_), &data, &size);
    return Text(static_cast<const char*>(data), static_cast<uint32_t>(size));
  }
  /// The common name of the peer's certificate, in UTF-8, written into `target`. Empty: there is no
  /// certificate, no name, or it does not fit or holds a zero.
  Text common_name(Span<char> target) const noexcept {
    X509* certificate = SSL_get1_peer_certificate(ssl_);
    if (certificate == nullptr) { return Text(); }
    const X509_NAME* name = X509_get_subject_name(certificate);
    const int index = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    unsigned char* text = nullptr;
    const int size = index < 0
                         ? -1
                         : ASN1_STRING_to_UTF8(
                               &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index)));
    const Text copied = size < 0 ? Text() : copy(text, static_cast<uint32_t>(size), target);
    OPENSSL_free(text);
    X509_free(certificate);
    return copied;
  }
  /// The subject of the peer's certificate as RFC 2253 writes it, under the same terms.
  Text subject(Span<char> target) const noexcept {
    X509* certificate = SSL_get1_peer_certificate(ssl_);
    BIO* memory = certificate == nullptr ? nullptr : BIO_new(BIO_s_mem());
    Text copied;
    if (memory != nullptr) {
      (void)X509_NAME_print_ex(memory, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
      char* text = nullptr;
      const long size = BIO_get_mem_data(memory, &text);
      if (size > 0) {
        copied = copy(reinterpret_cast<const uint8_t*>(text), static_cast<uint32_t>(size), target);
      }
    }
    BIO_free(memory);
    X509_free(certificate);
    return copied;
  }

 private:
  static Failure& last_failure() noexcept {
    static Failure failure;
    return failure;
  }
  static Text copy(const uint8_t* text, uint32_t size, Span<char> target) noexcept {
    if (size > target.size() || memchr(text, 0, size) != nullptr) { return Text(); }
    memcpy(target.data(), text, size);
    return Text(target.data(), size);
  }

  void explain(const char* otherwise) const noexcept {
    const long verdict = SSL_get_verify_result(ssl_);
    if (ERR_peek_last_error() == 0) {
      last_failure().set("the peer closed during the handshake");
    } else if (verdict != X509_V_OK) {
      ERR_clear_error();
      last_failure().set("certificate verify failed", X509_verify_cert_error_string(verdict));
    } else {
      last_failure().set_from_library(otherwise);
    }
  }

  // What recv() would have returned. `later`: bytes come first, and this with the next call.
  int32_t end_of_read(int result, bool later) noexcept {
    switch (SSL_get_error(ssl_, result)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
      case SSL_ERROR_ZERO_RETURN: more_ = later; return 0;
      case SSL_ERROR_SYSCALL:
        more_ = later;
        usable_ = false;
        return errno == 0 ? 0 : -1;
      default: break;
    }
    more_ = later;
    usable_ = false;
    explain("TLS is broken");
    errno = EPROTO;
    return -1;
  }

  // Whether a write may be tried again; sets errno otherwise.
  bool is_write_later(int result) noexcept {
    switch (SSL_get_error(ssl_, result)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE: return true;
      case SSL_ERROR_SYSCALL: errno = errno == 0 ? EPIPE : errno; break;
      default: errno = EPROTO; break;
    }
    usable_ = false;
    ERR_clear_error();
    return false;
  }

  SSL* ssl_ = nullptr;
  uint32_t held_ = 0;  // bytes of the record that the transport has not taken whole
  uint32_t record_bytes_ = detail::record_bytes_max;
  bool more_ = false;
  bool usable_ = false;  // no fatal error so far
};

namespace detail {
// What is common to the contexts of both sides; false with the failure set.
inline bool set_versions(SSL_CTX* context, const char* lowest, Failure& failure) noexcept {
  int version = TLS1_2_VERSION;
  if (lowest != nullptr && strcmp(lowest, "tlsv1.3") == 0) {
    version = TLS1_3_VERSION;
  } else if (lowest != nullptr && strcmp(lowest, "tlsv1.2") != 0) {
    failure.set("the TLS version must be tlsv1.2 or tlsv1.3", lowest);
    return false;
  }
  SSL_CTX_set_min_proto_version(context, version);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  // MQTT has its own goodbye; a missing one of TLS says nothing more.
  SSL_CTX_set_options(
      context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_read_ahead(context, 1);  // one system call a record
  return true;
}

inline bool set_ciphers(SSL_CTX* context, const char* ciphers, const char* ciphers_1_3,
                        Failure& failure) noexcept {
  if (ciphers != nullptr && SSL_CTX_set_cipher_list(context, ciphers) != 1) {
    failure.set_from_library("the list of ciphers is not possible");
    return false;
  }
  if (ciphers_1_3 != nullptr && SSL_CTX_set_ciphersuites(context, ciphers_1_3) != 1) {
    failure.set_from_library("the list of TLS 1.3 ciphers is not possible");
    return false;
  }
  return true;
}

inline bool set_certificate(SSL_CTX* context, const char* certificate_file, const char* key_file,
                            Failure& failure) noexcept {
  // A key with a password would be asked for on the terminal, if there is one, and hold us.
  SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return -1; });
  if (SSL_CTX_use_certificate_chain_file(context, certificate_file) != 1) {
    failure.set_from_library("the certificate cannot be loaded");
  } else if (key_file == nullptr ||
             SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1) {
    failure.set_from_library("the key cannot be loaded");
  } else if (SSL_CTX_check_private_key(context) != 1) {
    failure.set_from_library("the key does not belong to the certificate");
  } else {
    return true;
  }
  return false;
}

inline bool set_authorities(SSL_CTX* context, const char* file, const char* folder,
                            Failure& failure) noexcept {
  if (file != nullptr && SSL_CTX_load_verify_file(context, file) != 1) {
    failure.set_from_library("the CA file cannot be loaded");
    return false;
  }
  if (folder != nullptr && SSL_CTX_load_verify_dir(context, folder) != 1) {
    failure.set_from_library("the CA folder cannot be used");
    return false;
  }
  return true;
}

// The bytes of a hexadecimal text; 0 when it is none or too long.
inline uint32_t read_hex(Text text, uint8_t* target, uint32_t size_max) noexcept {
  if (text.empty() || text.size() % 2 != 0 || text.size() / 2 > size_max) { return 0; }
  for (uint32_t i = 0; i < text.size(); ++i) {
    const int32_t digit = http::detail::hex_digit(text[i]);
    if (digit < 0) { return 0; }
    target[i / 2] = static_cast<uint8_t>((i % 2 == 0 ? 0 : target[i / 2]) * 16 + digit);
  }
  return text.size() / 2;
}
}  // namespace detail

// ---- the server ---------------------------------------------------------------------------

/// File names and words as Mosquitto's options of a listener have them; nullptr: not given.
struct ServerOptions {
  const char* certificate_file = nullptr;  ///< PEM, the server's first, then its chain
  const char* key_file = nullptr;
  const char* ca_file = nullptr;  ///< whose client certificates are accepted
  const char* ca_folder = nullptr;
  const char* crl_file = nullptr;
  bool require_certificate = false;
  const char* lowest_version = nullptr;  ///< tlsv1.2 (also without), tlsv1.3
  const char* ciphers = nullptr;         ///< of TLS 1.2
  const char* ciphers_1_3 = nullptr;
  const char* dh_file = nullptr;  ///< PEM parameters; without: chosen by the certificate's strength
  const char* psk_file = nullptr;  ///< lines IDENTITY:HEXADECIMAL-KEY
  const char* psk_hint = nullptr;
  bool websocket = false;  ///< ALPN is http/1.1 and not mqtt
};

/// What the connections of a listener share. Loaded again, it serves new connections by what the
/// files say then; those that are open go on by the old. The program ignores SIGPIPE only where
/// MSG_NOSIGNAL is missing.
class ServerContext {
 public:
  ServerContext() noexcept = default;
  ServerContext(const ServerContext&) = delete;
  ServerContext& operator=(const ServerContext&) = delete;
  ~ServerContext() { SSL_CTX_free(context_); }

  /// False: nothing has changed, and failure() says why. Sessions begun before are not resumed
  /// afterwards, so that what a new CRL revokes is checked.
  bool load(const ServerOptions& options) noexcept {
    ERR_clear_error();
    failure_.clear();
    SSL_CTX* fresh = SSL_CTX_new(TLS_server_method());
    if (fresh == nullptr || !configure(fresh, options)) {
      if (failure_.text()[0] == 0) { failure_.set_from_library("OpenSSL gives no context"); }
      SSL_CTX_free(fresh);
      return false;
    }
    SSL_CTX_free(context_);  // the last connection of it releases it
    context_ = fresh;
    return true;
  }
  /// Serves by what another context has loaded, which is empty then: for several contexts that
  /// change together or not at all.
  void adopt(ServerContext& loaded) noexcept {
    SSL_CTX_free(context_);
    context_ = loaded.context_;
    loaded.context_ = nullptr;
  }
  const char* failure() const noexcept { return failure_.text(); }
  SSL_CTX* get() const noexcept { return context_; }

 private:
  bool configure(SSL_CTX* context, const ServerOptions& options) noexcept {
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    // Resumption is by tickets alone, which cost the server nothing to keep.
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>("mqtt"), 4);
    set_alpn(context, options.websocket ? alpn_http : alpn_mqtt);
    if (options.certificate_file == nullptr && options.psk_file == nullptr) {
      failure_.set("neither a certificate nor a PSK file is given");
      return false;
    }
    return detail::set_versions(context, options.lowest_version, failure_) &&
           detail::set_ciphers(context, options.ciphers, options.ciphers_1_3, failure_) &&
           (options.certificate_file == nullptr ||
            detail::set_certificate(context, options.certificate_file, options.key_file,
                                    failure_)) &&
           detail::set_authorities(context, options.ca_file, options.ca_folder, failure_) &&
           set_clients(context, options) && set_dh(context, options.dh_file) &&
           set_psk(context, options);
  }

  bool set_clients(SSL_CTX* context, const ServerOptions& options) noexcept {
    if (options.require_certificate && options.ca_file == nullptr && options.ca_folder == nullptr) {
      failure_.set("client certificates are required, but no CA is given to check them by");
      return false;
    }
    if (options.ca_file != nullptr) {
      SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(options.ca_file));
    }
    if (options.require_certificate) {
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
    if (options.crl_file == nullptr) { return true; }
    X509_STORE* store = SSL_CTX_get_cert_store(context);
    X509_LOOKUP* lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (lookup == nullptr || X509_load_crl_file(lookup, options.crl_file, X509_FILETYPE_PEM) < 1) {
      failure_.set_from_library("the CRL cannot be loaded");
      return false;
    }
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return true;
  }

  bool set_dh(SSL_CTX* context, const char* file) noexcept {
    if (file == nullptr) { return SSL_CTX_set_dh_auto(context, 1) == 1; }
    BIO* bio = BIO_new_file(file, "r");
    EVP_PKEY* parameters = bio == nullptr ? nullptr : PEM_read_bio_Parameters(bio, nullptr);
    BIO_free(bio);
    if (parameters != nullptr && SSL_CTX_set0_tmp_dh_pkey(context, parameters) == 1) {
      return true;
    }
    EVP_PKEY_free(parameters);
    failure_.set_from_library("the DH parameters cannot be loaded");
    return false;
  }

  // ---- ALPN (RFC 7301) ------------------------------------------------------------------------

  static constexpr char alpn_mqtt[] = "\4mqtt";
  static constexpr char alpn_http[] = "\10http/1.1";

  static void set_alpn(SSL_CTX* context, const char* name) noexcept {
    SSL_CTX_set_alpn_select_cb(
        context,
        [](SSL*, const unsigned char** chosen, unsigned char* chosen_size,
           const unsigned char* offered, unsigned int offered_size, void* ours) {
          *chosen = find_name(Bytes(offered, offered_size), static_cast<const uint8_t*>(ours));
          *chosen_size = *static_cast<const uint8_t*>(ours);
          // Clients that offer something else are not turned away: what they speak is seen soon.
          return *chosen == nullptr ? SSL_TLSEXT_ERR_NOACK : SSL_TLSEXT_ERR_OK;
        },
        const_cast<char*>(name));
  }
  // In a list of names that begin with their size; nullptr: it is not there.
  static const uint8_t* find_name(Bytes list, const uint8_t* name) noexcept {
    for (uint32_t at = 0; at < list.size(); at += list[at] + 1U) {
      const bool fits = list.size() - at > name[0];
      if (fits && memcmp(list.data() + at, name, name[0] + 1U) == 0) {
        return list.data() + at + 1;
      }
    }
    return nullptr;
  }

  // ---- pre-shared keys ------------------------------------------------------------------------

  static constexpr uint32_t psk_file_bytes_max = 1 << 20;

  // The file's text hangs on the context, which is released after the last of its handshakes.
  static int psk_slot() noexcept {
    static const int slot =
        CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, nullptr, nullptr, nullptr,
                                [](void*, void* text, CRYPTO_EX_DATA*, int, long, void*) {
                                  if (text != nullptr) {
                                    OPENSSL_clear_free(text, psk_file_bytes_max);
                                  }
                                });
    return slot;
  }

  bool set_psk(SSL_CTX* context, const ServerOptions& options) noexcept {
    if (options.psk_file == nullptr) { return true; }
    auto* text = static_cast<char*>(OPENSSL_zalloc(psk_file_bytes_max));
    const int slot = psk_slot();
    if (text == nullptr || slot < 0 || SSL_CTX_set_ex_data(context, slot, text) != 1) {
      OPENSSL_free(text);
      failure_.set("out of memory");
      return false;
    }
    const ssize_t size = read_file(options.psk_file, text, psk_file_bytes_max);
    if (size < 0 || size == psk_file_bytes_max) {
      failure_.set("the PSK file cannot be loaded", size < 0 ? strerror(errno) : "it is too large");
      return false;
    }
    SSL_CTX_set_psk_server_callback(  // of TLS 1.2
        context, [](SSL* ssl, const char* identity, unsigned char* key, unsigned int key_size_max) {
          return find_psk(ssl, Text(identity), Buffer(key, key_size_max));
        });
    SSL_CTX_set_psk_find_session_callback(context, find_psk_session);
    return options.psk_hint == nullptr ||
           SSL_CTX_use_psk_identity_hint(context, options.psk_hint) == 1;
  }

  static ssize_t read_file(const char* name, char* target, size_t size_max) noexcept {
    posix::Descriptor file(::open(name, O_RDONLY | O_CLOEXEC));
    if (!file) { return -1; }
    size_t size = 0;
    ssize_t got = 1;
    while (got > 0 && size != size_max) {
      got = ::read(file.get(), target + size, size_max - size);
      size += got > 0 ? static_cast<size_t>(got) : 0;
    }
    return got < 0 ? -1 : static_cast<ssize_t>(size);
  }

  // The key of an identity, written into `key`; its size, 0: there is none. Every line is looked at
  // whatever matches before, so that time says little about identities.
  static uint32_t find_psk(SSL* ssl, Text identity, Buffer key) noexcept {
    const auto* text =
        static_cast<const char*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), psk_slot()));
    uint32_t size = 0;
    while (text != nullptr && *text != 0) {
      const auto line = static_cast<uint32_t>(strcspn(text, "\r\n"));
      const auto name = static_cast<uint32_t>(strcspn(text, ":\r\n"));
      if (name < line && *text != '#' && Text(text, name) == identity && size == 0) {
        const Text digits(text + name + 1, line - name - 1);
        size = detail::read_hex(digits, key.data(), key.size());
      }
      text += line + strspn(text + line, "\r\n");
    }
    return size;
  }

  // The same for TLS 1.3: a session that begins with the key. The identity goes with it, also into
  // the tickets that resume it.
  static int find_psk_session(SSL* ssl, const unsigned char* identity, size_t identity_size,
                              SSL_SESSION** session) noexcept {
    static constexpr unsigned char cipher[] = {0x13, 0x01};  // SHA-256 (RFC 8446 §4.2.11)
    uint8_t key[256];
    const Text name(reinterpret_cast<const char*>(identity), static_cast<uint32_t>(identity_size));
    const uint32_t size = find_psk(ssl, name, Buffer(key));
    *session = nullptr;
    if (size == 0) { return 1; }  // it may be a ticket
    SSL_SESSION* made = SSL_SESSION_new();
    if (made == nullptr || SSL_SESSION_set1_master_key(made, key, size) != 1 ||
        SSL_SESSION_set_cipher(made, SSL_CIPHER_find(ssl, cipher)) != 1 ||
        SSL_SESSION_set_protocol_version(made, TLS1_3_VERSION) != 1 ||
        SSL_SESSION_set1_ticket_appdata(made, identity, identity_size) != 1) {
      SSL_SESSION_free(made);
      return 0;
    }
    OPENSSL_cleanse(key, sizeof key);
    *session = made;
    return 1;
  }

  SSL_CTX* context_ = nullptr;
  Failure failure_;
};

/// TLS for posix::Layers: `Layers<Observer, tls::OpenSsl>`.
struct OpenSsl {
  using Context = ServerContext;
  using Link = tls::Link;
};

// ---- the client ---------------------------------------------------------------------------

/// As the tools' options; nullptr: not given.
struct ClientOptions {
  const char* ca_file = nullptr;  ///< without this and the folder: what the system trusts
  const char* ca_folder = nullptr;
  const char* certificate_file = nullptr;  ///< of the client, with its key
  const char* key_file = nullptr;
  const char* lowest_version = nullptr;  ///< tlsv1.2 (also without), tlsv1.3
  const char* ciphers = nullptr;
  const char* ciphers_1_3 = nullptr;
  const char* alpn = nullptr;          ///< one name; of MQTT it is "mqtt", of WebSocket "http/1.1"
  const char* psk_identity = nullptr;  ///< a pre-shared key instead of certificates
  const char* psk = nullptr;           ///< in hexadecimal digits
  /// The certificate's host name is not checked; its chain is. For tests.
  bool insecure = false;
};

/// What connections of a client share, usually one after the other.
class ClientContext {
 public:
  ClientContext() noexcept = default;
  ClientContext(const ClientContext&) = delete;
  ClientContext& operator=(const ClientContext&) = delete;
  ~ClientContext() { SSL_CTX_free(context_); }

  /// False: failure() says why. The options' texts must last as long as this.
  bool load(const ClientOptions& options) noexcept {
    ERR_clear_error();
    failure_.clear();
    SSL_CTX_free(context_);
    context_ = SSL_CTX_new(TLS_client_method());
    options_ = options;
    if (context_ != nullptr && configure(options)) { return true; }
    if (failure_.text()[0] == 0) { failure_.set_from_library("OpenSSL gives no context"); }
    SSL_CTX_free(context_);
    context_ = nullptr;
    return false;
  }
  const char* failure() const noexcept { return failure_.text(); }
  SSL_CTX* get() const noexcept { return context_; }
  const ClientOptions& options() const noexcept { return options_; }

 private:
  bool configure(const ClientOptions& options) noexcept {
    const bool has_psk = options.psk_identity != nullptr && options.psk != nullptr;
    SSL_CTX_set_verify(context_, has_psk ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_app_data(context_, &options_);
    if (has_psk) { set_psk(); }
    const bool system = options.ca_file == nullptr && options.ca_folder == nullptr;
    return detail::set_versions(context_, options.lowest_version, failure_) &&
           detail::set_ciphers(context_, options.ciphers, options.ciphers_1_3, failure_) &&
           (options.certificate_file == nullptr ||
            detail::set_certificate(context_, options.certificate_file, options.key_file,
                                    failure_)) &&
           detail::set_authorities(context_, options.ca_file, options.ca_folder, failure_) &&
           (!system || SSL_CTX_set_default_verify_paths(context_) == 1) && set_alpn(options.alpn);
  }

  bool set_alpn(const char* name) noexcept {
    if (name == nullptr) { return true; }
    const size_t size = strlen(name);
    unsigned char list[256];
    if (size == 0 || size >= sizeof list) {
      failure_.set("the ALPN name has not 1 to 255 characters");
      return false;
    }
    list[0] = static_cast<unsigned char>(size);
    memcpy(list + 1, name, size);
    return SSL_CTX_set_alpn_protos(context_, list, static_cast<unsigned int>(size + 1)) == 0;
  }

  void set_psk() noexcept {
    SSL_CTX_set_psk_client_callback(
        context_, [](SSL* ssl, const char*, char* identity, unsigned int identity_size,
                     unsigned char* key, unsigned int key_size_max) {
          const auto* options =
              static_cast<const ClientOptions*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
          const size_t size = strlen(options->psk_identity) + 1;
          if (size > identity_size) { return 0U; }
          memcpy(identity, options->psk_identity, size);
          return static_cast<unsigned int>(detail::read_hex(options->psk, key, key_size_max));
        });
  }

  SSL_CTX* context_ = nullptr;
  ClientOptions options_;
  Failure failure_;
};

/// The Transport hook of a client over `Inner`, which is one too. The handshake happens inside
/// receive() and transmit(), which say "nothing now" until it is done. The server's certificate and
/// its host name are checked; the last session is resumed when it connects again.
template <typename Inner>
class TlsTransport {
 public:
  explicit TlsTransport(Inner& inner) noexcept : inner_(inner) {}
  TlsTransport(const TlsTransport&) = delete;
  TlsTransport& operator=(const TlsTransport&) = delete;
  ~TlsTransport() {
    release();
    SSL_SESSION_free(session_);
  }

  /// What dial() uses; both must last. `host`: a name, or an address in numbers, that the
  /// certificate must be for.
  void set_server(const ClientContext& context, const char* host) noexcept {
    context_ = &context;
    host_ = host;
  }

  /// > 0: open, 0: on its way, call again, < 0: failed. Dials the inner transport first.
  int32_t dial(uint32_t attempt) noexcept {
    if (state_ == State::gone) {
      const int32_t dialed = inner_.dial(attempt);
      if (dialed <= 0) { return dialed; }
      if (!start(*context_, host_)) { return -1; }
    }
    return make_open() ? 1 : state_ == State::gone ? -1 : 0;
  }

  /// Without dial(): begins over an inner transport that is open or opening. False: error() says
  /// why.
  bool start(const ClientContext& context, const char* host) noexcept {
    release();
    failure_.clear();
    using Method = detail::Method<detail::TransportEndpoint<Inner>>;
    if (!link_.start(context.get(), Method::make(&inner_), false)) {
      failure_.set("out of memory");
      return false;
    }
    state_ = State::handshaking;
    if (!set_host(host, context.options().insecure)) {
      failure_.set_from_library("the host name cannot be used");
      release();
      return false;
    }
    if (session_ != nullptr) { (void)SSL_set_session(link_.get(), session_); }
    return true;
  }

  /// > 0 bytes, 0 nothing now, < 0 gone.
  int32_t receive(uint8_t* target, size_t size) noexcept {
    if (!make_open()) { return state_ == State::gone ? -1 : 0; }
    if (size == 0) { return 0; }
    const auto room = static_cast<uint32_t>(size < INT32_MAX ? size : INT32_MAX);
    const int32_t got = link_.receive(Buffer(target, room));
    if (got > 0) { return got; }
    if (got < 0 && posix::try_later(errno)) { return 0; }
    if (got < 0 && errno == EPROTO) { failure_.set(Link::failure()); }
    return end();
  }
  /// Bytes taken, may be fewer than offered; 0 later; < 0 gone. What was taken and is not sent yet
  /// goes with the next call, or flush().
  int32_t transmit(const uint8_t* source, size_t size) noexcept {
    if (!make_open()) { return state_ == State::gone ? -1 : 0; }
    const auto count = static_cast<uint32_t>(size < INT32_MAX ? size : INT32_MAX);
    const int32_t taken = link_.transmit(Bytes(source, count));
    return taken < 0 ? end() : taken;
  }
  /// Sends what is held, as far as possible; false: the link is gone.
  bool flush() noexcept {
    if (state_ == State::open && !link_.flush()) { end(); }
    return state_ != State::gone;
  }
  /// Says goodbye as far as the inner transport takes it now, and closes that.
  void hang_up() noexcept {
    release();
    inner_.hang_up();
  }

  bool is_open() const noexcept { return state_ == State::open; }
  /// Whether bytes wait for the inner transport to take more.
  bool wants_transmit() const noexcept { return wants_transmit_ || link_.holds(); }
  /// Whether receive() may have bytes that no wait on the descriptor announces.
  bool has_input() const noexcept { return link_.has_input(); }
  /// Why the connection is gone, or nullptr.
  const char* error() const noexcept { return failure_.text()[0] == 0 ? nullptr : failure_.text(); }
  /// Once is_open(): version, cipher, whether a session was resumed.
  const Link& link() const noexcept { return link_; }

 private:
  enum class State : uint8_t { gone, handshaking, open };

  bool set_host(const char* host, bool insecure) noexcept {
    posix::SocketAddress address;
    X509_VERIFY_PARAM* check = SSL_get0_param(link_.get());
    X509_VERIFY_PARAM_set_hostflags(check, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (address.read(host, 0)) {
      return insecure || X509_VERIFY_PARAM_set1_ip_asc(check, host) == 1;
    }
    return SSL_set_tlsext_host_name(link_.get(), host) == 1 &&
           (insecure || SSL_set1_host(link_.get(), host) == 1);
  }

  bool make_open() noexcept {
    if (state_ != State::handshaking) { return state_ == State::open; }
    wants_transmit_ = false;
    switch (link_.handshake()) {
      case posix::Handshake::done: state_ = State::open; return true;
      case posix::Handshake::reading: return false;
      case posix::Handshake::writing: wants_transmit_ = true; return false;
      case posix::Handshake::failed: failure_.set(Link::failure()); break;
    }
    state_ = State::gone;
    return false;
  }

  int32_t end() noexcept {
    if (failure_.text()[0] == 0) { failure_.set("the connection is closed"); }
    state_ = State::gone;
    return -1;
  }

  void release() noexcept {
    if (!link_.is_started()) { return; }
    if (link_.is_usable()) {
      SSL_SESSION_free(session_);
      session_ = SSL_get1_session(link_.get());
      link_.say_goodbye();
    }
    link_.release();
    wants_transmit_ = false;
    state_ = State::gone;
  }

  Inner& inner_;
  const ClientContext* context_ = nullptr;
  const char* host_ = "";
  Link link_;
  SSL_SESSION* session_ = nullptr;
  State state_ = State::gone;
  bool wants_transmit_ = false;
  Failure failure_;
};

}  // namespace tls
}  // namespace mqtt

#endif
