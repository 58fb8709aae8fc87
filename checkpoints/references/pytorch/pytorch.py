"""Runs a model with Hugging Face transformers on PyTorch's CPU, and hands over what its modules compute.

Takes requests as lines of JSON on its standard input, and answers each with frames (frames.ts) on its standard output:

  {"load": "folder", "gguf": "file in it" | null, "dtype": "float32" | "bfloat16" | "float16"}
                                                    first; one frame `ready` with versions and sizes
  {"run": {"ids": [], "generate": n, "forced": [], "steps": [], "points": []}}
                                                    a frame `pass` before the frames `tensor` of each, `done` with ids and margins
  {"tokenize": ["text"]}                            one frame `ids`, a list for each
  {"chat": messages}                                one frame `text`, null where there is no chat template or it fails

A request that cannot be answered gives one frame `failure` with a line that says why. Heads are in Hugging Face's row order (halves);
who started this puts them into the file's.
"""

import functools
import json
import math
import os
import struct
import sys

# Whatever else is printed must not get between the frames.
frames = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)


class Failure(Exception):
    """Something that people can do something about."""


def send(kind, header=None, body=None):
    text = json.dumps({"kind": kind, **(header or {})}).encode()
    frames.write(struct.pack("<I", len(text)) + text)
    if body is not None:
        frames.write(body)
    frames.flush()


class Reference:
    """A model whose modules are listened to."""

    def __init__(self, folder, gguf_file, dtype):
        import torch
        import transformers

        self.torch = torch
        torch.set_grad_enabled(False)
        torch.manual_seed(0)
        # A vocabulary takes the reader many seconds, and each module of the model asks for the names anew.
        if gguf_file:
            import gguf

            gguf.GGUFReader = functools.cache(gguf.GGUFReader)
            gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
        source = {"gguf_file": gguf_file} if gguf_file else {"use_safetensors": True}
        self.model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="eager", output_loading_info=True, **source)
        self.model.eval()
        # Parameters that are not in the file got random numbers.
        if loading["missing_keys"]:
            raise Failure(f"weights that its model needs are missing in {folder}: {few(loading['missing_keys'])}")
        if gguf_file:
            self.refuse_leftovers(gguf.GGUFReader(os.path.join(folder, gguf_file)))
        # transformers rebuilds the tokenizers of GGUF files only nearly: spaces at the beginning go missing.
        self.tokenizer = None if gguf_file else own_tokenizer(folder)
        self.wanted = frozenset()
        self.listen()

    def refuse_leftovers(self, reader):
        """transformers leaves out what it does not know without a word, and would be wrong."""
        from transformers.modeling_gguf_pytorch_utils import TensorProcessor, get_gguf_hf_weights_map

        known = get_gguf_hf_weights_map(self.model, TensorProcessor())
        left = [tensor.name for tensor in reader.tensors if tensor.name not in known]
        if left:
            raise Failure(f"transformers cannot read this file whole, it leaves out {few(left)}")

    def describe(self):
        import transformers

        config = self.model.config
        heads = config.num_attention_heads
        return {
            "torch": self.torch.__version__,
            "transformers": transformers.__version__,
            "tokenizer": self.tokenizer is not None,
            "sizes": {
                "layers": config.num_hidden_layers,
                "width": config.hidden_size,
                "ffnWidth": config.intermediate_size,
                "heads": heads,
                "kvHeads": getattr(config, "num_key_value_heads", None) or heads,
                "headWidth": getattr(config, "head_dim", None) or config.hidden_size // heads,
                "vocabSize": self.model.get_input_embeddings().num_embeddings,
                "ropeWidth": 2 * self.model.model.rotary_emb.inv_freq.numel(),
            },
        }

    # Points

    def listen(self):
        """Hooks where the model has the tensor of a point, one behind another in the order of computation."""
        base = self.model.model
        self.output("token_embd", base.embed_tokens)
        for layer, block in enumerate(base.layers):
            at = f"blk.{layer}."
            attention, ffn = block.self_attn, block.mlp
            d = attention.head_dim
            self.output(f"{at}attn_norm", block.input_layernorm)
            for name in "qkv":
                self.output(f"{at}{name}", getattr(attention, f"{name}_proj"), d)
            self.input(f"{at}head_out", attention.o_proj, d)
            self.output(f"{at}attn_out", attention.o_proj)
            self.input(f"{at}ffn_inp", block.post_attention_layernorm)
            self.output(f"{at}ffn_norm", block.post_attention_layernorm)
            self.output(f"{at}ffn_gate", ffn.gate_proj)
            self.output(f"{at}ffn_up", ffn.up_proj)
            self.input(f"{at}ffn_act", ffn.down_proj)
            self.output(f"{at}ffn_out", ffn.down_proj)
            self.output(f"{at}out", block)
        self.output("output_norm", base.norm)
        self.output("logits", self.model.lm_head)
        self.listen_to_attention()

    def output(self, point, module, head_width=None):
        module.register_forward_hook(lambda _module, _args, value: self.show(point, value, head_width))

    def input(self, point, module, head_width=None):
        module.register_forward_pre_hook(lambda _module, args: self.show(point, args[0], head_width))

    def listen_to_attention(self):
        """Between q_proj and o_proj there are no modules: the family's own function for eager attention is listened to."""
        family = sys.modules[type(self.model).__module__]
        eager = family.eager_attention_forward

        def listening(module, query, key, value, *args, **kwargs):
            at = f"blk.{module.layer_idx}."
            rows = query.shape[2]
            for point, heads in [("q_rope", query), ("k_rope", key[:, :, -rows:]), ("cache_k", key), ("cache_v", value)]:
                self.show(at + point, heads.transpose(1, 2))
            if at + "attn_scores" in self.wanted:
                # The same line as in there, before the mask: hidden keys have scores too.
                keys = family.repeat_kv(key, module.num_key_value_groups)
                self.show(at + "attn_scores", self.torch.matmul(query, keys.transpose(2, 3)) * kwargs["scaling"])
            result = eager(module, query, key, value, *args, **kwargs)
            self.show(at + "attn_probs", result[1])
            return result

        family.eager_attention_forward = listening

    def show(self, point, value, head_width=None):
        """Sends the tensor of a point that is wanted in this pass; heads that lie side by side become an axis."""
        if point not in self.wanted:
            return
        value = (value[0] if isinstance(value, tuple) else value)[0]
        if head_width:
            value = value.reshape(value.shape[0], -1, head_width)
        send("tensor", {**self.at, "point": point, "shape": list(value.shape)},
             value.float().contiguous().numpy().astype("<f4", copy=False).tobytes())

    # Passes

    def run(self, ids, generate, forced, steps, points):
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        chosen, margins = [], []
        start = 0
        for step in range(generate + 1):
            if step > 0:
                ids = [forced[step - 1] if step <= len(forced) else chosen[-1]]
            self.at = {"step": step, "start": start, "ids": ids}
            self.wanted = frozenset(points) if step in steps else frozenset()
            send("pass", self.at)
            every_row = not self.wanted.isdisjoint({"logits", "probs"})
            output = self.model(input_ids=self.torch.tensor([ids]), past_key_values=cache, use_cache=True,
                                logits_to_keep=0 if every_row else 1)
            if "probs" in self.wanted:
                self.show("probs", self.torch.softmax(output.logits, dim=-1))
            best, margin = choice(output.logits[0, -1], step)
            chosen.append(best)
            margins.append(margin)
            start += len(ids)
        send("done", {"ids": chosen, "margins": margins})


def choice(logits, step):
    """The id of the largest logit (of equal ones the lowest id), and how far it is ahead."""
    first, second = logits.float().topk(2).values.tolist()
    if not (math.isfinite(first) and math.isfinite(second)):
        raise Failure(f"its logits of pass {step} are no finite numbers")
    return int((logits == first).nonzero()[0]), first - second


def own_tokenizer(folder):
    """None where the folder has none, or one that wants packages that are not here."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception:
        return None


def chat_text(tokenizer, messages):
    """None where there is no template, or it does not take these messages."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception:
        return None


def few(names):
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def answer(reference, request):
    """Answers a request; the reference that the next ones go to."""
    if "load" in request:
        reference = Reference(request["load"], request["gguf"], request["dtype"])
        send("ready", reference.describe())
    elif "run" in request:
        reference.run(**request["run"])
    elif "tokenize" in request:
        send("ids", {"ids": [reference.tokenizer.encode(text) for text in request["tokenize"]]})
    elif "chat" in request:
        send("text", {"text": chat_text(reference.tokenizer, request["chat"])})
    return reference


def main():
    reference = None
    for line in sys.stdin.buffer:
        try:
            reference = answer(reference, json.loads(line))
        except Failure as failure:
            send("failure", {"problem": str(failure)})
        except ImportError as error:
            send("failure", {"problem": f"its Python lacks a package ({error})"})
        except Exception as error:
            send("failure", {"problem": " ".join(f"{type(error).__name__}: {error}".split())[:400]})


main()
