/* From a history to a user state, as src/ossia/device/forward.py:
 *
 *     h     = E[items] + P[positions]                             E at 8 bits, position 0 is the newest
 *     h     = h + output(attention(query(n), key(n), value(n)))   n = norm(h), for every block
 *     h     = h + contract(relu(expand(n)))                       n = norm(h)
 *     state = norm(h)[newest]
 *
 * A gate that is 0 skips its line. After the last attention that runs only the newest event is read, so only it is computed. */
#include "engine.h"

static const uint64_t SCRATCH_MAGIC = 0x6863746172635353; /* "SScratch" */

static void *place(ossia_scratch *scratch, size_t *at, size_t bytes)
{
    void *here = scratch ? (uint8_t *)scratch + *at : NULL;
    *at += pad_to(bytes, OSSIA_ALIGN);
    return here;
}

static size_t lay_out(const ossia_shape *shape, ossia_scratch *s, ossia_scratch *memory)
{
    size_t dim = pad_to(shape->dim, 16), hidden = pad_to(shape->hidden, 16), length = pad_to(shape->length, 32);
    size_t rows = length * dim * sizeof(float), tile = TILE * hidden, at = pad_to(sizeof *s, OSSIA_ALIGN);
    s->items = place(memory, &at, shape->length * sizeof(int32_t));
    s->h = place(memory, &at, rows);
    s->queries = place(memory, &at, rows);
    s->keys = place(memory, &at, rows);
    s->values = place(memory, &at, rows);
    s->mixed = place(memory, &at, rows);
    s->inner = place(memory, &at, tile * sizeof(float));
    s->columns = place(memory, &at, dim * length * sizeof(float));
    s->looks = place(memory, &at, QUERIES * length * sizeof(float));
    s->state = place(memory, &at, dim * sizeof(float));
    s->acts.values = place(memory, &at, (length * dim > tile ? length * dim : tile) * sizeof(int16_t));
    s->acts.scale = place(memory, &at, (length > TILE ? length : TILE) * sizeof(float));
    s->acts.sum = place(memory, &at, (length > TILE ? length : TILE) * sizeof(int32_t));
    return at;
}

int ossia_prepare(const ossia_model *model, ossia_scratch *memory, size_t *bytes)
{
    if (!valid_model(model) || !bytes || (uintptr_t)memory % OSSIA_ALIGN)
        return OSSIA_ARGUMENT;
    ossia_scratch s;
    memset(&s, 0, sizeof s);
    size_t needed = lay_out(&model->shape, &s, memory), there = *bytes;
    *bytes = needed;
    if (!memory || there < needed)
        return OSSIA_MEMORY;
    memset(memory, 0, needed);
    s.magic = SCRATCH_MAGIC ^ model->weights_bytes, s.bytes = needed;
    memcpy(memory, &s, sizeof s);
    return OSSIA_OK;
}

bool valid_call(const ossia_model *model, const ossia_weights *weights, const ossia_scratch *scratch)
{
    return valid_model(model) && valid_weights(model, weights) && scratch && (uintptr_t)scratch % OSSIA_ALIGN == 0 &&
           scratch->magic == (SCRATCH_MAGIC ^ model->weights_bytes);
}

static acts rows_from(const acts *x, uint32_t row)
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

static void norm_and_round(const ossia_model *model, const kernels *run, const norm *n, const float *h, uint32_t rows, float *y, acts *x)
{
    uint32_t dim = model->shape.dim, stride = (uint32_t)pad_to(dim, 16);
    for (uint32_t row = 0; row < rows; row++)
        run->norm(n, model->mask, h + row * stride, dim, y + row * stride);
    x->inputs = dim, x->stride = stride;
    run->round(y, rows, stride, false, x);
}

/* The attention branch for the newest `rows` of `events`, added to h in place; the others only look on. */
static void attention(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s, uint32_t block,
                      uint32_t rows, uint32_t events)
{
    uint32_t dim = model->shape.dim, stride = (uint32_t)pad_to(dim, 16), older = events - rows, heads = model->shape.heads;
    panel part[4];
    for (uint32_t i = 0; i < 4; i++)
        part[i] = panel_of(model, weights, BLOCK_SLOTS * block + i);
    norm_and_round(model, run, &model->attention_norm[block], s->h, events, s->mixed, &s->acts);
    run->linear(&part[KEY], &s->acts, events, false, s->keys, stride);
    run->linear(&part[VALUE], &s->acts, events, false, s->values, stride);
    acts newest = rows_from(&s->acts, older);
    run->linear(&part[QUERY], &newest, rows, false, s->queries, stride);
    run->attend(s, rows, events, stride, heads, dim / heads);
    run->round(s->mixed, rows, stride, false, &s->acts);
    run->linear(&part[OUTPUT], &s->acts, rows, true, s->h + older * stride, stride);
}

/* The feed-forward branch of `rows` rows, some at a time so that the inner layer stays near. */
static void feed_forward(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s, uint32_t block, float *h, uint32_t rows)
{
    uint32_t stride = (uint32_t)pad_to(model->shape.dim, 16);
    panel expand = panel_of(model, weights, BLOCK_SLOTS * block + EXPAND), contract = panel_of(model, weights, BLOCK_SLOTS * block + CONTRACT);
    uint32_t wide = (uint32_t)pad_to(expand.channels, 16);
    for (uint32_t row = 0; row < rows; row += TILE) {
        uint32_t count = rows - row < TILE ? rows - row : TILE;
        norm_and_round(model, run, &model->feed_forward_norm[block], h + row * stride, count, s->mixed, &s->acts);
        run->linear(&expand, &s->acts, count, false, s->inner, wide);
        s->acts.inputs = contract.inputs, s->acts.stride = wide;
        run->round(s->inner, count, wide, true, &s->acts);
        run->linear(&contract, &s->acts, count, true, h + row * stride, stride);
    }
}

static unsigned gate(const ossia_weights *weights, uint32_t index) { return weights->gates >> index & 1; }

/* Encodes what keep_usable left, at least one event, into s->state. */
static void sasrec(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s)
{
    uint32_t stride = (uint32_t)pad_to(model->shape.dim, 16), blocks = model->shape.blocks, last = blocks;
    for (uint32_t block = 0; block < blocks; block++)
        if (gate(weights, 2 * block))
            last = block;
    uint32_t events = last == blocks ? 1 : s->events, rows = events; /* without any attention the newest stands alone */
    const int32_t *items = s->items + s->events - events;
    for (uint32_t i = 0; i < events; i++)
        run->embed(&model->table, (uint32_t)items[i], model->positions + (events - 1 - i) * stride, s->h + i * stride);
    for (uint32_t block = 0; block < blocks; block++) {
        if (block == last)
            rows = 1;
        if (gate(weights, 2 * block))
            attention(model, weights, run, s, block, rows, events);
        if (gate(weights, 2 * block + 1))
            feed_forward(model, weights, run, s, block, s->h + (events - rows) * stride, rows);
    }
    run->norm(&model->last_norm, model->mask, s->h + (events - 1) * stride, model->shape.dim, s->state);
}

bool encode(const ossia_model *model, const ossia_weights *weights, ossia_scratch *s, const int32_t *history, size_t events)
{
    keep_usable(&model->shape, s, history, events);
    memset(s->state, 0, pad_to(model->shape.dim, 16) * sizeof(float));
    if (s->events)
        sasrec(model, weights, kernels_now(), s);
    return s->events;
}

int ossia_encode(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch, const int32_t *history, size_t events, float *state)
{
    if (!valid_call(model, weights, scratch) || (!history && events) || !state)
        return OSSIA_ARGUMENT;
    encode(model, weights, scratch, history, events);
    memcpy(state, scratch->state, model->shape.dim * sizeof(float));
    return OSSIA_OK;
}

int ossia_profile(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch, const int32_t *history, size_t events, uint8_t *profile)
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
