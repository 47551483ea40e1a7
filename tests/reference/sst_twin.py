"""A plain eager PyTorch twin of DiffMask's training on SST, to compare speeds with.

    sst_twin.py MODEL_FOLDER SST_FOLDER [--gating hidden|input] [--pad 84|batch] [--steps N]

It does what the public implementation's training does: each step draws one depth; hooks record and
replace hidden states; the step for gates and baseline, and that for the multiplier, each run the
original and the masked model and a backward pass. Sentences are padded to 84 tokens, or to the
batch's longest. Prints a line of JSON: sentences a second of each step (median) and the settings.
Weights of the classifier's head are random: only speed is measured, and nothing is learnt in time.
"""

import argparse
import json
import os
import re
import statistics
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers


class Probe(torch.nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        weight_norm = torch.nn.utils.parametrizations.weight_norm
        self.layers = torch.nn.Sequential(
            weight_norm(torch.nn.Linear(width, hidden)), torch.nn.Tanh(),
            weight_norm(torch.nn.Linear(hidden, 1)))
        self.bias = torch.nn.Parameter(torch.tensor(5.0))

    def forward(self, state):
        return 10 * torch.tanh(self.layers(state)[..., 0]) + self.bias


def hard_concrete(logit, temperature=0.2, low=-0.2):
    noise = torch.rand_like(logit).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid((noise.log() - (1 - noise).log() + logit) / temperature)
    z = (soft * (1 - low) + low).clamp(0, 1)
    return z, torch.nn.functional.logsigmoid(logit - temperature * torch.log(torch.tensor(-low)))


class Twin:
    def __init__(self, folder, gating):
        self.encoder = transformers.BertModel.from_pretrained(folder).eval().requires_grad_(False)
        width = self.encoder.config.hidden_size
        self.head = torch.nn.Linear(width, 5).requires_grad_(False)
        self.modules = [self.encoder.embeddings.word_embeddings, self.encoder.embeddings,
                        *self.encoder.encoder.layer]
        self.gating = gating
        first = 2 if gating == "input" else 1
        self.probes = torch.nn.ModuleList(
            Probe(width * (first if depth else 1), width // 4)
            for depth in range(len(self.modules)))
        self.baselines = torch.nn.Parameter(torch.zeros(len(self.modules), width))
        self.multipliers = torch.nn.Parameter(torch.ones(len(self.modules)))

    def logits(self, ids, mask):
        return self.head(self.encoder(ids, mask).pooler_output)

    def hooked(self, ids, mask, replace):
        """The output, with replace(depth, state) in each hidden state's place."""
        def hook(depth):
            return lambda _module, _inputs, output: replace(depth, output)

        handles = [m.register_forward_hook(hook(d)) for d, m in enumerate(self.modules)]
        output = self.logits(ids, mask)
        for handle in handles:
            handle.remove()
        return output

    def lagrangian(self, ids, mask, depth):
        states = [None] * len(self.modules)

        def record(d, state):
            states[d] = state

        with torch.no_grad():
            original = self.hooked(ids, mask, record)
        if self.gating == "hidden":
            z, log_keep = hard_concrete(self.probes[depth](states[depth]))
            site = depth
        else:
            parts = [hard_concrete(self.probes[d](torch.cat([states[0], states[d]], -1) if d
                                                  else states[0])) for d in range(depth + 1)]
            z = torch.stack([part[0] for part in parts]).prod(0)
            log_keep = torch.stack([part[1] for part in parts]).sum(0)
            site = 0

        def mask_site(d, state):
            if d == site:
                return z[..., None] * state + (1 - z[..., None]) * self.baselines[site]

        masked = self.hooked(ids, mask, mask_site)
        p, q = original.log_softmax(-1), masked.log_softmax(-1)
        divergence = (p.exp() * (p - q)).sum(-1).mean()
        penalty = (log_keep.exp() * mask).sum() / mask.sum()
        return penalty + self.multipliers[depth] * (divergence - 0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("sst")
    parser.add_argument("--gating", choices=["hidden", "input"], default="hidden")
    parser.add_argument("--pad", choices=["84", "batch"], default="84")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    twin = Twin(options.model, options.gating)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    with open(os.path.join(options.sst, "train.txt"), encoding="utf-8") as lines:
        texts = [" ".join(re.findall(r" ([^() ]+)\)", line)) for line in lines]
    gates = torch.optim.RMSprop([*twin.probes.parameters(), twin.baselines], lr=3e-4)
    multiplier = torch.optim.RMSprop([twin.multipliers], lr=0.3, maximize=True)
    order = torch.randperm(len(texts))
    speeds = []
    for step in range(options.steps):
        chosen = order[step * options.batch:(step + 1) * options.batch]
        batch = tokenizer([texts[i] for i in chosen], return_tensors="pt", truncation=True,
                          max_length=84, padding="max_length" if options.pad == "84" else True)
        depth = int(torch.randint(len(twin.modules), ()))
        began = time.perf_counter()
        for optimizer in (gates, multiplier):
            optimizer.zero_grad()
            twin.lagrangian(batch["input_ids"], batch["attention_mask"], depth).backward()
            optimizer.step()
        speeds.append(options.batch / (time.perf_counter() - began))
    print(json.dumps({"sentences_per_second": statistics.median(speeds), "gating": options.gating,
                      "pad": options.pad, "threads": options.threads, "steps": options.steps}))


if __name__ == "__main__":
    main()
