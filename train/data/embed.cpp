// train/data/embed.cpp: build-time program that turns the project's documents and sources into one C++ string.
//
// embed OUTPUT DEPFILE ROOT writes OUTPUT, the definition of default_corpus(), and DEPFILE, which tells Ninja the files
// and folders it read, so that the corpus follows them. It finds the files itself, in a fixed order: README.md, the
// Markdown files of docs, then headers and sources room by room. Files that would make the corpus larger than 1.5 MB
// are left out and named. It stands alone, as it runs before the library is built.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kLargestCorpus = 1'500'000;  // bytes: the stripped tool must stay below 8 MB

struct Found {
  std::vector<fs::path> files, folders;
};

bool wanted(const fs::path& file, bool sources) {
  const std::string extension = file.extension().string();
  return sources ? extension == ".h" || extension == ".cpp" : extension == ".md";
}

void find_files(const fs::path& folder, bool sources, Found& found) {
  if (!fs::is_directory(folder)) return;
  std::vector<fs::path> files;
  found.folders.push_back(folder);
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory()) found.folders.push_back(entry.path());
    if (entry.is_regular_file() && wanted(entry.path(), sources)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  found.files.insert(found.files.end(), files.begin(), files.end());
}

std::string read(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot read " + file.string());
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  text.erase(std::remove(text.begin(), text.end(), '\r'), text.end());
  if (text.find('\0') != std::string::npos) throw std::runtime_error(file.string() + " is no text");
  return text;
}

/// The text as C++ string literals, a line each.
std::string as_literals(const std::string& text) {
  std::string out = "\"";
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (character == '\n') {
      out += "\\n\"\n\"";
    } else if (character == '"' || character == '\\') {
      out += {'\\', character};
    } else if (byte >= 0x20 && byte < 0x7F) {
      out += character;
    } else {
      char escape[5];  // three octal digits end an escape, whatever follows
      std::snprintf(escape, sizeof(escape), "\\%03o", byte);
      out += escape;
    }
  }
  return out + "\"";
}

std::string for_depfile(const fs::path& path) {
  std::string out;
  for (const char character : path.string()) {
    if (character == ' ' || character == '#') out += '\\';
    out += character;
  }
  return out;
}

void write(const fs::path& file, const std::string& text) {
  std::ofstream stream(file, std::ios::binary);
  stream << text;
  if (!stream.flush()) throw std::runtime_error("cannot write " + file.string());
}

void embed(const fs::path& output, const fs::path& depfile, const fs::path& root) {
  Found found;
  if (fs::exists(root / "README.md")) found.files.push_back(root / "README.md");
  find_files(root / "docs", false, found);
  for (const char* room : {"tensor", "autograd", "ops", "nn", "models"}) find_files(root / room, true, found);

  std::string corpus, dependencies = for_depfile(output) + ":";
  for (const fs::path& file : found.files) {
    const std::string text = read(file);
    dependencies += " \\\n  " + for_depfile(file);
    if (corpus.size() + text.size() + 1 > kLargestCorpus) {
      std::cerr << "embed: " << file << " does not fit into the default corpus\n";
      continue;
    }
    corpus += (corpus.empty() ? "" : "\n") + text;
  }
  for (const fs::path& folder : found.folders) dependencies += " \\\n  " + for_depfile(folder);

  write(output,
        "#include \"train/data/default_corpus.h\"\n\n#pragma GCC diagnostic ignored \"-Woverlength-strings\"\n\n"
        "namespace sq {\n\nstd::string_view default_corpus() {\n  static constexpr char kText[] =\n" +
            as_literals(corpus) + ";\n  return {kText, sizeof(kText) - 1};\n}\n\n}  // namespace sq\n");
  write(depfile, dependencies + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw std::runtime_error("usage: embed OUTPUT DEPFILE ROOT");
    embed(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "embed: " << error.what() << '\n';
    return 1;
  }
}
