/* NEON with the dot product: sdot adds four products of bytes to each of four 32-bit sums, exactly. */
#include "engine.h"

#if defined __aarch64__
#include <arm_neon.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define LANES 4
#define ROWS 4
#define FMA(a, b, c) (vf) vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b))
#define LARGER(a, b) (vf) vmaxq_f32((float32x4_t)(a), (float32x4_t)(b))
#define SMALLER(a, b) (vf) vminq_f32((float32x4_t)(a), (float32x4_t)(b))
typedef int8_t act;
typedef int32_t sums4 __attribute__((vector_size(16)));

static inline __attribute__((always_inline)) void tile(const int8_t *w, uint32_t groups, const act *x, uint32_t stride, const int rows,
                                                       const int32_t *x_sums, sums4 sums[][4])
{
    (void)x_sums;
    int32x4_t sum[ROWS][4];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 4; c++)
            sum[r][c] = vdupq_n_s32(0);
    for (uint32_t g = 0; g < groups; g++, w += 64) {
        int8x16_t weights[4] = {vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)};
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + (uint32_t)r * stride + 4 * g, 4);
            for (int c = 0; c < 4; c++)
                sum[r][c] = vdotq_s32(sum[r][c], weights[c], vreinterpretq_s8_s32(vdupq_n_s32(four)));
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 4; c++)
            sums[r][c] = (sums4)sum[r][c];
}

#include "kernels.inc"

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef int8x16_t share;

INLINE share share_of(const int8_t *values) { return vld1q_s8(values); }
INLINE sums4 dot16(sums4 sum, bytes16 bytes, const share *own) { return (sums4)vdotq_s32((int32x4_t)sum, (int8x16_t)bytes, *own); }

#include "rows128.inc"

const kernels kernels_dotprod = KERNELS("dotprod");

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int kernels_dotprod_are_not_for_this_processor;
#endif
