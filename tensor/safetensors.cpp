#include "tensor/safetensors.h"

#include "tensor/file.h"
#include "tensor/memory.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>

namespace sq {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kMaxHeader = 100'000'000;  // bytes; the limit of the format's reference reader

struct FormatName {
  std::string_view text;
  DType dtype;
};
constexpr std::array<FormatName, 8> kFormatNames{{{"F32", DType::f32},
                                                  {"F64", DType::f64},
                                                  {"BF16", DType::bf16},
                                                  {"F16", DType::f16},
                                                  {"I32", DType::i32},
                                                  {"I64", DType::i64},
                                                  {"U8", DType::u8},
                                                  {"BOOL", DType::u8}}};  // read only: u8 is written as U8

std::optional<DType> parse_format_name(std::string_view text) {
  for (const FormatName& entry : kFormatNames)
    if (entry.text == text) return entry.dtype;
  return std::nullopt;
}

std::string_view format_name(DType dtype) {
  return std::find_if(kFormatNames.begin(), kFormatNames.end(), [&](const FormatName& e) { return e.dtype == dtype; })
      ->text;
}

/// One tensor of the header: where its bytes lie, relative to the start of the data.
struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  std::int64_t begin, end;
};

bool is_count(const Json& value) {
  return value.is_number_unsigned() && value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX);
}

Entry parse_entry(const std::string& label, const std::string& name, const Json& value) {
  const auto check = [&](bool condition, std::string_view what) {
    require_input(condition, "safetensors", "'{}': tensor '{}' {}", label, name, what);
  };
  check(value.is_object() && value.size() == 3 && value.contains("dtype") && value.contains("shape") &&
            value.contains("data_offsets"),
        "must have exactly dtype, shape and data_offsets");
  const Json &dtype = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];
  check(dtype.is_string(), "has a dtype that is not text");
  const std::optional<DType> known = parse_format_name(dtype.get<std::string>());
  check(known.has_value(), fmt::format("has dtype '{}', which is not supported", dtype.get<std::string>()));
  check(shape.is_array() && shape.size() <= static_cast<std::size_t>(Shape::kMaxRank) &&
            std::all_of(shape.begin(), shape.end(), is_count),
        "has a shape that is not a list of at most 8 sizes");
  check(offsets.is_array() && offsets.size() == 2 && is_count(offsets[0]) && is_count(offsets[1]),
        "has data_offsets that are not two byte positions");
  Entry entry{name, *known, Shape(shape.get<std::vector<std::int64_t>>()), offsets[0].get<std::int64_t>(),
              offsets[1].get<std::int64_t>()};
  std::int64_t bytes = item_size(entry.dtype);
  for (const std::int64_t extent : entry.shape)
    check(!__builtin_mul_overflow(bytes, std::max<std::int64_t>(extent, 1), &bytes), "is too large");
  bytes = entry.shape.numel() * item_size(entry.dtype);
  check(entry.begin <= entry.end && entry.end - entry.begin == bytes,
        fmt::format("has {} bytes of data where {}{} needs {}", entry.end - entry.begin, sq::name(entry.dtype),
                    entry.shape, bytes));
  return entry;
}

/// Tensors must tile the data: sorted by position, each begins where the one before ends.
void check_tiling(const std::string& label, const std::vector<Entry>& entries, std::int64_t data_bytes) {
  std::int64_t position = 0;
  const Entry* before = nullptr;
  for (const Entry& entry : entries) {
    require_input(entry.end <= data_bytes, "safetensors",
                  "'{}': tensor '{}' ends at byte {} of {} bytes of data; the file is cut short", label, entry.name,
                  entry.end, data_bytes);
    require_input(entry.begin >= position, "safetensors", "'{}': tensors '{}' and '{}' overlap", label,
                  before ? before->name : "", entry.name);
    require_input(entry.begin == position, "safetensors", "'{}': {} unused bytes before tensor '{}'", label,
                  entry.begin - position, entry.name);
    position = entry.end;
    before = &entry;
  }
  require_input(position == data_bytes, "safetensors", "'{}': {} bytes follow the last tensor", label,
                data_bytes - position);
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : SafetensorsFile(map_file(path), path.string()) {}

SafetensorsFile::SafetensorsFile(std::shared_ptr<Storage> bytes, std::string label) : label_(std::move(label)) {
  const std::uint64_t size = bytes->bytes();
  require_input(size >= 8, "safetensors", "'{}' has {} bytes; even an empty file of this format has more", label_,
                size);
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes->data(), 8);
  require_input(header_bytes <= size - 8 && header_bytes <= kMaxHeader, "safetensors",
                "'{}' claims a header of {} bytes but has {}; it is damaged or not a safetensors file", label_,
                header_bytes, size - 8);
  const char* text = reinterpret_cast<const char*>(bytes->data()) + 8;
  const Json header = Json::parse(text, text + header_bytes, nullptr, /*allow_exceptions=*/false);
  require_input(header.is_object(), "safetensors", "'{}': the header is not a JSON object", label_);

  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(parse_entry(label_, name, value));
      continue;
    }
    require_input(value.is_object(), "safetensors", "'{}': __metadata__ is not an object", label_);
    for (const auto& [key, note] : value.items()) {
      require_input(note.is_string(), "safetensors", "'{}': metadata '{}' is not text", label_, key);
      metadata_[key] = note.get<std::string>();
    }
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_tiling(label_, entries, static_cast<std::int64_t>(size - 8 - header_bytes));

  const auto data_start = static_cast<std::int64_t>(8 + header_bytes);
  for (const Entry& entry : entries) {
    const std::int64_t at = data_start + entry.begin;
    if (at % item_size(entry.dtype) == 0) {
      tensors_.emplace_back(entry.name, Tensor::wrap(bytes, at, entry.shape, entry.dtype));
    } else {  // a header of odd length leaves the data unaligned: copy it to where it may be read
      Tensor copy = Tensor::empty(entry.shape, {.dtype = entry.dtype, .device = Device{}});
      if (entry.end > entry.begin)
        std::memcpy(copy.bytes(), bytes->data() + at, static_cast<std::size_t>(entry.end - entry.begin));
      tensors_.emplace_back(entry.name, copy);
    }
  }
}

bool SafetensorsFile::contains(std::string_view name) const {
  return std::any_of(tensors_.begin(), tensors_.end(), [&](const auto& entry) { return entry.first == name; });
}

const Tensor& SafetensorsFile::at(std::string_view name) const {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const auto& entry) { return entry.first == name; });
  require_input(found != tensors_.end(), "safetensors", "'{}' has no tensor '{}'", label_, name);
  return found->second;
}

std::uint64_t save_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                               const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> seen;
  std::int64_t position = 0;
  for (const auto& [name, tensor] : tensors) {
    require(seen.insert(name).second && name != "__metadata__", "safetensors", "two tensors are named '{}'", name);
    const std::int64_t bytes = tensor.numel() * item_size(tensor.dtype());
    header[name] = {{"dtype", format_name(tensor.dtype())},
                    {"shape", std::vector<std::int64_t>(tensor.shape().begin(), tensor.shape().end())},
                    {"data_offsets", {position, position + bytes}}};
    position += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // keeps the data aligned
  const std::uint64_t length = text.size();
  Checksum checksum;
  replace_file(path, [&](const ByteSink& sink) {
    const auto write = [&](const void* data, std::size_t bytes) {
      checksum.add(data, bytes);
      sink(data, bytes);
    };
    write(&length, sizeof(length));
    write(text.data(), text.size());
    for (const auto& [name, tensor] : tensors) {
      const Tensor values = moved(packed(tensor), Device{});
      write(values.bytes(), static_cast<std::size_t>(values.numel() * item_size(values.dtype())));
    }
  });
  return checksum.value();
}

}  // namespace sq
