#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One folder that runs on a machine with a GPU and a bare system: the CUDA build's programs, stripped, and the libraries
# that such a machine may lack. cuBLAS is looked for there (LD_LIBRARY_PATH), it is too large to travel.
#   tools/bundle.sh [BUILD [OUT]]      default: build/cuda, build/cuda/bundle
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/cuda}
out=${2:-$build/bundle}
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib"
for program in "$build/bin/turboquant" "$build/tests/cuda/cuda_device_test"; do
  strip -o "$out/bin/$(basename "$program")" "$program"
  ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' |
    grep -v -E '/(libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s)\.so' |
    xargs -I{} cp -Lu {} "$out/lib/"
done
cat > "$out/env.sh" <<'END'
# Sourced in the folder that holds the bundle: libraries of the bundle, then cuBLAS and cuDNN wherever CUDA or PyTorch put them.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cublas=$(ls -d /usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib 2>/dev/null | while read -r d; do
  if [ -e "$d/libcublas.so.13" ]; then echo "$d"; break; fi; done)
if [ -z "$cublas" ]; then
  cublas=$(find / -name libcublas.so.13 -not -path '/proc/*' 2>/dev/null | head -1)
  cublas=${cublas%/*}
fi
# Of several the one that came with PyTorch, which is as new as PyTorch.
cudnn=$(find / -name libcudnn.so.9 -not -path '/proc/*' 2>/dev/null)
cudnn=$({ grep /nvidia/cudnn/ <<< "$cudnn"; echo "$cudnn"; } | head -1)
cudnn=${cudnn%/*}
export LD_LIBRARY_PATH="$here/lib${cublas:+:$cublas}${cudnn:+:$cudnn}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PATH="$here/bin:$PATH"
END
cp tools/cuda_backend_check.sh "$out/"
du -sh "$out"
