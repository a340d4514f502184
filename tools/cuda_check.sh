#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks the CUDA kernels on this machine's GPU, then times them beside PyTorch's f16 attention.
#   tools/cuda_check.sh build      compiles both programs into build/cuda_check (needs nvcc; no GPU)
#   tools/cuda_check.sh run [OUT]  runs what is built there; figures and docs go to OUT (default build/cuda_check/out)
set -u
cd "$(dirname "$0")/.."
dir=build/cuda_check
build() {
  set -e
  mkdir -p $dir/obj
  local nv="nvcc -std=c++20 -O3 --expt-relaxed-constexpr -diag-suppress=20012 -DFMT_HEADER_ONLY -I. -Itests/cuda/device -gencode arch=compute_90a,code=sm_90a"
  local cc="g++ -std=c++20 -O2 -DFMT_HEADER_ONLY -ffp-contract=off -fno-math-errno -I. -Itests/cuda/device -I$(dirname "$(readlink -f "$(command -v nvcc)")")/../include"
  local avx2="-mavx2 -mfma -mf16c -mbmi2"
  local avx512="$avx2 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi"
  local makefile=$dir/obj/Makefile
  {
    echo "all: $dir/cuda_kernels_test $dir/bench_cuda_attention"
    local objects=""
    add() { # source, command
      local object=$dir/obj/$(echo "$1" | tr / _).o
      echo "$object: $1 $(echo turboquant/*/cuda/*.cuh turboquant/*/cuda/*.h tests/cuda/*.h tests/cuda/device/*.h)"
      printf '\t%s -c %s -o %s\n' "$2" "$1" "$object"
      objects="$objects $object"
    }
    for f in turboquant/*/cuda/*.cu; do add "$f" "$nv"; done
    for f in turboquant/codec/*.cc turboquant/base/{error,cpu_isa,thread_pool}.cc turboquant/attention/reference.cc turboquant/kv/{opening_reference,policy}.cc \
             turboquant/codec/cpu/*_scalar.cc turboquant/codec/cpu/tile_side.cc; do add "$f" "$cc"; done
    for f in turboquant/codec/cpu/*_avx2.cc; do add "$f" "$cc $avx2"; done
    for f in turboquant/codec/cpu/*_avx512.cc; do add "$f" "$cc $avx512"; done
    local library=$objects
    objects=""
    add tests/cuda/cuda_kernels_test.cc "$cc"
    echo "$dir/cuda_kernels_test: $objects $library"
    printf '\tnvcc -cudart static -Xcompiler -static-libstdc++,-static-libgcc -o $@ $^\n'
    objects=""
    add bench/cuda/bench_cuda_attention.cu "$nv"
    echo "$dir/bench_cuda_attention: $objects $library"
    printf '\tnvcc -cudart static -Xcompiler -static-libstdc++,-static-libgcc -o $@ $^\n'
  } > $makefile
  make -f $makefile -j"$(nproc)" all
}
run() {
  local out=${1:-$dir/out}
  mkdir -p "$out"
  nvidia-smi --query-gpu=name,driver_version,clocks.sm --format=csv,noheader
  if ! timeout 240 $dir/cuda_kernels_test > "$out/checks.txt" 2>&1; then
    echo "== checks FAILED or ran too long"
    grep -A 18 -m 6 -B 17 -E "^FAIL|CUDA:|error" "$out/checks.txt" | head -150
    tail -3 "$out/checks.txt"
  fi
  echo "== checks: $(grep -c '^ok' "$out/checks.txt") ok, $(grep -c '^FAIL' "$out/checks.txt") failed; $(tail -1 "$out/checks.txt")"
  timeout 200 python3 bench/cuda/cuda_peers.py "$out/peers.json"
  timeout 200 $dir/bench_cuda_attention "$out/bench.jsonl"
  local driver
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1)
  python3 bench/cuda/cuda_report.py "$out/bench.jsonl" "$out/peers.json" "$out/measurements-cuda.md" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "$driver"
}
case "${1:-}" in
  build) build ;;
  run) run "${2:-}" ;;
  *) sed -n 3,6p "$0"; exit 2 ;;
esac
