/*
 * The Stokehold SDK for workers in C99 and C++: this file, POSIX, no other library than pthread. The protocol is described in
 * protocol/SPEC.md; ids such as [W-9] are statements of it.
 *
 *     #define STOKEHOLD_WORKER_IMPLEMENTATION        in one file of the program, before anything else is included
 *     #include "stokehold_worker.h"
 *
 *     static int square(sw_task *task, sw_reader *in, sw_writer *out) {
 *         int64_t n;
 *         if (!sw_read_i64(in, &n)) return sw_fail(task, "bad_data", "a number is wanted");
 *         return sw_pack_i64(out, n * n);
 *     }
 *
 *     int main(void) {
 *         sw_worker worker = SW_WORKER;
 *         sw_on(&worker, "DO", square);
 *         return sw_serve(&worker);
 *     }
 *
 * One task runs at a time, on the thread that called sw_serve. Another thread looks at the input while a handler takes longer
 * than a few milliseconds, for PING and CANCEL. Memory is taken when something is larger than all before it, not for a task.
 */
#ifndef STOKEHOLD_WORKER_H
#define STOKEHOLD_WORKER_H

#if defined(STOKEHOLD_WORKER_IMPLEMENTATION) && !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#define SW_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define SW_PRINTF(text, first)
#endif

/* ---- MessagePack ------------------------------------------------------------------------------------------------------ */

/* What is left to read. Copy it to come back to a place. */
typedef struct {
    const unsigned char *at, *end;
} sw_reader;

/* What was packed. A writer of your own begins as {0}; free its bytes when done. */
typedef struct {
    unsigned char *bytes;
    size_t used, room;
    int failed; /* not 0: no memory, a text that is no UTF-8, or (2) more than any frame holds; the result will be refused */
} sw_writer;

typedef enum { SW_NONE, SW_NIL, SW_BOOL, SW_INT, SW_FLOAT, SW_TEXT, SW_BYTES, SW_ARRAY, SW_MAP } sw_kind;

/* The kind of the next value, SW_NONE at the end. */
sw_kind sw_peek(const sw_reader *in);

/* Each reads one value and gives 1; or gives 0 and stays where it is, if the next value is another or does not fit. Texts and
 * bytes are not copied and have no NUL behind them; they are valid until the handler returns. */
int sw_read_nil(sw_reader *in);
int sw_read_bool(sw_reader *in, int *value);
int sw_read_i64(sw_reader *in, int64_t *value);
int sw_read_u64(sw_reader *in, uint64_t *value);
int sw_read_f64(sw_reader *in, double *value); /* an integer will do, if it is exact */
int sw_read_text(sw_reader *in, const char **text, size_t *length);
int sw_read_bytes(sw_reader *in, const unsigned char **bytes, size_t *length);
int sw_read_array(sw_reader *in, uint32_t *count); /* the values follow */
int sw_read_map(sw_reader *in, uint32_t *count);   /* a key and a value follow, so many times */
int sw_skip(sw_reader *in);                        /* one value with all that is in it */
/* Finds a key of the map that `in` is at, which stays there; `value` is then at its value, and ends behind it. */
int sw_get(const sw_reader *in, const char *key, sw_reader *value);

/* The size of the one valid value that these bytes begin with, 0 if they do not. Keys that come twice are not noticed. */
size_t sw_check(const void *bytes, size_t length);

/* Each writes one value in the shortest form. They give 0, so that a handler may return them; see `failed`. */
int sw_pack_nil(sw_writer *out);
int sw_pack_bool(sw_writer *out, int value);
int sw_pack_i64(sw_writer *out, int64_t value);
int sw_pack_u64(sw_writer *out, uint64_t value);
int sw_pack_f64(sw_writer *out, double value);
int sw_pack_text(sw_writer *out, const char *text); /* NULL becomes nil */
int sw_pack_text_n(sw_writer *out, const char *text, size_t length);
int sw_pack_bytes(sw_writer *out, const void *bytes, size_t length);
int sw_pack_array(sw_writer *out, uint32_t count); /* pack so many values behind it */
int sw_pack_map(sw_writer *out, uint32_t count);   /* pack so many keys and values behind it */
int sw_pack_raw(sw_writer *out, const void *packed, size_t length);

/* ---- A task ----------------------------------------------------------------------------------------------------------- */

typedef struct sw_session sw_session;

typedef struct {
    uint32_t id;         /* names it on this connection; 0 for a one-way request, which is not answered */
    const char *request; /* `DO`, or the name of the handler */
    uint32_t attempt;    /* from 1; above it an earlier attempt, here or elsewhere, gave no answer */
    const char *key;     /* the same for every attempt and for no other task; without a NUL; NULL if there is none */
    size_t key_length;
    int64_t deadline_ms; /* how long the parent lets the handler run; -1 if there is no limit */
    void *user;          /* that of the worker */
    sw_session *session;
} sw_task;

/* `in` is at the input, which is one valid value. What was packed into `out` is the result; nothing is nil. Give 0, or anything
 * else to fail the task. */
typedef int (*sw_handler)(sw_task *task, sw_reader *in, sw_writer *out);

/* Says why the handler fails; gives -1, to be returned. A code of your own has a dot ("acme.busy"). Texts are cut. */
int sw_fail(sw_task *task, const char *code, const char *format, ...) SW_PRINTF(3, 4);
/* Says that another attempt may help, not before so many milliseconds. Gives -1. */
int sw_fail_retry(sw_task *task, uint64_t after_ms);
/* Adds data for programs, one packed value. Gives -1. */
int sw_fail_data(sw_task *task, const void *packed, size_t length);

/* Whether the parent wants the task no more. Cheap enough for every turn of a loop. */
int sw_cancelled(sw_task *task);

/* An empty writer for one of many results, and what sends it: 0, or -1 to be returned if it cannot be sent. */
sw_writer *sw_item_writer(sw_task *task);
int sw_item(sw_task *task, const sw_writer *item);

/* How far it is. `total` below 0 and `note` NULL are left out. */
void sw_progress(sw_task *task, uint64_t done, int64_t total, const char *note);
/* A line for the parent's log: trace, debug, info, warn, error. */
void sw_log(sw_task *task, const char *level, const char *format, ...) SW_PRINTF(3, 4);

/* ---- A worker --------------------------------------------------------------------------------------------------------- */

#define SW_HANDLERS_MAX 64

typedef struct sw_worker {
    uint32_t window;    /* unanswered tasks it takes, 0 = 64 */
    uint32_t max_frame; /* the largest frame it takes, 0 = 16 MiB */
    void *user;         /* for the handlers */
    /* Runs before the first task; anything but 0 ends the process with that code. 125 says: do not start it again. */
    int (*init)(struct sw_worker *worker);
    int slot; /* when init runs: the number of this worker in its pool, -1 if not known */
    struct {
        const char *name;
        sw_handler handler;
    } handlers[SW_HANDLERS_MAX];
    size_t count;
} sw_worker;

#define SW_WORKER { 0, 0, NULL, NULL, -1, { { NULL, NULL } }, 0 }

/* Sets the handler of a request. More than SW_HANDLERS_MAX, or a name that is not a user's, end the process in sw_serve. */
void sw_on(sw_worker *worker, const char *request, sw_handler handler);

/* Serves until the parent ends it; give what it gives from main. Call it first: before it standard output is not guarded. */
int sw_serve(sw_worker *worker);

#ifdef __cplusplus
}
#endif
#endif

/* ======================================================================================================================= */

#if defined(STOKEHOLD_WORKER_IMPLEMENTATION) && !defined(STOKEHOLD_WORKER_IMPLEMENTED)
#define STOKEHOLD_WORKER_IMPLEMENTED

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SW_SDK "c/0.1.0"
#define SW_FRAME_LEN_MIN 5u
#define SW_FRAME_LEN_CEILING 0x07ffffffu
#define SW_MAX_FRAME_DEFAULT 0x00ffffffu
#define SW_MAX_FRAME_FLOOR 65536u
#define SW_DEPTH_MAX 64
#define SW_WINDOW_DEFAULT 64u
#define SW_WINDOW_MAX 65536u
#define SW_ADDRESS_MAX ((UINT64_C(1) << 53) - 1)
#define SW_CODE_BYTES 256
#define SW_MESSAGE_BYTES 8192
#define SW_OUT_BYTES 131072 /* that wait to be written at most */
#define SW_READ_BYTES 65536 /* room for a read at least */
#define SW_NEWS_MAX 10000   /* PROGRESS and LOG in a second; a parent may end a child that sends far more */
#define SW_TINY_NS 20000    /* a handler below it costs little more than the write of its answer */
#define SW_LONG_NS 1000000  /* nobody's answer may wait for a handler that takes so long [W-9] */
#define SW_PROOF_TASKS 1024 /* tiny ones before answers wait for each other; an exception costs SW_EXCEPTION of them */
#define SW_EXCEPTION 32
#define SW_WATCH_MS 5 /* a handler that takes longer is watched: held answers are written, and input is read */

/* ---- MessagePack ------------------------------------------------------------------------------------------------------ */

typedef struct {
    sw_kind kind;
    size_t head;     /* bytes before what the value contains */
    uint64_t number; /* a length, a count, an integer, or the bits of a float */
    int negative;    /* of an integer, which then is two's complement */
} sw_mark;

static uint64_t sw_big_endian(const unsigned char *at, unsigned width) {
    uint64_t number = 0;
    while (width-- > 0) number = number << 8 | *at++;
    return number;
}

/* What begins at `at`; 0 if nothing does, or its length has not come whole. */
static int sw_look(const unsigned char *at, const unsigned char *end, sw_mark *mark) {
    unsigned byte, width = 0;
    uint64_t bits = 0;
    if (at >= end) return 0;
    byte = *at;
    mark->head = 1;
    mark->negative = 0;
    mark->number = 0;
    if (byte < 0x80 || byte >= 0xe0) {
        mark->kind = SW_INT;
        mark->negative = byte >= 0xe0;
        mark->number = mark->negative ? (uint64_t)(int64_t)((int)byte - 256) : byte;
        return 1;
    }
    if (byte < 0xc0) {
        mark->kind = byte < 0x90 ? SW_MAP : byte < 0xa0 ? SW_ARRAY : SW_TEXT;
        mark->number = byte & (byte < 0xa0 ? 15u : 31u);
        return 1;
    }
    if (byte == 0xc1 || (byte >= 0xc7 && byte <= 0xc9) || (byte >= 0xd4 && byte <= 0xd8)) return 0;
    if (byte >= 0xc4 && byte <= 0xc6) width = 1u << (byte - 0xc4);
    else if (byte == 0xca || byte == 0xcb) width = byte == 0xca ? 4 : 8;
    else if (byte >= 0xcc && byte <= 0xd3) width = 1u << (byte & 3);
    else if (byte >= 0xd9 && byte <= 0xdb) width = 1u << (byte - 0xd9);
    else if (byte >= 0xdc) width = byte & 1 ? 4 : 2;
    if ((size_t)(end - at) <= width && width > 0) return 0;
    bits = sw_big_endian(at + 1, width);
    mark->head = 1 + width;
    mark->number = bits;
    if (byte == 0xc0) mark->kind = SW_NIL;
    else if (byte <= 0xc3) {
        mark->kind = SW_BOOL;
        mark->number = byte == 0xc3;
    } else if (byte <= 0xc6) mark->kind = SW_BYTES;
    else if (byte <= 0xcb) {
        mark->kind = SW_FLOAT;
        if (byte == 0xca) {
            float narrow;
            double wide;
            uint32_t small = (uint32_t)bits;
            memcpy(&narrow, &small, 4);
            wide = narrow;
            memcpy(&mark->number, &wide, 8);
        }
    } else if (byte <= 0xd3) {
        mark->kind = SW_INT;
        if (byte >= 0xd0 && (bits >> (8 * width - 1)) != 0) {
            mark->negative = 1;
            if (width < 8) mark->number = bits | ~UINT64_C(0) << (8 * width);
        }
    } else mark->kind = byte <= 0xdb ? SW_TEXT : byte <= 0xdd ? SW_ARRAY : SW_MAP;
    return 1;
}

/* How many of the bytes are UTF-8, counted to the first that is not. */
static size_t sw_utf8(const unsigned char *text, size_t length) {
    size_t at = 0, i;
    while (at < length) {
        unsigned byte = text[at];
        size_t more;
        unsigned least = 0x80, most = 0xbf;
        if (byte < 0x80) {
            at++;
            continue;
        }
        if (byte < 0xc2 || byte > 0xf4) break;
        more = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        if (byte == 0xe0) least = 0xa0;
        if (byte == 0xed) most = 0x9f;
        if (byte == 0xf0) least = 0x90;
        if (byte == 0xf4) most = 0x8f;
        if (length - at <= more || text[at + 1] < least || text[at + 1] > most) break;
        for (i = 2; i <= more && (text[at + i] & 0xc0) == 0x80; i++) {}
        if (i <= more) break;
        at += 1 + more;
    }
    return at;
}

size_t sw_check(const void *bytes, size_t length) {
    const unsigned char *begin = (const unsigned char *)bytes, *at = begin, *end = begin + length;
    uint64_t left[SW_DEPTH_MAX + 1]; /* values to come at each level; of a map two for a pair */
    unsigned char is_map[SW_DEPTH_MAX + 1];
    int depth = 0;
    left[0] = 1;
    is_map[0] = 0;
    for (;;) {
        sw_mark mark;
        while (left[depth] == 0) {
            if (depth == 0) return (size_t)(at - begin);
            depth--;
        }
        if (!sw_look(at, end, &mark)) return 0;
        if (is_map[depth] && left[depth] % 2 == 0 && mark.kind != SW_TEXT) return 0;
        left[depth]--;
        at += mark.head;
        if (mark.kind == SW_TEXT || mark.kind == SW_BYTES) {
            if (mark.number > (uint64_t)(end - at)) return 0;
            if (mark.kind == SW_TEXT && sw_utf8(at, (size_t)mark.number) != mark.number) return 0;
            at += mark.number;
        } else if (mark.kind == SW_ARRAY || mark.kind == SW_MAP) {
            if (depth == SW_DEPTH_MAX) return 0;
            depth++;
            is_map[depth] = mark.kind == SW_MAP;
            left[depth] = mark.kind == SW_MAP ? 2 * mark.number : mark.number;
        }
    }
}

sw_kind sw_peek(const sw_reader *in) {
    sw_mark mark;
    return sw_look(in->at, in->end, &mark) ? mark.kind : SW_NONE;
}

/* Reads the head of the next value if it is of that kind, and there is as much behind it as it says. */
static int sw_next(sw_reader *in, sw_kind kind, sw_mark *mark) {
    if (!sw_look(in->at, in->end, mark) || mark->kind != kind) return 0;
    if ((kind == SW_TEXT || kind == SW_BYTES) && mark->number > (uint64_t)(in->end - in->at) - mark->head) return 0;
    in->at += mark->head;
    return 1;
}

int sw_read_nil(sw_reader *in) {
    sw_mark mark;
    return sw_next(in, SW_NIL, &mark);
}

int sw_read_bool(sw_reader *in, int *value) {
    sw_mark mark;
    if (!sw_next(in, SW_BOOL, &mark)) return 0;
    *value = (int)mark.number;
    return 1;
}

int sw_read_i64(sw_reader *in, int64_t *value) {
    sw_mark mark;
    sw_reader before = *in;
    if (!sw_next(in, SW_INT, &mark)) return 0;
    if (!mark.negative && mark.number > INT64_MAX) {
        *in = before;
        return 0;
    }
    *value = (int64_t)mark.number;
    return 1;
}

int sw_read_u64(sw_reader *in, uint64_t *value) {
    sw_mark mark;
    sw_reader before = *in;
    if (!sw_next(in, SW_INT, &mark)) return 0;
    if (mark.negative) {
        *in = before;
        return 0;
    }
    *value = mark.number;
    return 1;
}

int sw_read_f64(sw_reader *in, double *value) {
    sw_mark mark;
    sw_reader before = *in;
    if (sw_next(in, SW_FLOAT, &mark)) {
        memcpy(value, &mark.number, 8);
        return 1;
    }
    if (!sw_next(in, SW_INT, &mark)) return 0;
    if (mark.negative ? (int64_t)mark.number < -(INT64_C(1) << 53) : mark.number > UINT64_C(1) << 53) {
        *in = before;
        return 0;
    }
    *value = mark.negative ? (double)(int64_t)mark.number : (double)mark.number;
    return 1;
}

int sw_read_text(sw_reader *in, const char **text, size_t *length) {
    sw_mark mark;
    if (!sw_next(in, SW_TEXT, &mark)) return 0;
    *text = (const char *)in->at;
    *length = (size_t)mark.number;
    in->at += mark.number;
    return 1;
}

int sw_read_bytes(sw_reader *in, const unsigned char **bytes, size_t *length) {
    sw_mark mark;
    if (!sw_next(in, SW_BYTES, &mark)) return 0;
    *bytes = in->at;
    *length = (size_t)mark.number;
    in->at += mark.number;
    return 1;
}

int sw_read_array(sw_reader *in, uint32_t *count) {
    sw_mark mark;
    if (!sw_next(in, SW_ARRAY, &mark)) return 0;
    *count = (uint32_t)mark.number;
    return 1;
}

int sw_read_map(sw_reader *in, uint32_t *count) {
    sw_mark mark;
    if (!sw_next(in, SW_MAP, &mark)) return 0;
    *count = (uint32_t)mark.number;
    return 1;
}

int sw_skip(sw_reader *in) {
    size_t size = sw_check(in->at, (size_t)(in->end - in->at));
    in->at += size;
    return size > 0;
}

int sw_get(const sw_reader *in, const char *key, sw_reader *value) {
    sw_reader at = *in;
    uint32_t count;
    size_t wanted = strlen(key);
    if (!sw_read_map(&at, &count)) return 0;
    while (count-- > 0) {
        const char *text;
        size_t length;
        if (!sw_read_text(&at, &text, &length)) return 0;
        value->at = at.at;
        if (!sw_skip(&at)) return 0;
        value->end = at.at;
        if (length == wanted && memcmp(text, key, length) == 0) return 1;
    }
    return 0;
}

/* Room for so many bytes, NULL if there is none. */
static unsigned char *sw_grow(sw_writer *out, size_t bytes) {
    if (out->failed) return NULL;
    if (bytes > out->room - out->used) {
        size_t room = out->room * 2 + 256;
        unsigned char *larger;
        if (bytes > SW_FRAME_LEN_CEILING || out->used + bytes > SW_FRAME_LEN_CEILING) {
            out->failed = 2;
            return NULL;
        }
        if (room < out->used + bytes) room = out->used + bytes;
        larger = (unsigned char *)realloc(out->bytes, room);
        if (!larger) {
            out->failed = 1;
            return NULL;
        }
        out->bytes = larger;
        out->room = room;
    }
    out->used += bytes;
    return out->bytes + out->used - bytes;
}

static int sw_pack_mark(sw_writer *out, unsigned mark, uint64_t number, unsigned width) {
    unsigned char *at = sw_grow(out, 1 + width);
    if (!at) return 0;
    *at = (unsigned char)mark;
    while (width > 0) {
        at[width--] = (unsigned char)number;
        number >>= 8;
    }
    return 0;
}

int sw_pack_nil(sw_writer *out) { return sw_pack_mark(out, 0xc0, 0, 0); }

int sw_pack_bool(sw_writer *out, int value) { return sw_pack_mark(out, value ? 0xc3 : 0xc2, 0, 0); }

int sw_pack_u64(sw_writer *out, uint64_t value) {
    if (value < 0x80) return sw_pack_mark(out, (unsigned)value, 0, 0);
    if (value <= 0xff) return sw_pack_mark(out, 0xcc, value, 1);
    if (value <= 0xffff) return sw_pack_mark(out, 0xcd, value, 2);
    if (value <= 0xffffffff) return sw_pack_mark(out, 0xce, value, 4);
    return sw_pack_mark(out, 0xcf, value, 8);
}

int sw_pack_i64(sw_writer *out, int64_t value) {
    if (value >= 0) return sw_pack_u64(out, (uint64_t)value);
    if (value >= -32) return sw_pack_mark(out, (unsigned)(value & 0xff), 0, 0);
    if (value >= INT8_MIN) return sw_pack_mark(out, 0xd0, (uint64_t)value, 1);
    if (value >= INT16_MIN) return sw_pack_mark(out, 0xd1, (uint64_t)value, 2);
    if (value >= INT32_MIN) return sw_pack_mark(out, 0xd2, (uint64_t)value, 4);
    return sw_pack_mark(out, 0xd3, (uint64_t)value, 8);
}

int sw_pack_f64(sw_writer *out, double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return sw_pack_mark(out, 0xcb, bits, 8);
}

/* A head whose short form is `fix` below `limit`, and whose longer ones begin at `mark` with that many bytes of length. */
static void sw_pack_head(sw_writer *out, uint64_t number, unsigned limit, unsigned fix, unsigned mark, unsigned width) {
    if (number < limit) {
        (void)sw_pack_mark(out, fix | (unsigned)number, 0, 0);
        return;
    }
    for (; width < 4 && number >> (8 * width) != 0; width *= 2) mark++;
    if (number >> 32 != 0) out->failed = 2;
    (void)sw_pack_mark(out, mark, number, width);
}

static void sw_append(sw_writer *out, const void *bytes, size_t length) {
    unsigned char *at = sw_grow(out, length);
    if (at && length > 0) memcpy(at, bytes, length);
}

int sw_pack_text_n(sw_writer *out, const char *text, size_t length) {
    if (sw_utf8((const unsigned char *)text, length) != length) out->failed = 1;
    sw_pack_head(out, length, 32, 0xa0, 0xd9, 1);
    sw_append(out, text, length);
    return 0;
}

int sw_pack_text(sw_writer *out, const char *text) {
    return text ? sw_pack_text_n(out, text, strlen(text)) : sw_pack_nil(out);
}

int sw_pack_bytes(sw_writer *out, const void *bytes, size_t length) {
    sw_pack_head(out, length, 0, 0, 0xc4, 1);
    sw_append(out, bytes, length);
    return 0;
}

int sw_pack_array(sw_writer *out, uint32_t count) {
    sw_pack_head(out, count, 16, 0x90, 0xdc, 2);
    return 0;
}

int sw_pack_map(sw_writer *out, uint32_t count) {
    sw_pack_head(out, count, 16, 0x80, 0xde, 2);
    return 0;
}

int sw_pack_raw(sw_writer *out, const void *packed, size_t length) {
    sw_append(out, packed, length);
    return 0;
}

/* Cuts a text and makes it UTF-8: what is none becomes a question mark. Gives its length. */
static size_t sw_mend(char *text, size_t length, size_t most) {
    unsigned char *bytes = (unsigned char *)text;
    size_t at = 0;
    if (length > most) {
        length = most;
        /* The first byte that is left out may belong to a character that begins before it. */
        while (length > 0 && (bytes[length] & 0xc0) == 0x80 && most - length < 4) length--;
    }
    while ((at += sw_utf8(bytes + at, length - at)) < length) bytes[at++] = '?';
    return length;
}

/* ---- A session -------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t id;
    uint32_t handler;
    size_t data, end; /* where its input is in the bytes of its inbox */
    size_t key;       /* likewise */
    size_t key_length;
    int64_t deadline_ms;
    uint32_t attempt;
    int has_key;
    int cancelled;
} sw_entry;

/* What was read: bytes, of which some are looked through, and the tasks in them. */
typedef struct {
    unsigned char *bytes;
    size_t used, room, scanned;
    sw_entry *entries;
    size_t count, next;
} sw_inbox;

struct sw_session {
    sw_worker *worker;
    int input, output;
    uint32_t max_frame, window;

    /* Of `lock`. The thread that serves works on `work`, and reads into it between handlers only, so that the input of a
     * handler stays where it is; the watcher reads into `later`. */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    sw_inbox work, later;
    size_t entries_max;
    uint64_t reads;       /* so that nobody reads after a poll that was before another's read */
    uint64_t skip;        /* bytes of a frame that is too large, and its id */
    uint32_t skipped;
    int ended;            /* nothing more is read */
    int code;             /* the exit code then */
    int dropped;          /* DIE now */
    int greeted;
    uint64_t number;      /* of the task that runs */
    int running, cancelled, watcher_sleeps, stop;
    uint32_t running_id;

    /* Of `out_lock`, which may be taken inside `lock`. */
    pthread_mutex_t out_lock;
    unsigned char *out;
    size_t out_used;
    int64_t oldest; /* when the first byte that waits came */
    unsigned char addresses[20];
    size_t addresses_length;
    uint32_t max_answer;
    uint64_t done, failed;

    /* Of the thread that serves. */
    int has_watcher, serial, collects;
    uint32_t tiny; /* handlers in a row, with what exceptions left of them */
    int64_t now;
    sw_writer result, item, scratch, fail_data;
    char code_text[SW_CODE_BYTES], message[SW_MESSAGE_BYTES];
    int has_failure, retry;
    uint64_t after_ms;
    int64_t second;
    int news;
};

static int64_t sw_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* -- Out */

/* Writes all of it, and waits while the parent does not read. */
static void sw_write(sw_session *s, const unsigned char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(s->output, bytes, length);
        if (written > 0) {
            bytes += written;
            length -= (size_t)written;
        } else if (written < 0 && errno == EAGAIN) {
            struct pollfd ready = { s->output, POLLOUT, 0 };
            (void)poll(&ready, 1, 1000);
        } else if (written == 0 || errno != EINTR) {
            /* Nobody reads: there is nothing left to do, and nobody to tell [L-5]. */
            _exit(1);
        }
    }
}

static void sw_flush_locked(sw_session *s) {
    sw_write(s, s->out, s->out_used);
    s->out_used = 0;
}

static void sw_flush(sw_session *s) {
    pthread_mutex_lock(&s->out_lock);
    sw_flush_locked(s);
    pthread_mutex_unlock(&s->out_lock);
}

/* Puts a frame behind the others; gives 0 if it is larger than the parent takes. */
static int sw_put(sw_session *s, const char *request, uint32_t id, const unsigned char *data, size_t length) {
    unsigned char head[64];
    size_t name = strlen(request), used, size;
    pthread_mutex_lock(&s->out_lock);
    used = 10 + name + s->addresses_length;
    size = used - 4 + length;
    if (size > s->max_answer) {
        pthread_mutex_unlock(&s->out_lock);
        return 0;
    }
    head[0] = (unsigned char)(size >> 24), head[1] = (unsigned char)(size >> 16);
    head[2] = (unsigned char)(size >> 8), head[3] = (unsigned char)size;
    head[4] = (unsigned char)(id >> 24), head[5] = (unsigned char)(id >> 16);
    head[6] = (unsigned char)(id >> 8), head[7] = (unsigned char)id;
    head[8] = 0x94;
    head[9] = (unsigned char)(0xa0 | name);
    memcpy(head + 10, request, name);
    memcpy(head + 10 + name, s->addresses, s->addresses_length);
    if (used + length > SW_OUT_BYTES - s->out_used) sw_flush_locked(s);
    if (s->out_used == 0) s->oldest = sw_now();
    memcpy(s->out + s->out_used, head, used);
    s->out_used += used;
    if (length > SW_OUT_BYTES - s->out_used) {
        sw_flush_locked(s);
        sw_write(s, data, length);
    } else if (length > 0) {
        memcpy(s->out + s->out_used, data, length);
        s->out_used += length;
    }
    if (strcmp(request, "FINISHED") == 0) s->done++;
    if (strcmp(request, "FAILED") == 0) s->failed++;
    pthread_mutex_unlock(&s->out_lock);
    return 1;
}

/* FAILED for a task whose handler never began; the texts are the SDK's own. */
static void sw_refuse(sw_session *s, uint32_t id, const char *code, const char *message) {
    unsigned char bytes[256];
    sw_writer out = { NULL, 0, 0, 0 };
    if (id == 0) return;
    out.bytes = bytes;
    out.room = sizeof bytes;
    sw_pack_map(&out, 3);
    sw_pack_text(&out, "code"), sw_pack_text(&out, code);
    sw_pack_text(&out, "message"), sw_pack_text(&out, message);
    sw_pack_text(&out, "begun"), sw_pack_bool(&out, 0);
    sw_put(s, "FAILED", id, out.bytes, out.used);
}

static void sw_set_addresses(sw_session *s, uint64_t sender, uint64_t recipient) {
    sw_writer out = { NULL, 0, 0, 0 };
    pthread_mutex_lock(&s->out_lock);
    out.bytes = s->addresses;
    out.room = sizeof s->addresses;
    sw_pack_u64(&out, sender);
    if (recipient == 0) sw_pack_nil(&out);
    else sw_pack_u64(&out, recipient);
    s->addresses_length = out.used;
    pthread_mutex_unlock(&s->out_lock);
}

/* -- In */

static void sw_end(sw_session *s, int code) {
    if (!s->ended) s->code = code;
    s->ended = 1;
}

static void sw_greet(sw_session *s, const sw_reader *data) {
    sw_reader value;
    uint64_t number, sender = (uint64_t)getpid(), recipient = 0;
    s->greeted = 1;
    if (sw_get(data, "pid", &value) && sw_read_u64(&value, &number) && number > 0 && number <= SW_ADDRESS_MAX) {
        sender = number;
    }
    if (sw_get(data, "parent", &value) && sw_read_u64(&value, &number) && number > 0 && number <= SW_ADDRESS_MAX) {
        recipient = number;
    }
    sw_set_addresses(s, sender, recipient);
    if (sw_get(data, "max_frame", &value) && sw_read_u64(&value, &number)) {
        if (number < SW_MAX_FRAME_FLOOR) number = SW_MAX_FRAME_FLOOR;
        if (number > SW_FRAME_LEN_CEILING) number = SW_FRAME_LEN_CEILING;
        pthread_mutex_lock(&s->out_lock);
        s->max_answer = (uint32_t)number;
        pthread_mutex_unlock(&s->out_lock);
    }
}

static void sw_cancel(sw_session *s, uint32_t id) {
    sw_inbox *boxes[2];
    size_t i, box;
    boxes[0] = &s->work, boxes[1] = &s->later;
    if (s->running && s->running_id == id) s->cancelled = 1;
    for (box = 0; box < 2; box++) {
        for (i = boxes[box]->next; i < boxes[box]->count; i++) {
            if (boxes[box]->entries[i].id == id) boxes[box]->entries[i].cancelled = 1;
        }
    }
}

/* A name in capitals, other than DO. */
static int sw_is_protocol(const char *name, size_t length) {
    size_t i;
    if (length == 2 && memcmp(name, "DO", 2) == 0) return 0;
    for (i = 0; i < length; i++) {
        int letter = name[i] >= 'A' && name[i] <= 'Z';
        if (!letter && (i == 0 || !((name[i] >= '0' && name[i] <= '9') || name[i] == '_'))) return 0;
    }
    return length > 0;
}

/* Reads the head of a message: 0 if it is bad; else `in` is at the data. */
static int sw_head(sw_reader *in, const char **name, size_t *length) {
    uint32_t count;
    uint64_t number;
    int64_t everyone;
    if (!sw_read_array(in, &count) || count != 4) return 0;
    if (!sw_read_text(in, name, length) || *length < 1 || *length > 255) return 0;
    if (sw_utf8((const unsigned char *)*name, *length) != *length) return 0;
    if (!sw_read_u64(in, &number) || number > SW_ADDRESS_MAX) return 0;
    if (!sw_read_nil(in)) {
        if (sw_read_u64(in, &number)) {
            if (number == 0 || number > SW_ADDRESS_MAX) return 0;
        } else if (!sw_read_i64(in, &everyone) || everyone != -1) {
            return 0;
        }
    }
    return in->at < in->end;
}

#define SW_IS(name, length, text) ((length) == sizeof(text) - 1 && memcmp(name, text, sizeof(text) - 1) == 0)

static void sw_protocol(sw_session *s, const char *name, size_t length, uint32_t id, const sw_reader *data) {
    size_t size = (size_t)(data->end - data->at);
    int readable = sw_check(data->at, size) == size;
    sw_reader value;
    int now = 0;
    if (SW_IS(name, length, "CANCEL") && id != 0 && readable) {
        sw_cancel(s, id);
    } else if (SW_IS(name, length, "PING") && id == 0 && readable && size <= 64 && s->has_watcher) {
        sw_put(s, "PONG", 0, data->at, size);
    } else if (SW_IS(name, length, "HELLO") && id == 0 && readable && !s->greeted) {
        sw_greet(s, data);
    } else if (SW_IS(name, length, "DIE") && id == 0) {
        if (readable && sw_get(data, "now", &value)) (void)sw_read_bool(&value, &now);
        if (now) s->dropped = 1;
        sw_end(s, 0);
    }
}

static void sw_read_meta(sw_inbox *box, const sw_reader *data, sw_entry *entry) {
    size_t size = (size_t)(data->end - data->at);
    sw_reader value;
    uint64_t number;
    const char *text;
    if (sw_check(data->at, size) != size) return;
    if (sw_get(data, "attempt", &value) && sw_read_u64(&value, &number) && number > 0 && number <= UINT32_MAX) {
        entry->attempt = (uint32_t)number;
    }
    if (sw_get(data, "deadline_ms", &value) && sw_read_u64(&value, &number) && number <= INT64_MAX) {
        entry->deadline_ms = (int64_t)number;
    }
    if (sw_get(data, "key", &value) && sw_read_text(&value, &text, &entry->key_length)) {
        entry->has_key = 1;
        entry->key = (size_t)((const unsigned char *)text - box->bytes);
    }
}

/* A whole frame at `at`; `meta` is the data of the META before it, if there is one for it. */
static void sw_frame(sw_session *s, sw_inbox *box, size_t at, size_t size, const sw_reader *meta) {
    uint32_t id = (uint32_t)sw_big_endian(box->bytes + at + 4, 4), i;
    sw_reader in = { NULL, NULL };
    const char *name;
    size_t length;
    sw_entry *entry;
    in.at = box->bytes + at + 8;
    in.end = box->bytes + at + size;
    if (!sw_head(&in, &name, &length)) {
        sw_refuse(s, id, "bad_message", "the head of the message cannot be read");
        return;
    }
    if (sw_is_protocol(name, length)) {
        sw_protocol(s, name, length, id, &in);
        return;
    }
    for (i = 0; i < s->worker->count; i++) {
        const char *own = s->worker->handlers[i].name;
        if (strlen(own) == length && memcmp(own, name, length) == 0) break;
    }
    if (i == s->worker->count) {
        sw_refuse(s, id, "unknown_request", "there is no handler of that name");
        return;
    }
    entry = &box->entries[box->count++];
    memset(entry, 0, sizeof *entry);
    entry->id = id;
    entry->handler = i;
    entry->data = (size_t)(in.at - box->bytes);
    entry->end = at + size;
    entry->attempt = 1;
    entry->deadline_ms = -1;
    if (meta && id != 0) sw_read_meta(box, meta, entry);
}

/* The size of the whole frame at `at`, 0 if it has not come whole. */
static size_t sw_whole(const sw_inbox *box, size_t at, uint32_t max_frame) {
    uint64_t length;
    if (box->used - at < 8) return 0;
    length = sw_big_endian(box->bytes + at, 4);
    if (length < SW_FRAME_LEN_MIN || length > max_frame || box->used - at < length + 4) return 0;
    return (size_t)length + 4;
}

/* Whether the frame is a META with an id; `data` is then its data. */
static int sw_is_meta(const sw_inbox *box, size_t at, size_t size, sw_reader *data) {
    const char *name;
    size_t length;
    data->at = box->bytes + at + 8;
    data->end = box->bytes + at + size;
    return sw_head(data, &name, &length) && SW_IS(name, length, "META") && sw_big_endian(box->bytes + at + 4, 4) != 0;
}

/* Looks through what has come, as far as there is room for tasks. */
static void sw_scan(sw_session *s, sw_inbox *box) {
    while (!s->ended && box->count < s->entries_max) {
        size_t left = box->used - box->scanned, size, after;
        unsigned char *at = box->bytes + box->scanned;
        uint64_t length;
        sw_reader meta;
        if (s->skip > 0) {
            if (left > s->skip) left = (size_t)s->skip;
            box->scanned += left;
            s->skip -= left;
            if (s->skip > 0) return;
            sw_refuse(s, s->skipped, "too_large", "the frame is larger than this worker takes");
            continue;
        }
        if (left < 4) return;
        length = sw_big_endian(at, 4);
        if (length < SW_FRAME_LEN_MIN || length > SW_FRAME_LEN_CEILING) {
            fprintf(stderr, "stokehold: the parent broke the protocol: a frame cannot begin with %02x %02x %02x %02x\n",
                    at[0], at[1], at[2], at[3]);
            sw_end(s, 4);
            return;
        }
        if (left < 8) return;
        if (length > s->max_frame) {
            s->skip = length - 4;
            s->skipped = (uint32_t)sw_big_endian(at + 4, 4);
            box->scanned += 8;
            continue;
        }
        size = sw_whole(box, box->scanned, s->max_frame);
        if (size == 0) return;
        if (!sw_is_meta(box, box->scanned, size, &meta)) {
            sw_frame(s, box, box->scanned, size, NULL);
            box->scanned += size;
            continue;
        }
        /* META and its request are taken together; META without the frame behind it waits for that. */
        after = sw_whole(box, box->scanned + size, s->max_frame);
        if (after == 0) {
            size_t next = box->scanned + size;
            /* A frame that cannot be taken whole makes it void. */
            if (box->used - next < 4) return;
            length = sw_big_endian(box->bytes + next, 4);
            if (length >= SW_FRAME_LEN_MIN && length <= s->max_frame) return;
            box->scanned = next;
        } else {
            sw_reader another;
            size_t next = box->scanned + size;
            int mine = memcmp(at + 4, box->bytes + next + 4, 4) == 0;
            box->scanned = next;
            if (sw_is_meta(box, next, after, &another)) continue;
            sw_frame(s, box, next, after, mine ? &meta : NULL);
            box->scanned = next + after;
        }
    }
}

/* Memory for tasks that are on their way must be there. */
static void *sw_must(void *memory, size_t size) {
    if (memory) return memory;
    fprintf(stderr, "stokehold: no memory for %lu bytes of tasks\n", (unsigned long)size);
    _exit(1);
}

/* Reads once into the inbox, which must be ready to be read into; takes memory for what has come [F-11]. */
static void sw_fill(sw_session *s, sw_inbox *box) {
    ssize_t got;
    s->reads++;
    if (box->room - box->used < SW_READ_BYTES) {
        size_t room = box->room * 2 + SW_READ_BYTES;
        box->bytes = (unsigned char *)sw_must(realloc(box->bytes, room), room);
        box->room = room;
    }
    got = read(s->input, box->bytes + box->used, box->room - box->used);
    if (got > 0) {
        box->used += (size_t)got;
    } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
        sw_reader meta;
        size_t size = sw_whole(box, box->scanned, s->max_frame);
        /* META waits for the frame behind it, and is whole. */
        int inside = box->used > box->scanned &&
                     !(size == box->used - box->scanned && sw_is_meta(box, box->scanned, size, &meta));
        if (!s->ended && (inside || s->skip > 0)) fprintf(stderr, "stokehold: the input ended inside a frame\n");
        sw_end(s, inside || s->skip > 0 ? 3 : 0);
    }
}

/* Makes room at the front of an inbox without tasks, and gives back what one large frame took. */
static void sw_tidy(sw_inbox *box) {
    if (box->scanned > 0) memmove(box->bytes, box->bytes + box->scanned, box->used - box->scanned);
    box->used -= box->scanned;
    box->scanned = box->count = box->next = 0;
    if (box->room > 16 * SW_READ_BYTES && box->used < SW_READ_BYTES) {
        unsigned char *smaller = (unsigned char *)realloc(box->bytes, 4 * SW_READ_BYTES);
        if (smaller) {
            box->bytes = smaller;
            box->room = 4 * SW_READ_BYTES;
        }
    }
}

/* Waits until there is input, at most so long; ends the process if nobody reads its output any more. */
static int sw_wait(sw_session *s, int ms) {
    struct pollfd ready[2];
    ready[0].fd = s->input, ready[0].events = POLLIN, ready[0].revents = 0;
    ready[1].fd = s->output, ready[1].events = 0, ready[1].revents = 0;
    if (poll(ready, 2, ms) <= 0) return 0;
    if (ready[1].revents & POLLERR) _exit(1);
    return ready[0].revents != 0;
}

/* -- The watcher: what has to be done while a handler runs */

static void sw_watch_task(sw_session *s, uint64_t number) {
    /* Called and left with `lock`. */
    while (s->running && s->number == number && !s->stop) {
        uint64_t reads = s->reads;
        int may_read = !s->ended && s->later.used < (size_t)s->max_frame + (16u << 20) && s->later.count < s->entries_max;
        int ready = 0;
        pthread_mutex_unlock(&s->lock);
        sw_flush(s);
        if (may_read) ready = sw_wait(s, 20);
        else (void)poll(NULL, 0, 20);
        pthread_mutex_lock(&s->lock);
        if (!ready || !s->running || s->number != number || s->reads != reads) continue;
        if (s->work.scanned < s->work.used) {
            /* The handler's input must stay where it is, so what is unread goes on elsewhere. */
            size_t left = s->work.used - s->work.scanned;
            if (s->later.room < left) {
                free(s->later.bytes);
                s->later.bytes = (unsigned char *)sw_must(malloc(left), left);
                s->later.room = left;
            }
            memcpy(s->later.bytes, s->work.bytes + s->work.scanned, left);
            s->later.used = left;
            s->work.used = s->work.scanned;
        }
        if (s->later.count == 0) sw_tidy(&s->later);
        sw_scan(s, &s->later);
        /* The end of input is judged by what is not looked through. */
        if (!s->ended && s->later.count < s->entries_max) {
            sw_fill(s, &s->later);
            sw_scan(s, &s->later);
        }
        /* A handler in hand need not be waited for. */
        if (s->dropped) _exit(0);
    }
}

static void *sw_watch(void *session) {
    sw_session *s = (sw_session *)session;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        uint64_t number = s->number;
        if (!s->running) {
            s->watcher_sleeps = 1;
            pthread_cond_wait(&s->wake, &s->lock);
            s->watcher_sleeps = 0;
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        (void)poll(NULL, 0, SW_WATCH_MS);
        pthread_mutex_lock(&s->lock);
        sw_watch_task(s, number);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* -- Work */

int sw_fail(sw_task *task, const char *code, const char *format, ...) {
    static const char *const known[] = { "error",     "unknown_request", "bad_data",   "bad_message",
                                         "too_large", "cancelled",       "overloaded", "unavailable" };
    sw_session *s = task->session;
    va_list list;
    int length, ok = code != NULL && strchr(code, '.') != NULL;
    size_t i;
    for (i = 0; code && i < sizeof known / sizeof *known; i++) ok |= strcmp(code, known[i]) == 0;
    /* The parent would take any other for it, too [E-3]. */
    snprintf(s->code_text, sizeof s->code_text, "%s", ok ? code : "error");
    va_start(list, format);
    length = vsnprintf(s->message, sizeof s->message, format, list);
    va_end(list);
    if (length < 0) s->message[0] = 0;
    s->has_failure = 1;
    return -1;
}

int sw_fail_retry(sw_task *task, uint64_t after_ms) {
    task->session->retry = 1;
    task->session->after_ms = after_ms;
    return -1;
}

int sw_fail_data(sw_task *task, const void *packed, size_t length) {
    task->session->fail_data.used = 0;
    sw_append(&task->session->fail_data, packed, length);
    return -1;
}

int sw_cancelled(sw_task *task) {
    sw_session *s = task->session;
    int cancelled;
    pthread_mutex_lock(&s->lock);
    cancelled = s->cancelled;
    pthread_mutex_unlock(&s->lock);
    return cancelled;
}

sw_writer *sw_item_writer(sw_task *task) {
    task->session->item.used = 0;
    task->session->item.failed = 0;
    return &task->session->item;
}

/* So that nothing waits if nobody watches, and nothing waits long if somebody does. */
static void sw_flush_if_due(sw_session *s) {
    pthread_mutex_lock(&s->out_lock);
    if (!s->has_watcher || sw_now() - s->oldest > SW_LONG_NS) sw_flush_locked(s);
    pthread_mutex_unlock(&s->out_lock);
}

int sw_item(sw_task *task, const sw_writer *item) {
    sw_session *s = task->session;
    if (item->failed == 2) return sw_fail(task, "too_large", "a result is more than any parent takes");
    if (item->failed || sw_check(item->bytes, item->used) != item->used || item->used == 0) {
        return sw_fail(task, "bad_data", "a result is not one MessagePack value");
    }
    if (task->id == 0) return 0;
    if (!sw_put(s, "ITEM", task->id, item->bytes, item->used)) {
        return sw_fail(task, "too_large", "a result of %lu bytes is more than the parent takes", (unsigned long)item->used);
    }
    sw_flush_if_due(s);
    return 0;
}

static void sw_send_news(sw_session *s, const char *request, uint32_t id) {
    int64_t now = sw_now();
    if (now / 1000000000 != s->second) s->second = now / 1000000000, s->news = 0;
    if (s->scratch.failed || ++s->news > SW_NEWS_MAX) return;
    (void)sw_put(s, request, id, s->scratch.bytes, s->scratch.used);
    sw_flush_if_due(s);
}

/* Packs a text that may be anything: cut, and mended. */
static void sw_pack_any(sw_writer *out, const char *text) {
    char mended[SW_MESSAGE_BYTES];
    size_t length = strlen(text);
    if (length > sizeof mended - 1) length = sizeof mended - 1;
    memcpy(mended, text, length);
    mended[length] = 0;
    /* One byte less than there is, so that it sees where the text was cut. */
    sw_pack_text_n(out, mended, sw_mend(mended, length, length == sizeof mended - 1 ? length - 1 : length));
}

void sw_progress(sw_task *task, uint64_t done, int64_t total, const char *note) {
    sw_session *s = task->session;
    if (task->id == 0) return;
    s->scratch.used = 0, s->scratch.failed = 0;
    sw_pack_map(&s->scratch, 1u + (total >= 0) + (note != NULL));
    sw_pack_text(&s->scratch, "done"), sw_pack_u64(&s->scratch, done);
    if (total >= 0) sw_pack_text(&s->scratch, "total"), sw_pack_i64(&s->scratch, total);
    if (note) sw_pack_text(&s->scratch, "note"), sw_pack_any(&s->scratch, note);
    sw_send_news(s, "PROGRESS", task->id);
}

void sw_log(sw_task *task, const char *level, const char *format, ...) {
    sw_session *s = task->session;
    char text[SW_MESSAGE_BYTES];
    va_list list;
    va_start(list, format);
    if (vsnprintf(text, sizeof text, format, list) < 0) text[0] = 0;
    va_end(list);
    s->scratch.used = 0, s->scratch.failed = 0;
    sw_pack_map(&s->scratch, 2);
    sw_pack_text(&s->scratch, "level"), sw_pack_any(&s->scratch, level);
    sw_pack_text(&s->scratch, "msg"), sw_pack_any(&s->scratch, text);
    sw_send_news(s, "LOG", task->id);
}

static void sw_send_failure(sw_session *s, uint32_t id) {
    int has_data = s->fail_data.used > 0 && !s->fail_data.failed &&
                   sw_check(s->fail_data.bytes, s->fail_data.used) == s->fail_data.used;
    for (;; has_data = 0) {
        sw_writer *out = &s->scratch;
        out->used = 0, out->failed = 0;
        sw_pack_map(out, 2u + (s->retry != 0) + (s->retry && s->after_ms > 0) + (has_data != 0));
        sw_pack_text(out, "code"), sw_pack_any(out, s->code_text);
        sw_pack_text(out, "message"), sw_pack_any(out, s->message);
        if (s->retry) sw_pack_text(out, "retry"), sw_pack_bool(out, 1);
        if (s->retry && s->after_ms > 0) sw_pack_text(out, "after_ms"), sw_pack_u64(out, s->after_ms);
        if (has_data) sw_pack_text(out, "data"), sw_pack_raw(out, s->fail_data.bytes, s->fail_data.used);
        /* Only the user's own data can be too much. */
        if ((!out->failed && sw_put(s, "FAILED", id, out->bytes, out->used)) || !has_data) return;
    }
}

static void sw_run(sw_session *s, const sw_entry *entry) {
    sw_task task;
    sw_reader in = { NULL, NULL };
    size_t size = entry->end - entry->data;
    int failed;
    if (entry->cancelled) {
        sw_refuse(s, entry->id, "cancelled", "cancelled before it began");
        return;
    }
    in.at = s->work.bytes + entry->data;
    in.end = in.at + size;
    if (sw_check(in.at, size) != size) {
        sw_refuse(s, entry->id, "bad_data", "the data is not one MessagePack value");
        return;
    }
    task.id = entry->id;
    task.request = s->worker->handlers[entry->handler].name;
    task.attempt = entry->attempt;
    task.key = entry->has_key ? (const char *)s->work.bytes + entry->key : NULL;
    task.key_length = entry->key_length;
    task.deadline_ms = entry->deadline_ms;
    task.user = s->worker->user;
    task.session = s;
    s->has_failure = s->retry = 0;
    s->after_ms = 0;
    s->fail_data.used = 0, s->fail_data.failed = 0;
    s->result.used = 0, s->result.failed = 0;
    failed = s->worker->handlers[entry->handler].handler(&task, &in, &s->result);
    if (failed && !s->has_failure) (void)sw_fail(&task, "error", "the handler gave %d", failed);
    if (!failed) {
        if (s->result.used == 0 && !s->result.failed) sw_pack_nil(&s->result);
        if (s->result.failed == 2) {
            failed = sw_fail(&task, "too_large", "a result is more than any parent takes");
        } else if (s->result.failed || sw_check(s->result.bytes, s->result.used) != s->result.used) {
            failed = sw_fail(&task, "bad_data", "the result is not one MessagePack value");
        } else if (entry->id != 0 && !sw_put(s, "FINISHED", entry->id, s->result.bytes, s->result.used)) {
            failed = sw_fail(&task, "too_large", "a result of %lu bytes is more than the parent takes",
                             (unsigned long)s->result.used);
        }
    }
    if (failed && entry->id != 0) sw_send_failure(s, entry->id);
    if (failed && entry->id == 0) fprintf(stderr, "stokehold: a one-way request failed: %s\n", s->message);
    if (s->result.room > 1u << 20) {
        free(s->result.bytes);
        memset(&s->result, 0, sizeof s->result);
    }
}

static void sw_say_serial(sw_session *s, int serial) {
    unsigned char bytes[16];
    sw_writer out = { NULL, 0, 0, 0 };
    out.bytes = bytes;
    out.room = sizeof bytes;
    sw_pack_map(&out, 1);
    sw_pack_text(&out, "serial"), sw_pack_bool(&out, serial);
    (void)sw_put(s, "CREDIT", 0, out.bytes, out.used);
}

/* Before a handler: what is finished must not wait for it, unless handlers have proven to be tiny [W-9, W-10, L-13]. */
static void sw_flush_before_handler(sw_session *s) {
    pthread_mutex_lock(&s->out_lock);
    if (s->out_used > 0 && (!s->collects || s->now - s->oldest > SW_LONG_NS / 10)) sw_flush_locked(s);
    pthread_mutex_unlock(&s->out_lock);
}

/* After a handler: what it has shown. */
static void sw_learn(sw_session *s, int64_t took) {
    if (took < SW_TINY_NS) {
        if (s->tiny < SW_PROOF_TASKS) s->tiny++;
        if (s->tiny == SW_PROOF_TASKS && !s->collects && s->window > 1 && s->has_watcher) {
            sw_say_serial(s, 0);
            sw_flush(s);
            s->collects = 1;
        }
        return;
    }
    /* On a busy machine most exceptions are the scheduler's work. */
    s->tiny = took < SW_LONG_NS && s->collects && s->tiny > SW_EXCEPTION ? s->tiny - SW_EXCEPTION : 0;
    if (s->tiny == 0 && s->collects) {
        sw_say_serial(s, 1);
        sw_flush(s);
        s->collects = 0;
    }
}

/* Takes the next task out of what was read: 1, or 0 if something must be read first, or -1 at the end. */
static int sw_take(sw_session *s, sw_entry *entry) {
    sw_inbox *work = &s->work;
    for (;;) {
        if (s->dropped) return -1;
        if (work->next < work->count) break;
        if (s->later.used > 0) {
            sw_inbox before = *work;
            before.used = before.scanned = before.count = before.next = 0;
            *work = s->later;
            s->later = before;
            continue;
        }
        sw_tidy(work);
        sw_scan(s, work);
        if (work->count == 0) return s->ended ? -1 : 0;
    }
    *entry = work->entries[work->next++];
    s->running = 1;
    s->running_id = entry->id;
    s->cancelled = 0;
    s->number++;
    if (s->watcher_sleeps) pthread_cond_signal(&s->wake);
    return 1;
}

static void sw_work(sw_session *s) {
    sw_entry entry;
    int taken;
    s->now = sw_now();
    for (;;) {
        pthread_mutex_lock(&s->lock);
        s->running = 0;
        taken = sw_take(s, &entry);
        pthread_mutex_unlock(&s->lock);
        if (taken < 0) return;
        if (taken == 0) {
            sw_flush(s);
            if (sw_wait(s, -1)) {
                pthread_mutex_lock(&s->lock);
                sw_fill(s, &s->work);
                pthread_mutex_unlock(&s->lock);
            }
            s->now = sw_now();
        } else {
            int64_t begin = s->now;
            sw_flush_before_handler(s);
            sw_run(s, &entry);
            s->now = sw_now();
            sw_learn(s, s->now - begin);
        }
    }
}

/* ---- Beginning and end ------------------------------------------------------------------------------------------------ */

extern char **environ;

/* So that a program this one starts does not take itself for a worker. */
static void sw_clear_environment(void) {
    size_t i = 0;
    while (environ && environ[i]) {
        char name[64];
        const char *equals = strchr(environ[i], '=');
        size_t length = equals ? (size_t)(equals - environ[i]) : 0;
        if (strncmp(environ[i], "STOKEHOLD_", 10) == 0 && length > 0 && length < sizeof name) {
            memcpy(name, environ[i], length);
            name[length] = 0;
            if (unsetenv(name) == 0) {
                i = 0;
                continue;
            }
        }
        i++;
    }
}

/* Finds the protocol and guards what else prints and reads: 0, or the exit code. */
static int sw_settle(sw_session *s, const char *io) {
    int null, moved = io == NULL || strcmp(io, "stdio") == 0;
    char behind;
    if (moved) {
        if (io == NULL && isatty(0)) {
            fprintf(stderr, "stokehold: this is a worker: a parent starts it, for instance `stokehold run -- ./worker`\n");
            return 2;
        }
        s->input = fcntl(0, F_DUPFD_CLOEXEC, 3);
        s->output = fcntl(1, F_DUPFD_CLOEXEC, 3);
        if (s->input < 0 || s->output < 0) {
            fprintf(stderr, "stokehold: descriptor %d is not open\n", s->input < 0 ? 0 : 1);
            return 2;
        }
        fflush(stdout);
        /* It becomes 2 if that is closed. */
        null = open("/dev/null", O_RDWR);
        if (null < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0) {
            fprintf(stderr, "stokehold: /dev/null cannot be opened\n");
            return 1;
        }
        if (null > 2) close(null);
        return 0;
    }
    if (sscanf(io, "fd:%d,%d%c", &s->input, &s->output, &behind) != 2 || s->input < 0 || s->output < 0) {
        fprintf(stderr, "stokehold: STOKEHOLD_IO is \"%s\", which is neither stdio nor fd:R,W\n", io);
        return 2;
    }
    if (fcntl(s->input, F_SETFD, FD_CLOEXEC) < 0 || fcntl(s->output, F_SETFD, FD_CLOEXEC) < 0) {
        fprintf(stderr, "stokehold: the descriptors of %s are not open\n", io);
        return 2;
    }
    return 0;
}

/* Whether a list with commas has that name; without a list it has. */
static int sw_offers(const char *list, const char *name) {
    size_t length = strlen(name);
    while (list) {
        list += strspn(list, " ");
        if (strncmp(list, name, length) == 0 && strspn(list + length, " ") == strcspn(list + length, ",")) return 1;
        list = strchr(list, ',');
        if (!list) return 0;
        list++;
    }
    return 1;
}

static void sw_refuse_offer(sw_session *s, const char *code, const char *supported) {
    sw_writer *out = &s->scratch;
    sw_pack_map(out, 3);
    sw_pack_text(out, "code"), sw_pack_text(out, code);
    sw_pack_text(out, "message"), sw_pack_text(out, "this worker speaks version 1 with msgpack");
    sw_pack_text(out, "data"), sw_pack_map(out, 1), sw_pack_text(out, "supported"), sw_pack_array(out, 1);
    if (supported) sw_pack_text(out, supported);
    else sw_pack_u64(out, 1);
    (void)sw_put(s, "FAILED", 0, out->bytes, out->used);
    sw_flush(s);
}

static void sw_hello(sw_session *s) {
    static const char *const caps[] = { "meta", "cancel", "ping" };
    sw_writer *out = &s->scratch;
    uint32_t i, count = s->has_watcher ? 3 : 1;
    out->used = 0;
    sw_pack_map(out, 7);
    sw_pack_text(out, "v"), sw_pack_u64(out, 1);
    sw_pack_text(out, "window"), sw_pack_u64(out, s->window);
    sw_pack_text(out, "caps"), sw_pack_array(out, count);
    for (i = 0; i < count; i++) sw_pack_text(out, caps[i]);
    sw_pack_text(out, "max_frame"), sw_pack_u64(out, s->max_frame);
    sw_pack_text(out, "serial"), sw_pack_bool(out, 1);
    sw_pack_text(out, "sdk"), sw_pack_text(out, SW_SDK);
    sw_pack_text(out, "methods"), sw_pack_array(out, (uint32_t)s->worker->count);
    for (i = 0; i < s->worker->count; i++) sw_pack_text(out, s->worker->handlers[i].name);
    (void)sw_put(s, "HELLO", 0, out->bytes, out->used);
}

static void sw_ignore(int signal_number) { (void)signal_number; }

/* A handler that does nothing, where ignoring would be inherited by the programs that this one starts. */
static void sw_ignore_signal(int signal_number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = sw_ignore;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    (void)sigaction(signal_number, &action, NULL);
}

static int sw_session_run(sw_session *s) {
    unsigned char nil = 0xc0;
    pthread_t watcher;
    s->has_watcher = pthread_create(&watcher, NULL, sw_watch, s) == 0;
    sw_hello(s);
    if (s->worker->init) {
        int code;
        sw_flush(s);
        code = s->worker->init(s->worker);
        /* The watcher waits for a task, and ends with the process. */
        if (code != 0) exit(code);
    }
    (void)sw_put(s, "READY", 0, &nil, 1);
    sw_work(s);
    if (s->has_watcher) {
        pthread_mutex_lock(&s->lock);
        s->stop = 1;
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
        pthread_join(watcher, NULL);
    }
    if (s->dropped) return 0;
    if (s->code == 0) {
        s->scratch.used = 0;
        sw_pack_map(&s->scratch, 2);
        sw_pack_text(&s->scratch, "done"), sw_pack_u64(&s->scratch, s->done);
        sw_pack_text(&s->scratch, "failed"), sw_pack_u64(&s->scratch, s->failed);
        (void)sw_put(s, "BYE", 0, s->scratch.bytes, s->scratch.used);
    }
    sw_flush(s);
    return s->code;
}

void sw_on(sw_worker *worker, const char *request, sw_handler handler) {
    if (worker->count < SW_HANDLERS_MAX) {
        worker->handlers[worker->count].name = request;
        worker->handlers[worker->count].handler = handler;
    }
    worker->count++;
}

int sw_serve(sw_worker *worker) {
    sw_session *s = (sw_session *)calloc(1, sizeof *s);
    const char *io = getenv("STOKEHOLD_IO"), *slot = getenv("STOKEHOLD_WORKER");
    const char *versions = getenv("STOKEHOLD_PROTO"), *codecs = getenv("STOKEHOLD_CODEC");
    int code, has_parent = io || slot || versions || codecs || getenv("STOKEHOLD_PARENT");
    size_t i;
    if (!s) return 1;
    if (worker->count > SW_HANDLERS_MAX) {
        fprintf(stderr, "stokehold: more than %d handlers\n", SW_HANDLERS_MAX);
        free(s);
        return 1;
    }
    for (i = 0; i < worker->count; i++) {
        const char *name = worker->handlers[i].name;
        size_t length = strlen(name);
        if (length < 1 || length > 255 || sw_is_protocol(name, length) || sw_utf8((const unsigned char *)name, length) != length) {
            fprintf(stderr, "stokehold: \"%s\" cannot be the name of a request\n", name);
            free(s);
            return 1;
        }
    }
    s->worker = worker;
    s->window = worker->window ? worker->window : SW_WINDOW_DEFAULT;
    if (s->window > SW_WINDOW_MAX) s->window = SW_WINDOW_MAX;
    s->max_frame = worker->max_frame ? worker->max_frame : SW_MAX_FRAME_DEFAULT;
    if (s->max_frame < SW_MAX_FRAME_FLOOR) s->max_frame = SW_MAX_FRAME_FLOOR;
    if (s->max_frame > SW_FRAME_LEN_CEILING) s->max_frame = SW_FRAME_LEN_CEILING;
    s->max_answer = SW_MAX_FRAME_DEFAULT;
    /* More than the window only if the parent breaks it, or for one-way requests; the rest waits in the bytes. */
    s->entries_max = s->window + 64;
    worker->slot = slot && *slot ? atoi(slot) : -1;
    code = sw_settle(s, io);
    if (code != 0) {
        free(s);
        return code;
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->out_lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    sw_set_addresses(s, (uint64_t)getpid(), 0);
    s->out = (unsigned char *)malloc(SW_OUT_BYTES);
    s->work.entries = (sw_entry *)malloc(s->entries_max * sizeof(sw_entry));
    s->later.entries = (sw_entry *)malloc(s->entries_max * sizeof(sw_entry));
    sw_ignore_signal(SIGPIPE);
    /* The parent decides when this process ends; ^C in its terminal is for the parent. */
    if (has_parent) sw_ignore_signal(SIGINT);
    if (!s->out || !s->work.entries || !s->later.entries) {
        code = 1;
    } else if (!sw_offers(versions, "1")) {
        sw_refuse_offer(s, "version", NULL);
        code = 5;
    } else if (!sw_offers(codecs, "msgpack")) {
        sw_refuse_offer(s, "codec", "msgpack");
        code = 5;
    } else {
        sw_clear_environment();
        code = sw_session_run(s);
    }
    free(s->out);
    free(s->work.entries), free(s->work.bytes);
    free(s->later.entries), free(s->later.bytes);
    free(s->result.bytes), free(s->item.bytes), free(s->scratch.bytes), free(s->fail_data.bytes);
    free(s);
    return code;
}

#endif
