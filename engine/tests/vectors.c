/* Holds the engine to tests/vectors on any processor: vectors BASE CASES [PATH]. `plain_cases.py` writes CASES out of vectors.json:
 *
 *     bound 1e-5                                                                    of floats, of the largest
 *     payload HEX FOLDED-SHA256
 *     case EVENTS items … CANDIDATES items … DIM state … scores … ranking …        of the payload above it; -inf is "-inf"
 *
 * Bytes, refusals, rankings and the integer sums behind scores are exact; floats are within the bound. Answers 0 if all is well, 1 if not, 2 if something
 * can't be read, 3 if this processor has no such path or the engine does not run such a base. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static const char *const NAMES[] = {
    "manifest.json",          "base/floats.safetensors",   "base/plane2.safetensors",  "base/plane4.safetensors",  "base/plane8.safetensors",
    "table/manifest.json",    "table/scales.safetensors",  "table/plane2.safetensors", "table/plane4.safetensors", "table/plane8.safetensors",
    "table/tail.safetensors"}; /* the last only of some tables */
enum { FILES = sizeof NAMES / sizeof *NAMES, MOST = 1 << 16 };

static int faults, checks;
static float bound;

static void check(int good, const char *what, int number)
{
    checks++;
    if (!good)
        faults++, printf("vectors: case %d: %s is not as told\n", number, what);
}

static void *memory(size_t bytes) { return aligned_alloc(OSSIA_ALIGN, pad_to(bytes + 1, OSSIA_ALIGN)); }

static ossia_file read_file(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file && name == NAMES[FILES - 1])
        return (ossia_file){name, NULL, 0};
    if (!file)
        printf("vectors: %s can't be read\n", path), exit(2);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    char *data = malloc(size + 1);
    rewind(file);
    if (fread(data, 1, size, file) != size)
        exit(2);
    fclose(file);
    return (ossia_file){name, data, size};
}

static int32_t read_whole(FILE *file)
{
    long value = 0;
    if (fscanf(file, "%ld", &value) != 1)
        exit(2);
    return (int32_t)value;
}

static size_t read_items(FILE *file, int32_t *items)
{
    size_t count = (size_t)read_whole(file);
    for (size_t i = 0; i < count; i++)
        items[i] = read_whole(file);
    return count;
}

static int close_to(FILE *file, const float *got, size_t count)
{
    static float told[MOST];
    float largest = 0;
    int good = 1;
    for (size_t i = 0; i < count; i++) {
        if (fscanf(file, "%f", &told[i]) != 1)
            exit(2);
        if (isfinite(told[i]) && fabsf(told[i]) > largest)
            largest = fabsf(told[i]);
    }
    for (size_t i = 0; i < count; i++)
        good &= isfinite(told[i]) ? fabsf(told[i] - got[i]) <= bound * largest : got[i] == told[i];
    return good;
}

static int folds_to(const ossia_model *model, const ossia_weights *weights, const char *hex)
{
    static int8_t values[MOST];
    static float scale[MOST];
    static uint8_t rows[MOST];
    uint8_t digest[32];
    sha256 hash;
    char text[65] = {0};
    sha256_start(&hash);
    for (uint32_t i = 0; i < model->slots; i++) {
        if (ossia_slot(model, weights, i, values, scale) != OSSIA_OK)
            return 0;
        sha256_add(&hash, values, (size_t)model->slot[i].channels * model->slot[i].inputs);
        sha256_add(&hash, scale, model->slot[i].channels * sizeof *scale);
    }
    uint32_t dim = model->shape.dim;
    for (uint32_t row = 0; row < model->shape.items; row++)
        if (ossia_row(model, weights, row, (int8_t *)rows + row * dim, scale + row) != OSSIA_OK)
            return 0;
    sha256_add(&hash, rows, (size_t)model->shape.items * dim);
    sha256_add(&hash, scale, model->shape.items * sizeof *scale);
    sha256_end(&hash, digest);
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return !strcmp(text, hex);
}

static int holds(const int32_t *items, size_t count, int32_t item)
{
    while (count && items[count - 1] != item)
        count--;
    return count > 0;
}

/* Every row that is held and not in the history scores sum(state . row) * (scale of the state * scale of the row), to the bit. What the
 * others score by a tail is told among the candidates. */
static int rows_match(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch, const int32_t *history, size_t events)
{
    static int32_t rows[MOST];
    static float state[MOST], scores[MOST], scale;
    static int8_t values[MOST], rounded[MOST];
    int good = 1, known = 0;
    uint32_t items = model->shape.items, dim = model->shape.dim;
    for (uint32_t row = 0; row < items; row++)
        rows[row] = (int32_t)row, known |= holds(history, events, (int32_t)row);
    ossia_encode(model, weights, scratch, history, events, state);
    ossia_score(model, weights, scratch, history, events, rows, items, NULL, scores);
    float own = round_values(state, dim, rounded);
    for (uint32_t row = 0; row < items && known; row++) {
        int32_t sum = 0;
        ossia_row(model, weights, row, values, &scale);
        for (uint32_t i = 0; i < dim; i++)
            sum += values[i] * rounded[i];
        float none = model->tail.parts ? scores[row] : -INFINITY;
        good &= holds(history, events, (int32_t)row) || scores[row] == (scale > 0 ? (float)sum * (own * scale) : none);
    }
    return good;
}

int main(int count, char **arguments)
{
    static int32_t history[MOST], candidates[MOST], ranking[MOST], told[MOST];
    static float state[MOST], scores[MOST], best[MOST];
    static char word[64], hex[1 << 16], folded[128];
    static uint8_t payload[1 << 15];
    if (count < 3)
        return 2;
    if (count > 3 && !ossia_path(arguments[3]))
        return printf("vectors: this processor has no %s\n", arguments[3]), 3;
    ossia_file files[FILES];
    for (int i = 0; i < FILES; i++)
        files[i] = read_file(arguments[1], NAMES[i]);
    size_t bytes = 0, weights_bytes = 0, scratch_bytes = 0, shown = 0;
    size_t given = files[FILES - 1].data ? FILES : FILES - 1;
    ossia_open(files, given, 0, NULL, &bytes);
    ossia_model *model = memory(bytes);
    int error = ossia_open(files, given, 0, model, &bytes);
    if (error != OSSIA_OK)
        return printf("vectors: the base does not open: %s\n", ossia_error(error)), error == OSSIA_UNSUPPORTED ? 3 : 2;
    ossia_fold(model, NULL, 0, 0, NULL, &weights_bytes);
    ossia_prepare(model, NULL, &scratch_bytes);
    ossia_weights *weights = memory(weights_bytes);
    ossia_scratch *scratch = memory(scratch_bytes);
    ossia_prepare(model, scratch, &scratch_bytes);
    FILE *cases = fopen(arguments[2], "r");
    for (int number = 0; cases && fscanf(cases, "%63s", word) == 1; number++) {
        if (!strcmp(word, "payload")) {
            if (fscanf(cases, "%65535s %127s", hex, folded) != 2)
                return 2;
            size_t size = strlen(hex) / 2;
            for (size_t i = 0; i < size; i++) {
                unsigned byte = 0;
                sscanf(hex + 2 * i, "%2x", &byte);
                payload[i] = (uint8_t)byte;
            }
            check(ossia_fold(model, payload, size - 1, OSSIA_UNSIGNED, weights, &weights_bytes) != OSSIA_OK, "the refusal", number);
            check(ossia_fold(model, payload, size, OSSIA_UNSIGNED | OSSIA_WHOLE, weights, &weights_bytes) == OSSIA_OK, "the payload", number);
            check(folds_to(model, weights, folded), "the fold", number);
            ossia_fold(model, payload, size, OSSIA_UNSIGNED, weights, &weights_bytes);
            continue;
        }
        if (!strcmp(word, "bound")) {
            if (fscanf(cases, "%f", &bound) != 1)
                return 2;
            continue;
        }
        size_t events = read_items(cases, history), offered = read_items(cases, candidates), dim = (size_t)read_whole(cases);
        ossia_encode(model, weights, scratch, history, events, state);
        check(close_to(cases, state, dim), "the state", number);
        check(rows_match(model, weights, scratch, history, events), "a row", number);
        ossia_score(model, weights, scratch, history, events, candidates, offered, NULL, scores);
        check(close_to(cases, scores, offered), "a score", number);
        for (size_t i = 0; i < offered; i++)
            told[i] = read_whole(cases);
        ossia_top(model, weights, scratch, history, events, candidates, offered, 0, offered, ranking, best, &shown);
        check(shown == offered && !memcmp(told, ranking, offered * sizeof *told), "the ranking", number);
    }
    printf("vectors: %s: %d passed, %d failed\n", ossia_path(NULL), checks - faults, faults);
    return faults != 0 || checks == 0;
}
