"""DeepLIFT's Rescale rule for recurrent nets and BERT, written out: an implementation of its own of
the rules that include/diffmask/attribution/propagation/deeplift.hpp states, for rules.py.

Functions run on rows [x; b], inputs above their references, and autograd carries the multipliers of
the upper rows: linear maps are their own rule, and the functions below have one for a backward.
"""

import torch


def halves(rows):
    return rows.chunk(2)


def of_upper(m):
    return torch.cat([m, torch.zeros_like(m)])


def mean(rows):
    upper, lower = halves(rows)
    return (upper + lower) / 2


def slope(f, x, y):
    """dy / dx between the halves; where these are the same, f'."""
    (x1, x0), (y1, y0) = halves(x), halves(y)
    same = (x1 - x0).abs() < 1e-9
    with torch.enable_grad():
        middle = mean(x).requires_grad_(True)
        derivative = torch.autograd.grad(f(middle).sum(), middle)[0]
    return torch.where(same, derivative, (y1 - y0) / torch.where(same, 1.0, x1 - x0))


class Elementwise(torch.autograd.Function):
    """y = f(x): Rescale."""

    @staticmethod
    def forward(context, f, x):
        y = f(x)
        context.f = f
        context.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(context, m):
        return None, of_upper(halves(m)[0] * slope(context.f, *context.saved_tensors))


class Product(torch.autograd.Function):
    """a b, of one shape: each gets the other's mean."""

    @staticmethod
    def forward(context, a, b):
        context.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(context, m):
        a, b = context.saved_tensors
        m = halves(m)[0]
        return of_upper(m * mean(b)), of_upper(m * mean(a))


class MatrixProduct(torch.autograd.Function):
    """a b, likewise."""

    @staticmethod
    def forward(context, a, b):
        context.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(context, m):
        a, b = context.saved_tensors
        m = halves(m)[0]
        return of_upper(m @ mean(b).mT), of_upper(mean(a).mT @ m)


class LogSumExp(torch.autograd.Function):
    """l = log sum_j exp(x_j): sum_j exp(x_j - l) stays 1, so that by Rescale of the exponentials
    0 = sum_j s_j (dx_j - dl), s_j the slope of exp at x_j - l."""

    @staticmethod
    def forward(context, x):
        l = x.logsumexp(-1, keepdim=True)
        context.save_for_backward(x - l)
        return l

    @staticmethod
    def backward(context, m):
        (y,) = context.saved_tensors
        s = slope(torch.exp, y, y.exp())
        return of_upper(halves(m)[0] * s / s.sum(-1, keepdim=True))


elementwise, product, matrix_product = Elementwise.apply, Product.apply, MatrixProduct.apply


def sigmoid(x):
    return elementwise(torch.sigmoid, x)


def tanh(x):
    return elementwise(torch.tanh, x)


def softmax(x):
    return elementwise(torch.exp, x - LogSumExp.apply(x))


def layer_norm(x, norm):
    c = x - x.mean(-1, keepdim=True)
    r = elementwise(torch.rsqrt, product(c, c).mean(-1, keepdim=True) + norm.eps)
    return product(c, r.expand_as(c)) * norm.weight + norm.bias


def gru_cell(x, state, w_x, w_h, b_x, b_h):
    (h,) = state
    of_x, of_h = (x @ w_x.T + b_x).chunk(3, -1), (h @ w_h.T + b_h).chunk(3, -1)
    r, z = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
    n = tanh(of_x[2] + product(r, of_h[2]))
    return (product(1 - z, n) + product(z, h),)


def lstm_cell(x, state, w_x, w_h, b_x, b_h):
    h, c = state
    i, f, g, o = (x @ w_x.T + b_x + h @ w_h.T + b_h).chunk(4, -1)
    c = product(sigmoid(f), c) + product(sigmoid(i), tanh(g))
    return product(sigmoid(o), tanh(c)), c


def recurrent(x, layers):
    """The states of a torch.nn.GRU or LSTM, batch first, step by step."""
    cell, states = (lstm_cell, 2) if isinstance(layers, torch.nn.LSTM) else (gru_cell, 1)
    for number in range(layers.num_layers):
        outputs = []
        for suffix in ("", "_reverse")[:1 + layers.bidirectional]:
            weights = [getattr(layers, f"{name}_l{number}{suffix}")
                       for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            state, steps = (x.new_zeros(x.size(0), layers.hidden_size),) * states, {}
            order = range(x.size(1))
            for t in reversed(order) if suffix else order:
                state = cell(x[:, t], state, *weights)
                steps[t] = state[0]
            outputs.append(torch.stack([steps[t] for t in order], 1))
        x = torch.cat(outputs, -1)
    return x


def bert(x, mask, model, classifier):
    """Class scores of a transformers.BertModel from its embeddings."""
    rows, length, width = x.shape
    heads = model.config.num_attention_heads
    bias = (1.0 - mask[:, None, None, :].to(x.dtype)) * torch.finfo(torch.float32).min
    bias = torch.cat([bias, bias])

    def by_head(y):
        return y.view(rows, length, heads, -1).transpose(1, 2)

    for layer in model.encoder.layer:
        own, out = layer.attention.self, layer.attention.output
        q, k, v = (by_head(linear(x)) for linear in (own.query, own.key, own.value))
        scores = matrix_product(q, k.mT) / (width // heads) ** 0.5
        mixed = matrix_product(softmax(scores + bias), v).transpose(1, 2).reshape(x.shape)
        x = layer_norm(x + out.dense(mixed), out.LayerNorm)
        inner = elementwise(torch.nn.functional.gelu, layer.intermediate.dense(x))
        x = layer_norm(x + layer.output.dense(inner), layer.output.LayerNorm)
    return classifier(tanh(model.pooler.dense(x[:, 0])))


def deeplift(function, x, baseline, expected):
    """The scores of the class that is largest at x, and the difference that they add up to.

    `expected` is what the model itself gives at x.
    """
    baseline = baseline.expand_as(x)
    rows = torch.cat([x, baseline]).requires_grad_(True)
    output = function(rows)
    assert torch.allclose(halves(output)[0], expected, rtol=1e-9, atol=1e-9)
    at_x, at_baseline = halves(output.gather(1, expected.argmax(1).repeat(2)[:, None])[:, 0])
    m = halves(torch.autograd.grad(at_x.sum(), rows)[0])[0]
    scores, difference = m * (x - baseline), at_x - at_baseline
    error = (scores.flatten(1).sum(1) - difference).abs().max()
    assert error < 1e-9 * difference.abs().max(), f"scores miss their sum by {error}"
    return {"deeplift": scores, "difference": difference}
