/* From scores to the k best, as src/ossia/device/ranking.py: chunk by chunk into a heap; and which rows are not read in full, because
 * they can't be among them. */
#include "engine.h"

#ifdef __wasm__
enum { SIFTS = 0 }; /* there it wins nothing, and is more to fetch */
#else
enum { SIFTS = 1 };
#endif

/* ---- the k best: a heap with the worst on top ---- */

typedef struct { /* positions and scores are the caller's arrays */
    int32_t *positions;
    float *scores;
    size_t size;
} heap;

static bool worse(const heap *h, size_t a, size_t b) /* at equal scores the later place is worse */
{
    return h->scores[a] < h->scores[b] || (h->scores[a] == h->scores[b] && h->positions[a] > h->positions[b]);
}

static void swap(heap *h, size_t a, size_t b)
{
    int32_t position = h->positions[a];
    float score = h->scores[a];
    h->positions[a] = h->positions[b], h->scores[a] = h->scores[b];
    h->positions[b] = position, h->scores[b] = score;
}

static void sink(heap *h, size_t at, size_t size)
{
    for (size_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && worse(h, child + 1, child))
            child++;
        if (!worse(h, child, at))
            return;
        swap(h, at, child);
    }
}

static void offer(heap *h, size_t k, int32_t position, float score)
{
    if (h->size < k) {
        h->positions[h->size] = position, h->scores[h->size] = score;
        if (++h->size == k)
            for (size_t i = k / 2; i-- > 0;)
                sink(h, i, k);
    } else if (score > h->scores[0]) {
        h->positions[0] = position, h->scores[0] = score;
        sink(h, 0, k);
    }
}

static bool any_above(const float sixteen[16], float worst)
{
    int above = 0;
    for (int i = 0; i < 16; i++)
        above |= sixteen[i] > worst;
    return above;
}

static OUTLINED void offer_chunk(heap *h, size_t k, int32_t first, const float *scores, size_t count, bool held_only)
{
    for (size_t i = 0; i < count;) {
        if (h->size == k && count - i >= 16 && !any_above(scores + i, h->scores[0])) { /* as most are */
            i += 16;
            continue;
        }
        for (size_t end = i + 16 < count ? i + 16 : count; i < end; i++)
            if (!held_only || scores[i] > -__builtin_inff())
                offer(h, k, first + (int32_t)i, scores[i]);
    }
}

static void sort(heap *h, size_t k)
{
    if (h->size < k) /* never filled, so never made a heap */
        for (size_t i = h->size / 2; i-- > 0;)
            sink(h, i, h->size);
    for (size_t size = h->size; size > 1; size--) {
        swap(h, 0, size - 1);
        sink(h, 0, size - 1);
    }
}

/* ---- rows at 8 bits that can't be among the k best: their low bits are not read ----
 *
 *     sum(s q) = sum(s t_4) + sum(s (low - 8)),  low - 8 = -8 ... 7,  so
 *     sum(s q) <= sum(s t_4) + slack,            slack = 7 sum(s, s > 0) + 8 sum(-s, s < 0)
 *
 * From sum to score every step keeps the order (a rounding, and a product with a factor that is not negative), so the score of
 * the right side is no less than that of the left, to the bit. `match` computes it as it is, at 4 bits: the table hands it the
 * scales of 8 bits instead, and the query a sum that is lower by what -120 times it turns into the slack. For 4 bits after 2
 * the slack would be three times as large and leave out too little. */

typedef struct {
    table table;
    query query;
    bool neighbors; /* there is a kernel for rows in the table's order */
    size_t wait;    /* chunks that are scored at once, because of the last one too little was left out */
} sieve;

enum { WAIT = 8 };

static void make_sieve(const ranker *r, sieve *s)
{
    int32_t slack = 0, state;
    s->neighbors = r->run->above && r->model->shape.dim % 64 == 0;
    s->wait = 0, s->table = r->model->table, s->query = r->scratch->query;
    s->table.scales += (size_t)s->table.items * sizeof(float);
    for (uint32_t i = 0; i < s->table.dim; i++) {
        state = s->query.halves[i % 2][i / 2];
        slack += state > 0 ? 7 * state : -8 * state;
    }
    s->query.sum -= (slack + 119) / 120;
}

/* Keeps those of a chunk that may score above `worst`, in order, and writes where they were; answers how many. */
static size_t keep_open(const ranker *r, const sieve *s, float worst, int32_t *rows, uint8_t *widths, size_t count,
                        int32_t *places)
{
    float most[CHUNK];
    uint8_t coarse[CHUNK];
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        coarse[i] = widths[i] == 3 ? 2 : 0;
    r->run->match(&s->table, &s->query, rows, coarse, count, most);
    for (size_t i = 0; i < count; i++)
        if (most[i] > worst || (widths[i] && !coarse[i]) || (!widths[i] && r->tail && rows[i] != NO_ROW))
            rows[kept] = rows[i], widths[kept] = widths[i], places[kept++] = (int32_t)i;
    return kept;
}

/* The width that all rows of a stretch have, 0 where they differ. */
static uint8_t width_of_all(const ranker *r, int32_t first, size_t count)
{
    const uint8_t *widths = r->widths + first, width = widths[0];
    uint8_t differ = 0;
    if (r->all_rows)
        return 3;
    for (size_t i = 1; i < count; i++)
        differ |= widths[i] ^ width;
    return differ ? 0 : width;
}

static size_t insert_place(int32_t *places, size_t kept, int32_t place)
{
    size_t at = kept;
    while (at && places[at - 1] >= place)
        at--;
    if (at < kept && places[at] == place)
        return kept;
    memmove(places + at + 1, places + at, (kept - at) * sizeof *places);
    places[at] = place;
    return kept + 1;
}

/* The same for neighbors that are all held at 8 bits, or all at 4, where there is a kernel for it. Rows at 4 bits are compared as
 * they are, without slack; those of the history count at 8, so they stay. */
static size_t keep_neighbors(const ranker *r, const sieve *s, uint8_t width, float worst, int32_t first, int32_t *rows,
                             uint8_t *widths, size_t count, int32_t *places)
{
    const ossia_scratch *own = r->scratch;
    size_t kept = width == 3 ? r->run->above(&s->table, &s->query, first, count, worst, places)
                             : r->run->above(&r->model->table, &own->query, first, count, worst, places);
    for (uint32_t i = 0; i < own->events && width < 3; i++)
        if ((uint32_t)own->items[i] - (uint32_t)first < count)
            kept = insert_place(places, kept, own->items[i] - first);
    for (size_t i = 0; i < kept; i++) {
        rows[i] = first + places[i], widths[i] = width_of(r, rows[i]);
        rows[i] = widths[i] ? rows[i] : NO_ROW; /* all are held: it was seen */
    }
    return kept;
}

static size_t count_wide(const uint8_t *widths, size_t count)
{
    uint32_t wide = 0;
    for (size_t i = 0; i < count; i++)
        wide += widths[i] == 3;
    return wide;
}

/* Offers a chunk to a heap that is full. */
static void sift_chunk(const ranker *r, sieve *s, heap *h, size_t k, const int32_t *items, int32_t first, size_t count)
{
    int32_t rows[CHUNK], places[CHUNK];
    uint8_t widths[CHUNK];
    float scores[CHUNK];
    size_t kept = count;
    bool tries = !s->wait;
    s->wait -= !tries;
    uint8_t width = tries && !items && s->neighbors ? width_of_all(r, first, count) : 0;
    if (width > 1)
        kept = keep_neighbors(r, s, width, h->scores[0], first, rows, widths, count, places);
    else {
        pick_rows(r, items, first, count, rows, widths);
        bool worth = tries && 8 * count_wide(widths, count) > 7 * count; /* taking a mixture apart costs more than it saves */
        s->wait = tries && !worth ? WAIT : s->wait;
        tries = worth;
        if (tries)
            kept = keep_open(r, s, h->scores[0], rows, widths, count, places);
    }
    score_rows(r, rows, widths, kept, scores);
    if (!tries) {
        offer_chunk(h, k, first, scores, count, true);
        return;
    }
    for (size_t i = 0; i < kept; i++)
        offer(h, k, first + places[i], scores[i]);
    if (2 * kept > count)
        s->wait = WAIT;
}

int ossia_top(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch, const int32_t *history,
              size_t events, const int32_t *candidates, size_t count, int flags, size_t k, int32_t *positions, float *scores,
              size_t *shown)
{
    if (!valid_call(model, weights, scratch) || (!history && events) || (!candidates && count) || count > INT32_MAX ||
        flags & ~OSSIA_UNSEEN || (k && (!positions || !scores)) || !shown)
        return OSSIA_ARGUMENT;
    ranker r = make_ranker(model, weights, scratch, history, events, flags & OSSIA_UNSEEN);
    heap h = {positions, scores, 0};
    sieve few;
    float chunk[CHUNK];
    size_t all = candidates ? count : model->shape.items;
    if (SIFTS && r.known)
        make_sieve(&r, &few);
    for (size_t i = 0; i < all && k; i += CHUNK) {
        size_t some = all - i < CHUNK ? all - i : CHUNK;
        const int32_t *items = candidates ? candidates + i : NULL;
        if (SIFTS && r.known && h.size == k) {
            sift_chunk(&r, &few, &h, k, items, (int32_t)i, some);
            continue;
        }
        score_chunk(&r, items, (int32_t)i, some, chunk);
        offer_chunk(&h, k, (int32_t)i, chunk, some, !candidates);
    }
    sort(&h, k);
    *shown = h.size;
    return OSSIA_OK;
}
