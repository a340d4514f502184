#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails if a file includes something from a layer above its own, or a system header where only a leaf may."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ["base", "codec", "kv", "attention", "gguf", "ops", "backend", "text", "model", "engine"]
TOP = {"lab": 10, "server": 10, "apps": 11, "capi": 11}
LEAVES = re.compile(r"/(cpu|cuda)/")


def layer_of(path):
    parts = path.split("/")
    if parts[0] == "turboquant" and len(parts) > 2:
        return LAYERS.index(parts[1])
    return TOP.get(parts[0])


def main():
    problems = []
    for folder in ["turboquant", "lab", "server", "apps", "capi"]:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix not in {".h", ".cc", ".inl", ".cu", ".cuh"}:
                continue
            name = str(file.relative_to(ROOT))
            mine = layer_of(name)
            for number, line in enumerate(file.read_text().splitlines(), 1):
                match = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
                if not match:
                    continue
                target = match.group(1)
                theirs = layer_of(target)
                if theirs is not None and theirs > mine:
                    problems.append(f"{name}:{number}: includes {target}, which lies above")
                if theirs is None and '"' in line and not (file.parent / target).exists():
                    problems.append(f"{name}:{number}: quoted include {target} is not from the project's root")
                if target in {"immintrin.h", "x86intrin.h"} and not LEAVES.search("/" + name):
                    problems.append(f"{name}:{number}: {target} belongs into a cpu/ folder")
    print("\n".join(problems) if problems else "includes go one way")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
