#include "tools/compare_report.h"

#include "tensor/file.h"

namespace sq::compare {

void write_report(const std::filesystem::path& folder, const Store& store) {
  replace_file(folder / "results.csv", csv(store.records()));
}

}  // namespace sq::compare
