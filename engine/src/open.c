/* Opening a base: read the manifests, lay out memory, then copy what is small (matrices as panels, floats padded) and point at
 * what is large (the rows of the table stay where they lie, in the caller's files).
 *
 * Nothing is trusted: every length is checked against the manifest, every offset against its file. */
#include "engine.h"
SMALL

static const uint64_t MODEL_MAGIC = 0x6c65646f4d41534f; /* "OSAModel" */

/* ---- what lies where: in the model's memory, and later in the weights' ---- */

static float *place_floats(void *memory, size_t *at, size_t rows, size_t columns)
{
    return place(memory, at, rows * pad_to(columns, 16) * sizeof(float));
}

static size_t panel_bytes(const slot *s) { return pad_to(s->channels, 16) * pad_to(s->inputs, 4); }

static void lay_out_slots(ossia_model *model, void *memory, size_t *at)
{
    size_t folded = pad_to(sizeof(ossia_weights), OSSIA_ALIGN);
    uint32_t code = 0;
    for (uint32_t i = 0; i < model->slots; i++) {
        slot *s = &model->slot[i];
        part told;
        describe_part(model, i, &told);
        s->channels = told.channels, s->inputs = told.inputs;
        s->code = code, code += s->channels;
        s->master = place(memory, at, panel_bytes(s));
        s->scales = place_floats(memory, at, 3, s->channels);
        s->bias = place_floats(memory, at, 1, s->channels);
        s->at = folded;
        folded = pad_to(folded + panel_bytes(s) + 2 * sizeof(float) * pad_to(s->channels, 16), OSSIA_ALIGN);
    }
    model->shape.channels = code;
    model->widths_at = folded;
    model->weights_bytes = folded + pad_to(model->shape.items, OSSIA_ALIGN);
}

static size_t lay_out(ossia_model *model, void *memory)
{
    size_t at = pad_to(sizeof *model, OSSIA_ALIGN), dim = model->shape.dim;
    lay_out_slots(model, memory, &at);
    for (uint32_t i = 0; i < model->norms; i++) {
        model->norm[i].weight = place_floats(memory, &at, 1, dim);
        model->norm[i].bias = place_floats(memory, &at, 1, dim);
    }
    model->positions = place_floats(memory, &at, model->kind == SASREC ? model->shape.length : 1, dim);
    model->mask = place_floats(memory, &at, 1, dim);
    model->popularity_rank = place(memory, &at, model->shape.items * sizeof(uint32_t));
    if (model->tail.parts) {
        model->tail.rotation = place(memory, &at, dim * dim * sizeof(float));
        model->tail.codewords = place(memory, &at, model->tail.words * dim * sizeof(float));
    }
    return at;
}

/* ---- tensors ---- */

/* Finds the tensor NAME + AFTER. */
static const uint8_t *find_part(bytes_view file, const char *name, const char *after, const char *dtype, uint32_t rows, uint32_t columns)
{
    char whole[NAME + 8];
    memcpy(whole, name, strlen(name));
    memcpy(whole + strlen(name), after, strlen(after) + 1);
    return find_tensor(file, whole, dtype, rows, columns);
}

/* Copies the tensor NAME + AFTER, rows x columns or, with 0 rows, a list; each row padded with zeros. */
static bool copy_floats(bytes_view file, const char *name, const char *after, uint32_t rows, uint32_t columns, float *to)
{
    const uint8_t *from = find_part(file, name, after, "F32", rows, columns);
    size_t stride = pad_to(columns, 16), bytes = columns * sizeof(float);
    for (size_t row = 0; from && row < (rows ? rows : 1); row++) {
        memset(to + row * stride, 0, stride * sizeof(float));
        memcpy(to + row * stride, from + row * bytes, bytes);
    }
    return from;
}

static bool find_planes(const bytes_view planes[3], const char *name, uint32_t rows, uint32_t columns, table *found)
{
    uint32_t quarter = (uint32_t)pad_to(columns, 4) / 4, half = (uint32_t)pad_to(columns, 2) / 2;
    found->items = rows, found->dim = columns;
    found->plane2 = find_tensor(planes[0], name, "U8", rows, quarter);
    found->plane4 = find_tensor(planes[1], name, "U8", rows, quarter);
    found->plane8 = find_tensor(planes[2], name, "U8", rows, half);
    return found->plane2 && found->plane4 && found->plane8;
}

/* Joins a slot's planes into a panel of u = q + 128. */
static bool copy_panel(const bytes_view planes[3], const char *name, slot *s)
{
    table found;
    if (!find_planes(planes, name, s->channels, s->inputs, &found))
        return false;
    memset(s->master, 128, panel_bytes(s));
    for (uint32_t c = 0; c < s->channels; c++)
        for (uint32_t i = 0; i < s->inputs; i++)
            s->master[place_of(s, c, i)] = (uint8_t)row_value(&found, c, i);
    return true;
}

/* Finds a slot's directions, all of them numbers. */
static bool find_basis(bytes_view floats, const char *name, uint32_t rank, slot *s)
{
    s->left = find_part(floats, name, ".left", "F16", s->channels, rank);
    s->right = find_part(floats, name, ".right", "F16", rank, s->inputs);
    return are_numbers(s->left, (uint64_t)rank * s->channels) && are_numbers(s->right, (uint64_t)rank * s->inputs);
}

static bool copy_slots(ossia_model *model, bytes_view floats, const bytes_view planes[3])
{
    part told;
    for (uint32_t i = 0; i < model->slots; i++) {
        slot *s = &model->slot[i];
        describe_part(model, i, &told);
        if (!copy_panel(planes, told.name, s) || !copy_floats(floats, told.name, ".scales", 3, s->channels, s->scales) ||
            !copy_floats(floats, told.name, ".bias", 0, s->channels, s->bias) ||
            (model->basis && !find_basis(floats, told.name, model->basis, s)))
            return false;
    }
    return true;
}

static bool read_tensors(ossia_model *model, bytes_view floats, const bytes_view planes[3])
{
    uint32_t dim = model->shape.dim;
    char name[NAME];
    for (uint32_t i = 0; i < model->norms; i++) {
        name_norm(model, i, name);
        if (!copy_floats(floats, name, ".weight", 0, dim, model->norm[i].weight) ||
            !copy_floats(floats, name, ".bias", 0, dim, model->norm[i].bias))
            return false;
    }
    for (size_t i = 0; i < pad_to(dim, 16); i++)
        model->mask[i] = i < dim, model->positions[i] = 0; /* only a SASRec has positions: for the others one row of zeros */
    return copy_slots(model, floats, planes) &&
           (model->kind != SASREC || copy_floats(floats, "positions.weight", "", model->shape.length, dim, model->positions));
}

static bool read_table(ossia_model *model, const bytes_view planes[3], bytes_view scales)
{
    uint32_t items = model->shape.items;
    const uint8_t *popularity = find_tensor(scales, "popularity", "I32", 0, items);
    model->table.scales = find_tensor(scales, "scales", "F32", 3, items);
    if (!popularity || !model->table.scales || !find_planes(planes, "rows", items, model->shape.dim, &model->table))
        return false;
    memset(model->popularity_rank, 255, items * sizeof(uint32_t));
    for (uint32_t i = 0; i < items; i++) {
        uint32_t row = load_u32(popularity + 4 * (size_t)i);
        if (row >= items || model->popularity_rank[row] != UINT32_MAX)
            return false; /* not an order of the rows */
        model->popularity_rank[row] = i;
    }
    return true;
}

/* ---- all of it ---- */

/* Reads both manifests, which is enough to know how much memory the model takes. */
static int read_manifests(const shelf *from, ossia_model *model, manifest *base, manifest *rows)
{
    bytes_view base_file = given(from, "manifest.json"), table_file = given(from, "table/manifest.json");
    if (!base_file.data || !table_file.data)
        return OSSIA_MISSING;
    int error = read_base_manifest(base_file, base, model);
    if (error == OSSIA_OK)
        error = read_table_manifest(table_file, rows, model);
    if (error != OSSIA_OK)
        return error;
    hash_file(base_file, model->base_id);
    hash_file(table_file, model->table_id);
    bool own = !memcmp(base->table_id, model->table_id, sizeof model->table_id);
    for (uint32_t i = 0; i < model->extends; i++)
        own |= !memcmp(base->table_id, model->older[i].id, sizeof model->older[i].id);
    if (!own)
        return OSSIA_TABLE;
    if (rows->dim != model->shape.dim || rows->rows < model->shape.items)
        return OSSIA_TENSORS;
    model->shape.items = rows->rows; /* a table may be newer than the base, and longer */
    return OSSIA_OK;
}

enum { OF_ROWS = 4, FOLDER = 6 }; /* files that the table's manifest names, without "table/" */

static int read_contents(const shelf *from, const manifest *base, const manifest *rows, ossia_model *model)
{
    static const char *const names[] = {"base/floats.safetensors",  "base/plane2.safetensors",  "base/plane4.safetensors",
                                        "base/plane8.safetensors",  "table/scales.safetensors", "table/plane2.safetensors",
                                        "table/plane4.safetensors", "table/plane8.safetensors"};
    bytes_view files[2 * OF_ROWS];
    int error = OSSIA_OK;
    for (int i = 0; i < 2 * OF_ROWS && error == OSSIA_OK; i++)
        error = find_file(i < OF_ROWS ? base->files : rows->files, names[i], i < OF_ROWS ? 0 : FOLDER, from, &files[i]);
    bytes_view coarse;
    if (error == OSSIA_OK && model->tail.parts)
        error = find_file(rows->files, "table/tail.safetensors", FOLDER, from, &coarse);
    if (error != OSSIA_OK)
        return error;
    bool right = read_tensors(model, files[0], files + 1) && read_table(model, files + OF_ROWS + 1, files[OF_ROWS]) &&
                 (!model->tail.parts || read_tail(model, coarse));
    return right ? OSSIA_OK : OSSIA_TENSORS;
}

int ossia_open(const ossia_file *files, size_t count, int flags, ossia_model *memory, size_t *bytes)
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
    lay_out(&model, memory);
    error = read_contents(&all, &base, &rows, &model);
    model.magic = error == OSSIA_OK ? MODEL_MAGIC : 0;
    memcpy(memory, &model, sizeof model);
    return error;
}

bool valid_model(const ossia_model *model)
{
    return model && (uintptr_t)model % OSSIA_ALIGN == 0 && model->magic == MODEL_MAGIC;
}

int ossia_shape_of(const ossia_model *model, ossia_shape *shape)
{
    if (!valid_model(model) || !shape)
        return OSSIA_ARGUMENT;
    *shape = model->shape;
    return OSSIA_OK;
}

const char *ossia_error(int error)
{
    static const char *const names[OSSIA_ERRORS] = {"ok",          "argument", "memory", "missing file", "digest",  "manifest",
                                                    "unsupported", "tensors",  "table",  "weights",      "payload", "header",
                                                    "base",        "table",    "expiry", "signature",    "gates",   "codes",
                                                    "delta",       "table",    "body"};
    return error >= 0 && error < OSSIA_ERRORS ? names[error] : "unknown";
}
