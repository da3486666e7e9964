#include "autograd/grad_mode.h"

namespace sq {
namespace {
thread_local bool recording = true;
thread_local bool watching = false;
}  // namespace

bool grad_enabled() { return recording; }
GradMode::GradMode(bool enabled) : before_(recording) { recording = enabled; }
GradMode::~GradMode() { recording = before_; }

bool anomaly_mode() { return watching; }
AnomalyMode::AnomalyMode() : before_(watching) { watching = true; }
AnomalyMode::~AnomalyMode() { watching = before_; }

}  // namespace sq
