/* The coarse tail: what the rows score that a device does not hold, as src/ossia/adaptation/tail.py:
 *
 *     t = s . rotation, in parts;  score of a row = sum over parts of  t_part . codewords[part][the row's code]
 *
 * The products of a state with all codewords are made once a call, and a row adds up one of each part. */
#include "engine.h"

COLD static bool copy_halves(const uint8_t *from, size_t count, float *to)
{
    bool good = are_numbers(from, count);
    for (size_t i = 0; good && i < count; i++)
        to[i] = half_to_float(from + 2 * i);
    return good;
}

COLD bool read_tail(ossia_model *model, bytes_view file)
{
    tail *t = &model->tail;
    uint32_t dim = model->shape.dim, items = model->shape.items, words = t->parts * t->words;
    t->codes = find_tensor(file, "codes", "U8", items, t->parts);
    if (!t->codes || !copy_halves(find_tensor(file, "rotation", "F16", dim, dim), (size_t)dim * dim, t->rotation) ||
        !copy_halves(find_tensor(file, "codewords", "F16", words, dim / t->parts), (size_t)t->words * dim, t->codewords))
        return false;
    uint8_t most = 0;
    for (size_t i = 0; i < (size_t)items * t->parts; i++)
        most = t->codes[i] > most ? t->codes[i] : most;
    return most < t->words;
}

void prepare_tail(const tail *t, uint32_t dim, const float *state, float *turned, float *products)
{
    uint32_t width = dim / t->parts;
    memset(turned, 0, dim * sizeof *turned);
    for (uint32_t i = 0; i < dim; i++)
        for (uint32_t j = 0; j < dim; j++)
            turned[j] += state[i] * t->rotation[i * dim + j];
    for (uint32_t word = 0; word < t->parts * t->words; word++) {
        const float *at = t->codewords + (size_t)word * width, *part = turned + word / t->words * width;
        float sum = 0;
        for (uint32_t i = 0; i < width; i++)
            sum += part[i] * at[i];
        products[word] = sum;
    }
}

float tail_score(const tail *t, const float *products, int32_t row)
{
    const uint8_t *codes = t->codes + (size_t)row * t->parts;
    float sum = 0;
    for (uint32_t part = 0; part < t->parts; part++)
        sum += products[part * t->words + codes[part]];
    return sum - sum == 0 ? sum : -__builtin_inff();
}
