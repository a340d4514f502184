// SPDX-License-Identifier: Apache-2.0
#include "apps/interrupt.h"

#include <unistd.h>

#include <csignal>

#include "apps/exit_codes.h"

namespace tq::app {
namespace {

volatile std::sig_atomic_t interrupted = 0;

extern "C" void OnInterrupt(int) {
  if (interrupted) _exit(kExitInterrupted);
  interrupted = 1;
}

}  // namespace

void InstallInterruptHandler() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;  // no SA_RESTART: a read from the terminal must return
  sigaction(SIGINT, &action, nullptr);
  // A file size limit shall be an error of the write, like a full disk, not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
}

bool Interrupted() { return interrupted != 0; }

void ThrowIfInterrupted() {
  if (Interrupted()) Throw(ErrorCode::kCancelled, "interrupted");
}

void ClearInterrupt() { interrupted = 0; }

}  // namespace tq::app
