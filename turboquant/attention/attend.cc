// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/attention.h"
#include "turboquant/attention/stages.h"
#include "turboquant/base/error.h"

namespace tq {
namespace {

void CheckCall(const AttentionArgs& args) {
  TQ_CHECK(args.q != nullptr && args.out != nullptr && args.tokens > 0);
  TQ_CHECK(args.q_heads > 0 && args.q_heads % args.kv.open.kv_heads == 0);
  TQ_CHECK(args.kv.length >= args.first_position + (args.fresh_k != nullptr ? 0 : args.tokens));
  TQ_CHECK((args.fresh_k == nullptr) == (args.fresh_v == nullptr));
}

}  // namespace

void Attend(std::span<const AttentionArgs> calls, AttentionWorkspace& workspace,
            const ThreadPool& pool, Isa isa) {
  bool any_decode = false;
  bool any_prefill = false;
  for (const AttentionArgs& args : calls) {
    CheckCall(args);
    (IsDecode(args) ? any_decode : any_prefill) = true;
  }
  if (any_decode) AttendDecode(calls, workspace, pool, isa);
  if (any_prefill) AttendPrefill(calls, workspace, pool, isa);
}

}  // namespace tq
