#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks the CUDA kernels on this machine's GPU, then times them beside PyTorch's f16 attention.
#   tools/cuda_check.sh build      compiles the programs into build/cuda_check (needs nvcc; no GPU); TQ_CUDNN_INCLUDE: where
#                                  cuDNN's headers are (tools/cudnn_headers.sh)
#   tools/cuda_check.sh sanitize   the small checks under compute-sanitizer
#   tools/cuda_check.sh profile    what the warps of a short decode launch wait for (Nsight Compute)
#   tools/cuda_check.sh prefill [OUT]  times attention of prompts alone, beside PyTorch
#   tools/cuda_check.sh run [OUT]  runs what is built there; figures and docs go to OUT (default build/cuda_check/out)
set -u
cd "$(dirname "$0")/.."
dir=build/cuda_check
build() {
  set -e
  mkdir -p $dir/obj
  local cuda
  cuda=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
  # $dir/include may hold fmt's headers for a machine that lacks them.
  local flags="-std=c++20 -DFMT_HEADER_ONLY -I. -Itests/cuda/device -I$dir/include"
  local cudnn=turboquant/attention/cuda/cudnn_absent.cc
  if [ -n "${TQ_CUDNN_INCLUDE:-}" ]; then
    cudnn=turboquant/attention/cuda/cudnn_attention.cc
    flags="$flags -isystem $TQ_CUDNN_INCLUDE"
  fi
  local avx2="-mavx2 -mfma -mf16c -mbmi2"
  local avx512="$avx2 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi"
  {
    echo "builddir = $dir/obj"
    echo "rule nvcc"
    echo "  command = nvcc $flags -O3 --expt-relaxed-constexpr -diag-suppress=20012 -gencode arch=compute_90a,code=sm_90a -MMD -MF \$out.d -c \$in -o \$out"
    echo "  depfile = \$out.d"
    echo "rule cc"
    echo "  command = g++ $flags -I$cuda/include -O2 -pthread -ffp-contract=off -fno-math-errno \$isa -MMD -MF \$out.d -c \$in -o \$out"
    echo "  depfile = \$out.d"
    echo "rule link"
    echo "  command = nvcc -cudart static -Xcompiler -static-libstdc++,-static-libgcc,-pthread -o \$out \$in -ldl"
    local objects=""
    add() { # rule, source, flags
      local object=$dir/obj/$(echo "$2" | tr / _).o
      printf 'build %s: %s %s\n  isa = %s\n' "$object" "$1" "$2" "${3:-}"
      objects="$objects $object"
    }
    for f in turboquant/*/cuda/*.cu; do add nvcc "$f"; done
    for f in $(ls turboquant/{base,codec,kv,attention}/cuda/*.cc | grep -v /cudnn_) $cudnn turboquant/codec/*.cc turboquant/base/{error,cpu_isa,thread_pool,thread_team}.cc turboquant/attention/reference.cc \
             turboquant/kv/{opening_reference,policy,host_arena_memory}.cc turboquant/codec/cpu/*_scalar.cc turboquant/codec/cpu/tile_side.cc; do
      add cc "$f"
    done
    for f in turboquant/codec/cpu/*_avx2.cc; do add cc "$f" "$avx2"; done
    for f in turboquant/codec/cpu/*_avx512.cc; do add cc "$f" "$avx512"; done
    local library=$objects
    objects=""
    add cc tests/cuda/cuda_kernels_test.cc
    echo "build $dir/cuda_kernels_test: link $objects $library"
    objects=""
    add cc bench/cuda/bench_cuda_attention.cc
    add nvcc bench/cuda/bench_kernels.cu
    local kernels=$objects
    echo "build $dir/bench_cuda_attention: link $objects $library"
    objects=" ${kernels##* }"
    add cc bench/cuda/bench_cuda_step.cc
    echo "build $dir/bench_cuda_step: link $objects $library"
    objects=" ${kernels##* }"
    add cc bench/cuda/bench_cuda_prefill.cc
    add cc turboquant/backend/cuda/prefill_attention.cc
    echo "build $dir/bench_cuda_prefill: link $objects $library"
  } > $dir/build.ninja
  ninja -f $dir/build.ninja
}
run() {
  local out=${1:-$dir/out}
  mkdir -p "$out"
  nvidia-smi --query-gpu=name,driver_version,clocks.sm --format=csv,noheader
  if ! timeout 240 $dir/cuda_kernels_test > "$out/checks.txt" 2>&1; then
    echo "== checks FAILED or ran too long"
    grep -A 18 -m 6 -B 17 -E "^FAIL|CUDA:|error" "$out/checks.txt" | head -150
    tail -3 "$out/checks.txt"
    timeout 60 compute-sanitizer --tool memcheck --print-limit 3 $dir/cuda_kernels_test quick 2>&1 | grep -A 12 -m 3 "=========" | head -60
  fi
  echo "== checks: $(grep -c '^ok' "$out/checks.txt") ok, $(grep -c '^FAIL' "$out/checks.txt") failed; $(tail -1 "$out/checks.txt")"
  timeout 200 python3 bench/cuda/cuda_peers.py "$out/peers.json"
  timeout 200 $dir/bench_cuda_attention "$out/bench.jsonl"
  local driver
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1)
  python3 bench/cuda/cuda_report.py "$out/bench.jsonl" "$out/peers.json" "$out/measurements-cuda.md" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "$driver"
  prefill "$out"
}
sanitize() {
  check() {
    echo "== compute-sanitizer $*"
    timeout 200 compute-sanitizer "$@" | tail -4
  }
  check --tool memcheck $dir/cuda_kernels_test quick
  # racecheck reports hazards behind barriers that warps come to after different numbers of others, as loaders of wide
  # kernels do (docs/measurements-cuda.md).
  check --tool racecheck --kernel-regex-exclude kns=WideKernel $dir/cuda_kernels_test quick
}
profile() {
  timeout 120 ncu --clock-control none --section SpeedOfLight --section WarpStateStats --section LaunchStats --print-details all \
    -k regex:DecodeKernel -s 2 -c 1 $dir/bench_cuda_attention /dev/null one 2>&1 | grep -E "Duration|Elapsed|Stall|Registers|Issue|Warp Cycles" | head -60
}
prefill() {
  local out=${1:-$dir/out}
  mkdir -p "$out"
  timeout 100 python3 bench/cuda/cuda_peers.py "$out/prefill_peers.json" prefill
  timeout 200 $dir/bench_cuda_prefill "$out/prefill.jsonl"
  python3 bench/cuda/cuda_report.py prefill "$out/prefill.jsonl" "$out/prefill_peers.json" "$out/measurements-cuda.md" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
}
case "${1:-}" in
  prefill) prefill "${2:-}" ;;
  profile) profile ;;
  build) build ;;
  sanitize) sanitize ;;
  run) run "${2:-}" ;;
  *) sed -n 3,10p "$0"; exit 2 ;;
esac
