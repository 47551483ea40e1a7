"""Writes a 6-layer encoder for tests/attribution/propagation/rules_benchmark.cpp, and times Captum on it.

    rules_speed.py FOLDER [REPETITIONS]

FOLDER gets encoder.ts and encoder.safetensors (input0: embedded tokens, 16 x 32 x 384). Printed is
the median time of Captum 0.9's DeepLift for them, on two threads. Every activation is a module of
its own, as Captum needs.
"""

import os
import statistics
import sys
import time
import warnings

import torch
from captum.attr import DeepLift
from safetensors.torch import save_file

WIDTH, HEADS, INNER = 384, 12, 1536


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.output = (
            torch.nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.softmax, self.gelu = torch.nn.Softmax(dim=-1), torch.nn.GELU()
        self.inner, self.outer = torch.nn.Linear(WIDTH, INNER), torch.nn.Linear(INNER, WIDTH)
        self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)

    def forward(self, x):
        rows, length, _ = x.shape
        def heads(y):
            return y.view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2)
        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        weights = self.softmax(q @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5)
        mixed = (weights @ v).transpose(1, 2).reshape(rows, length, WIDTH)
        x = self.norm1(x + self.output(mixed))
        return self.norm2(x + self.outer(self.gelu(self.inner(x))))


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*(Layer() for _ in range(6)))
        self.head = torch.nn.Linear(WIDTH, 2)

    def forward(self, x):
        return self.head(self.layers(x)[:, 0])


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    model, x = Encoder().eval(), torch.randn(16, 32, WIDTH)
    os.makedirs(sys.argv[1], exist_ok=True)
    with torch.no_grad():
        target = model(x).argmax(1)
        torch.jit.trace(model, (x,), check_trace=False).save(os.path.join(sys.argv[1], "encoder.ts"))
    save_file({"input0": x}, os.path.join(sys.argv[1], "encoder.safetensors"))
    method, times = DeepLift(model), []
    for _ in range(int(sys.argv[2]) if len(sys.argv) == 3 else 7):
        begin = time.perf_counter()
        method.attribute(x, torch.zeros_like(x), target=target)
        times.append(time.perf_counter() - begin)
    print(f"Captum's DeepLift: {1000 * statistics.median(times):.0f} ms")


if __name__ == "__main__":
    main()
