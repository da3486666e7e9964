// ops/short_convolution.h
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

/// Each channel's weighted sum of its last W values (a depthwise causal convolution, as in Mamba: Gu & Dao 2023,
/// section 3.4; before a recurrence it lets keys and values depend on their neighbours):
///   y[b,t,c] = bias[c] + Σ_{j=0}^{W-1} weight[c,j] · x[b,t-(W-1)+j,c]
/// so that the last weight belongs to the own position. What stands before position 0 is `first` [B,W-1,C], the inputs
/// of the W-1 positions before, or 0 where it is undefined.
///
/// x [B,T,C], weight [C,W] with 1 <= W <= 16, bias [C] or undefined, all of one float dtype and device. Result [B,T,C].
/// Saves x, weight, first.  dx[t] = Σ_j weight[j] dy[t+W-1-j], and so dfirst;  dweight[c,j] = Σ_{b,t} dy[b,t,c]
/// x[b,t-(W-1)+j,c];  dbias[c] = Σ_{b,t} dy[b,t,c].
/// Throws Error on mismatched shapes, dtypes or devices and on another W.
Tensor short_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Tensor& first = {});

namespace kernel {

struct ShortConvolutionProblem {
  static constexpr std::int64_t kMostTaps = 16;
  std::int64_t batch, positions, channels, taps;

  constexpr std::int64_t before() const { return taps - 1; }
};

struct ShortConvolutionForward {
  static constexpr std::string_view name = "short_convolution";
  template <class T>
  struct Arguments {
    ShortConvolutionProblem problem;
    const T* x;       // [B,T,C]
    const T* first;   // [B,W-1,C], or null
    const T* weight;  // [W,C]
    const T* bias;    // [C], or null
    T* y;             // [B,T,C]
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(2 * a.problem.batch * a.problem.positions * a.problem.channels);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct ShortConvolutionBackward {
  static constexpr std::string_view name = "short_convolution_backward";
  template <class T>
  struct Arguments {
    ShortConvolutionProblem problem;
    const T* x;
    const T* first;  // or null
    const T* weight;
    const T* dy;
    T* dx;        // [B,T,C], or null
    T* dfirst;    // [B,W-1,C], or null
    T* dweights;  // [W+1,C]: those of the weights, then of the bias; or null
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(3 * a.problem.batch * a.problem.positions * a.problem.channels);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
