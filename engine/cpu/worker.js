// What a thread of the processor does; this text becomes a worker. Jobs come through shared memory: control words say which steps of which
// heap are to run. Only a new heap comes as a message: a job that names no heap lets it in.
let control, words, thread, threads;
let last = 0;
const READY = 6;
const JOB = 8;
const heaps = new Map();

// As in garbage.ts.
const collectGarbage = () => {
  const { process } = globalThis;
  process?.getBuiltinModule?.("node:v8")?.setFlagsFromString("--expose-gc");
  process?.getBuiltinModule?.("node:vm")?.runInNewContext("globalThis.gc?.()");
};

onmessage = ({ data: { module, memory, heap, first, collect } }) => {
  if (collect) collectGarbage();
  if (first) {
    ({ control, thread, threads } = first);
    words = new Int32Array(memory.buffer, control);
  }
  heaps.set(heap, new WebAssembly.Instance(module, { env: { memory } }).exports);
  Atomics.add(words, READY, 1);
  Atomics.notify(words, READY);
  while (true) {
    last = heaps.get(0).next(control, last);
    const [number, steps, from, to] = words.subarray(JOB, JOB + 4);
    if (number < 0) {
      if (steps > 0) heaps.delete(steps); // that one has been given up; the first one never is
      return;
    }
    heaps.get(number).run(steps >>> 0, from, to, control, thread, threads);
  }
};
