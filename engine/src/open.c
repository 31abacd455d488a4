/* Opening a base: the manifests are read as docs/base-format.md says, every other file is held to them, and the slots are laid
 * out as panels, so that folding a payload is one pass over them. Nothing is trusted: every length is checked against the
 * manifest, every offset against its file. */
#include "engine.h"

static const uint64_t MODEL_MAGIC = 0x6c65646f4d41534f; /* "OSAModel" */

typedef struct { /* the files given, and what is known while they are read */
    const ossia_file *files;
    size_t count;
    bool trusted;
} shelf;

typedef struct { /* one manifest as read */
    json text;
    ossia_shape shape;
    float profile_clip;
    uint8_t table_id[32];
    uint32_t extends;
    uint64_t rows, dim;
    bytes_view files; /* the object under "files", read again when a file is wanted */
} manifest;

static bytes_view given(const shelf *from, const char *name)
{
    for (size_t i = 0; i < from->count; i++)
        if (from->files[i].name && from->files[i].data && !strcmp(from->files[i].name, name))
            return (bytes_view){from->files[i].data, from->files[i].size};
    return (bytes_view){NULL, 0};
}

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

/* "files": {"name": {"bytes": 1, "sha256": "…"}, …}; with a name, holds that file to its entry. */
static int read_files(json *text, const char *prefix, const char *name, const shelf *from, bytes_view *file)
{
    int answer = name ? OSSIA_MISSING : OSSIA_OK;
    bool first = true;
    json_open(text, '{');
    while (json_more(text, '}', &first)) {
        bytes_view key = json_key(text);
        uint64_t size = 0;
        uint8_t digest[32] = {0}, real[32];
        bool first_field = true, sized = false, hashed = false;
        json_open(text, '{');
        while (json_more(text, '}', &first_field)) {
            bytes_view field = json_key(text);
            if (is_text(field, "bytes"))
                size = json_whole(text), sized = true;
            else if (is_text(field, "sha256"))
                hashed = hexadecimal(json_text(text), digest, 32);
            else
                text->bad = true;
        }
        if (text->bad || !sized || !hashed)
            return OSSIA_MANIFEST;
        if (!name || !is_text(key, name))
            continue;
        char path[64] = {0};
        memcpy(path, prefix, strlen(prefix));
        memcpy(path + strlen(prefix), name, strlen(name));
        *file = given(from, path);
        if (!file->data)
            return OSSIA_MISSING;
        if (file->size != size)
            return OSSIA_DIGEST;
        if (!from->trusted) {
            sha256 hash;
            sha256_start(&hash);
            sha256_add(&hash, file->data, file->size);
            sha256_end(&hash, real);
            if (memcmp(real, digest, 32))
                return OSSIA_DIGEST;
        }
        answer = OSSIA_OK;
    }
    return text->bad ? OSSIA_MANIFEST : answer;
}

static int want(const manifest *told, const char *prefix, const char *name, const shelf *from, bytes_view *file)
{
    json text = json_of(told->files);
    return read_files(&text, prefix, name, from, file);
}

/* ---- the base's manifest ---- */

static uint32_t small(json *text) /* a size: at least 1, and far below 2^32 */
{
    uint64_t value = json_whole(text);
    if (value < 1 || value > MAX_ITEMS)
        text->bad = true;
    return text->bad ? 1 : (uint32_t)value;
}

static void read_shape(json *text, ossia_shape *shape)
{
    static const char *const names[] = {"items", "dim", "length", "blocks", "heads", "hidden"};
    uint32_t *sizes[] = {&shape->items, &shape->dim, &shape->length, &shape->blocks, &shape->heads, &shape->hidden};
    unsigned seen = 0;
    bool first = true;
    json_open(text, '{');
    while (json_more(text, '}', &first)) {
        bytes_view key = json_key(text);
        int which = 0;
        while (which < 6 && !is_text(key, names[which]))
            which++;
        if (which == 6 || seen & 1u << which)
            text->bad = true;
        else
            *sizes[which] = small(text), seen |= 1u << which;
    }
    if (seen != 63)
        text->bad = true;
}

static const char *const PARTS[BLOCK_SLOTS] = {"query", "key", "value", "output", "expand", "contract"};

/* Writes "blocks.BLOCK.PART" and what follows. */
static const char *name_of(char name[64], uint32_t block, const char *part, const char *rest)
{
    char *at = name;
    memcpy(at, "blocks.", 7), at += 7;
    if (block >= 10)
        *at++ = (char)('0' + block / 10);
    *at++ = (char)('0' + block % 10);
    *at++ = '.';
    memcpy(at, part, strlen(part)), at += strlen(part);
    memcpy(at, rest, strlen(rest) + 1);
    return name;
}

static void read_slot(json *text, const ossia_shape *shape, uint32_t index)
{
    uint32_t part = index % BLOCK_SLOTS, block = index / BLOCK_SLOTS, seen = 0;
    uint32_t channels = part == EXPAND ? shape->hidden : shape->dim, inputs = part == CONTRACT ? shape->hidden : shape->dim;
    char name[64];
    bool first = true;
    json_open(text, '{');
    while (json_more(text, '}', &first)) {
        bytes_view key = json_key(text);
        bool right = false;
        if (is_text(key, "name"))
            right = is_text(json_text(text), name_of(name, block, PARTS[part], "")), seen |= 1;
        else if (is_text(key, "channels"))
            right = json_whole(text) == channels, seen |= 2;
        else if (is_text(key, "inputs"))
            right = json_whole(text) == inputs, seen |= 4;
        else if (is_text(key, "gate"))
            right = is_text(json_text(text), name_of(name, block, part < EXPAND ? "attention" : "feed_forward", "")), seen |= 8;
        if (!right)
            text->bad = true;
    }
    if (seen != 15)
        text->bad = true;
}

static void read_slots(json *text, const ossia_shape *shape)
{
    uint32_t count = 0;
    bool first = true;
    json_open(text, '[');
    while (json_more(text, ']', &first) && count < BLOCK_SLOTS * shape->blocks)
        read_slot(text, shape, count++);
    if (count != BLOCK_SLOTS * shape->blocks)
        text->bad = true;
}

static void read_gates(json *text, const ossia_shape *shape)
{
    uint32_t count = 0;
    char name[64];
    bool first = true;
    json_open(text, '[');
    for (; json_more(text, ']', &first); count++)
        if (count >= 2 * shape->blocks || !is_text(json_text(text), name_of(name, count / 2, count % 2 ? "feed_forward" : "attention", "")))
            text->bad = true;
    if (count != 2 * shape->blocks)
        text->bad = true;
}

static bool supported(const ossia_shape *shape)
{
    return shape->items <= MAX_ITEMS && shape->dim <= MAX_DIM && shape->length <= MAX_LENGTH && shape->blocks <= MAX_BLOCKS &&
           shape->hidden <= MAX_HIDDEN && shape->heads <= MAX_HEADS && shape->dim % shape->heads == 0;
}

/* Slots and gates are held to the shape, so it comes before them, as every writer puts it. */
static int read_base_manifest(bytes_view file, manifest *read)
{
    enum { KIND = 1, VERSION = 2, BACKBONE = 4, SHAPE = 8, SLOTS = 16, GATES = 32, CLIP = 64, TABLE = 128, FILES = 256 };
    unsigned seen = 0;
    bool first = true;
    json text = json_of(file);
    json_open(&text, '{');
    while (json_more(&text, '}', &first)) {
        bytes_view key = json_key(&text);
        unsigned field = 0;
        if (is_text(key, "kind")) {
            field = is_text(json_text(&text), "ossia-base") ? KIND : 0;
        } else if (is_text(key, "version")) {
            field = json_whole(&text) == 1 ? VERSION : 0;
        } else if (is_text(key, "backbone")) {
            if (!is_text(json_text(&text), "sasrec"))
                return text.bad ? OSSIA_MANIFEST : OSSIA_UNSUPPORTED;
            field = BACKBONE;
        } else if (is_text(key, "shape")) {
            field = SHAPE;
            read_shape(&text, &read->shape);
            if (!text.bad && !supported(&read->shape))
                return OSSIA_UNSUPPORTED;
        } else if (is_text(key, "slots")) {
            field = seen & SHAPE ? SLOTS : 0;
            read_slots(&text, &read->shape);
        } else if (is_text(key, "gates")) {
            field = seen & SHAPE ? GATES : 0;
            read_gates(&text, &read->shape);
        } else if (is_text(key, "profile_clip")) {
            field = CLIP;
            read->profile_clip = (float)json_real(&text);
        } else if (is_text(key, "table")) {
            field = hexadecimal(json_text(&text), read->table_id, 32) ? TABLE : 0;
        } else if (is_text(key, "files")) {
            field = FILES;
            read->files.data = text.at;
            read_files(&text, "", NULL, NULL, NULL);
            read->files.size = (size_t)(text.at - read->files.data);
        }
        if (!field || seen & field || text.bad)
            return OSSIA_MANIFEST;
        seen |= field;
    }
    return json_done(&text) && seen == 511 ? OSSIA_OK : OSSIA_MANIFEST;
}

/* ---- the table's manifest ---- */

static void read_extends(json *text, ossia_model *model, uint32_t *count)
{
    bool first = true;
    json_open(text, '[');
    for (; json_more(text, ']', &first); ++*count) {
        bool first_field = true, named = false;
        uint8_t id[16] = {0};
        uint32_t rows = 0;
        json_open(text, '{');
        while (json_more(text, '}', &first_field)) {
            bytes_view key = json_key(text);
            if (is_text(key, "table"))
                named = hexadecimal(json_text(text), id, 16);
            else if (is_text(key, "rows"))
                rows = small(text);
            else
                text->bad = true;
        }
        if (!named || !rows || *count >= MAX_EXTENDS)
            text->bad = true;
        if (text->bad)
            return;
        memcpy(model->older[*count].id, id, 16);
        model->older[*count].rows = rows;
    }
}

static int read_table_manifest(bytes_view file, manifest *read, ossia_model *model)
{
    enum { KIND = 1, VERSION = 2, ROWS = 4, DIM = 8, EXTENDS = 16, FILES = 32 };
    unsigned seen = 0;
    bool first = true;
    json text = json_of(file);
    json_open(&text, '{');
    while (json_more(&text, '}', &first)) {
        bytes_view key = json_key(&text);
        unsigned field = 0;
        if (is_text(key, "kind")) {
            field = is_text(json_text(&text), "ossia-table") ? KIND : 0;
        } else if (is_text(key, "version")) {
            field = json_whole(&text) == 1 ? VERSION : 0;
        } else if (is_text(key, "rows")) {
            field = ROWS;
            read->rows = small(&text);
        } else if (is_text(key, "dim")) {
            field = DIM;
            read->dim = small(&text);
        } else if (is_text(key, "extends")) {
            field = EXTENDS;
            read_extends(&text, model, &model->extends);
        } else if (is_text(key, "files")) {
            field = FILES;
            read->files.data = text.at;
            read_files(&text, "", NULL, NULL, NULL);
            read->files.size = (size_t)(text.at - read->files.data);
        }
        if (!field || seen & field || text.bad)
            return OSSIA_MANIFEST;
        seen |= field;
    }
    for (uint32_t i = 0; i < model->extends; i++)
        if (model->older[i].rows > read->rows)
            return OSSIA_MANIFEST;
    return json_done(&text) && seen == 63 ? OSSIA_OK : OSSIA_MANIFEST;
}

/* ---- what lies where: in the model's memory, and later in the weights' ---- */

static void *place(uint8_t *memory, size_t *at, size_t bytes) /* with memory NULL only counts */
{
    void *here = memory ? memory + *at : NULL;
    *at += pad_to(bytes, OSSIA_ALIGN);
    return here;
}

static float *place_floats(uint8_t *memory, size_t *at, size_t rows, size_t columns)
{
    return place(memory, at, rows * pad_to(columns, 16) * sizeof(float));
}

static size_t panel_bytes(uint32_t channels, uint32_t inputs) { return pad_to(channels, 16) * pad_to(inputs, 4); }

static size_t lay_out(ossia_model *model, uint8_t *memory)
{
    const ossia_shape *shape = &model->shape;
    size_t at = pad_to(sizeof *model, OSSIA_ALIGN), folded = pad_to(sizeof(ossia_weights), OSSIA_ALIGN);
    uint32_t code = 0;
    model->slots = BLOCK_SLOTS * shape->blocks;
    for (uint32_t i = 0; i < model->slots; i++) {
        slot *s = &model->slot[i];
        s->channels = i % BLOCK_SLOTS == EXPAND ? shape->hidden : shape->dim;
        s->inputs = i % BLOCK_SLOTS == CONTRACT ? shape->hidden : shape->dim;
        s->code = code, code += s->channels;
        s->master = place(memory, &at, panel_bytes(s->channels, s->inputs));
        s->scales = place_floats(memory, &at, 3, s->channels);
        s->bias = place_floats(memory, &at, 1, s->channels);
        s->at = folded;
        folded += panel_bytes(s->channels, s->inputs) + 2 * sizeof(float) * pad_to(s->channels, 16);
        folded = pad_to(folded, OSSIA_ALIGN);
    }
    for (uint32_t i = 0; i <= shape->blocks; i++)
        for (int which = 0; which < (i < shape->blocks ? 2 : 1); which++) {
            norm *n = i == shape->blocks ? &model->last_norm : which ? &model->feed_forward_norm[i] : &model->attention_norm[i];
            n->weight = place_floats(memory, &at, 1, shape->dim);
            n->bias = place_floats(memory, &at, 1, shape->dim);
        }
    model->positions = place_floats(memory, &at, shape->length, shape->dim);
    model->mask = place_floats(memory, &at, 1, shape->dim);
    model->popularity_rank = place(memory, &at, shape->items * sizeof(uint32_t));
    model->shape.gates = 2 * shape->blocks;
    model->shape.channels = code;
    model->widths_at = folded;
    model->weights_bytes = folded + pad_to(shape->items, OSSIA_ALIGN);
    return at;
}

/* ---- tensors ---- */

static bool copy_floats(bytes_view file, const char *name, uint64_t rows, uint64_t columns, float *to)
{
    bytes_view tensor;
    size_t stride = pad_to(columns, 16);
    tensor_shape listed = {F32, columns, 1}, shape = {F32, rows, columns};
    if (!find_tensor(file, name, rows ? shape : listed, &tensor))
        return false;
    for (size_t row = 0; row < (rows ? rows : 1); row++) {
        memset(to + row * stride, 0, stride * sizeof(float));
        memcpy(to + row * stride, tensor.data + row * columns * sizeof(float), columns * sizeof(float));
    }
    return true;
}

/* Joins a slot's planes into a panel of u = q + 128. */
static bool copy_slot(const bytes_view planes[3], const char *name, slot *s)
{
    size_t quarter = pad_to(s->inputs, 4) / 4, half = pad_to(s->inputs, 2) / 2, groups = quarter;
    bytes_view high, middle, low;
    if (!find_tensor(planes[0], name, (tensor_shape){U8, s->channels, quarter}, &high) ||
        !find_tensor(planes[1], name, (tensor_shape){U8, s->channels, quarter}, &middle) ||
        !find_tensor(planes[2], name, (tensor_shape){U8, s->channels, half}, &low))
        return false;
    memset(s->master, 128, panel_bytes(s->channels, s->inputs));
    for (size_t c = 0; c < s->channels; c++)
        for (size_t i = 0; i < s->inputs; i++) {
            unsigned two = high.data[c * quarter + i / 4] >> i % 4 * 2 & 3, four = middle.data[c * quarter + i / 4] >> i % 4 * 2 & 3;
            unsigned eight = low.data[c * half + i / 2] >> i % 2 * 4 & 15;
            s->master[(c / 16 * groups + i / 4) * 64 + c % 16 * 4 + i % 4] = (uint8_t)(two << 6 | four << 4 | eight);
        }
    return true;
}

static bool copy_norm(bytes_view floats, uint32_t block, const char *part, uint32_t dim, norm *n)
{
    char name[64];
    return copy_floats(floats, part ? name_of(name, block, part, "_norm.weight") : "norm.weight", 0, dim, n->weight) &&
           copy_floats(floats, part ? name_of(name, block, part, "_norm.bias") : "norm.bias", 0, dim, n->bias);
}

COLD static bool read_tensors(ossia_model *model, bytes_view floats, const bytes_view planes[3])
{
    uint32_t dim = model->shape.dim;
    char name[64];
    for (uint32_t i = 0; i < model->slots; i++) {
        slot *s = &model->slot[i];
        const char *part = PARTS[i % BLOCK_SLOTS];
        uint32_t block = i / BLOCK_SLOTS;
        if (!copy_slot(planes, name_of(name, block, part, ""), s) ||
            !copy_floats(floats, name_of(name, block, part, ".scales"), 3, s->channels, s->scales) ||
            !copy_floats(floats, name_of(name, block, part, ".bias"), 0, s->channels, s->bias))
            return false;
    }
    for (uint32_t i = 0; i < model->shape.blocks; i++)
        if (!copy_norm(floats, i, "attention", dim, &model->attention_norm[i]) ||
            !copy_norm(floats, i, "feed_forward", dim, &model->feed_forward_norm[i]))
            return false;
    for (size_t i = 0; i < pad_to(dim, 16); i++)
        model->mask[i] = i < dim;
    return copy_norm(floats, 0, NULL, dim, &model->last_norm) &&
           copy_floats(floats, "positions.weight", model->shape.length, dim, model->positions);
}

COLD static bool read_table(ossia_model *model, const bytes_view planes[3], bytes_view scales)
{
    uint32_t items = model->shape.items, dim = model->shape.dim;
    uint64_t quarter = pad_to(dim, 4) / 4, half = pad_to(dim, 2) / 2;
    bytes_view high, middle, low, scale, popularity;
    if (!find_tensor(planes[0], "rows", (tensor_shape){U8, items, quarter}, &high) ||
        !find_tensor(planes[1], "rows", (tensor_shape){U8, items, quarter}, &middle) ||
        !find_tensor(planes[2], "rows", (tensor_shape){U8, items, half}, &low) ||
        !find_tensor(scales, "scales", (tensor_shape){F32, 3, items}, &scale) ||
        !find_tensor(scales, "popularity", (tensor_shape){I32, items, 1}, &popularity))
        return false;
    model->table = (table){high.data, middle.data, low.data, scale.data, items, dim};
    memset(model->popularity_rank, 255, items * sizeof(uint32_t));
    for (uint32_t i = 0; i < items; i++) {
        uint32_t row = load_u32(popularity.data + 4 * (size_t)i);
        if (row >= items || model->popularity_rank[row] != UINT32_MAX)
            return false; /* not an order of the rows */
        model->popularity_rank[row] = i;
    }
    return true;
}

/* ---- all of it ---- */

static void hash_file(bytes_view file, uint8_t id[32])
{
    sha256 hash;
    sha256_start(&hash);
    sha256_add(&hash, file.data, file.size);
    sha256_end(&hash, id);
}

/* Reads both manifests, which is enough to know how much memory the model takes. */
COLD static int read_manifests(const shelf *from, ossia_model *model, manifest *base, manifest *rows)
{
    bytes_view base_file = given(from, "manifest.json"), table_file = given(from, "table/manifest.json");
    if (!base_file.data || !table_file.data)
        return OSSIA_MISSING;
    int error = read_base_manifest(base_file, base);
    if (error == OSSIA_OK)
        error = read_table_manifest(table_file, rows, model);
    if (error != OSSIA_OK)
        return error;
    hash_file(base_file, model->base_id);
    hash_file(table_file, model->table_id);
    bool own = !memcmp(base->table_id, model->table_id, 32);
    for (uint32_t i = 0; i < model->extends; i++)
        own |= !memcmp(base->table_id, model->older[i].id, 16);
    if (!own)
        return OSSIA_TABLE;
    if (rows->dim != base->shape.dim || rows->rows < base->shape.items || rows->rows > MAX_ITEMS)
        return OSSIA_TENSORS;
    model->shape = base->shape;
    model->shape.items = (uint32_t)rows->rows;
    model->profile_clip = base->profile_clip;
    return OSSIA_OK;
}

COLD static int read_contents(const shelf *from, const manifest *base, const manifest *rows, ossia_model *model)
{
    static const char *const names[3] = {"plane2.safetensors", "plane4.safetensors", "plane8.safetensors"};
    static const char *const base_names[3] = {"base/plane2.safetensors", "base/plane4.safetensors", "base/plane8.safetensors"};
    bytes_view planes[3], row_planes[3], floats, scales;
    int error = want(base, "", "base/floats.safetensors", from, &floats);
    for (int i = 0; i < 3 && error == OSSIA_OK; i++)
        error = want(base, "", base_names[i], from, &planes[i]);
    for (int i = 0; i < 3 && error == OSSIA_OK; i++)
        error = want(rows, "table/", names[i], from, &row_planes[i]);
    if (error == OSSIA_OK)
        error = want(rows, "table/", "scales.safetensors", from, &scales);
    if (error != OSSIA_OK)
        return error;
    return read_tensors(model, floats, planes) && read_table(model, row_planes, scales) ? OSSIA_OK : OSSIA_TENSORS;
}

COLD int ossia_open(const ossia_file *files, size_t count, int flags, ossia_model *memory, size_t *bytes)
{
    if ((!files && count) || !bytes || flags & ~OSSIA_TRUSTED || (uintptr_t)memory % OSSIA_ALIGN)
        return OSSIA_ARGUMENT;
    shelf all = {files, count, flags & OSSIA_TRUSTED};
    ossia_model model;
    manifest base, rows;
    memset(&model, 0, sizeof model), memset(&base, 0, sizeof base), memset(&rows, 0, sizeof rows);
    int error = read_manifests(&all, &model, &base, &rows);
    if (error != OSSIA_OK)
        return error;
    size_t needed = lay_out(&model, NULL), there = *bytes;
    *bytes = needed;
    if (!memory || there < needed)
        return OSSIA_MEMORY;
    lay_out(&model, (uint8_t *)memory);
    error = read_contents(&all, &base, &rows, &model);
    model.magic = error == OSSIA_OK ? MODEL_MAGIC : 0;
    model.bytes = needed;
    memcpy(memory, &model, sizeof model);
    return error;
}

bool valid_model(const ossia_model *model) { return model && (uintptr_t)model % OSSIA_ALIGN == 0 && model->magic == MODEL_MAGIC; }

int ossia_shape_of(const ossia_model *model, ossia_shape *shape)
{
    if (!valid_model(model) || !shape)
        return OSSIA_ARGUMENT;
    *shape = model->shape;
    return OSSIA_OK;
}

const char *ossia_error(int error)
{
    static const char *const names[OSSIA_ERRORS] = {
        "ok", "argument", "memory", "missing file", "digest", "manifest", "unsupported", "tensors", "table", "weights",
        "payload", "header", "base", "table", "expiry", "signature", "gates", "codes", "delta", "table", "body"};
    return error >= 0 && error < OSSIA_ERRORS ? names[error] : "unknown";
}
