// train/data/permutation.h: the order of an epoch as a function, with nothing stored.
#pragma once

#include <cstdint>

namespace sq {

/// A random-looking order of 0 … count-1 for each (seed, epoch), computed item by item in constant memory: resuming at
/// item n of an epoch needs no replay, and a data set of billions of items no array.
///
/// A Feistel network over pairs: with a = ⌈√count⌉ a number is written l·a + r, and each round maps
/// (l, r) → (r, (l + F(r)) mod a) with a keyed F, which is one to one whatever F is (Luby and Rackoff 1988). That
/// permutes 0 … a²-1; a result ≥ count is mapped again until it falls inside ("cycle walking", Black and Rogaway 2002).
class Permutation {
 public:
  /// Throws Error when count < 0 or above 2⁶².
  Permutation(std::int64_t count, std::uint64_t seed, std::int64_t epoch);
  /// The item at `position`. Throws Error unless 0 <= position < count.
  std::int64_t operator()(std::int64_t position) const;

 private:
  std::uint64_t mix(std::uint64_t value) const;

  std::uint64_t count_, side_, seed_, stream_;
};

}  // namespace sq
