// SPDX-License-Identifier: Apache-2.0
// The subcommands of `turboquant lab`, one .cc each.
#pragma once

#include "apps/command_line.h"

namespace tq::app {

void AddLabListCommand(Command lab);
void AddLabRunCommand(Command lab);
void AddLabReportCommand(Command lab);
void AddAblationCommand(Command lab);
void AddNeedleCommand(Command lab);
void AddTrajectoryCommand(Command lab);

}  // namespace tq::app
