#include "tensor/file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace sq {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return fd_; }
  bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

Descriptor open_for_reading(const std::filesystem::path& path, std::size_t& bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  require_input(fd >= 0, "file", "cannot read '{}': {}", path.string(), std::strerror(errno));
  Descriptor file(fd);
  struct stat status {};
  require_input(::fstat(fd, &status) == 0 && !S_ISDIR(status.st_mode), "file", "cannot read '{}': it is a folder",
                path.string());
  bytes = static_cast<std::size_t>(status.st_size);
  return file;
}

void write_all(int fd, const char* data, std::size_t bytes, const std::filesystem::path& path) {
  while (bytes > 0) {
    const ssize_t written = ::write(fd, data, bytes);
    if (written < 0 && errno == EINTR) continue;
    require(written > 0, "file", "cannot write '{}': {}", path.string(), std::strerror(errno));
    data += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  std::size_t expected = 0;
  const Descriptor file = open_for_reading(path, expected);
  std::string content;
  content.reserve(expected);
  std::string piece(1 << 16, '\0');
  while (true) {  // until the end, not for the expected size: pipes and /proc files report none
    const ssize_t count = ::read(file.get(), piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    require_input(count >= 0, "file", "cannot read '{}': {}", path.string(), std::strerror(errno));
    if (count == 0) return content;
    content.append(piece, 0, static_cast<std::size_t>(count));
  }
}

std::shared_ptr<Storage> map_file(const std::filesystem::path& path) {
  std::size_t bytes = 0;
  const Descriptor file = open_for_reading(path, bytes);
  if (bytes == 0) return Storage::wrap(nullptr, 0, std::make_shared<int>(0));
  void* start = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.get(), 0);
  require(start != MAP_FAILED, "file", "cannot map '{}': {}", path.string(), std::strerror(errno));
  std::shared_ptr<const void> owner(start, [bytes](const void* p) { ::munmap(const_cast<void*>(p), bytes); });
  return Storage::wrap(start, bytes, std::move(owner));
}

void replace_file(const std::filesystem::path& path, const std::function<void(const ByteSink&)>& write) {
  std::filesystem::path temporary = path;
  temporary += fmt::format(".{}.tmp", ::getpid());
  try {
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    require(file.get() >= 0, "file", "cannot write '{}': {}", temporary.string(), std::strerror(errno));
    std::string buffer;  // small pieces are gathered: one system call per MiB
    constexpr std::size_t kBuffer = 1 << 20;
    const auto flush = [&] {
      write_all(file.get(), buffer.data(), buffer.size(), temporary);
      buffer.clear();
    };
    write([&](const void* data, std::size_t bytes) {
      if (buffer.size() + bytes > kBuffer) flush();
      if (bytes > kBuffer)
        write_all(file.get(), static_cast<const char*>(data), bytes, temporary);
      else
        buffer.append(static_cast<const char*>(data), bytes);
    });
    flush();
    require(::fsync(file.get()) == 0 && file.close(), "file", "cannot write '{}': {}", temporary.string(),
            std::strerror(errno));
    require(::rename(temporary.c_str(), path.c_str()) == 0, "file", "cannot rename '{}' to '{}': {}",
            temporary.string(), path.string(), std::strerror(errno));
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(path.has_parent_path() ? path.parent_path() : ".");
}

void replace_file(const std::filesystem::path& path, std::string_view content) {
  replace_file(path, [content](const ByteSink& sink) { sink(content.data(), content.size()); });
}

void sync_folder(const std::filesystem::path& folder) {
  const Descriptor handle(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (handle.get() >= 0)
    ::fsync(handle.get());  // some file systems cannot sync folders; the data itself is safe already
}

void Checksum::add(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const unsigned char*>(data);
  while (bytes > 0) {
    const std::size_t filled = length_ % 8;
    if (filled == 0 && bytes >= 8) {
      std::uint64_t word;
      std::memcpy(&word, next, 8);
      add_word(word);
      next += 8, bytes -= 8, length_ += 8;
      continue;
    }
    pending_ |= static_cast<std::uint64_t>(*next) << (8 * filled);
    ++next, --bytes, ++length_;
    if (length_ % 8 == 0) add_word(std::exchange(pending_, 0));
  }
}

std::uint64_t Checksum::value() const {
  Checksum last = *this;
  if (length_ % 8 != 0) last.add_word(pending_);
  last.add_word(length_);
  return last.state_;
}

}  // namespace sq
