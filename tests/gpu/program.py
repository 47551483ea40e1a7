"""The program `diffmask` on a device beside PyTorch, and beside itself on the processor.

    program.py PROGRAM DEVICE

Traces and exports a small recurrent net and a small transformer on each device, so that archives
hold constants of the one and run on the other; checks each on both; and compares scores of
attribution methods. Prints what it compared; exits with the number of differences above 1e-4
(LRP: 1e-3).
"""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

METHODS = ("integrated_gradients", "deeplift", "lrp")
TOLERANCE = 1e-4
LRP_TOLERANCE = 1e-3  # it divides by sums that may nearly cancel


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(20, 6), nn.Embedding(9, 6)
        self.lstm, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, ids):
        x = self.words(ids) + self.places(torch.arange(ids.size(1), device=ids.device))
        h = torch.zeros(1, ids.size(0), 8, device=ids.device)
        return self.head(self.lstm(x, (h, h))[0].sum(1))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))
        return x + self.down(nn.functional.gelu(self.up(x)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.layers = nn.Embedding(20, 8), nn.Sequential(Layer(), Layer())
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        return self.head(self.layers(self.words(ids))[:, 0])


def write_safetensors(path, tensors):
    """safetensors may not be installed."""
    names = {torch.float32: "F32", torch.int64: "I64"}
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.detach().cpu().contiguous().numpy().tobytes()
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: torch.frombuffer(bytearray(data[slice(*entry["data_offsets"])]),
                                   dtype=torch.float32).reshape(entry["shape"])
            for name, entry in header.items()}


def models(folder, device):
    """(name, archive, inputs' file, site) of each model, made on each device, in each format."""
    for name, kind, site in (("lstm", Recurrent, "words"), ("attention", Transformer, "layers.0")):
        for made_on in dict.fromkeys(("cpu", device)):
            torch.manual_seed(0)
            ids = torch.randint(0, 20, (3, 5))
            net = kind().eval()
            base = os.path.join(folder, f"{name}-{made_on.replace(':', '-')}")
            write_safetensors(base + ".safetensors", {"input0": ids, "output": net(ids)})
            net, ids = net.to(made_on), ids.to(made_on)
            with torch.no_grad():
                torch.jit.trace(net, (ids,), check_trace=False).save(base + ".pt")
            batch = {0: torch.export.Dim("batch", min=1, max=10000)}
            torch.export.save(torch.export.export(net, (ids,), dynamic_shapes=(batch,)),
                              base + ".pt2")
            for ending in (".pt", ".pt2"):
                yield f"{name} made on {made_on}{ending}", base + ending, base + ".safetensors", site


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, device = sys.argv[1:]

    def run(*arguments):
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} exited with {done.returncode}: {done.stderr.strip()}"
                               f" {done.stdout.strip()[-500:]}")
        return done.stdout

    def checked(archive, inputs, where):
        found = json.loads(run("check", archive, "--inputs", inputs, "--device", where, "--json"))
        return max([found["output_difference"]] +
                   [row["resume_difference"] for row in found["sites"]])

    def explained(archive, inputs, site, method):
        scores = []
        for where in ("cpu", device):
            out = f"{archive}-{method}-{len(scores)}.safetensors"
            run("attribute", archive, "--inputs", inputs, "--device", where, "--sites", site,
                "--method", method, "--target", "1", "--out", out)
            scores.append(next(iter(read_safetensors(out).values())))
        return ((scores[0] - scores[1]).abs().max() / max(1, scores[0].abs().max())).item()

    # At once, as a start takes seconds where there is a GPU.
    waiting = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, archive, inputs, site in models(folder, device):
            for where in dict.fromkeys(("cpu", device)):
                waiting.append((f"{name}, check on {where}", TOLERANCE,
                                pool.submit(checked, archive, inputs, where)))
            for method in METHODS:
                limit = LRP_TOLERANCE if method == "lrp" else TOLERANCE
                waiting.append((f"{name}, {method}", limit,
                                pool.submit(explained, archive, inputs, site, method)))
        failures = 0
        for name, limit, result in waiting:
            try:
                difference = result.result()
                print(f"{name}: {difference:.1e}")
                failures += not difference <= limit
            except Exception as error:
                print(f"{name}: {error}")
                failures += 1
    print(f"{failures} of {len(waiting)} differ by too much")
    sys.exit(failures)


if __name__ == "__main__":
    main()
