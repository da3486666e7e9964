// tools/compare/page.h: the report as one HTML page that needs nothing else: no script, no font, no link.
#pragma once

#include "tools/compare/summary.h"

namespace sq::compare {

std::string report_page(const Store& store);

}  // namespace sq::compare
