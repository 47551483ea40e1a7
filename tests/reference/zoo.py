"""Writes small random models with PyTorch's own answers, to test lowered programs against.

    zoo.py FOLDER [NAME ...]

For each model of MODELS (or only the named ones), in FOLDER:

    NAME.ts             TorchScript, traced, or scripted for the models of SCRIPTED
    NAME.pt2            torch.export.export with as many dynamic dimensions as it accepts
    NAME.safetensors    input0.., output, state/SITE for every submodule call, cotangent, and
                        grad/SITE: the gradient of (output * cotangent).sum() with respect to a
                        state put in the place of that call's output
    NAME.b.safetensors  input0.. and output for other sizes, if either format accepts them
    zoo.json            which formats each model has, and why not

A SITE is the submodule's dotted path (the first one, if it has several), then #K for the K-th
further call of that submodule, then [KEY] for each step into a tuple, list or dict output. An
index counts every item of a tuple, also those that are not tensors.
"""

import json
import logging
import os
import sys
import warnings
import zlib
from collections import Counter, OrderedDict
from functools import partial

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from torch import nn

torch.set_num_threads(1)
logging.disable(logging.WARNING)
transformers.logging.set_verbosity_error()

SCRIPTED = {"lstm_scripted", "gru_scripted", "moe"}
IN_BLOCKS = {"lstm_scripted", "gru_scripted"}  # their modules are called inside a loop
EXPORTED_ONLY = {"control"}  # a trace forgets no_grad, so its gradients are others


# Wrappers and models of our own.


class First(nn.Module):
    """A transformers model returning the first of its outputs; `second` names a second input."""

    def __init__(self, model, second=None, **options):
        super().__init__()
        self.model, self.second, self.options = model, second, options

    def forward(self, value, other=None):
        options = self.options if other is None else {**self.options, self.second: other}
        return self.model(value, return_dict=False, **options)[0]


class Residual(nn.Module):
    def __init__(self, width, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = None
        if stride != 1 or width != out:
            self.shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x):
        identity = x if self.shortcut is None else self.shortcut(x)
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += identity
        return self.relu(out)


def resnet():
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(3, 8, 3, 1, 1, bias=False), norm=nn.BatchNorm2d(8),
        relu=nn.ReLU(inplace=True), pool=nn.MaxPool2d(3, 2, 1),
        first=Residual(8, 8, 1), second=Residual(8, 16, 2),
        average=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(16, 5)))


class Recurrent(nn.Module):
    """Classifies ids from the last output of nn.LSTM or nn.GRU."""

    def __init__(self, layer, width):
        super().__init__()
        self.embed, self.layer, self.head = nn.Embedding(50, 16), layer, nn.Linear(width, 5)

    def forward(self, ids):
        out, _ = self.layer(self.embed(ids))
        return self.head(out[:, -1])


class LstmLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 16), nn.Linear(24, 5)
        self.gates = nn.Linear(16 + 24, 4 * 24)

    def forward(self, ids):
        x = self.embed(ids)
        h = torch.zeros(x.size(0), 24)
        c = torch.zeros(x.size(0), 24)
        for t in range(x.size(1)):
            i, f, g, o = self.gates(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.head(h)


class GruLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 16), nn.Linear(24, 5)
        self.gates, self.new = nn.Linear(16 + 24, 2 * 24), nn.Linear(16 + 24, 24)

    def forward(self, ids):
        x = self.embed(ids)
        h = torch.zeros(x.size(0), 24)
        for t in range(x.size(1)):
            r, z = torch.sigmoid(self.gates(torch.cat([x[:, t], h], 1))).chunk(2, 1)
            n = torch.tanh(self.new(torch.cat([x[:, t], r * h], 1)))
            h = (1 - z) * n + z * h
        return self.head(h)


class MixerBlock(nn.Module):
    def __init__(self, tokens, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 24), nn.GELU(), nn.Linear(24, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.blocks = nn.ModuleList(MixerBlock(16, 32) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Experts(nn.Module):
    """Sends each token to the one expert its router prefers."""

    def __init__(self):
        super().__init__()
        self.embed, self.router = nn.Embedding(50, 32), nn.Linear(32, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 32)) for _ in range(3))
        self.head = nn.Linear(32, 5)

    def forward(self, ids):
        x = self.embed(ids)
        flat = x.flatten(0, 1)
        weight, choice = torch.softmax(self.router(flat), -1).max(-1)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            rows = torch.nonzero(choice == i).squeeze(1)
            scale = weight.index_select(0, rows).unsqueeze(1)
            out = out.index_add(0, rows, scale * expert(flat.index_select(0, rows)))
        return self.head(x + out.view_as(x))


class Convolve(nn.Module):
    """One graph convolution: the degree-scaled sum over edges (from, to)."""

    def __init__(self, width, out):
        super().__init__()
        self.linear = nn.Linear(width, out)

    def forward(self, x, edges):
        x, source, target = self.linear(x), edges[0], edges[1]
        degree = torch.zeros_like(x[:, 0]).index_add(0, target, torch.ones_like(x[:, 0])[target])
        scale = degree.clamp(min=1).rsqrt()
        messages = x[source] * (scale[source] * scale[target]).unsqueeze(1)
        return torch.zeros_like(x).index_add(0, target, messages)


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Convolve(12, 32), Convolve(32, 5)

    def forward(self, x, edges):
        return F.log_softmax(self.second(F.relu(self.first(x, edges)), edges), -1)


class InPlace(nn.Module):
    """Changes a submodule's output in place, directly and through views used afterwards."""

    def __init__(self):
        super().__init__()
        self.first, self.token = nn.Linear(16, 32), nn.Linear(16, 32)
        self.second, self.relu = nn.Linear(32, 32), nn.ReLU(inplace=True)
        self.side, self.head = nn.Linear(32, 5), nn.Linear(32, 5)

    def forward(self, x):
        base = self.first(x)
        tail = base[:, 1:]
        base[:, 0] = self.token(x[:, 0])
        tail.add_(0.5)
        base.relu_()  # also changes tail
        y = self.second(base)
        y[:, 1:].add_(tail)
        y[:, -1] = base[:, 0]
        y = self.relu(y)
        return self.head(y).add_(self.side(tail).mean(1, keepdim=True))


class Control(nn.Module):
    """Control flow that torch.export keeps as operators with graphs; elsewhere it runs as Python."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.cell = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 5)
        self.scale = torch.linspace(0.5, 1.5, 32)

    def step(self, h, x):
        h = torch.tanh(self.cell(h) + x)
        return h, h * 2

    def choose(self, x):
        if torch.compiler.is_exporting():
            return torch.cond(x.sum() > 0, lambda x: self.first(x).sin(), lambda x: self.second(x), (x,))
        return self.first(x).sin() if x.sum() > 0 else self.second(x)

    def scan(self, h, xs):
        if torch.compiler.is_exporting():
            return torch._higher_order_ops.scan(self.step, h, xs, dim=0)[1]
        outputs = []
        for x in xs:
            h, y = self.step(h, x)
            outputs.append(y)
        return torch.stack(outputs)

    def repeat(self, x):
        count = torch.tensor(0)
        if torch.compiler.is_exporting():
            return torch._higher_order_ops.while_loop(
                lambda i, x: i < 3, lambda i, x: (i + 1, x * 1.5), (count, x))[1]
        for _ in range(3):
            x = x * 1.5
        return x

    def forward(self, x):
        y = self.choose(x)
        with torch.no_grad():
            gain = torch.sigmoid(y * self.scale)
        y = self.scan(torch.zeros(x.size(0), 32), (gain * y).transpose(0, 1))
        return self.head(self.repeat(y).mean(0))


# The table: each model with its inputs for two sizes and the names of the inputs' dimensions.


def ids(batch, length):
    return (torch.randint(3, 50, (batch, length)),)


def masked_ids(batch, length):
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, length - 2:] = 0
    return ids(batch, length) + (mask,)


def image(batch, side):
    return (torch.randn(batch, 3, side, side),)


def graph(nodes, edges):
    pairs = torch.cat([torch.randint(0, nodes, (2, edges)), torch.arange(nodes).expand(2, -1)], 1)
    return torch.randn(nodes, 12), pairs


def build(kind, head, attention="eager", **sizes):
    """A transformers model, such as Bert + ForMaskedLM, from its configuration."""
    config = getattr(transformers, kind + "Config")(attn_implementation=attention, **sizes)
    return getattr(transformers, kind + head)(config)


BERT = dict(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=40)
DISTILBERT = dict(vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=48,
                  max_position_embeddings=40)
GPT2 = dict(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=40)
T5 = dict(vocab_size=50, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
          relative_attention_num_buckets=8, relative_attention_max_distance=16,
          decoder_start_token_id=0)
VIT = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
           image_size=16, patch_size=4)

LLAMA = dict(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, intermediate_size=48, max_position_embeddings=40)

IDS = [("batch", "length")]
IMAGE, SIDES = [("batch",)], [("batch", None, "height", "width")]
TEXT_SIZES, IMAGE_SIZES = [(3, 7), (2, 10)], [(3, 16), (2, 16)]

MODELS = {
    "bert": (lambda: First(build("Bert", "ForMaskedLM", **BERT), "attention_mask"),
             masked_ids, TEXT_SIZES, IDS * 2),
    "distilbert": (lambda: First(build("DistilBert", "ForSequenceClassification", "sdpa",
                                       **DISTILBERT)), ids, TEXT_SIZES, IDS),
    "roberta": (lambda: First(build("Roberta", "ForTokenClassification", **BERT)),
                ids, TEXT_SIZES, IDS),
    "albert": (lambda: First(build("Albert", "ForMaskedLM", embedding_size=16,
                                   **{**BERT, "num_hidden_layers": 3})), ids, TEXT_SIZES, IDS),
    "gpt2": (lambda: First(build("GPT2", "LMHeadModel", **GPT2), use_cache=False),
             ids, TEXT_SIZES, IDS),
    "t5": (lambda: First(build("T5", "ForConditionalGeneration", **T5), "decoder_input_ids",
                         use_cache=False),
           lambda batch, length: ids(batch, length) + ids(batch, length - 2), TEXT_SIZES,
           IDS + [("batch", "decoder_length")]),
    "vit": (lambda: First(build("ViT", "ForImageClassification", "sdpa", **VIT)),
            image, IMAGE_SIZES, IMAGE),
    "resnet": (resnet, image, [(3, 16), (2, 20)], SIDES),
    "lstm": (lambda: Recurrent(nn.LSTM(16, 24, 2, batch_first=True), 24), ids, TEXT_SIZES, IDS),
    "lstm_scripted": (LstmLoop, ids, TEXT_SIZES, IDS),
    "gru": (lambda: Recurrent(nn.GRU(16, 24, batch_first=True, bidirectional=True), 48),
            ids, TEXT_SIZES, IDS),
    "gru_scripted": (GruLoop, ids, TEXT_SIZES, IDS),
    "mixer": (Mixer, image, IMAGE_SIZES, IMAGE),
    "moe": (Experts, ids, TEXT_SIZES, IDS),
    "gcn": (Graph, graph, [(9, 14), (6, 20)], [("nodes",), (None, "edges")]),
    "llama": (lambda: First(build("Llama", "ForCausalLM", "sdpa", **LLAMA), use_cache=False),
              ids, TEXT_SIZES, IDS),
    "control": (Control, lambda batch, length: (torch.randn(batch, length, 16),), TEXT_SIZES,
                [(None, None)]),
    "inplace": (InPlace, lambda batch, length: (torch.randn(batch, length, 16),), TEXT_SIZES, IDS),
}


# The reference: what every call returned, and the gradients with respect to it.


def mapped(value, change, path=""):
    """A module's output with change(path, tensor) for each tensor in it."""
    if torch.is_tensor(value):
        return change(path, value)
    if isinstance(value, dict):
        return type(value)((k, mapped(v, change, f"{path}[{k}]")) for k, v in value.items())
    if isinstance(value, (tuple, list)):
        return type(value)(mapped(v, change, f"{path}[{i}]") for i, v in enumerate(value))
    return value


def run(model, inputs, change):
    """Runs the model with change(site, tensor) in the place of each tensor its modules return."""
    calls = Counter()

    def hook(name, _module, _args, output):
        site = f"{name}#{calls[name]}" if calls[name] else name
        calls[name] += 1
        return mapped(output, lambda path, tensor: change(site + path, tensor))

    handles = [module.register_forward_hook(partial(hook, name))
               for name, module in model.named_modules() if name]
    output = model(*inputs)
    for handle in handles:
        handle.remove()
    return output


def reference(model, inputs):
    """All tensors of NAME.safetensors."""
    states = {}

    def record(site, tensor):
        states[site] = tensor.detach().clone()
        return tensor

    output = run(model, inputs, record).detach()
    cotangent = torch.randn_like(output)
    tensors = {f"input{i}": value for i, value in enumerate(inputs)}
    tensors.update(output=output, cotangent=cotangent)
    for site, state in states.items():
        tensors[f"state/{site}"] = state
        if not state.is_floating_point():
            continue
        leaf = state.clone().requires_grad_()
        result = run(model, inputs, lambda at, tensor: leaf.clone() if at == site else tensor)
        assert torch.equal(result, output), f"putting back {site} changes the output"
        (gradient,) = torch.autograd.grad((result * cotangent).sum(), leaf, allow_unused=True)
        if gradient is not None:
            tensors[f"grad/{site}"] = gradient
    return tensors


# The two formats.


def first_line(error):
    return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"


def difference(program, inputs, output):
    """Why a reloaded program does not give the output, or None if it does."""
    try:
        torch.testing.assert_close(program(*inputs), output, rtol=1e-5, atol=1e-5)
    except Exception as error:
        return first_line(error)


def save_script(model, inputs, scripted, path):
    script = torch.jit.script if scripted else partial(
        torch.jit.trace, example_inputs=inputs, check_trace=False)
    script(model).save(path)
    return torch.jit.load(path)


def save_exported(model, inputs, dims, path, entry):
    """Exports with every named dimension dynamic if it can, or else static."""
    auto = tuple({i: torch.export.Dim.AUTO for i, dim in enumerate(d) if dim} for d in dims)
    try:
        program = torch.export.export(model, inputs, dynamic_shapes=auto)
    except Exception as error:
        entry["exported_static_because"] = first_line(error)
        program = torch.export.export(model, inputs)
    torch.export.save(program, path)
    program = torch.export.load(path)
    users = program.graph_signature.user_inputs
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in users]
    entry["exported_dims"] = sorted({dim for shape, names in zip(shapes, dims)
                                     for size, dim in zip(shape, names)
                                     if dim and not isinstance(size, int)})
    return program.module()


def randomize(model):
    """Gives every parameter and statistic a value that shows when it is left out."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)


def save_tensors(tensors, path):
    save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()}, path)


def write(name, folder):
    """Writes one model's files and returns its entry of zoo.json."""
    torch.manual_seed(zlib.crc32(name.encode()))
    make, make_inputs, (sizes, other_sizes), dims = MODELS[name]
    base = os.path.join(folder, name)
    model = make().eval()
    randomize(model)
    inputs, others = make_inputs(*sizes), make_inputs(*other_sizes)
    tensors = reference(model, inputs)
    save_tensors(tensors, base + ".safetensors")
    other_output = model(*others).detach()
    entry = {"name": name, "in_blocks": name in IN_BLOCKS,
             "sites": sum(key.startswith("state/") for key in tensors)}
    for kind, path in (("script", base + ".ts"), ("exported", base + ".pt2")):
        try:
            if kind == "script" and name in EXPORTED_ONLY:
                raise ValueError("not what a trace can hold")
            if kind == "script":
                program = save_script(model, inputs, name in SCRIPTED, path)
            else:
                program = save_exported(model, inputs, dims, path, entry)
            problem = difference(program, inputs, tensors["output"])
        except Exception as error:
            problem = first_line(error)
        if problem and os.path.exists(path):
            os.remove(path)
        static = problem or difference(program, others, other_output)
        entry.update({kind: not problem, f"{kind}_problem": problem,
                      f"{kind}_dynamic": not static})
        if static and not problem:
            entry[f"{kind}_static_because"] = static
    if entry["script_dynamic"] or entry["exported_dynamic"]:
        other = {f"input{i}": value for i, value in enumerate(others)}
        save_tensors({**other, "output": other_output}, base + ".b.safetensors")
    return entry


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, names = sys.argv[1], sys.argv[2:] or list(MODELS)
    os.makedirs(folder, exist_ok=True)
    entries = []
    for name in names:
        entries.append(write(name, folder))
        print(" ".join(f"{key}={value}" for key, value in entries[-1].items()
                       if value is not None), flush=True)
    with open(os.path.join(folder, "zoo.json"), "w") as file:
        json.dump(entries, file, indent=1)
    failed = [entry["name"] for entry in entries if not (entry["script"] or entry["exported"])]
    if failed:
        sys.exit("neither format: " + ", ".join(failed))


if __name__ == "__main__":
    main()
