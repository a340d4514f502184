#!/bin/bash
# Branch only: builds, checks, times and profiles decode attention. tools/attn_run.sh OUT
OUT=$1
(time tools/cuda_check.sh build) > $OUT/build.txt 2>&1 || grep -m 30 -A6 -E "error|FAILED" $OUT/build.txt
grep -E "spill" $OUT/build.txt | head
(export TQ_CHECK_DIR=build/stamps TQ_CHECK_FLAGS=-DTQ_DECODE_STAMPS; tools/cuda_check.sh build > $OUT/build2.txt 2>&1)
timeout 150 build/cuda_check/cuda_kernels_test > $OUT/checks.txt 2>&1
echo "checks: $(grep -c ^ok $OUT/checks.txt) ok"; grep -A 18 -m 4 -E "^FAIL|CUDA:" $OUT/checks.txt; tail -1 $OUT/checks.txt
timeout 120 build/cuda_check/bench_cuda_attention $OUT/bench.jsonl > $OUT/bench.txt; cat $OUT/bench.txt
timeout 60 build/stamps/bench_cuda_attention $OUT/stamps.jsonl one > $OUT/stamps.txt
nvcc -O3 -std=c++20 -arch=sm_90a -o build/pipes bench/cuda/pipes_probe.cu && timeout 20 build/pipes > $OUT/pipes.txt; cat $OUT/pipes.txt
timeout 60 ncu --clock-control none --cache-control none --section SpeedOfLight --section WarpStateStats --section SourceCounters -k regex:DecodeKernel -s 1105 -c 1 -o $OUT/long build/cuda_check/bench_cuda_attention /dev/null one > $OUT/ncu.log 2>&1
ncu -i $OUT/long.ncu-rep --page details --print-details all > $OUT/ncu.txt 2>&1; ncu -i $OUT/long.ncu-rep --page source --csv --print-units base >> $OUT/ncu.txt 2>&1; rm -f $OUT/long.ncu-rep
timeout 150 compute-sanitizer --tool racecheck build/cuda_check/cuda_kernels_test quick 2>&1 | tail -5
