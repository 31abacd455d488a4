/* Checking a payload, every byte of it, before a byte is folded (docs/payload-format.md). Whatever is wrong is answered with
 * the field that Python's reader would name. Nothing is copied: what is found points into the payload. */
#include "engine.h"
SMALL

enum { HEADER = 80, SIGNATURE = 64, ID = 16, DIGEST = 32, DENSE = 1, LOW_RANK = 2, COORDINATES = 3 };
enum { GATES = 1, CODES = 2, DELTA = 4, TABLE = 8, ALL = 15 }; /* sections present */

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

static int check_header(const ossia_model *model, const uint8_t *data, size_t size, int flags, sections *found)
{
    if (size < HEADER)
        return OSSIA_PAYLOAD_SIZE;
    unsigned sign = data[5];
    if (memcmp(data, "OSSA\1", 5) || sign > 1 || data[6] > ALL || data[7])
        return OSSIA_PAYLOAD_HEADER;
    if ((uint64_t)size != HEADER + (uint64_t)load_u32(data + 8) + (sign ? SIGNATURE : 0))
        return OSSIA_PAYLOAD_SIZE;
    if (load_u32(data + 72) < load_u32(data + 68))
        return OSSIA_PAYLOAD_EXPIRY;
    if (memcmp(data + 12, model->base_id, ID))
        return OSSIA_PAYLOAD_BASE;
    found->row_count = memcmp(data + 28, model->table_id, ID) ? 0 : model->shape.items;
    for (uint32_t i = 0; i < model->extends; i++)
        if (!memcmp(data + 28, model->older[i].id, ID) && !found->row_count)
            found->row_count = model->older[i].rows;
    if (!found->row_count)
        return OSSIA_PAYLOAD_TABLE_ID;
    return flags & (sign ? OSSIA_VERIFIED : OSSIA_UNSIGNED) ? OSSIA_OK : OSSIA_PAYLOAD_SIGNATURE;
}

uint64_t delta_numbers(const slot *s, const sections *found)
{
    if (found->coordinates)
        return found->rank;
    return found->rank ? (uint64_t)found->rank * (s->channels + s->inputs) : (uint64_t)s->channels * s->inputs;
}

bool are_numbers(const uint8_t *halves, uint64_t count)
{
    bool good = halves;
    for (uint64_t i = 0; good && i < count; i++)
        good = (halves[2 * i + 1] & 0x7c) != 0x7c;
    return good;
}

/* Kind and rank, as they go together. */
static bool read_form(const ossia_model *model, const uint8_t *start, sections *found)
{
    found->rank = start[1], found->coordinates = start[0] == COORDINATES;
    if (found->coordinates)
        return start[1] && start[1] == model->basis;
    return start[1] ? start[0] == LOW_RANK : start[0] == DENSE;
}

static int check_delta(const ossia_model *model, reader *body, sections *found)
{
    const uint8_t *start = take(body, 2), *there = take(body, (model->slots + 7) / 8);
    unsigned any = 0;
    if (!start || !there || !padded_with_zeros(there, model->slots, 1))
        return OSSIA_PAYLOAD_DELTA;
    if (!read_form(model, start, found))
        return OSSIA_PAYLOAD_DELTA;
    for (uint32_t i = 0; i < model->slots; i++) {
        if (!bit_of(there, i))
            continue;
        uint64_t count = delta_numbers(&model->slot[i], found);
        if (!are_numbers(take(body, 2 * count), count))
            return OSSIA_PAYLOAD_DELTA;
        any = 1;
    }
    found->delta = there;
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

bool list_next(list *rows, uint32_t below, uint64_t *row)
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

static int check_body(const ossia_model *model, const uint8_t *data, size_t size, sections *found)
{
    reader body = {data + HEADER, size - HEADER - (data[5] ? SIGNATURE : 0)};
    unsigned present = data[6];
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

int read_payload(const ossia_model *model, const uint8_t *data, size_t size, int flags, sections *found)
{
    int error = check_header(model, data, size, flags, found);
    return error == OSSIA_OK ? check_body(model, data, size, found) : error;
}
