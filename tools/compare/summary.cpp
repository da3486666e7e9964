#include "tools/compare/summary.h"

#include <algorithm>

namespace sq::compare {

std::vector<std::string> values_of(const Store& store, const char* text) {
  std::vector<std::string> values;
  for (const Json& record : store.records()) {
    const std::string value = record.value(text, "");
    if (!value.empty() && std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  return values;
}

std::optional<double> number(const Json* record, const char* key) {
  if (!record) return std::nullopt;
  const auto found = record->find(key);
  return found != record->end() && found->is_number() ? std::optional(found->get<double>()) : std::nullopt;
}

std::vector<std::pair<double, double>> points(const Store& store, const std::string& mixer, const std::string& work,
                                              const char* quantity) {
  std::vector<std::pair<double, double>> result;
  for (const Json& record : store.records()) {
    const Key key = key_of(record);
    const std::optional<double> value = number(&record, quantity);
    if (key.mixer == mixer && key.work == work && key.n > 0 && value)
      result.emplace_back(static_cast<double>(key.n), *value);
  }
  std::sort(result.begin(), result.end());
  return result;
}

std::optional<Growth> growth(const Store& store, const std::string& mixer, const GrowthKind& kind) {
  return fit_growth(points(store, mixer, kind.work, kind.quantity));
}

std::vector<Json> growth_records(const Store& store) {
  std::vector<Json> records;
  for (const std::string& mixer : values_of(store, "mixer"))
    for (const GrowthKind& kind : kGrowths) {
      Json record{{"mixer", mixer}, {"work", kind.name}};
      if (const auto fit = growth(store, mixer, kind))
        record.update({{"exponent", fit->exponent},
                       {"exponent_error", fit->error},
                       {"r_squared", fit->r_squared},
                       {"points", fit->points}});
      else
        record["skipped"] = "too few points";
      records.push_back(std::move(record));
    }
  return records;
}

}  // namespace sq::compare
