// The CPU kernels of Jamba, for Python's ctypes: plain C interface, no torch headers.
//
// Each kernel is compiled once per instruction set and chosen at run time. Work is cut so that no sum crosses a cut whose
// place depends on the number of threads: any number of them gives equal bytes. All arithmetic is float32; tensors marked E
// are float or bfloat16, chosen by the argument `half`.

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

constexpr int TILE = 64;      // steps of a scan or convolution handled at once: they and their states stay in the cache
constexpr int MAX_TAPS = 16;  // widest convolution
constexpr int ROWS = 32;      // rows of a norm or SwiGLU in one task
constexpr int ROWS_AT_ONCE = 4;   // rows of a matrix read side by side: enough streams for the memory, few enough registers
constexpr long PREFETCH = 4096;   // bytes ahead of which a matrix is fetched, about what arrives while one of them is used
constexpr int MAX_EXPERTS = 256;

struct bf16 {
    unsigned short bits;
};
inline float to_float(float value) { return value; }
inline float to_float(bf16 value) {
    const unsigned bits = static_cast<unsigned>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

// ---- arguments. B batch, T time, D channels, N states, K taps, H hidden, F inner, R rank of the step size

template <class E>
struct ScanForward {
    const E *x, *dt, *gate;                  // (B,T,D), the gate at strides of its own, or null
    const float *A, *B, *C, *skip, *h0;      // (D,N), (B,T,N), (B,T,N), (D) or null, (B,D,N) or null
    const unsigned char* starts;             // (B,T), 1 where a document begins, or null
    E* y;                                    // (B,T,D)
    float *hT, *tile_states;                 // (B,D,N); (B,tiles,padded_D,N) in the kernel's lane order, or null
    long gate_batch, gate_row, T, D, tiles, padded_D;
    int N;
};
template <class E>
struct ScanBackward {
    ScanForward<E> forward;
    const E* dy;
    const float* dhT;
    E *dx, *ddt, *dgate;           // (B,T,D)
    float *dA, *dB, *dC, *dskip, *dh0;  // (B,D,N), twice (groups,B,T,N), (B,D), (B,D,N)
    long batches, groups, group_width;
};
struct ConvShape {
    const unsigned char* starts;
    long x_batch, x_row, T, D;
    int K;
};
template <class E>
struct ConvForward {
    ConvShape shape;
    const E *x, *window;         // (B,T,D) at its strides; (B,K-1,D) or null
    const float *weight, *bias;  // (K,D); (D) or null
    E* y;                        // (B,T,D)
};
template <class E>
struct ConvBackward {
    ConvForward<E> forward;
    const E* dy;
    E *dx, *dwindow;          // (B,T,D), (B,K-1,D) or null
    float *dweight, *dbias;   // (B,K,D), (B,D)
};
template <class E>
struct Norm {
    const E *x, *weight, *dy;  // (rows,size) at x_row; (size); (rows,size)
    E *y, *dx;
    float* dweight;  // (tasks,size)
    long rows, size, x_row;
    float eps;
};
template <class E>
struct Swiglu {
    const E *gate, *up, *dy;  // (rows,size), the first two at rows of their own length
    E *y, *dgate, *dup;       // the last two at rows of slope_row
    long rows, size, gate_row, up_row, slope_row;
};
template <class E>
struct MambaStep {
    const E *x, *norm, *in_proj, *in_bias, *conv_weight, *conv_bias, *x_proj, *dt_norm, *b_norm, *c_norm, *dt_proj, *dt_bias;
    const E *A_log, *skip, *out_proj, *out_bias, *window;
    const float* h;
    E *y, *next_window;
    float* next_h;
    long H, D;
    int N, R, K;
    float eps;
};
template <class E>
struct FeedForwardStep {
    const E *x, *norm, *router, *gate, *up, *down;
    E* y;
    long H, F, experts, gate_expert;  // gate_expert: from one expert's gate to the next one's
    int top_k;
    float eps;
};

// ---- threads

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

// `runner` is the host's GOMP_parallel (torch's own thread pool, so that two pools never fight over the cores), or null.
struct Team {
    int threads;
    Runner runner;
};
struct Work {
    std::atomic<long> next{0};
    long tasks, scratch_bytes;
    void (*run)(const void* arguments, long task, void* scratch);
    const void* arguments;
};

void worker(void* data) {
    Work& work = *static_cast<Work*>(data);
    [[maybe_unused]] FlushSubnormals guard;  // does nothing but on x86-64
    void* scratch = work.scratch_bytes ? std::aligned_alloc(64, (work.scratch_bytes + 63) / 64 * 64) : nullptr;
    if (work.scratch_bytes && !scratch) return;
    for (long task; (task = work.next.fetch_add(1)) < work.tasks;) work.run(work.arguments, task, scratch);
    std::free(scratch);
}

// Returns 0, or 1 where every thread lacked memory: one without leaves its share to the others.
int run_parallel(Work& work, const Team& team) {
    const int threads = static_cast<int>(std::max(1L, std::min<long>(team.threads, work.tasks)));
    if (threads == 1) {
        worker(&work);
    } else if (team.runner) {
        team.runner(worker, &work, static_cast<unsigned>(threads), 0);
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
    return work.next.load() >= work.tasks ? 0 : 1;
}

template <class Arguments>
int run_tasks(const Team& team, long tasks, long scratch_bytes, const Arguments& arguments,
              void (*run)(const Arguments&, long, void*)) {
    struct Call {
        const Arguments& arguments;
        void (*run)(const Arguments&, long, void*);
    };
    const Call call = {arguments, run};
    Work work;
    work.tasks = tasks;
    work.scratch_bytes = scratch_bytes;
    work.arguments = &call;
    work.run = [](const void* data, long task, void* scratch) {
        const Call& c = *static_cast<const Call*>(data);
        c.run(c.arguments, task, scratch);
    };
    return run_parallel(work, team);
}

// Calls body(task) for every task; alone where waking the others would take longer than `numbers` numbers take to read.
constexpr long WORTH_WAKING = 1L << 15;
template <class Body>
void parallel(const Team& team, long tasks, long numbers, const Body& body) {
    const Team alone = {1, nullptr};
    Work work;
    work.tasks = tasks;
    work.scratch_bytes = 0;
    work.arguments = &body;
    work.run = [](const void* data, long task, void*) { (*static_cast<const Body*>(data))(task); };
    run_parallel(work, numbers < WORTH_WAKING ? alone : team);
}

// Rows of a matrix in one task: about 32 KB of weights, in whole groups, and whole vectors of results.
inline long block_of_rows(long row_bytes) { return std::max(16L, (1L << 15) / row_bytes / 16 * 16); }
inline long padded(long floats) { return (floats + 15) / 16 * 16; }

// ---- the kernels, once per instruction set

template <class E>
struct Table {
    void (*scan_forward)(const ScanForward<E>&, long, void*);
    void (*scan_backward)(const ScanBackward<E>&, long, void*);
    void (*conv_forward)(const ConvForward<E>&, long, void*);
    void (*conv_backward)(const ConvBackward<E>&, long, void*);
    void (*norm_forward)(const Norm<E>&, long, void*);
    void (*norm_backward)(const Norm<E>&, long, void*);
    void (*swiglu_forward)(const Swiglu<E>&, long, void*);
    void (*swiglu_backward)(const Swiglu<E>&, long, void*);
    void (*mamba_step)(const Team&, const MambaStep<E>&, float*);
    void (*feed_forward_step)(const Team&, const FeedForwardStep<E>&, float*);
    void (*multiply)(const Team&, const E* W, const E* bias, long rows, long columns, const float* x, float* y);
};
struct Kernels {
    int lanes, conv_channels;
    long (*scan_forward_scratch)(int N);
    long (*scan_backward_scratch)(int N, long group_width);
    long (*conv_backward_scratch)(int K);
    Table<float> of_float;
    Table<bf16> of_half;
    template <class E>
    const Table<E>& of() const;
};
template <>
const Table<float>& Kernels::of<float>() const { return of_float; }
template <>
const Table<bf16>& Kernels::of<bf16>() const { return of_half; }

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
namespace avx512 {
#define LANES 16
#include "kernels.h"
#undef LANES
}
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
namespace avx2 {
#define LANES 8
#include "kernels.h"
#undef LANES
}
#pragma clang attribute pop
#elif defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
namespace avx512 {
#define LANES 16
#include "kernels.h"
#undef LANES
}
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#define LANES 8
#include "kernels.h"
#undef LANES
}
#pragma GCC pop_options
#endif
namespace portable {  // SSE2 on x86-64, NEON on Arm
#define LANES 4
#include "kernels.h"
#undef LANES
}

const Kernels* find_kernels(const char* name) {
#if defined(__x86_64__)
    if (!std::strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl")
                   ? &avx512::kernels
                   : nullptr;
    if (!std::strcmp(name, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2::kernels : nullptr;
#endif
    return std::strcmp(name, "portable") ? nullptr : &portable::kernels;
}

enum { DONE = 0, NO_MEMORY = 1, UNKNOWN_KERNELS = 2 };

long ceil_div(long a, long b) { return (a + b - 1) / b; }

template <class E>
int scan_forward(const Kernels& k, const Team& team, long batches, const ScanForward<E>& arguments) {
    ScanForward<E> s = arguments;
    const long blocks = ceil_div(s.D, k.lanes);
    s.tiles = ceil_div(s.T, TILE);
    s.padded_D = blocks * k.lanes;
    return run_tasks(team, batches * blocks, k.scan_forward_scratch(s.N), s, k.of<E>().scan_forward);
}
template <class E>
int scan_backward(const Kernels& k, const Team& team, const ScanBackward<E>& arguments) {
    ScanBackward<E> s = arguments;
    s.forward.tiles = ceil_div(s.forward.T, TILE);
    s.forward.padded_D = ceil_div(s.forward.D, k.lanes) * k.lanes;
    s.groups = ceil_div(s.forward.D, s.group_width);
    const long scratch = k.scan_backward_scratch(s.forward.N, s.group_width);
    return run_tasks(team, s.batches * s.groups, scratch, s, k.of<E>().scan_backward);
}
template <class E>
int conv_forward(const Kernels& k, const Team& team, long batches, const ConvForward<E>& s) {
    const long tasks = batches * ceil_div(s.shape.D, k.conv_channels) * ceil_div(s.shape.T, TILE);
    return run_tasks(team, tasks, 0, s, k.of<E>().conv_forward);
}
template <class E>
int conv_backward(const Kernels& k, const Team& team, long batches, const ConvBackward<E>& s) {
    const long tasks = batches * ceil_div(s.forward.shape.D, k.conv_channels);
    return run_tasks(team, tasks, k.conv_backward_scratch(s.forward.shape.K), s, k.of<E>().conv_backward);
}
template <class E>
int norm(const Kernels& k, const Team& team, const Norm<E>& s) {
    return run_tasks(team, ceil_div(s.rows, ROWS), 0, s, s.dy ? k.of<E>().norm_backward : k.of<E>().norm_forward);
}
template <class E>
int swiglu(const Kernels& k, const Team& team, const Swiglu<E>& s) {
    return run_tasks(team, ceil_div(s.rows, ROWS), 0, s, s.dy ? k.of<E>().swiglu_backward : k.of<E>().swiglu_forward);
}

// Runs one of the steps with float32 work space on the stack of nobody.
template <class Run>
int with_floats(long floats, const Run& run) {
    [[maybe_unused]] FlushSubnormals guard;
    float* memory = static_cast<float*>(std::aligned_alloc(64, floats * sizeof(float)));
    if (!memory) return NO_MEMORY;
    run(memory);
    std::free(memory);
    return DONE;
}
template <class E>
int mamba_step(const Kernels& k, const Team& team, const MambaStep<E>& s) {
    const long floats = 2 * padded(s.H) + padded(2 * s.D) + 2 * padded(s.D) + 2 * padded(s.R + 2L * s.N);
    return with_floats(floats, [&](float* memory) { k.of<E>().mamba_step(team, s, memory); });
}
template <class E>
int feed_forward_step(const Kernels& k, const Team& team, const FeedForwardStep<E>& s) {
    const long floats = 3 * padded(s.H) + 2 * s.top_k * padded(s.F);
    return with_floats(floats, [&](float* memory) { k.of<E>().feed_forward_step(team, s, memory); });
}

}  // namespace

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Lanes of the named kernels ("avx512", "avx2", "portable"), or 0 when this build or processor lacks them.
EXPORT int spellbound_lanes(const char* name) {
    const Kernels* kernels = find_kernels(name);
    return kernels ? kernels->lanes : 0;
}
EXPORT int spellbound_tile() { return TILE; }
EXPORT int spellbound_rows() { return ROWS; }
EXPORT int spellbound_max_taps() { return MAX_TAPS; }
EXPORT int spellbound_max_experts() { return MAX_EXPERTS; }

// Every entry takes its arguments as the struct above, which Python mirrors; `half` says that E is bfloat16. They return
// DONE, NO_MEMORY or UNKNOWN_KERNELS.
#define ENTRY(function, Arguments, call)                                                                                       \
    EXPORT int spellbound_##function(const char* name, int half, int threads, Runner runner, long batches, const void* data) { \
        const Kernels* k = find_kernels(name);                                                                                 \
        if (!k) return UNKNOWN_KERNELS;                                                                                        \
        const Team team = {threads, runner};                                                                                   \
        (void)batches;                                                                                                         \
        if (half) {                                                                                                            \
            const auto& s = *static_cast<const Arguments<bf16>*>(data);                                                        \
            return call;                                                                                                       \
        }                                                                                                                      \
        const auto& s = *static_cast<const Arguments<float>*>(data);                                                           \
        return call;                                                                                                           \
    }
ENTRY(scan_forward, ScanForward, scan_forward(*k, team, batches, s))
ENTRY(scan_backward, ScanBackward, scan_backward(*k, team, s))
ENTRY(conv_forward, ConvForward, conv_forward(*k, team, batches, s))
ENTRY(conv_backward, ConvBackward, conv_backward(*k, team, batches, s))
ENTRY(norm, Norm, norm(*k, team, s))
ENTRY(swiglu, Swiglu, swiglu(*k, team, s))
ENTRY(mamba_step, MambaStep, mamba_step(*k, team, s))
ENTRY(feed_forward_step, FeedForwardStep, feed_forward_step(*k, team, s))

// y = W x + bias for one row x; W (rows, columns) and bias, which may be null, of type E, x and y float.
EXPORT int spellbound_multiply(const char* name, int half, int threads, Runner runner, long rows, long columns, const void* W,
                               const void* bias, const float* x, float* y) {
    const Kernels* k = find_kernels(name);
    if (!k) return UNKNOWN_KERNELS;
    const Team team = {threads, runner};
    if (half)
        k->of_half.multiply(team, static_cast<const bf16*>(W), static_cast<const bf16*>(bias), rows, columns, x, y);
    else
        k->of_float.multiply(team, static_cast<const float*>(W), static_cast<const float*>(bias), rows, columns, x, y);
    return DONE;
}
