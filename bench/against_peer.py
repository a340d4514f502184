#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times `turboquant bench` beside a llama-bench binary, in turn, in one run, and prints the ratios as Markdown.

    bench/against_peer.py --ours build/default/apps/turboquant --peer PATH/llama-bench -m MODEL.gguf [-t 2] [-r 3]

The peer runs its f16 cache. The two alternate, repetition by repetition, so that drift of the machine hits both; the
median of each and the ratio of medians are printed. Also measures our resident memory: peak while loading and steady.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time


def run_json(command, environment=None):
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout[result.stdout.index("["):])[-1]["avg_ts"]


def watch_memory(command):
    """Peak and last sampled resident bytes of a command, from /proc, every 5 ms."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples = []

    def poll():
        page = os.sysconf("SC_PAGE_SIZE")
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/statm") as f:
                    samples.append(int(f.read().split()[1]) * page)
            except (OSError, IndexError):
                pass
            time.sleep(0.005)

    thread = threading.Thread(target=poll)
    thread.start()
    process.wait()
    thread.join()
    samples = [s for s in samples if s > 0]
    return max(samples), statistics.median(samples[len(samples) // 2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-t", "--threads", default="2")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--depth", default="4096")
    parser.add_argument("--isa", help="TQ_ISA for ours (avx2, ...)")
    args = parser.parse_args()

    peer = [args.peer, "-m", args.model, "-t", args.threads, "-r", "1", "-o", "json"]
    ours = [args.ours, "bench", "-m", args.model, "-t", args.threads, "-r", "1", "-o", "json"]
    environment = {"TQ_ISA": args.isa} if args.isa else {}
    # test, peer's arguments, rows of ours: (cache type, arguments)
    tests = [
        ("pp512", ["-p", "512", "-n", "0"], [("f16", "f16"), ("turbo4", "turbo3")]),
        ("tg32", ["-p", "0", "-n", "32"], [("f16", "f16"), ("turbo3", "turbo3"), ("turbo4", "turbo3")]),
        (f"tg32 @ d{args.depth}", ["-p", "0", "-n", "32", "-d", args.depth],
         [("f16", "f16"), ("turbo4", "turbo4"), ("turbo4", "turbo3"), ("turbo3", "turbo3"), ("turbo2", "turbo2")]),
    ]
    print(f"model {os.path.basename(args.model)}, {args.threads} threads, {args.rounds} rounds in turn"
          + (f", TQ_ISA={args.isa}" if args.isa else ""))
    print("\n| test | cache of ours (K/V) | peer, f16 cache, tok/s | ours, tok/s | ratio |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name, arguments, rows in tests:
        theirs = []
        mine = [[] for _ in rows]
        for _ in range(args.rounds):
            theirs.append(run_json(peer + arguments))
            for values, (k, v) in zip(mine, rows):
                values.append(run_json(ours + arguments + ["-ctk", k, "-ctv", v], environment))
        reference = statistics.median(theirs)
        for values, (k, v) in zip(mine, rows):
            median = statistics.median(values)
            print(f"| {name} | {k}/{v} | {reference:.1f} | {median:.1f} | {median / reference:.2f} |", flush=True)
    size = os.path.getsize(args.model)
    peak, steady = watch_memory(ours + ["-p", "0", "-n", "64", "-r", "5", "-ctk", "turbo4", "-ctv", "turbo3"])
    print(f"\nresident memory: peak {peak / 2**20:.0f} MiB ({peak / size:.2f} x file), steady {steady / 2**20:.0f} MiB "
          f"({steady / size:.2f} x file of {size / 2**20:.0f} MiB)")


if __name__ == "__main__":
    main()
