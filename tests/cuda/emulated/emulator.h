// SPDX-License-Identifier: Apache-2.0
// Runs a kernel's blocks one after the other, each block's threads as coroutines of one host
// thread. Threads that wait at a barrier hand over to the next; if all wait and none can go on, the
// kernel has a deadlock and the program aborts.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <vector>

namespace tq::emulator {

inline constexpr int kSlotBytes = 32;  // the largest value of a warp operation

struct Copy {
  std::byte* to;
  const std::byte* from;
  int bytes;
  int size;  // zeros behind `bytes`
};

struct Thread {
  int id = 0;
  std::vector<Copy> copies;              // not committed yet
  std::deque<std::vector<Copy>> groups;  // in flight
};

struct Block {
  int block = 0;
  int blocks = 0;
  int threads = 0;
  std::byte* shared = nullptr;
};

Thread& Self();
const Block& Current();
std::byte* WarpSlots();  // 32 x kSlotBytes of the caller's warp
void MeetWarp();
void MeetBlock();
void MeetSome(int barrier, int threads);  // barrier: 1 .. 15
void CommitCopies();
void WaitCopies(int pending);

void Run(int blocks, int threads, int shared_bytes, const std::function<void()>& kernel);

}  // namespace tq::emulator
