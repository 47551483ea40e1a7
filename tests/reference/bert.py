"""Writes small random encoders of the BERT family with transformers' own answers.

    bert.py FOLDER [MODEL ...]

For each model of MODELS, and for each further MODEL, a Hugging Face folder that is read as
BertModel, a folder of its name in FOLDER with

    config.json, model.safetensors  the model as transformers saves it (or as it was given)
    reference.safetensors           ids, mask, types (if it has any), state/SITE for every site, and
                                    for the models of MODELS: output, and grad/SITE, the gradient of
                                    the sum of the output (a span's: at the mask) by that state

Run the tests with DIFFMASK_BERT=FOLDER. The sites are word_embeddings, embeddings, layer.0, ...; a
span's output is (B, T, 2), start before end, unlike here -inf where the mask is false.
"""

import os
import shutil
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from safetensors.torch import save_file

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()

SIZES = dict(vocab_size=60, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
             intermediate_size=48, max_position_embeddings=40, attn_implementation="eager")
DISTIL_SIZES = dict(vocab_size=60, dim=32, n_layers=3, n_heads=4, hidden_dim=48,
                    max_position_embeddings=40, attn_implementation="eager")

# Name: kind, head, sizes.
MODELS = {
    "bert": ("Bert", "ForSequenceClassification", dict(SIZES, num_labels=3)),
    "roberta": ("Roberta", "ForSequenceClassification",
                dict(SIZES, num_labels=3, type_vocab_size=1, layer_norm_eps=1e-5)),
    "distilbert": ("DistilBert", "ForSequenceClassification", dict(DISTIL_SIZES, num_labels=3)),
    "bert_span": ("Bert", "ForQuestionAnswering", SIZES),
}


def build(kind, head, sizes):
    """A model whose every parameter shows when it is left out."""
    config = getattr(transformers, kind + "Config")(**sizes)
    model = getattr(transformers, kind + head)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def make_inputs(config, batch=4, length=11):
    """Texts of different lengths; the ids behind them are padding."""
    lengths = torch.tensor([length, 3, 7, length - 1])[:batch]
    mask = torch.arange(length) < lengths[:, None]
    ids = torch.randint(5, config.vocab_size, (batch, length)).masked_fill(~mask,
                                                                           config.pad_token_id)
    types = (torch.arange(length) >= lengths[:, None] // 2).long()
    return ids, mask, types if getattr(config, "type_vocab_size", 0) > 1 else None


def reference(model):
    """All tensors of reference.safetensors."""
    ids, mask, types = make_inputs(model.config)
    words = []
    hook = model.get_input_embeddings().register_forward_hook(lambda *call: words.append(call[2]))
    inputs = dict(input_ids=ids, attention_mask=mask.long())
    if types is not None:
        inputs["token_type_ids"] = types
    result = model(**inputs, output_hidden_states=True)
    hook.remove()
    states = [words[0], *result.hidden_states]
    names = ["word_embeddings", "embeddings", *(f"layer.{i}" for i in range(len(states) - 2))]
    tensors = dict(ids=ids, mask=mask, **({} if types is None else {"types": types}))
    tensors.update({f"state/{name}": state for name, state in zip(names, states)})
    if "start_logits" in result:
        output = torch.stack([result.start_logits, result.end_logits], 2)
        total = output.masked_select(mask[:, :, None]).sum()
    elif "logits" in result:
        output = result.logits
        total = output.sum()
    else:
        return tensors
    gradients = torch.autograd.grad(total, states)
    tensors.update(output=output, **{f"grad/{n}": g for n, g in zip(names, gradients)})
    return tensors


def save(model, folder):
    tensors = {key: value.detach().clone().contiguous() for key, value in reference(model).items()}
    save_file(tensors, os.path.join(folder, "reference.safetensors"))
    print(folder, len(tensors), "tensors", flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name, parts in MODELS.items():
        torch.manual_seed(7)
        folder = os.path.join(sys.argv[1], name)
        model = build(*parts)
        model.save_pretrained(folder)
        save(model, folder)
    for given in sys.argv[2:]:
        torch.manual_seed(7)
        folder = os.path.join(sys.argv[1], os.path.basename(given.rstrip("/")))
        os.makedirs(folder, exist_ok=True)
        for file in ("config.json", "model.safetensors"):
            shutil.copy(os.path.join(given, file), folder)
        model = transformers.BertModel.from_pretrained(given, attn_implementation="eager").eval()
        save(model, folder)


if __name__ == "__main__":
    main()
