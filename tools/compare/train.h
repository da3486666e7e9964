// tools/compare/train.h: what a contender learns in a number of steps, of a text and of made-up tasks.
#pragma once

#include "tools/compare/measure.h"

#include <functional>

namespace sq::compare {

/// Told of each step while training: how many of how many.
using OnStep = std::function<void(std::int64_t step, std::int64_t last)>;

/// settings.train_steps on settings.data, or on the embedded corpus, read as bytes: {steps, curve, val_loss, seconds}.
/// The curve holds [step, smoothed training loss] at forty steps or so; val_loss is in nats per byte, on text kept
/// back.
Json train_on_text(const Settings& settings, const Contender& contender, const Stop& stop, const OnStep& on_step);

/// settings.task_steps on fresh samples of the task: {steps, curve, accuracy, val_loss, seconds}. The curve holds
/// [step, accuracy] at ten steps or so; all accuracies are over 400 samples that are never trained on.
Json train_on_task(const Settings& settings, const Contender& contender, const TaskSpec& spec, const Stop& stop,
                   const OnStep& on_step);

/// Throws UsageError when settings.data cannot be trained on.
void check_training_data(const Settings& settings);

}  // namespace sq::compare
