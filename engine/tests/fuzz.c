/* Throws damaged bases, payloads, weights and calls at the engine, under the sanitizers: fuzz BASE TIMES [SEED] PAYLOAD ...
 *
 * Every file lies in a block of its own of exactly its size, so that one byte too far is seen. Digests are mostly switched off
 * (OSSIA_TRUSTED), or nothing would get past them. Whatever the engine accepts it must also rank with. Prints how many of each
 * kind were accepted: a fuzzer that is always refused at the door tests the door only. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ossia.h"

static const char *const NAMES[] = {
    "manifest.json",          "base/floats.safetensors",   "base/plane2.safetensors",  "base/plane4.safetensors",  "base/plane8.safetensors",
    "table/manifest.json",    "table/scales.safetensors",  "table/plane2.safetensors", "table/plane4.safetensors", "table/plane8.safetensors"};
enum { FILES = sizeof NAMES / sizeof *NAMES, PAYLOADS = 16, CANDIDATES = 40, EVENTS = 70, LARGEST = 1 << 24 };

typedef struct { uint8_t *data; size_t size; } blob;
typedef struct { void *memory; size_t bytes; } block;

static uint64_t seed = 1;

static uint32_t draw(uint32_t below)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return below ? (uint32_t)(seed >> 32) % below : 0;
}

static void die(const char *what)
{
    fprintf(stderr, "fuzz: %s\n", what);
    exit(2);
}

static blob read_blob(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        die(path);
    blob b = {NULL, (size_t)ftell(file)};
    rewind(file);
    b.data = malloc(b.size + 1);
    if (fread(b.data, 1, b.size, file) != b.size)
        die(path);
    fclose(file);
    return b;
}

static blob copy(blob from)
{
    blob b = {malloc(from.size ? from.size : 1), from.size};
    memcpy(b.data, from.data, from.size);
    return b;
}

static void damage(blob *b) /* one to three changes: a byte, a bit, a digit, a stretch, or the end */
{
    static const char interesting[] = "0123456789\"{}[]:,-\\ \0\177\377\200";
    for (uint32_t changes = 1 + draw(3); changes > 0 && b->size; changes--) {
        uint32_t at = draw((uint32_t)b->size);
        switch (draw(8)) {
        case 0: b->data[at] = (uint8_t)draw(256); break;
        case 1: b->data[at] ^= (uint8_t)(1 << draw(8)); break;
        case 2: b->data[at] = (uint8_t)interesting[draw(sizeof interesting)]; break;
        case 3: b->data[at]++; break;
        case 4: memset(b->data + at, (int)draw(256), b->size - at < 8 ? b->size - at : 8); break;
        case 5: memmove(b->data + at, b->data + at / 2, b->size - at); break;
        case 6: b->data[at] = b->data[draw((uint32_t)b->size)]; break;
        default:
            if (draw(4) == 0)
                b->data = realloc(b->data, at ? at : 1), b->size = at;
        }
    }
}

static block reserve(size_t bytes)
{
    block b = {aligned_alloc(OSSIA_ALIGN, (bytes + OSSIA_ALIGN - 1) / OSSIA_ALIGN * OSSIA_ALIGN), bytes};
    return b;
}

static int open_files(const blob files[FILES], int flags, block *model)
{
    ossia_file given[FILES];
    size_t bytes = 0, count = FILES - (draw(50) == 0);
    for (int i = 0; i < FILES; i++)
        given[i] = (ossia_file){NAMES[i], files[i].data, files[i].size};
    int error = ossia_open(given, count, flags, NULL, &bytes);
    *model = (block){NULL, 0};
    if (error != OSSIA_MEMORY || bytes > LARGEST)
        return error;
    *model = reserve(bytes);
    return ossia_open(given, count, flags, model->memory, &bytes);
}

static int fold(const ossia_model *model, blob payload, block *weights)
{
    size_t bytes = 0;
    if (ossia_fold(model, payload.data, payload.size, 0, NULL, &bytes) != OSSIA_MEMORY)
        die("fold without memory");
    *weights = reserve(bytes);
    return ossia_fold(model, payload.data, payload.size, OSSIA_UNSIGNED | (draw(4) ? 0 : OSSIA_WHOLE), weights->memory, &bytes);
}

static void rank(const ossia_model *model, const ossia_weights *weights)
{
    ossia_shape shape;
    size_t bytes = 0, shown = 0, events = draw(EVENTS), count = draw(CANDIDATES), k = draw(CANDIDATES);
    if (draw(4)) /* ranking takes most of the time */
        return;
    if (ossia_shape_of(model, &shape) != OSSIA_OK || ossia_prepare(model, NULL, &bytes) != OSSIA_MEMORY)
        die("a model without shape");
    block scratch = reserve(bytes);
    int32_t *history = malloc(events * 4 + 1), *candidates = malloc(count * 4 + 1), *positions = malloc(k * 4 + 1);
    float *state = malloc(shape.dim * 4), *scores = malloc(count * 4 + 1), *best = malloc(k * 4 + 1), *vectors = malloc(count * shape.dim * 4 + 1);
    uint8_t *profile = malloc(shape.dim + 4);
    for (size_t i = 0; i < events; i++)
        history[i] = draw(20) ? (int32_t)draw(shape.items) : (int32_t)draw(UINT32_MAX);
    for (size_t i = 0; i < count; i++)
        candidates[i] = draw(20) ? (int32_t)draw(shape.items) : (int32_t)draw(UINT32_MAX);
    for (size_t i = 0; i < count * shape.dim; i++) {
        uint32_t bits = draw(UINT32_MAX);
        memcpy(vectors + i, &bits, 4);
    }
    ossia_path(draw(2) ? "plain" : "avx2");
    int error = ossia_prepare(model, scratch.memory, &bytes);
    if (error == OSSIA_OK)
        error = ossia_encode(model, weights, scratch.memory, history, events, state);
    if (error == OSSIA_OK)
        error = ossia_profile(model, weights, scratch.memory, history, events, profile);
    if (error == OSSIA_OK)
        error = ossia_score(model, weights, scratch.memory, history, events, candidates, count, draw(3) ? NULL : vectors, scores);
    if (error == OSSIA_OK)
        error = ossia_top(model, weights, scratch.memory, history, events, draw(2) ? candidates : NULL, 0, draw(2) ? OSSIA_UNSEEN : 0, k, positions, best, &shown);
    if (error == OSSIA_OK)
        error = ossia_top(model, weights, scratch.memory, history, events, candidates, count, 0, k, positions, best, &shown);
    if (error != OSSIA_OK || shown > k)
        die("what was accepted could not be ranked with");
    free(history), free(candidates), free(positions), free(state), free(scores), free(best), free(vectors), free(profile), free(scratch.memory);
}

/* ---- one of each kind ---- */

static bool damaged_base(const blob files[FILES])
{
    blob changed[FILES];
    block model, weights = {NULL, 0};
    uint32_t which = draw(FILES), other = draw(4) ? FILES : draw(FILES);
    memcpy(changed, files, sizeof changed);
    for (uint32_t i = 0; i < FILES; i++)
        if (i == which || i == other)
            changed[i] = copy(files[i]), damage(&changed[i]);
    bool accepted = open_files(changed, draw(20) ? OSSIA_TRUSTED : 0, &model) == OSSIA_OK;
    if (accepted && fold(model.memory, (blob){NULL, 0}, &weights) == OSSIA_OK)
        rank(model.memory, weights.memory);
    for (uint32_t i = 0; i < FILES; i++)
        if (i == which || i == other)
            free(changed[i].data);
    free(model.memory), free(weights.memory);
    return accepted;
}

static bool damaged_payload(const ossia_model *model, const blob *payloads, int count)
{
    blob payload = copy(payloads[draw((uint32_t)count)]);
    block weights;
    if (draw(2) && payload.size > 80) { /* behind the header, which would refuse nearly everything */
        blob body = copy((blob){payload.data + 80, payload.size - 80});
        damage(&body);
        payload.data = realloc(payload.data, 80 + body.size + 1), payload.size = 80 + body.size;
        memcpy(payload.data + 80, body.data, body.size);
        for (int i = 0; i < 4; i++)
            payload.data[8 + i] = (uint8_t)(body.size >> 8 * i);
        free(body.data);
        blob exact = copy(payload);
        free(payload.data), payload = exact;
    } else {
        damage(&payload);
    }
    bool accepted = fold(model, payload, &weights) == OSSIA_OK;
    if (accepted)
        rank(model, weights.memory);
    free(payload.data), free(weights.memory);
    return accepted;
}

static bool damaged_weights(const ossia_model *model, const block *folded, int count)
{
    const block *good = folded + draw((uint32_t)count);
    block weights = reserve(good->bytes);
    memcpy(weights.memory, good->memory, good->bytes);
    uint8_t *bytes = weights.memory;
    for (uint32_t i = draw(4); i > 0; i--)
        bytes[draw(3) ? draw((uint32_t)weights.bytes) : draw(192)] ^= (uint8_t)(1 << draw(8));
    bool accepted = ossia_check(model, weights.memory, weights.bytes - (draw(10) == 0)) == OSSIA_OK;
    if (accepted)
        rank(model, weights.memory);
    free(weights.memory);
    return accepted;
}

int main(int count, char **arguments)
{
    if (count < 5)
        die("usage: fuzz BASE TIMES SEED PAYLOAD ...");
    blob files[FILES], payloads[PAYLOADS];
    char path[4096];
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", arguments[1], NAMES[i]);
        blob whole = read_blob(path);
        files[i] = copy(whole);
        free(whole.data);
    }
    int given = count - 4 < PAYLOADS ? count - 4 : PAYLOADS;
    for (int i = 0; i < given; i++)
        payloads[i] = read_blob(arguments[4 + i]);
    long times = strtol(arguments[2], NULL, 10), accepted[3] = {0}, tried[3] = {0};
    seed = strtoull(arguments[3], NULL, 10) * 0x9e3779b97f4a7c15u | 1;
    block model, folded[PAYLOADS];
    if (open_files(files, 0, &model) != OSSIA_OK && open_files(files, 0, &model) != OSSIA_OK)
        die("the base itself was refused");
    for (int i = 0; i < given; i++)
        if (fold(model.memory, payloads[i], &folded[i]) != OSSIA_OK)
            die("a good payload was refused");
    for (long i = 0; i < times; i++) {
        uint32_t kind = draw(3);
        tried[kind]++;
        accepted[kind] += kind == 0   ? damaged_base(files)
                          : kind == 1 ? damaged_payload(model.memory, payloads, given)
                                      : damaged_weights(model.memory, folded, given);
        if ((i + 1) % 100000 == 0)
            printf("fuzz: %ld tried, accepted: bases %ld of %ld, payloads %ld of %ld, weights %ld of %ld\n", i + 1, accepted[0], tried[0], accepted[1],
                   tried[1], accepted[2], tried[2]), fflush(stdout);
    }
    printf("fuzz: %ld tried, no fault found\n", times);
    for (int i = 0; i < given; i++)
        free(payloads[i].data), free(folded[i].memory);
    for (int i = 0; i < FILES; i++)
        free(files[i].data);
    free(model.memory);
    return 0;
}
