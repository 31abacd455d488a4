/* Folding a payload: add, then quantize, then gate, as src/ossia/adaptation/apply.py, to the bit.
 *
 *     u = q + 128;  t = ((u & mask) + half) - 128        mask and half by the channel's width: 8, 4, 2 bits or none
 *
 * The master lies in panels already, so a slot folds in one pass that any compiler turns into vectors: mask and half repeat
 * over the 64 bytes of a group. A channel without bits gets mask 0 and half 128, which is zero.
 *
 * Every byte of a payload has been checked by payload.c before the first is written: a refused payload leaves the weights as
 * they were.
 *
 * Hidden channels of a feed-forward at width 0 give relu(0) = 0: they are left out, together with the inputs of `contract` that
 * read them, which changes no sum. With valves silu(expand) is multiplied by `up`: what is 0 on either side is left out on both. */
#include "engine.h"
COMPACT

static const uint64_t WEIGHTS_MAGIC = 0x746867696557534f; /* "OSWeight" */
enum { ID = 16 };

static const uint8_t MASK[4] = {0, 0xc0, 0xf0, 0xff}, HALF[4] = {128, 32, 8, 0};

float half_to_float(const uint8_t *at)
{
    uint32_t half = at[0] | at[1] << 8, rest = half & 0x7fff, bits = (rest << 13) + (112u << 23), few;
    float value = (float)(int32_t)rest * 0x1p-24f; /* below the smallest normal float16: whole steps of 2^-24 */
    memcpy(&few, &value, sizeof few);
    bits = (rest < 0x400 ? few : bits) | (half & 0x8000) << 16; /* chosen, not jumped to: signs are as good as random */
    memcpy(&value, &bits, sizeof value);
    return value;
}

typedef struct { /* a slot as its payload wants it */
    const slot *slot;
    const uint8_t *codes, *numbers; /* of its delta; NULL: none */
    const uint8_t *left, *right;    /* its factors, in the payload or of the base's basis; NULL: it is dense */
    bool coordinates;               /* then the numbers are the directions' weights */
    uint32_t rank, channels, inputs;
    const uint16_t *channel, *input; /* which of the slot's are kept; NULL: all */
} recipe;

/* ---- W + D on the grid again ----
 *
 * Stretch by stretch of the inputs, so that the right factors are read once for all channels, and once more for the second
 * pass: sums are made twice rather than kept. A stretch is filled up with zeros, so that every loop over one is of a fixed
 * length, which compilers turn into vectors. */

enum { RUN = 64, KEPT = 8 }; /* inputs of a stretch; right factors that are kept: what is larger than a small stack is read anew */

typedef struct { /* some inputs of a slot */
    uint32_t first, count;
    float right[KEPT][RUN];
} stretch;

static void read_halves(const uint8_t *from, uint32_t count, float *to)
{
    for (uint32_t i = 0; i < count; i++)
        to[i] = half_to_float(from + 2 * i);
}

static void read_right(const recipe *r, const stretch *at, uint32_t k, float *right)
{
    read_halves(r->right + 2 * ((size_t)k * r->slot->inputs + at->first), at->count, right);
}

static bool next_stretch(const recipe *r, stretch *at)
{
    uint32_t inputs = r->slot->inputs;
    at->first += at->count;
    at->count = inputs - at->first < RUN ? inputs - at->first : RUN;
    memset(at->right, 0, sizeof at->right);
    for (uint32_t k = 0; k < r->rank && k < KEPT && at->count; k++)
        read_right(r, at, k, at->right[k]);
    return at->count;
}

/* A stretch of a delta: left . right, added rank by rank, each product and each sum rounded to float32; a coordinate is
 * multiplied to its left factor first. */
static void delta_of(const recipe *r, const stretch *at, uint32_t channel, float *delta)
{
    float own[RUN] = {0};
    memset(delta, 0, RUN * sizeof *delta); /* 0 + -0 is 0, not -0: on the grid both are 0 */
    if (!r->rank)
        read_halves(r->numbers + 2 * ((size_t)channel * r->slot->inputs + at->first), at->count, delta);
    for (uint32_t k = 0; k < r->rank; k++) {
        float left = half_to_float(r->left + 2 * ((size_t)channel * r->rank + k));
        const float *right = k < KEPT ? at->right[k] : own;
        if (r->coordinates)
            left *= half_to_float(r->numbers + 2 * k);
        if (k >= KEPT)
            read_right(r, at, k, own);
        for (uint32_t i = 0; i < RUN; i++)
            delta[i] += left * right[i];
    }
}

/* A stretch of one channel of W + D. */
static void sum_of(const recipe *r, const stretch *at, uint32_t channel, float *sum)
{
    const slot *s = r->slot;
    const uint8_t *panel = s->master + place_of(s, channel, at->first); /* of a channel 4 bytes lie together, every 64 */
    float scale = s->scales[2 * pad_to(s->channels, 16) + channel], delta[RUN];
    uint8_t master[RUN];
    memset(master, 128, sizeof master);
    for (uint32_t i = 0; i < at->count; i += 4)
        memcpy(master + i, panel + i * 16, 4);
    delta_of(r, at, channel, delta);
    for (uint32_t i = 0; i < RUN; i++) {
        float base = (float)(master[i] - 128) * scale;
        sum[i] = base + delta[i];
    }
}

/* The largest size among these numbers and `top`, found by their bits, which are in the same order without the sign. */
static float largest(const float *sum, float top)
{
    int32_t most;
    memcpy(&most, &top, sizeof most);
    for (uint32_t i = 0; i < RUN; i++) {
        int32_t bits;
        memcpy(&bits, sum + i, sizeof bits);
        bits &= INT32_MAX;
        most = bits > most ? bits : most;
    }
    memcpy(&top, &most, sizeof top);
    return top;
}

/* u = q + 128 of a stretch into its panel, as round_to_grid() for finite numbers. */
static void round_sums(const float *sum, float scale, uint32_t count, uint8_t *panel)
{
    float divisor = scale > 0 ? scale : 1;
    uint8_t values[RUN];
    for (uint32_t i = 0; i < RUN; i++) {
        float x = sum[i] / divisor;
        int q = (int)(x + (x < 0 ? -0.49999997f : 0.49999997f));
        q = q > 127 ? 127 : q;
        values[i] = (uint8_t)((q < -127 ? -127 : q) + 128);
    }
    for (uint32_t i = 0; i < count; i += 4)
        memcpy(panel + i * 16, values + i, 4);
}

/* The scale of a channel's slice: that of the master times sum q t / sum t t. */
COLD static float slice_scale(const slot *s, const uint8_t *sum, uint32_t channel, unsigned code, float scale)
{
    int64_t qt = 0, tt = 0;
    for (uint32_t i = 0; i < s->inputs; i++) {
        int u = sum[place_of(s, channel, i)], q = u - 128, t = (u & MASK[code]) + HALF[code] - 128;
        qt += q * t, tt += t * t;
    }
    return scale * ((float)qt / (float)tt);
}

/* A panel of W + D, written where the folded panel will be, and each channel's scale at its width. */
static const uint8_t *add_delta(const recipe *r, uint8_t *sum, float *scale)
{
    const slot *s = r->slot;
    float some[RUN];
    memset(sum, 128, pad_to(s->channels, 16) * pad_to(s->inputs, 4));
    for (stretch at = {0}; next_stretch(r, &at);)
        for (uint32_t channel = 0; channel < s->channels; channel++)
            sum_of(r, &at, channel, some), scale[channel] = largest(some, scale[channel]);
    for (uint32_t channel = 0; channel < s->channels; channel++)
        scale[channel] /= 127;
    for (stretch at = {0}; next_stretch(r, &at);)
        for (uint32_t channel = 0; channel < s->channels; channel++)
            if (scale[channel] - scale[channel] == 0) /* what is not finite stays at 0 */
                sum_of(r, &at, channel, some), round_sums(some, scale[channel], at.count, sum + place_of(s, channel, at.first));
    for (uint32_t channel = 0; channel < s->channels; channel++) {
        unsigned code = code_of(r->codes, s->code + channel);
        scale[channel] = code == 3 ? scale[channel] : code ? slice_scale(s, sum, channel, code, scale[channel]) : 0;
    }
    return sum;
}

/* ---- folding a slot ---- */

/* The 4 inputs of 16 channels that make one group of the folded panel, 4 bytes a channel. */
static void gather(const recipe *r, const uint8_t *master, uint32_t first, uint32_t group, uint32_t words[16])
{
    size_t groups = pad_to(r->slot->inputs, 4) / 4;
    const uint8_t *block = master + first / 16 * groups * 64;
    uint32_t four[16];
    if (r->channel) {
        for (uint32_t c = 0; c < 16; c++) {
            uint32_t channel = first + c < r->channels ? r->channel[first + c] : 0;
            memcpy(words + c, master + (channel / 16 * groups + group) * 64 + channel % 16 * 4, 4);
        }
    } else if (r->input) {
        memset(words, 0, 64);
        for (uint32_t j = 0; j < 4 && 4 * group + j < r->inputs; j++) {
            uint32_t input = r->input[4 * group + j], from = 8 * (input % 4), to = 8 * j;
            memcpy(four, block + input / 4 * 64, 64);
            for (int c = 0; c < 16; c++)
                words[c] |= (four[c] >> from & 255) << to;
        }
    } else {
        memcpy(words, block + group * 64, 64);
    }
}

/* Folds group by group. Where `master` is the folded panel's own memory, what is read lies never before what is written. */
static void fold_panel(const recipe *r, const uint8_t *master, uint8_t *values)
{
    uint32_t groups = (uint32_t)pad_to(r->inputs, 4) / 4, words[16];
    for (uint32_t first = 0; first < r->channels; first += 16) {
        uint32_t mask[16], half[16]; /* no sum below is above 255, so four bytes can be added at once */
        for (uint32_t c = 0; c < 16; c++) {
            uint32_t channel = first + c < r->channels ? r->channel ? r->channel[first + c] : first + c : UINT32_MAX;
            unsigned code = channel != UINT32_MAX ? code_of(r->codes, r->slot->code + channel) : 0;
            mask[c] = MASK[code] * 0x01010101u, half[c] = HALF[code] * 0x01010101u;
        }
        for (uint32_t group = 0; group < groups; group++, values += 64) {
            gather(r, master, first, group, words);
            for (int c = 0; c < 16; c++)
                words[c] = ((words[c] & mask[c]) + half[c]) ^ 0x80808080u;
            memcpy(values, words, 64);
        }
    }
}

static void fold_slot(const recipe *r, uint8_t *values)
{
    const slot *s = r->slot;
    size_t padded = pad_to(s->channels, 16);
    float *scale = (float *)(values + padded * pad_to(s->inputs, 4)), *bias = scale + padded;
    memset(scale, 0, 2 * padded * sizeof(float));
    const uint8_t *master = r->numbers ? add_delta(r, values, scale) : s->master;
    for (uint32_t i = 0; i < r->channels; i++) {
        uint32_t channel = r->channel ? r->channel[i] : i;
        unsigned code = code_of(r->codes, s->code + channel);
        float own = code ? s->scales[(code - 1) * padded + channel] : 0;
        scale[i] = r->numbers ? scale[channel] : own; /* channel is never before i */
        bias[i] = code ? s->bias[channel] : 0;
    }
    fold_panel(r, master, values);
}

/* Lists the hidden channels of a block that have bits, in `expand` and where there is one in `up`; NULL if all have. */
static const uint16_t *kept(const slot *expand, const slot *up, const uint8_t *codes, uint16_t left[MAX_HIDDEN], uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; i < expand->channels; i++)
        if (code_of(codes, expand->code + i) && (!up || code_of(codes, up->code + i)))
            left[(*count)++] = (uint16_t)i;
    return *count < expand->channels ? left : NULL;
}

/* Leaves out what a block of a SASRec need not compute: channels of `expand` and `up`, and inputs of `contract`, their reader. */
static void thin_out(const ossia_model *model, uint32_t index, bool whole, ossia_weights *weights, recipe *r, uint16_t *left)
{
    if (model->kind != SASREC || part_of(model, index) < EXPAND || part_of(model, index) == FEED_FORWARD_VALVE)
        return;
    uint32_t block = index / block_slots(model), *inner = &weights->inner[block];
    const slot *expand = &model->slot[slot_of(model, block, EXPAND)];
    const uint16_t *which = kept(expand, model->valves ? expand + 1 : NULL, whole ? NULL : r->codes, left, inner);
    if (part_of(model, index) == CONTRACT)
        r->input = which, r->inputs = *inner;
    else
        r->channel = which, r->channels = *inner;
}

static void fold_slots(const ossia_model *model, const sections *found, bool whole, ossia_weights *weights)
{
    const uint8_t *numbers = found->delta ? found->delta + (model->slots + 7) / 8 : NULL;
    uint16_t left[MAX_HIDDEN];
    for (uint32_t i = 0; i < model->slots; i++) {
        const slot *s = &model->slot[i];
        bool changed = found->delta && bit_of(found->delta, i);
        recipe r = {.slot = s, .codes = found->codes, .numbers = changed ? numbers : NULL, .coordinates = found->coordinates,
                    .rank = found->rank, .channels = s->channels, .inputs = s->inputs};
        if (changed)
            r.left = found->coordinates ? s->left : numbers,
            r.right = found->coordinates ? s->right : numbers + 2 * (size_t)s->channels * found->rank;
        thin_out(model, i, whole, weights, &r, left);
        fold_slot(&r, (uint8_t *)weights + s->at);
        if (changed)
            numbers += 2 * delta_numbers(s, found);
    }
}

static void fold_rows(const ossia_model *model, const sections *found, uint8_t *widths)
{
    memset(widths, found->has_rows ? 0 : 3, model->shape.items);
    for (uint8_t i = 0; i < 3 && found->has_rows; i++) {
        list walk = found->rows[i];
        for (uint64_t row; list_next(&walk, found->row_count, &row);)
            widths[row] = i + 1;
    }
}

int ossia_fold(const ossia_model *model, const void *payload, size_t size, int flags, ossia_weights *weights, size_t *bytes)
{
    if (!valid_model(model) || (!payload && size) || !bytes || (uintptr_t)weights % OSSIA_ALIGN ||
        flags & ~(OSSIA_UNSIGNED | OSSIA_VERIFIED | OSSIA_WHOLE))
        return OSSIA_ARGUMENT;
    size_t there = *bytes;
    *bytes = model->weights_bytes;
    if (!weights || there < model->weights_bytes)
        return OSSIA_MEMORY;
    sections found = {0};
    int error = payload ? read_payload(model, payload, size, flags, &found) : OSSIA_OK;
    if (error != OSSIA_OK)
        return error;
    memset(weights, 0, sizeof *weights);
    weights->magic = WEIGHTS_MAGIC, weights->bytes = model->weights_bytes, weights->all_rows = !found.has_rows;
    memcpy(weights->base_id, model->base_id, ID), memcpy(weights->table_id, model->table_id, ID);
    for (uint32_t i = 0; i < model->shape.gates; i++)
        weights->gates |= (uint64_t)(found.gates ? bit_of(found.gates, i) : 1) << i;
    fold_slots(model, &found, flags & OSSIA_WHOLE, weights);
    fold_rows(model, &found, (uint8_t *)weights + model->widths_at);
    return OSSIA_OK;
}

/* ---- reading folded weights ---- */

bool valid_weights(const ossia_model *model, const ossia_weights *weights)
{
    return weights && (uintptr_t)weights % OSSIA_ALIGN == 0 && weights->magic == WEIGHTS_MAGIC &&
           weights->bytes == model->weights_bytes && !memcmp(weights->base_id, model->base_id, ID) &&
           !memcmp(weights->table_id, model->table_id, ID);
}

COLD int ossia_check(const ossia_model *model, const ossia_weights *weights, size_t bytes)
{
    if (!valid_model(model) || !weights || (uintptr_t)weights % OSSIA_ALIGN)
        return OSSIA_ARGUMENT;
    if (bytes < model->weights_bytes || !valid_weights(model, weights) || weights->all_rows > 1)
        return OSSIA_WEIGHTS;
    if (model->shape.gates < MAX_GATES && weights->gates >> model->shape.gates)
        return OSSIA_WEIGHTS;
    for (uint32_t i = 0; i < MAX_BLOCKS; i++)
        if (weights->inner[i] > (i < model->shape.blocks ? model->shape.hidden : 0))
            return OSSIA_WEIGHTS;
    const uint8_t *widths = widths_of(model, weights);
    uint8_t all = 0, any = 3;
    for (uint32_t i = 0; i < model->shape.items; i++)
        all |= widths[i], any &= widths[i];
    return all > 3 || (weights->all_rows && any != 3) ? OSSIA_WEIGHTS : OSSIA_OK;
}

panel panel_of(const ossia_model *model, const ossia_weights *weights, uint32_t index)
{
    const slot *s = &model->slot[index];
    const uint8_t *memory = (const uint8_t *)weights + s->at;
    size_t padded = pad_to(s->channels, 16);
    const float *scale = (const float *)(memory + padded * pad_to(s->inputs, 4));
    panel p = {(const int8_t *)memory, scale, scale + padded, s->channels, s->inputs};
    if (model->kind != SASREC)
        return p;
    uint32_t part = part_of(model, index), inner = weights->inner[index / block_slots(model)];
    if (part == EXPAND || part == UP)
        p.channels = inner;
    if (part == CONTRACT)
        p.inputs = inner;
    return p;
}

const uint8_t *widths_of(const ossia_model *model, const ossia_weights *weights)
{
    return (const uint8_t *)weights + model->widths_at;
}

COLD int ossia_slot(const ossia_model *model, const ossia_weights *weights, uint32_t index, int8_t *values, float *scale)
{
    if (!valid_model(model) || !valid_weights(model, weights) || index >= model->slots || !values || !scale)
        return OSSIA_ARGUMENT;
    const slot *s = &model->slot[index];
    panel p = panel_of(model, weights, index);
    if (p.channels != s->channels || p.inputs != s->inputs)
        return OSSIA_ARGUMENT;
    for (uint32_t channel = 0; channel < s->channels; channel++) {
        scale[channel] = p.scale[channel];
        for (uint32_t input = 0; input < s->inputs; input++)
            *values++ = p.values[place_of(s, channel, input)];
    }
    return OSSIA_OK;
}

COLD int ossia_row(const ossia_model *model, const ossia_weights *weights, uint32_t row, int8_t *values, float *scale)
{
    if (!valid_model(model) || !valid_weights(model, weights) || row >= model->shape.items || !values || !scale)
        return OSSIA_ARGUMENT;
    uint8_t code = widths_of(model, weights)[row];
    const table *t = &model->table;
    *scale = code ? load_float(t->scales + ((code - 1) * (size_t)t->items + row) * 4) : 0;
    for (uint32_t i = 0; i < t->dim; i++)
        values[i] = (int8_t)(uint8_t)(((row_value(t, row, i) & MASK[code]) + HALF[code]) ^ 128);
    return OSSIA_OK;
}
