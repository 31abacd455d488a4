/* Folding a payload: add, then quantize, then gate, as src/ossia/adaptation/apply.py, to the bit.
 *
 *     u = q + 128;  t = ((u & mask) + half) - 128        mask and half by the channel's width: 8, 4, 2 bits or none
 *
 * The master lies in panels already, so a slot folds in one pass that any compiler turns into vectors: mask and half repeat
 * over the 64 bytes of a group. A channel without bits gets mask 0 and half 128, which is zero.
 *
 * Two passes over a payload: the first checks every byte of it, the second, which can't fail, writes. A refused payload leaves
 * the weights as they were.
 *
 * Hidden channels of a feed-forward at width 0 give relu(0) = 0: they are left out, together with the inputs of `contract` that
 * read them, which changes no sum. */
#include "engine.h"

static const uint64_t WEIGHTS_MAGIC = 0x746867696557534f; /* "OSWeight" */

enum { HEADER = 80, SIGNATURE = 64, ID = 16, DIGEST = 32, DENSE = 1, LOW_RANK = 2 };
enum { GATES = 1, CODES = 2, DELTA = 4, TABLE = 8 }; /* sections present */

typedef struct { /* hands out a body's bytes in order */
    const uint8_t *at;
    size_t left;
} reader;

typedef struct { /* walks one sorted list: its length, its first row, and gaps less one */
    reader body;
    uint64_t left, next; /* rows still to come; the smallest that the next one can be */
} list;

typedef struct { /* a payload's sections, as they were found and checked */
    const uint8_t *gates, *codes, *delta; /* NULL: not there */
    uint32_t rank;                        /* of the delta; 0: dense */
    uint32_t row_count;                   /* of the table that the payload was made for */
    bool has_rows;
    list rows[3]; /* at 2, 4 and 8 bits */
} sections;

static const uint8_t *take(reader *body, uint64_t count)
{
    const uint8_t *here = body->at;
    if (count > body->left)
        return NULL;
    body->at += count, body->left -= count;
    return here;
}

static bool padded_with_zeros(const uint8_t *bits, uint32_t count, uint32_t width)
{
    uint32_t used = count * width % 8;
    return !used || !(bits[count * width / 8] >> used);
}

static unsigned bit_of(const uint8_t *bits, uint32_t index) { return bits[index / 8] >> index % 8 & 1; }
static unsigned code_of(const uint8_t *codes, uint32_t index) { return codes ? codes[index / 4] >> index % 4 * 2 & 3 : 3; }

/* ---- checking ---- */

static int check_header(const ossia_model *model, const uint8_t *data, size_t size, int flags, sections *found, unsigned *present)
{
    if (size < HEADER)
        return OSSIA_PAYLOAD_SIZE;
    unsigned sign = data[5];
    *present = data[6] | data[7] << 8;
    if (memcmp(data, "OSSA\1", 5) || sign > 1 || *present > 15)
        return OSSIA_PAYLOAD_HEADER;
    if ((uint64_t)size != HEADER + (uint64_t)load_u32(data + 8) + (sign ? SIGNATURE : 0))
        return OSSIA_PAYLOAD_SIZE;
    if (memcmp(data + 12, model->base_id, ID))
        return OSSIA_PAYLOAD_BASE;
    found->row_count = memcmp(data + 28, model->table_id, ID) ? 0 : model->shape.items;
    for (uint32_t i = 0; i < model->extends; i++)
        if (!memcmp(data + 28, model->older[i].id, ID) && !found->row_count)
            found->row_count = model->older[i].rows;
    if (!found->row_count)
        return OSSIA_PAYLOAD_TABLE_ID;
    if (load_u32(data + 72) < load_u32(data + 68))
        return OSSIA_PAYLOAD_EXPIRY;
    return flags & (sign ? OSSIA_VERIFIED : OSSIA_UNSIGNED) ? OSSIA_OK : OSSIA_PAYLOAD_SIGNATURE;
}

/* The float16 numbers that a slot's delta takes. */
static uint64_t delta_numbers(const slot *s, uint32_t rank)
{
    return rank ? (uint64_t)rank * (s->channels + s->inputs) : (uint64_t)s->channels * s->inputs;
}

static int check_delta(const ossia_model *model, reader *body, sections *found)
{
    const uint8_t *start = take(body, 2), *there = take(body, (model->slots + 7) / 8);
    unsigned any = 0;
    if (!start || !there || !padded_with_zeros(there, model->slots, 1))
        return OSSIA_PAYLOAD_DELTA;
    if (!(start[0] == DENSE && start[1] == 0) && !(start[0] == LOW_RANK && start[1] > 0))
        return OSSIA_PAYLOAD_DELTA;
    for (uint32_t i = 0; i < model->slots; i++) {
        if (!bit_of(there, i))
            continue;
        uint64_t count = delta_numbers(&model->slot[i], start[1]);
        const uint8_t *numbers = take(body, 2 * count);
        if (!numbers)
            return OSSIA_PAYLOAD_DELTA;
        for (uint64_t n = 0; n < count; n++)
            if ((numbers[2 * n + 1] & 0x7c) == 0x7c)
                return OSSIA_PAYLOAD_DELTA; /* infinite, or no number */
        any = 1;
    }
    found->delta = there, found->rank = start[1];
    return any ? OSSIA_OK : OSSIA_PAYLOAD_DELTA;
}

/* A LEB128 number of at most five bytes in its shortest form. */
static bool varint(reader *body, uint64_t *number)
{
    *number = 0;
    for (int place = 0; place < 5; place++) {
        const uint8_t *byte = take(body, 1);
        if (!byte)
            return false;
        *number |= (uint64_t)(*byte & 127) << 7 * place;
        if (*byte < 128)
            return place == 0 || *byte;
    }
    return false;
}

static bool list_start(reader body, list *rows)
{
    uint64_t count = 0;
    bool good = varint(&body, &count) && count <= body.left;
    *rows = (list){body, good ? count : 0, 0};
    return good;
}

static bool list_next(list *rows, uint32_t below, uint64_t *row)
{
    uint64_t gap;
    if (!rows->left || !varint(&rows->body, &gap) || rows->next + gap >= below)
        return false;
    *row = rows->next + gap;
    rows->next = *row + 1;
    rows->left--;
    return true;
}

/* Reads the three lists one after another; of rows that are all below `below`. */
static bool find_lists(reader *body, uint32_t below, list lists[3])
{
    uint64_t row;
    for (int i = 0; i < 3; i++) {
        if (!list_start(*body, &lists[i]))
            return false;
        list walk = lists[i];
        while (walk.left)
            if (!list_next(&walk, below, &row))
                return false;
        *body = walk.body;
    }
    return true;
}

static bool disjoint(list a, list b)
{
    uint64_t x = 0, y = 0;
    bool in_a = list_next(&a, MAX_ITEMS, &x), in_b = list_next(&b, MAX_ITEMS, &y);
    while (in_a && in_b && x != y)
        if (x < y)
            in_a = list_next(&a, MAX_ITEMS, &x);
        else
            in_b = list_next(&b, MAX_ITEMS, &y);
    return !(in_a && in_b);
}

/* Hashes the bytes of the rows named: list by list, row by row, the planes up to the width, then the scale of that width. */
static void digest_rows(const table *t, const list lists[3], uint8_t digest[DIGEST])
{
    size_t quarter = pad_to(t->dim, 4) / 4, half = pad_to(t->dim, 2) / 2;
    sha256 hash;
    sha256_start(&hash);
    for (size_t width = 0; width < 3; width++) {
        list walk = lists[width];
        for (uint64_t row; list_next(&walk, t->items, &row);) {
            sha256_add(&hash, t->plane2 + row * quarter, quarter);
            if (width > 0)
                sha256_add(&hash, t->plane4 + row * quarter, quarter);
            if (width > 1)
                sha256_add(&hash, t->plane8 + row * half, half);
            sha256_add(&hash, t->scales + (width * t->items + row) * 4, 4);
        }
    }
    sha256_end(&hash, digest);
}

static int check_table(const ossia_model *model, reader *body, sections *found)
{
    uint8_t digest[DIGEST];
    const uint8_t *kind = take(body, 1), *told;
    list *rows = found->rows;
    if (!kind || *kind != 1 || !find_lists(body, found->row_count, rows) || !(told = take(body, DIGEST)))
        return OSSIA_PAYLOAD_TABLE;
    if (!disjoint(rows[0], rows[1]) || !disjoint(rows[0], rows[2]) || !disjoint(rows[1], rows[2]))
        return OSSIA_PAYLOAD_TABLE;
    digest_rows(&model->table, rows, digest);
    found->has_rows = true;
    return memcmp(told, digest, DIGEST) ? OSSIA_PAYLOAD_TABLE : OSSIA_OK;
}

COLD static int check_body(const ossia_model *model, const uint8_t *data, size_t size, unsigned present, sections *found)
{
    reader body = {data + HEADER, size - HEADER - (data[5] ? SIGNATURE : 0)};
    if (present & GATES) {
        found->gates = take(&body, (model->shape.gates + 7) / 8);
        if (!found->gates || !padded_with_zeros(found->gates, model->shape.gates, 1))
            return OSSIA_PAYLOAD_GATES;
    }
    if (present & CODES) {
        found->codes = take(&body, (model->shape.channels + 3) / 4);
        if (!found->codes || !padded_with_zeros(found->codes, model->shape.channels, 2))
            return OSSIA_PAYLOAD_CODES;
    }
    int error = present & DELTA ? check_delta(model, &body, found) : OSSIA_OK;
    if (error == OSSIA_OK && present & TABLE)
        error = check_table(model, &body, found);
    return error != OSSIA_OK ? error : body.left ? OSSIA_PAYLOAD_BODY : OSSIA_OK;
}

/* ---- folding ---- */

static const uint8_t MASK[4] = {0, 0xc0, 0xf0, 0xff}, HALF[4] = {128, 32, 8, 0};

static float half_to_float(const uint8_t *at)
{
    uint32_t half = at[0] | at[1] << 8, sign = (half & 0x8000) << 16, rest = half & 0x7fff, bits = (rest << 13) + (112u << 23);
    float value;
    memcpy(&value, &bits, sizeof value);
    if (rest < 0x400) /* below the smallest normal float16: whole steps of 2^-24 */
        value = (float)rest * 0x1p-24f;
    return sign ? -value : value;
}

static size_t place_of(const slot *s, uint32_t channel, uint32_t input)
{
    return (channel / 16 * (pad_to(s->inputs, 4) / 4) + input / 4) * 64 + channel % 16 * 4 + input % 4;
}

/* One number of a delta: left . right, added rank by rank, each product and each sum rounded to float32. */
static float delta_at(const slot *s, const uint8_t *numbers, uint32_t rank, uint32_t channel, uint32_t input)
{
    if (!rank)
        return half_to_float(numbers + 2 * ((size_t)channel * s->inputs + input));
    const uint8_t *left = numbers + 2 * (size_t)channel * rank, *right = numbers + 2 * ((size_t)s->channels * rank + input);
    float total = half_to_float(left) * half_to_float(right);
    for (uint32_t r = 1; r < rank; r++) {
        float product = half_to_float(left + 2 * r) * half_to_float(right + 2 * (size_t)r * s->inputs);
        total += product;
    }
    return total;
}

/* Puts one channel of W + D on the grid again: u = q + 128 into `u`, its scales at 2, 4 and 8 bits into `scales`. */
static void requantize(const slot *s, const uint8_t *numbers, uint32_t rank, uint32_t channel, uint8_t *u, float scales[3])
{
    float w[MAX_HIDDEN], top = 0, scale = s->scales[2 * pad_to(s->channels, 16) + channel];
    for (uint32_t i = 0; i < s->inputs; i++) {
        float base = (float)(s->master[place_of(s, channel, i)] - 128) * scale;
        w[i] = base + delta_at(s, numbers, rank, channel, i);
        float size = w[i] < 0 ? -w[i] : w[i];
        top = size > top ? size : top;
    }
    scales[2] = top / 127;
    float divisor = scales[2] > 0 ? scales[2] : 1;
    int64_t qt[2] = {0}, tt[2] = {0};
    for (uint32_t i = 0; i < s->inputs; i++) {
        int q = (int)round_to_grid(w[i] / divisor);
        u[i] = (uint8_t)(q + 128);
        for (int code = 1; code <= 2; code++) {
            int t = (u[i] & MASK[code]) + HALF[code] - 128;
            qt[code - 1] += q * t, tt[code - 1] += t * t;
        }
    }
    for (int code = 1; code <= 2; code++)
        scales[code - 1] = scales[2] * ((float)qt[code - 1] / (float)tt[code - 1]);
}

typedef struct { /* a slot as its payload wants it */
    const slot *slot;
    const uint8_t *codes, *numbers; /* of its delta; NULL: none */
    uint32_t rank, channels, inputs;
    const uint16_t *channel, *input; /* which of the slot's are kept; NULL: all */
} recipe;

/* A panel of W + D, written where the folded panel will be. */
COLD static const uint8_t *add_delta(const recipe *r, uint8_t *memory, float *scale)
{
    const slot *s = r->slot;
    uint8_t u[MAX_HIDDEN], *sum = memory + s->at;
    float scales[3];
    memset(sum, 128, pad_to(s->channels, 16) * pad_to(s->inputs, 4));
    for (uint32_t channel = 0; channel < s->channels; channel++) {
        unsigned code = code_of(r->codes, s->code + channel);
        requantize(s, r->numbers, r->rank, channel, u, scales);
        scale[channel] = code ? scales[code - 1] : 0;
        for (uint32_t i = 0; i < s->inputs; i++)
            sum[place_of(s, channel, i)] = u[i];
    }
    return sum;
}

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

static void fold_slot(const recipe *r, uint8_t *memory)
{
    const slot *s = r->slot;
    size_t padded = pad_to(s->channels, 16);
    float *scale = (float *)(memory + s->at + padded * pad_to(s->inputs, 4)), *bias = scale + padded;
    memset(scale, 0, 2 * padded * sizeof(float));
    const uint8_t *master = r->numbers ? add_delta(r, memory, scale) : s->master;
    for (uint32_t i = 0; i < r->channels; i++) {
        uint32_t channel = r->channel ? r->channel[i] : i;
        unsigned code = code_of(r->codes, s->code + channel);
        float own = code ? s->scales[(code - 1) * padded + channel] : 0;
        scale[i] = r->numbers ? scale[channel] : own; /* channel is never before i */
        bias[i] = code ? s->bias[channel] : 0;
    }
    fold_panel(r, master, memory + s->at);
}

/* Lists the hidden channels of a block that have bits; NULL if all have. */
static const uint16_t *kept(const slot *expand, const uint8_t *codes, uint16_t left[MAX_HIDDEN], uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; i < expand->channels; i++)
        if (code_of(codes, expand->code + i))
            left[(*count)++] = (uint16_t)i;
    return *count < expand->channels ? left : NULL;
}

static void fold_slots(const ossia_model *model, const sections *found, bool whole, ossia_weights *weights)
{
    const uint8_t *numbers = found->delta ? found->delta + (model->slots + 7) / 8 : NULL;
    uint16_t left[MAX_HIDDEN];
    for (uint32_t i = 0; i < model->slots; i++) {
        const slot *s = &model->slot[i];
        uint32_t part = i % BLOCK_SLOTS, block = i / BLOCK_SLOTS;
        bool changed = found->delta && bit_of(found->delta, i);
        recipe r = {s, found->codes, changed ? numbers : NULL, found->rank, s->channels, s->inputs, NULL, NULL};
        if (part == EXPAND)
            r.channel = kept(s, whole ? NULL : found->codes, left, &weights->inner[block]), r.channels = weights->inner[block];
        if (part == CONTRACT)
            r.input = kept(s - 1, whole ? NULL : found->codes, left, &weights->inner[block]), r.inputs = weights->inner[block];
        fold_slot(&r, (uint8_t *)weights);
        if (changed)
            numbers += 2 * delta_numbers(s, found->rank);
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
    if (!valid_model(model) || (!payload && size) || !bytes || flags & ~(OSSIA_UNSIGNED | OSSIA_VERIFIED | OSSIA_WHOLE) || (uintptr_t)weights % OSSIA_ALIGN)
        return OSSIA_ARGUMENT;
    size_t there = *bytes;
    *bytes = model->weights_bytes;
    if (!weights || there < model->weights_bytes)
        return OSSIA_MEMORY;
    sections found = {0};
    unsigned present = 0;
    int error = payload ? check_header(model, payload, size, flags, &found, &present) : OSSIA_OK;
    if (error == OSSIA_OK && payload)
        error = check_body(model, payload, size, present, &found);
    if (error != OSSIA_OK)
        return error;
    fold_rows(model, &found, (uint8_t *)weights + model->widths_at);
    memset(weights, 0, sizeof *weights);
    weights->magic = WEIGHTS_MAGIC, weights->bytes = model->weights_bytes, weights->all_rows = !found.has_rows;
    memcpy(weights->base_id, model->base_id, ID), memcpy(weights->table_id, model->table_id, ID);
    for (uint32_t i = 0; i < model->shape.gates; i++)
        weights->gates |= (uint64_t)(found.gates ? bit_of(found.gates, i) : 1) << i;
    fold_slots(model, &found, flags & OSSIA_WHOLE, weights);
    return OSSIA_OK;
}

/* ---- reading folded weights ---- */

bool valid_weights(const ossia_model *model, const ossia_weights *weights)
{
    return weights && (uintptr_t)weights % OSSIA_ALIGN == 0 && weights->magic == WEIGHTS_MAGIC && weights->bytes == model->weights_bytes &&
           !memcmp(weights->base_id, model->base_id, ID) && !memcmp(weights->table_id, model->table_id, ID);
}

int ossia_check(const ossia_model *model, const ossia_weights *weights, size_t bytes)
{
    if (!valid_model(model) || !weights || (uintptr_t)weights % OSSIA_ALIGN)
        return OSSIA_ARGUMENT;
    if (bytes < model->weights_bytes || !valid_weights(model, weights) || weights->all_rows > 1 || weights->gates >> model->shape.gates)
        return OSSIA_WEIGHTS;
    for (uint32_t i = 0; i < model->shape.blocks; i++)
        if (weights->inner[i] > model->shape.hidden)
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
    if (index % BLOCK_SLOTS == EXPAND)
        p.channels = weights->inner[index / BLOCK_SLOTS];
    if (index % BLOCK_SLOTS == CONTRACT)
        p.inputs = weights->inner[index / BLOCK_SLOTS];
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
