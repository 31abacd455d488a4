/* Throws damaged bases, tables, payloads, weights and calls at the engine, under the sanitizers: fuzz BASE FIRST TIMES PAYLOAD
 * ...
 *
 * Attempt number n is the same whatever ran before it, so attempts FIRST ... FIRST + TIMES - 1 can go on where others ended,
 * and one that failed can be run alone. Every file lies in a block of its own of exactly its size, so that one byte too far is
 * seen. Digests are mostly switched off (OSSIA_TRUSTED), or nothing would get past them. Whatever the engine accepts it must
 * also rank with. Prints how many of each kind were accepted: a fuzzer that is always refused at the door tests the door only.
 *
 * `make engine-fuzz` runs it for bases of each backbone (fuzz.py). */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ossia.h"

static const char *const NAMES[] = {"manifest.json",
                                    "base/floats.safetensors",
                                    "base/plane2.safetensors",
                                    "base/plane4.safetensors",
                                    "base/plane8.safetensors",
                                    "table/manifest.json",
                                    "table/scales.safetensors",
                                    "table/plane2.safetensors",
                                    "table/plane4.safetensors",
                                    "table/plane8.safetensors",
                                    "table/tail.safetensors"}; /* in some tables only */
static const char *const PATHS[] = {"plain", "avx2", "vnni", "neon", "dotprod", "i8mm"};
enum { FILES = sizeof NAMES / sizeof *NAMES, PAYLOADS = 16, CANDIDATES = 40, EVENTS = 70, LARGEST = 1 << 24, KINDS = 4 };

typedef struct {
    uint8_t *data;
    size_t size;
} blob;

typedef struct {
    void *memory;
    size_t bytes;
} block;

static uint64_t seed = 1;

static void begin(uint64_t attempt) /* the mixing of splitmix64: neighboring attempts have nothing in common */
{
    seed = (attempt + 1) * 0x9e3779b97f4a7c15u;
    seed = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ seed >> 27) | 1;
}

static uint32_t draw(uint32_t below)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return below ? (uint32_t)(seed >> 32) % below : 0;
}

static uint64_t now; /* the attempt under way */

static void die(const char *what)
{
    fprintf(stderr, "fuzz: attempt %llu: %s\n", (unsigned long long)now, what);
    exit(2);
}

/* What the sanitizers call when they have something to report. */
void __asan_on_error(void);
void __asan_on_error(void) { fprintf(stderr, "fuzz: attempt %llu\n", (unsigned long long)now); }

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

static int open_files(const blob files[FILES], size_t count, int flags, block *model)
{
    ossia_file given[FILES];
    size_t bytes = 0;
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

typedef struct { /* everything that one call may want, each of its exact size */
    const ossia_model *model;
    const ossia_weights *weights;
    ossia_scratch *scratch;
    size_t events, count, k;
    int32_t *history, *candidates, *positions;
    float *state, *scores, *best, *vectors;
    uint8_t *profile;
} call;

static int32_t draw_item(uint32_t items) { return draw(20) ? (int32_t)draw(items) : (int32_t)draw(UINT32_MAX); }

static call make_call(const ossia_model *model, const ossia_weights *weights)
{
    ossia_shape shape;
    size_t bytes = 0;
    if (ossia_shape_of(model, &shape) != OSSIA_OK || ossia_prepare(model, NULL, &bytes) != OSSIA_MEMORY)
        die("a model without shape");
    call c = {.model = model, .weights = weights, .scratch = reserve(bytes).memory};
    if (ossia_prepare(model, c.scratch, &bytes) != OSSIA_OK)
        die("no scratch");
    c.events = draw(EVENTS), c.count = draw(CANDIDATES), c.k = draw(CANDIDATES);
    c.history = malloc(c.events * 4 + 1), c.candidates = malloc(c.count * 4 + 1), c.positions = malloc(c.k * 4 + 1);
    c.state = malloc(shape.dim * 4), c.scores = malloc(c.count * 4 + 1), c.best = malloc(c.k * 4 + 1);
    c.vectors = malloc(c.count * shape.dim * 4 + 1), c.profile = malloc(shape.dim + 4);
    for (size_t i = 0; i < c.events; i++)
        c.history[i] = draw_item(shape.items);
    for (size_t i = 0; i < c.count; i++)
        c.candidates[i] = draw_item(shape.items);
    for (size_t i = 0; i < c.count * shape.dim; i++) {
        uint32_t bits = draw(UINT32_MAX);
        memcpy(c.vectors + i, &bits, 4);
    }
    ossia_path(PATHS[draw(sizeof PATHS / sizeof *PATHS)]); /* one that is not here changes nothing */
    return c;
}

static void free_call(call *c)
{
    free(c->scratch), free(c->history), free(c->candidates), free(c->positions), free(c->state), free(c->scores), free(c->best);
    free(c->vectors), free(c->profile);
}

/* Makes one call of a kind; answers what it answers. */
static int make(const call *c, uint32_t kind)
{
    size_t shown = 0;
    int flags = draw(2) ? OSSIA_UNSEEN : 0, error;
    switch (kind) {
    case 0: return ossia_encode(c->model, c->weights, c->scratch, c->history, c->events, c->state);
    case 1: return ossia_profile(c->model, c->weights, c->scratch, c->history, c->events, c->profile);
    case 2:
        return ossia_score(c->model, c->weights, c->scratch, c->history, c->events, c->candidates, c->count,
                           draw(3) ? NULL : c->vectors, c->scores);
    case 3:
        error = ossia_top(c->model, c->weights, c->scratch, c->history, c->events, NULL, 0, flags, c->k, c->positions, c->best,
                          &shown);
        break;
    default:
        error = ossia_top(c->model, c->weights, c->scratch, c->history, c->events, c->candidates, c->count, flags, c->k,
                          c->positions, c->best, &shown);
    }
    if (shown > c->k)
        die("more was shown than asked for");
    return error;
}

static void rank(const ossia_model *model, const ossia_weights *weights)
{
    if (draw(4)) /* ranking takes most of the time */
        return;
    call c = make_call(model, weights);
    for (uint32_t kind = 0; kind < 5; kind++)
        if (make(&c, kind) != OSSIA_OK)
            die("what was accepted could not be ranked with");
    free_call(&c);
}

/* ---- one of each kind ---- */

static bool damaged_base(const blob files[FILES], const blob *payloads, int payload_count)
{
    blob changed[FILES];
    block model, weights = {NULL, 0};
    uint32_t which = draw(FILES), other = draw(4) ? FILES : draw(FILES);
    memcpy(changed, files, sizeof changed);
    for (uint32_t i = 0; i < FILES; i++)
        if (files[i].data && (i == which || i == other))
            changed[i] = copy(files[i]), damage(&changed[i]);
    size_t count = FILES - (draw(50) == 0 ? 1 + draw(2) : 0);
    bool accepted = open_files(changed, count, draw(20) ? OSSIA_TRUSTED : 0, &model) == OSSIA_OK;
    blob payload = draw(2) ? (blob){NULL, 0} : payloads[draw((uint32_t)payload_count)];
    if (accepted && fold(model.memory, payload, &weights) == OSSIA_OK)
        rank(model.memory, weights.memory);
    for (uint32_t i = 0; i < FILES; i++)
        if (files[i].data && (i == which || i == other))
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

/* A good model and good weights, called as no one should: without memory, with what belongs elsewhere, not aligned. */
static bool damaged_call(const ossia_model *model, const block *folded, const block *other, int count)
{
    const block *weights = folded + draw((uint32_t)count);
    call c = make_call(model, weights->memory), kept = c;
    size_t bytes = draw((uint32_t)weights->bytes);
    switch (draw(12)) {
    case 0: c.model = NULL; break;
    case 1: c.weights = NULL; break;
    case 2: c.scratch = NULL; break;
    case 3: c.model = (const void *)((const char *)model + 8); break;
    case 4: c.weights = (const void *)((const char *)c.weights + 8); break;
    case 5: c.scratch = (void *)((char *)c.scratch + 8); break;
    case 6: c.weights = other->memory; break; /* folded for another base */
    case 7: c.weights = (const void *)c.scratch; break;
    case 8: c.history = NULL; break;
    case 9: c.positions = NULL, c.state = NULL, c.profile = NULL, c.scores = NULL; break;
    case 10:
        if (ossia_check(model, c.weights, bytes) != OSSIA_WEIGHTS ||
            ossia_fold(model, NULL, 0, 0, NULL, &bytes) != OSSIA_MEMORY)
            die("too little was enough");
        break;
    default: c.events = 0, c.count = 0, c.k = 0;
    }
    bool accepted = make(&c, draw(5)) == OSSIA_OK;
    free_call(&kept);
    return accepted;
}

/* Weights of no model: those of a good one with another id, as if folded for another base. */
static block make_other(const block *weights)
{
    block other = reserve(weights->bytes);
    memcpy(other.memory, weights->memory, weights->bytes);
    ((uint8_t *)other.memory)[16] ^= 1;
    return other;
}

static bool is_there(const char *path)
{
    FILE *file = fopen(path, "rb");
    return file && fclose(file) == 0;
}

int main(int count, char **arguments)
{
    if (count < 5)
        die("usage: fuzz BASE FIRST TIMES PAYLOAD ...");
    blob files[FILES], payloads[PAYLOADS];
    char path[4096];
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", arguments[1], NAMES[i]);
        blob whole = i < FILES - 1 || is_there(path) ? read_blob(path) : (blob){NULL, 0};
        files[i] = whole.data ? copy(whole) : whole;
        free(whole.data);
    }
    int given = count - 4 < PAYLOADS ? count - 4 : PAYLOADS;
    for (int i = 0; i < given; i++)
        payloads[i] = read_blob(arguments[4 + i]);
    uint64_t first = strtoull(arguments[2], NULL, 10), times = strtoull(arguments[3], NULL, 10);
    unsigned long accepted[KINDS] = {0}, tried[KINDS] = {0};
    block model, folded[PAYLOADS];
    if (open_files(files, FILES, 0, &model) != OSSIA_OK)
        die("the base itself was refused");
    for (int i = 0; i < given; i++)
        if (fold(model.memory, payloads[i], &folded[i]) != OSSIA_OK)
            die("a good payload was refused");
    block other = make_other(&folded[0]);
    for (uint64_t attempt = first; attempt < first + times; attempt++) {
        now = attempt;
        begin(attempt);
        uint32_t kind = draw(KINDS);
        tried[kind]++;
        accepted[kind] += kind == 0   ? damaged_base(files, payloads, given)
                          : kind == 1 ? damaged_payload(model.memory, payloads, given)
                          : kind == 2 ? damaged_weights(model.memory, folded, given)
                                      : damaged_call(model.memory, folded, &other, given);
    }
    printf(
        "%llu attempts from %llu on, accepted: bases %lu of %lu, payloads %lu of %lu, weights %lu of %lu, calls %lu of %lu\n",
        (unsigned long long)times, (unsigned long long)first, accepted[0], tried[0], accepted[1], tried[1], accepted[2],
        tried[2], accepted[3], tried[3]);
    free(other.memory);
    for (int i = 0; i < given; i++)
        free(payloads[i].data), free(folded[i].memory);
    for (int i = 0; i < FILES; i++)
        free(files[i].data);
    free(model.memory);
    return 0;
}
