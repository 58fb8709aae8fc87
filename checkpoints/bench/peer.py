"""Measures a model of a given shape with a Python library, on the CPU in 32-bit floats.

Started with the library's name, `transformers` or `transformer_lens`. Takes requests as lines of JSON on its standard input and answers
each with a frame (references/frames.ts) on its standard output:

  {"load": {"layers": …, "width": …, …}, "threads": 2}  first; `ready` with a description; null: as many threads as serve best
  {"measure": {"kind": "decode", "tokens": 16}}         `timed` with milliseconds (inspect/bench/peer.ts says of what)

Weights are random: how long a pass takes does not depend on them, and making them is quicker than reading them.

PyTorch's threads wait for each other spinning: where the machine has other things to do, all of them can be twenty times slower than half.
So whatever is measured is measured with both, and the faster counts, unless the number of threads is given.
"""

import json
import os
import struct
import sys
import time

# Whatever else is printed must not get between the frames.
frames = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)

DECODED = 16


def send(kind, **header):
    text = json.dumps({"kind": kind, **header}).encode()
    frames.write(struct.pack("<I", len(text)) + text)
    frames.flush()


wanted_threads = None


def thread_counts():
    cores = os.cpu_count() or 1
    return [wanted_threads] if wanted_threads else sorted({max(1, cores // 2), cores})


def with_best_threads(torch, measure):
    """The least milliseconds over the counts of threads; that count stays set."""
    times = {}
    for count in thread_counts():
        torch.set_num_threads(count)
        times[count] = measure()
    best = min(times, key=times.get)
    torch.set_num_threads(best)
    return times[best]


def threads_words():
    counts = thread_counts()
    if len(counts) == 1:
        return f"CPU, {counts[0]} thread{'' if counts == [1] else 's'}"
    return f"CPU, the faster of {' and '.join(map(str, counts))} threads"


def milliseconds(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def prompt(torch, tokens, vocabulary, shift=0):
    return torch.tensor([[(i * 7919 + 101 + shift) % vocabulary for i in range(tokens)]])


def llama(shape, **options):
    """Hugging Face's own Llama of a shape, with random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    config = transformers.LlamaConfig(
        num_hidden_layers=shape["layers"], hidden_size=shape["width"], intermediate_size=shape["ffnWidth"],
        num_attention_heads=shape["heads"], num_key_value_heads=shape["kvHeads"], head_dim=shape["headWidth"],
        vocab_size=shape["vocabSize"], max_position_embeddings=shape["contextLength"],
        rms_norm_eps=shape["normEpsilon"], tie_word_embeddings=shape["tiedOutput"], **options)
    return torch, transformers.LlamaForCausalLM(config).eval(), transformers.__version__


class Transformers:
    """Hugging Face's own Llama."""

    def __init__(self, shape):
        self.torch, self.model, version = llama(shape)
        self.vocabulary = shape["vocabSize"]
        self.config = self.model.config
        self.description = (f"transformers {version} on PyTorch {self.torch.__version__}, "
                            f"{threads_words()}, F32, {self.config._attn_implementation} attention")

    def measure(self, kind, tokens):
        return with_best_threads(self.torch, lambda: self.once(kind, tokens))

    def once(self, kind, tokens):
        from transformers import DynamicCache

        cache = DynamicCache(config=self.config)

        def step(ids):
            logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            return logits[:, -1].argmax(-1, keepdim=True)

        if kind == "prefill":
            return milliseconds(lambda: step(prompt(self.torch, tokens, self.vocabulary)))
        ids = step(prompt(self.torch, tokens, self.vocabulary))

        def decode():
            nonlocal ids
            for _ in range(DECODED):
                ids = step(ids)

        return milliseconds(decode) / DECODED


class TransformerLens:
    """TransformerLens's TransformerBridge over transformers' model, with its defaults: nothing folded, eager attention, which its hooks need."""

    def __init__(self, shape):
        from importlib.metadata import version
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        self.torch, model, transformers = llama(shape, attn_implementation="eager")
        self.shape = shape
        self.model = build_bridge_from_module(model, "LlamaForCausalLM", hf_config=model.config)
        self.description = (f"TransformerLens {version('transformer-lens')} (TransformerBridge, transformers {transformers}) "
                            f"on PyTorch {self.torch.__version__}, {threads_words()}, F32")

    def measure(self, kind, tokens):
        ids = prompt(self.torch, tokens, self.shape["vocabSize"])
        passes = self.model.run_with_cache if kind == "prefill captured" else self.model
        best = with_best_threads(self.torch, lambda: milliseconds(lambda: passes(ids)))
        if kind != "patching sweep":
            return best
        # Hundreds of passes, with the threads that were the faster for one.
        return milliseconds(lambda: self.sweep(ids, prompt(self.torch, tokens, self.shape["vocabSize"], 1)))

    def sweep(self, corrupted, clean):
        """Each layer's residual stream is patched at each position, as in TransformerLens's own patching demonstration."""
        names = [f"blocks.{layer}.hook_resid_pre" for layer in range(self.shape["layers"])]
        _, cache = self.model.run_with_cache(clean, names_filter=names)
        for name in names:
            for position in range(corrupted.shape[1]):
                def patch(value, hook, name=name, position=position):
                    value[:, position] = cache[name][:, position]
                    return value

                logits = self.model.run_with_hooks(corrupted, fwd_hooks=[(name, patch)])
                (logits[0, -1, 0] - logits[0, -1, 1]).item()


LIBRARIES = {"transformers": Transformers, "transformer_lens": TransformerLens}


def main():
    global wanted_threads
    peer = None
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            if "load" in request:
                wanted_threads = request["threads"]
                peer = LIBRARIES[sys.argv[1]](request["load"])
                send("ready", description=peer.description)
            else:
                send("timed", ms=peer.measure(**request["measure"]))
        except Exception as error:
            send("failure", problem=" ".join(f"{type(error).__name__}: {error}".split())[:400])


main()
