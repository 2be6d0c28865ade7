/* The instruction sets that this processor and its system offer. */
#include "sparse.h"

#if ASR_ARM && defined(__linux__)
#include <sys/auxv.h>
#elif ASR_ARM && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#if ASR_ARM
/* Whether this processor multiplies and adds bytes, and the compiler knew how. */
static int has_dot(void) {
#if !ASR_HAS_DOT
    return 0;
#elif defined(__ARM_FEATURE_DOTPROD)
    return 1; /* the whole library needs it */
#elif defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP, which older headers lack */
#elif defined(__APPLE__)
    int found = 0;
    size_t size = sizeof found;
    return !sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &size, NULL, 0) && found;
#else
    return 0;
#endif
}
#endif

/* Whether dot products of bytes in vectors of 32 bytes can be encoded without AVX-512. */
int asr_has_avxvnni(void) {
#if ASR_AVXVNNI
    return __builtin_cpu_supports("avxvnni") != 0;
#else
    return 0;
#endif
}

/* `VERSION` of asr/sparse/kernels/library.py. */
ASR_EXPORT int32_t asr_sparse_version(void) { return 7; }

/* Which levels of sparse.h can be used: bit l of the result is level l. */
ASR_EXPORT int32_t asr_sparse_levels(void) {
    int32_t found = 1 << ASR_PLAIN;
#if ASR_X86
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
          __builtin_cpu_supports("f16c")))
        return found;
    found |= 1 << ASR_AVX2;
    if (asr_has_avxvnni()) found |= 1 << ASR_AVX2VNNI;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
          __builtin_cpu_supports("avx512dq")))
        return found;
    found |= 1 << ASR_AVX512F;
    if (!__builtin_cpu_supports("avx512bw")) return found;
    found |= 1 << ASR_AVX512BW;
    if (!__builtin_cpu_supports("avx512vnni")) return found;
    found |= 1 << ASR_AVX2VNNI | 1 << ASR_AVX512VNNI;
#elif ASR_ARM
    found |= 1 << ASR_NEON;
    if (has_dot()) found |= 1 << ASR_NEON_DOT;
#endif
    return found;
}
