/* Reading manifests and tensors: JSON as far as our documents use it, and safetensors.
 *
 * The reader walks a text once, from left to right, and keeps nothing. It knows no nesting of its own: open.c says what comes
 * next, so a text can't be deeper than a manifest is. Texts without escapes, whole numbers below 2^53, and decimal fractions
 * are all that a manifest holds; anything else turns `bad` on, after which every answer is empty and every loop ends. */
#include "engine.h"
SMALL

static void blank(json *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\r' || *text->at == '\t'))
        text->at++;
}

static bool take(json *text, char wanted)
{
    blank(text);
    if (text->bad || text->at == text->end || *text->at != (uint8_t)wanted)
        return false;
    text->at++;
    return true;
}

static bool need(json *text, char wanted)
{
    if (!take(text, wanted))
        text->bad = true;
    return !text->bad;
}

json json_of(bytes_view text) { return (json){text.data, text.data + text.size, false}; }

bool json_next(json *text, char bracket, uint32_t *count)
{
    if (!*count)
        need(text, bracket);
    if (take(text, bracket + 2) || text->bad) /* '}' is '{' + 2, and ']' is '[' + 2 */
        return false;
    return !(*count)++ || need(text, ',');
}

bytes_view json_text(json *text)
{
    bytes_view view = {text->at, 0};
    if (!need(text, '"'))
        return view;
    view.data = text->at;
    while (text->at < text->end && *text->at != '"' && *text->at != '\\' && *text->at >= ' ')
        text->at++;
    view.size = (size_t)(text->at - view.data);
    if (!need(text, '"'))
        view.size = 0;
    return view;
}

bytes_view json_key(json *text)
{
    bytes_view key = json_text(text);
    need(text, ':');
    return key;
}

int json_field(json *text, const char *names, unsigned *seen)
{
    uint32_t count = *seen;
    int field = 0;
    bool more = json_next(text, '{', &count);
    bytes_view key = more ? json_key(text) : (bytes_view){NULL, 0};
    unsigned needed = 0;
    for (; *names && !(more && is_text(key, names + (*names == '?'))); names += strlen(names) + 1)
        needed |= (unsigned)(*names != '?') << field++;
    unsigned own = 1u << field;
    if (more ? !*names || *seen & own : (*seen & needed) != needed)
        text->bad = true;
    *seen |= own;
    return more && !text->bad ? field : -1;
}

void json_is(json *text, const char *wanted)
{
    if (!is_text(json_text(text), wanted))
        text->bad = true;
}

static bool digit(const json *text) { return text->at < text->end && *text->at >= '0' && *text->at <= '9'; }

uint64_t json_whole(json *text)
{
    uint64_t number = 0;
    blank(text);
    const uint8_t *start = text->at;
    for (; digit(text) && number < (uint64_t)1 << 53; text->at++)
        number = 10 * number + (*text->at - '0');
    if (text->at == start || number >= (uint64_t)1 << 53 || (*start == '0' && text->at > start + 1))
        text->bad = true;
    return text->bad ? 0 : number;
}

static double digits(json *text, double before, int *count)
{
    for (; digit(text); text->at++, ++*count)
        before = 10 * before + (*text->at - '0');
    return before;
}

static bool sign(json *text, char wanted) { return text->at < text->end && *text->at == (uint8_t)wanted && text->at++; }

/* A number with a fraction and an exponent, correct to a last digit or two of the double. */
double json_real(json *text)
{
    int whole = 0, places = 0, ignored = 0;
    blank(text);
    bool negative = sign(text, '-'), down = false;
    double number = digits(text, 0, &whole), exponent = 0;
    if (sign(text, '.'))
        number = digits(text, number, &places);
    if (sign(text, 'e') || sign(text, 'E')) {
        down = sign(text, '-') || (sign(text, '+') && false);
        exponent = digits(text, 0, &ignored);
    }
    if (!whole)
        text->bad = true;
    exponent = (down ? -exponent : exponent) - places;
    for (int i = 0; i < 400 && exponent > i; i++)
        number *= 10;
    for (int i = 0; i < 400 && -exponent > i; i++)
        number /= 10;
    return text->bad ? 0 : negative ? -number : number;
}

bool json_null(json *text)
{
    blank(text);
    if (text->bad || text->end - text->at < 4 || memcmp(text->at, "null", 4))
        text->bad = true;
    else
        text->at += 4;
    return !text->bad;
}

bool json_done(json *text)
{
    blank(text);
    return !text->bad && text->at == text->end;
}

bool is_text(bytes_view view, const char *text) { return view.size == strlen(text) && !memcmp(view.data, text, view.size); }

/* ---- safetensors: 8 bytes of header length, a JSON header, then the tensors ---- */

typedef struct {
    bytes_view dtype;
    uint64_t shape[2], ends[2];
    uint32_t sizes;
} entry;

static uint32_t read_numbers(json *text, uint64_t numbers[2])
{
    uint32_t count = 0;
    while (json_next(text, '[', &count)) {
        uint64_t number = json_whole(text);
        if (count <= 2)
            numbers[count - 1] = number;
    }
    return count;
}

static entry read_entry(json *text)
{
    entry found;
    unsigned seen = 0;
    memset(&found, 0, sizeof found);
    for (int field; (field = json_field(text, "dtype\0shape\0data_offsets\0", &seen)) >= 0;)
        if (field == 0)
            found.dtype = json_text(text);
        else if (field == 1)
            found.sizes = read_numbers(text, found.shape);
        else if (read_numbers(text, found.ends) != 2)
            text->bad = true;
    return found;
}

static bool fits(const entry *found, const char *dtype, uint64_t rows, uint64_t columns, uint64_t space)
{
    uint64_t width = *dtype == 'U' ? 1 : dtype[1] == '1' ? 2 : 4; /* U8, F16; I32, F32 */
    bool shaped = rows ? found->sizes == 2 && found->shape[0] == rows && found->shape[1] == columns
                       : found->sizes == 1 && found->shape[0] == columns;
    return shaped && is_text(found->dtype, dtype) && found->ends[0] <= found->ends[1] && found->ends[1] <= space &&
           found->ends[1] - found->ends[0] == (rows ? rows : 1) * columns * width;
}

const uint8_t *find_tensor(bytes_view file, const char *name, const char *dtype, uint32_t rows, uint32_t columns)
{
    uint64_t header = file.size < 8 ? 0 : load_u32(file.data) | (uint64_t)load_u32(file.data + 4) << 32;
    if (file.size < 8 || header > file.size - 8)
        return NULL;
    const uint8_t *data = file.data + 8 + header;
    json text = json_of((bytes_view){file.data + 8, (size_t)header});
    for (uint32_t count = 0; json_next(&text, '{', &count);) {
        bytes_view key = json_key(&text);
        entry found = read_entry(&text);
        if (!text.bad && is_text(key, name))
            return fits(&found, dtype, rows, columns, file.size - 8 - header) ? data + found.ends[0] : NULL;
    }
    return NULL;
}
