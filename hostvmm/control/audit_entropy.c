/*
 * The apparent entropy of a token; see audit_tokens.h. A token is hexadecimal, decimal, or a sequence of
 * segments: a run of digits, or of letters as in one word of a CamelCase name. Segments that could be words
 * count next to nothing. What repeats itself is scaled down by the token's own distribution of symbols.
 */
#include <ctype.h>
#include <string.h>

#include "hostvmm/control/audit_tokens.h"

#define WORD_BITS 5.0 /* the most one word of a name counts */

static bool is_separator(char c)
{
    return c == '-' || c == '_' || c == '/' || c == '+' || c == '=' || c == ':';
}

static bool is_vowel(char c)
{
    return strchr("aeiouyAEIOUY", c) != NULL;
}

/* Of a number above 0, to 12 binary places; without the mathematics library, which nothing else needs. */
static double log2_of(size_t number)
{
    int whole = 0;
    while (number >> whole > 1)
        whole++;
    double rest = (double)number / (double)((size_t)1 << whole);
    double result = whole;
    for (int place = 1; place <= 12; place++) {
        rest *= rest;
        if (rest >= 2) {
            rest /= 2;
            result += 1.0 / (double)(1u << place);
        }
    }
    return result;
}

/* 0..1: how far the symbols are from what as many random ones of `symbol_bits` each would be like. */
static double variety(const char *token, size_t size, double symbol_bits)
{
    unsigned counts[256] = {0};
    size_t same_steps = 0;
    double entropy = 0;
    for (size_t i = 0; i < size; i++)
        counts[(uint8_t)token[i]]++;
    for (int i = 0; i < 256; i++)
        if (counts[i] > 0)
            entropy += counts[i] / (double)size * (log2_of(size) - log2_of(counts[i]));
    for (size_t i = 2; i < size; i++)
        same_steps += token[i] - token[i - 1] == token[i - 1] - token[i - 2];
    if (same_steps * 2 > size) /* a sequence, such as 0123456789abcdef */
        return 0;
    const double most = log2_of(size) < symbol_bits ? log2_of(size) : symbol_bits;
    if (size < 2)
        return 0;
    const double share = entropy / (0.7 * most);
    return share > 1 ? 1 : share;
}

/* A run of letters that might be a word or part of a name: vowels among consonants. */
static bool could_be_word(const char *letters, size_t size)
{
    size_t vowels = 0;
    size_t consonants = 0;
    size_t longest = 0;
    for (size_t i = 0; i < size; i++) {
        const bool vowel = is_vowel(letters[i]);
        vowels += vowel;
        consonants = vowel ? 0 : consonants + 1;
        longest = consonants > longest ? consonants : longest;
    }
    return size > 1 && vowels > 0 && longest <= (size < 8 ? 4 : 5);
}

static size_t segment_end(const char *token, size_t size, size_t at)
{
    const size_t start = at++;
    if (isdigit((unsigned char)token[start])) {
        while (at < size && isdigit((unsigned char)token[at]))
            at++;
        return at;
    }
    /* Upper case goes on in upper case or, as a capital, in lower case. */
    if (isupper((unsigned char)token[start]))
        while (at < size && isupper((unsigned char)token[at]))
            at++;
    if (islower((unsigned char)token[start]) || at == start + 1)
        while (at < size && islower((unsigned char)token[at]))
            at++;
    return at;
}

/* Mixed text. */
static double bits_of_segments(const char *token, size_t size)
{
    double bits = 0;
    size_t letters_only = 0;
    for (size_t at = 0; at < size;) {
        if (is_separator(token[at])) {
            at++;
            continue;
        }
        const size_t end = segment_end(token, size, at);
        const double length = (double)(end - at);
        if (isdigit((unsigned char)token[at]))
            bits += length * 3.32;
        else if (could_be_word(token + at, end - at))
            bits += length * 2 < WORD_BITS ? length * 2 : WORD_BITS;
        else
            bits += length * 6;
        letters_only += !isdigit((unsigned char)token[at]);
        at = end;
    }
    return letters_only > 0 ? bits * variety(token, size, 6) : bits;
}

static bool letters_of_one_case(const char *token, size_t size)
{
    bool upper = false;
    bool lower = false;
    for (size_t i = 0; i < size; i++) {
        if (isdigit((unsigned char)token[i]))
            return false;
        upper = upper || isupper((unsigned char)token[i]);
        lower = lower || islower((unsigned char)token[i]);
    }
    return !(upper && lower);
}

uint32_t audit_token_bits(const char *token, size_t size)
{
    size_t digits = 0;
    size_t hex = 0;
    size_t separators = 0;
    bool upper = false;
    bool lower = false;
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)token[i];
        separators += is_separator(token[i]);
        digits += isdigit(c) != 0;
        hex += isxdigit(c) != 0;
        upper = upper || isupper(c);
        lower = lower || islower(c);
    }
    if (size == 0 || letters_of_one_case(token, size))
        return 0;
    if (digits + separators == size)
        return (uint32_t)((double)digits * 3.32 * variety(token, size, 3.32));
    /* Hexadecimal has digits, one case, and groups rather than words: a tenth of digits is next to certain.
     */
    if (hex + separators == size && !(upper && lower) && digits * 10 >= hex && separators * 2 <= hex)
        return (uint32_t)((double)hex * 4 * variety(token, size, 4));
    return (uint32_t)bits_of_segments(token, size);
}
