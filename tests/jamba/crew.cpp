// Many small jobs shared by a crew of threads, for ThreadSanitizer: every task of every job runs once, and nothing races.
#include "kernels.cpp"

#include <cstdio>

int main() {
    const Team team = {4, nullptr};
    long wrong = 0;
    for (int round = 0; round < 20; ++round)
        with_crew(team, [&](const Team& crew) {
            for (long job = 1; job <= 200; ++job) {
                std::vector<long> ran(job % 37 + 1);  // written without a lock: one task each
                parallel(crew, static_cast<long>(ran.size()), WORTH_SHARING, [&](long task) { ran[task] += job; });
                for (long count : ran) wrong += count != job;
            }
        });
    std::printf("%ld wrong\n", wrong);
    return wrong != 0;
}
