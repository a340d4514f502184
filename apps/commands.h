// SPDX-License-Identifier: Apache-2.0
// The subcommands of `turboquant`, one .cc each. A command throws tq::Error; main turns it into a
// line and an exit code.
#pragma once

#include "apps/command_line.h"

namespace tq::app {

void AddRunCommand(Command root);
void AddChatCommand(Command root);
void AddCompareCommand(Command root);
void AddPerplexityCommand(Command root);
void AddRecommendCommand(Command root);
void AddBenchCommand(Command root);
void AddInspectCommand(Command root);
void AddLabCommand(Command root);
void AddTokenizeCommand(Command root);
void AddCalibrateCommand(Command root);
void AddCodecCommand(Command root);
void AddDumpKvCommand(Command root);
void AddFetchCommand(Command root);
void AddDoctorCommand(Command root);

}  // namespace tq::app
