/* The two manifests, read as docs/base-format.md says: every field once, none unknown, each held to what the backbone is made
 * of (backbone.c). And the files that they name, each held to its size and digest. */
#include "engine.h"
SMALL

static bool hexadecimal(bytes_view text, uint8_t *bytes, size_t count)
{
    if (text.size != 2 * count)
        return false;
    for (size_t i = 0; i < 2 * count; i++) {
        uint8_t c = text.data[i], value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
        if (value == 16)
            return false;
        bytes[i / 2] = i % 2 ? bytes[i / 2] | value : (uint8_t)(value << 4);
    }
    return true;
}

static uint32_t small(json *text) /* a size: at least 1, and far below 2^32 */
{
    uint64_t value = json_whole(text);
    if (value < 1 || value > MAX_ITEMS)
        text->bad = true;
    return text->bad ? 1 : (uint32_t)value;
}

/* ---- "files": {"name": {"bytes": 1, "sha256": "…"}, …} ---- */

typedef struct {
    uint64_t bytes;
    uint8_t sha256[32];
} entry;

static entry read_entry(json *text)
{
    entry told = {0};
    unsigned seen = 0;
    bool first = true;
    json_open(text, '{');
    while (json_more(text, '}', &first)) {
        bytes_view field = json_key(text);
        if (is_text(field, "bytes"))
            told.bytes = json_whole(text), seen |= 1;
        else if (is_text(field, "sha256") && hexadecimal(json_text(text), told.sha256, 32))
            seen |= 2;
        else
            text->bad = true;
    }
    if (seen != 3)
        text->bad = true;
    return told;
}

static bytes_view skip_files(json *text) /* reads them all, and answers where they stand */
{
    bytes_view whole = {text->at, 0};
    bool first = true;
    json_open(text, '{');
    while (json_more(text, '}', &first))
        json_key(text), read_entry(text);
    whole.size = (size_t)(text->at - whole.data);
    return whole;
}

bytes_view given(const shelf *from, const char *name)
{
    for (size_t i = 0; i < from->count; i++)
        if (from->files[i].name && from->files[i].data && !strcmp(from->files[i].name, name))
            return (bytes_view){from->files[i].data, from->files[i].size};
    return (bytes_view){NULL, 0};
}

void hash_file(bytes_view file, uint8_t digest[32])
{
    sha256 hash;
    sha256_start(&hash);
    sha256_add(&hash, file.data, file.size);
    sha256_end(&hash, digest);
}

/* Finds the file `folder` + `name` of those given, and holds it to the entry `name` of a manifest's files. */
int find_file(bytes_view files, const char *folder, const char *name, const shelf *from, bytes_view *file)
{
    json text = json_of(files);
    bool first = true;
    json_open(&text, '{');
    while (json_more(&text, '}', &first)) {
        bytes_view key = json_key(&text);
        entry told = read_entry(&text);
        uint8_t digest[32];
        char path[NAME];
        if (text.bad || !is_text(key, name))
            continue;
        memcpy(path, folder, strlen(folder));
        memcpy(path + strlen(folder), name, strlen(name) + 1);
        *file = given(from, path);
        if (!file->data)
            return OSSIA_MISSING;
        if (file->size != told.bytes)
            return OSSIA_DIGEST;
        if (from->trusted)
            return OSSIA_OK;
        hash_file(*file, digest);
        return memcmp(digest, told.sha256, 32) ? OSSIA_DIGEST : OSSIA_OK;
    }
    return OSSIA_MISSING;
}

/* ---- the base's manifest ---- */

static void read_shape(json *text, ossia_model *model)
{
    unsigned seen = 0;
    bool first = true;
    json_open(text, '{');
    while (json_more(text, '}', &first)) {
        uint32_t *size = size_named(model, json_key(text), &seen);
        if (size)
            *size = small(text);
        else
            text->bad = true;
    }
    if (!sizes_complete(model, seen))
        text->bad = true;
}

static void read_slot(json *text, const part *told)
{
    unsigned seen = 0;
    bool first = true;
    json_open(text, '{');
    while (json_more(text, '}', &first)) {
        bytes_view key = json_key(text);
        bool right = false;
        if (is_text(key, "name"))
            right = is_text(json_text(text), told->name), seen |= 1;
        else if (is_text(key, "channels"))
            right = json_whole(text) == told->channels, seen |= 2;
        else if (is_text(key, "inputs"))
            right = json_whole(text) == told->inputs, seen |= 4;
        else if (is_text(key, "gate"))
            right = told->gate[0] ? is_text(json_text(text), told->gate) : json_null(text), seen |= 8;
        if (!right)
            text->bad = true;
    }
    if (seen != 15)
        text->bad = true;
}

static void read_slots(json *text, const ossia_model *model)
{
    uint32_t count = 0;
    part told;
    bool first = true;
    json_open(text, '[');
    for (; json_more(text, ']', &first) && count < model->slots; count++) {
        describe_part(model, count, &told);
        read_slot(text, &told);
    }
    if (count != model->slots)
        text->bad = true;
}

static void read_gates(json *text, const ossia_model *model)
{
    uint32_t count = 0;
    char name[NAME];
    bool first = true;
    json_open(text, '[');
    for (; json_more(text, ']', &first) && count < model->shape.gates; count++) {
        name_gate(model, count, name);
        if (!is_text(json_text(text), name))
            text->bad = true;
    }
    if (count != model->shape.gates)
        text->bad = true;
}

enum { KIND = 1, VERSION = 2, FILES = 4 }; /* fields of both */
enum { BACKBONE = 8, SHAPE = 16, SLOTS = 32, GATES = 64, CLIP = 128, TABLE = 256, OF_BASE = 511 };
enum { ROWS = 8, DIM = 16, EXTENDS = 32, OF_TABLE = 63 };

/* Reads one field, and answers which; 0 for one that is unknown or not as it must be. `told` is all zeros before the first. The
 * backbone comes before its shape, and the shape before slots and gates, as every writer puts them. */
static unsigned read_base_field(json *text, bytes_view key, unsigned seen, manifest *told, ossia_model *model)
{
    if (is_text(key, "kind"))
        return is_text(json_text(text), "ossia-base") ? KIND : 0;
    if (is_text(key, "version"))
        return json_whole(text) == 1 ? VERSION : 0;
    if (is_text(key, "files"))
        return told->files = skip_files(text), FILES;
    if (is_text(key, "backbone"))
        return told->unsupported = !kind_named(json_text(text), &model->kind), BACKBONE;
    if (is_text(key, "shape") && seen & BACKBONE) {
        read_shape(text, model);
        told->unsupported = !text->bad && !supported(model);
        count_parts(model);
        return SHAPE;
    }
    if (is_text(key, "slots") && seen & SHAPE)
        return read_slots(text, model), SLOTS;
    if (is_text(key, "gates") && seen & SHAPE)
        return read_gates(text, model), GATES;
    if (is_text(key, "profile_clip"))
        return model->profile_clip = (float)json_real(text), CLIP;
    if (is_text(key, "table"))
        return hexadecimal(json_text(text), told->table_id, 32) ? TABLE : 0;
    return 0;
}

int read_base_manifest(bytes_view file, manifest *told, ossia_model *model)
{
    unsigned seen = 0;
    bool first = true;
    json text = json_of(file);
    json_open(&text, '{');
    while (json_more(&text, '}', &first)) {
        unsigned field = read_base_field(&text, json_key(&text), seen, told, model);
        if (!field || seen & field || text.bad)
            return OSSIA_MANIFEST;
        if (told->unsupported)
            return OSSIA_UNSUPPORTED;
        seen |= field;
    }
    return json_done(&text) && seen == OF_BASE ? OSSIA_OK : OSSIA_MANIFEST;
}

/* ---- the table's manifest ---- */

static void read_older(json *text, older_table *older)
{
    bool first = true, named = false;
    older->rows = 0;
    json_open(text, '{');
    while (json_more(text, '}', &first)) {
        bytes_view key = json_key(text);
        if (is_text(key, "table"))
            named = hexadecimal(json_text(text), older->id, sizeof older->id);
        else if (is_text(key, "rows"))
            older->rows = small(text);
        else
            text->bad = true;
    }
    if (!named || !older->rows)
        text->bad = true;
}

static void read_extends(json *text, ossia_model *model)
{
    bool first = true;
    json_open(text, '[');
    while (json_more(text, ']', &first)) {
        if (model->extends == MAX_EXTENDS) {
            text->bad = true;
            return;
        }
        read_older(text, &model->older[model->extends++]);
    }
}

static unsigned read_table_field(json *text, bytes_view key, manifest *told, ossia_model *model)
{
    if (is_text(key, "kind"))
        return is_text(json_text(text), "ossia-table") ? KIND : 0;
    if (is_text(key, "version"))
        return json_whole(text) == 1 ? VERSION : 0;
    if (is_text(key, "files"))
        return told->files = skip_files(text), FILES;
    if (is_text(key, "rows"))
        return told->rows = small(text), ROWS;
    if (is_text(key, "dim"))
        return told->dim = small(text), DIM;
    if (is_text(key, "extends"))
        return read_extends(text, model), EXTENDS;
    return 0;
}

int read_table_manifest(bytes_view file, manifest *told, ossia_model *model)
{
    unsigned seen = 0;
    bool first = true;
    json text = json_of(file);
    json_open(&text, '{');
    while (json_more(&text, '}', &first)) {
        unsigned field = read_table_field(&text, json_key(&text), told, model);
        if (!field || seen & field || text.bad)
            return OSSIA_MANIFEST;
        seen |= field;
    }
    for (uint32_t i = 0; i < model->extends; i++)
        if (model->older[i].rows > told->rows)
            return OSSIA_MANIFEST;
    return json_done(&text) && seen == OF_TABLE ? OSSIA_OK : OSSIA_MANIFEST;
}
