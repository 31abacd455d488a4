/* What each backbone is made of, in wire order: sizes, slots, gates and norms, by the names of docs/base-format.md.
 *
 * Manifests are held to this, memory is laid out by it, and tensors are found under these names. Another backbone is a case in
 * each of these functions, and an encoder (sasrec.c, gru4rec.c, caser.c). */
#include <stddef.h>

#include "engine.h"
SMALL

static const char *const KINDS[] = {[SASREC] = "sasrec", [GRU4REC] = "gru4rec", [CASER] = "caser"};

enum { FOR_SASREC = 1 << SASREC, FOR_GRU4REC = 1 << GRU4REC, FOR_CASER = 1 << CASER, FOR_ALL = 7, OPTIONAL = 8 };

static const struct {
    const char *name;
    size_t at;
    unsigned whose;
} SIZES[] = {
    {"items", offsetof(ossia_model, shape.items), FOR_ALL},
    {"dim", offsetof(ossia_model, shape.dim), FOR_ALL},
    {"length", offsetof(ossia_model, shape.length), FOR_ALL},
    {"blocks", offsetof(ossia_model, shape.blocks), FOR_SASREC},
    {"heads", offsetof(ossia_model, shape.heads), FOR_SASREC},
    {"layers", offsetof(ossia_model, shape.blocks), FOR_GRU4REC},
    {"hidden", offsetof(ossia_model, shape.hidden), FOR_SASREC | FOR_GRU4REC},
    {"valves", offsetof(ossia_model, valves), FOR_SASREC | OPTIONAL},
    {"vertical", offsetof(ossia_model, vertical), FOR_CASER},
    {"horizontal", offsetof(ossia_model, horizontal), FOR_CASER},
};
enum { SIZES_COUNT = sizeof SIZES / sizeof *SIZES };

bool kind_named(bytes_view name, enum backbone *kind)
{
    for (*kind = SASREC; *kind <= CASER; ++*kind)
        if (is_text(name, KINDS[*kind]))
            return true;
    return false;
}

uint32_t *size_named(ossia_model *model, bytes_view name, unsigned *seen)
{
    for (unsigned i = 0; i < SIZES_COUNT; i++)
        if (SIZES[i].whose >> model->kind & 1 && is_text(name, SIZES[i].name) && !(*seen >> i & 1)) {
            *seen |= 1u << i;
            return (uint32_t *)((char *)model + SIZES[i].at);
        }
    return NULL;
}

bool sizes_complete(const ossia_model *model, unsigned seen)
{
    for (unsigned i = 0; i < SIZES_COUNT; i++)
        if (!(SIZES[i].whose & OPTIONAL) && (SIZES[i].whose >> model->kind & 1) != (seen >> i & 1))
            return false;
    return true;
}

/* What `combine` of a Caser reads: every feature's vertical answers, then every height's horizontal ones. */
static uint64_t answers(const ossia_model *model)
{
    return (uint64_t)model->vertical * model->shape.dim + (uint64_t)model->horizontal * model->shape.length;
}

bool supported(const ossia_model *model)
{
    const ossia_shape *shape = &model->shape;
    if (shape->items > MAX_ITEMS || shape->dim > MAX_DIM || shape->length > MAX_LENGTH)
        return false;
    if (model->kind == CASER)
        return shape->length < MAX_GATES && shape->length * shape->dim <= MAX_INPUTS && answers(model) <= MAX_INPUTS;
    if (model->kind == SASREC && (shape->heads > MAX_HEADS || shape->dim % shape->heads || model->valves > 1))
        return false;
    return shape->blocks <= MAX_BLOCKS && shape->hidden <= MAX_HIDDEN;
}

void count_parts(ossia_model *model)
{
    uint32_t blocks = model->shape.blocks, length = model->shape.length;
    switch (model->kind) {
    case SASREC: model->slots = block_slots(model) * blocks, model->shape.gates = 2 * blocks, model->norms = 2 * blocks + 1; break;
    case GRU4REC: model->slots = LAYER_SLOTS * blocks, model->shape.gates = blocks, model->norms = blocks + 1; break;
    case CASER: model->slots = length + 2, model->shape.gates = length + 1, model->norms = 1; break;
    }
}

/* Writes "BEFORE.NUMBER" and what follows. */
static void write_name(char name[NAME], const char *before, uint32_t number, const char *after)
{
    char *at = name + strlen(before);
    memcpy(name, before, strlen(before));
    *at++ = '.';
    if (number >= 10)
        *at++ = (char)('0' + number / 10); /* no number is above 99 */
    *at++ = (char)('0' + number % 10);
    memcpy(at, after, strlen(after) + 1);
}

void name_gate(const ossia_model *model, uint32_t index, char name[NAME])
{
    if (model->kind == SASREC)
        write_name(name, "blocks", index / 2, index % 2 ? ".feed_forward" : ".attention");
    else if (model->kind == GRU4REC)
        write_name(name, "layers", index, "");
    else if (index)
        write_name(name, "horizontal", index, "");
    else
        memcpy(name, "vertical", sizeof "vertical");
}

/* A norm stands before each branch of a SASRec and each layer of a GRU4Rec, and one at the end. */
void name_norm(const ossia_model *model, uint32_t index, char name[NAME])
{
    const char *after = model->kind == SASREC ? "_norm" : ".norm";
    if (index + 1 == model->norms) {
        memcpy(name, "norm", sizeof "norm");
        return;
    }
    name_gate(model, index, name);
    memcpy(name + strlen(name), after, strlen(after) + 1);
}

static void sasrec_part(const ossia_model *model, uint32_t index, part *told)
{
    static const char *const parts[] = {".query",  ".key", ".value",              ".attention_valve", ".output",
                                        ".expand", ".up",  ".feed_forward_valve", ".contract"};
    uint32_t which = part_of(model, index), block = index / block_slots(model), dim = model->shape.dim, hidden = model->shape.hidden;
    write_name(told->name, "blocks", block, parts[which]);
    name_gate(model, 2 * block + (which >= EXPAND), told->gate);
    told->channels = which == EXPAND || which == UP ? hidden : dim, told->inputs = which == CONTRACT ? hidden : dim;
}

static void gru4rec_part(const ossia_model *model, uint32_t index, part *told)
{
    static const char *const parts[] = {".input", ".hidden", ".output"};
    uint32_t which = index % LAYER_SLOTS, layer = index / LAYER_SLOTS, dim = model->shape.dim, hidden = model->shape.hidden;
    write_name(told->name, "layers", layer, parts[which]);
    name_gate(model, layer, told->gate);
    told->channels = which == ADDS ? dim : 3 * hidden, told->inputs = which == READS ? dim : hidden;
}

static void caser_part(const ossia_model *model, uint32_t index, part *told)
{
    uint32_t dim = model->shape.dim, length = model->shape.length;
    if (index > length) {
        memcpy(told->name, "combine", sizeof "combine");
        told->gate[0] = 0, told->channels = dim, told->inputs = (uint32_t)answers(model);
        return;
    }
    name_gate(model, index, told->name), name_gate(model, index, told->gate);
    told->channels = index ? model->horizontal : model->vertical, told->inputs = index ? index * dim : length;
}

void describe_part(const ossia_model *model, uint32_t index, part *told)
{
    if (model->kind == SASREC)
        sasrec_part(model, index, told);
    else if (model->kind == GRU4REC)
        gru4rec_part(model, index, told);
    else
        caser_part(model, index, told);
}
