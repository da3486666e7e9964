// subquad compare: what it measures and writes, going on after a stop, and what it refuses.
#include "nn/mixers/registry.h"
#include "tests/tools/run_tool.h"
#include "tools/compare/axis.h"
#include "tools/compare/fit.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>
#include <signal.h>
#include <sstream>
#include <thread>
#include <unistd.h>

using namespace sq;
using namespace sq::test;
using nlohmann::json;

namespace {

const std::string kTiny =
    "compare --hidden-size 16 --heads 2 --layers 1 --vocab-size 32 --runs 1 --decode-tokens 2 --context 16 "
    "--train-batch-size 2 --task-batch-size 2 --quiet ";

std::vector<json> json_lines(const std::string& text) {
  std::vector<json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  return lines;
}

/// Fields of each row, quotes as RFC 4180 says.
std::vector<std::vector<std::string>> csv_rows(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, {""});
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' && quoted && i + 1 < text.size() && text[i + 1] == '"')
      rows.back().back() += text[++i];
    else if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      rows.back().emplace_back();
    else if (c == '\n' && !quoted)
      rows.push_back({""});
    else if (c != '\r')
      rows.back().back() += c;
  }
  rows.pop_back();
  return rows;
}

/// Every tag is closed in order, attributes are quoted, and & begins an entity.
void check_well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (std::size_t at = 0; at < xml.size(); ++at) {
    if (xml[at] == '&') CHECK(xml.find(';', at) - at < 8);
    if (xml[at] != '<') continue;
    const std::size_t end = xml.find('>', at);
    REQUIRE(end != std::string::npos);
    const std::string tag = xml.substr(at + 1, end - at - 1);
    CHECK(tag.find('<') == std::string::npos);
    CHECK(std::count(tag.begin(), tag.end(), '"') % 2 == 0);
    const std::string name = tag.substr(tag[0] == '/' ? 1 : 0, tag.find_first_of(" />", 1) - (tag[0] == '/' ? 1 : 0));
    if (tag[0] == '/') {
      REQUIRE(!open.empty());
      CHECK(open.back() == tag.substr(1));
      open.pop_back();
    } else if (tag.back() != '/' && tag != "br") {
      open.push_back(name);
    }
    at = end;
  }
  CHECK(open.empty());
}

std::string without(std::string text, const std::string& part) {
  for (std::size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
  return text;
}

}  // namespace

TEST_CASE("compare: labels stand apart and stay inside where they can") {
  using sq::compare::spread;
  CHECK(spread({10, 50, 90}, 12, 0, 100) == std::vector<double>{10, 50, 90});
  CHECK(spread({50, 50, 51}, 10, 0, 100) == std::vector<double>{50, 60, 70});
  CHECK(spread({99, 98, 20}, 10, 0, 100) == std::vector<double>{100, 90, 20});
  CHECK(sq::compare::written(0.0123, sq::compare::Unit::milliseconds) == "12.3 µs");
  CHECK(sq::compare::written(1500, sq::compare::Unit::milliseconds) == "1.5 s");
  CHECK(sq::compare::written(2'500'000, sq::compare::Unit::bytes) == "2.5 MB");
  const sq::compare::Axis axis({64, 4096}, true, 0, 100);
  CHECK(axis.pixel(512) == doctest::Approx(50));
  for (const double tick : axis.ticks()) CHECK(axis.holds(tick));
}

TEST_CASE("compare: exponents of made-up costs") {
  using namespace sq::compare;
  const auto fit = [](auto cost, std::vector<double> lengths) {
    std::vector<std::pair<double, double>> points;
    for (const double n : lengths) points.emplace_back(n, cost(n));
    return fit_growth(points);
  };
  const auto square = fit([](double n) { return 3e-6 * n * n; }, {1024, 64, 256});
  REQUIRE(square);
  CHECK(square->exponent == doctest::Approx(2));
  CHECK(square->r_squared == doctest::Approx(1));
  CHECK(square->error == doctest::Approx(0));
  CHECK(square->points == 3);
  CHECK(square->first == 64);
  CHECK(square->last == 1024);
  // The larger half counts: what does not grow hides the growth of short lengths.
  const auto offset = fit([](double n) { return 1e4 + n; }, {64, 256, 1024, 4096, 1 << 20, 1 << 22, 1 << 24, 1 << 26});
  CHECK(offset->points == 4);
  CHECK(offset->exponent == doctest::Approx(1).epsilon(0.01));
  const auto constant = fit([](double) { return 7.0; }, {1, 2, 4});
  CHECK(constant->exponent == doctest::Approx(0));
  CHECK(constant->r_squared == doctest::Approx(1));
  // Noise of one point: ln cost is x + (0, 0.3, 0) at x = 0, 1, 2 ln 2 units; the line then has a residual.
  const auto noisy = fit([](double n) { return n == 2 ? 2 * std::exp(0.3) : n; }, {1, 2, 4});
  CHECK(noisy->exponent == doctest::Approx(1));
  CHECK(noisy->r_squared < 1);
  CHECK(noisy->error > 0);
  CHECK(!fit([](double n) { return n; }, {1, 2}));
  CHECK(!fit([](double n) { return n > 2 ? n : 0; }, {1, 2, 4, 8}));
  CHECK(growth_text(fit([](double n) { return n; }, {1, 2})) == "too few points");
  CHECK(growth_text(square) == "N^2.00 ± 0.00 (R² 1.000, 3 points)");
}

TEST_CASE("compare: every mixer is measured, checked and trained, and the results are complete") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "out";
  const ToolResult result = run_tool(kTiny + "--n 8,16,24 --train 2 --json --out " + out.string());
  CAPTURE(result.err);
  REQUIRE(result.status == 0);
  const std::vector<json> records = json_lines(result.out);
  std::set<std::string> seen;
  for (const json& record : records) {
    const std::string mixer = record["mixer"], work = record["work"];
    CAPTURE(record.dump());
    CHECK(!record.contains("failed"));
    seen.insert(mixer + " " + work + (record.contains("n") ? " " + record["n"].dump() : ""));
    if (work == "model") CHECK(std::abs(record["excess"].get<double>()) <= 0.02);
    if (work == "causality") CHECK(record["moved"] == 0);
    if (work == "causality") CHECK(record["reach"] > 0);
    if (work == "step_equals_forward" && !record.contains("skipped")) CHECK(record["equal"] == true);
    if (work == "forward") CHECK((record["flops"] > 0 && record["peak_bytes"] > 0 && record["state_bytes"] > 0));
    if (work == "train_step") CHECK((record["ms"] > 0 && record["min_ms"] <= record["ms"]));
    if (work == "text") CHECK((record["val_loss"] > 0 && record["curve"].size() == 2));
    if (work == "task") CHECK((record["accuracy"] >= 0 && record["accuracy"] <= 1));
  }
  for (const MixerEntry* entry : mixer_registry())
    for (const char* work :
         {"model", "causality", "step_equals_forward", "forward 8", "train_step 16", "decode 24", "text", "task"})
      CHECK(seen.count(std::string(entry->name) + " " + work) == 1);

  const auto rows = csv_rows(read_file(out / "results.csv"));
  CHECK(rows.size() == records.size() + 1);
  for (const auto& row : rows) CHECK(row.size() == rows[0].size());
  CHECK(rows[0][0] == "mixer");
  CHECK(std::any_of(rows.begin(), rows.end(), [](const auto& row) { return row[3] == "mqar:vocab_size=64,pairs=4"; }));

  const std::string page = read_file(out / "report.html"), drawing = read_file(out / "report.svg");
  for (const char* reference : {"http", "src=", "href", "url(", "@import", "<script", "<link", "<img"})
    CHECK(page.find(reference) == std::string::npos);
  CHECK(without(drawing, "http://www.w3.org/2000/svg").find("http") == std::string::npos);
  check_well_formed(drawing);
  for (std::size_t begin = 0; (begin = page.find("<svg", begin)) != std::string::npos; ++begin)
    check_well_formed(page.substr(begin, page.find("</svg>", begin) + 6 - begin));
  check_well_formed(page.substr(page.find("<body>"), page.find("</body>") + 7 - page.find("<body>")));
  for (const MixerEntry* entry : mixer_registry())
    for (const std::string& text : {page, drawing})
      CHECK(text.find(">" + std::string(entry->name)) != std::string::npos);
  for (const char* title :
       {"Forward pass", "Training step", "Decoding", "Memory of a training step", "Decoding state", "Loss on text",
        "Right answers: needle", "Right answers: mqar", "vocab_size=64 pairs=4, after"})
    for (const std::string& text : {page, drawing}) CHECK(text.find(title) != std::string::npos);
  CHECK(page.find("subquad compare --mixers") == std::string::npos);
  CHECK(page.find("<code>subquad compare --n 8 16 24") != std::string::npos);
  CHECK(page.find("prefers-color-scheme:dark") != std::string::npos);
}

TEST_CASE("compare: the same command goes on, more mixers and lengths are added, other settings are refused") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "out", file = out / "results.jsonl";
  const std::string start = kTiny + "--mixers dense --out " + out.string();
  REQUIRE(run_tool(start + " --n 8,16").status == 0);
  const std::string whole = read_file(file);
  // As after a kill in the middle of a line: the unfinished measurement is made again, the others are kept.
  const std::size_t lines = json_lines(whole).size();
  replace_file(file, whole.substr(0, whole.size() - 5));
  REQUIRE(run_tool(start + " --n 8,16").status == 0);
  std::string again = read_file(file);
  CHECK(json_lines(again).size() == lines + 1);  // the second command
  CHECK(again.starts_with(whole.substr(0, whole.rfind('\n', whole.size() - 2) + 1)));
  CHECK(json_lines(again).back()["work"] == "decode");

  REQUIRE(run_tool(start + " --n 8,24").status == 0);
  CHECK(json_lines(read_file(file)).size() == lines + 1 + 1 + 3);
  REQUIRE(run_tool(kTiny + "--mixers dense,dense+dense --n 8 --out " + out.string()).status == 0);
  check_refused(start + " --n 8 --seed 7",
                "holds results of other settings (seed: 42 → 7); give the same ones or another --out");
  check_refused(start + " --n 8 --lr 0.1", "learning_rate: 0.002 → 0.1");
  std::filesystem::remove(out / "results.csv");
  REQUIRE(run_tool("compare --report-only --out " + out.string()).status == 0);
  CHECK(std::filesystem::exists(out / "results.csv"));
}

TEST_CASE("compare: a comparison that is interrupted reports what it has, and goes on") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "out", file = out / "results.jsonl";
  const std::string command =
      kTiny + "--mixers dense --n 8 --train 1000000 --task needle --task-steps 1 --out " + out.string();
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", fmt::format("exec '{}' {} >/dev/null 2>&1", SUBQUAD_TOOL, command).c_str(), nullptr);
    ::_exit(127);
  }
  const auto finished = [&]() -> std::ptrdiff_t {
    if (!std::filesystem::exists(file)) return 0;
    const std::string text = read_file(file);
    return std::count(text.begin(), text.end(), '\n');
  };
  for (int wait = 0; wait < 3000 && finished() < 8; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ::kill(child, SIGINT);
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  CHECK(finished() == 8);  // settings, command, three of the model and three of one length
  CHECK(read_file(out / "report.html").find("Forward pass") != std::string::npos);
  CHECK(read_file(out / "report.html").find("Loss on text") == std::string::npos);
}

TEST_CASE("compare: bad input is refused and nothing is written") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "out";
  const std::string start = kTiny + "--out " + out.string() + " ";
  check_refused(start + "--mixers dense,dens --n 8", "--mixers is 'dens' but must be one of ");
  check_refused(start + "--n 0", "--n: a length of 0 is not possible; use 1 or more");
  check_refused(start + "--n 8,many", "--n");
  check_refused(start + "--n 8 --set dense.num_heads=3 --mixers dense", "compare: dense: ");
  check_refused(start + "--n 8 --set dense.nmu_heads=2 --mixers dense", "did you mean 'num_heads'?");
  check_refused(start + "--n 8 --set halo.x=2 --mixers dense", "must have the form MIXER.key=value");
  check_refused(start + "--n 8 --set dense --mixers dense", "must have the form MIXER.key=value");
  check_refused(start + "--n 8 --data x.txt", "it is for training; give --train STEPS too");
  check_refused(start + "--n 8 --train 2 --data /nowhere.txt", "/nowhere.txt");
  check_refused(start + "--n 8 --task mqar", "for how long? give --train STEPS or --task-steps N");
  check_refused(start + "--n 8 --task-steps 2 --task mqar:pairs=99", "so 4·pairs <= length");
  check_refused(start + "--n 8 --task-steps 2 --task recall", "must be one of copy, needle, mqar");
  check_refused(start + "--n 8 --seconds -1", "--seconds: -1 is not possible; use 0 or more");
  check_refused("compare --report-only --out " + out.string(), "holds no results.jsonl");
  CHECK(!std::filesystem::exists(out));
  replace_file(out, "a file");
  check_refused(start + "--n 8", "is a file; give a folder");
}
