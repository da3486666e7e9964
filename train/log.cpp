#include "train/log.h"

#include "tensor/file.h"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace sq {
namespace {

/// Length of the leading lines of `content` whose step is at most `last_step`.
std::size_t length_to_keep(const std::string& content, std::int64_t last_step, const std::string& path) {
  std::size_t begin = 0;
  for (int line = 1; begin < content.size(); ++line) {
    const std::size_t end = content.find('\n', begin);
    if (end == std::string::npos) break;  // a crash cut it short
    const Json record =
        parse_json(std::string_view(content).substr(begin, end - begin), fmt::format("{}, line {}", path, line));
    require_input(record.is_object() && record.contains("step") && record["step"].is_number_integer(), path,
                  "line {} is no record of a training step", line);
    if (record["step"].get<std::int64_t>() > last_step) break;
    begin = end + 1;
  }
  return begin;
}

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, std::int64_t last_step) : path_(path) {
  std::size_t keep = 0;
  if (std::filesystem::exists(path)) keep = length_to_keep(read_file(path), last_step, path.string());
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  require(file_ >= 0, "metrics", "cannot write '{}': {}", path.string(), std::strerror(errno));
  if (::ftruncate(file_, static_cast<off_t>(keep)) != 0) {
    const int reason = errno;
    ::close(file_);
    throw Error(fmt::format("metrics: cannot cut '{}' back: {}", path.string(), std::strerror(reason)));
  }
}

MetricsFile::~MetricsFile() {
  write_pending();
  ::close(file_);
}

bool MetricsFile::append(const Json& record) {
  pending_ += record.dump(-1, ' ', false, Json::error_handler_t::replace);
  pending_ += '\n';
  return write_pending();
}

bool MetricsFile::write_pending() {
  if (pending_.empty()) return true;
  const off_t before = ::lseek(file_, 0, SEEK_END);
  std::size_t done = 0;
  while (done < pending_.size()) {
    const ssize_t written = ::write(file_, pending_.data() + done, pending_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int reason = errno;
      if (done > 0 && ::ftruncate(file_, before) != 0) pending_.erase(0, done);  // the rest completes the line later
      errno = reason;
      return false;
    }
    done += static_cast<std::size_t>(written);
  }
  pending_.clear();
  return true;
}

void MetricsFile::sync() {
  require(write_pending() && ::fsync(file_) == 0, "metrics", "cannot write '{}': {}", path_.string(),
          std::strerror(errno));
}

}  // namespace sq
