#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's f16 attention (flash and cuDNN back ends) inside CUDA graphs: on decode shapes over buffers larger than L2,
or on a prompt's chunks behind a past.

usage: cuda_peers.py OUT.json [prefill]
"""
import json
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def time_in_graph(fn, calls, replays=15):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for i in range(3):
            fn(i)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(calls):
            fn(i)
    times = []
    for i in range(replays + 2):
        a, b = torch.cuda.Event(True), torch.cuda.Event(True)
        a.record()
        graph.replay()
        b.record()
        b.synchronize()
        if i >= 2:
            times.append(a.elapsed_time(b) * 1e3 / calls)
    return statistics.median(times)


def measure(sequences, context, kv_heads, group, dim):
    layer = sequences * kv_heads * context * dim * 4
    layers = max(1, min(16, (400 << 20) // layer))
    keys = [torch.randn(sequences, kv_heads, context, dim, device="cuda", dtype=torch.float16) for _ in range(layers)]
    values = [torch.randn(sequences, kv_heads, context, dim, device="cuda", dtype=torch.float16) for _ in range(layers)]
    # Query heads of one KV head as query rows: the honest form, each key is read once.
    packed = torch.randn(sequences, kv_heads, group, dim, device="cuda", dtype=torch.float16)
    plain = packed.reshape(sequences, kv_heads * group, 1, dim)
    result = {}
    for name, backend in BACKENDS.items():
        for form, q, gqa in [("packed", packed, False), ("gqa", plain, True)]:
            try:
                with sdpa_kernel(backend):
                    def call(i):
                        return torch.nn.functional.scaled_dot_product_attention(
                            q, keys[i % layers], values[i % layers], enable_gqa=gqa)
                    result[f"{name}_{form}"] = time_in_graph(call, max(layers, 4))
            except Exception as error:  # a back end that refuses a shape is not a competitor there
                print(f"  {name} {form}: {str(error).splitlines()[0][:90]}")
    return result


def measure_prefill(queries, past, kv_heads=8, group=4, dim=128):
    """TFLOP/s: with the mask of a prompt's chunk where a back end has it, and without a mask."""
    heads, keys = kv_heads * group, past + queries
    q = torch.randn(1, heads, queries, dim, device="cuda", dtype=torch.float16)
    # [tokens][heads][D] in memory, as a cache of prompts has it.
    k, v = (torch.randn(1, keys, kv_heads, dim, device="cuda", dtype=torch.float16).transpose(1, 2) for _ in range(2))
    masked = 4e-6 * heads * dim * queries * (past + (queries + 1) / 2)
    whole = 4e-6 * heads * dim * queries * keys
    result = {}
    for name, backend in BACKENDS.items():
        for form, mask, flops in [("causal", causal_lower_right(queries, keys), masked), ("whole", None, whole)]:
            if name == "cudnn" and mask is not None:
                continue  # PyTorch hands this mask to its flash kernel only
            try:
                with sdpa_kernel(backend):
                    us = time_in_graph(lambda _: torch.nn.functional.scaled_dot_product_attention(
                        q, k, v, attn_mask=mask, enable_gqa=True), 2, 5)
                result[f"{name}_{form}"] = flops / us
            except Exception as error:
                print(f"  {name} {form}: {str(error).splitlines()[0][:90]}")
    return result


def prefill():
    rows = []
    for queries in (2048, 8192):
        for past in (8192, 32768, 131072):
            with torch.no_grad():
                tflops = measure_prefill(queries, past)
            torch.cuda.empty_cache()
            rows.append({"queries": queries, "past": past, "tflops": tflops})
            print(f"f16 {queries} queries at {past}: " + ", ".join(f"{k} {v:.0f}" for k, v in tflops.items()) + " TFLOP/s",
                  flush=True)
    return rows


def decode():
    sizes = [(1, 4096), (1, 32768), (1, 131072), (16, 32768), (16, 131072)]
    rows = []
    for dim in (128, 64, 256):
        for sequences, context in sizes if dim == 128 else [(16, 32768)]:
            with torch.no_grad():
                times = measure(sequences, context, 8, 4, dim)
            torch.cuda.empty_cache()
            best = min(times, key=times.get)
            rows.append({"sequences": sequences, "context": context, "head_dim": dim, "times": times, "best": best,
                         "us": times[best]})
            print(f"f16 D {dim} {sequences:2d} x {context:6d}: " + ", ".join(f"{k} {v:.1f}" for k, v in times.items()) + " us",
                  flush=True)
    return rows


def main():
    rows = prefill() if sys.argv[2:] == ["prefill"] else decode()
    device = torch.cuda.get_device_properties(0)
    with open(sys.argv[1], "w") as file:
        json.dump({"device": device.name, "torch": torch.__version__, "cuda": torch.version.cuda,
                   "cudnn": torch.backends.cudnn.version(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
