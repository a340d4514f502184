#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs what tools/bundle.sh has collected on a machine with a GPU: tests, then timings. Each part has its own time limit
# and says what failed; the end of the output is a summary.
#   source BUNDLE/env.sh; tools/cuda_backend_check.sh OUT [part...]     parts: doctor tests text speed profile sanitize
# TQ_MODELS: a folder with smollm2.gguf, for the parts that need a real model.
set -u
out=$1
shift
parts=("$@")
if [ ${#parts[@]} -eq 0 ]; then parts=(doctor tests text speed); fi
mkdir -p "$out"
summary=""
part() { # name, seconds, command...: output to a log, its end shown if it failed
  local name=$1 seconds=$2 start=$SECONDS
  shift 2
  if timeout "$seconds" "$@" > "$out/$name.log" 2>&1; then
    summary+="ok     $name ($((SECONDS - start)) s)"$'\n'
  else
    summary+="FAILED $name (exit $?, $((SECONDS - start)) s)"$'\n'
    echo "== $name failed:"
    grep -E "FAILED|Failure|difference|error:|what\(\)|GPU|CUDA" "$out/$name.log" | sort | uniq | head -40
    tail -15 "$out/$name.log"
  fi
}
nvidia-smi --query-gpu=name,driver_version,clocks.sm,memory.total --format=csv,noheader
smollm2=${TQ_MODELS:-/nonexistent}/smollm2.gguf
for p in "${parts[@]}"; do
  case $p in
    doctor)
      part doctor 60 turboquant doctor
      grep -E "cuda|ok|FAILED|not run" "$out/doctor.log" ;;
    tests)
      part ops 150 cuda_device_test --gtest_filter='OpsDevice*:FlashPrefill*:Prefill*:RowAttention*'
      part models 200 cuda_device_test --gtest_filter='ModelDevice*'
      grep -hE "median|refused|SmolLM2|token |SKIPPED" "$out/models.log" | head -40 ;;
    text)
      if [ -f "$smollm2" ]; then
        for device in cpu cuda; do
          part "run_$device" 60 turboquant run -m "$smollm2" --device $device --precise --temp 0 -n 64 -p "The sea is"
          part "perplexity_$device" 120 turboquant perplexity -m "$smollm2" --device $device -f docs/sample.txt -c 512 \
            --chunks 2 -ctk turbo4 -ctv turbo3
          part "compare_$device" 200 turboquant compare -m "$smollm2" --device $device -f docs/sample.txt -c 1024 \
            --chunks 2 --types turbo8,turbo4,turbo4/turbo3,turbo3,turbo2
          tail -12 "$out/perplexity_$device.log" "$out/compare_$device.log"
        done
        diff <(sed -n '/The sea/,$p' "$out/run_cpu.log") <(sed -n '/The sea/,$p' "$out/run_cuda.log") > "$out/text.diff" &&
          echo "greedy text of 64 tokens: the same"
      fi ;;
    speed)
      for pair in "turbo3 turbo3" "f16 f16" "turbo4_tcq turbo3_tcq" "turbo4 turbo3"; do
        read -r k v <<< "$pair"
        part "decode_$k$v" 150 turboquant bench --synthetic llama-8b --device cuda -p 0 -n 64 -d 0,4096,32768,131008 -r 2 \
          -ctk "$k" -ctv "$v" -b 2048 -ub 2048 -o jsonl
        part "prefill_$k$v" 90 turboquant bench --synthetic llama-8b --device cuda -p 8192 -n 0 -d 0 -r 3 \
          -ctk "$k" -ctv "$v" -b 2048 -ub 2048 -o jsonl
        cat "$out/decode_$k$v.log" "$out/prefill_$k$v.log" | python3 -c '
import json, sys
for line in sys.stdin:
    if line.startswith("{"):
        r = json.loads(line)
        print("K %s V %s: prompt %s gen %s depth %s: %.2f +- %.2f tok/s" % tuple(r[k] for k in
              ("type_k", "type_v", "n_prompt", "n_gen", "n_depth", "avg_ts", "stddev_ts")))'
      done ;;
    profile) # time of each kernel of the first decode steps, by itself
      part profile 200 ncu --clock-control none --launch-skip 400 --launch-count 800 --metrics gpu__time_duration.sum \
        --print-summary per-kernel turboquant bench --synthetic llama-8b --device cuda -p 0 -n 4 -d 0 -r 1 \
        -ctk turbo3 -ctv turbo3
      grep -E "Context|gpu__time_duration" "$out/profile.log" | cut -c1-160 | head -60 ;;
    sanitize)
      part memcheck 300 compute-sanitizer --tool memcheck --error-exitcode 9 cuda_device_test \
        --gtest_filter='OpsDevice*:*BatchesOfForked*'
      part racecheck 300 compute-sanitizer --tool racecheck --error-exitcode 9 cuda_device_test \
        --gtest_filter='OpsDeviceTest.RmsNorm*:OpsDeviceTest.Embed*:*BatchesOfForked*' ;;
    *) echo "no part '$p'" ;;
  esac
done
echo "== summary"
echo "$summary"
