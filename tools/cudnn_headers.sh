#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fetches cuDNN's headers from PyPI (2 packages, 0.4 GB, of which 4 MB stay) for a CUDA build whose prompts go through cuDNN.
#   tools/cudnn_headers.sh [OUT [VERSION]]    default: build/cudnn, 9.19.*; then cmake -DTQ_CUDNN_INCLUDE=$PWD/build/cudnn/include ...
# The library itself comes with the same package, with PyTorch, or with the toolkit; libcudnn.so.9 and libcudart.so.13 must be
# found when the program runs (LD_LIBRARY_PATH).
set -euo pipefail
out=${1:-build/cudnn}
version=${2:-9.19.*}
download=$(mktemp -d)
trap 'rm -rf "$download"' EXIT
python3 -m pip download -q --no-deps -d "$download" nvidia-cudnn-frontend==1.32.0 "nvidia-cudnn-cu13==$version"
mkdir -p "$out"
python3 - "$download" "$out" <<'PYTHON'
import pathlib, sys, zipfile
download, out = map(pathlib.Path, sys.argv[1:])
for wheel in download.glob("*.whl"):
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            _, found, path = name.partition("include/")
            if found and path and not name.endswith("/"):
                target = out / "include" / path  # the front end includes "../include/..."
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(files.read(name))
PYTHON
echo "headers of cuDNN are in $out/include"
