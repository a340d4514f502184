// SPDX-License-Identifier: Apache-2.0
// The subcommands of `turboquant`, one .cc each. A command throws tq::Error; main turns it into a
// line and an exit code.
#pragma once

#include <CLI/CLI.hpp>

namespace tq::app {

void AddRunCommand(CLI::App& root);
void AddChatCommand(CLI::App& root);
void AddCompareCommand(CLI::App& root);
void AddPerplexityCommand(CLI::App& root);
void AddRecommendCommand(CLI::App& root);
void AddBenchCommand(CLI::App& root);
void AddInspectCommand(CLI::App& root);
void AddLabCommand(CLI::App& root);
void AddTokenizeCommand(CLI::App& root);
void AddCalibrateCommand(CLI::App& root);
void AddFetchCommand(CLI::App& root);
void AddDoctorCommand(CLI::App& root);

}  // namespace tq::app
