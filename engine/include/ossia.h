/* ossia.h: the device engine. Opens a published base, folds one user's payload into it, and ranks. C11, no dependency.
 *
 *     W_user = z . Q(W + D ; b)          folded once per payload into int8 panels; ranking is then plain int8 arithmetic
 *
 * Three types carry the design:
 *
 *     ossia_model      what the manifest says, and the base made ready; points into the files, which must outlive it
 *     ossia_weights    one payload folded: read-only, one block of memory without pointers, may be written out and mapped
 *     ossia_scratch    all that changes during a call; two threads with two scratches never meet
 *
 * The caller owns all memory and nothing is allocated. A function that fills memory takes `bytes`: in, how much there is;
 * out, how much it takes. With too little it answers OSSIA_MEMORY and does nothing else, so ask first with 0 bytes.
 *
 *     size_t bytes = 0;
 *     ossia_open(files, count, 0, NULL, &bytes);                        // OSSIA_MEMORY, and bytes says how much
 *     ossia_model *model = aligned_alloc(OSSIA_ALIGN, bytes);
 *     int error = ossia_open(files, count, 0, model, &bytes);           // OSSIA_OK, or an error with a name
 *
 * Items are row numbers of the item table; a number that the table does not have stands for an unknown item: skipped in a
 * history, last as a candidate. The formats are docs/base-format.md and docs/payload-format.md; the arithmetic is that of
 * the numpy runtime `numpy_int8` (src/ossia/device): folding and every integer sum are equal to the bit, floats are close.
 *
 * What it does not do: read files, check signatures (the caller does, and says so), keep clocks or sequence numbers. */
#ifndef OSSIA_H
#define OSSIA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined _WIN32
#define OSSIA_API __declspec(dllexport)
#else
#define OSSIA_API __attribute__((visibility("default")))
#endif

#define OSSIA_ALIGN 64 /* of every block of memory that is handed in */

typedef struct ossia_model ossia_model;
typedef struct ossia_weights ossia_weights;
typedef struct ossia_scratch ossia_scratch;

/* A file of a base, as it lies in memory or is mapped. Names are those of docs/base-format.md: "manifest.json",
 * "base/plane2.safetensors", "table/manifest.json", ... Files that the engine does not need are not asked for. */
typedef struct {
    const char *name;
    const void *data;
    size_t size;
} ossia_file;

/* Sizes that a caller may want to know. */
typedef struct {
    uint32_t items, dim, length; /* rows of the table; values of a state; events that the model reads */
    uint32_t blocks, heads, hidden;
    uint32_t gates, channels; /* bits and codes of a payload */
} ossia_shape;

enum { /* flags */
    OSSIA_TRUSTED = 1,  /* ossia_open: the files' digests were checked before; sizes and contents are checked all the same */
    OSSIA_UNSIGNED = 2, /* ossia_fold: a payload without signature will do */
    OSSIA_VERIFIED = 4, /* ossia_fold: the caller has checked the signature of this payload */
    OSSIA_UNSEEN = 8,   /* ossia_top: leave out the items of the history */
    OSSIA_WHOLE = 16,   /* ossia_fold: leave nothing out that could be left out, so that the panels are as documented */
};

enum { /* what a function answers; ossia_error() gives the name */
    OSSIA_OK = 0,
    OSSIA_ARGUMENT,    /* a null pointer, memory that is not aligned, a flag or a size that can't be */
    OSSIA_MEMORY,      /* too little memory; the size it takes is in *bytes */
    OSSIA_MISSING,     /* a file that the manifest names was not given */
    OSSIA_DIGEST,      /* a file is not the one that the manifest names */
    OSSIA_MANIFEST,    /* no manifest, or one with a field too many, too few or of another kind */
    OSSIA_UNSUPPORTED, /* a backbone or a size that this engine does not run */
    OSSIA_TENSORS,     /* a file of tensors that does not fit the manifest */
    OSSIA_TABLE,       /* the table is not the base's own, nor one that extends it */
    OSSIA_WEIGHTS,     /* weights of another model, or damaged ones */
    /* what is wrong with a payload, by field */
    OSSIA_PAYLOAD_SIZE,
    OSSIA_PAYLOAD_HEADER,
    OSSIA_PAYLOAD_BASE,
    OSSIA_PAYLOAD_TABLE_ID,
    OSSIA_PAYLOAD_EXPIRY,
    OSSIA_PAYLOAD_SIGNATURE,
    OSSIA_PAYLOAD_GATES,
    OSSIA_PAYLOAD_CODES,
    OSSIA_PAYLOAD_DELTA,
    OSSIA_PAYLOAD_TABLE,
    OSSIA_PAYLOAD_BODY,
    OSSIA_ERRORS,
};

OSSIA_API const char *ossia_error(int error);

/* Which arithmetic runs: "vnni", "avx2", "dotprod", "neon", "relaxed", "simd128" or "plain". The first call that
 * computes picks the fastest that the processor has. `name` picks another one, for tests and measurements, before any other
 * thread computes; NULL only asks. Answers NULL if this build or processor has none of that name. */
OSSIA_API const char *ossia_path(const char *name);

/* Opens a base and its table. The files stay the caller's and must stay where they are. */
OSSIA_API int ossia_open(const ossia_file *files, size_t count, int flags, ossia_model *model, size_t *bytes);
OSSIA_API int ossia_shape_of(const ossia_model *model, ossia_shape *shape);

/* Folds a payload; NULL of 0 bytes is the base itself. */
OSSIA_API int ossia_fold(const ossia_model *model, const void *payload, size_t size, int flags, ossia_weights *weights,
                         size_t *bytes);

/* Tells whether `bytes` of memory are weights of this model: for weights that were written out and mapped back. */
OSSIA_API int ossia_check(const ossia_model *model, const ossia_weights *weights, size_t bytes);

/* What was folded, for tests and for the curious: a slot's panel, row by row, with a scale for each channel (channels x inputs
 * and channels; of weights folded with OSSIA_WHOLE); a row of the table at its width (dim values, one scale). */
OSSIA_API int ossia_slot(const ossia_model *model, const ossia_weights *weights, uint32_t slot, int8_t *values, float *scale);
OSSIA_API int ossia_row(const ossia_model *model, const ossia_weights *weights, uint32_t row, int8_t *values, float *scale);

/* Makes a scratch, once per thread. */
OSSIA_API int ossia_prepare(const ossia_model *model, ossia_scratch *scratch, size_t *bytes);

/* Encodes a history, oldest first, into a user state of `dim` floats; zeros if nothing in it is known. */
OSSIA_API int ossia_encode(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch,
                           const int32_t *history, size_t events, float *state);

/* Writes the profile of a history, dim + 4 bytes: what may leave the device. `weights` are those of the base itself. */
OSSIA_API int ossia_profile(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch,
                            const int32_t *history, size_t events, uint8_t *profile);

/* Scores candidates, higher is better, -infinity for a row that is not held. With `vectors`, dim floats a candidate, those
 * are scored instead of the table's rows. */
OSSIA_API int ossia_score(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch,
                          const int32_t *history, size_t events, const int32_t *candidates, size_t count,
                          const float *vectors, float *scores);

/* The k best of the candidates: best first, ties in the order given, -infinity last. `positions` are places in the list of
 * candidates. Without a list (NULL, 0) all rows are ranked that can be scored, and positions are rows. */
OSSIA_API int ossia_top(const ossia_model *model, const ossia_weights *weights, ossia_scratch *scratch,
                        const int32_t *history, size_t events, const int32_t *candidates, size_t count, int flags, size_t k,
                        int32_t *positions, float *scores, size_t *shown);

#ifdef __cplusplus
}
#endif
#endif
