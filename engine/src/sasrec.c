/* SASRec, as src/ossia/device/sasrec.py:
 *
 *     h     = E[items] + P[positions]                             E at 8 bits, position 0 is the newest
 *     h     = h + output(attention(query(n), key(n), value(n)))   n = norm(h), for every block
 *     h     = h + contract(relu(expand(n)))                       n = norm(h)
 *     state = norm(h)[newest]
 *
 * A gate that is 0 skips its line. After the last attention that runs only the newest event is read, so only it is computed. */
#include "engine.h"

void place_sasrec(const ossia_shape *shape, ossia_scratch *s, void *memory, size_t *at)
{
    size_t dim = pad_to(shape->dim, 16), length = pad_to(shape->length, 32), tile = TILE * pad_to(shape->hidden, 16);
    size_t rows = length * dim * sizeof(float);
    s->h = place(memory, at, rows);
    s->queries = place(memory, at, rows);
    s->keys = place(memory, at, rows);
    s->values = place(memory, at, rows);
    s->mixed = place(memory, at, rows);
    s->columns = place(memory, at, rows);
    s->looks = place(memory, at, QUERIES * length * sizeof(float));
    s->inner = place(memory, at, tile * sizeof(float));
    place_acts(&s->acts, memory, at, length, length * dim > tile ? length * dim : tile);
}

/* The attention branch for the newest `rows` of `events`, added to h in place; the others only look on. */
static void attention(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s,
                      uint32_t block, uint32_t rows, uint32_t events)
{
    uint32_t dim = model->shape.dim, stride = (uint32_t)pad_to(dim, 16), older = events - rows, heads = model->shape.heads;
    panel part[4];
    for (uint32_t i = 0; i < 4; i++)
        part[i] = panel_of(model, weights, BLOCK_SLOTS * block + i);
    norm_and_round(model, run, &model->norm[2 * block], s->h, events, s->mixed, &s->acts);
    run->linear(&part[KEY], &s->acts, events, false, s->keys, stride);
    run->linear(&part[VALUE], &s->acts, events, false, s->values, stride);
    acts newest = rows_from(&s->acts, older);
    run->linear(&part[QUERY], &newest, rows, false, s->queries, stride);
    run->attend(s, rows, events, stride, heads, dim / heads);
    run->round(s->mixed, rows, stride, false, &s->acts);
    run->linear(&part[OUTPUT], &s->acts, rows, true, s->h + older * stride, stride);
}

/* The feed-forward branch of `rows` rows, some at a time so that the inner layer stays near. */
static void feed_forward(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s,
                         uint32_t block, float *h, uint32_t rows)
{
    uint32_t stride = (uint32_t)pad_to(model->shape.dim, 16);
    panel expand = panel_of(model, weights, BLOCK_SLOTS * block + EXPAND);
    panel contract = panel_of(model, weights, BLOCK_SLOTS * block + CONTRACT);
    uint32_t wide = (uint32_t)pad_to(expand.channels, 16);
    for (uint32_t row = 0; row < rows; row += TILE) {
        uint32_t count = rows - row < TILE ? rows - row : TILE;
        norm_and_round(model, run, &model->norm[2 * block + 1], h + row * stride, count, s->mixed, &s->acts);
        run->linear(&expand, &s->acts, count, false, s->inner, wide);
        s->acts.inputs = contract.inputs, s->acts.stride = wide;
        run->round(s->inner, count, wide, true, &s->acts);
        run->linear(&contract, &s->acts, count, true, h + row * stride, stride);
    }
}

void sasrec(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s)
{
    uint32_t stride = (uint32_t)pad_to(model->shape.dim, 16), blocks = model->shape.blocks, last = blocks;
    for (uint32_t block = 0; block < blocks; block++)
        if (runs(weights, 2 * block))
            last = block;
    uint32_t events = last == blocks ? 1 : s->events, rows = events; /* without any attention the newest stands alone */
    const int32_t *items = s->items + s->events - events;
    for (uint32_t i = 0; i < events; i++)
        run->embed(&model->table, (uint32_t)items[i], model->positions + (events - 1 - i) * stride, s->h + i * stride);
    for (uint32_t block = 0; block < blocks; block++) {
        if (block == last)
            rows = 1;
        if (runs(weights, 2 * block))
            attention(model, weights, run, s, block, rows, events);
        if (runs(weights, 2 * block + 1))
            feed_forward(model, weights, run, s, block, s->h + (events - rows) * stride, rows);
    }
    run->norm(&model->norm[2 * blocks], model->mask, s->h + (events - 1) * stride, model->shape.dim, s->state);
}
