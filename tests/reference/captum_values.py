"""Writes small random models and Captum's attributions of them, for tests/attribution.

    captum_values.py FOLDER        (needs captum==0.9.0)

For each of mlp, cnn, gru and bert, in FOLDER:

    NAME.ts           TorchScript, traced
    NAME.safetensors  input0.., output, target (the class explained), baseline, and METHOD, at the
                      site "input" (bert: "bert.embeddings"), and for bert METHOD/hidden, at
                      "bert.encoder.layer.3"

METHOD is saliency (the gradient itself), input_x_gradient, integrated_gradients (50 Gauss-Legendre
steps), feature_ablation (one number a position) and, for mlp and cnn, deeplift. All but the first
two are against the baseline; deeplift/zero is against 0. Of the saliency, metrics with the fixed
perturbations of the state in `perturbations` (4, B, ...): infidelity, infidelity/normalize and
sensitivity_max.

The CNN calls one ReLU in two places. Captum's DeepLIFT cannot know which call a gradient is of, so
that it is given the same net with a module for each call.
"""

import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
import transformers
from captum.attr import DeepLift, FeatureAblation, InputXGradient, IntegratedGradients, Saliency
from captum.metrics import infidelity, sensitivity_max
from safetensors.torch import save_file
from torch import nn

torch.set_num_threads(1)


class Input(nn.Module):
    """An identity that a trace keeps."""

    def forward(self, x):
        return x.clone()


class Mlp(nn.Module):
    """Positions (B, 5, 4) -> 3 classes."""

    def __init__(self):
        super().__init__()
        self.input, self.hidden = Input(), nn.Linear(20, 16)
        self.layers = nn.Sequential(nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))

    def forward(self, x):
        return self.layers(self.hidden(self.input(x).flatten(1)))


class Cnn(nn.Module):
    """Images (B, 2, 8, 8) -> 3 classes."""

    def __init__(self, reused=True):
        super().__init__()
        self.input = Input()
        self.conv1, self.conv2 = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(96, 3)
        self.relu1 = nn.ReLU()
        self.relu2 = self.relu1 if reused else nn.ReLU()

    def forward(self, x):
        x = self.pool(self.relu1(self.conv1(self.input(x))))
        return self.head(self.relu2(self.conv2(x)).flatten(1))


class Gru(nn.Module):
    """Ids (B, 6) -> 3 classes, from the mean state."""

    def __init__(self):
        super().__init__()
        self.input = nn.Embedding(30, 8)
        self.layer, self.head = nn.GRU(8, 12, batch_first=True, bidirectional=True), nn.Linear(24, 3)

    def forward(self, ids):
        return self.from_input(self.input(ids))

    def from_input(self, x):
        return self.head(torch.tanh(self.layer(x)[0]).mean(1))


class Bert(nn.Module):
    """Ids, mask (B, 7) -> 3 classes, from 6 layers."""

    def __init__(self):
        super().__init__()
        config = transformers.BertConfig(
            vocab_size=50, hidden_size=32, num_hidden_layers=6, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=32, attn_implementation="eager")
        self.bert, self.head = transformers.BertModel(config), nn.Linear(32, 3)

    def forward(self, ids, mask):
        return self.head(self.bert(ids, mask, return_dict=False)[1])


def randomize(model, scale):
    """Weights large enough that the model is far from linear."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))


def attributions(function, x, baseline, target, unit):
    """Captum's values at x; `unit` numbers the features that are taken away together."""
    fixed = dict(target=target)
    masked = FeatureAblation(function).attribute(x, baseline, feature_mask=unit, **fixed)
    return {
        "saliency": Saliency(function).attribute(x, abs=False, **fixed),
        "input_x_gradient": InputXGradient(function).attribute(x, **fixed),
        "integrated_gradients": IntegratedGradients(function).attribute(
            x, baseline, n_steps=50, method="gausslegendre", **fixed),
        "feature_ablation": masked,
    }


def metrics(function, x, target, saliency):
    """Captum's metrics of the saliency; it repeats each example, one for each perturbation."""
    count = 4  # changes large enough that infidelity is no difference of nearly equal numbers
    changes = torch.randn(count, *x.shape, generator=torch.Generator().manual_seed(7))
    by_example = changes.transpose(0, 1).reshape(-1, *x.shape[1:])
    values = {"perturbations": changes}
    for name, normalize in (("infidelity", False), ("infidelity/normalize", True)):
        values[name] = infidelity(function, lambda h: (by_example, h - by_example), x, saliency,
                                  target=target, n_perturb_samples=count, normalize=normalize)

    def explain(state, target):
        state = state[0] if isinstance(state, tuple) else state
        return (Saliency(function).attribute(state, target=target, abs=False).contiguous(),)

    values["sensitivity_max"] = sensitivity_max(
        explain, x, lambda state: state + by_example, n_perturb_samples=count, target=target)
    return values


def position_units(x):
    """All features of a position, or of a cell of an image, are one unit."""
    if x.dim() == 4:
        return torch.arange(x.size(2) * x.size(3)).view(1, 1, x.size(2), -1).expand_as(x[:1])
    return torch.arange(x.size(1)).view(1, -1, 1).expand_as(x[:1])


def one_a_position(ablation):
    return ablation.flatten(2)[:, 0] if ablation.dim() == 4 else ablation[..., 0]


def write(folder, name, model, inputs, x, function, more=None, repeating=None):
    output = model(*inputs).detach()
    target = output.argmax(1)
    baseline = 0.3 * torch.randn_like(x[:1])
    values = attributions(function, x, baseline.expand_as(x), target, position_units(x))
    values["feature_ablation"] = one_a_position(values["feature_ablation"])
    values.update(metrics(repeating or function, x, target, values["saliency"]))
    values.update({f"input{i}": value for i, value in enumerate(inputs)})
    values.update(output=output, target=target, baseline=baseline)
    values.update((more or (lambda *_: {}))(x, baseline, target))
    tensors = {key: value.detach().clone().contiguous() for key, value in values.items()}
    save_file(tensors, os.path.join(folder, name + ".safetensors"))
    torch.jit.trace(model, inputs, check_trace=False).save(os.path.join(folder, name + ".ts"))
    print(name, sorted(tensors), flush=True)


def deeplift(model):
    """DeepLIFT's Rescale rule against the baseline, and against 0."""
    def values(x, baseline, target):
        method = DeepLift(model)
        return {"deeplift": method.attribute(x, baseline.expand_as(x), target=target),
                "deeplift/zero": method.attribute(x, target=target)}
    return values


def bert_from(model, mask, number, each=False):
    """The encoder's function from its embeddings (number 0), or from layer number - 1's output.

    Captum's attributions repeat the batch; its metrics `each` example.
    """
    bias = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min

    def function(state):
        count = state.size(0) // bias.size(0)
        repeated = bias.repeat_interleave(count, 0) if each else bias.repeat(count, 1, 1, 1)
        for layer in model.bert.encoder.layer[number:]:
            state = layer(state, repeated)
            state = state[0] if isinstance(state, tuple) else state
        return model.head(model.bert.pooler(state))
    return function


def write_bert(folder):
    model = Bert().eval()
    randomize(model, 0.1)
    ids, mask = torch.randint(0, 50, (4, 7)), torch.ones(4, 7, dtype=torch.int64)
    mask[1, 5:] = 0
    with torch.no_grad():
        x = model.bert.embeddings(ids)
        hidden = x
        for layer in model.bert.encoder.layer[:4]:
            full = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
            hidden = layer(hidden, full)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    for number, state in ((0, x), (4, hidden)):
        difference = (bert_from(model, mask, number)(state) - model(ids, mask)).abs().max().item()
        assert difference < 1e-5, f"from {number}: {difference}"

    def at_hidden(_x, baseline, target):
        values = attributions(bert_from(model, mask, 4), hidden, baseline.expand_as(hidden), target,
                              position_units(hidden))
        values["feature_ablation"] = one_a_position(values["feature_ablation"])
        values.update(metrics(bert_from(model, mask, 4, each=True), hidden, target,
                              values["saliency"]))
        return {f"{key}/hidden": value for key, value in values.items()}

    write(folder, "bert", model, (ids, mask), x, bert_from(model, mask, 0), at_hidden,
          bert_from(model, mask, 0, each=True))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(0)

    model = Mlp().eval()
    x = torch.randn(4, 5, 4)
    write(folder, "mlp", model, (x,), x, model, deeplift(model))

    model, separate = Cnn().eval(), Cnn(reused=False).eval()
    separate.load_state_dict(model.state_dict())
    x = torch.randn(4, 2, 8, 8)
    write(folder, "cnn", model, (x,), x, separate, deeplift(separate))

    model = Gru().eval()
    randomize(model, 0.2)
    ids = torch.randint(0, 30, (4, 6))
    write(folder, "gru", model, (ids,), model.input(ids).detach(), model.from_input)

    write_bert(folder)


if __name__ == "__main__":
    main()
