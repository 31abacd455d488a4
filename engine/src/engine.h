/* What the sources share: the three types from inside, the reader of manifests, and the kernels that a processor may have.
 *
 *     open.c       files -> model         manifest.c holds them to what backbone.c says; read.c: JSON, tensors; sha256.c
 *     payload.c    bytes -> what they ask for, or which field is wrong
 *     fold.c       model, what is asked for -> weights
 *     encode.c     history -> user state  sasrec.c, gru4rec.c, caser.c
 *     score.c      user state, rows -> scores; top.c: the k best; tail.c: of rows that are not held
 *     kernels*     the arithmetic of the last two, once per instruction set; dispatch.c picks
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
    MAX_BLOCKS = 16, /* of a SASRec; layers of a GRU4Rec */
    MAX_SLOTS = 9 * MAX_BLOCKS,
    MAX_GATES = 64,
    MAX_DIM = 1024,
    MAX_HIDDEN = 4096,
    MAX_INPUTS = 8192, /* of a slot of a Caser */
    MAX_LENGTH = 1024,
    MAX_HEADS = 64,
    MAX_ITEMS = 1 << 26,
    MAX_EXTENDS = 64, /* older tables */
    MAX_WORDS = 256,  /* of a part of a tail */
    MAX_RANK = 255,   /* of a delta */
    NAME = 48,        /* of a slot, a gate, a norm or a file, with its end */
};

#define COLD __attribute__((cold)) /* runs once per base, or for the curious: small rather than fast */
#if defined __GNUC__ && !defined __clang__
#define SMALL _Pragma("GCC optimize(\"Os\")") /* begins a source that is cold, or leaves the work to kernels */
#define COMPACT _Pragma("GCC optimize(\"O2,tree-vectorize\")") /* likewise: loops as vectors, but none written out */
#else
#define SMALL
#define COMPACT
#endif

static inline size_t pad_to(size_t n, size_t step) { return (n + step - 1) / step * step; }

static inline void *place(void *memory, size_t *at, size_t bytes) /* the next piece of a block; without memory only counts */
{
    void *here = memory ? (uint8_t *)memory + *at : NULL;
    *at += pad_to(bytes, OSSIA_ALIGN);
    return here;
}

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
/* The next of a list or an object, `count` of them so far: consumes its bracket or a comma and says yes, or the other bracket
 * and says no. */
bool json_next(json *text, char bracket, uint32_t *count);
bytes_view json_text(json *text);
bytes_view json_key(json *text);
/* The next field of an object: its place among `names`, each ended by a zero, the last by two; -1 at the end. Bad is one that
 * is unknown or comes twice, and an end before all were `seen`, which begins as 0, but for those named with a '?' before. */
int json_field(json *text, const char *names, unsigned *seen);
void json_is(json *text, const char *wanted); /* a text, and no other */
uint64_t json_whole(json *text);
double json_real(json *text);
bool json_null(json *text);
bool json_done(json *text);
bool is_text(bytes_view view, const char *text);

/* Finds a tensor by name, "U8", "I32", "F16" or "F32", of this shape, a list if `rows` is 0; NULL if there is none. */
const uint8_t *find_tensor(bytes_view file, const char *name, const char *dtype, uint32_t rows, uint32_t columns);

typedef struct {
    uint32_t state[8], k[64];
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

float half_to_float(const uint8_t *at); /* a float16 that is a number */

static inline uint32_t load_u32(const uint8_t *at) { return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24; }

/* ---- the three types ---- */

enum backbone { SASREC, GRU4REC, CASER };
enum { QUERY, KEY, VALUE, ATTENTION_VALVE, OUTPUT, EXPAND, UP, FEED_FORWARD_VALVE, CONTRACT }; /* of a block of a SASRec */
enum { READS, REMEMBERS, ADDS, LAYER_SLOTS };                      /* of a layer of a GRU4Rec */

typedef struct { /* a matrix of the base, and where its folded panel lies in the weights */
    uint32_t channels, inputs;
    uint32_t code;   /* of the first channel, in a payload's list */
    uint8_t *master; /* a panel of q + 128 */
    float *scales;   /* 3 x padded channels: s2, s4, s8 */
    float *bias;     /* padded */
    size_t at;       /* in the weights: values, then padded scales, then padded biases */
    const uint8_t *left, *right; /* of its basis: channels x basis and basis x inputs float16, in the caller's file */
} slot;

static inline size_t place_of(const slot *s, uint32_t channel, uint32_t input) /* in a panel */
{
    return (channel / 16 * (pad_to(s->inputs, 4) / 4) + input / 4) * 64 + channel % 16 * 4 + input % 4;
}

typedef struct {
    float *weight, *bias;
} norm;

typedef struct { /* a table that this one extends: the first 16 bytes of its id, and the rows it had */
    uint8_t id[16];
    uint32_t rows;
} older_table;

typedef struct { /* the rows of the item table, by bit plane, in the caller's files */
    const uint8_t *plane2, *plane4, *plane8, *scales;
    uint32_t items, dim;
} table;

typedef struct { /* a coarse version of every row; no parts: there is none */
    uint32_t parts, words;
    const uint8_t *codes;        /* in the caller's file */
    float *rotation, *codewords; /* dim x dim; parts x words x dim / parts */
} tail;

/* q + 128 of one value of a row, out of its three planes. */
static inline int row_value(const table *t, uint32_t row, uint32_t i)
{
    size_t quarter = (size_t)row * ((t->dim + 3) / 4) + i / 4, half = (size_t)row * ((t->dim + 1) / 2) + i / 2;
    int high = t->plane2[quarter] >> i % 4 * 2 & 3, middle = t->plane4[quarter] >> i % 4 * 2 & 3;
    return high << 6 | middle << 4 | (t->plane8[half] >> i % 2 * 4 & 15);
}

struct ossia_model {
    uint64_t magic;
    enum backbone kind;
    ossia_shape shape;
    uint32_t vertical, horizontal; /* sizes of a Caser */
    uint32_t valves;               /* of a SASRec: 1 if it has them */
    uint32_t basis;                /* directions that a slot's delta can have coordinates in; 0: none */
    uint32_t slots, norms;
    float profile_clip;
    uint8_t base_id[32], table_id[32];
    uint32_t extends;
    older_table older[MAX_EXTENDS];
    table table;
    tail tail;
    uint32_t *popularity_rank; /* of each row, 0 for the most popular */
    float *positions, *mask;   /* length x padded dim, or one row of zeros; ones up to dim, then zeros */
    norm norm[2 * MAX_BLOCKS + 1]; /* one before each branch, as name_norm() numbers them; the last one ends the encoder */
    slot slot[MAX_SLOTS];
    size_t weights_bytes, widths_at; /* of the folded weights; and of the rows' widths in them */
};

struct ossia_weights {
    uint64_t magic, bytes;
    uint8_t base_id[16], table_id[16];
    uint64_t gates;             /* one bit each */
    uint32_t all_rows;          /* 1: every row is held at 8 bits */
    uint32_t inner[MAX_BLOCKS]; /* of each block of a SASRec the hidden channels that are left, see fold.c */
};

/* A block of a SASRec without valves has no slots for them, nor for UP. */
static inline uint32_t block_slots(const ossia_model *model) { return model->valves ? 9 : 6; }
static inline uint32_t slot_of(const ossia_model *model, uint32_t block, uint32_t part)
{
    return block_slots(model) * block + part - (model->valves ? 0 : (part > ATTENTION_VALVE) + 2 * (part > UP));
}
static inline uint32_t part_of(const ossia_model *model, uint32_t index)
{
    uint32_t at = index % block_slots(model);
    return model->valves ? at : at + (at > VALUE) + 2 * (at > 4);
}

static inline bool runs(const ossia_weights *weights, uint32_t gate) { return weights->gates >> gate & 1; }

/* ---- what a backbone is made of (backbone.c) ---- */

typedef struct { /* a slot as a manifest must name it; a gate without name is none */
    char name[NAME], gate[NAME];
    uint32_t channels, inputs;
} part;

bool kind_named(bytes_view name, enum backbone *kind);
uint32_t *size_named(ossia_model *model, bytes_view name, unsigned *seen); /* NULL: no such size, or seen before */
bool sizes_complete(const ossia_model *model, unsigned seen);
bool supported(const ossia_model *model);
void count_parts(ossia_model *model); /* slots, gates and norms, from the sizes */
void name_gate(const ossia_model *model, uint32_t index, char name[NAME]);
void name_norm(const ossia_model *model, uint32_t index, char name[NAME]);
void describe_part(const ossia_model *model, uint32_t index, part *told);

/* ---- manifests (manifest.c) ---- */

typedef struct { /* the files given, and whether their digests were checked before */
    const ossia_file *files;
    size_t count;
    bool trusted;
} shelf;

typedef struct { /* what a manifest says beside the model: of a base, or of a table */
    bool unsupported;
    uint8_t table_id[32];
    uint32_t rows, dim;
    bytes_view files; /* the object under "files", read again when a file is wanted */
} manifest;

int read_base_manifest(bytes_view file, manifest *told, ossia_model *model);
int read_table_manifest(bytes_view file, manifest *told, ossia_model *model);
bytes_view given(const shelf *from, const char *name);
int find_file(bytes_view files, const char *path, uint32_t folder, const shelf *from, bytes_view *file);
void hash_file(bytes_view file, uint8_t digest[32]);

/* ---- the coarse tail (tail.c) ---- */

bool read_tail(ossia_model *model, bytes_view file);
void prepare_tail(const tail *t, uint32_t dim, const float *state, float *turned, float *products);
float tail_score(const tail *t, const float *products, int32_t row);

/* ---- payloads (payload.c) ---- */

typedef struct { /* hands out a body's bytes in order */
    const uint8_t *at;
    size_t left;
} reader;

typedef struct { /* walks one sorted list: its length, its first row, and gaps less one */
    reader body;
    uint64_t left, next; /* rows still to come; the smallest that the next one can be */
} list;

typedef struct { /* a payload's sections, as they were found and checked */
    const uint8_t *gates, *codes, *delta; /* NULL: not there */
    uint32_t rank;                        /* of the delta; 0: dense */
    bool coordinates;                     /* in the base's basis, as many as the rank says */
    uint32_t row_count;                   /* of the table that the payload was made for */
    bool has_rows;
    list rows[3]; /* at 2, 4 and 8 bits */
} sections;

int read_payload(const ossia_model *model, const uint8_t *data, size_t size, int flags, sections *found);
bool list_next(list *rows, uint32_t below, uint64_t *row);
uint64_t delta_numbers(const slot *s, const sections *found); /* that a slot's delta takes */
bool are_numbers(const uint8_t *halves, uint64_t count); /* none infinite, nor no number; NULL is none at all */

static inline unsigned bit_of(const uint8_t *bits, uint32_t index) { return bits[index / 8] >> index % 8 & 1; }
static inline unsigned code_of(const uint8_t *codes, uint32_t index) /* without codes all are 8 bits wide */
{
    return codes ? codes[index / 4] >> index % 4 * 2 & 3 : 3;
}

/* ---- folded weights (fold.c) ---- */

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

enum { TILE = 24, QUERIES = 4 }; /* rows in one go through a wide layer; queries in one go through attention */

typedef struct { /* a state as integers, its values dealt out as a row's planes hold theirs */
    int8_t pairs[4][MAX_DIM / 4], halves[2][MAX_DIM / 2]; /* pairs[f][i] is value 4 i + f, halves[f][i] is value 2 i + f */
    float scale;
    int32_t sum;
} query;

struct ossia_scratch { /* pointers into its own block, to rows of padded floats; an encoder has those that it uses */
    uint64_t magic;
    int32_t *items; /* the usable history, oldest first, and how long it is */
    uint32_t events;
    uint64_t seen[64]; /* a bit for each item number modulo 4,096 */
    float *h, *state;  /* the stream, the user state */
    float *mixed, *inner, *up; /* rows between two layers; what a wide layer reads or says, and another beside it */
    float *queries, *keys, *values, *columns, *looks; /* of attention */
    float *recalled, *memory;                         /* of a GRU4Rec */
    float *said;                                      /* by the filters of a Caser */
    acts acts;
    query query;
    float *turned, *products; /* of the state and a tail: by its rotation; of that and every codeword */
};

/* ---- encoders: from s->items, at least one event, to s->state ---- */

typedef struct kernels kernels;
void sasrec(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s);
void gru4rec(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s);
void caser(const ossia_model *model, const ossia_weights *weights, const kernels *run, ossia_scratch *s);
void place_acts(acts *x, void *memory, size_t *at, size_t rows, size_t values); /* values: of all rows, padded */
void place_sasrec(const ossia_model *model, ossia_scratch *s, void *memory, size_t *at);
void place_gru4rec(const ossia_shape *shape, ossia_scratch *s, void *memory, size_t *at);
void place_caser(const ossia_model *model, ossia_scratch *s, void *memory, size_t *at);
void norm_and_round(const ossia_model *model, const kernels *run, const norm *n, const float *h, uint32_t rows, float *y,
                    acts *x);
acts rows_from(const acts *x, uint32_t row);

/* ---- the kernels ---- */

struct kernels { /* one set of functions per instruction set: equal integers, floats within a few last digits */
    const char *name;
    /* h = E[item] + position at 8 bits, padded with zeros */
    void (*embed)(const table *t, uint32_t item, const float *position, float *h);
    /* y = sum(x . values) * (x.scale * panel.scale) + panel.bias for each row; or y += that. Rows of y are `stride` apart. */
    void (*linear)(const panel *w, const acts *x, uint32_t rows, bool add, float *y, uint32_t stride);
    /* y = norm(h), row by row */
    void (*norm)(const norm *n, const float *mask, const float *h, uint32_t rows, uint32_t dim, float *y);
    /* x = h rounded, row by row, of positive parts only if `relu` */
    void (*round)(const float *h, uint32_t rows, uint32_t stride, bool relu, acts *x);
    /* mixed = softmax(q k^T / sqrt(part)) v for the newest `rows` of `events` */
    void (*attend)(const ossia_scratch *s, uint32_t rows, uint32_t events, uint32_t stride, uint32_t heads, uint32_t part);
    /* scores of rows at their widths, -infinity at width 0 */
    void (*match)(const table *t, const query *q, const int32_t *rows, const uint8_t *widths, size_t count, float *scores);
    /* m = (1 - z) n + z m, one step of a gated recurrent unit; a and b hold the channels of r, of z and of n */
    void (*remember)(const float *a, const float *b, uint32_t width, float *m);
    /* What a valve lets through, y += sigmoid(v) x; or, of two layers that are multiplied, y = v sigmoid(v) x */
    void (*valve)(const float *v, const float *x, size_t count, bool add, float *y);
    /* The places of those of `count` rows from `first` on that score above `worst` at 4 bits; a few more may be among them.
     * Of multiples of 64 values. NULL: `match` will do. */
    size_t (*above)(const table *t, const query *q, int32_t first, size_t count, float worst, int32_t *places);
};

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

/* ---- scores (score.c), of which top.c picks the k best ---- */

enum { CHUNK = 1024, NO_ROW = -1 }; /* candidates that are scored at once; one that is to have no score */
#define OUTLINED __attribute__((noinline)) /* once a chunk: a call costs nothing there, a copy does */

typedef struct { /* what scoring needs to know, for all candidates of a call */
    const ossia_model *model;
    const ossia_scratch *scratch;
    const kernels *run;
    const uint8_t *widths;
    bool known, all_rows, unseen;
    const tail *tail; /* of rows that are not held; NULL: there are none, or nothing scores them */
} ranker;

ranker make_ranker(const ossia_model *model, const ossia_weights *weights, ossia_scratch *s, const int32_t *history,
                   size_t events, bool unseen);
/* The width at which a row counts: its own, 8 bits if it is in the history, or none if that is to be left out. */
uint8_t width_of(const ranker *r, int32_t item);
/* Rows and widths of up to CHUNK candidates, those listed or the rows from `first` on; scores of such; and both in one. */
void pick_rows(const ranker *r, const int32_t *items, int32_t first, size_t count, int32_t *rows, uint8_t *widths);
void score_rows(const ranker *r, const int32_t *rows, const uint8_t *widths, size_t count, float *scores);
void score_chunk(const ranker *r, const int32_t *items, int32_t first, size_t count, float *scores);
#endif
