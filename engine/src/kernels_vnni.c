/* AVX-512 with VNNI: vpdpbusd adds four products of an unsigned and a signed byte to each of sixteen 32-bit sums, exactly.
 *
 * Weights are the unsigned side: q + 128 is one xor away, and sum(x (q + 128)) - 128 sum(x) is the sum that is wanted, so that
 * a tile begins at -128 sum(x), which rounding has counted. Activations stay bytes and are broadcast four at a time. */
#include "engine.h"

#if defined __x86_64__ && defined __GNUC__
#ifdef OSSIA_EMULATE_VNNI /* to test this file on a processor without: make engine-emulate */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#else
#include <immintrin.h>
#endif

#ifdef OSSIA_EMULATE_VNNI
#elif defined __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")
#endif

#define LANES 16
#define ROWS 8
#define FMA(a, b, c) (vf) _mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c))
#define LARGER(a, b) (vf) _mm512_max_ps((__m512)(a), (__m512)(b))
#define SMALLER(a, b) (vf) _mm512_min_ps((__m512)(a), (__m512)(b))
typedef int8_t act;
typedef int32_t sums16 __attribute__((vector_size(64)));

static inline __attribute__((always_inline)) void tile(const int8_t *w, uint32_t groups, const act *x, uint32_t stride,
                                                       const int rows, const int32_t *x_sums, sums16 sums[][1])
{
    __m512i sum[ROWS];
    const __m512i shift = _mm512_set1_epi8((char)128);
    for (int r = 0; r < rows; r++)
        sum[r] = _mm512_set1_epi32(-128 * x_sums[r]);
    for (uint32_t g = 0; g < groups; g++) {
        __m512i weights = _mm512_xor_si512(_mm512_loadu_si512((const void *)(w + 64 * g)), shift);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + (uint32_t)r * stride + 4 * g, 4);
            sum[r] = _mm512_dpbusd_epi32(sum[r], weights, _mm512_set1_epi32(four));
        }
    }
    for (int r = 0; r < rows; r++)
        memcpy(&sums[r][0], &sum[r], 64);
}

#include "kernels.inc"

static void match(const table *t, const query *q, const int32_t *rows, const uint8_t *widths, size_t count, float *scores)
{
    kernels_avx2.match(t, q, rows, widths, count, scores); /* a scan of the table waits for memory, not for multiplications */
}

const kernels kernels_vnni = KERNELS("vnni");

#ifdef OSSIA_EMULATE_VNNI
#elif defined __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int kernels_vnni_are_not_for_this_processor;
#endif
