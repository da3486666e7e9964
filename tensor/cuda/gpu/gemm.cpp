// tensor/cuda/gpu/gemm.cpp: cuBLAS, which counts columns first: a row-major C = A·B is to it Cᵀ = Bᵀ·Aᵀ. A product
// with a bias goes through cuBLASLt, whose epilogue adds it before C is written; where that has no way (f64, batches, a
// β), the bias is put into C first and the product added.
#include "tensor/cuda/gemm.h"

#include "tensor/cuda/memory.h"

#include <algorithm>
#include <cublasLt.h>
#include <cublas_v2.h>
#include <map>
#include <tuple>

namespace sq::cuda {
namespace {

template <class... Args>
void check(cublasStatus_t status, fmt::format_string<Args...> text, Args&&... args) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  throw Error(fmt::format("gemm: {}: {} ({})", fmt::format(text, std::forward<Args>(args)...),
                          cublasGetStatusString(status), cublasGetStatusName(status)));
}

template <class T>
constexpr cudaDataType_t type_of() {
  if constexpr (std::is_same_v<T, float>)
    return CUDA_R_32F;
  else if constexpr (std::is_same_v<T, double>)
    return CUDA_R_64F;
  else if constexpr (std::is_same_v<T, bf16>)
    return CUDA_R_16BF;
  else
    return CUDA_R_16F;
}

/// Objects of cuBLASLt that are destroyed with their scope.
template <class Handle, cublasStatus_t (*Destroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle) Destroy(handle);
  }
};
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// What decides which algorithm cuBLASLt takes.
using Key = std::tuple<int, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool,
                       bool, bool, std::uintptr_t>;

/// The handles of one device, and memory for algorithms that want some.
class Blas : public Context::Library {
 public:
  explicit Blas(const Context& context) : workspace_(context, kWorkspace) {
    check(cublasCreate(&handle_), "creating a handle for cuda:{}", context.device());
    check(cublasLtCreate(&light_), "creating a cuBLASLt handle for cuda:{}", context.device());
    check(cublasSetStream(handle_, reinterpret_cast<cudaStream_t>(context.stream())), "choosing the stream");
    check(cublasSetWorkspace(handle_, workspace_.data(), kWorkspace), "setting the workspace");
    check(cublasSetMathMode(handle_,
                            cublasMath_t(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
          "setting the precision");
  }
  ~Blas() override {
    cublasDestroy(handle_);
    cublasLtDestroy(light_);
  }
  static Blas& of(const Context& context) {
    const std::lock_guard lock(mutex());
    if (!context.library()) context.set_library(std::make_unique<Blas>(context));
    return static_cast<Blas&>(*context.library());
  }

  cublasHandle_t handle() const { return handle_; }
  cublasLtHandle_t light() const { return light_; }
  void* workspace() const { return workspace_.data(); }
  std::map<Key, cublasLtMatmulHeuristicResult_t>& algorithms() { return algorithms_; }
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  static constexpr std::int64_t kWorkspace = std::int64_t{32} << 20;

 private:
  Buffer<std::byte> workspace_;
  cublasHandle_t handle_ = nullptr;
  cublasLtHandle_t light_ = nullptr;
  std::map<Key, cublasLtMatmulHeuristicResult_t> algorithms_;
};

template <class T, class C>
cublasComputeType_t compute_type(const GemmArguments<T, C>& g) {
  if (std::is_same_v<T, double>) return CUBLAS_COMPUTE_64F;
  return std::is_same_v<T, float> && g.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

/// Of matrices with one row the step to the next may be anything; cuBLAS wants at least a row.
template <class T, class C>
GemmArguments<T, C> with_valid_steps(GemmArguments<T, C> g) {
  g.lda = std::max({g.lda, g.transpose_a ? g.m : g.k, std::int64_t{1}});
  g.ldb = std::max({g.ldb, g.transpose_b ? g.k : g.n, std::int64_t{1}});
  g.ldc = std::max({g.ldc, g.n, std::int64_t{1}});
  return g;
}

/// One level of a batch, no bias.
template <class T, class C>
void multiply(const Context& context, const GemmArguments<T, C>& g, double beta) {
  using Scale = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const auto alpha = static_cast<Scale>(g.alpha), add = static_cast<Scale>(beta);
  const auto operation = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  check(cublasGemmStridedBatchedEx_64(Blas::of(context).handle(), operation(g.transpose_b), operation(g.transpose_a),
                                      g.n, g.m, g.k, &alpha, g.b, type_of<T>(), g.ldb, g.batch.stride_b, g.a,
                                      type_of<T>(), g.lda, g.batch.stride_a, &add, g.c, type_of<C>(), g.ldc,
                                      g.batch.stride_c, g.batch.count, compute_type(g), CUBLAS_GEMM_DEFAULT),
        "the product of {} {} x {} by {} x {} matrices", g.batch.count, g.m, g.k, g.k, g.n);
}

template <class... Pointers>
std::uintptr_t common_alignment(const Pointers*... pointers) {
  const std::uintptr_t bits = (reinterpret_cast<std::uintptr_t>(pointers) | ... | std::uintptr_t{256});
  return bits & (~bits + 1);
}

/// One matrix with a bias, β = 0. False when cuBLASLt knows no way.
template <class T, class C>
bool multiply_with_bias(const Context& context, const GemmArguments<T, C>& g) {
  Blas& blas = Blas::of(context);
  const auto operation = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const cublasOperation_t first = operation(g.transpose_b), second = operation(g.transpose_a);
  const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  const cudaDataType_t bias_type = type_of<C>();
  const void* bias = g.bias;
  Description description;
  check(cublasLtMatmulDescCreate(&description.handle, compute_type(g), CUDA_R_32F), "describing a product");
  const auto set = [&](cublasLtMatmulDescAttributes_t which, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(description.handle, which, &value, sizeof(value)), "describing a product");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, first);
  set(CUBLASLT_MATMUL_DESC_TRANSB, second);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type);
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  Layout a, b, c;
  const auto layout = [](Layout& l, cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t step) {
    check(cublasLtMatrixLayoutCreate(&l.handle, type, static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(columns), step),
          "describing a {} x {} matrix", rows, columns);
  };
  layout(b, type_of<T>(), g.transpose_b ? g.k : g.n, g.transpose_b ? g.n : g.k, g.ldb);
  layout(a, type_of<T>(), g.transpose_a ? g.m : g.k, g.transpose_a ? g.k : g.m, g.lda);
  layout(c, type_of<C>(), g.n, g.m, g.ldc);

  const std::uintptr_t alignment = common_alignment(g.a, g.b, g.c, g.bias);
  const Key key{static_cast<int>(type_of<T>()) * 1000 + static_cast<int>(type_of<C>()),
                g.m,
                g.n,
                g.k,
                g.lda,
                g.ldb,
                g.ldc,
                g.transpose_a,
                g.transpose_b,
                g.tf32,
                alignment};
  const std::lock_guard lock(Blas::mutex());
  auto known = blas.algorithms().find(key);
  if (known == blas.algorithms().end()) {
    Preference preference;
    check(cublasLtMatmulPreferenceCreate(&preference.handle), "asking for an algorithm");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
      check(cublasLtMatmulPreferenceSetAttribute(preference.handle, which, &value, sizeof(value)),
            "asking for an algorithm");
    };
    const auto bytes = static_cast<std::uint32_t>(alignment);
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(Blas::kWorkspace));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, bytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, bytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, bytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, bytes);
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        blas.light(), description.handle, b.handle, a.handle, c.handle, c.handle, preference.handle, 1, &best, &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && found == 0)) return false;
    check(status, "asking for an algorithm for {} x {} by {} x {}", g.m, g.k, g.k, g.n);
    known = blas.algorithms().emplace(key, best).first;
  }
  const auto alpha = static_cast<float>(g.alpha), beta = 0.0f;
  check(cublasLtMatmul(blas.light(), description.handle, &alpha, g.b, b.handle, g.a, a.handle, &beta, g.c, c.handle,
                       g.c, c.handle, &known->second.algo, blas.workspace(), static_cast<std::size_t>(Blas::kWorkspace),
                       reinterpret_cast<cudaStream_t>(context.stream())),
        "the product of {} x {} by {} x {} with a bias", g.m, g.k, g.k, g.n);
  return true;
}

template <class T, class C>
void one_level(const Context& context, const GemmArguments<T, C>& g) {
  if (g.bias && g.beta == 0 && g.k > 0 && g.batch.count == 1 && !std::is_same_v<T, double> &&
      multiply_with_bias(context, g))
    return;
  const bool prepared = g.bias || g.k == 0;
  if (prepared) scale_and_add_rows(context, g.batch.count, g.batch.stride_c, g.m, g.n, g.c, g.ldc, g.beta, g.bias);
  if (g.k > 0) multiply(context, g, prepared ? 1 : g.beta);
}

}  // namespace

template <class T, class C>
void gemm(const Context& context, const GemmArguments<T, C>& arguments) {
  if (arguments.m == 0 || arguments.n == 0 || arguments.batch.count == 0) return;
  GemmArguments<T, C> g = with_valid_steps(arguments);
  use_device(context.device());
  for (std::int64_t outer = 0; outer < arguments.outer_batch.count; ++outer) {
    one_level(context, g);
    g.a += g.outer_batch.stride_a;
    g.b += g.outer_batch.stride_b;
    g.c += g.outer_batch.stride_c;
  }
}

template void gemm(const Context&, const GemmArguments<float, float>&);
template void gemm(const Context&, const GemmArguments<double, double>&);
template void gemm(const Context&, const GemmArguments<bf16, bf16>&);
template void gemm(const Context&, const GemmArguments<bf16, float>&);
template void gemm(const Context&, const GemmArguments<f16, f16>&);
template void gemm(const Context&, const GemmArguments<f16, float>&);

}  // namespace sq::cuda
