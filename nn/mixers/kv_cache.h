// nn/mixers/kv_cache.h: keys and values of the rows that an attention has seen.
#pragma once

#include "nn/mixers/attention_plan.h"
#include "tensor/tensor.h"

#include <span>

namespace sq {

/// Memory [B,slots,Hkv,D] for keys and as much for values. Which row of a sequence lies in which slot is the owner's
/// business.
class KvCache {
 public:
  KvCache(std::int64_t batch, std::int64_t slots, const AttentionPlan& sizes, TensorOptions options);

  std::int64_t slots() const { return keys_.size(1); }
  std::int64_t bytes() const;

  /// Row i of batch row b of keys and values [B',Hkv,t,D] goes to places[b·t+i] = batch row · slots + slot; -1:
  /// nowhere.
  void put(const Tensor& keys, const Tensor& values, std::span<const std::int64_t> places);

  /// The first `slots` slots of batch rows begin … end-1 as [end-begin,Hkv,slots,D]; no copy.
  Tensor keys(std::int64_t begin, std::int64_t end, std::int64_t slots) const { return view(keys_, begin, end, slots); }
  Tensor values(std::int64_t begin, std::int64_t end, std::int64_t slots) const {
    return view(values_, begin, end, slots);
  }
  /// All slots of all batch rows as one sequence [1,Hkv,B·slots,D]; no copy.
  Tensor all_keys() const { return flat(keys_); }
  Tensor all_values() const { return flat(values_); }

 private:
  static Tensor view(const Tensor& memory, std::int64_t begin, std::int64_t end, std::int64_t slots);
  static Tensor flat(const Tensor& memory);

  Tensor keys_;  // [B,slots,Hkv,D]
  Tensor values_;
};

}  // namespace sq
