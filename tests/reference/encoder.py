"""Writes 6-layer BERTs of MiniLM's size (90 MB each) for tests/program/program_benchmark.cpp and
tests/attribution/attribution_benchmark.cpp.

    encoder.py FOLDER

FOLDER gets encoder.ts (traced), encoder.pt2 (torch.export) and encoder.safetensors (input0,
input1, output) for a batch of 32 x 32 tokens, and the Hugging Face folder `classifier` of a
classifier of two classes. Weights are random: only speed is measured.
"""

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from safetensors.torch import save_file


SIZES = dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = transformers.BertModel(
            transformers.BertConfig(**SIZES, attn_implementation="eager"))

    def forward(self, input_ids, attention_mask):
        return self.bert(input_ids, attention_mask, return_dict=False)[0]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.manual_seed(0)
    model = Encoder().eval()
    inputs = (torch.randint(0, 30000, (32, 32)), torch.ones(32, 32, dtype=torch.int64))
    base = os.path.join(sys.argv[1], "encoder")
    os.makedirs(sys.argv[1], exist_ok=True)
    with torch.no_grad():
        output = model(*inputs)
        torch.jit.trace(model, inputs, check_trace=False).save(base + ".ts")
    batch = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    torch.export.save(torch.export.export(model, inputs, dynamic_shapes=(batch, batch)),
                      base + ".pt2")
    save_file({"input0": inputs[0], "input1": inputs[1], "output": output.contiguous()},
              base + ".safetensors")
    classifier = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))
    classifier.save_pretrained(os.path.join(sys.argv[1], "classifier"))


if __name__ == "__main__":
    main()
