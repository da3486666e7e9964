// train/data/default_corpus.h: text to train on when none is given.
#pragma once

#include <string_view>

namespace sq {

/// The project's own documents and the sources of the rooms tensor to models, put into the binary at build time by
/// train/data/embed.cpp: UTF-8, at most 1.5 MB, the same for every build of the same sources.
std::string_view default_corpus();

}  // namespace sq
