/* A worker: cc -pthread -o words example.c; printf 'a b a\n' | stokehold run --request words -- ./words */
#define STOKEHOLD_WORKER_IMPLEMENTATION
#include "stokehold_worker.h"

static int words(sw_task *task, sw_reader *in, sw_writer *out) {
    const char *text;
    size_t length, i;
    uint64_t count = 0;
    if (!sw_read_text(in, &text, &length)) return sw_fail(task, "bad_data", "a text is wanted");
    for (i = 0; i < length; i++) count += text[i] != ' ' && (i == 0 || text[i - 1] == ' ');
    return sw_pack_u64(out, count);
}

int main(void) {
    sw_worker worker = SW_WORKER;
    sw_on(&worker, "words", words);
    return sw_serve(&worker);
}
