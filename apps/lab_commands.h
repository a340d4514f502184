// SPDX-License-Identifier: Apache-2.0
// The subcommands of `turboquant lab`, one .cc each.
#pragma once

#include <CLI/CLI.hpp>

namespace tq::app {

void AddLabListCommand(CLI::App& lab);
void AddLabRunCommand(CLI::App& lab);
void AddLabReportCommand(CLI::App& lab);
void AddAblationCommand(CLI::App& lab);
void AddNeedleCommand(CLI::App& lab);
void AddTrajectoryCommand(CLI::App& lab);

}  // namespace tq::app
