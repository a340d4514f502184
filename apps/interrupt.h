// SPDX-License-Identifier: Apache-2.0
// Ctrl-C as a flag that long work looks at between steps. A second Ctrl-C ends the process at once.
#pragma once

namespace tq::app {

void InstallInterruptHandler();
bool Interrupted();
void ThrowIfInterrupted();  // Error(kCancelled)
void ClearInterrupt();      // an interactive command handled it

}  // namespace tq::app
