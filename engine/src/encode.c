/* From a history to a user state, as src/ossia/device/forward.py: what a model can read of a history, and which encoder reads
 * it; the scratch that it works in; and the profile, which is what may leave the device. */
#include "engine.h"
SMALL

static const uint64_t SCRATCH_MAGIC = 0x6863746172635353; /* "SScratch" */

/* ---- the scratch ---- */

void place_acts(acts *x, void *memory, size_t *at, size_t rows, size_t values)
{
    x->values = place(memory, at, values * sizeof(int16_t)); /* the widest that a kernel likes */
    x->scale = place(memory, at, rows * sizeof(float));
    x->sum = place(memory, at, rows * sizeof(int32_t));
}

static size_t lay_out(const ossia_model *model, ossia_scratch *s, void *memory)
{
    size_t at = pad_to(sizeof *s, OSSIA_ALIGN);
    s->items = place(memory, &at, model->shape.length * sizeof(int32_t));
    s->state = place(memory, &at, pad_to(model->shape.dim, 16) * sizeof(float));
    if (model->kind == SASREC)
        place_sasrec(model, s, memory, &at);
    else if (model->kind == GRU4REC)
        place_gru4rec(&model->shape, s, memory, &at);
    else
        place_caser(model, s, memory, &at);
    s->turned = place(memory, &at, (model->tail.parts ? model->shape.dim : 0) * sizeof(float));
    s->products = place(memory, &at, (size_t)model->tail.parts * model->tail.words * sizeof(float));
    return at;
}

int ossia_prepare(const ossia_model *model, ossia_scratch *memory, size_t *bytes)
{
    if (!valid_model(model) || !bytes || (uintptr_t)memory % OSSIA_ALIGN)
        return OSSIA_ARGUMENT;
    ossia_scratch s;
    memset(&s, 0, sizeof s);
    size_t needed = lay_out(model, &s, memory), there = *bytes;
    *bytes = needed;
    if (!memory || there < needed)
        return OSSIA_MEMORY;
    memset(memory, 0, needed);
    s.magic = SCRATCH_MAGIC ^ model->weights_bytes;
    memcpy(memory, &s, sizeof s);
    return OSSIA_OK;
}

bool valid_call(const ossia_model *model, const ossia_weights *weights, const ossia_scratch *scratch)
{
    return valid_model(model) && valid_weights(model, weights) && scratch && (uintptr_t)scratch % OSSIA_ALIGN == 0 &&
           scratch->magic == (SCRATCH_MAGIC ^ model->weights_bytes);
}

/* ---- encoding ---- */

acts rows_from(const acts *x, uint32_t row)
{
    acts rest = *x;
    rest.values = (uint8_t *)x->values + (size_t)row * x->stride * x->size;
    rest.scale += row, rest.sum += row;
    return rest;
}

/* Keeps the newest events among those whose items the table knows. */
static void keep_usable(const ossia_shape *shape, ossia_scratch *s, const int32_t *history, size_t events)
{
    uint32_t kept = 0;
    memset(s->seen, 0, sizeof s->seen);
    for (size_t i = events; i-- > 0 && kept < shape->length;)
        if (history[i] >= 0 && (uint32_t)history[i] < shape->items) {
            s->items[shape->length - ++kept] = history[i];
            s->seen[history[i] / 64 % 64] |= (uint64_t)1 << history[i] % 64;
        }
    memmove(s->items, s->items + shape->length - kept, kept * sizeof *s->items);
    s->events = kept;
}

void norm_and_round(const ossia_model *model, const kernels *run, const norm *n, const float *h, uint32_t rows, float *y,
                    acts *x)
{
    uint32_t dim = model->shape.dim, stride = (uint32_t)pad_to(dim, 16);
    run->norm(n, model->mask, h, rows, dim, y);
    x->inputs = dim, x->stride = stride;
    run->round(y, rows, stride, false, x);
}

bool encode(const ossia_model *model, const ossia_weights *weights, ossia_scratch *s, const int32_t *history, size_t events)
{
    static void (*const encoders[])(const ossia_model *, const ossia_weights *, const kernels *,
                                    ossia_scratch *) = {[SASREC] = sasrec, [GRU4REC] = gru4rec, [CASER] = caser};
    keep_usable(&model->shape, s, history, events);
    memset(s->state, 0, pad_to(model->shape.dim, 16) * sizeof(float));
    if (s->events)
        encoders[model->kind](model, weights, kernels_now(), s);
    return s->events;
}

int ossia_encode(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch, const int32_t *history,
                 size_t events, float *state)
{
    if (!valid_call(model, weights, scratch) || (!history && events) || !state)
        return OSSIA_ARGUMENT;
    encode(model, weights, scratch, history, events);
    memcpy(state, scratch->state, model->shape.dim * sizeof(float));
    return OSSIA_OK;
}

int ossia_profile(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch, const int32_t *history,
                  size_t events, uint8_t *profile)
{
    if (!valid_call(model, weights, scratch) || (!history && events) || !profile)
        return OSSIA_ARGUMENT;
    uint32_t dim = model->shape.dim;
    float clip = model->profile_clip, scale;
    encode(model, weights, scratch, history, events);
    for (uint32_t i = 0; i < dim; i++) {
        float x = scratch->state[i];
        scratch->state[i] = x > clip ? clip : x < -clip ? -clip : x;
    }
    scale = round_values(scratch->state, dim, (int8_t *)profile);
    memcpy(profile + dim, &scale, sizeof scale);
    return OSSIA_OK;
}
