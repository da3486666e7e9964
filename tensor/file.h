// tensor/file.h: reading files whole or mapped, and replacing them so that a crash never leaves half of one.
#pragma once

#include "tensor/storage.h"

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace sq {

/// The bytes of a file. Throws UsageError when it is missing, a folder, or unreadable.
std::string read_file(const std::filesystem::path& path);

/// A read-only memory mapping of a file; unmapped with its last owner. Throws UsageError like read_file.
std::shared_ptr<Storage> map_file(const std::filesystem::path& path);

/// Takes the pieces of a file in order.
using ByteSink = std::function<void(const void* data, std::size_t bytes)>;

/// Replaces `path` by what `write` puts into the sink: written to a temporary name beside it, synced to the disk,
/// renamed. If anything fails, such as a full disk, the old file stays as it was, the temporary one goes, and Error is
/// thrown.
void replace_file(const std::filesystem::path& path, const std::function<void(const ByteSink&)>& write);
void replace_file(const std::filesystem::path& path, std::string_view content);

/// Syncs a folder's entries to the disk, so that renames in it survive a power cut.
void sync_folder(const std::filesystem::path& folder);

/// A 64-bit checksum of a byte stream: FNV-1a over little-endian 64-bit words, the last one padded with zeros, then the
/// length. Finds damage; it is no protection against intent.
class Checksum {
 public:
  void add(const void* data, std::size_t bytes);
  std::uint64_t value() const;

 private:
  void add_word(std::uint64_t word) { state_ = (state_ ^ word) * 0x100000001b3u; }

  std::uint64_t state_ = 0xcbf29ce484222325u;
  std::uint64_t pending_ = 0;
  std::uint64_t length_ = 0;
};

}  // namespace sq
