//! Writes a Rust engine's tensors for Lamina (checkpoints/references/engine_folder/README.md). Needs nothing but std.
use std::{fs, io, io::Write, path::PathBuf};

pub struct Dump { folder: PathBuf, manifest: String, step: usize, passes: usize, tensors: usize }

impl Dump {
    /// `rope`: "adjacent" (2i and 2i + 1 turn together) or "half" (i and i + width / 2).
    pub fn new(folder: impl Into<PathBuf>, model: &str, rope: &str, prompt_ids: &[u32]) -> io::Result<Dump> {
        let (folder, format) = (folder.into(), "{\"format\": \"lamina-engine-tensors\", \"version\": 1");
        fs::create_dir_all(&folder)?;
        let manifest = format!("{format}, \"model\": {model:?}, \"rope\": {rope:?}, \"prompt_ids\": {prompt_ids:?}, \"passes\": [");
        Ok(Dump { folder, manifest, step: 0, passes: 0, tensors: 0 })
    }
    /// `step`: 0 the prompt, n the n-th generated token; `start`: position of the first id.
    pub fn pass(&mut self, step: usize, start: usize, ids: &[u32]) {
        let end = if self.passes > 0 { "}}," } else { "" };
        self.manifest += &format!("{end}\n{{\"step\": {step}, \"start\": {start}, \"ids\": {ids:?}, \"tensors\": {{");
        (self.step, self.passes, self.tensors) = (step, self.passes + 1, 0);
    }
    /// Row-major, `shape` the slowest axis first; `axes` where they are not in the point's order, else `&[]`.
    pub fn tensor(&mut self, name: &str, data: &[f32], shape: &[usize], axes: &[&str]) -> io::Result<()> {
        let file = format!("step{}.{name}.npy", self.step);
        let tuple: String = shape.iter().map(|size| format!("{size}, ")).collect();
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({tuple}), }}");
        let header = format!("{header:0$}\n", (header.len() + 11).next_multiple_of(64) - 11);
        let mut out = io::BufWriter::new(fs::File::create(self.folder.join(&file))?);
        out.write_all(b"\x93NUMPY\x01\x00")?;
        out.write_all(&(header.len() as u16).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for value in data { out.write_all(&value.to_le_bytes())?; }
        let axes = if axes.is_empty() { "null".into() } else { format!("{axes:?}") };
        let comma = if self.tensors > 0 { "," } else { "" };
        self.manifest += &format!("{comma}\n{name:?}: {{\"file\": {file:?}, \"shape\": {shape:?}, \"axes\": {axes}}}");
        self.tensors += 1;
        out.flush()
    }
    /// After one pass at least.
    pub fn end(self) -> io::Result<()> { fs::write(self.folder.join("manifest.json"), self.manifest + "}}]}") }
}
