// autograd/grad_mode.h: whether operations are recorded, and how closely they are watched.
#pragma once

namespace sq {

/// True (the default) while operations on tensors that need gradients are recorded on the tape. Per thread.
bool grad_enabled();

/// Switches recording off, or back on, for the life of the object.
class GradMode {
 public:
  explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool before_;
};

/// No recording while alive: evaluation, generation, optimizer steps.
struct NoGrad : GradMode {
  NoGrad() : GradMode(false) {}
};

/// True inside an AnomalyMode: every recorded operation then checks its result, and every backward its gradients; the
/// first that turns finite inputs into a NaN or an infinity throws Error with its name. Slow; for finding the culprit.
bool anomaly_mode();

class AnomalyMode {
 public:
  AnomalyMode();
  ~AnomalyMode();
  AnomalyMode(const AnomalyMode&) = delete;
  AnomalyMode& operator=(const AnomalyMode&) = delete;

 private:
  bool before_;
};

}  // namespace sq
