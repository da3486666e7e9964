#include "train/checkpoint.h"

#include "tensor/file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <optional>

namespace sq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kTemporary = ".partial-";  // of folders that are being written or removed
constexpr std::int64_t kFormat = 1;

fs::path checkpoints_folder(const fs::path& run_folder) { return run_folder / "checkpoints"; }

fs::path checkpoint_path(const fs::path& run_folder, std::int64_t step) {
  return checkpoints_folder(run_folder) / fmt::format("{}{}", kPrefix, step);
}

/// N of "step-N", written without leading zeros.
std::optional<std::int64_t> parse_step(std::string_view name) {
  if (!name.starts_with(kPrefix)) return {};
  const std::string_view digits = name.substr(kPrefix.size());
  std::int64_t step = -1;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  const bool whole = failure == std::errc() && end == digits.data() + digits.size();
  if (!whole || step < 0 || fmt::format("{}", step) != digits) return {};
  return step;
}

struct FileRecord {
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;
};

std::string hex(std::uint64_t value) { return fmt::format("{:016x}", value); }

Json to_json(const FileRecord& record) { return {{"bytes", record.bytes}, {"checksum", hex(record.checksum)}}; }

std::uint64_t checksum_of(const void* data, std::size_t bytes) {
  Checksum sum;
  sum.add(data, bytes);
  return sum.value();
}

/// Removes a checkpoint so that no moment shows a folder named step-N with files missing.
void remove_checkpoint(const fs::path& path) {
  const fs::path doomed = path.parent_path() / fmt::format("{}{}", kTemporary, path.filename().string());
  std::error_code ignored;
  fs::remove_all(doomed, ignored);
  fs::rename(path, doomed, ignored);
  fs::remove_all(doomed, ignored);
}

void remove_leftovers(const fs::path& folder) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with(kTemporary)) leftovers.push_back(entry.path());
  std::error_code ignored;
  for (const fs::path& path : leftovers) fs::remove_all(path, ignored);
}

void write_files(const fs::path& folder, std::int64_t step, const CheckpointContent& content) {
  Json files = Json::object();
  const auto save_tensors = [&](const std::string& name, const NamedTensors& tensors) {
    const std::uint64_t checksum = save_safetensors(folder / name, tensors);
    files[name] = to_json({fs::file_size(folder / name), checksum});
  };
  save_tensors("model.safetensors", content.model);
  save_tensors("optimizer.safetensors", content.optimizer);
  const std::string state = content.state.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  replace_file(folder / "state.json", state);
  files["state.json"] = to_json({state.size(), checksum_of(state.data(), state.size())});
  const Json manifest = {{"format", kFormat}, {"step", step}, {"files", files}};
  replace_file(folder / "manifest.json", manifest.dump(2) + "\n");
}

/// Gives the complete folder its name. Where one of that name stands, both change names in one step, so that at every
/// moment one of them is there.
void put_in_place(const fs::path& complete, const fs::path& path) {
  const auto refuse = [&] {
    throw Error(fmt::format("checkpoint: cannot rename '{}' to '{}': {}", complete.string(), path.string(),
                            std::strerror(errno)));
  };
  if (!fs::exists(path)) {
    if (::rename(complete.c_str(), path.c_str()) != 0) refuse();
    return;
  }
  if (::renameat2(AT_FDCWD, complete.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) != 0) {
    remove_checkpoint(path);  // a file system that cannot exchange
    if (::rename(complete.c_str(), path.c_str()) != 0) refuse();
  }
}

/// Checks one file against the manifest and maps it.
std::shared_ptr<Storage> verified(const fs::path& folder, const std::string& name, const Json& record) {
  const fs::path path = folder / name;
  const auto bytes = record.at("bytes").get<std::uint64_t>();
  std::shared_ptr<Storage> mapped = map_file(path);
  require_input(mapped->bytes() == bytes, path.string(), "the file has {} bytes, the manifest says {}", mapped->bytes(),
                bytes);
  require_input(hex(checksum_of(mapped->data(), mapped->bytes())) == record.at("checksum").get<std::string>(),
                path.string(), "the content does not match its checksum in the manifest; the file is damaged");
  return mapped;
}

}  // namespace

void save_checkpoint(const fs::path& run_folder, std::int64_t step, const CheckpointContent& content,
                     std::int64_t keep) {
  require(keep >= 1, "checkpoint", "keep = {} would keep nothing; give 1 or more", keep);
  const fs::path folder = checkpoints_folder(run_folder);
  const fs::path temporary = folder / fmt::format("{}new-{}{}", kTemporary, kPrefix, step);
  const fs::path path = checkpoint_path(run_folder, step);
  std::error_code ignored;
  try {
    fs::create_directories(folder);
    remove_leftovers(folder);
    fs::create_directory(temporary);
    write_files(temporary, step, content);
    sync_folder(temporary);
    put_in_place(temporary, path);
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(temporary, ignored);
    throw Error(fmt::format("checkpoint: cannot write '{}': {}", path.string(), error.code().message()));
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
  sync_folder(folder);
  fs::remove_all(temporary, ignored);  // the exchanged one

  std::vector<std::int64_t> steps = checkpoint_steps(run_folder);
  // Steps after this one can only be damaged ones that the run went back from.
  for (const std::int64_t other : steps)
    if (other > step) remove_checkpoint(checkpoint_path(run_folder, other));
  std::erase_if(steps, [step](std::int64_t other) { return other > step; });
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < steps.size(); ++i)
    remove_checkpoint(checkpoint_path(run_folder, steps[i]));
}

std::vector<std::int64_t> checkpoint_steps(const fs::path& run_folder) {
  std::vector<std::int64_t> steps;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(checkpoints_folder(run_folder), none))
    if (const auto step = parse_step(entry.path().filename().string())) steps.push_back(*step);
  std::sort(steps.begin(), steps.end());
  return steps;
}

LoadedCheckpoint load_checkpoint(const fs::path& folder) {
  const std::string manifest_path = (folder / "manifest.json").string();
  const Json manifest = parse_json(read_file(manifest_path), manifest_path);
  LoadedCheckpoint loaded{folder, 0, {}};
  try {
    require_input(manifest.at("format").get<std::int64_t>() == kFormat, manifest_path,
                  "format {} is not known; this version reads format {}", manifest.at("format").dump(), kFormat);
    loaded.step = manifest.at("step").get<std::int64_t>();
    const Json& files = manifest.at("files");
    const auto tensors = [&](const std::string& name) {
      return SafetensorsFile(verified(folder, name, files.at(name)), (folder / name).string()).tensors();
    };
    loaded.content.model = tensors("model.safetensors");
    loaded.content.optimizer = tensors("optimizer.safetensors");
    const auto state = verified(folder, "state.json", files.at("state.json"));
    loaded.content.state =
        parse_json({reinterpret_cast<const char*>(state->data()), state->bytes()}, (folder / "state.json").string());
  } catch (const Json::exception&) {
    throw UsageError(fmt::format("{}: the manifest lacks an entry or has one of the wrong type", manifest_path));
  }
  return loaded;
}

LoadedCheckpoint load_newest_checkpoint(const fs::path& run_folder, const Notice& notice) {
  const std::vector<std::int64_t> steps = checkpoint_steps(run_folder);
  require_input(!steps.empty(), run_folder.string(), "there is no checkpoint to go on from");
  std::string first_problem;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    try {
      return load_checkpoint(checkpoint_path(run_folder, *step));
    } catch (const UsageError& error) {
      if (first_problem.empty()) first_problem = error.what();
      if (notice) notice(fmt::format("step {} cannot be used: {}", *step, error.what()));
    }
  }
  throw UsageError(fmt::format("{}: no checkpoint is undamaged; the newest: {}", run_folder.string(), first_problem));
}

void require_same_config(const Json& saved, const Json& given, std::span<const std::string_view> free_keys) {
  std::vector<std::string> changes = differences(saved, given);
  std::erase_if(changes, [&](const std::string& change) {
    return std::any_of(free_keys.begin(), free_keys.end(), [&](std::string_view key) {
      return change.starts_with(key) && change.size() > key.size() &&
             (change[key.size()] == ':' || change[key.size()] == '.');
    });
  });
  require_input(changes.empty(), "resume", "the configuration is not that of the run (before → now): {}",
                fmt::join(changes, "; "));
}

void open_run_folder(const fs::path& run_folder, RunStart start) {
  const std::string name = run_folder.string();
  require_input(!name.empty() && (!fs::exists(run_folder) || fs::is_directory(run_folder)), "out",
                "'{}' is not a folder", name);
  const fs::path metrics = run_folder / "metrics.jsonl";
  const bool has_checkpoints = !checkpoint_steps(run_folder).empty();
  const bool holds_run = has_checkpoints || fs::exists(metrics) || fs::exists(run_folder / "model.safetensors");
  require_input(start != RunStart::fresh || !holds_run, "out", "'{}' already holds a run; {}--force starts anew", name,
                has_checkpoints ? "--resume goes on with it, " : "");
  require_input(start != RunStart::resume || has_checkpoints, "out",
                "'{}' holds no checkpoint to resume from; {} starts anew", name,
                holds_run ? "--force" : "training without --resume");
  try {
    fs::create_directories(run_folder);
    if (start == RunStart::force) {
      fs::remove_all(checkpoints_folder(run_folder));
      fs::remove(metrics);
    }
  } catch (const fs::filesystem_error& error) {
    throw Error(fmt::format("out: cannot prepare '{}': {}", name, error.code().message()));
  }
}

}  // namespace sq
