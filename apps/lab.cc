// SPDX-License-Identifier: Apache-2.0
// turboquant lab: experiments by name.
#include "apps/commands.h"
#include "apps/lab_commands.h"

namespace tq::app {

void AddLabCommand(CLI::App& root) {
  CLI::App* lab = root.add_subcommand("lab", "Experiments on the cache: what each part brings");
  lab->require_subcommand(1);
  AddAblationCommand(*lab);
}

}  // namespace tq::app
