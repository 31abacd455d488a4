/* Caser, as src/ossia/device/caser.py:
 *
 *     X          = the rows of E of the newest `length` events, oldest first; zeros above where the history is shorter
 *     vertical   = vertical(X^T), row by row: the answers of all filters for feature 0, then for feature 1 ...
 *     height k   = max over t of relu(horizontal.k([X_t ... X_{t+k-1}]))        k = 1 ... length; windows of zeros count
 *     state      = norm(X_newest + combine([vertical, height 1, ..., height length]))
 *
 * A gate that is 0 leaves zeros in the place of its branch's answers. Rows of X lie one behind the other without padding, so
 * that a window of k events is k * dim numbers in a row. */
#include "engine.h"

void place_caser(const ossia_model *model, ossia_scratch *s, void *memory, size_t *at)
{
    const ossia_shape *shape = &model->shape;
    size_t most = pad_to(model->horizontal > model->vertical ? model->horizontal : model->vertical, 16);
    size_t combined = pad_to(model->slot[model->slots - 1].inputs, 16), window = pad_to(shape->length * shape->dim, 16);
    size_t widest = window > combined ? window : combined;
    s->h = place(memory, at, (shape->length * shape->dim + 16) * sizeof(float)); /* embedding pads each row, also the last */
    s->inner = place(memory, at, TILE * window * sizeof(float));
    s->mixed = place(memory, at, TILE * most * sizeof(float));
    s->said = place(memory, at, combined * sizeof(float));
    place_acts(&s->acts, memory, at, TILE, TILE * window > widest ? TILE * window : widest);
}

/* Answers of a layer to `rows` rows of s->inner, in s->mixed. */
static void ask(const kernels *run, ossia_scratch *s, const panel *p, uint32_t rows)
{
    s->acts.inputs = p->inputs, s->acts.stride = (uint32_t)pad_to(p->inputs, 16);
    run->round(s->inner, rows, s->acts.stride, false, &s->acts);
    run->linear(p, &s->acts, rows, false, s->mixed, (uint32_t)pad_to(p->channels, 16));
}

static void go_down(const kernels *run, ossia_scratch *s, const panel *p, uint32_t dim, float *said)
{
    uint32_t length = p->inputs, stride = (uint32_t)pad_to(length, 16), answers = (uint32_t)pad_to(p->channels, 16);
    for (uint32_t first = 0; first < dim; first += TILE) {
        uint32_t count = dim - first < TILE ? dim - first : TILE;
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t event = 0; event < stride; event++)
                s->inner[i * stride + event] = event < length ? s->h[event * dim + first + i] : 0;
        ask(run, s, p, count);
        for (uint32_t i = 0; i < count; i++, said += p->channels)
            memcpy(said, s->mixed + i * answers, p->channels * sizeof(float));
    }
}

static void slide(const kernels *run, ossia_scratch *s, const panel *p, uint32_t dim, uint32_t windows, float *said)
{
    uint32_t stride = (uint32_t)pad_to(p->inputs, 16), answers = (uint32_t)pad_to(p->channels, 16);
    for (uint32_t first = 0; first < windows; first += TILE) {
        uint32_t count = windows - first < TILE ? windows - first : TILE;
        for (uint32_t i = 0; i < count; i++) {
            memcpy(s->inner + i * stride, s->h + (first + i) * dim, p->inputs * sizeof(float));
            memset(s->inner + i * stride + p->inputs, 0, (stride - p->inputs) * sizeof(float));
        }
        ask(run, s, p, count);
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t c = 0; c < p->channels; c++) {
                float answer = s->mixed[i * answers + c];
                said[c] = answer > said[c] ? answer : said[c]; /* `said` begins at 0: that is the relu */
            }
    }
}

void caser(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s)
{
    uint32_t dim = model->shape.dim, length = model->shape.length, older = length - s->events;
    panel combine = panel_of(model, weights, length + 1);
    float *said = s->said;
    memset(said, 0, pad_to(combine.inputs, 16) * sizeof(float));
    memset(s->h, 0, older * dim * sizeof(float));
    for (uint32_t i = 0; i < s->events; i++)
        run->embed(&model->table, (uint32_t)s->items[i], model->positions, s->h + (older + i) * dim);
    for (uint32_t branch = 0; branch <= length; branch++) {
        panel p = panel_of(model, weights, branch);
        if (runs(weights, branch) && branch)
            slide(run, s, &p, dim, length + 1 - branch, said);
        else if (runs(weights, branch))
            go_down(run, s, &p, dim, said);
        said += branch ? p.channels : dim * p.channels;
    }
    float *newest = s->h + (length - 1) * dim; /* padded with zeros: it was the last to be embedded */
    s->acts.inputs = combine.inputs, s->acts.stride = (uint32_t)pad_to(combine.inputs, 16);
    run->round(s->said, 1, s->acts.stride, false, &s->acts);
    run->linear(&combine, &s->acts, 1, true, newest, (uint32_t)pad_to(dim, 16));
    run->norm(&model->norm[0], model->mask, newest, 1, dim, s->state);
}
