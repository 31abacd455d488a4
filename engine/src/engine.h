/* What the sources share: the three types from inside, the reader of manifests, and the kernels that a processor may have.
 *
 *     open.c     files -> model                 read.c, sha256.c: JSON, safetensors, digests, strict and bounded
 *     fold.c     model, payload -> weights
 *     encode.c   history -> user state
 *     score.c    user state, rows -> scores, the k best
 *     kernels*   the arithmetic of the last two, once per instruction set; dispatch.c picks
 *
 * A matrix is a panel: channels in groups of 16, inputs in groups of 4, so that one group of each is the 64 bytes that one
 * multiply instruction of AVX-512 wants, and halves and quarters of which are what AVX2, NEON and wasm want:
 *
 *     values[((channel / 16) * groups + input / 4) * 64 + (channel % 16) * 4 + input % 4]
 *
 * What is missing to full groups is zeros. Rows of floats have the same padding, in multiples of 16, also zeros. */
#ifndef OSSIA_ENGINE_H
#define OSSIA_ENGINE_H

#include <stdbool.h>
#include <string.h>

#include "ossia.h"

enum { /* the largest sizes that are accepted: every product of them below fits 32 bits */
    MAX_BLOCKS = 16,
    MAX_SLOTS = 6 * MAX_BLOCKS,
    MAX_DIM = 1024,
    MAX_HIDDEN = 4096,
    MAX_LENGTH = 1024,
    MAX_HEADS = 64,
    MAX_ITEMS = 1 << 26,
    MAX_EXTENDS = 64, /* older tables */
};

#define COLD __attribute__((cold)) /* runs once per base: small rather than fast */

static inline size_t pad_to(size_t n, size_t step) { return (n + step - 1) / step * step; }

/* ---- the reader ---- */

typedef struct { /* a stretch of bytes: a file, a tensor, a text in a manifest */
    const uint8_t *data;
    size_t size;
} bytes_view;

typedef struct { /* a place in a JSON text; once something is wrong it is wrong to the end */
    const uint8_t *at, *end;
    bool bad;
} json;

json json_of(bytes_view text);
bool json_open(json *text, char bracket);  /* consumes '{' or '[' */
bool json_more(json *text, char bracket, bool *first); /* consumes ',' and says yes, or '}' or ']' and says no */
bytes_view json_text(json *text);
bytes_view json_key(json *text);
uint64_t json_whole(json *text);
double json_real(json *text);
bool json_done(json *text);
bool is_text(bytes_view view, const char *text);

enum dtype { U8 = 1, I32 = 4, F32 = 5 }; /* of tensors; only these three are used */
typedef struct {
    enum dtype dtype;
    uint64_t rows, columns; /* of a list, columns is 1 */
} tensor_shape;
COLD bool find_tensor(bytes_view file, const char *name, tensor_shape shape, bytes_view *tensor);

typedef struct {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t tail[64];
} sha256;
void sha256_start(sha256 *hash);
void sha256_add(sha256 *hash, const void *data, size_t size);
void sha256_end(sha256 *hash, uint8_t digest[32]);

static inline float load_float(const uint8_t *at) /* files give no alignment */
{
    float value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t load_u32(const uint8_t *at) { return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24; }

/* ---- the three types ---- */

typedef struct { /* a matrix of the base, and where its folded panel lies in the weights */
    uint32_t channels, inputs;
    uint32_t code; /* of the first channel, in a payload's list */
    uint8_t *master; /* a panel of q + 128 */
    float *scales;   /* 3 x padded channels: s2, s4, s8 */
    float *bias;     /* padded */
    size_t at;       /* in the weights: values, then padded scales, then padded biases */
} slot;

typedef struct { float *weight, *bias; } norm;

typedef struct { /* the rows of the item table, by bit plane, in the caller's files */
    const uint8_t *plane2, *plane4, *plane8, *scales;
    uint32_t items, dim;
} table;

/* q + 128 of one value of a row, out of its three planes. */
static inline int row_value(const table *t, uint32_t row, uint32_t i)
{
    size_t quarter = (size_t)row * ((t->dim + 3) / 4) + i / 4, half = (size_t)row * ((t->dim + 1) / 2) + i / 2;
    return (t->plane2[quarter] >> i % 4 * 2 & 3) << 6 | (t->plane4[quarter] >> i % 4 * 2 & 3) << 4 | (t->plane8[half] >> i % 2 * 4 & 15);
}

struct ossia_model {
    uint64_t magic;
    size_t bytes;
    ossia_shape shape;
    uint32_t slots;
    float profile_clip;
    uint8_t base_id[32], table_id[32];
    uint32_t extends; /* older tables: the first 16 bytes of an id, and the rows it had */
    struct { uint8_t id[16]; uint32_t rows; } older[MAX_EXTENDS];
    table table;
    uint32_t *popularity_rank; /* of each row, 0 for the most popular */
    float *positions, *mask;   /* length x padded dim; ones up to dim, then zeros */
    norm attention_norm[MAX_BLOCKS], feed_forward_norm[MAX_BLOCKS], last_norm;
    slot slot[MAX_SLOTS];
    size_t weights_bytes, widths_at; /* of the folded weights; and of the rows' widths in them */
};

enum { QUERY, KEY, VALUE, OUTPUT, EXPAND, CONTRACT, BLOCK_SLOTS };

struct ossia_weights {
    uint64_t magic, bytes;
    uint8_t base_id[16], table_id[16];
    uint64_t gates;    /* one bit each */
    uint32_t all_rows; /* 1: every row is held at 8 bits */
    uint32_t inner[MAX_BLOCKS]; /* hidden channels that are left, see fold.c */
};

typedef struct { /* a folded matrix, ready to multiply */
    const int8_t *values;
    const float *scale, *bias;
    uint32_t channels, inputs;
} panel;

panel panel_of(const ossia_model *model, const ossia_weights *weights, uint32_t index);
const uint8_t *widths_of(const ossia_model *model, const ossia_weights *weights);

typedef struct { /* activations, row by row: integers in whatever form a kernel likes, a scale and a sum a row */
    void *values;
    float *scale;
    int32_t *sum;
    uint32_t inputs, stride; /* stride: inputs padded to 16 */
    uint32_t size;           /* bytes of an integer */
} acts;

enum { TILE = 24, QUERIES = 4 }; /* events in one go through the feed-forward; queries in one go through attention */

typedef struct { /* a state as integers, its values dealt out as a row's planes hold theirs */
    int8_t pairs[4][MAX_DIM / 4], halves[2][MAX_DIM / 2]; /* pairs[f][i] is value 4 i + f, halves[f][i] is value 2 i + f */
    float scale;
    int32_t sum;
} query;

struct ossia_scratch {
    uint64_t magic;
    size_t bytes;
    int32_t *items; /* the usable history, oldest first, and how long it is */
    uint32_t events;
    uint64_t seen[64]; /* a bit for each item number modulo 4,096: most candidates are not in the history */
    float *h, *queries, *keys, *values, *mixed, *inner, *columns, *looks, *state; /* rows of padded floats */
    acts acts;
    query query;
};

/* ---- the kernels ---- */

typedef struct { /* one set of functions per instruction set: equal integers, floats within a few last digits */
    const char *name;
    /* h = E[item] + position at 8 bits, padded with zeros */
    void (*embed)(const table *t, uint32_t item, const float *position, float *h);
    /* y = sum(x . values) * (x.scale * panel.scale) + panel.bias for each row; or y += that. Rows of y are `stride` apart. */
    void (*linear)(const panel *w, const acts *x, uint32_t rows, bool add, float *y, uint32_t stride);
    /* y = norm(h) for one row */
    void (*norm)(const norm *n, const float *mask, const float *h, uint32_t dim, float *y);
    /* x = h rounded, row by row, of positive parts only if `relu` */
    void (*round)(const float *h, uint32_t rows, uint32_t stride, bool relu, acts *x);
    /* mixed = softmax(q k^T / sqrt(part)) v for the newest `rows` of `events` */
    void (*attend)(const ossia_scratch *s, uint32_t rows, uint32_t events, uint32_t stride, uint32_t heads, uint32_t part);
    /* scores of rows at their widths, -infinity at width 0 */
    void (*match)(const table *t, const query *q, const int32_t *rows, const uint8_t *widths, size_t count, float *scores);
} kernels;

const kernels *kernels_now(void);
extern const kernels kernels_plain, kernels_avx2, kernels_vnni, kernels_neon, kernels_dotprod, kernels_i8mm, kernels_wasm;


bool valid_model(const ossia_model *model);
bool valid_weights(const ossia_model *model, const ossia_weights *weights);
bool valid_call(const ossia_model *model, const ossia_weights *weights, const ossia_scratch *scratch);
bool encode(const ossia_model *model, const ossia_weights *weights, ossia_scratch *s, const int32_t *history, size_t events);
float round_values(const float *x, uint32_t count, int8_t *q); /* s = max|x| / 127, q = round-half-away(x / s); answers s */

static inline float round_to_grid(float x) /* half away from zero, then -127 ... 127; what is no number is 0 */
{
    float away = x < 0 ? -0.49999997f : 0.49999997f; /* the largest below a half: x + a half would round up 0.49999997 */
    return x >= 127 ? 127 : x <= -127 ? -127 : x == x ? (float)(int)(x + away) : 0;
}
#endif
