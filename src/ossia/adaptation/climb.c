/* The greedy climb of climb_many.py for many users, answer by answer the same, without a sort.

   Steps are taken by falling worth, ties by number. Which ones the longest run that fits is made of can be told without
   bringing them into that order: worths are positive, so they order like their bits, and those bits are looked at eleven at a
   time. Each look adds up what a group of steps costs and takes the groups, from the dearest, as long as they fit; only the one
   that does not is looked into. What fits beyond the run is found step by step, among the few that are cheap enough.

   Arrays are the caller's and of the sizes named; nothing is allocated, nothing fails. */
#include <stdint.h>
#include <string.h>

#ifdef _WIN32
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

enum { LOOK = 11, GROUPS = 1 << LOOK };

typedef struct {
    int64_t count;         /* steps */
    const uint32_t *worth; /* bits of each step's */
    const int64_t *cost;   /* bytes, at least 0 */
    const int64_t *widest; /* the largest cost up to a step along its ladder */
    uint8_t *taken;        /* 0 at first */
    int32_t *open;         /* steps that are looked at */
} user_steps;

/* Take the groups of the open steps that fit, the dearest first; leave open what is in the first that does not. */
static int64_t look(const user_steps *of, int64_t open, int shift, int64_t *left) {
    static const uint32_t mask = GROUPS - 1;
    int64_t spent[GROUPS];
    memset(spent, 0, sizeof spent);
    for (int64_t at = 0; at < open; at++) {
        int32_t step = of->open[at];
        spent[of->worth[step] >> shift & mask] += of->cost[step];
    }
    int64_t group = GROUPS - 1;
    while (group >= 0 && spent[group] <= *left) *left -= spent[group--];
    int64_t kept = 0;
    for (int64_t at = 0; at < open; at++) {
        int32_t step = of->open[at];
        int64_t its = of->worth[step] >> shift & mask;
        of->taken[step] = its > group;
        of->open[kept] = step;
        kept += its == group;
    }
    return kept;
}

/* Take the longest run that fits; returns what is left. */
static int64_t run(const user_steps *of, int64_t left) {
    int64_t open = of->count;
    for (int64_t step = 0; step < open; step++) of->open[step] = (int32_t)step;
    for (int shift = 2 * LOOK; shift >= 0 && open; shift -= LOOK) open = look(of, open, shift, &left);
    for (int64_t at = 0; at < open && of->cost[of->open[at]] <= left; at++) { /* all of one worth: by number */
        left -= of->cost[of->open[at]];
        of->taken[of->open[at]] = 1;
    }
    return left;
}

/* Take what still fits, the best first: what is left only falls, so what is too wide once stays so. */
static void fill(const user_steps *of, int64_t left) {
    int64_t open = 0;
    for (int64_t step = 0; step < of->count; step++) {
        of->open[open] = (int32_t)step;
        open += !of->taken[step] & (of->widest[step] <= left);
    }
    while (open) {
        int32_t best = of->open[0];
        for (int64_t at = 1; at < open; at++)
            if (of->worth[of->open[at]] > of->worth[best]) best = of->open[at];
        of->taken[best] = 1;
        left -= of->cost[best];
        int64_t kept = 0;
        for (int64_t at = 0; at < open; at++) {
            int32_t step = of->open[at];
            of->open[kept] = step;
            kept += (step != best) & (of->widest[step] <= left);
        }
        open = kept;
    }
}

/* `share`: users × things, 0 … 1, never −0. `per_byte`, `cost`, `widest`: levels × things. `worth`, `open`, `taken`: room for levels ×
   things each. `rungs`: users × things, how many steps each thing takes. */
PUBLIC void ossia_climb(int64_t users, int64_t things, int64_t levels, const float *share, const float *per_byte,
                        const int64_t *cost, const int64_t *widest, const int64_t *slack, uint32_t *worth, int32_t *open,
                        uint8_t *taken, uint8_t *rungs) {
    user_steps of = {levels * things, worth, cost, widest, taken, open};
    memset(rungs, 0, (size_t)(users * things));
    for (int64_t user = 0; user < users; user++, share += things, rungs += things) {
        for (int64_t level = 0; level < levels; level++)
            for (int64_t thing = 0; thing < things; thing++) {
                float one = share[thing] * per_byte[level * things + thing];
                memcpy(&worth[level * things + thing], &one, sizeof one);
            }
        fill(&of, run(&of, slack[user]));
        for (int64_t level = 0; level < levels; level++)
            for (int64_t thing = 0; thing < things; thing++) rungs[thing] += taken[level * things + thing];
    }
}
