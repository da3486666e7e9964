// tools/compare/svg.h: the pieces that pictures are made of: text, colours that suit light and dark, markers.
#pragma once

#include <string>
#include <string_view>

namespace sq::compare {

/// & < > " as entities.
std::string escaped(std::string_view text);

/// Style rules for the classes below, for a page or a picture: light, and dark where the reader prefers that.
///   paper (background), ink, faint (text), grid, axis (lines), c0 … c11 (a contender's colour, as currentColor)
std::string style_rules();

/// The class of a contender's colour: twelve, then again from the first.
std::string colour_class(std::size_t contender);

/// A contender's marker around (x,y), filled in its colour: seven shapes, so that colour and shape together tell 84
/// apart.
std::string marker(std::size_t contender, double x, double y, double radius = 3.6);

enum class Anchor { start, middle, end };

/// Text of `size` pixels with its baseline at y. `kind`: ink or faint, or a colour class.
std::string text_at(double x, double y, std::string_view text, double size = 12, Anchor anchor = Anchor::start,
                    std::string_view kind = "ink", bool bold = false);

/// Roughly how wide a text of `size` pixels is.
double text_width(std::string_view text, double size);

/// A whole picture. `body` in coordinates 0 … width, 0 … height; with its own style rules when it stands alone.
std::string picture(double width, double height, std::string_view label, std::string_view body, bool alone);

}  // namespace sq::compare
