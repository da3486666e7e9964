// train/checkpoint.h: what a training run needs to go on as if it had never stopped, kept safe from crashes.
//
// A run's folder holds metrics.jsonl and checkpoints/. A checkpoint is a folder checkpoints/step-N:
//   model.safetensors       parameters and buffers
//   optimizer.safetensors   moments and step count of the optimizer
//   state.json              counters, random state, data position, configuration
//   manifest.json           size and checksum (sq::Checksum) of each of these files
// It is written under a temporary name, every file and the folder synced to the disk, then renamed: a checkpoint is
// there in full or not at all. Older ones are removed only after that.
#pragma once

#include "nn/json.h"
#include "tensor/safetensors.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace sq {

/// What a checkpoint holds.
struct CheckpointContent {
  NamedTensors model;
  NamedTensors optimizer;
  Json state;
};

/// A checkpoint read back. The tensors are windows on the mapped files.
struct LoadedCheckpoint {
  std::filesystem::path path;
  std::int64_t step = 0;
  CheckpointContent content;
};

/// Receives one line for the user.
using Notice = std::function<void(const std::string&)>;

/// Writes checkpoints/step-N of the run in `run_folder`, replacing one of the same step, then removes all but the
/// newest `keep` (at least 1) and what earlier crashes left. Throws Error when the disk refuses; the earlier
/// checkpoints are then as they were.
void save_checkpoint(const std::filesystem::path& run_folder, std::int64_t step, const CheckpointContent& content,
                     std::int64_t keep);

/// Reads the newest checkpoint whose files are all as the manifest says. A damaged one is reported through `notice`,
/// naming the file and what is wrong with it, and the one before is tried. Throws UsageError when there is none at all,
/// or none undamaged.
LoadedCheckpoint load_newest_checkpoint(const std::filesystem::path& run_folder, const Notice& notice = {});

/// Reads one checkpoint folder. Throws UsageError naming the file that is missing or damaged.
LoadedCheckpoint load_checkpoint(const std::filesystem::path& checkpoint_folder);

/// The steps of the checkpoints in a run's folder, ascending.
std::vector<std::int64_t> checkpoint_steps(const std::filesystem::path& run_folder);

/// Throws UsageError that lists every key whose value differs ("train.seed: 1 → 2"), apart from keys that begin with
/// one of `free_keys`, which may change between the parts of a run.
void require_same_config(const Json& saved, const Json& given, std::span<const std::string_view> free_keys = {});

/// How a run meets what its folder already holds.
enum class RunStart {
  fresh,   // UsageError when the folder holds a run
  resume,  // UsageError when it holds none
  force,   // an earlier run is removed
};

/// Makes the run's folder ready. Only checkpoints/ and metrics.jsonl are ever removed.
/// Throws UsageError as RunStart says and when the path is a file, Error when the folder cannot be made.
void open_run_folder(const std::filesystem::path& run_folder, RunStart start);

}  // namespace sq
