/* The product of a matrix and any number of columns: chooses the kernel and splits into passes. */
#include <string.h>

#include "sparse.h"

asr_product_fn *asr_product_of(const asr_matrix *m) {
    switch (m->kernel) {
#if ASR_ARM
        case ASR_CSR: return m->level >= ASR_NEON ? asr_csr_neon : asr_csr;
#else
        case ASR_CSR: return asr_csr;
#endif
#if ASR_X86
        case ASR_PERM8:
            if (m->level == ASR_PLAIN) return asr_perm8_plain;
            if (m->level != ASR_AVX2VNNI && m->level < ASR_AVX512VNNI) return asr_perm8_avx2;
#if ASR_AVXVNNI
            if (asr_has_avxvnni()) return asr_perm8_avxvnni;
#endif
            return asr_perm8_evexvnni;
        case ASR_PERM16: return m->level >= ASR_AVX512VNNI ? asr_perm16_vnni : asr_perm16_bw;
        case ASR_PERM32: return m->level >= ASR_AVX512F ? asr_perm32_avx512 : asr_perm32_avx2;
        case ASR_BLOCK_FP32:
            return m->level >= ASR_AVX512F ? asr_block_fp32_avx512
                   : m->level >= ASR_AVX2  ? asr_block_fp32_avx2
                                           : asr_block_fp32_plain;
        case ASR_BLOCK_FP16:
            return m->level >= ASR_AVX512F ? asr_block_fp16_avx512
                   : m->level >= ASR_AVX2  ? asr_block_fp16_avx2
                                           : asr_block_fp16_plain;
        case ASR_BLOCK_INT8:
            return m->level >= ASR_AVX512VNNI ? asr_block_int8_vnni
                   : m->level == ASR_AVX512BW ? asr_block_int8_bw
                   : m->level >= ASR_AVX2     ? asr_block_int8_avx2
                                              : asr_block_int8_plain;
#elif ASR_ARM
        case ASR_PERM8:
            return m->level >= ASR_NEON_DOT ? asr_perm8_dot
                   : m->level >= ASR_NEON   ? asr_perm8_neon
                                            : asr_perm8_plain;
        case ASR_BLOCK_FP32:
            return m->level >= ASR_NEON ? asr_block_fp32_neon : asr_block_fp32_plain;
        case ASR_BLOCK_FP16:
            return m->level >= ASR_NEON ? asr_block_fp16_neon : asr_block_fp16_plain;
        case ASR_BLOCK_INT8:
            return m->level >= ASR_NEON_DOT ? asr_block_int8_dot
                   : m->level >= ASR_NEON   ? asr_block_int8_neon
                                            : asr_block_int8_plain;
#else
        case ASR_PERM8: return asr_perm8_plain;
        case ASR_BLOCK_FP32: return asr_block_fp32_plain;
        case ASR_BLOCK_FP16: return asr_block_fp16_plain;
        case ASR_BLOCK_INT8: return asr_block_int8_plain;
#endif
        default: return NULL;
    }
}

/* Bytes of the table that a kernel makes of its input columns: at most two floats (the int8 blocks)
 * for each element, with the number of columns rounded up to whole vectors. */
size_t asr_scratch_of(const asr_matrix *m) {
    const size_t columns = ((size_t)m->columns + 63) / 64 * 64;
    return columns * ASR_PASS * 2 * sizeof(float);
}

ASR_EXPORT int64_t asr_scratch(const asr_matrix *m) { return (int64_t)asr_scratch_of(m); }

/* y (n, rows) = x (n, columns) M^T (+ bias). The rows of x and y are contiguous, x_ld and y_ld
 * floats apart. Returns 0, or 1 if this build has no kernel for the layout. */
ASR_EXPORT int32_t asr_product(const asr_matrix *m, const float *x, int64_t x_ld, int64_t n,
                               const float *bias, float *y, int64_t y_ld, void *scratch) {
    asr_product_fn *product = asr_product_of(m);
    if (!product) return 1;
    for (int64_t at = 0; at < n;) {
        const float *from[ASR_PASS];
        float *to[ASR_PASS];
        /* Even passes: 9 columns are 5 and 4, not 8 and 1. */
        const int64_t passes = (n - at + ASR_PASS - 1) / ASR_PASS;
        const int some = (int)((n - at + passes - 1) / passes);
        for (int j = 0; j < some; j++) {
            from[j] = x + (at + j) * x_ld;
            to[j] = y + (at + j) * y_ld;
        }
        product(m, from, some, bias, to, scratch);
        at += some;
    }
    return 0;
}
