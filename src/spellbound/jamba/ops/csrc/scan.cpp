// Selective scan (Mamba, arXiv:2312.00752, algorithm 2) on the CPU, forward and backward, for Python's ctypes.
//
//   h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t        y_t = C_t . h_t + skip x_t
//
// Plain C interface, no torch headers. The kernel is compiled once per instruction set and chosen at run time. Work is
// cut over (batch, channels) only, and every sum runs in an order fixed by the shape, so any number of threads gives equal bytes.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int TILE = 64;  // steps handled at once: the tile and its states stay in the second-level cache
constexpr float LOG2E = 1.44269504088896341f;

struct ScanForward {
    const float *x, *dt, *A, *B, *C, *skip, *h0;
    const unsigned char* starts;
    float *y, *hT, *tile_states;
    long T, D, tiles, padded_D;
    int N;
};
struct ScanBackward {
    const float *x, *dt, *A, *B, *C, *skip, *tile_states, *dy, *dhT;
    const unsigned char* starts;
    float *dx, *ddt, *dA, *dB, *dC, *dskip, *dh0;
    long batches, T, D, tiles, padded_D, groups, group_width;
    int N;
};
struct Kernel {
    int lanes;
    long (*forward_scratch)(int N);
    long (*backward_scratch)(int N, long group_width);
    void (*forward)(const ScanForward&, long task, void* scratch);
    void (*backward)(const ScanBackward&, long task, void* scratch);
};

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
namespace avx512 {
#define LANES 16
#include "scan_kernel.h"
#undef LANES
}
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
namespace avx2 {
#define LANES 8
#include "scan_kernel.h"
#undef LANES
}
#pragma clang attribute pop
#elif defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
namespace avx512 {
#define LANES 16
#include "scan_kernel.h"
#undef LANES
}
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#define LANES 8
#include "scan_kernel.h"
#undef LANES
}
#pragma GCC pop_options
#endif
namespace portable {  // SSE2 on x86-64, NEON on Arm
#define LANES 4
#include "scan_kernel.h"
#undef LANES
}

const Kernel* find_kernel(const char* name) {
#if defined(__x86_64__)
    if (!std::strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl")
                   ? &avx512::kernel
                   : nullptr;
    if (!std::strcmp(name, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2::kernel : nullptr;
#endif
    return std::strcmp(name, "portable") ? nullptr : &portable::kernel;
}

// Subnormal states are slow and mean nothing here: flush them inside our loops, and leave the caller's mode as it was.
class FlushSubnormals {
#if defined(__x86_64__)
    unsigned saved = _mm_getcsr();

   public:
    FlushSubnormals() { _mm_setcsr(saved | 0x8040); }
    ~FlushSubnormals() { _mm_setcsr(saved); }
#endif
};

using Runner = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);

struct Work {
    std::atomic<long> next{0};
    long tasks, scratch_bytes;
    void (*run)(const void* arguments, const Kernel& kernel, long task, void* scratch);
    const void* arguments;
    const Kernel* kernel;
};

void worker(void* data) {
    Work& work = *static_cast<Work*>(data);
    [[maybe_unused]] FlushSubnormals guard;  // does nothing but on x86-64
    void* scratch = std::aligned_alloc(64, (work.scratch_bytes + 63) / 64 * 64);
    if (!scratch) return;
    for (long task; (task = work.next.fetch_add(1)) < work.tasks;) work.run(work.arguments, *work.kernel, task, scratch);
    std::free(scratch);
}

// `runner` is the host's GOMP_parallel (torch's own thread pool, so that two pools never fight over the cores), or null.
int run_parallel(Work& work, int threads, Runner runner) {
    threads = static_cast<int>(std::max(1L, std::min<long>(threads, work.tasks)));
    if (threads == 1) {
        worker(&work);
    } else if (runner) {
        runner(worker, &work, static_cast<unsigned>(threads), 0);
    } else {
        std::vector<std::thread> others;
        try {
            for (int i = 1; i < threads; ++i) others.emplace_back(worker, &work);
        } catch (const std::system_error&) {
            // No thread to be had: those that started, and this one, share the work.
        }
        worker(&work);
        for (auto& thread : others) thread.join();
    }
    // A thread without memory leaves its share to the others; only if all of them failed is work left undone.
    return work.next.load() >= work.tasks ? 0 : 1;
}

}  // namespace

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Lanes of the named kernel ("avx512", "avx2", "portable"), or 0 when this build or processor lacks it.
EXPORT int spellbound_scan_lanes(const char* name) {
    const Kernel* kernel = find_kernel(name);
    return kernel ? kernel->lanes : 0;
}

EXPORT int spellbound_scan_tile() { return TILE; }

// Shapes: x, dt, y (B,T,D); A (D,N); B, C (B,T,N); skip (D); h0, hT (B,D,N); starts (B,T), 1 where a document begins.
// tile_states, when wanted for a backward pass: (B, tiles, padded_D, N), in the kernel's own lane order.
// Optional pointers may be null. Returns 0, 1 without memory, 2 for an unknown kernel.
EXPORT int spellbound_scan_forward(const char* name, int threads, Runner runner, long batches, long T, long D, int N,
                                   const float* x, const float* dt, const float* A, const float* B, const float* C,
                                   const float* skip, const float* h0, const unsigned char* starts, float* y, float* hT,
                                   float* tile_states) {
    const Kernel* kernel = find_kernel(name);
    if (!kernel) return 2;
    const long lanes = kernel->lanes, blocks = (D + lanes - 1) / lanes;
    const ScanForward scan = {x, dt, A, B, C, skip, h0, starts, y, hT, tile_states, T, D, (T + TILE - 1) / TILE, blocks * lanes, N};
    Work work;
    work.tasks = batches * blocks;
    work.scratch_bytes = kernel->forward_scratch(N);
    work.arguments = &scan;
    work.kernel = kernel;
    work.run = [](const void* arguments, const Kernel& k, long task, void* scratch) {
        k.forward(*static_cast<const ScanForward*>(arguments), task, scratch);
    };
    return run_parallel(work, threads, runner);
}

// As above, with the gradients: dx, ddt (B,T,D); dA, dh0 (B,D,N) and dskip (B,D), to be summed over B by the caller;
// dB, dC (groups,B,T,N), to be summed over groups, where groups = ceil(D / group_width); group_width is a multiple of 16.
EXPORT int spellbound_scan_backward(const char* name, int threads, Runner runner, long batches, long T, long D, int N,
                                    long group_width, const float* x, const float* dt, const float* A, const float* B,
                                    const float* C, const float* skip, const unsigned char* starts, const float* tile_states,
                                    const float* dy, const float* dhT, float* dx, float* ddt, float* dA, float* dB, float* dC,
                                    float* dskip, float* dh0) {
    const Kernel* kernel = find_kernel(name);
    if (!kernel) return 2;
    const long lanes = kernel->lanes, padded_D = (D + lanes - 1) / lanes * lanes;
    const long groups = (D + group_width - 1) / group_width;
    const ScanBackward scan = {x,  dt,  A,  B,  C,     skip, tile_states, dy, dhT, starts, dx, ddt, dA, dB, dC, dskip,
                               dh0, batches, T, D, (T + TILE - 1) / TILE, padded_D, groups, group_width, N};
    Work work;
    work.tasks = batches * groups;
    work.scratch_bytes = kernel->backward_scratch(N, group_width);
    work.arguments = &scan;
    work.kernel = kernel;
    work.run = [](const void* arguments, const Kernel& k, long task, void* scratch) {
        k.backward(*static_cast<const ScanBackward*>(arguments), task, scratch);
    };
    return run_parallel(work, threads, runner);
}
