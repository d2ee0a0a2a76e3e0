// The CPU kernels of Jamba, for Python's ctypes: plain C interface, no torch headers.
//
// Each kernel is compiled once per instruction set and chosen at run time. Work is cut so that no sum crosses a cut whose
// place depends on the number of threads: any number of them gives equal bytes. All arithmetic is float32; tensors marked E
// are float or bfloat16, chosen by the argument `half`.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
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
constexpr long KEYS = 128;        // keys of one task of a token's attention: they stay in the cache for all heads that share them
constexpr long ATTENTION_SPACE = 1L << 24;  // floats of work space that attention of many rows takes at once

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
// A low-rank change of a matrix: y += scale B A x. float32 beside weights of any kind; rank 0 where there is none.
struct LowRank {
    const float *A, *B;  // (rank,inputs), (outputs,rank); those of experts lie one behind the other
    long rank;
    float scale;
    LowRank of_expert(long expert, long inputs, long outputs) const {
        return {A + expert * rank * inputs, B + expert * outputs * rank, rank, scale};
    }
};
template <class E>
struct MambaStep {
    const E *norm, *in_proj, *in_bias, *conv_weight, *conv_bias, *x_proj, *dt_norm, *b_norm, *c_norm, *dt_proj, *dt_bias;
    const E *A_log, *skip, *out_proj, *out_bias;
    const E* const* windows;  // of each row (K-1,D)
    const float* const* h;    // of each row (D,N)
    E* next_windows;          // (rows,K-1,D)
    float* next_h;            // (rows,D,N)
    long H, D;
    int N, R, K;
    float eps;
    LowRank in_low, x_low, dt_low, out_low;
};
// Keys and values of some rows in pages of `page` positions, (G,page,P) each: position i of a row lies in page i / page of its
// table, a number of elements behind where the page begins. A page is a multiple of KEYS, or as long as all there is.
template <class E>
struct Pages {
    E *const *const *keys, *const *const *values;  // tables of each row
    const long* lengths;                           // of each row, 1 or more
    long keys_at, values_at, page, head_stride;    // from one head to the next
    E* key(long row, long position) const { return keys[row][position / page] + keys_at; }
    E* value(long row, long position) const { return values[row][position / page] + values_at; }
};
template <class E>
struct AttentionStep {
    const E *norm, *q_proj, *k_proj, *v_proj, *o_proj;
    Pages<E> pages;  // the last position of each row is written, what lies before is filled
    long H, Q, G, P;  // Q query heads, G heads of keys and values
    float eps;
    LowRank q_low, k_low, v_low, o_low;
};
template <class E>
struct AttendRows {
    const E* q;  // (rows,Q,P)
    E* y;        // (rows,Q,P)
    Pages<E> pages;
    long rows, Q, G, P;
};
template <class E>
struct FeedForwardStep {
    const E *norm, *router, *gate, *up, *down;  // router null for a layer without experts
    long H, F, experts, gate_expert;            // gate_expert: from one expert's gate to the next one's
    int top_k;
    float eps;
    LowRank router_low, gate_low, up_low, down_low;  // of experts, gate and up have one A, and their outputs are 2 F
};
template <class E>
struct LayerStep {
    MambaStep<E> mamba;
    AttentionStep<E> attention;
    FeedForwardStep<E> feed_forward;
    long is_attention;
};
template <class E>
struct TokenStep {
    const E *embedding, *norm, *head;  // (V,H), (H), (V,H)
    const LayerStep<E>* layers;
    const long* tokens;  // (rows)
    float* logits;       // (rows,V)
    long rows, count, H, V;
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
struct Crew;
struct Team {
    int threads;
    Runner runner;
    Crew* crew = nullptr;  // threads that wait for small jobs, inside with_crew
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

// Runs `enter` on every thread of the team, this one among them.
void run_threads(void (*enter)(void*), void* data, const Team& team) {
    if (team.threads <= 1) {
        enter(data);
    } else if (team.runner) {
        team.runner(enter, data, static_cast<unsigned>(team.threads), 0);
    } else {
        std::vector<std::thread> others;
        try {
            for (int i = 1; i < team.threads; ++i) others.emplace_back(enter, data);
        } catch (const std::system_error&) {
            // No thread to be had: those that started, and this one, share the work.
        }
        enter(data);
        for (auto& thread : others) thread.join();
    }
}

// Returns 0, or 1 where every thread lacked memory: one without leaves its share to the others.
int run_parallel(Work& work, Team team) {
    team.threads = static_cast<int>(std::min<long>(team.threads, work.tasks));
    run_threads(worker, &work, team);
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

inline void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#else
    std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

// Others may need the core more, the thread that is waited for among them.
inline void wait_a_little(unsigned idle) {
    if (idle % 4096 == 4095) std::this_thread::yield();
    else pause_briefly();
}

// Threads that stay awake over many small jobs, for waking them takes longer than some jobs do. One thread leads, whichever
// comes first; the others help while it has work to share. It waits for the work, never for a thread: helpers that
// come late, or never, are not missed.
struct Crew {
    std::atomic<bool> led{false}, over{false};
    std::atomic<unsigned long long> open{0};  // the job's number and, in the low half, how many of its tasks nobody has taken
    std::atomic<long> done{0};
    // The job; read only by who has taken one of its tasks, and until that task is done there is no other job.
    long tasks = 0;
    const void* body = nullptr;
    void (*run)(const void* body, long task) = nullptr;

    void help() {
        for (unsigned long long seen; (seen = open.load(std::memory_order_acquire)) & 0xffffffffULL;)
            if (open.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel)) {
                run(body, tasks - static_cast<long>(seen & 0xffffffffULL));
                done.fetch_add(1, std::memory_order_release);
            }
    }
    void share(long count, const void* what, void (*how)(const void*, long)) {
        tasks = count;
        body = what;
        run = how;
        done.store(0, std::memory_order_relaxed);
        const unsigned long long number = (open.load(std::memory_order_relaxed) >> 32) + 1;
        open.store(number << 32 | static_cast<unsigned long long>(count), std::memory_order_release);
        help();
        for (unsigned idle = 0; done.load(std::memory_order_acquire) != count; ++idle) wait_a_little(idle);
    }
    void wait_and_help() {
        for (unsigned idle = 0; !over.load(std::memory_order_acquire); ++idle) {
            help();
            wait_a_little(idle);
        }
    }
};

// Runs program(team) on one thread, with the others of the team at hand for parallel().
template <class Program>
void with_crew(const Team& team, const Program& program) {
    struct Call {
        Crew crew;
        Team team;
        const Program& program;
    };
    Call call = {{}, team, program};
    call.team.crew = team.threads > 1 ? &call.crew : nullptr;
    auto enter = [](void* data) {
        Call& c = *static_cast<Call*>(data);
        [[maybe_unused]] FlushSubnormals guard;  // does nothing but on x86-64
        if (c.crew.led.exchange(true)) {
            c.crew.wait_and_help();
        } else {
            c.program(c.team);
            c.crew.over.store(true, std::memory_order_release);
        }
    };
    run_threads(enter, &call, team);
}

// Calls body(task) for every task; alone where sharing would take longer than `numbers` numbers take to read.
constexpr long WORTH_SHARING = 1L << 14;
template <class Body>
void parallel(const Team& team, long tasks, long numbers, const Body& body) {
    if (team.crew && numbers >= WORTH_SHARING && tasks > 1)
        team.crew->share(tasks, &body, [](const void* what, long task) { (*static_cast<const Body*>(what))(task); });
    else
        for (long task = 0; task < tasks; ++task) body(task);
}

// Rows of a matrix in one task, whole vectors of results: a few tasks for each thread, of up to 256 KB, since memory answers
// two long readings faster than many short ones.
inline long block_of_rows(const Team& team, long rows, long row_bytes) {
    const long bytes = std::clamp(rows * row_bytes / (4L * std::max(1, team.threads)), 1L << 15, 1L << 18);
    return std::max(16L, bytes / row_bytes / 16 * 16);
}
inline long padded(long floats) { return (floats + 15) / 16 * 16; }
inline long ceil_div(long a, long b) { return (a + b - 1) / b; }

// Rows of floats, `next` from one to the next.
struct Rows {
    float* first;
    long next;
    float* operator[](long row) const { return first + row * next; }
};

// Work space of one call, taken piece by piece. Without memory it only counts, so what needs how much is said once.
struct Space {
    float* memory;
    long taken = 0;
    float* floats(long count) {
        float* piece = memory ? memory + taken : nullptr;
        taken += padded(count);
        return piece;
    }
    int* ints(long count) {
        static_assert(sizeof(int) <= sizeof(float), "an int fits where a float does");
        return reinterpret_cast<int*>(floats(count));
    }
    Rows rows(long count, long size) { return {floats(count * padded(size)), padded(size)}; }
};

inline long widest(std::initializer_list<LowRank> changes) {
    long rank = 0;
    for (const LowRank& each : changes) rank = std::max(rank, each.rank);
    return rank;
}

// `low` is of one low-rank change after the other.
template <class E>
struct MambaSpace {
    Rows normal, xz, conv, mixed, projected, maps, out, low;
    MambaSpace(Space& space, const MambaStep<E>& s, long rows)
        : normal(space.rows(rows, s.H)), xz(space.rows(rows, 2 * s.D)), conv(space.rows(rows, s.D)), mixed(space.rows(rows, s.D)),
          projected(space.rows(rows, s.R + 2L * s.N)), maps(space.rows(rows, s.R + 2L * s.N)), out(space.rows(rows, s.H)),
          low(space.rows(rows, widest({s.in_low, s.x_low, s.dt_low, s.out_low}))) {}
};

// Of attention to blocks of KEYS keys: as many rows are taken at a time as their blocks find room here.
struct BlockSpace {
    long most = 1;  // blocks
    float *parts, *scores;
    template <class E>
    BlockSpace(Space& space, const Pages<E>& pages, long rows, long Q, long P) {
        long longest = 1, all = 0;
        for (long row = 0; row < rows; ++row) {
            longest = std::max(longest, ceil_div(pages.lengths[row], KEYS));
            all += ceil_div(pages.lengths[row], KEYS);
        }
        most = std::min(all, std::max(longest, ATTENTION_SPACE / (Q * (P + 2 + KEYS))));
        parts = space.floats(Q * most * (P + 2));
        scores = space.floats(Q * most * KEYS);
    }
};
template <class E>
struct AttentionSpace {
    Rows normal, q, k, v, out, low;
    BlockSpace blocks;
    AttentionSpace(Space& space, const AttentionStep<E>& s, long rows)
        : normal(space.rows(rows, s.H)), q(space.rows(rows, s.Q * s.P)), k(space.rows(rows, s.G * s.P)),
          v(space.rows(rows, s.G * s.P)), out(space.rows(rows, s.H)),
          low(space.rows(rows, widest({s.q_low, s.k_low, s.v_low, s.o_low}))), blocks(space, s.pages, rows, s.Q, s.P) {}
};
template <class E>
struct AttendRowsSpace {
    Rows q;
    BlockSpace blocks;
    AttendRowsSpace(Space& space, const AttendRows<E>& s)
        : q(space.rows(s.rows, s.Q * s.P)), blocks(space, s.pages, s.rows, s.Q, s.P) {}
};

// Of a feed-forward layer. A pair is a row and one of its experts; pairs of one expert lie side by side, a group.
template <class E>
struct FeedForwardSpace {
    Rows normal, logits, low, input, inner, up, output;  // the last four of each pair
    Rows gate_low, up_low, down_low;                     // of each pair
    float *shares, *weights;                        // of each row's experts, best first, and of each pair
    int *chosen, *places;                           // of each row's experts, best first: which, and which pair
    int *experts, *begins;                          // of each group: its expert, its first pair
    FeedForwardSpace(Space& space, const FeedForwardStep<E>& s, long rows)
        : normal(space.rows(rows, s.H)), logits(space.rows(rows, s.experts)),
          low(space.rows(rows, s.router_low.rank)), input(space.rows(rows * s.top_k, s.H)),
          inner(space.rows(rows * s.top_k, s.F)), up(space.rows(rows * s.top_k, s.F)), output(space.rows(rows * s.top_k, s.H)),
          gate_low(space.rows(rows * s.top_k, s.gate_low.rank)), up_low(space.rows(rows * s.top_k, s.up_low.rank)),
          down_low(space.rows(rows * s.top_k, s.down_low.rank)), shares(space.floats(rows * s.top_k)),
          weights(space.floats(rows * s.top_k)), chosen(space.ints(rows * s.top_k)), places(space.ints(rows * s.top_k)), experts(space.ints(s.experts + 1)), begins(space.ints(s.experts + 2)) {}
};
template <class E>
struct TokenSpace {
    Rows x, normal;
    Space rest;  // of each half of a layer in turn
    TokenSpace(Space& space, const TokenStep<E>& s) : x(space.rows(s.rows, s.H)), normal(space.rows(s.rows, s.H)), rest(space) {
        for (long i = 0; i < s.count; ++i) {
            Space mixer = rest, feed_forward = rest;
            if (s.layers[i].is_attention) AttentionSpace<E>(mixer, s.layers[i].attention, s.rows);
            else MambaSpace<E>(mixer, s.layers[i].mamba, s.rows);
            FeedForwardSpace<E>(feed_forward, s.layers[i].feed_forward, s.rows);
            space.taken = std::max({space.taken, mixer.taken, feed_forward.taken});
        }
    }
};

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
    void (*token_step)(const Team&, const TokenStep<E>&, float*);
    void (*attend_rows)(const Team&, const AttendRows<E>&, float*);
    void (*multiply_row)(const Team&, const E* W, const E* bias, long rows, long columns, const float* x, float* y);
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

// Runs `step` on one thread of a crew with the work space that `Layout` takes.
template <class Layout, class Arguments>
int run_step(const Team& team, const Arguments& arguments, void (*step)(const Team&, const Arguments&, float*)) {
    Space counted{nullptr};
    Layout(counted, arguments);
    float* memory = static_cast<float*>(std::aligned_alloc(64, counted.taken * sizeof(float)));
    if (!memory) return NO_MEMORY;
    with_crew(team, [&](const Team& crew) { step(crew, arguments, memory); });
    std::free(memory);
    return DONE;
}
template <class E>
int attend_rows(const Kernels& k, const Team& team, const AttendRows<E>& s) {
    return run_step<AttendRowsSpace<E>>(team, s, k.of<E>().attend_rows);
}
template <class E>
int token_step(const Kernels& k, const Team& team, const TokenStep<E>& s) {
    return run_step<TokenSpace<E>>(team, s, k.of<E>().token_step);
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
EXPORT int spellbound_keys() { return KEYS; }
EXPORT int spellbound_max_taps() { return MAX_TAPS; }

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
ENTRY(token_step, TokenStep, token_step(*k, team, s))
ENTRY(attend_rows, AttendRows, attend_rows(*k, team, s))

// y = W x + bias for one row x; W (rows, columns) and bias, which may be null, of type E, x and y float.
EXPORT int spellbound_multiply(const char* name, int half, int threads, Runner runner, long rows, long columns, const void* W,
                               const void* bias, const float* x, float* y) {
    const Kernels* k = find_kernels(name);
    if (!k) return UNKNOWN_KERNELS;
    const Team team = {threads, runner};
    with_crew(team, [&](const Team& crew) {
        if (half)
            k->of_half.multiply_row(crew, static_cast<const bf16*>(W), static_cast<const bf16*>(bias), rows, columns, x, y);
        else
            k->of_float.multiply_row(crew, static_cast<const float*>(W), static_cast<const float*>(bias), rows, columns, x, y);
    });
    return DONE;
}
