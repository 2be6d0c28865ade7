/* Runs a product that instructions.py wrote to a file, to count its instructions.
 *
 *     instructions FILE N TIMES
 *
 * On x86 a parent follows its child step by step between two signals and prints their number. On
 * other processors the product is computed TIMES times, and the emulator counts.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sparse.h"

int32_t asr_product(const asr_matrix *m, const float *x, int64_t x_ld, int64_t n, const float *bias,
                    float *y, int64_t y_ld, void *scratch);
int64_t asr_scratch(const asr_matrix *m);

/* The next array of the file, aligned to 64 bytes; NULL if it is empty. */
static void *array(FILE *file) {
    int64_t size;
    if (fread(&size, sizeof size, 1, file) != 1) exit(2);
    if (!size) return NULL;
    void *to = aligned_alloc(64, ((size_t)size + 127) / 64 * 64);
    if (!to || fread(to, 1, (size_t)size, file) != (size_t)size) exit(2);
    return to;
}

#if defined(__x86_64__)
static void mark(void) { raise(SIGSTOP); }

static int count(void) {
    const pid_t child = fork();
    if (!child) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        return 0;
    }
    int64_t steps = -1;
    for (int status; waitpid(child, &status, 0) == child && WIFSTOPPED(status);) {
        if (WSTOPSIG(status) == SIGSTOP && steps >= 0) {
            printf("%lld\n", (long long)steps);
            kill(child, SIGKILL);
            exit(0);
        }
        steps++;
        ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
    }
    exit(2);
}
#else
static void mark(void) {}
static int count(void) { return 0; }
#endif

int main(int argc, char **argv) {
    asr_matrix m;
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    if (!file || fread(&m, 32, 1, file) != 1) return 2;
    m.starts = array(file);
    m.index = array(file);
    m.wide = array(file);
    m.words = array(file);
    m.sums = array(file);
    m.scales = array(file);
    m.blocks = array(file);
    m.order = array(file);
    const int n = atoi(argv[2]), times = atoi(argv[3]);
    float *x = calloc((size_t)n * m.columns, sizeof *x), *y = malloc(sizeof *y * n * m.rows);
    void *scratch = aligned_alloc(64, ((size_t)asr_scratch(&m) + 127) / 64 * 64);
    if (!x || !y || !scratch) return 2;
    for (int64_t i = 0; i < (int64_t)n * m.columns; i++) x[i] = (float)(i % 17) - 8.0f;
    count();
    mark();
    for (int k = 0; k < times; k++)
        if (asr_product(&m, x, m.columns, n, NULL, y, m.rows, scratch)) return 3;
    mark();
    return 0;
}
