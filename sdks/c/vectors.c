/* Reads the table of the test vectors (`stokehold conform vectors --tsv`) from a file, and looks whether this SDK takes each message
 * of binary frames as the vector says, and writes its data again in the shortest form. */
#define STOKEHOLD_WORKER_IMPLEMENTATION
#include "stokehold_worker.h"

enum { ID, VERDICT, STAGE, CARRIER, BYTES, MESSAGE, SPEC, SHORTEST, FIELDS };

/* Cuts a line at its tabs; gives how many fields it has. */
static int cut(char *line, char *fields[FIELDS]) {
    int count = 0;
    line[strcspn(line, "\n")] = 0;
    while (line && count < FIELDS) {
        fields[count++] = line;
        line = strchr(line, '\t');
        if (line) *line++ = 0;
    }
    return count;
}

static int digit(char letter) { return letter <= '9' ? letter - '0' : letter - 'a' + 10; }

/* Puts bytes where their digits are; gives how many. */
static size_t unhex(char *digits) {
    size_t length = strlen(digits) / 2, i;
    for (i = 0; i < length; i++) digits[i] = (char)(digit(digits[2 * i]) * 16 + digit(digits[2 * i + 1]));
    return length;
}

/* Reads one value and writes it, by the functions that handlers have. */
static int copy(sw_reader *in, sw_writer *out) {
    const unsigned char *bytes;
    const char *text;
    size_t length;
    uint32_t count, i;
    int64_t number;
    uint64_t large;
    double real;
    int truth, is_map = sw_peek(in) == SW_MAP;
    switch (sw_peek(in)) {
    case SW_NIL: return sw_read_nil(in) && !sw_pack_nil(out);
    case SW_BOOL: return sw_read_bool(in, &truth) && !sw_pack_bool(out, truth);
    case SW_INT:
        if (sw_read_i64(in, &number)) return !sw_pack_i64(out, number);
        return sw_read_u64(in, &large) && !sw_pack_u64(out, large);
    case SW_FLOAT: return sw_read_f64(in, &real) && !sw_pack_f64(out, real);
    case SW_TEXT: return sw_read_text(in, &text, &length) && !sw_pack_text_n(out, text, length);
    case SW_BYTES: return sw_read_bytes(in, &bytes, &length) && !sw_pack_bytes(out, bytes, length);
    case SW_ARRAY:
    case SW_MAP:
        if (is_map ? !sw_read_map(in, &count) : !sw_read_array(in, &count)) return 0;
        if (is_map) (void)sw_pack_map(out, count);
        else (void)sw_pack_array(out, count);
        for (i = 0; i < count; i++) {
            if (!copy(in, out) || (is_map && !copy(in, out))) return 0;
        }
        return 1;
    default: return 0;
    }
}

/* What is wrong with this SDK's reading of the message, or NULL. */
static const char *judge(char *fields[FIELDS]) {
    size_t size = unhex(fields[BYTES]), length;
    sw_reader in = { (unsigned char *)fields[BYTES] + 8, (unsigned char *)fields[BYTES] + size };
    int good = !strcmp(fields[VERDICT], "accept"), either = !strcmp(fields[VERDICT], "either");
    const char *name, *problem = NULL;
    sw_writer out = { 0 };
    if (!sw_head(&in, &name, &length)) return good || !strcmp(fields[STAGE], "data") ? "the head is refused" : NULL;
    if (!good && !either && !strcmp(fields[STAGE], "head")) return "the head is accepted";
    if (sw_check(in.at, (size_t)(in.end - in.at)) != (size_t)(in.end - in.at)) return good ? "the data is refused" : NULL;
    /* [D-13] lets a child accept what only these forbid. */
    if (!good && !either) return strcmp(fields[SPEC], "D-4") < 0 || strcmp(fields[SPEC], "D-7") > 0 ? "the data is accepted" : NULL;
    size = unhex(fields[SHORTEST]);
    if (!copy(&in, &out) || in.at != in.end) problem = "the data cannot be read";
    else if (out.failed || out.used != size || memcmp(out.bytes, fields[SHORTEST], size)) problem = "the data is written otherwise";
    free(out.bytes);
    return problem;
}

/* What is wrong with how values are written that no vector has, or NULL. */
static const char *judge_values(void) {
    static const unsigned char expected[] = { 0x81, 0xa0, 0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0 };
    static const char megabyte[1 << 20];
    const char *problem = NULL;
    sw_writer out = { 0 }, large = { 0 };
    int i;
    sw_pack_map(&out, 1), sw_pack_text(&out, ""), sw_pack_f64(&out, -0.0);
    if (out.failed || out.used != sizeof expected || memcmp(out.bytes, expected, out.used)) problem = "an empty key and -0.0";
    sw_pack_array(&large, 100000);
    for (i = 0; i < 100000; i++) sw_pack_bytes(&large, megabyte, sizeof megabyte);
    if (large.failed != 2 || large.room > 2u * 0x08000000) problem = "a result that is larger than any frame";
    free(out.bytes), free(large.bytes);
    return problem;
}

int main(int argc, char **argv) {
    FILE *table = argc == 2 ? fopen(argv[1], "r") : NULL;
    char *line = NULL, *fields[FIELDS];
    size_t room = 0;
    int count = 0, wrong = 0;
    if (!table) return fprintf(stderr, "usage: vectors TABLE\n"), 2;
    if (judge_values()) wrong += printf("%s\n", judge_values()) > 0;
    while (getline(&line, &room, table) > 0) {
        const char *problem;
        if (cut(line, fields) < FIELDS) return fprintf(stderr, "a line has too few fields\n"), 2;
        if (strcmp(fields[CARRIER], "frames") || !strcmp(fields[STAGE], "frame")) continue;
        problem = judge(fields);
        count++;
        if (problem) wrong += printf("%s [%s]: %s\n", fields[ID], fields[SPEC], problem) > 0;
    }
    free(line), (void)fclose(table);
    printf("%d messages, %d wrong\n", count, wrong);
    return count == 0 || wrong > 0;
}
