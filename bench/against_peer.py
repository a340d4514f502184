#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times `turboquant bench` beside llama.cpp's llama-bench, in turn, and prints the ratios as Markdown.

    bench/against_peer.py --peer PATH/llama-bench -m MODEL.gguf [-t 2] [--tests prefill,decode,depth,memory]

Each round runs the peer and then ours, so that drift of the machine hits both; medians over all repetitions of all
rounds are compared. The peer runs its f16 cache (--peer-cache for others). Random tokens are decoded, as llama-bench
does: speed does not depend on them. `memory`, which needs no peer, samples our resident memory: the peaks of a first load, which calibrates, and
of later ones, and what stays.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def busy_seconds():
    """Processor time that the whole machine has spent, and that our children have."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq, *_ = map(int, stat.readline().split()[1:])
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    machine = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return machine, children.ru_utime + children.ru_stime


def bench(command, environment=None):
    """Samples in tokens per second, and the last row that the command printed."""
    machine, own = busy_seconds()
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    machine, own = (after - before for after, before in zip(busy_seconds(), (machine, own)))
    if machine - own > 0.1 * own:
        print(f"!! other programs took {machine - own:.1f} s of processor time beside {own:.1f} s: "
              f"{os.path.basename(command[0])} {' '.join(command[-8:])}", file=sys.stderr)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    row = json.loads(result.stdout[result.stdout.index("["):])[-1]
    return row["samples_ts"], row


def time_in_turn(args, name, flags, caches, environment):
    common = ["-m", args.model, "-t", str(args.threads), "-r", str(args.repetitions), "-o", "json"] + flags
    peer = [args.peer] + common + ["-ctk", args.peer_cache, "-ctv", args.peer_cache, "-fa", args.peer_flash,
                                   "-lm", "none"]  # as ours: in memory, where no reclaim of cached files slows it
    theirs, ours, bits = [], {cache: [] for cache in caches}, {}
    for _ in range(args.rounds):
        theirs += bench(peer)[0]
        for cache in caches:
            k, v = cache.split("/")
            samples, row = bench([args.ours, "bench"] + common + ["-ctk", k, "-ctv", v], environment)
            ours[cache] += samples
            bits[cache] = row["kv_bits_per_value"]
    reference = statistics.median(theirs)
    for cache in caches:
        median = statistics.median(ours[cache])
        print(f"| {name} | {cache} | {bits[cache]:.2f} | {reference:.1f} | {median:.1f} | {median / reference:.2f} |",
              flush=True)


def watch_memory(command, environment=None):
    """Largest resident size of a command, the median of its second half, in bytes, and its output; sampled every 5 ms."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               env={**os.environ, **(environment or {})})
    samples = []  # (largest so far, now)

    def poll():
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as status:
                    sizes = dict(line.split()[:2] for line in status if line.startswith(("VmHWM", "VmRSS")))
                samples.append((int(sizes["VmHWM:"]) * 1024, int(sizes["VmRSS:"]) * 1024))
            except (OSError, KeyError):
                pass
            time.sleep(0.005)

    thread = threading.Thread(target=poll)
    thread.start()
    output = process.communicate()[0]
    thread.join()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed")
    return max(most for most, _ in samples), statistics.median(now for _, now in samples[len(samples) // 2:]), output


def print_memory(args, cache):
    k, v = cache.split("/")
    common = ["-m", args.model, "-t", str(args.threads), "-ctk", k, "-ctv", v]
    bench_flags = [args.ours, "bench"] + common + ["-p", "0", "-o", "json"]
    with tempfile.TemporaryDirectory() as empty:
        first, _, _ = watch_memory([args.ours, "run"] + common + ["-n", "8", "-p", "hi"], {"XDG_CACHE_HOME": empty})
    # Two lengths: the peak of a short run is that of loading.
    peak, _, _ = watch_memory(bench_flags + ["-n", "1", "-r", "1"])
    _, steady, output = watch_memory(bench_flags + ["-n", "64", "-r", "8"])
    size, kv = os.path.getsize(args.model), json.loads(output)[-1]["kv_bytes_total"]
    print(f"\n| resident memory, cache {cache}: {kv / 2**20:.1f} MiB of cache | MiB | of the file |\n| --- | ---: | ---: |")
    for name, value in (("file", size), ("first load, calibrates: peak", first), ("loading: peak", peak), ("steady, without the cache", steady - kv)):
        print(f"| {name} | {value / 2**20:.1f} | {value / size:.2f} x |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default=f"{ROOT}/build/default/bin/turboquant", help="(%(default)s)")
    parser.add_argument("--peer", help="llama-bench; memory alone needs none")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--tests", default="prefill,decode,depth,memory")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("-r", "--repetitions", type=int, default=2, help="within a round")
    parser.add_argument("--depth", default="4096")
    parser.add_argument("--caches", default="f16/f16,turbo4/turbo3,turbo3/turbo3", help="of ours when decoding (%(default)s)")
    parser.add_argument("--peer-cache", default="f16")
    parser.add_argument("--peer-flash", default="auto", help="flash attention of the peer: on, off or auto (%(default)s)")
    parser.add_argument("--isa", help="TQ_ISA for ours (avx2, ...)")
    args = parser.parse_args()

    environment = {"TQ_ISA": args.isa} if args.isa else {}
    caches = args.caches.split(",")
    tests = {
        "prefill": ("pp512", ["-p", "512", "-n", "0"], ["turbo4/turbo3"]),
        "decode": ("tg32", ["-p", "0", "-n", "32"], [caches[-1]]),
        "depth": (f"tg32 @ d{args.depth}", ["-p", "0", "-n", "32", "-d", args.depth], caches),
    }
    wanted = args.tests.split(",")
    if unknown := set(wanted) - {*tests, "memory"}:
        parser.error(f"unknown tests: {', '.join(sorted(unknown))}")
    if wanted != ["memory"] and args.peer is None:
        parser.error("--peer is missing: the peer's llama-bench")
    version = subprocess.run([args.ours, "--version"], capture_output=True, text=True).stdout.strip()
    print(f"{os.path.basename(args.model)}, {args.threads} threads, {args.rounds} rounds of {args.repetitions}; {version}"
          + (f", TQ_ISA={args.isa}" if args.isa else "") + (f"; peer's cache {args.peer_cache}" if args.peer else ""))
    if wanted != ["memory"]:
        print("\n| test | our cache (K/V) | bits per value | peer, tok/s | ours, tok/s | ratio |")
        print("| --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    for test, (name, flags, rows) in tests.items():
        if test in wanted:
            time_in_turn(args, name, flags, rows, environment)
    if "memory" in wanted:
        print_memory(args, "turbo4/turbo3")


if __name__ == "__main__":
    main()
