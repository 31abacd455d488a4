/* WebAssembly: simd128 everywhere, and the dot product of relaxed SIMD where the module is built for it.
 *
 *     simd128   weights and activations as 16 bits, i32x4.dot_i16x8 adds two exact products to each of four sums, as AVX2 does
 *     relaxed   i32x4.relaxed_dot_i8x16_i7x16_add is exact only if its second operand has 7 bits, so q + 128 is taken apart into
 *               two times 4 bits: sum(x q) = 16 sum(x high) + sum(x low) - 128 sum(x) */
#include "engine.h"

#if defined __wasm_simd128__
#include <wasm_simd128.h>

#define ONE_BY_ONE _Pragma("clang loop unroll(disable)") /* four copies of a tile would be no faster, only larger */
#define WRITTEN_OUT _Pragma("clang loop unroll(full)")
#define SHARED static __attribute__((noinline))
#define LANES 4
#define ROWS 4
#define PAIRS 0 /* a kernel for two rows is more to fetch than it wins */
#define LARGER(a, b) (vf) wasm_f32x4_pmax((v128_t)(b), (v128_t)(a)) /* a > b ? a : b, one instruction on x86 and on Arm */
#define SMALLER(a, b) (vf) wasm_f32x4_pmin((v128_t)(b), (v128_t)(a))
typedef int32_t sums4 __attribute__((vector_size(16)));

#ifdef __wasm_relaxed_simd__
#define WASM_NAME "relaxed"
#define FMA(a, b, c) (vf) wasm_f32x4_relaxed_madd((v128_t)(a), (v128_t)(b), (v128_t)(c))
typedef int8_t act;

static inline __attribute__((always_inline)) void tile(const int8_t *w, uint32_t groups, const act *x, uint32_t stride, const int rows,
                                                       const int32_t *x_sums, sums4 sums[][4])
{
    v128_t nibble = wasm_i8x16_splat(15), shift = wasm_i8x16_splat((int8_t)128);
ONE_BY_ONE
    for (int c = 0; c < 4; c++) {
        v128_t high[ROWS], low[ROWS];
WRITTEN_OUT
        for (int r = 0; r < rows; r++)
            high[r] = wasm_i32x4_splat(-8 * x_sums[r]), low[r] = wasm_i32x4_splat(0);
        for (uint32_t g = 0; g < groups; g++) {
            v128_t u = wasm_v128_xor(wasm_v128_load(w + 64 * g + 16 * c), shift), top = wasm_u8x16_shr(u, 4), rest = wasm_v128_and(u, nibble);
    WRITTEN_OUT
        for (int r = 0; r < rows; r++) {
                v128_t some = wasm_v128_load32_splat(x + (uint32_t)r * stride + 4 * g);
                high[r] = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(some, top, high[r]);
                low[r] = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(some, rest, low[r]);
            }
        }
WRITTEN_OUT
        for (int r = 0; r < rows; r++)
            sums[r][c] = (sums4)wasm_i32x4_add(wasm_i32x4_shl(high[r], 4), low[r]);
    }
}
#else
#define WASM_NAME "simd128"
typedef int16_t act;

static inline __attribute__((always_inline)) void tile(const int8_t *w, uint32_t groups, const act *x, uint32_t stride, const int rows,
                                                       const int32_t *x_sums, sums4 sums[][4])
{
    (void)x_sums;
ONE_BY_ONE
    for (int c = 0; c < 4; c++) {
        v128_t one[ROWS], two[ROWS]; /* two partial sums of two channels each */
WRITTEN_OUT
        for (int r = 0; r < rows; r++)
            one[r] = two[r] = wasm_i32x4_splat(0);
        for (uint32_t g = 0; g < groups; g++) {
            v128_t bytes = wasm_v128_load(w + 64 * g + 16 * c), low = wasm_i16x8_extend_low_i8x16(bytes), high = wasm_i16x8_extend_high_i8x16(bytes);
    WRITTEN_OUT
        for (int r = 0; r < rows; r++) {
                v128_t some = wasm_v128_load64_splat(x + (uint32_t)r * stride + 4 * g);
                one[r] = wasm_i32x4_add(one[r], wasm_i32x4_dot_i16x8(low, some));
                two[r] = wasm_i32x4_add(two[r], wasm_i32x4_dot_i16x8(high, some));
            }
        }
WRITTEN_OUT
        for (int r = 0; r < rows; r++)
            sums[r][c] = (sums4)wasm_i32x4_add(wasm_i32x4_shuffle(one[r], two[r], 0, 2, 4, 6), wasm_i32x4_shuffle(one[r], two[r], 1, 3, 5, 7));
    }
}
#endif

#include "kernels.inc"
typedef uint8_t bytes16 __attribute__((vector_size(16)));

#ifdef __wasm_relaxed_simd__
typedef v128_t share;

INLINE share share_of(const int8_t *values) { return wasm_v128_load(values); }
INLINE sums4 dot16(sums4 sum, bytes16 bytes, const share *own)
{
    return (sums4)wasm_i32x4_relaxed_dot_i8x16_i7x16_add(*own, (v128_t)bytes, (v128_t)sum);
}
#else
typedef struct {
    v128_t low, high; /* as 16 bits */
} share;

INLINE share share_of(const int8_t *values) { return (share){wasm_i16x8_load8x8(values), wasm_i16x8_load8x8(values + 8)}; }
INLINE sums4 dot16(sums4 sum, bytes16 bytes, const share *own)
{
    v128_t low = wasm_i32x4_dot_i16x8(wasm_u16x8_extend_low_u8x16((v128_t)bytes), own->low);
    v128_t high = wasm_i32x4_dot_i16x8(wasm_u16x8_extend_high_u8x16((v128_t)bytes), own->high);
    return sum + (sums4)low + (sums4)high;
}
#endif

#include "rows128.inc"

const kernels kernels_wasm = KERNELS(WASM_NAME);
#else
typedef int kernels_wasm_are_not_for_this_processor;
#endif
