// tools/cli.h: what all subcommands share: flags, device and thread settings, JSON lines.
#pragma once

#include "tensor/tensor.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace sq::cli {

using Json = nlohmann::ordered_json;

/// Flags that every subcommand takes.
struct Common {
  std::string device = "cpu";
  std::string dtype = "f32";
  std::int64_t threads = 0;  // as given
  std::int64_t seed = 42;
  bool quiet = false;
  bool json = false;
  std::uint64_t gpu_memory = 0;  // bytes; 0 = no limit

  /// Checks the values and sets the device that tensors are made on from now on, threads and random numbers. Throws
  /// UsageError.
  void apply(const CLI::App& command);
  /// Device and dtype as tensors take them. Throws UsageError for an unknown one.
  TensorOptions options() const;

 private:
  std::optional<UseDevice> use_device_;
};

void add_common(CLI::App& command, Common& common);

/// One JSON object on one line of stdout, flushed.
void print_line(const Json& object);
/// Text for people on stderr, unless quiet.
template <class... Args>
void say(const Common& common, fmt::format_string<Args...> text, Args&&... args) {
  if (!common.quiet) fmt::print(stderr, "{}\n", fmt::format(text, std::forward<Args>(args)...));
}

// One function a subcommand: declares its flags and what it does. tools/NAME.cpp holds it.
void add_train(CLI::App& app);
void add_generate(CLI::App& app);
void add_eval(CLI::App& app);
void add_logits(CLI::App& app);
void add_convert(CLI::App& app);
void add_bench(CLI::App& app);
void add_compare(CLI::App& app);
void add_profile(CLI::App& app);
void add_summary(CLI::App& app);
void add_info(CLI::App& app);

}  // namespace sq::cli
