/* Sparse products and recurrent layers: the map of this folder, and what its files share.
 *
 *   What Python calls:
 *     product.c      asr_product: chooses a kernel and splits the input into passes
 *     recurrent.c    asr_recurrent: one direction of a GRU, LSTM or RNN
 *     training.c     asr_training_forward and _backward: the same of a GRU or RNN, with gradients
 *     convolution.c  asr_convolution, asr_sparse_convolution; convolution16.c: asr_convolution16
 *     layout.c       asr_perm_layout, and asr_perm8_words, 16 and 32: for the perm kernels
 *     cpu.c          asr_sparse_levels: the instruction sets of this processor
 *   Kernels, each with a layout of its own:
 *     csr.c          any pattern and processor, fp32
 *     perm8.c        element and bank patterns, 8-bit weights and inputs; AVX2, with and without VNNI
 *     perm16.c       element and bank patterns, 16-bit weights; AVX-512 BW and VNNI
 *     perm32.c       element and bank patterns, fp32; AVX2 and AVX-512
 *     block.c        block patterns, fp32, fp16 and int8; any processor
 *     *_neon.c       csr, perm8 and block in the vectors of ARM; neon.h is what they share
 *   The cells of recurrent.c:
 *     gates.c        GRU, LSTM and RNN, compiled from gates.h once for each instruction set; the
 *                    vectors of both gates.c and training.c are macros of vectors.h
 *
 * The file of each kernel begins with a drawing of its layout. Python makes the arrays
 * (asr/sparse/kernels/layouts.py) and has checked every index before C reads it.
 *
 * Everything is re-entrant, single-threaded C with compiler intrinsics. Python passes the
 * instruction set in every call, so that a test can force each of them. Without GCC or clang
 * (Microsoft's compiler) only the plain kernels are built.
 */
#ifndef ASR_SPARSE_H
#define ASR_SPARSE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define ASR_EXPORT __declspec(dllexport)
#else
#define ASR_EXPORT __attribute__((visibility("default")))
#endif

/* GCC for Windows does not align the stack for vectors of 32 bytes (GCC bug 54412); clang does. */
#if defined(__x86_64__) && (defined(__clang__) || (defined(__GNUC__) && !defined(_WIN32)))
#define ASR_X86 1
#define ASR_TARGET(set) __attribute__((target(set)))
#else
#define ASR_X86 0
#define ASR_TARGET(set)
#endif

/* Every 64-bit ARM processor has NEON. Most have dot products of bytes too (ARMv8.2 DotProd), all
 * of Apple's among them, whose compiler thus needs no attribute. */
#if defined(__aarch64__) && !defined(__AARCH64EB__) && (defined(__GNUC__) || defined(__clang__))
#define ASR_ARM 1
#else
#define ASR_ARM 0
#endif
#if ASR_ARM && defined(__ARM_FEATURE_DOTPROD)
#define ASR_HAS_DOT 1
#define ASR_DOT_TARGET
#elif ASR_ARM && defined(__clang__) && __clang_major__ >= 16
#define ASR_HAS_DOT 1
#define ASR_DOT_TARGET __attribute__((target("dotprod")))
#elif ASR_ARM && !defined(__clang__) && __GNUC__ >= 8
#define ASR_HAS_DOT 1
#define ASR_DOT_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#else
#define ASR_HAS_DOT 0
#endif

/* Compilers that know AVX-VNNI: GCC 11, clang 12 (Apple counts differently). */
#if ASR_X86 && (defined(__clang__) ? __clang_major__ >= 13 : __GNUC__ >= 11)
#define ASR_AVXVNNI 1
#else
#define ASR_AVXVNNI 0
#endif

/* For functions that are compiled once for each constant number of columns they are called with. */
#if defined(__GNUC__) || defined(__clang__)
#define ASR_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define ASR_INLINE static __forceinline
#else
#define ASR_INLINE static inline
#endif

/* Instruction sets: `LEVELS` of asr/sparse/kernels/library.py. Each has all those before it of the
 * same processors, but that AVX-512 F and BW need not have VNNI. */
enum {
    ASR_PLAIN = 0,
    ASR_AVX2 = 1,       /* AVX2, FMA, F16C */
    ASR_AVX2VNNI = 2,   /* and AVX-VNNI, or the same instructions of AVX-512 VNNI and VL */
    ASR_AVX512F = 3,    /* AVX-512 F, VL, DQ */
    ASR_AVX512BW = 4,   /* and BW */
    ASR_AVX512VNNI = 5, /* and VNNI */
    ASR_NEON = 6,       /* of ARM: NEON */
    ASR_NEON_DOT = 7    /* and dot products of bytes */
};

/* Columns of the right-hand side that share one pass over the weights. Loading a word of weights
 * costs more than multiplying with it, and the sums of 8 columns still fit the registers. */
#define ASR_PASS 8

/* Layouts: `KERNEL_CODES` of asr/sparse/kernels/matrix.py. */
enum {
    ASR_CSR = 0,
    ASR_PERM16 = 1,
    ASR_PERM32 = 2,
    ASR_BLOCK_FP32 = 3,
    ASR_BLOCK_FP16 = 4,
    ASR_BLOCK_INT8 = 5,
    ASR_PERM8 = 6
};

/* A matrix in the layout of one kernel; the arrays belong to Python. Must equal `MatrixStruct` in
 * asr/sparse/kernels/matrix.py. A kernel computes the rows of a group together. */
typedef struct {
    int32_t kernel, level;
    int32_t rows, columns;
    int32_t groups;        /* of 16 rows (8 with AVX2 in perm32, `lanes` in perm8, 1 in csr) */
    int32_t run;           /* consecutive vectors that read the same columns (perm16 and 32) */
    int32_t lanes, pairs;  /* rows of a group, and pairs of stretches of a vector (perm8) */
    const int32_t *starts; /* (groups + 1): first vector, block or element of each group */
    const uint16_t *index; /* the columns that a vector or a block reads */
    const int32_t *wide;   /* the same in 32 bits (csr) */
    const void *words;     /* the weights */
    const int32_t *sums;   /* of the words of each lane of each group (perm8) */
    const float *scales;   /* of each lane of each group: the value of 1 in a word */
    const int32_t *blocks; /* group g holds the rows from lanes * blocks[g] on (perm) */
    const int32_t *order;  /* or, if that is NULL: the row of each lane of each group, -1: none */
} asr_matrix;

/* y[j] = M x[j] (+ bias) for n <= ASR_PASS columns; `scratch` has asr_scratch(m) bytes and is
 * aligned to 64. */
typedef void asr_product_fn(const asr_matrix *m, const float *const *x, int n, const float *bias,
                            float *const *y, void *scratch);

asr_product_fn asr_csr;
asr_product_fn asr_perm8_plain, asr_perm8_avx2, asr_perm8_avxvnni, asr_perm8_evexvnni;
asr_product_fn asr_perm16_bw, asr_perm16_vnni;
asr_product_fn asr_perm32_avx2, asr_perm32_avx512;
asr_product_fn asr_block_fp32_plain, asr_block_fp32_avx2, asr_block_fp32_avx512;
asr_product_fn asr_block_fp16_plain, asr_block_fp16_avx2, asr_block_fp16_avx512;
asr_product_fn asr_block_int8_plain, asr_block_int8_avx2, asr_block_int8_bw, asr_block_int8_vnni;
asr_product_fn asr_csr_neon, asr_perm8_neon, asr_perm8_dot;
asr_product_fn asr_block_fp32_neon, asr_block_fp16_neon, asr_block_int8_neon, asr_block_int8_dot;

/* How the kernels that round their input make integers of a column: each number times `scale`.
 * `unit` is the value of 1 in them. If something in the column is not finite, `unit` is NaN and so
 * is every output. */
typedef struct {
    float scale, unit;
} asr_rounding;

/* For a column whose largest size is `most`, which becomes `limit`. */
ASR_INLINE asr_rounding asr_rounding_to(float limit, float most, int finite) {
    /* A tiny largest value has no finite reciprocal; the column counts as 0. */
    const asr_rounding r = {finite && most > 1e-30f ? limit / most : 0.0f,
                            finite ? most / limit : NAN};
    return r;
}

/* The same for n numbers, on any processor. */
ASR_INLINE asr_rounding asr_rounding_of(float limit, const float *x, int n) {
    float most = 0.0f;
    int finite = 1;
    for (int i = 0; i < n; i++) {
        const float size = fabsf(x[i]);
        finite &= size < INFINITY;
        most = size > most ? size : most;
    }
    return asr_rounding_to(limit, most, finite);
}

int asr_has_avxvnni(void);

asr_product_fn *asr_product_of(const asr_matrix *m);
size_t asr_scratch_of(const asr_matrix *m);

/* One step of one utterance: the products of the input (`given`) and of the state (`recurrent`)
 * with their biases, the state before (h, c) and after (h_new; c in place). */
typedef void asr_gates_fn(int hidden, const float *given, const float *recurrent, const float *h,
                          float *c, float *h_new);

typedef struct {
    asr_gates_fn *gru, *lstm, *rnn_tanh, *rnn_relu;
} asr_gates;

const asr_gates *asr_gates_of(int level);

#endif
