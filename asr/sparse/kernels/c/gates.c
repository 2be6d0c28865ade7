/* Gates of the recurrent cells, equations of torch.nn.GRU, LSTM and RNN; within 1e-6 of them. */
#define VECTORS PLAIN
#include "vectors.h"
#include "gates.h"
#include "vectors_end.h"

#if ASR_X86
#define VECTORS AVX2
#include "vectors.h"
#include "gates.h"
#include "vectors_end.h"

#define VECTORS AVX512
#include "vectors.h"
#include "gates.h"
#include "vectors_end.h"
#elif ASR_ARM
#define VECTORS NEON
#include "vectors.h"
#include "gates.h"
#include "vectors_end.h"
#endif

const asr_gates *asr_gates_of(int level) {
#if ASR_ARM
    if (level >= ASR_NEON) return &gates_neon;
#endif
#if ASR_X86
    if (level >= ASR_AVX512F) return &gates_avx512;
    if (level >= ASR_AVX2) return &gates_avx2;
#endif
    (void)level;
    return &gates_plain;
}
