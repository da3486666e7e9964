// What a GPU leaves undefined, the emulated one reports; what it defines, the emulated one does alike.
#include "tensor/cpu/threads.h"
#include "tensor/cuda/kernel.h"
#include "tensor/random.h"
#include "tests/support/compare.h"

#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

using namespace sq;
using namespace sq::test;
using cuda::kWarp;

namespace {

constexpr Device kGpu = cuda_device(0);

const cuda::Context& gpu() { return cuda::context(kGpu); }

/// `count` floats on the device, 0 at first, and a way to read them.
struct Output {
  explicit Output(std::int64_t count) : tensor(Tensor::zeros({count}, {.dtype = DType::f32, .device = kGpu})) {}
  float* data() { return tensor.data<float>(); }
  std::vector<float> values() const { return tensor.to_vector<float>(); }
  Tensor tensor;
};

// --- mistakes ---

__global__ void half_at_barrier(float*) {
  if (cuda::thread_index() < 32) return;
  cuda::sync_threads();
}
__global__ void two_barriers(float*) {
  if (cuda::thread_index() < 32)
    cuda::sync_threads();
  else
    cuda::sync_threads();
}
__global__ void lanes_missing(float* y) {
  if (cuda::lane_index() < 8) y[cuda::thread_index()] = cuda::shuffle_xor(1.0f, 1);
}
__global__ void lane_outside_mask(float* y) {
  if (cuda::lane_index() < 8) y[cuda::thread_index()] = cuda::shuffle(1.0f, 9, 0xffu);
}
__global__ void different_operations(float* y) {
  y[cuda::thread_index()] =
      cuda::lane_index() % 2 == 0 ? cuda::shuffle_xor(1.0f, 1) : static_cast<float>(cuda::ballot(true));
}
__global__ void forgotten_barrier(float* y) {
  struct Tag;
  auto* shared = cuda::static_shared<float, 64, Tag>();
  shared[cuda::thread_index()] = 1;
  y[cuda::thread_index()] = shared[63 - cuda::thread_index()];
}
__global__ void fresh_shared_memory(float* y) {
  y[cuda::thread_index()] = cuda::dynamic_shared<float>()[cuda::thread_index()];
}

// --- what works ---

__global__ void count_blocks(float* y, std::int64_t width) {
  const std::int64_t block =
      (cuda::block_index(2) * cuda::block_count(1) + cuda::block_index(1)) * cuda::block_count() + cuda::block_index();
  y[block * width + cuda::thread_index()] += 1;
}
__global__ void exchange(float* y) {
  const int lane = cuda::lane_index(), thread = cuda::thread_index();
  const auto value = static_cast<float>(thread);
  y[thread * 5] = cuda::shuffle(value, 3);
  y[thread * 5 + 1] = cuda::shuffle_xor(value, 5);
  y[thread * 5 + 2] = cuda::shuffle_up(value, 2);
  y[thread * 5 + 3] = cuda::shuffle_down(value, 30);
  y[thread * 5 + 4] = static_cast<float>(cuda::ballot(lane < 3));
}
__global__ void sums(const float* x, float* y, std::int64_t count) {
  float sum = 0, most = -INFINITY;
  for (std::int64_t i = cuda::thread_index(); i < count; i += cuda::thread_count()) {
    sum += x[i];
    most = cuda::larger(most, x[i]);
  }
  sum = cuda::block_sum(sum);
  most = cuda::block_max(most);
  y[2 * cuda::thread_index()] = sum;
  y[2 * cuda::thread_index() + 1] = most;
}
__global__ void rotate(float* y, int rounds) {  // each round passes the values one thread on
  float* shared = cuda::dynamic_shared<float>();
  auto value = static_cast<float>(cuda::thread_index());
  for (int i = 0; i < rounds; ++i) {
    shared[cuda::thread_index()] = value;
    cuda::sync_threads();
    value = shared[(cuda::thread_index() + 1) % cuda::thread_count()];
    cuda::sync_threads();
  }
  y[cuda::thread_index()] = value;
}

/// d[16,8] = a[16,K]·b[K,8] by one warp; a and b row-major.
template <class T>
__global__ void multiply_tile(const float* a, const float* b, float* d) {
  constexpr int K = cuda::kMmaDepth<T>;
  const int g = cuda::lane_index() / 4, t = cuda::lane_index() % 4;
  cuda::MatrixA<T> left;
  cuda::MatrixB<T> right;
  for (int i = 0; i < 4; ++i) {
    const int row = g + i % 2 * 8;
    if constexpr (sizeof(T) == 2) {
      const float* from = a + row * K + 2 * t + i / 2 * 8;
      left.word[i] = cuda::pair_of<T>(from[0], from[1]);
    } else {
      left.word[i] = cuda::to_tf32(a[row * K + t + i / 2 * 4]);
    }
  }
  for (int i = 0; i < 2; ++i) {
    if constexpr (sizeof(T) == 2) {
      const int row = 2 * t + i * 8;
      right.word[i] = cuda::pair_of<T>(b[row * 8 + g], b[(row + 1) * 8 + g]);
    } else {
      right.word[i] = cuda::to_tf32(b[(t + i * 4) * 8 + g]);
    }
  }
  cuda::MatrixD sum;
  cuda::mma(sum, left, right);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum.item[i];
}

/// The same for 16-bit T with both operands from shared memory: a row-major, b [K,8] row-major, through
/// `load_matrices`.
template <class T>
__global__ void multiply_loaded(const float* a, const float* b, float* d) {
  T* left = cuda::dynamic_shared<T>();  // [16,16]
  T* right = left + 256;                // [16,8]
  const int lane = cuda::lane_index();
  for (int i = lane; i < 256; i += kWarp) left[i] = cuda::narrow<T>(a[i]);
  for (int i = lane; i < 128; i += kWarp) right[i] = cuda::narrow<T>(b[i]);
  cuda::sync_threads();
  cuda::MatrixA<T> x;
  // matrices 0 … 3: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15
  cuda::load_matrices(x.word, left + (lane % 16) * 16 + lane / 16 * 8);
  std::uint32_t words[4];
  cuda::load_matrices_transposed(words, right + lane % 16 * 8);
  cuda::MatrixD sum;
  cuda::mma(sum, x, cuda::MatrixB<T>{{words[0], words[1]}});
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum.item[i];
}

template <class Kernel>
std::string error_of(Kernel kernel, int threads = 64) {
  Output y(threads);
  try {
    cuda::launch_kernel(gpu(), "example", kernel, {.threads = threads}, y.data());
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("the emulated GPU names threads that miss a barrier or a warp operation") {
  CHECK(error_of(half_at_barrier).starts_with("example: 32 of 64 threads never reached the barrier in line"));
  CHECK(error_of(two_barriers).starts_with("example: threads of one block wait at different barriers, in lines"));
  CHECK(error_of(lanes_missing).find("of warp 0 never came to the shuffle_xor for which lanes 0x000000ff wait") !=
        std::string::npos);
  CHECK(error_of(lane_outside_mask) == "example: shuffle reads lane 9, which is not in the mask 0x000000ff");
  CHECK(error_of(different_operations).starts_with("example: lanes of one warp meet in different operations: "));
  // and goes on working
  Output y(64);
  cuda::launch_kernel(gpu(), "rotate", rotate, {.threads = 64, .shared_bytes = 256}, y.data(), 3);
  CHECK(y.values()[0] == 3);
}

TEST_CASE("the emulated GPU shows a forgotten barrier") {
  bool found = false;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    cuda::emulation::set_order_seed(seed);
    Output y(64);
    cuda::launch_kernel(gpu(), "forgotten_barrier", forgotten_barrier, {.threads = 64}, y.data());
    for (const float value : y.values()) found |= value != 1;
  }
  cuda::emulation::set_order_seed(1);
  CHECK(found);
}

TEST_CASE("shared memory of the emulated GPU begins as NaN in every block") {
  Output y(64);
  for (int run = 0; run < 2; ++run)
    cuda::launch_kernel(gpu(), "fresh", fresh_shared_memory, {.threads = 64, .shared_bytes = 256}, y.data());
  for (const float value : y.values()) CHECK(std::isnan(value));
}

TEST_CASE("the host cannot read the emulated device's memory by mistake" *
          doctest::skip(!cuda::emulation::guards_memory())) {
  const Tensor x = Tensor::zeros({4}, {.dtype = DType::f32, .device = kGpu});
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    _exit(x.data<float>()[1] == 0 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) <= 1));
}

TEST_CASE("launches are checked") {
  Output y(64);
  const auto launch = [&](const cuda::Grid& grid) {
    cuda::launch_kernel(gpu(), "example", fresh_shared_memory, grid, y.data());
  };
  CHECK_THROWS_WITH_AS(launch({.threads = 48}), "example: a block of 48 threads; use a multiple of 32 up to 1024",
                       Error);
  CHECK_THROWS_AS(launch({.threads = 2048}), Error);
  CHECK_THROWS_AS(launch({.threads = 64, .blocks_y = 65536}), Error);
  CHECK_THROWS_WITH_AS(launch({.threads = 64, .shared_bytes = 1 << 20}),
                       "example: 1048576 bytes of shared memory are needed, emulated GPU has 232448", Error);
  launch({.blocks = 0, .threads = 64, .shared_bytes = 256});
  CHECK(y.values() == std::vector<float>(64, 0.0f));
}

TEST_CASE("every thread of every block runs once") {
  Output y(3 * 5 * 2 * 96);
  cuda::launch_kernel(gpu(), "count", count_blocks, {.blocks = 3, .threads = 96, .blocks_y = 5, .blocks_z = 2},
                      y.data(), std::int64_t{96});
  CHECK(y.values() == std::vector<float>(3 * 5 * 2 * 96, 1.0f));
}

TEST_CASE("lanes exchange values") {
  Output y(64 * 5);
  cuda::launch_kernel(gpu(), "exchange", exchange, {.threads = 64}, y.data());
  const std::vector<float> values = y.values();
  for (int thread = 0; thread < 64; ++thread) {
    const int lane = thread % 32, base = thread - lane;
    const float* got = &values[static_cast<std::size_t>(thread * 5)];
    CHECK(got[0] == static_cast<float>(base + 3));
    CHECK(got[1] == static_cast<float>(base + (lane ^ 5)));
    CHECK(got[2] == static_cast<float>(lane < 2 ? thread : thread - 2));
    CHECK(got[3] == static_cast<float>(lane < 2 ? thread + 30 : thread));
    CHECK(got[4] == 7);
  }
}

TEST_CASE("reductions give all threads the same bits, whatever the order of threads") {
  const Tensor x = moved(randn({1000}, {.dtype = DType::f32, .device = Device{}}), kGpu);
  const std::vector<double> values = x.to_vector<double>();
  double sum = 0, most = -INFINITY;
  for (const double value : values) {
    sum += value;
    most = std::max(most, value);
  }
  for (const int threads : {32, 96, 1024}) {
    std::vector<float> first;
    for (const std::uint64_t seed : {1, 2, 3}) {
      cuda::emulation::set_order_seed(seed);
      Output y(2 * threads);
      cuda::launch_kernel(gpu(), "sums", sums, {.threads = threads}, x.data<float>(), y.data(), x.numel());
      const std::vector<float> got = y.values();
      if (first.empty()) first = got;
      CHECK(got == first);
      for (int i = 0; i < threads; ++i) {
        CHECK(got[static_cast<std::size_t>(2 * i)] == got[0]);
        CHECK(got[static_cast<std::size_t>(2 * i + 1)] == static_cast<float>(most));
      }
      CHECK(got[0] == doctest::Approx(sum).epsilon(1e-5));
    }
  }
  cuda::emulation::set_order_seed(1);
}

TEST_CASE("barriers keep rounds apart for any number of host threads") {
  const int before = cpu::thread_count();
  for (const int count : {1, 3}) {
    cpu::set_thread_count(count);
    Output y(1024);
    cuda::launch_kernel(gpu(), "rotate", rotate, {.threads = 1024, .shared_bytes = 4096}, y.data(), 20);
    const std::vector<float> values = y.values();
    for (int i = 0; i < 1024; ++i) CHECK(values[static_cast<std::size_t>(i)] == static_cast<float>((i + 20) % 1024));
  }
  cpu::set_thread_count(before);
}

TEST_CASE_TEMPLATE("a tile product equals the plain one", T, bf16, f16, float) {
  constexpr int K = cuda::kMmaDepth<T>;
  // small whole numbers are exact in every type
  std::vector<float> a(16 * K), b(K * 8), want(16 * 8, 0.0f);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(static_cast<int>(i * 7 % 19) - 9);
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(static_cast<int>(i * 5 % 17) - 8);
  for (std::size_t i = 0; i < 16; ++i)
    for (std::size_t k = 0; k < K; ++k)
      for (std::size_t j = 0; j < 8; ++j) want[i * 8 + j] += a[i * K + k] * b[k * 8 + j];
  const Tensor left = moved(Tensor::from(a, {16, K}), kGpu), right = moved(Tensor::from(b, {K, 8}), kGpu);
  Output d(128);
  cuda::launch_kernel(gpu(), "tile", multiply_tile<T>, {.threads = 32}, left.data<float>(), right.data<float>(),
                      d.data());
  CHECK(d.values() == want);
  if constexpr (sizeof(T) == 2) {
    Output loaded(128);
    cuda::launch_kernel(gpu(), "loaded", multiply_loaded<T>, {.threads = 32, .shared_bytes = 1024}, left.data<float>(),
                        right.data<float>(), loaded.data());
    CHECK(loaded.values() == want);
  }
}

TEST_CASE("kernels draw the random numbers of the host") {
  for (const std::uint64_t index : {0ull, 1ull, 7ull, 123456789012ull}) {
    CHECK(cuda::philox(42, 3, index).word[2] == philox(42, 3, index)[2]);
    CHECK(cuda::random_bits(5, 1ull << 40, index) == random_bits(5, 1ull << 40, index));
    CHECK(cuda::random_uniform(5, 9, index) == random_uniform(5, 9, index));
  }
}
