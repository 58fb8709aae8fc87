/** Names of the files below a folder, from there: `engine/plan_test.ts`. */
export async function* filesBelow(folder: URL, below = ""): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(below, folder))) {
    if (isDirectory) yield* filesBelow(folder, `${below}${name}/`);
    else yield below + name;
  }
}
