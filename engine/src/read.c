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

bool json_open(json *text, char bracket) { return need(text, bracket); }

bool json_more(json *text, char bracket, bool *first)
{
    bool was_first = *first;
    *first = false;
    if (take(text, bracket) || text->bad)
        return false;
    return was_first || need(text, ',');
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

/* A number with a fraction and an exponent, correct to a last digit or two of the double. */
double json_real(json *text)
{
    double number = 0, sign = 1;
    int places = 0, exponent = 0, down = 1;
    blank(text);
    if (text->at < text->end && *text->at == '-')
        sign = -1, text->at++;
    if (!digit(text))
        text->bad = true;
    for (; digit(text); text->at++)
        number = 10 * number + (*text->at - '0');
    if (text->at < text->end && *text->at == '.')
        for (text->at++; digit(text); text->at++, places++)
            number = 10 * number + (*text->at - '0');
    if (text->at < text->end && (*text->at == 'e' || *text->at == 'E')) {
        text->at++;
        if (text->at < text->end && (*text->at == '-' || *text->at == '+'))
            down = *text->at++ == '-' ? -1 : 1;
        for (; digit(text) && exponent < 1000; text->at++)
            exponent = 10 * exponent + (*text->at - '0');
    }
    double power = 1;
    exponent = down * exponent - places;
    for (int i = 0; i < 400 && i < (exponent < 0 ? -exponent : exponent); i++)
        power *= 10;
    return text->bad ? 0 : sign * (exponent < 0 ? number / power : number * power);
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

static enum dtype read_dtype(json *text)
{
    bytes_view name = json_text(text);
    return is_text(name, "U8") ? U8 : is_text(name, "I32") ? I32 : is_text(name, "F32") ? F32 : 0;
}

typedef struct {
    enum dtype dtype;
    uint64_t shape[2], sizes, start, end;
} entry;

static entry read_entry(json *text)
{
    entry found = {0};
    bool first = true;
    json_open(text, '{');
    while (json_more(text, '}', &first)) {
        bytes_view key = json_key(text);
        bool first_number = true;
        if (is_text(key, "dtype")) {
            found.dtype = read_dtype(text);
        } else if (is_text(key, "shape")) {
            json_open(text, '[');
            for (found.sizes = 0; json_more(text, ']', &first_number); found.sizes++) {
                uint64_t size = json_whole(text);
                if (found.sizes < 2)
                    found.shape[found.sizes] = size;
            }
        } else if (is_text(key, "data_offsets") && json_open(text, '[')) {
            found.start = json_whole(text);
            need(text, ',');
            found.end = json_whole(text);
            need(text, ']');
        } else {
            text->bad = true;
        }
    }
    return found;
}

static bool fits(const entry *found, tensor_shape shape, uint64_t space)
{
    uint64_t columns = found->sizes == 1 ? 1 : found->shape[1], width = shape.dtype == U8 ? 1 : 4;
    return found->dtype == shape.dtype && (found->sizes == 1 || found->sizes == 2) && found->shape[0] == shape.rows &&
           columns == shape.columns && found->start <= found->end && found->end <= space &&
           found->end - found->start == shape.rows * shape.columns * width;
}

/* Finds a tensor by name, and holds it to the type and shape that it must have. */
bool find_tensor(bytes_view file, const char *name, tensor_shape shape, bytes_view *tensor)
{
    if (file.size < 8)
        return false;
    uint64_t header = load_u32(file.data) | (uint64_t)load_u32(file.data + 4) << 32;
    if (header > file.size - 8)
        return false;
    const uint8_t *data = file.data + 8 + header;
    json text = json_of((bytes_view){file.data + 8, (size_t)header});
    bool first = true;
    json_open(&text, '{');
    while (json_more(&text, '}', &first)) {
        bytes_view key = json_key(&text);
        entry found = read_entry(&text);
        if (!text.bad && is_text(key, name)) {
            *tensor = (bytes_view){data + found.start, (size_t)(found.end - found.start)};
            return fits(&found, shape, file.size - 8 - header);
        }
    }
    return false;
}
