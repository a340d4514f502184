// SPDX-License-Identifier: Apache-2.0
// turboquant lab: published experiments, and our own: ablation, retrieval.
#include "apps/commands.h"
#include "apps/lab_commands.h"

namespace tq::app {

void AddLabCommand(Command root) {
  const Command lab = root.AddCommand("lab", "Experiments on the cache: what each part brings");
  lab.RequireCommand();
  AddLabListCommand(lab);
  AddLabRunCommand(lab);
  AddLabReportCommand(lab);
  AddAblationCommand(lab);
  AddNeedleCommand(lab);
  AddTrajectoryCommand(lab);
}

}  // namespace tq::app
