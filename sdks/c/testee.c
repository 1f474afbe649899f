/* Answers the requests by which an SDK is tested. */
#define STOKEHOLD_WORKER_IMPLEMENTATION
#include "stokehold_worker.h"

#include <sys/wait.h>

extern char **environ;

/* A number of the map that is the input, or what is meant without it. */
static int64_t number(const sw_reader *in, const char *key, int64_t otherwise) {
    sw_reader value;
    int64_t found;
    return sw_get(in, key, &value) && sw_read_i64(&value, &found) ? found : otherwise;
}

/* Whether the input is a map, with a number of that name if one is given; else the task fails. */
static int wanted(sw_task *task, const sw_reader *in, const char *name) {
    sw_reader value;
    int64_t found;
    if (sw_peek(in) != SW_MAP) return (void)sw_fail(task, "bad_data", "a map is wanted"), 0;
    if (!name || (sw_get(in, name, &value) && sw_read_i64(&value, &found) && found >= 0)) return 1;
    return (void)sw_fail(task, "bad_data", "%s is no number", name), 0;
}

/* A text of the map, as a new string, or NULL. */
static char *text(const sw_reader *in, const char *key) {
    sw_reader value;
    const char *found;
    size_t length;
    char *copy;
    if (!sw_get(in, key, &value) || !sw_read_text(&value, &found, &length)) return NULL;
    copy = (char *)calloc(1, length + 1);
    if (copy) memcpy(copy, found, length);
    return copy;
}

static int64_t now_ms(void) { return sw_now() / 1000000; }

static int echo(sw_task *task, sw_reader *in, sw_writer *out) {
    (void)task;
    return sw_pack_raw(out, in->at, (size_t)(in->end - in->at));
}

static int fail(sw_task *task, sw_reader *in, sw_writer *out) {
    char *code = text(in, "code"), *message = text(in, "message");
    sw_reader value;
    int retry = 0;
    (void)out;
    (void)sw_fail(task, code ? code : "error", "%s", message ? message : "");
    if (sw_get(in, "retry", &value) && sw_read_bool(&value, &retry) && retry) (void)sw_fail_retry(task, 0);
    if (number(in, "after_ms", 0) > 0) (void)sw_fail_retry(task, (uint64_t)number(in, "after_ms", 0));
    if (sw_get(in, "data", &value)) (void)sw_fail_data(task, value.at, (size_t)(value.end - value.at));
    free(code), free(message);
    return -1;
}

static int raise_error(sw_task *task, sw_reader *in, sw_writer *out) {
    const char *message = "";
    size_t length = 0;
    (void)out;
    (void)sw_read_text(in, &message, &length);
    return sw_fail(task, "error", "%.*s", (int)length, message);
}

static int bad_result(sw_task *task, sw_reader *in, sw_writer *out) {
    (void)task, (void)in;
    return sw_pack_raw(out, "\x93\xc1", 2);
}

static int sleep_awhile(sw_task *task, sw_reader *in, sw_writer *out) {
    int64_t ms = number(in, "ms", 0), end = now_ms() + ms, left;
    if (!wanted(task, in, "ms")) return -1;
    while ((left = end - now_ms()) > 0) {
        struct timespec step = { 0, 0 };
        if (sw_cancelled(task)) return sw_fail(task, "cancelled", "cancelled");
        step.tv_nsec = (long)(left < 10 ? left : 10) * 1000000;
        (void)nanosleep(&step, NULL);
    }
    return sw_pack_i64(out, ms);
}

static int spin(sw_task *task, sw_reader *in, sw_writer *out) {
    int64_t ms = number(in, "ms", 0), end = now_ms() + ms;
    if (!wanted(task, in, "ms")) return -1;
    (void)task;
    while (now_ms() < end) {}
    return sw_pack_i64(out, ms);
}

static int pack_as(sw_writer *out, int64_t size) {
    char *bytes = (char *)malloc(size > 0 ? (size_t)size : 1);
    if (!bytes) return -1;
    memset(bytes, 'a', (size_t)size);
    sw_pack_bytes(out, bytes, (size_t)size);
    free(bytes);
    return 0;
}

static int items(sw_task *task, sw_reader *in, sw_writer *out) {
    int64_t n = number(in, "n", 0), size = number(in, "size", -1), i;
    if (!wanted(task, in, "n")) return -1;
    for (i = 0; i < n; i++) {
        sw_writer *item = sw_item_writer(task);
        if (sw_cancelled(task)) return sw_fail(task, "cancelled", "cancelled");
        if (size < 0) sw_pack_i64(item, i);
        else if (pack_as(item, size) != 0) return sw_fail(task, "error", "no memory");
        if (sw_item(task, item) != 0) return -1;
    }
    return sw_pack_i64(out, n);
}

static int big(sw_task *task, sw_reader *in, sw_writer *out) {
    int64_t bytes = number(in, "bytes", 0);
    if (!wanted(task, in, "bytes")) return -1;
    if (bytes < 0 || pack_as(out, bytes) != 0) return sw_fail(task, "bad_data", "so many bytes are not to be had");
    return 0;
}

static int print(sw_task *task, sw_reader *in, sw_writer *out) {
    char *line = text(in, "text"), *how = text(in, "how");
    if (!wanted(task, in, NULL)) return -1;
    (void)out;
    if (line && how && strcmp(how, "raw") == 0) {
        if (write(1, line, strlen(line)) < 0 || write(1, "\n", 1) < 0) perror("write");
    } else if (line && how && strcmp(how, "process") == 0) {
        FILE *cat = popen("cat", "w");
        if (cat) {
            fprintf(cat, "%s\n", line);
            pclose(cat);
        }
    } else if (line) {
        puts(line);
        fflush(stdout);
    }
    free(line), free(how);
    return 0;
}

static int read_stdin(sw_task *task, sw_reader *in, sw_writer *out) {
    char *how = text(in, "how"), buffer[4096];
    int64_t bytes = 0;
    size_t got;
    FILE *source = how && strcmp(how, "process") == 0 ? popen("cat", "r") : stdin;
    if (!wanted(task, in, NULL)) return -1;
    (void)task;
    while (source && (got = fread(buffer, 1, sizeof buffer, source)) > 0) bytes += (int64_t)got;
    if (source && source != stdin) pclose(source);
    free(how);
    return sw_pack_i64(out, bytes);
}

static int spawn(sw_task *task, sw_reader *in, sw_writer *out) {
    char seconds[32];
    pid_t pid;
    if (!wanted(task, in, "ms")) return -1;
    snprintf(seconds, sizeof seconds, "%.3f", (double)number(in, "ms", 0) / 1000);
    pid = fork();
    if (pid == 0) {
        execlp("sleep", "sleep", seconds, (char *)NULL);
        _exit(127);
    }
    if (pid < 0) return sw_fail(task, "error", "fork: %s", strerror(errno));
    return sw_pack_i64(out, pid);
}

static int leave(sw_task *task, sw_reader *in, sw_writer *out) {
    if (!wanted(task, in, "code")) return -1;
    (void)task, (void)out;
    _exit((int)number(in, "code", 0));
}

static int log_line(sw_task *task, sw_reader *in, sw_writer *out) {
    char *level = text(in, "level"), *msg = text(in, "msg");
    if (!wanted(task, in, NULL)) return -1;
    (void)out;
    sw_log(task, level ? level : "info", "%s", msg ? msg : "");
    free(level), free(msg);
    return 0;
}

static int progress(sw_task *task, sw_reader *in, sw_writer *out) {
    int64_t n = number(in, "n", 0), i;
    if (!wanted(task, in, "n")) return -1;
    (void)out;
    for (i = 1; i <= n; i++) sw_progress(task, (uint64_t)i, n, NULL);
    return 0;
}

static int meta(sw_task *task, sw_reader *in, sw_writer *out) {
    (void)in;
    sw_pack_map(out, 3);
    sw_pack_text(out, "attempt"), sw_pack_u64(out, task->attempt);
    sw_pack_text(out, "key");
    if (task->key) sw_pack_text_n(out, task->key, task->key_length);
    else sw_pack_nil(out);
    sw_pack_text(out, "deadline_ms");
    return task->deadline_ms < 0 ? sw_pack_nil(out) : sw_pack_i64(out, task->deadline_ms);
}

static int env(sw_task *task, sw_reader *in, sw_writer *out) {
    uint32_t count = 0, pass, i;
    (void)task, (void)in;
    for (pass = 0; pass < 2; pass++) {
        if (pass == 1) sw_pack_array(out, count);
        for (i = 0; environ[i]; i++) {
            if (strncmp(environ[i], "STOKEHOLD_", 10) != 0) continue;
            if (pass == 0) count++;
            else sw_pack_text_n(out, environ[i], strcspn(environ[i], "="));
        }
    }
    return 0;
}

static int pid(sw_task *task, sw_reader *in, sw_writer *out) {
    (void)task, (void)in;
    sw_pack_map(out, 1);
    sw_pack_text(out, "pid");
    return sw_pack_i64(out, getpid());
}

int main(void) {
    sw_worker worker = SW_WORKER;
    sw_on(&worker, "DO", echo);
    sw_on(&worker, "test.echo", echo);
    sw_on(&worker, "test.fail", fail);
    sw_on(&worker, "test.raise", raise_error);
    sw_on(&worker, "test.bad_result", bad_result);
    sw_on(&worker, "test.sleep", sleep_awhile);
    sw_on(&worker, "test.spin", spin);
    sw_on(&worker, "test.items", items);
    sw_on(&worker, "test.big", big);
    sw_on(&worker, "test.print", print);
    sw_on(&worker, "test.stdin", read_stdin);
    sw_on(&worker, "test.spawn", spawn);
    sw_on(&worker, "test.exit", leave);
    sw_on(&worker, "test.log", log_line);
    sw_on(&worker, "test.progress", progress);
    sw_on(&worker, "test.meta", meta);
    sw_on(&worker, "test.env", env);
    sw_on(&worker, "test.pid", pid);
    return sw_serve(&worker);
}
