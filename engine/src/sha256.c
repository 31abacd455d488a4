/* SHA-256 (FIPS 180-4): ids and digests. Plain and short; a base is hashed once, when it is opened. */
#include "engine.h"

/* The first 32 bits behind the point of a prime's root, by Newton's method: FIPS 180-4 takes its constants from there, and to
 * work them out is less to fetch than to list them. */
static uint32_t bits_of_root(uint32_t prime, bool cube)
{
    double x = prime;
    for (int i = 0; i < 16; i++)
        x = cube ? (2 * x + prime / (x * x)) / 3 : (x + prime / x) / 2;
    return (uint32_t)((x - (uint32_t)x) * 4294967296.0);
}

static void find_constants(uint32_t roots[8], uint32_t cube_roots[64])
{
    for (uint32_t n = 2, found = 0; found < 64; n++) {
        uint32_t by = 2;
        while (by * by <= n && n % by)
            by++;
        if (by * by <= n)
            continue; /* not a prime */
        if (found < 8)
            roots[found] = bits_of_root(n, false);
        cube_roots[found++] = bits_of_root(n, true);
    }
}

static uint32_t turn(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void block(uint32_t state[8], const uint32_t k[64], const uint8_t *data)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16 | (uint32_t)data[4 * i + 2] << 8 | data[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t a = s[0], e = s[4];
        uint32_t one = s[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
        uint32_t two = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        for (int j = 7; j > 0; j--)
            s[j] = s[j - 1];
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

void sha256_start(sha256 *hash)
{
    find_constants(hash->state, hash->k);
    hash->bytes = 0;
}

void sha256_add(sha256 *hash, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size) {
        size_t held = hash->bytes % 64, take = 64 - held < size ? 64 - held : size;
        if (held == 0 && size >= 64) {
            block(hash->state, hash->k, at);
            take = 64;
        } else {
            memcpy(hash->tail + held, at, take);
            if (held + take == 64)
                block(hash->state, hash->k, hash->tail);
        }
        hash->bytes += take;
        at += take;
        size -= take;
    }
}

void sha256_end(sha256 *hash, uint8_t digest[32])
{
    uint64_t bits = hash->bytes * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(hash, "\x80", 1);
    while (hash->bytes % 64 != 56)
        sha256_add(hash, "", 1);
    sha256_add(hash, length, 8);
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}
