/* NEON with the matrix product of bytes: smmla multiplies two rows of activations by two channels, eight inputs of each, and adds
 * the four sums exactly. Two groups of a panel, side by side, are eight inputs of each channel. */
#include "engine.h"

#if defined __aarch64__
#include <arm_neon.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

#define LANES 4
#define ROWS 4
#define FMA(a, b, c) (vf) vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b))
#define LARGER(a, b) (vf) vmaxq_f32((float32x4_t)(a), (float32x4_t)(b))
#define SMALLER(a, b) (vf) vminq_f32((float32x4_t)(a), (float32x4_t)(b))
typedef int8_t act;
typedef int32_t sums4 __attribute__((vector_size(16)));

/* Pairs of rows times pairs of channels; a row without another goes with itself. */
static inline __attribute__((always_inline)) void tile(const int8_t *w, uint32_t groups, const act *x, uint32_t stride,
                                                       const int rows, const int32_t *x_sums, sums4 sums[][4])
{
    (void)x_sums;
    const int pairs = (rows + 1) / 2;
    const uint32_t other = rows > 1 ? stride : 0;
    int32x4_t sum[ROWS / 2][8];
    for (int p = 0; p < pairs; p++)
        for (int c = 0; c < 8; c++)
            sum[p][c] = vdupq_n_s32(0);
    for (uint32_t g = 0; g < groups; g += 2, w += 128, x += 8) {
        int8x16_t two[ROWS / 2];
        for (int p = 0; p < pairs; p++)
            two[p] = vcombine_s8(vld1_s8(x + 2 * p * stride), vld1_s8(x + 2 * p * stride + other));
        for (int c = 0; c < 4; c++) {
            int32x4_t first = vreinterpretq_s32_s8(vld1q_s8(w + 16 * c)), second = vdupq_n_s32(0);
            if (g + 1 < groups)
                second = vreinterpretq_s32_s8(vld1q_s8(w + 64 + 16 * c));
            int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(first, second));
            int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(first, second));
            for (int p = 0; p < pairs; p++) {
                sum[p][2 * c] = vmmlaq_s32(sum[p][2 * c], two[p], low);
                sum[p][2 * c + 1] = vmmlaq_s32(sum[p][2 * c + 1], two[p], high);
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 4; c++) {
            int64x2_t low = vreinterpretq_s64_s32(sum[r / 2][2 * c]), high = vreinterpretq_s64_s32(sum[r / 2][2 * c + 1]);
            sums[r][c] = (sums4)(r % 2 ? vzip2q_s64(low, high) : vzip1q_s64(low, high));
        }
}

#include "kernels.inc"
typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef int8x16_t share;

INLINE share share_of(const int8_t *values) { return vld1q_s8(values); }
INLINE sums4 dot16(sums4 sum, bytes16 bytes, const share *own) { return (sums4)vdotq_s32((int32x4_t)sum, (int8x16_t)bytes, *own); }

#include "rows128.inc"

const kernels kernels_i8mm = KERNELS("i8mm");

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int kernels_i8mm_are_not_for_this_processor;
#endif
