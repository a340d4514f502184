#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails if a kernel unit built for one instruction set defines weak symbols that another unit could get instead.

A std:: function instantiated in an AVX-512 unit may be the copy that the linker keeps for the whole program, which then
dies on a machine without AVX-512. Weak symbols inside the unit's own namespace (tq::avx2, tq::avx512) are harmless.
usage: check_symbols.py BUILD_FOLDER
"""
import pathlib
import re
import subprocess
import sys


def main():
    build = pathlib.Path(sys.argv[1])
    objects = sorted(p for p in build.rglob("*.cc.o") if re.search(r"(avx2|avx512)[^/]*\.cc\.o$", p.name))
    if not objects:
        print(f"no kernel units under {build}: is it built?")
        return 1
    problems = []
    for path in objects:
        isa = "avx512" if "avx512" in path.name else "avx2"
        lines = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout.splitlines()
        for line in lines:
            kind, name = line.split()[-2:]
            own = f"{len(isa)}{isa}" in name or "_GLOBAL__N_" in name
            if kind in "WVu" and not own and not name.startswith("DW.ref."):
                plain = subprocess.run(["c++filt", name], capture_output=True, text=True).stdout.strip()
                problems.append(f"{path.relative_to(build)}: weak symbol {plain}")
    print("\n".join(problems) if problems else f"{len(objects)} kernel units define no shared weak symbols")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
