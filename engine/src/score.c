/* From a user state to scores, as src/ossia/device/runtimes.py:
 *
 *     score_i = sum(state . row_i) * (s_state * s_i)        integers, then one float32 factor
 *
 * Rows are read where they lie, by bit plane: a row at 4 bits is two planes, at 2 bits one. A row of the user's own history
 * counts at 8 bits, whatever the payload left of it. Without a single known event everything scores minus its popularity
 * rank, held or not. A row that is not held scores by the table's tail; what can't be scored is -infinity. */
#include "engine.h"

float round_values(const float *x, uint32_t count, int8_t *q)
{
    float top = 0;
    for (uint32_t i = 0; i < count; i++) {
        float size = x[i] < 0 ? -x[i] : x[i];
        top = size > top || size != size ? size : top; /* what is no number stays to the end */
    }
    float scale = top / 127, divisor = scale > 0 ? scale : 1;
    for (uint32_t i = 0; i < count; i++)
        q[i] = (int8_t)round_to_grid(x[i] / divisor);
    return scale;
}

static void make_query(const float *state, uint32_t dim, query *q)
{
    int8_t values[MAX_DIM];
    memset(q, 0, sizeof *q);
    q->scale = round_values(state, dim, values);
    for (uint32_t i = 0; i < dim; i++) {
        q->pairs[i % 4][i / 4] = values[i], q->halves[i % 2][i / 2] = values[i];
        q->sum += values[i];
    }
}

static bool in_history(const ossia_scratch *s, int32_t item)
{
    if (!(s->seen[item / 64 % 64] >> item % 64 & 1))
        return false;
    for (uint32_t i = 0; i < s->events; i++)
        if (s->items[i] == item)
            return true;
    return false;
}

ranker make_ranker(const ossia_model *model, const ossia_weights *weights, ossia_scratch *s, const int32_t *history,
                   size_t events, bool unseen)
{
    ranker r = {
        model, s, kernels_now(), widths_of(model, weights), encode(model, weights, s, history, events), weights->all_rows,
        unseen, NULL};
    if (!r.known)
        return r;
    make_query(s->state, model->shape.dim, &s->query);
    if (model->tail.parts && !r.all_rows) {
        r.tail = &model->tail;
        prepare_tail(r.tail, model->shape.dim, s->state, s->turned, s->products);
    }
    return r;
}

uint8_t width_of(const ranker *r, int32_t item)
{
    bool own = r->known && (!r->all_rows || r->unseen) && in_history(r->scratch, item);
    return own ? (r->unseen ? 0 : 3) : r->widths[item];
}

/* Whether a row without a width has none because it was seen: then the tail has no word either. */
static bool left_out(const ranker *r, int32_t item, uint8_t width) { return !width && r->unseen && in_history(r->scratch, item); }

static void pick_listed(const ranker *r, const int32_t *items, size_t count, int32_t *rows, uint8_t *widths)
{
    for (size_t i = 0; i < count; i++) {
        bool known = items[i] >= 0 && (uint32_t)items[i] < r->model->shape.items;
        widths[i] = known ? width_of(r, items[i]) : 0;
        rows[i] = known && !left_out(r, items[i], widths[i]) ? items[i] : NO_ROW;
    }
}

static void pick_range(const ranker *r, int32_t first, size_t count, int32_t *rows, uint8_t *widths)
{
    for (size_t i = 0; i < count; i++)
        rows[i] = first + (int32_t)i;
    memcpy(widths, r->widths + first, count);
    if (r->all_rows && !r->unseen)
        return;
    for (uint32_t i = 0; i < r->scratch->events; i++) {
        uint32_t at = (uint32_t)r->scratch->items[i] - (uint32_t)first;
        if (at < count) {
            widths[at] = r->unseen ? 0 : 3;
            rows[at] = r->unseen ? NO_ROW : rows[at];
        }
    }
}

OUTLINED void pick_rows(const ranker *r, const int32_t *items, int32_t first, size_t count, int32_t *rows, uint8_t *widths)
{
    if (items)
        pick_listed(r, items, count, rows, widths);
    else
        pick_range(r, first, count, rows, widths);
}

OUTLINED void score_rows(const ranker *r, const int32_t *rows, const uint8_t *widths, size_t count, float *scores)
{
    r->run->match(&r->model->table, &r->scratch->query, rows, widths, count, scores);
    for (size_t i = 0; i < count; i++)
        if (!widths[i] && r->tail && rows[i] != NO_ROW)
            scores[i] = tail_score(r->tail, r->scratch->products, rows[i]);
        else if (!(scores[i] - scores[i] == 0)) /* infinite, or no number */
            scores[i] = -__builtin_inff();
}

COLD static OUTLINED void score_by_popularity(const ranker *r, const int32_t *items, int32_t first, size_t count, float *scores)
{
    for (size_t i = 0; i < count; i++) {
        int32_t item = items ? items[i] : first + (int32_t)i;
        bool known = item >= 0 && (uint32_t)item < r->model->shape.items;
        scores[i] = known ? -(float)r->model->popularity_rank[item] : -__builtin_inff();
    }
}

OUTLINED void score_chunk(const ranker *r, const int32_t *items, int32_t first, size_t count, float *scores)
{
    int32_t rows[CHUNK];
    uint8_t widths[CHUNK];
    if (!r->known) {
        score_by_popularity(r, items, first, count, scores);
        return;
    }
    pick_rows(r, items, first, count, rows, widths);
    score_rows(r, rows, widths, count, scores);
}

static void score_vectors(const ossia_scratch *s, uint32_t dim, const float *vectors, size_t count, float *scores)
{
    int8_t values[MAX_DIM], state[MAX_DIM];
    for (uint32_t i = 0; i < dim; i++)
        state[i] = s->query.halves[i % 2][i / 2];
    for (size_t row = 0; row < count; row++) {
        float scale = round_values(vectors + row * dim, dim, values);
        int32_t sum = 0;
        for (uint32_t i = 0; i < dim; i++)
            sum += values[i] * state[i];
        float score = (float)sum * (s->query.scale * scale);
        scores[row] = score - score == 0 ? score : -__builtin_inff();
    }
}

int ossia_score(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch, const int32_t *history,
                size_t events, const int32_t *candidates, size_t count, const float *vectors, float *scores)
{
    if (!valid_call(model, weights, scratch) || (!history && events) || (count && (!candidates || !scores)))
        return OSSIA_ARGUMENT;
    ranker r = make_ranker(model, weights, scratch, history, events, false);
    if (vectors && r.known) {
        score_vectors(scratch, model->shape.dim, vectors, count, scores);
        return OSSIA_OK;
    }
    for (size_t i = 0; i < count; i += CHUNK)
        score_chunk(&r, candidates + i, 0, count - i < CHUNK ? count - i : CHUNK, scores + i);
    return OSSIA_OK;
}
