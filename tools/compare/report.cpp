#include "tools/compare/report.h"

#include "tensor/file.h"
#include "tools/compare/figures.h"
#include "tools/compare/page.h"

namespace sq::compare {

void write_report(const std::filesystem::path& folder, const Store& store) {
  std::vector<Json> records = store.records();
  for (Json& fit : growth_records(store)) records.push_back(std::move(fit));
  replace_file(folder / "results.csv", csv(records));
  replace_file(folder / "report.html", report_page(store));
  replace_file(folder / "report.svg", figures_picture(store));
}

}  // namespace sq::compare
