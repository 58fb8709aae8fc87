"""Writes a PyTorch engine's tensors for Lamina (checkpoints/references/engine_folder/README.md). Needs nothing but torch.

    dump = Dump("out", model="my-llama")         # activations="bf16" or "f16" where the model computes in that
    dump.begin(step=0, start=0, ids=prompt_ids)  # before each pass; step n runs the n-th generated token
    dump.attach(model)                           # Hugging Face: the outputs of all modules, under their names
    dump.tensor("blk.0.q_rope", q, ["batch", "head", "position", "feature"])  # any tensor, under any name that Lamina knows
    dump.end(generated_ids)
"""
import array, json, os, re

class Dump:
    def __init__(self, folder, model, rope="half", activations="f32", angles="f32"):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.passes = folder, []
        self.manifest = dict(format="lamina-engine-tensors", version=1, model=model, rope=rope, activations=activations, angles=angles)

    def begin(self, step, start, ids):
        self.passes.append({"step": step, "start": start, "ids": [int(i) for i in ids], "tensors": {}})

    def tensor(self, name, tensor, axes=None):
        shape = [int(size) for size in tensor.shape]
        numbers = array.array("f", tensor.detach().float().cpu().reshape(-1).tolist())
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }" % "".join("%d, " % size for size in shape)
        header += " " * (-(len(header) + 11) % 64) + "\n"
        file = "step%d.%s.npy" % (self.passes[-1]["step"], name)
        with open(os.path.join(self.folder, file), "wb") as out:
            out.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + numbers.tobytes())
        self.passes[-1]["tensors"][name] = {"file": file, "shape": shape, "axes": axes}

    def attach(self, model):
        for name, module in model.named_modules():
            if re.search(r"embed_tokens$|norm$|_proj$|layers\.\d+$|lm_head$", name):
                take = lambda _, __, out, name=name: self.tensor(name, out[0] if isinstance(out, tuple) else out)
                module.register_forward_hook(take)

    def end(self, ids=()):
        self.manifest.update(prompt_ids=self.passes[0]["ids"], passes=self.passes, ids=[int(i) for i in ids] or None)
        with open(os.path.join(self.folder, "manifest.json"), "w") as out:
            json.dump(self.manifest, out)
