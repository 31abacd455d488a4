/* SASRec, as src/ossia/device/sasrec.py:
 *
 *     h     = E[items] + P[positions]                             E at 8 bits, position 0 is the newest
 *     h     = h + output(attention(query(n), key(n), value(n)))   n = norm(h), for every block
 *     h     = h + contract(relu(expand(n)))                       n = norm(h)
 *     state = norm(h)[newest]
 *
 * With valves:
 *
 *     h     = h + sigmoid(attention_valve(h)) output(...)
 *     h     = h + sigmoid(feed_forward_valve(h)) contract(silu(expand(n)) up(n))      silu(x) = x sigmoid(x)
 *
 * A gate that is 0 skips its line. After the last attention that runs only the newest event is read, so only it is computed. */
#include "engine.h"
SMALL

void place_sasrec(const ossia_model *model, ossia_scratch *s, void *memory, size_t *at)
{
    const ossia_shape *shape = &model->shape;
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
    s->up = place(memory, at, model->valves ? tile * sizeof(float) : 0);
    place_acts(&s->acts, memory, at, length, length * dim > tile ? length * dim : tile);
}

typedef struct { /* what both branches of a block know */
    const ossia_model *model;
    const ossia_weights *weights;
    const kernels *run;
    ossia_scratch *s;
    uint32_t block, stride;
} block;

static void multiply(const block *b, uint32_t part, const acts *x, uint32_t rows, bool add, float *y, uint32_t stride)
{
    panel p = panel_of(b->model, b->weights, slot_of(b->model, b->block, part));
    b->run->linear(&p, x, rows, add, y, stride);
}

/* Ends a branch: adds what its last layer makes of the rounded rows, or what the valve, which reads h, lets through of it. */
static void end_branch(const block *b, uint32_t last, uint32_t valve, float *h, uint32_t rows)
{
    ossia_scratch *s = b->s;
    if (!b->model->valves) {
        multiply(b, last, &s->acts, rows, true, h, b->stride);
        return;
    }
    multiply(b, last, &s->acts, rows, false, s->queries, b->stride);
    s->acts.inputs = b->model->shape.dim, s->acts.stride = b->stride;
    b->run->round(h, rows, b->stride, false, &s->acts);
    multiply(b, valve, &s->acts, rows, false, s->keys, b->stride);
    b->run->valve(s->keys, s->queries, (size_t)rows * b->stride, true, h);
}

/* The attention branch for the newest `rows` of `events`, added to h in place; the others only look on. */
static void attention(const block *b, uint32_t rows, uint32_t events)
{
    ossia_scratch *s = b->s;
    uint32_t older = events - rows, heads = b->model->shape.heads;
    norm_and_round(b->model, b->run, &b->model->norm[2 * b->block], s->h, events, s->mixed, &s->acts);
    multiply(b, KEY, &s->acts, events, false, s->keys, b->stride);
    multiply(b, VALUE, &s->acts, events, false, s->values, b->stride);
    acts newest = rows_from(&s->acts, older);
    multiply(b, QUERY, &newest, rows, false, s->queries, b->stride);
    b->run->attend(s, rows, events, b->stride, heads, b->model->shape.dim / heads);
    b->run->round(s->mixed, rows, b->stride, false, &s->acts);
    end_branch(b, OUTPUT, ATTENTION_VALVE, s->h + older * b->stride, rows);
}

/* The feed-forward branch of `rows` rows, some at a time so that the inner layer stays near. */
static void feed_forward(const block *b, float *h, uint32_t rows)
{
    ossia_scratch *s = b->s;
    uint32_t inner = b->weights->inner[b->block], wide = (uint32_t)pad_to(inner, 16), valves = b->model->valves;
    for (uint32_t row = 0; row < rows; row += TILE, h += TILE * b->stride) {
        uint32_t count = rows - row < TILE ? rows - row : TILE;
        norm_and_round(b->model, b->run, &b->model->norm[2 * b->block + 1], h, count, s->mixed, &s->acts);
        multiply(b, EXPAND, &s->acts, count, false, s->inner, wide);
        if (valves) {
            multiply(b, UP, &s->acts, count, false, s->up, wide);
            b->run->valve(s->inner, s->up, (size_t)count * wide, false, s->inner);
        }
        s->acts.inputs = inner, s->acts.stride = wide;
        b->run->round(s->inner, count, wide, !valves, &s->acts);
        end_branch(b, CONTRACT, FEED_FORWARD_VALVE, h, count);
    }
}

void sasrec(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s)
{
    uint32_t stride = (uint32_t)pad_to(model->shape.dim, 16), blocks = model->shape.blocks, last = blocks;
    for (uint32_t i = 0; i < blocks; i++)
        if (runs(weights, 2 * i))
            last = i;
    uint32_t events = last == blocks ? 1 : s->events, rows = events; /* without any attention the newest stands alone */
    const int32_t *items = s->items + s->events - events;
    for (uint32_t i = 0; i < events; i++)
        run->embed(&model->table, (uint32_t)items[i], model->positions + (events - 1 - i) * stride, s->h + i * stride);
    for (block b = {model, weights, run, s, 0, stride}; b.block < blocks; b.block++) {
        if (b.block == last)
            rows = 1;
        if (runs(weights, 2 * b.block))
            attention(&b, rows, events);
        if (runs(weights, 2 * b.block + 1))
            feed_forward(&b, s->h + (events - rows) * stride, rows);
    }
    run->norm(&model->norm[2 * blocks], model->mask, s->h + (events - 1) * stride, 1, model->shape.dim, s->state);
}
