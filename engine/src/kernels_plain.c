/* Plain C: what every processor runs, and what a port begins with. The vectors of kernels.inc are then the compiler's own. */
#include "engine.h"

#define LANES 4
#define ROWS 2
typedef int16_t act;

typedef int32_t sums4 __attribute__((vector_size(16)));

static inline void tile(const int8_t *w, uint32_t groups, const act *x, uint32_t stride, const int rows, const int32_t *x_sums,
                        sums4 sums[][4])
{
    (void)x_sums;
    for (int r = 0; r < rows; r++, x += stride) {
        int32_t total[16] = {0};
        for (uint32_t g = 0; g < groups; g++)
            for (int c = 0; c < 16; c++)
                for (int i = 0; i < 4; i++)
                    total[c] += w[64 * g + 4 * c + i] * x[4 * g + i];
        memcpy(sums[r], total, sizeof total);
    }
}

#include "kernels.inc"
#include "rows.inc"

static void match(const table *t, const query *q, const int32_t *rows, const uint8_t *widths, size_t count, float *scores)
{
    for (size_t i = 0; i < count; i++)
        scores[i] = score_row(t, q, rows[i], widths[i]);
}

const kernels kernels_plain = KERNELS("plain");
