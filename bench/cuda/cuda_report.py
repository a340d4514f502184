#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts measurements beside the bars.

usage: cuda_report.py BENCH.jsonl PEERS.json [DOC.md COMMIT DRIVER]
       cuda_report.py prefill PREFILL.jsonl PEERS.json [DOC.md COMMIT]     appends to DOC.md
"""
import json
import sys

# (codec K, codec V, sequences, context): least factor over the fastest f16 attention of the same run.
RATIO_BARS = {"turbo3": 4.6, "turbo2": 6.5, "turbo4": 3.6, "turbo3_tcq": 3.0, "f16": 0.9, ("turbo4_tcq", "turbo3_tcq"): 2.5}
TIME_BARS = {("turbo3", 1, 32768): 16.0, ("turbo3_tcq", 1, 32768): 20.0, ("turbo3", 1, 131072): 50.0}
MORE_TOKENS_BARS = {2: 1.15, 4: 1.4, 8: 2.0}
LARGE = (16, 131072)


def prefill(bench, peer_file, doc=None, commit=None):
    rows = [json.loads(line) for line in open(bench)]
    peers = json.load(open(peer_file))
    torch = {(p["queries"], p["past"]): p["tflops"] for p in peers["rows"]}
    lines = ["| K/V | queries | past | kernel | us | TFLOP/s | % of cuDNN alone | decode, convert, merge | cuDNN alone, padded | PyTorch TFLOP/s | error |",
             "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |"]
    for r in rows:
        share = r["cudnn_us"] / r["us"]
        size = (r["queries"], r["past"])
        lines.append(f"| {r['pair']} | {size[0]} | {size[1]} | {r['kernel']} | {r['us']:.0f} | {r['tflops']:.0f} | {100 * share:.1f} | "
                     f"{r['decode_us']:.0f}, {r['convert_us']:.0f}, {r['merge_us']:.0f} | {r['cudnn_us']:.0f}, {r['cudnn_padded_us']:.0f} | "
                     + ", ".join(f"{k} {v:.0f}" for k, v in torch.get(size, {}).items()) + f" | {r['error'] or ''} |")
        if r["kernel"] == "cudnn":
            print(f"{'PASS' if share >= .95 else 'MISS'}  prefill {r['pair']} {size[0]} queries at {size[1]}: "
                  f"{100 * share:.1f} % of cuDNN's f16 throughput (>= 95)")
    text = "\n".join(lines)
    print(text)
    if doc is not None:
        with open(doc, "a") as file:
            file.write("\n## Attention of prompts\n\n`bench_cuda_prefill`, one layer, 8 KV heads, 4 query heads each, D 128; decoding of the "
                       "cache and conversions included. cuDNN alone: the same attention on keys and values that lie in f16. "
                       f"{peers['device']}, PyTorch {peers['torch']}, cuDNN {peers['cudnn']}, commit {commit}.\n\n{text}\n")


def main():
    if sys.argv[1] == "prefill":
        return prefill(*sys.argv[2:])
    rows = [json.loads(line) for line in open(sys.argv[1])]
    peers = json.load(open(sys.argv[2]))
    f16 = {(p["head_dim"], p["sequences"], p["context"]): p for p in peers["rows"]}
    lines = []
    bars = []

    def bar(text, good):
        bars.append((text, "PASS" if good else "MISS"))

    one_token = {}
    for r in rows:
        pair = r["k"] if r["k"] == r["v"] else f"{r['k']}/{r['v']}"
        name = pair + (" (any)" if r["generic"] else "") + (" (overlapped launch)" if r["overlap"] else "")
        peer = f16.get((r["head_dim"], r["sequences"], r["context"])) if r["group"] == 4 and r["tokens"] == 1 else None
        ratio = peer["us"] / r["us"] if peer else None
        share = r["gbs"] / r["roofline"]
        lines.append(f"| {name} | {r['head_dim']} | {r['group']} | {r['tokens']} | {r['sequences']} x {r['context']} | {r['us']:.1f} | "
                     f"{r['gbs']:.0f} | {100 * share:.1f} | {f'{ratio:.2f}' if ratio else ''} |")
        size = (r["sequences"], r["context"])
        key = r["k"] if r["k"] == r["v"] else (r["k"], r["v"])
        if r["tokens"] == 1 and r["group"] == 4 and not r["generic"] and r["head_dim"] == 128:
            pair = name
            one_token[(key, size)] = r["us"]
            if size == LARGE and r["k"] == r["v"] and r["k"] in ("turbo2", "turbo3", "turbo4"):
                bar(f"{pair} 16 x 128K: {100 * share:.1f} % of the read roofline (>= 95)", share >= .95)
            if size == LARGE and ratio and key in RATIO_BARS:
                bar(f"{pair} 16 x 128K: {ratio:.2f} x f16 (>= {RATIO_BARS[key]})", ratio >= RATIO_BARS[key])
            if (key, *size) in TIME_BARS:
                limit = TIME_BARS[(key, *size)]
                bar(f"{pair} {size[0]} x {size[1]}: {r['us']:.1f} us (<= {limit})", r["us"] <= limit)
        if r["generic"]:
            bar(f"{name} D {r['head_dim']} {size[0]} x {size[1]}: {100 * share:.1f} % of the read roofline (>= 60)", share >= .6)
        elif r["head_dim"] in (64, 256) and r["sequences"] > 1:
            bar(f"{pair} D {r['head_dim']}: {100 * share:.1f} % of the read roofline (>= 85)", share >= .85)
        base = one_token.get((key, size)) if key == "turbo3" and r["head_dim"] == 128 else None
        if r["tokens"] in MORE_TOKENS_BARS and base:
            limit = MORE_TOKENS_BARS[r["tokens"]]
            bar(f"{pair} {r['tokens']} queries: {r['us'] / base:.2f} x one (<= {limit})", r["us"] / base <= limit)

    head = ["| K/V | D | GQA | queries | sequences x context | us | GB/s | % of read roofline | x fastest f16 |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    peer_lines = ["| f16 (PyTorch) | D | sequences x context | us | times |", "| --- | --- | --- | --- | --- |"]
    for p in peers["rows"]:
        peer_lines.append(f"| {p['best']} | {p['head_dim']} | {p['sequences']} x {p['context']} | {p['us']:.1f} | "
                          + ", ".join(f"{k} {v:.1f}" for k, v in p["times"].items()) + " |")
    bar_lines = ["| bar | |", "| --- | --- |"] + [f"| {text} | {verdict} |" for text, verdict in bars]
    for text, verdict in bars:
        print(f"{verdict}  {text}")
    if len(sys.argv) > 3:
        doc, commit, driver = sys.argv[3:6]
        with open(doc, "w") as file:
            file.write("# CUDA measurements\n\nWritten by `tools/cuda_check.sh`: checks first, then times. One call = one layer, 8 KV heads, "
                       "launches in a CUDA graph, buffers larger than L2.\n\n"
                       f"Device {peers['device']}, driver {driver}, PyTorch {peers['torch']} (CUDA {peers['cuda']}, cuDNN {peers['cudnn']}), "
                       f"commit {commit}; read roofline {rows[0]['roofline']:.0f} GB/s.\n\n## Bars\n\n")
            file.write("\n".join(bar_lines) + "\n\n## Decode attention\n\n" + "\n".join(head + lines) + "\n\n## Peers\n\n" + "\n".join(peer_lines) + "\n")


if __name__ == "__main__":
    main()
