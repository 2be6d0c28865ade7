/* What the files of this folder share. Everything here is re-entrant, single-threaded C99 with
 * compiler intrinsics; Python passes the instruction set to use in every call, so that each can
 * be forced in a test. */
#ifndef ASR_SPARSE_H
#define ASR_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define ASR_EXPORT __declspec(dllexport)
#else
#define ASR_EXPORT __attribute__((visibility("default")))
#endif

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define ASR_X86 1
#define ASR_TARGET(set) __attribute__((target(set)))
#else
#define ASR_X86 0
#define ASR_TARGET(set)
#endif

/* Instruction sets, each with all those before it; twins of asr/sparse/kernels/library.py. */
enum {
    ASR_PLAIN = 0,
    ASR_AVX2 = 1,      /* AVX2, FMA, F16C */
    ASR_AVX512F = 2,   /* AVX-512 F, VL, DQ */
    ASR_AVX512BW = 3,  /* and BW */
    ASR_AVX512VNNI = 4 /* and VNNI */
};

/* Columns of the right-hand side that share one pass over the weights. */
#define ASR_PASS 8

enum {
    ASR_CSR = 0,
    ASR_PERM16 = 1,
    ASR_PERM32 = 2,
    ASR_BLOCK_FP32 = 3,
    ASR_BLOCK_FP16 = 4,
    ASR_BLOCK_INT8 = 5
};

/* A matrix in the layout of one kernel; the arrays are Python's, who has checked every index.
 * Twin of `_Matrix` in asr/sparse/kernels/matrix.py. */
typedef struct {
    int32_t kernel, level;
    int32_t rows, columns;
    int32_t groups;        /* of rows that are computed together */
    int32_t run;           /* vectors that share one pair of stretches (perm16) */
    const int32_t *starts; /* (groups + 1): vectors, columns of blocks or elements */
    const uint16_t *index; /* where a vector or a block reads its columns */
    const int32_t *wide;   /* the same in 32 bits (csr) */
    const void *words;     /* the weights */
    const float *scales;   /* of each lane of each group: what one unit of a word is worth */
    const int32_t *blocks; /* each group is so many groups from the first row (perm) */
    const int32_t *order;  /* or, where that is NULL: row of each lane of each group, -1: none */
} asr_matrix;

/* y[j] = M x[j] (+ bias) for n <= ASR_PASS columns; scratch holds asr_scratch(m) bytes, 64-byte
 * aligned. */
typedef void asr_product_fn(const asr_matrix *m, const float *const *x, int n, const float *bias,
                            float *const *y, void *scratch);

asr_product_fn asr_csr;
asr_product_fn asr_perm16_bw, asr_perm16_vnni;
asr_product_fn asr_perm32_avx2, asr_perm32_avx512;
asr_product_fn asr_block_fp32_plain, asr_block_fp32_avx2, asr_block_fp32_avx512;
asr_product_fn asr_block_fp16_plain, asr_block_fp16_avx2, asr_block_fp16_avx512;
asr_product_fn asr_block_int8_plain, asr_block_int8_avx2, asr_block_int8_bw, asr_block_int8_vnni;

asr_product_fn *asr_product_of(const asr_matrix *m);
size_t asr_scratch_of(const asr_matrix *m);

/* One step of `n` columns of `hidden` units: gates of the input and of the state, the state
 * before (h, c) and after (h_new; c in place). */
typedef void asr_gates_fn(int hidden, const float *given, const float *recurrent, const float *h,
                          float *c, float *h_new);

typedef struct {
    asr_gates_fn *gru, *lstm, *rnn_tanh, *rnn_relu;
} asr_gates;

const asr_gates *asr_gates_of(int level);

#endif
