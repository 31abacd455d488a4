/* GRU4Rec, as src/ossia/device/gru4rec.py:
 *
 *     h     = E[items]
 *     a_t   = input(norm(h))_t      b_t = hidden(m_{t-1})          channels of r, z and n, in this order; m is 0 at first
 *     m_t   = (1 - z) n + z m_{t-1}                                r, z = sigmoid(a + b),  n = tanh(a + r b)
 *     h     = h + output(m)                                        for every layer
 *     state = norm(h)[newest]
 *
 * A gate that is 0 skips its layer. Of the last layer that runs only the newest memory is read. A memory is rounded once: for
 * `hidden` of the next event and for `output` of its own. */
#include "engine.h"
SMALL

void place_gru4rec(const ossia_shape *shape, ossia_scratch *s, void *memory, size_t *at)
{
    size_t dim = pad_to(shape->dim, 16), hidden = pad_to(shape->hidden, 16), wide = pad_to(3 * shape->hidden, 16);
    size_t length = shape->length, widest = dim > hidden ? dim : hidden;
    s->h = place(memory, at, length * dim * sizeof(float));
    s->mixed = place(memory, at, length * dim * sizeof(float));
    s->inner = place(memory, at, (length * wide + 16) * sizeof(float)); /* a vector of n may begin anywhere, and ends behind */
    s->recalled = place(memory, at, (wide + 16) * sizeof(float));
    s->memory = place(memory, at, hidden * sizeof(float));
    place_acts(&s->acts, memory, at, length + 1, (length + 1) * widest);
}

/* Reads all events, and adds to the newest `rows` of h. */
static void layer(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s, uint32_t index,
                  uint32_t rows, uint32_t events)
{
    uint32_t dim = (uint32_t)pad_to(model->shape.dim, 16), hidden = model->shape.hidden,
             wide = (uint32_t)pad_to(3 * hidden, 16);
    panel reads = panel_of(model, weights, LAYER_SLOTS * index + READS),
          adds = panel_of(model, weights, LAYER_SLOTS * index + ADDS);
    panel remembers = panel_of(model, weights, LAYER_SLOTS * index + REMEMBERS);
    norm_and_round(model, run, &model->norm[index], s->h, events, s->mixed, &s->acts);
    run->linear(&reads, &s->acts, events, false, s->inner, wide);
    s->acts.inputs = hidden, s->acts.stride = (uint32_t)pad_to(hidden, 16);
    memset(s->memory, 0, s->acts.stride * sizeof(float));
    acts memory = s->acts; /* row t: what is remembered before event t */
    run->round(s->memory, 1, s->acts.stride, false, &memory);
    for (uint32_t event = 0; event < events; event++) {
        run->linear(&remembers, &memory, 1, false, s->recalled, wide);
        run->remember(s->inner + (size_t)event * wide, s->recalled, hidden, s->memory);
        memory = rows_from(&memory, 1);
        run->round(s->memory, 1, s->acts.stride, false, &memory);
    }
    acts newest = rows_from(&s->acts, events + 1 - rows);
    run->linear(&adds, &newest, rows, true, s->h + (size_t)(events - rows) * dim, dim);
}

void gru4rec(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s)
{
    uint32_t stride = (uint32_t)pad_to(model->shape.dim, 16), layers = model->shape.blocks, last = layers;
    for (uint32_t i = 0; i < layers; i++)
        if (runs(weights, i))
            last = i;
    uint32_t events = last == layers ? 1 : s->events; /* without any layer the newest stands alone */
    const int32_t *items = s->items + s->events - events;
    for (uint32_t i = 0; i < events; i++)
        run->embed(&model->table, (uint32_t)items[i], model->positions, s->h + (size_t)i * stride);
    for (uint32_t i = 0; i < layers; i++)
        if (runs(weights, i))
            layer(model, weights, run, s, i, i == last ? 1 : events, events);
    run->norm(&model->norm[layers], model->mask, s->h + (size_t)(events - 1) * stride, 1, model->shape.dim, s->state);
}
