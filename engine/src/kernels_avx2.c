/* AVX2 with FMA.
 *
 * There is no multiply of bytes here that can't overflow: vpmaddubsw adds two products of an unsigned and a signed byte into 16
 * bits, and 2 * 255 * 127 does not fit. So activations are kept as 16 bits and weights are widened as they are loaded; vpmaddwd
 * then adds two exact products into 32 bits, and one widening serves all the rows of a tile. Rows of the table are another
 * matter: their planes hold 4 bits at most, 2 * 15 * 127 fits, and two such sums still fit. */
#include "engine.h"

#if defined __x86_64__ && defined __GNUC__
#include <immintrin.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define LANES 8
#define ROWS 6
#define FMA(a, b, c) (vf) _mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#define LARGER(a, b) (vf) _mm256_max_ps((__m256)(a), (__m256)(b))
#define SMALLER(a, b) (vf) _mm256_min_ps((__m256)(a), (__m256)(b))
#define ALWAYS static inline __attribute__((always_inline))
typedef int16_t act;
typedef int32_t sums8 __attribute__((vector_size(32)));

ALWAYS __m256i wide(const int8_t *at) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)at)); }

ALWAYS __m256i four(const act *x) /* four activations, four times */
{
    int64_t bits;
    memcpy(&bits, x, 8);
    return _mm256_set1_epi64x(bits);
}

/* Eight channels at a time: each of two vectors holds two partial sums of four channels. */
ALWAYS void tile(const int8_t *w, uint32_t groups, const act *x, uint32_t stride, const int rows, const int32_t *x_sums,
                 sums8 sums[][2])
{
    (void)x_sums;
    for (int half = 0; half < 2; half++) {
        __m256i sum[ROWS][2];
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        const int8_t *at = w + 32 * half;
        for (uint32_t g = 0; g < groups; g++, at += 64) {
            __m256i low = wide(at), high = wide(at + 16);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                __m256i some = four(x + (uint32_t)r * stride + 4 * g);
                sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(low, some));
                sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(high, some));
                /* or gcc loads all rows first and spills */
                __asm__ volatile("" : "+x"(sum[r][0]), "+x"(sum[r][1]) : : "memory");
            }
        }
        for (int r = 0; r < rows; r++) /* adds neighbors, then puts the quarters in order */
            sums[r][half] = (sums8)_mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[r][0], sum[r][1]), 0xd8);
    }
}

/* Eight rows of eight floats to eight columns. */
ALWAYS bool turn8(const float *from, uint32_t stride, float *to, uint32_t padded)
{
    __m256 row[8], pair[8], quad[8];
    for (uint32_t i = 0; i < 8; i++)
        row[i] = _mm256_loadu_ps(from + i * stride);
    for (int i = 0; i < 8; i += 2)
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]), pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            quad[i + 2 * j] = _mm256_shuffle_ps(pair[i + j], pair[i + 2 + j], 0x44);
            quad[i + 2 * j + 1] = _mm256_shuffle_ps(pair[i + j], pair[i + 2 + j], 0xee);
        }
    for (uint32_t i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * padded, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * padded, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31));
    }
    return true;
}
#define TURN turn8
#define ABOVE above

#include "kernels.inc"
#include "rows.inc"

typedef struct { /* 64 values of a state, in the order in which a row's planes unfold */
    __m256i first, second, even, odd; /* values 4i and 4i + 1; 4i + 2 and 4i + 3; 2i; 2i + 1 */
} share64;

ALWAYS __m256i both(const int8_t *low, const int8_t *high)
{
    return _mm256_loadu2_m128i((const __m128i *)high, (const __m128i *)low);
}

ALWAYS share64 share_of(const query *q, size_t at)
{
    return (share64){both(q->pairs[0] + at / 4, q->pairs[1] + at / 4), both(q->pairs[2] + at / 4, q->pairs[3] + at / 4),
                     _mm256_loadu_si256((const __m256i *)(q->halves[0] + at / 2)),
                     _mm256_loadu_si256((const __m256i *)(q->halves[1] + at / 2))};
}

/* Sums of 64 inputs, in eight parts: 16 * (4 high + middle) + low. The planes' two-bit values are joined to four bits where
 * they lie, so that a byte holds values 4i and 4i + 2, and another one 4i + 1 and 4i + 3. */
ALWAYS __m256i dot64(const share64 *q, const uint8_t *plane2, const uint8_t *plane4, const uint8_t *plane8, int width)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m128i even = _mm_set1_epi8(0x33), odd = _mm_set1_epi8((char)0xcc);
    __m128i high = _mm_loadu_si128((const __m128i *)plane2), zero = _mm_setzero_si128();
    __m128i middle = width > 1 ? _mm_loadu_si128((const __m128i *)plane4) : zero;
    __m128i low_half = _mm_or_si128(_mm_slli_epi16(_mm_and_si128(high, even), 2), _mm_and_si128(middle, even));
    __m128i high_half = _mm_or_si128(_mm_and_si128(high, odd), _mm_srli_epi16(_mm_and_si128(middle, odd), 2));
    __m256i halves = _mm256_set_m128i(high_half, low_half);
    __m256i one = _mm256_maddubs_epi16(_mm256_and_si256(halves, nibble), q->first);
    __m256i two = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(halves, 4), nibble), q->second);
    __m256i sum = _mm256_madd_epi16(_mm256_add_epi16(one, two), _mm256_set1_epi16(16));
    if (width < 3)
        return sum;
    __m256i low = _mm256_loadu_si256((const __m256i *)plane8);
    one = _mm256_maddubs_epi16(_mm256_and_si256(low, nibble), q->even);
    two = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(low, 4), nibble), q->odd);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(one, two), _mm256_set1_epi16(1)));
}

ALWAYS __m256i dot_row(const table *t, const share64 *shares, const int chunks, size_t row, int width)
{
    const uint8_t *plane2 = t->plane2 + row * t->dim / 4, *plane4 = t->plane4 + row * t->dim / 4,
                  *plane8 = t->plane8 + row * t->dim / 2;
    __m256i sum = dot64(shares, plane2, plane4, plane8, width);
    for (int c = 1; c < chunks; c++)
        sum = _mm256_add_epi32(sum, dot64(shares + c, plane2 + 16 * c, plane4 + 16 * c, plane8 + 32 * c, width));
    return sum;
}

/* Eight vectors of eight parts become eight sums, and those the scores of eight rows of one width. */
ALWAYS void finish8(const query *q, const __m256i part[8], const float scale[8], int width, float *scores)
{
    static const int32_t middle_of_cell[4] = {0, 32 - 128, 8 - 128, -128};
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(part[0], part[1]), _mm256_hadd_epi32(part[2], part[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(part[4], part[5]), _mm256_hadd_epi32(part[6], part[7]));
    __m256i sum = _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
    sum = _mm256_add_epi32(sum, _mm256_set1_epi32(middle_of_cell[width] * q->sum));
    __m256 factor = _mm256_mul_ps(_mm256_set1_ps(q->scale), _mm256_loadu_ps(scale));
    _mm256_storeu_ps(scores, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), factor));
}

ALWAYS void match8(const table *t, const query *q, const share64 *shares, const int chunks, const int32_t *rows,
                   const int width, float *scores)
{
    __m256i part[8];
    float scale[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        part[i] = dot_row(t, shares, chunks, (size_t)rows[i], width);
        scale[i] = scale_of_row(t, rows[i], (uint8_t)width);
    }
    finish8(q, part, scale, width, scores);
}

ALWAYS void match_width(const table *t, const query *q, const share64 *shares, const int chunks, const int32_t *rows, int width,
                        float *scores)
{
    if (width == 3)
        match8(t, q, shares, chunks, rows, 3, scores);
    else if (width == 2)
        match8(t, q, shares, chunks, rows, 2, scores);
    else
        match8(t, q, shares, chunks, rows, 1, scores);
}

/* A state of 64 or of 128 values stays in registers, with code for each width; a longer one does not, and has one loop. */
typedef void match_rows(const table *t, const query *q, const share64 *shares, const int32_t *rows, int width, float *scores);

static __attribute__((noinline)) void match_64(const table *t, const query *q, const share64 *shares, const int32_t *rows,
                                               int width, float *scores)
{
    match_width(t, q, shares, 1, rows, width, scores);
}

static __attribute__((noinline)) void match_128(const table *t, const query *q, const share64 *shares, const int32_t *rows,
                                                int width, float *scores)
{
    match_width(t, q, shares, 2, rows, width, scores);
}

static __attribute__((noinline)) void match_many(const table *t, const query *q, const share64 *shares, const int32_t *rows,
                                                 int width, float *scores)
{
    __m256i part[8];
    float scale[8];
#pragma GCC unroll 1
    for (int i = 0; i < 8; i++) {
        part[i] = dot_row(t, shares, (int)(t->dim / 64), (size_t)rows[i], width);
        scale[i] = scale_of_row(t, rows[i], (uint8_t)width);
    }
    finish8(q, part, scale, width, scores);
}

typedef struct { /* rows of one width that wait until they are eight */
    int32_t rows[8];
    uint32_t places[8], count;
} queue;

static void match_queue(const table *t, const query *q, const share64 *shares, match_rows *match_eight, queue *waiting,
                        int width, float *scores)
{
    float eight[8];
    for (uint32_t i = waiting->count; i < 8; i++)
        waiting->rows[i] = waiting->rows[0];
    match_eight(t, q, shares, waiting->rows, width, eight);
    for (uint32_t i = 0; i < waiting->count; i++)
        scores[waiting->places[i]] = eight[i];
    waiting->count = 0;
}

static void match(const table *t, const query *q, const int32_t *rows, const uint8_t *widths, size_t count, float *scores)
{
    share64 shares[MAX_DIM / 64];
    queue waiting[4];
    match_rows *match_eight = t->dim == 64 ? match_64 : t->dim == 128 ? match_128 : match_many;
    if (t->dim % 64) {
        for (size_t i = 0; i < count; i++)
            scores[i] = score_row(t, q, rows[i], widths[i]);
        return;
    }
    for (size_t c = 0; c < t->dim / 64; c++)
        shares[c] = share_of(q, 64 * c);
    for (int width = 0; width < 4; width++)
        waiting[width].count = 0;
    for (size_t i = 0; i < count;) {
        uint64_t eight = 0;
        uint8_t width = widths[i];
        if (width && count - i >= 8)
            memcpy(&eight, widths + i, 8);
        if (width && eight == 0x0101010101010101u * width) {
            match_eight(t, q, shares, rows + i, width, scores + i);
            i += 8;
            continue;
        }
        queue *mine = &waiting[width];
        mine->rows[mine->count] = rows[i], mine->places[mine->count++] = (uint32_t)i;
        scores[i++] = -__builtin_inff();
        if (!width)
            mine->count = 0;
        else if (mine->count == 8)
            match_queue(t, q, shares, match_eight, mine, width, scores);
    }
    for (int width = 1; width < 4; width++)
        if (waiting[width].count)
            match_queue(t, q, shares, match_eight, &waiting[width], width, scores);
}

/* ---- neighbors at 4 bits, two to a vector: what finds out which rows are worth reading in full ---- */

typedef struct { /* 64 values of a state, twice; field f holds values 4i + f */
    __m256i field[4];
} twice64;

ALWAYS __m256i two_rows(const uint8_t *at, size_t stride) /* 64 values of each */
{
    return stride == 16 ? _mm256_loadu_si256((const __m256i *)at) : both((const int8_t *)at, (const int8_t *)at + stride);
}

/* Sums of 64 inputs of two rows, in four parts each: of 16 * (4 high + middle), joined as in dot64. */
ALWAYS __m256i coarse64(const twice64 *q, __m256i high, __m256i middle)
{
    const __m256i nibble = _mm256_set1_epi8(15), even = _mm256_set1_epi8(0x33);
    __m256i low_half = _mm256_or_si256(_mm256_slli_epi16(_mm256_and_si256(high, even), 2), _mm256_and_si256(middle, even));
    __m256i high_half = _mm256_or_si256(_mm256_andnot_si256(even, high), _mm256_and_si256(_mm256_srli_epi16(middle, 2), even));
    __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(low_half, nibble), q->field[0]),
                                   _mm256_maddubs_epi16(_mm256_and_si256(high_half, nibble), q->field[1]));
    __m256i rest = _mm256_add_epi16(
        _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(low_half, 4), nibble), q->field[2]),
        _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(high_half, 4), nibble), q->field[3]));
    return _mm256_madd_epi16(_mm256_add_epi16(sum, rest), _mm256_set1_epi16(16)); /* at most 8 * 15 * 127 fit 16 bits */
}

/* A bit for each of eight rows, in the order 0 2 4 6 1 3 5 7 that the sums come in: whether it scores above `worst`. */
ALWAYS uint32_t above8(const twice64 *state, size_t chunks, const uint8_t *plane2, const uint8_t *plane4, const uint8_t *scale,
                       __m256i middle_of_cell, __m256 q_scale, __m256 worst)
{
    __m256i part[4];
    size_t stride = 16 * chunks;
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++, plane2 += 2 * stride, plane4 += 2 * stride) {
        part[i] = _mm256_setzero_si256();
        for (size_t c = 0; c < chunks; c++)
            part[i] = _mm256_add_epi32(
                part[i], coarse64(state + c, two_rows(plane2 + 16 * c, stride), two_rows(plane4 + 16 * c, stride)));
    }
    __m256i sum = _mm256_hadd_epi32(_mm256_hadd_epi32(part[0], part[1]), _mm256_hadd_epi32(part[2], part[3]));
    sum = _mm256_add_epi32(sum, middle_of_cell);
    __m256 scales = _mm256_loadu_ps((const float *)(const void *)scale);
    __m256 factor = _mm256_mul_ps(q_scale, _mm256_permutevar8x32_ps(scales, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)));
    __m256 score = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), factor);
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(score, worst, _CMP_GT_OQ));
}

ALWAYS uint64_t in_order(uint64_t x) /* of every eight bits 0 2 4 6 1 3 5 7 makes 0 1 2 3 4 5 6 7 */
{
    const uint64_t pairs = 0x0c0c0c0c0c0c0c0c, bits = 0x2222222222222222;
    x = (x & 0xc3c3c3c3c3c3c3c3) | (x & pairs) << 2 | (x >> 2 & pairs);
    return (x & 0x9999999999999999) | (x & bits) << 1 | (x >> 1 & bits);
}

ALWAYS size_t above_of(const table *t, const query *q, const size_t chunks, int32_t first, size_t count, float worst,
                       int32_t *places)
{
    twice64 state[MAX_DIM / 64];
    size_t kept = 0, stride = 16 * chunks, start = (size_t)first;
    const __m256i middle_of_cell = _mm256_set1_epi32((8 - 128) * q->sum);
    const uint8_t *scales = t->scales + (size_t)t->items * 4; /* of 4 bits */
    for (size_t c = 0; c < chunks; c++)
        for (int f = 0; f < 4; f++)
            state[c].field[f] = both(q->pairs[f] + 16 * c, q->pairs[f] + 16 * c);
    for (size_t i = 0; i < count; i += 64) { /* branches come after 64 rows: a wrong guess then costs little */
        uint64_t open = 0;
        size_t end = count - i < 64 ? count - i : 64;
        for (size_t j = 0; j + 8 <= end; j += 8) {
            size_t row = start + i + j;
            open |= (uint64_t)above8(state, chunks, t->plane2 + row * stride, t->plane4 + row * stride, scales + row * 4,
                                     middle_of_cell, _mm256_set1_ps(q->scale), _mm256_set1_ps(worst))
                    << j;
        }
        open = in_order(open);
        for (size_t j = end / 8 * 8; j < end; j++) /* less than eight are not worth it */
            open |= (uint64_t)1 << j;
        for (; open; open &= open - 1) {
            size_t place = i + (size_t)__builtin_ctzll(open);
            __builtin_prefetch(t->plane8 + (start + place) * 2 * stride);
            places[kept++] = (int32_t)place;
        }
    }
    return kept;
}

static size_t above(const table *t, const query *q, int32_t first, size_t count, float worst, int32_t *places)
{
    if (t->dim == 64)
        return above_of(t, q, 1, first, count, worst, places);
    return above_of(t, q, t->dim / 64, first, count, worst, places);
}

const kernels kernels_avx2 = KERNELS("avx2");

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int kernels_avx2_are_not_for_this_processor;
#endif
