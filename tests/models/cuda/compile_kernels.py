"""Compile every Triton kernel of ours for Hopper, down to machine code, and print their names.

A separate program, because a process either compiles kernels or interprets them.
"""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.cuda.kernels import geglu, norm_silu, quantise, slot_update

HOPPER = GPUTarget("cuda", 90, 32)
HALF, FLOAT = "*fp16", "*fp32"

# Kernel, types of its pointers, and the constants it is compiled with; other arguments are int32.
KERNELS: list[tuple[Any, dict[str, str], dict[str, int]]] = [
    (
        norm_silu._moments,
        {"x": HALF, "means": FLOAT, "deviations": FLOAT},
        {"PIXELS": 64, "CHANNELS": 128},
    ),
    (
        norm_silu._merge,
        {
            "means": FLOAT,
            "deviations": FLOAT,
            "group_means": FLOAT,
            "group_scales": FLOAT,
            "eps": "fp32",
        },
        {"PIXELS": 64, "MERGED": 64, "CHANNELS": 64},
    ),
    (
        norm_silu._apply,
        dict.fromkeys(("x", "weight", "bias", "out"), HALF)
        | {"group_means": FLOAT, "group_scales": FLOAT},
        {"PIXELS": 64, "CHANNELS": 128},
    ),
    (geglu._geglu, {"projected": HALF, "out": HALF}, {"BLOCK": 1024}),
    (
        slot_update._update,
        dict.fromkeys(slot_update._update.arg_names[:12], FLOAT)
        | {"positive": HALF, "negative": HALF, "blank": HALF},
        {"COLUMNS": 8, "DEPTH": 5, "BLOCK": 512},
    ),
    (quantise._quantise, {"x": HALF, "out": "*fp8e4nv", "scales": FLOAT}, {"BLOCK": 2048}),
]  # fmt: skip


def main() -> None:
    for kernel, types, constants in KERNELS:
        signature = {
            name: "constexpr" if name in constants else types.get(name, "i32")
            for name in kernel.arg_names
        }
        source = ASTSource(kernel, signature, constexprs=constants)
        assert triton.compile(source, target=HOPPER).asm["cubin"]
        print(kernel.__name__)


if __name__ == "__main__":
    main()
