/* Which arithmetic runs: the fastest that was built and that the processor has, picked once. */
#include "engine.h"

#if defined __aarch64__ && defined __linux__
#include <sys/auxv.h>
static bool has_dotprod(void) { return getauxval(AT_HWCAP) >> 20 & 1; } /* HWCAP_ASIMDDP */
static bool has_i8mm(void) { return getauxval(AT_HWCAP2) >> 13 & 1 && has_dotprod(); } /* HWCAP2_I8MM */
#elif defined __aarch64__ && defined __APPLE__
static bool has_dotprod(void) { return true; } /* every Arm Mac has it */
static bool has_i8mm(void) { return false; } /* the first ones have not */
#elif defined __aarch64__
static bool has_dotprod(void) { return false; }
static bool has_i8mm(void) { return false; }
#endif

#if defined __x86_64__ && defined __GNUC__
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#ifdef OSSIA_EMULATE_VNNI
static bool has_vnni(void) { return has_avx2(); }
#else
static bool has_vnni(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") && has_avx2();
}
#endif
#endif

static bool always(void) { return true; }

static const struct {
    const kernels *kernels;
    bool (*there)(void);
} PATHS[] = { /* fastest first */
#if defined __x86_64__ && defined __GNUC__
    {&kernels_vnni, has_vnni},
    {&kernels_avx2, has_avx2},
#endif
#if defined __aarch64__
    {&kernels_i8mm, has_i8mm},
    {&kernels_dotprod, has_dotprod},
    {&kernels_neon, always},
#endif
#if defined __wasm_simd128__
    {&kernels_wasm, always}, /* a module runs as a whole or not at all: plain would only be bytes to fetch */
#else
    {&kernels_plain, always},
#endif
};

static const kernels *volatile chosen; /* every thread would pick the same */

static const kernels *pick(const char *name)
{
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++)
        if ((!name || !strcmp(name, PATHS[i].kernels->name)) && PATHS[i].there())
            return PATHS[i].kernels;
    return NULL;
}

const kernels *kernels_now(void)
{
    if (!chosen)
        chosen = pick(NULL);
    return chosen;
}

const char *ossia_path(const char *name)
{
    const kernels *found = name ? pick(name) : kernels_now();
    if (found)
        chosen = found;
    return found ? found->name : NULL;
}
