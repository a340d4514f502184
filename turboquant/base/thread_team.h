// SPDX-License-Identifier: Apache-2.0
// The threads of the process that share work with whoever calls: started when first wanted, kept
// until the process ends. Waiting threads look at memory for a moment, then sleep: steps of
// decoding come within microseconds of each other, but a thread that keeps its processor while
// another one of the team has none makes everybody late. (OpenMP's of GCC looks for 3 ms. Beside
// one busy process on 2 processors `lab run` took 62 s with it and 22 s with threads that sleep at
// once, alone 9 s either way.)
#pragma once

#include <cstdint>

namespace tq {

class ThreadTeam {
 public:
  // member(context, index, members) once for each index in [0, members).
  using Member = void (*)(void* context, int index, int members);

  // By up to `threads` threads, the calling one (index 0) among them; returns when all are done.
  // Within such a call, and while another thread makes one, the calling thread works alone.
  static void Run(int threads, Member member, void* context);

  // Processors that this process may use at a time, by its affinity and its control group's quota.
  static int Processors();
};

}  // namespace tq
