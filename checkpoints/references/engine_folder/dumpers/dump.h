/* Writes a C engine's tensors for Lamina (checkpoints/references/engine_folder/README.md): dump_begin, then for each pass dump_pass and its
   dump_tensors, then dump_end. Numbers are row-major; dims are the slowest axis first: {positions, heads, head width}. */
#include <stdint.h>
#include <stdio.h>
#define DUMP(...) fprintf(dump_manifest, __VA_ARGS__)
static FILE *dump_manifest;
static const char *dump_folder;
static int dump_step, dump_passes, dump_tensors;
static void dump_ids(const char *key, const int *ids, int count) {
    DUMP("\"%s\": [", key);
    for (int i = 0; i < count; i++) DUMP(i ? ", %d" : "%d", ids[i]);
}
/* folder exists; rope: "adjacent" (2i, 2i + 1 turn together) or "half" (i, i + width / 2); returns 0, -1 when it cannot write */
static int dump_begin(const char *folder, const char *model, const char *rope, const int *ids, int count) {
    char path[4096];
    snprintf(path, sizeof path, "%s/manifest.json", dump_folder = folder);
    if (!(dump_manifest = fopen(path, "w"))) return -1;
    DUMP("{\"format\": \"lamina-engine-tensors\", \"version\": 1, \"model\": \"%s\", \"rope\": \"%s\",\n", model, rope);
    dump_ids("prompt_ids", ids, count);
    return DUMP("], \"passes\": [") < 0 ? -1 : (dump_passes = 0);
}
/* step: 0 the prompt, n the n-th generated token; start: position of ids[0] */
static void dump_pass(int step, int start, const int *ids, int count) {
    DUMP("%s\n{\"step\": %d, \"start\": %d, ", dump_passes++ ? "}}," : "", dump_step = step, start);
    dump_ids("ids", ids, count);
    DUMP("], \"tensors\": {"), dump_tensors = 0;
}
static int dump_tensor(const char *name, const float *data, int32_t n_dims, const int64_t *dims) {
    char path[4096];
    size_t count = 1, written;
    snprintf(path, sizeof path, "%s/step%d.%s.bin", dump_folder, dump_step, name);
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(&n_dims, 4, 1, out) != 1) return -1;
    for (int i = n_dims; i-- > 0; count *= dims[i]) fwrite(&dims[i], 8, 1, out); /* fastest first, as ggml has it */
    written = fwrite(data, 4, count, out);
    DUMP("%s\n\"%s\": {\"file\": \"step%d.%s.bin\"}", dump_tensors++ ? "," : "", name, dump_step, name);
    return fclose(out) == 0 && written == count ? 0 : -1;
}
static int dump_end(void) { return DUMP("}}]}\n") < 0 ? -1 : fclose(dump_manifest); } /* after one pass at least */
