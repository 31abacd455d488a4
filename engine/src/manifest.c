/* The two manifests, read as docs/base-format.md says: every field once, none unknown, each held to what the backbone is made
 * of (backbone.c). And the files that they name, each held to its size and digest. */
#include "engine.h"
SMALL

static void hexadecimal(json *from, uint8_t *bytes, size_t count)
{
    bytes_view text = json_text(from);
    if (text.size != 2 * count)
        from->bad = true;
    for (size_t i = 0; i < 2 * count && !from->bad; i++) {
        uint8_t c = text.data[i], value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
        from->bad = value == 16;
        bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | value);
    }
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
    entry told;
    unsigned seen = 0;
    memset(&told, 0, sizeof told);
    for (int field; (field = json_field(text, "bytes\0sha256\0", &seen)) >= 0;)
        if (field == 0)
            told.bytes = json_whole(text);
        else
            hexadecimal(text, told.sha256, 32);
    return told;
}

static bytes_view skip_files(json *text) /* reads them all, and answers where they stand */
{
    const uint8_t *start = text->at;
    for (uint32_t count = 0; json_next(text, '{', &count);)
        json_key(text), read_entry(text);
    return (bytes_view){start, (size_t)(text->at - start)};
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

/* Finds the file `path` of those given, and holds it to its entry in a manifest's files, which leaves out the first `folder`
 * letters. */
int find_file(bytes_view files, const char *path, uint32_t folder, const shelf *from, bytes_view *file)
{
    json text = json_of(files);
    for (uint32_t count = 0; json_next(&text, '{', &count);) {
        bytes_view key = json_key(&text);
        entry told = read_entry(&text);
        uint8_t digest[32];
        if (text.bad || !is_text(key, path + folder))
            continue;
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

/* Reads the sizes, and answers whether the engine runs them: not one that is unknown here. */
static bool read_shape(json *text, ossia_model *model)
{
    unsigned seen = 0;
    bool known = true;
    for (uint32_t count = 0; json_next(text, '{', &count);) {
        uint32_t *size = size_named(model, json_key(text), &seen), told = small(text);
        if (size)
            *size = told;
        else
            known = false;
    }
    if (!sizes_complete(model, seen))
        text->bad = true;
    return text->bad || (known && supported(model));
}

static void read_slot(json *text, const part *told)
{
    unsigned seen = 0;
    for (int field; (field = json_field(text, "name\0channels\0inputs\0gate\0", &seen)) >= 0;)
        if (field == 0)
            json_is(text, told->name);
        else if (field == 3 && told->gate[0])
            json_is(text, told->gate);
        else if (field == 3)
            json_null(text);
        else if (json_whole(text) != (field == 1 ? told->channels : told->inputs))
            text->bad = true;
}

static void read_slots(json *text, const ossia_model *model)
{
    uint32_t count = 0;
    part told;
    while (json_next(text, '[', &count) && count <= model->slots) {
        describe_part(model, count - 1, &told);
        read_slot(text, &told);
    }
    if (count != model->slots)
        text->bad = true;
}

static void read_gates(json *text, const ossia_model *model)
{
    uint32_t count = 0;
    char name[NAME];
    while (json_next(text, '[', &count) && count <= model->shape.gates) {
        name_gate(model, count - 1, name);
        json_is(text, name);
    }
    if (count != model->shape.gates)
        text->bad = true;
}

enum { KIND, VERSION, FILES }; /* fields of both */
static void read_common(json *text, int field, const char *kind, manifest *told)
{
    if (field == KIND)
        json_is(text, kind);
    else if (field == FILES)
        told->files = skip_files(text);
    else if (json_whole(text) != 1)
        text->bad = true;
}

enum { BACKBONE = 3, SHAPE, SLOTS, GATES, CLIP, TABLE, BASIS };
static const char OF_BASE[] = "kind\0version\0files\0backbone\0shape\0slots\0gates\0profile_clip\0table\0?basis\0";

/* The backbone comes before its shape, and the shape before slots and gates, as every writer puts them. */
static void read_base_field(json *text, int field, manifest *told, ossia_model *model)
{
    switch (field) {
    case BACKBONE: told->unsupported = !kind_named(json_text(text), &model->kind); break;
    case SHAPE:
        told->unsupported = !read_shape(text, model);
        count_parts(model);
        break;
    case SLOTS: read_slots(text, model); break;
    case GATES: read_gates(text, model); break;
    case CLIP: model->profile_clip = (float)json_real(text); break;
    case TABLE: hexadecimal(text, told->table_id, 32); break;
    case BASIS: model->basis = small(text); break;
    default: read_common(text, field, "ossia-base", told);
    }
}

int read_base_manifest(bytes_view file, manifest *told, ossia_model *model)
{
    json text = json_of(file);
    unsigned seen = 0;
    for (int field; (field = json_field(&text, OF_BASE, &seen)) >= 0;) {
        unsigned first = field == SHAPE ? 1 << BACKBONE : field == SLOTS || field == GATES ? 1 << SHAPE : 0;
        if ((seen & first) != first)
            return OSSIA_MANIFEST;
        read_base_field(&text, field, told, model);
        if (told->unsupported)
            return OSSIA_UNSUPPORTED;
    }
    return json_done(&text) && model->basis <= MAX_RANK ? OSSIA_OK : OSSIA_MANIFEST;
}

/* ---- the table's manifest ---- */

enum { ROWS = 3, DIM, EXTENDS, TAIL };
static const char OF_TABLE[] = "kind\0version\0files\0rows\0dim\0extends\0?tail\0";

static void read_older(json *text, older_table *older)
{
    unsigned seen = 0;
    for (int field; (field = json_field(text, "table\0rows\0", &seen)) >= 0;)
        if (field == 0)
            hexadecimal(text, older->id, sizeof older->id);
        else
            older->rows = small(text);
}

static void read_extends(json *text, ossia_model *model)
{
    while (json_next(text, '[', &model->extends))
        if (model->extends > MAX_EXTENDS) {
            text->bad = true;
            return;
        } else
            read_older(text, &model->older[model->extends - 1]);
}

static void read_tail_shape(json *text, tail *t)
{
    unsigned seen = 0;
    for (int field; (field = json_field(text, "parts\0words\0", &seen)) >= 0;)
        *(field ? &t->words : &t->parts) = small(text);
}

int read_table_manifest(bytes_view file, manifest *told, ossia_model *model)
{
    json text = json_of(file);
    unsigned seen = 0;
    for (int field; (field = json_field(&text, OF_TABLE, &seen)) >= 0;)
        switch (field) {
        case ROWS: told->rows = small(&text); break;
        case DIM: told->dim = small(&text); break;
        case EXTENDS: read_extends(&text, model); break;
        case TAIL: read_tail_shape(&text, &model->tail); break;
        default: read_common(&text, field, "ossia-table", told);
        }
    if (!json_done(&text) || (model->tail.parts && (told->dim % model->tail.parts || model->tail.words > MAX_WORDS)))
        return OSSIA_MANIFEST;
    for (uint32_t i = 0; i < model->extends; i++)
        if (model->older[i].rows > told->rows)
            return OSSIA_MANIFEST;
    return OSSIA_OK;
}
