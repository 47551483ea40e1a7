"""Times Captum on the models of tests/reference/encoder.py, beside attribution_benchmark.

    captum_times.py FOLDER [REPETITIONS]        (needs captum==0.9.0)

Runs what attribution_benchmark runs, with the weights and the texts in FOLDER (16 x 32 tokens, 2
threads), and prints the median seconds of each as JSON. The machine's noise is shared best by
alternating runs of the two; what counts are ratios.
"""

import json
import statistics
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch
import transformers
from captum.attr import LayerFeatureAblation, LayerIntegratedGradients
from safetensors.torch import load_file

from encoder import Encoder

EXAMPLES, STEPS = 16, 50


class Logits(torch.nn.Module):
    """The classifier's logits, (B, 2), with the fused attention that transformers takes itself."""

    def __init__(self, folder):
        super().__init__()
        self.whole = transformers.BertForSequenceClassification.from_pretrained(
            folder + "/classifier")
        self.bert = self.whole.bert

    def forward(self, ids, mask):
        return self.whole(ids, mask).logits


class Mean(torch.nn.Module):
    """The encoder's mean state, (B, 384): its numbers are the targets."""

    def __init__(self, encoder):
        super().__init__()
        self.bert = encoder.bert

    def forward(self, ids, mask):
        return self.bert(ids, mask, return_dict=False)[0].mean(1)


def median_seconds(run, repetitions):
    times = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return round(statistics.median(times), 3)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, repetitions = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    torch.set_num_threads(2)
    torch.manual_seed(0)
    encoder = Encoder().eval()  # the weights of encoder.py: the same seed and order
    file = load_file(folder + "/encoder.safetensors")
    ids, mask = file["input0"][:EXAMPLES], file["input1"][:EXAMPLES]
    with torch.no_grad():
        assert torch.allclose(encoder(ids, mask), file["output"][:EXAMPLES], atol=1e-4)

    target = torch.zeros(EXAMPLES, dtype=torch.int64)
    units = torch.arange(32).view(1, 32, 1).expand(1, 32, 384)
    result = {}
    for kind, model in (("program", Mean(encoder)), ("native", Logits(folder).eval())):
        for name, layer in (("embeddings", model.bert.embeddings),
                            ("layer 4", model.bert.encoder.layer[4])):
            gradients = LayerIntegratedGradients(model, layer)
            ablation = LayerFeatureAblation(model, layer)
            result[f"{kind}, integrated gradients, {name}"] = median_seconds(
                lambda: gradients.attribute(ids, additional_forward_args=(mask,), target=target,
                                            n_steps=STEPS, internal_batch_size=64), repetitions)
            result[f"{kind}, leave-one-out, {name}"] = median_seconds(
                lambda: ablation.attribute(ids, additional_forward_args=(mask,), target=target,
                                           layer_mask=units), repetitions)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
