// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/thread_team.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>

namespace tq {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kLooking = std::chrono::microseconds(100);
constexpr int kLooksPerClock = 64;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits for `value` to be another one than `old`, and returns it.
template <typename T>
T AwaitChange(const std::atomic<T>& value, T old, bool look) {
  for (const auto end = Clock::now() + kLooking; look && Clock::now() < end;) {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (const T now = value.load(); now != old) return now;
      Pause();
    }
  }
  for (;;) {
    if (const T now = value.load(); now != old) return now;
    value.wait(old);
  }
}

int ProcessorsByAffinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

// Microseconds of processor time in each `period`; false if there is no limit.
bool ReadQuota(double& quota, double& period) {
  std::string text;
  if (std::ifstream both("/sys/fs/cgroup/cpu.max"); both >> text >> period) {
    if (text == "max") return false;
    quota = std::strtod(text.c_str(), nullptr);
    return true;
  }
  std::ifstream first("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream second("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  return first >> quota && second >> period;
}

class Team {
 public:
  static Team& Get() {
    static Team& team = *new Team;  // never destroyed: its threads may wait until the very end
    return team;
  }

  void Run(int threads, ThreadTeam::Member member, void* context) {
    if (threads <= 1 || busy_.test_and_set()) return member(context, 0, 1);
    const int members = 1 + Grow(threads - 1);
    member_ = member;
    context_ = context;
    at_work_ = members - 1;
    call_ = (call_.load() / kMostMembers + 1) * kMostMembers + static_cast<uint64_t>(members);
    call_.notify_all();
    member(context, 0, members);
    for (int left = at_work_; left > 0;) left = AwaitChange(at_work_, left, Looks());
    busy_.clear();
  }

 private:
  static constexpr uint64_t kMostMembers = 4096;

  bool Looks() const { return threads_ < processors_; }

  // At least so many threads beside the calling one, if the system has them; says how many there
  // are.
  int Grow(int wanted) {
    wanted = std::min(wanted, static_cast<int>(kMostMembers) - 2);
    try {
      for (; threads_ < wanted; ++threads_)
        std::thread([this, index = threads_ + 1, call = call_.load()] {
          Serve(index, call);
        }).detach();
    } catch (const std::system_error&) {  // work with those that there are
    }
    return std::min(threads_.load(), wanted);
  }

  void Serve(int index, uint64_t call) {
    for (;;) {
      call = AwaitChange(call_, call, Looks());
      const auto members = static_cast<int>(call % kMostMembers);
      if (index >= members) continue;  // the call may be over: nothing of it is to be touched
      member_(context_, index, members);
      if (at_work_.fetch_sub(1) == 1) at_work_.notify_one();
    }
  }

  const int processors_ = ThreadTeam::Processors();
  std::atomic_flag busy_;
  std::atomic<int> threads_ = 0;
  // The number of a call, and its members: who reads it knows whether it is one of them.
  std::atomic<uint64_t> call_ = 0;
  std::atomic<int> at_work_ = 0;  // members of the call but the calling thread
  ThreadTeam::Member member_ = nullptr;
  void* context_ = nullptr;
};

}  // namespace

void ThreadTeam::Run(int threads, Member member, void* context) {
  Team::Get().Run(threads, member, context);
}

int ThreadTeam::Processors() {
  const int processors = ProcessorsByAffinity();
  double quota = 0, period = 0;
  if (!ReadQuota(quota, period) || quota <= 0 || period <= 0) return processors;
  return std::clamp(static_cast<int>(quota / period + 0.5), 1, processors);
}

}  // namespace tq
