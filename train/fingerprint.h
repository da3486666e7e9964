// train/fingerprint.h: a short name for a content, to notice that data or a vocabulary changed between two runs.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace sq {

/// FNV-1a (Fowler, Noll, Vo), 64 bits. It tells accidents apart, it does not resist an attacker.
class Fingerprint {
 public:
  Fingerprint& add(std::string_view bytes) {
    for (const char byte : bytes) add_byte(static_cast<unsigned char>(byte));
    return *this;
  }
  /// Eight bytes, lowest first, whatever the machine.
  Fingerprint& add(std::uint64_t value) {
    for (int i = 0; i < 8; ++i) add_byte(static_cast<unsigned char>(value >> (8 * i)));
    return *this;
  }
  std::uint64_t value() const { return hash_; }
  /// 16 hexadecimal digits.
  std::string text() const { return fmt::format("{:016x}", hash_); }

 private:
  void add_byte(unsigned char byte) { hash_ = (hash_ ^ byte) * 0x100000001B3u; }
  std::uint64_t hash_ = 0xCBF29CE484222325u;
};

}  // namespace sq
