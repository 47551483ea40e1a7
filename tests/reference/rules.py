"""Writes models, and what Zennit, Captum and deeplift.py give on them, for tests/attribution.

    rules.py FOLDER

vgg: a VGG-like network; relevance of its input by Zennit 0.5 (epsilon, gamma, alpha-beta, z^B).
mlp, cnn: multipliers x (input - baseline) of their input by Captum 0.9's DeepLift. The cnn uses one
ReLU module twice, which Captum refuses, so Captum gets a copy with two. It has no max pooling:
Captum's scores do not add up there, unless the baseline is zero.
bert, bert6: BERT classifiers of 3 and 6 layers with random weights, traced with their attention
written out, exported with the fused one. gru, lstm: two layers in both directions.
Of bert6 at bert.embeddings, and of the input of gru and lstm: multipliers x (input - baseline) by
deeplift.py, and `difference`, target(input) - target(baseline), their sum. (Captum leaves products
and layer norm at their gradients, and its softmax does not add up.)

Each NAME.ts or NAME.pt2 comes with NAME.safetensors. Packages: torch, transformers, and without
their dependencies captum==0.9.0 and zennit==0.5.1.
"""

import copy
import os
import sys
import types

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import deeplift
import torch
import transformers
from safetensors.torch import save_file


class Stub(types.ModuleType):
    """Stands for torchvision, which Zennit imports for models that are not used here."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


STUBS = {name: Stub(name) for name in ("torchvision", "torchvision.models",
                                       "torchvision.models.vgg", "torchvision.models.resnet")}


class Vgg(torch.nn.Module):
    def __init__(self):
        super().__init__()
        conv, relu, pool = torch.nn.Conv2d, torch.nn.ReLU, torch.nn.MaxPool2d
        self.features = torch.nn.Sequential(
            conv(3, 8, 3, padding=1), relu(), conv(8, 8, 3, padding=1), relu(), pool(2),
            conv(8, 16, 3, padding=1), relu(), conv(16, 16, 3, padding=1), relu(), pool(2))
        self.avgpool = torch.nn.AvgPool2d(2)
        self.classifier = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 32), relu(), torch.nn.Linear(32, 5))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)))


class Cnn(torch.nn.Module):
    def __init__(self, separate):
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(2, 6, 3, padding=1), torch.nn.Conv2d(6, 6, 3)
        self.pool, self.head = torch.nn.AvgPool2d(2), torch.nn.Linear(24, 4)
        self.relu = torch.nn.ReLU()
        self.relu2 = torch.nn.ReLU() if separate else self.relu

    def forward(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        return self.head(self.relu2(self.conv2(x)).flatten(1))


class Recurrent(torch.nn.Module):
    """Sequences (B, T, 4) -> 3 classes, from the mean state."""

    def __init__(self, kind):
        super().__init__()
        self.layers = kind(4, 8, 2, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.layers(x)[0]).mean(1))


class Bert(torch.nn.Module):
    def __init__(self, attention, layers):
        super().__init__()
        self.bert = transformers.BertModel(transformers.BertConfig(
            vocab_size=100, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4,
            intermediate_size=64, attn_implementation=attention))
        self.classifier = torch.nn.Linear(32, 3)

    def forward(self, input_ids, attention_mask):
        return self.classifier(self.bert(input_ids, attention_mask, return_dict=False)[1])


def save(folder, name, model, inputs, values):
    with torch.no_grad():
        values["output"] = model(*inputs)
        torch.jit.trace(model, inputs, check_trace=False).save(os.path.join(folder, name + ".ts"))
    values.update({f"input{i}": tensor for i, tensor in enumerate(inputs)})
    save_file({key: value.detach().contiguous().clone() for key, value in values.items()},
              os.path.join(folder, name + ".safetensors"))


def zennit_values(model, x):
    sys.modules.update(STUBS)
    from zennit import attribution, composites, rules, types as kinds
    for name in STUBS:
        del sys.modules[name]

    low, high = -3.0, 3.0

    def composite(rule, first=None):
        layers = [(kinds.Activation, rules.Pass()), (kinds.AvgPool, rules.Norm()),
                  (kinds.Linear, rule)]
        if first is None:
            return composites.LayerMapComposite(layers)
        return composites.SpecialFirstLayerMapComposite(
            layers, first_map=[(kinds.Convolution, first)])

    named = {
        "epsilon": composite(rules.Epsilon(1e-6)),
        "gamma": composite(rules.Gamma(0.25)),
        "alpha_beta": composite(rules.AlphaBeta(2, 1)),
        "z_box": composite(rules.Epsilon(1e-6), rules.ZBox(low, high)),
    }
    values = {}
    for name, rule in named.items():
        with attribution.Gradient(model, rule) as attributor:
            def logit(output):
                return output.detach() * torch.nn.functional.one_hot(output.argmax(1), 5)
            values["lrp/" + name] = attributor(x.clone().requires_grad_(True), logit)[1]
    return values


def captum_values(model, x, baseline):
    from captum.attr import DeepLift
    with torch.no_grad():
        target = model(x).argmax(1)
    return {"baseline": baseline,
            "deeplift": DeepLift(model).attribute(x.clone(), baseline, target=target)}


def recurrent_values(model, x, baseline):
    exact = copy.deepcopy(model).double()

    def function(rows):
        return exact.head(deeplift.tanh(deeplift.recurrent(rows, exact.layers)).mean(1))

    x = x.double()
    values = deeplift.deeplift(function, x, baseline.double(), exact(x))
    return {"baseline": baseline, **values}


def bert_values(model, ids, mask, baseline):
    exact = copy.deepcopy(model).double()

    def function(rows):
        return deeplift.bert(rows, mask, exact.bert, exact.classifier)

    x = exact.bert.embeddings(ids).detach()
    values = deeplift.deeplift(function, x, baseline.double(), exact(ids, mask))
    return {"baseline": baseline, **values}


def export(folder, name, model, inputs):
    torch.export.save(torch.export.export(model, inputs), os.path.join(folder, name + ".pt2"))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(0)

    vgg, image = Vgg().eval(), torch.randn(4, 3, 16, 16).clamp(-3, 3)
    save(folder, "vgg", vgg, (image,), zennit_values(vgg, image))

    layers = [torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.ReLU(),
              torch.nn.Flatten(), torch.nn.Linear(40, 16), torch.nn.Sigmoid(),
              torch.nn.Linear(16, 3)]
    mlp, x = torch.nn.Sequential(*layers).eval(), torch.randn(6, 5, 4)
    save(folder, "mlp", mlp, (x,), captum_values(mlp, x, torch.randn(1, 5, 4).expand(6, 5, 4)))

    separate, shared = Cnn(True).eval(), Cnn(False).eval()
    shared.load_state_dict(separate.state_dict())
    x = torch.randn(6, 2, 8, 8)
    baseline = torch.randn(1, 2, 8, 8).expand_as(x)
    save(folder, "cnn", shared, (x,), captum_values(separate, x, baseline))

    for name, layers in (("bert", 3), ("bert6", 6)):
        fused, eager = Bert("sdpa", layers).eval(), Bert("eager", layers).eval()
        with torch.no_grad():
            for parameter_name, parameter in fused.named_parameters():
                if parameter_name.endswith("bias"):
                    parameter.normal_(0, 0.1)
                if parameter.dim() == 2:
                    parameter.mul_(4)
        eager.load_state_dict(fused.state_dict())
        mask = torch.ones(4, 9, dtype=torch.int64)
        mask[1, 6:] = 0
        inputs = (torch.randint(1, 100, (4, 9)), mask)
        deep = layers == 6
        save(folder, name, eager, inputs,
             bert_values(eager, *inputs, torch.randn(32)) if deep else {})
        export(folder, name, fused, inputs)

    for name, kind in (("gru", torch.nn.GRU), ("lstm", torch.nn.LSTM)):
        model, x = Recurrent(kind).eval(), torch.randn(4, 6, 4)
        with torch.no_grad():
            for parameter in model.layers.parameters():
                parameter.mul_(3)
        save(folder, name, model, (x,), recurrent_values(model, x, torch.randn(4)))
        export(folder, name, model, (x,))


if __name__ == "__main__":
    main()
