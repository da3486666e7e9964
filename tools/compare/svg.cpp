#include "tools/compare/svg.h"

#include <fmt/format.h>

#include <array>

namespace sq::compare {
namespace {

struct Colour {
  const char *light, *dark;
};
constexpr std::array<Colour, 12> kColours{{{"#1f6fb4", "#6db3f2"},
                                           {"#d9580d", "#ff9a57"},
                                           {"#1b8a4b", "#5fd08c"},
                                           {"#c22f4b", "#ff7b8d"},
                                           {"#7b4fb8", "#b796f0"},
                                           {"#0f8f9c", "#4fd0dc"},
                                           {"#d0489b", "#f58fd0"},
                                           {"#8a5a2b", "#c99a6b"},
                                           {"#5c6670", "#a9b2bc"},
                                           {"#9a8600", "#d6c34a"},
                                           {"#3b3fb0", "#9297ff"},
                                           {"#5fa510", "#a5e05a"}}};

/// Corners of the markers around (0,0) with radius 1; the first is a circle and has none.
constexpr std::array<const char*, 7> kShapes{"",
                                             "-.9,-.9 .9,-.9 .9,.9 -.9,.9",
                                             "0,-1.2 1.1,.8 -1.1,.8",
                                             "0,-1.3 1.3,0 0,1.3 -1.3,0",
                                             "0,1.2 1.1,-.8 -1.1,-.8",
                                             "-.4,-1.2 .4,-1.2 .4,-.4 1.2,-.4 1.2,.4 .4,.4 .4,1.2 -.4,1.2 -.4,.4 "
                                             "-1.2,.4 -1.2,-.4 -.4,-.4",
                                             "0,-1.25 1.2,-.3 .75,1.1 -.75,1.1 -1.2,-.3"};

}  // namespace

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '"')
      result += "&quot;";
    else
      result += c;
  }
  return result;
}

std::string style_rules() {
  std::string light =
      ".paper{fill:#ffffff}.ink{fill:#1b1f24}.faint{fill:#59636e}.grid{stroke:#e4e7eb}.axis{stroke:#8a939d}";
  std::string dark =
      ".paper{fill:#14181d}.ink{fill:#e8ebee}.faint{fill:#a3adb8}.grid{stroke:#2b323a}.axis{stroke:#6d7883}";
  for (std::size_t i = 0; i < kColours.size(); ++i) {
    light += fmt::format(".c{}{{color:{}}}", i, kColours[i].light);
    dark += fmt::format(".c{}{{color:{}}}", i, kColours[i].dark);
  }
  return light + "@media (prefers-color-scheme:dark){" + dark + "}";
}

std::string colour_class(std::size_t contender) { return fmt::format("c{}", contender % kColours.size()); }

std::string marker(std::size_t contender, double x, double y, double radius) {
  const char* shape = kShapes[contender % kShapes.size()];
  const std::string attributes = fmt::format("class=\"{}\" fill=\"currentColor\"", colour_class(contender));
  if (*shape == 0)
    return fmt::format("<circle {} cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"/>", attributes, x, y, radius);
  return fmt::format("<polygon {} transform=\"translate({:.1f} {:.1f}) scale({:.1f})\" points=\"{}\"/>", attributes, x,
                     y, radius, shape);
}

std::string text_at(double x, double y, std::string_view text, double size, Anchor anchor, std::string_view kind,
                    bool bold) {
  constexpr std::array names{"start", "middle", "end"};
  const bool own_colour = kind != "ink" && kind != "faint";
  return fmt::format(
      "<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{:.0f}\" text-anchor=\"{}\"{}{}>{}</text>", kind, x, y,
      size, names[static_cast<std::size_t>(anchor)], bold ? " font-weight=\"600\"" : "",
      own_colour ? " fill=\"currentColor\"" : "", escaped(text));
}

double text_width(std::string_view text, double size) {
  std::size_t letters = 0;
  for (const char c : text) letters += (static_cast<unsigned char>(c) & 0xC0u) != 0x80u ? 1 : 0;  // of UTF-8
  return 0.57 * size * static_cast<double>(letters);
}

std::string picture(double width, double height, std::string_view label, std::string_view body, bool alone) {
  return fmt::format(
      "<svg{6} viewBox=\"0 0 {0:.0f} {1:.0f}\" {2} role=\"img\" aria-label=\"{3}\" "
      "font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\">{4}<rect class=\"paper\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\"/>{5}</svg>",
      width, height, alone ? fmt::format("width=\"{:.0f}\" height=\"{:.0f}\"", width, height) : "width=\"100%\"",
      escaped(label), alone ? "<style>" + style_rules() + "</style>" : "", body,
      alone ? " xmlns=\"http://www.w3.org/2000/svg\"" : "");
}

}  // namespace sq::compare
