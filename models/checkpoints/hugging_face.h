// models/checkpoints/hugging_face.h: the weights of a Hugging Face model folder.
#pragma once

#include "tensor/safetensors.h"

#include <filesystem>

namespace sq {

/// All tensors of `model.safetensors`, or of the files that `model.safetensors.index.json` names, as read-only windows
/// on the mapped files. Throws UsageError naming what is missing or wrong: no weights (pickles such as
/// pytorch_model.bin can run any program when they are opened and are refused), an index that is not {"weight_map":
/// {tensor: file}}, names a file outside the folder, or does not agree with the files.
NamedTensors read_hugging_face_weights(const std::filesystem::path& folder);

}  // namespace sq
