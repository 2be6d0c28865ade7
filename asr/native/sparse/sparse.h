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

#endif
