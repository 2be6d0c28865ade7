/* The instruction sets that this processor and its system offer. */
#include "sparse.h"

/* `VERSION` of asr/sparse/kernels/library.py. */
ASR_EXPORT int32_t asr_sparse_version(void) { return 3; }

/* The highest level of sparse.h that can be used. */
ASR_EXPORT int32_t asr_sparse_level(void) {
#if ASR_X86
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
          __builtin_cpu_supports("f16c")))
        return ASR_PLAIN;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
          __builtin_cpu_supports("avx512dq")))
        return ASR_AVX2;
    if (!__builtin_cpu_supports("avx512bw")) return ASR_AVX512F;
    return __builtin_cpu_supports("avx512vnni") ? ASR_AVX512VNNI : ASR_AVX512BW;
#else
    return ASR_PLAIN;
#endif
}
