// SPDX-License-Identifier: Apache-2.0
// What `lab needle` found, for a reader, a program, and as a picture.
#pragma once

#include <string>

#include "apps/needle_run.h"

namespace tq::app {

void PrintNeedleTable(const NeedleRun& run);
void PrintNeedleJson(const NeedleRun& run);
std::string NeedleSvg(const NeedleRun& run);  // of each cache and task, context by depth

}  // namespace tq::app
