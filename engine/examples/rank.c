/* Ranks on a device that has nothing but C: rank BASE [-p PAYLOAD] [-t TIMES] [-k K] HISTORY-ROW ...
 *
 * Maps the files of a base, folds a payload, ranks the whole table for a history of row numbers, and prints the best rows; on
 * stderr what it took. With -t it repeats and prints the best time. The payload may be unsigned: this program holds no keys. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ossia.h"

static const char *const NAMES[] = {
    "manifest.json",           "base/floats.safetensors",  "base/plane2.safetensors",  "base/plane4.safetensors",
    "base/plane8.safetensors", "table/manifest.json",      "table/scales.safetensors", "table/plane2.safetensors",
    "table/plane4.safetensors", "table/plane8.safetensors", "table/tail.safetensors"};
enum { FILES = sizeof NAMES / sizeof *NAMES, NEEDED = FILES - 1, /* a tail is in some tables only */ MAX_EVENTS = 1024, MAX_K = 1000 };

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "rank: %s: %s\n", what, why);
    exit(1);
}

static void need(int error, const char *what)
{
    if (error != OSSIA_OK)
        fail(what, ossia_error(error));
}

static ossia_file map(const char *folder, const char *name)
{
    char path[4096];
    struct stat info;
    snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &info) != 0)
        fail(path, "can't be read");
    void *data = info.st_size ? mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, file, 0) : (void *)"";
    if (data == MAP_FAILED)
        fail(path, "can't be mapped");
    close(file);
    return (ossia_file){name, data, (size_t)info.st_size};
}

static int is_there(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, R_OK) == 0;
}

static void *memory(size_t bytes)
{
    void *block = aligned_alloc(OSSIA_ALIGN, (bytes + OSSIA_ALIGN - 1) / OSSIA_ALIGN * OSSIA_ALIGN);
    if (!block)
        fail("memory", "there is none");
    return block;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* What the process holds beyond mapped files, in KB: the engine's three blocks, the stack, and what the C library needs. */
static long own_kb(void)
{
    char line[256];
    long kb = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Anonymous: %ld", &kb) == 1)
            break;
    if (file)
        fclose(file);
    return kb;
}

int main(int count, char **arguments)
{
    const char *payload_path = NULL;
    long times = 0, k = 10;
    for (int option; (option = getopt(count, arguments, "p:t:k:")) != -1;) {
        if (option == 'p')
            payload_path = optarg;
        else if (option == 't')
            times = strtol(optarg, NULL, 10);
        else if (option == 'k')
            k = strtol(optarg, NULL, 10);
        else
            return 2;
    }
    if (optind >= count || k < 1 || k > MAX_K)
        fail("usage", "rank BASE [-p PAYLOAD] [-t TIMES] [-k K] HISTORY-ROW ...");

    double started = now();
    ossia_file files[FILES];
    size_t given = 0;
    for (; given < FILES && (given < NEEDED || is_there(arguments[optind], NAMES[given])); given++)
        files[given] = map(arguments[optind], NAMES[given]);
    size_t model_bytes = 0, weights_bytes = 0, scratch_bytes = 0;
    ossia_open(files, given, 0, NULL, &model_bytes);
    ossia_model *model = memory(model_bytes ? model_bytes : 1);
    need(ossia_open(files, given, 0, model, &model_bytes), arguments[optind]);
    double opened = now();

    ossia_file payload = {0};
    if (payload_path)
        payload = map("", payload_path);
    ossia_fold(model, NULL, 0, 0, NULL, &weights_bytes);
    ossia_weights *weights = memory(weights_bytes);
    need(ossia_fold(model, payload.data, payload.size, OSSIA_UNSIGNED, weights, &weights_bytes), "payload");
    double folded = now();

    ossia_prepare(model, NULL, &scratch_bytes);
    ossia_scratch *scratch = memory(scratch_bytes);
    need(ossia_prepare(model, scratch, &scratch_bytes), "scratch");
    static int32_t history[MAX_EVENTS], best[MAX_K];
    static float scores[MAX_K];
    size_t events = 0, shown = 0;
    for (int i = optind + 1; i < count && events < MAX_EVENTS; i++)
        history[events++] = (int32_t)strtol(arguments[i], NULL, 10);
    need(ossia_top(model, weights, scratch, history, events, NULL, 0, OSSIA_UNSEEN, (size_t)k, best, scores, &shown),
         "ranking");
    double ranked = now();
    for (size_t i = 0; i < shown; i++)
        printf("%d %.6g\n", best[i], (double)scores[i]);
    fprintf(stderr,
            "rank: %s; open %.0f us, fold %.1f us, first ranking %.0f us; memory %zu + %zu + %zu bytes, in all %ld KB\n",
            ossia_path(NULL), opened - started, folded - opened, ranked - folded, model_bytes, weights_bytes, scratch_bytes,
            own_kb());

    double fastest[3] = {1e30, 1e30, 1e30};
    static int32_t hundred[100];
    static float hundred_scores[100];
    ossia_shape shape;
    ossia_shape_of(model, &shape);
    for (int i = 0; i < 100; i++)
        hundred[i] = (int32_t)((uint64_t)i * 2654435761u % shape.items);
    for (long i = 0; i < times; i++) {
        double t0 = now();
        need(ossia_fold(model, payload.data, payload.size, OSSIA_UNSIGNED, weights, &weights_bytes), "payload");
        double t1 = now();
        need(ossia_score(model, weights, scratch, history, events, hundred, 100, NULL, hundred_scores), "scores");
        double t2 = now();
        need(ossia_top(model, weights, scratch, history, events, NULL, 0, OSSIA_UNSEEN, (size_t)k, best, scores, &shown),
             "ranking");
        double t3 = now(), took[3] = {t1 - t0, t2 - t1, t3 - t2};
        for (int j = 0; j < 3; j++)
            fastest[j] = took[j] < fastest[j] ? took[j] : fastest[j];
    }
    if (times)
        fprintf(stderr, "rank: at best of %ld: fold %.1f us, 100 candidates %.1f us, all %u rows %.1f us\n", times, fastest[0],
                fastest[1], shape.items, fastest[2]);
    return 0;
}
