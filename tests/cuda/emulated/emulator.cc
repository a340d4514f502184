// SPDX-License-Identifier: Apache-2.0
#include "emulator.h"

#include <ucontext.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "turboquant/base/error.h"

namespace tq::emulator {
namespace {

constexpr size_t kStack = 256 * 1024;

struct Barrier {
  int members = 0;
  int arrived = 0;
  int generation = 0;
};

struct Fiber {
  Thread thread;
  ucontext_t context;
  std::unique_ptr<std::byte[]> stack;
  bool done = false;
};

struct State {
  Block block;
  std::vector<Fiber> fibers;
  std::vector<Barrier> warps;
  std::vector<std::byte> slots;
  Barrier all;
  Barrier some[16];
  size_t current = 0;
  int idle = 0;  // hand-overs since a thread last got on
  int launches = 0;
  bool copies_early = false;  // this block's arrive when they are committed, not when waited for
  ucontext_t host;
  const std::function<void()>* kernel = nullptr;
};
State state;

void HandOver() {
  const size_t from = state.current;
  size_t to = from;
  do {
    to = (to + 1) % state.fibers.size();
  } while (state.fibers[to].done && to != from);
  if (to == from && state.fibers[to].done) {
    state.current = from;
    setcontext(&state.host);
  }
  TQ_CHECK(++state.idle < static_cast<int>(4 * state.fibers.size() + 64) &&
           "deadlock: every thread of the block waits");
  if (to == from) return;
  state.current = to;
  swapcontext(&state.fibers[from].context, &state.fibers[to].context);
}

void Meet(Barrier& barrier) {
  const int generation = barrier.generation;
  if (++barrier.arrived == barrier.members) {
    barrier.arrived = 0;
    ++barrier.generation;
    state.idle = 0;
    return;
  }
  while (barrier.generation == generation) HandOver();
}

// A thread that has ended is waited for no longer.
void Leave(Barrier& barrier) {
  --barrier.members;
  if (barrier.members > 0 && barrier.arrived == barrier.members) {
    barrier.arrived = 0;
    ++barrier.generation;
  }
}

void Start() {
  (*state.kernel)();
  Fiber& self = state.fibers[state.current];
  self.done = true;
  state.idle = 0;
  Leave(state.warps[static_cast<size_t>(self.thread.id / 32)]);
  Leave(state.all);
  for (;;) HandOver();
}

void RunBlock() {
  for (size_t i = 0; i < state.fibers.size(); ++i) {
    Fiber& fiber = state.fibers[i];
    fiber.thread = {};
    fiber.thread.id = static_cast<int>(i);
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, Start, 0);
  }
  for (Barrier& barrier : state.warps) barrier = {.members = 32};
  state.all = {.members = state.block.threads};
  state.current = 0;
  state.idle = 0;
  volatile bool started = false;
  getcontext(&state.host);
  if (!started) {
    started = true;
    setcontext(&state.fibers[0].context);
  }
}

template <class Copies>
void Deliver(const Copies& copies) {
  for (const Copy& copy : copies) {
    std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    std::memset(copy.to + copy.bytes, 0, static_cast<size_t>(copy.size - copy.bytes));
  }
}

}  // namespace

Thread& Self() { return state.fibers[state.current].thread; }
const Block& Current() { return state.block; }
std::byte* WarpSlots() {
  return state.slots.data() + static_cast<size_t>(Self().id / 32 * 32 * kSlotBytes);
}
void MeetWarp() { Meet(state.warps[static_cast<size_t>(Self().id / 32)]); }
void MeetBlock() { Meet(state.all); }
void MeetSome(int barrier, int threads) {
  Barrier& some = state.some[barrier];
  TQ_CHECK(barrier > 0 && barrier < 16 && (some.arrived == 0 || some.members == threads));
  some.members = threads;
  Meet(some);
}

void CommitCopies() {
  if (state.copies_early) Deliver(Self().copies);
  Self().groups.push_back(std::move(Self().copies));
  Self().copies.clear();
}

void WaitCopies(int pending) {
  Thread& self = Self();
  while (static_cast<int>(self.groups.size()) > pending) {
    if (!state.copies_early) Deliver(self.groups.front());
    self.groups.pop_front();
  }
}

void Run(int blocks, int threads, int shared_bytes, const std::function<void()>& kernel) {
  TQ_CHECK(threads % 32 == 0);
  state.fibers.resize(static_cast<size_t>(threads));
  for (Fiber& fiber : state.fibers) {
    if (fiber.stack == nullptr) fiber.stack = std::make_unique<std::byte[]>(kStack);
  }
  state.warps.resize(static_cast<size_t>(threads / 32));
  state.slots.resize(static_cast<size_t>(threads * kSlotBytes));
  // As found on a device: full of something, here NaNs.
  const auto size = static_cast<size_t>(shared_bytes + 256);
  std::vector<std::byte> shared(size, std::byte{0xff});
  const auto address = reinterpret_cast<uintptr_t>(shared.data());
  state.block = {0, blocks, threads, shared.data() + (128 - address % 128)};
  state.kernel = &kernel;
  for (int block = 0; block < blocks; ++block) {
    state.block.block = block;
    state.copies_early = (block + state.launches / 2) % 2 != 0;
    RunBlock();
  }
  ++state.launches;
}

}  // namespace tq::emulator
