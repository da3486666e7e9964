// tools/compare/report.h: the results of a comparison as a page, a picture and a table.
#pragma once

#include "tools/compare/store.h"

namespace sq::compare {

/// Writes results.csv, report.html and report.svg into the folder, each replaced whole.
void write_report(const std::filesystem::path& folder, const Store& store);

}  // namespace sq::compare
